//! Cairn as one of the servers.

use std::path::PathBuf;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Ca, Dns, Leaf, PASSWORD, Place, Process};

/// A Cairn in a place.
pub struct CairnPeer {
    /// Where it runs.
    pub place: Place,
    /// What it serves.
    pub domain: String,
    settings: Vec<(String, String)>,
    /// It is on a machine of its own, which knows the clock to be wrong.
    clock_is_wrong: bool,
    process: Option<Process>,
}

impl CairnPeer {
    /// A configuration for clients alone, and accounts; nothing runs yet.
    #[track_caller]
    pub fn prepare(place: Place, domain: &str, leaf: &Leaf, accounts: &[&str]) -> CairnPeer {
        let (certificate, key) = leaf.install(&place);
        let mut peer = CairnPeer {
            place,
            domain: domain.to_owned(),
            settings: Vec::new(),
            clock_is_wrong: false,
            process: None,
        };
        for (key, value) in [
            ("domain", quoted(&domain)),
            ("listen.c2s", "[\"[::]:5222\"]".to_owned()),
            ("listen.c2s_tls", "[]".to_owned()),
            ("tls.certificate", quoted(&certificate.display())),
            ("tls.key", quoted(&key.display())),
            ("store.path", quoted(&"cairn.log")),
            ("log.level", quoted(&"debug")),
        ] {
            peer.set(key, &value);
        }
        for account in accounts {
            peer.add(account);
        }
        peer
    }

    /// Lets it talk to other servers, with certificates of this authority, by the names of the
    /// test. The addresses of the test are for documentation, which are as little of the public
    /// network as private ones.
    pub fn federate(&mut self, ca: &Ca, dns: &Dns) {
        let authority = ca.file(&self.place);
        let anchor = dns.trust_anchor_file(&self.place);
        for (key, value) in [
            ("listen.s2s", "[\"[::]:5269\"]".to_owned()),
            ("listen.s2s_tls", "[\"[::]:5270\"]".to_owned()),
            ("federation.mode", quoted(&"open")),
            ("federation.trust", quoted(&authority.display())),
            ("federation.allow_private_addresses", "true".to_owned()),
            ("dns.servers", format!("[\"{}\"]", dns.place.v4)),
            ("dns.trust_anchor", quoted(&anchor.display())),
        ] {
            self.set(key, &value);
        }
    }

    /// Changes a setting; it holds from the next start.
    pub fn set(&mut self, key: &str, value: &str) {
        self.settings.retain(|(known, _)| known != key);
        self.settings.push((key.to_owned(), value.to_owned()));
        self.write();
    }

    fn write(&self) {
        let line = |(key, value): &(String, String)| format!("{key} = {value}\n");
        let text: String = self.settings.iter().map(line).collect();
        self.place.write("cairn.toml", &text);
    }

    /// Leaves a setting to its default from the next start on.
    pub fn unset(&mut self, key: &str) {
        self.settings.retain(|(known, _)| known != key);
        self.write();
    }

    /// From the next start on its machine knows the clock to be wrong.
    pub fn set_clock_wrong(&mut self) {
        self.place.write("clock-is-wrong", "");
        self.clock_is_wrong = true;
    }

    /// Its machine has learnt the time.
    #[track_caller]
    pub fn set_clock_right(&mut self) {
        std::fs::remove_file(self.path("clock-is-wrong")).expect("it was wrong");
        self.clock_is_wrong = false;
        for pid in self.place.processes("cairn") {
            kill(Pid::from_raw(pid), Signal::SIGHUP).expect("it runs");
        }
    }

    /// The file of a setting.
    pub fn path(&self, name: &str) -> PathBuf {
        self.place.folder().join(name)
    }

    #[track_caller]
    fn add(&self, name: &str) {
        self.add_account(&format!("{name}@{}", self.domain));
    }

    /// Serves one domain more, with this certificate.
    pub fn serve_too(&mut self, domain: &str, leaf: &Leaf) {
        let (certificate, key) = leaf.install_as(&self.place, domain);
        let (certificate, key) = (quoted(&certificate.display()), quoted(&key.display()));
        let host = format!("{{ domain = {domain:?}, certificate = {certificate}, key = {key} }}");
        self.set("host", &format!("[{host}]"));
    }

    /// Puts a certificate for a domain into the store.
    #[track_caller]
    pub fn certify(&self, domain: &str, leaf: &Leaf) {
        let (certificate, key) = leaf.install_as(&self.place, domain);
        let mut command = self.place.command(env!("CARGO_BIN_EXE_cairn"));
        command.args(["--config", "cairn.toml", "cert", "set", "--host", domain]);
        let status = command
            .args([certificate, key])
            .stdout(Stdio::null())
            .status();
        let status = status.expect("the binary runs");
        assert!(status.success(), "{domain} has no certificate: {status}");
    }

    /// Makes an account of any of its domains.
    #[track_caller]
    pub fn add_account(&self, jid: &str) {
        let arguments = ["user", "add", "--password-stdin", jid];
        let mut command = self.place.command(env!("CARGO_BIN_EXE_cairn"));
        command.args(["--config", "cairn.toml"]).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.spawn().expect("the binary runs");
        let mut stdin = child.stdin.take().expect("it is piped");
        std::io::Write::write_all(&mut stdin, format!("{PASSWORD}\n").as_bytes())
            .expect("it reads");
        drop(stdin);
        let status = child.wait().expect("it ends");
        assert!(status.success(), "{jid} was not added: {status}");
    }

    /// Starts it, the first time or again on the same store.
    #[track_caller]
    pub fn run(&mut self) {
        assert!(self.process.is_none(), "it runs already");
        let mut command = self.place.command(env!("CARGO_BIN_EXE_cairn"));
        command.args(["--config", "cairn.toml", "serve"]);
        if self.clock_is_wrong {
            command.env("CAIRN_TEST_MACHINE", self.place.folder());
        }
        let process = Process::start(&self.domain, command);
        // All are bound before the first is told.
        let address = process.log().address_of("c2s");
        assert!(address.is_some(), "{} does not listen", self.domain);
        self.process = Some(process);
    }

    /// Ends it without a word to anybody.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// The process.
    pub fn process(&self) -> &Process {
        self.process.as_ref().expect("it runs")
    }

    /// How much memory it has, in bytes: its resident set.
    pub fn resident_bytes(&self) -> u64 {
        let of = |pid: i32| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix("VmRSS:"))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        let kib = self.place.processes("cairn").into_iter().filter_map(of);
        kib.sum::<u64>() * 1_024
    }
}

fn quoted(value: &dyn std::fmt::Display) -> String {
    format!("{:?}", value.to_string())
}
