//! Mounts by descriptor: trees are made detached, get everything they need, and are attached to a descriptor of their target.
//!
//! Must not: mount by a string, make a mount visible before its attributes are set, or believe that a descriptor still stands where
//! the path leads (but on procfs and sysfs, see `mask.rs`). Tests: `tests/mounts.rs`.

use core::ffi::CStr;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Statx};
use rustix::io::Errno;
use rustix::mount::{
    MoveMountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_reconfigure, fsconfig_set_flag,
    fsconfig_set_string, move_mount, unmount,
};
use rustix::process::fchdir;

use crate::buf::Buf;
use crate::path::{self, AtPath, Base, Leaf, Links, PROC_MAGIC};
use crate::program::{
    ATTACH_NO_LINKS, ATTACH_NOFOLLOW, ATTACH_ON_PROC, ATTACH_TAKE_MODE, OPEN_ASK, OPEN_DIRECTORY, OPEN_LEND,
    OPEN_NOFOLLOW, OPEN_RECURSIVE, Slot, Str, StrList,
};
use crate::report::{self, At, Fail, Say};
use crate::sys::{self, Fd};
use crate::walk::Walk;
use crate::wire::{Call, Kind, Message};

/// Ids of mounts that the program attached on or below `/proc` and `/sys`.
#[derive(Debug)]
pub(crate) struct Planned {
    ids: [u64; 64],
    count: usize,
}

impl Planned {
    pub(crate) fn new() -> Self {
        Self { ids: [0; 64], count: 0 }
    }

    /// Remembers a mount; beyond 64 none, which makes later checks stricter, not weaker.
    pub(crate) fn add(&mut self, id: u64) {
        if let Some(place) = self.ids.get_mut(self.count) {
            *place = id;
            self.count = self.count.wrapping_add(1);
        }
    }

    pub(crate) fn contains(&self, id: u64) -> bool {
        self.ids.iter().take(self.count).any(|known| *known == id)
    }
}

/// Whether a path, as written, lies on or below a directory of the root.
pub(crate) fn below(path: &[u8], top: &[u8]) -> bool {
    path::names(path).next() == Some(top)
}

fn clone_flags(recursive: bool) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE;
    if recursive { flags | OpenTreeFlags::AT_RECURSIVE } else { flags }
}

/// A detached copy of the mount that `fd` names.
pub(crate) fn clone_tree(fd: i32, recursive: bool, part: u32) -> Result<Fd, Fail> {
    let flags = clone_flags(recursive) | OpenTreeFlags::AT_EMPTY_PATH;
    sys::open_tree(Some(fd), c"", flags).at(part, Call::OpenTree)
}

/// Opens a tree of the host, or asks the parent for it; see the `OPEN_*` constants.
pub(crate) fn open_host_tree(
    w: &mut Walk<'_>,
    path: Str,
    flags: u32,
    expected: (u32, u64),
    out: Slot,
) -> Result<(), Fail> {
    let name = path::last(w.program.str(path)?);
    let slot = |kind| Message { part: out.0.into(), ..Message::plain(kind) };
    let tree = match host_tree(w.program.cstr(path)?, flags, expected) {
        Err(fail) if flags & OPEN_ASK != 0 && fail.errno == Errno::ACCESS.raw_os_error() => {
            return report::send(w.report, &slot(Kind::Unreached)).at(3, Call::Write);
        }
        other => other.say(name)?,
    };
    if flags & OPEN_LEND != 0 {
        report::send_fd(w.report, &slot(Kind::Tree), tree.raw()).at(3, Call::Sendmsg)?;
    }
    w.fill(out, tree)
}

fn host_tree(path: &CStr, flags: u32, (mode, dev): (u32, u64)) -> Result<Fd, Fail> {
    let recursive = flags & OPEN_RECURSIVE != 0;
    let mut how = OFlags::PATH;
    if flags & OPEN_NOFOLLOW != 0 {
        how |= OFlags::NOFOLLOW;
    }
    if flags & OPEN_DIRECTORY != 0 {
        how |= OFlags::DIRECTORY;
    } else if mode == 0 {
        let mut flags = clone_flags(recursive);
        if how.contains(OFlags::NOFOLLOW) {
            flags |= OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
        }
        return sys::open_tree(None, path, flags).at(0, Call::OpenTree);
    }
    let resolve = if mode == 0 { ResolveFlags::empty() } else { ResolveFlags::NO_MAGICLINKS };
    let fd = sys::open(None, path, how, Mode::empty(), resolve).at(0, Call::Open)?;
    if mode != 0 {
        let status = path::status(fd.raw()).at(1, Call::Stat)?;
        let device = rustix::fs::makedev(status.stx_rdev_major, status.stx_rdev_minor);
        let kind = FileType::from_raw_mode(mode);
        if FileType::from_raw_mode(status.stx_mode.into()) != kind || device != dev {
            return Err(Fail::new(1, Call::Compare, Errno::NODEV));
        }
    }
    clone_tree(fd.raw(), recursive, 2)
}

/// Part 0 resolves, part 1 clones.
pub(crate) fn open_inner_tree(
    w: &mut Walk<'_>,
    path: Str,
    recursive: bool,
    nofollow: bool,
    out: Slot,
) -> Result<(), Fail> {
    let links = if nofollow { Links::NotLast } else { Links::Follow };
    let base = w.root()?;
    let fd = path::existing(base, w.program.cstr(path)?, links).at(0)?;
    let tree = clone_tree(fd.raw(), recursive, 1).say(path::last(w.program.str(path)?))?;
    w.fill(out, tree)
}

/// What the kernel wrote about a failure into the log of its fs context: the first error, without the name of the file system.
fn with_log(context: &Fd, fail: Fail) -> Fail {
    let mut message = [0_u8; 256];
    // Each read takes one message; the kernel keeps eight.
    for _ in 0..8 {
        let Ok(len) = rustix::io::read(sys::borrow(context.raw()), &mut message[..]) else { break };
        let text = message.get(..len).unwrap_or(&[]);
        if let Some(text) = text.strip_prefix(b"e ") {
            let text = text.trim_ascii_end();
            let at = text.windows(2).position(|pair| pair == b": ").map_or(0, |at| at.wrapping_add(2));
            return fail.say(text.get(at..).unwrap_or(text));
        }
    }
    fail
}

/// One `key` or `key=value` of a file system.
fn configure(context: &Fd, option: &CStr, part: u32) -> Result<(), Fail> {
    let bytes = option.to_bytes_with_nul();
    let set = match bytes.iter().position(|b| *b == b'=') {
        None => fsconfig_set_flag(context, option),
        Some(at) => {
            let mut key = Buf::<256>::new();
            let value = bytes.get(at.wrapping_add(1)..).and_then(|v| CStr::from_bytes_with_nul(v).ok());
            match (key.push(bytes.get(..at).unwrap_or(&[])), value) {
                (Ok(()), Some(value)) => fsconfig_set_string(context, key.cstr(), value),
                _ => Err(Errno::INVAL),
            }
        }
    };
    set.at(part, Call::Fsconfig).map_err(|fail| with_log(context, fail)).say(option.to_bytes())
}

fn configure_all(w: &Walk<'_>, context: &Fd, options: StrList, first: u32) -> Result<u32, Fail> {
    let mut index = 0_u32;
    while index < options.count {
        let option = w.program.cstr(w.program.item(options, index)?)?;
        configure(context, option, first.wrapping_add(index))?;
        index = index.wrapping_add(1);
    }
    Ok(first.wrapping_add(index))
}

#[inline(never)]
pub(crate) fn new_fs(
    w: &mut Walk<'_>,
    fstype: Str,
    source: Str,
    options: StrList,
    attrs: u64,
    out: Slot,
) -> Result<(), Fail> {
    let name = w.program.cstr(fstype)?;
    let context = sys::fsopen(name).at(0, Call::Fsopen).say(name.to_bytes())?;
    if !source.is_none() && source.len > 0 {
        fsconfig_set_string(&context, c"source", w.program.cstr(source)?)
            .at(1, Call::Fsconfig)
            .map_err(|fail| with_log(&context, fail))?;
    }
    let part = configure_all(w, &context, options, 2)?;
    fsconfig_create(&context).at(part, Call::Fsconfig).map_err(|fail| with_log(&context, fail))?;
    let part = part.wrapping_add(1);
    let attrs = u32::try_from(attrs).map_err(|_| Fail::new(part, Call::Fsmount, Errno::INVAL))?;
    let tree =
        sys::fsmount(&context, attrs).at(part, Call::Fsmount).map_err(|fail| with_log(&context, fail))?;
    w.fill(out, tree)
}

/// Part 0 finds the mount, part 1 is `fspick`, then the options, then `FSCONFIG_CMD_RECONFIGURE`.
#[inline(never)]
pub(crate) fn reconfigure(w: &mut Walk<'_>, target: Str, options: StrList) -> Result<(), Fail> {
    let base = w.root()?;
    let fd = path::existing(base, w.program.cstr(target)?, Links::Follow).at(0)?;
    let context = sys::fspick(&fd).at(1, Call::Fspick)?;
    let part = configure_all(w, &context, options, 2)?;
    fsconfig_reconfigure(&context).at(part, Call::Fsconfig).map_err(|fail| with_log(&context, fail))
}

/// move_mount(2) of a tree onto a descriptor. ENOENT means that the target was removed, never that it was absent.
pub(crate) fn move_onto(tree: i32, target: &Fd, part: u32) -> Result<(), Fail> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(sys::borrow(tree), c"", target, c"", flags).at(part, Call::MoveMount)
}

/// Attaches `tree`, whose mount has the id `id`, to `target`, which `path` was resolved to, and looks again where the path leads.
/// Parts `part` (`move_mount`) and `part + 1` (the look).
pub(crate) fn attach_checked(
    base: Base,
    path: &CStr,
    links: Links,
    (tree, id): (i32, u64),
    target: &Fd,
    part: u32,
) -> Result<(), Fail> {
    let next = part.wrapping_add(1);
    move_onto(tree, target, part).say(path::last(path.to_bytes()))?;
    let seen = path::existing(base, path, links).at(next)?;
    if path::mount_id(seen.raw()).at(next, Call::Stat)? == id {
        Ok(())
    } else {
        Err(Fail::new(next, Call::Compare, Errno::STALE).say(path::last(path.to_bytes())))
    }
}

/// Part 0 resolves the path, part 1 is `move_mount`.
pub(crate) fn attach_root(w: &mut Walk<'_>, tree: Slot, path: Str) -> Result<(), Fail> {
    let fd = w.slot(tree)?;
    let name = path::last(w.program.str(path)?);
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let target = sys::open(None, w.program.cstr(path)?, flags, Mode::empty(), ResolveFlags::empty())
        .at(0, Call::Open)
        .say(name)?;
    move_onto(fd, &target, 1).say(name)?;
    w.set_root(Some(fd));
    Ok(())
}

/// Part 0 looks at the tree, part 1 resolves and makes the target, part 2 checks what lies on procfs, part 3 is `fchmod`
/// (`ATTACH_TAKE_MODE`), part 4 `move_mount`, part 5 the look afterwards.
pub(crate) fn attach(w: &mut Walk<'_>, tree: Slot, target: Str, flags: u32) -> Result<(), Fail> {
    let tree = w.slot(tree)?;
    let name = w.program.str(target)?;
    let path = w.program.cstr(target)?;
    let base = w.root()?;
    let links = if flags & ATTACH_NO_LINKS != 0 {
        Links::Refuse
    } else if flags & ATTACH_NOFOLLOW != 0 {
        Links::NotLast
    } else {
        Links::Follow
    };
    let own = path::status(tree).at(0, Call::Stat)?;
    let id = path::id_of(&own).at(0, Call::Stat)?;
    let is_dir = FileType::from_raw_mode(own.stx_mode.into()) == FileType::Directory;
    let leaf = if is_dir { Leaf::Dir(path::DIR_MODE) } else { Leaf::File(FILE_MODE) };
    let mut existed = true;
    let fd = match path::existing(base, path, links) {
        // What procfs does not have cannot be made there either.
        Err(lost) if lost.errno == Errno::NOENT && !(flags & ATTACH_ON_PROC != 0 && beneath_top(name)) => {
            existed = false;
            path::create(base, path, leaf, links)
        }
        other => other,
    }
    .at(1)?;
    on_proc(w.proc, flags, name, tree, &own, &fd).say(path::last(name))?;
    if flags & ATTACH_TAKE_MODE != 0 && existed && is_dir {
        take_mode(tree, &fd)?;
    }
    attach_checked(base, path, links, (tree, id), &fd, 4)?;
    if below(name, b"proc") || below(name, b"sys") {
        w.planned.add(id);
    }
    if flags & ATTACH_ON_PROC != 0 && !beneath_top(name) {
        w.proc = Some(path::device(&own));
    }
    Ok(())
}

const FILE_MODE: Mode = Mode::from_bits_retain(0o644);

/// Whether a path has more than one name.
fn beneath_top(path: &[u8]) -> bool {
    path::names(path).nth(1).is_some()
}

/// Over `/proc` itself only the root of a procfs may stand; below it only what the plan allows there, over something that the procfs
/// really has. Any other target that turns out to lie on the container's `/proc` was led there by a link.
fn on_proc(
    proc: Option<(u32, u32)>,
    flags: u32,
    name: &[u8],
    tree: i32,
    own: &Statx,
    target: &Fd,
) -> Result<(), Fail> {
    const PROC_ROOT_INO: u64 = 1;
    let is_proc = |fd: i32| path::magic(fd).at(2, Call::Fstatfs).map(|magic| magic == PROC_MAGIC);
    let allowed = if flags & ATTACH_ON_PROC == 0 {
        proc.is_none() || proc != Some(path::device(&path::status(target.raw()).at(2, Call::Stat)?))
    } else if beneath_top(name) {
        is_proc(target.raw())?
    } else {
        own.stx_ino == PROC_ROOT_INO && is_proc(tree)?
    };
    if allowed { Ok(()) } else { Err(Fail::new(2, Call::Compare, Errno::XDEV)) }
}

fn take_mode(tree: i32, target: &Fd) -> Result<(), Fail> {
    let mode = path::status(target.raw()).at(3, Call::Stat)?.stx_mode;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let dir = sys::open(Some(tree), c".", flags, Mode::empty(), ResolveFlags::BENEATH).at(3, Call::Open)?;
    rustix::fs::fchmod(&dir, Mode::from_raw_mode(mode.into())).at(3, Call::Fchmod)
}

/// Part 0 resolves the path, part 1 looks whether a mount begins there, 2 `fchdir`, 3 `umount2`, 4 `fchdir` to the root again.
pub(crate) fn unmount_at(w: &mut Walk<'_>, target: Str) -> Result<(), Fail> {
    let name = path::last(w.program.str(target)?);
    let path = w.program.cstr(target)?;
    let base = w.root()?;
    let there = path::existing(base, path, Links::Refuse).at(0)?;
    let (dir, last) = path::parent(base, path, Links::Refuse).at(0)?;
    let id = |fd: &Fd| path::mount_id(fd.raw()).at(1, Call::Stat);
    if id(&there)? == id(&dir)? {
        return Err(Fail::new(1, Call::Compare, Errno::INVAL).say(name));
    }
    // It would be in use.
    drop(there);
    fchdir(sys::borrow(dir.raw())).at(2, Call::Chdir)?;
    let done = unmount(last, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).at(3, Call::Umount2).say(name);
    fchdir(sys::borrow(base.raw())).at(4, Call::Chdir)?;
    done
}

/// One directory directly below a detached tree, where nothing of that name is.
pub(crate) fn make_dir(w: &Walk<'_>, tree: Slot, name: Str, mode: u32) -> Result<(), Fail> {
    let text = w.program.str(name)?;
    if path::names(text).count() != 1 || matches!(text, b"..") || text.contains(&b'/') {
        return Err(Fail::new(0, Call::Mkdirat, Errno::INVAL).say(text));
    }
    let tree = sys::borrow(w.slot(tree)?);
    rustix::fs::mkdirat(tree, w.program.cstr(name)?, Mode::from_raw_mode(mode)).at(0, Call::Mkdirat).say(text)
}
