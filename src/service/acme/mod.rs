//! Certificates that look after themselves (ACME, RFC 8555).

pub mod plan;
