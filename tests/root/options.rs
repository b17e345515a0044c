//! Every mount option of the specification (config.md, "Linux mount options"), read back from what the container sees.
use coracle_tests::*;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::fs;

cases![
    of_new_file_systems,
    of_binds,
    of_the_mounts_below,
    of_what_is_mounted_already,
    of_file_systems_on_binds
];

/// Words, what the mount must show, what it must not.
type Row = (&'static [&'static str], &'static [&'static str], &'static [&'static str]);

fn shows(mounts: &Value, target: &str, words: &[&str], with: &[&str], without: &[&str]) {
    let mount = mount_at(mounts, target);
    let all: Vec<&str> = ["options", "superOptions", "optional"]
        .iter()
        .flat_map(|key| mount[key].as_array().unwrap())
        .map(|value| value.as_str().unwrap().split(':').next().unwrap())
        .collect();
    for word in with {
        assert!(all.contains(word), "{words:?}: {word} is missing: {mount}");
    }
    for word in without {
        assert!(!all.contains(word), "{words:?}: {word} is there: {mount}");
    }
}

const NEW: &[Row] = &[
    (
        &[],
        &["rw", "relatime"],
        &["ro", "nosuid", "nodev", "noexec", "sync", "dirsync", "lazytime", "shared", "nosymfollow"],
    ),
    (&["defaults"], &["rw", "relatime"], &["nosuid"]),
    (&["ro"], &["ro"], &[]),
    (&["ro", "rw"], &["rw"], &["ro"]),
    (&["nosuid"], &["nosuid"], &["nodev"]),
    (&["nosuid", "suid"], &[], &["nosuid"]),
    (&["nodev"], &["nodev"], &["nosuid"]),
    (&["nodev", "dev"], &[], &["nodev"]),
    (&["noexec"], &["noexec"], &["nodev"]),
    (&["noexec", "exec"], &[], &["noexec"]),
    (&["nodiratime"], &["nodiratime", "relatime"], &["noatime"]),
    (&["nodiratime", "diratime"], &[], &["nodiratime"]),
    (&["nosymfollow"], &["nosymfollow"], &[]),
    (&["nosymfollow", "symfollow"], &[], &["nosymfollow"]),
    (&["noatime"], &["noatime"], &["relatime"]),
    (&["noatime", "atime"], &["relatime"], &["noatime"]),
    (&["relatime"], &["relatime"], &[]),
    (&["norelatime"], &["relatime"], &[]),
    (&["strictatime"], &[], &["relatime", "noatime"]),
    (&["strictatime", "nostrictatime"], &["relatime"], &[]),
    (&["sync"], &["sync"], &["dirsync"]),
    (&["sync", "async"], &[], &["sync"]),
    (&["dirsync"], &["dirsync"], &["sync"]),
    (&["lazytime"], &["lazytime"], &[]),
    (&["lazytime", "nolazytime"], &[], &["lazytime"]),
    (&["iversion", "silent"], &["rw"], &[]),
    (&["noiversion", "loud"], &["rw"], &[]),
    (&["private"], &[], &["shared", "master", "unbindable"]),
    (&["rprivate"], &[], &["shared", "master", "unbindable"]),
    (&["shared"], &["shared"], &["master"]),
    (&["rshared"], &["shared"], &["master"]),
    (&["slave"], &[], &["shared"]),
    (&["rslave"], &[], &["shared"]),
    (&["shared", "slave"], &[], &["shared"]),
    (&["unbindable"], &["unbindable"], &[]),
    (&["runbindable"], &["unbindable"], &[]),
    (&["rro"], &["ro"], &[]),
    (&["rro", "rrw"], &["rw"], &["ro"]),
    (&["rnosuid", "rnodev", "rnoexec"], &["nosuid", "nodev", "noexec"], &[]),
    (&["rnosymfollow", "rnodiratime", "rnoatime"], &["nosymfollow", "nodiratime", "noatime"], &["relatime"]),
    (&["rstrictatime"], &[], &["relatime", "noatime"]),
    (&["tmpcopyup"], &["rw"], &[]),
    (&["tmpcopyup", "ro", "nosuid"], &["ro", "nosuid"], &[]),
];

const PEERS: &str = "runc 1.1 and crun 1.8 do not know some of the words";

fn of_new_file_systems(t: &T) {
    t.differs("runc", PEERS);
    t.differs("crun", PEERS);
    t.needs(&[Need::Kernel(6, 1)]);
    let mut bundle = Bundle::new(t, &["report"]);
    fs::create_dir(bundle.inside("/t")).unwrap();
    for (n, (words, ..)) in NEW.iter().enumerate() {
        // The first half of the targets is there already, so that its permissions are taken over.
        if n % 2 == 0 {
            fs::create_dir(bundle.inside(&format!("/t/{n}"))).unwrap();
        }
        bundle.mount("tmpfs", "tmpfs", &format!("/t/{n}"), words);
    }
    let seen = report(t, &mut bundle);
    for (n, (words, with, without)) in NEW.iter().enumerate() {
        shows(&seen["mounts"], &format!("/t/{n}"), words, with, without);
    }
}

/// A tmpfs of the host with all flags or none, and another one below it.
struct Nested(std::path::PathBuf);

impl Nested {
    fn new(t: &T, name: &str, flags: MountFlags) -> Self {
        let dir = t.dir().join(name);
        fs::create_dir(&dir).unwrap();
        mount("top", &dir, "tmpfs", MountFlags::empty(), c"size=1m").unwrap();
        fs::create_dir(dir.join("sub")).unwrap();
        mount("sub", dir.join("sub"), "tmpfs", flags, c"size=1m").unwrap();
        if !flags.is_empty() {
            rustix::mount::mount_remount(&dir, flags | MountFlags::BIND, c"").unwrap();
        }
        Self(dir)
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

fn all() -> MountFlags {
    MountFlags::NOSUID
        | MountFlags::NODEV
        | MountFlags::NOEXEC
        | MountFlags::RDONLY
        | MountFlags::NODIRATIME
        | MountFlags::NOATIME
}

/// On a source with every flag.
const STRICT: &[Row] = &[
    (&["bind"], &["ro", "nosuid", "nodev", "noexec", "nodiratime", "noatime"], &[]),
    (&["bind", "rw"], &["rw", "nosuid"], &["ro"]),
    (&["bind", "suid"], &["ro", "nodev"], &["nosuid"]),
    (&["bind", "dev"], &["nosuid", "noexec"], &["nodev"]),
    (&["bind", "exec"], &["nosuid", "nodev"], &["noexec"]),
    (&["bind", "diratime"], &["noatime"], &["nodiratime"]),
    (&["bind", "atime"], &["relatime"], &["noatime"]),
    (&["bind", "strictatime"], &["nodiratime"], &["noatime", "relatime"]),
    (&["bind", "nosymfollow"], &["nosymfollow", "nosuid"], &[]),
    (
        &["rbind", "rsuid", "rdev", "rexec", "rrw", "rdiratime", "ratime"],
        &["rw", "relatime"],
        &["nosuid", "nodev", "noexec", "noatime", "nodiratime"],
    ),
];

fn of_binds(t: &T) {
    t.differs("runc", PEERS);
    t.differs("crun", PEERS);
    t.needs(&[Need::Kernel(5, 14)]);
    let strict = Nested::new(t, "strict", all());
    let mut bundle = Bundle::new(t, &["report"]);
    for (n, (words, ..)) in STRICT.iter().enumerate() {
        bundle.mount("bind", strict.0.to_str().unwrap(), &format!("/b/{n}"), words);
    }
    let seen = report(t, &mut bundle);
    for (n, (words, with, without)) in STRICT.iter().enumerate() {
        shows(&seen["mounts"], &format!("/b/{n}"), words, with, without);
    }
}

/// On a source without flags that has a mount below it: what both show, what the one below does not.
const BELOW: &[(&[&str], &str, bool)] = &[
    (&["ro"], "ro", false),
    (&["rro"], "ro", true),
    (&["nosuid"], "nosuid", false),
    (&["rnosuid"], "nosuid", true),
    (&["nodev"], "nodev", false),
    (&["rnodev"], "nodev", true),
    (&["noexec"], "noexec", false),
    (&["rnoexec"], "noexec", true),
    (&["nodiratime"], "nodiratime", false),
    (&["rnodiratime"], "nodiratime", true),
    (&["noatime"], "noatime", false),
    (&["rnoatime"], "noatime", true),
    (&["nosymfollow"], "nosymfollow", false),
    (&["rnosymfollow"], "nosymfollow", true),
    (&["rnoatime", "rrelatime"], "noatime", true),
    (&["shared"], "shared", false),
    (&["rshared"], "shared", true),
    (&["unbindable"], "unbindable", false),
    (&["runbindable"], "unbindable", true),
];

fn of_the_mounts_below(t: &T) {
    t.differs("runc", PEERS);
    t.differs("crun", PEERS);
    t.needs(&[Need::Kernel(5, 14)]);
    let plain = Nested::new(t, "plain", MountFlags::empty());
    rustix::mount::mount_change(
        &plain.0,
        rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC,
    )
    .unwrap();
    let mut bundle = Bundle::new(t, &["report"]);
    for (n, (words, ..)) in BELOW.iter().enumerate() {
        let words: Vec<&str> = std::iter::once("rbind").chain(words.iter().copied()).collect();
        bundle.mount("bind", plain.0.to_str().unwrap(), &format!("/b/{n}"), &words);
    }
    let seen = report(t, &mut bundle);
    for (n, (words, word, below)) in BELOW.iter().enumerate() {
        shows(&seen["mounts"], &format!("/b/{n}"), words, &[word], &[]);
        let (with, without): (&[&str], &[&str]) = if *below { (&[word], &[]) } else { (&[], &[word]) };
        shows(&seen["mounts"], &format!("/b/{n}/sub"), words, with, without);
    }
}

fn of_what_is_mounted_already(t: &T) {
    t.differs("runc", PEERS);
    t.differs("crun", PEERS);
    t.needs(&[Need::Kernel(5, 14)]);
    let plain = Nested::new(t, "plain", MountFlags::empty());
    let mut bundle = Bundle::new(t, &["report"]);
    let source = plain.0.to_str().unwrap();
    bundle.mount("bind", source, "/one", &["rbind"]).mount("bind", source, "/two", &["rbind", "nosuid"]);
    bundle.mount("", "", "/one", &["remount", "bind", "ro", "rnoexec"]);
    bundle.mount("", "", "/two", &["remount", "bind", "suid", "nodev"]);
    bundle.mount("tmpfs", "tmpfs", "/three", &["size=1m"]).mount(
        "tmpfs",
        "",
        "/three",
        &["remount", "size=2m", "sync", "noexec"],
    );
    let seen = report(t, &mut bundle);
    let check = |target: &str, with: &[&str], without: &[&str]| {
        shows(&seen["mounts"], target, &[target], with, without)
    };
    check("/one", &["ro", "noexec"], &[]);
    check("/one/sub", &["rw", "noexec"], &["ro"]);
    check("/two", &["nodev"], &["nosuid"]);
    check("/two/sub", &[], &["nodev", "nosuid"]);
    check("/three", &["size=2048k", "sync", "noexec"], &["size=1024k"]);
}

fn of_file_systems_on_binds(t: &T) {
    // The kernel ignores them there; `check` says so.
    let source = t.dir().join("source");
    fs::create_dir(&source).unwrap();
    let mut bundle = Bundle::new(t, &["report"]);
    bundle.bind(&source, "/b", &["sync", "lazytime"]);
    let seen = report(t, &mut bundle);
    shows(&seen["mounts"], "/b", &["sync"], &[], &["sync", "lazytime"]);
    if t.ours() {
        let container = Container::new(t, &mut bundle);
        let done = container.bare("check").arg(&container.bundle.dir).no_log().done();
        let text = format!("{}{}", done.out, done.err);
        assert!(text.contains("/mounts/6/options/1") && text.contains("/mounts/6/options/2"), "{text}");
    }
}
