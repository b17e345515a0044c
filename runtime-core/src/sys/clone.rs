//! `clone3(2)` into the program's walker, and the execution of our own sealed binary.
//!
//! Must not: allocate or lock between the clone and the walk. Tests: every test that starts a container; `tests/embed` does it from a
//! process with busy threads.

#![allow(unsafe_code, reason = "raw calls; see the module above")]

use coracle_init::{Memory, walk};
use rustix::io::Errno;
use std::mem::MaybeUninit;
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

/// Room of the child's stack in bytes. Only what is touched is ever there; 65536 group ids, compared in one step, take half of it.
const STACK: usize = 512 * 1024;

/// What the child is started with; it lies where the child reads it, and not on a stack.
struct Start<'m> {
    arena: &'m [u8],
    memory: Memory<'m>,
}

/// First function of the child, on its own stack.
///
/// # Safety
/// `start` is a `Start` that nobody else uses.
unsafe extern "C" fn child(start: *mut Start<'_>) -> ! {
    // SAFETY: as the caller says; it is not read again.
    let Start { arena, memory } = unsafe { start.read() };
    walk(arena, memory)
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
    let memory = Memory { spare_stack: Some(lowest), ..memory };
    let mut start = Box::new(Start { arena, memory });
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: flags | u64::from(libc::CLONE_PIDFD.unsigned_abs()) | CLONE_CLEAR_SIGHAND,
        pidfd: (&raw mut pidfd).addr() as u64,
        stack: lowest as u64,
        // Aligned at its end, as the psABIs want it at a call.
        stack_size: (STACK - 32 - (lowest + STACK) % 16) as u64,
        ..CloneArgs::default()
    };
    if let Some(fd) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::try_from(fd.as_raw_fd()).map_err(|_| Errno::BADF)?;
    }
    // SAFETY: `args` is a `struct clone_args` of the size that is passed, and lives through the call; `pidfd` is where the kernel stores
    // one int. Without CLONE_VM the child has copies of `start`, of what it points to and of its stack, which are heap memory. It
    // runs nothing but `walk`, which neither allocates nor takes locks that another thread may hold.
    let answer = unsafe { clone3(&raw mut args, &raw mut *start) };
    if answer < 0 {
        let errno = i32::try_from(-answer).unwrap_or(libc::EINVAL);
        return Err(Errno::from_raw_os_error(errno));
    }
    let pid = i32::try_from(answer).map_err(|_| Errno::OVERFLOW)?;
    // SAFETY: the kernel stored a new descriptor there, and nobody else knows it.
    Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// clone3(2): the pid or a negative error number in the parent; the child goes to [`child`] and never comes back.
///
/// # Safety
/// `args` asks for no shared memory and names a stack; `start` is what `child` takes.
#[cfg(target_arch = "x86_64")]
unsafe fn clone3(args: *mut CloneArgs, start: *mut Start<'_>) -> isize {
    let answer: isize;
    // SAFETY: as the caller says. The parent's registers and stack are as before the call; the child starts with an empty frame.
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
            in("r13") child as unsafe extern "C" fn(*mut Start<'_>) -> !,
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
unsafe fn clone3(args: *mut CloneArgs, start: *mut Start<'_>) -> isize {
    let answer: isize;
    // SAFETY: as the caller says. The parent's registers and stack are as before the call; the child starts with an empty frame.
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
            in("x21") child as unsafe extern "C" fn(*mut Start<'_>) -> !,
        );
    }
    answer
}
