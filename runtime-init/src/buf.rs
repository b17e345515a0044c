//! Strings on the stack, for names and paths that the kernel wants NUL-terminated.
//!
//! Must not: grow, or hold a NUL inside. Tests: at the end of this file.

use core::ffi::CStr;

/// The text does not fit, or holds a NUL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// At most `N - 1` bytes without NUL, always followed by one.
#[derive(Debug)]
pub(crate) struct Buf<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Buf<N> {
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; N], len: 0 }
    }

    /// Appends `text`; on an error nothing is changed.
    pub(crate) fn push(&mut self, text: &[u8]) -> Result<(), Full> {
        if text.contains(&0) {
            return Err(Full);
        }
        let end = self.len.checked_add(text.len()).ok_or(Full)?;
        if end >= N {
            return Err(Full);
        }
        let place = self.bytes.get_mut(self.len..end).ok_or(Full)?;
        for (to, from) in place.iter_mut().zip(text) {
            *to = *from;
        }
        self.len = end;
        Ok(())
    }

    /// Puts `text` before what is there; on an error nothing is changed.
    pub(crate) fn push_front(&mut self, text: &[u8]) -> Result<(), Full> {
        let old = self.len;
        self.push(text)?;
        // The new bytes stand at the end; turning the whole around them brings them to the front.
        if let Some(all) = self.bytes.get_mut(..self.len) {
            reverse(all);
            let (new, rest) = all.split_at_mut_checked(self.len.wrapping_sub(old)).ok_or(Full)?;
            reverse(new);
            reverse(rest);
        }
        Ok(())
    }

    /// Shortens to `len` bytes; longer values change nothing.
    pub(crate) fn truncate(&mut self, len: usize) {
        if len < self.len {
            if let Some(tail) = self.bytes.get_mut(len..self.len) {
                for byte in tail {
                    *byte = 0;
                }
            }
            self.len = len;
        }
    }

    /// Removes the first `count` bytes, or all.
    pub(crate) fn drop_front(&mut self, count: usize) {
        let count = count.min(self.len);
        let keep = self.len.wrapping_sub(count);
        if let Some(all) = self.bytes.get_mut(..self.len) {
            let mut to = 0_usize;
            while to < keep {
                let byte = all.get(to.wrapping_add(count)).copied().unwrap_or(0);
                if let Some(place) = all.get_mut(to) {
                    *place = byte;
                }
                to = to.wrapping_add(1);
            }
        }
        self.truncate(keep);
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }

    /// What the kernel wants.
    pub(crate) fn cstr(&self) -> &CStr {
        self.bytes
            .get(..self.len.wrapping_add(1))
            .and_then(|all| CStr::from_bytes_with_nul(all).ok())
            .unwrap_or(c"")
    }
}

fn reverse(bytes: &mut [u8]) {
    let mut rest = bytes;
    while let [first, middle @ .., last] = rest {
        core::mem::swap(first, last);
        rest = middle;
    }
}

/// Decimal digits of a number, without leading zeros.
#[derive(Debug)]
pub(crate) struct Decimal {
    digits: [u8; 20],
    start: usize,
}

impl Decimal {
    pub(crate) fn new(mut number: u64) -> Self {
        let mut digits = [b'0'; 20];
        let mut start = 20_usize;
        for (at, place) in digits.iter_mut().enumerate().rev() {
            let rest = number.wrapping_div(10);
            *place = b'0'.wrapping_add(u8::try_from(number.wrapping_sub(rest.wrapping_mul(10))).unwrap_or(0));
            start = at;
            number = rest;
            if number == 0 {
                break;
            }
        }
        Self { digits, start }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.digits.get(self.start..).unwrap_or(&[])
    }
}

/// Reads decimal digits: no sign, no blank, not empty, at most 32 bits.
pub(crate) fn number(text: &[u8]) -> Option<u32> {
    let mut value = 0_u32;
    for byte in text {
        let digit = byte.checked_sub(b'0').filter(|d| *d < 10)?;
        value = value.checked_mul(10)?.checked_add(u32::from(digit))?;
    }
    if text.is_empty() { None } else { Some(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_one_byte_less_than_its_size() {
        let mut buf = Buf::<4>::new();
        assert_eq!(buf.push(b"abc"), Ok(()));
        assert_eq!(buf.push(b"d"), Err(Full));
        assert_eq!(buf.cstr(), c"abc");
        buf.truncate(1);
        assert_eq!(buf.push(b"\0"), Err(Full));
        assert_eq!(buf.cstr(), c"a");
    }

    #[test]
    fn front_is_pushed_and_dropped() {
        let mut buf = Buf::<16>::new();
        buf.push(b"world").unwrap();
        buf.push_front(b"hello ").unwrap();
        assert_eq!(buf.bytes(), b"hello world");
        assert_eq!(buf.push_front(b"12345"), Err(Full));
        assert_eq!(buf.bytes(), b"hello world");
        buf.drop_front(6);
        assert_eq!(buf.cstr(), c"world");
        buf.drop_front(60);
        assert_eq!(buf.cstr(), c"");
    }

    #[test]
    fn numbers_in_both_directions() {
        assert_eq!(Decimal::new(0).bytes(), b"0");
        assert_eq!(Decimal::new(u64::MAX).bytes(), b"18446744073709551615");
        assert_eq!(number(b"4294967295"), Some(u32::MAX));
        for bad in [&b""[..], b"-1", b"+1", b" 1", b"1x", b"4294967296"] {
            assert_eq!(number(bad), None, "{bad:?}");
        }
    }
}
