//! Numbers and choices out of a fuzzer's bytes.
//!
//! Must not: fail. When the bytes are used up everything is zero.

pub struct Take<'a>(&'a [u8]);

impl<'a> Take<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 0
    }

    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    pub fn u64(&mut self) -> u64 {
        u64::from(self.u32()) << 32 | u64::from(self.u32())
    }

    /// One of these; an empty list is a mistake of the caller.
    pub fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::from(self.byte()) % of.len()]
    }

    /// A number that comparisons care about: small, a power of two or one beside it, anything.
    pub fn interesting(&mut self) -> u64 {
        let shift = u32::from(self.byte()) % 64;
        match self.byte() % 5 {
            0 => u64::from(self.byte() % 8),
            1 => 1 << shift,
            2 => (1 << shift) - 1,
            3 => u64::MAX,
            _ => self.u64(),
        }
    }
}
