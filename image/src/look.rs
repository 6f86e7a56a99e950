//! Looking into an image.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::disk::STATE_OFFSETS;
use crate::fat;
use crate::gpt;
use crate::layout::{
    BOOT_STATE, DATA, DATA_TYPE, ESP, IMAGE_BYTES, MIB, PARTITIONS, Place, SECTOR, SLOTS,
};
use crate::slot;
use crate::tool;
use crate::verity::{self, BLOCK};

/// Bytes in front of the partition table, which start the loader.
const BOOT_CODE: usize = 440;

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

    /// A partition's bytes. That of the data goes up to the last MiB.
    fn part(&self, place: &Place) -> &[u8] {
        let start = place.offset() as usize;
        let end = match place.kind {
            DATA_TYPE => self.0.len() - MIB as usize,
            _ => start + place.bytes() as usize,
        };
        &self.0[start..end]
    }

    /// What stands around the partitions, behind the boot code: the tables, and nothing.
    fn tables(&self) -> [&[u8]; 2] {
        let first = PARTITIONS[0].offset() as usize;
        let last = self.0.len() - MIB as usize;
        [&self.0[BOOT_CODE..first], &self.0[last..]]
    }

    fn file(&self, place: &Place, name: &str) -> Option<Vec<u8>> {
        fat::get(&mut self.part(place).to_vec(), name)
    }

    /// Whether there is no system in the slot with this boot partition: an upgrade, too, takes its
    /// first block away before anything else.
    fn is_empty(&self, boot: &Place) -> bool {
        let first = &self.part(boot)[..SECTOR as usize];
        first.iter().all(|byte| *byte == 0)
    }
}

/// What a slot's boot entry says of its root.
struct Table {
    log_reads: String,
    cmdline: String,
    /// The device-mapper table that the kernel is given.
    device: String,
    blocks: usize,
    root: String,
    salt: String,
}

/// Reads the entry of a slot; `None` where there is nothing to read, or of no root that fits.
fn table(entry: &[u8], name: &str) -> Option<Table> {
    let text = String::from_utf8_lossy(entry);
    let value = |name: &str| {
        let mut lines = text.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.map(str::to_owned)
    };
    let device = value(&format!("dm_{name}"))?;
    let words: Vec<&str> = device.split(' ').collect();
    let blocks: usize = words.get(8)?.parse().ok()?;
    let bytes = blocks.checked_mul(BLOCK)?;
    let fits = (1..=PARTITIONS[SLOTS[0].1].bytes() as usize).contains(&bytes);
    fits.then_some(())?;
    Some(Table {
        log_reads: value("log_reads").unwrap_or_else(|| "1-1".to_owned()),
        cmdline: value(&format!("cmdline_{name}"))?,
        blocks,
        root: (*words.get(11)?).to_owned(),
        salt: (*words.get(12)?).to_owned(),
        device,
    })
}

impl Table {
    /// Whether this starts the program of the root on this partition, checked, and nothing else.
    fn starts(&self, root: &Place) -> bool {
        let waits = format!("PARTUUID={}", root.id);
        let told = [
            ("root=", "/dev/dm-0"),
            ("init=", "/init"),
            ("dm-mod.waitfor=", waits.as_str()),
        ];
        let is_told_once = |(name, wanted): &(&str, &str)| {
            let words = self.cmdline.split(' ');
            words
                .filter_map(|word| word.strip_prefix(name))
                .eq([*wanted])
        };
        let device = slot::table(root.id, self.blocks, &self.root, &self.salt);
        self.device == device && told.iter().all(is_told_once)
    }

    fn salt_bytes(&self) -> Vec<u8> {
        let salt = &self.salt;
        (0..salt.len() / 2)
            .filter_map(|at| u8::from_str_radix(salt.get(2 * at..2 * at + 2)?, 16).ok())
            .collect()
    }
}

/// What an image holds, a line each.
pub fn inspect(path: &Path) -> Result<String, String> {
    Ok(said(&Image::read(path)?))
}

fn said(image: &Image) -> String {
    let mut lines = Vec::new();
    for (number, place) in PARTITIONS.iter().enumerate() {
        lines.push(format!(
            "{} {:<10} {:>4} MiB at {:>3} MiB",
            number + 1,
            place.name,
            image.part(place).len() as u64 / MIB,
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
        let boot = &PARTITIONS[boot];
        let entry = image.file(boot, "slot.env");
        lines.push(match entry.and_then(|entry| table(&entry, name)) {
            None if image.is_empty(boot) => format!("slot {name}: empty"),
            None => format!("slot {name}: cannot be read"),
            Some(table) => format!(
                "slot {name}: root of {} KiB, hash {}, reads formats {} of the log",
                table.blocks * BLOCK / 1024,
                table.root,
                table.log_reads
            ),
        });
    }
    lines.join("\n")
}

/// Checks everything that has a sum or follows from the layout; the error says what is wrong first.
pub fn verify(path: &Path) -> Result<String, String> {
    sound(&Image::read(path)?)
}

fn sound(image: &Image) -> Result<String, String> {
    let (head, tail) = gpt::tables(image.0.len() as u64);
    // The loader's first sector shares one with the table.
    if image.0[BOOT_CODE..head.len()] != head[BOOT_CODE..] || !image.0.ends_with(&tail) {
        return Err("the partition table is not as it was made".to_owned());
    }
    let mut lines = Vec::new();
    let mut systems = 0;
    for (name, (boot, root)) in ["a", "b"].iter().zip(SLOTS) {
        if image.is_empty(&PARTITIONS[boot]) {
            lines.push(format!("slot {name} is empty"));
            continue;
        }
        verify_slot(image, name, (boot, root)).map_err(|why| format!("slot {name}: {why}"))?;
        lines.push(format!("slot {name} is sound"));
        systems += 1;
    }
    if systems == 0 {
        return Err("there is a system in neither slot".to_owned());
    }
    Ok(lines.join("\n"))
}

fn verify_slot(image: &Image, name: &str, (boot, root): (usize, usize)) -> Result<(), String> {
    let (boot, root) = (&PARTITIONS[boot], &PARTITIONS[root]);
    let entry = image
        .file(boot, "slot.env")
        .ok_or("there is no boot entry")?;
    let kernel = image.file(boot, "vmlinuz").ok_or("there is no kernel")?;
    let sums = image.file(boot, "sums").ok_or("there are no sums")?;
    let expected = format!(
        "{}  vmlinuz\n{}  slot.env\n",
        tool::sha256(&kernel),
        tool::sha256(&entry)
    );
    if sums != expected.as_bytes() {
        return Err("kernel or boot entry do not match their sums".to_owned());
    }
    let table = table(&entry, name).ok_or("the boot entry cannot be read")?;
    if !table.starts(root) {
        return Err("the boot entry starts something else than the root of this slot".to_owned());
    }
    let partition = image.part(root);
    let data = &partition[..table.blocks * BLOCK];
    let tree = verity::tree(data, &table.salt_bytes());
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
            // Owners would be given back last, which takes set-user-ID bits away.
            .args(["--preserve-perms", "--no-preserve-owner"])
            .arg(&image),
    )?;
    let mut odd = Vec::new();
    walk(&tree, &tree, &mut odd).map_err(|error| format!("cannot walk the root: {error}"))?;
    if !odd.is_empty() {
        return Err(format!(
            "the root holds what it must not: {}",
            odd.join(", ")
        ));
    }
    if !tree.join(PROGRAM).exists() {
        return Err("the root holds no program".to_owned());
    }
    Ok(())
}

/// The one file that may execute, and has to.
const PROGRAM: &str = "init";

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
        let mode = metadata.permissions().mode();
        let executes = mode & 0o111 != 0;
        if metadata.is_dir() {
            walk(top, &path, odd)?;
        } else if !metadata.is_file() || mode & 0o7000 != 0 || executes != (name == PROGRAM) {
            odd.push(name);
        }
    }
    Ok(())
}

/// Where two images differ.
pub fn diff(one: &Path, other: &Path) -> Result<(), String> {
    let parts = differing(&Image::read(one)?, &Image::read(other)?);
    if parts.is_empty() {
        return Ok(());
    }
    Err(format!("they differ in {}", parts.join(", ")))
}

fn differing(one: &Image, other: &Image) -> Vec<&'static str> {
    let mut parts = Vec::new();
    if one.0[..BOOT_CODE] != other.0[..BOOT_CODE] {
        parts.push("boot code");
    }
    if one.tables() != other.tables() {
        parts.push("partition table");
    }
    let places = PARTITIONS.iter();
    let differs = |place: &&Place| one.part(place) != other.part(place);
    parts.extend(places.filter(differs).map(|place| place.name));
    parts
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
    image[BOOT_CODE..head.len()].copy_from_slice(&head[BOOT_CODE..]);
    let at = image.len() - tail.len();
    image[at..].copy_from_slice(&tail);
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::disk;
    use crate::grub::Loader;
    use crate::slot::Slot;

    const KERNEL: &[u8] = b"kernel";

    /// A slot whose root holds the program, and what is done to it before it is packed.
    fn slot_with(change: impl Fn(&Path)) -> Slot {
        let folder = tempfile::tempdir().expect("a folder");
        let tree = folder.path();
        fs::create_dir(tree.join("etc")).expect("it is made");
        put(&tree.join("init"), 0o755);
        put(&tree.join("etc/cairn-release"), 0o644);
        change(tree);
        let root = slot::pack(tree).expect("it is packed");
        slot::around(KERNEL, root, (1, 1)).expect("it is made")
    }

    fn put(path: &Path, mode: u32) {
        fs::write(path, "bytes").expect("it is written");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its mode is set");
    }

    fn image(slots: [Option<&Slot>; 2]) -> Image {
        let loader = Loader {
            boot_sector: vec![1; BOOT_CODE],
            core: vec![2; 1000],
            efi: b"loader".to_vec(),
        };
        Image(disk::make(&loader, slots).expect("it is made"))
    }

    fn why(slots: [Option<&Slot>; 2]) -> String {
        sound(&image(slots)).expect_err("it is bad")
    }

    #[test]
    fn an_image_is_sound_with_a_system_in_either_slot_and_not_without() {
        let slot = slot_with(|_| {});
        let said = sound(&image([Some(&slot), None]));
        assert_eq!(said.as_deref(), Ok("slot a is sound\nslot b is empty"));
        let said = sound(&image([None, Some(&slot)]));
        assert_eq!(said.as_deref(), Ok("slot a is empty\nslot b is sound"));
        assert_eq!(why([None, None]), "there is a system in neither slot");
    }

    #[test]
    fn a_root_whose_sums_are_right_may_hold_one_program_and_nothing_odd() {
        type Change = fn(&Path);
        let changes: [(&str, Change); 6] = [
            ("etc/tool", |tree| put(&tree.join("etc/tool"), 0o755)),
            ("tool", |tree| put(&tree.join("tool"), 0o654)),
            ("init", |tree| put(&tree.join("init"), 0o4755)),
            ("init", |tree| put(&tree.join("init"), 0o644)),
            ("link", |tree| {
                symlink("init", tree.join("link")).expect("it is linked");
            }),
            ("pipe", |tree| {
                let made = tool::run(Command::new("mkfifo").arg(tree.join("pipe")));
                made.expect("it is made");
            }),
        ];
        for (name, change) in changes {
            let expected = format!("slot b: the root holds what it must not: {name}");
            assert_eq!(why([None, Some(&slot_with(change))]), expected);
        }
        let without = slot_with(|tree| fs::remove_file(tree.join("init")).expect("it is there"));
        assert_eq!(
            why([Some(&without), None]),
            "slot a: the root holds no program"
        );
    }

    #[test]
    fn an_entry_whose_sum_is_right_has_to_start_the_root_of_its_slot() {
        let slot = slot_with(|_| {});
        let entry = image([Some(&slot), None])
            .file(&PARTITIONS[SLOTS[0].0], "slot.env")
            .expect("it is there");
        let entry = String::from_utf8(entry).expect("it is text");
        let [a, b] = SLOTS.map(|(_, root)| PARTITIONS[root].id);
        let other = "the boot entry starts something else than the root of this slot";
        let unread = "the boot entry cannot be read";
        let words: Vec<&str> = entry.split(' ').collect();
        let at = words.iter().position(|word| *word == "sha256");
        let at = at.expect("it is there");
        let (blocks, hash) = (words[at - 1], words[at + 1]);
        let blocks = format!("4096 4096 {blocks} {blocks} sha256");
        let backwards: String = hash.chars().rev().collect();
        let changes = [
            (a, b, other),
            ("init=/init", "init=/etc/tool", other),
            ("init=/init", "init=/init init=/etc/tool", other),
            ("root=/dev/dm-0", "root=/dev/vda5", other),
            ("panic_on_corruption", "ignore_corruption", other),
            (&blocks, "4096 4096 1 777 sha256", other),
            (&blocks, "4096 4096 18446744073709551615 1 sha256", unread),
            (&blocks, "4096 4096 0 0 sha256", unread),
            ("dm_a=", "dm_c=", unread),
            (hash, &backwards, "the root does not match its hash"),
        ];
        for (from, to, expected) in changes {
            let bad = entry.replace(from, to);
            assert_ne!(bad, entry, "{from}");
            let bad = Slot {
                boot: slot::boot(KERNEL, bad.as_bytes()).expect("it is made"),
                root: slot.root.clone(),
            };
            assert_eq!(
                why([Some(&bad), None]),
                format!("slot a: {expected}"),
                "{to}"
            );
        }
    }

    #[test]
    fn a_boot_partition_that_cannot_be_read_is_not_an_empty_one() {
        let slot = slot_with(|_| {});
        let mut image = image([Some(&slot), None]);
        let start = PARTITIONS[SLOTS[0].0].offset() as usize;
        // The size of its sectors.
        image.0[start + 11..start + 13].fill(0);
        assert_eq!(
            sound(&image),
            Err("slot a: there is no boot entry".to_owned())
        );
        assert!(said(&image).contains("\nslot a: cannot be read\nslot b: empty"));
    }

    #[test]
    fn data_differ_up_to_the_end_of_a_disk_that_has_grown() {
        let slot = slot_with(|_| {});
        let mut one = image([Some(&slot), None]);
        make_room(&mut one.0, 20 * MIB);
        let mut other = Image(one.0.clone());
        assert!(differing(&one, &other).is_empty());
        assert!(said(&one).contains("\n8 data         20 MiB at 327 MiB\n"));
        let last = other.0.len() - MIB as usize - 1;
        other.0[last] = 1;
        assert_eq!(differing(&one, &other), ["data"]);
        other.0[0] = 7;
        other.0[PARTITIONS[ESP].offset() as usize] ^= 1;
        assert_eq!(differing(&one, &other), ["boot code", "esp", "data"]);
        make_room(&mut other.0, 30 * MIB);
        let all = ["boot code", "partition table", "esp", "data"];
        assert_eq!(differing(&one, &other), all);
    }
}
