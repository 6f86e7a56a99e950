//! What is for another server that cannot be reached, when this one stops or is killed.

use super::*;
use crate::router::remote::{send, send_recorded};

const JULIET: &str = "juliet@capulet.example";

/// With a way to other servers on which nobody ever gets anywhere.
fn federating(server: Server) -> Server {
    server.core.remotes.connect_with(Box::new(|_| {}));
    server
}

/// Bob sends a stanza from a client with stream management.
fn send_stanza(server: &Server, xml: &str) {
    let stanza = Stanza::from_canonical(xml.to_owned().into()).expect("a canonical stanza");
    let mut cx = server.core.cx();
    cx.must_be_durable = true;
    let from = jid(&format!("{BOB}/b"));
    send(&mut cx, &from, &jid(JULIET), &stanza).expect("it waits");
}

fn message(id: &str, type_: &str, inside: &str) -> String {
    format!("<message xmlns='jabber:client' id='{id}' type='{type_}'>{inside}</message>")
}

fn outbound(server: &Server) -> usize {
    server.core.store.read(|state| {
        let messages = state.account(BOB).expect("he has one").messages();
        messages.iter().filter(|it| it.is_outbound()).count()
    })
}

/// What waits for Bob's session, as he would read it.
fn waiting(server: &Server) -> Vec<Stanza> {
    let session = server.core.table.session(BOB, "b").expect("it waits");
    let mut conn = server.resume(&session, 0).expect("it can be resumed");
    let mut stanzas = Vec::new();
    server.commit();
    loop {
        let durable = server.core.store.durable();
        let batch = conn.session.outbox.take(conn.number, durable, 1_000);
        if batch.entries.is_empty() {
            conn.ending = true;
            return stanzas;
        }
        let ready = batch
            .entries
            .into_iter()
            .filter_map(|entry| match entry.wire {
                Wire::Ready(outgoing) => Stanza::from_canonical(outgoing.to_bytes()).ok(),
                Wire::Stored { .. } | Wire::Wrapped(_) => None,
            });
        stanzas.extend(ready);
    }
}

#[test]
fn every_message_that_says_something_outlives_a_crash() {
    let server = federating(Server::new());
    let body = "<body>x</body>";
    for type_ in ["chat", "normal", "groupchat", "headline"] {
        send_stanza(&server, &message(type_, type_, body));
    }
    let no_store = "<no-store xmlns='urn:xmpp:hints'/>";
    send_stanza(
        &server,
        &message("no", "chat", &format!("{body}{no_store}")),
    );
    server.commit();
    assert_eq!(outbound(&server), 4);
    let server = federating(server.kill());
    assert_eq!(send_recorded(&server.core), 4);
}

/// Bob sends a message that is kept, one that is not, and a question.
fn send_three(server: &Server) {
    let no_store = "<body>x</body><no-store xmlns='urn:xmpp:hints'/>";
    send_stanza(server, &message("kept", "chat", "<body>x</body>"));
    send_stanza(server, &message("lost", "chat", no_store));
    send_stanza(
        server,
        "<iq xmlns='jabber:client' id='ask' type='get'><ping xmlns='urn:xmpp:ping'/></iq>",
    );
}

#[track_caller]
fn assert_unkept_came_back(server: &Server) {
    let heard = waiting(server);
    let id = |stanza: &Stanza| stanza.id().map(|id| id.into_owned()).unwrap_or_default();
    let ids: Vec<String> = heard.iter().map(id).collect();
    assert_eq!(ids, ["lost", "ask"]);
    let is_error = |stanza: &Stanza| stanza.type_().as_deref() == Some("error");
    assert!(heard.iter().all(is_error));
    assert_eq!(outbound(server), 1, "that one goes on its way");
}

#[test]
fn what_stands_in_no_log_comes_back_over_an_orderly_stop() {
    let server = federating(Server::new());
    let mut bob = server.bind_managed("b");
    server.hear(&mut bob);
    send_three(&server);
    server.cut(&bob);
    assert_unkept_came_back(&server.restart());
}

#[test]
fn what_was_sent_and_not_acknowledged_comes_back_over_an_orderly_stop() {
    let server = federating(Server::new());
    let mut bob = server.bind_managed("b");
    server.hear(&mut bob);
    send_three(&server);
    let link = server.core.remotes.all().remove(0);
    assert!(link.up(7));
    server.commit();
    let durable = server.core.store.durable();
    let mut tally = Tally::default();
    let taken = tally.take(&link, 7, durable, usize::MAX);
    assert_eq!(taken.parcels.len(), 3);
    link.lost(7, Vec::new(), 0);
    server.cut(&bob);
    assert_unkept_came_back(&server.restart());
}
