//! What a zone says, record by record, for whoever looks after it: nothing is chosen, followed or
//! left out, but for a bound on how much is read.

use hickory_resolver::proto::rr::{RData, RecordType};

use super::{Nowhere, Resolver};

/// Records of one name that are read.
const RECORDS_MAX: usize = 16;

/// A service record (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedService {
    /// Lower ones first.
    pub priority: u16,
    /// Among those of one priority, how often it comes first.
    pub weight: u16,
    /// Where.
    pub port: u16,
    /// A name with A-labels, without the dot of the root; empty: there is no such service.
    pub target: String,
}

/// A record about the certificate or the key of a server (RFC 6698 §2.1), in its own numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedKey {
    /// 2: an authority, 3: the server's own; 0 and 1 want a public authority besides.
    pub usage: u8,
    /// 0: the certificate, 1: its key.
    pub selector: u8,
    /// 0: as it is, 1: its SHA-256, 2: its SHA-512.
    pub matching: u8,
    /// That.
    pub data: Vec<u8>,
}

/// Who may issue certificates (RFC 8659 §4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedIssuer {
    /// `issue`, `issuewild`, `iodef`…
    pub tag: String,
    /// For `issue`: the domain of an authority with its parameters, or only a semicolon.
    pub value: String,
}

impl Resolver {
    /// The service records of a name, such as `_xmpp-server._tcp.chat.example`.
    pub async fn published_services(&self, name: &str) -> Result<Vec<PublishedService>, Nowhere> {
        self.published(name, RecordType::SRV, |data| match data {
            RData::SRV(srv) => Some(PublishedService {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target: plain(&srv.target.to_ascii()),
            }),
            _ => None,
        })
        .await
    }

    /// What a name is an alias of, if it is one.
    pub async fn published_alias(&self, host: &str) -> Result<Option<String>, Nowhere> {
        let aliases = self.published(host, RecordType::CNAME, |data| match data {
            RData::CNAME(alias) => Some(plain(&alias.to_ascii())),
            _ => None,
        });
        Ok(aliases.await?.pop())
    }

    /// What is said of the certificate at a port of a host, signed or not.
    pub async fn published_keys(
        &self,
        host: &str,
        port: u16,
    ) -> Result<Vec<PublishedKey>, Nowhere> {
        let name = format!("_{port}._tcp.{host}");
        self.published(&name, RecordType::TLSA, |data| match data {
            RData::TLSA(record) => Some(PublishedKey {
                usage: record.cert_usage.into(),
                selector: record.selector.into(),
                matching: record.matching.into(),
                data: record.cert_data.clone(),
            }),
            _ => None,
        })
        .await
    }

    /// Who may issue certificates for a domain: what it says itself, or else the nearest one above
    /// it that says anything (RFC 8659 §3).
    pub async fn published_issuers(&self, domain: &str) -> Result<Vec<PublishedIssuer>, Nowhere> {
        let mut name = domain;
        loop {
            let found = self.published(name, RecordType::CAA, |data| match data {
                RData::CAA(record) => Some(PublishedIssuer {
                    tag: record.tag.to_ascii_lowercase(),
                    value: String::from_utf8_lossy(&record.value).into_owned(),
                }),
                _ => None,
            });
            let found = found.await?;
            match name.split_once('.') {
                Some((_, above)) if found.is_empty() => name = above,
                _ => return Ok(found),
            }
        }
    }

    /// The records of a name, none where there is no such name.
    async fn published<T>(
        &self,
        name: &str,
        type_: RecordType,
        read: impl Fn(&RData) -> Option<T>,
    ) -> Result<Vec<T>, Nowhere> {
        match self.records(name, type_).await {
            Ok(records) => Ok(records.iter().filter_map(read).take(RECORDS_MAX).collect()),
            Err(Nowhere::NotFound(_)) => Ok(Vec::new()),
            Err(unknown) => Err(unknown),
        }
    }
}

fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_owned()
}
