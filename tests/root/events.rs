//! `events`: the document that engines read, kills for want of memory, and that it ends with the container.
use coracle_tests::cgroup::Mode;
use coracle_tests::*;
use std::time::Duration;

cases![
    stats_agree_with_the_kernel,
    stats_have_the_keys_of_runc,
    oom,
    ends,
    interval,
    throttled,
    refused,
    top
];

fn stats(container: &Container<'_>) -> Value {
    let line = container.call("events").arg("--stats").ok();
    assert_eq!(line.out.lines().count(), 1, "{line}");
    let event = line.json();
    assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!(container.id)));
    event["data"].clone()
}

fn stats_agree_with_the_kernel(t: &T) {
    t.needs(&[Need::Controller("memory"), Need::Controller("pids"), Need::Controller("cpu")]);
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set("/linux/resources/memory", json!({"limit": 96 << 20}));
    bundle.set("/linux/resources/pids", json!({"limit": 44}));
    let container = Container::new(t, &mut bundle);
    container.ready();
    let data = stats(&container);
    assert_eq!(data["pids"], json!({"current": 1, "limit": 44}));
    assert_eq!(data["memory"]["usage"]["limit"], 96 << 20);
    let number = |value: &Value| value.as_u64().unwrap_or_else(|| panic!("a number: {value}"));
    let near = |a: u64, b: u64| a.abs_diff(b) < (1 << 20);
    let now = if cgroup::mode() == Mode::Version2 { "memory.current" } else { "memory.usage_in_bytes" };
    let current: u64 = container.cgroup_file("memory", now).parse().unwrap();
    assert!(near(number(&data["memory"]["usage"]["usage"]), current), "{data}");
    let usage = number(&data["cpu"]["usage"]["total"]);
    let kernel = if cgroup::mode() == Mode::Version2 {
        let text = container.cgroup_file("cpu", "cpu.stat");
        text.lines().find_map(|line| line.strip_prefix("usage_usec ")).unwrap().parse::<u64>().unwrap() * 1000
    } else {
        container.cgroup_file("cpuacct", "cpuacct.usage").parse().unwrap()
    };
    assert!(usage > 0 && usage <= kernel, "{usage} of {kernel}");
    assert_eq!(data["memory"]["raw"].as_object().unwrap().len(), {
        let text = container.cgroup_file("memory", "memory.stat");
        text.lines().count()
    });
    container.end();
}

/// Every key, and for numbers that do not change the value, as runc prints it for the same container.
fn stats_have_the_keys_of_runc(t: &T) {
    t.needs(&[Need::Program("runc"), Need::Controller("memory"), Need::Controller("pids"), Need::Root]);
    if !t.ours() {
        t.skip("compares with runc");
    }
    let runc = t.with(runtime::Runtime::at(&need::program("runc").unwrap()));
    let mut all = Vec::new();
    for t in [t, &runc] {
        let mut bundle = Bundle::new(t, &["ready"]);
        bundle.set("/linux/resources/memory", json!({"limit": 96 << 20, "swap": 128 << 20}));
        bundle.set("/linux/resources/cpu", json!({"quota": 50_000, "period": 100_000}));
        bundle.set("/linux/resources/pids", json!({"limit": 44}));
        let container = Container::new(t, &mut bundle);
        container.ready();
        let mut flat = std::collections::BTreeMap::new();
        flatten(&stats(&container), String::new(), &mut flat);
        container.end();
        all.push(flat);
    }
    let [ours, theirs] = all.try_into().unwrap();
    for (key, value) in &theirs {
        // runc does not look at the version 2 hierarchy of a hybrid machine.
        if key == ".hugetlb" {
            continue;
        }
        // What this container does in its few milliseconds: of such numbers one may be zero, and is not printed then.
        let varies = ["usage", "max", "throttl", "cache", "percpu", "psi", "blkio", "raw"];
        if varies.iter().any(|word| key.contains(word)) && !key.ends_with("limit") && !key.contains("raw") {
            continue;
        }
        let mine = ours.get(key).unwrap_or_else(|| panic!("{key} is missing in {ours:#?}"));
        if !key.contains("raw") {
            assert_eq!(mine, value, "{key}");
        }
    }
}

fn flatten(value: &Value, at: String, flat: &mut std::collections::BTreeMap<String, Value>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            members.iter().for_each(|(key, value)| flatten(value, format!("{at}.{key}"), flat));
        }
        _ => drop(flat.insert(at, value.clone())),
    }
}

fn oom(t: &T) {
    t.needs(&[Need::Controller("memory")]);
    t.differs("crun", "has no such command");
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set("/linux/resources/memory", json!({"limit": 32 << 20, "swap": 32 << 20}));
    let container = Container::new(t, &mut bundle);
    container.ready();
    let events = container.call("events").args(["--interval", "1h"]).within(Duration::from_secs(20)).start();
    // It has to be there before the kill; nothing tells when.
    std::thread::sleep(Duration::from_millis(300));
    container.exec(&["/payload", "eat-memory", "200"]).expect(137);
    events.until("\"oom\"");
    container.end();
    let done = events.done().expect(0);
    for line in done.out.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        assert_eq!(event, json!({"type": "oom", "id": container.id}), "{done}");
    }
}

fn ends(t: &T) {
    t.needs(&[Need::Controller("memory")]);
    t.differs("crun", "has no such command");
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    let events = container.call("events").args(["--interval", "1h"]).within(Duration::from_secs(20)).start();
    std::thread::sleep(Duration::from_millis(200));
    container.kill("KILL");
    container.wait();
    if t.ours() {
        // With the process, not with the cgroup.
        assert_eq!(events.done().expect(0).out, "");
        container.delete();
    } else {
        container.delete();
        events.done().expect(0);
    }
}

fn interval(t: &T) {
    t.needs(&[Need::Controller("pids")]);
    t.differs("crun", "has no such command");
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    let events = container.call("events").arg("--interval=50ms").within(Duration::from_secs(20)).start();
    runtime::wait_until("three events", || events.printed().lines().count() >= 3);
    container.end();
    let done = events.done().expect(0);
    for line in done.out.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["type"], "stats");
        assert_eq!(event["data"]["pids"]["current"], 1);
    }
}

fn throttled(t: &T) {
    t.needs(&[Need::Controller("cpu")]);
    t.differs("crun", "has no such command");
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set("/linux/resources/cpu", json!({"quota": 20_000, "period": 100_000}));
    let container = Container::new(t, &mut bundle);
    container.ready();
    let number = |data: &Value, name: &str| data["cpu"]["throttling"][name].as_u64().unwrap_or(0);
    // On a busy machine it may get less than its quota for a while.
    let throttled = || {
        container.exec(&["/payload", "spin", "300"]).expect(0);
        let data = stats(&container);
        number(&data, "throttledPeriods") > 0 && number(&data, "throttledTime") > 0
    };
    runtime::wait_until("a throttled period", throttled);
    let data = stats(&container);
    assert!(number(&data, "periods") >= number(&data, "throttledPeriods"), "{data}");
    container.end();
}

fn refused(t: &T) {
    t.differs("crun", "has no such command");
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    let container = Container::new(t, &mut bundle);
    container.up();
    container.wait();
    let error = container.call("events").arg("--stats").error();
    assert!(error["msg"].as_str().unwrap().contains("is not running"), "{error}");
    if t.ours() {
        container.call("events").arg("--interval=0s").done().expect(1);
        container.call("events").arg("--interval=5").done().expect(1);
    }
    container.delete();
}

fn top(t: &T) {
    t.needs(&[Need::Controller("pids"), Need::Controller("memory"), Need::Controller("cpu")]);
    if !t.ours() {
        t.skip("others have no such command");
    }
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set("/linux/resources/memory", json!({"limit": 96 << 20}));
    bundle.set("/linux/resources/pids", json!({"limit": 44}));
    let container = Container::new(t, &mut bundle);
    container.ready();
    let spinning = container.exec_running(&["/payload", "spin", "2500"]);
    // Two readings, and between them something is used.
    let done = container.bare("top").args(["--interval", "500ms"]).ok();
    let lines: Vec<&str> = done.out.lines().collect();
    assert_eq!(lines.len(), 2, "{done}");
    let words: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!(words[0], container.id);
    let cpu: f64 = words[1].trim_end_matches('%').parse().unwrap();
    assert!(cpu > 5.0, "{done}");
    assert!(lines[1].contains("96.0 MiB") && lines[1].contains("2/44"), "{done}");
    assert!(!done.out.contains('\u{1b}'), "plain on a pipe");
    let rounds = container.call("top").args(["-n", "2", "--interval=50ms"]).ok();
    assert_eq!(rounds.out.lines().count(), 4, "{rounds}");
    spinning.done().expect(0);
    container.bare("top").args(["--interval=10ms", "missing"]).done().expect(1);
    container.end();
}
