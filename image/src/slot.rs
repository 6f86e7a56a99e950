//! What goes into a slot: a root with its hash tree, and a boot partition with the kernel. It is
//! the same for both slots, so one bundle fits either.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use fatfs::FatType;

use crate::fat::{self, Volume};
use crate::layout::{PARTITIONS, SECTOR, SLOTS};
use crate::tool;
use crate::verity::{self, BLOCK};

/// What makes the root's file system.
pub const TOOL: &str = "mkfs.erofs";
/// What every kernel is told.
const CMDLINE: &str = "console=tty0 console=ttyS0,115200 quiet panic=10 ro rootfstype=erofs \
                       no_timer_check root=/dev/dm-0 init=/init memmap=256K$0x6000000 \
                       ramoops.mem_address=0x6000000 ramoops.mem_size=0x40000 \
                       ramoops.record_size=0x10000 ramoops.ecc=1";
const FILE_SYSTEM_ID: &str = "ca1f0c90-6d3e-4c5b-9a57-9d2f4b7e0200";

/// Files of the root besides the binary: path and content.
pub type Files = Vec<(&'static str, Vec<u8>)>;

/// A slot.
#[derive(Debug)]
pub struct Slot {
    /// Its boot partition: as much as is used, in whole sectors.
    pub boot: Vec<u8>,
    /// Its root partition: as much as is used.
    pub root: Vec<u8>,
}

/// Makes a slot. `reads` are the formats of the log that the program reads: the first and the last.
pub fn make(
    kernel: &[u8],
    binary: &[u8],
    files: &Files,
    reads: (u32, u32),
) -> Result<Slot, String> {
    around(kernel, file_system(binary, files)?, reads)
}

/// Makes a slot of a root that is there.
pub fn around(kernel: &[u8], mut root: Vec<u8>, reads: (u32, u32)) -> Result<Slot, String> {
    root.resize(root.len().next_multiple_of(BLOCK), 0);
    // The salt follows from the content, so the same content has the same tree.
    let salt = tool::sha256(&root);
    let salt_bytes: Vec<u8> = (0..salt.len())
        .step_by(2)
        .filter_map(|at| u8::from_str_radix(&salt[at..at + 2], 16).ok())
        .collect();
    let tree = verity::tree(&root, &salt_bytes);
    let root_hash = tool::hexadecimal(&tree.root);
    let blocks = root.len() / BLOCK;
    root.extend(&tree.bytes);
    if root.len() as u64 > PARTITIONS[SLOTS[0].1].bytes() {
        return Err("the root is larger than its partition".to_owned());
    }
    let entry = entry(blocks, &root_hash, &salt, reads);
    Ok(Slot {
        boot: boot(kernel, &entry)?,
        root,
    })
}

/// The boot entry: for each slot the kernel's command line, and its root. The loader looks for
/// nothing else; what the program reads of the log is for the system in the other slot.
fn entry(blocks: usize, root_hash: &str, salt: &str, reads: (u32, u32)) -> Vec<u8> {
    let mut text = String::from("# GRUB Environment Block\n");
    for (name, (_, root)) in ["a", "b"].iter().zip(SLOTS) {
        let id = PARTITIONS[root].id;
        text.push_str(&format!(
            "cmdline_{name}={CMDLINE} dm-mod.waitfor=PARTUUID={id}\n"
        ));
        text.push_str(&format!(
            "dm_{name}={}\n",
            table(id, blocks, root_hash, salt)
        ));
    }
    text.push_str(&format!("log_reads={}-{}\n", reads.0, reads.1));
    let mut bytes = text.into_bytes();
    bytes.resize(bytes.len().next_multiple_of(1024), b'#');
    bytes
}

/// What the kernel is told of a root of so many blocks on the partition of this identifier.
pub fn table(id: &str, blocks: usize, root_hash: &str, salt: &str) -> String {
    format!(
        "root,,,ro,0 {} verity 1 PARTUUID={id} PARTUUID={id} {BLOCK} {BLOCK} {blocks} {blocks} \
         sha256 {root_hash} {salt} 1 panic_on_corruption",
        blocks * BLOCK / SECTOR as usize
    )
}

/// A boot partition with this kernel and this boot entry.
pub fn boot(kernel: &[u8], entry: &[u8]) -> Result<Vec<u8>, String> {
    let place = &PARTITIONS[SLOTS[0].0];
    let volume = Volume {
        bytes: place.bytes(),
        kind: FatType::Fat16,
        cluster: 4096,
        serial: 0xca1f_0001,
        label: *b"CAIRN BOOT ",
        start_sector: 0,
    };
    let sums = format!(
        "{}  vmlinuz\n{}  slot.env\n",
        tool::sha256(kernel),
        tool::sha256(entry)
    );
    let files: [(&str, &[u8]); 3] = [
        ("vmlinuz", kernel),
        ("slot.env", entry),
        ("sums", sums.as_bytes()),
    ];
    let mut bytes = fat::make(&volume, &files)?;
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
    bytes.truncate(used.next_multiple_of(SECTOR as usize));
    Ok(bytes)
}

/// The root: the binary, a few files, and folders to mount on. Nothing else can execute.
fn file_system(binary: &[u8], files: &Files) -> Result<Vec<u8>, String> {
    let told = |error: std::io::Error| format!("cannot lay out the root: {error}");
    let folder = tempfile::tempdir().map_err(told)?;
    let tree = folder.path().join("root");
    for name in ["dev", "etc", "proc", "run", "sys", "tmp"] {
        fs::create_dir_all(tree.join(name)).map_err(told)?;
    }
    let put = |path: &str, content: &[u8], mode: u32| {
        let path = tree.join(path);
        fs::create_dir_all(path.parent().unwrap_or(&tree))?;
        fs::write(&path, content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
    };
    put("init", binary, 0o755).map_err(told)?;
    for (path, content) in files {
        put(path, content, 0o644).map_err(told)?;
    }
    folders(&tree).map_err(told)?;
    pack(&tree)
}

/// The file system with what is in a folder.
pub fn pack(tree: &Path) -> Result<Vec<u8>, String> {
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let image = folder.path().join("root.img");
    tool::run(
        Command::new(TOOL)
            .args(["-x-1", "-T1", "-U", FILE_SYSTEM_ID, "--all-root", "--quiet"])
            .arg(&image)
            .arg(tree),
    )?;
    tool::read(&image)
}

/// Folders are readable for everybody, whatever the umask.
fn folders(folder: &Path) -> std::io::Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            folders(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_names_the_root_of_either_slot() {
        let entry = String::from_utf8(entry(2, "aa", "bb", (1, 2))).expect("it is text");
        assert_eq!(entry.len() % 1024, 0);
        for (name, (_, root)) in ["a", "b"].iter().zip(SLOTS) {
            let id = PARTITIONS[root].id;
            let dm = format!(
                "dm_{name}=root,,,ro,0 16 verity 1 PARTUUID={id} PARTUUID={id} 4096 4096 2 2 sha256 \
                 aa bb 1 panic_on_corruption\n"
            );
            assert!(entry.contains(&dm), "{entry}");
        }
        assert!(entry.contains("\nlog_reads=1-2\n#"), "{entry}");
    }
}
