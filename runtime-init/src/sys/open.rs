//! Calls that answer a descriptor. All set close-on-exec.

use core::ffi::CStr;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::OpenTreeFlags;

use super::{Fd, at, at_mut, call, fd_arg, plain};

/// `dir` of [`open`] and [`open_tree`]: the working directory, which absolute paths ignore.
const CWD: i32 = libc::AT_FDCWD;

/// A flag set as an argument.
fn bits(flags: u32) -> usize {
    usize::try_from(flags).unwrap_or(usize::MAX)
}

/// openat2(2), Linux 5.6; without `dir` as open(2).
pub(crate) fn open(
    dir: Option<i32>,
    path: &CStr,
    flags: OFlags,
    mode: Mode,
    resolve: ResolveFlags,
) -> Result<Fd, Errno> {
    let flags = flags | OFlags::CLOEXEC;
    let how = [u64::from(flags.bits()), u64::from(mode.bits()), resolve.bits()];
    let dir = fd_arg(dir.unwrap_or(CWD));
    // SAFETY: a C string and a `struct open_how` (three u64), both only read.
    Fd::answered(unsafe { call(libc::SYS_openat2, [dir, at(path), at(&how), size_of_val(&how), 0, 0]) })
}

/// Opens `/` itself, `O_PATH`.
pub(crate) fn open_top() -> Result<Fd, Errno> {
    open(None, c"/", OFlags::PATH | OFlags::DIRECTORY, Mode::empty(), ResolveFlags::empty())
}

/// open_tree(2), Linux 5.2.
pub(crate) fn open_tree(dir: Option<i32>, path: &CStr, flags: OpenTreeFlags) -> Result<Fd, Errno> {
    let flags = bits((flags | OpenTreeFlags::OPEN_TREE_CLOEXEC).bits());
    let dir = fd_arg(dir.unwrap_or(CWD));
    // SAFETY: a C string that the kernel reads.
    Fd::answered(unsafe { call(libc::SYS_open_tree, [dir, at(path), flags, 0, 0, 0]) })
}

/// fsopen(2), Linux 5.2.
pub(crate) fn fsopen(name: &CStr) -> Result<Fd, Errno> {
    const FSOPEN_CLOEXEC: usize = 1;
    // SAFETY: a C string that the kernel reads.
    Fd::answered(unsafe { call(libc::SYS_fsopen, [at(name), FSOPEN_CLOEXEC, 0, 0, 0, 0]) })
}

/// fsmount(2), Linux 5.2; `attrs` are `MOUNT_ATTR_*`.
pub(crate) fn fsmount(context: &Fd, attrs: u32) -> Result<Fd, Errno> {
    const FSMOUNT_CLOEXEC: usize = 1;
    Fd::answered(plain(libc::SYS_fsmount, [fd_arg(context.raw()), FSMOUNT_CLOEXEC, bits(attrs), 0, 0, 0]))
}

/// fspick(2), Linux 5.2, on the mount that `fd` names.
pub(crate) fn fspick(fd: &Fd) -> Result<Fd, Errno> {
    const FSPICK_CLOEXEC: usize = 1;
    const FSPICK_EMPTY_PATH: usize = 8;
    let flags = FSPICK_CLOEXEC | FSPICK_EMPTY_PATH;
    // SAFETY: an empty C string.
    Fd::answered(unsafe { call(libc::SYS_fspick, [fd_arg(fd.raw()), at(c""), flags, 0, 0, 0]) })
}

/// pipe2(2): the end to read from, the end to write to.
pub(crate) fn pipe() -> Result<(Fd, Fd), Errno> {
    let mut ends = [-1_i32; 2];
    // SAFETY: the kernel writes two ints.
    unsafe { call(libc::SYS_pipe2, [at_mut(&mut ends), fd_arg(libc::O_CLOEXEC), 0, 0, 0, 0]) }?;
    let [read, write] = ends;
    Ok((Fd::own(read), Fd::own(write)))
}

/// ioctl(TIOCGPTPEER), Linux 4.13: the other side of a pty master, not as controlling terminal.
pub(crate) fn peer(master: &Fd) -> Result<Fd, Errno> {
    const TIOCGPTPEER: usize = 0x5441;
    let flags = fd_arg(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC);
    Fd::answered(plain(libc::SYS_ioctl, [fd_arg(master.raw()), TIOCGPTPEER, flags, 0, 0, 0]))
}
