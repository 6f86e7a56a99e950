//! Whole negotiations, word for word.

use std::fmt::Write as _;

use super::shell::{BIND, ENABLE, HEADER, STARTTLS, Shell, auth, config, decode_text, response};
use crate::crypto::scram::{ClientBinding, ScramClient};
use crate::crypto::{BindingType, Hash, Password};

/// Says lines to a shell and writes down both sides, an element a line.
struct Transcript {
    shell: Shell,
    text: String,
}

impl Transcript {
    fn of(shell: Shell) -> Transcript {
        Transcript {
            shell,
            text: String::new(),
        }
    }

    fn say(&mut self, line: &str) -> String {
        let said = self.shell.say(line);
        writeln!(self.text, "C: {line}").unwrap();
        for line in said.replace("><", ">\n<").lines() {
            writeln!(self.text, "S: {line}").unwrap();
        }
        for event in self.shell.events.drain(..) {
            writeln!(self.text, "   {event}").unwrap();
        }
        said
    }
}

#[test]
fn starttls_plain_bind_and_the_end() {
    let mut transcript = Transcript::of(Shell::plain(config()));
    let plain = auth("PLAIN", b"\0juliet\0pencil");
    for line in [
        HEADER,
        STARTTLS,
        HEADER,
        &plain,
        HEADER,
        BIND,
        ENABLE,
        "<presence/>",
    ] {
        transcript.say(line);
    }
    transcript.say("<r xmlns='urn:xmpp:sm:3'/>");
    transcript.say("</stream:stream>");
    insta::assert_snapshot!(transcript.text, @r#"
    C: <?xml version='1.0'?><stream:stream to='capulet.example' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>
    S: <?xml version='1.0'?>
    S: <stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' from='capulet.example' id='bf7827439c84d28bb6326bee7d1d7185' version='1.0' xml:lang='en'>
    S: <stream:features>
    S: <starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'>
    S: <required/>
    S: </starttls>
    S: <limits xmlns='urn:xmpp:stream-limits:0'>
    S: <max-bytes>10000</max-bytes>
    S: <idle-seconds>30</idle-seconds>
    S: </limits>
    S: </stream:features>
    C: <starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>
    S: <proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>
    C: <?xml version='1.0'?><stream:stream to='capulet.example' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>
    S: <?xml version='1.0'?>
    S: <stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' from='capulet.example' id='ca3b850621f6a278d7092997a9c8f474' version='1.0' xml:lang='en'>
    S: <stream:features>
    S: <mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>
    S: <mechanism>SCRAM-SHA-256-PLUS</mechanism>
    S: <mechanism>SCRAM-SHA-1-PLUS</mechanism>
    S: <mechanism>SCRAM-SHA-256</mechanism>
    S: <mechanism>SCRAM-SHA-1</mechanism>
    S: <mechanism>PLAIN</mechanism>
    S: </mechanisms>
    S: <sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'>
    S: <channel-binding type='tls-exporter'/>
    S: <channel-binding type='tls-server-end-point'/>
    S: </sasl-channel-binding>
    S: <limits xmlns='urn:xmpp:stream-limits:0'>
    S: <max-bytes>10000</max-bytes>
    S: <idle-seconds>30</idle-seconds>
    S: </limits>
    S: </stream:features>
    C: <auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGp1bGlldABwZW5jaWw=</auth>
    S: <success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>
       juliet@capulet.example by PLAIN None
    C: <?xml version='1.0'?><stream:stream to='capulet.example' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>
    S: <?xml version='1.0'?>
    S: <stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' from='capulet.example' id='a7c563c32b1558e27865744db7f7deda' version='1.0' xml:lang='en'>
    S: <stream:features>
    S: <bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>
    S: <session xmlns='urn:ietf:params:xml:ns:xmpp-session'>
    S: <optional/>
    S: </session>
    S: <sm xmlns='urn:xmpp:sm:3'/>
    S: <ver xmlns='urn:xmpp:features:rosterver'/>
    S: <sub xmlns='urn:xmpp:features:pre-approval'/>
    S: <limits xmlns='urn:xmpp:stream-limits:0'>
    S: <max-bytes>262144</max-bytes>
    S: <idle-seconds>900</idle-seconds>
    S: </limits>
    S: </stream:features>
    C: <iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>Balcony</resource></bind></iq>
    S: <iq type='result' id='b'>
    S: <bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>
    S: <jid>juliet@capulet.example/Balcony</jid>
    S: </bind>
    S: </iq>
    C: <enable xmlns='urn:xmpp:sm:3' resume='true'/>
    S: <enabled xmlns='urn:xmpp:sm:3' id='sm-1' resume='true' max='300'/>
    C: <presence/>
       <presence/>
    C: <r xmlns='urn:xmpp:sm:3'/>
    S: <a xmlns='urn:xmpp:sm:3' h='1'/>
    C: </stream:stream>
    S: </stream:stream>
    "#);
}

#[test]
fn scram_sha_256_plus_over_direct_tls() {
    let mut transcript = Transcript::of(Shell::direct_tls());
    transcript.say(&HEADER.replace("to=", "from='juliet@capulet.example' xml:lang='de' to="));
    let binding = ClientBinding::Use(BindingType::TlsExporter, super::shell::EXPORTER.to_vec());
    let password = Password::prepare("pencil").unwrap();
    let client = ScramClient::new(
        Hash::Sha256,
        binding,
        None,
        "juliet",
        password,
        "fyko+d2lbbFgONRv",
    );
    let challenge = transcript.say(&auth("SCRAM-SHA-256-PLUS", client.first().as_bytes()));
    let (_, message) = client.respond(&decode_text(&challenge), None).unwrap();
    transcript.say(&response(message.as_bytes()));
    insta::assert_snapshot!(transcript.text, @r#"
    C: <?xml version='1.0'?><stream:stream from='juliet@capulet.example' xml:lang='de' to='capulet.example' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>
    S: <?xml version='1.0'?>
    S: <stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' from='capulet.example' id='bf7827439c84d28bb6326bee7d1d7185' to='juliet@capulet.example' version='1.0' xml:lang='en'>
    S: <stream:features>
    S: <mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>
    S: <mechanism>SCRAM-SHA-256-PLUS</mechanism>
    S: <mechanism>SCRAM-SHA-1-PLUS</mechanism>
    S: <mechanism>SCRAM-SHA-256</mechanism>
    S: <mechanism>SCRAM-SHA-1</mechanism>
    S: <mechanism>PLAIN</mechanism>
    S: </mechanisms>
    S: <sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'>
    S: <channel-binding type='tls-exporter'/>
    S: <channel-binding type='tls-server-end-point'/>
    S: </sasl-channel-binding>
    S: <limits xmlns='urn:xmpp:stream-limits:0'>
    S: <max-bytes>10000</max-bytes>
    S: <idle-seconds>30</idle-seconds>
    S: </limits>
    S: </stream:features>
    C: <auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-256-PLUS'>cD10bHMtZXhwb3J0ZXIsLG49anVsaWV0LHI9ZnlrbytkMmxiYkZnT05Sdg==</auth>
    S: <challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>cj1meWtvK2QybGJiRmdPTlJ2NGQyOWZmYzA2MzRlMWFhNmU2MTc0NzNkZTdjYzQ2ODEscz1Bd01EQXdNREF3TURBd01EQXdNREF3PT0saT00MDk2LGg9SHNWVDN6Z2ZpaWY1Nmkvdzk2ZytYVHIrUngvWWZrdzFWa3hPQWRWYjlXaz0=</challenge>
    C: <response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>Yz1jRDEwYkhNdFpYaHdiM0owWlhJc0xBa0pDUWtKQ1FrSkNRa0pDUWtKQ1FrSkNRa0pDUWtKQ1FrSkNRa0pDUWtKLHI9ZnlrbytkMmxiYkZnT05SdjRkMjlmZmMwNjM0ZTFhYTZlNjE3NDczZGU3Y2M0NjgxLHA9cVMrOXZ1dFBoeGxReXVjU1NEbjlrMXErcWJOTmx3MmVXSmI4VFlzaC96az0=</response>
    S: <success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>dj01SGZQWWFhdW1TMFBtSWxxU1ZhcEhIcDJyVndYekh6eHFjV1RRUnRPWXZBPQ==</success>
       juliet@capulet.example by SCRAM-SHA-256-PLUS Some(TlsExporter)
    "#);
}

#[test]
fn a_log_in_that_fails_and_is_tried_again_and_given_up() {
    let mut transcript = Transcript::of(Shell::direct_tls());
    transcript.say(HEADER);
    for _ in 0..4 {
        transcript.say(&auth("PLAIN", b"\0juliet\0penicl"));
    }
    insta::assert_snapshot!(transcript.text, @r#"
    C: <?xml version='1.0'?><stream:stream to='capulet.example' version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>
    S: <?xml version='1.0'?>
    S: <stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' from='capulet.example' id='bf7827439c84d28bb6326bee7d1d7185' version='1.0' xml:lang='en'>
    S: <stream:features>
    S: <mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>
    S: <mechanism>SCRAM-SHA-256-PLUS</mechanism>
    S: <mechanism>SCRAM-SHA-1-PLUS</mechanism>
    S: <mechanism>SCRAM-SHA-256</mechanism>
    S: <mechanism>SCRAM-SHA-1</mechanism>
    S: <mechanism>PLAIN</mechanism>
    S: </mechanisms>
    S: <sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'>
    S: <channel-binding type='tls-exporter'/>
    S: <channel-binding type='tls-server-end-point'/>
    S: </sasl-channel-binding>
    S: <limits xmlns='urn:xmpp:stream-limits:0'>
    S: <max-bytes>10000</max-bytes>
    S: <idle-seconds>30</idle-seconds>
    S: </limits>
    S: </stream:features>
    C: <auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGp1bGlldABwZW5pY2w=</auth>
    S: <failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>
    S: <not-authorized/>
    S: </failure>
       juliet@capulet.example: not-authorized, wrong password or unknown user
    C: <auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGp1bGlldABwZW5pY2w=</auth>
    S: <failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>
    S: <not-authorized/>
    S: </failure>
       juliet@capulet.example: not-authorized, wrong password or unknown user
    C: <auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGp1bGlldABwZW5pY2w=</auth>
    S: <failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>
    S: <not-authorized/>
    S: </failure>
       juliet@capulet.example: not-authorized, wrong password or unknown user
    C: <auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>AGp1bGlldABwZW5pY2w=</auth>
    S: <failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>
    S: <not-authorized/>
    S: </failure>
    S: <stream:error>
    S: <policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>
    S: <text xmlns='urn:ietf:params:xml:ns:xmpp-streams' xml:lang='en'>too many failed log-ins</text>
    S: </stream:error>
    S: </stream:stream>
       juliet@capulet.example: not-authorized, wrong password or unknown user
    "#);
}
