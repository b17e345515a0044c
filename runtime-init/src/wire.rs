//! Messages between the two halves: fixed size, versioned, no text.
//!
//! They travel over a `SOCK_SEQPACKET` pair (start-up) and over the gate's datagram socket (start). Descriptors ride along by
//! `SCM_RIGHTS`. A container made by an older binary is started by a newer one through the same bytes, so a field never
//! changes its place or meaning; new kinds get new numbers.
//!
//! Must not: carry text or pointers. Tests: at the end of this file.

use crate::program::{Fault, read_u32};

/// Version of [`Message`]; part of the contract between releases.
pub const VERSION: u16 = 1;
/// Bytes of one encoded message.
pub const LEN: usize = 56;

macro_rules! numbered {
    ($(#[$doc:meta])* $name:ident : $repr:ty { $( $(#[$vdoc:meta])* $variant:ident = $n:literal ),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $( $(#[$vdoc])* $variant ),* }
        impl $name {
            /// The number on the wire.
            #[must_use]
            pub fn number(self) -> $repr {
                match self { $( Self::$variant => $n ),* }
            }
            /// From the number on the wire.
            #[must_use]
            pub fn from_number(n: $repr) -> Option<Self> {
                match n { $( $n => Some(Self::$variant), )* _ => None }
            }
        }
    };
}

numbered! {
    /// What a message says.
    Kind: u16 {
        /// init → launch: alive, waits for `Go`.
        Born = 1,
        /// launch → init: go on; descriptors may ride along.
        Go = 2,
        /// init → launch: second clone done, its pidfd rides along. `detail` holds the pid as the sender sees it (native `u32`).
        Stage = 3,
        /// init → launch: the root is assembled, runtime-side hooks may run.
        RootReady = 4,
        /// launch → init: they ran.
        HooksDone = 5,
        /// init → launch: the pty master rides along.
        Console = 6,
        /// init → launch: the seccomp listener's number in `errno`; the launch takes it by `pidfd_getfd`.
        Listener = 7,
        /// init → launch: everything before the gate is done.
        Waiting = 8,
        /// start → init, over the gate: run; the report channel rides along.
        Start = 9,
        /// init → start: the gate is passed; end of file after it means that the exec happened.
        Taken = 10,
        /// init → launch or start: a step failed.
        Failed = 11,
        /// init → launch, before `Born`: a source of a mount may not be reached by init; `part` holds its slot. Its tree comes with `Go`.
        Unreached = 12,
        /// init → launch, before `Born`: what belongs to the slot in `part` rides along, a tree or a socket, for what only the launch may
        /// do with it.
        Tree = 13,
    }
}

numbered! {
    /// The call that failed, by the kernel's name.
    Call: u16 {
        /// Not a call: the program or a message was unreadable.
        Walk = 0,
        /// prctl(2)
        Prctl = 1,
        /// setsid(2)
        Setsid = 2,
        /// keyctl(2)
        Keyctl = 3,
        /// unshare(2)
        Unshare = 4,
        /// setns(2)
        Setns = 5,
        /// clone3(2)
        Clone3 = 6,
        /// setresuid(2)
        Setresuid = 7,
        /// setresgid(2)
        Setresgid = 8,
        /// setgroups(2)
        Setgroups = 9,
        /// write(2)
        Write = 10,
        /// read(2)
        Read = 11,
        /// open(2), openat(2)
        Open = 12,
        /// openat2(2)
        Openat2 = 13,
        /// mkdirat(2)
        Mkdirat = 14,
        /// mknodat(2)
        Mknodat = 15,
        /// symlinkat(2)
        Symlinkat = 16,
        /// unlinkat(2)
        Unlinkat = 17,
        /// readlinkat(2)
        Readlinkat = 18,
        /// fstat(2), statx(2)
        Stat = 19,
        /// fstatfs(2)
        Fstatfs = 20,
        /// fchownat(2)
        Fchown = 21,
        /// fchmodat(2)
        Fchmod = 22,
        /// mount_setattr(2)
        MountSetattr = 23,
        /// open_tree(2)
        OpenTree = 24,
        /// move_mount(2)
        MoveMount = 25,
        /// fsopen(2)
        Fsopen = 26,
        /// fsconfig(2)
        Fsconfig = 27,
        /// fsmount(2)
        Fsmount = 28,
        /// fspick(2)
        Fspick = 29,
        /// mount(2)
        Mount = 30,
        /// umount2(2)
        Umount2 = 31,
        /// pivot_root(2)
        PivotRoot = 32,
        /// chroot(2)
        Chroot = 33,
        /// chdir(2), fchdir(2)
        Chdir = 34,
        /// getcwd(2)
        Getcwd = 35,
        /// sethostname(2)
        Sethostname = 36,
        /// setdomainname(2)
        Setdomainname = 37,
        /// socket(2)
        Socket = 38,
        /// ioctl(2)
        Ioctl = 39,
        /// dup3(2)
        Dup3 = 40,
        /// setrlimit(2), prlimit64(2)
        Setrlimit = 41,
        /// capset(2)
        Capset = 42,
        /// capget(2), or a credential that reads back differently
        Compare = 43,
        /// seccomp(2)
        Seccomp = 44,
        /// sched_setaffinity(2)
        SchedSetaffinity = 45,
        /// access to the program
        Access = 46,
        /// sigaction(2), sigprocmask(2)
        Signal = 47,
        /// sendmsg(2)
        Sendmsg = 48,
        /// recvmsg(2)
        Recvmsg = 49,
        /// close_range(2)
        CloseRange = 50,
        /// execve(2)
        Execve = 51,
        /// pipe2(2)
        Pipe2 = 52,
        /// poll(2), ppoll(2)
        Poll = 53,
        /// wait4(2), waitid(2)
        Wait = 54,
        /// a hook that ended with a status other than 0: `errno` holds the wait status
        HookStatus = 55,
        /// a hook that did not end in time
        HookTimeout = 56,
        /// getdents64(2)
        Getdents = 57,
        /// fcntl(2)
        Fcntl = 58,
        /// sched_setattr(2)
        SchedSetattr = 70,
        /// ioprio_set(2)
        IoprioSet = 71,
        /// personality(2)
        Personality = 72,
        /// set_mempolicy(2)
        SetMempolicy = 73,
    }
}

/// One message. Fields that a kind does not use are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it says.
    pub kind: Kind,
    /// `Failed`: number of the plan step.
    pub step: u32,
    /// `Failed`: which call of the step, counted as the step's documentation does.
    pub part: u32,
    /// `Failed`: the call.
    pub call: Call,
    /// `Failed`: the kernel's error number.
    pub errno: i32,
    /// `Failed`: bytes that say more (the start of a path component, of the kernel's mount log); NUL-padded.
    pub detail: [u8; 32],
}

impl Message {
    /// A message that is nothing but its kind.
    #[must_use]
    pub fn plain(kind: Kind) -> Self {
        Self { kind, step: 0, part: 0, call: Call::Walk, errno: 0, detail: [0; 32] }
    }

    /// To the wire: version, kind, step, part, call, padding, errno, detail.
    #[must_use]
    pub fn encode(&self) -> [u8; LEN] {
        let mut out = [0_u8; LEN];
        let head: [[u8; 4]; 5] = [
            (u32::from(VERSION) | (u32::from(self.kind.number()) << 16)).to_ne_bytes(),
            self.step.to_ne_bytes(),
            self.part.to_ne_bytes(),
            u32::from(self.call.number()).to_ne_bytes(),
            self.errno.to_ne_bytes(),
        ];
        let bytes = head.iter().flatten().chain(&[0_u8; 4]).chain(&self.detail);
        for (place, byte) in out.iter_mut().zip(bytes) {
            *place = *byte;
        }
        out
    }

    /// From the wire.
    ///
    /// # Errors
    /// [`Fault`] for another length, version, or an unknown kind or call.
    pub fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        if bytes.len() != LEN {
            return Err(Fault);
        }
        let head = read_u32(bytes, 0)?;
        let [v0, v1, k0, k1] = head.to_le_bytes();
        if u16::from_le_bytes([v0, v1]) != VERSION {
            return Err(Fault);
        }
        let kind = Kind::from_number(u16::from_le_bytes([k0, k1])).ok_or(Fault)?;
        let call = u16::try_from(read_u32(bytes, 12)?).ok().and_then(Call::from_number).ok_or(Fault)?;
        let mut detail = [0_u8; 32];
        for (place, byte) in detail.iter_mut().zip(bytes.get(24..).ok_or(Fault)?) {
            *place = *byte;
        }
        Ok(Self {
            kind,
            step: read_u32(bytes, 4)?,
            part: read_u32(bytes, 8)?,
            call,
            errno: i32::from_ne_bytes(read_u32(bytes, 16)?.to_ne_bytes()),
            detail,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_keeps_every_field() {
        let mut detail = [0_u8; 32];
        detail[0] = b'x';
        detail[31] = b'y';
        let message =
            Message { kind: Kind::Failed, step: 7, part: 3, call: Call::MoveMount, errno: -22, detail };
        assert_eq!(Message::decode(&message.encode()), Ok(message));
    }

    #[test]
    fn other_versions_and_lengths_are_refused() {
        let mut bytes = Message::plain(Kind::Born).encode();
        assert_eq!(Message::decode(&bytes[..LEN - 1]), Err(Fault));
        bytes[0] = 9;
        assert_eq!(Message::decode(&bytes), Err(Fault));
    }
}
