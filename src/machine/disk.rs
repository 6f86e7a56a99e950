//! The machine's disks as the kernel shows them: which one was started from, which others there are,
//! and the one step that changes a partition table. PID 1 calls this as root.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::gpt::{GptError, Growth, SECTOR_BYTES, Table};
use super::guid::Guid;
use super::kernel_call;
use super::read_at::{Device, ReadAt};

/// A disk counts as blank when this much at each end is zero.
const BLANK_BYTES: u64 = 16 << 20;
/// Kinds of block devices that are no disks of the machine.
const VIRTUAL: [&str; 8] = ["loop", "ram", "zram", "dm-", "md", "nbd", "fd", "sr"];

/// A block device by the kernel's name, such as `vda`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Disk {
    name: String,
}

impl Disk {
    /// The kernel's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its device file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        device_file(&self.name)
    }

    /// The device file of its partition `number`, once the kernel knows it.
    #[must_use]
    pub fn partition_path(&self, number: u32) -> Option<PathBuf> {
        let folder = Path::new("/sys/class/block").join(&self.name);
        partition_names(&folder)
            .into_iter()
            .find(|(_, found)| *found == number)
            .map(|(name, _)| device_file(&name))
    }

    /// Reads its partition table.
    pub fn table(&self) -> Result<Table, GptError> {
        let device = File::open(self.path()).and_then(Device::new);
        Table::read(&device.map_err(GptError::Io)?)
    }

    /// Spreads the table and the data partition over the whole disk and tells the kernel. `None`:
    /// there was nothing to do.
    pub fn grow(&self) -> Result<Option<Growth>, GptError> {
        let open = || OpenOptions::new().read(true).write(true).open(self.path());
        let device = Device::new(open().map_err(GptError::Io)?).map_err(GptError::Io)?;
        let Some(growth) = Table::read(&device)?.grow(device.size() / SECTOR_BYTES)? else {
            return Ok(None);
        };
        let file = open().map_err(GptError::Io)?;
        write(&file, &growth).map_err(GptError::Io)?;
        if growth.gained_bytes > 0 {
            let (start, size) = (growth.data.offset_bytes(), growth.data.size_bytes());
            kernel_call::resize_partition(&file, growth.data.number, start, size)
                .map_err(GptError::Io)?;
        }
        Ok(Some(growth))
    }
}

/// Every disk of the machine, by name; no loop devices, device mappers or CD drives.
#[must_use]
pub fn disks() -> Vec<Disk> {
    disks_below(Path::new("/sys/block"))
}

/// The disk whose table names any of these partitions (the PARTUUIDs of the slot that was started),
/// and its table.
#[must_use]
pub fn system_disk(partitions: &[Guid]) -> Option<(Disk, Table)> {
    disks().into_iter().find_map(|disk| {
        let table = disk.table().ok()?;
        let is_ours = partitions
            .iter()
            .any(|unique| table.partition(*unique).is_some());
        is_ours.then_some((disk, table))
    })
}

/// The disks that may hold the data instead of the system disk.
#[must_use]
pub fn other_disks(system: &Disk) -> Vec<Disk> {
    disks().into_iter().filter(|disk| disk != system).collect()
}

/// The device files that may hold a volume with configuration: whole disks, CD drives and partitions,
/// but nothing of the system disk.
#[must_use]
pub fn volume_files(system: Option<&Disk>) -> Vec<PathBuf> {
    volume_names(Path::new("/sys/block"), system.map(Disk::name))
        .iter()
        .map(|name| device_file(name))
        .collect()
}

/// Whether the first and the last 16 MiB are zero. A device of no size is not blank but absent.
pub fn is_blank<D: ReadAt + ?Sized>(device: &D) -> io::Result<bool> {
    let size = device.size();
    if size == 0 {
        return Ok(false);
    }
    let head = 0..size.min(BLANK_BYTES);
    let tail = size.saturating_sub(BLANK_BYTES).max(head.end)..size;
    let mut buffer = vec![0; 1 << 20];
    for range in [head, tail] {
        let mut at = range.start;
        while at < range.end {
            let length = (range.end - at).min(buffer.len() as u64) as usize;
            device.read_at(at, &mut buffer[..length])?;
            if buffer[..length].iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at += length as u64;
        }
    }
    Ok(true)
}

/// Makes each write durable in front of the next.
fn write(file: &File, growth: &Growth) -> io::Result<()> {
    for write in &growth.writes {
        file.write_all_at(&write.bytes, write.offset)?;
        file.sync_data()?;
    }
    Ok(())
}

fn disks_below(folder: &Path) -> Vec<Disk> {
    let names = names_in(folder).into_iter();
    names
        .filter(|name| !VIRTUAL.iter().any(|kind| name.starts_with(kind)))
        .map(|name| Disk { name })
        .collect()
}

fn volume_names(folder: &Path, system: Option<&str>) -> Vec<String> {
    let mut names = Vec::new();
    for name in names_in(folder) {
        let is_drive = name.starts_with("sr");
        let is_virtual = VIRTUAL.iter().any(|kind| name.starts_with(kind));
        if Some(name.as_str()) == system || (is_virtual && !is_drive) {
            continue;
        }
        let parts = partition_names(&folder.join(&name));
        names.push(name);
        names.extend(parts.into_iter().map(|(part, _)| part));
    }
    names
}

/// The names and numbers of a disk's partitions.
fn partition_names(folder: &Path) -> Vec<(String, u32)> {
    let numbered = |name: String| {
        let number = fs::read_to_string(folder.join(&name).join("partition")).ok()?;
        Some((name, number.trim().parse().ok()?))
    };
    names_in(folder).into_iter().filter_map(numbered).collect()
}

fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// The kernel writes `!` for the `/` of names such as `cciss/c0d0`.
fn device_file(name: &str) -> PathBuf {
    Path::new("/dev").join(name.replace('!', "/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of /sys/block.
    fn sysfs() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, number) in [
            ("vda/vda1", Some(1)),
            ("vda/vda8", Some(8)),
            ("vdb/queue", None),
            ("sr0", None),
            ("loop0", None),
            ("dm-0", None),
        ] {
            let path = folder.path().join(name);
            fs::create_dir_all(&path).expect("a folder");
            if let Some(number) = number {
                fs::write(path.join("partition"), format!("{number}\n")).expect("a file");
            }
        }
        folder
    }

    #[test]
    fn disks_are_told_from_other_block_devices() {
        let sysfs = sysfs();
        let names: Vec<_> = disks_below(sysfs.path())
            .into_iter()
            .map(|disk| disk.name)
            .collect();
        assert_eq!(names, ["vda", "vdb"]);
        assert_eq!(
            partition_names(&sysfs.path().join("vda")),
            [("vda1".to_owned(), 1), ("vda8".to_owned(), 8)]
        );
    }

    #[test]
    fn volumes_are_anywhere_but_on_the_system_disk() {
        let sysfs = sysfs();
        assert_eq!(volume_names(sysfs.path(), Some("vda")), ["sr0", "vdb"]);
        assert_eq!(
            volume_names(sysfs.path(), None),
            ["sr0", "vda", "vda1", "vda8", "vdb"]
        );
    }

    #[test]
    fn one_byte_at_either_end_is_not_blank() {
        let size = 40 << 20;
        let mut bytes = vec![0; size];
        bytes[20 << 20] = 1;
        assert!(
            is_blank(&bytes[..]).expect("readable"),
            "the middle is not looked at"
        );
        for place in [0, (16 << 20) - 1, size - (16 << 20), size - 1] {
            bytes[place] = 1;
            assert!(!is_blank(&bytes[..]).expect("readable"), "{place}");
            bytes[place] = 0;
        }
        assert!(is_blank(&bytes[..100]).expect("readable"));
        assert!(!is_blank(&[][..]).expect("readable"), "there is nothing");
    }

    #[test]
    fn what_was_planned_is_what_is_written() {
        let growth = Growth {
            writes: vec![
                super::super::gpt::Write {
                    offset: 600,
                    bytes: vec![7; 3],
                },
                super::super::gpt::Write {
                    offset: 0,
                    bytes: vec![9],
                },
            ],
            data: super::super::gpt::Partition {
                number: 1,
                kind: Guid([0; 16]),
                unique: Guid([0; 16]),
                first: 0,
                last: 0,
            },
            gained_bytes: 0,
        };
        let file = tempfile::NamedTempFile::new().expect("a file");
        write(file.as_file(), &growth).expect("written");
        let bytes = fs::read(file.path()).expect("readable");
        assert_eq!((bytes[0], &bytes[600..]), (9, &[7, 7, 7][..]));
    }
}
