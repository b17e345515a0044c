//! Requests to the kernel about network links and their addresses (rtnetlink(7)): one socket, one question at a time.
//!
//! A hundred lines that know three messages, instead of crates that bring an async runtime and a model of all of rtnetlink.
//!
//! Must not: know what a container is, or enter a network namespace: a socket belongs to the one that it was made in. Tests: at the end
//! of this file; `tests` package, `root/netdevices.rs`.

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::os::fd::OwnedFd;

pub(crate) const NEWLINK: u16 = 16;
pub(crate) const GETLINK: u16 = 18;
pub(crate) const NEWADDR: u16 = 20;
pub(crate) const GETADDR: u16 = 22;
const ERROR: u16 = 2;
const DONE: u16 = 3;

const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP_INTERRUPTED: u16 = 0x10;
const DUMP: u16 = 0x300;
/// Makes what is not there (`NLM_F_CREATE | NLM_F_EXCL`).
pub(crate) const CREATE: u16 = 0x600;

/// Bytes of a message's header.
const HEADER: usize = 16;
/// The kernel answers dumps in messages of at most this size.
const ROOM: usize = 64 * 1024;

/// The body of a request: a fixed part, then attributes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Body(Vec<u8>);

impl Body {
    /// `struct ifinfomsg`; index 0 for a link that an attribute names.
    pub(crate) fn link(index: u32, flags: u32, change: u32) -> Self {
        let mut body = vec![0; 4];
        for word in [index, flags, change] {
            body.extend(word.to_ne_bytes());
        }
        Self(body)
    }

    /// `struct ifaddrmsg`.
    pub(crate) fn address(family: u8, prefix: u8, flags: u8, scope: u8, index: u32) -> Self {
        let mut body = vec![family, prefix, flags, scope];
        body.extend(index.to_ne_bytes());
        Self(body)
    }

    /// Adds an attribute.
    pub(crate) fn with(mut self, kind: u16, value: &[u8]) -> Self {
        // Values are names, addresses and numbers: far below the limit.
        let len = u16::try_from(value.len().saturating_add(4)).unwrap_or(u16::MAX);
        self.0.extend(len.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    /// Adds an attribute with a text, ended by NUL.
    pub(crate) fn with_text(self, kind: u16, text: &str) -> Self {
        self.with(kind, &[text.as_bytes(), &[0]].concat())
    }
}

/// One message of an answer, without its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    kind: u16,
    body: Vec<u8>,
}

impl Answer {
    /// A byte of the fixed part.
    pub(crate) fn byte(&self, at: usize) -> u8 {
        self.body.get(at).copied().unwrap_or(0)
    }

    /// A word of the fixed part.
    pub(crate) fn word(&self, at: usize) -> u32 {
        word(&self.body, at).unwrap_or(0)
    }

    /// The value of an attribute.
    pub(crate) fn attribute(&self, wanted: u16) -> Option<&[u8]> {
        // `struct ifinfomsg` has 16 bytes, `struct ifaddrmsg` 8.
        let mut at = if self.kind == NEWADDR { 8 } else { 16 };
        loop {
            let len = usize::from(half(&self.body, at)?);
            let kind = half(&self.body, at.checked_add(2)?)?;
            let value = self.body.get(at.checked_add(4)?..at.checked_add(len)?)?;
            if kind == wanted {
                return Some(value);
            }
            at = at.checked_add(len.next_multiple_of(4))?;
        }
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// A socket in some network namespace.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// Takes a socket of the family `AF_NETLINK`, protocol `NETLINK_ROUTE`.
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self { fd, sequence: 0 }
    }

    /// One question with one answer.
    ///
    /// # Errors
    /// The kernel's: ENODEV when there is no such link; EBADMSG for an answer that is none.
    pub(crate) fn get(&mut self, kind: u16, body: &Body) -> Result<Answer, Errno> {
        self.send(kind, REQUEST, body)?;
        self.receive()?.0.into_iter().next().ok_or(Errno::BADMSG)
    }

    /// One change, with `flags` beside those of every request.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn change(&mut self, kind: u16, flags: u16, body: &Body) -> Result<(), Errno> {
        self.send(kind, REQUEST | ACK | flags, body)?;
        self.receive().map(drop)
    }

    /// Everything of a kind. Asked again when something changed meanwhile.
    ///
    /// # Errors
    /// The kernel's; EINTR when it never stands still.
    pub(crate) fn list(&mut self, kind: u16, body: &Body) -> Result<Vec<Answer>, Errno> {
        for _ in 0..16 {
            self.send(kind, REQUEST | DUMP, body)?;
            let mut all = Vec::new();
            let mut whole = true;
            loop {
                let (some, state) = self.receive()?;
                all.extend(some);
                whole &= state != State::Interrupted;
                if state != State::More {
                    break;
                }
            }
            if whole {
                return Ok(all);
            }
        }
        Err(Errno::INTR)
    }

    fn send(&mut self, kind: u16, flags: u16, body: &Body) -> Result<(), Errno> {
        self.sequence = self.sequence.wrapping_add(1);
        let len = u32::try_from(HEADER.saturating_add(body.0.len())).map_err(|_| Errno::MSGSIZE)?;
        let mut bytes = Vec::from(len.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(self.sequence.to_ne_bytes());
        bytes.extend(0_u32.to_ne_bytes());
        bytes.extend(&body.0);
        send(&self.fd, &bytes, SendFlags::NOSIGNAL).map(drop)
    }

    /// One datagram: its messages, and whether more come.
    fn receive(&mut self) -> Result<(Vec<Answer>, State), Errno> {
        let mut room = vec![0_u8; ROOM];
        loop {
            let (got, len) = match recv(&self.fd, &mut room[..], RecvFlags::TRUNC) {
                Err(Errno::INTR) => continue,
                other => other?,
            };
            if len > got {
                return Err(Errno::MSGSIZE);
            }
            if let Some(done) = read(room.get(..got).unwrap_or_default(), self.sequence)? {
                return Ok(done);
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    More,
    Done,
    Interrupted,
}

/// The messages of a datagram; none when it answers an older question.
fn read(mut bytes: &[u8], sequence: u32) -> Result<Option<(Vec<Answer>, State)>, Errno> {
    let mut all = Vec::new();
    let mut state = State::More;
    let mut interrupted = false;
    while !bytes.is_empty() {
        let len = word(bytes, 0).and_then(|len| usize::try_from(len).ok()).ok_or(Errno::BADMSG)?;
        let (Some(kind), Some(flags)) = (half(bytes, 4), half(bytes, 6)) else { return Err(Errno::BADMSG) };
        let body = bytes.get(HEADER..len).ok_or(Errno::BADMSG)?;
        if word(bytes, 8) != Some(sequence) {
            return Ok(None);
        }
        interrupted |= flags & DUMP_INTERRUPTED != 0;
        match kind {
            ERROR | DONE => {
                let errno = word(body, 0).map_or(0, |number| i32::from_ne_bytes(number.to_ne_bytes()));
                if errno != 0 {
                    return Err(Errno::from_raw_os_error(errno.saturating_neg()));
                }
                state = State::Done;
            }
            kind => all.push(Answer { kind, body: body.to_vec() }),
        }
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(Some((all, if interrupted && state == State::Done { State::Interrupted } else { state })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketType, socket};

    fn here() -> Socket {
        Socket::new(socket(AddressFamily::NETLINK, SocketType::RAW, None).unwrap())
    }

    #[test]
    fn the_loopback_interface_is_the_first() {
        let mut socket = here();
        let link = socket.get(GETLINK, &Body::link(0, 0, 0).with_text(3, "lo")).unwrap();
        assert_eq!((link.word(4), link.attribute(3)), (1, Some(&b"lo\0"[..])));
        assert!(socket.list(GETLINK, &Body::link(0, 0, 0)).unwrap().contains(&link));
        let none = socket.get(GETLINK, &Body::link(0, 0, 0).with_text(3, "nosuch0"));
        assert_eq!(none, Err(Errno::NODEV));
    }

    #[test]
    fn broken_answers_are_errors() {
        let mut message = vec![20, 0, 0, 0, 2, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0];
        message.extend((-17_i32).to_ne_bytes());
        assert_eq!(read(&message, 7), Err(Errno::EXIST));
        assert_eq!(read(&message, 6), Ok(None), "an answer to another question");
        assert_eq!(read(&message[..18], 7), Err(Errno::BADMSG));
        assert_eq!(read(&[3, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0], 7), Err(Errno::BADMSG));
        let answer = Answer { kind: NEWLINK, body: [[0; 16].as_slice(), &[9, 0, 3, 0, b'x']].concat() };
        assert_eq!(answer.attribute(3), None, "cut");
    }
}
