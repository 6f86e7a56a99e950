//! One exchange with a time server (RFC 5905 §14, RFC 4330): the request's bytes, and what follows
//! from the reply's. No socket, no clock, no randomness.

use std::fmt;

/// Bytes of a packet without extensions.
pub const PACKET_BYTES: usize = 48;

const NS_PER_S: i128 = 1_000_000_000;
/// From 1900, where NTP counts from, to 1970 (RFC 5905 §6).
const UNIX_EPOCH_S: i128 = 2_208_988_800;
/// Leap indicator 0, version 4, mode 3: a client.
const FIRST_BYTE: u8 = 4 << 3 | 3;
const MODE_SERVER: u8 = 4;
/// A server further than this from its reference is not believed (RFC 5905 §11.2, MAXDIST).
const DISTANCE_MAX_NS: i128 = 1_500_000_000;

/// What one reply says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// What has to be added to our clock.
    pub offset_ns: i64,
    /// How long the packets were under way.
    pub delay_ns: u64,
    /// How far from true the server says it may be.
    pub distance_ns: u64,
    /// 1 to 15: how far it is from a reference clock.
    pub stratum: u8,
}

impl Sample {
    /// The largest error that this reply may carry.
    #[must_use]
    pub fn error_ns(&self) -> u64 {
        self.delay_ns / 2 + self.distance_ns
    }
}

/// When a request went and its reply came by our own clock, in nanoseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    /// What was sent as the request's time: nobody but the server asked knows it.
    pub nonce: u64,
    /// When it was sent.
    pub sent_ns: i64,
    /// When the reply came, measured from `sent_ns` by a clock that nobody sets.
    pub received_ns: i64,
    /// A time that is known to be less than 68 years off: NTP's seconds start again in 2036, and
    /// this says which ones are meant (RFC 5905 §6, eras).
    pub near_ns: i64,
}

/// Why a reply is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SntpError {
    /// Shorter than a packet, or not from a server.
    NoReply,
    /// Not for our request.
    NotOurs,
    /// The server's own clock is not set.
    Unsynchronised,
    /// The server asks not to be asked: its code, such as `RATE` or `DENY`.
    Kiss([u8; 4]),
    /// Its times contradict each other, or it says itself that it is far off.
    Implausible,
}

impl fmt::Display for SntpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SntpError::NoReply => f.write_str("sent something else than a reply"),
            SntpError::NotOurs => f.write_str("replied to somebody else's request"),
            SntpError::Unsynchronised => f.write_str("does not know the time itself"),
            SntpError::Kiss(code) => write!(f, "refuses with {}", code.escape_ascii()),
            SntpError::Implausible => f.write_str("tells times that cannot be right"),
        }
    }
}

/// The request. Its only field with content is the nonce, in the place of our time: a server hands
/// it back, and our clock is nobody's business.
#[must_use]
pub fn request(nonce: u64) -> [u8; PACKET_BYTES] {
    let mut packet = [0; PACKET_BYTES];
    packet[0] = FIRST_BYTE;
    packet[40..].copy_from_slice(&nonce.to_be_bytes());
    packet
}

/// Reads a reply (RFC 5905 §8 for the arithmetic, §14 for the checks).
pub fn reply(packet: &[u8], exchange: &Exchange) -> Result<Sample, SntpError> {
    let packet: &[u8; PACKET_BYTES] = packet
        .get(..PACKET_BYTES)
        .and_then(|packet| packet.try_into().ok())
        .ok_or(SntpError::NoReply)?;
    let (leap, version, mode) = (packet[0] >> 6, packet[0] >> 3 & 7, packet[0] & 7);
    if mode != MODE_SERVER || !(3..=4).contains(&version) {
        return Err(SntpError::NoReply);
    }
    if number(packet, 24) != exchange.nonce {
        return Err(SntpError::NotOurs);
    }
    let stratum = packet[1];
    if stratum == 0 {
        let code = [packet[12], packet[13], packet[14], packet[15]];
        return Err(SntpError::Kiss(code));
    }
    let (received, sent) = (number(packet, 32), number(packet, 40));
    if leap == 3 || stratum > 15 || received == 0 || sent == 0 {
        return Err(SntpError::Unsynchronised);
    }
    let distance_ns = short_ns(packet, 4) / 2 + short_ns(packet, 8);
    let near_ns = i128::from(exchange.near_ns);
    let (t1, t4) = (
        i128::from(exchange.sent_ns),
        i128::from(exchange.received_ns),
    );
    let (t2, t3) = (unix_ns(received, near_ns), unix_ns(sent, near_ns));
    let delay = (t4 - t1) - (t3 - t2);
    // Clocks of servers tick in steps, so a very short way may come out below zero by a little.
    let is_plausible = t4 >= t1 && t3 >= t2 && delay > -1_000_000 && distance_ns <= DISTANCE_MAX_NS;
    let offset_ns = i64::try_from(((t2 - t1) + (t3 - t4)) / 2);
    match (is_plausible, offset_ns) {
        (true, Ok(offset_ns)) => Ok(Sample {
            offset_ns,
            delay_ns: u64::try_from(delay.max(0)).map_err(|_| SntpError::Implausible)?,
            distance_ns: u64::try_from(distance_ns).map_err(|_| SntpError::Implausible)?,
            stratum,
        }),
        _ => Err(SntpError::Implausible),
    }
}

/// Nanoseconds since 1970 of a time in 2^-32 seconds since 1900, 2036, 2172…: the nearest to `near`.
fn unix_ns(time: u64, near_ns: i128) -> i128 {
    let seconds = i128::from(time >> 32);
    let fraction_ns = (i128::from(time & 0xffff_ffff) * NS_PER_S) >> 32;
    let first = (seconds - UNIX_EPOCH_S) * NS_PER_S + fraction_ns;
    let era_ns = (1i128 << 32) * NS_PER_S;
    let eras = (near_ns - first + era_ns / 2).div_euclid(era_ns);
    first + eras * era_ns
}

/// Nanoseconds of a duration in 2^-16 seconds.
fn short_ns(packet: &[u8; PACKET_BYTES], at: usize) -> i128 {
    let four = packet[at..at + 4].try_into().expect("four bytes");
    (i128::from(u32::from_be_bytes(four)) * NS_PER_S) >> 16
}

fn number(packet: &[u8; PACKET_BYTES], at: usize) -> u64 {
    let eight = packet[at..at + 8].try_into().expect("eight bytes");
    u64::from_be_bytes(eight)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NONCE: u64 = 0x0123_4567_89ab_cdef;
    /// 2026-11-25 00:00 UTC.
    const NOW_S: i64 = 1_795_564_800;

    fn timestamp(unix_ns: i128) -> [u8; 8] {
        let ns = unix_ns + UNIX_EPOCH_S * NS_PER_S;
        let (seconds, rest) = (ns.div_euclid(NS_PER_S), ns.rem_euclid(NS_PER_S));
        // Rounded up, so that whole microseconds come back whole.
        let fraction = ((rest << 32) + NS_PER_S - 1) / NS_PER_S;
        (((seconds as u64) << 32) | fraction as u64).to_be_bytes()
    }

    /// A good reply of stratum 2 that came in and went at these times.
    fn packet(received_ns: i128, sent_ns: i128) -> [u8; PACKET_BYTES] {
        let mut packet = [0; PACKET_BYTES];
        packet[0] = 4 << 3 | MODE_SERVER;
        packet[1] = 2;
        packet[4..8].copy_from_slice(&(1u32 << 12).to_be_bytes());
        packet[8..12].copy_from_slice(&(1u32 << 12).to_be_bytes());
        packet[24..32].copy_from_slice(&NONCE.to_be_bytes());
        packet[32..40].copy_from_slice(&timestamp(received_ns));
        packet[40..48].copy_from_slice(&timestamp(sent_ns));
        packet
    }

    fn exchange(sent_ns: i64, received_ns: i64) -> Exchange {
        Exchange {
            nonce: NONCE,
            sent_ns,
            received_ns,
            near_ns: NOW_S * NS_PER_S as i64,
        }
    }

    #[test]
    fn a_request_holds_its_nonce_and_nothing_of_ours() {
        let packet = request(NONCE);
        assert_eq!(packet[0], 0x23);
        assert_eq!(packet[40..], NONCE.to_be_bytes());
        assert!(packet[1..40].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn offset_and_delay_are_those_of_the_rfc() {
        let now = i128::from(NOW_S) * NS_PER_S;
        // Our clock says 1970; the way is 20 ms there, 40 ms back, the server takes 5 ms.
        let packet = packet(now + 20_000_000, now + 25_000_000);
        let sample = reply(&packet, &exchange(0, 65_000_000)).expect("good");
        assert_eq!(sample.delay_ns, 60_000_000);
        assert_eq!(i128::from(sample.offset_ns), now - 10_000_000);
        assert_eq!(sample.distance_ns, 93_750_000);
        assert_eq!(sample.stratum, 2);
    }

    #[test]
    fn the_second_era_begins_in_2036() {
        let second = 1_000_000_000;
        let rollover_s = (1i64 << 32) - UNIX_EPOCH_S as i64;
        for at_s in [rollover_s - 1, rollover_s + 1, 3_000_000_000] {
            let at = i128::from(at_s) * NS_PER_S;
            let sample = reply(&packet(at, at), &exchange(0, 0)).expect("good");
            assert_eq!(sample.offset_ns, at_s * second);
        }
    }

    #[test]
    fn bad_replies_are_told_apart() {
        let now = i128::from(NOW_S) * NS_PER_S;
        let good = packet(now, now);
        let with = |at: usize, bytes: &[u8]| {
            let mut packet = good;
            packet[at..at + bytes.len()].copy_from_slice(bytes);
            reply(&packet, &exchange(0, 1_000))
        };
        assert!(with(0, &[]).is_ok());
        assert_eq!(reply(&good[..47], &exchange(0, 0)), Err(SntpError::NoReply));
        assert_eq!(with(0, &[0x23]), Err(SntpError::NoReply), "a client's");
        assert_eq!(with(0, &[0x14]), Err(SntpError::NoReply), "version 2");
        assert_eq!(with(24, &[9]), Err(SntpError::NotOurs));
        assert_eq!(with(0, &[0xe4]), Err(SntpError::Unsynchronised));
        assert_eq!(with(1, &[16]), Err(SntpError::Unsynchronised));
        assert_eq!(with(40, &[0; 8]), Err(SntpError::Unsynchronised));
        assert_eq!(
            with(8, &[0, 2]),
            Err(SntpError::Implausible),
            "2 s of dispersion"
        );
        assert_eq!(
            with(40, &timestamp(now - NS_PER_S)),
            Err(SntpError::Implausible)
        );
        let mut kiss = good;
        kiss[1] = 0;
        kiss[12..16].copy_from_slice(b"RATE");
        let kiss = reply(&kiss, &exchange(0, 0)).expect_err("a refusal");
        assert_eq!(kiss.to_string(), "refuses with RATE");
        // It cannot have been with the server for longer than it was under way.
        let slow = packet(now, now + NS_PER_S);
        assert_eq!(
            reply(&slow, &exchange(0, 1_000)),
            Err(SntpError::Implausible)
        );
    }

    proptest! {
        #[test]
        fn any_packet_is_read_or_refused(mut packet in proptest::collection::vec(any::<u8>(), 0..60), sent: i64, received: i64, near: i64) {
            if packet.len() > 32 {
                packet[0] = 0x24;
                packet[24..32].copy_from_slice(&NONCE.to_be_bytes());
            }
            let exchange = Exchange { nonce: NONCE, sent_ns: sent, received_ns: received, near_ns: near };
            let _ = reply(&packet, &exchange);
        }

        #[test]
        fn what_the_server_knows_is_found_again(clock_s in 0i64..4_000_000_000, way_us in 0i64..1_000_000, busy_us in 0i64..1_000) {
            let now = i128::from(NOW_S) * NS_PER_S;
            let (way, busy) = (i128::from(way_us) * 1_000, i128::from(busy_us) * 1_000);
            let sent = clock_s * 1_000_000_000;
            let packet = packet(now + way, now + way + busy);
            let sample = reply(&packet, &exchange(sent, sent + (2 * way + busy) as i64)).expect("good");
            prop_assert!((i128::from(sample.offset_ns) - (now - i128::from(sent))).abs() < 10);
            prop_assert!((i128::from(sample.delay_ns) - 2 * way).abs() < 10);
        }
    }
}
