//! XEP-0160: the server says that it keeps messages for those who are away. The router does it
//! (`router::message`, `router::deliver`).

use crate::router::{Entity, Module, Moments};

/// XEP-0160.
pub const MODULE: Module = Module {
    name: "offline",
    features: &[
        (Entity::Server, "msgoffline"),
        // XEP-0359 §5: ids in an account's name are the server's own.
        (Entity::Account, "urn:xmpp:sid:0"),
    ],
    iq: &[],
    moments: Moments::NONE,
};
