//! Target `metadata`: any document of a provider becomes an answer within bounds, or is refused.
//!
//! The first line names the reader, the rest is the document. Readers of several documents get the
//! same one for each, or parts that a line `--` stands between.

use cairn::machine::answer;
use cairn::machine::source::found::{Found, Networks, Origin};
use cairn::machine::source::http::ResponseReader;
use cairn::machine::source::service::{
    azure, digital_ocean, hetzner, linode, oracle, scaleway, vultr,
};
use cairn::machine::source::{network, openstack, smbios, user_data, yaml};
use cairn::machine::time::Offset;

/// Runs the target on one input; panics on a finding.
pub fn metadata(data: &[u8]) {
    let Some(end) = data.iter().position(|byte| *byte == b'\n') else {
        return;
    };
    let (kind, document) = (&data[..end], &data[end + 1..]);
    let parts = parts(document);
    let at = |index: usize| parts.get(index).copied().unwrap_or(document);
    let file = |index: usize| parts.get(index).map(|part| part.to_vec());
    let found = Found::at(Origin::NoCloud);
    let found = match kind {
        b"http" => return http(document),
        b"message" => return message(document),
        b"user-data" => Ok(found.with_user_data(document).with_own_network()),
        b"toml" => Ok(found.with_toml(document).with_own_network()),
        b"smbios" => smbios::read(document).map(|toml| found.with_toml(&toml.unwrap_or_default())),
        b"network" => yaml::read(document)
            .and_then(|document| network::read(&document))
            .map(|understood| Found {
                network: understood.plan,
                notes: understood.notes,
                ..found
            }),
        b"openstack" => Ok(openstack::read(found, [file(0), file(1), file(2)])),
        b"azure" => azure::read(found, document),
        b"digital-ocean" => digital_ocean::read(found, document),
        b"hetzner" => hetzner::read(found, at(0), at(1)),
        b"linode" => linode::read(found, at(0), at(1), at(2)),
        b"oracle" => oracle::read(found, document),
        b"scaleway" => scaleway::read(found, at(0), parts.get(1).copied()),
        b"vultr" => vultr::read(found, at(0), at(1)),
        _ => return,
    };
    match found {
        Ok(found) => {
            let message = answer::to_message(Ok(found));
            let taken: Found = answer::from_message(&message).expect("what is sent is taken");
            if let Some(config) = &taken.config {
                assert_eq!(taken.revision, user_data::revision(config));
            }
        }
        Err(why) => assert!(!why.is_empty()),
    }
}

/// What a child might send.
fn message(document: &[u8]) {
    if let Ok(found) = answer::from_message::<Found>(document) {
        let message = answer::to_message(Ok(found.clone()));
        assert_eq!(answer::from_message(&message), Ok(found));
    }
    if let Ok(networks) = answer::from_message::<Networks>(document) {
        let message = answer::to_message(Ok(networks.clone()));
        assert_eq!(answer::from_message(&message), Ok(networks));
    }
    if let Ok(offset) = answer::from_message::<Offset>(document) {
        assert!(offset.replies > 0);
    }
}

/// A response is the same however it is cut; the first byte says how.
fn http(document: &[u8]) {
    let Some((piece, bytes)) = document.split_first() else {
        return;
    };
    let read = |piece: usize| {
        let mut reader = ResponseReader::default();
        for piece in bytes.chunks(piece) {
            if let Some(response) = reader.feed(piece)? {
                return Ok(response);
            }
        }
        reader.finish()
    };
    let whole = read(bytes.len().max(1)).map_err(|_: String| ());
    let pieces = read(usize::from(*piece).max(1)).map_err(|_| ());
    if bytes.len() < 16 << 10 {
        assert_eq!(whole, pieces);
    }
}

fn parts(document: &[u8]) -> Vec<&[u8]> {
    let (mut parts, mut start) = (Vec::new(), 0);
    for (place, window) in document.windows(4).enumerate() {
        if window == b"\n--\n" && place >= start {
            parts.push(&document[start..=place]);
            start = place + 4;
        }
    }
    parts.push(&document[start..]);
    parts
}
