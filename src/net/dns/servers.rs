//! Which DNS servers are asked: those of the configuration, or the machine's own.

use std::fs;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};

use super::scope::{interface, is_of_a_link};

/// Where a machine's own servers stand: PID 1's file first, where it is PID 1 that knows them.
const FILES: [&str; 2] = ["/run/cairn/resolv.conf", "/etc/resolv.conf"];

/// Servers that are asked at most.
pub(super) const SERVERS_MAX: usize = 4;

/// Bytes of such a file that are read.
const FILE_BYTES_MAX: u64 = 16 * 1024;

const PORT: u16 = 53;

/// Who says which servers are asked.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// The operator.
    Given(Vec<SocketAddr>),
    /// The first of these files that there is, whenever it is looked at: PID 1 writes one anew when
    /// the network names others.
    Files(Vec<PathBuf>),
}

impl Source {
    /// The machine.
    pub(super) fn of_machine() -> Source {
        Source::Files(FILES.map(PathBuf::from).to_vec())
    }

    /// The servers at this moment.
    pub(super) fn servers(&self) -> Vec<SocketAddr> {
        match self {
            Source::Given(servers) => servers.clone(),
            Source::Files(files) => {
                let text = files.iter().find_map(|path| read(path));
                text.map(|text| of_resolv_conf(&text)).unwrap_or_default()
            }
        }
    }
}

fn read(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).ok()?;
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The `nameserver` lines of resolv.conf(5). A server on the link stands with its interface
/// (`fe80::1%eth0`); without one, or with one that is not there, it cannot be asked.
pub(super) fn of_resolv_conf(text: &str) -> Vec<SocketAddr> {
    let addresses = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next())?
    });
    addresses.filter_map(server).take(SERVERS_MAX).collect()
}

fn server(word: &str) -> Option<SocketAddr> {
    let (address, zone) = match word.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (word, None),
    };
    match (address.parse().ok()?, zone) {
        (address, None) if !is_of_a_link(address) => Some(SocketAddr::new(address, PORT)),
        (IpAddr::V6(address), Some(zone)) if is_of_a_link(address.into()) => {
            let scope_id = interface(zone)?;
            Some(SocketAddrV6::new(address, PORT, 0, scope_id).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_servers_of_resolv_conf_are_read() {
        let text = "# a comment\nsearch example.org\nnameserver 192.0.2.1\n\
                    nameserver\t2001:db8::1 \noptions edns0\nnameserver nonsense\n";
        let servers = of_resolv_conf(text);
        let expected: Vec<SocketAddr> = ["192.0.2.1:53", "[2001:db8::1]:53"]
            .map(|text| text.parse().expect("an address"))
            .into();
        assert_eq!(servers, expected);
    }

    /// Every machine has `lo`.
    #[test]
    fn a_server_on_the_link_is_read_with_its_interface() {
        let lo = interface("lo").expect("it is there");
        let text = "nameserver fe80::1%lo\nnameserver fe80::2\nnameserver fe80::3%nowhere\n\
                    nameserver fe80::4%7\nnameserver 192.0.2.1%lo\nnameserver fe80::5%0\n";
        let expected = [("fe80::1", lo), ("fe80::4", 7)].map(|(address, scope)| {
            let address = address.parse().expect("an address");
            SocketAddr::V6(SocketAddrV6::new(address, PORT, 0, scope))
        });
        assert_eq!(of_resolv_conf(text), expected);
    }

    #[test]
    fn the_first_file_that_there_is_counts_whenever_it_is_looked_at() {
        let folder = tempfile::tempdir().expect("a folder");
        let [own, other] = ["own", "other"].map(|name| folder.path().join(name));
        let source = Source::Files(vec![own.clone(), other.clone()]);
        let says = |servers: &[&str]| {
            let servers: Vec<SocketAddr> = servers
                .iter()
                .map(|text| text.parse().expect("an address"))
                .collect();
            assert_eq!(source.servers(), servers);
        };
        says(&[]);
        fs::write(&other, "nameserver 192.0.2.1\n").expect("writable");
        says(&["192.0.2.1:53"]);
        fs::write(&own, "nameserver 192.0.2.2\n").expect("writable");
        says(&["192.0.2.2:53"]);
        fs::write(&own, "nameserver 192.0.2.3\nnameserver 192.0.2.2\n").expect("writable");
        says(&["192.0.2.3:53", "192.0.2.2:53"]);
    }
}
