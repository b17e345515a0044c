//! Limits; see `mod.rs`.

use serde_json::json;

use super::super::*;
use super::{codes, table, valid};

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
            json!({"blockIO": {"weightDevice": [{"major": 8, "minor": 0}]}}),
            "/linux/resources/blockIO/weightDevice/0",
            "weight-empty",
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
