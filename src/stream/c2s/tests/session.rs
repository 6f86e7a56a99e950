//! Binding (RFC 6120 §7) and stream management (XEP-0198).

use std::sync::Arc;

use super::shell::{BIND, ENABLE, HEADER, Shell, auth, config, tls};
use crate::addr::Jid;
use crate::stanza::{Condition, StanzaError};
use crate::stream::c2s::C2s;
use crate::stream::sm::SmEnabled;
use crate::stream::{Action, C2sConfig};

fn failed(condition: &str) -> String {
    format!(
        "<failed xmlns='urn:xmpp:sm:3'><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>"
    )
}

#[test]
fn a_resource_is_made_up_when_none_is_named() {
    let mut shell = Shell::authenticated().leaving(|action| matches!(action, Action::Bind { .. }));
    assert_eq!(
        shell.say("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>"),
        ""
    );
    let Some(Action::Bind {
        jid,
        chosen_by_client: false,
    }) = shell.unanswered.pop()
    else {
        panic!("{:?}", shell.unanswered);
    };
    assert_eq!(jid.resource().unwrap().len(), 32);
    shell.stream.bound(Ok(jid.clone()), 0);
    assert_eq!(
        shell.run(),
        format!(
            "<iq type='result' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>{jid}</jid></bind></iq>"
        )
    );
    assert_eq!(shell.stream.jid(), Some(&jid));
    assert!(shell.stream.is_bound());
}

#[test]
fn the_shell_decides_about_conflicts() {
    let mut shell = Shell::authenticated().leaving(|action| matches!(action, Action::Bind { .. }));
    shell.say(BIND);
    assert!(matches!(
        &shell.unanswered[0],
        Action::Bind {
            chosen_by_client: true,
            ..
        }
    ));
    shell.stream.bound(Err(StanzaError::conflict("in use")), 0);
    let said = shell.run();
    assert!(
        said.contains("<conflict ") && said.contains("type='error'"),
        "{said}"
    );
    shell.say(BIND);
    let other = Jid::parse("juliet@capulet.example/Other").unwrap();
    shell.stream.bound(Ok(other), 0);
    assert!(
        shell
            .run()
            .contains("<jid>juliet@capulet.example/Other</jid>")
    );
}

#[test]
fn a_malformed_resource_is_a_bad_request() {
    let mut shell = Shell::authenticated();
    let said = shell.say(&BIND.replace("Balcony", "&#x9;"));
    assert!(said.contains("<bad-request "), "{said}");
    let said = shell.say(&BIND.replace("Balcony", &"x".repeat(1024)));
    assert!(said.contains("<bad-request "), "{said}");
    assert!(shell.say(BIND).contains("<jid>"));
}

#[test]
fn before_binding_a_request_to_the_server_is_answered() {
    let mut shell = Shell::authenticated();
    for to in ["", " to='capulet.example'", " to='juliet@capulet.example'"] {
        let said = shell.say(&format!(
            "<iq type='get' id='1'{to}><ping xmlns='urn:xmpp:ping'/></iq>"
        ));
        assert!(said.contains("<not-allowed "), "{said}");
    }
    assert!(
        shell
            .say("<iq type='get' id='1' to='x.example'><p xmlns='urn:x'/></iq>")
            .contains("<not-authorized")
    );
}

#[test]
fn nobody_binds_in_the_name_of_somebody_else() {
    let bind_to = |to: &str| BIND.replace("id='b'", &format!("id='b' to='{to}'"));
    for to in ["romeo@capulet.example", "x.example", "@"] {
        let said = Shell::authenticated().say(&bind_to(to));
        assert!(said.contains("<not-authorized"), "{to}: {said}");
    }
    for to in ["juliet@capulet.example", "capulet.example"] {
        let said = Shell::authenticated().say(&bind_to(to));
        assert!(said.contains("<jid>"), "{to}: {said}");
    }
}

#[test]
fn stream_management_is_enabled_once_and_after_binding() {
    let mut shell = Shell::authenticated();
    assert_eq!(shell.say(ENABLE), failed("unexpected-request"));
    shell.say(BIND);
    assert_eq!(
        shell.say("<r xmlns='urn:xmpp:sm:3'/>"),
        failed("unexpected-request")
    );
    assert_eq!(
        shell.say("<a xmlns='urn:xmpp:sm:3' h='0'/>"),
        failed("unexpected-request")
    );
    assert_eq!(
        shell.say(ENABLE),
        "<enabled xmlns='urn:xmpp:sm:3' id='sm-1' resume='true' max='300'/>"
    );
    assert_eq!(
        shell.say("<resume xmlns='urn:xmpp:sm:3' previd='x' h='0'/>"),
        failed("unexpected-request")
    );
    assert!(shell.say(ENABLE).contains("<policy-violation "));
}

#[test]
fn counts_go_both_ways() {
    let mut shell = Shell::bound();
    shell.say(ENABLE);
    assert_eq!(
        shell.say("<message/><presence/><r xmlns='urn:xmpp:sm:3'/>"),
        "<a xmlns='urn:xmpp:sm:3' h='2'/>"
    );
    shell.stream.request_acknowledgement();
    assert_eq!(shell.run(), "<r xmlns='urn:xmpp:sm:3'/>");
    shell.events.clear();
    assert_eq!(shell.say("<a xmlns='urn:xmpp:sm:3' h='4294967295'/>"), "");
    assert_eq!(shell.events, ["handled 4294967295"]);
    assert_eq!(
        shell.sleep(),
        "<r xmlns='urn:xmpp:sm:3'/>",
        "a silent client is asked"
    );
}

#[test]
fn without_stream_management_nothing_is_acknowledged() {
    let mut shell = Shell::bound();
    shell.stream.acknowledge(1);
    shell.stream.request_acknowledgement();
    assert_eq!(shell.run(), "");
}

#[test]
fn the_shell_can_refuse_to_enable_or_to_resume_later() {
    let mut shell = Shell::bound().leaving(|action| matches!(action, Action::SmEnable { .. }));
    shell.say("<enable xmlns='urn:xmpp:sm:3' max='60'/>");
    assert!(matches!(
        shell.unanswered.pop(),
        Some(Action::SmEnable {
            resume: false,
            max_seconds: Some(60)
        })
    ));
    shell.stream.sm_failed(Condition::ResourceConstraint, None);
    assert_eq!(shell.run(), failed("resource-constraint"));
    shell.say("<enable xmlns='urn:xmpp:sm:3' resume='1'/>");
    shell.stream.sm_enabled(&SmEnabled::default());
    assert_eq!(shell.run(), "<enabled xmlns='urn:xmpp:sm:3'/>");
}

#[test]
fn a_stream_is_resumed_instead_of_bound() {
    let mut shell = Shell::authenticated();
    assert_eq!(
        shell.say("<resume xmlns='urn:xmpp:sm:3' previd='gone' h='3'/>"),
        failed("item-not-found")
    );
    assert_eq!(
        shell.say("<resume xmlns='urn:xmpp:sm:3' previd='sm-1'/>"),
        failed("bad-request")
    );
    assert_eq!(
        shell.say("<resume xmlns='urn:xmpp:sm:3' previd='sm-1' h='3'/>"),
        "<resumed xmlns='urn:xmpp:sm:3' previd='sm-1' h='7'/>"
    );
    assert_eq!(
        shell.stream.jid().unwrap().as_str(),
        "juliet@capulet.example/Balcony"
    );
    shell.events.clear();
    assert_eq!(shell.say("<message/><a xmlns='urn:xmpp:sm:3' h='4'/>"), "");
    assert_eq!(shell.events, ["<message/>", "handled 4"]);
}

#[test]
fn a_failed_resumption_may_be_followed_by_binding() {
    let mut shell = Shell::authenticated();
    shell.say("<resume xmlns='urn:xmpp:sm:3' previd='gone' h='3'/>");
    assert!(shell.say(BIND).contains("<jid>"));
    assert!(shell.say(ENABLE).starts_with("<enabled"));
}

#[test]
fn stream_management_that_is_off_is_not_offered_nor_done() {
    let mut shell = Shell::new(
        C2sConfig {
            stream_management: false,
            ..config()
        },
        Some(tls()),
    );
    shell.say(HEADER);
    shell.say(&auth("PLAIN", b"\0juliet\0pencil"));
    assert!(!shell.say(HEADER).contains("urn:xmpp:sm:3"));
    assert_eq!(
        shell.say("<resume xmlns='urn:xmpp:sm:3' previd='sm-1' h='3'/>"),
        failed("feature-not-implemented")
    );
    shell.say(BIND);
    assert_eq!(shell.say(ENABLE), failed("feature-not-implemented"));
}

#[test]
fn a_bound_stream_that_rests_is_small() {
    assert!(
        size_of::<C2s>() <= 320,
        "{} bytes a session",
        size_of::<C2s>()
    );
    let mut shell = Shell::bound();
    shell.say("<message/><presence/>");
    assert_eq!(
        shell.stream.actions.capacity(),
        0,
        "and holds no room for actions"
    );
    assert!(shell.stream.login.is_none());
    let other = Shell::bound();
    let scope = |shell: &Shell| Arc::as_ptr(shell.stream.scope.as_ref().unwrap());
    assert_eq!(
        scope(&shell),
        scope(&other),
        "the usual header is remembered once"
    );
}
