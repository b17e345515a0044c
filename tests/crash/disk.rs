//! State directories that cannot be written, and standard streams that are not there.

use coracle_tests::{Bundle, Container, Need, T, cases, cgroup, host, json};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use std::fs;
use std::path::Path;

cases![full_disk, no_inodes, read_only_root, root_of_another_user, root_that_is_a_file, closed_streams,];

/// A small file system for the state, in the suite's own mount namespace.
struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    fn new(path: &'a Path, options: &str) -> Self {
        fs::create_dir(path).unwrap();
        mount(
            "tmpfs",
            path,
            "tmpfs",
            MountFlags::empty(),
            std::ffi::CString::new(options).unwrap().as_c_str(),
        )
        .unwrap();
        Self(path)
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = unmount(self.0, UnmountFlags::DETACH);
    }
}

/// Creates with less and less room; whatever fails leaves nothing.
fn until_it_works(t: &T, kind: &str, sizes: &[&str]) {
    t.needs(&[Need::Root]);
    let (mut failed, mut worked) = (0, 0);
    for size in sizes {
        let mut bundle = Bundle::new(t, &["exit", "0"]);
        bundle.set("/linux/seccomp", json!({"defaultAction": "SCMP_ACT_ALLOW"}));
        let container = Container::new(t, &mut bundle);
        let small = Small::new(&container.root, &format!("mode=0700,{size}"));
        let done = container.create_call().done();
        if done.code() == 0 {
            worked += 1;
            container.pid();
            container.call("start").ok();
            container.wait();
            container.delete();
        } else {
            failed += 1;
            assert!(done.message().contains(kind), "{done}");
            container.gone();
        }
        assert_eq!(fs::read_dir(&container.root).unwrap().count(), 0, "{size}");
        assert!(cgroup::named(&container.id).is_empty());
        drop(small);
        fs::remove_dir(&container.root).unwrap();
    }
    assert!(failed > 0 && worked > 0, "{failed} failed, {worked} worked: nothing was tested");
}

fn full_disk(t: &T) {
    // A page for each file, and for directories none.
    until_it_works(t, "ENOSPC", &["nr_blocks=1", "nr_blocks=2", "nr_blocks=3", "nr_blocks=64"]);
}

fn no_inodes(t: &T) {
    let sizes: Vec<String> = (1..10).chain([64]).map(|count| format!("nr_inodes={count}")).collect();
    until_it_works(t, "ENOSPC", &sizes.iter().map(String::as_str).collect::<Vec<_>>());
}

fn read_only_root(t: &T) {
    t.needs(&[Need::Root]);
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    let container = Container::new(t, &mut bundle);
    let small = Small::new(&container.root, "mode=0700");
    mount_remount(&container.root, MountFlags::RDONLY, "").unwrap();
    for call in [container.create_call(), container.run_call()] {
        let message = call.done().expect(1).message();
        assert!(message.contains("EROFS"), "{message}");
    }
    container.call("delete").arg("--force").ok();
    assert_eq!(container.bare("list").arg("--quiet").ok().out, "");
    container.gone();
    drop(small);
}

fn root_of_another_user(t: &T) {
    t.needs(&[Need::Root]);
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    let container = Container::new(t, &mut bundle);
    fs::create_dir(&container.root).unwrap();
    std::os::unix::fs::chown(&container.root, Some(1234), Some(1234)).unwrap();
    for command in ["create", "state", "delete"] {
        let call = if command == "create" { container.create_call() } else { container.call(command) };
        let message = call.done().expect(1).message();
        assert!(message.contains("another user"), "{message}");
    }
    fs::remove_dir(&container.root).unwrap();
    container.gone();
}

fn root_that_is_a_file(t: &T) {
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    let container = Container::new(t, &mut bundle);
    fs::write(&container.root, "not a directory").unwrap();
    let message = container.create_call().done().expect(1).message();
    assert!(message.contains("ENOTDIR"), "{message}");
    fs::remove_file(&container.root).unwrap();
    container.gone();
}

/// Numbers 0 to 2 may be free: what the runtime opens must not land there and reach the container.
fn closed_streams(t: &T) {
    t.differs("crun", "a closed stream is not replaced");
    for closed in [vec!["0"], vec!["1"], vec!["2"], vec!["0", "1", "2"]] {
        let mut bundle = Bundle::new(t, &["report"]);
        let file = bundle.inside("/tmp/seen");
        bundle.busybox();
        bundle.set(
            "/process/args",
            json!(["/bin/sh", "-c", "/payload report >/tmp/seen 2>/dev/null </dev/null"]),
        );
        let container = Container::new(t, &mut bundle);
        let options: Vec<&str> = closed.iter().flat_map(|fd| ["--close", fd]).collect();
        let done = container.run_call().launched(options).done();
        assert_eq!(done.code(), 0, "{done}");
        let seen: coracle_tests::Value = fs::read_to_string(&file).unwrap().trim().parse().unwrap();
        let numbers: Vec<_> = seen["fds"].as_array().unwrap().iter().map(|fd| fd["fd"].clone()).collect();
        assert_eq!(numbers, [0, 1, 2], "{}", seen["fds"]);
        container.gone();
    }
    assert!(host::mounts().iter().all(|mount| !mount.target.ends_with("seen")));
}
