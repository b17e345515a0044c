//! Hooks through the library: what fails, hangs or floods costs the host nothing, and never keeps a container from being deleted.
//! What a hook sees is the matter of the suites that start the program.

use crate::Case;
use crate::roles::{self, Rest};
use crate::world::World;
use coracle::{Container, ContainerId, Delete, Error, ErrorKind, Runtime, Stdio};
use coracle_tests::host::processes_with;
use coracle_tests::{Value, harness, json};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::time::{Duration, Instant};

/// The cases.
pub const CASES: &[Case] = &[
    ("hooks::all_kinds_in_their_order", all_kinds_in_their_order),
    ("hooks::a_failure_undoes_everything", a_failure_undoes_everything),
    ("hooks::a_late_one_is_killed", a_late_one_is_killed),
    ("hooks::hanging_ones_before_the_start", hanging_ones_before_the_start),
    ("hooks::hanging_ones_after_the_start", hanging_ones_after_the_start),
    ("hooks::a_flood_of_output", a_flood_of_output),
    ("hooks::the_environment_is_a_value", the_environment_is_a_value),
];

/// In the order of the lifecycle, and whether the host's file system is what it sees.
const KINDS: [(&str, bool); 6] = [
    ("prestart", true),
    ("createRuntime", true),
    ("createContainer", true),
    ("startContainer", false),
    ("poststart", true),
    ("poststop", true),
];
/// How long anything may take that must not wait for a hook.
const PROMPT: Duration = Duration::from_secs(10);

/// A hook that runs the payload with these words.
fn hook(world: &World, on_host: bool, words: &[&str]) -> Value {
    let path = if on_host { harness::payload().display().to_string() } else { "/payload".to_owned() };
    let mut args = vec!["payload"];
    args.extend(words);
    json!({"path": path, "args": args, "env": [world.marker]})
}

fn create(world: &World, id: &ContainerId, spec: &Value) -> Result<Container, Error> {
    world.create(id, spec).stdio(Stdio::Null).plan().unwrap().create().map(|created| created.container)
}

fn all_kinds_in_their_order(world: &World) {
    let id = world.id("hooks");
    let mut spec = world.spec(&id, &["exit", "0"]);
    let (file, inside) = (world.dir.join("hooks.log"), world.dir.join("rootfs/hooks.log"));
    for (kind, on_host) in KINDS {
        let log = if on_host { file.display().to_string() } else { "/hooks.log".to_owned() };
        spec["hooks"][kind] = json!([hook(world, on_host, &["hook", &log, kind])]);
    }
    let container = create(world, &id, &spec).unwrap_or_else(|error| panic!("{}", error.report()));
    let pid = container.pid().unwrap().unwrap();
    container.start().unwrap_or_else(|error| panic!("{}", error.report()));
    container.wait().unwrap();
    assert!(container.delete(Delete::Stopped).unwrap().is_empty());
    let mut seen: Vec<Value> = Vec::new();
    for path in [&file, &inside] {
        seen.extend(fs::read_to_string(path).unwrap().lines().map(|line| line.parse::<Value>().unwrap()));
        fs::remove_file(path).unwrap();
    }
    seen.sort_by_key(|line| line["time"].as_str().unwrap().parse::<u64>().unwrap());
    let names: Vec<_> = seen.iter().map(|line| line["hook"].as_str().unwrap()).collect();
    assert_eq!(names, KINDS.map(|(kind, _)| kind));
    let statuses: Vec<_> = seen.iter().map(|line| line["state"]["status"].as_str().unwrap()).collect();
    assert_eq!(statuses, ["creating", "creating", "creating", "created", "running", "stopped"]);
    assert!(seen.iter().all(|line| line["state"]["id"] == json!(id.as_str())));
    assert_eq!(seen[0]["state"]["pid"], json!(pid));
    for line in &seen {
        let numbers: Vec<_> = line["fds"].as_array().unwrap().iter().map(|fd| fd["fd"].clone()).collect();
        assert_eq!(numbers, [0, 1, 2], "{line}");
    }
}

fn a_failure_undoes_everything(world: &World) {
    for (kind, on_host) in KINDS {
        let id = world.id("failing");
        let mut spec = world.spec(&id, &["ready"]);
        let words = ["hook", "/dev/null", kind, "say", "a reason", "exit", "3"];
        spec["hooks"][kind] = json!([hook(world, on_host, &words)]);
        let pointer = format!("/hooks/{kind}/0");
        let result = create(world, &id, &spec).and_then(|container| match container.start() {
            // The container is stopped and destroyed.
            Err(error) => {
                assert_eq!(container.delete(Delete::Stopped).unwrap_err().kind(), ErrorKind::NotFound);
                Err(error)
            }
            Ok(()) => Ok(container),
        });
        let error = match result {
            Err(error) => error,
            Ok(container) => {
                assert_eq!(kind, "poststop", "{kind} did not fail");
                let mut failed = container.delete(Delete::Force).unwrap();
                assert_eq!(failed.len(), 1);
                failed.remove(0)
            }
        };
        assert_eq!(
            (error.kind(), error.pointer()),
            (ErrorKind::Hook, Some(pointer.as_str())),
            "{}",
            error.report()
        );
        assert!(error.to_string().contains('3') && !error.to_string().contains('\n'), "{error}");
        assert!(!on_host || kind == "createContainer" || error.to_string().contains("a reason"), "{error}");
        assert_eq!(world.runtime.open(&id).unwrap_err().kind(), ErrorKind::NotFound, "{kind}");

        // At once: there is no handle that could be used to remove it.
        spec["linux"]["cgroupsPath"] =
            json!(format!("{}-2", spec["linux"]["cgroupsPath"].as_str().unwrap_or("")));
        let plan = world.create(&id, &spec).stdio(Stdio::Null).at_once(true).plan().unwrap();
        match plan.create() {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Hook, "{}", error.report()),
            Ok(created) => {
                assert_eq!(kind, "poststop");
                created.container.delete(Delete::Force).unwrap();
            }
        }
        assert_eq!(world.runtime.open(&id).unwrap_err().kind(), ErrorKind::NotFound, "{kind} at once");
    }
}

fn a_late_one_is_killed(world: &World) {
    for (kind, on_host) in KINDS {
        let id = world.id("late");
        let mut spec = world.spec(&id, &["ready"]);
        let mut late = hook(world, on_host, &["hook", "/dev/null", kind, "stubborn"]);
        late["timeout"] = json!(1);
        spec["hooks"][kind] = json!([late]);
        let begun = Instant::now();
        let error = match create(world, &id, &spec) {
            Err(error) => error,
            Ok(container) => match container.start() {
                Err(error) => error,
                Ok(()) => container.delete(Delete::Force).unwrap().remove(0),
            },
        };
        assert!(begun.elapsed() < PROMPT, "{kind}");
        assert_eq!(error.kind(), ErrorKind::Hook, "{}", error.report());
        end(world);
    }
}

/// Ends what a hook left outside of any container: a session of its own is its own.
fn end(world: &World) {
    let end = Instant::now() + PROMPT;
    loop {
        let left = processes_with(&world.marker);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "{left:?}");
        for pid in left {
            let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits for a hook to write its line.
fn until_hangs(file: &std::path::Path) {
    let end = Instant::now() + PROMPT;
    while !file.exists() {
        assert!(Instant::now() < end, "the hook does not begin");
        std::thread::sleep(Duration::from_millis(2));
    }
    fs::remove_file(file).unwrap();
}

/// A hook that never ends, and another process that deletes the container by force.
fn hanging_ones_before_the_start(world: &World) {
    for (kind, on_host) in &KINDS[..4] {
        let id = world.id("hanging");
        let mut spec = world.spec(&id, &["ready"]);
        let name = format!("{kind}.hangs");
        let (file, log) = match on_host {
            true => (world.dir.join(&name), world.dir.join(&name).display().to_string()),
            false => (world.dir.join("rootfs").join(&name), format!("/{name}")),
        };
        spec["hooks"][*kind] = json!([hook(world, *on_host, &["hook", &log, kind, "sleep", "600000"])]);
        std::thread::scope(|scope| {
            let work = scope.spawn(|| create(world, &id, &spec).and_then(|container| container.start()));
            until_hangs(&file);
            let status = world.runtime.open(&id).unwrap().status().unwrap();
            assert_ne!(status, coracle::Status::Stopped, "others look meanwhile");
            delete_from_outside(world, &id);
            let error = work.join().unwrap().unwrap_err();
            assert!(!error.to_string().is_empty());
        });
        assert_eq!(world.runtime.open(&id).unwrap_err().kind(), ErrorKind::NotFound, "{kind}");
        assert_eq!(
            processes_with(&world.marker),
            Vec::<i32>::new(),
            "{kind}: hooks end with their container"
        );
    }
}

fn delete_from_outside(world: &World, id: &ContainerId) {
    let _rest = Rest::new();
    let begun = Instant::now();
    let mut other = roles::command("delete", world, &[id.as_str()]).spawn().unwrap();
    assert!(roles::wait(&mut other).success());
    assert!(begun.elapsed() < PROMPT, "deleting took {:?}", begun.elapsed());
}

/// These do not end with the container, but keep nobody from deleting it, and its name is free.
fn hanging_ones_after_the_start(world: &World) {
    for at_once in [false, true] {
        let id = world.id("poststart");
        let mut spec = world.spec(&id, &["ready"]);
        let file = world.dir.join("poststart.hangs");
        let log = file.display().to_string();
        spec["hooks"]["poststart"] =
            json!([hook(world, true, &["hook", &log, "poststart", "sleep", "600000"])]);
        std::thread::scope(|scope| {
            let run = || {
                let plan = world.create(&id, &spec).stdio(Stdio::Null).at_once(at_once).plan().unwrap();
                let container = plan.create()?.container;
                if at_once { Ok(()) } else { container.start() }
            };
            let work = scope.spawn(run);
            until_hangs(&file);
            delete_from_outside(world, &id);
            assert_eq!(world.runtime.open(&id).unwrap_err().kind(), ErrorKind::NotFound);
            end(world);
            assert_eq!(work.join().unwrap().unwrap_err().kind(), ErrorKind::Hook);
        });
    }
    let id = world.id("poststop");
    let mut spec = world.spec(&id, &["ready"]);
    let file = world.dir.join("poststop.hangs");
    let log = file.display().to_string();
    spec["hooks"]["poststop"] = json!([hook(world, true, &["hook", &log, "poststop", "sleep", "600000"])]);
    let container = create(world, &id, &spec).unwrap();
    std::thread::scope(|scope| {
        let work = scope.spawn(|| container.delete(Delete::Force));
        until_hangs(&file);
        assert_eq!(world.runtime.open(&id).unwrap_err().kind(), ErrorKind::NotFound);
        let spec = world.spec(&id, &["exit", "0"]);
        create(world, &id, &spec).unwrap().delete(Delete::Force).unwrap();
        end(world);
        assert_eq!(work.join().unwrap().unwrap().len(), 1, "it was killed, and that is told");
    });
}

fn a_flood_of_output(world: &World) {
    let id = world.id("flood");
    let mut spec = world.spec(&id, &["exit", "0"]);
    let script = "head -c 300000000 /dev/zero; head -c 3000000 /dev/zero >&2; echo the end; exit 3";
    spec["hooks"]["createRuntime"] =
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin:/usr/bin"]}]);
    let before = peak();
    let error = create(world, &id, &spec).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Hook);
    let text = error.to_string();
    assert!(text.contains("the end") && !text.contains('\0') && text.len() < 32_000, "{} bytes", text.len());
    let grown = peak() - before;
    assert!(grown < 8 * 1024, "{grown} KiB for a hook's output");

    // A closed or unread state is the hook's own matter.
    spec["hooks"]["createRuntime"][0]["args"][2] = json!("exec <&-; sleep 0.05; exit 0");
    create(world, &id, &spec).unwrap().delete(Delete::Force).unwrap();
}

/// The most memory that this process has had, in KiB.
fn peak() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn the_environment_is_a_value(world: &World) {
    let given = ["PATH=/given", "LD_PRELOAD=/evil", "GLIBC_TUNABLES=x", "KEPT=yes", "BASH_ENV=/evil"];
    let builder = Runtime::builder().root(&world.state).hook_environment(given.map(str::to_owned));
    let runtime = builder.build().unwrap();
    let file = world.dir.join("environment");
    let id = world.id("environment");
    let mut spec = world.spec(&id, &["exit", "0"]);
    let mut plain = hook(world, true, &["hook", &file.display().to_string(), "environment"]);
    plain.as_object_mut().unwrap().remove("env");
    spec["hooks"]["createRuntime"] = json!([plain]);
    let plan = runtime.create(&id, world.bundle(&spec)).stdio(Stdio::Null).plan().unwrap();
    plan.create().unwrap().container.delete(Delete::Force).unwrap();
    let line: Value = fs::read_to_string(&file).unwrap().trim().parse().unwrap();
    fs::remove_file(&file).unwrap();
    assert_eq!(line["env"], json!(["PATH=/given", "KEPT=yes"]));
}
