//! Resource binding (RFC 6120 §7).

use bytes::Bytes;

use super::ns;
use crate::addr::Jid;
use crate::stanza::{Kind, Stanza};
use crate::xml::Writer;

/// A request to bind a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindRequest {
    /// The resource that the client wants, as written; `None` leaves it to the server.
    pub resource: Option<String>,
}

impl BindRequest {
    /// Reads the request of an iq; `None` if it is something else.
    pub fn parse(stanza: &Stanza) -> Option<BindRequest> {
        if !is_iq_set(stanza) {
            return None;
        }
        let bind = stanza.child("bind", ns::BIND)?;
        let resource = bind
            .child("resource", ns::BIND)
            .map(|resource| resource.text().into_owned());
        Some(BindRequest {
            resource: resource.filter(|resource| !resource.is_empty()),
        })
    }
}

/// The answer that a bound client gets (RFC 6120 §7.6.1).
pub fn result(request: &Stanza, jid: &Jid) -> Bytes {
    let mut writer = Writer::new();
    writer.open_ns("bind", ns::BIND).leaf("jid", jid.as_str());
    request.result_reply(&writer.finish())
}

fn is_iq_set(stanza: &Stanza) -> bool {
    stanza.kind() == Kind::Iq && stanza.is_type("set")
}
