//! Target `dns`: whatever a name server answers, or a `resolv.conf` or a file with the root's key
//! holds, is read within bounds or not at all.

/// Runs the target on one input; panics on a finding.
pub fn dns(data: &[u8]) {
    cairn::net::dns::read_anything(data);
}
