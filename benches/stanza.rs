//! What a stanza costs on its way through: framing, validation, head, forwarding.
#![allow(missing_docs, reason = "criterion's macros make undocumented items")]
#![allow(
    clippy::print_stderr,
    reason = "a bench talks to the person who runs it"
)]

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use cairn::addr::Jid;
use cairn::stanza::{FirstLevel, Rewrite, Stanza};
use cairn::xml::{Frame, Framer, Limits, StreamScope};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use quick_xml::events::Event;

/// A chat message as common clients send it, 428 bytes.
const MESSAGE: &str = "<message xmlns='jabber:client' type='chat' id='5f0b3c0e-8f9d-4b53-9a51-1f8d54e6c2aa' \
    to='romeo@montague.example/orchard'><body>Wherefore art thou, Romeo? &lt;3 I was waiting for you on the \
    balcony!!!!</body><active xmlns='http://jabber.org/protocol/chatstates'/><request xmlns='urn:xmpp:receipts'/>\
    <origin-id xmlns='urn:xmpp:sid:0' id='5f0b3c0e-8f9d-4b53-9a51-1f8d54e6c2aa'/>\
    <markable xmlns='urn:xmpp:chat-markers:0'/></message>";

const HEADER: &[u8] =
    b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";

fn framer() -> Framer {
    let mut framer = Framer::new(Limits::after_authentication());
    let header = framer.next(&mut BytesMut::from(HEADER));
    assert!(matches!(header, Ok(Some(Frame::Header(_)))));
    framer
}

fn stanza(scope: &StreamScope, limits: &Limits, bytes: Bytes) -> Stanza {
    match Stanza::parse(bytes, scope, limits) {
        Ok(FirstLevel::Stanza(stanza)) => stanza,
        other => panic!("{other:?}"),
    }
}

/// What a pull parser does with the same bytes, to read the other figures by: all events, all attributes.
fn events(xml: &str) -> usize {
    let mut reader = quick_xml::Reader::from_str(xml);
    let mut attributes = 0;
    loop {
        match reader.read_event().expect("well-formed") {
            Event::Eof => return attributes,
            Event::Start(tag) | Event::Empty(tag) => {
                attributes += tag.attributes().filter(Result::is_ok).count();
            }
            _ => {}
        }
    }
}

/// A read buffer as a connection that is sent many stanzas sees it.
fn read_buffer() -> BytesMut {
    let mut buffer = BytesMut::with_capacity(MESSAGE.len() * 8);
    for _ in 0..8 {
        buffer.extend_from_slice(MESSAGE.as_bytes());
    }
    buffer
}

fn through(c: &mut Criterion) {
    assert_eq!(MESSAGE.len(), 428);
    let scope = StreamScope::client();
    let limits = Limits::after_authentication();
    let from = Jid::parse("juliet@capulet.example/balcony").expect("an address");
    let to = Jid::parse("romeo@montague.example/orchard").expect("an address");
    let rewrite = Rewrite {
        from: Some(&from),
        to: Some(&to),
        ..Rewrite::default()
    };
    let parsed = stanza(&scope, &limits, Bytes::from_static(MESSAGE.as_bytes()));
    let outgoing = parsed.rewrite(&rewrite);
    eprintln!(
        "bytes copied a stanza: {} out of the read buffer, {} for the start tag of each recipient, 0 of {} behind it",
        MESSAGE.len(),
        outgoing.head.len(),
        outgoing.tail.len()
    );

    let mut group = c.benchmark_group("stanza");
    group.throughput(Throughput::Bytes(MESSAGE.len() as u64));
    group.bench_function("frame", |b| {
        let mut framer = framer();
        b.iter_batched_ref(
            read_buffer,
            |buffer| black_box(framer.next(buffer).expect("well-formed")),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("frame_and_head", |b| {
        let mut framer = framer();
        b.iter_batched_ref(
            read_buffer,
            |buffer| match framer.next(buffer) {
                Ok(Some(Frame::Element(bytes))) => black_box(stanza(&scope, &limits, bytes)),
                other => panic!("{other:?}"),
            },
            BatchSize::SmallInput,
        );
    });
    group.bench_function("yardstick_quick_xml_events", |b| {
        b.iter(|| events(black_box(MESSAGE)));
    });
    group.bench_function("head", |b| {
        b.iter(|| stanza(&scope, &limits, Bytes::from_static(MESSAGE.as_bytes())));
    });
    group.bench_function("rewrite", |b| {
        b.iter(|| black_box(&parsed).rewrite(&rewrite));
    });
    group.bench_function("all_children", |b| {
        b.iter(|| black_box(&parsed).children().count());
    });
    group.bench_function("find_child", |b| {
        b.iter(|| black_box(&parsed).has_child("markable", "urn:xmpp:chat-markers:0"));
    });
    group.finish();

    let mut group = c.benchmark_group("fan-out");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("1000", |b| {
        b.iter(|| {
            (0..1000)
                .map(|_| black_box(&parsed).rewrite(&rewrite))
                .collect::<Vec<_>>()
        });
    });
    group.finish();
}

fn large(c: &mut Criterion) {
    let scope = StreamScope::client();
    let limits = Limits::after_authentication();
    let xml = format!(
        "<iq type='set' id='1'><data xmlns='urn:xmpp:avatar:data'>{}</data></iq>",
        "QUJD".repeat(50_000)
    );
    let mut group = c.benchmark_group("large");
    group.throughput(Throughput::Bytes(xml.len() as u64));
    group.bench_function("frame_and_head", |b| {
        let mut framer = framer();
        b.iter_batched_ref(
            || BytesMut::from(xml.as_bytes()),
            |buffer| match framer.next(buffer) {
                Ok(Some(Frame::Element(bytes))) => black_box(stanza(&scope, &limits, bytes)),
                other => panic!("{other:?}"),
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, through, large);
criterion_main!(benches);
