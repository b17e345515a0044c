//! Hooks: six kinds, their order, what they see, what their failure does.
use coracle_tests::*;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

cases![
    order_and_states,
    namespaces_and_directories,
    environment,
    arguments,
    nothing_leaks,
    several_of_a_kind,
    failing_before_start,
    failing_start_container,
    failing_poststart,
    failing_poststop,
    message_of_a_failure,
    timeout_kills,
    stubborn_hook,
    no_timeout_is_no_limit,
    wrong_hooks,
    missing_program,
    state_can_be_asked,
];

const KINDS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// Where hooks write: one file outside, which is bound into the container for `startContainer`.
fn log_file(t: &T) -> PathBuf {
    let file = t.dir().join("hooks");
    fs::write(&file, "").unwrap();
    file
}

/// A hook that notes what it sees in the file.
fn noting(kind: &str, file: &Path, words: &[&str]) -> Value {
    let program = if kind == "startContainer" {
        "/payload".to_owned()
    } else {
        harness::payload().display().to_string()
    };
    let file = if kind == "startContainer" { "/hooks".to_owned() } else { file.display().to_string() };
    let mut args = vec!["payload".to_owned(), "hook".to_owned(), file, kind.to_owned()];
    args.extend(words.iter().map(|word| (*word).to_owned()));
    json!({"path": program, "args": args, "env": ["A=1", "B=two"]})
}

fn with_hooks(t: &T, words: &[&str], kinds: &[&str]) -> (Bundle, PathBuf) {
    let file = log_file(t);
    let mut bundle = Bundle::new(t, words);
    bundle.bind(&file, "/hooks", &["rw"]);
    for kind in kinds {
        bundle.add(&format!("/hooks/{kind}"), noting(kind, &file, &[]));
    }
    (bundle, file)
}

fn notes(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn kinds(notes: &[Value]) -> Vec<&str> {
    notes.iter().filter_map(|note| note["hook"].as_str()).collect()
}

fn order_and_states(t: &T) {
    t.differs("runc", "poststart says created");
    t.differs("crun", "create-time hooks say created");
    let (mut bundle, file) = with_hooks(t, &["ready"], &KINDS);
    bundle.set("/annotations", json!({"a": "b"}));
    let container = Container::new(t, &mut bundle);
    container.create();
    let pid = container.pid();
    assert_eq!(kinds(&notes(&file)), ["prestart", "createRuntime", "createContainer"], "by create");
    container.start();
    assert_eq!(kinds(&notes(&file)).get(3..), Some(&["startContainer", "poststart"][..]), "by start");
    container.until("ready");
    container.kill("KILL").wait();
    container.delete();
    let seen = notes(&file);
    assert_eq!(kinds(&seen), KINDS, "by delete");
    for (note, status) in
        seen.iter().zip(["creating", "creating", "creating", "created", "running", "stopped"])
    {
        let state = &note["state"];
        assert_eq!(state["id"], json!(container.id), "{note}");
        assert_eq!(state["bundle"], json!(container.bundle.dir), "{note}");
        assert_eq!(state["annotations"]["a"], "b", "{note}");
        assert!(state["ociVersion"].as_str().is_some_and(|version| version.starts_with("1.")), "{note}");
        assert_eq!(state["status"], status, "{note}");
        match note["hook"].as_str().unwrap() {
            "poststop" => assert!(state["pid"].as_i64().unwrap_or(0) == 0, "{note}"),
            "startContainer" => assert_eq!(state["pid"], 1, "the pid inside: {note}"),
            "createContainer" => assert!([json!(pid), json!(1)].contains(&state["pid"]), "{note}"),
            _ => assert_eq!(state["pid"], json!(pid), "{note}"),
        }
    }
}

fn namespaces_and_directories(t: &T) {
    let (mut bundle, file) = with_hooks(t, &["ready"], &KINDS);
    let container = Container::new(t, &mut bundle);
    container.ready();
    let pid = container.pid();
    let inside = |kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().display().to_string();
    let (mount, network) = (inside("mnt"), inside("net"));
    container.end();
    let own = fs::read_link("/proc/self/ns/mnt").unwrap().display().to_string();
    for note in notes(&file) {
        let kind = note["hook"].as_str().unwrap();
        if ["createContainer", "startContainer"].contains(&kind) {
            assert_eq!(note["net"], json!(network), "{kind}");
            assert_eq!(note["mnt"], json!(mount), "{kind}");
        } else {
            assert_eq!(note["mnt"], json!(own), "{kind}");
        }
        let cwd = note["cwd"].as_str().unwrap();
        if kind == "startContainer" {
            assert_eq!(cwd, "/", "{kind}");
        } else if kind == "createContainer" {
            assert_eq!(cwd, container.bundle.rootfs().display().to_string(), "{kind}");
        } else if t.ours() {
            assert_eq!(cwd, container.bundle.dir.display().to_string(), "{kind}");
        }
    }
}

fn environment(t: &T) {
    let (mut bundle, file) = with_hooks(t, &["exit", "0"], &KINDS);
    let container = Container::new(t, &mut bundle);
    container.run().expect(0);
    for note in notes(&file) {
        assert_eq!(note["env"], json!(["A=1", "B=two"]), "exactly the configured one: {note}");
    }
}

fn arguments(t: &T) {
    let file = log_file(t);
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    bundle.add("/hooks/createRuntime", noting("createRuntime", &file, &["", "a b", "ü"]));
    Container::new(t, &mut bundle).run().expect(0);
    assert_eq!(notes(&file)[0]["words"], json!(["", "a b", "ü"]));
}

fn nothing_leaks(t: &T) {
    let (mut bundle, file) = with_hooks(t, &["exit", "0"], &KINDS);
    let container = Container::new(t, &mut bundle);
    container.run_call().launched(["--leak", "/", "--fd", "40=/etc"]).done().expect(0);
    for note in notes(&file) {
        for fd in note["fds"].as_array().unwrap() {
            assert!(fd["fd"].as_i64().unwrap() <= 2 || !t.ours(), "{note}");
            let target = fd["target"].as_str().unwrap();
            assert!(target != "/" && target != "/etc" || !t.ours(), "{note}");
        }
    }
}

fn several_of_a_kind(t: &T) {
    let file = log_file(t);
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    for name in ["one", "two", "three"] {
        let mut hook = noting("createRuntime", &file, &[]);
        hook["args"][3] = json!(name);
        bundle.add("/hooks/createRuntime", hook);
    }
    Container::new(t, &mut bundle).run().expect(0);
    assert_eq!(kinds(&notes(&file)), ["one", "two", "three"]);
}

fn failing_before_start(t: &T) {
    t.differs("crun", "the exit code is 255");
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let file = log_file(t);
        let mut bundle = Bundle::new(t, &["print", "it runs"]);
        bundle.bind(&file, "/hooks", &["rw"]);
        bundle.add(&format!("/hooks/{kind}"), noting(kind, &file, &["exit", "3"]));
        bundle.add(&format!("/hooks/{kind}"), noting(kind, &file, &[]));
        bundle.add("/hooks/poststop", noting("poststop", &file, &[]));
        let container = Container::new(t, &mut bundle);
        for call in [container.create_call(), container.run_call()] {
            fs::write(&file, "").unwrap();
            let done = call.done().expect(1);
            let error = done.error();
            if t.ours() {
                assert_eq!(error["pointer"], json!(format!("/hooks/{kind}/0")), "{error}");
            }
            assert_eq!(done.out, "");
            let seen = notes(&file);
            let expected: &[&str] = if t.ours() { &[kind, "poststop"] } else { &[kind] };
            assert_eq!(
                kinds(&seen).get(..expected.len()),
                Some(expected),
                "the second one is not run, poststop is"
            );
            container.gone();
        }
    }
}

fn failing_start_container(t: &T) {
    t.differs("runc", "start does not wait for the hook");
    t.differs("crun", "start does not wait for the hook");
    let file = log_file(t);
    let mut bundle = Bundle::new(t, &["print", "it runs"]);
    bundle
        .bind(&file, "/hooks", &["rw"])
        .add("/hooks/startContainer", noting("startContainer", &file, &["exit", "3"]));
    let container = Container::new(t, &mut bundle);
    container.create();
    container.call("start").done().error();
    container.wait();
    assert!(!container.printed().contains("it runs"));
    container.gone();
}

fn failing_poststart(t: &T) {
    t.differs("crun", "a failing poststart hook is a warning");
    t.differs("runc", "a failing poststart hook is a warning");
    let file = log_file(t);
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.add("/hooks/poststart", noting("poststart", &file, &["exit", "3"]));
    bundle.add("/hooks/poststop", noting("poststop", &file, &[]));
    let container = Container::new(t, &mut bundle);
    container.create();
    let pid = container.pid();
    container.call("start").done().expect(1).error();
    runtime::wait_until("the end of the container", || !host::alive(pid));
    container.gone();
    assert_eq!(kinds(&notes(&file)), ["poststart", "poststop"]);
}

fn failing_poststop(t: &T) {
    t.differs("runc", "runc 1.1 stops at the first failing hook");
    let file = log_file(t);
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    bundle.add("/hooks/poststop", noting("poststop", &file, &["exit", "3"]));
    bundle.add("/hooks/poststop", noting("poststop", &file, &[]));
    let container = Container::new(t, &mut bundle);
    container.up().wait();
    container.call("delete").done().expect(0);
    assert_eq!(notes(&file).len(), 2, "the others still run");
    container.gone();
}

fn message_of_a_failure(t: &T) {
    t.differs("crun", "the output of a hook is the caller's");
    let file = log_file(t);
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    bundle.add(
        "/hooks/createRuntime",
        noting("createRuntime", &file, &["say", "the reason of the hook", "exit", "3"]),
    );
    let container = Container::new(t, &mut bundle);
    let done = container.run().expect(1);
    let message = done.message();
    assert!(message.contains("the reason of the hook"), "{message}");
    assert!(message.contains('3'), "the exit code: {message}");
}

fn timeout_kills(t: &T) {
    t.differs("crun", "two errors in the log");
    let file = log_file(t);
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    let mut hook = noting("createRuntime", &file, &["sleep", "30000"]);
    hook["timeout"] = json!(1);
    bundle.add("/hooks/createRuntime", hook);
    let container = Container::new(t, &mut bundle);
    let done = container.run_call().within(Duration::from_secs(20)).done().expect(1);
    assert!(done.time > Duration::from_millis(900) && done.time < Duration::from_secs(10), "{:?}", done.time);
    let error = done.error();
    if t.ours() {
        assert_eq!(error["pointer"], "/hooks/createRuntime/0", "{error}");
    }
    container.gone();
}

fn stubborn_hook(t: &T) {
    t.differs("runc", "waits for the end of a pipe that a grandchild holds");
    let file = log_file(t);
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    let mut hook = noting("createRuntime", &file, &["stubborn"]);
    hook["timeout"] = json!(1);
    bundle.add("/hooks/createRuntime", hook);
    let container = Container::new(t, &mut bundle);
    let done = container.run_call().within(Duration::from_secs(30)).done().expect(1);
    assert!(done.time < Duration::from_secs(10), "it does not wait for strangers: {:?}", done.time);
    container.gone();
}

fn no_timeout_is_no_limit(t: &T) {
    let file = log_file(t);
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    bundle.add("/hooks/createRuntime", noting("createRuntime", &file, &["sleep", "2500"]));
    let container = Container::new(t, &mut bundle);
    let done = container.run().expect(0);
    assert!(done.time > Duration::from_millis(2400), "{:?}", done.time);
}

fn wrong_hooks(t: &T) {
    t.differs("runc", "a wrong hook is found when it is run");
    t.differs("crun", "a wrong hook is found when it is run");
    for (hook, pointer) in [
        (json!({"path": "relative/path"}), "/hooks/poststop/0/path"),
        (json!({"path": ""}), "/hooks/poststop/0/path"),
        (json!({"args": ["x"]}), "/hooks/poststop/0"),
        (json!({"path": "/bin/true", "timeout": 0}), "/hooks/poststop/0/timeout"),
        (json!({"path": "/bin/true", "timeout": -1}), "/hooks/poststop/0/timeout"),
    ] {
        let mut bundle = Bundle::new(t, &["exit", "0"]);
        bundle.add("/hooks/poststop", hook.clone());
        let container = Container::new(t, &mut bundle);
        let error = container.create_call().done().expect(1).error();
        let named = error["pointer"].as_str().unwrap_or("");
        assert!(named.starts_with(pointer), "{hook}: {error}");
        container.gone();
    }
}

fn missing_program(t: &T) {
    t.differs("crun", "the exit code is 255");
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let mut bundle = Bundle::new(t, &["print", "it runs"]);
        bundle.add(&format!("/hooks/{kind}"), json!({"path": "/no/such/hook"}));
        let container = Container::new(t, &mut bundle);
        let done = container.run().expect(1);
        assert!(is_missing(&done.error()), "{done}");
        container.gone();
    }
}

fn state_can_be_asked(t: &T) {
    // A hook may call the runtime for the state of its container: nobody holds a lock against it.
    let root = t.dir().join("state");
    let script = t.dir().join("ask");
    let out = t.dir().join("answer");
    let text = format!(
        "#!/bin/sh\n{} --root {} state \"$1\" > {} 2>&1\necho code $? >> {}\n",
        t.runtime.path.display(),
        root.display(),
        out.display(),
        out.display()
    );
    bundle::write_program(&script, &text);
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.add("/hooks/poststart", json!({"path": "/bin/sh", "args": ["sh", script, "ID"], "timeout": 10}));
    let container = Container::new(t, &mut bundle);
    let mut spec = container.bundle.spec.clone();
    spec["hooks"]["poststart"][0]["args"][2] = json!(container.id);
    container.bundle.write_text(&spec.to_string());
    container.up();
    let answer = fs::read_to_string(&out).unwrap();
    assert!(answer.contains("code 0") && answer.contains(&container.id), "{answer}");
    container.end();
}
