//! Every rule: a document that breaks no rule, one change, the pointer and the code that follow from it.

use serde_json::{Value, json};

use super::*;
use crate::spec::Id;

mod cgroup;
mod linux;
mod mounts;
mod process;
mod seccomp;

fn base() -> Value {
    json!({
        "ociVersion": "1.3.0",
        "process": {
            "cwd": "/", "args": ["sh"], "env": ["PATH=/bin", "EMPTY="], "user": {"uid": 0, "gid": 0},
            "capabilities": {"permitted": ["CAP_KILL"], "effective": ["CAP_KILL"]}
        },
        "root": {"path": "rootfs"},
        "hostname": "h",
        "annotations": {"a": "b"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/data", "type": "none", "source": "data", "options": ["rbind", "ro", "rslave", ""]}
        ],
        "linux": {
            "namespaces": [
                {"type": "mount"}, {"type": "pid"}, {"type": "uts"}, {"type": "ipc"},
                {"type": "network", "path": "/run/netns/x"}, {"type": "user"}, {"type": "time"}
            ],
            "uidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}],
            "gidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}],
            "timeOffsets": {"monotonic": {"secs": -5, "nanosecs": 999999999}},
            "sysctl": {"net.ipv4.ip_forward": "1"},
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}
        }
    })
}

/// Puts a value where the pointer says; a pointer that ends in `/-` appends to a list.
fn put(document: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').expect("pointer");
    let mut at = &mut *document;
    for key in parent.split('/').skip(1) {
        at = match at {
            Value::Array(list) => &mut list[key.parse::<usize>().expect("index")],
            at => {
                if at[key].is_null() {
                    at[key] = json!({});
                }
                &mut at[key]
            }
        };
    }
    let key = key.replace("~1", "/").replace("~0", "~");
    match at {
        Value::Array(list) if key == "-" => list.push(value),
        Value::Array(list) => list[key.parse::<usize>().expect("index")] = value,
        at => at[key] = value,
    }
}

fn spec(document: &Value) -> Spec {
    Spec::from_slice(document.to_string().as_bytes()).expect("loads")
}

fn codes(violations: Vec<Violation>) -> Vec<(String, &'static str)> {
    violations.into_iter().map(|violation| (violation.pointer, violation.code)).collect()
}

/// What is said about the base with these changes.
fn check(changes: &[(&str, Value)]) -> Vec<(String, &'static str)> {
    let mut document = base();
    for (pointer, value) in changes {
        put(&mut document, pointer, value.clone());
    }
    codes(validate(spec(&document)).err().unwrap_or_default())
}

#[track_caller]
fn refused(changes: &[(&str, Value)], pointer: &str, code: &str) {
    assert_eq!(check(changes), [(pointer.to_owned(), code)], "{changes:?}");
}

#[track_caller]
fn accepted(changes: &[(&str, Value)]) {
    assert_eq!(check(changes), [], "{changes:?}");
}

fn valid(changes: &[(&str, Value)]) -> ValidSpec {
    let mut document = base();
    for (pointer, value) in changes {
        put(&mut document, pointer, value.clone());
    }
    validate(spec(&document)).expect("valid")
}

/// Each row: place, value, and the pointer and code of the violation; without a code it is accepted.
#[track_caller]
fn table(rows: &[(&str, Value, &str, &str)]) {
    for (place, value, pointer, code) in rows {
        let change = [(*place, value.clone())];
        if code.is_empty() { accepted(&change) } else { refused(&change, pointer, code) }
    }
}

#[test]
fn the_base_breaks_no_rule() {
    let found = valid(&[]);
    assert_eq!(found.warnings, []);
    assert_eq!(
        (found.root.as_str(), found.readonly, found.hostname.as_deref()),
        ("rootfs", false, Some("h"))
    );
}

#[test]
fn top_level() {
    table(&[
        ("/ociVersion", json!("2.0.0"), "/ociVersion", "oci-version"),
        ("/ociVersion", json!("abc"), "/ociVersion", "oci-version"),
        ("/ociVersion", json!("1.99.0-dev"), "", ""),
        ("/process", Value::Null, "/process", "process-missing"),
        ("/root", Value::Null, "/root", "root-missing"),
        ("/root/path", json!(""), "/root/path", "path-empty"),
        ("/annotations/", json!("x"), "/annotations/", "annotation-key-empty"),
        ("/hostname", json!("x".repeat(65)), "/hostname", "name-too-long"),
        ("/domainname", json!("a\nb"), "/domainname", "text-lines"),
        ("/hostname", json!(""), "", ""),
    ]);
    refused(&[("/linux/namespaces/2", json!({"type": "cgroup"}))], "/hostname", "uts-namespace-missing");
    accepted(&[("/linux/namespaces/2", json!({"type": "uts", "path": "/proc/1/ns/uts"}))]);
}

#[test]
fn a_missing_linux_object_is_a_missing_mount_namespace() {
    let found = codes(
        validate(spec(&json!({
            "ociVersion": "1.0.0", "process": {"cwd": "/", "args": ["a"]}, "root": {"path": "r"}
        })))
        .expect_err("refused"),
    );
    assert_eq!(found, [("/linux/namespaces".to_owned(), "mount-namespace-missing")]);
}

#[test]
fn nul_in_a_spec_that_was_not_loaded() {
    let mut document = spec(&base());
    document.root.as_mut().expect("root").path = "a\0b".to_owned();
    document.process.as_mut().expect("process").args.push("\0".to_owned());
    document.mounts[1].options.push("x\0".to_owned());
    document.annotations.insert("k".to_owned(), "\0".to_owned());
    let found: Vec<_> = codes(validate(document).expect_err("refused"));
    let nul: Vec<_> =
        found.iter().filter(|(_, code)| *code == "text-nul").map(|(at, _)| at.as_str()).collect();
    assert_eq!(nul, ["/process/args/1", "/root/path", "/mounts/1/options/4", "/annotations/k"]);
}

#[test]
fn all_violations_come_at_once_in_the_documents_order() {
    let found = check(&[
        ("/process/cwd", json!("x")),
        ("/process/args", json!([])),
        ("/ociVersion", json!("3")),
        ("/linux/seccomp/defaultAction", json!("ALLOW")),
        ("/mounts/1/source", json!("")),
    ]);
    let pointers: Vec<_> = found.iter().map(|(pointer, _)| pointer.as_str()).collect();
    assert_eq!(
        pointers,
        ["/ociVersion", "/process/args", "/process/cwd", "/mounts/1/source", "/linux/seccomp/defaultAction"]
    );
}

#[test]
fn a_mount_namespace_cannot_be_joined() {
    let joined = json!({"type": "mount", "path": "/proc/1/ns/mnt"});
    refused(&[("/linux/namespaces/0", joined)], "/linux/namespaces/0/path", "mount-namespace-joined");
}

#[test]
fn empty_values_ask_for_nothing() {
    for (place, value) in [
        ("/process/apparmorProfile", json!("unconfined")),
        ("/process/apparmorProfile", json!("")),
        ("/process/selinuxLabel", json!("")),
        ("/linux/mountLabel", json!("")),
        ("/linux/netDevices", json!({})),
    ] {
        valid(&[(place, value)]);
    }
}

#[test]
fn sentences_avoid_what_engines_look_for() {
    let mut document = base();
    for (place, value) in [
        ("/process", json!({"cwd": "x", "args": [], "env": ["="], "apparmorProfile": "p"})),
        (
            "/mounts/1",
            json!({"destination": "/proc/x", "type": "none", "source": "no such file or directory"}),
        ),
        ("/linux/namespaces", json!([{"type": "x"}])),
        ("/linux/sysctl", json!({"kernel.x": "1"})),
    ] {
        put(&mut document, place, value);
    }
    let found = validate(spec(&document)).expect_err("refused");
    assert!(found.len() > 8, "{found:?}");
    for violation in found {
        let message = violation.message;
        assert!(message.starts_with(|c: char| c.is_ascii_lowercase()), "{message}");
        for words in ["permission denied", "no such file or directory", "executable file not found"] {
            assert!(!message.contains(words), "{message}");
        }
    }
}

#[test]
fn what_engines_write_breaks_no_rule() {
    for text in [
        &include_bytes!("../../../tests/data/docker.config.json")[..],
        include_bytes!("../../../tests/data/docker-privileged.config.json"),
        include_bytes!("../../../tests/data/podman.config.json"),
        include_bytes!("../../../tests/data/podman-rootless.config.json"),
        include_bytes!("../../../tests/data/containerd-cri.config.json"),
        include_bytes!("../../../tests/data/containerd-userns.config.json"),
    ] {
        let spec = Spec::from_slice(text).expect("loads");
        let found = validate(spec).map_err(codes).expect("valid");
        assert_eq!(
            found.warnings.iter().filter(|w| w.code != "mapping-of-joined").count(),
            0,
            "{:?}",
            found.warnings
        );
    }
}

#[test]
fn our_own_examples_break_no_rule() {
    let id = Id::new(1000).expect("id");
    for spec in [Spec::default_container(), Spec::rootless(id, id)] {
        let found = validate(spec).map_err(codes).expect("valid");
        assert_eq!(found.warnings, []);
    }
}
