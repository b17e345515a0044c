//! Readiness (sd_notify(3)): what the program says on the container's own socket goes on to the service manager behind `NOTIFY_SOCKET`.
//!
//! Only `READY=1` goes on, with the process to watch: the rest could make the manager do things to the caller's service that a container
//! has no say in. Must not: wait longer than the container lives, or than [`PATIENCE`] for the manager.
//! Tests: at the end of the file, and with containers in the `tests` package, readiness.

use std::ffi::OsStr;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use coracle::{Container, Error, Phase};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, connect, sendmsg, socket_with,
};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::args::usage;
use crate::socket;

/// How long the service manager may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest notification: what a service manager reads of one.
const LONGEST: usize = 4096;

/// Where `NOTIFY_SOCKET` leads.
#[derive(Debug, PartialEq, Eq)]
enum Address<'a> {
    Path(&'a Path),
    Abstract(&'a [u8]),
}

/// The service manager, connected.
#[derive(Debug)]
pub struct Listener(OwnedFd);

/// Whether there is a service manager that wants to know.
///
/// # Errors
/// `NOTIFY_SOCKET` is no address of a socket.
pub fn wanted() -> Result<bool, Error> {
    let Some(value) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(false) };
    address(&value).map(|address| address.is_some())
}

/// The address in `value`; none when it is empty.
fn address(value: &OsStr) -> Result<Option<Address<'_>>, Error> {
    match value.as_bytes() {
        [] => Ok(None),
        [b'/', ..] => Ok(Some(Address::Path(Path::new(value)))),
        [b'@', name @ ..] if !name.is_empty() => Ok(Some(Address::Abstract(name))),
        _ => Err(usage(format!(
            "NOTIFY_SOCKET is neither an absolute path nor the name of an abstract socket (@NAME): {:?}",
            value.to_string_lossy()
        ))
        .with_code("notify-socket")),
    }
}

impl Listener {
    /// Connects to the service manager of the environment, before anything is started that it should hear of.
    ///
    /// # Errors
    /// `NOTIFY_SOCKET` is no address of a socket, or nobody listens there.
    pub fn connect() -> Result<Option<Self>, Error> {
        let Some(value) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(None) };
        let Some(address) = address(&value)? else { return Ok(None) };
        let connected = match address {
            Address::Path(path) => socket::try_connect(path, SocketType::DGRAM),
            Address::Abstract(name) => abstract_socket(name),
        };
        let patient = connected.and_then(|socket| {
            set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
            Ok(Self(socket))
        });
        patient.map(Some).map_err(|errno| {
            Error::os("connect to NOTIFY_SOCKET", errno)
                .with_path(Path::new(&value))
                .with_code("notify-socket")
        })
    }

    /// Says that the service is ready, and which process is its main one.
    ///
    /// # Errors
    /// When the manager does not take it.
    pub fn ready(&self, pid: i32) -> Result<(), Error> {
        self.send(format!("READY=1\nMAINPID={pid}\n").as_bytes(), None)
    }

    /// Waits until the manager has read what was said: it looks at who said it, who has to be there still. One that does not know
    /// barriers is not waited for longer than [`PATIENCE`].
    ///
    /// # Errors
    /// When it does not take the question.
    pub fn barrier(&self) -> Result<(), Error> {
        let failed = |errno| Error::os("wait for the service manager", errno).with_code("notify-socket");
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
        self.send(b"BARRIER=1", Some(theirs.as_fd()))?;
        drop(theirs);
        let time = Timespec { tv_sec: i64::try_from(PATIENCE.as_secs()).unwrap_or(i64::MAX), tv_nsec: 0 };
        match poll(&mut [PollFd::new(&ours, PollFlags::IN)], Some(&time)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(failed(errno)),
        }
    }

    fn send(&self, text: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<(), Error> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds: Vec<_> = fd.into_iter().collect();
        if !fds.is_empty() {
            let fits = control.push(SendAncillaryMessage::ScmRights(&fds));
            debug_assert!(fits, "the space is for one descriptor");
        }
        sendmsg(&self.0, &[IoSlice::new(text)], &mut control, SendFlags::NOSIGNAL).map(|_| ()).map_err(
            |errno| {
                Error::os("tell the service manager that the container is ready", errno)
                    .with_code("notify-socket")
            },
        )
    }
}

fn abstract_socket(name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    connect(&socket, &SocketAddrUnix::new_abstract_name(name)?)?;
    Ok(socket)
}

/// Waits until the program of `container` says on `socket` that it is ready, and tells the manager. Without a word when it ends before.
///
/// # Errors
/// When it cannot be waited for, or the manager not be told.
pub fn until_ready(manager: &Listener, socket: &OwnedFd, container: &Container) -> Result<(), Error> {
    let tell = || {
        manager.ready(container.init_pid().unwrap_or_default())?;
        manager.barrier()
    };
    let Some(ended) = container.pidfd()? else { return Ok(()) };
    loop {
        let mut set = [PollFd::new(socket, PollFlags::IN), PollFd::new(&ended, PollFlags::IN)];
        match poll(&mut set, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => {
                let failed = Error::os("wait until the container is ready", errno);
                return Err(failed.in_phase(Phase::Exec));
            }
        }
        // What it said last is read even when it has ended.
        let over = !set[1].revents().is_empty();
        if says_ready(socket.as_fd()) {
            return tell();
        }
        if over {
            return Ok(());
        }
    }
}

/// Reads what is there: whether the program says that it is ready. Descriptors that came along are closed, which is all that its own
/// barriers ask for.
pub fn says_ready(socket: BorrowedFd<'_>) -> bool {
    let mut buffer = [0; LONGEST];
    let mut ready = false;
    while let Ok(count) = read(socket, &mut buffer) {
        ready |= is_ready(buffer.get(..count).unwrap_or_default());
    }
    ready
}

/// One variable a line (sd_notify(3)).
fn is_ready(text: &[u8]) -> bool {
    text.split(|byte| *byte == b'\n').any(|line| line == b"READY=1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let read = |text: &'static str| address(OsStr::new(text));
        assert_eq!(read("").expect("none"), None);
        assert_eq!(read("/run/n").expect("a path"), Some(Address::Path(Path::new("/run/n"))));
        assert_eq!(read("@a/b").expect("a name"), Some(Address::Abstract(b"a/b")));
        for text in ["@", "run/n", " /run/n", "vsock:2:3", "\0"] {
            let error = read(text).expect_err(text);
            assert_eq!(error.kind(), coracle::ErrorKind::Usage, "{text}");
            assert!(error.to_string().contains("NOTIFY_SOCKET"), "{error}");
        }
    }

    #[test]
    fn ready_is_a_whole_line() {
        for text in ["READY=1", "READY=1\n", "STATUS=up\nREADY=1\nMAINPID=3", "\nREADY=1"] {
            assert!(is_ready(text.as_bytes()), "{text:?}");
        }
        for text in ["", "READY=0", "READY=10", "STATUS=READY=1", " READY=1", "READY=1 ", "ready=1"] {
            assert!(!is_ready(text.as_bytes()), "{text:?}");
        }
    }
}
