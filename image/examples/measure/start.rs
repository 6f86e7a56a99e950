//! From the start of QEMU to the first log-in: by BIOS, by UEFI, and with the kernel given directly.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::support::releases::{CONFIG, given};
use super::support::{Disk, PROCESSOR, Vm, free_port, python, succeeds, tool};
use super::{Result, median};

/// What a run is given up after.
const PATIENCE: Duration = Duration::from_secs(120);
/// PID 1's first line, of ours and of the trivial one.
const FIRST: &str = "starts, from slot a";
/// Lines that end a part of the way, and what they end. One may come before the one above it.
const STAGES: [(&str, &str); 7] = [
    ("GRUB", "firmware"),
    (FIRST, "loader and kernel"),
    ("the server starts", "PID 1"),
    ("the store was read", "store"),
    ("(DHCP)", "network"),
    ("name=\"c2s\"", "listening"),
    ("the server accepts log-ins", "own log-in"),
];

/// The one from which on it can be reached.
const LISTENING: usize = 5;

/// How the kernel comes into memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Bios,
    Uefi,
    Direct,
}

/// A disk, and what QEMU is to be given to start from it without a loader.
struct Machine {
    disk: Disk,
    kernel: std::path::PathBuf,
    cmdline: String,
}

impl Machine {
    fn of(disk: Disk, folder: &Path) -> Machine {
        let at = disk.find(b"cmdline_a=", 7, 39);
        let entry = String::from_utf8_lossy(&disk.read(at, 4096)).into_owned();
        let value = |name: &str| {
            let lines = entry.lines();
            let mut found = lines.filter_map(|line| line.strip_prefix(name));
            found.next().unwrap_or_default().to_owned()
        };
        Machine {
            // As the loader puts it together.
            cmdline: format!(
                "{} \"dm-mod.create={}\" cairn.slot=a cairn.left=2 cairn.fb=0 cairn.saved=1 \
                 cairn.firmware=bios",
                value("cmdline_a="),
                value("dm_a=")
            ),
            kernel: folder.join("vmlinuz"),
            disk,
        }
    }

    fn start(&self, way: Way, port: u16) -> Result<Child> {
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-accel", "tcg", "-nographic", "-m", "256", "-snapshot"]);
        qemu.args(["-cpu", PROCESSOR]);
        let disk = self.disk.path();
        let drive = format!("file={},format=raw,if=virtio", disk.display());
        qemu.args(["-drive", &drive]);
        // What every provider has, by this device or by the processor: entropy.
        qemu.args(["-device", "virtio-rng-pci", "-nic"]);
        qemu.arg(format!(
            "user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:{port}-:5223"
        ));
        match way {
            Way::Bios => {}
            Way::Uefi => {
                let firmware = "/usr/share/OVMF/OVMF_CODE_4M.fd";
                let drive = format!("if=pflash,format=raw,readonly=on,file={firmware}");
                qemu.args(["-drive", &drive]);
            }
            Way::Direct => {
                qemu.arg("-kernel").arg(&self.kernel);
                qemu.arg("-append").arg(&self.cmdline);
            }
        }
        Ok(qemu.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?)
    }
}

/// What happens, and when it was seen.
enum Event {
    Said(Vec<u8>, Instant),
    LoggedIn(Instant),
    Ended,
}

/// A client outside that tries to log in once it is told to.
struct Client {
    child: Child,
    go: ChildStdin,
}

impl Client {
    /// Returns when it waits for that.
    fn ready(python: &Path, port: u16, told: Sender<Event>) -> Result<Client> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/login.py");
        let mut child = Command::new(python)
            .arg(script)
            .args(["first", &format!("127.0.0.1:{port}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let go = child.stdin.take().ok_or("no input")?;
        let mut said = BufReader::new(child.stdout.take().ok_or("no output")?);
        let mut line = String::new();
        said.read_line(&mut line)?;
        std::thread::spawn(move || {
            let mut line = String::new();
            let is_in = said.read_line(&mut line).is_ok() && line.trim() == "in";
            let event = if is_in {
                Event::LoggedIn(Instant::now())
            } else {
                Event::Ended
            };
            // Who measures may have given up.
            drop(told.send(event));
        });
        Ok(Client { child, go })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Passes on what a machine writes.
fn follow(mut output: impl Read + Send + 'static, told: Sender<Event>) {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(len @ 1..) = output.read(&mut buffer) {
            let said = Event::Said(buffer[..len].to_vec(), Instant::now());
            if told.send(said).is_err() {
                return;
            }
        }
        drop(told.send(Event::Ended));
    });
}

/// Seconds to each stage, and to the log-in of a client outside where there is one; `None` for what
/// does not happen this way.
fn run(machine: &Machine, way: Way, python: Option<&Path>) -> Result<Vec<Option<f64>>> {
    let (told, events) = channel();
    let port = free_port();
    let client = python.map(|python| Client::ready(python, port, told.clone()));
    let client = client.transpose()?;
    let since = Instant::now();
    let mut child = machine.start(way, port)?;
    follow(child.stdout.take().ok_or("no output")?, told);
    let times = watch(since, &events, client);
    child.kill()?;
    child.wait()?;
    times
}

fn watch(
    since: Instant,
    events: &Receiver<Event>,
    mut client: Option<Client>,
) -> Result<Vec<Option<f64>>> {
    let (mut said, mut times) = (Vec::new(), vec![None; STAGES.len() + 1]);
    let stages = if client.is_some() { STAGES.len() } else { 2 };
    loop {
        let left = PATIENCE.saturating_sub(since.elapsed());
        match events.recv_timeout(left) {
            Ok(Event::Said(bytes, at)) => {
                said.extend(bytes);
                for (time, (text, _)) in times.iter_mut().zip(STAGES) {
                    let has = said.windows(text.len()).any(|part| part == text.as_bytes());
                    if has && time.is_none() {
                        *time = Some((at - since).as_secs_f64());
                    }
                }
                // Before it listens, what a client tries only costs.
                if let Some(client) = client.as_mut().filter(|_| times[LISTENING].is_some()) {
                    drop(client.go.write_all(b"go\n"));
                }
            }
            Ok(Event::LoggedIn(at)) => times[STAGES.len()] = Some((at - since).as_secs_f64()),
            Ok(Event::Ended) | Err(_) => return Err(String::from_utf8_lossy(&said).into()),
        }
        let outside = client.is_none() || times[STAGES.len()].is_some();
        if times[stages - 1].is_some() && outside {
            return Ok(times);
        }
    }
}

/// The disk of a machine that has an administrator and keeps its configuration: it looks for none.
fn in_use(folder: &Path) -> Disk {
    let disk = Disk::of(&folder.join("cairn.raw"));
    disk.seed_administrator_and("alice", &["a0"]);
    let mut vm = Vm::start(&disk, &given());
    vm.wait_for("slot a has proved itself");
    vm.cut();
    disk
}

/// Measures and prints.
pub fn measure(folder: &Path, bare: &Path, runs: usize) -> Result<()> {
    let python = python().ok_or("a Python with scramp is needed")?;
    let disk = Disk::with_accounts(&folder.join("cairn.raw"), &["a0"]);
    let config = disk.file("cairn.toml");
    fs::write(&config, CONFIG)?;
    let mut personalise = tool();
    personalise.arg("personalise").arg(disk.path());
    succeeds(personalise.arg("--config").arg(&config));
    let fresh = Machine::of(disk, folder);
    let used = Machine::of(in_use(folder), folder);
    let bare = Machine::of(Disk::of(bare), folder);
    for (name, way, ours) in [
        ("BIOS, first start", Way::Bios, &fresh),
        ("BIOS, later starts", Way::Bios, &used),
        ("UEFI, first start", Way::Uefi, &fresh),
        ("kernel given directly, first start", Way::Direct, &fresh),
    ] {
        let mut times = vec![Vec::new(); STAGES.len() + 1];
        let mut first = Vec::new();
        for _ in 0..runs {
            for (times, time) in times.iter_mut().zip(run(ours, way, Some(&python))?) {
                times.extend(time);
            }
            first.extend(run(&bare, way, None)?[1]);
        }
        let bare = median(first);
        println!("{name}, median of {runs} runs, from the start of QEMU:");
        println!("  bare kernel, first line      {bare:7.2} s");
        let names = STAGES.iter().map(|(_, name)| *name);
        for (name, times) in names.chain(["log-in from outside"]).zip(times) {
            if !times.is_empty() {
                let time = median(times);
                println!("  up to {name:<23}{time:7.2} s  {:+.2} s", time - bare);
            }
        }
    }
    Ok(())
}
