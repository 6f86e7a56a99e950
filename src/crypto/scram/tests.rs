use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;
use crate::crypto::{BindingType, ChannelBindings, Password, ScramKeys};

const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).unwrap();

fn password() -> Password {
    Password::prepare("pencil").unwrap()
}

fn keys(hash: Hash, salt: &str) -> ScramKeys {
    ScramKeys::derive(
        hash,
        &password(),
        &STANDARD.decode(salt).unwrap(),
        ITERATIONS,
    )
}

fn no_bindings() -> ChannelBindings {
    ChannelBindings::default()
}

/// A whole exchange as a document prints it, replayed against the server's end.
struct Printed<'a> {
    hash: Hash,
    client_first: &'a str,
    server_nonce: &'a str,
    salt: &'a str,
    downgrade: Option<&'a str>,
    server_first: &'a str,
    client_final: &'a str,
    server_final: &'a str,
}

impl Printed<'_> {
    fn check(&self, bindings: &ChannelBindings) {
        let plus = self.client_first.starts_with("p=");
        let server =
            ScramServer::start(self.hash, plus, self.client_first.as_bytes(), bindings).unwrap();
        assert_eq!(server.username(), "user");
        let (server, first) = server.challenge(
            keys(self.hash, self.salt),
            self.server_nonce,
            self.downgrade,
        );
        assert_eq!(first, self.server_first);
        assert_eq!(
            server.finish(self.client_final.as_bytes()).unwrap(),
            self.server_final
        );
    }
}

const RFC_5802: Printed<'_> = Printed {
    hash: Hash::Sha1,
    client_first: "n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL",
    server_nonce: "3rfcNHYJY1ZVvWVs7j",
    salt: "QSXCR+Q6sek8bf92",
    downgrade: None,
    server_first: "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
    client_final: "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
    server_final: "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
};

const RFC_7677: Printed<'_> = Printed {
    hash: Hash::Sha256,
    client_first: "n,,n=user,r=rOprNGfwEbeRWgbNEkqO",
    server_nonce: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
    salt: "W22ZaJ0SNY7soEsUEjb6gQ==",
    downgrade: None,
    server_first: "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
    client_final: "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    server_final: "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
};

#[test]
fn exchange_of_rfc_5802() {
    RFC_5802.check(&no_bindings());
}

#[test]
fn exchange_of_rfc_7677() {
    RFC_7677.check(&no_bindings());
}

/// XEP-0474 §5.3, with a client's extension `x` in its final message.
#[test]
fn exchange_of_xep_0474() {
    let hash = downgrade_protection(
        Hash::Sha1,
        &["SCRAM-SHA-1-PLUS", "SCRAM-SHA-1"],
        Some(&["tls-server-end-point", "tls-exporter"]),
    );
    assert_eq!(hash, "G6k/rBLDqgOhRRaCuuatSDFkJ08=");
    let first = "p=tls-exporter,,n=user,r=12C4CD5C-E38E-4A98-8F6D-15C38F51CCC6";
    // The document's binding data are a text; those of a real connection are 32 bytes.
    let bindings = ChannelBindings {
        exporter: None,
        server_end_point: Some(b"THIS IS FAKE CB DATA".to_vec()),
    };
    assert_eq!(
        ScramServer::start(Hash::Sha1, true, first.as_bytes(), &bindings).unwrap_err(),
        ScramError::UnknownBinding
    );
    let client_final = "c=cD10bHMtZXhwb3J0ZXIsLFRISVMgSVMgRkFLRSBDQiBEQVRB,r=12C4CD5C-E38E-4A98-8F6D-15C38F51CCC6a09117a6-ac50-4f2f-93f1-93799c2bddf6,x=19C6532F-1CF4-4A27-A18D-DC9CEA41BBB3,p=M/SIDjT+dfcxUh89jZEypRvFxB4=";
    let server = server_with_exporter_text(first, b"THIS IS FAKE CB DATA");
    let (server, server_first) = server.challenge(
        keys(Hash::Sha1, "QSXCR+Q6sek8bf92"),
        "a09117a6-ac50-4f2f-93f1-93799c2bddf6",
        Some(&hash),
    );
    assert_eq!(
        server_first,
        "r=12C4CD5C-E38E-4A98-8F6D-15C38F51CCC6a09117a6-ac50-4f2f-93f1-93799c2bddf6,s=QSXCR+Q6sek8bf92,i=4096,h=G6k/rBLDqgOhRRaCuuatSDFkJ08="
    );
    assert_eq!(
        server.finish(client_final.as_bytes()).unwrap(),
        "v=MQrMPvv7yv4x4Cq4W4Ih25EqS2c="
    );
}

fn server_with_exporter_text(first: &str, data: &[u8]) -> ScramServer {
    let bindings = ChannelBindings {
        exporter: Some([0; 32]),
        server_end_point: None,
    };
    let mut server = ScramServer::start(Hash::Sha1, true, first.as_bytes(), &bindings).unwrap();
    server.replace_binding_data(data);
    server
}

struct Outcome {
    server: Result<(), ScramError>,
    client: Result<(), ClientError>,
}

fn run(
    client: ScramClient,
    plus: bool,
    hash: Hash,
    bindings: &ChannelBindings,
    keys: ScramKeys,
) -> Outcome {
    let refused = |error| Outcome {
        server: Err(error),
        client: Ok(()),
    };
    let server = match ScramServer::start(hash, plus, client.first().as_bytes(), bindings) {
        Ok(server) => server,
        Err(error) => return refused(error),
    };
    let (server, first) = server.challenge(keys, "server-nonce", None);
    let (client, last) = client.respond(first.as_bytes(), None).unwrap();
    match server.finish(last.as_bytes()) {
        Ok(last) => Outcome {
            server: Ok(()),
            client: client.verify(last.as_bytes()),
        },
        Err(error) => refused(error),
    }
}

fn client(hash: Hash, binding: ClientBinding, typed: &str) -> ScramClient {
    let password = Password::prepare(typed).unwrap();
    ScramClient::new(
        hash,
        binding,
        Some("a@b"),
        "us=e,r",
        password,
        "client-nonce",
    )
}

#[test]
fn both_ends_agree_with_and_without_binding() {
    let bindings = ChannelBindings {
        exporter: Some([5; 32]),
        server_end_point: Some(vec![6; 32]),
    };
    for hash in [Hash::Sha1, Hash::Sha256] {
        for binding in [
            ClientBinding::Unsupported,
            ClientBinding::Use(BindingType::TlsExporter, vec![5; 32]),
            ClientBinding::Use(BindingType::TlsServerEndPoint, vec![6; 32]),
        ] {
            let plus = binding != ClientBinding::Unsupported;
            let outcome = run(
                client(hash, binding, "pencil"),
                plus,
                hash,
                &bindings,
                keys(hash, "c2FsdA=="),
            );
            assert_eq!((outcome.server, outcome.client), (Ok(()), Ok(())));
        }
    }
    let unbound = client(Hash::Sha256, ClientBinding::NotOffered, "pencil");
    let outcome = run(
        unbound,
        false,
        Hash::Sha256,
        &no_bindings(),
        keys(Hash::Sha256, "c2FsdA=="),
    );
    assert_eq!(outcome.server, Ok(()));
}

#[test]
fn a_wrong_password_binding_or_offer_is_refused() {
    let hash = Hash::Sha256;
    let bindings = ChannelBindings {
        exporter: Some([5; 32]),
        server_end_point: None,
    };
    let refusal = |binding: ClientBinding, plus, typed: &str, bindings: &ChannelBindings| {
        run(
            client(hash, binding, typed),
            plus,
            hash,
            bindings,
            keys(hash, "c2FsdA=="),
        )
        .server
    };
    let exporter = |byte| ClientBinding::Use(BindingType::TlsExporter, vec![byte; 32]);
    let none = ClientBinding::Unsupported;
    assert_eq!(
        refusal(none.clone(), false, "wrong", &bindings),
        Err(ScramError::WrongProof)
    );
    assert_eq!(
        refusal(exporter(4), true, "pencil", &bindings),
        Err(ScramError::WrongBinding)
    );
    assert_eq!(
        refusal(ClientBinding::NotOffered, false, "pencil", &bindings),
        Err(ScramError::OfferStripped)
    );
    assert_eq!(
        refusal(
            ClientBinding::Use(BindingType::TlsServerEndPoint, vec![]),
            true,
            "pencil",
            &bindings
        ),
        Err(ScramError::UnknownBinding)
    );
    assert_eq!(
        refusal(exporter(5), false, "pencil", &bindings),
        Err(ScramError::Malformed)
    );
    assert_eq!(
        refusal(none, true, "pencil", &bindings),
        Err(ScramError::Malformed)
    );
}

#[test]
fn a_client_notices_a_changed_offer_and_a_false_server() {
    let hash = Hash::Sha1;
    let seen = downgrade_protection(hash, &["PLAIN"], None);
    let offered = downgrade_protection(hash, &["PLAIN", "SCRAM-SHA-1"], None);
    assert_ne!(seen, offered);
    let start = || {
        let client = client(hash, ClientBinding::Unsupported, "pencil");
        let server = ScramServer::start(hash, false, client.first().as_bytes(), &no_bindings());
        let (_, first) = server
            .unwrap()
            .challenge(keys(hash, "c2FsdA=="), "n", Some(&offered));
        (client, first)
    };
    let (client, first) = start();
    assert_eq!(
        client.respond(first.as_bytes(), Some(&seen)).unwrap_err(),
        ClientError::Downgraded
    );
    let (client, first) = start();
    let (client, _) = client.respond(first.as_bytes(), Some(&offered)).unwrap();
    let forged = format!("v={}", STANDARD.encode([0; 20]));
    assert_eq!(
        client.verify(forged.as_bytes()),
        Err(ClientError::WrongSignature)
    );
    let (client, _) = start();
    assert_eq!(
        client.respond(b"r=other,s=YQ==,i=4096", None).unwrap_err(),
        ClientError::WrongNonce
    );
}

#[test]
fn malformed_first_messages_are_refused() {
    for message in [
        "",
        "n",
        "n,",
        "n,,",
        "n,,n=user",
        "n,,r=a,n=user",
        "n,,n=,r=a",
        "n,,n=user,r=",
        "x,,n=user,r=a",
        "p=,,n=user,r=a",
        "p=a b,,n=user,r=a",
        "n,b=c,n=user,r=a",
        "n,a=,n=user,r=a",
        "n,,n=us=er,r=a",
        "n,,n=us=2cer,r=a",
        "n,,n=user,r=a\u{e9}",
        "n,,n=user,r=a,",
        "n,,n=user,r=a,x",
        "n,,n=us\0er,r=a",
        "N,,n=user,r=a",
    ] {
        let error = ScramServer::start(Hash::Sha1, false, message.as_bytes(), &no_bindings());
        assert_eq!(error.unwrap_err(), ScramError::Malformed, "{message:?}");
    }
    let error = ScramServer::start(Hash::Sha1, false, b"n,,m=x,n=user,r=a", &no_bindings());
    assert_eq!(error.unwrap_err(), ScramError::MandatoryExtension);
    let long = format!("n,,n=user,r={}", "a".repeat(5000));
    assert!(ScramServer::start(Hash::Sha1, false, long.as_bytes(), &no_bindings()).is_err());
}

#[test]
fn malformed_final_messages_are_refused() {
    for (message, expected) in [
        ("", ScramError::Malformed),
        ("c=biws,r=xserver", ScramError::Malformed),
        ("c=biws,r=xserver,p=", ScramError::Malformed),
        ("c=biws,r=xserver,p=!", ScramError::Malformed),
        ("c=biws,r=xserver,p=AAAA", ScramError::Malformed),
        ("r=xserver,c=biws,p=AAAA", ScramError::Malformed),
        ("c=biw,r=xserver,p=AAAA", ScramError::Malformed),
        ("c=biws,r=xserver,p=AAAA,p=AAAA", ScramError::Malformed),
        ("c=biws,r=xserver,r=x,p=AAAA", ScramError::Malformed),
        ("c=biws,r=xother,p=AAAA", ScramError::WrongNonce),
        ("c=eSws,r=xserver,p=AAAA", ScramError::WrongBinding),
    ] {
        let server = ScramServer::start(Hash::Sha1, false, b"n,,n=u,r=x", &no_bindings()).unwrap();
        let (server, _) = server.challenge(keys(Hash::Sha1, "c2FsdA=="), "server", None);
        assert_eq!(
            server.finish(message.as_bytes()).unwrap_err(),
            expected,
            "{message:?}"
        );
    }
}

proptest! {
    #[test]
    fn no_message_makes_the_server_panic(first in ".{0,80}", last in ".{0,80}") {
        let _ = ScramServer::start(Hash::Sha1, false, first.as_bytes(), &no_bindings());
        let server = ScramServer::start(Hash::Sha1, false, b"n,,n=u,r=x", &no_bindings()).unwrap();
        let (server, _) = server.challenge(
            ScramKeys::from_parts(Hash::Sha1, b"salt", 4096, &[1; 20], &[2; 20]).unwrap(),
            "server",
            None,
        );
        prop_assert!(server.finish(last.as_bytes()).is_err());
    }

    #[test]
    fn names_survive_escaping(name in "[a-z=,\u{e9}]{1,12}") {
        let client = ScramClient::new(
            Hash::Sha1, ClientBinding::Unsupported, None, &name, password(), "n",
        );
        let server =
            ScramServer::start(Hash::Sha1, false, client.first().as_bytes(), &no_bindings()).unwrap();
        prop_assert_eq!(server.username(), name);
    }
}
