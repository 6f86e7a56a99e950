//! Where another server is.

use std::io;

use tokio::net::TcpStream;

use crate::addr::Jid;
use crate::addr::domain::to_ascii;

/// Finds servers.
pub struct Finder;

/// A connection to one of a domain's targets.
pub struct Dialed {
    /// The connection.
    pub tcp: TcpStream,
    /// TLS comes first.
    pub is_direct: bool,
}

impl Finder {
    /// Connects.
    pub async fn connect(&self, domain: &Jid) -> io::Result<Dialed> {
        let name = to_ascii(domain.domain()).unwrap_or_default();
        let tcp = TcpStream::connect((&*name, 5269)).await?;
        Ok(Dialed {
            tcp,
            is_direct: false,
        })
    }
}
