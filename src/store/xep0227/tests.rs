//! There and back, what others export, and what nobody should.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::addr::Jid;
use crate::crypto::{Credentials, Hash, ScramKeys};
use crate::store::disk::Device;
use crate::store::log::Options;
use crate::store::sim::SimDevice;
use crate::store::state::{RosterEntry, Subscription};
use crate::store::{Store, StoreError, StoreLimits};

const NOW_MS: u64 = 1_700_000_000_000;

fn store() -> Store {
    let len = 64 << 20;
    let device: Arc<dyn Device> = Arc::new(SimDevice::new(len, len));
    let options = Options {
        random: [7; 24],
        ..Options::default()
    };
    Store::open(device, options, StoreLimits::default(), NOW_MS)
        .expect("the store opens")
        .0
}

fn keys(hash: Hash) -> ScramKeys {
    let key = vec![9; hash.length()];
    ScramKeys::from_parts(hash, b"a salt", 10_000, &key, &key).expect("the lengths are right")
}

/// Two hosts, an account of each kind of credentials, one of everything.
fn filled() -> Store {
    let store = store();
    let juliet = "juliet@capulet.example";
    let both = Credentials::Scram {
        sha256: keys(Hash::Sha256),
        sha1: Some(keys(Hash::Sha1)),
    };
    let phc = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let change = |tx: &mut crate::store::Tx<'_>| -> Result<(), StoreError> {
        tx.put_account(juliet, &both, NOW_MS - 5_000)?;
        tx.put_account(
            "romeo@montague.example",
            &Credentials::Argon2id {
                phc: phc.to_owned(),
            },
            NOW_MS,
        )?;
        tx.set_enabled("romeo@montague.example", false)?;
        tx.put_roster_item(
            juliet,
            &RosterEntry {
                contact: "romeo@montague.example".to_owned(),
                name: "Roméo & <co>".to_owned(),
                groups: vec!["Friends".to_owned(), "it's \"him\"".to_owned()],
                subscription: Subscription::To,
                ask: false,
                approved: true,
            },
        )?;
        tx.put_roster_item(
            juliet,
            &RosterEntry {
                ask: true,
                ..RosterEntry::new("nurse@capulet.example")
            },
        )?;
        let request = "<presence from='paris@verona.example' type='subscribe'><status>now &amp; ever</status></presence>";
        tx.put_subscription_request(juliet, "paris@verona.example", Bytes::from(request))?;
        tx.put_vcard(
            juliet,
            Bytes::from_static(b"<vCard xmlns='vcard-temp'><FN>Juliet</FN></vCard>"),
        )?;
        let private =
            "<storage xmlns='storage:bookmarks'><conference jid='hall@capulet.example'/></storage>";
        tx.put_private(juliet, "storage", "storage:bookmarks", Bytes::from(private))?;
        tx.put_last_activity(juliet, NOW_MS - 1_000, "asleep")?;
        for n in 0..3 {
            let message = format!(
                "<message from='romeo@montague.example/a' type='chat'><body>{n}</body>\
                 <x xmlns='urn:example' xmlns:p='urn:p'><p:y/></x></message>"
            );
            tx.put_message(juliet, NOW_MS + n, 0, Bytes::from(message))?;
        }
        Ok(())
    };
    store.update(change).expect("all of it fits");
    store
}

fn exported(store: &Store) -> String {
    let mut bytes = Vec::new();
    let report = export(store, &mut bytes).expect("memory takes it");
    assert_eq!(report.missing, Vec::<String>::new());
    String::from_utf8(bytes).expect("an export is text")
}

struct Files(HashMap<&'static str, &'static str>);

fn imported_with(
    store: &Store,
    document: &str,
    existing: Existing,
    files: &Files,
) -> Result<Imported, ImportError> {
    let mut new_credentials = |_: &Jid, _: &str| {
        Some(Credentials::Scram {
            sha256: keys(Hash::Sha256),
            sha1: None,
        })
    };
    let mut include = |path: &str| -> io::Result<Box<dyn io::Read>> {
        let file = files.0.get(path).copied().ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(io::Cursor::new(file)))
    };
    let mut pause = || store.commit_step(NOW_MS).map(drop);
    let options = ImportOptions {
        serves: &|host| host.ends_with(".example"),
        existing,
        new_credentials: &mut new_credentials,
        include: &mut include,
        pause: &mut pause,
        limits: None,
        now_ms: NOW_MS,
    };
    // Byte by byte, because a file comes in pieces that nobody chooses.
    import(
        store,
        Box::new(Trickle(io::Cursor::new(document.to_owned()))),
        options,
    )
}

fn imported(store: &Store, document: &str) -> Result<Imported, ImportError> {
    imported_with(store, document, Existing::Keep, &Files(HashMap::new()))
}

struct Trickle(io::Cursor<String>);

impl io::Read for Trickle {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let len = into.len().min(7);
        self.0.read(&mut into[..len])
    }
}

#[test]
fn what_is_exported_and_imported_is_exported_again_in_the_same_words() {
    let document = exported(&filled());
    let other = store();
    let report = imported(&other, &document).expect("it is our own");
    assert_eq!(
        (report.accounts, report.messages, report.notes),
        (2, 3, Vec::new())
    );
    assert_eq!(exported(&other), document);
    let account = other
        .read(|state| state.account("juliet@capulet.example").cloned())
        .expect("it was imported");
    assert!(
        account
            .credentials()
            .is_some_and(|credentials| credentials.scram(Hash::Sha1).is_some())
    );
    let first = account.messages().iter().next().expect("it waits");
    assert_eq!(first.received_at_ms, NOW_MS);
    let stanza = other
        .message(account.owner(), first.id)
        .expect("it can be read")
        .expect("it waits");
    assert!(stanza.starts_with(b"<message") && !stanza.windows(5).any(|five| five == b"delay"));
}

#[test]
fn an_export_is_well_formed_and_says_what_the_xep_says() {
    let document = exported(&filled());
    let mut reader = quick_xml::Reader::from_str(&document);
    while reader.read_event().expect("it is well-formed") != quick_xml::events::Event::Eof {}
    for piece in [
        "<server-data xmlns='urn:xmpp:pie:0'>",
        "<host jid='capulet.example'>",
        "<user name='juliet'>",
        "<scram-credentials xmlns='urn:xmpp:pie:0#scram' mechanism='SCRAM-SHA-256'><iter-count>10000</iter-count>",
        "<query xmlns='jabber:iq:roster'>",
        "<query xmlns='jabber:iq:private'><storage",
        "<delay xmlns='urn:xmpp:delay' from='capulet.example' stamp='2023-11-14T22:13:20Z'/>",
    ] {
        assert!(document.contains(piece), "{piece} in {document}");
    }
}

#[test]
fn a_full_export_of_another_server_is_taken_over() {
    let document = r#"<?xml version="1.0" encoding="UTF-8"?>
      <pie:server-data xmlns:pie="urn:xmpp:pie:0" xmlns:c="jabber:client">
        <pie:host jid="capulet.example">
          <pie:user name="Juliet" password="s3cret">
            <query xmlns="jabber:iq:roster">
              <item jid="Romeo@montague.example" subscription="both"><group>Friends</group></item>
              <item jid="@" subscription="both"/>
            </query>
            <c:presence type="subscribe" from="mercutio@montague.example/x"/>
            <pie:offline-messages>
              <c:message from="romeo@montague.example/orchard" type="chat">
                <c:body><![CDATA[Neither, <fair> saint]]></c:body>
                <delay xmlns="urn:xmpp:delay" from="capulet.example" stamp="2020-07-21T00:32:29Z">Offline Storage</delay>
              </c:message>
            </pie:offline-messages>
            <query xmlns="jabber:iq:privacy"/>
          </pie:user>
          <pie:user name="nobody"/>
        </pie:host>
        <pie:host jid="elsewhere.org"><pie:user name="x" password="y"/></pie:host>
      </pie:server-data>"#;
    let store = store();
    let report = imported(&store, document).expect("it is what the XEP says");
    assert_eq!((report.accounts, report.messages), (1, 1));
    assert_eq!(report.notes.len(), 4, "{:?}", report.notes);
    let account = store
        .read(|state| state.account("juliet@capulet.example").cloned())
        .expect("it was imported");
    let contacts: Vec<_> = account.roster().iter().map(|item| item.contact).collect();
    assert_eq!(contacts, ["romeo@montague.example"]);
    assert_eq!(
        account
            .subscription_requests()
            .next()
            .map(|(contact, _)| contact),
        Some("mercutio@montague.example")
    );
    let message = account.messages().iter().next().expect("it waits");
    assert_eq!(message.received_at_ms, 1_595_291_549_000);
    let stanza = store
        .message(account.owner(), message.id)
        .expect("it can be read")
        .expect("it waits");
    let stanza = crate::stanza::Stanza::from_canonical(stanza).expect("it is a stanza");
    assert_eq!(
        stanza
            .child("body", "jabber:client")
            .expect("it has one")
            .text(),
        "Neither, <fair> saint"
    );
}

#[test]
fn a_document_in_many_files_is_taken_over() {
    let main = "<?xml version='1.0'?><server-data xmlns='urn:xmpp:pie:0' xmlns:xi='http://www.w3.org/2001/XInclude'>\
                <xi:include href='capulet.example.xml'/><xi:include href='../secret'/>\
                <xi:include href='/etc/passwd'/><xi:include href='a' parse='text'/></server-data>";
    let files = Files(HashMap::from([
        (
            "capulet.example.xml",
            "<?xml version='1.0'?><host xmlns='urn:xmpp:pie:0' xmlns:xi='http://www.w3.org/2001/XInclude' \
             jid='capulet.example'><xi:include href='capulet.example/jul%69et.xml'/></host>",
        ),
        (
            "capulet.example/juliet.xml",
            "<user xmlns='urn:xmpp:pie:0' name='juliet' password='x'>\
             <xi:include xmlns:xi='http://www.w3.org/2001/XInclude' href='vcard.xml'/></user>\n",
        ),
        (
            "vcard.xml",
            "<?xml version='1.0'?>\n<vCard xmlns='vcard-temp'/>\n",
        ),
    ]));
    let store = store();
    let report =
        imported_with(&store, main, Existing::Keep, &files).expect("it is what the XEP says");
    assert_eq!((report.accounts, report.notes.len()), (1, 3));
    assert_eq!(
        store.vcard("juliet@capulet.example"),
        Ok(Some(Bytes::from_static(b"<vCard xmlns='vcard-temp'/>")))
    );
}

#[test]
fn an_existing_account_is_kept_or_replaced_as_a_whole() {
    let (document, store) = (exported(&filled()), filled());
    let report = imported(&store, &document).expect("it is our own");
    assert_eq!(
        (report.accounts, report.kept, report.notes.len()),
        (0, 2, 2)
    );
    store
        .update(|tx| tx.put_roster_item("juliet@capulet.example", &RosterEntry::new("x@y.example")))
        .expect("it fits");
    let report = imported_with(&store, &document, Existing::Replace, &Files(HashMap::new()))
        .expect("it is our own");
    assert_eq!((report.accounts, report.kept), (2, 0));
    assert_eq!(exported(&store), document);
}

#[test]
fn a_broken_document_is_refused_with_the_place_where_it_breaks() {
    let document = exported(&filled());
    let cut = &document[..document.len() - 30];
    let Err(ImportError::Document {
        behind: Some(behind),
        ..
    }) = imported(&store(), cut)
    else {
        panic!("it is cut")
    };
    assert!(behind.ends_with(".example"));
    for broken in [
        "",
        "<server-data/>",
        "<!DOCTYPE x><server-data xmlns='urn:xmpp:pie:0'/>",
        "<server-data xmlns='urn:xmpp:pie:0'><!-- x --></server-data>",
        "<server-data xmlns='urn:xmpp:pie:0'>text</server-data>",
        "<server-data xmlns='urn:xmpp:pie:0'><host jid='a.example'><user name='b'></host></user></server-data>",
        "<server-data xmlns='urn:xmpp:pie:0'/><server-data xmlns='urn:xmpp:pie:0'/>",
        "<server-data xmlns='urn:xmpp:pie:0'><host xmlns='urn:other' jid='a.example'/></server-data>",
        "<server-data xmlns='urn:xmpp:pie:0'><host jid='a.example'><user name='b' x='&bad;'/></host></server-data>",
    ] {
        assert!(
            matches!(
                imported(&store(), broken),
                Err(ImportError::Document { .. })
            ),
            "{broken}"
        );
    }
    assert_eq!(
        imported(&store(), "<server-data xmlns='urn:xmpp:pie:0'/>").expect("it is empty"),
        Imported::default()
    );
}

#[test]
fn what_is_over_a_limit_is_left_out_and_noted() {
    let mut document = "<server-data xmlns='urn:xmpp:pie:0'><host jid='a.example'>\
                        <user name='b' password='x'><offline-messages>"
        .to_owned();
    for n in 0..1_003 {
        document += &format!(
            "<message xmlns='jabber:client' from='c@d.example'><body>{n}</body></message>"
        );
    }
    document += "</offline-messages></user></host></server-data>";
    let store = store();
    let report = imported(&store, &document).expect("it is what the XEP says");
    assert_eq!(
        (report.accounts, report.messages, report.notes.len()),
        (1, 1_000, 3),
        "{:?}",
        report.notes
    );
    assert_eq!(
        store.read(|state| state
            .account("b@a.example")
            .map(|account| account.messages().len())),
        Some(1_000)
    );
}

#[test]
fn an_account_with_keys_for_sha_1_alone_is_taken_over_with_them() {
    let document = exported(&filled());
    let from = document.find("<scram-credentials").expect("juliet's");
    let until = document.find("mechanism='SCRAM-SHA-1'").expect("juliet's");
    let until = document[..until].rfind('<').expect("its start");
    let document = format!("{}{}", &document[..from], &document[until..]);
    assert!(!document.contains("SCRAM-SHA-256"));
    let other = store();
    let report = imported(&other, &document).expect("it is sound");
    assert_eq!(
        (report.accounts, report.sha1_alone, report.notes),
        (2, 1, Vec::new())
    );
    let credentials = other.read(|state| state.account("juliet@capulet.example")?.credentials());
    let keys = keys(Hash::Sha1);
    assert_eq!(credentials, Some(Credentials::ScramSha1 { keys }));
    assert_eq!(exported(&other), document);
}
