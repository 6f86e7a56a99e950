//! XEP-0092: which software this is. The operating system is nobody's business (§5).

use crate::router::{Answer, Cx, Entity, Iq, Module, Moments, Reply, Request};
use crate::xml::Writer;

const NS: &str = "jabber:iq:version";

/// XEP-0092.
pub const MODULE: Module = Module {
    name: "version",
    features: &[(Entity::Server, NS)],
    iq: &[Iq {
        of: Entity::Server,
        name: "query",
        ns: NS,
        get: Some(version),
        set: None,
    }],
    moments: Moments::NONE,
};

fn version(_: &mut Cx<'_>, _: &Request<'_>) -> Answer {
    let mut writer = Writer::new();
    writer
        .open_ns("query", NS)
        .leaf("name", super::SOFTWARE)
        .leaf("version", env!("CARGO_PKG_VERSION"));
    Ok(Reply::Payload(writer.finish()))
}
