//! What was seen, before it is judged: answers of the DNS, and what stands at the addresses. Plain
//! values, so that judging them can be tested with any.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ring::digest;
use x509_parser::asn1_rs::FromDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;

use crate::addr::Jid;
use crate::config::{Certified, Config, FederationMode};
use crate::net::dns::{PublishedIssuer, PublishedKey, PublishedService, Tls};
use crate::net::tls::{Entry, PeerCertificate};

/// A way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// Other servers, by direct TLS.
    ServersDirect,
    /// Other servers, by STARTTLS.
    Servers,
    /// Clients, by direct TLS.
    ClientsDirect,
    /// Clients, by STARTTLS.
    Clients,
    /// Administrators, and an authority that looks for a proof by TLS.
    Https,
    /// An authority that looks for a proof by HTTP.
    Http,
}

impl Way {
    /// Those that service records lead to.
    pub const OF_STREAMS: [Way; 4] = [
        Way::ServersDirect,
        Way::Servers,
        Way::ClientsDirect,
        Way::Clients,
    ];

    /// The service that is looked up (RFC 6120 §3.2.1, XEP-0368 §2).
    pub fn service(self) -> &'static str {
        match self {
            Way::ServersDirect => "_xmpps-server._tcp",
            Way::Servers => "_xmpp-server._tcp",
            Way::ClientsDirect => "_xmpps-client._tcp",
            Way::Clients => "_xmpp-client._tcp",
            Way::Https | Way::Http => "",
        }
    }

    pub fn service_id(self) -> &'static str {
        match self {
            Way::ServersDirect => "srv.xmpps-server",
            Way::Servers => "srv.xmpp-server",
            Way::ClientsDirect => "srv.xmpps-client",
            Way::Clients => "srv.xmpp-client",
            Way::Https | Way::Http => "srv",
        }
    }

    pub fn reach_id(self) -> &'static str {
        match self {
            Way::ServersDirect => "reach.s2s-tls",
            Way::Servers => "reach.s2s",
            Way::ClientsDirect => "reach.c2s-tls",
            Way::Clients => "reach.c2s",
            Way::Https => "reach.https",
            Way::Http => "acme.http-01",
        }
    }

    pub fn listener_id(self) -> &'static str {
        match self {
            Way::ServersDirect => "listener.s2s-tls",
            Way::Servers => "listener.s2s",
            Way::ClientsDirect => "listener.c2s-tls",
            Way::Clients => "listener.c2s",
            Way::Https => "listener.https",
            Way::Http => "listener.http",
        }
    }

    /// The key of `[listen]` that is made for it; see [`Offer::key`].
    pub fn key(self) -> &'static str {
        match self {
            Way::ServersDirect => "s2s_tls",
            Way::Servers => "s2s",
            Way::ClientsDirect => "c2s_tls",
            Way::Clients => "c2s",
            Way::Https => "https",
            Way::Http => "http",
        }
    }

    /// `None` where there is no TLS.
    pub fn entry(self) -> Option<Entry> {
        match self {
            Way::ServersDirect => Some(Entry::ServerDirect),
            Way::Servers => Some(Entry::ServerStartTls),
            Way::ClientsDirect => Some(Entry::Direct),
            Way::Clients => Some(Entry::StartTls),
            Way::Https => Some(Entry::Https),
            Way::Http => None,
        }
    }

    pub fn usual_port(self) -> u16 {
        match self {
            Way::ServersDirect => 5270,
            Way::Servers => 5269,
            Way::ClientsDirect => 5223,
            Way::Clients => 5222,
            Way::Https => 443,
            Way::Http => 80,
        }
    }

    pub fn is_direct(self) -> bool {
        matches!(self, Way::ServersDirect | Way::ClientsDirect)
    }

    pub fn is_for_servers(self) -> bool {
        matches!(self, Way::ServersDirect | Way::Servers)
    }

    pub fn is_for_clients(self) -> bool {
        matches!(self, Way::ClientsDirect | Way::Clients)
    }

    pub fn tls(self) -> Tls {
        match self.is_direct() {
            true => Tls::Direct,
            false => Tls::StartTls,
        }
    }

    /// The other way of the same visitors.
    pub fn sibling(self) -> Way {
        match self {
            Way::ServersDirect => Way::Servers,
            Way::Servers => Way::ServersDirect,
            Way::ClientsDirect => Way::Clients,
            Way::Clients => Way::ClientsDirect,
            other => other,
        }
    }

    /// Who comes by it.
    pub fn who(self) -> &'static str {
        match self {
            Way::ServersDirect | Way::Servers => "other servers",
            Way::ClientsDirect | Way::Clients => "clients",
            Way::Https => "administrators",
            Way::Http => "the authority",
        }
    }

    pub fn how(self) -> &'static str {
        match self {
            Way::ServersDirect | Way::ClientsDirect => "direct TLS",
            Way::Servers | Way::Clients => "STARTTLS",
            Way::Https => "HTTPS",
            Way::Http => "HTTP",
        }
    }
}

/// Where the configuration listens for those who come by one way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listener {
    pub way: Way,
    /// The key of `[listen]` that says so.
    pub key: &'static str,
    pub address: SocketAddr,
}

/// What the configuration offers.
#[derive(Clone, Debug, Default)]
pub(super) struct Offer {
    /// Where it listens.
    pub listeners: Vec<Listener>,
    /// It talks with other servers.
    pub federates: bool,
    /// It is a component's: clients never come to it.
    pub is_component: bool,
    /// Servers at private addresses are as good as others.
    pub allows_private: bool,
    /// An authority looks after the certificate.
    pub acme: bool,
    /// Its name in CAA records, where that is known.
    pub issuer: Option<&'static str>,
    /// Files hold the certificate.
    pub has_files: bool,
    /// Addresses that this machine goes out by, for records that are proposed.
    pub outgoing: Vec<IpAddr>,
}

impl Offer {
    /// For one domain.
    pub fn of(config: &Config, of: &Certified) -> Offer {
        let listen = &config.listen;
        let federates = config.federation.mode != FederationMode::Off;
        let lists = [
            (
                Way::ServersDirect,
                Way::ServersDirect.key(),
                &listen.s2s_tls,
            ),
            (Way::Servers, Way::Servers.key(), &listen.s2s),
            (
                Way::ClientsDirect,
                Way::ClientsDirect.key(),
                &listen.c2s_tls,
            ),
            (Way::Clients, Way::Clients.key(), &listen.c2s),
            // By ALPN (XEP-0368).
            (Way::ServersDirect, Way::Https.key(), &listen.https),
            (Way::ClientsDirect, Way::Https.key(), &listen.https),
            (Way::Https, Way::Https.key(), &listen.https),
            (Way::Http, Way::Http.key(), &listen.http),
        ];
        let lists = lists
            .into_iter()
            .filter(|(way, ..)| federates || !way.is_for_servers())
            .filter(|(way, ..)| !of.is_component || !way.is_for_clients());
        let each = lists.flat_map(|(way, key, list)| {
            list.iter()
                .map(move |&address| Listener { way, key, address })
        });
        let acme = config.acme.url().filter(|_| of.may_be_asked_for);
        Offer {
            listeners: each.collect(),
            federates,
            is_component: of.is_component,
            allows_private: config.federation.allow_private_addresses,
            acme: acme.is_some(),
            issuer: acme
                .is_some_and(|url| url.contains(".letsencrypt.org/"))
                .then_some("letsencrypt.org"),
            has_files: of.tls.certificate.is_some(),
            outgoing: Vec::new(),
        }
    }

    /// The ways that service records are looked up for.
    pub fn of_streams(&self) -> impl Iterator<Item = Way> {
        let (federates, is_component) = (self.federates, self.is_component);
        let ways = Way::OF_STREAMS.into_iter();
        ways.filter(move |way| federates || !way.is_for_servers())
            .filter(move |way| !is_component || !way.is_for_clients())
    }

    pub fn listens(&self, way: Way) -> bool {
        self.of_way(way).next().is_some()
    }

    /// Whether it listens there. A listener that takes any free port (0) may.
    pub fn listens_at(&self, way: Way, port: u16) -> bool {
        self.ports(way).any(|own| own == port || own == 0)
    }

    /// The key of `[listen]` that has this port for this way, else the one that has any, else the
    /// one that is made for it.
    pub fn key(&self, way: Way, port: u16) -> &'static str {
        let at_port = self.of_way(way).find(|one| one.address.port() == port);
        let any = at_port.or_else(|| self.of_way(way).next());
        any.map_or(way.key(), |listener| listener.key)
    }

    /// In words, with all keys and ports.
    pub fn has(&self, way: Way) -> String {
        let own = |listener: &Listener| {
            format!("[listen] {} has {}", listener.key, listener.address.port())
        };
        let mut all: Vec<String> = self.of_way(way).map(own).collect();
        all.dedup();
        match all.is_empty() {
            true => format!("[listen] {} is empty", way.key()),
            false => all.join(" and "),
        }
    }

    fn of_way(&self, way: Way) -> impl Iterator<Item = &Listener> {
        self.listeners.iter().filter(move |one| one.way == way)
    }

    pub fn ports(&self, way: Way) -> impl Iterator<Item = u16> {
        self.of_way(way).map(|listener| listener.address.port())
    }

    /// The port to propose.
    pub fn port(&self, way: Way) -> u16 {
        let mut ports = self.ports(way).filter(|port| *port != 0);
        ports.next().unwrap_or(way.usual_port())
    }
}

/// What was seen of one domain. Errors are sentences.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// As the DNS writes it.
    pub name: String,
    /// The service records.
    pub services: Vec<(Way, Result<Vec<PublishedService>, String>)>,
    /// Where others go because of them, or because there are none.
    pub aims: Vec<Aim>,
    /// The hosts of those, and the domain itself where somebody goes there.
    pub hosts: Vec<Host>,
    /// What stands where others go.
    pub visits: Vec<Visit>,
    /// What stands where the configuration listens.
    pub own_visits: Vec<Visit>,
    /// What signed zones say of the keys there.
    pub keys: Vec<Keys>,
    /// Who may issue certificates; not asked for where it does not matter.
    pub issuers: Option<Result<Vec<PublishedIssuer>, String>>,
}

/// Where others go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Aim {
    pub way: Way,
    pub host: String,
    pub port: u16,
    /// No record leads there: that is where one goes without.
    pub is_fallback: bool,
}

/// A host that others go to.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub name: String,
    /// What it is an alias of.
    pub alias: Option<String>,
    /// With whether each is this machine's.
    pub addresses: Result<Vec<(IpAddr, bool)>, String>,
}

/// A connection that was tried.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    pub way: Way,
    /// Empty where the configuration led there.
    pub host: String,
    pub to: SocketAddr,
    /// It is this machine's address.
    pub is_own: bool,
    pub seen: Result<Option<Arc<Shown>>, Trouble>,
}

/// Why nobody gets in there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Nobody listens there.
    Refused,
    /// Nothing comes back.
    Silent,
    /// There is no way there: a sentence.
    Unreachable(String),
    /// Something answers, but no TLS session comes of it.
    Tls(String),
    /// Something answers, but not as it should.
    Stream(String),
}

impl Trouble {
    /// Whether nobody has answered at all.
    pub fn is_absence(&self) -> bool {
        !matches!(self, Trouble::Tls(_) | Trouble::Stream(_))
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Refused => f.write_str("nobody listens there"),
            Trouble::Silent => f.write_str("nothing answers in time"),
            Trouble::Unreachable(why) => write!(f, "it cannot be reached: {why}"),
            Trouble::Tls(why) => write!(f, "no TLS session comes about: {why}"),
            Trouble::Stream(why) => f.write_str(why),
        }
    }
}

/// A certificate that is shown somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    /// Itself, in DER.
    pub der: Vec<u8>,
    /// Whether an authority answers for it, at a time within its life; else why not.
    pub trust: Result<(), String>,
    /// It names the domain in one of the ways that servers look at.
    pub is_named: bool,
    /// It names it as a name of the DNS.
    pub is_named_as_host: bool,
    /// The names of the DNS in it.
    pub names: BTreeSet<String>,
    pub issuer: String,
    pub is_self_signed: bool,
    /// In seconds since 1970.
    pub not_before_s: u64,
    pub not_after_s: u64,
    /// The SHA-256 of its public key, in hex.
    pub key_sha256: String,
}

impl Shown {
    /// `None` where the certificate cannot be read.
    pub fn of(peer: &PeerCertificate, domain: &Jid, now_s: u64) -> Option<Shown> {
        let der = peer.chain().next()?.to_vec();
        let (_, x509) = X509Certificate::from_der(&der).ok()?;
        let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
        let not_before_s = seconds(x509.validity().not_before.timestamp());
        let not_after_s = seconds(x509.validity().not_after.timestamp());
        // One that has ended is judged as it was: that it has ended is another finding.
        let at_s = now_s.clamp(not_before_s, not_after_s.max(not_before_s));
        let alternative = x509.subject_alternative_name().ok().flatten();
        let names = alternative.map_or(&[][..], |names| &names.value.general_names);
        let names = names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        });
        let key = x509.tbs_certificate.subject_pki.raw;
        Some(Shown {
            trust: peer.trusted_at(at_s).map_err(|why| why.into_owned()),
            is_named: peer.names(domain),
            is_named_as_host: peer.names_as_host(domain),
            names: names.collect(),
            issuer: x509.issuer().to_string(),
            is_self_signed: x509.issuer().as_raw() == x509.subject().as_raw(),
            not_before_s,
            not_after_s,
            key_sha256: hex(digest::digest(&digest::SHA256, key).as_ref()),
            der: der.clone(),
        })
    }
}

/// What is said of the key at a port of a host that other servers go to.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    pub host: String,
    pub port: u16,
    /// The records, signed or not.
    pub published: Result<Vec<PublishedKey>, String>,
    /// So many of them others go by: signed up to the root, and of a usage that stands by itself.
    pub usable: usize,
    /// What is shown there, and whether those let it be.
    pub shown: Vec<(Arc<Shown>, Result<(), String>)>,
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
