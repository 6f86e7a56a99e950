//! XEP-0202: the server's clock. A server serves people in many places, so its zone is UTC.

use crate::router::{Answer, Cx, Entity, Iq, Module, Moments, Reply, Request};
use crate::stanza::time::to_datetime;
use crate::xml::Writer;

const NS: &str = "urn:xmpp:time";

/// XEP-0202.
pub const MODULE: Module = Module {
    name: "time",
    features: &[(Entity::Server, NS)],
    iq: &[Iq {
        of: Entity::Server,
        name: "time",
        ns: NS,
        get: Some(time),
        set: None,
    }],
    moments: Moments::NONE,
};

fn time(cx: &mut Cx<'_>, _: &Request<'_>) -> Answer {
    let mut writer = Writer::new();
    writer
        .open_ns("time", NS)
        // `Z` is as right (XEP-0082 §3), but some clients read only a number.
        .leaf("tzo", "+00:00")
        .leaf("utc", &to_datetime(cx.now_ms));
    Ok(Reply::Payload(writer.finish()))
}
