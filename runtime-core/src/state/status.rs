//! The status of a container: asked of the kernel each time, never stored.
//!
//! Rules, in this order:
//! - without a finished record (an intent, or none yet): while its creator holds the lock it is being created; else the creator was
//!   killed and what is left is stopped;
//! - the recorded init process is gone, is another one, or has ended without being reaped: stopped;
//! - its cgroup is frozen: paused (also before start, as runc has it);
//! - the gate is open: created;
//! - else: running.
//!
//! Must not: wait for the lock, change anything. Tests: in `tests.rs`.

use super::record::{Progress, Record};
use super::store::ContainerDir;
use crate::cgroup::CgroupRecord;
use crate::error::Result;
use crate::launch::gate::Gate;
use crate::process::has_exited;
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
}

/// Looks at a container. `frozen` asks the cgroup; it is called for living containers alone.
///
/// # Errors
/// Those of the questions: process, lock, gate, and what `frozen` returns.
pub(crate) fn observe(
    dir: &ContainerDir,
    record: Option<&Record>,
    frozen: impl FnOnce(&CgroupRecord) -> Result<bool>,
) -> Result<Observed> {
    let Some(record) = record.filter(|record| record.progress == Progress::Created) else {
        let status = if dir.is_locked()? { Status::Creating } else { Status::Stopped };
        return Ok(Observed { status, init: None });
    };
    let Some(init) = record.init.as_ref().map_or(Ok(None), |identity| identity.open())? else {
        return Ok(Observed { status: Status::Stopped, init: None });
    };
    let status = if has_exited(init.as_fd())? {
        Status::Stopped
    } else if record.cgroup.as_ref().map_or(Ok(false), frozen)? {
        Status::Paused
    } else if Gate::probe(dir.as_fd())? == Gate::Open {
        Status::Created
    } else {
        Status::Running
    };
    Ok(Observed { status, init: Some(init) })
}
