//! An authority: `pebble`, which asks a DNS of its own, on a loopback address of each test's own.
//!
//! All ports are the usual ones: nobody else has the address. It is made of the process's number
//! and a count, so tests in one process and in several do not meet.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use crate::support::server::Log;
use crate::support::{DOMAIN, Server};

/// Where the authority looks for `http-01`, in place of 80.
const HTTP: u16 = 5002;
/// Where it looks for `tls-alpn-01`, in place of 443.
const HTTPS: u16 = 5001;
const DIRECTORY: u16 = 14000;
const MANAGEMENT: u16 = 15000;
const DNS: u16 = 8053;
const DNS_MANAGEMENT: u16 = 8055;

/// How long a process has to listen.
const PATIENCE: Duration = Duration::from_secs(60);

/// The address, files and private root of an authority, which may run or not.
pub struct Pebble {
    address: Ipv4Addr,
    directory: TempDir,
    running: Vec<(Child, Arc<Log>)>,
}

/// How an authority differs from the usual one.
#[derive(Clone, Copy, Default)]
pub struct Ways<'a> {
    /// Seconds that its certificates live; 0: years.
    pub life_s: u64,
    /// Environment.
    pub environment: &'a [(&'a str, &'a str)],
    /// It looks for challenges elsewhere, where nobody answers.
    pub is_misled: bool,
}

impl Pebble {
    /// An authority that runs. `None` where a developer has not installed it, which is told. With
    /// `CI=true` it must be there.
    pub fn start(ways: Ways<'_>) -> Option<Pebble> {
        let mut pebble = Pebble::prepare()?;
        pebble.run(ways);
        Some(pebble)
    }

    /// One that does not run yet.
    pub fn prepare() -> Option<Pebble> {
        let installed = |name| {
            let mut command = Command::new(name);
            command
                .arg("-h")
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            command.status().is_ok()
        };
        if !installed("pebble") || !installed("pebble-challtestsrv") {
            let must = std::env::var("CI").is_ok_and(|value| value == "true");
            assert!(!must, "pebble is not installed; ./dev test installs it");
            eprintln!("SKIPPED: pebble is not installed; ./dev test installs it");
            return None;
        }
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed) % 32;
        let process = std::process::id() & 0x1_ffff;
        // 127.128.0.0/9 has 2^23 addresses: 17 bits of the process, 5 of the count, never .0.
        let low = (process << 6) | (number << 1) | 1;
        let address = Ipv4Addr::from(0x7f80_0000 | low);
        let directory = tempfile::Builder::new()
            .prefix("cairn-acme-")
            .tempdir()
            .expect("a temporary directory");
        let pebble = Pebble {
            address,
            directory,
            running: Vec::new(),
        };
        pebble.write_certificates();
        Some(pebble)
    }

    /// Starts it.
    pub fn run(&mut self, ways: Ways<'_>) {
        let address = self.address;
        let at = |port| SocketAddr::from((address, port)).to_string();
        let off = if ways.is_misled { 10 } else { 0 };
        let mut settings = format!(
            "\"listenAddress\":{:?},\"managementListenAddress\":{:?},\"certificate\":\"cert.pem\",\
             \"privateKey\":\"key.pem\",\"httpPort\":{},\"tlsPort\":{}",
            at(DIRECTORY),
            at(MANAGEMENT),
            HTTP + off,
            HTTPS + off
        );
        if ways.life_s > 0 {
            settings += &format!(",\"certificateValidityPeriod\":{}", ways.life_s);
        }
        self.write("pebble.json", &format!("{{\"pebble\":{{{settings}}}}}"));
        let mut dns = Command::new("pebble-challtestsrv");
        dns.args(["-dns01", &at(DNS), "-management", &at(DNS_MANAGEMENT)])
            .args(["-defaultIPv4", &self.address.to_string()])
            .args(["-defaultIPv6", "", "-http01", "", "-https01", ""])
            .args(["-tlsalpn01", ""]);
        self.spawn(dns, &[DNS, DNS_MANAGEMENT]);
        let mut authority = Command::new("pebble");
        authority
            .args(["-config", "pebble.json", "-strict", "-dnsserver", &at(DNS)])
            .env("PEBBLE_VA_NOSLEEP", "1")
            .envs(ways.environment.iter().copied());
        self.spawn(authority, &[DIRECTORY, MANAGEMENT]);
    }

    /// Ends it, as if it were down.
    pub fn stop(&mut self) {
        for (mut child, _) in self.running.drain(..) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Has the DNS say that this name is where nobody listens.
    pub fn mislead(&self, name: &str) {
        let body = format!("{{\"host\":{name:?},\"addresses\":[\"127.127.0.1\"]}}");
        let head = format!(
            "POST /add-a HTTP/1.1\r\nhost: dns\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut tcp = TcpStream::connect((self.address, DNS_MANAGEMENT)).expect("it runs");
        tcp.write_all((head + &body).as_bytes())
            .expect("it listens");
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).expect("it answers");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// Waits until it has heard a request for what begins so.
    #[track_caller]
    pub fn wait_for_request(&self, path: &str) {
        let wanted = format!("POST {path}");
        let (_, log) = self.running.last().expect("it runs");
        let heard = log.wait_for(|line| line.contains(&wanted));
        assert!(heard.is_some(), "nobody has asked for {path}");
    }

    fn spawn(&mut self, mut command: Command, ports: &[u16]) {
        let mut child = command
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it is installed");
        let log = Arc::new(Log::default());
        log.follow(child.stdout.take().expect("it is piped"), false);
        log.follow(child.stderr.take().expect("it is piped"), true);
        self.running.push((child, log));
        for port in ports {
            let address = SocketAddr::from((self.address, *port));
            let deadline = Instant::now() + PATIENCE;
            // Nothing tells when it listens but that it does.
            while TcpStream::connect(address).is_err() {
                assert!(Instant::now() < deadline, "nobody listens at {address}");
                std::thread::yield_now();
            }
        }
    }

    /// A server that is certified here, proved by HTTP. It does not run yet.
    pub fn server_with_http(&self) -> Server {
        let http = format!("[\"{}:{HTTP}\"]", self.address);
        self.server(&[("listen.http", &http)])
    }

    /// The same, proved by TLS.
    pub fn server_with_https(&self) -> Server {
        let https = format!("[\"{}:{HTTPS}\"]", self.address);
        self.server(&[("listen.https", &https)])
    }

    fn server(&self, settings: &[(&str, &str)]) -> Server {
        let directory = format!("\"https://{}:{DIRECTORY}/dir\"", self.address);
        let trust = format!("{:?}", self.directory.path().join("ca.pem"));
        let mut server = Server::prepare(settings);
        server.set("acme.directory", &directory);
        server.set("acme.trust", &trust);
        server.set("acme.contact", "\"mailto:admin@cairn.example\"");
        server
    }

    /// Where it looks for `http-01`.
    pub fn http(&self) -> SocketAddr {
        (IpAddr::from(self.address), HTTP).into()
    }

    /// Where it looks for `tls-alpn-01`.
    pub fn https(&self) -> SocketAddr {
        (IpAddr::from(self.address), HTTPS).into()
    }

    /// Its own certificate, by a root that only this test knows.
    fn write_certificates(&self) {
        let key = KeyPair::generate().expect("ring makes keys");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).expect("it can sign itself");
        let issuer = Issuer::new(params, key);
        let own = KeyPair::generate().expect("ring makes keys");
        let params = CertificateParams::new([self.address.to_string()]).expect("an address");
        let signed = params.signed_by(&own, &issuer).expect("the root signs");
        self.write("ca.pem", &root.pem());
        self.write("cert.pem", &signed.pem());
        self.write("key.pem", &own.serialize_pem());
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.directory.path().join(name), text).expect("the directory is ours");
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (_, log) in &self.running {
                log.print();
            }
        }
        self.stop();
    }
}

/// Waits until its first certificate is in use.
#[track_caller]
pub fn wait_for_certificate(server: &Server) {
    server.wait_for_log(&["the first certificate is in use", DOMAIN]);
}
