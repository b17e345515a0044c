//! Every rule: a document that breaks no rule, one change, the pointer and the code that follow from it.

use serde_json::{Value, json};

use super::*;

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

/// What is said about the base with these changes, but for what is not built.
fn check(changes: &[(&str, Value)]) -> Vec<(String, &'static str)> {
    let mut document = base();
    for (pointer, value) in changes {
        put(&mut document, pointer, value.clone());
    }
    let mut found = codes(validate(spec(&document)).err().unwrap_or_default());
    found.retain(|(_, code)| *code != report::UNBUILT);
    found
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
    for (number, (name, ours)) in numbers.iter().zip(process::RLIMITS) {
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
            json!({"permitted": ["CAP_KILL"], "ambient": ["CAP_KILL"]}),
            "/process/capabilities/ambient",
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

#[test]
fn mounts() {
    let mount =
        |options: Value| json!({"destination": "/m", "type": "tmpfs", "source": "x", "options": options});
    let bind = |options: Value| json!({"destination": "/m", "source": "x", "options": options});
    let at = |destination: &str, kind: &str| json!({"destination": destination, "type": kind, "source": "x"});
    let here = "/mounts/1";
    table(&[
        (here, mount(json!(["size=1m", "nosuid", "tmpcopyup"])), "", ""),
        (here, bind(json!(["bind", "size=1m"])), "/mounts/1/options/1", "bind-data"),
        (here, bind(json!(["rbind", "nosiud"])), "/mounts/1/options/1", "bind-data"),
        (here, bind(json!(["rbind", "tmpcopyup"])), "/mounts/1/options", "tmpcopyup-type"),
        (
            here,
            json!({"destination": "/m", "type": "ext4", "options": ["tmpcopyup"]}),
            "/mounts/1/options",
            "tmpcopyup-type",
        ),
        (here, json!({"destination": "/m", "options": ["bind"]}), "/mounts/1/source", "bind-source-missing"),
        (
            here,
            json!({"destination": "/m", "type": "bind", "source": "x"}),
            "/mounts/1/type",
            "mount-type-missing",
        ),
        (here, json!({"destination": "/m", "source": "x"}), "/mounts/1/type", "mount-type-missing"),
        (here, json!({"destination": "/m", "options": ["remount", "ro"]}), "", ""),
        (here, json!({"destination": "", "type": "tmpfs"}), "/mounts/1/destination", "path-empty"),
        (
            here,
            json!({"destination": "/m", "type": "tmpfs", "source": "x".repeat(300)}),
            "/mounts/1/source",
            "path-too-long",
        ),
        (here, at("/proc/cpuinfo", "tmpfs"), "", ""),
        (here, at("/proc/sys/kernel/ns_last_pid", "tmpfs"), "", ""),
        (here, at("/procfs", "tmpfs"), "", ""),
        (here, at("/proc/self/attr", "tmpfs"), "/mounts/1/destination", "proc-below"),
        (here, at("/a/../proc//./sys", "tmpfs"), "/mounts/1/destination", "proc-below"),
        (here, at("proc/sys", "tmpfs"), "/mounts/1/destination", "proc-below"),
        (here, at("/proc/", "tmpfs"), "/mounts/1/destination", "proc-type"),
        (here, at("/../proc", "sysfs"), "/mounts/1/destination", "proc-type"),
        (here, json!({"destination": "/proc", "source": "/proc", "options": ["rbind"]}), "", ""),
    ]);
    let found = valid(&[(
        here,
        json!({"destination": "a/../b/./c", "type": "none", "source": "s", "options": ["bind"]}),
    )]);
    let mount = &found.mounts[1];
    assert_eq!((mount.destination.as_str(), mount.kind.as_str(), mount.source.as_str()), ("/b/c", "", "s"));
    assert_eq!(found.warnings.iter().map(|w| w.code).collect::<Vec<_>>(), ["destination-relative"]);
}

#[test]
fn idmapped_mounts() {
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 10}]);
    let bind = |extra: Value| {
        let mut mount = json!({"destination": "/m", "source": "x", "options": ["bind", "idmap"]});
        for (key, value) in extra.as_object().expect("object") {
            mount[key] = value.clone();
        }
        mount
    };
    let here = "/mounts/1";
    table(&[
        (here, bind(json!({})), "", ""),
        (here, bind(json!({"uidMappings": map, "gidMappings": map})), "", ""),
        (here, bind(json!({"uidMappings": map})), "/mounts/1/gidMappings", "idmap-one-sided"),
        (here, bind(json!({"gidMappings": map})), "/mounts/1/uidMappings", "idmap-one-sided"),
        (
            here,
            bind(json!({"gidMappings": map, "uidMappings": [{"containerID": 0, "hostID": 0, "size": 0}]})),
            "/mounts/1/uidMappings/0/size",
            "mapping-empty",
        ),
    ]);
    refused(
        &[
            (here, bind(json!({}))),
            ("/linux/namespaces/5", json!({"type": "cgroup"})),
            ("/linux/uidMappings", json!([])),
            ("/linux/gidMappings", json!([])),
        ],
        "/mounts/1/options",
        "idmap-without-mappings",
    );
}

#[test]
fn namespaces() {
    table(&[
        ("/linux/namespaces/-", json!({"type": "pid"}), "/linux/namespaces/7", "namespace-twice"),
        ("/linux/namespaces/-", json!({"type": "Cgroup"}), "/linux/namespaces/7/type", "value-unknown"),
        (
            "/linux/namespaces/-",
            json!({"type": "cgroup", "path": "x"}),
            "/linux/namespaces/7/path",
            "path-not-absolute",
        ),
        ("/linux/namespaces/-", json!({"type": "cgroup", "path": ""}), "", ""),
        ("/linux/namespaces/0", json!({"type": "cgroup"}), "/linux/namespaces", "mount-namespace-missing"),
    ]);
    let found = valid(&[]);
    assert!(
        found.namespaces.is_new(NamespaceKind::Mount) && !found.namespaces.contains(NamespaceKind::Cgroup)
    );
    assert_eq!(found.namespaces.joined(NamespaceKind::Network), Some(std::path::Path::new("/run/netns/x")));
    for ((_, kind), flag) in NamespaceKind::ALL.into_iter().zip([
        libc::CLONE_NEWCGROUP,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWNS,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWPID,
        0x80,
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWUTS,
    ]) {
        assert_eq!(i64::try_from(kind.clone_flag()), Ok(i64::from(flag)), "{}", kind.name());
    }
}

#[test]
fn id_maps() {
    let map = |lines: &[(u32, u32, u32)]| {
        Value::from_iter(lines.iter().map(|(c, h, s)| json!({"containerID": c, "hostID": h, "size": s})))
    };
    let at = "/linux/uidMappings";
    let many: Vec<_> = (0..341).map(|i| (i, i, 1)).collect();
    table(&[
        (at, map(&[(0, 1, 10), (10, 100, 4_294_967_195)]), "", ""),
        (at, map(&[]), at, "mapping-missing"),
        (at, map(&[(0, 1, 0)]), "/linux/uidMappings/0/size", "mapping-empty"),
        (at, map(&[(0, 1, u32::MAX)]), "/linux/uidMappings/0/hostID", "mapping-too-large"),
        (
            at,
            map(&[(0, 5, 1), (4_294_967_294, 7, 2)]),
            "/linux/uidMappings/1/containerID",
            "mapping-too-large",
        ),
        (at, map(&[(0, 100, 10), (9, 200, 1)]), "/linux/uidMappings/1/containerID", "mapping-overlap"),
        (at, map(&[(0, 100, 10), (10, 109, 1)]), "/linux/uidMappings/1/hostID", "mapping-overlap"),
        (at, map(&[(20, 100, 10), (0, 105, 1)]), "/linux/uidMappings/1/hostID", "mapping-overlap"),
        (at, map(&many), at, "too-many"),
        (at, map(&many[..340]), "", ""),
    ]);
    let none = ("/linux/namespaces/5", json!({"type": "cgroup"}));
    assert_eq!(
        check(std::slice::from_ref(&none)),
        ["/linux/uidMappings", "/linux/gidMappings"].map(|at| (at.to_owned(), "mapping-without-namespace"))
    );
    accepted(&[none, (at, map(&[])), ("/linux/gidMappings", map(&[]))]);
    let found = valid(&[("/linux/namespaces/5", json!({"type": "user", "path": "/proc/1/ns/user"}))]);
    assert_eq!(found.warnings.iter().map(|w| w.code).collect::<Vec<_>>(), ["mapping-of-joined"; 2]);
}

#[test]
fn time_offsets() {
    let at = "/linux/timeOffsets";
    table(&[
        (at, json!({"realtime": {"secs": 1}}), "/linux/timeOffsets/realtime", "value-unknown"),
        (
            at,
            json!({"boottime": {"nanosecs": 1_000_000_000}}),
            "/linux/timeOffsets/boottime/nanosecs",
            "value-out-of-range",
        ),
        ("/linux/namespaces/6", json!({"type": "cgroup"}), at, "time-namespace-missing"),
        ("/linux/namespaces/6", json!({"type": "time", "path": "/x"}), at, "time-namespace-missing"),
    ]);
    let found = valid(&[]);
    assert_eq!(
        found.time_offsets,
        [ClockOffset { clock: Clock::Monotonic, secs: -5, nanosecs: 999_999_999 }]
    );
}

#[test]
fn sysctls() {
    let at = "/linux/sysctl";
    table(&[
        (
            at,
            json!({"kernel.shmmax": "1", "fs/mqueue/msg_max": "2", "user.max_user_namespaces": "0"}),
            "",
            "",
        ),
        (at, json!({"kernel.domainname": "d"}), "", ""),
        (at, json!({"kernel.hostname": "h"}), "/linux/sysctl/kernel.hostname", "sysctl-not-namespaced"),
        (
            at,
            json!({"kernel.core_pattern": "|/x"}),
            "/linux/sysctl/kernel.core_pattern",
            "sysctl-not-namespaced",
        ),
        (at, json!({"vm/swappiness": "1"}), "/linux/sysctl/vm~1swappiness", "sysctl-not-namespaced"),
        (
            at,
            json!({"net/ipv4/../../kernel/core_pattern": "x"}),
            "/linux/sysctl/net~1ipv4~1..~1..~1kernel~1core_pattern",
            "sysctl-key",
        ),
        (at, json!({"net.ipv4.//.x": "x"}), "/linux/sysctl/net.ipv4.~1~1.x", "sysctl-key"),
        (at, json!({"net..x": "x"}), "/linux/sysctl/net..x", "sysctl-key"),
        (at, json!({"net.a": "1\n2"}), "/linux/sysctl/net.a", "text-lines"),
        (at, json!({"net.a+b": "1+2=3"}), "", ""),
        (at, json!({"net.a.b": "1", "net/a/b": "2"}), "/linux/sysctl/net~1a~1b", "sysctl-twice"),
    ]);
    for (index, key) in
        [(3, "kernel.sem"), (3, "fs.mqueue.x"), (4, "net.x"), (2, "kernel.domainname"), (5, "user.x")]
    {
        let place = format!("/linux/namespaces/{index}");
        let found = check(&[(&place, json!({"type": "cgroup"})), (at, json!({key: "1"}))]);
        assert!(found.contains(&(format!("/linux/sysctl/{key}"), "sysctl-of-host")), "{key}: {found:?}");
    }
    let found = valid(&[(at, json!({"net/ipv4/conf/eth0.1/forwarding": "1"}))]);
    assert_eq!(found.sysctl[0].components, ["net", "ipv4", "conf", "eth0.1", "forwarding"]);
}

#[test]
fn devices() {
    let device = |kind: &str, major: i64, minor: i64| json!([{"path": "/dev/x", "type": kind, "major": major, "minor": minor}]);
    let at = "/linux/devices";
    table(&[
        (at, device("c", 4095, 1_048_575), "", ""),
        (at, device("u", 1, 3), "", ""),
        (at, json!([{"path": "/srv/p", "type": "p"}]), "", ""),
        (at, device("d", 1, 3), "/linux/devices/0/type", "value-unknown"),
        (at, device("c", 4096, 0), "/linux/devices/0/major", "value-out-of-range"),
        (at, device("b", 1, -1), "/linux/devices/0/minor", "value-out-of-range"),
        (
            at,
            json!([{"path": "/dev/x", "type": "c", "major": 1}]),
            "/linux/devices/0/minor",
            "device-number-missing",
        ),
        (at, json!([{"path": "dev/x", "type": "p"}]), "/linux/devices/0/path", "path-not-absolute"),
        (at, json!([{"path": "/dev/..", "type": "p"}]), "/linux/devices/0/path", "device-path"),
        (
            at,
            json!([{"path": "/a", "type": "p", "fileMode": 0o200_000}]),
            "/linux/devices/0/fileMode",
            "value-out-of-range",
        ),
        (at, json!([device("c", 1, 3)[0], device("c", 1, 3)[0]]), "", ""),
        (at, json!([device("c", 1, 3)[0], device("c", 1, 5)[0]]), "/linux/devices/1/path", "device-twice"),
    ]);
    let found = valid(&[(
        at,
        json!([{"path": "/dev//y", "type": "b", "major": 8, "minor": 1, "fileMode": 0o60640, "uid": 5}]),
    )]);
    let device = &found.devices[0];
    assert_eq!((device.path.as_str(), device.kind, device.mode), ("/dev/y", DeviceKind::Block, Some(0o640)));
    assert_eq!((device.uid.map(|id| id.get()), device.gid), (Some(5), None));
}

#[test]
fn device_rules() {
    let at = "/linux/resources/devices";
    let rule = |kind: &str, major: i64, access: &str| json!([{"allow": true, "type": kind, "major": major, "access": access}]);
    table(&[
        (at, rule("c", 10, "mr"), "", ""),
        (at, rule("d", 10, "r"), "/linux/resources/devices/0/type", "value-unknown"),
        (at, rule("c", -2, "r"), "/linux/resources/devices/0/major", "value-out-of-range"),
        (at, rule("c", 1, ""), "/linux/resources/devices/0/access", "device-access"),
        (at, rule("c", 1, "rx"), "/linux/resources/devices/0/access", "device-access"),
        (at, rule("c", 1, "rr"), "/linux/resources/devices/0/access", "device-access"),
    ]);
    let found = valid(&[(
        at,
        json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 5, "minor": -1, "access": "w"}]),
    )]);
    let rules: Vec<_> = found
        .device_rules
        .iter()
        .map(|r| (r.allow, r.kind, r.major, r.minor, r.read, r.write, r.mknod))
        .collect();
    assert_eq!(
        rules,
        [
            (false, RuleKind::All, None, None, true, true, true),
            (true, RuleKind::Char, Some(5), None, false, true, false),
        ]
    );
}

#[test]
fn resources() {
    let at = "/linux/resources";
    let unified = |key: &str, value: &str| json!({"unified": {key: value}});
    table(&[
        (at, json!({"memory": {"limit": -1, "swap": -1, "swappiness": 100}}), "", ""),
        (at, json!({"memory": {"limit": -2}}), "/linux/resources/memory/limit", "value-out-of-range"),
        (
            at,
            json!({"memory": {"swappiness": 101}}),
            "/linux/resources/memory/swappiness",
            "value-out-of-range",
        ),
        (at, json!({"cpu": {"cpus": "0-3,7", "mems": "", "quota": -1, "burst": 5, "idle": 1}}), "", ""),
        (at, json!({"cpu": {"cpus": "0\n1"}}), "/linux/resources/cpu/cpus", "cpu-list"),
        (at, json!({"cpu": {"idle": 2}}), "/linux/resources/cpu/idle", "value-out-of-range"),
        (at, json!({"cpu": {"quota": 5, "burst": 6}}), "/linux/resources/cpu/burst", "value-out-of-range"),
        (at, json!({"blockIO": {"weight": 0, "leafWeight": 1000}}), "", ""),
        (at, json!({"blockIO": {"weight": 9}}), "/linux/resources/blockIO/weight", "value-out-of-range"),
        (
            at,
            json!({"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "leafWeight": 1001}]}}),
            "/linux/resources/blockIO/weightDevice/0/leafWeight",
            "value-out-of-range",
        ),
        (
            at,
            json!({"blockIO": {"throttleReadIOPSDevice": [{"major": 8, "minor": -1, "rate": 5}]}}),
            "/linux/resources/blockIO/throttleReadIOPSDevice/0/minor",
            "value-out-of-range",
        ),
        (at, json!({"network": {"priorities": [{"name": "eth0", "priority": 1}]}}), "", ""),
        (
            at,
            json!({"network": {"priorities": [{"name": "eth 0", "priority": 1}]}}),
            "/linux/resources/network/priorities/0/name",
            "interface-name",
        ),
        (
            at,
            json!({"hugepageLimits": [{"pageSize": "64KB", "limit": 1}, {"pageSize": "1GB", "limit": 1}]}),
            "",
            "",
        ),
        (
            at,
            json!({"hugepageLimits": [{"pageSize": "2M", "limit": 1}]}),
            "/linux/resources/hugepageLimits/0/pageSize",
            "page-size",
        ),
        (
            at,
            json!({"hugepageLimits": [{"pageSize": "02MB", "limit": 1}]}),
            "/linux/resources/hugepageLimits/0/pageSize",
            "page-size",
        ),
        (
            at,
            json!({"hugepageLimits": [{"pageSize": "../2MB", "limit": 1}]}),
            "/linux/resources/hugepageLimits/0/pageSize",
            "page-size",
        ),
        (
            at,
            json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 1}, {"pageSize": "2MB", "limit": 2}]}),
            "/linux/resources/hugepageLimits/1/pageSize",
            "page-size-twice",
        ),
        (at, json!({"rdma": {"mlx5_0": {"hcaHandles": 1}}}), "", ""),
        (at, json!({"rdma": {"mlx5_0": {}}}), "/linux/resources/rdma/mlx5_0", "rdma-empty"),
        (at, json!({"rdma": {"a b": {"hcaObjects": 1}}}), "/linux/resources/rdma/a b", "rdma-device"),
        (at, unified("memory.high", "1000"), "", ""),
        (at, unified("hugetlb.1GB.max", "1\n"), "", ""),
        (at, unified("io.max", "8:0 rbps=1\n8:16 rbps=2"), "", ""),
        (at, unified("memory.high", "1\n2"), "/linux/resources/unified/memory.high", "text-lines"),
        (at, unified("../memory.high", "1"), "/linux/resources/unified/..~1memory.high", "unified-file"),
        (at, unified("a/b.c", "1"), "/linux/resources/unified/a~1b.c", "unified-file"),
        (at, unified("memory", "1"), "/linux/resources/unified/memory", "unified-file"),
        (at, unified(".memory", "1"), "/linux/resources/unified/.memory", "unified-file"),
        (at, unified("memory.", "1"), "/linux/resources/unified/memory.", "unified-file"),
        (at, unified("..", "1"), "/linux/resources/unified/..", "unified-file"),
        (at, unified("cgroup.procs", "1"), "/linux/resources/unified/cgroup.procs", "unified-own-file"),
        (at, unified("cgroup.kill", "1"), "/linux/resources/unified/cgroup.kill", "unified-own-file"),
    ]);
    let update = Resources::from_slice(br#"{"memory": {"limit": -5}}"#).expect("loads");
    let found = codes(validate_resources(&update).expect_err("refused"));
    assert_eq!(found, [("/memory/limit".to_owned(), "value-out-of-range")]);
}

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
            json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "run/l"}),
            "/linux/seccomp/listenerPath",
            "path-not-absolute",
        ),
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

#[test]
fn small_parts_of_linux() {
    let rdt = |key: &str, value: &str| json!({key: value});
    let policy = |mode: &str, nodes: &str| json!({"mode": mode, "nodes": nodes});
    table(&[
        ("/linux/rootfsPropagation", json!("rshared"), "", ""),
        ("/linux/rootfsPropagation", json!("unbindable"), "", ""),
        ("/linux/rootfsPropagation", json!("ro"), "/linux/rootfsPropagation", "value-unknown"),
        (
            "/linux/maskedPaths",
            json!(["/proc/kcore", "proc/keys"]),
            "/linux/maskedPaths/1",
            "path-not-absolute",
        ),
        ("/linux/readonlyPaths", json!([""]), "/linux/readonlyPaths/0", "path-empty"),
        ("/linux/cgroupsPath", json!("system.slice:docker:x"), "", ""),
        ("/linux/cgroupsPath", json!("/kubepods/x"), "", ""),
        ("/linux/cgroupsPath", json!("/a/../../b"), "/linux/cgroupsPath", "cgroup-path"),
        ("/linux/cgroupsPath", json!("a\nb"), "/linux/cgroupsPath", "text-lines"),
        ("/linux/intelRdt", rdt("closID", "guaranteed"), "", ""),
        ("/linux/intelRdt", rdt("closID", "/"), "", ""),
        ("/linux/intelRdt", rdt("closID", "a/b"), "/linux/intelRdt/closID", "clos-id"),
        ("/linux/intelRdt", rdt("closID", ".."), "/linux/intelRdt/closID", "clos-id"),
        ("/linux/intelRdt", rdt("l3CacheSchema", "L3:0=f\nL3CODE:0=f"), "", ""),
        (
            "/linux/intelRdt",
            rdt("l3CacheSchema", "MB:0=10"),
            "/linux/intelRdt/l3CacheSchema",
            "schema-prefix",
        ),
        ("/linux/intelRdt", rdt("memBwSchema", "L3:0=f"), "/linux/intelRdt/memBwSchema", "schema-prefix"),
        (
            "/linux/intelRdt",
            rdt("memBwSchema", "MB:0=10\nMB:1=5"),
            "/linux/intelRdt/memBwSchema",
            "text-lines",
        ),
        (
            "/linux/intelRdt",
            json!({"schemata": ["L3:0=f", "a\nb"]}),
            "/linux/intelRdt/schemata/1",
            "text-lines",
        ),
        ("/linux/memoryPolicy", policy("MPOL_BIND", "0-1"), "", ""),
        ("/linux/memoryPolicy", policy("MPOL_BIND", ""), "/linux/memoryPolicy/nodes", "memory-nodes"),
        ("/linux/memoryPolicy", policy("MPOL_LOCAL", "0"), "/linux/memoryPolicy/nodes", "memory-nodes"),
        ("/linux/memoryPolicy", policy("MPOL_PREFERRED", ""), "", ""),
        ("/linux/memoryPolicy", policy("MPOL_PREFERRED", "x"), "/linux/memoryPolicy/nodes", "cpu-list"),
        ("/linux/memoryPolicy", policy("MPOL_NEW", "0"), "/linux/memoryPolicy/mode", "value-unknown"),
        (
            "/linux/memoryPolicy",
            json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_X"]}),
            "/linux/memoryPolicy/flags/0",
            "value-unknown",
        ),
        ("/linux/personality", json!({"domain": "LINUX32"}), "", ""),
        ("/linux/personality", json!({"domain": "BSD"}), "/linux/personality/domain", "value-unknown"),
        (
            "/linux/personality",
            json!({"domain": "LINUX", "flags": ["X"]}),
            "/linux/personality/flags/0",
            "value-unknown",
        ),
        ("/linux/netDevices", json!({"eth0": {"name": "c%d"}, "eth1": {}}), "", ""),
        ("/linux/netDevices", json!({"a/b": {}}), "/linux/netDevices/a~1b", "interface-name"),
        (
            "/linux/netDevices",
            json!({"eth0123456789abc": {}}),
            "/linux/netDevices/eth0123456789abc",
            "interface-name",
        ),
        (
            "/linux/netDevices",
            json!({"eth0": {"name": "a%d%d"}}),
            "/linux/netDevices/eth0/name",
            "interface-name",
        ),
        (
            "/linux/netDevices",
            json!({"eth0": {"name": ".."}}),
            "/linux/netDevices/eth0/name",
            "interface-name",
        ),
    ]);
    refused(
        &[
            ("/linux/netDevices", json!({"eth0": {}})),
            ("/linux/namespaces/4", json!({"type": "cgroup"})),
            ("/linux/sysctl", json!({})),
        ],
        "/linux/netDevices",
        "network-namespace-missing",
    );
}

#[test]
fn what_is_not_built_is_refused_where_it_is_asked_for() {
    let map = json!([{"containerID": 0, "hostID": 1000, "size": 10}]);
    let notify = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/l",
        "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}]
    });
    let bind = json!({"destination": "/m", "source": "x", "options": ["bind", "ridmap"]});
    let mapped = json!({"destination": "/m", "source": "x", "options": ["bind"], "uidMappings": map, "gidMappings": map});
    use unbuilt::Feature;
    for (feature, place, value, pointer) in [
        (Feature::IntelRdt, "/linux/intelRdt", json!({}), "/linux/intelRdt"),
        (Feature::MemoryPolicy, "/linux/memoryPolicy", json!({"mode": "MPOL_LOCAL"}), "/linux/memoryPolicy"),
        (Feature::NetDevices, "/linux/netDevices", json!({"eth0": {}}), "/linux/netDevices"),
        (Feature::Scheduler, "/process/scheduler", json!({"policy": "SCHED_IDLE"}), "/process/scheduler"),
        (
            Feature::IoPriority,
            "/process/ioPriority",
            json!({"class": "IOPRIO_CLASS_BE", "priority": 1}),
            "/process/ioPriority",
        ),
        (Feature::Personality, "/linux/personality", json!({"domain": "LINUX"}), "/linux/personality"),
        (Feature::SeccompNotify, "/linux/seccomp", notify, "/linux/seccomp/listenerPath"),
        (Feature::IdMappedMounts, "/mounts/1", bind, "/mounts/1"),
        (Feature::IdMappedMounts, "/mounts/1", mapped, "/mounts/1"),
        (Feature::ProcessLabel, "/process/selinuxLabel", json!("a:b:c:d"), "/process/selinuxLabel"),
        (Feature::MountLabel, "/linux/mountLabel", json!("a:b:c:d"), "/linux/mountLabel"),
        (Feature::AppArmor, "/process/apparmorProfile", json!("docker-default"), "/process/apparmorProfile"),
        (
            Feature::JoinedMountNamespace,
            "/linux/namespaces/0",
            json!({"type": "mount", "path": "/proc/1/ns/mnt"}),
            "/linux/namespaces/0/path",
        ),
    ] {
        let mut document = base();
        put(&mut document, place, value);
        let found = codes(validate(spec(&document)).err().unwrap_or_default());
        let expected =
            if unbuilt::is_built(feature) { vec![] } else { vec![(pointer.to_owned(), "unbuilt")] };
        assert_eq!(found, expected, "{feature:?}");
    }
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
        &include_bytes!("../../tests/data/docker.config.json")[..],
        include_bytes!("../../tests/data/docker-privileged.config.json"),
        include_bytes!("../../tests/data/podman.config.json"),
        include_bytes!("../../tests/data/podman-rootless.config.json"),
        include_bytes!("../../tests/data/containerd-cri.config.json"),
        include_bytes!("../../tests/data/containerd-userns.config.json"),
    ] {
        let mut spec = Spec::from_slice(text).expect("loads");
        if !unbuilt::is_built(unbuilt::Feature::AppArmor) {
            spec.process.as_mut().expect("process").apparmor_profile = None;
        }
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

use crate::spec::Id;
