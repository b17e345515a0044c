//! How the kernel treats the process among others: processor, disk, memory nodes, execution domain; for the container's own process and
//! for one that is added.
use coracle_tests::*;
use std::fs;

cases![
    policies,
    realtime,
    policies_of_an_added_process,
    below_a_user_namespace,
    refused_policies,
    io_priority,
    affinity,
    affinity_of_an_added_process,
    affinity_of_no_processor,
    personality,
    personality_of_an_added_process,
    memory_policies,
    memory_of_no_node,
    nothing_is_asked_for,
];

fn peers(t: &T, what: &str) {
    t.differs("runc", &format!("{what} is younger than runc 1.1"));
    t.differs("crun", &format!("{what} is younger than crun 1.8"));
}

/// A running container, and a way to add processes from documents.
fn host<'t>(t: &'t T, bundle: &'t mut Bundle) -> Container<'t> {
    let container = Container::new(t, bundle);
    container.ready();
    container
}

fn add(t: &T, container: &Container<'_>, words: &[&str], extra: &[(&str, Value)]) -> Done {
    let mut args = vec!["/payload"];
    args.extend(words);
    let mut process = json!({"user": {"uid": 0, "gid": 0}, "args": args, "env": ["A=1"], "cwd": "/"});
    for (key, value) in extra {
        process[*key] = value.clone();
    }
    let file = t.dir().join("added.json");
    fs::write(&file, process.to_string()).unwrap();
    container.call("exec").arg("--process").arg(&file).done()
}

const POLICIES: [(&str, i64, i64); 5] = [
    (r#"{"policy": "SCHED_BATCH", "nice": 7}"#, 3, 7),
    (r#"{"policy": "SCHED_OTHER", "nice": -5}"#, 0, -5),
    (r#"{"policy": "SCHED_OTHER", "nice": 19, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}"#, 0, 19),
    (r#"{"policy": "SCHED_IDLE"}"#, 5, 0),
    (r#"{"policy": "SCHED_BATCH"}"#, 3, 0),
];

fn check_policy(seen: &Value, text: &str, policy: i64, nice: i64) {
    let scheduler = &seen["scheduler"];
    assert_eq!(
        (scheduler["policy"].as_i64(), scheduler["nice"].as_i64()),
        (Some(policy), Some(nice)),
        "{text}"
    );
    let reset = i64::from(text.contains("RESET_ON_FORK"));
    assert_eq!(scheduler["flags"], json!(reset), "{text}");
}

fn policies(t: &T) {
    peers(t, "process.scheduler");
    for (text, policy, nice) in POLICIES {
        let mut bundle = Bundle::new(t, &["report"]);
        bundle.set("/process/scheduler", serde_json::from_str(text).unwrap());
        check_policy(&report(t, &mut bundle), text, policy, nice);
    }
    // A user without rights gets what is set before they are taken away.
    let mut bundle = Bundle::new(t, &["report"]);
    bundle.set("/process/scheduler", json!({"policy": "SCHED_OTHER", "nice": -3}));
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000})).set("/process/capabilities", json!({}));
    check_policy(&report(t, &mut bundle), "an ordinary user", 0, -3);
}

/// A realtime policy, or the refusal that names what is in the way: with realtime group scheduling a new cgroup has no realtime time.
fn realtime(t: &T) {
    peers(t, "process.scheduler");
    for (scheduler, policy) in [
        (json!({"policy": "SCHED_FIFO", "priority": 3}), 1),
        (json!({"policy": "SCHED_RR", "priority": 99}), 2),
        (
            json!({"policy": "SCHED_DEADLINE", "runtime": 1_000_000, "deadline": 20_000_000, "period": 30_000_000}),
            6,
        ),
    ] {
        let mut bundle = Bundle::new(t, &["report"]);
        bundle.set("/process/scheduler", scheduler.clone());
        let container = Container::new(t, &mut bundle);
        let done = container.run();
        if done.code() != 0 {
            let error = done.error();
            assert_eq!(error["pointer"], "/process/scheduler", "{error}");
            assert_eq!(error["errno"], "EPERM", "{error}");
            assert!(error["hint"].as_str().unwrap().contains("cpu.rt_runtime_us"), "{error}");
            container.gone();
            continue;
        }
        let seen = done.json();
        let got = &seen["scheduler"];
        assert_eq!(got["policy"], json!(policy), "{got}");
        for key in ["priority", "runtime", "deadline", "period"] {
            assert_eq!(got[key].as_u64().unwrap_or(0), scheduler[key].as_u64().unwrap_or(0), "{key}: {got}");
        }
    }
}

fn policies_of_an_added_process(t: &T) {
    peers(t, "process.scheduler");
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = host(t, &mut bundle);
    for (text, policy, nice) in POLICIES {
        let scheduler = serde_json::from_str(text).unwrap();
        let done = add(t, &container, &["report"], &[("scheduler", scheduler)]).expect(0);
        check_policy(&done.json(), text, policy, nice);
    }
    let done = add(
        t,
        &container,
        &["report"],
        &[("ioPriority", json!({"class": "IOPRIO_CLASS_RT", "priority": 2}))],
    );
    assert_eq!(done.expect(0).json()["ioPriority"], json!({"class": 1, "level": 2}));
    container.end();
    // And what the container was made with is the default.
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set("/process/scheduler", json!({"policy": "SCHED_BATCH", "nice": 4}));
    bundle.set("/process/ioPriority", json!({"class": "IOPRIO_CLASS_IDLE", "priority": 0}));
    let container = host(t, &mut bundle);
    let seen = container.exec(&["/payload", "report"]).expect(0).json();
    check_policy(&seen, "the default", 3, 4);
    assert_eq!(seen["ioPriority"]["class"], 3);
    container.end();
}

fn below_a_user_namespace(t: &T) {
    peers(t, "process.scheduler");
    t.needs(&[Need::UserNamespaces]);
    // The rights that count are those in the initial user namespace, which the process itself has not.
    let scheduler = json!({"policy": "SCHED_OTHER", "nice": -4});
    let disk = json!({"class": "IOPRIO_CLASS_RT", "priority": 5});
    let mut bundle = Bundle::new(t, &["report"]);
    bundle.user_namespace(100_000);
    bundle.set("/process/scheduler", scheduler.clone()).set("/process/ioPriority", disk.clone());
    let seen = report(t, &mut bundle);
    check_policy(&seen, "created", 0, -4);
    assert_eq!(seen["ioPriority"], json!({"class": 1, "level": 5}));
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.user_namespace(100_000);
    let container = host(t, &mut bundle);
    let seen =
        add(t, &container, &["report"], &[("scheduler", scheduler), ("ioPriority", disk)]).expect(0).json();
    check_policy(&seen, "added", 0, -4);
    assert_eq!(seen["ioPriority"], json!({"class": 1, "level": 5}));
    container.end();
}

fn refused_policies(t: &T) {
    peers(t, "process.scheduler");
    // What the kernel refuses is said with its place, and nothing is left.
    for scheduler in [
        json!({"policy": "SCHED_ISO"}),
        json!({"policy": "SCHED_DEADLINE", "runtime": 30_000_000, "deadline": 20_000_000, "period": 30_000_000}),
    ] {
        let mut bundle = Bundle::new(t, &["report"]);
        bundle.set("/process/scheduler", scheduler.clone());
        let container = Container::new(t, &mut bundle);
        let error = container.create_call().done().error();
        assert_eq!(
            (&error["pointer"], &error["errno"]),
            (&json!("/process/scheduler"), &json!("EINVAL")),
            "{error}"
        );
        assert!(error["hint"].as_str().unwrap().contains("SCHED_ISO"), "{error}");
        container.gone();
    }
}

fn io_priority(t: &T) {
    peers(t, "process.ioPriority");
    for (class, priority, seen_class) in [
        ("IOPRIO_CLASS_BE", 6, 2),
        ("IOPRIO_CLASS_RT", 0, 1),
        ("IOPRIO_CLASS_IDLE", 4, 3),
        ("IOPRIO_CLASS_BE", 7, 2),
    ] {
        let mut bundle = Bundle::new(t, &["report"]);
        bundle.set("/process/ioPriority", json!({"class": class, "priority": priority}));
        let seen = report(t, &mut bundle);
        assert_eq!(seen["ioPriority"], json!({"class": seen_class, "level": priority}), "{class}");
    }
}

fn affinity(t: &T) {
    t.needs(&[Need::Processors(2)]);
    t.differs("runc", "runc 1.1 keeps the caller's affinity");
    t.differs("crun", "crun 1.8 keeps the caller's affinity");
    let mut bundle = Bundle::new(t, &["report"]);
    // For further processes only.
    bundle.set("/process/execCPUAffinity", json!({"initial": "0", "final": "0"}));
    let container = Container::new(t, &mut bundle);
    let seen = container.run_call().launched(["--cpu", "0"]).done().expect(0).json();
    assert!(seen["affinity"].as_array().unwrap().len() > 1, "the cpuset's, not the caller's");
}

fn affinity_of_an_added_process(t: &T) {
    t.needs(&[Need::Processors(2)]);
    t.differs("runc", "process.execCPUAffinity is younger than runc 1.1");
    t.differs("crun", "process.execCPUAffinity is younger than crun 1.8");
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set("/process/execCPUAffinity", json!({"final": "1"}));
    let container = host(t, &mut bundle);
    let all = add(t, &container, &["report"], &[]).expect(0).json()["affinity"].clone();
    assert!(all.as_array().unwrap().len() > 1);
    // Since 6.2 the kernel remembers what a process was bound to before it entered the cgroup.
    let kept = if Need::Kernel(6, 2).missing().is_none() { json!([0]) } else { all.clone() };
    for (affinity, expected) in [
        (json!({"initial": "0"}), &kept),
        (json!({"final": "0"}), &json!([0])),
        (json!({"final": " 1, 1-1 "}), &json!([1])),
        (json!({"initial": "0", "final": "1"}), &json!([1])),
        (json!({"initial": "1", "final": "0-1"}), &json!([0, 1])),
        (json!({"initial": "", "final": ""}), &all),
    ] {
        let done = add(t, &container, &["report"], &[("execCPUAffinity", affinity.clone())]).expect(0);
        let seen = done.json();
        assert_eq!(&seen["affinity"], expected, "{affinity}");
        let cgroup = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
        assert_eq!(seen["cgroup"].as_array().unwrap().len(), cgroup.lines().count());
    }
    let seen = container.exec(&["/payload", "report"]).expect(0).json();
    assert_eq!(seen["affinity"], json!([1]), "the container's document is the default");
    container.end();
}

fn affinity_of_no_processor(t: &T) {
    t.differs("runc", "process.execCPUAffinity is younger than runc 1.1");
    t.differs("crun", "process.execCPUAffinity is younger than crun 1.8");
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = host(t, &mut bundle);
    for key in ["initial", "final"] {
        let error = add(t, &container, &["report"], &[("execCPUAffinity", json!({key: "60000"}))]).error();
        let pointer = format!("/execCPUAffinity/{key}");
        assert_eq!((&error["pointer"], &error["errno"]), (&json!(pointer), &json!("EINVAL")), "{error}");
        assert!(error["hint"].as_str().unwrap().contains("cpuset"), "{error}");
    }
    container.end();
}

fn personality(t: &T) {
    peers(t, "linux.personality");
    for (domain, number) in [("LINUX32", 8), ("LINUX", 0)] {
        let mut bundle = Bundle::new(t, &["report"]);
        bundle.set("/linux/personality", json!({"domain": domain}));
        // A filter like an engine's, which lets nobody change it any more.
        bundle.set(
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["personality"], "action": "SCMP_ACT_ERRNO",
                 "args": [{"index": 0, "value": 0xffff_ffffu32, "op": "SCMP_CMP_NE"}]}]}),
        );
        for privileges in [true, false] {
            bundle.set("/process/noNewPrivileges", json!(privileges));
            let seen = report(t, &mut bundle);
            assert_eq!(seen["personality"], number, "{domain}");
            let machine = seen["kernel"]["machine"].as_str().unwrap();
            assert_eq!(machine == std::env::consts::ARCH, domain == "LINUX", "uname says {machine}");
        }
    }
}

fn personality_of_an_added_process(t: &T) {
    peers(t, "linux.personality");
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set("/linux/personality", json!({"domain": "LINUX32"}));
    let container = host(t, &mut bundle);
    assert_eq!(add(t, &container, &["report"], &[]).expect(0).json()["personality"], 8);
    container.end();
}

/// The policies that the mappings of a process have, as the kernel writes them down.
fn policies_in_use(answers: &Value) -> Vec<String> {
    let text = answers[0]["ok"]["text"].as_str().unwrap();
    let mut words: Vec<String> =
        text.lines().filter_map(|line| line.split(' ').nth(1)).map(str::to_owned).collect();
    words.sort();
    words.dedup();
    words
}

const NUMA: Need = Need::File("/proc/self/numa_maps");

fn memory_policies(t: &T) {
    t.needs(&[NUMA]);
    peers(t, "linux.memoryPolicy");
    let read = json!(["read", "/proc/self/numa_maps"]).to_string();
    for (policy, word) in [
        (json!({"mode": "MPOL_BIND", "nodes": "0"}), "bind:0"),
        (json!({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}), "bind=static:0"),
        (
            json!({"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"]}),
            "interleave=relative:0",
        ),
        (json!({"mode": "MPOL_PREFERRED", "nodes": "0"}), "prefer:0"),
        (json!({"mode": "MPOL_PREFERRED"}), "local"),
        (json!({"mode": "MPOL_LOCAL"}), "local"),
        (json!({"mode": "MPOL_DEFAULT"}), "default"),
    ] {
        let mut bundle = Bundle::new(t, &["do", &read]);
        bundle.set("/linux/memoryPolicy", policy.clone());
        let done = Container::new(t, &mut bundle).run().expect(0);
        assert_eq!(policies_in_use(&done.json()), [word], "{policy}");
        let mut bundle = Bundle::new(t, &["ready"]);
        bundle.set("/linux/memoryPolicy", policy.clone());
        let container = host(t, &mut bundle);
        let added = container.exec(&["/payload", "do", &read]).expect(0);
        assert_eq!(policies_in_use(&added.json()), [word], "added: {policy}");
        container.end();
    }
}

fn memory_of_no_node(t: &T) {
    t.needs(&[NUMA]);
    peers(t, "linux.memoryPolicy");
    for nodes in ["900", "60000"] {
        let mut bundle = Bundle::new(t, &["report"]);
        bundle.set("/linux/memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": nodes}));
        let container = Container::new(t, &mut bundle);
        let error = container.create_call().done().error();
        assert_eq!(
            (&error["pointer"], &error["errno"]),
            (&json!("/linux/memoryPolicy"), &json!("EINVAL")),
            "{error}"
        );
        assert!(error["hint"].as_str().unwrap().contains("cpuset"), "{error}");
        container.gone();
    }
}

/// Without the fields nothing is set: the process has what its caller has.
fn nothing_is_asked_for(t: &T) {
    let mut bundle = Bundle::new(t, &["report"]);
    let seen = report(t, &mut bundle);
    assert_eq!(seen["scheduler"]["policy"], 0);
    assert_eq!(seen["ioPriority"]["class"], 0);
    assert_eq!(seen["personality"], 0);
}
