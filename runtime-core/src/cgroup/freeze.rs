//! Freezing, thawing, killing everything.
//!
//! Must not: leave anything frozen that it froze itself. Tests: `cgroup/tests.rs`.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::dir::{Dir, key_of};
use super::error::{CgroupError, Result};
use super::group::{Cgroup, is_frozen};

/// How long processes may take to stop where they are; uninterruptible sleeps count.
const FREEZE: Duration = Duration::from_secs(10);
/// How often the processes are listed while killing one by one.
const ROUNDS: usize = 100;

/// A frozen cgroup that thaws when this is dropped, whatever happens.
#[derive(Debug)]
#[must_use = "dropping it thaws the cgroup"]
pub struct Frozen<'a>(Option<&'a Cgroup>);

impl Frozen<'_> {
    /// Leaves it frozen: this is `pause`.
    pub fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Nothing better can be done here; whoever needs to know calls `thaw`.
            drop(group.thaw());
        }
    }
}

impl Cgroup {
    /// Freezes all processes and waits until they are, at most ten seconds.
    ///
    /// # Errors
    /// No freezer is there, or the processes did not stop in time; then they run on.
    pub fn freeze(&self) -> Result<Frozen<'_>> {
        let guard = Frozen(Some(self));
        let deadline = Instant::now() + FREEZE;
        if let Some(member) = self.v2() {
            freeze_v2(&member.dir, deadline)?;
        } else if let Some(member) = self.v1("freezer") {
            freeze_v1(&member.dir, deadline)?;
        } else {
            std::mem::forget(guard);
            return Err(CgroupError::check("cgroup", "the container has no cgroup that can be frozen"));
        }
        Ok(guard)
    }

    /// Lets all processes run again, whichever freezer stopped them. Does not wait.
    ///
    /// # Errors
    /// A file cannot be written; the other freezer is thawed all the same.
    pub fn thaw(&self) -> Result<()> {
        let v1 = self.v1("freezer").map_or(Ok(()), |member| member.dir.write("freezer.state", "THAWED"));
        self.v2().map_or(Ok(()), |member| member.dir.write("cgroup.freeze", "0")).and(v1)
    }

    /// Whether it is frozen, or was told to be, by either freezer.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn is_frozen(&self) -> Result<bool> {
        for member in [self.v2(), self.v1("freezer")].into_iter().flatten() {
            if is_frozen(&member.dir, member.version(), member.hierarchy())? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Sends SIGKILL to every process in it and below, those made meanwhile included, and thaws what was frozen, so
    /// that they can die. Does not wait until they are gone.
    ///
    /// # Errors
    /// A file or process could not be written, listed or signalled.
    pub fn kill_all(&self) -> Result<()> {
        match self.kill_listed_or_at_once() {
            // Removed meanwhile by somebody else who deletes the container: nobody is left in it.
            Err(error) if error.is_gone() => Ok(()),
            done => done,
        }
    }

    fn kill_listed_or_at_once(&self) -> Result<()> {
        // Not one that stays: whoever is cloned into a cgroup that was killed once is killed too, for ever after (seen on Linux 6.18, which
        // compares the count of kills with that of the parent's cgroup).
        let ours = self.v2().filter(|member| member.is_ours());
        let killed = match ours.map(|member| member.dir.write("cgroup.kill", "1")) {
            Some(Ok(())) => true,
            // Before 5.14, and in threaded cgroups: one by one.
            Some(Err(error)) if error.is(Errno::NOENT) || error.is(Errno::OPNOTSUPP) => false,
            Some(Err(error)) => return Err(error),
            None => false,
        };
        if killed {
            // Version 2's freezer lets the killed die; version 1's does not.
            return self.v1("freezer").map_or(Ok(()), |member| member.dir.write("freezer.state", "THAWED"));
        }
        self.kill_one_by_one()
    }

    /// Frozen processes make no new ones, so one list is all of them. Without a freezer the list is read until it
    /// brings nothing new.
    pub(super) fn kill_one_by_one(&self) -> Result<()> {
        // Stopped or not: they are killed all the same, in rounds.
        let frozen = self.freeze().ok();
        let result = self.kill_listed();
        drop(frozen);
        // The guard's own thaw cannot tell; a container must not stay frozen by a kill.
        result.and(self.thaw())
    }

    fn kill_listed(&self) -> Result<()> {
        let mut signalled: Vec<i32> = Vec::new();
        for _ in 0..ROUNDS {
            let pids: Vec<i32> =
                self.procs()?.into_iter().filter(|pid| *pid > 0 && !signalled.contains(pid)).collect();
            if pids.is_empty() {
                return Ok(());
            }
            let mut open = Vec::with_capacity(pids.len());
            for pid in pids {
                match Pid::from_raw(pid).map(|pid| pidfd_open(pid, PidfdFlags::empty())) {
                    Some(Ok(fd)) => open.push((pid, fd)),
                    Some(Err(Errno::SRCH)) | None => {}
                    // A thread's number, listed by a threaded cgroup: its process is listed by its leader.
                    Some(Err(Errno::INVAL | Errno::NOENT)) => signalled.push(pid),
                    Some(Err(errno)) => {
                        return Err(CgroupError::call("pidfd_open", format!("/proc/{pid}"), errno));
                    }
                }
            }
            // A number read before it was opened may have been given to another process by then. What is still listed
            // now, while the descriptor holds the process, is the one meant; or it is dead, and the signal goes nowhere.
            let members = self.procs()?;
            for (pid, fd) in open {
                if !members.contains(&pid) {
                    continue;
                }
                match pidfd_send_signal(&fd, Signal::KILL) {
                    Ok(()) | Err(Errno::SRCH) => signalled.push(pid),
                    Err(errno) => {
                        return Err(CgroupError::call("pidfd_send_signal", format!("/proc/{pid}"), errno));
                    }
                }
            }
        }
        Err(CgroupError::check("cgroup", "new processes appear faster than they can be killed"))
    }
}

fn freeze_v2(dir: &Dir, deadline: Instant) -> Result<()> {
    const EVENTS: &str = "cgroup.events";
    let events = dir.file(EVENTS, OFlags::RDONLY)?;
    dir.write("cgroup.freeze", "1")?;
    loop {
        if key_of(&dir.read_open(EVENTS, &events)?, "frozen") == Some(1) {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(late(dir));
        }
        let timeout = Timespec::try_from(left).map_err(|_| late(dir))?;
        match poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(CgroupError::call("poll", dir.path().join(EVENTS), errno)),
        }
    }
}

/// Version 1 can stay FREEZING for ever while processes are made or moved in; writing again helps, thawing for a
/// moment helps where that does not.
fn freeze_v1(dir: &Dir, deadline: Instant) -> Result<()> {
    const STATE: &str = "freezer.state";
    let mut round = 0u32;
    while Instant::now() < deadline {
        round += 1;
        if round % 50 == 0 {
            dir.write(STATE, "THAWED")?;
            std::thread::sleep(Duration::from_millis(5));
        }
        dir.write(STATE, "FROZEN")?;
        if dir.read(STATE)?.trim() == "FROZEN" {
            return Ok(());
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    Err(late(dir))
}

fn late(dir: &Dir) -> CgroupError {
    CgroupError::check(dir.path(), format!("its processes did not stop within {} seconds", FREEZE.as_secs()))
}
