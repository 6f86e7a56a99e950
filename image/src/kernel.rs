//! The kernel: built from the distribution's source package with a configuration of our own, once
//! a machine, and kept in the user's cache under the sum of everything that went in.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::tool;

const COMMON: &str = include_str!("../kernel/common.fragment");
const DEBIAN_12: &str = include_str!("../kernel/6.1.fragment");
const SOURCE: &str = "/usr/src/linux-source-6.1.tar.xz";
const PACKAGE: &str = "linux-source-6.1";
/// Changes with the way it is built.
const RECIPE: &str = "1";
/// Lines that a build prints, roughly: for the estimate of how long it takes.
const STEPS: u32 = 1_900;

/// A kernel and where it came from.
#[derive(Debug)]
pub struct Kernel {
    /// The image.
    pub bytes: Vec<u8>,
    /// For the SBOM.
    pub made: Made,
}

/// What a kernel is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// The version of the source.
    pub version: String,
    /// The sum of the source.
    pub source_sha256: String,
    /// The sum of the configuration that was asked for.
    pub fragment_sha256: String,
    /// The compiler's version.
    pub compiler: String,
}

impl Kernel {
    /// One that was built before.
    pub fn read(file: &Path) -> Result<Kernel, String> {
        let bytes = tool::read(file)?;
        let made = tool::read_made(file)?;
        Ok(Kernel { bytes, made })
    }

    /// Puts it where another build can read it.
    pub fn write(&self, file: &Path) -> Result<(), String> {
        tool::write(file, &self.bytes)?;
        tool::write_made(file, &self.made)
    }
}

/// The kernel from the cache, or built now.
pub fn get() -> Result<Kernel, String> {
    let source =
        tool::read(Path::new(SOURCE)).map_err(|error| format!("{error}; install {PACKAGE}"))?;
    let source_sha256 = tool::sha256(&source);
    drop(source);
    let version = tool::package(PACKAGE);
    let compiler = tool::run(Command::new("gcc").arg("-dumpfullversion"))?;
    let inputs = [RECIPE, &source_sha256, &compiler, COMMON, DEBIAN_12];
    let key = tool::sha256(inputs.join("\0").as_bytes());
    let cached = cache()?.join(format!("{key}.bzImage"));
    if !cached.exists() {
        build(&cached)?;
    }
    Ok(Kernel {
        bytes: tool::read(&cached)?,
        made: Made {
            version,
            source_sha256,
            fragment_sha256: tool::sha256(wanted().as_bytes()),
            compiler: compiler.trim().to_owned(),
        },
    })
}

/// The configuration that is asked for.
fn wanted() -> String {
    format!("{COMMON}\n{DEBIAN_12}")
}

fn cache() -> Result<PathBuf, String> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
        .ok_or("neither XDG_CACHE_HOME nor HOME says where to keep the kernel")?;
    let folder = base.join("cairn/kernel");
    fs::create_dir_all(&folder)
        .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    Ok(folder)
}

/// Builds in a folder beside the result, and moves it there when it is whole.
fn build(result: &Path) -> Result<(), String> {
    let folder = result.parent().unwrap_or(Path::new("."));
    let place = tempfile::tempdir_in(folder).map_err(|error| error.to_string())?;
    let (tree, out) = (place.path().join("source"), place.path().join("out"));
    for folder in [&tree, &out] {
        fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    }
    tell("unpacking the kernel's source");
    tool::run(
        Command::new("tar")
            .args(["-xf", SOURCE, "--strip-components=1", "-C"])
            .arg(&tree),
    )?;
    let fragment = place.path().join("fragment");
    let wanted = wanted();
    tool::write(&fragment, wanted.as_bytes())?;
    let mut keep = std::ffi::OsString::from("KCONFIG_ALLCONFIG=");
    keep.push(&fragment);
    tool::run(make(&tree, &out).arg("allnoconfig").arg(keep))?;
    let got = tool::read(&out.join(".config"))?;
    let missing = missing(&wanted, &String::from_utf8_lossy(&got));
    if !missing.is_empty() {
        return Err(format!(
            "the kernel does not know or take: {}",
            missing.join(", ")
        ));
    }
    compile(&tree, &out)?;
    let image = tool::read(&out.join("arch/x86/boot/bzImage"))?;
    let fresh = place.path().join("bzImage");
    tool::write(&fresh, &image)?;
    fs::rename(&fresh, result).map_err(|error| error.to_string())
}

fn make(tree: &Path, out: &Path) -> Command {
    let mut command = Command::new("make");
    let mut o = std::ffi::OsString::from("O=");
    o.push(out);
    command
        .arg("-C")
        .arg(tree)
        .arg("ARCH=x86_64")
        .arg(o)
        .env("KBUILD_BUILD_TIMESTAMP", "Thu Jan  1 00:00:01 UTC 1970")
        .env("KBUILD_BUILD_USER", "build")
        .env("KBUILD_BUILD_HOST", "cairn")
        .env("KBUILD_BUILD_VERSION", "1")
        .env("LC_ALL", "C");
    command
}

/// Compiles, and says how far it is.
fn compile(tree: &Path, out: &Path) -> Result<(), String> {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let log = out.join("log");
    let errors = fs::File::create(&log).map_err(|error| error.to_string())?;
    let mut child = make(tree, out)
        .args([&format!("-j{jobs}"), "bzImage"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .map_err(|error| format!("cannot run make: {error}"))?;
    let since = Instant::now();
    let mut said = 0;
    let lines = child.stdout.take().map(BufReader::new);
    for (done, _) in lines.into_iter().flat_map(BufRead::lines).enumerate() {
        let percent = (done as u32 * 100 / STEPS).min(99);
        if percent >= said + 5 {
            said = percent;
            let spent = since.elapsed().as_secs();
            let left = spent * u64::from(100 - percent) / u64::from(percent);
            tell(&format!(
                "building the kernel: {percent} %, about {} min to go (once on this machine)",
                left.div_ceil(60)
            ));
        }
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    if status.success() {
        return Ok(());
    }
    let said = fs::read_to_string(&log).unwrap_or_default();
    let last: Vec<&str> = said.lines().rev().take(20).collect();
    let last: Vec<&str> = last.into_iter().rev().collect();
    Err(format!("the kernel does not build:\n{}", last.join("\n")))
}

fn tell(line: &str) {
    drop(writeln!(std::io::stderr(), "cairn-image: {line}"));
}

/// What was asked for and is not in the configuration: kconfig drops without a word what it does
/// not know, and what something else is missing for.
fn missing(wanted: &str, got: &str) -> Vec<String> {
    let has = |line: &str| got.lines().any(|got| got == line);
    wanted
        .lines()
        .map(str::trim)
        .filter_map(|line| {
            let unset = line
                .strip_prefix("# ")
                .and_then(|rest| rest.strip_suffix(" is not set"));
            let fails = match unset {
                Some(name) => got.lines().any(|got| {
                    got.strip_prefix(name)
                        .is_some_and(|rest| rest.starts_with('='))
                }),
                None => line.starts_with("CONFIG_") && !has(line),
            };
            fails.then(|| line.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symbol_that_did_not_survive_is_named() {
        let wanted =
            "# a comment\nCONFIG_A=y\nCONFIG_B=y\n# CONFIG_C is not set\n# CONFIG_D is not set\n";
        let got = "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=y\nCONFIG_DD=y\n";
        assert_eq!(
            missing(wanted, got),
            ["CONFIG_B=y", "# CONFIG_C is not set"]
        );
        assert!(missing("CONFIG_A=y", "CONFIG_A=y\n").is_empty());
    }
}
