use super::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 50);

fn client() -> Client {
    Client::new(MAC, Some("chat".to_owned()), 0x1234_5678, 0)
}

fn sent(actions: &[Action]) -> Vec<u8> {
    match actions {
        [Action::Send(payload)] => payload.clone(),
        other => panic!("one payload: {other:?}"),
    }
}

fn kind(payload: &[u8]) -> u8 {
    content(&options(&payload[FIXED..]), 53).expect("a kind")[0]
}

/// A server's answer to a payload.
fn answer(to: &[u8], kind: u8, address: Ipv4Addr, more: &[(u8, &[u8])]) -> Vec<u8> {
    let mut reply = to[..FIXED].to_vec();
    reply[0] = 2;
    reply[16..20].copy_from_slice(&address.octets());
    let server = SERVER.octets();
    for (kind, content) in [(53, &[kind][..]), (54, &server)].iter().chain(more) {
        reply.push(*kind);
        reply.push(content.len() as u8);
        reply.extend(*content);
    }
    reply.push(255);
    reply
}

const USUAL: &[(u8, &[u8])] = &[
    (1, &[255, 255, 255, 0]),
    (3, &[192, 0, 2, 1]),
    (6, &[192, 0, 2, 53, 0, 0, 0, 0]),
    (26, &[5, 180]),
    (42, &[192, 0, 2, 123]),
    (51, &[0, 0, 2, 88]),
];

/// A client with a lease of 600 s that began at 0.
fn bound() -> Client {
    let mut client = client();
    let discover = sent(&client.turn(0));
    assert_eq!(kind(&discover), DISCOVER);
    let request = sent(&client.receive(&answer(&discover, OFFER, ADDRESS, USUAL), 0));
    assert_eq!(kind(&request), REQUEST);
    let found = options(&request[FIXED..]);
    assert_eq!(content(&found, 50), Some(&ADDRESS.octets()[..]));
    assert_eq!(content(&found, 54), Some(&SERVER.octets()[..]));
    let actions = client.receive(&answer(&request, ACK, ADDRESS, USUAL), 0);
    let [Action::Hold(lease)] = &actions[..] else {
        panic!("a lease: {actions:?}");
    };
    assert_eq!(lease.prefix.address, IpAddr::from(ADDRESS));
    assert_eq!(lease.prefix.bits, 24);
    assert_eq!(lease.resolvers, [IpAddr::from([192, 0, 2, 53])]);
    assert_eq!(lease.time_servers, [IpAddr::from([192, 0, 2, 123])]);
    assert_eq!(lease.mtu, Some(1460));
    assert_eq!(lease.seconds, 600);
    assert_eq!(
        lease.routes,
        [route(Ipv4Addr::UNSPECIFIED, 0, Some(SERVER))]
    );
    client
}

#[test]
fn an_address_is_offered_requested_and_held() {
    let client = bound();
    assert_eq!(client.wake_ms(), 300_000);
    assert!(client.lease().is_some());
}

#[test]
fn silence_is_met_with_patience() {
    let mut client = client();
    let mut waits = Vec::new();
    let mut now_ms = 0;
    for _ in 0..8 {
        sent(&client.turn(now_ms));
        assert!(client.turn(now_ms).is_empty(), "nothing is due at once");
        waits.push(client.wake_ms() - now_ms);
        now_ms = client.wake_ms();
    }
    assert!(waits[0] >= FIRST_WAIT_MS && waits[7] >= LONGEST_WAIT_MS);
    assert!(waits.iter().all(|wait| *wait < LONGEST_WAIT_MS + 1000));
}

#[test]
fn a_lease_is_renewed_perhaps_with_another_address() {
    let mut client = bound();
    let request = sent(&client.turn(300_000));
    assert_eq!(kind(&request), REQUEST);
    assert_eq!(request[12..16], ADDRESS.octets(), "from its own address");
    let other = Ipv4Addr::new(192, 0, 2, 51);
    let actions = client.receive(&answer(&request, ACK, other, USUAL), 301_000);
    let [Action::Hold(lease)] = &actions[..] else {
        panic!("a lease: {actions:?}");
    };
    assert_eq!(lease.prefix.address, IpAddr::from(other));
    assert_eq!(client.wake_ms(), 601_000);
}

#[test]
fn a_lease_that_nobody_renews_ends() {
    let mut client = bound();
    let mut ends = Vec::new();
    let mut now_ms = 0;
    while now_ms < 700_000 {
        now_ms = client.wake_ms();
        if client.turn(now_ms).contains(&Action::Lose) {
            ends.push(now_ms);
        }
    }
    assert_eq!(ends, [600_000]);
    assert_eq!(client.lease(), None);
    assert_eq!(client.state, State::Selecting);
}

#[test]
fn a_server_that_says_no_ends_the_lease() {
    let mut client = bound();
    let request = sent(&client.turn(300_000));
    let actions = client.receive(&answer(&request, NAK, Ipv4Addr::UNSPECIFIED, &[]), 300_100);
    assert_eq!(actions, [Action::Lose]);
    assert!(client.turn(300_200).is_empty(), "not at once again");
    assert_eq!(kind(&sent(&client.turn(client.wake_ms()))), DISCOVER);
}

#[test]
fn classless_routes_count_instead_of_routers() {
    let mut client = client();
    let discover = sent(&client.turn(0));
    let request = sent(&client.receive(&answer(&discover, OFFER, ADDRESS, USUAL), 0));
    // A /32, its gateway on the link, and the default route through it.
    let options: &[(u8, &[u8])] = &[
        (1, &[255, 255, 255, 255]),
        (3, &[192, 0, 2, 1]),
        (121, &[32, 172, 31, 1, 1, 0, 0, 0, 0]),
        (121, &[0, 172, 31, 1, 1]),
    ];
    let actions = client.receive(&answer(&request, ACK, ADDRESS, options), 0);
    let [Action::Hold(lease)] = &actions[..] else {
        panic!("a lease: {actions:?}");
    };
    let gateway = Ipv4Addr::new(172, 31, 1, 1);
    assert_eq!(
        lease.routes,
        [
            route(gateway, 32, None),
            route(Ipv4Addr::UNSPECIFIED, 0, Some(gateway))
        ]
    );
    assert_eq!(lease.prefix.bits, 32);
}

#[test]
fn what_is_for_somebody_else_or_broken_is_nothing() {
    let mut client = client();
    let discover = sent(&client.turn(0));
    let offer = answer(&discover, OFFER, ADDRESS, USUAL);
    for at in [0, 4, 30, 236] {
        let mut other = offer.clone();
        other[at] ^= 0x40;
        assert!(client.receive(&other, 1).is_empty(), "byte {at}");
    }
    for len in 0..FIXED + 3 {
        assert!(client.receive(&offer[..len], 1).is_empty(), "{len}");
    }
    for bad in [
        Ipv4Addr::UNSPECIFIED,
        Ipv4Addr::BROADCAST,
        Ipv4Addr::LOCALHOST,
    ] {
        assert!(
            client
                .receive(&answer(&discover, OFFER, bad, USUAL), 1)
                .is_empty()
        );
    }
    let request = sent(&client.receive(&offer, 1));
    let odd_mask = answer(&request, ACK, ADDRESS, &[(1, &[255, 0, 255, 0])]);
    assert!(client.receive(&odd_mask, 2).is_empty());
}

#[test]
fn routes_that_do_not_fit_end_the_list() {
    assert!(classless(&[33, 1, 2, 3, 4, 5, 6, 7, 8, 9]).is_empty());
    assert!(classless(&[255; 64]).is_empty());
    assert!(classless(&[24, 10, 0]).is_empty());
    assert_eq!(classless(&[0; 5 * 100]).len(), ROUTES_MAX);
}

#[test]
fn only_the_server_that_was_asked_says_yes_and_only_that_of_the_lease_says_no() {
    let by_another = |mut reply: Vec<u8>| {
        // The content of option 54, behind option 53 of three bytes.
        reply[FIXED + 5..FIXED + 9].copy_from_slice(&[192, 0, 2, 66]);
        reply
    };
    let mut asking = client();
    let discover = sent(&asking.turn(0));
    let request = sent(&asking.receive(&answer(&discover, OFFER, ADDRESS, USUAL), 0));
    for kind in [ACK, NAK] {
        let reply = by_another(answer(&request, kind, ADDRESS, USUAL));
        assert_eq!(asking.receive(&reply, 0), []);
    }
    let mut client = bound();
    let renewal = sent(&client.turn(300_000));
    let no = answer(&renewal, NAK, ADDRESS, &[]);
    assert_eq!(client.receive(&by_another(no.clone()), 300_000), []);
    assert!(client.lease().is_some());
    assert_eq!(client.receive(&no, 300_000), [Action::Lose]);
}

#[test]
fn a_lease_is_renewed_when_its_server_says_within_bounds() {
    let renewed_ms = |t1: u32| {
        let mut client = client();
        let discover = sent(&client.turn(0));
        let t1 = t1.to_be_bytes();
        let more = [USUAL, &[(58, &t1[..])]].concat();
        let request = sent(&client.receive(&answer(&discover, OFFER, ADDRESS, &more), 0));
        client.receive(&answer(&request, ACK, ADDRESS, &more), 0);
        client.wake_ms()
    };
    assert_eq!(renewed_ms(10), 10_000);
    assert_eq!(renewed_ms(0), 5_000, "not at once for ever");
    assert_eq!(renewed_ms(u32::MAX), 525_000, "before the lease is over");
}
