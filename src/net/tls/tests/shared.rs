//! One port for several protocols: which one, the client says.

use super::*;

async fn accept_any(
    server: &Server,
    serves_servers: bool,
) -> Result<(Transport, TlsInfo, Entry), HandshakeError> {
    let (tcp, _) = server.listener.accept().await?;
    let accepted = TlsStream::accept_any(tcp, &server.acceptor, serves_servers).await;
    accepted.map(|(stream, info, entry)| (Transport::Tls(stream), info, entry))
}

fn offering(
    pem: &Pem,
    version: &'static SupportedProtocolVersion,
    protocols: &[&str],
) -> Arc<ClientConfig> {
    let mut config = client(&[pem], version);
    config.alpn_protocols = protocols
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
    Arc::new(config)
}

#[tokio::test]
async fn a_client_is_served_as_what_it_offers() {
    let pem = pem();
    let server = Server::new(&pem).await;
    for version in VERSIONS {
        for (offered, serves_servers, entry, chosen) in [
            (
                &["xmpp-client"][..],
                false,
                Entry::Direct,
                Some("xmpp-client"),
            ),
            (&["xmpp-client"], true, Entry::Direct, Some("xmpp-client")),
            (
                &["xmpp-server"],
                true,
                Entry::ServerDirect,
                Some("xmpp-server"),
            ),
            (&["h2", "http/1.1"], true, Entry::Https, Some("http/1.1")),
            (
                &["xmpp-client", "http/1.1"],
                true,
                Entry::Https,
                Some("http/1.1"),
            ),
            (&[], true, Entry::Https, None),
        ] {
            let config = offering(&pem, version, offered);
            let connecting = connect(&config, server.address);
            let (ours, theirs) = tokio::join!(accept_any(&server, serves_servers), connecting);
            let (mut ours, info, found) = ours.expect("it is served");
            let mut theirs = theirs.expect("it is served");
            assert_eq!(found, entry, "{offered:?}");
            assert_eq!(
                info.alpn.as_deref(),
                chosen.map(str::as_bytes),
                "{offered:?}"
            );
            assert_eq!(info.exporter, Some(exported(&theirs)), "{offered:?}");
            exchange(&mut ours, &mut theirs).await;
        }
        // Where nobody else is talked with, nobody else is served; and h2 never is.
        for (offered, serves_servers) in [(&["xmpp-server"][..], false), (&["h2"], true)] {
            let config = offering(&pem, version, offered);
            let connecting = connect(&config, server.address);
            let (ours, theirs) = tokio::join!(accept_any(&server, serves_servers), connecting);
            assert!(matches!(ours, Err(HandshakeError::Refused(_))));
            let said = theirs.expect_err("no_application_protocol").to_string();
            assert!(said.contains("NoApplicationProtocol"), "{said}");
        }
    }
}

#[tokio::test]
async fn sessions_of_a_shared_port_are_resumed_too() {
    let pem = pem();
    let server = Server::new(&pem).await;
    for version in VERSIONS {
        let config = offering(&pem, version, &["xmpp-client"]);
        for resumed in [false, true] {
            let connecting = connect(&config, server.address);
            let (ours, theirs) = tokio::join!(accept_any(&server, true), connecting);
            let (mut ours, _, _) = ours.expect("it is served");
            assert_eq!(is_resumed(&ours), resumed);
            exchange(&mut ours, &mut theirs.expect("it is served")).await;
        }
    }
}

#[tokio::test]
async fn what_a_client_wants_may_arrive_in_pieces() {
    let pem = pem();
    let server = Server::new(&pem).await;
    let config = offering(&pem, &version::TLS13, &["xmpp-client"]);
    for piece in [1, 5, 100, 100_000] {
        let name = ServerName::try_from("localhost").expect("a name");
        let mut client =
            rustls::ClientConnection::new(Arc::clone(&config), name).expect("a configuration");
        let mut hello = Vec::new();
        client.write_tls(&mut hello).expect("memory");
        let speaking = async {
            let mut tcp = TcpStream::connect(server.address).await.expect("open");
            tcp.set_nodelay(true).expect("a socket");
            for bytes in hello.chunks(piece) {
                tcp.write_all(bytes).await.expect("open");
                tokio::task::yield_now().await;
            }
            // A ServerHello: it has understood.
            let mut answer = [0; 6];
            tcp.read_exact(&mut answer).await.expect("an answer");
            answer
        };
        let (ours, answer) = tokio::join!(accept_any(&server, true), speaking);
        assert!(ours.is_err(), "the client does not go on");
        assert_eq!((answer[0], answer[5]), (22, 2), "pieces of {piece}");
    }
}

#[tokio::test]
async fn what_is_no_hello_is_refused_there_too() {
    let pem = pem();
    let server = Server::new(&pem).await;
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0x16, 3, 1, 0, 4, 1, 0, 0, 0],
        b"\x16",
    ] {
        let speaking = async {
            let mut tcp = TcpStream::connect(server.address).await.expect("open");
            tcp.write_all(bytes).await.expect("open");
            tcp.shutdown().await.expect("open");
            let mut answer = Vec::new();
            drop(tcp.read_to_end(&mut answer).await);
            answer
        };
        let (ours, answer) = tokio::join!(accept_any(&server, true), speaking);
        assert!(ours.is_err());
        assert!(answer.is_empty() || answer[0] == 0x15, "{answer:?}");
    }
    let endless = async {
        let mut tcp = TcpStream::connect(server.address).await.expect("open");
        // A hello that claims 60 kB, in fragments of 1 kB.
        let mut bytes = vec![0x16, 3, 1, 4, 0, 1, 0, 0xea, 0x60];
        bytes.resize(5 + 1024, 0);
        let mut sent = 0;
        while tcp.write_all(&bytes).await.is_ok() && sent < 1000 {
            bytes[5..9].fill(0);
            sent += 1;
        }
    };
    let (ours, ()) = tokio::join!(accept_any(&server, true), endless);
    assert!(ours.is_err());
}
