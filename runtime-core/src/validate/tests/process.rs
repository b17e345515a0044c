//! Processes and hooks; see `mod.rs`.

use serde_json::{Value, json};

use super::super::*;
use super::{codes, refused, table, valid};

#[test]
fn process() {
    table(&[
        ("/process/args", json!([]), "/process/args", "args-empty"),
        ("/process/cwd", json!("tmp"), "/process/cwd", "path-not-absolute"),
        ("/process/cwd", json!(""), "/process/cwd", "path-empty"),
        ("/process/env/1", json!("PATH"), "/process/env/1", "env-no-value"),
        ("/process/env/1", json!("=x"), "/process/env/1", "env-no-name"),
        ("/process/env/1", json!("A=b=c"), "", ""),
        ("/process/user/umask", json!(0o1000), "/process/user/umask", "value-out-of-range"),
        ("/process/user/umask", json!(0o777), "", ""),
        ("/process/user/uid", json!(65536), "/process/user/uid", "id-not-mapped"),
        ("/process/user/gid", json!(65536), "/process/user/gid", "id-not-mapped"),
        (
            "/process/user/additionalGids",
            json!([5, 70000]),
            "/process/user/additionalGids/1",
            "id-not-mapped",
        ),
        ("/process/oomScoreAdj", json!(1001), "/process/oomScoreAdj", "value-out-of-range"),
        ("/process/oomScoreAdj", json!(-1001), "/process/oomScoreAdj", "value-out-of-range"),
        ("/process/oomScoreAdj", json!(1_000_000), "/process/oomScoreAdj", "value-out-of-range"),
        ("/process/oomScoreAdj", json!(-1000), "", ""),
        ("/process/consoleSize", json!({"height": 70000, "width": 1}), "", ""),
        ("/process/apparmorProfile", json!("a\nb"), "/process/apparmorProfile", "text-lines"),
        ("/process/execCPUAffinity", json!({"initial": "0-3", "final": ""}), "", ""),
        ("/process/execCPUAffinity", json!({"final": "3-0"}), "/process/execCPUAffinity/final", "cpu-list"),
        ("/process/execCPUAffinity", json!({"initial": "a"}), "/process/execCPUAffinity/initial", "cpu-list"),
    ]);
    refused(
        &[("/process/terminal", json!(true)), ("/process/consoleSize", json!({"height": 70000, "width": 1}))],
        "/process/consoleSize/height",
        "value-out-of-range",
    );
    let found = valid(&[
        ("/process/terminal", json!(true)),
        ("/process/consoleSize", json!({"height": 24, "width": 80})),
        ("/process/oomScoreAdj", json!(-7)),
        ("/process/noNewPrivileges", json!(true)),
    ]);
    assert_eq!((found.process.console_size, found.process.oom_score_adj), (Some((24, 80)), Some(-7)));
    assert!(found.process.terminal && found.process.no_new_privileges);
}

#[test]
fn rlimits() {
    let limit = |kind: &str, soft: u64, hard: u64| json!({"type": kind, "soft": soft, "hard": hard});
    table(&[
        ("/process/rlimits", json!([limit("RLIMIT_NOFILE", 1, 2)]), "", ""),
        ("/process/rlimits", json!([limit("RLIMIT_CORE", 0, u64::MAX)]), "", ""),
        (
            "/process/rlimits",
            json!([limit("RLIMIT_NOFILES", 1, 2)]),
            "/process/rlimits/0/type",
            "value-unknown",
        ),
        ("/process/rlimits", json!([limit("NOFILE", 1, 2)]), "/process/rlimits/0/type", "value-unknown"),
        (
            "/process/rlimits",
            json!([limit("RLIMIT_NOFILE", 3, 2)]),
            "/process/rlimits/0/soft",
            "rlimit-order",
        ),
        (
            "/process/rlimits",
            json!([limit("RLIMIT_CPU", 1, 2), limit("RLIMIT_AS", 1, 2), limit("RLIMIT_CPU", 1, 2)]),
            "/process/rlimits/2",
            "rlimit-twice",
        ),
    ]);
    let numbers = [
        libc::RLIMIT_CPU,
        libc::RLIMIT_FSIZE,
        libc::RLIMIT_DATA,
        libc::RLIMIT_STACK,
        libc::RLIMIT_CORE,
        libc::RLIMIT_RSS,
        libc::RLIMIT_NPROC,
        libc::RLIMIT_NOFILE,
        libc::RLIMIT_MEMLOCK,
        libc::RLIMIT_AS,
        libc::RLIMIT_LOCKS,
        libc::RLIMIT_SIGPENDING,
        libc::RLIMIT_MSGQUEUE,
        libc::RLIMIT_NICE,
        libc::RLIMIT_RTPRIO,
        libc::RLIMIT_RTTIME,
    ];
    for (number, (name, ours)) in numbers.iter().zip(super::super::process::RLIMITS) {
        assert_eq!(i64::from(ours), i64::from(*number), "{name}");
    }
}

#[test]
fn capabilities_that_are_unknown_are_not_granted() {
    let found = valid(&[(
        "/process/capabilities",
        json!({"bounding": ["CAP_CHOWN", "CAP_FUTURE", "CAP_SYS_ADMIN"]}),
    )]);
    let sets = found.process.capabilities.expect("capabilities");
    assert_eq!((sets.bounding, sets.permitted), (1 | 1 << 21, 0));
    let warned: Vec<_> = found.warnings.iter().map(|w| (w.pointer.as_str(), w.code)).collect();
    assert_eq!(warned, [("/process/capabilities/bounding/1", "capability-unknown")]);
    table(&[
        (
            "/process/capabilities",
            json!({"effective": ["CAP_KILL"]}),
            "/process/capabilities/effective",
            "capability-not-permitted",
        ),
        (
            "/process/capabilities",
            json!({"permitted": ["CAP_KILL"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"]}),
            "",
            "",
        ),
    ]);
}

#[test]
fn ambient_capabilities_that_the_kernel_would_not_raise_are_left_out() {
    let found = valid(&[(
        "/process/capabilities",
        json!({
            "permitted": ["CAP_KILL", "CAP_CHOWN"], "inheritable": ["CAP_CHOWN", "CAP_FOWNER"],
            "ambient": ["CAP_KILL", "CAP_CHOWN", "CAP_FOWNER"]
        }),
    )]);
    assert_eq!(found.process.capabilities.expect("capabilities").ambient, 1);
    let warned: Vec<_> = found.warnings.iter().map(|w| (w.pointer.as_str(), w.code)).collect();
    assert_eq!(warned, [("/process/capabilities/ambient", "capability-not-ambient")]);
}

#[test]
fn scheduling() {
    let at = "/process/scheduler";
    table(&[
        (at, json!({"policy": "SCHED_OTHER", "nice": -20}), "", ""),
        (at, json!({"policy": "SCHED_OTHER", "nice": 20}), "/process/scheduler/nice", "value-out-of-range"),
        (
            at,
            json!({"policy": "SCHED_BATCH", "priority": 1}),
            "/process/scheduler/priority",
            "scheduler-conflict",
        ),
        (at, json!({"policy": "SCHED_FIFO", "priority": 1, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}), "", ""),
        (at, json!({"policy": "SCHED_RR"}), "/process/scheduler/priority", "value-out-of-range"),
        (
            at,
            json!({"policy": "SCHED_RR", "priority": 100}),
            "/process/scheduler/priority",
            "value-out-of-range",
        ),
        (at, json!({"policy": "SCHED_DEADLINE", "runtime": 1, "deadline": 2, "period": 3}), "", ""),
        (at, json!({"policy": "SCHED_IDLE", "period": 3}), "/process/scheduler/period", "scheduler-conflict"),
        (at, json!({"policy": "SCHED_FIRST"}), "/process/scheduler/policy", "value-unknown"),
        (at, json!({"policy": "SCHED_IDLE", "flags": ["X"]}), "/process/scheduler/flags/0", "value-unknown"),
        ("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 7}), "", ""),
        (
            "/process/ioPriority",
            json!({"class": "IOPRIO_CLASS_BE", "priority": 8}),
            "/process/ioPriority/priority",
            "value-out-of-range",
        ),
        (
            "/process/ioPriority",
            json!({"class": "IOPRIO_CLASS_BE", "priority": -1}),
            "/process/ioPriority/priority",
            "value-out-of-range",
        ),
        (
            "/process/ioPriority",
            json!({"class": "BE", "priority": 0}),
            "/process/ioPriority/class",
            "value-unknown",
        ),
    ]);
}

#[test]
fn exec_wants_to_know_the_ids() {
    let process = |document: Value| Process::from_slice(document.to_string().as_bytes()).expect("loads");
    let good = json!({"cwd": "/", "args": ["a"], "user": {"uid": 7, "gid": 8, "additionalGids": [9]}});
    let found = validate_process(&process(good)).expect("valid");
    assert_eq!((found.user.uid.get(), found.user.gid.get()), (7, 8));
    let found =
        validate_process(&process(json!({"cwd": "x", "args": [], "user": {"gid": 1}}))).expect_err("refused");
    let expected = [("/args", "args-empty"), ("/cwd", "path-not-absolute"), ("/user/uid", "id-missing")];
    assert_eq!(codes(found), expected.map(|(pointer, code)| (pointer.to_owned(), code)));
    let found = validate_process(&process(json!({"cwd": "/", "args": ["a"]}))).expect_err("refused");
    assert_eq!(found.len(), 2);
    let found = valid(&[("/process/user", Value::Null)]);
    let warned: Vec<_> = found.warnings.iter().map(|w| w.pointer.as_str()).collect();
    assert_eq!(warned, ["/process/user/uid", "/process/user/gid"]);
}

#[test]
fn hooks() {
    let at = "/hooks/createRuntime";
    table(&[
        (at, json!([{"path": "/bin/a", "timeout": 1, "env": ["A=b"]}]), "", ""),
        (at, json!([{"path": "bin/a"}]), "/hooks/createRuntime/0/path", "path-not-absolute"),
        (at, json!([{"path": ""}]), "/hooks/createRuntime/0/path", "path-empty"),
        (
            at,
            json!([{"path": "/a"}, {"path": "/a", "timeout": 0}]),
            "/hooks/createRuntime/1/timeout",
            "value-out-of-range",
        ),
        (at, json!([{"path": "/a", "timeout": -1}]), "/hooks/createRuntime/0/timeout", "value-out-of-range"),
        (at, json!([{"path": "/a", "env": ["A"]}]), "/hooks/createRuntime/0/env/0", "env-no-value"),
        (at, json!(vec![json!({"path": "/a"}); 4097]), at, "too-many"),
    ]);
    let found = valid(&[(
        "/hooks",
        json!({
            "poststop": [{"path": "/e"}],
            "prestart": [{"path": "/a", "args": ["x", "y"], "env": [], "timeout": 3}, {"path": "/b"}],
        }),
    )]);
    let summary: Vec<_> =
        found.hooks.iter().map(|h| (h.point.name(), h.index, h.args[0].as_str(), h.env.is_some())).collect();
    assert_eq!(
        summary,
        [("prestart", 0, "x", true), ("prestart", 1, "/b", false), ("poststop", 0, "/e", false)]
    );
    assert_eq!(found.hooks[0].timeout, Some(std::time::Duration::from_secs(3)));
}
