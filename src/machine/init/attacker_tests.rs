//! What a server that has been taken over does with what it was handed. PID 1's code starts it in the
//! server's place: see `hostile_tests`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::signal::{Signal, raise};
use nix::sys::socket::{MsgFlags, send};

use crate::machine::bundle::MAGIC;
use crate::machine::inherit;
use crate::machine::link::{Figures, Line, MESSAGE_MAX, Opened, ToMachine, ToServer};
use crate::machine::listeners::LISTENERS_MAX;

/// Not a test of its own: see `hostile_tests`.
#[test]
#[ignore = "started by the other tests"]
fn attacker() {
    let words: Vec<String> = std::env::args().collect();
    let Some(mode) = words.iter().find_map(|word| word.strip_prefix("mode=")) else {
        return;
    };
    let numbers = words[words.len() - 3..].iter();
    let mut fds = numbers.map(|number| {
        let number: RawFd = number.parse().expect("a number");
        inherit::take(number).expect("it was handed over")
    });
    let line = Line::of(fds.next().expect("the line"));
    let data = File::from(fds.next().expect("the device"));
    let upload = UnixStream::from(fds.next().expect("the way for bundles"));
    assert_eq!(fds.next().map(|fd| fd.as_raw_fd()), None);
    let mut attacker = Attacker { line, data, upload };
    match mode.split_once(':').unwrap_or((mode, "")) {
        ("garbage", _) => attacker.raw(b"\xff\xfe{{{"),
        ("half", _) => attacker.raw(b"{\"notice\":{\"name\":\"a\",\"te"),
        ("deep", _) => attacker.raw("[".repeat(100_000).as_bytes()),
        ("unknown", _) => attacker.raw(b"{\"write-slot\":\"b\"}"),
        ("long", _) => attacker.raw(&vec![b' '; MESSAGE_MAX + 1]),
        ("descriptors", _) => attacker.sends_descriptors(),
        ("flood", _) => attacker.floods(),
        ("log", _) => attacker.writes_without_end(),
        ("deaf", _) => attacker.never_reads(),
        ("bundle", _) => attacker.sends_bundles(),
        ("endless", _) => attacker.sends_without_end(),
        ("orders", _) => attacker.orders(),
        ("sockets", taken) => attacker.asks_for_sockets(taken.parse().expect("a port")),
        ("silent", _) => attacker.say(&ToMachine::Opened(Box::new(Opened {
            has_configuration: true,
            newest_ms: u64::MAX,
        }))),
        ("hung-up", _) => attacker.hangs_up(),
        ("serves", port) => attacker.serves(port.parse().expect("a port")),
        ("dies", _) => raise(Signal::SIGKILL).expect("it is gone"),
        ("claimed-then-unusable", _) => attacker.has_a_store_once(),
        (other, _) => panic!("nobody knows {other}"),
    }
    attacker.stays();
}

/// What a server holds.
struct Attacker {
    line: Line,
    data: File,
    upload: UnixStream,
}

impl Attacker {
    fn raw(&self, bytes: &[u8]) {
        send(self.line.fd().as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL).expect("it is sent");
    }

    /// Waits where the line is full.
    fn say(&self, message: &ToMachine) {
        self.raw(&serde_json::to_vec(message).expect("it is plain"));
    }

    fn notice(&self, name: &str, text: &str) {
        self.say(&ToMachine::Notice {
            name: name.to_owned(),
            text: text.to_owned(),
        });
    }

    fn done(&self) {
        self.notice("done", "x");
    }

    fn stays(&self) {
        while self.line.receive::<ToServer>().is_ok() {}
    }

    fn sends_descriptors(&self) {
        let null = File::open("/dev/null").expect("it opens");
        let fds: Vec<BorrowedFd<'_>> = (0..LISTENERS_MAX).map(|_| null.as_fd()).collect();
        let message = ToMachine::Alive(Box::default());
        for _ in 0..200 {
            while self.line.send_with(&message, &fds).is_err() {
                std::thread::yield_now();
            }
        }
        self.done();
    }

    fn floods(&self) {
        let long = "x".repeat(MESSAGE_MAX / 4);
        for number in 0_u64.. {
            self.notice(&format!("{number}{long}"), &long);
            self.say(&ToMachine::Waiting(long.clone()));
            self.say(&ToMachine::Serving);
            let figures = Figures {
                certificate: long.clone(),
                listening: vec![SocketAddr::from(([127, 0, 0, 1], 1)); 2000],
                ..Figures::default()
            };
            self.say(&ToMachine::Alive(Box::new(figures)));
        }
    }

    fn writes_without_end(&self) {
        let text = "y".repeat(100_000);
        let mut errors = io::stderr().lock();
        while errors.write_all(text.as_bytes()).is_ok() {}
    }

    fn never_reads(&self) {
        for _ in 0..20_000 {
            self.say(&ToMachine::Rollback);
            self.say(&ToMachine::DropUpload);
            self.say(&ToMachine::Listen(vec![SocketAddr::from((
                [127, 0, 0, 1],
                0,
            ))]));
        }
        self.done();
    }

    fn sends_bundles(&mut self) {
        let unsigned = |signature: &[u8], manifest: &[u8]| {
            let mut bundle = MAGIC.to_vec();
            for part in [signature, manifest] {
                bundle.extend((part.len() as u32).to_le_bytes());
                bundle.extend(part);
            }
            bundle.extend([0; 10_000]);
            bundle
        };
        let bundles = [
            vec![0; 100_000],
            unsigned(b"", b""),
            unsigned(b"untrusted comment: x\nRWQ=\n", b"version = \"9.0.0\"\n"),
            unsigned(&[0xff; 200], &[0xff; 200]),
            [MAGIC, [0xff; 8]].concat(),
        ];
        for bundle in bundles {
            for bytes in [u64::MAX, bundle.len() as u64] {
                self.say(&ToMachine::Upgrade { bytes });
                // PID 1 may refuse it before its end.
                drop(self.upload.write_all(&bundle));
                self.hear(|heard| matches!(heard, ToServer::Done(Err(_))));
                self.say(&ToMachine::DropUpload);
                self.hear(|heard| *heard == ToServer::UploadDropped);
            }
        }
        self.done();
    }

    fn hear(&self, is_it: impl Fn(&ToServer) -> bool) {
        while !is_it(&self.line.receive().expect("PID 1 answers")) {}
    }

    fn sends_without_end(&mut self) {
        let mut upload = self.upload.try_clone().expect("a descriptor");
        std::thread::spawn(move || {
            let nothing = vec![0; 1 << 20];
            while upload.write_all(&nothing).is_ok() {}
        });
        loop {
            self.say(&ToMachine::Upgrade { bytes: u64::MAX });
            self.say(&ToMachine::DropUpload);
        }
    }

    fn orders(&self) {
        self.say(&ToMachine::Rollback);
        self.hear(|heard| matches!(heard, ToServer::Done(Err(_))));
        // Before it has proved itself it may not upgrade either.
        self.say(&ToMachine::Upgrade { bytes: 10 });
        self.hear(|heard| matches!(heard, ToServer::Done(Err(_))));
        self.say(&ToMachine::Opened(Box::default()));
        self.say(&ToMachine::Configured(Box::default()));
        self.say(&ToMachine::SecondDisk);
        self.done();
    }

    fn asks_for_sockets(&self, taken: u16) {
        let mut got = String::new();
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        for wanted in [
            vec![local(1); LISTENERS_MAX + 1],
            vec![local(taken), local(0)],
            vec!["192.0.2.1:80".parse().expect("an address")],
            vec![],
            // Too often.
            vec!["[::]:0".parse().expect("an address")],
            vec![local(taken)],
        ] {
            self.say(&ToMachine::Listen(wanted.clone()));
            let (heard, fds) = self.sockets();
            let none = match &heard {
                Err(_) => true,
                Ok(each) => each.iter().all(Result::is_err),
            };
            if !none || !fds.is_empty() {
                got = format!("{wanted:?}: {heard:?}");
            }
        }
        self.notice("done", if got.is_empty() { "none" } else { &got });
    }

    fn hangs_up(&mut self) {
        let (other, _) = UnixStream::pair().expect("a pair");
        self.line = Line::of(other.into());
        eprintln!("hung up");
        loop {
            std::thread::park();
        }
    }

    /// Accepts on what PID 1 hands over, and dies by the signal that a client names.
    fn serves(&self, port: u16) {
        self.say(&ToMachine::Opened(Box::default()));
        self.say(&ToMachine::Listen(vec![SocketAddr::from((
            [127, 0, 0, 1],
            port,
        ))]));
        let (outcome, mut sockets) = self.sockets();
        assert_eq!(outcome, Ok(vec![Ok(())]));
        let socket = TcpListener::from(sockets.remove(0));
        self.notice("listens", "x");
        loop {
            let (mut stream, _) = socket.accept().expect("somebody comes");
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("it is sent");
            if &byte == b"?" {
                stream.write_all(b"!").expect("it is there");
                self.notice("served", "x");
                continue;
            }
            let signal = Signal::try_from(i32::from(byte[0])).expect("a signal");
            // Where the standard library has a handler, that gives way to the second one.
            loop {
                raise(signal).expect("it is raised");
            }
        }
    }

    /// What PID 1 says about sockets, and what it hands over.
    fn sockets(&self) -> (Result<Vec<Result<(), i32>>, String>, Vec<OwnedFd>) {
        loop {
            let (heard, fds) = self.line.receive_with().expect("an answer");
            if let ToServer::Listening(outcome) = heard {
                return (outcome, fds);
            }
        }
    }

    /// The first one opens its store; the next ones cannot.
    fn has_a_store_once(&mut self) {
        use std::os::unix::fs::FileExt;
        let mut first = [0];
        if self.data.read_exact_at(&mut first, 0).is_err() {
            self.data.write_all_at(b"x", 0).expect("it is written");
            self.say(&ToMachine::Opened(Box::new(Opened {
                has_configuration: true,
                newest_ms: 0,
            })));
            self.say(&ToMachine::Configured(Box::default()));
            raise(Signal::SIGKILL).expect("it is gone");
        }
        self.say(&ToMachine::Waiting("the store cannot be read".to_owned()));
    }
}
