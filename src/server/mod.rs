//! The server: the store opened, the parts wired by hand, the listeners bound, and
//! everything stopped again in order.

mod accept;
mod allocator;
mod component;
#[cfg(debug_assertions)]
mod fault;
mod federation;
pub mod handed;
mod housekeeping;
#[cfg(debug_assertions)]
mod pretend;
mod settings;
mod start;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::addr::Jid;
use crate::config::{self, Config, RegistrationMode};
use crate::http::Site;
use crate::net::admit::{Admissions, OWN_PLACES};
use crate::net::component::Door;
use crate::net::conn::{Front, Inbound, Passwords};
use crate::net::listen::Listener;
use crate::net::s2s::Peers;
use crate::net::throttle::{Throttle, ThrottleLimits};
use crate::net::tls::{Entry, TlsAcceptor};
use crate::router::{self, Core, Ending, Module, OutboxLimits, Parts, Registry};
use crate::service::acme::{Challenges, Keeper};
use crate::service::configuration;
use crate::service::open;
use crate::service::operator::{Around, Operator};
use crate::store::disk::Access;
use crate::store::{Position, Store};
use crate::stream::{C2sConfig, C2sHost};
use crate::xep::{account, caps, disco};

use accept::Doors;

pub use allocator::tune as tune_allocator;
pub use start::{Kept, Start};

/// How long connections have to say their last words when the server stops.
const STOPPING: Duration = Duration::from_secs(8);

/// Why the server did not start or has to stop: one sentence for the operator.
#[derive(Debug)]
pub enum Failure {
    /// The store cannot be opened.
    Store(String),
    /// Anything else.
    Other(String),
}

impl From<String> for Failure {
    fn from(sentence: String) -> Failure {
        Failure::Other(sentence)
    }
}

/// Runs until it is told to stop (SIGTERM, SIGINT, or `start.stop`) or the store fails. `control`
/// opens the operator's socket.
pub fn run(
    mut start: Start,
    control: impl FnOnce(&Arc<Operator>) -> Result<(), String>,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("cairn")
        .thread_stack_size(512 * 1024)
        .max_blocking_threads(16)
        .build()
        .map_err(|error| format!("cannot start threads: {error}"))?;
    let mut signals = {
        let _entered = runtime.enter();
        Signals::listen(start.stop.clone())
            .map_err(|error| format!("cannot listen for signals: {error}"))?
    };
    let listening = std::mem::replace(&mut start.listening, Box::new(|_, _| {}));
    let Some(mut server) = Server::start(start, &runtime, &mut signals, control)? else {
        tracing::info!("stopped before it was ready");
        return Ok(());
    };
    listening(&server.core, &server.addresses());
    let stopped = runtime.block_on(server.serve(signals));
    let ended = server.stop(&runtime);
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(stopped.and(ended)?)
}

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

/// What the operator tells the process. Listened for from the beginning: a signal that comes while
/// the store is opened, or right after the first word of it, must not kill the process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    stop: CancellationToken,
}

#[derive(PartialEq, Eq)]
enum Told {
    Stop,
    /// Read the certificate again.
    Reload,
}

impl Signals {
    /// Called within the runtime.
    fn listen(stop: CancellationToken) -> io::Result<Signals> {
        // A file that may not grow is a full store. The signal that goes with it must not kill.
        drop(signal(SignalKind::from_raw(nix::libc::SIGXFSZ))?);
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            stop,
        })
    }

    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop,
            _ = self.interrupt.recv() => Told::Stop,
            () = self.stop.cancelled() => Told::Stop,
            _ = self.hangup.recv() => Told::Reload,
        }
    }

    /// Waits until it is told to stop. A new certificate is read at the start anyway.
    async fn stop(&mut self) {
        while self.next().await != Told::Stop {}
    }
}

/// Waits for the end of the store; a sentence for the operator.
async fn failure(failed: &mut watch::Receiver<Option<String>>) -> String {
    let why = match failed.wait_for(Option::is_some).await {
        Ok(why) => why.clone().unwrap_or_default(),
        Err(_) => "nobody watches it any more".to_owned(),
    };
    format!("the store has failed: {why}; start again to recover what was accepted")
}

struct Server {
    core: Arc<Core>,
    front: Arc<Front>,
    site: Arc<Site>,
    operator: Arc<Operator>,
    admissions: Arc<Admissions>,
    /// Other servers, if any are talked with, and the room for their connections.
    peers: Option<(Arc<Peers>, Arc<Admissions>)>,
    listeners: Vec<(Arc<Listener>, Entry)>,
    /// Where an authority looks for what it has asked for.
    challenges: Arc<Challenges>,
    http: Vec<Listener>,
    /// What serves external components, and where they are accepted.
    components: (Arc<Door>, Vec<Listener>),
    /// Looks after the certificate, if somebody is to.
    keeper: Option<Arc<Keeper>>,
    threads: Vec<JoinHandle<()>>,
    failed: watch::Receiver<Option<String>>,
    /// Connections hold a copy; all are gone when its last one is.
    alive: Arc<watch::Sender<()>>,
}

impl Server {
    /// `None` when it is told to stop before it is ready.
    fn start(
        start: Start,
        runtime: &Runtime,
        signals: &mut Signals,
        control: impl FnOnce(&Arc<Operator>) -> Result<(), String>,
    ) -> Result<Option<Server>, Failure> {
        let Start {
            config,
            kept,
            store,
            machine,
            log,
            sockets,
            ..
        } = start;
        let mut opened = match store {
            Some(opened) => opened,
            None => open::open(&config, Access::Create, now_ms())
                .map_err(|error| Failure::Store(error.to_string()))?,
        };
        opened.report();
        #[cfg(debug_assertions)]
        let (machine, kept) = (machine.or_else(pretend::machine), pretend::kept(kept));
        let config = match &kept {
            Kept::Beside(source) => {
                let machine = config::Machine::measure();
                configuration::in_force(&opened.store, config, source, &machine)
            }
            Kept::Not | Kept::Chosen | Kept::Nowhere => config,
        };
        opened.store.set_limits(config.limits.store());
        let store = Arc::new(opened.store);
        let domain = Jid::parse(&config.domain)
            .map_err(|_| format!("{} is no domain: change `domain`", config.domain))?;
        let clock = settings::Clock::of(machine.as_deref());
        let certificates = settings::certificates(&config, &store, clock)?;
        let secret = settings::secret(&store)?;
        let passwords = Arc::new(Passwords::new(config.limits.argon2_concurrent));
        let core = Arc::new(core(config, domain, store, runtime, &passwords));
        settings::tell_unreachable(&core);
        core.clock_is_wrong
            .send_replace(clock == settings::Clock::Wrong);
        let (durable, mut failed, threads) = start_store(&core)?;
        let awake = router::wake(&core);
        if awake > 0 {
            tracing::info!(sessions = awake, "sessions wait to be resumed");
        }
        // A secret that a client has seen the effect of survives whatever comes.
        let secret_at = core.store.position();
        let mut on_disk = durable.clone();
        let ready = runtime.block_on(async {
            tokio::select! {
                _ = on_disk.wait_for(|durable| *durable >= secret_at) => Ok(true),
                why = failure(&mut failed) => Err(why),
                () = signals.stop() => Ok(false),
            }
        });
        if !ready? {
            return Ok(None);
        }
        let tls = Arc::new(TlsAcceptor::new(&certificates)?);
        let claim = start::claim(&core, machine.as_deref());
        let own_places = machine.as_ref().map_or(0, |_| OWN_PLACES);
        let around = Around {
            reload_certificate: Some(start::reload(&core, &tls, machine.clone())),
            machine,
            log,
            keeps_configuration: kept != Kept::Not,
            is_unconfigured: kept == Kept::Nowhere,
            claim,
        };
        let operator = Arc::new(Operator::with(core.clone(), around));
        operator.forget_restore()?;
        // Before it says that it listens: who reads that may go on with a command at once.
        control(&operator)?;
        let listeners = {
            let _entered = runtime.enter();
            start::listeners(&core.config, &*sockets)?
        };
        let challenges = Arc::new(Challenges::default());
        let keeper = Keeper::new(&core, &challenges, &tls)?;
        let front = Arc::new(Front {
            tls,
            streams: Arc::new(streams(&core, secret)),
            throttle: Throttle::new(log_in_limits(&core.config)),
            registrations: Throttle::new(registration_limits(&core.config)),
            names: Throttle::new(ThrottleLimits {
                failures_per_account: 0,
                ..log_in_limits(&core.config)
            }),
            passwords,
            inbound: Inbound::new(core.config.limits.inbound_bytes),
            stopping: CancellationToken::new(),
            durable,
            core: core.clone(),
        });
        let alive = Arc::new(watch::Sender::new(()));
        let door = component::door(&front, &alive)?;
        let peers = federation::peers(&front, &alive)?.map(|peers| {
            let limits = federation::limits(&core.config.limits);
            (peers, Admissions::new(&limits, own_places))
        });
        if let Some((peers, _)) = &peers {
            let _entered = runtime.enter();
            peers.begin();
        }
        Ok(Some(Server {
            challenges,
            http: listeners.http,
            components: (door, listeners.component),
            keeper: keeper.map(Arc::new),
            peers,
            admissions: Admissions::new(&core.config.limits, own_places),
            core,
            site: Site::new(front.clone(), operator.clone()),
            operator,
            front,
            listeners: listeners.for_tls,
            threads,
            failed,
            alive,
        }))
    }

    /// Where clients are accepted, and how.
    fn addresses(&self) -> Vec<(SocketAddr, Entry)> {
        let addresses = self.listeners.iter();
        addresses
            .filter_map(|(listener, entry)| Some((listener.local_addr().ok()?, *entry)))
            .collect()
    }

    /// Serves until there is a reason to stop; the error is why it has to.
    async fn serve(&mut self, signals: Signals) -> Result<(), String> {
        let stopping = CancellationToken::new();
        for (listener, entry) in &self.listeners {
            // Told last: whoever waits for it finds everything in place, the operator's socket too.
            let name = match entry {
                Entry::StartTls => "c2s",
                Entry::Direct => "c2s_tls",
                Entry::Https => "https",
                Entry::ServerStartTls => "s2s",
                Entry::ServerDirect => "s2s_tls",
            };
            if let Ok(address) = listener.local_addr() {
                tracing::info!(name, %address, "listening");
            }
            let stopping = stopping.clone();
            let alive = self.alive.subscribe();
            if let Entry::ServerStartTls | Entry::ServerDirect = entry {
                let Some((peers, admissions)) = self.peers.clone() else {
                    continue;
                };
                let accepting = accept::servers(listener.clone(), *entry, peers, admissions);
                tokio::spawn(async move { stopping.run_until_cancelled(accepting).await });
                continue;
            }
            let listener = listener.clone();
            let admissions = self.admissions.clone();
            if *entry == Entry::Https {
                let doors = Doors {
                    listener,
                    site: self.site.clone(),
                    front: self.front.clone(),
                    peers: self.peers.clone(),
                };
                let accepting = accept::shared(doors, admissions, alive);
                tokio::spawn(async move { stopping.run_until_cancelled(accepting).await });
                continue;
            }
            let front = self.front.clone();
            let accepting = accept::clients(listener, *entry, front, admissions, alive);
            tokio::spawn(async move { stopping.run_until_cancelled(accepting).await });
        }
        let (door, listeners) = &mut self.components;
        component::begin(door, listeners.drain(..), &self.admissions, &stopping);
        if self.peers.is_some() || self.core.components.domains().next().is_some() {
            let core = self.core.clone();
            tokio::task::spawn_blocking(move || {
                let sent = router::send_recorded(&core);
                if sent > 0 {
                    tracing::info!(
                        messages = sent,
                        "messages wait for other servers and components"
                    );
                }
            });
        }
        self.keep_certificate(&stopping);
        let keeping = housekeeping::run(self.core.clone());
        let ticking = stopping.clone();
        tokio::spawn(async move { ticking.run_until_cancelled(keeping).await });
        let ended = self.wait(signals).await;
        stopping.cancel();
        ended
    }

    /// Answers an authority, and looks after the certificate.
    fn keep_certificate(&mut self, stopping: &CancellationToken) {
        for listener in self.http.drain(..) {
            if let Ok(address) = listener.local_addr() {
                tracing::info!(name = "http", %address, "listening");
            }
            let challenges = self.challenges.clone();
            let admissions = self.admissions.clone();
            let stopping = stopping.clone();
            tokio::spawn(async move {
                let accepting = accept::plain_http(&listener, challenges, admissions);
                stopping.run_until_cancelled(accepting).await
            });
        }
        if let Some(keeper) = self.keeper.clone() {
            let stopping = stopping.clone();
            tokio::spawn(async move { stopping.run_until_cancelled(keeper.run()).await });
        }
    }

    async fn wait(&self, mut signals: Signals) -> Result<(), String> {
        let mut failed = self.failed.clone();
        loop {
            tokio::select! {
                told = signals.next() => match told {
                    Told::Stop => break,
                    Told::Reload => self.reload(),
                },
                why = failure(&mut failed) => return Err(why),
            }
        }
        tracing::info!("stopping");
        Ok(())
    }

    /// Reads the certificate again (SIGHUP). Sessions stay; an unusable one changes nothing.
    fn reload(&self) {
        if let Some(keeper) = &self.keeper {
            keeper.hurry();
        }
        match self.operator.reload_certificate() {
            Ok(()) => tracing::info!("the certificate was read again"),
            Err(error) => tracing::error!(%error, "the certificate stays as it was"),
        }
    }

    /// RFC 6120 §4.9.3.20 for everybody, then sessions that can be resumed go to the log.
    fn stop(self, runtime: &Runtime) -> Result<(), String> {
        let failed = self.failed.borrow().is_some();
        self.front.stopping.cancel();
        if !failed {
            for session in self.core.table.all() {
                session.outbox.end(Ending::server_stops());
            }
            // The timer is made inside: outside of the runtime there is none.
            let gone = async { tokio::time::timeout(STOPPING, self.alive.closed()).await };
            drop(runtime.block_on(gone));
            let until_durable = |position| {
                let mut durable = self.front.durable.clone();
                let mut failed = self.failed.clone();
                runtime.block_on(async {
                    tokio::select! {
                        _ = durable.wait_for(|durable| *durable >= position) => {}
                        _ = failed.wait_for(Option::is_some) => {}
                    }
                });
            };
            let asleep = router::hibernate(&self.core, &until_durable);
            tracing::info!(sessions = asleep, "sessions wait for the next start");
        }
        self.core.store.stop();
        for thread in self.threads {
            drop(thread.join());
        }
        Ok(())
    }
}

type StoreThreads = (
    watch::Receiver<Position>,
    watch::Receiver<Option<String>>,
    Vec<JoinHandle<()>>,
);

/// The threads that write and tidy, and what the rest hears of them.
fn start_store(core: &Arc<Core>) -> Result<StoreThreads, String> {
    let store = &core.store;
    let (durable_tx, durable) = watch::channel(store.durable());
    let (failed_tx, failed) = watch::channel(None);
    // The server holds the store, so the store must not hold the server.
    let waiting = Arc::downgrade(core);
    store.on_durable(Box::new(move |position| {
        durable_tx.send_replace(position);
        if let Some(core) = waiting.upgrade() {
            core.gates.open(position);
        }
    }));
    store.on_failure(Box::new(move |why| {
        tracing::error!(%why, "the store has failed: nothing is accepted any more");
        failed_tx.send_replace(Some(why.to_owned()));
    }));
    let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
        std::thread::Builder::new()
            .name(name.to_owned())
            .stack_size(512 * 1024)
            .spawn(work)
            .map_err(|error| format!("cannot start a thread: {error}"))
    };
    // A failure has been told by `on_failure`.
    let committing = store.clone();
    let commit = spawn(
        "commit",
        Box::new(move || drop(committing.commit_loop(&now_ms))),
    )?;
    let tidying = store.clone();
    let tidy = spawn(
        "tidy",
        Box::new(move || drop(tidying.background_loop(&now_ms))),
    )?;
    Ok((durable, failed, vec![commit, tidy]))
}

fn core(
    config: Config,
    domain: Jid,
    store: Arc<Store>,
    runtime: &Runtime,
    passwords: &Arc<Passwords>,
) -> Core {
    // What is handed to other threads derives keys, or could as well.
    let passwords = passwords.clone();
    let limits = &config.limits;
    let outbox_limits = OutboxLimits {
        bytes_max: limits.session_queue_bytes,
        entries_max: limits.session_queue_stanzas,
        pool_bytes_max: limits.outbound_bytes,
    };
    let threads = runtime.handle().clone();
    Core::new(Parts {
        config,
        domain,
        store,
        registry: Registry::new(modules()),
        outbox_limits,
        spawn: Box::new(move |job| {
            let passwords = passwords.clone();
            drop(threads.spawn(async move { passwords.work(job).await }));
        }),
        clock: now_ms,
        ticks: router::ticks_ms,
    })
}

/// What the server can do besides routing.
fn modules() -> &'static [&'static Module] {
    #[cfg(debug_assertions)]
    return fault::modules();
    #[cfg(not(debug_assertions))]
    crate::xep::ALL
}

fn streams(core: &Core, secret: [u8; 32]) -> C2sConfig {
    let limits = &core.config.limits;
    let hosts = core.hosts.iter().map(|host| {
        let info = disco::Info::of_server(&core.registry, &host.policy);
        C2sHost {
            domain: host.domain.clone(),
            scheme: account::scheme(&host.policy.auth),
            registration_open: host.policy.registration.mode == RegistrationMode::Open,
            caps: Some(caps::of_server(&info)),
        }
    });
    let mut config = C2sConfig::of_hosts(hosts.collect(), secret);
    config.retries_max = limits.authentication_attempts;
    config.limits_before = limits.before_authentication();
    config.limits_after = limits.after_authentication();
    config.login_ms = u64::from(limits.authentication_s) * 1_000;
    config.idle_ms = u64::from(limits.ping_s) * 1_000;
    config.probe_ms = u64::from(limits.ping_answer_s) * 1_000;
    config
}

fn log_in_limits(config: &Config) -> ThrottleLimits {
    let limits = &config.limits;
    ThrottleLimits {
        failures_per_address: limits.failed_logins_per_address,
        failures_per_account: limits.failed_logins_per_account,
        forgiven_every_ms: u64::from(limits.failed_login_forgiven_s) * 1_000,
        entries_max: limits.addresses_remembered,
    }
}

/// A registration is counted like a failure that is forgiven once its part of an hour has passed.
fn registration_limits(config: &Config) -> ThrottleLimits {
    let an_hour = config.limits.registrations_per_address_per_hour;
    ThrottleLimits {
        failures_per_address: an_hour,
        failures_per_account: 0,
        forgiven_every_ms: 3_600_000 / u64::from(an_hour.max(1)),
        entries_max: config.limits.addresses_remembered,
    }
}
