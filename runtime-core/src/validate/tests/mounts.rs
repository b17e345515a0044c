//! Mounts and devices; see `mod.rs`.

use serde_json::{Value, json};

use super::super::*;
use super::{refused, table, valid};

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
        (here, bind(json!({"options": ["bind"], "uidMappings": map, "gidMappings": map})), "", ""),
        (here, bind(json!({"options": ["remount", "bind", "idmap"]})), "/mounts/1/options", "idmap-remount"),
        (here, bind(json!({"type": "tmpfs", "options": ["ridmap"]})), "/mounts/1/options", "idmap-type"),
        (
            here,
            json!({"destination": "/m", "type": "tmpfs", "uidMappings": map, "gidMappings": map}),
            "/mounts/1/uidMappings",
            "idmap-type",
        ),
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

/// crun's way to write mappings: the container maps 65536 ids from 100000 on.
#[test]
fn mappings_in_an_option() {
    let option = |word: &str| json!({"destination": "/data", "source": "data", "options": ["bind", word]});
    let maps = |word: &str| {
        let valid = valid(&[("/mounts/1", option(word))]);
        let map = valid.mounts[1].idmap.clone().expect("a mapping");
        let numbers = |list: &[crate::spec::IdMapping]| -> Vec<(u32, u32, u32)> {
            list.iter().map(|m| (m.container_id.get(), m.host_id.get(), m.size)).collect()
        };
        (map.recursive, map.own.map(|(uids, gids)| (numbers(&uids), numbers(&gids))))
    };
    assert_eq!(
        maps("idmap=uids=0-1-10#10-11-10;gids=0-100-10"),
        (false, Some((vec![(0, 1, 10), (10, 11, 10)], vec![(0, 100, 10)])))
    );
    assert_eq!(
        maps("ridmap=gids=@0-5-10;uids=@7-0-1"),
        (true, Some((vec![(7, 100_000, 1)], vec![(0, 100_005, 10)])))
    );
    assert_eq!(maps("idmap="), (false, None));
    for wrong in [
        "idmap=uids=0-1-10",
        "idmap=uid=0-1-10;gids=0-1-10",
        "idmap=uids=0-1;gids=0-1-10",
        "idmap=uids=0-1-10-3;gids=0-1-10",
        "idmap=uids=0--1-10;gids=0-1-10",
        "idmap=uids=x-1-10;gids=0-1-10",
        "idmap=uids=@0-65530-10;gids=0-1-10",
        "idmap=uids=4294967296-0-1;gids=0-1-10",
    ] {
        refused(&[("/mounts/1", option(wrong))], "/mounts/1/options", "idmap-words");
    }
    let mut twice = option("idmap=uids=0-1-10;gids=0-1-10");
    twice["uidMappings"] = json!([{"containerID": 0, "hostID": 1, "size": 1}]);
    twice["gidMappings"] = twice["uidMappings"].clone();
    refused(&[("/mounts/1", twice)], "/mounts/1/options", "idmap-twice");
    refused(
        &[("/mounts/1", option("idmap=uids=0-1-0;gids=0-1-1"))],
        "/mounts/1/uidMappings/0/size",
        "mapping-empty",
    );
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
