//! Somebody with slixmpp: a script does what the test says, line by line, and tells what it hears.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Instant;

use serde_json::{Value, json};

use super::{PASSWORD, PATIENCE, Place};
use crate::support::python;
use crate::support::server::Log;

/// Somebody who is logged in.
pub struct Person {
    /// Their bare JID.
    pub jid: String,
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<Value>,
    /// Events that nobody has waited for yet.
    heard: VecDeque<Event>,
    log: Arc<Log>,
    transcript: Vec<String>,
}

/// A stanza that came, or an answer.
#[derive(Clone, Debug)]
pub struct Event(Value);

impl Event {
    fn text(&self, key: &str) -> &str {
        self.0[key].as_str().unwrap_or_default()
    }

    /// "message", "presence", "iq" or "disconnected".
    pub fn kind(&self) -> &str {
        self.text("event")
    }

    /// Who sent it.
    pub fn from(&self) -> &str {
        self.text("from")
    }

    /// Whether this account sent it, with whatever resource.
    pub fn is_from(&self, bare: &str) -> bool {
        self.from().split('/').next() == Some(bare)
    }

    /// Its `type`, or "".
    pub fn type_(&self) -> &str {
        self.text("type")
    }

    /// Its `id`, or "".
    pub fn id(&self) -> &str {
        self.text("id")
    }

    /// The body of a message, or "".
    pub fn body(&self) -> &str {
        self.text("body")
    }

    /// The condition of an error, or "".
    pub fn condition(&self) -> &str {
        self.text("condition")
    }

    /// All of it.
    pub fn xml(&self) -> &str {
        self.text("xml")
    }
}

impl Person {
    /// Logs in from a place at a server's address, without presence.
    #[track_caller]
    pub fn log_in(place: &Place, jid: &str, server: IpAddr) -> Person {
        let mut person = Person::start(place, jid);
        let command = json!({
            "do": "connect", "jid": jid, "password": PASSWORD, "host": server.to_string(),
        });
        person.ask(&command);
        person
    }

    #[track_caller]
    fn start(place: &Place, jid: &str) -> Person {
        let python = python::interpreter().expect("the network was made, so it is there");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/person.py");
        let mut command = place.command(python);
        command.arg(script).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("setpriv is there");
        let log = Arc::new(Log::default());
        log.follow(child.stderr.take().expect("it is piped"), true);
        let stdout = child.stdout.take().expect("it is piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if sender.send(value).is_err() {
                    break;
                }
            }
        });
        Person {
            jid: jid.to_owned(),
            stdin: child.stdin.take().expect("it is piped"),
            child,
            lines,
            heard: VecDeque::new(),
            log,
            transcript: Vec::new(),
        }
    }

    /// Logs in, sends initial presence and waits until it came back.
    #[track_caller]
    pub fn online(place: &Place, jid: &str, server: IpAddr) -> Person {
        let mut person = Person::log_in(place, jid, server);
        person.presence("", "");
        let jid = person.jid.clone();
        person.wait("own presence", |event| {
            event.kind() == "presence" && event.is_from(&jid)
        });
        person
    }

    /// Sends a presence of this type ("" for none) to somebody, or to all with "".
    #[track_caller]
    pub fn presence(&mut self, type_: &str, to: &str) {
        self.ask(&json!({ "do": "presence", "type": type_, "to": to }));
    }

    /// Sends a chat message with this id.
    #[track_caller]
    pub fn say(&mut self, to: &str, id: &str, body: &str) {
        self.ask(&json!({ "do": "message", "to": to, "id": id, "body": body }));
    }

    /// The same, so many times: the number follows id and body.
    #[track_caller]
    pub fn say_often(&mut self, to: &str, id: &str, body: &str, times: u32) {
        self.ask(&json!({ "do": "messages", "to": to, "id": id, "body": body, "times": times }));
    }

    /// Sends a `get` with this payload, and returns the result or the error.
    #[track_caller]
    pub fn get(&mut self, to: &str, payload: &str) -> Event {
        Event(self.ask(&json!({ "do": "get", "to": to, "payload": payload })))
    }

    /// Sends a `set` with this payload to the own account, and returns the result or the error.
    #[track_caller]
    pub fn set(&mut self, payload: &str) -> Event {
        Event(self.ask(&json!({ "do": "set", "payload": payload })))
    }

    /// What stands in the roster for somebody: "both", "none" … or "absent".
    #[track_caller]
    pub fn subscription(&mut self, to: &str) -> String {
        let answer = self.ask(&json!({ "do": "subscription", "to": to }));
        answer["subscription"].as_str().expect("a text").to_owned()
    }

    /// Ends the stream in order. Nothing can be asked of this person any more.
    #[track_caller]
    pub fn log_out(mut self) {
        self.ask(&json!({ "do": "disconnect" }));
    }

    /// Is gone without a word: the connection is closed, the stream is not.
    pub fn vanish(self) {
        drop(self);
    }

    /// The next event that is wanted. Others stay for later.
    #[track_caller]
    pub fn wait(&mut self, what: &str, wanted: impl Fn(&Event) -> bool) -> Event {
        if let Some(at) = self.heard.iter().position(&wanted) {
            return self.heard.remove(at).expect("it was found");
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let event = Event(self.line(deadline, what));
            if wanted(&event) {
                return event;
            }
            self.heard.push_back(event);
        }
    }

    /// The next message with this body.
    #[track_caller]
    pub fn hear(&mut self, body: &str) -> Event {
        self.wait(&format!("the message {body:?}"), |event| {
            event.kind() == "message" && event.type_() != "error" && event.body() == body
        })
    }

    /// The next error for the message with this id: its condition.
    #[track_caller]
    pub fn bounce(&mut self, id: &str) -> String {
        let event = self.wait(&format!("the error for {id}"), |event| {
            event.kind() == "message" && event.type_() == "error" && event.id() == id
        });
        event.condition().to_owned()
    }

    /// Everything that came and that nobody has waited for, after the server has answered a ping.
    #[track_caller]
    pub fn settle(&mut self) -> Vec<Event> {
        let domain = self.jid.split('@').nth(1).expect("a JID").to_owned();
        self.get(&domain, "<ping xmlns='urn:xmpp:ping'/>");
        self.heard.drain(..).collect()
    }

    /// Has the script do something, and returns its answer.
    #[track_caller]
    fn ask(&mut self, command: &Value) -> Value {
        self.transcript.push(format!("-> {command}"));
        let said = writeln!(self.stdin, "{command}").and_then(|()| self.stdin.flush());
        said.unwrap_or_else(|error| panic!("the script of {} has ended: {error}", self.jid));
        let deadline = Instant::now() + PATIENCE;
        loop {
            let line = self.line(deadline, "an answer of the script");
            if line.get("event").is_some() {
                self.heard.push_back(Event(line));
                continue;
            }
            assert!(line.get("failed").is_none(), "{}: {line}", self.jid);
            return line;
        }
    }

    #[track_caller]
    fn line(&mut self, deadline: Instant, what: &str) -> Value {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(left) {
            Ok(line) => {
                self.transcript.push(format!("<- {line}"));
                line
            }
            Err(RecvTimeoutError::Timeout) => panic!("{}: {what} did not come", self.jid),
            Err(RecvTimeoutError::Disconnected) => {
                panic!("{}: its script ended, {what} did not come", self.jid)
            }
        }
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.log.wait_for_end();
        if std::thread::panicking() {
            eprintln!("--- {} ---", self.jid);
            for line in self.transcript.iter().rev().take(200).rev() {
                eprintln!("{line}");
            }
            self.log.print();
        }
    }
}
