//! Arguments of which the kernel takes only the low 32 bits.
//!
//! From the prototypes of `include/linux/syscalls.h`: `int`, `unsigned int`, `pid_t`, `uid_t`, `umode_t` and the like; and
//! `clone`, whose wide flags argument is cut by the kernel. Only calls that policies filter by argument are here; a call
//! that is missing is one that the lints say nothing about. Must not: affect a program. Tests: below.

/// Name and a bit per argument, sorted by name.
const NARROW: [(&str, u8); 60] = [
    ("accept4", 0b00_1001),
    ("bpf", 0b00_0101),
    ("chmod", 0b00_0010),
    ("clone", 0b00_0001),
    ("close", 0b00_0001),
    ("close_range", 0b00_0111),
    ("creat", 0b00_0010),
    ("dup3", 0b00_0111),
    ("epoll_create1", 0b00_0001),
    ("eventfd2", 0b00_0011),
    ("execveat", 0b01_0001),
    ("fanotify_init", 0b00_0011),
    ("fchmod", 0b00_0011),
    ("fchmodat", 0b00_0101),
    ("fchmodat2", 0b00_1101),
    ("fchown", 0b00_0111),
    ("fcntl", 0b00_0011),
    ("fcntl64", 0b00_0011),
    ("flock", 0b00_0011),
    ("futex", 0b10_0110),
    ("getsockopt", 0b00_0111),
    ("inotify_init1", 0b00_0001),
    ("ioctl", 0b00_0011),
    ("io_uring_setup", 0b00_0001),
    ("ioprio_set", 0b00_0111),
    ("ipc", 0b00_0001),
    ("kcmp", 0b00_0111),
    ("keyctl", 0b00_0001),
    ("kill", 0b00_0011),
    ("lseek", 0b00_0101),
    ("madvise", 0b00_0100),
    ("membarrier", 0b00_0111),
    ("memfd_create", 0b00_0010),
    ("mkdir", 0b00_0010),
    ("mkdirat", 0b00_0101),
    ("mknod", 0b00_0110),
    ("mknodat", 0b00_1101),
    ("open", 0b00_0110),
    ("openat", 0b00_1101),
    ("personality", 0b00_0001),
    ("pidfd_open", 0b00_0011),
    ("pidfd_send_signal", 0b00_1011),
    ("pipe2", 0b00_0010),
    ("prctl", 0b00_0001),
    ("prlimit64", 0b00_0011),
    ("quotactl", 0b00_0101),
    ("reboot", 0b00_0111),
    ("recvfrom", 0b00_1001),
    ("sched_setscheduler", 0b00_0011),
    ("seccomp", 0b00_0011),
    ("sendmsg", 0b00_0101),
    ("sendto", 0b10_1001),
    ("setns", 0b00_0011),
    ("setpriority", 0b00_0111),
    ("setsockopt", 0b01_0111),
    ("socket", 0b00_0111),
    ("socketcall", 0b00_0001),
    ("socketpair", 0b00_0111),
    ("tgkill", 0b00_0111),
    ("umount2", 0b00_0010),
];

/// A bit per argument of the call that the kernel cuts to 32 bits; 0 when the call is not known.
pub(crate) fn narrow_args(name: &str) -> u8 {
    NARROW.iter().find(|(known, _)| *known == name).map_or(0, |&(_, bits)| bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_calls_and_none_is_twice() {
        for (at, (name, bits)) in NARROW.iter().enumerate() {
            assert!(crate::exists(name), "{name}");
            assert!((1..64).contains(bits), "{name}");
            assert!(NARROW.iter().skip(at + 1).all(|(other, _)| other != name), "{name}");
        }
        assert_eq!((narrow_args("socket"), narrow_args("mmap")), (7, 0));
    }
}
