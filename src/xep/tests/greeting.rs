//! What a session is shown when it becomes available, however much that is.

use super::presence::gists;
use super::*;

#[test]
fn a_greeting_that_is_longer_than_the_outbox_comes_in_slices() {
    let server = Server::new();
    server.accounts(&["juliet", "romeo", "tybalt", "nurse"]);
    let status = "x".repeat(9_000);
    let friends = ["romeo", "tybalt", "nurse"];
    let mut there = Vec::new();
    for friend in friends {
        server.befriend("juliet", friend);
        for n in 0..16 {
            let client = server.connect(&format!("{friend}/{n:02}"));
            client.post(&format!("<presence><status>{status}</status></presence>"));
            client.hear();
            there.push(client);
        }
    }
    let juliet = server.connect("juliet/r");
    juliet.post("<presence/>");
    let first = gists(&juliet.hear_some());
    assert!(first.len() < 60, "{first:?}");
    // Two who have not had their turn change meanwhile, one of them leaves.
    there[40].send("<presence><show>dnd</show></presence>");
    there[41].leave();
    // A contact that has been shown changes its item, which comes to the end of the row.
    juliet.post(
        "<iq type='set' id='1'><query xmlns='jabber:iq:roster'>\
         <item jid='romeo@verona.example' name='R'/></query></iq>",
    );
    let mut heard = first;
    heard.extend(juliet.met());
    let mut last = std::collections::BTreeMap::new();
    for gist in heard.iter().filter(|gist| gist.contains('/')) {
        let mut words = gist.splitn(2, ' ');
        let type_ = words.next().expect("a type").to_owned();
        let rest = words.next().expect("an address");
        let from = rest.split(' ').next().expect("an address").to_owned();
        last.insert(from, (type_, rest.ends_with("dnd")));
    }
    assert_eq!(last.len(), 3 * 16 + 1);
    for (from, (type_, is_dnd)) in last {
        assert_eq!(type_ == "unavailable", from == "nurse/09", "{from}");
        assert_eq!(is_dnd, from == "nurse/08", "{from}");
    }
    assert!(!juliet.session.waits_for_room() && juliet.session.outbox.can_be_resumed());
}

#[test]
fn whoever_leaves_during_the_greeting_is_shown_no_more() {
    let server = Server::new();
    server.accounts(&["juliet", "romeo", "tybalt", "nurse", "benvolio"]);
    let presence = format!(
        "<presence><status>{}</status></presence>",
        "x".repeat(9_000)
    );
    let mut there = Vec::new();
    for friend in ["romeo", "tybalt", "nurse", "benvolio"] {
        server.befriend("juliet", friend);
        for n in 0..16 {
            let client = server.connect(&format!("{friend}/{n}"));
            client.post(&presence);
            client.hear();
            there.push(client);
        }
    }
    let juliet = server.connect("juliet/r");
    juliet.post("<presence/>");
    juliet.hear_some();
    assert!(juliet.session.is_greeted());
    assert_eq!(
        juliet.sends("<presence type='unavailable'/>"),
        ["unavailable juliet/r"]
    );
    assert!(!juliet.session.waits_for_room());
}
