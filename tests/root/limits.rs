//! Limits of what not every machine has: a disk that nobody else uses, huge pages, RDMA. What is written, that it bites, and that `update`
//! changes it. In a machine of the suite's own; elsewhere what can be had without one.
use coracle_tests::cgroup::Mode;
use coracle_tests::*;
use std::fs;
use std::path::Path;
use std::process::Command;

cases![
    disk_rates,
    disk_weight,
    huge_pages,
    rdma,
    cpu_burst_and_idle,
    memory_too_small_for_init,
    memory_of_version_1
];

fn update(container: &Container<'_>, change: &Value) {
    let path = container.bundle.dir.join("resources.json");
    fs::write(&path, change.to_string()).unwrap();
    container.call("update").arg("-r").arg(&path).ok();
}

/// Loads a part of the kernel.
fn module(name: &str) {
    assert!(Command::new("modprobe").arg(name).status().unwrap().success(), "{name}");
}

/// Milliseconds that the container needs to read so many MiB of the disk, from the disk itself.
fn read_disk(container: &Container<'_>, mebibytes: u64) -> u64 {
    let got = container.tries(&[json!(["read-bytes", "/dev/disk", mebibytes << 20])]);
    assert_eq!(got[0]["ok"]["length"], mebibytes << 20, "{got:?}");
    got[0]["ok"]["milliseconds"].as_str().unwrap().parse().unwrap()
}

fn disk_rates(t: &T) {
    t.needs(&[Need::Disk, Need::CgroupV2, Need::Controller("io")]);
    let (major, minor) = need::disk().unwrap();
    let rate = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set("/linux/devices", json!([{"path": "/dev/disk", "type": "b", "major": major, "minor": minor}]));
    bundle.add(
        "/linux/resources/devices",
        json!({"allow": true, "type": "b", "major": major, "minor": minor, "access": "rwm"}),
    );
    bundle.set(
        "/linux/resources/blockIO",
        json!({
            "throttleReadBpsDevice": rate(1 << 20), "throttleWriteBpsDevice": rate(2 << 20),
            "throttleReadIOPSDevice": rate(1000), "throttleWriteIOPSDevice": rate(2000)
        }),
    );
    let container = Container::new(t, &mut bundle);
    container.ready();
    assert_eq!(
        container.cgroup_file("io", "io.max"),
        format!("{major}:{minor} rbps=1048576 wbps=2097152 riops=1000 wiops=2000")
    );
    let slow = read_disk(&container, 3);
    assert!(slow >= 2000, "three MiB at one a second took {slow} ms");
    update(&container, &json!({"blockIO": {"throttleReadBpsDevice": rate(1 << 30)}}));
    assert_eq!(
        container.cgroup_file("io", "io.max"),
        format!("{major}:{minor} rbps=1073741824 wbps=2097152 riops=1000 wiops=2000")
    );
    let fast = read_disk(&container, 3);
    assert!(fast < slow / 2, "{fast} ms after {slow} ms");
    update(&container, &json!({"blockIO": {"throttleReadIOPSDevice": rate(2)}}));
    let few = read_disk(&container, 1);
    assert!(few > 2 * fast, "{few} ms at two operations a second, {fast} ms without");
    // No rate is none.
    update(
        &container,
        &json!({"blockIO": {
            "throttleReadBpsDevice": rate(0), "throttleWriteBpsDevice": rate(0),
            "throttleReadIOPSDevice": rate(0), "throttleWriteIOPSDevice": rate(0)
        }}),
    );
    assert_eq!(container.cgroup_file("io", "io.max"), "");
    container.end();
}

fn disk_weight(t: &T) {
    t.needs(&[Need::Disk, Need::CgroupV2, Need::Controller("io")]);
    t.differs("crun", "no weight of a device");
    let (major, minor) = need::disk().unwrap();
    let weighted = |weight: u64, file: &str| {
        let mut bundle = Bundle::new(t, &["ready"]);
        bundle.set("/linux/resources/blockIO", json!({"weight": weight}));
        let container = Container::new(t, &mut bundle);
        container.create();
        let seen = container.cgroup_file("io", file);
        container.call("delete").arg("--force").ok();
        seen
    };
    if !Path::new("/sys/module/bfq").exists() {
        // The range of 10 to 1000 in that of 1 to 10000.
        assert_eq!(weighted(1000, "io.weight"), "default 10000");
        assert_eq!(weighted(10, "io.weight"), "default 1");
        module("bfq");
    }
    assert_eq!(weighted(300, "io.bfq.weight"), "default 300");
    // A scheduler that knows weights of devices.
    let scheduler = "/sys/block/vdb/queue/scheduler";
    fs::write(scheduler, "bfq").unwrap();
    let device = |weight: u64| json!([{"major": major, "minor": minor, "weight": weight}]);
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set("/linux/resources/blockIO", json!({"weight": 200, "weightDevice": device(400)}));
    let container = Container::new(t, &mut bundle);
    container.ready();
    let seen = || container.cgroup_file("io", "io.bfq.weight");
    assert_eq!(seen(), format!("default 200\n{major}:{minor} 400"));
    update(&container, &json!({"blockIO": {"weight": 250, "weightDevice": device(500)}}));
    assert_eq!(seen(), format!("default 250\n{major}:{minor} 500"));
    container.end();
    fs::write(scheduler, "none").unwrap();
}

/// Whether the container can map so many MiB of huge pages.
fn may_map(container: &Container<'_>, mebibytes: i64) -> bool {
    // mmap: PROT_READ | PROT_WRITE; MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB.
    let got = container.tries(&[json!(["syscall", 9, 0, mebibytes << 20, 3, 0x4_0022, -1, 0])]);
    assert!(got[0].get("ok").is_some() || is_error(&got[0], "ENOMEM"), "{got:?}");
    got[0].get("ok").is_some()
}

fn huge_pages(t: &T) {
    t.needs(&[Need::OwnMachine, Need::CgroupV2, Need::Controller("hugetlb")]);
    const PAGES: &str = "/proc/sys/vm/nr_hugepages";
    fs::write(PAGES, "8").unwrap();
    assert_eq!(fs::read_to_string(PAGES).unwrap().trim(), "8", "the machine has room for them");
    let limit = |mebibytes: u64| json!([{"pageSize": "2MB", "limit": mebibytes << 20}]);
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set("/linux/resources/hugepageLimits", limit(4));
    let container = Container::new(t, &mut bundle);
    container.ready();
    let files = || {
        let read = |name: &str| container.cgroup_file("hugetlb", name);
        (read("hugetlb.2MB.max"), read("hugetlb.2MB.rsvd.max"))
    };
    assert_eq!(files(), ((4 << 20).to_string(), (4 << 20).to_string()));
    assert!(may_map(&container, 4) && !may_map(&container, 6));
    update(&container, &json!({"hugepageLimits": limit(8)}));
    assert_eq!(files(), ((8 << 20).to_string(), (8 << 20).to_string()));
    assert!(may_map(&container, 8) && !may_map(&container, 10));
    container.end();
    fs::write(PAGES, "0").unwrap();
}

fn rdma(t: &T) {
    t.needs(&[Need::OwnMachine, Need::Program("rdma"), Need::CgroupV2, Need::Controller("rdma")]);
    if !Path::new("/sys/class/infiniband/rxe-test").exists() {
        module("rdma_rxe");
        for line in [
            "ip link add rdma-test type dummy",
            "ip link set rdma-test up",
            "rdma link add rxe-test type rxe netdev rdma-test",
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            assert!(Command::new(words[0]).args(&words[1..]).status().unwrap().success(), "{line}");
        }
    }
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set("/linux/resources/rdma", json!({"rxe-test": {"hcaHandles": 3, "hcaObjects": 10}}));
    let container = Container::new(t, &mut bundle);
    container.ready();
    let seen = || container.cgroup_file("rdma", "rdma.max");
    assert_eq!(seen(), "rxe-test hca_handle=3 hca_object=10");
    update(&container, &json!({"rdma": {"rxe-test": {"hcaHandles": 5}}}));
    assert_eq!(seen(), "rxe-test hca_handle=5 hca_object=10");
    container.end();
}

fn cpu_burst_and_idle(t: &T) {
    t.needs(&[Need::Controller("cpu"), Need::Kernel(5, 15)]);
    t.differs("runc", "runc 1.1 knows no idle of version 1");
    t.differs("crun", "no idle of version 1");
    let burst = if cgroup::mode() == Mode::Version2 { "cpu.max.burst" } else { "cpu.cfs_burst_us" };
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set("/linux/resources/cpu", json!({"quota": 50_000, "period": 100_000, "burst": 20_000}));
    let container = Container::new(t, &mut bundle);
    container.ready();
    let read = |name: &str| container.cgroup_file("cpu", name);
    assert_eq!((read(burst).as_str(), read("cpu.idle").as_str()), ("20000", "0"));
    container.call("update").args(["--cpu-burst", "30000", "--cpu-idle", "1"]).ok();
    assert_eq!((read(burst).as_str(), read("cpu.idle").as_str()), ("30000", "1"));
    container.end();
}

/// A limit that the runtime's own init does not fit in: the error says what killed it.
fn memory_too_small_for_init(t: &T) {
    t.needs(&[Need::Controller("memory")]);
    t.differs("runc", "in other words");
    t.differs("crun", "in other words");
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    bundle.set("/linux/resources/memory", json!({"limit": 4096, "swap": 4096}));
    let container = Container::new(t, &mut bundle);
    for call in [container.create_call(), container.run_call()] {
        let error = call.error();
        assert!(error["msg"].as_str().unwrap().contains("OOM-killed"), "{error}");
        assert_eq!(
            (error["pointer"].as_str(), error["code"].as_str()),
            (Some("/linux/resources/memory/limit"), Some("init-oom-killed"))
        );
        container.gone();
    }
}

/// What version 2 has no files for.
fn memory_of_version_1(t: &T) {
    t.needs(&[Need::CgroupV1("memory")]);
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set(
        "/linux/resources/memory",
        json!({"limit": 64 << 20, "swappiness": 10, "disableOOMKiller": true, "kernelTCP": 8 << 20, "useHierarchy": true}),
    );
    let container = Container::new(t, &mut bundle);
    container.create();
    let read = |name: &str| container.cgroup_file("memory", name);
    assert_eq!(read("memory.swappiness"), "10");
    assert_eq!(read("memory.oom_control").lines().next(), Some("oom_kill_disable 1"));
    assert_eq!(read("memory.kmem.tcp.limit_in_bytes"), (8 << 20).to_string());
    assert_eq!(read("memory.use_hierarchy"), "1");
    container.call("delete").arg("--force").ok();
}
