//! Mounts that a running container gets, or loses.
use coracle_tests::*;
use std::fs;
use std::os::unix::fs::symlink;

cases![
    added_and_removed,
    below_a_user_namespace,
    before_the_start,
    sources_in_the_root,
    links_are_not_followed,
    what_cannot_be_added,
    what_cannot_be_removed,
    wrong_documents,
    ended,
];

fn others(t: &T) {
    t.differs("runc", "crun's command");
    t.differs("crun", "follows links, tells nothing of pointers");
}

fn call(t: &T, container: &Container<'_>, action: &str, list: &Value) -> Done {
    let file = t.dir().join("list.json");
    fs::write(&file, list.to_string()).unwrap();
    container.bare("mounts").arg(action).id(&container.id).then([&file]).done()
}

fn mounts(container: &Container<'_>) -> Value {
    container.tries(&[json!(["mounts"])])[0]["ok"].clone()
}

fn is_mounted(container: &Container<'_>, target: &str) -> bool {
    mounts(container).as_array().unwrap().iter().any(|mount| mount["target"] == target)
}

fn source(t: &T) -> std::path::PathBuf {
    let source = t.dir().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "of the host").unwrap();
    source
}

fn added_and_removed(t: &T) {
    others(t);
    let source = source(t);
    let before = dirs::mounts_below(t.dir());
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    let list = json!([
        {"destination": "/new/deep", "source": source, "options": ["rbind", "ro", "nosuid"]},
        {"destination": "/etc/one", "source": source.join("file"), "options": ["bind"]},
        {"destination": "/new/deep2", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m", "mode=700", "noexec"]},
        {"destination": "/plain", "source": source, "options": ["bind"]},
    ]);
    call(t, &container, "add", &list).expect(0);
    let all = mounts(&container);
    assert!(has_options(mount_at(&all, "/new/deep"), &["ro", "nosuid"]), "{all:#}");
    assert!(has_options(mount_at(&all, "/new/deep2"), &["noexec", "size=1024k"]), "{all:#}");
    let got = container.tries(&[
        json!(["read", "/new/deep/file"]),
        json!(["write", "/new/deep/file", "x"]),
        json!(["read", "/etc/one"]),
        json!(["write", "/plain/file", "from inside"]),
        json!(["open", "/new/deep2/x", "create"]),
    ]);
    assert_eq!(got[0]["ok"]["text"], "of the host");
    assert!(is_error(&got[1], "EROFS"), "{got:?}");
    assert_eq!(got[2]["ok"]["text"], "of the host");
    assert!(got[3].get("ok").is_some() && got[4].get("ok").is_some(), "{got:?}");
    assert_eq!(fs::read_to_string(source.join("file")).unwrap(), "from inside");
    assert_eq!(dirs::mounts_below(t.dir()), before, "the host sees none of it");
    // Twice at one place: the later one is removed first.
    let again = json!([{"destination": "/plain", "type": "tmpfs"}]);
    call(t, &container, "add", &again).expect(0);
    call(t, &container, "remove", &json!([{"destination": "/plain"}])).expect(0);
    assert!(is_mounted(&container, "/plain"));
    // A file in use, a directory, and the other words mean nothing.
    let list = json!([
        {"destination": "/etc/one"},
        {"destination": "/new/deep/", "source": "/nowhere", "options": ["no-such-option"]},
        {"destination": "/plain"},
    ]);
    call(t, &container, "remove", &list).expect(0);
    let left = mounts(&container).to_string();
    assert!(
        !left.contains("/etc/one") && !left.contains("/new/deep\"") && !left.contains("/plain"),
        "{left}"
    );
    assert!(left.contains("/new/deep2"));
    container.end();
}

fn below_a_user_namespace(t: &T) {
    others(t);
    t.needs(&[Need::UserNamespaces]);
    let source = source(t);
    // What the kernel locks is locked here, too: the host's flags cannot be taken off inside.
    let inner = source.join("inner");
    fs::create_dir(&inner).unwrap();
    let flags = rustix::mount::MountFlags::RDONLY | rustix::mount::MountFlags::NOSUID;
    rustix::mount::mount("tmpfs", &inner, "tmpfs", flags, None).unwrap();
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.user_namespace(100_000);
    let container = Container::new(t, &mut bundle);
    container.ready();
    let list = json!([
        {"destination": "/a", "source": inner, "options": ["bind"]},
        {"destination": "/b", "source": source, "options": ["rbind"]},
        {"destination": "/c", "type": "tmpfs"},
    ]);
    let done = call(t, &container, "add", &list);
    rustix::mount::unmount(&inner, rustix::mount::UnmountFlags::DETACH).unwrap();
    done.expect(0);
    let all = mounts(&container);
    assert!(has_options(mount_at(&all, "/a"), &["ro", "nosuid"]), "{all:#}");
    let got = container.tries(&[
        json!(["mount", "none", "/a", "", 0x1020]),
        json!(["open", "/c/x", "create"]),
        json!(["stat", "/c/x"]),
        json!(["read", "/b/file"]),
    ]);
    assert!(got[0].get("ok").is_none(), "{got:?}");
    assert!(got[1].get("ok").is_some(), "{got:?}");
    assert_eq!(got[3]["ok"]["text"], "of the host");
    call(t, &container, "remove", &json!([{"destination": "/a"}, {"destination": "/c"}])).expect(0);
    assert!(!is_mounted(&container, "/a") && is_mounted(&container, "/b"));
    container.end();
}

fn before_the_start(t: &T) {
    others(t);
    let source = source(t);
    let mut bundle = Bundle::new(t, &["do", r#"["read", "/late/file"]"#]);
    let container = Container::new(t, &mut bundle);
    container.create();
    call(t, &container, "add", &json!([{"destination": "/late", "source": source, "options": ["bind"]}]))
        .expect(0);
    container.start().wait();
    assert!(container.printed().contains("of the host"), "{}", container.printed());
    container.delete();
}

fn sources_in_the_root(t: &T) {
    others(t);
    let mut bundle = Bundle::new(t, &["ready"]);
    // Led out of the root by a link, a source would be the host's.
    let outside = t.dir().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "").unwrap();
    symlink(&outside, bundle.inside("/link")).unwrap();
    fs::create_dir(bundle.inside("/dir")).unwrap();
    let (link, dir) = (bundle.inside("/link"), bundle.inside("/dir"));
    let container = Container::new(t, &mut bundle);
    container.ready();
    let done =
        call(t, &container, "add", &json!([{"destination": "/x", "source": link, "options": ["bind"]}]));
    let error = done.expect(1).error();
    assert_eq!(error["pointer"], "/0/source", "{error}");
    assert!(!is_mounted(&container, "/x"));
    let relative = json!([
        {"destination": "/x", "source": dir, "options": ["bind", "ro"]},
        {"destination": "/y", "source": "rootfs/dir", "options": ["bind"]},
    ]);
    call(t, &container, "add", &relative).expect(0);
    assert!(is_mounted(&container, "/x") && is_mounted(&container, "/y"));
    container.end();
}

fn links_are_not_followed(t: &T) {
    others(t);
    let source = source(t);
    let mut bundle = Bundle::new(t, &["ready"]);
    symlink("/proc", bundle.inside("/trap")).unwrap();
    let container = Container::new(t, &mut bundle);
    container.ready();
    for destination in ["/trap", "/trap/sys", "/trap/new"] {
        for action in ["add", "remove"] {
            let list = json!([{"destination": destination, "source": source, "options": ["bind"]}]);
            let error = call(t, &container, action, &list).expect(1).error();
            assert_eq!(
                (&error["pointer"], &error["errno"]),
                (&json!("/0/destination"), &json!("ELOOP")),
                "{error}"
            );
        }
    }
    let proc = mounts(&container);
    assert!(has_options(mount_at(&proc, "/proc/sys"), &["ro"]), "{proc:#}");
    container.end();
}

fn what_cannot_be_added(t: &T) {
    others(t);
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    let before = mounts(&container);
    for (mount, pointer) in [
        (json!({"destination": "/p", "type": "proc"}), "/1/type"),
        (json!({"destination": "/s", "type": "sysfs"}), "/1/type"),
        (json!({"destination": "/c", "type": "cgroup"}), "/1/type"),
        (json!({"destination": "/", "type": "tmpfs"}), "/1/destination"),
        (json!({"destination": "/proc/sys", "type": "tmpfs"}), "/1/destination"),
        (json!({"destination": "/tmp", "options": ["remount", "rw"]}), "/1/options"),
        (json!({"destination": "/b", "options": ["bind"]}), "/1/source"),
        (json!({"destination": "/b", "source": "/no/such", "options": ["bind"]}), "/1/source"),
    ] {
        let list = json!([{"destination": "/first", "type": "tmpfs"}, mount]);
        let error = call(t, &container, "add", &list).expect(1).error();
        assert_eq!(error["pointer"], pointer, "{error}");
        assert_eq!(mounts(&container), before, "nothing was added");
    }
    container.end();
}

fn what_cannot_be_removed(t: &T) {
    others(t);
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    let before = mounts(&container);
    for destination in ["/", "/proc", "/proc/sys", "/sys", "/sys/firmware", "/dev", "/proc/../proc/kcore"] {
        let error = call(t, &container, "remove", &json!([{"destination": destination}])).expect(1).error();
        assert_eq!(error["pointer"], "/0/destination", "{error}");
    }
    for (destination, says) in [("/tmp", "nothing is mounted there"), ("/no/such", "ENOENT")] {
        let done = call(t, &container, "remove", &json!([{"destination": destination}])).expect(1);
        let error = done.error();
        assert_eq!(error["pointer"], "/0/destination", "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
    assert_eq!(mounts(&container), before);
    container.end();
}

fn wrong_documents(t: &T) {
    others(t);
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    for (list, pointer) in [
        (json!({"mounts": []}), ""),
        (json!([{"source": "/"}]), "/0"),
        (json!([{"destination": 7}]), "/0/destination"),
        (json!([{"destination": "/a", "type": "tmpfs", "options": "ro"}]), "/0/options"),
    ] {
        let error = call(t, &container, "add", &list).expect(1).error();
        assert_eq!(error.get("pointer").and_then(Value::as_str).unwrap_or(""), pointer, "{error}");
    }
    call(t, &container, "add", &json!([])).expect(0);
    let done = call(t, &container, "change", &json!([])).expect(1);
    assert!(done.message().contains("use add or remove"), "{done}");
    container.end();
}

fn ended(t: &T) {
    others(t);
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    let container = Container::new(t, &mut bundle);
    container.up().wait();
    let done = call(t, &container, "add", &json!([{"destination": "/a", "type": "tmpfs"}])).expect(1);
    assert!(done.message().contains("container not running"), "{done}");
    container.delete();
}
