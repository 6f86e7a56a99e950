//! Several domains behind one acceptor: which certificate, and which session.

use super::*;

const FIRST: &str = "first.example";
const SECOND: &str = "second.example";

fn own(domain: &str) -> Pem {
    Pem::self_signed(domain, SystemTime::now()).expect("a name that a certificate can carry")
}

fn end_point(pem: &Pem) -> Vec<u8> {
    let hash = ring::digest::digest(&ring::digest::SHA256, &der(pem));
    hash.as_ref().to_vec()
}

/// A server of both, and a client that trusts both.
async fn both(version: &'static SupportedProtocolVersion) -> (Server, [Pem; 2], Arc<ClientConfig>) {
    let pems = [own(FIRST), own(SECOND)];
    let mut server = Server::new(&pems[0]).await;
    let hosts = [host(FIRST, &pems[0]), host(SECOND, &pems[1])];
    server.acceptor = TlsAcceptor::new(&hosts).expect("our own certificates");
    let config = Arc::new(client(&[&pems[0], &pems[1]], version));
    (server, pems, config)
}

/// A handshake in which the client says that it wants this domain, and would refuse another.
async fn handshake(
    server: &Server,
    config: &Arc<ClientConfig>,
    entry: Entry,
    header: Option<&str>,
    name: &str,
) -> (Transport, TlsInfo, ClientStream<TcpStream>) {
    let accepting = async {
        let (tcp, _) = server.listener.accept().await.expect("loop-back");
        let transport = Transport::plain(tcp);
        transport.secure_for(&server.acceptor, entry, header).await
    };
    let connecting = async {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        let tcp = TcpStream::connect(server.address).await?;
        TlsConnector::from(Arc::clone(config))
            .connect(name, tcp)
            .await
    };
    let (ours, theirs) = tokio::join!(accepting, connecting);
    let (ours, info) = ours.expect("the server takes it");
    (ours, info, theirs.expect("the client takes it"))
}

fn shown(client: &ClientStream<TcpStream>) -> Vec<u8> {
    let chain = client
        .get_ref()
        .1
        .peer_certificates()
        .expect("there is one");
    let hash = ring::digest::digest(&ring::digest::SHA256, &chain[0]);
    hash.as_ref().to_vec()
}

#[tokio::test]
async fn direct_tls_shows_the_certificate_of_the_name_and_binds_to_it_when_resumed_too() {
    for version in VERSIONS {
        let (server, pems, config) = both(version).await;
        for (name, pem) in [FIRST, SECOND].into_iter().zip(&pems) {
            for resumed in [false, true] {
                let (mut ours, info, mut theirs) =
                    handshake(&server, &config, Entry::Direct, None, name).await;
                exchange(&mut ours, &mut theirs).await;
                assert_eq!(is_resumed(&ours), resumed, "{name}");
                assert_eq!(shown(&theirs), end_point(pem));
                assert_eq!(info.server_end_point, Some(end_point(pem)), "{name}");
                assert_eq!(info.sni.as_deref(), Some(name));
            }
        }
    }
}

#[tokio::test]
async fn who_names_no_domain_or_an_unknown_one_is_shown_the_first_certificate() {
    let (server, pems, _) = both(&version::TLS13).await;
    let wild = own("*.second.example");
    let mut nameless = client(&[&pems[0], &pems[1]], &version::TLS13);
    nameless.enable_sni = false;
    let nameless = Arc::new(nameless);
    let (_, info, theirs) = handshake(&server, &nameless, Entry::Direct, None, FIRST).await;
    assert_eq!(info.sni, None);
    assert_eq!(shown(&theirs), end_point(&pems[0]));
    assert_eq!(info.server_end_point, Some(end_point(&pems[0])));
    // One whose certificate is for a name that is nobody's domain.
    let hosts = [host(FIRST, &pems[0]), host(SECOND, &wild)];
    server.acceptor.reload(&hosts).expect("our own");
    let trusting = Arc::new(client(&[&pems[0], &wild], &version::TLS13));
    let (_, info, _) = handshake(
        &server,
        &trusting,
        Entry::Direct,
        None,
        "files.second.example",
    )
    .await;
    assert_eq!(info.server_end_point, Some(end_point(&wild)));
    let (_, info, _) = handshake(&server, &trusting, Entry::Direct, None, FIRST).await;
    assert_eq!(info.server_end_point, Some(end_point(&pems[0])));
}

#[tokio::test]
async fn starttls_shows_the_certificate_of_the_stream_whatever_the_name_in_tls() {
    for version in VERSIONS {
        let (server, pems, mut config) = both(version).await;
        for sends_name in [true, false] {
            Arc::make_mut(&mut config).enable_sni = sends_name;
            for (domain, pem) in [FIRST, SECOND].into_iter().zip(&pems) {
                let header = Some(domain);
                let (_, info, theirs) =
                    handshake(&server, &config, Entry::StartTls, header, domain).await;
                assert_eq!(shown(&theirs), end_point(pem));
                assert_eq!(info.server_end_point, Some(end_point(pem)));
            }
        }
        // The other name in TLS: what the client then makes of the certificate is its affair.
        let lax = Arc::new(client(&[&pems[0], &pems[1]], version));
        let accepting = async {
            let (tcp, _) = server.listener.accept().await.expect("loop-back");
            let transport = Transport::plain(tcp);
            let secured = transport.secure_for(&server.acceptor, Entry::StartTls, Some(SECOND));
            secured.await
        };
        let connecting = async {
            let name = ServerName::try_from(FIRST).expect("a name");
            let tcp = TcpStream::connect(server.address).await?;
            TlsConnector::from(lax).connect(name, tcp).await
        };
        let (_, theirs) = tokio::join!(accepting, connecting);
        let error = theirs.expect_err("it is not the certificate of that name");
        let said = format!("{error:?}");
        assert!(said.contains("NotValidForName"), "{said}");
    }
}

#[tokio::test]
async fn a_ticket_of_one_domain_does_not_resume_a_session_of_another() {
    for version in VERSIONS {
        // Without a name in TLS nothing but the stream's domain tells the sessions apart, and the
        // client keeps its tickets by the name that it verifies: it is the same for both here.
        let (one, other) = (own("localhost"), own("localhost"));
        let (server, _, _) = both(version).await;
        let hosts = [host(FIRST, &one), host(SECOND, &other)];
        server.acceptor.reload(&hosts).expect("our own");
        let mut config = client(&[&one, &other], version);
        config.enable_sni = false;
        let config = Arc::new(config);
        let to = |header| handshake(&server, &config, Entry::StartTls, Some(header), "localhost");
        let (mut ours, _, mut theirs) = to(FIRST).await;
        exchange(&mut ours, &mut theirs).await;
        let (mut ours, info, mut theirs) = to(SECOND).await;
        exchange(&mut ours, &mut theirs).await;
        assert!(!is_resumed(&ours), "{version:?}");
        assert_eq!(info.server_end_point, Some(end_point(&other)));
        let (ours, info, _) = to(SECOND).await;
        assert!(is_resumed(&ours), "{version:?}");
        assert_eq!(info.server_end_point, Some(end_point(&other)));
    }
}

#[tokio::test]
async fn one_unusable_certificate_leaves_all_as_they_were() {
    let (server, pems, config) = both(&version::TLS13).await;
    let broken = Pem {
        chain: "no PEM".to_owned(),
        key: pems[1].key.clone(),
    };
    let hosts = [host(FIRST, &own(FIRST)), host(SECOND, &broken)];
    let error = server.acceptor.reload(&hosts).expect_err("it holds none");
    assert!(
        error.starts_with("second.example: the certificate"),
        "{error}"
    );
    let (_, info, _) = handshake(&server, &config, Entry::Direct, None, FIRST).await;
    assert_eq!(info.server_end_point, Some(end_point(&pems[0])));
}

#[tokio::test]
async fn the_certificate_of_one_domain_is_replaced_and_those_of_the_others_stay() {
    let (server, pems, _) = both(&version::TLS13).await;
    let new = own(SECOND);
    let replaced = server.acceptor.replace(&host(SECOND, &new));
    replaced.expect("our own certificate");
    let config = Arc::new(client(&[&pems[0], &new], &version::TLS13));
    for (name, pem) in [(FIRST, &pems[0]), (SECOND, &new)] {
        for (entry, header) in [(Entry::Direct, None), (Entry::StartTls, Some(name))] {
            let (_, info, _) = handshake(&server, &config, entry, header, name).await;
            assert_eq!(info.server_end_point, Some(end_point(pem)), "{name}");
        }
    }
    let broken = Pem {
        chain: "no PEM".to_owned(),
        key: new.key.clone(),
    };
    let refused = server.acceptor.replace(&host(SECOND, &broken));
    assert!(refused.is_err());
    let (_, info, _) = handshake(&server, &config, Entry::Direct, None, SECOND).await;
    assert_eq!(info.server_end_point, Some(end_point(&new)));
}
