//! Which pairs a stream from another server may carry, and dialback, which adds to them.

use std::borrow::Cow;

use super::super::dialback::{self, Kind, Packet, Says};
use super::super::{Action, Challenge, Pair, Proof, Security, Verdict};
use super::Incoming;
use crate::addr::Jid;
use crate::stanza::{Condition, StreamErrorCondition};
use crate::xml::Element;

/// The pairs of one stream.
#[derive(Debug)]
pub(super) struct Pairs {
    authorized: Vec<Pair>,
    /// The authoritative server is being asked.
    asked: Vec<Pair>,
    max: usize,
}

impl Pairs {
    pub fn new(max: usize) -> Pairs {
        Pairs {
            authorized: Vec::new(),
            asked: Vec::new(),
            max,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.authorized.is_empty()
    }

    pub fn contains(&self, local: &str, remote: &str) -> bool {
        let is_it = |pair: &Pair| pair.local.as_str() == local && pair.remote.as_str() == remote;
        self.authorized.iter().any(is_it)
    }

    pub fn speaks(&self, remote: &str) -> bool {
        let mut pairs = self.authorized.iter();
        pairs.any(|pair| pair.remote.as_str() == remote)
    }

    fn has_room(&self) -> bool {
        self.authorized.len() + self.asked.len() < self.max
    }
}

impl Incoming {
    /// Answers [`Action::DialBack`].
    pub fn dialled_back(&mut self, pair: &Pair, verdict: &Verdict, now_ms: u64) {
        let before = self.pairs.asked.len();
        self.pairs.asked.retain(|asked| asked != pair);
        // What nobody asked about means nothing.
        if self.pairs.asked.len() == before || self.wire.has_ended() {
            return;
        }
        self.conclude(pair.clone(), verdict, Proof::Dialback);
        self.heard(now_ms);
    }

    pub(super) fn authorize(&mut self, pair: Pair, proof: Proof) {
        if !self.pairs.authorized.contains(&pair) {
            self.pairs.authorized.push(pair.clone());
        }
        self.wire.set_limits(self.config.limits_after);
        self.wire.act(Action::Authorized {
            pair,
            proof,
            may_answer: self.is_bidirectional,
        });
    }

    pub(super) fn dialback(&mut self, element: &Element<'_>) {
        let Some(packet) = Packet::parse(element) else {
            let text = "this is no element of dialback";
            return self.wire.fail_with(StreamErrorCondition::InvalidXml, text);
        };
        match (packet.kind, &packet.says) {
            (Kind::Result, Says::Key(key)) => {
                let key = key.clone();
                self.result(&packet, key);
            }
            (Kind::Verify, Says::Key(key)) => self.verify(&packet, key),
            // Outcomes that nobody has asked for here are worth nothing.
            (_, Says::Outcome(_)) => {
                let domain = self.header_pair.as_ref().map(|pair| pair.remote.clone());
                let why = Cow::Borrowed("an outcome of dialback that was not asked for");
                if let Some(domain) = domain {
                    self.wire.act(Action::Refused { domain, why });
                }
            }
        }
    }

    /// The peer asks to be authorised for a pair (XEP-0220 §2.2.1).
    fn result(&mut self, packet: &Packet, key: String) {
        let Some(local) = self.config.local(&packet.to) else {
            // §2.5: the target domain is not served here.
            return self
                .wire
                .say(dialback::refusal(packet, Condition::ItemNotFound));
        };
        let Some(remote) = self.config.remote(&packet.from) else {
            return self
                .wire
                .say(dialback::refusal(packet, Condition::NotAcceptable));
        };
        if !self.config.policy.admits(remote.as_str()) {
            let why = Cow::Borrowed("the policy does not admit it");
            return self.refuse(packet, remote, why, Condition::PolicyViolation);
        }
        let pair = Pair { local, remote };
        if self.pairs.authorized.contains(&pair) {
            return self
                .wire
                .say(dialback::result_outcome(&pair, &Verdict::Valid));
        }
        if self.pairs.asked.contains(&pair) || !self.pairs.has_room() {
            let why = Cow::Borrowed("too many domains on one stream");
            return self.refuse(packet, pair.remote, why, Condition::ResourceConstraint);
        }
        let asked = self.config.security(&pair.remote);
        match self.config.proved(self.identity.as_ref(), &pair.remote) {
            // XEP-0344 §2.4: the certificate says what the authoritative server would.
            Ok(()) => self.conclude(pair, &Verdict::Valid, Proof::Certificate),
            // Where DANE is asked for, the authoritative server has to have it.
            Err(_) if asked != Security::Certificate && self.identity.is_some() => {
                self.pairs.asked.push(pair.clone());
                let stream_id = self.stream_id.clone();
                self.wire.act(Action::DialBack(Challenge {
                    pair,
                    stream_id,
                    key,
                }));
            }
            Err(why) => match self.hopeless() {
                Some(error) => {
                    let domain = pair.remote;
                    self.wire.act(Action::Refused { domain, why });
                    self.wire.fail(error);
                }
                None => self.refuse(packet, pair.remote, why, Condition::NotAuthorized),
            },
        }
    }

    fn refuse(
        &mut self,
        packet: &Packet,
        domain: Jid,
        why: Cow<'static, str>,
        condition: Condition,
    ) {
        self.wire.say(dialback::refusal(packet, condition));
        self.wire.act(Action::Refused { domain, why });
    }

    fn conclude(&mut self, pair: Pair, verdict: &Verdict, proof: Proof) {
        self.wire.say(dialback::result_outcome(&pair, verdict));
        match verdict {
            Verdict::Valid => self.authorize(pair, proof),
            Verdict::Invalid => {
                let domain = pair.remote;
                let why = Cow::Borrowed("its authoritative server knows nothing of the key");
                self.wire.act(Action::Refused { domain, why });
                // XEP-0220 §2.2.1: what was proved false ends a stream that carries nothing else.
                if self.pairs.is_empty() {
                    self.wire.finish();
                }
            }
            Verdict::Unknown(_) => {
                let domain = pair.remote;
                let why = Cow::Borrowed("its authoritative server could not be asked");
                self.wire.act(Action::Refused { domain, why });
            }
        }
    }

    /// We are the authoritative server (XEP-0220 §2.2.2): is the key ours?
    fn verify(&mut self, packet: &Packet, key: &str) {
        let Some(local) = self.config.local(&packet.to) else {
            return self
                .wire
                .say(dialback::refusal(packet, Condition::ItemNotFound));
        };
        let Some(remote) = self.config.remote(&packet.from) else {
            return self
                .wire
                .say(dialback::refusal(packet, Condition::NotAcceptable));
        };
        let pair = Pair { local, remote };
        let verdict = match dialback::is_own(&self.config.secret, &pair, &packet.id, key) {
            true => Verdict::Valid,
            false => Verdict::Invalid,
        };
        self.wire
            .say(dialback::verify_outcome(&pair, &packet.id, &verdict));
    }
}
