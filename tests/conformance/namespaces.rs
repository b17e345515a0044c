//! Namespaces: new, joined and inherited ones, mappings of users, offsets of clocks.
use crate::rule::*;
use coracle_tests::*;
use std::fs;

/// The specification's words and the kernel's file names.
const KINDS: [(&str, &str); 8] = [
    ("pid", "pid"),
    ("network", "net"),
    ("mount", "mnt"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("user", "user"),
    ("cgroup", "cgroup"),
    ("time", "time"),
];

fn own(file: &str) -> Value {
    json!(fs::read_link(format!("/proc/self/ns/{file}")).unwrap())
}

/// A new namespace of a kind differs from the runtime's.
macro_rules! new {
    ($name:ident, $kind:literal, $file:literal) => {
        sees(
            stringify!($name),
            "config-linux.md#namespaces",
            concat!("without a path a new namespace of type ", $kind, " MUST be made"),
            &["/linux/namespaces/*/type"],
            |bundle| bundle.without_namespace($kind).add("/linux/namespaces", json!({"type": $kind})),
            |seen| assert_ne!(seen["namespaces"][$file], own($file)),
        )
    };
}

/// Without an entry it is the runtime's.
macro_rules! inherited {
    ($name:ident, $kind:literal, $file:literal) => {
        sees(
            concat!("inherited_", stringify!($name)),
            "config-linux.md#namespaces",
            concat!("without an entry of type ", $kind, " the namespace MUST be the runtime's"),
            &["/linux/namespaces"],
            |bundle| without(bundle, $kind),
            |seen| assert_eq!(seen["namespaces"][$file], own($file)),
        )
    };
}

/// Takes out a namespace, with what would not be possible without it.
fn without<'b>(bundle: &'b mut Bundle, kind: &str) -> &'b mut Bundle {
    let mounted = match kind {
        "network" => "sysfs",
        "ipc" => "mqueue",
        _ => "",
    };
    bundle.spec["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != mounted);
    if kind == "uts" {
        bundle.remove("/hostname");
    }
    bundle.without_namespace(kind)
}

/// Joins the namespace of another container.
fn joins(t: &T, kind: &str, file: &str) {
    let mut first = fresh(t, &["ready"]);
    if !["pid", "network", "ipc", "uts"].contains(&kind) {
        first.add("/linux/namespaces", json!({"type": kind}));
    }
    let first = Container::new(t, &mut first);
    first.ready();
    let path = format!("/proc/{}/ns/{file}", first.pid());
    let there = fs::read_link(&path).unwrap();
    let mut bundle = fresh(t, &["report"]);
    if kind == "uts" {
        bundle.remove("/hostname");
    }
    bundle.without_namespace(kind).add("/linux/namespaces", json!({"type": kind, "path": path}));
    assert_eq!(report(t, &mut bundle)["namespaces"][file], json!(there));
    assert_eq!(first.status(), "running", "nothing is done to the other container");
    first.end();
}

macro_rules! joined {
    ($name:ident, $kind:literal, $file:literal) => {
        holds(
            concat!("joined_", stringify!($name)),
            "config-linux.md#namespaces",
            concat!("with a path the process MUST be placed in that namespace of type ", $kind),
            &["/linux/namespaces/*/path"],
            |t| joins(t, $kind, $file),
        )
    };
}

/// A path instead of a new network namespace.
fn network_at<'b>(bundle: &'b mut Bundle, path: &str) -> &'b mut Bundle {
    bundle.without_namespace("network").add("/linux/namespaces", json!({"type": "network", "path": path}))
}

const PATH: &[&str] = &["/linux/namespaces/*/path"];
const USERS: &[Need] = &[Need::UserNamespaces];
const TIME: &[Need] = &[Need::File("/proc/self/ns/time")];

/// An own time namespace with an offset for each of the clocks.
fn shifted(bundle: &mut Bundle) -> &mut Bundle {
    bundle.add("/linux/namespaces", json!({"type": "time"}));
    bundle.set(
        "/linux/timeOffsets",
        json!({"monotonic": {"secs": 1_000_000, "nanosecs": 5}, "boottime": {"secs": 2_000_000}}),
    )
}

fn single_user(bundle: &mut Bundle) -> &mut Bundle {
    bundle.user_namespace(100_000)
}

pub const RULES: &[Rule] = &[
    new!(pid, "pid", "pid"),
    new!(network, "network", "net"),
    new!(mount, "mount", "mnt"),
    new!(ipc, "ipc", "ipc"),
    new!(uts, "uts", "uts"),
    new!(cgroup, "cgroup", "cgroup"),
    new!(time, "time", "time").needs(TIME),
    sees(
        "user",
        "config-linux.md#namespaces",
        "without a path a new namespace of type user MUST be made",
        &["/linux/namespaces/*/type"],
        single_user,
        |seen| assert_ne!(seen["namespaces"]["user"], own("user")),
    )
    .needs(USERS),
    inherited!(pid, "pid", "pid"),
    inherited!(network, "network", "net"),
    inherited!(ipc, "ipc", "ipc"),
    inherited!(uts, "uts", "uts"),
    inherited!(cgroup, "cgroup", "cgroup"),
    inherited!(user, "user", "user"),
    inherited!(time, "time", "time").needs(TIME),
    joined!(pid, "pid", "pid"),
    joined!(network, "network", "net"),
    joined!(ipc, "ipc", "ipc"),
    joined!(uts, "uts", "uts"),
    joined!(cgroup, "cgroup", "cgroup"),
    joined!(time, "time", "time").needs(TIME),
    holds(
        "joined_user",
        "config-linux.md#namespaces",
        "with a path the process MUST be placed in that namespace of type user",
        PATH,
        |t| {
            let mut first = fresh(t, &["ready"]);
            first.user_namespace(300_000);
            let first = Container::new(t, &mut first);
            first.ready();
            let path = format!("/proc/{}/ns/user", first.pid());
            let there = fs::read_link(&path).unwrap();
            let mut bundle = fresh(t, &["report"]);
            bundle.user_namespace(300_000).without_namespace("user");
            bundle.remove("/linux/uidMappings").remove("/linux/gidMappings");
            bundle.add("/linux/namespaces", json!({"type": "user", "path": path}));
            let seen = report(t, &mut bundle);
            assert_eq!(seen["namespaces"]["user"], json!(there));
            assert_eq!(seen["uidMap"], json!([["0", "300000", "65536"]]));
            first.end();
        },
    )
    .needs(USERS),
    holds(
        "twice",
        "config-linux.md#namespaces",
        "two entries of the same type MUST be an error",
        &["/linux/namespaces/*/type"],
        |t| {
            for (kind, _) in KINDS.iter().filter(|(kind, _)| *kind != "user") {
                let mut bundle = fresh(t, &[]);
                bundle.without_namespace(kind);
                bundle.add("/linux/namespaces", json!({"type": kind})).add("/linux/namespaces", json!({"type": kind}));
                is_refused(t, &mut bundle);
            }
        },
    ),
    refused(
        "unknown",
        "config.md#valid-values",
        "an invalid value MUST be an error",
        &["/linux/namespaces/*/type"],
        |bundle| bundle.add("/linux/namespaces", json!({"type": "frobnicate"})),
    ),
    refused("no_type", "config-linux.md#namespaces", "the type is REQUIRED", PATH, |bundle| {
        bundle.add("/linux/namespaces", json!({"path": "/proc/1/ns/net"}))
    }),
    refused(
        "path_of_another_type",
        "config-linux.md#namespaces",
        "a path that is of another type MUST be an error",
        PATH,
        |bundle| network_at(bundle, "/proc/self/ns/uts"),
    ),
    refused(
        "path_of_no_namespace",
        "config-linux.md#namespaces",
        "a path that is of another type MUST be an error",
        PATH,
        |bundle| network_at(bundle, "/etc/passwd"),
    ),
    refused(
        "path_to_nothing",
        "config-linux.md#namespaces",
        "what cannot be joined MUST be an error",
        PATH,
        |bundle| network_at(bundle, "/proc/self/ns/nothing"),
    ),
    refused(
        "relative_path",
        "config-linux.md#namespaces",
        "the path MUST be absolute",
        PATH,
        |bundle| {
            // It would lead to a namespace from every directory.
            network_at(bundle, "../../../../../../../../../proc/self/ns/net")
        },
    ),
    holds(
        "own_processes",
        "config-linux.md#namespaces",
        "in a pid namespace only the processes inside are seen (SHOULD be supported)",
        &["/linux/namespaces/*/type"],
        |t| {
            let mut bundle = fresh(t, &[]);
            let got = answers(t, &mut bundle, &[json!(["list", "/proc"]), json!(["kill", 2, 0])]);
            let numbers = got[0]["ok"].as_array().unwrap().iter();
            let pids: Vec<&str> = numbers.map(|name| name.as_str().unwrap()).filter(|name| name.parse::<u32>().is_ok()).collect();
            assert_eq!(pids, ["1"]);
        },
    ),
    sees(
        "own_devices",
        "config-linux.md#namespaces",
        "a network namespace has a stack of its own (SHOULD be supported)",
        &["/linux/namespaces/*/type"],
        |bundle| bundle,
        |seen| {
            let names: Vec<&String> = seen["interfaces"].as_object().unwrap().keys().collect();
            assert!(names.contains(&&"lo".to_owned()) && !names.iter().any(|name| name.starts_with("eth")), "{names:?}");
        },
    ),
    sees(
        "mappings_of_users",
        "config-linux.md#user-namespace-mappings",
        "the mappings are those of the user namespace (MUST be applied)",
        &[
            "/linux/uidMappings/*/containerID", "/linux/uidMappings/*/hostID", "/linux/uidMappings/*/size",
            "/linux/gidMappings/*/containerID", "/linux/gidMappings/*/hostID", "/linux/gidMappings/*/size",
        ],
        |bundle| {
            bundle.user_namespace(100_000);
            let more = |from: u32| json!([{"containerID": 0, "hostID": 100_000, "size": 1000},
                {"containerID": 5000, "hostID": from, "size": 10}, {"containerID": 4_000_000_000_u32, "hostID": 3_000_000_000_u32, "size": 1}]);
            bundle.set("/linux/uidMappings", more(200_000)).set("/linux/gidMappings", more(200_005))
        },
        |seen| {
            let all = |from: &str| json!([["0", "100000", "1000"], ["5000", from, "10"], ["4000000000", "3000000000", "1"]]);
            assert_eq!((&seen["uidMap"], &seen["gidMap"]), (&all("200000"), &all("200005")));
        },
    )
    .needs(USERS),
    sees(
        "user_of_a_mapping",
        "config.md#posix-platform-user",
        "uid, gid and groups are those in the container's namespace (MUST be applied)",
        &["/process/user/uid", "/linux/uidMappings"],
        |bundle| {
            bundle.user_namespace(200_000);
            bundle.set("/process/user", json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 6]}))
        },
        |seen| {
            assert_eq!((&seen["uid"]["real"], &seen["gid"]["real"], &seen["groups"]), (&json!(1000), &json!(1001), &json!([5, 6])));
        },
    )
    .needs(USERS),
    refused(
        "user_outside_the_mappings",
        "runtime.md#create",
        "what cannot be applied MUST be an error",
        &["/process/user/uid", "/linux/uidMappings"],
        |bundle| bundle.user_namespace(100_000).set("/process/user", json!({"uid": 70_000, "gid": 0})),
    )
    .needs(USERS),
    refused(
        "mapping_without_size",
        "config-linux.md#user-namespace-mappings",
        "containerID, hostID and size are REQUIRED",
        &["/linux/uidMappings/*/containerID"],
        |bundle| bundle.user_namespace(100_000).set("/linux/uidMappings", json!([{"containerID": 0, "hostID": 100_000}])),
    )
    .needs(USERS),
    holds(
        "owners_of_the_root_file_system",
        "config-linux.md#user-namespace-mappings",
        "the runtime SHOULD NOT change the owners of file systems",
        &["/linux/uidMappings"],
        |t| {
            use std::os::unix::fs::MetadataExt;
            let mut bundle = fresh(t, &["exit", "0"]);
            bundle.user_namespace(100_000);
            let owned = |path: &str| (fs::metadata(bundle.inside(path)).unwrap().uid(), fs::metadata(bundle.inside(path)).unwrap().gid());
            fs::write(bundle.inside("/etc/strange"), "").unwrap();
            std::os::unix::fs::chown(bundle.inside("/etc/strange"), Some(7), Some(8)).unwrap();
            assert_eq!(owned("/etc/strange"), (7, 8));
            let root = bundle.rootfs();
            let before = (fs::metadata(&root).unwrap().uid(), fs::metadata(root.join("payload")).unwrap().uid());
            Container::new(t, &mut bundle).run().expect(0);
            assert_eq!(fs::metadata(root.join("etc/strange")).unwrap().uid(), 7);
            assert_eq!((fs::metadata(&root).unwrap().uid(), fs::metadata(root.join("payload")).unwrap().uid()), before);
        },
    )
    .needs(USERS),
    sees(
        "offsets_of_clocks",
        "config-linux.md#offset-for-time-namespace",
        "the offsets are those of the time namespace (MUST be applied)",
        &["/linux/timeOffsets/*/secs", "/linux/timeOffsets/*/nanosecs"],
        shifted,
        |seen| {
            let seconds = |clock: &str| seen[clock].as_str().unwrap().parse::<i128>().unwrap() / 1_000_000_000;
            let up = fs::read_to_string("/proc/uptime").unwrap();
            let up: i128 = up.split('.').next().unwrap().parse().unwrap();
            assert!((seconds("monotonic") - up - 1_000_000).abs() < 120, "{}", seconds("monotonic"));
            assert!((seconds("boottime") - up - 2_000_000).abs() < 120, "{}", seconds("boottime"));
        },
    )
    .needs(TIME),
    refused(
        "offset_of_an_unknown_clock",
        "config.md#valid-values",
        "an invalid value MUST be an error",
        &["/linux/timeOffsets/*/secs"],
        |bundle| shifted(bundle).set("/linux/timeOffsets/frobnicate", json!({"secs": 1})),
    )
    .needs(TIME),
    refused(
        "offsets_without_a_namespace",
        "runtime.md#create",
        "what cannot be applied MUST be an error",
        &["/linux/timeOffsets/*/secs"],
        |bundle| bundle.set("/linux/timeOffsets", json!({"monotonic": {"secs": 1}})),
    )
    .needs(TIME),
];
