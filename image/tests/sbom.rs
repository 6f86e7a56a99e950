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

/// A component by its name: its version and its sum.
type Listed = BTreeMap<String, (String, String)>;
/// A crate: its name, its version and its sum.
type Crate = (String, String, String);

/// A file of a package that is installed here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Installed {
    package: String,
    name: String,
    version: String,
    sum: String,
}

/// What the bill lists.
#[derive(Default)]
struct Bill {
    named: Listed,
    crates: BTreeSet<Crate>,
    files: BTreeSet<Installed>,
    /// Those of the files that leave bytes in the image, and so have a licence.
    linked: BTreeSet<Installed>,
}

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

/// The bill of an image that is built now from a kernel and a program that are there. Nothing in it
/// lacks a version or a sum.
fn bill(made: &Path) -> Bill {
    let out = tempfile::tempdir().expect("a folder");
    let mut build = tool();
    build.arg("build").arg("--kernel").arg(made.join("vmlinuz"));
    build.arg("--binary").arg(made.join("cairn"));
    succeeds(build.arg("--out").arg(out.path()));
    let bytes = fs::read(out.path().join("cairn.cdx.json")).expect("it is there");
    let json: Value = serde_json::from_slice(&bytes).expect("JSON");
    assert_eq!(json["bomFormat"], "CycloneDX");
    let mut bill = Bill::default();
    for component in json["components"].as_array().expect("components") {
        let (name, version) = (text(&component["name"]), text(&component["version"]));
        assert!(!version.is_empty() && version != "unknown", "{component}");
        let hash = &component["hashes"][0];
        let sum = text(&hash["content"]);
        assert!(hash["alg"] == "SHA-256" && sum.len() == 64, "{component}");
        if component["purl"] == format!("pkg:cargo/{name}@{version}") {
            bill.crates.insert((name, version, sum));
        } else if component["group"].is_string() {
            let file = Installed {
                package: text(&component["group"]),
                name,
                version,
                sum,
            };
            if component["licenses"].is_array() {
                bill.linked.insert(file.clone());
            }
            assert!(bill.files.insert(file), "twice: {component}");
        } else {
            assert!(bill.named.insert(name, (version, sum)).is_none(), "twice");
        }
    }
    let json = String::from_utf8(bytes).expect("UTF-8");
    let here = root().canonicalize().expect("a folder");
    assert!(!json.contains(here.to_str().expect("UTF-8")), "{json}");
    bill
}

/// A file as the bill has to list it, by what dpkg says of it.
fn installed(path: &Path) -> Installed {
    let path = path.canonicalize().expect("it is there");
    // What lay in `/lib` before that was a link into `/usr` is registered there.
    let before = Path::new("/").join(path.strip_prefix("/usr").unwrap_or(&path));
    let ask = |path: &Path| Command::new("dpkg-query").arg("-S").arg(path).output();
    let owner = [&path, &before].map(|path| ask(path).expect("it runs").stdout);
    let owner = String::from_utf8(owner.concat()).expect("UTF-8");
    let package = owner.split(':').next().expect("a package").to_owned();
    Installed {
        version: of_package(&package),
        package,
        name: path.file_name().map(text_of).expect("a name"),
        sum: sha256(&path),
    }
}

fn text_of(name: &std::ffi::OsStr) -> String {
    name.to_str().expect("UTF-8").to_owned()
}

/// What the linker opens of the C library and the C compiler for a static program, by its own account.
fn opened_by_the_linker() -> BTreeSet<Installed> {
    let folder = tempfile::tempdir().expect("a folder");
    let (source, list) = (folder.path().join("it.rs"), folder.path().join("list"));
    fs::write(&source, "fn main() { println!(\"{:?}\", 2f64.powf(0.1)); }").expect("written");
    let mut rustc = Command::new("rustc");
    rustc
        .arg("-Ctarget-feature=+crt-static")
        .args(["--target", TARGET]);
    rustc.arg(format!(
        "-Clink-arg=-Wl,--dependency-file={}",
        list.display()
    ));
    succeeds(rustc.arg("-o").arg(folder.path().join("it")).arg(&source));
    let list = fs::read_to_string(list).expect("the linker wrote it");
    let sysroot = succeeds(Command::new("rustc").args(["--print", "sysroot"]));
    // A rule of make: what it made, a colon, and a line for each file, then again one for each.
    list.split([' ', '\n', ':', '\\'])
        .filter(|word| word.starts_with('/') && !word.starts_with(sysroot.trim()))
        .map(PathBuf::from)
        .filter(|path| !path.starts_with(folder.path()) && path.exists())
        .map(|path| installed(&path))
        .collect()
}

/// What a C compiler starts to compile and link, by its own account.
fn started_by(compiler: &str) -> Vec<PathBuf> {
    let mut command = Command::new(compiler);
    command.args(["-###", "-xc", "/dev/null", "-o", "none"]);
    let said = command.env("LC_ALL", "C").output().expect("it runs").stderr;
    let said = String::from_utf8(said).expect("UTF-8");
    let started = said.lines().filter_map(|line| line.strip_prefix(' '));
    let started: Vec<&str> = started
        .filter_map(|line| line.split(' ').next())
        .map(|word| word.trim_matches('"'))
        .collect();
    assert_eq!(started.len(), 3, "compiler, assembler, linker: {said}");
    started.into_iter().map(place_of).collect()
}

/// Where a program is that is run by this name.
fn place_of(name: &str) -> PathBuf {
    let place = succeeds(Command::new("sh").args(["-c", &format!("command -v {name}")]));
    PathBuf::from(place.trim())
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
    let bill = bill(made);
    let listed = &bill.named;
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
    let linux = of_package("linux-source-6.1");
    expected("linux configuration", &linux, sha256(fragment.path()));

    // The program and its compiler's library.
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
    let library = "rust standard library";
    expected(library, rustc.trim(), sum_of(folder, parts));

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
        expected(package, &of_package(package), sha256(&place_of(tool)));
    }
    let roots = Path::new("/etc/ssl/certs/ca-certificates.crt");
    expected(
        "ca-certificates",
        &of_package("ca-certificates"),
        sha256(roots),
    );
    assert_eq!(listed.len(), 9, "what else is listed? {listed:?}");

    let linked = linked();
    let missing: Vec<_> = linked.difference(&bill.crates).collect();
    let needless: Vec<_> = bill.crates.difference(&linked).collect();
    assert!(missing.is_empty(), "missing: {missing:?}");
    assert!(needless.is_empty(), "not in the program: {needless:?}");
}

#[test]
fn every_tool_and_what_it_links_stand_in_the_bill_as_they_are_installed() {
    let Some(image) = image() else { return };
    let bill = bill(image.parent().expect("a folder"));

    let opened = opened_by_the_linker();
    let missing: Vec<_> = opened.difference(&bill.linked).collect();
    let needless: Vec<_> = bill.linked.difference(&opened).collect();
    assert!(opened.len() > 8, "{opened:?}");
    assert!(missing.is_empty(), "linked and not listed: {missing:?}");
    assert!(needless.is_empty(), "listed and not linked: {needless:?}");

    let mut tools = [started_by("gcc"), started_by("cc")].concat();
    tools.extend(["gcc", "cc", "as", "ld", "ar", "objcopy", "strip"].map(place_of));
    // Of the kernel's build.
    tools.extend(["awk", "bc", "bison", "flex", "m4", "make", "sh", "zstd"].map(place_of));
    let library = succeeds(Command::new("gcc").arg("-print-file-name=libelf.so"));
    tools.push(PathBuf::from(library.trim()));
    for tool in tools {
        let tool = installed(&tool);
        assert!(bill.files.contains(&tool), "{tool:?}");
    }
    for name in [
        "rustc",
        "librustc_driver",
        "libLLVM",
        "cargo",
        "libbfd",
        "libmpfr",
        "libc.so",
    ] {
        let mut names = bill.files.iter().map(|file| &file.name);
        assert!(names.any(|found| found.starts_with(name)), "{name}");
    }
    bill.files.iter().for_each(is_installed);
}

/// One of the files of its package, or of Rust's folder, is what the bill says.
#[track_caller]
fn is_installed(listed: &Installed) {
    let places = match listed.package.as_str() {
        "rust" => {
            let rustc = succeeds(Command::new("rustc").arg("--version"));
            assert_eq!(listed.version, rustc.trim());
            let sysroot = succeeds(Command::new("rustc").args(["--print", "sysroot"]));
            succeeds(Command::new("find").args([sysroot.trim(), "-type", "f"]))
        }
        package => {
            assert_eq!(listed.version, of_package(package), "{listed:?}");
            succeeds(Command::new("dpkg-query").args(["-L", package]))
        }
    };
    let mut places = places
        .lines()
        .map(Path::new)
        .filter(|place| place.file_name().map(text_of).as_ref() == Some(&listed.name))
        .filter(|place| place.is_file());
    assert!(
        places.any(|place| sha256(place) == listed.sum),
        "{listed:?}"
    );
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
