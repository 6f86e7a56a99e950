//! Memory that direct I/O accepts: aligned to a block, grown by whole blocks.

/// The alignment of every buffer and of every access to the device, in bytes.
pub const ALIGN: usize = 4096;

/// A growable byte buffer whose first byte lies on a multiple of [`ALIGN`].
///
/// Aligned without `unsafe`: a little more is allocated and the start skipped.
#[derive(Default)]
pub struct Buffer {
    raw: Vec<u8>,
    start: usize,
    len: usize,
}

impl Buffer {
    /// An empty buffer that can take `capacity` bytes before it moves.
    pub fn with_capacity(capacity: usize) -> Buffer {
        let capacity = capacity.next_multiple_of(ALIGN).max(ALIGN);
        let raw = vec![0; capacity + ALIGN];
        let start = raw.as_ptr().align_offset(ALIGN);
        debug_assert!(start <= ALIGN, "a byte pointer can always be aligned");
        Buffer { raw, start, len: 0 }
    }

    /// A buffer of `len` zero bytes.
    pub fn zeroed(len: usize) -> Buffer {
        let mut buffer = Buffer::with_capacity(len);
        buffer.len = len;
        buffer
    }

    /// How many bytes it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes it can hold before it moves.
    pub fn capacity(&self) -> usize {
        self.raw.len().saturating_sub(ALIGN)
    }

    /// What it holds.
    pub fn as_slice(&self) -> &[u8] {
        &self.raw[self.start..self.start + self.len]
    }

    /// What it holds, to be changed in place.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.raw[self.start..self.start + self.len]
    }

    /// Appends `bytes`.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        let at = self.start + self.len;
        self.raw[at..at + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Appends zeros up to the next multiple of `block`.
    pub fn pad_to(&mut self, block: usize) {
        let to = self.len.next_multiple_of(block);
        self.reserve(to - self.len);
        let (from, until) = (self.start + self.len, self.start + to);
        self.raw[from..until].fill(0);
        self.len = to;
    }

    /// Makes it `len` bytes long; what is new is whatever was there before.
    pub fn resize(&mut self, len: usize) {
        self.reserve(len.saturating_sub(self.len));
        self.len = len;
    }

    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    fn reserve(&mut self, more: usize) {
        let wanted = self.len + more;
        if wanted <= self.capacity() {
            return;
        }
        let mut grown = Buffer::with_capacity(wanted.max(self.capacity() * 2));
        let at = grown.start;
        grown.raw[at..at + self.len].copy_from_slice(self.as_slice());
        grown.len = self.len;
        *self = grown;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_aligned_while_it_grows() {
        let mut buffer = Buffer::with_capacity(1);
        for round in 0..3000_u32 {
            buffer.extend(&round.to_le_bytes());
            assert_eq!(buffer.as_slice().as_ptr().align_offset(ALIGN), 0);
        }
        buffer.pad_to(ALIGN);
        assert_eq!(buffer.len(), 12288);
        assert_eq!(&buffer.as_slice()[11996..12000], &2999_u32.to_le_bytes());
        assert!(buffer.as_slice()[12000..].iter().all(|&byte| byte == 0));
    }
}
