//! Hands the listener of a system call filter to its receiver, with the state of the container process.
//!
//! config-linux.md, "Seccomp": one connection for one listener, closed behind it. Nothing of the container runs before it is done, and
//! what cannot be delivered ends the creation.
//!
//! Must not: keep a copy of the listener: as long as anybody holds one, a notified call waits for an answer. Tests: `tests`
//! package, notify.

use crate::error::{Error, ErrorKind, Phase, Result};
use crate::process::Identity;
use crate::runtime::ContainerRecord;
use crate::spec::{ContainerProcessState, OCI_VERSION, State};
use crate::state::{ListenerRecord, Status};
use coracle_init::wire::Message;
use rustix::cmsg_space;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, connect, send, sendmsg, socket_with,
};
use rustix::process::{PidfdGetfdFlags, pidfd_getfd};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a receiver with a full queue is waited for.
const PATIENCE: Duration = Duration::from_secs(20);
/// What a socket address has room for, with the zero at its end.
const LONGEST: usize = 108;
/// The name that the specification gives the listener.
const NAME: &str = "seccompFd";

/// Who gets the listener, and what is said about the container.
#[derive(Debug)]
pub(crate) struct Receiver {
    path: PathBuf,
    metadata: String,
    state: State,
}

impl Receiver {
    /// `init` is the container's first process; absent when the filter is its own.
    pub(crate) fn new(
        listener: &ListenerRecord,
        record: &ContainerRecord,
        status: Status,
        init: Option<i32>,
    ) -> Self {
        Self {
            path: listener.path.clone(),
            metadata: listener.metadata.clone(),
            state: State {
                oci_version: OCI_VERSION.to_owned(),
                id: record.id.clone(),
                status: status.as_str().to_owned(),
                bundle: record.bundle.to_string_lossy().into_owned(),
                pid: init,
                annotations: record.annotations.clone(),
                ..State::default()
            },
        }
    }

    /// Sends what the process behind `pidfd` reported with `message`: its listener, or the number that it has there. Blocks until the
    /// receiver takes the connection, at most 20 seconds.
    ///
    /// # Errors
    /// The listener cannot be taken out, nobody listens at the path, or the state cannot be sent.
    pub(crate) fn deliver(
        self,
        process: &Identity,
        pidfd: BorrowedFd<'_>,
        message: &Message,
        fds: Vec<OwnedFd>,
    ) -> Result<()> {
        let listener = match fds.into_iter().next() {
            Some(fd) => fd,
            None => pidfd_getfd(pidfd, message.errno, PidfdGetfdFlags::empty()).map_err(|e| {
                Error::os("take the listener of the seccomp filter", e)
                    .in_phase(Phase::Seccomp)
                    .at("/linux/seccomp")
                    .with_hint("it needs CAP_SYS_PTRACE; a filter that allows sendmsg does without")
            })?,
        };
        let path = self.path.clone();
        let failed = |e: Errno| {
            // A full queue for as long as we wait.
            let kind = if e == Errno::AGAIN { ErrorKind::Timeout } else { ErrorKind::Io };
            Error::os("send the listener of the seccomp filter to its receiver", e)
                .of_kind(kind)
                .with_path(&path)
                .at("/linux/seccomp/listenerPath")
                .in_phase(Phase::Seccomp)
                .with_code("seccomp-listener")
                .with_hint("a process has to listen there with a stream socket before the container is made")
        };
        let text = self.document(process.pid)?;
        let socket = reach(&path).map_err(failed)?;
        send_all(socket.as_fd(), text.as_bytes(), listener.as_fd()).map_err(failed)
    }

    /// The container process state (config-linux.md, "The Container Process State").
    fn document(self, pid: i32) -> Result<String> {
        let Self { metadata, mut state, .. } = self;
        state.pid = state.pid.or(Some(pid));
        let document = ContainerProcessState {
            oci_version: OCI_VERSION.to_owned(),
            fds: vec![NAME.to_owned()],
            pid,
            state,
            metadata: (!metadata.is_empty()).then_some(metadata),
            ..ContainerProcessState::default()
        };
        serde_json::to_string(&document).map_err(|e| {
            Error::new(ErrorKind::InvalidSpec, "write the state for the seccomp listener")
                .with_source(e)
                .in_phase(Phase::Seccomp)
        })
    }
}

fn reach(path: &Path) -> Result<OwnedFd, Errno> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // For connect(2), too.
    set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
    let to = |path: &Path| loop {
        match connect(&socket, &SocketAddrUnix::new(path)?) {
            Err(Errno::INTR) => {}
            other => return other,
        }
    };
    if path.as_os_str().len() < LONGEST {
        to(path)?;
    } else {
        let file = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        to(Path::new(&format!("/proc/thread-self/fd/{}", file.as_raw_fd())))?;
    }
    Ok(socket)
}

/// All of `text`, the descriptor with its first byte.
fn send_all(socket: BorrowedFd<'_>, text: &[u8], listener: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [listener];
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(Errno::NOBUFS);
    }
    let mut sent = loop {
        match sendmsg(socket, &[IoSlice::new(text)], &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            other => break other?,
        }
    };
    while let Some(rest) = text.get(sent..).filter(|rest| !rest.is_empty()) {
        match send(socket, rest, SendFlags::NOSIGNAL) {
            Ok(more) => sent = sent.saturating_add(more),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
