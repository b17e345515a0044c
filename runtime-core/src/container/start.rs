//! From the gate to the program, and what follows it.
//!
//! Must not: hold the lock while hooks run. Tests: `tests` package, lifecycle and hooks.

use super::{Container, DYING};
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::launch::create::poststart;
use crate::launch::gate::{Outcome, Report};
use crate::launch::session::frozen;
use crate::launch::{diagnose, explain};
use crate::process;
use crate::state::{Status, observe};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// How long init may take to answer a start. It only has to receive.
const TAKEN: Duration = Duration::from_secs(10);
/// How long it takes on a machine that is not busy, many times over. A frozen one does not answer: then it is looked at.
const SOON: Duration = Duration::from_millis(20);

impl Container {
    /// Starts the program of a created container. Blocks until it was executed and the poststart hooks ran.
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`] when it does not wait to be started; what init reports ([`ErrorKind::Exec`], [`ErrorKind::Hook`]); a
    /// failed hook, after which the container is gone and its poststop hooks have run.
    pub fn start(&self) -> Result<()> {
        let passed = self.pass_the_gate().inspect_err(|_| self.reap()).map_err(|error| {
            diagnose::program(error, &self.record.rootfs, self.record.process().ok().flatten())
        });
        passed.and_then(|()| self.started()).map_err(|error| self.after_its_hooks(error))
    }

    /// runtime.md, "Lifecycle", 7 and 9: when a hook of the start has failed, the container is stopped and the lifecycle goes on where
    /// it is destroyed. Any other error leaves it as it is.
    fn after_its_hooks(&self, error: Error) -> Error {
        if !error.pointer().is_some_and(|place| place.starts_with("/hooks/")) {
            return error;
        }
        match Self::open(&self.runtime, self.dir.clone()) {
            Ok(container) => container.discard(error),
            Err(e) if e.kind() == ErrorKind::NotFound => error,
            Err(e) => error.with_warning(e.to_string()),
        }
    }

    /// Under the lock, which is given back before the hooks: one that hangs must not keep anybody from deleting the container.
    fn pass_the_gate(&self) -> Result<()> {
        let _lock = self.lock()?;
        // Whether it is frozen shows when it does not answer.
        let seen = observe(&self.dir, Some(&self.record), |_| Ok(false))?;
        let (init, gate) = match (seen.status, seen.init, seen.gate) {
            (Status::Created, Some(init), Some(gate)) => (init, gate),
            (Status::Stopped, ..) => return Err(refuse_stopped()),
            (Status::Running, ..) if self.status()? == Status::Paused => return Err(refuse_paused()),
            (status, ..) => return Err(refuse(format!("cannot start an already {status} container"))),
        };
        let identity = self.record.init.as_ref().ok_or_else(|| self.gone())?;
        let Some(mut report) = gate.start()? else { return Err(self.unanswered(init.as_fd())) };
        self.wait_until_taken(&mut report, init.as_fd())?;
        Report::shut(self.dir.as_fd())?;
        let outcome = report.outcome(init.as_fd(), identity)?;
        if outcome != Outcome::Executed {
            // It ends next; who hears of the failure finds it stopped.
            process::wait_exit(init.as_fd(), Some(after(DYING)))?;
        }
        match outcome {
            Outcome::Executed => Ok(()),
            Outcome::Failed(message) => {
                // Whatever is wrong with the record, what init says comes first.
                let program = self.record.process().map(|p| p.and_then(|p| p.args.first()));
                let step = self.record.step(message.step);
                let known = program.as_ref().ok().copied().flatten().map_or("", String::as_str);
                let error = explain::failure(&message, step.as_ref().ok().copied().flatten(), known);
                let unknown = program.err().into_iter().chain(step.err());
                Err(unknown.fold(error, |error, e| error.with_warning(e.to_string())))
            }
            Outcome::Died => Err(Error::new(
                ErrorKind::Kernel,
                "start the container: its init was killed before the program ran",
            )
            .with_code("init-died")),
        }
    }

    fn wait_until_taken(&self, report: &mut Report, init: BorrowedFd<'_>) -> Result<()> {
        if report.taken(init, after(SOON))? {
            return Ok(());
        }
        if !self.stands_still() && report.taken(init, after(TAKEN))? {
            return Ok(());
        }
        if report.withdraw(init)? { Err(self.unanswered(init)) } else { Ok(()) }
    }

    /// Whether its cgroup, or one above, is frozen. One that cannot be asked is waited for.
    fn stands_still(&self) -> bool {
        matches!(self.cgroup(), Ok(Some(cgroup)) if cgroup.stands_still().unwrap_or(false))
    }

    /// Why init has not taken a start.
    fn unanswered(&self, init: BorrowedFd<'_>) -> Error {
        if process::has_exited(init).unwrap_or(false) {
            refuse_stopped()
        } else if self.is_frozen().unwrap_or(false) {
            refuse_paused()
        } else if self.stands_still() {
            frozen()
        } else {
            Error::new(ErrorKind::Timeout, "wait for the container's init: no answer in time")
                .in_phase(Phase::Gate)
                .with_code("init-no-answer")
        }
    }

    /// Runs what follows the start of the program.
    pub(crate) fn started(&self) -> Result<()> {
        let identity = self.record.init.as_ref().ok_or_else(|| self.gone())?;
        poststart(&self.runtime, &self.record, identity)
    }
}

fn refuse(text: String) -> Error {
    Error::new(ErrorKind::WrongState, text).in_phase(Phase::Gate).with_code("not-created")
}

fn refuse_paused() -> Error {
    refuse("cannot start a paused container".to_owned())
}

fn refuse_stopped() -> Error {
    refuse("cannot start a container that has stopped".to_owned())
}

fn after(wait: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(wait).unwrap_or(now)
}
