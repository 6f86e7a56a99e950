//! Target `dhcp`: clients of DHCPv4 and DHCPv6 hold what is within bounds, whatever servers say, and
//! always say when to go on.
//!
//! The first byte says which client: 4, 6, or 7 for one of DHCPv6 that wants no address. Then come
//! payloads, each behind a byte with flags and two with its length. Flag 1: the payload's transaction
//! is made to be the client's. Flag 2: time passes until the client wakes; flag 4: an hour more.

use std::net::IpAddr;

use cairn::machine::net::{dhcp4, dhcp6};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];
/// More are not read in an exchange; they would show nothing else.
const PAYLOADS_MAX: usize = 64;
const HOUR_MS: u64 = 3_600_000;

/// Runs the target on one input; panics on a finding.
pub fn dhcp(data: &[u8]) {
    match data.split_first() {
        Some((4, rest)) => four(rest),
        Some((6, rest)) => six(dhcp6::Wanted::Addresses, rest),
        Some((7, rest)) => six(dhcp6::Wanted::Information, rest),
        _ => {}
    }
}

fn four(mut rest: &[u8]) {
    let mut client = dhcp4::Client::new(MAC, Some("chat".to_owned()), 7, 0);
    let (mut now_ms, mut sent) = (0, Vec::new());
    for _ in 0..PAYLOADS_MAX {
        let mut actions = client.turn(now_ms);
        assert!(client.wake_ms() > now_ms);
        let Some((flags, mut payload)) = next(&mut rest) else {
            return;
        };
        remember(&mut sent, &actions, |action| match action {
            dhcp4::Action::Send(payload) => Some(payload),
            _ => None,
        });
        if flags & 1 != 0 && payload.len() >= 8 && sent.len() >= 8 {
            payload[4..8].copy_from_slice(&sent[4..8]);
        }
        actions.extend(client.receive(&payload, now_ms));
        for action in &actions {
            let dhcp4::Action::Hold(lease) = action else {
                continue;
            };
            assert!(lease.prefix.address.is_ipv4() && lease.prefix.bits <= 32);
            assert!(lease.routes.len() <= 32 && lease.seconds >= 60);
            assert!(lease.routes.iter().all(|route| route.to.bits <= 32));
            servers(&lease.resolvers);
            servers(&lease.time_servers);
        }
        remember(&mut sent, &actions, |action| match action {
            dhcp4::Action::Send(payload) => Some(payload),
            _ => None,
        });
        now_ms = later(now_ms, client.wake_ms(), flags);
    }
}

fn six(wanted: dhcp6::Wanted, mut rest: &[u8]) {
    let mut client = dhcp6::Client::new(MAC, wanted, 7, 0);
    let (mut now_ms, mut sent) = (client.wake_ms(), Vec::new());
    let mut is_held = false;
    for _ in 0..PAYLOADS_MAX {
        let mut actions = client.turn(now_ms);
        let Some((flags, mut payload)) = next(&mut rest) else {
            return;
        };
        remember(&mut sent, &actions, |action| match action {
            dhcp6::Action::Send(payload) => Some(payload),
            _ => None,
        });
        if flags & 1 != 0 && payload.len() >= 4 && sent.len() >= 4 {
            payload[1..4].copy_from_slice(&sent[1..4]);
        }
        actions.extend(client.receive(&payload, now_ms));
        for action in &actions {
            match action {
                dhcp6::Action::Send(payload) => assert!(payload.len() < 512),
                dhcp6::Action::Hold(lease) => {
                    six_lease(wanted, lease);
                    is_held = !lease.addresses.is_empty();
                }
                dhcp6::Action::Lose => assert!(std::mem::take(&mut is_held)),
            }
        }
        remember(&mut sent, &actions, |action| match action {
            dhcp6::Action::Send(payload) => Some(payload),
            _ => None,
        });
        now_ms = later(now_ms, client.wake_ms(), flags);
    }
}

fn six_lease(wanted: dhcp6::Wanted, lease: &dhcp6::Lease) {
    let has_addresses = !lease.addresses.is_empty();
    assert_eq!(has_addresses, wanted == dhcp6::Wanted::Addresses);
    assert!(lease.addresses.len() <= 4);
    for lent in &lease.addresses {
        assert!(lent.preferred_s <= lent.valid_s);
        assert!(!lent.address.is_multicast() && !lent.address.is_unspecified());
    }
    servers(&lease.resolvers);
    servers(&lease.time_servers);
}

fn servers(servers: &[IpAddr]) {
    assert!(servers.len() <= 8);
    assert!(servers.iter().all(|server| !server.is_multicast()));
}

/// The flags and the payload that come next.
fn next(rest: &mut &[u8]) -> Option<(u8, Vec<u8>)> {
    let (head, behind) = rest.split_at_checked(3)?;
    let len = usize::from(u16::from_be_bytes([head[1], head[2]]));
    let (payload, behind) = behind.split_at(len.min(behind.len()));
    *rest = behind;
    Some((head[0], payload.to_vec()))
}

/// The last message that the client has sent.
fn remember<A>(sent: &mut Vec<u8>, actions: &[A], payload: fn(&A) -> Option<&Vec<u8>>) {
    if let Some(last) = actions.iter().filter_map(payload).next_back() {
        sent.clone_from(last);
    }
}

fn later(now_ms: u64, wake_ms: u64, flags: u8) -> u64 {
    let woken_ms = match flags & 2 {
        0 => now_ms,
        // What is for ever is not waited for.
        _ => now_ms.max(wake_ms.min(now_ms + 1_000 * HOUR_MS)),
    };
    woken_ms + if flags & 4 != 0 { HOUR_MS } else { 0 }
}
