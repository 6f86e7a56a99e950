//! Which domains this server talks with: an open federation, a list of partners, or nobody.

/// How far the server is open to others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// To everybody who is not on the list of the denied.
    #[default]
    Open,
    /// To those on the list of the allowed.
    AllowList,
    /// To nobody: a server among itself.
    Off,
}

/// The operator's rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// How far the server is open.
    pub mode: Mode,
    /// Domains; `.example.org` means the subdomains of example.org.
    pub allow: Vec<String>,
    /// Likewise. It counts in every mode, and more than `allow`.
    pub deny: Vec<String>,
    /// Of whom more or less is asked than of others, likewise.
    pub security: Vec<(String, Security)>,
}

/// What is asked of a domain's server before it is believed. Later ones ask for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Security {
    /// Dialback over TLS is enough (XEP-0220).
    Dialback,
    /// A certificate: of an authority, or named by the domain's signed zone.
    Certificate,
    /// A certificate that the domain's signed zone names (DANE, RFC 7673); whoever comes is asked
    /// about at a server with one.
    Dane,
}

impl Policy {
    /// Whether the server talks with this domain (in its normal form).
    pub fn admits(&self, domain: &str) -> bool {
        let is_named = |list: &[String]| list.iter().any(|entry| names(entry, domain));
        match self.mode {
            Mode::Off => false,
            _ if is_named(&self.deny) => false,
            Mode::Open => true,
            Mode::AllowList => is_named(&self.allow),
        }
    }

    /// What the operator asks of this domain, if it is named; the most where it is so twice.
    pub fn security(&self, domain: &str) -> Option<Security> {
        let named = self
            .security
            .iter()
            .filter(|(entry, _)| names(entry, domain));
        named.map(|(_, security)| *security).max()
    }
}

/// `example.org` names itself alone, `.example.org` what stands below it.
fn names(entry: &str, domain: &str) -> bool {
    match entry.starts_with('.') {
        true => domain.len() > entry.len() && domain.ends_with(entry),
        false => domain == entry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> Vec<String> {
        entries.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_dot_in_front_means_the_subdomains_and_not_the_domain() {
        assert!(names("example.org", "example.org"));
        assert!(!names("example.org", "a.example.org"));
        assert!(names(".example.org", "a.b.example.org"));
        assert!(!names(".example.org", "example.org"));
        assert!(!names(".example.org", "anexample.org"));
    }

    #[test]
    fn of_a_domain_that_is_named_twice_the_most_is_asked() {
        let policy = Policy {
            security: vec![
                ("strict.example".to_owned(), Security::Dane),
                (".example".to_owned(), Security::Dialback),
                ("some.example".to_owned(), Security::Certificate),
            ],
            ..Policy::default()
        };
        for (domain, security) in [
            ("strict.example", Some(Security::Dane)),
            ("some.example", Some(Security::Certificate)),
            ("other.example", Some(Security::Dialback)),
            ("example", None),
            ("example.org", None),
        ] {
            assert_eq!(policy.security(domain), security, "{domain}");
        }
    }

    #[test]
    fn the_denied_are_denied_in_every_mode() {
        let mut policy = Policy {
            deny: list(&["bad.example", ".bad.example"]),
            allow: list(&["good.example", "bad.example"]),
            ..Policy::default()
        };
        assert!(policy.admits("new.example"));
        assert!(!policy.admits("bad.example") && !policy.admits("a.bad.example"));
        policy.mode = Mode::AllowList;
        assert!(policy.admits("good.example") && !policy.admits("new.example"));
        assert!(!policy.admits("bad.example"));
        policy.mode = Mode::Off;
        assert!(!policy.admits("good.example"));
    }
}
