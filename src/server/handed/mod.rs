//! The server as a child of PID 1: what it works with was handed to it, its configuration comes
//! from its store or from PID 1, and PID 1 hears how it is.

mod alive;
mod around;
mod chosen;
mod sockets;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;

use tokio_util::sync::CancellationToken;

use self::around::{Answer, Around};
use self::chosen::{Choice, Chosen};
use self::sockets::{Asked, Given};
use super::{Failure, Kept, now_ms, settings};
use crate::config::{Config, DataDisk, Machine};
use crate::machine::link::{Line, Opened, ToMachine, ToServer};
use crate::machine::source::Found;
use crate::machine::status::MachineStatus;
use crate::service::log_ring::LogRing;
use crate::service::open;
use crate::service::operator::Operator;
use crate::store::State;
use crate::store::disk::FileDevice;

/// What PID 1 hands over.
#[derive(Debug)]
pub struct Handed {
    /// The line to PID 1.
    pub line: OwnedFd,
    /// The device of the store.
    pub data: OwnedFd,
    /// Where bundles go.
    pub upload: OwnedFd,
}

/// Serves until PID 1 says that it should stop. The error is a sentence for the operator.
pub fn run(handed: Handed, log: Arc<LogRing>) -> Result<(), String> {
    let line = Arc::new(Line::of(handed.line));
    let ToServer::Start(start) = line.receive().map_err(|error| lost(&error))? else {
        return Err("PID 1 says something else than how to start".to_owned());
    };
    let machine = Machine::measure();
    let limits = Config::of_domain("localhost", &machine).limits.store();
    let opened = FileDevice::of_file(File::from(handed.data))
        .map_err(|error| format!("cannot use {}: {error}", start.data))
        .and_then(|device| {
            open::open_device(device, &start.data, start.writes, limits, now_ms())
                .map_err(|error| error.to_string())
        });
    let opened = match opened {
        Ok(opened) => opened,
        Err(why) => return wait_for_a_person(&line, &why),
    };
    let kept = chosen::kept(&opened.store, &machine);
    let counts = kept.is_some() && chosen::is_claimed(&opened.store);
    let told = Opened {
        has_configuration: counts,
        newest_ms: opened.recovery.newest_ms,
    };
    tell(&line, &ToMachine::Opened(Box::new(told)));
    let choice = match kept {
        Some(kept) if counts => kept,
        kept => chosen::wait(&line, kept, &machine)?,
    };
    let Some((chosen, serves)) = settle(choice, &line, &opened, start.on_system_disk)? else {
        return Ok(());
    };
    let around = Around::new(line.clone(), handed.upload, start.status.clone())
        .map_err(|error| format!("cannot use the way for bundles: {error}"))?;
    let (given, asked) = sockets::pair(line.clone());
    let served = Served {
        line,
        given,
        around: Arc::new(around),
        chosen,
        serves,
        machine,
    };
    tracing::info!(version = %start.release.version, data = %start.data, "the server starts");
    if start.status.clock_is_wrong {
        tell_wrong_clock();
    }
    serve(&Arc::new(served), opened, asked, log)
}

/// Keeps what was chosen and tells PID 1. What it serves by, if by anything, and whether not only
/// administrators are served; `None` where it is to end instead.
fn settle(
    choice: Choice,
    line: &Line,
    opened: &open::Opened,
    on_system_disk: bool,
) -> Result<Option<(Option<Chosen>, bool)>, String> {
    match choice {
        Choice::Stop => Ok(None),
        Choice::Nothing(why, plan) => {
            let keeping = chosen::keep_network(&opened.store, &plan);
            keeping.map_err(|error| format!("cannot keep the network: {error}"))?;
            tell(line, &ToMachine::Waiting(why));
            Ok(Some((None, false)))
        }
        Choice::Repair(left, why) => {
            tell(line, &ToMachine::Configured(Box::new(left.told())));
            tell(line, &ToMachine::Unusable(why));
            Ok(Some((Some(*left), false)))
        }
        Choice::Use(chosen) => {
            if chosen.config.data == DataDisk::SecondDisk && on_system_disk {
                let is_empty = |state: &State| state.account_count() == 0 || state.is_restoring();
                if opened.store.read(is_empty) {
                    tell(line, &ToMachine::SecondDisk);
                    return wait_to_stop(line).map(|()| None);
                }
                tracing::warn!("the data stay on the system disk: there are accounts already");
            }
            let keeping = chosen.keep(&opened.store);
            keeping.map_err(|error| format!("cannot keep the configuration: {error}"))?;
            tell(line, &ToMachine::Configured(Box::new(chosen.told())));
            Ok(Some((Some(*chosen), true)))
        }
    }
}

/// What a server that serves knows of where it is.
struct Served {
    line: Arc<Line>,
    given: Given,
    around: Arc<Around>,
    /// `None`: the machine can only be claimed.
    chosen: Option<Chosen>,
    /// Not only administrators.
    serves: bool,
    machine: Machine,
}

fn serve(
    served: &Arc<Served>,
    mut opened: open::Opened,
    sockets: Asked,
    log: Arc<LogRing>,
) -> Result<(), String> {
    let config = match &served.chosen {
        Some(chosen) => chosen.config.clone(),
        None => chosen::of_nobody(&served.machine),
    };
    opened.store.set_limits(config.limits.store());
    let stop = CancellationToken::new();
    let (line, serves) = (served.line.clone(), served.serves);
    let start = super::Start {
        kept: match served.chosen {
            Some(_) => Kept::Chosen,
            None => Kept::Nowhere,
        },
        store: Some(opened),
        stop: stop.clone(),
        sockets: Box::new(sockets),
        listening: Box::new(move |core, addresses| {
            let (core, addresses) = (Arc::downgrade(core), addresses.to_vec());
            let reporting = move || alive::report(&line, &core, &addresses, serves);
            if let Err(error) = spawn("alive", reporting) {
                tracing::error!(%error, "nobody tells PID 1 that the server is alive");
            }
        }),
        machine: Some(served.around.clone()),
        log: Some(log),
        ..super::Start::as_process(config)
    };
    let hearing = served.clone();
    let done = super::run(start, |operator| {
        let operator = operator.clone();
        spawn("line", move || hearing.hear(&operator, &stop))
    });
    done.map_err(|failure| match failure {
        Failure::Store(sentence) | Failure::Other(sentence) => sentence,
    })
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), String> {
    thread::Builder::new()
        .name(name.to_owned())
        .stack_size(256 * 1024)
        .spawn(work)
        .map(drop)
        .map_err(|error| format!("cannot start a thread: {error}"))
}

impl Served {
    /// Hears PID 1 until it says stop. Without PID 1 there is nothing to serve for.
    fn hear(&self, operator: &Operator, stop: &CancellationToken) {
        loop {
            let (message, fds) = match self.line.receive_with() {
                Ok((ToServer::Stop, _)) | Err(_) => break,
                Ok(heard) => heard,
            };
            match message {
                ToServer::Listening(outcome) => self.given.heard(outcome, fds),
                ToServer::Done(outcome) => self.around.heard(Answer::Done(outcome)),
                ToServer::UploadDropped => self.around.heard(Answer::Dropped),
                ToServer::Status(status) => self.machine_is(*status, operator),
                ToServer::Source(Some(found)) => self.consider(*found, operator),
                ToServer::Source(None) | ToServer::Start(_) | ToServer::Stop => {}
            }
        }
        self.given.none();
        stop.cancel();
    }

    /// What is decided by the clock waits until it is right.
    fn machine_is(&self, status: MachineStatus, operator: &Operator) {
        let (is_wrong, clock) = (status.clock_is_wrong, status.clock.clone());
        let was_wrong = self.around.is(status).clock_is_wrong;
        operator.core().clock_is_wrong.send_replace(is_wrong);
        match (was_wrong, is_wrong) {
            (false, true) => tell_wrong_clock(),
            (true, false) => {
                tracing::info!("the clock is right from now on: {clock}");
                let core = operator.core();
                settings::judge_certificates(&core.config, &core.store);
            }
            (true, true) | (false, false) => {}
        }
    }

    /// A configuration was found while another one counts: it is taken where there was none, or
    /// with a higher revision.
    fn consider(&self, found: Found, operator: &Operator) {
        if found.config.is_none() {
            return;
        }
        let origin = found.origin.to_string();
        let before = self.chosen.as_ref().map(|chosen| &chosen.plan);
        let new = match Chosen::found(found, before, &self.machine) {
            Ok(new) => new,
            Err(why) => {
                tracing::error!("a configuration was found that cannot be used: {why}");
                let notice = ToMachine::Notice {
                    name: "found".to_owned(),
                    text: why,
                };
                return tell(&self.line, &notice);
            }
        };
        let store = &operator.core().store;
        if let Some(chosen) = &self.chosen
            && new.config.revision <= chosen.config.revision
        {
            if new.source.toml != chosen.source.toml {
                tracing::info!(
                    "the configuration of the store counts; the one from {origin} differs, and is \
                     taken with a higher revision than {}",
                    chosen.config.revision
                );
            }
            return;
        }
        match new.keep(store) {
            Ok(()) => {
                tracing::info!(
                    "the configuration from {origin} counts from now on: starting again"
                );
                tell(&self.line, &ToMachine::Reboot);
            }
            Err(error) => tracing::error!(%error, "cannot keep the configuration from {origin}"),
        }
    }
}

fn tell_wrong_clock() {
    tracing::warn!(
        "the clock is known to be wrong: no certificate's time is judged by it, so that other \
         servers are not believed, and no certificate is asked for"
    );
}

/// Something is wrong that starting again does not mend: says so, and waits to be stopped.
fn wait_for_a_person(line: &Line, why: &str) -> Result<(), String> {
    tracing::error!("{why}");
    tell(line, &ToMachine::Waiting(why.to_owned()));
    wait_to_stop(line)
}

fn wait_to_stop(line: &Line) -> Result<(), String> {
    loop {
        if line.receive::<ToServer>().map_err(|error| lost(&error))? == ToServer::Stop {
            return Ok(());
        }
    }
}

fn tell(line: &Line, message: &ToMachine) {
    if let Err(error) = line.send(message) {
        tracing::warn!(%error, "PID 1 does not listen");
    }
}

fn lost(error: &std::io::Error) -> String {
    format!("the line to PID 1 is broken: {error}")
}
