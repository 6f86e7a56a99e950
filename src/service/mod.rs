//! What serves the operator beside the clients (L6).

pub mod acme;
pub mod backup;
pub mod certificates;
pub mod configuration;
pub mod control;
pub mod doctor;
mod durable;
pub mod log_ring;
pub mod machine;
pub mod office;
pub mod open;
pub mod operator;
mod report;
