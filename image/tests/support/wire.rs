//! A cable to a machine: the device `tap0` in a network namespace of its own, with real servers at
//! its other end.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{PASSWORD, PATIENCE, succeeds};

/// The namespace, and what runs there.
pub struct Wire {
    name: String,
    folder: TempDir,
    servers: Vec<(&'static str, Child)>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        for (_, server) in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
        let _ = Command::new("ip")
            .args(["netns", "del", &self.name])
            .stderr(Stdio::null())
            .status();
    }
}

/// A command that runs there.
pub fn inside(namespace: &str, program: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace, program]);
    command
}

impl Wire {
    /// Lays one, with these addresses at the servers' end; `None` where that cannot be. With
    /// `CI=true` it must be.
    pub fn lay(addresses: &[&str]) -> Option<Wire> {
        if let Some(why) = obstacle() {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{why}");
            println!("SKIPPED: {why}");
            return None;
        }
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("cairn-vm-{}-{number}", std::process::id());
        succeeds(Command::new("ip").args(["netns", "add", &name]));
        let wire = Wire {
            name,
            folder: tempfile::tempdir().expect("a folder"),
            servers: Vec::new(),
        };
        wire.ip("link set lo up");
        wire.ip("tuntap add dev tap0 mode tap");
        for address in addresses {
            let nodad = if address.contains(':') { " nodad" } else { "" };
            wire.ip(&format!("addr add {address} dev tap0{nodad}"));
        }
        wire.ip("link set tap0 up");
        Some(wire)
    }

    /// A file in the servers' folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// For [`super::Options`].
    pub fn namespace(&self) -> Option<String> {
        Some(self.name.clone())
    }

    /// A command at the servers' end.
    pub fn command(&self, program: &Path) -> Command {
        inside(&self.name, program.to_str().expect("UTF-8"))
    }

    /// Runs `ip` there.
    pub fn ip(&self, words: &str) -> String {
        let mut ip = Command::new("ip");
        succeeds(ip.args(["-n", &self.name]).args(words.split(' ')))
    }

    /// Serves in place of one of the same name.
    pub fn serve(&mut self, program: &'static str, arguments: &[String]) {
        self.stop(program);
        let log = File::create(self.log_path(program)).expect("a log");
        let mut command = inside(&self.name, program);
        command.args(arguments).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        self.servers
            .push((program, command.spawn().expect("it runs")));
    }

    fn log_path(&self, program: &str) -> PathBuf {
        let name = program.rsplit('/').next().unwrap_or(program);
        self.file(&format!("{name}.log"))
    }

    /// What a server has said.
    pub fn log(&self, program: &str) -> String {
        fs::read_to_string(self.log_path(program)).unwrap_or_default()
    }

    /// Without a last word.
    pub fn stop(&mut self, program: &str) {
        while let Some(at) = self.servers.iter().position(|(name, _)| *name == program) {
            let (_, mut server) = self.servers.swap_remove(at);
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    /// A dnsmasq that has forgotten what others lent.
    pub fn dnsmasq(&mut self, options: &[&str]) {
        let leases = self.folder.path().join("leases");
        let _ = fs::remove_file(&leases);
        let fixed = "--keep-in-foreground --conf-file=/dev/null --log-facility=- --log-dhcp \
                     --user=root --group=root --pid-file= --interface=tap0 --except-interface=lo \
                     --bind-dynamic --no-resolv --no-hosts --no-ping --dhcp-authoritative";
        let fixed = fixed.split_whitespace().map(str::to_owned);
        let leases = format!("--dhcp-leasefile={}", leases.display());
        let options = options.iter().map(|option| format!("--{option}"));
        let arguments: Vec<String> = fixed.chain([leases]).chain(options).collect();
        self.serve("dnsmasq", &arguments);
        self.until("dnsmasq runs", |wire| {
            wire.log("dnsmasq").contains("started, version")
        });
    }

    /// A radvd with what it says about `tap0`. Nobody has to ask for it.
    pub fn radvd(&mut self, interface: &str) {
        let config = self.folder.path().join("radvd.conf");
        let text = format!(
            "interface tap0 {{ AdvSendAdvert on; MinRtrAdvInterval 3; MaxRtrAdvInterval 4;\n\
             {interface}\n}};"
        );
        fs::write(&config, text).expect("it is written");
        let forward = "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding";
        succeeds(inside(&self.name, "sh").args(["-c", forward]));
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let (config, pid) = (path("radvd.conf"), path("pid"));
        let arguments = ["-n", "-m", "stderr", "-d", "3", "-C", &config, "-p", &pid];
        self.serve("radvd", &arguments.map(str::to_owned));
    }

    /// A time server that is right as far as this computer is.
    pub fn time_server(&mut self) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/time_server.py");
        self.serve("python3", &[script.display().to_string()]);
        self.until("the time server runs", |wire| {
            wire.log("python3").contains("serving")
        });
    }

    /// A metadata service that has one document.
    pub fn metadata(&mut self, address: &str, path: &str, document: &str) {
        let path = self.folder.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("it is made");
        fs::write(path, document).expect("it is written");
        let folder = self.folder.path().display().to_string();
        let words = [
            "-u",
            "-m",
            "http.server",
            "--bind",
            address,
            "--directory",
            &folder,
            "80",
        ];
        self.serve("python3", &words.map(str::to_owned));
        self.until("the service runs", |wire| {
            wire.log("python3").contains("Serving")
        });
    }

    /// Waits for something that the servers do.
    #[track_caller]
    pub fn until(&self, what: &str, is_so: impl Fn(&Wire) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            let logs: Vec<String> = self
                .servers
                .iter()
                .map(|(name, _)| self.log(name))
                .collect();
            assert!(
                Instant::now() < deadline,
                "not so: {what}\n{}",
                logs.join("\n")
            );
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    /// Bob writes to Alice through the machine at this address, by slixmpp.
    pub fn chat_through(&self, python: &Path, host: &str) {
        let mut bob = self.chat(python, "bob", "alice", host);
        let mut said = bob.stdin.take().expect("it is piped");
        said.write_all(b"over the wire\n").expect("it reads");
        said.flush().expect("it reads");
        let mut alice = self.chat(python, "alice", "bob", host);
        let mut heard = BufReader::new(alice.stdout.take().expect("it is piped"));
        let mut line = String::new();
        heard.read_line(&mut line).expect("UTF-8");
        for child in [&mut alice, &mut bob] {
            let _ = child.kill();
            let _ = child.wait();
        }
        assert_eq!(line, "bob@chat.example: over the wire\n");
    }

    fn chat(&self, python: &Path, name: &str, other: &str, host: &str) -> Child {
        let at = |name: &str| format!("{name}@chat.example");
        self.person(python, &at(name), &at(other), host)
    }

    /// Somebody with the usual password on the server at this address, by slixmpp: what is written
    /// to them goes to `other`, and they print what they hear.
    pub fn person(&self, python: &Path, jid: &str, other: &str, host: &str) -> Child {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/chat.py");
        self.command(python)
            .arg(script)
            .args([jid, PASSWORD, other, &format!("{host}:5222")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python runs")
    }
}

/// Why there can be no such test here.
fn obstacle() -> Option<String> {
    for (program, version) in [
        ("ip", "-V"),
        ("dnsmasq", "--version"),
        ("radvd", "--version"),
        ("python3", "--version"),
    ] {
        if Command::new(program).arg(version).output().is_err() {
            return Some(format!("{program} is not installed"));
        }
    }
    if !Path::new("/dev/net/tun").exists() {
        return Some("there is no /dev/net/tun".to_owned());
    }
    let name = format!("cairn-vm-{}-try", std::process::id());
    let try_it = |words: &[&str]| {
        let output = Command::new("ip").args(words).output().expect("ip");
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        output.status.success().then_some(()).ok_or(said)
    };
    let made = try_it(&["netns", "add", &name])
        .and_then(|()| try_it(&["-n", &name, "tuntap", "add", "dev", "tap0", "mode", "tap"]));
    let _ = try_it(&["netns", "del", &name]);
    made.err()
        .map(|why| format!("no network namespace with a cable can be made: {why}"))
}
