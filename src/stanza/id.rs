//! Identifiers that nobody can guess, from random bytes that the caller draws (RFC 6120 §8.1.3).

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// 128 bits as 22 base62 digits.
pub fn base62(random: [u8; 16]) -> String {
    let mut value = u128::from_be_bytes(random);
    let mut digits = [0; 22];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(value % 62) as usize];
        value /= 62;
    }
    digits.iter().map(|&digit| char::from(digit)).collect()
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|b| [HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]])
        .map(char::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base62_keeps_all_bits() {
        assert_eq!(base62([0; 16]), "0".repeat(22));
        assert_eq!(base62([0xFF; 16]), "7n42DGM5Tflk9n8mt7Fhc7");
        assert_ne!(base62([1; 16]), base62([2; 16]));
    }

    #[test]
    fn hex_is_two_digits_a_byte() {
        assert_eq!(hex(&[0, 0x0f, 0xa0, 0xff]), "000fa0ff");
    }
}
