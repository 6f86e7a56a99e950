//! One failure of the device is a failure for everybody who uses it.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::{Device, is_full};

/// A device on which nothing becomes durable any more once a write or sync failed.
///
/// Two threads sync the same file: one for commits, one for what is tidied. The
/// kernel tells of data that it could not write once, to whoever syncs first, so
/// a commit could be lost and its own sync succeed. Hence syncs come one after
/// the other, and all that follow a failed one fail.
pub(super) struct Fuse {
    device: Arc<dyn Device>,
    /// Held during a sync.
    blown: Mutex<Option<String>>,
}

impl Fuse {
    pub fn new(device: Arc<dyn Device>) -> Fuse {
        Fuse {
            device,
            blown: Mutex::new(None),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.blown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Device for Fuse {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        self.device.read_at(buf, at)
    }

    fn write_at(&self, buf: &[u8], at: u64) -> io::Result<()> {
        let written = self.device.write_at(buf, at);
        // A refusal for want of room loses nothing; whose it was decides what it means.
        if let Err(error) = &written
            && !is_full(error)
        {
            self.lock().get_or_insert(error.to_string());
        }
        written
    }

    fn sync(&self) -> io::Result<()> {
        let mut blown = self.lock();
        if let Some(why) = &*blown {
            return Err(io::Error::other(why.clone()));
        }
        let synced = self.device.sync();
        if let Err(error) = &synced {
            *blown = Some(error.to_string());
        }
        synced
    }

    fn len(&self) -> u64 {
        self.device.len()
    }

    fn grow(&self, len: u64) -> io::Result<()> {
        self.device.grow(len)
    }

    fn grows(&self) -> bool {
        self.device.grows()
    }

    fn physical_block_bytes(&self) -> u32 {
        self.device.physical_block_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::buffer::{ALIGN, Buffer};
    use crate::store::sim::{Faults, SimDevice};

    #[test]
    fn after_a_failed_sync_every_other_sync_fails_too() {
        let device = SimDevice::new(1 << 20, 1 << 20);
        let fuse = Fuse::new(Arc::new(device.clone()));
        fuse.sync().expect("it works");
        device.fail(Faults {
            syncs_left: Some(0),
            ..Faults::default()
        });
        assert!(fuse.sync().is_err());
        device.sync().expect("the kernel tells it once");
        assert!(fuse.sync().is_err(), "and here it is remembered");
    }

    #[test]
    fn after_a_failed_write_no_sync_succeeds() {
        let device = SimDevice::new(1 << 20, 1 << 20);
        let fuse = Fuse::new(Arc::new(device.clone()));
        device.fail(Faults {
            writes_left: Some(0),
            ..Faults::default()
        });
        assert!(fuse.write_at(Buffer::zeroed(ALIGN).as_slice(), 0).is_err());
        device.fail(Faults::default());
        assert!(fuse.sync().is_err());
    }
}
