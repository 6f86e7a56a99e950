//! The server side against tokio-rustls' client.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream as ClientStream;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};

use super::acceptor::crypto;
use super::*;
use crate::net::certificate::{self, Pem};
use crate::net::transport::Transport;

mod hosts;
mod shared;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];

fn pem() -> Pem {
    Pem::self_signed("localhost", SystemTime::now()).expect("a name that a certificate can carry")
}

fn host(domain: &str, pem: &Pem) -> HostPem {
    HostPem {
        domain: domain.to_owned(),
        pem: pem.clone(),
    }
}

fn der(pem: &Pem) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.chain.as_bytes()).expect("our own PEM")
}

fn client(trusted: &[&Pem], version: &'static SupportedProtocolVersion) -> ClientConfig {
    client_of(crypto(), trusted, version)
}

fn client_of(
    provider: CryptoProvider,
    trusted: &[&Pem],
    version: &'static SupportedProtocolVersion,
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for pem in trusted {
        roots.add(der(pem)).expect("our own certificate");
    }
    ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[version])
        .expect("the suites have this version")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

async fn connect(
    config: &Arc<ClientConfig>,
    to: SocketAddr,
) -> io::Result<ClientStream<TcpStream>> {
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::clone(config))
        .connect(name, TcpStream::connect(to).await?)
        .await
}

struct Server {
    listener: TcpListener,
    address: SocketAddr,
    acceptor: TlsAcceptor,
}

impl Server {
    async fn new(pem: &Pem) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loop-back");
        Self {
            address: listener.local_addr().expect("bound"),
            acceptor: TlsAcceptor::of_one(pem).expect("our own certificate"),
            listener,
        }
    }

    async fn accept(&self, entry: Entry) -> Result<(Transport, TlsInfo), HandshakeError> {
        let (tcp, _) = self.listener.accept().await?;
        Transport::plain(tcp).secure(&self.acceptor, entry).await
    }

    /// Both sides of one session.
    async fn pair(
        &self,
        config: &Arc<ClientConfig>,
    ) -> (Transport, TlsInfo, ClientStream<TcpStream>) {
        let (server, client) =
            tokio::join!(self.accept(Entry::Direct), connect(config, self.address));
        let (server, info) = server.expect("the server takes it");
        (server, info, client.expect("the client takes it"))
    }
}

/// Reads until there are `bytes` bytes.
async fn read_exact(transport: &mut Transport, bytes: usize) -> BytesMut {
    let mut into = BytesMut::new();
    while into.len() < bytes {
        transport.readable().await.expect("open");
        let read = transport.try_read(&mut into).expect("sound");
        assert_ne!(read, Read::Closed, "after {} bytes", into.len());
    }
    into
}

fn exported(client: &ClientStream<TcpStream>) -> [u8; 32] {
    client
        .get_ref()
        .1
        .export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b""))
        .expect("the handshake is done")
}

fn is_resumed(transport: &Transport) -> bool {
    matches!(transport, Transport::Tls(stream) if stream.is_resumed())
}

/// The client reads its tickets with the first data.
async fn exchange(server: &mut Transport, client: &mut ClientStream<TcpStream>) {
    server.write_all(b"pong").await.expect("open");
    let mut four = [0; 4];
    client.read_exact(&mut four).await.expect("open");
    assert_eq!(&four, b"pong");
    client.write_all(b"ping").await.expect("open");
    assert_eq!(read_exact(server, 4).await, b"ping"[..]);
}

#[tokio::test]
async fn both_versions_shake_hands_and_bind_the_channel() {
    let pem = pem();
    let server = Server::new(&pem).await;
    for (version, name) in VERSIONS.into_iter().zip(["TLSv1.3", "TLSv1.2"]) {
        let config = Arc::new(client(&[&pem], version));
        let (mut ours, info, mut theirs) = server.pair(&config).await;
        exchange(&mut ours, &mut theirs).await;
        assert_eq!(info.version, name);
        assert!(!is_resumed(&ours));
        assert_eq!(info.alpn, None);
        assert_eq!(info.sni.as_deref(), Some("localhost"));
        assert_eq!(info.exporter, Some(exported(&theirs)), "{name}");
        let hash = ring::digest::digest(&ring::digest::SHA256, &der(&pem));
        assert_eq!(info.server_end_point.as_deref(), Some(hash.as_ref()));
    }
}

#[tokio::test]
async fn every_cipher_suite_exports_what_the_client_exports() {
    let pem = pem();
    let server = Server::new(&pem).await;
    let suites = crypto().cipher_suites;
    let mut spoken = 0;
    for suite in suites {
        let version = VERSIONS[usize::from(suite.tls13().is_none())];
        let provider = CryptoProvider {
            cipher_suites: vec![suite],
            ..crypto()
        };
        let config = Arc::new(client_of(provider, &[&pem], version));
        let (ours, theirs) = tokio::join!(
            server.accept(Entry::StartTls),
            connect(&config, server.address)
        );
        // Suites for RSA find no RSA certificate here.
        if let (Ok((_, info)), Ok(theirs)) = (ours, theirs) {
            assert_eq!(info.exporter, Some(exported(&theirs)), "{suite:?}");
            spoken += 1;
        }
    }
    assert_eq!(
        spoken, 6,
        "three suites of TLS 1.3, three ECDSA ones of TLS 1.2"
    );
}

#[tokio::test]
async fn resumed_sessions_bind_their_own_channel() {
    let pem = pem();
    let server = Server::new(&pem).await;
    for version in VERSIONS {
        let config = Arc::new(client(&[&pem], version));
        let (mut ours, first, mut theirs) = server.pair(&config).await;
        exchange(&mut ours, &mut theirs).await;
        let (mut ours, second, mut theirs) = server.pair(&config).await;
        exchange(&mut ours, &mut theirs).await;
        assert!(is_resumed(&ours), "{version:?}");
        assert_eq!(
            theirs.get_ref().1.handshake_kind(),
            Some(HandshakeKind::Resumed)
        );
        assert_eq!(second.exporter, Some(exported(&theirs)), "{version:?}");
        assert_ne!(second.exporter, first.exporter, "{version:?}");
        assert_eq!(second.server_end_point, first.server_end_point);
        assert_eq!(second.sni.as_deref(), Some("localhost"));
    }
}

#[tokio::test]
async fn a_reload_keeps_sessions_and_drops_tickets() {
    let (old, new) = (pem(), pem());
    let server = Server::new(&old).await;
    for version in VERSIONS {
        server
            .acceptor
            .reload(&[host("localhost", &old)])
            .expect("sound");
        let config = Arc::new(client(&[&old, &new], version));
        let (mut ours, before, mut theirs) = server.pair(&config).await;
        exchange(&mut ours, &mut theirs).await;
        server
            .acceptor
            .reload(&[host("localhost", &new)])
            .expect("sound");
        exchange(&mut ours, &mut theirs).await;
        let (mut ours, after, mut theirs) = server.pair(&config).await;
        exchange(&mut ours, &mut theirs).await;
        assert!(!is_resumed(&ours), "{version:?}");
        assert_ne!(after.server_end_point, before.server_end_point);
        let seen = theirs.get_ref().1.peer_certificates().expect("sent");
        assert_eq!(seen[0], der(&new));
        assert_eq!(
            after.server_end_point.as_deref(),
            certificate::server_end_point(&seen[0]).as_deref()
        );
    }
}

#[tokio::test]
async fn an_unusable_certificate_leaves_the_old_one() {
    let (old, other) = (pem(), pem());
    let server = Server::new(&old).await;
    let mixed = Pem {
        chain: old.chain.clone(),
        key: other.key,
    };
    let said = server
        .acceptor
        .reload(&[host("localhost", &mixed)])
        .expect_err("they do not fit");
    assert!(said.contains("do not fit together"), "{said}");
    let config = Arc::new(client(&[&old], &version::TLS13));
    let (mut ours, _, mut theirs) = server.pair(&config).await;
    exchange(&mut ours, &mut theirs).await;
}

#[tokio::test]
async fn direct_tls_takes_xmpp_client_or_nothing_as_alpn() {
    let pem = pem();
    let server = Server::new(&pem).await;
    let with_alpn = |protocol: &[u8]| {
        let mut config = client(&[&pem], &version::TLS13);
        config.alpn_protocols = vec![protocol.to_vec()];
        Arc::new(config)
    };
    let (_, info, theirs) = server.pair(&with_alpn(b"xmpp-client")).await;
    assert_eq!(info.alpn.as_deref(), Some(&b"xmpp-client"[..]));
    assert_eq!(
        theirs.get_ref().1.alpn_protocol(),
        Some(&b"xmpp-client"[..])
    );
    let web = with_alpn(b"http/1.1");
    let (ours, theirs) = tokio::join!(server.accept(Entry::Direct), connect(&web, server.address));
    assert!(matches!(ours, Err(HandshakeError::Refused(_))));
    assert!(theirs.is_err());
    let (ours, _) = tokio::join!(
        server.accept(Entry::StartTls),
        connect(&web, server.address)
    );
    let (_, info) = ours.expect("STARTTLS does not look at it");
    assert_eq!(info.alpn, None);
}

#[tokio::test]
async fn megabytes_pass_both_ways_at_once() {
    const BYTES: usize = 5_000_000;
    let pem = pem();
    let server = Server::new(&pem).await;
    let payload: Arc<Vec<u8>> = Arc::new((0..BYTES).map(|i| (i / 7) as u8).collect());
    for version in VERSIONS {
        let config = Arc::new(client(&[&pem], version));
        let (mut ours, _, theirs) = server.pair(&config).await;
        let (mut from_us, mut to_us) = tokio::io::split(theirs);
        let (sent, expected) = (Arc::clone(&payload), Arc::clone(&payload));
        let sending = tokio::spawn(async move {
            to_us.write_all(&sent).await.expect("open");
            to_us
        });
        let receiving = tokio::spawn(async move {
            let mut received = vec![0; BYTES];
            from_us.read_exact(&mut received).await.expect("open");
            assert!(received == *expected);
            from_us
        });
        let (mut received, mut written) = (BytesMut::new(), 0);
        while received.len() < BYTES || written < BYTES || ours.is_write_pending() {
            tokio::select! {
                ready = ours.readable(), if received.len() < BYTES => {
                    ready.expect("open");
                    let before = received.len();
                    ours.try_read(&mut received).expect("sound");
                    assert!(received.len() - before <= READ_BYTES_MAX);
                }
                ready = ours.writable(), if written < BYTES || ours.is_write_pending() => {
                    ready.expect("open");
                    // In uneven slices, as stanzas come.
                    let rest = &payload[written..];
                    let (a, b) = rest.split_at(rest.len().min(701));
                    match ours.try_write(&[IoSlice::new(a), IoSlice::new(b)]) {
                        Ok(taken) => written += taken,
                        Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                    }
                    assert!(kept(&ours) <= KEPT_BYTES_MAX);
                }
            }
        }
        assert!(received[..] == payload[..]);
        drop((sending.await, receiving.await));
    }
}

fn kept(transport: &Transport) -> usize {
    match transport {
        Transport::Tls(stream) => {
            stream.incoming.len() + stream.outgoing.len() + stream.early.len()
        }
        Transport::Plain(_) | Transport::Server(_) => 0,
    }
}

#[tokio::test]
async fn a_reader_that_stops_reading_costs_one_record() {
    let pem = pem();
    let server = Server::new(&pem).await;
    let (mut ours, _, theirs) = server
        .pair(&Arc::new(client(&[&pem], &version::TLS13)))
        .await;
    let record = [7; WRITE_BYTES_MAX];
    let mut taken = 0;
    loop {
        match ours.try_write(&[IoSlice::new(&record)]) {
            Ok(bytes) => taken += bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if timeout(Duration::from_millis(50), ours.writable())
                    .await
                    .is_err()
                {
                    break;
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(ours.is_write_pending());
    assert!(kept(&ours) <= KEPT_BYTES_MAX);
    // What was taken arrives once the reader reads again.
    let mut theirs = theirs;
    let reading = tokio::spawn(async move {
        let mut received = vec![0; taken];
        theirs.read_exact(&mut received).await.expect("open");
        received.iter().all(|byte| *byte == 7)
    });
    ours.flush().await.expect("open");
    assert!(!ours.is_write_pending());
    assert!(reading.await.expect("no panic"));
}

#[tokio::test]
async fn an_idle_session_keeps_no_bytes() {
    let pem = pem();
    let server = Server::new(&pem).await;
    let (mut ours, _, mut theirs) = server
        .pair(&Arc::new(client(&[&pem], &version::TLS13)))
        .await;
    exchange(&mut ours, &mut theirs).await;
    let Transport::Tls(stream) = &ours else {
        panic!("it was secured");
    };
    assert_eq!(stream.incoming.capacity(), 0);
    assert_eq!(stream.outgoing.capacity(), 0);
    assert_eq!(stream.early.capacity(), 0);
}

#[tokio::test]
async fn bytes_may_arrive_one_by_one() {
    let pem = pem();
    let server = Server::new(&pem).await;
    let slow = TcpListener::bind("127.0.0.1:0").await.expect("loop-back");
    let address = slow.local_addr().expect("bound");
    let real = server.address;
    let proxy = tokio::spawn(async move {
        let (client, _) = slow.accept().await.expect("open");
        let server = TcpStream::connect(real).await.expect("open");
        server.set_nodelay(true).expect("a socket");
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let back = async { tokio::io::copy(&mut from_server, &mut to_client).await };
        let forth = async {
            while let Ok(byte) = from_client.read_u8().await {
                to_server.write_u8(byte).await.expect("open");
                tokio::task::yield_now().await;
            }
        };
        tokio::join!(back, forth)
    });
    let config = Arc::new(client(&[&pem], &version::TLS13));
    let (ours, theirs) = tokio::join!(server.accept(Entry::Direct), connect(&config, address));
    let (mut ours, info) = ours.expect("in small pieces");
    let mut theirs = theirs.expect("in small pieces");
    assert_eq!(info.exporter, Some(exported(&theirs)));
    exchange(&mut ours, &mut theirs).await;
    proxy.abort();
}

#[tokio::test]
async fn key_updates_pass_unnoticed() {
    let pem = pem();
    let server = Server::new(&pem).await;
    let (mut ours, _, mut theirs) = server
        .pair(&Arc::new(client(&[&pem], &version::TLS13)))
        .await;
    for _ in 0..5 {
        theirs.get_mut().1.refresh_traffic_keys().expect("TLS 1.3");
        exchange(&mut ours, &mut theirs).await;
    }
}

#[tokio::test]
async fn either_side_may_close_first() {
    let pem = pem();
    let server = Server::new(&pem).await;
    for version in VERSIONS {
        let config = Arc::new(client(&[&pem], version));
        // The client ends its direction; ours still works.
        let (mut ours, _, mut theirs) = server.pair(&config).await;
        theirs.write_all(b"bye").await.expect("open");
        theirs.shutdown().await.expect("open");
        assert_eq!(read_exact(&mut ours, 3).await, b"bye"[..]);
        let mut none = BytesMut::new();
        ours.readable().await.expect("open");
        while ours.try_read(&mut none).expect("sound") != Read::Closed {
            ours.readable().await.expect("open");
        }
        ours.write_all(b"see you").await.expect("half open");
        let closing = tokio::spawn(ours.close());
        let mut last = Vec::new();
        theirs
            .read_to_end(&mut last)
            .await
            .expect("a proper end, no cut");
        assert_eq!(last, b"see you");
        drop(theirs);
        closing.await.expect("no panic").expect("orderly");

        // We end first; bytes that still arrive do not destroy our last words.
        let (mut ours, _, mut theirs) = server.pair(&config).await;
        ours.write_all(b"<stream:error/>").await.expect("open");
        let closing = tokio::spawn(ours.close());
        let sent = theirs.write_all(&[0; 100_000]).await;
        sent.expect("taken and thrown away");
        let mut last = Vec::new();
        theirs.read_to_end(&mut last).await.expect("a proper end");
        assert_eq!(last, b"<stream:error/>");
        drop(theirs);
        closing.await.expect("no panic").expect("orderly");
    }
}

#[tokio::test]
async fn garbage_is_answered_by_an_alert() {
    let pem = pem();
    let server = Server::new(&pem).await;
    let garbage: [&[u8]; 4] = [
        b"<?xml version='1.0'?><stream:stream>",
        &[0x16, 3, 1, 0, 4, 1, 0, 0, 0],
        &[0x15, 3, 3, 0, 2, 2, 40],
        &[0x17, 3, 3, 0xff, 0xff],
    ];
    for bytes in garbage {
        let speak = async {
            let mut tcp = TcpStream::connect(server.address).await.expect("open");
            tcp.write_all(bytes).await.expect("open");
            tcp.shutdown().await.expect("open");
            let mut answer = Vec::new();
            drop(tcp.read_to_end(&mut answer).await);
            answer
        };
        let (ours, answer) = tokio::join!(server.accept(Entry::Direct), speak);
        assert!(ours.is_err());
        // An alert, or nothing where the client sent an alert itself.
        assert!(answer.is_empty() || answer[0] == 0x15, "{answer:?}");
    }
}

#[tokio::test]
async fn a_hello_without_end_is_cut_off() {
    let pem = pem();
    let server = Server::new(&pem).await;
    let speak = async {
        let mut tcp = TcpStream::connect(server.address).await.expect("open");
        // A client hello that claims 60 kB, in fragments of 1 kB.
        let mut bytes = vec![0x16, 3, 1, 4, 0, 1, 0, 0xea, 0x60];
        bytes.resize(5 + 1024, 0);
        let mut sent = 0;
        while tcp.write_all(&bytes).await.is_ok() && sent < 1000 {
            bytes[5..9].fill(0);
            sent += 1;
        }
    };
    let (ours, ()) = tokio::join!(server.accept(Entry::Direct), speak);
    assert!(matches!(ours, Err(HandshakeError::Io(_))));
}

#[tokio::test]
async fn a_tampered_record_ends_the_session() {
    let pem = pem();
    let server = Server::new(&pem).await;
    let middle = TcpListener::bind("127.0.0.1:0").await.expect("loop-back");
    let address = middle.local_addr().expect("bound");
    let real = server.address;
    let (tamper, tampering) = oneshot::channel::<()>();
    let proxy = tokio::spawn(async move {
        let (mut client, _) = middle.accept().await.expect("open");
        let mut server = TcpStream::connect(real).await.expect("open");
        tokio::select! {
            _ = copy_bidirectional(&mut client, &mut server) => {}
            _ = tampering => {}
        }
        let mut record = [0; 25];
        record[..5].copy_from_slice(&[0x17, 3, 3, 0, 20]);
        server.write_all(&record).await.expect("open");
        server
    });
    let config = Arc::new(client(&[&pem], &version::TLS13));
    let (ours, theirs) = tokio::join!(server.accept(Entry::Direct), connect(&config, address));
    let (mut ours, _) = ours.expect("untouched so far");
    let theirs = theirs.expect("untouched so far");
    tamper.send(()).expect("the proxy waits");
    let mut into = BytesMut::new();
    let error = loop {
        ours.readable().await.expect("open");
        match ours.try_read(&mut into) {
            Ok(Read::Closed) => panic!("not an orderly end"),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(into.is_empty());
    assert_eq!(
        ours.try_read(&mut into).expect("it has ended"),
        Read::Closed
    );
    drop((theirs, proxy.await));
}

#[test]
fn end_point_hashes_follow_the_signature() {
    let hash_of = |algorithm| {
        let key = rcgen::KeyPair::generate_for(algorithm).expect("ring has it");
        let certificate = rcgen::CertificateParams::new(["localhost".to_owned()])
            .expect("a name")
            .self_signed(&key)
            .expect("signs");
        certificate::server_end_point(certificate.der()).map(|hash| hash.len())
    };
    assert_eq!(hash_of(&rcgen::PKCS_ECDSA_P256_SHA256), Some(32));
    assert_eq!(hash_of(&rcgen::PKCS_ECDSA_P384_SHA384), Some(48));
    assert_eq!(hash_of(&rcgen::PKCS_ED25519), None);
    assert_eq!(certificate::server_end_point(b"no certificate"), None);
}
