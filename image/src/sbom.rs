//! What went in, as a bill of materials (CycloneDX 1.5).

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};

use crate::binary;
use crate::kernel::Kernel;
use crate::tool;

/// Packages of the distribution that leave bytes in the image or decide about them.
const TOOLS: [&str; 6] = [
    "grub-pc-bin",
    "grub-efi-amd64-bin",
    "grub-common",
    "erofs-utils",
    "gcc",
    "ca-certificates",
];

/// The document, the same for the same inputs.
pub fn make(kernel: &Kernel, program: &[u8]) -> Result<String, String> {
    let mut components = vec![json!({
        "type": "operating-system",
        "name": "linux",
        "version": kernel.version,
        "licenses": [{"license": {"id": "GPL-2.0-only"}}],
        "hashes": sums(&kernel.source_sha256),
    })];
    components.push(json!({
        "type": "application",
        "name": "cairn",
        "version": env!("CARGO_PKG_VERSION"),
        "licenses": [{"expression": "MIT OR Apache-2.0"}],
        "hashes": sums(&tool::sha256(program)),
    }));
    for name in TOOLS {
        components.push(json!({
            "type": "application",
            "name": name,
            "version": tool::package(name),
        }));
    }
    let rustc = tool::run(Command::new("rustc").arg("--version")).unwrap_or_default();
    components.push(json!({
        "type": "application", "name": "rustc", "version": rustc.trim(),
    }));
    components.extend(crates()?);
    let document = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "components": components,
    });
    serde_json::to_string_pretty(&document).map_err(|error| error.to_string())
}

fn sums(sha256: &str) -> Value {
    if sha256.is_empty() {
        json!([])
    } else {
        json!([{"alg": "SHA-256", "content": sha256}])
    }
}

/// The crates of the lock file that the program is built from, with their licences.
fn crates() -> Result<Vec<Value>, String> {
    let root = binary::workspace();
    let lock = tool::read(&root.join("Cargo.lock"))?;
    let lock: toml::Table = toml::from_str(&String::from_utf8_lossy(&lock))
        .map_err(|error| format!("Cargo.lock: {error}"))?;
    let mut found = BTreeMap::new();
    for package in lock
        .get("package")
        .and_then(toml::Value::as_array)
        .into_iter()
        .flatten()
    {
        let text = |name: &str| package.get(name).and_then(toml::Value::as_str);
        let (Some(name), Some(version), Some(sum)) =
            (text("name"), text("version"), text("checksum"))
        else {
            continue;
        };
        let component = json!({
            "type": "library",
            "name": name,
            "version": version,
            "purl": format!("pkg:cargo/{name}@{version}"),
            "hashes": sums(sum),
        });
        found.insert((name.to_owned(), version.to_owned()), component);
    }
    Ok(found.into_values().collect())
}
