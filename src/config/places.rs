//! Addresses and names of other machines, as the configuration writes them.

use std::net::IpAddr;

use super::keys::{Network, Time};

/// Entries of a list at most.
const ENTRIES_MAX: usize = 8;

/// An address and the bits of its network, such as `192.0.2.5/24`.
#[must_use]
pub fn prefix(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits: u8 = bits.parse().ok()?;
    let is_own = !(address.is_unspecified() || address.is_multicast() || address.is_loopback());
    ((1..=most).contains(&bits) && is_own).then_some((address, bits))
}

/// A name by the rules of RFC 1123 §2.1, without a dot at its end.
#[must_use]
pub fn is_hostname(name: &str) -> bool {
    let is_label = |label: &str| {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(is_part)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

/// A name or an address. What looks like an address of IPv4 and is none is no name either (RFC
/// 1123 §2.1: a top-level name is not all digits).
#[must_use]
pub fn is_host(text: &str) -> bool {
    let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    let is_name = || is_hostname(text) && !text.rsplit('.').next().is_some_and(is_number);
    text.parse::<IpAddr>().is_ok() || is_name()
}

impl Network {
    /// The error is a key and what is wrong with it.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        if let Some(wrong) = self.addresses.iter().find(|text| prefix(text).is_none()) {
            return Err((
                "addresses",
                format!("{wrong:?} is no address with its network; write \"192.0.2.5/24\""),
            ));
        }
        let lists = [
            ("addresses", self.addresses.len()),
            ("gateways", self.gateways.len()),
            ("resolvers", self.resolvers.len()),
        ];
        check_lengths(&lists)?;
        if self.addresses.is_empty() && !self.resolvers.is_empty() {
            return Err(("resolvers", "are of no use without addresses".to_owned()));
        }
        let own: Vec<IpAddr> = self
            .addresses
            .iter()
            .filter_map(|text| Some(prefix(text)?.0))
            .collect();
        for gateway in &self.gateways {
            if !own.iter().any(|own| own.is_ipv4() == gateway.is_ipv4()) {
                return Err((
                    "gateways",
                    format!("{gateway} is of no use without an address of its family in addresses"),
                ));
            }
        }
        Ok(())
    }
}

impl Time {
    /// The error is a key and what is wrong with it.
    pub(super) fn check(&self) -> Result<(), (&'static str, String)> {
        if let Some(wrong) = self.servers.iter().find(|text| !is_host(text)) {
            return Err((
                "servers",
                format!("{wrong:?} is neither a name nor an address; write \"ntp.example\""),
            ));
        }
        check_lengths(&[("servers", self.servers.len())])
    }
}

fn check_lengths(lists: &[(&'static str, usize)]) -> Result<(), (&'static str, String)> {
    match lists.iter().find(|(_, len)| *len > ENTRIES_MAX) {
        Some((key, len)) => Err((
            *key,
            format!("has {len} entries; at most {ENTRIES_MAX} count"),
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_addresses_of_a_machine_with_bits() {
        assert_eq!(prefix("192.0.2.5/24"), Some(([192, 0, 2, 5].into(), 24)));
        assert!(prefix("2001:db8::5/128").is_some());
        for wrong in [
            "192.0.2.5",
            "192.0.2.5/33",
            "::/0",
            "127.0.0.1/8",
            "a/8",
            "192.0.2.5/0",
        ] {
            assert_eq!(prefix(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn hosts_are_names_or_addresses() {
        for host in [
            "ntp.example",
            "ntp1",
            "192.0.2.1",
            "2001:db8::1",
            "1.ntp.example",
        ] {
            assert!(is_host(host), "{host}");
        }
        for wrong in [
            "",
            "-x",
            "a b",
            "192.0.2.256",
            "ntp.example.",
            "[::1]",
            "a:123",
        ] {
            assert!(!is_host(wrong), "{wrong}");
        }
    }
}
