//! The network of PID 1 against real servers, dnsmasq and radvd. Every test has a link of its own
//! between two network namespaces: the machine's, where the test itself goes, and the servers'. The
//! time that the network is told leaps over what nobody wants to wait for.
#![allow(clippy::print_stdout)]

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddrV6};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cairn::machine::net::network::{Event, Network};
use cairn::machine::plan::{InterfacePlan, Plan, Prefix};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};
use nix::unistd::Uid;
use socket2::{Domain, Protocol, Socket, Type};
use tempfile::TempDir;

/// Servers check their addresses first, and answer within seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// What is lent counts so long.
const LEASE_MS: u64 = 600_000;
/// `2001:db8::123` as a suboption of DHCPv6's time servers (RFC 5908 §4.1).
const TIME_SERVER: &str = "00:01:00:10:20:01:0d:b8:00:00:00:00:00:00:00:00:00:00:01:23";

/// A cable between the machine (`eth0`) and its servers (`eth1`), with what runs there.
struct Link {
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
    fn run(test: impl FnOnce(&mut Link) + Send) {
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

    fn namespace(&self, end: &str) -> String {
        format!("{}-{end}", self.name)
    }

    /// Runs `ip` at the servers' end.
    fn at_servers(&self, words: &str) {
        let namespace = self.namespace("servers");
        let words = ["-n", &namespace].into_iter().chain(words.split(' '));
        ip(&words.collect::<Vec<_>>());
    }

    /// What `ip` says at the machine's end.
    fn at_machine(&self, words: &str) -> String {
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
    fn dnsmasq(&mut self, options: &[&str]) {
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
    fn until(&self, what: &str, is_so: impl Fn(&Link) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "not so: {what}\n{}", self.log());
            poll(&mut [], 20_u16).expect("nothing to wait on");
        }
    }

    /// A radvd that advertises to those that ask for it, with a name server for a minute.
    fn radvd(&mut self) {
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
    fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

/// Does something in a namespace, in a thread of its own: that is where it is, whatever the others
/// do.
fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
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
struct Machine {
    network: Network,
    since: Instant,
    leapt_ms: u64,
    heard: Vec<Event>,
}

impl Machine {
    fn start(plan: Plan) -> Machine {
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
    fn leap(&mut self, ms: u64) {
        self.leapt_ms += ms;
        self.heard.clear();
    }

    /// Lets the network do its work until something is so.
    fn until(&mut self, link: &Link, what: &str, is_so: impl Fn(&Machine) -> bool) {
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
    fn address(&self, origin: &str) -> Option<Prefix> {
        self.heard.iter().rev().find_map(|event| match event {
            Event::Address { prefix, from, .. } if *from == origin => Some(*prefix),
            _ => None,
        })
    }

    fn has(&self, prefix: Prefix) -> bool {
        let addresses = self.network.addresses();
        addresses.contains(&("eth0".to_owned(), prefix))
    }

    fn has_lost(&self) -> bool {
        let lost = Event::Lost {
            interface: "eth0".to_owned(),
        };
        self.heard.contains(&lost)
    }

    fn no_trouble(&self) {
        let is_trouble = |event: &&Event| matches!(event, Event::Trouble(_));
        let troubles: Vec<&Event> = self.heard.iter().filter(is_trouble).collect();
        assert!(troubles.is_empty(), "{troubles:?}");
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The address lies between two of the same length.
fn is_between(prefix: Option<Prefix>, first: &str, last: &str) -> bool {
    prefix.is_some_and(|prefix| (address(first)..=address(last)).contains(&prefix.address))
}

#[test]
fn dhcp_lends_an_address_extends_it_and_another_server_changes_it() {
    Link::run(|link| {
        let options = "dhcp-option=option:dns-server,192.0.2.53";
        let time = "dhcp-option=option:ntp-server,192.0.2.123";
        let range = "dhcp-range=192.0.2.50,192.0.2.60,255.255.255.0,600";
        link.dnsmasq(&[range, options, time]);
        let mut machine = Machine::start(Plan::default());
        machine.until(link, "an address is lent", |machine| {
            machine
                .address("DHCP")
                .is_some_and(|prefix| machine.has(prefix))
        });
        let first = machine.address("DHCP").expect("it is lent");
        assert!(is_between(Some(first), "192.0.2.50", "192.0.2.60") && first.bits == 24);
        assert_eq!(machine.network.resolvers(), [address("192.0.2.53")]);
        assert_eq!(machine.network.time_servers(), [address("192.0.2.123")]);
        assert!(
            link.at_machine("route")
                .contains("default via 192.0.2.1 dev eth0")
        );
        machine.no_trouble();

        machine.leap(LEASE_MS / 2);
        machine.until(link, "the lease is extended", |machine| {
            machine.heard.contains(&Event::Servers)
        });
        assert!(!machine.has_lost() && machine.address("DHCP").is_none());

        let range = "dhcp-range=192.0.2.150,192.0.2.160,255.255.255.0,600";
        link.dnsmasq(&[range, options]);
        machine.leap(LEASE_MS / 2);
        machine.until(link, "another address is lent", |machine| {
            machine
                .address("DHCP")
                .is_some_and(|prefix| machine.has(prefix))
        });
        assert!(machine.has_lost() && !machine.has(first));
        assert!(is_between(
            machine.address("DHCP"),
            "192.0.2.150",
            "192.0.2.160"
        ));
        assert_eq!(machine.network.time_servers(), [] as [IpAddr; 0]);
        machine.no_trouble();
    });
}

#[test]
fn a_router_sends_to_dhcpv6_which_lends_extends_and_changes_an_address() {
    Link::run(|link| {
        let resolvers = "dhcp-option=option6:dns-server,[2001:db8::53]";
        let time = format!("dhcp-option=option6:56,{TIME_SERVER}");
        let range = "dhcp-range=2001:db8:1::100,2001:db8:1::1ff,64,600";
        link.dnsmasq(&["enable-ra", range, resolvers, &time]);
        let mut machine = Machine::start(Plan::default());
        machine.until(link, "an address is lent", |machine| {
            machine
                .address("DHCPv6")
                .is_some_and(|prefix| machine.has(prefix))
        });
        let first = machine.address("DHCPv6").expect("it is lent");
        assert!(is_between(
            Some(first),
            "2001:db8:1::100",
            "2001:db8:1::1ff"
        ));
        assert_eq!(first.bits, 128);
        assert_eq!(machine.network.resolvers(), [address("2001:db8::53")]);
        assert_eq!(machine.network.time_servers(), [address("2001:db8::123")]);
        assert!(link.at_machine("-6 route").contains("default via fe80::"));
        let told = link.at_machine("-6 addr show dev eth0 to 2001:db8:1::100/120");
        assert!(
            told.contains("valid_lft 600sec") || told.contains("valid_lft 59"),
            "{told}"
        );

        machine.leap(LEASE_MS / 2);
        machine.until(link, "the lease is extended", |machine| {
            link.log().contains("DHCPRENEW(eth1)") && machine.heard.contains(&Event::Servers)
        });
        assert!(!machine.has_lost() && machine.address("DHCPv6").is_none());

        let range = "dhcp-range=2001:db8:1::200,2001:db8:1::2ff,64,600";
        link.dnsmasq(&["enable-ra", range, resolvers]);
        machine.leap(LEASE_MS);
        machine.until(link, "another address is lent", |machine| {
            machine
                .address("DHCPv6")
                .is_some_and(|prefix| machine.has(prefix))
        });
        assert!(machine.has_lost() && !machine.has(first));
        assert!(is_between(
            machine.address("DHCPv6"),
            "2001:db8:1::200",
            "2001:db8:1::2ff"
        ));
        machine.no_trouble();
    });
}

#[test]
fn another_dhcpv6_server_takes_over_a_lease_that_is_rebound() {
    Link::run(|link| {
        let range = "dhcp-range=2001:db8:1::100,2001:db8:1::1ff,64,600";
        link.dnsmasq(&["enable-ra", range]);
        let mut machine = Machine::start(Plan::default());
        machine.until(link, "an address is lent", |machine| {
            machine
                .address("DHCPv6")
                .is_some_and(|prefix| machine.has(prefix))
        });
        let first = machine.address("DHCPv6").expect("it is lent");
        link.dnsmasq(&["enable-ra", range]);
        machine.leap(LEASE_MS * 9 / 10);
        machine.until(link, "the lease is extended", |machine| {
            link.log().contains("DHCPREBIND(eth1)") && machine.heard.contains(&Event::Servers)
        });
        assert!(machine.has(first) && !machine.has_lost());
        machine.leap(LEASE_MS / 5);
        machine.until(link, "that was long ago", |machine| machine.has(first));
        assert!(!machine.has_lost());
    });
}

#[test]
fn dhcpv6_is_asked_because_the_plan_says_so() {
    Link::run(|link| {
        link.dnsmasq(&["dhcp-range=2001:db8:1::100,2001:db8:1::1ff,64,600"]);
        let interface = InterfacePlan {
            dhcp4: false,
            dhcp6: true,
            accept_ra: false,
            ..InterfacePlan::default()
        };
        let plan = Plan {
            interfaces: vec![interface],
            ..Plan::default()
        };
        let mut machine = Machine::start(plan);
        machine.until(link, "an address is lent", |machine| {
            machine
                .address("DHCPv6")
                .is_some_and(|prefix| machine.has(prefix))
        });
        let addresses = machine.network.addresses();
        assert_eq!(addresses.len(), 1, "none but that: {addresses:?}");
        link.kill();
        machine.leap(LEASE_MS);
        machine.until(link, "the address is gone", |machine| {
            machine.has_lost() && machine.network.addresses().is_empty()
        });
        machine.no_trouble();
    });
}

#[test]
fn a_router_with_other_things_is_asked_for_these_only() {
    Link::run(|link| {
        let time = format!("dhcp-option=option6:56,{TIME_SERVER}");
        link.dnsmasq(&[
            "enable-ra",
            "dhcp-range=2001:db8:1::,ra-stateless,64,600",
            &time,
        ]);
        let mut machine = Machine::start(Plan::default());
        machine.until(link, "a time server is named", |machine| {
            machine.network.time_servers() == [address("2001:db8::123")]
        });
        machine.until(link, "the kernel has made an address", |machine| {
            let addresses = machine.network.addresses();
            addresses.iter().any(|(_, prefix)| prefix.bits == 64)
        });
        assert_eq!(machine.address("DHCPv6"), None);
        machine.no_trouble();
    });
}

/// Advertises a name server for ever, in the name of a router.
fn advertise(source: &str, hops: u32, resolver: &str) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    socket.bind_device(Some(b"eth1"))?;
    socket.set_multicast_hops_v6(hops)?;
    let to = |address: &str| {
        let address: Ipv6Addr = address.parse().expect("an address");
        SocketAddrV6::new(address, 0, 0, 0).into()
    };
    socket.bind(&to(source))?;
    let mut message = vec![134, 0, 0, 0, 64, 0, 7, 8];
    message.extend([0; 8]);
    message.extend([25, 3, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    message.extend(resolver.parse::<Ipv6Addr>().expect("one").octets());
    socket.send_to(&message, &to("ff02::1"))?;
    Ok(())
}

#[test]
fn only_a_router_of_this_link_is_heard() {
    Link::run(|link| {
        let mut machine = Machine::start(Plan::default());
        let servers = link.namespace("servers");
        machine.until(link, "a router is heard", |machine| {
            inside(&servers, || {
                // Without a source of its own the kernel takes the link-local address, once there
                // is one.
                let far = advertise("::", 64, "2001:db8::66");
                let global = advertise("2001:db8:1::1", 255, "2001:db8::67");
                if far.is_ok() && global.is_ok() {
                    advertise("::", 255, "2001:db8::53").expect("as the others");
                }
            });
            !machine.network.resolvers().is_empty()
        });
        assert_eq!(machine.network.resolvers(), [address("2001:db8::53")]);
    });
}

#[test]
fn a_link_without_ipv4_has_all_it_needs_from_its_router() {
    Link::run(|link| {
        link.radvd();
        let mut machine = Machine::start(Plan::default());
        machine.until(link, "a name server is named", |machine| {
            machine.network.resolvers() == [address("2001:db8::53")]
        });
        machine.until(link, "the kernel has made an address", |machine| {
            let addresses = machine.network.addresses();
            addresses.iter().any(|(_, prefix)| prefix.bits == 64)
        });
        assert!(link.at_machine("-6 route").contains("default via fe80::"));
        link.kill();
        machine.leap(61_000);
        machine.until(link, "the name server's time is over", |machine| {
            machine.network.resolvers().is_empty() && machine.heard.contains(&Event::Servers)
        });
        machine.no_trouble();
    });
}

#[test]
fn a_router_that_advertised_before_anybody_heard_it_is_asked_again() {
    Link::run(|link| {
        link.radvd();
        link.at_machine("link set eth0 up");
        // The kernel has asked and been answered, and does not ask any more.
        link.until("the kernel has made an address", |link| {
            let addresses = link.at_machine("-6 addr show dev eth0 scope global");
            addresses.contains("2001:db8:1:")
        });
        let mut machine = Machine::start(Plan::default());
        machine.until(link, "a name server is named", |machine| {
            machine.network.resolvers() == [address("2001:db8::53")]
        });
    });
}
