//! Domainparts (RFC 7622 §3.2): domain names of NR-LDH and U-labels, IP literals.
//!
//! The normal form is in lower case, without the dot of the root, with every A-label
//! turned into its U-label. A U-label is checked as an identifier of PRECIS, whose
//! `IdentifierClass` is IDNA2008's PVALID for all that is not ASCII, plus the rules of
//! RFC 5891 §5.4 that look at a whole label. Not done: the bidi rule across labels
//! (RFC 5893 §1.4 asks it of a whole name; here each label satisfies it by itself).

use std::borrow::Cow;
use std::net::Ipv6Addr;

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

use super::punycode::{self, LABEL_BYTES_MAX};
use super::{JidError, precis};

/// Prepares a domainpart.
pub fn prepare(text: &str) -> Result<Cow<'_, str>, JidError> {
    // RFC 7622 §3.2: a final dot is no part of the address.
    let text = text.strip_suffix('.').unwrap_or(text);
    if text.is_empty() {
        return Err(JidError::DomainEmpty);
    }
    if let Some(literal) = text.strip_prefix('[') {
        return ipv6_literal(literal);
    }
    if is_plain(text) {
        return Ok(Cow::Borrowed(text));
    }
    let mut labels = text.split('.').map(prepare_label);
    let mut domain = String::with_capacity(text.len());
    if let Some(first) = labels.next() {
        domain.push_str(&first?);
    }
    for label in labels {
        domain.push('.');
        domain.push_str(&label?);
    }
    Ok(Cow::Owned(domain))
}

/// The domainpart of a [`Jid`](super::Jid) as the DNS and certificates write it: with
/// A-labels. `None` for an IPv6 literal.
pub fn to_ascii(domain: &str) -> Option<Cow<'_, str>> {
    if domain.starts_with('[') {
        return None;
    }
    if domain.is_ascii() {
        return Some(Cow::Borrowed(domain));
    }
    let mut ascii = String::with_capacity(domain.len() + 8);
    for (index, label) in domain.split('.').enumerate() {
        if index > 0 {
            ascii.push('.');
        }
        if label.is_ascii() {
            ascii.push_str(label);
        } else {
            ascii.push_str("xn--");
            ascii.push_str(&punycode::encode(label)?);
        }
    }
    Some(Cow::Owned(ascii))
}

/// Already in normal form: what nearly every domain is.
fn is_plain(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.'))
        && text
            .split('.')
            .all(|label| !is_reserved(label) && check_ldh(label).is_ok())
}

fn prepare_label(label: &str) -> Result<Cow<'_, str>, JidError> {
    if label.is_ascii() {
        check_ldh(label)?;
        let label = lower(label);
        return match label.strip_prefix("xn--") {
            Some(encoded) => a_label(encoded).map(Cow::Owned),
            // RFC 5890 §2.3.1: R-LDH labels other than A-labels are reserved.
            None if is_reserved(&label) => Err(JidError::DomainInvalid),
            None => Ok(label),
        };
    }
    let label = u_label(label)?;
    if label.is_ascii() {
        // Full-width letters: now an ordinary label, and judged as one.
        return prepare_label(&label).map(|label| Cow::Owned(label.into_owned()));
    }
    Ok(label)
}

/// Letters, digits and hyphens, none at an end, 63 at most (RFC 5890 §2.3.1).
fn check_ldh(label: &str) -> Result<(), JidError> {
    if label.len() > LABEL_BYTES_MAX {
        return Err(JidError::DomainTooLong);
    }
    let ldh = label
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if label.is_empty() || !ldh || label.starts_with('-') || label.ends_with('-') {
        return Err(JidError::DomainInvalid);
    }
    Ok(())
}

fn is_reserved(label: &str) -> bool {
    label.as_bytes().get(2..4) == Some(b"--")
}

/// RFC 7622 §3.2: an A-label becomes a U-label, and only one that would come back.
fn a_label(encoded: &str) -> Result<String, JidError> {
    let decoded = punycode::decode(encoded).ok_or(JidError::DomainInvalid)?;
    if decoded.is_ascii() {
        return Err(JidError::DomainInvalid);
    }
    let label = u_label(&decoded)?;
    if *label != *decoded {
        return Err(JidError::DomainInvalid);
    }
    Ok(decoded)
}

fn u_label(label: &str) -> Result<Cow<'_, str>, JidError> {
    let label = precis::username(label).ok_or(JidError::DomainInvalid)?;
    let ldh = |c: char| !c.is_ascii() || c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    // RFC 5891 §4.2.3: hyphens, and no combining mark in front.
    let starts_with_mark = label
        .chars()
        .next()
        .is_some_and(|first| first.general_category_group() == GeneralCategoryGroup::Mark);
    if !label.chars().all(ldh)
        || starts_with_mark
        || label.starts_with('-')
        || label.ends_with('-')
        || is_reserved(&label)
    {
        return Err(JidError::DomainInvalid);
    }
    if !label.is_ascii() && punycode::encode(&label).is_none() {
        return Err(JidError::DomainTooLong);
    }
    Ok(label)
}

/// RFC 7622 §3.2 `IP-literal`: an IPv6 address in brackets, written as RFC 5952 says.
fn ipv6_literal(rest: &str) -> Result<Cow<'static, str>, JidError> {
    let address = rest.strip_suffix(']').ok_or(JidError::DomainInvalid)?;
    let address: Ipv6Addr = address.parse().map_err(|_| JidError::DomainInvalid)?;
    Ok(Cow::Owned(format!("[{address}]")))
}

fn lower(text: &str) -> Cow<'_, str> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(text.to_ascii_lowercase())
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok(text: &str) -> String {
        prepare(text)
            .unwrap_or_else(|error| panic!("{text}: {error}"))
            .into_owned()
    }

    #[test]
    fn names_are_lower_case_and_without_the_dot_of_the_root() {
        assert_eq!(ok("Capulet.EXAMPLE."), "capulet.example");
        assert_eq!(ok("localhost"), "localhost");
        assert_eq!(ok("127.0.0.1"), "127.0.0.1");
        assert_eq!(prepare("a..b"), Err(JidError::DomainInvalid));
        assert_eq!(prepare("."), Err(JidError::DomainEmpty));
        assert_eq!(prepare("a.."), Err(JidError::DomainInvalid));
    }

    #[test]
    fn a_labels_become_u_labels() {
        assert_eq!(ok("xn--bcher-kva.example"), "b\u{fc}cher.example");
        assert_eq!(ok("XN--BCHER-KVA.example"), "b\u{fc}cher.example");
        assert_eq!(ok("B\u{dc}CHER.example"), "b\u{fc}cher.example");
        assert_eq!(
            to_ascii("b\u{fc}cher.example").unwrap(),
            "xn--bcher-kva.example"
        );
    }

    #[test]
    fn a_labels_that_would_not_come_back_are_refused() {
        // Empty, plain ASCII, upper case, and a symbol in Punycode.
        for text in [
            "xn--",
            "xn--a-",
            "xn--bcher-zja",
            "xn--abc-",
            "xn--ls8h",
            "ab--cd",
        ] {
            assert_eq!(prepare(text), Err(JidError::DomainInvalid), "{text}");
        }
    }

    #[test]
    fn ipv6_literals_have_one_form() {
        assert_eq!(ok("[2001:DB8:0:0::1]"), "[2001:db8::1]");
        for text in ["[::1", "::1", "[fe80::1%eth0]", "[127.0.0.1]", "[]"] {
            assert_eq!(prepare(text), Err(JidError::DomainInvalid), "{text}");
        }
    }

    #[test]
    fn other_characters_are_refused() {
        for text in [
            "a b",
            "a_b",
            "-a",
            "a-",
            "a@b",
            "a/b",
            "\u{301}a",
            "a\u{3002}b",
            "\u{2603}.net",
        ] {
            assert_eq!(prepare(text), Err(JidError::DomainInvalid), "{text}");
        }
        assert_eq!(prepare(&"a".repeat(64)), Err(JidError::DomainTooLong));
    }
}
