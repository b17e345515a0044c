//! `events`: the document that engines read, kills for want of memory, and that it ends with the container.
use coracle_tests::cgroup::Mode;
use coracle_tests::*;
use std::time::Duration;

cases![
    stats_agree_with_the_kernel,
    stats_have_the_keys_of_runc,
    stats_field_by_field,
    stats_as_runc_reads_them,
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
        let mut flat = Flat::new();
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

/// The members of a document by their paths.
type Flat = std::collections::BTreeMap<String, Value>;

fn flatten(value: &Value, at: String, flat: &mut Flat) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            members.iter().for_each(|(key, value)| flatten(value, format!("{at}.{key}"), flat));
        }
        // The kernel's order of devices is not the same each time.
        Value::Array(entries) if entries.iter().all(Value::is_object) => {
            let mut entries = entries.clone();
            entries.sort_by_key(Value::to_string);
            flat.insert(at, Value::Array(entries));
        }
        _ => drop(flat.insert(at, value.clone())),
    }
}

/// A container that has used some of everything, and that stands still.
fn used<'a>(t: &'a T, bundle: &'a mut Bundle) -> Container<'a> {
    bundle.set(
        "/linux/resources",
        json!({
            "memory": {"limit": 96 << 20, "swap": 128 << 20}, "pids": {"limit": 44},
            "cpu": {"quota": 50_000, "period": 100_000}
        }),
    );
    if let Some((major, minor)) = need::disk() {
        bundle.set(
            "/linux/devices",
            json!([{"path": "/dev/disk", "type": "b", "major": major, "minor": minor}]),
        );
        let rule = json!({"allow": true, "type": "b", "major": major, "minor": minor, "access": "rw"});
        bundle.set("/linux/resources/devices", json!([{"allow": false, "access": "rwm"}, rule]));
    }
    let container = Container::new(t, bundle);
    container.ready();
    container.exec(&["/payload", "spin", "500"]).expect(0);
    container.exec(&["/payload", "eat-memory", "20"]).expect(0);
    container.tries(&[json!(["read-bytes", "/dev/disk", 1 << 20])]);
    container.call("pause").ok();
    container
}

/// Reads with `read` between two looks at what must not change meanwhile, until it has not: what was seen, and what was read.
fn unchanged<S: PartialEq, R>(look: impl Fn() -> S, read: impl Fn() -> R) -> (S, R) {
    for _ in 0..20 {
        // The kernel gathers what the processors have counted every two seconds.
        std::thread::sleep(Duration::from_millis(500));
        let (before, read, after) = (look(), read(), look());
        if before == after {
            return (after, read);
        }
    }
    panic!("the numbers of a paused container do not come to rest");
}

/// Each number of the document against the file that it is from.
fn stats_field_by_field(t: &T) {
    t.needs(&[
        Need::CgroupV2,
        Need::Controller("memory"),
        Need::Controller("pids"),
        Need::Controller("cpu"),
        Need::Kernel(6, 5),
    ]);
    t.differs("crun", "has no such command");
    t.differs("runc", "runc 1.1 has neither pressure nor peak");
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = used(t, &mut bundle);
    let dir = cgroup::directory("cpu", &container.cgroup).unwrap();
    let (files, data) = unchanged(|| kernel_numbers(&dir), || stats(&container));
    let mut flat = Flat::new();
    flatten(&data, String::new(), &mut flat);
    // Nobody's files: version 1 alone has cpusets in each cgroup, memory of the kernel and failures of a limit.
    for (key, value) in &flat {
        let of_version_1 = key.starts_with(".cpuset.")
            || key.ends_with(".failcnt")
            || key.starts_with(".memory.kernel")
            || [".intel_rdt", ".network_interfaces"].contains(&key.as_str());
        let expected = files.get(key).cloned().unwrap_or(json!(0));
        if of_version_1 && !files.contains_key(key) {
            assert!(value.is_null() || *value == json!(0) || *value == json!({}), "{key}: {value}");
        } else {
            // Of a controller that the user was not given there is nothing.
            let nothing = *value == json!({}) && [".blkio", ".hugetlb"].contains(&key.as_str());
            assert!(nothing || *value == expected, "{key}: {value}, not {expected}");
        }
    }
    for (key, value) in &files {
        assert!(flat.contains_key(key) || *value == json!(0), "{key}: {value} is not in the document");
    }
    let worth =
        [".cpu.throttling.periods", ".memory.usage.max", ".memory.swap.limit", ".memory.psi.some.total"];
    assert!(worth.iter().all(|key| flat.contains_key(*key)), "{flat:#?}");
    assert!(need::disk().is_none() || !data["blkio"]["ioServicedRecursive"].as_array().unwrap().is_empty());
    container.call("resume").ok();
    container.end();
}

/// What the document has to be, from the files of version 2.
fn kernel_numbers(dir: &std::path::Path) -> Flat {
    let read = |file: &str| std::fs::read_to_string(dir.join(file)).unwrap_or_default();
    let number = |text: &str| text.trim().parse::<u64>().unwrap_or(u64::MAX);
    let of = |file: &str, key: &str| {
        let text = read(file);
        number(text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')).unwrap_or("0"))
    };
    let mut all = Flat::new();
    let mut set = |key: &str, value: u64| drop(all.insert(key.to_owned(), json!(value)));
    for (key, name, unit) in [
        ("usage.total", "usage_usec", 1000),
        ("usage.kernel", "system_usec", 1000),
        ("usage.user", "user_usec", 1000),
        ("throttling.periods", "nr_periods", 1),
        ("throttling.throttledPeriods", "nr_throttled", 1),
        ("throttling.throttledTime", "throttled_usec", 1000),
    ] {
        set(&format!(".cpu.{key}"), of("cpu.stat", name) * unit);
    }
    let memory = ["memory.current", "memory.max", "memory.swap.current", "memory.swap.max"].map(read);
    let [current, limit, swap, swap_limit] = memory.map(|text| number(&text));
    set(".memory.usage.usage", current);
    set(".memory.usage.limit", limit);
    set(".memory.usage.max", number(&read("memory.peak")));
    set(".memory.swap.usage", current + swap);
    set(".memory.swap.limit", limit + swap_limit);
    set(".memory.cache", of("memory.stat", "file"));
    set(".pids.current", number(&read("pids.current")));
    set(".pids.limit", number(&read("pids.max")));
    for line in read("memory.stat").lines() {
        let (key, value) = line.split_once(' ').unwrap();
        set(&format!(".memory.raw.{key}"), number(value));
    }
    for file in std::fs::read_dir(dir).unwrap().flatten() {
        let name = file.file_name().to_string_lossy().into_owned();
        let Some(size) = name.strip_prefix("hugetlb.").and_then(|rest| rest.strip_suffix(".rsvd.current"))
        else {
            continue;
        };
        set(&format!(".hugetlb.{size}.usage"), number(&read(&name)));
        set(&format!(".hugetlb.{size}.failcnt"), of(&format!("hugetlb.{size}.events"), "max"));
    }
    for (part, file) in [("cpu", "cpu"), ("memory", "memory"), ("blkio", "io")] {
        for line in read(&format!("{file}.pressure")).lines() {
            let (kind, words) = line.split_once(' ').unwrap();
            for (key, value) in words.split(' ').filter_map(|word| word.split_once('=')) {
                let value =
                    if key == "total" { json!(number(value)) } else { json!(value.parse::<f64>().unwrap()) };
                all.insert(format!(".{part}.psi.{kind}.{key}"), value);
            }
        }
    }
    let (bytes, operations) = disk_numbers(&read("io.stat"));
    for (key, list) in [("ioServiceBytesRecursive", bytes), ("ioServicedRecursive", operations)] {
        if !list.is_empty() {
            flatten(&Value::Array(list), format!(".blkio.{key}"), &mut all);
        }
    }
    all
}

/// Entries of bytes and of operations, by device.
fn disk_numbers(text: &str) -> (Vec<Value>, Vec<Value>) {
    let (mut bytes, mut operations) = (Vec::new(), Vec::new());
    for line in text.lines() {
        let Some((major, minor)) = line.split(' ').next().and_then(|word| word.split_once(':')) else {
            continue;
        };
        for (key, value) in line.split(' ').filter_map(|word| word.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut bytes, "Read"),
                "wbytes" => (&mut bytes, "Write"),
                "rios" => (&mut operations, "Read"),
                "wios" => (&mut operations, "Write"),
                _ => continue,
            };
            let numbers = [("major", major), ("minor", minor), ("value", value)];
            let mut entry = json!({"op": op});
            // As runc prints it: what is zero is left out.
            for (name, text) in numbers.iter().filter(|(_, text)| *text != "0") {
                entry[*name] = json!(text.parse::<u64>().unwrap());
            }
            list.push(entry);
        }
    }
    (bytes, operations)
}

/// What runc and ours print of one and the same container may differ in, and why.
const EXPLAINED: [(&str, &str); 6] = [
    (".memory.usage.max", "runc 1.2 and later read memory.peak"),
    (".memory.swap.max", "runc 1.2 and later read memory.swap.peak, and swap alone has no part in it"),
    (".psi.", "runc 1.2 and later print pressure"),
    (
        ".hugetlb",
        "runc does not look at the version 2 hierarchy of a hybrid machine; and reserved pages count, from 1.2 on",
    ),
    (".memory.raw.", "one that runc 1.1 cannot read as a line of two words"),
    (".memory.usage.failcnt", "runc 1.1 has the number of kills there on version 2"),
];

/// The same container, read by runc: it is given a state file that names the container's process and cgroup. crun has no such command.
fn stats_as_runc_reads_them(t: &T) {
    t.needs(&[Need::Program("runc"), Need::Controller("memory"), Need::Controller("pids"), Need::Root]);
    if !t.ours() {
        t.skip("compares with runc");
    }
    let runc = t.with(runtime::Runtime::at(&need::program("runc").unwrap()));
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = used(t, &mut bundle);
    let mut theirs = Bundle::new(&runc, &["ready"]);
    let theirs = Container::new(&runc, &mut theirs);
    theirs.create();
    let text = std::fs::read_to_string(theirs.root.join(&theirs.id).join("state.json")).unwrap();
    let text = text.replace(&theirs.cgroup, &container.cgroup).replace(&theirs.id, &container.id);
    let mut state: Value = serde_json::from_str(&text).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", container.pid())).unwrap();
    let start = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap();
    state["init_process_pid"] = json!(container.pid());
    state["init_process_start"] = json!(start.parse::<u64>().unwrap());
    let root = runc.dir().join("foreign");
    std::fs::create_dir_all(root.join(&container.id)).unwrap();
    std::fs::write(root.join(&container.id).join("state.json"), state.to_string()).unwrap();
    let read = || {
        let call = runtime::Call::new(&runc.runtime, runc.dir(), &root, "events").arg("--stats");
        call.id(&container.id).ok().json()["data"].clone()
    };
    let (ours, theirs_read) = unchanged(|| stats(&container), read);
    let (mut mine, mut other) = (Flat::new(), Flat::new());
    flatten(&ours, String::new(), &mut mine);
    flatten(&theirs_read, String::new(), &mut other);
    let keys: std::collections::BTreeSet<&String> = mine.keys().chain(other.keys()).collect();
    let differ = keys.iter().filter(|key| mine.get(**key) != other.get(**key));
    let unexplained: Vec<String> = differ
        .filter(|key| !EXPLAINED.iter().any(|(part, _)| key.contains(part)))
        .map(|key| format!("{key}: {:?}, runc {:?}", mine.get(*key), other.get(*key)))
        .collect();
    assert!(unexplained.is_empty(), "{unexplained:#?}");
    assert!(keys.len() > 40, "{keys:?}");
    container.call("resume").ok();
    container.end();
    // runc says on a busy machine that it has to try again.
    theirs.call("delete").arg("--force").done().expect(0);
}

/// Until the command does nothing but wait for news (poll or ppoll, of either architecture): from then on it misses none.
fn until_it_waits(events: &runtime::Running) {
    let path = format!("/proc/{}/syscall", events.pid().as_raw_nonzero());
    runtime::wait_until("the command to wait", || {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        ["7", "271", "73"].contains(&text.split(' ').next().unwrap_or_default())
    });
}

fn oom(t: &T) {
    t.needs(&[Need::Controller("memory")]);
    t.differs("crun", "has no such command");
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set("/linux/resources/memory", json!({"limit": 32 << 20, "swap": 32 << 20}));
    let container = Container::new(t, &mut bundle);
    container.ready();
    let events = container.call("events").args(["--interval", "1h"]).within(Duration::from_secs(20)).start();
    until_it_waits(&events);
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
    until_it_waits(&events);
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
    // One may come between the end of the process and the news of it.
    for (index, line) in done.out.lines().enumerate() {
        let event: Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["type"], "stats");
        assert!(index >= 3 || event["data"]["pids"]["current"] == 1, "{event}");
    }
}

fn throttled(t: &T) {
    t.needs(&[Need::Controller("cpu")]);
    t.differs("crun", "has no such command");
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set("/linux/resources/cpu", json!({"quota": 20_000, "period": 100_000}));
    let container = Container::new(t, &mut bundle);
    container.ready();
    let throttled = || {
        let text = container.cgroup_file("cpu", "cpu.stat");
        text.lines().find_map(|line| line.strip_prefix("nr_throttled ")).unwrap().parse::<u64>().unwrap()
    };
    let spin = || drop(container.exec(&["/payload", "spin", "400"]).expect(0));
    // A machine that is busy with others may not give it what it may have.
    let grows = || {
        let before = throttled();
        (0..20).any(|_| {
            spin();
            throttled() > before
        })
    };
    assert!(grows(), "there is a quota");
    let data = stats(&container);
    let number = |name: &str| data["cpu"]["throttling"][name].as_u64().unwrap_or(0);
    assert!(number("throttledPeriods") > 0 && number("throttledTime") > 0, "{data}");
    assert!(number("periods") >= number("throttledPeriods"), "{data}");
    container.call("update").args(["--cpu-quota", "-1"]).ok();
    let before = throttled();
    spin();
    assert_eq!(throttled(), before, "there is none");
    container.call("update").args(["--cpu-quota", "20000"]).ok();
    assert!(grows(), "there is one again");
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
