//! Tells when the kernel kills for want of memory: a descriptor that becomes readable, and a count.
//!
//! Version 2 changes `memory.events`, which inotify sees; version 1 counts into an eventfd that is registered with the cgroup.
//! Must not: wait. Tests: `tests/root/events.rs`.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{OFlags, inotify};
use rustix::io::Errno;

use super::dir::Dir;
use super::error::{CgroupError, Result};
use super::group::Cgroup;

const EVENTS: &str = "memory.events";
const CONTROL: &str = "memory.oom_control";

/// A watched memory limit.
#[derive(Debug)]
pub(crate) struct OomWatch {
    fd: OwnedFd,
    file: OwnedFd,
    dir: Dir,
    version: Watched,
    kills: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watched {
    Eventfd,
    Inotify,
}

impl Cgroup {
    /// Begins to watch; none where memory is not controlled. What was killed before is not told.
    ///
    /// # Errors
    /// The kernel refuses to watch.
    pub(crate) fn watch_oom(&self) -> Result<Option<OomWatch>> {
        if let Some(member) = self.v1("memory") {
            return eventfd_of(member.dir.sub(".")?).map(Some);
        }
        match self.v2() {
            Some(member) => inotify_of(member.dir.sub(".")?),
            None => Ok(None),
        }
    }
}

fn eventfd_of(dir: Dir) -> Result<OomWatch> {
    let file = dir.file(CONTROL, OFlags::RDONLY)?;
    let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
    let fd = eventfd(0, flags).map_err(|errno| CgroupError::call("eventfd", dir.path(), errno))?;
    // Documentation/admin-guide/cgroup-v1/memory.rst, "OOM Control".
    dir.write("cgroup.event_control", &format!("{} {}", fd.as_raw_fd(), file.as_raw_fd()))?;
    let mut watch = OomWatch { fd, file, dir, version: Watched::Eventfd, kills: 0 };
    watch.kills = watch.count()?.unwrap_or(0);
    Ok(watch)
}

fn inotify_of(dir: Dir) -> Result<Option<OomWatch>> {
    let file = match dir.file(EVENTS, OFlags::RDONLY) {
        Err(error) if error.is(Errno::NOENT) => return Ok(None),
        file => file?,
    };
    let fail = |call, errno| CgroupError::call(call, dir.path().join(EVENTS), errno);
    let fd = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)
        .map_err(|errno| fail("inotify_init1", errno))?;
    // By the descriptor: the name may be another cgroup's by now.
    let path = format!("/proc/thread-self/fd/{}", file.as_raw_fd());
    inotify::add_watch(&fd, path, inotify::WatchFlags::MODIFY)
        .map_err(|errno| fail("inotify_add_watch", errno))?;
    let mut watch = OomWatch { fd, file, dir, version: Watched::Inotify, kills: 0 };
    watch.kills = watch.count()?.unwrap_or(0);
    Ok(Some(watch))
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl OomWatch {
    /// How many processes were killed in all, when something happened since the last call.
    ///
    /// # Errors
    /// The file cannot be read. A cgroup that is gone tells nothing more.
    pub(crate) fn read(&mut self) -> Result<Option<u64>> {
        let woken = self.drain()?;
        let Some(kills) = self.count()? else { return Ok(None) };
        let more = kills > self.kills;
        self.kills = kills;
        // Version 1 tells before it kills, so that the count may lag behind; and it tells of a killer that is switched off.
        Ok((more || (woken && self.version == Watched::Eventfd)).then_some(kills))
    }

    fn drain(&self) -> Result<bool> {
        let mut buffer = [0; 4096];
        let mut woken = false;
        loop {
            match rustix::io::read(&self.fd, &mut buffer) {
                // An eventfd is empty after one read.
                Ok(_) => woken = true,
                Err(Errno::AGAIN) => return Ok(woken),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(CgroupError::call("read", self.dir.path(), errno)),
            }
        }
    }

    fn count(&self) -> Result<Option<u64>> {
        let name = match self.version {
            Watched::Eventfd => CONTROL,
            Watched::Inotify => EVENTS,
        };
        match self.dir.read_open(name, &self.file) {
            Ok(text) => Ok(Some(super::dir::key_of(&text, "oom_kill").unwrap_or(0))),
            // Removing the cgroup wakes whoever watches it.
            Err(error) if error.is_gone() => Ok(None),
            Err(error) => Err(error),
        }
    }
}
