//! The server as a child of PID 1: what it works with was handed to it, and its configuration
//! comes from its store, or from PID 1 when the store has none.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Failure, now_ms};
use crate::config::{Config, Machine};
use crate::machine::link::{Configured, Figures, Line, Opened, Start, ToMachine, ToServer};
use crate::machine::plan::Plan;
use crate::router::Core;
use crate::service::open;
use crate::store::disk::FileDevice;
use crate::store::{Store, StoreError};

/// Settings of the store: our TOML, where it came from, and the network that came with it (JSON).
const CONFIGURATION: &str = "configuration";
const ORIGIN: &str = "configuration-origin";
const NETWORK: &str = "configuration-network";

/// A configuration and where it came from.
#[derive(Clone, Debug)]
struct Source {
    origin: String,
    toml: String,
    plan: Plan,
}

/// How often PID 1 hears that the server is alive.
const ALIVE_EVERY: Duration = Duration::from_secs(5);
/// How long the server has to answer itself.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What PID 1 hands over.
#[derive(Debug)]
pub struct Handed {
    /// The line to PID 1.
    pub line: OwnedFd,
    /// The device of the store.
    pub data: OwnedFd,
    /// Where bundles go.
    pub upload: OwnedFd,
}

/// Serves until PID 1 says that it should stop. The error is a sentence for the operator.
pub fn run(handed: Handed) -> Result<(), String> {
    let line = Arc::new(Line::of(handed.line));
    let ToServer::Start(start) = line.receive().map_err(|error| lost(&error))? else {
        return Err("PID 1 says something else than how to start".to_owned());
    };
    let machine = Machine::measure();
    let limits = Config::of_domain("localhost", &machine).limits.store();
    let opened = FileDevice::of_file(File::from(handed.data))
        .map_err(|error| format!("cannot use {}: {error}", start.data))
        .and_then(|device| {
            open::open_device(device, &start.data, limits, now_ms())
                .map_err(|error| error.to_string())
        });
    let mut opened = match opened {
        Ok(opened) => opened,
        Err(why) => return wait_for_a_person(&line, &why),
    };
    let kept = kept(&opened.store);
    let told = Opened {
        has_configuration: kept.is_some(),
        newest_ms: 0,
    };
    tell(&line, &ToMachine::Opened(Box::new(told)));
    let Some((config, configured, fresh)) = configuration(&line, kept, &machine)? else {
        return Ok(());
    };
    opened.store.set_limits(config.limits.store());
    if let Some(fresh) = fresh {
        keep(&opened.store, &fresh).map_err(|error| format!("cannot keep it: {error}"))?;
    }
    tell(&line, &ToMachine::Configured(Box::new(configured)));
    serve(&line, config, opened, &start, &machine)
}

fn serve(
    line: &Arc<Line>,
    config: Config,
    opened: open::Opened,
    start: &Start,
    machine: &Machine,
) -> Result<(), String> {
    tracing::info!(version = %start.release.version, data = %start.data, "the server starts");
    config.admission(machine).check()?;
    let stop = CancellationToken::new();
    let (domain, hearing) = (config.domain.clone(), (line.clone(), stop.clone()));
    let alive = line.clone();
    let done = super::run_opened(
        config,
        opened,
        stop,
        |_| spawn("line", move || hear(&hearing.0, &hearing.1)),
        |core, addresses| {
            let (core, addresses) = (Arc::downgrade(core), addresses.to_vec());
            let reporting = move || report(&alive, &domain, &addresses, &|| core.upgrade());
            if let Err(error) = spawn("alive", reporting) {
                tracing::error!(%error, "nobody tells PID 1 that the server is alive");
            }
        },
    );
    done.map_err(|failure| match failure {
        Failure::Store(sentence) | Failure::Other(sentence) => sentence,
    })
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), String> {
    thread::Builder::new()
        .name(name.to_owned())
        .stack_size(256 * 1024)
        .spawn(work)
        .map(drop)
        .map_err(|error| format!("cannot start a thread: {error}"))
}

/// Waits for the word to stop. Without PID 1 there is nothing to serve for.
fn hear(line: &Line, stop: &CancellationToken) {
    loop {
        match line.receive() {
            Ok(ToServer::Stop) | Err(_) => break,
            Ok(_) => {}
        }
    }
    stop.cancel();
}

/// Tells PID 1 that clients are served, and from then on that the server is alive.
fn report(
    line: &Line,
    domain: &str,
    addresses: &[SocketAddr],
    core: &dyn Fn() -> Option<Arc<Core>>,
) {
    let mut answers = false;
    loop {
        if !answers {
            answers = addresses.iter().any(|address| answers_at(*address, domain));
            if answers {
                tell(line, &ToMachine::Serving);
            }
        }
        let Some(core) = core() else {
            return;
        };
        tell(line, &ToMachine::Alive(Box::new(figures(&core, addresses))));
        drop(core);
        thread::sleep(ALIVE_EVERY);
    }
}

/// Whether a stream can be opened there (RFC 6120 §4.2), over the loopback.
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
            if memchr::memmem::find(&said, b"<starttls").is_some() {
                stream.write_all(b"</stream:stream>")?;
                return Ok(true);
            }
        }
        Ok(false)
    };
    ask().unwrap_or(false)
}

fn figures(core: &Core, addresses: &[SocketAddr]) -> Figures {
    let stat = core.store.stat();
    let segment = u64::from(stat.log.geometry.segment_bytes);
    let in_use = stat.log.segments.saturating_sub(stat.log.segments_free);
    Figures {
        accounts: stat.accounts as u64,
        sessions: core.table.count() as u64,
        used_bytes: u64::from(in_use) * segment,
        store_bytes: u64::from(stat.log.segments) * segment,
        certificate: String::new(),
        listening: addresses.to_vec(),
    }
}

/// The configuration that counts, what PID 1 has to know of it, and whether it is new to the
/// store. `None` when the server is to stop.
type Chosen = (Config, Configured, Option<Source>);

fn configuration(
    line: &Line,
    kept: Option<Source>,
    machine: &Machine,
) -> Result<Option<Chosen>, String> {
    if let Some(source) = kept {
        match understand(&source, machine) {
            Ok((config, configured)) => return Ok(Some((config, configured, None))),
            Err(why) => tracing::error!("the configuration of the store cannot be used: {why}"),
        }
    }
    loop {
        let source = match line.receive().map_err(|error| lost(&error))? {
            ToServer::Stop => return Ok(None),
            ToServer::Source(source) => source,
            _ => continue,
        };
        let why = match source {
            None => "no configuration was found: give this machine a cairn.toml with its domain"
                .to_owned(),
            Some(found) => {
                let source = Source {
                    origin: found.origin.to_string(),
                    toml: found.config.unwrap_or_default(),
                    plan: Plan {
                        hostname: found.hostname,
                        ..found.network.unwrap_or_default()
                    },
                };
                match understand(&source, machine) {
                    Ok((config, configured)) => {
                        return Ok(Some((config, configured, Some(source))));
                    }
                    Err(why) => format!("{}: {why}", source.origin),
                }
            }
        };
        tell(line, &ToMachine::Waiting(why));
    }
}

fn understand(source: &Source, machine: &Machine) -> Result<(Config, Configured), String> {
    let config = Config::parse(&source.toml, machine).map_err(|error| error.to_string())?;
    let configured = Configured {
        origin: source.origin.clone(),
        domain: config.domain.clone(),
        plan: source.plan.clone(),
    };
    Ok((config, configured))
}

fn kept(store: &Store) -> Option<Source> {
    store.read(|state| {
        let text = |name| String::from_utf8(state.setting(name)?.to_vec()).ok();
        let plan = text(NETWORK).and_then(|text| serde_json::from_str(&text).ok());
        Some(Source {
            toml: text(CONFIGURATION)?,
            origin: format!("the store (first from: {})", text(ORIGIN)?),
            plan: plan.unwrap_or_default(),
        })
    })
}

fn keep(store: &Store, source: &Source) -> Result<(), StoreError> {
    let plan = serde_json::to_vec(&source.plan).unwrap_or_default();
    let kept = store.update(|tx| {
        tx.put_setting(CONFIGURATION, source.toml.as_bytes())?;
        tx.put_setting(NETWORK, &plan)?;
        tx.put_setting(ORIGIN, source.origin.as_bytes())
    });
    kept.map(drop)
}

/// Something is wrong that starting again does not mend: says so, and waits to be stopped.
fn wait_for_a_person(line: &Line, why: &str) -> Result<(), String> {
    tracing::error!("{why}");
    tell(line, &ToMachine::Waiting(why.to_owned()));
    loop {
        if line.receive::<ToServer>().map_err(|error| lost(&error))? == ToServer::Stop {
            return Ok(());
        }
    }
}

fn tell(line: &Line, message: &ToMachine) {
    if let Err(error) = line.send(message) {
        tracing::warn!(%error, "PID 1 does not listen");
    }
}

fn lost(error: &std::io::Error) -> String {
    format!("the line to PID 1 is broken: {error}")
}
