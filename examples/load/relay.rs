//! The yardstick: what TLS, the kernel and tokio cost for the same bytes, with nothing else done.
//!
//! A connection names its channel in the first line; whatever it sends from then on goes to the
//! other connection of that channel. The channel `echo` answers itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

type Channels = Arc<Mutex<HashMap<String, mpsc::UnboundedSender<Vec<u8>>>>>;

/// Serves until it is killed; prints its port first.
pub fn run() {
    super::measure::raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime starts");
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        println!("{}", listener.local_addr().expect("it is bound").port());
        let acceptor = acceptor();
        let channels = Channels::default();
        loop {
            if let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, channels) = (acceptor.clone(), channels.clone());
                tokio::spawn(async move { serve(tcp, &acceptor, &channels).await });
            }
        }
    });
}

fn acceptor() -> TlsAcceptor {
    let signed =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("rcgen signs");
    let key =
        PrivateKeyDer::try_from(signed.signing_key.serialize_der()).expect("rcgen writes PKCS#8");
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .expect("the key fits the certificate");
    TlsAcceptor::from(Arc::new(config))
}

async fn serve(tcp: TcpStream, acceptor: &TlsAcceptor, channels: &Channels) -> Option<()> {
    tcp.set_nodelay(true).ok()?;
    let mut tls = acceptor.accept(tcp).await.ok()?;
    let mut buffer = vec![0; 16 * 1024];
    let read = tls.read(&mut buffer).await.ok()?;
    let name = String::from_utf8_lossy(&buffer[..read]).trim().to_owned();
    tls.write_all(b"ok\n").await.ok()?;
    if name == "echo" {
        loop {
            let read = tls.read(&mut buffer).await.ok().filter(|&read| read > 0)?;
            tls.write_all(&buffer[..read]).await.ok()?;
        }
    }
    let (to_me, mut for_me) = mpsc::unbounded_channel::<Vec<u8>>();
    let (mine, peer) = match name.split_once('/') {
        Some((channel, "a")) => (format!("{channel}/a"), format!("{channel}/b")),
        Some((channel, _)) => (format!("{channel}/b"), format!("{channel}/a")),
        None => return None,
    };
    channels.lock().ok()?.insert(mine, to_me);
    let (mut from_client, mut to_client) = tokio::io::split(tls);
    let mut to_peer = None;
    loop {
        tokio::select! {
            read = from_client.read(&mut buffer) => {
                let read = read.ok().filter(|&read| read > 0)?;
                if to_peer.is_none() {
                    to_peer = channels.lock().ok()?.get(&peer).cloned();
                }
                to_peer.as_ref()?.send(buffer[..read].to_vec()).ok()?;
            }
            bytes = for_me.recv() => to_client.write_all(&bytes?).await.ok()?,
        }
    }
}
