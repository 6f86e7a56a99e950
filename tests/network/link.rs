//! What the tests stand on: a cable with the machine's network at one end and servers at the other.

use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cairn::machine::net::network::{Event, Network};
use cairn::machine::plan::{Plan, Prefix};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use nix::unistd::Uid;
use tempfile::TempDir;

/// Servers check their addresses first, and answer within seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is lent counts so long.
pub const LEASE_MS: u64 = 600_000;
/// `2001:db8::123` as a suboption of DHCPv6's time servers (RFC 5908 §4.1).
pub const TIME_SERVER: &str = "00:01:00:10:20:01:0d:b8:00:00:00:00:00:00:00:00:00:00:01:23";

/// A cable between the machine (`eth0`) and its servers (`eth1`), with what runs there.
pub struct Link {
    name: String,
    folder: TempDir,
    server: Option<Child>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.kill();
        for end in ["machine", "servers"] {
            // The link goes with the first.
            let _ = Command::new("ip")
                .args(["netns", "del", &self.namespace(end)])
                .stderr(Stdio::null())
                .status();
        }
    }
}

impl Link {
    /// Lays a cable and enters the machine's end of it.
    pub fn run(test: impl FnOnce(&mut Link) + Send) {
        if let Some(why) = obstacle() {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "{why}");
            println!("SKIPPED: {why}");
            return;
        }
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut link = Link {
            name: format!("cairn-{}-{number}", std::process::id()),
            folder: tempfile::tempdir().expect("a folder"),
            server: None,
        };
        let (machine, servers) = (link.namespace("machine"), link.namespace("servers"));
        ip(&["netns", "add", &machine]);
        ip(&["netns", "add", &servers]);
        let ends = "link add eth0 netns MACHINE type veth peer name eth1 netns SERVERS";
        let ends = ends
            .replace("MACHINE", &machine)
            .replace("SERVERS", &servers);
        ip(&ends.split(' ').collect::<Vec<_>>());
        link.at_servers("addr add 192.0.2.1/24 dev eth1");
        link.at_servers("addr add 2001:db8:1::1/64 dev eth1 nodad");
        link.at_servers("link set lo up");
        link.at_servers("link set eth1 up");
        inside(&machine, || test(&mut link));
    }

    pub fn namespace(&self, end: &str) -> String {
        format!("{}-{end}", self.name)
    }

    /// Runs `ip` at the servers' end.
    pub fn at_servers(&self, words: &str) {
        let namespace = self.namespace("servers");
        let words = ["-n", &namespace].into_iter().chain(words.split(' '));
        ip(&words.collect::<Vec<_>>());
    }

    /// What `ip` says at the machine's end.
    pub fn at_machine(&self, words: &str) -> String {
        let namespace = self.namespace("machine");
        let words = ["-n", &namespace].into_iter().chain(words.split(' '));
        ip(&words.collect::<Vec<_>>())
    }

    fn serve(&mut self, program: &str, arguments: &[String]) {
        self.kill();
        let log = File::create(self.folder.path().join("log")).expect("a log");
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace("servers"), program]);
        command.args(arguments).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        self.server = Some(command.spawn().expect("it runs"));
    }

    /// A dnsmasq that has forgotten what others lent.
    pub fn dnsmasq(&mut self, options: &[&str]) {
        let leases = self.folder.path().join("leases");
        let _ = fs::remove_file(&leases);
        let fixed = "--keep-in-foreground --conf-file=/dev/null --log-facility=- --log-dhcp \
                     --user=root --group=root --pid-file= --port=0 --interface=eth1 \
                     --no-resolv --no-hosts --no-ping --dhcp-authoritative";
        let fixed = fixed.split_whitespace().map(str::to_owned);
        let leases = format!("--dhcp-leasefile={}", leases.display());
        let options = options.iter().map(|option| format!("--{option}"));
        let arguments: Vec<String> = fixed.chain([leases]).chain(options).collect();
        self.serve("dnsmasq", &arguments);
        // Whoever asks before that asks again only after ten seconds.
        self.until("dnsmasq runs", |link| {
            link.log().contains("started, version")
        });
    }

    /// Waits for something that the servers or the kernel do.
    pub fn until(&self, what: &str, is_so: impl Fn(&Link) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "not so: {what}\n{}", self.log());
            poll(&mut [], 20_u16).expect("nothing to wait on");
        }
    }

    /// A radvd that advertises to those that ask for it, with a name server for a minute.
    pub fn radvd(&mut self) {
        let config = self.folder.path().join("radvd.conf");
        let text = "interface eth1 { AdvSendAdvert on; UnicastOnly on;
            prefix 2001:db8:1::/64 { };
            RDNSS 2001:db8::53 { AdvRDNSSLifetime 60; }; };";
        fs::write(&config, text).expect("it is written");
        let namespace = self.namespace("servers");
        let forward = "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding";
        ip(&["netns", "exec", &namespace, "sh", "-c", forward]);
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let (config, pid) = (path("radvd.conf"), path("pid"));
        let arguments = ["-n", "-m", "stderr", "-d", "3", "-C", &config, "-p", &pid];
        self.serve("radvd", &arguments.map(str::to_owned));
    }

    /// Without a last word.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

/// Does something in a namespace, in a thread of its own: that is where it is, whatever the others
/// do.
pub fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    let worked = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let namespace = File::open(format!("/run/netns/{namespace}")).expect("it is there");
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("root may go there");
            work()
        });
        thread.join()
    });
    worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Why there can be no such test here.
fn obstacle() -> Option<String> {
    if !Uid::current().is_root() {
        return Some("only root can have network namespaces".to_owned());
    }
    for (program, version) in [
        ("ip", "-V"),
        ("dnsmasq", "--version"),
        ("radvd", "--version"),
    ] {
        let mut command = Command::new(program);
        let outcome = command.arg(version).output();
        if outcome.is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return Some(format!("{program} is not installed"));
        }
    }
    None
}

fn ip(words: &[&str]) -> String {
    let output = Command::new("ip").args(words).output().expect("ip");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {}: {said}", words.join(" "));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What PID 1 has of the network.
pub struct Machine {
    pub network: Network,
    since: Instant,
    leapt_ms: u64,
    pub heard: Vec<Event>,
}

impl Machine {
    pub fn start(plan: Plan) -> Machine {
        Machine {
            network: Network::new(plan, 0).expect("netlink"),
            since: Instant::now(),
            leapt_ms: 0,
            heard: Vec::new(),
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).expect("a short test") + self.leapt_ms
    }

    /// Time passes, as far as the network knows, and what was heard before does not count.
    pub fn leap(&mut self, ms: u64) {
        self.leapt_ms += ms;
        self.heard.clear();
    }

    /// Lets the network do its work until something is so.
    pub fn until(&mut self, link: &Link, what: &str, is_so: impl Fn(&Machine) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now_ms = self.now_ms();
            self.heard.extend(self.network.turn(now_ms));
            if is_so(self) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "not so: {what}\n{:#?}\n{}\n{}\n{}",
                self.heard,
                link.at_machine("addr"),
                link.at_machine("-6 route"),
                link.log()
            );
            let wake_ms = self.network.wake_ms().unwrap_or(u64::MAX);
            let wait_ms = wake_ms.saturating_sub(self.now_ms()).min(1_000);
            let fds = self.network.fds();
            let polled = fds.into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            let mut polled: Vec<PollFd<'_>> = polled.collect();
            let wait_ms = u16::try_from(wait_ms).expect("a second at most");
            poll(&mut polled, PollTimeout::from(wait_ms)).expect("sockets");
        }
    }

    /// The last address that came from there.
    pub fn address(&self, origin: &str) -> Option<Prefix> {
        self.heard.iter().rev().find_map(|event| match event {
            Event::Address { prefix, from, .. } if *from == origin => Some(*prefix),
            _ => None,
        })
    }

    pub fn has(&self, prefix: Prefix) -> bool {
        let addresses = self.network.addresses();
        addresses.contains(&("eth0".to_owned(), prefix))
    }

    pub fn has_lost(&self) -> bool {
        let lost = Event::Lost {
            interface: "eth0".to_owned(),
        };
        self.heard.contains(&lost)
    }

    pub fn no_trouble(&self) {
        let is_trouble = |event: &&Event| matches!(event, Event::Trouble(_));
        let troubles: Vec<&Event> = self.heard.iter().filter(is_trouble).collect();
        assert!(troubles.is_empty(), "{troubles:?}");
    }
}

pub fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The address lies between two of the same length.
pub fn is_between(prefix: Option<Prefix>, first: &str, last: &str) -> bool {
    prefix.is_some_and(|prefix| (address(first)..=address(last)).contains(&prefix.address))
}
