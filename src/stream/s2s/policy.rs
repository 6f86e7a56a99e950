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
