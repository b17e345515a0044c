//! The commands of a container's life: outputs, exit codes, state at each step.
use coracle_tests::runtime::{is_time, wait_until};
use coracle_tests::*;
use std::fs;
use std::path::Path;

cases![
    exit_codes,
    codes_of_signals,
    outputs_are_the_callers,
    input_is_the_callers,
    state_at_each_step,
    created_has_not_executed,
    waits_in_little_memory,
    runs_in_little_memory,
    start_twice,
    start_stopped,
    duplicate_id,
    delete_running_is_refused,
    delete_force,
    delete_missing,
    kill_spellings,
    kill_wrong_spellings,
    kill_stopped,
    kill_all,
    by_regular_expression,
    run_detached,
    run_keep,
    run_forwards_signals,
    pid_file,
    bundle_paths,
    bad_ids,
    missing_container,
    parent_and_session,
    list,
    list_empty,
    ps,
    pause_and_resume,
    pause_wrong_states,
    paused_before_its_start,
    killed_while_paused,
    annotations,
    orphans_end_with_the_first_process,
    shared_pid_namespace_is_emptied,
];

fn exit_codes(t: &T) {
    for code in ["0", "1", "42", "126", "127", "255"] {
        let mut bundle = Bundle::new(t, &["exit", code]);
        let container = Container::new(t, &mut bundle);
        let done = container.run().expect(code.parse().unwrap());
        assert_eq!((done.out.as_str(), done.err.as_str(), done.log.as_str()), ("", "", ""), "{done}");
        container.gone();
    }
}

fn codes_of_signals(t: &T) {
    // From inside, the first process of a pid namespace cannot be killed, so it shares the host's.
    for signal in [1, 6, 9, 15, 34] {
        let mut bundle = Bundle::new(t, &["kill-self", &signal.to_string()]);
        bundle.without_namespace("pid");
        Container::new(t, &mut bundle).run().expect(128 + signal);
    }
    let mut bundle = Bundle::new(t, &["crash"]);
    Container::new(t, &mut bundle).run().expect(128 + 11);
}

fn outputs_are_the_callers(t: &T) {
    let mut bundle = Bundle::new(t, &["print-both", "to the output", "to the errors"]);
    let done = Container::new(t, &mut bundle).run().expect(0);
    assert_eq!((done.out.as_str(), done.err.as_str()), ("to the output\n", "to the errors\n"));
}

fn input_is_the_callers(t: &T) {
    let file = t.dir().join("input");
    fs::write(&file, vec![b'x'; 100_000]).unwrap();
    let mut bundle = Bundle::new(t, &["count"]);
    let container = Container::new(t, &mut bundle);
    let done = container.run_call().input(fs::File::open(&file).unwrap()).done().expect(0);
    assert!(done.out.starts_with("100000 "), "{done}");
}

fn state_at_each_step(t: &T) {
    t.differs("crun", "the rootfs is printed as configured");
    let mut bundle = Bundle::new(t, &["wait-term"]);
    let container = Container::new(t, &mut bundle);
    container.create();
    let created = container.state();
    let pid = created["pid"].as_i64().unwrap();
    assert!(pid > 1);
    assert_eq!(created["id"], json!(container.id));
    assert_eq!(created["status"], "created");
    assert_eq!(created["bundle"], json!(container.bundle.dir));
    assert_eq!(created["rootfs"], json!(container.bundle.rootfs()));
    assert!(created["ociVersion"].as_str().is_some_and(|version| version.starts_with("1.")), "{created}");
    assert!(is_time(created["created"].as_str().unwrap()), "{created}");
    assert_eq!(created["owner"], "");
    let allowed =
        ["id", "pid", "status", "bundle", "rootfs", "ociVersion", "created", "owner", "annotations"];
    assert!(created.as_object().unwrap().keys().all(|key| allowed.contains(&key.as_str())), "{created}");

    container.start().until("ready");
    let running = container.state();
    assert_eq!((running["status"].as_str(), running["pid"].as_i64()), (Some("running"), Some(pid)));
    assert_eq!(running["created"], created["created"]);

    container.kill("TERM");
    container.until("signal 15");
    assert_eq!(container.wait(), 0);
    let stopped = container.state();
    assert_eq!((stopped["status"].as_str(), stopped["pid"].as_i64()), (Some("stopped"), Some(0)));

    container.delete().gone();
    let message = container.call("state").done().message();
    assert!(message.contains("does not exist"), "{message}");
}

fn created_has_not_executed(t: &T) {
    let mut bundle = Bundle::new(t, &["print", "executed"]);
    let container = Container::new(t, &mut bundle);
    container.create();
    let pid = container.pid();
    assert!(host::alive(pid));
    let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap();
    assert_ne!(program, Path::new("/payload"), "the process is not executed before start");
    assert_eq!(container.printed(), "");
    container.start();
    assert_eq!(container.wait(), 0);
    assert_eq!(container.printed(), "executed\n");
    container.delete();
}

/// What waits for `start` is the walker and its program, without the runtime's own memory.
fn waits_in_little_memory(t: &T) {
    t.differs("runc", "some two megabytes");
    t.differs("crun", "some 260 KiB");
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    let container = Container::new(t, &mut bundle);
    container.create();
    let memory = fs::read_to_string(format!("/proc/{}/smaps_rollup", container.pid())).unwrap();
    // Not what is private and dirty: those are also pages of a program that was written a moment ago.
    let of_its_own = memory.lines().find_map(|line| line.strip_prefix("Anonymous:")).unwrap();
    let kib: u32 = of_its_own.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib <= 64, "{memory}");
    container.start();
    assert_eq!(container.wait(), 0);
    container.delete();
}

/// Most of what a command has resident is its program, and what it does not use stays out (`runtime-cli/layout.ld`).
fn runs_in_little_memory(t: &T) {
    t.differs("runc", "some twelve megabytes");
    t.differs("crun", "some 3700 KiB");
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    let running = container.run_call().start();
    running.until("ready");
    let status = fs::read_to_string(format!("/proc/{}/status", running.child.id())).unwrap();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kib: u32 = most.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib <= 1536, "{status}");
    container.kill("KILL");
    running.done().expect(137);
}

fn start_twice(t: &T) {
    t.differs("crun", "texts of its own");
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    let message = container.call("start").done().expect(1).message();
    assert!(message.contains("cannot start") && message.contains("running"), "{message}");
    assert_eq!(container.status(), "running");
    container.end();
}

fn start_stopped(t: &T) {
    t.differs("crun", "texts of its own");
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    let container = Container::new(t, &mut bundle);
    container.up().wait();
    let message = container.call("start").done().expect(1).message();
    assert!(message.contains("cannot start a container that has stopped"), "{message}");
    container.delete();
}

fn duplicate_id(t: &T) {
    t.differs("crun", "texts of its own");
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    for call in [container.create_call(), container.run_call()] {
        let message = call.done().expect(1).message();
        assert!(message.contains("container with given ID already exists"), "{message}");
    }
    assert_eq!(container.status(), "running", "the first one is not touched");
    container.end();
}

fn delete_running_is_refused(t: &T) {
    t.differs("crun", "texts of its own");
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    let message = container.call("delete").done().expect(1).message();
    assert!(message.contains(&container.id) && message.contains("is not stopped: running"), "{message}");
    assert_eq!(container.status(), "running");
    container.end();
}

fn delete_force(t: &T) {
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    container.call("delete").arg("--force").ok();
    assert_eq!(container.wait(), 137);
    container.gone();

    let mut bundle = Bundle::new(t, &["ready"]);
    let created = Container::new(t, &mut bundle);
    created.create().call("delete").arg("-f").ok();
    created.wait();
    created.gone();
}

fn delete_missing(t: &T) {
    t.differs("crun", "texts of its own");
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    let container = Container::new(t, &mut bundle);
    let message = container.call("delete").done().expect(1).message();
    assert!(message.contains("does not exist"), "{message}");
    container.call("delete").arg("--force").ok();
}

fn kill_spellings(t: &T) {
    t.differs("crun", "no names in small letters");
    let mut bundle = Bundle::new(t, &["wait-signals", "1", "10", "12", "15", "28"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    for (word, number) in
        [("HUP", 1), ("SIGHUP", 1), ("hup", 1), ("10", 10), ("SIGUSR1", 10), ("USR2", 12), ("WINCH", 28)]
    {
        let before = container.printed().matches(&format!("signal {number}\n")).count();
        container.kill(word);
        wait_until(word, || container.printed().matches(&format!("signal {number}\n")).count() > before);
    }
    // Without a word it is SIGTERM.
    container.call("kill").ok();
    container.until("signal 15");
    assert_eq!(container.wait(), 0);
    container.delete();
}

fn kill_wrong_spellings(t: &T) {
    t.differs("crun", "unknown names are taken as 0");
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    for word in ["NOSUCH", "SIG", "-1", "+9", "9x", " 9", "65", "99999999999", ""] {
        if !t.ours() && ["-1", "+9", "65", "", "99999999999"].contains(&word) {
            continue;
        }
        let done = container.call("kill").then([word]).done();
        assert_ne!(done.code(), 0, "{done}");
    }
    assert_eq!(container.status(), "running");
    container.end();
}

fn kill_stopped(t: &T) {
    t.differs("crun", "texts of its own");
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    let container = Container::new(t, &mut bundle);
    container.up().wait();
    let message = container.call("kill").then(["TERM"]).done().expect(1).message();
    assert!(message.contains("container not running"), "{message}");
    container.delete();
}

fn kill_all(t: &T) {
    // Without a pid namespace of its own every process of the cgroup is killed.
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.without_namespace("pid");
    let container = Container::new(t, &mut bundle);
    container.ready();
    let other = container.exec_running(&["/payload", "ready"]);
    other.until("ready");
    container.call("kill").arg("--all").then(["KILL"]).ok();
    assert_eq!(container.wait(), 137);
    other.done().expect(137);
    // Accepted, and no error, on a stopped one.
    container.call("kill").arg("--all").then(["KILL"]).ok();
    container.delete();
}

fn by_regular_expression(t: &T) {
    t.differs("runc", "crun's flag");
    t.differs("crun", "answers 0 whatever failed");
    let prefix = format!("re-{}", std::process::id());
    let bundles = ["a1", "a2", "b.c", "bxc"].map(|name| {
        let mut bundle = Bundle::new(t, &["ready"]);
        let id = format!("{prefix}-{name}");
        let cgroup = format!("{}/{id}", cgroup::parent());
        bundle.set("/linux/cgroupsPath", json!(cgroup)).write();
        (bundle, id, cgroup)
    });
    let all = bundles
        .each_ref()
        .map(|(bundle, id, cgroup)| Container::as_written(t, bundle, id.clone(), cgroup.clone()));
    for container in &all {
        container.create().start();
        container.until("ready");
    }
    let call =
        |command: &str, flags: &[&str], expression: &str| all[0].bare(command).args(flags).id(expression);
    let statuses = || all.each_ref().map(|container| container.status());
    // A dot is any character, and a backslash takes that from it.
    call("kill", &["--regex"], r"[-]b\.c$").then(["KILL"]).ok();
    assert_eq!(all[2].wait(), 137);
    assert_eq!(statuses(), ["running", "running", "stopped", "running"]);
    call("kill", &["-r"], "[-]b.c$").then(["9"]).ok();
    assert_eq!(all[3].wait(), 137);
    // Some can be deleted and some not: each gets its turn, and that is told.
    let done = call("delete", &["--regex"], &format!("^{prefix}-")).done().expect(1);
    let message = done.message();
    assert!(message.contains(&all[0].id) && message.contains("not stopped: running"), "{done}");
    assert!(done.err.contains(&all[1].id), "{done}");
    all[2].gone();
    all[3].gone();
    assert_eq!(all[0].status(), "running");
    call("delete", &["--force", "-r"], "[-]a[0-9]$").ok();
    all[0].gone();
    all[1].gone();
    // Nothing matches.
    call("kill", &["--regex"], "^no-such-").ok();
    call("delete", &["--regex"], "^no-such-").ok();
    let done = call("kill", &["--regex"], "[").done().expect(1);
    assert!(done.message().contains("invalid regular expression"), "{done}");
}

fn run_detached(t: &T) {
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    let call = container.run_call().arg("--detach");
    container.create_with(call).until("ready");
    assert_eq!(container.status(), "running");
    container.end();
    container.gone();
}

fn run_keep(t: &T) {
    t.differs("crun", "crun 1.8 deletes with --keep too");
    let mut bundle = Bundle::new(t, &["exit", "3"]);
    let container = Container::new(t, &mut bundle);
    container.run_call().arg("--keep").done().expect(3);
    assert_eq!(container.status(), "stopped");
    container.delete().gone();
}

fn run_forwards_signals(t: &T) {
    let mut bundle = Bundle::new(t, &["wait-signals", "1", "10", "15"]);
    let container = Container::new(t, &mut bundle);
    let running = container.run_call().start();
    running.until("ready");
    for (signal, number) in [(rustix::process::Signal::HUP, 1), (rustix::process::Signal::USR1, 10)] {
        running.signal(signal);
        running.until(&format!("signal {number}"));
    }
    running.signal(rustix::process::Signal::TERM);
    running.done().expect(0);
    container.gone();
}

fn pid_file(t: &T) {
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    let file = t.dir().join("the pid");
    // An old one is replaced.
    fs::write(&file, "1234567 is longer than the new one\n").unwrap();
    container.create_with(container.create_call().arg("--pid-file").arg(&file));
    assert_eq!(fs::read_to_string(&file).unwrap(), container.pid().to_string(), "a number without a newline");

    container.start().until("ready");
    let file = t.dir().join("exec.pid");
    container.call("exec").arg("--detach").arg("--pid-file").arg(&file).then(["/payload", "sleep"]).ok();
    let text = fs::read_to_string(&file).unwrap();
    let pid: i32 = text.parse().expect("a number without a newline");
    container.adopt(pid);
    assert!(host::alive(pid) && pid != container.pid());
    let left = fs::read_dir(t.dir()).unwrap().flatten();
    let left: Vec<String> = left.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    assert!(!left.iter().any(|name| name.starts_with('.')), "no temporary file stays: {left:?}");
    container.end();
}

fn bundle_paths(t: &T) {
    t.differs("crun", "no log entry for a missing bundle");
    let mut bundle = Bundle::new(t, &["exit", "7"]);
    let container = Container::new(t, &mut bundle);
    let dir = container.bundle.dir.clone();
    container.call("run").current_dir(&dir).done().expect(7);
    let parent = dir.parent().unwrap();
    let name = dir.file_name().unwrap();
    container.call("run").arg("-b").arg(name).current_dir(parent).done().expect(7);
    container.call("run").arg("--bundle=.").current_dir(&dir).done().expect(7);
    let missing = container.call("run").arg("--bundle").arg(t.dir().join("nowhere")).done().expect(1);
    assert!(is_missing(&missing.error()), "{missing}");
    t.differs("runc", "it knows no other file, crun does");
    let mut other = container.bundle.spec.clone();
    other["process"]["args"] = json!(["/payload", "exit", "8"]);
    fs::create_dir(dir.join("other")).unwrap();
    fs::write(dir.join("other/file.json"), other.to_string()).unwrap();
    container.run_call().args(["--config", "other/file.json"]).done().expect(8);
    container.call("run").args(["-f", "other/file.json"]).current_dir(&dir).done().expect(8);
    container.run().expect(7);
}

fn bad_ids(t: &T) {
    t.differs("crun", "any id without a slash is taken");
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    let container = Container::new(t, &mut bundle);
    let long = "a".repeat(1100);
    for id in ["", ".", "..", "a/b", "../a", "/", "a b", "a\nb", "ä", "a:b", &long] {
        let call = container.bare("run").arg("--bundle").arg(&container.bundle.dir).id(id);
        let done = call.done();
        assert_ne!(done.code(), 0, "{done}");
        assert_eq!(done.out.lines().filter(|line| line.contains("pid")).count(), 0, "it has not run");
    }
    let files = fs::read_dir(&container.root).map(|dir| dir.count()).unwrap_or(0);
    assert_eq!(files, 0, "nothing is left in the state directory");
    let good = ["A.b-c_d+1", "0"];
    for id in good {
        container.bare("run").arg("--bundle").arg(&container.bundle.dir).id(id).done().expect(0);
    }
}

fn missing_container(t: &T) {
    t.differs("crun", "texts of its own");
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    let container = Container::new(t, &mut bundle);
    for command in ["state", "start", "kill", "delete", "pause", "resume", "ps"] {
        let done = container.call(command).done().expect(1);
        assert!(done.message().contains("does not exist"), "{done}");
    }
    let done = container.exec(&["/payload", "exit", "0"]);
    assert!(done.message().contains("does not exist"), "{done}");
    if t.runtime.kind != Kind::Crun {
        assert_eq!(done.code(), 255, "{done}");
    }
}

fn parent_and_session(t: &T) {
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    let pid = container.pid();
    let parent = host::status_field(pid, "PPid").unwrap();
    assert_eq!(parent, std::process::id().to_string(), "init goes to the caller's subreaper");
    let pid = rustix::process::Pid::from_raw(pid);
    assert_eq!(rustix::process::getpgid(pid).ok(), pid, "init leads its process group");
    assert_eq!(rustix::process::getsid(pid).ok(), pid, "init leads its session");
    container.end();
}

fn list(t: &T) {
    let (mut one, mut other) = (Bundle::new(t, &["ready"]), Bundle::new(t, &["ready"]));
    let running = Container::new(t, &mut one);
    let created = Container::new(t, &mut other);
    running.ready();
    created.create();
    let list = running.bare("list").args(["--format", "json"]).ok().json();
    let list = list.as_array().unwrap();
    assert_eq!(list.len(), 2, "{list:?}");
    for (container, status) in [(&running, "running"), (&created, "created")] {
        let entry = list.iter().find(|entry| entry["id"] == json!(container.id)).expect("each is listed");
        assert_eq!(entry["status"], status);
        assert_eq!(entry["pid"], json!(container.pid()));
        assert_eq!(entry["bundle"], json!(container.bundle.dir));
        if t.runtime.kind != Kind::Crun {
            assert_eq!(entry["owner"], "root", "the owner has a name here");
            assert!(is_time(entry["created"].as_str().unwrap()));
        }
    }
    let table = running.bare("list").ok().out;
    let mut lines = table.lines();
    let heads: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(
        heads.first_chunk::<4>(),
        Some(&["ID", "PID", "STATUS", "BUNDLE"]).filter(|_| t.ours()).or(heads.first_chunk())
    );
    assert_eq!(lines.count(), 2, "{table}");
    let quiet = running.bare("list").arg("-q").ok().out;
    let mut ids: Vec<&str> = quiet.lines().collect();
    ids.sort_unstable();
    let mut expected = vec![running.id.as_str(), created.id.as_str()];
    expected.sort_unstable();
    assert_eq!(ids, expected);
    running.end();
    created.call("delete").arg("--force").ok();
}

fn list_empty(t: &T) {
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    let container = Container::new(t, &mut bundle);
    let json = container.bare("list").args(["-f", "json"]).ok().json();
    assert!(json.is_null() || json == json!([]), "{json}");
    assert_eq!(container.bare("list").arg("--quiet").ok().out.trim(), "");
    assert!(container.bare("list").ok().out.lines().count() <= 1);
}

fn ps(t: &T) {
    t.differs("crun", "no arguments after the id");
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    let second = container.exec_running(&["/payload", "ready"]);
    second.until("ready");
    let pids = container.call("ps").args(["--format", "json"]).ok().json();
    let pids: Vec<i64> = pids.as_array().unwrap().iter().filter_map(Value::as_i64).collect();
    assert_eq!(pids.len(), 2, "{pids:?}");
    assert!(pids.contains(&i64::from(container.pid())), "{pids:?}");
    for pid in &pids {
        let program = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
        assert_eq!(program.trim(), "payload", "host pids");
    }
    if coracle_tests::need::program("ps").is_some() {
        let table = container.call("ps").ok().out;
        assert_eq!(table.lines().count(), 3, "{table}");
        assert!(table.lines().next().unwrap().contains("PID"), "{table}");
        let own = container.call("ps").then(["-o", "pid,comm"]).ok().out;
        assert_eq!(own.lines().filter(|line| line.contains("payload")).count(), 2, "{own}");
    }
    container.end();
    second.done().expect(137);
}

fn pause_and_resume(t: &T) {
    t.needs(&[Need::Controller("freezer")]);
    let mut bundle = Bundle::new(t, &["wait-signals", "10", "15"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    container.call("pause").ok();
    assert_eq!(container.status(), "paused");
    // A frozen process takes no signal until it is thawed.
    let pid = rustix::process::Pid::from_raw(container.pid()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::USR1).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(!container.printed().contains("signal 10"), "it does not run while it is paused");
    let refused = container.exec(&["/payload", "exit", "0"]);
    assert!(refused.message().contains("paused"), "{refused}");
    if t.ours() {
        assert!(refused.message().contains("use --ignore-paused to override"), "{refused}");
    }
    container.call("resume").ok();
    container.until("signal 10");
    assert_eq!(container.status(), "running");
    container.exec(&["/payload", "exit", "5"]).expect(5);
    container.end();
}

fn pause_wrong_states(t: &T) {
    t.differs("crun", "a running container can be resumed");
    t.needs(&[Need::Controller("freezer")]);
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    let message = container.call("resume").done().expect(1).message();
    assert!(message.contains("not paused"), "{message}");
    container.kill("KILL").wait();
    let message = container.call("pause").done().expect(1).message();
    assert!(message.contains("not running"), "{message}");
    container.delete();
}

/// Nobody answers behind a frozen gate. What was asked of it meanwhile is asked of nobody when it thaws.
fn paused_before_its_start(t: &T) {
    t.differs("crun", "says that it started one that is paused");
    t.needs(&[Need::Controller("freezer")]);
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.create();
    container.call("pause").ok();
    // More often than the gate has room for what nobody takes.
    for _ in 0..13 {
        let message = container.call("start").done().expect(1).message();
        assert!(message.contains("paused"), "{message}");
    }
    assert_eq!(container.status(), "paused");
    container.call("resume").ok();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(container.status(), "created");
    assert_eq!(container.printed(), "");
    container.start();
    container.until("ready");
    container.call("pause").ok();
    let message = container.call("start").done().expect(1).message();
    assert!(message.contains("paused"), "{message}");
    container.call("resume").ok();
    container.end();
}

fn killed_while_paused(t: &T) {
    t.differs("crun", "a paused container stays frozen on version 1");
    t.needs(&[Need::Controller("freezer")]);
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    container.call("pause").ok();
    container.kill("KILL");
    assert_eq!(container.wait(), 137, "SIGKILL reaches a paused container");
    container.delete().gone();

    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    container.call("pause").ok();
    container.call("delete").arg("--force").ok();
    container.wait();
    container.gone();
}

fn annotations(t: &T) {
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set("/annotations", json!({"org.example.one": "1", "org.example.empty": "", "ü": "\"quoted\"\n"}));
    let container = Container::new(t, &mut bundle);
    container.create();
    let state = container.state();
    assert_eq!(state["annotations"]["org.example.one"], "1");
    assert_eq!(state["annotations"]["org.example.empty"], "");
    assert_eq!(state["annotations"]["ü"], "\"quoted\"\n");
    container.call("delete").arg("--force").ok();
}

fn orphans_end_with_the_first_process(t: &T) {
    let mut bundle = Bundle::new(t, &["orphan"]);
    let container = Container::new(t, &mut bundle);
    container.run().expect(0);
    container.gone();
}

fn shared_pid_namespace_is_emptied(t: &T) {
    // Without a pid namespace of its own the kernel ends nobody: the runtime does, when it deletes.
    let mut bundle = Bundle::new(t, &["orphan"]);
    bundle.without_namespace("pid");
    let container = Container::new(t, &mut bundle);
    container.up();
    assert_eq!(container.wait(), 0);
    let orphan: i32 = container.printed().trim().parse().unwrap();
    assert!(host::alive(orphan));
    container.adopt(orphan);
    // Not `ok`: until we reap the orphan its cgroup stays, and runc says so in its log.
    container.call("delete").arg("--force").done().expect(0);
    wait_until("the end of the orphan", || !host::alive(orphan));
    container.gone();
}
