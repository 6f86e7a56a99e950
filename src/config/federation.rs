//! What the configuration says of other servers, of the DNS and of the authority for
//! certificates, as the rest uses it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::keys::{Acme, Dns, Federation};
use crate::addr::Jid;
use crate::stream::s2s::{Dialback, Mode, Policy, Security};

/// The directory that "letsencrypt" stands for.
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// How far the server is open to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FederationMode {
    /// To all but those who are denied.
    Open,
    /// To those who are allowed.
    AllowList,
    /// To nobody.
    Off,
}

impl Acme {
    /// The URL of the authority's directory, if there is to be one.
    #[must_use]
    pub fn url(&self) -> Option<&str> {
        match &*self.directory {
            "" => None,
            "letsencrypt" => Some(LETS_ENCRYPT),
            url => Some(url),
        }
    }

    /// A sentence about the key that is wrong.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        let is_https = |url: &str| {
            let rest = url.strip_prefix("https://");
            rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(char::is_whitespace))
        };
        if self.url().is_some_and(|url| !is_https(url)) {
            let message = format!(
                "{:?} is no directory: write \"letsencrypt\", or a URL with https",
                self.directory
            );
            return Err(("directory", message));
        }
        let address = self.contact.strip_prefix("mailto:");
        let is_address = address.is_some_and(|address| {
            address.contains('@') && !address.contains(|c: char| c.is_whitespace() || c == ',')
        });
        if !self.contact.is_empty() && !is_address {
            let message = format!(
                "{:?} is none: write \"mailto:\" and one address",
                self.contact
            );
            return Err(("contact", message));
        }
        Ok(())
    }
}

/// Whether dialling back makes up for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DialbackMode {
    /// No.
    Never,
    /// Over TLS.
    Tls,
}

impl Federation {
    /// Who is talked with.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy {
            mode: match self.mode {
                FederationMode::Open => Mode::Open,
                FederationMode::AllowList => Mode::AllowList,
                FederationMode::Off => Mode::Off,
            },
            allow: self.allow.clone(),
            deny: self.deny.clone(),
            security: [
                (&self.dialback_for, Security::Dialback),
                (&self.certificate_for, Security::Certificate),
                (&self.dane_for, Security::Dane),
            ]
            .into_iter()
            .flat_map(|(list, security)| list.iter().map(move |it| (it.clone(), security)))
            .collect(),
        }
    }

    /// Brings the domains of all lists to their normal form; the error is the key and the entry
    /// that is none.
    pub(super) fn normalise(&mut self) -> Result<(), (&'static str, String)> {
        for (key, list) in [
            ("allow", &mut self.allow),
            ("deny", &mut self.deny),
            ("dialback_for", &mut self.dialback_for),
            ("certificate_for", &mut self.certificate_for),
            ("dane_for", &mut self.dane_for),
        ] {
            for entry in list {
                let (dot, name) = match entry.strip_prefix('.') {
                    Some(name) => (".", name),
                    None => ("", &**entry),
                };
                let jid = Jid::parse(name).ok();
                let domain = jid.filter(|jid| jid.as_str() == jid.domain());
                let domain = domain.ok_or_else(|| (key, entry.clone()))?;
                *entry = format!("{dot}{domain}");
            }
        }
        Ok(())
    }

    /// Whether servers are known by dialback.
    #[must_use]
    pub fn dialback(&self) -> Dialback {
        match self.dialback {
            DialbackMode::Never => Dialback::Never,
            DialbackMode::Tls => Dialback::Tls,
        }
    }
}

impl Dns {
    /// The servers to ask.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.servers
            .iter()
            .filter_map(|text| server(text))
            .collect()
    }

    /// The first entry that is no address.
    pub(super) fn unreadable(&self) -> Option<&str> {
        let mut servers = self.servers.iter();
        let unreadable = servers.find(|text| server(text).is_none());
        unreadable.map(String::as_str)
    }
}

/// An address, or an address with a port.
fn server(text: &str) -> Option<SocketAddr> {
    let plain = text
        .parse()
        .ok()
        .map(|address| SocketAddr::new(address, 53));
    plain.or_else(|| text.parse().ok())
}
