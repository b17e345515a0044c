//! `update`: what is written on a container that runs, that it bites, and that a failure changes nothing.
use coracle_tests::cgroup::Mode;
use coracle_tests::*;
use std::fs;

cases![
    without_a_class,
    flags,
    memory_up_and_down,
    document,
    swap_is_a_sum,
    memory_in_use,
    unified,
    bites,
    all_or_nothing,
    devices,
    devices_of_a_paused_container,
    refused,
    created_and_stopped,
];

fn v2() -> bool {
    cgroup::mode() == Mode::Version2
}

/// The file of a limit in the mode of the machine.
fn file<'a>(v1: &'a str, v2_file: &'a str) -> &'a str {
    if v2() { v2_file } else { v1 }
}

fn flags(t: &T) {
    t.differs("crun", "no -1");
    t.needs(&[Need::Controller("pids"), Need::Controller("cpu"), Need::Controller("cpuset")]);
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    container
        .call("update")
        .args(["--pids-limit", "17", "--cpu-quota", "30000", "--cpu-period", "60000"])
        .args(["--cpuset-cpus", "0", "--cpu-share", "512"])
        .ok();
    assert_eq!(container.cgroup_file("pids", "pids.max"), "17");
    assert_eq!(container.cgroup_file("cpuset", "cpuset.cpus"), "0");
    if v2() {
        assert_eq!(container.cgroup_file("cpu", "cpu.max"), "30000 60000");
    } else {
        assert_eq!(container.cgroup_file("cpu", "cpu.cfs_quota_us"), "30000");
        assert_eq!(container.cgroup_file("cpu", "cpu.cfs_period_us"), "60000");
        assert_eq!(container.cgroup_file("cpu", "cpu.shares"), "512");
    }
    // What is not named stays.
    container.call("update").args(["--cpu-period", "50000"]).ok();
    if v2() {
        assert_eq!(container.cgroup_file("cpu", "cpu.max"), "30000 50000");
    } else {
        assert_eq!(container.cgroup_file("cpu", "cpu.cfs_quota_us"), "30000");
        assert_eq!(container.cgroup_file("cpu", "cpu.cfs_period_us"), "50000");
    }
    container.call("update").args(["--pids-limit", "-1", "--cpu-quota", "-1"]).ok();
    assert_eq!(container.cgroup_file("pids", "pids.max"), "max");
    container.end();
}

fn memory_up_and_down(t: &T) {
    t.differs("crun", "sizes have no unit");
    t.needs(&[Need::Controller("memory")]);
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set("/linux/resources/memory", json!({"limit": 64 << 20, "swap": 64 << 20}));
    let container = Container::new(t, &mut bundle);
    container.ready();
    // Both grow, then both shrink: each way needs another order on version 1.
    for (limit, sum) in [(256_u64, 512_u64), (48, 50)] {
        container
            .call("update")
            .args(["--memory", &format!("{limit}m"), "--memory-swap", &format!("{sum}m")])
            .ok();
        let read = |name| container.cgroup_file("memory", name);
        assert_eq!(read(file("memory.limit_in_bytes", "memory.max")), (limit << 20).to_string());
        let swap = file("memory.memsw.limit_in_bytes", "memory.swap.max");
        if cgroup::directory("memory", &container.cgroup).unwrap().join(swap).exists() {
            let expected = if v2() { sum - limit } else { sum };
            assert_eq!(read(swap), (expected << 20).to_string());
        }
    }
    container.end();
}

fn document(t: &T) {
    t.needs(&[Need::Controller("pids"), Need::Controller("memory")]);
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    let path = t.dir().join("resources.json");
    fs::write(&path, r#"{"pids": {"limit": 21}, "memory": {"limit": 100663296}}"#).unwrap();
    container.call("update").arg("--resources").arg(&path).ok();
    assert_eq!(container.cgroup_file("pids", "pids.max"), "21");
    assert_eq!(container.cgroup_file("memory", file("memory.limit_in_bytes", "memory.max")), "100663296");
    fs::write(&path, r#"{"pids": {"limit": 22}}"#).unwrap();
    container.call("update").args(["-r", "-"]).input(fs::File::open(&path).unwrap()).ok();
    assert_eq!(container.cgroup_file("pids", "pids.max"), "22");
    container.end();
}

fn swap_is_a_sum(t: &T) {
    t.differs("runc", "a memory limit alone changes the sum on version 2");
    t.differs("crun", "a memory limit alone changes the sum on version 2");
    t.needs(&[Need::CgroupV2, Need::Controller("memory")]);
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set("/linux/resources/memory", json!({"limit": 64 << 20, "swap": 128 << 20}));
    let container = Container::new(t, &mut bundle);
    container.ready();
    if !cgroup::directory("memory", &container.cgroup).unwrap().join("memory.swap.max").exists() {
        container.end();
        t.skip("needs a kernel that counts swap");
    }
    container.call("update").args(["--memory", "96m"]).ok();
    assert_eq!(container.cgroup_file("memory", "memory.swap.max"), (32 << 20).to_string());
    let error = container.call("update").args(["--memory", "256m"]).error();
    assert_eq!(error["pointer"], "/memory/swap", "{error}");
    assert_eq!(container.cgroup_file("memory", "memory.max"), (96 << 20).to_string());
    container.end();
}

/// A limit below what is in use is refused where that was asked for, and leaves the one before.
fn memory_in_use(t: &T) {
    t.differs("runc", "looks at it on version 2 alone");
    t.differs("crun", "looks at it on version 2 alone");
    t.needs(&[Need::Controller("memory")]);
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set("/linux/resources/memory", json!({"limit": 64 << 20}));
    let container = Container::new(t, &mut bundle);
    container.ready();
    let path = t.dir().join("resources.json");
    let update = |limit: u64| {
        let change = json!({"memory": {"limit": limit, "checkBeforeUpdate": true}});
        fs::write(&path, change.to_string()).unwrap();
        container.call("update").arg("-r").arg(&path)
    };
    let error = update(4096).error();
    assert_eq!(error["pointer"], "/memory/limit", "{error}");
    assert!(error["msg"].as_str().unwrap().contains("bytes are in use"), "{error}");
    let limit = || container.cgroup_file("memory", file("memory.limit_in_bytes", "memory.max"));
    assert_eq!(limit(), (64 << 20).to_string());
    update(32 << 20).ok();
    assert_eq!(limit(), (32 << 20).to_string());
    container.end();
}

fn unified(t: &T) {
    t.needs(&[Need::CgroupV2, Need::Controller("memory"), Need::Controller("pids")]);
    t.differs("runc", "runc 1.1 does not merge it");
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set("/linux/resources/unified", json!({"memory.high": "40960000", "memory.low": "4096"}));
    let container = Container::new(t, &mut bundle);
    container.ready();
    let path = t.dir().join("resources.json");
    fs::write(&path, r#"{"unified": {"memory.high": "81920000", "pids.max": "55"}}"#).unwrap();
    container.call("update").arg("-r").arg(&path).ok();
    let read = |name: &str| container.cgroup_file("memory", name);
    assert_eq!(
        ["memory.high", "memory.low", "pids.max"].map(read),
        ["81920000".to_owned(), "4096".to_owned(), "55".to_owned()]
    );
    container.end();
}

fn bites(t: &T) {
    t.differs("crun", "sizes have no unit");
    t.needs(&[Need::Controller("pids"), Need::Controller("memory")]);
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    container.call("update").args(["--pids-limit", "9", "--memory", "32m", "--memory-swap", "32m"]).ok();
    let seen = container.exec(&["/payload", "fork-bomb", "50"]).expect(0).json();
    assert!(seen["forks"].as_i64().unwrap() < 9, "{seen}");
    assert_eq!(seen["errno"], 11);
    container.exec(&["/payload", "eat-memory", "200"]).expect(137);
    container.end();
}

fn all_or_nothing(t: &T) {
    t.needs(&[Need::Controller("pids"), Need::Controller("cpuset"), Need::Controller("cpu")]);
    t.differs("crun", "what was written stays written");
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set("/linux/resources/pids", json!({"limit": 30}));
    bundle.set("/linux/resources/cpu", json!({"shares": 2048}));
    let container = Container::new(t, &mut bundle);
    container.ready();
    let shares = file("cpu.shares", "cpu.weight");
    let before = container.cgroup_file("cpu", shares);
    let path = t.dir().join("resources.json");
    // The last one is none that the machine has: the kernel refuses it after the others were written.
    fs::write(&path, r#"{"pids": {"limit": 7}, "cpu": {"shares": 100, "cpus": "4000"}}"#).unwrap();
    let error = container.call("update").arg("-r").arg(&path).error();
    if t.ours() {
        assert_eq!(error["pointer"], "/cpu/cpus", "{error}");
    }
    assert_eq!(container.cgroup_file("pids", "pids.max"), "30");
    assert_eq!(container.cgroup_file("cpu", shares), before);
    container.end();
}

const ALLOW: &str = r#"{"devices": [{"allow": false, "access": "rwm"},
    {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"}]}"#;
const DENY: &str =
    r#"{"devices": [{"allow": false, "access": "rwm"}, {"allow": false, "type": "c", "access": "r"}]}"#;
const NOTHING: &str = r#"{"devices": [{"allow": false, "access": "rwm"}]}"#;

/// Whether the container may open the device of fuse, by its number. It need not be there.
fn may_open(container: &Container<'_>) -> bool {
    let got = container.tries(&[json!(["open", "/tmp/fuse", "r"])]);
    !is_error(&got[0], "EPERM")
}

fn devices(t: &T) {
    t.needs(&[Need::Controller("devices")]);
    t.differs("runc", "update leaves the devices as they are");
    t.differs("crun", "the rules are added to those before");
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set("/linux/resources/devices", json!([{"allow": false, "access": "rwm"}]));
    let container = Container::new(t, &mut bundle);
    container.ready();
    container.tries(&[json!(["mknod", "/tmp/fuse", "c", 10, 229])]);
    let path = t.dir().join("resources.json");
    let update = |document: &str| {
        fs::write(&path, document).unwrap();
        container.call("update").arg("-r").arg(&path).ok();
    };
    let programs = || container.tries(&[json!(["open", "/dev/null", "rw"])]);
    assert!(!may_open(&container));
    update(ALLOW);
    assert!(may_open(&container), "allowed now");
    // Podman sends this with every update; it means "as it is".
    update(NOTHING);
    assert!(may_open(&container));
    update(DENY);
    assert!(!may_open(&container), "taken away again");
    assert!(programs()[0].get("ok").is_some(), "the default nodes stay usable");
    update(r#"{"devices": [{"allow": true, "access": "rwm"}, {"allow": true, "access": "rwm"}]}"#);
    assert!(may_open(&container), "everything");
    update(DENY);
    assert!(!may_open(&container), "from everything to a list");
    container.end();
}

fn devices_of_a_paused_container(t: &T) {
    t.needs(&[Need::Controller("devices"), Need::Controller("freezer"), Need::Controller("pids")]);
    t.differs("runc", "update leaves the devices as they are");
    t.differs("crun", "the rules are added to those before");
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    container.tries(&[json!(["mknod", "/tmp/fuse", "c", 10, 229])]);
    container.call("pause").ok();
    let path = t.dir().join("resources.json");
    fs::write(&path, ALLOW).unwrap();
    container.call("update").arg("-r").arg(&path).ok();
    assert_eq!(container.status(), "paused", "an update does not thaw");
    container.call("resume").ok();
    assert!(may_open(&container));
    container.end();
}

fn refused(t: &T) {
    t.needs(&[Need::Controller("pids")]);
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    // Where systemd makes the cgroup, it has a default of its own.
    let before = container.cgroup_file("pids", "pids.max");
    if t.ours() {
        let path = t.dir().join("resources.json");
        let error = |document: &str| {
            fs::write(&path, document).unwrap();
            container.call("update").arg("-r").arg(&path).error()
        };
        assert_eq!(error(r#"{"pids": {"limit": -5}}"#)["pointer"], "/pids/limit");
        assert_eq!(error(r#"{"rdma": {"mlx5_9": {"hcaHandles": 1}}}"#)["pointer"], "/rdma/mlx5_9");
        assert_eq!(error("{\"pids\": {\"limit\": \"5\"}}")["pointer"], "/pids/limit");
        let error = container.call("update").args(["--memory", "5m", "-r"]).arg(&path).error();
        assert!(error["msg"].as_str().unwrap().contains("exclude"), "{error}");
    }
    assert_eq!(container.cgroup_file("pids", "pids.max"), before);
    container.end();
}

fn created_and_stopped(t: &T) {
    t.needs(&[Need::Controller("pids")]);
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.create();
    container.call("update").args(["--pids-limit", "33"]).ok();
    assert_eq!(container.cgroup_file("pids", "pids.max"), "33");
    container.kill("KILL");
    container.wait();
    if t.ours() {
        let error = container.call("update").args(["--pids-limit", "3"]).error();
        assert!(error["msg"].as_str().unwrap().contains("not running"), "{error}");
    }
    container.delete();
}

fn without_a_class(t: &T) {
    t.differs("crun", "looks for the file system first");
    t.differs("runc", "looks for the processor first");
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    for flag in ["--l3-cache-schema=L3:0=f", "--mem-bw-schema=MB:0=20"] {
        let done = container.call("update").arg(flag).done().expect(1);
        assert!(done.message().contains("updating a non-existent Intel RDT configuration"), "{done}");
    }
    let done = container.call("update").arg("--l3-cache-schema=L2:0=f").done().expect(1);
    assert_eq!(done.error()["pointer"], "/l3CacheSchema", "{done}");
    container.end();
}
