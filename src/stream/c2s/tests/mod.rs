//! Whole negotiations, and one test a rule, against a shell that answers at once.

mod authentication;
mod chunks;
mod errors;
mod session;
mod shell;
mod transcripts;
