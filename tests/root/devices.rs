//! `/dev`, `/proc`, `/sys`: nodes, links, masks, and the cgroup file systems.
use coracle_tests::*;
use std::fs;

cases![
    default_nodes,
    default_links,
    nodes_work,
    new_terminals,
    asked_nodes,
    node_is_there_already,
    no_terminal_no_console,
    masked_paths,
    masked_again,
    read_only_paths,
    proc_is_the_containers,
    sys_is_read_only,
    shared_memory_and_queues,
    cgroup_mount_version_1,
    cgroup_mount_version_2,
    dev_of_the_image,
];

const NODES: [(&str, i64, i64); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

fn default_nodes(t: &T) {
    let paths: Vec<String> = NODES.iter().map(|(name, ..)| format!("/dev/{name}")).collect();
    let mut words = vec!["report"];
    for path in &paths {
        words.extend(["--path", path.as_str()]);
    }
    let mut bundle = Bundle::new(t, &words);
    let container = Container::new(t, &mut bundle);
    let seen = container.run_call().launched(["--umask", "077"]).done().expect(0).json();
    for (name, major, minor) in NODES {
        let node = &seen["paths"][format!("/dev/{name}")];
        assert_eq!(node["type"], "char", "{name}");
        assert_eq!((node["major"].as_i64(), node["minor"].as_i64()), (Some(major), Some(minor)), "{name}");
        assert_eq!(node["mode"], 0o666, "{name}: the caller's umask does not matter");
        assert_eq!((node["uid"].as_i64(), node["gid"].as_i64()), (Some(0), Some(0)), "{name}");
    }
}

fn default_links(t: &T) {
    let names = ["fd", "stdin", "stdout", "stderr", "ptmx", "core"];
    let tries: Vec<Value> = names.iter().map(|name| json!(["readlink", format!("/dev/{name}")])).collect();
    let mut bundle = Bundle::new(t, &[]);
    let got = answers(t, &mut bundle, &tries);
    let targets = ["/proc/self/fd", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2", "pts/ptmx"];
    for (answer, target) in got.iter().zip(targets) {
        assert_eq!(
            answer["ok"].as_str().map(|link| link.trim_start_matches("/dev/")),
            Some(target),
            "{got:?}"
        );
    }
    assert!(got[5]["ok"] == "/proc/kcore" || is_error(&got[5], "ENOENT"), "{}", got[5]);
}

fn nodes_work(t: &T) {
    let mut bundle = Bundle::new(t, &[]);
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let got = answers(
        t,
        &mut bundle,
        &[
            json!(["write", "/dev/null", "x"]),
            json!(["read", "/dev/null"]),
            json!(["read-some", "/dev/zero"]),
            json!(["write", "/dev/full", "x"]),
            json!(["read-some", "/dev/urandom"]),
        ],
    );
    assert!(got[0].get("ok").is_some());
    assert_eq!(got[1]["ok"]["length"], 0);
    assert_eq!(got[2]["ok"], 64);
    assert!(is_error(&got[3], "ENOSPC"), "{}", got[3]);
    assert_eq!(got[4]["ok"], 64);
}

fn new_terminals(t: &T) {
    let mut bundle = Bundle::new(t, &[]);
    let tries =
        [json!(["list", "/dev/pts"]), json!(["open", "/dev/ptmx", "rw"]), json!(["stat", "/dev/pts/ptmx"])];
    let got = answers(t, &mut bundle, &tries);
    assert_eq!(got[0]["ok"], json!(["ptmx"]), "an instance of its own");
    assert!(got[1].get("ok").is_some(), "{}", got[1]);
    assert_eq!(got[2]["ok"]["mode"], 0o666);
}

fn asked_nodes(t: &T) {
    let mut bundle = Bundle::new(
        t,
        &[
            "report",
            "--path",
            "/dev/test-null",
            "--path",
            "/dev/test-block",
            "--path",
            "/dev/sub/pipe",
            "--path",
            "/etc/zero",
        ],
    );
    bundle.set(
        "/linux/devices",
        json!([
            {"path": "/dev/test-null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 5, "gid": 6},
            {"path": "/dev/test-block", "type": "b", "major": 7, "minor": 0, "fileMode": 0o600},
            {"path": "/dev/sub/pipe", "type": "p", "fileMode": 0o622, "uid": 1},
            {"path": "/etc/zero", "type": "u", "major": 1, "minor": 5},
        ]),
    );
    let seen = report(t, &mut bundle);
    let at = |path: &str| seen["paths"][path].clone();
    let null = at("/dev/test-null");
    assert_eq!(
        (null["type"].as_str(), null["major"].as_i64(), null["minor"].as_i64()),
        (Some("char"), Some(1), Some(3))
    );
    assert_eq!(
        (null["mode"].as_i64(), null["uid"].as_i64(), null["gid"].as_i64()),
        (Some(0o640), Some(5), Some(6))
    );
    assert_eq!(
        (at("/dev/test-block")["type"].as_str(), at("/dev/test-block")["major"].as_i64()),
        (Some("block"), Some(7))
    );
    assert_eq!(
        (at("/dev/sub/pipe")["type"].as_str(), at("/dev/sub/pipe")["mode"].as_i64()),
        (Some("fifo"), Some(0o622))
    );
    assert_eq!(
        (at("/etc/zero")["type"].as_str(), at("/etc/zero")["minor"].as_i64()),
        (Some("char"), Some(5))
    );
}

fn node_is_there_already(t: &T) {
    t.differs("runc", "an existing node of another kind is kept");
    t.differs("crun", "an existing node of another kind is kept");
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    fs::write(bundle.inside("/etc/node"), "a file").unwrap();
    bundle.set("/linux/devices", json!([{"path": "/etc/node", "type": "c", "major": 1, "minor": 3}]));
    let container = Container::new(t, &mut bundle);
    let error = container.run().expect(1).error();
    assert_eq!(error["pointer"], "/linux/devices/0", "{error}");
    container.gone();
}

fn no_terminal_no_console(t: &T) {
    let mut bundle = Bundle::new(t, &[]);
    let got = answers(t, &mut bundle, &[json!(["stat", "/dev/console"]), json!(["open", "/dev/tty", "rw"])]);
    assert!(is_error(&got[0], "ENOENT"), "{}", got[0]);
    assert!(is_error(&got[1], "ENXIO"), "no controlling terminal: {}", got[1]);
}

fn masked_paths(t: &T) {
    let mut bundle = Bundle::new(t, &[]);
    fs::create_dir(bundle.inside("/secret")).unwrap();
    fs::write(bundle.inside("/secret/key"), "key").unwrap();
    fs::write(bundle.inside("/etc/shadow"), "hash").unwrap();
    bundle.set(
        "/linux/maskedPaths",
        json!(["/secret", "/etc/shadow", "/not/there", "/proc/keys", "/proc/kcore"]),
    );
    let got = answers(
        t,
        &mut bundle,
        &[
            json!(["list", "/secret"]),
            json!(["mkdir", "/secret/new"]),
            json!(["read", "/etc/shadow"]),
            json!(["read", "/proc/keys"]),
            json!(["stat", "/etc/shadow"]),
            json!(["stat", "/not"]),
            json!(["umount", "/etc/shadow", 2]),
        ],
    );
    assert_eq!(got[0]["ok"], json!([]));
    assert!(is_error(&got[1], "EROFS"), "{}", got[1]);
    assert_eq!(got[2]["ok"]["length"], 0);
    assert_eq!(got[3]["ok"]["length"], 0);
    assert_eq!((got[4]["ok"]["type"].as_str(), got[4]["ok"]["minor"].as_i64()), (Some("char"), Some(3)));
    assert!(is_error(&got[5], "ENOENT"), "a path that is not there is not made");
    assert!(is_error(&got[6], "EPERM"), "{}", got[6]);
    assert_eq!(fs::read_to_string(bundle.inside("/etc/shadow")).unwrap(), "hash");
}

fn masked_again(t: &T) {
    let mut bundle = Bundle::new(t, &[]);
    fs::create_dir_all(bundle.inside("/a/b")).unwrap();
    bundle.set("/linux/maskedPaths", json!(["/a", "/a", "/a/b", "/proc/kcore", "/proc/kcore"]));
    let got = answers(t, &mut bundle, &[json!(["list", "/a"])]);
    assert_eq!(got[0]["ok"], json!([]), "twice the same, and one below another");
    t.differs("crun", "covered twice");
    t.differs("runc", "covered twice, up to 1.4");
    bundle.command(&["report"]);
    let seen = report(t, &mut bundle);
    let covers = seen["mounts"].as_array().unwrap().iter().filter(|mount| mount["target"] == "/a").count();
    assert_eq!(covers, 1, "{}", seen["mounts"]);
}

fn read_only_paths(t: &T) {
    let mut bundle = Bundle::new(t, &[]);
    fs::create_dir(bundle.inside("/data")).unwrap();
    fs::write(bundle.inside("/data/file"), "x").unwrap();
    fs::write(bundle.inside("/etc/file"), "x").unwrap();
    bundle.set("/linux/readonlyPaths", json!(["/data", "/etc/file", "/not/there", "/proc/sys"]));
    let got = answers(
        t,
        &mut bundle,
        &[
            json!(["open", "/data/file", "rw"]),
            json!(["mkdir", "/data/new"]),
            json!(["open", "/etc/file", "w"]),
            json!(["open", "/proc/sys/kernel/hostname", "w"]),
            json!(["read", "/data/file"]),
            json!(["open", "/etc/passwd", "rw"]),
        ],
    );
    for refused in &got[..4] {
        assert!(is_error(refused, "EROFS"), "{refused} of {got:?}");
    }
    assert_eq!(got[4]["ok"]["text"], "x");
    assert!(got[5].get("ok").is_some());
}

fn proc_is_the_containers(t: &T) {
    let mut bundle = Bundle::new(t, &["report"]);
    let seen = report(t, &mut bundle);
    let mount = mount_at(&seen["mounts"], "/proc");
    assert_eq!((mount["type"].as_str(), mount["root"].as_str()), (Some("proc"), Some("/")));
    assert_eq!(seen["pid"], 1);
    let mut bundle = Bundle::new(t, &[]);
    let got = answers(t, &mut bundle, &[json!(["list", "/proc"])]);
    let numbers =
        got[0]["ok"].as_array().unwrap().iter().filter(|name| name.as_str().unwrap().parse::<u32>().is_ok());
    assert_eq!(numbers.count(), 1, "one process");
}

fn sys_is_read_only(t: &T) {
    let mut bundle = Bundle::new(t, &[]);
    let got = answers(
        t,
        &mut bundle,
        &[json!(["list", "/sys/class/net"]), json!(["mkdir", "/sys/new"]), json!(["mounts"])],
    );
    assert_eq!(got[0]["ok"], json!(["lo"]), "the network namespace's own");
    assert!(is_error(&got[1], "EROFS") || is_error(&got[1], "EPERM"), "{}", got[1]);
    assert!(has_options(mount_at(&got[2]["ok"], "/sys"), &["ro", "nosuid", "nodev", "noexec"]));
}

fn shared_memory_and_queues(t: &T) {
    let mut bundle = Bundle::new(t, &["report", "--path", "/dev/shm"]);
    let seen = report(t, &mut bundle);
    assert_eq!(mount_at(&seen["mounts"], "/dev/mqueue")["type"], "mqueue");
    assert_eq!(mount_at(&seen["mounts"], "/dev/shm")["type"], "tmpfs");
    assert_eq!(seen["paths"]["/dev/shm"]["mode"], 0o1777);
    assert!(has_options(
        mount_at(&seen["mounts"], "/dev/shm"),
        &["size=65536k", "nosuid", "noexec", "nodev"]
    ));
}

fn cgroup_mount_version_1(t: &T) {
    t.needs(&[Need::CgroupV1("memory")]);
    let all = [&["nosuid", "noexec", "nodev", "relatime", "ro"][..], &["nosuid", "noexec", "nodev"][..]];
    for (options, users) in [(all[0], false), (all[1], false), (all[0], true)] {
        let mut bundle = Bundle::new(t, &[]);
        bundle.mount("cgroup", "cgroup", "/sys/fs/cgroup", options);
        if users {
            // Opened by init then, in its mount namespace.
            bundle.user_namespace(100_000);
        }
        let container = Container::new(t, bundle.command(&["ready"]));
        container.ready();
        let got = container.tries(&[
            json!(["list", "/sys/fs/cgroup"]),
            json!(["read", "/sys/fs/cgroup/memory/cgroup.procs"]),
            json!(["mounts"]),
            json!(["mkdir", "/sys/fs/cgroup/pids/sub"]),
        ]);
        let names = got[0]["ok"].as_array().unwrap();
        for one in cgroup::hierarchies() {
            let name = one.mount.file_name().unwrap().to_string_lossy().into_owned();
            // The version 2 hierarchy beside the others is no part of version 1.
            assert!(one.controllers.is_empty() || names.contains(&json!(name)), "{name} in {names:?}");
        }
        assert!(
            got[1]["ok"]["text"].as_str().unwrap().lines().any(|pid| pid == "1"),
            "the container's own: {}",
            got[1]
        );
        let read_only = options.contains(&"ro");
        assert_eq!(has_options(mount_at(&got[2]["ok"], "/sys/fs/cgroup/memory"), &["ro"]), read_only);
        assert_eq!(is_error(&got[3], "EROFS"), read_only, "{}", got[3]);
        container.end();
        container.gone();
    }
}

fn cgroup_mount_version_2(t: &T) {
    t.needs(&[Need::CgroupV2, Need::Root]);
    for (private, users) in [(true, false), (false, false), (true, true), (false, true)] {
        let mut bundle = Bundle::new(t, &[]);
        bundle.mount("cgroup", "cgroup", "/sys/fs/cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]);
        if users {
            bundle.user_namespace(100_000);
        }
        if private {
            bundle.add("/linux/namespaces", json!({"type": "cgroup"}));
        }
        let container = Container::new(t, bundle.command(&["ready"]));
        container.ready();
        let got = container.tries(&[json!(["read", "/sys/fs/cgroup/cgroup.procs"]), json!(["mounts"])]);
        // Without a cgroup namespace of its own it sees the host's hierarchy from its root, as with runc.
        assert_eq!(
            got[0]["ok"]["text"].as_str().unwrap().lines().any(|pid| pid == "1"),
            private,
            "{}",
            got[0]
        );
        let mount = mount_at(&got[1]["ok"], "/sys/fs/cgroup");
        assert_eq!(mount["type"], "cgroup2");
        assert!(has_options(mount, &["ro", "nosuid", "nodev", "noexec"]), "{mount}");
        container.end();
    }
    // What is no flag is for the file system to judge.
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    bundle.mount("cgroup", "cgroup", "/sys/fs/cgroup", &["ro", "no_such_option"]);
    bundle.add("/linux/namespaces", json!({"type": "cgroup"}));
    let error = Container::new(t, &mut bundle).create_call().done().error();
    assert!(error["pointer"].as_str().unwrap().starts_with("/mounts/"), "{error}");
    assert_eq!(error["errno"], "EINVAL", "{error}");
}

fn dev_of_the_image(t: &T) {
    // No mount on /dev: the nodes are made in the root file system itself.
    let mut bundle = Bundle::new(t, &["report", "--path", "/dev/null", "--path", "/dev/fd"]);
    let mounts = bundle.spec["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| !mount["destination"].as_str().unwrap().starts_with("/dev"));
    let seen = report(t, &mut bundle);
    assert_eq!(
        (seen["paths"]["/dev/null"]["type"].as_str(), seen["paths"]["/dev/null"]["minor"].as_i64()),
        (Some("char"), Some(3))
    );
    assert_eq!(seen["paths"]["/dev/fd"]["link"], "/proc/self/fd");
}
