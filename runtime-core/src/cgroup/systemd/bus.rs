//! A connection to a message bus, for a few calls of one command (dbus-specification, "Authentication Protocol").
//!
//! Every wait has the deadline of the whole. Must not: know what is called. Tests: `cgroup/systemd/tests.rs` with a bus of its own.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::wire::{Argument, Call, FIRST, Incoming, Kind, decode, total_length};
use crate::cgroup::error::{CgroupError, Result};

const BUS: &str = "org.freedesktop.DBus";
/// The longest line of the authentication.
const LINE: usize = 4096;

/// A connection.
#[derive(Debug)]
pub(super) struct Bus {
    stream: UnixStream,
    path: PathBuf,
    deadline: Instant,
    serial: u32,
    /// Came while something else was waited for.
    signals: VecDeque<Incoming>,
}

/// Why a call did not do what it was asked to: the name of the error and its words.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) name: String,
    pub(super) words: String,
}

/// The answer to a call.
pub(super) type Answer = std::result::Result<Vec<String>, Refused>;

impl Bus {
    /// Connects, says who we are, and introduces itself.
    ///
    /// # Errors
    /// Nobody listens, or it did not answer in time.
    pub(super) fn connect(path: &Path, deadline: Instant) -> Result<Self> {
        let stream = UnixStream::connect(path).map_err(|error| failed("connect", path, &error))?;
        let signals = VecDeque::new();
        let mut bus = Self { stream, path: path.to_owned(), deadline, serial: 0, signals };
        bus.authenticate()?;
        match bus.call(BUS, "/org/freedesktop/DBus", BUS, "Hello", &[])? {
            Ok(_) => Ok(bus),
            Err(refused) => Err(CgroupError::check(path, format!("the bus refuses us: {}", refused.words))),
        }
    }

    fn authenticate(&mut self) -> Result<()> {
        // The kernel tells the other side who we are; what is said must only not contradict it.
        let uid = rustix::process::geteuid().as_raw().to_string();
        let hex: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
        self.write(format!("\0AUTH EXTERNAL {hex}\r\n").as_bytes())?;
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.read(&mut byte)?;
            line.extend(byte);
            if line.len() > LINE {
                return Err(CgroupError::check(&self.path, "what listens there is no message bus"));
            }
        }
        if !line.starts_with(b"OK ") {
            let words = String::from_utf8_lossy(&line).trim_end().to_owned();
            return Err(CgroupError::check(&self.path, format!("the bus does not take us: {words:?}")));
        }
        self.write(b"BEGIN\r\n")
    }

    /// Calls a method and waits for its answer.
    ///
    /// # Errors
    /// The connection broke, or the deadline passed.
    pub(super) fn call(
        &mut self,
        destination: &str,
        path: &str,
        interface: &str,
        member: &str,
        arguments: &[Argument<'_>],
    ) -> Result<Answer> {
        self.serial = self.serial.wrapping_add(1);
        let call = Call { destination, path, interface, member, arguments };
        self.write(&call.encode(self.serial))?;
        loop {
            let message = self.next()?;
            match message.kind {
                Kind::Reply if message.reply_to == Some(self.serial) => return Ok(Ok(message.arguments)),
                Kind::Error if message.reply_to == Some(self.serial) => {
                    let words = message.arguments.into_iter().next().unwrap_or_default();
                    return Ok(Err(Refused { name: message.error, words }));
                }
                Kind::Signal => self.signals.push_back(message),
                _ => {}
            }
        }
    }

    /// Asks the bus for signals of one kind.
    ///
    /// # Errors
    /// As [`Bus::call`].
    pub(super) fn listen(&mut self, rule: &str) -> Result<Answer> {
        self.call(BUS, "/org/freedesktop/DBus", BUS, "AddMatch", &[Argument::Text(rule)])
    }

    /// The next signal, those first that came during a call.
    ///
    /// # Errors
    /// As [`Bus::call`].
    pub(super) fn signal(&mut self) -> Result<Incoming> {
        loop {
            if let Some(signal) = self.signals.pop_front() {
                return Ok(signal);
            }
            let message = self.next()?;
            if message.kind == Kind::Signal {
                return Ok(message);
            }
        }
    }

    fn next(&mut self) -> Result<Incoming> {
        let none = |path: &Path| CgroupError::check(path, "what came from the bus is no message");
        let mut bytes = vec![0; FIRST];
        self.read(&mut bytes)?;
        let total = total_length(&bytes).ok_or_else(|| none(&self.path))?;
        bytes.resize(total, 0);
        let rest = bytes.get_mut(FIRST..).unwrap_or_default();
        self.read(rest)?;
        decode(&bytes).ok_or_else(|| none(&self.path))
    }

    fn read(&mut self, mut into: &mut [u8]) -> Result<()> {
        while !into.is_empty() {
            self.stream.set_read_timeout(Some(self.left()?)).map_err(|e| failed("wait", &self.path, &e))?;
            match self.stream.read(into) {
                Ok(0) => return Err(CgroupError::check(&self.path, "the bus closed the connection")),
                Ok(count) => into = into.get_mut(count..).unwrap_or_default(),
                // At the deadline `left` ends it.
                Err(error) if is_again(&error) => {}
                Err(error) => return Err(failed("read", &self.path, &error)),
            }
        }
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            self.stream.set_write_timeout(Some(self.left()?)).map_err(|e| failed("wait", &self.path, &e))?;
            match self.stream.write(bytes) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) if is_again(&error) => {}
                Err(error) => return Err(failed("write", &self.path, &error)),
            }
        }
        Ok(())
    }

    fn left(&self) -> Result<Duration> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(CgroupError::check(&self.path, "systemd did not answer in time"));
        }
        Ok(left)
    }
}

fn is_again(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}

fn failed(call: &'static str, path: &Path, error: &std::io::Error) -> CgroupError {
    let errno = rustix::io::Errno::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO));
    CgroupError::call(call, path, errno)
}
