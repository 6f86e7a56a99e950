//! Putting the disk together.

use fatfs::FatType;

use crate::fat::{self, Volume};
use crate::gpt;
use crate::grub::Loader;
use crate::layout::{BIOS, BOOT_STATE, ESP, IMAGE_BYTES, PARTITIONS, SECTOR, SLOTS};
use crate::slot::Slot;

/// Where the boot state's block and its copy stand on their partition. PID 1 rewrites them there.
pub const STATE_OFFSETS: [usize; 2] = [5632, 9728];
const STATE_BYTES: usize = 1024;

/// The disk's bytes. A slot that is absent stays empty: the loader passes over it.
pub fn make(loader: &Loader, slots: [Option<&Slot>; 2]) -> Result<Vec<u8>, String> {
    let len = usize::try_from(IMAGE_BYTES).map_err(|error| error.to_string())?;
    let mut disk = vec![0; len];
    let mut put = |offset: u64, bytes: &[u8]| {
        let offset = offset as usize;
        disk[offset..offset + bytes.len()].copy_from_slice(bytes);
    };
    let (head, tail) = gpt::tables(IMAGE_BYTES);
    put(0, &head);
    put(0, &loader.boot_sector);
    put(PARTITIONS[BIOS].offset(), &loader.core);
    put(PARTITIONS[ESP].offset(), &esp(&loader.efi)?);
    put(PARTITIONS[BOOT_STATE].offset(), &boot_state()?);
    for (slot, (boot, root)) in slots.iter().zip(SLOTS) {
        if let Some(slot) = slot {
            put(PARTITIONS[boot].offset(), &slot.boot);
            put(PARTITIONS[root].offset(), &slot.root);
        }
    }
    put(IMAGE_BYTES - tail.len() as u64, &tail);
    Ok(disk)
}

fn start_sector(partition: usize) -> u32 {
    u32::try_from(PARTITIONS[partition].offset() / SECTOR).unwrap_or(0)
}

fn esp(efi: &[u8]) -> Result<Vec<u8>, String> {
    let volume = Volume {
        bytes: PARTITIONS[ESP].bytes(),
        kind: FatType::Fat16,
        cluster: 512,
        serial: 0xca1f_0002,
        label: *b"CAIRN EFI  ",
        start_sector: start_sector(ESP),
    };
    fat::make(&volume, &[("EFI/BOOT/BOOTX64.EFI", efi)])
}

/// Three attempts for slot a.
fn boot_state() -> Result<Vec<u8>, String> {
    let mut block = b"# GRUB Environment Block\nslot=a\nleft=3\nfb=0\n".to_vec();
    block.resize(STATE_BYTES, b'#');
    let volume = Volume {
        bytes: PARTITIONS[BOOT_STATE].bytes(),
        kind: FatType::Fat12,
        // So that the copy lies in another block of any medium.
        cluster: 4096,
        serial: 0xca1f_0003,
        label: *b"CAIRN STATE",
        start_sector: start_sector(BOOT_STATE),
    };
    let bytes = fat::make(&volume, &[("env", &block), ("env2", &block)])?;
    for offset in STATE_OFFSETS {
        if bytes[offset..offset + STATE_BYTES] != block {
            let found = bytes.windows(8).position(|bytes| bytes == b"# GRUB E");
            return Err(format!(
                "the boot state is not where it has to be: {found:?}"
            ));
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_state_stands_where_pid_1_writes_it() {
        let bytes = boot_state().expect("it is made");
        for offset in STATE_OFFSETS {
            assert!(bytes[offset..].starts_with(b"# GRUB Environment Block\nslot=a\n"));
        }
    }
}
