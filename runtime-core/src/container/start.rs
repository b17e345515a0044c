//! From the gate to the program, and what follows it.
//!
//! Must not: hold the lock while hooks run. Tests: `tests` package, lifecycle and hooks.

use super::{Container, DYING};
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::launch::create::poststart;
use crate::launch::gate::Outcome;
use crate::launch::{diagnose, explain};
use crate::process;
use crate::state::Status;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// How long init may take to answer a start. It only has to receive; a frozen one does not.
const TAKEN: Duration = Duration::from_secs(10);

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
        let seen = self.observe()?;
        let refuse = |text: String| {
            Err(Error::new(ErrorKind::WrongState, text).in_phase(Phase::Gate).with_code("not-created"))
        };
        let (init, gate) = match (seen.status, seen.init, seen.gate) {
            (Status::Created, Some(init), Some(gate)) => (init, gate),
            (Status::Stopped, ..) => return refuse("cannot start a container that has stopped".to_owned()),
            (Status::Paused, ..) => return refuse("cannot start a paused container".to_owned()),
            (status, ..) => return refuse(format!("cannot start an already {status} container")),
        };
        let identity = self.record.init.as_ref().ok_or_else(|| self.gone())?;
        let mut report = gate.start()?;
        let deadline = Instant::now().checked_add(TAKEN).unwrap_or_else(Instant::now);
        report.taken(self.dir.as_fd(), init.as_fd(), deadline)?;
        let outcome = report.outcome(init.as_fd(), identity)?;
        if outcome != Outcome::Executed {
            // It ends next; who hears of the failure finds it stopped.
            process::wait_exit(init.as_fd(), Instant::now().checked_add(DYING))?;
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

    /// Runs what follows the start of the program.
    pub(crate) fn started(&self) -> Result<()> {
        let identity = self.record.init.as_ref().ok_or_else(|| self.gone())?;
        poststart(&self.runtime, &self.record, identity)
    }
}
