//! Taking a bundle: verified, written to the slot that does not run, read back.
//!
//! PID 1 alone does this. It is fed the bundle's bytes as they come, keeps 64 KiB of them, and
//! touches the slot only once the signature was verified. The slot's boot partition loses its
//! first block before anything else is written and gets it back at the very end: a slot that is
//! half written does not boot, whatever happens meanwhile.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use ring::digest::{Context, SHA256};

use super::bundle::{self, MAGIC, MANIFEST_MAX, Manifest, Part, SIGNATURE_MAX};
use super::release::Release;

/// Bytes that are written at once, and kept back of the boot partition until the end.
const BLOCK: usize = 64 * 1024;
/// After so many bytes the medium has to keep up.
const SYNC_EVERY: u64 = 4 << 20;

/// The partitions of the slot that does not run.
#[derive(Debug)]
pub struct Target {
    /// Its boot partition.
    pub boot: File,
    /// Its root partition.
    pub root: File,
}

/// An upgrade that is on its way.
#[derive(Debug)]
pub struct Upgrade {
    release: Release,
    target: Target,
    stage: Stage,
    /// Bytes of the stage that have come and are not dealt with.
    pending: Vec<u8>,
    /// The first block of the boot partition.
    first: Vec<u8>,
    begun: bool,
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

impl Upgrade {
    /// Waits for the first byte of a bundle that may follow `release`.
    pub fn new(release: Release, target: Target) -> Upgrade {
        Upgrade {
            release,
            target,
            stage: Stage::Head,
            pending: Vec::new(),
            first: Vec::new(),
            begun: false,
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

    /// Whether the slot has been touched: what was there does not boot any more.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// All bytes have come: reads the slot back, makes it bootable, and says what it holds.
    pub fn finish(self) -> Result<Manifest, String> {
        let Stage::Done(manifest) = &self.stage else {
            return Err("the bundle ends before its time: send it again".to_owned());
        };
        let Target { boot, root } = &self.target;
        verify_written(root, &manifest.root, &[])?;
        verify_written(boot, &manifest.boot, &self.first)?;
        boot.write_all_at(&self.first, 0)
            .and_then(|()| boot.sync_data())
            .map_err(|error| cannot_write(&error))?;
        verify_written(boot, &manifest.boot, &[])?;
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
                manifest.may_follow(&self.release)?;
                self.begun = true;
                self.begin()?;
                Stage::Boot(manifest, Sum::new())
            }
            Stage::Boot(manifest, sum) => self.boot(manifest, sum, pending)?,
            Stage::Root(manifest, mut sum) => {
                write(&self.target.root, &mut sum, &pending)?;
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

    /// Makes the slot unbootable, durably.
    fn begin(&self) -> Result<(), String> {
        let boot = &self.target.boot;
        boot.write_all_at(&vec![0; BLOCK], 0)
            .map_err(|error| cannot_write(&error))?;
        sync(boot)
    }

    fn boot(&mut self, manifest: Manifest, mut sum: Sum, bytes: Vec<u8>) -> Result<Stage, String> {
        if sum.written == 0 {
            sum.written = bytes.len() as u64;
            sum.context.update(&bytes);
            self.first = bytes;
        } else {
            write(&self.target.boot, &mut sum, &bytes)?;
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

fn write(file: &File, sum: &mut Sum, bytes: &[u8]) -> Result<(), String> {
    file.write_all_at(bytes, sum.written)
        .map_err(|error| cannot_write(&error))?;
    sum.context.update(bytes);
    let before = sum.written / SYNC_EVERY;
    sum.written += bytes.len() as u64;
    if sum.written / SYNC_EVERY != before {
        sync(file)?;
    }
    Ok(())
}

/// Durably, and out of the cache: what is read back comes from the medium.
fn sync(file: &File) -> Result<(), String> {
    file.sync_data().map_err(|error| cannot_write(&error))?;
    posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)
        .map_err(|error| cannot_write(&error.into()))
}

fn check(part: &Part, sum: Sum) -> Result<(), String> {
    if hexadecimal(sum.context.finish().as_ref()) == part.sha256 {
        return Ok(());
    }
    Err("the bundle is damaged: send it again".to_owned())
}

/// Reads a part back. `first` stands for its first bytes where they are not written yet.
fn verify_written(file: &File, part: &Part, first: &[u8]) -> Result<(), String> {
    let mut context = Context::new(&SHA256);
    context.update(first);
    let mut at = first.len() as u64;
    let mut block = vec![0; BLOCK];
    while at < part.bytes {
        let len = usize::try_from(part.bytes - at).map_or(BLOCK, |rest| rest.min(BLOCK));
        file.read_exact_at(&mut block[..len], at)
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

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[path = "upgrade_tests.rs"]
mod tests;
