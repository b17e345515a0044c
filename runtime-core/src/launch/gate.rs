//! The gate: where a created container waits, and how a later `start` reaches it.
//!
//! launch binds a datagram socket in the container's directory before the clone and closes its own copy after it, so that init
//! alone keeps it. That makes the gate evidence: while a connection succeeds, init waits; refused means that it was started or
//! is dead. `start` sends one message with the write end of a report channel; init answers `Taken`, then `Failed` when a step
//! fails, and the channel's end of file is the exec.
//!
//! A process that another thread clones at that moment holds a copy of the socket until it has closed what is not its own, and a
//! connection would succeed although init is gone from the gate. So `start` removes the file as soon as init has answered.
//!
//! The socket is named through the directory's descriptor, so the name's length is no limit and nothing can be put in the way.
//!
//! Must not: take the lock (its callers do), word the failures of steps. Tests: at the end of this file.

use crate::error::{Error, ErrorKind, Phase, Result};
use crate::launch::channel::{Channel, Event, send_on};
use crate::process::{Identity, Line, own_proc};
use coracle_init::wire::{Kind, Message};
use rustix::fs::{AtFlags, Mode, fchmod, statat, unlinkat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType, bind, connect, shutdown, socket_with,
};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Instant;

/// Name of the socket in the container's directory.
pub(crate) const NAME: &str = "gate";

/// An open gate: somebody holds the socket, so the container is created and not started. Sends nothing until it is told to.
#[derive(Debug)]
pub(crate) struct Gate(OwnedFd);

/// What became of the process after `Taken`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The program was executed; it may have ended since.
    Executed,
    /// A step failed; init exits.
    Failed(Message),
    /// It ended before the program was executed, without a word: something killed it.
    Died,
}

/// The read end of the report channel of one `start`.
#[derive(Debug)]
pub(crate) struct Report {
    channel: Channel,
    failed: Option<Message>,
    /// The gate and our copy of what went through it, for a moment: whoever closes a socket while a descriptor is on its way makes the kernel
    /// look for what nobody can receive any more.
    sent: Option<(OwnedFd, OwnedFd)>,
    /// Nothing can be read any more: init had taken the start when it was withdrawn.
    deaf: bool,
}

impl Gate {
    /// Binds the gate in the container's directory `dir`, mode 0600 from its first moment. For init's slot; the caller closes its
    /// copy after the clone.
    ///
    /// # Errors
    /// [`ErrorKind::Io`]: EADDRINUSE when there is a gate already, ENOENT when `/proc` is not mounted.
    pub(crate) fn bind(dir: BorrowedFd<'_>) -> Result<OwnedFd> {
        let fail = |e: Errno| Error::os("bind the gate", e).in_phase(Phase::Gate);
        let gate = datagram().map_err(fail)?;
        // bind(2) takes the new file's mode from the socket's own inode, less the umask, which is not ours to change.
        fchmod(&gate, Mode::RUSR | Mode::WUSR).map_err(fail)?;
        bind(&gate, &address(dir).map_err(fail)?).map_err(fail)?;
        Ok(gate)
    }

    /// Asks the kernel whether init waits. `None`: it was started, it is dead, or it was made without a gate.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the socket cannot be asked: no access, no descriptors, no `/proc`.
    pub(crate) fn reach(dir: BorrowedFd<'_>) -> Result<Option<Self>> {
        Ok(reach(dir)?.map(Self))
    }

    /// Tells init to go on. The caller holds the container's lock. When [`Report::withdraw`] follows, the message still lies in the gate
    /// of a process that sleeps (a frozen cgroup): init finds nobody at the report channel and waits on. `None` when there is no room for
    /// one more.
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`] when init waits no longer; [`ErrorKind::Io`] else.
    pub(crate) fn start(self) -> Result<Option<Report>> {
        let closed = || {
            Error::new(ErrorKind::WrongState, "start the container: it does not wait to be started")
                .with_code("gate-closed")
                .in_phase(Phase::Gate)
        };
        let (channel, theirs) = Channel::pair()?;
        match send_on(self.0.as_fd(), &Message::plain(Kind::Start), &[theirs.as_fd()]) {
            Ok(()) => Ok(Some(Report { channel, failed: None, sent: Some((self.0, theirs)), deaf: false })),
            // Starts that were withdrawn, before init that sleeps.
            Err(Errno::AGAIN) => Ok(None),
            Err(Errno::CONNREFUSED | Errno::CONNRESET) => Err(closed()),
            Err(e) => Err(Error::os("send the start message to the gate", e).in_phase(Phase::Gate)),
        }
    }
}

impl Report {
    /// Waits until init has taken the start, at most until `deadline`; says whether it has. `init` is its pidfd.
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`] when init died or passed the start by.
    pub(crate) fn taken(&mut self, init: BorrowedFd<'_>, deadline: Instant) -> Result<bool> {
        let answer = self.channel.recv(Some(deadline), Some(init));
        // Before anything else is waited for: from here on the end of file is the other side's alone.
        self.sent = None;
        match answer {
            Ok(Event::Message { message, .. }) if message.kind == Kind::Taken => Ok(true),
            Ok(Event::Message { message, .. }) if message.kind == Kind::Failed => {
                self.failed = Some(message);
                Ok(true)
            }
            Ok(Event::Message { message, .. }) => Err(unexpected(&message)),
            Ok(Event::HangUp | Event::Exited) => Err(Error::new(
                ErrorKind::WrongState,
                "start the container: its init went away without an answer",
            )
            .with_code("init-died")
            .in_phase(Phase::Gate)),
            Err(e) if e.kind() == ErrorKind::Timeout => Ok(false),
            Err(e) => Err(e.in_phase(Phase::Gate)),
        }
    }

    /// Takes the start back: init cannot answer any more. `false` when it has taken it in the meantime; what it says then, nobody hears.
    ///
    /// # Errors
    /// As [`Report::taken`].
    pub(crate) fn withdraw(&mut self, init: BorrowedFd<'_>) -> Result<bool> {
        shutdown(&self.channel, Shutdown::Read)
            .map_err(|e| Error::os("take the start back", e).in_phase(Phase::Gate))?;
        // What came before is still there to read; else this is its end.
        match self.taken(init, Instant::now()) {
            Err(e) if e.code() == "init-died" => Ok(true),
            taken => {
                self.deaf = taken?;
                Ok(!self.deaf)
            }
        }
    }

    /// Leaves nothing that leads to the gate in `dir`, which init has left.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the file cannot be removed.
    pub(crate) fn shut(dir: BorrowedFd<'_>) -> Result<()> {
        match unlinkat(dir, NAME, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(Error::os("remove the gate", e).in_phase(Phase::Gate)),
        }
    }

    /// Waits for what becomes of the process. Without a deadline: hooks that run before the exec may take minutes; it ends with the
    /// process behind `init` at the latest.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when receiving fails or init breaks the protocol.
    pub(crate) fn outcome(self, init: BorrowedFd<'_>, identity: &Identity) -> Result<Outcome> {
        if let Some(failed) = self.failed {
            return Ok(Outcome::Failed(failed));
        }
        // While it is on its way to its program.
        let line = identity.line();
        let died = || line.as_ref().map_or_else(|| identity.never_executed(), Line::never_executed);
        if self.deaf {
            self.channel.wait_hang_up(init).map_err(|e| e.in_phase(Phase::Gate))?;
            return Ok(if died() { Outcome::Died } else { Outcome::Executed });
        }
        match self.channel.recv(None, Some(init)).map_err(|e| e.in_phase(Phase::Gate))? {
            Event::Message { message, .. } if message.kind == Kind::Failed => Ok(Outcome::Failed(message)),
            Event::Message { message, .. } => Err(unexpected(&message)),
            // A program may end before we look: only one that never was executed died on the way. It has closed its files and is no zombie
            // yet, or it is one.
            Event::HangUp | Event::Exited if died() => Ok(Outcome::Died),
            Event::HangUp | Event::Exited => Ok(Outcome::Executed),
        }
    }
}

fn unexpected(message: &Message) -> Error {
    Error::new(ErrorKind::Io, format!("receive from the container's init: unexpected {:?}", message.kind))
        .with_code("wire-order")
        .in_phase(Phase::Gate)
}

fn datagram() -> Result<OwnedFd, Errno> {
    socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
}

fn address(dir: BorrowedFd<'_>) -> Result<SocketAddrUnix, Errno> {
    SocketAddrUnix::new(format!("{}/fd/{}/{NAME}", own_proc(), dir.as_raw_fd()))
}

/// A socket connected to the gate; `None` when nobody holds it.
fn reach(dir: BorrowedFd<'_>) -> Result<Option<OwnedFd>> {
    let fail = |e: Errno| Error::os("connect to the gate", e).in_phase(Phase::Gate);
    let is_there = || match statat(dir, NAME, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(e) => Err(fail(e)),
    };
    // A running container has none, and the way through /proc is long.
    if !is_there()? {
        return Ok(None);
    }
    let socket = datagram().map_err(fail)?;
    match connect(&socket, &address(dir).map_err(fail)?) {
        Ok(()) => Ok(Some(socket)),
        Err(Errno::CONNREFUSED) => Ok(None),
        // Taken away meanwhile. Without /proc every gate looks so: what is there and was not reached is an error.
        Err(Errno::NOENT) if !is_there()? => Ok(None),
        Err(Errno::NOENT) => Err(fail(Errno::NOENT).with_hint("/proc must be mounted")),
        Err(e) => Err(fail(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::tests::{alone_as, identity, open_pidfd, sleeper};
    use crate::sys::proc::tests::silent_child;
    use coracle_init::wire::Call;
    use rustix::fs::{OFlags, open};
    use rustix::process::{WaitId, WaitIdOptions};
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::process::CommandExt;
    use std::path::PathBuf;
    use std::process::{Child, Command, Stdio};
    use std::time::Duration;

    /// A directory with a name too long for a socket address; removed with its gate at the end.
    struct Dir(PathBuf, OwnedFd);

    impl Dir {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("{name}-{}-{}", std::process::id(), "x".repeat(150)));
            fs::create_dir(&path).unwrap();
            let fd = open(&path, OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
            Self(path, fd)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_file(self.0.join(NAME));
            let _ = fs::remove_dir(&self.0);
        }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    /// Soon, not at once: a process that another test forks holds copies of everything until it executes.
    fn closes(dir: &Dir) {
        let end = soon();
        while Gate::reach(dir.1.as_fd()).unwrap().is_some() {
            assert!(Instant::now() < end, "the gate stays open");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Takes one start from the gate and gives its report channel.
    fn take(gate: OwnedFd) -> Channel {
        let Event::Message { message, mut fds } = Channel::from(gate).recv(None, None).unwrap() else {
            panic!("no start");
        };
        assert_eq!(message, Message::plain(Kind::Start));
        assert_eq!(fds.len(), 1);
        Channel::from(fds.remove(0))
    }

    /// The other process of the tests below, with the gate as its standard input; in other runs there is nothing to play.
    #[test]
    fn plays_init() {
        let Some(role) = std::env::var_os("CORACLE_TEST_INIT") else { return };
        let gate = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
        let report = take(gate);
        report.send(&Message::plain(Kind::Taken), &[]).unwrap();
        if role == "exec" {
            panic!("{}", Command::new("sleep").arg("1000").stdin(Stdio::null()).exec());
        }
    }

    fn init(gate: OwnedFd, role: &str) -> Child {
        alone_as("launch::gate::tests::plays_init")
            .env("CORACLE_TEST_INIT", role)
            .stdin(Stdio::from(gate))
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    #[test]
    fn open_while_somebody_holds_it_and_private_from_the_start() {
        let dir = Dir::new("gate-private");
        assert!(Gate::reach(dir.1.as_fd()).unwrap().is_none(), "none was bound");
        let gate = Gate::bind(dir.1.as_fd()).unwrap();
        assert_eq!(fs::symlink_metadata(dir.0.join(NAME)).unwrap().mode(), libc::S_IFSOCK | 0o600);
        assert!(Gate::reach(dir.1.as_fd()).unwrap().is_some());
        assert_eq!(Gate::bind(dir.1.as_fd()).unwrap_err().errno(), Some(libc::EADDRINUSE));
        let reached = Gate::reach(dir.1.as_fd()).unwrap().unwrap();
        drop(gate);
        closes(&dir);
        let error = reached.start().map(|_| ()).unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::WrongState, "gate-closed"));
    }

    #[test]
    fn the_exec_of_another_process_is_seen_and_closes_the_gate() {
        let dir = Dir::new("gate-exec");
        let mut child = init(Gate::bind(dir.1.as_fd()).unwrap(), "exec");
        let (identity, pidfd) = (identity(&child), open_pidfd(child.id()));
        assert!(Gate::reach(dir.1.as_fd()).unwrap().is_some(), "only the child holds it");
        let mut report = Gate::reach(dir.1.as_fd()).unwrap().unwrap().start().unwrap().unwrap();
        assert!(report.taken(pidfd.as_fd(), soon()).unwrap());
        assert_eq!(report.outcome(pidfd.as_fd(), &identity).unwrap(), Outcome::Executed);
        let name = fs::read_to_string(format!("/proc/{}/comm", child.id())).unwrap();
        assert_eq!(name.trim(), "sleep");
        closes(&dir);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_killed_init_leaves_a_closed_gate() {
        let dir = Dir::new("gate-killed");
        let mut child = init(Gate::bind(dir.1.as_fd()).unwrap(), "exec");
        let pidfd = open_pidfd(child.id());
        assert!(Gate::reach(dir.1.as_fd()).unwrap().is_some());
        // Stopped, it holds the gate and answers nothing: what a frozen cgroup looks like.
        rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::STOP).unwrap();
        // All of its threads, before it can hear anything.
        let stopped = WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT;
        rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), stopped).unwrap();
        let mut report = Gate::reach(dir.1.as_fd()).unwrap().unwrap().start().unwrap().unwrap();
        assert!(!report.taken(pidfd.as_fd(), Instant::now() + Duration::from_millis(50)).unwrap());
        child.kill().unwrap();
        let error = report.taken(pidfd.as_fd(), soon()).unwrap_err();
        assert_eq!(error.code(), "init-died");
        child.wait().unwrap();
        closes(&dir);
    }

    #[test]
    fn what_was_withdrawn_nobody_takes() {
        let dir = Dir::new("gate-withdrawn");
        let gate = Gate::bind(dir.1.as_fd()).unwrap();
        let mut alive = sleeper();
        let pidfd = open_pidfd(alive.id());
        let mut report = Gate::reach(dir.1.as_fd()).unwrap().unwrap().start().unwrap().unwrap();
        assert!(report.withdraw(pidfd.as_fd()).unwrap());
        let error = take(gate).send(&Message::plain(Kind::Taken), &[]).unwrap_err();
        assert_eq!(error.errno(), Some(libc::EPIPE), "init goes on waiting");
        alive.kill().unwrap();
        alive.wait().unwrap();
    }

    #[test]
    fn what_was_taken_before_it_was_withdrawn_is_waited_for() {
        let dir = Dir::new("gate-late");
        let gate = Gate::bind(dir.1.as_fd()).unwrap();
        let mut child = sleeper();
        let (identity, pidfd) = (identity(&child), open_pidfd(child.id()));
        let mut report = Gate::reach(dir.1.as_fd()).unwrap().unwrap().start().unwrap().unwrap();
        let init = take(gate);
        init.send(&Message::plain(Kind::Taken), &[]).unwrap();
        assert!(!report.withdraw(pidfd.as_fd()).unwrap());
        let ends = Instant::now() + Duration::from_millis(100);
        let closer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(init);
        });
        assert_eq!(report.outcome(pidfd.as_fd(), &identity).unwrap(), Outcome::Executed);
        assert!(Instant::now() >= ends, "not before the other end is closed");
        closer.join().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_full_gate_is_no_failure() {
        let dir = Dir::new("gate-full");
        let _gate = Gate::bind(dir.1.as_fd()).unwrap();
        // net.unix.max_dgram_qlen is 10, or what somebody made of it.
        let full =
            (0..100_000).any(|_| Gate::reach(dir.1.as_fd()).unwrap().unwrap().start().unwrap().is_none());
        assert!(full);
    }

    #[test]
    fn failed_steps_come_after_taken() {
        let dir = Dir::new("gate-failed");
        let gate = Gate::bind(dir.1.as_fd()).unwrap();
        let failed = Message { step: 3, errno: 2, call: Call::Execve, ..Message::plain(Kind::Failed) };
        let player = std::thread::spawn(move || {
            let report = take(gate);
            report.send(&Message::plain(Kind::Taken), &[]).unwrap();
            report.send(&failed, &[]).unwrap();
        });
        let mut child = sleeper();
        let (identity, pidfd) = (identity(&child), open_pidfd(child.id()));
        let mut report = Gate::reach(dir.1.as_fd()).unwrap().unwrap().start().unwrap().unwrap();
        assert!(report.taken(pidfd.as_fd(), soon()).unwrap());
        assert_eq!(report.outcome(pidfd.as_fd(), &identity).unwrap(), Outcome::Failed(failed));
        player.join().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn quick_programs_ran_and_killed_inits_did_not() {
        for executed in [true, false] {
            let dir = Dir::new(if executed { "gate-quick" } else { "gate-died" });
            let gate = Gate::bind(dir.1.as_fd()).unwrap();
            let player = std::thread::spawn(move || {
                take(gate).send(&Message::plain(Kind::Taken), &[]).unwrap();
            });
            let (pid, mut child) = if executed {
                let child = Command::new("true").spawn().unwrap();
                (i32::try_from(child.id()).unwrap(), Some(child))
            } else {
                (silent_child(0).as_raw_nonzero().get(), None)
            };
            let pidfd = open_pidfd(u32::try_from(pid).unwrap());
            let identity = Identity::of(pid, pidfd.as_fd()).unwrap();
            assert!(crate::process::wait_exit(pidfd.as_fd(), Some(soon())).unwrap());
            let mut report = Gate::reach(dir.1.as_fd()).unwrap().unwrap().start().unwrap().unwrap();
            let mut alive = sleeper();
            assert!(report.taken(open_pidfd(alive.id()).as_fd(), soon()).unwrap());
            alive.kill().unwrap();
            alive.wait().unwrap();
            let wanted = if executed { Outcome::Executed } else { Outcome::Died };
            assert_eq!(report.outcome(pidfd.as_fd(), &identity).unwrap(), wanted);
            player.join().unwrap();
            match &mut child {
                Some(child) => drop(child.wait().unwrap()),
                None => drop(crate::process::exit_status(pidfd.as_fd(), Duration::ZERO).unwrap()),
            }
        }
    }
}
