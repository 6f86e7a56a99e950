//! A question of stream management to the peer (`<enable/>`, `<resume/>`, `<r/>` of XEP-0198), and
//! until when it has to be answered. What is sent besides, and what the peer says to other things,
//! changes nothing: whoever answers nothing holds what was sent to it for ever.

/// The oldest question that is not answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    patience_ms: u64,
    until_ms: Option<u64>,
    pauses_left_ms: u64,
}

/// Patience is so many times as long at most for one that is held to its pace.
const PAUSES_MAX: u64 = 4;

impl Question {
    /// None was asked. An answer takes so long at most, in milliseconds.
    pub fn none(patience_ms: u64) -> Question {
        Question {
            patience_ms,
            until_ms: None,
            pauses_left_ms: 0,
        }
    }

    /// One stands. It is the same as before unless that was answered.
    pub fn stands(&mut self, now_ms: u64) {
        if self.until_ms.is_none() {
            self.until_ms = Some(now_ms.saturating_add(self.patience_ms));
            self.pauses_left_ms = self.patience_ms.saturating_mul(PAUSES_MAX);
        }
    }

    /// It is answered, or nobody asks any more.
    pub fn is_answered(&mut self) {
        self.until_ms = None;
    }

    /// Nothing was read for so long, as the peer is held to its pace: the answer may stand behind
    /// what is not read yet. Not for ever: one that always says too much would never be late.
    pub fn paused(&mut self, elapsed_ms: u64) {
        if let Some(until_ms) = &mut self.until_ms {
            let more_ms = elapsed_ms.min(self.pauses_left_ms);
            self.pauses_left_ms -= more_ms;
            *until_ms = until_ms.saturating_add(more_ms);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_not_read_has_longer_but_not_for_ever() {
        let mut question = Question::none(60);
        question.stands(0);
        question.paused(50);
        question.stands(100);
        assert!(!question.is_late(109) && question.is_late(110));
        question.paused(1_000);
        assert_eq!(question.deadline(), Some(300));
        question.paused(1_000);
        assert!(question.is_late(300));
        question.is_answered();
        question.stands(400);
        question.paused(10);
        assert_eq!(question.deadline(), Some(470));
    }
}
