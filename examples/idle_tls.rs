//! Memory of idle TLS sessions: `cargo run --release --example idle_tls [sessions]`.
//!
//! A child process connects and stays silent; this one accepts, holds each
//! session in a task that waits for bytes, and says what a session costs in
//! resident anonymous memory.

#![expect(clippy::print_stdout, reason = "it reports")]

use std::env;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::BytesMut;
use cairn::net::certificate::Pem;
use cairn::net::tls::{Entry, TlsAcceptor};
use cairn::net::transport::{Read, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

fn main() {
    let mut arguments = env::args().skip(1);
    let first = arguments.next().unwrap_or_else(|| "5000".to_owned());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("threads");
    match first.as_str() {
        "client" => {
            let sessions = arguments.next().and_then(|text| text.parse().ok());
            let to = arguments.next().and_then(|text| text.parse().ok());
            let chain = fs::read_to_string(arguments.next().expect("a file")).expect("readable");
            runtime.block_on(client(
                sessions.expect("a number"),
                to.expect("an address"),
                &chain,
            ));
        }
        sessions => runtime.block_on(server(sessions.parse().expect("a number of sessions"))),
    }
}

async fn server(sessions: usize) {
    let pem = Pem::self_signed("localhost", SystemTime::now()).expect("a certificate");
    let acceptor = Arc::new(TlsAcceptor::of_one(&pem).expect("a certificate"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loop-back");
    let address = listener.local_addr().expect("bound");
    let chain = env::temp_dir().join(format!("idle-tls-{}.pem", std::process::id()));
    fs::write(&chain, &pem.chain).expect("writable");
    let mut child = Command::new(env::current_exe().expect("this program"))
        .args(["client", &sessions.to_string(), &address.to_string()])
        .arg(&chain)
        .spawn()
        .expect("it starts");
    let before = anonymous_kib();
    let (ready, mut readies) = mpsc::channel(64);
    for _ in 0..sessions {
        let (tcp, _) = listener.accept().await.expect("a connection");
        tcp.set_nodelay(true).expect("a socket");
        let (acceptor, ready) = (Arc::clone(&acceptor), ready.clone());
        tokio::spawn(async move {
            let (mut transport, _) = Transport::plain(tcp)
                .secure(&acceptor, Entry::Direct)
                .await
                .expect("a handshake");
            transport.write_all(b"<hello/>").await.expect("open");
            ready.send(()).await.expect("counted");
            drop(ready);
            let mut bytes = BytesMut::new();
            loop {
                transport.readable().await.expect("open");
                match transport.try_read(&mut bytes) {
                    Ok(Read::Closed) | Err(_) => break,
                    Ok(_) => bytes = BytesMut::new(),
                }
            }
        });
        // One at a time keeps the peak of the handshakes out of the figure.
        readies.recv().await.expect("a session");
    }
    let after = anonymous_kib();
    println!(
        "{sessions} idle TLS 1.3 sessions: {} bytes each ({before} KiB -> {after} KiB anonymous)",
        (after - before) * 1024 / sessions
    );
    drop(child.kill());
    drop(child.wait());
    drop(fs::remove_file(chain));
}

async fn client(sessions: usize, to: SocketAddr, chain: &str) {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(chain.as_bytes()).expect("PEM"))
        .expect("a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let mut held = Vec::with_capacity(sessions);
    for _ in 0..sessions {
        let tcp = TcpStream::connect(to).await.expect("it listens");
        tcp.set_nodelay(true).expect("a socket");
        let name = ServerName::try_from("localhost").expect("a name");
        let mut stream = connector.connect(name, tcp).await.expect("a handshake");
        let mut hello = [0; 8];
        stream.read_exact(&mut hello).await.expect("open");
        stream.write_all(b" ").await.expect("open");
        held.push(stream);
    }
    std::future::pending::<()>().await;
}

fn anonymous_kib() -> usize {
    let status = fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let figure = line.and_then(|line| line.trim().strip_suffix("kB"));
    figure
        .and_then(|text| text.trim().parse().ok())
        .expect("a figure")
}
