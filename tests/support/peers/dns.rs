//! The names of a test: Knot DNS answers for all there are, as a signed root zone, so `.test` is
//! like any other. Only names below `plain.test.` are in a zone of their own, which is not signed.

use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::thread;

use super::{Leaf, Net, Place, Process};

const CONFIG: &str = r#"
server:
    rundir: "FOLDER"
    listen: [ "0.0.0.0@53", "::@53" ]
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: "FOLDER"
    journal-db-max-size: 16M
    kasp-db-max-size: 16M
    timer-db-max-size: 16M
log:
  - target: stderr
    any: info
policy:
  - id: signed
    algorithm: ecdsap256sha256
    single-type-signing: on
zone:
  - domain: .
    storage: "FOLDER"
    file: root.zone
    journal-content: all
    zonefile-load: difference-no-serial
    zonefile-sync: -1
    dnssec-signing: on
    dnssec-policy: signed
  - domain: plain.test.
    storage: "FOLDER"
    file: plain.zone
"#;

/// The types that prove something (RFC 4034): DS, RRSIG, NSEC, DNSKEY.
const PROOFS: [u16; 4] = [43, 46, 47, 48];

/// What the names are. Records live a minute, and what is not there is not there for a second.
#[derive(Clone)]
pub struct Zone {
    records: Vec<String>,
}

impl Zone {
    /// Nothing but the name server itself.
    pub fn new() -> Zone {
        let records = [
            ". SOA ns.test. nobody.test. 1 60 60 600 1",
            ". NS ns.test.",
            "ns.test. A 192.0.2.53",
            "plain.test. NS ns.test.",
        ];
        Zone {
            records: records.map(str::to_owned).to_vec(),
        }
    }

    /// A record: "prosody.test. A 192.0.2.1". The names end with a dot.
    pub fn record(mut self, record: &str) -> Zone {
        self.records.push(record.to_owned());
        self
    }

    /// The first addresses of a place.
    pub fn host(self, name: &str, place: &Place) -> Zone {
        self.record(&format!("{name}. A {}", place.v4))
            .record(&format!("{name}. AAAA {}", place.v6))
    }

    /// A domain whose server is found by `_xmpp-server` under its own name.
    pub fn server(self, domain: &str, place: &Place) -> Zone {
        self.host(domain, place)
            .service("_xmpp-server", domain, 5269)
    }

    /// A domain whose server is found by `_xmpps-server` alone (XEP-0368).
    pub fn direct_server(self, domain: &str, place: &Place) -> Zone {
        self.host(domain, place)
            .service("_xmpps-server", domain, 5270)
    }

    /// The same for a port that serves the web too.
    pub fn shared_server(self, domain: &str, place: &Place) -> Zone {
        self.host(domain, place)
            .service("_xmpps-server", domain, 443)
    }

    fn service(self, service: &str, domain: &str, port: u16) -> Zone {
        self.record(&format!(
            "{service}._tcp.{domain}. SRV 0 5 {port} {domain}."
        ))
    }

    /// The public key of whoever serves there (RFC 7673 §4).
    pub fn tlsa(self, host: &str, port: u16, leaf: &Leaf) -> Zone {
        let digest = leaf.public_key_sha256();
        self.record(&format!("_{port}._tcp.{host}. TLSA 3 1 1 {digest}"))
    }

    fn text(&self, is_plain: bool) -> String {
        let is_of_it = |record: &&String| {
            let name = record.split(' ').next().unwrap_or_default();
            name.ends_with(".plain.test.") == is_plain
        };
        let records: Vec<_> = self.records.iter().filter(is_of_it).cloned().collect();
        format!("$TTL 60\n$ORIGIN .\n{}\n", records.join("\n"))
    }

    fn write(&self, place: &Place) {
        place.write("root.zone", &self.text(false));
        let head = "plain.test. SOA ns.test. nobody.test. 1 60 60 600 1\nplain.test. NS ns.test.\n";
        place.write("plain.zone", &format!("{}{head}", self.text(true)));
    }
}

/// The server of names.
pub struct Dns {
    /// Where it is: 192.0.2.53.
    pub place: Place,
    _process: Process,
}

impl Dns {
    /// Starts it, and waits until it answers.
    #[track_caller]
    pub fn start(net: &Net, zone: &Zone) -> Dns {
        let place = net.dns_place();
        let folder = place.folder().display().to_string();
        place.write("knot.conf", &CONFIG.replace("FOLDER", &folder));
        zone.write(&place);
        let mut command = place.command("knotd");
        command.args(["-c", "knot.conf"]);
        let process = Process::start("knotd", command);
        process.wait_for("server started");
        Dns {
            place,
            _process: process,
        }
    }

    /// Other names from now on. Who has asked before may remember for a minute.
    #[track_caller]
    pub fn set(&self, zone: &Zone) {
        zone.write(&self.place);
        let arguments = ["-c", "knot.conf", "-b", "zone-reload", "."];
        self.place.run("knotc", &arguments);
    }

    /// The root's key in the form of a zone file, for those that validate.
    #[track_caller]
    pub fn trust_anchor(&self) -> String {
        let arguments = ["-c", "knot.conf", "zone-read", ".", "@", "DNSKEY"];
        let said = self.place.run("knotc", &arguments);
        let (_, key) = said
            .split_once(" DNSKEY ")
            .expect("a signed zone has a key");
        format!(". IN DNSKEY {}\n", key.trim())
    }

    /// The same as a file in a place.
    pub fn trust_anchor_file(&self, place: &Place) -> PathBuf {
        place.write("root.key", &self.trust_anchor())
    }

    /// A server in front of it that strips signatures, and with `keys` also answers that there are no
    /// keys and no proofs. Where it is.
    pub fn stripping(&self, keys: bool) -> SocketAddr {
        let address = self.place.socket(5_353);
        let (front, back) = self.place.inside(|| {
            let front = UdpSocket::bind(address).expect("it is free");
            let back = UdpSocket::bind(self.place.socket(0)).expect("a port");
            back.connect(self.place.socket(53)).expect("a way");
            (front, back)
        });
        thread::spawn(move || {
            let mut question = [0; 4_096];
            while let Ok((len, from)) = front.recv_from(&mut question) {
                let said = stripped(&mut question[..len], keys, &back);
                if let Some(said) = said {
                    let _ = front.send_to(&said, from);
                }
            }
        });
        address
    }
}

/// The answer to a question, without what proves it.
fn stripped(question: &mut [u8], keys: bool, back: &UdpSocket) -> Option<Vec<u8>> {
    let end = 12 + question[12..].iter().position(|byte| *byte == 0)? + 5;
    let type_ = u16::from_be_bytes([question[end - 4], question[end - 3]]);
    if keys && PROOFS.contains(&type_) {
        let mut nothing = question[..end].to_vec();
        nothing[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0]);
        return Some(nothing);
    }
    // Behind the question there is the OPT record alone (RFC 6891 §6.1.3): it wants no proofs now.
    if question.get(end..end + 3) == Some(&[0, 0, 41]) {
        question[end + 7] &= !0x80;
    }
    back.send(question).ok()?;
    let mut said = vec![0; 4_096];
    let len = back.recv(&mut said).ok()?;
    said.truncate(len);
    Some(said)
}
