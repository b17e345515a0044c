//! `clone3(2)` into the program's walker, and the execution of our own sealed binary.
//!
//! Must not: allocate or lock between the clone and the walk. Tests: every test that starts a container; `tests/embed` does it from a
//! process with busy threads.

#![allow(unsafe_code, reason = "raw calls; see the module above")]

use coracle_init::{Memory, walk};
use rustix::io::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// `CLONE_INTO_CGROUP` (5.7); 64-bit, so not every libc has it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// `CLONE_CLEAR_SIGHAND` (5.5).
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;

/// `struct clone_args` of clone3(2), version 2 (5.7).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Clones a child that walks `arena`, in new namespaces by `flags` and in the cgroup behind `cgroup`. The child has no exit signal and its
/// memory is a copy of ours. All signals should be blocked in this thread: the child keeps the mask until its program empties it.
///
/// Gives the pid as this process sees it, and the pidfd.
///
/// # Errors
/// The kernel's reason: EINVAL, ENOSPC and EPERM for the namespaces, EBUSY, EOPNOTSUPP, EACCES for the cgroup, EAGAIN for limits, ENOSYS.
pub(crate) fn clone_walker(
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
    arena: &[u8],
    memory: Memory<'_>,
) -> Result<(i32, OwnedFd), Errno> {
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: flags | u64::from(libc::CLONE_PIDFD.unsigned_abs()) | CLONE_CLEAR_SIGHAND,
        pidfd: (&raw mut pidfd).addr() as u64,
        ..CloneArgs::default()
    };
    if let Some(fd) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::try_from(fd.as_raw_fd()).map_err(|_| Errno::BADF)?;
    }
    // SAFETY: `args` is a `struct clone_args` of the size that is passed, and lives through the call; `pidfd` is where the kernel stores
    // one int. Neither CLONE_VM nor a stack is asked for, so the child goes on with a copy of this stack and returns from this call
    // as the parent does. It runs nothing but `walk`, which neither allocates nor takes locks that another thread may hold.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    match pid {
        0 => walk(arena, memory),
        -1 => Err(last_errno()),
        // SAFETY: the kernel stored a new descriptor there, and nobody else knows it.
        pid => Ok((i32::try_from(pid).map_err(|_| Errno::OVERFLOW)?, unsafe { OwnedFd::from_raw_fd(pidfd) })),
    }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}
