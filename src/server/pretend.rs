//! A machine that is none, for the tests of what a server says to its machine: it writes what it is
//! told into a folder. It is there in builds with debug assertions only, and works only where the
//! environment names the folder in `CAIRN_TEST_MACHINE`.

use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;

use super::Kept;
use crate::machine::status::MachineStatus;
use crate::service::machine::Machine;

#[cfg(not(debug_assertions))]
compile_error!("a server that people use has no pretended machine");

const SWITCH: &str = "CAIRN_TEST_MACHINE";

/// Where this is set too, nothing was found that says how the machine is configured.
const UNCONFIGURED: &str = "CAIRN_TEST_UNCONFIGURED";

/// Where there is a file of this name, the clock is known to be wrong.
const CLOCK_IS_WRONG: &str = "clock-is-wrong";

/// What the store has to do with the configuration there.
pub(super) fn kept(kept: Kept) -> Kept {
    match std::env::var_os(UNCONFIGURED) {
        Some(_) => Kept::Nowhere,
        None => kept,
    }
}

struct Pretended {
    folder: PathBuf,
}

/// The machine that the environment asks for.
pub(super) fn machine() -> Option<Arc<dyn Machine>> {
    let folder = PathBuf::from(std::env::var_os(SWITCH)?);
    Some(Arc::new(Pretended { folder }))
}

impl Pretended {
    fn note(&self, name: &str, text: &str) -> Result<(), String> {
        fs::write(self.folder.join(name), text).map_err(|error| error.to_string())
    }
}

impl Machine for Pretended {
    fn status(&self) -> MachineStatus {
        MachineStatus {
            version: "pretended".to_owned(),
            slot: "a".to_owned(),
            clock_is_wrong: self.folder.join(CLOCK_IS_WRONG).exists(),
            ..MachineStatus::default()
        }
    }

    fn reboot(&self) -> Result<(), String> {
        self.note("reboot", "")
    }

    fn rollback(&self) -> Result<(), String> {
        Err("the other slot is empty: there is nothing to go back to".to_owned())
    }

    fn upgrade(&self, body: &mut dyn Read, bytes: u64) -> Result<String, String> {
        let explain = |error: io::Error| format!("the bundle was broken off: {error}");
        let mut file = fs::File::create(self.folder.join("bundle")).map_err(explain)?;
        let mut first = [0; 4];
        body.read_exact(&mut first).map_err(explain)?;
        if &first == b"BAD!" {
            return Err("the signature is wrong: nothing was written".to_owned());
        }
        let read = io::copy(&mut (&first[..]).chain(body), &mut file).map_err(explain)?;
        match read == bytes {
            true => Ok("slot b is tried at the next boot: `cairn reboot`".to_owned()),
            false => Err("the bundle was broken off: nothing was changed".to_owned()),
        }
    }

    fn show_claim_code(&self, code: Option<&str>) {
        drop(self.note("code", code.unwrap_or_default()));
    }
}
