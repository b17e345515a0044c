//! systemd as the one who makes the cgroups: that of the machine, or, where the suite runs as an ordinary user in a session of its own, that
//! of the user. What is the same whoever makes them is in `cgroups`, `update`, `events` and `places`, which run with both.
use coracle_tests::cgroup::{Driver, systemctl};
use coracle_tests::*;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, thread, time::Duration, time::Instant};

const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";

cases![
    unit,
    places_and_names,
    silent,
    limits_stay,
    limits_bite,
    unit_properties,
    devices_stay,
    ends_by_itself,
    out_of_memory,
    exists_already,
    properties,
    refused
];

/// A container that systemd makes a cgroup for, with a name of its own; `path` is its `cgroupsPath`, with `ID` for the id.
fn container<'a>(t: &'a T, bundle: &'a mut Bundle, path: &str) -> Container<'a> {
    let id = format!("{}-{}", t.name.replace("::", "-"), std::process::id());
    bundle.set("/linux/cgroupsPath", json!(path.replace("ID", &id)));
    bundle.write();
    let parent = format!("{}/unused", cgroup::parent());
    Container::as_written(t, bundle, id, parent)
}

/// The flag, unless every call of this run has it.
fn flag() -> &'static [&'static str] {
    match cgroup::driver() {
        Driver::Fs => &["--systemd-cgroup"],
        Driver::Systemd => &[],
    }
}

fn create(container: &Container<'_>) {
    container.create_with(container.create_call().global(flag()));
}

/// A slice that is there: of the machine, or of the user.
fn slice() -> &'static str {
    if rustix::process::geteuid().is_root() { "system.slice" } else { "app.slice" }
}

/// The value of a property of a unit.
fn show(unit: &str, property: &str) -> String {
    systemctl(&["show", "--value", "--property", property, unit])
}

/// The directory of the container's first process.
fn directory(container: &Container<'_>) -> PathBuf {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    let path = text.lines().find_map(|line| line.strip_prefix("0::/")).unwrap().to_owned();
    Path::new("/sys/fs/cgroup").join(path)
}

/// What the manager has: everything, or the user's part.
fn top() -> PathBuf {
    PathBuf::from(format!("/sys/fs/cgroup{}", cgroup::delegated().expect("a manager")))
}

fn read(dir: &Path, file: &str) -> String {
    fs::read_to_string(dir.join(file)).unwrap().trim().to_owned()
}

fn unit(t: &T) {
    t.needs(&[Need::Systemd, Need::SystemdDriver]);
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = container(t, &mut bundle, "");
    create(&container);
    let unit = format!("{}-{}.scope", if t.ours() { "coracle" } else { "runc" }, container.id);
    let dir = directory(&container);
    let default = if rustix::process::geteuid().is_root() { "system.slice" } else { "user.slice" };
    assert_eq!(dir, top().join(default).join(&unit));
    assert_eq!((show(&unit, "ActiveState").as_str(), show(&unit, "Delegate").as_str()), ("active", "yes"));
    container.start().until("ready");
    assert_eq!(container.status(), "running");
    container.exec(&["/payload", "exit", "3"]).expect(3);
    container.call("pause").ok();
    assert_eq!(container.status(), "paused");
    container.call("resume").ok();
    container.end();
    assert!(!dir.exists());
    assert_eq!(show(&unit, "LoadState"), "not-found");
}

fn places_and_names(t: &T) {
    t.needs(&[Need::Systemd, Need::SystemdDriver]);
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = container(t, &mut bundle, "coracletest-pods-a.slice:engine:ID");
    create(&container);
    let dir = directory(&container);
    let expected = format!(
        "coracletest.slice/coracletest-pods.slice/coracletest-pods-a.slice/engine-{}.scope",
        container.id
    );
    assert_eq!(dir, top().join(expected));
    container.call("delete").arg("--force").ok();
    systemctl(&["stop", "coracletest.slice"]);
}

/// Every file of a cgroup that something can be set in, with what is set.
fn set_files(dir: &Path) -> BTreeMap<String, String> {
    const ENDINGS: [&str; 13] = [
        ".max",
        ".high",
        ".low",
        ".min",
        ".burst",
        ".idle",
        ".weight",
        ".group",
        ".cpus",
        ".mems",
        ".partition",
        ".depth",
        ".descendants",
    ];
    let names = fs::read_dir(dir).unwrap().map(|one| one.unwrap().file_name().to_string_lossy().into_owned());
    let set = names.filter(|name| ENDINGS.iter().any(|ending| name.ends_with(ending)));
    set.map(|name| (name.clone(), read(dir, &name))).collect()
}

/// Returns when systemd has written what it writes after it has read its configuration again.
fn reload(container: &Container<'_>) {
    systemctl(&["daemon-reload"]);
    assert_eq!(show(&format!("test-{}.scope", container.id), "ActiveState"), "active");
}

fn limits_stay(t: &T) {
    t.needs(&[Need::Systemd, Need::SystemdDriver]);
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set(
        "/linux/resources",
        json!({
            "memory": {"limit": 64 << 20, "swap": 64 << 20, "reservation": 16 << 20},
            "cpu": {"shares": 512, "quota": 30_000, "period": 60_000, "burst": 10_000},
            "pids": {"limit": 44},
            "unified": {"memory.high": "60000000", "memory.min": "4096", "memory.oom.group": "1", "cgroup.max.depth": "7"}
        }),
    );
    // A user's manager is given neither as a rule.
    if cgroup::has("cpuset") {
        bundle.set("/linux/resources/cpu/cpus", json!("0")).set("/linux/resources/cpu/mems", json!("0"));
    }
    if let Some((major, minor)) = need::disk().filter(|_| cgroup::has("io")) {
        let rate = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
        let all = json!({"throttleReadBpsDevice": rate(1 << 20), "throttleWriteIOPSDevice": rate(77)});
        bundle.set("/linux/resources/blockIO", all);
    }
    if cgroup::has("hugetlb") {
        bundle.set("/linux/resources/hugepageLimits", json!([{"pageSize": "2MB", "limit": 4 << 20}]));
    }
    let container = container(t, &mut bundle, &format!("{}:test:ID", slice()));
    create(&container);
    container.start();
    let dir = directory(&container);
    let before = set_files(&dir);
    let of = |all: &BTreeMap<String, String>, name: &str| all[name].clone();
    assert_eq!(
        (of(&before, "memory.max").as_str(), of(&before, "cpu.max").as_str()),
        ("67108864", "30000 60000")
    );
    assert_eq!((of(&before, "cpu.max.burst").as_str(), of(&before, "pids.max").as_str()), ("10000", "44"));
    let huge = "hugetlb.2MB.rsvd.max";
    assert!(!cgroup::has("hugetlb") || of(&before, huge) == (4 << 20).to_string());
    reload(&container);
    assert_eq!(set_files(&dir), before);
    container
        .call("update")
        .args(["--memory", "48m", "--memory-swap", "48m", "--pids-limit", "33", "--cpu-quota", "15000"])
        .ok();
    let after = set_files(&dir);
    assert_eq!(
        (of(&after, "memory.max").as_str(), of(&after, "cpu.max").as_str()),
        ("50331648", "15000 60000")
    );
    assert_eq!(of(&after, "pids.max"), "33");
    reload(&container);
    assert_eq!(set_files(&dir), after);
    container.end();
}

/// The unit says what the files say, from the beginning and after an update.
fn unit_properties(t: &T) {
    t.needs(&[Need::Systemd, Need::SystemdDriver]);
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set(
        "/linux/resources",
        json!({
            "memory": {"limit": 64 << 20, "swap": 80 << 20, "reservation": 16 << 20},
            "cpu": {"shares": 1024, "quota": 30_000, "period": 60_000},
            "pids": {"limit": 44},
            "unified": {"memory.high": "61440000", "memory.min": "4096"}
        }),
    );
    let rated;
    let mut expected = vec![
        ("MemoryMax", "67108864"),
        ("MemoryLow", "16777216"),
        ("MemoryMin", "4096"),
        ("MemoryHigh", "61440000"),
        ("MemorySwapMax", "16777216"),
        ("CPUWeight", "100"),
        ("CPUQuotaPerSecUSec", "500ms"),
        ("CPUQuotaPeriodUSec", "60ms"),
        ("TasksMax", "44"),
    ];
    if cgroup::has("cpuset") {
        bundle.set("/linux/resources/cpu/cpus", json!("0")).set("/linux/resources/cpu/mems", json!("0"));
        expected.extend([("AllowedCPUs", "0"), ("AllowedMemoryNodes", "0")]);
    }
    if let Some((major, minor)) = need::disk().filter(|_| cgroup::has("io")) {
        let rate = |rate: u64| json!([{"major": major, "minor": minor, "rate": rate}]);
        let all = json!({
            "throttleReadBpsDevice": rate(1 << 20), "throttleWriteBpsDevice": rate(2 << 20),
            "throttleReadIOPSDevice": rate(66), "throttleWriteIOPSDevice": rate(77)
        });
        bundle.set("/linux/resources/blockIO", all);
        let names = ["IOReadBandwidthMax", "IOWriteBandwidthMax", "IOReadIOPSMax", "IOWriteIOPSMax"];
        let rates = ["1048576", "2097152", "66", "77"];
        rated = rates.map(|rate| format!("/dev/block/{major}:{minor} {rate}"));
        expected.extend(names.into_iter().zip(rated.iter().map(String::as_str)));
    }
    let container = container(t, &mut bundle, &format!("{}:test:ID", slice()));
    create(&container);
    let unit = format!("test-{}.scope", container.id);
    for (property, value) in &expected {
        assert_eq!(show(&unit, property), *value, "{property}");
    }
    container.start().until("ready");
    let dir = directory(&container);
    container
        .call("update")
        .args(["--memory", "48m", "--memory-swap", "48m", "--memory-reservation", "8m", "--pids-limit", "33"])
        .args(["--cpu-quota", "15000", "--cpu-share", "2"])
        .ok();
    for (property, value) in [
        ("MemoryMax", "50331648"),
        ("MemorySwapMax", "0"),
        ("MemoryLow", "8388608"),
        ("TasksMax", "33"),
        ("CPUQuotaPerSecUSec", "250ms"),
        ("CPUWeight", "1"),
    ] {
        assert_eq!(show(&unit, property), value, "{property} after an update");
    }
    assert_eq!(
        (read(&dir, "memory.max").as_str(), read(&dir, "cpu.max").as_str()),
        ("50331648", "15000 60000")
    );
    container.end();
}

/// The limits are in force, whoever's manager it is.
fn limits_bite(t: &T) {
    t.needs(&[Need::Systemd, Need::SystemdDriver, Need::Controller("pids"), Need::Controller("memory")]);
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set(
        "/linux/resources",
        json!({"memory": {"limit": 32 << 20, "swap": 32 << 20}, "pids": {"limit": 8}}),
    );
    let container = container(t, &mut bundle, &format!("{}:test:ID", slice()));
    create(&container);
    container.start().until("ready");
    let inside = directory(&container);
    assert!(inside.starts_with(top()), "{}", inside.display());
    let seen = container.exec(&["/payload", "fork-bomb", "50"]).expect(0).json();
    assert!(seen["forks"].as_i64().unwrap() < 8, "{seen}");
    assert_eq!(seen["errno"], 11);
    container.exec(&["/payload", "eat-memory", "200"]).expect(137);
    container.call("update").args(["--pids-limit", "30", "--memory", "128m", "--memory-swap", "128m"]).ok();
    assert!(container.exec(&["/payload", "fork-bomb", "20"]).expect(0).json()["forks"] == 20);
    container.exec(&["/payload", "eat-memory", "64"]).expect(0);
    container.end();
}

/// A bus that takes connections, and where nobody ever says anything: an error after the deadline, and nothing is left.
fn silent(t: &T) {
    t.needs(&[Need::CgroupV2]);
    if !t.ours() {
        t.skip("others wait for ever");
    }
    let path = if rustix::process::geteuid().is_root() {
        t.needs(&[Need::OwnMachine]);
        if Path::new(SYSTEM_BUS).exists() {
            t.skip("needs a machine without a bus");
        }
        fs::create_dir_all(Path::new(SYSTEM_BUS).parent().unwrap()).unwrap();
        PathBuf::from(SYSTEM_BUS)
    } else {
        t.dir().join("bus")
    };
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = container(t, &mut bundle, "coracletest.slice:test:ID");
    let begun = Instant::now();
    let call = container.create_call().global(flag());
    let error = call.env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={}", path.display())).error();
    let took = begun.elapsed();
    assert!(error["msg"].as_str().unwrap().contains("did not answer in time"), "{error}");
    assert!(took > Duration::from_secs(25) && took < Duration::from_secs(50), "{took:?}");
    container.gone();
    let words =
        fs::read_dir("/proc").unwrap().filter_map(|one| fs::read(one.unwrap().path().join("cmdline")).ok());
    let alive: Vec<String> = words.map(|words| String::from_utf8_lossy(&words).into_owned()).collect();
    assert!(!alive.iter().any(|words| words.contains(&container.id)), "no process of the call is left");
    drop(listener);
    fs::remove_file(&path).unwrap();
}

fn devices_stay(t: &T) {
    t.needs(&[Need::Systemd, Need::SystemdDriver, Need::Controller("devices")]);
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set(
        "/linux/resources/devices",
        json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"}]),
    );
    let container = container(t, &mut bundle, &format!("{}:test:ID", slice()));
    create(&container);
    container.start().until("ready");
    let tries = || {
        let got = container.tries(&[
            json!(["mknod", "/tmp/fuse", "c", 10, 229]),
            json!(["mknod", "/tmp/other", "c", 10, 237]),
            json!(["open", "/tmp/fuse", "rw"]),
            json!(["open", "/tmp/other", "rw"]),
            json!(["open", "/dev/null", "rw"]),
        ]);
        (!is_error(&got[2], "EPERM"), !is_error(&got[3], "EPERM"), got[4].get("ok").is_some())
    };
    assert_eq!(tries(), (true, false, true));
    reload(&container);
    assert_eq!(tries(), (true, false, true), "after a daemon-reload");
    let path = t.dir().join("resources.json");
    let other = json!({"devices": [{"allow": false, "access": "rwm"},
        {"allow": true, "type": "c", "major": 10, "minor": 237, "access": "rw"}]});
    fs::write(&path, other.to_string()).unwrap();
    container.call("update").arg("-r").arg(&path).ok();
    assert_eq!(tries(), (false, true, true), "after an update");
    reload(&container);
    assert_eq!(tries(), (false, true, true), "after an update and a daemon-reload");
    container.end();
}

fn ends_by_itself(t: &T) {
    t.needs(&[Need::Systemd, Need::SystemdDriver]);
    let mut bundle = Bundle::new(t, &["exit", "5"]);
    let container = container(t, &mut bundle, &format!("{}:test:ID", slice()));
    container.run_call().global(flag()).done().expect(5);
    assert_eq!(show(&format!("test-{}.scope", container.id), "LoadState"), "not-found");
    // The scope is gone as soon as nobody is in it: that is no error for whoever deletes the container later.
    create(&container);
    container.start();
    container.wait();
    runtime::wait_until("the scope to end", || {
        show(&format!("test-{}.scope", container.id), "ActiveState") != "active"
    });
    assert_eq!(container.status(), "stopped");
    container.delete();
}

fn out_of_memory(t: &T) {
    t.needs(&[Need::Systemd, Need::SystemdDriver]);
    let mut bundle = Bundle::new(t, &["eat-memory", "200"]);
    bundle.set("/linux/resources/memory", json!({"limit": 32 << 20, "swap": 32 << 20}));
    let container = container(t, &mut bundle, &format!("{}:test:ID", slice()));
    container.run_call().global(flag()).done().expect(137);
    assert_eq!(show(&format!("test-{}.scope", container.id), "LoadState"), "not-found", "not even failed");
}

fn exists_already(t: &T) {
    t.needs(&[Need::Systemd, Need::SystemdDriver]);
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = container(t, &mut bundle, &format!("{}:test:ID", slice()));
    let unit = format!("test-{}.scope", container.id);
    let name = format!("--unit={unit}");
    let mut other = Command::new("systemd-run");
    if !rustix::process::geteuid().is_root() {
        other.arg("--user");
    }
    let mut other = other.args(["--scope", "--quiet", &name, "sleep", "60"]).spawn().unwrap();
    runtime::wait_until("the other's scope", || show(&unit, "ActiveState") == "active");
    let error = container.create_call().global(flag()).error();
    assert!(error["msg"].as_str().unwrap().contains(&unit), "{error}");
    assert_eq!(show(&unit, "ActiveState"), "active", "it is not ours to stop");
    other.kill().unwrap();
    other.wait().unwrap();
    thread::sleep(Duration::from_millis(100));
    systemctl(&["stop", &unit]);
}

fn properties(t: &T) {
    t.needs(&[Need::Systemd, Need::SystemdDriver]);
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set("/annotations", json!({"org.systemd.property.TimeoutStopSec": "uint64 7"}));
    let good = container(t, &mut bundle, &format!("{}:test:ID", slice()));
    create(&good);
    assert_eq!(show(&format!("test-{}.scope", good.id), "TimeoutStopUSec"), "7s");
    good.call("delete").arg("--force").ok();
    if t.ours() {
        let mut bundle = Bundle::new(t, &["ready"]);
        bundle.set("/annotations", json!({"org.systemd.property.NoSuchThing": "true"}));
        let container = container(t, &mut bundle, &format!("{}:test:ID", slice()));
        let error = container.create_call().global(flag()).error();
        assert!(error["msg"].as_str().unwrap().contains("NoSuchThing"), "{error}");
    }
}

fn refused(t: &T) {
    if !t.ours() {
        t.skip("others differ");
    }
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = container(t, &mut bundle, "/not/a/unit");
    let error = container.create_call().global(flag()).error();
    assert_eq!(error["pointer"], "/linux/cgroupsPath", "{error}");
}
