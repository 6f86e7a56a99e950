//! Target `netlink`: a datagram of the kernel is read as far as it is whole.

use cairn::machine::net::netlink::read;

/// Runs the target on one input; panics on a finding.
pub fn netlink(data: &[u8]) {
    let (links, addresses) = read(data);
    assert!((links.len() + addresses.len()) * 16 <= data.len());
    for link in &links {
        assert!(!link.name.is_empty() && !link.name.contains('\0'));
    }
    for (_, prefix) in &addresses {
        let bits = if prefix.address.is_ipv4() { 32 } else { 128 };
        assert!(prefix.bits <= bits);
        assert!(!prefix.address.is_loopback());
    }
    // What comes behind changes nothing of what came before.
    if let Some(half) = data.get(..data.len() / 2) {
        let (some, others) = read(half);
        assert_eq!(links[..some.len()], some);
        assert_eq!(addresses[..others.len()], others);
    }
}
