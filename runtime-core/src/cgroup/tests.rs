//! Native tests: real sub-cgroups of this process's own, made and removed here. They need root and, for limits, the
//! controllers that the machine has; what is skipped is said.
//!
//! Longer than a file should be: one kind of subject for all cases.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::layout::{Mode, Version};
use super::*;
use crate::spec::Resources;

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

fn resources(json: &str) -> Resources {
    serde_json::from_str(json).unwrap()
}

fn id(name: &str) -> String {
    format!("unit-{}-{name}", std::process::id())
}

fn plan(layout: &Layout, name: &str, json: &str) -> CgroupPlan {
    CgroupPlan::new(layout, None, &id(name), &resources(json), &[], false).unwrap()
}

/// A cgroup that is removed with everything in it when the test ends, however it ends.
struct Guard(Cgroup);

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.thaw());
        drop(self.0.kill_all());
        let gone = self.0.remove();
        if !std::thread::panicking() {
            gone.unwrap();
        }
    }
}

fn make(layout: &Layout, name: &str, json: &str) -> Guard {
    Guard(plan(layout, name, json).make().unwrap())
}

/// The part of a layout with one version, as a host of that kind would have it.
fn only(version: Version) -> Option<Layout> {
    let mut layout = Layout::probe().unwrap();
    layout.hierarchies.retain(|one| one.version == version);
    (layout.mode() != Mode::Absent).then_some(layout)
}

/// Starts a shell script inside, entered the way that a container's init enters version 1; the version 2 directory is
/// entered through `cgroup.procs`, as std cannot clone into one.
fn spawn(group: &Cgroup, script: &str) -> Child {
    let mut files: Vec<OwnedFd> = group.joins().unwrap();
    if let Some(member) = group.v2() {
        files.push(member.dir.file("cgroup.procs", rustix::fs::OFlags::WRONLY).unwrap());
    }
    // The shell enters by itself before it does anything: no code of ours runs between fork and exec.
    let mut enter = String::new();
    let mut command = Command::new("/bin/sh");
    for file in &files {
        rustix::io::fcntl_setfd(file, rustix::io::FdFlags::empty()).unwrap();
        enter.push_str(&format!("echo 0 > /proc/self/fd/{}\n", file.as_raw_fd()));
    }
    command.arg("-c").arg(format!("{enter}echo in\n{script}")).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.process_group(0).spawn().unwrap();
    let mut line = [0u8; 3];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
    assert_eq!(&line, b"in\n");
    child
}

fn wait(child: &mut Child) -> std::process::ExitStatus {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < end, "the child does not end");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !is() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn one_directory_in_each_hierarchy_and_none_afterwards() {
    if !is_root() {
        return;
    }
    let layout = Layout::probe().unwrap();
    let group = make(&layout, "life", "{}");
    let paths: Vec<_> = group.0.directories().map(|(_, path)| path).collect();
    let wanted =
        layout.hierarchies.iter().filter(|one| one.name.as_deref().is_none_or(|name| name == "systemd"));
    assert_eq!(paths.len(), wanted.count());
    for path in &paths {
        assert!(path.join("cgroup.procs").exists(), "{path:?}");
    }
    assert!(!group.0.is_populated().unwrap());
    drop(group);
    for path in &paths {
        assert!(!path.exists(), "{path:?}");
    }
}

#[test]
fn found_again_by_inode_alone() {
    if !is_root() {
        return;
    }
    let layout = Layout::probe().unwrap();
    let group = make(&layout, "record", "{}");
    let text = serde_json::to_string(&group.0.record()).unwrap();
    let record: CgroupRecord = serde_json::from_str(&text).unwrap();
    let again = record.open().unwrap().unwrap();
    assert_eq!(again.record(), group.0.record());
    group.0.remove().unwrap();
    assert!(record.open().unwrap().is_none(), "gone");

    // The same names, other directories: neither found nor removed.
    let other = make(&layout, "record", "{}");
    assert!(record.open().unwrap().is_none());
    again.remove().unwrap();
    assert!(other.0.record().open().unwrap().is_some());
}

#[test]
fn an_intent_finds_what_a_killed_runtime_left() {
    if !is_root() {
        return;
    }
    let layout = Layout::probe().unwrap();
    let path = format!("{}/above/leaf", id("intent"));
    let plan = CgroupPlan::new(&layout, Some(&path), "x", &Resources::default(), &[], false).unwrap();
    let before = CgroupRecord::intent(&plan).unwrap();
    assert!(before.open().unwrap().is_none(), "nothing was made yet");
    let group = plan.make_unguarded(before.mark()).unwrap();
    let tops: Vec<_> =
        group.directories().map(|(_, path)| path.parent().unwrap().parent().unwrap().to_owned()).collect();
    let after = CgroupRecord::intent(&plan).unwrap();
    assert!(after.open().unwrap().is_none(), "what existed before is not ours to clean up");
    // The process that made it is gone; only the intent is left.
    drop(group);
    let text = serde_json::to_string(&before).unwrap();
    let found = serde_json::from_str::<CgroupRecord>(&text).unwrap().open().unwrap().unwrap();
    found.kill_all().unwrap();
    // Killed before the last level was made: nothing to open, and still something to take away.
    for (_, path) in found.directories() {
        std::fs::remove_dir(path).unwrap();
    }
    assert!(before.open().unwrap().is_none());
    before.remove().unwrap();
    assert!(tops.iter().all(|path| !path.exists()), "{tops:?}");
}

/// Between the intent and the making somebody else made a directory of that name: it is neither entered, killed nor removed.
#[test]
fn an_intent_does_not_take_a_strangers_directory_for_its_own() {
    if !is_root() {
        return;
    }
    let layout = Layout::probe().unwrap();
    let path = id("stranger");
    let plan = CgroupPlan::new(&layout, Some(&format!("/{path}")), "x", &Resources::default(), &[], false);
    let plan = plan.unwrap();
    let intent = CgroupRecord::intent(&plan).unwrap();
    let stranger = Guard(plan.make().unwrap());
    let mut child = spawn(&stranger.0, "exec sleep 100");
    assert!(intent.open().unwrap().is_none(), "nothing of it is opened, and so nothing killed");
    intent.remove().unwrap();
    assert!(stranger.0.is_populated().unwrap() && child.try_wait().unwrap().is_none());
    stranger.0.kill_all().unwrap();
    wait(&mut child);
}

#[test]
fn a_directory_of_others_is_left_alone() {
    if !is_root() {
        return;
    }
    let layout = Layout::probe().unwrap();
    let first = make(&layout, "taken", "{}");
    let path = |group: &Cgroup| group.record();
    let mut implicit = plan(&layout, "taken", "{}");
    let error = implicit.make().unwrap_err();
    assert!(error.to_string().contains("exists already"), "{error}");

    // Named by the configuration and empty: used, recorded as not ours, never removed.
    implicit.directories.iter_mut().for_each(|one| one.explicit = true);
    let second = implicit.make().unwrap();
    assert_ne!(path(&second), path(&first.0), "one is ours, the other not");
    second.remove().unwrap();
    assert!(first.0.record().open().unwrap().is_some());

    let mut child = spawn(&first.0, "exec sleep 100");
    let error = implicit.make().unwrap_err();
    assert!(error.to_string().contains("has processes"), "{error}");
    first.0.kill_all().unwrap();
    wait(&mut child);
    wait_until("empty", || !first.0.is_populated().unwrap());
    let frozen = first.0.freeze().unwrap();
    let error = implicit.make().unwrap_err();
    assert!(error.to_string().contains("is frozen"), "{error}");
    drop(frozen);
    assert!(first.0.record().open().unwrap().is_some(), "failures removed what is not theirs");
}

#[test]
fn directories_above_go_with_the_container_that_made_them() {
    if !is_root() {
        return;
    }
    let layout = Layout::probe().unwrap();
    let name = format!("{}-above/middle/leaf", id("path"));
    let plan = CgroupPlan::new(&layout, Some(&name), "x", &Resources::default(), &[], false).unwrap();
    let group = Guard(plan.make().unwrap());
    let above: Vec<_> =
        group.0.directories().map(|(_, path)| path.parent().unwrap().parent().unwrap().to_owned()).collect();
    let sibling = CgroupPlan::new(
        &layout,
        Some(&name.replace("leaf", "second")),
        "x",
        &Resources::default(),
        &[],
        false,
    );
    let sibling = Guard(sibling.unwrap().make().unwrap());
    group.0.remove().unwrap();
    assert!(above.iter().all(|path| path.exists()), "the sibling lives there");
    drop(sibling);
    assert!(above.iter().all(|path| path.join("middle").exists()), "not the sibling's to remove");
    drop(group);
    assert!(above.iter().all(|path| !path.exists()));
}

#[test]
fn a_failure_in_the_middle_leaves_nothing() {
    if !is_root() {
        return;
    }
    let Some(layout) = only(Version::V1).filter(|layout| layout.controller("cpuset").is_some()) else {
        eprintln!("skipped: no cpuset controller of version 1");
        return;
    };
    let plan = plan(&layout, "undo", r#"{"cpu": {"cpus": "100000"}}"#);
    let error = plan.make().unwrap_err();
    assert_eq!(error.pointer.as_deref(), Some("/linux/resources/cpu/cpus"));
    for one in &plan.directories {
        let path = std::path::Path::new(&one.mount).join(one.path.as_str());
        assert!(!path.exists(), "{path:?}");
    }
}

#[test]
fn freeze_thaw_and_the_guard() {
    if !is_root() {
        return;
    }
    for version in [Version::V1, Version::V2] {
        let Some(layout) = only(version) else { continue };
        let group = make(&layout, "freeze", "{}");
        let mut child = spawn(&group.0, "while :; do :; done");
        drop(group.0.freeze().unwrap());
        assert!(!group.0.is_frozen().unwrap(), "{version:?}: a dropped guard thaws");
        group.0.freeze().unwrap().keep();
        assert!(group.0.is_frozen().unwrap());
        assert_eq!(group.0.procs().unwrap(), [i32::try_from(child.id()).unwrap()]);
        group.0.thaw().unwrap();
        assert!(!group.0.is_frozen().unwrap());
        group.0.kill_all().unwrap();
        assert_eq!(wait(&mut child).signal(), Some(9));
    }
}

#[test]
fn kill_reaches_every_process_frozen_or_not() {
    if !is_root() {
        return;
    }
    let mut layouts: Vec<Layout> = [Version::V1, Version::V2].into_iter().filter_map(only).collect();
    layouts.push(Layout::probe().unwrap());
    for (layout, one_by_one) in layouts.iter().flat_map(|layout| [(layout, false), (layout, true)]) {
        for frozen in [false, true] {
            let group = make(layout, "kill", "{}");
            let mut child =
                spawn(&group.0, "for i in 1 2 3 4 5; do (while :; do sleep 1; done) & done; wait");
            wait_until("six processes", || group.0.procs().unwrap().len() >= 6);
            if frozen {
                group.0.freeze().unwrap().keep();
            }
            if one_by_one { group.0.kill_one_by_one() } else { group.0.kill_all() }.unwrap();
            assert_eq!(wait(&mut child).signal(), Some(9));
            wait_until("nobody left", || !group.0.is_populated().unwrap());
            assert!(group.0.procs().unwrap().is_empty());
            // Version 2 stays frozen when it was and is empty; what matters is that nothing hangs in it.
            if one_by_one {
                assert!(!group.0.is_frozen().unwrap());
            }
        }
    }
}

#[test]
fn processes_below_are_listed_killed_and_their_directories_removed() {
    if !is_root() {
        return;
    }
    for version in [Version::V1, Version::V2] {
        let Some(layout) = only(version) else { continue };
        let group = make(&layout, "tree", "{}");
        let (_, top) =
            group.0.directories().find(|(name, _)| version == Version::V2 || name == "freezer").unwrap();
        // Deeper than directories could be held open at once, and one process at the bottom.
        let mut deep = top.clone();
        for _ in 0..40 {
            deep = deep.join("d");
            std::fs::create_dir(&deep).unwrap();
        }
        std::fs::create_dir(top.join("side")).unwrap();
        let mut child =
            Command::new("/bin/sh").args(["-c", "read line"]).stdin(Stdio::piped()).spawn().unwrap();
        std::fs::write(deep.join("cgroup.procs"), child.id().to_string()).unwrap();
        assert_eq!(group.0.procs().unwrap(), [i32::try_from(child.id()).unwrap()]);
        assert!(group.0.is_populated().unwrap());
        group.0.kill_all().unwrap();
        assert_eq!(wait(&mut child).signal(), Some(9));
        group.0.remove().unwrap();
        assert!(!top.exists());
    }
}

#[test]
fn limits_of_version_1_are_in_force() {
    if !is_root() {
        return;
    }
    let Some(layout) = only(Version::V1) else {
        eprintln!("skipped: no version 1");
        return;
    };
    if !["memory", "pids", "cpu", "cpuset"].iter().all(|name| layout.controller(name).is_some()) {
        eprintln!("skipped: not all controllers");
        return;
    }
    let json = r#"{"memory": {"limit": 16777216, "swap": 16777216}, "pids": {"limit": 4},
        "cpu": {"shares": 512, "quota": 20000, "period": 50000, "cpus": "0", "idle": 0}}"#;
    let group = make(&layout, "limits", json);
    let value = |hierarchy: &str, file: &str| {
        let (_, path) =
            group.0.directories().find(|(name, _)| name.split(',').any(|one| one == hierarchy)).unwrap();
        std::fs::read_to_string(path.join(file)).unwrap().trim().to_owned()
    };
    assert_eq!(value("memory", "memory.limit_in_bytes"), "16777216");
    assert_eq!(value("memory", "memory.memsw.limit_in_bytes"), "16777216");
    assert_eq!(value("cpu", "cpu.shares"), "512");
    assert_eq!(value("cpu", "cpu.cfs_quota_us"), "20000");
    assert_eq!(value("cpu", "cpu.cfs_period_us"), "50000");
    assert_eq!(value("cpuset", "cpuset.cpus"), "0");

    let mut child = spawn(&group.0, "for i in 1 2 3 4 5 6; do sleep 5 & done; wait");
    assert!(!wait(&mut child).success(), "fork is refused");
    group.0.kill_all().unwrap();
    assert_eq!(group.0.oom_kills().unwrap(), Some(0));
    let mut child = spawn(&group.0, "exec tail /dev/zero");
    assert_eq!(wait(&mut child).signal(), Some(9), "killed for memory");
    assert!(group.0.oom_kills().unwrap().unwrap() >= 1);

    let stats = group.0.stats().unwrap();
    let memory = stats.memory.unwrap();
    assert_eq!(memory.limit, Some(16_777_216));
    assert!(memory.peak.unwrap() > 8 << 20);
    assert_eq!(stats.pids.unwrap().limit, Some(4));
    assert!(stats.cpu.unwrap().usage_ns > 0);
}

#[test]
fn values_that_depend_on_each_other_are_changed_both_ways() {
    if !is_root() {
        return;
    }
    let Some(layout) = only(Version::V1).filter(|layout| layout.controller("memory").is_some()) else {
        eprintln!("skipped: no memory controller of version 1");
        return;
    };
    let memory = |limit: u64, swap: i64| format!(r#"{{"memory": {{"limit": {limit}, "swap": {swap}}}}}"#);
    let group = make(&layout, "update", &memory(32 << 20, 64 << 20));
    for (limit, swap) in [(128, 256 << 20), (16, 16 << 20), (512, -1), (8, 8 << 20)] {
        let writes = resources::plan(&resources(&memory(limit << 20, swap)), &layout).unwrap();
        group.0.set(&writes).unwrap();
        assert_eq!(group.0.stats().unwrap().memory.unwrap().limit, Some(limit << 20));
    }
    let mut child = spawn(&group.0, "x=$(head -c 3m /dev/zero | tr '\\0' x); sleep 100");
    wait_until("memory in use", || group.0.stats().unwrap().memory.unwrap().usage > 2 << 20);
    let check = r#"{"memory": {"limit": 1048576, "checkBeforeUpdate": true}}"#;
    let error = group.0.set(&resources::plan(&resources(check), &layout).unwrap()).unwrap_err();
    assert!(error.to_string().contains("in use"), "{error}");
    assert_eq!(error.pointer.as_deref(), Some("/linux/resources/memory/limit"));
    group.0.kill_all().unwrap();
    wait(&mut child);
}

/// Which of some device nodes a process inside can open for reading, and which it can make.
fn try_devices(group: &Cgroup) -> String {
    let script = "for n in null zero kmsg loop-control; do
            (: < /dev/$n) 2>/dev/null && echo read:$n; done
        t=$(mktemp -d); mknod $t/n c 7 7 2>/dev/null && echo mknod; rm -r $t";
    let mut child = spawn(group, script);
    let mut text = String::new();
    std::io::Read::read_to_string(child.stdout.as_mut().unwrap(), &mut text).unwrap();
    wait(&mut child);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn device_rules_are_in_force_on_both_versions() {
    if !is_root() {
        return;
    }
    // Character device 1:11 is /dev/kmsg, not on the runtime's own list.
    let cases = [
        ("{}", "read:null read:zero mknod"),
        (
            r#"{"devices": [{"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}]}"#,
            "read:null read:zero read:kmsg mknod",
        ),
        (
            r#"{"devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "access": "rw"}]}"#,
            "read:null read:zero read:kmsg mknod",
        ),
    ];
    for version in [Version::V1, Version::V2] {
        let Some(layout) = only(version) else { continue };
        if version == Version::V1 && layout.controller("devices").is_none() {
            continue;
        }
        for (json, expected) in cases {
            let group = make(&layout, "devices", json);
            let found = try_devices(&group.0).replace("read:loop-control ", "");
            assert_eq!(found, expected, "{version:?} {json}");
        }
        let all = make(&layout, "devices", r#"{"devices": [{"allow": true, "access": "rwm"}]}"#);
        assert!(try_devices(&all.0).contains("read:kmsg"));
    }
}

#[test]
fn device_programs_are_replaced_not_stacked() {
    if !is_root() {
        return;
    }
    let Some(layout) = only(Version::V2) else {
        eprintln!("skipped: no version 2");
        return;
    };
    let mut group = make(&layout, "replace", "{}");
    assert!(!try_devices(&group.0).contains("kmsg"));
    let wider = r#"{"devices": [{"allow": true, "type": "c", "major": 1, "access": "rwm"}]}"#;
    let rules = devices::DeviceRules::new(&resources(wider).devices).unwrap();
    for _ in 0..70 {
        group.0.attach(&rules.program().unwrap().unwrap()).unwrap();
    }
    let dir = group.0.into_cgroup_fd().unwrap();
    assert_eq!(crate::sys::bpf::device_programs(dir.as_fd()).unwrap().len(), 1);
    assert!(try_devices(&group.0).contains("kmsg"));

    // What a later process does: the record names the program to replace.
    let mut again = group.0.record().open().unwrap().unwrap();
    let program = devices::DeviceRules::new(&[]).unwrap().program().unwrap().unwrap();
    again.attach(&program).unwrap();
    assert_eq!(crate::sys::bpf::device_programs(dir.as_fd()).unwrap().len(), 1);
    assert!(!try_devices(&group.0).contains("kmsg"));
}

#[test]
fn descriptors_are_closed_on_exec() {
    if !is_root() {
        return;
    }
    let group = make(&Layout::probe().unwrap(), "cloexec", "{}");
    let joins = group.0.joins().unwrap();
    let dir = group.0.into_cgroup_fd();
    for fd in joins.iter().map(AsFd::as_fd).chain(dir) {
        assert!(rustix::io::fcntl_getfd(fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    }
}

/// On a machine with the controllers of version 2 (not every one that the tests run on has them).
#[test]
fn limits_of_version_2_are_in_force() {
    if !is_root() {
        return;
    }
    let needed = ["memory", "pids", "cpu", "cpuset", "io"];
    let Some(layout) =
        only(Version::V2).filter(|layout| needed.iter().all(|name| layout.controller(name).is_some()))
    else {
        eprintln!("skipped: not all controllers of version 2");
        return;
    };
    let json = r#"{"memory": {"limit": 16777216, "swap": 16777216, "reservation": 4194304}, "pids": {"limit": 4},
        "cpu": {"shares": 512, "quota": 20000, "period": 50000, "burst": 1000, "cpus": "0", "mems": "0", "idle": 0},
        "blockIO": {"weight": 300}, "unified": {"memory.high": "max", "memory.oom.group": "1", "cgroup.max.depth": "3"}}"#;
    let name = format!("{}/inner", id("limits"));
    let plan = CgroupPlan::new(&layout, Some(&name), "x", &resources(json), &[], false).unwrap();
    let group = Guard(plan.make().unwrap());
    let (_, path) = group.0.directories().next().unwrap();
    let value = |file: &str| std::fs::read_to_string(path.join(file)).unwrap().trim().to_owned();
    for (file, expected) in [
        ("memory.max", "16777216"),
        ("memory.low", "4194304"),
        ("memory.oom.group", "1"),
        ("cpu.weight", "59"),
        ("cpu.max", "20000 50000"),
        ("cpu.max.burst", "1000"),
        ("cpuset.cpus", "0"),
        ("cgroup.max.depth", "3"),
    ] {
        assert_eq!(value(file), expected, "{file}");
    }
    // A period alone keeps the quota; a quota below the burst needs both written in the kernel's order.
    for (update, expected) in [
        (r#"{"cpu": {"period": 40000}}"#, "20000 40000"),
        (r#"{"cpu": {"quota": 10000}}"#, "10000 40000"),
        (r#"{"cpu": {"quota": 5000, "burst": 0}}"#, "5000 40000"),
        (r#"{"cpu": {"quota": -1}}"#, "max 40000"),
    ] {
        group.0.set(&super::resources::plan(&resources(update), &layout).unwrap()).unwrap();
        assert_eq!(value("cpu.max"), expected, "{update}");
    }
    let mut child = spawn(&group.0, "for i in 1 2 3 4 5 6; do sleep 5 & done; wait");
    assert!(!wait(&mut child).success(), "fork is refused");
    group.0.kill_all().unwrap();
    assert_eq!(group.0.oom_kills().unwrap(), Some(0));
    let mut child = spawn(&group.0, "exec tail /dev/zero");
    assert_eq!(wait(&mut child).signal(), Some(9), "killed for memory");
    assert!(group.0.oom_kills().unwrap().unwrap() >= 1);
    let stats = group.0.stats().unwrap();
    assert_eq!(stats.memory.unwrap().limit, Some(16_777_216));
    assert_eq!(stats.pids.unwrap().limit, Some(4));
    assert!(stats.cpu.unwrap().usage_ns > 0);
    assert!(try_devices(&group.0).starts_with("read:null"));
}

/// A parent that has processes cannot hand controllers down; the error says so.
#[test]
fn a_populated_parent_is_named() {
    if !is_root() {
        return;
    }
    let Some(layout) = only(Version::V2).filter(|layout| layout.controller("memory").is_some()) else {
        eprintln!("skipped: no memory controller of version 2");
        return;
    };
    let mut parent = plan(&layout, "parent", "{}");
    parent.directories.iter_mut().for_each(|one| one.wanted.clear());
    let parent = Guard(parent.make().unwrap());
    let mut child = spawn(&parent.0, "exec sleep 100");
    let path = format!("{}/x", plan(&layout, "parent", "{}").directories[0].path);
    let json = resources(r#"{"memory": {"limit": 16777216}}"#);
    let error = CgroupPlan::new(&layout, Some(&path), "x", &json, &[], false).unwrap().make().unwrap_err();
    assert!(error.to_string().contains("has processes itself"), "{error}");
    // Without limits there is nothing to hand down.
    let free = CgroupPlan::new(&layout, Some(&path), "x", &Resources::default(), &[], false)
        .unwrap()
        .make()
        .unwrap();
    free.remove().unwrap();
    parent.0.kill_all().unwrap();
    wait(&mut child);
}
