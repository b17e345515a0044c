//! sd_notify(3): the container's own socket, and what the service manager hears of it.
use coracle_tests::*;
use rustix::process::Signal;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::time::Duration;

cases![
    started_when_ready,
    detached_when_ready,
    foreground,
    on_a_terminal,
    below_a_user_namespace,
    ended_before_it_was_ready,
    said_at_the_very_end,
    only_what_is_the_containers_to_say,
    who_does_not_know_barriers,
    not_for_added_programs,
    wrong_addresses,
    abstract_address,
    created_without,
    started_without,
    what_a_container_leaves_there,
];

/// A service manager.
struct Manager {
    path: PathBuf,
    socket: UnixDatagram,
}

impl Manager {
    fn new(t: &T) -> Self {
        let path = t.dir().join("manager");
        Self { socket: UnixDatagram::bind(&path).unwrap(), path }
    }

    fn waits(&self, milliseconds: u64) -> bool {
        runtime::wait_readable(&self.socket, Duration::from_millis(milliseconds))
    }

    /// All variables up to the barrier, or up to nothing more; and the barrier's descriptor.
    fn take(&self) -> (Vec<String>, Option<OwnedFd>) {
        let mut lines = Vec::new();
        loop {
            let (text, mut fds) = terminal::receive(&self.socket);
            lines.extend(String::from_utf8(text).unwrap().lines().map(str::to_owned));
            if lines.last().is_some_and(|line| line == "BARRIER=1") {
                return (lines, fds.pop());
            }
            if !self.waits(300) {
                return (lines, None);
            }
        }
    }
}

/// Takes over a process that may have ended, by the pid file.
fn adopt(t: &T, container: &Container<'_>) {
    if let Ok(pid) = fs::read_to_string(t.dir().join("pid")) {
        container.adopt(pid.parse().unwrap());
    }
}

fn others(t: &T) {
    t.differs("crun", "the socket has another name, and the manager hears READY=1 alone");
}

/// Says nothing for a while, then that it is ready, and stays.
fn slow(t: &T, milliseconds: u64) -> Bundle {
    let wait = json!(["sleep", milliseconds]).to_string();
    Bundle::new(
        t,
        &["do", &wait, r#"["notify", "STATUS=nearly"]"#, r#"["notify", "READY=1"]"#, r#"["sleep", 60000]"#],
    )
}

fn started_when_ready(t: &T) {
    others(t);
    let manager = Manager::new(t);
    let mut bundle = slow(t, 700);
    let container = Container::new(t, &mut bundle);
    container.create_with(container.create_call().env("NOTIFY_SOCKET", &manager.path));
    assert!(!manager.waits(100), "a created container is not ready");
    let running = container.call("start").env("NOTIFY_SOCKET", &manager.path).start();
    assert!(!manager.waits(300), "nor is one that says so later");
    let (lines, barrier) = manager.take();
    assert!(lines.contains(&"READY=1".to_owned()), "{lines:?}");
    assert!(lines.contains(&format!("MAINPID={}", container.pid())), "{lines:?}");
    assert_eq!(lines.last().unwrap(), "BARRIER=1");
    let mut running = running;
    std::thread::sleep(Duration::from_millis(200));
    assert!(running.child.try_wait().unwrap().is_none(), "it waits until the manager has read that");
    drop(barrier.expect("a descriptor"));
    running.done().expect(0);
    assert_eq!(container.status(), "running");
    assert!(!lines.iter().any(|line| line.starts_with("STATUS")), "{lines:?}");
    container.end();
}

fn detached_when_ready(t: &T) {
    others(t);
    let manager = Manager::new(t);
    let mut bundle = slow(t, 300);
    let container = Container::new(t, &mut bundle);
    let file = t.dir().join("pid");
    let call = container.run_call().arg("--detach").arg("--pid-file").arg(&file);
    let running = call.env("NOTIFY_SOCKET", &manager.path).start();
    let (lines, barrier) = manager.take();
    let pid = fs::read_to_string(file).unwrap();
    assert!(lines.contains(&format!("MAINPID={pid}")), "{lines:?}");
    assert!(lines.contains(&"READY=1".to_owned()) && barrier.is_some(), "{lines:?}");
    drop(barrier);
    running.done().expect(0);
    container.pid();
    container.end();
}

fn foreground(t: &T) {
    others(t);
    t.differs("runc", "it waits for the barrier");
    let manager = Manager::new(t);
    let mut bundle = Bundle::new(
        t,
        &[
            "do",
            r#"["notify", "READY=1"]"#,
            r#"["sleep", 500]"#,
            r#"["notify", "READY=1"]"#,
            r#"["sleep", 200]"#,
        ],
    );
    let container = Container::new(t, &mut bundle);
    let running = container.run_call().env("NOTIFY_SOCKET", &manager.path).start();
    let own = running.pid().as_raw_nonzero();
    let (lines, _) = manager.take();
    assert_eq!(lines, ["READY=1".to_owned(), format!("MAINPID={own}")], "the runtime is there until the end");
    let (lines, _) = manager.take();
    assert_eq!(lines.first().unwrap(), "READY=1", "again, after a reload");
    let done = running.done().expect(0);
    assert_eq!(done.json(), json!([{"ok": null}, {"ok": null}, {"ok": null}, {"ok": null}]));
    container.gone();
}

fn on_a_terminal(t: &T) {
    others(t);
    t.differs("runc", "it waits for the barrier");
    let manager = Manager::new(t);
    let mut bundle = slow(t, 100);
    bundle.set("/process/terminal", json!(true));
    let container = Container::new(t, &mut bundle);
    let pty = terminal::Pty::new(24, 80);
    let call = container.run_call().input(pty.user()).output(pty.user()).errors(pty.user());
    let running = call.env("NOTIFY_SOCKET", &manager.path).start();
    let (lines, _) = manager.take();
    assert_eq!(lines.first().unwrap(), "READY=1");
    running.signal(Signal::KILL);
    running.done();
    container.pid();
    container.end();
}

fn below_a_user_namespace(t: &T) {
    others(t);
    t.needs(&[Need::UserNamespaces]);
    let manager = Manager::new(t);
    let mut bundle = slow(t, 0);
    bundle.user_namespace(100_000);
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let container = Container::new(t, &mut bundle);
    container.create_with(container.create_call().env("NOTIFY_SOCKET", &manager.path));
    let running = container.call("start").env("NOTIFY_SOCKET", &manager.path).start();
    let (lines, barrier) = manager.take();
    assert!(lines.contains(&format!("MAINPID={}", container.pid())), "{lines:?}");
    drop(barrier);
    running.done().expect(0);
    container.end();
}

fn ended_before_it_was_ready(t: &T) {
    others(t);
    let manager = Manager::new(t);
    for detached in [true, false] {
        let mut bundle = Bundle::new(t, &["sleep", "300"]);
        let container = Container::new(t, &mut bundle);
        if detached {
            let call = container.run_call().arg("--detach").arg("--pid-file").arg(t.dir().join("pid"));
            call.env("NOTIFY_SOCKET", &manager.path).done().expect(0);
        } else {
            container.create_with(container.create_call().env("NOTIFY_SOCKET", &manager.path));
            container.call("start").env("NOTIFY_SOCKET", &manager.path).done().expect(0);
        }
        assert!(!manager.waits(50), "it never was");
        adopt(t, &container);
        container.call("delete").arg("--force").ok();
        container.gone();
    }
}

fn said_at_the_very_end(t: &T) {
    others(t);
    t.differs("runc", "looks at the process first");
    let manager = Manager::new(t);
    for detached in [true, false] {
        let mut bundle = Bundle::new(t, &["do", r#"["notify", "READY=1"]"#]);
        let container = Container::new(t, &mut bundle);
        let call = container.run_call().arg("--pid-file").arg(t.dir().join("pid"));
        let call = if detached { call.arg("--detach") } else { call };
        let running = call.env("NOTIFY_SOCKET", &manager.path).start();
        let (lines, barrier) = manager.take();
        assert_eq!(lines.first().unwrap(), "READY=1");
        drop(barrier);
        running.done().expect(0);
        adopt(t, &container);
        container.call("delete").arg("--force").ok();
    }
}

fn only_what_is_the_containers_to_say(t: &T) {
    others(t);
    t.differs("runc", "takes READY=0 for a word of readiness");
    let manager = Manager::new(t);
    let mut words = vec!["do".to_owned()];
    let lies =
        ["MAINPID=1", "FDSTORE=1", "READY=0", "STATUS=READY=1", "WATCHDOG=trigger", "NOTIFYACCESS=all"];
    // More than a socket's queue has room for: somebody reads them.
    let many = lies.iter().cycle().take(2000);
    words.extend(many.map(|lie| json!(["notify", lie]).to_string()));
    words.push(r#"["sleep", 300]"#.to_owned());
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    for command in [&["--detach"][..], &[]] {
        let mut bundle = Bundle::new(t, &words);
        let container = Container::new(t, &mut bundle);
        let call = container.run_call().args(command).arg("--pid-file").arg(t.dir().join("pid"));
        let done = call.env("NOTIFY_SOCKET", &manager.path).done().expect(0);
        assert!(!manager.waits(50), "none of that goes on: {done}");
        adopt(t, &container);
        container.call("delete").arg("--force").ok();
    }
}

fn who_does_not_know_barriers(t: &T) {
    others(t);
    let manager = Manager::new(t);
    let mut bundle = slow(t, 0);
    let container = Container::new(t, &mut bundle);
    let call = container.run_call().arg("--detach").env("NOTIFY_SOCKET", &manager.path);
    let running = call.within(Duration::from_secs(50)).start();
    let (lines, barrier) = manager.take();
    assert!(lines.contains(&"READY=1".to_owned()));
    // It keeps the descriptor.
    let before = std::time::Instant::now();
    running.done().expect(0);
    let waited = before.elapsed().as_secs();
    assert!((25..45).contains(&waited), "{waited} s");
    drop(barrier);
    container.pid();
    container.end();
}

fn not_for_added_programs(t: &T) {
    let manager = Manager::new(t);
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    let file = t.dir().join("listens");
    fs::write(&file, "").unwrap();
    let call = container.create_call().env("NOTIFY_SOCKET", &manager.path).env("LISTEN_FDS", "1");
    let leak = format!("3={}", file.display());
    container.create_with(call.launched(["--fd", &leak, "--env-pid", "LISTEN_PID"]));
    let seen =
        container.call("exec").env("NOTIFY_SOCKET", &manager.path).then(["/payload", "report"]).ok().json();
    let env = seen["env"].to_string();
    assert!(!env.contains("NOTIFY_SOCKET") && !env.contains("LISTEN_"), "{env}");
    container.call("delete").arg("--force").ok();
    container.gone();
}

fn wrong_addresses(t: &T) {
    others(t);
    t.differs("runc", "ignores what it cannot connect to");
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    let container = Container::new(t, &mut bundle);
    for address in ["relative/socket", "vsock:2:1", "@"] {
        for call in [container.run_call(), container.create_call()] {
            let done = call.env("NOTIFY_SOCKET", address).done().expect(1);
            assert!(done.message().contains("NOTIFY_SOCKET is neither"), "{done}");
            container.gone();
        }
    }
    let nobody = t.dir().join("nobody");
    for (address, text) in
        [(nobody.display().to_string(), "enoent"), ("@nobody-listens-here".to_owned(), "econnrefused")]
    {
        let done = container.run_call().env("NOTIFY_SOCKET", &address).done().expect(1);
        let message = done.message().to_lowercase();
        assert!(message.contains("connect to notify_socket") && message.contains(text), "{done}");
        container.gone();
    }
    container.run_call().env("NOTIFY_SOCKET", "").done().expect(0);
    container.gone();
}

fn abstract_address(t: &T) {
    others(t);
    let name = format!("coracle-test-{}-{}", std::process::id(), t.name);
    let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let manager = Manager { path: PathBuf::new(), socket };
    let mut bundle = slow(t, 0);
    let container = Container::new(t, &mut bundle);
    let running = container.run_call().arg("--detach").env("NOTIFY_SOCKET", format!("@{name}")).start();
    let (lines, barrier) = manager.take();
    assert!(lines.contains(&format!("MAINPID={}", container.pid())), "{lines:?}");
    drop(barrier);
    running.done().expect(0);
    container.end();
}

fn created_without(t: &T) {
    others(t);
    t.differs("runc", "another message");
    let manager = Manager::new(t);
    let mut bundle = slow(t, 0);
    let container = Container::new(t, &mut bundle);
    container.create();
    let done = container.call("start").env("NOTIFY_SOCKET", &manager.path).done().expect(1);
    assert!(done.message().contains("created without a notification socket"), "{done}");
    assert_eq!(container.status(), "created", "nothing was started");
    container.start();
    assert_eq!(container.status(), "running");
    container.end();
}

fn started_without(t: &T) {
    others(t);
    let manager = Manager::new(t);
    let mut bundle = Bundle::new(t, &["do", r#"["notify", "READY=1"]"#, r#"["list", "/run/notify"]"#]);
    let container = Container::new(t, &mut bundle);
    container.create_with(container.create_call().env("NOTIFY_SOCKET", &manager.path));
    container.start();
    container.wait();
    let answers: Value = serde_json::from_str(&container.printed()).unwrap();
    assert!(is_error(&answers[0], "ENOENT"), "nobody listens: {answers}");
    assert_eq!(answers[1]["ok"], json!([]));
    container.delete();
    container.gone();
}

fn what_a_container_leaves_there(t: &T) {
    others(t);
    let manager = Manager::new(t);
    // With the rights of the machine's root, and its mount namespace's, the directory can be written to: it goes all the same.
    let remount = json!(["mount", "none", "/run/notify", "", 0x1020]).to_string();
    let mut bundle = Bundle::new(
        t,
        &[
            "do",
            &remount,
            r#"["mkdir", "/run/notify/a"]"#,
            r#"["mkdir", "/run/notify/a/b"]"#,
            r#"["symlink", "/etc", "/run/notify/a/c"]"#,
        ],
    );
    bundle.set("/process/capabilities", json!({"bounding": ["CAP_SYS_ADMIN"], "effective": ["CAP_SYS_ADMIN"], "permitted": ["CAP_SYS_ADMIN"]}));
    let container = Container::new(t, &mut bundle);
    let done = container.run_call().env("NOTIFY_SOCKET", &manager.path).done().expect(0);
    assert_eq!(done.json()[3], json!({"ok": null}), "{done}");
    container.gone();
    assert!(!container.root.join(&container.id).exists());
}
