//! A1, A2: the runtime's process and program, seen from inside.
use super::rounds;
use coracle_tests::*;
use rustix::fs::{Mode, OFlags, open};
use std::fs;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::Stdio;

cases![
    program_as_interpreter,
    program_as_argument,
    program_as_loader,
    program_overwritten,
    moved_first,
    executed_where_it_cannot_move,
    held_program,
    memory_of_run,
    memory_of_exec,
    constants_of_run,
];

// What the watcher traced may come to us as an orphan: all children are reaped here, so no other case may run.
cases_alone![watched_execs, watched_execs_in_a_user_namespace, watched_create];

/// A copy of the runtime in the case's directory: if an attack works, it is the copy that suffers.
fn copy(t: &T) -> Runtime {
    let path = t.dir().join(t.runtime.path.file_name().unwrap());
    bundle::copy_program(&t.runtime.path, &path);
    Runtime::at(&path)
}

/// The calls that `run` makes, with these arguments for strace(1).
fn calls_of_run(t: &T, arguments: &[&str], change: impl Fn(&mut Bundle)) -> Vec<String> {
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    change(&mut bundle);
    let container = Container::new(t, &mut bundle);
    let trace = t.dir().join("calls");
    let mut strace = std::process::Command::new("strace");
    strace.args(["-qq", "-o"]).arg(&trace).args(arguments);
    strace.arg(&t.runtime.path).arg("--root").arg(&container.root);
    strace.arg("run").arg("--bundle").arg(&container.bundle.dir).arg(&container.id);
    strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    // Other cases copy programs meanwhile.
    let done = bundle::spawn(&mut strace).unwrap().wait_with_output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    fs::read_to_string(&trace).unwrap().lines().map(str::to_owned).collect()
}

fn place(calls: &[String], start: &str) -> Option<usize> {
    calls.iter().position(|call| call.starts_with(start))
}

/// The program moves to its read-only place at its entry point: nothing of the C library was started before.
fn moved_first(t: &T) {
    t.differs("runc", "it has no entry point of its own");
    t.differs("crun", "it has no entry point of its own");
    t.needs(&[Need::Program("strace")]);
    let calls = calls_of_run(t, &[], |_| ());
    let moved = place(&calls, "prctl(PR_SET_MM, PR_SET_MM_MAP").expect("it is another file's program");
    assert!(calls[moved].ends_with(" = 0"), "{}", calls[moved]);
    assert!(moved < place(&calls, "arch_prctl").unwrap(), "{calls:?}");
    assert_eq!(place(&calls, "execveat"), None, "nothing is executed twice");
    // Whatever is executed later does not have the clone.
    let clone = place(&calls, "open_tree").unwrap();
    assert!(clone < moved && calls[clone].contains("OPEN_TREE_CLOEXEC"), "{}", calls[clone]);
}

/// Where the kernel does not let it, the program is executed from such a place.
fn executed_where_it_cannot_move(t: &T) {
    t.differs("runc", "a way of its own");
    t.differs("crun", "a way of its own");
    t.needs(&[Need::Program("strace")]);
    let calls = calls_of_run(t, &["--inject=prctl:error=EINVAL:when=1"], |_| ());
    let refused = place(&calls, "prctl(PR_SET_MM, PR_SET_MM_MAP").unwrap();
    assert!(calls[refused].contains("EINVAL"), "{}", calls[refused]);
    let again = place(&calls, "execveat").expect("it executes itself");
    assert!(refused < again && again < place(&calls, "clone3").unwrap(), "{calls:?}");
}

/// The child of `run` is in the command's memory where nobody can use that, and else in its own.
fn memory_of_run(t: &T) {
    t.differs("runc", "a way of its own");
    t.differs("crun", "a way of its own");
    t.needs(&[Need::Program("strace")]);
    let shared = |change: &dyn Fn(&mut Bundle)| {
        let calls = calls_of_run(t, &[], change);
        let child = calls.iter().rfind(|call| call.starts_with("clone3(") && call.contains("CLONE_PIDFD"));
        child.unwrap().contains("CLONE_VM")
    };
    assert!(shared(&|_| ()));
    assert!(!shared(&|bundle| _ = bundle.without_namespace("pid")));
    assert!(!shared(&|bundle| _ = bundle.set("/process/oomScoreAdj", json!(100))));
    let hook = json!({"createContainer": [{"path": "/bin/true"}]});
    assert!(!shared(&|bundle| _ = bundle.set("/hooks", hook.clone())));
}

/// The first process of an exec is in the command's memory where nobody can use that, the second never.
fn memory_of_exec(t: &T) {
    t.differs("runc", "a way of its own");
    t.differs("crun", "a way of its own");
    t.needs(&[Need::Program("strace")]);
    let clones = |change: &dyn Fn(&mut Bundle), process: &Value| {
        let mut bundle = Bundle::new(t, &["ready"]);
        change(&mut bundle);
        let container = Container::new(t, &mut bundle);
        container.ready();
        let mut words = json!({"cwd": "/", "args": ["/payload", "exit", "0"], "user": {"uid": 0, "gid": 0}});
        words.as_object_mut().unwrap().extend(process.as_object().cloned().unwrap_or_default());
        let (document, trace) = (t.dir().join("process.json"), t.dir().join("calls"));
        fs::write(&document, words.to_string()).unwrap();
        let mut strace = std::process::Command::new("strace");
        strace.args(["-f", "-qq", "-e", "trace=clone3", "-o"]).arg(&trace).arg(&t.runtime.path);
        strace.arg("--root").arg(&container.root).args(["exec", "--process"]).arg(&document);
        strace.arg(&container.id).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let done = bundle::spawn(&mut strace).unwrap().wait_with_output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        container.end();
        let text = fs::read_to_string(&trace).unwrap();
        // A call that another process's comes between has two lines.
        let calls = text.lines().filter(|line| !line.contains("resumed>"));
        calls.map(|call| call.contains("CLONE_VM")).collect::<Vec<bool>>()
    };
    let (plain, same) = (json!({}), |_: &mut Bundle| ());
    assert_eq!(clones(&same, &plain), [true, false]);
    assert_eq!(clones(&same, &json!({"oomScoreAdj": 100})), [false, false]);
    assert_eq!(clones(&|bundle| _ = bundle.without_namespace("pid"), &plain), [false]);
    let limit = json!({"limit": 64 << 20});
    if cgroup::has("memory") {
        let limited = |bundle: &mut Bundle| _ = bundle.set("/linux/resources/memory", limit.clone());
        assert_eq!(clones(&limited, &plain), [false, false]);
    }
}

/// Tables of functions are constants: nothing of the program can be written but its variables.
fn constants_of_run(t: &T) {
    t.differs("runc", "a loader's work");
    t.differs("crun", "a loader's work");
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    let running = container.run_call().start();
    running.until("ready");
    let maps = fs::read_to_string(format!("/proc/{}/maps", running.child.id())).unwrap();
    let own: Vec<&str> = maps.lines().filter(|line| line.ends_with("/coracle")).collect();
    let may = |rights: &str| own.iter().filter(|line| line.contains(rights)).count();
    assert_eq!((may(" rw"), may(" rwx"), may(" -wx")), (1, 0, 0), "{maps}");
    assert!(may(" r-xp") > 0 && may(" r--p") > 1, "{maps}");
    container.kill("KILL");
    running.done();
}

/// Whoever has held on to the runtime's program cannot write it when that has ended.
fn held_program(t: &T) {
    t.differs("runc", "what can be held is a copy");
    t.differs("crun", "what can be held is a copy");
    let runtime = copy(t);
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    let call =
        Call::new(&runtime, t.dir(), &container.root, "run").arg("--bundle").arg(&container.bundle.dir);
    let running = call.id(&container.id).start();
    running.until("ready");
    let (path, none) = (format!("/proc/{}/exe", running.child.id()), Mode::empty());
    let held = open(path, OFlags::PATH | OFlags::CLOEXEC, none).unwrap();
    container.kill("KILL");
    running.done();
    let same = fs::metadata(&runtime.path).unwrap();
    assert_eq!(rustix::fs::fstat(&held).unwrap().st_ino, std::os::unix::fs::MetadataExt::ino(&same));
    let again = format!("/proc/self/fd/{}", held.as_raw_fd());
    assert_eq!(open(again, OFlags::WRONLY | OFlags::CLOEXEC, none).unwrap_err(), rustix::io::Errno::ROFS);
}

fn watched(t: &T, bundle: &mut Bundle) {
    let container = Container::new(t, bundle);
    container.up().until("ready");
    let mut execs = 0;
    while container.status() == "running" && execs < rounds(300) {
        // It may end in between: the watch has a time limit.
        let _ = container.call("exec").then(["/payload", "exit", "0"]).done();
        execs += 1;
    }
    end_of(&container);
    let printed = container.printed();
    let seen: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    assert_eq!(seen["got"], json!([]), "{seen}");
    let visible = seen["seen"].as_u64().unwrap();
    assert!(visible > 5, "not exercised: {execs} execs, {seen}");
    container.delete();
}

/// Waits for the end of the watcher, and reaps whatever it has kept.
fn end_of(container: &Container<'_>) {
    runtime::wait_until("the end of the watcher", || {
        host::reap();
        container.status() == "stopped"
    });
}

fn watched_execs(t: &T) {
    let mut bundle = Bundle::new(t, &["attack", "watch", "6"]);
    watched(t, &mut bundle);
}

fn watched_execs_in_a_user_namespace(t: &T) {
    t.needs(&[Need::UserNamespaces]);
    let mut bundle = Bundle::new(t, &["attack", "watch", "6"]);
    // Root of the namespace, with every capability there.
    let all = json!([
        "CAP_SYS_PTRACE",
        "CAP_SYS_ADMIN",
        "CAP_DAC_OVERRIDE",
        "CAP_DAC_READ_SEARCH",
        "CAP_SETUID",
        "CAP_SETGID"
    ]);
    bundle
        .user_namespace(500_000)
        .set("/process/capabilities", json!({"bounding": all, "effective": all, "permitted": all}));
    watched(t, &mut bundle);
}

fn watched_create(t: &T) {
    let mut attacker = Bundle::new(t, &["attack", "watch", "6"]);
    let attacker = Container::new(t, &mut attacker);
    attacker.up().until("ready");
    let path = format!("/proc/{}/ns/pid", attacker.pid());
    let mut count = 0;
    while attacker.status() == "running" && count < rounds(150) {
        let mut bundle = Bundle::new(t, &["exit", "0"]);
        bundle.without_namespace("pid").add("/linux/namespaces", json!({"type": "pid", "path": path}));
        // The same file as the attacker's: what is not this file is the runtime.
        bundle.set("/root/path", json!(attacker.bundle.rootfs()));
        let container = Container::new(t, &mut bundle);
        if container.create_call().done().code() == 0 {
            container.pid();
            let _ = container.call("start").done();
        }
        count += 1;
    }
    end_of(&attacker);
    let printed = attacker.printed();
    let seen: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    assert_eq!(seen["got"], json!([]), "{seen}");
    assert!(seen["seen"].as_u64().unwrap() > 2, "not exercised: {count} containers, {seen}");
    attacker.delete();
}

/// Puts an executable file into the bundle.
fn program(bundle: &Bundle, path: &str, bytes: &[u8]) {
    bundle::write_program(&bundle.inside(path), bytes);
}

/// Runs it as the container's process and by exec; whatever comes out, the program's file must be what it was.
fn unchanged(t: &T, make: impl Fn(&mut Bundle), args: &Value) {
    let runtime = copy(t);
    let before = fs::read(&runtime.path).unwrap();
    let mut bundle = Bundle::new(t, &[]);
    make(&mut bundle);
    bundle.set("/process/args", args.clone());
    let container = Container::new(t, &mut bundle);
    let call =
        Call::new(&runtime, t.dir(), &container.root, "run").arg("--bundle").arg(&container.bundle.dir);
    let done = call.id(&container.id).done();
    // It ran what the runtime is, inside and unprivileged, or it did not run at all.
    assert!(!done.out.contains("\"uidMap\""), "{done}");
    assert_eq!(fs::read(&runtime.path).unwrap(), before);
    drop(container);
    let mut bundle = Bundle::new(t, &["ready"]);
    make(&mut bundle);
    let container = Container::new(t, &mut bundle);
    container.ready();
    let words: Vec<&str> = args.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let call = Call::new(&runtime, t.dir(), &container.root, "exec").id(&container.id).then(words);
    let _ = call.done();
    assert_eq!(fs::read(&runtime.path).unwrap(), before);
    container.end();
}

fn program_as_interpreter(t: &T) {
    unchanged(t, |bundle| program(bundle, "/evil", b"#!/proc/self/exe\n"), &json!(["/evil", "report"]));
}

fn program_as_argument(t: &T) {
    unchanged(t, |_| {}, &json!(["/proc/self/exe", "report"]));
}

/// The least program that names a loader: a header and two segments.
fn elf_with_loader(loader: &str) -> Vec<u8> {
    let machine: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let half = |bytes: &mut Vec<u8>, value: u16| bytes.extend(value.to_le_bytes());
    let word = |bytes: &mut Vec<u8>, value: u32| bytes.extend(value.to_le_bytes());
    let long = |bytes: &mut Vec<u8>, value: u64| bytes.extend(value.to_le_bytes());
    half(&mut bytes, 2);
    half(&mut bytes, machine);
    word(&mut bytes, 1);
    long(&mut bytes, 0x40_0000);
    long(&mut bytes, 64);
    long(&mut bytes, 0);
    word(&mut bytes, 0);
    for value in [64, 56, 2, 0, 0, 0] {
        half(&mut bytes, value);
    }
    let length = loader.len() as u64 + 1;
    for (kind, offset, size) in [(3u32, 176u64, length), (1, 0, 176 + length)] {
        word(&mut bytes, kind);
        word(&mut bytes, 5);
        for value in [offset, 0x40_0000 + offset, 0x40_0000 + offset, size, size, 4096] {
            long(&mut bytes, value);
        }
    }
    bytes.extend(loader.as_bytes());
    bytes.push(0);
    bytes
}

fn program_as_loader(t: &T) {
    let bytes = elf_with_loader("/proc/self/exe");
    unchanged(t, |bundle| program(bundle, "/evil", &bytes), &json!(["/evil"]));
}

fn program_overwritten(t: &T) {
    // Inside, somebody holds whatever program passes by and writes to it when it is not running any more.
    let runtime = copy(t);
    let before = fs::read(&runtime.path).unwrap();
    let mut bundle = Bundle::new(t, &["attack", "overwrite", "8"]);
    program(&bundle, "/evil", b"#!/proc/self/exe\n");
    let all = json!(["CAP_DAC_OVERRIDE", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER"]);
    bundle.set("/process/capabilities", json!({"bounding": all, "effective": all, "permitted": all}));
    let container = Container::new(t, &mut bundle);
    container.up().until("ready");
    let mut count = 0;
    while container.status() == "running" && count < rounds(100) {
        for words in [&["/evil"][..], &["/proc/self/exe", "list"], &["/payload", "exit", "0"]] {
            let call = Call::new(&runtime, t.dir(), &container.root, "exec").id(&container.id).then(words);
            let _ = call.besieged().done();
        }
        count += 1;
    }
    container.wait();
    let printed = container.printed();
    let seen: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    let path: PathBuf = runtime.path.clone();
    assert_eq!(fs::read(&path).unwrap(), before, "{seen}");
    assert!(!seen["written"].to_string().contains("true"), "{seen}");
    assert!(count > 5, "not exercised: {seen}");
    container.delete();
}
