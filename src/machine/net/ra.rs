//! Router advertisements and solicitations (RFC 4861 §4.1, §4.2), as bytes.

use std::net::Ipv6Addr;

use super::is_server;

/// The type of an advertisement.
pub const ADVERTISEMENT: u8 = 134;
const SOLICITATION: u8 = 133;
/// Bytes of an advertisement in front of its options.
const FIXED: usize = 16;
/// Name servers of one advertisement that are used.
const RESOLVERS_MAX: usize = 8;
/// No link of IPv6 has shorter packets (RFC 8200 §5).
const MTU_MIN: u32 = 1280;

const SOURCE_LINK_ADDRESS: u8 = 1;
const MTU: u8 = 5;
const RDNSS: u8 = 25;

/// What a router said, as far as it matters. Addresses and routes are the kernel's business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// Addresses are to be had from DHCPv6 (M).
    pub is_managed: bool,
    /// Other things than addresses are to be had from DHCPv6 (O).
    pub has_other: bool,
    /// How long this is a router that packets may go to, in seconds; 0: it is none.
    pub router_lifetime_s: u16,
    /// Bytes of a packet on this link.
    pub mtu: Option<u32>,
    /// Name servers. Link-local ones are left out.
    pub resolvers: Vec<Resolver>,
}

/// A name server that a router named (RFC 8106 §5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolver {
    /// Its address.
    pub address: Ipv6Addr,
    /// For how many seconds it may be asked; 0: no longer; `u32::MAX`: for ever.
    pub lifetime_s: u32,
}

impl Advertisement {
    /// Reads an ICMPv6 message. `None` for what RFC 4861 §6.1.2 calls invalid; who sent it and from
    /// how far is for the socket to know.
    #[must_use]
    pub fn decode(message: &[u8]) -> Option<Advertisement> {
        let fixed = message.get(..FIXED)?;
        if fixed[0] != ADVERTISEMENT || fixed[1] != 0 {
            return None;
        }
        let mut advertisement = Advertisement {
            is_managed: fixed[5] & 0x80 != 0,
            has_other: fixed[5] & 0x40 != 0,
            router_lifetime_s: u16::from_be_bytes([fixed[6], fixed[7]]),
            mtu: None,
            resolvers: Vec::new(),
        };
        let mut rest = &message[FIXED..];
        while !rest.is_empty() {
            // One option that is broken spoils the message.
            let len = usize::from(*rest.get(1)?) * 8;
            let option = rest.get(..len).filter(|option| !option.is_empty())?;
            advertisement.take(option);
            rest = &rest[len..];
        }
        Some(advertisement)
    }

    /// Takes a name server. What is said last of one that is named twice counts.
    fn resolver(&mut self, address: Ipv6Addr, lifetime_s: u32) {
        let known = self.resolvers.iter_mut().find(|one| one.address == address);
        if let Some(known) = known {
            known.lifetime_s = lifetime_s;
        } else if self.resolvers.len() < RESOLVERS_MAX && is_server(address) {
            self.resolvers.push(Resolver {
                address,
                lifetime_s,
            });
        }
    }

    /// Takes an option, at least 8 bytes of it. Unknown ones and those of a wrong length do not
    /// count (§4.6, RFC 8106 §5.3.1).
    fn take(&mut self, option: &[u8]) {
        let number =
            |at: usize| u32::from_be_bytes(std::array::from_fn(|offset| option[at + offset]));
        match (option[0], option.len() / 8) {
            (MTU, 1) => self.mtu = Some(number(4)).filter(|mtu| *mtu >= MTU_MIN),
            (RDNSS, units) if units >= 3 && units % 2 == 1 => {
                let lifetime_s = number(4);
                let (addresses, _) = option[8..].as_chunks::<16>();
                for address in addresses.iter().copied().map(Ipv6Addr::from) {
                    self.resolver(address, lifetime_s);
                }
            }
            _ => {}
        }
    }
}

/// Asks all routers to advertise at once. The kernel puts the checksum in.
#[must_use]
pub fn solicitation(mac: Option<[u8; 6]>) -> Vec<u8> {
    let mut message = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    if let Some(mac) = mac {
        message.extend([SOURCE_LINK_ADDRESS, 1]);
        message.extend(mac);
    }
    message
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIRST: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x53);
    const SECOND: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x54);

    /// By hand, after the figures of RFC 4861 §4.2 and §4.6 and RFC 8106 §5.1.
    fn usual() -> Vec<u8> {
        let mut message = vec![134, 0, 0x12, 0x34, 64, 0xc0, 7, 8];
        message.extend([0; 8]);
        message.extend([1, 1, 2, 0, 0, 0, 0, 9]);
        message.extend([5, 1, 0, 0, 0, 0, 5, 0xdc]);
        // A prefix, which is the kernel's.
        message.extend([3, 4, 64, 0xc0]);
        message.extend([0; 28]);
        message.extend([25, 5, 0, 0, 0, 0, 2, 88]);
        message.extend(FIRST.octets());
        message.extend(SECOND.octets());
        message
    }

    #[test]
    fn what_a_router_says_is_read() {
        let read = Advertisement::decode(&usual()).expect("an advertisement");
        assert!(read.is_managed && read.has_other);
        assert_eq!(read.router_lifetime_s, 0x0708);
        assert_eq!(read.mtu, Some(1500));
        let resolver = |address| Resolver {
            address,
            lifetime_s: 600,
        };
        assert_eq!(read.resolvers, [resolver(FIRST), resolver(SECOND)]);
        let mut plain = usual();
        plain[5] = 0;
        let read = Advertisement::decode(&plain).expect("an advertisement");
        assert!(!read.is_managed && !read.has_other);
    }

    #[test]
    fn what_is_said_last_of_a_name_server_counts() {
        let mut message = usual();
        message.extend([25, 3, 0, 0, 0, 0, 0, 0]);
        message.extend(FIRST.octets());
        let read = Advertisement::decode(&message).expect("an advertisement");
        let lifetimes = read
            .resolvers
            .iter()
            .map(|one| (one.address, one.lifetime_s));
        assert!(lifetimes.eq([(FIRST, 0), (SECOND, 600)]));
    }

    #[test]
    fn only_whole_messages_are_read() {
        let message = usual();
        // Where one option ends and the next begins there is a whole message as well.
        let whole = [16, 24, 32, 64];
        for len in 0..message.len() {
            let read = Advertisement::decode(&message[..len]);
            assert_eq!(read.is_some(), whole.contains(&len), "{len}");
        }
        for (at, byte) in [(0, 133), (1, 1), (17, 0), (25, 0), (17, 200)] {
            let mut broken = message.clone();
            broken[at] = byte;
            assert_eq!(Advertisement::decode(&broken), None, "byte {at}");
        }
    }

    #[test]
    fn an_option_of_a_wrong_length_does_not_count() {
        let header = usual()[..FIXED].to_vec();
        let mut even = [header.clone(), vec![25, 4, 0, 0, 0, 0, 2, 88]].concat();
        even.extend([0x20; 24]);
        let short = [header.clone(), vec![25, 1, 0, 0, 0, 0, 2, 88]].concat();
        let mut long_mtu = [header.clone(), vec![5, 2, 0, 0, 0, 0, 5, 0xdc]].concat();
        long_mtu.extend([0; 8]);
        let small_mtu = [header, vec![5, 1, 0, 0, 0, 0, 4, 0xff]].concat();
        for message in [even, short, long_mtu, small_mtu] {
            let read = Advertisement::decode(&message).expect("an advertisement");
            assert!(read.resolvers.is_empty() && read.mtu.is_none(), "{read:?}");
        }
    }

    #[test]
    fn name_servers_are_few_and_can_be_asked() {
        let mut message = usual()[..FIXED].to_vec();
        message.extend([25, 41, 0, 0, 0, 0, 2, 88]);
        for last in 0..20 {
            message.extend(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 1, last).octets());
        }
        let read = Advertisement::decode(&message).expect("an advertisement");
        assert_eq!(read.resolvers.len(), RESOLVERS_MAX);
        for bad in ["::", "::1", "ff02::1", "fe80::1"] {
            let bad: Ipv6Addr = bad.parse().expect("an address");
            let mut message = usual()[..FIXED].to_vec();
            message.extend([25, 3, 0, 0, 0, 0, 2, 88]);
            message.extend(bad.octets());
            let read = Advertisement::decode(&message).expect("an advertisement");
            assert!(read.resolvers.is_empty(), "{bad}");
        }
    }

    #[test]
    fn a_solicitation_tells_who_asks() {
        assert_eq!(solicitation(None), [133, 0, 0, 0, 0, 0, 0, 0]);
        let whole = solicitation(Some([2, 0, 0, 0, 0, 7]));
        assert_eq!(whole[8..], [1, 1, 2, 0, 0, 0, 0, 7]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            at in 0_usize..120,
        ) {
            let _ = Advertisement::decode(&bytes);
            let mut message = usual();
            for (byte, new) in message.iter_mut().skip(at).zip(bytes) {
                *byte = new;
            }
            if let Some(read) = Advertisement::decode(&message) {
                prop_assert!(read.resolvers.len() <= RESOLVERS_MAX);
            }
        }
    }
}
