//! One test a stream error (RFC 6120 §4.9.3), and the order of the end.

use super::shell::{BIND, HEADER, STARTTLS, Shell, config};
use crate::stanza::{StreamError, StreamErrorCondition as C};
use crate::stream::Closed;

/// Asserts that the stream ended with this error, behind a header, with a footer.
#[track_caller]
fn assert_ended(shell: &Shell, said: &str, condition: C) {
    let Some(Closed::Error(error)) = &shell.closed else {
        panic!("{:?}: {said}", shell.closed)
    };
    assert_eq!(error.condition, condition, "{said}");
    let element = format!(
        "<{} xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>",
        condition.name()
    );
    assert!(said.contains(&format!("<stream:error>{element}")), "{said}");
    assert!(said.ends_with("</stream:error></stream:stream>"), "{said}");
}

#[track_caller]
fn header_fails(header: &str, condition: C) -> String {
    let mut shell = Shell::plain(config());
    let said = shell.say(header);
    assert_ended(&shell, &said, condition);
    assert!(
        said.starts_with("<?xml version='1.0'?><stream:stream "),
        "{said}"
    );
    said
}

#[track_caller]
fn first_element_fails(element: &str, condition: C) {
    let mut shell = Shell::plain(config());
    shell.say(HEADER);
    let said = shell.say(element);
    assert_ended(&shell, &said, condition);
    assert!(!said.contains("<?xml"), "the header is sent once: {said}");
}

#[track_caller]
fn bound_fails(element: &str, condition: C) {
    let mut shell = Shell::bound();
    let said = shell.say(element);
    assert_ended(&shell, &said, condition);
}

#[test]
fn bad_format_is_text_between_stanzas() {
    first_element_fails("hello", C::BadFormat);
}

#[test]
fn bad_namespace_prefix_is_a_stream_without_its_prefix() {
    header_fails(
        "<stream to='capulet.example' version='1.0' xmlns='jabber:client'>",
        C::BadNamespacePrefix,
    );
}

#[test]
fn connection_timeout_is_a_client_that_does_not_log_in() {
    let mut shell = Shell::plain(config());
    shell.now_ms = 29_999;
    shell.stream.timeout(shell.now_ms);
    assert_eq!(shell.run(), "");
    let said = shell.sleep();
    assert_eq!(shell.now_ms, 30_000);
    assert!(
        said.starts_with("<?xml"),
        "even to one that has said nothing: {said}"
    );
    assert_ended(&shell, &said, C::ConnectionTimeout);
}

#[test]
fn logging_in_does_not_buy_time_to_bind() {
    let mut shell = Shell::authenticated();
    let said = shell.sleep();
    assert_eq!(shell.now_ms, 30_000);
    assert_ended(&shell, &said, C::ConnectionTimeout);
}

#[test]
fn connection_timeout_is_a_client_that_is_silent_and_does_not_answer() {
    let mut shell = Shell::bound();
    let said = shell.sleep();
    assert_eq!(shell.now_ms, 15 * 60_000);
    assert!(said.contains("<ping xmlns='urn:xmpp:ping'/>"), "{said}");
    let said = shell.sleep();
    assert_ended(&shell, &said, C::ConnectionTimeout);
}

#[test]
fn white_space_is_a_sign_of_life() {
    let mut shell = Shell::bound();
    shell.now_ms = 14 * 60_000;
    assert_eq!(shell.say(" "), "");
    assert_eq!(shell.stream.deadline(), Some(29 * 60_000));
    assert!(shell.sleep().contains("ping"));
    assert_eq!(shell.say("\n"), "");
    assert_eq!(shell.stream.deadline(), Some((29 + 15) * 60_000));
}

#[test]
fn half_a_stanza_is_a_sign_of_life_once() {
    let mut shell = Shell::bound();
    assert_eq!(shell.say("<message><bo"), "");
    assert!(shell.sleep().contains("ping"));
    let said = shell.sleep();
    assert_ended(&shell, &said, C::ConnectionTimeout);
}

#[test]
fn host_unknown_is_another_domain_or_none() {
    let said = header_fails(
        &HEADER.replace("capulet.example", "montague.example"),
        C::HostUnknown,
    );
    assert!(
        said.contains(" from='capulet.example' "),
        "names one that is served: {said}"
    );
    header_fails(&HEADER.replace("to='capulet.example'", ""), C::HostUnknown);
}

#[test]
fn improper_addressing_is_an_address_that_is_none() {
    header_fails(
        &HEADER.replace("to='capulet.example'", "to='a@capulet.example'"),
        C::ImproperAddressing,
    );
    header_fails(
        &HEADER.replace("to='capulet.example'", "to='capulet.example/a'"),
        C::ImproperAddressing,
    );
    header_fails(
        &HEADER.replace("to='capulet.example'", "to='a b'"),
        C::ImproperAddressing,
    );
    header_fails(
        &HEADER.replace("to=", "from='@' to="),
        C::ImproperAddressing,
    );
}

#[test]
fn invalid_from_is_a_header_in_another_name_than_the_login() {
    let mut shell = Shell::direct_tls();
    shell.say(HEADER);
    shell.log_in("pencil");
    let said = shell.say(&HEADER.replace("to=", "from='romeo@capulet.example' to="));
    assert_ended(&shell, &said, C::InvalidFrom);
}

#[test]
fn invalid_from_is_a_stanza_in_another_name() {
    bound_fails("<message from='romeo@capulet.example'/>", C::InvalidFrom);
    bound_fails(
        "<message from='juliet@capulet.example/Hall'/>",
        C::InvalidFrom,
    );
    let mut shell = Shell::bound();
    for from in [
        "juliet@capulet.example",
        "juliet@capulet.example/Balcony",
        "Juliet@CAPULET.example/Balcony",
    ] {
        assert_eq!(shell.say(&format!("<message from='{from}'/>")), "");
    }
    assert_eq!(shell.events.len(), 3);
}

#[test]
fn invalid_namespace_is_another_content_or_stream() {
    header_fails(
        &HEADER.replace("jabber:client", "jabber:server"),
        C::InvalidNamespace,
    );
    header_fails(
        &HEADER.replace("http://etherx.jabber.org/streams", "urn:x"),
        C::InvalidNamespace,
    );
}

#[test]
fn invalid_xml_is_an_acknowledgement_without_a_count() {
    bound_fails("<a xmlns='urn:xmpp:sm:3'/>", C::InvalidXml);
    bound_fails("<a xmlns='urn:xmpp:sm:3' h='-1'/>", C::InvalidXml);
}

#[test]
fn not_authorized_is_anything_before_the_login() {
    first_element_fails("<message to='a@b'/>", C::NotAuthorized);
    first_element_fails(
        "<iq type='get' id='1'><query xmlns='jabber:iq:register'/></iq>",
        C::NotAuthorized,
    );
    first_element_fails("<unknown xmlns='urn:x'/>", C::NotAuthorized);
    let mut shell = Shell::direct_tls();
    shell.say(HEADER);
    let said = shell.say(BIND);
    assert_ended(&shell, &said, C::NotAuthorized);
}

#[test]
fn not_authorized_is_a_stanza_to_others_before_binding() {
    let mut shell = Shell::authenticated();
    let said = shell.say("<message to='romeo@montague.example'/>");
    assert_ended(&shell, &said, C::NotAuthorized);
}

#[test]
fn not_well_formed_is_broken_xml() {
    first_element_fails("<a xmlns='urn:x'><b></a></b>", C::NotWellFormed);
    first_element_fails("<p:a/>", C::NotWellFormed);
    header_fails("GET / HTTP/1.1\r\n\r\n", C::NotWellFormed);
}

#[test]
fn policy_violation_is_data_behind_starttls() {
    for behind in ["<auth/>", " <auth/>", HEADER] {
        let mut shell = Shell::plain(config());
        shell.say(HEADER);
        let said = shell.say(&format!("{STARTTLS}{behind}"));
        assert!(!said.contains("proceed"), "{said}");
        assert_ended(&shell, &said, C::PolicyViolation);
    }
}

#[test]
fn a_line_break_behind_starttls_is_thrown_away() {
    let mut shell = Shell::plain(config());
    shell.say(HEADER);
    let said = shell.say(&format!("{STARTTLS}\r\n"));
    assert!(said.contains("<proceed"), "{said}");
}

#[test]
fn policy_violation_is_too_much_before_authentication() {
    let mut shell = Shell::direct_tls();
    shell.say(HEADER);
    let said = shell.say(&format!(
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{}",
        "A".repeat(10_000)
    ));
    assert_ended(&shell, &said, C::PolicyViolation);
    let mut shell = Shell::direct_tls();
    shell.say(HEADER);
    let said = shell.say(&"<a xmlns='urn:x'><b/>".repeat(20));
    assert_ended(&shell, &said, C::PolicyViolation);
}

#[test]
fn policy_violation_is_a_stanza_that_is_too_big() {
    let fits = format!("<message><body>{}</body></message>", "x".repeat(260_000));
    let mut shell = Shell::bound();
    assert_eq!(shell.say(&fits), "");
    assert_eq!(shell.events.len(), 1);
    bound_fails(
        &format!("<message><body>{}", "x".repeat(262_144)),
        C::PolicyViolation,
    );
    bound_fails(
        &format!("<message>{}", "<a>".repeat(64)),
        C::PolicyViolation,
    );
    bound_fails(
        &format!("<message>{}", "<a/>".repeat(25_000)),
        C::PolicyViolation,
    );
}

#[test]
fn policy_violation_is_another_domain_behind_a_restart() {
    let mut shell = Shell::plain(config());
    shell.say(HEADER);
    shell.say(STARTTLS);
    let said = shell.say(&HEADER.replace("capulet.example", "second.example"));
    assert_ended(&shell, &said, C::PolicyViolation);
}

#[test]
fn restricted_xml_is_what_xmpp_leaves_out() {
    for element in [
        "<!-- x -->",
        "<?x y?>",
        "<!DOCTYPE a>",
        "<a xmlns='urn:x'>&lol;</a>",
    ] {
        first_element_fails(element, C::RestrictedXml);
    }
    bound_fails(
        "<message><body><!-- x --></body></message>",
        C::RestrictedXml,
    );
}

#[test]
fn undefined_condition_is_more_handled_than_sent() {
    let mut shell = Shell::bound();
    shell.stream.close_handled_count_too_high(10, 8);
    let said = shell.run();
    assert_eq!(
        said,
        "<stream:error><undefined-condition xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
         <handled-count-too-high xmlns='urn:xmpp:sm:3' h='10' send-count='8'/></stream:error>\
         </stream:stream>"
    );
}

#[test]
fn unsupported_encoding_is_not_utf_8() {
    let mut shell = Shell::bound();
    let said = shell.say_bytes(b"<message><body>\xff</body></message>");
    assert_ended(&shell, &said, C::UnsupportedEncoding);
    header_fails(
        "<?xml version='1.0' encoding='latin1'?>",
        C::UnsupportedEncoding,
    );
}

#[test]
fn unsupported_stanza_type_is_an_unknown_first_level_element() {
    bound_fails("<unknown xmlns='urn:x'/>", C::UnsupportedStanzaType);
    bound_fails("<enable xmlns='urn:xmpp:sm:2'/>", C::UnsupportedStanzaType);
    bound_fails(STARTTLS, C::UnsupportedStanzaType);
    let mut shell = Shell::authenticated();
    let said = shell.say("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'/>");
    assert_ended(&shell, &said, C::UnsupportedStanzaType);
}

#[test]
fn unsupported_version_is_one_before_1_0() {
    header_fails(
        &HEADER.replace("version='1.0' xmlns", "xmlns"),
        C::UnsupportedVersion,
    );
    header_fails(
        &HEADER.replace("version='1.0' xmlns", "version='0.9' xmlns"),
        C::UnsupportedVersion,
    );
    header_fails(
        &HEADER.replace("version='1.0' xmlns", "version='x' xmlns"),
        C::UnsupportedVersion,
    );
    let mut shell = Shell::plain(config());
    let said = shell.say(&HEADER.replace("version='1.0' xmlns", "version='1.7' xmlns"));
    assert!(
        said.contains("version='1.0'") && shell.closed.is_none(),
        "the lower one is used"
    );
}

#[test]
fn the_shell_ends_a_stream_with_an_error_of_its_own() {
    let mut shell = Shell::bound();
    shell
        .stream
        .close(StreamError::new(C::SystemShutdown, "back soon"));
    let said = shell.run();
    assert_ended(&shell, &said, C::SystemShutdown);
    assert!(said.contains(">back soon</text>"), "{said}");
    shell.stream.close(StreamError::new(C::Conflict, ""));
    assert_eq!(shell.say("<message/>"), "", "nothing follows the end");
}

#[test]
fn an_error_during_the_tls_handshake_is_not_said_in_the_clear() {
    let mut shell =
        Shell::plain(config()).leaving(|action| matches!(action, crate::stream::Action::StartTls));
    shell.say(HEADER);
    assert_eq!(
        shell.say(STARTTLS),
        "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
    );
    assert!(shell.stream.is_waiting());
    assert_eq!(shell.sleep(), "");
    assert!(matches!(shell.closed, Some(Closed::Error(_))));
    shell.stream.tls_established(super::shell::tls(), 1);
    assert_eq!(shell.run(), "", "an answer that comes too late is ignored");
}

#[test]
fn a_client_that_closes_is_answered() {
    let mut shell = Shell::bound();
    assert_eq!(shell.say("</stream:stream>"), "</stream:stream>");
    assert_eq!(shell.closed, Some(Closed::ByPeer));
}

#[test]
fn a_client_that_fails_is_answered() {
    let mut shell = Shell::bound();
    let error =
        "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>";
    assert_eq!(shell.say(error), "</stream:stream>");
    assert_eq!(shell.closed, Some(Closed::PeerError));
}
