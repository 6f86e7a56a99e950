//! A virtual machine with a disk of its own, watched through its serial line.

// Not every test needs all of it.
#![allow(dead_code)]
#![allow(clippy::print_stdout)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub mod authority;
pub mod load;
pub mod qmp;
pub mod releases;
pub mod stub;
pub mod wire;

use qmp::{Qmp, Traffic};

/// Nothing that a machine does takes longer, on a computer that has other things to do.
const PATIENCE: Duration = Duration::from_secs(480);
const MIB: u64 = 1 << 20;
/// As providers have them since 2013, in what QEMU emulates of it: with the instructions that sums and
/// ciphers are made with today.
pub const PROCESSOR: &str = "Haswell-noTSX,-pcid,-x2apic,-tsc-deadline,-invpcid";
/// Of every account.
pub const PASSWORD: &str = "correct horse";

/// The image to boot, or `None` where a developer has not built it. With `CI=true` it must be there.
pub fn image() -> Option<PathBuf> {
    let image = std::env::var_os("CAIRN_IMAGE").map(PathBuf::from);
    if image.is_none() {
        let must = std::env::var("CI").is_ok_and(|value| value == "true");
        assert!(!must, "CAIRN_IMAGE names no image; ./dev boot builds it");
        println!("SKIPPED: CAIRN_IMAGE names no image; ./dev boot builds it");
    }
    image
}

/// A program of the next version, which knows one format of the log more; `None` where a developer
/// has not built it.
pub fn next_program() -> Option<PathBuf> {
    let program = std::env::var_os("CAIRN_NEXT").map(PathBuf::from);
    if program.is_none() {
        let must = std::env::var("CI").is_ok_and(|value| value == "true");
        assert!(!must, "CAIRN_NEXT names no program; ./dev boot builds it");
        println!("SKIPPED: CAIRN_NEXT names no program; ./dev boot builds it");
    }
    program
}

/// A Python with the clients that the tests use.
pub fn python() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let found = std::env::var_os("CAIRN_PYTHON")
        .map_or_else(|| root.join("target/venv/bin/python"), PathBuf::from);
    if !found.exists() {
        let must = std::env::var("CI").is_ok_and(|value| value == "true");
        assert!(!must, "a Python with slixmpp is missing");
        println!("SKIPPED: a Python with slixmpp is missing; ./dev boot installs it");
        return None;
    }
    Some(found)
}

/// The tool under test.
pub fn tool() -> Command {
    Command::new(program("cairn-image"))
}

/// `cairn` as it runs on this computer, which is built beside the tool.
pub fn cairn() -> Command {
    Command::new(program("cairn"))
}

/// Tests and examples stand in folders beside the programs.
fn program(name: &str) -> PathBuf {
    let here = std::env::current_exe().expect("a program");
    let folder = here.parent().and_then(Path::parent);
    folder.expect("a folder of a folder").join(name)
}

#[track_caller]
pub fn succeeds(command: &mut Command) -> String {
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// A disk in a folder of its own.
pub struct Disk {
    pub folder: TempDir,
}

impl Disk {
    /// A copy of the image, with a store that has these accounts, all with the same password.
    pub fn with_accounts(image: &Path, names: &[&str]) -> Disk {
        let disk = Disk::of(image);
        if names.is_empty() {
            return disk;
        }
        for name in names {
            disk.seed_account(name, &[]);
        }
        disk.take_seed();
        disk
    }

    /// Gives it a store with an administrator, whose token is in the file `token`.
    pub fn seed_administrator(&self, name: &str) {
        self.seed_administrator_and(name, &[]);
    }

    /// The same, and others.
    pub fn seed_administrator_and(&self, name: &str, others: &[&str]) {
        self.seed_account(name, &["--admin"]);
        for other in others {
            self.seed_account(other, &[]);
        }
        let mut make = self.seeding();
        let token = succeeds(make.args(["token", "new"]));
        let token = token.split_whitespace().last().expect("a token").to_owned();
        fs::write(self.file("token"), token).expect("it is written");
        self.take_seed();
    }

    /// Gives the store that it is to have what stands in an export of XEP-0227.
    pub fn seed_export(&self, text: &str) {
        let file = self.file("export.xml");
        fs::write(&file, text).expect("it is written");
        succeeds(self.seeding().args(["store", "import"]).arg(&file));
    }

    /// `cairn` on the store that the disk is to have.
    fn seeding(&self) -> Command {
        let config = self.file("seed.toml");
        let text = "domain = \"chat.example\"\nstore.path = \"seed.log\"\n";
        fs::write(&config, text).expect("it is written");
        let mut command = cairn();
        command.arg("--config").arg(&config);
        command
    }

    fn seed_account(&self, name: &str, more: &[&str]) {
        let mut add = self.seeding();
        add.args(["user", "add", "--password-stdin"]).args(more);
        add.arg(format!("{name}@chat.example"));
        add.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = add.spawn().expect("cairn runs");
        let mut input = child.stdin.take().expect("it is piped");
        let line = format!("{PASSWORD}\n");
        input.write_all(line.as_bytes()).expect("it reads");
        drop(input);
        assert!(child.wait().expect("it ends").success());
    }

    fn take_seed(&self) {
        let mut personalise = tool();
        personalise.arg("personalise").arg(self.path());
        personalise.arg("--store").arg(self.file("seed.log"));
        succeeds(&mut personalise);
    }

    /// A copy of the image.
    pub fn of(image: &Path) -> Disk {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = Disk { folder };
        succeeds(
            Command::new("cp")
                .arg("--sparse=always")
                .args([image, &disk.path()]),
        );
        disk
    }

    pub fn path(&self) -> PathBuf {
        self.file("disk.raw")
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A volume of cloud-init with these files.
    pub fn cloud_init(&self, files: &[(&str, &str)]) -> PathBuf {
        let iso = self.file("seed.iso");
        let mut make = Command::new("genisoimage");
        make.args(["-quiet", "-volid", "cidata", "-joliet", "-rock", "-output"]);
        make.arg(&iso);
        for (name, text) in files {
            fs::write(self.file(name), text).expect("it is written");
            make.arg(self.file(name));
        }
        succeeds(&mut make);
        iso
    }

    /// Makes it larger.
    pub fn grow(&self, mib: u64) {
        let file = fs::OpenOptions::new().write(true).open(self.path());
        file.and_then(|file| file.set_len(mib * MIB))
            .expect("it grows");
    }

    /// Fills both slots with the same system.
    pub fn fill_both_slots(&self) {
        for (from, to, len) in [(7, 167, 32), (39, 199, 128)] {
            let bytes = self.read(from * MIB, len * MIB);
            self.write(to * MIB, &bytes);
        }
    }

    pub fn read(&self, at: u64, len: u64) -> Vec<u8> {
        use std::os::unix::fs::FileExt;
        let mut bytes = vec![0; len as usize];
        let file = fs::File::open(self.path()).expect("it opens");
        file.read_exact_at(&mut bytes, at).expect("it reads");
        bytes
    }

    pub fn write(&self, at: u64, bytes: &[u8]) {
        use std::os::unix::fs::FileExt;
        let file = fs::OpenOptions::new().write(true).open(self.path());
        let file = file.expect("it opens");
        file.write_all_at(bytes, at).expect("it is written");
    }

    /// Turns one bit over.
    pub fn flip(&self, at: u64) {
        let mut byte = self.read(at, 1);
        byte[0] ^= 0x10;
        self.write(at, &byte);
    }

    /// Where a text stands between two places, both in MiB.
    pub fn find(&self, text: &[u8], from_mib: u64, to_mib: u64) -> u64 {
        let bytes = self.read(from_mib * MIB, (to_mib - from_mib) * MIB);
        let found = bytes.windows(text.len()).position(|part| part == text);
        from_mib * MIB + found.expect("it is there") as u64
    }
}

/// People who write to each other through a machine, with slixmpp.
pub struct Chat<'a> {
    pub python: &'a Path,
    pub domain: &'a str,
    /// Where the machine's port 5222 is.
    pub port: u16,
}

impl Chat<'_> {
    fn client(&self, (name, password): (&str, &str), other: &str) -> Child {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/chat.py");
        let address = |name: &str| format!("{name}@{}", self.domain);
        Command::new(self.python)
            .arg(script)
            .args([&address(name), password, &address(other)])
            .arg(format!("127.0.0.1:{}", self.port))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python runs")
    }

    /// One, by name and password, writes to another, who comes later and hears it.
    #[track_caller]
    pub fn between(&self, from: (&str, &str), to: (&str, &str), text: &str) {
        let mut one = self.client(from, to.0);
        let mut said = one.stdin.take().expect("it is piped");
        said.write_all(format!("{text}\n").as_bytes())
            .expect("it reads");
        said.flush().expect("it reads");
        let mut other = self.client(to, from.0);
        let heard = BufReader::new(other.stdout.take().expect("it is piped"));
        let wanted = format!("{}@{}: {text}", from.0, self.domain);
        // What a client that was killed never acknowledged comes again, and before this.
        let mut lines = heard.lines().map(|line| line.expect("UTF-8"));
        assert!(lines.any(|line| line == wanted), "{wanted}");
        for child in [&mut one, &mut other] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// How a machine is made.
#[derive(Default)]
pub struct Options {
    /// Start by UEFI.
    pub efi: bool,
    /// It has a screen besides its serial line. With one a start costs a tenth more.
    pub screen: bool,
    /// Its processor is one of the first of x86-64, and no [`PROCESSOR`]. It takes a fifth longer to
    /// start.
    pub first_processor: bool,
    /// MiB of memory; 0: 256.
    pub memory: u32,
    /// Our TOML, given by `fw_cfg`.
    pub config: Option<&'static str>,
    /// What the disk's file is, by QEMU's name for it; else it is raw.
    pub format: Option<&'static str>,
    /// What stands in front of the disk's name: a driver of QEMU, whose errors the machine sees.
    pub driver: Option<String>,
    /// More words for QEMU.
    pub more: Vec<String>,
    /// The network namespace that it runs in, on the cable `tap0`; else on a network of QEMU.
    pub namespace: Option<String>,
}

/// A machine that runs.
pub struct Vm {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    /// Where its port 5222 is on this computer.
    pub port: u16,
    /// Where its port 443 is.
    pub https: u16,
    /// Where its port 5223 is; 0: nowhere.
    pub direct: u16,
}

impl Vm {
    pub fn start(disk: &Disk, options: &Options) -> Vm {
        let (port, https, direct) = (free_port(), free_port(), free_port());
        let mut qemu = match &options.namespace {
            Some(namespace) => wire::inside(namespace, "qemu-system-x86_64"),
            None => Command::new("qemu-system-x86_64"),
        };
        qemu.args(["-accel", "tcg", "-nographic", "-device", "i6300esb"]);
        if !options.screen {
            qemu.args(["-vga", "none"]);
        }
        if !options.first_processor {
            qemu.args(["-cpu", PROCESSOR]);
        }
        // Nobody starts from the network.
        qemu.args(["-global", "virtio-net-pci.romfile="]);
        let memory = if options.memory == 0 {
            256
        } else {
            options.memory
        };
        qemu.args(["-m", &memory.to_string()]);
        qemu.arg("-drive");
        let driver = options.driver.clone().unwrap_or_default();
        let format = options.format.unwrap_or("raw");
        qemu.arg(format!(
            "file={driver}{},format={format},if=virtio,werror=report",
            disk.path().display()
        ));
        qemu.arg("-nic").arg(match options.namespace {
            Some(_) => "tap,ifname=tap0,script=no,downscript=no,model=virtio-net-pci".to_owned(),
            None => format!(
                "user,model=virtio-net-pci,hostfwd=tcp:127.0.0.1:{port}-:5222,\
                 hostfwd=tcp:127.0.0.1:{https}-:443,hostfwd=tcp:127.0.0.1:{direct}-:5223"
            ),
        });
        if options.efi {
            let variables = disk.file("efi-variables.fd");
            fs::copy("/usr/share/OVMF/OVMF_VARS_4M.fd", &variables).expect("OVMF is installed");
            qemu.args([
                "-drive",
                "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd",
            ]);
            qemu.arg("-drive");
            qemu.arg(format!("if=pflash,format=raw,file={}", variables.display()));
        }
        if let Some(config) = options.config {
            let file = disk.file("given.toml");
            fs::write(&file, config).expect("it is written");
            qemu.arg("-fw_cfg");
            qemu.arg(format!("name=opt/org.cairn/config,file={}", file.display()));
        }
        qemu.args(&options.more);
        let child = qemu
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("QEMU runs");
        let mut vm = Vm::of(child, port, https);
        vm.direct = direct;
        vm
    }

    /// One that was started otherwise, with its serial line as its standard output.
    pub fn of(mut child: Child, port: u16, https: u16) -> Vm {
        let output = child.stdout.take().expect("it is piped");
        Vm {
            child,
            lines: follow(output),
            seen: Vec::new(),
            port,
            https,
            direct: 0,
        }
    }

    /// What its administrator hears of its memory: MiB that programs could have.
    #[track_caller]
    pub fn available_mib(&mut self, disk: &Disk, pin: &str) -> u64 {
        let mut command = cairn();
        command.arg("--server");
        command.arg(format!("https://127.0.0.1:{}", self.https));
        command.args(["--pin", pin, "--token-file"]);
        command.arg(disk.file("token")).arg("machine");
        let status = succeeds(&mut command);
        let line = status
            .lines()
            .find(|line| line.starts_with("memory available mib"));
        let figure = line.and_then(|line| line.split_whitespace().last()?.parse().ok());
        // What it has written meanwhile is looked at later.
        while let Ok(line) = self.lines.try_recv() {
            println!("{line}");
            self.seen.push(line);
        }
        figure.expect("a figure")
    }

    /// The fingerprint of its certificate, from the screen of this boot.
    #[track_caller]
    pub fn pin(&mut self) -> String {
        let is_pin = |line: &str| {
            let text = line.trim();
            text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        let boot = self.seen.iter().rev();
        let mut boot = boot.take_while(|line| !line.contains(" starts, from slot "));
        let pin = boot.find(|line| is_pin(line)).cloned();
        let pin = pin.unwrap_or_else(|| self.wait_until(is_pin, "a fingerprint"));
        pin.trim().to_owned()
    }

    /// The first word that begins so of a line that holds this text, once there is one.
    #[track_caller]
    pub fn word(&mut self, text: &str, begin: &str) -> String {
        let find = |line: &str| {
            let words = || {
                line.split([' ', '/'])
                    .filter(|word| word.starts_with(begin))
            };
            line.contains(text)
                .then(|| words().next().map(str::to_owned))?
        };
        if let Some(word) = self.seen.iter().rev().find_map(|line| find(line)) {
            return word;
        }
        let line = self.wait_until(|line| find(line).is_some(), &format!("{text} {begin}"));
        find(&line).expect("it was just found")
    }

    /// Waits for a line that holds this text, unless it was seen.
    #[track_caller]
    pub fn sees(&mut self, text: &str) {
        if !self.has_said(text) {
            self.wait_for(text);
        }
    }

    /// Waits for a line that holds this text, and returns it.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) -> String {
        self.wait_until(|line| line.contains(text), text)
    }

    #[track_caller]
    fn wait_until(&mut self, is_it: impl Fn(&str) -> bool, what: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    // Shown where the test fails.
                    println!("{line}");
                    self.seen.push(line.clone());
                    if is_it(&line) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("no line with {what:?}")
                }
            }
        }
    }

    /// Gives it a disk while it runs, by its monitor.
    pub fn hot_plug(&mut self, monitor: &Path, disk: &Path) {
        let mut stream = UnixStream::connect(monitor).expect("its monitor");
        let commands = format!(
            "drive_add 0 if=none,id=late,format=raw,file={}\n\
             device_add virtio-blk-pci,drive=late\n",
            disk.display()
        );
        stream
            .write_all(commands.as_bytes())
            .expect("it is written");
        // Its answer: it has taken both.
        let mut said = String::new();
        let mut buffer = [0; 1024];
        while said.matches("(qemu)").count() < 3 {
            let len = stream.read(&mut buffer).expect("it reads");
            assert!(len > 0, "{said}");
            said.push_str(&String::from_utf8_lossy(&buffer[..len]));
        }
    }

    /// Whether it has said this by now.
    pub fn says(&mut self, text: &str) -> bool {
        while let Ok(line) = self.lines.try_recv() {
            println!("{line}");
            self.seen.push(line);
        }
        self.has_said(text)
    }

    /// Waits until QEMU says this of the machine's first disk.
    #[track_caller]
    pub fn wait_for_disk(&mut self, qmp: &mut Qmp, what: &str, is_it: impl Fn(Traffic) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is_it(qmp.traffic().expect("QEMU answers")) {
            assert!(Instant::now() < until, "the disk never had {what}");
            // Nothing tells when it changes; what the machine writes meanwhile is shown.
            if let Ok(line) = self.lines.recv_timeout(Duration::from_millis(20)) {
                println!("{line}");
                self.seen.push(line);
            }
        }
    }

    /// The lines that were seen.
    pub fn seen(&self) -> impl Iterator<Item = &str> {
        self.seen.iter().map(String::as_str)
    }

    /// How many of the lines that were seen hold this text.
    pub fn times_said(&self, text: &str) -> usize {
        self.seen.iter().filter(|line| line.contains(text)).count()
    }

    /// Whether a line that was seen holds this text.
    pub fn has_said(&self, text: &str) -> bool {
        self.seen.iter().any(|line| line.contains(text))
    }

    /// The power goes.
    pub fn cut(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a serial line, without what steers a terminal.
fn follow(mut output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut line = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(len @ 1..) = output.read(&mut buffer) {
            for byte in &buffer[..len] {
                match byte {
                    b'\n' | b'\r' => {
                        let text = String::from_utf8_lossy(&line).into_owned();
                        line.clear();
                        if !text.trim().is_empty() && sender.send(text).is_err() {
                            return;
                        }
                    }
                    _ => line.push(*byte),
                }
            }
        }
    });
    receiver
}

/// A port that is free, for QEMU to listen at. It is none that the kernel gives to who asks for any,
/// and each process begins to look at another place: what is free now is not taken meanwhile.
pub fn free_port() -> u16 {
    const FIRST: u32 = 10_240;
    const COUNT: u32 = 32_768 - FIRST;
    static ASKED: AtomicU32 = AtomicU32::new(0);
    let look = || {
        let asked = ASKED.fetch_add(1, Ordering::Relaxed);
        let at = std::process::id().wrapping_mul(16).wrapping_add(asked) % COUNT;
        let port = u16::try_from(FIRST + at).expect("below 32768");
        TcpListener::bind(("127.0.0.1", port))
            .is_ok()
            .then_some(port)
    };
    (0..COUNT).find_map(|_| look()).expect("a free port")
}
