//! Namespaces: new, inherited, joined; users, time, names, sysctls, the loopback interface.
use coracle_tests::*;
use std::fs;

cases![
    new_and_inherited,
    joined,
    joined_pid,
    joined_mount,
    joined_wrong_kind,
    joined_wrong_paths,
    doubled,
    users,
    users_other_than_root,
    users_joined,
    users_joined_with_a_network_of_the_host,
    users_own_their_namespaces,
    users_unmapped,
    users_without_root,
    time_offsets,
    time_offsets_without_namespace,
    names_of_the_host,
    domain_name,
    host_name_needs_a_namespace,
    sysctls,
    sysctls_refused,
    loopback,
    network_of_the_host,
    cgroup_namespace,
    root_without_pivot,
];

const KINDS: [&str; 5] = ["mnt", "pid", "net", "ipc", "uts"];

fn own(kind: &str) -> String {
    fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string()
}

fn of(pid: i32, kind: &str) -> String {
    fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().display().to_string()
}

fn new_and_inherited(t: &T) {
    let mut bundle = Bundle::new(t, &["report"]);
    bundle.add("/linux/namespaces", json!({"type": "cgroup"}));
    let seen = report(t, &mut bundle);
    for kind in KINDS.iter().chain(&["cgroup"]) {
        assert_ne!(seen["namespaces"][kind], json!(own(kind)), "{kind} is new");
    }
    assert_eq!(seen["namespaces"]["user"], json!(own("user")), "not listed: inherited");
    assert_eq!(seen["namespaces"]["time"], json!(own("time")));

    let mut bundle = Bundle::new(t, &["report"]);
    for kind in ["network", "ipc", "uts", "pid"] {
        bundle.without_namespace(kind);
    }
    bundle.remove("/hostname");
    // A new sysfs or mqueue needs namespaces of its own.
    bundle.spec["mounts"]
        .as_array_mut()
        .unwrap()
        .retain(|mount| mount["type"] != "sysfs" && mount["type"] != "mqueue");
    let seen = report(t, &mut bundle);
    for kind in ["net", "ipc", "uts", "pid", "cgroup", "user"] {
        assert_eq!(seen["namespaces"][kind], json!(own(kind)), "{kind} is inherited");
    }
    assert_ne!(seen["namespaces"]["mnt"], json!(own("mnt")));
}

fn joined(t: &T) {
    let mut first = Bundle::new(t, &["ready"]);
    first.set("/hostname", json!("first"));
    let first = Container::new(t, &mut first);
    first.ready();
    let pid = first.pid();
    let mut bundle = Bundle::new(t, &["report"]);
    for (kind, file) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts")] {
        bundle.without_namespace(kind);
        bundle.add("/linux/namespaces", json!({"type": kind, "path": format!("/proc/{pid}/ns/{file}")}));
    }
    bundle.remove("/hostname");
    let seen = report(t, &mut bundle);
    for kind in ["net", "ipc", "uts"] {
        assert_eq!(seen["namespaces"][kind], json!(of(pid, kind)), "{kind}");
    }
    for kind in ["mnt", "pid"] {
        assert_ne!(seen["namespaces"][kind], json!(of(pid, kind)), "{kind}");
    }
    assert_eq!(seen["hostname"], "first");
    first.end();
}

fn joined_pid(t: &T) {
    let mut first = Bundle::new(t, &["ready"]);
    let first = Container::new(t, &mut first);
    first.ready();
    let mut bundle = Bundle::new(t, &["report"]);
    bundle.without_namespace("pid");
    bundle.add("/linux/namespaces", json!({"type": "pid", "path": format!("/proc/{}/ns/pid", first.pid())}));
    let seen = report(t, &mut bundle);
    assert_eq!(seen["namespaces"]["pid"], json!(of(first.pid(), "pid")));
    assert!(seen["pid"].as_i64().unwrap() > 1, "the first process is the other container's");
    assert_eq!(first.status(), "running", "it is not touched when the second ends");
    first.end();
}

fn joined_mount(t: &T) {
    let mut first = Bundle::new(t, &["ready"]);
    let first = Container::new(t, &mut first);
    first.ready();
    let mut bundle = Bundle::new(t, &["report"]);
    bundle.without_namespace("mount");
    bundle
        .add("/linux/namespaces", json!({"type": "mount", "path": format!("/proc/{}/ns/mnt", first.pid())}));
    // The mounts are those of the namespace: what would make new ones is refused or has no place.
    for key in ["/mounts", "/linux/maskedPaths", "/linux/readonlyPaths"] {
        bundle.remove(key);
    }
    t.differs("runc", "runc changes the root of everybody who is there");
    t.differs("crun", "crun mounts among those of everybody who is there");
    let container = Container::new(t, &mut bundle);
    let error = container.run().expect(1).error();
    assert_eq!(error["code"], "mount-namespace-joined", "{error}");
    container.gone();
    drop(container);
    first.end();
}

fn joined_wrong_kind(t: &T) {
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    bundle.without_namespace("network");
    bundle.add("/linux/namespaces", json!({"type": "network", "path": "/proc/self/ns/uts"}));
    let container = Container::new(t, &mut bundle);
    let error = container.run().expect(1).error();
    if t.ours() {
        assert_eq!(error["pointer"], "/linux/namespaces/4/path", "{error}");
    }
    container.gone();
}

fn joined_wrong_paths(t: &T) {
    let plain = t.dir().join("plain");
    fs::write(&plain, "").unwrap();
    for path in ["/proc/self/ns/nothing", "/proc/4194305/ns/net", plain.to_str().unwrap(), "/"] {
        let mut bundle = Bundle::new(t, &["exit", "0"]);
        bundle.without_namespace("network");
        bundle.add("/linux/namespaces", json!({"type": "network", "path": path}));
        let container = Container::new(t, &mut bundle);
        container.run().expect(1).error();
        container.gone();
    }
}

fn doubled(t: &T) {
    t.differs("crun", "a namespace may be listed twice");
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    bundle.add("/linux/namespaces", json!({"type": "pid"}));
    let container = Container::new(t, &mut bundle);
    container.run().expect(1).error();
    container.gone();
}

fn users(t: &T) {
    t.needs(&[Need::UserNamespaces]);
    let mut bundle =
        Bundle::new(t, &["report", "--path", "/payload", "--path", "/dev/null", "--path", "/dev/shm"]);
    bundle.user_namespace(100_000);
    let seen = report(t, &mut bundle);
    assert_eq!(seen["uid"], json!({"real": 0, "effective": 0, "saved": 0, "fs": 0}));
    assert_eq!(seen["uidMap"], json!([["0", "100000", "65536"]]));
    assert_eq!(seen["gidMap"], json!([["0", "100000", "65536"]]));
    assert_eq!(seen["groups"], json!([]));
    assert_ne!(seen["namespaces"]["user"], json!(own("user")));
    assert_eq!(seen["paths"]["/payload"]["uid"], 0, "files of the mapped root");
    assert_eq!(seen["paths"]["/dev/shm"]["uid"], 0);
    let null = &seen["paths"]["/dev/null"];
    assert_eq!((null["major"].as_i64(), null["minor"].as_i64()), (Some(1), Some(3)));
    assert_eq!(seen["setgroups"], "allow");
}

fn users_other_than_root(t: &T) {
    t.needs(&[Need::UserNamespaces]);
    let mut bundle = Bundle::new(t, &["report"]);
    bundle
        .user_namespace(200_000)
        .set("/process/user", json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 6]}));
    let seen = report(t, &mut bundle);
    assert_eq!(seen["uid"], json!({"real": 1000, "effective": 1000, "saved": 1000, "fs": 1000}));
    assert_eq!(seen["gid"], json!({"real": 1001, "effective": 1001, "saved": 1001, "fs": 1001}));
    assert_eq!(seen["groups"], json!([5, 6]));
    assert_eq!(seen["caps"]["effective"], json!([]));
}

fn users_joined(t: &T) {
    t.differs("runc", "runc 1.1 wants the mappings again");
    t.needs(&[Need::UserNamespaces]);
    let mut first = Bundle::new(t, &["ready"]);
    first.user_namespace(300_000);
    let first = Container::new(t, &mut first);
    first.ready();
    let pid = first.pid();
    let mut bundle = Bundle::new(t, &["report"]);
    bundle.user_namespace(300_000);
    bundle
        .remove("/linux/uidMappings")
        .remove("/linux/gidMappings")
        .without_namespace("user")
        .without_namespace("network");
    bundle.add("/linux/namespaces", json!({"type": "user", "path": format!("/proc/{pid}/ns/user")}));
    bundle.add("/linux/namespaces", json!({"type": "network", "path": format!("/proc/{pid}/ns/net")}));
    let seen = report(t, &mut bundle);
    assert_eq!(seen["namespaces"]["user"], json!(of(pid, "user")));
    assert_eq!(seen["namespaces"]["net"], json!(of(pid, "net")));
    assert_ne!(seen["namespaces"]["pid"], json!(of(pid, "pid")), "a new one below the joined");
    assert_eq!(seen["pid"], 1);
    assert_eq!(seen["uid"]["real"], 0);
    first.end();
}

/// The user namespace has no rights in what the host owns; whoever joins both has them before.
fn users_joined_with_a_network_of_the_host(t: &T) {
    t.differs("runc", "runc 1.1 wants the mappings again");
    t.needs(&[Need::UserNamespaces]);
    let mut first = Bundle::new(t, &["ready"]);
    first.user_namespace(300_000);
    let first = Container::new(t, &mut first);
    first.ready();
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle
        .user_namespace(300_000)
        .remove("/linux/uidMappings")
        .remove("/linux/gidMappings")
        .without_namespace("user")
        .without_namespace("network");
    let path = |pid: i32, kind: &str| format!("/proc/{pid}/ns/{kind}");
    let here = i32::try_from(std::process::id()).unwrap();
    bundle.add("/linux/namespaces", json!({"type": "user", "path": path(first.pid(), "user")}));
    bundle.add("/linux/namespaces", json!({"type": "network", "path": path(here, "net")}));
    // A new sysfs shows a network, and needs rights in it.
    bundle.spec["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "sysfs");
    let container = Container::new(t, &mut bundle);
    container.ready();
    for (kind, expected) in [("user", of(first.pid(), "user")), ("net", own("net"))] {
        assert_eq!(of(container.pid(), kind), expected, "{kind}");
        let seen = container.exec(&["/payload", "report"]).expect(0).json();
        assert_eq!(seen["namespaces"][kind], json!(expected), "{kind}");
    }
    container.end();
    first.end();
}

fn users_own_their_namespaces(t: &T) {
    // Made after the user namespace, so its root may change them.
    t.needs(&[Need::UserNamespaces]);
    let mut bundle = Bundle::new(t, &[]);
    let all = json!(["CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_CHOWN"]);
    bundle
        .user_namespace(400_000)
        .set("/process/capabilities", json!({"bounding": all, "effective": all, "permitted": all}));
    let hostname = json!(["syscall", 170, 0, 0]);
    let got = answers(t, &mut bundle, &[hostname, json!(["mount", "none", "/tmp", "tmpfs", 0])]);
    for answer in &got {
        assert!(answer.get("ok").is_some(), "{answer}");
    }
}

fn users_without_root(t: &T) {
    t.differs("runc", "runc becomes root of the user namespace, which has none");
    t.differs("crun", "a further process becomes root of the user namespace, which has none");
    t.needs(&[Need::UserNamespaces]);
    let single = |bundle: &mut Bundle| {
        bundle.user_namespace(100_000);
        let map = json!([{"containerID": 1000, "hostID": 100_000, "size": 1}]);
        bundle.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
        bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
        // The terminals' group is not mapped.
        let options = bundle.spec["mounts"][2]["options"].as_array_mut().unwrap();
        options.retain(|option| option != "gid=5");
    };
    let mut bundle =
        Bundle::new(t, &["report", "--path", "/dev/shm", "--path", "/made/here", "--path", "/dev/null"]);
    single(&mut bundle);
    bundle.mount("tmpfs", "tmpfs", "/made/here", &["mode=700"]);
    let seen = report(t, &mut bundle);
    assert_eq!(seen["uid"], json!({"real": 1000, "effective": 1000, "saved": 1000, "fs": 1000}));
    assert_eq!(seen["gid"], json!({"real": 1000, "effective": 1000, "saved": 1000, "fs": 1000}));
    assert_eq!((&seen["groups"], &seen["uidMap"]), (&json!([]), &json!([["1000", "100000", "1"]])));
    assert_eq!(
        (&seen["paths"]["/dev/shm"]["uid"], &seen["paths"]["/made/here"]["uid"]),
        (&json!(1000), &json!(1000))
    );
    assert_eq!(seen["caps"]["effective"], json!([]));
    // A further process, and a container that joins the namespace.
    let mut first = Bundle::new(t, &["ready"]);
    single(&mut first);
    let first = Container::new(t, &mut first);
    first.ready();
    let done = first.exec(&["/payload", "report"]).expect(0);
    assert_eq!(done.json()["uid"]["effective"], 1000, "{done}");
    let mut other = Bundle::new(t, &["report"]);
    single(&mut other);
    other.remove("/linux/uidMappings").remove("/linux/gidMappings").without_namespace("user");
    let path = format!("/proc/{}/ns/user", first.pid());
    other.add("/linux/namespaces", json!({"type": "user", "path": path}));
    assert_eq!(report(t, &mut other)["uid"]["effective"], 1000);
    first.end();
}

fn users_unmapped(t: &T) {
    t.needs(&[Need::UserNamespaces]);
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    bundle.user_namespace(100_000).set("/process/user", json!({"uid": 70_000, "gid": 0}));
    let container = Container::new(t, &mut bundle);
    container.run().expect(1).error();
    container.gone();
}

fn time_offsets(t: &T) {
    t.needs(&[Need::File("/proc/self/ns/time")]);
    t.differs("runc", "the time namespace is younger than runc 1.1");
    t.differs("crun", "the offsets are younger than crun 1.8");
    let mut bundle = Bundle::new(t, &["report"]);
    bundle.add("/linux/namespaces", json!({"type": "time"}));
    bundle.set(
        "/linux/timeOffsets",
        json!({"monotonic": {"secs": 1_000_000, "nanosecs": 5}, "boottime": {"secs": 2_000_000, "nanosecs": 0}}),
    );
    let seen = report(t, &mut bundle);
    let seconds = |clock: &str| seen[clock].as_str().unwrap().parse::<i128>().unwrap() / 1_000_000_000;
    let up = fs::read_to_string("/proc/uptime").unwrap();
    let up: i128 = up.split('.').next().unwrap().parse().unwrap();
    assert!((seconds("monotonic") - up - 1_000_000).abs() < 120, "{}", seconds("monotonic"));
    assert!((seconds("boottime") - up - 2_000_000).abs() < 120, "{}", seconds("boottime"));
    assert_ne!(seen["namespaces"]["time"], json!(own("time")), "the process itself is in it");
    assert_eq!(seen["namespaces"]["time"], seen["namespaces"]["time_for_children"]);
    // A further process enters it too, and a container that joins it: both at once, with or without a process of their own number.
    for pid in ["new", "the host's"] {
        let mut bundle = Bundle::new(t, &["ready"]);
        bundle.add("/linux/namespaces", json!({"type": "time"}));
        bundle.set("/linux/timeOffsets", json!({"boottime": {"secs": 3_000_000}}));
        if pid != "new" {
            bundle.without_namespace("pid");
        }
        let container = Container::new(t, &mut bundle);
        container.ready();
        let mut other = Bundle::new(t, &["report"]);
        let path = format!("/proc/{}/ns/time", container.pid());
        other.add("/linux/namespaces", json!({"type": "time", "path": path}));
        for seen in [container.exec(&["/payload", "report"]).expect(0).json(), report(t, &mut other)] {
            assert_eq!(seen["namespaces"]["time"], json!(of(container.pid(), "time")));
            assert_eq!(seen["namespaces"]["time"], seen["namespaces"]["time_for_children"]);
            let boottime = seen["boottime"].as_str().unwrap().parse::<i128>().unwrap() / 1_000_000_000;
            assert!((boottime - up - 3_000_000).abs() < 120, "{pid}: {boottime}");
        }
        container.end();
    }
}

fn time_offsets_without_namespace(t: &T) {
    t.differs("runc", "the time namespace is younger than runc 1.1");
    t.differs("crun", "the offsets are younger than crun 1.8");
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    bundle.set("/linux/timeOffsets", json!({"monotonic": {"secs": 1}}));
    let container = Container::new(t, &mut bundle);
    let error = container.run().expect(1).error();
    if t.ours() {
        assert_eq!(error["pointer"], "/linux/timeOffsets", "{error}");
    }
    container.gone();
}

fn names_of_the_host(t: &T) {
    let before = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    for name in ["inside", "with.dots-and-more", &"x".repeat(64)] {
        let mut bundle = Bundle::new(t, &["report"]);
        bundle.set("/hostname", json!(name));
        assert_eq!(report(t, &mut bundle)["hostname"], name);
    }
    let mut bundle = Bundle::new(t, &["report"]);
    bundle.remove("/hostname");
    assert_eq!(report(t, &mut bundle)["hostname"], json!(before.trim()), "unset: a copy of the host's");
    assert_eq!(fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), before);
}

fn domain_name(t: &T) {
    t.differs("runc", "domainname is younger than runc 1.1");
    let mut bundle = Bundle::new(t, &["report"]);
    bundle.set("/domainname", json!("example.org"));
    assert_eq!(report(t, &mut bundle)["domainname"], "example.org");
}

fn host_name_needs_a_namespace(t: &T) {
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    bundle.without_namespace("uts");
    let container = Container::new(t, &mut bundle);
    let error = container.run().expect(1).error();
    if t.ours() {
        assert_eq!(error["pointer"], "/hostname", "{error}");
    }
    container.gone();
}

fn sysctls(t: &T) {
    let wanted = [
        ("net.ipv4.ip_forward", "1"),
        ("net.ipv4.ip_unprivileged_port_start", "0"),
        ("kernel.shmmni", "77"),
        ("kernel.msgmax", "4096"),
        ("fs.mqueue.msg_max", "33"),
        ("net/ipv4/conf/lo/forwarding", "0"),
    ];
    let wanted = wanted
        .iter()
        .filter(|(name, _)| std::path::Path::new("/proc/sys").join(name.replace('.', "/")).exists());
    let wanted: Vec<(&str, &str)> = wanted.copied().collect();
    assert!(wanted.len() >= 3, "the machine has some of them");
    let before: Vec<String> = wanted.iter().map(|(name, _)| host_value(name)).collect();
    let mut words = vec!["report"];
    for (name, _) in &wanted {
        words.extend(["--sysctl", name]);
    }
    let mut bundle = Bundle::new(t, &words);
    let map: serde_json::Map<String, Value> =
        wanted.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    bundle.set("/linux/sysctl", Value::Object(map));
    let seen = report(t, &mut bundle);
    for (name, value) in &wanted {
        assert_eq!(seen["sysctls"][*name], *value, "{name}");
    }
    let after: Vec<String> = wanted.iter().map(|(name, _)| host_value(name)).collect();
    assert_eq!(before, after, "the host's stay");
}

fn host_value(name: &str) -> String {
    fs::read_to_string(std::path::Path::new("/proc/sys").join(name.replace('.', "/"))).unwrap_or_default()
}

fn sysctls_refused(t: &T) {
    let core = host_value("kernel.core_pattern");
    for (name, value, only_ours) in [
        ("kernel.core_pattern", "|/x", false),
        ("vm.swappiness", "1", false),
        ("kernel.shmmni/../core_pattern", "|/x", true),
        ("net/../kernel/core_pattern", "|/x", true),
        ("net.ipv4/../../kernel/core_pattern", "|/x", true),
        ("", "1", true),
        ("net.ipv4.no_such_thing", "1", false),
    ] {
        if only_ours && !t.ours() {
            continue;
        }
        let mut bundle = Bundle::new(t, &["exit", "0"]);
        let mut map = serde_json::Map::new();
        map.insert(name.to_owned(), json!(value));
        bundle.set("/linux/sysctl", Value::Object(map));
        let container = Container::new(t, &mut bundle);
        let error = container.run().expect(1).error();
        if t.ours() {
            let expected = format!("/linux/sysctl/{}", name.replace('/', "~1"));
            assert_eq!(error["pointer"], json!(expected), "{error}");
        }
        container.gone();
    }
    for (name, kind) in [("net.ipv4.ip_forward", "network"), ("kernel.shmmni", "ipc")] {
        let mut bundle = Bundle::new(t, &["exit", "0"]);
        bundle.without_namespace(kind);
        bundle.spec["mounts"]
            .as_array_mut()
            .unwrap()
            .retain(|mount| mount["type"] != "sysfs" && mount["type"] != "mqueue");
        let mut map = serde_json::Map::new();
        map.insert(name.to_owned(), json!("1"));
        bundle.set("/linux/sysctl", Value::Object(map));
        let container = Container::new(t, &mut bundle);
        container.run().expect(1).error();
    }
    assert_eq!(host_value("kernel.core_pattern"), core);
}

fn loopback(t: &T) {
    let mut bundle = Bundle::new(t, &["report"]);
    let seen = report(t, &mut bundle);
    let interfaces = seen["interfaces"].as_object().unwrap();
    assert_eq!(interfaces.get("lo"), Some(&json!({"up": true})), "{interfaces:?}");
}

fn network_of_the_host(t: &T) {
    let mut bundle = Bundle::new(t, &["report"]);
    bundle.without_namespace("network");
    bundle.spec["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "sysfs");
    let seen = report(t, &mut bundle);
    let text = fs::read_to_string("/proc/net/dev").unwrap();
    let mut own: Vec<&str> =
        text.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim())).collect();
    own.sort_unstable();
    let mut inside: Vec<&String> = seen["interfaces"].as_object().unwrap().keys().collect();
    inside.sort_unstable();
    assert_eq!(inside, own);
}

fn cgroup_namespace(t: &T) {
    t.needs(&[Need::Controller("pids")]);
    let mut bundle = Bundle::new(t, &["report"]);
    let container = Container::new(t, &mut bundle);
    let path = container.cgroup.clone();
    let seen = container.run().expect(0).json();
    let lines = seen["cgroup"].to_string();
    assert!(lines.contains(&path), "without a namespace the path is visible: {lines}");
    drop(container);
    let mut bundle = Bundle::new(t, &["report"]);
    bundle.add("/linux/namespaces", json!({"type": "cgroup"}));
    let container = Container::new(t, &mut bundle);
    let path = container.cgroup.clone();
    let seen = container.run().expect(0).json();
    for line in seen["cgroup"].as_array().unwrap() {
        let line = line.as_str().unwrap();
        assert!(!line.contains(&path), "{line}");
        let is_ours = line.contains(":pids:") || line.contains(":memory:");
        assert!(!is_ours || line.ends_with(":/"), "{line}");
    }
}

/// For a root on a ramdisk, which pivot_root cannot leave: nothing of the host is in sight, no procfs of its own most of all.
fn root_without_pivot(t: &T) {
    let mut bundle = Bundle::new(t, &["report", "--path", "/payload", "--path", "/proc/self/exe"]);
    for readonly in [false, true] {
        bundle.set("/root/readonly", json!(readonly)).set("/process/cwd", json!("/somewhere"));
        let container = Container::new(t, &mut bundle);
        let seen = container.run_call().arg("--no-pivot").done().expect(0).json();
        assert_eq!(seen["cwd"], "/somewhere");
        let mounts = seen["mounts"].as_array().unwrap();
        let whole = |kind: &str, mount: &Value| mount["type"] == kind && mount["root"] == "/";
        let kind = |kind: &str| mounts.iter().filter(|mount| whole(kind, mount)).count();
        assert_eq!((kind("proc"), kind("sysfs")), (1, 1), "{mounts:?}");
    }
}
