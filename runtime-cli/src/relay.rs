//! Bytes between the caller's terminal and the container's, and signals, until the program has ended.
//!
//! One thread, one poll, one buffer of fixed size each way: what cannot be written is not read, so nothing is lost and nothing
//! piles up. As with runc, the end of input is not passed on (a terminal has no end), and a closed output hangs the terminal up.
//! Must not: look into the bytes, change the flags of the caller's descriptors (they are shared with the caller).
//! Tests: `relay/tests.rs` with real ptys; stopping and continuing in the `tests` package.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use coracle::{Error, Phase};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, read, write};
use rustix::net::SendFlags;

use crate::foreground::Signals;
use crate::tty::Host;

/// Bytes that are on their way in one direction, at most.
const BUFFER: usize = 16 << 10;
/// What a pipe or a terminal that is ready takes without blocking.
const SAFE: usize = 1 << 10;
/// Reads in a row before other things get their turn.
const BURST: usize = 64;
/// How often a terminal that nobody inside has open is looked at, in nanoseconds.
const HUNG_UP: i64 = 50_000_000;

/// The two ends and what is in between.
#[derive(Debug)]
pub struct Relay<'a> {
    host: Host,
    /// `None` after it was hung up because nobody reads the output.
    master: Option<OwnedFd>,
    input: Option<BorrowedFd<'a>>,
    output: Output<'a>,
    inward: Buffer,
    outward: Buffer,
    /// Nobody inside has the terminal open at the moment.
    hung_up: bool,
}

impl<'a> Relay<'a> {
    /// Connects `master` with the caller's standard input and output.
    ///
    /// # Errors
    /// When `master` cannot be made non-blocking.
    pub fn new(
        host: Host,
        master: OwnedFd,
        input: BorrowedFd<'a>,
        output: BorrowedFd<'a>,
    ) -> Result<Self, Error> {
        let failed = |errno: Errno| Error::os("set up the terminal", errno).in_phase(Phase::Terminal);
        let flags = fcntl_getfl(&master).map_err(failed)?;
        fcntl_setfl(&master, flags | OFlags::NONBLOCK).map_err(failed)?;
        let relay = Self {
            host,
            master: Some(master),
            input: Some(input),
            output: Output::of(output),
            inward: Buffer::new(),
            outward: Buffer::new(),
            hung_up: false,
        };
        relay.resize();
        Ok(relay)
    }

    /// Copies until `ended` is readable and all output that was written before is out. Each signal that is for the program is
    /// given to `forward`.
    ///
    /// # Errors
    /// When waiting fails.
    pub fn run(
        &mut self,
        ended: BorrowedFd<'_>,
        signals: &Signals,
        forward: &mut dyn FnMut(i32),
    ) -> Result<(), Error> {
        let _ = self.host.make_raw();
        let mut over = false;
        while !(over && self.outward.is_empty() && self.drained()) {
            let ready = self.poll(ended, signals, over)?;
            if ready.ended {
                // What was read before may not be the last word.
                (over, self.outward.at_end) = (true, false);
            }
            if ready.signals {
                while let Some(signal) = signals.next(ended) {
                    self.signal(signal, signals, forward);
                }
            }
            if ready.input {
                self.read_input(signals);
            }
            if ready.output || ready.master {
                self.copy_out();
            }
            self.flush_in();
        }
        self.host.restore();
        Ok(())
    }

    fn poll(&mut self, ended: BorrowedFd<'_>, signals: &Signals, over: bool) -> Result<Ready, Error> {
        let signal_fd = PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN);
        // An end that is of no interest at the moment is not asked for, not even for its errors: the slot of the signals stands in.
        let mut set: [PollFd<'_>; 5] = std::array::from_fn(|_| signal_fd.clone());
        let [_, first, second, third, fourth] = &mut set;
        if !over {
            *first = PollFd::from_borrowed_fd(ended, PollFlags::IN);
        }
        let wants_output = !self.outward.is_empty();
        let mut wanted = PollFlags::empty();
        wanted.set(PollFlags::IN, !wants_output);
        wanted.set(PollFlags::OUT, !self.inward.is_empty());
        let master = self.master.as_ref().filter(|_| !wanted.is_empty() && !self.hung_up);
        if let Some(master) = master {
            *second = PollFd::from_borrowed_fd(master.as_fd(), wanted);
        }
        let input = self.input.filter(|_| self.inward.is_empty() && !over && self.master.is_some());
        if let Some(input) = input {
            *third = PollFd::from_borrowed_fd(input, PollFlags::IN);
        }
        if wants_output {
            *fourth = PollFd::from_borrowed_fd(self.output.fd(), PollFlags::OUT);
        }
        // What is written inside after the end of the program is not waited for.
        let patience = if over && !wants_output {
            Some(Timespec { tv_sec: 0, tv_nsec: 0 })
        } else {
            self.hung_up.then_some(Timespec { tv_sec: 0, tv_nsec: HUNG_UP })
        };
        match poll(&mut set, patience.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::os("wait for the program", errno).in_phase(Phase::Terminal)),
        }
        let [zeroth, first, second, third, fourth] = set.each_ref().map(|slot| !slot.revents().is_empty());
        self.hung_up = false;
        Ok(Ready {
            signals: zeroth,
            ended: !over && first,
            master: over || second,
            input: input.is_some() && third,
            output: wants_output && fourth,
        })
    }

    fn drained(&mut self) -> bool {
        // The last read said that there is nothing more, or there is nothing to read from.
        self.master.is_none() || self.outward.at_end
    }

    fn signal(&mut self, signal: i32, signals: &Signals, forward: &mut dyn FnMut(i32)) {
        match signal {
            libc::SIGWINCH => self.resize(),
            libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => self.stop(signal, signals),
            libc::SIGCONT => {
                self.resume();
                forward(signal);
            }
            other => forward(other),
        }
    }

    /// Stops like any other job, with the terminal as the shell expects it, until SIGCONT.
    fn stop(&mut self, signal: i32, signals: &Signals) {
        self.host.restore();
        signals.stop_by(signal);
        self.resume();
    }

    fn resume(&mut self) {
        let _ = self.host.make_raw();
        self.resize();
    }

    /// Gives the container's terminal the size of the caller's.
    fn resize(&self) {
        if let Some(master) = &self.master {
            self.host.size_to(master.as_fd());
        }
    }

    fn read_input(&mut self, signals: &Signals) {
        let Some(input) = self.input else { return };
        if !self.host.is_raw() {
            if !self.host.is_ours() {
                return self.read_in_background(signals);
            }
            let _ = self.host.make_raw();
        }
        match self.inward.fill(|room| read(input, room)) {
            Ok(0) => self.input = None,
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.input = None,
        }
    }

    /// Whoever reads the terminal from the background is stopped until it is in the foreground; nobody could continue an orphaned
    /// job, so that one gets no input, as the kernel has it.
    fn read_in_background(&mut self, signals: &Signals) {
        if orphaned() { self.input = None } else { self.stop(libc::SIGTTIN, signals) }
    }

    fn flush_in(&mut self) {
        let Some(master) = &self.master else { return self.inward.clear() };
        // EAGAIN: the program does not read. Other errors: the terminal is being closed; its output says when.
        let _ = self.inward.drain(|bytes| write(master, bytes));
    }

    /// Reads what the program wrote and writes it at once, as long as both go without waiting.
    fn copy_out(&mut self) {
        for _ in 0..BURST {
            if !self.flush_out() {
                return;
            }
            let Some(master) = &self.master else { return };
            match self.outward.fill(|room| read(master, room)) {
                Ok(0) | Err(Errno::IO) => {
                    self.hung_up = true;
                    self.outward.at_end = true;
                    return;
                }
                Ok(_) => self.outward.at_end = false,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.outward.at_end = true;
                    return;
                }
                Err(_) => return self.hang_up(),
            }
        }
    }

    /// Whether all is out.
    fn flush_out(&mut self) -> bool {
        let output = &self.output;
        match self.outward.drain(|bytes| output.write(bytes)) {
            Ok(()) => true,
            Err(Errno::AGAIN) => false,
            Err(_) => {
                self.hang_up();
                false
            }
        }
    }

    /// Nobody reads the output: the terminal is closed, and the kernel tells the program.
    fn hang_up(&mut self) {
        self.master = None;
        self.outward.clear();
        self.inward.clear();
    }
}

/// Whether our job has no shell that could continue it.
fn orphaned() -> bool {
    // Not rustix: a session or group whose leader lives outside our pid namespace is 0, which its type cannot hold.
    use nix::unistd::{getpgid, getpgrp, getppid, getsid};
    let parent = getppid();
    if parent.as_raw() == 0 {
        return true;
    }
    getsid(Some(parent)) != getsid(None) || getpgid(Some(parent)) == Ok(getpgrp())
}

/// Which ends have something.
struct Ready {
    signals: bool,
    ended: bool,
    master: bool,
    input: bool,
    output: bool,
}

/// Bytes read and not yet written.
#[derive(Debug)]
struct Buffer {
    bytes: Box<[u8; BUFFER]>,
    start: usize,
    end: usize,
    /// The last read found nothing.
    at_end: bool,
}

impl Buffer {
    fn new() -> Self {
        Self { bytes: Box::new([0; BUFFER]), start: 0, end: 0, at_end: false }
    }

    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Fills an empty buffer.
    fn fill(
        &mut self,
        read: impl FnOnce(&mut [u8]) -> rustix::io::Result<usize>,
    ) -> rustix::io::Result<usize> {
        let count = read(&mut self.bytes[..])?;
        (self.start, self.end) = (0, count);
        Ok(count)
    }

    /// Writes until nothing is left or an error says why not.
    fn drain(&mut self, write: impl Fn(&[u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<()> {
        while let Some(rest) = self.bytes.get(self.start..self.end).filter(|rest| !rest.is_empty()) {
            match write(rest) {
                Ok(count) => self.start += count,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        self.clear();
        Ok(())
    }
}

/// The caller's standard output, so that writing to it never blocks where that can be had.
#[derive(Debug)]
enum Output<'a> {
    /// Opened anew, so that non-blocking is ours alone.
    Own(OwnedFd),
    /// A socket: each call says that it does not wait.
    Socket(BorrowedFd<'a>),
    /// A file that is always ready.
    File(BorrowedFd<'a>),
    /// Something that could not be opened anew: little at a time, and only when it is ready.
    Careful(BorrowedFd<'a>),
}

impl<'a> Output<'a> {
    fn of(fd: BorrowedFd<'a>) -> Self {
        let kind =
            rustix::fs::fstat(fd).map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode));
        match kind {
            FileType::RegularFile => Self::File(fd),
            FileType::Socket => Self::Socket(fd),
            _ => {
                let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
                let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
                rustix::fs::open(path, flags, Mode::empty()).map_or(Self::Careful(fd), Self::Own)
            }
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Own(fd) => fd.as_fd(),
            Self::Socket(fd) | Self::File(fd) | Self::Careful(fd) => *fd,
        }
    }

    fn write(&self, bytes: &[u8]) -> rustix::io::Result<usize> {
        match self {
            Self::Own(fd) => write(fd, bytes),
            Self::File(fd) => write(fd, bytes),
            Self::Socket(fd) => rustix::net::send(fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
            Self::Careful(fd) => {
                let now = Timespec { tv_sec: 0, tv_nsec: 0 };
                if poll(&mut [PollFd::from_borrowed_fd(*fd, PollFlags::OUT)], Some(&now))? == 0 {
                    return Err(Errno::AGAIN);
                }
                write(fd, bytes.get(..SAFE).unwrap_or(bytes))
            }
        }
    }
}

#[cfg(test)]
mod tests;
