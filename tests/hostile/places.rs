//! B1, B2: places in the root file system that lead outside, before and while the runtime uses them.
use super::{Swapper, rounds};
use coracle_tests::*;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

cases![
    swapped_mount_target,
    swapped_parent_of_a_mount_target,
    swapped_bind_source_in_the_root,
    evil_links,
    evil_links_without_a_dev_mount,
    evil_links_with_a_terminal,
    evil_nodes,
    evil_files_for_binds,
    evil_working_directory,
    evil_device_paths,
];

/// Runs a container over and over while somebody swaps two names of a volume. Allowed is an error, or that the mount
/// `racer` is visible inside: a mount that was made elsewhere is not.
fn race(t: &T, target: &str) {
    let marker = t.dir().join("marker");
    fs::create_dir_all(marker.join("sub")).unwrap();
    let volume = t.dir().join("volume");
    fs::create_dir_all(volume.join("dir/sub")).unwrap();
    symlink(&marker, volume.join("link")).unwrap();
    let before = (dirs::tree(&marker), host::mounts());
    let swapper = Swapper::start(&volume.join("dir"), &volume.join("link"));
    let (mut errors, mut moved) = (0, 0);
    for _ in 0..rounds(60) {
        let mut bundle = Bundle::new(t, &["do", r#"["mounts"]"#]);
        bundle.bind(&volume, "/volume", &["rw"]).mount("tmpfs", "racer", target, &["size=1m"]);
        let container = Container::new(t, &mut bundle);
        let done = container.run();
        if done.code() != 0 {
            done.error();
            errors += 1;
            continue;
        }
        let mounts = done.json()[0]["ok"].as_array().unwrap().clone();
        let racer: Vec<&Value> = mounts.iter().filter(|mount| mount["source"] == "racer").collect();
        assert_eq!(racer.len(), 1, "mounted where the container does not see it");
        if racer[0]["target"] != target {
            moved += 1;
        }
    }
    drop(swapper);
    assert_eq!((dirs::tree(&marker), host::mounts()), before, "outside nothing has changed");
    println!("{}: {errors} errors, {moved} elsewhere inside", t.name);
    assert!(errors + moved > 0, "not exercised: the link was never met");
}

fn swapped_mount_target(t: &T) {
    race(t, "/volume/dir");
}

fn swapped_parent_of_a_mount_target(t: &T) {
    race(t, "/volume/dir/sub");
}

fn swapped_bind_source_in_the_root(t: &T) {
    // The mount that lands elsewhere must not become the source of a later one.
    let marker = t.dir().join("marker");
    fs::create_dir(&marker).unwrap();
    fs::write(marker.join("secret"), "of the host").unwrap();
    let volume = t.dir().join("volume");
    fs::create_dir_all(volume.join("dir")).unwrap();
    symlink(&marker, volume.join("link")).unwrap();
    let swapper = Swapper::start(&volume.join("dir"), &volume.join("link"));
    for _ in 0..rounds(40) {
        let mut bundle = Bundle::new(
            t,
            &["do", r#"["read", "/volume/dir/secret"]"#, r#"["read", "/volume/link/secret"]"#],
        );
        bundle.bind(&volume, "/volume", &["rw"]).bind(&volume, "/volume/dir", &["rw"]);
        let container = Container::new(t, &mut bundle);
        let done = container.run();
        assert!(!done.out.contains("of the host"), "{done}");
    }
    drop(swapper);
}

/// Everything a runtime makes or mounts in a root file system.
const PLACES: [&str; 14] = [
    "dev",
    "dev/pts",
    "dev/ptmx",
    "dev/console",
    "dev/shm",
    "dev/mqueue",
    "dev/null",
    "dev/zero",
    "dev/tty",
    "dev/fd",
    "dev/stdin",
    "dev/core",
    "dev/test-node",
    "sys",
];

/// For each place and each kind of link: the marker directory outside stays as it was.
fn links(t: &T, change: impl Fn(&mut Bundle), call: impl Fn(&Container<'_>) -> Done) {
    let marker = t.dir().join("marker");
    fs::create_dir(&marker).unwrap();
    fs::write(marker.join("file"), "contents").unwrap();
    for name in ["null", "ptmx", "console", "shm", "pts"] {
        fs::write(marker.join(name), "was here before").unwrap();
    }
    let before = dirs::tree(&marker);
    let host_dev = device_names();
    let relative = format!("../../../../../../../../../../..{}", marker.display());
    for place in PLACES {
        let inner = [
            marker.display().to_string(),
            format!("{}/file", marker.display()),
            format!("{}/absent", marker.display()),
        ];
        for target in inner.iter().chain([&relative, &format!("{relative}/absent")]) {
            let mut bundle = Bundle::new(t, &["exit", "0"]);
            change(&mut bundle);
            let path = bundle.rootfs().join(place);
            if path.is_dir() {
                fs::remove_dir(&path).unwrap();
            }
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(target, &path).unwrap();
            let container = Container::new(t, &mut bundle);
            let done = call(&container);
            if done.code() != 0 {
                done.error();
            }
            assert_eq!(dirs::tree(&marker), before, "{place} -> {target}: {done}");
            assert_eq!(device_names(), host_dev, "{place} -> {target}");
        }
    }
}

fn device_names() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir("/dev")
        .unwrap()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn without_dev(bundle: &mut Bundle) {
    let mounts = bundle.spec["mounts"].as_array_mut().unwrap();
    mounts.retain(|mount| mount["destination"] != "/dev");
}

fn evil_links(t: &T) {
    t.differs("runc", "the image's /dev is followed");
    links(
        t,
        |bundle| {
            bundle.set(
                "/linux/devices",
                json!([{"path": "/dev/test-node", "type": "c", "major": 1, "minor": 3}]),
            );
        },
        |container| container.run(),
    );
}

fn evil_links_without_a_dev_mount(t: &T) {
    t.differs("runc", "CVE-2024-45310");
    t.differs("crun", "CVE-2026-47766");
    links(
        t,
        |bundle| {
            without_dev(bundle);
            bundle.set(
                "/linux/devices",
                json!([{"path": "/dev/test-node", "type": "c", "major": 1, "minor": 3}]),
            );
        },
        |container| container.run(),
    );
}

fn evil_links_with_a_terminal(t: &T) {
    t.differs("runc", "CVE-2025-52565");
    t.differs("crun", "CVE-2026-47766");
    links(
        t,
        |bundle| {
            without_dev(bundle);
            bundle.set("/process/terminal", json!(true));
        },
        |container| {
            let path = container.bundle.dir.join("s");
            let socket = terminal::ConsoleSocket::new(path.clone());
            let done = container.run_call().arg("--detach").arg("--console-socket").arg(&path).done();
            if done.code() == 0 {
                container.pid();
                drop(socket);
                let _ = container.call("delete").arg("--force").done();
            }
            done
        },
    );
}

fn evil_nodes(t: &T) {
    // What stands at the place is not a link but something else that opening or writing would change.
    for place in ["dev/null", "dev/ptmx", "dev/console", "dev/pts", "dev/fd"] {
        for kind in ["fifo", "file", "directory", "device"] {
            let mut bundle = Bundle::new(t, &["exit", "0"]);
            without_dev(&mut bundle);
            let path = bundle.rootfs().join(place);
            make_inode(&path, kind);
            let container = Container::new(t, &mut bundle);
            // Nothing may wait for ever, and nothing of the host changes; both outcomes are right.
            let done = container.run_call().within(std::time::Duration::from_secs(20)).done();
            if done.code() != 0 {
                done.error();
            }
        }
    }
}

fn make_inode(path: &Path, kind: &str) {
    use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
    match kind {
        "fifo" => mknodat(CWD, path, FileType::Fifo, Mode::RUSR, 0).unwrap(),
        "device" => mknodat(CWD, path, FileType::CharacterDevice, Mode::RUSR, makedev(1, 1)).unwrap(),
        "directory" => fs::create_dir(path).unwrap(),
        _ => fs::write(path, "contents").unwrap(),
    }
}

fn evil_files_for_binds(t: &T) {
    let marker = t.dir().join("marker");
    fs::create_dir(&marker).unwrap();
    let source = t.dir().join("resolv.conf");
    fs::write(&source, "nameserver").unwrap();
    let before = dirs::tree(&marker);
    for target in [
        marker.join("made"),
        Path::new("../../../../../../../..").join(marker.strip_prefix("/").unwrap()).join("made"),
    ] {
        let mut bundle = Bundle::new(t, &["do", r#"["read", "/etc/resolv.conf"]"#]);
        symlink(&target, bundle.inside("/etc/resolv.conf")).unwrap();
        bundle.bind(&source, "/etc/resolv.conf", &["ro"]);
        let container = Container::new(t, &mut bundle);
        let done = container.run();
        if done.code() != 0 {
            done.error();
        }
        assert_eq!(dirs::tree(&marker), before, "{done}");
    }
}

fn evil_working_directory(t: &T) {
    let marker = t.dir().join("marker");
    fs::create_dir(&marker).unwrap();
    for target in [marker.display().to_string(), format!("../../../../../../../..{}", marker.display())] {
        let mut bundle = Bundle::new(t, &["report"]);
        symlink(&target, bundle.inside("/link")).unwrap();
        bundle.set("/process/cwd", json!("/link/new/dir"));
        let container = Container::new(t, &mut bundle);
        let done = container.run();
        if done.code() != 0 {
            done.error();
        }
        assert_eq!(fs::read_dir(&marker).unwrap().count(), 0, "{done}");
    }
}

fn evil_device_paths(t: &T) {
    let marker = t.dir().join("marker");
    fs::create_dir(&marker).unwrap();
    for path in [
        format!("/link{}", ""),
        "/link/node".to_owned(),
        format!("/../../../../../..{}/node", marker.display()),
    ] {
        let mut bundle = Bundle::new(t, &["exit", "0"]);
        symlink(&marker, bundle.inside("/link")).unwrap();
        bundle.set("/linux/devices", json!([{"path": path, "type": "c", "major": 1, "minor": 3}]));
        let container = Container::new(t, &mut bundle);
        let done = container.run();
        if done.code() != 0 {
            done.error();
        }
        assert_eq!(fs::read_dir(&marker).unwrap().count(), 0, "{path}: {done}");
    }
}
