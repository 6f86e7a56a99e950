//! A small state that folds records, and the model that it is compared with.

use std::collections::BTreeMap;

use crate::store::batch::{Batch, Class, Entry, Purpose};
use crate::store::fold::{CheckpointItem, Cursor, Fold, Live, Place, Record, Unreadable};

const PUT_BIG: u8 = 1;
const PUT_SMALL: u8 = 2;
const REMOVE: u8 = 3;
const REMOVE_OWNER: u8 = 4;

/// Keys of one owner: `owner * OWNED .. (owner + 1) * OWNED`.
pub const OWNED: u32 = 8;

/// One statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Say {
    /// A value that stays in the log, of so many bytes.
    Big {
        key: u32,
        value: u64,
        bytes: u16,
        class: Class,
    },
    /// A value that the state holds itself.
    Small {
        key: u32,
        value: u64,
    },
    Remove {
        key: u32,
    },
    RemoveOwner {
        owner: u32,
        erase: bool,
    },
}

/// Statements that belong together.
pub type Tx = Vec<Say>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub value: u64,
    pub seq: u64,
    pub place: Option<Place>,
}

/// The state of the tests.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub keys: BTreeMap<u32, Held>,
}

/// What a key is expected to hold.
pub type Model = BTreeMap<u32, u64>;

pub fn apply_to_model(model: &mut Model, tx: &Tx) {
    for say in tx {
        match *say {
            Say::Big { key, value, .. } | Say::Small { key, value } => {
                model.insert(key, value);
            }
            Say::Remove { key } => {
                model.remove(&key);
            }
            Say::RemoveOwner { owner, .. } => model.retain(|key, _| key / OWNED != owner),
        }
    }
}

/// The payload of a big value: anyone can check it.
pub fn payload(value: u64, bytes: u16) -> Vec<u8> {
    (0..bytes)
        .map(|index| (value as u8).wrapping_mul(31).wrapping_add(index as u8))
        .collect()
}

/// Bodies and payloads of a transaction, and how to make a batch of them.
pub struct Encoded {
    parts: Vec<(Class, u8, Vec<u8>, Vec<u8>)>,
    erases: bool,
    removes: bool,
}

impl Encoded {
    pub fn of(tx: &Tx) -> Encoded {
        let mut erases = false;
        let parts = tx.iter().map(|say| match *say {
            Say::Big {
                key,
                value,
                bytes,
                class,
            } => (class, PUT_BIG, body(key, value), payload(value, bytes)),
            Say::Small { key, value } => (Class::State, PUT_SMALL, body(key, value), Vec::new()),
            Say::Remove { key } => (Class::State, REMOVE, body(key, 0), Vec::new()),
            Say::RemoveOwner { owner, erase } => {
                erases |= erase;
                (
                    Class::State,
                    REMOVE_OWNER,
                    body(owner, u64::from(erase)),
                    Vec::new(),
                )
            }
        });
        let parts = parts.collect();
        let removes = tx
            .iter()
            .all(|say| matches!(say, Say::Remove { .. } | Say::RemoveOwner { .. }));
        Encoded {
            parts,
            erases,
            removes,
        }
    }

    pub fn batch(&self) -> Batch<'_> {
        let mut batch = Batch::new();
        for (class, kind, body, payload) in &self.parts {
            batch.entries.push(Entry {
                class: *class,
                kind: *kind,
                version: 1,
                body,
                payload,
            });
        }
        batch.erases = self.erases;
        batch.purpose = if self.removes {
            Purpose::Remove
        } else {
            Purpose::Store
        };
        batch
    }
}

fn body(key: u32, value: u64) -> Vec<u8> {
    let mut body = key.to_le_bytes().to_vec();
    body.extend(value.to_le_bytes());
    body
}

fn parse(record: &Record<'_>) -> Result<(u32, u64), Unreadable> {
    let Record {
        kind,
        version,
        body,
        ..
    } = *record;
    if version > 1 || kind > REMOVE_OWNER {
        return Err(Unreadable::Newer { kind, version });
    }
    let (key, value) = body.split_at_checked(4).ok_or(Unreadable::Invalid {
        kind,
        version,
        why: "short",
    })?;
    match (key.try_into(), value.try_into()) {
        (Ok(key), Ok(value)) => Ok((u32::from_le_bytes(key), u64::from_le_bytes(value))),
        _ => Err(Unreadable::Invalid {
            kind,
            version,
            why: "not twelve bytes",
        }),
    }
}

impl State {
    pub fn model(&self) -> Model {
        self.keys
            .iter()
            .map(|(key, held)| (*key, held.value))
            .collect()
    }

    fn put(&mut self, key: u32, held: Held, live: &mut Live) {
        if let Some(place) = held.place {
            live.hold(place);
        }
        if let Some(old) = self.keys.insert(key, held)
            && let Some(place) = old.place
        {
            live.release(place);
        }
    }
}

impl Fold for State {
    fn apply(
        &mut self,
        record: &Record<'_>,
        place: Place,
        live: &mut Live,
    ) -> Result<(), Unreadable> {
        let (key, value) = parse(record)?;
        let seq = record.seq;
        match record.kind {
            PUT_BIG => self.put(
                key,
                Held {
                    value,
                    seq,
                    place: Some(place),
                },
                live,
            ),
            PUT_SMALL => self.put(
                key,
                Held {
                    value,
                    seq,
                    place: None,
                },
                live,
            ),
            REMOVE => {
                if let Some(place) = self.keys.remove(&key).and_then(|held| held.place) {
                    live.release(place);
                }
            }
            _ => self.keys.retain(|held, old| {
                let keep = *held / OWNED != key;
                match old.place {
                    Some(place) if !keep && value == 1 => live.erase(place),
                    Some(place) if !keep => live.release(place),
                    _ => {}
                }
                keep
            }),
        }
        Ok(())
    }

    fn holds(&self, record: &Record<'_>, place: Place) -> bool {
        parse(record).is_ok_and(|(key, _)| {
            record.kind == PUT_BIG
                && self
                    .keys
                    .get(&key)
                    .is_some_and(|held| held.place == Some(place))
        })
    }

    fn moved(&mut self, record: &Record<'_>, from: Place, to: Place, live: &mut Live) {
        let (key, _) = parse(record).expect("it was held");
        let held = self.keys.get_mut(&key).expect("it was held");
        assert_eq!((held.place, held.seq), (Some(from), record.seq));
        held.place = Some(to);
        live.hold(to);
        live.release(from);
    }

    fn checkpoint(
        &self,
        cursor: Option<Cursor>,
        budget_bytes: usize,
        emit: &mut dyn FnMut(CheckpointItem<'_>),
    ) -> Option<Cursor> {
        let from = cursor.map_or(0, |cursor| {
            u32::from_le_bytes(cursor.0.try_into().expect("our cursor"))
        });
        let mut bytes = 0;
        for (key, held) in self.keys.range(from..) {
            if bytes >= budget_bytes {
                return Some(Cursor(key.to_le_bytes().to_vec()));
            }
            let body = body(*key, held.value);
            bytes += 60;
            let record = Record {
                kind: PUT_BIG,
                version: 1,
                seq: held.seq,
                body: &body,
                payload: &[],
            };
            emit(CheckpointItem {
                record,
                place: held.place,
            });
        }
        None
    }

    fn restore(&mut self, item: CheckpointItem<'_>, live: &mut Live) -> Result<(), Unreadable> {
        let (key, value) = parse(&item.record)?;
        self.put(
            key,
            Held {
                value,
                seq: item.record.seq,
                place: item.place,
            },
            live,
        );
        Ok(())
    }

    fn reset(&mut self) {
        self.keys.clear();
    }

    fn expired(&mut self, segment: u32, live: &mut Live) {
        self.keys.retain(|_, held| match held.place {
            Some(place) if place.segment == segment => {
                live.release(place);
                false
            }
            _ => true,
        });
    }

    fn describe(&self, record: &Record<'_>) -> Option<String> {
        parse(record).ok().map(|(key, _)| format!("key {key}"))
    }
}
