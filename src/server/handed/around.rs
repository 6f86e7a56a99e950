//! PID 1 as the server's commands see it: [`Machine`] over the line.

use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::machine::link::{Line, ToMachine};
use crate::machine::status::MachineStatus;
use crate::service::machine::Machine;

/// PID 1 writes the slot as a bundle comes in, and reads it back at the end.
const DONE_WITHIN: Duration = Duration::from_secs(300);
/// It takes what was sent, whatever it thinks of it.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);
/// Of a bundle in one piece.
const PIECE_BYTES: usize = 64 * 1024;

/// Everything that PID 1 may be asked, and its answers.
pub(super) struct Around {
    line: Arc<Line>,
    orders: Mutex<Orders>,
    answers: Sender<Answer>,
    status: Mutex<MachineStatus>,
}

/// One order at a time.
struct Orders {
    upload: UnixStream,
    answers: Receiver<Answer>,
}

/// What PID 1 says to an order.
pub(super) enum Answer {
    /// It was done, or not.
    Done(Result<String, String>),
    /// What was sent of a bundle is gone.
    Dropped,
}

impl Around {
    pub(super) fn new(
        line: Arc<Line>,
        upload: OwnedFd,
        status: MachineStatus,
    ) -> io::Result<Around> {
        let upload = UnixStream::from(upload);
        // So that a bundle that is refused in the middle is noticed.
        upload.set_write_timeout(Some(Duration::from_secs(1)))?;
        let (sender, answers) = channel();
        Ok(Around {
            line,
            orders: Mutex::new(Orders { upload, answers }),
            answers: sender,
            status: Mutex::new(status),
        })
    }

    /// PID 1 has answered.
    pub(super) fn heard(&self, answer: Answer) {
        // The receiver lives as long as this.
        drop(self.answers.send(answer));
    }

    /// PID 1 has told how the machine is. Returns how it was before.
    pub(super) fn is(&self, status: MachineStatus) -> MachineStatus {
        let mut known = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut known, status)
    }

    fn orders(&self) -> Result<MutexGuard<'_, Orders>, String> {
        let orders = self.orders.try_lock();
        let orders = orders.map_err(|_| "the machine is busy with another order".to_owned())?;
        // An answer that came too late for whoever asked.
        while orders.answers.try_recv().is_ok() {}
        Ok(orders)
    }

    fn send(&self, message: &ToMachine) -> Result<(), String> {
        let sent = self.line.send(message);
        sent.map_err(|error| format!("PID 1 does not listen: {error}"))
    }

    /// Sends the bundle; `Some` when PID 1 answers before its end.
    fn send_bundle(
        orders: &Orders,
        body: &mut dyn Read,
        bytes: u64,
    ) -> Result<Option<Answer>, String> {
        let mut body = body.take(bytes);
        let mut piece = vec![0; PIECE_BYTES];
        let mut sent = 0;
        loop {
            let len = body
                .read(&mut piece)
                .map_err(|error| format!("the bundle was broken off: {error}"))?;
            if len == 0 {
                break;
            }
            let mut rest = &piece[..len];
            while !rest.is_empty() {
                if let Ok(answer) = orders.answers.try_recv() {
                    return Ok(Some(answer));
                }
                match (&orders.upload).write(rest) {
                    Ok(written) => rest = &rest[written..],
                    Err(error)
                        if matches!(
                            error.kind(),
                            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                        ) => {}
                    Err(error) => return Err(format!("PID 1 takes no bundle: {error}")),
                }
            }
            sent += len as u64;
        }
        match sent == bytes {
            true => Ok(None),
            false => Err(format!("the bundle ends after {sent} of {bytes} bytes")),
        }
    }

    /// Has PID 1 forget what came of a bundle, so that the next one begins at its beginning.
    fn drop_bundle(&self, orders: &Orders) {
        if self.send(&ToMachine::DropUpload).is_err() {
            return;
        }
        while let Ok(answer) = orders.answers.recv_timeout(TAKEN_WITHIN) {
            if matches!(answer, Answer::Dropped) {
                return;
            }
        }
        tracing::warn!("PID 1 still holds parts of a bundle");
    }
}

fn done(orders: &Orders) -> Result<String, String> {
    loop {
        match orders.answers.recv_timeout(DONE_WITHIN) {
            Ok(Answer::Done(outcome)) => return outcome,
            Ok(Answer::Dropped) => {}
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                return Err("PID 1 has not answered: look at the console".to_owned());
            }
        }
    }
}

impl Machine for Around {
    fn status(&self) -> MachineStatus {
        let status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.clone()
    }

    fn reboot(&self) -> Result<(), String> {
        self.send(&ToMachine::Reboot)
    }

    fn rollback(&self) -> Result<(), String> {
        let orders = self.orders()?;
        self.send(&ToMachine::Rollback)?;
        let said = done(&orders)?;
        tracing::info!("{said}");
        self.send(&ToMachine::Reboot)
    }

    fn upgrade(&self, body: &mut dyn Read, bytes: u64) -> Result<String, String> {
        let orders = self.orders()?;
        self.send(&ToMachine::Upgrade { bytes })?;
        let outcome = match Self::send_bundle(&orders, body, bytes) {
            Ok(Some(Answer::Done(outcome))) => outcome,
            Ok(Some(Answer::Dropped) | None) => done(&orders),
            Err(why) => Err(why),
        };
        if outcome.is_err() {
            self.drop_bundle(&orders);
        }
        outcome.map(|said| format!("{said}: `cairn reboot`"))
    }

    fn show_claim_code(&self, code: Option<&str>) {
        let notice = ToMachine::Notice {
            name: "claim code".to_owned(),
            text: code.unwrap_or_default().to_owned(),
        };
        super::tell(&self.line, &notice);
    }
}
