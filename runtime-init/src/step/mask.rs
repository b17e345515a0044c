//! Masked and read-only paths, after all mounts, inside the new root.
//!
//! Must not: use anything of the container as the cover, or take a failed cover for an absent path.
//! Tests: `tests/mounts.rs`.

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::path::{self, AtPath, Links, PROC_MAGIC};
use crate::program::{Slot, Str};
use crate::report::{At, Fail, Say};
use crate::step::attr::{self, RDONLY};
use crate::step::mount::{attach_checked, below, clone_tree, move_onto};
use crate::sys::{Fd, MountAttr};
use crate::walk::Walk;
use crate::wire::Call;

/// What a path leads to.
struct Target {
    fd: Fd,
    kind: FileType,
    /// On procfs or sysfs themselves, whose names nobody can exchange: what was found is what has the name.
    fixed: bool,
}

/// Opens the path; `None` when there is nothing. Part 0 opens, part 1 checks where it stands.
fn target(w: &mut Walk<'_>, path: Str) -> Result<Option<Target>, Fail> {
    let base = w.root()?;
    let fd = match path::existing(base, w.program.cstr(path)?, Links::Follow) {
        Err(lost) if path::is_absent(&lost) => return Ok(None),
        other => other.at(0)?,
    };
    let status = path::status(fd.raw()).at(1, Call::Stat)?;
    let kind = FileType::from_raw_mode(status.stx_mode.into());
    let name = w.program.str(path)?;
    let mut fixed = false;
    if below(name, b"proc") || below(name, b"sys") {
        let magic = path::magic(fd.raw()).at(1, Call::Fstatfs)?;
        fixed = matches!(magic, PROC_MAGIC | SYSFS);
        if !of_kernel(magic) && !w.planned.contains(path::id_of(&status).at(1, Call::Stat)?) {
            return Err(Fail::new(1, Call::Compare, Errno::XDEV).say(path::last(name)));
        }
    }
    Ok(Some(Target { fd, kind, fixed }))
}

/// Attaches `tree` there. Parts `part` and, unless the target is fixed, `part + 1`.
fn cover(w: &mut Walk<'_>, path: Str, tree: i32, target: &Target, part: u32) -> Result<u64, Fail> {
    let base = w.root()?;
    let path = w.program.cstr(path)?;
    let id = path::mount_id(tree).at(part, Call::Stat)?;
    if target.fixed {
        move_onto(tree, &target.fd, part).say(path::last(path.to_bytes()))?;
    } else {
        attach_checked(base, path, Links::Follow, (tree, id), &target.fd, part)?;
    }
    Ok(id)
}

/// `f_type` of sysfs.
const SYSFS: u64 = 0x6265_6572;

/// Whether a file system holds what the kernel made and nobody else: procfs, sysfs, and what is found mounted on them.
fn of_kernel(magic: u64) -> bool {
    const CGROUP: u64 = 0x27_e0eb;
    const CGROUP2: u64 = 0x6367_7270;
    const SECURITYFS: u64 = 0x7363_6673;
    const DEBUGFS: u64 = 0x6462_6720;
    const TRACEFS: u64 = 0x7472_6163;
    const BINFMT_MISC: u64 = 0x4249_4e4d;
    const EFIVARFS: u64 = 0xde5e_81e4;
    const SELINUXFS: u64 = 0xf97c_ff8c;
    const PSTORE: u64 = 0x6165_676c;
    [
        PROC_MAGIC,
        SYSFS,
        CGROUP,
        CGROUP2,
        SECURITYFS,
        DEBUGFS,
        TRACEFS,
        BINFMT_MISC,
        EFIVARFS,
        SELINUXFS,
        PSTORE,
    ]
    .contains(&magic)
}

/// Parts 0 and 1 find the path, 2 clones the cover, 3 attaches it, 4 looks whether it stands there.
///
/// The first mask of its kind takes the cover itself, later ones clone it as it then stands in this namespace: before Linux 6.15 a
/// detached tree cannot be cloned, and closing one that was never attached waits for the whole machine (an RCU grace period).
pub(crate) fn mask(w: &mut Walk<'_>, path: Str, null: Slot, empty: Slot) -> Result<(), Fail> {
    let Some(target) = target(w, path)? else { return Ok(()) };
    let is_dir = target.kind == FileType::Directory;
    let tree = w.slot(if is_dir { empty } else { null })?;
    let placed = core::mem::replace(if is_dir { &mut w.covered.1 } else { &mut w.covered.0 }, true);
    let copy = if placed { Some(clone_tree(tree, false, 2)?) } else { None };
    let id = cover(w, path, copy.as_ref().map_or(tree, Fd::raw), &target, 3)?;
    w.planned.add(id);
    Ok(())
}

/// Parts 0 and 1 find the path, 2 clones it, 3 sets it read-only, 4 attaches it, 5 looks whether it stands there.
pub(crate) fn readonly(w: &mut Walk<'_>, path: Str) -> Result<(), Fail> {
    let Some(target) = target(w, path)? else { return Ok(()) };
    let name = w.program.str(path)?;
    let tree = clone_tree(target.fd.raw(), true, 2).say(path::last(name))?;
    attr::set(tree.raw(), true, &MountAttr { set: RDONLY, ..MountAttr::default() }, 3)
        .say(path::last(name))?;
    let id = cover(w, path, tree.raw(), &target, 4)?;
    if below(name, b"proc") || below(name, b"sys") {
        w.planned.add(id);
    }
    Ok(())
}
