//! An open cgroup directory and what can be done through it.
//!
//! Every name is opened beneath an open directory, without symlinks, without magic links, without crossing mounts;
//! descriptors are close-on-exec and none ever reaches a container (the kernel checks writes with the opener's
//! credentials since 5.16).
//! Must not: know what files mean. Tests: through `group`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, ResolveFlags, XattrFlags, chownat, fgetxattr, fsetxattr, fstat, fstatfs,
    mkdirat, openat, openat2, statat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::Uid;
use serde::{Deserialize, Serialize};

use super::error::{CgroupError, Result};
use super::layout::{Version, magic};
use super::path::CgroupPath;

const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// Extended attributes of users are kept in memory, for as long as the directory is there (5.7).
const MARK: &str = "user.coracle";
/// openat2 answers EAGAIN when something was renamed meanwhile; cgroup directories rarely are.
const TRIES: usize = 16;

/// What tells one directory from every other of this boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) device: u64,
    pub(super) inode: u64,
}

/// An open directory; `path` is for error texts only.
#[derive(Debug)]
pub(super) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Dir {
    /// Opens a mount point and checks that it is what it should be.
    pub(super) fn mount(path: &str, version: Version) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = openat(CWD, path, flags, Mode::empty())
            .map_err(|errno| CgroupError::call("open", path, errno))?;
        let fs = fstatfs(&fd).map_err(|errno| CgroupError::call("statfs", path, errno))?;
        if !u64::try_from(fs.f_type).is_ok_and(|kind| kind == magic(version)) {
            return Err(CgroupError::check(
                path,
                "no cgroup file system of the recorded version is mounted here",
            ));
        }
        Ok(Self { fd, path: PathBuf::from(path) })
    }

    /// Opens a directory below this one; an empty path is this one again.
    pub(super) fn below(&self, path: &CgroupPath) -> Result<Self> {
        self.sub(if path.is_root() { "." } else { path.as_str() })
    }

    /// Opens the directory `name`.
    pub(super) fn sub(&self, name: &str) -> Result<Self> {
        let path = if name == "." { self.path.clone() } else { self.path.join(name) };
        let fd = open_beneath(&self.fd, name, DIRECTORY)
            .map_err(|errno| CgroupError::call("openat2", &path, errno))?;
        Ok(Self { fd, path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn identity(&self) -> Result<Identity> {
        let stat = fstat(&self.fd).map_err(|errno| CgroupError::call("fstat", &self.path, errno))?;
        Ok(Identity { device: stat.st_dev, inode: stat.st_ino })
    }

    /// The identity of a directory in this one; none if there is none.
    pub(super) fn identity_of(&self, name: &str) -> Result<Option<Identity>> {
        match statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Identity { device: stat.st_dev, inode: stat.st_ino })),
            Err(Errno::NOENT | Errno::NODEV) => Ok(None),
            Err(errno) => Err(CgroupError::call("fstatat", self.path.join(name), errno)),
        }
    }

    pub(super) fn make(&self, name: &str) -> Result<()> {
        mkdirat(&self.fd, name, Mode::from_raw_mode(0o755))
            .map_err(|errno| CgroupError::call("mkdirat", self.path.join(name), errno))
    }

    pub(super) fn remove(&self, name: &str) -> Result<()> {
        unlinkat(&self.fd, name, AtFlags::REMOVEDIR)
            .map_err(|errno| CgroupError::call("rmdir", self.path.join(name), errno))
    }

    /// Removes this directory, if `name` is still its own, without opening anything.
    pub(super) fn remove_itself(&self, name: &str) -> Result<()> {
        let path = format!("../{name}");
        if self.identity_of(&path)? != Some(self.identity()?) {
            return Ok(());
        }
        self.remove(&path)
    }

    /// Leaves a word on the directory. A kernel that keeps none leaves it unmarked, which only means less: see `group`.
    pub(super) fn mark(&self, mark: &str) -> Result<()> {
        match fsetxattr(&self.fd, MARK, mark.as_bytes(), XattrFlags::CREATE) {
            Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
            Err(errno) => Err(CgroupError::call("fsetxattr", &self.path, errno)),
        }
    }

    /// Whether this word was left on it.
    pub(super) fn is_marked(&self, mark: &str) -> bool {
        let mut found = [0; 64];
        let length = fgetxattr(&self.fd, MARK, &mut found);
        length.is_ok_and(|length| found.get(..length) == Some(mark.as_bytes()))
    }

    /// Gives a file of this directory, or with `.` itself, to a user.
    pub(super) fn give(&self, name: &str, owner: u32) -> Result<()> {
        let fd = open_beneath(&self.fd, name, OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW)
            .map_err(|errno| CgroupError::call("open", self.path.join(name), errno))?;
        chownat(&fd, "", Some(Uid::from_raw(owner)), None, AtFlags::EMPTY_PATH)
            .map_err(|errno| CgroupError::call("chown", self.path.join(name), errno))
    }

    /// Opens a file of this directory.
    pub(super) fn file(&self, name: &str, flags: OFlags) -> Result<OwnedFd> {
        open_beneath(&self.fd, name, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW)
            .map_err(|errno| CgroupError::call("open", self.path.join(name), errno))
    }

    /// Reads a whole file.
    pub(super) fn read(&self, name: &str) -> Result<String> {
        let fd = self.file(name, OFlags::RDONLY)?;
        self.read_open(name, &fd)
    }

    /// Reads a whole file from its start.
    pub(super) fn read_open(&self, name: &str, fd: &OwnedFd) -> Result<String> {
        let mut text = Vec::new();
        let mut part = [0u8; 4096];
        loop {
            let at = u64::try_from(text.len()).unwrap_or(u64::MAX);
            match rustix::io::pread(fd, &mut part, at) {
                Ok(0) => break,
                Ok(count) => text.extend_from_slice(part.get(..count).unwrap_or_default()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(CgroupError::call("read", self.path.join(name), errno)),
            }
        }
        String::from_utf8(text).map_err(|_| CgroupError::check(self.path.join(name), "the file is not text"))
    }

    /// Writes a value in one call, as the kernel's files want it.
    pub(super) fn write(&self, name: &str, value: &str) -> Result<()> {
        let fd = self.file(name, OFlags::WRONLY)?;
        self.write_open(name, &fd, value)
    }

    pub(super) fn write_open(&self, name: &str, fd: &OwnedFd, value: &str) -> Result<()> {
        let fail =
            |errno| CgroupError::call("write", self.path.join(name), errno).note(format!("value {value:?}"));
        loop {
            return match rustix::io::write(fd, value.as_bytes()) {
                Ok(count) if count == value.len() => Ok(()),
                Ok(_) => Err(fail(Errno::IO)),
                Err(Errno::INTR) => continue,
                Err(errno) => Err(fail(errno)),
            };
        }
    }

    /// Names of the directories in this one.
    pub(super) fn children(&self) -> Result<Vec<String>> {
        self.names(true)
    }

    /// Names of the files in this one.
    pub(super) fn files(&self) -> Result<Vec<String>> {
        self.names(false)
    }

    fn names(&self, directories: bool) -> Result<Vec<String>> {
        let fail = |errno| CgroupError::call("getdents", &self.path, errno);
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(fail)? {
            let entry = match entry {
                Ok(entry) => entry,
                Err(errno) if errno == Errno::NOENT => break,
                Err(errno) => return Err(fail(errno)),
            };
            if (entry.file_type() == rustix::fs::FileType::Directory) != directories {
                continue;
            }
            // The kernel accepts any bytes in a name; one that is not text cannot be ours, but must not be skipped.
            let name = entry.file_name().to_str().map_err(|_| {
                CgroupError::check(&self.path, "a directory in it has a name that is not text")
            })?;
            if !matches!(name, "." | "..") {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// The value of a file of `key value` lines.
    pub(super) fn read_key(&self, name: &str, key: &str) -> Result<Option<u64>> {
        Ok(key_of(&self.read(name)?, key))
    }
}

/// The number after `key` in `key value` lines.
pub(super) fn key_of(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

fn open_beneath(dir: &OwnedFd, name: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let mut result = Err(Errno::AGAIN);
    for _ in 0..TRIES {
        result = openat2(dir, name, flags, Mode::empty(), BENEATH);
        if !matches!(result, Err(Errno::AGAIN | Errno::INTR)) {
            break;
        }
    }
    result
}
