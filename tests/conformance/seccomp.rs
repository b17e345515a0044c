//! System call filters: each proven by calls that must pass and calls that must not.
use crate::rule::*;
use coracle_tests::agent::Agent;
use coracle_tests::*;
use std::time::Duration;

// Calls that nothing needs: times(2), getpriority(2).
#[cfg(target_arch = "x86_64")]
const NUMBERS: (i64, i64, &str) = (100, 140, "SCMP_ARCH_X86_64");
#[cfg(target_arch = "aarch64")]
const NUMBERS: (i64, i64, &str) = (153, 141, "SCMP_ARCH_AARCH64");
const TIMES: i64 = NUMBERS.0;
const GETPRIORITY: i64 = NUMBERS.1;

fn filter(default: &str, rules: Value) -> Value {
    json!({"defaultAction": default, "architectures": [NUMBERS.2], "syscalls": rules})
}

/// The filter allows everything but what the rules say; what becomes of times(2) with this first argument, and of getpriority(2).
fn tried(t: &T, rules: Value, argument: u64) -> Vec<Value> {
    let mut bundle = fresh(t, &[]);
    bundle.set("/linux/seccomp", filter("SCMP_ACT_ALLOW", rules));
    // An address that cannot be written to fails with EFAULT: the call was made.
    answers(t, &mut bundle, &[json!(["syscall", TIMES, argument]), json!(["syscall", GETPRIORITY, 0, 0])])
}

fn errno(answer: &Value) -> Option<i64> {
    answer["errno"].as_i64()
}

/// The filter is refused.
macro_rules! wrong {
    ($name:literal, $at:literal, $says:literal, $fields:expr, $key:literal, $value:tt) => {
        refused($name, $at, $says, $fields, |bundle| {
            bundle.set("/linux/seccomp", filter("SCMP_ACT_ALLOW", json!([{"names": ["times"], "action": "SCMP_ACT_ERRNO"}])));
            bundle.set(concat!("/linux/seccomp/", $key), json!($value))
        })
    };
}

/// The process is ended by the filter.
macro_rules! ended {
    ($name:literal, $action:literal) => {
        holds($name, AT, concat!("the action ", $action, " MUST be applied"), &["/linux/seccomp/syscalls/*/action"], |t| {
            let mut bundle = fresh(t, &["do", &json!(["syscall", TIMES, 0]).to_string()]);
            bundle.set("/linux/seccomp", filter("SCMP_ACT_ALLOW", json!([{"names": ["times"], "action": $action}])));
            // SIGSYS
            assert_eq!(Container::new(t, &mut bundle).run().expect(128 + 31).out, "");
        })
    };
}

/// times(2) with each of the arguments is denied, or not.
macro_rules! compared {
    ($name:literal, $op:literal, $value:expr, $denied:expr, $passed:expr) => {
        holds($name, AT, concat!("the comparison ", $op, " MUST be applied"), &[
            "/linux/seccomp/syscalls/*/args/*/index", "/linux/seccomp/syscalls/*/args/*/value", "/linux/seccomp/syscalls/*/args/*/op",
        ], |t| {
            let rules = json!([{"names": ["times"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99,
                                "args": [{"index": 0, "value": $value, "op": $op}]}]);
            for argument in $denied {
                assert_eq!(errno(&tried(t, rules.clone(), argument)[0]), Some(99), "{argument:#x} is denied");
            }
            for argument in $passed {
                assert_ne!(errno(&tried(t, rules.clone(), argument)[0]), Some(99), "{argument:#x} passes");
            }
        })
    };
}

/// A container whose call is notified: what the agent got, what the call got, the id.
fn notified(t: &T) -> (Value, usize, Value, Value) {
    let agent = Agent::new(t);
    let mut bundle = fresh(t, &["do", &json!(["syscall", TIMES, 0]).to_string()]);
    bundle.set(
        "/linux/seccomp",
        filter("SCMP_ACT_ALLOW", json!([{"names": ["times"], "action": "SCMP_ACT_NOTIFY"}])),
    );
    bundle
        .set("/linux/seccomp/listenerPath", json!(agent.path))
        .set("/linux/seccomp/listenerMetadata", json!("for the agent"));
    bundle.set("/annotations", json!({"com.example.key": "value"}));
    let container = Container::new(t, &mut bundle);
    let running = container.run_call().start();
    let (state, fds) = agent.take();
    let count = fds.len();
    drop(fds);
    let answer = running.done().expect(0).json()[0].clone();
    assert!(!runtime::wait_readable(&agent.socket, Duration::from_millis(50)), "exactly one connection");
    (state, count, answer, json!({"id": container.id, "bundle": container.bundle.dir}))
}

const AT: &str = "config-linux.md#seccomp";
const ACTION: &[&str] = &["/linux/seccomp/syscalls/*/action", "/linux/seccomp/syscalls/*/names/*"];

pub const RULES: &[Rule] = &[
    holds(
        "denied",
        AT,
        "the named calls get an error, EPERM by default, and no others (MUST be applied)",
        ACTION,
        |t| {
            let got = tried(t, json!([{"names": ["times"], "action": "SCMP_ACT_ERRNO"}]), 0);
            assert_eq!(errno(&got[0]), Some(1));
            assert!(works(&got[1]), "{}", got[1]);
        },
    ),
    holds(
        "error_of_choice",
        AT,
        "errnoRet is the error that a call gets (MUST be applied)",
        &["/linux/seccomp/syscalls/*/errnoRet"],
        |t| {
            for number in [2, 38, 133] {
                let rules = json!([{"names": ["times"], "action": "SCMP_ACT_ERRNO", "errnoRet": number}]);
                assert_eq!(errno(&tried(t, rules, 0)[0]), Some(number));
            }
        },
    ),
    holds(
        "several_names",
        AT,
        "every name of a rule is meant (MUST be applied)",
        &["/linux/seccomp/syscalls/*/names/*"],
        |t| {
            let got = tried(t, json!([{"names": ["times", "getpriority"], "action": "SCMP_ACT_ERRNO"}]), 0);
            assert_eq!((errno(&got[0]), errno(&got[1])), (Some(1), Some(1)));
        },
    ),
    ended!("killed", "SCMP_ACT_KILL"),
    ended!("killed_process", "SCMP_ACT_KILL_PROCESS"),
    ended!("killed_thread", "SCMP_ACT_KILL_THREAD"),
    ended!("trapped", "SCMP_ACT_TRAP"),
    holds("logged", AT, "the action SCMP_ACT_LOG lets a call pass (MUST be applied)", ACTION, |t| {
        assert!(works(&tried(t, json!([{"names": ["times"], "action": "SCMP_ACT_LOG"}]), 0)[0]));
    }),
    holds(
        "traced",
        AT,
        "the action SCMP_ACT_TRACE fails a call that nobody traces, with ENOSYS (MUST be applied)",
        ACTION,
        |t| {
            let rules = json!([{"names": ["times"], "action": "SCMP_ACT_TRACE", "errnoRet": 7}]);
            assert_eq!(errno(&tried(t, rules, 0)[0]), Some(38));
        },
    ),
    holds(
        "default_action",
        AT,
        "what no rule names gets the default action with its error (MUST be applied)",
        &["/linux/seccomp/defaultAction", "/linux/seccomp/defaultErrnoRet"],
        |t| {
            let names: Vec<&str> = include_str!("../data/allowed-calls.txt")
                .split_whitespace()
                .filter(|name| *name != "times")
                .collect();
            let mut bundle = fresh(t, &[]);
            bundle.set(
                "/linux/seccomp",
                filter("SCMP_ACT_ERRNO", json!([{"names": names, "action": "SCMP_ACT_ALLOW"}])),
            );
            bundle.set("/linux/seccomp/defaultErrnoRet", json!(77));
            let got = answers(
                t,
                &mut bundle,
                &[json!(["syscall", TIMES, 0]), json!(["syscall", GETPRIORITY, 0, 0])],
            );
            assert_eq!(errno(&got[0]), Some(77));
            assert!(works(&got[1]), "{}", got[1]);
        },
    ),
    compared!("equal", "SCMP_CMP_EQ", 7, [7], [0, 6, 8, 7 << 32]),
    compared!("not_equal", "SCMP_CMP_NE", 7, [0, 8, (1 << 32) + 7], [7]),
    compared!("less", "SCMP_CMP_LT", 7, [0, 6], [7, 8, 1 << 32]),
    compared!("less_or_equal", "SCMP_CMP_LE", 7, [0, 7], [8, 1 << 32]),
    compared!("greater_or_equal", "SCMP_CMP_GE", 7, [7, 8, 1 << 32], [0, 6]),
    compared!("greater", "SCMP_CMP_GT", 7, [8, 1 << 32], [0, 7]),
    compared!("high_half", "SCMP_CMP_EQ", 0x1_0000_0002_u64, [0x1_0000_0002], [2, 0x1_0000_0000]),
    holds(
        "masked",
        AT,
        "the comparison SCMP_CMP_MASKED_EQ MUST be applied: value is the mask, valueTwo what is left",
        &["/linux/seccomp/syscalls/*/args/*/valueTwo"],
        |t| {
            let rules = json!([{"names": ["times"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99,
                            "args": [{"index": 0, "value": 0xf0, "valueTwo": 0x30, "op": "SCMP_CMP_MASKED_EQ"}]}]);
            for (argument, denied) in [(0x30, true), (0x3f, true), (0x1030, true), (0x70, false), (0, false)]
            {
                assert_eq!(errno(&tried(t, rules.clone(), argument)[0]) == Some(99), denied, "{argument:#x}");
            }
        },
    ),
    holds(
        "several_comparisons",
        AT,
        "all comparisons of a rule have to hold (MUST be applied)",
        &["/linux/seccomp/syscalls/*/args/*/index"],
        |t| {
            let rules = json!([{"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99,
            "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 1, "op": "SCMP_CMP_EQ"}]}]);
            let mut bundle = fresh(t, &[]);
            bundle.set("/linux/seccomp", filter("SCMP_ACT_ALLOW", rules));
            let got = answers(
                t,
                &mut bundle,
                &[json!(["syscall", GETPRIORITY, 0, 1]), json!(["syscall", GETPRIORITY, 0, 0])],
            );
            assert_eq!(errno(&got[0]), Some(99));
            assert!(works(&got[1]), "{}", got[1]);
        },
    ),
    holds(
        "architectures",
        AT,
        "every listed architecture is valid (MUST be accepted)",
        &["/linux/seccomp/architectures/*"],
        |t| {
            let mut bundle = fresh(t, &["report"]);
            let own: &[&str] = if NUMBERS.2 == "SCMP_ARCH_X86_64" {
                &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
            } else {
                &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
            };
            bundle.set(
                "/linux/seccomp",
                filter("SCMP_ACT_ALLOW", json!([{"names": ["times"], "action": "SCMP_ACT_ERRNO"}])),
            );
            bundle.set("/linux/seccomp/architectures", json!(own));
            assert_eq!(report(t, &mut bundle)["seccomp"]["mode"], 2);
        },
    ),
    holds(
        "flags",
        AT,
        "the flags of seccomp(2) are valid (MUST be accepted)",
        &["/linux/seccomp/flags/*"],
        |t| {
            for flags in [
                json!([]),
                json!(["SECCOMP_FILTER_FLAG_LOG"]),
                json!(["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]),
            ] {
                let mut bundle = fresh(t, &["report"]);
                bundle.set(
                    "/linux/seccomp",
                    filter("SCMP_ACT_ALLOW", json!([{"names": ["times"], "action": "SCMP_ACT_ERRNO"}])),
                );
                bundle.set("/linux/seccomp/flags", flags);
                assert_eq!(report(t, &mut bundle)["seccomp"]["mode"], 2);
            }
        },
    ),
    holds("without_rules", AT, "syscalls is OPTIONAL", &["/linux/seccomp/defaultAction"], |t| {
        let mut bundle = fresh(t, &["report"]);
        bundle.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW"}));
        assert_eq!(report(t, &mut bundle)["pid"], 1);
    }),
    holds("for_ordinary_users", AT, "the filter MUST be applied, whoever the process is", ACTION, |t| {
        for privileges in [true, false] {
            let mut bundle = fresh(t, &[]);
            bundle
                .set("/process/user", json!({"uid": 1000, "gid": 1000}))
                .set("/process/noNewPrivileges", json!(privileges));
            bundle.set(
                "/linux/seccomp",
                filter("SCMP_ACT_ALLOW", json!([{"names": ["times"], "action": "SCMP_ACT_ERRNO"}])),
            );
            assert_eq!(errno(&answers(t, &mut bundle, &[json!(["syscall", TIMES, 0])])[0]), Some(1));
        }
    }),
    wrong!(
        "no_default_action",
        "config-linux.md#seccomp",
        "defaultAction is REQUIRED",
        &["/linux/seccomp/syscalls"],
        "defaultAction",
        null
    ),
    wrong!(
        "unknown_action",
        "config.md#valid-values",
        "an invalid value MUST be an error",
        &["/linux/seccomp/syscalls/*/action"],
        "syscalls/0/action",
        "SCMP_ACT_FROBNICATE"
    ),
    wrong!(
        "unknown_default_action",
        "config.md#valid-values",
        "an invalid value MUST be an error",
        &["/linux/seccomp/defaultAction"],
        "defaultAction",
        "SCMP_ACT_FROBNICATE"
    ),
    wrong!(
        "unknown_architecture",
        "config.md#valid-values",
        "an invalid value MUST be an error",
        &["/linux/seccomp/architectures/*"],
        "architectures",
        ["SCMP_ARCH_FROBNICATE"]
    ),
    wrong!(
        "unknown_flag",
        "config.md#valid-values",
        "an invalid value MUST be an error",
        &["/linux/seccomp/flags/*"],
        "flags",
        ["SECCOMP_FILTER_FLAG_FROBNICATE"]
    ),
    wrong!("unknown_comparison", "config.md#valid-values", "an invalid value MUST be an error", &["/linux/seccomp/syscalls/*/args/*/op"],
           "syscalls/0/args", [{"index": 0, "value": 1, "op": "SCMP_CMP_FROBNICATE"}]),
    wrong!("argument_out_of_range", "config.md#valid-values", "an invalid value MUST be an error", &["/linux/seccomp/syscalls/*/args/*/index"],
           "syscalls/0/args", [{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]),
    wrong!(
        "no_names",
        "config-linux.md#seccomp",
        "names MUST have at least one entry",
        &["/linux/seccomp/syscalls/*/names"],
        "syscalls/0/names",
        []
    ),
    wrong!("no_action", "config-linux.md#seccomp", "the action is REQUIRED", &["/linux/seccomp/syscalls/*/names"],
           "syscalls/0", {"names": ["times"]}),
    wrong!("error_of_an_action_without", "config-linux.md#seccomp", "errnoRet for an action that has none MUST be an error",
           &["/linux/seccomp/syscalls/*/errnoRet"], "syscalls/0", {"names": ["times"], "action": "SCMP_ACT_KILL", "errnoRet": 7}),
    wrong!(
        "error_of_a_default_action_without",
        "config-linux.md#seccomp",
        "defaultErrnoRet for an action that has none MUST be an error",
        &["/linux/seccomp/defaultErrnoRet"],
        "defaultErrnoRet",
        7
    ),
    wrong!(
        "metadata_without_listener",
        "config-linux.md#seccomp",
        "listenerMetadata MUST NOT be set without listenerPath",
        &["/linux/seccomp/listenerMetadata"],
        "listenerMetadata",
        "x"
    ),
    holds(
        "listener",
        AT,
        "the listener MUST be sent over the socket, and the calls are its",
        &["/linux/seccomp/listenerPath", "/linux/seccomp/listenerMetadata"],
        |t| {
            let (_, count, answer, _) = notified(t);
            assert_eq!(count, 1, "one descriptor");
            assert_eq!(errno(&answer), Some(38), "nobody listens any more: {answer}");
        },
    )
    .needs(&[Need::Kernel(5, 9)]),
    holds(
        "listener_state",
        "config-linux.md#the-container-process-state",
        "the container process state MUST be sent with it",
        &["/linux/seccomp/listenerMetadata"],
        |t| {
            let (state, _, _, container) = notified(t);
            assert_eq!(
                (&state["fds"], &state["metadata"]),
                (&json!(["seccompFd"]), &json!("for the agent")),
                "{state}"
            );
            assert!(state["pid"].as_i64().is_some_and(|pid| pid > 1), "{state}");
            let own = &state["state"];
            assert_eq!((&own["id"], &own["bundle"]), (&container["id"], &container["bundle"]), "{own}");
            assert_eq!((&own["status"], &own["pid"]), (&json!("creating"), &state["pid"]), "{own}");
            assert_eq!(own["annotations"]["com.example.key"], "value", "{own}");
            for version in [&state["ociVersion"], &own["ociVersion"]] {
                assert!(version.as_str().is_some_and(|version| version.starts_with("1.")), "{state}");
            }
        },
    )
    .needs(&[Need::Kernel(5, 9)]),
    holds(
        "nobody_listens",
        AT,
        "when the state cannot be sent, it MUST be an error",
        &["/linux/seccomp/listenerPath"],
        |t| {
            let mut bundle = fresh(t, &[]);
            bundle.set(
                "/linux/seccomp",
                filter("SCMP_ACT_ALLOW", json!([{"names": ["times"], "action": "SCMP_ACT_NOTIFY"}])),
            );
            bundle.set("/linux/seccomp/listenerPath", json!(t.dir().join("nobody")));
            is_refused(t, &mut bundle);
        },
    )
    .needs(&[Need::Kernel(5, 9)]),
    holds(
        "listener_without_notifications",
        AT,
        "without the action SCMP_ACT_NOTIFY the path is ignored (OPTIONAL)",
        &["/linux/seccomp/listenerPath"],
        |t| {
            let mut bundle = fresh(t, &["report"]);
            bundle.set(
                "/linux/seccomp",
                filter("SCMP_ACT_ALLOW", json!([{"names": ["times"], "action": "SCMP_ACT_ERRNO"}])),
            );
            bundle.set("/linux/seccomp/listenerPath", json!(t.dir().join("nobody")));
            assert_eq!(report(t, &mut bundle)["pid"], 1);
        },
    ),
];
