//! The same containers with systemd as the one who makes their cgroups. In a machine with systemd; elsewhere that it is refused.
use coracle_tests::*;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, thread, time::Duration};

cases![
    unit,
    places_and_names,
    limits_stay,
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

fn create(container: &Container<'_>) {
    container.create_with(container.create_call().global(&["--systemd-cgroup"]));
}

fn systemctl(words: &[&str]) -> String {
    let done = Command::new("systemctl").args(words).output().expect("systemctl");
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
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

fn read(dir: &Path, file: &str) -> String {
    fs::read_to_string(dir.join(file)).unwrap().trim().to_owned()
}

fn unit(t: &T) {
    t.needs(&[Need::Systemd]);
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = container(t, &mut bundle, "");
    create(&container);
    let unit = format!("{}-{}.scope", if t.ours() { "coracle" } else { "runc" }, container.id);
    let dir = directory(&container);
    assert_eq!(dir, Path::new("/sys/fs/cgroup/system.slice").join(&unit));
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
    t.needs(&[Need::Systemd]);
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = container(t, &mut bundle, "coracletest-pods-a.slice:engine:ID");
    create(&container);
    let dir = directory(&container);
    let expected = format!(
        "/sys/fs/cgroup/coracletest.slice/coracletest-pods.slice/coracletest-pods-a.slice/engine-{}.scope",
        container.id
    );
    assert_eq!(dir, Path::new(&expected));
    container.call("delete").arg("--force").ok();
    systemctl(&["stop", "coracletest.slice"]);
}

fn limits_stay(t: &T) {
    t.needs(&[Need::Systemd]);
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set(
        "/linux/resources",
        json!({
            "memory": {"limit": 64 << 20, "swap": 64 << 20, "reservation": 16 << 20},
            "cpu": {"shares": 512, "quota": 30_000, "period": 60_000, "cpus": "0", "mems": "0"},
            "pids": {"limit": 44},
            "unified": {"memory.high": "60000000", "memory.oom.group": "1"}
        }),
    );
    let container = container(t, &mut bundle, "system.slice:test:ID");
    create(&container);
    container.start();
    let dir = directory(&container);
    let files = [
        "memory.max",
        "memory.low",
        "memory.high",
        "memory.swap.max",
        "memory.oom.group",
        "cpu.max",
        "cpu.weight",
        "cpuset.cpus",
        "cpuset.mems",
        "pids.max",
    ];
    let all = || files.map(|file| if dir.join(file).exists() { read(&dir, file) } else { "-".to_owned() });
    let before = all();
    assert_eq!((before[0].as_str(), before[5].as_str()), ("67108864", "30000 60000"));
    assert_eq!(before[9], "44");
    systemctl(&["daemon-reload"]);
    assert_eq!(all(), before, "of {files:?}");
    container
        .call("update")
        .args(["--memory", "48m", "--memory-swap", "48m", "--pids-limit", "33", "--cpu-quota", "15000"])
        .ok();
    let after = all();
    assert_eq!((after[0].as_str(), after[5].as_str(), after[9].as_str()), ("50331648", "15000 60000", "33"));
    systemctl(&["daemon-reload"]);
    assert_eq!(all(), after, "of {files:?}");
    container.end();
}

fn devices_stay(t: &T) {
    t.needs(&[Need::Systemd]);
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set(
        "/linux/resources/devices",
        json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"}]),
    );
    let container = container(t, &mut bundle, "system.slice:test:ID");
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
    systemctl(&["daemon-reload"]);
    assert_eq!(tries(), (true, false, true), "after a daemon-reload");
    container.end();
}

fn ends_by_itself(t: &T) {
    t.needs(&[Need::Systemd]);
    let mut bundle = Bundle::new(t, &["exit", "5"]);
    let container = container(t, &mut bundle, "system.slice:test:ID");
    container.run_call().global(&["--systemd-cgroup"]).done().expect(5);
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
    t.needs(&[Need::Systemd]);
    let mut bundle = Bundle::new(t, &["eat-memory", "200"]);
    bundle.set("/linux/resources/memory", json!({"limit": 32 << 20, "swap": 32 << 20}));
    let container = container(t, &mut bundle, "system.slice:test:ID");
    container.run_call().global(&["--systemd-cgroup"]).done().expect(137);
    assert_eq!(show(&format!("test-{}.scope", container.id), "LoadState"), "not-found", "not even failed");
}

fn exists_already(t: &T) {
    t.needs(&[Need::Systemd]);
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = container(t, &mut bundle, "system.slice:test:ID");
    let unit = format!("test-{}.scope", container.id);
    let name = format!("--unit={unit}");
    let mut other =
        Command::new("systemd-run").args(["--scope", "--quiet", &name, "sleep", "60"]).spawn().unwrap();
    runtime::wait_until("the other's scope", || show(&unit, "ActiveState") == "active");
    let error = container.create_call().global(&["--systemd-cgroup"]).error();
    assert!(error["msg"].as_str().unwrap().contains(&unit), "{error}");
    assert_eq!(show(&unit, "ActiveState"), "active", "it is not ours to stop");
    other.kill().unwrap();
    other.wait().unwrap();
    thread::sleep(Duration::from_millis(100));
    systemctl(&["stop", &unit]);
}

fn properties(t: &T) {
    t.needs(&[Need::Systemd]);
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set("/annotations", json!({"org.systemd.property.TimeoutStopSec": "uint64 7"}));
    let good = container(t, &mut bundle, "system.slice:test:ID");
    create(&good);
    assert_eq!(show(&format!("test-{}.scope", good.id), "TimeoutStopUSec"), "7s");
    good.call("delete").arg("--force").ok();
    if t.ours() {
        let mut bundle = Bundle::new(t, &["ready"]);
        bundle.set("/annotations", json!({"org.systemd.property.NoSuchThing": "true"}));
        let container = container(t, &mut bundle, "system.slice:test:ID");
        let error = container.create_call().global(&["--systemd-cgroup"]).error();
        assert!(error["msg"].as_str().unwrap().contains("NoSuchThing"), "{error}");
    }
}

fn refused(t: &T) {
    if !t.ours() {
        t.skip("others differ");
    }
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = container(t, &mut bundle, "/not/a/unit");
    let error = container.create_call().global(&["--systemd-cgroup"]).error();
    assert_eq!(error["pointer"], "/linux/cgroupsPath", "{error}");
}
