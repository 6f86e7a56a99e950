//! What went in, as a bill of materials (CycloneDX 1.5), and the licences of it all.

use serde_json::{Value, json};

use crate::binary::Program;
use crate::kernel::Kernel;
use crate::tool::{self, Versions};

/// Packages of the distribution that leave bytes in the image or decide about them, and the
/// licences of the bytes that they leave.
const TOOLS: [(&str, &str); 6] = [
    ("grub-pc-bin", "GPL-3.0-or-later"),
    ("grub-efi-amd64-bin", "GPL-3.0-or-later"),
    ("grub-common", "GPL-3.0-or-later"),
    ("erofs-utils", ""),
    ("libc6-dev", "LGPL-2.1-or-later"),
    ("ca-certificates", "MPL-2.0"),
];

/// The document, the same for the same inputs.
pub struct Bill {
    components: Vec<Component>,
}

struct Component {
    kind: &'static str,
    name: String,
    version: String,
    licence: String,
    sha256: String,
    purl: Option<String>,
}

/// What is in an image of this kernel and this program.
pub fn make(kernel: &Kernel, program: &Program, versions: &Versions) -> Bill {
    let component = |kind, name: &str, version: &str, licence: &str, sha256: &str| Component {
        kind,
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
        component("file", "linux configuration", "", "", &made.fragment_sha256),
        component("application", "gcc", &made.compiler, "", ""),
        component(
            "application",
            "cairn",
            env!("CARGO_PKG_VERSION"),
            "MIT OR Apache-2.0",
            &tool::sha256(&program.bytes),
        ),
        component("application", "rustc", &program.made.rustc, "", ""),
    ];
    for (name, licence) in TOOLS {
        components.push(component(
            "application",
            name,
            &versions.of(name),
            licence,
            "",
        ));
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
        for component in &self.components {
            if !component.licence.is_empty() {
                text.push_str(&format!(
                    "{} {}: {}\n",
                    component.name, component.version, component.licence
                ));
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
