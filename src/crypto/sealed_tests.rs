//! Files that only a passphrase opens: whole, changed, and broken off.

use super::*;

const CHEAP: Cost = Cost {
    memory_kib: 8,
    passes: 1,
    lanes: 1,
};

fn sealer() -> Sealer<Vec<u8>> {
    Sealer::with_cost(Vec::new(), "open sesame", [7; 16], CHEAP).expect("memory")
}

fn sealed(content: &[u8]) -> Vec<u8> {
    let mut sealer = sealer();
    sealer.write_all(content).expect("memory");
    sealer.finish().expect("memory")
}

fn opened(file: &[u8], passphrase: &str) -> Result<Vec<u8>, SealedError> {
    let mut content = Vec::new();
    let read =
        Opener::new(file, passphrase).and_then(|mut opener| opener.read_to_end(&mut content));
    read.map(|_| content).map_err(|error| {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
        *inner.expect("an error of ours")
    })
}

fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| (n / 7) as u8).collect()
}

/// Of a chunk in the file, with the byte in front of it.
const WHOLE: usize = 1 + CHUNK_BYTES + TAG_BYTES;

#[test]
fn what_was_sealed_is_opened() {
    for bytes in [
        0,
        1,
        CHUNK_BYTES - 1,
        CHUNK_BYTES,
        CHUNK_BYTES + 1,
        3 * CHUNK_BYTES,
    ] {
        let content = content(bytes);
        let file = sealed(&content);
        assert!(opened(&file, "open sesame") == Ok(content), "{bytes}");
        assert_eq!(opened(&file, "open barley"), Err(SealedError::Wrong));
    }
}

#[test]
fn what_was_changed_cut_off_or_reordered_is_refused() {
    let content = content(3 * CHUNK_BYTES + 9);
    let file = sealed(&content);
    for at in [8, 15, 20, 36, 37, 36 + WHOLE, 37 + WHOLE, file.len() - 1] {
        let mut changed = file.clone();
        changed[at] ^= 1;
        assert!(opened(&changed, "open sesame").is_err(), "{at}");
    }
    for cut in [
        0,
        20,
        36,
        37,
        38,
        36 + WHOLE,
        36 + 3 * WHOLE,
        file.len() - 1,
    ] {
        assert!(opened(&file[..cut], "open sesame").is_err(), "{cut}");
    }
    let (head, chunks) = file.split_at(36);
    let swapped = [
        head,
        &chunks[WHOLE..2 * WHOLE],
        &chunks[..WHOLE],
        &chunks[2 * WHOLE..],
    ];
    assert_eq!(
        opened(&swapped.concat(), "open sesame"),
        Err(SealedError::Wrong)
    );
    let longer = [&file[..], &[0]].concat();
    assert_eq!(opened(&longer, "open sesame"), Err(SealedError::Wrong));
}

/// What is left of a file that was written so far, `at` bytes of its content, and a mark there.
fn broken_off(file: &[u8], at: usize) -> (Vec<u8>, Mark) {
    let mut opener = Opener::unfinished(file, "open sesame").expect("a head");
    let mut before = vec![0; at];
    opener.read_exact(&mut before).expect("it is there");
    let mark = opener.mark();
    (file[..mark.file_bytes as usize].to_vec(), mark)
}

#[test]
fn a_file_that_was_broken_off_is_gone_on_with_anywhere_and_as_often_as_it_must() {
    let content = content(4 * CHUNK_BYTES);
    for at in [
        1,
        CHUNK_BYTES - 1,
        CHUNK_BYTES,
        CHUNK_BYTES + 1,
        2 * CHUNK_BYTES,
        2 * CHUNK_BYTES + 77,
    ] {
        let mut first = sealer();
        first.write_all(&content).expect("memory");
        // A write that was torn.
        let mut file = first.inner;
        file.extend_from_slice(&[FULL, 1, 2, 3]);
        let (kept, mark) = broken_off(&file, at);
        let mut second = Sealer::go_on(kept, &mark, [1; 32]).expect("memory");
        second.write_all(&vec![5; CHUNK_BYTES]).expect("memory");
        let (kept, mark) = broken_off(&second.inner, at);
        let mut third = Sealer::go_on(kept, &mark, [2; 32]).expect("memory");
        third.write_all(&content[at..]).expect("memory");
        let whole = third.finish().expect("memory");
        assert!(opened(&whole, "open sesame") == Ok(content.clone()), "{at}");
        let unfinished = Opener::unfinished(&whole[..], "open sesame");
        let mut opener = unfinished.expect("a head");
        io::copy(&mut opener, &mut io::sink()).expect("memory");
        assert!(opener.is_finished());
    }
}

#[test]
fn what_was_cut_off_fits_in_nowhere_again() {
    let content = content(3 * CHUNK_BYTES + 1);
    let mut first = sealer();
    first.write_all(&content).expect("memory");
    let old = first.inner;
    let (kept, mark) = broken_off(&old, CHUNK_BYTES + 5);
    let at = kept.len();
    let mut second = Sealer::go_on(kept, &mark, [1; 32]).expect("memory");
    second
        .write_all(&content[CHUNK_BYTES + 5..])
        .expect("memory");
    let new = second.finish().expect("memory");
    assert_eq!(opened(&new, "open sesame"), Ok(content));
    let section = 1 + SECTION_BYTES;
    // The old second chunk instead of the new one, with the new section behind it or not.
    for between in [&b""[..], &new[at..at + section]] {
        let mixed = [&old[..at + WHOLE], between, &new[at + section + WHOLE..]];
        assert_eq!(
            opened(&mixed.concat(), "open sesame"),
            Err(SealedError::Wrong)
        );
    }
    let mut unopened = Opener::unfinished(&old[..], "open barley").expect("a head");
    assert_eq!(unopened.read(&mut [0; 9]).expect("an end"), 0);
}

#[test]
fn a_head_that_asks_for_too_much_is_refused_before_it_gets_it() {
    let mut file = sealed(b"x");
    file[8..12].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(opened(&file, "open sesame"), Err(SealedError::Foreign));
    assert_eq!(opened(b"", "x"), Err(SealedError::Foreign));
    assert_eq!(opened(&[0; 100], "x"), Err(SealedError::Foreign));
}
