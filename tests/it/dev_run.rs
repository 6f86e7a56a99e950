//! `./dev serve`, as a newcomer meets it: its printed commands are followed to the letter.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::python::{interpreter, program};
use crate::support::screen::Screen;
use crate::support::server::Log;

/// The ports that the system chooses, instead of the well-known ones.
const CONFIG: &str = r#"
domain = "localhost"
[listen]
c2s = ["127.0.0.1:0"]
c2s_tls = ["127.0.0.1:0"]
[federation]
mode = "off"
[store]
path = "cairn.log"
"#;

/// `./dev serve`, up to the line that says that clients can come.
struct DevRun {
    child: Child,
    /// What it tells the newcomer.
    text: Arc<Log>,
    log: Arc<Log>,
    c2s: SocketAddr,
}

impl DevRun {
    #[track_caller]
    fn start(place: &Path) -> DevRun {
        let mut child = Command::new("./dev")
            .arg("serve")
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("CAIRN_RUN", place)
            .env("CAIRN_BIN", env!("CARGO_BIN_EXE_cairn"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("./dev serves");
        let (text, log) = (Arc::new(Log::default()), Arc::new(Log::default()));
        text.follow(child.stdout.take().expect("it is piped"), false);
        log.follow(child.stderr.take().expect("it is piped"), true);
        let Some(c2s) = log.address_of("c2s") else {
            let _ = child.kill();
            log.print();
            panic!("./dev serve did not come to the point of listening");
        };
        DevRun {
            child,
            text,
            log,
            c2s,
        }
    }

    /// The printed line that contains all of these, with the port that the system chose.
    fn line(&self, with: &[&str]) -> String {
        let line = self
            .text
            .wait_for(|line| with.iter().all(|word| line.contains(word)));
        let line = line.unwrap_or_else(|| panic!("./dev serve did not print {with:?}"));
        line.trim()
            .replace("port 0", &format!("port {}", self.c2s.port()))
            .replace("127.0.0.1:0", &self.c2s.to_string())
    }

    fn password(&self, jid: &str) -> String {
        let line = self.line(&[jid, " password "]);
        line.split_whitespace().last().expect("a word").to_owned()
    }

    /// Ctrl-C; it must end well.
    fn stop(mut self) {
        let pid = Pid::from_raw(self.child.id().try_into().expect("a pid"));
        kill(pid, Signal::SIGINT).expect("it runs");
        assert!(self.log.wait_for_end(), "it did not end");
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "{status}");
    }
}

impl Drop for DevRun {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A printed shell command, run where the newcomer stands.
fn shell(command: &str) -> Command {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", command])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    shell
}

fn profanity_as_alice(run: &DevRun, profanity: &Path, script: &Path, place: &Path) -> Screen {
    let mut screen = Screen::of(profanity, script, place);
    screen.wait_for("Profanity");
    screen.type_line(&run.line(&["/connect alice"]));
    screen.wait_for("password");
    screen.type_line(&run.password("alice@localhost"));
    screen.wait_for("logged in successfully");
    screen
}

#[test]
fn the_two_printed_accounts_chat_and_a_second_run_keeps_everything() {
    let (Some(profanity), Some(script), Some(python), Some(_)) = (
        program("profanity"),
        program("script"),
        interpreter(),
        program("go-sendxmpp"),
    ) else {
        return;
    };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let place = directory.path().join("run");
    let home = directory.path().join("home");
    // Where nothing of the first chat is remembered.
    let second_home = directory.path().join("second_home");
    for new in [&place, &home, &second_home] {
        std::fs::create_dir(new).expect("the directory is ours");
    }
    std::fs::write(place.join("cairn.toml"), CONFIG).expect("the directory is ours");

    let run = DevRun::start(&place);
    let (alice, bob) = (
        run.password("alice@localhost"),
        run.password("bob@localhost"),
    );
    let mut screen = profanity_as_alice(&run, &profanity, &script, &home);
    let python = python.to_str().expect("UTF-8");
    let chat = run.line(&["examples/chat.py"]).replace("python3", python);
    let mut bob_chats = shell(&format!("exec {chat}")).spawn().expect("sh runs");
    let mut said = bob_chats.stdin.take().expect("it is piped");
    said.write_all(b"hello from slixmpp\n").expect("it reads");
    // It comes in a window of its own, which the printed command then shows.
    screen.wait_for("chat message: bob@localhost");
    screen.type_line(&run.line(&["/msg bob"]));
    screen.wait_for("hello from slixmpp");
    let mut heard = BufReader::new(bob_chats.stdout.take().expect("it is piped"));
    let mut line = String::new();
    heard.read_line(&mut line).expect("UTF-8");
    assert_eq!(line, "alice@localhost: Hello\n");
    let _ = bob_chats.kill();
    let _ = bob_chats.wait();
    screen.type_line("/quit");
    assert!(screen.ends().success());

    let sent = shell(&run.line(&["go-sendxmpp -n"]))
        .output()
        .expect("sh runs");
    assert!(sent.status.success(), "{sent:?}");
    run.stop();

    let again = DevRun::start(&place);
    assert_eq!(again.password("alice@localhost"), alice);
    assert_eq!(again.password("bob@localhost"), bob);
    let mut screen = profanity_as_alice(&again, &profanity, &script, &second_home);
    screen.wait_for("chat message: bob@localhost");
    screen.type_line("/win 2");
    screen.wait_for("Hello");
    screen.type_line("/quit");
    assert!(screen.ends().success());
    again.stop();
}
