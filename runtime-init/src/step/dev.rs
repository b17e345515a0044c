//! Device nodes, links in `/dev`, and the standard streams.
//!
//! Must not: follow a link to a node, change a node that was there before, open a device. Tests: `tests/mounts.rs`.

use core::ffi::CStr;

use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid};
use rustix::io::Errno;

use crate::path::{self, AtPath, Base, Links, PATH};
use crate::program::{LINK_IF_TARGET, LINK_REPLACE, Slot, Str};
use crate::report::{At, Fail, Say};
use crate::sys::{self, Fd};
use crate::walk::Walk;
use crate::wire::Call;

/// Uid and gid from the two halves of a number.
pub(crate) fn owner_of(word: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = word.to_be_bytes();
    (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))
}

/// fchownat of the file that a descriptor names, O_PATH or not; all-ones ids stay.
pub(crate) fn chown(fd: i32, uid: u32, gid: u32) -> Result<(), Errno> {
    let uid = (uid != u32::MAX).then(|| Uid::from_raw(uid));
    let gid = (gid != u32::MAX).then(|| Gid::from_raw(gid));
    rustix::fs::chownat(sys::borrow(fd), c"", uid, gid, AtFlags::EMPTY_PATH)
}

fn base_for(w: &mut Walk<'_>, tree: Slot) -> Result<Base, Fail> {
    match w.slot_if(tree)? {
        Some(fd) => Ok(Base::new(fd)),
        None => w.root(),
    }
}

/// Part 0 opens (and makes) the directory, 1 `mknodat`, 2 opens the node, 3 compares it, 4 `fchownat`.
pub(crate) fn make_node(
    w: &mut Walk<'_>,
    tree: Slot,
    path: Str,
    mode: u32,
    dev: u64,
    owner: u64,
) -> Result<(), Fail> {
    if let Some(dir) = own_directory(w, tree, path)?
        && make_fresh_node(w, dir, path, mode, dev, owner)?
    {
        return Ok(());
    }
    let text = path::last(w.program.str(path)?);
    let base = base_for(w, tree)?;
    let (dir, name) = path::parent(base, w.program.cstr(path)?, Links::Follow).at(0)?;
    let kind = FileType::from_raw_mode(mode);
    let made = match rustix::fs::mknodat(&dir, name, kind, Mode::from_raw_mode(mode), dev) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(errno) => return Err(Fail::new(1, Call::Mknodat, errno).say(text)),
    };
    let node = path::child(dir.raw(), name).at(2, Call::Openat2).say(text)?;
    let st = path::status(node.raw()).at(3, Call::Stat)?;
    let is_device = matches!(kind, FileType::CharacterDevice | FileType::BlockDevice);
    let same_number = rustix::fs::makedev(st.stx_rdev_major, st.stx_rdev_minor) == libc_dev(dev);
    if FileType::from_raw_mode(st.stx_mode.into()) != kind || (is_device && !same_number) {
        return Err(Fail::new(3, Call::Compare, Errno::EXIST).say(text));
    }
    let (uid, gid) = owner_of(owner);
    if made && (st.stx_uid != uid || st.stx_gid != gid) {
        chown(node.raw(), uid, gid).at(4, Call::Fchown).say(text)?;
    }
    Ok(())
}

/// The root of a detached tree, when `path` is one name directly in it. Nobody else can reach such a tree, so what is made there needs
/// no second look.
fn own_directory(w: &Walk<'_>, tree: Slot, path: Str) -> Result<Option<i32>, Fail> {
    let plain = !w.program.str(path)?.contains(&b'/');
    Ok(w.slot_if(tree)?.filter(|_| plain))
}

fn make_fresh_node(w: &Walk<'_>, dir: i32, path: Str, mode: u32, dev: u64, owner: u64) -> Result<bool, Fail> {
    let (text, name) = (w.program.str(path)?, w.program.cstr(path)?);
    let dir = sys::borrow(dir);
    match rustix::fs::mknodat(dir, name, FileType::from_raw_mode(mode), Mode::from_raw_mode(mode), dev) {
        // An earlier step made it: compared like any other.
        Err(Errno::EXIST) => return Ok(false),
        other => other.at(1, Call::Mknodat).say(text)?,
    }
    let (uid, gid) = owner_of(owner);
    if (uid, gid) == (0, 0) && rustix::process::geteuid().is_root() && rustix::process::getegid().is_root() {
        return Ok(true);
    }
    rustix::fs::chownat(
        dir,
        name,
        Some(Uid::from_raw(uid)),
        Some(Gid::from_raw(gid)),
        AtFlags::SYMLINK_NOFOLLOW,
    )
    .at(4, Call::Fchown)
    .say(text)?;
    Ok(true)
}

/// The kernel's 32-bit encoding of a device number, taken apart and put together as rustix does.
fn libc_dev(dev: u64) -> u64 {
    let major = (dev & 0xf_ff00).wrapping_shr(8);
    let minor = (dev & 0xff) | (dev.wrapping_shr(12) & 0xf_ff00);
    let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    rustix::fs::makedev(narrow(major), narrow(minor))
}

/// Part 0 opens (and makes) the directory, 1 looks for the target, 2 `symlinkat`, 3 `unlinkat`. What is there already stays,
/// as in runc, but with `LINK_REPLACE`.
pub(crate) fn make_link(
    w: &mut Walk<'_>,
    tree: Slot,
    path: Str,
    target: Str,
    flags: u32,
) -> Result<(), Fail> {
    let text = path::last(w.program.str(path)?);
    let target = w.program.cstr(target)?;
    if let Some(dir) = own_directory(w, tree, path)?.filter(|_| flags & LINK_IF_TARGET == 0) {
        let name = w.program.cstr(path)?;
        match rustix::fs::symlinkat(target, sys::borrow(dir), name) {
            Ok(()) => return Ok(()),
            // An earlier step made it: looked at below.
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(Fail::new(2, Call::Symlinkat, errno).say(text)),
        }
    }
    let root = w.root()?;
    let base = base_for(w, tree)?;
    let (dir, name) = path::parent(base, w.program.cstr(path)?, Links::Follow).at(0)?;
    if flags & LINK_IF_TARGET != 0 {
        let from = if target.to_bytes().first() == Some(&b'/') { root } else { Base::new(dir.raw()) };
        match path::existing(from, target, Links::Follow) {
            Err(lost) if path::is_absent(&lost) => return Ok(()),
            other => other.at(1).map(drop)?,
        }
    }
    match rustix::fs::symlinkat(target, &dir, name) {
        Err(Errno::EXIST) if flags & LINK_REPLACE != 0 && !points_to(&dir, name, target) => {
            rustix::fs::unlinkat(&dir, name, AtFlags::empty()).at(3, Call::Unlinkat).say(text)?;
            rustix::fs::symlinkat(target, &dir, name).at(2, Call::Symlinkat).say(text)
        }
        Err(Errno::EXIST) => Ok(()),
        other => other.at(2, Call::Symlinkat).say(text),
    }
}

#[inline(never)]
fn points_to(dir: &Fd, name: &CStr, target: &CStr) -> bool {
    let mut text = [0_u8; PATH];
    match rustix::fs::readlinkat_raw(dir, name, &mut text[..]) {
        Ok(len) => text.get(..len) == Some(target.to_bytes()),
        Err(_) => false,
    }
}

/// Part is the descriptor's number.
pub(crate) fn own_stdio(uid: u32, gid: u32) -> Result<(), Fail> {
    let null = rustix::fs::makedev(1, 3);
    let mut fd = 0_i32;
    for part in 0..3_u32 {
        let st = path::status(fd).at(part, Call::Stat)?;
        let is_char = FileType::from_raw_mode(st.stx_mode.into()) == FileType::CharacterDevice;
        let is_null = is_char && rustix::fs::makedev(st.stx_rdev_major, st.stx_rdev_minor) == null;
        let is_ours = st.stx_uid == uid && (st.stx_gid == gid || gid == u32::MAX);
        let is_terminal = is_char && rustix::termios::isatty(sys::borrow(fd));
        if !is_null && !is_ours && !is_terminal {
            match chown(fd, uid, gid) {
                // A foreign file, a read-only file system, an id that is not mapped: it stays whose it is.
                Ok(()) | Err(Errno::PERM | Errno::ROFS | Errno::INVAL) => {}
                Err(errno) => return Err(Fail::new(part, Call::Fchown, errno)),
            }
        }
        fd = fd.wrapping_add(1);
    }
    Ok(())
}

/// A number that somebody else counts on is never overwritten.
pub(crate) fn install(w: &Walk<'_>, fd: Slot, target: u32) -> Result<(), Fail> {
    let from = w.slot(fd)?;
    let to = i32::try_from(target).map_err(|_| Fail::new(0, Call::Dup3, Errno::BADF))?;
    let taken = to != from && w.slots.contains(&to);
    if to == w.report || taken {
        return Err(Fail::new(0, Call::Dup3, Errno::BUSY));
    }
    duplicate(from, to, 0)
}

/// `from` becomes `to`, without close-on-exec.
fn duplicate(from: i32, to: i32, part: u32) -> Result<(), Fail> {
    if from == to {
        let none = rustix::io::FdFlags::empty();
        return rustix::io::fcntl_setfd(sys::borrow(to), none).at(part, Call::Fcntl);
    }
    sys::dup_onto(from, to, false).at(part, Call::Dup3)
}

/// Parts 0 to 2 `dup3`, part 3 `ioctl(TIOCSCTTY)`.
pub(crate) fn controlling_terminal(w: &Walk<'_>, fd: Slot) -> Result<(), Fail> {
    let from = w.slot(fd)?;
    duplicate(from, 0, 0)?;
    duplicate(from, 1, 1)?;
    duplicate(from, 2, 2)?;
    rustix::process::ioctl_tiocsctty(sys::borrow(0)).at(3, Call::Ioctl)
}
