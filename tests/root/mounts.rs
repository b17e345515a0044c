//! Mounts: order, options, binds, propagation, and what is made for them.
use coracle_tests::*;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

cases![
    order,
    covered_by_a_later_one,
    flags,
    every_option_of_the_specification,
    tmpfs_data,
    tmpfs_copies_up,
    bind_directory,
    bind_file,
    bind_read_only,
    bind_and_rbind,
    bind_recursively_read_only,
    bind_flags,
    bind_by_options_alone,
    bind_relative_source,
    bind_missing_source,
    destination_is_made,
    destination_through_symlinks,
    destination_outside_stays_inside,
    relative_destination,
    propagation_options,
    propagation_default,
    propagation_from_the_host,
    propagation_of_the_root,
    root_read_only,
    root_of_other_places,
    unknown_file_system,
    wrong_data,
];

const SIZE: &[&str] = &["size=1m"];

fn order(t: &T) {
    let mut bundle = Bundle::new(t, &["report"]);
    bundle.mount("tmpfs", "first", "/a", SIZE).mount("tmpfs", "second", "/a/b", SIZE);
    bundle.mount("tmpfs", "third", "/a/b/c", SIZE).mount("tmpfs", "fourth", "/x", SIZE);
    let seen = report(t, &mut bundle);
    let sources: Vec<&str> =
        seen["mounts"].as_array().unwrap().iter().filter_map(|mount| mount["source"].as_str()).collect();
    let place = |name: &str| sources.iter().position(|source| *source == name).expect("each is mounted");
    assert!(
        place("first") < place("second")
            && place("second") < place("third")
            && place("third") < place("fourth")
    );
    assert_eq!(mount_at(&seen["mounts"], "/a/b/c")["source"], "third");
}

fn covered_by_a_later_one(t: &T) {
    let mut bundle = Bundle::new(t, &["report", "--path", "/a/b/c"]);
    bundle.mount("tmpfs", "deep", "/a/b", SIZE).mount("tmpfs", "cover", "/a", SIZE);
    let seen = report(t, &mut bundle);
    assert_eq!(seen["paths"]["/a/b/c"]["errno"], 2, "the later mount hides the earlier");
    assert_eq!(mount_at(&seen["mounts"], "/a")["source"], "cover");
}

fn flags(t: &T) {
    let mut bundle = Bundle::new(t, &["report"]);
    bundle.mount(
        "tmpfs",
        "all",
        "/all",
        &["nosuid", "nodev", "noexec", "noatime", "nodiratime", "ro", "size=1m"],
    );
    bundle.mount("tmpfs", "none", "/none", &["suid", "dev", "exec", "strictatime", "rw", "size=1m"]);
    bundle.mount("tmpfs", "sync", "/sync", &["sync", "dirsync", "relatime", "size=1m"]);
    let seen = report(t, &mut bundle);
    let at = |target: &str| mount_at(&seen["mounts"], target).clone();
    assert!(
        has_options(&at("/all"), &["ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime"]),
        "{}",
        at("/all")
    );
    for option in ["nosuid", "nodev", "noexec", "noatime", "relatime", "ro"] {
        assert!(!has_options(&at("/none"), &[option]), "{option}: {}", at("/none"));
    }
    assert!(has_options(&at("/sync"), &["sync", "dirsync", "relatime"]), "{}", at("/sync"));
}

fn every_option_of_the_specification(t: &T) {
    t.differs("crun", "iversion, silent and loud are passed on as data");
    t.differs("runc", "nosymfollow is younger than runc 1.1");
    for option in [
        "async",
        "atime",
        "defaults",
        "dev",
        "diratime",
        "dirsync",
        "exec",
        "iversion",
        "lazytime",
        "loud",
        "noatime",
        "nodev",
        "nodiratime",
        "noexec",
        "noiversion",
        "nolazytime",
        "norelatime",
        "nostrictatime",
        "nosuid",
        "private",
        "relatime",
        "ro",
        "rprivate",
        "rshared",
        "rslave",
        "runbindable",
        "rw",
        "shared",
        "silent",
        "slave",
        "strictatime",
        "suid",
        "sync",
        "unbindable",
        "nosymfollow",
        "symfollow",
    ] {
        let mut bundle = Bundle::new(t, &["exit", "0"]);
        bundle.mount("tmpfs", "tmpfs", "/a", &[option, "size=1m"]);
        Container::new(t, &mut bundle).run().expect(0);
    }
}

fn tmpfs_data(t: &T) {
    let mut bundle = Bundle::new(t, &["report", "--path", "/a"]);
    bundle.mount("tmpfs", "tmpfs", "/a", &["size=64k", "mode=1750", "uid=11", "gid=12", "nr_inodes=77"]);
    let seen = report(t, &mut bundle);
    assert_eq!(seen["paths"]["/a"]["mode"], 0o1750);
    assert_eq!(
        (seen["paths"]["/a"]["uid"].as_i64(), seen["paths"]["/a"]["gid"].as_i64()),
        (Some(11), Some(12))
    );
    assert!(
        has_options(mount_at(&seen["mounts"], "/a"), &["size=64k", "nr_inodes=77"]),
        "{}",
        seen["mounts"]
    );
}

fn tmpfs_copies_up(t: &T) {
    let mut bundle = Bundle::new(t, &[]);
    fs::create_dir_all(bundle.inside("/data/sub")).unwrap();
    fs::write(bundle.inside("/data/sub/file"), "from the image").unwrap();
    fs::set_permissions(bundle.inside("/data/sub"), fs::Permissions::from_mode(0o710)).unwrap();
    std::os::unix::fs::chown(bundle.inside("/data/sub/file"), Some(7), Some(8)).unwrap();
    bundle.mount("tmpfs", "tmpfs", "/data", &["tmpcopyup", "size=1m"]);
    let file = bundle.inside("/data/sub/file");
    let got = answers(
        t,
        &mut bundle,
        &[
            json!(["read", "/data/sub/file"]),
            json!(["stat", "/data/sub"]),
            json!(["stat", "/data/sub/file"]),
            json!(["write", "/data/sub/file", "changed"]),
            json!(["mounts"]),
        ],
    );
    assert_eq!(got[0]["ok"]["text"], "from the image");
    assert_eq!(got[1]["ok"]["mode"], 0o710);
    assert_eq!((got[2]["ok"]["uid"].as_i64(), got[2]["ok"]["gid"].as_i64()), (Some(7), Some(8)));
    assert!(got[3].get("ok").is_some(), "{}", got[3]);
    assert_eq!(mount_at(&got[4]["ok"], "/data")["type"], "tmpfs");
    assert_eq!(fs::read_to_string(file).unwrap(), "from the image", "the copy is changed, not the image");
}

fn bind_directory(t: &T) {
    let source = t.dir().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "before").unwrap();
    let mut bundle = Bundle::new(t, &[]);
    bundle.bind(&source, "/data", &[]);
    let tries = [
        json!(["read", "/data/file"]),
        json!(["write", "/data/file", "after!"]),
        json!(["mkdir", "/data/new"]),
    ];
    let got = answers(t, &mut bundle, &tries);
    assert_eq!(got[0]["ok"]["text"], "before");
    assert_eq!(fs::read_to_string(source.join("file")).unwrap(), "after!");
    assert!(source.join("new").is_dir());
}

fn bind_file(t: &T) {
    let source = t.dir().join("source");
    fs::write(&source, "contents").unwrap();
    let mut bundle = Bundle::new(t, &[]);
    bundle.bind(&source, "/etc/passwd", &["ro"]).bind(&source, "/new/dir/file", &[]);
    let tries = [
        json!(["read", "/etc/passwd"]),
        json!(["write", "/etc/passwd", "x"]),
        json!(["read", "/new/dir/file"]),
        json!(["write", "/new/dir/file", "changed!"]),
    ];
    let got = answers(t, &mut bundle, &tries);
    assert_eq!(got[0]["ok"]["text"], "contents");
    assert!(is_error(&got[1], "EROFS"), "{}", got[1]);
    assert_eq!(got[2]["ok"]["text"], "contents");
    assert_eq!(fs::read_to_string(&source).unwrap(), "changed!");
    let made = fs::metadata(bundle.inside("/new/dir/file")).unwrap();
    assert!(made.is_file() && made.len() == 0, "the mount point is an empty file");
}

fn bind_read_only(t: &T) {
    let source = t.dir().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "x").unwrap();
    let mut bundle = Bundle::new(t, &[]);
    bundle.bind(&source, "/data", &["ro", "nosuid", "nodev"]).bind(&source, "/again", &["rw"]);
    let tries = [
        json!(["open", "/data/file", "rw"]),
        json!(["mkdir", "/data/new"]),
        json!(["chmod", "/data/file", 0o777]),
        json!(["open", "/again/file", "rw"]),
        json!(["mounts"]),
    ];
    let got = answers(t, &mut bundle, &tries);
    for refused in &got[..3] {
        assert!(is_error(refused, "EROFS"), "{refused}");
    }
    assert!(got[3].get("ok").is_some(), "another mount of the same source is not touched");
    assert!(has_options(mount_at(&got[4]["ok"], "/data"), &["ro", "nosuid", "nodev"]));
}

/// A directory with a tmpfs mounted on its `sub`, which holds the file `inner`.
fn nested(t: &T) -> std::path::PathBuf {
    let source = t.dir().join("nested");
    fs::create_dir_all(source.join("sub")).unwrap();
    mount("tmpfs", source.join("sub"), "tmpfs", MountFlags::empty(), c"size=1m").unwrap();
    fs::write(source.join("sub/inner"), "inner").unwrap();
    source
}

fn bind_and_rbind(t: &T) {
    let source = nested(t);
    let mut bundle = Bundle::new(t, &[]);
    bundle.mount("bind", &source.display().to_string(), "/flat", &["bind"]);
    bundle.mount("bind", &source.display().to_string(), "/deep", &["rbind"]);
    let got =
        answers(t, &mut bundle, &[json!(["read", "/flat/sub/inner"]), json!(["read", "/deep/sub/inner"])]);
    assert!(is_error(&got[0], "ENOENT"), "bind takes one mount: {}", got[0]);
    assert_eq!(got[1]["ok"]["text"], "inner", "rbind takes all");
    unmount(source.join("sub"), UnmountFlags::empty()).unwrap();
}

fn bind_recursively_read_only(t: &T) {
    let source = nested(t);
    let text = source.display().to_string();
    let mut bundle = Bundle::new(t, &[]);
    bundle.mount("bind", &text, "/top", &["rbind", "ro"]).mount("bind", &text, "/all", &["rbind", "rro"]);
    let got = answers(
        t,
        &mut bundle,
        &[
            json!(["open", "/top/sub/inner", "rw"]),
            json!(["mkdir", "/top/new"]),
            json!(["open", "/all/sub/inner", "rw"]),
            json!(["mkdir", "/all/new"]),
        ],
    );
    assert!(got[0].get("ok").is_some(), "ro is for the top alone: {}", got[0]);
    for refused in &got[1..] {
        assert!(is_error(refused, "EROFS"), "{refused}");
    }
    unmount(source.join("sub"), UnmountFlags::empty()).unwrap();
}

fn bind_flags(t: &T) {
    let source = t.dir().join("source");
    fs::create_dir(&source).unwrap();
    bundle::copy_program(harness::payload(), &source.join("program"));
    let mut bundle = Bundle::new(t, &[]);
    bundle.bind(&source, "/no", &["noexec"]).bind(&source, "/yes", &[]);
    let got = answers(
        t,
        &mut bundle,
        &[json!(["exec-works", "/no/program"]), json!(["exec-works", "/yes/program"])],
    );
    assert!(is_error(&got[0], "EACCES"), "{}", got[0]);
    assert_eq!(got[1]["ok"], 0);
}

fn bind_by_options_alone(t: &T) {
    let source = t.dir().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "here").unwrap();
    let text = source.display().to_string();
    for kind in ["none", "bind", "", "whatever"] {
        let mut bundle = Bundle::new(t, &[]);
        bundle.mount(kind, &text, "/data", &["rbind"]);
        assert_eq!(
            answers(t, &mut bundle, &[json!(["read", "/data/file"])])[0]["ok"]["text"],
            "here",
            "type `{kind}`"
        );
    }
    let mut bundle = Bundle::new(t, &[]);
    bundle.add("/mounts", json!({"destination": "/data", "source": text, "options": ["bind"]}));
    assert_eq!(answers(t, &mut bundle, &[json!(["read", "/data/file"])])[0]["ok"]["text"], "here", "no type");
}

fn bind_relative_source(t: &T) {
    let mut bundle = Bundle::new(t, &[]);
    fs::create_dir(bundle.dir.join("volume")).unwrap();
    fs::write(bundle.dir.join("volume/file"), "relative to the bundle").unwrap();
    bundle.mount("bind", "volume", "/data", &["bind"]);
    let got = answers(t, &mut bundle, &[json!(["read", "/data/file"])]);
    assert_eq!(got[0]["ok"]["text"], "relative to the bundle");
}

fn bind_missing_source(t: &T) {
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    bundle.bind(&t.dir().join("missing"), "/data", &[]);
    let container = Container::new(t, &mut bundle);
    let done = container.run().expect(1);
    let error = done.error();
    assert!(is_missing(&error), "{done}");
    if t.ours() {
        assert!(error["pointer"].as_str().is_some_and(|named| named.starts_with("/mounts/6")), "{error}");
    }
    container.gone();
}

fn destination_is_made(t: &T) {
    t.differs("crun", "the mode of the mount is given to its parents");
    let mut bundle = Bundle::new(t, &["report", "--path", "/very/deep", "--path", "/very/deep/place"]);
    bundle.mount("tmpfs", "tmpfs", "/very/deep/place", &["mode=700", "size=1m"]);
    let seen = report(t, &mut bundle);
    assert_eq!(seen["paths"]["/very/deep"]["mode"], 0o755);
    assert_eq!(seen["paths"]["/very/deep/place"]["mode"], 0o700);
}

fn destination_through_symlinks(t: &T) {
    let mut bundle = Bundle::new(t, &["report"]);
    fs::create_dir_all(bundle.inside("/real/place")).unwrap();
    symlink("/real", bundle.inside("/absolute")).unwrap();
    symlink("real/../real", bundle.inside("/relative")).unwrap();
    bundle.mount("tmpfs", "one", "/absolute/place", SIZE).mount("tmpfs", "two", "/relative/other", SIZE);
    let seen = report(t, &mut bundle);
    assert_eq!(mount_at(&seen["mounts"], "/real/place")["source"], "one");
    assert_eq!(mount_at(&seen["mounts"], "/real/other")["source"], "two");
}

fn destination_outside_stays_inside(t: &T) {
    let mut bundle = Bundle::new(t, &["report"]);
    symlink("../../../../../../../../../..", bundle.inside("/up")).unwrap();
    bundle.mount("tmpfs", "one", "/up/made", SIZE).mount("tmpfs", "two", "/../../../made-too", SIZE);
    let seen = report(t, &mut bundle);
    assert_eq!(mount_at(&seen["mounts"], "/made")["source"], "one");
    assert_eq!(mount_at(&seen["mounts"], "/made-too")["source"], "two");
    assert!(!Path::new("/made").exists() && !Path::new("/made-too").exists());

    // Through a link to a place that is not there inside: made inside, or refused.
    let marker = t.dir().join("marker");
    fs::create_dir(&marker).unwrap();
    let mut bundle = Bundle::new(t, &["report"]);
    symlink(&marker, bundle.inside("/out")).unwrap();
    bundle.mount("tmpfs", "one", "/out/made", SIZE);
    let container = Container::new(t, &mut bundle);
    let done = container.run();
    if done.code() == 0 {
        assert_eq!(mount_at(&done.json()["mounts"], &format!("{}/made", marker.display()))["source"], "one");
    } else {
        done.error();
    }
    assert_eq!(fs::read_dir(&marker).unwrap().count(), 0, "nothing is made outside");
}

fn relative_destination(t: &T) {
    let mut bundle = Bundle::new(t, &["report"]);
    bundle.mount("tmpfs", "one", "relative/place", SIZE);
    let container = Container::new(t, &mut bundle);
    // runc warns in its log.
    let seen = container.run().expect(0).json();
    assert_eq!(mount_at(&seen["mounts"], "/relative/place")["source"], "one", "relative to /");
}

fn optional(mount: &Value) -> Vec<String> {
    let fields = mount["optional"].as_array().unwrap().iter();
    fields.map(|field| field.as_str().unwrap().split(':').next().unwrap().to_owned()).collect()
}

fn propagation_options(t: &T) {
    t.differs("crun", "what is not recursive is lost");
    let mut bundle = Bundle::new(t, &["report"]);
    for kind in ["shared", "private", "unbindable", "rshared", "rprivate", "runbindable"] {
        bundle.mount("tmpfs", "tmpfs", &format!("/{kind}"), &[kind, "size=1m"]);
    }
    let seen = report(t, &mut bundle);
    let at = |target: &str| optional(mount_at(&seen["mounts"], target));
    assert_eq!(at("/shared"), ["shared"]);
    assert_eq!(at("/rshared"), ["shared"]);
    assert!(at("/private").is_empty() && at("/rprivate").is_empty());
    assert_eq!(at("/unbindable"), ["unbindable"]);
    assert_eq!(at("/runbindable"), ["unbindable"]);
}

fn propagation_default(t: &T) {
    t.differs("crun", "the source is made private first");
    let source = t.dir().join("source");
    fs::create_dir(&source).unwrap();
    mount("tmpfs", &source, "tmpfs", MountFlags::empty(), c"size=1m").unwrap();
    mount_change(&source, MountPropagationFlags::SHARED).unwrap();
    let mut bundle = Bundle::new(t, &["report"]);
    bundle.bind(&source, "/default", &[]).bind(&source, "/private", &["rprivate"]);
    bundle.bind(&source, "/slave", &["rslave"]).bind(&source, "/shared", &["rshared"]);
    let seen = report(t, &mut bundle);
    let at = |target: &str| optional(mount_at(&seen["mounts"], target));
    // A slave of the source (runc) or private (crun): nothing goes back to the host unless asked for.
    assert!(!at("/default").contains(&"shared".to_owned()), "{:?}", at("/default"));
    assert!(at("/private").is_empty());
    assert_eq!(at("/slave"), ["master"]);
    assert!(at("/shared").contains(&"shared".to_owned()), "{:?}", at("/shared"));
    unmount(&source, UnmountFlags::empty()).unwrap();
}

fn propagation_from_the_host(t: &T) {
    t.differs("crun", "the source is made private first");
    let source = t.dir().join("source");
    fs::create_dir(&source).unwrap();
    mount("tmpfs", &source, "tmpfs", MountFlags::empty(), c"size=1m").unwrap();
    mount_change(&source, MountPropagationFlags::SHARED).unwrap();
    fs::create_dir(source.join("later")).unwrap();
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.bind(&source, "/slave", &["rslave"]).bind(&source, "/private", &["rprivate"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    mount("tmpfs", source.join("later"), "tmpfs", MountFlags::empty(), c"size=1m").unwrap();
    fs::write(source.join("later/file"), "later").unwrap();
    let got =
        container.tries(&[json!(["read", "/slave/later/file"]), json!(["read", "/private/later/file"])]);
    assert_eq!(got[0]["ok"]["text"], "later", "a slave gets the host's later mounts");
    assert!(is_error(&got[1], "ENOENT"), "a private one does not: {}", got[1]);
    container.end();
    unmount(source.join("later"), UnmountFlags::empty()).unwrap();
    unmount(&source, UnmountFlags::empty()).unwrap();
}

fn propagation_of_the_root(t: &T) {
    t.differs("runc", "runc 1.1 leaves the root private");
    for (word, expected) in [
        ("private", ""),
        ("rprivate", ""),
        ("shared", "shared"),
        ("rshared", "shared"),
        ("unbindable", "unbindable"),
    ] {
        let mut bundle = Bundle::new(t, &["report"]);
        bundle.set("/linux/rootfsPropagation", json!(word));
        let seen = report(t, &mut bundle);
        let have = optional(mount_at(&seen["mounts"], "/"));
        assert_eq!(have.join(","), expected, "{word}");
    }
}

fn root_read_only(t: &T) {
    let tries = [
        json!(["mkdir", "/new"]),
        json!(["open", "/etc/passwd", "rw"]),
        json!(["mkdir", "/dev/shm/new"]),
        json!(["mount", "none", "/", "none", 0x1020]),
        json!(["mounts"]),
    ];
    let mut bundle = Bundle::new(t, &[]);
    bundle.set("/root/readonly", json!(true));
    let got = answers(t, &mut bundle, &tries);
    assert!(is_error(&got[0], "EROFS") && is_error(&got[1], "EROFS"), "{got:?}");
    assert!(got[2].get("ok").is_some(), "other mounts stay writable: {}", got[2]);
    assert!(is_error(&got[3], "EPERM"), "no capability to undo it: {}", got[3]);
    assert!(has_options(mount_at(&got[4]["ok"], "/"), &["ro"]));
    let mut bundle = Bundle::new(t, &[]);
    let got = answers(t, &mut bundle, &tries[..2]);
    assert!(got.iter().all(|answer| answer.get("ok").is_some()), "{got:?}");
    assert!(bundle.inside("/new").is_dir());
}

fn root_of_other_places(t: &T) {
    let other = t.dir().join("another root");
    bundle::make_rootfs(&other);
    fs::write(other.join("mark"), "another").unwrap();
    let mut bundle = Bundle::new(t, &[]);
    bundle.set("/root/path", json!(other));
    assert_eq!(
        answers(t, &mut bundle, &[json!(["read", "/mark"])])[0]["ok"]["text"],
        "another",
        "an absolute path"
    );
    let mut bundle = Bundle::new(t, &[]);
    bundle.set("/root/path", json!("../another root/./"));
    assert_eq!(
        answers(t, &mut bundle, &[json!(["read", "/mark"])])[0]["ok"]["text"],
        "another",
        "relative to the bundle"
    );
}

fn unknown_file_system(t: &T) {
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    bundle.mount("nosuchfs", "none", "/data", &[]);
    let container = Container::new(t, &mut bundle);
    let error = container.run().expect(1).error();
    if t.ours() {
        assert!(error["pointer"].as_str().is_some_and(|named| named.starts_with("/mounts/6")), "{error}");
    }
    container.gone();
}

fn wrong_data(t: &T) {
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    bundle.mount("tmpfs", "tmpfs", "/data", &["size=lots"]);
    let container = Container::new(t, &mut bundle);
    let error = container.run().expect(1).error();
    if t.ours() {
        assert!(error["pointer"].as_str().is_some_and(|named| named.starts_with("/mounts/6")), "{error}");
    }
    container.gone();
}
