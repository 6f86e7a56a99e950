//! The configuration that counts on a machine: the one in the store once somebody has claimed the
//! machine, else what PID 1 finds (DESIGN §8).

use std::net::{Ipv6Addr, SocketAddr};

use super::{lost, tell};
use crate::config::{Config, Machine, RegistrationMode};
use crate::machine::link::{Configured, Line, ToMachine, ToServer};
use crate::machine::plan::Plan;
use crate::machine::source::{Found, own};
use crate::service::configuration::{self, NETWORK, Source};
use crate::store::{Store, StoreError};

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    pub(super) config: Config,
    pub(super) source: Source,
    /// How the network is reached where the configuration itself does not say.
    pub(super) plan: Plan,
}

/// What came of the search.
#[derive(Debug)]
pub(super) enum Choice {
    /// This one.
    Use(Box<Chosen>),
    /// There is none: why, in a sentence for the console, and how the network is reached.
    Nothing(String, Plan),
    /// The one in the store cannot be used, and nobody else may say another: this much of it, and
    /// why.
    Repair(Box<Chosen>, String),
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

    /// What PID 1 has found. Where it says nothing of the network, what was `before` stays.
    pub(super) fn found(
        found: Found,
        before: Option<&Plan>,
        machine: &Machine,
    ) -> Result<Chosen, String> {
        let mut plan = plan(&found);
        let own = found.config.as_deref().and_then(own::network);
        // What the configuration says itself is not said beside it.
        if own.is_some() || found.network.is_none() {
            let before = before.cloned().unwrap_or_default();
            plan = Plan {
                hostname: plan.hostname.or(before.hostname),
                ..before
            };
        }
        let source = Source {
            origin: found.told_origin(),
            toml: found.config.unwrap_or_default(),
        };
        Chosen::of(source, plan, machine)
    }

    /// What can still be done with one that cannot be used: its domain is administered, with
    /// defaults, and nobody else is served. `None` where it has no domain.
    fn repair(source: Source, plan: Plan, machine: &Machine) -> Option<Chosen> {
        let table: toml::Table = source.toml.parse().ok()?;
        let domain = table.get("domain")?.as_str()?;
        let revision = table.get("revision").and_then(toml::Value::as_integer);
        let mut config = Config::parse(&Source::of_domain(domain).toml, machine).ok()?;
        config.listen.c2s.clear();
        config.listen.c2s_tls.clear();
        config.revision = revision.and_then(|it| u64::try_from(it).ok()).unwrap_or(0);
        Some(Chosen {
            config,
            source,
            plan,
        })
    }

    /// How the network is reached.
    fn reached(&self) -> Plan {
        match own::plan(&self.config.network) {
            Some(own) => Plan {
                hostname: self.plan.hostname.clone(),
                ..own
            },
            None => self.plan.clone(),
        }
    }

    /// What PID 1 has to know of it.
    pub(super) fn told(&self) -> Configured {
        Configured {
            origin: self.source.origin.clone(),
            domain: self.config.domain.clone(),
            plan: self.reached(),
            time_servers: self.config.time.servers.clone(),
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

/// How the network is reached, by what was found.
fn plan(found: &Found) -> Plan {
    Plan {
        hostname: found.hostname.clone(),
        ..found.network.clone().unwrap_or_default()
    }
}

/// What the store holds: its configuration if it can be used, else what is left of it and why, as
/// far as it has a domain.
pub(super) fn kept(store: &Store, machine: &Machine) -> Option<Choice> {
    let (source, plan) = store.read(|state| {
        let plan = state.setting(NETWORK);
        let plan: Option<Plan> = plan.and_then(|plan| serde_json::from_slice(plan).ok());
        Some((configuration::kept(state)?, plan.unwrap_or_default()))
    })?;
    match Chosen::of(source.clone(), plan.clone(), machine) {
        Ok(chosen) => Some(Choice::Use(Box::new(chosen))),
        Err(why) => {
            let why = format!("the configuration of the store cannot be used: {why}");
            tracing::error!("{why}");
            let left = Chosen::repair(source, plan, machine)?;
            Some(Choice::Repair(Box::new(left), why))
        }
    }
}

/// Keeps how the network is reached, for whoever claims the machine by it.
pub(super) fn keep_network(store: &Store, plan: &Plan) -> Result<(), StoreError> {
    let network = serde_json::to_vec(plan).unwrap_or_default();
    let kept = store.update(|tx| tx.put_setting(NETWORK, &network));
    kept.map(drop)
}

/// Whether somebody administers the machine, so that its store says how it is configured.
pub(super) fn is_claimed(store: &Store) -> bool {
    store.read(|state| state.administrators().next().is_some())
}

/// Waits for what PID 1 finds; `kept` counts where that is nothing.
pub(super) fn wait(line: &Line, kept: Option<Choice>, machine: &Machine) -> Result<Choice, String> {
    let found = loop {
        match line.receive().map_err(|error| lost(&error))? {
            ToServer::Stop => return Ok(Choice::Stop),
            ToServer::Source(found) => break found,
            _ => {}
        }
    };
    let reached = found.as_deref().map(plan).unwrap_or_default();
    let why = match found.filter(|found| found.config.is_some()) {
        None => "no configuration was found: give this machine a cairn.toml with its domain, or \
                 claim it with `cairn claim`"
            .to_owned(),
        Some(found) => match Chosen::found(*found, None, machine) {
            Ok(chosen) => return Ok(Choice::Use(Box::new(chosen))),
            Err(why) => {
                tell(line, &ToMachine::Waiting(why.clone()));
                why
            }
        },
    };
    Ok(match kept {
        Some(kept @ Choice::Use(_)) => kept,
        _ => Choice::Nothing(why, reached),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::source::Origin;

    fn source(toml: &str) -> Source {
        Source {
            toml: toml.to_owned(),
            origin: "a test".to_owned(),
        }
    }

    #[test]
    fn what_a_later_release_wrote_is_administered_and_not_lost() {
        let machine = Machine::of_memory(256 << 20);
        let text = "domain = \"chat.example\"\nrevision = 7\nof_the_future = true\n";
        let why = Chosen::of(source(text), Plan::default(), &machine).expect_err("unknown key");
        assert!(why.contains("of_the_future"), "{why}");
        let left = Chosen::repair(source(text), Plan::default(), &machine).expect("a domain");
        assert_eq!(left.config.domain, "chat.example");
        assert_eq!(left.config.revision, 7);
        assert!(left.config.listen.c2s.is_empty() && left.config.listen.c2s_tls.is_empty());
        assert!(!left.config.listen.https.is_empty());
        assert_eq!(left.source.toml, text, "it stays as it is");
        for text in ["", "domain = 5", "no toml", "domain = \"a b\""] {
            assert!(Chosen::repair(source(text), Plan::default(), &machine).is_none());
        }
    }

    #[test]
    fn what_a_configuration_says_of_the_network_counts_while_it_says_it() {
        let machine = Machine::of_memory(256 << 20);
        let resolver = |last: u8| Plan {
            resolvers: vec![[192, 0, 2, last].into()],
            ..Plan::default()
        };
        let found = |more: &str, network: Option<Plan>| Found {
            hostname: Some("chat".to_owned()),
            network,
            ..Found::at(Origin::Esp).with_toml(format!("domain = \"a.example\"\n{more}").as_bytes())
        };
        let own = "network.addresses = [\"192.0.2.5/24\"]\n";
        let named = |plan: Plan| Plan {
            hostname: Some("chat".to_owned()),
            ..plan
        };

        // Beside the configuration, by another source.
        let chosen = Chosen::found(found("", Some(resolver(1))), None, &machine).expect("valid");
        assert_eq!(chosen.told().plan, named(resolver(1)));
        // A newer one without a word about it leaves it as it is.
        let before = Some(&chosen.plan);
        let newer = Chosen::found(found("revision = 1\n", None), before, &machine).expect("valid");
        assert_eq!(newer.told().plan, named(resolver(1)));
        // In the configuration itself, for as long as it stands there.
        let network = own::network(&format!("domain = \"a.example\"\n{own}"));
        let with_own = Chosen::found(found(own, network.clone()), before, &machine).expect("valid");
        assert_eq!(with_own.told().plan, named(network.expect("a network")));
        let kept = Chosen::of(source("domain = \"a.example\"\n"), with_own.plan, &machine);
        assert_eq!(kept.expect("valid").told().plan, named(resolver(1)));
    }

    #[test]
    fn a_machine_is_administered_unless_its_configuration_says_otherwise() {
        let machine = Machine::of_memory(128 << 20);
        let of = |text| Chosen::of(source(text), Plan::default(), &machine).expect("it is valid");
        assert_eq!(
            of("domain = \"chat.example\"\n").config.listen.https.len(),
            1
        );
        let without = of("domain = \"chat.example\"\n[listen]\nhttps = []\n");
        assert!(without.config.listen.https.is_empty());
    }
}
