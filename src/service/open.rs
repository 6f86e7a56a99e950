//! Opening the store that the configuration names: the file, its lock, the log.

use std::fmt;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use ring::rand::{SecureRandom, SystemRandom};

use super::report;
use crate::config::Config;
use crate::store::disk::{Access, Device, FileDevice};
use crate::store::log::Options;
use crate::store::{Formats, OpenError, Recovery, Store, StoreLimits};

/// An open store, and what opening it found.
pub struct Opened {
    /// The store.
    pub store: Store,
    /// What was found.
    pub recovery: Recovery,
    /// The page cache is left out of it.
    pub is_direct: bool,
}

/// Why a store was not opened.
#[derive(Debug)]
pub enum OpenFailure {
    /// Another process has it open.
    Locked,
    /// There is none.
    Missing,
    /// One sentence for the operator.
    Unusable(String),
}

/// Opens the store; with [`Access::Create`] a missing one is created, its folder
/// too; with [`Access::Read`] nothing is ever written, whatever recovery finds.
pub fn open(config: &Config, access: Access, now_ms: u64) -> Result<Opened, OpenFailure> {
    let options = Options {
        read_only: access == Access::Read,
        ..Options::default()
    };
    open_with(config, access, options, now_ms)
}

/// Opens a store of which no checkpoint or not the end can be read, with what there
/// is. One that can be opened otherwise is opened as ever.
pub fn salvage(config: &Config, now_ms: u64) -> Result<Opened, OpenFailure> {
    let options = Options {
        salvage: true,
        ..Options::default()
    };
    open_with(config, Access::Write, options, now_ms)
}

/// Opens the store on a device that is open already; `name` is what people call it. No newer format
/// than `writes` is written, if the log does not have one already.
pub fn open_device(
    device: FileDevice,
    name: &str,
    writes: u16,
    limits: StoreLimits,
    now_ms: u64,
) -> Result<Opened, OpenFailure> {
    let options = Options {
        formats: Formats::writing(writes),
        ..Options::default()
    };
    recover(device, name, options, limits, now_ms)
}

fn open_with(
    config: &Config,
    access: Access,
    options: Options,
    now_ms: u64,
) -> Result<Opened, OpenFailure> {
    let path = &config.store.path;
    if access == Access::Create {
        make_folder(path)?;
    }
    let device = FileDevice::open(path, access).map_err(|error| explain(path, &error))?;
    if options.read_only && device.is_empty() {
        return Err(OpenFailure::Missing);
    }
    let name = path.display().to_string();
    recover(device, &name, options, config.limits.store(), now_ms)
}

fn recover(
    device: FileDevice,
    name: &str,
    mut options: Options,
    limits: StoreLimits,
    now_ms: u64,
) -> Result<Opened, OpenFailure> {
    let is_direct = device.is_direct();
    SystemRandom::new()
        .fill(&mut options.random)
        .map_err(|_| OpenFailure::Unusable("the kernel gives no random bytes".to_owned()))?;
    let (store, recovery) =
        Store::open(Arc::new(device), options, limits, now_ms).map_err(|error| {
            let advice = match &error {
                OpenError::Unreadable(_) => {
                    "; `cairn store salvage --help` says what is left to do"
                }
                _ => "",
            };
            OpenFailure::Unusable(format!("{name}: {error}{advice}"))
        })?;
    Ok(Opened {
        store,
        recovery,
        is_direct,
    })
}

impl Opened {
    /// Tells the operator what was found.
    pub fn report(&self) {
        let recovery = &self.recovery;
        if recovery.created {
            tracing::info!("a new store was created");
        } else {
            tracing::info!(
                clean = recovery.clean,
                records = recovery.records,
                checkpointed = recovery.items,
                "the store was read"
            );
        }
        if let Some(before) = recovery.raised_from {
            tracing::info!(
                "the log was raised from format {before} to {}: versions that do not know that cannot read it any more",
                recovery.format
            );
        }
        if !self.is_direct {
            tracing::info!(
                "the file system of the store has no O_DIRECT: after a disk error its cache may lie"
            );
        }
        if let Some(dropped) = &recovery.dropped {
            tracing::warn!(
                bytes = dropped.bytes,
                "an incomplete write at the end of the log was dropped; nobody was told it was accepted"
            );
        }
        for damage in &recovery.damage {
            tracing::error!("{}; the rest is served", report::damage(damage));
        }
        if recovery.invalid > 0 {
            tracing::error!(
                records = recovery.invalid,
                "records could not be understood"
            );
        }
        if recovery.salvaged {
            tracing::error!(
                "no checkpoint or not the end of the log could be read: what was removed lately may be back"
            );
        }
    }
}

fn make_folder(path: &Path) -> Result<(), OpenFailure> {
    let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    else {
        return Ok(());
    };
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| {
        OpenFailure::Unusable(format!("cannot create {}: {error}", folder.display()))
    })
}

fn explain(path: &Path, error: &io::Error) -> OpenFailure {
    let advice = match error.kind() {
        io::ErrorKind::WouldBlock => return OpenFailure::Locked,
        io::ErrorKind::NotFound => return OpenFailure::Missing,
        io::ErrorKind::PermissionDenied => "run as the user who owns it",
        _ => "check [store] path",
    };
    OpenFailure::Unusable(format!(
        "cannot open the store {}: {error}; {advice}",
        path.display()
    ))
}

impl fmt::Display for OpenFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked => f.write_str("another process has the store open: stop it first"),
            Self::Missing => f.write_str(
                "there is no store yet: `cairn serve` or `cairn user add` creates it, \
                 or set [store] path",
            ),
            Self::Unusable(sentence) => f.write_str(sentence),
        }
    }
}

impl std::error::Error for OpenFailure {}
