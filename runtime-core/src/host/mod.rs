//! Answers about the machine, as one value.
//!
//! A plan asks nothing but this value, so that with written-down [`Facts`] one can plan for another machine, and a golden test needs no
//! privileges. [`Facts::probe`] asks the cheap questions; what is expensive is asked where it is needed.
//!
//! Must not: change the machine. Tests: at the end of this file; golden plans read `facts.json`.

mod lsm;

pub use lsm::SecurityModules;

use crate::cgroup::Layout;
use crate::error::{Error, Phase, Result};
use rustix::process::{getegid, geteuid};
use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

/// What a plan has to know about the machine and about who we are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Facts {
    /// Release of the running kernel: major and minor number.
    pub kernel: (u32, u32),
    /// Machine as uname(2) says it: `x86_64`, `aarch64`.
    pub machine: String,
    /// Effective user id of the runtime.
    pub uid: u32,
    /// Effective group id of the runtime.
    pub gid: u32,
    /// Whether the runtime holds CAP_SYS_ADMIN: it can clone mount trees, join namespaces and use cgroups itself.
    pub admin: bool,
    /// The runtime's permitted capabilities: without a user namespace of its own a container cannot get more.
    pub capabilities: u64,
    /// Whether the runtime is in the initial user namespace: only there device nodes can be made.
    pub initial_user_namespace: bool,
    /// Where the cgroup hierarchies are and what they can do.
    pub cgroup: Layout,
    /// Enabled security modules; absent: asked when a label is asked for. Facts that are written down without them have none.
    #[serde(default = "no_modules")]
    pub security_modules: Option<SecurityModules>,
}

fn no_modules() -> Option<SecurityModules> {
    Some(SecurityModules::default())
}

impl Facts {
    /// Asks this machine. Does not block.
    ///
    /// # Errors
    /// When `/proc` is not mounted or cannot be read, or the kernel is older than 5.10.
    pub fn probe() -> Result<Self> {
        let uname = rustix::system::uname();
        let kernel = release(&uname.release().to_string_lossy());
        if kernel < (5, 10) {
            return Err(Error::new(
                crate::ErrorKind::Unsupported,
                format!("the kernel is {}.{}, and coracle needs Linux 5.10 or newer", kernel.0, kernel.1),
            )
            .with_code("kernel-too-old")
            .in_phase(Phase::Plan));
        }
        let caps = rustix::thread::capabilities(None)
            .map_err(|e| Error::os("read the runtime's capabilities", e).in_phase(Phase::Plan))?;
        Ok(Self {
            kernel,
            machine: uname.machine().to_string_lossy().into_owned(),
            uid: geteuid().as_raw(),
            gid: getegid().as_raw(),
            admin: caps.effective.contains(CapabilitySet::SYS_ADMIN),
            capabilities: caps.permitted.bits(),
            initial_user_namespace: in_initial_user_namespace()?,
            security_modules: None,
            cgroup: Layout::probe().map_err(|e| {
                Error::new(crate::ErrorKind::Io, "look at the cgroup hierarchies")
                    .with_source(e)
                    .in_phase(Phase::Cgroup)
            })?,
        })
    }

    /// Enabled security modules.
    ///
    /// # Errors
    /// Those of [`SecurityModules::probe`].
    pub fn security_modules(&self) -> Result<SecurityModules> {
        self.security_modules.map_or_else(SecurityModules::probe, Ok)
    }

    /// Whether containers need a user namespace of their own here.
    #[must_use]
    pub fn rootless(&self) -> bool {
        !self.admin
    }
}

/// Our permitted capabilities.
///
/// # Errors
/// When the kernel does not say.
pub(crate) fn permitted() -> Result<u64> {
    rustix::thread::capabilities(None)
        .map(|sets| sets.permitted.bits())
        .map_err(|e| Error::os("read the runtime's capabilities", e).in_phase(Phase::Plan))
}

/// The initial user namespace has a fixed inode number (`PROC_USER_INIT_INO`, include/linux/proc_ns.h).
fn in_initial_user_namespace() -> Result<bool> {
    let stat = rustix::fs::stat("/proc/self/ns/user").map_err(|e| {
        Error::os("look at the runtime's user namespace", e)
            .with_path("/proc/self/ns/user")
            .with_hint("coracle needs /proc")
            .in_phase(Phase::Plan)
    })?;
    Ok(stat.st_ino == 0xEFFF_FFFD)
}

/// Major and minor number of a release text such as `6.18.44-cloud`.
fn release(text: &str) -> (u32, u32) {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_two_numbers() {
        assert_eq!(release("6.18.44"), (6, 18));
        assert_eq!(release("5.10.0-rc3+"), (5, 10));
        assert_eq!(release("odd"), (0, 0));
    }

    #[test]
    fn this_machine_can_be_asked_and_written_down() {
        let facts = Facts::probe().unwrap();
        assert_eq!(facts.uid, geteuid().as_raw());
        let text = serde_json::to_string(&facts).unwrap();
        assert_eq!(serde_json::from_str::<Facts>(&text).unwrap(), facts);
    }
}
