//! Calls about processes behind pidfds.
//!
//! Must not: decide what an answer means. Tests: at the end of this file and in `process.rs`.
#![allow(unsafe_code, reason = "raw calls; see the module above")]

use rustix::io::Errno;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `pidfd_send_signal(2)` with any signal number, real-time ones and 0 included.
///
/// # Errors
/// The kernel's: EINVAL (no such signal), EPERM, ESRCH (the process was reaped).
pub(crate) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    // SAFETY: the descriptor is open for the length of the call; a null siginfo is allowed and means the one kill(2) sends; flags
    // must be 0.
    let done = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0_u32,
        )
    };
    if done == 0 { Ok(()) } else { Err(last_errno()) }
}

/// `SIGCHLD` as it is by default. A caller that ignores it hands that down, and then the kernel reaps every child by itself, so that
/// before Linux 6.15 nobody learns how one ended. It changes the whole process: only for the runtime's own.
pub(crate) fn default_child_signal() {
    // SAFETY: sigaction is integers, an empty set and null pointers, for which zero is a value; SIG_DFL is zero.
    let action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: a live sigaction, no place for the old one. It cannot fail: the signal exists and may be handled.
    unsafe { libc::sigaction(libc::SIGCHLD, &raw const action, std::ptr::null_mut()) };
}

/// `ioctl(PIDFD_GET_INFO)` with `PIDFD_INFO_EXIT` (kernel 6.15): the wait status of a process that somebody reaped. `None` while nobody has,
/// and on kernels 6.13 and 6.14.
///
/// # Errors
/// The kernel's: ENOTTY, EINVAL before 6.13; ESRCH when it was reaped before the first pidfd was opened.
pub(crate) fn pidfd_exit_info(pidfd: BorrowedFd<'_>) -> Result<Option<i32>, Errno> {
    let info = pidfd_info(pidfd, libc::PIDFD_INFO_EXIT)?;
    let answered = info.mask & u64::from(libc::PIDFD_INFO_EXIT) != 0;
    Ok(answered.then_some(info.exit_code))
}

fn pidfd_info(pidfd: BorrowedFd<'_>, wanted: libc::c_uint) -> Result<libc::pidfd_info, Errno> {
    // SAFETY: the structure is integers alone, for which zero bytes are values.
    let mut info: libc::pidfd_info = unsafe { MaybeUninit::zeroed().assume_init() };
    info.mask = u64::from(wanted);
    // SAFETY: the descriptor is open for the length of the call; the request encodes the structure's size, and the kernel writes
    // no more than that.
    let done = unsafe { libc::ioctl(pidfd.as_raw_fd(), libc::PIDFD_GET_INFO, &raw mut info) };
    if done == 0 { Ok(info) } else { Err(last_errno()) }
}

/// `ioctl(PIDFD_GET_INFO)` (kernel 6.13): the number of a process that nobody has reaped, in this thread's pid namespace.
///
/// # Errors
/// The kernel's: ENOTTY, EINVAL before 6.13; ESRCH when it was reaped, or has no number here.
pub(crate) fn pidfd_pid(pidfd: BorrowedFd<'_>) -> Result<i32, Errno> {
    let info = pidfd_info(pidfd, libc::PIDFD_INFO_PID)?;
    i32::try_from(info.pid).map_err(|_| Errno::RANGE)
}

/// `ioctl(PIDFD_GET_*_NAMESPACE)` (kernel 6.11): a namespace of a process, by the name of its file below `/proc/PID/ns`. Nothing is looked up
/// in `/proc`, where each name stays until the process is reaped.
///
/// # Errors
/// The kernel's: ENOTTY, EINVAL before 6.11; EACCES, EOPNOTSUPP. EINVAL for a name that is not known.
pub(crate) fn namespace_of(pidfd: BorrowedFd<'_>, file: &str) -> Result<OwnedFd, Errno> {
    let number = match file {
        "cgroup" => 1,
        "ipc" => 2,
        "mnt" => 3,
        "net" => 4,
        "pid" => 5,
        "time" => 7,
        "user" => 9,
        "uts" => 10,
        _ => return Err(Errno::INVAL),
    };
    // _IO(PIDFS_IOCTL_MAGIC, number).
    let request: libc::Ioctl = 0xff << 8 | number;
    // SAFETY: the descriptor is open for the length of the call; these requests have no argument but 0.
    let fd = unsafe { libc::ioctl(pidfd.as_raw_fd(), request, 0) };
    // SAFETY: a new descriptor, close-on-exec, that nobody else knows.
    if fd < 0 { Err(last_errno()) } else { Ok(unsafe { OwnedFd::from_raw_fd(fd) }) }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
pub(crate) mod tests {
    use rustix::process::Pid;

    /// A child without an exit signal, as launch makes them, that ends at once with `code`.
    pub(crate) fn silent_child(code: i32) -> Pid {
        // SAFETY: a plain fork without an exit signal; all pointers are null, so the child goes on with a copy of this stack.
        let pid = unsafe { libc::syscall(libc::SYS_clone, 0_u64, 0_u64, 0_u64, 0_u64, 0_u64) };
        if pid == 0 {
            // SAFETY: ends the child without running anything of this process (no destructors, no locks).
            unsafe { libc::_exit(code) };
        }
        Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
    }
}
