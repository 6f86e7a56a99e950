//! Any order of what clients, connections and the store do: nothing acknowledged is lost, nothing
//! is delivered twice or to the wrong resource, and one sender's messages stay in order.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, RngAlgorithm, TestRng, TestRunner};

use super::*;

#[derive(Debug, Clone, Copy)]
enum Op {
    Bind {
        resource: u8,
        is_managed: bool,
        priority: Option<i8>,
    },
    Presence {
        resource: u8,
        priority: Option<i8>,
    },
    Say {
        is_managed: bool,
        to: Option<u8>,
        count: u8,
    },
    Take {
        resource: u8,
    },
    Write {
        resource: u8,
        count: u8,
    },
    Acknowledge {
        resource: u8,
    },
    Cut {
        resource: u8,
    },
    LogOut {
        resource: u8,
    },
    Resume {
        session: u8,
    },
    /// A connection whose session has been replaced writes some more, or is done.
    Leave {
        which: u8,
        count: u8,
        is_done: bool,
    },
    Timeout,
    Commit,
    Restart,
    Kill,
}

fn op(resources: u8) -> impl Strategy<Value = Op> {
    let resource = || 0..resources;
    let count = || 1..12_u8;
    let priority = || {
        prop_oneof![
            6 => Just(Some(0)),
            1 => Just(Some(5)),
            1 => Just(Some(-1)),
            1 => Just(None),
        ]
    };
    prop_oneof![
        4 => (resource(), any::<bool>(), priority())
            .prop_map(|(resource, is_managed, priority)| Op::Bind { resource, is_managed, priority }),
        2 => (resource(), priority())
            .prop_map(|(resource, priority)| Op::Presence { resource, priority }),
        10 => (any::<bool>(), prop::option::of(resource()), count())
            .prop_map(|(is_managed, to, count)| Op::Say { is_managed, to, count }),
        6 => resource().prop_map(|resource| Op::Take { resource }),
        8 => (resource(), count()).prop_map(|(resource, count)| Op::Write { resource, count }),
        3 => resource().prop_map(|resource| Op::Acknowledge { resource }),
        2 => resource().prop_map(|resource| Op::Cut { resource }),
        1 => resource().prop_map(|resource| Op::LogOut { resource }),
        2 => any::<u8>().prop_map(|session| Op::Resume { session }),
        3 => (any::<u8>(), 0..4_u8, any::<bool>())
            .prop_map(|(which, count, is_done)| Op::Leave { which, count, is_done }),
        1 => Just(Op::Timeout),
        6 => Just(Op::Commit),
        1 => Just(Op::Restart),
        1 => Just(Op::Kill),
    ]
}

/// A message that Alice has sent.
struct Sent {
    to: Option<u8>,
    at: usize,
    /// How many sessions got it at once.
    targets: usize,
    /// Promised once this is durable.
    promised: Option<Position>,
    /// The sessions that have seen it.
    seen_by: Vec<u64>,
    /// Whether nothing may be expected any more: the process was killed before it was durable.
    is_excused: bool,
    /// The process was killed since somebody saw it.
    may_come_again: bool,
}

/// What is known of a session of Bob's.
struct Life {
    resource: u8,
    began: usize,
    ended: Option<usize>,
    /// When it was last able to get messages to the bare JID.
    eligible: Option<usize>,
    /// Since when it has been able to, without a break.
    eligible_since: usize,
    session: Arc<Session>,
    h: u32,
    is_managed: bool,
    /// Messages that it has seen, and how many of them it is known to have.
    seen: Vec<usize>,
    confirmed: usize,
}

struct Model {
    server: Option<Server>,
    conns: BTreeMap<u8, Conn>,
    leaving: Vec<Conn>,
    lives: HashMap<u64, Life>,
    sent: Vec<Sent>,
    now: usize,
    resources: u8,
}

impl Model {
    fn new(resources: u8) -> Model {
        Model {
            server: Some(Server::new()),
            conns: BTreeMap::new(),
            leaving: Vec::new(),
            lives: HashMap::new(),
            sent: Vec::new(),
            now: 0,
            resources,
        }
    }

    fn server(&self) -> &Server {
        self.server
            .as_ref()
            .expect("there is one between the steps")
    }

    fn step(&mut self, op: Op) -> Result<(), TestCaseError> {
        self.now += 1;
        match op {
            Op::Bind {
                resource,
                is_managed,
                priority,
            } => {
                self.bind(resource, is_managed);
                if priority.is_some() {
                    self.present(resource, priority);
                }
            }
            Op::Presence { resource, priority } => self.present(resource, priority),
            Op::Say {
                is_managed,
                to,
                count,
            } => {
                for _ in 0..count {
                    self.say(is_managed, to)?;
                }
            }
            Op::Take { resource } => {
                self.server().commit();
                self.with(resource, |server, conn| {
                    server.take(conn);
                    Vec::new()
                })?;
            }
            Op::Write { resource, count } => {
                self.with(resource, |server, conn| {
                    server.take(conn);
                    server.write(conn, count.into())
                })?;
            }
            Op::Acknowledge { resource } => self.acknowledge(resource),
            Op::Cut { resource } => {
                if let Some(conn) = self.conns.remove(&resource) {
                    self.server().cut(&conn);
                }
            }
            Op::LogOut { resource } => {
                self.with(resource, |server, conn| server.write(conn, usize::MAX))?;
                if let Some(conn) = self.conns.remove(&resource) {
                    self.server().log_out(&conn);
                }
            }
            Op::Resume { session } => self.resume(session),
            Op::Leave {
                which,
                count,
                is_done,
            } => self.leave(which, count.into(), is_done)?,
            Op::Timeout => {
                wait_s(RESUME_S + 1);
                end_overdue(&self.server().core);
            }
            Op::Commit => self.server().commit(),
            Op::Restart => self.restart()?,
            Op::Kill => self.kill(),
        }
        self.look();
        Ok(())
    }

    fn bind(&mut self, resource: u8, is_managed: bool) {
        let name = resource.to_string();
        let conn = match is_managed {
            true => self.server().bind_managed(&name),
            false => self.server().bind(&name),
        };
        self.born(resource, &conn.session);
        // The one before may still write what it has.
        self.leaving.extend(self.conns.insert(resource, conn));
    }

    fn present(&mut self, resource: u8, priority: Option<i8>) {
        let Some(conn) = self.conns.get(&resource) else {
            return;
        };
        match priority {
            Some(priority) => self.server().present(conn, priority),
            None => self.server().leave(conn),
        }
    }

    fn born(&mut self, resource: u8, session: &Arc<Session>) {
        let life = Life {
            resource,
            began: self.now,
            ended: None,
            eligible: None,
            eligible_since: usize::MAX,
            session: session.clone(),
            h: 0,
            is_managed: false,
            seen: Vec::new(),
            confirmed: 0,
        };
        self.lives.insert(session.number, life);
    }

    fn say(&mut self, is_managed: bool, to: Option<u8>) -> Result<(), TestCaseError> {
        let address = match to {
            Some(resource) => format!("{BOB}/{resource}"),
            None => BOB.to_owned(),
        };
        let targets = {
            let shard = self.server().core.table.shard(BOB);
            let user = shard.user(BOB);
            let exact = to.and_then(|to| user?.seat(&to.to_string()));
            match (exact, user) {
                (Some(_), _) => 1,
                (None, Some(user)) => user.most_available().count(),
                (None, None) => 0,
            }
        };
        let body = self.sent.len().to_string();
        let after = self.server().say(is_managed, &address, &body);
        let after = after.map_err(|error| TestCaseError::fail(format!("{error:?}")))?;
        self.sent.push(Sent {
            to,
            at: self.now,
            targets,
            promised: is_managed.then_some(after),
            seen_by: Vec::new(),
            is_excused: false,
            may_come_again: false,
        });
        Ok(())
    }

    fn with(
        &mut self,
        resource: u8,
        act: impl FnOnce(&Server, &mut Conn) -> Vec<Seen>,
    ) -> Result<(), TestCaseError> {
        let Some(mut conn) = self.conns.remove(&resource) else {
            return Ok(());
        };
        let seen = act(self.server(), &mut conn);
        self.see(conn.session.number, seen)?;
        self.conns.insert(resource, conn);
        Ok(())
    }

    fn acknowledge(&mut self, resource: u8) {
        let Some(conn) = self.conns.get(&resource) else {
            return;
        };
        let (session, number) = (conn.session.clone(), conn.session.number);
        let life = self.lives.get_mut(&number).expect("it was born");
        if life.is_managed {
            life.confirmed = life.seen.len();
            let h = life.h;
            self.server().acknowledge(&session, h);
        }
    }

    fn resume(&mut self, which: u8) {
        let mut numbers: Vec<u64> = self.lives.keys().copied().collect();
        numbers.sort_unstable();
        numbers.retain(|number| {
            self.lives[number].is_managed && !self.lives[number].session.is_ended()
        });
        if numbers.is_empty() {
            return;
        }
        let number = numbers[usize::from(which) % numbers.len()];
        let life = &self.lives[&number];
        let (resource, h, session) = (life.resource, life.h, life.session.clone());
        if let Some(conn) = self.server().resume(&session, h) {
            let life = self.lives.get_mut(&number).expect("it was born");
            life.confirmed = life.seen.len();
            self.leaving.extend(self.conns.insert(resource, conn));
        }
    }

    fn leave(&mut self, which: u8, count: usize, is_done: bool) -> Result<(), TestCaseError> {
        if self.leaving.is_empty() {
            return Ok(());
        }
        let index = usize::from(which) % self.leaving.len();
        let mut conn = self.leaving.swap_remove(index);
        // Of a session that goes on elsewhere it writes nothing that counts.
        if conn.session.is_ended() {
            let mut seen = self.server().write(&mut conn, count);
            // These are others' already: nobody will ever acknowledge them.
            seen.retain(|seen| !seen.is_kept);
            self.see(conn.session.number, seen)?;
        }
        match is_done {
            true => self.server().cut(&conn),
            false => self.leaving.push(conn),
        }
        Ok(())
    }

    fn restart(&mut self) -> Result<(), TestCaseError> {
        for resource in 0..4 {
            if let Some(conn) = self.conns.remove(&resource) {
                self.server().cut(&conn);
            }
        }
        for conn in std::mem::take(&mut self.leaving) {
            self.server().cut(&conn);
        }
        self.look();
        let server = self.server.take().expect("there is one between the steps");
        let server = server.restart();
        // A session that comes back has a new number here.
        for session in server.core.table.all() {
            let same = |life: &&u64| {
                let life = &self.lives[*life];
                life.ended.is_none() && life.session.jid == session.jid
            };
            let before = self.lives.keys().find(same).copied();
            let before = before.ok_or_else(|| TestCaseError::fail("nobody slept"))?;
            let mut life = self.lives.remove(&before).expect("it was found");
            for sent in &mut self.sent {
                sent.seen_by
                    .iter_mut()
                    .filter(|by| **by == before)
                    .for_each(|by| *by = session.number);
            }
            life.session = session.clone();
            self.lives.insert(session.number, life);
        }
        let now = self.now;
        for life in self.lives.values_mut() {
            let is_here = server
                .core
                .table
                .all()
                .iter()
                .any(|s| s.number == life.session.number && Arc::ptr_eq(s, &life.session));
            if !is_here {
                life.ended.get_or_insert(now);
            }
        }
        self.server = Some(server);
        Ok(())
    }

    fn kill(&mut self) {
        let now = self.now;
        let server = self.server.take().expect("there is one between the steps");
        let durable = server.core.store.durable();
        self.conns.clear();
        self.leaving.clear();
        self.lives.values_mut().for_each(|life| {
            life.ended.get_or_insert(now);
        });
        for sent in &mut self.sent {
            sent.is_excused |= sent.promised.is_none_or(|at| at > durable);
            sent.may_come_again = true;
        }
        self.server = Some(server.kill());
    }

    /// What has ended, and who may get messages to the bare JID.
    fn look(&mut self) {
        let now = self.now;
        for life in self.lives.values_mut() {
            if life.session.is_ended() {
                life.ended.get_or_insert(now);
            } else if life.session.priority().is_some_and(|p| p >= 0) {
                life.eligible = Some(now);
                life.eligible_since = life.eligible_since.min(now);
            } else {
                life.eligible_since = usize::MAX;
            }
        }
    }

    fn see(&mut self, number: u64, seen: Vec<Seen>) -> Result<(), TestCaseError> {
        for seen in seen {
            let life = self.lives.get_mut(&number).expect("it was born");
            if seen.is_enabled {
                // Whoever is told this has had everything before it.
                life.is_managed = true;
            }
            if life.is_managed && seen.is_stanza {
                life.h += 1;
            }
            let Some(body) = seen.body else { continue };
            let message: usize = body.parse().expect("a number");
            self.check(number, message)?;
            let life = self.lives.get_mut(&number).expect("it was born");
            life.seen.push(message);
            if !life.is_managed {
                life.confirmed = life.seen.len();
            }
            self.sent[message].seen_by.push(number);
        }
        Ok(())
    }

    fn check(&self, number: u64, message: usize) -> Result<(), TestCaseError> {
        let (life, sent) = (&self.lives[&number], &self.sent[message]);
        for by in &sent.seen_by {
            if sent.may_come_again {
                continue;
            }
            prop_assert_ne!(*by, number, "{} comes twice in a session", message);
            let other = &self.lives[by];
            let had = other.seen[..other.confirmed].contains(&message);
            let is_free = other.ended.is_some() && !had;
            prop_assert!(
                is_free || sent.targets > 1,
                "{} was delivered to {} before",
                message,
                by
            );
        }
        prop_assert!(
            !self.is_late(life, message) || self.may_be_late(life, sent),
            "{} comes behind {:?}",
            message,
            life.seen
        );
        match sent.to {
            Some(resource) if resource != life.resource => {
                let there = |other: &&Life| {
                    other.resource == resource && other.ended.is_none() && other.began < sent.at
                };
                let addressee = self.lives.values().find(there);
                prop_assert!(addressee.is_none(), "{} is for {}", message, resource);
            }
            Some(_) => {}
            None => {
                let was_eligible = life.eligible.is_some_and(|at| at + 1 >= sent.at);
                prop_assert!(was_eligible, "{} came to who takes no messages", message);
            }
        }
        Ok(())
    }

    fn is_late(&self, life: &Life, message: usize) -> bool {
        let to = self.sent[message].to;
        let is_anyones = to.is_none() || self.sent[message].at < life.began;
        life.seen.iter().any(|&before| {
            let earlier = &self.sent[before];
            // What is for one resource does not wait for what is for another, nor does it while
            // this one takes nothing else.
            let is_comparable = earlier.to == to || self.resources == 1;
            let went_alone = earlier.to.is_some() && earlier.at <= life.eligible_since;
            before > message && is_comparable && !(is_anyones && went_alone)
        })
    }

    /// Somebody else may have held it while this session lived.
    fn may_be_late(&self, life: &Life, sent: &Sent) -> bool {
        let since = life.began.max(sent.at);
        self.lives.values().any(|other| {
            other.session.number != life.session.number
                && other.ended.is_none_or(|ended| ended > since)
        })
    }

    /// Everybody goes, and one last session gets everything that nobody has had.
    fn finish(mut self) -> Result<(), TestCaseError> {
        self.now += 1;
        for resource in 0..4 {
            if let Some(conn) = self.conns.remove(&resource) {
                self.server().cut(&conn);
            }
        }
        for conn in std::mem::take(&mut self.leaving) {
            self.server().cut(&conn);
        }
        wait_s(RESUME_S + 1);
        end_overdue(&self.server().core);
        self.look();
        self.now += 1;
        self.bind(9, false);
        let mut conn = self.conns.remove(&9).expect("just bound");
        self.server().present(&conn, 0);
        self.look();
        loop {
            self.server().commit();
            self.server().take(&mut conn);
            if conn.out.is_empty() {
                break;
            }
            let seen = self.server().write(&mut conn, usize::MAX);
            self.see(conn.session.number, seen)?;
        }
        let lost: BTreeSet<usize> = (0..self.sent.len())
            .filter(|&message| {
                self.sent[message].seen_by.is_empty() && !self.sent[message].is_excused
            })
            .collect();
        prop_assert!(lost.is_empty(), "lost: {:?}", lost);
        let left = self
            .server()
            .core
            .store
            .read(|state| state.account(BOB).map_or(0, |bob| bob.messages().len()));
        prop_assert_eq!(left, 0, "delivered messages are retired");
        self.server().log_out(&conn);
        let shard = self.server().core.table.shard(BOB);
        prop_assert!(
            shard.user(BOB).is_none(),
            "nothing is remembered of who is gone"
        );
        Ok(())
    }
}

fn holds(resources: u8, cases: u32) {
    let cases = Cases {
        cases,
        failure_persistence: None,
        max_shrink_iters: 4_000,
        ..Cases::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(cases, rng);
    let ops = prop::collection::vec(op(resources), 1..100);
    let outcome = runner.run(&ops, |ops| {
        let mut model = Model::new(resources);
        for op in ops {
            model.step(op)?;
        }
        model.finish()
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

#[test]
fn whatever_happens_one_resource_gets_everything_once_and_in_order() {
    holds(1, 150);
}

#[test]
fn whatever_happens_several_resources_get_everything_once() {
    holds(3, 150);
}
