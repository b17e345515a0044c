//! User and group ids.
//!
//! For: one type that cannot hold a number that is not an id, with one way to read it.
//! Must not: wrap, trim, guess or look names up.
//! Tests: at the end of the file.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// A user or group id, 0 to 4294967294.
///
/// Holding one proves that the number is not -1 in 32 bits: setresuid(2) takes that one as "do not change" and
/// succeeds, which leaves the caller's id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(u32);

impl Id {
    /// Id 0.
    pub const ROOT: Id = Id(0);

    /// The id with this number, unless it is 4294967295.
    pub const fn new(number: u32) -> Option<Id> {
        if number == u32::MAX { None } else { Some(Id(number)) }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidId;

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected an id, digits only, 0 to 4294967294")
    }
}

impl std::error::Error for InvalidId {}

impl FromStr for Id {
    type Err = InvalidId;

    /// Reads ASCII digits: no sign, no blanks, nothing else.
    fn from_str(text: &str) -> Result<Id, InvalidId> {
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(InvalidId);
        }
        text.parse::<u32>().ok().and_then(Id::new).ok_or(InvalidId)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Id> for u32 {
    fn from(id: Id) -> u32 {
        id.0
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Id, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Id;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an id, 0 to 4294967294")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Id, E> {
                u32::try_from(number)
                    .ok()
                    .and_then(Id::new)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(number), &self))
            }
        }
        deserializer.deserialize_u32(Number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_an_id_or_an_error() {
        for (text, id) in [
            ("0", Some(0)),
            ("1000", Some(1000)),
            ("2147483648", Some(2_147_483_648)),
            ("4294967294", Some(4_294_967_294)),
            ("01", Some(1)),
            ("4294967295", None),
            ("4294967296", None),
            ("18446744073709551616", None),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("-0", None),
            (" 1", None),
            ("1 ", None),
            ("1x", None),
            ("0x1", None),
            ("1.0", None),
            ("1e3", None),
            ("1_000", None),
            ("0:", None),
            (":0", None),
            ("root", None),
            ("\u{661}", None),
            ("1\n", None),
            ("1\0", None),
        ] {
            assert_eq!(text.parse::<Id>().ok().map(Id::get), id, "{text:?}");
        }
    }

    #[test]
    fn json_is_an_id_or_an_error() {
        for (json, id) in [
            ("0", Some(0)),
            ("4294967294", Some(4_294_967_294)),
            ("4294967295", None),
            ("4294967296", None),
            ("-1", None),
            ("-0", None),
            ("1.0", None),
            ("1e3", None),
            ("\"0\"", None),
            ("true", None),
            ("null", None),
            ("[0]", None),
        ] {
            assert_eq!(serde_json::from_str::<Id>(json).ok().map(Id::get), id, "{json}");
        }
    }
}
