//! What an upgrade costs: bytes that go to the disk, and seconds without an answer, beside those of
//! a plain reboot of the same machine.

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use super::support::qmp::Qmp;
use super::support::releases::{Administrator, Releases, given, text};
use super::support::{Disk, Options, Vm, python};
use super::{Result, median};

/// A client that stays, and finds its way back.
struct Client {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Client {
    /// Returns once it is in.
    fn held(python: &Path, vm: &Vm) -> Result<Client> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/login.py");
        let mut child = Command::new(python)
            .arg(script)
            .args(["hold", &format!("127.0.0.1:{}", vm.direct)])
            .stdout(Stdio::piped())
            .spawn()?;
        let said = BufReader::new(child.stdout.take().ok_or("no output")?);
        let mut client = Client {
            child,
            said: said.lines(),
        };
        match client.next()?.as_str() {
            "held" => Ok(client),
            other => Err(other.into()),
        }
    }

    fn next(&mut self) -> Result<String> {
        Ok(self.said.next().ok_or("the client ended")??)
    }

    /// Seconds from its last answer to its next log-in.
    fn away(mut self) -> Result<f64> {
        Ok(self.next()?.parse()?)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Measures and prints.
pub fn measure(folder: &Path, rounds: usize) -> Result<()> {
    let python = python().ok_or("a Python with scramp is needed")?;
    let releases = Releases::new(&folder.join("cairn.raw"));
    let new = releases.bundle("0.2.0", "ours", None);
    let len = fs::metadata(&new)?.len();
    let disk = Disk::of(&releases.build("0.1.0", "ours", None));
    disk.seed_administrator_and("alice", &["a0"]);
    let socket = disk.file("qmp");
    let options = Options {
        more: Qmp::words(&socket).to_vec(),
        ..given()
    };
    let mut vm = Vm::start(&disk, &options);
    let (mut reboots, mut upgrades, mut written) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        if round == 0 {
            vm.wait_for("the server accepts log-ins");
        }
        let admin = Administrator::of(&disk, &mut vm);
        vm.wait_for(" has proved itself");
        // A plain one.
        let client = Client::held(&python, &vm)?;
        admin.does(&vm, &["reboot"]);
        reboots.push(client.away()?);
        vm.wait_for("the server accepts log-ins");
        vm.wait_for(" has proved itself");
        // The same with a new system.
        let mut qmp = Qmp::connect(&socket)?;
        let before = qmp.traffic()?;
        admin.does(&vm, &["upgrade", "push", text(&new)]);
        let after = qmp.traffic()?;
        written.push((after.written - before.written) as f64);
        let client = Client::held(&python, &vm)?;
        admin.does(&vm, &["reboot"]);
        upgrades.push(client.away()?);
        vm.wait_for("the server accepts log-ins");
    }
    let written = median(written);
    println!("upgrade, median of {rounds} rounds:");
    println!(
        "  bundle {len} bytes, written to the disk {written:.0} ({:.3} times)",
        written / len as f64
    );
    println!(
        "  plain reboot, last answer to first log-in {:7.2} s",
        median(reboots)
    );
    println!(
        "  upgrade, the same                         {:7.2} s",
        median(upgrades)
    );
    Ok(())
}
