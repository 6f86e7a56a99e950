//! A server that has been taken over and talks to PID 1. The attacker is this test binary (see
//! `attacker_tests`), started by PID 1's own code in the server's place; PID 1 is the real loop, but
//! for what it would change on the computer that the tests run on.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::*;
use crate::machine::listeners::LISTENERS_MAX;
use crate::machine::slot::Slot;

/// Nothing here takes longer, on a computer that has other things to do.
const PATIENCE: Duration = Duration::from_secs(60);
/// A turn waits for a second where nothing happens; beyond that it must not.
const TURN_MAX: Duration = Duration::from_secs(10);
/// What PID 1 may grow by, whatever it hears.
const GROWTH_MAX_KIB: u64 = 24 * 1024;

/// PID 1 with an attacker for a server.
struct Bench {
    init: Init,
    folder: tempfile::TempDir,
}

impl Bench {
    /// `None` where the test has been run already, in a process of its own.
    #[track_caller]
    fn new(mode: &str) -> Option<Bench> {
        is_alone().then(|| Bench::start(mode))
    }

    fn start(mode: &str) -> Bench {
        let folder = tempfile::tempdir().expect("a folder");
        for partition in [
            Partition::Boot(Slot::A),
            Partition::Root(Slot::A),
            Partition::Boot(Slot::B),
            Partition::Root(Slot::B),
            Partition::BootState,
        ] {
            let path = SystemDisk::of_files(folder.path()).partition(partition);
            fs::write(path, vec![0xee; 64 * 1024]).expect("it is written");
        }
        let disk = SystemDisk::of_files(folder.path());
        let state = OpenOptions::new()
            .write(true)
            .open(disk.partition(Partition::BootState))
            .expect("it is there");
        boot_state::write(&state, &BootState::default().confirmed(Slot::A)).expect("written");
        let exe = std::env::current_exe().expect("it is known");
        let words = [
            "--exact",
            "machine::init::attacker_tests::attacker",
            "--ignored",
            "--nocapture",
            &format!("mode={mode}"),
        ];
        let parts = Parts {
            cmdline: "cairn.slot=a cairn.left=3 cairn.saved=1".to_owned(),
            release: release(),
            disk: Some(disk),
            console: Console::closed(),
            watchdog: None,
            buttons: Buttons::none(),
            program: Program {
                path: exe,
                words: words.map(str::to_owned).into(),
            },
            rules: false,
        };
        let mut init = Init::new(Instant::now(), parts).expect("it starts");
        assert_eq!(init.boot.slot, Some(Slot::A));
        init.data = Some(tempfile::tempfile().expect("a file").into());
        init.start_server();
        Bench { init, folder }
    }

    /// Turns of PID 1, none of which takes long, until something is so.
    #[track_caller]
    fn until(&mut self, what: &str, is_so: impl Fn(&Init) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is_so(&self.init) {
            assert!(Instant::now() < until, "{what} does not come");
            self.turn();
        }
    }

    #[track_caller]
    fn turn(&mut self) {
        let began = Instant::now();
        self.init.turn();
        assert!(began.elapsed() < TURN_MAX, "{:?}", began.elapsed());
    }

    /// Until the attacker is through with what it does.
    #[track_caller]
    fn until_done(&mut self) {
        self.until("its last word", |init| init.notices.contains_key("done"));
    }

    #[track_caller]
    fn until_said(&mut self, text: &str) {
        self.until(text, |init| init.console.holds(text));
    }

    fn slots(&self) -> Vec<PathBuf> {
        let disk = SystemDisk::of_files(self.folder.path());
        [
            Partition::Boot(Slot::A),
            Partition::Root(Slot::A),
            Partition::Boot(Slot::B),
            Partition::Root(Slot::B),
        ]
        .map(|partition| disk.partition(partition))
        .into()
    }

    /// Nothing was written that only PID 1 may write.
    #[track_caller]
    fn assert_slots_untouched(&self) {
        for path in self.slots() {
            let bytes = fs::read(&path).expect("it is there");
            assert!(bytes.iter().all(|byte| *byte == 0xee), "{path:?}");
        }
        let state = self.init.read_state().expect("it reads");
        assert_eq!(state, BootState::default().confirmed(Slot::A));
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(server) = &mut self.init.server {
            server.kill();
            while server.ended().is_none() {
                std::thread::yield_now();
            }
        }
    }
}

/// Descriptors, memory and children belong to a process, and a descriptor that is lent to one child
/// must not be there when another one is started. So a test that has company runs once more, alone.
#[track_caller]
fn is_alone() -> bool {
    const ALONE: &str = "CAIRN_TEST_ALONE";
    let is_set = |name| std::env::var_os(name).is_some();
    let thread = std::thread::current();
    // nextest has a process for each; one thread for all is that of `main`.
    let name = thread.name().filter(|name| *name != "main");
    let Some(name) = name.filter(|_| !is_set(ALONE) && !is_set("NEXTEST")) else {
        return true;
    };
    let again = Command::new(std::env::current_exe().expect("it is known"))
        .args(["--exact", name])
        .env(ALONE, "1")
        .output()
        .expect("it runs");
    assert!(
        again.status.success(),
        "{}",
        String::from_utf8_lossy(&again.stdout)
    );
    false
}

fn open_files() -> usize {
    let files = fs::read_dir("/proc/self/fd").expect("it is there");
    files.count()
}

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("it is there");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let figure = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    figure.expect("a figure")
}

/// Refused by ending whoever said it, and it is started again later.
#[track_caller]
fn is_ended_and_started_again(mode: &str) {
    let Some(mut bench) = Bench::new(mode) else {
        return;
    };
    let first = bench.init.server.as_ref().expect("it runs").pid();
    bench.until_said("the server talks nonsense");
    bench.until("the next one", |init| {
        let server = init.server.as_ref();
        server.is_some_and(|server| server.pid() != first)
    });
    assert!(bench.init.ending.is_none());
    bench.assert_slots_untouched();
}

#[test]
fn garbage_on_the_line_ends_the_server() {
    is_ended_and_started_again("garbage");
}

#[test]
fn a_message_that_is_too_long_ends_the_server() {
    is_ended_and_started_again("long");
}

#[test]
fn half_a_message_ends_the_server() {
    is_ended_and_started_again("half");
}

#[test]
fn a_message_that_is_nested_without_end_ends_the_server() {
    is_ended_and_started_again("deep");
}

#[test]
fn a_message_of_a_later_protocol_ends_the_server() {
    is_ended_and_started_again("unknown");
}

#[test]
fn descriptors_that_a_server_sends_are_not_taken() {
    let Some(mut bench) = Bench::new("descriptors") else {
        return;
    };
    let before = open_files();
    bench.until_done();
    assert!(open_files() <= before, "{} then {}", before, open_files());
}

#[test]
fn a_flood_of_messages_neither_stops_pid_1_nor_makes_it_grow() {
    let Some(mut bench) = Bench::new("flood") else {
        return;
    };
    bench.turn();
    let (before, files) = (resident_kib(), open_files());
    for _ in 0..50 {
        bench.turn();
    }
    assert!(bench.init.server.is_some());
    assert!(bench.init.notices.len() <= 8);
    let longest = bench.init.notices.values().map(String::len).max();
    assert!(longest < Some(2048), "{longest:?}");
    assert!(bench.init.figures.listening.len() <= 16);
    let after = resident_kib();
    assert!(after < before + GROWTH_MAX_KIB, "{before} then {after} KiB");
    assert_eq!(open_files(), files);
    bench.assert_slots_untouched();
}

#[test]
fn a_flood_on_its_log_neither_stops_pid_1_nor_makes_it_grow() {
    let Some(mut bench) = Bench::new("log") else {
        return;
    };
    bench.turn();
    let before = resident_kib();
    for _ in 0..50 {
        bench.turn();
    }
    let after = resident_kib();
    assert!(after < before + GROWTH_MAX_KIB, "{before} then {after} KiB");
}

#[test]
fn who_never_reads_its_answers_does_not_stop_pid_1() {
    let Some(mut bench) = Bench::new("deaf") else {
        return;
    };
    let files = open_files();
    bench.until_done();
    assert!(bench.init.server.is_some());
    // Those that it listens on.
    assert!(open_files() <= files + LISTENERS_MAX);
    bench.assert_slots_untouched();
}

#[test]
fn a_bundle_that_nobody_signed_is_refused_before_anything_is_written() {
    let Some(mut bench) = Bench::new("bundle") else {
        return;
    };
    bench.init.health.confirmed();
    bench.until_done();
    assert!(bench.init.console.holds("the upgrade was refused"));
    assert!(bench.init.upgrade.is_none());
    bench.assert_slots_untouched();
}

#[test]
fn a_bundle_that_never_ends_and_is_to_be_dropped_ends_the_server() {
    let Some(mut bench) = Bench::new("endless") else {
        return;
    };
    bench.init.health.confirmed();
    let first = bench.init.server.as_ref().expect("it runs").pid();
    bench.until("the next one", |init| {
        let server = init.server.as_ref();
        server.is_some_and(|server| server.pid() != first)
    });
    bench.assert_slots_untouched();
}

#[test]
fn a_server_reaches_neither_the_other_slot_nor_another_disk() {
    let Some(mut bench) = Bench::new("orders") else {
        return;
    };
    bench.until_done();
    bench.assert_slots_untouched();
    assert!(bench.init.console.holds("it does not get one"));
    assert!(bench.init.data.is_some() && bench.init.awaited.is_none());
    assert!(!bench.init.moving);
}

#[test]
fn no_more_sockets_are_opened_than_a_server_may_have() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("it is bound").port();
    let Some(mut bench) = Bench::new(&format!("sockets:{port}")) else {
        return;
    };
    let before = open_files();
    bench.until_done();
    let opened = open_files() - before;
    assert!(opened <= LISTENERS_MAX, "{opened}");
    // What the attacker heard, it says: it got none that it must not have.
    assert_eq!(bench.init.notices["done"], "none");
}

#[test]
fn a_server_that_shows_no_life_is_ended() {
    let Some(mut bench) = Bench::new("silent") else {
        return;
    };
    bench.until("its opened store", |init| init.has_opened);
    let late = bench.init.now_ms() + 2 * crate::machine::health::SILENCE_MS;
    let verdict = bench.init.health.judge(late, true, false);
    assert_eq!(verdict, crate::machine::health::Verdict::Kill);
}

#[test]
fn a_server_that_hangs_up_and_stays_is_ended() {
    let Some(mut bench) = Bench::new("hung-up") else {
        return;
    };
    bench.until_said("hung up");
    let late = bench.init.now_ms() + 60_000;
    bench.init.hear_server(bench.init.now_ms());
    bench.init.hear_server(late);
    bench.until_said("has ended: signal: 9");
}

#[test]
fn a_server_that_was_killed_is_started_again_and_its_clients_are_not_refused() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = free.local_addr().expect("it is bound");
    drop(free);
    let Some(mut bench) = Bench::new(&format!("serves:{}", address.port())) else {
        return;
    };
    bench.until("its socket", |init| init.notices.contains_key("listens"));
    let files = open_files();
    for (signal, said) in [
        (Signal::SIGKILL, "has ended: signal: 9"),
        (Signal::SIGSEGV, "has ended: signal: 11"),
        (Signal::SIGABRT, "has ended: signal: 6"),
    ] {
        let mut fatal = TcpStream::connect(address).expect("it is not refused");
        let number = signal as i32 as u8;
        fatal.write_all(&[number]).expect("it is sent");
        bench.until_said(said);
        assert!(bench.init.server.is_none() && bench.init.restart_ms.is_some());
        bench.init.notices.clear();
        // Nobody runs who could accept it.
        let mut waiting = TcpStream::connect(address).expect("it is not refused");
        waiting.write_all(b"?").expect("it is sent");
        bench.until("the next one", |init| init.notices.contains_key("served"));
        let mut answer = [0];
        waiting.read_exact(&mut answer).expect("it is served");
        assert_eq!(&answer, b"!");
    }
    assert!(bench.init.ending.is_none(), "the machine goes on");
    assert!(open_files() <= files, "nothing is left of the dead");
    assert_eq!(
        bench
            .init
            .read_state()
            .map(|state| state.other("good").is_some()),
        Some(false)
    );
}

#[test]
fn a_server_that_keeps_dying_is_started_less_and_less_often() {
    let Some(mut bench) = Bench::new("dies") else {
        return;
    };
    let mut waits = Vec::new();
    for _ in 0..3 {
        bench.until("its death", |init| init.server.is_none());
        let now_ms = bench.init.now_ms();
        let at_ms = bench.init.restart_ms.expect("it is started again");
        waits.push(at_ms.saturating_sub(now_ms));
        bench.until("the next one", |init| init.server.is_some());
    }
    assert!(waits[1] > waits[0] && waits[2] > waits[1], "{waits:?}");
}

#[test]
fn what_a_dead_server_said_of_its_store_is_not_taken_for_the_next_one() {
    let Some(mut bench) = Bench::new("claimed-then-unusable") else {
        return;
    };
    let mut fat = vec![0; 64 * 1024];
    fat[54..58].copy_from_slice(b"FAT1");
    let data = SystemDisk::of_files(bench.folder.path()).partition(Partition::Data);
    fs::write(data, fat).expect("it is written");
    bench.until("its death", |init| init.server.is_none());
    bench.until("its trouble", |init| init.waits.is_some());
    bench.until_said(". It holds a file system (FAT), and is left alone");
    assert!(bench.init.configured.is_none() && !bench.init.is_claimed);
    let late = bench.init.now_ms() + 2 * crate::machine::health::OPENING_MS;
    let verdict = bench.init.health.judge(late, true, false);
    assert_ne!(
        verdict,
        crate::machine::health::Verdict::Kill,
        "it waits for a person"
    );
}
