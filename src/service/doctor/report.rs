//! What was found: one sentence each, and the record or the step that mends it.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// All that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// How many of them are failures.
    pub failures: usize,
    /// How many are warnings.
    pub warnings: usize,
    /// Domain by domain; what is of no domain stands last.
    pub findings: Vec<Finding>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at: the same in every release, such as `srv.xmpp-server`.
    pub id: Cow<'static, str>,
    /// The served domain that it is about, if it is about one.
    pub domain: Option<String>,
    /// How bad it is.
    pub severity: Severity,
    /// What was found, for people.
    pub sentence: String,
    /// The record in the form of a zone file, or the step, that mends it.
    pub mend: Option<String>,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Worth to know; nothing fails by it.
    Note,
    /// Something fails for some, or will fail soon.
    Warning,
    /// Others cannot come, or refuse us.
    Failure,
}

impl Report {
    pub(super) fn of(findings: Vec<Finding>) -> Report {
        let count = |severity| {
            let of_it = findings.iter().filter(|found| found.severity == severity);
            of_it.count()
        };
        Report {
            failures: count(Severity::Failure),
            warnings: count(Severity::Warning),
            findings,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut about = None;
        for finding in &self.findings {
            if about != Some(&finding.domain) {
                about = Some(&finding.domain);
                let title = finding.domain.as_deref().unwrap_or("this machine");
                writeln!(f, "{}", plain(title))?;
            }
            let (severity, sentence) = (finding.severity.word(), plain(&finding.sentence));
            writeln!(f, "  {severity:<9}{}: {sentence}", plain(&finding.id))?;
            for line in finding.mend.iter().flat_map(|mend| mend.lines()) {
                writeln!(f, "           mend: {}", plain(line))?;
            }
        }
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        let (failures, warnings) = (self.failures, self.warnings);
        write!(
            f,
            "{failures} failure{}, {warnings} warning{}",
            plural(failures),
            plural(warnings)
        )
    }
}

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Severity::Ok => "ok",
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Failure => "FAILURE",
        }
    }
}

impl Finding {
    pub(super) fn new(
        id: &'static str,
        severity: Severity,
        sentence: impl Into<String>,
    ) -> Finding {
        Finding {
            id: Cow::Borrowed(id),
            domain: None,
            severity,
            sentence: sentence.into(),
            mend: None,
        }
    }

    pub(super) fn ok(id: &'static str, sentence: impl Into<String>) -> Finding {
        Finding::new(id, Severity::Ok, sentence)
    }

    pub(super) fn note(id: &'static str, sentence: impl Into<String>) -> Finding {
        Finding::new(id, Severity::Note, sentence)
    }

    pub(super) fn warning(id: &'static str, sentence: impl Into<String>) -> Finding {
        Finding::new(id, Severity::Warning, sentence)
    }

    pub(super) fn failure(id: &'static str, sentence: impl Into<String>) -> Finding {
        Finding::new(id, Severity::Failure, sentence)
    }

    pub(super) fn mended_by(self, mend: impl Into<String>) -> Finding {
        Finding {
            mend: Some(mend.into()),
            ..self
        }
    }

    /// The same, where there is something that mends it.
    pub(super) fn mended_by_any(self, mend: Option<String>) -> Finding {
        Finding { mend, ..self }
    }

    pub(super) fn of_domain(self, domain: &str) -> Finding {
        Finding {
            domain: Some(domain.to_owned()),
            ..self
        }
    }
}

/// What comes from outside is not to move the cursor about.
fn plain(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report::of(vec![
            Finding::ok("srv.xmpp-server", "it leads here").of_domain("chat.example"),
            Finding::failure("tlsa", "another\u{1b}[2J key")
                .mended_by("_5269._tcp.chat.example. 3600 IN TLSA 3 1 1 00\nor remove it")
                .of_domain("chat.example"),
            Finding::warning("clock", "it is behind"),
        ])
    }

    #[test]
    fn a_report_is_grouped_by_domain_and_counted() {
        let expected = "chat.example\n  ok       srv.xmpp-server: it leads here\n  \
                        FAILURE  tlsa: another [2J key\n           \
                        mend: _5269._tcp.chat.example. 3600 IN TLSA 3 1 1 00\n           \
                        mend: or remove it\nthis machine\n  warning  clock: it is behind\n\
                        1 failure, 1 warning";
        assert_eq!(report().to_string(), expected);
    }

    #[test]
    fn a_report_is_the_same_after_json() {
        let json = serde_json::to_string(&report()).expect("plain values");
        assert_eq!(
            serde_json::from_str::<Report>(&json).expect("the same"),
            report()
        );
        assert!(json.contains(r#""severity":"failure""#), "{json}");
    }
}
