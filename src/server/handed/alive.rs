//! What PID 1 hears of a server that serves: that it answers, and figures for the console.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use super::tell;
use crate::machine::link::{Figures, Line, ToMachine};
use crate::net::certificate::Facts;
use crate::net::tls::{Entry, TlsClient};
use crate::router::Core;
use crate::service::certificates;

/// How often PID 1 hears that the server is alive.
const EVERY: Duration = Duration::from_secs(5);
/// How soon it is tried again whether it answers, then twice as late each time: the loopback may come
/// a little later than the server.
const TRY_AGAIN: Duration = Duration::from_millis(100);
/// How long the server has to answer itself.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Tells PID 1 that clients are served, and from then on that the server is alive. With `serves`
/// unset nobody is served but who claims the machine.
pub(super) fn report(
    line: &Line,
    core: &Weak<Core>,
    addresses: &[(SocketAddr, Entry)],
    serves: bool,
) {
    let (mut answers, mut pause) = (!serves, TRY_AGAIN);
    let mut beat = u64::MAX;
    loop {
        let Some(core) = core.upgrade() else {
            return;
        };
        if !answers {
            answers = addresses.iter().all(|at| answers_at(*at, &core));
            if answers {
                tell(line, &ToMachine::Serving);
            }
        }
        // A server whose threads stand still is not alive, though this one turns.
        let last = std::mem::replace(&mut beat, core.beat.load(Ordering::Relaxed));
        if last != beat || !answers {
            tell(line, &ToMachine::Alive(Box::new(figures(&core, addresses))));
        }
        drop(core);
        pause = if answers { EVERY } else { EVERY.min(pause * 2) };
        thread::sleep(pause);
    }
}

/// Whether somebody over the loopback would be served there.
fn answers_at((address, entry): (SocketAddr, Entry), core: &Core) -> bool {
    let ip: IpAddr = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    match entry {
        Entry::StartTls => opens_a_stream((ip, address.port()).into(), &core.config.domain),
        // It asks for a certificate of a server; that it is bound is all that is looked at.
        Entry::ServerStartTls | Entry::ServerDirect => {
            TcpStream::connect_timeout(&(ip, address.port()).into(), ANSWER_WITHIN).is_ok()
        }
        Entry::Direct | Entry::Https => {
            let pin = facts(core).map(|facts| facts.fingerprint);
            TlsClient::connect(&ip.to_string(), address.port(), entry, pin, ANSWER_WITHIN).is_ok()
        }
    }
}

/// Whether a stream can be opened there (RFC 6120 §4.2).
fn opens_a_stream(address: SocketAddr, domain: &str) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, ANSWER_WITHIN)?;
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
            if memchr::memmem::find(&said, b"<starttls").is_some() {
                stream.write_all(b"</stream:stream>")?;
                return Ok(true);
            }
        }
        Ok(false)
    };
    ask().unwrap_or(false)
}

fn figures(core: &Core, addresses: &[(SocketAddr, Entry)]) -> Figures {
    let stat = core.store.stat();
    let segment = u64::from(stat.log.geometry.segment_bytes);
    let in_use = stat.log.segments.saturating_sub(stat.log.segments_free);
    Figures {
        accounts: stat.accounts as u64,
        sessions: core.table.count() as u64,
        used_bytes: u64::from(in_use) * segment,
        store_bytes: u64::from(stat.log.segments) * segment,
        certificate: certificate(core),
        listening: addresses.iter().map(|(address, _)| *address).collect(),
    }
}

/// Its names, its end, and on a line of its own what `--pin` takes.
fn certificate(core: &Core) -> String {
    facts(core).map_or_else(String::new, |facts| {
        format!(
            "{} until {}\n{}",
            facts.names.join(", "),
            facts.not_after,
            facts.fingerprint.to_string().replace(':', "")
        )
    })
}

fn facts(core: &Core) -> Option<Facts> {
    let current = certificates::current(
        &core.config,
        &core.hosts.first().policy.certified(),
        &core.store,
    )
    .ok()?;
    current.and_then(|(pem, _)| pem.facts())
}
