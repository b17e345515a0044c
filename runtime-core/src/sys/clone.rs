//! `clone3(2)` into the program's walker, and into the task that makes a network namespace.
//!
//! Must not: allocate or lock between the clone and the walk. Tests: every test that starts a container; `tests/embed` does it from a
//! process with busy threads. What shares this process's memory is for the command alone: every `run` and `exec` there.

#![allow(unsafe_code, reason = "raw calls; see the module above")]

use coracle_init::{Memory, Network, walk};
use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;

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

impl CloneArgs {
    /// With a stack of `size` bytes from `lowest` on.
    fn on(lowest: usize, size: usize) -> Self {
        // Aligned at its end, as the psABIs want it at a call.
        Self {
            stack: lowest as u64,
            stack_size: (size - 32 - (lowest + size) % 16) as u64,
            ..Self::default()
        }
    }
}

/// Room of the child's stack in bytes. Only what is touched is ever there; 65536 group ids, compared in one step, take half of it.
const STACK: usize = 512 * 1024;

/// What the child is started with; it lies where the child reads it, and not on a stack.
struct Start<'m> {
    arena: &'m [u8],
    memory: Memory<'m>,
}

/// First function of a clone, on its own stack.
type Entry = unsafe extern "C" fn(*mut c_void) -> !;

/// Of a child.
///
/// # Safety
/// `start` is a `Start` that nobody else uses.
unsafe extern "C" fn child(start: *mut c_void) -> ! {
    // SAFETY: as the caller says; it is not read again.
    let Start { arena, memory } = unsafe { start.cast::<Start<'_>>().read() };
    walk(arena, memory)
}

/// Of the task.
///
/// # Safety
/// `network` is a `Network` that lives as long as the process.
unsafe extern "C" fn network(network: *mut c_void) -> ! {
    // SAFETY: as the caller says; it is shared, and changes by atomics alone.
    unsafe { &*network.cast_const().cast::<Network>() }.make()
}

/// The lowest address of a stack that lives as long as the process.
fn lasting(size: usize) -> usize {
    Box::leak(Box::<[u8]>::new_uninit_slice(size)).as_mut_ptr().expose_provenance()
}

/// Starts a task of this process that makes a network namespace: a thread, without what a thread of std's has, which nothing there needs. For
/// a process that ends soon: its stack is never given back. All signals should be blocked in the calling thread: the task keeps the mask.
///
/// # Errors
/// EAGAIN for limits; ENOSYS.
pub(crate) fn start_network() -> Result<NetworkTask, Errno> {
    const STACK: usize = 32 * 1024;
    const SHARED: i32 = libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM;
    let made: &'static Network = Box::leak(Box::default());
    let lowest = lasting(STACK);
    let mut args = CloneArgs { flags: u64::from(SHARED.unsigned_abs()), ..CloneArgs::on(lowest, STACK) };
    // SAFETY: `args` is a `struct clone_args` of the size that is passed and lives through the call. The stack is the task's alone and lives as
    // long as the process, as `made` does. The task has this thread's thread-local storage and touches none.
    let answer = unsafe { clone3(&raw mut args, network, (&raw const *made).cast_mut().cast()) };
    errno_of(answer).map(|_| NetworkTask { made, file: OnceLock::new() })
}

/// A task that makes a network namespace, and what it has made. What nobody asks for stays open until the process ends.
#[derive(Debug)]
pub(crate) struct NetworkTask {
    made: &'static Network,
    file: OnceLock<Result<OwnedFd, Errno>>,
}

impl NetworkTask {
    /// The namespace's file; blocks until it is there.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(crate) fn file(&self) -> Result<BorrowedFd<'_>, Errno> {
        // SAFETY: the task has opened it and forgotten it, and this is the only one who asks, once.
        let own = || self.made.file().map(|number| unsafe { OwnedFd::from_raw_fd(number) });
        self.file.get_or_init(own).as_ref().map(AsFd::as_fd).map_err(|errno| *errno)
    }

    /// Blocks until its loopback interface is up too.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(crate) fn up(&self) -> Result<(), Errno> {
        self.made.up()
    }
}

fn errno_of(answer: isize) -> Result<i32, Errno> {
    if answer < 0 {
        let errno = i32::try_from(-answer).unwrap_or(libc::EINVAL);
        return Err(Errno::from_raw_os_error(errno));
    }
    i32::try_from(answer).map_err(|_| Errno::OVERFLOW)
}

/// Clones a child that walks `arena`, in new namespaces by `flags` and in the cgroup behind `cgroup`. The child has no exit signal, its
/// memory is a copy of ours, and it runs on a stack of its own, so that ours need not be copied. All signals should be blocked in this
/// thread: the child keeps the mask until its program empties it.
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
    let mut stack: Vec<MaybeUninit<u8>> = Vec::with_capacity(STACK);
    let lowest = stack.as_mut_ptr().expose_provenance();
    let mut start = Box::new(Start { arena, memory: Memory { spare_stack: Some(lowest), ..memory } });
    // SAFETY: the child has a copy of all of it.
    unsafe { clone(flags, cgroup, lowest, &mut start) }
}

/// The same, but the child runs in this process's memory until it executes its program or ends: nothing is copied. What it uses is never
/// given back, so this is for a process that ends soon. With `here` the child is kept on this processor until it sets its affinity.
///
/// # Errors
/// As [`clone_walker`].
pub(crate) fn clone_sharing_walker(
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
    arena: &'static [u8],
    memory: Memory<'static>,
    here: bool,
) -> Result<(i32, OwnedFd), Errno> {
    let lowest = lasting(STACK);
    let start = Box::leak(Box::new(Start { arena, memory }));
    // The kernel would wake another processor for it, while this one goes to sleep.
    let affinity = if here { stay_here() } else { None };
    // SAFETY: what the child reads and writes is its alone from here on, and lives as long as the process.
    let cloned = unsafe { clone(flags | u64::from(libc::CLONE_VM.unsigned_abs()), cgroup, lowest, start) };
    if let Some(before) = affinity {
        // It was allowed a moment ago; and nothing depends on it.
        let _ = sched_setaffinity(None, &before);
    }
    cloned
}

/// Keeps this thread on the processor that it is on; answers where it was allowed before. `None` where that cannot be said (more than 1024
/// processors): then the kernel chooses.
fn stay_here() -> Option<CpuSet> {
    let before = sched_getaffinity(None).ok()?;
    let mut here = CpuSet::new();
    here.set(sched_getcpu());
    sched_setaffinity(None, &here).ok()?;
    Some(before)
}

/// # Safety
/// `lowest` is the lowest address of [`STACK`] bytes. With `CLONE_VM`, these and `start` with what it points to are nobody else's any more and
/// live until the child has left this memory.
unsafe fn clone(
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
    lowest: usize,
    start: &mut Start<'_>,
) -> Result<(i32, OwnedFd), Errno> {
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: flags | u64::from(libc::CLONE_PIDFD.unsigned_abs()) | CLONE_CLEAR_SIGHAND,
        pidfd: (&raw mut pidfd).addr() as u64,
        ..CloneArgs::on(lowest, STACK)
    };
    if let Some(fd) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::try_from(fd.as_raw_fd()).map_err(|_| Errno::BADF)?;
    }
    // SAFETY: `args` is a `struct clone_args` of the size that is passed, and lives through the call; `pidfd` is where the kernel stores
    // one int. Without CLONE_VM the child has copies of `start`, of what it points to and of its stack, which are heap memory; with it the
    // caller answers for them. It runs nothing but `walk`, which neither allocates nor takes locks that another thread may hold, and uses no
    // thread-local storage.
    let pid = errno_of(unsafe { clone3(&raw mut args, child, (&raw mut *start).cast()) })?;
    // SAFETY: the kernel stored a new descriptor there, and nobody else knows it.
    Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// clone3(2): the pid or a negative error number in the caller; the clone goes to `entry` and never comes back.
///
/// # Safety
/// `args` names a stack that is nobody else's; `start` is what `entry` takes.
#[cfg(target_arch = "x86_64")]
unsafe fn clone3(args: *mut CloneArgs, entry: Entry, start: *mut c_void) -> isize {
    let answer: isize;
    // SAFETY: as the caller says. The caller's registers and stack are as before the call; the clone starts with an empty frame.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 as isize => answer,
            in("rdi") args,
            in("rsi") size_of::<CloneArgs>(),
            in("r12") start,
            in("r13") entry,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    answer
}

/// As above.
///
/// # Safety
/// As above.
#[cfg(target_arch = "aarch64")]
unsafe fn clone3(args: *mut CloneArgs, entry: Entry, start: *mut c_void) -> isize {
    let answer: isize;
    // SAFETY: as the caller says. The caller's registers and stack are as before the call; the clone starts with an empty frame.
    unsafe {
        std::arch::asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x30, xzr",
            "mov x0, x20",
            "blr x21",
            "brk #1",
            "2:",
            in("x8") libc::SYS_clone3,
            inlateout("x0") args as isize => answer,
            in("x1") size_of::<CloneArgs>(),
            in("x20") start,
            in("x21") entry,
        );
    }
    answer
}
