//! Mounts that show other owners than their files have, with and without a user namespace.
use coracle_tests::*;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown};
use std::path::{Path, PathBuf};

cases![
    own_mappings,
    mappings_in_an_option,
    by_the_user_namespace,
    with_the_mounts_below,
    where_init_may_not_go,
    where_that_is_not_possible,
];

/// A directory with a file of these owners.
fn owned(dir: PathBuf, uid: u32, gid: u32) -> PathBuf {
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("file"), "").unwrap();
    chown(dir.join("file"), Some(uid), Some(gid)).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
    dir
}

/// A bind mount whose ids are mapped: `fs` in the file system is `shown` inside.
fn mapped(source: &Path, target: &str, options: &[&str], map: Option<(u32, u32)>) -> Value {
    let mut mount = json!({"destination": target, "type": "bind", "source": source, "options": options});
    if let Some((fs, shown)) = map {
        mount["uidMappings"] = json!([{"containerID": fs, "hostID": shown, "size": 10}]);
        mount["gidMappings"] = json!([{"containerID": fs, "hostID": shown + 1, "size": 10}]);
    }
    mount
}

/// Owners of a path as the payload's report saw them.
fn owner(seen: &Value, path: &str) -> (i64, i64) {
    let found = &seen["paths"][path];
    (found["uid"].as_i64().unwrap(), found["gid"].as_i64().unwrap())
}

const OLD: &str = "idmapped mounts are younger than runc 1.1";
const MAPS: [Need; 2] = [Need::Kernel(5, 12), Need::UserNamespaces];

fn mappings_in_an_option(t: &T) {
    t.differs("runc", "crun's words");
    t.needs(&MAPS);
    let source = owned(t.dir().join("source"), 5000, 5001);
    let mut bundle = Bundle::new(t, &["report", "--path", "/data/file"]);
    bundle.bind(&source, "/data", &["idmap=uids=5000-100-10;gids=5000-200-1#5001-300-1"]);
    let seen = report(t, &mut bundle);
    assert_eq!(owner(&seen, "/data/file"), (100, 300));
}

fn own_mappings(t: &T) {
    t.differs("runc", OLD);
    t.needs(&MAPS);
    let source = owned(t.dir().join("source"), 5000, 5000);
    let mut bundle =
        Bundle::new(t, &["report", "--path", "/data/file", "--path", "/plain/file", "--path", "/in/file"]);
    owned(bundle.inside("/below"), 5001, 5001);
    bundle.bind(&source, "/plain", &[]);
    bundle.add("/mounts", mapped(&source, "/data", &["bind", "idmap"], Some((5000, 100))));
    // The same mapping again, without the word, of a directory of the root file system.
    bundle.add("/mounts", mapped(&bundle.inside("/below"), "/in", &["bind"], Some((5000, 100))));
    let seen = report(t, &mut bundle);
    assert_eq!(owner(&seen, "/data/file"), (100, 101));
    assert_eq!(owner(&seen, "/plain/file"), (5000, 5000));
    assert_eq!(owner(&seen, "/in/file"), (101, 102));
    assert!(has_options(mount_at(&seen["mounts"], "/data"), &["idmapped"]));
    assert!(!has_options(mount_at(&seen["mounts"], "/plain"), &["idmapped"]));
}

fn by_the_user_namespace(t: &T) {
    t.differs("runc", OLD);
    t.needs(&MAPS);
    let source = owned(t.dir().join("source"), 0, 0);
    let mut bundle =
        Bundle::new(t, &["report", "--path", "/data/file", "--path", "/plain/file", "--path", "/own/file"]);
    bundle.user_namespace(100_000).bind(&source, "/plain", &[]);
    bundle.add("/mounts", mapped(&source, "/data", &["bind", "idmap"], None));
    bundle.add("/mounts", mapped(&source, "/own", &["bind", "idmap"], Some((0, 100_007))));
    let seen = report(t, &mut bundle);
    assert_eq!(owner(&seen, "/data/file"), (0, 0));
    assert_eq!(owner(&seen, "/plain/file"), (65534, 65534));
    assert_eq!(owner(&seen, "/own/file"), (7, 8));
    // What is made inside belongs to the file system's own ids.
    answers(t, &mut bundle, &[json!(["open", "/data/new", "create"])]);
    let new = fs::metadata(source.join("new")).unwrap();
    assert_eq!((new.uid(), new.gid()), (0, 0));
    // A joined one gives its mappings, too.
    let mut first = Bundle::new(t, &["ready"]);
    first.user_namespace(300_000);
    let first = Container::new(t, &mut first);
    first.ready();
    let path = format!("/proc/{}/ns/user", first.pid());
    bundle.command(&["report", "--path", "/data/file"]);
    bundle.remove("/linux/uidMappings").remove("/linux/gidMappings").without_namespace("user");
    bundle.add("/linux/namespaces", json!({"type": "user", "path": path}));
    chown_tree(&bundle.rootfs(), 300_000);
    assert_eq!(owner(&report(t, &mut bundle), "/data/file"), (0, 0));
    first.end();
}

fn with_the_mounts_below(t: &T) {
    t.differs("runc", OLD);
    t.differs("crun", "crun 1.8 leaves out the mounts below");
    t.needs(&MAPS);
    let source = owned(t.dir().join("source"), 5000, 5000);
    fs::create_dir(source.join("below")).unwrap();
    mount("below", source.join("below"), "tmpfs", MountFlags::empty(), c"size=1m").unwrap();
    owned(source.join("below"), 5000, 5000);
    for host in [0, 100_000] {
        let mut bundle = Bundle::new(t, &["report"]);
        for (name, word) in [("one", "idmap"), ("all", "ridmap")] {
            let map = Some((5000, host + 100));
            bundle.add("/mounts", mapped(&source, &format!("/{name}"), &["rbind", word], map));
            for path in ["file", "below/file"] {
                bundle
                    .add("/process/args", json!("--path"))
                    .add("/process/args", json!(format!("/{name}/{path}")));
            }
        }
        if host != 0 {
            bundle.user_namespace(host);
        }
        let seen = report(t, &mut bundle);
        let plain = if host == 0 { 5000 } else { 65534 };
        assert_eq!(owner(&seen, "/one/file"), (100, 101));
        assert_eq!(owner(&seen, "/one/below/file"), (plain, plain), "idmap is for the mount alone");
        assert_eq!(owner(&seen, "/all/file"), (100, 101));
        assert_eq!(owner(&seen, "/all/below/file"), (100, 101));
    }
    unmount(source.join("below"), UnmountFlags::DETACH).unwrap();
}

fn where_init_may_not_go(t: &T) {
    t.differs("runc", OLD);
    t.needs(&MAPS);
    let closed = owned(t.dir().join("closed"), 4711, 4711);
    let source = owned(closed.join("source"), 0, 0);
    chown(&closed, Some(4711), Some(4711)).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let mut bundle = Bundle::new(t, &["report", "--path", "/data/file"]);
    bundle.user_namespace(100_000);
    bundle.add("/mounts", mapped(&source, "/data", &["bind", "idmap"], None));
    assert_eq!(owner(&report(t, &mut bundle), "/data/file"), (0, 0));
}

fn where_that_is_not_possible(t: &T) {
    t.needs(&MAPS);
    for host in [0, 100_000] {
        let mut bundle = Bundle::new(t, &["exit", "0"]);
        bundle
            .add("/mounts", mapped(Path::new("/proc/sys"), "/data", &["bind", "idmap"], Some((0, 100_000))));
        if host != 0 {
            bundle.user_namespace(host);
        }
        let container = Container::new(t, &mut bundle);
        let error = container.run().expect(1).error();
        if t.ours() {
            assert_eq!(
                (&error["code"], &error["pointer"]),
                (&json!("idmap-unsupported"), &json!("/mounts/6"))
            );
            assert!(error["msg"].as_str().unwrap().contains("(proc)"), "{error}");
        }
        container.gone();
    }
}

fn chown_tree(path: &Path, id: u32) {
    lchown(path, Some(id), Some(id)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        fs::read_dir(path).unwrap().for_each(|entry| chown_tree(&entry.unwrap().path(), id));
    }
}
