//! The plan on a clock that the tests move.

use super::*;

const DIRECTORY: &str = "https://ca.example/directory";
const START: u64 = 1_700_000_000_000;

fn names() -> Vec<String> {
    vec!["chat.example".to_owned()]
}

fn held(from_ms: u64, days: u64) -> Held {
    Held {
        names: names(),
        not_before_ms: from_ms,
        not_after_ms: from_ms + days * DAY_MS,
    }
}

fn refused() -> Failure {
    Failure {
        why: "it refuses".to_owned(),
        retry_after_ms: None,
        is_limited: false,
        is_unreached: false,
        is_of_a_nonce: false,
    }
}

fn down() -> Failure {
    Failure {
        is_unreached: true,
        ..refused()
    }
}

fn begun() -> Record {
    let mut record = Record::default();
    record.begin(DIRECTORY, &names());
    record
}

/// Obtained at `START`; the authority has no window.
fn obtained(held: &Held) -> Record {
    let mut record = begun();
    record.succeeded(START, held, 500);
    record.asked(START, None, None);
    record
}

#[test]
fn the_first_certificate_is_obtained_at_once() {
    let next = Record::default().next(START, None, DIRECTORY, &names());
    assert_eq!(next, Next::Obtain);
}

#[test]
fn a_certificate_is_renewed_after_two_thirds_of_its_life() {
    let held = held(START, 90);
    let mut record = obtained(&held);
    let mut now = START;
    loop {
        match record.next(now, Some(&held), DIRECTORY, &names()) {
            Next::Wait(until) => {
                assert!(until > now, "time goes on");
                now = until;
            }
            Next::Ask => record.asked(now, None, None),
            Next::Obtain => break,
        }
    }
    assert_eq!(now, START + 60 * DAY_MS);
}

#[test]
fn the_authority_may_say_when() {
    let held = held(START, 90);
    let mut record = begun();
    record.succeeded(START, &held, 250);
    assert_eq!(
        record.next(START, Some(&held), DIRECTORY, &names()),
        Next::Ask
    );
    let window = (START + 10 * DAY_MS, START + 14 * DAY_MS);
    record.asked(START, Some(window), Some(6 * HOUR_MS));
    let next = record.next(START, Some(&held), DIRECTORY, &names());
    assert_eq!(next, Next::Wait(START + 6 * HOUR_MS), "it is asked again");
    let at = START + 11 * DAY_MS;
    // It does not answer once: what it has said still counts.
    record.asked(at - HOUR_MS, None, None);
    let next = record.next(at - 1, Some(&held), DIRECTORY, &names());
    assert_eq!(next, Next::Wait(at));
    let next = record.next(at, Some(&held), DIRECTORY, &names());
    assert_eq!(next, Next::Obtain);
}

#[test]
fn a_window_that_has_passed_means_now() {
    let held = held(START, 90);
    let mut record = obtained(&held);
    let now = START + 2 * DAY_MS;
    record.asked(now, Some((START - DAY_MS, START)), None);
    assert_eq!(
        record.next(now, Some(&held), DIRECTORY, &names()),
        Next::Obtain
    );
}

#[test]
fn a_window_behind_the_end_does_not_count() {
    let held = held(START, 90);
    let mut record = obtained(&held);
    let window = (START + 100 * DAY_MS, START + 200 * DAY_MS);
    record.asked(START + 59 * DAY_MS, Some(window), None);
    let now = START + 60 * DAY_MS;
    assert_eq!(
        record.next(now, Some(&held), DIRECTORY, &names()),
        Next::Obtain
    );
}

#[test]
fn the_authority_is_asked_neither_too_often_nor_too_seldom() {
    let mut record = begun();
    record.asked(START, None, Some(0));
    assert_eq!(
        record.window.as_ref().map(|window| window.ask_again_ms),
        Some(START + ASK_MIN_MS)
    );
    record.asked(START, None, Some(u64::MAX));
    assert_eq!(
        record.window.map(|window| window.ask_again_ms),
        Some(START + ASK_MAX_MS)
    );
}

#[test]
fn changed_names_are_obtained_at_once() {
    let held = held(START, 90);
    let record = obtained(&held);
    let more = vec!["chat.example".to_owned(), "other.example".to_owned()];
    let now = START + 1;
    assert_eq!(
        record.next(now, Some(&held), DIRECTORY, &more),
        Next::Obtain
    );
    assert_eq!(
        record.next(now, Some(&held), "https://other.example/", &names()),
        Next::Obtain,
        "of another authority, too"
    );
    let spelt = Held {
        names: vec!["CHAT.example".to_owned()],
        ..held
    };
    assert!(
        matches!(
            record.next(now, Some(&spelt), DIRECTORY, &names()),
            Next::Wait(_)
        ),
        "the same name in capitals is none"
    );
}

#[test]
fn failures_for_other_names_do_not_count() {
    let mut record = begun();
    for _ in 0..10 {
        record.failed(START, None, &down());
    }
    let other = vec!["other.example".to_owned()];
    assert_eq!(record.next(START, None, DIRECTORY, &other), Next::Obtain);
    record.begin(DIRECTORY, &other);
    assert_eq!(record.failures, 0);
    record.failed(START, None, &down());
    record.begin(DIRECTORY, &other);
    assert_eq!(record.failures, 1, "for the same they add up");
}

/// The attempts from `now` until `end`, all of which fail in this way.
fn attempts(
    record: &mut Record,
    held: Option<&Held>,
    failure: &Failure,
    mut now: u64,
    end: u64,
) -> Vec<u64> {
    let mut attempts = Vec::new();
    while now < end {
        match record.next(now, held, DIRECTORY, &names()) {
            Next::Wait(until) => now = until,
            Next::Ask => record.asked(now, None, None),
            Next::Obtain => {
                attempts.push(now);
                record.begin(DIRECTORY, &names());
                record.failed(now, held, failure);
            }
        }
    }
    attempts
}

fn waits(attempts: &[u64]) -> Vec<u64> {
    attempts.windows(2).map(|two| two[1] - two[0]).collect()
}

#[test]
fn an_authority_that_refuses_is_asked_less_and_less() {
    let end = START + 10 * DAY_MS;
    let attempts = attempts(&mut begun(), None, &refused(), START, end);
    let waits = waits(&attempts);
    assert_eq!(waits[..3], [5, 10, 20].map(|minutes| minutes * MINUTE_MS));
    assert!(waits.is_sorted(), "{waits:?}");
    assert_eq!(waits.last(), Some(&DAY_MS));
    assert!((15..25).contains(&attempts.len()), "{}", attempts.len());
    let in_an_hour = attempts.iter().filter(|at| **at < START + HOUR_MS).count();
    assert!(in_an_hour <= 5, "the limit of a public authority");
}

#[test]
fn an_authority_that_is_down_for_days_is_tried_less_and_less() {
    let end = START + 10 * DAY_MS;
    let attempts = attempts(&mut begun(), None, &down(), START, end);
    let waits = waits(&attempts);
    // Soon at first: the network of a machine may come in a moment.
    assert_eq!(waits[..3], [10_000, 20_000, 40_000]);
    assert!(waits.is_sorted(), "{waits:?}");
    assert_eq!(waits.last(), Some(&DAY_MS));
    assert!((15..30).contains(&attempts.len()), "{}", attempts.len());
}

#[test]
fn a_network_that_is_not_there_yet_disturbs_nobody() {
    let mut record = begun();
    let mut now = START;
    let mut told = Vec::new();
    for failure in 1..=7 {
        record.failed(now, None, &down());
        if record.tells(now, None, &down()) {
            told.push(failure);
        }
        now = record.not_before_ms;
    }
    assert_eq!(told, [UNREACHED_FAILURES]);
}

#[test]
fn what_runs_out_is_tried_for_more_often() {
    let held = held(START, 6);
    let mut record = obtained(&held);
    let end = held.not_after_ms;
    let attempts = attempts(&mut record, Some(&held), &refused(), START, end);
    assert_eq!(attempts.first(), Some(&(START + 4 * DAY_MS)));
    let last_day = attempts.iter().filter(|at| **at > end - DAY_MS).count();
    assert!(last_day >= 8, "{last_day}");
}

#[test]
fn an_authority_that_comes_back_is_believed() {
    let old = held(START, 90);
    let mut record = obtained(&old);
    let from = START + 60 * DAY_MS;
    let tried = attempts(&mut record, Some(&old), &down(), from, from + 5 * DAY_MS);
    let now = tried[tried.len() - 1] + DAY_MS;
    assert!(record.failures > 3);
    let new = held(now, 90);
    record.succeeded(now, &new, 0);
    assert_eq!((record.failures, record.last_failure.clone()), (0, None));
    record.asked(now, None, None);
    assert!(matches!(
        record.next(now, Some(&new), DIRECTORY, &names()),
        Next::Wait(_)
    ));
}

#[test]
fn a_limit_of_the_authority_is_respected_even_when_the_operator_hurries() {
    let mut record = begun();
    let limited = Failure {
        retry_after_ms: Some(3 * HOUR_MS),
        is_limited: true,
        ..down()
    };
    record.failed(START, None, &limited);
    record.hurry();
    let next = record.next(START + 1, None, DIRECTORY, &names());
    assert_eq!(next, Next::Wait(START + 3 * HOUR_MS));
    let without_time = Failure {
        retry_after_ms: None,
        ..limited
    };
    let mut record = begun();
    record.failed(START, None, &without_time);
    record.hurry();
    let next = record.next(START + 1, None, DIRECTORY, &names());
    assert_eq!(next, Next::Wait(START + LIMITED_WAIT_MS));
}

#[test]
fn an_authority_cannot_ask_for_ever() {
    let mut record = begun();
    let absurd = Failure {
        retry_after_ms: Some(u64::MAX),
        ..down()
    };
    record.failed(START, None, &absurd);
    assert_eq!(record.not_before_ms, START + ASKED_WAIT_MAX_MS);
}

#[test]
fn the_operator_may_hurry_what_failed() {
    let mut record = begun();
    record.failed(START, None, &down());
    assert!(matches!(
        record.next(START + 1, None, DIRECTORY, &names()),
        Next::Wait(_)
    ));
    record.hurry();
    assert_eq!(
        record.next(START + 1, None, DIRECTORY, &names()),
        Next::Obtain
    );
    // But nothing that is in order.
    let held = held(START, 90);
    let mut record = obtained(&held);
    record.hurry();
    assert!(matches!(
        record.next(START + 1, Some(&held), DIRECTORY, &names()),
        Next::Wait(_)
    ));
}

#[test]
fn a_wrong_clock_does_not_order_again_and_again() {
    // To a clock that is years ahead, each new certificate is an old one.
    let held = held(START - 2_000 * DAY_MS, 90);
    let mut record = begun();
    record.succeeded(START, &held, 0);
    record.asked(START, None, None);
    assert_eq!(
        record.next(START, Some(&held), DIRECTORY, &names()),
        Next::Wait(START + DAY_MS)
    );
}

#[test]
fn the_administrators_are_told_when_it_matters() {
    // There is none yet: at once, then daily.
    let mut record = begun();
    record.failed(START, None, &refused());
    assert!(record.tells(START, None, &refused()));
    assert!(!record.tells(START + HOUR_MS, None, &refused()));
    assert!(record.tells(START + DAY_MS, None, &refused()));
    // It still lasts: once, when it is no passing trouble.
    let held = held(START, 90);
    let mut record = obtained(&held);
    let now = START + 60 * DAY_MS;
    let mut told = Vec::new();
    for failure in 1..=8 {
        record.failed(now, Some(&held), &refused());
        if record.tells(now, Some(&held), &refused()) {
            told.push(failure);
        }
    }
    assert_eq!(told, [PATIENT_FAILURES]);
    // It runs out: daily.
    let late = held.not_after_ms - DAY_MS;
    assert!(record.tells(late, Some(&held), &refused()));
    assert!(record.tells(late + DAY_MS, Some(&held), &refused()));
}

#[test]
fn a_record_survives_a_restart_and_grows() {
    let mut record = begun();
    record.failed(START, None, &down());
    let text = serde_json::to_vec(&record).expect("plain values");
    let again: Record = serde_json::from_slice(&text).expect("the same");
    assert_eq!(again, record);
    let older: Record = serde_json::from_str("{\"failures\":2}").expect("what is missing is empty");
    assert_eq!(older.failures, 2);
}
