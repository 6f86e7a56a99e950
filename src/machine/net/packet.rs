//! IPv4 and UDP around what DHCP says while there is no address: a packet socket on one interface.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::libc;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, sendto, socket,
};

use socket2::{SockFilter, SockRef};

use crate::machine::kernel_call;

/// The socket would wake PID 1 for every packet of the machine else. What a packet socket for
/// datagrams sees begins with the IPv4 header: UDP, no later fragment, and to the client's port.
fn answers_only() -> [SockFilter; 9] {
    let code = |parts: u32| u16::try_from(parts).unwrap_or(0);
    let statement = |parts, value| SockFilter::new(code(parts), 0, 0, value);
    let jump = |parts, yes, no, value| SockFilter::new(code(libc::BPF_JMP | parts), yes, no, value);
    [
        statement(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 9),
        jump(libc::BPF_JEQ | libc::BPF_K, 0, 6, UDP.into()),
        statement(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 6),
        jump(libc::BPF_JSET | libc::BPF_K, 4, 0, 0x1fff),
        statement(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 0),
        statement(libc::BPF_LD | libc::BPF_H | libc::BPF_IND, 2),
        jump(libc::BPF_JEQ | libc::BPF_K, 0, 1, CLIENT_PORT.into()),
        statement(libc::BPF_RET | libc::BPF_K, u32::MAX),
        statement(libc::BPF_RET | libc::BPF_K, 0),
    ]
}

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
const UDP: u8 = 17;
const ETHERTYPE_IPV4: u16 = 0x0800;
/// The longest packet that is read.
const PACKET_MAX: usize = 2048;

/// A packet socket.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    everybody: LinkAddr,
}

impl PacketSocket {
    /// Opens one on an interface.
    pub fn open(index: u32) -> io::Result<PacketSocket> {
        let fd = socket(
            AddressFamily::Packet,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::EthAll,
        )?;
        SockRef::from(&fd).attach_filter(&answers_only())?;
        bind(fd.as_raw_fd(), &link_address(index, [0; 6])?)?;
        Ok(PacketSocket {
            fd,
            everybody: link_address(index, [0xff; 6])?,
        })
    }

    /// To wait on.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Sends to every DHCP server of the link.
    pub fn send(&self, payload: &[u8]) -> io::Result<()> {
        let packet = wrap(payload);
        sendto(
            self.fd.as_raw_fd(),
            &packet,
            &self.everybody,
            MsgFlags::MSG_DONTWAIT,
        )?;
        Ok(())
    }

    /// What a DHCP server said, if something came. Other packets are passed over, a few at a time.
    pub fn receive(&self) -> Option<Vec<u8>> {
        let mut buffer = [0; PACKET_MAX];
        for _ in 0..64 {
            let len = recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT).ok()?;
            if let Some(payload) = unwrap(&buffer[..len]) {
                return Some(payload.to_vec());
            }
        }
        None
    }
}

fn link_address(index: u32, mac: [u8; 6]) -> io::Result<LinkAddr> {
    let mut address = [0; 8];
    address[..6].copy_from_slice(&mac);
    let raw = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: ETHERTYPE_IPV4.to_be(),
        sll_ifindex: index.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: address,
    };
    kernel_call::link_address(&raw).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// An IPv4 packet from nowhere to everybody (RFC 2131 §4.1).
fn wrap(payload: &[u8]) -> Vec<u8> {
    let udp_len = u16::try_from(8 + payload.len()).unwrap_or(u16::MAX);
    let mut packet = Vec::with_capacity(28 + payload.len());
    packet.extend([0x45, 0x10]);
    packet.extend((20 + udp_len).to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 64, UDP, 0, 0]);
    packet.extend([0; 4]);
    packet.extend([0xff; 4]);
    let sum = checksum(&[&packet]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut udp = Vec::with_capacity(8 + payload.len());
    udp.extend(CLIENT_PORT.to_be_bytes());
    udp.extend(SERVER_PORT.to_be_bytes());
    udp.extend(udp_len.to_be_bytes());
    udp.extend([0; 2]);
    udp.extend(payload);
    let pseudo = [0, UDP];
    let sum = checksum(&[&packet[12..20], &pseudo, &udp_len.to_be_bytes(), &udp]);
    // Zero says that there is none.
    let sum = if sum == 0 { 0xffff } else { sum };
    udp[6..8].copy_from_slice(&sum.to_be_bytes());
    packet.extend(udp);
    packet
}

/// The payload of a whole, sound packet from a DHCP server to a client.
fn unwrap(packet: &[u8]) -> Option<&[u8]> {
    let first = *packet.first()?;
    let header = usize::from(first & 15) * 4;
    let total = usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?]));
    if first >> 4 != 4 || header < 20 || total > packet.len() || total < header + 8 {
        return None;
    }
    // A fragment, or something else than UDP.
    if packet[9] != UDP || (packet[6] & 0x3f, packet[7]) != (0, 0) {
        return None;
    }
    if checksum(&[&packet[..header]]) != 0 {
        return None;
    }
    let udp = &packet[header..total];
    let number = |at: usize| u16::from_be_bytes([udp[at], udp[at + 1]]);
    let len = usize::from(number(4));
    if number(0) != SERVER_PORT || number(2) != CLIENT_PORT || len < 8 || len > udp.len() {
        return None;
    }
    // No check of UDP's own sum: hypervisors leave it to hardware that is not there, and DHCP's
    // answers are matched by their transaction.
    Some(&udp[8..len])
}

/// RFC 1071, over parts of even length but the last.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum: u32 = 0;
    for part in parts {
        for pair in part.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            sum += u32::from(u16::from_be_bytes([pair[0], low]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What we send, as if a server had sent it.
    fn turned(payload: &[u8]) -> Vec<u8> {
        let mut packet = wrap(payload);
        packet[20..24].copy_from_slice(&[0, 67, 0, 68]);
        packet
    }

    #[test]
    fn a_packet_is_wrapped_with_sound_sums() {
        let packet = wrap(b"odd");
        assert_eq!(packet.len(), 31);
        assert_eq!(checksum(&[&packet[..20]]), 0);
        let whole = checksum(&[&packet[12..20], &[0, UDP], &[0, 11], &packet[20..]]);
        assert_eq!(whole, 0);
    }

    #[test]
    fn only_whole_answers_of_a_server_are_read() {
        let packet = turned(b"payload");
        assert_eq!(unwrap(&packet), Some(&b"payload"[..]));
        let padded = [packet.clone(), vec![0; 20]].concat();
        assert_eq!(unwrap(&padded), Some(&b"payload"[..]), "Ethernet pads");
        for len in 0..packet.len() {
            assert_eq!(unwrap(&packet[..len]), None, "{len}");
        }
        for (at, byte) in [
            (0, 0x46),
            (6, 0x20),
            (9, 6),
            (10, 1),
            (21, 1),
            (23, 1),
            (25, 200),
        ] {
            let mut broken = packet.clone();
            broken[at] ^= byte;
            assert_eq!(unwrap(&broken), None, "byte {at}");
        }
        assert_eq!(unwrap(&wrap(b"payload")), None, "what a client says");
    }
}
