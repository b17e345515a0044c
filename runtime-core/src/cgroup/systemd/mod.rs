//! systemd makes the container's cgroup: a scope with the container's limits as its properties.
//!
//! A scope cannot be empty, so it is started around a process that only waits (`launch::placeholder`); the container's init is born into the
//! scope's cgroup like into any other, and the placeholder ends. From then on the cgroup is ours to write (`Delegate=yes`), and systemd
//! knows the same limits as the files, so that nothing changes when it reloads its configuration.
//! Must not: wait without a deadline. Tests: beside the code; `tests/systemd` in a machine with systemd.

pub(crate) mod annotation;
mod bus;
#[cfg(test)]
mod tests;
mod unit;
/// For the fuzz target.
#[doc(hidden)]
pub mod wire;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::error::{CgroupError, Result};
use super::resources::Write;
use bus::{Answer, Bus, Refused};
pub(crate) use unit::Scope;
pub(crate) use unit::limits;
pub(crate) use wire::Property;
use wire::{Argument, Value};

/// The bus of the machine.
pub(crate) const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";
/// How long systemd may take for all of one command's requests.
const PATIENCE: Duration = Duration::from_secs(30);

const SYSTEMD: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// A unit that was started for a container; part of its record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UnitRecord {
    /// Its name.
    pub(crate) name: String,
    /// Socket of the bus on which its manager is.
    pub(crate) bus: PathBuf,
}

impl UnitRecord {
    /// Starts the scope with these limits around the process `pid`, and returns when that is in it.
    ///
    /// # Errors
    /// systemd does not answer, or says why it cannot be; nothing of it is left then.
    pub(crate) fn start(
        &self,
        slice: &str,
        description: &str,
        pid: i32,
        writes: &[Write],
        more: &[Property],
    ) -> Result<()> {
        let mut properties = vec![
            ("Description".to_owned(), Value::Text(description.to_owned())),
            ("Slice".to_owned(), Value::Text(slice.to_owned())),
            ("Delegate".to_owned(), Value::Flag(true)),
            ("DefaultDependencies".to_owned(), Value::Flag(false)),
            ("PIDs".to_owned(), Value::Numbers(u32::try_from(pid).into_iter().collect())),
        ];
        for name in ["CPUAccounting", "IOAccounting", "MemoryAccounting", "TasksAccounting"] {
            properties.push((name.to_owned(), Value::Flag(true)));
        }
        properties.extend(limits(writes));
        properties.extend(more.iter().cloned());
        let mut systemd = Systemd::connect(&self.bus)?;
        systemd.expect_jobs()?;
        let mut answer = systemd.start(&self.name, &properties)?;
        if let Err(refused) = &answer {
            if refused.name == "org.freedesktop.systemd1.UnitExists" {
                // What a failed one left; a living one stays, and is told of.
                drop(systemd.simple("ResetFailedUnit", &self.name)?);
                answer = systemd.start(&self.name, &properties)?;
            }
        }
        let job = answer.map_err(|refused| self.refused("start", &refused))?.into_iter().next();
        match systemd.finished(&job.unwrap_or_default())?.as_str() {
            "done" => Ok(()),
            result => {
                let note = format!("systemd could not start {}: the job ended as {result:?}", self.name);
                drop(systemd.simple("ResetFailedUnit", &self.name));
                Err(CgroupError::check(&self.bus, note))
            }
        }
    }

    /// Tells systemd of new limits, until the unit ends.
    ///
    /// # Errors
    /// As [`UnitRecord::start`].
    pub(crate) fn set(&self, writes: &[Write]) -> Result<()> {
        let mut properties = limits(writes);
        // Read-only once the unit is there (systemd 257).
        properties.retain(|(name, _)| name != "OOMPolicy");
        if properties.is_empty() {
            return Ok(());
        }
        let arguments = [Argument::Text(&self.name), Argument::Flag(true), Argument::Properties(&properties)];
        let mut systemd = Systemd::connect(&self.bus)?;
        systemd.call("SetUnitProperties", &arguments)?.map_err(|refused| self.refused("change", &refused))?;
        // It answers before it has written its files (257), and does not look at the next call until it has.
        drop(systemd.simple("GetUnit", &self.name)?);
        Ok(())
    }

    /// Stops the unit, with everything that is in it, and has systemd forget it. One that is gone is no error.
    ///
    /// # Errors
    /// As [`UnitRecord::start`].
    pub(crate) fn stop(&self) -> Result<()> {
        let mut systemd = Systemd::connect(&self.bus)?;
        systemd.expect_jobs()?;
        // Whatever is in it has been killed; what a killed runtime left is not worth waiting for.
        let kill = [Argument::Text(&self.name), Argument::Text("all"), Argument::Signed(libc::SIGKILL)];
        drop(systemd.call("KillUnit", &kill)?);
        let stop = [Argument::Text(&self.name), Argument::Text("replace")];
        match systemd.call("StopUnit", &stop)? {
            Ok(answer) => drop(systemd.finished(&answer.into_iter().next().unwrap_or_default())?),
            Err(refused) if refused.name.ends_with(".NoSuchUnit") => return Ok(()),
            Err(refused) => return Err(self.refused("stop", &refused)),
        }
        // Not there any more unless it had failed.
        drop(systemd.simple("ResetFailedUnit", &self.name)?);
        Ok(())
    }

    fn refused(&self, what: &str, refused: &Refused) -> CgroupError {
        let Refused { name, words } = refused;
        CgroupError::check(&self.bus, format!("systemd does not {what} {}: {words} ({name})", self.name))
    }
}

/// A connection to systemd.
struct Systemd(Bus);

impl Systemd {
    fn connect(path: &Path) -> Result<Self> {
        let deadline = Instant::now().checked_add(PATIENCE).unwrap_or_else(Instant::now);
        Bus::connect(path, deadline).map(Self)
    }

    fn call(&mut self, member: &str, arguments: &[Argument<'_>]) -> Result<Answer> {
        self.0.call(SYSTEMD, OBJECT, MANAGER, member, arguments)
    }

    fn simple(&mut self, member: &str, unit: &str) -> Result<Answer> {
        self.call(member, &[Argument::Text(unit)])
    }

    fn start(&mut self, name: &str, properties: &[Property]) -> Result<Answer> {
        let arguments = [
            Argument::Text(name),
            Argument::Text("replace"),
            Argument::Properties(properties),
            Argument::NoUnits,
        ];
        self.call("StartTransientUnit", &arguments)
    }

    /// Before the call that makes the job: it may end at once.
    fn expect_jobs(&mut self) -> Result<()> {
        const RULE: &str = "type='signal',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'";
        for answer in [self.0.listen(RULE)?, self.call("Subscribe", &[])?] {
            if let Err(refused) = answer {
                return Err(CgroupError::check(
                    "systemd",
                    format!("systemd tells us nothing: {}", refused.words),
                ));
            }
        }
        Ok(())
    }

    /// Waits until a job has ended: how it did.
    fn finished(&mut self, job: &str) -> Result<String> {
        loop {
            let signal = self.0.signal()?;
            // The number, the path, the unit, the result.
            if let ("JobRemoved", [_, path, _, result]) =
                (signal.member.as_str(), signal.arguments.as_slice())
            {
                if path == job {
                    return Ok(result.clone());
                }
            }
        }
    }
}
