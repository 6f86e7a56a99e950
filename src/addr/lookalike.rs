//! Localparts that a reader could take for another one (UTS #39).
//!
//! An address that exists elsewhere is taken as it is: refusing to talk to it would
//! protect nobody. The rules here are for those who hand out names, that is for
//! registration and `cairn user add`.

use unicode_security::{RestrictionLevel, RestrictionLevelDetection, skeleton};

/// Whether a localpart should not be handed out to a new account, because it
///
/// - mixes scripts beyond UTS #39 §5.2 "highly restrictive" (one script, or Latin with
///   Chinese, Japanese or Korean writing),
/// - has a character that UTS #39 §3.1 keeps out of identifiers, or
/// - is of another script and yet looks like plain ASCII throughout (`раураl`).
///
/// The argument is a prepared localpart.
pub fn is_lookalike_risk(local: &str) -> bool {
    if local.is_ascii() {
        return false;
    }
    // Punctuation and digits belong to every script.
    let letters: String = local
        .chars()
        .filter(|c| !c.is_ascii() || c.is_ascii_alphabetic())
        .collect();
    if !letters
        .as_str()
        .check_restriction_level(RestrictionLevel::HighlyRestrictive)
    {
        return true;
    }
    skeleton(local).all(|c| c.is_ascii())
}

/// What two localparts have in common when they look alike (the skeleton of UTS #39
/// §4): compare it with those of the accounts that exist before a new one is made.
pub fn lookalike_key(local: &str) -> String {
    skeleton(local).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_one_script_are_fine() {
        for local in [
            "juliet",
            "m\u{fc}ller",
            "\u{438}\u{432}\u{430}\u{43d}",
            "太郎",
            "taro太郎",
            "o'neil+x",
        ] {
            assert!(!is_lookalike_risk(local), "{local}");
        }
    }

    #[test]
    fn mixed_scripts_and_disguised_ascii_are_risks() {
        // Latin with a Cyrillic a; Cyrillic throughout that reads "paypa"; Latin with Greek.
        for local in [
            "p\u{430}ypal",
            "\u{440}\u{430}\u{443}\u{440}\u{430}",
            "\u{3bf}mega",
            "\u{1e922}a",
        ] {
            assert!(is_lookalike_risk(local), "{local}");
        }
    }

    #[test]
    fn lookalikes_share_a_key() {
        assert_eq!(lookalike_key("p\u{430}ypal"), lookalike_key("paypal"));
        assert_eq!(lookalike_key("modern"), lookalike_key("modem"));
        assert_ne!(lookalike_key("romeo"), lookalike_key("juliet"));
    }
}
