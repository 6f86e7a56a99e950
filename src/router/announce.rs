//! Words of the server itself to an account of its own.

use std::sync::Arc;

use super::core::Core;
use super::deliver;
use crate::addr::Jid;
use crate::stanza::{Kind, Stanza, StanzaError, build};

/// Bytes around the text.
const AROUND_BYTES: usize = 256;

/// Sends a message of the server to an account: it is recorded, and waits for whoever is not there.
pub fn announce(core: &Arc<Core>, to: &Jid, text: &str) -> Result<(), StanzaError> {
    let mut cx = core.cx();
    cx.must_be_durable = true;
    let id = format!("{:016x}", u64::from_le_bytes(core.random()));
    let from = Some(&core.domain);
    let bytes = text.len() + AROUND_BYTES;
    let mut writer = build::start(Kind::Message, None, Some(to), from, Some(&id), bytes);
    writer.leaf("body", text);
    let stanza = Stanza::from_canonical(writer.finish())
        .map_err(|_| StanzaError::bad_request("the text is none of XML"))?;
    deliver::message(&mut cx, &core.domain, to, &stanza)
}
