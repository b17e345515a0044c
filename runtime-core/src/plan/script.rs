//! What one clone needs, in the order of time: what the parent opens before, what it answers in between, and the child's steps.
//!
//! A script is data. Each of its parts knows the line of the configuration that asked for it and the phase that it belongs to, so
//! that a failure with nothing but a number becomes a sentence.
//!
//! Must not: open or probe anything. Tests: through every golden plan.

use super::arena::Arena;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::spec::IdMapping;
use crate::validate::{IoClass, SchedulingPolicy};
use coracle_init::program::{Slot, Step, Str, StrList};
use std::borrow::Cow;
use std::path::PathBuf;

/// One thing to do, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Planned<T> {
    /// The JSON pointer of what asked for it; empty when the runtime itself did.
    pub(crate) pointer: Cow<'static, str>,
    /// When in the container's life it is done.
    pub(crate) phase: Phase,
    /// The thing.
    pub(crate) what: T,
}

/// Whether a child may run in the memory of a process that is the runtime's own, instead of in a copy: nobody who could trace it sees it before
/// it has left that memory, and nothing that it does needs a memory of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// It runs in a copy.
    #[default]
    Copied,
    /// It runs beside the process, which goes on with its own work.
    Beside,
    /// It runs instead of the process, which soon waits for it; it makes a second process, which has a copy, and ends.
    Instead,
}

/// Lines of `uid_map` and `gid_map`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Maps {
    pub(crate) uid: String,
    pub(crate) gid: String,
}

impl Maps {
    pub(crate) fn new(uids: &[IdMapping], gids: &[IdMapping]) -> Self {
        let lines = |list: &[IdMapping]| {
            list.iter().map(|m| format!("{} {} {}\n", m.container_id, m.host_id, m.size)).collect()
        };
        Self { uid: lines(uids), gid: lines(gids) }
    }
}

/// What the parent opens before the clone; each fills one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Open {
    /// A detached clone of a host tree.
    Tree { path: PathBuf, recursive: bool, nofollow: bool, slot: Slot },
    /// The rootfs: as `Tree`, and it must be a directory.
    Root { path: PathBuf, slot: Slot },
    /// A detached clone of the host's `/dev/null`, verified to be the character device 1:3.
    Null { slot: Slot },
    /// A detached clone of a host device node, verified to be this device.
    Node { path: PathBuf, block: bool, major: u32, minor: u32, slot: Slot },
    /// A namespace by its file.
    Namespace { path: PathBuf, nstype: i32, slot: Slot },
    /// The host's procfs, verified to be one.
    Proc { slot: Slot },
    /// A namespace of the container's init, by its pidfd (exec).
    InitNamespace { nstype: i32, slot: Slot },
    /// A user namespace with these mappings and nobody in it.
    UserNamespace { maps: Maps, slot: Slot },
    /// The container's own directory in the cgroup hierarchy with this key, as a detached tree.
    CgroupTree { hierarchy: String, slot: Slot },
}

/// What the parent does for a child that waits for it, between `Born` and `Go`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Writes the identity mappings of the new user namespace.
    IdMaps { uid: String, gid: String, deny_setgroups: bool },
    /// Maps the ids of a tree that the child lent: by these mappings, or those of the child's user namespace.
    IdMapTree { tree: Slot, recursive: bool, maps: Option<Maps> },
    /// Writes `/proc/PID/timens_offsets`.
    TimeOffsets { lines: String },
    /// Raises a limit from outside: inside, the capability counts in the wrong user namespace.
    Rlimit { resource: u32, soft: u64, hard: u64 },
    /// Writes the process to these files of a resctrl file system.
    JoinClass { tasks: Vec<PathBuf> },
    /// Writes `/proc/PID/oom_score_adj`.
    OomScoreAdj { value: i32 },
    /// sched_setattr(2): the capability counts in the initial user namespace.
    Scheduler(SchedulingPolicy),
    /// ioprio_set(2): likewise.
    IoPriority(IoClass),
}

/// A network device of the host for the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NetDevice {
    /// Its name on the host.
    pub(crate) name: String,
    /// Its name inside; the kernel fills in a number for `%d`.
    pub(crate) inside: String,
    /// The network namespace that is joined; none: it is new.
    pub(crate) joined: Option<PathBuf>,
}

/// Everything for one clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Script {
    /// Namespace flags of the clone itself.
    pub(crate) clone_flags: u64,
    /// What memory the child runs in.
    pub(crate) memory: Sharing,
    /// Whether the clone puts the child into the cgroup (version 2 alone).
    pub(crate) into_cgroup: bool,
    /// What the parent opens before the clone.
    pub(crate) opens: Vec<Planned<Open>>,
    /// What the parent does between `Born` and `Go`; with none of these the child does not wait.
    pub(crate) answers: Vec<Planned<Answer>>,
    /// Network devices that the parent moves, between `Born` and `Go` too.
    pub(crate) devices: Vec<Planned<NetDevice>>,
    /// What the parent does while the child works; done before the child may pass the gate.
    pub(crate) beside: Vec<Planned<Answer>>,
    /// What the parent does to a child that waits at the gate, before it is told to go on.
    pub(crate) late: Vec<Planned<Answer>>,
    /// The child's steps. The number of a step in a failure report is its index here.
    pub(crate) steps: Vec<Planned<Step>>,
    /// The data of the steps.
    pub(crate) arena: Arena,
    slots: u16,
    /// Machine words for argument vectors.
    pub(crate) words: u32,
}

impl Default for Script {
    fn default() -> Self {
        Self::new()
    }
}

impl Script {
    /// Whether the old root goes away as a whole.
    pub(crate) fn pivots(&self) -> bool {
        self.steps.iter().any(|planned| matches!(planned.what, Step::PivotRoot))
    }

    /// An empty script.
    pub(crate) fn new() -> Self {
        Self {
            clone_flags: 0,
            memory: Sharing::Copied,
            into_cgroup: false,
            opens: Vec::new(),
            answers: Vec::new(),
            devices: Vec::new(),
            beside: Vec::new(),
            late: Vec::new(),
            steps: Vec::with_capacity(128),
            arena: Arena::new(),
            slots: 0,
            words: 0,
        }
    }

    /// A new place for a descriptor.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] past 65,534.
    pub(crate) fn slot(&mut self) -> Result<Slot> {
        let slot = Slot(self.slots);
        self.slots = self.slots.checked_add(1).filter(|n| *n < Slot::NONE.0).ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "the configuration needs more than 65,534 descriptors")
        })?;
        Ok(slot)
    }

    /// Number of slots given out.
    pub(crate) fn slots(&self) -> u16 {
        self.slots
    }

    /// Adds a step.
    pub(crate) fn step(&mut self, pointer: impl Into<Cow<'static, str>>, phase: Phase, what: Step) {
        self.steps.push(Planned { pointer: pointer.into(), phase, what });
    }

    /// Adds something for the parent to open; gives the slot that `open` was told.
    ///
    /// # Errors
    /// As [`Script::slot`].
    pub(crate) fn open(
        &mut self,
        pointer: impl Into<Cow<'static, str>>,
        phase: Phase,
        open: impl FnOnce(Slot) -> Open,
    ) -> Result<Slot> {
        let slot = self.slot()?;
        self.opens.push(Planned { pointer: pointer.into(), phase, what: open(slot) });
        Ok(slot)
    }

    /// Adds something for the parent to do between `Born` and `Go`.
    pub(crate) fn answer(&mut self, pointer: impl Into<Cow<'static, str>>, phase: Phase, what: Answer) {
        self.answers.push(Planned { pointer: pointer.into(), phase, what });
    }

    /// Adds something for the parent to do while the child works.
    pub(crate) fn aside(&mut self, pointer: impl Into<Cow<'static, str>>, phase: Phase, what: Answer) {
        self.beside.push(Planned { pointer: pointer.into(), phase, what });
    }

    /// Adds something for the parent to do when the child waits at the gate.
    pub(crate) fn at_gate(&mut self, pointer: impl Into<Cow<'static, str>>, phase: Phase, what: Answer) {
        self.late.push(Planned { pointer: pointer.into(), phase, what });
    }

    /// Takes the beginning off every pointer: what was asked for stood in a document of its own.
    pub(crate) fn shorten_pointers(&mut self, start: &str) {
        let shorten = |pointer: &mut Cow<'static, str>| {
            if let Some(rest) = pointer.strip_prefix(start) {
                *pointer = Cow::Owned(rest.to_owned());
            }
        };
        self.opens.iter_mut().for_each(|planned| shorten(&mut planned.pointer));
        self.steps.iter_mut().for_each(|planned| shorten(&mut planned.pointer));
    }

    /// Adds a string to the arena.
    ///
    /// # Errors
    /// As [`Arena::str`].
    pub(crate) fn str(&mut self, text: &str) -> Result<Str> {
        self.arena.str(text.as_bytes())
    }

    /// Adds a list that becomes an argument vector, and counts the words that it needs.
    ///
    /// # Errors
    /// As [`Arena::list`].
    pub(crate) fn vector<T: AsRef<[u8]>>(&mut self, items: impl IntoIterator<Item = T>) -> Result<StrList> {
        let list = self.arena.list(items)?;
        // One more for the NULL, one for HOME when it has to be found inside.
        self.words = self.words.saturating_add(list.count).saturating_add(2);
        Ok(list)
    }
}
