//! What went wrong with the authority, in plain words, and what to do.

use std::error::Error as _;

use instant_acme::{Error, Problem};

use super::client::Seen;
use super::plan::Failure;

/// What all types of problems begin with (RFC 8555 §6.7).
const PREFIX: &str = "urn:ietf:params:acme:error:";

/// It takes no request with this nonce, but one with another (RFC 8555 §6.5).
pub(super) const BAD_NONCE: &str = "badNonce";

/// It wants to be left alone (RFC 8555 §6.6).
pub(super) const RATE_LIMITED: &str = "rateLimited";

/// It has a fault of its own.
pub(super) const SERVER_INTERNAL: &str = "serverInternal";

/// It does not know the account.
const NO_ACCOUNT: &str = "accountDoesNotExist";

/// By the step: the account is none any more, or what it found proves nothing.
const UNAUTHORIZED: &str = "unauthorized";

/// What to do about that: nothing.
const NEW_ACCOUNT: &str =
    "it does not take this server's account any more: another one is made when it is asked again";

/// Characters of an authority's own words that are told.
const DETAIL_CHARS_MAX: usize = 400;

/// What was asked for when the authority refused: the same word of its means another thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// An account.
    Registration,
    /// Something in the account's name, such as an order.
    Account,
    /// That it looks for the proof of a name, or anything behind that.
    Proof,
}

/// A failure of the library, with what the client has seen.
pub(super) fn explain(error: &Error, step: Step, seen: &Seen) -> Failure {
    let retry_after_ms = seen.take_retry_after_ms();
    let unanswered = seen.take_failure();
    match error {
        Error::Api(problem) => Failure {
            retry_after_ms,
            ..of_problem(problem, step)
        },
        Error::Timeout(_) => Failure {
            retry_after_ms,
            ..plain("the authority has not decided in time".to_owned())
        },
        Error::Json(_) => Failure {
            retry_after_ms,
            ..plain(
                "the authority's answer is none of ACME: check [acme] directory, or wait until it \
                 works again"
                    .to_owned(),
            )
        },
        error => {
            let is_unreached = unanswered.is_some();
            let why = unanswered.unwrap_or_else(|| match error.source() {
                Some(source) => format!("{error}: {source}"),
                None => error.to_string(),
            });
            Failure {
                retry_after_ms,
                is_unreached,
                ..plain(printable(&why))
            }
        }
    }
}

/// A failure that is not the authority's.
pub(super) fn plain(why: String) -> Failure {
    Failure {
        why,
        retry_after_ms: None,
        is_limited: false,
        is_unreached: false,
        is_of_a_nonce: false,
    }
}

/// Whether the authority has no such account, or has it no more: it deactivates one (RFC 8555
/// §7.3.6), or has forgotten it. Said of an order only.
pub(super) fn is_without_account(problem: &Problem) -> bool {
    matches!(kind(problem), NO_ACCOUNT | UNAUTHORIZED)
}

/// Whether it has something against `[acme] contact`.
pub(super) fn is_of_the_contact(problem: &Problem) -> bool {
    matches!(kind(problem), "invalidContact" | "unsupportedContact")
}

/// A refusal of the authority.
pub(super) fn of_problem(problem: &Problem, step: Step) -> Failure {
    let kind = kind(problem);
    let advice = match kind {
        NO_ACCOUNT => NEW_ACCOUNT,
        UNAUTHORIZED if step == Step::Account => NEW_ACCOUNT,
        UNAUTHORIZED if step == Step::Registration => "it gives this server no account",
        "connection" => {
            "it cannot reach this server: port 80 for [listen] http, or port 443 for [listen] \
             https, must be open to the internet"
        }
        "dns" => "it finds no address of the domain: its A and AAAA records must be this server's",
        UNAUTHORIZED | "incorrectResponse" | "tls" => {
            "it reached another server than this one, or something between: the domain's A and \
             AAAA records must be this server's"
        }
        "caa" => "the domain's CAA records do not let it: add it to them",
        RATE_LIMITED => "it has a limit that is reached: it is asked again later",
        "rejectedIdentifier" | "unsupportedIdentifier" => {
            "it gives no certificates for this name: use a public domain, or another authority"
        }
        "invalidContact" | "unsupportedContact" => "it does not take [acme] contact",
        "userActionRequired" | "externalAccountRequired" => {
            "it wants something from a person first: use another authority"
        }
        SERVER_INTERNAL => "it has a fault of its own: it is asked again later",
        _ => "it refuses",
    };
    let details = std::iter::once(problem.detail.as_deref())
        .chain(problem.subproblems.iter().map(|sub| sub.detail.as_deref()));
    let details: Vec<String> = details.flatten().map(printable).collect();
    Failure {
        why: match details.is_empty() {
            true => format!("the authority gives no certificate: {advice}"),
            false => format!(
                "the authority gives no certificate: {advice} (it says: {})",
                details.join("; ")
            ),
        },
        retry_after_ms: None,
        is_limited: kind == RATE_LIMITED,
        is_unreached: false,
        is_of_a_nonce: kind == BAD_NONCE,
    }
}

/// The type of a problem without what all have in common.
pub(super) fn kind(problem: &Problem) -> &str {
    let kind = problem.r#type.as_deref().unwrap_or_default();
    kind.strip_prefix(PREFIX).unwrap_or(kind)
}

/// An authority's own words, in bounds and without control characters.
fn printable(text: impl AsRef<str>) -> String {
    let chars = text.as_ref().chars().filter(|c| !c.is_control());
    chars.take(DETAIL_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(json: &str) -> Problem {
        serde_json::from_str(json).expect("a problem")
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        for (kind, word) in [
            ("connection", "port 80"),
            ("dns", "A and AAAA"),
            ("unauthorized", "another server"),
            ("caa", "CAA"),
            ("rejectedIdentifier", "public domain"),
            ("neverHeardOf", "refuses"),
        ] {
            let text = format!("{{\"type\":\"{PREFIX}{kind}\",\"detail\":\"no\\u0007 way\"}}");
            let failure = of_problem(&problem(&text), Step::Proof);
            assert!(failure.why.contains(word), "{}", failure.why);
            assert!(failure.why.contains("it says: no way"), "{}", failure.why);
            assert!(!failure.is_limited);
        }
    }

    #[test]
    fn a_refusal_of_the_account_is_not_one_of_the_proof() {
        let text = format!("{{\"type\":\"{PREFIX}unauthorized\"}}");
        let why = |step| of_problem(&problem(&text), step).why;
        assert!(why(Step::Account).contains("account any more"));
        assert!(why(Step::Registration).contains("gives this server no account"));
        assert!(why(Step::Proof).contains("A and AAAA"));
    }

    #[test]
    fn a_limit_is_known() {
        let text = format!("{{\"type\":\"{PREFIX}rateLimited\"}}");
        assert!(of_problem(&problem(&text), Step::Proof).is_limited);
    }

    #[test]
    fn the_authority_cannot_fill_the_log() {
        let text = format!("{{\"detail\":\"{}\"}}", "x".repeat(10_000));
        assert!(of_problem(&problem(&text), Step::Proof).why.len() < 1_000);
    }
}
