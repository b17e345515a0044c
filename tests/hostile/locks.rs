//! B10: root of a user namespace tries to take off what the host's own mounts forbid, or to look below them.
use coracle_tests::*;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

cases![
    flags_of_a_bind_source,
    flags_of_a_source_that_init_may_not_reach,
    flags_of_a_source_in_a_joined_user_namespace,
    flags_of_the_root,
    what_a_mount_hides,
];

/// mount(2), by number, for the payload.
const REMOUNT_BIND: u64 = 0x20 | 0x1000;
const RDONLY: u64 = 1;
const NOSUID: u64 = 2;
const NODEV: u64 = 4;
const NOEXEC: u64 = 8;
const ALL: u64 = RDONLY | NOSUID | NODEV | NOEXEC;

/// A tmpfs of the host with every flag, unmounted at the end.
struct Flagged(PathBuf);

impl Flagged {
    fn new(dir: PathBuf) -> Self {
        fs::create_dir_all(&dir).unwrap();
        let weak = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount("host", &dir, "tmpfs", weak, c"size=1m").unwrap();
        fs::write(dir.join("file"), "of the host").unwrap();
        fs::set_permissions(dir.join("file"), fs::Permissions::from_mode(0o666)).unwrap();
        fs::create_dir(dir.join("covered")).unwrap();
        fs::write(dir.join("covered/secret"), "of the host").unwrap();
        mount("cover", dir.join("covered"), "tmpfs", MountFlags::empty(), c"size=1m").unwrap();
        mount_remount(&dir, MountFlags::BIND | MountFlags::RDONLY | weak, c"").unwrap();
        Self(dir)
    }
}

impl Drop for Flagged {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

fn admin(bundle: &mut Bundle) {
    let all = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_CHOWN"]);
    bundle.set("/process/capabilities", json!({"bounding": all, "effective": all, "permitted": all}));
}

/// One try for each flag to have it off and the others on, and one to have all off.
fn attempts(target: &str) -> Vec<Value> {
    let masks = [0, ALL & !RDONLY, ALL & !NOSUID, ALL & !NODEV, ALL & !NOEXEC];
    masks.iter().map(|keep| json!(["mount", "none", target, "", REMOUNT_BIND | keep])).collect()
}

fn nothing_came_off(t: &T, bundle: &mut Bundle, target: &str) {
    let mut tries = attempts(target);
    tries.push(json!(["write", format!("{target}/file"), "mine"]));
    tries.push(json!(["mounts"]));
    let got = answers(t, bundle, &tries);
    let (mounts, tries) = got.split_last().unwrap();
    let (write, remounts) = tries.split_last().unwrap();
    for answer in remounts {
        assert_eq!(answer["error"], "EPERM", "{got:?}");
    }
    assert_eq!(write["error"], "EROFS", "{write}");
    let mount = mount_at(&mounts["ok"], target);
    assert!(has_options(mount, &["ro", "nosuid", "nodev", "noexec"]), "{mount}");
}

fn bundle(t: &T, source: &Path, host: u32) -> Bundle {
    let mut bundle = Bundle::new(t, &[]);
    bundle.user_namespace(host);
    admin(&mut bundle);
    bundle.mount("bind", source.to_str().unwrap(), "/flagged", &["rbind"]);
    bundle
}

const LOST: &str = "crun 1.8 clones the source outside: nothing is locked";

fn flags_of_a_bind_source(t: &T) {
    t.differs("crun", LOST);
    t.needs(&[Need::UserNamespaces]);
    let flagged = Flagged::new(t.dir().join("flagged"));
    nothing_came_off(t, &mut bundle(t, &flagged.0, 100_000), "/flagged");
}

/// A directory of somebody else, closed to everybody but who may override permissions.
fn closed(t: &T) -> PathBuf {
    let closed = t.dir().join("closed");
    fs::create_dir(&closed).unwrap();
    chown(&closed, Some(4711), Some(4711)).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    closed
}

fn flags_of_a_source_that_init_may_not_reach(t: &T) {
    t.needs(&[Need::UserNamespaces]);
    t.differs("crun", LOST);
    let flagged = Flagged::new(closed(t).join("flagged"));
    let mut bundle = bundle(t, &flagged.0, 100_000);
    // One that can be reached between two that cannot: each tree stands where it was asked for.
    let plain = t.dir().join("plain");
    fs::write(&plain, "plain").unwrap();
    bundle.bind(&plain, "/plain", &[]).bind(&flagged.0.join("file"), "/other", &[]);
    let got = answers(t, &mut bundle, &[json!(["read", "/plain"]), json!(["read", "/other"])]);
    assert_eq!((&got[0]["ok"]["text"], &got[1]["ok"]["text"]), (&json!("plain"), &json!("of the host")));
    nothing_came_off(t, &mut bundle, "/flagged");
    // What is not there is named all the same.
    bundle.bind(&t.dir().join("closed/absent"), "/absent", &[]);
    let container = Container::new(t, &mut bundle);
    let error = container.run().expect(1).error();
    if t.ours() {
        assert_eq!(
            (&error["code"], &error["pointer"]),
            (&json!("mount-source-missing"), &json!("/mounts/9/source"))
        );
    }
    container.gone();
}

fn flags_of_a_source_in_a_joined_user_namespace(t: &T) {
    t.needs(&[Need::UserNamespaces]);
    t.differs("runc", "runc 1.1 wants the mappings again");
    t.differs("crun", LOST);
    let flagged = Flagged::new(closed(t).join("flagged"));
    let mut first = Bundle::new(t, &["ready"]);
    first.user_namespace(300_000);
    let first = Container::new(t, &mut first);
    first.ready();
    let mut bundle = bundle(t, &flagged.0, 300_000);
    bundle
        .remove("/linux/uidMappings")
        .remove("/linux/gidMappings")
        .without_namespace("user")
        .add("/linux/namespaces", json!({"type": "user", "path": format!("/proc/{}/ns/user", first.pid())}));
    nothing_came_off(t, &mut bundle, "/flagged");
    first.end();
}

fn flags_of_the_root(t: &T) {
    t.needs(&[Need::UserNamespaces]);
    let mut bundle = Bundle::new(t, &[]);
    bundle.user_namespace(100_000);
    admin(&mut bundle);
    let flagged = Flagged(t.dir().join("flagged"));
    fs::create_dir(&flagged.0).unwrap();
    mount_bind(bundle.rootfs(), &flagged.0).unwrap();
    mount_remount(&flagged.0, MountFlags::BIND | MountFlags::NOSUID | MountFlags::NODEV, c"").unwrap();
    bundle.set("/root/path", json!(flagged.0));
    let tries = [0, NOSUID, NODEV].map(|keep| json!(["mount", "none", "/", "", REMOUNT_BIND | keep]));
    for answer in answers(t, &mut bundle, &tries) {
        assert_eq!(answer["error"], "EPERM", "{answer}");
    }
}

fn what_a_mount_hides(t: &T) {
    t.differs("crun", LOST);
    t.needs(&[Need::UserNamespaces]);
    let flagged = Flagged::new(t.dir().join("flagged"));
    let tries = [json!(["umount", "/flagged/covered", 0]), json!(["read", "/flagged/covered/secret"])];
    let got = answers(t, &mut bundle(t, &flagged.0, 100_000), &tries);
    assert_eq!(got[0]["error"], "EINVAL", "{got:?}");
    assert_eq!(got[1]["error"], "ENOENT", "{got:?}");
    // A bind of the directory alone would show it, too.
    let mut alone = Bundle::new(t, &["exit", "0"]);
    alone.user_namespace(100_000).bind(&flagged.0, "/alone", &[]);
    let container = Container::new(t, &mut alone);
    let error = container.run().expect(1).error();
    if t.ours() {
        assert_eq!(error["pointer"], "/mounts/6/source", "{error}");
        assert!(error["hint"].as_str().unwrap().contains("rbind"), "{error}");
    }
    container.gone();
}
