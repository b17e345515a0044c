//! System call filters: each rule is proven by a call that must pass and one that must not.
use coracle_tests::*;

cases![
    none,
    errno_action,
    errno_values,
    default_action,
    killed,
    trapped,
    logged,
    memory_may_stay,
    lists_older_than_close_range,
    hooks_that_it_would_lock_out,
    comparisons,
    conditions_are_all_needed,
    rules_are_alternatives,
    same_argument_twice,
    high_bits,
    unknown_names,
    newer_calls_do_not_exist,
    exec_is_filtered,
    before_and_after_privileges,
    flags,
    wrong_policies,
    default_profile_of_engines,
];

// x86_64 and aarch64 number these alike or not; the names are what the profiles use.
#[cfg(target_arch = "x86_64")]
pub mod number {
    pub const TIMES: i64 = 100;
    pub const PERSONALITY: i64 = 135;
    pub const GETPRIORITY: i64 = 140;
    pub const ARCH: &str = "SCMP_ARCH_X86_64";
}
#[cfg(target_arch = "aarch64")]
pub mod number {
    pub const TIMES: i64 = 153;
    pub const PERSONALITY: i64 = 92;
    pub const GETPRIORITY: i64 = 141;
    pub const ARCH: &str = "SCMP_ARCH_AARCH64";
}
use number::*;

pub fn policy(default: &str, rules: Value) -> Value {
    json!({"defaultAction": default, "architectures": [ARCH], "syscalls": rules})
}

fn filtered(t: &T, rules: Value, actions: &[Value]) -> Vec<Value> {
    let mut bundle = Bundle::new(t, &[]);
    bundle.set("/linux/seccomp", policy("SCMP_ACT_ALLOW", rules));
    answers(t, &mut bundle, actions)
}

pub fn errno(answer: &Value) -> Option<i64> {
    answer["errno"].as_i64()
}

fn none(t: &T) {
    let mut bundle = Bundle::new(t, &["report"]);
    assert_eq!(report(t, &mut bundle)["seccomp"]["mode"], 0);
    let mut bundle = Bundle::new(t, &["report"]);
    bundle.set(
        "/linux/seccomp",
        policy("SCMP_ACT_ALLOW", json!([{"names": ["reboot"], "action": "SCMP_ACT_ERRNO"}])),
    );
    let seen = report(t, &mut bundle);
    assert_eq!(seen["seccomp"]["mode"], 2);
    assert_eq!(seen["seccomp"]["filters"], 1);
}

fn errno_action(t: &T) {
    let got = filtered(
        t,
        json!([{"names": ["times"], "action": "SCMP_ACT_ERRNO"}]),
        &[json!(["syscall", TIMES, 0]), json!(["syscall", GETPRIORITY, 0, 0])],
    );
    assert_eq!(errno(&got[0]), Some(1), "EPERM unless said otherwise");
    assert!(got[1].get("ok").is_some(), "another call passes: {}", got[1]);
}

fn errno_values(t: &T) {
    for value in [1, 2, 38, 133] {
        let rules = json!([{"names": ["times"], "action": "SCMP_ACT_ERRNO", "errnoRet": value}]);
        assert_eq!(errno(&filtered(t, rules, &[json!(["syscall", TIMES, 0])])[0]), Some(value));
    }
}

fn default_action(t: &T) {
    // Everything that the payload and the runtime's last steps need is allowed but two calls.
    let mut bundle = Bundle::new(t, &[]);
    let mut profile = engine_profile();
    profile["defaultAction"] = json!("SCMP_ACT_ERRNO");
    profile["defaultErrnoRet"] = json!(77);
    for rule in profile["syscalls"].as_array_mut().unwrap() {
        rule["names"].as_array_mut().unwrap().retain(|name| name != "times");
    }
    bundle.set("/linux/seccomp", profile);
    let got = answers(t, &mut bundle, &[json!(["syscall", TIMES, 0]), json!(["syscall", GETPRIORITY, 0, 0])]);
    assert_eq!(errno(&got[0]), Some(77));
    assert!(got[1].get("ok").is_some());
}

fn killed(t: &T) {
    for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD"] {
        let mut bundle = Bundle::new(t, &["do", &json!(["syscall", TIMES, 0]).to_string()]);
        bundle
            .set("/linux/seccomp", policy("SCMP_ACT_ALLOW", json!([{"names": ["times"], "action": action}])));
        let done = Container::new(t, &mut bundle).run().expect(128 + 31);
        assert_eq!(done.out, "", "{action}");
    }
}

fn trapped(t: &T) {
    let mut bundle = Bundle::new(t, &["do", &json!(["syscall", TIMES, 0]).to_string()]);
    bundle.set(
        "/linux/seccomp",
        policy("SCMP_ACT_ALLOW", json!([{"names": ["times"], "action": "SCMP_ACT_TRAP"}])),
    );
    Container::new(t, &mut bundle).run().expect(128 + 31);
}

fn logged(t: &T) {
    for action in ["SCMP_ACT_LOG", "SCMP_ACT_ALLOW"] {
        let mut bundle = Bundle::new(t, &[]);
        let rules = json!([{"names": ["times"], "action": action}, {"names": ["reboot"], "action": "SCMP_ACT_ERRNO"}]);
        bundle.set("/linux/seccomp", policy("SCMP_ACT_ALLOW", rules));
        assert!(answers(t, &mut bundle, &[json!(["syscall", TIMES, 0])])[0].get("ok").is_some(), "{action}");
    }
    // A policy that only watches denies nothing, not to the runtime either.
    for privileges in [true, false] {
        let mut bundle = Bundle::new(t, &["exit", "7"]);
        let rules = json!([{"names": ["reboot"], "action": "SCMP_ACT_ERRNO"}]);
        bundle.set("/linux/seccomp", policy("SCMP_ACT_LOG", rules));
        bundle.set("/process/noNewPrivileges", json!(privileges));
        Container::new(t, &mut bundle).run().expect(7);
    }
}

/// Giving memory back while it waits is no duty of the runtime: a filter may refuse it.
fn memory_may_stay(t: &T) {
    for privileges in [true, false] {
        let rules = json!([{"names": ["madvise", "times"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99}]);
        let mut bundle = Bundle::new(t, &["do", &json!(["syscall", TIMES, 0]).to_string()]);
        bundle.set("/linux/seccomp", policy("SCMP_ACT_ALLOW", rules));
        bundle.set("/process/noNewPrivileges", json!(privileges));
        let container = Container::new(t, &mut bundle);
        container.up();
        container.until("errno");
        assert_eq!(errno(&serde_json::from_str::<Value>(container.printed().trim()).unwrap()[0]), Some(99));
    }
}

/// Lists that were written before the kernel had close_range, as the specification's own examples: close is what they permit.
fn lists_older_than_close_range(t: &T) {
    let list = |denied: &[&str]| {
        let denied = json!({"names": denied, "action": "SCMP_ACT_ERRNO", "errnoRet": 99});
        policy("SCMP_ACT_ALLOW", json!([denied]))
    };
    for privileges in [true, false] {
        let mut bundle = Bundle::new(t, &["ready"]);
        bundle.set("/linux/seccomp", list(&["close_range", "times"]));
        bundle.set("/process/noNewPrivileges", json!(privileges));
        let container = Container::new(t, &mut bundle);
        container.ready();
        let seen = container.exec(&["/payload", "report"]).expect(0).json();
        assert_eq!(seen["seccomp"]["mode"], 2);
        let open: Vec<_> = seen["fds"].as_array().unwrap().iter().map(|open| &open["fd"]).collect();
        assert_eq!(open, [0, 1, 2], "{seen}");
        container.end();
    }
    t.differs("runc", "goes on with what is marked to be closed at the execution");
    t.differs("crun", "goes on with what is marked to be closed at the execution");
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    bundle.set("/linux/seccomp", list(&["close_range", "close"]));
    let error = Container::new(t, &mut bundle).create_call().done().error();
    assert_eq!(
        (&error["code"], &error["pointer"]),
        (&json!("seccomp-locks-init"), &json!("/linux/seccomp/syscalls/0")),
        "{error}"
    );
}

/// With no_new_privs the filter waits for hooks that could not run under it, and is there for the program.
fn hooks_that_it_would_lock_out(t: &T) {
    t.differs("runc", "the hook fails");
    t.differs("crun", "the hook fails");
    let denied = json!([{"names": ["clone", "times"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99}]);
    let mut bundle =
        Bundle::new(t, &["do", &json!(["syscall", TIMES, 0]).to_string(), r#"["stat", "/tmp/hooked"]"#]);
    bundle.set("/linux/seccomp", policy("SCMP_ACT_ALLOW", denied));
    let make = json!(["/payload", "do", r#"["mkdir", "/tmp/hooked"]"#]);
    bundle.set("/hooks/startContainer", json!([{"path": "/payload", "args": make}])).mount(
        "tmpfs",
        "tmpfs",
        "/tmp",
        &[],
    );
    bundle.set("/process/noNewPrivileges", json!(true));
    let done = Container::new(t, &mut bundle).run().expect(0);
    let got = done.json();
    assert_eq!(errno(&got[0]), Some(99), "{got}");
    assert!(got[1].get("ok").is_some(), "{got}");
    bundle.set("/process/noNewPrivileges", json!(false));
    let error = Container::new(t, &mut bundle).create_call().done().error();
    assert_eq!(
        (&error["code"], &error["pointer"]),
        (&json!("seccomp-locks-hooks"), &json!("/linux/seccomp/syscalls/0")),
        "{error}"
    );
}

fn comparisons(t: &T) {
    // The first argument of getpriority is the interesting one: every value is answered without an effect.
    for (op, value, two, yes, no) in [
        ("SCMP_CMP_EQ", 5, 0, &[5u64][..], &[4u64, 6][..]),
        ("SCMP_CMP_NE", 5, 0, &[4, 6], &[5]),
        ("SCMP_CMP_LT", 5, 0, &[0, 4], &[5, 6]),
        ("SCMP_CMP_LE", 5, 0, &[0, 5], &[6]),
        ("SCMP_CMP_GE", 5, 0, &[5, 6], &[4]),
        ("SCMP_CMP_GT", 5, 0, &[6], &[5, 0]),
        ("SCMP_CMP_MASKED_EQ", 0xf0, 0x30, &[0x30, 0x3f], &[0x20, 0x40]),
    ] {
        let args = json!([{"index": 0, "value": value, "valueTwo": two, "op": op}]);
        let rules =
            json!([{"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99, "args": args}]);
        let calls: Vec<Value> =
            yes.iter().chain(no).map(|value| json!(["syscall", GETPRIORITY, value, 0])).collect();
        let got = filtered(t, rules, &calls);
        let hit: Vec<bool> = got.iter().map(|answer| errno(answer) == Some(99)).collect();
        let expected: Vec<bool> = yes.iter().map(|_| true).chain(no.iter().map(|_| false)).collect();
        assert_eq!(hit, expected, "{op} {value} {two}: {yes:?} and not {no:?}");
    }
}

fn conditions_are_all_needed(t: &T) {
    let args =
        json!([{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 1, "value": 2, "op": "SCMP_CMP_EQ"}]);
    let rules = json!([{"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99, "args": args}]);
    let call = |a: i64, b: i64| json!(["syscall", GETPRIORITY, a, b]);
    let got = filtered(t, rules, &[call(1, 2), call(1, 3), call(0, 2)]);
    let hit: Vec<bool> = got.iter().map(|answer| errno(answer) == Some(99)).collect();
    assert_eq!(hit, [true, false, false]);
}

fn rules_are_alternatives(t: &T) {
    let rule = |value: i64| {
        json!({"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 90 + value,
               "args": [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]})
    };
    let call = |a: i64| json!(["syscall", GETPRIORITY, a, 0]);
    let got = filtered(t, json!([rule(7), rule(8)]), &[call(7), call(8), call(9)]);
    assert_eq!((errno(&got[0]), errno(&got[1])), (Some(97), Some(98)));
    assert_ne!(errno(&got[2]), Some(97));
}

fn same_argument_twice(t: &T) {
    // In one rule the same index twice means either.
    let args =
        json!([{"index": 0, "value": 7, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]);
    let rules = json!([{"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99, "args": args}]);
    let call = |a: i64| json!(["syscall", GETPRIORITY, a, 0]);
    let got = filtered(t, rules, &[call(7), call(8), call(9)]);
    let hit: Vec<bool> = got.iter().map(|answer| errno(answer) == Some(99)).collect();
    assert_eq!(hit, [true, true, false]);
}

fn high_bits(t: &T) {
    let value: u64 = 0xffff_0000_0000_0005;
    let args = json!([{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]);
    let rules = json!([{"names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99, "args": args}]);
    let call = |value: u64| json!(["syscall", PERSONALITY, value]);
    let got = filtered(t, rules, &[call(value), call(0xffff_ffff)]);
    assert_eq!(errno(&got[0]), Some(99), "all 64 bits are compared");
    assert_ne!(errno(&got[1]), Some(99));
}

fn unknown_names(t: &T) {
    let rules = json!([{"names": ["no_such_call", "times"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99}]);
    assert_eq!(errno(&filtered(t, rules, &[json!(["syscall", TIMES, 0])])[0]), Some(99));
}

fn newer_calls_do_not_exist(t: &T) {
    t.differs("crun", "a newer call gets the default action");
    // Denied by default: a call newer than every name of the profile says ENOSYS, so that programs fall back.
    let mut bundle = Bundle::new(t, &[]);
    bundle.set("/linux/seccomp", engine_profile());
    let got = answers(t, &mut bundle, &[json!(["syscall", 900]), json!(["syscall", 165, 0, 0, 0, 0, 0])]);
    assert_eq!(errno(&got[0]), Some(38), "{}", got[0]);
    if ARCH == "SCMP_ARCH_X86_64" {
        assert_eq!(errno(&got[1]), Some(1), "mount is older, and denied");
    }
}

fn exec_is_filtered(t: &T) {
    let mut bundle = Bundle::new(t, &["ready"]);
    let rules = json!([{"names": ["times"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99}]);
    bundle.set("/linux/seccomp", policy("SCMP_ACT_ALLOW", rules));
    let container = Container::new(t, &mut bundle);
    container.ready();
    assert_eq!(errno(&container.tries(&[json!(["syscall", TIMES, 0])])[0]), Some(99));
    container.end();
}

fn before_and_after_privileges(t: &T) {
    for (privileges, user) in [(true, 0), (true, 1000), (false, 0), (false, 1000)] {
        let mut bundle = Bundle::new(t, &[]);
        bundle.set("/process/noNewPrivileges", json!(privileges));
        bundle.set("/process/user", json!({"uid": user, "gid": 0}));
        let rules = json!([{"names": ["times"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99}]);
        bundle.set("/linux/seccomp", policy("SCMP_ACT_ALLOW", rules));
        assert_eq!(
            errno(&answers(t, &mut bundle, &[json!(["syscall", TIMES, 0])])[0]),
            Some(99),
            "{privileges} {user}"
        );
    }
}

fn flags(t: &T) {
    t.differs("runc", "runc 1.1 has none");
    for flags in [
        json!([]),
        json!(["SECCOMP_FILTER_FLAG_LOG"]),
        json!(["SECCOMP_FILTER_FLAG_TSYNC"]),
        json!(["SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_LOG"]),
    ] {
        let mut bundle = Bundle::new(t, &[]);
        let rules = json!([{"names": ["times"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99}]);
        bundle.set("/linux/seccomp", policy("SCMP_ACT_ALLOW", rules)).set("/linux/seccomp/flags", flags);
        assert_eq!(errno(&answers(t, &mut bundle, &[json!(["syscall", TIMES, 0])])[0]), Some(99));
    }
}

fn wrong_policies(t: &T) {
    t.differs("crun", "the log is on standard error");
    let good = || policy("SCMP_ACT_ALLOW", json!([{"names": ["times"], "action": "SCMP_ACT_ERRNO"}]));
    for (pointer, value, only_ours) in [
        ("/defaultAction", json!("SCMP_ACT_NONSENSE"), false),
        ("/syscalls/0/action", json!("SCMP_ACT_NONSENSE"), false),
        ("/architectures/0", json!("SCMP_ARCH_NONSENSE"), false),
        ("/syscalls/0/args", json!([{"index": 0, "value": 1, "op": "SCMP_CMP_NONSENSE"}]), false),
        ("/syscalls/0/args", json!([{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]), true),
        ("/flags", json!(["SECCOMP_FILTER_FLAG_NONSENSE"]), false),
        ("/syscalls/0/names", json!([]), true),
        ("/syscalls/0", json!({"names": ["times"], "action": "SCMP_ACT_ALLOW", "errnoRet": 5}), true),
    ] {
        if only_ours && !t.ours() {
            continue;
        }
        let mut bundle = Bundle::new(t, &["exit", "0"]);
        bundle.set("/linux/seccomp", good()).set(&format!("/linux/seccomp{pointer}"), value.clone());
        let container = Container::new(t, &mut bundle);
        let error = container.run().expect(1).error();
        if t.ours() {
            let named = error["pointer"].as_str().unwrap_or("");
            assert!(named.starts_with(&format!("/linux/seccomp{pointer}")), "{value}: {error}");
        }
        container.gone();
    }
}

/// What engines send by default, cut to its shape: an allow list with a few conditional rules. The rest is denied.
fn engine_profile() -> Value {
    let names = include_str!("../data/allowed-calls.txt");
    let names: Vec<&str> = names.split_whitespace().collect();
    let architectures = match ARCH {
        "SCMP_ARCH_X86_64" => json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]),
        _ => json!(["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]),
    };
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": architectures,
        "syscalls": [
            {"names": names, "action": "SCMP_ACT_ALLOW"},
            {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}]},
            {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]},
            {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 0xffff_ffffu32, "op": "SCMP_CMP_EQ"}]},
            {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 40, "op": "SCMP_CMP_NE"}]},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 0x7e02_0000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
        ],
    })
}

fn default_profile_of_engines(t: &T) {
    let mut bundle = Bundle::new(t, &["report"]);
    bundle.set("/linux/seccomp", engine_profile());
    assert_eq!(report(t, &mut bundle)["seccomp"]["mode"], 2);
    let mut bundle = Bundle::new(t, &[]);
    bundle.set("/linux/seccomp", engine_profile());
    let got = answers(
        t,
        &mut bundle,
        &[
            json!(["socket", 1, 1, 0]),
            json!(["socket", 40, 1, 0]),
            json!(["unshare", 0x1000_0000]),
            json!(["syscall", PERSONALITY, 0xffff_ffffu32]),
            json!(["syscall", PERSONALITY, 0x0004_0000]),
            json!(["exec-works", "/payload"]),
            json!(["mkdir", "/tmp/new"]),
        ],
    );
    let denied: Vec<bool> = got.iter().map(|answer| errno(answer) == Some(1)).collect();
    assert_eq!(denied, [false, true, true, false, true, false, false], "{got:?}");
}
