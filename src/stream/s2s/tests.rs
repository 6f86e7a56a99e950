//! Both ends of a stream against each other, and the receiving entity against a liar.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::BytesMut;

use super::*;
use crate::stream::Closed;

/// A certificate that names some domains.
#[derive(Debug)]
struct Names(Vec<&'static str>);

impl Identity for Names {
    fn speaks_for(&self, domain: &Jid) -> Result<(), Cow<'static, str>> {
        match self.0.contains(&domain.as_str()) {
            true => Ok(()),
            false => Err("it names others".into()),
        }
    }
}

/// A certificate that nobody can judge at this moment.
#[derive(Debug)]
struct Undecided;

impl Identity for Undecided {
    fn speaks_for(&self, _: &Jid) -> Result<(), Cow<'static, str>> {
        Err("nobody knows the time".into())
    }

    fn is_undecided(&self) -> bool {
        true
    }
}

/// A certificate that the signed zone of b.example names.
#[derive(Debug)]
struct Pinned;

impl Identity for Pinned {
    fn speaks_for(&self, domain: &Jid) -> Result<(), Cow<'static, str>> {
        Names(vec!["b.example"]).speaks_for(domain)
    }

    fn is_by_dane(&self) -> bool {
        true
    }
}

fn jid(text: &str) -> Jid {
    Jid::parse(text).expect("an address")
}

fn config(domain: &str) -> S2sConfig {
    let secret = domain.len().to_le_bytes().repeat(4);
    S2sConfig::new(vec![jid(domain)], secret.try_into().expect("32 bytes"))
}

fn pair(local: &str, remote: &str) -> Pair {
    Pair {
        local: jid(local),
        remote: jid(remote),
    }
}

/// Two servers and what each has been told to do.
struct Link {
    out: Outgoing,
    inn: Incoming,
    to_in: BytesMut,
    to_out: BytesMut,
    out_names: Arc<dyn Identity>,
    in_names: Arc<dyn Identity>,
    told_out: Vec<Action>,
    told_in: Vec<Action>,
}

impl Link {
    /// From a.example to b.example, with what each one's certificate says.
    fn new(a: S2sConfig, b: S2sConfig, a_names: &[&'static str], b_names: &[&'static str]) -> Link {
        let pair = pair("a.example", "b.example");
        let out = Outgoing::new(Arc::new(a), pair, Purpose::Send, [1; 32], None, 0);
        Link {
            out,
            inn: Incoming::new(Arc::new(b), [2; 32], None, 0),
            to_in: BytesMut::new(),
            to_out: BytesMut::new(),
            out_names: Arc::new(Names(a_names.to_vec())),
            in_names: Arc::new(Names(b_names.to_vec())),
            told_out: Vec::new(),
            told_in: Vec::new(),
        }
    }

    /// Until nobody has anything to say.
    fn run(&mut self) -> &mut Link {
        loop {
            let mut moved = false;
            self.out.input(&mut self.to_out, 1);
            while let Some(action) = self.out.poll() {
                moved = true;
                match action {
                    Action::Send(bytes) => self.to_in.extend_from_slice(&bytes),
                    Action::StartTls => self.out.tls_established(self.in_names.clone()),
                    other => self.told_out.push(other),
                }
            }
            self.inn.input(&mut self.to_in, 1);
            while let Some(action) = self.inn.poll() {
                moved = true;
                match action {
                    Action::Send(bytes) => self.to_out.extend_from_slice(&bytes),
                    Action::StartTls => self.inn.tls_established(self.out_names.clone(), 1),
                    other => self.told_in.push(other),
                }
            }
            if !moved {
                return self;
            }
        }
    }

    fn says(&mut self, xml: &str) -> &mut Link {
        self.to_in.extend_from_slice(xml.as_bytes());
        self.run()
    }

    fn is_ready(&self) -> bool {
        let mut told = self.told_out.iter();
        told.any(|action| matches!(action, Action::Ready { .. }))
    }

    fn proofs(&self) -> Vec<Proof> {
        let told = self.told_in.iter();
        told.filter_map(|action| match action {
            Action::Authorized { proof, .. } => Some(*proof),
            _ => None,
        })
        .collect()
    }

    fn stanzas(&self) -> usize {
        let is_stanza = |action: &&Action| matches!(action, Action::Stanza(_));
        self.told_in.iter().filter(is_stanza).count()
    }

    fn failure(&self) -> Option<&Failure> {
        self.told_out.iter().find_map(|action| match action {
            Action::Failed(failure) => Some(failure),
            _ => None,
        })
    }

    fn challenge(&self) -> Option<Challenge> {
        self.told_in.iter().find_map(|action| match action {
            Action::DialBack(challenge) => Some(challenge.clone()),
            _ => None,
        })
    }

    fn end(&self) -> Option<StreamErrorName> {
        self.told_in.iter().find_map(|action| match action {
            Action::Closed(Closed::Error(error)) => Some(error.condition.name()),
            _ => None,
        })
    }
}

type StreamErrorName = &'static str;

const BOTH: (&[&str], &[&str]) = (&["a.example"], &["b.example"]);

fn trusted() -> Link {
    let mut link = Link::new(config("a.example"), config("b.example"), BOTH.0, BOTH.1);
    link.run();
    link
}

/// The same after a change to it.
fn trusted_but_for(change: impl FnOnce(&mut Link)) -> Link {
    let mut link = Link::new(config("a.example"), config("b.example"), BOTH.0, BOTH.1);
    change(&mut link);
    link.run();
    link
}

#[test]
fn two_certificates_authenticate_by_external() {
    let link = trusted();
    assert!(link.is_ready(), "{:?}", link.told_out);
    assert_eq!(link.proofs(), [Proof::External]);
    let ready = link.told_out.iter().any(|action| {
        matches!(
            action,
            Action::Ready {
                may_manage: true,
                is_bidirectional: true
            }
        )
    });
    assert!(ready, "{:?}", link.told_out);
}

#[test]
fn a_stanza_of_the_pair_passes_and_of_another_domain_ends_the_stream() {
    let mut link = trusted();
    link.says("<message from='x@a.example/r' to='y@b.example'><body>hi</body></message>");
    assert_eq!((link.stanzas(), link.end()), (1, None));
    link.says("<message from='x@c.example' to='y@b.example'/>");
    assert_eq!((link.stanzas(), link.end()), (1, Some("invalid-from")));
}

#[test]
fn a_stanza_for_a_domain_that_is_not_served_ends_the_stream() {
    let mut link = trusted();
    link.says("<message from='x@a.example' to='y@c.example'/>");
    assert_eq!(link.end(), Some("host-unknown"));
    let mut link = trusted();
    link.says("<message from='x@a.example'/>");
    assert_eq!(link.end(), Some("improper-addressing"));
}

#[test]
fn nothing_is_taken_before_tls() {
    for xml in [
        "<message from='x@a.example' to='y@b.example'/>",
        "<db:result from='a.example' to='b.example'>key</db:result>",
        "<db:verify id='1' from='a.example' to='b.example'>key</db:verify>",
    ] {
        let config = Arc::new(config("b.example"));
        let mut stream = Incoming::new(config, [0; 32], None, 0);
        let header = "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
             xmlns:db='jabber:server:dialback' to='b.example' from='a.example' version='1.0'>";
        let mut bytes = BytesMut::from(&*format!("{header}{xml}"));
        let mut ended = false;
        loop {
            stream.input(&mut bytes, 0);
            let Some(action) = stream.poll() else { break };
            ended |= matches!(action, Action::Closed(Closed::Error(_)));
        }
        assert!(ended && !stream.is_authorized(), "{xml}");
    }
}

#[test]
fn an_unknown_certificate_is_refused_with_the_reason_on_both_sides() {
    let mut link = Link::new(config("a.example"), config("b.example"), &[], BOTH.1);
    link.run();
    assert!(!link.is_ready() && link.proofs().is_empty());
    assert_eq!(link.end(), Some("not-authorized"));
    let failure = link.failure().expect("it is told");
    assert!(failure.text.contains("it names others"), "{failure:?}");
    let mut link = Link::new(config("a.example"), config("b.example"), BOTH.0, &[]);
    link.run();
    assert!(!link.is_ready() && link.proofs().is_empty());
    let failure = link.failure().expect("it is told");
    // RFC 6120 §8.3.3.17 counts failures of TLS among them.
    assert_eq!(failure.condition, Condition::RemoteServerTimeout);
}

/// XEP-0220 §2.3: who asks whether a key is ours needs no certificate that we believe.
#[test]
fn a_peer_whose_certificate_is_not_accepted_may_ask_about_our_keys() {
    let b = config("b.example");
    let genuine = key(&b.secret, "a.example", "b.example", "id of a");
    for (key, verdict) in [
        (genuine, Verdict::Valid),
        ("another".to_owned(), Verdict::Invalid),
    ] {
        let mut link = Link::new(config("a.example"), config("b.example"), &[], BOTH.1);
        let purpose = Purpose::Verify {
            stream_id: "id of a".to_owned(),
            key,
        };
        let (a, pair) = (
            Arc::new(config("a.example")),
            pair("a.example", "b.example"),
        );
        link.out = Outgoing::new(a, pair, purpose, [1; 32], None, 0);
        link.run();
        let told = |action: &Action| matches!(action, Action::Verified(it) if *it == verdict);
        assert!(link.told_out.iter().any(told), "{:?}", link.told_out);
        assert!(link.proofs().is_empty(), "that authorises for nothing");
    }
}

#[test]
fn a_certificate_that_cannot_be_judged_yet_is_refused_as_the_fault_of_this_side() {
    let link = trusted_but_for(|link| link.out_names = Arc::new(Undecided));
    assert_eq!(link.end(), Some("internal-server-error"));
    let failure = link.failure().expect("it is told");
    assert_eq!(failure.condition, Condition::RemoteServerTimeout);
    let link = trusted_but_for(|link| link.in_names = Arc::new(Undecided));
    let failure = link.failure().expect("it is told");
    assert_eq!(failure.condition, Condition::RemoteServerTimeout);
    assert!(
        failure.text.contains("nobody knows the time"),
        "{failure:?}"
    );
}

/// Also where it is not the end of the stream, since dialback may be tried.
#[test]
fn external_with_a_certificate_that_cannot_be_judged_yet_fails_for_a_time() {
    let config = Arc::new(S2sConfig {
        dialback: Dialback::Tls,
        ..config("b.example")
    });
    let mut stream = Incoming::new(config, [0; 32], Some(Arc::new(Undecided)), 0);
    let mut bytes = BytesMut::from(
        "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
         to='b.example' from='a.example' version='1.0'>\
         <auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='EXTERNAL'>=</auth>",
    );
    let mut said = String::new();
    loop {
        stream.input(&mut bytes, 0);
        match stream.poll() {
            Some(Action::Send(bytes)) => said.push_str(&String::from_utf8_lossy(&bytes)),
            Some(_) => {}
            None => break,
        }
    }
    assert!(said.contains("<temporary-auth-failure/>"), "{said}");
    assert!(!stream.is_authorized());
}

fn asking(domain: &str, of: &str, security: Security) -> S2sConfig {
    let policy = Policy {
        security: vec![(of.to_owned(), security)],
        ..Policy::default()
    };
    S2sConfig {
        policy: Arc::new(policy),
        ..config(domain)
    }
}

#[test]
fn of_a_domain_that_is_named_for_it_dialback_is_enough() {
    let a = asking("a.example", "b.example", Security::Dialback);
    let b = asking("b.example", "a.example", Security::Dialback);
    let mut link = Link::new(a, b, &[], &[]);
    let challenge = link.run().challenge().expect("it is to be asked about");
    link.inn.dialled_back(&challenge.pair, &Verdict::Valid, 1);
    link.run();
    assert!(link.is_ready());
    assert_eq!(link.proofs(), [Proof::Dialback]);
    // Not of others.
    let b = asking("b.example", "c.example", Security::Dialback);
    let mut link = Link::new(config("a.example"), b, &[], BOTH.1);
    assert_eq!(link.run().end(), Some("not-authorized"));
}

#[test]
fn of_a_domain_that_is_named_for_it_a_certificate_is_needed_although_dialback_is_done() {
    let b = S2sConfig {
        dialback: Dialback::Tls,
        ..asking("b.example", "a.example", Security::Certificate)
    };
    let mut link = Link::new(config("a.example"), b, &[], BOTH.1);
    assert_eq!(link.run().end(), Some("not-authorized"));
    assert!(link.challenge().is_none());
}

#[test]
fn of_a_domain_that_is_named_for_it_only_a_certificate_in_its_signed_zone_is_believed() {
    let a = || asking("a.example", "b.example", Security::Dane);
    let mut link = Link::new(a(), config("b.example"), BOTH.0, BOTH.1);
    let failure = link.run().failure().expect("an authority is not enough");
    assert_eq!(failure.condition, Condition::RemoteServerTimeout);
    assert!(failure.text.contains("DANE"), "{failure:?}");
    let mut link = Link::new(a(), config("b.example"), BOTH.0, BOTH.1);
    link.in_names = Arc::new(Pinned);
    assert!(link.run().is_ready());
    // Who comes is asked about at its authoritative server, for which the same counts.
    let b = asking("b.example", "a.example", Security::Dane);
    let mut link = Link::new(config("a.example"), b, BOTH.0, BOTH.1);
    let challenge = link.run().challenge().expect("it is to be asked about");
    assert!(link.proofs().is_empty());
    link.inn.dialled_back(&challenge.pair, &Verdict::Valid, 1);
    link.run();
    assert_eq!(link.proofs(), [Proof::Dialback]);
}

#[test]
fn without_a_certificate_the_authoritative_server_is_asked_where_that_is_allowed() {
    let tls = |domain| S2sConfig {
        dialback: Dialback::Tls,
        ..config(domain)
    };
    let mut link = Link::new(tls("a.example"), tls("b.example"), &[], &[]);
    link.run();
    let challenge = link.challenge().expect("it is to be asked about");
    assert!(!link.is_ready());
    let own = key(
        &tls("a.example").secret,
        "b.example",
        "a.example",
        &challenge.stream_id,
    );
    assert_eq!(challenge.key, own);
    link.inn.dialled_back(&challenge.pair, &Verdict::Valid, 1);
    link.run();
    assert!(link.is_ready());
    assert_eq!(link.proofs(), [Proof::Dialback]);
    link.inn
        .dialled_back(&pair("b.example", "c.example"), &Verdict::Valid, 1);
    link.run();
    assert_eq!(link.proofs().len(), 1, "nobody asked");
}

#[test]
fn each_further_domain_is_authorised_for_itself() {
    let mut link = Link::new(
        config("a.example"),
        config("b.example"),
        &["a.example", "rooms.a.example"],
        BOTH.1,
    );
    link.run();
    link.says("<db:result from='rooms.a.example' to='b.example'>key</db:result>");
    assert_eq!(link.proofs(), [Proof::External, Proof::Certificate]);
    link.says("<message from='x@rooms.a.example' to='y@b.example'/>");
    assert_eq!(link.stanzas(), 1);
    link.says("<db:result from='other.example' to='b.example'>key</db:result>");
    assert_eq!(link.proofs().len(), 2);
    assert_eq!(link.end(), None, "an error of dialback ends no stream");
}

#[test]
fn outcomes_that_were_not_asked_for_authorise_nobody() {
    let mut link = Link::new(config("a.example"), config("b.example"), BOTH.0, BOTH.1);
    link.run();
    link.says("<db:result from='c.example' to='b.example' type='valid'/>");
    link.says("<db:verify id='1' from='c.example' to='b.example' type='valid'/>");
    assert_eq!(link.proofs(), [Proof::External]);
    link.says("<message from='x@c.example' to='y@b.example'/>");
    assert_eq!(link.end(), Some("invalid-from"));
}

#[test]
fn the_authoritative_server_knows_its_own_keys_and_no_others() {
    let own = key(
        &config("b.example").secret,
        "a.example",
        "b.example",
        "their-id",
    );
    for (key, expected) in [(own.as_str(), "valid"), ("abc", "invalid")] {
        let mut stream = Incoming::new(
            Arc::new(config("b.example")),
            [0; 32],
            Some(Arc::new(Names(vec!["a.example"]))),
            0,
        );
        let mut bytes = BytesMut::from(&*format!(
            "<stream:stream xmlns='jabber:server' xmlns:stream='http://etherx.jabber.org/streams' \
             xmlns:db='jabber:server:dialback' to='b.example' from='a.example' version='1.0'>\
             <db:verify id='their-id' from='a.example' to='b.example'>{key}</db:verify>"
        ));
        let mut said = String::new();
        loop {
            stream.input(&mut bytes, 0);
            match stream.poll() {
                Some(Action::Send(bytes)) => said.push_str(&String::from_utf8_lossy(&bytes)),
                Some(_) => {}
                None => break,
            }
        }
        assert!(said.contains(&format!("type='{expected}'")), "{said}");
    }
}

#[test]
fn whoever_is_not_admitted_hears_it_with_the_header() {
    let policy = Policy {
        deny: vec!["a.example".to_owned()],
        ..Policy::default()
    };
    let b = S2sConfig {
        policy: Arc::new(policy),
        ..config("b.example")
    };
    let mut link = Link::new(config("a.example"), b, BOTH.0, BOTH.1);
    link.run();
    assert_eq!(link.end(), Some("policy-violation"));
    let failure = link.failure().expect("it is told");
    assert!(failure.text.contains("policy-violation"), "{failure:?}");
}
