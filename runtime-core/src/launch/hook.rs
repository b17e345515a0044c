//! Programs that the parent runs on the host: hooks, and the id mapping programs of shadow.
//!
//! They are started by the same walker as containers: no descriptor of the caller but the three standard streams, and the signals are
//! those of a new program. The caller's environment is never read; it comes as a value. They end with the thread that waits for them.
//!
//! Must not: give a hook anything of the container's environment. Tests: `tests` package, hooks.

use crate::error::{Error, ErrorKind, Phase, Result};
use crate::plan::script::Script;
use crate::process::{self, ExitStatus};
use crate::spec;
use crate::sys::clone::clone_walker;
use coracle_init::Memory;
use coracle_init::program::Step;
use nix::sys::signal::{SigSet, SigmaskHow};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process_group};
use std::borrow::Cow;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How much of a program's output is kept for an error.
const TAIL: usize = 4096;
/// How long the output of an ended program is still read: a grandchild may hold the pipe for ever.
const GRACE: Duration = Duration::from_millis(100);

/// Runs one hook in the runtime's namespaces. It is killed when the process behind `init` ends: there is no container any more.
///
/// # Errors
/// [`ErrorKind::Hook`] with the pointer, the exit status and the end of what it printed.
pub(crate) fn run_hook<'a>(
    hook: &spec::Hook,
    pointer: &str,
    state: &[u8],
    cwd: &str,
    environment: impl FnOnce() -> Cow<'a, [String]>,
    init: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let args = if hook.args.is_empty() { std::slice::from_ref(&hook.path) } else { &hook.args };
    let env = hook.env.as_deref().map_or_else(|| Cow::Owned(harmless(&environment())), Cow::Borrowed);
    let timeout = hook.timeout.and_then(|s| u64::try_from(s).ok()).map(Duration::from_secs);
    run(&hook.path, args, &env, cwd, state, Limits { timeout, init })
        .map_err(|e| e.of_kind(ErrorKind::Hook).at(pointer).in_phase(Phase::Hooks))
}

/// Runs a program of the host to its end.
///
/// # Errors
/// When it cannot be executed or does not exit with 0.
pub(crate) fn run_program(path: &str, args: &[String], env: &[String], cwd: &str) -> Result<()> {
    run(path, args, env, cwd, b"", Limits { timeout: Some(Duration::from_secs(30)), init: None })
}

/// A loader variable that the container's author may have set for the engine must not reach a program with the host's rights (CVE-2025-23266).
fn harmless(environment: &[String]) -> Vec<String> {
    const NAMES: [&str; 7] = ["GLIBC_TUNABLES", "GCONV_PATH", "LOCPATH", "NLSPATH", "IFS", "ENV", "BASH_ENV"];
    let hostile = |entry: &str| {
        let name = entry.split('=').next().unwrap_or_default();
        name.starts_with("LD_") || name.ends_with("_PRELOAD") || NAMES.contains(&name)
    };
    environment.iter().filter(|entry| !hostile(entry)).cloned().collect()
}

/// What ends a program before it ends by itself.
#[derive(Clone, Copy)]
struct Limits<'i> {
    timeout: Option<Duration>,
    init: Option<BorrowedFd<'i>>,
}

/// What ended the wait for a program.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    Ended,
    Late,
    InitGone,
}

fn run(
    path: &str,
    args: &[String],
    env: &[String],
    cwd: &str,
    input: &[u8],
    limits: Limits<'_>,
) -> Result<()> {
    let Limits { timeout, init } = limits;
    let deadline = timeout.and_then(|t| Instant::now().checked_add(t));
    let broken = |e: Errno| Error::os(format!("run {path}"), e).with_path(path);
    let (stdin, feed) = pipe_with(PipeFlags::CLOEXEC).map_err(broken)?;
    let (listen, output) = pipe_with(PipeFlags::CLOEXEC).map_err(broken)?;
    for fd in [&feed, &listen] {
        rustix::fs::fcntl_setfl(fd, OFlags::NONBLOCK).map_err(broken)?;
    }
    let (report, theirs) = super::channel::Channel::pair()?;
    let (pid, pidfd) = start(path, args, env, cwd, [&stdin, &output], &theirs)?;
    drop((stdin, output, theirs));
    let mut child = Child { path, pid, pidfd, feed: Some(feed), listen: Some(listen), tail: Vec::new() };
    let wait = match child.attend(input, deadline, init) {
        Ok(wait) => wait,
        Err(error) => {
            child.end()?;
            return Err(error);
        }
    };
    if let Ok(super::channel::Event::Message { message, .. }) = report.recv(Some(Instant::now()), None) {
        child.end()?;
        return Err(Error::new(ErrorKind::Hook, format!("execute {path}"))
            .with_path(path)
            .with_errno(message.errno));
    }
    if wait == Wait::InitGone {
        child.end()?;
        return Err(Error::new(
            ErrorKind::Hook,
            format!("run {path}: the container's init ended meanwhile{}", child.said()),
        )
        .with_code("hook-init-gone"));
    }
    if wait == Wait::Late {
        child.end()?;
        return Err(Error::new(
            ErrorKind::Hook,
            format!(
                "run {path}: it did not end within {} s{}",
                timeout.unwrap_or_default().as_secs(),
                child.said()
            ),
        )
        .with_code("hook-timeout"));
    }
    match process::exit_status(child.pidfd.as_fd(), Duration::from_secs(1))? {
        Some(ExitStatus::Exited(0)) => Ok(()),
        Some(status) => {
            Err(Error::new(ErrorKind::Hook, format!("run {path}: it {}{}", ended(status), child.said()))
                .with_code("hook-failed"))
        }
        None => Err(Error::new(ErrorKind::Hook, format!("run {path}: it did not end"))),
    }
}

fn ended(status: ExitStatus) -> String {
    match status {
        ExitStatus::Exited(code) => format!("exited with status {code}"),
        ExitStatus::Signaled(signal) => format!("was killed by signal {signal}"),
        _ => "ended in a way that nobody saw".to_owned(),
    }
}

fn start(
    path: &str,
    args: &[String],
    env: &[String],
    cwd: &str,
    [stdin, output]: [&OwnedFd; 2],
    report: &OwnedFd,
) -> Result<(i32, OwnedFd)> {
    let mut script = Script::new();
    let slots = [script.slot()?, script.slot()?, script.slot()?];
    for (slot, target) in slots.into_iter().zip(0_u32..) {
        script.step("", Phase::Hooks, Step::InstallDescriptor { fd: slot, target });
    }
    // Whoever waits for it may be killed: then nobody is left who knows of it.
    script.step("", Phase::Hooks, Step::ParentDeathSignal { signal: libc::SIGKILL });
    script.step("", Phase::Hooks, Step::SetSid);
    let directory = script.str(cwd)?;
    script.step("", Phase::Hooks, Step::WorkingDir { path: directory, optional: false });
    let candidates = script.arena.list([path])?;
    script.step("", Phase::Hooks, Step::FindProgram { candidates, uid: 0, home: false });
    let argv = script.vector(args)?;
    let env = script.vector(env)?;
    script.step("", Phase::Hooks, Step::ResetSignals);
    script.step("", Phase::Hooks, Step::CloseDescriptors { from_keep: 3, from: 3 });
    script.step("", Phase::Hooks, Step::Exec { argv, env });
    let steps: Vec<_> = script.steps.iter().zip(0_u32..).map(|(p, n)| (n, &p.what)).collect();
    let arena = script.arena.finish(steps.into_iter(), u32::from(script.slots()), script.words)?;
    let fds = [stdin.as_raw_fd(), output.as_raw_fd(), output.as_raw_fd()];
    let mut places = fds.to_vec();
    let mut words = vec![0_usize; usize::try_from(script.words).unwrap_or(0)];
    let mut kept: Vec<i32> = (0..3).chain(fds).chain([report.as_raw_fd()]).collect();
    kept.sort_unstable();
    kept.dedup();
    let memory = Memory {
        slots: &mut places,
        words: &mut words,
        report: report.as_raw_fd(),
        kept: &kept,
        spare_stack: None,
        spare_tree: None,
    };
    let broken = |e: Errno| Error::os(format!("clone a process for {path}"), e);
    let mask = SigSet::all()
        .thread_swap_mask(SigmaskHow::SIG_SETMASK)
        .map_err(|e| Error::os("block signals", std::io::Error::from(e)))?;
    let cloned = clone_walker(0, None, &arena, memory).map_err(broken);
    // Cannot fail: the set came from the kernel.
    let _ = mask.thread_set_mask();
    cloned
}

struct Child<'p> {
    path: &'p str,
    pid: i32,
    pidfd: OwnedFd,
    feed: Option<OwnedFd>,
    listen: Option<OwnedFd>,
    tail: Vec<u8>,
}

impl Child<'_> {
    /// Feeds and listens until the program ends, the deadline, or the end of `init`.
    fn attend(
        &mut self,
        mut input: &[u8],
        deadline: Option<Instant>,
        init: Option<BorrowedFd<'_>>,
    ) -> Result<Wait> {
        loop {
            if input.is_empty() {
                self.feed = None;
            }
            let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(Wait::Late);
            }
            let mut fds = vec![PollFd::new(&self.pidfd, PollFlags::IN)];
            fds.extend(init.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
            fds.extend(self.listen.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)));
            fds.extend(self.feed.as_ref().map(|fd| PollFd::new(fd, PollFlags::OUT)));
            let left = left.and_then(|d| Timespec::try_from(d).ok());
            match poll(&mut fds, left.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(e) => return Err(Error::os(format!("attend to {}", self.path), e)),
            }
            let exited = fds.first().is_some_and(|fd| !fd.revents().is_empty());
            let init_gone = init.is_some() && fds.get(1).is_some_and(|fd| !fd.revents().is_empty());
            drop(fds);
            if let Some(feed) = &self.feed {
                match rustix::io::write(feed, input) {
                    Ok(n) => input = input.get(n..).unwrap_or_default(),
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    // A program need not read its standard input.
                    Err(_) => input = &[],
                }
            }
            self.listen_once();
            if exited {
                self.drain();
                return Ok(Wait::Ended);
            }
            if init_gone {
                return Ok(Wait::InitGone);
            }
        }
    }

    fn listen_once(&mut self) -> bool {
        let mut buffer = [0_u8; 4096];
        let Some(listen) = &self.listen else { return false };
        match rustix::io::read(listen, &mut buffer) {
            Ok(0) => {
                self.listen = None;
                false
            }
            Ok(n) => {
                self.tail.extend_from_slice(buffer.get(..n).unwrap_or_default());
                let excess = self.tail.len().saturating_sub(TAIL);
                self.tail.drain(..excess);
                true
            }
            Err(_) => false,
        }
    }

    fn drain(&mut self) {
        let end = Instant::now().checked_add(GRACE);
        while self.listen_once() && end.is_some_and(|end| Instant::now() < end) {}
    }

    /// Kills the program's process group and waits for its leader.
    fn end(&mut self) -> Result<()> {
        // The leader is not reaped yet, so the group's number is still ours.
        if let Some(group) = Pid::from_raw(self.pid) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        process::send_signal(self.pidfd.as_fd(), libc::SIGKILL)?;
        process::wait_exit(self.pidfd.as_fd(), Instant::now().checked_add(Duration::from_secs(5)))?;
        process::exit_status(self.pidfd.as_fd(), Duration::ZERO)?;
        self.drain();
        Ok(())
    }

    /// The end of what it printed, for the error.
    fn said(&self) -> String {
        let text = String::from_utf8_lossy(&self.tail);
        let text = text.trim();
        if text.is_empty() { String::new() } else { format!(", saying: {text}") }
    }
}
