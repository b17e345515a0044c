//! How a step fails, and the socket over which the parent half hears of it.
//!
//! Messages without descriptors go out by write(2) and come in by recvmsg(2): these are the calls that a seccomp filter
//! loaded before the gate has to permit, and no others. Must not: wait without noticing that the other side is gone.
//! Tests: `tests/walk.rs`.

use core::convert::Infallible;

use rustix::io::Errno;

use crate::program::Fault;
use crate::sys::{self, Fd};
use crate::wire::{Call, Kind, LEN, Message};

/// Descriptors that one message can carry (SCM_MAX_FD of the kernel).
pub(crate) const MAX_FDS: usize = 253;

/// A step that failed: what travels in [`Message`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fail {
    pub(crate) part: u32,
    pub(crate) call: Call,
    pub(crate) errno: i32,
    pub(crate) detail: [u8; 32],
}

impl Fail {
    pub(crate) fn new(part: u32, call: Call, errno: Errno) -> Self {
        Self::raw(part, call, errno.raw_os_error())
    }

    pub(crate) fn raw(part: u32, call: Call, errno: i32) -> Self {
        Self { part, call, errno, detail: [0; 32] }
    }

    /// Adds bytes that say more: the first 32, what is not printable ASCII as `?`. The first text stays.
    #[must_use]
    pub(crate) fn say(mut self, text: &[u8]) -> Self {
        if self.detail.first() == Some(&0) {
            for (place, byte) in self.detail.iter_mut().zip(text) {
                *place = if matches!(byte, b' '..=b'~') { *byte } else { b'?' };
            }
        }
        self
    }
}

impl From<Fault> for Fail {
    fn from(_: Fault) -> Self {
        Self::new(0, Call::Walk, Errno::INVAL)
    }
}

/// Turns the kernel's answer into a step's.
pub(crate) trait At<T> {
    /// The call was part number `part` of its step.
    fn at(self, part: u32, call: Call) -> Result<T, Fail>;
}

impl<T> At<T> for Result<T, Errno> {
    fn at(self, part: u32, call: Call) -> Result<T, Fail> {
        self.map_err(|errno| Fail::new(part, call, errno))
    }
}

/// Adds text to a failure.
pub(crate) trait Say {
    fn say(self, text: &[u8]) -> Self;
}

impl<T> Say for Result<T, Fail> {
    fn say(self, text: &[u8]) -> Self {
        self.map_err(|fail| fail.say(text))
    }
}

/// Sends a message without descriptors.
pub(crate) fn send(channel: i32, message: &Message) -> Result<(), Errno> {
    let bytes = message.encode();
    loop {
        match rustix::io::write(sys::borrow(channel), &bytes) {
            Ok(LEN) => return Ok(()),
            Ok(_) => return Err(Errno::MSGSIZE),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Sends a message with one descriptor.
pub(crate) fn send_fd(channel: i32, message: &Message, fd: i32) -> Result<(), Errno> {
    loop {
        match sys::send_with_fd(channel, &message.encode(), fd) {
            Ok(LEN) => return Ok(()),
            Ok(_) => return Err(Errno::MSGSIZE),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Receives one message of kind `want`; its descriptors come out one by one through `take`, which answers whether it wants
/// the next. A parent that is gone ends the process: nobody could hear of anything any more.
pub(crate) fn expect(channel: i32, want: Kind, mut take: impl FnMut(Fd) -> bool) -> Result<(), Errno> {
    let mut bytes = [0_u8; LEN];
    let mut fds = [-1_i32; MAX_FDS];
    let got = loop {
        match sys::receive(channel, &mut bytes, &mut fds) {
            Ok(got) if got.bytes == 0 => gone(),
            Ok(got) => break got,
            Err(Errno::INTR) => {}
            Err(Errno::CONNRESET) => gone(),
            Err(errno) => return Err(errno),
        }
    };
    let mut all = !got.cut;
    for fd in fds.iter().take(got.fds) {
        all &= take(Fd::own(*fd));
    }
    let message = Message::decode(bytes.get(..got.bytes).unwrap_or(&[]));
    match message {
        Ok(message) if message.kind == want && all => Ok(()),
        _ => Err(Errno::BADMSG),
    }
}

/// Ends the process when the other side of `channel` is gone; never waits.
pub(crate) fn alive_or_exit(channel: i32) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut fds = [PollFd::from_borrowed_fd(sys::borrow(channel), PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    if poll(&mut fds, Some(&now)).is_ok() {
        let [fd] = fds;
        if fd.revents().intersects(PollFlags::HUP | PollFlags::ERR) {
            gone();
        }
    }
}

/// Nobody listens any more: the process ends.
pub(crate) fn gone() -> ! {
    sys::exit(1)
}

/// Reports the failure and ends the process with status 1.
pub(crate) fn failed(channel: i32, step: u32, outcome: Result<Infallible, Fail>) -> ! {
    let Err(fail) = outcome;
    let Fail { part, call, errno, detail } = fail;
    // A parent that does not hear it sees the end of file.
    let _ = send(channel, &Message { kind: Kind::Failed, step, part, call, errno, detail });
    sys::exit(1)
}
