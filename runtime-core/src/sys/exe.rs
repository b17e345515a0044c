//! Calls for executing our own file again: detached read-only trees, sealed copies, execveat.
//!
//! Must not: decide which. Tests: `tests` package, hostile (own executable).
#![allow(unsafe_code, reason = "raw calls; see the module above")]

use rustix::io::Errno;
use std::ffi::{CStr, c_char};
use std::os::fd::{AsRawFd, BorrowedFd};

unsafe extern "C" {
    /// The process's environment (environ(7)).
    static environ: *const *const c_char;
}

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

/// Makes a detached tree read-only.
///
/// # Errors
/// ENOSYS before Linux 5.12; EPERM.
pub(crate) fn make_readonly(tree: BorrowedFd<'_>) -> Result<(), Errno> {
    const RDONLY: u64 = 1;
    let attr = MountAttr { set: RDONLY, clear: 0, propagation: 0, userns: 0 };
    // SAFETY: the attribute is a `struct mount_attr` of the size that is passed, the path an empty C string.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(last()) }
}

/// Replaces this process's program by the file `name` below `dir`, or by `dir` itself when `name` is empty, with these arguments and the
/// environment that the process has. Returns only on failure.
pub(crate) fn execute(dir: BorrowedFd<'_>, name: &CStr, args: &[&CStr]) -> Errno {
    let argv: Vec<*const c_char> = args.iter().map(|arg| arg.as_ptr()).chain([std::ptr::null()]).collect();
    // SAFETY: `name` and `argv` are NUL-terminated and live through the call; `environ` is the C library's own list, which nothing changes
    // meanwhile, since this library never sets variables and the function is called first in `main`.
    unsafe {
        let flags = if name.is_empty() { libc::AT_EMPTY_PATH } else { 0 };
        libc::syscall(libc::SYS_execveat, dir.as_raw_fd(), name.as_ptr(), argv.as_ptr(), environ, flags);
    }
    last()
}

fn last() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

#[cfg(target_arch = "x86_64")]
pub(crate) use super::early::{is_safe, take_tree, tree};

/// Elsewhere there is no entry point of our own.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn is_safe() -> bool {
    false
}

/// As above.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn take_tree() -> Option<std::os::fd::OwnedFd> {
    None
}

/// As above.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn tree() -> Option<i32> {
    None
}
