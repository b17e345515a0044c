//! Filters; see `mod.rs`.

use serde_json::{Value, json};

use super::{table, valid};

#[test]
fn seccomp() {
    let at = "/linux/seccomp";
    let rules =
        |rules: Value| json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "syscalls": rules});
    let rule = |action: &str, more: Value| {
        let mut rule = json!({"names": ["mount"], "action": action});
        for (key, value) in more.as_object().expect("object") {
            rule[key] = value.clone();
        }
        json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/l", "syscalls": [rule]})
    };
    let notify = |more| rule("SCMP_ACT_NOTIFY", more);
    let flags = |flags: Value| json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": flags});
    table(&[
        (at, rules(json!([{"names": ["no_such_call", "read"], "action": "SCMP_ACT_ALLOW"}])), "", ""),
        (at, json!({"defaultAction": "SCMP_ACT_DENY"}), "/linux/seccomp/defaultAction", "value-unknown"),
        (
            at,
            json!({"defaultAction": "SCMP_ACT_NOTIFY"}),
            "/linux/seccomp/defaultAction",
            "seccomp-notify-default",
        ),
        (
            at,
            json!({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}),
            "/linux/seccomp/defaultErrnoRet",
            "seccomp-errno-conflict",
        ),
        (
            at,
            rules(json!([{"names": [], "action": "SCMP_ACT_ALLOW"}])),
            "/linux/seccomp/syscalls/0/names",
            "seccomp-names-empty",
        ),
        (
            at,
            rules(json!([{"names": null, "action": "SCMP_ACT_ALLOW"}])),
            "/linux/seccomp/syscalls/0/names",
            "seccomp-names-empty",
        ),
        (
            at,
            rules(json!([{"names": [""], "action": "SCMP_ACT_ALLOW"}])),
            "/linux/seccomp/syscalls/0/names/0",
            "seccomp-name-empty",
        ),
        (
            at,
            rule("SCMP_ACT_KILL", json!({"errnoRet": 1})),
            "/linux/seccomp/syscalls/0/errnoRet",
            "seccomp-errno-conflict",
        ),
        (
            at,
            rule("SCMP_ACT_ERRNO", json!({"errnoRet": 4096})),
            "/linux/seccomp/syscalls/0/errnoRet",
            "value-out-of-range",
        ),
        (at, rule("SCMP_ACT_TRACE", json!({"errnoRet": 4096})), "", ""),
        (
            at,
            rule("SCMP_ACT_TRACE", json!({"errnoRet": 65536})),
            "/linux/seccomp/syscalls/0/errnoRet",
            "value-out-of-range",
        ),
        (at, rule("SCMP_ACT_ERR", json!({})), "/linux/seccomp/syscalls/0/action", "value-unknown"),
        (
            at,
            rule("SCMP_ACT_LOG", json!({"args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]})),
            "/linux/seccomp/syscalls/0/args/0/index",
            "value-out-of-range",
        ),
        (
            at,
            rule("SCMP_ACT_LOG", json!({"args": [{"index": 0, "value": 0, "op": "EQ"}]})),
            "/linux/seccomp/syscalls/0/args/0/op",
            "value-unknown",
        ),
        (at, notify(json!({})), "", ""),
        (
            at,
            notify(json!({"names": ["openat", "write"]})),
            "/linux/seccomp/syscalls/0/names/1",
            "seccomp-notify-write",
        ),
        (
            at,
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "SCMP_ACT_NOTIFY"}]}),
            "/linux/seccomp/listenerPath",
            "seccomp-listener-missing",
        ),
        (
            at,
            json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "run/l", "syscalls": [{"names": ["a"], "action": "SCMP_ACT_NOTIFY"}]}),
            "/linux/seccomp/listenerPath",
            "path-not-absolute",
        ),
        (at, json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "run/l"}), "", ""),
        (
            at,
            json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "m"}),
            "/linux/seccomp/listenerMetadata",
            "seccomp-metadata",
        ),
        (at, flags(json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"])), "", ""),
        (at, flags(json!(["SECCOMP_FILTER_FLAG_NEW_LISTENER"])), "/linux/seccomp/flags/0", "value-unknown"),
        (
            at,
            flags(json!(["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"])),
            "/linux/seccomp/flags/1",
            "seccomp-flag-conflict",
        ),
        (
            at,
            json!({"defaultAction": "SCMP_ACT_LOG", "architectures": ["SCMP_ARCH_M68K", "SCMP_ARCH_SHEB"]}),
            "",
            "",
        ),
        (
            at,
            json!({"defaultAction": "SCMP_ACT_LOG", "architectures": ["SCMP_ARCH_Z80"]}),
            "/linux/seccomp/architectures/0",
            "value-unknown",
        ),
    ]);
    let found = valid(&[(at, json!({"defaultAction": ""}))]);
    assert_eq!(found.seccomp, None);
    assert_eq!(found.warnings.iter().map(|w| w.code).collect::<Vec<_>>(), ["seccomp-empty"]);
}
