//! Registration, before and after the log-in.

use super::*;
use crate::config::RegistrationMode;
use crate::crypto::Password;
use crate::crypto::argon2id::Argon2Memory;
use crate::router::Ending;
use crate::stanza::StreamErrorCondition;
use crate::xep::register::{StrangerReply, answer_stranger};

const ASKED: &str = "<query xmlns='jabber:iq:register'/>";

fn has_password(server: &Server, local: &str, password: &str) -> bool {
    let owner = format!("{local}@{DOMAIN}");
    let credentials = server.core.store.read(|state| {
        let account = state.account(&owner).expect("the account exists");
        account.credentials().expect("it has a password")
    });
    let password = Password::prepare(password).expect("a password");
    credentials.check_plain(&password, &mut Argon2Memory::new())
}

fn change(username: &str, password: &str) -> String {
    format!(
        "<query xmlns='jabber:iq:register'><username>{username}</username><password>{password}</password></query>"
    )
}

fn open_server() -> Server {
    Server::with(|config| config.registration.mode = RegistrationMode::Open)
}

fn stranger(server: &Server, xml: &str) -> StrangerReply {
    answer_stranger(&server.core, &jid(DOMAIN), &stanza(xml), || true)
}

fn text(reply: &StrangerReply) -> &str {
    std::str::from_utf8(&reply.iq).expect("stanzas are text")
}

#[test]
fn who_is_logged_in_is_registered() {
    let server = Server::new();
    let romeo = server.accounts(&["romeo"]).connect("romeo/orchard");
    let reply = romeo.get_of(DOMAIN, ASKED);
    assert!(
        reply.contains("<registered/><username>romeo</username><password/>"),
        "{reply}"
    );
    assert!(romeo.get(ASKED).contains("<registered/>"));
    let other = romeo.get_of("juliet@verona.example", ASKED);
    assert_refused(&other, "auth", "forbidden");
}

#[test]
fn a_password_is_changed_by_its_owner() {
    let server = Server::new();
    let romeo = server.accounts(&["romeo"]).connect("romeo/orchard");
    assert_eq!(
        romeo.set_of(DOMAIN, &change("romeo", "wherefore art thou")),
        "<iq type='result' id='1' from='verona.example' to='romeo@verona.example/orchard'/>"
    );
    assert!(has_password(&server, "romeo", "wherefore art thou"));
    // The name is prepared like any other (RFC 7622 §3.3), and the account answers too.
    romeo.set(&change("Romeo", "another password"));
    assert!(has_password(&server, "romeo", "another password"));
}

#[test]
fn nobody_changes_anybody_elses_password() {
    let server = Server::new();
    let romeo = server
        .accounts(&["romeo", "juliet"])
        .connect("romeo/orchard");
    let query = change("juliet", "wherefore art thou");
    assert_refused(&romeo.set_of(DOMAIN, &query), "auth", "forbidden");
    let own = change("romeo", "wherefore art thou");
    assert_refused(
        &romeo.set_of("juliet@verona.example", &own),
        "auth",
        "forbidden",
    );
    assert!(!has_password(&server, "juliet", "wherefore art thou"));
    for username in ["", "romeo@verona.example", "a b"] {
        let query = change(username, "wherefore art thou");
        assert_refused(&romeo.set_of(DOMAIN, &query), "auth", "forbidden");
    }
    assert!(!has_password(&server, "romeo", "wherefore art thou"));
}

#[test]
fn a_change_of_password_does_not_reach_whoever_gets_the_name_next() {
    let server = Server::new();
    let romeo = server.accounts(&["romeo"]).connect("romeo/orchard");
    let query = change("romeo", "wherefore art thou");
    let iq = stanza(&format!("<iq type='set' id='1'>{query}</iq>"));
    router::receive(&server.core, &romeo.session, &iq);
    let remove = "<iq type='set' id='2'><query xmlns='jabber:iq:register'><remove/></query></iq>";
    router::receive(&server.core, &romeo.session, &stanza(remove));
    server.accounts_at(&["romeo"], START_MS + 1);
    server.run_jobs();
    assert!(!has_password(&server, "romeo", "wherefore art thou"));
}

#[test]
fn an_empty_or_weak_password_is_not_taken() {
    let server = Server::new();
    let romeo = server.accounts(&["romeo"]).connect("romeo/orchard");
    romeo.set(&change("romeo", "wherefore art thou"));
    for password in ["", "short", "romeo@verona.example"] {
        let reply = romeo.set(&change("romeo", password));
        assert_refused(&reply, "modify", "not-acceptable");
    }
    let incomplete = "<query xmlns='jabber:iq:register'><password>long enough</password></query>";
    assert_refused(&romeo.set(incomplete), "modify", "bad-request");
    assert_refused(&romeo.set(ASKED), "modify", "bad-request");
    assert!(has_password(&server, "romeo", "wherefore art thou"));
}

#[test]
fn a_second_change_waits_for_the_first() {
    let server = Server::new();
    let romeo = server.accounts(&["romeo"]).connect("romeo/orchard");
    let iq = |id: u8| {
        let query = change("romeo", "wherefore art thou");
        stanza(&format!("<iq type='set' id='{id}'>{query}</iq>"))
    };
    for id in [1, 2] {
        router::receive(&server.core, &romeo.session, &iq(id));
    }
    let refused = romeo.hear();
    assert_eq!(refused.len(), 1);
    assert_refused(&refused[0], "wait", "resource-constraint");
    server.run_jobs();
    assert_eq!(romeo.hear().len(), 1);
    assert!(
        romeo
            .set(&change("romeo", "once more, please"))
            .contains("type='result'")
    );
}

#[test]
fn a_removed_account_answers_and_is_gone() {
    let server = Server::new();
    let orchard = server
        .accounts(&["romeo", "juliet"])
        .connect("romeo/orchard");
    let tomb = server.connect("romeo/tomb");
    router::enable_management(&server.core, &orchard.session, true, None);
    let remove = "<query xmlns='jabber:iq:register'><remove/></query>";
    let iq = stanza(&format!("<iq type='set' id='1'>{remove}</iq>"));
    router::receive(&server.core, &orchard.session, &iq);

    let last = orchard.session.outbox.take_all();
    assert_eq!(last.entries.len(), 1);
    let is_gone = |ending: &Option<Ending>| match ending {
        Some(Ending::Discard(error)) => error.condition == StreamErrorCondition::NotAuthorized,
        _ => false,
    };
    assert!(is_gone(&last.ending), "{:?}", last.ending);
    let other = tomb.session.outbox.take_all();
    assert!(other.gone.is_some() && is_gone(&other.ending));

    assert!(!server.exists("romeo") && server.exists("juliet"));
    assert!(
        server
            .core
            .table
            .sessions("romeo@verona.example")
            .is_empty()
    );
    let connection = orchard.session.link().connection;
    router::connection_lost(&server.core, &orchard.session, connection);
    assert!(
        server
            .core
            .table
            .sessions("romeo@verona.example")
            .is_empty()
    );
    assert!(!server.exists("romeo"));
}

#[test]
fn a_session_that_is_over_says_nothing_in_the_name_of_the_next_owner() {
    let server = Server::new();
    let orchard = server.accounts(&["romeo"]).connect("romeo/orchard");
    let tomb = server.connect("romeo/tomb");
    orchard.set_all("<query xmlns='jabber:iq:register'><remove/></query>");
    server.accounts(&["romeo"]);
    for old in [&orchard, &tomb] {
        let card =
            stanza("<iq type='set' id='1'><vCard xmlns='vcard-temp'><FN>x</FN></vCard></iq>");
        router::receive(&server.core, &old.session, &card);
    }
    let next = server.connect("romeo/orchard");
    let reply = next.get("<vCard xmlns='vcard-temp'/>");
    assert_refused(&reply, "cancel", "item-not-found");
}

#[test]
fn remove_stands_alone_and_is_the_owners() {
    let server = Server::new();
    let romeo = server
        .accounts(&["romeo", "juliet"])
        .connect("romeo/orchard");
    let crowded = "<query xmlns='jabber:iq:register'><remove/><username>romeo</username></query>";
    assert_refused(&romeo.set(crowded), "modify", "bad-request");
    let remove = "<query xmlns='jabber:iq:register'><remove/></query>";
    let reply = romeo.set_of("juliet@verona.example", remove);
    assert_refused(&reply, "auth", "forbidden");
    assert!(server.exists("romeo") && server.exists("juliet"));
}

#[test]
fn a_stranger_registers_where_that_is_open() {
    let server = open_server();
    let form = stranger(
        &server,
        "<iq type='get' id='1' to='verona.example'><query xmlns='jabber:iq:register'/></iq>",
    );
    assert!(
        text(&form).contains("<username/><password/>"),
        "{}",
        text(&form)
    );
    let iq = format!(
        "<iq type='set' id='2'>{}</iq>",
        change("Juliet", "what's in a name")
    );
    let reply = stranger(&server, &iq);
    assert_eq!(text(&reply), "<iq type='result' id='2'/>");
    assert!(has_password(&server, "juliet", "what's in a name"));
}

#[test]
fn a_stranger_does_not_register_where_that_is_closed() {
    let server = Server::new();
    for type_ in ["get", "set"] {
        let iq = format!(
            "<iq type='{type_}' id='1'>{}</iq>",
            change("juliet", "what's in a name")
        );
        assert_refused(
            text(&stranger(&server, &iq)),
            "cancel",
            "service-unavailable",
        );
    }
    assert!(!server.exists("juliet"));
}

#[test]
fn a_registration_is_refused_for_what_is_wrong_with_it() {
    let server = open_server();
    server.accounts(&["romeo", "m\u{fc}ller"]);
    let ask = |username: &str, password: &str| {
        let iq = format!("<iq type='set' id='1'>{}</iq>", change(username, password));
        let reply = stranger(&server, &iq);
        (refusal(text(&reply)).1, reply.told_of_account)
    };
    let fine = "what's in a name";
    assert_eq!(ask("ROMEO", fine), ("conflict".to_owned(), true));
    let not_acceptable = ("not-acceptable".to_owned(), false);
    let malformed = ("jid-malformed".to_owned(), false);
    for username in ["", "a b", "a@b", "a/b", &"x".repeat(65), "r\u{43e}meo"] {
        assert_eq!(ask(username, fine), malformed, "{username}");
    }
    for password in ["", "short", "a\u{7f}aaaaaaaaaa"] {
        assert_eq!(ask("juliet", password), not_acceptable, "{password}");
    }
    let iq = "<iq type='set' id='1'><query xmlns='jabber:iq:register'><username>x</username></query></iq>";
    assert_refused(text(&stranger(&server, iq)), "modify", "not-acceptable");
}

#[test]
fn registrations_from_one_place_are_counted_only_when_nothing_else_is_wrong() {
    let server = open_server();
    server.accounts(&["romeo"]);
    let ask = |username: &str| {
        let iq = format!(
            "<iq type='set' id='1'>{}</iq>",
            change(username, "what's in a name")
        );
        let mut asked = false;
        let reply = answer_stranger(&server.core, &jid(DOMAIN), &stanza(&iq), || {
            asked = true;
            false
        });
        (refusal(text(&reply)).1, asked)
    };
    assert_eq!(ask("romeo"), ("conflict".to_owned(), false));
    assert_eq!(ask("juliet"), ("resource-constraint".to_owned(), true));
    assert!(!server.exists("juliet"));
}
