//! Target `ra`: what a router says is read within bounds or not at all, and name servers that it
//! names are few and end.

use cairn::machine::net::advertised::Advertised;
use cairn::machine::net::ra::Advertisement;

/// Runs the target on one input; panics on a finding.
pub fn ra(data: &[u8]) {
    let Some(advertisement) = Advertisement::decode(data) else {
        return;
    };
    assert!(data.len() >= 16 && data.len().is_multiple_of(8));
    assert!(advertisement.resolvers.len() <= 8);
    assert!(advertisement.mtu.is_none_or(|mtu| mtu >= 1280));
    let mut routers = Advertised::new(None, 0);
    let has_changed = routers.receive(&advertisement, 1_000);
    assert_eq!(has_changed, routers.resolvers().next().is_some());
    assert!(!routers.receive(&advertisement, 1_000), "the same again");
    assert!(routers.solicit(2_000).is_none());
    while let Some(wake_ms) = routers.wake_ms() {
        assert!(wake_ms > 1_000);
        assert!(routers.expire(wake_ms), "something is over then");
    }
    assert!(routers.resolvers().next().is_none());
}
