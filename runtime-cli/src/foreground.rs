//! Staying with a program until it ends: signals passed on, orphans reaped, its end noticed however early it comes.
//!
//! Signals are blocked before the program is started and read from a descriptor, the end is read from a pidfd, so there is no
//! moment in which either could be missed. init gets an empty signal mask from the library.
//! Must not: be used by commands that return at once. Tests: `relay`, and with containers in the `tests` package.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use coracle::{Error, Phase};
use nix::errno::Errno as NixErrno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::io::Errno;
use rustix::process::{getpid, kill_process, set_child_subreaper};

/// All signals of this thread, blocked and readable. Dropping it lets them through again.
pub struct Signals {
    fd: SignalFd,
    before: SigSet,
    beside: Option<Beside>,
}

/// Something that is looked after whenever signals are.
struct Beside {
    /// Readable when there is a signal or something to read from `fd`.
    either: OwnedFd,
    fd: OwnedFd,
    turn: Box<dyn Fn(BorrowedFd<'_>)>,
}

impl Signals {
    /// Blocks all signals that can be blocked.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub fn block() -> Result<Self, Error> {
        let failed = |errno: NixErrno| {
            let errno = Errno::from_raw_os_error(errno as i32);
            Error::os("take over the signals", errno).in_phase(Phase::Signal)
        };
        let all = SigSet::all();
        let fd =
            SignalFd::with_flags(&all, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(failed)?;
        let mut before = SigSet::empty();
        pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&all), Some(&mut before)).map_err(failed)?;
        Ok(Self { fd, before, beside: None })
    }

    /// Calls `turn` whenever there is something to read from `fd`, too.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub fn with(&mut self, fd: OwnedFd, turn: impl Fn(BorrowedFd<'_>) + 'static) -> Result<(), Error> {
        let both = || {
            let either = epoll::create(epoll::CreateFlags::CLOEXEC)?;
            for one in [self.fd.as_fd(), fd.as_fd()] {
                epoll::add(&either, one, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
            }
            Ok(either)
        };
        let either = both().map_err(|errno: Errno| Error::os("wait for signals and notifications", errno))?;
        self.beside = Some(Beside { either, fd, turn: Box::new(turn) });
        Ok(())
    }

    /// Lets what is beside have its turn.
    fn turn(&self) {
        if let Some(beside) = &self.beside {
            (beside.turn)(beside.fd.as_fd());
        }
    }

    /// The next signal that is of interest to anybody. Ended children but the program behind `ended` are reaped here; SIGPIPE is ours, not the program's, and
    /// SIGURG is what runtimes of languages use among their own threads.
    pub fn next(&self, ended: BorrowedFd<'_>) -> Option<i32> {
        self.turn();
        loop {
            let info = self.fd.read_signal().ok().flatten()?;
            match i32::try_from(info.ssi_signo) {
                Ok(libc::SIGCHLD) => reap(ended),
                Ok(libc::SIGPIPE | libc::SIGURG) | Err(_) => {}
                Ok(signal) => return Some(signal),
            }
        }
    }

    /// Does what `signal` does by default, which is to stop the process, and returns when it was continued. The kernel ignores it
    /// where nobody could continue us.
    pub fn stop_by(&self, signal: i32) {
        let Ok(signal) = Signal::try_from(signal) else { return };
        let Some(raw) = rustix::process::Signal::from_named_raw(signal as i32) else { return };
        let mut one = SigSet::empty();
        one.add(signal);
        if kill_process(getpid(), raw).is_ok() && one.thread_unblock().is_ok() {
            let _ = one.thread_block();
        }
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.beside.as_ref().map_or(self.fd.as_fd(), |beside| beside.either.as_fd())
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // What the program said last.
        self.turn();
        let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None);
    }
}

/// Reaps what the container left behind and we adopted, as long as the program behind `ended` lives: its own end is read by the
/// library, which before Linux 6.15 can do so only once. (execve gave it the exit signal that the clone had not.)
fn reap(ended: BorrowedFd<'_>) {
    let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    while let Some(child) = waitid(Id::All, peek).ok().and_then(|status| status.pid()) {
        // Looked at after the peek: if the program lives now, the ended child is another one.
        let lives =
            poll(&mut [PollFd::from_borrowed_fd(ended, PollFlags::IN)], Some(&Timespec::default())) == Ok(0);
        if !lives || waitid(Id::Pid(child), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG).is_err() {
            return;
        }
    }
}

/// Adopts the processes that the container leaves behind, as runc does unless it is told otherwise.
pub fn adopt_orphans() {
    // Without it they go to the caller's init; nothing depends on it.
    let _ = set_child_subreaper(Some(getpid()));
}

/// Passes a signal on to the process behind a pidfd. Real-time signals, which have no names, go the long way round.
///
/// Nothing is allocated on the short way: memory is not given back before the end, and signals may come as often as they like.
///
/// # Errors
/// What `other` says. A process that has ended is no error: its end is what is waited for.
pub fn forward(
    pidfd: BorrowedFd<'_>,
    signal: i32,
    other: impl FnOnce(i32) -> Result<(), Error>,
) -> Result<(), Error> {
    match rustix::process::Signal::from_named_raw(signal) {
        Some(named) => {
            let _ = rustix::process::pidfd_send_signal(pidfd, named);
            Ok(())
        }
        None => other(signal),
    }
}

/// Waits for `ended`, a pidfd, and gives each signal to `forward`.
///
/// # Errors
/// When waiting fails.
pub fn stay(ended: BorrowedFd<'_>, signals: &Signals, forward: &mut dyn FnMut(i32)) -> Result<(), Error> {
    loop {
        let mut set = [
            PollFd::from_borrowed_fd(ended, PollFlags::IN),
            PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
        ];
        match poll(&mut set, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::os("wait for the program", errno).in_phase(Phase::Signal)),
        }
        while let Some(signal) = signals.next(ended) {
            forward(signal);
        }
        if !set[0].revents().is_empty() {
            return Ok(());
        }
    }
}
