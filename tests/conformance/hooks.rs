//! Hooks: when each kind is called, where, with what, and what its failure does.
use crate::rule::*;
use coracle_tests::*;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const KINDS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A file outside in which hooks note what they see, bound into the container for those of `startContainer`.
fn log_file(t: &T, bundle: &mut Bundle) -> PathBuf {
    let file = t.dir().join("hooks");
    fs::write(&file, "").unwrap();
    bundle.bind(&file, "/hooks", &["rw"]);
    file
}

/// A hook that notes what it sees, as the n-th of the case.
fn noting(kind: &str, file: &Path, name: &str, words: &[&str]) -> Value {
    let inside = kind == "startContainer";
    let program = if inside { Path::new("/payload") } else { harness::payload() };
    let file = if inside { Path::new("/hooks") } else { file };
    let mut args = vec![json!("the hook"), json!("hook"), json!(file), json!(name)];
    args.extend(words.iter().map(|word| json!(word)));
    json!({"path": program, "args": args, "env": ["A=1", "B=two words"]})
}

fn notes(file: &Path) -> Vec<Value> {
    fs::read_to_string(file).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn names(file: &Path) -> Vec<String> {
    notes(file).iter().map(|note| note["hook"].as_str().unwrap().to_owned()).collect()
}

/// The life of a container with one hook: what the hook noted, the mount namespace of the container and the operation that called the
/// hook, what the state has to be.
fn one(t: &T, kind: &str, words: &[&str]) -> (Value, Value, Value) {
    let mut bundle = fresh(t, &["ready"]);
    let file = log_file(t, &mut bundle);
    bundle.add(&format!("/hooks/{kind}"), noting(kind, &file, kind, words));
    bundle.set("/annotations", json!({"com.example.key": "value"}));
    let container = Container::new(t, &mut bundle);
    container.create();
    let by_create = !names(&file).is_empty();
    let pid = container.pid();
    container.start();
    container.until("ready");
    let by_start = !names(&file).is_empty();
    let namespace = fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap().display().to_string();
    let state = json!({"id": container.id, "pid": pid, "bundle": container.bundle.dir});
    container.end();
    assert_eq!(names(&file), [kind], "it is called once");
    (notes(&file)[0].clone(), json!({"mnt": namespace, "byCreate": by_create, "byStart": by_start}), state)
}

/// In the runtime's namespaces or in the container's.
fn is_where(t: &T, kind: &str) {
    let (note, about, _) = one(t, kind, &[]);
    let number = KINDS.iter().position(|one| *one == kind).unwrap();
    let calls = (about["byCreate"] == true, about["byStart"] == true);
    assert_eq!(calls, (number < 3, number < 5), "called by create, called by start at the latest");
    let own = fs::read_link("/proc/self/ns/mnt").unwrap().display().to_string();
    let inside = ["createContainer", "startContainer"].contains(&kind);
    assert_eq!(note["mnt"], if inside { about["mnt"].clone() } else { json!(own) });
}

/// The state of the container on its standard input.
fn is_told(t: &T, kind: &str, status: &str) {
    let (note, _, about) = one(t, kind, &[]);
    let state = &note["state"];
    assert_eq!((&state["id"], &state["bundle"]), (&about["id"], &about["bundle"]), "{state}");
    assert_eq!(state["annotations"]["com.example.key"], "value", "{state}");
    assert!(state["ociVersion"].is_string(), "{state}");
    assert_eq!(state["status"], status, "{state}");
    match kind {
        "poststop" => assert_eq!(state["pid"].as_i64().unwrap_or(0), 0, "{state}"),
        "startContainer" => assert_eq!(state["pid"], 1, "the number inside: {state}"),
        "createContainer" => assert!([&about["pid"], &json!(1)].contains(&&state["pid"]), "{state}"),
        _ => assert_eq!(state["pid"], about["pid"], "{state}"),
    }
}

/// Arguments and environment are those of the configuration.
fn is_given(t: &T, kind: &str) {
    let (note, ..) = one(t, kind, &["", "a b", "\u{fc}"]);
    assert_eq!(note["words"], json!(["", "a b", "\u{fc}"]));
    let mut env: Vec<&str> =
        note["env"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
    env.sort_unstable();
    assert_eq!(env, ["A=1", "B=two words"]);
}

/// A hook that takes longer than its time is ended, and its operation fails.
fn is_aborted(t: &T, kind: &str) {
    let mut bundle = fresh(t, &["ready"]);
    let file = log_file(t, &mut bundle);
    let mut hook = noting(kind, &file, kind, &["sleep", "20000"]);
    hook["timeout"] = json!(1);
    bundle.add(&format!("/hooks/{kind}"), hook);
    let container = Container::new(t, &mut bundle);
    let create = container.create_call().within(Duration::from_secs(15)).done();
    let mut time = create.time;
    if KINDS[..3].contains(&kind) {
        assert_ne!(create.code(), 0, "{create}");
    } else {
        container.pid();
        let start = container.call("start").within(Duration::from_secs(15)).done();
        time = start.time;
        if kind == "poststop" {
            container.kill("KILL").wait();
            time = container.call("delete").within(Duration::from_secs(15)).done().time;
        } else {
            assert_ne!(start.code(), 0, "{start}");
            container.call("delete").arg("--force").done();
        }
    }
    assert!(time > Duration::from_millis(900), "it had less time: {time:?}");
}

/// A failing hook before the start: no container, what follows is not run, what was to be run at the end is.
fn fails_the_creation(t: &T, kind: &str) {
    let mut bundle = fresh(t, &["ready"]);
    let file = log_file(t, &mut bundle);
    bundle.add(&format!("/hooks/{kind}"), noting(kind, &file, "first", &["exit", "3"]));
    bundle.add(&format!("/hooks/{kind}"), noting(kind, &file, "second", &[]));
    bundle.add("/hooks/poststop", noting("poststop", &file, "poststop", &[]));
    is_refused(t, &mut bundle);
    assert_eq!(names(&file), ["first", "poststop"]);
}

/// A failing hook of the start: the container is stopped and destroyed, and its poststop hooks are called.
fn fails_the_start(t: &T, kind: &str) {
    let mut bundle = fresh(t, &["ready"]);
    let file = log_file(t, &mut bundle);
    bundle.add(&format!("/hooks/{kind}"), noting(kind, &file, "first", &["exit", "3"]));
    bundle.add("/hooks/poststop", noting("poststop", &file, "poststop", &[]));
    let container = Container::new(t, &mut bundle);
    container.create();
    let pid = container.pid();
    let done = container.call("start").done();
    assert_ne!(done.code(), 0, "{done}");
    runtime::wait_until("the end of the process", || !host::alive(pid));
    assert_eq!(
        container.printed().contains("ready"),
        kind == "poststart" && container.printed().contains("ready")
    );
    let asked = container.call("state").done();
    assert_ne!(asked.code(), 0, "it is destroyed: {asked}");
    assert_eq!(names(&file), ["first", "poststop"]);
}

macro_rules! kind {
    ($kind:literal, $place:literal, $where:ident, $told:ident, $given:ident, $aborted:ident, $status:literal) => {
        [
            holds(
                stringify!($where),
                "config.md#posix-platform-hooks",
                concat!(
                    $kind,
                    " hooks MUST be called by the right operation and be executed in the ",
                    $place,
                    " namespace"
                ),
                &[concat!("/hooks/", $kind, "/*/path")],
                |t| is_where(t, $kind),
            ),
            holds(
                stringify!($told),
                "config.md#posix-platform-hooks",
                concat!("the state MUST be passed to ", $kind, " hooks over stdin"),
                &[concat!("/hooks/", $kind, "/*/path")],
                |t| is_told(t, $kind, $status),
            ),
            holds(
                stringify!($given),
                "config.md#posix-platform-hooks",
                concat!("args and env of ", $kind, " hooks are what execve gets (MUST be applied)"),
                &[concat!("/hooks/", $kind, "/*/args"), concat!("/hooks/", $kind, "/*/env")],
                |t| is_given(t, $kind),
            ),
            holds(
                stringify!($aborted),
                "config.md#posix-platform-hooks",
                concat!("a ", $kind, " hook is aborted after its timeout (MUST be applied)"),
                &[concat!("/hooks/", $kind, "/*/timeout")],
                |t| is_aborted(t, $kind),
            ),
        ]
    };
}

const PRESTART: [Rule; 4] = kind!(
    "prestart",
    "runtime",
    prestart_place,
    prestart_state,
    prestart_arguments,
    prestart_timeout,
    "creating"
);
const CREATE_RUNTIME: [Rule; 4] = kind!(
    "createRuntime",
    "runtime",
    create_runtime_place,
    create_runtime_state,
    create_runtime_arguments,
    create_runtime_timeout,
    "creating"
);
const CREATE_CONTAINER: [Rule; 4] = kind!(
    "createContainer",
    "container",
    create_container_place,
    create_container_state,
    create_container_arguments,
    create_container_timeout,
    "creating"
);
const START_CONTAINER: [Rule; 4] = kind!(
    "startContainer",
    "container",
    start_container_place,
    start_container_state,
    start_container_arguments,
    start_container_timeout,
    "created"
);
const POSTSTART: [Rule; 4] = kind!(
    "poststart",
    "runtime",
    poststart_place,
    poststart_state,
    poststart_arguments,
    poststart_timeout,
    "running"
);
const POSTSTOP: [Rule; 4] = kind!(
    "poststop",
    "runtime",
    poststop_place,
    poststop_state,
    poststop_arguments,
    poststop_timeout,
    "stopped"
);

pub const RULES: [&[Rule]; 7] =
    [&PRESTART, &CREATE_RUNTIME, &CREATE_CONTAINER, &START_CONTAINER, &POSTSTART, &POSTSTOP, TOGETHER];

macro_rules! wrong {
    ($name:literal, $says:literal, $fields:expr, $hook:tt) => {
        refused($name, "config.md#posix-platform-hooks", $says, $fields, |bundle| {
            bundle.add("/hooks/poststop", json!($hook))
        })
    };
}

const TOGETHER: &[Rule] = &[
    holds(
        "in_their_order",
        "runtime.md#lifecycle",
        "prestart, createRuntime, createContainer, startContainer, the program, poststart, poststop: MUST be in this order, each in the listed order",
        &["/hooks/prestart", "/hooks/createRuntime", "/hooks/createContainer", "/hooks/startContainer", "/hooks/poststart", "/hooks/poststop"],
        |t| {
            let mut bundle = fresh(t, &["ready"]);
            let file = log_file(t, &mut bundle);
            let mut wanted = Vec::new();
            for kind in KINDS {
                for n in 1..=2 {
                    bundle.add(&format!("/hooks/{kind}"), noting(kind, &file, &format!("{kind} {n}"), &[]));
                    wanted.push(format!("{kind} {n}"));
                }
            }
            let container = Container::new(t, &mut bundle);
            container.ready();
            container.end();
            assert_eq!(names(&file), wanted);
        },
    ),
    holds(
        "mounts_are_made_before",
        "config.md#createcontainer-hooks",
        "the environment MUST be there: namespaces and mounts, and the root not yet changed",
        &["/hooks/createContainer"],
        |t| {
            // The host's path of the root file system is still to be seen, with what is mounted there.
            let mut bundle = fresh(t, &["ready"]);
            let out = t.dir().join("seen");
            let proof = bundle.inside("/proc/self/status");
            let text = format!("#!/bin/sh\nif [ -e {} ]; then echo mounted; fi > {}\n", proof.display(), out.display());
            let script = t.dir().join("look");
            bundle::write_program(&script, &text);
            bundle.add("/hooks/createContainer", json!({"path": script}));
            let container = Container::new(t, &mut bundle);
            container.ready();
            container.end();
            assert_eq!(fs::read_to_string(out).unwrap(), "mounted\n");
        },
    )
    .needs(&[Need::File("/bin/sh")]),
    holds("failing_prestart", "runtime.md#lifecycle", "a failing prestart hook MUST be an error; the container is destroyed and poststop hooks are called",
          &["/hooks/prestart"], |t| fails_the_creation(t, "prestart")),
    holds("failing_create_runtime", "runtime.md#lifecycle", "a failing createRuntime hook MUST be an error; the container is destroyed and poststop hooks are called",
          &["/hooks/createRuntime"], |t| fails_the_creation(t, "createRuntime")),
    holds("failing_create_container", "runtime.md#lifecycle", "a failing createContainer hook MUST be an error; the container is destroyed and poststop hooks are called",
          &["/hooks/createContainer"], |t| fails_the_creation(t, "createContainer")),
    holds("failing_start_container", "runtime.md#lifecycle", "a failing startContainer hook MUST be an error; the container is stopped, destroyed, poststop hooks are called",
          &["/hooks/startContainer"], |t| fails_the_start(t, "startContainer")),
    holds("failing_poststart", "runtime.md#lifecycle", "a failing poststart hook MUST be an error; the container is stopped, destroyed, poststop hooks are called",
          &["/hooks/poststart"], |t| fails_the_start(t, "poststart")),
    holds(
        "failing_poststop",
        "runtime.md#lifecycle",
        "a failing poststop hook MUST be a warning, the remaining hooks are called",
        &["/hooks/poststop"],
        |t| {
            let mut bundle = fresh(t, &["exit", "0"]);
            let file = log_file(t, &mut bundle);
            bundle.add("/hooks/poststop", noting("poststop", &file, "first", &["exit", "3"]));
            bundle.add("/hooks/poststop", noting("poststop", &file, "second", &[]));
            let container = Container::new(t, &mut bundle);
            container.up().wait();
            container.call("delete").done().expect(0);
            assert_eq!(names(&file), ["first", "second"]);
            container.gone();
        },
    ),
    holds(
        "after_the_program",
        "config.md#poststart",
        "poststart hooks MUST be called after the program was executed and before start returns",
        &["/hooks/poststart"],
        |t| {
            // The hook waits until the program has said something; a program that is not executed yet never does.
            let mut bundle = fresh(t, &["ready"]);
            let out = t.dir().join("seen");
            let script = t.dir().join("wait");
            let text = format!(
                "#!/bin/sh\npid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/')\nfor n in 1 2 3 4 5 6 7 8 9 10; do\n\
                 case $(tr '\\0' ' ' < /proc/$pid/cmdline) in '/payload ready '*) echo executed > {}; exit;; esac; sleep 0.1\ndone\n",
                out.display()
            );
            bundle::write_program(&script, &text);
            bundle.add("/hooks/poststart", json!({"path": script, "env": ["PATH=/usr/bin:/bin"]}));
            let container = Container::new(t, &mut bundle);
            container.create().start();
            assert_eq!(fs::read_to_string(out).unwrap_or_default(), "executed\n");
            container.until("ready");
            container.end();
        },
    )
    .needs(&[Need::File("/bin/sh"), Need::File("/usr/bin/tr"), Need::File("/bin/sed")]),
    wrong!("relative_path", "the path MUST be absolute", &["/hooks/poststop/*/path"], {"path": "bin/true"}),
    wrong!("no_path", "the path is REQUIRED", &["/hooks/poststop/*/args"], {"args": ["x"]}),
    wrong!("no_time_at_all", "a timeout MUST be greater than zero", &["/hooks/poststop/*/timeout"], {"path": "/bin/true", "timeout": 0}),
    wrong!("negative_time", "a timeout MUST be greater than zero", &["/hooks/poststop/*/timeout"], {"path": "/bin/true", "timeout": -1}),
    holds(
        "program_that_is_not_there",
        "runtime.md#lifecycle",
        "a hook that cannot be run MUST be an error",
        &["/hooks/createRuntime"],
        |t| {
            let mut bundle = fresh(t, &[]);
            bundle.add("/hooks/createRuntime", json!({"path": "/no/such/hook"}));
            is_refused(t, &mut bundle);
        },
    ),
    holds(
        "no_time_limit",
        "config.md#posix-platform-hooks",
        "without a timeout a hook is not aborted: it is OPTIONAL",
        &["/hooks/createRuntime"],
        |t| {
            let mut bundle = fresh(t, &["exit", "0"]);
            let file = log_file(t, &mut bundle);
            bundle.add("/hooks/createRuntime", noting("createRuntime", &file, "slow", &["sleep", "1500"]));
            Container::new(t, &mut bundle).run().expect(0);
        },
    ),
];
