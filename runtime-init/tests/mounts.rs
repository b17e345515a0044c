//! Mounts, devices, masks and the root change, walked in new namespaces and seen by a program inside.
//! Needs real root, but for the case that is about a user namespace.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use common::{Program, root};
use coracle_init::program::{
    ATTACH_NO_LINKS, ATTACH_ON_PROC, ATTACH_TAKE_MODE, LINK_IF_TARGET, LINK_REPLACE, OPEN_RECURSIVE, Slot,
    Step, StrList,
};
use coracle_init::wire::{Call, Kind};

const NEWNS: u64 = 0x0002_0000;
const NEWPID: u64 = 0x2000_0000;
const NEWUSER: u64 = 0x1000_0000;
const MS_PRIVATE: u64 = 1 << 18;
const MS_SLAVE: u64 = 1 << 19;
const RDONLY: u64 = 1;
const NOSUID: u64 = 2;
const NODEV: u64 = 4;
const NOEXEC: u64 = 8;
const NONE: StrList = StrList { off: 0, count: 0 };

/// A root directory that is gone with the value; the host's programs are bound into it.
struct Rootfs(PathBuf);

impl Rootfs {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("coracle-init-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn dir(&self, name: &str) -> &Self {
        fs::create_dir_all(self.path(name)).unwrap();
        self
    }

    fn file(&self, name: &str, text: &str) -> &Self {
        fs::write(self.path(name), text).unwrap();
        self
    }

    fn link(&self, name: &str, target: &str) -> &Self {
        symlink(target, self.path(name)).unwrap();
        self
    }
}

impl Drop for Rootfs {
    #[allow(clippy::disallowed_methods, reason = "made here, by this test alone")]
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const HOST: [&str; 5] = ["bin", "sbin", "lib", "lib64", "usr"];

/// A program whose root is `rootfs` with the host's programs in it, bound read-only.
fn container(rootfs: &Rootfs) -> Program {
    let mut p = Program::new();
    p.step(Step::Propagation { flags: MS_SLAVE, recursive: true });
    let (tree, path) = (p.slot(), p.str(rootfs.0.as_os_str().as_encoded_bytes()));
    p.step(Step::OpenHostTree { path, flags: OPEN_RECURSIVE, mode: 0, dev: 0, out: tree });
    p.step(Step::TreeAttr {
        tree,
        set: 0,
        clear: 0,
        propagation: MS_PRIVATE,
        recursive: true,
        userns: Slot::NONE,
    });
    p.step(Step::AttachRoot { tree, path });
    for name in HOST {
        let host = Path::new("/").join(name);
        let Ok(meta) = fs::symlink_metadata(&host) else { continue };
        if meta.is_symlink() {
            symlink(fs::read_link(&host).unwrap(), rootfs.path(name)).unwrap();
            continue;
        }
        bind(&mut p, host.to_str().unwrap(), &format!("/{name}"), RDONLY);
    }
    p
}

fn bind(p: &mut Program, host: &str, target: &str, set: u64) -> Slot {
    let (tree, path, target) = (p.slot(), p.str(host), p.str(target));
    p.step(Step::OpenHostTree { path, flags: OPEN_RECURSIVE, mode: 0, dev: 0, out: tree })
        .step(Step::TreeAttr {
            tree,
            set,
            clear: 0,
            propagation: MS_PRIVATE,
            recursive: true,
            userns: Slot::NONE,
        })
        .step(Step::Attach { tree, target, flags: 0 });
    tree
}

fn fsmount(p: &mut Program, fstype: &str, target: &str, options: &[&str], attrs: u64, flags: u32) -> Slot {
    let (out, target) = (p.slot(), p.str(target));
    let (fstype, options) = (p.str(fstype), p.list(options));
    let source = fstype;
    p.step(Step::NewFs { fstype, source, options, attrs, out }).step(Step::Attach {
        tree: out,
        target,
        flags,
    });
    out
}

fn proc(p: &mut Program) {
    fsmount(p, "proc", "/proc", &[], NOSUID | NODEV | NOEXEC, ATTACH_ON_PROC | ATTACH_NO_LINKS);
}

fn shell(p: &mut Program, script: &str) {
    p.exec(&["/bin/sh", "-c", script], &["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]);
}

#[test]
fn a_root_with_mounts_links_and_read_only_top() {
    if !root() {
        return;
    }
    let outside = Rootfs::new("outside");
    outside.dir("marker");
    let r = Rootfs::new("basic");
    // Every link of the image would lead out if it were followed outside the root.
    r.dir("etc").link("data", outside.path("marker").to_str().unwrap()).link("up", "../../../../../x/y");
    r.dir("old").dir("sticky");
    fs::set_permissions(r.path("sticky"), fs::Permissions::from_mode(0o1777)).unwrap();
    let source = Rootfs::new("source");
    source.file("hosts", "127.0.0.1 inside\n");
    let mut p = container(&r);
    proc(&mut p);
    fsmount(&mut p, "tmpfs", "/data", &["size=64k", "mode=700"], NOSUID, 0);
    fsmount(&mut p, "tmpfs", "/up", &["size=64k"], NOEXEC, 0);
    fsmount(&mut p, "tmpfs", "/sticky", &["size=64k"], 0, ATTACH_TAKE_MODE);
    bind(&mut p, source.path("hosts").to_str().unwrap(), "/etc/hosts", RDONLY);
    p.step(Step::RootReadonly)
        .step(Step::PivotRoot)
        .step(Step::RootPropagation { flags: MS_PRIVATE, recursive: true });
    shell(
        &mut p,
        "cat /etc/hosts; grep -c . /proc/self/mountinfo; stat -Lc %a /data /up /sticky; touch /x; touch /etc/hosts; \
         touch /data/x && echo writable; grep ' /x/y ' /proc/self/mountinfo | cut -d' ' -f5,6; cat /proc/1/comm; pwd",
    );
    let (text, status) = p.output(NEWNS | NEWPID);
    let mounts =
        6 + HOST.iter().filter(|n| fs::symlink_metadata(format!("/{n}")).is_ok_and(|m| m.is_dir())).count();
    let marker = outside.path("marker");
    let inside = r.path(marker.strip_prefix("/").unwrap().to_str().unwrap());
    assert!(inside.is_dir(), "the absolute link's target is made inside the root");
    assert!(r.path("x/y").is_dir(), "dots at the root stay at the root");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "127.0.0.1 inside");
    let submounts: usize = lines[1].parse().unwrap();
    assert!(submounts >= mounts, "{text}");
    assert_eq!(&lines[2..5], ["700", "1777", "1777"]);
    assert!(lines[5].contains("Read-only") && lines[6].contains("Read-only"), "{text}");
    assert_eq!(lines[7], "writable");
    assert_eq!(lines[8], "/x/y rw,noexec,relatime", "{text}");
    assert_eq!(&lines[9..], ["sh", "/"]);
    assert_eq!(status, 0);
    assert_eq!(fs::read_dir(&marker).unwrap().count(), 0);
}

#[test]
fn masks_read_only_paths_and_planned_mounts() {
    if !root() {
        return;
    }
    let r = Rootfs::new("masks");
    r.dir("dev").link("dev/null", "/proc/sys/kernel/core_pattern").dir("secret").file("secret/key", "k");
    let empty = tmpfs_tree();
    let null = host_tree("/dev/null");
    let mut p = container(&r);
    let (null, empty) = (p.fd(null), p.fd(empty));
    proc(&mut p);
    fsmount(&mut p, "sysfs", "/sys", &["ro"], RDONLY, ATTACH_NO_LINKS);
    fsmount(&mut p, "tmpfs", "/sys/firmware", &[], 0, 0);
    p.step(Step::PivotRoot);
    for path in [
        "/proc/cmdline",
        "/proc/timer_list",
        "/proc/acpi",
        "/proc/not-there",
        "/sys/firmware",
        "/secret",
        "/proc/cmdline",
    ] {
        let path = p.str(path);
        p.step(Step::MaskPath { path, null, empty });
    }
    let (bus, absent) = (p.str("/proc/sys"), p.str("/proc/none"));
    p.step(Step::ReadonlyPath { path: bus }).step(Step::ReadonlyPath { path: absent });
    shell(
        &mut p,
        "stat -c '%t:%T' /proc/cmdline; cat /proc/cmdline | wc -c; ls -A /secret /sys/firmware; echo x >/secret/y; \
         cat /proc/sys/kernel/ostype; echo 1 >/proc/sys/vm/drop_caches || echo refused",
    );
    let (text, _) = p.output(NEWNS | NEWPID);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(&lines[..2], ["1:3", "0"], "{text}");
    assert!(text.contains("Read-only file system"), "{text}");
    assert!(text.ends_with("refused\n"), "{text}");
    assert!(text.contains("\nLinux\n"));
    assert!(!text.contains("key"), "{text}");
}

#[test]
fn a_mask_must_stand_on_the_kernels_file_system() {
    if !root() {
        return;
    }
    let r = Rootfs::new("fake");
    r.dir("proc").file("proc/kcore", "fake");
    let mut p = container(&r);
    let null = p.fd(host_tree("/dev/null"));
    let empty = p.fd(tmpfs_tree());
    let path = p.str("/proc/kcore");
    p.step(Step::PivotRoot).step(Step::MaskPath { path, null, empty });
    let m = p.failure(NEWNS);
    assert_eq!((m.call, m.errno), (Call::Compare, libc::EXDEV));
    assert_eq!(&m.detail[..6], b"kcore\0");
}

#[test]
fn what_may_cover_proc() {
    if !root() {
        return;
    }
    let r = Rootfs::new("onproc");
    r.dir("proc").dir("elsewhere").link("sys", "elsewhere").link("way", "/proc");
    let attempt = |fstype: &str, target: &str, flags| {
        let mut p = container(&r);
        for name in HOST {
            let _ = fs::remove_file(r.path(name));
        }
        if target != "/proc" {
            proc(&mut p);
        }
        fsmount(&mut p, fstype, target, &[], 0, flags);
        p.failure(NEWNS | NEWPID)
    };
    let m = attempt("tmpfs", "/proc", ATTACH_ON_PROC | ATTACH_NO_LINKS);
    assert_eq!((m.call, m.errno), (Call::Compare, libc::EXDEV));
    let m = attempt("tmpfs", "/proc/not-there", ATTACH_ON_PROC);
    assert_eq!((m.call, m.errno), (Call::Openat2, libc::ENOENT), "nothing is made on procfs");
    for (target, flags) in [("/way/sys", 0), ("/way", 0), ("/way/../way/sys", ATTACH_TAKE_MODE)] {
        let m = attempt("tmpfs", target, flags);
        assert_eq!((m.call, m.errno), (Call::Compare, libc::EXDEV), "{target}");
    }
    let m = attempt("sysfs", "/sys", ATTACH_NO_LINKS);
    assert_eq!((m.call, m.errno), (Call::Openat2, libc::ELOOP));
    let m = attempt("tmpfs", "/proc/self/cwd/x", 0);
    assert_eq!((m.call, m.errno), (Call::Openat2, libc::ELOOP), "magic links are never followed");
}

#[test]
fn the_kernels_log_says_what_was_wrong() {
    if !root() {
        return;
    }
    let mut p = Program::new();
    fsmount(&mut p, "tmpfs", "/x", &["size=1m", "colour=red"], 0, 0);
    let m = p.failure(NEWNS);
    assert_eq!((m.part, m.call, m.errno), (3, Call::Fsconfig, libc::EINVAL));
    let detail = String::from_utf8_lossy(&m.detail).into_owned();
    assert!(detail.starts_with("Unknown parameter 'colour'"), "{detail}");
    let mut p = Program::new();
    fsmount(&mut p, "nosuchfs", "/x", &[], 0, 0);
    let m = p.failure(NEWNS);
    assert_eq!((m.part, m.call, m.errno), (0, Call::Fsopen, libc::ENODEV));
}

#[test]
fn a_detached_dev_with_nodes_links_and_a_terminal() {
    if !root() {
        return;
    }
    let r = Rootfs::new("dev");
    r.link("dev", "/etc");
    let mut p = container(&r);
    proc(&mut p);
    let (dev, tmpfs, options) = (p.slot(), p.str("tmpfs"), p.list(&["mode=755"]));
    p.step(Step::NewFs { fstype: tmpfs, source: tmpfs, options, attrs: NOSUID, out: dev });
    let node = |p: &mut Program, path: &str, mode: u32, dev_number: u64, owner: u64| {
        let path = p.str(path);
        p.step(Step::MakeNode { tree: dev, path, mode, dev: dev_number, owner });
    };
    node(&mut p, "null", libc::S_IFCHR | 0o666, 0x103, 0);
    node(&mut p, "net/tun", libc::S_IFCHR | 0o660, (10 << 8) | 200, (7 << 32) | 8);
    node(&mut p, "fifo", libc::S_IFIFO | 0o622, 0, 0);
    node(&mut p, "null", libc::S_IFCHR | 0o600, 0x103, 9 << 32);
    let link = |p: &mut Program, path: &str, target: &str, flags| {
        let (path, target) = (p.str(path), p.str(target));
        p.step(Step::MakeLink { tree: dev, path, target, flags });
    };
    link(&mut p, "fd", "/proc/self/fd", 0);
    link(&mut p, "core", "/proc/uptime", LINK_IF_TARGET);
    link(&mut p, "nothing", "/proc/none", LINK_IF_TARGET);
    link(&mut p, "ptmx", "elsewhere", 0);
    link(&mut p, "ptmx", "pts/ptmx", LINK_REPLACE);
    let name = p.str("pts");
    p.step(Step::MakeDir { tree: dev, name, mode: 0o755 });
    let target = p.str("/dev");
    p.step(Step::Attach { tree: dev, target, flags: 0 });
    let pts = fsmount(
        &mut p,
        "devpts",
        "/dev/pts",
        &["newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        NOSUID | NOEXEC,
        0,
    );
    let out = p.slot();
    p.step(Step::Terminal {
        devpts: pts,
        rows_cols: (30 << 32) | 100,
        owner: (1000 << 32) | 5,
        bind_console: true,
        out,
    })
    .step(Step::PivotRoot)
    .step(Step::SetSid)
    .step(Step::ControllingTerminal { fd: out });
    shell(
        &mut p,
        "cd /dev; stat -c '%n %F %a %u:%g %t:%T' null net/tun fifo console; readlink fd core ptmx; ls nothing 2>/dev/null; \
         stty size; tty; echo end",
    );
    let child = p.start(NEWNS | NEWPID);
    let master = child.expect(Kind::Console).remove(0);
    // The master answers EIO once the last peer is closed.
    let mut text = String::new();
    let mut chunk = [0_u8; 512];
    while let Ok(len @ 1..) = rustix::io::read(&master, &mut chunk) {
        text.push_str(std::str::from_utf8(&chunk[..len]).unwrap());
    }
    assert_eq!(child.wait(), 0);
    let want = "null character special file 666 0:0 1:3\r\nnet/tun character special file 660 7:8 a:c8\r\n\
        fifo fifo 622 0:0 0:0\r\nconsole character special file 620 1000:5 88:0\r\n/proc/self/fd\r\n\
        /proc/uptime\r\npts/ptmx\r\n";
    assert!(text.starts_with(want), "{text}");
    assert!(text.ends_with("30 100\r\n/etc/pts/0\r\nend\r\n"), "{text}");
    assert_eq!(
        fs::read_dir(r.path("etc")).unwrap().count(),
        0,
        "the image's /dev is a mount target and no more"
    );
}

#[test]
fn nodes_in_the_root_must_be_what_they_should_be() {
    if !root() {
        return;
    }
    let r = Rootfs::new("nodes");
    r.dir("dev").file("dev/zero", "").link("dev/full", "/dev/null");
    for (path, errno) in [("/dev/zero", libc::EEXIST), ("/dev/full", libc::EEXIST)] {
        let mut p = container(&r);
        for name in HOST {
            let _ = fs::remove_file(r.path(name));
        }
        let path = p.str(path);
        p.step(Step::MakeNode { tree: Slot::NONE, path, mode: libc::S_IFCHR | 0o666, dev: 0x105, owner: 0 });
        let m = p.failure(NEWNS);
        assert_eq!((m.call, m.errno), (Call::Compare, errno));
    }
    assert!(!r.path("dev/zero").metadata().unwrap().file_type().is_char_device());
}

#[test]
fn tmpcopyup_takes_what_the_image_has() {
    if !root() {
        return;
    }
    let r = Rootfs::new("copyup");
    r.dir("data/a/b").file("data/a/file", "text").link("data/a/link", "/etc/passwd").file("data/suid", "");
    std::os::unix::fs::chown(r.path("data/suid"), Some(12), Some(13)).unwrap();
    fs::set_permissions(r.path("data/suid"), fs::Permissions::from_mode(0o4711)).unwrap();
    fs::set_permissions(r.path("data/a/b"), fs::Permissions::from_mode(0o2750)).unwrap();
    for n in 0..200 {
        r.file(&format!("data/a/b/{n}"), "");
    }
    let mut p = container(&r);
    let (tree, tmpfs, target, absent) = (p.slot(), p.str("tmpfs"), p.str("/data"), p.str("/absent"));
    p.step(Step::NewFs { fstype: tmpfs, source: tmpfs, options: NONE, attrs: 0, out: tree })
        .step(Step::CopyUp { tree, target: absent })
        .step(Step::CopyUp { tree, target })
        .step(Step::Attach { tree, target, flags: ATTACH_TAKE_MODE })
        .step(Step::PivotRoot);
    shell(
        &mut p,
        "cd /data; cat a/file; echo; readlink a/link; stat -c '%a %u:%g' suid a/b .; ls a/b | wc -l; rm suid",
    );
    let (text, status) = p.output(NEWNS);
    assert_eq!(text, "text\n/etc/passwd\n4711 12:13\n2750 0:0\n755 0:0\n200\n");
    assert_eq!(status, 0);
    assert!(r.path("data/suid").exists());
}

#[test]
fn remounts_and_superblock_options() {
    if !root() {
        return;
    }
    let r = Rootfs::new("remount");
    let mut p = container(&r);
    proc(&mut p);
    fsmount(&mut p, "tmpfs", "/t", &["size=64k"], 0, 0);
    let (target, options) = (p.str("/t"), p.list(&["size=128k", "ro"]));
    p.step(Step::Reconfigure { target, options })
        .step(Step::Remount { target, set: NOSUID | RDONLY, clear: 0, propagation: 0, recursive: false })
        .step(Step::PivotRoot);
    shell(&mut p, "grep ' /t ' /proc/self/mountinfo | cut -d' ' -f6,7-");
    let (text, _) = p.output(NEWNS | NEWPID);
    assert!(text.starts_with("ro,nosuid,relatime"), "{text}");
    assert!(text.contains("ro,size=128k"), "{text}");
}

#[test]
fn inner_trees_come_from_the_new_root() {
    if !root() {
        return;
    }
    let r = Rootfs::new("inner");
    r.dir("a").link("b", "/a");
    let mut p = container(&r);
    fsmount(&mut p, "tmpfs", "/a", &[], 0, 0);
    let (tree, path, target) = (p.slot(), p.str("/b"), p.str("/c"));
    p.step(Step::OpenInnerTree { path, recursive: false, nofollow: false, out: tree })
        .step(Step::Attach { tree, target, flags: 0 })
        .step(Step::PivotRoot);
    shell(&mut p, "touch /a/x; ls /c");
    assert_eq!(p.output(NEWNS).0, "x\n");
}

#[test]
fn without_pivot_no_full_procfs_stays() {
    if !root() {
        return;
    }
    let r = Rootfs::new("nopivot");
    let mut p = container(&r);
    proc(&mut p);
    p.step(Step::MoveRoot);
    shell(&mut p, "cat /proc/self/mountinfo; pwd");
    let (text, status) = p.output(NEWNS | NEWPID);
    assert_eq!(status, 0, "{text}");
    assert_eq!(text.matches(" - proc ").count(), 1, "{text}");
    assert_eq!(text.matches(" - sysfs ").count(), 0, "{text}");
    assert!(text.ends_with("\n/\n"));
}

#[test]
fn locked_flags_in_a_user_namespace_are_named() {
    if !root() {
        return;
    }
    let r = Rootfs::new("locked");
    r.dir("t");
    let attempt = |set, clear| {
        let mut p = Program::new();
        p.step(Step::Propagation { flags: MS_PRIVATE, recursive: true });
        let target = r.path("t");
        fsmount(&mut p, "tmpfs", target.to_str().unwrap(), &[], NODEV, 0);
        // In the new user namespace the new mount namespace's mounts keep what they had.
        p.step(Step::Unshare { flags: NEWUSER | NEWNS });
        let (tree, path) = (p.slot(), p.str(target.to_str().unwrap()));
        p.step(Step::OpenHostTree { path, flags: OPEN_RECURSIVE, mode: 0, dev: 0, out: tree })
            .step(Step::TreeAttr { tree, set, clear, propagation: 0, recursive: false, userns: Slot::NONE });
        p.failure(NEWNS)
    };
    let m = attempt(RDONLY, NODEV);
    assert_eq!((m.call, m.errno), (Call::MountSetattr, libc::EPERM));
    assert!(m.detail.starts_with(b"locked: nodev\0"), "{m:?}");
    // The same access times as before are no change, though the kernel refuses to hear of them.
    assert_eq!(attempt(RDONLY, 0x70).errno, libc::ENODATA, "all steps are done");
    let m = attempt(0x10, 0x70);
    assert!(m.detail.starts_with(b"locked: atime\0"), "{m:?}");
}

fn tmpfs_tree() -> std::os::fd::OwnedFd {
    use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    fsconfig_create(&context).unwrap();
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY).unwrap()
}

fn host_tree(path: &str) -> std::os::fd::OwnedFd {
    use rustix::mount::{OpenTreeFlags, open_tree};
    open_tree(rustix::fs::CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
        .unwrap()
}
