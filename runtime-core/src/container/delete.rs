//! The end of a container: everybody in it is killed, and nothing of it stays.
//!
//! Must not: trust the record. Tests: `tests` package, lifecycle and leftovers; the crash suite.

use super::{Container, DYING, lock};
use crate::error::{Error, ErrorKind, Result};
use crate::launch::create::poststop;
use crate::process;
use crate::runtime::Runtime;
use crate::state::{ContainerDir, Progress, Status, observe_locked};
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Which containers a delete takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delete {
    /// Only one that has stopped.
    #[default]
    Stopped,
    /// Any: it is killed first.
    Force,
}

impl Container {
    /// Removes the container: cgroup, record, directory. Runs the poststop hooks; the failures of these come back.
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`] when it has not stopped and force was not asked for; what could not be removed.
    pub fn delete(self, delete: Delete) -> Result<Vec<Error>> {
        if delete == Delete::Force {
            // Killed before the lock is taken: a hook that hangs in `create` or `start` holds it.
            self.kill(false)?;
        }
        // Not there any more: somebody else has deleted it, and its init is still our child.
        let lock = self.lock().inspect_err(|_| self.reap())?;
        // What a finished record says of init, hooks and the cgroup's directories never changes (an `update` exchanges limits and the device
        // program), and the lock tells that the directory is still the same.
        let fresh = match self.record.progress {
            Progress::Created => self,
            Progress::Intent => {
                Self { cgroup: OnceLock::new(), ..Self::read(&self.runtime, self.dir.clone())? }
            }
        };
        let seen = observe_locked(&lock, Some(&fresh.record), |_| fresh.is_frozen())?;
        if delete == Delete::Stopped && seen.status != Status::Stopped {
            let text = format!("cannot delete container {} that is not stopped: {}", fresh.id(), seen.status);
            return Err(Error::new(ErrorKind::WrongState, text).with_code("not-stopped"));
        }
        // Where init has ended, an empty cgroup says that nobody else is left; one that is busy has to be emptied first.
        if seen.status == Status::Stopped && fresh.remove_idle_cgroup()? {
            // Reaped when it is ours; else its parent does.
            seen.init.map(|init| process::exit_status(init.as_fd(), Duration::ZERO)).transpose()?;
        } else {
            fresh.kill(true)?;
            fresh.remove_cgroup()?;
        }
        if let Some(class) = &fresh.record.rdt {
            class.remove()?;
        }
        lock.remove()?;
        // After the container is gone (config.md, "Poststop"), so that its name is free however long they take.
        Ok(poststop(&fresh.runtime, &fresh.record))
    }

    /// [`crate::Runtime::purge`].
    pub(crate) fn purge(runtime: &Runtime, dir: ContainerDir) -> Result<()> {
        match Self::open(runtime, dir.clone()) {
            Ok(container) => container.delete(Delete::Force).map(|_| ()),
            Err(e) if e.kind() == ErrorKind::NotFound => Err(e),
            // No record that can be used: nothing of it but the directory is known to be ours.
            Err(_) => lock(&dir)?.remove(),
        }
    }

    /// Kills everything and, with `wait`, waits until it is gone.
    fn kill(&self, wait: bool) -> Result<()> {
        let pidfd = self.pidfd()?;
        if let Some(cgroup) = self.cgroup()? {
            match cgroup.kill_all() {
                // Another command that deletes this container was faster.
                Err(e) if e.is_gone() => {}
                other => other?,
            }
        }
        let Some(pidfd) = pidfd else { return Ok(()) };
        process::send_signal(pidfd.as_fd(), libc::SIGKILL)?;
        if wait {
            if !process::wait_exit(pidfd.as_fd(), Instant::now().checked_add(DYING))? {
                return Err(Error::new(
                    ErrorKind::Timeout,
                    "kill the container: its init did not end in time",
                )
                .with_code("init-unkillable")
                .with_hint("a process in uninterruptible sleep cannot be killed"));
            }
            // Reaped when it is ours; else its parent does.
            process::exit_status(pidfd.as_fd(), Duration::ZERO)?;
        }
        Ok(())
    }

    fn remove_idle_cgroup(&self) -> Result<bool> {
        if self.record.cgroup.as_ref().is_some_and(crate::cgroup::CgroupRecord::is_more_than_directories) {
            return Ok(false);
        }
        self.cgroup()?.map_or(Ok(true), |cgroup| cgroup.remove_idle().map_err(Error::from))
    }

    fn remove_cgroup(&self) -> Result<()> {
        if let Some(cgroup) = self.cgroup()? {
            cgroup.remove()?;
        }
        // What only an intent knows of may be there without being opened: it has not been said yet whose it is.
        match self.record.cgroup.as_ref().filter(|record| record.is_more_than_directories()) {
            Some(intent) => intent.remove().map_err(Error::from),
            None => Ok(()),
        }
    }

    /// Removes it by force after this error.
    pub(crate) fn discard(self, error: Error) -> Error {
        match self.delete(Delete::Force) {
            Ok(failed) => failed.iter().fold(error, |error, e| error.with_warning(e.to_string())),
            // Somebody else deleted it meanwhile.
            Err(e) if e.kind() == ErrorKind::NotFound => error,
            Err(e) => error.with_warning(e.to_string()),
        }
    }
}
