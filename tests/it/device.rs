//! What the server does when its store's device fails or is full.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::support::*;

const ALICE: &str = "alice@cairn.example";
const BOB: &str = "bob@cairn.example";
/// More than a full store ever gets to hold for one account.
const NO_QUOTA: [(&str, &str); 2] = [
    ("limits.offline_messages", "1000000"),
    ("limits.offline_bytes", "1000000000"),
];

/// `ulimit -f` in blocks of 512 bytes. The signal that comes with the refusal is ignored, and
/// stays ignored in the program that takes the shell's place.
fn files_of_at_most(bytes: u64) -> String {
    format!("trap '' XFSZ; ulimit -f {}", bytes / 512)
}

#[test]
fn a_store_that_fails_while_the_server_starts_ends_it_with_a_reason() {
    let server = Server::prepare(&[]);
    // Creates the store. What the server itself keeps there comes with its first start.
    server.add("alice");
    let output = server
        .command_after(&files_of_at_most(65536), &["serve"])
        .output()
        .expect("it ends by itself");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("the store has failed: ") && said.contains("start again"),
        "{said}"
    );
    server.cli(&["store", "verify"], "");
}

#[test]
fn verify_exits_with_4_for_a_damaged_store_only() {
    let mut server = Server::with(&[]);
    server.add("alice");
    server.add("bob");
    server.kill();
    let verify = |server: &Server| {
        let output = server.command(&["store", "verify"]).output();
        output.expect("the binary runs").status.code()
    };
    assert_eq!(verify(&server), Some(0));
    let config = server.directory().join("cairn.toml");
    let text = std::fs::read(&config).expect("it is ours");
    std::fs::write(&config, "domain = 7").expect("it is ours");
    assert_eq!(verify(&server), Some(3), "the configuration is invalid");
    std::fs::write(&config, text).expect("it is ours");
    // Nobody reads the report: that says nothing of the store.
    let mut unread = server.command(&["store", "verify"]);
    let full = File::options().write(true).open("/dev/full");
    unread.stdout(full.expect("Linux has it"));
    let output = unread.output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let store = File::options()
        .read(true)
        .write(true)
        .open(server.store_path())
        .expect("it is ours");
    let mut bytes = vec![0; 1 << 20];
    store.read_exact_at(&mut bytes, 0).expect("it is that long");
    let at = bytes
        .windows(ALICE.len())
        .position(|found| found == ALICE.as_bytes())
        .expect("the account is there");
    store
        .write_all_at(b"X", at as u64)
        .expect("it can be written");
    assert_eq!(verify(&server), Some(4), "it is damaged");
}

#[test]
fn a_file_that_cannot_grow_fills_up_and_recovers() {
    let mut server = Server::prepare(&NO_QUOTA);
    for name in ["alice", "bob", "carol"] {
        server.add(name);
    }
    let bytes = std::fs::metadata(server.store_path())
        .expect("it is ours")
        .len();
    let fitted = fills_up_and_recovers(&mut server, |server| {
        server.command_after(&files_of_at_most(bytes), &["serve"])
    });
    // Without the limit there is more room than there ever was.
    server.run();
    let mut alice = server.online("alice", "a");
    alice.enable_management(false);
    assert!((0..fitted + 10).all(|number| is_accepted(&mut alice, number)));
    server.cli_while_stopped(&["store", "verify"]);
    let grown = std::fs::metadata(server.store_path()).expect("it is ours");
    assert!(grown.len() > bytes, "it has grown");
}

#[test]
fn a_block_device_serves_as_store() {
    let mut server = Server::prepare(&NO_QUOTA);
    let image = server.directory().join("device");
    let file = File::create(&image).expect("the directory is ours");
    file.set_len(24 << 20).expect("a file can have holes");
    let Some(device) = LoopDevice::over(&image) else {
        return;
    };
    server.set("store.path", &format!("{:?}", device.path));
    for name in ["alice", "bob", "carol"] {
        server.add(name);
    }
    fills_up_and_recovers(&mut server, |server| server.command(&["serve"]));
    assert_eq!(file.metadata().expect("it is ours").len(), 24 << 20);
    server.run();
    let users = server.cli(&["user", "list"], "");
    assert!(users.contains(ALICE), "the running server tells: {users}");
    server.cli_while_stopped(&["store", "verify"]);
}

#[test]
fn a_message_that_rotted_is_told_to_its_recipient_and_the_others_come() {
    let server = Server::start();
    server.add("alice");
    server.add("bob");
    let mut alice = server.online("alice", "a");
    alice.enable_management(false);
    for body in ["first", "the one that rots", "third"] {
        alice.say(BOB, body);
    }
    assert_eq!(alice.ask_for_ack(), 3);
    let store = File::options()
        .read(true)
        .write(true)
        .open(server.store_path())
        .expect("it is ours");
    let mut bytes = vec![0; 1 << 20];
    store.read_exact_at(&mut bytes, 0).expect("it is that long");
    let needle = b"the one that rots";
    let at = bytes
        .windows(needle.len())
        .position(|found| found == needle);
    store
        .write_all_at(b"T", at.expect("it is stored") as u64)
        .expect("it can be written");
    let mut bob = server.online("bob", "b");
    bob.message_with_body("first");
    let told = bob.message();
    assert_eq!(told.attr("type"), Some("headline"));
    let body = told.body().expect("it says what happened");
    assert!(body.contains("could not be read"), "{body}");
    bob.message_with_body("third");
    bob.expect_nothing();
}

/// Fills the store of a server that does not run yet, kills it, empties the store and uses it
/// again. The server is stopped in the end. Returns how many messages fitted.
fn fills_up_and_recovers(server: &mut Server, start: impl Fn(&Server) -> Command) -> u32 {
    server.run_as(start(server));
    let mut alice = server.online("alice", "a");
    let accepted = fill(&mut alice);
    assert!(accepted.len() > 20, "{} were accepted", accepted.len());
    // What keeps nothing goes on: log-ins, reading, messages to who is there.
    let mut carol = server.online("carol", "c");
    assert_eq!(carol.roster().len(), 0);
    alice.send("<message type='headline' to='carol@cairn.example'><body>soon</body></message>");
    carol.message_with_body("soon");
    carol.log_out();
    server.login("carol", "c").settle();
    server.kill();
    server.run_as(start(server));
    // Everything that was acknowledged, in order, and nothing that was refused.
    let mut bob = server.login("bob", "b");
    bob.enable_management(false);
    bob.present(0);
    for number in &accepted {
        let message = bob.message();
        let body = message.body().expect("it has one");
        assert_eq!(body.split(' ').next(), Some(&*number.to_string()));
        bob.acknowledge();
    }
    bob.expect_nothing();
    bob.acknowledge();
    bob.log_out();
    // The messages are gone, and the room that they took comes back.
    let mut alice = server.online("alice", "a");
    alice.enable_management(false);
    let deadline = Instant::now() + wire::PATIENCE;
    let mut again = 0;
    while again < 20 {
        assert!(Instant::now() < deadline, "only {again} fit again");
        again += u32::from(is_accepted(&mut alice, again));
    }
    let mut bob = server.online("bob", "b");
    for _ in 0..again {
        bob.message();
    }
    bob.log_out();
    server.stop();
    accepted.len() as u32
}

/// Sends numbered messages to somebody who is offline until the store takes no more; returns the
/// numbers of those that were acknowledged and not refused.
fn fill(alice: &mut Client) -> Vec<u32> {
    // What is tidied in the background may make a little room again.
    const REFUSALS: u32 = 10;
    alice.enable_management(false);
    let (mut accepted, mut refusals) = (Vec::new(), 0);
    for number in 0.. {
        if is_accepted(alice, number) {
            accepted.push(number);
            refusals = 0;
        } else {
            refusals += 1;
        }
        if refusals == REFUSALS {
            break;
        }
    }
    accepted
}

/// Sends a long message to Bob, and waits until it is durable or refused.
fn is_accepted(alice: &mut Client, number: u32) -> bool {
    const BYTES: usize = 200_000;
    alice.say(BOB, &format!("{number} {}", "x".repeat(BYTES)));
    alice.ask_for_ack();
    let answers = alice.settle();
    let Some(refused) = answers.first() else {
        return true;
    };
    assert_eq!(refused.error(), Some(("wait", "resource-constraint")));
    assert!(refused.to_string().contains("disk is full"), "{refused}");
    false
}

/// A file as a block device, until nobody has it open any more.
struct LoopDevice {
    path: String,
    _open: File,
}

impl LoopDevice {
    /// `None`, and said so, where this user or this machine can have none.
    fn over(image: &Path) -> Option<LoopDevice> {
        let attached = Command::new("losetup")
            .args(["--find", "--show"])
            .arg(image)
            .output();
        let path = match attached {
            Ok(output) if output.status.success() => {
                String::from_utf8(output.stdout).expect("a path")
            }
            Ok(output) => {
                let why = String::from_utf8_lossy(&output.stderr).into_owned();
                eprintln!("SKIPPED: losetup gives no block device: {why}");
                return None;
            }
            Err(error) => {
                eprintln!("SKIPPED: losetup does not run: {error}");
                return None;
            }
        };
        let path = path.trim().to_owned();
        let open = File::open(&path).expect("it was just made");
        // It goes when the last one closes it, also if the test is killed.
        let detached = Command::new("losetup").args(["--detach", &path]).status();
        assert!(detached.is_ok_and(|status| status.success()));
        Some(LoopDevice { path, _open: open })
    }
}
