//! Looking into documents of providers, whose fields are sometimes there and sometimes of another
//! type: everything is optional here, and what is not understood is absent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use super::DOCUMENT_BYTES_MAX;
use crate::machine::plan::{InterfacePlan, Prefix, Route};

/// Reads JSON within the bounds of a document; serde's own bound of 128 holds the depth.
pub fn json(bytes: &[u8]) -> Result<Value, String> {
    if bytes.len() > DOCUMENT_BYTES_MAX {
        return Err(format!(
            "it is longer than {} KiB",
            DOCUMENT_BYTES_MAX >> 10
        ));
    }
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

/// The text of a field; an empty one is absent.
#[must_use]
pub fn text<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key)?.as_str().filter(|text| !text.is_empty())
}

/// The members of a field that is a list; none where it is absent.
#[must_use]
pub fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value
        .get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The texts of a field that is a list of texts, or one text of several words.
#[must_use]
pub fn texts<'v>(value: &'v Value, key: &str) -> Vec<&'v str> {
    match value.get(key) {
        Some(Value::String(text)) => text
            .split([' ', ','])
            .filter(|text| !text.is_empty())
            .collect(),
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// A field that is true or false.
#[must_use]
pub fn flag(value: &Value, key: &str) -> Option<bool> {
    match value.get(key)? {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) => match text.as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// A field that is a number, or a text that is one.
#[must_use]
pub fn number<N: TryFrom<u64>>(value: &Value, key: &str) -> Option<N> {
    let number = match value.get(key)? {
        Value::Number(number) => number.as_u64()?,
        Value::String(text) => text.parse().ok()?,
        _ => return None,
    };
    N::try_from(number).ok()
}

/// The address in a field.
#[must_use]
pub fn address(value: &Value, key: &str) -> Option<IpAddr> {
    text(value, key)?.trim().parse().ok()
}

/// The addresses in a field that is a list of texts, or one text of several words.
#[must_use]
pub fn addresses(value: &Value, key: &str) -> Vec<IpAddr> {
    let texts = texts(value, key).into_iter();
    texts.filter_map(|text| text.parse().ok()).collect()
}

/// A hardware address: six pairs of digits, with `:`, `-` or nothing between.
#[must_use]
pub fn mac(text: &str) -> Option<[u8; 6]> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|byte| !matches!(byte, b':' | b'-'))
        .collect();
    if digits.len() != 12 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let digits = str::from_utf8(&digits).ok()?;
    let mut mac = [0; 6];
    for (index, byte) in mac.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(mac)
}

/// `address/bits`, or an address with a netmask or a number of bits beside it; without any of these
/// all bits count.
#[must_use]
pub fn prefix(address: &str, mask: Option<&Value>) -> Option<Prefix> {
    let (address, bits) = match address.trim().split_once('/') {
        Some((address, bits)) => (address.parse().ok()?, Some(bits.to_owned())),
        None => {
            let bits = mask.and_then(|mask| match mask {
                Value::String(text) => Some(text.clone()),
                Value::Number(number) => Some(number.to_string()),
                _ => None,
            });
            (address.trim().parse().ok()?, bits)
        }
    };
    let all = match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    };
    let bits = bits.map_or(Some(all), |bits| mask_bits(&bits))?;
    (bits <= all).then_some(Prefix { address, bits })
}

/// The leading ones of a mask; `None` where zeros stand between them.
fn mask_bits(text: &str) -> Option<u8> {
    let is_run = |ones: u32, leading: u32| (ones == leading).then_some(ones as u8);
    if let Ok(mask) = text.parse::<Ipv4Addr>() {
        let mask = mask.to_bits();
        return is_run(mask.count_ones(), mask.leading_ones());
    }
    if let Ok(mask) = text.parse::<Ipv6Addr>() {
        let mask = mask.to_bits();
        return is_run(mask.count_ones(), mask.leading_ones());
    }
    text.parse().ok()
}

/// `0.0.0.0/0` or `::/0`, whichever is of the kind of `like`.
#[must_use]
pub fn everything(like: IpAddr) -> Prefix {
    let address = match like {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    Prefix { address, bits: 0 }
}

/// Adds a route by way of `via`, which is on the link where no address of the interface says so.
/// Called when the addresses are there.
pub fn add_route(
    interface: &mut InterfacePlan,
    to: Prefix,
    via: Option<IpAddr>,
    metric: Option<u32>,
) {
    let on_link = via.is_some_and(|via| !is_near(interface, via));
    let route = Route {
        to,
        via,
        on_link,
        metric,
    };
    if !interface.routes.contains(&route) {
        interface.routes.push(route);
    }
    if to.bits == 0 && to.address.is_ipv6() {
        // Whoever states the default route does not mean the router's.
        interface.accept_ra = false;
    }
}

/// Whether the kernel knows a way to `via` without being told that it is on the link.
fn is_near(interface: &InterfacePlan, via: IpAddr) -> bool {
    match via {
        IpAddr::V6(via) if via.is_unicast_link_local() => true,
        _ => interface
            .addresses
            .iter()
            .any(|prefix| contains(prefix, via)),
    }
}

/// Whether an address is in the network of a prefix.
#[must_use]
pub fn contains(prefix: &Prefix, address: IpAddr) -> bool {
    match (prefix.address, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let differing = network.to_bits() ^ address.to_bits();
            differing.leading_zeros() >= u32::from(prefix.bits)
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let differing = network.to_bits() ^ address.to_bits();
            differing.leading_zeros() >= u32::from(prefix.bits)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_may_be_absent_or_of_another_type() {
        let value = json!({"name": "a", "empty": "", "mtu": "1450", "big": 70000, "on": "true", "dns": "192.0.2.1 2001:db8::1", "list": ["x", 1]});
        assert_eq!(text(&value, "name"), Some("a"));
        assert_eq!(
            (
                text(&value, "empty"),
                text(&value, "mtu2"),
                text(&value, "big")
            ),
            (None, None, None)
        );
        assert_eq!(
            (number(&value, "mtu"), number::<u16>(&value, "big")),
            (Some(1450u16), None)
        );
        assert_eq!(flag(&value, "on"), Some(true));
        assert_eq!(addresses(&value, "dns").len(), 2);
        assert_eq!(texts(&value, "list"), ["x"]);
        assert_eq!(list(&value, "name").len(), 0);
        assert_eq!(text(&json!([]), "name"), None);
    }

    #[test]
    fn hardware_addresses_have_several_spellings() {
        let address = Some([0, 0x0d, 0x3a, 0xff, 0x12, 0x34]);
        for text in ["00:0d:3a:ff:12:34", "000D3AFF1234", "00-0D-3A-FF-12-34"] {
            assert_eq!(mac(text), address, "{text}");
        }
        for text in ["", "00:0d:3a:ff:12", "00:0d:3a:ff:12:3g", "éé:0d:3a:ff"] {
            assert_eq!(mac(text), None, "{text}");
        }
    }

    #[test]
    fn masks_become_numbers_of_bits() {
        let bits =
            |address: &str, mask: Value| prefix(address, Some(&mask)).map(|prefix| prefix.bits);
        assert_eq!(bits("192.0.2.1", json!("255.255.240.0")), Some(20));
        assert_eq!(bits("192.0.2.1", json!("255.0.255.0")), None);
        assert_eq!(bits("192.0.2.1", json!(24)), Some(24));
        assert_eq!(bits("192.0.2.1/30", json!("255.255.240.0")), Some(30));
        assert_eq!(
            bits("2001:db8::1", json!("ffff:ffff:ffff:ffff::")),
            Some(64)
        );
        assert_eq!(bits("2001:db8::1/129", json!(null)), None);
        assert_eq!(bits("192.0.2.1/33", json!(null)), None);
        assert_eq!(bits("192.0.2.1", json!(null)), Some(32));
        assert_eq!(bits("nothing/3", json!(null)), None);
    }

    #[test]
    fn a_gateway_out_of_the_prefix_is_on_the_link() {
        let mut interface = InterfacePlan {
            addresses: vec![
                prefix("192.0.2.5/24", None).expect("one"),
                prefix("2001:db8::5/64", None).expect("one"),
            ],
            ..InterfacePlan::default()
        };
        for (via, on_link) in [
            ("192.0.2.1", false),
            ("172.31.1.1", true),
            ("fe80::1", false),
            ("2001:db8:1::1", true),
        ] {
            let via: IpAddr = via.parse().expect("an address");
            add_route(&mut interface, everything(via), Some(via), None);
            add_route(&mut interface, everything(via), Some(via), None);
            assert_eq!(
                interface.routes.last().map(|route| route.on_link),
                Some(on_link),
                "{via}"
            );
        }
        assert_eq!(interface.routes.len(), 4, "none twice");
        assert!(!interface.accept_ra);
    }
}
