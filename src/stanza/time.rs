//! Date and time as XEP-0082 writes them, from and to milliseconds since the Unix epoch.

const DAY_MS: i64 = 86_400_000;
/// 9999-12-31T23:59:59.999Z, the last instant with a four-digit year.
const LAST_MS: u64 = 253_402_300_799_999;

/// The DateTime profile in UTC, with milliseconds only where there are any: `2026-11-23T08:02:04Z`. Instants beyond the
/// year 9999 are written as its last one.
pub fn to_datetime(unix_ms: u64) -> String {
    let unix_ms = unix_ms.min(LAST_MS) as i64;
    let (year, month, day) = civil(unix_ms.div_euclid(DAY_MS));
    let ms = unix_ms.rem_euclid(DAY_MS);
    let (hour, minute, second, fraction) =
        (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000);
    let whole = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if fraction == 0 {
        whole + "Z"
    } else {
        format!("{whole}.{fraction:03}Z")
    }
}

/// Reads the DateTime profile with any zone and any number of fractional digits; what is finer than a millisecond is
/// cut off. A leap second counts as the second before it. `None` for anything else and for what precedes 1970.
pub fn from_datetime(text: &str) -> Option<u64> {
    let b = text.as_bytes();
    if !text.is_ascii() || b.len() < 20 || b[4] != b'-' || b[7] != b'-' || b[10] != b'T' {
        return None;
    }
    if b[13] != b':' || b[16] != b':' {
        return None;
    }
    let year = digits(&b[..4])?;
    let month = digits(&b[5..7]).filter(|month| (1..=12).contains(month))?;
    let day = digits(&b[8..10]).filter(|&day| day >= 1 && day <= days_in(year, month))?;
    let hour = digits(&b[11..13]).filter(|&hour| hour < 24)?;
    let minute = digits(&b[14..16]).filter(|&minute| minute < 60)?;
    let second = digits(&b[17..19]).filter(|&second| second <= 60)?.min(59);
    let (fraction, zone) = fraction(&b[19..])?;
    let offset = zone_ms(zone)?;
    let ms = days(year, month, day) * DAY_MS
        + hour * 3_600_000
        + minute * 60_000
        + second * 1000
        + fraction
        - offset;
    u64::try_from(ms).ok()
}

fn digits(bytes: &[u8]) -> Option<i64> {
    bytes.iter().try_fold(0, |value, b| {
        b.is_ascii_digit().then(|| value * 10 + i64::from(b - b'0'))
    })
}

/// Milliseconds of an optional fraction, and what follows it.
fn fraction(rest: &[u8]) -> Option<(i64, &[u8])> {
    let Some(fraction) = rest.strip_prefix(b".") else {
        return Some((0, rest));
    };
    let len = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
    if len == 0 {
        return None;
    }
    let ms = (0..3).fold(0, |ms, i| {
        ms * 10
            + if i < len {
                i64::from(fraction[i] - b'0')
            } else {
                0
            }
    });
    Some((ms, &fraction[len..]))
}

/// What the zone is ahead of UTC.
fn zone_ms(zone: &[u8]) -> Option<i64> {
    let (sign, rest) = match zone {
        b"Z" => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    if rest.len() != 5 || rest[2] != b':' {
        return None;
    }
    let hours = digits(&rest[..2]).filter(|&hours| hours < 24)?;
    let minutes = digits(&rest[3..]).filter(|&minutes| minutes < 60)?;
    Some(sign * (hours * 3_600_000 + minutes * 60_000))
}

const fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

const fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date of the Gregorian calendar. Years start in March here, so that the leap day is the
/// last of its year and months need no table.
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year
        - 719_468
}

/// The inverse of [`days`], for days from 1970 on.
const fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let calendar_month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + if calendar_month <= 2 { 1 } else { 0 };
    (year, calendar_month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_instants() {
        assert_eq!(to_datetime(0), "1970-01-01T00:00:00Z");
        assert_eq!(to_datetime(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(to_datetime(1_709_251_199_999), "2024-02-29T23:59:59.999Z");
        assert_eq!(to_datetime(u64::MAX), "9999-12-31T23:59:59.999Z");
        // The two examples of XEP-0082 §3.2: one instant in two zones.
        assert_eq!(from_datetime("1969-07-21T02:56:15Z"), None);
        assert_eq!(
            from_datetime("2002-09-10T23:08:25Z"),
            Some(1_031_699_305_000)
        );
        assert_eq!(
            from_datetime("2002-09-10T18:08:25-05:00"),
            Some(1_031_699_305_000)
        );
        assert_eq!(
            from_datetime("2002-09-10T23:08:25.1Z"),
            Some(1_031_699_305_100)
        );
        assert_eq!(
            from_datetime("2002-09-10T23:08:25.123987Z"),
            Some(1_031_699_305_123)
        );
        assert_eq!(
            from_datetime("2016-12-31T23:59:60Z"),
            from_datetime("2016-12-31T23:59:59Z")
        );
    }

    #[test]
    fn what_is_no_datetime_is_refused() {
        for text in [
            "",
            "2002-09-10",
            "2002-09-10T23:08:25",
            "2002-09-10 23:08:25Z",
            "2002-13-10T23:08:25Z",
            "2002-02-29T23:08:25Z",
            "2002-09-10T24:08:25Z",
            "2002-09-10T23:60:25Z",
            "2002-09-10T23:08:61Z",
            "2002-09-10T23:08:25.Z",
            "2002-09-10T23:08:25+5:00",
            "2002-09-10T23:08:25+0500",
            "20020910T23:08:25",
            "2002-09-10T23:08:25Zx",
            "+002-09-10T23:08:25Z",
            "2002-09-10T23:08:2éZ",
        ] {
            assert_eq!(from_datetime(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_instant_survives(ms in 0..=LAST_MS) {
            prop_assert_eq!(from_datetime(&to_datetime(ms)), Some(ms));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = from_datetime(&text);
        }
    }
}
