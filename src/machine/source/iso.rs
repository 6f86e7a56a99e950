//! Reading files from ISO 9660 (ECMA-119) by their Rock Ridge names (IEEE P1282), else their Joliet
//! names, else the plain ones. Only reading, with a bound on every loop.

use std::io;

use super::volume::{broken, too_long};
use crate::machine::read_at::ReadAt;

#[cfg(test)]
mod tests;

const SECTOR: usize = 2048;
const DESCRIPTORS: std::ops::Range<u64> = 16..32;
const FOLDER_BYTES_MAX: usize = 256 << 10;
const CONTINUATIONS_MAX: usize = 4;
const FLAG_FOLDER: u8 = 0x02;
const FLAG_MORE_EXTENTS: u8 = 0x80;
/// The escape sequences that mark a supplementary descriptor as Joliet.
const JOLIET: [&[u8; 3]; 3] = [b"%/@", b"%/C", b"%/E"];

/// A volume.
#[derive(Debug)]
pub struct Iso<'d, D: ReadAt + ?Sized> {
    device: &'d D,
    label: String,
    /// The primary tree, then that of Joliet if there is one.
    trees: Vec<Tree>,
}

#[derive(Clone, Copy, Debug)]
struct Tree {
    root: Extent,
    is_joliet: bool,
    /// Bytes of a system use area in front of Rock Ridge's.
    skipped: usize,
}

/// Where a file's bytes are.
#[derive(Clone, Copy, Debug)]
struct Extent {
    block: u32,
    size: u32,
}

/// A file or folder in a folder.
struct Entry<'f> {
    extent: Extent,
    flags: u8,
    identifier: &'f [u8],
    system_use: &'f [u8],
}

impl<'d, D: ReadAt + ?Sized> Iso<'d, D> {
    /// Reads the descriptors; `None` where there is no primary one.
    pub fn open(device: &'d D) -> Option<Iso<'d, D>> {
        let (mut primary, mut joliet) = (None, None);
        for number in DESCRIPTORS {
            let mut sector = [0; SECTOR];
            let read = device.read_at(number * SECTOR as u64, &mut sector);
            if read.is_err() || sector[1..6] != *b"CD001" {
                break;
            }
            match sector[0] {
                1 if primary.is_none() => primary = Some(sector),
                2 if JOLIET.iter().any(|escape| sector[88..91] == **escape) => {
                    joliet = Some(sector);
                }
                255 => break,
                _ => {}
            }
        }
        let primary = primary?;
        let mut iso = Iso {
            device,
            label: String::from_utf8_lossy(&primary[40..72])
                .trim_end_matches([' ', '\0'])
                .to_owned(),
            trees: Vec::new(),
        };
        iso.trees.extend(iso.tree(&primary, false));
        iso.trees
            .extend(joliet.and_then(|joliet| iso.tree(&joliet, true)));
        Some(iso)
    }

    /// The volume's name.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// See [`Volume::read`](super::volume::Volume::read).
    pub fn read(&self, path: &[&str], bytes_max: usize) -> Result<Option<Vec<u8>>, String> {
        let mut outcome = Ok(None);
        for tree in &self.trees {
            match self.read_in(tree, path, bytes_max) {
                Ok(None) => {}
                Ok(found) => return Ok(found),
                error => outcome = error,
            }
        }
        outcome
    }

    fn read_in(
        &self,
        tree: &Tree,
        path: &[&str],
        bytes_max: usize,
    ) -> Result<Option<Vec<u8>>, String> {
        let Some((name, folders)) = path.split_last() else {
            return Ok(None);
        };
        let mut extent = tree.root;
        for wanted in folders {
            match self.find(tree, extent, wanted)? {
                Some((inner, flags)) if flags & FLAG_FOLDER != 0 => extent = inner,
                _ => return Ok(None),
            }
        }
        let Some((extent, flags)) = self.find(tree, extent, name)? else {
            return Ok(None);
        };
        if flags & FLAG_FOLDER != 0 {
            return Ok(None);
        }
        if extent.size as usize > bytes_max || flags & FLAG_MORE_EXTENTS != 0 {
            return Err(too_long(bytes_max));
        }
        self.bytes(extent).map(Some).map_err(|error| broken(&error))
    }

    /// The root folder that a descriptor names, and what its first entry says about Rock Ridge.
    fn tree(&self, descriptor: &[u8; SECTOR], is_joliet: bool) -> Option<Tree> {
        // Blocks of another size exist in the standard and nowhere else.
        if u16_at(descriptor, 128) as usize != SECTOR {
            return None;
        }
        let root = Entry::parse(&descriptor[156..190])?.extent;
        let start = Extent {
            size: root.size.min(SECTOR as u32),
            ..root
        };
        let bytes = self.bytes(start).ok()?;
        let own = Entry::parse(&bytes);
        // SUSP's SP entry (IEEE P1281 §5.3) is the first of the root's own entry.
        let skipped = match own.map(|own| own.system_use) {
            Some([b'S', b'P', 7, 1, 0xbe, 0xef, skipped, ..]) => usize::from(*skipped),
            _ => 0,
        };
        Some(Tree {
            root,
            is_joliet,
            skipped,
        })
    }

    /// Looks a name up in a folder, in either case.
    fn find(
        &self,
        tree: &Tree,
        folder: Extent,
        wanted: &str,
    ) -> Result<Option<(Extent, u8)>, String> {
        if folder.size as usize > FOLDER_BYTES_MAX {
            return Err("a folder is too large".to_owned());
        }
        let bytes = self.bytes(folder).map_err(|error| broken(&error))?;
        for sector in bytes.chunks(SECTOR) {
            let mut rest = sector;
            // Entries do not cross sectors; a zero fills the rest of one.
            while let Some(entry) = Entry::parse(rest) {
                if self.name(tree, &entry).eq_ignore_ascii_case(wanted) {
                    return Ok(Some((entry.extent, entry.flags)));
                }
                rest = &rest[usize::from(rest[0])..];
            }
        }
        Ok(None)
    }

    fn name(&self, tree: &Tree, entry: &Entry<'_>) -> String {
        let identifier = entry.identifier;
        if matches!(identifier, [0] | [1]) {
            return String::new();
        }
        if tree.is_joliet {
            let units: Vec<u16> = identifier
                .chunks_exact(2)
                .map(|unit| u16::from_be_bytes([unit[0], unit[1]]))
                .collect();
            return plain(&String::from_utf16_lossy(&units)).to_owned();
        }
        let area = entry.system_use.get(tree.skipped..).unwrap_or_default();
        match self.rock_ridge(area) {
            Some(name) => name,
            None => plain(&String::from_utf8_lossy(identifier)).to_owned(),
        }
    }

    /// The name in the NM entries of a system use area and where it goes on.
    fn rock_ridge(&self, area: &[u8]) -> Option<String> {
        let mut name: Option<Vec<u8>> = None;
        let mut area = area.to_vec();
        for _ in 0..CONTINUATIONS_MAX {
            let mut next = None;
            let mut rest = &area[..];
            while let [first, second, length, _, ..] = rest {
                let length = usize::from(*length);
                if length < 4 || length > rest.len() {
                    break;
                }
                let body = &rest[4..length];
                match (first, second) {
                    (b'N', b'M') if !body.is_empty() => {
                        name.get_or_insert_default().extend_from_slice(&body[1..]);
                    }
                    (b'C', b'E') if body.len() >= 24 => {
                        let (block, offset, size) =
                            (u32_at(body, 0), u32_at(body, 8), u32_at(body, 16));
                        next = Some((block, offset, size));
                    }
                    (b'S', b'T') => break,
                    _ => {}
                }
                rest = &rest[length..];
            }
            let Some((block, offset, size)) = next else {
                break;
            };
            if size as usize > SECTOR || offset as usize > SECTOR {
                break;
            }
            area = vec![0; size as usize];
            let place = u64::from(block) * SECTOR as u64 + u64::from(offset);
            if self.device.read_at(place, &mut area).is_err() {
                break;
            }
        }
        name.map(|name| String::from_utf8_lossy(&name).into_owned())
    }

    /// Called for folders and files within their bounds only.
    fn bytes(&self, extent: Extent) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; extent.size as usize];
        self.device
            .read_at(u64::from(extent.block) * SECTOR as u64, &mut bytes)?;
        Ok(bytes)
    }
}

impl<'f> Entry<'f> {
    /// The entry that bytes begin with (ECMA-119 §9.1); `None` where there is none.
    fn parse(bytes: &'f [u8]) -> Option<Entry<'f>> {
        let length = usize::from(*bytes.first()?);
        let bytes = bytes.get(..length).filter(|bytes| bytes.len() >= 34)?;
        let name_end = 33 + usize::from(bytes[32]);
        let identifier = bytes.get(33..name_end)?;
        // A byte fills the identifier up to an even place.
        let system_use = bytes.get(name_end.next_multiple_of(2)..);
        Some(Entry {
            extent: Extent {
                block: u32_at(bytes, 2),
                size: u32_at(bytes, 10),
            },
            flags: bytes[25],
            identifier,
            system_use: system_use.unwrap_or_default(),
        })
    }
}

/// A name without its version, and without the dot of an empty extension.
fn plain(name: &str) -> &str {
    let name = name.split_once(';').map_or(name, |(name, _)| name);
    name.trim_end_matches('.')
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}
