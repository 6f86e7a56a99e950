//! Faults on demand, for tests: a panic in the middle of a stanza's way.
//!
//! It is there in debug builds only, and there it does nothing unless [`VARIABLE`] is set.

use std::sync::LazyLock;

use crate::router::{Answer, Cx, Entity, Iq, Module, Moments, Request, not_understood};

const NS: &str = "urn:cairn:fault";

/// The environment variable that arms it.
const VARIABLE: &str = "CAIRN_TEST_FAULTS";

static IS_ARMED: LazyLock<bool> = LazyLock::new(|| std::env::var_os(VARIABLE).is_some());

/// A panic for whoever asks the server for one.
pub const MODULE: Module = Module {
    name: "fault",
    features: &[],
    iq: &[Iq {
        of: Entity::Server,
        name: "panic",
        ns: NS,
        get: None,
        set: Some(set),
    }],
    moments: Moments::NONE,
};

fn set(_: &mut Cx<'_>, _: &Request<'_>) -> Answer {
    assert!(!*IS_ARMED, "a test asked for it");
    Err(not_understood())
}
