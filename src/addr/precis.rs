//! The PRECIS profiles that addresses and passwords use (RFC 8264, RFC 8265).
//!
//! `precis-profiles` has the rules. Two things are added here:
//!
//! - RFC 8264 §7 warns that one pass of a profile's rules need not be stable.
//!   A text is accepted only if it stops changing within a few passes: then
//!   `prepare(prepare(x)) == prepare(x)`, which comparison by bytes needs.
//! - The property tables of `precis-core` are those of the IANA registry, which
//!   stands at Unicode 6.3. RFC 8264 §8 defines the properties as an algorithm over
//!   the Unicode version at hand, so a code point that is assigned today and was not
//!   then is judged by that algorithm with today's general categories. Otherwise a
//!   nickname with an emoji of the last ten years could not enter a room.

use std::borrow::Cow;

use precis_profiles::precis_core::profile::Rules;
use precis_profiles::precis_core::{
    DerivedPropertyValue, FreeformClass, IdentifierClass, StringClass,
};
use precis_profiles::{OpaqueString, UsernameCaseMapped};
use unicode_normalization::UnicodeNormalization;
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// How often the rules are applied until the text must be stable (RFC 8264 §7).
const PASSES_MAX: usize = 4;

/// Prepares a localpart: `UsernameCaseMapped` without the characters that
/// RFC 7622 §3.3.1 takes out. `None` if the text is not one.
pub fn localpart(text: &str) -> Option<Cow<'_, str>> {
    if text.is_ascii() {
        let fits = text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !is_excluded(byte));
        return (fits && !text.is_empty()).then(|| lower_ascii(text));
    }
    let local = stable(text, username_case_mapped)?;
    (!local.bytes().any(is_excluded)).then_some(local)
}

/// Prepares a non-ASCII text as `UsernameCaseMapped` (RFC 8265 §3.3): width and case
/// mapped, composed (NFC), of the `IdentifierClass`, with a clear direction.
pub fn username(text: &str) -> Option<Cow<'_, str>> {
    stable(text, username_case_mapped)
}

/// Prepares a resourcepart or password as `OpaqueString` (RFC 8265 §4.2): spaces
/// mapped to U+0020, composed (NFC), of the `FreeformClass`; case is kept.
pub fn opaque_string(text: &str) -> Option<Cow<'_, str>> {
    if text.is_ascii() {
        let fits = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        return (fits && !text.is_empty()).then_some(Cow::Borrowed(text));
    }
    stable(text, opaque_string_once)
}

/// RFC 7622 §3.3.1: what a username may hold and a localpart may not.
fn is_excluded(byte: u8) -> bool {
    matches!(byte, b'"' | b'&' | b'\'' | b'/' | b':' | b'<' | b'>' | b'@')
}

fn lower_ascii(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

fn stable(text: &str, once: fn(Cow<'_, str>) -> Option<Cow<'_, str>>) -> Option<Cow<'_, str>> {
    let mut current = Cow::Borrowed(text);
    for _ in 0..PASSES_MAX {
        let next = once(Cow::Borrowed(&current))?;
        if next == current {
            return Some(current);
        }
        current = Cow::Owned(next.into_owned());
    }
    None
}

fn username_case_mapped(text: Cow<'_, str>) -> Option<Cow<'_, str>> {
    let profile = UsernameCaseMapped::new();
    let text = profile.width_mapping_rule(text).ok()?;
    if text.is_empty()
        || !allows(
            &IdentifierClass::default(),
            &text,
            is_new_letter_or_digit,
            'a',
        )
    {
        return None;
    }
    let text = profile.case_mapping_rule(text).ok()?;
    let text = profile.normalization_rule(text).ok()?;
    profile.directionality_rule(text).ok()
}

fn opaque_string_once(text: Cow<'_, str>) -> Option<Cow<'_, str>> {
    let profile = OpaqueString::new();
    if text.is_empty()
        || !allows(
            &FreeformClass::default(),
            &text,
            is_new_freeform,
            '\u{2603}',
        )
    {
        return None;
    }
    let text = profile.additional_mapping_rule(text).ok()?;
    profile.normalization_rule(text).ok()
}

/// Asks the class about the text, in which code points newer than its tables that
/// `is_new` accepts stand as `neutral`, an ordinary member of the class (so that the
/// contextual rules of RFC 8264 §8 see no more than before).
fn allows(class: &impl StringClass, text: &str, is_new: fn(char) -> bool, neutral: char) -> bool {
    let is_unassigned = |c: char| class.get_value_from_char(c) == DerivedPropertyValue::Unassigned;
    if !text.chars().any(is_unassigned) {
        return class.allows(text).is_ok();
    }
    let masked: String = text
        .chars()
        .map(|c| {
            if is_unassigned(c) && is_new(c) {
                neutral
            } else {
                c
            }
        })
        .collect();
    class.allows(masked).is_ok()
}

/// RFC 8264 §9.1 `LetterDigits` without §9.17 `HasCompat`. No code point since
/// Unicode 6.3 is old Hangul; the ignorable ones are no letters.
fn is_new_letter_or_digit(c: char) -> bool {
    use GeneralCategory as G;
    let letter_or_digit = matches!(
        c.general_category(),
        G::LowercaseLetter
            | G::UppercaseLetter
            | G::OtherLetter
            | G::DecimalNumber
            | G::ModifierLetter
            | G::NonspacingMark
            | G::SpacingMark
    );
    letter_or_digit && std::iter::once(c).nfkc().eq(std::iter::once(c))
}

/// What `FreeformClass` takes: letters and digits of every kind, spaces, symbols and
/// punctuation (RFC 8264 §4.3.1); controls, format characters and private use not.
fn is_new_freeform(c: char) -> bool {
    use GeneralCategory as G;
    !matches!(
        c.general_category(),
        G::Control
            | G::Format
            | G::Surrogate
            | G::PrivateUse
            | G::Unassigned
            | G::LineSeparator
            | G::ParagraphSeparator
            | G::SpaceSeparator
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localpart_is_lower_case_and_composed() {
        assert_eq!(localpart("Juliet").as_deref(), Some("juliet"));
        assert_eq!(localpart("JOSE\u{301}").as_deref(), Some("jos\u{e9}"));
        assert_eq!(localpart("\u{FF2A}uliet").as_deref(), Some("juliet"));
        assert_eq!(localpart("\u{3a3}").as_deref(), Some("\u{3c3}"));
    }

    #[test]
    fn localpart_refuses_what_rfc_7622_excludes() {
        for text in [
            "", " ", "a b", "a\"", "a&", "a'", "a/", "a:", "<a", ">", "a@b", "\u{7f}",
        ] {
            assert_eq!(localpart(text), None, "{text:?}");
        }
        // A full-width quotation mark becomes an excluded character by width mapping.
        assert_eq!(localpart("\u{ff02}a\u{e9}"), None);
        // Symbols, compatibility characters and mixed directions are no identifiers.
        for text in [
            "henry\u{2163}",
            "\u{265a}",
            "a\u{5d0}",
            "\u{fb01}",
            "\u{ad}a",
        ] {
            assert_eq!(localpart(text), None, "{text:?}");
        }
    }

    #[test]
    fn opaque_string_keeps_case_and_maps_spaces() {
        assert_eq!(opaque_string("Balcony 2").as_deref(), Some("Balcony 2"));
        assert_eq!(opaque_string("a\u{a0}b").as_deref(), Some("a b"));
        assert_eq!(opaque_string("foo\u{265a}").as_deref(), Some("foo\u{265a}"));
        assert_eq!(opaque_string("a\tb"), None);
        assert_eq!(opaque_string("a\u{200b}"), None);
    }

    #[test]
    fn code_points_newer_than_the_registry_are_judged_by_their_category() {
        assert_eq!(
            opaque_string("party \u{1f973}").as_deref(),
            Some("party \u{1f973}")
        );
        // Adlam (Unicode 9) has case; CJK extension E (Unicode 8) has not.
        assert_eq!(localpart("\u{1e922}").as_deref(), Some("\u{1e922}"));
        assert_eq!(localpart("\u{2b820}").as_deref(), Some("\u{2b820}"));
        assert_eq!(localpart("\u{1f973}"), None, "an emoji is no letter");
        assert_eq!(opaque_string("\u{e0fff}"), None, "unassigned stays refused");
    }
}
