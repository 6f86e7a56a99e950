//! A bundle: the file that brings a release to a machine.
//!
//! ```text
//! "CAIRNUP1"  u32 length of the signature  signature (minisign, text)
//!             u32 length of the manifest   manifest (TOML)
//!             the boot partition's bytes   the root partition's bytes
//! ```
//!
//! Numbers are little-endian. The signature is over the manifest, which holds lengths and SHA-256
//! sums of what follows: so nothing is parsed that was not signed, but for two lengths.

use minisign_verify::{PublicKey, Signature};
use serde::{Deserialize, Serialize};

use super::release::{LogFormats, Release, Version};

/// The first bytes of a bundle.
pub const MAGIC: [u8; 8] = *b"CAIRNUP1";
/// Bytes of a signature at most.
pub const SIGNATURE_MAX: u32 = 1024;
/// Bytes of a manifest at most.
pub const MANIFEST_MAX: u32 = 16 * 1024;
/// Bytes of a boot partition.
pub const BOOT_BYTES: u64 = 32 << 20;
/// Bytes of a root partition.
pub const ROOT_BYTES: u64 = 128 << 20;

/// What a bundle holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of the release.
    pub version: String,
    /// No release below this one may follow it.
    pub floor: String,
    /// Formats of the log that it deals with.
    pub log: LogFormats,
    /// What goes to the boot partition of a slot.
    pub boot: Part,
    /// What goes to the root partition of a slot.
    pub root: Part,
}

/// Bytes that follow the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// How many.
    pub bytes: u64,
    /// Their SHA-256 sum, in hexadecimal.
    pub sha256: String,
}

/// Verifies the signature with any of the keys and reads the manifest; the error is a sentence for
/// the operator.
pub fn open(signature: &[u8], manifest: &[u8], keys: &[String]) -> Result<Manifest, String> {
    let signature = std::str::from_utf8(signature)
        .ok()
        .and_then(|text| Signature::decode(text).ok())
        .ok_or("the bundle has no signature that can be read")?;
    let signed = keys.iter().any(|key| {
        PublicKey::from_base64(key).is_ok_and(|key| key.verify(manifest, &signature, false).is_ok())
    });
    if !signed {
        return Err("the bundle is not signed by a key that this machine trusts".to_owned());
    }
    Manifest::parse(manifest)
}

impl Manifest {
    /// Reads a manifest whose signature was verified; the error is a sentence for the operator.
    pub fn parse(manifest: &[u8]) -> Result<Manifest, String> {
        let manifest: Manifest = std::str::from_utf8(manifest)
            .ok()
            .and_then(|text| toml::from_str(text).ok())
            .ok_or("the bundle's manifest is of a kind that this release does not know")?;
        let fits = |part: &Part, most| {
            part.bytes > 0 && part.bytes <= most && part.bytes.is_multiple_of(512)
        };
        if !fits(&manifest.boot, BOOT_BYTES) || !fits(&manifest.root, ROOT_BYTES) {
            return Err("the bundle does not fit into a slot".to_owned());
        }
        Ok(manifest)
    }

    /// Whether it may follow what runs, on a log of this format; the error is a sentence for the
    /// operator.
    pub fn may_follow(&self, running: &Release, format: u32) -> Result<(), String> {
        if Version::parse(&self.floor).is_none() {
            return Err(format!("{} is no version", self.floor));
        }
        let version = Version::parse(&self.version);
        if version.is_none() || version < Version::parse(&running.floor) {
            return Err(format!(
                "version {} is below {}, the oldest that may follow {}",
                self.version, running.floor, running.version
            ));
        }
        if !self.log.reads(format) {
            return Err(format!(
                "version {} cannot read the data of this machine: they have format {format}, and it \
                 reads up to {}",
                self.version, self.log.reads_to
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn manifest() -> Manifest {
        let part = Part {
            bytes: 512,
            sha256: "0".repeat(64),
        };
        Manifest {
            version: "0.2.0".to_owned(),
            floor: "0.1.0".to_owned(),
            log: LogFormats::OURS,
            boot: part.clone(),
            root: part,
        }
    }

    pub fn release() -> Release {
        Release {
            version: "0.2.0".to_owned(),
            floor: "0.1.5".to_owned(),
            log: LogFormats::OURS,
            keys: Vec::new(),
            kernel: String::new(),
        }
    }

    #[test]
    fn a_release_below_the_floor_does_not_follow() {
        let with = |version: &str| Manifest {
            version: version.to_owned(),
            ..manifest()
        };
        for version in ["0.1.5", "0.1.9", "0.2.0", "1.0.0"] {
            with(version).may_follow(&release(), 1).expect(version);
        }
        for version in ["0.1.4", "0.0.9", "", "newest"] {
            with(version).may_follow(&release(), 1).expect_err(version);
        }
    }

    #[test]
    fn a_release_that_cannot_read_the_data_does_not_follow() {
        let mut offered = manifest();
        offered.log = LogFormats {
            reads_from: 2,
            reads_to: 3,
            writes: 3,
        };
        for format in [2, 3] {
            offered.may_follow(&release(), format).expect("it reads it");
        }
        for format in [1, 4] {
            let said = offered.may_follow(&release(), format);
            let said = said.expect_err("it does not read it");
            let why = format!("cannot read the data of this machine: they have format {format}");
            assert!(said.contains(&why), "{said}");
        }
    }
}
