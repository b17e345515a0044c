//! Broken bundles: each is wrong in another way, gets one clear line that names the place, and leaves nothing.
use coracle_tests::*;
use std::fs;

cases![
    values,
    texts,
    files,
    several_at_once,
    check_names_them_all,
    failures_while_it_is_made,
    every_step_undone,
];

/// One fault: the pointer that is set, the value, the pointer that the error must name (a prefix of it).
struct Fault {
    at: &'static str,
    value: Value,
    named: &'static str,
    /// runc and crun let it pass.
    only_ours: bool,
}

fn fault(at: &'static str, value: Value, named: &'static str) -> Fault {
    Fault { at, value, named, only_ours: false }
}

fn ours(at: &'static str, value: Value, named: &'static str) -> Fault {
    Fault { at, value, named, only_ours: true }
}

fn faults() -> Vec<Fault> {
    let mount = |mount: Value| json!([{"destination": "/proc", "type": "proc", "source": "proc"}, mount]);
    vec![
        ours("/ociVersion", json!("2.0.0"), "/ociVersion"),
        ours("/ociVersion", json!("one"), "/ociVersion"),
        ours("/ociVersion", Value::Null, ""),
        fault("/ociVersion", json!(1), "/ociVersion"),
        fault("/root", Value::Null, "/root"),
        fault("/root/path", json!("nowhere"), "/root/path"),
        fault("/root/path", json!("config.json"), "/root/path"),
        fault("/root/path", json!(7), "/root/path"),
        ours("/root/path", json!(""), "/root/path"),
        fault("/process", Value::Null, "/process"),
        fault("/process", json!([]), "/process"),
        fault("/process/args", json!([]), "/process/args"),
        fault("/process/args", json!("sh"), "/process/args"),
        fault("/process/args", json!([1]), "/process/args/0"),
        ours("/process/args", json!(["a\0b"]), "/process/args/0"),
        fault("/process/cwd", json!("relative"), "/process/cwd"),
        fault("/process/cwd", json!(""), "/process/cwd"),
        ours("/process/cwd", json!("/etc/passwd"), "/process/cwd"),
        fault("/process/user/uid", json!(-1), "/process/user/uid"),
        fault("/process/user/uid", json!("0"), "/process/user/uid"),
        fault("/process/user/uid", json!(4_294_967_296u64), "/process/user/uid"),
        ours("/process/user/uid", json!(4_294_967_295u64), "/process/user/uid"),
        fault("/process/user/gid", json!(1.5), "/process/user/gid"),
        ours("/process/user/additionalGids", json!([1, 4_294_967_295u64]), "/process/user/additionalGids/1"),
        ours("/process/env", json!(["A=1", "B\0=2"]), "/process/env/1"),
        fault("/process/env", json!({"A": "1"}), "/process/env"),
        fault(
            "/process/rlimits",
            json!([{"type": "RLIMIT_NONSENSE", "soft": 1, "hard": 1}]),
            "/process/rlimits/0",
        ),
        fault(
            "/process/rlimits",
            json!([{"type": "RLIMIT_NOFILE", "soft": 1, "hard": "x"}]),
            "/process/rlimits/0/hard",
        ),
        ours(
            "/process/rlimits",
            json!([{"type": "RLIMIT_NOFILE", "soft": 2, "hard": 1}]),
            "/process/rlimits/0",
        ),
        ours(
            "/process/rlimits",
            json!([{"type": "RLIMIT_CORE", "soft": 1, "hard": 1}, {"type": "RLIMIT_CORE", "soft": 2, "hard": 2}]),
            "/process/rlimits/1",
        ),
        ours("/process/oomScoreAdj", json!(1001), "/process/oomScoreAdj"),
        fault("/hostname", json!(5), "/hostname"),
        ours("/hostname", json!("x".repeat(65)), "/hostname"),
        fault("/mounts", json!({}), "/mounts"),
        ours("/mounts", mount(json!({"type": "tmpfs", "source": "x"})), "/mounts/1"),
        ours("/mounts", mount(json!({"destination": "", "type": "tmpfs"})), "/mounts/1/destination"),
        fault("/mounts", mount(json!({"destination": "/a", "type": "nonsense"})), "/mounts/1"),
        fault(
            "/mounts",
            mount(json!({"destination": "/a", "type": "bind", "source": "/no/such", "options": ["bind"]})),
            "/mounts/1",
        ),
        fault(
            "/mounts",
            mount(json!({"destination": "/a", "type": "tmpfs", "options": ["mode=xyz"]})),
            "/mounts/1",
        ),
        fault(
            "/mounts",
            mount(json!({"destination": "/a", "type": "tmpfs", "options": "ro"})),
            "/mounts/1/options",
        ),
        fault(
            "/mounts",
            mount(json!({"destination": "/proc/self", "type": "tmpfs", "source": "x"})),
            "/mounts/1",
        ),
        ours(
            "/mounts",
            mount(json!({"destination": "/a", "type": "bind", "options": ["bind"]})),
            "/mounts/1",
        ),
        ours("/linux", Value::Null, "/linux"),
        fault("/linux/namespaces", json!([{"type": "nonsense"}]), "/linux/namespaces/0/type"),
        fault(
            "/linux/namespaces",
            json!([{"type": "mount"}, {"type": "uts"}, {"type": "ipc"}, {"type": "network", "path": "/no/such"}]),
            "/linux/namespaces/3",
        ),
        ours("/linux/namespaces", json!([{"type": "mount"}, {"type": "mount"}]), "/linux/namespaces/1"),
        ours("/linux/namespaces", json!([{"type": "pid"}]), "/linux/namespaces"),
        ours("/linux/uidMappings", json!([{"containerID": 0, "hostID": 0, "size": 1}]), "/linux/uidMappings"),
        ours(
            "/linux/devices",
            json!([{"path": "relative", "type": "c", "major": 1, "minor": 3}]),
            "/linux/devices/0/path",
        ),
        fault(
            "/linux/devices",
            json!([{"path": "/dev/x", "type": "z", "major": 1, "minor": 3}]),
            "/linux/devices/0",
        ),
        ours("/linux/devices", json!([{"path": "/dev/x", "type": "c"}]), "/linux/devices/0"),
        fault("/linux/sysctl", json!({"kernel.panic": "1"}), "/linux/sysctl/kernel.panic"),
        fault("/linux/sysctl", json!(["a"]), "/linux/sysctl"),
        ours("/linux/maskedPaths", json!(["relative"]), "/linux/maskedPaths/0"),
        ours("/linux/readonlyPaths", json!(["/proc", ""]), "/linux/readonlyPaths/1"),
        fault("/linux/rootfsPropagation", json!("nonsense"), "/linux/rootfsPropagation"),
        fault("/linux/resources/memory", json!({"limit": "1G"}), "/linux/resources/memory/limit"),
        ours("/linux/resources/memory", json!({"limit": 1000, "swap": 500}), "/linux/resources/memory"),
        ours(
            "/linux/resources/devices",
            json!([{"allow": true, "type": "q", "access": "rwm"}]),
            "/linux/resources/devices/0/type",
        ),
        ours(
            "/linux/resources/devices",
            json!([{"allow": true, "type": "c", "access": "xyz"}]),
            "/linux/resources/devices/0/access",
        ),
        fault("/linux/seccomp", json!({"defaultAction": "NONSENSE"}), "/linux/seccomp/defaultAction"),
        fault("/linux/seccomp", json!({}), "/linux/seccomp"),
        ours("/hooks", json!({"prestart": [{"path": "relative"}]}), "/hooks/prestart/0/path"),
        fault("/hooks", json!({"prestart": {"path": "/bin/true"}}), "/hooks/prestart"),
        fault("/annotations", json!({"a": 1}), "/annotations/a"),
        ours("/annotations", json!({"": "x"}), "/annotations"),
    ]
}

fn values(t: &T) {
    t.differs("runc", "warnings stand before the error");
    t.differs("crun", "fewer things are checked");
    let mut complaints = Vec::new();
    for fault in faults() {
        if fault.only_ours && !t.ours() {
            continue;
        }
        let mut bundle = Bundle::new(t, &["print", "it runs"]);
        if fault.value.is_null() {
            bundle.remove(fault.at);
        } else {
            bundle.set(fault.at, fault.value.clone());
        }
        let container = Container::new(t, &mut bundle);
        for call in [container.create_call(), container.run_call()] {
            let done = call.done();
            if let Err(complaint) = judge(t, &container, &done, fault.named) {
                complaints.push(format!("{} = {}: {complaint}", fault.at, fault.value));
                break;
            }
        }
    }
    assert!(complaints.is_empty(), "{} complaints\n{}", complaints.len(), complaints.join("\n"));
}

/// What a failed command must look like.
fn judge(t: &T, container: &Container<'_>, done: &Done, named: &str) -> Result<(), String> {
    if done.out.contains("it runs") || done.code() == 0 {
        let _ = container.call("delete").arg("--force").done();
        return Err("it is accepted".to_owned());
    }
    let objects: Vec<Value> = done.log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let [error] = objects.as_slice() else { return Err(format!("not one object in the log: {done}")) };
    if container.root.join(&container.id).exists() {
        return Err("a state directory is left".to_owned());
    }
    if !t.ours() {
        return Ok(());
    }
    if done.code() != 1 {
        return Err(format!("exit code {}", done.code()));
    }
    if done.err.trim().lines().count() != 1 {
        return Err(format!("not one line on standard error: {}", done.err));
    }
    let pointer = error["pointer"].as_str().unwrap_or("");
    if !pointer.starts_with(named) {
        return Err(format!("it names `{pointer}`, not `{named}`: {}", done.err.trim()));
    }
    if !done.err.contains(pointer) {
        return Err(format!("the line has no pointer: {}", done.err.trim()));
    }
    Ok(())
}

fn texts(t: &T) {
    t.differs("crun", "no log entry for a bundle that cannot be read");
    t.differs("runc", "null ends it with a panic");
    let mut complaints = Vec::new();
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for (what, text) in [
        ("empty", String::new()),
        ("no JSON", "hello".to_owned()),
        ("cut off", "{\"ociVersion\": \"1.0.2\",\n \"process\": {".to_owned()),
        ("a comma too many", "{\"ociVersion\": \"1.0.2\",\n}".to_owned()),
        ("another document", "[]".to_owned()),
        ("null", "null".to_owned()),
        ("more after the end", "{\"ociVersion\": \"1.0.2\"} {}".to_owned()),
        ("too deep", deep),
        ("zeros", "\0\0\0\0".to_owned()),
    ] {
        let bundle = Bundle::new(t, &["print", "it runs"]);
        bundle.write_text(&text);
        let id = format!("ct-{}-text-{}", std::process::id(), what.replace(' ', "-"));
        let container = Container::as_written(t, &bundle, id.clone(), format!("{}/{id}", cgroup::parent()));
        let done = container.run();
        if let Err(complaint) = judge(t, &container, &done, "") {
            complaints.push(format!("{what}: {complaint}"));
        }
        let placed = done.err.contains("line") && done.err.contains("column");
        if t.ours() && !placed && what != "another document" && what != "null" {
            complaints.push(format!("{what}: no line and column: {}", done.err.trim()));
        }
    }
    // Bytes that are no UTF-8.
    let bundle = Bundle::new(t, &[]);
    fs::write(bundle.dir.join("config.json"), b"{\"ociVersion\": \"1.0.2\", \"hostname\": \"\xff\xfe\"}")
        .unwrap();
    let id = format!("ct-{}-bytes", std::process::id());
    let container = Container::as_written(t, &bundle, id.clone(), format!("{}/{id}", cgroup::parent()));
    if let Err(complaint) = judge(t, &container, &container.run(), "") {
        complaints.push(format!("no UTF-8: {complaint}"));
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

fn files(t: &T) {
    t.differs("crun", "no log entry for a missing bundle");
    let mut bundle = Bundle::new(t, &["print", "it runs"]);
    let container = Container::new(t, &mut bundle);
    let config = container.bundle.dir.join("config.json");
    fs::remove_file(&config).unwrap();
    let done = container.run();
    judge(t, &container, &done, "").unwrap();
    if t.ours() {
        assert!(done.err.contains("config.json"), "the path: {done}");
    }
    // A directory, a fifo (which would block for ever), a device, a loop.
    fs::create_dir(&config).unwrap();
    judge(t, &container, &container.run(), "").unwrap();
    fs::remove_dir(&config).unwrap();
    std::os::unix::fs::symlink("config.json", &config).unwrap();
    judge(t, &container, &container.run(), "").unwrap();
    fs::remove_file(&config).unwrap();
    if t.ours() {
        rustix::fs::mknodat(rustix::fs::CWD, &config, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
            .unwrap();
        let done = container.run_call().within(std::time::Duration::from_secs(10)).done();
        judge(t, &container, &done, "").unwrap();
        fs::remove_file(&config).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &config).unwrap();
        let done = container.run_call().within(std::time::Duration::from_secs(10)).done();
        judge(t, &container, &done, "").unwrap();
    }
}

fn several_at_once(t: &T) {
    let mut bundle = Bundle::new(t, &["print", "it runs"]);
    bundle.set("/process/cwd", json!("relative")).set("/process/args", json!([]));
    bundle.set("/linux/rootfsPropagation", json!("nonsense"));
    let container = Container::new(t, &mut bundle);
    let done = container.run();
    assert_ne!(done.code(), 0);
    assert!(!done.out.contains("it runs"));
    if t.ours() {
        assert_eq!(done.err.trim().lines().count(), 1, "still one line: {done}");
    }
}

fn check_names_them_all(t: &T) {
    t.differs("runc", "there is no such command");
    t.differs("crun", "there is no such command");
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    bundle.set("/process/cwd", json!("relative")).set("/process/args", json!([]));
    bundle.set("/linux/rootfsPropagation", json!("nonsense")).set("/process/noNewPrivilege", json!(true));
    let container = Container::new(t, &mut bundle);
    let done = container.bare("check").arg(&container.bundle.dir).no_log().done();
    assert_eq!(done.code(), 1, "{done}");
    let text = format!("{}{}", done.out, done.err);
    for pointer in ["/process/cwd", "/process/args", "/linux/rootfsPropagation", "/process/noNewPrivilege"] {
        assert!(text.contains(pointer), "{pointer}: {text}");
    }
    assert!(text.contains("noNewPrivileges"), "did you mean: {text}");
    // A good one is good.
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    let container = Container::new(t, &mut bundle);
    container.bare("check").arg(&container.bundle.dir).no_log().done().expect(0);
}

fn failures_while_it_is_made(t: &T) {
    // Faults that only the kernel finds, late: everything made before is undone.
    for (at, value) in [
        ("/mounts/5/options", json!(["nosuid", "nonsense_option"])),
        ("/process/args", json!(["/no/such/program"])),
        ("/linux/sysctl", json!({"net.ipv4.no_such_thing": "1"})),
        ("/hooks", json!({"createRuntime": [{"path": "/bin/false"}]})),
        ("/hooks", json!({"createContainer": [{"path": "/bin/false"}]})),
        ("/linux/devices", json!([{"path": "/proc/x", "type": "c", "major": 1, "minor": 3}])),
        ("/process/apparmorProfile", json!("no-such-profile")),
        ("/process/selinuxLabel", json!("no:such:label:s0")),
    ] {
        let mut bundle = Bundle::new(t, &["print", "it runs"]);
        bundle.set(at, value.clone());
        let container = Container::new(t, &mut bundle);
        for call in [container.create_call(), container.run_call()] {
            let done = call.done();
            if !t.ours() && done.code() == 0 {
                let _ = container.call("delete").arg("--force").done();
                continue;
            }
            assert_ne!(done.code(), 0, "{at} {value}: {done}");
            assert!(!done.out.contains("it runs"));
            container.gone();
        }
    }
}

fn every_step_undone(t: &T) {
    // A pid file that cannot be written, a socket that is not there: failures after the container exists.
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    let before = host::children();
    for words in [
        vec!["--pid-file".to_owned(), "/no/such/dir/pid".to_owned()],
        vec!["--pid-file".to_owned(), t.dir().display().to_string()],
    ] {
        let done = container.create_call().args(words).done();
        assert_ne!(done.code(), 0, "{done}");
        container.gone();
    }
    // Whoever was made is dead, even if nobody has reaped it yet.
    for child in host::children().difference(&before) {
        let pid: i32 = child.split(' ').next().unwrap().parse().unwrap();
        let alive = host::status_field(pid, "Name").as_deref() == Some("payload") && host::alive(pid);
        assert!(!alive, "{child}");
    }
}
