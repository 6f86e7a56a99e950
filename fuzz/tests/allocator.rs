//! The harness notices what a target takes.

use cairn_fuzz::{BYTES_MAX, bounded};

#[test]
fn who_takes_too_much_fails_and_who_gives_it_back_in_between_does_not() {
    let take = |bytes: usize| drop(std::hint::black_box(vec![1_u8; bytes]));
    bounded(
        |_| {
            take(BYTES_MAX / 2 + 1);
            take(BYTES_MAX / 2 + 1);
        },
        b"",
    );
    let greedy = std::panic::catch_unwind(|| bounded(|_| take(BYTES_MAX + 1), b""));
    assert!(greedy.is_err());
}
