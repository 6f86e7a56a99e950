//! The golden bytes: what was written once is read for ever.

use std::path::PathBuf;

use super::*;
use crate::store::fold::{CheckpointItem, Fold, Live, Place, Record};
use crate::store::state::{MessageId, State, Subscription};

const OWNER: &str = "juliet@capulet.example";
const CONTACT: &str = "romeo@montague.example";

fn credentials() -> CredentialsV1<'static> {
    CredentialsV1 {
        sha256: ScramV1 {
            iterations: 10_000,
            salt: &[1; 16],
            stored_key: &[2; 32],
            server_key: &[3; 32],
        },
        sha1: ScramV1 {
            iterations: 4_096,
            salt: &[4; 12],
            stored_key: &[5; 20],
            server_key: &[6; 20],
        },
        argon2id: "",
    }
}

fn archive<T>(body: &T) -> Vec<u8>
where
    T: for<'a> Serialize<HighSerializer<Vec<u8>, ArenaHandle<'a>, Failure>>,
{
    let mut bytes = Vec::new();
    encode(body, &mut bytes);
    bytes
}

/// One body of every kind, as version 1 of it is written.
// One arm a kind: a table.
fn sample(kind: Kind) -> Vec<u8> {
    let owner = OWNER;
    match kind {
        Kind::Account => archive(&AccountV1 {
            owner,
            created_at_ms: 1_700_000_000_000,
            enabled: true,
            credentials: credentials(),
        }),
        Kind::AccountRemoved => archive(&AccountRemovedV1 { owner }),
        Kind::CredentialsChanged => archive(&CredentialsChangedV1 {
            owner,
            credentials: CredentialsV1 {
                argon2id: "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA",
                ..CredentialsV1::default()
            },
        }),
        Kind::Enabled => archive(&EnabledV1 {
            owner,
            enabled: false,
        }),
        Kind::RosterItem => archive(&RosterItemV1 {
            owner,
            contact: CONTACT,
            name: "Roméo",
            groups: vec!["Friends", "Montague & sons"],
            flags: 0b0111,
        }),
        Kind::RosterRemoved => archive(&RosterRemovedV1 {
            owner,
            contact: CONTACT,
        }),
        Kind::SubscriptionRequest | Kind::SubscriptionRequestRemoved => {
            archive(&SubscriptionRequestV1 {
                owner,
                contact: CONTACT,
            })
        }
        Kind::Message => archive(&MessageV1 {
            owner,
            received_at_ms: 1_700_000_000_123,
            flags: 5,
        }),
        Kind::Retired => archive(&RetiredV1 {
            owner,
            first: 300,
            runs: &[0, 2, 0x80, 1, 0],
        }),
        Kind::Vcard | Kind::VcardRemoved => archive(&VcardV1 { owner }),
        Kind::Private | Kind::PrivateRemoved => archive(&PrivateV1 {
            owner,
            name: "storage",
            namespace: "storage:bookmarks",
        }),
        Kind::LastActivity => archive(&LastActivityV1 {
            owner,
            at_ms: 1_700_000_000_456,
            status: "gone to bed",
        }),
        Kind::Hibernated => archive(&HibernatedV1 {
            owner,
            id: "sm-token",
            resource: "balcony",
            expires_at_ms: 1_700_000_300_000,
            handled_inbound: 7,
            acknowledged_outbound: 9,
            presence_bytes: 11,
            queue: vec![
                QueuedV1 {
                    message_id: 300,
                    bytes: 10,
                },
                QueuedV1 {
                    message_id: 0,
                    bytes: 5,
                },
            ],
            properties: vec![PropertyV1 {
                name: "carbons",
                value: "on",
            }],
        }),
        Kind::HibernatedRemoved => archive(&HibernatedRemovedV1 {
            owner,
            id: "sm-token",
        }),
        Kind::Setting => archive(&SettingV1 {
            name: "tls.key",
            value: &[7; 40],
        }),
        Kind::SettingRemoved => archive(&SettingRemovedV1 { name: "tls.key" }),
        Kind::AccountImage => archive(&AccountImageV1 {
            owner,
            through: 400,
            created_at_ms: 1_700_000_000_000,
            enabled: true,
            credentials: credentials(),
            last_activity_ms: 1_700_000_000_456,
            last_status: "gone to bed",
        }),
        Kind::RosterImage => archive(&RosterImageV1 {
            owner,
            version: 390,
            horizon: 12,
            items: vec![RosterImageItemV1 {
                contact: CONTACT,
                name: "Roméo",
                groups: vec!["Friends"],
                flags: 0b1011,
                version: 380,
            }],
            removals: vec![RemovalV1 {
                contact: "paris@verona.example",
                version: 390,
            }],
        }),
        Kind::SettingsImage => archive(&SettingsImageV1 {
            first: true,
            through: 399,
            settings: vec![SettingImageV1 {
                name: "tls.key",
                value: &[7; 40],
            }],
        }),
    }
}

fn fixture(kind: Kind, version: u8) -> PathBuf {
    let name = format!("{:02}-{kind:?}-v{version}.bin", kind as u8);
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/records")
        .join(name)
}

/// The golden bytes of a version of a kind. `CAIRN_WRITE_FIXTURES=1` writes
/// those that are missing; it never changes one that is there.
fn golden(kind: Kind, version: u8) -> Vec<u8> {
    let path = fixture(kind, version);
    if !path.exists() && std::env::var_os("CAIRN_WRITE_FIXTURES").is_some() {
        std::fs::write(&path, sample(kind)).expect("the fixture is written");
    }
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Folds golden bytes of version 1; the record is number `seq` at segment `seq`.
fn fold(state: &mut State, live: &mut Live, kind: Kind, seq: u64) {
    let body = golden(kind, 1);
    let record = Record {
        kind: kind as u8,
        version: 1,
        seq,
        body: &body,
        payload: b"",
    };
    let place = Place {
        segment: seq as u32,
        offset: 0,
        len: 64,
    };
    let taken = match kind {
        Kind::AccountImage | Kind::RosterImage | Kind::SettingsImage => state.restore(
            CheckpointItem {
                record,
                place: None,
            },
            live,
        ),
        _ => state.apply(&record, place, live),
    };
    assert_eq!(taken, Ok(()), "{kind:?}");
}

#[test]
fn bodies_are_still_written_as_their_golden_bytes_say() {
    for kind in Kind::ALL.iter().copied() {
        assert_eq!(
            sample(kind),
            golden(kind, 1),
            "{kind:?}: a released body is never edited"
        );
        assert_eq!(Kind::from_number(kind as u8), Some(kind));
    }
}

#[test]
fn golden_bytes_damaged_anywhere_are_refused_or_read_without_a_panic() {
    for kind in Kind::ALL.iter().copied() {
        let bytes = golden(kind, 1);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x81;
            for body in [&damaged[..], &bytes[..at]] {
                let record = Record {
                    kind: kind as u8,
                    version: 1,
                    seq: 1,
                    body,
                    payload: b"",
                };
                let (mut state, mut live) = (State::new(), Live::default());
                drop(state.apply(
                    &record,
                    Place {
                        segment: 1,
                        offset: 0,
                        len: 9,
                    },
                    &mut live,
                ));
                drop(state.restore(
                    CheckpointItem {
                        record,
                        place: None,
                    },
                    &mut live,
                ));
                drop(state.describe(&record));
            }
        }
    }
}

#[test]
fn golden_records_of_version_1_fold_into_what_they_say() {
    let (mut state, mut live) = (State::new(), Live::default());
    fold(&mut state, &mut live, Kind::Account, 1);
    let account = state.account(OWNER).expect("it was put");
    assert_eq!(account.created_at_ms(), 1_700_000_000_000);
    let Some(crate::crypto::Credentials::Scram {
        sha256,
        sha1: Some(sha1),
    }) = account.credentials()
    else {
        panic!("both hashes were put");
    };
    assert_eq!(
        (
            sha256.iterations(),
            sha256.salt(),
            sha256.stored_key().as_bytes()
        ),
        (10_000, &[1; 16][..], &[2; 32][..])
    );
    assert_eq!(
        (sha1.iterations(), sha1.salt(), sha1.server_key().as_bytes()),
        (4_096, &[4; 12][..], &[6; 20][..])
    );
    for (seq, kind) in [
        Kind::RosterItem,
        Kind::SubscriptionRequest,
        Kind::Vcard,
        Kind::Private,
    ]
    .into_iter()
    .enumerate()
    {
        fold(&mut state, &mut live, kind, 10 + seq as u64);
    }
    fold(&mut state, &mut live, Kind::LastActivity, 20);
    fold(&mut state, &mut live, Kind::Hibernated, 21);
    fold(&mut state, &mut live, Kind::Enabled, 22);
    fold(&mut state, &mut live, Kind::Message, 301);
    fold(&mut state, &mut live, Kind::Setting, 302);
    let account = state.account(OWNER).expect("it was put");
    let item = account.roster().item_of(CONTACT).expect("it was put");
    assert_eq!(
        (item.name, item.subscription(), item.ask(), item.approved()),
        ("Roméo", Subscription::Both, true, false)
    );
    assert_eq!(
        item.groups().collect::<Vec<_>>(),
        ["Friends", "Montague & sons"]
    );
    let message = account.messages().find(MessageId(301)).expect("it was put");
    assert_eq!(
        (message.received_at_ms, message.flags, message.place.segment),
        (1_700_000_000_123, 5, 301)
    );
    assert!(!account.is_enabled());
    assert_eq!(
        account.last_activity(),
        Some((1_700_000_000_456, "gone to bed"))
    );
    assert_eq!(
        account
            .subscription_requests()
            .map(|(contact, place)| (contact, place.segment))
            .next(),
        Some((CONTACT, 11))
    );
    assert_eq!(account.vcard().map(|place| place.segment), Some(12));
    assert_eq!(
        account
            .private("storage", "storage:bookmarks")
            .map(|place| place.segment),
        Some(13)
    );
    assert_eq!(
        account.hibernated().next().map(|(id, _)| id),
        Some("sm-token")
    );
    assert_eq!(state.setting("tls.key"), Some(&[7; 40][..]));
    assert_eq!(live.segments().count(), 5);
    let removals = [
        Kind::RosterRemoved,
        Kind::SubscriptionRequestRemoved,
        Kind::VcardRemoved,
        Kind::PrivateRemoved,
        Kind::HibernatedRemoved,
        Kind::Retired,
        Kind::SettingRemoved,
        Kind::CredentialsChanged,
    ];
    for (seq, kind) in removals.into_iter().enumerate() {
        fold(&mut state, &mut live, kind, 500 + seq as u64);
    }
    let account = state.account(OWNER).expect("it was put");
    assert!(
        account.roster().is_empty()
            && account.messages().is_empty()
            && live.segments().count() == 0
    );
    assert!(matches!(
        account.credentials(),
        Some(crate::crypto::Credentials::Argon2id { .. })
    ));
    assert_eq!(state.setting("tls.key"), None);
    fold(&mut state, &mut live, Kind::AccountRemoved, 600);
    assert_eq!(state.account_count(), 0);
}

#[test]
fn golden_images_of_version_1_restore_what_they_say() {
    let (mut state, mut live) = (State::new(), Live::default());
    for kind in [Kind::SettingsImage, Kind::AccountImage, Kind::RosterImage] {
        fold(&mut state, &mut live, kind, 0);
    }
    let kept = Kind::ALL
        .iter()
        .copied()
        .filter(|kind| kind.is_kept_by_place());
    for (seq, kind) in kept.enumerate() {
        let body = golden(kind, 1);
        let record = Record {
            kind: kind as u8,
            version: 1,
            seq: 300 + seq as u64,
            body: &body,
            payload: b"",
        };
        let place = Some(Place {
            segment: kind as u32,
            offset: 0,
            len: 64,
        });
        assert_eq!(
            state.restore(CheckpointItem { record, place }, &mut live),
            Ok(()),
            "{kind:?}"
        );
    }
    let account = state.account(OWNER).expect("it was restored");
    assert!(account.is_enabled() && account.credentials().is_some());
    let item = account.roster().item_of(CONTACT).expect("it was restored");
    assert_eq!(
        (
            item.subscription(),
            item.ask(),
            item.approved(),
            item.version
        ),
        (Subscription::Both, false, true, 380)
    );
    assert_eq!(
        account
            .roster()
            .changes_since(380)
            .map(|changes| changes.len()),
        Some(1)
    );
    assert_eq!(
        account
            .messages()
            .iter()
            .next()
            .map(|message| message.place.segment),
        Some(Kind::Message as u32)
    );
    assert_eq!(
        account.vcard().map(|place| place.segment),
        Some(Kind::Vcard as u32)
    );
    let request = account.subscription_request(CONTACT);
    assert_eq!(
        request.map(|place| place.segment),
        Some(Kind::SubscriptionRequest as u32)
    );
    let private = account.private("storage", "storage:bookmarks");
    assert_eq!(
        private.map(|place| place.segment),
        Some(Kind::Private as u32)
    );
    let session = account.hibernated().next();
    assert_eq!(
        session.map(|(_, place)| place.segment),
        Some(Kind::Hibernated as u32)
    );
    assert_eq!(
        account.last_activity(),
        Some((1_700_000_000_456, "gone to bed"))
    );
    assert_eq!(live.segments().count(), 5);
    assert_eq!(state.setting("tls.key"), Some(&[7; 40][..]));
}

/// Bytes of the structure at the end of a kind's body.
// One arm a kind: a table.
fn structure_bytes(kind: Kind) -> usize {
    match kind {
        Kind::Account => size_of::<ArchivedAccountV1<'_>>(),
        Kind::AccountRemoved => size_of::<ArchivedAccountRemovedV1<'_>>(),
        Kind::CredentialsChanged => size_of::<ArchivedCredentialsChangedV1<'_>>(),
        Kind::Enabled => size_of::<ArchivedEnabledV1<'_>>(),
        Kind::RosterItem => size_of::<ArchivedRosterItemV1<'_>>(),
        Kind::RosterRemoved => size_of::<ArchivedRosterRemovedV1<'_>>(),
        Kind::SubscriptionRequest | Kind::SubscriptionRequestRemoved => {
            size_of::<ArchivedSubscriptionRequestV1<'_>>()
        }
        Kind::Message => size_of::<ArchivedMessageV1<'_>>(),
        Kind::Retired => size_of::<ArchivedRetiredV1<'_>>(),
        Kind::Vcard | Kind::VcardRemoved => size_of::<ArchivedVcardV1<'_>>(),
        Kind::Private | Kind::PrivateRemoved => size_of::<ArchivedPrivateV1<'_>>(),
        Kind::LastActivity => size_of::<ArchivedLastActivityV1<'_>>(),
        Kind::Hibernated => size_of::<ArchivedHibernatedV1<'_>>(),
        Kind::HibernatedRemoved => size_of::<ArchivedHibernatedRemovedV1<'_>>(),
        Kind::Setting => size_of::<ArchivedSettingV1<'_>>(),
        Kind::SettingRemoved => size_of::<ArchivedSettingRemovedV1<'_>>(),
        Kind::AccountImage => size_of::<ArchivedAccountImageV1<'_>>(),
        Kind::RosterImage => size_of::<ArchivedRosterImageV1<'_>>(),
        Kind::SettingsImage => size_of::<ArchivedSettingsImageV1<'_>>(),
    }
}

#[test]
fn the_document_of_the_format_draws_every_kind() {
    let document = include_str!("../../../docs/log-format.md");
    for &kind in Kind::ALL {
        let begins = format!("| {} {kind:?} |", kind as u8);
        let row = document.lines().find(|line| line.starts_with(&begins));
        let row = row.unwrap_or_else(|| panic!("{kind:?} stands in no table"));
        let ends = format!("| {} |", structure_bytes(kind));
        assert!(row.ends_with(&ends), "{row}\nends with {ends}");
    }
}
