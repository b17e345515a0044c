//! Standard streams of a process.
//!
//! Must not: touch the caller's. Tests: `tests/embed`, `tests` package, terminal.

use crate::error::{Error, ErrorKind, Phase, Result};
use crate::launch::channel::send_descriptor;
use coracle_init::program::Slot;
use rustix::fs::{Mode, OFlags, fstat, fstatfs, open};
use rustix::pipe::{PipeFlags, pipe_with};
use std::os::fd::{AsFd, OwnedFd};

/// Where a process's standard streams come from.
#[derive(Debug, Default)]
#[non_exhaustive]
pub enum Stdio {
    /// The caller's descriptors 0, 1 and 2, as they are.
    #[default]
    Inherit,
    /// The null device.
    Null,
    /// New pipes, whose other ends are in [`Io`].
    Pipes,
    /// These descriptors: standard input, output, error.
    Fds(OwnedFd, OwnedFd, OwnedFd),
    /// The terminal's master is sent over this connected socket (`SOCK_STREAM`), as runc's `--console-socket` has it.
    ConsoleSocket(OwnedFd),
    /// The terminal's master is in [`Io`].
    Pty,
}

/// The caller's ends of a process's standard streams.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Io {
    /// Writes to standard input.
    pub stdin: Option<OwnedFd>,
    /// Reads standard output.
    pub stdout: Option<OwnedFd>,
    /// Reads standard error.
    pub stderr: Option<OwnedFd>,
    /// The terminal's master. What is read from it comes from the container and is hostile.
    pub pty: Option<OwnedFd>,
}

/// Descriptors for the child, and what is left for the caller.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    pub(crate) child: Option<[OwnedFd; 3]>,
    pub(crate) io: Io,
    console: Option<OwnedFd>,
    pty: bool,
}

impl Stdio {
    /// Whether the child gets three descriptors of its own.
    pub(crate) fn is_three(&self) -> bool {
        matches!(self, Self::Null | Self::Pipes | Self::Fds(..))
    }

    /// Whether it takes a terminal.
    fn is_terminal(&self) -> bool {
        matches!(self, Self::ConsoleSocket(_) | Self::Pty)
    }

    /// Refuses what does not fit `process.terminal`.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`].
    pub(crate) fn check(&self, terminal: bool) -> Result<()> {
        match (terminal, self.is_terminal()) {
            (true, false) => Err(Error::new(
                ErrorKind::Usage,
                "the process wants a terminal, and there is nobody to give it to",
            )
            .at("/process/terminal")
            .in_phase(Phase::Terminal)
            .with_code("terminal-without-receiver")
            .with_hint("pass a console socket, or set process.terminal to false")),
            (false, true) => Err(Error::new(
                ErrorKind::Usage,
                "a console socket was given, and the process wants no terminal",
            )
            .at("/process/terminal")
            .in_phase(Phase::Terminal)
            .with_code("receiver-without-terminal")),
            _ => Ok(()),
        }
    }

    /// Opens what is to be opened.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub(crate) fn open(self) -> Result<Streams> {
        let broken = |e: rustix::io::Errno| Error::os("open standard streams", e).in_phase(Phase::Process);
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(broken);
        Ok(match self {
            Self::Inherit => Streams::default(),
            Self::Null => {
                let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())
                    .map_err(broken)?;
                let copy = || null.try_clone().map_err(|e| Error::os("open standard streams", e));
                Streams { child: Some([copy()?, copy()?, copy()?]), ..Streams::default() }
            }
            Self::Pipes => {
                let ((stdin, to), (from, stdout), (from_error, stderr)) = (pipe()?, pipe()?, pipe()?);
                let io = Io { stdin: Some(to), stdout: Some(from), stderr: Some(from_error), pty: None };
                Streams { child: Some([stdin, stdout, stderr]), io, ..Streams::default() }
            }
            Self::Fds(stdin, stdout, stderr) => {
                Streams { child: Some([stdin, stdout, stderr]), ..Streams::default() }
            }
            Self::ConsoleSocket(socket) => Streams { console: Some(socket), ..Streams::default() },
            Self::Pty => Streams { pty: true, ..Streams::default() },
        })
    }
}

impl Streams {
    /// Descriptors for the child by slot.
    pub(crate) fn take(&mut self, slots: Option<[Slot; 3]>) -> Vec<(Slot, OwnedFd)> {
        match (slots, self.child.take()) {
            (Some(slots), Some(fds)) => slots.into_iter().zip(fds).collect(),
            _ => Vec::new(),
        }
    }

    /// Copies of the child's descriptors by slot, for one of several attempts.
    ///
    /// # Errors
    /// [`ErrorKind::Io`]: no descriptors left.
    pub(crate) fn lend(&self, slots: Option<[Slot; 3]>) -> Result<Vec<(Slot, OwnedFd)>> {
        let copy = |(slot, fd): (Slot, &OwnedFd)| fd.try_clone().map(|copy| (slot, copy));
        slots
            .into_iter()
            .flatten()
            .zip(self.child.iter().flatten())
            .map(copy)
            .collect::<std::io::Result<_>>()
            .map_err(|e| Error::os("open standard streams", e).in_phase(Phase::Process))
    }

    /// Hands the terminal's master on, after looking at what it is.
    ///
    /// # Errors
    /// [`ErrorKind::Kernel`] when it is no master; [`ErrorKind::Io`] when it cannot be sent.
    pub(crate) fn deliver(&mut self, master: Option<OwnedFd>) -> Result<()> {
        let Some(master) = master else { return Ok(()) };
        check_master(&master)?;
        if let Some(socket) = self.console.take() {
            send_descriptor(socket.as_fd(), b"/dev/ptmx", master.as_fd()).map_err(|e| {
                Error::os("send the terminal to the console socket", e).in_phase(Phase::Terminal)
            })?;
        } else if self.pty {
            self.io.pty = Some(master);
        }
        Ok(())
    }
}

/// `DEVPTS_SUPER_MAGIC`.
const DEVPTS: u64 = 0x1cd1;

fn check_master(fd: &OwnedFd) -> Result<()> {
    let odd = || {
        Error::new(ErrorKind::Kernel, "the descriptor from the container's init is no terminal")
            .in_phase(Phase::Terminal)
            .with_code("terminal-odd")
    };
    let stat = fstat(fd).map_err(|_| odd())?;
    let fs = fstatfs(fd).map_err(|_| odd())?;
    let character =
        rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::CharacterDevice;
    if character && u64::try_from(fs.f_type) == Ok(DEVPTS) && stat.st_rdev == rustix::fs::makedev(5, 2) {
        Ok(())
    } else {
        Err(odd())
    }
}
