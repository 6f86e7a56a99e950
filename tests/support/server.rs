//! The real server as a process on a directory of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::wire::PATIENCE;
use super::{Client, DOMAIN, Element, Http, Tls, Wire};

/// The password of every account that [`Server::add`] creates.
pub const PASSWORD: &str = "correct horse battery staple";

/// A server; it is killed when the test ends.
pub struct Server {
    directory: TempDir,
    settings: Vec<(String, String)>,
    running: Option<Running>,
}

struct Running {
    child: Child,
    log: Arc<Log>,
    c2s: SocketAddr,
    c2s_tls: SocketAddr,
}

/// What a server has written so far.
#[derive(Default)]
pub struct Log {
    state: Mutex<Lines>,
    grew: Condvar,
}

#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    ended: bool,
}

impl Server {
    /// A fresh server with the defaults.
    #[track_caller]
    pub fn start() -> Server {
        Server::with(&[])
    }

    /// A fresh server with these settings over the defaults: dotted keys and TOML values.
    #[track_caller]
    pub fn with(settings: &[(&str, &str)]) -> Server {
        let mut server = Server::prepare(settings);
        server.run();
        server
    }

    /// A directory and a configuration; nothing runs yet.
    pub fn prepare(settings: &[(&str, &str)]) -> Server {
        let directory = tempfile::Builder::new()
            .prefix("cairn-it-")
            .tempdir()
            .expect("a temporary directory");
        let mut server = Server {
            directory,
            settings: Vec::new(),
            running: None,
        };
        for (key, value) in [
            ("domain", format!("{DOMAIN:?}").as_str()),
            ("listen.c2s", "[\"127.0.0.1:0\"]"),
            ("listen.c2s_tls", "[\"127.0.0.1:0\"]"),
            // What a test has to do with other servers it says itself.
            ("federation.mode", "\"off\""),
            ("store.path", "\"cairn.log\""),
            ("log.level", "\"debug\""),
        ] {
            server.set(key, value);
        }
        for (key, value) in settings {
            server.set(key, value);
        }
        server
    }

    /// Changes a setting; it holds from the next start or reload.
    pub fn set(&mut self, key: &str, value: &str) {
        self.settings.retain(|(known, _)| known != key);
        self.settings.push((key.to_owned(), value.to_owned()));
        let line = |(key, value): &(String, String)| format!("{key} = {value}\n");
        let text: String = self.settings.iter().map(line).collect();
        std::fs::write(self.config_path(), text).expect("the directory is ours");
    }

    /// Where its files are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The file of its log store.
    pub fn store_path(&self) -> PathBuf {
        self.directory.path().join("cairn.log")
    }

    fn config_path(&self) -> PathBuf {
        self.directory.path().join("cairn.toml")
    }

    /// `cairn` with its configuration and these arguments.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
        command
            .current_dir(self.directory.path())
            .arg("--config")
            .arg(self.config_path())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// The same, behind what a shell does first: limits, signals.
    pub fn command_after(&self, first: &str, arguments: &[&str]) -> Command {
        let inner = self.command(arguments);
        let mut command = Command::new("sh");
        command
            .current_dir(self.directory.path())
            .args(["-c", &format!("{first}; exec \"$@\""), "sh"])
            .arg(inner.get_program())
            .args(inner.get_args())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end, with this on its standard input.
    pub fn cli_with_input(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut stdin = child.stdin.take().expect("it is piped");
        // A command that refuses its arguments does not read; that is no failure here.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("the binary ends")
    }

    /// Runs a command that must succeed, and returns what it wrote to stdout.
    #[track_caller]
    pub fn cli(&self, arguments: &[&str], input: &str) -> String {
        let output = self.cli_with_input(arguments, input);
        assert!(
            output.status.success(),
            "cairn {} failed: {}{}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Stops the server and runs a command that must succeed.
    #[track_caller]
    pub fn cli_while_stopped(&mut self, arguments: &[&str]) -> String {
        self.stop();
        self.cli(arguments, "")
    }

    /// Creates the account `name@DOMAIN` with [`PASSWORD`].
    #[track_caller]
    pub fn add(&self, name: &str) {
        self.add_with_password(name, PASSWORD);
    }

    /// Creates an account with this password.
    #[track_caller]
    pub fn add_with_password(&self, name: &str, password: &str) {
        let jid = format!("{name}@{DOMAIN}");
        self.cli(
            &["user", "add", "--password-stdin", &jid],
            &format!("{password}\n"),
        );
    }

    /// Starts it again on the same store.
    #[track_caller]
    pub fn run(&mut self) {
        self.run_as(self.command(&["serve"]));
    }

    /// Starts it by this command, which becomes the server.
    #[track_caller]
    pub fn run_as(&mut self, mut command: Command) {
        assert!(self.running.is_none(), "it runs already");
        let mut child = command.spawn().expect("the binary runs");
        let log = Arc::new(Log::default());
        let stdout = child.stdout.take().expect("it is piped");
        log.follow(stdout, false);
        let stderr = child.stderr.take().expect("it is piped");
        log.follow(stderr, true);
        let addresses = log
            .address_of("c2s")
            .and_then(|c2s| Some((c2s, log.address_of("c2s_tls")?)));
        let Some((c2s, c2s_tls)) = addresses else {
            let _ = child.kill();
            log.print();
            panic!("the server did not start; its log stands above");
        };
        self.running = Some(Running {
            child,
            log,
            c2s,
            c2s_tls,
        });
    }

    /// Where it listens for STARTTLS.
    pub fn c2s(&self) -> SocketAddr {
        self.running().c2s
    }

    /// Where it listens for TLS.
    pub fn c2s_tls(&self) -> SocketAddr {
        self.running().c2s_tls
    }

    /// Where it listens for HTTPS.
    #[track_caller]
    pub fn https(&self) -> SocketAddr {
        let address = self.running().log.address_of("https");
        address.expect("it listens for HTTPS")
    }

    /// Where it listens for components.
    #[track_caller]
    pub fn component(&self) -> SocketAddr {
        let address = self.running().log.address_of("component");
        address.expect("it listens for components")
    }

    /// A connection to its admin interface.
    pub fn http(&self) -> Http {
        Http::connect(self.https())
    }

    /// The SHA-256 of its certificate, in hex.
    pub fn fingerprint(&self) -> String {
        let mut http = self.http();
        http.ask("GET", "/", "", "");
        http.fingerprint()
    }

    /// `cairn --server` to it, with its fingerprint pinned and this token.
    pub fn command_from_outside(&self, token: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cairn"));
        command
            .current_dir(self.directory.path())
            .env("CAIRN_TOKEN", token)
            .args(["--server", &format!("https://{}", self.https())])
            .args(["--pin", &self.fingerprint()])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.running().child.id()
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("the server runs")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = i32::try_from(self.pid()).expect("a process id fits");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).expect("it runs");
    }

    /// SIGKILL: nothing it had only in memory survives.
    #[track_caller]
    pub fn kill(&mut self) {
        let mut running = self.running.take().expect("the server runs");
        // It may have been killed from outside.
        let _ = running.child.kill();
        running.child.wait().expect("it ends");
    }

    /// SIGTERM, and its orderly end.
    #[track_caller]
    pub fn stop(&mut self) {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        let status = self.wait_for_exit();
        assert!(status.success(), "an orderly stop ends well: {status}");
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub fn wait_for_exit(&mut self) -> ExitStatus {
        let mut running = self.running.take().expect("the server runs");
        if !running.log.wait_for_end() {
            let _ = running.child.kill();
            running.log.print();
            panic!("the server did not end; its log stands above");
        }
        running.child.wait().expect("it ends")
    }

    /// Waits for a line of its log that holds all of these.
    #[track_caller]
    pub fn wait_for_log(&self, parts: &[&str]) -> String {
        let log = &self.running().log;
        log.wait_for(|line| parts.iter().all(|part| line.contains(part)))
            .unwrap_or_else(|| panic!("no line of the log holds {parts:?}"))
    }

    /// Everything it has logged since its last start.
    pub fn log(&self) -> Vec<String> {
        self.running().log.lines()
    }

    /// A TCP connection to the STARTTLS port.
    pub fn wire(&self) -> Wire {
        Wire::connect(self.c2s())
    }

    /// A connection to the direct TLS port.
    pub fn tls_wire(&self) -> Wire {
        self.tls_wire_with(&Tls::new())
    }

    /// The same, with chosen TLS.
    pub fn tls_wire_with(&self, tls: &Tls) -> Wire {
        Wire::connect_tls(self.c2s_tls(), tls)
    }

    /// A stream under TLS whose features have been read: ready to authenticate.
    #[track_caller]
    pub fn stream(&self) -> (Wire, Element) {
        let mut wire = self.tls_wire();
        let features = wire.open();
        (wire, features)
    }

    /// A client that is logged in and bound to `resource`, without presence.
    #[track_caller]
    pub fn login(&self, name: &str, resource: &str) -> Client {
        let mut client = self.authenticated(name);
        client.bind(Some(resource));
        client
    }

    /// A client that is authenticated and has not bound a resource.
    #[track_caller]
    pub fn authenticated(&self, name: &str) -> Client {
        Client::authenticate(self.tls_wire(), name, PASSWORD)
    }

    /// A client that is logged in and has sent its initial presence with this priority.
    #[track_caller]
    pub fn online_with_priority(&self, name: &str, resource: &str, priority: i8) -> Client {
        let mut client = self.login(name, resource);
        client.present(priority);
        client
    }

    /// The same with priority 0.
    #[track_caller]
    pub fn online(&self, name: &str, resource: &str) -> Client {
        self.online_with_priority(name, resource, 0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(mut running) = self.running.take() else {
            return;
        };
        let _ = running.child.kill();
        let _ = running.child.wait();
        if std::thread::panicking() {
            running.log.print();
        }
    }
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.state.lock().expect("no thread panics with it")
    }

    /// Reads lines on a thread of their own until the process closes its end.
    pub fn follow(self: &Arc<Log>, stream: impl Read + Send + 'static, is_last: bool) {
        let log = Arc::clone(self);
        std::thread::spawn(move || {
            for line in BufReader::new(stream).split(b'\n') {
                let Ok(line) = line else { break };
                log.lock()
                    .lines
                    .push(String::from_utf8_lossy(&line).into_owned());
                log.grew.notify_all();
            }
            if is_last {
                log.lock().ended = true;
                log.grew.notify_all();
            }
        });
    }

    /// The first line for which `wanted` holds; `None` when none comes in time.
    pub fn wait_for(&self, wanted: impl Fn(&str) -> bool) -> Option<String> {
        self.wait_within(PATIENCE, wanted)
    }

    /// The same with another patience.
    pub fn wait_within(&self, patience: Duration, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let deadline = Instant::now() + patience;
        let mut read = 0;
        let mut state = self.lock();
        loop {
            if let Some(line) = state.lines[read..].iter().find(|line| wanted(line)) {
                return Some(line.clone());
            }
            read = state.lines.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if state.ended || left == Duration::ZERO {
                return None;
            }
            state = self.grew.wait_timeout(state, left).expect("not poisoned").0;
        }
    }

    /// Everything so far.
    pub fn lines(&self) -> Vec<String> {
        self.lock().lines.clone()
    }

    /// Whether it has closed its stderr in time.
    pub fn wait_for_end(&self) -> bool {
        let state = self.lock();
        let wait = self
            .grew
            .wait_timeout_while(state, PATIENCE, |state| !state.ended);
        wait.expect("not poisoned").0.ended
    }

    /// The address in the line that says that the listener `name` is listening.
    pub fn address_of(&self, name: &str) -> Option<SocketAddr> {
        let line = self.wait_for(|line| {
            line.contains("listening") && field(line, "name").as_deref() == Some(name)
        })?;
        field(&line, "address")?.parse().ok()
    }

    /// Shows its last lines.
    pub fn print(&self) {
        eprintln!("--- the server's log ---");
        let state = self.lock();
        let from = state.lines.len().saturating_sub(200);
        for line in &state.lines[from..] {
            eprintln!("{line}");
        }
    }
}

/// The value of `key=value`, or of `"key":"value"`, in a line of the log.
fn field(line: &str, key: &str) -> Option<String> {
    let plain = without_colours(line);
    let json = format!("\"{key}\":\"");
    if let Some((_, rest)) = plain.split_once(&json) {
        return rest.split('"').next().map(str::to_owned);
    }
    let value = plain
        .split_whitespace()
        .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))?;
    Some(value.trim_matches('"').to_owned())
}

fn without_colours(line: &str) -> String {
    let mut plain = String::new();
    let mut parts = line.split('\u{1b}');
    plain.push_str(parts.next().unwrap_or_default());
    for part in parts {
        plain.push_str(part.split_once('m').map_or("", |(_, rest)| rest));
    }
    plain
}
