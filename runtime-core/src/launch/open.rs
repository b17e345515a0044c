//! Opens before the clone what a script names: trees, namespaces, the null device.
//!
//! Every source outside the root is open before the first mount is made, so that no mount of this container can redirect it.
//!
//! Must not: follow anything inside a root. Tests: containers in the `tests` package; errors in `tests/tests`.

use crate::cgroup::Cgroup;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::plan::script::{Open, Planned};
use coracle_init::program::Slot;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Opens everything that is named, in order.
///
/// # Errors
/// The first thing that cannot be opened, with its pointer and path.
pub(crate) fn open_all(
    opens: &[Planned<Open>],
    cgroup: Option<&Cgroup>,
    init: Option<BorrowedFd<'_>>,
) -> Result<Vec<(Slot, OwnedFd)>> {
    opens
        .iter()
        .map(|planned| {
            open_one(&planned.what, cgroup, init).map_err(|e| {
                let e = e.in_phase(planned.phase);
                if planned.pointer.is_empty() { e } else { e.at(planned.pointer.clone()) }
            })
        })
        .collect()
}

fn open_one(what: &Open, cgroup: Option<&Cgroup>, init: Option<BorrowedFd<'_>>) -> Result<(Slot, OwnedFd)> {
    match what {
        Open::Tree { path, recursive, nofollow, slot } => Ok((*slot, tree(path, *recursive, *nofollow)?)),
        Open::Root { path, slot } => Ok((*slot, root(path)?)),
        Open::Null { slot } => Ok((*slot, null()?)),
        Open::Node { path, block, major, minor, slot } => {
            let kind = if *block { FileType::BlockDevice } else { FileType::CharacterDevice };
            Ok((*slot, node(path, kind, *major, *minor)?))
        }
        Open::Namespace { path, nstype, slot } => Ok((*slot, namespace(path, *nstype)?)),
        Open::Proc { slot } => Ok((*slot, procfs()?)),
        Open::InitNamespace { nstype: _, slot } => {
            let fd = init.ok_or_else(|| Error::new(ErrorKind::Usage, "there is no init to join"))?;
            let copy = fd
                .try_clone_to_owned()
                .map_err(|e| Error::os("duplicate a process descriptor", e).in_phase(Phase::Namespaces))?;
            Ok((*slot, copy))
        }
        Open::UserNamespace { maps, slot } => Ok((*slot, super::idmap::user_namespace(maps)?)),
        Open::CgroupTree { hierarchy, slot } => {
            let cgroup =
                cgroup.ok_or_else(|| Error::new(ErrorKind::Usage, "the container has no cgroup to mount"))?;
            let dir = cgroup.directory_fd(hierarchy).ok_or_else(|| {
                Error::new(
                    ErrorKind::Unsupported,
                    format!("the container has no cgroup in hierarchy {hierarchy}"),
                )
            })?;
            Ok((
                *slot,
                clone_fd(dir, false).map_err(|e| Error::os("clone the container's cgroup directory", e))?,
            ))
        }
    }
}

fn clone_fd(fd: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    open_tree(fd, "", flags)
}

fn tree(path: &Path, recursive: bool, nofollow: bool) -> Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    flags.set(OpenTreeFlags::AT_SYMLINK_NOFOLLOW, nofollow);
    open_tree(CWD, path, flags).map_err(|e| {
        let error = Error::os("open the bind source", e).with_path(path);
        match e {
            Errno::NOENT | Errno::NOTDIR => {
                error.with_code("mount-source-missing").with_hint("create it on the host or remove the mount")
            }
            _ => error.with_code("mount-source"),
        }
    })
}

/// The rootfs: the last component may be a link for nobody but the caller, who named it.
fn root(path: &Path) -> Result<OwnedFd> {
    let broken = |e: Errno| {
        let error = Error::os("open the root filesystem", e).with_path(path).with_code("rootfs");
        match e {
            Errno::NOENT => error.with_hint("root.path is relative to the bundle directory"),
            _ => error,
        }
    };
    let dir =
        open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(broken)?;
    clone_fd(dir.as_fd(), true).map_err(broken)
}

/// The root of the host's procfs, and nothing that is mounted in its place.
fn procfs() -> Result<OwnedFd> {
    const PATH: &str = "/proc";
    const MAGIC: u32 = 0x9fa0;
    /// `PROC_ROOT_INO` (include/linux/proc_ns.h).
    const ROOT: u64 = 1;
    let broken = |e: Errno| Error::os("open the host's procfs", e).with_path(PATH);
    let fd = open(PATH, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(broken)?;
    let kind = rustix::fs::fstatfs(&fd).map_err(broken)?.f_type;
    if u32::try_from(kind) != Ok(MAGIC) || fstat(&fd).map_err(broken)?.st_ino != ROOT {
        return Err(Error::new(ErrorKind::Unsupported, "there is no procfs on /proc")
            .with_path(PATH)
            .with_code("procfs-missing"));
    }
    Ok(fd)
}

/// The host's null device. Masks are clones of it, so it must be the real one: CVE-2025-31133 is what happens when not.
fn null() -> Result<OwnedFd> {
    node(Path::new("/dev/null"), FileType::CharacterDevice, 1, 3)
}

fn node(path: &Path, kind: FileType, major: u32, minor: u32) -> Result<OwnedFd> {
    let broken =
        |e: Errno| Error::os("open the host's device node", e).with_path(path).with_code("host-device");
    let fd = openat2(
        CWD,
        path,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::NO_MAGICLINKS,
    )
    .map_err(broken)?;
    let stat = fstat(&fd).map_err(broken)?;
    let dev = rustix::fs::makedev(major, minor);
    if FileType::from_raw_mode(stat.st_mode) != kind || stat.st_rdev != dev {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "the host's device node is not {} {major}:{minor}",
                if kind == FileType::BlockDevice { "block" } else { "character" }
            ),
        )
        .with_path(path)
        .with_code("host-device"));
    }
    clone_fd(fd.as_fd(), false).map_err(broken)
}

/// A namespace by its file: usually a magic link of procfs or a bind of one, given by the engine and therefore followed.
fn namespace(path: &Path, nstype: i32) -> Result<OwnedFd> {
    let broken = |e: Errno| Error::os("open the namespace", e).with_path(path).with_code("namespace-path");
    let fd =
        open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty()).map_err(broken)?;
    match crate::sys::ns::nstype(fd.as_fd()) {
        Ok(found) if found == nstype => Ok(fd),
        Ok(_) => Err(Error::new(ErrorKind::InvalidSpec, "the path leads to a namespace of another type")
            .with_path(path)
            .with_code("namespace-type")),
        Err(Errno::NOTTY) => Err(Error::new(ErrorKind::InvalidSpec, "the path leads to no namespace")
            .with_path(path)
            .with_code("namespace-type")),
        Err(e) => Err(broken(e)),
    }
}
