//! Whom the process runs as, with which capabilities, within which limits.
use crate::rule::*;
use coracle_tests::*;

fn sorted(value: &Value) -> Vec<String> {
    let mut all: Vec<String> =
        value.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect();
    all.sort();
    all
}

/// A limit of every kind, one that differs from the usual values.
const LIMITS: [&str; 16] = [
    "RLIMIT_CPU",
    "RLIMIT_FSIZE",
    "RLIMIT_DATA",
    "RLIMIT_STACK",
    "RLIMIT_CORE",
    "RLIMIT_RSS",
    "RLIMIT_NPROC",
    "RLIMIT_NOFILE",
    "RLIMIT_MEMLOCK",
    "RLIMIT_AS",
    "RLIMIT_LOCKS",
    "RLIMIT_SIGPENDING",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_RTPRIO",
    "RLIMIT_RTTIME",
];

fn with_rlimits(bundle: &mut Bundle, limits: Value) -> &mut Bundle {
    bundle.set("/process/rlimits", limits)
}

pub const RULES: &[Rule] = &[
    sees(
        "user_and_group",
        "config.md#posix-platform-user",
        "uid and gid are those in the container (MUST be applied)",
        &["/process/user/uid", "/process/user/gid"],
        |bundle| bundle.set("/process/user", json!({"uid": 1234, "gid": 5678})),
        |seen| {
            for kind in ["real", "effective", "saved", "fs"] {
                assert_eq!((&seen["uid"][kind], &seen["gid"][kind]), (&json!(1234), &json!(5678)), "{kind}");
            }
        },
    ),
    sees(
        "additional_groups",
        "config.md#posix-platform-user",
        "additionalGids are the supplementary groups (MUST be applied)",
        &["/process/user/additionalGids/*"],
        |bundle| {
            bundle.set(
                "/process/user",
                json!({"uid": 1000, "gid": 1000, "additionalGids": [5, 7000, 2147483647]}),
            )
        },
        |seen| assert_eq!(seen["groups"], json!([5, 7000, 2147483647_i64])),
    ),
    holds(
        "no_groups_of_the_caller",
        "config.md#posix-platform-user",
        "without additionalGids no group of the caller stays (MUST be applied)",
        &["/process/user/gid"],
        |t| {
            for groups in [json!(null), json!([])] {
                let mut bundle = fresh(t, &["report"]);
                bundle.set("/process/user", json!({"uid": 1000, "gid": 1000, "additionalGids": groups}));
                if groups.is_null() {
                    bundle.remove("/process/user/additionalGids");
                }
                let container = Container::new(t, &mut bundle);
                let done = container.run_call().launched(["--user", "0:0,4,27,44"]).done().expect(0);
                let left = &done.json()["groups"];
                assert!([json!([]), json!([1000])].contains(left), "{left}");
            }
        },
    ),
    sees(
        "umask",
        "config.md#posix-platform-user",
        "umask is the mode mask of the process (MUST be applied)",
        &["/process/user/umask"],
        |bundle| bundle.set("/process/user", json!({"uid": 0, "gid": 0, "umask": 0o027})),
        |seen| assert_eq!(seen["umask"], 0o027),
    ),
    refused(
        "negative_user",
        "config.md#valid-values",
        "an invalid value MUST be an error",
        &["/process/user/uid"],
        |bundle| bundle.set("/process/user/uid", json!(-1)),
    ),
    sees(
        "capabilities",
        "config.md#linux-process",
        "bounding, permitted, effective, inheritable and ambient are the sets of the process (MUST be applied)",
        &[
            "/process/capabilities/bounding/*",
            "/process/capabilities/permitted/*",
            "/process/capabilities/effective/*",
            "/process/capabilities/inheritable/*",
            "/process/capabilities/ambient/*",
        ],
        |bundle| {
            bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
            let ambient = ["CAP_NET_BIND_SERVICE", "CAP_CHOWN"];
            bundle.set(
                "/process/capabilities",
                json!({"bounding": ["CAP_KILL", "CAP_CHOWN", "CAP_NET_BIND_SERVICE"], "permitted": ambient,
                       "effective": ambient, "inheritable": ambient, "ambient": ambient}),
            )
        },
        |seen| {
            let both = ["CAP_CHOWN", "CAP_NET_BIND_SERVICE"];
            for set in ["permitted", "effective", "inheritable", "ambient"] {
                assert_eq!(sorted(&seen["caps"][set]), both, "{set}");
            }
            assert_eq!(sorted(&seen["caps"]["bounding"]), ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
        },
    ),
    sees(
        "no_capabilities",
        "config.md#linux-process",
        "what is not listed is not kept (MUST be applied)",
        &["/process/capabilities"],
        |bundle| {
            bundle.set(
                "/process/capabilities",
                json!({"bounding": [], "permitted": [], "effective": [], "inheritable": [], "ambient": []}),
            )
        },
        |seen| {
            for set in ["bounding", "permitted", "effective", "inheritable", "ambient"] {
                assert_eq!(seen["caps"][set], json!([]), "{set}");
            }
        },
    ),
    sees(
        "capability_that_cannot_be_granted",
        "config.md#linux-process",
        "what cannot be mapped to the kernel MUST be a warning, and SHOULD NOT be an error",
        &["/process/capabilities/bounding/*"],
        |bundle| {
            for set in ["bounding", "permitted", "effective"] {
                bundle.set(&format!("/process/capabilities/{set}"), json!(["CAP_KILL", "CAP_FROBNICATE"]));
            }
            bundle
        },
        |seen| assert_eq!(sorted(&seen["caps"]["effective"]), ["CAP_KILL"]),
    ),
    holds(
        "limits",
        "config.md#posix-process",
        "the current and the maximal value of each limit MUST match the configured ones",
        &["/process/rlimits/*/type", "/process/rlimits/*/soft", "/process/rlimits/*/hard"],
        |t| {
            // What nobody here may raise has to lie below the present value; some values would end the process.
            let mut bundle = fresh(t, &["report"]);
            with_rlimits(&mut bundle, json!([]));
            let now = report(t, &mut bundle)["rlimits"].clone();
            let mut limits = Vec::new();
            for (name, n) in LIMITS.iter().zip(0_u64..) {
                let most = now[name]["hard"].as_u64().unwrap_or(u64::MAX);
                let wanted = match *name {
                    "RLIMIT_DATA" | "RLIMIT_AS" | "RLIMIT_STACK" | "RLIMIT_FSIZE" | "RLIMIT_RSS" => {
                        (1 << 33) + 4096 * n
                    }
                    "RLIMIT_NPROC" | "RLIMIT_NOFILE" => 500 + n,
                    "RLIMIT_CPU" | "RLIMIT_RTTIME" => 1_000_000 + n,
                    _ => 20 - n,
                };
                let hard = wanted.min(most);
                limits.push(json!({"type": name, "hard": hard, "soft": hard.saturating_sub(1)}));
            }
            with_rlimits(&mut bundle, json!(limits));
            let seen = report(t, &mut bundle);
            for limit in &limits {
                let name = limit["type"].as_str().unwrap();
                for kind in ["soft", "hard"] {
                    assert_eq!(seen["rlimits"][name][kind], limit[kind], "{name} {kind}");
                }
            }
        },
    ),
    sees(
        "limit_without_end",
        "config.md#posix-process",
        "the largest number is no limit: the values MUST match",
        &["/process/rlimits/*/hard"],
        |bundle| with_rlimits(bundle, json!([{"type": "RLIMIT_CPU", "soft": 1000, "hard": u64::MAX}])),
        |seen| assert_eq!(seen["rlimits"]["RLIMIT_CPU"], json!({"soft": 1000, "hard": "unlimited"})),
    ),
    holds(
        "raised_limit",
        "config.md#posix-process",
        "the maximal value MUST match, also when it has to be raised",
        &["/process/rlimits/*/hard"],
        |t| {
            t.needs(&[need::SYS_RESOURCE]);
            let mut bundle = fresh(t, &["report"]);
            with_rlimits(
                &mut bundle,
                json!([{"type": "RLIMIT_NOFILE", "soft": 1_000_000, "hard": 1_000_000}]),
            );
            let container = Container::new(t, &mut bundle);
            let done = container.run_call().launched(["--limit", "7=5000:5000"]).done().expect(0);
            assert_eq!(done.json()["rlimits"]["RLIMIT_NOFILE"]["hard"], 1_000_000);
        },
    ),
    refused(
        "limit_that_is_unknown",
        "config.md#posix-process",
        "a type that cannot be mapped to the kernel MUST be an error",
        &["/process/rlimits/*/type"],
        |bundle| with_rlimits(bundle, json!([{"type": "RLIMIT_FROBNICATE", "soft": 1, "hard": 1}])),
    ),
    refused(
        "limit_twice",
        "config.md#posix-process",
        "two entries of the same type MUST be an error",
        &["/process/rlimits/*/type"],
        |bundle| {
            let one = json!({"type": "RLIMIT_NOFILE", "soft": 500, "hard": 500});
            with_rlimits(bundle, json!([one, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0}, one]))
        },
    ),
    refused(
        "limit_above_its_ceiling",
        "runtime.md#create",
        "what cannot be applied MUST be an error",
        &["/process/rlimits/*/soft"],
        |bundle| with_rlimits(bundle, json!([{"type": "RLIMIT_NOFILE", "soft": 501, "hard": 500}])),
    ),
    refused(
        "limit_without_its_ceiling",
        "config.md#posix-process",
        "soft and hard are REQUIRED",
        &["/process/rlimits/*/soft"],
        |bundle| with_rlimits(bundle, json!([{"type": "RLIMIT_NOFILE", "soft": 500}])),
    ),
];
