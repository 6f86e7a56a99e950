//! `<stream:features/>`, by stage (RFC 6120 §4.3.2).

use super::config::{C2sConfig, C2sHost};
use super::ns;
use super::sasl::Offer;
use crate::crypto::BindingType;
use crate::xml::{Limits, Writer};

/// How far a client's stream has come.
#[derive(Debug, Clone, Copy)]
pub enum Stage<'a> {
    /// Without TLS: nothing is offered but STARTTLS, and that is required.
    Plain,
    /// With TLS, and these ways to log in.
    Secure(&'a Offer),
    /// Logged in.
    Authenticated,
}

/// Writes the features of a stage, on a stream for this host.
pub fn write(writer: &mut Writer, stage: Stage<'_>, config: &C2sConfig, host: &C2sHost) {
    writer.open("stream:features");
    match stage {
        Stage::Plain => {
            writer
                .open_ns("starttls", ns::TLS)
                .open("required")
                .close()
                .close();
            limits(writer, &config.limits_before, config.login_ms);
        }
        Stage::Secure(offer) => {
            login(writer, offer);
            if host.registration_open {
                writer.empty("register", ns::REGISTER_FEATURE);
            }
            limits(writer, &config.limits_before, config.login_ms);
        }
        Stage::Authenticated => authenticated(writer, config, host),
    }
    writer.close();
}

fn login(writer: &mut Writer, offer: &Offer) {
    writer.open_ns("mechanisms", ns::SASL);
    for mechanism in offer.mechanisms() {
        writer.leaf("mechanism", mechanism.name());
    }
    writer.close();
    // XEP-0440 §2: at least one type must stand in it.
    let mut types = offer.bindings().types().map(BindingType::name).peekable();
    if types.peek().is_some() {
        writer.open_ns("sasl-channel-binding", ns::SASL_CHANNEL_BINDING);
        for name in types {
            writer.open("channel-binding").attr("type", name).close();
        }
        writer.close();
    }
}

fn authenticated(writer: &mut Writer, config: &C2sConfig, host: &C2sHost) {
    writer.empty("bind", ns::BIND);
    // For clients of RFC 3921; the others skip it.
    writer
        .open_ns("session", ns::SESSION)
        .open("optional")
        .close()
        .close();
    if config.stream_management {
        writer.empty("sm", ns::SM);
    }
    writer.empty("ver", ns::ROSTER_VERSIONING);
    writer.empty("sub", ns::PRE_APPROVAL);
    if let Some(caps) = &host.caps {
        writer.open_ns("c", ns::CAPS).attr("hash", "sha-1");
        writer
            .attr("node", &caps.node)
            .attr("ver", &caps.ver)
            .close();
    }
    limits(writer, &config.limits_after, config.idle_ms);
}

/// XEP-0478.
fn limits(writer: &mut Writer, limits: &Limits, idle_ms: u64) {
    writer.open_ns("limits", ns::LIMITS);
    writer
        .open("max-bytes")
        .text_display(limits.stanza_bytes_max)
        .close();
    if idle_ms > 0 {
        writer
            .open("idle-seconds")
            .text_display(idle_ms / 1000)
            .close();
    }
    writer.close();
}
