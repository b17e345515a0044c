//! Processes by pidfd: who is it, does it live, how did it end, and signals to nobody else.
//!
//! A number in a saved record is a hint: before anything is done to a process it is opened as a pidfd and compared with what was
//! recorded. Waiting is by pidfd alone; no SIGCHLD is needed and no `waitpid(-1)` is made, so a host with a reaper of its own is not disturbed.
//!
//! Must not: know containers, read records. Tests: at the end of this file.

use crate::error::{Error, ErrorKind, Phase, Result};
use crate::launch::channel::timespec;
use crate::sys::proc::{pidfd_exit_info, pidfd_pid, pidfd_send_signal};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, fstat, fstatfs, open};
use rustix::io::{Errno, pread};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, WaitIdStatus, getpid, pidfd_open, waitid};
use rustix::thread::gettid;
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExitStatus {
    /// It exited with this status, 0 to 255.
    Exited(i32),
    /// This signal ended it.
    Signaled(i32),
    /// It ended and nobody can say how: it is no child of this process, and the kernel is older than 6.15, or its parent has not
    /// reaped it yet.
    Unknown,
}

impl ExitStatus {
    /// As a shell shows it: the exit status, or 128 and the signal's number. `None` when it is not known.
    #[must_use]
    pub fn code(self) -> Option<i32> {
        match self {
            Self::Exited(code) => Some(code),
            Self::Signaled(signal) => Some(signal.saturating_add(128)),
            Self::Unknown => None,
        }
    }

    fn from_waitid(status: &WaitIdStatus) -> Self {
        if let Some(code) = status.exit_status() {
            Self::Exited(code)
        } else {
            status.terminating_signal().map_or(Self::Unknown, Self::Signaled)
        }
    }

    /// From the encoding of wait(2).
    fn from_wait(status: i32) -> Self {
        match (status >> 8) & 0xff {
            code if status & 0x7f == 0 => Self::Exited(code),
            _ => Self::Signaled(status & 0x7f),
        }
    }
}

/// What tells one process from all others of this boot, also from a later one with the same number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Identity {
    /// Its number in the pid namespace of the one who recorded it.
    pub(crate) pid: i32,
    /// Inode of its pidfd: unique for a boot since kernel 6.9.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) pidfs_ino: Option<u64>,
    /// Field 22 of `/proc/PID/stat`, in clock ticks since boot; recorded where the inode says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) start_time: Option<u64>,
}

/// `PID_FS_MAGIC`: pidfds are files of a file system of their own since kernel 6.9.
const PIDFS_MAGIC: u64 = 0x5049_4446;
/// `__WALL`: children without an exit signal too. Not among rustix's names.
const WALL: WaitIdOptions = WaitIdOptions::from_bits_retain(0x4000_0000);

impl Identity {
    /// Identity of the process `pid` behind `pidfd`; both must come from the same clone or open. Of one that has ended and was reaped
    /// meanwhile nothing can be known before 6.9: that identity matches no process.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when `/proc` cannot be read (kernels before 6.9).
    pub(crate) fn of(pid: i32, pidfd: BorrowedFd<'_>) -> Result<Self> {
        let pidfs_ino = pidfs_inode(pidfd)?;
        let start_time = if pidfs_ino.is_some() { None } else { start_time(pid)? };
        Ok(Self { pid, pidfs_ino, start_time })
    }

    /// Opens the process, when it is still this one. It may have ended and not been reaped: see [`has_exited`]. `None` when
    /// there is no such process any more.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the kernel refuses to say (no descriptors left, `/proc` unreadable before 6.9).
    pub(crate) fn open(&self) -> Result<Option<OwnedFd>> {
        let Some(pid) = Some(self.pid).filter(|n| *n > 0).and_then(Pid::from_raw) else { return Ok(None) };
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => fd,
            // EINVAL, later ENOENT: the number now belongs to a thread of some other process.
            Err(Errno::SRCH | Errno::INVAL | Errno::NOENT) => return Ok(None),
            Err(e) => return Err(Error::os("open the process", e).in_phase(Phase::Signal)),
        };
        let same = match (self.pidfs_ino, self.start_time) {
            // Recorded in this boot, so these are inodes of pidfs again.
            (Some(ino), _) => fstat(&pidfd).map_err(gone)?.st_ino == ino,
            // Read after opening: whoever has the number now is the one that was opened, or the opened one is gone.
            (None, Some(ticks)) => start_time(self.pid)? == Some(ticks),
            (None, None) => false,
        };
        Ok(same.then_some(pidfd))
    }

    /// Whether a process that was not reaped yet has never called execve. `false` also when nothing is known of it any more.
    pub(crate) fn never_executed(&self) -> bool {
        self.line().is_some_and(|line| line.never_executed())
    }

    /// Its line in `/proc`, to be read later; `None` when there is none.
    pub(crate) fn line(&self) -> Option<Line> {
        Some(Line { of: self.clone(), file: stat_file(self.pid).ok().flatten()? })
    }
}

/// A process's `/proc/PID/stat`: opening it takes longer than reading.
#[derive(Debug)]
pub(crate) struct Line {
    of: Identity,
    file: OwnedFd,
}

impl Line {
    /// As [`Identity::never_executed`].
    pub(crate) fn never_executed(&self) -> bool {
        // PF_FORKNOEXEC: set by fork, cleared by execve before it closes anything, and still shown for a zombie.
        const FORKNOEXEC: u64 = 0x40;
        let flags = field_of(self.file.as_fd(), 9).ok().flatten();
        flags.is_some_and(|bits| bits & FORKNOEXEC != 0) && matches!(self.of.open(), Ok(Some(_)))
    }
}

fn pidfs_inode(pidfd: impl std::os::fd::AsFd) -> Result<Option<u64>> {
    let magic = fstatfs(&pidfd).map_err(gone)?.f_type;
    if u64::try_from(magic) != Ok(PIDFS_MAGIC) {
        return Ok(None);
    }
    Ok(Some(fstat(&pidfd).map_err(gone)?.st_ino))
}

fn gone(errno: Errno) -> Error {
    Error::os("look at the process", errno).in_phase(Phase::Signal)
}

fn start_time(pid: i32) -> Result<Option<u64>> {
    stat_field(pid, 22)
}

/// One number of `/proc/PID/stat`, counted from 1 as proc(5) does, behind the name; `None` without such a process.
fn stat_field(pid: i32, field: usize) -> Result<Option<u64>> {
    match stat_file(pid)? {
        Some(file) => field_of(file.as_fd(), field),
        None => Ok(None),
    }
}

fn stat_file(pid: i32) -> Result<Option<OwnedFd>> {
    match open(format!("/proc/{pid}/stat"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT | Errno::SRCH) => Ok(None),
        Err(e) => Err(gone(e)),
    }
}

fn field_of(stat: BorrowedFd<'_>, field: usize) -> Result<Option<u64>> {
    let mut text = [0_u8; 1024];
    match pread(stat, &mut text, 0) {
        Ok(n) => Ok(text.get(..n).and_then(|stat| nth_field(stat, field))),
        Err(Errno::SRCH) => Ok(None),
        Err(e) => Err(gone(e)),
    }
}

/// The second field is a name that may hold spaces and parentheses: fields are counted from the last `)`.
fn nth_field(stat: &[u8], field: usize) -> Option<u64> {
    let close = stat.iter().rposition(|b| *b == b')')?;
    let rest = std::str::from_utf8(stat.get(close.checked_add(2)?..)?).ok()?;
    rest.split(' ').nth(field.checked_sub(3)?)?.parse().ok()
}

/// This thread's directory in `/proc`. A thread of a host may have descriptors and namespaces of its own; the first one's are the
/// process's, and the way to them is shorter.
pub(crate) fn own_proc() -> &'static str {
    if gettid() == getpid() { "/proc/self" } else { "/proc/thread-self" }
}

/// The number of the process behind `pidfd` in our pid namespace; `None` when it was reaped.
///
/// # Errors
/// [`ErrorKind::Io`] when `/proc` cannot be read, on kernels before 6.13 and of one that was reaped.
pub(crate) fn pid_of(pidfd: BorrowedFd<'_>) -> Result<Option<i32>> {
    match pidfd_pid(pidfd) {
        Ok(pid) => Ok(Some(pid)),
        // Reaped, of another pid namespace, or an older kernel: the descriptor's own file says which.
        Err(_) => pid_in_fdinfo(pidfd),
    }
}

fn pid_in_fdinfo(pidfd: BorrowedFd<'_>) -> Result<Option<i32>> {
    let path = format!("{}/fdinfo/{}", own_proc(), pidfd.as_raw_fd());
    let text =
        std::fs::read_to_string(&path).map_err(|e| Error::os("read a pidfd's number", e).with_path(&path))?;
    let number = text.lines().find_map(|line| line.strip_prefix("Pid:")).and_then(|n| n.trim().parse().ok());
    Ok(number.filter(|n| *n > 0))
}

/// Opens the process that has this number now; `None` when nobody has it.
///
/// # Errors
/// [`ErrorKind::Io`] when the kernel refuses to say.
pub(crate) fn open_pid(pid: i32) -> Result<Option<OwnedFd>> {
    let Some(pid) = Some(pid).filter(|n| *n > 0).and_then(Pid::from_raw) else { return Ok(None) };
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::SRCH | Errno::INVAL | Errno::NOENT) => Ok(None),
        Err(e) => Err(Error::os("open the process", e).in_phase(Phase::Signal)),
    }
}

/// Sends a signal to exactly the process that was opened. `false` when it was reaped already.
///
/// # Errors
/// [`ErrorKind::Kernel`]: EINVAL (no such signal), EPERM.
pub(crate) fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<bool> {
    match pidfd_send_signal(pidfd, signal) {
        Ok(()) => Ok(true),
        Err(Errno::SRCH) => Ok(false),
        Err(e) => Err(Error::os(format!("send signal {signal} to the process"), e)
            .of_kind(ErrorKind::Kernel)
            .in_phase(Phase::Signal)),
    }
}

/// Whether the process has ended; one that was not reaped yet has.
///
/// # Errors
/// [`ErrorKind::Io`] when polling fails.
pub(crate) fn has_exited(pidfd: BorrowedFd<'_>) -> Result<bool> {
    wait_for(pidfd, PollFlags::IN, Some(Instant::now()))
}

/// Waits until the process ended, at most until `deadline`; says whether it did. Reaps nothing.
///
/// # Errors
/// [`ErrorKind::Io`] when polling fails.
pub(crate) fn wait_exit(pidfd: BorrowedFd<'_>, deadline: Option<Instant>) -> Result<bool> {
    wait_for(pidfd, PollFlags::IN, deadline)
}

fn wait_for(pidfd: BorrowedFd<'_>, what: PollFlags, deadline: Option<Instant>) -> Result<bool> {
    loop {
        let left = deadline.map(|end| timespec(end.saturating_duration_since(Instant::now())));
        match poll(&mut [PollFd::from_borrowed_fd(pidfd, what)], left.as_ref()) {
            Ok(n) => return Ok(n > 0),
            Err(Errno::INTR) => {}
            Err(e) => return Err(Error::os("wait for the process", e).in_phase(Phase::Signal)),
        }
    }
}

/// How the process ended; `None` while it has not. Reaps it when it is a child of this process, and then only this one.
///
/// When it is not, or another thread was first, the kernel is asked (6.15), which knows once the parent has reaped it: that is
/// waited for, at most for `grace`.
///
/// # Errors
/// [`ErrorKind::Io`] when the descriptor is no pidfd or polling fails.
pub(crate) fn exit_status(pidfd: BorrowedFd<'_>, grace: Duration) -> Result<Option<ExitStatus>> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WALL;
    match waitid(WaitId::PidFd(pidfd), options) {
        Ok(Some(status)) => return Ok(Some(ExitStatus::from_waitid(&status))),
        Ok(None) => return Ok(None),
        Err(Errno::CHILD) => {}
        Err(e) => return Err(Error::os("reap the process", e).in_phase(Phase::Signal)),
    }
    if !has_exited(pidfd)? {
        return Ok(None);
    }
    Ok(Some(match pidfd_exit_info(pidfd) {
        Ok(Some(status)) => ExitStatus::from_wait(status),
        Ok(None) if wait_for(pidfd, PollFlags::empty(), Instant::now().checked_add(grace))? => {
            pidfd_exit_info(pidfd).ok().flatten().map_or(ExitStatus::Unknown, ExitStatus::from_wait)
        }
        Ok(None) | Err(_) => ExitStatus::Unknown,
    }))
}

#[cfg(test)]
#[allow(clippy::zombie_processes, reason = "reaping by other means is what is tested")]
pub(crate) mod tests {
    use super::*;
    use crate::sys::proc::tests::silent_child;
    use std::os::fd::AsFd;
    use std::process::{Child, Command, Stdio};

    /// A process that does nothing, and is gone when the test is.
    pub(crate) struct Sleeper(Child);

    pub(crate) fn sleeper() -> Sleeper {
        Sleeper(Command::new("sleep").arg("1000").stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }

    impl std::ops::Deref for Sleeper {
        type Target = Child;

        fn deref(&self) -> &Child {
            &self.0
        }
    }

    impl std::ops::DerefMut for Sleeper {
        fn deref_mut(&mut self) -> &mut Child {
            &mut self.0
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    pub(crate) fn open_pidfd(pid: u32) -> OwnedFd {
        pidfd_open(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), PidfdFlags::empty()).unwrap()
    }

    pub(crate) fn identity(child: &Child) -> Identity {
        Identity::of(i32::try_from(child.id()).unwrap(), open_pidfd(child.id()).as_fd()).unwrap()
    }

    fn soon() -> Option<Instant> {
        Some(Instant::now() + Duration::from_secs(10))
    }

    fn kernel_is_at_least(wanted: (u32, u32)) -> bool {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut parts = release.split(['.', '-']).map(|n| n.parse().unwrap_or(0));
        (parts.next().unwrap(), parts.next().unwrap()) >= wanted
    }

    /// This program, running one test only.
    pub(crate) fn alone_as(test: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--nocapture"]);
        command
    }

    /// Runs one test of this file alone in a process of its own: its `waitpid(-1)` would steal the children of the others.
    /// Says whether this is that process.
    fn alone(test: &str) -> bool {
        if std::env::var_os("CORACLE_TEST_ALONE").is_some() {
            return true;
        }
        let run =
            alone_as(&format!("process::tests::{test}")).env("CORACLE_TEST_ALONE", "1").output().unwrap();
        let text = String::from_utf8_lossy(&run.stdout).into_owned();
        assert!(run.status.success() && text.contains("1 passed"), "{text}");
        false
    }

    #[test]
    fn only_the_recorded_process_is_opened() {
        let mut child = sleeper();
        let identity = identity(&child);
        assert!(identity.open().unwrap().is_some());
        let another = Identity { pidfs_ino: identity.pidfs_ino.map(|n| n + 1), ..identity.clone() };
        if another != identity {
            assert!(another.open().unwrap().is_none(), "another inode is another process");
        }
        let ticks = start_time(identity.pid).unwrap();
        assert!(ticks.is_some_and(|t| t > 0));
        let old = Identity { pidfs_ino: None, start_time: ticks, ..identity.clone() };
        assert!(old.open().unwrap().is_some(), "the way of kernels before 6.9");
        let reused = Identity { start_time: ticks.map(|t| t + 1), ..old.clone() };
        assert!(reused.open().unwrap().is_none(), "another start time is another process");
        for pid in [0, -1, i32::MIN, i32::MAX] {
            assert!(Identity { pid, ..old.clone() }.open().unwrap().is_none());
        }
        let nothing = Identity { pidfs_ino: None, start_time: None, ..old.clone() };
        assert!(nothing.open().unwrap().is_none(), "a bare number proves nothing");

        child.kill().unwrap();
        let pidfd = open_pidfd(child.id());
        assert!(wait_exit(pidfd.as_fd(), soon()).unwrap());
        assert!(old.open().unwrap().is_some(), "a zombie is still the one");
        child.wait().unwrap();
        assert!(identity.open().unwrap().is_none() && old.open().unwrap().is_none());
    }

    #[test]
    fn names_with_parentheses_do_not_move_the_fields() {
        let text = b"7 (a) R 1) ) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 424242 1 2 3";
        assert_eq!(nth_field(text, 22), Some(424_242));
        assert_eq!(nth_field(b"7 (a)", 22), None);
        assert_eq!(nth_field(b"", 22), None);
    }

    #[test]
    fn children_without_exit_signal_are_reaped_by_pidfd_alone() {
        let pid = silent_child(7);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        assert!(wait_exit(pidfd.as_fd(), soon()).unwrap());
        let plain = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        assert!(matches!(plain, Err(Errno::CHILD)), "a host's waitpid(-1) does not see it");
        assert_eq!(exit_status(pidfd.as_fd(), Duration::ZERO).unwrap(), Some(ExitStatus::Exited(7)));
        let again = exit_status(pidfd.as_fd(), Duration::ZERO).unwrap();
        let known = kernel_is_at_least((6, 15));
        assert_eq!(again, Some(if known { ExitStatus::Exited(7) } else { ExitStatus::Unknown }));
    }

    #[test]
    fn signals_end_the_wait_and_are_told_apart_from_exits() {
        let child = sleeper();
        let pidfd = open_pidfd(child.id());
        assert!(!wait_exit(pidfd.as_fd(), Some(Instant::now() + Duration::from_millis(20))).unwrap());
        assert_eq!(exit_status(pidfd.as_fd(), Duration::ZERO).unwrap(), None);
        assert!(send_signal(pidfd.as_fd(), 0).unwrap());
        assert_eq!(send_signal(pidfd.as_fd(), 65).unwrap_err().errno(), Some(libc::EINVAL));
        assert!(send_signal(pidfd.as_fd(), libc::SIGRTMAX()).unwrap());
        assert!(wait_exit(pidfd.as_fd(), soon()).unwrap());
        let status = exit_status(pidfd.as_fd(), Duration::ZERO).unwrap();
        assert_eq!(status, Some(ExitStatus::Signaled(libc::SIGRTMAX())));
        assert_eq!(status.and_then(ExitStatus::code), Some(128 + libc::SIGRTMAX()));
        assert!(!send_signal(pidfd.as_fd(), 0).unwrap(), "reaped: nobody is there to signal");
        // Its number may be another's by now.
        std::mem::forget(child);
    }

    #[test]
    fn a_host_that_reaps_first_does_not_take_the_status_away() {
        if !alone("a_host_that_reaps_first_does_not_take_the_status_away") {
            return;
        }
        let thief = std::thread::spawn(|| {
            let mut stolen = 0;
            while stolen < 20 {
                match rustix::process::wait(rustix::process::WaitOptions::empty()) {
                    Ok(Some(_)) => stolen += 1,
                    _ => std::thread::sleep(Duration::from_micros(200)),
                }
            }
        });
        let known = kernel_is_at_least((6, 15));
        for round in 0..20 {
            let script = format!("read x; exit {round}");
            let mut child = Command::new("sh").args(["-c", &script]).stdin(Stdio::piped()).spawn().unwrap();
            let pidfd = open_pidfd(child.id());
            drop(child.stdin.take());
            assert!(wait_exit(pidfd.as_fd(), soon()).unwrap());
            // The thief and we race: either we reap, or the kernel remembers.
            if round % 2 == 0 {
                std::thread::sleep(Duration::from_millis(20));
            }
            let status = exit_status(pidfd.as_fd(), Duration::from_secs(5)).unwrap();
            let unknown = !known && status == Some(ExitStatus::Unknown);
            assert!(unknown || status == Some(ExitStatus::Exited(round)), "{status:?}");
        }
        while !thief.is_finished() {
            Command::new("true").spawn().unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
        thief.join().unwrap();
    }

    /// A shell whose child, not ours, ends with 5 after `seconds`; `then` is what the shell does meanwhile.
    fn stranger(seconds: f64, then: &str) -> (Child, OwnedFd) {
        use std::io::Read;
        let script = format!("sh -c 'sleep {seconds}; exit 5' >/dev/null & echo $!; {then}");
        let mut shell = Command::new("sh").args(["-c", &script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = Vec::new();
        let mut out = shell.stdout.take().unwrap();
        while line.last() != Some(&b'\n') {
            let mut byte = [0_u8];
            out.read_exact(&mut byte).unwrap();
            line.extend(byte);
        }
        let pidfd = open_pidfd(String::from_utf8(line).unwrap().trim().parse().unwrap());
        (shell, pidfd)
    }

    #[test]
    fn strangers_are_known_once_their_parent_has_reaped_them() {
        let (mut shell, pidfd) = stranger(0.5, "wait");
        assert_eq!(exit_status(pidfd.as_fd(), Duration::ZERO).unwrap(), None);
        assert!(wait_exit(pidfd.as_fd(), soon()).unwrap());
        let status = exit_status(pidfd.as_fd(), Duration::from_secs(10)).unwrap();
        let known = kernel_is_at_least((6, 15));
        assert_eq!(status, Some(if known { ExitStatus::Exited(5) } else { ExitStatus::Unknown }));
        shell.wait().unwrap();
    }

    #[test]
    fn a_stranger_that_nobody_reaps_ends_the_wait_at_the_grace() {
        let (mut shell, pidfd) = stranger(0.3, "exec sleep 1000");
        assert!(wait_exit(pidfd.as_fd(), soon()).unwrap());
        let begun = Instant::now();
        let status = exit_status(pidfd.as_fd(), Duration::from_millis(50)).unwrap();
        assert_eq!(status, Some(ExitStatus::Unknown));
        assert!(begun.elapsed() < Duration::from_secs(5));
        shell.kill().unwrap();
        shell.wait().unwrap();
    }
}
