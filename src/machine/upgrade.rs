//! Taking a bundle: verified, written to the slot that does not run, read back.
//!
//! PID 1 alone does this. It is fed the bundle's bytes as they come, keeps 64 KiB of them, and
//! touches the slot only once the signature was verified. The steps, each durable before the next:
//!
//! 1. the boot state says that the running slot is to be started and that the other one holds no
//!    proved system any more;
//! 2. the other slot's boot partition loses its first block, so it does not boot;
//! 3. the rest of both partitions is written and read back;
//! 4. the first block is written and read back;
//! 5. the boot state says that the other slot is to be tried.
//!
//! So whenever the power goes, the boot loader finds a whole system, the old or the new one.
//! `upgrade_cuts.rs` cuts behind every step.

use std::fs::File;
use std::io;

use ring::digest::{Context, SHA256};

use super::boot_state::{self, BootState};
use super::bundle::{self, MAGIC, MANIFEST_MAX, Manifest, Part, SIGNATURE_MAX};
use super::medium::Medium;
use super::release::Release;
use super::slot::Slot;

/// Bytes that are written at once, and kept back of the boot partition until the end.
const BLOCK: usize = 64 * 1024;
/// After so many bytes the medium has to keep up.
const SYNC_EVERY: u64 = 4 << 20;

/// The slot that does not run, and what names the one to start.
#[derive(Debug)]
pub struct Target<M = File> {
    /// The slot that is to be written.
    pub slot: Slot,
    /// Its boot partition.
    pub boot: M,
    /// Its root partition.
    pub root: M,
    /// The partition with the boot state.
    pub state: M,
}

/// An upgrade that is on its way.
#[derive(Debug)]
pub struct Upgrade<M = File> {
    release: Release,
    /// The format of the log that the bundle's system has to read.
    format: u32,
    target: Target<M>,
    stage: Stage,
    /// Bytes of the stage that have come and are not dealt with.
    pending: Vec<u8>,
    /// The first block of the boot partition.
    first: Vec<u8>,
}

#[derive(Debug)]
enum Stage {
    Head,
    SignatureLength,
    Signature(usize),
    ManifestLength(Vec<u8>),
    Manifest(Vec<u8>, usize),
    Boot(Manifest, Sum),
    Root(Manifest, Sum),
    Done(Manifest),
}

/// What was written of a part, and its sum so far.
struct Sum {
    written: u64,
    context: Context,
}

impl std::fmt::Debug for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sum")
            .field("written", &self.written)
            .finish()
    }
}

impl Sum {
    fn new() -> Sum {
        Sum {
            written: 0,
            context: Context::new(&SHA256),
        }
    }
}

impl<M: Medium> Upgrade<M> {
    /// Waits for the first byte of a bundle that may follow `release` and reads a log of this
    /// format.
    pub fn new(release: Release, format: u32, target: Target<M>) -> Upgrade<M> {
        Upgrade {
            release,
            format,
            target,
            stage: Stage::Head,
            pending: Vec::new(),
            first: Vec::new(),
        }
    }

    /// Takes the next bytes, of any length. After an error, a sentence for the operator, the
    /// upgrade is over, and the slot either as it was or not bootable.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() {
            let wanted = self.wanted();
            if wanted == 0 {
                return Err("the bundle goes on behind its end".to_owned());
            }
            let take = (wanted - self.pending.len()).min(bytes.len());
            self.pending.extend_from_slice(&bytes[..take]);
            bytes = &bytes[take..];
            if self.pending.len() == wanted {
                self.advance()?;
            }
        }
        Ok(())
    }

    /// All bytes have come: reads the slot back, makes it bootable, has it tried at the next start,
    /// and says what it holds.
    pub fn finish(self) -> Result<Manifest, String> {
        let Stage::Done(manifest) = &self.stage else {
            return Err("the bundle ends before its time: send it again".to_owned());
        };
        let Target { boot, root, .. } = &self.target;
        verify_written(root, &manifest.root, &[])?;
        verify_written(boot, &manifest.boot, &self.first)?;
        write(boot, 0, &self.first)?;
        sync(boot)?;
        if let Err(why) = verify_written(boot, &manifest.boot, &[]) {
            self.wipe()?;
            return Err(why);
        }
        let slot = self.target.slot;
        self.change_state(|state| state.activated(slot))?;
        Ok(manifest.clone())
    }

    /// Bytes that complete what is being gathered; 0 behind the end.
    fn wanted(&self) -> usize {
        let rest = |part: &Part, sum: &Sum| {
            usize::try_from(part.bytes - sum.written).map_or(BLOCK, |rest| rest.min(BLOCK))
        };
        match &self.stage {
            Stage::Head => MAGIC.len(),
            Stage::SignatureLength | Stage::ManifestLength(_) => 4,
            Stage::Signature(len) | Stage::Manifest(_, len) => *len,
            Stage::Boot(manifest, sum) => rest(&manifest.boot, sum),
            Stage::Root(manifest, sum) => rest(&manifest.root, sum),
            Stage::Done(_) => 0,
        }
    }

    fn advance(&mut self) -> Result<(), String> {
        let pending = std::mem::take(&mut self.pending);
        let stage = std::mem::replace(&mut self.stage, Stage::Head);
        self.stage = match stage {
            Stage::Head if pending == MAGIC => Stage::SignatureLength,
            Stage::Head => return Err("the file is no bundle of Cairn".to_owned()),
            Stage::SignatureLength => Stage::Signature(length(&pending, SIGNATURE_MAX)?),
            Stage::Signature(_) => Stage::ManifestLength(pending),
            Stage::ManifestLength(signature) => {
                Stage::Manifest(signature, length(&pending, MANIFEST_MAX)?)
            }
            Stage::Manifest(signature, _) => {
                let manifest = bundle::open(&signature, &pending, &self.release.keys)?;
                manifest.may_follow(&self.release, self.format)?;
                self.begin()?;
                Stage::Boot(manifest, Sum::new())
            }
            Stage::Boot(manifest, sum) => self.boot(manifest, sum, pending)?,
            Stage::Root(manifest, mut sum) => {
                put(&self.target.root, &mut sum, &pending)?;
                if sum.written < manifest.root.bytes {
                    Stage::Root(manifest, sum)
                } else {
                    check(&manifest.root, sum)?;
                    sync(&self.target.root)?;
                    Stage::Done(manifest)
                }
            }
            Stage::Done(manifest) => Stage::Done(manifest),
        };
        Ok(())
    }

    /// From here on the machine starts what runs, and the other slot does not boot.
    fn begin(&self) -> Result<(), String> {
        let slot = self.target.slot;
        self.change_state(|state| {
            let mut state = state.activated(slot.other());
            state.set_good(slot, false);
            state
        })?;
        self.wipe()
    }

    /// Makes the slot unbootable, durably.
    fn wipe(&self) -> Result<(), String> {
        write(&self.target.boot, 0, &vec![0; BLOCK])?;
        sync(&self.target.boot)
    }

    fn change_state(&self, change: impl FnOnce(BootState) -> BootState) -> Result<(), String> {
        let partition = &self.target.state;
        let state = boot_state::read(partition)
            .map_err(|error| format!("the boot state cannot be read: {error}"))?;
        boot_state::write(partition, &change(state))
            .map_err(|error| format!("the boot state cannot be written: {error}"))
    }

    fn boot(&mut self, manifest: Manifest, mut sum: Sum, bytes: Vec<u8>) -> Result<Stage, String> {
        if sum.written == 0 {
            sum.written = bytes.len() as u64;
            sum.context.update(&bytes);
            self.first = bytes;
        } else {
            put(&self.target.boot, &mut sum, &bytes)?;
        }
        if sum.written < manifest.boot.bytes {
            return Ok(Stage::Boot(manifest, sum));
        }
        check(&manifest.boot, sum)?;
        sync(&self.target.boot)?;
        Ok(Stage::Root(manifest, Sum::new()))
    }
}

fn length(bytes: &[u8], most: u32) -> Result<usize, String> {
    let length = bytes.try_into().map_or(0, u32::from_le_bytes);
    if length == 0 || length > most {
        return Err("the file is no bundle of Cairn".to_owned());
    }
    usize::try_from(length).map_err(|_| "the file is no bundle of Cairn".to_owned())
}

/// Writes what follows of a part.
fn put(medium: &impl Medium, sum: &mut Sum, bytes: &[u8]) -> Result<(), String> {
    write(medium, sum.written, bytes)?;
    sum.context.update(bytes);
    let before = sum.written / SYNC_EVERY;
    sum.written += bytes.len() as u64;
    if sum.written / SYNC_EVERY != before {
        sync(medium)?;
    }
    Ok(())
}

fn write(medium: &impl Medium, at: u64, bytes: &[u8]) -> Result<(), String> {
    medium
        .write_at(bytes, at)
        .map_err(|error| cannot_write(&error))
}

fn sync(medium: &impl Medium) -> Result<(), String> {
    medium.sync().map_err(|error| cannot_write(&error))
}

fn check(part: &Part, sum: Sum) -> Result<(), String> {
    if hexadecimal(sum.context.finish().as_ref()) == part.sha256 {
        return Ok(());
    }
    Err("the bundle is damaged: send it again".to_owned())
}

/// Reads a part back. `first` stands for its first bytes where they are not written yet.
fn verify_written(medium: &impl Medium, part: &Part, first: &[u8]) -> Result<(), String> {
    let mut context = Context::new(&SHA256);
    context.update(first);
    let mut at = first.len() as u64;
    let mut block = vec![0; BLOCK];
    while at < part.bytes {
        let len = usize::try_from(part.bytes - at).map_or(BLOCK, |rest| rest.min(BLOCK));
        medium
            .read_at(&mut block[..len], at)
            .map_err(|error| format!("the slot cannot be read back: {error}"))?;
        context.update(&block[..len]);
        at += len as u64;
    }
    if hexadecimal(context.finish().as_ref()) == part.sha256 {
        return Ok(());
    }
    Err("what was written to the slot does not read back: the disk may be failing".to_owned())
}

fn cannot_write(error: &io::Error) -> String {
    format!("the slot cannot be written: {error}")
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[path = "upgrade_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "upgrade_cuts.rs"]
mod cuts;
