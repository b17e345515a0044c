//! The status of a container: asked of the kernel each time, never stored.
//!
//! Rules, in this order:
//! - without a finished record (an intent, or none yet): being created while its creator holds the lock, or while the init that
//!   the creator left behind still lives; else the creator was killed and what is left is stopped;
//! - the recorded init process is gone, is another one, or has ended without being reaped: stopped;
//! - it has no gate and its init has not executed its program yet: being created, whatever else; nobody may enter it then, for init may
//!   still run in the memory of the command that makes it;
//! - its cgroup is frozen: paused (also before start, as runc has it);
//! - the gate is open: created;
//! - else: running.
//!
//! Must not: wait for the lock, change anything. Tests: in `tests.rs`.

use super::lock::Lock;
use super::record::{Progress, Record};
use super::store::ContainerDir;
use crate::cgroup::CgroupRecord;
use crate::error::Result;
use crate::launch::gate::Gate;
use crate::process::{Identity, has_exited};
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};

/// Where a container is in its life (runtime.md, "State"; paused is a further word that all engines know).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// `create` is at work.
    Creating,
    /// Everything is ready; the program was not executed.
    Created,
    /// The program runs.
    Running,
    /// All its processes are frozen.
    Paused,
    /// Its init process ended.
    Stopped,
}

impl Status {
    /// The status as one lower-case word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What one look found.
#[derive(Debug)]
pub(crate) struct Observed {
    /// The status at that moment.
    pub(crate) status: Status,
    /// The init process, also when it ended and was not reaped; the recorded one and no other.
    pub(crate) init: Option<OwnedFd>,
    /// Where a created one is started.
    pub(crate) gate: Option<Gate>,
}

/// Looks at a container. `frozen` asks the cgroup; it is called for living, finished containers alone.
///
/// # Errors
/// Those of the questions: process, lock, gate, and what `frozen` returns.
pub(crate) fn observe(
    dir: &ContainerDir,
    record: Option<&Record>,
    frozen: impl FnOnce(&CgroupRecord) -> Result<bool>,
) -> Result<Observed> {
    look(dir, record, || dir.is_locked(), frozen)
}

/// As [`observe`], by who holds the lock: an unfinished record has no creator any more.
///
/// # Errors
/// As [`observe`].
pub(crate) fn observe_locked(
    lock: &Lock,
    record: Option<&Record>,
    frozen: impl FnOnce(&CgroupRecord) -> Result<bool>,
) -> Result<Observed> {
    look(lock, record, || Ok(false), frozen)
}

fn look(
    dir: &ContainerDir,
    record: Option<&Record>,
    creator: impl FnOnce() -> Result<bool>,
    frozen: impl FnOnce(&CgroupRecord) -> Result<bool>,
) -> Result<Observed> {
    let finished = record.is_some_and(|record| record.progress == Progress::Created);
    let init = record.and_then(|record| record.init.as_ref()).map_or(Ok(None), Identity::open)?;
    let alive = match &init {
        Some(pidfd) => !has_exited(pidfd.as_fd())?,
        None => false,
    };
    let mut gate = None;
    let status = if !finished {
        if alive || creator()? { Status::Creating } else { Status::Stopped }
    } else if !alive {
        Status::Stopped
    } else if record.is_some_and(launching) {
        Status::Creating
    } else {
        let asked = record.and_then(|record| record.cgroup.as_ref()).map_or(Ok(false), frozen);
        match asked {
            Ok(true) => Status::Paused,
            Ok(false) => {
                gate = Gate::reach(dir.as_fd())?;
                if gate.is_some() { Status::Created } else { Status::Running }
            }
            // Who made the cgroup (systemd) has removed it as soon as the last process in it ended: after the look at init.
            Err(_) if init.as_ref().map_or(Ok(false), |init| has_exited(init.as_fd()))? => Status::Stopped,
            Err(error) => return Err(error),
        }
    };
    Ok(Observed { status, init, gate })
}

fn launching(record: &Record) -> bool {
    record.at_once && record.init.as_ref().is_some_and(Identity::never_executed)
}
