//! Target `volume`: any bytes are a volume or not, and every file of one is read within its bound.
//!
//! The first byte chooses: `F` and the rest is a FAT volume, `I` and the rest is an ISO 9660 volume
//! from its descriptors on, without the 32 KiB of nothing in front of them.

use cairn::machine::answer;
use cairn::machine::source::cloud_init;
use cairn::machine::source::found::Found;
use cairn::machine::source::volume::Volume;

const SYSTEM_AREA_BYTES: usize = 32 << 10;
const FILE_BYTES_MAX: usize = 16 << 10;
const PATHS: [&[&str]; 6] = [
    &[],
    &["cairn.toml"],
    &["user-data"],
    &["openstack", "latest", "user_data"],
    &["a", "a", "a", "a", "a"],
    &[""],
];

/// Runs the target on one input; panics on a finding.
pub fn volume(data: &[u8]) {
    let bytes = match data.split_first() {
        Some((b'F', rest)) => rest.to_vec(),
        Some((b'I', rest)) => [&vec![0; SYSTEM_AREA_BYTES], rest].concat(),
        _ => return,
    };
    let Some(volume) = Volume::open(&bytes[..]) else {
        return;
    };
    for path in PATHS {
        match volume.read(path, FILE_BYTES_MAX) {
            Ok(Some(file)) => assert!(file.len() <= FILE_BYTES_MAX && !path.is_empty()),
            Ok(None) => {}
            Err(why) => assert!(!why.is_empty()),
        }
    }
    if let Some(found) = cloud_init::read(&volume) {
        let message = answer::to_message(Ok(found));
        answer::from_message::<Found>(&message).expect("what is sent is taken");
    }
}
