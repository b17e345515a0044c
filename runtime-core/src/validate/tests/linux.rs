//! Namespaces, kernel parameters and the small parts of `linux`; see `mod.rs`.

use serde_json::{Value, json};

use super::super::*;
use super::{accepted, check, refused, table, valid};

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
        ("/linux/intelRdt", rdt("l3CacheSchema", "L2:0=f"), "/linux/intelRdt/l3CacheSchema", "schema-prefix"),
        ("/linux/intelRdt", rdt("l3CacheSchema", "L3:0=f\nMB:0=10"), "", ""),
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
