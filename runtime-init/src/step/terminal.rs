//! The container's terminal: a pair from its own devpts, its peer on `/dev/console`, its master to the parent.
//!
//! Must not: believe a name below `/dev` before the file system behind it was looked at. Tests: `tests/mounts.rs`.

use core::ffi::CStr;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::pty::unlockpt;
use rustix::termios::{Winsize, tcsetwinsize};

use crate::path::{self, AtPath, Links};
use crate::program::Slot;
use crate::report::{self, At, Fail, Say};
use crate::step::dev::{chown, owner_of};
use crate::step::mount::{clone_tree, move_onto};
use crate::sys::{self, Fd};
use crate::walk::Walk;
use crate::wire::{Call, Kind, Message};

/// `f_type` of devpts, the inode of its `ptmx`, and that node's number.
const DEVPTS_MAGIC: u64 = 0x1cd1;
const PTMX_INO: u64 = 2;
const PTMX: (u32, u32) = (5, 2);

/// Part 0 finds the devpts, 1 opens `ptmx`, 2 looks at it, 3 unlocks, 4 opens the peer, 5 sets the size, 6 the owner, 7 to 11 bind
/// the console, 12 sends the master. `rows_cols`: rows in the high half, columns in the low one; 0 leaves the size.
#[inline(never)]
pub(crate) fn terminal(
    w: &mut Walk<'_>,
    devpts: Slot,
    rows_cols: u64,
    owner: u64,
    bind_console: bool,
    out: Slot,
) -> Result<(), Fail> {
    let found = match w.slot_if(devpts)? {
        Some(_) => None,
        None => Some(path::existing(w.root()?, c"/dev/pts", Links::Refuse).at(0)?),
    };
    let dir = match &found {
        Some(fd) => fd.raw(),
        None => w.slot(devpts)?,
    };
    let master = open_master(dir)?;
    unlockpt(&master).at(3, Call::Ioctl)?;
    let peer = sys::peer(&master).at(4, Call::Ioctl)?;
    if rows_cols != 0 {
        let (rows, cols) = owner_of(rows_cols);
        let narrow = |n: u32| u16::try_from(n).map_err(|_| Fail::new(5, Call::Ioctl, Errno::INVAL));
        let size = Winsize { ws_row: narrow(rows)?, ws_col: narrow(cols)?, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&peer, size).at(5, Call::Ioctl)?;
    }
    let (uid, gid) = owner_of(owner);
    chown(peer.raw(), uid, gid).at(6, Call::Fchown)?;
    if bind_console {
        console(w, &peer)?;
    }
    report::send_fd(w.report, &Message::plain(Kind::Console), master.raw()).at(12, Call::Sendmsg)?;
    w.fill(out, peer)
}

fn open_master(dir: i32) -> Result<Fd, Fail> {
    if path::magic(dir).at(0, Call::Fstatfs)? != DEVPTS_MAGIC {
        return Err(Fail::new(0, Call::Compare, Errno::XDEV).say(b"devpts"));
    }
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_XDEV
        | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW;
    let master =
        sys::open(Some(dir), c"ptmx", flags, Mode::empty(), resolve).at(1, Call::Openat2).say(b"ptmx")?;
    let st = path::status(master.raw()).at(2, Call::Stat)?;
    let is_char = FileType::from_raw_mode(st.stx_mode.into()) == FileType::CharacterDevice;
    if is_char && st.stx_ino == PTMX_INO && (st.stx_rdev_major, st.stx_rdev_minor) == PTMX {
        Ok(master)
    } else {
        Err(Fail::new(2, Call::Compare, Errno::XDEV).say(b"ptmx"))
    }
}

/// Part 7 opens `/dev`, 8 makes the file and opens it, 9 clones the peer's mount, 10 attaches it, 11 looks whether it stands there.
fn console(w: &mut Walk<'_>, peer: &Fd) -> Result<(), Fail> {
    let name: &CStr = c"console";
    let base = w.root()?;
    let (dir, name) = path::parent(base, c"/dev/console", Links::Follow).at(7).map(|(dir, _)| (dir, name))?;
    match rustix::fs::mknodat(&dir, name, FileType::RegularFile, Mode::from_bits_retain(0o600), 0) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(Fail::new(8, Call::Mknodat, errno).say(b"console")),
    }
    let open = |part| open_here(&dir, name).at(part, Call::Openat2).say(b"console");
    let target = open(8)?;
    match path::kind(target.raw()).at(8, Call::Stat)? {
        FileType::Symlink => return Err(Fail::new(8, Call::Compare, Errno::LOOP).say(b"console")),
        FileType::Directory => return Err(Fail::new(8, Call::Compare, Errno::ISDIR).say(b"console")),
        _ => {}
    }
    let tree = clone_tree(peer.raw(), false, 9).say(b"console")?;
    let id = path::mount_id(tree.raw()).at(10, Call::Stat)?;
    move_onto(tree.raw(), &target, 10).say(b"console")?;
    let seen = open(11)?;
    if path::mount_id(seen.raw()).at(11, Call::Stat)? == id {
        Ok(())
    } else {
        Err(Fail::new(11, Call::Compare, Errno::STALE).say(b"console"))
    }
}

/// Opens a name in a directory without following it; a mount on it is entered, or a cover could not be seen.
fn open_here(dir: &Fd, name: &CStr) -> Result<Fd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    sys::open(Some(dir.raw()), name, flags, Mode::empty(), resolve)
}
