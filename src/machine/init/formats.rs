//! What PID 1 does about the format of the log: tells the server which one it may write, and knows
//! which one an upgrade has to read.

use std::fs::File;

use super::Init;
use crate::machine::formats::{self, Other};
use crate::machine::layout::Partition;
use crate::machine::read_at::Device;
use crate::machine::release::LogFormats;

impl Init {
    /// What is in the slot that does not run.
    pub(super) fn other_slot(&self) -> Other {
        let (Some(disk), Some(slot)) = (&self.disk, self.boot.slot) else {
            return Other::Empty;
        };
        let boot = File::open(disk.partition(Partition::Boot(slot.other()))).and_then(Device::new);
        boot.map_or(Other::Unknown, |boot| Other::of_slot(&boot))
    }

    /// The newest format of the log that the server may write. It is asked for at every start of it:
    /// an upgrade may have put another system into the other slot.
    pub(super) fn may_write(&mut self) -> u16 {
        let (ours, other) = (LogFormats::OURS, self.other_slot());
        let writes = other.lets_write(&ours);
        match other {
            Other::Unknown => self.say(
                "what the other slot holds cannot be read: the log keeps the format that it has",
            ),
            Other::Reads(..) if writes < ours.writes => self.say(&format!(
                "the system in the other slot reads up to format {writes} of the log: no newer one \
                 is written"
            )),
            Other::Reads(..) | Other::Empty => {}
        }
        u16::try_from(writes).unwrap_or(1)
    }

    /// The format that the log has; where that cannot be read, the newest that it can have.
    pub(super) fn log_format(&self) -> u32 {
        let data = self.data.as_ref().and_then(|data| data.try_clone().ok());
        let format = data.and_then(|data| formats::of_log(&File::from(data)).ok()?);
        format.unwrap_or(LogFormats::OURS.writes)
    }
}
