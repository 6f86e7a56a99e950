//! The names of a test: Knot DNS answers for all there are, as a signed root zone, so `.test` is
//! like any other.

use std::path::PathBuf;

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
"#;

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

    fn text(&self) -> String {
        let records = self.records.join("\n");
        format!("$TTL 60\n$ORIGIN .\n{records}\n")
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
        place.write("root.zone", &zone.text());
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
        self.place.write("root.zone", &zone.text());
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
}
