//! The state is the same however the log brings it about.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::tests::{Bench, bench_with, credentials, dump, entry, held};
use super::*;
use crate::store::StoreError;
use crate::store::fold::{CheckpointItem, Cursor, Fold, Live, Place, Record};
use crate::store::records::Kind;

#[derive(Clone, Debug)]
enum Op {
    Create(u8),
    Remove(u8),
    Credentials(u8, u8),
    Enable(u8, bool),
    Roster(u8, u8, u8),
    RosterRemove(u8, u8),
    Request(u8, u8),
    RequestRemove(u8, u8),
    Message(u8, u8),
    Retire(u8, Vec<u8>),
    Vcard(u8, bool),
    Private(u8, u8, bool),
    Activity(u8, u8),
    Hibernate(u8, u8, bool),
    Setting(u8, bool),
    Compact(prop::sample::Index),
    BeginCheckpoint,
    Slice,
}

fn op() -> impl Strategy<Value = Op> {
    let owner = || 0..4_u8;
    prop_oneof![
        4 => owner().prop_map(Op::Create),
        1 => owner().prop_map(Op::Remove),
        1 => (owner(), 0..6_u8).prop_map(|(owner, of)| Op::Credentials(owner, of)),
        1 => (owner(), any::<bool>()).prop_map(|(owner, on)| Op::Enable(owner, on)),
        6 => (owner(), 0..40_u8, 0..4_u8).prop_map(|(owner, contact, name)| Op::Roster(owner, contact, name)),
        4 => (owner(), 0..40_u8).prop_map(|(owner, contact)| Op::RosterRemove(owner, contact)),
        1 => (owner(), 0..3_u8).prop_map(|(owner, contact)| Op::Request(owner, contact)),
        1 => (owner(), 0..3_u8).prop_map(|(owner, contact)| Op::RequestRemove(owner, contact)),
        6 => (owner(), 1..50_u8).prop_map(|(owner, len)| Op::Message(owner, len)),
        3 => (owner(), prop::collection::vec(0..6_u8, 1..4)).prop_map(|(owner, which)| Op::Retire(owner, which)),
        1 => (owner(), any::<bool>()).prop_map(|(owner, put)| Op::Vcard(owner, put)),
        1 => (owner(), 0..3_u8, any::<bool>()).prop_map(|(owner, name, put)| Op::Private(owner, name, put)),
        1 => (owner(), 0..3_u8).prop_map(|(owner, at)| Op::Activity(owner, at)),
        1 => (owner(), 0..2_u8, any::<bool>()).prop_map(|(owner, id, put)| Op::Hibernate(owner, id, put)),
        1 => (0..3_u8, any::<bool>()).prop_map(|(name, put)| Op::Setting(name, put)),
        4 => any::<prop::sample::Index>().prop_map(Op::Compact),
        1 => Just(Op::BeginCheckpoint),
        4 => Just(Op::Slice),
    ]
}

/// A checkpoint that is being taken, or the newest one that is whole.
#[derive(Clone, Default)]
struct Checkpoint {
    from: usize,
    next: Option<Cursor>,
    items: Vec<(u8, u64, Vec<u8>, Option<Place>)>,
}

impl Checkpoint {
    fn slice(&mut self, state: &State, budget_bytes: usize) -> bool {
        let items = &mut self.items;
        self.next = state.checkpoint(
            self.next.take(),
            budget_bytes,
            &mut |item: CheckpointItem<'_>| {
                items.push((
                    item.record.kind,
                    item.record.seq,
                    item.record.body.to_vec(),
                    item.place,
                ));
            },
        );
        self.next.is_none()
    }

    fn restore(&self, state: &mut State, live: &mut Live) {
        for (kind, seq, body, place) in &self.items {
            let record = Record {
                kind: *kind,
                version: 1,
                seq: *seq,
                body,
                payload: &[],
            };
            state
                .restore(
                    CheckpointItem {
                        record,
                        place: *place,
                    },
                    live,
                )
                .expect("our own item is taken");
        }
    }
}

fn run(bench: &mut Bench, op: &Op) {
    let owner_of = |owner: u8| format!("user{owner}@chat.example");
    let contact_of = |contact: u8| format!("contact{contact}@chat.example");
    let refused = bench.update(|tx| match op.clone() {
        Op::Create(owner) => {
            tx.put_account(&owner_of(owner), &credentials(owner), u64::from(owner))
        }
        Op::Remove(owner) => tx.remove_account(&owner_of(owner)),
        Op::Credentials(owner, of) => tx.set_credentials(&owner_of(owner), &credentials(of)),
        Op::Enable(owner, on) => tx.set_enabled(&owner_of(owner), on),
        Op::Roster(owner, contact, name) => tx
            .put_roster_item(
                &owner_of(owner),
                &entry(&contact_of(contact), &"n".repeat(name.into())),
            )
            .map(drop),
        Op::RosterRemove(owner, contact) => tx
            .remove_roster_item(&owner_of(owner), &contact_of(contact))
            .map(drop),
        Op::Request(owner, contact) => tx.put_subscription_request(
            &owner_of(owner),
            &contact_of(contact),
            bytes::Bytes::from_static(b"<presence/>"),
        ),
        Op::RequestRemove(owner, contact) => {
            tx.remove_subscription_request(&owner_of(owner), &contact_of(contact))
        }
        Op::Message(owner, len) => tx
            .put_message(
                &owner_of(owner),
                len.into(),
                1,
                bytes::Bytes::from(vec![b'x'; len.into()]),
            )
            .map(drop),
        Op::Retire(owner, which) => {
            let owner = owner_of(owner);
            let ids: Vec<MessageId> = match tx.account(&owner) {
                Some(account) => {
                    let ids: Vec<_> = account
                        .messages()
                        .iter()
                        .map(|message| message.id)
                        .collect();
                    which
                        .iter()
                        .filter_map(|n| ids.get(usize::from(*n)).copied())
                        .collect()
                }
                None => Vec::new(),
            };
            tx.retire_messages(&owner, &ids)
        }
        Op::Vcard(owner, true) => {
            tx.put_vcard(&owner_of(owner), bytes::Bytes::from_static(b"<vCard/>"))
        }
        Op::Vcard(owner, false) => tx.remove_vcard(&owner_of(owner)),
        Op::Private(owner, name, true) => tx.put_private(
            &owner_of(owner),
            &format!("n{name}"),
            "a ns",
            bytes::Bytes::from_static(b"<n/>"),
        ),
        Op::Private(owner, name, false) => {
            tx.remove_private(&owner_of(owner), &format!("n{name}"), "a ns")
        }
        Op::Activity(owner, at) => {
            tx.put_last_activity(&owner_of(owner), at.into(), &"s".repeat(at.into()))
        }
        Op::Hibernate(owner, id, true) => {
            let session = HibernatedSession {
                id: format!("id{id}"),
                ..HibernatedSession::default()
            };
            tx.put_hibernated(&owner_of(owner), &session)
        }
        Op::Hibernate(owner, id, false) => {
            tx.remove_hibernated(&owner_of(owner), &format!("id{id}"))
        }
        Op::Setting(name, true) => tx.put_setting(&format!("s{name}"), &[name; 9]),
        Op::Setting(name, false) => tx.remove_setting(&format!("s{name}")),
        Op::Compact(_) | Op::BeginCheckpoint | Op::Slice => Ok(()),
    });
    let expected = [
        None,
        Some(StoreError::NoAccount),
        Some(StoreError::AccountExists),
    ];
    assert!(
        expected.contains(&refused.err()),
        "nothing else is in the way"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn checkpoint_slices_and_the_tail_make_the_same_state_as_every_record(
        ops in prop::collection::vec(op(), 1..250),
        budget_bytes in 1..400_usize,
    ) {
        let mut bench = Bench::default();
        let mut running: Option<Checkpoint> = None;
        let mut whole: Vec<Checkpoint> = vec![Checkpoint::default()];
        for op in &ops {
            match op {
                Op::Compact(at) if !bench.log.is_empty() => bench.compact(at.index(bench.log.len())),
                Op::BeginCheckpoint => {
                    running.get_or_insert_with(|| Checkpoint { from: bench.log.len(), ..Checkpoint::default() });
                }
                Op::Slice => {
                    if let Some(mut checkpoint) = running.take() {
                        if checkpoint.slice(&bench.state, budget_bytes) {
                            whole.push(checkpoint);
                        } else {
                            running = Some(checkpoint);
                        }
                    }
                }
                op => run(&mut bench, op),
            }
        }
        let expected = (dump(&bench.state), held(&bench.live));
        for checkpoint in &whole {
            let (mut state, mut live) = (State::new(), Live::default());
            checkpoint.restore(&mut state, &mut live);
            for kept in &bench.log[checkpoint.from..] {
                state.apply(&kept.record(), kept.place, &mut live).expect("our own record is taken");
            }
            prop_assert_eq!(&(dump(&state), held(&live)), &expected);
        }
        for kept in &bench.log {
            let by_place = Kind::from_number(kept.kind).is_some_and(Kind::is_kept_by_place);
            prop_assert!(by_place || !bench.state.holds(&kept.record(), kept.place));
        }
    }

    #[test]
    fn any_list_of_ids_is_retired_and_nothing_else(
        owners in prop::collection::vec(0..2_u8, 1..60),
        retired in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        let mut bench = bench_with("a@chat.example");
        bench.update(|tx| tx.put_account("b@chat.example", &credentials(2), 7)).expect("it is new");
        let mut waiting = BTreeMap::new();
        for owner in owners {
            let owner = ["a@chat.example", "b@chat.example"][usize::from(owner)];
            let id = bench.update(|tx| tx.put_message(owner, 1, 0, bytes::Bytes::from_static(b"m"))).expect("it fits");
            waiting.insert(id, owner);
        }
        let ids: Vec<MessageId> = waiting.keys().copied().collect();
        let ids: Vec<MessageId> = retired.iter().map(|index| ids[index.index(ids.len())]).collect();
        bench.update(|tx| tx.retire_messages("a@chat.example", &ids)).expect("retiring is taken");
        waiting.retain(|id, owner| *owner == "b@chat.example" || !ids.contains(id));
        let mut left: Vec<MessageId> = ["a@chat.example", "b@chat.example"]
            .iter()
            .flat_map(|owner| bench.account(owner).messages().iter().map(|message| message.id))
            .collect();
        left.sort_unstable();
        prop_assert_eq!(left, waiting.into_keys().collect::<Vec<_>>());
    }
}
