//! What a component says, and what becomes of it.

use super::*;

const HEADER: &str = "<stream:stream xmlns='jabber:component:accept' \
    xmlns:stream='http://etherx.jabber.org/streams' to='gateway.example'>";

fn config() -> Arc<ComponentConfig> {
    let component = |domain: &str, secret: &str| {
        let secret = Secret::new(secret.to_owned()).expect("it is not empty");
        (Jid::parse(domain).expect("a domain"), secret)
    };
    Arc::new(ComponentConfig {
        components: vec![
            component("other.example", "another"),
            component("gateway.example", "sesame"),
        ],
        limits_before: Limits::before_authentication(),
        limits_after: Limits::after_authentication(),
        negotiation_ms: 30_000,
    })
}

struct Run {
    stream: Component,
    bytes: BytesMut,
    said: String,
    stanzas: Vec<String>,
    asked: u32,
    closed: Option<Closed>,
}

impl Run {
    fn new() -> Run {
        Run {
            stream: Component::new(config(), [7; 16], 1_000),
            bytes: BytesMut::new(),
            said: String::new(),
            stanzas: Vec::new(),
            asked: 0,
            closed: None,
        }
    }

    /// With the handshake done.
    fn open() -> Run {
        let mut run = Run::new();
        run.hear(HEADER);
        let secret = Secret::new("sesame".to_owned()).expect("it is not empty");
        let hash = handshake(&run.stream.id, &secret);
        run.hear(&format!("<handshake>{hash}</handshake>"));
        assert!(run.said.ends_with("<handshake/>"), "{}", run.said);
        run.said.clear();
        run
    }

    fn hear(&mut self, xml: &str) {
        self.bytes.extend_from_slice(xml.as_bytes());
        self.go_on();
    }

    fn go_on(&mut self) {
        loop {
            self.stream.input(&mut self.bytes);
            match self.stream.poll() {
                None => break,
                Some(Action::Send(bytes)) => self.said += &String::from_utf8_lossy(&bytes),
                Some(Action::Handshake(domain)) => {
                    assert_eq!(domain.as_str(), "gateway.example");
                    self.asked += 1;
                    if self.stream.check() {
                        self.stream.accept();
                    }
                }
                Some(Action::Stanza(stanza)) => {
                    let bytes = stanza.bytes();
                    self.stanzas.push(String::from_utf8_lossy(bytes).into());
                }
                Some(Action::Closed(closed)) => self.closed = Some(closed),
            }
        }
    }

    #[track_caller]
    fn ends_with(&self, condition: StreamErrorCondition) {
        match &self.closed {
            Some(Closed::Error(error)) => assert_eq!(error.condition, condition, "{error}"),
            other => panic!("{other:?}"),
        }
        assert!(self.said.contains(condition.name()), "{}", self.said);
        assert!(self.said.ends_with("</stream:stream>"), "{}", self.said);
        assert!(self.said.contains("<stream:stream") || !self.stanzas.is_empty() || self.asked > 0);
    }
}

/// Checked against sha1sum(1): the example of XEP-0114 §3 does not tell its secret.
#[test]
fn the_handshake_is_the_hash_of_id_and_secret_in_lower_case() {
    let secret = Secret::new("test".to_owned()).expect("it is not empty");
    // printf 3BF96D32test | sha1sum
    let expected = "aaee83c26aeeafcbabeabfcbcd50df997e0a2a1e";
    assert_eq!(handshake("3BF96D32", &secret), expected);
}

#[test]
fn a_component_that_knows_the_secret_is_let_in_and_its_stanzas_are_taken() {
    let mut run = Run::open();
    run.hear("<message from='a@gateway.example/r' to='b@x.example'><body>1</body></message>");
    run.hear(" <iq from='gateway.example' type='get' id='1'><q xmlns='u'/></iq></stream:stream>");
    assert_eq!(
        run.stanzas,
        [
            "<message from='a@gateway.example/r' to='b@x.example'><body>1</body></message>",
            "<iq from='gateway.example' type='get' id='1'><q xmlns='u'/></iq>"
        ]
    );
    assert_eq!(run.closed, Some(Closed::ByPeer));
    assert_eq!(run.said, "</stream:stream>");
}

#[test]
fn our_header_names_the_component_and_an_id() {
    let mut run = Run::new();
    run.hear(HEADER);
    assert!(run.said.contains(" from='gateway.example'"), "{}", run.said);
    assert!(run.said.contains(&format!(" id='{}'", "07".repeat(16))));
    assert!(run.said.contains(" xmlns='jabber:component:accept'"));
}

#[test]
fn the_secret_of_another_component_is_wrong() {
    let mut run = Run::new();
    run.hear(HEADER);
    let another = Secret::new("another".to_owned()).expect("it is not empty");
    let hash = handshake(&run.stream.id, &another);
    run.hear(&format!("<handshake>{hash}</handshake>"));
    assert_eq!(run.asked, 1);
    run.ends_with(StreamErrorCondition::NotAuthorized);
    run.hear("<message from='a@gateway.example' to='b@x.example'/>");
    assert!(run.stanzas.is_empty());
}

#[test]
fn an_unknown_domain_is_told_behind_a_header() {
    for to in ["to='nobody.example'", "to='a@gateway.example'", "to=''", ""] {
        let mut run = Run::new();
        run.hear(&HEADER.replace("to='gateway.example'", to));
        run.ends_with(StreamErrorCondition::HostUnknown);
        assert!(run.said.starts_with("<?xml version='1.0'?><stream:stream"));
    }
}

#[test]
fn another_content_namespace_is_refused() {
    let mut run = Run::new();
    run.hear(&HEADER.replace("jabber:component:accept", "jabber:client"));
    run.ends_with(StreamErrorCondition::InvalidNamespace);
}

#[test]
fn nothing_is_taken_before_the_handshake() {
    for early in [
        "<message from='a@gateway.example' to='b@x.example'/>",
        "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'/>",
    ] {
        let mut run = Run::new();
        run.hear(HEADER);
        run.hear(early);
        run.ends_with(StreamErrorCondition::NotAuthorized);
        assert_eq!(run.asked, 0);
    }
}

#[test]
fn a_second_handshake_is_nothing_we_know() {
    let mut run = Run::open();
    run.asked = 1;
    run.hear("<handshake>x</handshake>");
    run.ends_with(StreamErrorCondition::UnsupportedStanzaType);
}

#[test]
fn a_from_of_another_domain_or_none_ends_the_stream() {
    for from in [
        "from='a@other.example'",
        "from='sub.gateway.example'",
        "from='@gateway.example'",
        "",
    ] {
        let mut run = Run::open();
        run.asked = 1;
        run.hear(&format!("<presence {from} to='b@x.example'/>"));
        run.ends_with(StreamErrorCondition::InvalidFrom);
        assert!(run.stanzas.is_empty());
    }
}

#[test]
fn a_stranger_has_so_much_time_and_room() {
    let mut run = Run::new();
    run.hear(HEADER);
    assert_eq!(run.stream.deadline(), Some(31_000));
    run.stream.timeout(30_999);
    run.stream.timeout(31_000);
    run.go_on();
    run.ends_with(StreamErrorCondition::ConnectionTimeout);
    let mut run = Run::new();
    run.hear(HEADER);
    run.hear(&format!("<handshake>{}", "x".repeat(20_000)));
    run.ends_with(StreamErrorCondition::PolicyViolation);
    assert_eq!(Run::open().stream.deadline(), None);
}

#[test]
fn a_secret_is_not_printed_and_not_empty() {
    assert_eq!(Secret::new(String::new()), None);
    let printed = format!("{:?}", config());
    assert!(!printed.contains("sesame"), "{printed}");
}
