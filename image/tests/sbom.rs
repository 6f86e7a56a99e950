//! The bill of materials, against what the builder reads.

#![allow(clippy::print_stdout)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::{image, succeeds, tool};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// A component: its version and its sum.
type Listed = BTreeMap<String, (String, String)>;

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sha256(path: &Path) -> String {
    let line = succeeds(Command::new("sha256sum").arg("--").arg(path));
    line.split(' ').next().expect("a sum").to_owned()
}

fn of_package(name: &str) -> String {
    succeeds(Command::new("dpkg-query").args(["-W", "-f", "${Version}", name]))
}

/// The bill of an image that is built now from a kernel and a program that are there: what is no
/// crate, and the crates.
fn bill(made: &Path) -> (Listed, BTreeSet<(String, String, String)>) {
    let out = tempfile::tempdir().expect("a folder");
    let mut build = tool();
    build.arg("build").arg("--kernel").arg(made.join("vmlinuz"));
    build.arg("--binary").arg(made.join("cairn"));
    succeeds(build.arg("--out").arg(out.path()));
    let bytes = fs::read(out.path().join("cairn.cdx.json")).expect("it is there");
    let bill: Value = serde_json::from_slice(&bytes).expect("JSON");
    assert_eq!(bill["bomFormat"], "CycloneDX");
    let (mut others, mut crates) = (Listed::new(), BTreeSet::new());
    for component in bill["components"].as_array().expect("components") {
        let (name, version) = (text(&component["name"]), text(&component["version"]));
        let hash = &component["hashes"][0];
        let sum = text(&hash["content"]);
        assert!(sum.is_empty() || hash["alg"] == "SHA-256", "{name}");
        if component["purl"] == format!("pkg:cargo/{name}@{version}") {
            crates.insert((name, version, sum));
        } else {
            assert!(others.insert(name, (version, sum)).is_none(), "twice");
        }
    }
    (others, crates)
}

/// The sum of a list of files with their sums, as the bill has it for folders.
fn sum_of(folder: &Path, mut names: Vec<String>) -> String {
    names.sort();
    let file = tempfile::NamedTempFile::new().expect("a file");
    let lines = names
        .iter()
        .map(|name| format!("{}  {name}\n", sha256(&folder.join(name))));
    fs::write(file.path(), lines.collect::<String>()).expect("it is written");
    sha256(file.path())
}

/// What `grub-mkimage` opens of a folder, by its own account.
fn read_by_grub(format: &str) -> Vec<String> {
    let source = fs::read_to_string(root().join("image/src/grub.rs")).expect("it is there");
    let modules = source.split("const MODULES: &str = \"").nth(1);
    let modules = modules.and_then(|rest| rest.split("\";").next());
    let extra = match format {
        "i386-pc" => "biosdisk",
        _ => "efi_gop",
    };
    let out = tempfile::NamedTempFile::new().expect("a file");
    let mut command = Command::new("grub-mkimage");
    command.args(["--verbose", "-d", &format!("/usr/lib/grub/{format}")]);
    command
        .args(["-O", format, "-p", "/", "-o"])
        .arg(out.path());
    let modules = modules.expect("the list of modules").replace('\\', " ");
    command.args(modules.split_whitespace()).arg(extra);
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let mut names: Vec<String> = said
        .split(|c: char| c.is_whitespace() || "'`,:".contains(c))
        .filter_map(|word| word.strip_prefix(&format!("/usr/lib/grub/{format}/")))
        .map(|name| name.trim_end_matches('.').to_owned())
        .filter(|name| name.ends_with(".mod"))
        .collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn every_input_stands_in_the_bill_with_its_version_and_sum() {
    let Some(image) = image() else { return };
    let made = image.parent().expect("a folder");
    let (listed, crates) = bill(made);
    let expected = |name: &str, version: &str, sum: String| {
        let found = listed.get(name).cloned();
        assert_eq!(found, Some((version.to_owned(), sum)), "{name}");
    };

    // The kernel's source and what it was configured with.
    let source = Path::new("/usr/src/linux-source-6.1.tar.xz");
    expected("linux", &of_package("linux-source-6.1"), sha256(source));
    let fragments = ["common", "6.1"].map(|name| {
        let path = root().join(format!("image/kernel/{name}.fragment"));
        fs::read_to_string(path).expect("it is there")
    });
    let fragment = tempfile::NamedTempFile::new().expect("a file");
    fs::write(fragment.path(), fragments.join("\n")).expect("it is written");
    expected("linux configuration", "", sha256(fragment.path()));

    // The program, its compiler's library, the C library.
    let version = env!("CARGO_PKG_VERSION");
    expected("cairn", version, sha256(&made.join("cairn")));
    let rustc = succeeds(Command::new("rustc").arg("--version"));
    let mut ask = Command::new("rustc");
    let folder = succeeds(ask.args(["--print", "target-libdir", "--target", TARGET]));
    let folder = Path::new(folder.trim());
    let parts = fs::read_dir(folder).expect("it is there");
    let parts = parts.map(|entry| entry.expect("an entry").file_name());
    let parts = parts.map(|name| name.into_string().expect("UTF-8"));
    let parts = parts.filter(|name| name.ends_with(".rlib")).collect();
    expected("rustc", rustc.trim(), sum_of(folder, parts));
    let libc = succeeds(Command::new("cc").arg("-print-file-name=libc.a"));
    expected(
        "libc6-dev",
        &of_package("libc6-dev"),
        sha256(Path::new(libc.trim())),
    );

    // The loader, the file system, the authorities.
    for (package, format) in [
        ("grub-pc-bin", "i386-pc"),
        ("grub-efi-amd64-bin", "x86_64-efi"),
    ] {
        let folder = PathBuf::from(format!("/usr/lib/grub/{format}"));
        let mut files = read_by_grub(format);
        assert!(files.len() > 20, "{files:?}");
        files.push("moddep.lst".to_owned());
        files.push("kernel.img".to_owned());
        if format == "i386-pc" {
            // The first sector, the second, and what unpacks the rest.
            let images = ["boot.img", "diskboot.img", "lzma_decompress.img"];
            files.extend(images.map(str::to_owned));
        }
        expected(package, &of_package(package), sum_of(&folder, files));
    }
    for (package, tool) in [
        ("grub-common", "grub-mkimage"),
        ("erofs-utils", "mkfs.erofs"),
    ] {
        let place = succeeds(Command::new("sh").args(["-c", &format!("command -v {tool}")]));
        expected(
            package,
            &of_package(package),
            sha256(Path::new(place.trim())),
        );
    }
    let roots = Path::new("/etc/ssl/certs/ca-certificates.crt");
    expected(
        "ca-certificates",
        &of_package("ca-certificates"),
        sha256(roots),
    );
    // A compiler leaves no file of its own: its version is what is known.
    let gcc = succeeds(Command::new("gcc").arg("-dumpfullversion"));
    expected("gcc", gcc.trim(), String::new());
    assert_eq!(listed.len(), 11, "what else is listed? {listed:?}");

    let linked = linked();
    let missing: Vec<_> = linked.difference(&crates).collect();
    let needless: Vec<_> = crates.difference(&linked).collect();
    assert!(missing.is_empty(), "missing: {missing:?}");
    assert!(needless.is_empty(), "not in the program: {needless:?}");
}

/// What cargo says that the program is compiled from and with, with the sums of the lock file.
fn linked() -> BTreeSet<(String, String, String)> {
    let mut tree = Command::new(env!("CARGO"));
    tree.current_dir(root())
        .args(["tree", "--locked", "-p", "cairn"]);
    tree.args(["--edges", "normal,build", "--target", TARGET]);
    tree.args(["--prefix", "none", "--no-dedupe", "--format", "{p}"]);
    let tree = succeeds(&mut tree);
    let lock = fs::read_to_string(root().join("Cargo.lock")).expect("it is there");
    let lock: toml::Table = toml::from_str(&lock).expect("TOML");
    let locked = lock["package"].as_array().expect("packages");
    let sum = |name: &str, version: &str| {
        let package = locked.iter().find(|package| {
            package["name"].as_str() == Some(name) && package["version"].as_str() == Some(version)
        });
        let sum = package.and_then(|package| package.get("checksum")?.as_str());
        sum.map(str::to_owned)
    };
    let found: BTreeSet<_> = tree
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.split_once(" v")?;
            let version = rest.split(' ').next()?;
            // Only what is of this checkout has no sum.
            Some((name.to_owned(), version.to_owned(), sum(name, version)?))
        })
        .collect();
    assert!(found.len() > 100, "{tree}");
    found
}
