//! Programs that the builder uses, and files.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

/// Runs a program; the error says which, and what it printed.
pub fn run(command: &mut Command) -> Result<String, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .env("SOURCE_DATE_EPOCH", "1")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run {name}: {error}; `./dev` installs what is needed"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{name} failed: {}", said.trim()))
}

/// What a program prints, whatever its exit code; nothing where it cannot be run.
pub fn said(command: &mut Command) -> String {
    let output = command.env("LC_ALL", "C").stdin(Stdio::null()).output();
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

/// The versions of the tools, by the names of Debian's packages.
#[derive(Debug)]
pub enum Versions {
    /// What dpkg says.
    Installed,
    /// What a file says.
    Named(BTreeMap<String, String>),
}

impl Versions {
    /// Those of the file, or the installed ones without a file.
    pub fn read(file: Option<&Path>) -> Result<Versions, String> {
        let Some(file) = file else {
            return Ok(Versions::Installed);
        };
        serde_json::from_slice(&read(file)?)
            .map(Versions::Named)
            .map_err(|error| format!("{}: {error}", file.display()))
    }

    /// The version of a package; `unknown` where nobody knows.
    pub fn of(&self, name: &str) -> String {
        match self {
            Versions::Installed => package(name),
            Versions::Named(versions) => versions
                .get(name)
                .cloned()
                .unwrap_or_else(|| "unknown".to_owned()),
        }
    }
}

/// The version of a Debian package; `unknown` elsewhere.
pub fn package(name: &str) -> String {
    run(Command::new("dpkg-query").args(["-W", "-f", "${Version}", name]))
        .unwrap_or_else(|_| "unknown".to_owned())
}

/// Reads a file.
pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// Writes a file.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    fs::write(path, bytes).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// The program that is run by this name.
pub fn find(name: &str) -> Result<PathBuf, String> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| format!("{name} is missing; `./dev` installs what is needed"))
}

/// The SHA-256 sum of a file, which may be a compiler of some hundred megabytes.
pub fn file_sha256(path: &Path) -> Result<String, String> {
    let told = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let mut file = fs::File::open(path).map_err(told)?;
    let mut sum = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece).map_err(told)? {
            0 => return Ok(hexadecimal(&sum.finalize())),
            read => sum.update(&piece[..read]),
        }
    }
}

/// The SHA-256 sum in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// Two digits a byte.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The file that says what another one is made of: its name and `.json`.
pub fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".json");
    name.into()
}

/// Reads that file, if it is there.
pub fn read_made<T: serde::de::DeserializeOwned + Default>(path: &Path) -> Result<T, String> {
    let path = beside(path);
    if !path.exists() {
        return Ok(T::default());
    }
    serde_json::from_slice(&read(&path)?).map_err(|error| format!("{}: {error}", path.display()))
}

/// Writes it.
pub fn write_made(path: &Path, made: &impl serde::Serialize) -> Result<(), String> {
    let json = serde_json::to_vec_pretty(made).map_err(|error| error.to_string())?;
    write(&beside(path), &json)
}

/// Writes a file that only its owner reads.
pub fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), String> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    file.and_then(|mut file| file.write_all(bytes))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_versions_stands_for_what_is_installed() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("versions.json");
        fs::write(&file, r#"{"grub-pc-bin": "2.12"}"#).expect("it is written");
        let versions = Versions::read(Some(&file)).expect("they are read");
        assert_eq!(versions.of("grub-pc-bin"), "2.12");
        assert_eq!(versions.of("erofs-utils"), "unknown");
    }
}
