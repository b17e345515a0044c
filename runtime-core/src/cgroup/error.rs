//! What goes wrong with cgroups, as values: refusals of the pure half, failed calls of the other.
//!
//! Must not: decide how an error is shown beyond its one line, or know the library's own error type.
//! Tests: beside the code that makes them.

use std::fmt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// Something the configuration asks for that cannot be had on the host that was planned for.
///
/// Found without side effects; the pointer names the line of `config.json` that asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// JSON pointer into `config.json`.
    pub pointer: String,
    /// One sentence, lower case, no full stop.
    pub reason: String,
}

impl Refusal {
    pub(crate) fn new(pointer: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), reason: reason.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.pointer, self.reason)
    }
}

impl std::error::Error for Refusal {}

/// A call on a cgroup that did not do what it was asked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupError {
    /// The system call, or `check` where the call worked and what it showed is the error.
    pub call: &'static str,
    /// File or directory, as the host sees it.
    pub path: PathBuf,
    /// Error number of the call; none for `check`.
    pub errno: Option<i32>,
    /// JSON pointer of the line that asked for it, where one did.
    pub pointer: Option<String>,
    /// What the number alone does not say.
    pub note: Option<String>,
}

impl CgroupError {
    pub(crate) fn call(call: &'static str, path: impl AsRef<Path>, errno: Errno) -> Self {
        Self {
            call,
            path: path.as_ref().to_path_buf(),
            errno: Some(errno.raw_os_error()),
            pointer: None,
            note: None,
        }
    }

    pub(crate) fn check(path: impl AsRef<Path>, note: impl Into<String>) -> Self {
        Self {
            call: "check",
            path: path.as_ref().to_path_buf(),
            errno: None,
            pointer: None,
            note: Some(note.into()),
        }
    }

    pub(crate) fn at(mut self, pointer: &str) -> Self {
        self.pointer = Some(pointer.to_owned());
        self
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    pub(crate) fn is(&self, errno: Errno) -> bool {
        self.errno == Some(errno.raw_os_error())
    }

    /// The file or directory is not there, or went away while it was open.
    pub(crate) fn is_gone(&self) -> bool {
        self.is(Errno::NOENT) || self.is(Errno::NODEV)
    }
}

impl fmt::Display for CgroupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(pointer) = &self.pointer {
            write!(f, "{pointer}: ")?;
        }
        match (self.errno, &self.note) {
            (Some(errno), note) => {
                let text = std::io::Error::from_raw_os_error(errno);
                write!(f, "{} {}: {text}", self.call, self.path.display())?;
                note.as_ref().map_or(Ok(()), |note| write!(f, "; {note}"))
            }
            (None, Some(note)) => write!(f, "{}: {note}", self.path.display()),
            (None, None) => write!(f, "{} {}", self.call, self.path.display()),
        }
    }
}

impl std::error::Error for CgroupError {}

impl From<CgroupError> for crate::Error {
    fn from(error: CgroupError) -> Self {
        let text = match &error.note {
            Some(note) if error.errno.is_none() => note.clone(),
            Some(note) => format!("{} a cgroup file, {note}", error.call),
            None => format!("{} a cgroup file", error.call),
        };
        let mut out = Self::new(crate::ErrorKind::Kernel, text)
            .with_path(error.path)
            .with_code("cgroup")
            .in_phase(crate::Phase::Cgroup);
        if let Some(pointer) = error.pointer {
            out = out.at(pointer);
        }
        match error.errno {
            Some(errno) => out.with_errno(errno),
            None => out,
        }
    }
}

/// Result of an operation on a cgroup.
pub type Result<T, E = CgroupError> = std::result::Result<T, E>;
