//! The default profile of Docker (moby/profiles, June 2026), as facts: which calls, under which condition.
//!
//! Differences, both on purpose: address families of `socket` and `personality` values are compared in their low 32 bits,
//! which is all the kernel takes (the original's `> 40` lets `1 << 32 | 40`, AF_VSOCK, through); families from 48 on, which
//! do not exist, are denied. The calls that the original allows from Linux 4.8 on are always allowed.

use super::{Capabilities, allow, allow_values, clone_without_namespaces, rule};
use crate::{Action, Arch, Arg, Flags, Policy};

/// Allowed everywhere and always.
const ALWAYS: &str = "
    _llseek _newselect accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod
    chown chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime
    clock_gettime64 clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range
    creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2
    epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2
    fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32
    fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat
    fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64
    futex_wait futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu getcwd getdents
    getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer
    getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid getresgid32 getresuid
    getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getuid32
    getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel
    io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl ioprio_get
    ioprio_set ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32
    lgetxattr link linkat listen listmount listxattr listxattrat llistxattr lremovexattr lseek lsetxattr
    lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat
    mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open
    mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal
    msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat
    open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect
    poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6
    pselect6_time64 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv recv recvfrom
    recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename renameat
    renameat2 restart_syscall riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask
    rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo
    sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam
    sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity
    sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop
    semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list
    set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups
    setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid
    setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32 setxattr setxattrat
    shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall
    socketpair splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync sync_file_range
    syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime
    timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64
    timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink
    unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write
    writev
    process_vm_readv process_vm_writev ptrace
";

/// Allowed with a capability.
const WITH: [(Capabilities, &str); 14] = [
    (Capabilities::DAC_READ_SEARCH, "open_by_handle_at"),
    (
        Capabilities::SYS_ADMIN,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr \
         lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl \
         quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    (Capabilities::SYS_BOOT, "reboot"),
    (Capabilities::SYS_CHROOT, "chroot"),
    (Capabilities::SYS_MODULE, "delete_module finit_module init_module"),
    (Capabilities::SYS_PACCT, "acct"),
    (Capabilities::SYS_PTRACE, "kcmp pidfd_getfd process_madvise"),
    (Capabilities::SYS_RAWIO, "ioperm iopl"),
    (Capabilities::SYS_TIME, "clock_settime clock_settime64 settimeofday stime"),
    (Capabilities::SYS_TTY_CONFIG, "vhangup"),
    (Capabilities::SYS_NICE, "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    (Capabilities::SYSLOG, "syslog"),
    (Capabilities::BPF, "bpf"),
    (Capabilities::PERFMON, "perf_event_open"),
];

/// Address families 0 to 47 without 38 (AF_ALG) and 40 (AF_VSOCK), as masks and values of 32 bits.
const FAMILIES: [(u32, u32); 7] = [(!0x1f, 0), (!3, 32), (!1, 36), (!0, 39), (!0, 41), (!1, 42), (!3, 44)];

/// `PER_LINUX`, `PER_LINUX32`, both with `UNAME26`, and the question for the current value.
const PERSONALITIES: [u32; 5] = [0, 8, 0x2_0000, 0x2_0008, u32::MAX];

/// Docker's default for a container with these capabilities on a kernel of this architecture.
///
/// `socketcall` is allowed, as there: it is all that old 32-bit programs have, and a filter cannot see the family behind
/// its pointer.
pub fn docker_default(capabilities: Capabilities, native: Arch) -> Policy<'static> {
    let mut policy = Policy {
        default: Action::Errno(1),
        architectures: architectures(native),
        flags: Flags::empty(),
        rules: Vec::with_capacity(32),
    };
    allow(&mut policy, ALWAYS);
    for (mask, value) in FAMILIES {
        let arg = Arg::masked(0, u64::from(mask), u64::from(value));
        policy.rules.push(rule("socket", Action::Allow, &[arg]));
    }
    allow_values(&mut policy, "personality", 0, &PERSONALITIES);
    match native {
        Arch::Ppc64le => allow(&mut policy, "swapcontext sync_file_range2"),
        Arch::Arm | Arch::Aarch64 => allow(
            &mut policy,
            "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2",
        ),
        Arch::X86_64 | Arch::X32 => allow(&mut policy, "arch_prctl modify_ldt"),
        Arch::X86 => allow(&mut policy, "modify_ldt"),
        Arch::S390 | Arch::S390x => {
            allow(&mut policy, "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr");
        }
        Arch::Riscv64 => allow(&mut policy, "riscv_flush_icache"),
        _ => {}
    }
    for (capability, names) in WITH {
        if capabilities.has(capability) {
            allow(&mut policy, names);
        }
    }
    if !capabilities.has(Capabilities::SYS_ADMIN) {
        clone_without_namespaces(&mut policy, native);
    }
    policy
}

/// The native architecture and those whose programs it runs, as the original lists them.
fn architectures(native: Arch) -> Vec<Arch> {
    let others: &[Arch] = match native {
        Arch::X86_64 => &[Arch::X86, Arch::X32],
        Arch::Aarch64 => &[Arch::Arm],
        Arch::Mips64 => &[Arch::Mips, Arch::Mips64n32],
        Arch::Mips64n32 => &[Arch::Mips, Arch::Mips64],
        Arch::Mipsel64 => &[Arch::Mipsel, Arch::Mipsel64n32],
        Arch::Mipsel64n32 => &[Arch::Mipsel, Arch::Mipsel64],
        Arch::S390x => &[Arch::S390],
        _ => &[],
    };
    [&[native], others].concat()
}
