//! The program's entry point: executes the program again from a place that cannot be written, before anything else is done.
//!
//! [`crate::reexec_sealed`] does the same in `main`, with every case and every message. But by then the program is relocated, std is up
//! and the arguments are parsed, and the execve throws all of it away. This runs on nothing but the
//! stack that the kernel made, for the commands that need it; whatever does not work here is left to `main`.
//!
//! The entry point is set by `runtime-cli/build.rs`; in other programs nothing refers to this and the linker drops it.
//!
//! Must not: use the C library (`memset` is one, so no buffer is zeroed), thread-local storage, or constants with addresses in them:
//! nothing is relocated yet. Must not fail: it returns. Tests: `tests` package, hostile (own program).
#![allow(
    unsafe_code,
    clippy::multiple_unsafe_ops_per_block,
    reason = "runs before the C library, and is nothing but system calls with what the ones before answered"
)]

use std::arch::{asm, global_asm};
use std::mem::MaybeUninit;

// The psABI's initial state (System V ABI, AMD64, 3.4.1): rsp points to argc, rdx is for atexit; `_start` finds both as they were.
global_asm!(
    ".weak _start",
    ".globl coracle_start",
    ".type coracle_start, @function",
    "coracle_start:",
    "mov rbx, rsp",
    "mov rbp, rdx",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {early}",
    "mov rsp, rbx",
    "mov rdx, rbp",
    "jmp _start",
    early = sym early,
);

/// One system call: the kernel's answer, negative for an error.
///
/// # Safety
/// As the call's own.
unsafe fn call(number: libc::c_long, [a, b, c, d, e]: [usize; 5]) -> isize {
    let answer: isize;
    // SAFETY: the kernel's calling convention; memory is changed as the caller expects of the call.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => answer,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            in("r10") d,
            in("r8") e,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    answer
}

/// Whether a C string is `word`, which ends in NUL.
///
/// # Safety
/// `text` is a C string.
unsafe fn is(text: *const u8, word: &[u8]) -> bool {
    let mut at = 0;
    while at < word.len() {
        // SAFETY: `at` is below the length of `word`; all bytes before were equal and not NUL, so the text goes on.
        let (found, wanted) = unsafe { (text.add(at).read(), word.as_ptr().add(at).read()) };
        if found != wanted {
            return false;
        }
        at += 1;
    }
    true
}

/// Called by the entry point with the initial stack.
unsafe extern "C" fn early(stack: *const usize) {
    // SAFETY: the kernel puts argc, argv and NULL, envp and NULL there (execve(2)).
    let (argc, argv) = unsafe { (stack.read(), stack.add(1)) };
    let mut at = 1;
    while at < argc {
        // SAFETY: below argc.
        let word = unsafe { argv.add(at).read() } as *const u8;
        // A container or a flag's value of that name costs one execve too much. A command that is missing here is `main`'s.
        // SAFETY: arguments are C strings.
        if unsafe { is(word, b"create\0") || is(word, b"exec\0") || is(word, b"run\0") } {
            // SAFETY: envp begins after argv's NULL.
            return unsafe { execute_readonly(argv, argv.add(argc + 1)) };
        }
        at += 1;
    }
}

/// `struct stat` as far as it is looked at: device and inode come first.
type Stat = [u64; 18];
/// `struct statfs`, and which of its words are the flags.
type Statfs = [u64; 15];
const FLAGS: usize = 10;

/// Executes the program again by a read-only clone of its directory, with the same arguments and environment. Returns when it runs from
/// a read-only mount already, and when something does not work.
///
/// # Safety
/// Both are vectors of C strings as execve(2) takes them.
unsafe fn execute_readonly(argv: *const usize, envp: *const usize) {
    const EXE: &[u8] = b"/proc/self/exe\0";
    const CWD: usize = libc::AT_FDCWD as usize;
    const O_PATH_CLOEXEC: usize = (libc::O_PATH | libc::O_CLOEXEC) as usize;
    /// Stays open: closing it waits for an RCU grace period, which the next image does beside other work (`exe::let_go`).
    const OPEN_TREE_CLONE: usize = 1;
    const EMPTY_PATH: usize = libc::AT_EMPTY_PATH as usize;
    const NOFOLLOW: usize = libc::AT_SYMLINK_NOFOLLOW as usize;
    const ST_RDONLY: u64 = 1;
    /// `struct mount_attr`: set MOUNT_ATTR_RDONLY.
    const READONLY: [u64; 4] = [1, 0, 0, 0];
    let empty = c"".as_ptr() as usize;
    // Not zeroed: that is a call of the C library's.
    let mut path = MaybeUninit::<[u8; 512]>::uninit();
    let (mut here, mut there) = (MaybeUninit::<Stat>::uninit(), MaybeUninit::<Stat>::uninit());
    let mut fs = MaybeUninit::<Statfs>::uninit();
    let (path, room) = (path.as_mut_ptr().cast::<u8>(), 511);
    let (here, there) = (here.as_mut_ptr().cast::<u64>(), there.as_mut_ptr().cast::<u64>());
    let fs = fs.as_mut_ptr().cast::<u64>();

    // SAFETY: every pointer is a C string, or a buffer of the size that the call writes, on this stack; what is read, a call that
    // succeeded has written.
    unsafe {
        let exe = call(libc::SYS_openat, [CWD, EXE.as_ptr() as usize, O_PATH_CLOEXEC, 0, 0]);
        let Ok(exe) = usize::try_from(exe) else { return };
        let found = call(libc::SYS_fstatfs, [exe, fs as usize, 0, 0, 0]) == 0
            && fs.add(FLAGS).read() & ST_RDONLY == 0
            && call(libc::SYS_newfstatat, [exe, empty, here as usize, EMPTY_PATH, 0]) == 0;
        call(libc::SYS_close, [exe, 0, 0, 0, 0]);
        if !found {
            return;
        }
        let length = call(libc::SYS_readlink, [EXE.as_ptr() as usize, path as usize, room, 0, 0]);
        let Ok(length) = usize::try_from(length) else { return };
        if length == 0 || length >= room {
            return;
        }
        let mut slash = length - 1;
        while slash > 0 && path.add(slash).read() != b'/' {
            slash -= 1;
        }
        // Directly below `/`: no program is there.
        if slash == 0 {
            return;
        }
        path.add(slash).write(0);
        path.add(length).write(0);
        let name = path.add(slash + 1) as usize;
        let tree = call(libc::SYS_open_tree, [CWD, path as usize, OPEN_TREE_CLONE, 0, 0]);
        let Ok(tree) = usize::try_from(tree) else { return };
        let attributes = [tree, empty, EMPTY_PATH, READONLY.as_ptr() as usize, size_of_val(&READONLY)];
        // The directory's clone and not the file's: whoever holds a descriptor of the latter can make it writable again.
        if call(libc::SYS_mount_setattr, attributes) == 0
            && call(libc::SYS_newfstatat, [tree, name, there as usize, NOFOLLOW, 0]) == 0
            // Number 0, 1 or 2: the caller closed it, and the next image would take the tree for a stream.
            && tree > 2
            && here.read() == there.read()
            && here.add(1).read() == there.add(1).read()
        {
            call(libc::SYS_execveat, [tree, name, argv as usize, envp as usize, 0]);
        }
        call(libc::SYS_close, [tree, 0, 0, 0, 0]);
    }
}
