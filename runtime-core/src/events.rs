//! What happens to a container, as a stream that can be waited for beside anything else.
//!
//! Must not: wait, start threads. Tests: `tests/root/events.rs`, `tests/embed`.

use crate::cgroup::watch::OomWatch;
use crate::container::{Container, not_running};
use crate::error::{Error, Result};
use crate::process;
use crate::state::Status;
use rustix::event::epoll;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Something that happened to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// It wanted more memory than it may have. Several kills may come as one event.
    OutOfMemory {
        /// How many of its processes the kernel has killed for that since it was created. Version 1 of control groups tells before
        /// it kills, so the one that is told of may not be among them yet.
        kills: u64,
    },
    /// Its first process has ended. Nothing comes after it.
    Stopped,
}

/// The events of one container, from the moment it was asked for. Readable when there may be some.
#[derive(Debug)]
pub struct Events {
    epoll: OwnedFd,
    oom: Option<OomWatch>,
    init: OwnedFd,
    ended: bool,
}

impl Container {
    /// Begins to watch it.
    ///
    /// # Errors
    /// [`crate::ErrorKind::WrongState`] when it has stopped; when the kernel refuses to watch.
    pub fn events(&self) -> Result<Events> {
        let seen = self.observe()?;
        if seen.status == Status::Stopped {
            return Err(not_running());
        }
        let init = self.pidfd()?.ok_or_else(not_running)?;
        let oom = match self.cgroup()? {
            Some(cgroup) => cgroup.watch_oom()?,
            None => None,
        };
        let fail = |errno| Error::os("watch the container", errno);
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(fail)?;
        let interest = epoll::EventFlags::IN;
        epoll::add(&epoll, &init, epoll::EventData::new_u64(0), interest).map_err(fail)?;
        if let Some(oom) = &oom {
            epoll::add(&epoll, oom, epoll::EventData::new_u64(1), interest).map_err(fail)?;
        }
        Ok(Events { epoll, oom, init, ended: false })
    }
}

impl AsFd for Events {
    /// Becomes readable when [`Events::read`] may have something.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl Events {
    /// What has happened since the last call, in order; nothing when nothing has. Does not block. After [`Event::Stopped`] the
    /// descriptor stays readable and nothing more comes.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn read(&mut self) -> Result<Vec<Event>> {
        if self.ended {
            return Ok(Vec::new());
        }
        // First: whatever was killed before the end is told before it.
        let ended = process::has_exited(self.init.as_fd())?;
        let mut events = Vec::new();
        if let Some(oom) = &mut self.oom {
            events.extend(oom.read()?.map(|kills| Event::OutOfMemory { kills }));
        }
        if ended {
            self.ended = true;
            events.push(Event::Stopped);
        }
        Ok(events)
    }
}
