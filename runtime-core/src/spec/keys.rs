//! Properties that no type knows.
//!
//! For: `check`, which says what a configuration holds that nobody will look at. The specification wants such
//! properties ignored, so this is never an error.
//! Must not: be called on the way to a container.
//! Tests: at the end of the file.

use serde_json::Value;

use super::Spec;
use super::objects::{Shape, Shaped};
use super::scan::push_token;

/// A property that is ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownKey {
    /// JSON pointer of the property.
    pub pointer: String,
    /// A known property of the same object that is spelled nearly the same.
    pub did_you_mean: Option<&'static str>,
}

/// Objects of other platforms, which are not ours to judge.
const OTHER_PLATFORMS: [&str; 5] = ["solaris", "windows", "vm", "zos", "freebsd"];

/// The properties of a `config.json` that are ignored, in the order of the document's sorted names.
///
/// A document that cannot be parsed has none; loading it says why.
pub fn unknown_keys(config: &[u8]) -> Vec<UnknownKey> {
    let mut found = Vec::new();
    if let Ok(value) = serde_json::from_slice(config) {
        walk(&value, &Spec::shape(), &mut String::new(), &mut found);
    }
    found
}

fn walk(value: &Value, shape: &Shape, pointer: &mut String, found: &mut Vec<UnknownKey>) {
    let length = pointer.len();
    match (value, shape) {
        (Value::Object(members), Shape::Object(known)) => {
            for (key, value) in members {
                push_token(pointer, key);
                match known.iter().find(|(name, _)| name == key) {
                    Some((_, shape)) => walk(value, shape, pointer, found),
                    None if length == 0 && OTHER_PLATFORMS.contains(&key.as_str()) => {}
                    None => {
                        let did_you_mean = nearest(key, known.iter().map(|(name, _)| *name));
                        found.push(UnknownKey { pointer: pointer.clone(), did_you_mean });
                    }
                }
                pointer.truncate(length);
            }
        }
        (Value::Object(members), Shape::Map(shape)) => {
            for (key, value) in members {
                push_token(pointer, key);
                walk(value, shape, pointer, found);
                pointer.truncate(length);
            }
        }
        (Value::Array(elements), Shape::List(shape)) => {
            for (index, value) in elements.iter().enumerate() {
                push_token(pointer, &index.to_string());
                walk(value, shape, pointer, found);
                pointer.truncate(length);
            }
        }
        _ => {}
    }
}

/// JSON pointers of every property of a `config.json` that is looked at, in the order of the types; an entry of a list or of
/// a map is `*`.
///
/// For tools that have to know all of them: tables, completion, tests of completeness.
pub fn known_keys() -> Vec<String> {
    fn walk(shape: &Shape, at: &str, found: &mut Vec<String>) {
        match shape {
            Shape::Leaf => found.push(at.to_owned()),
            Shape::List(entry) | Shape::Map(entry) => walk(entry, &format!("{at}/*"), found),
            Shape::Object(known) => {
                known.iter().for_each(|(key, shape)| walk(shape, &format!("{at}/{key}"), found))
            }
        }
    }
    let mut found = Vec::new();
    walk(&Spec::shape(), "", &mut found);
    found
}

/// The candidate that differs from `word` by case, or by at most a third of its letters.
pub(crate) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|name| (distance(&word.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= name.len() / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(64).enumerate() {
        let mut left = i + 1;
        let mut corner = i;
        for (cell, y) in row.iter_mut().skip(1).zip(&b) {
            let best = (corner + usize::from(x != *y)).min(left + 1).min(*cell + 1);
            corner = *cell;
            *cell = best;
            left = best;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

/// Pointers of all properties of a type; every entry of a list or map is `*`, whatever it holds.
#[cfg(test)]
pub(crate) fn properties<T: Shaped>() -> Vec<String> {
    fn walk(shape: &Shape, at: &str, found: &mut Vec<String>) {
        match shape {
            Shape::Leaf => found.push(at.to_owned()),
            Shape::List(_) | Shape::Map(_) => found.push(format!("{at}/*")),
            Shape::Object(known) => {
                known.iter().for_each(|(key, shape)| walk(shape, &format!("{at}/{key}"), found))
            }
        }
    }
    let mut found = Vec::new();
    walk(&T::shape(), "", &mut found);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_properties_are_named_with_the_nearest_known_one() {
        let config = br#"{
            "ociVersion": "1.3.0", "Hostname": "x", "frobnicate": {"a": 1},
            "annotations": {"anything": "goes"},
            "windows": {"layerFolders": ["x"]},
            "mounts": [{"destination": "/a"}, {"destination": "/b", "option": ["ro"]}],
            "linux": {
                "maskPaths": [], "sysctl": {"net.x": "1"}, "windows": {},
                "resources": {"memory": {"limits": 1}, "unified": {"a.b": "c"}, "rdma": {"mlx": {"hcahandles": 1}}},
                "seccomp": {"defaultAction": "x", "syscalls": [{"names": ["a"], "action": "b", "comment": "c", "a/~": 1}]}
            }
        }"#;
        let found: Vec<_> = unknown_keys(config).into_iter().map(|k| (k.pointer, k.did_you_mean)).collect();
        let expected = [
            ("/Hostname", Some("hostname")),
            ("/frobnicate", None),
            ("/linux/maskPaths", Some("maskedPaths")),
            ("/linux/resources/memory/limits", Some("limit")),
            ("/linux/resources/rdma/mlx/hcahandles", Some("hcaHandles")),
            ("/linux/seccomp/syscalls/0/a~1~0", None),
            ("/linux/seccomp/syscalls/0/comment", None),
            ("/linux/windows", None),
            ("/mounts/1/option", Some("options")),
        ];
        let mut found: Vec<_> = found.iter().map(|(p, d)| (p.as_str(), *d)).collect();
        found.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn properties_of_entries_are_known() {
        let known = known_keys();
        for pointer in ["/ociVersion", "/mounts/*/options/*", "/linux/sysctl/*", "/linux/netDevices/*/name"] {
            assert!(known.iter().any(|one| one == pointer), "{pointer}: {known:?}");
        }
    }

    #[test]
    fn distances() {
        for (a, b, d) in
            [("", "", 0), ("a", "", 1), ("", "ab", 2), ("kitten", "sitting", 3), ("flaw", "lawn", 2)]
        {
            assert_eq!(distance(a, b), d, "{a} {b}");
        }
    }
}
