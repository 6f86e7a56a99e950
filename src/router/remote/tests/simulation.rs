//! Two servers whose streams are the real state machines, on a network that delays, cuts and
//! refuses connections, and a clock that nobody waits for. One calls the other, and the streams
//! serve both ways (XEP-0288). The seed is printed by a failure.
//!
//! What must hold: no stanza is handled twice within a stream and its resumptions; each one is
//! handled or comes back; once the network is well again, nothing is left. Where both servers stay
//! up and nobody loses patience, each stanza is handled or comes back, once and in its order.

mod called;
mod caller;

use std::collections::{HashMap, HashSet};

use bytes::BytesMut;

use super::*;
use crate::router::session::ResumptionId;
use crate::stanza::{Condition, StanzaError, id};
use crate::stream::s2s::{Identity, Incoming, Outgoing, Purpose, S2sConfig};

use called::Far;
use caller::Near;

/// How long the one that is called waits for a stream to be resumed.
const AWAITED_MS: u64 = PATIENCE_MS + 15_000;

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

/// What both servers do with stanzas.
struct Server {
    name: &'static str,
    link: Arc<Link>,
    sent: u64,
    /// What it has handled, by the stream it came on and all its resumptions.
    handled: Vec<(String, String)>,
    returned: Vec<String>,
}

impl Server {
    fn new(name: &'static str, pair: Pair) -> Server {
        Server {
            name,
            link: Arc::new(Link::new(pair, 1, Room::new(usize::MAX / 4))),
            sent: 0,
            handled: Vec::new(),
            returned: Vec::new(),
        }
    }

    /// True when the shell has to connect.
    fn post(&mut self, freight: Freight, now_ms: u64) -> bool {
        self.sent += 1;
        let (name, number) = (self.name, self.sent);
        let Pair { local, remote } = &self.link.pair;
        let text = format!("<message id='{name}{number}' from='x@{local}' to='y@{remote}'/>");
        let outgoing = bytes::Bytes::from(text).into();
        let parcel = Parcel::new(outgoing, Position(0), freight, ASKERS.named(name));
        match self.link.post(parcel, Position(0), now_ms) {
            Posted::Connect => return true,
            Posted::Refused(_) => self.returned.push(format!("{name}{number}")),
            Posted::Queued | Posted::Gated(_) => {}
        }
        false
    }

    fn give_up(&mut self, now_ms: u64) {
        let error = StanzaError::new(Condition::RemoteServerTimeout, "in vain");
        let back = self.link.give_up(&error, now_ms);
        self.returned.extend(ids(&back));
    }

    fn handle(&mut self, stream: &str, stanza: &Stanza) {
        let id = stanza.id().expect("it has one").into_owned();
        self.handled.push((stream.to_owned(), id));
    }
}

/// A connection, and what is on its way. Each end may believe it alive when the other does not.
struct Wire {
    near: Option<Near>,
    far: Option<Far>,
    to_in: BytesMut,
    to_out: BytesMut,
}

struct World {
    dice: Dice,
    now_ms: u64,
    /// Nobody forgets anything and every attempt succeeds.
    is_kind: bool,
    is_well: bool,
    numbers: u64,
    caller: Server,
    called: Server,
    wires: Vec<Wire>,
    /// The caller is to connect.
    connects: bool,
    former: Option<(String, Tally)>,
    /// Streams that the one that is called remembers.
    formers: HashMap<ResumptionId, Arc<ManagedStream>>,
    /// Of those the ones that something waits for, and until when.
    awaited: Vec<(Arc<ManagedStream>, u64)>,
    /// When the one that is called finds that it can't connect by itself.
    fails_at_ms: Option<u64>,
    releases: u32,
    resumptions: u32,
    half_open: u32,
}

fn config(domain: &str) -> Arc<S2sConfig> {
    Arc::new(S2sConfig::new(vec![jid(domain)], [7; 32]))
}

fn name_of(stream: &ManagedStream) -> String {
    id::hex(&stream.id.expect("all can be resumed"))
}

impl World {
    fn new(seed: u64, is_kind: bool) -> World {
        let Pair { local, remote } = pair();
        let back = Pair {
            local: remote,
            remote: local,
        };
        World {
            dice: Dice(seed),
            now_ms: 0,
            is_kind,
            is_well: false,
            numbers: 10,
            caller: Server::new("a", pair()),
            called: Server::new("b", back),
            wires: Vec::new(),
            connects: false,
            former: None,
            formers: HashMap::new(),
            awaited: Vec::new(),
            fails_at_ms: None,
            releases: 0,
            resumptions: 0,
            half_open: 0,
        }
    }

    fn post(&mut self) {
        let freight = match self.dice.roll(3) {
            0 => Freight::Request,
            _ => Freight::Plain,
        };
        if self.dice.roll(2) == 0 {
            self.connects |= self.caller.post(freight, self.now_ms);
        } else if self.called.post(freight, self.now_ms) {
            self.called_connects();
        }
    }

    /// The shell's attempt to connect.
    fn connect(&mut self) {
        self.connects = false;
        let refused = !self.is_well && !self.is_kind && self.dice.roll(3) == 0;
        if refused {
            return self.again(self.caller.link.try_again_at(self.now_ms));
        }
        self.numbers += 2;
        let number = self.numbers;
        assert!(self.caller.link.up(number), "nobody else sends");
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
        let inn = Incoming::new(
            config("b.example"),
            seed(2),
            Some(Arc::new(Trusted)),
            self.now_ms,
        );
        self.wires.push(Wire {
            near: Some(Near {
                number,
                out,
                at_out: BytesMut::new(),
                is_settled: false,
                tally: None,
                has_moved: false,
            }),
            far: Some(Far {
                number: number + 1,
                inn,
                at_in: BytesMut::new(),
                has_link: false,
                is_settled: false,
                managed: None,
                owes: false,
            }),
            to_in: BytesMut::new(),
            to_out: BytesMut::new(),
        });
    }

    /// Waits until it is time to connect again, or gives up.
    fn again(&mut self, at_ms: Option<u64>) {
        match at_ms {
            Some(at_ms) => {
                self.now_ms = self.now_ms.max(at_ms);
                self.connects = true;
            }
            None => {
                assert!(!self.is_kind, "it has lost patience");
                self.former = None;
                self.caller.give_up(self.now_ms);
            }
        }
    }

    /// A connection breaks, and what is on its way is gone. Not always do both ends see that now.
    fn cut(&mut self) {
        let count = self.wires.len() as u64;
        if count == 0 {
            return;
        }
        let index = usize::try_from(self.dice.roll(count)).expect("few");
        let (is_seen_near, is_seen_far) = match self.dice.roll(4) {
            0 => (true, false),
            1 => (false, true),
            _ => (true, true),
        };
        let wire = &mut self.wires[index];
        wire.to_in.clear();
        wire.to_out.clear();
        let far = wire.far.take_if(|_| is_seen_far || self.is_well);
        let near = wire.near.take_if(|_| is_seen_near || self.is_well);
        if wire.near.is_none() && wire.far.is_none() {
            self.wires.remove(index);
        }
        if let Some(far) = far {
            self.lost_far(&far);
        }
        if let Some(near) = near {
            self.lost_near(near);
        }
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
        let sent = self.caller.sent + self.called.sent;
        let cut_in = if self.is_kind { 40 } else { 8 };
        match self.dice.roll(10) {
            0 | 1 if sent < 300 && !self.is_well => self.post(),
            2 if !self.is_well && self.dice.roll(cut_in) == 0 => self.cut(),
            3..=5 => (0..self.wires.len()).rev().for_each(|i| self.step_near(i)),
            _ => (0..self.wires.len()).rev().for_each(|i| self.step_far(i)),
        }
        self.wires
            .retain(|wire| wire.near.is_some() || wire.far.is_some());
        let now_ms = self.now_ms;
        let due = |(_, until_ms): &mut (_, u64)| *until_ms <= now_ms;
        for (stream, _) in self.awaited.extract_if(.., due).collect::<Vec<_>>() {
            self.release(&stream);
        }
        if self.fails_at_ms.take_if(|at_ms| *at_ms <= now_ms).is_some() {
            self.called.give_up(now_ms);
        }
        if self.connects && !self.wires.iter().any(|wire| wire.near.is_some()) {
            self.connect();
        }
    }

    fn check(&self, seed: u64, from: &Server, to: &Server) {
        let mut within = HashSet::new();
        for pair in &to.handled {
            assert!(
                within.insert(pair),
                "seed {seed}: {pair:?} was handled twice"
            );
        }
        let handled: HashSet<&String> = to.handled.iter().map(|(_, id)| id).collect();
        let mut returned = HashSet::new();
        for id in &from.returned {
            assert!(returned.insert(id), "seed {seed}: {id} came back twice");
        }
        let all = (1..=from.sent).map(|number| format!("{}{number}", from.name));
        for id in all.clone() {
            let is_told = handled.contains(&id) || returned.contains(&id);
            assert!(
                is_told,
                "seed {seed}: {id} was neither handled nor returned"
            );
        }
        assert!(from.link.is_empty(), "seed {seed}: something is left");
        if self.is_kind {
            // A request may come back where the answer to `<enable/>` was lost: nobody resumes that.
            let in_order: Vec<&String> = to.handled.iter().map(|(_, id)| id).collect();
            let all: Vec<String> = all.filter(|id| !returned.contains(id)).collect();
            assert_eq!(in_order, all.iter().collect::<Vec<_>>(), "seed {seed}");
        }
    }
}

fn run(seed: u64, is_kind: bool) -> World {
    let mut world = World::new(seed, is_kind);
    for _ in 0..3_000 {
        world.step();
    }
    world.is_well = true;
    // All that is dead by now is found to be so, and the caller has a reason to come once more.
    let dead = |wire: &Wire| wire.near.is_none() || wire.far.is_none();
    for wire in world
        .wires
        .extract_if(.., |wire| dead(wire))
        .collect::<Vec<_>>()
    {
        wire.far.into_iter().for_each(|far| world.lost_far(&far));
        wire.near.into_iter().for_each(|near| world.lost_near(near));
    }
    world.now_ms += 400_000;
    world.connects |= world.caller.post(Freight::Plain, world.now_ms);
    for _ in 0..2_000 {
        world.step();
    }
    world.check(seed, &world.caller, &world.called);
    world.check(seed, &world.called, &world.caller);
    world
}

fn run_many(is_kind: bool) -> [usize; 4] {
    let mut sums = [0; 4];
    for seed in 0..150 {
        let world = run(seed, is_kind);
        let (caller, called) = (&world.caller, &world.called);
        sums[0] += world.resumptions as usize;
        sums[1] += world.half_open as usize;
        sums[2] += caller.handled.len().min(called.handled.len());
        sums[3] += caller.returned.len() + called.returned.len();
    }
    sums
}

#[test]
fn each_stanza_is_handled_once_a_stream_or_comes_back_once() {
    // The network was neither too good nor too bad to find anything.
    let [resumptions, half_open, handled, returned] = run_many(false);
    assert!(resumptions > 100, "{resumptions} resumptions");
    assert!(half_open > 20, "{half_open} of connections believed alive");
    assert!(
        handled > 5_000 && returned > 100,
        "{handled} handled, {returned} returned"
    );
}

#[test]
fn between_two_that_resume_their_streams_each_stanza_arrives_once_and_in_its_order() {
    let [resumptions, half_open, handled, returned] = run_many(true);
    assert!(resumptions > 300, "{resumptions} resumptions");
    assert!(half_open > 40, "{half_open} of connections believed alive");
    assert!(
        handled > 10_000 && returned < 300,
        "{handled} handled, {returned} returned"
    );
}
