//! A profile for programs that need little: less than Docker's default, and no more of it for any capability.
//!
//! Against `docker_default` it leaves out: other architectures (so no `socketcall`, no x32), namespaces, tracing and
//! reading other processes' memory, files by handle, device nodes, asynchronous and message queue interfaces, the mount
//! table, real-time scheduling, clock discipline, `memfd_secret`, `vmsplice`, `modify_ldt`, and all address families but
//! the local, IP and netlink ones. `ioctl` may not write into a terminal's input. The deny rules in front of a broader
//! allow rely on the first match (see the crate), which libseccomp does not do.

use super::{allow, allow_values, clone_without_namespaces, rule};
use crate::{Action, Arch, Arg, Flags, Policy};

const ALWAYS: &str = "
    _llseek _newselect accept accept4 access alarm bind brk cachestat capget capset chdir chmod chown
    chown32 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep
    clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create
    epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2 execve execveat exit
    exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fchdir fchmod fchmodat fchmodat2
    fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr
    fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue
    futex_time64 futex_wait futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu
    getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32
    getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32
    getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid
    getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch kill
    landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link
    linkat listen listxattr listxattrat llistxattr lremovexattr lseek lsetxattr lstat lstat64 madvise
    map_shadow_stack membarrier memfd_create mincore mkdir mkdirat mlock mlock2 mlockall mmap mmap2
    mprotect mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap nanosleep
    newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free
    pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 pselect6
    pselect6_time64 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom
    recvmmsg recvmmsg_time64 recvmsg removexattr removexattrat rename renameat renameat2 restart_syscall
    riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
    rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max
    sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
    sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_yield seccomp select
    semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto
    set_robust_list set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid
    setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid
    setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32
    setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask
    sigreturn socketpair splice stat stat64 statfs statfs64 statx symlink symlinkat sync sync_file_range
    syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime
    timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64
    timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink
    unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork wait4 waitid waitpid write writev
";

/// AF_UNIX, AF_INET, AF_INET6, AF_NETLINK (C libraries ask it for addresses).
const FAMILIES: [u32; 4] = [1, 2, 10, 16];

/// TIOCSTI and TIOCLINUX put characters into a terminal's input.
fn terminal_input(native: Arch) -> [u32; 2] {
    match native {
        Arch::Mips | Arch::Mips64 | Arch::Mips64n32 | Arch::Mipsel | Arch::Mipsel64 | Arch::Mipsel64n32 => {
            [0x5472, 0x5483]
        }
        _ => [0x5412, 0x541c],
    }
}

/// The strict profile for a kernel of this architecture.
pub fn strict(native: Arch) -> Policy<'static> {
    let mut policy = Policy {
        default: Action::Errno(1),
        architectures: vec![native],
        flags: Flags::empty(),
        rules: Vec::with_capacity(16),
    };
    for request in terminal_input(native) {
        let arg = Arg::masked(1, u64::from(u32::MAX), u64::from(request));
        policy.rules.push(rule("ioctl", Action::Errno(1), &[arg]));
    }
    allow(&mut policy, "ioctl");
    allow(&mut policy, ALWAYS);
    allow_values(&mut policy, "socket", 0, &FAMILIES);
    allow_values(&mut policy, "personality", 0, &[0, u32::MAX]);
    match native {
        Arch::X86_64 | Arch::X32 => allow(&mut policy, "arch_prctl"),
        Arch::Arm => allow(&mut policy, "arm_fadvise64_64 arm_sync_file_range cacheflush set_tls"),
        Arch::Riscv64 => allow(&mut policy, "riscv_flush_icache"),
        _ => {}
    }
    clone_without_namespaces(&mut policy, native);
    policy
}
