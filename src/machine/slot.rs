//! The two slots, and what the boot loader says about this boot on the kernel's command line.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One of the two places that hold a kernel and a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// Partitions 4 and 5.
    A,
    /// Partitions 6 and 7.
    B,
}

impl Slot {
    /// The one that is not this.
    #[must_use]
    pub fn other(self) -> Slot {
        match self {
            Slot::A => Slot::B,
            Slot::B => Slot::A,
        }
    }

    /// `a` or `b`.
    pub fn parse(text: &str) -> Option<Slot> {
        match text {
            "a" => Some(Slot::A),
            "b" => Some(Slot::B),
            _ => None,
        }
    }

    /// As the boot loader calls it.
    pub fn name(self) -> &'static str {
        match self {
            Slot::A => "a",
            Slot::B => "b",
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How this boot came about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Boot {
    /// The slot that runs; `None` where no boot loader of ours started the kernel.
    pub slot: Option<Slot>,
    /// Attempts that are left to this slot, after this one.
    pub left: u8,
    /// The other slot was tried before and did not boot.
    pub fell_back: bool,
    /// The boot loader could write down that it spent an attempt.
    pub saved: bool,
    /// The machine was started by UEFI.
    pub efi: bool,
}

impl Boot {
    /// Reads the kernel's command line: `cairn.slot`, `cairn.left`, `cairn.fb`, `cairn.saved` and
    /// `cairn.firmware`. What is missing or not understood is as by default.
    pub fn parse(cmdline: &str) -> Boot {
        let value = |name: &str| {
            cmdline
                .split_ascii_whitespace()
                .filter_map(|word| word.split_once('='))
                .find_map(|(key, value)| (key == name).then_some(value))
        };
        Boot {
            slot: value("cairn.slot").and_then(Slot::parse),
            left: value("cairn.left")
                .and_then(|left| left.parse().ok())
                .unwrap_or(0),
            fell_back: value("cairn.fb") == Some("1"),
            saved: value("cairn.saved") == Some("1"),
            efi: value("cairn.firmware") == Some("efi"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_tells_how_the_boot_came_about() {
        let line = "BOOT_IMAGE=(hd0,gpt6)/vmlinuz quiet cairn.slot=b cairn.left=2 cairn.fb=1 \
                    cairn.saved=1 cairn.firmware=efi\n";
        let boot = Boot {
            slot: Some(Slot::B),
            left: 2,
            fell_back: true,
            saved: true,
            efi: true,
        };
        assert_eq!(Boot::parse(line), boot);
    }

    #[test]
    fn without_our_boot_loader_there_is_no_slot() {
        assert_eq!(Boot::parse("console=ttyS0 root=/dev/vda"), Boot::default());
        assert_eq!(Boot::parse("cairn.slot=c cairn.left=-1"), Boot::default());
    }
}
