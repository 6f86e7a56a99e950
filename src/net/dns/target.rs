//! From SRV records to an order of targets (RFC 2782, XEP-0368). Pure: randomness is an argument.

use super::PORT;

/// How a target is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// TLS from the first byte (XEP-0368).
    Direct,
    /// STARTTLS.
    StartTls,
}

/// A place where a domain's server may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// A name (A-labels, without the dot of the root) or an address.
    pub host: String,
    /// Never 0.
    pub port: u16,
    /// How it is spoken to.
    pub tls: Tls,
}

impl Target {
    /// The domain itself, which says of no other place (RFC 6120 §3.2.2).
    #[must_use]
    pub fn itself(domain: &str) -> Target {
        Target {
            host: domain.to_owned(),
            port: PORT,
            tls: Tls::StartTls,
        }
    }
}

/// An SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Srv {
    /// Lower ones first.
    pub priority: u16,
    /// Among those of one priority, how often it comes first.
    pub weight: u16,
    /// Where.
    pub target: Target,
}

/// Targets that are tried at most.
const TARGETS_MAX: usize = 16;

/// Orders the records of both services together: by priority, at random by weight within one
/// (RFC 2782). `random` gives a number below its argument.
pub fn order(mut records: Vec<Srv>, mut random: impl FnMut(u32) -> u32) -> Vec<Target> {
    records.retain(|record| record.target.port != 0 && !record.target.host.is_empty());
    // Those without weight come first, so that they have a small chance.
    records.sort_by_key(|record| (record.priority, record.weight));
    let mut targets = Vec::new();
    while let Some(first) = records.first() {
        let priority = first.priority;
        let of_priority = records.partition_point(|record| record.priority == priority);
        let sum = |records: &[Srv]| records.iter().map(|r| u32::from(r.weight)).sum::<u32>();
        let total = sum(&records[..of_priority]);
        let drawn = random(total.saturating_add(1));
        let mut so_far = 0;
        let chosen = records[..of_priority].iter().position(|record| {
            so_far += u32::from(record.weight);
            so_far >= drawn
        });
        targets.push(records.remove(chosen.unwrap_or(0)).target);
        if targets.len() == TARGETS_MAX {
            break;
        }
    }
    targets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn srv(priority: u16, weight: u16, host: &str, tls: Tls) -> Srv {
        Srv {
            priority,
            weight,
            target: Target {
                host: host.to_owned(),
                port: 5269,
                tls,
            },
        }
    }

    fn hosts(targets: &[Target]) -> Vec<&str> {
        targets.iter().map(|target| &*target.host).collect()
    }

    #[test]
    fn both_services_are_one_list_by_priority() {
        let records = vec![
            srv(20, 0, "c", Tls::StartTls),
            srv(10, 0, "b", Tls::Direct),
            srv(5, 0, "a", Tls::StartTls),
        ];
        assert_eq!(hosts(&order(records, |_| 0)), ["a", "b", "c"]);
    }

    #[test]
    fn weight_decides_within_a_priority() {
        let records = vec![
            srv(1, 10, "little", Tls::StartTls),
            srv(1, 90, "much", Tls::StartTls),
            srv(1, 0, "none", Tls::StartTls),
        ];
        assert_eq!(hosts(&order(records.clone(), |_| 0))[0], "none");
        assert_eq!(hosts(&order(records.clone(), |_| 10))[0], "little");
        assert_eq!(hosts(&order(records, |_| 11))[0], "much");
    }

    #[test]
    fn a_port_of_zero_is_no_target_and_too_many_are_cut() {
        let mut nowhere = srv(1, 1, "a", Tls::Direct);
        nowhere.target.port = 0;
        assert!(order(vec![nowhere], |_| 0).is_empty());
        let many = vec![srv(1, 1, "a", Tls::Direct); 100];
        assert_eq!(order(many, |_| 0).len(), TARGETS_MAX);
    }
}
