//! The state against the ways in which the log can bring it about.

use std::collections::BTreeMap;

use super::*;
use crate::crypto::population::Population;
use crate::crypto::{Credentials, Hash, ScramKeys};
use crate::store::draft::Draft;
use crate::store::fold::{Fold, Live, Place, Record};
use crate::store::records::Kind;
use crate::store::tx::Tx;
use crate::store::{Quota, StoreError, StoreLimits};

/// A log in memory: what was appended, and what it adds up to.
pub(super) struct Bench {
    pub(super) state: State,
    pub(super) live: Live,
    limits: StoreLimits,
    pub(super) log: Vec<Kept>,
    draft: Draft,
    seq: u64,
    end: u32,
}

#[derive(Clone)]
pub(super) struct Kept {
    pub(super) kind: u8,
    seq: u64,
    body: Vec<u8>,
    payload: Vec<u8>,
    pub(super) place: Place,
}

impl Kept {
    pub(super) fn record(&self) -> Record<'_> {
        Record {
            kind: self.kind,
            version: 1,
            seq: self.seq,
            body: &self.body,
            payload: &self.payload,
        }
    }
}

impl Default for Bench {
    fn default() -> Bench {
        Bench {
            state: State::default(),
            live: Live::default(),
            limits: StoreLimits::default(),
            log: Vec::new(),
            draft: Draft::new(1),
            seq: 0,
            end: 0,
        }
    }
}

impl Bench {
    pub(super) fn update<R>(
        &mut self,
        change: impl FnOnce(&mut Tx<'_>) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        let mut draft = std::mem::replace(&mut self.draft, Draft::new(1));
        let mut tx = Tx::new(&self.state, &self.limits, self.seq + 1, &mut draft);
        let result = change(&mut tx);
        drop(tx);
        if result.is_ok() {
            for entry in draft.batch().entries {
                self.seq += 1;
                let place = self.place(entry.body.len() + entry.payload.len() + 32);
                let kept = Kept {
                    kind: entry.kind,
                    seq: self.seq,
                    body: entry.body.to_vec(),
                    payload: entry.payload.to_vec(),
                    place,
                };
                self.state
                    .apply(&kept.record(), place, &mut self.live)
                    .expect("our own record is taken");
                self.log.push(kept);
            }
        }
        self.draft = draft;
        result
    }

    /// Copies a record as compaction does, if the state still holds it there.
    pub(super) fn compact(&mut self, at: usize) {
        let kept = self.log[at].clone();
        if self.state.holds(&kept.record(), kept.place) {
            let place = self.place(kept.place.len as usize);
            self.state
                .moved(&kept.record(), kept.place, place, &mut self.live);
            self.log.push(Kept { place, ..kept });
        }
    }

    fn place(&mut self, len: usize) -> Place {
        let place = Place {
            segment: self.end / 4096,
            offset: self.end % 4096,
            len: len as u32,
        };
        self.end += len as u32;
        place
    }

    pub(super) fn account(&self, owner: &str) -> &Account {
        self.state.account(owner).expect("the account exists")
    }
}

pub(super) fn credentials(of: u8) -> Credentials {
    if of % 7 == 6 {
        let keys = ScramKeys::from_parts(Hash::Sha1, &[of, 1], 4096, &[of; 20], &[of; 20]);
        return Credentials::ScramSha1 {
            keys: keys.expect("the lengths are right"),
        };
    }
    if of % 3 == 2 {
        return Credentials::Argon2id {
            phc: format!("$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA{of}"),
        };
    }
    let keys = |hash, bytes| {
        let key = vec![of; bytes];
        ScramKeys::from_parts(hash, &[of, 1], 4096, &key, &key).expect("the lengths are right")
    };
    Credentials::Scram {
        sha256: keys(Hash::Sha256, 32),
        sha1: of.is_multiple_of(3).then(|| keys(Hash::Sha1, 20)),
    }
}

pub(super) fn bench_with(owner: &str) -> Bench {
    let mut bench = Bench::default();
    bench
        .update(|tx| tx.put_account(owner, &credentials(2), 7))
        .expect("it is new");
    bench
}

pub(super) fn entry(contact: &str, name: &str) -> RosterEntry {
    RosterEntry {
        contact: contact.to_owned(),
        name: name.to_owned(),
        groups: vec!["Friends".to_owned(), "Verona".to_owned()],
        subscription: Subscription::Both,
        ask: false,
        approved: true,
    }
}

/// All that a state says, in an order of its own.
pub(super) fn dump(state: &State) -> BTreeMap<String, String> {
    let mut populations: BTreeMap<&str, Population> = BTreeMap::new();
    let mut roster_bytes = 0;
    for account in state.accounts() {
        let (_, domain) = account.owner().split_once('@').unwrap_or_default();
        let population = populations.entry(domain).or_default();
        population.add(account.credentials.kind());
        roster_bytes += account.roster().shared_bytes();
    }
    assert_eq!(state.roster_bytes(), roster_bytes);
    for (domain, population) in populations {
        assert_eq!(state.population(domain), &population);
    }
    let mut dump = BTreeMap::new();
    for account in state.accounts() {
        let messages: Vec<_> = account.messages().iter().collect();
        let text = format!(
            "through {} created {} enabled {} credentials {:?} roster {:?} messages {messages:?} {} activity {} profile {:?}",
            account.through,
            account.created_at_ms,
            account.enabled,
            account.credentials.view(),
            account.roster(),
            account.messages().bytes(),
            account.last_activity_ms,
            account.profile,
        );
        dump.insert(account.owner().to_owned(), text);
    }
    dump.insert(String::new(), format!("{:?}", state.settings));
    dump
}

pub(super) fn held(live: &Live) -> BTreeMap<u32, (u64, u64)> {
    live.segments()
        .map(|(segment, held)| (segment, (held.bytes, held.records)))
        .collect()
}

#[test]
fn an_account_is_created_once_and_gone_with_everything_it_had() {
    let owner = "juliet@capulet.example";
    let mut bench = bench_with(owner);
    assert_eq!(
        bench.update(|tx| tx.put_account(owner, &credentials(0), 8)),
        Err(StoreError::AccountExists)
    );
    bench
        .update(|tx| {
            tx.put_roster_item(owner, &entry("romeo@montague.example", "Romeo"))?;
            tx.put_vcard(owner, bytes::Bytes::from_static(b"<vCard/>"))?;
            tx.put_message(owner, 5, 0, bytes::Bytes::from_static(b"<message/>"))
        })
        .expect("all of it fits");
    assert_eq!(
        held(&bench.live).values().map(|held| held.1).sum::<u64>(),
        2
    );
    bench
        .update(|tx| tx.remove_account(owner))
        .expect("it exists");
    assert!(bench.state.account(owner).is_none());
    assert!(held(&bench.live).is_empty(), "nothing of it is live");
    assert!(
        bench
            .log
            .iter()
            .all(|kept| !bench.state.holds(&kept.record(), kept.place))
    );
    assert_eq!(
        bench.update(|tx| tx.put_vcard(owner, bytes::Bytes::new())),
        Err(StoreError::NoAccount)
    );
    bench
        .update(|tx| tx.put_account(owner, &credentials(1), 9))
        .expect("the name is free again");
    assert!(bench.account(owner).roster().is_empty() && bench.account(owner).vcard().is_none());
}

#[test]
fn a_transaction_sees_the_accounts_that_it_created_and_removed() {
    let mut bench = bench_with("a@chat.example");
    bench
        .update(|tx| {
            tx.put_account("b@chat.example", &credentials(0), 8)?;
            tx.put_roster_item("b@chat.example", &entry("a@chat.example", ""))?;
            tx.remove_account("a@chat.example")?;
            assert_eq!(
                tx.set_enabled("a@chat.example", true),
                Err(StoreError::NoAccount)
            );
            tx.put_account("a@chat.example", &credentials(1), 9)
        })
        .expect("all of it fits");
    assert_eq!(bench.account("b@chat.example").roster().len(), 1);
    assert_eq!(bench.account("a@chat.example").created_at_ms(), 9);
}

#[test]
fn credentials_come_back_as_they_were_put() {
    let mut bench = bench_with("a@chat.example");
    for of in 0..3 {
        bench
            .update(|tx| tx.set_credentials("a@chat.example", &credentials(of)))
            .expect("it exists");
        assert_eq!(
            bench.account("a@chat.example").credentials(),
            Some(credentials(of))
        );
    }
}

#[test]
fn waiting_messages_are_limited_by_number_and_by_bytes() {
    let mut bench = bench_with("a@chat.example");
    (bench.limits.messages_max, bench.limits.message_bytes_max) = (3, 1000);
    let put = |tx: &mut Tx<'_>, len: usize| {
        tx.put_message("a@chat.example", 1, 0, bytes::Bytes::from(vec![b'x'; len]))
    };
    let first = bench.update(|tx| put(tx, 10)).expect("one fits");
    assert_eq!(
        bench.update(|tx| put(tx, 10_000)),
        Err(StoreError::Quota(Quota::MessageBytes))
    );
    let both = bench.update(|tx| {
        [put(tx, 10), put(tx, 10), put(tx, 10)]
            .into_iter()
            .collect::<Result<Vec<_>, _>>()
    });
    assert_eq!(
        both,
        Err(StoreError::Quota(Quota::Messages)),
        "three more are one too many"
    );
    assert_eq!(
        bench.account("a@chat.example").messages().len(),
        1,
        "all or none"
    );
    bench
        .update(|tx| tx.retire_messages("a@chat.example", &[first]))
        .expect("retiring is taken");
    let ids = bench
        .update(|tx| Ok([put(tx, 10)?, put(tx, 10)?, put(tx, 10)?]))
        .expect("there is room again");
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]) && first < ids[0]);
}

#[test]
fn a_message_knows_its_number_before_it_is_put() {
    let mut bench = bench_with("a@chat.example");
    bench
        .update(|tx| {
            tx.set_enabled("a@chat.example", true)?;
            let expected = tx.next_message_id();
            let id = tx.put_message("a@chat.example", 1, 0, bytes::Bytes::from_static(b"m"))?;
            assert_eq!(id, expected);
            Ok(())
        })
        .expect("it fits");
}

#[test]
fn consecutive_retirements_take_a_few_bytes_whatever_lies_between() {
    let mut bench = bench_with("a@chat.example");
    bench
        .update(|tx| tx.put_account("b@chat.example", &credentials(2), 7))
        .expect("it is new");
    let mut ids = Vec::new();
    for _ in 0..200 {
        ids.push(
            bench
                .update(|tx| tx.put_message("a@chat.example", 1, 0, bytes::Bytes::new()))
                .expect("it fits"),
        );
        bench
            .update(|tx| tx.put_message("b@chat.example", 1, 0, bytes::Bytes::new()))
            .expect("it fits");
    }
    bench
        .update(|tx| tx.retire_messages("a@chat.example", &ids))
        .expect("retiring is taken");
    let last = bench.log.last().expect("it was appended");
    assert!(
        last.kind == Kind::Retired as u8 && last.body.len() < 50,
        "{} bytes",
        last.body.len()
    );
    assert_eq!(bench.account("b@chat.example").messages().len(), 200);
    let before = bench.log.len();
    bench
        .update(|tx| tx.retire_messages("a@chat.example", &ids))
        .expect("retiring again is no error");
    assert_eq!(bench.log.len(), before, "and says nothing");
}

#[test]
fn a_roster_tells_what_changed_since_a_version() {
    let owner = "a@chat.example";
    let mut bench = bench_with(owner);
    let put = |bench: &mut Bench, contact: &str| {
        bench
            .update(|tx| tx.put_roster_item(owner, &entry(contact, "")))
            .expect("it fits")
    };
    let first = put(&mut bench, "x@chat.example");
    let second = put(&mut bench, "y@chat.example");
    let removed = bench
        .update(|tx| tx.remove_roster_item(owner, "x@chat.example"))
        .expect("it exists");
    let removed = removed.expect("the item was there");
    let roster = bench.account(owner).roster();
    assert_eq!(roster.version(), removed);
    assert_eq!(roster.changes_since(removed), Some(Vec::new()));
    let since_second = roster.changes_since(second).expect("it is known");
    assert_eq!(
        since_second,
        [RosterChange::Removed {
            contact: "x@chat.example",
            version: removed
        }]
    );
    let since_first = roster.changes_since(first).expect("it is known");
    assert!(matches!(since_first[0], RosterChange::Put(item) if item.contact == "y@chat.example"));
    assert_eq!(since_first.len(), 2);
    assert_eq!(
        roster.changes_since(0),
        None,
        "a client of an older account of that name"
    );
    assert_eq!(
        roster.changes_since(removed + 1),
        None,
        "a version that never was"
    );
    let none = bench
        .update(|tx| tx.remove_roster_item(owner, "x@chat.example"))
        .expect("no error");
    assert_eq!(none, None);
}

#[test]
fn a_roster_forgets_old_removals_and_then_sends_all() {
    let owner = "a@chat.example";
    let mut bench = bench_with(owner);
    let mut versions = Vec::new();
    for n in 0..REMOVALS_MAX + 3 {
        let contact = format!("{n}@chat.example");
        bench
            .update(|tx| tx.put_roster_item(owner, &entry(&contact, "")))
            .expect("it fits");
        versions.push(
            bench
                .update(|tx| tx.remove_roster_item(owner, &contact))
                .expect("it exists")
                .expect("it was"),
        );
    }
    let roster = bench.account(owner).roster();
    assert_eq!(roster.changes_since(versions[1]), None);
    assert_eq!(
        roster
            .changes_since(versions[2])
            .expect("it is known")
            .len(),
        REMOVALS_MAX
    );
}

#[test]
fn roster_items_keep_their_texts_apart() {
    let owner = "a@chat.example";
    let mut bench = bench_with(owner);
    for n in 0..20 {
        let mut item = entry(&format!("{n}@chat.example"), &"ä".repeat(n));
        item.groups = (0..n % 4)
            .map(|group| format!("group {group} of {n}"))
            .collect();
        (item.ask, item.approved) = (n.is_multiple_of(2), n.is_multiple_of(3));
        item.subscription = [
            Subscription::None,
            Subscription::To,
            Subscription::From,
            Subscription::Both,
        ][n % 4];
        bench
            .update(|tx| tx.put_roster_item(owner, &item))
            .expect("it fits");
        assert_eq!(
            bench
                .account(owner)
                .roster()
                .item_of(&item.contact)
                .expect("it is there")
                .to_entry(),
            item
        );
    }
    let longer = entry("7@chat.example", "a longer name than before");
    bench
        .update(|tx| tx.put_roster_item(owner, &longer))
        .expect("it fits");
    bench
        .update(|tx| tx.remove_roster_item(owner, "3@chat.example"))
        .expect("it exists");
    let contacts: Vec<_> = bench
        .account(owner)
        .roster()
        .iter()
        .map(|item| item.contact.to_owned())
        .collect();
    let expected: Vec<_> = (0..20)
        .filter(|n| *n != 3)
        .map(|n| format!("{n}@chat.example"))
        .collect();
    assert_eq!(contacts, expected);
    assert_eq!(
        bench
            .account(owner)
            .roster()
            .item_of("7@chat.example")
            .expect("it is there")
            .to_entry(),
        longer
    );
    assert_eq!(
        bench
            .account(owner)
            .roster()
            .item_of("19@chat.example")
            .expect("it is there")
            .name,
        "ä".repeat(19)
    );
    let broken = entry("a\u{1}b@chat.example", "");
    assert!(matches!(
        bench.update(|tx| tx.put_roster_item(owner, &broken)),
        Err(StoreError::Invalid(_))
    ));
}

#[test]
fn a_removal_may_use_the_reserve_and_only_an_account_is_erased_at_once() {
    let mut bench = bench_with("a@chat.example");
    let id = bench
        .update(|tx| tx.put_message("a@chat.example", 1, 0, bytes::Bytes::new()))
        .expect("it fits");
    let purpose = |bench: &mut Bench, change: &dyn Fn(&mut Tx<'_>) -> Result<(), StoreError>| {
        let mut tx = Tx::new(&bench.state, &bench.limits, 1, &mut bench.draft);
        change(&mut tx).expect("it is taken");
        drop(tx);
        let batch = bench.draft.batch();
        (
            batch.purpose == crate::store::batch::Purpose::Remove,
            batch.erases,
        )
    };
    assert_eq!(
        purpose(&mut bench, &|tx| tx
            .retire_messages("a@chat.example", &[id])),
        (true, false)
    );
    assert_eq!(
        purpose(&mut bench, &|tx| tx.remove_account("a@chat.example")),
        (true, true)
    );
    assert_eq!(
        purpose(&mut bench, &|tx| tx.set_enabled("a@chat.example", true)),
        (false, false)
    );
}

#[test]
fn records_of_a_later_program_are_told_from_damage() {
    use crate::store::fold::Unreadable;
    let (mut state, mut live) = (State::new(), Live::default());
    let place = Place {
        segment: 1,
        offset: 0,
        len: 40,
    };
    let mut apply = |kind, version, body: &[u8]| {
        state.apply(
            &Record {
                kind,
                version,
                seq: 1,
                body,
                payload: &[],
            },
            place,
            &mut live,
        )
    };
    assert!(matches!(
        apply(Kind::Message as u8, 2, &[]),
        Err(Unreadable::Newer { .. })
    ));
    assert!(matches!(apply(200, 1, &[]), Err(Unreadable::Newer { .. })));
    assert!(matches!(
        apply(Kind::Message as u8, 1, &[1, 2, 3]),
        Err(Unreadable::Invalid { .. })
    ));
}

#[test]
fn a_sleeping_session_reads_back_as_it_was_put() {
    let session = HibernatedSession {
        id: "token".to_owned(),
        resource: "balcony".to_owned(),
        expires_at_ms: 99,
        handled_inbound: 4,
        acknowledged_outbound: u32::MAX,
        presence: bytes::Bytes::from_static(b"<presence/>"),
        queue: vec![
            QueuedStanza {
                message: Some(MessageId(9)),
                stanza: bytes::Bytes::from_static(b"<message/>"),
            },
            QueuedStanza {
                message: None,
                stanza: bytes::Bytes::from_static(b"<iq/>"),
            },
        ],
        properties: vec![("carbons".to_owned(), "on".to_owned())],
    };
    let mut bench = bench_with("a@chat.example");
    bench
        .update(|tx| tx.put_hibernated("a@chat.example", &session))
        .expect("it fits");
    let kept = bench.log.last().expect("it was appended");
    let payload = bytes::Bytes::from(kept.payload.clone());
    assert_eq!(HibernatedSession::open(&kept.body, &payload), Some(session));
    assert_eq!(
        HibernatedSession::open(&kept.body, &payload.slice(1..)),
        None
    );
    assert_eq!(
        bench.account("a@chat.example").hibernated().next(),
        Some(("token", kept.place))
    );
}
