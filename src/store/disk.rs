//! The device that a log lives on: a file or a block device.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, OFlag, PosixFadviseAdvice};

use super::buffer::{ALIGN, Buffer};

/// A fixed or growing array of blocks.
///
/// Every offset and length, and the address of every buffer, is a multiple of
/// [`ALIGN`]. What a `write_at` wrote is durable once a later [`sync`](Device::sync)
/// returned without an error, and may or may not be before that.
pub trait Device: Send + Sync {
    /// Fills `buf` from `at`.
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<()>;
    /// Writes `buf` at `at`.
    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<()>;
    /// Makes all that was written durable.
    fn sync(&self) -> io::Result<()>;
    /// Size in bytes.
    fn len(&self) -> u64;
    /// Whether there is nothing at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Makes it at least `len` bytes long, durably so after the next
    /// [`sync`](Device::sync). [`is_full`] tells a refusal, which leaves all as
    /// it was, from a failure.
    fn grow(&self, len: u64) -> io::Result<()>;
    /// Whether [`grow`](Device::grow) can succeed.
    fn grows(&self) -> bool;
    /// The largest unit that the medium writes at once, in bytes.
    fn physical_block_bytes(&self) -> u32 {
        4096
    }
}

/// Whether a write or growth was refused because there is no room for it: on
/// the medium, for this user, or in a file of that length. Of a sync the same
/// errors are a failure: what was written before may be lost.
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// A file or a block device, locked against every other process.
#[derive(Debug)]
pub struct FileDevice {
    file: File,
    len: std::sync::atomic::AtomicU64,
    block_device: bool,
    direct: bool,
    physical_block_bytes: u32,
}

/// How a [`FileDevice`] is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// For reading and writing; a missing file is created.
    Create,
    /// For reading and writing; a missing file is an error.
    Write,
    /// For reading only, beside other readers.
    Read,
}

impl FileDevice {
    /// Opens `path`, locks it, and leaves the page cache out of it: with
    /// O_DIRECT where the file system allows that, else by dropping what the
    /// cache holds, because after a failed sync the cache can lie.
    ///
    /// A store that another process has open fails with `WouldBlock`.
    pub fn open(path: &Path, access: Access) -> io::Result<FileDevice> {
        match FileDevice::open_with(path, access, OFlag::O_DIRECT.bits()) {
            Ok(device) if device.accepts_direct_reads() => Ok(FileDevice {
                direct: true,
                ..device
            }),
            Ok(_) => FileDevice::open_buffered(path, access),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                FileDevice::open_buffered(path, access)
            }
            Err(error) => Err(error),
        }
    }

    /// A device that was opened by somebody else, with O_DIRECT, for reading and writing. Locks it.
    pub fn of_file(mut file: File) -> io::Result<FileDevice> {
        lock(&file, Access::Write)?;
        let block_device = file.metadata()?.file_type().is_block_device();
        let len = file.seek(SeekFrom::End(0))?;
        let physical_block_bytes = if block_device {
            rustix::fs::ioctl_blkpbszget(&file)?
        } else {
            4096
        };
        Ok(FileDevice {
            file,
            len: (len - len % ALIGN as u64).into(),
            block_device,
            direct: true,
            physical_block_bytes,
        })
    }

    /// Opens `path` through the page cache, as file systems without O_DIRECT
    /// need it.
    pub fn open_buffered(path: &Path, access: Access) -> io::Result<FileDevice> {
        let device = FileDevice::open_with(path, access, 0)?;
        if access != Access::Read {
            device.file.sync_data()?;
        }
        let advice = PosixFadviseAdvice::POSIX_FADV_DONTNEED;
        nix::fcntl::posix_fadvise(&device.file, 0, 0, advice).map_err(io::Error::from)?;
        Ok(device)
    }

    /// Whether it bypasses the page cache. When not, say so at start.
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    /// Whether it is a block device.
    pub fn is_block_device(&self) -> bool {
        self.block_device
    }

    fn open_with(path: &Path, access: Access, flags: i32) -> io::Result<FileDevice> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(access != Access::Read)
            .create(access == Access::Create)
            .truncate(false)
            .mode(0o600)
            .custom_flags(flags)
            .open(path)?;
        lock(&file, access)?;
        let metadata = file.metadata()?;
        let block_device = metadata.file_type().is_block_device();
        if !block_device && !metadata.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "neither a file nor a block device",
            ));
        }
        // The end of a block device is what BLKGETSIZE64 says; of a file, its length.
        let len = file.seek(SeekFrom::End(0))?;
        if !block_device && len == 0 && access == Access::Create {
            sync_parent(path)?;
        }
        if !block_device && (1..ALIGN as u64).contains(&len) && !is_zeroed(&file)? {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it is neither a store nor empty",
            ));
        }
        let physical = if block_device {
            rustix::fs::ioctl_blkpbszget(&file)?
        } else {
            metadata.blksize() as u32
        };
        Ok(FileDevice {
            file,
            len: (len - len % ALIGN as u64).into(),
            block_device,
            direct: false,
            physical_block_bytes: physical,
        })
    }

    /// Some file systems accept the flag and refuse the access.
    fn accepts_direct_reads(&self) -> bool {
        let mut probe = Buffer::zeroed(ALIGN);
        self.len() == 0 || self.file.read_exact_at(probe.as_mut_slice(), 0).is_ok()
    }
}

impl Device for FileDevice {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, at)
    }

    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(buf, at)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn len(&self) -> u64 {
        self.len.load(std::sync::atomic::Ordering::Acquire)
    }

    fn grow(&self, len: u64) -> io::Result<()> {
        if self.block_device {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "a block device does not grow",
            ));
        }
        let held = self.len();
        if len <= held {
            return Ok(());
        }
        let (from, more) = (held.cast_signed(), (len - held).cast_signed());
        loop {
            match nix::fcntl::fallocate(&self.file, FallocateFlags::empty(), from, more) {
                Err(Errno::EINTR) => continue,
                Err(Errno::EOPNOTSUPP) => self.file.set_len(len)?,
                other => other.map_err(io::Error::from)?,
            }
            break;
        }
        self.len.store(len, std::sync::atomic::Ordering::Release);
        Ok(())
    }

    fn grows(&self) -> bool {
        !self.block_device
    }

    fn physical_block_bytes(&self) -> u32 {
        self.physical_block_bytes
    }
}

/// Whether the first block of a file holds nothing. A crash while a store is made can leave that;
/// anything else in a file that is too short for a store is somebody else's.
fn is_zeroed(file: &File) -> io::Result<bool> {
    let mut block = Buffer::zeroed(ALIGN);
    file.read_at(block.as_mut_slice(), 0)?;
    Ok(block.as_slice().iter().all(|byte| *byte == 0))
}

fn lock(file: &File, access: Access) -> io::Result<()> {
    let locked = if access == Access::Read {
        file.try_lock_shared()
    } else {
        file.try_lock()
    };
    locked.map_err(|error| match error {
        TryLockError::WouldBlock => io::Error::new(
            io::ErrorKind::WouldBlock,
            "another process has this store open",
        ),
        TryLockError::Error(error) => error,
    })
}

/// A new file is durable only when its directory entry is.
fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_say_that_there_is_no_room_is_known() {
        for errno in [Errno::ENOSPC, Errno::EDQUOT, Errno::EFBIG] {
            assert!(is_full(&errno.into()), "{errno}");
        }
        for errno in [Errno::EIO, Errno::EROFS, Errno::EINVAL] {
            assert!(!is_full(&errno.into()), "{errno}");
        }
    }

    /// Where the file system takes O_DIRECT, going through the cache instead must not pass unseen.
    #[test]
    fn the_page_cache_is_left_out_wherever_the_file_system_allows_that() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("log");
        std::fs::write(&path, [7; 2 * ALIGN]).expect("a file is written");
        let direct = OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_DIRECT.bits())
            .open(&path)
            .and_then(|file| file.read_exact_at(Buffer::zeroed(ALIGN).as_mut_slice(), 0));
        if let Err(error) = direct {
            println!("skipped: the file system has no O_DIRECT: {error}");
            return;
        }
        for (name, access) in [
            ("log", Access::Write),
            ("log", Access::Read),
            ("new", Access::Create),
        ] {
            let device = FileDevice::open(&folder.path().join(name), access).expect("it opens");
            assert!(device.is_direct(), "{name} {access:?}");
        }
    }

    #[test]
    fn a_file_is_open_once_and_keeps_what_was_written() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("log");
        let device = FileDevice::open(&path, Access::Create).expect("a new file opens");
        device.grow(65536).expect("a file grows");
        let mut block = Buffer::zeroed(ALIGN);
        block.as_mut_slice().fill(7);
        device
            .write_at(block.as_slice(), 8192)
            .expect("a block is written");
        device.sync().expect("and synced");
        let refused = FileDevice::open(&path, Access::Write).expect_err("it is locked");
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        drop(device);
        let device =
            FileDevice::open_buffered(&path, Access::Read).expect("the lock went with the device");
        let mut read = Buffer::zeroed(ALIGN);
        device
            .read_at(read.as_mut_slice(), 8192)
            .expect("it is there");
        assert_eq!(read.as_slice(), block.as_slice());
        assert_eq!(device.len(), 65536);
    }
}
