//! Nothing is left: after many containers, after many at once, after the runtime was killed in the middle.
use coracle_tests::host::Picture;
use coracle_tests::*;
use std::fs;
use std::time::{Duration, Instant};

cases_alone![sequential, lives, many, parallel, parallel_execs, runtime_killed, create_killed_everywhere];

fn number(name: &str, default: u32) -> u32 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A bundle whose state directory and files are compared before and after.
fn quiet_bundle(t: &T, words: &[&str]) -> Bundle {
    let mut bundle = Bundle::new(t, words);
    bundle.add("/linux/namespaces", json!({"type": "cgroup"}));
    bundle
}

/// Runs a command without leaving files of the call itself.
fn run(container: &Container<'_>, id: &str) -> i32 {
    let call = container.bare("run").arg("--bundle").arg(&container.bundle.dir).id(id).no_log();
    let null = || fs::File::options().write(true).open("/dev/null").unwrap();
    call.output(null()).errors(null()).done().code()
}

fn sequential(t: &T) {
    let count = number("SEQUENTIAL", 50);
    let mut bundle = quiet_bundle(t, &["exit", "0"]);
    let container = Container::new(t, &mut bundle);
    // The first makes what may stay: caches, mount points in the root file system.
    assert_eq!(run(&container, &container.id), 0);
    let dirs = [container.bundle.dir.as_path(), container.root.as_path()];
    let before = Picture::take(&dirs);
    for round in 0..count {
        assert_eq!(run(&container, &format!("{}-{round}", container.id)), 0);
    }
    before.same_as_now(&dirs);
}

fn lives(t: &T) {
    let count = number("LIVES", 10);
    let before = Picture::take(&[]);
    for _ in 0..count {
        let mut bundle = quiet_bundle(t, &["ready"]);
        let container = Container::new(t, &mut bundle);
        container.ready();
        container.exec(&["/payload", "exit", "0"]).expect(0);
        container.end();
        container.gone();
    }
    before.same_as_now(&[]);
}

/// What is measured for each of many containers, in this order.
const COMMANDS: [&str; 5] = ["create", "start", "state", "events", "delete"];

/// How much longer each command takes for the last fifth of `MANY` living containers than for the first. At 500 the best of three rounds may
/// not be above a fifth; a few are too noisy for that, and are there to show that all of them live and go.
fn many(t: &T) {
    t.needs(&[Need::Controller("pids")]);
    t.differs("runc", "measured for ours alone");
    t.differs("crun", "measured for ours alone");
    let count = number("MANY", 40);
    let most = if count >= 500 { 1.2 } else { 3.0 };
    let before = Picture::take(&[]);
    let mut best = [f64::INFINITY; COMMANDS.len() + 1];
    for _ in 0..3 {
        let round = grown(t, count);
        best.iter_mut().zip(round).for_each(|(best, now)| *best = best.min(now));
        if best.iter().all(|ratio| *ratio <= most) {
            break;
        }
    }
    let names = COMMANDS.iter().chain(&["list, for each container"]);
    let shown: Vec<String> = names.zip(best).map(|(name, ratio)| format!("{name}: {ratio:.2}")).collect();
    println!("last fifth of {count} against the first: {}", shown.join(", "));
    assert!(best.iter().all(|ratio| *ratio <= most), "{shown:?}");
    before.same_as_now(&[]);
}

fn median(times: &[Duration]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted[sorted.len() / 2].as_secs_f64()
}

/// One round: the median of the last fifth by that of the first, for each command and for `list`.
fn grown(t: &T, count: u32) -> [f64; COMMANDS.len() + 1] {
    let mut bundle = quiet_bundle(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    // They share the bundle, so each has the cgroup of its own name.
    let mut spec = container.bundle.spec.clone();
    spec["linux"].as_object_mut().unwrap().remove("cgroupsPath");
    container.bundle.write_text(&spec.to_string());
    let null = || fs::File::options().write(true).open("/dev/null").unwrap();
    let fifth = usize::try_from(count / 5).unwrap();
    let mut times = [const { Vec::new() }; COMMANDS.len()];
    let mut list = Vec::new();
    for (phase, command) in COMMANDS.iter().enumerate() {
        for index in 0..count {
            let call = match *command {
                "create" => container.bare(command).arg("--bundle").arg(&container.bundle.dir),
                "events" => container.bare(command).arg("--stats"),
                "delete" => container.bare(command).arg("--force"),
                other => container.bare(other),
            };
            let call = call.id(&format!("{}-{index}", container.id)).no_log();
            let done = call.output(null()).errors(null()).done().expect(0);
            times[phase].push(done.time);
            let made = usize::try_from(index + 1).unwrap();
            if phase == 0 && made % fifth == 0 {
                list.push(listed(&container, made));
            }
        }
    }
    host::reap();
    container.gone();
    let ratio = |times: &Vec<Duration>| median(&times[times.len() - fifth..]) / median(&times[..fifth]);
    let mut all = [0.0; COMMANDS.len() + 1];
    all.iter_mut().zip(&times).for_each(|(ratio_of, times)| *ratio_of = ratio(times));
    all[COMMANDS.len()] = list[list.len() - 1] / list[0];
    all
}

/// Seconds that `list` takes for each of so many containers.
fn listed(container: &Container<'_>, count: usize) -> f64 {
    let one = || {
        let done = container.bare("list").args(["--format", "json"]).no_log().done().expect(0);
        assert_eq!(done.json().as_array().unwrap().len(), count);
        done.time
    };
    let times: Vec<Duration> = (0..5).map(|_| one()).collect();
    median(&times) / f64::from(u32::try_from(count).unwrap())
}

fn parallel(t: &T) {
    let count = number("PARALLEL", 64);
    let before = Picture::take(&[]);
    let mut bundle = quiet_bundle(t, &["exit", "9"]);
    // A path each: they share the bundle.
    let container = Container::new(t, &mut bundle);
    let mut spec = container.bundle.spec.clone();
    spec["linux"].as_object_mut().unwrap().remove("cgroupsPath");
    container.bundle.write_text(&spec.to_string());
    let started = Instant::now();
    let running: Vec<_> = (0..count)
        .map(|index| {
            let id = format!("{}-{index}", container.id);
            container.bare("run").arg("--bundle").arg(&container.bundle.dir).id(&id).start()
        })
        .collect();
    for one in running {
        one.done().expect(9);
    }
    println!("{count} at once took {:?}", started.elapsed());
    let left: Vec<String> = cgroup::named(&container.id);
    assert!(left.is_empty(), "{left:?}");
    assert!(
        fs::read_dir(&container.root)
            .unwrap()
            .flatten()
            .all(|entry| { !entry.file_name().to_string_lossy().contains(&container.id) })
    );
    drop(container);
    before.same_as_now(&[]);
}

fn parallel_execs(t: &T) {
    let before = Picture::take(&[]);
    let mut bundle = quiet_bundle(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    let running: Vec<_> = (0..32).map(|_| container.exec_running(&["/payload", "exit", "4"])).collect();
    for one in running {
        one.done().expect(4);
    }
    container.end();
    before.same_as_now(&[]);
}

/// Kills `create` and `run` after different times; `delete --force` and a look around must find nothing.
fn runtime_killed(t: &T) {
    t.differs("crun", "killed early it leaves its cgroup");
    t.differs("runc", "killed early it leaves its cgroup");
    let rounds = number("KILLED", 40);
    // From the first moment to when it is done anyway, however fast this machine is.
    let mut bundle = quiet_bundle(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    let begun = Instant::now();
    container.create();
    let whole = begun.elapsed();
    cleaned(&container);
    let before = Picture::take(&[]);
    let mut reached = 0;
    for round in 0..rounds {
        let mut bundle = quiet_bundle(t, &["ready"]);
        let container = Container::new(t, &mut bundle);
        let command = if round % 2 == 0 { container.create_call() } else { container.run_call() };
        let mut running = command.start();
        std::thread::sleep(whole * round / rounds);
        let _ = running.child.kill();
        let _ = running.child.wait();
        reached += u32::from(container.root.join(&container.id).exists());
        cleaned(&container);
    }
    assert!(reached > 0 || rounds == 0, "not exercised: no kill came after the state was there");
    before.same_as_now(&[]);
}

/// The same with the kill placed where the container is surely half made: in a hook.
fn create_killed_everywhere(t: &T) {
    t.differs("crun", "its cgroup is left");
    t.differs("runc", "its cgroup is left");
    let before = Picture::take(&[]);
    for kind in ["prestart", "createRuntime", "createContainer", "poststart"] {
        let mark = t.dir().join(format!("mark-{kind}"));
        let mut bundle = quiet_bundle(t, &["ready"]);
        let words = json!(["payload", "hook", mark, kind, "sleep", "3000"]);
        bundle.add(&format!("/hooks/{kind}"), json!({"path": harness::payload(), "args": words}));
        let container = Container::new(t, &mut bundle);
        let mut running = container.run_call().start();
        runtime::wait_until(kind, || mark.exists());
        let _ = running.child.kill();
        let _ = running.child.wait();
        cleaned(&container);
        // The hook itself was the runtime's child; it ends by itself.
        runtime::wait_until("the end of the hook", || {
            host::reap();
            host::children().is_empty()
        });
    }
    before.same_as_now(&[]);
}

/// Deletes by force, waits for orphans, and expects nothing of the container.
fn cleaned(container: &Container<'_>) {
    let done = container.call("delete").arg("--force").done();
    assert_eq!(done.code(), 0, "{done}");
    // Orphans come to us; those of the container must be dead, so that they can be reaped.
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        host::reap();
        let alive: Vec<String> =
            host::children().into_iter().filter(|child| !child.contains("payload")).collect();
        if alive.is_empty() {
            break;
        }
        assert!(Instant::now() < end, "still there after delete --force: {alive:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    container.gone();
}
