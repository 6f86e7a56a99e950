//! A small fuzzer for where libFuzzer is missing: seeded splices of the committed corpus. Finds little that libFuzzer
//! does not, but runs with the other tests.

use std::path::Path;

/// Inputs tried per target; `CAIRN_MUTATIONS` sets another number.
const MUTATIONS: usize = 20_000;

/// Marsaglia's xorshift: any sequence will do, the same one every time is the point.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}

/// Opening a log takes a thousand times as long as reading a stanza.
const RECORD_MUTATIONS: usize = 1_000;

fn mutate(name: &str, target: fn(&[u8])) {
    mutate_often(name, target, MUTATIONS);
}

fn mutate_often(name: &str, target: fn(&[u8]), mutations: usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(name);
    let mut corpus: Vec<Vec<u8>> = std::fs::read_dir(folder)
        .expect("a corpus")
        .map(|entry| {
            std::fs::read(entry.expect("a readable corpus").path()).expect("a readable input")
        })
        .collect();
    corpus.sort();
    let count = std::env::var("CAIRN_MUTATIONS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(mutations);
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for _ in 0..count {
        let mut input = corpus[random.below(corpus.len())].clone();
        for _ in 0..=random.below(4) {
            let at = random.below(input.len() + 1);
            let end = (at + random.below(8)).min(input.len());
            let other = &corpus[random.below(corpus.len())];
            let from = random.below(other.len());
            let to = (from + random.below(24)).min(other.len());
            input.splice(at..end, other[from..to].iter().copied());
        }
        if std::panic::catch_unwind(|| target(&input)).is_err() {
            panic!("{name} fails on {:?}", String::from_utf8_lossy(&input));
        }
    }
}

#[test]
fn jid() {
    mutate("jid", cairn_fuzz::jid);
}

#[test]
fn sasl() {
    mutate("sasl", cairn_fuzz::sasl);
}

#[test]
fn stanza() {
    mutate("stanza", cairn_fuzz::stanza);
}

#[test]
fn stream() {
    mutate("stream", cairn_fuzz::stream);
}

#[test]
fn component() {
    mutate("component", cairn_fuzz::component);
}

#[test]
fn record() {
    mutate_often("record", cairn_fuzz::record, RECORD_MUTATIONS);
}

#[test]
fn dhcp() {
    mutate("dhcp", cairn_fuzz::dhcp);
}

#[test]
fn ra() {
    mutate("ra", cairn_fuzz::ra);
}

#[test]
fn netlink() {
    mutate("netlink", cairn_fuzz::netlink);
}

#[test]
fn manifest() {
    mutate("manifest", cairn_fuzz::manifest);
}

#[test]
fn dns() {
    mutate("dns", cairn_fuzz::dns);
}
