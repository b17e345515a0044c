//! Parts of a record that most commands have no use for: their text is kept, and parsed when somebody asks.
//!
//! `state`, `kill` and their like would spend more time on the process and the limits of a container than on everything else.
//! Must not: decide what such a part is. Tests: below.

use super::record::{quarantined, unwritable};
use crate::error::Result;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use std::sync::OnceLock;

/// A value as JSON text.
#[derive(Clone, Debug)]
pub(crate) struct Later<T> {
    text: Box<RawValue>,
    value: OnceLock<T>,
}

impl<T: Serialize> Later<T> {
    /// The text of a value.
    ///
    /// # Errors
    /// [`Usage`](crate::ErrorKind::Usage) when JSON cannot hold it.
    pub(crate) fn of(value: &T) -> Result<Self> {
        Ok(Self { text: to_raw_value(value).map_err(unwritable)?, value: OnceLock::new() })
    }
}

impl<T: DeserializeOwned> Later<T> {
    /// The value. `name`: of the part, for the error.
    ///
    /// # Errors
    /// [`State`](crate::ErrorKind::State), quarantined: the text says something else.
    pub(crate) fn get(&self, name: &str) -> Result<&T> {
        if let Some(value) = self.value.get() {
            return Ok(value);
        }
        let value = serde_json::from_str(self.text.get())
            .map_err(|e| quarantined(&format!("its {name} is none")).with_source(e))?;
        Ok(self.value.get_or_init(|| value))
    }
}

impl<T> PartialEq for Later<T> {
    fn eq(&self, other: &Self) -> bool {
        self.text.get() == other.text.get()
    }
}

impl<T> Eq for Later<T> {}

impl<T> Serialize for Later<T> {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        self.text.serialize(to)
    }
}

impl<'de, T> Deserialize<'de> for Later<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        Ok(Self { text: Box::<RawValue>::deserialize(from)?, value: OnceLock::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn it_is_the_same_text_and_the_value_on_demand() {
        let text = r#"[{"a":[1,2]},"x"]"#;
        let kept: Vec<Later<serde_json::Value>> = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&kept).unwrap(), text);
        assert_eq!(kept[0].get("list").unwrap()["a"][1], 2);
        assert_eq!(kept[1], Later::of(&serde_json::json!("x")).unwrap());
    }

    #[test]
    fn what_is_something_else_is_told_when_it_is_asked_for() {
        let kept: Later<u32> = serde_json::from_str(r#""four""#).unwrap();
        let error = kept.get("number").unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::State, "record-quarantined"));
        assert!(error.to_string().contains("its number is none"), "{error}");
        assert!(serde_json::from_str::<Later<u32>>("{").is_err(), "no JSON is told at once");
    }
}
