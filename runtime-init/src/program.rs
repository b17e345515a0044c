//! The program that the child half walks: one contiguous arena of steps and bytes, addressed by offset.
//!
//! The parent half compiles its plan into this form before the clone; the child only reads it. There are no pointers in
//! it, so the same bytes can be walked in a copied address space or from a sealed memory file mapped by another
//! executable. Every access is bounds-checked; a broken arena ends in [`Fault`], never in a panic.
//!
//! Layout, all numbers in native endianness:
//!
//! ```text
//! 0            header: MAGIC, VERSION, total length, number of steps, number of slots, words, offset of the steps
//! 64           bytes: strings (each followed by NUL), string lists, number lists
//! steps_at     steps: [op: u32][plan step: u32][fields: 6 x u64]   (56 bytes each)
//! ```
//!
//! Must not: allocate, know what a configuration is, hold a descriptor number (descriptors are named by [`Slot`]).
//! Tests: at the end of this file and in `runtime-core/src/launch/compile.rs`.
//!
//! One table of all steps, longer than a file should be: each with what it does and what its parts are.

use core::ffi::CStr;

/// First word of every arena: "CORA" followed by the layout's generation.
pub const MAGIC: u32 = 0x434f_5241;
/// Layout version. A walker refuses any other.
pub const VERSION: u32 = 1;
/// Bytes before the first step.
pub const HEADER_LEN: usize = 64;
/// Bytes of one encoded step.
pub const STEP_LEN: usize = 8 + FIELDS * 8;
/// Fields of one encoded step.
pub const FIELDS: usize = 6;

/// The arena is not a program that this walker can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault;

/// A NUL-terminated byte string in the arena. `len` does not count the NUL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Str {
    /// Byte offset from the start of the arena.
    pub off: u32,
    /// Length in bytes without the NUL.
    pub len: u32,
}

impl Str {
    /// The absent string; no real string starts inside the header.
    pub const NONE: Self = Self { off: 0, len: 0 };

    /// Whether this is [`Str::NONE`].
    #[must_use]
    pub fn is_none(self) -> bool {
        self.off == 0
    }
}

/// A list of strings: `count` encoded [`Str`]s (two `u32` each), 4-byte aligned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StrList {
    /// Byte offset of the first entry.
    pub off: u32,
    /// Number of entries.
    pub count: u32,
}

/// Raw bytes (a seccomp filter, an array of `u32` ids), 8-byte aligned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// Byte offset.
    pub off: u32,
    /// Length in bytes.
    pub len: u32,
}

/// A place for one file descriptor. Filled by the parent before the clone, by `Go`, or by a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(pub u16);

impl Slot {
    /// No slot.
    pub const NONE: Self = Self(u16::MAX);
}

/// A field's value for readers of a plan: which kind it is, not what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// A string in the arena.
    Str(Str),
    /// A list of strings.
    List(StrList),
    /// Raw bytes.
    Bytes(Bytes),
    /// A descriptor's place.
    Slot(Slot),
    /// An unsigned number, or a flag word.
    Number(u64),
    /// A signed number.
    Signed(i32),
    /// A switch.
    Bool(bool),
}

/// A value that fits one field of an encoded step.
pub trait Field: Sized {
    /// For readers of a plan.
    fn value(&self) -> Value;
    /// To the wire.
    fn to_word(&self) -> u64;
    /// From the wire.
    ///
    /// # Errors
    /// [`Fault`] when the word is no value of this type.
    fn from_word(word: u64) -> Result<Self, Fault>;
}

fn halves(a: u32, b: u32) -> u64 {
    (u64::from(a) << 32) | u64::from(b)
}

fn split(word: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = word.to_be_bytes();
    (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))
}

macro_rules! pair_field {
    ($($t:ident { $a:ident, $b:ident } as $kind:ident)+) => {$(
        impl Field for $t {
            fn value(&self) -> Value {
                Value::$kind(*self)
            }
            fn to_word(&self) -> u64 {
                halves(self.$a, self.$b)
            }
            fn from_word(word: u64) -> Result<Self, Fault> {
                let ($a, $b) = split(word);
                Ok(Self { $a, $b })
            }
        }
    )+};
}
pair_field! { Str { off, len } as Str StrList { off, count } as List Bytes { off, len } as Bytes }

impl Field for Slot {
    fn value(&self) -> Value {
        Value::Slot(*self)
    }
    fn to_word(&self) -> u64 {
        u64::from(self.0)
    }
    fn from_word(word: u64) -> Result<Self, Fault> {
        u16::try_from(word).map(Self).map_err(|_| Fault)
    }
}

impl Field for u64 {
    fn value(&self) -> Value {
        Value::Number(*self)
    }
    fn to_word(&self) -> u64 {
        *self
    }
    fn from_word(word: u64) -> Result<Self, Fault> {
        Ok(word)
    }
}

impl Field for u32 {
    fn value(&self) -> Value {
        Value::Number(u64::from(*self))
    }
    fn to_word(&self) -> u64 {
        u64::from(*self)
    }
    fn from_word(word: u64) -> Result<Self, Fault> {
        Self::try_from(word).map_err(|_| Fault)
    }
}

impl Field for i32 {
    fn value(&self) -> Value {
        Value::Signed(*self)
    }
    fn to_word(&self) -> u64 {
        u64::from_ne_bytes(i64::from(*self).to_ne_bytes())
    }
    fn from_word(word: u64) -> Result<Self, Fault> {
        Self::try_from(i64::from_ne_bytes(word.to_ne_bytes())).map_err(|_| Fault)
    }
}

impl Field for bool {
    fn value(&self) -> Value {
        Value::Bool(*self)
    }
    fn to_word(&self) -> u64 {
        u64::from(*self)
    }
    fn from_word(word: u64) -> Result<Self, Fault> {
        match word {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Fault),
        }
    }
}

macro_rules! steps {
    ($( $(#[$doc:meta])* $name:ident $({ $($(#[$fdoc:meta])* $field:ident : $ty:ty),* $(,)? })? = $op:literal ),* $(,)?) => {
        /// One thing for the child to do. The documentation of each names the calls that it makes, in order: the number
        /// of the failing one travels as `part` in a failure report.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the fields are named in the documentation of their step")]
        pub enum Step {
            $( $(#[$doc])* $name $({ $($(#[$fdoc])* $field: $ty),* })? ),*
        }

        impl Step {
            /// The encoded form: operation number and fields.
            #[must_use]
            #[allow(unused_mut, unused_assignments, reason = "steps without fields use neither")]
            pub fn encode(&self) -> (u32, [u64; FIELDS]) {
                let mut words = [0_u64; FIELDS];
                let op = match self {
                    $( Self::$name $({ $($field),* })? => {
                        $( let mut place = words.iter_mut();
                           $( if let Some(word) = place.next() { *word = Field::to_word($field); } )* )?
                        $op
                    } ),*
                };
                (op, words)
            }

            /// Reads an encoded step.
            ///
            /// # Errors
            /// [`Fault`] for an unknown operation or a field out of its range.
            #[allow(unused_variables, unused_mut, reason = "steps without fields use neither")]
            pub fn decode(op: u32, words: &[u64; FIELDS]) -> Result<Self, Fault> {
                let mut fields = words.iter();
                match op {
                    $( $op => Ok(Self::$name $({ $(
                        $field: <$ty as Field>::from_word(*fields.next().ok_or(Fault)?)?
                    ),* })?), )*
                    _ => Err(Fault),
                }
            }

            /// Shows each field's name and value, in order, to readers of a plan.
            pub fn fields(&self, show: &mut dyn FnMut(&'static str, Value)) {
                match self {
                    $( Self::$name $({ $($field),* })? => { $( $( show(stringify!($field), $field.value()); )* )? } ),*
                }
            }

            /// The name of the step, for plans and observers.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self { $( Self::$name $({ $($field: _),* })? => stringify!($name) ),* }
            }
        }
    };
}

steps! {
    // --- process, before the parent's answer -----------------------------------------------------------------
    /// `prctl(PR_SET_DUMPABLE, 0)`: nobody traces us or opens our `/proc` entries from here on.
    NonDumpable = 1,
    /// `setsid()`.
    SetSid = 2,
    /// `keyctl(KEYCTL_JOIN_SESSION_KEYRING, NULL)`: a new anonymous session keyring. ENOSYS means a kernel without keyrings.
    SessionKeyring = 3,
    /// `prctl(PR_SET_PDEATHSIG, signal)`; 0 disarms. After arming, a hung-up report socket ends the process.
    ParentDeathSignal { signal: i32 } = 4,
    /// Sends `Born`, waits for `Go`; descriptors that come with `Go` fill those slots of `first..first+count` that are empty, in order.
    /// More than 253 come with several. With `optional` nothing is sent when none is empty.
    Born { first: Slot, count: u32, optional: bool } = 5,
    /// `unshare(flags)`.
    Unshare { flags: u64 } = 6,
    /// `setns(fd, nstype)`.
    JoinNamespace { fd: Slot, nstype: i32 } = 7,
    /// Second clone: `clone3(CLONE_PARENT | CLONE_PIDFD | flags)` with `exit_signal` 0. The first process sends `Stage` with the pidfd and
    /// exits; the new one goes on with the next step, and sends nothing before `Stage` was sent.
    SecondClone { flags: u64 } = 8,
    /// `setresgid(0)`, `setresuid(0)`, `setgroups([])` (part 2, only with `groups`): becomes root of its user namespace. An id 0
    /// that does not exist there is `uid` or `gid` instead.
    NamespaceRoot { groups: bool, uid: u32, gid: u32 } = 9,
    /// Writes "0" to an open `tasks` or `cgroup.procs` file.
    JoinCgroup { fd: Slot } = 10,

    // --- mounts, before the root change ----------------------------------------------------------------------
    /// `mount_setattr("/", recursive ? AT_RECURSIVE : 0, propagation)`. Flags are `MS_PRIVATE`, `MS_SLAVE`, ... of mount(2).
    Propagation { flags: u64, recursive: bool } = 20,
    /// `open_tree(AT_FDCWD, path, OPEN_TREE_CLONE ...)` on the host's tree, into `out`. `flags`: see the `OPEN_*` constants. With a type
    /// in `mode` the path has to lead to that type without a link at its end, and to the device `dev` if it is one (both as in
    /// `MakeNode`): opened (part 0), looked at (1), cloned (2).
    OpenHostTree { path: Str, flags: u32, mode: u32, dev: u64, out: Slot } = 21,
    /// Resolves `path` inside the root, then `open_tree(fd, "", OPEN_TREE_CLONE | AT_EMPTY_PATH ...)`, into `out`.
    OpenInnerTree { path: Str, recursive: bool, nofollow: bool, out: Slot } = 22,
    /// `fsopen(fstype)` (part 0), `fsconfig` source (1), each option in turn (2..; `key` or `key=value`),
    /// `FSCONFIG_CMD_CREATE` and `fsmount(attrs)` (the last two parts), into `out`.
    NewFs { fstype: Str, source: Str, options: StrList, attrs: u64, out: Slot } = 23,
    /// `mount_setattr(tree, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), set, clear, propagation, userns)`.
    /// With `userns` set, `MOUNT_ATTR_IDMAP` is added. In a user namespace flags locked on the source stay; one that `clear` asks away
    /// is EPERM, and the report's detail names it (`locked: nodev`).
    TreeAttr { tree: Slot, set: u64, clear: u64, propagation: u64, recursive: bool, userns: Slot } = 24,
    /// `move_mount(tree, "", path, "")`, then the tree's root is *the root* that later steps resolve below. The slot's descriptor is
    /// the walker's own from here on.
    AttachRoot { tree: Slot, path: Str } = 25,
    /// Resolves `target` inside the root, creating what is missing (a directory, or a file when the tree's root is none),
    /// `move_mount(tree, "", target fd, "")`, and reads back that the mount stands where the path leads.
    /// `flags`: see the `ATTACH_*` constants.
    Attach { tree: Slot, target: Str, flags: u32 } = 26,
    /// tmpcopyup: copies what is in the directory that `target` names in the root into the detached tree. No directory, no copy.
    /// The tree's own permissions stay: see [`ATTACH_TAKE_MODE`].
    CopyUp { tree: Slot, target: Str } = 27,
    /// Changes an existing mount at `target` inside the root (option `remount`, read-only paths done in place):
    /// `mount_setattr(target fd, "", AT_EMPTY_PATH ...)`.
    Remount { target: Str, set: u64, clear: u64, propagation: u64, recursive: bool } = 28,
    /// `fspick(target)`, options, `FSCONFIG_CMD_RECONFIGURE`: superblock options of a `remount`.
    Reconfigure { target: Str, options: StrList } = 29,
    /// `mkdirat` of one name directly below a detached tree.
    MakeDir { tree: Slot, name: Str, mode: u32 } = 30,

    /// Resolves `target` inside the root without following a link, looks whether a mount stands there (part 1), `fchdir` to the directory
    /// that it is in, `umount2(name, MNT_DETACH | UMOUNT_NOFOLLOW)`, `fchdir` to the root.
    Unmount { target: Str } = 33,

    // --- devices, links ---------------------------------------------------------------------------------------
    /// Makes a device node, fifo or (type `S_IFREG`) empty file at `path`: below `tree` when that slot is set (a detached
    /// `/dev`), else inside the root. An existing node must be the same; owner is set by fd. `mode` holds type and permissions,
    /// `dev` the kernel's encoding of major and minor, `owner` uid in the high half and gid in the low one.
    MakeNode { tree: Slot, path: Str, mode: u32, dev: u64, owner: u64 } = 31,
    /// Makes a symbolic link at `path` (below `tree`, else inside the root). What is there already stays, as in runc. `flags`: see the
    /// `LINK_*` constants.
    MakeLink { tree: Slot, path: Str, target: Str, flags: u32 } = 32,

    // --- synchronisation --------------------------------------------------------------------------------------
    /// Sends `RootReady`, waits for `HooksDone`.
    RootReady = 40,
    /// Runs a hook inside: fork, the program with its arguments, environment and working directory, the state with the pid (as
    /// init's own pid namespace sees it) on standard input; waits until it ends, at most its timeout. `hook` holds a
    /// [`HookLayout`](crate::step::hook::HookLayout); `index` counts the hooks of one kind, for plans.
    Hook { hook: Bytes, index: u32 } = 41,

    // --- root change ------------------------------------------------------------------------------------------
    /// `mount_setattr(root, "", AT_EMPTY_PATH, MOUNT_ATTR_RDONLY)`, keeping locked flags.
    RootReadonly = 50,
    /// Makes the directory `path` (0755), and those on the way, when it is missing. EACCES is left for `WorkingDir`.
    MakeWorkingDir { path: Str } = 54,
    /// `fchdir(root)`, `pivot_root(".", ".")`, old root made slave, `umount2(".", MNT_DETACH)`, `chdir("/")`.
    PivotRoot = 51,
    /// `--no-pivot`: other full procfs and sysfs mounts detached, `move_mount` onto `/`, `chroot(".")`, `chdir("/")`.
    MoveRoot = 52,
    /// Propagation of the new root: `mount_setattr("/", ...)` with `MS_SHARED`, `MS_SLAVE`, ... and `MS_REC`.
    RootPropagation { flags: u64, recursive: bool } = 53,

    // --- inside the new root ----------------------------------------------------------------------------------
    /// `sethostname(name)`.
    Hostname { name: Str } = 60,
    /// `setdomainname(name)`.
    Domainname { name: Str } = 61,
    /// Brings the interface `lo` up.
    LoopbackUp = 62,
    /// Opens an unmasked procfs for `Sysctl` steps, into `out`: the one that was attached on `/proc`, or a detached one.
    SysctlProc { out: Slot } = 63,
    /// Writes `value` to `sys/<path>` below `proc`; `path` has slashes, no dot components, no links are followed.
    Sysctl { proc: Slot, path: Str, value: Str } = 64,
    /// Closes a slot.
    Close { fd: Slot } = 65,
    /// Covers `path` when it exists: a file by a clone of `null` (the host's, verified by the parent), a directory by a clone of
    /// `empty`, both detached trees, and reads back that the cover stands there. Below `/proc` and `/sys` the path must end on a file
    /// system of the kernel or on a mount of this program.
    MaskPath { path: Str, null: Slot, empty: Slot } = 66,
    /// Makes `path`, when it exists, a read-only bind of itself (recursively).
    ReadonlyPath { path: Str } = 67,
    /// Makes a pty pair from the devpts in `devpts` (or, when that slot is empty, from the one found at `/dev/pts`), sets its
    /// size and owner, binds the peer on `/dev/console` when `bind_console`, sends the master with `Console`, keeps the peer in `out`.
    /// `rows_cols`: rows in the high half, columns in the low one, 0 leaves the size. `owner` as in `MakeNode`. The devpts must be
    /// attached already when the console is bound: before Linux 6.15 nothing of a detached tree can be bound.
    Terminal { devpts: Slot, rows_cols: u64, owner: u64, bind_console: bool, out: Slot } = 68,
    /// `dup3` of `fd` onto 0, 1 and 2, `ioctl(TIOCSCTTY, 0)`.
    ControllingTerminal { fd: Slot } = 69,
    /// `fchown` of descriptors 0, 1, 2 to uid, gid (unless a terminal or `/dev/null`), as runc does. EPERM, EROFS and EINVAL mean a
    /// descriptor that cannot be owned (a foreign file, a read-only file system, an unmapped id).
    OwnStdio { uid: u32, gid: u32 } = 70,

    /// `dup3(fd, target, 0)`: a standard stream. A number that another slot or the report socket has is EBUSY.
    InstallDescriptor { fd: Slot, target: u32 } = 71,

    // --- credentials ------------------------------------------------------------------------------------------
    /// `setrlimit(resource, soft, hard)`.
    Rlimit { resource: u32, soft: u64, hard: u64 } = 80,
    /// `umask(mask)`.
    Umask { mask: u32 } = 81,
    /// `prctl(PR_SET_NO_NEW_PRIVS, 1)`.
    NoNewPrivs = 82,
    /// Keepcaps on, bounding set reduced to `bounding`.
    BoundingSet { bounding: u64 } = 83,
    /// `setgroups` (unless `skip_groups`), `setresgid`, `setresuid`, read back and compared; non-dumpable again. With `keep_admin`
    /// CAP_SYS_ADMIN and CAP_SETPCAP are effective again after uid 0 was left. It clears the parent-death signal.
    Credentials { uid: u32, gid: u32, groups: Bytes, skip_groups: bool, keep_admin: bool } = 84,
    /// `capset`, ambient cleared and raised, keepcaps off; three sets and the ambient one are read back and compared, the bounding
    /// one as `BoundingSet`, which comes before, left it.
    Capabilities { effective: u64, permitted: u64, inheritable: u64, ambient: u64, bounding: u64 } = 85,
    /// Working directory: `chdir`, the kernel's `getcwd` must start with `/`.
    /// With `optional` EACCES is left for a second try after the credentials changed.
    WorkingDir { path: Str, optional: bool } = 86,
    /// `seccomp(SECCOMP_SET_MODE_FILTER, flags, filter)`. When `flags` ask for a listener: with `listener` set it is kept there and
    /// its number sent with `Listener` (by write); without, `Listener` carries the descriptor itself (by sendmsg) and it is closed.
    Seccomp { filter: Bytes, flags: u64, listener: Slot } = 87,
    /// `sched_setaffinity(0, mask)`; an all-ones mask resets to what the cpuset allows.
    CpuAffinity { mask: Bytes } = 88,
    /// `sched_setattr(0, attr)`; `attr` is written by [`crate::step::sched::encode`].
    Scheduler { attr: Bytes } = 110,
    /// `ioprio_set(IOPRIO_WHO_PROCESS, 0, value)`: the process is alone in its process group.
    IoPriority { value: u32 } = 111,
    /// `personality(domain)`, read back.
    Personality { domain: u32 } = 112,
    /// `set_mempolicy(policy, nodes)`; `nodes` holds whole machine words, or nothing.
    MemoryPolicy { policy: u32, nodes: Bytes } = 113,
    /// Writes `text` to `file` (or, where that is missing, `other`) below the procfs `proc`, without leaving it, and reads back: `expect`,
    /// with the mode behind it in brackets, or where that is not set anything. A `text` of one line end takes a label away.
    Label { proc: Slot, file: Str, other: Str, text: Str, expect: Str } = 114,

    // --- the end ----------------------------------------------------------------------------------------------
    /// Looks for the program: the first of `candidates` that is a regular file one may execute; else the error that execvp
    /// would give. Remembers it for `Exec`. Also fills HOME from `/etc/passwd` when `home` is set.
    FindProgram { candidates: StrList, uid: u32, home: bool } = 90,
    /// Every ignored signal back to its default, empty signal mask.
    ResetSignals = 91,
    /// Sends `Waiting` on the report socket, waits for `Go` (or ends with the parent), forgets the socket, receives one start
    /// datagram on `gate`, answers `Taken` on the report channel that came with it and uses that one from here on. The datagram's version is checked.
    Gate { gate: Slot } = 92,
    /// Sends `Waiting` on the report socket, waits for `Go` there, answers `Taken`.
    Hold = 93,
    /// Closes every descriptor from `from` on but the report socket: a real close, not close-on-exec. Descriptors in
    /// `from_keep..from` stay and lose close-on-exec (already before a filter is loaded); one that is not open is EBADF.
    CloseDescriptors { from_keep: u32, from: u32 } = 94,
    /// `execve(program found, argv, env)`.
    Exec { argv: StrList, env: StrList } = 95,
    /// Ends the process: it was made for what it sent.
    Quit = 96,
    /// Opens a routing socket (part 0) and the file of the network namespace (1), sends them with `Tree` by the numbers of these slots (2).
    LendNetwork { socket: Slot, namespace: Slot } = 97,
}

/// [`Step::OpenHostTree`]: with the mounts below.
pub const OPEN_RECURSIVE: u32 = 1;
/// [`Step::OpenHostTree`]: the last component is not followed when it is a link.
pub const OPEN_NOFOLLOW: u32 = 2;
/// [`Step::OpenHostTree`]: EACCES is no failure: `Unreached` is sent, and the slot stays empty until `Go`.
pub const OPEN_ASK: u32 = 4;
/// [`Step::OpenHostTree`]: the tree's descriptor is sent with `Tree`, too.
pub const OPEN_LEND: u32 = 8;
/// [`Step::OpenHostTree`]: the path has to lead to a directory.
pub const OPEN_DIRECTORY: u32 = 16;

/// [`Step::Attach`]: the last component of the target is not followed when it is a link.
pub const ATTACH_NOFOLLOW: u32 = 1;
/// [`Step::Attach`]: the target lies on or below `/proc`; only a procfs may stand on it, and below it only what the kernel's procfs
/// really has may be covered. Without it no target on the container's `/proc` is accepted, however it was reached.
pub const ATTACH_ON_PROC: u32 = 2;
/// [`Step::Attach`]: the target must not be reached through a link (`/proc` and `/sys` themselves).
pub const ATTACH_NO_LINKS: u32 = 4;
/// [`Step::Attach`]: the tree's root directory takes the permissions of the directory that it covers, as runc does for every
/// tmpfs without a `mode` option. A target that had to be made leaves the tree as it is.
pub const ATTACH_TAKE_MODE: u32 = 8;

/// [`Step::MakeLink`]: made only when the link's target exists.
pub const LINK_IF_TARGET: u32 = 1;
/// [`Step::MakeLink`]: an existing entry of another kind is replaced (`/dev/ptmx`).
pub const LINK_REPLACE: u32 = 2;

/// A read-only view of an arena.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    bytes: &'a [u8],
    steps_at: usize,
    steps: u32,
    slots: u32,
    words: u32,
}

/// The header's numbers, as the parent writes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Length of the whole arena in bytes.
    pub total: u32,
    /// Number of steps.
    pub steps: u32,
    /// Number of slots that the walker needs.
    pub slots: u32,
    /// Machine words that the walker needs to lay out argument vectors: for the longest of `Exec` and the hooks `argv` and `env` with
    /// their NULLs, and one more when `FindProgram` looks for HOME.
    pub words: u32,
    /// Byte offset of the first step.
    pub steps_at: u32,
}

impl Header {
    /// The encoded header.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0_u8; HEADER_LEN];
        let numbers = [MAGIC, VERSION, self.total, self.steps, self.slots, self.words, self.steps_at];
        for (place, number) in out.chunks_exact_mut(4).zip(numbers) {
            place.copy_from_slice(&number.to_ne_bytes());
        }
        out
    }
}

impl<'a> Program<'a> {
    /// Checks the header and the bounds of the step table.
    ///
    /// # Errors
    /// [`Fault`] when this is no arena of this version, or it is shorter than it says.
    pub fn new(bytes: &'a [u8]) -> Result<Self, Fault> {
        let word = |i: usize| read_u32(bytes, i.checked_mul(4).ok_or(Fault)?);
        if word(0)? != MAGIC || word(1)? != VERSION {
            return Err(Fault);
        }
        let total = usize::try_from(word(2)?).map_err(|_| Fault)?;
        let program = Self {
            bytes: bytes.get(..total).ok_or(Fault)?,
            steps_at: usize::try_from(word(6)?).map_err(|_| Fault)?,
            steps: word(3)?,
            slots: word(4)?,
            words: word(5)?,
        };
        let steps = usize::try_from(program.steps).map_err(|_| Fault)?;
        let end = steps.checked_mul(STEP_LEN).and_then(|n| n.checked_add(program.steps_at)).ok_or(Fault)?;
        if program.steps_at < HEADER_LEN || end > total {
            return Err(Fault);
        }
        Ok(program)
    }

    /// Number of steps.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.steps
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps == 0
    }

    /// Number of slots that the walker needs.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// Machine words that the walker needs for argument vectors.
    #[must_use]
    pub fn words(&self) -> u32 {
        self.words
    }

    /// Step number `index`, with the number of the plan step that it belongs to.
    ///
    /// # Errors
    /// [`Fault`] past the end or when the step cannot be decoded.
    pub fn step(&self, index: u32) -> Result<(u32, Step), Fault> {
        if index >= self.steps {
            return Err(Fault);
        }
        let at = usize::try_from(index)
            .ok()
            .and_then(|i| i.checked_mul(STEP_LEN))
            .and_then(|o| o.checked_add(self.steps_at))
            .ok_or(Fault)?;
        let op = read_u32(self.bytes, at)?;
        let plan = read_u32(self.bytes, at.checked_add(4).ok_or(Fault)?)?;
        let mut words = [0_u64; FIELDS];
        for (i, word) in words.iter_mut().enumerate() {
            let off = i.checked_mul(8).and_then(|o| o.checked_add(at)).and_then(|o| o.checked_add(8));
            *word = read_u64(self.bytes, off.ok_or(Fault)?)?;
        }
        Ok((plan, Step::decode(op, &words)?))
    }

    /// The bytes of a string, without the NUL.
    ///
    /// # Errors
    /// [`Fault`] when it lies outside.
    pub fn str(&self, s: Str) -> Result<&'a [u8], Fault> {
        self.range(s.off, s.len)
    }

    /// A string as the kernel wants it.
    ///
    /// # Errors
    /// [`Fault`] when it lies outside or is not ended by its only NUL.
    pub fn cstr(&self, s: Str) -> Result<&'a CStr, Fault> {
        let bytes = self.range(s.off, s.len.checked_add(1).ok_or(Fault)?)?;
        CStr::from_bytes_with_nul(bytes).map_err(|_| Fault)
    }

    /// Entry `index` of a list.
    ///
    /// # Errors
    /// [`Fault`] past the end.
    pub fn item(&self, list: StrList, index: u32) -> Result<Str, Fault> {
        if index >= list.count {
            return Err(Fault);
        }
        let at = index.checked_mul(8).and_then(|o| o.checked_add(list.off)).ok_or(Fault)?;
        let at = usize::try_from(at).map_err(|_| Fault)?;
        Ok(Str {
            off: read_u32(self.bytes, at)?,
            len: read_u32(self.bytes, at.checked_add(4).ok_or(Fault)?)?,
        })
    }

    /// Raw bytes.
    ///
    /// # Errors
    /// [`Fault`] when they lie outside.
    pub fn raw(&self, b: Bytes) -> Result<&'a [u8], Fault> {
        self.range(b.off, b.len)
    }

    fn range(&self, off: u32, len: u32) -> Result<&'a [u8], Fault> {
        let start = usize::try_from(off).map_err(|_| Fault)?;
        let end = start.checked_add(usize::try_from(len).map_err(|_| Fault)?).ok_or(Fault)?;
        self.bytes.get(start..end).ok_or(Fault)
    }
}

/// Reads a `u32` at a byte offset.
///
/// # Errors
/// [`Fault`] outside the slice.
pub fn read_u32(bytes: &[u8], at: usize) -> Result<u32, Fault> {
    let end = at.checked_add(4).ok_or(Fault)?;
    let four = bytes.get(at..end).and_then(|s| <[u8; 4]>::try_from(s).ok()).ok_or(Fault)?;
    Ok(u32::from_ne_bytes(four))
}

/// Reads a `u64` at a byte offset.
///
/// # Errors
/// [`Fault`] outside the slice.
pub fn read_u64(bytes: &[u8], at: usize) -> Result<u64, Fault> {
    let end = at.checked_add(8).ok_or(Fault)?;
    let eight = bytes.get(at..end).and_then(|s| <[u8; 8]>::try_from(s).ok()).ok_or(Fault)?;
    Ok(u64::from_ne_bytes(eight))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_survive_the_wire() {
        let steps = [
            Step::NonDumpable,
            Step::ParentDeathSignal { signal: -1 },
            Step::Credentials {
                uid: 4_294_967_294,
                gid: 1,
                groups: Bytes { off: 8, len: 4 },
                skip_groups: false,
                keep_admin: true,
            },
            Step::Attach { tree: Slot(3), target: Str { off: 70, len: 4 }, flags: ATTACH_NOFOLLOW },
        ];
        for step in steps {
            let (op, words) = step.encode();
            assert_eq!(Step::decode(op, &words), Ok(step));
        }
        assert_eq!(Step::decode(9999, &[0; FIELDS]), Err(Fault));
        let (op, mut words) = Step::Umask { mask: 0 }.encode();
        words[0] = 1 << 40;
        assert_eq!(Step::decode(op, &words), Err(Fault));
    }

    #[test]
    fn short_or_foreign_arenas_are_faults() {
        let header = Header { total: 64, steps: 1, slots: 0, words: 0, steps_at: 64 }.encode();
        assert!(Program::new(&header).is_err(), "the step table must lie inside");
        let header = Header { total: 64, steps: 0, slots: 0, words: 0, steps_at: 64 }.encode();
        assert!(Program::new(&header).is_ok());
        assert!(Program::new(&header[..63]).is_err());
        assert!(Program::new(&[0; 64]).is_err());
    }
}
