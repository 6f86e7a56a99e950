//! Target `jid`: any text is an address or none, and an address is its own normal form.

use cairn::addr::{Jid, PART_BYTES_MAX, domain, is_lookalike_risk, lookalike_key};

/// Runs the target on one input; panics on a finding.
pub fn jid(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Ok(jid) = Jid::parse(text) else { return };
    assert!(jid.as_str().len() <= 3 * PART_BYTES_MAX + 2);
    let printed = format!("{jid}");
    assert_eq!(
        Jid::parse(&printed).as_ref(),
        Ok(&jid),
        "printed and parsed"
    );
    assert_eq!(
        Jid::from_parts(jid.local(), jid.domain(), jid.resource()).as_ref(),
        Ok(&jid),
        "taken apart and put together"
    );
    let bare = jid.bare();
    assert!(bare.is_bare() && bare.as_str() == jid.bare_str());
    assert_eq!(Jid::parse(bare.as_str()).as_ref(), Ok(&bare));
    if let Some(resource) = jid.resource() {
        assert_eq!(bare.with_resource(resource).as_ref(), Ok(&jid));
    }
    assert_eq!(jid.domain_jid().as_str(), jid.domain());
    if let Some(ascii) = domain::to_ascii(jid.domain()) {
        assert!(ascii.is_ascii());
        assert_eq!(
            domain::prepare(&ascii).as_deref(),
            Ok(jid.domain()),
            "as the DNS writes it"
        );
    }
    if let Some(local) = jid.local() {
        let _ = is_lookalike_risk(local);
        assert!(!lookalike_key(local).is_empty());
    }
}
