//! What PID 1 leaves behind when it ends a boot itself, and tells of the boot before.

use std::any::Any;
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Mutex;

use super::Init;
use crate::machine::last_words::{self, KERNEL_LOG};
use crate::machine::time::clock;
use crate::stanza::time::to_datetime;
use crate::store::disk::FileDevice;

/// Where and why PID 1 panicked: only the hook is told where.
static PANIC: Mutex<Option<String>> = Mutex::new(None);

impl Init {
    /// Runs for ever. A panic ends PID 1, and so the kernel, as ever; but first it is written down.
    pub(super) fn run(&mut self) -> ! {
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if let Ok(mut place) = PANIC.lock() {
                *place = Some(info.to_string());
            }
            told(info);
        }));
        let turns = AssertUnwindSafe(|| {
            self.start_server();
            loop {
                self.turn();
            }
        });
        let Err(panic): Result<(), Box<dyn Any + Send>> = catch_unwind(turns) else {
            unreachable!("turns go on for ever");
        };
        let place = PANIC.lock().ok().and_then(|mut place| place.take());
        self.leave_last_words(&format!("PID 1 {}", place.unwrap_or_default()));
        resume_unwind(panic)
    }

    /// Keeps why this boot ends, behind the store, for the next one to tell. What cannot be kept is
    /// told at once, on a console that may be nobody's.
    pub(super) fn leave_last_words(&mut self, why: &str) {
        let kernel = last_words::kernel_log(Path::new(KERNEL_LOG));
        let kernel = kernel.iter().map(String::as_str);
        let text = last_words::text(why, self.console.lines(), kernel);
        let at_ms = u64::try_from(clock::now_ns() / 1_000_000).unwrap_or(0);
        let Some(device) = self.data_device() else {
            return;
        };
        match device.and_then(|device| last_words::leave(&device, at_ms, &text)) {
            Ok(true) => self.say("why is kept for the next start"),
            Ok(false) => {}
            Err(error) => self.say(&format!("why cannot be kept for the next start: {error}")),
        }
    }

    /// Tells what the boot before this one left, once.
    pub(super) fn tell_last_words(&mut self) {
        let Some(device) = self.data_device() else {
            return;
        };
        match device.and_then(|device| last_words::take(&device)) {
            Ok(None) => {}
            Ok(Some(words)) => {
                let (at, ends) = (to_datetime(words.at_ms), words.count);
                self.say(&format!(
                    "a boot ended by itself at {at} ({ends} did so on this disk)"
                ));
                for line in words.lines() {
                    self.say(&format!("that boot: {line}"));
                }
            }
            Err(error) => self.say(&format!("cannot read what an earlier boot left: {error}")),
        }
    }

    fn data_device(&self) -> Option<io::Result<FileDevice>> {
        let device = self.data.as_ref()?.try_clone();
        Some(device.and_then(|device| FileDevice::of_file(File::from(device))))
    }
}
