//! Looking into an image.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::disk::STATE_OFFSETS;
use crate::fat;
use crate::gpt;
use crate::layout::{BOOT_STATE, DATA, ESP, IMAGE_BYTES, MIB, PARTITIONS, Place, SLOTS};
use crate::tool;
use crate::verity::{self, BLOCK};

/// An image's bytes.
struct Image(Vec<u8>);

impl Image {
    fn read(path: &Path) -> Result<Image, String> {
        let bytes = tool::read(path)?;
        if (bytes.len() as u64) < IMAGE_BYTES {
            return Err(format!("{} is too short for an image", path.display()));
        }
        Ok(Image(bytes))
    }

    fn part(&self, place: &Place) -> &[u8] {
        let start = place.offset() as usize;
        &self.0[start..start + place.bytes() as usize]
    }

    fn file(&self, place: &Place, name: &str) -> Option<Vec<u8>> {
        fat::get(&mut self.part(place).to_vec(), name)
    }
}

/// The words of a slot's device-mapper table that count.
struct Table {
    log_reads: String,
    sectors: usize,
    blocks: usize,
    root: String,
    salt: Vec<u8>,
}

fn table(entry: &[u8], slot: &str) -> Option<Table> {
    let text = String::from_utf8_lossy(entry);
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(&format!("dm_{slot}=")))?;
    let words: Vec<&str> = line.split(' ').collect();
    let salt = words.get(12)?;
    let log_reads = text
        .lines()
        .find_map(|line| line.strip_prefix("log_reads="));
    Some(Table {
        log_reads: log_reads.unwrap_or("1-1").to_owned(),
        sectors: words.get(1)?.parse().ok()?,
        blocks: words.get(8)?.parse().ok()?,
        root: (*words.get(11)?).to_owned(),
        salt: (0..salt.len() / 2)
            .filter_map(|at| u8::from_str_radix(salt.get(2 * at..2 * at + 2)?, 16).ok())
            .collect(),
    })
}

/// What an image holds, a line each.
pub fn inspect(path: &Path) -> Result<String, String> {
    let image = Image::read(path)?;
    let mut lines = Vec::new();
    for (number, place) in PARTITIONS.iter().enumerate() {
        lines.push(format!(
            "{} {:<10} {:>4} MiB at {:>3} MiB",
            number + 1,
            place.name,
            place.mib,
            place.start_mib
        ));
    }
    let state = &image.part(&PARTITIONS[BOOT_STATE])[STATE_OFFSETS[0]..];
    let state = String::from_utf8_lossy(&state[..512]);
    let words: Vec<&str> = state
        .lines()
        .skip(1)
        .filter(|line| line.contains('='))
        .collect();
    lines.push(format!("boot state: {}", words.join(" ")));
    for (name, (boot, _)) in ["a", "b"].iter().zip(SLOTS) {
        let entry = image.file(&PARTITIONS[boot], "slot.env");
        lines.push(match entry.and_then(|entry| table(&entry, name)) {
            None => format!("slot {name}: empty"),
            Some(table) => format!(
                "slot {name}: root of {} KiB, hash {}, reads formats {} of the log",
                table.blocks * BLOCK / 1024,
                table.root,
                table.log_reads
            ),
        });
    }
    Ok(lines.join("\n"))
}

/// Checks everything; the error says what is wrong first.
pub fn verify(path: &Path) -> Result<String, String> {
    let image = Image::read(path)?;
    let (head, tail) = gpt::tables(image.0.len() as u64);
    // The loader's first sector shares one with the table.
    let mut found = image.0[..head.len()].to_vec();
    found[..440].fill(0);
    if found != head || !image.0.ends_with(&tail) {
        return Err("the partition table is not as it was made".to_owned());
    }
    let mut lines = Vec::new();
    for (name, (boot, root)) in ["a", "b"].iter().zip(SLOTS) {
        let Some(entry) = image.file(&PARTITIONS[boot], "slot.env") else {
            lines.push(format!("slot {name} is empty"));
            continue;
        };
        verify_slot(&image, name, &entry, (boot, root))
            .map_err(|why| format!("slot {name}: {why}"))?;
        lines.push(format!("slot {name} is sound"));
    }
    Ok(lines.join("\n"))
}

fn verify_slot(
    image: &Image,
    name: &str,
    entry: &[u8],
    (boot, root): (usize, usize),
) -> Result<(), String> {
    let kernel = image
        .file(&PARTITIONS[boot], "vmlinuz")
        .ok_or("there is no kernel")?;
    let sums = image
        .file(&PARTITIONS[boot], "sums")
        .ok_or("there are no sums")?;
    let expected = format!(
        "{}  vmlinuz\n{}  slot.env\n",
        tool::sha256(&kernel),
        tool::sha256(entry)
    );
    if sums != expected.as_bytes() {
        return Err("kernel or boot entry do not match their sums".to_owned());
    }
    let table = table(entry, name).ok_or("the boot entry cannot be read")?;
    let partition = image.part(&PARTITIONS[root]);
    let data = partition
        .get(..table.blocks * BLOCK)
        .filter(|data| data.len() == table.sectors * 512 && !data.is_empty())
        .ok_or("the boot entry does not fit the root")?;
    let tree = verity::tree(data, &table.salt);
    let stored = &partition[data.len()..];
    if tool::hexadecimal(&tree.root) != table.root || !stored.starts_with(&tree.bytes) {
        return Err("the root does not match its hash".to_owned());
    }
    only_the_program(data)
}

/// Walks the root: one executable file, and no device, link or set-user-ID bit.
fn only_the_program(root: &[u8]) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (image, tree) = (folder.path().join("root"), folder.path().join("tree"));
    tool::write(&image, root)?;
    let mut extract = std::ffi::OsString::from("--extract=");
    extract.push(&tree);
    tool::run(
        Command::new("fsck.erofs")
            .arg(extract)
            .arg("--preserve-perms")
            .arg(&image),
    )?;
    let mut odd = Vec::new();
    walk(&tree, &tree, &mut odd).map_err(|error| format!("cannot walk the root: {error}"))?;
    if odd.is_empty() {
        return Ok(());
    }
    Err(format!(
        "the root holds what it must not: {}",
        odd.join(", ")
    ))
}

fn walk(top: &Path, folder: &Path, odd: &mut Vec<String>) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let metadata = fs::symlink_metadata(&path)?;
        let name = path
            .strip_prefix(top)
            .unwrap_or(&path)
            .display()
            .to_string();
        if metadata.is_dir() {
            walk(top, &path, odd)?;
        } else if !metadata.is_file()
            || (metadata.permissions().mode() & 0o7111 != 0 && name != "init")
        {
            odd.push(name);
        }
    }
    Ok(())
}

/// Where two images differ.
pub fn diff(one: &Path, other: &Path) -> Result<(), String> {
    let (one, other) = (Image::read(one)?, Image::read(other)?);
    let mut parts: Vec<&str> = PARTITIONS
        .iter()
        .filter(|place| one.part(place) != other.part(place))
        .map(|place| place.name)
        .collect();
    let (head, tail) = (PARTITIONS[0].offset() as usize, 33 * 512);
    if one.0[..head] != other.0[..head]
        || one.0[one.0.len() - tail..] != other.0[other.0.len() - tail..]
    {
        parts.insert(0, "partition table");
    }
    if parts.is_empty() {
        return Ok(());
    }
    Err(format!("they differ in {}", parts.join(", ")))
}

/// Puts a configuration on the EFI partition, where the machine looks for it at its first start,
/// and a store on the data partition.
pub fn personalise(
    image: &Path,
    config: Option<&Path>,
    store: Option<&Path>,
) -> Result<(), String> {
    let Image(disk) = Image::read(image)?;
    tool::write(image, &personalised(disk, config, store)?)
}

/// The same with the bytes of an image.
pub fn personalised(
    mut disk: Vec<u8>,
    config: Option<&Path>,
    store: Option<&Path>,
) -> Result<Vec<u8>, String> {
    if let Some(config) = config {
        let config = tool::read(config)?;
        let place = &PARTITIONS[ESP];
        let start = place.offset() as usize;
        let mut esp = disk[start..start + place.bytes() as usize].to_vec();
        fat::put(&mut esp, &[("cairn.toml", &config)])?;
        disk[start..start + esp.len()].copy_from_slice(&esp);
    }
    if let Some(store) = store {
        let store = tool::read(store)?;
        make_room(&mut disk, store.len() as u64);
        let start = PARTITIONS[DATA].offset() as usize;
        disk[start..start + store.len()].copy_from_slice(&store);
    }
    Ok(disk)
}

/// Makes the image large enough for so many bytes of data, and its tables say so.
fn make_room(image: &mut Vec<u8>, data: u64) {
    let needed = PARTITIONS[DATA].offset() + data.next_multiple_of(MIB) + MIB;
    if needed <= image.len() as u64 {
        return;
    }
    let old = image.len();
    image[old - 33 * 512..].fill(0);
    image.resize(needed as usize, 0);
    let (head, tail) = gpt::tables(needed);
    // The loader's part of the first sector stays.
    image[440..head.len()].copy_from_slice(&head[440..]);
    let at = image.len() - tail.len();
    image[at..].copy_from_slice(&tail);
}
