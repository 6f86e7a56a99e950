//! Target `sntp`: a reply is read or refused, and one that is taken tells a plausible time.
//!
//! Three times of eight bytes (sent, received, a time that is near), then the packet. The nonce is
//! the one in the packet, but where the packet has an odd number of bytes.

use cairn::machine::time::sntp::{Exchange, SntpError, reply};

/// Runs the target on one input; panics on a finding.
pub fn sntp(data: &[u8]) {
    let Some((times, packet)) = data.split_at_checked(24) else {
        return;
    };
    let time = |at: usize| i64::from_le_bytes(times[at..at + 8].try_into().expect("eight bytes"));
    let is_ours = packet.len().is_multiple_of(2);
    let nonce = packet.get(24..32).map_or(0, |nonce| {
        u64::from_be_bytes(nonce.try_into().expect("eight bytes"))
    });
    let exchange = Exchange {
        nonce: if is_ours { nonce } else { !nonce },
        sent_ns: time(0),
        received_ns: time(8),
        near_ns: time(16),
    };
    match reply(packet, &exchange) {
        Ok(sample) => {
            assert!(is_ours && packet.len() >= 48);
            assert!((1..=15).contains(&sample.stratum));
            assert!(sample.distance_ns <= 1_500_000_000);
            assert!(exchange.sent_ns <= exchange.received_ns);
            // What is right is less than 69 years from what is near, and half the way's time.
            let right = i128::from(exchange.sent_ns) + i128::from(sample.offset_ns);
            let off = (right - i128::from(exchange.near_ns)).unsigned_abs();
            let years_69 = 69 * 366 * 86_400 * 1_000_000_000u128;
            assert!(off <= years_69 + u128::from(sample.delay_ns));
        }
        Err(SntpError::NotOurs) => assert!(!is_ours),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
