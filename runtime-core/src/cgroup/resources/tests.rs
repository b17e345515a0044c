//! The conversion, on hosts that are written down.

use super::*;
use crate::cgroup::path::CgroupPath;

fn v1(controllers: &[&str]) -> Vec<Hierarchy> {
    let one = |controller: &&str| Hierarchy {
        version: Version::V1,
        mount: format!("/sys/fs/cgroup/{controller}"),
        controllers: controller.split(',').map(str::to_owned).collect(),
        name: None,
        own: CgroupPath::root(),
        writable: Some(CgroupPath::root()),
    };
    controllers.iter().map(one).collect()
}

fn v2(controllers: &[&str]) -> Hierarchy {
    Hierarchy {
        version: Version::V2,
        mount: "/sys/fs/cgroup".into(),
        controllers: controllers.iter().map(|&name| name.to_owned()).collect(),
        name: None,
        own: CgroupPath::root(),
        writable: Some(CgroupPath::root()),
    }
}

pub(super) fn unified() -> Layout {
    let controllers = ["cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma", "misc"];
    Layout { hierarchies: vec![v2(&controllers)] }
}

pub(super) fn legacy() -> Layout {
    let controllers = [
        "cpu,cpuacct",
        "cpuset",
        "memory",
        "blkio",
        "pids",
        "hugetlb",
        "rdma",
        "net_cls,net_prio",
        "devices",
    ];
    Layout { hierarchies: v1(&controllers) }
}

fn convert(layout: &Layout, json: &str) -> Result<Vec<String>, String> {
    let writes = plan(&serde_json::from_str(json).unwrap(), layout).map_err(|refusal| refusal.pointer)?;
    Ok(writes.iter().map(|write| format!("{} {}", write.file, write.value)).collect())
}

/// (resources, files and values on version 2 or the refused pointer, the same on version 1)
type Case<'a> = (&'a str, Result<&'a [&'a str], &'a str>, Result<&'a [&'a str], &'a str>);

fn check(cases: &[Case<'_>]) {
    for (json, on_v2, on_v1) in cases {
        for (layout, expected) in [(unified(), on_v2), (legacy(), on_v1)] {
            let found = convert(&layout, json);
            match expected {
                Ok(lines) => assert_eq!(
                    found.as_deref(),
                    Ok(&lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>()[..]),
                    "{json}"
                ),
                Err(pointer) => assert_eq!(found, Err(format!("/linux/resources{pointer}")), "{json}"),
            }
        }
    }
}

#[test]
fn nothing_asked_for_is_nothing_written() {
    let empty = r#"{"memory": {}, "cpu": {}, "pids": {}, "blockIO": {}, "network": {}, "hugepageLimits": [], "rdma": {}, "unified": {}}"#;
    let zero = r#"{"memory": {"limit": 0, "reservation": 0, "swap": 0, "kernel": 0, "swappiness": 18446744073709551615, "disableOOMKiller": false},
        "cpu": {"shares": 0, "quota": 0, "period": 0, "realtimeRuntime": 0, "realtimePeriod": 0, "cpus": "", "mems": ""},
        "blockIO": {"weight": 0, "leafWeight": 0}, "network": {"classID": 0}}"#;
    check(&[("{}", Ok(&[]), Ok(&[])), (empty, Ok(&[]), Ok(&[])), (zero, Ok(&[]), Ok(&[]))]);
    assert_eq!(convert(&Layout::default(), empty), Ok(vec![]));
}

#[test]
fn memory_and_swap() {
    check(&[
        (r#"{"memory": {"limit": 1000}}"#, Ok(&["memory.max 1000"]), Ok(&["memory.limit_in_bytes 1000"])),
        (
            r#"{"memory": {"limit": 1000, "swap": 3000, "reservation": 500}}"#,
            Ok(&["memory.max 1000", "memory.swap.max 2000", "memory.low 500"]),
            Ok(&[
                "memory.limit_in_bytes 1000",
                "memory.memsw.limit_in_bytes 3000",
                "memory.soft_limit_in_bytes 500",
            ]),
        ),
        (
            r#"{"memory": {"limit": 1000, "swap": 1000}}"#,
            Ok(&["memory.max 1000", "memory.swap.max 0"]),
            Ok(&["memory.limit_in_bytes 1000", "memory.memsw.limit_in_bytes 1000"]),
        ),
        (
            r#"{"memory": {"limit": -1}}"#,
            Ok(&["memory.max max", "memory.swap.max max"]),
            Ok(&["memory.limit_in_bytes -1", "memory.memsw.limit_in_bytes -1"]),
        ),
        (
            r#"{"memory": {"limit": -1, "swap": 500}}"#,
            Ok(&["memory.max max", "memory.swap.max 500"]),
            Ok(&["memory.limit_in_bytes -1", "memory.memsw.limit_in_bytes 500"]),
        ),
        (
            r#"{"memory": {"swap": -1}}"#,
            Ok(&["memory.swap.max max"]),
            Ok(&["memory.memsw.limit_in_bytes -1"]),
        ),
        (r#"{"memory": {"swap": 1000}}"#, Err("/memory/swap"), Err("/memory/swap")),
        (r#"{"memory": {"limit": 1000, "swap": 999}}"#, Err("/memory/swap"), Err("/memory/swap")),
        (r#"{"memory": {"limit": -2}}"#, Err("/memory/limit"), Err("/memory/limit")),
        (r#"{"memory": {"kernel": 5}}"#, Err("/memory/kernel"), Ok(&["memory.kmem.limit_in_bytes 5"])),
        (
            r#"{"memory": {"kernelTCP": 5}}"#,
            Err("/memory/kernelTCP"),
            Ok(&["memory.kmem.tcp.limit_in_bytes 5"]),
        ),
        (r#"{"memory": {"swappiness": 60}}"#, Err("/memory/swappiness"), Ok(&["memory.swappiness 60"])),
        (r#"{"memory": {"swappiness": 101}}"#, Err("/memory/swappiness"), Err("/memory/swappiness")),
        (
            r#"{"memory": {"disableOOMKiller": true}}"#,
            Err("/memory/disableOOMKiller"),
            Ok(&["memory.oom_control 1"]),
        ),
        (r#"{"memory": {"useHierarchy": true}}"#, Ok(&[]), Ok(&["memory.use_hierarchy 1"])),
        (
            r#"{"memory": {"useHierarchy": false}}"#,
            Err("/memory/useHierarchy"),
            Ok(&["memory.use_hierarchy 0"]),
        ),
    ]);
    let write = |json| plan(&serde_json::from_str(json).unwrap(), &unified()).unwrap();
    let checked = write(r#"{"memory": {"limit": 7, "checkBeforeUpdate": true}}"#);
    assert_eq!(checked[0].not_below.as_deref(), Some("memory.current"));
    assert_eq!(write(r#"{"memory": {"limit": 7, "swap": 7}}"#)[1].absent, Absent::SkipWithoutSwap);
    assert_eq!(write(r#"{"memory": {"limit": 7, "swap": 9}}"#)[1].absent, Absent::Error);
}

#[test]
fn cpu_time_and_placement() {
    check(&[
        (r#"{"cpu": {"shares": 1024}}"#, Ok(&["cpu.weight 100"]), Ok(&["cpu.shares 1024"])),
        (r#"{"cpu": {"shares": 1}}"#, Ok(&["cpu.weight 1"]), Err("/cpu/shares")),
        (r#"{"cpu": {"shares": 300000}}"#, Ok(&["cpu.weight 10000"]), Err("/cpu/shares")),
        (
            r#"{"cpu": {"quota": 20000, "period": 50000, "burst": 1000}}"#,
            Ok(&["cpu.max 20000 50000", "cpu.max.burst 1000"]),
            Ok(&["cpu.cfs_period_us 50000", "cpu.cfs_quota_us 20000", "cpu.cfs_burst_us 1000"]),
        ),
        (r#"{"cpu": {"quota": 20000}}"#, Ok(&["cpu.max 20000"]), Ok(&["cpu.cfs_quota_us 20000"])),
        (r#"{"cpu": {"quota": -1}}"#, Ok(&["cpu.max max"]), Ok(&["cpu.cfs_quota_us -1"])),
        (r#"{"cpu": {"period": 50000}}"#, Ok(&["cpu.max max 50000"]), Ok(&["cpu.cfs_period_us 50000"])),
        (r#"{"cpu": {"quota": -5}}"#, Err("/cpu/quota"), Err("/cpu/quota")),
        (r#"{"cpu": {"quota": 1000, "burst": 1001}}"#, Err("/cpu/burst"), Err("/cpu/burst")),
        (
            r#"{"cpu": {"shares": 512, "idle": 1}}"#,
            Ok(&["cpu.weight 59", "cpu.idle 1"]),
            Ok(&["cpu.shares 512", "cpu.idle 1"]),
        ),
        (r#"{"cpu": {"idle": 2}}"#, Err("/cpu/idle"), Err("/cpu/idle")),
        (
            r#"{"cpu": {"realtimePeriod": 1000000, "realtimeRuntime": 5000}}"#,
            Err("/cpu/realtimePeriod"),
            Ok(&["cpu.rt_period_us 1000000", "cpu.rt_runtime_us 5000"]),
        ),
        (
            r#"{"cpu": {"cpus": "0-3,7", "mems": "0"}}"#,
            Ok(&["cpuset.cpus 0-3,7", "cpuset.mems 0"]),
            Ok(&["cpuset.cpus 0-3,7", "cpuset.mems 0"]),
        ),
        (r#"{"cpu": {"cpus": "0\n1"}}"#, Err("/cpu/cpus"), Err("/cpu/cpus")),
    ]);
    let period = plan(&serde_json::from_str(r#"{"cpu": {"period": 50000}}"#).unwrap(), &unified()).unwrap();
    assert!(period[0].keep_first_word, "a period alone must not take the quota away");
}

#[test]
fn weights_fit_the_three_points_and_never_fall() {
    // Values that runc's test table has for the same formula.
    for (shares, weight) in [(0, 0), (1, 1), (2, 1), (1024, 100), (262_144, 10_000), (u64::MAX, 10_000)] {
        assert_eq!(weight_from_shares(shares), weight, "{shares}");
    }
    let all: Vec<u64> = (1..=262_144).map(weight_from_shares).collect();
    assert!(all.is_sorted());
}

#[test]
fn pids_zero_is_a_limit() {
    check(&[
        (r#"{"pids": {"limit": 30}}"#, Ok(&["pids.max 30"]), Ok(&["pids.max 30"])),
        (r#"{"pids": {"limit": 0}}"#, Ok(&["pids.max 1"]), Ok(&["pids.max 1"])),
        (r#"{"pids": {"limit": -1}}"#, Ok(&["pids.max max"]), Ok(&["pids.max max"])),
        (r#"{"pids": {"limit": -7}}"#, Err("/pids/limit"), Err("/pids/limit")),
    ]);
}

#[test]
fn block_io() {
    check(&[
        (r#"{"blockIO": {"weight": 300}}"#, Ok(&["io.bfq.weight 300"]), Ok(&["blkio.weight 300"])),
        (r#"{"blockIO": {"weight": 9}}"#, Err("/blockIO/weight"), Err("/blockIO/weight")),
        (r#"{"blockIO": {"leafWeight": 300}}"#, Err("/blockIO/leafWeight"), Ok(&["blkio.leaf_weight 300"])),
        (
            r#"{"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 500}]}}"#,
            Ok(&["io.bfq.weight 8:0 500"]),
            Ok(&["blkio.weight_device 8:0 500"]),
        ),
        (
            r#"{"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1048576}],
                "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 0}],
                "throttleReadIOPSDevice": [{"major": 8, "minor": 16, "rate": 5}],
                "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 6}]}}"#,
            Ok(&[
                "io.max 8:0 rbps=1048576",
                "io.max 8:0 wbps=max",
                "io.max 8:16 riops=5",
                "io.max 8:16 wiops=6",
            ]),
            Ok(&[
                "blkio.throttle.read_bps_device 8:0 1048576",
                "blkio.throttle.write_bps_device 8:0 0",
                "blkio.throttle.read_iops_device 8:16 5",
                "blkio.throttle.write_iops_device 8:16 6",
            ]),
        ),
        (
            r#"{"blockIO": {"throttleReadBpsDevice": [{"major": -1, "minor": 0, "rate": 1}]}}"#,
            Err("/blockIO/throttleReadBpsDevice/0/major"),
            Err("/blockIO/throttleReadBpsDevice/0/major"),
        ),
    ]);
    let write = |json| plan(&serde_json::from_str(json).unwrap(), &unified()).unwrap()[0].absent.clone();
    let instead = |file: &str, value: &str| Absent::Instead { file: file.into(), value: value.into() };
    assert_eq!(write(r#"{"blockIO": {"weight": 10}}"#), instead("io.weight", "1"));
    assert_eq!(write(r#"{"blockIO": {"weight": 1000}}"#), instead("io.weight", "10000"));
}

#[test]
fn hugepages_rdma_and_network() {
    check(&[
        (
            r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]}"#,
            Ok(&["hugetlb.2MB.rsvd.max 4194304", "hugetlb.2MB.max 4194304"]),
            Ok(&["hugetlb.2MB.rsvd.limit_in_bytes 4194304", "hugetlb.2MB.limit_in_bytes 4194304"]),
        ),
        (
            r#"{"hugepageLimits": [{"pageSize": "2MB/../x", "limit": 1}]}"#,
            Err("/hugepageLimits/0/pageSize"),
            Err("/hugepageLimits/0/pageSize"),
        ),
        (
            r#"{"rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}}}"#,
            Ok(&["rdma.max mlx5_1 hca_handle=3 hca_object=10000"]),
            Ok(&["rdma.max mlx5_1 hca_handle=3 hca_object=10000"]),
        ),
        (r#"{"rdma": {"a/b": {}}}"#, Err("/rdma/a~1b"), Err("/rdma/a~1b")),
        (
            r#"{"rdma": {"a hca_handle=max": {"hcaHandles": 3}}}"#,
            Err("/rdma/a hca_handle=max"),
            Err("/rdma/a hca_handle=max"),
        ),
        (r#"{"network": {"classID": 1048577}}"#, Err("/network/classID"), Ok(&["net_cls.classid 1048577"])),
        (
            r#"{"network": {"priorities": [{"name": "eth0", "priority": 5}]}}"#,
            Err("/network/priorities/0"),
            Ok(&["net_prio.ifpriomap eth0 5"]),
        ),
        (
            r#"{"network": {"priorities": [{"name": "eth0 1\nlo", "priority": 5}]}}"#,
            Err("/network/priorities/0/name"),
            Err("/network/priorities/0/name"),
        ),
    ]);
}

#[test]
fn unified_comes_last_with_clean_keys() {
    let found = convert(
        &unified(),
        r#"{"unified": {"memory.high": "5", "cgroup.max.depth": "3"}, "memory": {"limit": 9}}"#,
    );
    assert_eq!(found.unwrap(), ["memory.max 9", "cgroup.max.depth 3", "memory.high 5"]);
    let lines = convert(&unified(), r#"{"unified": {"io.max": "8:0 rbps=1\n8:16 wbps=2\n"}}"#);
    assert_eq!(lines.unwrap(), ["io.max 8:0 rbps=1", "io.max 8:16 wbps=2"]);
    for key in [
        "../memory.max",
        "memory.max/..",
        "/memory.max",
        "memory",
        ".memory",
        "memory.",
        "",
        "cgroup.procs",
        "cgroup.threads",
        "cgroup.subtree_control",
        "cgroup.type",
        "cgroup.kill",
        "cgroup.freeze",
        "memory.m\u{e4}x",
        "memory.max\0",
        "perf_event.x",
    ] {
        let resources =
            Resources { unified: [(key.to_owned(), "1".to_owned())].into(), ..Resources::default() };
        assert!(plan(&resources, &unified()).is_err(), "{key:?}");
    }
    for value in ["", "1\n2", "1\r", "\n", "a\0"] {
        let resources = Resources {
            unified: [("memory.max".to_owned(), value.to_owned())].into(),
            ..Resources::default()
        };
        let refusal = plan(&resources, &unified()).unwrap_err();
        assert_eq!(refusal.pointer, "/linux/resources/unified/memory.max", "{value:?}");
    }
    assert_eq!(
        convert(&legacy(), r#"{"unified": {"memory.max": "1"}}"#),
        Err("/linux/resources/unified/memory.max".into())
    );
}

#[test]
fn a_missing_controller_is_refused_by_name() {
    let bare = Layout { hierarchies: vec![v2(&["hugetlb"])] };
    for (json, pointer) in [
        (r#"{"memory": {"limit": 5}}"#, "/memory/limit"),
        (r#"{"memory": {"swap": -1}}"#, "/memory/swap"),
        (r#"{"cpu": {"shares": 5}}"#, "/cpu/shares"),
        (r#"{"cpu": {"quota": 5000}}"#, "/cpu/quota"),
        (r#"{"cpu": {"period": 5000}}"#, "/cpu/period"),
        (r#"{"cpu": {"burst": 5}}"#, "/cpu/burst"),
        (r#"{"cpu": {"idle": 0}}"#, "/cpu/idle"),
        (r#"{"cpu": {"cpus": "0"}}"#, "/cpu/cpus"),
        (r#"{"cpu": {"mems": "0"}}"#, "/cpu/mems"),
        (r#"{"pids": {"limit": -1}}"#, "/pids/limit"),
        (r#"{"blockIO": {"weight": 50}}"#, "/blockIO/weight"),
        (r#"{"rdma": {"x": {"hcaHandles": 1}}}"#, "/rdma/x"),
        (r#"{"unified": {"memory.high": "1"}}"#, "/unified/memory.high"),
    ] {
        let refusal = plan(&serde_json::from_str(json).unwrap(), &bare).unwrap_err();
        assert_eq!(refusal.pointer, format!("/linux/resources{pointer}"));
        assert!(refusal.reason.contains("not available on this host"), "{refusal}");
    }
}

#[test]
fn what_is_not_delegated_is_named() {
    let mut layout = unified();
    let own = "user.slice/user-1000.slice/user@1000.service/app.slice/term.scope";
    layout.hierarchies[0].own = CgroupPath::parse(own).unwrap();
    layout.hierarchies[0].writable =
        Some(CgroupPath::parse("user.slice/user-1000.slice/user@1000.service").unwrap());
    layout.hierarchies[0].controllers = vec!["memory".into(), "pids".into()];
    let refusal = plan(&serde_json::from_str(r#"{"cpu": {"quota": 5000}}"#).unwrap(), &layout).unwrap_err();
    assert_eq!(
        refusal.reason,
        "the cpu controller is not delegated to /sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service"
    );
    layout.hierarchies[0].writable = None;
    let refusal = plan(&serde_json::from_str(r#"{"pids": {"limit": 5}}"#).unwrap(), &layout).unwrap_err();
    assert!(refusal.reason.contains("nothing there is delegated"), "{refusal}");
}

#[test]
fn hybrid_hosts_use_the_hierarchy_that_has_the_controller() {
    let mut hierarchies = v1(&["memory"]);
    hierarchies.push(v2(&["pids"]));
    let json = r#"{"memory": {"limit": 5}, "pids": {"limit": 6}, "unified": {"pids.max": "7"}}"#;
    let writes = plan(&serde_json::from_str(json).unwrap(), &Layout { hierarchies }).unwrap();
    let shown: Vec<String> = writes.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "v2: pids.max = 6  [/linux/resources/pids/limit]",
            "memory: memory.limit_in_bytes = 5  [/linux/resources/memory/limit]",
            "v2: pids.max = 7  [/linux/resources/unified/pids.max]",
        ]
    );
}
