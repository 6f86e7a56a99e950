//! Which DNS servers are asked: those of the configuration, or the machine's own.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// Where a machine's own servers stand: PID 1's file first, where it is PID 1 that knows them.
const FILES: [&str; 2] = ["/run/cairn/resolv.conf", "/etc/resolv.conf"];

/// Servers that are asked at most.
const SERVERS_MAX: usize = 4;

/// Bytes of such a file that are read.
const FILE_BYTES_MAX: usize = 16 * 1024;

const PORT: u16 = 53;

/// The machine's own servers at this moment.
pub(super) fn of_machine() -> Vec<SocketAddr> {
    let mut texts = FILES.iter().filter_map(|path| read(Path::new(path)));
    texts
        .next()
        .map(|text| of_resolv_conf(&text))
        .unwrap_or_default()
}

fn read(path: &Path) -> Option<String> {
    let mut bytes = fs::read(path).ok()?;
    bytes.truncate(FILE_BYTES_MAX);
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The `nameserver` lines of resolv.conf(5).
fn of_resolv_conf(text: &str) -> Vec<SocketAddr> {
    let addresses = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next())?
    });
    // A scope (`fe80::1%eth0`) is nothing that could be asked without its interface.
    let addresses = addresses.filter_map(|word| word.parse::<IpAddr>().ok());
    let servers = addresses.map(|address| SocketAddr::new(address, PORT));
    servers.take(SERVERS_MAX).collect()
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
}
