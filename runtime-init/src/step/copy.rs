//! tmpcopyup: the contents of a directory of the image go into a detached tree that will cover it.
//!
//! Copied are directories, regular files, links and special nodes with owner and mode; not times, not extended attributes, not
//! hard links as such. Must not: follow a link, open a special file, go deeper or on longer than fixed limits.
//! Tests: `tests/mounts.rs`.

use core::ffi::CStr;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Statx, Uid};
use rustix::io::Errno;

use crate::path::{self, AtPath, Links, PATH};
use crate::program::{Slot, Str};
use crate::report::{At, Fail, Say};
use crate::sys::{self, Fd};
use crate::walk::Walk;
use crate::wire::Call;

/// Levels of directories.
const DEPTH: u32 = 64;
/// Entries altogether.
const ENTRIES: u32 = 1_000_000;

/// Part 0 finds the directory; the parts after it are counted by what is done to one entry: 1 reads names, 2 opens, 3 looks,
/// 4 makes, 5 copies bytes, 6 sets the owner, 7 the mode. Nothing at the path means nothing to copy.
#[inline(never)]
pub(crate) fn copy_up(w: &mut Walk<'_>, tree: Slot, target: Str) -> Result<(), Fail> {
    let tree = w.slot(tree)?;
    let base = w.root()?;
    let from = match path::existing(base, w.program.cstr(target)?, Links::Follow) {
        Err(lost) if path::is_absent(&lost) => return Ok(()),
        other => other.at(0)?,
    };
    let mut left = ENTRIES;
    directory(&list(from.raw())?, tree, 0, &mut left)
}

const BELOW: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

fn open(dir: i32, name: &CStr, flags: OFlags, mode: Mode) -> Result<Fd, Errno> {
    let flags = flags | OFlags::NOFOLLOW;
    sys::open(Some(dir), name, flags, mode, BELOW)
}

/// A descriptor of the same directory that its names can be read from.
fn list(dir: i32) -> Result<Fd, Fail> {
    open(dir, c".", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).at(2, Call::Openat2)
}

fn directory(from: &Fd, to: i32, depth: u32, left: &mut u32) -> Result<(), Fail> {
    if depth >= DEPTH {
        return Err(Fail::new(1, Call::Getdents, Errno::TOOBIG));
    }
    let mut names = [0_u8; 1024];
    loop {
        let len = sys::getdents(from.raw(), &mut names).at(1, Call::Getdents)?;
        if len == 0 {
            return Ok(());
        }
        let mut rest = names.get(..len).unwrap_or(&[]);
        while let Some((name, next)) = first_name(rest) {
            rest = next;
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            *left = left.checked_sub(1).ok_or(Fail::new(1, Call::Getdents, Errno::TOOBIG))?;
            entry(from, to, name, depth, left).say(name.to_bytes())?;
        }
    }
}

/// Splits the first `struct linux_dirent64` off: inode, offset, length of the record (bytes 16 and 17), type, name.
fn first_name(records: &[u8]) -> Option<(&CStr, &[u8])> {
    let [low, high] = records.get(16..18)?.first_chunk::<2>()?;
    let (record, rest) = records.split_at_checked(u16::from_ne_bytes([*low, *high]).into())?;
    Some((CStr::from_bytes_until_nul(record.get(19..)?).ok()?, rest))
}

fn entry(from: &Fd, to: i32, name: &CStr, depth: u32, left: &mut u32) -> Result<(), Fail> {
    let seen = open(from.raw(), name, OFlags::PATH, Mode::empty()).at(2, Call::Openat2)?;
    let st = path::status(seen.raw()).at(3, Call::Stat)?;
    let kind = FileType::from_raw_mode(st.stx_mode.into());
    let place = sys::borrow(to);
    match kind {
        FileType::Directory => {
            rustix::fs::mkdirat(place, name, Mode::RWXU).at(4, Call::Mkdirat)?;
            let made =
                open(to, name, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).at(4, Call::Openat2)?;
            directory(&list(seen.raw())?, made.raw(), depth.wrapping_add(1), left)?;
            own(to, name, &st)
        }
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
            let file = open(from.raw(), name, flags, Mode::empty()).at(2, Call::Openat2)?;
            if path::kind(file.raw()).at(3, Call::Stat)? != FileType::RegularFile {
                return Err(Fail::new(3, Call::Compare, Errno::STALE));
            }
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
            let made = open(to, name, flags, Mode::RUSR | Mode::WUSR).at(4, Call::Openat2)?;
            bytes(&file, &made)?;
            own(to, name, &st)
        }
        FileType::Symlink => {
            let mut target = [0_u8; PATH];
            let len = rustix::fs::readlinkat_raw(&seen, c"", &mut target[..]).at(2, Call::Readlinkat)?;
            if len >= PATH {
                return Err(Fail::new(2, Call::Readlinkat, Errno::NAMETOOLONG));
            }
            let target = CStr::from_bytes_until_nul(&target)
                .map_err(|_| Fail::new(2, Call::Readlinkat, Errno::NAMETOOLONG))?;
            rustix::fs::symlinkat(target, place, name).at(4, Call::Symlinkat)?;
            own_only(to, name, &st)
        }
        kind => {
            let dev = rustix::fs::makedev(st.stx_rdev_major, st.stx_rdev_minor);
            rustix::fs::mknodat(place, name, kind, Mode::RUSR | Mode::WUSR, dev).at(4, Call::Mknodat)?;
            own(to, name, &st)
        }
    }
}

fn bytes(from: &Fd, to: &Fd) -> Result<(), Fail> {
    loop {
        match rustix::fs::sendfile(to, from, None, 1 << 20) {
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Fail::new(5, Call::Write, errno)),
        }
    }
}

fn own_only(dir: i32, name: &CStr, st: &Statx) -> Result<(), Fail> {
    let (uid, gid) = (Uid::from_raw(st.stx_uid), Gid::from_raw(st.stx_gid));
    rustix::fs::chownat(sys::borrow(dir), name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .at(6, Call::Fchown)
}

/// Owner first: changing it clears the set-id bits. The tree is detached, so the name cannot have become a link.
fn own(dir: i32, name: &CStr, st: &Statx) -> Result<(), Fail> {
    own_only(dir, name, st)?;
    let mode = Mode::from_raw_mode(st.stx_mode.into());
    rustix::fs::chmodat(sys::borrow(dir), name, mode, AtFlags::empty()).at(7, Call::Fchmod)
}
