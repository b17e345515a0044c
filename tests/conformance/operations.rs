//! The operations: state, create, start, kill, delete; the life of a container and what is left of it.
use crate::rule::*;
use coracle_tests::*;
use std::fs;

/// An operation without the id of a container.
fn needs_an_id(t: &T, command: &str) {
    let mut bundle = fresh(t, &[]);
    let container = Container::new(t, &mut bundle);
    let done = container.bare(command).done();
    assert_ne!(done.code(), 0, "{done}");
}

/// An operation on a container that does not exist.
fn needs_a_container(t: &T, command: &str) {
    let mut bundle = fresh(t, &[]);
    let container = Container::new(t, &mut bundle);
    let done = container.call(command).done();
    assert_ne!(done.code(), 0, "{done}");
    container.gone();
}

fn fails(container: &Container<'_>, command: &str, words: &[&str]) {
    let done = container.call(command).then(words).done();
    assert_ne!(done.code(), 0, "{done}");
}

macro_rules! without {
    ($name:literal, $at:literal, $command:literal, $run:ident, $says:literal) => {
        holds($name, $at, $says, &[], |t| $run(t, $command))
    };
}

pub const RULES: &[Rule] = &[
    without!(
        "state_without_id",
        "runtime.md#query-state",
        "state",
        needs_an_id,
        "state without an id MUST be an error"
    ),
    without!(
        "start_without_id",
        "runtime.md#start",
        "start",
        needs_an_id,
        "start without an id MUST be an error"
    ),
    without!(
        "kill_without_id",
        "runtime.md#kill",
        "kill",
        needs_an_id,
        "kill without an id MUST be an error"
    ),
    without!(
        "delete_without_id",
        "runtime.md#delete",
        "delete",
        needs_an_id,
        "delete without an id MUST be an error"
    ),
    holds("create_without_id", "runtime.md#create", "create without an id MUST be an error", &[], |t| {
        let mut bundle = fresh(t, &[]);
        let container = Container::new(t, &mut bundle);
        let done = container.bare("create").arg("--bundle").arg(&container.bundle.dir).done();
        assert_ne!(done.code(), 0, "{done}");
    }),
    holds(
        "create_without_bundle",
        "runtime.md#create",
        "create without a bundle MUST be an error",
        &[],
        |t| {
            let mut bundle = fresh(t, &[]);
            let container = Container::new(t, &mut bundle);
            // The current directory of the call is no bundle.
            let done = container.call("create").current_dir(std::path::Path::new("/")).done();
            assert_ne!(done.code(), 0, "{done}");
            container.gone();
        },
    ),
    without!(
        "state_of_nothing",
        "runtime.md#query-state",
        "state",
        needs_a_container,
        "the state of what does not exist MUST be an error"
    ),
    without!(
        "start_of_nothing",
        "runtime.md#start",
        "start",
        needs_a_container,
        "starting what does not exist MUST be an error"
    ),
    without!(
        "kill_of_nothing",
        "runtime.md#kill",
        "kill",
        needs_a_container,
        "killing what does not exist MUST be an error"
    ),
    without!(
        "delete_of_nothing",
        "runtime.md#delete",
        "delete",
        needs_a_container,
        "deleting what does not exist MUST be an error"
    ),
    holds(
        "id_that_is_taken",
        "runtime.md#create",
        "an id that is not unique MUST be an error, without a new container",
        &[],
        |t| {
            let mut bundle = fresh(t, &["ready"]);
            let container = Container::new(t, &mut bundle);
            container.ready();
            let pid = container.pid();
            let done = container.create_call().done();
            assert_ne!(done.code(), 0, "{done}");
            assert_eq!(
                (container.status().as_str(), container.pid()),
                ("running", pid),
                "the first one is untouched"
            );
            container.end();
        },
    ),
    holds(
        "id_that_is_invalid",
        "runtime.md#create",
        "an invalid id MUST be an error, without a new container",
        &[],
        |t| {
            let mut bundle = fresh(t, &["ready"]);
            let container = Container::new(t, &mut bundle);
            for id in ["", "a/b", "../up", ".", ".."] {
                let call = container.bare("create").arg("--bundle").arg(&container.bundle.dir);
                let done = call.id(id).done();
                assert_ne!(done.code(), 0, "{id}: {done}");
            }
            let left = fs::read_dir(&container.root)
                .map(|all| all.flatten().filter(|one| one.file_name() != ".cache").count());
            assert_eq!(left.unwrap_or(0), 0);
            assert!(!t.dir().join("up").exists());
        },
    ),
    holds("id_after_delete", "runtime.md#delete", "after delete the id MAY be used again", &[], |t| {
        let mut bundle = fresh(t, &["exit", "0"]);
        let container = Container::new(t, &mut bundle);
        for _ in 0..3 {
            container.run().expect(0);
        }
        container.gone();
    }),
    holds(
        "states",
        "runtime.md#state",
        "the state MUST be created, running and stopped in its time, with id, pid, bundle and version",
        &[],
        |t| {
            let mut bundle = fresh(t, &["ready"]);
            let container = Container::new(t, &mut bundle);
            container.create();
            for status in ["created", "running", "stopped"] {
                let seen = container.state();
                assert_eq!((&seen["id"], &seen["status"]), (&json!(container.id), &json!(status)), "{seen}");
                let bundle = seen["bundle"].as_str().unwrap();
                assert_eq!(bundle, container.bundle.dir.to_str().unwrap());
                assert!(
                    seen["ociVersion"].as_str().is_some_and(|version| version.split('.').count() >= 3),
                    "{seen}"
                );
                match status {
                    "created" => {
                        assert!(host::alive(container.pid()));
                        assert!(!container.printed().contains("ready"), "the program runs");
                        container.start();
                        container.until("ready");
                    }
                    "running" => {
                        assert!(host::alive(container.pid()));
                        container.kill("KILL").wait();
                    }
                    _ => assert_eq!(seen["pid"].as_i64().unwrap_or(0), 0, "{seen}"),
                }
            }
            container.delete().gone();
        },
    ),
    holds(
        "bundle_is_absolute",
        "runtime.md#state",
        "the bundle of the state MUST be an absolute path",
        &[],
        |t| {
            let mut bundle = fresh(t, &["ready"]);
            let container = Container::new(t, &mut bundle);
            let name = container.bundle.dir.file_name().unwrap().to_owned();
            container.create_with(container.call("create").arg("--bundle").arg(name).current_dir(t.dir()));
            assert_eq!(container.state()["bundle"], json!(container.bundle.dir));
        },
    ),
    holds(
        "program_is_not_run_by_create",
        "runtime.md#create",
        "args MUST NOT be applied until start",
        &["/process/args"],
        |t| {
            let mut bundle = fresh(t, &[]);
            bundle.command(&["do", r#"["open", "/it-was-run", "create"]"#]);
            let container = Container::new(t, &mut bundle);
            container.create();
            std::thread::sleep(std::time::Duration::from_millis(100));
            assert!(!container.bundle.inside("/it-was-run").exists());
            container.start().wait();
            assert!(container.bundle.inside("/it-was-run").exists());
            container.delete().gone();
        },
    ),
    holds(
        "configuration_that_changes",
        "runtime.md#lifecycle",
        "changes of config.json after create MUST NOT affect the container",
        &["/process/args", "/hostname"],
        |t| {
            let mut bundle = fresh(t, &["print", "first"]);
            let container = Container::new(t, &mut bundle);
            container.create();
            let mut changed = container.bundle.spec.clone();
            changed["process"]["args"] = json!(["/payload", "print", "second"]);
            changed["hooks"] = json!({"poststart": [{"path": "/no/such/hook"}]});
            container.bundle.write_text(&changed.to_string());
            container.start().wait();
            assert_eq!(container.printed(), "first\n");
            container.delete().gone();
        },
    ),
    holds(
        "configuration_that_is_gone",
        "runtime.md#lifecycle",
        "changes of config.json after create MUST NOT affect the container",
        &[],
        |t| {
            let mut bundle = fresh(t, &["print", "first"]);
            let container = Container::new(t, &mut bundle);
            container.create();
            fs::remove_file(container.bundle.dir.join("config.json")).unwrap();
            container.start().wait();
            assert_eq!(container.printed(), "first\n");
            container.delete().gone();
        },
    ),
    holds(
        "start_of_a_running_one",
        "runtime.md#start",
        "starting what is not created MUST be an error without effect",
        &[],
        |t| {
            let mut bundle = fresh(t, &["ready"]);
            let container = Container::new(t, &mut bundle);
            container.ready();
            let pid = container.pid();
            fails(&container, "start", &[]);
            assert_eq!((container.status().as_str(), container.pid()), ("running", pid));
            assert_eq!(container.printed(), "ready\n");
            container.end();
        },
    ),
    holds(
        "start_of_a_stopped_one",
        "runtime.md#start",
        "starting what is not created MUST be an error without effect",
        &[],
        |t| {
            let mut bundle = fresh(t, &["print", "once"]);
            let container = Container::new(t, &mut bundle);
            container.up().wait();
            fails(&container, "start", &[]);
            assert_eq!(container.status(), "stopped");
            assert_eq!(container.printed(), "once\n");
            container.delete().gone();
        },
    ),
    holds(
        "kill_sends_the_signal",
        "runtime.md#kill",
        "kill MUST send the signal to the container's process",
        &[],
        |t| {
            let mut bundle = fresh(t, &["wait-signals", "10", "12", "15"]);
            let container = Container::new(t, &mut bundle);
            container.ready();
            container.kill("USR1");
            container.until("signal 10");
            container.kill("12");
            container.until("signal 12");
            container.kill("SIGTERM");
            assert_eq!(container.wait(), 0);
            container.delete().gone();
        },
    ),
    holds(
        "kill_of_a_created_one",
        "runtime.md#kill",
        "a created container can be killed (MUST send the signal)",
        &[],
        |t| {
            let mut bundle = fresh(t, &["ready"]);
            let container = Container::new(t, &mut bundle);
            container.create();
            container.kill("KILL");
            assert_eq!(container.wait(), 137);
            assert_eq!(container.status(), "stopped");
            container.delete().gone();
        },
    ),
    holds(
        "kill_of_a_stopped_one",
        "runtime.md#kill",
        "killing what is neither created nor running MUST be an error without effect",
        &[],
        |t| {
            let mut bundle = fresh(t, &["exit", "3"]);
            let container = Container::new(t, &mut bundle);
            container.up().wait();
            fails(&container, "kill", &["KILL"]);
            assert_eq!(container.status(), "stopped");
            container.delete().gone();
        },
    ),
    holds(
        "kill_with_an_unknown_signal",
        "config.md#valid-values",
        "an invalid value MUST be an error",
        &[],
        |t| {
            let mut bundle = fresh(t, &["ready"]);
            let container = Container::new(t, &mut bundle);
            container.ready();
            fails(&container, "kill", &["FROBNICATE"]);
            assert_eq!(container.status(), "running");
            container.end();
        },
    ),
    holds(
        "delete_of_a_running_one",
        "runtime.md#delete",
        "deleting what is not stopped MUST be an error without effect",
        &[],
        |t| {
            let mut bundle = fresh(t, &["ready"]);
            let container = Container::new(t, &mut bundle);
            container.ready();
            let pid = container.pid();
            fails(&container, "delete", &[]);
            assert_eq!((container.status().as_str(), container.pid()), ("running", pid));
            assert!(host::alive(pid));
            container.end();
        },
    ),
    holds(
        "delete_of_a_created_one",
        "runtime.md#delete",
        "deleting what is not stopped MUST be an error without effect",
        &[],
        |t| {
            let mut bundle = fresh(t, &["ready"]);
            let container = Container::new(t, &mut bundle);
            container.create();
            fails(&container, "delete", &[]);
            assert_eq!(container.status(), "created");
            container.start().until("ready");
            container.end();
        },
    ),
    holds(
        "delete_removes_everything",
        "runtime.md#delete",
        "what create made MUST be removed",
        &["/mounts", "/linux/resources"],
        |t| {
            let mut bundle = fresh(t, &["exit", "0"]);
            let container = Container::new(t, &mut bundle);
            container.up().wait();
            container.delete().gone();
            fails(&container, "state", &[]);
        },
    ),
    holds(
        "delete_keeps_the_rest",
        "runtime.md#delete",
        "what create did not make MUST NOT be removed",
        &["/mounts/*/source"],
        |t| {
            let data = outside(t, "data");
            fs::write(data.join("file"), "text").unwrap();
            let mut bundle = fresh(t, &["exit", "0"]);
            bundle.bind(&data, "/data", &[]);
            let container = Container::new(t, &mut bundle);
            container.run().expect(0);
            assert_eq!(fs::read_to_string(data.join("file")).unwrap(), "text");
            assert!(
                container.bundle.inside("/payload").exists()
                    && container.bundle.dir.join("config.json").exists()
            );
        },
    ),
    holds(
        "exit_codes",
        "runtime.md#lifecycle",
        "the program is run as it is, and its end ends the container (MUST run it)",
        &[],
        |t| {
            for code in [0, 1, 42, 255] {
                let mut bundle = fresh(t, &["exit", &code.to_string()]);
                Container::new(t, &mut bundle).run().expect(code);
            }
        },
    ),
    holds(
        "processes_that_stay",
        "runtime.md#lifecycle",
        "with the process of a pid namespace all others end (MUST be destroyed)",
        &["/linux/namespaces"],
        |t| {
            let mut bundle = fresh(t, &["orphan"]);
            let container = Container::new(t, &mut bundle);
            container.up().wait();
            assert_eq!(container.status(), "stopped");
            container.delete().gone();
        },
    ),
    holds(
        "error_leaves_nothing",
        "runtime.md#errors",
        "after an error everything MUST be as before",
        &["/mounts", "/linux/cgroupsPath"],
        |t| {
            // It fails late: when the program's directory is looked for.
            let mut bundle = fresh(t, &[]);
            bundle.set("/process/cwd", json!("/etc/passwd/x"));
            bundle.mount("tmpfs", "tmpfs", "/new", &[]);
            is_refused(t, &mut bundle);
        },
    ),
];
