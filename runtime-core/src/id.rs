//! Container identifiers.
//!
//! Must not: touch the file system. Tests: at the end of this file.

use crate::error::{Error, ErrorKind};
use std::fmt;
use std::str::FromStr;

/// A container's name.
///
/// Holding one proves: 1 to 255 bytes of `[A-Za-z0-9_+.-]` that do not start with a dot, so it can be used as one component of
/// a path and never means "here", "up" or a hidden file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId(String);

impl ContainerId {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ContainerId {
    type Err = Error;

    /// # Errors
    /// [`ErrorKind::InvalidId`] when the text breaks a rule of the type.
    fn from_str(text: &str) -> Result<Self, Error> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'+' | b'.' | b'-');
        let reason = if text.is_empty() {
            "is empty"
        } else if text.len() > 255 {
            "is longer than 255 bytes"
        } else if text.starts_with('.') {
            "starts with a dot"
        } else if !text.bytes().all(legal) {
            "has a character outside [A-Za-z0-9_+.-]"
        } else {
            return Ok(Self(text.to_owned()));
        };
        let shown: String = text.chars().take(64).flat_map(char::escape_debug).collect();
        Err(Error::new(ErrorKind::InvalidId, format!("invalid container ID \"{shown}\": it {reason}"))
            .with_code("id-invalid"))
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_ids() {
        for good in ["a", "web-1", "A_b+c.d", "0", &"x".repeat(255)] {
            assert_eq!(good.parse::<ContainerId>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", ".hidden", "a/b", "a b", "a\n", "ä", "a\0", &"x".repeat(256)] {
            let error = bad.parse::<ContainerId>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidId, "{bad:?}");
        }
    }
}
