//! The clock, by the time servers of the configuration, or else by what the machine knows of it: a
//! certificate that is valid looks as if it were not to whoever is years off.

use std::net::SocketAddr;
use std::time::Duration;

use super::report::Finding;
use crate::config::Config;
use crate::machine::status::MachineStatus;
use crate::machine::time::{Offset, query};
use crate::net::dns::{Nowhere, Resolver};

const ID: &str = "clock";

/// How long time servers have.
const PATIENCE: Duration = Duration::from_secs(4);

/// Nobody minds so little.
const LITTLE_MS: u64 = 10_000;
/// Authorities issue certificates that begin now: whoever is so far behind refuses them, and ours
/// refuse theirs.
const MUCH_MS: u64 = 300_000;

const STEP: &str = "set the clock, and keep it: a system by its time service, a machine by [time] \
                    servers";

/// `machine` is how it is, where the server has one of its own.
pub(super) async fn look(
    config: &Config,
    resolver: &Resolver,
    machine: Option<&MachineStatus>,
    now_ms: u64,
) -> Finding {
    let servers = &config.time.servers;
    if servers.is_empty() {
        return match machine {
            Some(status) => by_machine(status),
            None => Finding::note(
                ID,
                "the clock could not be checked: [time] servers names nobody to ask",
            ),
        };
    }
    let (mut addresses, mut unknown) = (Vec::new(), Vec::new());
    for server in servers {
        let found = match server.parse() {
            Ok(address) => Ok(vec![address]),
            Err(_) => resolver.addresses(server).await,
        };
        match found {
            Ok(found) => addresses.extend(found.first().copied()),
            Err(Nowhere::NotFound(why) | Nowhere::Unknown(why)) => unknown.push(why),
        }
    }
    let servers: Vec<SocketAddr> = addresses
        .into_iter()
        .map(|address| (address, query::PORT).into())
        .collect();
    let asked = tokio::task::spawn_blocking(move || query::ask(&servers, PATIENCE, now_ms));
    match asked.await {
        Ok(Ok(offset)) => judge(&offset),
        Ok(Err(why)) => {
            unknown.insert(0, why);
            let sentence = format!("the clock could not be checked: {}", unknown.join("; "));
            Finding::warning(ID, sentence)
                .mended_by("name time servers that answer in [time] servers")
        }
        Err(_) => Finding::note(ID, "the clock could not be checked"),
    }
}

fn by_machine(status: &MachineStatus) -> Finding {
    match (status.clock_is_wrong, &*status.clock) {
        (true, clock) => {
            let sentence = format!("the clock is known to be wrong: {clock}");
            Finding::failure(ID, sentence).mended_by(STEP)
        }
        (false, "") => Finding::note(ID, "nobody says what the clock goes by"),
        (false, clock) => Finding::ok(ID, format!("the clock: {clock}")),
    }
}

fn judge(offset: &Offset) -> Finding {
    let away_ms = offset.offset_ns.unsigned_abs() / 1_000_000;
    let direction = if offset.offset_ns > 0 {
        "behind"
    } else {
        "ahead"
    };
    let off = match away_ms {
        0..1_000 => "the clock is right to less than a second".to_owned(),
        away_ms => format!("the clock is {} seconds {direction}", away_ms / 1_000),
    };
    let servers = match (offset.agreeing, offset.replies) {
        (1, 1) => "one time server says so".to_owned(),
        (agreeing, replies) => format!("{agreeing} of {replies} time servers say so"),
    };
    let sentence = format!("{off}; {servers}");
    match away_ms {
        0..=LITTLE_MS => Finding::ok(ID, sentence),
        away_ms if away_ms < MUCH_MS => Finding::warning(ID, sentence).mended_by(STEP),
        _ => Finding::failure(ID, sentence).mended_by(STEP),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::doctor::Severity;

    fn offset(ms: i64) -> Offset {
        Offset {
            offset_ns: ms * 1_000_000,
            error_ns: 1,
            stratum: 2,
            server: None,
            replies: 2,
            agreeing: 2,
        }
    }

    #[test]
    fn a_clock_is_the_worse_the_further_it_is_off() {
        for (ms, severity, part) in [
            (3, Severity::Ok, "less than a second"),
            (-9_000, Severity::Ok, "9 seconds ahead"),
            (60_000, Severity::Warning, "60 seconds behind"),
            (-86_400_000, Severity::Failure, "86400 seconds ahead"),
        ] {
            let found = judge(&offset(ms));
            assert_eq!(found.severity, severity, "{found:?}");
            assert!(found.sentence.contains(part), "{found:?}");
            let is_mended = found.mend.is_some();
            assert_eq!(is_mended, severity >= Severity::Warning, "{found:?}");
        }
    }

    #[test]
    fn where_nobody_is_to_be_asked_the_machine_s_word_counts() {
        let mut status = MachineStatus {
            clock: "set by 192.0.2.1".to_owned(),
            ..MachineStatus::default()
        };
        assert_eq!(by_machine(&status).severity, Severity::Ok);
        status.clock_is_wrong = true;
        assert_eq!(by_machine(&status).severity, Severity::Failure);
    }
}
