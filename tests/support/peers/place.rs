//! A machine of the test's network: a namespace with one interface, and a folder for its files.

use std::fs::{self, File};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tempfile::TempDir;

use super::namespace::Namespace;
use super::net::DNS_NUMBER;

/// Makes a process and all that it starts end with the thread that started it, whatever ends that,
/// and gives it the names of the test's DNS server. The shell stays, as process 1 of those.
const FENCE: &str = r#"mount --bind "$1" /etc/resolv.conf && shift && "$@"; exit $?"#;

/// What the names of the places' folders begin with; the process that made them follows.
const FOLDER: &str = "cairn-peers-";

/// Whether processes can be put behind a fence here, or what was said.
pub(super) fn can_fence() -> Result<(), String> {
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "sh",
        "-c",
        FENCE,
    ]);
    command.args(["sh", "/etc/resolv.conf", "true"]);
    let output = command.output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    output.status.success().then_some(()).ok_or(said)
}

/// Removes what tests left that were killed: a folder whose process is gone and which nobody has
/// locked. A process may be somewhere where its number is another, and its folder must stay.
pub(super) fn sweep() {
    let entries = fs::read_dir(std::env::temp_dir());
    for entry in entries.into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name
            .to_str()
            .and_then(|name| name.strip_prefix(FOLDER)?.split_once('-'))
            .map(|(pid, _)| pid);
        let is_gone = |pid: &str| {
            let is_pid = !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit());
            is_pid && !Path::new("/proc").join(pid).exists()
        };
        if !pid.is_some_and(is_gone) {
            continue;
        }
        let Ok(folder) = File::open(entry.path()) else {
            continue;
        };
        if folder.try_lock().is_ok() {
            // Another test may be at it too.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A machine on the test's network.
pub struct Place {
    /// What it is called in what is printed.
    pub name: String,
    /// Its first address, of RFC 5737's for documentation.
    pub v4: Ipv4Addr,
    /// Its first IPv6 address, of RFC 3849's.
    pub v6: Ipv6Addr,
    namespace: Namespace,
    switch: Arc<Namespace>,
    /// The other end of its cable.
    port: String,
    folder: TempDir,
    /// Held as long as the folder is used.
    _lock: File,
}

/// What has left a place since it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// TCP connections that somebody in it began, to itself too.
    pub tcp_opened: u64,
    /// UDP datagrams that somebody in it sent, to itself too.
    pub udp_sent: u64,
    /// UDP datagrams that somebody in it has got.
    pub udp_received: u64,
    /// Frames on its cable, of all protocols. The kernel sends some by itself.
    pub frames_sent: u64,
}

impl Place {
    pub(super) fn new(name: &str, number: u8, switch: Arc<Namespace>) -> Place {
        let namespace = Namespace::new().expect("there is one already");
        let port = format!("port{number}");
        // Whoever takes over a number takes over what neighbours remember of it.
        switch.ip(&format!(
            "link add {port} type veth peer name eth0 address 02:00:00:00:00:{number:02x} netns {}",
            namespace.path()
        ));
        switch.ip(&format!("link set {port} master switch up"));
        let prefix = format!("{FOLDER}{}-", std::process::id());
        let folder = tempfile::Builder::new().prefix(&prefix).tempdir();
        let folder = folder.expect("a temporary folder");
        let lock = File::open(folder.path()).expect("it was just made");
        lock.lock().expect("nobody else has it");
        let place = Place {
            name: name.to_owned(),
            v4: Ipv4Addr::new(192, 0, 2, number),
            v6: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number.into()),
            namespace,
            switch,
            port,
            folder,
            _lock: lock,
        };
        for words in [
            "link set lo up",
            "link set eth0 up",
            &format!("addr add {}/24 dev eth0", place.v4),
            &format!("addr add {}/64 dev eth0 nodad", place.v6),
            "route add default via 192.0.2.254",
            "-6 route add default via 2001:db8::fe",
            // Private addresses of others are on this cable too.
            "route add 10.0.0.0/8 dev eth0",
            "-6 route add fd00::/8 dev eth0",
        ] {
            place.namespace.ip(words);
        }
        let dns = Ipv4Addr::new(192, 0, 2, DNS_NUMBER);
        place.write("resolv.conf", &format!("nameserver {dns}\n"));
        place
    }

    /// One more address: "10.0.0.7/32" or "fd00::7/128".
    #[track_caller]
    pub fn add_address(&self, prefix: &str) {
        let nodad = if prefix.contains(':') { " nodad" } else { "" };
        self.namespace
            .ip(&format!("addr add {prefix} dev eth0{nodad}"));
    }

    /// A port of its first IPv4 address.
    pub fn socket(&self, port: u16) -> SocketAddr {
        (self.v4, port).into()
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Puts a file into its folder.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder().join(name);
        fs::write(&path, text).expect("the folder is ours");
        path
    }

    /// A folder in its folder.
    pub fn subfolder(&self, name: &str) -> PathBuf {
        let path = self.folder().join(name);
        fs::create_dir_all(&path).expect("the folder is ours");
        path
    }

    /// Does something in it, in a thread of its own. A socket that is made there stays there.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.namespace.inside(work)
    }

    /// A program that runs in it; its arguments follow. It ends with the thread that starts it.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "nsenter"])
            .arg(format!("--net={}", self.namespace.path()))
            .args(["unshare", "--mount", "--pid", "--fork", "--kill-child"])
            .args(["sh", "-c", FENCE, "sh"])
            .arg(self.folder().join("resolv.conf"))
            .arg(program)
            .current_dir(self.folder());
        command
    }

    /// Runs a program in it that must succeed, with these arguments, and returns what it said.
    #[track_caller]
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.command(program).args(arguments).output();
        let output = output.expect("it can be started");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{program} {} in {}: {said}{}",
            arguments.join(" "),
            self.name,
            String::from_utf8_lossy(&output.stderr)
        );
        said
    }

    /// From now on everything that goes to it or comes from it is lost, and nobody is told.
    pub fn cut(&self) {
        self.switch.ip(&format!("link set {} nomaster", self.port));
    }

    /// It is on the network again.
    pub fn mend(&self) {
        self.switch
            .ip(&format!("link set {} master switch", self.port));
    }

    /// The processes in it that have this name, which the kernel cuts to 15 characters.
    pub fn processes(&self, name: &str) -> Vec<i32> {
        let identity = self.identity();
        let entries = fs::read_dir("/proc").expect("it is there").flatten();
        let here = entries.filter(|entry| {
            let link = fs::read_link(entry.path().join("ns/net"));
            let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            link.is_ok_and(|link| link.display().to_string() == identity) && comm.trim() == name
        });
        let pids = here.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.collect()
    }

    /// Whether somebody in it has a TCP connection with another place that it has not closed.
    pub fn is_connected_to(&self, other: &Place) -> bool {
        let output = self.inside(|| Command::new("ss").arg("-Htn").output());
        let output = output.expect("it comes with ip");
        let lines = String::from_utf8_lossy(&output.stdout).into_owned();
        let (v4, v6) = (format!("{}:", other.v4), format!("[{}]:", other.v6));
        lines.lines().any(|line| {
            let mut words = line.split_whitespace();
            let state = words.next().unwrap_or_default();
            let peer = words.nth(3).unwrap_or_default().replace("::ffff:", "");
            let is_theirs = peer.replace(['[', ']'], "").starts_with(&v4) || peer.starts_with(&v6);
            matches!(state, "ESTAB" | "CLOSE-WAIT") && is_theirs
        })
    }

    /// What has left it so far.
    pub fn counters(&self) -> Counters {
        let read = |name: &str| {
            let path = format!("/proc/thread-self/net/{name}");
            self.inside(|| fs::read_to_string(path).expect("the kernel counts"))
        };
        let (v4, v6, device) = (read("snmp"), read("snmp6"), read("dev"));
        let six = |key| pair(&v6, key);
        Counters {
            tcp_opened: column(&v4, "Tcp:", "ActiveOpens"),
            udp_sent: column(&v4, "Udp:", "OutDatagrams") + six("Udp6OutDatagrams"),
            udp_received: column(&v4, "Udp:", "InDatagrams") + six("Udp6InDatagrams"),
            frames_sent: frames_sent(&device),
        }
    }

    /// What `/proc/PID/ns/net` links to for whoever runs in it.
    pub fn identity(&self) -> String {
        self.namespace.identity()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The kernel takes its time with the namespace, and another place may have the same number.
        let _ = self.switch.try_ip(&format!("link del {}", self.port));
    }
}

impl Counters {
    /// What has been added since then.
    pub fn since(self, before: Counters) -> Counters {
        Counters {
            tcp_opened: self.tcp_opened - before.tcp_opened,
            udp_sent: self.udp_sent - before.udp_sent,
            udp_received: self.udp_received - before.udp_received,
            frames_sent: self.frames_sent - before.frames_sent,
        }
    }
}

/// A value of `/proc/net/snmp`: a line of names, and below it one of values.
fn column(text: &str, protocol: &str, key: &str) -> u64 {
    let mut lines = text.lines().filter(|line| line.starts_with(protocol));
    let names = lines.next().expect("a line of names").split_whitespace();
    let values = lines.next().expect("a line of values").split_whitespace();
    let found = names.zip(values).find(|(name, _)| *name == key);
    number(found.expect("the kernel counts that").1)
}

/// A value of `/proc/net/snmp6`: a name and a value in each line.
fn pair(text: &str, key: &str) -> u64 {
    let mut words = text.lines().map(str::split_whitespace);
    let found = words.find_map(|mut line| (line.next() == Some(key)).then(|| line.next()));
    number(found.flatten().expect("the kernel counts that"))
}

/// The tenth number behind the interface's name in `/proc/net/dev`.
fn frames_sent(text: &str) -> u64 {
    let line = text
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("eth0:"));
    let line = line.expect("it has a cable");
    number(line.split_whitespace().nth(9).expect("sixteen columns"))
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}
