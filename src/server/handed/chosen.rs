//! The configuration that counts on a machine: the one in the store once somebody has claimed the
//! machine, else what PID 1 finds (DESIGN §8).

use std::net::{Ipv6Addr, SocketAddr};

use super::{lost, tell};
use crate::config::{Config, Machine, RegistrationMode};
use crate::machine::link::{Configured, Line, ToMachine, ToServer};
use crate::machine::plan::Plan;
use crate::machine::source::Found;
use crate::service::configuration::{self, Source};
use crate::store::{Store, StoreError};

/// The network that came with the configuration: a setting of the store, JSON.
const NETWORK: &str = "configuration-network";

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    pub(super) config: Config,
    pub(super) source: Source,
    pub(super) plan: Plan,
}

/// What came of the search.
#[derive(Debug)]
pub(super) enum Choice {
    /// This one.
    Use(Box<Chosen>),
    /// There is none: why, in a sentence for the console.
    Nothing(String),
    /// PID 1 wants the server to stop.
    Stop,
}

impl Chosen {
    /// The error is a sentence for the console.
    pub(super) fn of(source: Source, plan: Plan, machine: &Machine) -> Result<Chosen, String> {
        let source = source.of_machine();
        let explain = |why: String| format!("{}: {why}", source.origin);
        let config =
            Config::parse(&source.toml, machine).map_err(|error| explain(error.to_string()))?;
        config.admission(machine).check().map_err(explain)?;
        Ok(Chosen {
            config,
            source,
            plan,
        })
    }

    /// What PID 1 has found.
    pub(super) fn found(found: Found, machine: &Machine) -> Result<Chosen, String> {
        let source = Source {
            toml: found.config.unwrap_or_default(),
            origin: found.origin.to_string(),
        };
        let plan = Plan {
            hostname: found.hostname,
            ..found.network.unwrap_or_default()
        };
        Chosen::of(source, plan, machine)
    }

    /// What PID 1 has to know of it.
    pub(super) fn told(&self) -> Configured {
        Configured {
            origin: self.source.origin.clone(),
            domain: self.config.domain.clone(),
            plan: self.plan.clone(),
        }
    }

    /// Keeps it in the store, if it is not there yet.
    pub(super) fn keep(&self, store: &Store) -> Result<(), StoreError> {
        let network = serde_json::to_vec(&self.plan).unwrap_or_default();
        let is_there = store.read(|state| {
            configuration::kept(state).as_ref() == Some(&self.source)
                && state.setting(NETWORK) == Some(&network[..])
        });
        if is_there {
            return Ok(());
        }
        let kept = store.update(|tx| {
            configuration::keep(tx, &self.source)?;
            tx.put_setting(NETWORK, &network)
        });
        kept.map(drop)
    }
}

/// The one that the store holds, if it can be used.
pub(super) fn kept(store: &Store, machine: &Machine) -> Option<Chosen> {
    let (source, plan) = store.read(|state| {
        let plan = state.setting(NETWORK);
        let plan: Option<Plan> = plan.and_then(|plan| serde_json::from_slice(plan).ok());
        Some((configuration::kept(state)?, plan.unwrap_or_default()))
    })?;
    match Chosen::of(source, plan, machine) {
        Ok(chosen) => Some(chosen),
        Err(why) => {
            tracing::error!("the configuration of the store cannot be used: {why}");
            None
        }
    }
}

/// Whether somebody administers the machine, so that its store says how it is configured.
pub(super) fn is_claimed(store: &Store) -> bool {
    store.read(|state| state.administrators().next().is_some())
}

/// Waits for what PID 1 finds; `kept` counts where that is nothing.
pub(super) fn wait(line: &Line, kept: Option<Chosen>, machine: &Machine) -> Result<Choice, String> {
    let found = loop {
        match line.receive().map_err(|error| lost(&error))? {
            ToServer::Stop => return Ok(Choice::Stop),
            ToServer::Source(found) => break found,
            _ => {}
        }
    };
    let why = match found.map(|found| Chosen::found(*found, machine)) {
        Some(Ok(chosen)) => return Ok(Choice::Use(Box::new(chosen))),
        Some(Err(why)) => {
            tell(line, &ToMachine::Waiting(why.clone()));
            why
        }
        None => "no configuration was found: give this machine a cairn.toml with its domain, or \
                 claim it with `cairn claim`"
            .to_owned(),
    };
    Ok(match kept {
        Some(kept) => Choice::Use(Box::new(kept)),
        None => Choice::Nothing(why),
    })
}

/// A machine that knows nothing yet serves this much: a place to claim it.
pub(super) fn of_nobody(machine: &Machine) -> Config {
    let mut config = Config::of_domain("localhost", machine);
    config.listen.c2s.clear();
    config.listen.c2s_tls.clear();
    config.listen.https = vec![SocketAddr::from((Ipv6Addr::UNSPECIFIED, 443))];
    config.registration.mode = RegistrationMode::Closed;
    config
}
