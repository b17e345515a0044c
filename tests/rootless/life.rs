//! The commands, by an ordinary user.
use coracle_tests::terminal::{ConsoleSocket, Reader};
use coracle_tests::*;
use std::fs;
use std::os::unix::fs::MetadataExt;

cases![
    ready,
    mounts_added,
    exit_codes,
    whole_life,
    exec,
    exec_detached,
    killed,
    default_state_directory,
    state_directory_without_a_variable,
    lists,
    terminal_by_socket,
    hooks_run_as_the_user,
    listener_by_socket,
    own_specification_runs,
    demonstration,
    root_of_another_user,
    as_nobody_but_oneself,
    nothing_is_left,
];

/// Without the right to take descriptors out of a process: the listener is sent, for the first process and for added ones.
fn listener_by_socket(t: &T) {
    let path = t.dir().join("agent");
    let agent = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let take = |added: bool| {
        assert!(runtime::wait_readable(&agent, std::time::Duration::from_secs(10)), "added: {added}");
        let (text, fds) = terminal::receive(&agent.accept().unwrap().0);
        let state: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!((&state["fds"], fds.len()), (&json!(["seccompFd"]), 1), "added: {added}");
    };
    let rule = |names: &[&str]| {
        json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path,
               "syscalls": [{"names": names, "action": "SCMP_ACT_NOTIFY"}]})
    };
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.set("/linux/seccomp", rule(&["times"]));
    let container = Container::new(t, &mut bundle);
    container.ready();
    take(false);
    let running = container.exec_running(&["/payload", "exit", "3"]);
    take(true);
    running.done().expect(3);
    container.end();
    drop(container);
    bundle.set("/linux/seccomp", rule(&["times", "sendmsg"]));
    let error = Container::new(t, &mut bundle).create_call().done().error();
    assert_eq!(error["code"], "seccomp-locks-listener", "{error}");
}

/// One mapping, and not of root: who one is outside, under another number.
fn as_nobody_but_oneself(t: &T) {
    t.differs("runc", "runc becomes root of the user namespace, which has none");
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let mut bundle =
        Bundle::new(t, &["report", "--path", "/dev/shm", "--path", "/dev/null", "--path", "/data/file"]);
    let source = t.dir().join("closed");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "").unwrap();
    fs::set_permissions(&source, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    bundle.bind(&source, "/data", &["ro"]);
    bundle.set("/linux/uidMappings", json!([{"containerID": 1000, "hostID": uid, "size": 1}]));
    bundle.set("/linux/gidMappings", json!([{"containerID": 1001, "hostID": gid, "size": 1}]));
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1001}));
    let seen = report(t, &mut bundle);
    assert_eq!((&seen["uid"]["real"], &seen["gid"]["real"]), (&json!(1000), &json!(1001)));
    assert_eq!(
        (&seen["paths"]["/dev/shm"]["uid"], &seen["paths"]["/data/file"]["uid"]),
        (&json!(1000), &json!(1000))
    );
    assert_eq!(
        (&seen["paths"]["/dev/null"]["major"], &seen["paths"]["/dev/null"]["minor"]),
        (&json!(1), &json!(3))
    );
}

fn exit_codes(t: &T) {
    for code in ["0", "7", "255"] {
        let mut bundle = Bundle::new(t, &["exit", code]);
        let container = Container::new(t, &mut bundle);
        let done = container.run().expect(code.parse().unwrap());
        assert_eq!((done.out.as_str(), done.err.as_str(), done.log.as_str()), ("", "", ""), "{done}");
        container.gone();
    }
    let mut bundle = Bundle::new(t, &["crash"]);
    Container::new(t, &mut bundle).run().expect(139);
}

fn whole_life(t: &T) {
    let mut bundle = Bundle::new(t, &["wait-term"]);
    let container = Container::new(t, &mut bundle);
    container.create();
    assert_eq!(container.status(), "created");
    container.start().until("ready");
    let state = container.state();
    assert_eq!(
        (state["status"].as_str(), state["id"].as_str()),
        (Some("running"), Some(container.id.as_str()))
    );
    container.kill("TERM");
    assert_eq!(container.wait(), 0);
    assert_eq!(container.status(), "stopped");
    container.delete().gone();
}

fn exec(t: &T) {
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    container.exec(&["/payload", "exit", "31"]).expect(31);
    let seen = container.exec(&["/payload", "report"]).expect(0).json();
    let pid = container.pid();
    for kind in ["user", "mnt", "pid", "net", "ipc", "uts"] {
        let own = fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        assert_eq!(seen["namespaces"][kind], json!(own), "{kind}");
    }
    assert_eq!(seen["uid"]["effective"], 0);
    container.end();
}

fn exec_detached(t: &T) {
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    let file = t.dir().join("pid");
    container.call("exec").arg("-d").arg("--pid-file").arg(&file).then(["/payload", "sleep"]).ok();
    let pid: i32 = fs::read_to_string(&file).unwrap().parse().unwrap();
    container.adopt(pid);
    assert!(host::alive(pid));
    container.end();
}

fn killed(t: &T) {
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    container.call("delete").arg("--force").ok();
    assert_eq!(container.wait(), 137);
    container.gone();
}

/// A call without `--root`.
fn rootless_call(t: &T, container: &Container<'_>) -> std::process::Command {
    let mut command = std::process::Command::new(&t.runtime.path);
    command.env_clear().env("PATH", "/usr/bin:/bin").arg("run").arg("--bundle").arg(&container.bundle.dir);
    command.arg(&container.id).stdin(std::process::Stdio::null());
    command
}

fn default_state_directory(t: &T) {
    let directory = t.dir().join("runtime-dir");
    fs::create_dir(&directory).unwrap();
    let mut bundle = Bundle::new(t, &["exit", "5"]);
    let container = Container::new(t, &mut bundle);
    let done = rootless_call(t, &container).env("XDG_RUNTIME_DIR", &directory).output().unwrap();
    assert_eq!(done.status.code(), Some(5), "{}", String::from_utf8_lossy(&done.stderr));
    let made: Vec<_> = fs::read_dir(&directory).unwrap().flatten().collect();
    assert_eq!(made.len(), 1, "{made:?}");
    let mode = made[0].metadata().unwrap().mode();
    assert_eq!(mode & 0o777, 0o700);
    if t.runtime.kind != Kind::Crun {
        assert_eq!(mode & 0o1000, 0o1000, "the sticky bit keeps it from being pruned");
    }
}

fn state_directory_without_a_variable(t: &T) {
    let mut bundle = Bundle::new(t, &["exit", "5"]);
    let container = Container::new(t, &mut bundle);
    let done = rootless_call(t, &container).output().unwrap();
    let text = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_ne!(done.status.code(), Some(5), "below /run an ordinary user has no place");
    assert!(!text.trim().is_empty());
    if t.ours() {
        assert_eq!(text.trim().lines().count(), 1, "{text}");
    }
}

fn lists(t: &T) {
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    let list = container.bare("list").args(["--format", "json"]).ok().json();
    assert_eq!(list[0]["id"], json!(container.id));
    assert_eq!(list[0]["status"], "running");
    container.end();
}

fn terminal_by_socket(t: &T) {
    let socket = ConsoleSocket::new(t.dir().join("console"));
    let mut bundle = Bundle::new(t, &["report"]);
    bundle.set("/process/terminal", json!(true));
    let container = Container::new(t, &mut bundle);
    container.create_with(container.create_call().arg("--console-socket").arg(&socket.path));
    let (master, _) = socket.master();
    let reader = Reader::new(&master);
    container.start();
    assert_eq!(container.wait(), 0);
    drop(master);
    let seen: Value = serde_json::from_str(String::from_utf8(reader.end()).unwrap().trim()).unwrap();
    assert_eq!(seen["tty"]["isatty"], json!([true, true, true]));
    assert_eq!(seen["tty"]["name"], "/dev/pts/0");
    container.delete();
}

fn hooks_run_as_the_user(t: &T) {
    let file = t.dir().join("hooks");
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    let hook = |name: &str| json!({"path": harness::payload(), "args": ["payload", "hook", file, name]});
    bundle.add("/hooks/createRuntime", hook("createRuntime")).add("/hooks/poststop", hook("poststop"));
    Container::new(t, &mut bundle).run().expect(0);
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
    let uid = rustix::process::geteuid().as_raw();
    for line in text.lines() {
        let note: Value = serde_json::from_str(line).unwrap();
        let ids: Vec<i64> = note["uid"].as_array().unwrap().iter().filter_map(Value::as_i64).collect();
        assert!(ids == [i64::from(uid); 3] || ids == [0; 3], "the user, outside or mapped: {note}");
    }
}

fn own_specification_runs(t: &T) {
    let mut bundle = Bundle::new(t, &[]);
    let container_root = t.dir().join("state");
    Call::new(&t.runtime, t.dir(), &container_root, "spec")
        .arg("--rootless")
        .arg("--bundle")
        .arg(&bundle.dir)
        .ok();
    let path = bundle.dir.join("config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["/payload", "exit", "8"]);
    bundle.spec = config;
    Container::new(t, &mut bundle).run().expect(8);
}

fn demonstration(t: &T) {
    t.differs("runc", "there is no such command");
    t.differs("crun", "there is no such command");
    let mut demo = std::process::Command::new(&t.runtime.path);
    demo.arg("demo")
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("XDG_RUNTIME_DIR", t.dir())
        .current_dir(t.dir());
    let done = demo.stdin(std::process::Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    for word in ["user", "pid", "mount", "seccomp", "capabilit"] {
        assert!(text.to_lowercase().contains(word), "{word}: {text}");
    }
}

fn root_of_another_user(t: &T) {
    // What the user may not read on the machine stays unreadable inside.
    let mut bundle = Bundle::new(t, &[]);
    bundle.bind(std::path::Path::new("/etc"), "/host-etc", &["ro"]);
    let got =
        answers(t, &mut bundle, &[json!(["read", "/host-etc/shadow"]), json!(["read", "/host-etc/passwd"])]);
    assert!(is_error(&got[0], "EACCES"), "{}", got[0]);
    assert!(got[1].get("ok").is_some());
}

fn nothing_is_left(t: &T) {
    let before = host::mounts();
    for _ in 0..10 {
        let mut bundle = Bundle::new(t, &["exit", "0"]);
        let container = Container::new(t, &mut bundle);
        container.run().expect(0);
        container.gone();
    }
    assert_eq!(host::mounts(), before);
}

fn ready(t: &T) {
    t.differs("crun", "the socket has another name");
    t.differs("runc", "waits for a barrier");
    let path = t.dir().join("manager");
    let manager = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let mut bundle = Bundle::new(t, &["do", r#"["notify", "READY=1"]"#, r#"["sleep", 200]"#]);
    let container = Container::new(t, &mut bundle);
    let running = container.run_call().env("NOTIFY_SOCKET", &path).start();
    let own = running.pid().as_raw_nonzero();
    let (text, _) = terminal::receive(&manager);
    assert_eq!(String::from_utf8(text).unwrap(), format!("READY=1\nMAINPID={own}\n"));
    running.done().expect(0);
    container.gone();
    // What the container's root, who is the user, puts there when it makes the mount writable goes with it.
    let remount = json!(["mount", "none", "/run/notify", "", 0x1020]).to_string();
    let mut bundle = Bundle::new(t, &["do", &remount, r#"["mkdir", "/run/notify/a"]"#]);
    let all = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
    bundle.set("/process/capabilities", json!({"bounding": all, "effective": all, "permitted": all}));
    let container = Container::new(t, &mut bundle);
    let done = container.run_call().env("NOTIFY_SOCKET", &path).done().expect(0);
    assert_eq!(done.json(), json!([{"ok": null}, {"ok": null}]), "{done}");
    container.gone();
}

fn mounts_added(t: &T) {
    t.differs("runc", "crun's command");
    t.differs("crun", "needs rights");
    let source = t.dir().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "of the user").unwrap();
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    let list = t.dir().join("list.json");
    let mounts = json!([
        {"destination": "/bound", "source": source, "options": ["bind", "ro"]},
        {"destination": "/fresh", "type": "tmpfs"},
    ]);
    fs::write(&list, mounts.to_string()).unwrap();
    container.bare("mounts").arg("add").id(&container.id).then([&list]).ok();
    let got = container.tries(&[json!(["read", "/bound/file"]), json!(["open", "/fresh/x", "create"])]);
    assert_eq!(got[0]["ok"]["text"], "of the user");
    assert!(got[1].get("ok").is_some(), "{got:?}");
    container.bare("mounts").arg("remove").id(&container.id).then([&list]).ok();
    assert!(is_error(&container.tries(&[json!(["read", "/bound/file"])])[0], "ENOENT"));
    container.end();
}
