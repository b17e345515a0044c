//! `org.systemd.property.NAME` annotations: further properties of the unit, in GVariant's text form.
//!
//! Must not: know the properties. Tests: at the end of the file.

use std::collections::BTreeMap;

use super::wire::{Property, Value};
use crate::cgroup::error::Refusal;
use crate::spec::push_token;

const PREFIX: &str = "org.systemd.property.";

/// The properties that the annotations name. A name that ends in `Sec` means the property in microseconds that ends in `USec`, and its
/// value is in seconds (as runc has it).
///
/// # Errors
/// A name that is none, or a value that is not of a type that units have.
pub(crate) fn properties(annotations: &BTreeMap<String, String>) -> Result<Vec<Property>, Refusal> {
    let mut all = Vec::new();
    for (key, text) in annotations {
        let Some(name) = key.strip_prefix(PREFIX) else { continue };
        let refuse = |reason: &str| {
            let mut pointer = "/annotations".to_owned();
            push_token(&mut pointer, key);
            Refusal::new(pointer, reason)
        };
        let upper = name.bytes().next().is_some_and(|byte| byte.is_ascii_uppercase());
        if name.len() < 3 || !upper || !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(refuse("names no property of a unit: letters and digits, the first one a capital"));
        }
        let value = parse(text.trim()).ok_or_else(|| {
            refuse("has a value that is no text in quotes, true, false, number or list of texts")
        })?;
        all.push(match name.strip_suffix("Sec").filter(|stem| !stem.ends_with('U')) {
            Some(stem) => {
                let value =
                    microseconds(value).ok_or_else(|| refuse("has a value that is no time in seconds"))?;
                (format!("{stem}USec"), value)
            }
            None => (name.to_owned(), value),
        });
    }
    Ok(all)
}

fn microseconds(value: Value) -> Option<Value> {
    let seconds = match value {
        Value::Number(seconds) => seconds,
        Value::Small(seconds) => u64::from(seconds),
        Value::Signed(seconds) => u64::try_from(seconds).ok()?,
        Value::Long(seconds) => u64::try_from(seconds).ok()?,
        _ => return None,
    };
    seconds.checked_mul(1_000_000).map(Value::Number)
}

fn parse(text: &str) -> Option<Value> {
    match text {
        "true" => return Some(Value::Flag(true)),
        "false" => return Some(Value::Flag(false)),
        _ => {}
    }
    if let Some(inner) = text.strip_prefix('[') {
        return list(inner.strip_suffix(']')?).map(Value::Texts);
    }
    if text.starts_with(['\'', '"']) {
        let (word, rest) = quoted(text)?;
        return rest.is_empty().then_some(Value::Text(word));
    }
    let (kind, number) = text.split_once(' ').unwrap_or(("int32", text));
    let number = number.trim();
    match kind {
        "uint64" | "handle" => number.parse().ok().map(Value::Number),
        "uint32" => number.parse().ok().map(Value::Small),
        "int32" => number.parse().ok().map(Value::Signed),
        "int64" => number.parse().ok().map(Value::Long),
        "string" | "objectpath" => {
            quoted(number).filter(|(_, rest)| rest.is_empty()).map(|(word, _)| Value::Text(word))
        }
        _ => None,
    }
}

fn list(mut text: &str) -> Option<Vec<String>> {
    let mut all = Vec::new();
    text = text.trim();
    while !text.is_empty() {
        let (word, rest) = quoted(text)?;
        all.push(word);
        text = rest.trim_start();
        if !text.is_empty() {
            text = text.strip_prefix(',')?.trim_start();
            if text.is_empty() {
                return None;
            }
        }
    }
    (!all.is_empty()).then_some(all)
}

/// A text in quotes at the beginning, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
    let mut word = String::new();
    let mut letters = text.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => word.push(match letters.next()?.1 {
                'n' => '\n',
                't' => '\t',
                plain @ ('\\' | '\'' | '"') => plain,
                _ => return None,
            }),
            letter if letter == quote => return Some((word, text.get(at + 1..)?)),
            '\0' => return None,
            letter => word.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, text: &str) -> Option<Property> {
        let annotations = BTreeMap::from([(format!("{PREFIX}{name}"), text.to_owned())]);
        properties(&annotations).ok().and_then(|all| all.into_iter().next())
    }

    #[test]
    fn values_as_gvariant_writes_them() {
        let text = |text: &str| Value::Text(text.to_owned());
        for (name, written, property, value) in [
            ("KillSignal", "10", "KillSignal", Value::Signed(10)),
            ("CollectMode", "'inactive-or-failed'", "CollectMode", text("inactive-or-failed")),
            ("Description", "\"it's\"", "Description", text("it's")),
            ("Description", r"'a\'b\\'", "Description", text(r"a'b\")),
            ("TimeoutStopUSec", "uint64 123456789", "TimeoutStopUSec", Value::Number(123_456_789)),
            ("TimeoutStopSec", "uint64 5", "TimeoutStopUSec", Value::Number(5_000_000)),
            ("TimeoutStopSec", "5", "TimeoutStopUSec", Value::Number(5_000_000)),
            ("DefaultDependencies", "true", "DefaultDependencies", Value::Flag(true)),
            (
                "After",
                "['a.service', 'b.service']",
                "After",
                Value::Texts(vec!["a.service".into(), "b.service".into()]),
            ),
        ] {
            assert_eq!(one(name, written), Some((property.to_owned(), value)), "{name} {written}");
        }
    }

    #[test]
    fn what_is_none_is_refused_at_its_place() {
        for (name, written) in [
            ("killSignal", "10"),
            ("X", "1"),
            ("A-b", "1"),
            ("Description", "unquoted"),
            ("Description", "'a' 'b'"),
            ("Description", "'a"),
            ("After", "['a',]"),
            ("After", "['a' 'b']"),
            ("After", "[]"),
            ("CPUWeight", "uint64 -1"),
            ("TimeoutStopSec", "'5'"),
            ("TimeoutStopSec", "-5"),
        ] {
            let annotations = BTreeMap::from([(format!("{PREFIX}{name}"), written.to_owned())]);
            let refusal = properties(&annotations).unwrap_err();
            assert_eq!(refusal.pointer, format!("/annotations/{PREFIX}{name}"), "{written}");
        }
        assert_eq!(properties(&BTreeMap::from([("other".into(), "x".into())])), Ok(vec![]));
    }
}
