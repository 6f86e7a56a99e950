//! Certificates that look after themselves (ACME, RFC 8555): obtained for the domain, renewed in
//! time, and used without dropping a session.
//!
//! [`plan`] is pure and says when something is to be done. The [`Keeper`] does it: a task that
//! sleeps until then. What it has to remember is in the store: the account, the order under way
//! with its key, the last failure, the certificate.

mod challenges;
mod client;
mod order;
pub mod plan;
mod renewal;
mod words;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;
use zeroize::Zeroizing;

use crate::addr::Jid;
use crate::addr::domain::to_ascii;
use crate::config::Config;
use crate::net::certificate::{Life, Pem};
use crate::net::dns::{Anchor, Resolver};
use crate::net::tls::{Authorities, TlsAcceptor};
use crate::router::{self, Core};
use crate::service::certificates::{self, Source};
use crate::store::{State, StoreError};
use client::Client;
use order::{Attempt, Keep, Memory};
use plan::{Failure, Held, Next, Record};

pub use challenges::{Challenges, Shown};
pub use order::Way;

const RECORD: &str = "acme-record";
const ACCOUNT: &str = "acme-account";
const ORDER_KEY: &str = "acme-order-key";

/// The longest sleep: the clock may be set meanwhile.
const SLEEP_MAX: Duration = Duration::from_secs(3_600);

/// How often it is looked whether the clock is right at last.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(2);

/// Puts the certificate that the store holds to use.
pub type Reload = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Looks after the certificate.
pub struct Keeper {
    core: Arc<Core>,
    directory: String,
    /// In the spelling of the DNS.
    names: Vec<String>,
    ways: Vec<Way>,
    client: Client,
    challenges: Arc<Challenges>,
    tls: Arc<TlsAcceptor>,
    reload: Reload,
    wake: Notify,
}

impl Keeper {
    /// `None` where `[acme]` is off, or files of `[tls]` count instead. The error is a sentence for
    /// the operator.
    pub fn new(
        core: &Arc<Core>,
        challenges: &Arc<Challenges>,
        tls: &Arc<TlsAcceptor>,
        reload: Reload,
    ) -> Result<Option<Keeper>, String> {
        let config = &core.config;
        let Some(directory) = config.acme.url() else {
            return Ok(None);
        };
        if config.tls.certificate.is_some() {
            tracing::warn!("[acme] is not used: [tls] names the files of the certificate");
            return Ok(None);
        }
        let Some(name) = to_ascii(&config.domain).filter(|name| is_public_form(name)) else {
            tracing::warn!(
                "[acme] is not used: no authority gives a certificate for {}",
                config.domain
            );
            return Ok(None);
        };
        let ways = ways(config);
        debug_assert!(!ways.is_empty(), "the configuration was checked");
        let anchor = match &config.dns.trust_anchor {
            Some(path) => Anchor::of_file(path)?,
            None => Anchor::public(),
        };
        let resolver = Arc::new(Resolver::new(config.dns.addresses(), anchor));
        Ok(Some(Keeper {
            directory: directory.to_owned(),
            names: vec![name.into_owned()],
            ways,
            client: Client::new(resolver, authorities(config)?),
            challenges: Arc::clone(challenges),
            tls: Arc::clone(tls),
            reload,
            wake: Notify::new(),
            core: Arc::clone(core),
        }))
    }

    /// Until it is dropped.
    pub async fn run(&self) {
        loop {
            // What is due, and whether the authority's own certificate is valid, nobody knows.
            while self.core.clock_is_wrong.load(Ordering::Relaxed) {
                sleep(LOOK_AT_CLOCK).await;
            }
            let now_ms = (self.core.clock)();
            let (record, held) = self.remembered();
            let held = held.map(|(held, _)| held);
            match record.next(now_ms, held.as_ref(), &self.directory, &self.names) {
                Next::Wait(until_ms) => {
                    let wait = Duration::from_millis(until_ms.saturating_sub(now_ms));
                    tokio::select! {
                        () = sleep(wait.min(SLEEP_MAX)) => {}
                        () = self.wake.notified() => {
                            self.change(|record| record.hurry());
                        }
                    }
                }
                Next::Ask => self.ask().await,
                Next::Obtain => self.obtain().await,
            }
        }
    }

    /// The operator wants it to be tried now.
    pub fn hurry(&self) {
        self.wake.notify_one();
    }

    /// Asks the authority when it wants the certificate to be renewed (RFC 9773).
    async fn ask(&self) {
        let (record, held) = self.remembered();
        let asking = async {
            let (_, life) = held?;
            let attempt = self.attempt(&record, None, None);
            let account = attempt.account().await.ok()?;
            renewal::suggestion(&account, &life).await
        };
        let said = asking.await;
        let window_ms = said.map(|said| said.window_ms);
        let again_ms = said.map(|said| said.again_ms);
        let now_ms = (self.core.clock)();
        self.change(|record| record.asked(now_ms, window_ms, again_ms));
    }

    async fn obtain(&self) {
        self.change(|record| record.begin(&self.directory, &self.names));
        let (record, held) = self.remembered();
        let begun = record.order.as_ref().and_then(|order| {
            let key = self.setting(ORDER_KEY)?;
            let key = String::from_utf8(key.to_vec()).ok()?;
            Some((order.url.clone(), Zeroizing::new(key)))
        });
        // An authority that has a window wants to know what is replaced; not when it has just
        // refused that.
        let knows = record.window.as_ref().is_some_and(|it| it.end_ms > 0);
        let replaces = held
            .as_ref()
            .filter(|_| knows && record.failures == 0)
            .map(|(_, life)| life.clone());
        tracing::info!(names = ?self.names, directory = %self.directory, "asking for a certificate");
        let outcome = self.attempt(&record, begun, replaces).run().await;
        let outcome = outcome.and_then(|pem| self.take(&pem).map_err(words::plain));
        if let Err(failure) = outcome {
            self.note(&failure, held.map(|(held, _)| held).as_ref());
        }
    }

    fn attempt<'a>(
        &'a self,
        record: &Record,
        begun: Option<(String, Zeroizing<String>)>,
        replaces: Option<Life>,
    ) -> Attempt<'a> {
        // Each failure lets the next way have its turn.
        let turn = usize::try_from(record.failures).unwrap_or(0) % self.ways.len().max(1);
        Attempt {
            client: &self.client,
            directory: &self.directory,
            contact: &self.core.config.acme.contact,
            names: &self.names,
            way: self.ways.get(turn).copied().unwrap_or(Way::Http),
            challenges: &self.challenges,
            tls: &self.tls,
            account: self.setting(&self.account_name()),
            begun,
            replaces,
            memory: self,
        }
    }

    /// Keeps a certificate and puts it to use.
    fn take(&self, pem: &Pem) -> Result<(), String> {
        let (held, _) = held(pem).ok_or("the authority's certificate cannot be read")?;
        let now_ms = (self.core.clock)();
        let place = self.place();
        let domain = &self.core.config.domain;
        let (mut record, before) = self.remembered();
        record.succeeded(now_ms, &held, place);
        let kept = self.core.store.update(|tx| {
            certificates::keep(tx, domain, Source::Acme, pem)?;
            tx.put_setting(RECORD, &json(&record))
        });
        kept.map_err(|error| format!("the certificate cannot be kept: {error}"))?;
        (self.reload)()?;
        match before {
            None => tracing::info!(names = ?held.names, "the first certificate is in use"),
            Some(_) => tracing::info!(names = ?held.names, "the renewed certificate is in use"),
        }
        Ok(())
    }

    fn note(&self, failure: &Failure, held: Option<&Held>) {
        let now_ms = (self.core.clock)();
        let mut is_told = false;
        let record = self.change(|record| {
            record.failed(now_ms, held, failure);
            is_told = record.tells(now_ms, held, failure);
        });
        let names = self.names.join(", ");
        let wait = in_words(record.not_before_ms.saturating_sub(now_ms));
        let sentence = format!(
            "no certificate for {names}: {}; it is tried again in {wait}, or at SIGHUP",
            failure.why
        );
        match record.may_pass(failure) {
            true => tracing::warn!(failures = record.failures, "{sentence}"),
            false => tracing::error!(failures = record.failures, "{sentence}"),
        }
        if is_told {
            self.tell_administrators(failure, held.map(|held| held.not_after_ms), now_ms);
        }
    }

    /// Writes to all administrators.
    fn tell_administrators(&self, failure: &Failure, ends_ms: Option<u64>, now_ms: u64) {
        let names = self.names.join(", ");
        let ends = match ends_ms {
            None => "Clients and other servers do not trust the self-signed one.".to_owned(),
            Some(ends_ms) if ends_ms <= now_ms => "The one that there was has ended.".to_owned(),
            Some(ends_ms) => format!(
                "The one that there is ends in {} hours.",
                (ends_ms - now_ms) / 3_600_000
            ),
        };
        let text = format!(
            "This server has no new certificate for {names}: {}. {ends} It goes on trying, less and \
             less often; once the cause is mended, `cairn cert show` will say so.",
            failure.why
        );
        let administrators: Vec<Jid> = self.core.store.read(|state| {
            let jids = state.administrators();
            jids.filter_map(|jid| Jid::parse(jid).ok()).collect()
        });
        for administrator in administrators {
            if let Err(error) = router::announce(&self.core, &administrator, &text) {
                tracing::warn!(%administrator, condition = ?error.condition, "an administrator could not be told");
            }
        }
    }

    /// A random place in the authority's window, in thousandths.
    fn place(&self) -> u16 {
        u16::from_le_bytes(self.core.random()) % 1_001
    }

    /// What is remembered, and the certificate that there is.
    fn remembered(&self) -> (Record, Option<(Held, Life)>) {
        let domain = &self.core.config.domain;
        self.core.store.read(|state| {
            let record = recorded(state);
            let pem = certificates::kept(state, domain, Source::Acme);
            (record.unwrap_or_default(), pem.as_ref().and_then(held))
        })
    }

    fn change(&self, change: impl FnOnce(&mut Record)) -> Record {
        let mut record = self.remembered().0;
        change(&mut record);
        let kept = self
            .core
            .store
            .update(|tx| tx.put_setting(RECORD, &json(&record)));
        if let Err(error) = kept {
            tracing::error!(%error, "how it stands with the certificate cannot be kept");
        }
        record
    }
}

impl Keeper {
    fn setting(&self, name: &str) -> Option<Zeroizing<Vec<u8>>> {
        let kept = |state: &State| Some(Zeroizing::new(state.setting(name)?.to_vec()));
        self.core.store.read(kept)
    }

    /// Each authority knows us by an account of its own.
    fn account_name(&self) -> String {
        format!("{ACCOUNT}:{}", self.directory)
    }
}

impl Memory for Keeper {
    fn keep(&self, what: Keep<'_>) -> Result<(), String> {
        let mut record = self.remembered().0;
        let account = self.account_name();
        let kept = self.core.store.update(|tx| match what {
            Keep::Account(Some(credentials)) => tx.put_setting(&account, credentials),
            Keep::Account(None) => tx.remove_setting(&account),
            Keep::Order(url, key) => {
                record.order = Some(plan::Order {
                    url: url.to_owned(),
                });
                tx.put_setting(ORDER_KEY, key.as_bytes())?;
                tx.put_setting(RECORD, &json(&record))
            }
            Keep::NoOrder => {
                record.order = None;
                tx.remove_setting(ORDER_KEY)?;
                tx.put_setting(RECORD, &json(&record))
            }
        });
        let kept = kept.map(drop);
        kept.map_err(|error: StoreError| format!("the store does not keep the order: {error}"))
    }
}

/// How it stands with the authority, by the store.
pub fn recorded(state: &State) -> Option<Record> {
    serde_json::from_slice(state.setting(RECORD)?).ok()
}

fn json(record: &Record) -> Vec<u8> {
    serde_json::to_vec(record).expect("plain values are JSON")
}

fn held(pem: &Pem) -> Option<(Held, Life)> {
    let life = pem.life()?;
    let ms = |time_s: i64| u64::try_from(time_s).unwrap_or(0).saturating_mul(1_000);
    let held = Held {
        names: life.names.clone(),
        not_before_ms: ms(life.not_before_s),
        not_after_ms: ms(life.not_after_s),
    };
    Some((held, life))
}

/// A time that is waited.
fn in_words(ms: u64) -> String {
    match ms.div_ceil(1_000) {
        seconds @ 0..120 => format!("{seconds} seconds"),
        seconds @ 120..7_200 => format!("{} minutes", seconds / 60),
        seconds => format!("{} hours", seconds / 3_600),
    }
}

/// The ways that this server can be looked at by, the simplest first.
fn ways(config: &Config) -> Vec<Way> {
    let listen = &config.listen;
    let by_http = (!listen.http.is_empty()).then_some(Way::Http);
    let by_tls = (!listen.https.is_empty()).then_some(Way::Tls);
    by_http.into_iter().chain(by_tls).collect()
}

/// Names with dots, and no addresses: a domain of one label is nobody's.
fn is_public_form(name: &str) -> bool {
    name.contains('.') && name.parse::<std::net::IpAddr>().is_err()
}

fn authorities(config: &Config) -> Result<Arc<Authorities>, String> {
    let extra = match &config.acme.trust {
        Some(path) => Some(
            fs::read(path).map_err(|error| format!("[acme] trust {}: {error}", path.display()))?,
        ),
        None => None,
    };
    Authorities::load("[acme] trust", extra.as_deref())
}
