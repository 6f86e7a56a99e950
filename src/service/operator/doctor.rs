//! What other servers see of this one.

use std::io::Write;
use std::sync::TryLockError;

use super::{Operator, Refused, say};
use crate::service::doctor;

impl Operator {
    /// A report as JSON. Whoever asks while it is being made is refused: it costs connections.
    pub(super) fn look_from_outside(&self, output: &mut dyn Write) -> Result<(), Refused> {
        if self.around.is_unconfigured {
            return Err(Refused::missing(
                "there is no configuration yet: claim the machine first",
            ));
        }
        let _alone = match self.looking.try_lock() {
            Ok(alone) => alone,
            Err(TryLockError::Poisoned(alone)) => alone.into_inner(),
            Err(TryLockError::WouldBlock) => {
                return Err(Refused::conflict(
                    "it is being looked at already: try again in half a minute",
                ));
            }
        };
        let machine = self.around.machine.as_deref();
        let machine = machine.map(|machine| machine.status());
        let report = doctor::run(&self.core.config, machine.as_ref())?;
        tracing::info!(
            failures = report.failures,
            warnings = report.warnings,
            "looked at what others see"
        );
        let json = serde_json::to_string(&report).expect("plain values are JSON");
        Ok(say(output, &json)?)
    }
}
