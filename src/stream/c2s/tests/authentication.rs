//! SASL as the wire shows it (RFC 6120 §6).

use super::shell::{
    EXPORTER, HEADER, SCHEME, STARTTLS, Shell, auth, config, decode_text, of_scheme, response, tls,
};
use crate::crypto::scram::{ClientBinding, ScramClient, downgrade_protection};
use crate::crypto::{BindingType, Hash, ITERATIONS_DEFAULT, Password, Scheme};
use crate::stanza::{SaslCondition, SaslFailure};
use crate::stream::sasl::Mechanism;
use crate::stream::{Action, C2sConfig, Closed, TlsInfo};

const ABORT: &str = "<abort xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>";

fn failure(condition: &str) -> String {
    format!("<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><{condition}/></failure>")
}

fn secure() -> Shell {
    let mut shell = Shell::direct_tls();
    shell.say(HEADER);
    shell
}

fn mechanisms(config: C2sConfig, tls: TlsInfo) -> (Vec<String>, bool) {
    let mut shell = Shell::new(config, Some(tls));
    let features = shell.say(HEADER);
    let names = features
        .split("<mechanism>")
        .skip(1)
        .map(|rest| rest.split('<').next().unwrap());
    (
        names.map(str::to_owned).collect(),
        features.contains("<sasl-channel-binding"),
    )
}

#[test]
fn mechanisms_are_offered_strongest_first_and_as_they_can_work() {
    let all = Mechanism::ALL.map(|mechanism| mechanism.name().to_owned());
    assert_eq!(mechanisms(config(), tls()), (all.to_vec(), true));
    assert_eq!(
        mechanisms(config(), TlsInfo::default()),
        (all[2..].to_vec(), false)
    );
    let argon2id = of_scheme(config(), Scheme::Argon2id);
    assert_eq!(
        mechanisms(argon2id, tls()),
        (vec!["PLAIN".to_owned()], false)
    );
    let scheme = Scheme::Scram {
        sha1: false,
        iterations: ITERATIONS_DEFAULT,
    };
    let sha256 = of_scheme(config(), scheme);
    assert_eq!(
        mechanisms(sha256, tls()).0,
        ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN"]
    );
    let chosen = vec![Mechanism::Plain, Mechanism::ScramSha256];
    let chosen = C2sConfig {
        mechanisms: chosen,
        ..config()
    };
    assert_eq!(
        mechanisms(chosen, tls()),
        (vec!["SCRAM-SHA-256".to_owned(), "PLAIN".to_owned()], false)
    );
}

#[test]
fn every_mechanism_lets_the_right_password_in_and_no_other() {
    for mechanism in &Mechanism::ALL[..4] {
        let mut shell = secure();
        assert_eq!(
            shell.scram(*mechanism, "juliet", "penicl"),
            failure("not-authorized")
        );
        assert_eq!(
            shell.events,
            ["juliet@capulet.example: not-authorized, wrong password or unknown user"]
        );
        let said = shell.scram(*mechanism, "juliet", "pencil");
        assert!(said.starts_with("<success"), "{mechanism}: {said}");
        let binding = mechanism.is_plus().then_some(BindingType::TlsExporter);
        assert_eq!(
            shell.events[1],
            format!("juliet@capulet.example by {mechanism} {binding:?}")
        );
    }
    let mut shell = secure();
    assert_eq!(shell.log_in("penicl"), failure("not-authorized"));
    assert_eq!(
        shell.log_in("pencil"),
        "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"
    );
}

#[test]
fn argon2id_accounts_log_in_by_plain() {
    let mut shell = Shell::new(of_scheme(config(), Scheme::Argon2id), Some(tls()));
    shell.say(HEADER);
    assert_eq!(shell.log_in("penicl"), failure("not-authorized"));
    let nobody = auth("PLAIN", b"\0nobody\0pencil");
    assert_eq!(shell.say(&nobody), failure("not-authorized"));
    assert!(shell.log_in("pencil").starts_with("<success"));
}

#[test]
fn a_user_who_does_not_exist_looks_like_one_who_does() {
    let first = |username: &str| {
        let mut shell = secure();
        let message = format!("n,,n={username},r=abc");
        String::from_utf8(decode_text(
            &shell.say(&auth("SCRAM-SHA-256", message.as_bytes())),
        ))
        .unwrap()
    };
    let salt = |message: &str| message.split(',').nth(1).unwrap().to_owned();
    let (juliet, nobody) = (first("juliet"), first("nobody"));
    assert_eq!(salt(&juliet).len(), salt(&nobody).len());
    assert_eq!(juliet.split(",i=").nth(1), nobody.split(",i=").nth(1));
    assert_eq!(
        salt(&nobody),
        salt(&first("nobody")),
        "asked twice, told the same"
    );
    assert_eq!(
        salt(&nobody),
        salt(&first("NOBODY")),
        "it is the same account"
    );
    assert_ne!(salt(&nobody), salt(&first("nobody2")));
    let mut shell = secure();
    assert_eq!(
        shell.scram(Mechanism::ScramSha256, "nobody", "pencil"),
        failure("not-authorized")
    );
    assert_eq!(
        shell.say(&auth("PLAIN", b"\0nobody\0pencil")),
        failure("not-authorized")
    );
}

#[test]
fn a_wrong_channel_binding_is_refused() {
    let mut shell = secure();
    let password = Password::prepare("pencil").unwrap();
    let binding = ClientBinding::Use(BindingType::TlsExporter, vec![7; 32]);
    let client = ScramClient::new(Hash::Sha256, binding, None, "juliet", password, "x");
    let challenge = shell.say(&auth("SCRAM-SHA-256-PLUS", client.first().as_bytes()));
    let (_, message) = client.respond(&decode_text(&challenge), None).unwrap();
    assert_eq!(
        shell.say(&response(message.as_bytes())),
        failure("not-authorized")
    );
    assert!(
        shell.events[0].ends_with("channel binding does not match"),
        "{:?}",
        shell.events
    );
    assert_eq!(
        shell.say(&auth("SCRAM-SHA-256", b"y,,n=juliet,r=x")),
        failure("not-authorized")
    );
    let other = auth("SCRAM-SHA-256-PLUS", b"p=tls-unique,,n=juliet,r=x");
    assert_eq!(shell.say(&other), failure("not-authorized"));
}

#[test]
fn the_offer_is_signed() {
    let mut shell = secure();
    let names = Mechanism::ALL.map(Mechanism::name);
    let bindings = ["tls-exporter", "tls-server-end-point"];
    let offered = downgrade_protection(Hash::Sha256, &names, Some(&bindings));
    let password = Password::prepare("pencil").unwrap();
    let binding = ClientBinding::Use(BindingType::TlsServerEndPoint, vec![8; 32]);
    let client = ScramClient::new(Hash::Sha256, binding, None, "juliet", password, "x");
    let challenge = shell.say(&auth("SCRAM-SHA-256-PLUS", client.first().as_bytes()));
    let first = decode_text(&challenge);
    assert!(String::from_utf8_lossy(&first).ends_with(&format!(",h={offered}")));
    let (_, message) = client.respond(&first, Some(&offered)).unwrap();
    assert!(
        shell
            .say(&response(message.as_bytes()))
            .starts_with("<success")
    );
    let mut shell = Shell::new(
        C2sConfig {
            downgrade_protection: false,
            ..config()
        },
        Some(tls()),
    );
    shell.say(HEADER);
    let first = decode_text(&shell.say(&auth("SCRAM-SHA-256", b"n,,n=juliet,r=x")));
    assert!(!String::from_utf8_lossy(&first).contains(",h="));
}

#[test]
fn the_initial_response_may_come_later_or_be_empty() {
    let auth = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'";
    let mut shell = secure();
    assert_eq!(
        shell.say(&format!("{auth}/>")),
        "<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"
    );
    assert!(
        shell
            .say(&response(b"\0juliet\0pencil"))
            .starts_with("<success")
    );
    let mut shell = secure();
    assert_eq!(
        shell.say(&format!("{auth}>=</auth>")),
        failure("malformed-request")
    );
}

#[test]
fn each_failure_has_its_condition() {
    let sasl = "xmlns='urn:ietf:params:xml:ns:xmpp-sasl'";
    let generous = || {
        let mut shell = Shell::new(
            C2sConfig {
                retries_max: 5,
                ..config()
            },
            Some(tls()),
        );
        shell.say(HEADER);
        shell
    };
    for (element, condition) in [
        (
            format!("<auth {sasl} mechanism='PLAIN'>AGp1bGlldABwZW5jaWw</auth>"),
            "incorrect-encoding",
        ),
        (
            format!("<auth {sasl} mechanism='PLAIN'> AGp1bGlldABwZW5jaWw= </auth>"),
            "incorrect-encoding",
        ),
        (
            format!("<auth {sasl} mechanism='PLAIN'>====</auth>"),
            "incorrect-encoding",
        ),
        (format!("<auth {sasl}>=</auth>"), "malformed-request"),
        (
            format!("<auth {sasl} mechanism='EXTERNAL'>=</auth>"),
            "invalid-mechanism",
        ),
        (
            format!("<auth {sasl} mechanism='plain'>=</auth>"),
            "invalid-mechanism",
        ),
        (
            format!("<response {sasl}>AAAA</response>"),
            "malformed-request",
        ),
        (
            format!("<response {sasl}>!</response>"),
            "incorrect-encoding",
        ),
        (ABORT.to_owned(), "aborted"),
        (auth("SCRAM-SHA-1", b"n,,n=juliet"), "malformed-request"),
        (
            auth("SCRAM-SHA-1", b"p=tls-exporter,,n=juliet,r=x"),
            "malformed-request",
        ),
        (
            auth("PLAIN", b"romeo@capulet.example\0juliet\0pencil"),
            "invalid-authzid",
        ),
        (auth("PLAIN", b"@\0juliet\0pencil"), "invalid-authzid"),
        (
            auth("SCRAM-SHA-1", b"n,a=romeo@capulet.example,n=juliet,r=x"),
            "invalid-authzid",
        ),
        (auth("PLAIN", b"\0a b\0pencil"), "not-authorized"),
        (auth("PLAIN", b"\0juliet\0pen\x07cil"), "not-authorized"),
    ] {
        assert_eq!(generous().say(&element), failure(condition), "{element}");
    }
    let right = auth("PLAIN", b"Juliet@Capulet.example\0juliet\0pencil");
    assert!(
        generous().say(&right).starts_with("<success"),
        "one's own identity may be named"
    );
}

#[test]
fn a_mechanism_that_was_not_offered_is_refused_even_if_known() {
    let mut shell = Shell::new(config(), Some(TlsInfo::default()));
    shell.say(HEADER);
    let message = auth("SCRAM-SHA-256-PLUS", b"p=tls-exporter,,n=juliet,r=x");
    assert_eq!(shell.say(&message), failure("invalid-mechanism"));
}

#[test]
fn an_exchange_can_be_aborted_and_begun_again() {
    let mut shell = secure();
    shell.say(&auth("SCRAM-SHA-1", b"n,,n=juliet,r=x"));
    assert_eq!(shell.say(ABORT), failure("aborted"));
    assert_eq!(
        shell.say(&response(b"c=biws,r=x,p=AAAA")),
        failure("malformed-request")
    );
    shell.say(&auth("SCRAM-SHA-1", b"n,,n=juliet,r=x"));
    let second = auth("SCRAM-SHA-1", b"n,,n=juliet,r=x");
    assert_eq!(
        shell.say(&second),
        failure("malformed-request"),
        "one exchange at a time"
    );
    assert!(shell.log_in("pencil").starts_with("<success"));
}

#[test]
fn after_three_retries_the_stream_is_closed() {
    let mut shell = secure();
    for _ in 0..3 {
        assert_eq!(shell.log_in("wrong"), failure("not-authorized"));
    }
    let said = shell.log_in("wrong");
    assert!(said.starts_with(&failure("not-authorized")), "{said}");
    assert!(said.contains("<policy-violation"), "{said}");
    assert!(matches!(shell.closed, Some(Closed::Error(_))));
}

#[test]
fn the_shell_can_refuse_before_it_looks() {
    let mut shell = secure().leaving(|action| matches!(action, Action::LookUp { .. }));
    assert_eq!(shell.log_in("pencil"), "");
    assert_eq!(
        shell.say(ABORT),
        "",
        "no input is taken while an answer is awaited"
    );
    let refusal = SaslFailure::new(SaslCondition::TemporaryAuthFailure, "");
    shell.stream.refuse_authentication(refusal, "throttled");
    let said = shell.run();
    assert_eq!(
        said,
        format!(
            "{}{}",
            failure("temporary-auth-failure"),
            failure("aborted")
        )
    );
    assert_eq!(
        shell.events[0],
        "juliet@capulet.example: temporary-auth-failure, throttled"
    );
}

#[test]
fn without_tls_nobody_logs_in() {
    let mut shell = Shell::plain(config());
    shell.say(HEADER);
    let said = shell.log_in("pencil");
    assert!(said.starts_with(&failure("encryption-required")), "{said}");
    assert!(shell.closed.is_some());
}

#[test]
fn starttls_over_tls_is_refused() {
    let mut shell = secure();
    let said = shell.say(STARTTLS);
    assert!(
        said.starts_with("<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"),
        "{said}"
    );
    assert!(shell.closed.is_some());
}

#[test]
fn strangers_register_only_where_it_is_open() {
    let register =
        "<iq type='get' id='r' to='capulet.example'><query xmlns='jabber:iq:register'/></iq>";
    let mut open = config();
    open.hosts[0].registration_open = true;
    let mut shell = Shell::new(open.clone(), Some(tls()));
    assert!(
        shell
            .say(HEADER)
            .contains("<register xmlns='http://jabber.org/features/iq-register'/>")
    );
    assert_eq!(
        shell.say(register),
        "<iq type='result' id='r' from='capulet.example'/>"
    );
    assert_eq!(shell.events, ["register"]);
    assert!(
        shell.log_in("pencil").starts_with("<success"),
        "and may log in afterwards"
    );
    let mut shell = secure();
    assert!(shell.say(register).contains("<not-authorized"));
    let mut shell = Shell::new(open, Some(tls()));
    let features = shell.say(&HEADER.replace("capulet", "second"));
    assert!(!features.contains("iq-register"), "{features}");
    let register = register.replace("capulet", "second");
    assert!(shell.say(&register).contains("<not-authorized"));
}

#[test]
fn binding_data_are_those_of_the_session() {
    assert_eq!(tls().into_bindings().exporter, Some(EXPORTER));
    assert_eq!(config().hosts[0].scheme, SCHEME);
}
