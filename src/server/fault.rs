//! Faults on demand, for the tests of what a panic costs: a module that panics when a client asks
//! for it. It is there in builds with debug assertions only, and works only where the environment
//! says `CAIRN_TEST_FAULTS=1`.

use std::sync::Arc;

use bytes::Bytes;

use crate::addr::Jid;
use crate::router::{Answer, Cx, Entity, Iq, Module, Moments, Reply, Request, Session};
use crate::stanza::{Stanza, StanzaError};
use crate::xep;

#[cfg(not(debug_assertions))]
compile_error!("a server that people use has no faults on demand");

const SWITCH: &str = "CAIRN_TEST_FAULTS";

const NS: &str = "urn:cairn:test-faults";

/// A session with this resource panics a second time, while it is being ended.
const DIES_TWICE: &str = "dies-twice";

const MODULE: Module = Module {
    name: "fault",
    features: &[],
    iq: &[Iq {
        of: Entity::Account,
        name: "panic",
        ns: NS,
        get: None,
        set: Some(asked),
    }],
    moments: Moments {
        presence_sent: Some(presence_sent),
        ended: Some(ended),
        ..Moments::NONE
    },
};

/// The extensions, and faults before all of them where they are switched on.
pub(super) fn modules() -> &'static [&'static Module] {
    static FAULTS: Module = MODULE;
    match std::env::var_os(SWITCH).is_some_and(|value| value == "1") {
        true => Vec::leak(
            [&FAULTS]
                .into_iter()
                .chain(xep::ALL.iter().copied())
                .collect(),
        ),
        false => xep::ALL,
    }
}

fn asked(cx: &mut Cx<'_>, request: &Request<'_>) -> Answer {
    match request.payload.attr("at").as_deref() {
        Some("handler") => panic!("in a handler, on purpose"),
        Some("shard") => {
            let _shard = cx.core.table.shard(request.to.as_str());
            panic!("with the lock of a shard, on purpose");
        }
        Some("presence") => {
            let session = session_of(cx, request);
            let _presence = session.as_ref().map(|session| session.presence());
            panic!("with the lock of a presence, on purpose");
        }
        Some("store") => cx.update(|tx| {
            let vcard = Bytes::from_static(b"<vCard xmlns='vcard-temp'/>");
            tx.put_vcard(request.to.as_str(), vcard)?;
            panic!("with the lock of the store, on purpose");
        }),
        Some("later") => Ok(Reply::Later(Box::new(|_| panic!("in a job, on purpose")))),
        _ => Err(StanzaError::bad_request("at= what?")),
    }
}

fn session_of(cx: &Cx<'_>, request: &Request<'_>) -> Option<Arc<Session>> {
    let from = request.from;
    cx.core.table.session(from.bare_str(), from.resource()?)
}

fn presence_sent(
    _: &mut Cx<'_>,
    _: &Arc<Session>,
    stanza: &Stanza,
    _: Option<&Jid>,
) -> Result<(), StanzaError> {
    match stanza.payload() {
        Some((NS, "panic")) => panic!("because of a presence, on purpose"),
        _ => Ok(()),
    }
}

fn ended(_: &mut Cx<'_>, session: &Arc<Session>) {
    assert_ne!(session.jid.resource(), Some(DIES_TWICE), "on purpose");
}
