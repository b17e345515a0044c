//! One end of a conversation with the child half: fixed-size messages with descriptors over a packet socket.
//!
//! Both the start-up socket and the report channel of `start` are `SOCK_SEQPACKET` pairs. Sending never blocks, receiving ends
//! at a message, the other side's hang-up, the exit of a process or a deadline, whichever is first.
//!
//! Must not: know the order of messages, write sentences about steps. Tests: at the end of this file.

use crate::error::{Error, ErrorKind, Result};
use coracle_init::wire::{self, Message};
use rustix::cmsg_space;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Descriptors that one message can carry: the kernel's `SCM_MAX_FD`.
pub(crate) const MAX_FDS: usize = 253;

/// A packet socket whose other end speaks [`Message`]s.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

/// What ended a [`Channel::recv`].
#[derive(Debug)]
pub(crate) enum Event {
    /// A message came; its descriptors are close-on-exec.
    Message {
        /// What it says.
        message: Message,
        /// What rode along, in the sender's order.
        fds: Vec<OwnedFd>,
    },
    /// Every copy of the other end is closed and nothing is left to read.
    HangUp,
    /// The watched process ended while another holder keeps the other end open; nothing is left to read.
    Exited,
}

impl Channel {
    /// A connected pair: our end, and the one for the other side. Both are close-on-exec.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] with the kernel's reason (EMFILE, ENFILE, ENOMEM).
    pub(crate) fn pair() -> Result<(Self, OwnedFd)> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(|e| Error::os("make a report channel", e))?;
        Ok((Self(ours), theirs))
    }

    /// Sends one message; never blocks. `fds` holds at most [`MAX_FDS`] descriptors.
    ///
    /// # Errors
    /// [`ErrorKind::Io`]: EPIPE or ECONNRESET when nobody reads any more, EAGAIN when the reader is far behind.
    pub(crate) fn send(&self, message: &Message, fds: &[BorrowedFd<'_>]) -> Result<()> {
        send_on(self.0.as_fd(), message, fds)
            .map_err(|e| Error::os("send a message to the container's init", e))
    }

    /// Waits for the next event. Without a `deadline` it waits as long as the other end, and the process behind the pidfd
    /// `also`, live. What was sent before an exit is delivered before the exit is.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] at the deadline; [`ErrorKind::Io`] when receiving fails, when descriptors were lost on the way
    /// (this process has too many open) or when the bytes are no message of this version.
    pub(crate) fn recv(&self, deadline: Option<Instant>, also: Option<BorrowedFd<'_>>) -> Result<Event> {
        if deadline.is_none() && also.is_none() {
            return match self.receive(RecvFlags::empty())? {
                Some(event) => Ok(event),
                None => Err(Error::os("receive from the container's init", Errno::AGAIN)),
            };
        }
        loop {
            let exited = self.wait(PollFlags::IN, deadline, also)?;
            match self.receive(RecvFlags::DONTWAIT)? {
                Some(event) => return Ok(event),
                None if exited => return Ok(Event::Exited),
                None => {}
            }
        }
    }

    /// Sleeps until every copy of the other end is closed, whatever there is to read, or the process of `also` ended.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when polling fails.
    pub(crate) fn wait_hang_up(&self, also: BorrowedFd<'_>) -> Result<()> {
        self.wait(PollFlags::empty(), None, Some(also)).map(drop)
    }

    /// Sleeps until the socket has something or the process of `also` ended; says whether it did.
    fn wait(&self, what: PollFlags, deadline: Option<Instant>, also: Option<BorrowedFd<'_>>) -> Result<bool> {
        loop {
            let left = deadline.map(|end| timespec(end.saturating_duration_since(Instant::now())));
            // With no second descriptor the socket is simply watched twice: one shape of array for both cases.
            let second = also.unwrap_or(self.0.as_fd());
            let mut fds = [PollFd::new(&self.0, what), PollFd::from_borrowed_fd(second, PollFlags::IN)];
            match poll(&mut fds, left.as_ref()) {
                Ok(0) => {
                    return Err(Error::new(
                        ErrorKind::Timeout,
                        "wait for the container's init: no answer in time",
                    )
                    .with_code("init-no-answer"));
                }
                Ok(_) => {
                    let [_, second] = fds;
                    return Ok(also.is_some() && !second.revents().is_empty());
                }
                Err(Errno::INTR) => {}
                Err(e) => return Err(Error::os("wait for the container's init", e)),
            }
        }
    }

    /// One `recvmsg`; `None` when nothing was there to read.
    fn receive(&self, flags: RecvFlags) -> Result<Option<Event>> {
        let mut bytes = [0_u8; wire::LEN];
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = loop {
            let mut iov = [IoSliceMut::new(&mut bytes)];
            match recvmsg(&self.0, &mut iov, &mut control, flags | RecvFlags::CMSG_CLOEXEC) {
                Ok(got) => break got,
                // ECONNRESET, once: the other end was closed with our messages unread. What it had sent before is still here,
                // then comes the end of file.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(e) => return Err(Error::os("receive from the container's init", e)),
            }
        };
        let mut fds = Vec::new();
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = part {
                fds.extend(rights);
            }
        }
        if got.flags.contains(ReturnFlags::CTRUNC) {
            return Err(Error::new(
                ErrorKind::Io,
                "receive descriptors from the container's init: some were lost",
            )
            .with_hint("raise the limit of open files (RLIMIT_NOFILE)")
            .with_code("descriptors-lost"));
        }
        if got.bytes == 0 {
            return Ok(Some(Event::HangUp));
        }
        let whole = if got.flags.contains(ReturnFlags::TRUNC) { None } else { bytes.get(..got.bytes) };
        let message = whole.and_then(|b| Message::decode(b).ok()).ok_or_else(|| {
            Error::new(ErrorKind::Io, "receive from the container's init: no message of a known version")
                .with_code("wire-unknown")
        })?;
        Ok(Some(Event::Message { message, fds }))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Channel {
    /// Takes an end that came from elsewhere; it must be a connected packet socket.
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

/// Sends a descriptor with a text over a stream socket: what a console socket expects.
///
/// # Errors
/// The kernel's reason.
pub(crate) fn send_descriptor(socket: BorrowedFd<'_>, text: &[u8], fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(Errno::NOBUFS);
    }
    loop {
        match sendmsg(socket, &[IoSlice::new(text)], &mut control, SendFlags::NOSIGNAL) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
}

/// Sends one message on any connected `AF_UNIX` socket that keeps message boundaries; never blocks, raises no SIGPIPE.
pub(crate) fn send_on(
    socket: BorrowedFd<'_>,
    message: &Message,
    fds: &[BorrowedFd<'_>],
) -> Result<(), Errno> {
    let bytes = message.encode();
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    // The buffer's alignment slack may have room for more than the kernel takes.
    if fds.len() > MAX_FDS || (!fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds))) {
        return Err(Errno::TOOMANYREFS);
    }
    loop {
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, flags) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
}

/// For the kernel; what does not fit is as good as for ever.
pub(crate) fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_init::wire::{Call, Kind};
    use rustix::io::{FdFlags, fcntl_getfd};
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    use std::process::{Child, Command};

    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_secs(10))
    }

    fn pidfd(child: &Child) -> OwnedFd {
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        pidfd_open(pid, PidfdFlags::empty()).unwrap()
    }

    #[test]
    fn messages_keep_their_fields_and_descriptors_in_order() {
        let (a, b) = Channel::pair().unwrap();
        let b = Channel::from(b);
        let sent = Message { step: 9, errno: 13, call: Call::Openat2, ..Message::plain(Kind::Failed) };
        let (r, w) = rustix::pipe::pipe().unwrap();
        a.send(&sent, &[r.as_fd(), w.as_fd()]).unwrap();
        let Event::Message { message, fds } = b.recv(soon(), None).unwrap() else { panic!("no message") };
        assert_eq!(message, sent);
        assert_eq!(fds.len(), 2);
        for fd in &fds {
            assert!(fcntl_getfd(fd).unwrap().contains(FdFlags::CLOEXEC));
        }
        drop(w);
        rustix::io::write(&fds[1], b"x").unwrap();
        let mut one = [0_u8; 1];
        assert_eq!(rustix::io::read(&r, &mut one).unwrap(), 1);
    }

    #[test]
    fn a_full_load_of_descriptors_arrives_and_one_more_is_refused() {
        let (a, b) = Channel::pair().unwrap();
        let b = Channel::from(b);
        let null = std::fs::File::open("/dev/null").unwrap();
        let many = vec![null.as_fd(); MAX_FDS + 1];
        a.send(&Message::plain(Kind::Go), &many[..MAX_FDS]).unwrap();
        let Event::Message { fds, .. } = b.recv(None, None).unwrap() else { panic!("no message") };
        assert_eq!(fds.len(), MAX_FDS);
        assert_eq!(a.send(&Message::plain(Kind::Go), &many).unwrap_err().errno(), Some(libc::ETOOMANYREFS));
    }

    #[test]
    fn hang_up_comes_after_what_was_sent() {
        let (a, b) = Channel::pair().unwrap();
        let b = Channel::from(b);
        a.send(&Message::plain(Kind::Taken), &[]).unwrap();
        b.send(&Message::plain(Kind::Go), &[]).unwrap();
        drop(a);
        assert!(matches!(b.recv(soon(), None).unwrap(), Event::Message { .. }));
        assert!(matches!(b.recv(soon(), None).unwrap(), Event::HangUp));
        assert!(matches!(b.recv(None, None).unwrap(), Event::HangUp));
        let errno = b.send(&Message::plain(Kind::Go), &[]).unwrap_err().errno();
        assert_eq!(errno, Some(libc::EPIPE), "and no SIGPIPE");
    }

    #[test]
    fn silence_ends_at_the_deadline() {
        let (a, _b) = Channel::pair().unwrap();
        let begun = Instant::now();
        let error = a.recv(Some(begun + Duration::from_millis(30)), None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(begun.elapsed() >= Duration::from_millis(30));
    }

    #[test]
    fn an_exit_is_noticed_though_the_other_end_stays_open() {
        let (a, b) = Channel::pair().unwrap();
        let b = Channel::from(b);
        let mut child = Command::new("true").spawn().unwrap();
        let pidfd = pidfd(&child);
        b.send(&Message::plain(Kind::Born), &[]).unwrap();
        child.wait().unwrap();
        assert!(matches!(a.recv(soon(), Some(pidfd.as_fd())).unwrap(), Event::Message { .. }));
        assert!(matches!(a.recv(None, Some(pidfd.as_fd())).unwrap(), Event::Exited));
        drop(b);
        assert!(matches!(a.recv(None, Some(pidfd.as_fd())).unwrap(), Event::HangUp));
    }

    #[test]
    fn foreign_bytes_are_no_message() {
        let (a, b) = Channel::pair().unwrap();
        let mut later = Message::plain(Kind::Born).encode();
        later[0] = 99;
        for bytes in [&b"short"[..], &later, &[0; 200]] {
            rustix::net::send(&b, bytes, SendFlags::empty()).unwrap();
            assert_eq!(a.recv(soon(), None).unwrap_err().code(), "wire-unknown");
        }
    }
}
