//! Why a command was not done.

use std::fmt;

/// One sentence for the operator, and what kind of refusal it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What kind.
    pub why: Why,
    /// The sentence.
    pub sentence: String,
}

/// What kind of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// What was asked for makes no sense.
    Invalid,
    /// What it is about is not there.
    Missing,
    /// It does not fit what is there.
    Conflict,
    /// It went wrong.
    Failed,
}

impl Refused {
    pub(in crate::service) fn invalid(sentence: impl Into<String>) -> Self {
        Self::new(Why::Invalid, sentence)
    }

    pub(in crate::service) fn missing(sentence: impl Into<String>) -> Self {
        Self::new(Why::Missing, sentence)
    }

    pub(in crate::service) fn conflict(sentence: impl Into<String>) -> Self {
        Self::new(Why::Conflict, sentence)
    }

    fn new(why: Why, sentence: impl Into<String>) -> Self {
        let sentence = sentence.into();
        Self { why, sentence }
    }
}

impl From<String> for Refused {
    /// Where nothing else is known it went wrong.
    fn from(sentence: String) -> Self {
        Self::new(Why::Failed, sentence)
    }
}

impl From<Refused> for String {
    fn from(refused: Refused) -> Self {
        refused.sentence
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}
