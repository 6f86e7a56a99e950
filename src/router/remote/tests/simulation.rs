//! Two servers whose streams are the real state machines, on a network that delays, cuts and
//! refuses connections, and a clock that nobody waits for. The seed is printed by a failure.
//!
//! What must hold: no stanza is handled twice within a stream and its resumptions; each one is
//! handled or comes back; once the network is well again, nothing is left.

use std::collections::{HashMap, HashSet};

use bytes::BytesMut;

use super::*;
use crate::stanza::{Condition, StanzaError};
use crate::stream::s2s::{Action, Identity, Incoming, Outgoing, Purpose, S2sConfig};
use crate::stream::sm::{self, SmEnabled};

/// Numbers that a seed decides (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % below
    }
}

#[derive(Debug)]
struct Trusted;

impl Identity for Trusted {
    fn speaks_for(&self, _: &Jid) -> Result<(), std::borrow::Cow<'static, str>> {
        Ok(())
    }
}

/// A connection with both ends of its stream, and what is on its way.
struct Wire {
    number: u64,
    out: Outgoing,
    inn: Incoming,
    /// On their way.
    to_in: BytesMut,
    to_out: BytesMut,
    /// Arrived.
    at_in: BytesMut,
    at_out: BytesMut,
    is_settled: bool,
    /// At the receiver: what is counted.
    handled: Option<u32>,
    id: String,
}

struct World {
    dice: Dice,
    now_ms: u64,
    link: Link,
    wire: Option<Wire>,
    connects: bool,
    /// Streams that the receiver remembers: their counts.
    formers: HashMap<String, u32>,
    is_well: bool,
    numbers: u64,
    sent: u64,
    /// What the receiver has handled, by the stream it came on and all its resumptions.
    handled: Vec<(String, String)>,
    returned: Vec<String>,
    /// The receiver answers `<r/>`.
    owed: bool,
    resumptions: u32,
}

fn config(domain: &str) -> Arc<S2sConfig> {
    Arc::new(S2sConfig::new(vec![jid(domain)], [7; 32]))
}

impl World {
    fn new(seed: u64) -> World {
        World {
            dice: Dice(seed),
            now_ms: 0,
            link: link(),
            wire: None,
            connects: false,
            formers: HashMap::new(),
            is_well: false,
            numbers: 10,
            sent: 0,
            handled: Vec::new(),
            returned: Vec::new(),
            owed: false,
            resumptions: 0,
        }
    }

    fn post(&mut self) {
        self.sent += 1;
        let freight = match self.dice.roll(3) {
            0 => Freight::Request,
            _ => Freight::Plain,
        };
        let id = format!("s{}", self.sent);
        match self
            .link
            .post(parcel(&id, freight), Position(0), self.now_ms)
        {
            Posted::Connect => self.connects = true,
            Posted::Refused(_) => self.returned.push(id),
            Posted::Queued | Posted::Gated(_) => {}
        }
    }

    /// The shell's attempt to connect.
    fn connect(&mut self) {
        self.connects = false;
        let refused = !self.is_well && self.dice.roll(3) == 0;
        if refused {
            match self.link.try_again_at(self.now_ms) {
                Some(at_ms) => {
                    self.now_ms = at_ms;
                    self.connects = true;
                }
                None => {
                    let error = StanzaError::new(Condition::RemoteServerTimeout, "refused");
                    let back = self.link.give_up(&error, self.now_ms);
                    self.returned.extend(ids(&back));
                }
            }
            return;
        }
        self.numbers += 1;
        let number = self.numbers;
        assert!(self.link.up(number), "nobody else sends");
        let seed = |salt: u8| {
            let mut seed = [salt; 32];
            seed[..8].copy_from_slice(&number.to_le_bytes());
            seed
        };
        let out = Outgoing::new(
            config("a.example"),
            pair(),
            Purpose::Send,
            seed(1),
            Some(Arc::new(Trusted)),
            self.now_ms,
        );
        self.wire = Some(Wire {
            number,
            out,
            inn: Incoming::new(
                config("b.example"),
                seed(2),
                Some(Arc::new(Trusted)),
                self.now_ms,
            ),
            to_in: BytesMut::new(),
            to_out: BytesMut::new(),
            at_in: BytesMut::new(),
            at_out: BytesMut::new(),
            is_settled: false,
            handled: None,
            id: format!("stream-{number}"),
        });
    }

    /// The connection breaks: what is on its way is gone.
    fn cut(&mut self) {
        let Some(wire) = self.wire.take() else {
            return;
        };
        self.owed = false;
        if let Some(handled) = wire.handled {
            // Some streams are forgotten: a receiver that was started again.
            if self.is_well || self.dice.roll(4) > 0 {
                self.formers.insert(wire.id, handled);
            }
        }
        if self.link.lost(wire.number, Vec::new(), self.now_ms) == Left::Reconnect {
            match self.link.reconnect_at(self.now_ms) {
                Some(at_ms) => {
                    self.now_ms = at_ms;
                    self.connects = true;
                }
                None => {
                    let error = StanzaError::new(Condition::RemoteServerTimeout, "in vain");
                    let back = self.link.give_up(&error, self.now_ms);
                    self.returned.extend(ids(&back));
                }
            }
        }
    }

    fn step_sender(&mut self) {
        let Some(mut wire) = self.wire.take() else {
            return;
        };
        let share = self.share(wire.to_out.len());
        wire.at_out.unsplit(wire.to_out.split_to(share));
        loop {
            wire.out.input(&mut wire.at_out, self.now_ms);
            let Some(action) = wire.out.poll() else { break };
            self.act_as_sender(&mut wire, action);
        }
        if wire.is_settled {
            let taken = self.link.take(wire.number, Position(0), 200);
            for parcel in &taken.parcels {
                wire.to_in.extend_from_slice(&parcel.outgoing.to_bytes());
            }
            if !taken.parcels.is_empty() {
                wire.to_in.extend_from_slice(&sm::request());
            }
        }
        self.wire = Some(wire);
    }

    fn act_as_sender(&mut self, wire: &mut Wire, action: Action) {
        match action {
            Action::Send(bytes) => wire.to_in.extend_from_slice(&bytes),
            Action::Ready { .. } => match self.link.resumption() {
                Some(former) => wire.out.resume(&former.id, former.handled),
                None => wire.out.enable(),
            },
            Action::SmEnabled { id, .. } => {
                self.forget();
                let resumption = id.map(|id| Resumption { id, handled: 0 });
                self.link.manage(wire.number, resumption);
                wire.is_settled = true;
            }
            Action::SmResumed { h } => {
                self.resumptions += 1;
                self.link
                    .resumed(wire.number, h)
                    .expect("the count is right");
                wire.is_settled = true;
            }
            Action::SmFailed { h } => {
                let unknown = self.link.not_resumed(h);
                self.returned.extend(ids(&unknown.lost));
                wire.out.enable();
            }
            Action::SmAck { h } => {
                self.link
                    .acknowledge(wire.number, h)
                    .expect("the count is right");
            }
            other => panic!("not expected: {other:?}"),
        }
    }

    fn forget(&mut self) {
        let unknown = self.link.not_resumed(None);
        self.returned.extend(ids(&unknown.lost));
    }

    fn step_receiver(&mut self) {
        let Some(mut wire) = self.wire.take() else {
            return;
        };
        let share = self.share(wire.to_in.len());
        wire.at_in.unsplit(wire.to_in.split_to(share));
        loop {
            wire.inn.input(&mut wire.at_in, self.now_ms);
            let Some(action) = wire.inn.poll() else { break };
            match action {
                Action::Send(bytes) => wire.to_out.extend_from_slice(&bytes),
                Action::Stanza(stanza) => {
                    let id = stanza.id().expect("it has one").into_owned();
                    self.handled.push((wire.id.clone(), id));
                    wire.handled = wire.handled.map(|count| count + 1);
                }
                Action::SmEnable { .. } => {
                    wire.handled = Some(0);
                    wire.inn.sm_enabled(&SmEnabled {
                        id: Some(wire.id.clone()),
                        max_seconds: None,
                    });
                }
                Action::SmResume { previd, .. } => match self.formers.remove(&previd) {
                    Some(handled) => {
                        wire.handled = Some(handled);
                        wire.id = previd;
                        wire.inn.resumed(handled);
                    }
                    None => wire.inn.sm_failed(Condition::ItemNotFound, None),
                },
                Action::SmRequest => self.owed = true,
                Action::Authorized { .. } => {}
                other => panic!("not expected: {other:?}"),
            }
        }
        if self.owed {
            self.owed = false;
            let handled = wire.handled.expect("it was asked on a managed stream");
            wire.to_out.extend_from_slice(&sm::acknowledge(handled));
        }
        self.wire = Some(wire);
    }

    /// How much of what is on its way arrives now.
    fn share(&mut self, bytes: usize) -> usize {
        match self.is_well {
            true => bytes,
            false => usize::try_from(self.dice.roll(bytes as u64 + 1)).expect("it is small"),
        }
    }

    fn step(&mut self) {
        self.now_ms += self.dice.roll(400);
        match self.dice.roll(10) {
            0 | 1 if self.sent < 200 && !self.is_well => self.post(),
            2 if !self.is_well && self.dice.roll(8) == 0 => self.cut(),
            3..=5 => self.step_sender(),
            _ => self.step_receiver(),
        }
        if self.connects && self.wire.is_none() {
            self.connect();
        }
    }

    fn check(&self, seed: u64) {
        let mut within = HashSet::new();
        for pair in &self.handled {
            assert!(
                within.insert(pair),
                "seed {seed}: {pair:?} was handled twice"
            );
        }
        let handled: HashSet<&String> = self.handled.iter().map(|(_, id)| id).collect();
        let mut returned = HashSet::new();
        for id in &self.returned {
            assert!(returned.insert(id), "seed {seed}: {id} came back twice");
        }
        for number in 1..=self.sent {
            let id = format!("s{number}");
            let is_told = handled.contains(&id) || returned.contains(&id);
            assert!(
                is_told,
                "seed {seed}: {id} was neither handled nor returned"
            );
        }
        assert!(self.link.is_empty(), "seed {seed}: something is left");
    }
}

fn run(seed: u64) -> World {
    let mut world = World::new(seed);
    for _ in 0..3_000 {
        world.step();
    }
    world.is_well = true;
    for _ in 0..2_000 {
        world.step();
    }
    world.check(seed);
    world
}

#[test]
fn each_stanza_is_handled_once_a_stream_or_comes_back_once() {
    let mut resumptions = 0;
    let mut handled = 0;
    let mut returned = 0;
    for seed in 0..150 {
        let world = run(seed);
        resumptions += world.resumptions;
        handled += world.handled.len();
        returned += world.returned.len();
    }
    // The network was neither too good nor too bad to find anything.
    assert!(resumptions > 100, "{resumptions} resumptions");
    assert!(
        handled > 5_000 && returned > 100,
        "{handled} handled, {returned} returned"
    );
}
