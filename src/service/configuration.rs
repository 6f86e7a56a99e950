//! The configuration in the store: on a machine it is the one that counts, once somebody has
//! claimed the machine (DESIGN §8).

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::config::{Config, Given, Machine};
use crate::store::{State, Store, StoreError, Tx};

/// The name of the value.
pub const NAME: &str = "configuration";
/// The name of another one: how the network of this very machine is reached.
pub const NETWORK: &str = "configuration-network";

/// A configuration from outside: a file, or what the machine has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The text, TOML.
    pub toml: String,
    /// Where it is from, for people.
    pub origin: String,
}

/// Where a machine is administered unless its configuration says so otherwise.
const HTTPS_OF_A_MACHINE: &str = "[\"[::]:443\"]";

/// Where an authority looks for what it has asked for, if there is one.
const HTTP_OF_A_MACHINE: &str = "[\"[::]:80\"]";

/// The authority of a machine that knows whom it may write to.
const DIRECTORY_OF_A_MACHINE: &str = "letsencrypt";

impl Source {
    /// The smallest: a domain, for whoever claims a machine that has none.
    #[must_use]
    pub fn of_domain(domain: &str) -> Source {
        let toml = format!("domain = {}\n", toml::Value::from(domain));
        Source {
            toml,
            origin: "`cairn claim`".to_owned(),
        }
        .of_machine()
    }

    /// As a machine elsewhere can use it: without what names files or addresses of the one where it
    /// was. Those keys are returned too.
    #[must_use]
    pub fn elsewhere(self) -> (Source, Vec<String>) {
        let Ok(mut table) = self.toml.parse::<toml::Table>() else {
            return (self, Vec::new());
        };
        let mut left_out = Vec::new();
        let mut leave_out = |section: &str, is_of_there: &dyn Fn(&str, &toml::Value) -> bool| {
            let section_table = table.get_mut(section).and_then(toml::Value::as_table_mut);
            section_table.into_iter().for_each(|table| {
                table.retain(|key, value| {
                    let goes = is_of_there(key, value);
                    if goes {
                        left_out.push(format!("{section}.{key}"));
                    }
                    !goes
                });
            });
        };
        leave_out("tls", &|key, _| matches!(key, "certificate" | "key"));
        leave_out("store", &|key, _| key == "path");
        // What stands in the configuration itself moves with it.
        let is_file =
            |value: &toml::Value| value.as_str().is_some_and(|text| !Given::is_text(text));
        for (section, of_file) in [
            ("acme", "trust"),
            ("federation", "trust"),
            ("dns", "trust_anchor"),
        ] {
            leave_out(section, &|key, value| key == of_file && is_file(value));
        }
        leave_out("listen", &|_, value| {
            let addresses = value.as_array().into_iter().flatten();
            let mut addresses = addresses.filter_map(|address| address.as_str()?.parse().ok());
            addresses.any(|address: SocketAddr| !address.ip().is_unspecified())
        });
        leave_out_files_of_lists(&mut table, &mut left_out);
        match left_out.is_empty() {
            true => (self, left_out),
            false => (
                Source {
                    toml: table.to_string(),
                    ..self
                },
                left_out,
            ),
        }
    }

    /// As a machine uses it: without `[listen] https` nobody could administer it, and where there
    /// is somebody to write to, its certificate looks after itself.
    #[must_use]
    pub fn of_machine(self) -> Source {
        let Ok(table) = self.toml.parse::<toml::Table>() else {
            return self;
        };
        let said = |section: &str, key: &str| {
            let section = table.get(section).and_then(toml::Value::as_table);
            section.and_then(|section| section.get(key))
        };
        let has_contact = said("acme", "contact")
            .and_then(toml::Value::as_str)
            .is_some_and(|contact| !contact.is_empty());
        let is_off = said("acme", "directory").and_then(toml::Value::as_str) == Some("");
        let is_certified = said("acme", "directory").is_some() || has_contact;
        let defaults = [
            ("listen", "https", HTTPS_OF_A_MACHINE, true),
            ("acme", "directory", DIRECTORY_OF_A_MACHINE, has_contact),
            ("listen", "http", HTTP_OF_A_MACHINE, is_certified && !is_off),
        ];
        let mut toml = self.toml.clone();
        for (section, key, value, applies) in defaults {
            if applies && said(section, key).is_none() {
                // What is no section is told when it is read.
                toml = changed(&toml, &format!("{section}.{key}"), value).unwrap_or(toml);
            }
        }
        Source { toml, ..self }
    }
}

/// The configuration that the store keeps.
#[must_use]
pub fn kept(state: &State) -> Option<Source> {
    serde_json::from_slice(state.setting(NAME)?).ok()
}

/// Keeps one in the store.
pub fn keep(tx: &mut Tx<'_>, source: &Source) -> Result<(), StoreError> {
    let value = serde_json::to_vec(source).expect("plain values are JSON");
    tx.put_setting(NAME, &value)
}

/// The configuration that counts, of the one from outside and the one in the store, and what is
/// kept from now on.
///
/// The store's wins, unless nobody has claimed the machine yet, or the other has a higher
/// `revision`, or the store's is none any more or does not fit the machine. Where the store lies is
/// always said from outside.
pub fn in_force(store: &Store, outside: Config, source: &Source, machine: &Machine) -> Config {
    let (kept, is_claimed) = store.read(|state| {
        let is_claimed = state.administrators().next().is_some();
        (kept(state), is_claimed)
    });
    if let Some(kept) = kept.filter(|_| is_claimed) {
        match usable(&kept, &outside, machine) {
            Ok(inside) if inside.revision >= outside.revision => {
                if kept.toml != source.toml {
                    tracing::info!(
                        from = kept.origin,
                        "the configuration in the store counts; the one from {} differs, and is taken \
                         with a higher revision than {}",
                        source.origin,
                        inside.revision
                    );
                }
                return inside;
            }
            Ok(_) => tracing::info!(from = source.origin, "a configuration of a higher revision"),
            Err(why) => {
                tracing::error!(
                    "the configuration in the store cannot be used ({why}): the one from {} is",
                    source.origin
                );
                return outside;
            }
        }
    }
    let same = store.read(|state| self::kept(state).as_ref() == Some(source));
    if !same && let Err(error) = store.update(|tx| keep(tx, source)) {
        tracing::warn!(%error, "the configuration cannot be kept in the store");
    }
    outside
}

fn usable(kept: &Source, outside: &Config, machine: &Machine) -> Result<Config, String> {
    let mut inside = Config::parse(&kept.toml, machine).map_err(|error| error.to_string())?;
    inside.admission(machine).check()?;
    inside.store.clone_from(&outside.store);
    Ok(inside)
}

/// The text with one key changed. `value` is TOML, or a text as it is. The error is a sentence.
pub fn changed(toml: &str, key: &str, value: &str) -> Result<String, String> {
    let mut table: toml::Table = toml
        .parse()
        .map_err(|error| format!("the configuration that is kept is no TOML: {error}"))?;
    let parsed: Result<toml::Table, _> = format!("value = {value}").parse();
    let value = match parsed {
        Ok(mut parsed) if parsed.len() == 1 => parsed
            .remove("value")
            .unwrap_or_else(|| toml::Value::String(value.to_owned())),
        _ => toml::Value::String(value.to_owned()),
    };
    let name = match key.split_once('.') {
        None => {
            table.insert(key.to_owned(), value);
            return Ok(table.to_string());
        }
        Some((section, name)) => {
            let section = table
                .entry(section)
                .or_insert_with(|| toml::Value::Table(toml::Table::new()));
            let section = section.as_table_mut();
            section
                .ok_or_else(|| {
                    format!("{key} is not a key: what stands before the dot is no section")
                })?
                .insert(name.to_owned(), value);
            name
        }
    };
    debug_assert!(!name.is_empty() || key.ends_with('.'));
    Ok(table.to_string())
}

/// A host without its files makes do with another certificate. A component without its secret
/// cannot be, so it goes as a whole.
fn leave_out_files_of_lists(table: &mut toml::Table, left_out: &mut Vec<String>) {
    if let Some(entries) = table.get_mut("host").and_then(toml::Value::as_array_mut) {
        for host in entries.iter_mut().filter_map(toml::Value::as_table_mut) {
            for key in ["certificate", "key"] {
                if host.remove(key).is_some() {
                    left_out.push(format!("host.{key}"));
                }
            }
        }
    }
    if let Some(entries) = table
        .get_mut("component")
        .and_then(toml::Value::as_array_mut)
    {
        entries.retain(|component| {
            let stays = component.get("secret_file").is_none();
            if !stays {
                left_out.push("component".to_owned());
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_hosts_and_components_do_not_move_to_a_new_machine() {
        let toml = "domain = \"a.example\"\n[[host]]\ndomain = \"b.example\"\ncertificate = \
                    \"b.pem\"\nkey = \"b.key\"\n[[component]]\ndomain = \"c.example\"\nsecret_file = \
                    \"c\"\n[[component]]\ndomain = \"d.example\"\nsecret = \"d\"\n";
        let (toml, origin) = (toml.to_owned(), "a test".to_owned());
        let (here, left_out) = Source { toml, origin }.elsewhere();
        assert_eq!(left_out, ["host.certificate", "host.key", "component"]);
        let config = Config::parse(&here.toml, &Machine::of_memory(1 << 30)).expect("valid");
        assert_eq!(config.hosts[0].domain, "b.example");
        assert_eq!(config.hosts[0].tls.certificate, None);
        let components: Vec<_> = config
            .component
            .iter()
            .map(|it| it.domain.as_str())
            .collect();
        assert_eq!(components, ["d.example"]);
    }

    #[test]
    fn what_names_a_place_of_the_old_machine_does_not_move_to_a_new_one() {
        let source = |toml: &str| Source {
            toml: toml.to_owned(),
            origin: "a test".to_owned(),
        };
        let there = "domain = \"a.example\"\n[listen]\nc2s = [\"192.0.2.1:5222\"]\nhttps = \
                     [\"[::]:443\"]\n[tls]\ncertificate = \"a.pem\"\nkey = \"b.pem\"\n[limits]\n\
                     ping_s = 60\n[store]\npath = \"x\"\n[federation]\ntrust = \"c.pem\"\n\
                     [acme]\ntrust = \"\"\"\na\nb\n\"\"\"\n";
        let (here, left_out) = source(there).elsewhere();
        assert_eq!(
            left_out,
            [
                "tls.certificate",
                "tls.key",
                "store.path",
                "federation.trust",
                "listen.c2s"
            ]
        );
        let config = Config::parse(&here.toml, &Machine::of_memory(1 << 30)).expect("valid");
        assert_eq!(config.limits.ping_s, 60);
        assert!(config.listen.c2s[0].ip().is_unspecified());
        assert_eq!(config.tls.certificate, None);
        assert_eq!(config.acme.trust, Some(Given::Text("a\nb\n".to_owned())));
        for same in ["domain = \"a.example\"\n", "no toml"] {
            assert_eq!(source(same).elsewhere(), (source(same), Vec::new()));
        }
    }

    #[test]
    fn a_machine_with_a_contact_has_its_certificate_looked_after() {
        let machine = Machine::of_memory(1 << 30);
        let of = |toml: &str| {
            let toml = format!("domain = \"a.example\"\n{toml}");
            let origin = "a test".to_owned();
            let source = Source { toml, origin }.of_machine();
            Config::parse(&source.toml, &machine).expect("valid")
        };
        let with = of("[acme]\ncontact = \"mailto:admin@a.example\"\n");
        assert_eq!(with.acme.directory, "letsencrypt");
        assert_eq!((with.listen.http.len(), with.listen.https.len()), (1, 1));
        let without = of("");
        assert_eq!(without.acme.url(), None);
        assert!(without.listen.http.is_empty());
        let off = of("[acme]\ndirectory = \"\"\ncontact = \"mailto:admin@a.example\"\n");
        assert_eq!(off.acme.url(), None);
        assert!(off.listen.http.is_empty());
        let other = of("[listen]\nhttp = []\n[acme]\ndirectory = \"https://ca.example/\"\n");
        assert_eq!(other.acme.url(), Some("https://ca.example/"));
        assert!(other.listen.http.is_empty(), "what is said counts");
    }

    #[test]
    fn one_key_is_changed_and_the_others_stay() {
        let before = "domain = \"a.example\"\n[limits]\nresume_s = 5\n";
        let after = changed(before, "limits.ping_s", "60").expect("TOML");
        let after = changed(&after, "registration.mode", "open").expect("TOML");
        let after = changed(&after, "listen.https", "[\"[::]:443\"]").expect("TOML");
        let machine = Machine::of_memory(1 << 30);
        let config = Config::parse(&after, &machine).expect("valid");
        assert_eq!((config.limits.ping_s, config.limits.resume_s), (60, 5));
        assert_eq!(config.listen.https.len(), 1);
        assert!(changed(before, "domain.x", "1").is_err());
        // What could smuggle in another key is a text.
        let odd = changed(before, "limits.ping_s", "1\ndomain = \"b.example\"").expect("TOML");
        assert!(Config::parse(&odd, &machine).is_err());
    }
}
