//! What Cairn's own TOML says about the network.

use crate::config::{self, Config, Machine, places};
use crate::machine::plan::{InterfacePlan, Plan, Prefix};

use super::value::{add_route, everything};

/// The network of a configuration; `None` where it names no address, or is not valid as a whole.
#[must_use]
pub fn network(toml: &str) -> Option<Plan> {
    // Limits follow the machine, but no limit is asked for here.
    let config = Config::parse(toml, &Machine::of_memory(1 << 30)).ok()?;
    plan(&config.network)
}

/// The same of a section that has been read. The addresses are those of the first interface, which
/// asks DHCPv4 where none of them is of IPv4, and hears routers unless it has a gateway of IPv6.
#[must_use]
pub fn plan(section: &config::Network) -> Option<Plan> {
    let addresses: Vec<Prefix> = section
        .addresses
        .iter()
        .filter_map(|text| places::prefix(text))
        .map(|(address, bits)| Prefix { address, bits })
        .collect();
    if addresses.is_empty() {
        return None;
    }
    let mut interface = InterfacePlan {
        dhcp4: !addresses.iter().any(|prefix| prefix.address.is_ipv4()),
        addresses,
        ..InterfacePlan::default()
    };
    for gateway in &section.gateways {
        add_route(&mut interface, everything(*gateway), Some(*gateway), None);
    }
    Some(Plan {
        interfaces: vec![interface],
        resolvers: section.resolvers.clone(),
        ..Plan::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_may_name_addresses_and_gateways() {
        let text = "domain = \"chat.example\"\n[network]\n\
                    addresses = [\"192.0.2.5/32\", \"2001:db8::5/64\"]\n\
                    gateways = [\"198.51.100.1\", \"fe80::1\"]\nresolvers = [\"192.0.2.53\"]\n";
        let plan = network(text).expect("a network");
        let [interface] = &plan.interfaces[..] else {
            panic!("one interface: {plan:?}");
        };
        assert!(!interface.dhcp4 && !interface.accept_ra);
        assert_eq!(interface.addresses.len(), 2);
        let routes: Vec<(String, bool)> = interface
            .routes
            .iter()
            .map(|route| (route.via.expect("a gateway").to_string(), route.on_link))
            .collect();
        assert_eq!(
            routes,
            [
                ("198.51.100.1".to_owned(), true),
                ("fe80::1".to_owned(), false)
            ]
        );
        assert_eq!(plan.resolvers.len(), 1);
    }

    #[test]
    fn ipv6_alone_leaves_ipv4_to_dhcp() {
        let text = "domain = \"chat.example\"\nnetwork.addresses = [\"2001:db8::5/64\"]\n";
        let plan = network(text).expect("a network");
        assert!(plan.interfaces[0].dhcp4 && plan.interfaces[0].accept_ra);
        for text in [
            "domain = \"chat.example\"\n",
            "network.addresses = 5",
            "broken",
        ] {
            assert_eq!(network(text), None);
        }
    }
}
