//! `[[host]]`: the domains that are served beside the first one.
//!
//! What may differ between domains takes the keys of `[registration]`, `[auth]` and `[contact]`
//! themselves; what a host does not say of them is as for the first domain. Everything else, the
//! limits above all, is of the whole server.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde::Deserialize;
use toml::de::DeValue;

use super::keys::{self, Auth, Config, Contact, Registration, Tls, raw};

/// Domains of one server, the first one included: each has a certificate in memory and policies
/// that are looked through for a name.
pub const DOMAINS_MAX: usize = 64;

/// The name of the key.
pub(super) const NAME: &str = "host";

/// The keys that a host has beside its sections.
const KEYS: [&str; 3] = ["domain", "certificate", "key"];

/// The sections whose keys a host may have for itself.
const SECTIONS: [&str; 3] = ["registration", "auth", "contact"];

/// A domain that is served, and what may differ between domains.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    /// The domain, normalised.
    pub domain: String,
    /// Its certificate.
    pub tls: Tls,
    /// Who may create an account in it.
    pub registration: Registration,
    /// How the passwords of its accounts are kept.
    pub auth: Auth,
    /// Whom to write to about it.
    pub contact: Contact,
}

/// One as it was written.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawHost {
    domain: String,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    registration: raw::Registration,
    auth: raw::Auth,
    contact: raw::Contact,
}

impl Host {
    /// What is said of a host, over what is said of the first domain.
    pub(super) fn merge(host: RawHost, first: &Host) -> Host {
        Host {
            domain: host.domain,
            tls: Tls {
                certificate: host.certificate,
                key: host.key,
            },
            registration: Registration::over(host.registration, &first.registration),
            auth: Auth::over(host.auth, &first.auth),
            contact: Contact::over(host.contact, &first.contact),
        }
    }

    /// Checks what the types cannot say: the key that is wrong, as it is called for the first
    /// domain, and what is wrong with it.
    pub(super) fn check(&self) -> Result<(), (String, String)> {
        let fail = |key: &str, message: String| Err((key.to_owned(), message));
        if self.tls.certificate.is_some() != self.tls.key.is_some() {
            return fail(
                "tls",
                "needs both certificate and key; give the other one too, or neither for a \
                 self-signed certificate"
                    .to_owned(),
            );
        }
        let paths = [
            ("tls.certificate", self.tls.certificate.as_ref()),
            ("tls.key", self.tls.key.as_ref()),
        ];
        for (key, path) in paths {
            if path.is_some_and(|path| path.file_name().is_none()) {
                return fail(key, "must be the path of a file".to_owned());
            }
        }
        for (name, addresses) in self.contact.fields() {
            for address in addresses {
                if !is_uri(address) {
                    return fail(
                        &format!("contact.{name}"),
                        format!(
                            "{address:?} is no URI; write \"mailto:…\", \"xmpp:…\" or \"https://…\""
                        ),
                    );
                }
            }
        }
        if !(4_096..=1_000_000).contains(&self.auth.scram_iterations) {
            return fail(
                "auth.scram_iterations",
                "must be between 4096 (RFC 7677 §4) and 1000000".to_owned(),
            );
        }
        Ok(())
    }
}

impl Config {
    /// All domains that are served, the first one first.
    #[must_use]
    pub fn served(&self) -> Vec<Host> {
        let first = Host {
            domain: self.domain.clone(),
            tls: self.tls.clone(),
            registration: self.registration.clone(),
            auth: self.auth.clone(),
            contact: self.contact.clone(),
        };
        let mut all = Vec::with_capacity(1 + self.hosts.len());
        all.push(first);
        all.extend(self.hosts.iter().cloned());
        all
    }

    /// Whether this domain, normalised, is one of them.
    #[must_use]
    pub fn serves(&self, domain: &str) -> bool {
        self.domain == domain || self.hosts.iter().any(|host| host.domain == domain)
    }

    /// The key `host` as it can be written: of each host what is not as for the first domain.
    pub(super) fn hosts_text(&self) -> String {
        let mut text = String::from("[");
        for (index, host) in self.hosts.iter().enumerate() {
            let mut item = |key: &str, value: &str| {
                let before = if key == KEYS[0] { "{ " } else { ", " };
                let _ = write!(text, "{before}{key} = {value}");
            };
            let quoted = |value: &str| toml::Value::from(value).to_string();
            item(KEYS[0], &quoted(&host.domain));
            for (key, path) in [(KEYS[1], &host.tls.certificate), (KEYS[2], &host.tls.key)] {
                if let Some(path) = path {
                    item(key, &quoted(&path.to_string_lossy()));
                }
            }
            let own = [
                host.registration.rows(),
                host.auth.rows(),
                host.contact.rows(),
            ];
            let first = [
                self.registration.rows(),
                self.auth.rows(),
                self.contact.rows(),
            ];
            for ((section, own), first) in SECTIONS.iter().zip(own).zip(first) {
                for ((key, own), (_, first)) in own.into_iter().zip(first) {
                    if let Some(own) = own.filter(|own| Some(own) != first.as_ref()) {
                        item(&format!("{section}.{}", key.name), &own);
                    }
                }
            }
            text.push_str(" }");
            if index + 1 < self.hosts.len() {
                text.push_str(", ");
            }
        }
        text.push(']');
        text
    }
}

/// RFC 3986 §3.1: a scheme, a colon and something behind it.
fn is_uri(text: &str) -> bool {
    text.split_once(':').is_some_and(|(scheme, rest)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
            && !rest.is_empty()
            && !rest.contains(|c: char| c.is_whitespace() || c.is_control())
    })
}

/// The keys that are none in a list of hosts: where each stands, its section and its name.
pub(super) fn unknown_keys(list: &DeValue<'_>) -> Vec<(usize, String, String)> {
    let mut unknown = Vec::new();
    let tables = list.as_array().into_iter().flatten();
    for table in tables.filter_map(|host| host.get_ref().as_table()) {
        for (name, value) in table {
            let at = name.span().start;
            let name: &str = name.get_ref();
            if !SECTIONS.contains(&name) {
                if !KEYS.contains(&name) {
                    unknown.push((at, NAME.to_owned(), name.to_owned()));
                }
                continue;
            }
            for (key, _) in value.get_ref().as_table().into_iter().flatten() {
                if !keys_of(name).any(|known| known == key.get_ref()) {
                    let section = format!("{NAME}.{name}");
                    unknown.push((key.span().start, section, key.get_ref().to_string()));
                }
            }
        }
    }
    unknown
}

/// Every key of a host, with its section.
pub(super) fn known() -> impl Iterator<Item = (String, &'static str)> {
    let own = KEYS.iter().chain(&SECTIONS);
    let own = own.map(|key| (NAME.to_owned(), *key));
    let of_section = |section: &&'static str| {
        keys_of(section)
            .map(|key| (format!("{NAME}.{section}"), key))
            .collect::<Vec<_>>()
    };
    own.chain(SECTIONS.iter().flat_map(of_section))
}

fn keys_of(section: &str) -> impl Iterator<Item = &'static str> {
    let section = keys::SECTIONS.iter().find(|known| known.name == section);
    let keys = section.map_or(&[][..], |section| section.keys);
    keys.iter().map(|key| key.name)
}

/// What `cairn config defaults` says of it.
pub(super) const DEFAULTS_TEXT: &str = "
# Further domains, each with accounts of its own: one [[host]] for each, 63 at
# most. The accounts of one that is taken out stay in the store, out of reach.
# [[host]]
# What stands behind the @ there.
# domain = \"other.example\"
# PEM files as in [tls]. Without them `cairn cert set --host` gives it a
# certificate, and until then it is self-signed. A client gets that of the domain
# it asks for.
# certificate =
# key =
# [host.registration], [host.auth] and [host.contact] take the keys of
# [registration], [auth] and [contact]; what they do not say is as there.
# [host.registration]
# mode = \"closed\"
";
