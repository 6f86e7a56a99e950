//! The bundle that brings a release to machines that run: see `src/machine/bundle.rs` of `cairn`,
//! which reads it.

use std::io::Cursor;
use std::path::Path;

use minisign::{KeyPair, SecretKeyBox};
use serde::Serialize;

use crate::slot::Slot;
use crate::tool;

const MAGIC: &[u8; 8] = b"CAIRNUP1";
const MISSING: &str = "the program does not say its version and log formats";

#[derive(Serialize)]
struct Manifest<'a> {
    version: &'a str,
    floor: &'a str,
    log: &'a toml::Value,
    boot: Part,
    root: Part,
}

#[derive(Serialize)]
struct Part {
    bytes: u64,
    sha256: String,
}

impl Part {
    fn of(bytes: &[u8]) -> Part {
        Part {
            bytes: bytes.len() as u64,
            sha256: tool::sha256(bytes),
        }
    }
}

/// A bundle of a slot, signed with the secret key in a file of `minisign` that has no password.
/// `release` is what the program says of itself.
pub fn make(slot: &Slot, release: &str, key: &Path) -> Result<Vec<u8>, String> {
    let text = String::from_utf8(tool::read(key)?).map_err(|error| error.to_string())?;
    let key = SecretKeyBox::from_string(&text)
        .and_then(|sealed| sealed.into_unencrypted_secret_key())
        .map_err(|error| format!("the key cannot be used: {error}"))?;
    let release: toml::Table = toml::from_str(release).map_err(|error| error.to_string())?;
    let text = |name: &str| release.get(name).and_then(toml::Value::as_str);
    let manifest = Manifest {
        version: text("version").ok_or(MISSING)?,
        floor: text("floor").ok_or(MISSING)?,
        log: release.get("log").ok_or(MISSING)?,
        boot: Part::of(&slot.boot),
        root: Part::of(&slot.root),
    };
    let manifest = toml::to_string(&manifest).map_err(|error| error.to_string())?;
    let signature = minisign::sign(
        None,
        &key,
        Cursor::new(&manifest),
        Some("Cairn"),
        Some("signature of a bundle of Cairn"),
    )
    .map_err(|error| format!("cannot sign: {error}"))?
    .into_string();
    let mut bundle = MAGIC.to_vec();
    for part in [signature.as_bytes(), manifest.as_bytes()] {
        let len = u32::try_from(part.len()).map_err(|error| error.to_string())?;
        bundle.extend(len.to_le_bytes());
        bundle.extend(part);
    }
    bundle.extend(&slot.boot);
    bundle.extend(&slot.root);
    Ok(bundle)
}

/// The formats of the log that a program reads: the first and the last.
pub fn reads(release: &str) -> Result<(u32, u32), String> {
    let release: toml::Table = toml::from_str(release).map_err(|error| error.to_string())?;
    let number = |name: &str| {
        let number = release.get("log")?.get(name)?.as_integer()?;
        u32::try_from(number).ok()
    };
    let reads = number("reads_from").zip(number("reads_to"));
    reads.ok_or_else(|| MISSING.to_owned())
}

/// A new pair of keys: secret (a file's text) and public (one line of base64).
pub fn keys() -> Result<(String, String), String> {
    let told = |error: minisign::PError| format!("cannot make keys: {error}");
    let pair = KeyPair::generate_unencrypted_keypair().map_err(told)?;
    let secret = pair.sk.to_box(None).map_err(told)?.to_string();
    Ok((secret, pair.pk.to_base64()))
}
