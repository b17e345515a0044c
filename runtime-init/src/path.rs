//! Container paths: opened below a root descriptor, once, with creation of what is missing.
//!
//! The fast way is one `openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)`. It does not create, so a missing component starts a
//! walk of our own: one component at a time by `openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)` relative to the directory
//! reached so far, links read and followed by hand (at most 40), `..` at the root is the root. Dangling links are followed
//! inside the root and what they name is made there, as runc does. Whatever is renamed meanwhile, every single step stays below
//! the root.
//!
//! An `O_PATH` descriptor pins an inode, not a place: who mounts on one looks afterwards whether the path leads there.
//!
//! Must not: take a host path, follow a magic link, open anything for reading or writing. Tests: `path/tests.rs`,
//! against pathrs.

use core::ffi::CStr;

use rustix::fs::{self, FileType, Mode, OFlags, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;

use crate::buf::{Buf, Full};
use crate::report::Fail;
use crate::sys::{self, Fd};
use crate::wire::Call;

/// A directory that paths are resolved below: the container's root, or the top of a detached tree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Base(i32);

impl Base {
    pub(crate) fn new(fd: i32) -> Self {
        Self(fd)
    }

    pub(crate) fn raw(self) -> i32 {
        self.0
    }
}

/// How links are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    /// All are followed, inside the root.
    Follow,
    /// The last component is not followed: a link there is what is opened.
    NotLast,
    /// None may occur (ELOOP).
    Refuse,
}

/// What is made when the last component is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leaf {
    /// A directory with this mode.
    Dir(Mode),
    /// An empty regular file with this mode.
    File(Mode),
}

/// EAGAIN means `..` while something was renamed or mounted anywhere; an attacker can cause it at will, so there is an end.
const RETRIES: u32 = 1024;
/// Links in one path, as in the kernel.
const MAX_LINKS: u32 = 40;
/// A name that vanishes between its making and its opening.
const RACES: u32 = 16;
/// PATH_MAX of the kernel.
pub(crate) const PATH: usize = 4096;
/// NAME_MAX and the NUL.
const NAME: usize = 256;
/// `f_type` of procfs.
pub(crate) const PROC_MAGIC: u64 = 0x9fa0;

/// Why a path could not be opened: the call, its error and, when one is known, the component.
#[derive(Debug)]
pub(crate) struct Lost {
    fail: Fail,
    pub(crate) errno: Errno,
}

impl Lost {
    fn new(call: Call, errno: Errno, name: &[u8]) -> Self {
        Self { fail: Fail::new(0, call, errno).say(name), errno }
    }

    fn long(name: &[u8]) -> Self {
        Self::new(Call::Openat2, Errno::NAMETOOLONG, name)
    }

    /// The failure of part `part`.
    pub(crate) fn at(&self, part: u32) -> Fail {
        Fail { part, ..self.fail }
    }
}

/// Turns a lost path into a step's failure.
pub(crate) trait AtPath<T> {
    /// The path was part number `part` of its step.
    fn at(self, part: u32) -> Result<T, Fail>;
}

impl<T> AtPath<T> for Result<T, Lost> {
    fn at(self, part: u32) -> Result<T, Fail> {
        self.map_err(|lost| lost.at(part))
    }
}

/// openat2 with bounded retries.
fn open2(dir: i32, path: &CStr, flags: OFlags, resolve: ResolveFlags) -> Result<Fd, Errno> {
    let mut tries = 0;
    loop {
        match sys::open(Some(dir), path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) if tries < RETRIES => tries = u32::wrapping_add(tries, 1),
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// The last component of a path, for messages.
pub(crate) fn last(path: &[u8]) -> &[u8] {
    let trimmed = trim_end(path);
    trimmed.rsplit(|b| *b == b'/').next().unwrap_or(trimmed)
}

fn trim_end(path: &[u8]) -> &[u8] {
    let mut path = path;
    while let [rest @ .., b'/'] = path {
        path = rest;
    }
    path
}

/// Opens what is there, `O_PATH`; makes nothing.
///
/// # Errors
/// ELOOP for magic links and refused links, EAGAIN when somebody renames all the time, else as open(2).
pub(crate) fn existing(base: Base, path: &CStr, links: Links) -> Result<Fd, Lost> {
    let mut resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut flags = OFlags::PATH;
    match links {
        Links::Follow => {}
        Links::NotLast => flags |= OFlags::NOFOLLOW,
        Links::Refuse => resolve |= ResolveFlags::NO_SYMLINKS,
    }
    open2(base.0, path, flags, resolve)
        .map_err(|errno| Lost::new(Call::Openat2, errno, last(path.to_bytes())))
}

/// Opens what is there, or makes it and every directory (0755) on the way.
///
/// The mode of what is made is exact when the umask is 0. What somebody else makes meanwhile is used only if it is of the kind that
/// was wanted.
pub(crate) fn create(base: Base, path: &CStr, leaf: Leaf, links: Links) -> Result<Fd, Lost> {
    match existing(base, path, links) {
        Err(lost) if lost.errno == Errno::NOENT => Walker::new(base, path, links)?.create(leaf),
        other => other,
    }
}

/// The directory that holds the last component of `path`, made when missing, and that component.
pub(crate) fn parent(base: Base, path: &CStr, links: Links) -> Result<(Fd, &CStr), Lost> {
    let bytes = path.to_bytes();
    let name = bytes.rsplit(|b| *b == b'/').next().unwrap_or(bytes);
    if matches!(name, b"" | b"." | b"..") {
        return Err(Lost::new(Call::Openat2, Errno::INVAL, last(bytes)));
    }
    let cut = bytes.len().wrapping_sub(name.len());
    let mut dir = Buf::<PATH>::new();
    let head = bytes.get(..cut).unwrap_or(&[]);
    dir.push(if head.is_empty() { b"/" } else { head }).map_err(|Full| Lost::long(name))?;
    // The name ends where the path ends, so it has the path's NUL.
    let name = path.to_bytes_with_nul().get(cut..).and_then(|n| CStr::from_bytes_with_nul(n).ok());
    let name = name.ok_or_else(|| Lost::long(b""))?;
    let links = if links == Links::NotLast { Links::Follow } else { links };
    Ok((create(base, dir.cstr(), Leaf::Dir(DIR_MODE), links)?, name))
}

/// Mode of directories on the way.
pub(crate) const DIR_MODE: Mode = Mode::from_bits_retain(0o755);

/// Opens one name directly in a directory, a link as itself.
pub(crate) fn child(dir: i32, name: &CStr) -> Result<Fd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW;
    open2(dir, name, flags, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV)
}

/// What kind of file a descriptor is.
pub(crate) fn kind(fd: i32) -> Result<FileType, Errno> {
    status(fd).map(|st| FileType::from_raw_mode(st.stx_mode.into()))
}

/// statx of the descriptor itself.
pub(crate) fn status(fd: i32) -> Result<Statx, Errno> {
    sys::statx(fd, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID)
}

/// The mount that a descriptor was reached through.
pub(crate) fn mount_id(fd: i32) -> Result<u64, Errno> {
    status(fd).and_then(|st| id_of(&st))
}

/// The mount in an answer of [`status`] (STATX_MNT_ID, Linux 5.8).
pub(crate) fn id_of(st: &Statx) -> Result<u64, Errno> {
    if StatxFlags::from_bits_retain(st.stx_mask).contains(StatxFlags::MNT_ID) {
        Ok(st.stx_mnt_id)
    } else {
        Err(Errno::NOSYS)
    }
}

/// Major and minor number of the file system in an answer of [`status`].
pub(crate) fn device(st: &Statx) -> (u32, u32) {
    (st.stx_dev_major, st.stx_dev_minor)
}

/// Whether neither the mount nor the file system that a descriptor lies on is read-only.
pub(crate) fn is_writable(fd: i32) -> Result<bool, Errno> {
    const ST_RDONLY: u64 = 1;
    let st = fs::fstatfs(sys::borrow(fd))?;
    Ok(u64::from_ne_bytes(st.f_flags.to_ne_bytes()) & ST_RDONLY == 0)
}

/// `f_type` of the file system that a descriptor lies on.
pub(crate) fn magic(fd: i32) -> Result<u64, Errno> {
    let st = fs::fstatfs(sys::borrow(fd))?;
    Ok(u64::from_ne_bytes(st.f_type.to_ne_bytes()))
}

/// The names of a path, without empty ones and `.`.
pub(crate) fn names(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|b| *b == b'/').filter(|name| !matches!(*name, b"" | b"."))
}

/// The creating walk.
struct Walker {
    base: Base,
    links: Links,
    /// Directory reached so far; `None` is the base itself.
    dir: Option<Fd>,
    /// Its path below the base, free of links and dots: what `..` shortens.
    done: Buf<PATH>,
    /// What is left to walk; link targets are put in front.
    rest: Buf<PATH>,
    followed: u32,
}

impl Walker {
    fn new(base: Base, path: &CStr, links: Links) -> Result<Self, Lost> {
        let mut rest = Buf::new();
        let bytes = path.to_bytes();
        rest.push(bytes).map_err(|Full| Lost::long(last(bytes)))?;
        if bytes.is_empty() {
            return Err(Lost::new(Call::Openat2, Errno::NOENT, b""));
        }
        Ok(Self { base, links, dir: None, done: Buf::new(), rest, followed: 0 })
    }

    fn raw(&self) -> i32 {
        self.dir.as_ref().map_or(self.base.0, Fd::raw)
    }

    /// Takes the next name off `rest`; with it, whether it was the last one. Slashes at the end ask for a directory.
    fn next(&mut self) -> Result<Option<(Buf<NAME>, bool)>, Lost> {
        loop {
            let bytes = self.rest.bytes();
            if bytes.is_empty() {
                return Ok(None);
            }
            let len = bytes.iter().position(|b| *b == b'/').unwrap_or(bytes.len());
            let mut name = Buf::<NAME>::new();
            let part = bytes.get(..len).unwrap_or(&[]);
            name.push(part).map_err(|Full| Lost::long(&[]))?;
            self.rest.drop_front(len.wrapping_add(1));
            if !matches!(name.bytes(), b"" | b".") {
                let is_last = names(self.rest.bytes()).next().is_none();
                return Ok(Some((name, is_last)));
            }
        }
    }

    fn create(mut self, leaf: Leaf) -> Result<Fd, Lost> {
        while let Some((name, is_last)) = self.next()? {
            if name.bytes() == b".." {
                self.up()?;
                continue;
            }
            let want = if is_last { leaf } else { Leaf::Dir(DIR_MODE) };
            let fd = self.open_or_make(&name, want)?;
            let kind = kind(fd.raw()).map_err(|errno| Lost::new(Call::Stat, errno, name.bytes()))?;
            match kind {
                FileType::Directory => {
                    self.enter(fd, &name)?;
                }
                FileType::Symlink if is_last && self.links == Links::NotLast => return Ok(fd),
                FileType::Symlink if self.links == Links::Refuse => {
                    return Err(Lost::new(Call::Openat2, Errno::LOOP, name.bytes()));
                }
                FileType::Symlink => self.follow(&fd, &name)?,
                _ if is_last => return Ok(fd),
                _ => return Err(Lost::new(Call::Openat2, Errno::NOTDIR, name.bytes())),
            }
        }
        match self.dir {
            Some(fd) => Ok(fd),
            None => existing(self.base, c".", Links::Follow),
        }
    }

    fn enter(&mut self, fd: Fd, name: &Buf<NAME>) -> Result<(), Lost> {
        let before = self.done.bytes().len();
        let pushed = self.done.push(b"/").and_then(|()| self.done.push(name.bytes()));
        if pushed.is_err() {
            self.done.truncate(before);
            return Err(Lost::long(name.bytes()));
        }
        self.dir = Some(fd);
        Ok(())
    }

    /// `..`: the directory above by its name, which the kernel walks again from the base without following anything.
    fn up(&mut self) -> Result<(), Lost> {
        let cut = self.done.bytes().iter().rposition(|b| *b == b'/').unwrap_or(0);
        self.done.truncate(cut);
        let Some(path) = self.done.bytes().strip_prefix(b"/") else {
            self.dir = None;
            return Ok(());
        };
        let mut relative = Buf::<PATH>::new();
        relative.push(path).map_err(|Full| Lost::long(last(path)))?;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let fd = open2(self.base.0, relative.cstr(), OFlags::PATH | OFlags::DIRECTORY, resolve)
            .map_err(|errno| Lost::new(Call::Openat2, errno, last(path)))?;
        self.dir = Some(fd);
        Ok(())
    }

    fn follow(&mut self, link: &Fd, name: &Buf<NAME>) -> Result<(), Lost> {
        self.followed = self.followed.wrapping_add(1);
        if self.followed > MAX_LINKS {
            return Err(Lost::new(Call::Openat2, Errno::LOOP, name.bytes()));
        }
        // On procfs a link's text may be a lie (magic links); only what the kernel itself follows without magic is believed.
        if magic(link.raw()).map_err(|errno| Lost::new(Call::Fstatfs, errno, name.bytes()))? == PROC_MAGIC {
            open2(self.raw(), name.cstr(), OFlags::PATH, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
                .map_err(|errno| Lost::new(Call::Openat2, errno, name.bytes()))?;
        }
        let mut target = [0_u8; PATH];
        let len = fs::readlinkat_raw(sys::borrow(link.raw()), c"", &mut target[..])
            .map_err(|errno| Lost::new(Call::Readlinkat, errno, name.bytes()))?;
        let target = target.get(..len).unwrap_or(&[]);
        if target.is_empty() {
            return Err(Lost::new(Call::Readlinkat, Errno::NOENT, name.bytes()));
        }
        if target.first() == Some(&b'/') {
            self.dir = None;
            self.done.truncate(0);
        }
        let full = |Full| Lost::long(name.bytes());
        if !self.rest.bytes().is_empty() {
            self.rest.push_front(b"/").map_err(full)?;
        }
        self.rest.push_front(target).map_err(full)
    }

    fn open_or_make(&self, name: &Buf<NAME>, want: Leaf) -> Result<Fd, Lost> {
        let lost = |call, errno| Lost::new(call, errno, name.bytes());
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let mut tries = 0;
        loop {
            match open2(self.raw(), name.cstr(), flags, resolve) {
                Err(Errno::NOENT) if tries < RACES => {}
                other => return other.map_err(|errno| lost(Call::Openat2, errno)),
            }
            tries = u32::wrapping_add(tries, 1);
            let dir = sys::borrow(self.raw());
            let (made, call, kind) = match want {
                Leaf::Dir(mode) => (fs::mkdirat(dir, name.cstr(), mode), Call::Mkdirat, FileType::Directory),
                Leaf::File(mode) => {
                    let kind = FileType::RegularFile;
                    (fs::mknodat(dir, name.cstr(), kind, mode, 0), Call::Mknodat, kind)
                }
            };
            match made {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(lost(call, errno)),
            }
            // Ours, or somebody else's who was faster: used only if it is what we would have made.
            match open2(self.raw(), name.cstr(), flags, resolve) {
                Ok(fd) if self::kind(fd.raw()) == Ok(kind) => return Ok(fd),
                Ok(_) => return Err(lost(call, Errno::EXIST)),
                Err(Errno::NOENT) if tries < RACES => {}
                Err(errno) => return Err(lost(Call::Openat2, errno)),
            }
        }
    }
}

/// Whether a failure says that there is nothing at the path.
pub(crate) fn is_absent(lost: &Lost) -> bool {
    // ENOTDIR: a component on the way is a file, so nothing can be below it.
    matches!(lost.errno, Errno::NOENT | Errno::NOTDIR)
}

#[cfg(test)]
mod tests;
