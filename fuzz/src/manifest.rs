//! Target `manifest`: what says of itself that it is a release, and what nobody has signed.

use cairn::machine::bundle::{self, BOOT_BYTES, Manifest, ROOT_BYTES};
use cairn::machine::release::{Release, Version};

/// A key that has signed none of the inputs.
const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

/// Runs the target on one input; panics on a finding.
pub fn manifest(data: &[u8]) {
    if let Ok(manifest) = Manifest::parse(data) {
        assert!((1..=BOOT_BYTES).contains(&manifest.boot.bytes));
        assert!((1..=ROOT_BYTES).contains(&manifest.root.bytes));
        let running = Release {
            version: "0.1.0".to_owned(),
            floor: "0.1.0".to_owned(),
            log: manifest.log,
            keys: Vec::new(),
            kernel: String::new(),
        };
        if manifest.may_follow(&running, 1).is_ok() {
            assert!(Version::parse(&manifest.version) >= Version::parse("0.1.0"));
        }
    }
    if let Some(release) = std::str::from_utf8(data)
        .ok()
        .and_then(|text| Release::parse(text).ok())
    {
        assert!(Version::parse(&release.version).is_some());
    }
    // Whatever it is, it was not signed by this key.
    let (signature, rest) = data.split_at(data.len() / 2);
    bundle::open(signature, rest, &[KEY.to_owned()]).expect_err("nobody has signed it");
}
