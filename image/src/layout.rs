//! Where everything is on the disk. This never changes: machines that were installed with it take
//! upgrades for ever.

/// Bytes of a sector. Disks with others are not supported.
pub const SECTOR: u64 = 512;
/// What partitions are aligned to.
pub const MIB: u64 = 1 << 20;

/// A partition.
#[derive(Debug)]
pub struct Place {
    /// Its name in the table.
    pub name: &'static str,
    /// Its type.
    pub kind: &'static str,
    /// Its own identifier.
    pub id: &'static str,
    /// Where it starts, in MiB.
    pub start_mib: u64,
    /// How large it is, in MiB.
    pub mib: u64,
}

impl Place {
    /// Where it starts, in bytes.
    pub fn offset(&self) -> u64 {
        self.start_mib * MIB
    }

    /// How large it is, in bytes.
    pub fn bytes(&self) -> u64 {
        self.mib * MIB
    }
}

/// The identifier of the disk.
pub const DISK_ID: &str = "ca1f0c90-6d3e-4c5b-9a57-9d2f4b7e0100";
const LINUX: &str = "0fc63daf-8483-4772-8e79-3d69d8477de4";
/// The type of a data partition: a raw log of Cairn, without a file system.
pub const DATA_TYPE: &str = "c7a1f5d2-3b0e-4c86-9d41-6361697230a1";

/// The partitions, in the order of their numbers, which begin with 1.
pub const PARTITIONS: [Place; 8] = [
    place(
        1,
        "bios",
        "21686148-6449-6e6f-744e-656564454649",
        "ca1f0c90-6d3e-4c5b-9a57-9d2f4b7e0101",
        1,
    ),
    place(
        2,
        "esp",
        "c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
        "ca1f0c90-6d3e-4c5b-9a57-9d2f4b7e0102",
        4,
    ),
    place(
        6,
        "boot-state",
        LINUX,
        "ca1f0c90-6d3e-4c5b-9a57-9d2f4b7e0103",
        1,
    ),
    place(
        7,
        "boot-a",
        LINUX,
        "ca1f0c90-6d3e-4c5b-9a57-9d2f4b7e0104",
        32,
    ),
    place(
        39,
        "root-a",
        LINUX,
        "ca1f0c90-6d3e-4c5b-9a57-9d2f4b7e0105",
        128,
    ),
    place(
        167,
        "boot-b",
        LINUX,
        "ca1f0c90-6d3e-4c5b-9a57-9d2f4b7e0106",
        32,
    ),
    place(
        199,
        "root-b",
        LINUX,
        "ca1f0c90-6d3e-4c5b-9a57-9d2f4b7e0107",
        128,
    ),
    place(
        327,
        "data",
        DATA_TYPE,
        "ca1f0c90-6d3e-4c5b-9a57-9d2f4b7e0108",
        16,
    ),
];

/// Indices into [`PARTITIONS`].
pub const BIOS: usize = 0;
/// The EFI system partition.
pub const ESP: usize = 1;
/// What boot loader and PID 1 tell each other.
pub const BOOT_STATE: usize = 2;
/// The log.
pub const DATA: usize = 7;
/// Boot and root of the slots.
pub const SLOTS: [(usize, usize); 2] = [(3, 4), (5, 6)];

/// Bytes of the image: a MiB behind the last partition holds the second partition table.
pub const IMAGE_BYTES: u64 = 344 * MIB;

const fn place(
    start_mib: u64,
    name: &'static str,
    kind: &'static str,
    id: &'static str,
    mib: u64,
) -> Place {
    Place {
        name,
        kind,
        id,
        start_mib,
        mib,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_follow_each_other() {
        let mut next = 1;
        for place in &PARTITIONS {
            assert_eq!(place.start_mib, next, "{}", place.name);
            next += place.mib;
        }
        assert_eq!((next + 1) * MIB, IMAGE_BYTES);
    }
}
