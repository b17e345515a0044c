//! regcomp(3) and regexec(3): POSIX extended regular expressions, which are in the C library anyway.
//!
//! Must not: match anything but short names. Tests: at the end of this file.

#![allow(unsafe_code, reason = "raw calls; see the module above")]

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::ptr;

/// A compiled expression.
pub(crate) struct Regex(Box<libc::regex_t>);

impl Regex {
    /// Compiles it, to search for anywhere in a text.
    ///
    /// # Errors
    /// What is wrong with it, in the C library's words.
    pub(crate) fn new(pattern: &str) -> Result<Self, String> {
        let pattern = CString::new(pattern).map_err(|_| "it holds a zero byte".to_owned())?;
        let mut expression = Box::new(MaybeUninit::<libc::regex_t>::zeroed());
        // SAFETY: both pointers are live for the call, the pattern ends with a zero; all bytes zero are a valid `regex_t` of integers and
        // pointers, and regcomp writes only there.
        let code = unsafe {
            libc::regcomp(expression.as_mut_ptr(), pattern.as_ptr(), libc::REG_EXTENDED | libc::REG_NOSUB)
        };
        if code == 0 {
            // SAFETY: initialised above, by zeroes and then by regcomp.
            return Ok(Self(unsafe { expression.assume_init() }));
        }
        let mut text = [0_u8; 128];
        // SAFETY: the buffer is as long as it says; regerror takes the expression of a failed regcomp, and ends the text with a zero.
        unsafe { libc::regerror(code, expression.as_ptr(), text.as_mut_ptr().cast(), text.len()) };
        Err(CStr::from_bytes_until_nul(&text)
            .map_or_else(|_| String::new(), |text| text.to_string_lossy().into_owned()))
    }

    /// Whether it is found in `text`; never in one with a zero byte.
    pub(crate) fn is_match(&self, text: &str) -> bool {
        let Ok(text) = CString::new(text) else { return false };
        // SAFETY: compiled by regcomp and not freed; the text ends with a zero; with REG_NOSUB and no room for matches none are written.
        unsafe { libc::regexec(&raw const *self.0, text.as_ptr(), 0, ptr::null_mut(), 0) == 0 }
    }
}

impl Drop for Regex {
    fn drop(&mut self) {
        // SAFETY: compiled by regcomp, and freed once.
        unsafe { libc::regfree(&raw mut *self.0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extended_expressions() {
        for (pattern, yes, no) in [
            ("web", &["web", "web1", "my-web"][..], &["we", "WEB", ""][..]),
            ("^web[0-9]+$", &["web1", "web42"], &["web", "web1x", "xweb1"]),
            ("^(a|b)\\.c", &["a.c", "b.cd"], &["a_c", "ab.c"]),
            (".*", &["", "x"], &[]),
        ] {
            let expression = Regex::new(pattern).unwrap();
            assert!(yes.iter().all(|text| expression.is_match(text)), "{pattern}");
            assert!(!no.iter().any(|text| expression.is_match(text)), "{pattern}");
        }
        assert!(!Regex::new(".*").unwrap().is_match("a\0b"));
    }

    #[test]
    fn wrong_expressions_are_explained() {
        for pattern in ["[", "(", "a\0b", "a{2,1}"] {
            assert!(!Regex::new(pattern).err().unwrap().is_empty(), "{pattern}");
        }
    }
}
