//! The roster (RFC 6121 §2).

use super::*;

const QUERY: &str = "<query xmlns='jabber:iq:roster'/>";

fn items(inner: &str) -> String {
    format!("<query xmlns='jabber:iq:roster'>{inner}</query>")
}

/// The `<query/>` of a stanza without its version, and the version.
fn query(xml: &str) -> (String, u64) {
    let stanza = stanza(xml);
    let query = stanza.child("query", "jabber:iq:roster").expect("a query");
    let version = query
        .attr("ver")
        .expect("a version")
        .parse()
        .expect("a number");
    let inner = std::str::from_utf8(query.raw_inner())
        .expect("text")
        .to_owned();
    (inner, version)
}

/// The item that a push holds.
fn pushed(xml: &str) -> String {
    let push = stanza(xml);
    assert!(push.is_type("set") && push.from().is_none(), "{xml}");
    assert!(push.id().is_some_and(|id| !id.is_empty()), "{xml}");
    query(xml).0
}

#[test]
fn an_item_is_pushed_to_whoever_asked_for_the_roster() {
    let server = Server::new();
    server.accounts(&["juliet"]);
    let balcony = server.connect("juliet/balcony");
    let chamber = server.connect("juliet/chamber");
    let mute = server.connect("juliet/mute");
    assert_eq!(query(&balcony.get(QUERY)).0, "");
    chamber.get(QUERY);
    let item = "<item jid='nurse@verona.example' name='Nurse'><group>Servants</group></item>";
    let heard = balcony.send(&format!("<iq type='set' id='s'>{}</iq>", items(item)));
    let wanted = "<item jid='nurse@verona.example' name='Nurse' subscription='none'>\
                  <group>Servants</group></item>";
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert_eq!(pushed(&heard[0]), wanted);
    assert!(heard[0].contains("to='juliet@verona.example/balcony'"));
    assert!(stanza(&heard[1]).is_type("result"));
    let heard = chamber.hear();
    assert_eq!(heard.len(), 1);
    assert_eq!(pushed(&heard[0]), wanted);
    assert!(mute.hear().is_empty());
    assert_eq!(query(&mute.get(QUERY)).0, wanted);
}

#[test]
fn an_item_is_replaced_as_a_whole() {
    let server = Server::new();
    server.accounts(&["juliet"]);
    let juliet = server.connect("juliet/r");
    juliet.set(&items(
        "<item jid='n@verona.example' name='N'><group>A</group><group>B</group></item>",
    ));
    juliet.set(&items(
        "<item jid='n@verona.example'><group>C</group></item>",
    ));
    let (roster, _) = query(&juliet.get(QUERY));
    assert_eq!(
        roster,
        "<item jid='n@verona.example' subscription='none'><group>C</group></item>"
    );
}

#[test]
fn the_server_alone_says_how_a_subscription_stands() {
    let server = Server::new();
    server.accounts(&["juliet"]);
    let juliet = server.connect("juliet/r");
    juliet.set(&items(
        "<item jid='n@verona.example' subscription='both' ask='subscribe' approved='true'/>",
    ));
    assert_eq!(server.item("juliet", "n"), "none");
}

#[test]
fn addresses_are_prepared_before_they_are_kept() {
    let server = Server::new();
    server.accounts(&["juliet"]);
    let juliet = server.connect("juliet/r");
    juliet.set(&items("<item jid='Nurse@Verona.Example'/>"));
    juliet.set(&items("<item jid='nurse@verona.example' name='N'/>"));
    let (roster, _) = query(&juliet.get(QUERY));
    assert_eq!(
        roster,
        "<item jid='nurse@verona.example' name='N' subscription='none'/>"
    );
}

#[test]
fn sets_that_make_no_sense_are_refused_and_change_nothing() {
    let server = Server::new();
    server.accounts(&["juliet"]);
    let juliet = server.connect("juliet/r");
    let long = "x".repeat(1_024);
    let many: String = (0..65).map(|n| format!("<group>{n}</group>")).collect();
    let refused = [
        ("", "bad-request"),
        ("<item jid='a@b'/><item jid='c@b'/>", "bad-request"),
        ("<other jid='a@b'/>", "bad-request"),
        ("<item/>", "bad-request"),
        ("<item jid='@b'/>", "jid-malformed"),
        ("<item jid='juliet@verona.example'/>", "not-allowed"),
        ("<item jid='a@b'><group/></item>", "not-acceptable"),
        (
            "<item jid='a@b'><group>x</group><group>x</group></item>",
            "bad-request",
        ),
        (
            &format!("<item jid='a@b' name='{long}'/>"),
            "not-acceptable",
        ),
        (
            &format!("<item jid='a@b'><group>{long}</group></item>"),
            "not-acceptable",
        ),
        (&format!("<item jid='a@b'>{many}</item>"), "not-acceptable"),
        ("<item jid='a@b' subscription='remove'/>", "item-not-found"),
    ];
    for (inner, condition) in refused {
        let reply = juliet.set(&items(inner));
        assert_eq!(refusal(&reply).1, condition, "{inner}");
    }
    assert_eq!(query(&juliet.get(QUERY)).0, "");
}

#[test]
fn a_roster_holds_only_so_much() {
    let server = Server::new();
    server.accounts(&["juliet"]);
    let juliet = server.connect("juliet/r");
    let name = "x".repeat(1_000);
    let groups: String = (0..9)
        .map(|n| format!("<group>{name}{n}</group>"))
        .collect();
    let reply = juliet.set(&items(&format!("<item jid='a@b'>{groups}</item>")));
    assert!(stanza(&reply).is_error());
    let max = StoreLimits::default().roster_items_max;
    for n in 0..max {
        let reply = juliet.set(&items(&format!("<item jid='{n}@b'/>")));
        assert!(stanza(&reply).is_type("result"), "{n} {reply}");
    }
    let reply = juliet.set(&items("<item jid='one-more@b'/>"));
    assert_eq!(refusal(&reply).1, "resource-constraint");
    let reply = juliet.set(&items("<item jid='0@b' name='changed'/>"));
    assert!(stanza(&reply).is_type("result"));
}

#[test]
fn nobody_reads_or_writes_the_roster_of_another() {
    let server = Server::new();
    server.accounts(&["juliet", "romeo"]);
    let romeo = server.connect("romeo/r");
    for of in ["juliet@verona.example", "nobody@verona.example"] {
        assert_refused(&romeo.get_of(of, QUERY), "auth", "forbidden");
        let set = items("<item jid='romeo@verona.example'/>");
        assert_refused(&romeo.set_of(of, &set), "auth", "forbidden");
    }
    let own = romeo.get_of("romeo@verona.example", QUERY);
    assert_eq!(stanza(&own).from().as_deref(), Some("romeo@verona.example"));
}

#[test]
fn a_client_that_knows_the_version_is_told_what_has_changed_since() {
    let server = Server::new();
    server.accounts(&["juliet"]);
    let juliet = server.connect("juliet/r");
    for contact in ["a@b", "c@b", "d@b"] {
        juliet.set(&items(&format!("<item jid='{contact}'/>")));
    }
    let (_, known) = query(&juliet.get(QUERY));
    let ask = |known: &str| {
        let client = server.connect("juliet/other");
        let query = format!("<query xmlns='jabber:iq:roster' ver='{known}'/>");
        client.send(&format!("<iq type='get' id='1'>{query}</iq>"))
    };
    let unchanged = ask(&known.to_string());
    assert_eq!(unchanged.len(), 1);
    assert_eq!(stanza(&unchanged[0]).payload(), None);
    juliet.set_all(&items("<item jid='a@b' subscription='remove'/>"));
    juliet.set_all(&items("<item jid='c@b' name='C'/>"));
    let heard = ask(&known.to_string());
    assert_eq!(stanza(&heard[0]).payload(), None);
    assert_eq!(pushed(&heard[1]), "<item jid='a@b' subscription='remove'/>");
    assert_eq!(
        pushed(&heard[2]),
        "<item jid='c@b' name='C' subscription='none'/>"
    );
    assert!(known < query(&heard[1]).1 && query(&heard[1]).1 < query(&heard[2]).1);
    // What nobody can have been told, and what is no version at all.
    for unknown in ["", "0", "999999999", "-1", "x"] {
        let whole = ask(unknown);
        assert_eq!(whole.len(), 1, "{unknown}");
        assert_eq!(query(&whole[0]).1, query(&heard[2]).1, "{unknown}");
    }
}

#[test]
fn a_push_tells_the_version_that_the_roster_has_with_it() {
    let server = Server::new();
    server.accounts(&["juliet"]);
    let juliet = server.connect("juliet/r");
    juliet.get(QUERY);
    let set = format!("<iq type='set' id='s'>{}</iq>", items("<item jid='a@b'/>"));
    let version = query(&juliet.send(&set)[0]).1;
    assert_eq!(query(&juliet.get(QUERY)).1, version);
    // The same again is no change, and yet answered with a push (RFC 6121 §2.4.2).
    assert_eq!(query(&juliet.send(&set)[0]).1, version);
}

#[test]
fn a_removal_ends_both_directions_of_the_subscription() {
    let server = Server::new();
    server.accounts(&["juliet", "romeo"]);
    server.befriend("juliet", "romeo");
    let juliet = server.log_in("juliet/r");
    let romeo = server.log_in("romeo/r");
    juliet.hear();
    let item = "<item jid='romeo@verona.example' subscription='remove'/>";
    let heard = juliet.send(&format!("<iq type='set' id='s'>{}</iq>", items(item)));
    assert_eq!(pushed(&heard[0]), item);
    assert_eq!(server.item("juliet", "romeo"), "-");
    assert_eq!(server.item("romeo", "juliet"), "none");
    let types: Vec<String> = romeo
        .hear()
        .iter()
        .map(|xml| stanza(xml).type_().unwrap_or_default().into_owned())
        .collect();
    let wanted = ["unsubscribe", "set", "unavailable", "unsubscribed", "set"];
    assert_eq!(types, wanted);
}

#[test]
fn a_removal_withdraws_a_request_and_refuses_one() {
    let server = Server::new();
    server.accounts(&["juliet", "romeo"]);
    let juliet = server.log_in("juliet/r");
    let romeo = server.log_in("romeo/r");
    juliet.send("<presence type='subscribe' to='romeo@verona.example'/>");
    romeo.send("<presence type='subscribe' to='juliet@verona.example'/>");
    juliet.set_all(&items(
        "<item jid='romeo@verona.example' subscription='remove'/>",
    ));
    assert_eq!(server.item("juliet", "romeo"), "-");
    assert_eq!(server.item("romeo", "juliet"), "none");
    for local in ["juliet", "romeo"] {
        let again = server.connect(&format!("{local}/again"));
        let heard = again.send("<presence/>").concat();
        assert!(!heard.contains("subscribe"), "{heard}");
    }
}
