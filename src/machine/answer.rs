//! What a short-lived child hands to PID 1: one value, or the sentence why there is none, as JSON in
//! one bounded message. The child may have been talked into anything, so the value checks itself.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// No message is longer.
pub const MESSAGE_BYTES_MAX: usize = 64 << 10;
const SENTENCE_CHARS_MAX: usize = 300;

/// A value that a child may answer with.
pub trait Answer: Serialize + DeserializeOwned {
    /// Brings every part within its bounds. A value that this changes is not taken by PID 1.
    fn trim(&mut self);
}

/// A child that looked and found nothing.
impl<A: Answer> Answer for Option<A> {
    fn trim(&mut self) {
        if let Some(value) = self {
            value.trim();
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Message<A> {
    Done(A),
    Failed(String),
}

/// The message of an outcome.
#[must_use]
pub fn to_message<A: Answer>(outcome: Result<A, String>) -> Vec<u8> {
    let message = match outcome {
        Ok(mut value) => {
            value.trim();
            Message::Done(value)
        }
        Err(why) => Message::Failed(sentence(&why)),
    };
    let bytes = serde_json::to_vec(&message).expect("strings, numbers and addresses are JSON");
    assert!(
        bytes.len() <= MESSAGE_BYTES_MAX,
        "trimmed values fit a message"
    );
    bytes
}

/// Reads and checks a message. The error is a sentence: the child's, or that its message is not to
/// be believed.
pub fn from_message<A: Answer>(message: &[u8]) -> Result<A, String> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err("a child's answer is too long".to_owned());
    }
    let broken = |error: serde_json::Error| format!("a child's answer is broken: {error}");
    match serde_json::from_slice(message).map_err(broken) {
        Ok(Message::Done(value)) => bounded(value),
        Ok(Message::Failed(why)) => Err(sentence(&why)),
        Err(why) => Err(sentence(&why)),
    }
}

/// A value that is within its bounds as it is.
fn bounded<A: Answer>(mut value: A) -> Result<A, String> {
    let text = |value: &A| serde_json::to_vec(value).expect("it came from JSON");
    let before = text(&value);
    value.trim();
    if text(&value) != before {
        return Err("a child's answer leaves its bounds".to_owned());
    }
    Ok(value)
}

/// One line for the console, of bounded length and without control characters, which could draw
/// there.
#[must_use]
pub fn sentence(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).take(SENTENCE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Small(u8);

    impl Answer for Small {
        fn trim(&mut self) {
            self.0 = self.0.min(9);
        }
    }

    #[test]
    fn outcomes_go_through_a_message() {
        assert_eq!(from_message(&to_message(Ok(Small(3)))), Ok(Small(3)));
        assert_eq!(from_message(&to_message(Ok(Small(30)))), Ok(Small(9)));
        for outcome in [None, Some(Small(3))] {
            let message = to_message(Ok(outcome));
            assert_eq!(message, to_message(from_message::<Option<Small>>(&message)));
        }
        let why = from_message::<Small>(&to_message::<Small>(Err("no\n\u{1b}[2J".to_owned())));
        assert_eq!(why, Err("no  [2J".to_owned()));
    }

    #[test]
    fn what_a_child_made_up_is_not_taken() {
        let why = |message: &[u8]| from_message::<Small>(message).expect_err("not taken");
        assert!(why(br#"{"done":30}"#).contains("leaves its bounds"));
        assert!(why(br#"{"done":300}"#).contains("broken"));
        assert!(why(b"").contains("broken"));
        assert!(why(&vec![b' '; MESSAGE_BYTES_MAX + 1]).contains("too long"));
        let long = format!(r#"{{"failed":"{}"}}"#, "a".repeat(1000));
        assert_eq!(why(long.as_bytes()).len(), SENTENCE_CHARS_MAX);
    }
}
