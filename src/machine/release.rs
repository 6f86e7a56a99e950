//! What a release says of itself: in the root, as `/etc/cairn-release`, and in the manifest of a
//! bundle that brings it.

use serde::{Deserialize, Serialize};

use crate::store::formats::{NEWEST, READS};

/// Versions of the log's format that a release can deal with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogFormats {
    /// It reads all from this one …
    pub reads_from: u32,
    /// … to this one.
    pub reads_to: u32,
    /// It writes this one, where nothing that has to read the log forbids it.
    pub writes: u32,
}

impl LogFormats {
    /// What this program deals with.
    pub const OURS: LogFormats = LogFormats {
        reads_from: *READS.start() as u32,
        reads_to: *READS.end() as u32,
        writes: NEWEST as u32,
    };

    /// Whether it can read a log of this format.
    #[must_use]
    pub fn reads(&self, format: u32) -> bool {
        (self.reads_from..=self.reads_to).contains(&format)
    }
}

/// A version: three numbers, compared in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub [u32; 3]);

impl Version {
    /// Reads `1.2.3`. What stands behind a hyphen or a plus sign does not count.
    pub fn parse(text: &str) -> Option<Version> {
        let numbers = text.split(['-', '+']).next()?;
        let mut parts = numbers.split('.');
        let mut next = || parts.next()?.parse::<u32>().ok();
        let version = Version([next()?, next()?, next()?]);
        parts.next().is_none().then_some(version)
    }
}

/// The release that runs: `/etc/cairn-release`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Its version.
    pub version: String,
    /// No release below this one may follow it.
    pub floor: String,
    /// Formats of the log.
    pub log: LogFormats,
    /// Public keys (minisign, in base64) that may sign its successor.
    #[serde(default)]
    pub keys: Vec<String>,
    /// The version of its kernel.
    #[serde(default)]
    pub kernel: String,
}

impl Release {
    /// Reads the file.
    pub fn parse(text: &str) -> Result<Release, String> {
        let release: Release = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        for version in [&release.version, &release.floor] {
            Version::parse(version).ok_or_else(|| format!("{version} is no version"))?;
        }
        Ok(release)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        let version = |text| Version::parse(text).expect("a version");
        assert!(version("0.10.0") > version("0.9.12"));
        assert_eq!(version("1.2.3-rc.1"), version("1.2.3"));
        for text in ["", "1", "1.2", "1.2.3.4", "1.2.x", "-1.2.3"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_release_is_read_strictly() {
        let text = "version = \"0.1.0\"\nfloor = \"0.1.0\"\nkernel = \"6.1.192\"\n\
                    log = { reads_from = 1, reads_to = 2, writes = 2 }\nkeys = [\"RW\"]\n";
        let release = Release::parse(text).expect("a release");
        let log = LogFormats {
            reads_from: 1,
            reads_to: 2,
            writes: 2,
        };
        assert_eq!(release.log, log);
        assert!(Release::parse(&text.replace("floor = \"0.1.0\"", "floor = \"x\"")).is_err());
        assert!(Release::parse("version = \"0.1.0\"").is_err());
    }
}
