//! Frames come out the same however the bytes come in, and limits hold before the end is seen.

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;

const HEADER: &str =
    "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";

/// Everything that comes out when `input` arrives in the given pieces: frames, then perhaps an error.
fn frames_of(input: &[u8], cuts: &[usize], limits: Limits) -> (Vec<Frame>, Option<XmlError>) {
    let mut framer = Framer::new(limits);
    let mut buffer = BytesMut::new();
    let mut frames = Vec::new();
    let mut fed = 0;
    let mut cuts = cuts
        .iter()
        .map(|cut| cut % (input.len() + 1))
        .collect::<Vec<_>>();
    cuts.push(input.len());
    cuts.sort_unstable();
    for cut in cuts {
        buffer.extend_from_slice(&input[fed..cut]);
        fed = cut;
        loop {
            match framer.next(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(framer.next(&mut buffer), Err(error), "an error is final");
                    return (frames, Some(error));
                }
            }
        }
    }
    (frames, None)
}

fn frames(input: &str) -> (Vec<Frame>, Option<XmlError>) {
    frames_of(input.as_bytes(), &[], Limits::after_authentication())
}

fn error(input: &str) -> Option<XmlError> {
    frames(input).1
}

/// The error behind a good header.
fn error_in(input: &str) -> Option<XmlError> {
    error(&format!("{HEADER}{input}"))
}

fn element(text: &str) -> Frame {
    Frame::Element(Bytes::copy_from_slice(text.as_bytes()))
}

fn header(text: &str) -> Frame {
    Frame::Header(Bytes::copy_from_slice(text.as_bytes()))
}

#[test]
fn a_whole_stream_becomes_header_elements_and_footer() {
    let input = format!(
        "<?xml version='1.0' encoding=\"UTF-8\"?>\n{HEADER} <a/>\n\n<b x='>' y=\"'/>\"><c/>t<d>]]&gt;</d ></b><e><![CDATA[</e>]]]]></e>  </stream:stream >  ignored"
    );
    let (frames, error) = frames(&input);
    assert_eq!(error, None);
    assert_eq!(
        frames,
        [
            header(HEADER),
            element("<a/>"),
            element("<b x='>' y=\"'/>\"><c/>t<d>]]&gt;</d ></b>"),
            element("<e><![CDATA[</e>]]]]></e>"),
            Frame::Footer,
        ]
    );
}

#[test]
fn an_empty_stream_element_is_a_header_and_a_footer() {
    let (frames, error) = frames("<s:stream xmlns:s='x'/>");
    assert_eq!(
        (frames, error),
        (vec![header("<s:stream xmlns:s='x'/>"), Frame::Footer], None)
    );
}

#[test]
fn a_declaration_is_utf_8_and_stands_first_or_nowhere() {
    for good in [
        "<?xml version='1.0'?>",
        "<?xml version = \"1.0\" encoding = 'utf-8' standalone='yes' ?>\r\n\t ",
        "<?xml version='1.1'?>",
        "",
        "\n",
    ] {
        assert_eq!(error(&format!("{good}{HEADER}")), None, "{good}");
    }
    let cases = [
        (
            "<?xml version='1.0' encoding='ISO-8859-1'?>",
            XmlError::UnsupportedEncoding,
        ),
        (
            "<?xml version='1.0' encoding='UTF-16'?>",
            XmlError::UnsupportedEncoding,
        ),
        ("<?xml encoding='UTF-8'?>", XmlError::NotWellFormed),
        ("<?xml version='2.0'?>", XmlError::NotWellFormed),
        (
            "<?xml version='1.0'encoding='UTF-8'?>",
            XmlError::NotWellFormed,
        ),
        (
            "<?xml version='1.0' standalone='maybe'?>",
            XmlError::NotWellFormed,
        ),
        (
            "<?xml version='1.0' encoding='UTF-8' more='x'?>",
            XmlError::NotWellFormed,
        ),
        ("<?xml?>", XmlError::Restricted),
        ("<?xml-stylesheet href='x'?>", XmlError::Restricted),
        (" <?xml version='1.0'?>", XmlError::Restricted),
        (
            "<?xml version='1.0'?><?xml version='1.0'?>",
            XmlError::Restricted,
        ),
        ("<!DOCTYPE x>", XmlError::Restricted),
        ("<!-- x -->", XmlError::Restricted),
        ("\u{FEFF}", XmlError::NotWellFormed),
        ("text", XmlError::NotWellFormed),
        ("</x>", XmlError::NotWellFormed),
        ("\0<", XmlError::UnsupportedEncoding),
        ("<\0", XmlError::UnsupportedEncoding),
    ];
    for (bad, reason) in cases {
        assert_eq!(error(&format!("{bad}{HEADER}")), Some(reason), "{bad}");
    }
    assert_eq!(
        frames_of(b"\xFE\xFF\0<", &[], Limits::before_authentication()).1,
        Some(XmlError::UnsupportedEncoding)
    );
}

#[test]
fn white_space_left_over_is_dropped_in_front_of_a_restarted_stream() {
    let mut framer = Framer::new(Limits::before_authentication());
    let mut buffer = BytesMut::from(HEADER);
    assert!(matches!(
        framer.next(&mut buffer),
        Ok(Some(Frame::Header(_)))
    ));
    framer.restart();
    buffer.extend_from_slice(b"\n<?xml version='1.0'?>");
    buffer.extend_from_slice(HEADER.as_bytes());
    assert_eq!(framer.next(&mut buffer), Ok(Some(header(HEADER))));
}

#[test]
fn what_a_stream_must_not_hold_is_refused() {
    let cases = [
        ("text", XmlError::BadFormat),
        ("<![CDATA[x]]>", XmlError::BadFormat),
        ("<!-- x -->", XmlError::Restricted),
        ("<!DOCTYPE x>", XmlError::Restricted),
        ("<?xml version='1.0'?>", XmlError::Restricted),
        ("<a><!-- x --></a>", XmlError::Restricted),
        ("<a><?pi x?></a>", XmlError::Restricted),
        ("<a><!ENTITY x></a>", XmlError::NotWellFormed),
        ("<a><![CDAT[x]]></a>", XmlError::NotWellFormed),
        ("<a <b/>", XmlError::NotWellFormed),
        ("<a x='<'/>", XmlError::NotWellFormed),
        ("<a/x>", XmlError::NotWellFormed),
        ("<>", XmlError::NotWellFormed),
        ("< a/>", XmlError::NotWellFormed),
        ("<<a/>", XmlError::NotWellFormed),
        ("<a></a<", XmlError::NotWellFormed),
        ("</stream>", XmlError::NotWellFormed),
        ("</stream:streams>", XmlError::NotWellFormed),
        ("</stream:stream x>", XmlError::NotWellFormed),
    ];
    for (input, reason) in cases {
        assert_eq!(error_in(input), Some(reason), "{input}");
    }
}

fn small() -> Limits {
    Limits {
        stanza_bytes_max: 200,
        depth_max: 3,
        elements_max: 5,
        attributes_max: 3,
        name_bytes_max: 20,
        attribute_bytes_max: 40,
        whitespace_bytes_max: 10,
        stream_bytes_max: 600,
        stream_elements_max: 12,
        ..Limits::before_authentication()
    }
}

/// The error of an input that is nowhere near its end.
fn limit(input: &str) -> Option<XmlError> {
    frames_of(format!("<s:stream>{input}").as_bytes(), &[], small()).1
}

#[test]
fn limits_hold_while_the_element_is_incomplete() {
    assert_eq!(limit(&format!("<a>{}", "x".repeat(197))), None);
    assert_eq!(
        limit(&format!("<a>{}", "x".repeat(198))),
        Some(XmlError::TooBig)
    );
    assert_eq!(
        limit(&format!("<a>{}</a>", "x".repeat(193))),
        None,
        "200 bytes are allowed"
    );
    assert_eq!(
        limit(&format!("<a{}", " ".repeat(199))),
        Some(XmlError::TooBig),
        "a start tag that never ends"
    );
    assert_eq!(limit("<a><b><c>"), None);
    assert_eq!(limit("<a><b><c><d"), Some(XmlError::TooDeep));
    assert_eq!(limit("<a><b/><b/><b/><b/>"), None);
    assert_eq!(
        limit("<a><b/><b/><b/><b/><b"),
        Some(XmlError::TooManyElements),
        "many small elements"
    );
    assert_eq!(limit("<a b='' c='' d=''"), None);
    assert_eq!(
        limit("<a b='' c='' d='' e='"),
        Some(XmlError::TooManyAttributes)
    );
    assert_eq!(limit(&format!("<{}", "a".repeat(20))), None);
    assert_eq!(
        limit(&format!("<{}", "a".repeat(21))),
        Some(XmlError::NameTooLong)
    );
    assert_eq!(
        limit(&format!("<a></{}", "a".repeat(21))),
        Some(XmlError::NameTooLong)
    );
    assert_eq!(
        limit(&format!("<a {}", "a".repeat(21))),
        Some(XmlError::NameTooLong)
    );
    assert_eq!(limit(&format!("<a b='{}", "a".repeat(40))), None);
    assert_eq!(
        limit(&format!("<a b='{}", "a".repeat(41))),
        Some(XmlError::AttributeTooLong)
    );
    assert_eq!(limit(&" ".repeat(10)), None);
    assert_eq!(limit(&" ".repeat(11)), Some(XmlError::TooMuchWhitespace));
    assert_eq!(
        limit("<a/> \n <a/>          <a/>"),
        None,
        "only white space in a row counts"
    );
}

#[test]
fn a_stranger_has_a_budget_for_the_whole_stream() {
    assert_eq!(limit(&"<a/>".repeat(11)), None);
    assert_eq!(limit(&"<a/>".repeat(12)), Some(XmlError::TooManyElements));
    assert_eq!(
        limit(&format!("<a>{}</a>", "x".repeat(190)).repeat(3)),
        Some(XmlError::TooBig)
    );
    let declaration = format!("<?xml {}", "x".repeat(200));
    assert_eq!(
        error(&declaration),
        Some(XmlError::TooBig),
        "a declaration that never ends"
    );
    let header = format!("<s {}", " ".repeat(10_000));
    assert_eq!(
        frames_of(header.as_bytes(), &[], Limits::before_authentication()).1,
        Some(XmlError::TooBig)
    );
}

#[test]
fn a_restart_gives_a_new_budget() {
    let mut framer = Framer::new(small());
    for _ in 0..20 {
        let mut buffer = BytesMut::from("<s:stream><a/><a/>");
        for _ in 0..3 {
            assert!(matches!(framer.next(&mut buffer), Ok(Some(_))));
        }
        framer.restart();
    }
}

#[test]
fn nothing_is_looked_at_twice() {
    // One byte at a time: quadratic scanning of this input would take hours.
    let mut framer = Framer::new(Limits {
        stanza_bytes_max: 4 << 20,
        ..Limits::after_authentication()
    });
    let mut buffer = BytesMut::from(HEADER);
    assert!(matches!(framer.next(&mut buffer), Ok(Some(_))));
    buffer.extend_from_slice(b"<a>");
    for _ in 0..1 << 20 {
        buffer.extend_from_slice(b"x");
        assert_eq!(framer.next(&mut buffer), Ok(None));
    }
    assert!(framer.is_inside());
    buffer.extend_from_slice(b"</a>");
    assert!(matches!(
        framer.next(&mut buffer),
        Ok(Some(Frame::Element(_)))
    ));
    assert!(!framer.is_inside());
}

#[test]
fn the_state_is_small() {
    assert!(size_of::<Framer>() - size_of::<Limits>() <= 80);
}

/// Pieces that streams are made of, sound and unsound.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => prop::sample::select(vec![
            "<a>", "</a>", "<a/>", "<b x='1' y=\"2\">", "</b>", "text", " ", "\n", "<![CDATA[", "]]>", "]", ">", "/>",
            "</s:stream>", "'", "\"", "<", "&amp;", "x='", "<a x='", "<a\t/", "é", "<?", "?>", "<!--", "-->",
        ]).prop_map(str::to_owned),
        1 => "[ <>/'\"a=!?\\[\\]-]{0,6}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_chunking_gives_the_same_frames_or_error(
        declared in any::<bool>(),
        pieces in prop::collection::vec(piece(), 0..40),
        cuts in prop::collection::vec(any::<usize>(), 0..20),
        limits in prop::sample::select(vec![small(), Limits::before_authentication(), Limits::after_authentication()]),
    ) {
        let declaration = if declared { "<?xml version='1.0'?>" } else { "" };
        let input = format!("{declaration}<s:stream a='1'>{}", pieces.concat());
        let whole = frames_of(input.as_bytes(), &[], limits);
        prop_assert_eq!(&frames_of(input.as_bytes(), &cuts, limits), &whole);
        let bytes: Vec<usize> = (0..input.len()).collect();
        prop_assert_eq!(&frames_of(input.as_bytes(), &bytes, limits), &whole);
    }

    #[test]
    fn any_bytes_in_any_chunking_give_the_same(
        input in prop::collection::vec(any::<u8>(), 0..200),
        cuts in prop::collection::vec(any::<usize>(), 0..20),
    ) {
        let whole = frames_of(&input, &[], small());
        prop_assert_eq!(frames_of(&input, &cuts, small()), whole);
    }
}
