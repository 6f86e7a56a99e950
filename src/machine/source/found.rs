//! What a source has for the machine. A child hands it to PID 1 as its [`Answer`].

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::own;
use super::user_data::{self, UserData};
use crate::config::places::is_hostname;
use crate::machine::answer::{self, Answer};
use crate::machine::plan::{Plan, Prefix};

/// No configuration is longer. Real ones have less than 1 KiB; doubled by JSON, and with all else, it
/// fits the message.
pub const CONFIG_BYTES_MAX: usize = 16 << 10;
const SENTENCES_MAX: usize = 8;
const INTERFACES_MAX: usize = 16;
const ADDRESSES_MAX: usize = 64;
const SERVERS_MAX: usize = 8;
/// As many as there are kinds of places on a machine.
const NETWORKS_MAX: usize = 5;

/// A place where configuration comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// `opt/org.cairn/config`.
    FwCfg,
    /// Strings that begin with `cairn:`.
    Smbios,
    /// In the root of the partition.
    Esp,
    /// A volume with the label `CIDATA`.
    NoCloud,
    /// A volume with the label `config-2`.
    ConfigDrive,
    /// The metadata service of Amazon EC2.
    Aws,
    /// The metadata service of Microsoft Azure.
    Azure,
    /// The metadata service of DigitalOcean.
    DigitalOcean,
    /// The metadata service of Google Compute Engine.
    Google,
    /// The metadata service of Hetzner Cloud.
    Hetzner,
    /// The metadata service of Linode (Akamai).
    Linode,
    /// The metadata service of an OpenStack.
    OpenStack,
    /// The metadata service of Oracle Cloud.
    Oracle,
    /// The metadata service of Scaleway.
    Scaleway,
    /// The metadata service of Vultr.
    Vultr,
}

/// The name for the console.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::FwCfg => "QEMU fw_cfg",
            Origin::Smbios => "SMBIOS OEM string",
            Origin::Esp => "cairn.toml on the EFI partition",
            Origin::NoCloud => "NoCloud volume",
            Origin::ConfigDrive => "config drive",
            Origin::Aws => "AWS metadata",
            Origin::Azure => "Azure metadata",
            Origin::DigitalOcean => "DigitalOcean metadata",
            Origin::Google => "Google Cloud metadata",
            Origin::Hetzner => "Hetzner metadata",
            Origin::Linode => "Linode metadata",
            Origin::OpenStack => "OpenStack metadata",
            Origin::Oracle => "Oracle Cloud metadata",
            Origin::Scaleway => "Scaleway metadata",
            Origin::Vultr => "Vultr metadata",
        })
    }
}

/// What a source has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// Where it is from.
    pub origin: Origin,
    /// Cairn's configuration: TOML that has been looked into for `revision` and the network alone. An empty line
    /// stands for the line `#cairn`, so that lines count as in the source.
    pub config: Option<String>,
    /// The number after `revision =` at the top of the configuration.
    pub revision: Option<u64>,
    /// A sentence about user-data that is there but is not ours or cannot be read.
    pub ignored: Option<String>,
    /// The name of the machine.
    pub hostname: Option<String>,
    /// Network settings; absent: DHCP and router advertisements.
    pub network: Option<Plan>,
    /// Where the network settings are from, if not from `origin`.
    pub network_origin: Option<Origin>,
    /// Addresses by which the machine is reached from outside, where the source knows them.
    pub public_addresses: Vec<IpAddr>,
    /// Sentences about whatever else could not be used, for the console.
    pub notes: Vec<String>,
}

impl Found {
    /// Nothing yet.
    #[must_use]
    pub fn at(origin: Origin) -> Found {
        Found {
            origin,
            config: None,
            revision: None,
            ignored: None,
            hostname: None,
            network: None,
            network_origin: None,
            public_addresses: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Takes the bytes of a file that is nothing but configuration. The line `#cairn` may be there.
    #[must_use]
    pub fn with_toml(mut self, bytes: &[u8]) -> Found {
        if user_data::is_marked(bytes) {
            return self.with_user_data(bytes);
        }
        match str::from_utf8(bytes) {
            Ok(config) => {
                let config = config.strip_prefix('\u{feff}').unwrap_or(config);
                self.revision = user_data::revision(config);
                self.config = Some(config.to_owned());
            }
            Err(error) => {
                let place = error.valid_up_to();
                self.ignored = Some(format!(
                    "it is not UTF-8 from byte {place} on and is ignored"
                ));
            }
        }
        self
    }

    /// Takes user-data: ours becomes the configuration, anything else a sentence.
    #[must_use]
    pub fn with_user_data(mut self, bytes: &[u8]) -> Found {
        match user_data::read(bytes) {
            UserData::Nothing => {}
            UserData::Ours(config) => {
                self.revision = user_data::revision(&config);
                self.config = Some(config);
            }
            UserData::NotOurs(why) => self.ignored = Some(why),
        }
        self
    }

    /// What the configuration itself says of the network counts before what stands beside it.
    #[must_use]
    pub fn with_own_network(mut self) -> Found {
        let own = self.config.as_deref().and_then(own::network);
        self.network = own.or(self.network);
        self
    }

    /// Takes a name if it is one (RFC 1123 §2.1), else notes that it is not.
    #[must_use]
    pub fn with_hostname(mut self, name: Option<&str>) -> Found {
        let Some(name) = name.map(|name| name.trim().trim_end_matches('.')) else {
            return self;
        };
        if is_hostname(name) {
            self.hostname = Some(name.to_ascii_lowercase());
        } else if !name.is_empty() {
            self.note(format!("{name:?} is no name for a machine and is not used"));
        }
        self
    }

    /// Keeps a sentence for the console.
    pub fn note(&mut self, sentence: impl Into<String>) {
        if self.notes.len() < SENTENCES_MAX {
            self.notes.push(sentence.into());
        }
    }

    /// Takes from a source that comes later what this one has not: configuration, name and network
    /// are each from the first source that has them. Sentences of both are kept.
    #[must_use]
    pub fn or(self, later: Found) -> Found {
        let leads = self.config.is_some() || later.config.is_none();
        let network_origin = match (&self.network, &later.network) {
            (Some(_), _) => self.network_origin.or(Some(self.origin)),
            (None, Some(_)) => later.network_origin.or(Some(later.origin)),
            (None, None) => None,
        };
        let hostname = self.hostname.clone().or_else(|| later.hostname.clone());
        let network = self.network.clone().or_else(|| later.network.clone());
        let (mut found, other) = if leads { (self, later) } else { (later, self) };
        for sentence in other.ignored.iter().chain(&other.notes) {
            found.note(format!("{}: {sentence}", other.origin));
        }
        found.hostname = hostname;
        found.network = network;
        found.network_origin = network_origin.filter(|origin| *origin != found.origin);
        if found.public_addresses.is_empty() {
            found.public_addresses = other.public_addresses;
        }
        found
    }

    /// Where it is from, for people: that of the network too, where it is another.
    #[must_use]
    pub fn told_origin(&self) -> String {
        match self.network_origin {
            Some(network) => format!("{}; network: {network}", self.origin),
            None => self.origin.to_string(),
        }
    }
}

/// The network settings of every source on the machine, in order, for a machine whose network does
/// not work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Networks(pub Vec<(Origin, Plan)>);

impl Answer for Networks {
    fn trim(&mut self) {
        self.0.retain(|(_, plan)| is_bounded(plan));
        self.0.truncate(NETWORKS_MAX);
    }
}

impl Answer for Found {
    /// What does not fit is told.
    fn trim(&mut self) {
        let is_config = |config: &String| {
            let is_text = |c: char| !c.is_control() || matches!(c, '\t' | '\n' | '\r');
            config.len() <= CONFIG_BYTES_MAX && config.chars().all(is_text)
        };
        if self
            .config
            .as_ref()
            .is_some_and(|config| !is_config(config))
        {
            self.config = None;
            self.revision = None;
            self.ignored = Some(format!(
                "the configuration is not text of at most {} KiB and is ignored",
                CONFIG_BYTES_MAX >> 10
            ));
        }
        self.hostname.take_if(|name| !is_hostname(name));
        if self.network.as_ref().is_some_and(|plan| !is_bounded(plan)) {
            self.network = None;
            self.network_origin = None;
            let told = "the network settings have impossible prefixes or too many entries";
            if !self.notes.iter().any(|note| note == told) {
                self.notes.truncate(SENTENCES_MAX - 1);
                self.notes.push(told.to_owned());
            }
        }
        self.public_addresses.truncate(ADDRESSES_MAX);
        self.notes.truncate(SENTENCES_MAX);
        for sentence in self.notes.iter_mut().chain(&mut self.ignored) {
            *sentence = answer::sentence(sentence);
        }
    }
}

fn is_bounded(plan: &Plan) -> bool {
    let is_prefix = |prefix: &Prefix| match prefix.address {
        IpAddr::V4(_) => prefix.bits <= 32,
        IpAddr::V6(_) => prefix.bits <= 128,
    };
    let entries: usize = plan
        .interfaces
        .iter()
        .map(|one| one.addresses.len() + one.routes.len())
        .sum();
    let is_name = |name: &String| {
        // IFNAMSIZ of the kernel, with the byte behind the name.
        (1..16).contains(&name.len())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'/')
    };
    plan.hostname.as_deref().is_none_or(is_hostname)
        && plan.interfaces.len() <= INTERFACES_MAX
        && entries <= ADDRESSES_MAX
        && plan.resolvers.len() <= SERVERS_MAX
        && plan.time_servers.len() <= SERVERS_MAX
        && plan.interfaces.iter().all(|one| {
            one.name.as_ref().is_none_or(is_name)
                && one.addresses.iter().all(is_prefix)
                && one.routes.iter().all(|route| is_prefix(&route.to))
        })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::machine::plan::{InterfacePlan, Route};

    fn prefix(bits: u8) -> Prefix {
        Prefix {
            address: Ipv4Addr::new(192, 0, 2, 1).into(),
            bits,
        }
    }

    fn full() -> Found {
        let mut found = Found::at(Origin::NoCloud)
            .with_user_data(b"#cairn\nrevision = 7\ndomain = \"chat.example\"\n")
            .with_hostname(Some("Chat-1.example."));
        let route = Route {
            to: prefix(0),
            via: Some(Ipv4Addr::new(192, 0, 2, 254).into()),
            on_link: true,
            metric: Some(u32::MAX),
        };
        found.network = Some(Plan {
            interfaces: vec![
                InterfacePlan {
                    mac: Some([255; 6]),
                    name: Some("eth0".to_owned()),
                    mtu: Some(1500),
                    addresses: vec![prefix(24); 2],
                    routes: vec![route; 2],
                    ..InterfacePlan::default()
                };
                INTERFACES_MAX
            ],
            ..Plan::default()
        });
        found
    }

    #[test]
    fn what_was_found_goes_through_the_message() {
        let found = full();
        assert_eq!(found.revision, Some(7));
        assert_eq!(found.hostname.as_deref(), Some("chat-1.example"));
        let message = answer::to_message(Ok(found.clone()));
        assert_eq!(answer::from_message(&message), Ok(found));
    }

    #[test]
    fn the_largest_answer_fits_the_message() {
        let mut found = full();
        found.config = Some("\"".repeat(CONFIG_BYTES_MAX));
        for _ in 0..20 {
            found.note("é\"".repeat(1000));
        }
        found.ignored = Some("\u{10ffff}".repeat(1000));
        found.public_addresses = vec![std::net::Ipv6Addr::from([0xff; 16]).into(); 100];
        let message = answer::to_message(Ok(found.clone()));
        let read: Found = answer::from_message(&message).expect("within bounds");
        assert_eq!(read.notes.len(), SENTENCES_MAX);
        assert_eq!(read.config, found.config);
        assert_eq!(read.network, found.network);
    }

    #[test]
    fn every_network_of_the_machine_fits_the_message() {
        let mut networks = Networks(vec![
            (Origin::ConfigDrive, full().network.expect("a plan"));
            NETWORKS_MAX
        ]);
        let message = answer::to_message(Ok(networks.clone()));
        assert_eq!(answer::from_message(&message), Ok(networks.clone()));
        networks.0[1].1.interfaces[0].addresses[0].bits = 33;
        let message = serde_json::json!({"done": networks}).to_string();
        assert!(answer::from_message::<Networks>(message.as_bytes()).is_err());
        networks.0.swap_remove(1);
        networks.trim();
        assert_eq!(networks.0.len(), NETWORKS_MAX - 1);
    }

    #[test]
    fn configuration_name_and_network_are_each_of_the_first_that_has_them() {
        let with_network = |origin| {
            let network = Some(Plan {
                resolvers: vec![Ipv4Addr::new(192, 0, 2, 53).into()],
                ..Plan::default()
            });
            Found {
                network,
                ..Found::at(origin)
            }
        };
        let esp = || Found::at(Origin::Esp).with_toml(b"domain = \"a.example\"\n");
        let mut volume = with_network(Origin::NoCloud).with_hostname(Some("chat"));
        volume.note("a sentence");

        let found = esp().or(volume.clone()).or(full());
        assert_eq!(found.config.as_deref(), Some("domain = \"a.example\"\n"));
        assert_eq!(found.network, volume.network);
        assert_eq!(found.hostname.as_deref(), Some("chat"));
        assert_eq!(
            found.told_origin(),
            "cairn.toml on the EFI partition; network: NoCloud volume"
        );
        assert_eq!(found.notes, ["NoCloud volume: a sentence"]);

        // The configuration of a later source, the network of an earlier one.
        let found = volume.clone().or(esp());
        assert_eq!(found.origin, Origin::Esp);
        assert_eq!(found.network_origin, Some(Origin::NoCloud));
        assert_eq!(found.network, volume.network);
        assert_eq!(found.notes, ["NoCloud volume: a sentence"]);

        // All of one source.
        let found = Found::at(Origin::Smbios).or(full());
        assert_eq!(
            (found.origin, found.network_origin),
            (Origin::NoCloud, None)
        );
        assert_eq!(found.told_origin(), "NoCloud volume");
        let found = full().or(with_network(Origin::ConfigDrive));
        assert_eq!(found, full());
    }

    #[test]
    fn a_child_that_leaves_the_bounds_is_not_believed() {
        let change = |change: &dyn Fn(&mut Found)| {
            let mut found = full();
            change(&mut found);
            let message = serde_json::json!({"done": found}).to_string();
            answer::from_message::<Found>(message.as_bytes()).is_ok()
        };
        assert!(change(&|_| {}));
        assert!(!change(&|found| found.hostname = Some("a b".to_owned())));
        assert!(!change(&|found| found.config = Some("\u{1b}[2J".to_owned())));
        assert!(!change(
            &|found| found.ignored = Some("\u{1b}[2J".to_owned())
        ));
        assert!(!change(&|found| found.notes = vec![String::new(); 9]));
        assert!(!change(&|found| {
            let plan = found.network.as_mut().expect("a plan");
            plan.interfaces[0].addresses[0].bits = 33;
        }));
        assert!(!change(&|found| {
            let plan = found.network.as_mut().expect("a plan");
            plan.interfaces[0].name = Some("../../x".to_owned());
        }));
    }

    #[test]
    fn a_file_of_configuration_needs_no_line() {
        for text in [
            "\u{feff}domain = \"a.example\"\n",
            "domain = \"a.example\"\n",
            "#cairn\ndomain = \"a.example\"\n",
        ] {
            let found = Found::at(Origin::Esp).with_toml(text.as_bytes());
            let config = found.config.expect("ours");
            assert_eq!(
                config.lines().count(),
                text.lines().count(),
                "lines count as in the file"
            );
            assert!(config.ends_with("domain = \"a.example\"\n"));
        }
        let empty = Found::at(Origin::Esp).with_toml(b"");
        assert_eq!(empty.config.as_deref(), Some(""));
    }

    #[test]
    fn bad_names_are_told() {
        for name in ["-a", "a..b", "ä", "a_b", &"a".repeat(64)] {
            let found = Found::at(Origin::Aws).with_hostname(Some(name));
            assert_eq!((found.hostname, found.notes.len()), (None, 1), "{name}");
        }
        assert_eq!(
            Found::at(Origin::Aws).with_hostname(Some(" ")),
            Found::at(Origin::Aws)
        );
    }
}
