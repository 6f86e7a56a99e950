//! The program: `cairn` itself, linked statically, without a trace of where it was built.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tool;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds it from this checkout.
pub fn build() -> Result<Vec<u8>, String> {
    let root = workspace();
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root.join("target"), PathBuf::from)
        .join("image");
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))
        .ok_or("neither CARGO_HOME nor HOME says where cargo keeps its packages")?;
    let sysroot = tool::run(Command::new("rustc").args(["--print", "sysroot"]))?;
    let mut flags = vec![
        "-Ctarget-feature=+crt-static".to_owned(),
        "-Cstrip=symbols".to_owned(),
    ];
    for (from, to) in [
        (root.display().to_string(), "/cairn"),
        (home.display().to_string(), "/cargo"),
        (sysroot.trim().to_owned(), "/rust"),
    ] {
        flags.push(format!("--remap-path-prefix={from}={to}"));
    }
    let status = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(&root)
        .args([
            "build",
            "--locked",
            "--release",
            "-p",
            "cairn",
            "--target",
            TARGET,
        ])
        .arg("--target-dir")
        .arg(&target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env_remove("RUSTFLAGS")
        // What C code is compiled with says where it was, too.
        .env(
            "CFLAGS",
            format!("-ffile-prefix-map={}=/cargo -g0", home.display()),
        )
        .status()
        .map_err(|error| format!("cannot run cargo: {error}"))?;
    if !status.success() {
        return Err("the program does not build".to_owned());
    }
    tool::read(&target.join(TARGET).join("release/cairn"))
}

/// The checkout that this builder belongs to.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// What the program says of itself: the beginning of `/etc/cairn-release`.
pub fn release(binary: &[u8]) -> Result<String, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = folder.path().join("cairn");
    tool::write(&path, binary)?;
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&path, executable).map_err(|error| error.to_string())?;
    tool::run(Command::new(&path).args(["machine", "release"]))
}
