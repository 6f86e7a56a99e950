//! The kernel: built from the distribution's source package with a configuration of our own, once
//! a machine, and kept in the user's cache under the sum of everything that went in.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::cache;
use crate::inputs::{self, Input};
use crate::tool;

const COMMON: &str = include_str!("../kernel/common.fragment");
const DEBIAN_12: &str = include_str!("../kernel/6.1.fragment");
const SOURCE: &str = "/usr/src/linux-source-6.1.tar.xz";
const PACKAGE: &str = "linux-source-6.1";
/// Changes with the way it is built.
const RECIPE: &str = "2";
const COMPILER: &str = "gcc";
/// What its makefiles and scripts run beside the compiler and say what comes out. What they only
/// make folders and move files with is left out.
const PROGRAMS: [&str; 26] = [
    "awk", "bc", "bison", "cat", "cmp", "cut", "expr", "find", "flex", "grep", "gzip", "head",
    "m4", "make", "od", "perl", "sed", "sh", "sort", "stat", "tail", "tr", "uniq", "wc", "xargs",
    "zstd",
];
/// The library that the kernel's own tool for objects is linked with.
const OF_OBJECTS: &str = "libelf.so";
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
    /// What it is compiled and put together with.
    #[serde(default)]
    pub tools: Vec<Input>,
}

impl Made {
    /// Of what a kernel would be made now.
    fn now() -> Result<Made, String> {
        let source = tool::file_sha256(Path::new(SOURCE))
            .map_err(|error| format!("{error}; install {PACKAGE}"))?;
        let mut files = inputs::c_compiler(COMPILER);
        files.extend(inputs::programs(&PROGRAMS));
        let library = inputs::linked(COMPILER, &[OF_OBJECTS])?;
        files.extend(inputs::with_libraries(library));
        Ok(Made {
            version: tool::package(PACKAGE),
            source_sha256: source,
            fragment_sha256: tool::sha256(wanted().as_bytes()),
            tools: inputs::tell(&files, None)?,
        })
    }

    /// The sum of all that says what comes out.
    fn key(&self) -> String {
        let mut text = format!(
            "{RECIPE}\n{}\n{}\n",
            self.source_sha256, self.fragment_sha256
        );
        for tool in &self.tools {
            text.push_str(&format!("{}  {}\n", tool.sha256, tool.name));
        }
        tool::sha256(text.as_bytes())
    }
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
    let made = Made::now()?;
    let file = cached(&made)?;
    let bytes = tool::read(&file)?;
    Ok(Kernel { bytes, made })
}

/// Where the kernel is, which is built now unless it is there; a line with its sum, too.
pub fn file() -> Result<String, String> {
    let file = cached(&Made::now()?)?;
    Ok(format!("{}  {}", tool::file_sha256(&file)?, file.display()))
}

/// Builds it a second time, from nothing and in a folder of another name, and compares. One that
/// differs is kept beside the first.
pub fn check() -> Result<String, String> {
    let made = Made::now()?;
    let file = cached(&made)?;
    let first = tool::read(&file)?;
    let folder = tempfile::Builder::new()
        .prefix("a-second-time-")
        .tempdir_in(folder()?)
        .map_err(|error| error.to_string())?;
    let second = build(&folder.path().join("and/at/another/depth"))?;
    let Some(difference) = difference(&first, &second) else {
        let sum = tool::sha256(&second);
        return Ok(format!("{sum}  both times, byte for byte"));
    };
    let other = file.with_extension("second.bzImage");
    tool::write(&other, &second)?;
    Err(format!(
        "the second kernel is another one: {difference}; compare {} with {}",
        other.display(),
        file.display()
    ))
}

/// Where two kernels differ, if they do.
fn difference(first: &[u8], second: &[u8]) -> Option<String> {
    if first == second {
        return None;
    }
    let differ = |(one, other): (&u8, &u8)| one != other;
    let both = || first.iter().zip(second);
    let shorter = first.len().min(second.len());
    let at = both().position(differ).unwrap_or(shorter);
    Some(format!(
        "{} and {} bytes long, {} of those that both have differ, the first place is byte {at}",
        first.len(),
        second.len(),
        both().filter(|pair| differ(*pair)).count(),
    ))
}

/// The configuration that is asked for.
fn wanted() -> String {
    format!("{COMMON}\n{DEBIAN_12}")
}

fn folder() -> Result<PathBuf, String> {
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
        .ok_or("neither XDG_CACHE_HOME nor HOME says where to keep the kernel")?;
    let folder = base.join("cairn/kernel");
    fs::create_dir_all(&folder)
        .map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    Ok(folder)
}

/// The file in the cache, where it is built unless it is there.
fn cached(made: &Made) -> Result<PathBuf, String> {
    let name = format!("{}.bzImage", made.key());
    let waits = || tell("waiting for the kernel, which somebody else is building");
    cache::kept(&folder()?, &name, waits, build)
}

/// Builds a kernel in this folder, which is there afterwards.
fn build(place: &Path) -> Result<Vec<u8>, String> {
    let (tree, out) = (place.join("source"), place.join("out"));
    for folder in [&tree, &out] {
        fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    }
    tell("unpacking the kernel's source");
    tool::run(
        Command::new("tar")
            .args(["-xf", SOURCE, "--strip-components=1", "-C"])
            .arg(&tree),
    )?;
    let fragment = place.join("fragment");
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
    tool::read(&out.join("arch/x86/boot/bzImage"))
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
        // The makefiles listen to dozens of variables: to the caller's, only where programs are.
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| name == "PATH" || name == "TMPDIR"))
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

    #[test]
    fn another_assembler_makes_another_kernel() {
        let made = |sum: &str| Made {
            tools: vec![Input {
                package: "binutils".to_owned(),
                name: "as".to_owned(),
                version: "2.40".to_owned(),
                sha256: sum.to_owned(),
                licence: String::new(),
            }],
            ..Made::default()
        };
        assert_eq!(made("1").key(), made("1").key());
        assert_ne!(made("1").key(), made("2").key());
        assert_ne!(made("1").key(), Made::default().key());
    }

    #[test]
    fn what_a_kernel_would_be_made_of_names_all_that_builds_it() {
        let Ok(made) = Made::now() else {
            let must = std::env::var("CI").is_ok_and(|value| value == "true");
            assert!(
                !must,
                "the kernel's source is missing; ./dev boot installs it"
            );
            return;
        };
        let has = |name: &str| made.tools.iter().any(|tool| tool.name.contains(name));
        for name in [
            "gcc", "cc1", "collect2", "-as", "-ld", "objcopy", "libbfd", "bc", "bison", "m4",
            "flex", "make", "zstd", "libelf", "libc.so",
        ] {
            assert!(has(name), "{name}: {:?}", made.tools);
        }
        for tool in &made.tools {
            assert_eq!(tool.sha256.len(), 64, "{tool:?}");
            assert_ne!(tool.version, "unknown", "{tool:?}");
        }
    }

    #[test]
    fn kernels_that_differ_are_told_by_how_much_and_where() {
        assert_eq!(difference(b"abc", b"abc"), None);
        let told = difference(b"abcd", b"aXcY").expect("they differ");
        assert_eq!(
            told,
            "4 and 4 bytes long, 2 of those that both have differ, the first place is byte 1"
        );
        let told = difference(b"ab", b"abc").expect("they differ");
        assert!(told.ends_with("the first place is byte 2"), "{told}");
    }
}
