//! Routing: from a stanza to whoever gets it. Synchronous, without a socket: what comes in is a
//! [`Stanza`](crate::stanza::Stanza) of a [`Session`], what goes out stands in an [`Outbox`].
//!
//! The router knows no extension: what answers an IQ and what hears of presence is in the
//! [`Registry`] that it is given.

mod announce;
mod backlog;
mod budget;
mod component;
mod core;
mod deliver;
mod fate;
mod gates;
mod hibernate;
mod hosts;
mod iq;
mod lifecycle;
mod message;
mod module;
mod outbox;
mod remote;
mod route;
mod session;
mod table;

pub use self::component::{Components, absent, give_up_absent, receive_component};
pub use self::core::{Core, Cx, Parts, ticks_ms};
pub use announce::announce;
pub use deliver::{missing, stored_message, wrapped_value};
pub use fate::landed;
pub use gates::Gates;
pub use hibernate::{hibernate, wake};
pub use hosts::{Hosted, Hosts};
pub use iq::{nobody_answers, not_understood};
pub use lifecycle::{
    Resumption, bind, connection_lost, enable_management, end, end_all, end_overdue, give_up,
    relieve, resume, set_available, set_unavailable,
};
pub use message::{Keep, MessageType};
pub use module::{Answer, Entity, Iq, IqFn, Module, Moments, Registry, Reply, Request};
pub use outbox::{
    Batch, Cargo, Ending, Entry, Find, Gone, HandledCountTooHigh, Outbox, OutboxLimits, OutboxPool,
    Pushed, Wire, Wrapped, too_slow,
};
pub use remote::{
    Asker, Askers, Freight, Left, Link as RemoteLink, ManagedStream, NotResumed, PATIENCE_MS,
    Parcel, Posted, Remotes, Room, Taken, TakenOver, Tally, arrived, may_return, returned,
    send_recorded,
};
pub use route::{Remote, bounce, presence, reachable, receive, receive_remote, refill, to_session};
pub use session::{
    Greeting, Link, Management, PresenceState, ResumptionId, Session, Turn, resumption_id,
};
pub use table::{Seat, Shard, Table, User};

#[cfg(test)]
mod tests;
