//! One promise, one case.

use crate::Case;
use crate::host::{self, SIGCHLD};
use crate::roles::{self, Rest};
use crate::world::{World, all_of, expect_status, remove};
use coracle::{Bundle, Container, Delete, ErrorKind, ExitStatus, Observer, Phase, Runtime, Stdio, StepEvent};
use coracle_tests::{Value, json};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Stdio as Std;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The cases.
pub const CASES: &[Case] = &[
    ("promises::handles_go_to_other_threads", handles_go_to_other_threads),
    ("promises::what_the_payload_inherits", what_the_payload_inherits),
    ("promises::no_signal_before_the_program", no_signal_before_the_program),
    ("promises::the_reaper_steals_and_the_status_is_right", the_reaper_steals_and_the_status_is_right),
    ("promises::exit_of_anothers_container", exit_of_anothers_container),
    ("promises::a_killed_host_leaves_its_containers", a_killed_host_leaves_its_containers),
    ("promises::errors_carry_everything", errors_carry_everything),
    ("promises::errors_of_states", errors_of_states),
    ("promises::the_observer_hears", the_observer_hears),
    ("promises::planning_needs_nothing", planning_needs_nothing),
    ("promises::an_ordinary_user", an_ordinary_user),
    ("promises::a_host_that_ignores_sigchld", a_host_that_ignores_sigchld),
    ("promises::few_descriptors", few_descriptors),
];

/// Cases for a process that has been changed before.
pub const INSIDE: &[Case] = &[("promises::descriptors_run_out", descriptors_run_out)];

fn handles_go_to_other_threads(world: &World) {
    fn shared<T: Clone + Send + Sync>(_: &T) {}
    fn sent<T: Send>(value: T) -> T {
        value
    }
    shared(&world.runtime);
    let runtime = world.runtime.clone();
    let container = world.created("sent", &["exit", "3"]);
    let id = container.id().clone();
    let container = std::thread::spawn(move || {
        container.start().unwrap();
        container
    });
    // The thread that created it is another than the one that waits, and both may end before it does.
    let container = sent(container.join().unwrap());
    let waiting = std::thread::spawn(move || (container.wait().unwrap(), container));
    let (status, container) = waiting.join().unwrap();
    expect_status(status, ExitStatus::Exited(3));
    assert_eq!(runtime.open(&id).unwrap().id(), container.id());
    container.delete(Delete::Stopped).unwrap();
}

/// The host ignores SIGPIPE and blocks signals; the program inside has none of it.
fn what_the_payload_inherits(world: &World) {
    let id = world.id("inherits");
    let spec = world.spec(&id, &["report"]);
    let mut created = world.create(&id, &spec).stdio(Stdio::Pipes).plan().unwrap().create().unwrap();
    created.container.start().unwrap();
    inherited_nothing(world, &all_of(created.io.stdout.take()));
    created.container.wait().unwrap();
    created.container.delete(Delete::Stopped).unwrap();

    let (container, _out) = world.running("inherits", &["ready"]);
    let document = crate::world::process(world, &["report"]);
    let mut child = container.exec(document).stdio(Stdio::Pipes).spawn().unwrap();
    inherited_nothing(world, &all_of(child.io().stdout.take()));
    child.wait().unwrap();
    remove(container);
}

fn inherited_nothing(world: &World, report: &str) {
    let seen: Value = serde_json_from(report);
    for what in ["blocked", "ignored", "pending", "shared"] {
        assert_eq!(seen["signals"][what], json!([]), "{what}");
    }
    let numbers: Vec<_> =
        seen["fds"].as_array().unwrap().iter().map(|fd| fd["fd"].as_i64().unwrap()).collect();
    assert_eq!(numbers, [0, 1, 2], "{}", seen["fds"]);
    let known =
        |entry: &Value| entry == &json!(world.marker) || entry == "PATH=/bin" || entry == "HOME=/root";
    assert!(seen["env"].as_array().unwrap().iter().all(known), "{}", seen["env"]);
    assert_eq!(seen["umask"], json!(0o022));
    assert_eq!(seen["deathSignal"], json!(0));
}

fn serde_json_from(text: &str) -> Value {
    text.trim().parse().unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Until they execute a program the library's children have no exit signal. (execve(2) gives every process SIGCHLD.)
fn no_signal_before_the_program(world: &World) {
    let before = (SIGCHLD.load(Ordering::SeqCst), host::stolen());
    for _ in 0..10 {
        remove(world.created("silent", &["exit", "0"]));
        let id = world.id("silent");
        let mut spec = world.spec(&id, &["exit", "0"]);
        spec["process"]["args"] = json!(["/no/such/program"]);
        world.create(&id, &spec).stdio(Stdio::Null).plan().unwrap().create().unwrap_err();
    }
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!((SIGCHLD.load(Ordering::SeqCst), host::stolen()), before);
}

fn the_reaper_steals_and_the_status_is_right(world: &World) {
    let before = host::stolen();
    for code in 0..40 {
        let container = world.created("stolen", &["exit", &code.to_string()]);
        container.start().unwrap();
        let pidfd = container.pidfd().unwrap().expect("it was not reaped: we hold it");
        if code % 2 == 0 {
            // Long after the reaper was there.
            std::thread::sleep(Duration::from_millis(20));
        }
        expect_status(container.wait().unwrap(), ExitStatus::Exited(code));
        // It stays known as long as somebody holds the process.
        expect_status(container.wait().unwrap(), ExitStatus::Exited(code));
        assert_eq!(container.try_wait().unwrap().map(|_| ()), Some(()));
        drop(pidfd);
        container.delete(Delete::Stopped).unwrap();
    }
    assert!(host::stolen() > before, "the reaper was never first: nothing was tested");
}

/// The container of another process: its parent reaps it, and we are told by the kernel or not at all.
fn exit_of_anothers_container(world: &World) {
    let _rest = Rest::new();
    let id = world.id("foreign");
    let mut other =
        roles::command("create", world, &[id.as_str(), "wait-term"]).stdout(Std::piped()).spawn().unwrap();
    let mut lines = BufReader::new(other.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "created");
    assert_eq!(lines.next().unwrap().unwrap(), "started");
    let container = world.runtime.open(&id).unwrap();
    let begun = std::time::Instant::now();
    // Its handler is set a moment after the start.
    while container.try_wait().unwrap().is_none() {
        let _ = container.signal(15, coracle::Scope::Init);
        std::thread::sleep(Duration::from_millis(5));
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
    // Its parent never reaps: nobody can know, and nobody waits for ever.
    assert_eq!(container.wait().unwrap(), ExitStatus::Unknown);
    other.kill().unwrap();
    roles::wait(&mut other);
    container.delete(Delete::Stopped).unwrap();
}

/// What a host that dies has created lives on, and another one removes it.
fn a_killed_host_leaves_its_containers(world: &World) {
    let _rest = Rest::new();
    let id = world.id("orphaned");
    let mut other =
        roles::command("create", world, &[id.as_str(), "sleep"]).stdout(Std::piped()).spawn().unwrap();
    let mut lines = BufReader::new(other.stdout.take().unwrap()).lines();
    assert_eq!(lines.nth(1).unwrap().unwrap(), "started");
    other.kill().unwrap();
    roles::wait(&mut other);
    let container = world.runtime.open(&id).unwrap();
    assert_eq!(container.status().unwrap(), coracle::Status::Running);
    remove(container);
}

fn refuse(world: &World, change: impl FnOnce(&mut Value)) -> coracle::Error {
    let id = world.id("wrong");
    let mut spec = world.spec(&id, &["exit", "0"]);
    change(&mut spec);
    let error = match world.create(&id, &spec).stdio(Stdio::Null).plan() {
        Err(error) => error,
        Ok(plan) => plan.create().unwrap_err(),
    };
    assert!(!error.to_string().contains('\n'), "one line: {error}");
    assert!(
        error.report().contains(&error.to_string().split(':').next().unwrap().to_owned()),
        "{}",
        error.report()
    );
    assert!(!error.code().is_empty());
    assert_eq!(world.runtime.open(&id).unwrap_err().kind(), ErrorKind::NotFound, "nothing is left");
    error
}

fn errors_carry_everything(world: &World) {
    let error = refuse(world, |spec| spec["process"]["args"] = json!(["/no/such/program"]));
    assert_eq!((error.kind(), error.pointer()), (ErrorKind::Exec, Some("/process/args/0")));
    assert_eq!((error.errno(), error.errno_name()), (Some(2), Some("ENOENT")));

    let missing = world.dir.join("no such directory");
    let error = refuse(world, |spec| {
        let mount = json!({"destination": "/mnt", "type": "bind", "source": missing, "options": ["bind"]});
        spec["mounts"].as_array_mut().unwrap().push(mount);
    });
    assert_eq!((error.pointer(), error.path()), (Some("/mounts/6/source"), Some(missing.as_path())));
    assert_eq!((error.phase(), error.errno()), (Some(Phase::Mounts), Some(2)));
    assert_eq!(error.code(), "mount-source-missing");
    assert!(error.hint().is_some());

    let error = refuse(world, |spec| {
        spec["process"]["cwd"] = json!("relative");
        spec["linux"]["namespaces"][0]["type"] = json!("nonsense");
    });
    assert_eq!(error.kind(), ErrorKind::InvalidSpec);
    let pointers: Vec<_> =
        error.more().iter().map(|e| e.pointer()).chain([error.pointer()]).flatten().collect();
    for wanted in ["/process/cwd", "/linux/namespaces/0/type"] {
        assert!(pointers.contains(&wanted), "all at once: {pointers:?}");
    }

    let error = refuse(world, |spec| spec["root"]["path"] = json!("no such root"));
    assert_eq!((error.pointer(), error.errno()), (Some("/root/path"), Some(2)));
    assert!(error.path().is_some_and(|path| path.ends_with("no such root")));

    let error = Runtime::builder().root("relative").build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    let error = Bundle::from_dir(world.dir.join("nowhere")).unwrap_err();
    assert_eq!((error.kind(), error.phase(), error.errno()), (ErrorKind::Io, Some(Phase::Load), Some(2)));
}

fn errors_of_states(world: &World) {
    let kind = |result: Result<(), coracle::Error>| result.unwrap_err().kind();
    let id = world.id("absent");
    assert_eq!(kind(world.runtime.open(&id).map(drop)), ErrorKind::NotFound);
    assert_eq!(kind(world.runtime.purge(&id)), ErrorKind::NotFound);

    let (container, _out) = world.running("states", &["ready"]);
    let open = || -> Container { world.runtime.open(container.id()).unwrap() };
    assert_eq!(kind(container.start()), ErrorKind::WrongState);
    assert_eq!(kind(open().delete(Delete::Stopped).map(drop)), ErrorKind::WrongState);
    assert_eq!(kind(container.resume()), ErrorKind::WrongState);
    assert_eq!(kind(container.signal(99, coracle::Scope::Init)), ErrorKind::Kernel);
    container.signal(9, coracle::Scope::Init).unwrap();
    container.wait().unwrap();
    assert_eq!(kind(container.start()), ErrorKind::WrongState);
    assert_eq!(kind(container.signal(15, coracle::Scope::Init)), ErrorKind::WrongState);
    let exec = container.exec(crate::world::process(world, &["exit", "0"])).stdio(Stdio::Null).spawn();
    assert_eq!(kind(exec.map(drop)), ErrorKind::WrongState);
    container.delete(Delete::Stopped).unwrap();
}

#[derive(Default)]
struct Heard(Mutex<Vec<(Phase, String, bool)>>);

impl Observer for Heard {
    fn step(&self, event: &StepEvent<'_>) {
        self.0.lock().unwrap().push((event.phase, event.what.to_owned(), event.error.is_some()));
    }
}

fn the_observer_hears(world: &World) {
    let heard = Arc::new(Heard::default());
    let runtime = Runtime::builder().root(&world.state).observer(heard.clone()).build().unwrap();
    let id = world.id("heard");
    let spec = world.spec(&id, &["exit", "0"]);
    let created =
        runtime.create(&id, world.bundle(&spec)).stdio(Stdio::Null).plan().unwrap().create().unwrap();
    remove(created.container);
    let all = std::mem::take(&mut *heard.0.lock().unwrap());
    let phases: Vec<_> = all.iter().map(|(phase, ..)| *phase).collect();
    for phase in
        [Phase::Validate, Phase::Plan, Phase::State, Phase::Cgroup, Phase::Namespaces, Phase::Process]
    {
        assert!(phases.contains(&phase), "{phase}: {all:?}", phase = phase.as_str());
    }
    assert!(all.iter().all(|(_, _, failed)| !failed), "{all:?}");

    let mut spec = world.spec(&id, &["exit", "0"]);
    spec["process"]["args"] = json!(["/no/such/program"]);
    runtime.create(&id, world.bundle(&spec)).stdio(Stdio::Null).plan().unwrap().create().unwrap_err();
    assert!(heard.0.lock().unwrap().iter().any(|(_, _, failed)| *failed), "a failure is heard too");
}

/// A dry run: it touches nothing, and needs neither privileges nor the files that the configuration names.
fn planning_needs_nothing(world: &World) {
    let state = world.dir.join("not made");
    let runtime = Runtime::builder().root(&state).build().unwrap();
    let id = world.id("planned");
    let mut spec = world.spec(&id, &["exit", "0"]);
    spec["root"]["path"] = json!("/no/such/root");
    let plan = runtime.create(&id, world.bundle(&spec)).stdio(Stdio::Null).plan().unwrap();
    let text = plan.to_string();
    assert!(text.lines().count() > 10 && text.contains(id.as_str()), "{text}");
    drop(plan);
    assert!(!state.exists(), "planning makes no state directory");
}

/// Runs cases in another process of ours, which a program between may change first.
fn as_other(world: &World, before: &[&str], uid: Option<u32>, cases: &[&str]) {
    let _rest = Rest::new();
    let dir = coracle_tests::dirs::run_dir().join(format!("other-{}", world.id("dir")));
    std::fs::create_dir(&dir).unwrap();
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    let there = World::new(&dir);
    if let Some(uid) = uid {
        std::os::unix::fs::chown(&dir, Some(uid), Some(uid)).unwrap();
    }
    // A copy: ours may lie where nobody else can look.
    let program = dir.join("program");
    std::fs::copy("/proc/self/exe", &program).unwrap();
    let mut command = std::process::Command::new(dir.join("rootfs/payload"));
    command.arg("launch").args(before).arg("--").arg(program);
    command.arg(roles::MARK).arg("cases").arg(&there.dir).args(cases);
    if let Some(uid) = uid {
        command.uid(uid).gid(uid);
    }
    let mut child = command.spawn().unwrap();
    let status = roles::wait(&mut child);
    coracle_tests::dirs::remove(&dir);
    assert!(status.success(), "{status}");
}

fn an_ordinary_user(world: &World) {
    if !rustix::process::geteuid().is_root() || coracle_tests::Need::UserNamespaces.missing().is_some() {
        crate::SKIP.store(true, Ordering::SeqCst);
        return;
    }
    let cases = ["hundreds", "creators", "deleters", "inherits", "planning_needs_nothing", "no_signal"];
    as_other(world, &[], Some(54321), &cases);
}

fn a_host_that_ignores_sigchld(world: &World) {
    if !rustix::process::geteuid().is_root() {
        crate::SKIP.store(true, Ordering::SeqCst);
        return;
    }
    // 17 is SIGCHLD: the kernel reaps for the host, before anybody can ask.
    as_other(world, &["--ignore", "17"], None, &["hundreds", "inherits", "starters"]);
}

/// A host that has used up its descriptors gets an error, and nothing is left.
fn few_descriptors(world: &World) {
    as_other(world, &["--limit", "7=200:200"], None, &["descriptors_run_out"]);
}

fn descriptors_run_out(world: &World) {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    if limit.is_none_or(|limit| limit > 1000) {
        return;
    }
    let id = world.id("few");
    let mut spec = world.spec(&id, &["exit", "0"]);
    spec["process"].as_object_mut().unwrap().remove("rlimits");
    let null = std::fs::File::open("/dev/null").unwrap();
    let mut hoard: Vec<_> = std::iter::from_fn(|| null.try_clone().ok()).collect();
    // Every number is taken; they are given back one after the other until a container can be made.
    for failures in 0.. {
        match world.create(&id, &spec).stdio(Stdio::Pipes).plan().and_then(|plan| plan.create()) {
            Ok(created) => {
                drop(hoard);
                remove(created.container);
                assert!(failures > 3, "nothing failed: nothing was tested");
                return;
            }
            Err(error) => {
                assert!(!error.to_string().contains('\n'));
                assert!(
                    hoard.pop().is_some(),
                    "with all descriptors given back it works: {}",
                    error.report()
                );
            }
        }
    }
}
