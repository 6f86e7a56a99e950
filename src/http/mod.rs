//! Administration from outside: a small HTTPS interface to the commands of
//! [`service::operator`](crate::service::operator).
//!
//! HTTP/1.1 alone, JSON in and out, one request of a connection at a time. Before anybody is
//! authenticated there are limits on connections (those of all clients, and fewer of these), on the
//! head and its time, and no body is read. Nothing here is for browsers: no cookies, no CORS, and a
//! request that a page has made is refused.

#![allow(
    clippy::result_large_err,
    reason = "a refusal is an answer, and is made once a request"
)]

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::net::conn::Front;
use crate::service::operator::Operator;

mod admin;
mod answer;
mod auth;
mod body;
mod challenge;
mod routes;
mod serve;

pub use challenge::serve as serve_challenges;
pub use serve::serve;

/// Connections to this interface at once. What they hold is counted in `config::Admission`.
pub const CONNECTIONS_MAX: usize = 32;

/// Commands that run at once.
const COMMANDS_MAX: usize = 4;

/// Requests that wait for the log at once.
const WAITING_MAX: usize = 4;

/// What all connections share.
pub struct Site {
    /// Certificate, throttles, and where passwords are checked: those of all clients.
    front: Arc<Front>,
    operator: Arc<Operator>,
    connections: Arc<Semaphore>,
    commands: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Site {
    /// An interface to these commands.
    #[must_use]
    pub fn new(front: Arc<Front>, operator: Arc<Operator>) -> Arc<Site> {
        Arc::new(Site {
            front,
            operator,
            connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            commands: Arc::new(Semaphore::new(COMMANDS_MAX)),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
        })
    }
}
