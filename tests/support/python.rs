//! Real clients: Python scripts with libraries from PyPI, and programs of the distribution.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The Python that has the libraries, or `None` where a developer has not set them up. With
/// `CI=true` they must be there.
pub fn interpreter() -> Option<PathBuf> {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/python");
    let path = std::env::var_os("CAIRN_PYTHON").map_or(default, PathBuf::from);
    available(
        path.exists().then_some(path),
        "a Python with slixmpp, scramp and pyOpenSSL",
    )
}

/// A program of the distribution, under the same rule.
pub fn program(name: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths)
        .map(|directory| directory.join(name))
        .find(|path| path.exists());
    available(found, name)
}

fn available(found: Option<PathBuf>, what: &str) -> Option<PathBuf> {
    if found.is_none() {
        let must = std::env::var("CI").is_ok_and(|value| value == "true");
        assert!(!must, "{what} is missing; ./dev test installs it");
        eprintln!("SKIPPED: {what} is missing; ./dev test installs it");
    }
    found
}

/// Runs a script of `tests/clients` to its end; its exit code tells whether all went well.
#[track_caller]
pub fn run(script: &str, arguments: &[&str]) {
    let Some(python) = interpreter() else { return };
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/clients")
        .join(script);
    let output = Command::new(python)
        .arg(path)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("Python runs");
    assert!(
        output.status.success(),
        "{script} {}\n{}{}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
}
