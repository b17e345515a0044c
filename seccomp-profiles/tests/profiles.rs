//! The profiles: against what Docker really wrote, and what they must close.

#![allow(
    clippy::unwrap_used,
    clippy::identity_op,
    reason = "a panic fails the test; capability 0 is one of them"
)]

mod common;

use common::{ENGINES, numbers, parse, run};
use coracle_seccomp::profile::{Capabilities, docker_default, strict};
use coracle_seccomp::{Action, Arch, Call, Policy, compile, decide, exists, lint, name_of};

/// Docker's fourteen default capabilities.
fn docker_capabilities() -> Capabilities {
    let numbers = [0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31];
    Capabilities::from_bits(numbers.iter().map(|n| 1_u64 << n).sum())
}

fn answer(policy: &Policy<'_>, name: &str, args: [u64; 6]) -> Action {
    let call = Call::named(Arch::X86_64, name, args).unwrap();
    run(&compile(policy, Arch::X86_64).unwrap().insns, &call)
}

/// The recorded configuration is of an older Docker, which did not close AF_ALG yet (38, not asked here).
#[test]
fn docker_default_is_dockers() {
    let section = parse(ENGINES[0].1);
    let recorded = common::policy(&section);
    let ours = docker_default(docker_capabilities(), Arch::X86_64);
    assert_eq!(ours.default, recorded.default);
    assert_eq!(ours.architectures, recorded.architectures);
    let mut differing = Vec::new();
    for arch in [Arch::X86_64, Arch::X86, Arch::X32] {
        for nr in numbers(arch) {
            for args in common::args(&recorded, arch, nr) {
                // Only the low half counts for the kernel, and there is no family above 46.
                if args.iter().any(|&arg| arg > u64::from(u32::MAX))
                    || args[0] > 46 && name_of(arch, nr) == Some("socket")
                {
                    continue;
                }
                let call = Call::new(arch, nr, args);
                let [a, b] = [&ours, &recorded].map(|policy| decide(policy, Arch::X86_64, &call).action);
                if a != b {
                    differing.push((name_of(arch, nr).unwrap_or("none"), a, b));
                }
            }
        }
    }
    differing.sort_by_key(|entry| entry.0);
    differing.dedup();
    assert_eq!(differing, []);
}

#[test]
fn every_name_is_a_call() {
    for native in Arch::ALL {
        for policy in [docker_default(Capabilities::from_bits(u64::MAX), native), strict(native)] {
            for name in policy.rules.iter().flat_map(|rule| &rule.names) {
                assert!(exists(name), "{name}");
            }
        }
    }
}

/// Classes that a default profile closes, without a capability.
#[test]
fn closed_by_default() {
    let closed = "keyctl add_key request_key io_uring_setup io_uring_enter io_uring_register userfaultfd bpf \
        perf_event_open fanotify_init lookup_dcookie quotactl unshare setns mount umount2 fsopen fsconfig fsmount \
        fspick move_mount open_tree mount_setattr open_by_handle_at init_module finit_module kexec_load \
        kexec_file_load reboot swapon acct iopl ioperm settimeofday clock_settime pivot_root chroot";
    for policy in [docker_default(Capabilities::empty(), Arch::X86_64), strict(Arch::X86_64)] {
        for name in closed.split_ascii_whitespace() {
            assert_eq!(answer(&policy, name, [0; 6]), Action::Errno(1), "{name}");
        }
        assert_eq!(answer(&policy, "clone3", [0; 6]), Action::Errno(38));
        for new in [0x1000_0000, 0x0002_0000, 0x4000_0000, 0x0200_0000, 0x7e02_0000] {
            assert_eq!(answer(&policy, "clone", [new | 17, 0, 0, 0, 0, 0]), Action::Errno(1));
        }
        assert_eq!(answer(&policy, "clone", [17, 0, 0, 0, 0, 0]), Action::Allow);
        for family in [38, 40, 40 | 1 << 32, 38 | 1 << 63] {
            assert_eq!(answer(&policy, "socket", [family, 1, 0, 0, 0, 0]), Action::Errno(1), "{family:#x}");
        }
        for family in [1, 2, 10, 16, 2 | 1 << 32] {
            assert_eq!(answer(&policy, "socket", [family, 1, 0, 0, 0, 0]), Action::Allow, "{family:#x}");
        }
        assert_eq!(answer(&policy, "personality", [0x0400_0000, 0, 0, 0, 0, 0]), Action::Errno(1));
    }
}

#[test]
fn capabilities_open_what_they_are_for() {
    let open = |number: u32, name: &str| {
        let with = docker_default(Capabilities::from_bits(1 << number), Arch::X86_64);
        let without = docker_default(Capabilities::from_bits(u64::MAX & !(1 << number)), Arch::X86_64);
        assert_eq!(answer(&with, name, [0; 6]), Action::Allow, "{name}");
        (answer(&without, name, [0; 6]), name.to_owned())
    };
    // linux/capability.h
    let only = [
        (2, "open_by_handle_at"),
        (16, "init_module"),
        (17, "iopl"),
        (18, "chroot"),
        (20, "acct"),
        (21, "mount"),
        (22, "reboot"),
        (23, "mbind"),
        (25, "settimeofday"),
        (26, "vhangup"),
    ];
    for (number, name) in only {
        assert_eq!(open(number, name), (Action::Errno(1), name.to_owned()));
    }
    // These are opened by CAP_SYS_ADMIN as well.
    for (number, name) in [(34, "syslog"), (38, "perf_event_open"), (39, "bpf")] {
        assert_eq!(open(number, name), (Action::Allow, name.to_owned()));
    }
    let admin = docker_default(Capabilities::from_bits(1 << 21), Arch::X86_64);
    assert_eq!(answer(&admin, "clone3", [0; 6]), Action::Allow);
    assert_eq!(answer(&admin, "clone", [0x1000_0000; 6]), Action::Allow);
}

/// What strict closes beyond Docker's default, and that it is closed in nothing that default has closed.
#[test]
fn strict_is_stricter() {
    let ours = strict(Arch::X86_64);
    let docker = docker_default(Capabilities::empty(), Arch::X86_64);
    for arch in [Arch::X86_64, Arch::X86, Arch::X32] {
        for nr in numbers(arch) {
            let call = Call::new(arch, nr, [0; 6]);
            if decide(&ours, Arch::X86_64, &call).action.permits() {
                assert!(decide(&docker, Arch::X86_64, &call).action.permits(), "{arch:?} {nr}");
            }
        }
    }
    for name in
        ["ptrace", "process_vm_readv", "mknod", "modify_ldt", "io_setup", "name_to_handle_at", "vmsplice"]
    {
        assert_eq!(answer(&ours, name, [0; 6]), Action::Errno(1), "{name}");
        assert_eq!(answer(&docker, name, [0; 6]), Action::Allow, "{name}");
    }
    for request in [0x5412, 0x541c, 0x5412 | 1 << 32] {
        assert_eq!(answer(&ours, "ioctl", [0, request, 0, 0, 0, 0]), Action::Errno(1));
    }
    assert_eq!(answer(&ours, "ioctl", [0, 0x5401, 0, 0, 0, 0]), Action::Allow);
    let i386 = Call::named(Arch::X86, "socketcall", [0; 6]).unwrap();
    assert_eq!(decide(&ours, Arch::X86_64, &i386).action, Action::KillProcess);
}

/// A shell and what it starts must run under both.
#[test]
fn ordinary_programs_run() {
    let needed = "read write openat close execve brk mmap mprotect munmap arch_prctl set_tid_address set_robust_list rseq \
        prlimit64 getrandom newfstatat fstat statx pread64 lseek ioctl fcntl dup2 pipe2 wait4 exit_group rt_sigaction \
        rt_sigprocmask rt_sigreturn futex getpid getuid setresuid setresgid setgroups capset prctl chdir getcwd \
        getdents64 unlinkat mkdirat renameat2 fchmodat fchownat connect sendto recvfrom epoll_pwait eventfd2 \
        timerfd_create clock_nanosleep nanosleep uname sysinfo kill tgkill close_range seccomp sendmsg recvmsg vfork";
    for policy in [docker_default(Capabilities::empty(), Arch::X86_64), strict(Arch::X86_64)] {
        for name in needed.split_ascii_whitespace() {
            assert_eq!(answer(&policy, name, [0; 6]), Action::Allow, "{name}");
        }
    }
}

/// The only doubtful places are the known ones: socketcall, and the deny rules that need the first match.
#[test]
fn lints_of_the_profiles() {
    let kinds = |policy: &Policy<'_>| -> Vec<String> {
        let mut texts: Vec<String> = lint(policy, Arch::X86_64).iter().map(ToString::to_string).collect();
        texts.dedup();
        texts
    };
    let docker = docker_default(docker_capabilities(), Arch::X86_64);
    assert_eq!(kinds(&docker), ["socket: filtered by argument, but socketcall does the same"]);
    assert_eq!(
        kinds(&strict(Arch::X86_64)),
        ["ioctl: runtimes with libseccomp ignore this rule because of rule 2"]
    );
}
