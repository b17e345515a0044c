//! The root directory with all containers, and one container's directory.
//!
//! Must not: follow a link, remove recursively (but for the directory that a container may write to), create anything for a command
//! that only looks. What changes a container's directory is in `lock.rs`. Tests: in `tests.rs`.

use super::lock::{Lock, exists, missing};
use super::record::{MAX_LEN, Record, quarantined};
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::id::ContainerId;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, fstatfs, mkdirat, open, openat, statat, unlinkat,
};
use rustix::io::{Errno, read};
use rustix::process::geteuid;
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

pub(super) const RECORD: &str = "record";
pub(super) const RECORD_NEW: &str = "record.new";
pub(super) const FILTER: &str = "filter";
/// Every name that belongs in a container's directory; the record goes last.
pub(super) const FILES: &[&str] = &[crate::launch::gate::NAME, FILTER, RECORD_NEW, RECORD];

/// The largest compiled filter that is read, in bytes.
const MAX_FILTER: u64 = 1 << 20;
/// How long a new directory's lock may be held by somebody who only looked at it.
const LOOKER: Duration = Duration::from_secs(2);
const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const PRIVATE: Mode = Mode::RWXU;
const STICKY: u32 = 0o1000;

/// The root directory: opened once, checked, and used by its descriptor.
///
/// Holding one proves: there was no root directory, or it is a directory of ours that nobody else can write to.
#[derive(Clone, Debug)]
pub(crate) struct Store(Option<Arc<Root>>);

#[derive(Debug)]
struct Root {
    path: PathBuf,
    fd: OwnedFd,
    /// The number of this boot, once somebody asked.
    boot: OnceLock<String>,
}

impl Store {
    /// Opens the root directory. With `create` it is made when it is missing, with its parents, mode 0700; without, a missing one
    /// is a store without containers.
    ///
    /// # Errors
    /// [`ErrorKind::State`] when it belongs to somebody else or others may write to it; [`ErrorKind::Io`] when it cannot be opened:
    /// ENOTDIR, ELOOP (its last component is a link), EACCES.
    pub(crate) fn open(root: &Path, create: bool) -> Result<Self> {
        // A trailing slash would make the kernel follow a link.
        let path: PathBuf = root.components().collect();
        let fail = |e: Errno| {
            Error::os("open the state directory", e).with_path(path.clone()).in_phase(Phase::State)
        };
        let fd = match open(&path, DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT) if create => {
                make_all(&path).map_err(fail)?;
                open(&path, DIRECTORY, Mode::empty()).map_err(fail)?
            }
            Err(Errno::NOENT) => return Ok(Self(None)),
            done => done.map_err(fail)?,
        };
        check_root(&fstat(&fd).map_err(fail)?).map_err(|e| e.with_path(path.clone()))?;
        Ok(Self(Some(Arc::new(Root { path, fd, boot: OnceLock::new() }))))
    }

    /// Makes a new container's directory and locks it. The caller removes it ([`Lock::remove`]) when it fails later.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`]; [`ErrorKind::Io`] with the kernel's reason; [`ErrorKind::Usage`] when the store was opened without a
    /// root directory or the umask takes permissions from the owner.
    pub(crate) fn create(&self, id: &ContainerId) -> Result<Lock> {
        let Some(root) = &self.0 else {
            return Err(Error::new(
                ErrorKind::Usage,
                "make the container's directory: the store was opened to read",
            ));
        };
        let fail = |e: Errno| root.os("make the container's directory", id, e);
        match mkdirat(&root.fd, id.as_str(), PRIVATE) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(exists(id)),
            Err(e) => return Err(fail(e)),
        }
        let made = root.open_dir(id).map_err(fail).and_then(|(dir, stat)| {
            if stat.st_mode & 0o777 != PRIVATE.bits() {
                let text = "make the container's directory: the umask takes permissions from its owner";
                return Err(Error::new(ErrorKind::Usage, text).with_code("umask").in_phase(Phase::State));
            }
            Lock::take(&dir, Instant::now() + LOOKER)
        });
        if made.is_err() {
            // Empty or gone. Somebody who took it over meanwhile sees that it is not the one that was locked.
            let _ = unlinkat(&root.fd, id.as_str(), AtFlags::REMOVEDIR);
        }
        made
    }

    /// Opens an existing container's directory.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::State`] when what has the name is no directory of ours; [`ErrorKind::Io`].
    pub(crate) fn find(&self, id: &ContainerId) -> Result<ContainerDir> {
        let Some(root) = &self.0 else { return Err(missing()) };
        let foreign = |why| {
            Error::new(ErrorKind::State, format!("open the container's directory: it {why}"))
                .with_path(root.path.join(id.as_str()))
                .with_code("container-foreign")
                .in_phase(Phase::State)
        };
        match root.open_dir(id) {
            Ok((_, stat)) if stat.st_uid != geteuid().as_raw() => Err(foreign("belongs to another user")),
            Ok((dir, _)) => Ok(dir),
            Err(Errno::NOENT) => Err(missing()),
            Err(Errno::NOTDIR | Errno::LOOP) => Err(foreign("is no directory")),
            Err(e) => Err(root.os("open the container's directory", id, e)),
        }
    }

    /// The names of all directories that can be containers, sorted. One may be gone, half made or foreign when it is opened.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the root directory cannot be read.
    pub(crate) fn list(&self) -> Result<Vec<ContainerId>> {
        let Some(root) = &self.0 else { return Ok(Vec::new()) };
        let fail = |e: Errno| {
            Error::os("list the state directory", e).with_path(root.path.clone()).in_phase(Phase::State)
        };
        let mut ids = Vec::new();
        for entry in Dir::read_from(&root.fd).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let Some(id) = entry.file_name().to_str().ok().and_then(|n| n.parse::<ContainerId>().ok()) else {
                continue;
            };
            let kind = match entry.file_type() {
                FileType::Unknown => match statat(&root.fd, id.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                    // Removed since.
                    Err(Errno::NOENT) => continue,
                    Err(e) => return Err(fail(e)),
                },
                known => known,
            };
            if kind == FileType::Directory {
                ids.push(id);
            }
        }
        ids.sort();
        Ok(ids)
    }
}

impl Root {
    fn open_dir(self: &Arc<Self>, id: &ContainerId) -> Result<(ContainerDir, Stat), Errno> {
        let fd = openat(&self.fd, id.as_str(), DIRECTORY, Mode::empty())?;
        let stat = fstat(&fd)?;
        Ok((ContainerDir(Arc::new(Place { root: Arc::clone(self), id: id.clone(), fd })), stat))
    }

    fn os(&self, message: &'static str, id: &ContainerId, errno: Errno) -> Error {
        Error::os(message, errno).with_path(self.path.join(id.as_str())).in_phase(Phase::State)
    }

    fn boot(&self) -> Result<&str> {
        if let Some(known) = self.boot.get() {
            return Ok(known);
        }
        let boot = current_boot()?;
        Ok(self.boot.get_or_init(|| boot))
    }
}

/// The rule for the root directory: ours, and nobody else can put anything in our way there.
fn check_root(stat: &Stat) -> Result<()> {
    let why = if stat.st_uid != geteuid().as_raw() {
        "it belongs to another user"
    } else if stat.st_mode & 0o022 != 0 && stat.st_mode & STICKY == 0 {
        "others may write to it"
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::State, format!("open the state directory: {why}"))
        .with_hint("give it to the user that runs coracle, mode 0700, or choose another with --root")
        .with_code("root-unsafe")
        .in_phase(Phase::State))
}

fn make_all(path: &Path) -> Result<(), Errno> {
    let missing: Vec<&Path> =
        path.ancestors().take_while(|p| !p.as_os_str().is_empty() && !p.exists()).collect();
    for directory in missing.into_iter().rev() {
        match mkdirat(CWD, directory, PRIVATE) {
            // Another command was first; what it made is checked like any other.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Whether the file system does not outlive a boot.
fn in_memory(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    let magic = u64::try_from(fstatfs(fd)?.f_type);
    Ok(matches!(magic, Ok(TMPFS | RAMFS)))
}

/// The number of this boot.
fn current_boot() -> Result<String> {
    const FILE: &str = "/proc/sys/kernel/random/boot_id";
    let fail = |e: Errno| Error::os("read the boot id", e).with_path(FILE).in_phase(Phase::State);
    let fd = open(FILE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(fail)?;
    let mut text = [0_u8; 64];
    let n = read(&fd, &mut text).map_err(fail)?;
    let text = text.get(..n).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default();
    Ok(text.trim_end().to_owned())
}

/// All names in a directory.
pub(super) fn read_names(fd: BorrowedFd<'_>) -> Result<Vec<OsString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(fd)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(OsString::from_vec(name));
        }
    }
    Ok(names)
}

/// One container's directory, open.
///
/// Holding one proves: it was a directory of ours below the root when it was opened. It may have been removed since.
#[derive(Clone, Debug)]
pub(crate) struct ContainerDir(Arc<Place>);

#[derive(Debug)]
struct Place {
    root: Arc<Root>,
    id: ContainerId,
    fd: OwnedFd,
}

impl ContainerDir {
    /// The container's name.
    pub(crate) fn id(&self) -> &ContainerId {
        &self.0.id
    }

    /// Where it is, for messages.
    pub(crate) fn path(&self) -> PathBuf {
        self.0.root.path.join(self.0.id.as_str())
    }

    /// Locks it, waiting until `deadline` at most.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] at the deadline; [`ErrorKind::NotFound`] when the container was removed meanwhile.
    pub(crate) fn lock(&self, deadline: Instant) -> Result<Lock> {
        Lock::take(self, deadline)
    }

    /// Whether some command holds the lock now.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when the container was removed; [`ErrorKind::Io`].
    pub(crate) fn is_locked(&self) -> Result<bool> {
        Lock::is_held(self)
    }

    /// Whether the name leads to this directory no longer.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the kernel cannot be asked.
    pub(crate) fn is_removed(&self) -> Result<bool> {
        let fail = |e: Errno| self.os("look at the container's directory", e);
        let there = match statat(self.root(), self.id().as_str(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(true),
            Err(e) => return Err(fail(e)),
        };
        let here = fstat(&self.0.fd).map_err(fail)?;
        Ok((there.st_dev, there.st_ino) != (here.st_dev, here.st_ino))
    }

    /// The record; `None` when none was written: its creator is about to, or was killed before.
    ///
    /// When the machine was booted since, it comes without the init process, its namespaces and cgroup: numbers and names that
    /// belong to somebody else by now.
    ///
    /// # Errors
    /// [`ErrorKind::State`], code `record-quarantined`, when it cannot be used; [`ErrorKind::Io`] when it cannot be read.
    pub(crate) fn read_record(&self) -> Result<Option<Record>> {
        let bytes = match self.read_file(RECORD, MAX_LEN) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(None),
            Err(e) => return Err(e.with_path(self.path().join(RECORD))),
        };
        let mut record =
            Record::decode(&bytes, self.id()).map_err(|e| e.with_path(self.path().join(RECORD)))?;
        let earlier = match &record.boot {
            Some(boot) => boot != self.0.root.boot()?,
            None => false,
        };
        if earlier {
            (record.init, record.cgroup) = (None, None);
            record.namespaces.clear();
        }
        Ok(Some(record))
    }

    /// The compiled system call filter; `None` without one.
    ///
    /// # Errors
    /// [`ErrorKind::State`] when it is no list of filter instructions; [`ErrorKind::Io`] when it cannot be read.
    pub(crate) fn read_filter(&self) -> Result<Option<Vec<u8>>> {
        let read = self.read_file(FILTER, MAX_FILTER).and_then(|bytes| match bytes {
            // struct sock_filter has 8 bytes.
            Some(bytes) if bytes.is_empty() || bytes.len() % 8 != 0 => {
                Err(quarantined("its filter is cut off"))
            }
            whole => Ok(whole),
        });
        read.map_err(|e| e.with_path(self.path().join(FILTER)))
    }

    fn read_file(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>> {
        let fail = |e: Errno| Error::os(format!("read the container's {name}"), e).in_phase(Phase::State);
        // O_NONBLOCK: should a fifo lie there, it must not hold us up.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = match openat(&self.0.fd, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP | Errno::NXIO) => return Err(quarantined(&format!("{name} is no file"))),
            Err(e) => return Err(fail(e)),
        };
        let stat = fstat(&fd).map_err(fail)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(quarantined(&format!("{name} is no file")));
        }
        let length = u64::try_from(stat.st_size).ok().filter(|n| *n <= limit);
        let Some(length) = length.and_then(|n| usize::try_from(n).ok()) else {
            return Err(quarantined(&format!("{name} is too large")));
        };
        // Complete files are renamed into place or made once: what comes after their size is not theirs.
        let mut bytes = vec![0_u8; length];
        let mut have = 0;
        while let Some(rest) = bytes.get_mut(have..).filter(|rest| !rest.is_empty()) {
            match read(&fd, rest) {
                Ok(0) => return Err(quarantined(&format!("{name} is cut off"))),
                Ok(n) => have = have.saturating_add(n),
                Err(Errno::INTR) => {}
                Err(e) => return Err(fail(e)),
            }
        }
        Ok(Some(bytes))
    }

    /// A fresh open of the same directory: a lock belongs to an open, not to a process.
    pub(super) fn open_again(&self) -> Result<OwnedFd, Errno> {
        openat(&self.0.fd, ".", DIRECTORY, Mode::empty())
    }

    /// The root directory.
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.0.root.fd.as_fd()
    }

    pub(super) fn os(&self, message: &'static str, errno: Errno) -> Error {
        // Everything here is done in or on the open directory: without it there is no container.
        if errno == Errno::NOENT { missing() } else { self.0.root.os(message, &self.0.id, errno) }
    }

    /// Whether the directory does not outlive a boot.
    pub(super) fn in_memory(&self) -> Result<bool> {
        in_memory(self.root()).map_err(|e| self.os("look at the state directory", e))
    }

    /// What a new record says about the boot: nothing on a memory file system, which no boot survives.
    pub(super) fn boot(&self) -> Result<Option<String>> {
        if self.in_memory()? { Ok(None) } else { self.0.root.boot().map(|boot| Some(boot.to_owned())) }
    }
}

impl AsFd for ContainerDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }
}
