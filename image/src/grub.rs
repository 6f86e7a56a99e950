//! The boot loader: one GRUB for BIOS and UEFI, with its script sealed inside.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::layout::{BIOS, PARTITIONS, SECTOR};
use crate::tool;

/// What puts it together.
pub const TOOL: &str = "grub-mkimage";
const SCRIPT: &[u8] = include_bytes!("../grub/grub.cfg");
/// The rescue shell, which has no `if`, hands over to the script at once.
const EARLY: &[u8] = b"set prefix=(memdisk)\nset root=memdisk\nnormal (memdisk)/grub.cfg\n";
/// What is added for a firmware, by GRUB's name for it.
const FORMATS: [(&str, &str); 2] = [("i386-pc", "biosdisk"), ("x86_64-efi", "efi_gop")];
const MODULES: &str = "memdisk tar part_gpt fat normal loadenv serial terminal echo true test regexp \
                       linux boot reboot sleep probe hashsum gcry_sha256";
/// What was made.
#[derive(Debug)]
pub struct Loader {
    /// The first 440 bytes of the disk.
    pub boot_sector: Vec<u8>,
    /// What goes to the start of the BIOS boot partition.
    pub core: Vec<u8>,
    /// The program for UEFI.
    pub efi: Vec<u8>,
}

/// Makes the loader with GRUB's own tool and the modules of this folder.
pub fn make(modules: &Path) -> Result<Loader, String> {
    let modules = std::path::absolute(modules).map_err(|error| error.to_string())?;
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let folder = folder.path();
    tool::write(&folder.join("memdisk.tar"), &tar("grub.cfg", SCRIPT))?;
    tool::write(&folder.join("early.cfg"), EARLY)?;
    let image = |format: &str, output: &str, extra: &str| {
        let mut command = Command::new(TOOL);
        command
            .current_dir(folder)
            .arg("-d")
            .arg(modules.join(format))
            .args([
                "-O",
                format,
                "-o",
                output,
                "-m",
                "memdisk.tar",
                "-c",
                "early.cfg",
            ])
            .args(["-p", "(memdisk)"])
            .args(MODULES.split_whitespace())
            .arg(extra);
        tool::run(&mut command)?;
        tool::read(&folder.join(output))
    };
    let [(pc, disk), (uefi, screen)] = FORMATS;
    let core = image(pc, "core.img", disk)?;
    let efi = image(uefi, "boot.efi", screen)?;
    let boot = fs::read(modules.join("i386-pc/boot.img"))
        .map_err(|error| format!("GRUB's boot.img is missing: {error}; install grub-pc-bin"))?;
    install(boot, core, efi)
}

/// The sum of what GRUB's tool reads of a folder for one firmware (`i386-pc` or `x86_64-efi`): of a
/// list, sorted, with the sum and the name of each file, as `sha256sum` writes it.
pub fn sum(modules: &Path, format: &str) -> Result<String, String> {
    let folder = modules.join(format);
    let list = tool::read(&folder.join("moddep.lst"))?;
    let extra = FORMATS.iter().find(|(name, _)| *name == format);
    let wanted = MODULES
        .split_whitespace()
        .chain(extra.map(|(_, module)| *module));
    let mut files: BTreeSet<String> = needed(&String::from_utf8_lossy(&list), wanted)
        .into_iter()
        .map(|module| format!("{module}.mod"))
        .collect();
    files.insert("moddep.lst".to_owned());
    let images =
        ["boot", "diskboot", "kernel", "lzma_decompress"].map(|name| format!("{name}.img"));
    files.extend(images.into_iter().filter(|name| folder.join(name).exists()));
    let mut text = String::new();
    for file in files {
        let bytes = tool::read(&folder.join(&file))?;
        text.push_str(&format!("{}  {file}\n", tool::sha256(&bytes)));
    }
    Ok(tool::sha256(text.as_bytes()))
}

/// Modules, and those that they need, by GRUB's list: a line for each, `name: others`.
fn needed<'a>(list: &'a str, wanted: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let mut left: Vec<&str> = wanted.collect();
    let mut found = BTreeSet::new();
    while let Some(module) = left.pop() {
        if found.insert(module) {
            let lines = list.lines().filter_map(|line| line.split_once(':'));
            let others = lines.filter(|(name, _)| *name == module);
            left.extend(others.flat_map(|(_, others)| others.split_whitespace()));
        }
    }
    found
}

/// Tells the first sector where the rest is, and the rest where it goes on: what GRUB's own
/// installer does with a disk in hand.
fn install(mut boot: Vec<u8>, mut core: Vec<u8>, efi: Vec<u8>) -> Result<Loader, String> {
    let sector = SECTOR as usize;
    let start = PARTITIONS[BIOS].offset() / SECTOR;
    core.resize(core.len().next_multiple_of(sector), 0);
    if boot.len() < 440 || core.len() < 2 * sector || core.len() as u64 > PARTITIONS[BIOS].bytes() {
        return Err("this GRUB is of another kind than expected".to_owned());
    }
    // The sector to load, the drive it was started from, and no check for old BIOSes.
    boot[0x5c..0x64].copy_from_slice(&start.to_le_bytes());
    boot[0x64] = 0xff;
    boot[0x66..0x68].copy_from_slice(&[0x90, 0x90]);
    boot.truncate(440);
    let rest = u16::try_from(core.len() / sector - 1).map_err(|error| error.to_string())?;
    let list = &mut core[sector - 12..sector];
    list[..8].copy_from_slice(&(start + 1).to_le_bytes());
    list[8..10].copy_from_slice(&rest.to_le_bytes());
    list[10..].copy_from_slice(&0x820_u16.to_le_bytes());
    Ok(Loader {
        boot_sector: boot,
        core,
        efi,
    })
}

/// An archive with one file (POSIX.1-1988, ustar).
fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut header = vec![0; 512];
    let mut field = |at: usize, text: &str| {
        header[at..at + text.len()].copy_from_slice(text.as_bytes());
    };
    field(0, name);
    field(100, "0000644");
    field(108, "0000000");
    field(116, "0000000");
    field(124, &format!("{:011o}", content.len()));
    field(136, "00000000001");
    field(148, "        ");
    field(156, "0");
    field(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut archive = header;
    archive.extend(content);
    archive.resize(archive.len().next_multiple_of(512) + 1024, 0);
    archive
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_is_archived_with_a_sound_header() {
        let archive = tar("grub.cfg", b"echo");
        assert_eq!(archive.len(), 512 + 512 + 1024);
        let sum: u32 = archive[..512]
            .iter()
            .enumerate()
            .map(|(at, byte)| {
                if (148..156).contains(&at) {
                    32
                } else {
                    u32::from(*byte)
                }
            })
            .sum();
        assert_eq!(&archive[148..154], format!("{sum:06o}").as_bytes());
        assert_eq!(&archive[512..516], b"echo");
    }

    #[test]
    fn a_module_brings_what_it_needs() {
        let list = "a: b c\nb:\nc: a d\nd: b\ne: a\n";
        let found = needed(list, ["a", "x"].into_iter());
        assert_eq!(found, BTreeSet::from(["a", "b", "c", "d", "x"]));
    }
}
