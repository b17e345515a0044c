//! The lock of one container, and everything that only its holder may do to the container's directory.
//!
//! flock(2) on the directory itself: no file of its own, and it dies with its holder. Each lock is taken on a fresh open of the
//! directory, so that two threads of one host exclude each other as two processes do.
//!
//! Must not: be needed by what only looks or signals (`state`, `list`, `ps`, `kill`, `exec`). Tests: in `tests.rs`.

use super::record::Record;
use super::store::{ContainerDir, FILES, FILTER, RECORD, RECORD_NEW, read_names};
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::id::ContainerId;
use crate::launch::notify::DIRECTORY as NOTIFY;
use rustix::fs::{
    AtFlags, FlockOperation, Mode, OFlags, RenameFlags, flock, openat, renameat, renameat_with, unlinkat,
};
use rustix::io::{Errno, write};
use std::ffi::OsStr;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// The first pause between two attempts to take a lock, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_micros(250), Duration::from_millis(10));

/// The container's directory, locked.
///
/// Holding one proves that, when it was taken, the directory was the one that the container's name leads to, and that nobody else
/// holds one.
#[derive(Debug)]
pub(crate) struct Lock {
    dir: ContainerDir,
    fd: OwnedFd,
}

/// How many directories below each other are removed.
const DEEPEST: u32 = 64;

const WRITE_RECORD: &str = "write the container's record";

/// A record that is written and that no reader sees yet. Dropped, it stays unseen; the next one replaces it.
#[derive(Debug)]
#[must_use]
pub(crate) struct Prepared<'a> {
    lock: &'a Lock,
    exchange: bool,
}

impl Prepared<'_> {
    /// Shows it to readers in place of the earlier one.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] with the kernel's reason.
    pub(crate) fn publish(self) -> Result<()> {
        let dir = &self.lock.fd;
        // File systems write a file out when it takes another's place, to have it after a power cut, and that takes longer than the
        // rest of a create. All that a record of an earlier boot is still good for are its poststop hooks: without any it trades places
        // instead, where the kernel and the file system can.
        if self.exchange && renameat_with(dir, RECORD_NEW, dir, RECORD, RenameFlags::EXCHANGE).is_ok() {
            return Ok(());
        }
        renameat(dir, RECORD_NEW, dir, RECORD).map_err(|e| self.lock.dir.os(WRITE_RECORD, e))
    }
}

impl Lock {
    /// Takes the lock, waiting until `deadline` at most.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] at the deadline; [`ErrorKind::NotFound`] when the container was removed meanwhile.
    pub(super) fn take(dir: &ContainerDir, deadline: Instant) -> Result<Self> {
        let fail = |e: Errno| dir.os("lock the container", e);
        let fd = dir.open_again().map_err(fail)?;
        let mut pause = PAUSE.0;
        loop {
            match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK) => {}
                Err(Errno::INTR) => continue,
                Err(e) => return Err(fail(e)),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::new(
                    ErrorKind::Timeout,
                    "lock the container: another command works on it",
                )
                .with_code("container-busy")
                .in_phase(Phase::State));
            }
            std::thread::sleep(pause.min(left));
            pause = pause.saturating_mul(2).min(PAUSE.1);
        }
        let lock = Self { dir: dir.clone(), fd };
        // It may have been removed while we waited, and made anew by somebody else.
        if lock.dir.is_removed()? { Err(missing()) } else { Ok(lock) }
    }

    /// Whether somebody holds the lock now. Takes nothing that could disturb another reader.
    pub(super) fn is_held(dir: &ContainerDir) -> Result<bool> {
        let fail = |e: Errno| dir.os("look at the container's lock", e);
        let fd = dir.open_again().map_err(fail)?;
        loop {
            match flock(&fd, FlockOperation::NonBlockingLockShared) {
                Ok(()) => return Ok(false),
                Err(Errno::WOULDBLOCK) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(e) => return Err(fail(e)),
            }
        }
    }

    /// Replaces the record; readers see the old one or the new one.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] with the kernel's reason, ENOSPC above all; those of [`Record`]'s encoding.
    pub(crate) fn write_record(&self, record: &mut Record) -> Result<()> {
        self.prepare_record(record)?.publish()
    }

    /// Writes the next record beside the one that readers see.
    ///
    /// # Errors
    /// As [`Lock::write_record`].
    pub(crate) fn prepare_record(&self, record: &mut Record) -> Result<Prepared<'_>> {
        let fail = |e: Errno| self.dir.os(WRITE_RECORD, e);
        record.boot = self.dir.boot()?;
        let bytes = record.encode()?;
        let fd = match self.create(RECORD_NEW) {
            // Left by a writer that was killed (it held the lock that is ours now), or an exchanged one.
            Err(Errno::EXIST) => {
                unlinkat(&self.fd, RECORD_NEW, AtFlags::empty()).map_err(fail)?;
                self.create(RECORD_NEW)
            }
            done => done,
        }
        .map_err(fail)?;
        write_all(&fd, &bytes).map_err(fail)?;
        Ok(Prepared { lock: self, exchange: record.boot.is_some() && record.hooks.poststop.is_empty() })
    }

    /// Stores the compiled system call filter, once.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] with the kernel's reason; EEXIST when there is one.
    pub(crate) fn write_filter(&self, filter: &[u8]) -> Result<()> {
        let fail = |e: Errno| self.dir.os("write the container's filter", e);
        let fd = self.create(FILTER).map_err(fail)?;
        write_all(&fd, filter).map_err(fail)
    }

    /// Removes the directory with the names that belong in it.
    ///
    /// # Errors
    /// [`ErrorKind::State`] when something else is in it: that stays, and so does the directory; [`ErrorKind::Io`].
    pub(crate) fn remove(self) -> Result<()> {
        let fail = |e: Errno| self.dir.os("remove the container's directory", e);
        for name in FILES {
            match unlinkat(&self.fd, *name, AtFlags::empty()) {
                // Not every container has each of them.
                Ok(()) | Err(Errno::NOENT) => {}
                // Somebody's directory under one of our names; reported below.
                Err(Errno::ISDIR) => {}
                Err(e) => return Err(fail(e)),
            }
        }
        let remove = || unlinkat(self.dir.root(), self.dir.id().as_str(), AtFlags::REMOVEDIR);
        let done = match remove() {
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                remove_tree(self.fd.as_fd(), OsStr::new(NOTIFY), DEEPEST);
                remove()
            }
            done => done,
        };
        match done {
            Ok(()) => Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                let mut names = read_names(self.fd.as_fd()).map_err(fail)?;
                names.sort();
                let shown: Vec<_> = names.iter().take(8).map(|n| n.to_string_lossy()).collect();
                Err(Error::new(
                    ErrorKind::State,
                    format!(
                        "remove the container's directory: it holds what is not ours: {}",
                        shown.join(", ")
                    ),
                )
                .with_path(self.dir.path())
                .with_code("foreign-entries")
                .in_phase(Phase::State))
            }
            Err(e) => Err(fail(e)),
        }
    }

    fn create(&self, name: &str) -> Result<OwnedFd, Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A child that was cloned meanwhile has a copy of the descriptor: closing ours alone would leave the lock with it.
        let _ = flock(&self.fd, FlockOperation::Unlock);
    }
}

impl Deref for Lock {
    type Target = ContainerDir;

    fn deref(&self) -> &ContainerDir {
        &self.dir
    }
}

/// No such container.
pub(crate) fn missing() -> Error {
    Error::new(ErrorKind::NotFound, "container does not exist")
        .with_code("container-missing")
        .in_phase(Phase::State)
}

/// One exists already.
pub(super) fn exists(id: &ContainerId) -> Error {
    Error::new(ErrorKind::AlreadyExists, "container with given ID already exists")
        .with_code("container-exists")
        .with_hint(format!("delete container {id} first, or take another ID"))
        .in_phase(Phase::State)
}

/// Removes a directory with what is in it, as far as that goes. Only for one that the container could write to: one of an ordinary user
/// can make its mount writable.
fn remove_tree(parent: BorrowedFd<'_>, name: &OsStr, depth: u32) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if let (Ok(fd), Some(depth)) = (openat(parent, name, flags, Mode::empty()), depth.checked_sub(1)) {
        for name in read_names(fd.as_fd()).unwrap_or_default() {
            if unlinkat(&fd, &name, AtFlags::empty()) == Err(Errno::ISDIR) {
                remove_tree(fd.as_fd(), &name, depth);
            }
        }
    }
    let _ = unlinkat(parent, name, AtFlags::REMOVEDIR);
}

fn write_all(fd: &OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match write(fd, bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
