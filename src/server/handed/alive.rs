//! What PID 1 hears of a server that serves: that it answers, and figures for the console.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use super::tell;
use crate::machine::link::{Figures, Line, ToMachine};
use crate::router::Core;
use crate::service::certificates;

/// How often PID 1 hears that the server is alive.
const EVERY: Duration = Duration::from_secs(5);
/// How long the server has to answer itself.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The first byte of a record that holds an alert (RFC 8446 §5.1).
const TLS_ALERT: u8 = 21;

/// Tells PID 1 that clients are served, and from then on that the server is alive. With `serves`
/// unset nobody is served but who claims the machine.
pub(super) fn report(line: &Line, core: &Weak<Core>, addresses: &[SocketAddr], serves: bool) {
    let mut answers = !serves;
    loop {
        let Some(core) = core.upgrade() else {
            return;
        };
        if !answers {
            let domain = &core.config.domain;
            answers = addresses.iter().all(|address| answers_at(*address, domain));
            if answers {
                tell(line, &ToMachine::Serving);
            }
        }
        tell(line, &ToMachine::Alive(Box::new(figures(&core, addresses))));
        drop(core);
        thread::sleep(EVERY);
    }
}

/// Whether a stream can be opened there (RFC 6120 §4.2), over the loopback. Where TLS comes first its
/// alert is as good an answer (RFC 8446 §6).
fn answers_at(address: SocketAddr, domain: &str) -> bool {
    let ip: IpAddr = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&(ip, address.port()).into(), ANSWER_WITHIN)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        write!(
            stream,
            "<?xml version='1.0'?><stream:stream to='{domain}' version='1.0' \
             xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
        )?;
        let mut said = Vec::new();
        let mut buffer = [0; 1024];
        while said.len() < 16 * 1024 {
            let len = stream.read(&mut buffer)?;
            if len == 0 {
                break;
            }
            said.extend_from_slice(&buffer[..len]);
            if said[0] == TLS_ALERT {
                return Ok(true);
            }
            if memchr::memmem::find(&said, b"<starttls").is_some() {
                stream.write_all(b"</stream:stream>")?;
                return Ok(true);
            }
        }
        Ok(false)
    };
    ask().unwrap_or(false)
}

fn figures(core: &Arc<Core>, addresses: &[SocketAddr]) -> Figures {
    let stat = core.store.stat();
    let segment = u64::from(stat.log.geometry.segment_bytes);
    let in_use = stat.log.segments.saturating_sub(stat.log.segments_free);
    Figures {
        accounts: stat.accounts as u64,
        sessions: core.table.count() as u64,
        used_bytes: u64::from(in_use) * segment,
        store_bytes: u64::from(stat.log.segments) * segment,
        certificate: certificate(core),
        listening: addresses.to_vec(),
    }
}

/// Its names, its end, and on a line of its own what `--pin` takes.
fn certificate(core: &Core) -> String {
    let current = certificates::current(&core.config, &core.store)
        .ok()
        .flatten();
    let facts = current.and_then(|(pem, _)| pem.facts());
    facts.map_or_else(String::new, |facts| {
        format!(
            "{} until {}\n{}",
            facts.names.join(", "),
            facts.not_after,
            facts.fingerprint.to_string().replace(':', "")
        )
    })
}
