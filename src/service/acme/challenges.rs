//! What proves to an authority that a name is ours, while it looks (RFC 8555 §8).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Challenges at once: as many as one order has names, far more than any.
const CHALLENGES_MAX: usize = 128;

/// The challenges by HTTP that wait to be looked at (RFC 8555 §8.3): key authorizations by token.
#[derive(Debug, Default)]
pub struct Challenges(Mutex<HashMap<String, String>>);

/// One of them; it is over when this is dropped.
#[derive(Debug)]
pub struct Shown {
    among: Arc<Challenges>,
    token: String,
}

impl Challenges {
    /// Answers for `token` with its key authorization. `None` where it is no token, which is
    /// base64url (RFC 8555 §8.3), or there are too many.
    pub fn show(self: &Arc<Self>, token: &str, authorization: &str) -> Option<Shown> {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if token.is_empty() || !token.bytes().all(is_token) {
            return None;
        }
        let mut shown = self.lock();
        if shown.len() >= CHALLENGES_MAX {
            return None;
        }
        shown.insert(token.to_owned(), authorization.to_owned());
        Some(Shown {
            among: Arc::clone(self),
            token: token.to_owned(),
        })
    }

    /// The key authorization of a token.
    pub fn answer(&self, token: &str) -> Option<String> {
        self.lock().get(token).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.among.lock().remove(&self.token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_answered_while_it_lasts() {
        let challenges = Arc::new(Challenges::default());
        let shown = challenges.show("to-ken_1", "to-ken_1.thumb");
        let shown = shown.expect("base64url");
        assert_eq!(
            challenges.answer("to-ken_1").as_deref(),
            Some("to-ken_1.thumb")
        );
        assert_eq!(challenges.answer("another"), None);
        drop(shown);
        assert_eq!(challenges.answer("to-ken_1"), None);
    }

    #[test]
    fn what_is_no_token_is_not_shown() {
        let challenges = Arc::new(Challenges::default());
        for wrong in ["", "a/b", "../a", "a b", "é"] {
            assert!(challenges.show(wrong, "x").is_none(), "{wrong}");
        }
        let all: Vec<_> = (0..CHALLENGES_MAX)
            .map(|n| challenges.show(&format!("t{n}"), "x").expect("room"))
            .collect();
        assert!(challenges.show("more", "x").is_none());
        drop(all);
        assert!(challenges.show("more", "x").is_some());
    }
}
