//! The library's one error type: what was tried, where in the configuration, on which path, and the kernel's reason.
//!
//! `Display` is one line for engines, [`Error::report`] several lines for people. An error's text never repeats its source's:
//! the chain is joined once, here.
//!
//! Must not: log, know how callers print. Tests: at the end of this file.
//!
//! Longer than a file should be: one type with all its parts, and most lines are what callers have to know of them.

use serde::Serialize;
use serde::ser::SerializeMap;
use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

/// Shorthand for results of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, coarsely: enough to decide what to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no such container.
    NotFound,
    /// A container with this identifier exists.
    AlreadyExists,
    /// The identifier breaks the rules of [`crate::ContainerId`].
    InvalidId,
    /// `config.json`, a process file or a resources document cannot be read or breaks the specification.
    InvalidSpec,
    /// Asked for, valid, and not to be had on this host or in this version. Nothing was started.
    Unsupported,
    /// The container is in another state than the operation needs.
    WrongState,
    /// A deadline passed.
    Timeout,
    /// A file or directory outside the container could not be used.
    Io,
    /// The kernel refused a step.
    Kernel,
    /// A hook failed.
    Hook,
    /// The program could not be executed.
    Exec,
    /// The saved record of a container cannot be trusted.
    State,
    /// The caller used the interface wrongly.
    Usage,
}

/// When it went wrong: the phase of the container's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Phase {
    /// Reading the configuration.
    Load,
    /// Checking it against the specification.
    Validate,
    /// Deciding what to do.
    Plan,
    /// The state directory and record.
    State,
    /// Control groups.
    Cgroup,
    /// Namespaces and identity mappings.
    Namespaces,
    /// The root file system.
    Rootfs,
    /// Mounts.
    Mounts,
    /// Device nodes and links.
    Devices,
    /// Hooks.
    Hooks,
    /// The terminal.
    Terminal,
    /// Credentials, limits, environment.
    Process,
    /// The system call filter.
    Seccomp,
    /// Waiting at or passing the gate.
    Gate,
    /// Executing the program.
    Exec,
    /// Signals and waiting.
    Signal,
}

impl Phase {
    /// All of them, for reading one back from its word.
    pub(crate) const ALL: &[Self] = &[
        Self::Load,
        Self::Validate,
        Self::Plan,
        Self::State,
        Self::Cgroup,
        Self::Namespaces,
        Self::Rootfs,
        Self::Mounts,
        Self::Devices,
        Self::Hooks,
        Self::Terminal,
        Self::Process,
        Self::Seccomp,
        Self::Gate,
        Self::Exec,
        Self::Signal,
    ];

    /// The phase as one lower-case word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Validate => "validate",
            Self::Plan => "plan",
            Self::State => "state",
            Self::Cgroup => "cgroup",
            Self::Namespaces => "namespaces",
            Self::Rootfs => "rootfs",
            Self::Mounts => "mounts",
            Self::Devices => "devices",
            Self::Hooks => "hooks",
            Self::Terminal => "terminal",
            Self::Process => "process",
            Self::Seccomp => "seccomp",
            Self::Gate => "gate",
            Self::Exec => "exec",
            Self::Signal => "signal",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an operation of this library failed.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    phase: Option<Phase>,
    pointer: Option<String>,
    path: Option<PathBuf>,
    errno: Option<i32>,
    /// The message says the kernel's reason in words that callers rely on.
    errno_in_message: bool,
    code: &'static str,
    hint: Option<Cow<'static, str>>,
    warnings: Vec<String>,
    more: Vec<Error>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A new error. `message` is one lower-case sentence without the kernel's reason, path or pointer: those are added by the
    /// builder methods and joined by `Display`.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            phase: None,
            pointer: None,
            path: None,
            errno: None,
            errno_in_message: false,
            code: "",
            hint: None,
            warnings: Vec::new(),
            more: Vec::new(),
            source: None,
        }))
    }

    /// An error that one system call explains.
    pub fn os(message: impl Into<Cow<'static, str>>, errno: impl Into<std::io::Error>) -> Self {
        let source: std::io::Error = errno.into();
        let mut error = Self::new(ErrorKind::Io, message);
        match source.raw_os_error() {
            Some(number) => error.0.errno = Some(number),
            None => error.0.source = Some(Box::new(source)),
        }
        error
    }

    /// Sets the JSON pointer into `config.json` (RFC 6901).
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>) -> Self {
        self.0.pointer = Some(pointer.into());
        self
    }

    /// Sets the file that it is about.
    #[must_use]
    pub fn with_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.0.path = Some(path.into());
        self
    }

    /// Sets the kernel's error number.
    #[must_use]
    pub fn with_errno(mut self, errno: i32) -> Self {
        self.0.errno = Some(errno);
        self
    }

    /// Sets the kernel's error number for programs, when the message already says it in the words that callers search for.
    #[must_use]
    pub fn with_known_errno(mut self, errno: i32) -> Self {
        self.0.errno = Some(errno);
        self.0.errno_in_message = true;
        self
    }

    /// Sets what the reader can do about it: one sentence.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Sets the phase, unless an inner layer already did.
    #[must_use]
    pub fn in_phase(mut self, phase: Phase) -> Self {
        self.0.phase.get_or_insert(phase);
        self
    }

    /// Changes the kind.
    #[must_use]
    pub fn of_kind(mut self, kind: ErrorKind) -> Self {
        self.0.kind = kind;
        self
    }

    /// Sets the stable code: lower-case words joined by `-`.
    #[must_use]
    pub fn with_code(mut self, code: &'static str) -> Self {
        self.0.code = code;
        self
    }

    /// Adds the error that caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Adds a remark that is no failure by itself.
    #[must_use]
    pub fn with_warning(mut self, warning: impl Into<String>) -> Self {
        self.0.warnings.push(warning.into());
        self
    }

    /// Adds further errors of the same operation (validation reports all at once).
    #[must_use]
    pub fn with_more(mut self, more: Vec<Self>) -> Self {
        self.0.more = more;
        self
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// When it went wrong.
    #[must_use]
    pub fn phase(&self) -> Option<Phase> {
        self.0.phase
    }

    /// The place in `config.json`, as a JSON pointer.
    #[must_use]
    pub fn pointer(&self) -> Option<&str> {
        self.0.pointer.as_deref()
    }

    /// The file that it is about.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// The kernel's error number.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.0.errno
    }

    /// The kernel's error number by name: `ENOENT`.
    #[must_use]
    pub fn errno_name(&self) -> Option<&'static str> {
        self.0.errno.and_then(errno_name)
    }

    /// A stable code for programs, or `""`.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// What the reader can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// Remarks that were collected before it failed.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.0.warnings
    }

    /// Further errors of the same operation.
    #[must_use]
    pub fn more(&self) -> &[Self] {
        &self.0.more
    }

    /// Several lines for people: the sentence, then place, path, reason, hint and further errors, one a line.
    #[must_use]
    pub fn report(&self) -> String {
        let mut out = format!("error: {}", self.sentence());
        let mut line = |label: &str, text: &str| {
            out.push_str("\n  ");
            out.push_str(label);
            out.push_str(": ");
            out.push_str(&escape(text));
        };
        if let Some(pointer) = self.pointer() {
            line("at", pointer);
        }
        if let Some(path) = self.path() {
            line("path", &path.to_string_lossy());
        }
        if let Some(hint) = self.hint() {
            line("help", hint);
        }
        for warning in self.warnings() {
            line("warning", warning);
        }
        for other in self.more() {
            out.push('\n');
            out.push_str(&other.report());
        }
        out
    }

    /// The sentence with the causes and the kernel's reason, without place and hint.
    fn sentence(&self) -> String {
        let mut out = escape(&self.0.message).into_owned();
        let mut cause = self.0.source.as_deref().map(|e| e as &dyn std::error::Error);
        while let Some(error) = cause {
            out.push_str(": ");
            out.push_str(&escape(&error.to_string()));
            cause = error.source();
        }
        if let Some(errno) = self.errno().filter(|_| !self.0.errno_in_message) {
            out.push_str(": ");
            out.push_str(&errno_words(errno));
        }
        out
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(pointer) = self.pointer() {
            write!(f, "{}: ", escape(pointer))?;
        }
        f.write_str(&self.sentence())?;
        if let Some(path) = self.path() {
            let shown = path.to_string_lossy();
            if !self.0.message.contains(shown.as_ref()) {
                write!(f, " ({})", escape(&shown))?;
            }
        }
        if let Some(hint) = self.hint() {
            write!(f, "; {}", escape(hint))?;
        }
        for other in self.more() {
            write!(f, "; {other}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error").field("kind", &self.0.kind).field("text", &self.to_string()).finish()
    }
}

impl std::error::Error for Error {}

impl Serialize for Error {
    /// The machine-readable part of a log line: everything but `level`, `msg` and `time`.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(pointer) = self.pointer() {
            map.serialize_entry("pointer", pointer)?;
        }
        if let Some(path) = self.path() {
            map.serialize_entry("path", &path.to_string_lossy())?;
        }
        if let Some(errno) = self.errno() {
            match errno_name(errno) {
                Some(name) => map.serialize_entry("errno", name)?,
                None => map.serialize_entry("errno", &errno)?,
            }
        }
        if let Some(phase) = self.phase() {
            map.serialize_entry("phase", phase.as_str())?;
        }
        if !self.code().is_empty() {
            map.serialize_entry("code", self.code())?;
        }
        if let Some(hint) = self.hint() {
            map.serialize_entry("hint", hint)?;
        }
        if !self.warnings().is_empty() {
            map.serialize_entry("warnings", self.warnings())?;
        }
        if !self.more().is_empty() {
            map.serialize_entry("more", self.more())?;
        }
        map.end()
    }
}

/// Text from outside made harmless for terminals and logs: control characters, line breaks and bidirectional marks escaped.
#[must_use]
pub fn escape(text: &str) -> Cow<'_, str> {
    let hostile = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(hostile) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if hostile(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// The kernel's reason in words with its name: `operation not supported (EOPNOTSUPP)`.
///
/// ENOENT, EACCES and EPERM get words of their own: engines take "no such file or directory" and "permission denied" in an error for a
/// program that was not found or may not be executed (exit codes 127 and 126), so these words stay reserved for that.
fn errno_words(errno: i32) -> String {
    let words = match errno {
        libc::ENOENT => "it does not exist".into(),
        libc::EACCES => "access denied".into(),
        libc::EPERM => "not permitted".into(),
        _ => {
            let text = std::io::Error::from_raw_os_error(errno).to_string();
            let text = text.split(" (os error").next().unwrap_or_default().to_owned();
            let mut chars = text.chars();
            chars.next().map_or_else(String::new, |c| c.to_lowercase().chain(chars).collect())
        }
    };
    match errno_name(errno) {
        Some(name) => format!("{words} ({name})"),
        None => format!("{words} (errno {errno})"),
    }
}

macro_rules! errno_names {
    ($($name:ident)+) => {
        /// The name of an error number of this architecture.
        #[must_use]
        pub fn errno_name(errno: i32) -> Option<&'static str> {
            match errno {
                $( libc::$name => Some(stringify!($name)), )+
                _ => None,
            }
        }
    };
}
errno_names! {
    EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY EEXIST EXDEV ENODEV
    ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM ERANGE EDEADLK ENAMETOOLONG
    ENOLCK ENOSYS ENOTEMPTY ELOOP ENODATA EOVERFLOW EILSEQ EUSERS ENOTSOCK EDESTADDRREQ EMSGSIZE EPROTOTYPE ENOPROTOOPT
    EPROTONOSUPPORT EOPNOTSUPP EAFNOSUPPORT EADDRINUSE EADDRNOTAVAIL ENETDOWN ECONNABORTED ECONNRESET ENOBUFS EISCONN ENOTCONN
    ETIMEDOUT ECONNREFUSED EHOSTUNREACH EALREADY EINPROGRESS ESTALE EDQUOT ENOMEDIUM EMEDIUMTYPE ECANCELED ENOKEY EKEYEXPIRED
    EKEYREVOKED EKEYREJECTED ELIBBAD ENOPKG
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_with_everything_that_is_known() {
        let error = Error::os("open the bind source", std::io::Error::from_raw_os_error(libc::ENOENT))
            .at("/mounts/7/source")
            .with_path("/srv/da\nta")
            .with_hint("create it or drop the mount")
            .in_phase(Phase::Mounts)
            .with_code("mount-source-missing");
        assert_eq!(
            error.to_string(),
            "/mounts/7/source: open the bind source: it does not exist (ENOENT) (/srv/da\\nta); create it or drop the mount"
        );
        assert_eq!(
            serde_json::to_string(&error).unwrap(),
            r#"{"pointer":"/mounts/7/source","path":"/srv/da\nta","errno":"ENOENT","phase":"mounts","code":"mount-source-missing","hint":"create it or drop the mount"}"#
        );
        assert!(error.report().contains("\n  path: /srv/da\\nta"));
    }

    #[test]
    fn words_that_engines_search_for_are_not_used_by_accident() {
        for errno in [libc::ENOENT, libc::EACCES, libc::EPERM] {
            let text = Error::os("open a file", std::io::Error::from_raw_os_error(errno)).to_string();
            for reserved in ["permission denied", "operation not permitted", "no such file", "not found"] {
                assert!(!text.to_lowercase().contains(reserved), "{text}");
            }
        }
    }

    #[test]
    fn causes_are_joined_once() {
        let inner = Error::new(ErrorKind::Io, "read the record");
        let error = Error::new(ErrorKind::State, "open container web").with_source(inner);
        assert_eq!(error.to_string(), "open container web: read the record");
    }
}
