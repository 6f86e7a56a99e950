//! However the bytes are cut, the same is said; and whatever they are, it ends well.

use proptest::prelude::*;

use super::shell::{BIND, ENABLE, HEADER, Shell, auth, config};

fn whole_session() -> String {
    let plain = auth("PLAIN", b"\0juliet\0pencil");
    let rest = "<message to='romeo@montague.example'><body>Art thou not &lt;Romeo&gt;?</body>\
        </message> <r xmlns='urn:xmpp:sm:3'/></stream:stream>";
    format!("{HEADER}{plain}{HEADER}{BIND}{ENABLE}{rest}")
}

fn outcome(chunks: &[&[u8]]) -> (String, Vec<String>) {
    let mut shell = Shell::direct_tls();
    let said = chunks.iter().map(|chunk| shell.say_bytes(chunk)).collect();
    assert!(shell.closed.is_some());
    (said, shell.events)
}

#[test]
fn byte_by_byte_is_like_all_at_once() {
    let session = whole_session();
    let single: Vec<&[u8]> = session.as_bytes().chunks(1).collect();
    assert_eq!(outcome(&[session.as_bytes()]), outcome(&single));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_cut_is_like_all_at_once(mut cuts in proptest::collection::vec(0..900_usize, 0..12)) {
        let session = whole_session();
        let session = session.as_bytes();
        cuts.sort_unstable();
        let mut chunks = Vec::new();
        let mut start = 0;
        for cut in cuts {
            let end = cut.clamp(start, session.len());
            chunks.push(&session[start..end]);
            start = end;
        }
        chunks.push(&session[start..]);
        prop_assert_eq!(outcome(&[session]), outcome(&chunks));
    }

    #[test]
    fn noise_in_the_midst_of_a_session_never_panics(at in 0..900_usize, noise in ".{0,12}") {
        let session = whole_session();
        let at = (0..=at.min(session.len())).rev().find(|at| session.is_char_boundary(*at)).unwrap();
        let mut shell = Shell::direct_tls();
        shell.say(&session[..at]);
        shell.say(&noise);
        shell.say(&session[at..]);
    }

    #[test]
    fn noise_from_the_start_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut shell = Shell::plain(config());
        shell.say_bytes(&noise);
        let mut shell = Shell::plain(config());
        shell.say(HEADER);
        shell.say_bytes(&noise);
    }
}
