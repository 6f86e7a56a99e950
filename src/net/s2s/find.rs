//! Where another server is: the targets of a domain one after the other, each with the addresses
//! that this server may connect to.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::net::TcpStream;

use crate::addr::Jid;
use crate::addr::domain::to_ascii;
use crate::net::dial::dial;
use crate::net::dns::{Nowhere, Resolver, Target, Tls, is_public};
use crate::net::tls::Dane;
use crate::router::Core;
use crate::stanza::Condition;
use crate::stream::s2s::Failure;

/// Finds servers.
pub struct Finder {
    resolver: Resolver,
    allows_private: bool,
}

/// The targets of a domain that were not tried yet.
pub struct Targets<'a> {
    finder: &'a Finder,
    /// The domain, as the DNS writes it.
    domain: String,
    left: std::vec::IntoIter<Target>,
}

/// A connection to one of a domain's targets.
pub struct Dialed {
    /// The connection.
    pub tcp: TcpStream,
    /// TLS comes first.
    pub is_direct: bool,
    /// What its signed zone says of its certificate.
    pub dane: Dane,
}

impl Finder {
    /// With `allows_private` servers may be at addresses of private networks.
    #[must_use]
    pub fn new(resolver: Resolver, allows_private: bool) -> Finder {
        Finder {
            resolver,
            allows_private,
        }
    }

    /// The targets of a domain.
    pub async fn targets(&self, core: &Arc<Core>, domain: &Jid) -> Result<Targets<'_>, Failure> {
        let name = match to_ascii(domain.domain()) {
            Some(name) => name.into_owned(),
            None => domain.domain().to_owned(),
        };
        let random = |below: u32| u32::from_le_bytes(core.random()) % below.max(1);
        let targets = self.resolver.targets(&name, random).await;
        Ok(Targets {
            finder: self,
            domain: name,
            left: targets
                .map_err(|nowhere| failure(nowhere, false))?
                .into_iter(),
        })
    }
}

impl Targets<'_> {
    /// A connection to the next one; `None` when all were tried.
    pub async fn next(&mut self) -> Option<Result<Dialed, Failure>> {
        let target = self.left.next()?;
        Some(self.connect(&target).await)
    }

    async fn connect(&self, target: &Target) -> Result<Dialed, Failure> {
        let found = self.finder.resolver.addresses(&target.host).await;
        let mut addresses = found.map_err(|nowhere| failure(nowhere, true))?;
        if !self.finder.allows_private {
            addresses.retain(|address: &IpAddr| is_public(*address));
            if addresses.is_empty() {
                return Err(Failure {
                    condition: Condition::RemoteServerNotFound,
                    text: format!(
                        "{} is at an address that is not of the public network",
                        target.host
                    )
                    .into(),
                    is_of_target: true,
                });
            }
        }
        let (tcp, records) = tokio::join!(
            dial(&addresses, target.port),
            self.finder.resolver.associations(&self.domain, target),
        );
        let tcp = tcp.map_err(|error| Failure {
            condition: Condition::RemoteServerTimeout,
            text: format!("{} port {}: {error}", target.host, target.port).into(),
            is_of_target: true,
        })?;
        Ok(Dialed {
            tcp,
            is_direct: target.tls == Tls::Direct,
            dane: Dane {
                records,
                host: target.host.clone(),
            },
        })
    }
}

fn failure(nowhere: Nowhere, is_of_target: bool) -> Failure {
    let (condition, text) = match nowhere {
        Nowhere::NotFound(text) => (Condition::RemoteServerNotFound, text),
        Nowhere::Unknown(text) => (Condition::RemoteServerTimeout, text),
    };
    Failure {
        condition,
        text: text.into(),
        is_of_target,
    }
}
