//! Calls that rustix does not have, or whose wrappers a child of `clone3` cannot use: libc's `setresuid` and its like signal the
//! other threads of a process, which do not exist here; rustix's calls that answer a descriptor carry an assertion, and nothing
//! here may panic.
//!
//! Every function is a thin shape around one system call and safe to call: pointers come from Rust references that outlive
//! the call, and everything else is a number that the kernel checks. Must not: decide anything.
//! Tests: `tests/walk.rs`.

mod open;
mod raw;
mod sched;
mod socket;

use core::ffi::CStr;
use core::mem::MaybeUninit;
use core::ptr;

use libc::c_long;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, Statx, StatxFlags};
use rustix::io::Errno;

use raw::call;

pub(crate) use open::{fsmount, fsopen, fspick, open, open_top, open_tree, peer, pipe};
pub use sched::{SchedAttr, set_io_priority, set_scheduler};
pub(crate) use sched::{personality, set_memory_policy};
pub(crate) use socket::{receive, route_socket, send_with_fd, unix_socket};

/// A system call whose arguments are numbers only.
fn plain(number: c_long, args: [usize; 6]) -> Result<usize, Errno> {
    // SAFETY: private to this module; used for calls that take no pointers at all.
    unsafe { call(number, args) }
}

/// A descriptor number as an argument: sign-extended, as the kernel reads only the lower half of it.
fn fd_arg(fd: i32) -> usize {
    usize::from_ne_bytes(isize::try_from(fd).unwrap_or(-1).to_ne_bytes())
}

fn id_arg(id: u32) -> usize {
    usize::try_from(id).unwrap_or(usize::MAX)
}

fn word(flags: u64) -> usize {
    usize::try_from(flags).unwrap_or(usize::MAX)
}

/// Address of a reference, for the kernel.
fn at<T: ?Sized>(place: &T) -> usize {
    ptr::from_ref(place).cast::<u8>().expose_provenance()
}

/// Address of a writable reference, for the kernel.
fn at_mut<T: ?Sized>(place: &mut T) -> usize {
    ptr::from_mut(place).cast::<u8>().expose_provenance()
}

/// A descriptor that is closed when dropped.
#[derive(Debug)]
pub(crate) struct Fd(i32);

impl Fd {
    /// Takes over a number that nobody else closes.
    pub(crate) fn own(number: i32) -> Self {
        Self(number)
    }

    /// The answer of a call that makes a descriptor.
    fn answered(answer: Result<usize, Errno>) -> Result<Self, Errno> {
        i32::try_from(answer?).map(Self).map_err(|_| Errno::BADF)
    }

    pub(crate) fn raw(&self) -> i32 {
        self.0
    }

    /// Gives the number away.
    pub(crate) fn into_raw(self) -> i32 {
        let number = self.0;
        core::mem::forget(self);
        number
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        close(self.0);
    }
}

impl AsFd for Fd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        borrow(self.0)
    }
}

/// A number as rustix wants it. The walker's slots, not a type, keep it open; a closed one is EBADF.
pub(crate) fn borrow(number: i32) -> BorrowedFd<'static> {
    let number = if number == -1 { i32::MAX } else { number };
    // SAFETY: the number is not -1. That it is open matters for no memory: the kernel answers EBADF.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// close(2) by close_range(2): one call fewer for a seccomp filter to permit. A filter older than that call answers it with an errno
/// and permits close(2).
pub(crate) fn close(number: i32) {
    if let Ok(unsigned) = u32::try_from(number) {
        if close_range(unsigned, unsigned).is_err() {
            let _ = plain(libc::SYS_close, [fd_arg(number), 0, 0, 0, 0, 0]);
        }
    }
}

/// statx(2) of a descriptor itself. rustix would note in a variable that the kernel has it.
pub(crate) fn statx(fd: i32, mask: StatxFlags) -> Result<Statx, Errno> {
    let mut found = MaybeUninit::<Statx>::uninit();
    let flags = (AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW).bits();
    let place = found.as_mut_ptr().expose_provenance();
    let args = [fd_arg(fd), at(c""), id_arg(flags), id_arg(mask.bits()), place, 0];
    // SAFETY: an empty C string; the kernel writes a `struct statx`, which rustix's type is.
    unsafe { call(libc::SYS_statx, args) }?;
    // SAFETY: the call succeeded, so the kernel has written all of it.
    Ok(unsafe { found.assume_init() })
}

/// close_range(2), Linux 5.9: closes `first..=last`.
pub(crate) fn close_range(first: u32, last: u32) -> Result<(), Errno> {
    plain(libc::SYS_close_range, [id_arg(first), id_arg(last), 0, 0, 0, 0]).map(drop)
}

/// Milliseconds of the monotonic clock, by the system call: rustix would look for the vDSO in `/proc/self/auxv`.
pub(crate) fn monotonic_ms() -> u64 {
    let mut time = [0_u64; 2];
    // SAFETY: the kernel writes a `struct timespec`, two words.
    let _ = unsafe {
        call(libc::SYS_clock_gettime, [fd_arg(libc::CLOCK_MONOTONIC), at_mut(&mut time), 0, 0, 0, 0])
    };
    let [seconds, nanos] = time;
    seconds.saturating_mul(1000).saturating_add(nanos.wrapping_div(1_000_000))
}

/// exit_group(2).
pub(crate) fn exit(status: usize) -> ! {
    loop {
        let _ = plain(libc::SYS_exit_group, [status, 0, 0, 0, 0, 0]);
    }
}

/// exit(2): this task alone.
pub(crate) fn exit_task() -> ! {
    loop {
        let _ = plain(libc::SYS_exit, [0; 6]);
    }
}

/// Which of two processes this is.
#[derive(Debug)]
pub(crate) enum Forked {
    Child,
    Parent { pid: u32, pidfd: Fd },
}

/// clone3(2) without shared memory, with a pidfd, without exit signal.
pub(crate) fn clone3(flags: u64) -> Result<Forked, Errno> {
    // What a fork must not share: memory, or a stack that two processes would run on.
    let shared = u64::try_from(libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_THREAD).unwrap_or(0);
    if flags & shared != 0 {
        return Err(Errno::INVAL);
    }
    let mut pidfd = -1_i32;
    let pidfd_flag = u64::try_from(libc::CLONE_PIDFD).unwrap_or(0);
    let mut args = [0_u64; 11];
    let [set, pidfd_at, ..] = &mut args;
    *set = flags | pidfd_flag;
    *pidfd_at = u64::try_from(at_mut(&mut pidfd)).unwrap_or(0);
    // SAFETY: `args` is a struct clone_args (eleven u64), `pidfd` is written by the kernel. Without CLONE_VM the child runs on a
    // copy of this stack, as after fork.
    let pid = unsafe { call(libc::SYS_clone3, [at(&args), size_of_val(&args), 0, 0, 0, 0]) }?;
    Ok(forked(pid, pidfd))
}

/// clone(2) as fork with a pidfd. For places behind a seccomp filter: profiles answer ENOSYS to `clone3`.
pub(crate) fn fork() -> Result<Forked, Errno> {
    let mut pidfd = -1_i32;
    let flags = fd_arg(libc::CLONE_PIDFD | libc::SIGCHLD);
    // SAFETY: no CLONE_VM and no new stack: a fork. The third argument is where CLONE_PIDFD stores the descriptor.
    let pid = unsafe { call(libc::SYS_clone, [flags, 0, at_mut(&mut pidfd), 0, 0, 0]) }?;
    Ok(forked(pid, pidfd))
}

fn forked(pid: usize, pidfd: i32) -> Forked {
    match u32::try_from(pid) {
        Ok(0) | Err(_) => Forked::Child,
        Ok(pid) => Forked::Parent { pid, pidfd: Fd::own(pidfd) },
    }
}

/// wait4(2) for one child of any kind; the wait status.
pub(crate) fn wait(pid: u32) -> Result<i32, Errno> {
    let mut status = 0_i32;
    let wall = fd_arg(libc::__WALL);
    // SAFETY: the kernel writes one int to `status`.
    unsafe { call(libc::SYS_wait4, [id_arg(pid), at_mut(&mut status), wall, 0, 0, 0]) }?;
    Ok(status)
}

/// unshare(2).
pub(crate) fn unshare(flags: u64) -> Result<(), Errno> {
    plain(libc::SYS_unshare, [word(flags), 0, 0, 0, 0, 0]).map(drop)
}

/// setns(2).
pub(crate) fn setns(fd: i32, nstype: i32) -> Result<(), Errno> {
    plain(libc::SYS_setns, [fd_arg(fd), fd_arg(nstype), 0, 0, 0, 0]).map(drop)
}

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MountAttr {
    pub(crate) set: u64,
    pub(crate) clear: u64,
    pub(crate) propagation: u64,
    pub(crate) userns: u64,
}

/// mount_setattr(2), Linux 5.12, on the mount that `fd` names.
pub(crate) fn mount_setattr(fd: i32, recursive: bool, attr: &MountAttr) -> Result<(), Errno> {
    const AT_RECURSIVE: i32 = 0x8000;
    let flags = fd_arg(libc::AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 });
    let empty = at(c"");
    // SAFETY: an empty C string and a `struct mount_attr` that the kernel only reads.
    unsafe { call(libc::SYS_mount_setattr, [fd_arg(fd), empty, flags, at(attr), size_of::<MountAttr>(), 0]) }
        .map(drop)
}

/// keyctl(KEYCTL_JOIN_SESSION_KEYRING, NULL): a new anonymous session keyring.
pub(crate) fn new_session_keyring() -> Result<(), Errno> {
    const KEYCTL_JOIN_SESSION_KEYRING: usize = 1;
    // Plain: the name is NULL.
    plain(libc::SYS_keyctl, [KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0, 0]).map(drop)
}

/// The prctl(2) operations that take numbers only.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Prctl {
    Dumpable,
    ParentDeathSignal,
    KeepCaps,
    BoundingRead,
    BoundingDrop,
    NoNewPrivs,
    Ambient,
}

impl Prctl {
    fn number(self) -> usize {
        match self {
            Self::Dumpable => 4,
            Self::ParentDeathSignal => 1,
            Self::KeepCaps => 8,
            Self::BoundingRead => 23,
            Self::BoundingDrop => 24,
            Self::NoNewPrivs => 38,
            Self::Ambient => 47,
        }
    }
}

/// prctl(2).
pub(crate) fn prctl(operation: Prctl, a: u32, b: u32) -> Result<usize, Errno> {
    plain(libc::SYS_prctl, [operation.number(), id_arg(a), id_arg(b), 0, 0, 0])
}

/// The three capability sets that capget(2) and capset(2) know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CapSets {
    pub(crate) effective: u64,
    pub(crate) permitted: u64,
    pub(crate) inheritable: u64,
}

/// `_LINUX_CAPABILITY_VERSION_3` and the calling thread.
const CAP_HEADER: [u32; 2] = [0x2008_0522, 0];

/// capget(2) for this thread.
pub(crate) fn capget() -> Result<CapSets, Errno> {
    let mut header = CAP_HEADER;
    let mut sets = [0_u32; 6];
    // SAFETY: version 3 has two elements of three u32; the kernel may write its version to the header.
    unsafe { call(libc::SYS_capget, [at_mut(&mut header), at_mut(&mut sets), 0, 0, 0, 0]) }?;
    let [e0, p0, i0, e1, p1, i1] = sets;
    let join = |low: u32, high: u32| u64::from(low) | (u64::from(high) << 32);
    Ok(CapSets { effective: join(e0, e1), permitted: join(p0, p1), inheritable: join(i0, i1) })
}

/// capset(2) for this thread.
pub(crate) fn capset(sets: CapSets) -> Result<(), Errno> {
    let mut header = CAP_HEADER;
    let halves = |set: u64| {
        let [a, b, c, d, e, f, g, h] = set.to_le_bytes();
        (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
    };
    let ((e0, e1), (p0, p1), (i0, i1)) =
        (halves(sets.effective), halves(sets.permitted), halves(sets.inheritable));
    let words = [e0, p0, i0, e1, p1, i1];
    // SAFETY: as in `capget`; the sets are only read.
    unsafe { call(libc::SYS_capset, [at_mut(&mut header), at(&words), 0, 0, 0, 0]) }.map(drop)
}

/// setresuid(2) of this thread, all three ids.
pub(crate) fn setresuid(uid: u32) -> Result<(), Errno> {
    plain(libc::SYS_setresuid, [id_arg(uid), id_arg(uid), id_arg(uid), 0, 0, 0]).map(drop)
}

/// setresgid(2) of this thread, all three ids.
pub(crate) fn setresgid(gid: u32) -> Result<(), Errno> {
    plain(libc::SYS_setresgid, [id_arg(gid), id_arg(gid), id_arg(gid), 0, 0, 0]).map(drop)
}

fn three(number: c_long) -> Result<[u32; 3], Errno> {
    let mut ids = [0_u32; 3];
    let [a, b, c] = &mut ids;
    // SAFETY: getresuid and getresgid write one u32 to each of three places.
    unsafe { call(number, [at_mut(a), at_mut(b), at_mut(c), 0, 0, 0]) }?;
    Ok(ids)
}

/// getresuid(2).
pub(crate) fn getresuid() -> Result<[u32; 3], Errno> {
    three(libc::SYS_getresuid)
}

/// getresgid(2).
pub(crate) fn getresgid() -> Result<[u32; 3], Errno> {
    three(libc::SYS_getresgid)
}

/// setgroups(2) of this thread; `ids` holds native `u32`s.
pub(crate) fn setgroups(ids: &[u8]) -> Result<(), Errno> {
    let count = ids.len().wrapping_shr(2);
    // SAFETY: the kernel reads `count` u32, which is not more than the slice.
    unsafe { call(libc::SYS_setgroups, [count, at(ids), 0, 0, 0, 0]) }.map(drop)
}

/// getgroups(2): how many of `ids` were filled. EINVAL when there are more.
pub(crate) fn getgroups(ids: &mut [u32]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most `ids.len()` u32.
    unsafe { call(libc::SYS_getgroups, [ids.len(), at_mut(ids), 0, 0, 0, 0]) }
}

/// execve(2). `argv` and `env` hold addresses and end with 0; the kernel only reads there, and a wrong one is EFAULT.
pub(crate) fn execve(path: &CStr, argv: &[usize], env: &[usize]) -> Errno {
    if argv.last() != Some(&0) || env.last() != Some(&0) {
        return Errno::INVAL;
    }
    // SAFETY: a C string and two vectors that end with a null pointer; on success nothing of this program is left.
    match unsafe { call(libc::SYS_execve, [at(path), at(argv), at(env), 0, 0, 0]) } {
        Ok(_) => Errno::INVAL,
        Err(errno) => errno,
    }
}

/// Where a C string lies, for the vectors of [`execve`].
pub(crate) fn address(text: &CStr) -> usize {
    at(text)
}

/// Gives back what deeper calls left of a stack that begins at `lowest` ([`crate::Memory::spare_stack`]).
///
/// Never inlined: `here` has to lie in a frame with nothing else in it, close to the top of the stack.
#[inline(never)]
pub(crate) fn forget_stack(lowest: usize) {
    /// Far below everything that this call and the ones it makes still use.
    const IN_USE: usize = 4 * 1024;
    const PAGE: usize = 4096;
    let mut here = 0_u8;
    // Hidden from the compiler, which else may keep a byte that never changes among the constants.
    let end = core::hint::black_box(&raw mut here).addr().wrapping_sub(IN_USE) & !PAGE.wrapping_sub(1);
    let start = lowest.wrapping_add(PAGE.wrapping_sub(1)) & !PAGE.wrapping_sub(1);
    if start < end {
        let args = [start, end.wrapping_sub(start), fd_arg(libc::MADV_DONTNEED), 0, 0, 0];
        // SAFETY: the range ends below every live frame of this stack, and begins where the caller says that it does. It only saves memory.
        let _ = unsafe { call(libc::SYS_madvise, args) };
    }
}

/// The kernel's `struct sigaction` is a handler first; the rest may be zero for the two handlers used here.
type Action = [usize; 4];
/// Bytes of the kernel's signal set.
const SIGSET: usize = 8;

/// Whether `signal` is ignored.
pub(crate) fn is_ignored(signal: u32) -> Result<bool, Errno> {
    let mut old: Action = [0; 4];
    // SAFETY: no new action; the old one is written to `old`, which is as large as the kernel's struct.
    unsafe { call(libc::SYS_rt_sigaction, [id_arg(signal), 0, at_mut(&mut old), SIGSET, 0, 0]) }?;
    let [handler, ..] = old;
    Ok(handler == libc::SIG_IGN)
}

/// Ignores `signal` (which also throws a pending one away) or gives it its default action.
pub(crate) fn set_ignored(signal: u32, ignored: bool) -> Result<(), Errno> {
    let new: Action = [if ignored { libc::SIG_IGN } else { libc::SIG_DFL }, 0, 0, 0];
    // SAFETY: the action names no code of this program.
    unsafe { call(libc::SYS_rt_sigaction, [id_arg(signal), at(&new), 0, SIGSET, 0, 0]) }.map(drop)
}

/// sigprocmask(SIG_SETMASK) to the empty set.
pub(crate) fn unblock_all() -> Result<(), Errno> {
    let empty = 0_u64;
    let how = fd_arg(libc::SIG_SETMASK);
    // SAFETY: the kernel reads eight bytes.
    unsafe { call(libc::SYS_rt_sigprocmask, [how, at(&empty), 0, SIGSET, 0, 0]) }.map(drop)
}

/// sched_setaffinity(2) of this thread.
pub(crate) fn set_affinity(mask: &[u8]) -> Result<(), Errno> {
    // SAFETY: the kernel reads `mask.len()` bytes.
    unsafe { call(libc::SYS_sched_setaffinity, [0, mask.len(), at(mask), 0, 0, 0]) }.map(drop)
}

/// prlimit64(2) of this process.
pub(crate) fn set_limit(resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit = [soft, hard];
    // SAFETY: a `struct rlimit64` that the kernel reads.
    unsafe { call(libc::SYS_prlimit64, [0, id_arg(resource), at(&limit), 0, 0, 0]) }.map(drop)
}

/// dup3(2) onto a number; the copy has close-on-exec only when asked for. EINVAL when both are the same.
pub(crate) fn dup_onto(fd: i32, number: i32, cloexec: bool) -> Result<(), Errno> {
    let flags = fd_arg(if cloexec { libc::O_CLOEXEC } else { 0 });
    plain(libc::SYS_dup3, [fd_arg(fd), fd_arg(number), flags, 0, 0, 0]).map(drop)
}

/// seccomp(SECCOMP_SET_MODE_FILTER): `filter` holds `struct sock_filter`s. Answers the listener's number if one was asked for.
pub(crate) fn seccomp(flags: u64, filter: &[u8]) -> Result<usize, Errno> {
    #[repr(C)]
    struct Program {
        len: u16,
        filter: usize,
    }
    const SET_MODE_FILTER: usize = 1;
    let len = u16::try_from(filter.len().wrapping_shr(3)).map_err(|_| Errno::TOOBIG)?;
    let program = Program { len, filter: at(filter) };
    // SAFETY: the kernel reads `len` instructions of eight bytes, not more than the slice.
    unsafe { call(libc::SYS_seccomp, [SET_MODE_FILTER, word(flags), at(&program), 0, 0, 0]) }
}

/// getcwd(2) without libc's repairs: how many bytes, with the NUL, were written.
pub(crate) fn getcwd(buf: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most `buf.len()` bytes.
    unsafe { call(libc::SYS_getcwd, [at_mut(buf), buf.len(), 0, 0, 0, 0]) }
}

/// getdents64(2): bytes written, 0 at the end.
pub(crate) fn getdents(fd: i32, buf: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most `buf.len()` bytes.
    unsafe { call(libc::SYS_getdents64, [fd_arg(fd), at_mut(buf), buf.len(), 0, 0, 0]) }
}

/// faccessat2(X_OK) with the effective ids, Linux 5.8.
pub(crate) fn may_execute(path: &CStr) -> Result<(), Errno> {
    let flags = fd_arg(libc::AT_EACCESS);
    // SAFETY: a C string that the kernel reads.
    unsafe { call(libc::SYS_faccessat2, [fd_arg(libc::AT_FDCWD), at(path), fd_arg(libc::X_OK), flags, 0, 0]) }
        .map(drop)
}

const SIOCGIFFLAGS: usize = 0x8913;
const SIOCSIFFLAGS: usize = 0x8914;

/// Reads and sets the flags of an interface: the first 16 bytes of `struct ifreq` are its name, then come the flags.
pub(crate) fn interface_flags(socket: i32, name: &CStr, set: u16) -> Result<u16, Errno> {
    let mut request = [0_u8; 40];
    for (place, byte) in request.iter_mut().take(15).zip(name.to_bytes()) {
        *place = *byte;
    }
    // SAFETY: a `struct ifreq` (40 bytes on 64-bit machines), written by the kernel.
    unsafe { call(libc::SYS_ioctl, [fd_arg(socket), SIOCGIFFLAGS, at_mut(&mut request), 0, 0, 0]) }?;
    let [.., low, high] = request.first_chunk::<18>().ok_or(Errno::INVAL)?;
    let flags = u16::from_ne_bytes([*low, *high]) | set;
    if let Some([low, high]) = request.get_mut(16..18) {
        [*low, *high] = flags.to_ne_bytes();
    }
    // SAFETY: as above; only read.
    unsafe { call(libc::SYS_ioctl, [fd_arg(socket), SIOCSIFFLAGS, at(&request), 0, 0, 0]) }?;
    Ok(flags)
}
