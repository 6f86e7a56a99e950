//! What went in, as a bill of materials (CycloneDX 1.5), and the licences of it all.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::binary::Program;
use crate::inputs::Input;
use crate::kernel::Kernel;
use crate::tool::{self, Versions};

/// What is read of the distribution's packages when the disk is put together.
#[derive(Debug)]
pub struct Parts {
    /// The sum of GRUB's modules for BIOS.
    pub grub_bios: String,
    /// The sum of GRUB's modules for UEFI.
    pub grub_efi: String,
    /// The sum of the tool that puts them together.
    pub grub_tool: String,
    /// The sum of the tool that makes the root's file system.
    pub erofs_tool: String,
    /// The sum of the certificate authorities.
    pub roots: String,
    /// What the two tools load.
    pub libraries: Vec<Input>,
}

impl Parts {
    /// Packages that leave bytes in the image or decide about them, the licences of the bytes that
    /// they leave, and their sums.
    fn packages(&self) -> [(&'static str, &'static str, &str); 5] {
        [
            ("grub-pc-bin", "GPL-3.0-or-later", &self.grub_bios),
            ("grub-efi-amd64-bin", "GPL-3.0-or-later", &self.grub_efi),
            ("grub-common", "GPL-3.0-or-later", &self.grub_tool),
            ("erofs-utils", "", &self.erofs_tool),
            ("ca-certificates", "MPL-2.0", &self.roots),
        ]
    }
}

/// The document, the same for the same inputs.
pub struct Bill {
    components: Vec<Component>,
}

struct Component {
    kind: &'static str,
    /// The package that it is a file of.
    group: Option<String>,
    name: String,
    version: String,
    licence: String,
    sha256: String,
    purl: Option<String>,
}

/// What is in an image of this kernel and this program.
pub fn make(kernel: &Kernel, program: &Program, versions: &Versions, parts: &Parts) -> Bill {
    let component = |kind, name: &str, version: &str, licence: &str, sha256: &str| Component {
        kind,
        group: None,
        name: name.to_owned(),
        version: version.to_owned(),
        licence: licence.to_owned(),
        sha256: sha256.to_owned(),
        purl: None,
    };
    let made = &kernel.made;
    let mut components = vec![
        component(
            "operating-system",
            "linux",
            &made.version,
            "GPL-2.0-only WITH Linux-syscall-note",
            &made.source_sha256,
        ),
        // It names what that version knows.
        component(
            "file",
            "linux configuration",
            &made.version,
            "",
            &made.fragment_sha256,
        ),
        component(
            "application",
            "cairn",
            env!("CARGO_PKG_VERSION"),
            "MIT OR Apache-2.0",
            &tool::sha256(&program.bytes),
        ),
        component(
            "library",
            "rust standard library",
            &program.made.rustc,
            "MIT OR Apache-2.0",
            &program.made.std_sha256,
        ),
    ];
    for (name, licence, sum) in parts.packages() {
        let version = versions.of(name);
        components.push(component("application", name, &version, licence, sum));
    }
    // Kernel and program may be compiled with the same tools, or not.
    let inputs: BTreeSet<&Input> = (made.tools.iter())
        .chain(&program.made.tools)
        .chain(&program.made.linked)
        .chain(&parts.libraries)
        .collect();
    for input in inputs {
        let (name, version) = (&input.name, &input.version);
        components.push(Component {
            group: Some(input.package.clone()),
            ..component("file", name, version, &input.licence, &input.sha256)
        });
    }
    for package in &program.made.crates {
        let (name, version) = (&package.name, &package.version);
        components.push(Component {
            purl: Some(format!("pkg:cargo/{name}@{version}")),
            ..component("library", name, version, &package.licence, &package.sha256)
        });
    }
    Bill { components }
}

impl Bill {
    /// The document.
    pub fn to_json(&self) -> Result<String, String> {
        let document = json!({
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "version": 1,
            "components": self.components.iter().map(Component::to_json).collect::<Vec<_>>(),
        });
        serde_json::to_string_pretty(&document).map_err(|error| error.to_string())
    }

    /// A line for each part that has a licence.
    pub fn licences(&self) -> String {
        let mut text = String::from(
            "What this image holds, and under which licence. The source of each part is that of the \
             named version.\n\n",
        );
        let mut last = String::new();
        for component in &self.components {
            let name = component.group.as_ref().unwrap_or(&component.name);
            let line = format!("{name} {}: {}\n", component.version, component.licence);
            // The files of a package follow each other.
            if !component.licence.is_empty() && line != last {
                text.push_str(&line);
                last = line;
            }
        }
        text
    }
}

impl Component {
    fn to_json(&self) -> Value {
        let mut value = json!({
            "type": self.kind,
            "name": self.name,
            "version": self.version,
        });
        if let Some(group) = &self.group {
            value["group"] = json!(group);
        }
        if !self.licence.is_empty() {
            value["licenses"] = json!([{ "expression": self.licence }]);
        }
        if !self.sha256.is_empty() {
            value["hashes"] = json!([{ "alg": "SHA-256", "content": self.sha256 }]);
        }
        if let Some(purl) = &self.purl {
            value["purl"] = json!(purl);
        }
        value
    }
}
