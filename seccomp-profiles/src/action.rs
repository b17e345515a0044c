//! What a filter answers.
//!
//! Must not: know of policies or programs. Tests: below.

use std::fmt;

/// What the kernel does with a call (`SECCOMP_RET_*`, `SCMP_ACT_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// The process dies by SIGSYS.
    KillProcess,
    /// The thread dies; with other threads left the process lives on.
    KillThread,
    /// The thread gets SIGSYS, the call is not made.
    Trap,
    /// The call is not made and answers this errno (at most 4095).
    Errno(u16),
    /// A tracer is told, with this number; without one the call answers ENOSYS.
    Trace(u16),
    /// The call is made and logged.
    Log,
    /// The call is made.
    Allow,
    /// The listener of the filter decides.
    Notify,
}

/// Why an action of a configuration is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ActionError {
    /// No action has this name.
    UnknownName,
    /// `errnoRet` with an action that returns none; the specification demands an error.
    TakesNoErrno,
    /// `errnoRet` above the largest the kernel would pass on (this value).
    TooLarge(u16),
}

impl fmt::Display for ActionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownName => f.write_str("unknown seccomp action"),
            Self::TakesNoErrno => f.write_str("action takes no errno"),
            Self::TooLarge(most) => write!(f, "errno is above {most}"),
        }
    }
}

impl std::error::Error for ActionError {}

const EPERM: u32 = 1;
pub(crate) const ENOSYS: u16 = 38;
/// The kernel's `MAX_ERRNO`; it would clamp a larger one.
const MAX_ERRNO: u16 = 4095;

impl Action {
    /// The names of the specification, in its order, as `features` prints them.
    pub const NAMES: [&'static str; 9] = [
        "SCMP_ACT_KILL",
        "SCMP_ACT_KILL_PROCESS",
        "SCMP_ACT_KILL_THREAD",
        "SCMP_ACT_TRAP",
        "SCMP_ACT_ERRNO",
        "SCMP_ACT_TRACE",
        "SCMP_ACT_ALLOW",
        "SCMP_ACT_LOG",
        "SCMP_ACT_NOTIFY",
    ];

    /// The action of a name like `SCMP_ACT_ERRNO` and of `errnoRet` (`defaultErrnoRet`), EPERM when that is absent.
    ///
    /// # Errors
    /// An unknown name; a number with an action that takes none; a number above 4095 (errno) or 65535 (trace).
    pub fn from_name(name: &str, errno: Option<u32>) -> Result<Self, ActionError> {
        let below = |most: u16| {
            u16::try_from(errno.unwrap_or(EPERM))
                .ok()
                .filter(|&n| n <= most)
                .ok_or(ActionError::TooLarge(most))
        };
        let plain = match name {
            "SCMP_ACT_ERRNO" => return below(MAX_ERRNO).map(Self::Errno),
            "SCMP_ACT_TRACE" => return below(u16::MAX).map(Self::Trace),
            // Its old name: until Linux 4.14 a thread was all that a filter could kill.
            "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Self::KillThread,
            "SCMP_ACT_KILL_PROCESS" => Self::KillProcess,
            "SCMP_ACT_TRAP" => Self::Trap,
            "SCMP_ACT_ALLOW" => Self::Allow,
            "SCMP_ACT_LOG" => Self::Log,
            "SCMP_ACT_NOTIFY" => Self::Notify,
            _ => return Err(ActionError::UnknownName),
        };
        match errno {
            None => Ok(plain),
            Some(_) => Err(ActionError::TakesNoErrno),
        }
    }

    /// The value a filter returns for it (`linux/seccomp.h`).
    pub const fn value(self) -> u32 {
        match self {
            Self::KillProcess => 0x8000_0000,
            Self::KillThread => 0,
            Self::Trap => 0x0003_0000,
            Self::Errno(errno) => 0x0005_0000 | errno as u32,
            Self::Notify => 0x7fc0_0000,
            Self::Trace(number) => 0x7ff0_0000 | number as u32,
            Self::Log => 0x7ffc_0000,
            Self::Allow => 0x7fff_0000,
        }
    }

    /// What the kernel understands by a returned value; what it does not know kills the process.
    pub const fn from_value(value: u32) -> Self {
        let data = (value & 0xffff) as u16;
        match value & 0xffff_0000 {
            0 => Self::KillThread,
            0x0003_0000 => Self::Trap,
            0x0005_0000 if data > MAX_ERRNO => Self::Errno(MAX_ERRNO),
            0x0005_0000 => Self::Errno(data),
            0x7fc0_0000 => Self::Notify,
            0x7ff0_0000 => Self::Trace(data),
            0x7ffc_0000 => Self::Log,
            0x7fff_0000 => Self::Allow,
            _ => Self::KillProcess,
        }
    }

    /// Whether the kernel makes the call without asking anyone.
    pub const fn permits(self) -> bool {
        matches!(self, Self::Allow | Self::Log)
    }

    /// Whether a policy with this default lets unknown calls through (or leaves them to a tracer, which must cope with
    /// new ones), so that answering ENOSYS to them would only break things. runc's rule.
    pub(crate) const fn is_permissive_default(self) -> bool {
        matches!(self, Self::Allow | Self::Log | Self::Trace(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_an_action() {
        for name in Action::NAMES {
            assert!(Action::from_name(name, None).is_ok(), "{name}");
        }
        assert_eq!(Action::from_name("SCMP_ACT_KILL", None), Ok(Action::KillThread));
        assert_eq!(Action::from_name("ALLOW", None), Err(ActionError::UnknownName));
    }

    #[test]
    fn errno_default_and_range() {
        assert_eq!(Action::from_name("SCMP_ACT_ERRNO", None), Ok(Action::Errno(1)));
        assert_eq!(Action::from_name("SCMP_ACT_TRACE", None), Ok(Action::Trace(1)));
        assert_eq!(Action::from_name("SCMP_ACT_ERRNO", Some(0)), Ok(Action::Errno(0)));
        assert_eq!(Action::from_name("SCMP_ACT_ERRNO", Some(4095)), Ok(Action::Errno(4095)));
        assert_eq!(Action::from_name("SCMP_ACT_ERRNO", Some(4096)), Err(ActionError::TooLarge(4095)));
        assert_eq!(Action::from_name("SCMP_ACT_TRACE", Some(65535)), Ok(Action::Trace(65535)));
        assert_eq!(Action::from_name("SCMP_ACT_TRACE", Some(65536)), Err(ActionError::TooLarge(65535)));
        assert_eq!(Action::from_name("SCMP_ACT_ERRNO", Some(u32::MAX)), Err(ActionError::TooLarge(4095)));
    }

    #[test]
    fn errno_with_an_action_that_takes_none() {
        for name in Action::NAMES {
            let takes = matches!(name, "SCMP_ACT_ERRNO" | "SCMP_ACT_TRACE");
            assert_eq!(Action::from_name(name, Some(1)) == Err(ActionError::TakesNoErrno), !takes, "{name}");
        }
    }

    #[test]
    fn values_read_back() {
        for name in Action::NAMES {
            let action = Action::from_name(name, None).unwrap();
            assert_eq!(Action::from_value(action.value()), action);
        }
        assert_eq!(Action::from_value(0x1234_0000), Action::KillProcess);
        assert_eq!(Action::from_value(0x0005_ffff), Action::Errno(4095));
    }
}
