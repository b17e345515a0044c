//! How the kernel treats the process among others: processors, disks, memory nodes, execution domain.
use crate::rule::*;
use coracle_tests::*;
use std::fs;

/// A policy without rights of its own, its number in the kernel and what else must be seen.
macro_rules! policy {
    ($name:literal, $scheduler:tt, $fields:expr, $seen:tt) => {
        sees(
            $name,
            "config.md#linux-process",
            "the scheduling policy with its values (0 when not set) MUST be applied",
            $fields,
            |bundle| bundle.set("/process/scheduler", json!($scheduler)),
            |seen| {
                for (key, value) in json!($seen).as_object().unwrap() {
                    assert_eq!(&seen["scheduler"][key], value, "{key}: {}", seen["scheduler"]);
                }
            },
        )
    };
}

macro_rules! wrong {
    ($name:literal, $pointer:literal, $value:tt, $fields:expr) => {
        refused($name, "config.md#valid-values", "an invalid value MUST be an error", $fields, |bundle| {
            bundle.set($pointer, json!($value))
        })
    };
}

/// Realtime and deadline policies: with realtime group scheduling, the new cgroup has no time for them. Then it must be refused.
fn realtime(t: &T, scheduler: Value, policy: i64) {
    let mut bundle = fresh(t, &["report"]);
    bundle.set("/process/scheduler", scheduler.clone());
    let container = Container::new(t, &mut bundle);
    let done = container.run();
    if done.code() != 0 {
        container.gone();
        let grouped = cgroup::has("cpu")
            && cgroup::directory("cpu", "/").is_some_and(|dir| dir.join("cpu.rt_runtime_us").exists());
        // In a cgroup with processors of its own, deadlines are not possible.
        assert!(grouped || policy == 6, "{done}");
        t.skip("needs realtime for new cgroups");
    }
    let seen = done.json()["scheduler"].clone();
    assert_eq!(seen["policy"], policy, "{seen}");
    for key in ["priority", "runtime", "deadline", "period"] {
        assert_eq!(seen[key].as_u64().unwrap_or(0), scheduler[key].as_u64().unwrap_or(0), "{key}: {seen}");
    }
}

/// A memory policy, and the kernel's word for it.
macro_rules! remembers {
    ($name:literal, $policy:tt, $word:literal, $fields:expr) => {
        holds(
            $name,
            "config-linux.md#memory-policy",
            "the policy of memory nodes MUST be applied",
            $fields,
            |t| {
                t.needs(&[NUMA]);
                let mut bundle = fresh(t, &[]);
                bundle.set("/linux/memoryPolicy", json!($policy));
                let got = answers(t, &mut bundle, &[json!(["read", "/proc/self/numa_maps"])]);
                let text = got[0]["ok"]["text"].as_str().unwrap();
                // Up to the name of the mapping, the policy alone can have spaces.
                let mut lines = text.lines().filter_map(|line| line.split_once(' '));
                assert!(lines.all(|(_, rest)| rest.starts_with($word)), "{text}");
            },
        )
    };
}

/// A kernel that knows memory nodes.
const NUMA: Need = Need::File("/proc/self/numa_maps");
const MEMORY: &[&str] = &["/linux/memoryPolicy/mode"];
const POLICY: &[&str] = &["/process/scheduler/policy"];

pub const RULES: &[Rule] = &[
    policy!("other", {"policy": "SCHED_OTHER", "nice": -5}, &["/process/scheduler/policy", "/process/scheduler/nice"],
            {"policy": 0, "nice": -5, "flags": 0}),
    policy!("batch", {"policy": "SCHED_BATCH", "nice": 7}, &["/process/scheduler/nice"], {"policy": 3, "nice": 7}),
    policy!("batch_without_values", {"policy": "SCHED_BATCH"}, POLICY, {"policy": 3, "nice": 0}),
    policy!("idle", {"policy": "SCHED_IDLE"}, POLICY, {"policy": 5}),
    policy!("reset_on_fork", {"policy": "SCHED_OTHER", "nice": 3, "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
            &["/process/scheduler/flags/*"], {"policy": 0, "nice": 3, "flags": 1}),
    holds("fifo", "config.md#linux-process", "a realtime policy with its priority MUST be applied",
          &["/process/scheduler/policy", "/process/scheduler/priority"],
          |t| realtime(t, json!({"policy": "SCHED_FIFO", "priority": 3}), 1)),
    holds("round_robin", "config.md#linux-process", "a realtime policy with its priority MUST be applied",
          &["/process/scheduler/policy", "/process/scheduler/priority"],
          |t| realtime(t, json!({"policy": "SCHED_RR", "priority": 99}), 2)),
    holds("deadline", "config.md#linux-process", "the deadline policy with its three times MUST be applied",
          &["/process/scheduler/runtime", "/process/scheduler/deadline", "/process/scheduler/period"],
          |t| realtime(t, json!({"policy": "SCHED_DEADLINE", "runtime": 1_000_000, "deadline": 20_000_000, "period": 30_000_000}), 6)),
    wrong!("unknown_policy", "/process/scheduler", {"policy": "SCHED_FROBNICATE"}, POLICY),
    wrong!("no_policy", "/process/scheduler", {"nice": 3}, &["/process/scheduler/nice"]),
    wrong!("unknown_flag", "/process/scheduler", {"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_FROBNICATE"]},
           &["/process/scheduler/flags/*"]),
    wrong!("priority_of_the_wrong_policy", "/process/scheduler", {"policy": "SCHED_BATCH", "priority": 5},
           &["/process/scheduler/priority"]),
    wrong!("deadline_before_the_work", "/process/scheduler",
           {"policy": "SCHED_DEADLINE", "runtime": 30_000_000, "deadline": 20_000_000, "period": 30_000_000},
           &["/process/scheduler/deadline"]),
    holds(
        "disk_priority",
        "config.md#linux-process",
        "class and priority of disk accesses MUST be applied",
        &["/process/ioPriority/class", "/process/ioPriority/priority"],
        |t| {
            for (class, priority, number) in [("IOPRIO_CLASS_BE", 6, 2), ("IOPRIO_CLASS_RT", 0, 1), ("IOPRIO_CLASS_IDLE", 4, 3)] {
                let mut bundle = fresh(t, &["report"]);
                bundle.set("/process/ioPriority", json!({"class": class, "priority": priority}));
                assert_eq!(report(t, &mut bundle)["ioPriority"], json!({"class": number, "level": priority}), "{class}");
            }
        },
    ),
    wrong!("unknown_disk_class", "/process/ioPriority", {"class": "IOPRIO_CLASS_FROBNICATE", "priority": 1},
           &["/process/ioPriority/class"]),
    wrong!("disk_priority_out_of_range", "/process/ioPriority", {"class": "IOPRIO_CLASS_BE", "priority": 8},
           &["/process/ioPriority/priority"]),
    wrong!("disk_priority_without_class", "/process/ioPriority", {"priority": 1}, &["/process/ioPriority/priority"]),
    holds(
        "processors_of_an_added_process",
        "config.md#linux-process",
        "final is where an added process runs; the first process is not concerned (MUST be applied)",
        &["/process/execCPUAffinity/initial", "/process/execCPUAffinity/final"],
        |t| {
            t.needs(&[Need::Processors(2)]);
            let mut bundle = fresh(t, &["do", r#"["read", "/proc/self/status"]"#, r#"["sleep", 60000]"#]);
            bundle.set("/process/execCPUAffinity", json!({"initial": "0", "final": "1"}));
            bundle.command(&["ready"]);
            let container = Container::new(t, &mut bundle);
            container.ready();
            let first = host::status_field(container.pid(), "Cpus_allowed_list").unwrap();
            assert_eq!(first, host::status_field(std::process::id().try_into().unwrap(), "Cpus_allowed_list").unwrap());
            let process = json!({"cwd": "/", "args": ["/payload", "report"], "user": {"uid": 0, "gid": 0},
                                 "execCPUAffinity": {"initial": "0", "final": "1"}});
            let file = t.dir().join("process.json");
            fs::write(&file, process.to_string()).unwrap();
            let seen = container.call("exec").arg("--process").arg(&file).done().expect(0).json();
            assert_eq!(seen["affinity"], json!([1]));
            container.end();
        },
    ),
    refused(
        "processors_that_are_no_list",
        "config.md#valid-values",
        "an invalid value MUST be an error",
        &["/process/execCPUAffinity/initial"],
        |bundle| bundle.set("/process/execCPUAffinity", json!({"initial": "first"})),
    ),
    sees(
        "personality",
        "config-linux.md#personality",
        "the execution domain MUST be applied",
        &["/linux/personality/domain"],
        |bundle| bundle.set("/linux/personality", json!({"domain": "LINUX32"})),
        |seen| assert_eq!(seen["personality"].as_i64().unwrap() & 0xff, 8),
    ),
    sees(
        "personality_of_this_machine",
        "config-linux.md#personality",
        "the execution domain MUST be applied",
        &["/linux/personality/domain", "/linux/personality/flags"],
        |bundle| bundle.set("/linux/personality", json!({"domain": "LINUX", "flags": []})),
        |seen| assert_eq!(seen["personality"].as_i64().unwrap() & 0xff, 0),
    ),
    wrong!("unknown_personality", "/linux/personality", {"domain": "FROBNIX"}, &["/linux/personality/domain"]),
    wrong!("personality_without_domain", "/linux/personality", {"flags": []}, &["/linux/personality/flags"]),
    wrong!("personality_flag", "/linux/personality", {"domain": "LINUX", "flags": ["FROBNICATE"]}, &["/linux/personality/flags/*"]),
    remembers!("bound_memory", {"mode": "MPOL_BIND", "nodes": "0"}, "bind:0",
               &["/linux/memoryPolicy/mode", "/linux/memoryPolicy/nodes"]),
    remembers!("interleaved_memory", {"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_RELATIVE_NODES"]},
               "interleave=relative:0", &["/linux/memoryPolicy/flags/*"]),
    remembers!("preferred_memory", {"mode": "MPOL_PREFERRED", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]},
               "prefer=static:0", &["/linux/memoryPolicy/flags/*"]),
    remembers!("many_preferred_memories", {"mode": "MPOL_PREFERRED_MANY", "nodes": "0"}, "prefer (many):0", MEMORY),
    remembers!("weighted_memory", {"mode": "MPOL_WEIGHTED_INTERLEAVE", "nodes": "0"}, "weighted interleave:0", MEMORY)
        .needs(&[NUMA, Need::Kernel(6, 9)]),
    remembers!("local_memory", {"mode": "MPOL_LOCAL"}, "local", MEMORY),
    remembers!("default_memory", {"mode": "MPOL_DEFAULT"}, "default", MEMORY),
    wrong!("unknown_memory_mode", "/linux/memoryPolicy", {"mode": "MPOL_FROBNICATE", "nodes": "0"}, MEMORY),
    wrong!("unknown_memory_flag", "/linux/memoryPolicy", {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_FROBNICATE"]},
           &["/linux/memoryPolicy/flags/*"]),
    wrong!("memory_of_no_node", "/linux/memoryPolicy", {"mode": "MPOL_BIND", "nodes": ""}, &["/linux/memoryPolicy/nodes"]),
    wrong!("memory_of_nodes_that_are_no_list", "/linux/memoryPolicy", {"mode": "MPOL_BIND", "nodes": "first"},
           &["/linux/memoryPolicy/nodes"]),
    wrong!("memory_without_mode", "/linux/memoryPolicy", {"nodes": "0"}, &["/linux/memoryPolicy/nodes"]),
];
