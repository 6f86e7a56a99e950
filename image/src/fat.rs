//! Small FAT file systems with a few files, the same bytes every time.

use std::io::{Cursor, Read, Write};

use fatfs::{
    Date, DateTime, FatType, FileSystem, FormatVolumeOptions, FsOptions, Time, TimeProvider,
};

/// The time of all files: nothing in the image depends on when it was made.
#[derive(Clone, Copy, Debug)]
struct NoTime;

impl TimeProvider for NoTime {
    fn get_current_date(&self) -> Date {
        Date {
            year: 1980,
            month: 1,
            day: 1,
        }
    }

    fn get_current_date_time(&self) -> DateTime {
        DateTime {
            date: self.get_current_date(),
            time: Time {
                hour: 0,
                min: 0,
                sec: 0,
                millis: 0,
            },
        }
    }
}

/// What a file system is to be.
#[derive(Clone, Copy, Debug)]
pub struct Volume {
    /// Its size.
    pub bytes: u64,
    /// FAT12 or FAT16.
    pub kind: FatType,
    /// Bytes of a cluster.
    pub cluster: u32,
    /// Its serial number.
    pub serial: u32,
    /// Its name, 11 characters.
    pub label: [u8; 11],
    /// Sector on the disk where it starts, which its boot sector repeats.
    pub start_sector: u32,
}

type Fs<'a> = FileSystem<Cursor<&'a mut Vec<u8>>>;

/// A file system with these files, which are written one behind the other. Folders in their paths
/// are made.
pub fn make(volume: &Volume, files: &[(&str, &[u8])]) -> Result<Vec<u8>, String> {
    let told = |error: std::io::Error| format!("cannot make a FAT file system: {error}");
    let mut bytes = vec![0; usize::try_from(volume.bytes).map_err(|error| error.to_string())?];
    let options = FormatVolumeOptions::new()
        .fat_type(volume.kind)
        .bytes_per_cluster(volume.cluster)
        .volume_id(volume.serial)
        .volume_label(volume.label)
        .max_root_dir_entries(128);
    fatfs::format_volume(Cursor::new(&mut bytes), options).map_err(told)?;
    // "Hidden sectors" of the boot sector.
    bytes[0x1c..0x20].copy_from_slice(&volume.start_sector.to_le_bytes());
    put(&mut bytes, files)?;
    Ok(bytes)
}

/// Adds files to a file system, or replaces them.
pub fn put(bytes: &mut Vec<u8>, files: &[(&str, &[u8])]) -> Result<(), String> {
    let told = |error: std::io::Error| format!("cannot write to a FAT file system: {error}");
    let fs = open(bytes).map_err(told)?;
    for (path, content) in files {
        let mut folder = fs.root_dir();
        let mut parts = path.split('/').peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_some() {
                folder = folder.create_dir(part).map_err(told)?;
                continue;
            }
            let mut file = folder.create_file(part).map_err(told)?;
            file.truncate().map_err(told)?;
            file.write_all(content).map_err(told)?;
            file.flush().map_err(told)?;
        }
    }
    fs.unmount().map_err(told)
}

/// A file's bytes; `None` when there is none.
pub fn get(bytes: &mut Vec<u8>, path: &str) -> Option<Vec<u8>> {
    // In a damaged one a file may be said to be longer than all of it.
    let most = bytes.len() as u64;
    let fs = open(bytes).ok()?;
    let mut content = Vec::new();
    let file = fs.root_dir().open_file(path).ok()?;
    file.take(most).read_to_end(&mut content).ok()?;
    Some(content)
}

fn open(bytes: &mut Vec<u8>) -> std::io::Result<Fs<'_>> {
    let options = FsOptions::new()
        .time_provider(&NoTime)
        .update_accessed_date(false);
    FileSystem::new(Cursor::new(bytes), options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_where_they_were_put_and_the_bytes_are_the_same_every_time() {
        let volume = Volume {
            bytes: 4 << 20,
            kind: FatType::Fat16,
            cluster: 512,
            serial: 7,
            label: *b"TEST       ",
            start_sector: 2048,
        };
        let files: [(&str, &[u8]); 2] = [("EFI/BOOT/BOOTX64.EFI", b"loader"), ("env", b"slot=a")];
        let mut made = make(&volume, &files).expect("it is made");
        assert_eq!(made, make(&volume, &files).expect("and again"));
        assert_eq!(
            get(&mut made, "EFI/BOOT/BOOTX64.EFI").as_deref(),
            Some(&b"loader"[..])
        );
        put(&mut made, &[("env", b"b")]).expect("it is replaced");
        assert_eq!(get(&mut made, "env").as_deref(), Some(&b"b"[..]));
        assert_eq!(get(&mut made, "none"), None);
    }
}
