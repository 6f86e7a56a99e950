//! Reading files from FAT12, FAT16 and FAT32 with long names (Microsoft's "FAT: General Overview of
//! On-Disk Format" 1.03). Only reading, and with a bound on every loop: a chain of clusters ends at
//! the length that it may have, whether it runs in a circle or not.

use std::io;

use super::volume::{broken, too_long};
use crate::machine::read_at::ReadAt;

#[cfg(test)]
mod tests;

/// No folder of a volume with configuration is longer: 4096 entries.
const FOLDER_BYTES_MAX: usize = 128 << 10;
const ENTRY_BYTES: usize = 32;
const ATTRIBUTE_VOLUME: u8 = 0x08;
const ATTRIBUTE_FOLDER: u8 = 0x10;
const ATTRIBUTE_LONG_NAME: u8 = 0x0f;
const LAST_LONG_NAME: u8 = 0x40;
const UNUSED: u8 = 0xe5;

/// A volume.
#[derive(Debug)]
pub struct Fat<'d, D: ReadAt + ?Sized> {
    device: &'d D,
    kind: Kind,
    cluster_bytes: u64,
    /// Where the first table begins.
    table: u64,
    /// The fixed root folder of FAT12 and FAT16.
    root: u64,
    root_bytes: usize,
    /// Where cluster 2 begins, and the number of the last cluster.
    clusters: u64,
    cluster_last: u32,
    /// The root folder of FAT32.
    root_cluster: u32,
    label: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Fat12,
    Fat16,
    Fat32,
}

/// A file or folder in a folder.
struct Entry {
    name: String,
    short: String,
    is_folder: bool,
    cluster: u32,
    size: u32,
}

impl<'d, D: ReadAt + ?Sized> Fat<'d, D> {
    /// Reads the boot sector; `None` where it is not one of FAT.
    pub fn open(device: &'d D) -> Option<Fat<'d, D>> {
        let mut boot = [0; 512];
        device.read_at(0, &mut boot).ok()?;
        let sector = u64::from(u16_at(&boot, 11));
        let per_cluster = u64::from(boot[13]);
        let reserved = u64::from(u16_at(&boot, 14));
        let tables = u64::from(boot[16]);
        let root_bytes = usize::from(u16_at(&boot, 17)) * ENTRY_BYTES;
        let either = |short: u64, long: u64| if short == 0 { long } else { short };
        let sectors = either(u16_at(&boot, 19).into(), u32_at(&boot, 32).into());
        let table_sectors = either(u16_at(&boot, 22).into(), u32_at(&boot, 36).into());
        let is_boot = boot[510..] == [0x55, 0xaa]
            && matches!(sector, 512 | 1024 | 2048 | 4096)
            && per_cluster.is_power_of_two()
            && reserved > 0
            && (1..=2).contains(&tables)
            && table_sectors > 0;
        if !is_boot {
            return None;
        }
        let root = (reserved + tables * table_sectors) * sector;
        let clusters = root + (root_bytes as u64).next_multiple_of(sector);
        let cluster_bytes = per_cluster * sector;
        let count = (sectors * sector).checked_sub(clusters)? / cluster_bytes;
        // As Linux tells them apart: some tools make FAT32 of fewer clusters than the paper asks for.
        let kind = match (u16_at(&boot, 22), count) {
            (_, 0) => return None,
            (0, _) => Kind::Fat32,
            (_, 1..4085) => Kind::Fat12,
            _ => Kind::Fat16,
        };
        if (kind == Kind::Fat32) != (root_bytes == 0) {
            return None;
        }
        let mut fat = Fat {
            device,
            kind,
            cluster_bytes,
            table: reserved * sector,
            root,
            root_bytes,
            clusters,
            cluster_last: u32::try_from(count + 1)
                .ok()
                .filter(|last| *last < 0x0fff_fff7)?,
            root_cluster: u32_at(&boot, 44),
            label: String::new(),
        };
        fat.label = fat.find_label(&boot);
        Some(fat)
    }

    /// The volume's name.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// See [`Volume::read`](super::volume::Volume::read).
    pub fn read(&self, path: &[&str], bytes_max: usize) -> Result<Option<Vec<u8>>, String> {
        let Some((name, folders)) = path.split_last() else {
            return Ok(None);
        };
        let mut folder = self.root_folder().map_err(|error| broken(&error))?;
        for wanted in folders {
            let entry = find(&folder, wanted);
            let Some(entry) = entry.filter(|entry| entry.is_folder) else {
                return Ok(None);
            };
            folder = self
                .chain(entry.cluster, FOLDER_BYTES_MAX)
                .map_err(|error| broken(&error))?;
        }
        let Some(entry) = find(&folder, name).filter(|entry| !entry.is_folder) else {
            return Ok(None);
        };
        let size = entry.size as usize;
        if size > bytes_max {
            return Err(too_long(bytes_max));
        }
        if size == 0 {
            return Ok(Some(Vec::new()));
        }
        let mut bytes = self
            .chain(entry.cluster, size)
            .map_err(|error| broken(&error))?;
        if bytes.len() < size {
            return Err("its clusters end too early".to_owned());
        }
        bytes.truncate(size);
        Ok(Some(bytes))
    }

    fn root_folder(&self) -> io::Result<Vec<u8>> {
        if self.kind == Kind::Fat32 {
            return self.chain(self.root_cluster, FOLDER_BYTES_MAX);
        }
        let mut folder = vec![0; self.root_bytes.min(FOLDER_BYTES_MAX)];
        self.device.read_at(self.root, &mut folder)?;
        Ok(folder)
    }

    /// The bytes of a chain of clusters, until its end or until there are `bytes_max` of them.
    fn chain(&self, first: u32, bytes_max: usize) -> io::Result<Vec<u8>> {
        let (mut bytes, mut cluster) = (Vec::new(), first);
        while (2..=self.cluster_last).contains(&cluster) && bytes.len() < bytes_max {
            let length = (bytes_max - bytes.len()).min(self.cluster_bytes as usize);
            let start = bytes.len();
            bytes.resize(start + length, 0);
            let place = self.clusters + u64::from(cluster - 2) * self.cluster_bytes;
            self.device.read_at(place, &mut bytes[start..])?;
            cluster = self.next(cluster)?;
        }
        Ok(bytes)
    }

    /// The cluster behind another; one that does not exist at the end of the chain.
    fn next(&self, cluster: u32) -> io::Result<u32> {
        let at = u64::from(cluster);
        let mut two = [0; 2];
        match self.kind {
            Kind::Fat12 => {
                self.device.read_at(self.table + at + at / 2, &mut two)?;
                let pair = u32::from(u16::from_le_bytes(two));
                Ok(if cluster.is_multiple_of(2) {
                    pair & 0xfff
                } else {
                    pair >> 4
                })
            }
            Kind::Fat16 => {
                self.device.read_at(self.table + 2 * at, &mut two)?;
                Ok(u16::from_le_bytes(two).into())
            }
            Kind::Fat32 => {
                let mut four = [0; 4];
                self.device.read_at(self.table + 4 * at, &mut four)?;
                Ok(u32::from_le_bytes(four) & 0x0fff_ffff)
            }
        }
    }

    /// The entry for it in the root folder, else the field in the boot sector.
    fn find_label(&self, boot: &[u8; 512]) -> String {
        let folder = self.root_folder().unwrap_or_default();
        let own = folder
            .chunks_exact(ENTRY_BYTES)
            .take_while(|entry| entry[0] != 0)
            .find(|entry| entry[0] != UNUSED && entry[11] & 0x3f == ATTRIBUTE_VOLUME);
        let field = match self.kind {
            Kind::Fat12 | Kind::Fat16 => 43..54,
            Kind::Fat32 => 71..82,
        };
        let label = own.map_or(&boot[field], |entry| &entry[..11]);
        String::from_utf8_lossy(label)
            .trim_end_matches([' ', '\0'])
            .to_owned()
    }
}

/// The entry of that name, long or short, in either case.
fn find(folder: &[u8], wanted: &str) -> Option<Entry> {
    let mut long = LongName::default();
    for bytes in folder.chunks_exact(ENTRY_BYTES) {
        if bytes[0] == 0 {
            break;
        }
        if bytes[0] == UNUSED {
            long = LongName::default();
        } else if bytes[11] & 0x3f == ATTRIBUTE_LONG_NAME {
            long.add(bytes);
        } else {
            let name = std::mem::take(&mut long).finish(bytes);
            if bytes[11] & ATTRIBUTE_VOLUME != 0 {
                continue;
            }
            let entry = Entry::of(bytes, name);
            let is_it = |name: &str| name.eq_ignore_ascii_case(wanted);
            if is_it(&entry.name) || is_it(&entry.short) {
                return Some(entry);
            }
        }
    }
    None
}

impl Entry {
    fn of(bytes: &[u8], name: String) -> Entry {
        let word = |range: std::ops::Range<usize>| {
            let text = String::from_utf8_lossy(&bytes[range]);
            text.trim_end_matches(' ').to_owned()
        };
        let (base, extension) = (word(0..8), word(8..11));
        let short = if extension.is_empty() {
            base
        } else {
            format!("{base}.{extension}")
        };
        let (high, low) = (u16_at(bytes, 20), u16_at(bytes, 26));
        Entry {
            name,
            short,
            is_folder: bytes[11] & ATTRIBUTE_FOLDER != 0,
            cluster: u32::from(high) << 16 | u32::from(low),
            size: u32_at(bytes, 28),
        }
    }
}

/// A long name stands in entries in front of its short one, its last part first.
#[derive(Default)]
struct LongName {
    units: Vec<u16>,
    /// The number of the part that comes next, and the sum that all parts carry of the short name.
    next: u8,
    checksum: u8,
}

impl LongName {
    fn add(&mut self, bytes: &[u8]) {
        let number = bytes[0] & !LAST_LONG_NAME;
        if bytes[0] & LAST_LONG_NAME != 0 {
            *self = LongName {
                units: Vec::new(),
                next: number,
                checksum: bytes[13],
            };
        }
        // 20 parts hold the 255 characters that a name may have.
        if number == 0 || number > 20 || number != self.next || bytes[13] != self.checksum {
            *self = LongName::default();
            return;
        }
        let places = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
        let part = places.map(|place| u16_at(bytes, place));
        self.units.splice(0..0, part);
        self.next = number - 1;
    }

    /// The name, if all its parts were there and belong to this short entry; else nothing.
    fn finish(self, short: &[u8]) -> String {
        let sum = short[..11]
            .iter()
            .fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
        if self.next != 0 || self.units.is_empty() || sum != self.checksum {
            return String::new();
        }
        let end = self.units.iter().position(|unit| *unit == 0);
        String::from_utf16(&self.units[..end.unwrap_or(self.units.len())]).unwrap_or_default()
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}
