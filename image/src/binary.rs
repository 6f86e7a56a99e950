//! The program: `cairn` itself, linked statically, without a trace of where it was built.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::inputs::{self, Files, Input};
use crate::tool;

const TARGET: &str = "x86_64-unknown-linux-gnu";
/// What Rust links with, and what its packages' C code is compiled with.
const COMPILER: &str = "cc";
/// What the linker opens for a static program that may lie anywhere in memory: of the C library and
/// of the C compiler, with the licences of each.
const LINKED: [(&str, &[&str]); 2] = [
    (
        "LGPL-2.1-or-later",
        &[
            "rcrt1.o",
            "crti.o",
            "crtn.o",
            "libc.a",
            "libdl.a",
            "libm.a",
            "libpthread.a",
            "librt.a",
            "libutil.a",
        ],
    ),
    (
        "GPL-3.0-or-later WITH GCC-exception-3.1",
        &["crtbeginS.o", "crtendS.o", "libgcc.a", "libgcc_eh.a"],
    ),
];
/// Variables of the caller that would change what comes out, by how they begin: other compilers,
/// other options, another profile.
const NOT_THE_CALLERS: [&str; 16] = [
    "AR",
    "CARGO_BUILD_RUSTC",
    "CARGO_PROFILE_",
    "CARGO_TARGET_X86",
    "CC",
    "CFLAGS",
    "COMPILER_PATH",
    "CPATH",
    "CPLUS_INCLUDE_PATH",
    "C_INCLUDE_PATH",
    "GCC_EXEC_PREFIX",
    "HOST_C",
    "LIBRARY_PATH",
    "RUSTC",
    "RUSTFLAGS",
    "TARGET_C",
];

/// The program and what it is made of.
#[derive(Debug)]
pub struct Program {
    /// The file.
    pub bytes: Vec<u8>,
    /// For the SBOM.
    pub made: Made,
}

/// What a program is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// The compiler, as it says itself.
    pub rustc: String,
    /// The sum of the standard library that came with it: of a list with the sum and the name of
    /// each part.
    #[serde(default)]
    pub std_sha256: String,
    /// What compiles and links it, of Rust and of C.
    #[serde(default)]
    pub tools: Vec<Input>,
    /// What of the C library and of the C compiler is linked into it.
    #[serde(default)]
    pub linked: Vec<Input>,
    /// The packages that it is compiled from or with, of the lock file.
    pub crates: Vec<Package>,
}

/// A package of others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The sum of its archive.
    pub sha256: String,
    /// Its licence, as an SPDX expression.
    pub licence: String,
}

impl Program {
    /// One that was built before.
    pub fn read(file: &Path) -> Result<Program, String> {
        let bytes = tool::read(file)?;
        let made = tool::read_made(file)?;
        Ok(Program { bytes, made })
    }

    /// Puts it where another build can read it.
    pub fn write(&self, file: &Path) -> Result<(), String> {
        tool::write(file, &self.bytes)?;
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(file, executable).map_err(|error| error.to_string())?;
        tool::write_made(file, &self.made)
    }
}

/// Builds it from this checkout, with this feature or as it is released.
pub fn build(feature: Option<&str>) -> Result<Program, String> {
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
        // Lines are not compiled only to be stripped.
        "-Cdebuginfo=0".to_owned(),
        "-Cstrip=symbols".to_owned(),
        // A static program finds no getrandom(2) at run time, and the file that stands in for it is
        // closed to the server.
        "--cfg=getrandom_backend=\"linux_getrandom\"".to_owned(),
    ];
    for (from, to) in [
        (root.display().to_string(), "/cairn"),
        (home.display().to_string(), "/cargo"),
        (sysroot.trim().to_owned(), "/rust"),
    ] {
        flags.push(format!("--remap-path-prefix={from}={to}"));
    }
    let mut build = cargo(&root);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if NOT_THE_CALLERS.iter().any(|start| text.starts_with(start)) {
            build.env_remove(&name);
        }
    }
    let status = build
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
        .args(feature.into_iter().flat_map(|name| {
            // No release has it, and what only tests start is compiled in less time.
            let quickly = "profile.release.package.cairn.opt-level=1";
            let by_all = "profile.release.package.cairn.codegen-units=16";
            ["--features", name, "--config", quickly, "--config", by_all]
        }))
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        // What is made of a time is made of this one.
        .env("SOURCE_DATE_EPOCH", "1")
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
    Ok(Program {
        bytes: tool::read(&target.join(TARGET).join("release/cairn"))?,
        made: Made::of(&root)?,
    })
}

/// What a program of this checkout is made of, as the text of a file beside it.
pub fn made(root: &Path) -> Result<String, String> {
    serde_json::to_string_pretty(&Made::of(root)?).map_err(|error| error.to_string())
}

impl Made {
    fn of(root: &Path) -> Result<Made, String> {
        let rustc = tool::run(Command::new("rustc").arg("--version"))?;
        let rustc = rustc.trim();
        Ok(Made {
            rustc: rustc.to_owned(),
            std_sha256: standard_library()?,
            tools: inputs::tell(&tools()?, Some(("rust", rustc)))?,
            linked: linked()?,
            crates: crates(root)?,
        })
    }
}

/// Rust's compiler, its linker and cargo, the C compiler, and what they load.
fn tools() -> Result<Files, String> {
    let sysroot = tool::run(Command::new("rustc").args(["--print", "sysroot"]))?;
    let sysroot = Path::new(sysroot.trim());
    let own = sysroot.join("lib/rustlib").join(TARGET).join("bin");
    // The names on the search path may be those of a switch between several of them.
    let files = [
        sysroot.join("bin/rustc"),
        sysroot.join("bin/cargo"),
        own.join("gcc-ld/ld.lld"),
        own.join("rust-lld"),
    ];
    let there = files.into_iter().filter(|file| file.exists()).collect();
    let mut files = inputs::with_libraries(there);
    files.extend(inputs::c_compiler(COMPILER));
    Ok(files)
}

fn linked() -> Result<Vec<Input>, String> {
    let mut all = Vec::new();
    for (licence, names) in LINKED {
        let mut told = inputs::tell(&inputs::linked(COMPILER, names)?, None)?;
        for input in &mut told {
            licence.clone_into(&mut input.licence);
        }
        all.extend(told);
    }
    Ok(all)
}

fn standard_library() -> Result<String, String> {
    let mut ask = Command::new("rustc");
    ask.args(["--print", "target-libdir", "--target", TARGET]);
    let folder = tool::run(&mut ask)?;
    let folder = Path::new(folder.trim());
    let told = |error: std::io::Error| format!("cannot read {}: {error}", folder.display());
    let names = std::fs::read_dir(folder).map_err(told)?.flatten();
    let mut names: Vec<String> = names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.ends_with(".rlib"))
        .collect();
    names.sort();
    let mut text = String::new();
    for name in names {
        let sum = tool::sha256(&tool::read(&folder.join(&name))?);
        text.push_str(&format!("{sum}  {name}\n"));
    }
    Ok(tool::sha256(text.as_bytes()))
}

fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

/// What the program is compiled from and with, names and versions; not what only its tests or the
/// builder need.
fn needed(root: &Path) -> Result<BTreeSet<(String, String)>, String> {
    let tree = tool::run(
        cargo(root)
            .args(["tree", "--locked", "--package", "cairn"])
            .args(["--edges", "normal,build", "--target", TARGET])
            .args(["--prefix", "none", "--no-dedupe", "--format", "{p}"]),
    )?;
    let package = |line: &str| {
        let (name, rest) = line.split_once(" v")?;
        let version = rest.split(' ').next()?;
        Some((name.to_owned(), version.to_owned()))
    };
    Ok(tree.lines().filter_map(package).collect())
}

/// The packages of the lock file that it needs, with the licences that they give themselves.
fn crates(root: &Path) -> Result<Vec<Package>, String> {
    let lock = tool::read(&root.join("Cargo.lock"))?;
    let lock: toml::Table = toml::from_str(&String::from_utf8_lossy(&lock))
        .map_err(|error| format!("Cargo.lock: {error}"))?;
    let locked = lock.get("package").and_then(toml::Value::as_array);
    let sum = |name: &str, version: &str| {
        let text = |package: &toml::Value, key| Some(package.get(key)?.as_str()?.to_owned());
        locked.into_iter().flatten().find_map(|package| {
            let is_it = text(package, "name").as_deref() == Some(name)
                && text(package, "version").as_deref() == Some(version);
            is_it.then(|| text(package, "checksum")).flatten()
        })
    };
    let metadata = tool::run(
        cargo(root)
            .args(["metadata", "--locked", "--format-version", "1"])
            .args(["--filter-platform", TARGET]),
    )?;
    let metadata: Value =
        serde_json::from_str(&metadata).map_err(|error| format!("cargo metadata: {error}"))?;
    let needed = needed(root)?;
    let mut packages: Vec<Package> = metadata["packages"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|package| {
            let text = |key: &str| Some(package[key].as_str()?.to_owned());
            let (name, version) = (text("name")?, text("version")?);
            let is_needed = needed.contains(&(name.clone(), version.clone()));
            is_needed.then_some(())?;
            Some(Package {
                sha256: sum(&name, &version)?,
                licence: text("license").unwrap_or_default(),
                name,
                version,
            })
        })
        .collect();
    packages.sort();
    Ok(packages)
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
    tool::run(Command::new(&path).args(["child", "release"]))
}
