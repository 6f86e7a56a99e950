//! Records in the form of a zone file (RFC 1035 §5.1), to be copied as they are.

use std::net::IpAddr;

use super::facts::{Offer, Way};
use crate::net::dns::is_public;

/// How long others may remember a record that is proposed, in seconds.
const TTL_S: u32 = 3_600;

/// A service record.
pub(super) fn service(way: Way, domain: &str, host: &str, port: u16) -> String {
    format!(
        "{}.{domain}. {TTL_S} IN SRV 5 0 {port} {host}.",
        way.service()
    )
}

/// Address records for a host: those of this machine, as far as it knows them.
pub(super) fn addresses(host: &str, offer: &Offer) -> String {
    let public: Vec<&IpAddr> = offer.outgoing.iter().filter(|ip| is_public(**ip)).collect();
    if public.is_empty() {
        return format!(
            "{host}. {TTL_S} IN A <the IPv4 address that this server is reached at>\n\
             {host}. {TTL_S} IN AAAA <its IPv6 address, if it has one>"
        );
    }
    let record = |address: &&IpAddr| {
        let type_ = if address.is_ipv4() { "A" } else { "AAAA" };
        format!("{host}. {TTL_S} IN {type_} {address}")
    };
    public.iter().map(record).collect::<Vec<_>>().join("\n")
}

/// A record that names a key (DANE-EE, SHA-256 of the public key; RFC 7671 §5.1).
pub(super) fn key(host: &str, port: u16, key_sha256: &str) -> String {
    format!("_{port}._tcp.{host}. {TTL_S} IN TLSA 3 1 1 {key_sha256}")
}

/// A record that lets an authority issue certificates.
pub(super) fn issuer(domain: &str, issuer: &str) -> String {
    format!("{domain}. {TTL_S} IN CAA 0 issue \"{issuer}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_this_machine_s_where_those_are_public() {
        let with = |outgoing: &[&str]| Offer {
            outgoing: outgoing
                .iter()
                .map(|text| text.parse().expect("an address"))
                .collect(),
            ..Offer::default()
        };
        let proposed = addresses("chat.example", &with(&["10.0.0.7"]));
        assert!(proposed.contains("IN A <the IPv4 address"), "{proposed}");
        assert_eq!(
            addresses("chat.example", &with(&["1.1.1.1", "2a01::1"])),
            "chat.example. 3600 IN A 1.1.1.1\nchat.example. 3600 IN AAAA 2a01::1"
        );
    }
}
