//! Replays every committed corpus, and what a fuzzer left in `artifacts/`, through its target.

use std::path::Path;

fn replay(name: &str, target: fn(&[u8])) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut inputs = 0;
    for folder in ["corpus", "artifacts"] {
        let Ok(entries) = std::fs::read_dir(root.join(folder).join(name)) else {
            continue;
        };
        for entry in entries {
            let path = entry.expect("a readable corpus").path();
            let input = std::fs::read(&path).expect("a readable input");
            let outcome = std::panic::catch_unwind(|| cairn_fuzz::bounded(target, &input));
            assert!(outcome.is_ok(), "{} fails on {}", name, path.display());
            inputs += 1;
        }
    }
    assert!(inputs > 0, "{name} has no corpus");
}

#[test]
fn jid() {
    replay("jid", cairn_fuzz::jid);
}

#[test]
fn sasl() {
    replay("sasl", cairn_fuzz::sasl);
}

#[test]
fn stanza() {
    replay("stanza", cairn_fuzz::stanza);
}

#[test]
fn stream() {
    replay("stream", cairn_fuzz::stream);
}

#[test]
fn s2s() {
    replay("s2s", cairn_fuzz::s2s);
}

#[test]
fn component() {
    replay("component", cairn_fuzz::component);
}

#[test]
fn record() {
    replay("record", cairn_fuzz::record);
}

#[test]
fn gpt() {
    replay("gpt", cairn_fuzz::gpt);
}

#[test]
fn metadata() {
    replay("metadata", cairn_fuzz::metadata);
}

#[test]
fn sntp() {
    replay("sntp", cairn_fuzz::sntp);
}

#[test]
fn volume() {
    replay("volume", cairn_fuzz::volume);
}

#[test]
fn dhcp() {
    replay("dhcp", cairn_fuzz::dhcp);
}

#[test]
fn ra() {
    replay("ra", cairn_fuzz::ra);
}

#[test]
fn netlink() {
    replay("netlink", cairn_fuzz::netlink);
}

#[test]
fn manifest() {
    replay("manifest", cairn_fuzz::manifest);
}

#[test]
fn dns() {
    replay("dns", cairn_fuzz::dns);
}
