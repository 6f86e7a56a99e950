//! A question of stream management to the peer (`<enable/>`, `<resume/>`, `<r/>` of XEP-0198), and
//! until when it has to be answered. What is sent besides, and what the peer says to other things,
//! changes nothing: whoever answers nothing holds what was sent to it for ever.

/// The oldest question that is not answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    patience_ms: u64,
    until_ms: Option<u64>,
}

impl Question {
    /// None was asked. An answer takes so long at most, in milliseconds.
    pub fn none(patience_ms: u64) -> Question {
        Question {
            patience_ms,
            until_ms: None,
        }
    }

    /// One stands. It is the same as before unless that was answered.
    pub fn stands(&mut self, now_ms: u64) {
        let until_ms = now_ms.saturating_add(self.patience_ms);
        self.until_ms.get_or_insert(until_ms);
    }

    /// It is answered, or nobody asks any more.
    pub fn is_answered(&mut self) {
        self.until_ms = None;
    }

    /// When patience ends.
    pub fn deadline(&self) -> Option<u64> {
        self.until_ms
    }

    /// Whether it has ended.
    pub fn is_late(&self, now_ms: u64) -> bool {
        self.until_ms.is_some_and(|until_ms| until_ms <= now_ms)
    }
}

/// The earlier of two moments, where there are any.
pub(super) fn earlier(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}
