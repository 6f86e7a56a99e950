//! The table of all configuration keys.
//!
//! A row is `/// meaning`, `key: type = default;`. The rows become the typed
//! sections of [`Config`], what serde reads from a file ([`raw`]), the defaults
//! on a [`Machine`], the list that unknown keys are compared with, and the text
//! of `cairn config defaults`: there is no second place to change.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Machine;
use super::admission::Shares;
use super::component::{self, Component};
use super::federation::{DialbackMode, FederationMode};
use super::given::Given;
use super::hosts::{self, Host, RawHost};

/// Keys outside of all sections.
pub(super) const TOP: &[&str] = &["domain", "revision", "data", "component", hosts::NAME];

/// One section's name, meaning and keys.
pub(super) struct Section {
    pub(super) name: &'static str,
    about: &'static [&'static str],
    pub(super) keys: &'static [Key],
}

/// One key's name and meaning.
pub(super) struct Key {
    pub(super) name: &'static str,
    meaning: &'static [&'static str],
}

macro_rules! sections {
    ($machine:ident, $(
        $(#[doc = $about:literal])+
        [$section:ident] $Section:ident {
            $( $(#[doc = $meaning:literal])+ $key:ident: $type:ty = $default:expr; )+
        }
    )+) => {
        /// The configuration, complete and checked.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Config {
            /// The domain that is served, or the first of them, normalised: what
            /// stands behind the @ of the users' addresses.
            pub domain: String,
            /// How new it is: where the store of a machine holds a configuration
            /// already, one from outside counts only with a higher number.
            pub revision: u64,
            /// The disk that a machine keeps its data on.
            pub data: DataDisk,
            /// The domains that are served beside the first one.
            pub hosts: Vec<Host>,
            /// Programs that serve a domain of their own (XEP-0114).
            pub component: Vec<Component>,
            $( $(#[doc = $about])+ pub $section: $Section, )+
        }

        $(
            $(#[doc = $about])+
            #[derive(Clone, Debug, PartialEq)]
            pub struct $Section {
                $( $(#[doc = $meaning])+ pub $key: $type, )+
            }

            impl $Section {
                /// What is said in the file, and the defaults for the rest.
                #[allow(unused_variables)]
                fn merge(raw: raw::$Section, $machine: &Machine) -> Self {
                    Self { $( $key: raw.$key.unwrap_or_else(|| $default), )+ }
                }

                /// What is said in one place, and for the rest what is said in another.
                #[allow(dead_code, reason = "only some sections can be a host's")]
                pub(super) fn over(raw: raw::$Section, other: &Self) -> Self {
                    Self { $( $key: raw.$key.unwrap_or_else(|| other.$key.clone()), )+ }
                }

                /// The rows of this section with its values.
                pub(super) fn rows(&self) -> Vec<(&'static Key, Option<String>)> {
                    let keys = SECTIONS
                        .iter()
                        .find(|section| section.name == stringify!($section))
                        .map_or(&[][..], |section| section.keys);
                    keys.iter().zip([ $( value_text(&self.$key), )+ ]).collect()
                }
            }
        )+

        impl Config {
            pub(super) fn merge(file: raw::File, domain: String, machine: &Machine) -> Self {
                let mut config = Self {
                    domain,
                    revision: file.revision.unwrap_or(0),
                    data: file.data.unwrap_or_default(),
                    hosts: Vec::new(),
                    component: Vec::new(),
                    $( $section: $Section::merge(file.$section, machine), )+
                };
                let first = config.served().remove(0);
                let hosts = file.host.into_iter();
                config.hosts = hosts.map(|host| Host::merge(host, &first)).collect();
                config
            }

            fn rows(&self) -> Vec<Vec<(&'static Key, Option<String>)>> {
                vec![ $( self.$section.rows(), )+ ]
            }
        }

        /// A file as it was written: every key may be missing.
        pub(super) mod raw {
            use super::*;

            #[derive(Default, Deserialize)]
            #[serde(default, deny_unknown_fields)]
            pub(in super::super) struct File {
                pub(in super::super) domain: Option<String>,
                pub(in super::super) revision: Option<u64>,
                pub(in super::super) data: Option<DataDisk>,
                pub(super) host: Vec<RawHost>,
                pub(in super::super) component: Vec<component::Raw>,
                $( pub(super) $section: $Section, )+
            }

            $(
                #[derive(Default, Deserialize)]
                #[serde(default, deny_unknown_fields)]
                pub(in super::super) struct $Section {
                    $( pub(super) $key: Option<$type>, )+
                }
            )+
        }

        /// All sections in the order of the table.
        pub(super) const SECTIONS: &[Section] = &[ $( Section {
            name: stringify!($section),
            about: &[ $($about),+ ],
            keys: &[ $( Key {
                name: stringify!($key),
                meaning: &[ $($meaning),+ ],
            }, )+ ],
        }, )+ ];
    };
}

sections! { machine,
    /// Where clients connect: lists of addresses with a port. "[::]" means both
    /// families, and IPv4 alone where there is no IPv6. Port 0 takes any free
    /// one and prints it. An empty list turns a listener off.
    [listen] Listen {
        /// Plain connections that turn to TLS by STARTTLS (RFC 6120 §5).
        c2s: Vec<SocketAddr> = addresses(5222);
        /// Direct TLS (XEP-0368), ALPN xmpp-client.
        c2s_tls: Vec<SocketAddr> = addresses(5223);
        /// Streams of other servers, which turn to TLS by STARTTLS.
        s2s: Vec<SocketAddr> = addresses(5269);
        /// Streams of other servers over direct TLS (XEP-0368), ALPN xmpp-server.
        s2s_tls: Vec<SocketAddr> = addresses(5270);
        /// Administration from outside, `cairn … --server`: "[::]:443". By ALPN also
        /// what c2s_tls and s2s_tls are for.
        https: Vec<SocketAddr> = Vec::new();
        /// External components, see [[component]]: "127.0.0.1:5347". XEP-0114 knows no
        /// TLS: anywhere but on this machine, what it carries can be read on the way.
        component: Vec<SocketAddr> = Vec::new();
        /// Answers to an authority of [acme], and nothing else: "[::]:80".
        http: Vec<SocketAddr> = Vec::new();
    }

    /// How a machine reaches the network. Without addresses that is what another
    /// source says, or DHCP and routers. A process leaves it to its system.
    [network] Network {
        /// Its own, on the first interface: "192.0.2.5/24", "2001:db8::5/64".
        addresses: Vec<String> = Vec::new();
        /// Where everything else goes, one for each family: "192.0.2.1".
        gateways: Vec<IpAddr> = Vec::new();
        /// Name servers, in front of those that DHCP and routers name.
        resolvers: Vec<IpAddr> = Vec::new();
    }

    /// How a machine keeps its clock. A process leaves it to its system.
    [time] Time {
        /// Time servers (RFC 5905), names or addresses, eight at most. Empty: the
        /// host's own clock where it shows it, else those that the network names
        /// (DHCP), else the provider's. No others are asked: who they are is for
        /// you to say. With two or more, a step of more than 10 s needs two that
        /// agree, unless only one answers.
        servers: Vec<String> = Vec::new();
    }

    /// Administration from outside, over [listen] https.
    [admin] Admin {
        /// While there is no administrator, `cairn claim` with the one-time code
        /// whose SHA-256 this is, in hex, makes the first. A machine without it
        /// draws a code itself and shows it on its console.
        claim_sha256: String = String::new();
    }

    /// The certificate. Without one a self-signed one is generated into the
    /// store. Both files are read again on SIGHUP, sessions stay.
    [tls] Tls {
        /// PEM chain, the server's own certificate first: "cert.pem".
        certificate: Option<PathBuf> = None;
        /// PEM private key: "key.pem".
        key: Option<PathBuf> = None;
    }

    /// A certificate that looks after itself (ACME, RFC 8555). It needs [listen] http
    /// at port 80 of the domain, or [listen] https at port 443. Files of [tls] count
    /// instead.
    [acme] Acme {
        /// "": none; "letsencrypt"; or the URL of an authority's directory. Whoever
        /// sets it agrees to the authority's terms of service.
        directory: String = String::new();
        /// Whom the authority may write to: "mailto:admin@chat.example". A machine
        /// that is given one, and no directory, uses "letsencrypt".
        contact: String = String::new();
        /// PEM file with authorities beside the public ones that the directory's own
        /// certificate may be from: "private-ca.pem"; or what stands in it.
        trust: Option<Given> = None;
    }

    /// The one place where everything is kept.
    [store] Store {
        /// A file, created when missing, or a block device. Relative paths are
        /// relative to this file.
        path: PathBuf = PathBuf::from("data/cairn.log");
    }

    /// Talking with other servers.
    [federation] Federation {
        /// "open": with all but the denied; "allow-list": with the allowed; "off": with
        /// none. Then nothing listens for servers, nothing connects, and no DNS server
        /// is asked, but for the authority of [acme] and the names in [time] servers.
        mode: FederationMode = FederationMode::Open;
        /// Domains; ".example.org" means its subdomains.
        allow: Vec<String> = Vec::new();
        /// Domains that nobody here talks with, whatever else is said.
        deny: Vec<String> = Vec::new();
        /// "never": a server needs a valid certificate; "tls": one without may be
        /// known by dialback over TLS (XEP-0220), which trusts the DNS.
        dialback: DialbackMode = DialbackMode::Never;
        /// Domains that are known by dialback over TLS, whatever "dialback" says.
        dialback_for: Vec<String> = Vec::new();
        /// Domains whose servers need a valid certificate, whatever "dialback" says.
        certificate_for: Vec<String> = Vec::new();
        /// Domains whose servers need a certificate that their signed zone names (DANE);
        /// that counts before both others.
        dane_for: Vec<String> = Vec::new();
        /// PEM file with authorities beside the public ones: "extra-roots.pem"; or what
        /// stands in it.
        trust: Option<Given> = None;
        /// Connect to servers at addresses of private networks, too.
        allow_private_addresses: bool = false;
    }

    /// The DNS, which is asked where other servers are.
    [dns] Dns {
        /// Servers to ask, "192.0.2.1" or "127.0.0.1:5353". Empty: the machine's own.
        servers: Vec<String> = Vec::new();
        /// DNSKEY records of a root of one's own that signed zones are trusted by:
        /// "root.key", or what stands in it. Without it, that of the public root.
        trust_anchor: Option<Given> = None;
    }

    /// How passwords are kept and checked.
    [auth] Auth {
        /// "scram": keys for SCRAM, so passwords never cross the wire;
        /// "argon2id": only a slow hash, and clients send the password in TLS.
        store: CredentialKind = CredentialKind::Scram;
        /// Also keep and offer SCRAM-SHA-1, for older clients.
        scram_sha1: bool = true;
        /// Rounds of PBKDF2 for new passwords; those of old ones are raised
        /// when their owner logs in by PLAIN.
        scram_iterations: u32 = 10_000;
    }

    /// Who may create an account from a client (XEP-0077).
    [registration] Registration {
        /// "closed": nobody; "open": anybody.
        mode: RegistrationMode = RegistrationMode::Closed;
    }

    /// Contacts that are published to users and other servers (XEP-0157):
    /// lists of URIs, such as "mailto:abuse@chat.example" or
    /// "xmpp:admin@chat.example".
    [contact] Contact {
        /// For complaints about users of this server.
        abuse: Vec<String> = Vec::new();
        /// The people who run it.
        admin: Vec<String> = Vec::new();
        /// For praise and blame.
        feedback: Vec<String> = Vec::new();
        /// For those who want to buy.
        sales: Vec<String> = Vec::new();
        /// For reports of vulnerabilities.
        security: Vec<String> = Vec::new();
        /// Where outages are told.
        status: Vec<String> = Vec::new();
        /// For users who need help.
        support: Vec<String> = Vec::new();
    }

    /// Bounds on everything. Those that say "derived" follow the memory of the
    /// machine; `cairn config check` shows what they add up to.
    [limits] Limits {
        /// Connections at once; derived.
        connections: usize = Shares::of(machine).connections;
        /// Of those, connections that have not logged in; derived.
        unauthenticated_connections: usize = Shares::of(machine).unauthenticated_connections;
        /// Connections of other servers at once; derived.
        server_connections: usize = Shares::of(machine).server_connections;
        /// Bytes a second that one other domain may send; 0: no limit.
        server_bytes_per_s: u64 = 1_048_576;
        /// Connections at once from one IPv4 address or IPv6 /64.
        connections_per_address: usize = 250;
        /// New connections a minute from one address; 0: no limit.
        accepts_per_address_per_minute: u32 = 300;
        /// Addresses and accounts that are remembered for limits by address;
        /// derived.
        addresses_remembered: usize = Shares::of(machine).addresses_remembered;

        /// Bytes of a stream before its log-in.
        unauthenticated_bytes: usize = 10_000;
        /// Elements of a stream before its log-in.
        unauthenticated_elements: usize = 32;
        /// Seconds to log in.
        authentication_s: u32 = 30;
        /// Failed log-ins on one stream that may be followed by another try; the
        /// next closes it. RFC 6120 §6.4.5 recommends 2 to 5.
        authentication_attempts: u32 = 3;
        /// Failed log-ins from one address before it waits; 0: no limit.
        failed_logins_per_address: u32 = 20;
        /// Failed log-ins to one account, from addresses that are new to it,
        /// before those wait; 0: no limit.
        failed_logins_per_account: u32 = 50;
        /// Seconds after which one failed log-in is forgiven.
        failed_login_forgiven_s: u32 = 30;
        /// Accounts created an hour from one address; 0: no limit.
        registrations_per_address_per_hour: u32 = 3;
        /// Argon2 hashes computed at once, 19 MiB each; derived.
        argon2_concurrent: usize = Shares::of(machine).argon2_concurrent;

        /// Bytes of one stanza.
        stanza_bytes: usize = 262_144;
        /// Levels of nesting in a stanza.
        stanza_depth: usize = 64;
        /// Elements in a stanza.
        stanza_elements: usize = 25_000;
        /// Attributes of one element, namespace declarations included.
        element_attributes: usize = 64;
        /// Bytes of one name of an element or attribute.
        name_bytes: usize = 1_024;
        /// Bytes of one attribute's value.
        attribute_bytes: usize = 65_536;

        /// Sessions of one account at once.
        sessions_per_account: usize = 16;
        /// Seconds of silence before a client is asked whether it is there; 0:
        /// never.
        ping_s: u32 = 840;
        /// Seconds to answer that, and for other servers to say what they have.
        ping_answer_s: u32 = 60;
        /// Seconds in which a lost session can be resumed (XEP-0198); 0: never.
        resume_s: u32 = 600;
        /// Sessions without a connection that wait to be resumed; beyond it the
        /// one that has waited longest is over. Derived.
        detached_sessions: usize = Shares::of(machine).connections;
        /// Bytes of memory for presences, and for the addresses that directed
        /// ones went to, beyond 1 KiB of each session; derived.
        presence_bytes: usize = Shares::of(machine).presence_bytes;
        /// Bytes that wait for one slow client before it is cut off; what others
        /// send at will is refused past three quarters.
        session_queue_bytes: usize = 1_048_576;
        /// Stanzas that wait for one slow client before it is cut off; likewise.
        session_queue_stanzas: usize = 4_000;
        /// Bytes of incomplete stanzas of all clients; derived.
        inbound_bytes: usize = Shares::of(machine).inbound_bytes;
        /// Bytes that wait for all clients, and, where there are any, a quarter of
        /// them for other servers and components. Beyond three quarters of the
        /// clients' part those are cut off for whom most waits; derived.
        outbound_bytes: usize = Shares::of(machine).outbound_bytes;

        /// Accounts; derived.
        accounts: usize = Shares::of(machine).accounts;
        /// Contacts of one account.
        roster_items: usize = 2_000;
        /// Bytes of one contact's names and groups.
        roster_item_bytes: usize = 8_192;
        /// Bytes of memory for all rosters, beyond 1 KiB (some ten contacts) of
        /// each account; derived.
        roster_bytes: usize = Shares::of(machine).roster_bytes;
        /// Subscription requests that wait for one account.
        subscription_requests: usize = 200;
        /// Bytes of one; a longer one is kept without its text.
        subscription_request_bytes: usize = 4_096;
        /// Messages that wait for one account.
        offline_messages: usize = 2_000;
        /// Bytes of them.
        offline_bytes: u64 = 8_388_608;
        /// Bytes of a vCard (XEP-0054).
        vcard_bytes: usize = 131_072;
        /// Private XML elements (XEP-0049) of one account.
        private_elements: usize = 128;
        /// Bytes of one.
        private_bytes: usize = 131_072;
    }

    /// What is told on standard error.
    [log] Log {
        /// "error", "warn", "info", "debug" or "trace".
        level: LogLevel = LogLevel::Info;
        /// "text" for people, "json" for machines.
        format: LogFormat = LogFormat::Text;
    }
}

/// How an account's password is kept (DESIGN §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CredentialKind {
    /// SCRAM keys.
    Scram,
    /// An Argon2id hash only.
    Argon2id,
}

/// The disk that a machine keeps its data on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DataDisk {
    /// The last partition of the disk that it starts from.
    #[default]
    SystemDisk,
    /// A disk of its own.
    SecondDisk,
}

/// Who may create an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RegistrationMode {
    /// Only the operator.
    Closed,
    /// Anybody, from a client.
    Open,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What broke.
    Error,
    /// What somebody should look at.
    Warn,
    /// Log-ins, log-outs, refusals.
    Info,
    /// The course of every connection.
    Debug,
    /// Everything, still without message bodies.
    Trace,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

impl Contact {
    /// Each kind of address by the name that XEP-0157 §2 gives it before
    /// `-addresses`.
    #[must_use]
    pub fn fields(&self) -> [(&'static str, &[String]); 7] {
        [
            ("abuse", &self.abuse),
            ("admin", &self.admin),
            ("feedback", &self.feedback),
            ("sales", &self.sales),
            ("security", &self.security),
            ("status", &self.status),
            ("support", &self.support),
        ]
    }
}

/// The whole table as a file with the defaults on this machine.
pub(super) fn defaults_text(machine: &Machine) -> String {
    let config = Config::of_domain("chat.example", machine);
    let mut text = String::from(
        "# Every key of Cairn's configuration with its default on this machine.\n\
         # Only domain is required.\n\n\
         # What stands behind the @ of the users' addresses.\n\
         domain = \"chat.example\"\n\
         # Where the store of a machine holds a configuration already, one from\n\
         # outside counts only with a higher number.\n\
         revision = 0\n\
         # The disk that a machine keeps its data on: \"system-disk\", or \"second-disk\"\n\
         # for a blank one, which is looked at once, at the first start of a machine\n\
         # that nobody has claimed.\n\
         data = \"system-disk\"\n",
    );
    for (section, rows) in SECTIONS.iter().zip(config.rows()) {
        text.push('\n');
        for line in section.about {
            text.push_str(&format!("#{line}\n"));
        }
        text.push_str(&format!("[{}]\n", section.name));
        for (key, value) in rows {
            for line in key.meaning {
                text.push_str(&format!("#{line}\n"));
            }
            match value {
                Some(value) => text.push_str(&format!("{} = {value}\n", key.name)),
                None => text.push_str(&format!("# {} =\n", key.name)),
            }
        }
    }
    text.push_str(hosts::DEFAULTS_TEXT);
    text.push_str(
        "\n# External components (XEP-0114), one entry each: programs that serve a domain\n\
         # of their own, such as a gateway. They connect to [listen] component.\n\
         # [[component]]\n\
         # Everybody at this domain is the component's; other servers reach it if the\n\
         # DNS has it and it has a certificate: from [acme], by `cairn cert set --host`,\n\
         # or one of the server that names it too.\n\
         # domain = \"gateway.chat.example\"\n\
         # What it shows to be it. Or secret_file, the path of a file with that alone.\n\
         # secret = \"\"\n\
         # Whether [acme] looks after its certificate, unless [federation] mode is \"off\".\n\
         # acme = true\n",
    );
    text
}

/// Every key with its section, and its value.
pub(super) fn values(config: &Config) -> Vec<(String, Option<String>)> {
    let mut values = vec![
        ("domain".to_owned(), value_text(&config.domain)),
        ("revision".to_owned(), value_text(&config.revision)),
        ("data".to_owned(), value_text(&config.data)),
        (hosts::NAME.to_owned(), Some(config.hosts_text())),
    ];
    for (section, rows) in SECTIONS.iter().zip(config.rows()) {
        let full = |(key, value): (&Key, _)| (format!("{}.{}", section.name, key.name), value);
        values.extend(rows.into_iter().map(full));
    }
    values
}

/// A value as TOML; None for one that is not there.
fn value_text(value: &impl Serialize) -> Option<String> {
    toml::Value::try_from(value)
        .ok()
        .map(|value| value.to_string())
}

/// Both families on one port.
fn addresses(port: u16) -> Vec<SocketAddr> {
    vec![SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, port))]
}
