//! Where in the control groups processes go when that is not obvious: below the container's own, beside its first process, below a frozen
//! one.
use coracle_tests::cgroup::Mode;
use coracle_tests::*;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

cases![
    below,
    below_by_controller,
    below_refused,
    beside_the_first_process,
    survivors_where_the_cgroup_stays,
    below_a_frozen_one,
    into_a_frozen_one,
    below_a_threaded_one,
    owner,
    no_owner,
];

/// The container's directory in every hierarchy.
fn directories(container: &Container<'_>) -> Vec<PathBuf> {
    let path = container.cgroup.trim_start_matches('/');
    cgroup::hierarchies().into_iter().map(|one| one.mount.join(path)).filter(|dir| dir.exists()).collect()
}

/// On version 1 a new cpuset is empty, and takes no process.
fn fill(dir: &std::path::Path, below: &[&str]) {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let Ok(values) = fs::read(dir.join(file)) else { return };
        let files = below.iter().map(|name| dir.join(name).join(file)).filter(|file| file.exists());
        files.for_each(|file| fs::write(file, &values).unwrap());
    }
}

/// The lines of `/proc/PID/cgroup` of a further process.
fn places(container: &Container<'_>, flags: &[&str]) -> Vec<String> {
    let file = container.bundle.dir.join("exec.pid");
    container
        .bare("exec")
        .args(flags)
        .arg("--detach")
        .arg("--pid-file")
        .arg(&file)
        .id(&container.id)
        .then(["/payload", "sleep"])
        .ok();
    let pid: i32 = fs::read_to_string(&file).unwrap().trim().parse().unwrap();
    container.adopt(pid);
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn below(t: &T) {
    t.needs(&[Need::Controller("pids")]);
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    for dir in directories(&container) {
        fs::create_dir_all(dir.join("sub/deep")).unwrap();
        fill(&dir, &["sub", "sub/deep"]);
    }
    let inside = format!("{}/sub/deep", container.cgroup);
    for line in places(&container, &["--cgroup", "/sub/deep"]) {
        // A hierarchy without a directory of the container's is nobody's.
        if line.contains(&container.id) {
            assert!(line.ends_with(&inside), "{line}");
        }
    }
    let dir = cgroup::directory("pids", &inside).unwrap();
    assert_eq!(cgroup::processes(&dir).len(), 1);
    container.end();
}

fn below_by_controller(t: &T) {
    t.needs(&[Need::CgroupV1("pids"), Need::CgroupV1("memory"), Need::CgroupV1("cpu")]);
    t.differs("crun", "no controllers");
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    for (controller, name) in [("pids", "one"), ("memory", "other")] {
        fs::create_dir(cgroup::directory(controller, &container.cgroup).unwrap().join(name)).unwrap();
    }
    let lines = places(&container, &["--cgroup", "pids:one", "--cgroup", "memory:/other"]);
    let of = |controller: &str| {
        let mark = format!(":{controller}:");
        lines.iter().find(|line| line.contains(&mark)).unwrap().clone()
    };
    assert!(of("pids").ends_with(&format!("{}/one", container.cgroup)), "{lines:?}");
    assert!(of("memory").ends_with(&format!("{}/other", container.cgroup)), "{lines:?}");
    assert!(of("cpu").ends_with(&container.cgroup), "{lines:?}");
    container.end();
}

fn below_refused(t: &T) {
    t.needs(&[Need::Controller("pids")]);
    t.differs("crun", "what is not there is made");
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    for places in
        [&["../x"][..], &["a/../../x"], &["missing"], &["nonsense:/"], &[":/"], &["pids,pids:/"], &["/", "/"]]
    {
        let words = places.iter().flat_map(|place| ["--cgroup", place]);
        container
            .bare("exec")
            .args(words)
            .id(&container.id)
            .then(["/payload", "exit", "0"])
            .done()
            .expect(255);
    }
    container.end();
}

/// A container that makes cgroups for itself, as an init system in it does.
fn beside_the_first_process(t: &T) {
    t.needs(&[Need::CgroupV2, Need::Controller("pids")]);
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    let dir = cgroup::directory("pids", &container.cgroup).unwrap();
    let inner = dir.join("inner");
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("cgroup.procs"), container.pid().to_string()).unwrap();
    fs::write(dir.join("cgroup.subtree_control"), "+pids").unwrap();
    let lines = places(&container, &[]);
    assert!(lines[0].ends_with(&format!("{}/inner", container.cgroup)), "{lines:?}");
    container.end();
}

/// A container of the case below a cgroup of its own.
fn nested<'a>(t: &'a T, bundle: &'a mut Bundle, name: &str) -> (Container<'a>, String) {
    let parent = format!("{}/{name}", cgroup::parent());
    let id = format!("{name}-{}", std::process::id());
    let path = format!("{parent}/{id}");
    bundle.set("/linux/cgroupsPath", json!(path));
    bundle.write();
    (Container::as_written(t, bundle, id, path), parent)
}

/// A cgroup that was there before stays; what lives on in it without a pid namespace that ends with init does not.
fn survivors_where_the_cgroup_stays(t: &T) {
    t.needs(&[Need::CgroupV2, Need::FsDriver, Need::Root]);
    let mut bundle = Bundle::new(t, &["orphan"]);
    bundle.without_namespace("pid");
    let (container, parent) = nested(t, &mut bundle, "kept");
    let dir = cgroup::directory("pids", &container.cgroup).unwrap();
    fs::create_dir_all(&dir).unwrap();
    container.run().expect(0);
    let left = fs::read_to_string(dir.join("cgroup.procs")).unwrap();
    assert!(left.is_empty(), "{left}");
    assert!(!container.root.join(&container.id).exists());
    cgroup::remove(&parent);
}

/// The directory that freezes, and how it is told.
fn freezer(path: &str) -> (PathBuf, &'static str, &'static str) {
    let dir = cgroup::directory("freezer", path).unwrap();
    match cgroup::mode() {
        Mode::Version2 => (dir.join("cgroup.freeze"), "1", "0"),
        _ => (dir.join("freezer.state"), "FROZEN", "THAWED"),
    }
}

fn below_a_frozen_one(t: &T) {
    t.needs(&[Need::Controller("freezer"), Need::FsDriver]);
    if !t.ours() {
        t.skip("others wait for ever");
    }
    let mut bundle = Bundle::new(t, &["ready"]);
    let (container, parent) = nested(t, &mut bundle, "frozen-pod");
    let (file, freeze, thaw) = freezer(&parent);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, freeze).unwrap();
    let begun = Instant::now();
    let error = container.create_call().within(Duration::from_secs(20)).error();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(error["msg"].as_str().unwrap().contains("frozen"), "{error}");
    container.gone();
    fs::write(&file, thaw).unwrap();
    container.create();
    fs::write(&file, freeze).unwrap();
    let begun = Instant::now();
    let message = container.call("start").done().expect(1).message();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(message.contains("frozen") || message.contains("paused"), "{message}");
    fs::write(&file, thaw).unwrap();
    container.start();
    container.until("ready");
    container.end();
    cgroup::remove(&parent);
}

fn into_a_frozen_one(t: &T) {
    t.needs(&[Need::Controller("freezer"), Need::FsDriver]);
    if !t.ours() {
        t.skip("others wait for ever");
    }
    let mut bundle = Bundle::new(t, &["ready"]);
    let (container, parent) = nested(t, &mut bundle, "freezing-pod");
    container.ready();
    let (file, freeze, thaw) = freezer(&parent);
    fs::write(&file, freeze).unwrap();
    let begun = Instant::now();
    let exec = || container.call("exec").then(["/payload", "exit", "0"]).within(Duration::from_secs(20));
    exec().done().expect(255);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    fs::write(&file, thaw).unwrap();
    exec().done().expect(0);
    container.end();
    cgroup::remove(&parent);
}

fn below_a_threaded_one(t: &T) {
    t.needs(&[Need::CgroupV2, Need::Controller("pids"), Need::Controller("memory"), Need::FsDriver]);
    if !t.ours() {
        t.skip("others differ");
    }
    let mut bundle = Bundle::new(t, &["ready"]);
    let (container, parent) = nested(t, &mut bundle, "threaded-pod");
    let dir = cgroup::directory("pids", &parent).unwrap();
    fs::create_dir_all(dir.join("thread")).unwrap();
    fs::write(dir.join("thread/cgroup.type"), "threaded").unwrap();
    let mut spec = container.bundle.spec.clone();
    spec["linux"]["resources"]["memory"] = json!({"limit": 64 << 20});
    spec["linux"]["cgroupsPath"] = json!(format!("{parent}/thread/{}", container.id));
    container.bundle.write_text(&spec.to_string());
    let error = container.create_call().error();
    assert!(error["msg"].as_str().unwrap().contains("thread"), "{error}");
    container.gone();
    fs::remove_dir(dir.join("thread")).unwrap();
    cgroup::remove(&parent);
}

/// The owners of the files that a container needs to make cgroups of its own, and of one that it must not have.
fn owners(container: &Container<'_>) -> Vec<u32> {
    use std::os::unix::fs::MetadataExt;
    let dir = cgroup::directory("pids", &container.cgroup).unwrap();
    let files = ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads", "pids.max"];
    files.iter().map(|file| fs::metadata(dir.join(file)).unwrap().uid()).collect()
}

fn owner(t: &T) {
    t.needs(&[Need::Root, Need::CgroupV2, Need::UserNamespaces, Need::Controller("pids")]);
    t.differs("crun", "gives it to the root of the user namespace");
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.user_namespace(200_000);
    bundle.add("/linux/namespaces", json!({"type": "cgroup"}));
    bundle.mount("cgroup", "cgroup", "/sys/fs/cgroup", &["nosuid", "noexec", "nodev", "rw"]);
    bundle.set("/process/user", json!({"uid": 7, "gid": 7}));
    let container = Container::new(t, &mut bundle);
    container.ready();
    assert_eq!(owners(&container), [200_007, 200_007, 200_007, 200_007, 0]);
    container.end();
}

fn no_owner(t: &T) {
    t.needs(&[Need::Root, Need::CgroupV2, Need::UserNamespaces, Need::Controller("pids")]);
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.user_namespace(200_000);
    bundle.add("/linux/namespaces", json!({"type": "cgroup"}));
    // Read-only, it has no use for them.
    bundle.mount("cgroup", "cgroup", "/sys/fs/cgroup", &["nosuid", "noexec", "nodev", "ro"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    assert_eq!(owners(&container), [0, 0, 0, 0, 0]);
    container.end();
}
