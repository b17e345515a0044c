//! Mounts that show other owners than their files have: user namespaces that hold a mapping, and trees that get one from outside.
//!
//! Must not: keep a process alive longer than it takes to open its namespace. Tests: `tests` package, `root/idmaps.rs`.

use super::channel::Event;
use super::reach::Lent;
use super::session::{Session, Setting};
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::observe::Watch;
use crate::plan::script::{Answer, Maps, Script};
use coracle_init::program::{Slot, Step};
use coracle_init::wire::Kind;
use rustix::fs::{Mode, OFlags, fstatfs, open};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

const NEWUSER: u64 = 0x1000_0000;

/// A user namespace with these mappings. The process that it takes ends before this returns.
///
/// # Errors
/// The kernel's refusal of the process or of the mappings.
pub(crate) fn user_namespace(maps: &Maps) -> Result<OwnedFd> {
    let mut errand = Script::new();
    errand.clone_flags = NEWUSER;
    let Maps { uid, gid } = maps.clone();
    errand.answer("", Phase::Mounts, Answer::IdMaps { uid, gid, deny_setgroups: false });
    errand.step("", Phase::Mounts, Step::Born { first: Slot::NONE, count: 0, optional: false });
    errand.step("", Phase::Mounts, Step::Quit);
    Session::begin(errand, Setting::default(), &Watch(None))?.mapped()
}

impl Session {
    /// The user namespace of a child that is there for nothing else, mapped. Dropping the session ends the child.
    fn mapped(mut self) -> Result<OwnedFd> {
        match self.hear()? {
            Event::Message { message, .. } if message.kind == Kind::Born => {}
            Event::Message { message, .. } => return Err(self.explain(&message)),
            Event::HangUp | Event::Exited => {
                return Err(Error::new(ErrorKind::Kernel, "make a user namespace: its process was killed"));
            }
        }
        self.answer_planned(&Lent::default())?;
        own_namespace(self.identity().pid)
    }
}

/// The user namespace of a child of ours.
fn own_namespace(pid: i32) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/ns/user");
    open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Error::os("open a user namespace", e).with_path(path))
}

/// Maps the ids of a detached tree that the child with this pid lent.
///
/// # Errors
/// The kernel's refusal, which names the file system when that is the reason.
pub(crate) fn tree(lent: &Lent, slot: Slot, recursive: bool, maps: Option<&Maps>, pid: i32) -> Result<()> {
    let tree = lent.tree(slot).ok_or_else(|| Error::new(ErrorKind::Io, "map ids: the tree was not sent"))?;
    let namespace = match maps {
        Some(maps) => user_namespace(maps)?,
        None => own_namespace(pid)?,
    };
    let done = coracle_init::map_tree_ids(tree.as_raw_fd(), namespace.as_fd().as_raw_fd(), recursive);
    done.map_err(|e| {
        let kind = fstatfs(tree).map_or(0, |stat| u64::from_ne_bytes(stat.f_type.to_ne_bytes()));
        refused(e, kind)
    })
}

/// The sentence for a tree whose ids cannot be mapped; `kind` is the `f_type` of its file system.
pub(crate) fn refused(errno: Errno, kind: u64) -> Error {
    let error = if errno == Errno::INVAL {
        let text = format!(
            "map the ids of a mount: its file system, or one below it, cannot do that ({})",
            name(kind)
        );
        Error::new(ErrorKind::Unsupported, text).with_known_errno(errno.raw_os_error())
    } else {
        Error::os("map the ids of a mount", errno)
    };
    let hint = match errno {
        Errno::INVAL => "which file systems can depends on the kernel: see mount_setattr(2)",
        Errno::PERM => {
            "the source's ids are mapped already, or its file system belongs to another user namespace"
        }
        _ => return error.with_code("idmap"),
    };
    error.with_code("idmap-unsupported").with_hint(hint)
}

/// Names of those that are often met (linux/magic.h).
fn name(kind: u64) -> String {
    let name = match kind {
        0x9fa0 => "proc",
        0x6265_6572 => "sysfs",
        0x0102_1994 => "tmpfs",
        0x794c_7630 => "overlay",
        0x6969 => "nfs",
        0x6573_5546 => "fuse",
        0x0102_1997 => "9p",
        0xff53_4d42 | 0xfe53_4d42 => "cifs",
        0x0027_e0eb => "cgroup",
        0x6367_7270 => "cgroup2",
        0x1cd1 => "devpts",
        0xef53 => "ext4",
        0x5846_5342 => "xfs",
        0x9123_683e => "btrfs",
        _ => return format!("type {kind:#x}"),
    };
    name.to_owned()
}
