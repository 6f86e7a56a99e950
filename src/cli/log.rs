//! Where the log goes: standard error, as text for people or JSON for machines.

use std::io::{self, IsTerminal};
use std::sync::Arc;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{DefaultFields, Writer};
use tracing_subscriber::fmt::{self, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat, LogLevel};
use crate::net::dns;
use crate::service::log_ring::{LogRing, LogRingWriter};

/// Starts logging, and keeps the last lines in `ring`. Later calls change nothing.
pub(super) fn start(log: &Log, ring: Option<&Arc<LogRing>>) {
    let level = match log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    // Whoever follows the log from outside reads text, and does not keep the log busy by it.
    let kept = ring.map(|ring| {
        let writer = LogRingWriter(Arc::clone(ring));
        fmt::layer()
            .with_writer(move || writer.clone())
            .with_target(false)
            .with_ansi(false)
            .fmt_fields(Plain::new())
            .with_filter(targets(level.min(LevelFilter::INFO)))
    });
    let layer = fmt::layer().with_writer(io::stderr).with_target(false);
    let told = match log.format {
        LogFormat::Text => layer.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    let started = tracing_subscriber::registry()
        .with(told.with_filter(targets(level)))
        .with(kept)
        .try_init();
    // Only a test that starts two servers in one process gets here twice.
    drop(started);
    tell_panics();
}

/// Strangers decide what the libraries that ask the DNS complain about, and how much: whole answers at
/// times. Only who looks for everything sees it.
fn targets(level: LevelFilter) -> Targets {
    let of_dns = match level >= LevelFilter::DEBUG {
        true => level,
        false => LevelFilter::OFF,
    };
    Targets::new()
        .with_default(level)
        .with_targets(dns::LOG_TARGETS.map(|target| (target, of_dns)))
}

/// The fields of a span are written once for each way of formatting them: the lines that are kept
/// must not take those of the lines on standard error, which may be in colour or JSON.
#[derive(Default)]
struct Plain(DefaultFields);

impl Plain {
    fn new() -> Self {
        Self::default()
    }
}

impl<'writer> FormatFields<'writer> for Plain {
    fn format_fields<R: RecordFields>(
        &self,
        writer: Writer<'writer>,
        fields: R,
    ) -> std::fmt::Result {
        self.0.format_fields(writer, fields)
    }
}

/// A panic is told like everything else: in a line of the format that was asked for.
fn tell_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(ToString::to_string);
        let what = panic.payload_as_str().unwrap_or("a panic without words");
        let backtrace = std::backtrace::Backtrace::capture();
        match backtrace.status() {
            std::backtrace::BacktraceStatus::Captured => {
                tracing::error!(at, what, %backtrace, "a defect: please report it");
            }
            _ => tracing::error!(at, what, "a defect: please report it"),
        }
    }));
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn what_strangers_have_the_dns_library_say_is_not_in_the_log() {
        for target in ["hickory_net::dnssec", "hickory_proto::op::message"] {
            for level in [LevelFilter::ERROR, LevelFilter::WARN, LevelFilter::INFO] {
                assert!(!targets(level).would_enable(target, &Level::ERROR));
            }
            assert!(targets(LevelFilter::DEBUG).would_enable(target, &Level::WARN));
        }
        assert!(targets(LevelFilter::INFO).would_enable("cairn::net::s2s", &Level::INFO));
        assert!(!targets(LevelFilter::INFO).would_enable("cairn::net::s2s", &Level::DEBUG));
    }
}
