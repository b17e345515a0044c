//! Limits of control groups: each is what the kernel has afterwards, or it is refused where the kernel cannot have it.
use crate::rule::*;
use coracle_tests::*;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

/// A file of a control group and the values that say that a limit is set: first what one would write oneself.
struct Means<'a> {
    file: &'a str,
    values: &'a [&'a str],
}

/// The directories of a control group in all hierarchies.
fn directories(path: &str) -> Vec<PathBuf> {
    let all = cgroup::hierarchies().into_iter();
    all.map(|one| one.mount.join(path.trim_start_matches('/'))).filter(|dir| dir.is_dir()).collect()
}

/// Sets limits: each of them has one of its meanings afterwards, or the container is refused because the kernel refuses, too.
fn set(t: &T, edits: &[(&str, Value)], limits: &[&[Means<'_>]]) {
    let mut bundle = fresh(t, &["ready"]);
    for (pointer, value) in edits {
        bundle.set(pointer, value.clone());
    }
    let container = Container::new(t, &mut bundle);
    let done = container.create_call().done();
    if done.code() != 0 {
        container.gone();
        assert!(!limits.iter().all(|means| means.iter().any(possible)), "the kernel could do it: {done}");
        return;
    }
    container.pid();
    for means in limits {
        let has = |one: &Means<'_>| {
            let texts = directories(&container.cgroup)
                .into_iter()
                .filter_map(|dir| fs::read_to_string(dir.join(one.file)).ok());
            texts
                .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
                .any(|line| one.values.iter().any(|value| line.trim() == *value))
        };
        let files: Vec<_> = means.iter().map(|one| one.file).collect();
        assert!(
            means.iter().any(has),
            "it was taken, and nothing of it is in {files:?}: {}",
            seen(&container, means)
        );
    }
    container.call("delete").arg("--force").done().expect(0);
}

fn seen(container: &Container<'_>, means: &[Means<'_>]) -> String {
    let of = |dir: &PathBuf| {
        means
            .iter()
            .map(|one| format!("{:?} ", fs::read_to_string(dir.join(one.file)).ok()))
            .collect::<String>()
    };
    directories(&container.cgroup).iter().map(of).collect()
}

/// Whether the kernel takes a value in a new control group.
fn possible(means: &Means<'_>) -> bool {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let controller = means.file.split('.').next().unwrap();
    // Beside hierarchies of version 1, a runtime need not use that of version 2.
    let version1 = cgroup::mode() == cgroup::Mode::Version1;
    cgroup::hierarchies().iter().filter(|one| !version1 || !one.controllers.is_empty()).any(|one| {
        let parent = one.mount.join(cgroup::parent().trim_start_matches('/'));
        let _ = fs::create_dir(&parent);
        for dir in [&one.mount, &parent] {
            let _ = fs::write(dir.join("cgroup.subtree_control"), format!("+{controller}"));
        }
        let probe = parent.join(format!("probe-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        let _ = fs::create_dir(&probe);
        let file = probe.join(means.file);
        let written = file.exists() && fs::write(&file, means.values[0]).is_ok();
        // Some are taken and forgotten.
        let kept = |text: String| text.lines().any(|line| means.values.contains(&line.trim()));
        let answer = written && fs::read_to_string(&file).is_ok_and(kept);
        let _ = fs::remove_dir(&probe);
        answer
    })
}

/// A limit by itself.
macro_rules! limit {
    ($name:literal, $at:literal, $fields:expr, $pointer:literal, $value:tt, $($file:literal = $values:expr),+) => {
        holds($name, concat!("config-linux.md#", $at), concat!($pointer, " MUST be applied, or be an error where that is not possible"), $fields, |t| {
            set(t, &[(concat!("/linux/resources/", $pointer), json!($value))], &[&[$(Means { file: $file, values: &$values }),+]])
        })
    };
}

/// A limit of a block device of the machine.
fn device_limit(t: &T, key: &str, value: &str, version1: &[&str], version2: &str, values: &[&str]) {
    let disks = fs::read_dir("/sys/block").ok().into_iter().flatten().flatten();
    let mut numbers: Vec<String> =
        disks.filter_map(|disk| fs::read_to_string(disk.path().join("dev")).ok()).collect();
    numbers.sort();
    let Some(number) = numbers.first().map(|text| text.trim().to_owned()) else {
        t.skip("needs a block device")
    };
    let (major, minor) = number.split_once(':').unwrap();
    let mut entry: Value = serde_json::from_str(value).unwrap();
    entry["major"] = json!(major.parse::<i64>().unwrap());
    entry["minor"] = json!(minor.parse::<i64>().unwrap());
    let lines: Vec<String> = values.iter().map(|value| format!("{number} {value}")).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let mut means: Vec<Means<'_>> = version1.iter().map(|file| Means { file, values: &lines }).collect();
    means.push(Means { file: version2, values: &lines });
    set(t, &[(&format!("/linux/resources/blockIO/{key}"), json!([entry]))], &[&means]);
}

macro_rules! device {
    ($name:literal, $key:literal, $value:literal, $field:literal, $version1:expr, $version2:literal, $values:expr) => {
        holds(
            $name,
            "config-linux.md#block-io",
            concat!($key, " MUST be applied, or be an error where that is not possible"),
            &[
                concat!("/linux/resources/blockIO/", $key, "/*/major"),
                concat!("/linux/resources/blockIO/", $key, "/*/minor"),
                concat!("/linux/resources/blockIO/", $key, "/*/", $field),
            ],
            |t| device_limit(t, $key, $value, &$version1, $version2, &$values),
        )
    };
}

macro_rules! wrong {
    ($name:literal, $at:literal, $says:literal, $fields:expr, $pointer:literal, $value:tt) => {
        refused($name, $at, $says, $fields, |bundle| bundle.set(concat!("/linux/", $pointer), json!($value)))
    };
}

pub const RULES: &[Rule] = &[
    limit!("memory", "memory", &["/linux/resources/memory/limit"], "memory", {"limit": 67_108_864},
           "memory.limit_in_bytes" = ["67108864"], "memory.max" = ["67108864"]),
    limit!("memory_without_limit", "memory", &["/linux/resources/memory/limit"], "memory", {"limit": -1},
           "memory.limit_in_bytes" = ["9223372036854771712"], "memory.max" = ["max"]),
    limit!("memory_reservation", "memory", &["/linux/resources/memory/reservation"], "memory", {"limit": 67_108_864, "reservation": 33_554_432},
           "memory.soft_limit_in_bytes" = ["33554432"], "memory.low" = ["33554432"]),
    limit!("memory_with_swap", "memory", &["/linux/resources/memory/swap"], "memory", {"limit": 67_108_864, "swap": 100_663_296},
           "memory.memsw.limit_in_bytes" = ["100663296"], "memory.swap.max" = ["33554432"]),
    limit!("kernel_memory", "memory", &["/linux/resources/memory/kernel"], "memory", {"kernel": 67_108_864},
           "memory.kmem.limit_in_bytes" = ["67108864"]),
    limit!("kernel_memory_of_connections", "memory", &["/linux/resources/memory/kernelTCP"], "memory", {"kernelTCP": 67_108_864},
           "memory.kmem.tcp.limit_in_bytes" = ["67108864"]),
    limit!("swappiness", "memory", &["/linux/resources/memory/swappiness"], "memory", {"swappiness": 77}, "memory.swappiness" = ["77"]),
    limit!("no_killer", "memory", &["/linux/resources/memory/disableOOMKiller"], "memory", {"limit": 67_108_864, "disableOOMKiller": true},
           "memory.oom_control" = ["1", "oom_kill_disable 1"]),
    limit!("hierarchy", "memory", &["/linux/resources/memory/useHierarchy"], "memory", {"useHierarchy": true},
           // Version 2 knows nothing else.
           "memory.use_hierarchy" = ["1"], "cgroup.type" = ["domain"]),
    holds(
        "lowered_below_what_is_used",
        "config-linux.md#memory",
        "with checkBeforeUpdate a limit below what is in use MUST be rejected",
        &["/linux/resources/memory/checkBeforeUpdate"],
        |t| {
            t.needs(&[Need::Controller("memory")]);
            let mut bundle = fresh(t, &["ready"]);
            bundle.set("/linux/resources/memory", json!({"limit": 104_857_600, "checkBeforeUpdate": true}));
            let container = Container::new(t, &mut bundle);
            container.ready();
            let file = t.dir().join("limits.json");
            fs::write(&file, json!({"memory": {"limit": 4096, "checkBeforeUpdate": true}}).to_string())
                .unwrap();
            let done = container.call("update").arg("--resources").arg(&file).done();
            assert_ne!(done.code(), 0, "{done}");
            assert_eq!(container.status(), "running");
            container.end();
        },
    ),
    holds(
        "memory_bites",
        "config-linux.md#memory",
        "who takes more than the limit is ended (MUST be applied)",
        &["/linux/resources/memory/limit"],
        |t| {
            t.needs(&[Need::Controller("memory")]);
            let mut bundle = fresh(t, &["eat-memory", "200"]);
            bundle.set("/linux/resources/memory", json!({"limit": 33_554_432, "swap": 33_554_432}));
            assert_eq!(Container::new(t, &mut bundle).run().expect(137).out, "");
        },
    ),
    limit!("shares", "cpu", &["/linux/resources/cpu/shares"], "cpu", {"shares": 2048}, "cpu.shares" = ["2048"], "cpu.weight" = ["174", "79", "80"]),
    limit!("quota_and_period", "cpu", &["/linux/resources/cpu/quota", "/linux/resources/cpu/period"], "cpu", {"quota": 25_000, "period": 50_000},
           "cpu.cfs_quota_us" = ["25000"], "cpu.max" = ["25000 50000"]),
    limit!("period", "cpu", &["/linux/resources/cpu/period"], "cpu", {"period": 50_000}, "cpu.cfs_period_us" = ["50000"], "cpu.max" = ["max 50000"]),
    limit!("burst", "cpu", &["/linux/resources/cpu/burst"], "cpu", {"quota": 25_000, "period": 50_000, "burst": 10_000},
           "cpu.cfs_burst_us" = ["10000"], "cpu.max.burst" = ["10000"]),
    limit!("idle", "cpu", &["/linux/resources/cpu/idle"], "cpu", {"idle": 1}, "cpu.idle" = ["1"]),
    limit!("realtime", "cpu", &["/linux/resources/cpu/realtimeRuntime", "/linux/resources/cpu/realtimePeriod"], "cpu",
           {"realtimeRuntime": 1_000, "realtimePeriod": 500_000}, "cpu.rt_runtime_us" = ["1000"]),
    limit!("processors", "cpu", &["/linux/resources/cpu/cpus"], "cpu", {"cpus": "0"}, "cpuset.cpus" = ["0"]),
    limit!("memory_nodes", "cpu", &["/linux/resources/cpu/mems"], "cpu", {"mems": "0"}, "cpuset.mems" = ["0"]),
    limit!("processes", "pids", &["/linux/resources/pids/limit"], "pids", {"limit": 77}, "pids.max" = ["77"]),
    limit!("processes_without_limit", "pids", &["/linux/resources/pids/limit"], "pids", {"limit": -1}, "pids.max" = ["max"]),
    holds(
        "no_processes",
        "config-linux.md#pids",
        "0 SHOULD be a limit like any other",
        &["/linux/resources/pids/limit"],
        |t| {
            t.needs(&[Need::Controller("pids")]);
            let mut bundle = fresh(t, &["fork-bomb", "1"]);
            bundle.set("/linux/resources/pids", json!({"limit": 0}));
            assert_eq!(
                Container::new(t, &mut bundle).run().expect(0).json(),
                json!({"forks": 0, "errno": 11})
            );
        },
    ),
    holds(
        "processes_bite",
        "config-linux.md#pids",
        "more tasks than the limit are refused (MUST be applied)",
        &["/linux/resources/pids/limit"],
        |t| {
            t.needs(&[Need::Controller("pids")]);
            let mut bundle = fresh(t, &["fork-bomb", "50"]);
            bundle.set("/linux/resources/pids", json!({"limit": 10}));
            assert_eq!(
                Container::new(t, &mut bundle).run().expect(0).json(),
                json!({"forks": 9, "errno": 11})
            );
        },
    ),
    limit!("disk_weight", "block-io", &["/linux/resources/blockIO/weight"], "blockIO", {"weight": 300},
           "blkio.weight" = ["300"], "blkio.bfq.weight" = ["300"], "io.bfq.weight" = ["300", "default 300"], "io.weight" = ["default 2930", "default 2929", "default 300"]),
    limit!("disk_leaf_weight", "block-io", &["/linux/resources/blockIO/leafWeight"], "blockIO", {"leafWeight": 300}, "blkio.leaf_weight" = ["300"]),
    device!(
        "disk_weight_of_a_device",
        "weightDevice",
        r#"{"weight": 300}"#,
        "weight",
        ["blkio.weight_device", "blkio.bfq.weight_device", "io.bfq.weight"],
        "io.weight",
        ["300", "2930", "2929"]
    ),
    device!(
        "disk_leaf_weight_of_a_device",
        "weightDevice",
        r#"{"leafWeight": 300}"#,
        "leafWeight",
        ["blkio.leaf_weight_device"],
        "io.no-such-file",
        ["300"]
    ),
    device!(
        "reading",
        "throttleReadBpsDevice",
        r#"{"rate": 1048576}"#,
        "rate",
        ["blkio.throttle.read_bps_device"],
        "io.max",
        ["1048576", "rbps=1048576 wbps=max riops=max wiops=max"]
    ),
    device!(
        "writing",
        "throttleWriteBpsDevice",
        r#"{"rate": 1048576}"#,
        "rate",
        ["blkio.throttle.write_bps_device"],
        "io.max",
        ["1048576", "rbps=max wbps=1048576 riops=max wiops=max"]
    ),
    device!(
        "reading_operations",
        "throttleReadIOPSDevice",
        r#"{"rate": 777}"#,
        "rate",
        ["blkio.throttle.read_iops_device"],
        "io.max",
        ["777", "rbps=max wbps=max riops=777 wiops=max"]
    ),
    device!(
        "writing_operations",
        "throttleWriteIOPSDevice",
        r#"{"rate": 777}"#,
        "rate",
        ["blkio.throttle.write_iops_device"],
        "io.max",
        ["777", "rbps=max wbps=max riops=max wiops=777"]
    ),
    limit!("huge_pages", "huge-page-limits", &["/linux/resources/hugepageLimits/*/pageSize", "/linux/resources/hugepageLimits/*/limit"],
           "hugepageLimits", [{"pageSize": "2MB", "limit": 4_194_304}],
           "hugetlb.2MB.rsvd.limit_in_bytes" = ["4194304"], "hugetlb.2MB.limit_in_bytes" = ["4194304"],
           "hugetlb.2MB.rsvd.max" = ["4194304"], "hugetlb.2MB.max" = ["4194304"]),
    wrong!("huge_pages_of_no_size", "config-linux.md#huge-page-limits", "the size must be that of a control file: else it MUST be an error",
           &["/linux/resources/hugepageLimits/*/pageSize"], "resources/hugepageLimits", [{"pageSize": "3MB", "limit": 3_145_728}]),
    limit!("network_class", "network", &["/linux/resources/network/classID"], "network", {"classID": 1_048_577}, "net_cls.classid" = ["1048577"]),
    limit!("network_priority", "network", &["/linux/resources/network/priorities/*/name", "/linux/resources/network/priorities/*/priority"],
           "network", {"priorities": [{"name": "lo", "priority": 7}]}, "net_prio.ifpriomap" = ["lo 7"]),
    limit!("remote_memory", "rdma", &["/linux/resources/rdma/*/hcaHandles", "/linux/resources/rdma/*/hcaObjects"],
           "rdma", {"mlx5_77": {"hcaHandles": 2, "hcaObjects": 2000}}, "rdma.max" = ["mlx5_77 hca_handle=2 hca_object=2000"]),
    wrong!("remote_memory_without_a_limit", "config-linux.md#rdma", "an entry MUST have at least one of its limits", &["/linux/resources/rdma"],
           "resources/rdma", {"mlx5_77": {}}),
    wrong!("device_without_a_weight", "config-linux.md#block-io", "an entry MUST have at least one of its weights", &["/linux/resources/blockIO/weightDevice"],
           "resources/blockIO", {"weightDevice": [{"major": 7, "minor": 0}]}),
    holds(
        "nothing_is_asked_for",
        "config-linux.md#control-groups",
        "empty limits limit nothing: all of them are OPTIONAL",
        &["/linux/resources"],
        |t| {
            let mut bundle = fresh(t, &["exit", "0"]);
            for key in ["memory", "cpu", "pids", "blockIO", "network"] {
                bundle.set(&format!("/linux/resources/{key}"), json!({}));
            }
            bundle
                .set("/linux/resources/hugepageLimits", json!([]))
                .set("/linux/resources/unified", json!({}));
            Container::new(t, &mut bundle).run().expect(0);
        },
    ),
    holds(
        "file_of_version_2",
        "config-linux.md#unified",
        "files of version 2 MUST be written, also those that the runtime does not know, with their controllers enabled",
        &["/linux/resources/unified/*"],
        |t| {
            t.needs(&[Need::CgroupV2, Need::Controller("memory"), Need::Controller("pids")]);
            set(
                t,
                &[(
                    "/linux/resources/unified",
                    json!({"memory.oom.group": "1", "pids.max": "77", "memory.high": "1073741824"}),
                )],
                &[
                    &[Means { file: "memory.oom.group", values: &["1"] }],
                    &[Means { file: "pids.max", values: &["77"] }],
                    &[Means { file: "memory.high", values: &["1073741824"] }],
                ],
            );
        },
    ),
    wrong!("file_of_a_missing_controller", "config-linux.md#unified", "a controller that is not there MUST be an error", &["/linux/resources/unified/*"],
           "resources/unified", {"frobnicate.max": "7"}),
    wrong!("file_that_is_elsewhere", "config-linux.md#unified", "each key is a file of the control group: others MUST be an error", &["/linux/resources/unified/*"],
           "resources/unified", {"../cgroup.procs": "0"}),
    holds(
        "files_without_version_2",
        "config-linux.md#unified",
        "a controller that is not there MUST be an error",
        &["/linux/resources/unified/*"],
        |t| {
            t.needs(&[Need::CgroupV1("memory")]);
            let mut bundle = fresh(t, &[]);
            bundle.set("/linux/resources/unified", json!({"memory.high": "1073741824"}));
            is_refused(t, &mut bundle);
        },
    ),
];
