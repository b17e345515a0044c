//! The kernel's calling convention. Must not: know any call.

use libc::c_long;
use rustix::io::Errno;

/// One system call, without the C library: its `errno` is a variable, and the child may be without the program's.
///
/// # Safety
/// Every argument that the call takes for a pointer must be null or valid for what the call does with it, and the call must
/// not change the memory of this process in any other way.
pub(super) unsafe fn call(number: c_long, args: [usize; 6]) -> Result<usize, Errno> {
    // SAFETY: the caller answers for the arguments; unused ones are ignored by the kernel.
    let answer = unsafe { raw(number, args) };
    usize::try_from(answer).map_err(|_| {
        let errno = i32::try_from(answer.unsigned_abs()).unwrap_or(libc::EINVAL);
        // The range is the kernel's; said here so that the compiler sees that rustix's own check cannot fail.
        Errno::from_raw_os_error(errno.clamp(1, 4095))
    })
}

/// The kernel's answer: a negative error number, or what the call gives.
///
/// # Safety
/// As [`call`].
#[cfg(target_arch = "x86_64")]
unsafe fn raw(number: c_long, [a, b, c, d, e, f]: [usize; 6]) -> isize {
    let answer: isize;
    // SAFETY: the kernel's calling convention (syscall(2)); memory changes as the caller says.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") number => answer,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            in("r10") d,
            in("r8") e,
            in("r9") f,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    answer
}

/// As above.
///
/// # Safety
/// As above.
#[cfg(target_arch = "aarch64")]
unsafe fn raw(number: c_long, [a, b, c, d, e, f]: [usize; 6]) -> isize {
    let answer: isize;
    // SAFETY: as above.
    unsafe {
        core::arch::asm!(
            "svc #0",
            in("x8") number,
            inlateout("x0") a => answer,
            in("x1") b,
            in("x2") c,
            in("x3") d,
            in("x4") e,
            in("x5") f,
            options(nostack),
        );
    }
    answer
}
