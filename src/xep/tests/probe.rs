//! Presence probes (RFC 6121 §4.3, §4.6.6): what they tell, and what not.

use super::presence::{friends, gists};

const PROBE: &str = "<presence id='p' type='probe' to='juliet@verona.example'/>";

#[test]
fn a_probe_shows_a_subscriber_every_available_resource() {
    let server = friends();
    let romeo = server.log_in("romeo/r");
    let silent = server.connect("juliet/silent");
    server
        .log_in("juliet/a")
        .send("<presence id='1'><show>away</show></presence>");
    server.log_in("juliet/b");
    romeo.hear();
    let heard = romeo.send(PROBE);
    assert_eq!(
        gists(&heard),
        ["available juliet/a away", "available juliet/b"]
    );
    assert!(heard[0].contains("id='1'") && !heard[1].contains("id="));
    assert!(silent.hear().is_empty());
}

#[test]
fn a_probe_of_somebody_who_is_away_says_since_when() {
    let server = friends();
    let romeo = server.log_in("romeo/r");
    let heard = romeo.send(PROBE);
    assert_eq!(
        heard,
        [
            "<presence type='unavailable' id='p' from='juliet@verona.example' \
          to='romeo@verona.example/r'/>"
        ]
    );
    server.log_in("juliet/r").leave();
    romeo.hear();
    let heard = romeo.send(PROBE);
    assert!(
        heard[0].contains("stamp='2026-01-02T03:04:05Z'"),
        "{heard:?}"
    );
    assert_eq!(gists(&heard), ["unavailable juliet"]);
}

#[test]
fn a_probe_of_one_resource_says_only_whether_it_is_there() {
    let server = friends();
    let romeo = server.log_in("romeo/r");
    server
        .log_in("juliet/a")
        .send("<presence><show>away</show></presence>");
    romeo.hear();
    let to = |to: &str| {
        romeo.sends(&format!(
            "<presence type='probe' to='juliet@verona.example/{to}'/>"
        ))
    };
    assert_eq!(to("a"), ["available juliet/a"]);
    assert_eq!(to("b"), ["unavailable juliet/b"]);
}

#[test]
fn a_probe_of_a_stranger_is_refused_whether_they_are_there_or_not() {
    let server = friends();
    let tybalt = server.log_in("tybalt/r");
    let away = tybalt.send(PROBE);
    server.log_in("juliet/r");
    assert_eq!(tybalt.send(PROBE), away);
    assert_eq!(gists(&away), ["unsubscribed juliet"]);
    let one = PROBE.replace("example'", "example/r'");
    assert_eq!(tybalt.send(&one), away);
    let nobody = PROBE.replace("juliet", "nobody");
    assert_eq!(tybalt.send(&nobody)[0].replace("nobody", "juliet"), away[0]);
}

#[test]
fn a_probe_does_not_cancel_a_request_that_waits() {
    let server = friends();
    let tybalt = server.log_in("tybalt/r");
    tybalt.send("<presence type='subscribe' to='juliet@verona.example'/>");
    tybalt.send(PROBE);
    assert_eq!(server.item("tybalt", "juliet"), "none+ask");
}

#[test]
fn whoever_got_directed_presence_may_probe_that_resource() {
    let server = friends();
    let tybalt = server.log_in("tybalt/r");
    let juliet = server.log_in("juliet/r");
    server.log_in("juliet/other");
    juliet.send("<presence to='tybalt@verona.example'><show>dnd</show></presence>");
    tybalt.hear();
    let to = |to: &str| {
        tybalt.sends(&format!(
            "<presence type='probe' to='juliet@verona.example{to}'/>"
        ))
    };
    assert_eq!(to("/r"), ["available juliet/r"]);
    assert_eq!(to("/other"), ["unsubscribed juliet"]);
    assert_eq!(to(""), ["unsubscribed juliet"]);
    juliet.send("<presence to='tybalt@verona.example' type='unavailable'/>");
    tybalt.hear();
    assert_eq!(to("/r"), ["unsubscribed juliet"]);
}

#[test]
fn one_may_probe_oneself() {
    let server = friends();
    let juliet = server.log_in("juliet/r");
    assert_eq!(
        juliet.sends("<presence type='probe'/>"),
        ["available juliet/r"]
    );
}
