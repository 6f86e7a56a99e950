//! Qualified names (Namespaces in XML 1.0 §4).

use super::chars::{is_name, is_name_start};

/// Splits a qualified name that is known to be valid: prefix, empty when there is none, and local part.
pub(super) fn split(qname: &str) -> (&str, &str) {
    qname.split_once(':').unwrap_or(("", qname))
}

/// Production QName. Used on names that our own code passes; input goes through the scanner's faster path.
pub(super) fn is_qname(name: &str) -> bool {
    match name.split_once(':') {
        Some((prefix, local)) => is_ncname(prefix) && is_ncname(local),
        None => is_ncname(name),
    }
}

fn is_ncname(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(is_name_start) && chars.all(is_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qualified_names_have_at_most_one_colon_between_two_names() {
        for good in ["a", "a:b", "xml:lang", "_-.9", "é:à"] {
            assert!(is_qname(good), "{good}");
        }
        for bad in ["", ":", "a:", ":b", "a:b:c", "1a", "a:1", "a b", "-a"] {
            assert!(!is_qname(bad), "{bad}");
        }
        assert_eq!(split("a:b"), ("a", "b"));
        assert_eq!(split("b"), ("", "b"));
    }
}
