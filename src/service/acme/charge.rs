//! One domain whose certificate is looked after.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use zeroize::Zeroizing;

use super::order::{Attempt, Keep, Memory, Way};
use super::plan::{self, Failure, Held, Next, Record};
use super::{Common, renewal, words};
use crate::addr::Jid;
use crate::config::Certified;
use crate::net::certificate::{Life, Pem};
use crate::net::tls::{HostPem, TlsAcceptor};
use crate::router;
use crate::service::certificates::{self, Source};
use crate::service::durable;
use crate::store::{Position, State, StoreError};

/// With a colon and the domain.
const RECORD: &str = "acme-record";
/// The same.
const ORDER_KEY: &str = "acme-order-key";
/// With a colon and the directory.
const ACCOUNT: &str = "acme-account";

/// How long an order waits to be on the disk before its certificate is asked for, and a certificate
/// before it is used.
const DURABLE_WITHIN: Duration = Duration::from_secs(if cfg!(test) { 2 } else { 10 });

/// The longest sleep: the clock may be set meanwhile.
const SLEEP_MAX: Duration = Duration::from_secs(3_600);

/// A domain whose certificate is looked after.
pub(super) struct Charge {
    common: Arc<Common>,
    of: Certified,
    /// In the spelling of the DNS.
    names: Vec<String>,
    wake: Notify,
    /// How it stands with the authority. The store has a copy for the next start: where that takes
    /// nothing, what the authority has asked for counts all the same.
    record: Mutex<Record>,
}

impl Charge {
    pub(super) fn new(common: Arc<Common>, of: Certified, names: Vec<String>) -> Charge {
        let store = &common.core.store;
        let record = store.read(|state| recorded(state, &of.domain));
        Charge {
            record: Mutex::new(record.unwrap_or_default()),
            common,
            of,
            names,
            wake: Notify::new(),
        }
    }

    /// Until it is dropped.
    pub(super) async fn run(&self) {
        loop {
            self.clock_is_right().await;
            match self.next() {
                Next::Wait(until_ms) => self.wait_until(until_ms).await,
                // What becomes of a request has to be known after the next start too.
                _ if !self.change(|record| record.begin(&self.common.directory, &self.names)) => {
                    self.rest().await;
                }
                Next::Ask => self.ask().await,
                Next::Obtain => self.obtain().await,
            }
        }
    }

    /// By a wrong clock nobody knows what is due, and whether the authority's own certificate is
    /// valid.
    async fn clock_is_right(&self) {
        let mut is_clock_wrong = self.common.core.clock_is_wrong.subscribe();
        // It does not end before this does.
        let _ = is_clock_wrong.wait_for(|is_wrong| !is_wrong).await;
    }

    /// What comes next, by what is remembered.
    fn next(&self) -> Next {
        let held = self.held().map(|(held, _)| held);
        let (now_ms, directory) = (self.now_ms(), &self.common.directory);
        let record = self.record();
        record.next(now_ms, held.as_ref(), directory, &self.names)
    }

    async fn wait_until(&self, until_ms: u64) {
        let wait = Duration::from_millis(until_ms.saturating_sub(self.now_ms()));
        tokio::select! {
            () = sleep(wait.min(SLEEP_MAX)) => {}
            () = self.wake.notified() => {
                self.change(Record::hurry);
            }
        }
    }

    /// Waits until the store may take something again, or the operator says so.
    async fn rest(&self) {
        tracing::error!(
            domain = self.of.domain,
            "the authority is not asked while the store keeps nothing of what it says: it is tried again in an hour, or at SIGHUP"
        );
        tokio::select! {
            () = sleep(SLEEP_MAX) => {}
            () = self.wake.notified() => {}
        }
    }

    /// The operator wants it to be tried now.
    pub(super) fn hurry(&self) {
        self.wake.notify_one();
    }

    /// Tells the authority of another contact, if it has one of before. Where that fails, it is told
    /// with the next thing that it is asked, within a day.
    pub(super) async fn tell_contact(&self) {
        self.clock_is_right().await;
        let record = self.record().clone();
        let attempt = self.attempt(&record, None, None);
        if record.forbidden_until_ms > self.now_ms() || !attempt.has_other_contact() {
            return;
        }
        // Never closed.
        let _turn = self.common.at_once.acquire().await;
        if let Err(failure) = attempt.account().await {
            tracing::warn!(
                "the authority is not told of the contact yet: {}",
                failure.why
            );
        }
    }

    /// Asks the authority when it wants the certificate to be renewed (RFC 9773).
    async fn ask(&self) {
        // Never closed.
        let _turn = self.common.at_once.acquire().await;
        let (record, held) = (self.record().clone(), self.held());
        let asking = async {
            let (_, life) = held?;
            let attempt = self.attempt(&record, None, None);
            let account = attempt.account().await.ok()?;
            renewal::suggestion(&account, &life).await
        };
        let said = asking.await;
        let window_ms = said.map(|said| said.window_ms);
        let again_ms = said.map(|said| said.again_ms);
        let now_ms = self.now_ms();
        self.change(|record| record.asked(now_ms, window_ms, again_ms));
    }

    /// Has the authority give a certificate.
    async fn obtain(&self) {
        // Never closed.
        let _turn = self.common.at_once.acquire().await;
        let directory = &self.common.directory;
        let (record, held) = (self.record().clone(), self.held());
        let begun = record.order.as_ref().and_then(|order| {
            let key = self.setting(&self.name_of(ORDER_KEY))?;
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
        tracing::info!(names = ?self.names, directory, "asking for a certificate");
        let outcome = self.attempt(&record, begun, replaces).run().await;
        let outcome = match outcome {
            Ok(pem) => self.take(pem).await.map_err(words::plain),
            Err(failure) => Err(failure),
        };
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
        let common = &*self.common;
        // Each failure lets the next way have its turn.
        let turn = usize::try_from(record.failures).unwrap_or(0) % common.ways.len().max(1);
        Attempt {
            client: common.client.of_an_attempt(),
            directory: &common.directory,
            contact: &common.core.config.acme.contact,
            names: &self.names,
            way: common.ways.get(turn).copied().unwrap_or(Way::Http),
            challenges: &common.challenges,
            tls: &common.tls,
            account: &common.account,
            begun,
            replaces,
            memory: self,
        }
    }

    /// Keeps a certificate and puts it to use.
    async fn take(&self, pem: Pem) -> Result<(), String> {
        let held = match usable(&pem) {
            Ok(held) => held,
            Err(why) => {
                // What comes with the next answer may be of use.
                self.keep(Keep::DoubtfulOrder)?;
                return Err(why);
            }
        };
        let is_first = self.held().is_none();
        let position = self.keep_certificate(&pem, &held);
        let position = position.map_err(|error| format!("the certificate cannot be kept: {error}"));
        // What others see at once is there after a crash too. A disk that does not answer is no
        // reason to go without: what is on it brings the certificate back.
        if !self.until_durable(position?).await {
            tracing::error!("the disk does not answer: the certificate is used all the same");
        }
        let domain = self.of.domain.clone();
        self.common.tls.replace(&HostPem { domain, pem })?;
        match is_first {
            true => tracing::info!(names = ?held.names, "the first certificate is in use"),
            false => tracing::info!(names = ?held.names, "the renewed certificate is in use"),
        }
        Ok(())
    }

    /// At once with the certificate its order is forgotten, which alone would bring it back.
    fn keep_certificate(&self, pem: &Pem, held: &Held) -> Result<Position, StoreError> {
        let mut record = self.record();
        let mut succeeded = record.clone();
        succeeded.succeeded(self.now_ms(), held, self.place());
        let kept = self.common.core.store.update(|tx| {
            certificates::keep(tx, &self.of.domain, Source::Acme, pem)?;
            tx.remove_setting(&self.name_of(ORDER_KEY))?;
            tx.put_setting(&self.name_of(RECORD), &json(&succeeded))
        });
        let ((), position) = kept?;
        *record = succeeded;
        Ok(position)
    }

    /// Waits until what was kept is there after a crash too; returns whether it is.
    async fn until_durable(&self, position: Position) -> bool {
        let core = Arc::clone(&self.common.core);
        let wait = move || durable::wait(&core.store, position, DURABLE_WITHIN);
        // On a thread that may be held up.
        matches!(spawn_blocking(wait).await, Ok(true))
    }

    fn note(&self, failure: &Failure, held: Option<&Held>) {
        let now_ms = self.now_ms();
        let mut is_told = false;
        self.change(|record| {
            record.failed(now_ms, held, failure);
            is_told = record.tells(now_ms, held, failure);
        });
        let record = self.record().clone();
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
        let core = &self.common.core;
        let names = self.names.join(", ");
        let ends = match ends_ms {
            None if self.of.is_component => format!(
                "Servers that want a certificate do not reach it. If it is for this server's own users \
                 alone, set acme = false in the [[component]] of {names}."
            ),
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
        let administrators: Vec<Jid> = core.store.read(|state| {
            let jids = state.administrators();
            jids.filter_map(|jid| Jid::parse(jid).ok()).collect()
        });
        for administrator in administrators {
            if let Err(error) = router::announce(core, &administrator, &text) {
                tracing::warn!(%administrator, condition = ?error.condition, "an administrator could not be told");
            }
        }
    }

    /// A random place in the authority's window, in thousandths.
    fn place(&self) -> u16 {
        u16::from_le_bytes(self.common.core.random()) % 1_001
    }

    fn now_ms(&self) -> u64 {
        (self.common.core.clock)()
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The certificate that there is.
    fn held(&self) -> Option<(Held, Life)> {
        let kept = |state: &State| certificates::kept(state, &self.of.domain, Source::Acme);
        held(&self.common.core.store.read(kept)?)
    }

    /// Whether the store has taken it: it counts in any case.
    fn change(&self, change: impl FnOnce(&mut Record)) -> bool {
        let mut record = self.record();
        change(&mut record);
        let store = &self.common.core.store;
        let kept = store.update(|tx| tx.put_setting(&self.name_of(RECORD), &json(&record)));
        if let Err(error) = &kept {
            tracing::error!(%error, "how it stands with the certificate cannot be kept");
        }
        kept.is_ok()
    }

    fn setting(&self, name: &str) -> Option<Zeroizing<Vec<u8>>> {
        let kept = |state: &State| Some(Zeroizing::new(state.setting(name)?.to_vec()));
        self.common.core.store.read(kept)
    }

    fn name_of(&self, what: &str) -> String {
        name_of(what, &self.of.domain)
    }

    /// Each authority knows us by an account of its own.
    fn account_name(&self) -> String {
        name_of(ACCOUNT, &self.common.directory)
    }
}

impl Memory for Charge {
    fn account(&self) -> Option<Zeroizing<Vec<u8>>> {
        self.setting(&self.account_name())
    }

    fn keep(&self, what: Keep<'_>) -> Result<(), String> {
        let mut record = self.record();
        let mut changed = record.clone();
        let account = self.account_name();
        let (name, key_name) = (self.name_of(RECORD), self.name_of(ORDER_KEY));
        let kept = self.common.core.store.update(|tx| match what {
            Keep::Account(credentials) => tx.put_setting(&account, credentials),
            // Another domain may have made another one meanwhile.
            Keep::NoAccount(known) if tx.setting(&account) == Some(known) => {
                tx.remove_setting(&account)
            }
            Keep::NoAccount(_) => Ok(()),
            Keep::Order(url, key) => {
                changed.order = Some(plan::Order {
                    url: url.to_owned(),
                    doubts: 0,
                });
                tx.put_setting(&key_name, key.as_bytes())?;
                tx.put_setting(&name, &json(&changed))
            }
            Keep::DoubtfulOrder => {
                if changed.doubt_order() {
                    tx.remove_setting(&key_name)?;
                }
                tx.put_setting(&name, &json(&changed))
            }
            Keep::NoOrder => {
                changed.order = None;
                tx.remove_setting(&key_name)?;
                tx.put_setting(&name, &json(&changed))
            }
        });
        let kept = kept.map(|_| *record = changed);
        kept.map_err(|error: StoreError| format!("the store does not keep the order: {error}"))
    }

    fn settle(&self) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        Box::pin(self.until_durable(self.common.core.store.position()))
    }
}

/// How it stands with the authority for a domain, by the store.
pub fn recorded(state: &State, domain: &str) -> Option<Record> {
    serde_json::from_slice(state.setting(&name_of(RECORD, domain))?).ok()
}

fn name_of(what: &str, of: &str) -> String {
    format!("{what}:{of}")
}

fn json(record: &Record) -> Vec<u8> {
    serde_json::to_vec(record).expect("plain values are JSON")
}

/// What the certificate says, where TLS takes it. The error is a sentence for the operator.
fn usable(pem: &Pem) -> Result<Held, String> {
    let (held, _) = held(pem).ok_or("the authority's certificate cannot be read")?;
    let taken = TlsAcceptor::of_one(pem);
    taken.map_err(|why| format!("the authority's certificate cannot be used: {why}"))?;
    Ok(held)
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

#[cfg(test)]
#[path = "charge_tests.rs"]
mod tests;
