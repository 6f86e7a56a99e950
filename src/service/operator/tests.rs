//! Commands as the operator gives them.

use super::*;
use crate::config::{Config, Machine};
use crate::crypto::argon2id::Argon2Memory;
use crate::service::control;
use crate::service::office::Office;
use crate::service::open::OpenFailure;
use crate::store::disk::Access;
use crate::store::state::{RosterEntry, Subscription};

struct Place {
    office: Office,
    operator: Arc<Operator>,
    folder: tempfile::TempDir,
}

fn config(folder: &tempfile::TempDir) -> Config {
    let mut config = Config::of_domain("chat.example", &Machine::of_memory(1 << 30));
    config.store.path = folder.path().join("data/cairn.log");
    config
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let office = Office::open(config(&folder), Access::Create).expect("a new store");
        Self {
            operator: Arc::new(Operator::new(Arc::clone(&office.core))),
            office,
            folder,
        }
    }

    fn run(&self, words: &str, input: &str) -> Result<String, String> {
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        let mut output = Vec::new();
        self.operator
            .perform(&words, &mut input.as_bytes(), &mut output)?;
        Ok(String::from_utf8(output).expect("text"))
    }
}

#[test]
fn accounts_come_change_and_go() {
    let place = Place::new();
    place
        .run("user add Alice@Chat.Example", "a pencil\n")
        .expect("new");
    place.run("user add bob", "of paper").expect("new");
    let said = place
        .run("user add alice", "a pencil")
        .expect_err("it exists");
    assert!(said.contains("exists already"), "{said}");
    let list = place.run("user list", "").expect("a list");
    assert_eq!(list, "alice@chat.example\nbob@chat.example\n");
    let credentials = || {
        place.office.core.store.read(|state| {
            let account = state.account("alice@chat.example").expect("added");
            account.credentials().expect("a password")
        })
    };
    let check = |password: &str| {
        let password = Password::prepare(password).expect("a password");
        credentials().check_plain(&password, &mut Argon2Memory::new())
    };
    assert!(check("a pencil") && !check("of paper"));
    place
        .run("user passwd alice", "a brush!\n")
        .expect("changed");
    assert!(check("a brush!") && !check("a pencil"));
    place
        .run("user remove alice@chat.example", "")
        .expect("removed");
    assert_eq!(
        place.run("user list", "").expect("a list"),
        "bob@chat.example\n"
    );
}

#[test]
fn who_shared_presence_with_a_removed_account_shares_it_no_more() {
    let place = Place::new();
    place.run("user add alice", "a pencil").expect("new");
    place.run("user add bob", "of paper").expect("new");
    let befriend = |owner: &str, contact: &str| {
        let entry = RosterEntry {
            subscription: Subscription::Both,
            ..RosterEntry::new(contact)
        };
        let put = |tx: &mut Tx<'_>| tx.put_roster_item(owner, &entry).map(drop);
        place.office.core.store.update(put).expect("room");
    };
    befriend("alice@chat.example", "bob@chat.example");
    befriend("bob@chat.example", "alice@chat.example");
    place.run("user remove alice", "").expect("removed");
    place.office.core.store.read(|state| {
        let bob = state.account("bob@chat.example").expect("he stays");
        let item = bob
            .roster()
            .item_of("alice@chat.example")
            .expect("his own list");
        assert_eq!(item.subscription(), Subscription::None);
    });
}

#[test]
fn what_cannot_be_is_refused_in_one_sentence() {
    let place = Place::new();
    for (words, input, said) in [
        (
            "user add alice@other.example",
            "a pencil",
            "this server's domain is chat.example",
        ),
        ("user add chat.example/a@b", "a pencil", "is no address"),
        (
            "user add a@chat.example/phone",
            "a pencil",
            "is no address of an account",
        ),
        ("user add alice", "", "cannot be its password"),
        ("user add alice", "pencil", "8 characters or more"),
        ("user add maryjane", "maryjane", "that is not the username"),
        ("user add LONG", "a pencil", "up to 64"),
        (
            "user passwd alice",
            "a pencil",
            "there is no account alice@chat.example",
        ),
        (
            "user remove alice",
            "",
            "there is no account alice@chat.example",
        ),
        ("user dance", "", "does not know the command"),
        ("store import", "<nonsense/>", ""),
    ] {
        let words = &words.replace("LONG", &"l".repeat(65));
        let refusal = place.run(words, input).expect_err(words);
        assert!(refusal.contains(said), "{words}: {refusal}");
        assert!(!refusal.contains('\n'), "{refusal}");
    }
}

#[test]
fn an_export_is_imported_elsewhere() {
    let (here, there) = (Place::new(), Place::new());
    here.run("user add alice", "a pencil").expect("new");
    there.run("user add bob", "of paper").expect("new");
    let export = here.run("store export", "").expect("an export");
    let said = there.run("store import", &export).expect("an import");
    assert!(said.starts_with("1 accounts"), "{said}");
    let list = there.run("user list", "").expect("a list");
    assert_eq!(list, "alice@chat.example\nbob@chat.example\n");
}

#[test]
fn what_was_done_is_there_after_the_store_was_opened_again() {
    let place = Place::new();
    place.run("user add alice", "a pencil").expect("new");
    let Place {
        office,
        operator,
        folder,
    } = place;
    drop(operator);
    office.close().expect("in order");
    let office = Office::open(config(&folder), Access::Write).expect("it is there");
    assert!(office.recovery.clean);
    let is_there = |state: &State| state.account("alice@chat.example").is_some();
    assert!(office.core.store.read(is_there));
    let locked = Office::open(config(&folder), Access::Write);
    assert!(matches!(locked, Err(OpenFailure::Locked)));
}

#[test]
fn the_socket_leads_to_the_same_commands() {
    let place = Place::new();
    let path = control::socket_path(&place.folder.path().join("data/cairn.log"));
    let operator = Arc::clone(&place.operator);
    let perform = move |words: &[String], input: &mut dyn Read, output: &mut dyn Write| {
        Ok(operator.perform(words, input, output)?)
    };
    let listener = control::listen(&path).expect("a free path");
    control::serve(listener, Arc::new(perform)).expect("a thread");
    let call = |words: &str, input: &str| {
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        let mut output = Vec::new();
        control::call(&path, &words, &mut input.as_bytes(), &mut output)
            .map(|()| String::from_utf8(output).expect("text"))
            .map_err(|error| error.to_string())
    };
    call("user add alice", "a pencil\n").expect("new");
    assert_eq!(
        call("user list", "").expect("a list"),
        "alice@chat.example\n"
    );
    let said = call("user add alice", "a pencil\n").expect_err("it exists");
    assert!(said.contains("exists already"), "{said}");
}

#[test]
fn the_store_is_told_verified_and_compacted() {
    let place = Place::new();
    for n in 0..20 {
        place
            .run(&format!("user add user{n}"), "a pencil")
            .expect("new");
    }
    let stat = place.run("store stat", "").expect("a report");
    assert!(stat.starts_with("accounts             20\n"), "{stat}");
    assert!(stat.contains("checkpoint           none yet"), "{stat}");
    let verified = place.run("store verify", "").expect("it is sound");
    assert!(verified.contains("all of it is sound"), "{verified}");
    place.run("store compact", "").expect("done");
    let stat = place.run("store stat", "").expect("a report");
    assert!(stat.contains("behind it"), "a checkpoint stands: {stat}");
    place.run("store verify", "").expect("it is sound");
}

#[test]
fn a_damaged_store_is_told() {
    use std::os::unix::fs::FileExt;
    let place = Place::new();
    for n in 0..20 {
        place
            .run(&format!("user add user{n}"), "a pencil")
            .expect("new");
    }
    let path = place.folder.path().join("data/cairn.log");
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(&path)
        .expect("it is there");
    // Somewhere in the first segment's records.
    let mut bytes = vec![0; 1 << 20];
    file.read_exact_at(&mut bytes, 0).expect("readable");
    let at = bytes
        .windows(5)
        .rposition(|window| window == b"user1")
        .expect("in the log");
    file.write_all_at(b"XXXXX", at as u64).expect("writable");
    let mut output = Vec::new();
    let words = ["store", "verify"].map(str::to_owned);
    let refusal = place
        .operator
        .perform(&words, &mut io::empty(), &mut output);
    let refusal = refusal.expect_err("it is damaged");
    assert!(
        refusal.sentence.contains("the store is damaged"),
        "{refusal}"
    );
    let output = String::from_utf8(output).expect("text");
    assert!(output.contains("damaged: a part of the log"), "{output}");
}

/// Accounts, and a document of nearly so many bytes for each.
fn export_of(accounts: usize, bytes: usize) -> String {
    let photo = "QUJD".repeat(bytes / 4);
    let user = |n: usize| {
        format!(
            "<user name='user{n}' password='pencil'><vCard xmlns='vcard-temp'><PHOTO><BINVAL>\
             {photo}</BINVAL></PHOTO></vCard></user>"
        )
    };
    let users: String = (0..accounts).map(user).collect();
    format!(
        "<server-data xmlns='urn:xmpp:pie:0'><host jid='chat.example'>{users}</host></server-data>"
    )
}

#[test]
fn an_import_may_be_larger_than_what_a_new_file_has_room_for() {
    let place = Place::new();
    // Of the twelve segments of 8 MiB of a new file, four can be filled.
    let said = place
        .run("store import", &export_of(430, 120_000))
        .expect("the file grows");
    assert!(said.starts_with("430 accounts"), "{said}");
    assert!(place.office.core.store.stat().log.segments > 12);
}

#[test]
fn one_compaction_gives_back_all_that_can_be_given_back() {
    let place = Place::new();
    place
        .run("store import", &export_of(200, 120_000))
        .expect("there is room");
    for n in 0..200 {
        place
            .run(&format!("user remove user{n}"), "")
            .expect("it is there");
    }
    place.run("store compact", "").expect("done");
    let free = || place.office.core.store.stat().log.segments_free;
    let after_one = free();
    place.run("store compact", "").expect("done");
    assert_eq!(free(), after_one);
}

/// Overwrites the end of both checkpoints, without which neither can be read.
fn ruin_checkpoints(path: &std::path::Path) {
    use crate::store::superblock::{Found, Superblock};
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .expect("it is there");
    let mut block = vec![0; 4096];
    file.read_exact_at(&mut block, 0).expect("readable");
    let superblock: Superblock = match Superblock::decode(&block, &crate::store::formats::READS) {
        Found::Superblock(superblock) => *superblock,
        other => panic!("a superblock stands first: {other:?}"),
    };
    assert!(
        superblock.genesis.is_none(),
        "it is not read from its beginning any more"
    );
    for checkpoint in superblock.checkpoints {
        let checkpoint = checkpoint.expect("two stand");
        let at = superblock.geometry.slot_at(checkpoint.slot) + u64::from(checkpoint.offset);
        file.write_all_at(&[0; 16], at).expect("writable");
    }
}

#[test]
fn a_store_without_a_readable_checkpoint_is_salvaged_and_opens_again() {
    let place = Place::new();
    place.run("user add alice", "a pencil").expect("new");
    place.run("store compact", "").expect("done");
    place.run("user add bob", "a pencil").expect("new");
    place.run("store compact", "").expect("done");
    let Place {
        office,
        operator,
        folder,
    } = place;
    drop(operator);
    office.close().expect("in order");
    ruin_checkpoints(&folder.path().join("data/cairn.log"));
    let refused = Office::open(config(&folder), Access::Write).err();
    let refused = refused.expect("it cannot be read").to_string();
    assert!(refused.contains("cairn store salvage"), "{refused}");
    for words in ["salvaged: 2 accounts", "there is nothing to salvage"] {
        let office = Office::salvage(config(&folder)).expect("something is left");
        let mut said = Vec::new();
        Operator::new(office.core.clone())
            .keep_salvaged(&office.recovery, &mut said)
            .expect("it is written anew");
        office.close().expect("in order");
        let said = String::from_utf8(said).expect("text");
        assert!(said.contains(words), "{said}");
    }
    let office = Office::open(config(&folder), Access::Write).expect("it opens again");
    assert_eq!(office.core.store.stat().accounts, 2);
}

#[test]
fn what_is_only_read_is_not_written() {
    let place = Place::new();
    place.run("user add alice", "a pencil").expect("new");
    let Place {
        office,
        operator,
        folder,
    } = place;
    drop(operator);
    office.close().expect("in order");
    let path = folder.path().join("data/cairn.log");
    let before = std::fs::read(&path).expect("readable");
    let (one, other) = (
        Office::open(config(&folder), Access::Read).expect("it opens"),
        Office::open(config(&folder), Access::Read).expect("readers share it"),
    );
    for office in [one, other] {
        let operator = Operator::new(office.core.clone());
        for verb in ["stat", "verify", "export"] {
            let words = ["store", verb].map(str::to_owned);
            let done = operator.perform(&words, &mut io::empty(), &mut io::sink());
            assert_eq!(done, Ok(()), "{verb}");
        }
        office.close().expect("there is nothing to close");
    }
    assert!(std::fs::read(&path).expect("readable") == before);
}
