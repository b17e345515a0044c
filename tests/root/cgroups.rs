//! Limits and devices: what is written, and that it bites.
use coracle_tests::cgroup::{Driver, Mode};
use coracle_tests::*;
use std::fs;

cases![
    membership,
    default_path,
    relative_path,
    memory_limit_kills,
    memory_files,
    pids_limit_refuses,
    pids_files,
    cpu_quota,
    cpu_quota_slows,
    cpu_shares,
    cpuset,
    device_rules,
    device_rules_order,
    device_default_is_deny,
    device_rules_for_exec,
    exec_is_limited,
    removed_with_sub_cgroups,
    foreign_cgroup,
    missing_controller,
    empty_objects,
    unified,
    kill_reaches_all,
    kill_reaches_those_left_behind,
    class_without_resctrl,
];

fn v2() -> bool {
    cgroup::mode() == Mode::Version2
}

fn membership(t: &T) {
    t.needs(&[Need::Controller("pids")]);
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.create();
    let pid = container.pid();
    // An engine reads this file as soon as create has returned.
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    for line in text.lines() {
        let path = line.splitn(3, ':').nth(2).unwrap();
        let beside = cgroup::mode() == Mode::Version1 && line.starts_with("0::");
        assert!(path.starts_with(&container.cgroup) || beside, "{line}");
    }
    container.start().until("ready");
    let dir = cgroup::directory("pids", &container.cgroup).unwrap();
    assert_eq!(cgroup::processes(&dir), [pid]);
    container.end();
    container.gone();
}

fn default_path(t: &T) {
    t.needs(&[Need::Controller("pids")]);
    let mut bundle = Bundle::new(t, &["ready"]);
    let mut container = Container::new(t, &mut bundle);
    let mut spec = container.bundle.spec.clone();
    spec["linux"].as_object_mut().unwrap().remove("cgroupsPath");
    container.bundle.write_text(&spec.to_string());
    container.id = format!("default-{}", std::process::id());
    container.ready();
    let pid = container.pid();
    let line = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    assert_ne!(line, own, "a cgroup per container");
    assert!(line.contains(&container.id), "it carries the id: {line}");
    container.end();
    container.gone();
}

fn relative_path(t: &T) {
    t.needs(&[Need::Controller("pids"), Need::FsDriver]);
    let name = format!("relative-{}", std::process::id());
    let mut bundle = Bundle::new(t, &["ready"]);
    let mut container = Container::new(t, &mut bundle);
    let mut spec = container.bundle.spec.clone();
    spec["linux"]["cgroupsPath"] = json!(format!("{name}/{}", container.id));
    container.bundle.write_text(&spec.to_string());
    container.cgroup = format!("{}/unused", cgroup::parent());
    container.ready();
    let line = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    assert!(line.contains(&format!("{name}/{}", container.id)), "{line}");
    container.end();
    assert_eq!(cgroup::named(&container.id), Vec::<String>::new());
    // The parent is ours to remove when the runtime leaves it.
    for dir in cgroup::named(&name) {
        let _ = fs::remove_dir(dir);
    }
}

fn memory_limit_kills(t: &T) {
    t.needs(&[Need::Controller("memory")]);
    let mut bundle = Bundle::new(t, &["eat-memory", "200"]);
    bundle.set("/linux/resources/memory", json!({"limit": 32 << 20, "swap": 32 << 20}));
    let container = Container::new(t, &mut bundle);
    let done = container.run().expect(137);
    assert_eq!(done.out, "", "it did not come to the end");
    container.gone();
    // The same work passes without the limit.
    let mut bundle = Bundle::new(t, &["eat-memory", "200"]);
    assert_eq!(Container::new(t, &mut bundle).run().expect(0).out, "ate 200 MiB\n");
}

fn memory_files(t: &T) {
    t.needs(&[Need::Controller("memory")]);
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set(
        "/linux/resources/memory",
        json!({"limit": 64 << 20, "reservation": 32 << 20, "swap": 96 << 20}),
    );
    let container = Container::new(t, &mut bundle);
    container.create();
    let file = |name: &str| container.cgroup_file("memory", name);
    if v2() {
        assert_eq!((file("memory.max"), file("memory.low")), ("67108864".into(), "33554432".into()));
        let dir = cgroup::directory("memory", &container.cgroup).unwrap();
        if dir.join("memory.swap.max").exists() {
            assert_eq!(file("memory.swap.max"), "33554432", "version 2 counts swap alone");
        }
    } else {
        assert_eq!(file("memory.limit_in_bytes"), "67108864");
        assert_eq!(file("memory.soft_limit_in_bytes"), "33554432");
        let dir = cgroup::directory("memory", &container.cgroup).unwrap();
        if dir.join("memory.memsw.limit_in_bytes").exists() {
            assert_eq!(file("memory.memsw.limit_in_bytes"), "100663296");
        }
    }
    container.call("delete").arg("--force").ok();
}

fn pids_limit_refuses(t: &T) {
    t.needs(&[Need::Controller("pids")]);
    let mut bundle = Bundle::new(t, &["fork-bomb", "50"]);
    bundle.set("/linux/resources/pids", json!({"limit": 10}));
    let container = Container::new(t, &mut bundle);
    let seen = container.run().expect(0).json();
    assert_eq!(seen, json!({"forks": 9, "errno": 11}), "the tenth is one too many, with itself");
}

fn pids_files(t: &T) {
    t.differs("crun", "no -1");
    t.needs(&[Need::Controller("pids")]);
    for (limit, expected) in [(json!(77), "77"), (json!(-1), "max")] {
        let mut bundle = Bundle::new(t, &["ready"]);
        bundle.set("/linux/resources/pids", json!({"limit": limit}));
        let container = Container::new(t, &mut bundle);
        container.create();
        assert_eq!(container.cgroup_file("pids", "pids.max"), expected);
        container.call("delete").arg("--force").ok();
    }
}

fn cpu_quota(t: &T) {
    t.needs(&[Need::Controller("cpu")]);
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set("/linux/resources/cpu", json!({"quota": 25_000, "period": 50_000}));
    let container = Container::new(t, &mut bundle);
    container.create();
    if v2() {
        assert_eq!(container.cgroup_file("cpu", "cpu.max"), "25000 50000");
    } else {
        assert_eq!(container.cgroup_file("cpu", "cpu.cfs_quota_us"), "25000");
        assert_eq!(container.cgroup_file("cpu", "cpu.cfs_period_us"), "50000");
    }
    container.call("delete").arg("--force").ok();
}

fn cpu_quota_slows(t: &T) {
    t.needs(&[Need::Controller("cpu")]);
    let mut bundle = Bundle::new(t, &["spin", "1500"]);
    bundle.set("/linux/resources/cpu", json!({"quota": 20_000, "period": 100_000}));
    let seen = Container::new(t, &mut bundle).run().expect(0).json();
    let number = |name: &str| seen[name].as_str().unwrap().parse::<f64>().unwrap();
    let share = number("processor") / number("wall");
    assert!(share < 0.4, "a fifth was allowed, it got {share}");
}

fn cpu_shares(t: &T) {
    t.needs(&[Need::Controller("cpu")]);
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set("/linux/resources/cpu", json!({"shares": 2048}));
    let container = Container::new(t, &mut bundle);
    container.create();
    if v2() {
        let weight: u32 = container.cgroup_file("cpu", "cpu.weight").parse().unwrap();
        // The older formula is linear, the newer one has 100 at 1024.
        let allowed = if t.ours() { 174..=174 } else { 79..=180 };
        assert!(allowed.contains(&weight), "{weight}");
    } else {
        assert_eq!(container.cgroup_file("cpu", "cpu.shares"), "2048");
    }
    container.call("delete").arg("--force").ok();
}

fn cpuset(t: &T) {
    t.needs(&[Need::Controller("cpuset")]);
    let mut bundle = Bundle::new(t, &["report"]);
    bundle.set("/linux/resources/cpu", json!({"cpus": "0", "mems": "0"}));
    let seen = report(t, &mut bundle);
    assert_eq!(seen["affinity"], json!([0]));
}

/// A block device number that this machine surely can open with the right to: a ram disk or loop device may be absent,
/// so "allowed" is any answer but EPERM.
fn allowed(answer: &Value) -> bool {
    !is_error(answer, "EPERM")
}

fn device_rules(t: &T) {
    t.needs(&[Need::Controller("devices")]);
    let mut bundle = Bundle::new(t, &[]);
    bundle.set(
        "/linux/resources/devices",
        json!([{"allow": false, "access": "rwm"},
               {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm"},
               {"allow": true, "type": "b", "major": 7, "minor": 5, "access": "r"}]),
    );
    let got = answers(
        t,
        &mut bundle,
        &[
            json!(["mknod", "/tmp/allowed", "c", 10, 229]),
            json!(["open", "/tmp/allowed", "rw"]),
            json!(["mknod", "/tmp/denied", "c", 1, 1]),
            json!(["open", "/tmp/denied", "r"]),
            json!(["mknod", "/tmp/disk", "b", 7, 5]),
            json!(["open", "/tmp/disk", "r"]),
            json!(["open", "/tmp/disk", "rw"]),
            json!(["open", "/dev/null", "rw"]),
            json!(["open", "/dev/zero", "rw"]),
            json!(["open", "/dev/full", "rw"]),
            json!(["open", "/dev/urandom", "r"]),
            json!(["open", "/dev/ptmx", "rw"]),
        ],
    );
    assert!(allowed(&got[1]), "10:229: {}", got[1]);
    assert!(!allowed(&got[3]), "1:1 is memory: {}", got[3]);
    assert!(allowed(&got[5]), "7:5 for reading: {}", got[5]);
    assert!(!allowed(&got[6]), "7:5 for writing: {}", got[6]);
    for answer in &got[7..] {
        assert!(answer.get("ok").is_some(), "the default nodes stay usable: {got:?}");
    }
}

fn device_rules_order(t: &T) {
    t.differs("crun", "a later rule that version 1 cannot express is lost");
    t.needs(&[Need::Controller("devices")]);
    let mut bundle = Bundle::new(t, &[]);
    bundle.set(
        "/linux/resources/devices",
        json!([{"allow": false, "access": "rwm"},
               {"allow": true, "type": "c", "major": 10, "access": "rwm"},
               {"allow": false, "type": "c", "major": 10, "minor": 237, "access": "rw"}]),
    );
    let tries = [
        json!(["mknod", "/tmp/one", "c", 10, 229]),
        json!(["open", "/tmp/one", "rw"]),
        json!(["mknod", "/tmp/other", "c", 10, 237]),
        json!(["open", "/tmp/other", "rw"]),
    ];
    if v2() {
        let got = answers(t, &mut bundle, &tries);
        assert!(allowed(&got[1]), "{}", got[1]);
        assert!(!allowed(&got[3]), "a later rule takes away: {}", got[3]);
        return;
    }
    // A list of exceptions cannot say that: refused, or enforced.
    bundle.command(&["do", &tries[2].to_string(), &tries[3].to_string()]);
    let container = Container::new(t, &mut bundle);
    let done = container.run();
    if done.code() == 0 {
        assert!(!allowed(&done.json()[1]), "{done}");
    } else {
        assert!(done.error()["msg"].to_string().contains("devic"), "{done}");
    }
}

fn device_default_is_deny(t: &T) {
    t.needs(&[Need::Controller("devices")]);
    t.differs("crun", "an absent list means that every device is allowed");
    for empty in [true, false] {
        let mut bundle = Bundle::new(t, &[]);
        if empty {
            bundle.set("/linux/resources/devices", json!([]));
        } else {
            bundle.remove("/linux/resources");
        }
        let got = answers(
            t,
            &mut bundle,
            &[
                json!(["mknod", "/tmp/mem", "c", 1, 1]),
                json!(["open", "/tmp/mem", "r"]),
                json!(["open", "/dev/null", "rw"]),
            ],
        );
        assert!(!allowed(&got[1]), "{}", got[1]);
        assert!(got[2].get("ok").is_some());
    }
}

fn device_rules_for_exec(t: &T) {
    t.needs(&[Need::Controller("devices")]);
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    let got = container.tries(&[json!(["mknod", "/tmp/mem", "c", 1, 1]), json!(["open", "/tmp/mem", "r"])]);
    assert!(!allowed(&got[1]), "{}", got[1]);
    container.end();
}

fn exec_is_limited(t: &T) {
    t.needs(&[Need::Controller("pids")]);
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set("/linux/resources/pids", json!({"limit": 10}));
    let container = Container::new(t, &mut bundle);
    container.ready();
    let seen = container.exec(&["/payload", "fork-bomb", "50"]).expect(0).json();
    // The container's process counts too, and one that helps it into the namespaces may not be reaped yet.
    assert!([7, 8].contains(&seen["forks"].as_i64().unwrap()), "{seen}");
    assert_eq!(seen["errno"], 11);
    container.end();
}

fn removed_with_sub_cgroups(t: &T) {
    t.needs(&[Need::Controller("pids")]);
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    let dir = cgroup::directory("pids", &container.cgroup).unwrap();
    fs::create_dir_all(dir.join("made/inside")).unwrap();
    container.kill("KILL").wait();
    container.delete();
    assert!(!dir.exists(), "sub-cgroups of the container go with it");
}

fn foreign_cgroup(t: &T) {
    t.needs(&[Need::Controller("pids"), Need::FsDriver]);
    t.differs("runc", "a populated cgroup is only warned about");
    t.differs("crun", "a populated cgroup is used, frozen and killed");
    // A cgroup with somebody in it is not ours to limit, freeze, kill or remove.
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    let container = Container::new(t, &mut bundle);
    let dir = cgroup::directory("pids", &container.cgroup).unwrap();
    fs::create_dir_all(&dir).unwrap();
    let mut other = std::process::Command::new(harness::payload()).arg("sleep").spawn().unwrap();
    fs::write(dir.join("cgroup.procs"), other.id().to_string()).unwrap();
    let done = container.run().expect(1);
    let error = done.error();
    assert_eq!(error["pointer"], "/linux/cgroupsPath", "{error}");
    assert!(other.try_wait().unwrap().is_none(), "the other process lives");
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(dir.exists(), "it is not removed either");
    fs::remove_dir(&dir).unwrap();
}

fn missing_controller(t: &T) {
    t.differs("runc", "a limit without its controller is ignored");
    t.differs("crun", "a limit without its controller is ignored");
    let limits = [
        ("memory", "memory", json!({"limit": 64 << 20})),
        ("pids", "pids", json!({"limit": 5})),
        ("hugetlb", "hugepageLimits", json!([{"pageSize": "2MB", "limit": 2 << 20}])),
        ("rdma", "rdma", json!({"mlx5_1": {"hcaHandles": 3}})),
        ("net_cls", "network", json!({"classID": 1_048_577})),
    ];
    // The version 2 hierarchy beside those of version 1 may have it.
    let beside = fs::read_to_string("/sys/fs/cgroup/unified/cgroup.controllers").unwrap_or_default();
    let is_missing =
        |name: &str| !cgroup::has(name) && !beside.split_whitespace().any(|beside| beside == name);
    let missing: Vec<_> = limits.iter().filter(|(controller, ..)| is_missing(controller)).collect();
    if missing.is_empty() {
        t.skip("needs a machine that lacks a controller");
    }
    for (_, key, value) in missing {
        let mut bundle = Bundle::new(t, &["exit", "0"]);
        bundle.set(&format!("/linux/resources/{key}"), value.clone());
        let container = Container::new(t, &mut bundle);
        let error = container.run().expect(1).error();
        let pointer = error["pointer"].as_str().unwrap_or("").to_owned();
        assert!(pointer.starts_with(&format!("/linux/resources/{key}")), "{error}");
        // Not the machine lacks it but the user: the error says so.
        if v2() && !rustix::process::geteuid().is_root() && *key != "network" {
            assert!(error["msg"].as_str().unwrap().contains("is not delegated to"), "{error}");
        }
        container.gone();
    }
}

fn empty_objects(t: &T) {
    t.differs("crun", "an empty network object needs net_cls");
    let mut bundle = Bundle::new(t, &["exit", "4"]);
    for key in ["memory", "cpu", "blockIO", "network", "unified", "rdma"] {
        bundle.set(&format!("/linux/resources/{key}"), json!({}));
    }
    bundle.set("/linux/resources/hugepageLimits", json!([]));
    Container::new(t, &mut bundle).run().expect(4);
}

fn unified(t: &T) {
    t.needs(&[Need::CgroupV2, Need::Controller("memory")]);
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set("/linux/resources/unified", json!({"memory.high": "50000000", "pids.max": "123"}));
    let container = Container::new(t, &mut bundle);
    container.create();
    let page = container.cgroup_file("memory", "memory.high").parse::<u64>().unwrap();
    assert!(page.abs_diff(50_000_000) < 65_536, "{page}");
    assert_eq!(container.cgroup_file("pids", "pids.max"), "123");
    container.call("delete").arg("--force").ok();
    for key in ["../escape", "no.such.file", "cgroup.procs/x"] {
        let mut bundle = Bundle::new(t, &["exit", "0"]);
        let mut map = serde_json::Map::new();
        map.insert(key.to_owned(), json!("1"));
        bundle.set("/linux/resources/unified", Value::Object(map));
        let container = Container::new(t, &mut bundle);
        container.run().expect(1).error();
        container.gone();
    }
}

fn kill_reaches_all(t: &T) {
    t.differs("crun", "crun kills the first process alone");
    t.differs("runc", "runc 1.1 kills the first process alone");
    // A user has no pid namespace but that of the own user namespace.
    t.needs(&[Need::Controller("pids"), Need::Root]);
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.without_namespace("pid");
    let container = Container::new(t, &mut bundle);
    container.ready();
    let time = std::time::Duration::from_secs(10);
    let exec = || container.call("exec").then(["/payload", "ready"]).within(time).start();
    let running: Vec<_> = (0..5).map(|_| exec()).collect();
    for one in &running {
        one.until("ready");
    }
    let dir = cgroup::directory("pids", &container.cgroup).unwrap();
    assert_eq!(cgroup::processes(&dir).len(), 6);
    container.kill("KILL");
    container.wait();
    for one in running {
        one.done().expect(137);
    }
    if cgroup::driver() == Driver::Fs {
        assert!(dir.exists(), "it is there until the container is deleted");
    }
    container.delete().gone();
}

/// Without a pid namespace of its own a container outlives its first process.
fn kill_reaches_those_left_behind(t: &T) {
    t.differs("crun", "the container is not running then");
    t.needs(&[Need::Controller("pids"), Need::Root]);
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.without_namespace("pid");
    let container = Container::new(t, &mut bundle);
    container.ready();
    let left = container.exec_running(&["/payload", "ready"]);
    left.until("ready");
    let first = rustix::process::Pid::from_raw(container.pid()).unwrap();
    rustix::process::kill_process(first, rustix::process::Signal::KILL).unwrap();
    container.wait();
    container.call("kill").then(["TERM"]).done().error();
    container.call("kill").then(["KILL"]).done().expect(0);
    left.done().expect(137);
    let error = container.call("kill").then(["KILL"]).done().error();
    assert_eq!(error["code"], "not-running", "nobody is left: {error}");
    container.delete().gone();
}

fn class_without_resctrl(t: &T) {
    t.differs("runc", "runc 1.1 goes on with a class name alone");
    t.differs("crun", "crun 1.8 goes on");
    if host::mounts().iter().any(|mount| mount.kind == "resctrl") {
        t.skip("resctrl is mounted here");
    }
    for wanted in
        [json!({}), json!({"closID": "gold"}), json!({"schemata": ["L3:0=f"], "enableMonitoring": true})]
    {
        let mut bundle = Bundle::new(t, &["exit", "0"]);
        bundle.set("/linux/intelRdt", wanted);
        let container = Container::new(t, &mut bundle);
        let error = container.run().expect(1).error();
        assert_eq!(
            (&error["pointer"], &error["code"]),
            (&json!("/linux/intelRdt"), &json!("resctrl-missing"))
        );
        container.gone();
    }
}
