//! The step `Hook`: a program of the administrator that init runs inside.
//!
//! Layout of the step's `hook` bytes, nine native `u64`s:
//!
//! ```text
//! 0 path   1 argv   2 env   3 cwd   4 state before the pid   5 state after the pid      (as step fields)
//! 6 timeout in milliseconds, 0 = none   7 stdout slot   8 stderr slot
//! ```
//!
//! After the fork nothing but write, close_range, dup3, rt_sigaction, rt_sigprocmask, setsid, umask, chdir and execve happens in
//! the child; init itself uses pipe2, clone, ppoll, read, write, close_range, wait4 and kill.
//!
//! Must not: look the program up in a PATH, give the hook a descriptor above 2. Tests: `tests/walk.rs`.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::buf::Decimal;
use crate::program::{Bytes, Fault, Field, Slot, Str, StrList, read_u64};
use crate::report::{self, At, Fail, Say};
use crate::step::exec::{reset_signals, vectors};
use crate::sys::{self, Fd, Forked};
use crate::walk::Walk;
use crate::wire::Call;

/// What one hook is, in offsets into the arena. Holding one proves nothing: the walker checks every offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HookLayout {
    /// Absolute path of the program.
    pub path: Str,
    /// Its arguments, the first included.
    pub argv: StrList,
    /// Its environment, `KEY=value`.
    pub env: StrList,
    /// Working directory.
    pub cwd: Str,
    /// The state as JSON, up to where the pid's digits belong.
    pub state_head: Str,
    /// The state after the pid.
    pub state_tail: Str,
    /// How long the hook may take, in milliseconds; 0 is for ever.
    pub timeout_ms: u64,
    /// Standard output: a pipe or `/dev/null`; a slot that the parent filled.
    pub stdout: Slot,
    /// Standard error, likewise.
    pub stderr: Slot,
}

impl HookLayout {
    /// Bytes of the encoded form.
    pub const LEN: usize = 72;

    /// The bytes that the step's `hook` field points to.
    #[must_use]
    pub fn encode(&self) -> [u8; Self::LEN] {
        let words = [
            self.path.to_word(),
            self.argv.to_word(),
            self.env.to_word(),
            self.cwd.to_word(),
            self.state_head.to_word(),
            self.state_tail.to_word(),
            self.timeout_ms,
            self.stdout.to_word(),
            self.stderr.to_word(),
        ];
        let mut out = [0_u8; Self::LEN];
        for (place, byte) in out.iter_mut().zip(words.iter().flat_map(|word| word.to_ne_bytes())) {
            *place = byte;
        }
        out
    }

    /// Reads the encoded form.
    ///
    /// # Errors
    /// [`Fault`] for another length or a field out of its range.
    pub fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        if bytes.len() != Self::LEN {
            return Err(Fault);
        }
        let word = |index: usize| read_u64(bytes, index.wrapping_shl(3));
        Ok(Self {
            path: Field::from_word(word(0)?)?,
            argv: Field::from_word(word(1)?)?,
            env: Field::from_word(word(2)?)?,
            cwd: Field::from_word(word(3)?)?,
            state_head: Field::from_word(word(4)?)?,
            state_tail: Field::from_word(word(5)?)?,
            timeout_ms: word(6)?,
            stdout: Field::from_word(word(7)?)?,
            stderr: Field::from_word(word(8)?)?,
        })
    }
}

/// Part 0 `pipe2`, 1 `clone`, 2 what the hook's process does up to its `execve`, 3 `ppoll`, 4 `write` of the state, 5 `wait4`,
/// then 6 its end ([`Call::HookStatus`], [`Call::HookTimeout`]).
#[inline(never)]
pub(crate) fn hook(w: &mut Walk<'_>, hook: Bytes) -> Result<(), Fail> {
    let layout = HookLayout::decode(w.program.raw(hook)?)?;
    let name = crate::path::last(w.program.str(layout.path)?);
    run(w, &layout).say(name)
}

fn run(w: &mut Walk<'_>, layout: &HookLayout) -> Result<(), Fail> {
    let deadline = if layout.timeout_ms == 0 {
        None
    } else {
        Some(sys::monotonic_ms().saturating_add(layout.timeout_ms))
    };
    let (input, state) = sys::pipe().at(0, Call::Pipe2)?;
    let (told, tell) = sys::pipe().at(0, Call::Pipe2)?;
    let stdio = [input.raw(), w.slot(layout.stdout)?, w.slot(layout.stderr)?];
    match sys::fork().at(1, Call::Clone3)? {
        Forked::Child => {
            let Err(fail) = child(w, layout, stdio, tell.raw());
            let mut bytes = [0_u8; 8];
            let words =
                u32::from(fail.call.number()).to_ne_bytes().into_iter().chain(fail.errno.to_ne_bytes());
            for (place, byte) in bytes.iter_mut().zip(words) {
                *place = byte;
            }
            let _ = rustix::io::write(sys::borrow(tell.raw()), &bytes);
            sys::exit(127)
        }
        Forked::Parent { pid, pidfd } => {
            drop(input);
            drop(tell);
            let outcome = attend(w, layout, &pidfd, state, deadline);
            let late = !matches!(outcome, Ok(Ending::Itself));
            if late {
                kill(pid);
            }
            let status = loop {
                match sys::wait(pid) {
                    Err(Errno::INTR) => {}
                    other => break other.at(5, Call::Wait)?,
                }
            };
            match outcome? {
                Ending::Late => return Err(Fail::raw(6, Call::HookTimeout, status)),
                Ending::ParentGone => report::gone(),
                Ending::Itself => {}
            }
            started(told)?;
            if status == 0 { Ok(()) } else { Err(Fail::raw(6, Call::HookStatus, status)) }
        }
    }
}

/// How a hook's time ended.
enum Ending {
    Itself,
    Late,
    ParentGone,
}

/// Writes the state and waits for the hook's end, its deadline, or the parent's.
fn attend(
    w: &Walk<'_>,
    layout: &HookLayout,
    pidfd: &Fd,
    state: Fd,
    deadline: Option<u64>,
) -> Result<Ending, Fail> {
    use rustix::fs::{OFlags, fcntl_setfl};
    fcntl_setfl(sys::borrow(state.raw()), OFlags::NONBLOCK).at(4, Call::Fcntl)?;
    let pid = u64::try_from(rustix::process::getpid().as_raw_nonzero().get()).unwrap_or(0);
    let digits = Decimal::new(pid);
    let texts = [w.program.str(layout.state_head)?, digits.bytes(), w.program.str(layout.state_tail)?];
    let mut texts = texts.into_iter();
    let mut text = texts.next().unwrap_or(&[]);
    let mut state = Some(state);
    loop {
        while text.is_empty() {
            match texts.next() {
                Some(next) => text = next,
                None => break,
            }
        }
        if text.is_empty() {
            // The end of the state is the end of the file.
            state = None;
        }
        let left = match deadline.map(|end| end.saturating_sub(sys::monotonic_ms())) {
            Some(0) => return Ok(Ending::Late),
            left => left,
        };
        let (ended, gone, writable) = wait_for(w.report, pidfd, state.as_ref(), left)?;
        if ended {
            return Ok(Ending::Itself);
        }
        if gone {
            return Ok(Ending::ParentGone);
        }
        if let (true, Some(fd)) = (writable, &state) {
            match rustix::io::write(sys::borrow(fd.raw()), text) {
                Ok(len) => text = text.get(len..).unwrap_or(&[]),
                Err(Errno::INTR | Errno::AGAIN) => {}
                // A hook need not read its input.
                Err(Errno::PIPE) => state = None,
                Err(errno) => return Err(Fail::new(4, Call::Write, errno)),
            }
        }
    }
}

/// Whether the hook ended, the parent is gone, the state's pipe takes more (or is broken).
fn wait_for(
    report: i32,
    pidfd: &Fd,
    state: Option<&Fd>,
    left: Option<u64>,
) -> Result<(bool, bool, bool), Fail> {
    let timeout = left.map(|ms| Timespec {
        tv_sec: i64::try_from(ms.wrapping_div(1000)).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(ms.wrapping_rem(1000).wrapping_mul(1_000_000)).unwrap_or(0),
    });
    let parent = PollFd::from_borrowed_fd(sys::borrow(report), PollFlags::empty());
    let hook = PollFd::from_borrowed_fd(sys::borrow(pidfd.raw()), PollFlags::IN);
    let pipe = state.map_or(report, Fd::raw);
    let wanted = if state.is_some() { PollFlags::OUT } else { PollFlags::empty() };
    let pipe = PollFd::from_borrowed_fd(sys::borrow(pipe), wanted);
    let mut fds = [parent, hook, pipe];
    match poll(&mut fds, timeout.as_ref()) {
        Ok(_) => {}
        Err(Errno::INTR) => return Ok((false, false, false)),
        Err(errno) => return Err(Fail::new(3, Call::Poll, errno)),
    }
    let [parent, hook, pipe] = fds;
    let gone = parent.revents().intersects(PollFlags::HUP | PollFlags::ERR);
    let writable = pipe.revents().intersects(PollFlags::OUT | PollFlags::ERR);
    Ok((!hook.revents().is_empty(), gone, writable))
}

/// Kills the hook and its process group. The leader is our child and not yet reaped, so the number is still its.
fn kill(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // There is no group yet when the child had no time to make one, and no leader when it ended just now.
        let _ = kill_process_group(pid, Signal::KILL);
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Whether the hook's process came to its `execve`; else what it could not do. Only after its end: never waits.
fn started(told: Fd) -> Result<(), Fail> {
    let mut bytes = [0_u8; 8];
    match rustix::io::read(sys::borrow(told.raw()), &mut bytes) {
        Ok(8) => {
            let [a, b, c, d, e, f, g, h] = bytes;
            let call = u16::try_from(u32::from_ne_bytes([a, b, c, d])).ok().and_then(Call::from_number);
            Err(Fail::raw(2, call.unwrap_or(Call::Walk), i32::from_ne_bytes([e, f, g, h])))
        }
        _ => Ok(()),
    }
}

/// The hook's process, up to `execve`; only the failure comes back.
fn child(
    w: &mut Walk<'_>,
    layout: &HookLayout,
    stdio: [i32; 3],
    tell: i32,
) -> Result<core::convert::Infallible, Fail> {
    rustix::process::setsid().at(2, Call::Setsid)?;
    rustix::process::umask(Mode::from_bits_retain(0o022));
    let mut number = 0_i32;
    for fd in stdio {
        // The slots lie above 2: 0 to 2 are the container's own.
        sys::dup_onto(fd, number, false).at(2, Call::Dup3)?;
        number = number.wrapping_add(1);
    }
    let cwd = w.program.cstr(layout.cwd)?;
    rustix::process::chdir(cwd).at(2, Call::Chdir)?;
    let path = w.program.cstr(layout.path)?;
    let program = w.program;
    let (argv, env) = vectors(&program, w.words, layout.argv, layout.env, None)?;
    if let Ok(tell) = u32::try_from(tell) {
        if tell > 3 {
            sys::close_range(3, tell.wrapping_sub(1)).at(2, Call::CloseRange)?;
        }
        sys::close_range(tell.saturating_add(1), u32::MAX).at(2, Call::CloseRange)?;
    }
    reset_signals(None)?;
    Err(Fail::new(2, Call::Execve, sys::execve(path, argv, env)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_survives_the_wire() {
        let layout = HookLayout {
            path: Str { off: 64, len: 1 },
            argv: StrList { off: 72, count: 2 },
            env: StrList { off: 80, count: 3 },
            cwd: Str { off: 88, len: 4 },
            state_head: Str { off: 96, len: 5 },
            state_tail: Str { off: 104, len: 6 },
            timeout_ms: u64::MAX,
            stdout: Slot(1),
            stderr: Slot(2),
        };
        let bytes = layout.encode();
        assert_eq!(HookLayout::decode(&bytes), Ok(layout));
        assert_eq!(HookLayout::decode(&bytes[..64]), Err(Fault));
    }
}
