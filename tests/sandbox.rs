//! A server that has been taken over: what it can still reach. The attacker is this test binary,
//! started again as root, which enters the sandbox and tries.
#![allow(clippy::print_stdout, clippy::needless_pass_by_value)]

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::Duration;

use cairn::machine::sandbox::{self, Role};
use cairn::machine::source::{Service, service};
use cairn::machine::time::{name, query};
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::reboot::set_cad_enabled;
use nix::sys::signal::kill;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::unistd::{Pid, Uid, setuid};

/// What the attacker finds that it should not.
struct Findings(Vec<String>);

impl Findings {
    fn refused<T, E>(&mut self, what: &str, outcome: Result<T, E>) {
        if outcome.is_ok() {
            self.0.push(format!("it could {what}"));
        }
    }

    fn allowed<T, E: std::fmt::Display>(&mut self, what: &str, outcome: Result<T, E>) {
        if let Err(error) = outcome {
            self.0.push(format!("it could not {what}: {error}"));
        }
    }
}

/// Not a test of its own: see [`a_server_that_was_taken_over_reaches_nothing`].
#[test]
#[ignore = "started by another test"]
fn attacker() {
    let Ok(folder) = std::env::var("CAIRN_ATTACKED") else {
        return;
    };
    // Handed over before the rights go: the device of the store.
    let store = OpenOptions::new()
        .read(true)
        .write(true)
        .open(format!("{folder}/store"))
        .expect("it is there");
    if let Err(error) = sandbox::enter(Role::Server) {
        println!("NO SANDBOX: {error}");
        return;
    }
    let mut found = Findings(Vec::new());
    files(&mut found, &folder);
    rights(&mut found);
    calls(&mut found, &store);
    work(&mut found, &store);
    println!("FOUND: {:?}", found.0);
}

fn files(found: &mut Findings, folder: &str) {
    for path in [
        "/dev/vda",
        "/dev/sda",
        "/dev/mem",
        "/etc/shadow",
        "/root",
        "/sys/class/block",
    ] {
        found.refused(&format!("open {path}"), File::open(path));
    }
    found.refused(
        "read a file of others",
        fs::read(format!("{folder}/secret")),
    );
    found.refused("write a file", fs::write(format!("{folder}/new"), b"x"));
    found.refused("write to /run", fs::write("/run/cairn-attack", b"x"));
    found.refused("make a folder", fs::create_dir("/run/cairn-attack"));
    found.refused("set a sysctl", fs::write("/proc/sys/kernel/hostname", b"x"));
    found.refused("run a program", Command::new("/bin/true").status());
}

fn rights(found: &mut Findings) {
    found.refused("become root again", setuid(Uid::from_raw(0)));
    found.refused(
        "mount",
        mount(
            None::<&str>,
            "/mnt",
            Some("tmpfs"),
            MsFlags::empty(),
            None::<&str>,
        ),
    );
    found.refused(
        "have a namespace of its own",
        unshare(CloneFlags::CLONE_NEWUSER),
    );
    found.refused("change what Ctrl-Alt-Del does", set_cad_enabled(true));
    found.refused("signal its parent", kill(Pid::parent(), None));
    found.refused("signal PID 1", kill(Pid::from_raw(1), None));
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    for name in ["CapEff", "CapPrm", "CapBnd"] {
        let line = status.lines().find(|line| line.starts_with(name));
        let none = line.is_none_or(|line| line.ends_with("0000000000000000"));
        if !none {
            found.0.push(format!("it holds {line:?}"));
        }
    }
}

fn calls(found: &mut Findings, store: &File) {
    let open = |family, kind| socket(family, kind, SockFlag::empty(), None);
    found.refused(
        "open a packet socket",
        open(AddressFamily::Packet, SockType::Raw),
    );
    found.refused(
        "open a netlink socket",
        open(AddressFamily::Netlink, SockType::Raw),
    );
    found.refused(
        "open a raw socket",
        open(AddressFamily::Inet, SockType::Raw),
    );
    found.refused(
        "listen on a Unix socket",
        UnixListener::bind("/run/cairn-attack"),
    );
    found.refused(
        "change the length of the store",
        nix::unistd::ftruncate(store, 0),
    );
    found.refused("ask the device for anything else", other_ioctl(store));
    found.refused(
        "allocate inotify",
        nix::sys::inotify::Inotify::init(nix::sys::inotify::InitFlags::empty()),
    );
}

/// A request that the filter does not know is refused by it (EPERM), and not by the file.
fn other_ioctl(store: &File) -> Result<(), nix::Error> {
    let terminal = nix::sys::termios::tcgetattr(store);
    match terminal {
        Err(nix::Error::EPERM) => Err(nix::Error::EPERM),
        _ => Ok(()),
    }
}

/// What the server lives from.
fn work(found: &mut Findings, store: &File) {
    use std::os::unix::fs::FileExt;
    found.allowed("write its store", store.write_all_at(b"log", 0));
    found.allowed("sync its store", store.sync_data());
    let mut bytes = [0; 3];
    found.allowed("read its store", store.read_exact_at(&mut bytes, 0));
    found.allowed(
        "lock its store",
        store.try_lock().map_err(|error| error.to_string()),
    );
    let listener = TcpListener::bind("127.0.0.1:0");
    if let Ok(listener) = &listener {
        let address = listener.local_addr().expect("it is bound");
        found.allowed("connect", TcpStream::connect(address));
    }
    found.allowed("listen", listener);
    found.allowed("ask by UDP", UdpSocket::bind("127.0.0.1:0"));
    found.allowed("read the roots", fs::read_dir("/etc"));
    found.allowed("measure the machine", fs::read("/proc/meminfo"));
    let thread = std::thread::Builder::new().spawn(|| 7);
    found.allowed(
        "have a thread",
        thread.map(|thread| thread.join().unwrap_or(0)),
    );
    assert!(store.as_raw_fd() > libc::STDERR_FILENO);
}

#[test]
fn a_server_that_was_taken_over_reaches_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["store", "secret"] {
        fs::write(folder.path().join(name), b"before").expect("it is written");
    }
    let folder = folder.path().display().to_string();
    finds_nothing("attacker", ("CAIRN_ATTACKED", &folder));
}

/// Not a test of its own: see [`a_child_that_asks_reaches_servers_and_nothing_else`].
#[test]
#[ignore = "started by another test"]
fn asker() {
    let Ok(server) = std::env::var("CAIRN_ASKED") else {
        return;
    };
    let server: SocketAddr = server.parse().expect("an address");
    if let Err(error) = sandbox::enter(Role::Asker) {
        println!("NO SANDBOX: {error}");
        return;
    }
    let mut found = Findings(Vec::new());
    // Nobody there knows the time, or the name: that they were asked is what counts.
    let time = query::ask(&[server], Duration::from_secs(20), 0);
    found.allowed(
        "ask for the time",
        hears(time.map(drop), "Connection refused"),
    );
    let name = ["ntp.example".to_owned()];
    let (_, unknown) = name::addresses(&name, &[server], Duration::from_secs(20));
    found.allowed(
        "ask for a name",
        hears(Err(unknown.join("")), "Connection refused"),
    );
    let metadata = service::ask_at(Service::DigitalOcean, vec![server]);
    found.allowed("ask a service", hears(metadata.map(drop), "answers 500"));
    rights(&mut found);
    let listener = TcpListener::bind("127.0.0.1:0");
    found.refused("listen", listener);
    let thread = std::thread::Builder::new().spawn(|| 7);
    found.refused("have a thread", thread);
    println!("FOUND: {:?}", found.0);
}

/// Fine, or the refusal that is meant.
fn hears(outcome: Result<(), String>, refusal: &str) -> Result<(), String> {
    match outcome {
        Err(why) if why.contains(refusal) => Ok(()),
        outcome => outcome,
    }
}

#[test]
fn a_child_that_asks_reaches_servers_and_nothing_else() {
    // By TCP a service that fails; by UDP nobody.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut request = [0; 1024];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
        }
    });
    finds_nothing("asker", ("CAIRN_ASKED", &address));
}

/// Starts this binary again, as root, for one of the tests that are started by others.
fn finds_nothing(test: &str, variable: (&str, &str)) {
    if !Uid::current().is_root() {
        println!("SKIPPED: only root can give its rights up");
        return;
    }
    let output = Command::new(std::env::current_exe().expect("it is known"))
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env(variable.0, variable.1)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    if said.contains("NO SANDBOX: the kernel has no Landlock") {
        println!("SKIPPED: this kernel has no Landlock");
        return;
    }
    assert!(
        said.contains("FOUND: []"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
