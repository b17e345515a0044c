//! `exec`: what the added process gets, and how it ends.
use coracle_tests::*;
use std::fs;

cases![
    exit_codes,
    outputs,
    defaults_are_the_containers,
    options,
    into_a_directory_that_is_not_there,
    user_spellings,
    no_new_privileges,
    capability_option,
    process_file,
    process_file_is_not_needed_afterwards,
    same_place,
    missing_commands,
    in_other_states,
    detached,
    many_at_once,
    with_room_for_one_process,
    without_room,
    while_paused,
    does_not_leak,
];

fn exit_codes(t: &T) {
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    for code in ["0", "1", "42", "255"] {
        let done = container.exec(&["/payload", "exit", code]).expect(code.parse().unwrap());
        assert_eq!((done.err.as_str(), done.log.as_str()), ("", ""), "{done}");
    }
    // It is not the first process of the namespace, so signals from inside work.
    for signal in [9, 15, 10] {
        container.exec(&["/payload", "kill-self", &signal.to_string()]).expect(128 + signal);
    }
    container.end();
}

fn outputs(t: &T) {
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    let done = container.exec(&["/payload", "print-both", "one", "two"]).expect(0);
    assert_eq!((done.out.as_str(), done.err.as_str()), ("one\n", "two\n"));
    let input = t.dir().join("input");
    fs::write(&input, "abc").unwrap();
    let call = container.call("exec").then(["/payload", "count"]).input(fs::File::open(&input).unwrap());
    assert!(call.done().expect(0).out.starts_with("3 "));
    container.end();
}

fn defaults_are_the_containers(t: &T) {
    t.differs("crun", "the caller's directory is used");
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set("/process/cwd", json!("/home")).add("/process/env", json!("FROM=config"));
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000, "additionalGids": [2000, 2001]}));
    let container = Container::new(t, &mut bundle);
    container.ready();
    let seen = container.exec(&["/payload", "report"]).expect(0).json();
    assert_eq!(seen["cwd"], "/home");
    assert_eq!(seen["uid"]["effective"], 1000);
    assert_eq!(seen["gid"]["effective"], 1000);
    assert_eq!(seen["groups"], json!([2000, 2001]));
    assert!(seen["env"].as_array().unwrap().contains(&json!("FROM=config")), "{}", seen["env"]);
    assert_eq!(seen["rlimits"]["RLIMIT_NOFILE"], json!({"soft": 1024, "hard": 1024}));
    assert_eq!(seen["noNewPrivs"], true);
    container.end();
}

fn options(t: &T) {
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    let call = container.call("exec").args([
        "--cwd",
        "/tmp",
        "--env",
        "A=1",
        "--env",
        "B=two words",
        "--user",
        "1000:2000",
    ]);
    let call = if t.runtime.kind == Kind::Crun { call } else { call.args(["-g", "7", "-g", "8"]) };
    let seen = call.then(["/payload", "report"]).done().expect(0).json();
    assert_eq!(seen["cwd"], "/tmp");
    let env = seen["env"].as_array().unwrap();
    assert!(env.contains(&json!("A=1")) && env.contains(&json!("B=two words")), "{env:?}");
    assert_eq!(
        (seen["uid"]["effective"].as_i64(), seen["gid"]["effective"].as_i64()),
        (Some(1000), Some(2000))
    );
    if t.runtime.kind != Kind::Crun {
        assert_eq!(seen["groups"], json!([7, 8]));
    }
    container.end();
}

/// A typing error in the name of a directory leaves nothing behind in a container that runs.
fn into_a_directory_that_is_not_there(t: &T) {
    let mut bundle = Bundle::new(t, &["ready"]);
    let made = bundle.inside("/nowhere");
    let container = Container::new(t, &mut bundle);
    container.ready();
    let done =
        container.call("exec").args(["--cwd", "/nowhere/at/all"]).then(["/payload", "exit", "0"]).done();
    assert_ne!(done.code(), 0);
    assert!(!made.exists());
    container.end();
}

fn user_spellings(t: &T) {
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    // runc stops at 2147483647.
    let highest = if t.runtime.kind == Kind::Runc { 2_147_483_647u32 } else { 4_294_967_294 };
    let word = highest.to_string();
    for (word, uid, gid) in [("1", 1, 0), ("1:2", 1, 2), (word.as_str(), highest, 0), ("0", 0, 0)] {
        let done =
            container.call("exec").args(["--user", word]).then(["/payload", "report"]).done().expect(0);
        let seen = done.json();
        assert_eq!((&seen["uid"]["real"], &seen["gid"]["real"]), (&json!(uid), &json!(gid)), "{word}");
        assert_eq!(seen["uid"]["fs"], json!(uid));
    }
    container.end();
}

fn no_new_privileges(t: &T) {
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set("/process/noNewPrivileges", json!(false));
    let container = Container::new(t, &mut bundle);
    container.ready();
    let plain = container.exec(&["/payload", "report"]).expect(0).json();
    assert_eq!(plain["noNewPrivs"], false);
    let seen =
        container.call("exec").arg("--no-new-privs").then(["/payload", "report"]).done().expect(0).json();
    assert_eq!(seen["noNewPrivs"], true);
    container.end();
}

fn capability_option(t: &T) {
    t.differs("crun", "the sets are replaced");
    let mut bundle = Bundle::new(t, &["ready"]);
    let few = json!(["CAP_KILL"]);
    bundle.set("/process/capabilities", json!({"bounding": few, "effective": few, "permitted": few}));
    let container = Container::new(t, &mut bundle);
    container.ready();
    let call = container.call("exec").args(["--cap", "CAP_NET_RAW", "--cap", "CAP_CHOWN"]);
    let seen = call.then(["/payload", "report"]).done().expect(0).json();
    for set in ["bounding", "effective", "permitted"] {
        let mut names: Vec<&str> =
            seen["caps"][set].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"], "{set}");
    }
    assert_eq!(seen["caps"]["inheritable"], json!([]));
    assert_eq!(seen["caps"]["ambient"], json!([]));
    container.end();
}

fn process_json(words: &[&str]) -> Value {
    let mut args = vec!["/payload"];
    args.extend(words);
    json!({"user": {"uid": 5, "gid": 6, "additionalGids": [9]}, "args": args, "env": ["ONLY=this"], "cwd": "/etc"})
}

fn process_file(t: &T) {
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    let file = t.dir().join("process.json");
    fs::write(&file, process_json(&["report"]).to_string()).unwrap();
    for flag in ["--process", "-p"] {
        let done = container.call("exec").arg(flag).arg(&file).done().expect(0);
        let seen = done.json();
        assert_eq!(seen["uid"], json!({"real": 5, "effective": 5, "saved": 5, "fs": 5}));
        assert_eq!(seen["gid"], json!({"real": 6, "effective": 6, "saved": 6, "fs": 6}));
        assert_eq!(seen["groups"], json!([9]));
        assert_eq!(seen["cwd"], "/etc");
        let env = seen["env"].as_array().unwrap();
        assert!(env.contains(&json!("ONLY=this")), "{env:?}");
        assert!(
            env.iter().all(|entry| entry == "ONLY=this" || entry.as_str().unwrap().starts_with("HOME=")),
            "{env:?}"
        );
    }
    for text in ["", "{", "[]", r#"{"args": 1}"#] {
        fs::write(&file, text).unwrap();
        let done = container.call("exec").arg("-p").arg(&file).done();
        assert_ne!(done.code(), 0, "{text}: {done}");
    }
    container.end();
}

fn process_file_is_not_needed_afterwards(t: &T) {
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    let (file, pid_file) = (t.dir().join("process.json"), t.dir().join("pid"));
    fs::write(&file, process_json(&["ready"]).to_string()).unwrap();
    let call =
        container.call("exec").arg("--process").arg(&file).arg("--detach").arg("--pid-file").arg(&pid_file);
    call.ok();
    fs::remove_file(&file).unwrap();
    let pid: i32 = fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    container.adopt(pid);
    assert!(host::alive(pid));
    assert_eq!(
        fs::read_to_string(format!("/proc/{pid}/comm")).unwrap().trim(),
        "payload",
        "it is executed already"
    );
    container.end();
}

fn same_place(t: &T) {
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.add("/linux/namespaces", json!({"type": "cgroup"}));
    let container = Container::new(t, &mut bundle);
    container.ready();
    let seen = container.exec(&["/payload", "report"]).expect(0).json();
    let pid = container.pid();
    for kind in ["mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let own = fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        assert_eq!(seen["namespaces"][kind], json!(own), "{kind}");
    }
    let first = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let running = container.exec_running(&["/payload", "ready"]);
    running.until("ready");
    let pids = container.call("ps").args(["-f", "json"]).ok().json();
    for pid in pids.as_array().unwrap() {
        assert_eq!(fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap(), first, "the same cgroups");
    }
    assert_eq!(seen["hostname"], "inside");
    container.end();
    running.done().expect(137);
}

fn missing_commands(t: &T) {
    t.differs("crun", "texts of its own");
    let mut bundle = Bundle::new(t, &["ready"]);
    fs::write(bundle.inside("/etc/plain"), "text").unwrap();
    let container = Container::new(t, &mut bundle);
    container.ready();
    for (words, text) in [
        (vec!["nothing-of-this-name"], "executable file not found in $path"),
        (vec!["/nothing-of-this-name"], "no such file or directory"),
        (vec!["/etc/plain"], "permission denied"),
        (vec!["/etc"], "directory"),
    ] {
        let done = container.exec(&words);
        let message = done.message().to_lowercase();
        let older = text == "directory" && message.contains("permission denied");
        assert!(message.contains(text) || older, "{done}");
        if t.runtime.kind != Kind::Crun {
            assert_eq!(done.code(), 255, "{done}");
        }
    }
    let none = container.call("exec").done();
    assert_ne!(none.code(), 0, "a command is needed: {none}");
    container.end();
}

fn in_other_states(t: &T) {
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    let container = Container::new(t, &mut bundle);
    container.create();
    // Before start the namespaces are ready; runc and crun allow it.
    container.exec(&["/payload", "exit", "9"]).expect(9);
    container.start().wait();
    let done = container.exec(&["/payload", "exit", "0"]);
    assert!(done.message().contains("stopped") || done.message().contains("not running"), "{done}");
    container.delete();
}

fn detached(t: &T) {
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    let (pid_file, out) = (t.dir().join("pid"), t.dir().join("out"));
    let call = container.call("exec").arg("-d").arg("--pid-file").arg(&pid_file);
    let call = call.output(fs::File::create(&out).unwrap());
    assert_eq!(call.then(["/payload", "wait-term"]).done().expect(0).err, "");
    let pid: i32 = fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    container.adopt(pid);
    runtime::wait_until("ready", || fs::read_to_string(&out).unwrap().contains("ready"));
    let parent = host::status_field(pid, "PPid").unwrap();
    assert_eq!(parent, std::process::id().to_string(), "it goes to the caller's subreaper");
    container.end();
}

fn many_at_once(t: &T) {
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    let running: Vec<_> = (0..16)
        .map(|code| (code, container.exec_running(&["/payload", "exit", &code.to_string()])))
        .collect();
    for (code, running) in running {
        running.done().expect(code);
    }
    container.end();
}

fn does_not_leak(t: &T) {
    t.differs("crun", "the caller's session keyring reaches the process");
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    let call = container.call("exec").env("CANARY", "leaks").launched([
        "--leak",
        "/",
        "--fd",
        "20=/etc",
        "--key",
        "canary=secret",
    ]);
    let seen = call.then(["/payload", "report"]).done().expect(0).json();
    let fds: Vec<i64> = seen["fds"].as_array().unwrap().iter().filter_map(|fd| fd["fd"].as_i64()).collect();
    assert_eq!(fds, [0, 1, 2], "{}", seen["fds"]);
    assert!(!seen["env"].to_string().contains("CANARY"), "{}", seen["env"]);
    assert!(!seen["env"].to_string().to_lowercase().contains("_libcontainer"), "{}", seen["env"]);
    let call = container.call("exec").launched(["--keyring", "callers", "--key", "canary=secret"]);
    let done = call.then(["/payload", "do", r#"["find-key", "canary"]"#]).done().expect(0);
    assert!(done.json()[0].get("errno").is_some(), "the caller's key is not found: {done}");
    container.end();
}

fn without_room(t: &T) {
    t.needs(&[Need::Controller("pids")]);
    t.differs("crun", "who is moved into a cgroup is not counted");
    t.differs("runc", "who is moved into a cgroup is not counted");
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set("/linux/resources/pids", json!({"limit": 1}));
    let container = Container::new(t, &mut bundle);
    container.ready();
    let done = container.exec(&["/payload", "exit", "5"]);
    if cgroup::mode() == cgroup::Mode::Version2 {
        assert!(done.message().contains("clone the process") && done.err.contains("pids.limit"), "{done}");
    } else {
        // Version 1 has no way to be born in a cgroup.
        done.expect(5);
    }
    container.end();
}

fn while_paused(t: &T) {
    t.needs(&[Need::Controller("freezer")]);
    t.differs("crun", "no --ignore-paused");
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    container.call("pause").ok();
    let call = || container.call("exec").arg("--ignore-paused");
    let mut waiting = call().then(["/payload", "exit", "5"]).start();
    // With an answer to wait for, too: `oomScoreAdj` is the parent's to set.
    let process = t.dir().join("process.json");
    let words = json!({"cwd": "/", "args": ["/payload", "exit", "6"], "user": {"uid": 0, "gid": 0}, "oomScoreAdj": 100});
    fs::write(&process, words.to_string()).unwrap();
    let answered = container.call("exec").arg("--ignore-paused").arg("--process").arg(&process).start();
    std::thread::sleep(std::time::Duration::from_millis(700));
    assert_eq!(waiting.child.try_wait().unwrap(), None, "it waits for the end of the pause");
    container.call("resume").ok();
    waiting.done().expect(5);
    answered.done().expect(6);
    container.end();
}

fn with_room_for_one_process(t: &T) {
    t.needs(&[Need::Controller("pids")]);
    t.differs("crun", "crun 1.8 counts its own processes");
    t.differs("runc", "runc counts its own processes");
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set("/linux/resources/pids", json!({"limit": 2}));
    let container = Container::new(t, &mut bundle);
    container.ready();
    for _ in 0..5 {
        let seen = container.exec(&["/payload", "report"]).expect(0).json();
        let first = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
        assert_eq!(seen["cgroup"].as_array().unwrap().len(), first.lines().count());
    }
    // And it counts: its own child is one too many.
    let done = container.exec(&["/payload", "do", &json!(["exec-works", "/payload"]).to_string()]).expect(0);
    assert!(is_error(&done.json()[0], "EAGAIN"), "{done}");
    container.end();
}
