//! Switching off and starting again, and the button that asks for it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc;
use nix::sys::reboot::{RebootMode, reboot};

/// How the machine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Starts again.
    Reboot,
    /// Stays off.
    PowerOff,
}

/// Ends the machine now. What was not synced is lost. Returns only when the kernel refuses.
pub fn end(how: End) -> nix::errno::Errno {
    let mode = match how {
        End::Reboot => RebootMode::RB_AUTOBOOT,
        End::PowerOff => RebootMode::RB_POWER_OFF,
    };
    match reboot(mode) {
        Ok(never) => match never {},
        Err(errno) => errno,
    }
}

/// Bytes of an event of the kernel's input layer on 64-bit machines: a time, then type, code and
/// value.
const EVENT_BYTES: usize = 24;
const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;

/// The power buttons.
#[derive(Debug)]
pub struct Buttons(Vec<File>);

impl Buttons {
    /// Finds them among the input devices.
    pub fn open() -> Buttons {
        let Ok(entries) = fs::read_dir("/sys/class/input") else {
            return Buttons(Vec::new());
        };
        let files = entries.flatten().filter_map(|entry| {
            let name = fs::read_to_string(entry.path().join("device/name")).ok()?;
            let event = entry.file_name();
            let is_button = name.contains("Power Button")
                && event
                    .to_str()
                    .is_some_and(|event| event.starts_with("event"));
            is_button.then_some(())?;
            OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_NONBLOCK)
                .open(Path::new("/dev/input").join(event))
                .ok()
        });
        Buttons(files.collect())
    }

    /// A machine without any.
    pub fn none() -> Buttons {
        Buttons(Vec::new())
    }

    /// To wait on.
    pub fn files(&self) -> &[File] {
        &self.0
    }

    /// Whether one was pressed since the last call.
    pub fn pressed(&mut self) -> bool {
        let mut pressed = false;
        for file in &mut self.0 {
            let mut events = [0; EVENT_BYTES * 16];
            while let Ok(len) = read(file, &mut events) {
                if len == 0 {
                    break;
                }
                pressed |= events[..len].chunks_exact(EVENT_BYTES).any(is_press);
            }
        }
        pressed
    }
}

fn read(file: &mut File, events: &mut [u8]) -> io::Result<usize> {
    file.read(events)
}

fn is_press(event: &[u8]) -> bool {
    let number = |at: usize| u16::from_le_bytes([event[at], event[at + 1]]);
    number(16) == EV_KEY && number(18) == KEY_POWER && event[20..24] == 1_i32.to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_power_key_going_down_counts() {
        let event = |kind: u16, code: u16, value: i32| {
            let mut event = vec![0; 16];
            event.extend(kind.to_le_bytes());
            event.extend(code.to_le_bytes());
            event.extend(value.to_le_bytes());
            event
        };
        assert!(is_press(&event(EV_KEY, KEY_POWER, 1)));
        assert!(!is_press(&event(EV_KEY, KEY_POWER, 0)), "it goes up");
        assert!(!is_press(&event(EV_KEY, 30, 1)), "another key");
        assert!(!is_press(&event(0, KEY_POWER, 1)), "no key");
    }
}
