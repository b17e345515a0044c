//! The state document of `state` and `list`: runc's keys in runc's order.
//!
//! Must not: decide anything about the container. Tests: at the end of the file.

use std::collections::BTreeMap;

/// What is known of a container.
#[derive(Debug)]
pub struct Document<'a> {
    pub oci_version: &'a str,
    pub id: &'a str,
    /// 0 when it is stopped.
    pub pid: i32,
    pub status: &'a str,
    pub bundle: &'a str,
    pub rootfs: &'a str,
    /// RFC 3339.
    pub created: &'a str,
    pub annotations: &'a BTreeMap<String, String>,
    /// User name; only `list` fills it.
    pub owner: &'a str,
}

/// No annotations.
static NONE: BTreeMap<String, String> = BTreeMap::new();

impl Document<'_> {
    /// A document that says nothing.
    pub const NOTHING: Document<'static> = Document {
        oci_version: "",
        id: "",
        pid: 0,
        status: "",
        bundle: "",
        rootfs: "",
        created: "",
        annotations: &NONE,
        owner: "",
    };

    /// Keys and values as JSON, in order.
    fn members(&self, indent: bool) -> Vec<(&'static str, String)> {
        let mut members = vec![
            ("ociVersion", quoted(self.oci_version)),
            ("id", quoted(self.id)),
            ("pid", self.pid.to_string()),
            ("status", quoted(self.status)),
            ("bundle", quoted(self.bundle)),
            ("rootfs", quoted(self.rootfs)),
            ("created", quoted(self.created)),
        ];
        if !self.annotations.is_empty() {
            let pairs = self.annotations.iter().map(|(key, value)| (quoted(key), quoted(value)));
            let lines: Vec<String> = pairs
                .map(
                    |(key, value)| {
                        if indent { format!("\n    {key}: {value}") } else { format!("{key}:{value}") }
                    },
                )
                .collect();
            let end = if indent { "\n  " } else { "" };
            members.push(("annotations", format!("{{{}{end}}}", lines.join(","))));
        }
        members.push(("owner", quoted(self.owner)));
        members
    }

    /// On several lines, two blanks a level.
    pub fn indented(&self) -> String {
        let members = self.members(true);
        let lines: Vec<String> =
            members.iter().map(|(key, value)| format!("\n  \"{key}\": {value}")).collect();
        format!("{{{}\n}}", lines.join(","))
    }

    /// On one line.
    pub fn compact(&self) -> String {
        let members = self.members(false);
        let parts: Vec<String> = members.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
        format!("{{{}}}", parts.join(","))
    }
}

fn quoted(text: &str) -> String {
    // A text always serialises.
    serde_json::to_string(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_runc_prints_it() {
        let annotations =
            BTreeMap::from([("b".to_owned(), "\"2\"".to_owned()), ("a".to_owned(), "1".to_owned())]);
        let mut document = Document {
            oci_version: "1.3.0",
            id: "x",
            pid: 18318,
            status: "created",
            bundle: "/b",
            rootfs: "/b/rootfs",
            created: "2026-11-21T12:49:43.075200281Z",
            annotations: &annotations,
            owner: "",
        };
        let expected = r#"{
  "ociVersion": "1.3.0",
  "id": "x",
  "pid": 18318,
  "status": "created",
  "bundle": "/b",
  "rootfs": "/b/rootfs",
  "created": "2026-11-21T12:49:43.075200281Z",
  "annotations": {
    "a": "1",
    "b": "\"2\""
  },
  "owner": ""
}"#;
        assert_eq!(document.indented(), expected);
        let compact = document.compact();
        assert!(compact.starts_with(r#"{"ociVersion":"1.3.0","id":"x","pid":18318,"status":"created","bundle":"/b","rootfs":"/b/rootfs","#));
        assert!(compact.ends_with(r#""annotations":{"a":"1","b":"\"2\""},"owner":""}"#), "{compact}");
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        assert_eq!(value(&compact), value(expected));
        let none = BTreeMap::new();
        document.annotations = &none;
        assert!(!document.indented().contains("annotations") && !document.compact().contains("annotations"));
    }
}
