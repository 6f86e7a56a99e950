use std::collections::HashMap;

use proptest::prelude::*;
use unicode_normalization::UnicodeNormalization;
use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

use super::*;

#[test]
fn an_address_is_one_text_and_two_offsets() {
    assert_eq!(size_of::<Jid>(), 24);
    assert_eq!(size_of::<Option<Jid>>(), 24);
}

/// The examples of RFC 7622 §3.5, table 1.
#[test]
fn examples_that_are_addresses() {
    for (text, normal) in [
        ("juliet@example.com", "juliet@example.com"),
        ("juliet@example.com/foo", "juliet@example.com/foo"),
        ("juliet@example.com/foo bar", "juliet@example.com/foo bar"),
        ("juliet@example.com/foo@bar", "juliet@example.com/foo@bar"),
        ("foo\\20bar@example.com", "foo\\20bar@example.com"),
        ("fussball@example.com", "fussball@example.com"),
        ("fu\u{df}ball@example.com", "fu\u{df}ball@example.com"),
        ("\u{3c0}@example.com", "\u{3c0}@example.com"),
        ("\u{3a3}@example.com/foo", "\u{3c3}@example.com/foo"),
        ("\u{3c3}@example.com/foo", "\u{3c3}@example.com/foo"),
        ("\u{3c2}@example.com/foo", "\u{3c2}@example.com/foo"),
        ("king@example.com/\u{265a}", "king@example.com/\u{265a}"),
        ("example.com", "example.com"),
        ("example.com/foobar", "example.com/foobar"),
        ("a.example.com/b@example.net", "a.example.com/b@example.net"),
    ] {
        assert_eq!(Jid::parse(text).unwrap().as_str(), normal);
    }
}

/// The examples of RFC 7622 §3.5, table 2, and what its text adds.
#[test]
fn examples_that_are_no_addresses() {
    for (text, error) in [
        ("\"juliet\"@example.com", JidError::LocalInvalid),
        ("foo bar@example.com", JidError::LocalInvalid),
        ("juliet@example.com/", JidError::ResourceEmpty),
        ("@example.com", JidError::LocalEmpty),
        ("@example.com/foobar", JidError::LocalEmpty),
        ("henry\u{2163}@example.com", JidError::LocalInvalid),
        ("\u{265a}@example.com", JidError::LocalInvalid),
        ("juliet@", JidError::DomainEmpty),
        ("/foobar", JidError::DomainEmpty),
        ("", JidError::DomainEmpty),
        ("a@b@c", JidError::DomainInvalid),
        ("a@b/\u{0}", JidError::ResourceInvalid),
    ] {
        assert_eq!(Jid::parse(text).unwrap_err(), error, "{text:?}");
    }
}

#[test]
fn parts_are_limited_to_1023_bytes() {
    let long = "a".repeat(1023);
    let domain = format!("{}.{}", vec!["b".repeat(63); 15].join("."), "b".repeat(63));
    assert_eq!(domain.len(), 1023);
    let jid = Jid::parse(&format!("{long}@{domain}/{long}")).unwrap();
    assert_eq!(jid.local().unwrap().len(), 1023);
    assert_eq!(jid.domain(), domain);
    assert_eq!(jid.resource().unwrap().len(), 1023);
    let error = |text: String| Jid::parse(&text).unwrap_err();
    assert_eq!(error(format!("{long}a@b")), JidError::LocalTooLong);
    assert_eq!(error(format!("a@b/{long}a")), JidError::ResourceTooLong);
    assert_eq!(error(format!("a@b.{domain}")), JidError::DomainTooLong);
    assert_eq!(
        error(format!("a@b/{}", "a".repeat(100_000))),
        JidError::ResourceTooLong
    );
}

#[test]
fn parts_can_be_taken_and_changed() {
    let jid = Jid::parse("Romeo@Montague.example/Orchard").unwrap();
    assert_eq!(jid.local(), Some("romeo"));
    assert_eq!(jid.domain(), "montague.example");
    assert_eq!(jid.resource(), Some("Orchard"));
    assert!(jid.is_full() && !jid.is_bare());
    assert_eq!(jid.bare().as_str(), "romeo@montague.example");
    assert!(jid.bare().is_bare());
    assert_eq!(jid.bare().resource(), None);
    assert_eq!(jid.domain_jid().as_str(), "montague.example");
    assert_eq!(jid.domain_jid().local(), None);
    assert_eq!(
        jid.bare().with_resource("x/y").unwrap().as_str(),
        "romeo@montague.example/x/y"
    );
    assert_eq!(jid.with_resource(""), Err(JidError::ResourceEmpty));
    assert_eq!(
        Jid::from_parts(Some("a/b"), "c", None),
        Err(JidError::LocalInvalid)
    );
}

#[test]
fn a_map_by_address_is_asked_with_a_text() {
    let jid = Jid::parse("romeo@montague.example").unwrap();
    let map = HashMap::from([(jid.clone(), 1)]);
    assert_eq!(map.get("romeo@montague.example"), Some(&1));
    assert_eq!(map.get(&jid), Some(&1));
}

/// Why our PRECIS address and the stringprep address of the `jid` crate may differ.
/// `None`: no reason is known, so they must agree.
fn reason_to_disagree(text: &str) -> Option<&'static str> {
    let domain = text
        .split('/')
        .next()
        .and_then(|bare| bare.split('@').next_back())
        .unwrap_or("");
    if domain.ends_with('.') {
        return Some("jid keeps the dot of the root where a resourcepart follows");
    }
    if domain.starts_with('[') {
        return Some("IP literals: jid keeps them as written");
    }
    let is_ldh =
        |byte: u8| !byte.is_ascii() || byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
    if !domain.bytes().all(is_ldh) {
        return Some("jid takes in domains what URLs take, RFC 7622 letters, digits, hyphens");
    }
    if domain
        .split('.')
        .any(|label| label.as_bytes().get(2..4) == Some(b"--"))
    {
        return Some("A-labels become U-labels here (RFC 7622 §3.2), jid keeps A-labels");
    }
    if text.is_ascii() {
        return None;
    }
    if !domain.is_ascii() {
        return Some("UTS 46 maps more than RFC 7622 does, and its tables are newer");
    }
    // Singletons such as U+1FFB count as compatible too (RFC 8264 §9.17).
    if text.nfkc().ne(text.nfc()) || text.chars().any(|c| std::iter::once(c).nfkc().ne([c])) {
        return Some(
            "stringprep composes with NFKC; PRECIS refuses such identifiers, keeps resources",
        );
    }
    if text.chars().any(stringprep::tables::unassigned_code_point) {
        return Some("stringprep stands at Unicode 3.2");
    }
    if text
        .chars()
        .any(stringprep::tables::commonly_mapped_to_nothing)
    {
        return Some("stringprep drops ignorable characters, PRECIS refuses them");
    }
    if text.chars().any(stringprep::tables::bidi_r_or_al) {
        return Some("bidi: RFC 3454 §6 against RFC 5893, and OpaqueString has no rule");
    }
    if text.chars().any(|c| matches!(c, '\u{1100}'..='\u{11ff}' | '\u{a960}'..='\u{a97f}' | '\u{d7b0}'..='\u{d7ff}')) {
        return Some("PRECIS refuses conjoining jamo (RFC 8264 §9.9)");
    }
    let is_letter = |c: char| c.general_category_group() == GeneralCategoryGroup::Letter;
    if text.chars().any(|c| !c.is_ascii() && !is_letter(c)) {
        return Some("nodeprep takes symbols and other digits, IdentifierClass none or in context");
    }
    let folded: String = text
        .chars()
        .flat_map(stringprep::tables::case_fold_for_nfkc)
        .collect();
    let lower: String = text.chars().flat_map(char::to_lowercase).collect();
    if folded != lower {
        return Some(
            "stringprep folds case (ß becomes ss, ς becomes σ), PRECIS maps to lower case",
        );
    }
    None
}

fn disagreement(text: &str) -> Option<String> {
    let ours = Jid::parse(text).map(|jid| jid.to_string()).ok();
    let theirs = jid::Jid::new(text).map(|jid| jid.to_string()).ok();
    (ours != theirs).then(|| format!("{text:?}: ours {ours:?}, theirs {theirs:?}"))
}

fn any_jid_like() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        4 => "[a-zA-Z0-9._+ -]{0,8}",
        2 => "[a-zßäÖЖжλΣς太郎éĀ]{1,6}",
        1 => "\\PC{0,6}",
    ];
    let domain = prop_oneof![
        6 => "[a-zA-Z0-9-]{1,6}(\\.[a-zA-Z0-9-]{1,6}){0,3}\\.?",
        1 => "[a-zäжλ太.]{1,8}",
        1 => "\\PC{0,6}",
    ];
    (
        proptest::option::of(part.clone()),
        domain,
        proptest::option::of(part),
    )
        .prop_map(|(local, domain, resource)| {
            let mut text = String::new();
            if let Some(local) = local {
                text = local + "@";
            }
            text += &domain;
            if let Some(resource) = resource {
                text += "/";
                text += &resource;
            }
            text
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn preparing_twice_changes_nothing(text in any_jid_like()) {
        if let Ok(jid) = Jid::parse(&text) {
            let again = Jid::parse(jid.as_str()).unwrap();
            prop_assert_eq!(again.as_str(), jid.as_str());
            prop_assert_eq!(again.local(), jid.local());
            prop_assert_eq!(again.domain(), jid.domain());
            prop_assert_eq!(again.resource(), jid.resource());
            let rebuilt = Jid::from_parts(jid.local(), jid.domain(), jid.resource()).unwrap();
            prop_assert_eq!(rebuilt, jid);
        }
    }

    #[test]
    fn agrees_with_stringprep_or_has_a_reason(text in any_jid_like()) {
        if let Some(difference) = disagreement(&text) {
            prop_assert!(reason_to_disagree(&text).is_some(), "{}", difference);
        }
    }

    #[test]
    fn anything_at_all_is_parsed_or_refused(text in "\\PC*") {
        if let Ok(jid) = Jid::parse(&text) {
            prop_assert!(jid.as_str().len() <= 3 * PART_BYTES_MAX + 2);
        }
    }
}
