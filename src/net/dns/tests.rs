//! What follows from answers, and how servers are asked.

use std::net::UdpSocket;
use std::thread;

use super::*;

fn offers(host: &str, tls: Tls) -> Result<Services, Nowhere> {
    Ok(Services::Records(vec![Srv {
        priority: 1,
        weight: 1,
        target: Target {
            host: host.to_owned(),
            port: 5269,
            tls,
        },
    }]))
}

fn broken() -> Result<Services, Nowhere> {
    Err(Nowhere::Unknown("the DNS fails".to_owned()))
}

fn hosts(both: [Result<Services, Nowhere>; 2]) -> Result<Vec<String>, Nowhere> {
    let targets = chosen("a.example", both, |_| 0)?;
    Ok(targets.into_iter().map(|target| target.host).collect())
}

/// RFC 6120 §3.2.1, XEP-0368 §3.
#[test]
fn one_service_that_fails_does_not_hide_the_other() {
    let direct = || offers("direct", Tls::Direct);
    let start = || offers("start", Tls::StartTls);
    assert_eq!(hosts([broken(), start()]), Ok(vec!["start".to_owned()]));
    assert_eq!(hosts([direct(), broken()]), Ok(vec!["direct".to_owned()]));
    let unknown = Err(Nowhere::Unknown("the DNS fails".to_owned()));
    assert_eq!(hosts([broken(), broken()]), unknown);
}

#[test]
fn the_domain_itself_is_the_target_only_where_both_services_are_known_to_be_absent() {
    let none = || Ok(Services::None);
    assert_eq!(hosts([none(), none()]), Ok(vec!["a.example".to_owned()]));
    for both in [[broken(), none()], [none(), broken()]] {
        assert!(matches!(hosts(both), Err(Nowhere::Unknown(_))));
    }
}

#[test]
fn a_service_that_is_declined_is_not_looked_for_elsewhere() {
    let declined = || Ok(Services::Declined);
    for both in [
        [declined(), declined()],
        [declined(), Ok(Services::None)],
        [Ok(Services::None), declined()],
    ] {
        assert!(matches!(hosts(both), Err(Nowhere::NotFound(_))));
    }
    // The other one may be there.
    assert!(matches!(
        hosts([declined(), broken()]),
        Err(Nowhere::Unknown(_))
    ));
    let start = offers("start", Tls::StartTls);
    assert_eq!(hosts([declined(), start]), Ok(vec!["start".to_owned()]));
}

/// A name server that knows one address for every name, and nothing else.
fn server() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = socket.local_addr().expect("bound");
    thread::spawn(move || {
        let mut question = [0; 1_024];
        while let Ok((len, from)) = socket.recv_from(&mut question) {
            drop(socket.send_to(&answer(&question[..len]), from));
        }
    });
    address
}

/// Header and question as they came (RFC 1035 §4.1), and for an A record `192.0.2.9`.
fn answer(question: &[u8]) -> Vec<u8> {
    let name_len = question[12..]
        .iter()
        .position(|byte| *byte == 0)
        .expect("a name ends");
    let end = 12 + name_len + 5;
    let is_a = question[end - 4..end - 2] == [0, 1];
    let mut said = question[..end].to_vec();
    said[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
    if is_a {
        said.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 9]);
    }
    said
}

/// Where others answer themselves (RFC 6761, RFC 7686), the operator's servers are asked here.
#[tokio::test]
async fn no_name_is_special() {
    let resolver = Resolver::new(vec![server()], Anchor::public());
    for host in [
        "localhost",
        "a.localhost",
        "a.invalid",
        "a.test",
        "a.local",
        "a.onion",
        "a.example",
        "1.0.0.127.in-addr.arpa",
    ] {
        let addresses = resolver.addresses(host).await;
        assert_eq!(addresses, Ok(vec![[192, 0, 2, 9].into()]), "{host}");
        let targets = resolver.targets(host, |_| 0).await;
        assert_eq!(targets, Ok(vec![Target::itself(host)]), "{host}");
    }
}

#[tokio::test]
async fn without_servers_nothing_is_asked() {
    let resolver = Resolver {
        source: Source::Files(Vec::new()),
        anchor: Anchor::public(),
        current: Mutex::default(),
    };
    let nowhere = resolver.targets("a.example", |_| 0).await;
    assert!(matches!(nowhere, Err(Nowhere::Unknown(_))), "{nowhere:?}");
}

/// Some name servers, and what stands before them, swallow questions for what they do not know.
#[tokio::test]
async fn a_question_about_certificates_that_nobody_answers_is_not_asked_again_at_once() {
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("bound");
    let resolver = Resolver::new(vec![address], Anchor::public());
    let target = Target::itself("a.example");
    let asking = resolver.associations("a.example", &target);
    let found = tokio::time::timeout(secure::PATIENCE * 2, asking).await;
    assert_eq!(found.map(|found| found.len()), Ok(0), "in time");
    // Nobody is waited for at all.
    let asking = resolver.associations("a.example", &target);
    let found = tokio::time::timeout(Duration::from_secs(1), asking).await;
    assert_eq!(found.map(|found| found.len()), Ok(0), "at once");
    silent.set_nonblocking(true).expect("a socket");
    let asked = silent.recv(&mut [0; 512]);
    assert!(asked.is_ok(), "nobody was asked: {asked:?}");
}
