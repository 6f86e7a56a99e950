//! The disk that the machine was started from, and its partitions.

use std::fs;
use std::path::{Path, PathBuf};

use super::slot::Slot;

/// Numbers of the partitions; the layout never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partition {
    /// The EFI system partition.
    Esp,
    /// What boot loader and PID 1 tell each other.
    BootState,
    /// Kernel and boot entry of a slot.
    Boot(Slot),
    /// Root and verity tree of a slot.
    Root(Slot),
    /// The log.
    Data,
}

impl Partition {
    /// Its number.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Partition::Esp => 2,
            Partition::BootState => 3,
            Partition::Boot(Slot::A) => 4,
            Partition::Root(Slot::A) => 5,
            Partition::Boot(Slot::B) => 6,
            Partition::Root(Slot::B) => 7,
            Partition::Data => 8,
        }
    }
}

/// The system disk: its name in the kernel, such as `vda`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemDisk {
    /// Of its devices.
    folder: PathBuf,
    name: String,
}

impl SystemDisk {
    /// The disk under the verified root. `None` where the root is something else.
    pub fn find() -> Option<SystemDisk> {
        SystemDisk::find_in(Path::new("/sys"))
    }

    /// One whose partitions are files.
    #[cfg(test)]
    pub(super) fn of_files(folder: &Path) -> SystemDisk {
        SystemDisk {
            folder: folder.to_owned(),
            name: "disk".to_owned(),
        }
    }

    fn find_in(sys: &Path) -> Option<SystemDisk> {
        let slaves = fs::read_dir(sys.join("block/dm-0/slaves")).ok()?;
        let partition = slaves.flatten().next()?.file_name();
        // /sys/class/block/vda5 is a link to …/block/vda/vda5.
        let place = fs::canonicalize(sys.join("class/block").join(partition)).ok()?;
        let name = place.parent()?.file_name()?.to_str()?.to_owned();
        let folder = PathBuf::from("/dev");
        Some(SystemDisk { folder, name })
    }

    /// The whole disk.
    pub fn device(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    /// The device of a partition. Names that end in a digit, such as `nvme0n1`, take a `p` before
    /// the number.
    pub fn partition(&self, partition: Partition) -> PathBuf {
        let number = partition.number();
        let infix = if self.name.ends_with(|c: char| c.is_ascii_digit()) {
            "p"
        } else {
            ""
        };
        self.folder.join(format!("{}{infix}{number}", self.name))
    }

    /// Its name, for people.
    pub fn name(&self) -> &str {
        &self.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sys(disk: &str, partition: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        let sys = folder.path();
        let block = sys.join("devices/pci/block").join(disk).join(partition);
        fs::create_dir_all(&block).expect("made");
        fs::create_dir_all(sys.join("class/block")).expect("made");
        fs::create_dir_all(sys.join("block/dm-0/slaves")).expect("made");
        let link = |from: PathBuf| std::os::unix::fs::symlink(&block, from).expect("linked");
        link(sys.join("class/block").join(partition));
        link(sys.join("block/dm-0/slaves").join(partition));
        folder
    }

    #[test]
    fn the_disk_is_the_one_under_the_verified_root() {
        for (disk, root, data) in [
            ("vda", "vda5", "/dev/vda8"),
            ("nvme0n1", "nvme0n1p7", "/dev/nvme0n1p8"),
        ] {
            let sys = sys(disk, root);
            let found = SystemDisk::find_in(sys.path()).expect("a disk");
            assert_eq!(found.device(), Path::new("/dev").join(disk));
            assert_eq!(found.partition(Partition::Data), Path::new(data));
        }
        let empty = tempfile::tempdir().expect("a folder");
        assert_eq!(SystemDisk::find_in(empty.path()), None);
    }
}
