//! The configuration that the store keeps, key by key.

use std::collections::BTreeMap;
use std::io::Write;

use super::{Operator, Refused, say};
use crate::config::{Config, Machine};
use crate::service::configuration::{self, Source};

impl Operator {
    /// What is in force, and what will be at the next start where that differs.
    pub(super) fn show_configuration(
        &self,
        key: Option<&str>,
        output: &mut dyn Write,
    ) -> Result<(), Refused> {
        let now = self.core.config.values();
        let next = self.next_configuration();
        let next = next.map(|config| config.values()).unwrap_or_default();
        if let Some(key) = key
            && !now.iter().any(|(name, _)| name == key)
        {
            return Err(Refused::missing(Config::unknown_key(key)));
        }
        for (name, value) in now {
            if key.is_some_and(|key| key != name) {
                continue;
            }
            let shown = |value: Option<&str>| value.unwrap_or("(not set)").to_owned();
            say(output, &format!("{name} = {}", shown(value.as_deref())))?;
            let later = next.iter().find(|(later, _)| *later == name);
            if let Some((_, later)) = later.filter(|(_, later)| *later != value) {
                let later = shown(later.as_deref());
                say(
                    output,
                    &format!("# {name} = {later} from the next start on"),
                )?;
            }
        }
        Ok(())
    }

    pub(super) fn change_configuration(
        &self,
        key: &str,
        value: &str,
        output: &mut dyn Write,
    ) -> Result<(), Refused> {
        if !self
            .core
            .config
            .values()
            .iter()
            .any(|(name, _)| name == key)
        {
            return Err(Refused::invalid(Config::unknown_key(key)));
        }
        if key == "store.path" {
            return Err(Refused::conflict(
                "where the store is, is not said in the store",
            ));
        }
        if !self.around.keeps_configuration {
            return Err(Refused::conflict(
                "this server reads its configuration from its file: change that, or start it with \
                 --stored-config",
            ));
        }
        let kept = self.core.store.read(configuration::kept);
        let kept = kept.ok_or_else(|| Refused::missing("the store keeps no configuration"))?;
        let toml = configuration::changed(&kept.toml, key, value).map_err(Refused::invalid)?;
        let machine = Machine::measure();
        let config =
            Config::parse(&toml, &machine).map_err(|error| Refused::invalid(error.message))?;
        config
            .admission(&machine)
            .check()
            .map_err(Refused::invalid)?;
        let left_behind = self.left_behind(&config)?;
        let origin = "`cairn config set`".to_owned();
        let changed = Source { toml, origin };
        let put = self.core.store.update(|tx| {
            // Somebody else may have changed it meanwhile.
            match configuration::kept(tx).as_ref() == Some(&kept) {
                true => configuration::keep(tx, &changed),
                false => Err(crate::store::StoreError::Invalid(
                    "the configuration has just been changed by somebody else: try again",
                )),
            }
        });
        let ((), position) = put.map_err(|error| error.to_string())?;
        self.wait(position)?;
        tracing::info!(
            key,
            "the configuration was changed; it counts from the next start on"
        );
        for (domain, accounts) in left_behind {
            say(
                output,
                &format!(
                    "warning: {accounts} accounts of {domain} are out of reach then; they stay in \
                     the store"
                ),
            )?;
        }
        let now = "it is kept, and counts from the next start on";
        Ok(match self.around.machine {
            Some(_) => say(output, &format!("{now}: `cairn reboot`")),
            None => say(output, now),
        }?)
    }

    /// The domains that another configuration serves no more although they have accounts, and how
    /// many. The first domain is not left so, and not all administrators are.
    fn left_behind(&self, next: &Config) -> Result<BTreeMap<String, usize>, Refused> {
        let served_now = |domain: &str| self.core.is_local(domain);
        let (left, no_administrator) = self.core.store.read(|state| {
            let mut left = state.accounts_by_domain();
            left.retain(|domain, _| served_now(domain) && !next.serves(domain));
            let domains = || {
                state
                    .administrators()
                    .filter_map(|jid| Some(jid.split_once('@')?.1))
            };
            let has_some = domains().any(served_now);
            (
                left,
                has_some && !domains().any(|domain| next.serves(domain)),
            )
        });
        if let Some(accounts) = left.get(&self.core.config.domain) {
            return Err(Refused::conflict(format!(
                "{accounts} accounts are of the domain {}: it cannot be changed with them",
                self.core.config.domain
            )));
        }
        if no_administrator {
            return Err(Refused::conflict(
                "no administrator would be left: make one of another domain first",
            ));
        }
        Ok(left)
    }

    fn next_configuration(&self) -> Option<Config> {
        if !self.around.keeps_configuration {
            return None;
        }
        let kept = self.core.store.read(configuration::kept)?;
        let mut next = Config::parse(&kept.toml, &Machine::measure()).ok()?;
        next.store.clone_from(&self.core.config.store);
        Some(next)
    }
}
