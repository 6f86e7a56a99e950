//! Configuration: a TOML file over defaults that fit the machine.
//!
//! [`keys`] is the one table of all keys; from it come the types, their
//! defaults, what `cairn config defaults` prints and what an unknown key is
//! compared with. The rest of this file turns a text into a [`Config`] or into
//! one sentence that says what to change, and where.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use crate::addr::Jid;

pub use admission::Admission;
pub use certified::Certified;
pub use component::Component;
pub use federation::{DialbackMode, FederationMode};
pub use given::Given;
pub use hosts::{DOMAINS_MAX, Host};
pub use keys::{
    Acme, Admin, Auth, Config, Contact, CredentialKind, DataDisk, Dns, Federation, Limits, Listen,
    Log, LogFormat, LogLevel, Network, Registration, RegistrationMode, Store, Time, Tls,
};
pub use machine::Machine;

mod admission;
mod apply;
mod certified;
mod component;
mod federation;
mod given;
mod hosts;
mod keys;
mod machine;
pub mod places;

/// Where a configuration is looked for when none is named.
pub const DEFAULT_PATHS: [&str; 2] = ["cairn.toml", "/etc/cairn/cairn.toml"];

/// Why there is no configuration: one sentence, where it is and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub path: Option<PathBuf>,
    /// The line in it, from 1.
    pub line: Option<usize>,
    /// What is wrong and what to do.
    pub message: String,
}

impl Config {
    /// Finds and reads the configuration: the file given, or the first of
    /// [`DEFAULT_PATHS`] that exists.
    pub fn load(path: Option<&Path>, machine: &Machine) -> Result<Self, ConfigError> {
        Ok(Self::load_with_text(path, machine)?.0)
    }

    /// The same, with the text and the name of the file.
    pub fn load_with_text(
        path: Option<&Path>,
        machine: &Machine,
    ) -> Result<(Self, String, PathBuf), ConfigError> {
        let path = match path {
            Some(path) => path,
            None => DEFAULT_PATHS
                .iter()
                .map(Path::new)
                .find(|path| path.exists())
                .ok_or_else(|| {
                    ConfigError::new(format!(
                        "there is no configuration: looked for {}; write one \
                         (`domain = \"chat.example\"` is enough) or name it with --config",
                        DEFAULT_PATHS.join(" and ")
                    ))
                })?,
        };
        let text = fs::read_to_string(path).map_err(|error| ConfigError {
            path: Some(path.to_owned()),
            ..ConfigError::new(match error.kind() {
                io::ErrorKind::NotFound => "there is no such file: write one (`domain = \
                    \"chat.example\"` is enough) or name another with --config"
                    .to_owned(),
                io::ErrorKind::InvalidData => "it is not UTF-8, as TOML has to be".to_owned(),
                _ => format!("cannot be read: {error}"),
            })
        })?;
        let mut config = Self::parse(&text, machine).map_err(|error| ConfigError {
            path: Some(path.to_owned()),
            ..error
        })?;
        config.resolve_paths(path.parent().unwrap_or(Path::new("")));
        Ok((config, text, path.to_owned()))
    }

    /// Reads the text of a configuration file.
    pub fn parse(text: &str, machine: &Machine) -> Result<Self, ConfigError> {
        let table = DeTable::parse(text).map_err(|error| ConfigError::of(&error, text, None))?;
        refuse_unknown_keys(table.get_ref(), text)?;
        let mut file: keys::raw::File = toml::from_str(text).map_err(|error| {
            let key = error
                .span()
                .and_then(|span| key_around(table.get_ref(), span.start));
            ConfigError::of(&error, text, key)
        })?;
        let domain = file.domain.clone().ok_or_else(|| {
            ConfigError::new(
                "domain is missing: it is the part behind the @ of your users' addresses, \
                 write `domain = \"chat.example\"` as the first line"
                    .to_owned(),
            )
        })?;
        let entries = std::mem::take(&mut file.component);
        let config = Self::merge(file, domain, machine);
        let line = |key: &str| line_of(table.get_ref(), key, text);
        let mut config = config.validated(line)?;
        config.component =
            component::read(entries, &config.served()).map_err(|message| ConfigError {
                line: line("component"),
                ..ConfigError::new(format!("component {message}"))
            })?;
        Ok(config)
    }

    /// The configuration of `domain` with nothing else said.
    ///
    /// # Panics
    ///
    /// Where `domain` is no domain.
    #[must_use]
    pub fn of_domain(domain: &str, machine: &Machine) -> Self {
        Self::merge(keys::raw::File::default(), domain.to_owned(), machine)
            .validated(|_| None)
            .expect("the defaults are valid for a valid domain")
    }

    /// What a running server holds at most, against what the machine gives.
    #[must_use]
    pub fn admission(&self, machine: &Machine) -> Admission {
        Admission::of(self, machine)
    }

    /// Every key with its value as TOML; `None` where it has none.
    #[must_use]
    pub fn values(&self) -> Vec<(String, Option<String>)> {
        keys::values(self)
    }

    /// Says that a key, with its section, is none, and which was probably meant.
    #[must_use]
    pub fn unknown_key(key: &str) -> String {
        match key.rsplit_once('.') {
            Some((section, key)) => unknown_key(key, section),
            None => unknown_key(key, ""),
        }
    }

    /// Checks what the types cannot say. `line` finds the line of a key.
    fn validated(mut self, line: impl Fn(&str) -> Option<usize>) -> Result<Self, ConfigError> {
        let fail = |key: &str, message: String| {
            Err(ConfigError {
                path: None,
                line: line(key),
                message: format!("{key} {message}"),
            })
        };
        match normalised(&self.domain) {
            Ok(domain) => self.domain = domain,
            Err(message) => return fail("domain", message),
        }
        let paths = [
            ("store.path", Some(&self.store.path)),
            ("acme.trust", self.acme.trust.as_ref().and_then(Given::file)),
            (
                "federation.trust",
                self.federation.trust.as_ref().and_then(Given::file),
            ),
            (
                "dns.trust_anchor",
                self.dns.trust_anchor.as_ref().and_then(Given::file),
            ),
        ];
        for (key, path) in paths {
            if path.is_some_and(|path| path.file_name().is_none()) {
                return fail(key, "must be the path of a file".to_owned());
            }
        }
        if let Err((key, message)) = self.served()[0].check() {
            return fail(&key, message);
        }
        self.check_hosts(&line)?;
        if let Err((key, entry)) = self.federation.normalise() {
            return fail(
                &format!("federation.{key}"),
                format!(
                    "{entry:?} is no domain; write \"example.org\", or \".example.org\" for its subdomains"
                ),
            );
        }
        if let Err((key, message)) = self.acme.check() {
            return fail(&format!("acme.{key}"), message);
        }
        let is_deaf = self.listen.http.is_empty() && self.listen.https.is_empty();
        if self.acme.url().is_some() && is_deaf && self.tls.certificate.is_none() {
            return fail(
                "acme.directory",
                "needs [listen] http at port 80 of the domain, or [listen] https at port 443, \
                 where the authority looks"
                    .to_owned(),
            );
        }
        if let Some(server) = self.dns.unreadable() {
            return fail(
                "dns.servers",
                format!("{server:?} is no address; write \"192.0.2.1\" or \"192.0.2.1:53\""),
            );
        }
        if let Err((key, message)) = self.limits.check() {
            return fail(&format!("limits.{key}"), message);
        }
        if let Err((key, message)) = self.network.check() {
            return fail(&format!("network.{key}"), message);
        }
        if let Err((key, message)) = self.time.check() {
            return fail(&format!("time.{key}"), message);
        }
        let claim = &self.admin.claim_sha256;
        let is_digest = claim.len() == 64 && claim.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !claim.is_empty() && !is_digest {
            return fail(
                "admin.claim_sha256",
                "must be 64 hexadecimal digits: `printf %s CODE | sha256sum`".to_owned(),
            );
        }
        Ok(self)
    }

    /// The same of all domains but the first. `host.0` is the key of the first of those.
    fn check_hosts(&mut self, line: &impl Fn(&str) -> Option<usize>) -> Result<(), ConfigError> {
        let fail = |index: usize, message: String| {
            Err(ConfigError {
                path: None,
                line: line(&format!("host.{index}")),
                message: format!("[[host]] {message}"),
            })
        };
        for index in 0..self.hosts.len() {
            let host = &self.hosts[index];
            if host.domain.is_empty() {
                return fail(index, "needs a domain".to_owned());
            }
            let domain = match normalised(&host.domain) {
                Ok(domain) => domain,
                Err(message) => return fail(index, format!("domain {message}")),
            };
            if let Err((key, message)) = host.check() {
                return fail(index, format!("{domain}: {key} {message}"));
            }
            let is_there = |other: &Host| other.domain == domain;
            if domain == self.domain || self.hosts[..index].iter().any(is_there) {
                return fail(index, format!("{domain} is there twice: leave one out"));
            }
            if index + 1 >= DOMAINS_MAX {
                let others = DOMAINS_MAX - 1;
                return fail(index, format!("is there more than {others} times"));
            }
            self.hosts[index].domain = domain;
        }
        Ok(())
    }

    /// Paths in the file are relative to the file, wherever the server is
    /// started from.
    fn resolve_paths(&mut self, folder: &Path) {
        self.store.path = folder.join(&self.store.path);
        let hosts = self.hosts.iter_mut().map(|host| &mut host.tls);
        let hosts = hosts.flat_map(|tls| [&mut tls.certificate, &mut tls.key]);
        let own = [&mut self.tls.certificate, &mut self.tls.key];
        for path in own.into_iter().chain(hosts).flatten() {
            *path = folder.join(&*path);
        }
        let given = [
            &mut self.acme.trust,
            &mut self.federation.trust,
            &mut self.dns.trust_anchor,
        ];
        for given in given.into_iter().flatten() {
            given.resolve(folder);
        }
        for component in &mut self.component {
            component.resolve_path(folder);
        }
    }
}

/// The normal form of a domain. The error is what is wrong with it.
fn normalised(text: &str) -> Result<String, String> {
    match Jid::parse(text) {
        Ok(jid) if jid.local().is_none() && jid.resource().is_none() => Ok(jid.domain().to_owned()),
        Ok(_) => Err("must be a bare domain, without @ and /".to_owned()),
        Err(error) => Err(format!("{text:?} is no domain: {error}")),
    }
}

/// The text of `cairn config defaults`: every key, its meaning and its default
/// on this machine, as a file that can be used as it is.
#[must_use]
pub fn defaults(machine: &Machine) -> String {
    keys::defaults_text(machine)
}

impl ConfigError {
    fn new(message: String) -> Self {
        Self {
            path: None,
            line: None,
            message,
        }
    }

    /// A parser's or serde's complaint, with the key that it is about.
    fn of(error: &toml::de::Error, text: &str, key: Option<String>) -> Self {
        let message = in_plain_words(&error.message().replace('\n', ", "));
        Self {
            path: None,
            line: error.span().map(|span| line_at(text, span.start)),
            message: match key {
                Some(key) => {
                    format!("{key}: {message}; `cairn config defaults` shows what it may be")
                }
                None => message,
            },
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = &self.path {
            write!(f, "{}: ", path.display())?;
        }
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for ConfigError {}

/// Refuses the first key that is not in the table, with the nearest one that is.
fn refuse_unknown_keys(table: &DeTable<'_>, text: &str) -> Result<(), ConfigError> {
    let mut unknown: Option<(usize, String)> = None;
    let mut note = |at: usize, message: String| {
        if unknown.as_ref().is_none_or(|(first, _)| at < *first) {
            unknown = Some((at, message));
        }
    };
    for (name, value) in table {
        let at = name.span().start;
        let name: &str = name.get_ref();
        if name == hosts::NAME {
            for (at, section, key) in hosts::unknown_keys(value.get_ref()) {
                note(at, unknown_key(&key, &section));
            }
            continue;
        }
        let Some(section) = keys::SECTIONS.iter().find(|section| section.name == name) else {
            if !keys::TOP.contains(&name) {
                note(at, unknown_key(name, ""));
            }
            continue;
        };
        for (key, _) in value.get_ref().as_table().into_iter().flatten() {
            if !section.keys.iter().any(|known| known.name == key.get_ref()) {
                note(key.span().start, unknown_key(key.get_ref(), name));
            }
        }
    }
    match unknown {
        None => Ok(()),
        Some((at, message)) => Err(ConfigError {
            line: Some(line_at(text, at)),
            ..ConfigError::new(message)
        }),
    }
}

/// serde names the types of the program; people know those of TOML.
fn in_plain_words(message: &str) -> String {
    let Some((what, expected)) = message.rsplit_once("expected ") else {
        return message.to_owned();
    };
    let plain = match expected {
        "usize" | "u64" | "u32" | "u16" | "u8" => "a whole number that is not negative or too big",
        "a sequence" => "a list: [\"…\"]",
        "path string" => "a string",
        expected if expected.starts_with("struct ") => "a section",
        expected => expected,
    };
    format!("{what}expected {plain}")
}

/// Says what was probably meant by `key` in `section` ("" is the top).
fn unknown_key(key: &str, section: &str) -> String {
    let full = |section: &str, key: &str| match section {
        "" => key.to_owned(),
        section => format!("{section}.{key}"),
    };
    let is_of_host = section == hosts::NAME || section.starts_with("host.");
    let known_of_host: Vec<_> = hosts::known().filter(|_| is_of_host).collect();
    let known = keys::SECTIONS
        .iter()
        .flat_map(|section| section.keys.iter().map(|key| (section.name, key.name)))
        .chain(keys::SECTIONS.iter().map(|section| ("", section.name)))
        .chain(keys::TOP.iter().map(|name| ("", *name)))
        .chain(
            known_of_host
                .iter()
                .map(|(section, key)| (section.as_str(), *key)),
        );
    let nearest = known
        .map(|(known_section, known_key)| {
            let far = strsim::damerau_levenshtein(key, known_key);
            // The right word in the wrong place is likelier than a misspelt one.
            (
                2 * far + usize::from(known_section != section),
                known_section,
                known_key,
            )
        })
        .min();
    let what = full(section, key);
    match nearest {
        Some((distance, section, known)) if distance <= 2 + key.len() / 2 => {
            format!(
                "{what} is not a key; did you mean {}?",
                full(section, known)
            )
        }
        _ => format!("{what} is not a key; `cairn config defaults` shows all of them"),
    }
}

/// The full name of the key whose value holds byte `at`.
fn key_around(table: &DeTable<'_>, at: usize) -> Option<String> {
    table.iter().find_map(|(name, value)| {
        let inner = value.get_ref().as_table().and_then(|inner| {
            inner
                .iter()
                .find(|(_, value)| value.span().contains(&at))
                .map(|(key, _)| format!("{}.{}", name.get_ref(), key.get_ref()))
        });
        inner.or_else(|| {
            let here = value.span().contains(&at);
            here.then(|| name.get_ref().to_string())
        })
    })
}

fn line_of(table: &DeTable<'_>, full_key: &str, text: &str) -> Option<usize> {
    let (section, key) = match full_key.split_once('.') {
        Some((section, key)) => (section, Some(key)),
        None => (full_key, None),
    };
    let (name, value) = table.iter().find(|(name, _)| name.get_ref() == section)?;
    let of_list = || value.get_ref().as_array()?.get(key?.parse::<usize>().ok()?);
    let span = match key {
        None => name.span(),
        Some(_) if section == hosts::NAME => of_list()?.span(),
        Some(key) => {
            let inner = value.get_ref().as_table()?;
            let (name, _) = inner.iter().find(|(name, _)| name.get_ref() == key)?;
            name.span()
        }
    };
    Some(line_at(text, span.start))
}

fn line_at(text: &str, byte: usize) -> usize {
    text.bytes()
        .take(byte)
        .filter(|byte| *byte == b'\n')
        .count()
        + 1
}

#[cfg(test)]
mod tests;
