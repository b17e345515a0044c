//! The program's entry point: moves the program to a place that cannot be written, before anything else is done. And it spares Rust's runtime
//! a stack for the handler that would name a stack's overflow.
//!
//! [`crate::reexec_sealed`] executes the program again from such a place, with every case and every message. But an execve costs a third
//! of what a short command does, and throws away what was done before it. This does without one, for the commands that need it: the
//! same file is mapped again, page by page where it is, from a read-only clone of its directory, and the kernel is told that this is the
//! process's executable (prctl(2), PR_SET_MM_MAP; Linux 5.10 with CONFIG_CHECKPOINT_RESTORE). Nothing has been written to the image
//! yet: no relocation, no variable. It runs on nothing but the stack that the kernel made; whatever does not work is left to `main`.
//!
//! A mapping that fails would leave a hole where the program was; the kernel has mapped the same file at the same places a moment before.
//!
//! The entry point is set by `runtime-cli/build.rs`; in other programs nothing refers to it and the linker drops it.
//!
//! Must not: use the C library, thread-local storage, or constants with addresses in them: nothing is relocated yet. Must not fail: it
//! returns. Tests: `tests` package, hostile (own program).
#![allow(
    unsafe_code,
    clippy::multiple_unsafe_ops_per_block,
    reason = "runs before the C library, and is nothing but system calls with what the ones before answered"
)]

use std::arch::{asm, global_asm};
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

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
    // A handler that does nothing, and what it returns to: rt_sigreturn(2).
    "coracle_fault:",
    "ret",
    "coracle_restore:",
    "mov eax, {rt_sigreturn}",
    "syscall",
    early = sym early,
    rt_sigreturn = const libc::SYS_rt_sigreturn,
);

/// Installs a handler for memory faults that leaves them to the kernel: it is used once, and the fault comes again. (So does nothing the
/// first SIGSEGV or SIGBUS that somebody sends, as with Rust's own.) Rust's runtime installs one, which would say of a stack's overflow that
/// it is that, only where there is none, and then maps a stack for it, which takes longer than reading a record does.
///
/// # Safety
/// Nothing has installed one yet.
unsafe fn leave_faults_to_the_kernel() {
    const SA_RESTORER: usize = 0x0400_0000;
    const ONCE: usize = libc::SA_RESETHAND as u32 as usize;
    let (handler, restorer): (usize, usize);
    // SAFETY: addresses of the code above; `struct kernel_sigaction` (rt_sigaction(2)) is these four words, of which the last is the mask.
    unsafe {
        asm!(
            "lea {}, [rip + coracle_fault]",
            "lea {}, [rip + coracle_restore]",
            out(reg) handler,
            out(reg) restorer,
            options(nomem, nostack, preserves_flags),
        );
        let action = [handler, ONCE | SA_RESTORER, restorer, 0];
        let mask = size_of::<usize>();
        call(libc::SYS_rt_sigaction, [libc::SIGSEGV as usize, action.as_ptr() as usize, 0, mask, 0, 0]);
        call(libc::SYS_rt_sigaction, [libc::SIGBUS as usize, action.as_ptr() as usize, 0, mask, 0, 0]);
    }
}

/// One system call: the kernel's answer, negative for an error.
///
/// # Safety
/// As the call's own.
unsafe fn call(number: libc::c_long, [a, b, c, d, e, f]: [usize; 6]) -> isize {
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
            in("r9") f,
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

/// Of [`PLACE`]: nothing was done.
const NOT_MOVED: i32 = -1;
/// Of [`PLACE`]: the file cannot be written, and there is no clone to close.
const SAFE: i32 = -2;
/// Where this program is: one of the two above, or the number of the clone that it was moved to.
static PLACE: AtomicI32 = AtomicI32::new(NOT_MOVED);

/// Called by the entry point with the initial stack.
unsafe extern "C" fn early(stack: *const usize) {
    // SAFETY: the kernel puts argc, argv and NULL, envp and NULL there (execve(2)).
    let (argc, argv) = unsafe { (stack.read(), stack.add(1)) };
    // SAFETY: this is the program's first function.
    unsafe { leave_faults_to_the_kernel() };
    let mut at = 1;
    while at < argc {
        // SAFETY: below argc.
        let word = unsafe { argv.add(at).read() } as *const u8;
        // With a container or a flag's value of that name the program is moved in vain. A command that is missing here is `main`'s.
        // SAFETY: arguments are C strings.
        if unsafe { is(word, b"create\0") || is(word, b"exec\0") || is(word, b"run\0") } {
            // SAFETY: envp begins after argv's NULL.
            return unsafe { move_to_readonly(stack, argv.add(argc + 1)) };
        }
        at += 1;
    }
}

/// `struct stat` as far as it is looked at: device and inode come first.
type Stat = [u64; 18];
/// `struct statfs`, and which of its words are the flags.
type Statfs = [u64; 15];
const FLAGS: usize = 10;

/// Maps the program from a read-only clone of its directory. Returns when it runs from a read-only mount already, and when something does
/// not work; what was mapped by then has the same content.
///
/// # Safety
/// `stack` is the initial stack, `envp` the environment there; nothing of the program has run.
unsafe fn move_to_readonly(stack: *const usize, envp: *const usize) {
    const EXE: &[u8] = b"/proc/self/exe\0";
    const CWD: usize = libc::AT_FDCWD as usize;
    const O_PATH_CLOEXEC: usize = (libc::O_PATH | libc::O_CLOEXEC) as usize;
    const OPEN: usize = (libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NOFOLLOW | libc::O_NOCTTY) as usize;
    const OPEN_TREE: usize = 1 | libc::O_CLOEXEC as usize;
    const EMPTY_PATH: usize = libc::AT_EMPTY_PATH as usize;
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
        let exe = call(libc::SYS_openat, [CWD, EXE.as_ptr() as usize, O_PATH_CLOEXEC, 0, 0, 0]);
        let Ok(exe) = usize::try_from(exe) else { return };
        let known = call(libc::SYS_fstatfs, [exe, fs as usize, 0, 0, 0, 0]) == 0;
        let safe = known && fs.add(FLAGS).read() & ST_RDONLY != 0;
        let found = known && call(libc::SYS_fstat, [exe, here as usize, 0, 0, 0, 0]) == 0;
        call(libc::SYS_close, [exe, 0, 0, 0, 0, 0]);
        if safe {
            PLACE.store(SAFE, Ordering::Relaxed);
        }
        if safe || !found {
            return;
        }
        let length = call(libc::SYS_readlink, [EXE.as_ptr() as usize, path as usize, room, 0, 0, 0]);
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
        // The directory's clone and not the file's: whoever holds a descriptor of the latter can make it writable again.
        let tree = call(libc::SYS_open_tree, [CWD, path as usize, OPEN_TREE, 0, 0, 0]);
        let Ok(number) = i32::try_from(tree) else { return };
        let Ok(tree) = usize::try_from(tree) else { return };
        let attributes = [tree, empty, EMPTY_PATH, READONLY.as_ptr() as usize, size_of_val(&READONLY), 0];
        let readonly = call(libc::SYS_mount_setattr, attributes) == 0;
        let file = if readonly { call(libc::SYS_openat, [tree, name, OPEN, 0, 0, 0]) } else { -1 };
        if let Ok(file) = usize::try_from(file) {
            let done = call(libc::SYS_fstat, [file, there as usize, 0, 0, 0, 0]) == 0
                && here.read() == there.read()
                && here.add(1).read() == there.add(1).read()
                // Number 0, 1 or 2: the caller closed it, and what comes later would take the tree for a stream.
                && number > 2
                && map_again(file, stack, envp);
            call(libc::SYS_close, [file, 0, 0, 0, 0, 0]);
            if done {
                // Stays open: closing it waits for an RCU grace period, which is done beside other work (`exe::let_go`).
                PLACE.store(number, Ordering::Relaxed);
                return;
            }
        }
        call(libc::SYS_close, [tree, 0, 0, 0, 0, 0]);
    }
}

/// `struct prctl_mm_map` of <linux/prctl.h>.
#[repr(C)]
struct Map {
    code: [usize; 2],
    data: [usize; 2],
    brk: [usize; 2],
    stack: usize,
    args: [usize; 2],
    env: [usize; 2],
    auxv: usize,
    auxv_size: u32,
    exe: u32,
}

/// Puts `file`, which is this program's, in the place of each of its segments, and makes it the process's executable. What the kernel says
/// of the process (proc_pid_stat(5)) stays as it was.
///
/// # Safety
/// As [`move_to_readonly`].
unsafe fn map_again(file: usize, stack: *const usize, envp: *const usize) -> bool {
    const FIXED: usize = (libc::MAP_PRIVATE | libc::MAP_FIXED) as usize;
    const SET_MM: usize = libc::PR_SET_MM as usize;
    const SET_MM_MAP: usize = libc::PR_SET_MM_MAP as usize;
    let (mut headers, mut size, mut count, mut page, mut name) = (0, 0, 0, 0, 0);
    // SAFETY: the auxiliary vector follows the environment's NULL and ends with AT_NULL (System V ABI, AMD64, 3.4.1); the program headers
    // are where it says, and are part of the image.
    unsafe {
        let mut at = envp;
        while at.read() != 0 {
            at = at.add(1);
        }
        at = at.add(1);
        while at.read() != libc::AT_NULL as usize {
            let value = at.add(1).read();
            match at.read() as u64 {
                libc::AT_PHDR => headers = value,
                libc::AT_PHENT => size = value,
                libc::AT_PHNUM => count = value,
                libc::AT_PAGESZ => page = value,
                libc::AT_EXECFN => name = value,
                _ => {}
            }
            at = at.add(2);
        }
        if headers == 0 || size != size_of::<libc::Elf64_Phdr>() || !page.is_power_of_two() || name == 0 {
            return false;
        }
        let headers = headers as *const libc::Elf64_Phdr;
        let mut base = None;
        let mut n = 0;
        while n < count {
            let header = &*headers.add(n);
            match header.p_type {
                libc::PT_PHDR => base = Some((headers as usize).wrapping_sub(header.p_vaddr as usize)),
                // A loader has relocated it, and mapped more.
                libc::PT_INTERP => return false,
                _ => {}
            }
            n += 1;
        }
        let Some(base) = base else { return false };
        let (mut code, mut data) = ([usize::MAX, 0], [0, 0]);
        n = 0;
        while n < count {
            let header = &*headers.add(n);
            n += 1;
            if header.p_type != libc::PT_LOAD || header.p_filesz == 0 {
                continue;
            }
            let start = base.wrapping_add(header.p_vaddr as usize);
            let end = start.wrapping_add(header.p_filesz as usize);
            let first = start & !(page - 1);
            let last = end.wrapping_add(page - 1) & !(page - 1);
            let offset = header.p_offset as usize & !(page - 1);
            let mut protection = libc::PROT_READ;
            if header.p_flags & libc::PF_W != 0 {
                protection |= libc::PROT_WRITE;
            }
            if header.p_flags & libc::PF_X != 0 {
                protection |= libc::PROT_EXEC;
                let [low, high] = code;
                code = [if start < low { start } else { low }, if end > high { end } else { high }];
            }
            let [low, high] = data;
            data = [if start > low { start } else { low }, if end > high { end } else { high }];
            // The same bytes at the same place; this code's own page among them.
            let place = call(libc::SYS_mmap, [first, last - first, protection as usize, FIXED, file, offset]);
            if place as usize != first {
                return false;
            }
            // What the file has after the segment is not the program's.
            if header.p_flags & libc::PF_W != 0 && header.p_memsz > header.p_filesz && last > end {
                asm!("rep stosb", inout("rcx") last - end => _, inout("rdi") end => _, in("al") 0_u8, options(nostack));
            }
        }
        let brk = call(libc::SYS_brk, [0; 6]) as usize;
        let env = if envp.read() == 0 { name } else { envp.read() };
        let map = Map {
            code,
            data,
            brk: [brk, brk],
            stack: stack as usize,
            args: [stack.add(1).read(), env],
            env: [env, name],
            auxv: 0,
            auxv_size: 0,
            exe: file as u32,
        };
        let map = (&raw const map) as usize;
        call(libc::SYS_prctl, [SET_MM, SET_MM_MAP, map, size_of::<Map>(), 0, 0]) == 0
    }
}

/// Whether the entry point found or made the program's place safe.
pub(crate) fn is_safe() -> bool {
    PLACE.load(Ordering::Relaxed) != NOT_MOVED
}

/// The clone that the program was moved to, once.
pub(crate) fn take_tree() -> Option<OwnedFd> {
    let number = PLACE.load(Ordering::Relaxed);
    let ours =
        number > 2 && PLACE.compare_exchange(number, SAFE, Ordering::Relaxed, Ordering::Relaxed).is_ok();
    // SAFETY: the entry point opened it, told nobody else, and the exchange lets one caller through.
    ours.then(|| unsafe { OwnedFd::from_raw_fd(number) })
}

/// That clone's descriptor while it is open, for a child that takes the tree with it.
pub(crate) fn tree() -> Option<i32> {
    Some(PLACE.load(Ordering::Relaxed)).filter(|number| *number > 2)
}
