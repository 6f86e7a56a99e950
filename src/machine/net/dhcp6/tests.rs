use proptest::prelude::*;

use super::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];
const SERVER: &[u8] = &[0, 3, 0, 1, 2, 0, 0, 0, 0, 1];
const OTHER: &[u8] = &[0, 3, 0, 1, 2, 0, 0, 0, 0, 2];
const ADDRESS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 1, 0x50);
const NEXT: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 1, 0x51);
const RESOLVER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x53);
const TIME_SERVER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x123);

const ADVERTISE: u8 = 2;
const REPLY: u8 = 7;

fn client() -> Client {
    Client::new(MAC, Wanted::Addresses, 0x1234_5678, 0)
}

/// The message that a client sends when it is due.
fn due(client: &mut Client) -> (u64, Vec<u8>) {
    let now_ms = client.wake_ms();
    (now_ms, sent(&client.turn(now_ms)))
}

fn sent(actions: &[Action]) -> Vec<u8> {
    match actions {
        [Action::Send(payload)] => payload.clone(),
        other => panic!("one payload: {other:?}"),
    }
}

fn lease(actions: &[Action]) -> Lease {
    match actions {
        [Action::Hold(lease)] => (**lease).clone(),
        other => panic!("a lease: {other:?}"),
    }
}

fn option(kind: u16, content: &[u8]) -> Vec<u8> {
    let len = content.len() as u16;
    [&kind.to_be_bytes()[..], &len.to_be_bytes(), content].concat()
}

/// An IA_NA of the test's client.
fn association(t1: u32, t2: u32, parts: &[Vec<u8>]) -> Vec<u8> {
    let head = [&MAC[2..], &t1.to_be_bytes(), &t2.to_be_bytes()].concat();
    option(3, &[head, parts.concat()].concat())
}

fn address(address: Ipv6Addr, preferred: u32, valid: u32) -> Vec<u8> {
    let times = [preferred.to_be_bytes(), valid.to_be_bytes()].concat();
    option(5, &[&address.octets()[..], &times].concat())
}

fn status(code: u16) -> Vec<u8> {
    option(13, &[&code.to_be_bytes()[..], b"because"].concat())
}

/// A server's answer to a payload.
fn answer_of(server: &[u8], to: &[u8], kind: u8, more: &[Vec<u8>]) -> Vec<u8> {
    let mut answer = vec![kind];
    answer.extend(&to[1..4]);
    answer.extend(option(1, &[0, 3, 0, 1, 2, 0, 0, 0, 0, 7]));
    answer.extend(option(2, server));
    answer.extend(more.concat());
    answer
}

fn answer(to: &[u8], kind: u8, more: &[Vec<u8>]) -> Vec<u8> {
    answer_of(SERVER, to, kind, more)
}

fn usual() -> Vec<Vec<u8>> {
    let time_server = [
        option(2, &[0xff; 16]),
        option(1, &TIME_SERVER.octets()),
        option(3, b"\x04time\x07example\x00"),
    ];
    vec![
        association(300, 480, &[address(ADDRESS, 500, 600)]),
        option(23, &[RESOLVER.octets(), [0; 16]].concat()),
        option(56, &time_server.concat()),
        option(24, b"\x07example\x00"),
    ]
}

/// The content of an option that a client has sent.
fn content(message: &[u8], kind: u16) -> Option<Vec<u8>> {
    let mut rest = &message[4..];
    while !rest.is_empty() {
        let len = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
        if rest[..2] == kind.to_be_bytes() {
            return Some(rest[4..4 + len].to_vec());
        }
        rest = &rest[4 + len..];
    }
    None
}

/// A client that has been offered something, and what it asks for then.
fn requesting() -> (Client, u64, Vec<u8>) {
    let mut client = client();
    let (now_ms, solicit) = due(&mut client);
    assert!(
        client
            .receive(&answer(&solicit, ADVERTISE, &usual()), now_ms)
            .is_empty()
    );
    let (now_ms, request) = due(&mut client);
    (client, now_ms, request)
}

/// A client with a lease of 600 s, and when that began.
fn bound() -> (Client, u64) {
    let (mut client, now_ms, request) = requesting();
    let held = lease(&client.receive(&answer(&request, REPLY, &usual()), now_ms));
    assert_eq!(
        held,
        Lease {
            addresses: vec![Lent {
                address: ADDRESS,
                preferred_s: 500,
                valid_s: 600
            }],
            resolvers: vec![RESOLVER.into()],
            time_servers: vec![TIME_SERVER.into()],
        }
    );
    (client, now_ms)
}

/// By hand, after the figures of RFC 8415 §8, §21.
#[test]
fn a_solicit_is_as_the_rfc_draws_it() {
    let mut client = client();
    let (_, solicit) = due(&mut client);
    assert_eq!(solicit[0], 1);
    let rest = [
        &[0, 1, 0, 10, 0, 3, 0, 1, 2, 0, 0, 0, 0, 7][..],
        &[0, 8, 0, 2, 0, 0],
        &[0, 3, 0, 12, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0, 6, 0, 6, 0, 23, 0, 56, 0, 82],
    ];
    assert_eq!(solicit[4..], rest.concat());
}

#[test]
fn an_address_is_offered_requested_and_held() {
    let (_, _, request) = requesting();
    assert_eq!(request[0], 3);
    assert_eq!(content(&request, 2).as_deref(), Some(SERVER));
    let wanted = content(&request, 3).expect("an association");
    assert_eq!(wanted[16..32], ADDRESS.octets());
    let (client, now_ms) = bound();
    assert_eq!(client.wake_ms(), now_ms + 300_000);
}

#[test]
fn offers_are_compared_for_a_second() {
    let mut client = client();
    let (begun_ms, solicit) = due(&mut client);
    let preferred = |preference| [usual(), vec![option(7, &[preference])]].concat();
    let offers = [
        answer(&solicit, ADVERTISE, &usual()),
        answer_of(OTHER, &solicit, ADVERTISE, &preferred(9)),
        answer(&solicit, ADVERTISE, &preferred(9)),
    ];
    for offer in offers {
        assert!(client.receive(&offer, begun_ms).is_empty());
    }
    let (now_ms, request) = due(&mut client);
    assert!((1_001..=1_101).contains(&(now_ms - begun_ms)));
    assert_eq!(
        content(&request, 2).as_deref(),
        Some(OTHER),
        "the first best"
    );
}

#[test]
fn the_best_offer_and_a_late_one_are_taken_at_once() {
    let mut first = client();
    let (now_ms, solicit) = due(&mut first);
    let best = [usual(), vec![option(7, &[255])]].concat();
    let request = sent(&first.receive(&answer(&solicit, ADVERTISE, &best), now_ms));
    assert_eq!(request[0], 3);
    let mut second = client();
    let (_, solicit) = due(&mut second);
    let (now_ms, again) = due(&mut second);
    assert_eq!(again[..4], solicit[..4], "the same transaction");
    assert_ne!(content(&again, 8), content(&solicit, 8), "time has passed");
    let request = sent(&second.receive(&answer(&solicit, ADVERTISE, &usual()), now_ms));
    assert_eq!(request[0], 3);
}

#[test]
fn an_offer_of_nothing_is_none_but_says_how_long_to_wait() {
    let mut client = client();
    let (now_ms, solicit) = due(&mut client);
    let longest = option(82, &120_u32.to_be_bytes());
    for nothing in [
        vec![status(2), longest],
        vec![association(0, 0, &[status(2)])],
        vec![association(0, 0, &[])],
        vec![association(0, 0, &[address(ADDRESS, 0, 0)])],
        vec![option(82, &[0, 0, 0, 1])],
    ] {
        let advertise = answer(&solicit, ADVERTISE, &nothing);
        assert!(client.receive(&advertise, now_ms).is_empty());
    }
    assert_eq!(client.state, State::Soliciting { best: None });
    let mut waits = Vec::new();
    for _ in 0..12 {
        let (now_ms, _) = due(&mut client);
        waits.push(client.wake_ms() - now_ms);
    }
    assert!(
        waits[11] >= 108_000 && waits.iter().all(|wait| *wait <= 132_000),
        "{waits:?}"
    );
}

#[test]
fn silence_is_met_with_patience() {
    let mut client = client();
    assert!(client.wake_ms() < DELAY_MS);
    let mut waits = Vec::new();
    for _ in 0..16 {
        let (now_ms, solicit) = due(&mut client);
        assert_eq!(solicit[0], 1);
        assert!(client.turn(now_ms).is_empty(), "nothing is due at once");
        waits.push(client.wake_ms() - now_ms);
    }
    assert!((1_001..=1_101).contains(&waits[0]), "{waits:?}");
    for pair in waits[..12].windows(2) {
        let factor = pair[1] as f64 / pair[0] as f64;
        assert!((1.89..=2.11).contains(&factor), "{waits:?}");
    }
    assert!((3_240_000..=3_960_000).contains(&waits[15]), "{waits:?}");
}

#[test]
fn a_server_that_offers_and_then_is_silent_is_left() {
    let (mut client, _, _) = requesting();
    let mut requests = 1;
    loop {
        let now_ms = client.wake_ms();
        match &client.turn(now_ms)[..] {
            [] => break,
            [Action::Send(payload)] if payload[0] == 3 => requests += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(requests, REQUESTS_MAX);
    assert_eq!(due(&mut client).1[0], 1);
}

#[test]
fn a_server_that_takes_back_its_offer_is_not_asked_at_once_again() {
    for refusal in [status(4), association(0, 0, &[status(2)]), status(1)] {
        let (mut client, now_ms, request) = requesting();
        assert!(
            client
                .receive(&answer(&request, REPLY, &[refusal]), now_ms)
                .is_empty()
        );
        let (then_ms, solicit) = due(&mut client);
        assert_eq!((solicit[0], then_ms), (1, now_ms + REFUSED_MS));
    }
}

#[test]
fn a_lease_is_renewed_by_its_server() {
    let (mut client, begun_ms) = bound();
    let (now_ms, renew) = due(&mut client);
    assert_eq!((renew[0], now_ms), (5, begun_ms + 300_000));
    assert_eq!(content(&renew, 2).as_deref(), Some(SERVER));
    let wanted = content(&renew, 3).expect("an association");
    assert_eq!(wanted[16..32], ADDRESS.octets());
    let other = answer_of(OTHER, &renew, REPLY, &usual());
    assert!(client.receive(&other, now_ms).is_empty(), "not asked");
    let held = lease(&client.receive(&answer(&renew, REPLY, &usual()), now_ms + 500));
    assert_eq!(held.addresses[0].valid_s, 600);
    assert_eq!(client.wake_ms(), now_ms + 300_500);
}

#[test]
fn a_server_that_is_gone_leaves_its_lease_to_others() {
    let (mut client, begun_ms) = bound();
    let (mut kinds, mut rebind) = (Vec::new(), Vec::new());
    while !kinds.contains(&6) {
        let (now_ms, message) = due(&mut client);
        assert_eq!(message[0] == 6, now_ms >= begun_ms + 480_000);
        kinds.push(message[0]);
        rebind = message;
    }
    assert!((4..=8).contains(&kinds.len()), "{kinds:?}");
    assert_eq!(content(&rebind, 2), None, "any server");
    let reply = answer_of(OTHER, &rebind, REPLY, &usual());
    lease(&client.receive(&reply, begun_ms + 481_000));
    let (_, renew) = due(&mut client);
    assert_eq!(content(&renew, 2).as_deref(), Some(OTHER));
}

#[test]
fn a_lease_that_nobody_renews_ends() {
    let (mut client, begun_ms) = bound();
    let mut ends = Vec::new();
    while client.wake_ms() < begun_ms + 700_000 {
        let now_ms = client.wake_ms();
        if client.turn(now_ms).contains(&Action::Lose) {
            ends.push(now_ms);
        }
    }
    assert_eq!(ends, [begun_ms + 600_000]);
    assert_eq!(client.state, State::Soliciting { best: None });
}

#[test]
fn a_clock_that_leaps_ends_the_lease_as_well() {
    let (mut client, begun_ms) = bound();
    assert_eq!(client.turn(begun_ms + 10_000_000), [Action::Lose]);
    assert_eq!(due(&mut client).1[0], 1);
}

#[test]
fn a_server_that_has_forgotten_is_asked_again() {
    let (mut client, _) = bound();
    let (now_ms, renew) = due(&mut client);
    let forgot = answer(&renew, REPLY, &[association(0, 0, &[status(3)])]);
    let request = sent(&client.receive(&forgot, now_ms));
    assert_eq!(request[0], 3);
    let changed = association(300, 480, &[address(ADDRESS, 0, 0), address(NEXT, 500, 600)]);
    let held = lease(&client.receive(&answer(&request, REPLY, &[changed]), now_ms));
    let addresses: Vec<Ipv6Addr> = held.addresses.iter().map(|lent| lent.address).collect();
    assert_eq!(addresses, [NEXT]);
}

#[test]
fn an_address_that_is_taken_back_is_lost() {
    let (mut client, _) = bound();
    let (now_ms, renew) = due(&mut client);
    let back = association(0, 0, &[address(ADDRESS, 0, 0)]);
    let actions = client.receive(&answer(&renew, REPLY, &[back]), now_ms);
    assert_eq!(actions, [Action::Lose]);
    let (then_ms, solicit) = due(&mut client);
    assert_eq!((solicit[0], then_ms), (1, now_ms + REFUSED_MS));
}

#[test]
fn an_address_that_a_reply_does_not_name_stays() {
    let (mut client, begun_ms) = bound();
    let (now_ms, renew) = due(&mut client);
    let none = answer(&renew, REPLY, &[association(0, 0, &[])]);
    assert!(client.receive(&none, now_ms).is_empty());
    let more = answer(
        &renew,
        REPLY,
        &[association(0, 0, &[address(NEXT, 900, 900)])],
    );
    let held = lease(&client.receive(&more, now_ms));
    assert_eq!(held.addresses.len(), 2);
    assert_eq!(held.addresses[0].valid_s, 300, "the rest of 600 s");
    assert_eq!(now_ms, begun_ms + 300_000);
    // T1 is half of the shortest preferred time, which has 200 s left.
    assert_eq!(client.wake_ms(), now_ms + 100_000);
}

#[test]
fn what_is_lent_for_ever_is_not_renewed() {
    let (mut client, now_ms, request) = requesting();
    let ever = u32::MAX;
    let reply = association(0, 0, &[address(ADDRESS, ever, ever)]);
    let held = lease(&client.receive(&answer(&request, REPLY, &[reply]), now_ms));
    assert_eq!(held.addresses[0].valid_s, ever);
    assert_eq!(client.wake_ms(), u64::MAX);
}

#[test]
fn times_that_come_too_late_are_not_waited_for() {
    let (mut client, now_ms, request) = requesting();
    let late = association(700, 900, &[address(ADDRESS, 500, 600)]);
    lease(&client.receive(&answer(&request, REPLY, &[late]), now_ms));
    assert_eq!(client.wake_ms(), now_ms + 250_000);
}

#[test]
fn no_server_is_asked_all_the_time() {
    let (mut client, now_ms, request) = requesting();
    let hasty = association(1, 1, &[address(ADDRESS, 500, 600)]);
    lease(&client.receive(&answer(&request, REPLY, &[hasty]), now_ms));
    assert_eq!(client.wake_ms(), now_ms + 10_000);
}

#[test]
fn information_is_asked_for_without_addresses_and_after_a_time_again() {
    let mut client = Client::new(MAC, Wanted::Information, 7, 0);
    let (now_ms, request) = due(&mut client);
    assert_eq!(request[0], 11);
    assert_eq!(content(&request, 3), None);
    let wanted = content(&request, 6).expect("options");
    assert_eq!(wanted, [0, 23, 0, 56, 0, 32, 0, 83]);
    assert!(
        client
            .receive(&answer(&request, REPLY, &[status(1)]), now_ms)
            .is_empty()
    );
    let mut reply = usual();
    reply.remove(0);
    reply.push(option(32, &1_000_u32.to_be_bytes()));
    let held = lease(&client.receive(&answer(&request, REPLY, &reply), now_ms));
    assert!(held.addresses.is_empty());
    assert_eq!(held.resolvers, [IpAddr::from(RESOLVER)]);
    assert_eq!(held.time_servers, [IpAddr::from(TIME_SERVER)]);
    assert_eq!(client.wake_ms(), now_ms + 1_000_000);
    let (now_ms, again) = due(&mut client);
    assert_eq!(again[0], 11);
    lease(&client.receive(&answer(&again, REPLY, &[]), now_ms));
    assert_eq!(client.wake_ms(), now_ms + 86_400_000);
}

#[test]
fn what_is_for_somebody_else_or_broken_is_nothing() {
    let (mut client, now_ms, request) = requesting();
    let reply = answer(&request, REPLY, &usual());
    // Kind, transaction, the client's identity, the server's.
    for at in [0, 1, 3, 12, 26] {
        let mut other = reply.clone();
        other[at] ^= 0x10;
        assert!(client.receive(&other, now_ms).is_empty(), "byte {at}");
    }
    let mut ends = vec![reply.len()];
    for len in 0..reply.len() {
        if !client.receive(&reply[..len], now_ms).is_empty() {
            ends.push(len);
            (client, ..) = requesting();
        }
    }
    // A message that ends after an option is whole.
    let shorter: usize = usual()[1..].iter().map(Vec::len).sum();
    assert_eq!(ends[1], reply.len() - shorter);
    assert_eq!(ends.len(), 4, "{ends:?}");
    let huge = answer_of(&[7; 131], &request, REPLY, &usual());
    assert!(client.receive(&huge, now_ms).is_empty(), "too long a DUID");
}

#[test]
fn an_association_that_makes_no_sense_is_nothing() {
    let mut other_id = association(300, 480, &[address(ADDRESS, 500, 600)]);
    other_id[7] ^= 1;
    let mut cut = association(300, 480, &[address(ADDRESS, 500, 600)[..20].to_vec()]);
    cut.truncate(4 + 12 + 20);
    for nonsense in [
        other_id,
        cut,
        association(480, 300, &[address(ADDRESS, 500, 600)]),
        association(300, 480, &[address(ADDRESS, 601, 600)]),
        association(
            300,
            480,
            &[address("ff02::1".parse().expect("one"), 500, 600)],
        ),
        association(300, 480, &[address(Ipv6Addr::UNSPECIFIED, 500, 600)]),
    ] {
        let (mut client, now_ms, request) = requesting();
        let reply = answer(&request, REPLY, std::slice::from_ref(&nonsense));
        assert!(client.receive(&reply, now_ms).is_empty(), "{nonsense:?}");
        assert!(client.held.is_empty());
    }
}

#[test]
fn lists_are_bounded() {
    let (mut client, now_ms, request) = requesting();
    let lent: Vec<Vec<u8>> = (0..100)
        .map(|last| address(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 2, last), 500, 600))
        .collect();
    let servers = vec![0x20; 16 * 100];
    let reply = [
        association(300, 480, &lent),
        option(23, &servers),
        option(56, &option(1, &[0x20; 16]).repeat(100)),
    ];
    let held = lease(&client.receive(&answer(&request, REPLY, &reply), now_ms));
    assert_eq!(held.addresses.len(), ADDRESSES_MAX);
    assert_eq!((held.resolvers.len(), held.time_servers.len()), (8, 8));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..64),
        at in 4_usize..200,
        kind in prop::sample::select(&[ADVERTISE, REPLY][..]),
        leap_ms in 0_u64..10_000_000,
    ) {
        let mut client = client();
        let mut now_ms = 0;
        for _ in 0..8 {
            now_ms = now_ms.max(client.wake_ms().min(now_ms + leap_ms));
            let actions = client.turn(now_ms);
            let Some(Action::Send(message)) = actions.last() else {
                continue;
            };
            let mut reply = answer(message, kind, &usual());
            for (byte, new) in reply.iter_mut().skip(at).zip(&bytes) {
                *byte = *new;
            }
            client.receive(&reply, now_ms);
            let whole = answer(message, if message[0] == 1 { ADVERTISE } else { REPLY }, &usual());
            client.receive(&whole, now_ms);
            client.receive(&bytes, now_ms);
            prop_assert!(client.held.len() <= ADDRESSES_MAX);
        }
    }
}
