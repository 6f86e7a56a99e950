//! A charge with an authority that is played, on a clock that jumps from one thing to the next.

use std::cell::Cell;
use std::thread::JoinHandle;
use std::time::SystemTime;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::super::challenges::Challenges;
use super::super::client::Client;
use super::super::played::{AT, LIFE_DAYS, Played};
use super::*;
use crate::config::{Config, Machine};
use crate::crypto::Credentials;
use crate::router::{Core, OutboxLimits, Parts, Registry};
use crate::store::sim::SimDevice;
use crate::store::{Options, Step, Store, StoreLimits};

const DOMAIN: &str = "cairn.example";
const OTHER: &str = "www.cairn.example";
const START_MS: u64 = 1_767_225_600_000;
const SEGMENT: u32 = 1 << 16;
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

thread_local! {
    static START: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The runtime's clock.
fn now_ms() -> u64 {
    let start = START.get().unwrap_or_else(Instant::now);
    START_MS + u64::try_from(start.elapsed().as_millis()).expect("it is not so late")
}

/// A server's parts, and the authority.
struct Place {
    core: Arc<Core>,
    device: SimDevice,
    played: Arc<Played>,
    challenges: Arc<Challenges>,
    commits: Option<JoinHandle<Result<(), StoreError>>>,
}

impl Place {
    fn new() -> Place {
        let mut place = Place::with_a_disk_that_does_not_answer();
        place.answer_from_now_on();
        place
    }

    fn with_a_disk_that_does_not_answer() -> Place {
        START.set(Some(Instant::now()));
        let challenges = Arc::new(Challenges::default());
        let played = Played::new(now_ms, &challenges);
        let len = 65_536 + 64 * u64::from(SEGMENT);
        Place::with(SimDevice::new(len, len), played, challenges, "")
    }

    fn with(
        device: SimDevice,
        played: Arc<Played>,
        challenges: Arc<Challenges>,
        contact: &str,
    ) -> Place {
        let options = Options {
            segment_bytes: Some(SEGMENT),
            background_bytes_per_s: 0,
            erase_within_ms: 0,
            ..Options::default()
        };
        let limits = StoreLimits::default();
        let store = Store::open(Arc::new(device.clone()), options, limits, START_MS);
        let store = Arc::new(store.expect("the store opens").0);
        let mut config = Config::of_domain(DOMAIN, &Machine::of_memory(1 << 30));
        config.acme.directory = format!("{AT}/directory");
        config.acme.contact = contact.to_owned();
        let core = Core::new(Parts {
            config,
            domain: Jid::parse(DOMAIN).expect("a domain"),
            store,
            registry: Registry::new(&[]),
            outbox_limits: OutboxLimits {
                bytes_max: 1 << 20,
                entries_max: 4_000,
                pool_bytes_max: 1 << 24,
            },
            spawn: Box::new(|job| job()),
            clock: now_ms,
            ticks: now_ms,
        });
        Place {
            core: Arc::new(core),
            device,
            played,
            challenges,
            commits: None,
        }
    }

    fn answer_from_now_on(&mut self) {
        let store = Arc::clone(&self.core.store);
        let commits = std::thread::spawn(move || store.commit_loop(&|| START_MS));
        self.commits = Some(commits);
    }

    /// What comes back after a power cut, with this contact.
    fn kill(mut self, contact: &str) -> Place {
        let device = self.device.kill();
        self.stop();
        let (played, challenges) = (self.played.clone(), self.challenges.clone());
        let mut place = Place::with(device, played, challenges, contact);
        place.answer_from_now_on();
        place
    }

    /// The same when everything is on the disk, which knows nothing of a clock that jumps.
    fn restart(self, contact: &str) -> Place {
        let store = &self.core.store;
        assert!(durable::wait(store, store.position(), HOUR));
        self.kill(contact)
    }

    fn stop(&mut self) {
        self.core.store.stop();
        if let Some(commits) = self.commits.take() {
            drop(commits.join().expect("no panic"));
        }
    }

    fn charge(&self, names: &[&str]) -> Charge {
        let of = self.core.config.certified().remove(0);
        let pem = Pem::self_signed(DOMAIN, SystemTime::now()).expect("an ASCII domain");
        let domain = DOMAIN.to_owned();
        let tls = TlsAcceptor::new(&[HostPem { domain, pem }]).expect("our own certificate");
        let common = Common {
            core: Arc::clone(&self.core),
            directory: format!("{AT}/directory"),
            ways: vec![Way::Http],
            client: Client::by(self.played.clone()),
            challenges: Arc::clone(&self.challenges),
            tls: Arc::new(tls),
            account: tokio::sync::Mutex::default(),
            at_once: Semaphore::new(1),
        };
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Charge::new(Arc::new(common), of, names)
    }

    /// The names of the certificate that is kept.
    fn certified(&self) -> Option<Vec<String>> {
        let kept = |state: &State| certificates::kept(state, DOMAIN, Source::Acme);
        Some(held(&self.core.store.read(kept)?)?.0.names)
    }

    /// Leaves no room in the store but for removals.
    fn fill(store: &Store) {
        loop {
            match store.update(|tx| tx.put_setting("filler", &[b'x'; 8_000])) {
                Ok((_, position)) => assert!(durable::wait(store, position, HOUR)),
                Err(StoreError::Full) => return,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// What is not needed any more is taken back.
    fn make_room(&self) {
        let store = &self.core.store;
        let removed = store.update(|tx| tx.remove_setting("filler"));
        let (_, position) = removed.expect("there is room for removals");
        assert!(durable::wait(store, position, HOUR));
        store.compact();
        let mut idle = 0;
        for step in 0..100_000 {
            match store.background_step(START_MS + step) {
                Ok(Step::Took) => idle = 0,
                Ok(Step::Idle { .. }) if store.is_tidying() => std::thread::yield_now(),
                Ok(Step::Idle { .. }) => idle += 1,
                Err(error) => panic!("{error}"),
            }
            if idle > 50 {
                return;
            }
        }
        panic!("background work comes to an end");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Lets a charge run for a time.
async fn run(charge: &Charge, time: Duration) {
    tokio::select! {
        () = charge.run() => {}
        () = sleep(time) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_obtained_once_and_renewed_in_time() {
    let place = Place::new();
    let charge = place.charge(&[DOMAIN]);
    run(&charge, HOUR).await;
    assert_eq!(place.certified().as_deref(), Some(&[DOMAIN.to_owned()][..]));
    run(&charge, DAY * 59).await;
    assert_eq!(place.played.count("new-order"), 1);
    run(&charge, DAY * 2).await;
    assert_eq!(place.played.count("new-order"), 2);
    assert_eq!(place.played.count("new-account"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_limit_behind_the_proof_costs_no_order() {
    for what in ["finalize", "order", "cert", "chall", "authz"] {
        for problem in ["rateLimited", "serverInternal"] {
            let place = Place::new();
            place.played.state().refusals.push_back((what, problem));
            run(&place.charge(&[DOMAIN]), HOUR * 3).await;
            assert!(place.certified().is_some(), "{what} {problem}");
            assert_eq!(place.played.count("new-order"), 1, "{what} {problem}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_was_signed_is_fetched_before_another_is_ordered() {
    // Whatever the authority says, and also where what comes can't be read.
    for problem in ["malformed", ""] {
        let place = Place::new();
        place.played.state().refusals = [("cert", problem); 2].into();
        run(&place.charge(&[DOMAIN]), HOUR).await;
        assert!(place.certified().is_some());
        assert_eq!(place.played.count("new-order"), 1, "{problem}");
        assert_eq!(place.played.count("finalize"), 1, "{problem}");
    }
    // But not for ever.
    let place = Place::new();
    place.played.state().refusals = [("cert", "malformed"); 3].into();
    run(&place.charge(&[DOMAIN]), HOUR * 3).await;
    assert!(place.certified().is_some());
    assert_eq!(place.played.count("new-order"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_the_store_had_no_room_for_is_not_ordered_again() {
    let place = Place::new();
    let store = Arc::clone(&place.core.store);
    let fill = move || Place::fill(&store);
    place.played.state().before = Some(("cert", Box::new(fill)));
    let charge = place.charge(&[DOMAIN]);
    run(&charge, DAY * 7).await;
    assert_eq!(place.certified(), None);
    let asked = place.played.state().asked.len();
    run(&charge, DAY * 7).await;
    assert_eq!(place.played.state().asked.len(), asked, "it is left alone");
    place.make_room();
    run(&charge, DAY).await;
    assert!(place.certified().is_some());
    assert_eq!(place.played.count("new-order"), 1);
    assert_eq!(place.played.count("finalize"), 1);
    let key = store_setting(&place, "acme-order-key:cairn.example");
    assert_eq!(
        key, None,
        "the order is forgotten with the certificate in place"
    );
}

#[tokio::test(start_paused = true)]
async fn no_certificate_is_asked_for_before_its_key_is_on_the_disk() {
    let mut place = Place::with_a_disk_that_does_not_answer();
    let charge = place.charge(&[DOMAIN]);
    // The first attempt, which waits for the disk by its own clock.
    run(&charge, Duration::from_secs(60)).await;
    assert_eq!(place.played.count("chall"), 1);
    assert_eq!(place.played.count("finalize"), 0);
    place.answer_from_now_on();
    run(&charge, HOUR).await;
    assert!(place.certified().is_some());
    assert_eq!(place.played.count("new-order"), 1);
}

fn store_setting(place: &Place, name: &str) -> Option<Vec<u8>> {
    let store = &place.core.store;
    store.read(|state| state.setting(name).map(<[u8]>::to_vec))
}

#[tokio::test(start_paused = true)]
async fn a_power_cut_behind_the_signature_costs_no_order() {
    let place = Place::new();
    let cut = Arc::new(Notify::new());
    let cuts = Arc::clone(&cut);
    let before: Box<dyn FnMut() + Send> = Box::new(move || cuts.notify_one());
    place.played.state().before = Some(("cert", before));
    place.played.state().refusals = [("cert", "serverInternal")].into();
    let charge = place.charge(&[DOMAIN]);
    tokio::select! {
        () = charge.run() => {}
        () = cut.notified() => {}
    }
    drop(charge);
    assert_eq!(place.certified(), None);
    let place = place.kill("");
    run(&place.charge(&[DOMAIN]), HOUR).await;
    assert!(place.certified().is_some());
    assert_eq!(place.played.count("new-order"), 1);
    assert_eq!(place.played.count("finalize"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_authority_that_looks_already_is_shown_the_proof_and_not_told_again() {
    let place = Place::new();
    place.played.state().looks_after = 1_000;
    let charge = place.charge(&[DOMAIN]);
    run(&charge, Duration::from_secs(60)).await;
    assert_eq!(place.played.count("chall"), 1);
    drop(charge);
    assert_eq!(place.challenges.answer("token-1-0"), None);
    let place = place.restart("");
    // Once after the order was fetched.
    place.played.state().looks_after = 2;
    run(&place.charge(&[DOMAIN]), Duration::from_secs(60)).await;
    assert!(place.certified().is_some());
    assert_eq!(place.played.count("chall"), 1);
    assert_eq!(place.played.count("new-order"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_authority_that_is_down_for_days_is_asked_less_and_less_often() {
    let place = Place::new();
    place.played.state().is_down = true;
    let charge = place.charge(&[DOMAIN]);
    run(&charge, DAY * 10).await;
    let times: Vec<u64> = {
        let state = place.played.state();
        state.asked.iter().map(|(at_ms, _)| *at_ms).collect()
    };
    // Ten seconds, doubled up to a day: fourteen of them in the first day and a half.
    assert!((15..30).contains(&times.len()), "{}", times.len());
    let gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.is_sorted(), "{gaps:?}");
    assert_eq!(gaps.last(), Some(&86_400_000));
    place.played.state().is_down = false;
    run(&charge, DAY).await;
    assert!(place.certified().is_some());
    assert_eq!(place.played.count("new-order"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_takes_nothing_means_no_request_at_all() {
    let place = Place::new();
    Place::fill(&place.core.store);
    let charge = place.charge(&[DOMAIN]);
    run(&charge, DAY * 10).await;
    assert_eq!(place.played.state().asked.len(), 0);
    place.make_room();
    run(&charge, HOUR * 2).await;
    assert!(place.certified().is_some());
}

/// Also what is asked about a certificate that is good.
#[tokio::test(start_paused = true)]
async fn a_store_that_fills_up_later_means_no_request_either() {
    let place = Place::new();
    let charge = place.charge(&[DOMAIN]);
    run(&charge, HOUR).await;
    assert!(place.certified().is_some());
    Place::fill(&place.core.store);
    let asked = place.played.state().asked.len();
    run(&charge, DAY * (LIFE_DAYS as u32 + 10)).await;
    assert_eq!(place.played.state().asked.len(), asked);
    place.make_room();
    run(&charge, HOUR * 2).await;
    assert_eq!(place.played.count("new-order"), 2);
}

#[tokio::test(start_paused = true)]
async fn an_account_that_the_authority_takes_no_more_is_made_anew() {
    for how in ["deactivated", "forgotten"] {
        let place = Place::new();
        let charge = place.charge(&[DOMAIN]);
        run(&charge, HOUR).await;
        match how {
            "deactivated" => place.played.state().accounts[0].1 = true,
            _ => {
                let refusal = ("new-order", "accountDoesNotExist");
                place.played.state().refusals.push_back(refusal);
            }
        }
        run(&charge, DAY * 61).await;
        assert_eq!(place.played.count("new-account"), 2, "{how}");
        let orders = place.played.count("new-order");
        assert_eq!(orders, 3, "{how}: one was refused");
        let ends_ms = charge.held().expect("there is one").0.not_after_ms;
        assert!(ends_ms > START_MS + (LIFE_DAYS + 59) * 86_400_000, "{how}");
    }
}

#[tokio::test(start_paused = true)]
async fn another_contact_reaches_the_authority_once() {
    let place = Place::new();
    run(&place.charge(&[DOMAIN]), HOUR).await;
    let contact = |place: &Place| place.played.state().accounts[0].0.clone();
    assert_eq!(contact(&place), serde_json::json!([]));
    let place = place.restart("mailto:admin@cairn.example");
    let charge = place.charge(&[DOMAIN]);
    charge.tell_contact().await;
    let told = serde_json::json!(["mailto:admin@cairn.example"]);
    assert_eq!(contact(&place), told);
    charge.tell_contact().await;
    assert_eq!(place.played.count("account"), 1);
    // One that it does not like is no reason to go without a certificate.
    let place = place.restart("mailto:other@cairn.example");
    let refusal = ("account", "invalidContact");
    // With the order, and with the question for its window behind that.
    place.played.state().refusals = [refusal; 2].into();
    let charge = place.charge(&[DOMAIN, OTHER]);
    run(&charge, HOUR).await;
    assert_eq!(contact(&place), told);
    assert_eq!(place.certified().expect("there is one"), [DOMAIN, OTHER]);
    // It is told again with what it is asked next.
    run(&charge, DAY).await;
    let told = serde_json::json!(["mailto:other@cairn.example"]);
    assert_eq!(contact(&place), told);
    assert_eq!(place.played.count("account"), 4);
    let place = place.restart("");
    place.charge(&[DOMAIN, OTHER]).tell_contact().await;
    assert_eq!(contact(&place), serde_json::json!([]));
    assert_eq!(place.played.count("new-account"), 1);
}

/// A name that is added or taken away has another certificate ordered at once.
#[tokio::test(start_paused = true)]
async fn a_certificate_follows_the_names_that_are_served() {
    let mut place = Place::new();
    for (orders, names) in [
        &[DOMAIN][..],
        &[DOMAIN, OTHER],
        &[OTHER],
        &[OTHER],
        &[DOMAIN, OTHER],
    ]
    .iter()
    .zip([1, 2, 3, 3, 4])
    .map(|(names, orders)| (orders, *names))
    {
        run(&place.charge(names), HOUR).await;
        let certified = place.certified().expect("there is one");
        assert_eq!(certified, names);
        assert_eq!(place.played.count("new-order"), orders);
        assert_eq!(place.played.state().orders[orders - 1].names, names);
        place = place.restart("");
    }
}

/// An administrator is told, and an account that the store does not know is none.
#[tokio::test(start_paused = true)]
async fn an_administrator_hears_once_a_day_of_an_authority_that_is_down() {
    let place = Place::new();
    let owner = format!("juliet@{DOMAIN}");
    let credentials = Credentials::Argon2id {
        phc: "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA".to_owned(),
    };
    let put = place.core.store.update(|tx| {
        tx.put_account(&owner, &credentials, START_MS)?;
        tx.put_administrator(&owner, "hash")
    });
    put.expect("there is room");
    place.played.state().is_down = true;
    run(&place.charge(&[DOMAIN]), DAY * 5).await;
    let messages = place.core.store.read(|state| {
        let account = state.account(&owner).expect("it is there");
        account.messages().len()
    });
    assert!((4..=6).contains(&messages), "{messages}");
}
