//! What went in, as a bill of materials (CycloneDX 1.5), and the licences of it all.

use serde_json::{Value, json};

use crate::binary::Program;
use crate::kernel::Kernel;
use crate::tool::{self, Versions};

/// The sums of what is read of the distribution's packages.
#[derive(Debug)]
pub struct Sums {
    /// GRUB's modules for BIOS.
    pub grub_bios: String,
    /// GRUB's modules for UEFI.
    pub grub_efi: String,
    /// The tool that puts them together.
    pub grub_tool: String,
    /// The tool that makes the root's file system.
    pub erofs_tool: String,
    /// The certificate authorities.
    pub roots: String,
}

impl Sums {
    /// Packages that leave bytes in the image or decide about them, the licences of the bytes that
    /// they leave, and their sums.
    fn packages<'a>(&'a self, program: &'a Program) -> [(&'static str, &'static str, &'a str); 6] {
        [
            ("grub-pc-bin", "GPL-3.0-or-later", &self.grub_bios),
            ("grub-efi-amd64-bin", "GPL-3.0-or-later", &self.grub_efi),
            ("grub-common", "GPL-3.0-or-later", &self.grub_tool),
            ("erofs-utils", "", &self.erofs_tool),
            ("libc6-dev", "LGPL-2.1-or-later", &program.made.libc_sha256),
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
    name: String,
    version: String,
    licence: String,
    sha256: String,
    purl: Option<String>,
}

/// What is in an image of this kernel and this program.
pub fn make(kernel: &Kernel, program: &Program, versions: &Versions, sums: &Sums) -> Bill {
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
        component(
            "application",
            "rustc",
            &program.made.rustc,
            "MIT OR Apache-2.0",
            &program.made.std_sha256,
        ),
    ];
    for (name, licence, sum) in sums.packages(program) {
        let version = versions.of(name);
        components.push(component("application", name, &version, licence, sum));
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
