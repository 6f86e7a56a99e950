//! Small volumes for tests, made by this file alone: a FAT16 and an ISO 9660 with the given files.

use std::collections::BTreeMap;

const SECTOR: usize = 512;

/// A FAT16 volume with files in its root folder, each with a long name.
pub fn fat(label: &str, files: &[(&str, &[u8])]) -> Vec<u8> {
    const TABLE_SECTORS: usize = 20;
    const ROOT_SECTORS: usize = 16;
    const CLUSTERS: usize = 4100;
    let data = 1 + TABLE_SECTORS + ROOT_SECTORS;
    let mut image = vec![0; (data + CLUSTERS) * SECTOR];
    let sectors = ((data + CLUSTERS) as u16).to_le_bytes();
    image[11..24].copy_from_slice(&[
        0,
        2,
        1,
        1,
        0,
        1,
        0,
        1,
        sectors[0],
        sectors[1],
        0xf8,
        TABLE_SECTORS as u8,
        0,
    ]);
    image[43..54].copy_from_slice(&padded(label, 11));
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    let mut root = Vec::new();
    let mut cluster = 2u16;
    for (number, (name, bytes)) in files.iter().enumerate() {
        let short = padded(&format!("FILE{number}"), 11);
        root.extend(long_name(name, &short));
        let mut entry = [0; 32];
        entry[..11].copy_from_slice(&short);
        entry[26..28].copy_from_slice(&cluster.to_le_bytes());
        entry[28..32].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
        root.extend(entry);
        let count = bytes.len().div_ceil(SECTOR).max(1) as u16;
        for index in 0..count {
            let next = if index + 1 == count {
                0xffff
            } else {
                cluster + index + 1
            };
            let place = SECTOR + 2 * usize::from(cluster + index);
            image[place..place + 2].copy_from_slice(&next.to_le_bytes());
        }
        let place = (data + usize::from(cluster) - 2) * SECTOR;
        image[place..place + bytes.len()].copy_from_slice(bytes);
        cluster += count;
    }
    let place = (1 + TABLE_SECTORS) * SECTOR;
    image[place..place + root.len()].copy_from_slice(&root);
    image
}

fn long_name(name: &str, short: &[u8]) -> Vec<u8> {
    let sum = short
        .iter()
        .fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
    let mut units: Vec<u16> = name.encode_utf16().chain([0]).collect();
    units.resize(units.len().next_multiple_of(13), 0xffff);
    let count = units.len() / 13;
    let mut entries = Vec::new();
    for (index, part) in units.chunks(13).enumerate().rev() {
        let mut entry = [0; 32];
        entry[0] = (index as u8 + 1) | if index + 1 == count { 0x40 } else { 0 };
        entry[11] = 0x0f;
        entry[13] = sum;
        let places = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
        for (place, unit) in places.iter().zip(part) {
            entry[*place..*place + 2].copy_from_slice(&unit.to_le_bytes());
        }
        entries.extend(entry);
    }
    entries
}

/// An ISO 9660 volume with plain names, in folders as their paths say.
pub fn iso(label: &str, files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut image = vec![0; 18 * 2048];
    let mut folders: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    folders.insert(String::new(), Vec::new());
    for (path, bytes) in files {
        let block = append(&mut image, bytes);
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut above = folder;
        while !above.is_empty() {
            folders.entry(above.to_owned()).or_default();
            above = above.rsplit_once('/').map_or("", |(above, _)| above);
        }
        let row = iso_entry(block, bytes.len(), 0, name.as_bytes());
        folders.entry(folder.to_owned()).or_default().extend(row);
    }
    // The deepest first, so that each one's place is known to the one above.
    let mut paths: Vec<String> = folders.keys().cloned().collect();
    paths.sort_by_key(|path| {
        std::cmp::Reverse(path.split('/').filter(|part| !part.is_empty()).count())
    });
    for path in paths {
        let rows = folders[&path].clone();
        let block = append(&mut image, &rows);
        let Some((above, name)) = path
            .rsplit_once('/')
            .or((!path.is_empty()).then_some(("", &path)))
        else {
            let root = iso_entry(block, 2048, 2, &[0]);
            let descriptor = &mut image[16 * 2048..17 * 2048];
            descriptor[..7].copy_from_slice(b"\x01CD001\x01");
            descriptor[40..72].copy_from_slice(&padded(label, 32));
            descriptor[128..130].copy_from_slice(&[0, 8]);
            descriptor[156..156 + root.len()].copy_from_slice(&root);
            continue;
        };
        let row = iso_entry(block, 2048, 2, name.as_bytes());
        folders
            .get_mut(above)
            .expect("the folder above")
            .extend(row);
    }
    image[17 * 2048..17 * 2048 + 7].copy_from_slice(b"\xffCD001\x01");
    image
}

fn append(image: &mut Vec<u8>, bytes: &[u8]) -> u32 {
    let block = image.len() / 2048;
    image.extend_from_slice(bytes);
    image.resize(
        image.len().max((block + 1) * 2048).next_multiple_of(2048),
        0,
    );
    block as u32
}

fn iso_entry(block: u32, size: usize, flags: u8, identifier: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; (33 + identifier.len()).next_multiple_of(2)];
    bytes[0] = bytes.len() as u8;
    bytes[2..6].copy_from_slice(&block.to_le_bytes());
    bytes[10..14].copy_from_slice(&(size as u32).to_le_bytes());
    bytes[25] = flags;
    bytes[32] = identifier.len() as u8;
    bytes[33..33 + identifier.len()].copy_from_slice(identifier);
    bytes
}

fn padded(text: &str, length: usize) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(length, b' ');
    bytes
}
