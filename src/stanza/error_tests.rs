//! Every condition is written as its specification says and read back.

use super::*;

fn written(write: impl Fn(&mut Writer)) -> String {
    let mut writer = Writer::new();
    write(&mut writer);
    String::from_utf8_lossy(&writer.finish()).into_owned()
}

#[test]
fn every_stanza_error_is_read_back() {
    assert_eq!(Condition::ALL.len(), 22);
    for &condition in Condition::ALL {
        let error = StanzaError::new(condition, "why <not>");
        let xml = written(|writer| error.write(writer));
        let element = Element::from_canonical(xml.as_bytes()).expect("an element");
        assert_eq!(StanzaError::read(&element), error, "{xml}");
    }
    for &type_ in ErrorType::ALL {
        let error = StanzaError::bad_request("").with_type(type_);
        let xml = written(|writer| error.write(writer));
        assert_eq!(
            StanzaError::read(&Element::from_canonical(xml.as_bytes()).expect("an element")),
            error
        );
    }
}

#[test]
fn gone_and_redirect_say_where_to() {
    for error in [
        StanzaError::gone(Some("xmpp:a@b?x&y".into()), ""),
        StanzaError::gone(None, ""),
        StanzaError::redirect("xmpp:a@b".into(), "moved"),
    ] {
        let xml = written(|writer| error.write(writer));
        assert_eq!(
            StanzaError::read(&Element::from_canonical(xml.as_bytes()).expect("an element")),
            error,
            "{xml}"
        );
    }
}

#[test]
fn an_extension_adds_its_own_condition() {
    let error = StanzaError::not_acceptable("").with_application("stale", "urn:example:errors");
    assert_eq!(
        written(|writer| error.write(writer)),
        "<error type='modify'><not-acceptable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>\
         <stale xmlns='urn:example:errors'/></error>"
    );
}

#[test]
fn what_is_unknown_in_an_error_is_read_as_the_specification_says() {
    let xml = b"<error type='odd'><huh xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>";
    let error = StanzaError::read(&Element::from_canonical(xml).expect("an element"));
    assert_eq!(error, StanzaError::undefined_condition(""));
}

#[test]
fn stream_errors_end_the_stream() {
    assert_eq!(StreamErrorCondition::ALL.len(), 25);
    assert_eq!(
        StreamError::from(XmlError::TooBig).to_bytes(),
        "<stream:error><policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
         <text xmlns='urn:ietf:params:xml:ns:xmpp-streams' xml:lang='en'>too many bytes</text></stream:error>\
         </stream:stream>"
    );
    assert_eq!(
        written(
            |writer| StreamError::from(StreamErrorCondition::Reset).write_self_contained(writer)
        ),
        "<stream:error xmlns:stream='http://etherx.jabber.org/streams'>\
         <reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"
    );
}

#[test]
fn refused_input_has_its_stream_error() {
    use StreamErrorCondition as C;
    for (error, condition) in [
        (XmlError::NotWellFormed, C::NotWellFormed),
        (XmlError::Restricted, C::RestrictedXml),
        (XmlError::BadFormat, C::BadFormat),
        (XmlError::UnsupportedEncoding, C::UnsupportedEncoding),
        (XmlError::InvalidNamespace, C::InvalidNamespace),
        (XmlError::BadPrefix, C::BadNamespacePrefix),
        (XmlError::TooDeep, C::PolicyViolation),
    ] {
        assert_eq!(StreamErrorCondition::from(error), condition);
        assert_eq!(error.is_limit(), condition == C::PolicyViolation);
    }
}

#[test]
fn log_in_failures_are_written() {
    assert_eq!(SaslCondition::ALL.len(), 11);
    assert_eq!(
        written(|writer| SaslFailure::new(SaslCondition::NotAuthorized, "no").write(writer)),
        "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/><text xml:lang='en'>no</text></failure>"
    );
}
