//! A process that only waits, so that something that must not be empty can be made around it.
//!
//! Must not: outlive this value, or its maker. Tests: `tests/systemd`.

use super::session::{Session, Setting};
use crate::error::{Error, Phase, Result};
use crate::observe::Watch;
use crate::plan::script::Script;
use coracle_init::program::Step;

/// The process; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Placeholder(Session);

impl Placeholder {
    /// Makes it and waits until it waits.
    ///
    /// # Errors
    /// The kernel's reasons for not making a process.
    pub(crate) fn begin(watch: &Watch<'_>) -> Result<Self> {
        let mut script = Script::new();
        script.step("", Phase::Cgroup, Step::NonDumpable);
        script.step("", Phase::Cgroup, Step::ParentDeathSignal { signal: libc::SIGKILL });
        script.step("", Phase::Cgroup, Step::Hold);
        let mut session = Session::begin(script, Setting::default(), watch)?;
        session.until_waiting(&mut |_| Ok(()), &mut |_, _| Ok(()))?;
        Ok(Self(session))
    }

    /// Its pid; nobody else can have the number before it is dropped.
    pub(crate) fn pid(&self) -> i32 {
        self.0.identity().pid
    }

    /// The version 2 cgroup that it is in, as this process sees it.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn cgroup(&self) -> Result<String> {
        let path = format!("/proc/{}/cgroup", self.pid());
        let text = std::fs::read_to_string(&path)
            .map_err(|e| Error::os("find the cgroup that systemd made", e).with_path(&path))?;
        Ok(text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/").to_owned())
    }
}
