//! What takes part in a build and is of this computer: its compilers, what they load, what they link.
//! Each file has the package that it belongs to, that package's version, and its sum; where it lies
//! is not told.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::tool;

/// Files, by where they are.
pub type Files = BTreeSet<PathBuf>;

/// What a C compiler starts, by its own account.
const STARTED: [&str; 5] = ["cc1", "collect2", "lto-wrapper", "as", "ld"];
/// What works on its output. They stand beside the linker.
const AFTER: [&str; 6] = ["ar", "nm", "objcopy", "objdump", "readelf", "strip"];

/// A file that takes part.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Input {
    /// The package that it belongs to.
    pub package: String,
    /// What the file is called.
    pub name: String,
    /// The package's version.
    pub version: String,
    /// The file's sum.
    pub sha256: String,
    /// The licence of what it leaves in the result, as an SPDX expression; empty where it leaves
    /// nothing.
    #[serde(default)]
    pub licence: String,
}

/// Tells them, sorted. What no package of the distribution holds is of `otherwise`: a package and its
/// version.
pub fn tell(files: &Files, otherwise: Option<(&str, &str)>) -> Result<Vec<Input>, String> {
    let owners = owners(files);
    let mut inputs = Vec::new();
    for file in files {
        let name = file_name(file);
        let (package, version) = owners
            .get(file)
            .cloned()
            .or_else(|| in_a_nix_store(file))
            .or_else(|| otherwise.map(|(package, version)| (package.into(), version.into())))
            .unwrap_or_else(|| (name.clone(), "unknown".to_owned()));
        inputs.push(Input {
            package,
            name,
            version,
            sha256: tool::file_sha256(file)?,
            licence: String::new(),
        });
    }
    inputs.sort();
    inputs.dedup();
    Ok(inputs)
}

/// The programs of these names that there are, and what they load.
pub fn programs(names: &[&str]) -> Files {
    with_libraries(found(names.iter().map(|name| tool::find(name).ok())))
}

/// A C compiler, what it starts, what works on its output, and what all of them load.
pub fn c_compiler(name: &str) -> Files {
    let asked = |option: &str| {
        let said = tool::run(Command::new(name).arg(option)).ok()?;
        let said = said.trim().to_owned();
        // What it looks for by the search path it names without one.
        match said.contains('/') {
            true => Some(PathBuf::from(said)),
            false => tool::find(&said).ok(),
        }
    };
    let started = STARTED.map(|name| asked(&format!("-print-prog-name={name}")));
    let after = AFTER.map(|name| tool::find(name).ok());
    let more = [
        tool::find(name).ok(),
        asked("-print-file-name=liblto_plugin.so"),
    ];
    with_libraries(found(started.into_iter().chain(after).chain(more)))
}

/// Files of the C compiler's and the C library's folders, by the compiler's account; for one that is
/// a script of the linker, what that names too.
pub fn linked(compiler: &str, names: &[&str]) -> Result<Files, String> {
    let mut files = Files::new();
    for name in names {
        let option = format!("-print-file-name={name}");
        let said = tool::run(Command::new(compiler).arg(option))?;
        // One that it does not know is named as it was asked for.
        let file = Path::new(said.trim());
        if !file.is_absolute() {
            continue;
        }
        let bytes = tool::read(file)?;
        if bytes.starts_with(b"/* GNU ld script") {
            let text = String::from_utf8_lossy(&bytes);
            let others = text.split_whitespace().filter(|word| word.starts_with('/'));
            files.extend(found(
                others
                    .filter(|word| word.ends_with(".a"))
                    .map(|word| Some(PathBuf::from(word))),
            ));
        }
        files.extend(found([Some(file.to_owned())]));
    }
    Ok(files)
}

/// With the libraries that the loader would take for them.
pub fn with_libraries(mut files: Files) -> Files {
    let said = tool::said(
        Command::new("ldd")
            .args(&files)
            // What `cargo run` says for its own programs.
            .env_remove("LD_LIBRARY_PATH"),
    );
    files.extend(found(loaded(&said).map(Some)));
    files
}

/// Those of `ldd`'s lines: `<tab>NAME => PATH (ADDRESS)` or `<tab>PATH (ADDRESS)`.
fn loaded(said: &str) -> impl Iterator<Item = PathBuf> {
    said.lines().filter_map(|line| {
        let (line, _) = line.strip_prefix('\t')?.rsplit_once(" (")?;
        let path = line.split_once(" => ").map_or(line, |(_, path)| path);
        path.starts_with('/').then(|| PathBuf::from(path))
    })
}

/// Those that there are, without links: one file has one place.
fn found(files: impl IntoIterator<Item = Option<PathBuf>>) -> Files {
    let files = files.into_iter().flatten();
    files.filter_map(|file| file.canonicalize().ok()).collect()
}

fn file_name(file: &Path) -> String {
    let name = file.file_name().unwrap_or(file.as_os_str());
    name.to_string_lossy().into_owned()
}

/// The packages of Debian that hold these files, and their versions.
fn owners(files: &Files) -> BTreeMap<PathBuf, (String, String)> {
    let mut ask = Command::new("dpkg-query");
    ask.arg("-S").args(files);
    // What came before `/lib` was a link into `/usr` is registered there.
    ask.args(files.iter().filter_map(|file| before_the_merge(file)));
    let holds = tool::said(&mut ask);
    let holds: BTreeMap<&str, &str> = holds.lines().filter_map(held).collect();
    let packages: BTreeSet<&str> = holds.values().copied().collect();
    if packages.is_empty() {
        return BTreeMap::new();
    }
    let mut ask = Command::new("dpkg-query");
    ask.args(["-W", "-f", "${binary:Package} ${Version}\\n"])
        .args(packages);
    let versions = tool::said(&mut ask);
    let versions: BTreeMap<&str, &str> = versions
        .lines()
        .filter_map(|line| line.split_once(' '))
        .collect();
    let owner = |file: &PathBuf| {
        let package = holds.get(file.to_str()?).or_else(|| {
            let before = before_the_merge(file)?;
            holds.get(before.to_str()?)
        })?;
        let name = package.split(':').next().unwrap_or(package);
        Some((name.to_owned(), (*versions.get(package)?).to_owned()))
    };
    files
        .iter()
        .filter_map(|file| Some((file.clone(), owner(file)?)))
        .collect()
}

fn before_the_merge(file: &Path) -> Option<PathBuf> {
    Some(Path::new("/").join(file.strip_prefix("/usr").ok()?))
}

/// A line of `dpkg-query -S`: `PACKAGE[, PACKAGE...]: PATH`, as path and first package.
fn held(line: &str) -> Option<(&str, &str)> {
    let (packages, path) = line.rsplit_once(": ")?;
    let package = packages.split(", ").next()?;
    // "diversion by … from" is no package.
    (!package.contains(' ')).then_some((path, package))
}

/// The package in whose folder of a store of Nix a file lies, and its version:
/// `…/HASH-NAME-VERSION/…`, where the version begins at the first hyphen that no letter follows.
fn in_a_nix_store(file: &Path) -> Option<(String, String)> {
    let is_hash = |text: &str| {
        text.len() == 32
            && text
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase())
    };
    let folders = file
        .components()
        .filter_map(|part| part.as_os_str().to_str());
    let name = folders
        .filter_map(|part| part.split_once('-'))
        .find_map(|(hash, name)| is_hash(hash).then_some(name))?;
    let mut hyphens = name.match_indices('-').map(|(at, _)| at);
    let before_the_version = hyphens.find(|at| {
        let next = name[at + 1..].chars().next();
        next.is_some_and(|next| !next.is_alphabetic())
    });
    Some(match before_the_version {
        Some(at) => (name[..at].to_owned(), name[at + 1..].to_owned()),
        None => (name.to_owned(), "unknown".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_loads_is_read_of_what_ldd_says() {
        let said = "/usr/bin/ld:\n\tlinux-vdso.so.1 (0x00007ffd)\n\
                    \tlibz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x00007f3a)\n\
                    \tlibgone.so => not found\n\t/lib64/ld-linux-x86-64.so.2 (0x00007f3b)\n\
                    /usr/bin/sh:\n\tnot a dynamic executable\n";
        let expected = [
            "/lib/x86_64-linux-gnu/libz.so.1",
            "/lib64/ld-linux-x86-64.so.2",
        ];
        assert!(loaded(said).eq(expected.map(PathBuf::from)));
    }

    #[test]
    fn a_file_belongs_to_the_first_package_that_holds_it() {
        assert_eq!(held("bc: /usr/bin/bc"), Some(("/usr/bin/bc", "bc")));
        assert_eq!(
            held("libc6:amd64, libc6-x: /lib/libc.so.6"),
            Some(("/lib/libc.so.6", "libc6:amd64"))
        );
        assert_eq!(held("diversion by dash from: /bin/sh"), None);
        assert_eq!(held("no word of a path"), None);
    }

    #[test]
    fn a_folder_of_nix_names_package_and_version() {
        let of = |name: &str| {
            let hash = "0123456789abcdfghijklmnpqrsvwxyz";
            let file = format!("/nix/store/{hash}-{name}/bin/it");
            in_a_nix_store(Path::new(&file))
        };
        let named = |name: &str, version: &str| Some((name.to_owned(), version.to_owned()));
        assert_eq!(of("gcc-13.3.0"), named("gcc", "13.3.0"));
        assert_eq!(of("bash-static-5.2p26"), named("bash-static", "5.2p26"));
        assert_eq!(of("zstd-1.5.6-bin"), named("zstd", "1.5.6-bin"));
        assert_eq!(of("hook"), named("hook", "unknown"));
        assert_eq!(in_a_nix_store(Path::new("/usr/bin/gcc-12")), None);
    }

    #[test]
    fn a_file_that_nobody_knows_is_told_by_its_name_and_sum() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("own");
        tool::write(&file, b"abc").expect("it is written");
        let files = found([Some(file), Some(folder.path().join("missing")), None]);
        let told = |otherwise| tell(&files, otherwise).expect("they are told");
        let expected = Input {
            package: "rust".to_owned(),
            name: "own".to_owned(),
            version: "1.95.0".to_owned(),
            sha256: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".to_owned(),
            licence: String::new(),
        };
        assert_eq!(
            told(Some(("rust", "1.95.0"))),
            std::slice::from_ref(&expected)
        );
        let unknown = Input {
            package: "own".to_owned(),
            version: "unknown".to_owned(),
            ..expected
        };
        assert_eq!(told(None), [unknown]);
    }
}
