//! What the boot loader and PID 1 tell each other: a GRUB environment block on a small partition
//! of its own.
//!
//! The boot loader spends one of three attempts at every boot and goes to the other slot when none
//! is left; PID 1 gives them back once the system has proved itself. The block stands at a fixed
//! offset, with a copy behind it, and is rewritten in place: everything that matters lies in its
//! first sector, so a torn write leaves the old or the new one.

use std::io;

use super::medium::Medium;
use super::slot::Slot;

/// Bytes of an environment block.
pub const BLOCK_BYTES: usize = 1024;
/// Where the block and its copy stand on the partition, in bytes.
pub const OFFSETS: [u64; 2] = [5632, 9728];
/// Attempts that a slot gets.
pub const ATTEMPTS: u8 = 3;

/// Names the slots whose systems once proved themselves.
const GOOD: &str = "good";

const MAGIC: &str = "# GRUB Environment Block\n";
/// What a sector holds: variables behind it could be lost by a torn write.
const VARIABLES_MAX: usize = 512;

/// The variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootState {
    /// The slot to boot.
    pub slot: Slot,
    /// Attempts that are left to it.
    pub left: u8,
    /// The other slot was given up.
    pub fell_back: bool,
    /// What else stands there, kept as it is: name and value.
    others: Vec<(String, String)>,
}

impl Default for BootState {
    fn default() -> BootState {
        BootState {
            slot: Slot::A,
            left: ATTEMPTS,
            fell_back: false,
            others: Vec::new(),
        }
    }
}

impl BootState {
    /// Reads a block; `None` where there is none, or `slot` is missing.
    pub fn decode(block: &[u8]) -> Option<BootState> {
        let text = std::str::from_utf8(block).ok()?.strip_prefix(MAGIC)?;
        let mut state = BootState::default();
        let mut slot = None;
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, value)) = line.split_once('=') else {
                continue;
            };
            match name {
                "slot" => slot = Slot::parse(value),
                "left" => state.left = value.parse().unwrap_or(0).min(ATTEMPTS),
                "fb" => state.fell_back = value == "1",
                _ => state.others.push((name.to_owned(), value.to_owned())),
            }
        }
        state.slot = slot?;
        Some(state)
    }

    /// The block; `None` when the variables do not fit into its first sector.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let mut text = format!(
            "{MAGIC}slot={}\nleft={}\nfb={}\n",
            self.slot,
            self.left,
            u8::from(self.fell_back)
        );
        for (name, value) in &self.others {
            text.push_str(&format!("{name}={value}\n"));
        }
        if text.len() > VARIABLES_MAX {
            return None;
        }
        let mut block = text.into_bytes();
        block.resize(BLOCK_BYTES, b'#');
        Some(block)
    }

    /// Another variable.
    pub fn other(&self, name: &str) -> Option<&str> {
        let found = self.others.iter().find(|(held, _)| held == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Sets another variable. Names and values are words of letters, digits and hyphens.
    pub fn set_other(&mut self, name: &str, value: &str) {
        self.others.retain(|(held, _)| held != name);
        self.others.push((name.to_owned(), value.to_owned()));
    }

    /// Whether a slot holds a system that once proved itself.
    #[must_use]
    pub fn is_good(&self, slot: Slot) -> bool {
        self.other(GOOD)
            .is_some_and(|good| good.contains(slot.name()))
    }

    /// Says that a slot does, or does not any more.
    pub fn set_good(&mut self, slot: Slot, is_good: bool) {
        let holds = |other: &Slot| match *other == slot {
            true => is_good,
            false => self.is_good(*other),
        };
        let slots = [Slot::A, Slot::B].into_iter();
        let value: String = slots.filter(holds).map(Slot::name).collect();
        self.set_other(GOOD, &value);
    }

    /// The running slot has proved itself: it has all its attempts again.
    #[must_use]
    pub fn confirmed(self, running: Slot) -> BootState {
        BootState {
            slot: running,
            left: ATTEMPTS,
            fell_back: false,
            ..self
        }
    }

    /// An orderly stop is no failure: the attempt that this boot spent is given back.
    #[must_use]
    pub fn stopped(self, running: Slot) -> BootState {
        if self.slot != running {
            // Another one is to be tried next.
            return self;
        }
        let left = (self.left + 1).min(ATTEMPTS);
        BootState { left, ..self }
    }

    /// What the boot loader would have written: that this slot runs and has so many attempts left.
    #[must_use]
    pub fn spent(self, running: Slot, left: u8) -> BootState {
        BootState {
            slot: running,
            left: left.min(ATTEMPTS),
            ..self
        }
    }

    /// The next boot tries that slot.
    #[must_use]
    pub fn activated(self, slot: Slot) -> BootState {
        BootState {
            slot,
            left: ATTEMPTS,
            fell_back: false,
            ..self
        }
    }

    /// The running slot gives itself up: the next boot takes the other one.
    #[must_use]
    pub fn given_up(self, running: Slot) -> BootState {
        BootState {
            slot: running,
            left: 0,
            ..self
        }
    }
}

/// Reads the block, or its copy where that does not read.
pub fn read(partition: &impl Medium) -> io::Result<BootState> {
    let damaged = "the boot state and its copy are damaged";
    let mut why = io::Error::new(io::ErrorKind::InvalidData, damaged);
    let mut block = [0; BLOCK_BYTES];
    for offset in OFFSETS {
        match partition.read_at(&mut block, offset) {
            Ok(()) => {
                if let Some(state) = BootState::decode(&block) {
                    return Ok(state);
                }
            }
            Err(error) => why = error,
        }
    }
    Err(why)
}

/// Writes the block durably, then its copy. A power cut in between leaves two readable ones. Where
/// the medium does not take the block, the copy has it nevertheless.
pub fn write(partition: &impl Medium, state: &BootState) -> io::Result<()> {
    let block = state.encode().ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "the boot state holds more than a sector",
        )
    })?;
    let put = |offset| {
        partition.write_at(&block, offset)?;
        partition.sync()
    };
    let [first, second] = OFFSETS.map(put);
    first.and(second)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    fn block(variables: &str) -> Vec<u8> {
        let mut block = format!("{MAGIC}{variables}").into_bytes();
        block.resize(BLOCK_BYTES, b'#');
        block
    }

    #[test]
    fn a_block_is_read_and_written_with_what_others_keep_in_it() {
        let read = BootState::decode(&block(
            "# WARNING: a word\nslot=b\nleft=2\nfb=1\nstore=0123\n",
        ))
        .expect("a block");
        assert_eq!((read.slot, read.left, read.fell_back), (Slot::B, 2, true));
        assert_eq!(read.other("store"), Some("0123"));
        let written = read.encode().expect("it fits");
        assert_eq!(written.len(), BLOCK_BYTES);
        assert_eq!(BootState::decode(&written), Some(read));
    }

    #[test]
    fn what_is_no_block_is_refused() {
        for bytes in [
            &b""[..],
            b"slot=a\n",
            &[0; 1024],
            &block("left=3\n"),
            &block("slot=c\n"),
        ] {
            assert_eq!(BootState::decode(bytes), None);
        }
    }

    #[test]
    fn more_than_a_sector_is_not_written() {
        let mut state = BootState::default();
        state.set_other("store", &"0".repeat(480));
        assert_eq!(state.encode(), None);
    }

    #[test]
    fn attempts_are_given_back() {
        let spent = BootState {
            left: 1,
            ..BootState::default()
        };
        assert_eq!(spent.clone().confirmed(Slot::A).left, ATTEMPTS);
        assert_eq!(spent.clone().stopped(Slot::A).left, 2);
        assert_eq!(BootState::default().stopped(Slot::A).left, ATTEMPTS);
        let next = spent.activated(Slot::B);
        assert_eq!(
            next.clone().stopped(Slot::A),
            next,
            "the other one is to be tried"
        );
        assert_eq!(next.given_up(Slot::B).left, 0);
    }

    #[test]
    fn the_copy_serves_when_the_block_is_damaged() {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(16_384).expect("it grows");
        assert!(read(&file).is_err(), "there is none yet");
        let state = BootState::default().activated(Slot::B);
        write(&file, &state).expect("it is written");
        file.write_all_at(&[0; BLOCK_BYTES], OFFSETS[0])
            .expect("it is damaged");
        assert_eq!(read(&file).expect("the copy"), state);
    }

    /// A partition of which one sector does not read.
    struct Failing(std::fs::File);

    impl Medium for Failing {
        fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
            match at {
                at if at == OFFSETS[0] => Err(io::Error::from_raw_os_error(5)),
                _ => Medium::read_at(&self.0, bytes, at),
            }
        }

        fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
            match at {
                at if at == OFFSETS[0] => Err(io::Error::from_raw_os_error(5)),
                _ => Medium::write_at(&self.0, bytes, at),
            }
        }

        fn sync(&self) -> io::Result<()> {
            Medium::sync(&self.0)
        }
    }

    #[test]
    fn the_copy_serves_when_the_medium_does_not_give_or_take_the_block() {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(16_384).expect("it grows");
        let mut state = BootState::default().activated(Slot::B);
        state.set_other("data", "0123");
        let partition = Failing(file);
        assert!(write(&partition, &state).is_err(), "it is told");
        assert_eq!(read(&partition).expect("the copy"), state);
    }

    #[test]
    fn slots_are_good_and_good_no_more() {
        let mut state = BootState::default();
        assert!(!state.is_good(Slot::A));
        state.set_good(Slot::B, true);
        state.set_good(Slot::A, true);
        assert_eq!(state.other("good"), Some("ab"));
        state.set_good(Slot::B, false);
        assert!(state.is_good(Slot::A) && !state.is_good(Slot::B));
    }
}
