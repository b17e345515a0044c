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
use crate::step::mount::{attach_checked, below, clone_tree};
use crate::sys::{Fd, MountAttr};
use crate::walk::Walk;
use crate::wire::Call;

/// Opens the path; `None` when there is nothing. Part 0 opens, part 1 checks where it stands.
fn target(w: &mut Walk<'_>, path: Str) -> Result<Option<Fd>, Fail> {
    let base = w.root()?;
    let fd = match path::existing(base, w.program.cstr(path)?, Links::Follow) {
        Err(lost) if path::is_absent(&lost) => return Ok(None),
        other => other.at(0)?,
    };
    let name = w.program.str(path)?;
    if below(name, b"proc") || below(name, b"sys") {
        let planned = w.planned.contains(path::mount_id(fd.raw()).at(1, Call::Stat)?);
        if !planned && !of_kernel(path::magic(fd.raw()).at(1, Call::Fstatfs)?) {
            return Err(Fail::new(1, Call::Compare, Errno::XDEV).say(path::last(name)));
        }
    }
    Ok(Some(fd))
}

/// Whether a file system holds what the kernel made and nobody else: procfs, sysfs, and what is found mounted on them.
fn of_kernel(magic: u64) -> bool {
    const SYSFS: u64 = 0x6265_6572;
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
    let Some(fd) = target(w, path)? else { return Ok(()) };
    let is_dir = path::kind(fd.raw()).at(0, Call::Stat)? == FileType::Directory;
    let cover = w.slot(if is_dir { empty } else { null })?;
    let placed = core::mem::replace(if is_dir { &mut w.covered.1 } else { &mut w.covered.0 }, true);
    let base = w.root()?;
    let path = w.program.cstr(path)?;
    let copy = if placed { Some(clone_tree(cover, false, 2)?) } else { None };
    let tree = copy.as_ref().map_or(cover, Fd::raw);
    let id = path::mount_id(tree).at(3, Call::Stat)?;
    attach_checked(base, path, Links::Follow, (tree, id), &fd, 3)?;
    w.planned.add(id);
    Ok(())
}

/// Parts 0 and 1 find the path, 2 clones it, 3 sets it read-only, 4 attaches it, 5 looks whether it stands there.
pub(crate) fn readonly(w: &mut Walk<'_>, path: Str) -> Result<(), Fail> {
    let Some(fd) = target(w, path)? else { return Ok(()) };
    let base = w.root()?;
    let name = w.program.str(path)?;
    let tree = clone_tree(fd.raw(), true, 2).say(path::last(name))?;
    attr::set(tree.raw(), true, &MountAttr { set: RDONLY, ..MountAttr::default() }, 3)
        .say(path::last(name))?;
    let path = w.program.cstr(path)?;
    let id = path::mount_id(tree.raw()).at(4, Call::Stat)?;
    attach_checked(base, path, Links::Follow, (tree.raw(), id), &fd, 4)?;
    if below(name, b"proc") || below(name, b"sys") {
        w.planned.add(id);
    }
    Ok(())
}
