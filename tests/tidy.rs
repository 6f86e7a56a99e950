//! Rules that hold the shape of the code, because a rule that nothing checks is
//! a wish. Each test is one rule; what it finds is printed with file and line.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The layers, lowest first. A module may name those of its own and lower rows.
///
/// `config` stands below what uses it. It reads files, so it is not pure.
const LAYERS: &[&[&str]] = &[
    &["addr", "xml"],
    &["crypto", "stanza"],
    &["stream", "store"],
    &["config"],
    &["router"],
    &["xep"],
    &["net", "service", "http", "machine"],
    &["server"],
    &["cli"],
    &["main"],
];

/// Bytes or stanzas and a clock in, actions out.
const PURE: &[&str] = &["addr", "xml", "crypto", "stanza", "stream", "store"];

/// What a pure module may not name, and what it is.
const IMPURE: &[(&str, &str)] = &[
    ("tokio::", "a runtime"),
    ("TcpStream", "a socket"),
    ("UdpSocket", "a socket"),
    ("UnixStream", "a socket"),
    ("std::fs", "files"),
    ("std::env", "the environment"),
    ("std::thread", "threads"),
    ("std::os::unix::net", "a socket"),
    ("SystemTime::now", "the wall clock"),
    ("Instant::now", "a clock"),
    ("SystemRandom", "a source of randomness"),
    ("rand::SecureRandom", "a source of randomness"),
    ("crate::config", "the configuration"),
];

/// Files that may name one of those, with the reason.
const IMPURE_BUT: &[(&str, &str, &str)] = &[(
    "src/store/disk.rs",
    "std::fs",
    "the device is a file or a block device",
)];

/// A library that one place hides from the rest.
const HIDDEN: &[(&str, &str)] = &[
    ("rustls", "src/net/tls"),
    ("hickory_resolver", "src/net/dns"),
    ("hickory_proto", "src/machine/time/name.rs"),
    ("saphyr_parser", "src/machine/source/yaml.rs"),
];

const FILE_LINES_MAX: usize = 650;
const FILE_LINES_WARNED: usize = 600;
const FUNCTION_LINES_WARNED: usize = 70;

/// Files that may be longer, with the reason.
const LONG_BUT: &[(&str, &str)] = &[];

struct Source {
    path: String,
    text: String,
}

impl Source {
    /// The name of its layer: the folder or file under `src`.
    fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("src/")?;
        let first = inside.split('/').next()?;
        Some(first.strip_suffix(".rs").unwrap_or(first))
    }

    /// Tests may do what the code may not.
    fn is_test(&self) -> bool {
        !self.path.starts_with("src/")
            || self.path.ends_with("/tests.rs")
            || self.path.ends_with("_tests.rs")
            || self.path.contains("/tests/")
    }

    /// The code in front of the file's tests, line by line, without comments.
    fn code(&self) -> Vec<(usize, String)> {
        if self.is_test() {
            return Vec::new();
        }
        let mut lines = Vec::new();
        let mut test_next = false;
        for (index, line) in self.text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or("").trim_end();
            if code.trim_start().starts_with("#[cfg(test)]") {
                test_next = true;
                continue;
            }
            if test_next && code.starts_with("mod ") && code.ends_with('{') {
                break;
            }
            if !std::mem::take(&mut test_next) && !code.trim().is_empty() {
                lines.push((index + 1, code.to_owned()));
            }
        }
        lines
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    for folder in ["src", "tests", "benches", "examples", "fuzz"] {
        collect(&root().join(folder), &mut sources);
    }
    assert!(
        sources.len() > 20,
        "only {} files were found",
        sources.len()
    );
    sources
}

fn collect(folder: &Path, sources: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() && path.ends_with("target") {
            continue;
        }
        if path.is_dir() {
            collect(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("UTF-8");
            let path = path
                .strip_prefix(root())
                .expect("inside")
                .display()
                .to_string();
            sources.push(Source { path, text });
        }
    }
}

/// Fails with all findings at once.
fn none(findings: &[String], rule: &str) {
    assert!(findings.is_empty(), "{rule}:\n{}", findings.join("\n"));
}

#[test]
fn a_layer_names_no_higher_one() {
    let rank: BTreeMap<&str, usize> = LAYERS
        .iter()
        .enumerate()
        .flat_map(|(rank, row)| row.iter().map(move |module| (*module, rank)))
        .collect();
    let mut findings = Vec::new();
    for source in sources() {
        let Some(module) = source.module().filter(|module| *module != "lib") else {
            continue;
        };
        let Some(own) = rank.get(module) else {
            findings.push(format!(
                "{}: {module} has no layer in this file",
                source.path
            ));
            continue;
        };
        for (line, code) in source.code() {
            if code.contains("crate::{") {
                findings.push(format!("{}:{line}: one `use` for each layer", source.path));
            }
            for named in code.split("crate::").skip(1) {
                let end = named.find(|c: char| !c.is_alphanumeric() && c != '_');
                let named = &named[..end.unwrap_or(named.len())];
                if rank.get(named).is_some_and(|named| named > own) {
                    findings.push(format!("{}:{line}: {module} names {named}", source.path));
                }
            }
        }
    }
    none(&findings, "lower layers do not know higher ones (LAYERS)");
}

#[test]
fn pure_layers_know_no_world() {
    let mut findings = Vec::new();
    for source in sources() {
        if !source.module().is_some_and(|module| PURE.contains(&module)) {
            continue;
        }
        for (line, code) in source.code() {
            for (word, what) in IMPURE {
                let excused = IMPURE_BUT
                    .iter()
                    .any(|(path, excused, _)| *path == source.path && excused == word);
                if code.contains(word) && !excused {
                    findings.push(format!("{}:{line}: {word} is {what}", source.path));
                }
            }
        }
    }
    none(
        &findings,
        "pure layers take time, randomness and bytes as arguments (IMPURE)",
    );
}

#[test]
fn one_place_alone_names_a_hidden_library() {
    let mut findings = Vec::new();
    for source in sources() {
        for (line, code) in source.code() {
            for (library, place) in HIDDEN {
                if code.contains(&format!("{library}::")) && !source.path.starts_with(place) {
                    findings.push(format!(
                        "{}:{line}: only {place} names {library}",
                        source.path
                    ));
                }
            }
        }
    }
    none(&findings, "some libraries have one home (HIDDEN)");
}

#[test]
fn files_are_short() {
    let mut findings = Vec::new();
    for source in sources() {
        let lines = source.text.lines().count();
        if LONG_BUT.iter().any(|(path, _)| *path == source.path) {
            continue;
        }
        if lines > FILE_LINES_MAX {
            findings.push(format!("{}: {lines} lines", source.path));
        } else if lines > FILE_LINES_WARNED {
            println!("note: {} is getting long ({lines} lines)", source.path);
        }
    }
    none(
        &findings,
        "a file is one noun; split it, or list it in LONG_BUT with a reason",
    );
}

/// Only told: a table-like `match` may be long.
#[test]
fn long_functions_are_told() {
    for source in sources() {
        let mut start: Option<(usize, usize, String)> = None;
        for (index, line) in source.text.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let code = line.trim_start();
            if start.is_none() && is_function(code) && !code.ends_with(';') {
                start = Some((index, indent, code.to_owned()));
            }
            let Some((from, depth, head)) = &start else {
                continue;
            };
            if indent == *depth && (code.starts_with('}') || code.ends_with('}')) {
                let lines = index - from + 1;
                if lines > FUNCTION_LINES_WARNED {
                    println!("note: {}:{}: {lines} lines: {head}", source.path, from + 1);
                }
                start = None;
            } else if indent == *depth && code.ends_with(';') {
                start = None;
            }
        }
    }
}

fn is_function(code: &str) -> bool {
    let first = code.split_whitespace().next().unwrap_or_default();
    let begins = ["fn", "pub", "async", "const", "unsafe"]
        .iter()
        .any(|word| first == *word || first.starts_with("pub("));
    begins && format!(" {code}").contains(" fn ")
}

#[test]
fn every_module_says_what_it_is() {
    let findings: Vec<String> = sources()
        .iter()
        .filter(|source| !(source.path.starts_with("src/") && source.is_test()))
        .filter(|source| !source.text.starts_with("//!"))
        .filter(|source| !source.text.starts_with("#![no_main]"))
        .map(|source| source.path.clone())
        .collect();
    none(&findings, "a file begins with //! and its purpose");
}

#[test]
fn nothing_is_unwrapped() {
    let mut findings = Vec::new();
    for source in sources() {
        for (line, code) in source.code() {
            // In a constant it fails when it is compiled.
            let is_const = code.trim_start().starts_with("pub const ")
                || code.trim_start().starts_with("const ");
            if is_const {
                continue;
            }
            if code.contains(".unwrap()") || code.contains(".unwrap_err()") {
                findings.push(format!("{}:{line}", source.path));
            }
        }
    }
    none(
        &findings,
        "say the invariant with expect, or handle the error",
    );
}

#[test]
fn names_say_what_a_thing_is() {
    let mut findings = Vec::new();
    for source in sources() {
        let file = source.path.rsplit('/').next().unwrap_or_default();
        for word in ["manager", "helper", "util"] {
            if file.contains(word) {
                findings.push(format!("{}: {word}", source.path));
            }
        }
        for (line, code) in source.code() {
            let Some(name) = defined_name(&code) else {
                continue;
            };
            let lower = name.to_lowercase();
            let is_vague = ["manager", "helper", "utils"]
                .iter()
                .any(|word| lower.contains(word));
            if is_vague || lower.starts_with("get_") {
                findings.push(format!("{}:{line}: {name}", source.path));
            }
        }
    }
    none(&findings, "no manager, helper, util, and no get_");
}

/// The name that a line defines.
fn defined_name(code: &str) -> Option<&str> {
    let mut words = code.split_whitespace();
    words.find(|word| ["fn", "struct", "enum", "trait", "mod"].contains(word))?;
    let name = words.next()?;
    Some(
        &name[..name
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(name.len())],
    )
}

#[test]
fn the_map_in_lib_rs_names_every_module() {
    let text = fs::read_to_string(root().join("src/lib.rs")).expect("the crate's root");
    let map: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("//!"))
        .collect();
    let findings: Vec<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .filter(|module| {
            !map.iter()
                .any(|line| line.contains(&format!("[`{module}`]")))
        })
        .map(str::to_owned)
        .collect();
    none(&findings, "src/lib.rs maps every module");
}

/// The texts that people read, and the names of files in them.
#[test]
fn the_maps_name_files_that_are_there() {
    let mut findings = Vec::new();
    for map in ["ARCHITECTURE.md", "README.md", "docs/extensions.md"] {
        let text = fs::read_to_string(root().join(map)).expect("a map");
        let quoted = text.split('`').skip(1).step_by(2);
        for path in quoted.filter(|text| text.ends_with(".rs") || text.ends_with('/')) {
            let is_there = ["", "src/"]
                .iter()
                .any(|above| root().join(above).join(path).exists());
            if !is_there {
                findings.push(format!("{map}: {path}"));
            }
        }
    }
    none(&findings, "what a map names exists");
}

/// Names of other people's hosts, and of places on somebody's machine, have no place in examples
/// (RFC 2606, RFC 6761).
#[test]
fn examples_name_nobody() {
    let mut texts: Vec<Source> = sources();
    for path in [
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "docs/extensions.md",
        "docs/log-format.md",
        "docs/security.md",
        "dev",
        ".ci/run",
    ] {
        let text = fs::read_to_string(root().join(path)).expect("it is there");
        let path = path.to_owned();
        texts.push(Source { path, text });
    }
    let mut findings = Vec::new();
    let own = "tests/tidy.rs";
    for source in texts.iter().filter(|source| source.path != own) {
        for (index, line) in source.text.lines().enumerate() {
            let place = || format!("{}:{}", source.path, index + 1);
            for place_of_one in ["/home/", "/root/", "/work/", "/tmp/"] {
                if line.contains(place_of_one) {
                    findings.push(format!("{}: {place_of_one}", place()));
                }
            }
            for host in line.split('@').skip(1).map(host_of) {
                let host = host.to_ascii_lowercase();
                if host.contains('.') && !is_reserved(&host) {
                    findings.push(format!("{}: {host}", place()));
                }
            }
        }
    }
    none(&findings, "examples use reserved names");
}

/// The domain name that a text begins with.
fn host_of(text: &str) -> &str {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
    text[..end].trim_end_matches(['.', '-'])
}

fn is_reserved(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or_default();
    // What does not end in a word is no name of a host.
    let is_word = last.len() > 1 && last.chars().all(|c| c.is_ascii_alphabetic());
    let reserved = [
        "example",
        "invalid",
        "test",
        "localhost",
        "com",
        "net",
        "org",
    ];
    !is_word
        || reserved[..4].contains(&last)
        || reserved[4..].iter().any(|top| {
            host == format!("example.{top}") || host.ends_with(&format!(".example.{top}"))
        })
}

#[test]
fn only_named_files_hold_unsafe_code() {
    const UNSAFE: &[&str] = &[
        "src/server/allocator.rs",
        "src/machine/inherit.rs",
        "src/machine/kernel_call.rs",
        "fuzz/src/allocator.rs",
    ];
    let mut findings = Vec::new();
    for source in sources() {
        for (line, code) in source.code() {
            let is_unsafe = ["unsafe_code", "unsafe {", "unsafe impl", "unsafe fn"]
                .iter()
                .any(|word| code.contains(word));
            if is_unsafe && !UNSAFE.contains(&source.path.as_str()) {
                findings.push(format!("{}:{line}", source.path));
            }
        }
    }
    none(
        &findings,
        "unsafe stays in named files, each with its reason",
    );
}
