//! Attributes and propagation of mounts, with what a user namespace and an older kernel make of them.
//!
//! Must not: take away a flag that the kernel locked, or give less than was asked for. Tests: `tests/mounts.rs`.

use rustix::fs::{FileType, StatVfsMountFlags, fstatvfs};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount_change, mount_remount};

use crate::buf::Decimal;
use crate::path;
use crate::program::{Slot, Str};
use crate::report::{At, Fail, Say};
use crate::sys::{self, MountAttr};
use crate::walk::Walk;
use crate::wire::Call;

pub(crate) const RDONLY: u64 = 0x01;
const NOSUID: u64 = 0x02;
const NODEV: u64 = 0x04;
const NOEXEC: u64 = 0x08;
const ATIME: u64 = 0x70;
const NOATIME: u64 = 0x10;
const STRICTATIME: u64 = 0x20;
const NODIRATIME: u64 = 0x80;
const IDMAP: u64 = 0x10_0000;
/// What the kernel locks one by one on mounts that come from a more privileged mount namespace.
const LOCKABLE: u64 = RDONLY | NOSUID | NODEV | NOEXEC | NODIRATIME;

/// The attributes that a mount has now.
fn current(fd: i32) -> Result<u64, Errno> {
    let flags = fstatvfs(sys::borrow(fd))?.f_flag;
    let pairs = [
        (StatVfsMountFlags::RDONLY, RDONLY),
        (StatVfsMountFlags::NOSUID, NOSUID),
        (StatVfsMountFlags::NODEV, NODEV),
        (StatVfsMountFlags::NOEXEC, NOEXEC),
        (StatVfsMountFlags::NODIRATIME, NODIRATIME),
        (StatVfsMountFlags::NOATIME, NOATIME),
    ];
    let mut attrs = 0;
    for (flag, attr) in pairs {
        if flags.contains(flag) {
            attrs |= attr;
        }
    }
    if !flags.intersects(StatVfsMountFlags::NOATIME | StatVfsMountFlags::RELATIME) {
        attrs |= STRICTATIME;
    }
    Ok(attrs)
}

/// What is left to ask for when the flags in `has` cannot change; the first of them that was asked away, if any.
fn around_locks(attr: &MountAttr, has: u64) -> Result<MountAttr, &'static [u8]> {
    let names: [(u64, &[u8]); 5] = [
        (RDONLY, b"locked: ro"),
        (NOSUID, b"locked: nosuid"),
        (NODEV, b"locked: nodev"),
        (NOEXEC, b"locked: noexec"),
        (NODIRATIME, b"locked: nodiratime"),
    ];
    for (flag, name) in names {
        if attr.clear & !attr.set & has & flag != 0 {
            return Err(name);
        }
    }
    if attr.clear & ATIME != 0 && attr.set & ATIME != has & ATIME {
        return Err(b"locked: atime");
    }
    Ok(MountAttr {
        set: (attr.set & !ATIME) | (has & LOCKABLE),
        clear: attr.clear & !(ATIME | LOCKABLE),
        ..*attr
    })
}

/// mount_setattr on the mount that `fd` names. In a user namespace the flags that the source mount had stay as they are: when
/// that is all that stood in the way the rest is set, else the failure's text names the flag.
pub(crate) fn set(fd: i32, recursive: bool, attr: &MountAttr, part: u32) -> Result<(), Fail> {
    let refused = match sys::mount_setattr(fd, recursive, attr) {
        Err(Errno::PERM) => Fail::new(part, Call::MountSetattr, Errno::PERM),
        other => return other.at(part, Call::MountSetattr),
    };
    let has = current(fd).at(part, Call::Fstatfs)?;
    match around_locks(attr, has) {
        Ok(rest) => sys::mount_setattr(fd, recursive, &rest).at(part, Call::MountSetattr),
        Err(flag) => Err(refused.say(flag)),
    }
}

/// [`set`] for a mount that stands in this mount namespace. Linux 5.10 and 5.11 have no mount_setattr: there a directory can
/// still be changed by mount(2) on the working directory, and the result is looked at.
fn set_mounted(fd: i32, recursive: bool, attr: &MountAttr, part: u32) -> Result<(), Fail> {
    match set(fd, recursive, attr, part) {
        Err(fail) if fail.errno == Errno::NOSYS.raw_os_error() && !recursive => {}
        other => return other,
    }
    if path::kind(fd).at(part, Call::Stat)? != FileType::Directory {
        return Err(Fail::new(part, Call::MountSetattr, Errno::NOSYS));
    }
    let want = (current(fd).at(part, Call::Fstatfs)? & !attr.clear) | attr.set;
    rustix::process::fchdir(sys::borrow(fd)).at(part, Call::Chdir)?;
    let mut flags = MountFlags::BIND;
    let pairs = [
        (RDONLY, MountFlags::RDONLY),
        (NOSUID, MountFlags::NOSUID),
        (NODEV, MountFlags::NODEV),
        (NOEXEC, MountFlags::NOEXEC),
        (NODIRATIME, MountFlags::NODIRATIME),
        (NOATIME, MountFlags::NOATIME),
        (STRICTATIME, MountFlags::STRICTATIME),
    ];
    for (attr, flag) in pairs {
        if want & attr != 0 {
            flags |= flag;
        }
    }
    if attr.set | attr.clear != 0 {
        mount_remount(c".", flags, c"").at(part, Call::Mount)?;
        if current(fd).at(part, Call::Fstatfs)? != want & (LOCKABLE | ATIME) {
            return Err(Fail::new(part, Call::Compare, Errno::NOSYS));
        }
    }
    if attr.propagation != 0 {
        mount_change(c".", kind_of(attr.propagation, false, part)?).at(part, Call::Mount)?;
    }
    rustix::process::chdir(c"/").at(part, Call::Chdir)
}

fn kind_of(flags: u64, recursive: bool, part: u32) -> Result<MountPropagationFlags, Fail> {
    let flags = u32::try_from(flags).map_err(|_| Fail::new(part, Call::Mount, Errno::INVAL))?;
    let kind = MountPropagationFlags::from_bits_retain(flags);
    Ok(if recursive { kind | MountPropagationFlags::REC } else { kind })
}

/// `Propagation` and `RootPropagation`: mount_setattr, before Linux 5.12 mount(2), on `/`.
pub(crate) fn propagation(flags: u64, recursive: bool) -> Result<(), Fail> {
    let top = sys::open_top().at(0, Call::Open)?;
    let attr = MountAttr { propagation: flags, ..MountAttr::default() };
    match sys::mount_setattr(top.raw(), recursive, &attr) {
        Err(Errno::NOSYS) => mount_change(c"/", kind_of(flags, recursive, 0)?).at(0, Call::Mount),
        other => other.at(0, Call::MountSetattr),
    }
}

/// `TreeAttr`.
pub(crate) fn tree_attr(
    w: &Walk<'_>,
    tree: Slot,
    attr: MountAttr,
    recursive: bool,
    userns: Slot,
) -> Result<(), Fail> {
    let mut attr = attr;
    let tree = w.slot(tree)?;
    if let Some(fd) = w.slot_if(userns)? {
        attr.set |= IDMAP;
        attr.userns = u64::try_from(fd).unwrap_or(0);
        return set(tree, recursive, &attr, 0).map_err(|fail| name_kind(tree, fail));
    }
    set(tree, recursive, &attr, 0)
}

/// The type of the file system that does not let its ids be mapped, as a decimal number.
fn name_kind(tree: i32, fail: Fail) -> Fail {
    match path::magic(tree) {
        Ok(kind) => fail.say(Decimal::new(kind).bytes()),
        Err(_) => fail,
    }
}

/// Maps the ids of a detached tree by a user namespace (MOUNT_ATTR_IDMAP, Linux 5.12), for a parent that has to do it itself.
///
/// # Errors
/// EINVAL: the file system cannot; EPERM: it belongs to another user namespace, or the ids are mapped already.
pub fn map_tree_ids(tree: i32, userns: i32, recursive: bool) -> Result<(), Errno> {
    let userns = u64::try_from(userns).map_err(|_| Errno::BADF)?;
    let attr = MountAttr { set: IDMAP, userns, ..MountAttr::default() };
    sys::mount_setattr(tree, recursive, &attr)
}

/// `Remount`: part 0 finds the mount, part 1 changes it.
pub(crate) fn remount(w: &mut Walk<'_>, target: Str, attr: &MountAttr, recursive: bool) -> Result<(), Fail> {
    use crate::path::AtPath;
    let base = w.root()?;
    let fd = path::existing(base, w.program.cstr(target)?, path::Links::Follow).at(0)?;
    set_mounted(fd.raw(), recursive, attr, 1).say(path::last(w.program.str(target)?))
}

/// `RootReadonly`.
pub(crate) fn root_readonly(w: &mut Walk<'_>) -> Result<(), Fail> {
    let root = w.root()?;
    set_mounted(root.raw(), false, &MountAttr { set: RDONLY, ..MountAttr::default() }, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locked_flags_stay_and_are_not_asked_away() {
        let ask = |set, clear| MountAttr { set, clear, ..MountAttr::default() };
        let rest = around_locks(&ask(RDONLY | NOATIME, ATIME | NOEXEC), NOSUID | NODEV | NOATIME).unwrap();
        assert_eq!((rest.set, rest.clear), (RDONLY | NOSUID | NODEV, 0));
        assert_eq!(around_locks(&ask(0, NODEV), NODEV).unwrap_err(), b"locked: nodev");
        assert_eq!(around_locks(&ask(0, RDONLY), RDONLY | NODEV).unwrap_err(), b"locked: ro");
        assert_eq!(around_locks(&ask(NOATIME, ATIME), 0).unwrap_err(), b"locked: atime");
        assert!(around_locks(&ask(0, RDONLY), NODEV).is_ok(), "what is not there can be asked away");
    }
}
