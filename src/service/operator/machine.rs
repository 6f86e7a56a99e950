//! The machine around the server, and what it has logged.

use std::io::{Read, Write};
use std::time::Duration;

use super::{Operator, Refused, say};
use crate::machine::status::MachineStatus;
use crate::service::log_ring::Tail;
use crate::service::machine::Machine;

impl Operator {
    /// How the machine is.
    pub fn machine_status(&self) -> Result<MachineStatus, Refused> {
        Ok(self.machine()?.status())
    }

    pub(super) fn reboot(&self, output: &mut dyn Write) -> Result<(), Refused> {
        self.machine()?.reboot()?;
        tracing::info!("the machine starts again, as an administrator said");
        Ok(say(output, "the machine starts again")?)
    }

    pub(super) fn roll_back(&self, output: &mut dyn Write) -> Result<(), Refused> {
        self.machine()?.rollback()?;
        tracing::info!("the machine goes back to the other slot, as an administrator said");
        Ok(say(output, "the machine starts again from the other slot")?)
    }

    /// Takes a bundle of so many bytes as it arrives.
    pub(super) fn upgrade(
        &self,
        bytes: &str,
        input: &mut dyn Read,
        output: &mut dyn Write,
    ) -> Result<(), Refused> {
        let machine = self.machine()?;
        let bytes = bytes
            .parse()
            .map_err(|_| Refused::invalid("an upgrade has a length"))?;
        tracing::info!(bytes, "an upgrade begins");
        let taken = machine.upgrade(input, bytes);
        let sentence = taken.inspect_err(|error| tracing::error!(%error, "the upgrade failed"))?;
        tracing::info!("the upgrade is in place: {sentence}");
        Ok(say(output, &sentence)?)
    }

    /// Lines of the log behind number `after`, waiting for the next where there are none.
    pub fn log_behind(&self, after: u64, patience: Duration) -> Result<Tail, Refused> {
        match &self.around.log {
            Some(log) => Ok(log.behind(after, patience)),
            None => Err(Refused::conflict("this server keeps no lines of its log")),
        }
    }

    fn machine(&self) -> Result<&dyn Machine, Refused> {
        self.around
            .machine
            .as_deref()
            .ok_or_else(|| Refused::conflict("this server is not a machine of its own"))
    }
}
