//! The walker: closes what was not handed over, then does one step after the other until `execve`.
//!
//! Must not: return, or go on after a step that failed. Tests: `tests/walk.rs`.

use core::convert::Infallible;

use rustix::fs::Mode;
use rustix::io::Errno;

use crate::buf::Buf;
use crate::path::Base;
use crate::program::{Program, Slot, Step, Str};
use crate::report::{self, At, Fail};
use crate::step::mount::Planned;
use crate::step::{
    attr, copy, cred, dev, exec, file, filter, hook, label, limits, mask, mount, ns, root, sched, terminal,
};
use crate::sys::{self, CapSets, Fd, MountAttr};
use crate::wire::Call;

/// Everything that the walker may write to, and what it inherits from its parent.
#[derive(Debug)]
pub struct Memory<'m> {
    /// One descriptor number per slot of the program, or -1; the parent's are filled in already.
    pub slots: &'m mut [i32],
    /// Room for the argument and environment vectors of the longest `Exec` or `Hook` step: both with their ending zero, and one
    /// more when HOME is to be found.
    pub words: &'m mut [usize],
    /// The report socket.
    pub report: i32,
    /// Every descriptor that stays open, ascending: slots, report socket, 0 to 2, preserved ones. All others are closed first.
    pub kept: &'m [i32],
    /// Lowest address of the stack that this walker runs on, when nobody else does: what earlier steps left there is given back before the
    /// wait at the gate.
    pub spare_stack: Option<usize>,
    /// A tree that the parent made and nobody will use, for `PivotRoot` to take away with the old root: who closes one that was never
    /// attached waits until the kernel has dissolved it.
    pub spare_tree: Option<i32>,
}

/// The walker's own state.
#[derive(Debug)]
pub(crate) struct Walk<'m> {
    pub(crate) program: Program<'m>,
    pub(crate) slots: &'m mut [i32],
    pub(crate) words: &'m mut [usize],
    pub(crate) report: i32,
    pub(crate) spare_stack: Option<usize>,
    pub(crate) spare_tree: Option<i32>,
    /// The root that container paths are resolved below; -1 until `AttachRoot` or the first use, then it is `/`.
    root: i32,
    /// Program that `FindProgram` found.
    pub(crate) found: Option<Str>,
    /// `HOME=...` when `FindProgram` was asked for it.
    pub(crate) home: Buf<1024>,
    /// The range of `CloseDescriptors` whose close-on-exec is still to be taken off.
    pub(crate) inherit: Option<(u32, u32)>,
    /// Mounts attached on or below `/proc` and `/sys`: what a mask may stand on besides procfs and sysfs.
    pub(crate) planned: Planned,
    /// Device numbers of the procfs that was attached on `/proc`.
    pub(crate) proc: Option<(u32, u32)>,
    /// Signals that are ignored (bit 0 is signal 1), once somebody looked.
    pub(crate) ignored: Option<u64>,
    /// The capabilities that this kernel knows and those left in the bounding set, after `BoundingSet`.
    pub(crate) bounding: Option<(u64, u64)>,
    /// Whether the cover for files, and that for directories, stands somewhere already.
    pub(crate) covered: (bool, bool),
}

impl Walk<'_> {
    /// The descriptor in a slot; an empty one is EBADF.
    pub(crate) fn slot(&self, slot: Slot) -> Result<i32, Fail> {
        match self.slots.get(usize::from(slot.0)) {
            Some(fd) if *fd >= 0 => Ok(*fd),
            _ => Err(Fail::new(0, Call::Walk, Errno::BADF)),
        }
    }

    /// Like [`Walk::slot`], but no slot at all is `None`.
    pub(crate) fn slot_if(&self, slot: Slot) -> Result<Option<i32>, Fail> {
        if slot == Slot::NONE { Ok(None) } else { self.slot(slot).map(Some) }
    }

    /// Puts a descriptor into a slot and closes what was there.
    pub(crate) fn fill(&mut self, slot: Slot, fd: Fd) -> Result<(), Fail> {
        let place = self.slots.get_mut(usize::from(slot.0)).ok_or(Fail::new(0, Call::Walk, Errno::BADF))?;
        let old = core::mem::replace(place, fd.into_raw());
        if old >= 0 && old != self.root {
            sys::close(old);
        }
        Ok(())
    }

    /// Closes a slot. The root's descriptor is the walker's own from `AttachRoot` on and stays.
    pub(crate) fn empty(&mut self, slot: Slot) -> Result<(), Fail> {
        let fd = self.slot(slot)?;
        if let Some(place) = self.slots.get_mut(usize::from(slot.0)) {
            *place = -1;
        }
        if fd != self.root {
            sys::close(fd);
        }
        Ok(())
    }

    /// Closes every slot and the root, one by one, but the report socket and what is below `from`.
    pub(crate) fn close_held(&mut self, from: u32) {
        let from = i32::try_from(from).unwrap_or(i32::MAX);
        for fd in self.slots.iter_mut().chain(core::iter::once(&mut self.root)) {
            if *fd >= from && *fd != self.report {
                sys::close(*fd);
                *fd = -1;
            }
        }
    }

    /// The root that container paths are resolved below.
    pub(crate) fn root(&mut self) -> Result<Base, Fail> {
        if self.root < 0 {
            self.root = sys::open_top().at(0, Call::Open)?.into_raw();
        }
        Ok(Base::new(self.root))
    }

    /// Makes `fd` the root; `None` looks at `/` again, after the mount namespace changed.
    pub(crate) fn set_root(&mut self, fd: Option<i32>) {
        if self.root >= 0 && !self.slots.contains(&self.root) {
            sys::close(self.root);
        }
        self.root = fd.unwrap_or(-1);
    }
}

/// Walks the program in `arena`: does every step in order and ends in `execve`, or reports the step that failed and exits with
/// status 1.
///
/// The first thing it does is to close every descriptor that is not in [`Memory::kept`]. It blocks where the program says so
/// (`Born`, `RootReady`, `Hook`, `Gate`, `Hold`), and ends when the report socket hangs up meanwhile.
pub fn walk(arena: &[u8], memory: Memory<'_>) -> ! {
    let mut report = memory.report;
    let mut plan = 0_u32;
    let outcome = steps(arena, memory, &mut report, &mut plan);
    report::failed(report, plan, outcome)
}

fn steps(arena: &[u8], memory: Memory<'_>, report: &mut i32, plan: &mut u32) -> Result<Infallible, Fail> {
    let Memory { slots, words, report: channel, kept, spare_stack, spare_tree } = memory;
    close_others(kept).at(0, Call::CloseRange)?;
    // A reader of ours that is gone must be an error, not a signal that waits until the mask is emptied.
    sys::set_ignored(SIGPIPE, true).at(0, Call::Signal)?;
    rustix::process::umask(Mode::empty());
    let program = Program::new(arena)?;
    let mut walk = Walk {
        program,
        slots,
        words,
        report: channel,
        spare_stack,
        spare_tree,
        root: -1,
        found: None,
        home: Buf::new(),
        inherit: None,
        planned: Planned::new(),
        proc: None,
        ignored: None,
        bounding: None,
        covered: (false, false),
    };
    let mut index = 0_u32;
    while index < program.len() {
        let (number, step) = program.step(index)?;
        *plan = number;
        if let Step::CloseDescriptors { from_keep, from } = step {
            walk.inherit = Some((from_keep, from));
        }
        index = index.wrapping_add(1);
    }
    index = 0;
    while index < program.len() {
        let (number, step) = program.step(index)?;
        *plan = number;
        let done = one(&mut walk, step);
        *report = walk.report;
        done?;
        index = index.wrapping_add(1);
    }
    Err(Fail::new(0, Call::Walk, Errno::NODATA))
}

const SIGPIPE: u32 = 13;

/// Closes everything but `kept`, which is in ascending order.
fn close_others(kept: &[i32]) -> Result<(), Errno> {
    let mut next = 0_u32;
    for fd in kept {
        let Ok(fd) = u32::try_from(*fd) else { continue };
        if fd > next {
            sys::close_range(next, fd.wrapping_sub(1))?;
        }
        next = next.max(fd.saturating_add(1));
    }
    sys::close_range(next, u32::MAX)
}

/// Every step's place in the code: one exhaustive match, longer than other functions, so that a step without code does not compile.
/// Steps with large frames are never inlined: this frame is there for as long as init waits at the gate.
fn one(w: &mut Walk<'_>, step: Step) -> Result<(), Fail> {
    match step {
        Step::NonDumpable => ns::non_dumpable(0),
        Step::SetSid => ns::set_sid(),
        Step::SessionKeyring => ns::session_keyring(),
        Step::ParentDeathSignal { signal } => ns::parent_death_signal(w, signal),
        Step::Born { first, count, optional } => ns::born(w, first, count, optional),
        Step::Unshare { flags } => ns::unshare(w, flags),
        Step::JoinNamespace { fd, nstype } => ns::join(w, fd, nstype),
        Step::SecondClone { flags } => ns::second_clone(w, flags),
        Step::NamespaceRoot { groups, uid, gid } => ns::namespace_root(groups, uid, gid),
        Step::JoinCgroup { fd } => ns::join_cgroup(w, fd),
        Step::RootReady => ns::root_ready(w),
        Step::Hook { hook, .. } => hook::hook(w, hook),
        Step::Hostname { name } => ns::hostname(w, name),
        Step::Domainname { name } => ns::domainname(w, name),
        Step::LoopbackUp => ns::loopback_up(),
        Step::SysctlProc { out } => ns::sysctl_proc(w, out),
        Step::Sysctl { proc, path, value } => ns::sysctl(w, proc, path, value),
        Step::Close { fd } => w.empty(fd),
        Step::Propagation { flags, recursive } => attr::propagation(flags, recursive),
        Step::OpenHostTree { path, flags, mode, dev, out } => {
            mount::open_host_tree(w, path, flags, (mode, dev), out)
        }
        Step::OpenInnerTree { path, recursive, nofollow, out } => {
            mount::open_inner_tree(w, path, recursive, nofollow, out)
        }
        Step::NewFs { fstype, source, options, attrs, out } => {
            mount::new_fs(w, fstype, source, options, attrs, out)
        }
        Step::TreeAttr { tree, set, clear, propagation, recursive, userns } => {
            attr::tree_attr(w, tree, MountAttr { set, clear, propagation, userns: 0 }, recursive, userns)
        }
        Step::AttachRoot { tree, path } => mount::attach_root(w, tree, path),
        Step::Attach { tree, target, flags } => mount::attach(w, tree, target, flags),
        Step::CopyUp { tree, target } => copy::copy_up(w, tree, target),
        Step::Remount { target, set, clear, propagation, recursive } => {
            attr::remount(w, target, &MountAttr { set, clear, propagation, userns: 0 }, recursive)
        }
        Step::Reconfigure { target, options } => mount::reconfigure(w, target, options),
        Step::Unmount { target } => mount::unmount_at(w, target),
        Step::MakeDir { tree, name, mode } => mount::make_dir(w, tree, name, mode),
        Step::MakeNode { tree, path, mode, dev, owner } => dev::make_node(w, tree, path, mode, dev, owner),
        Step::MakeLink { tree, path, target, flags } => dev::make_link(w, tree, path, target, flags),
        Step::RootReadonly => attr::root_readonly(w),
        Step::PivotRoot => root::pivot(w),
        Step::MoveRoot => root::move_onto_top(w),
        Step::RootPropagation { flags, recursive } => attr::propagation(flags, recursive),
        Step::MaskPath { path, null, empty } => mask::mask(w, path, null, empty),
        Step::ReadonlyPath { path } => mask::readonly(w, path),
        Step::Terminal { devpts, rows_cols, owner, bind_console, out } => {
            terminal::terminal(w, devpts, rows_cols, owner, bind_console, out)
        }
        Step::ControllingTerminal { fd } => dev::controlling_terminal(w, fd),
        Step::OwnStdio { uid, gid } => dev::own_stdio(uid, gid),
        Step::InstallDescriptor { fd, target } => dev::install(w, fd, target),
        Step::Rlimit { resource, soft, hard } => limits::rlimit(resource, soft, hard),
        Step::Umask { mask } => limits::umask(mask),
        Step::NoNewPrivs => cred::no_new_privs(),
        Step::BoundingSet { bounding } => cred::bounding(w, bounding),
        Step::Credentials { uid, gid, groups, skip_groups, keep_admin } => {
            cred::credentials(w, uid, gid, groups, skip_groups, keep_admin)
        }
        Step::Capabilities { effective, permitted, inheritable, ambient, bounding } => {
            cred::capabilities(w, CapSets { effective, permitted, inheritable }, ambient, bounding)
        }
        Step::MakeWorkingDir { path } => file::make_working_dir(w, path),
        Step::WorkingDir { path, optional } => file::working_dir(w, path, optional),
        Step::Seccomp { filter, flags, listener } => filter::seccomp(w, filter, flags, listener),
        Step::CpuAffinity { mask } => limits::affinity(w, mask),
        Step::Scheduler { attr } => sched::scheduler(w, attr),
        Step::IoPriority { value } => sched::io_priority(value),
        Step::Personality { domain } => sched::personality(domain),
        Step::MemoryPolicy { policy, nodes } => sched::memory_policy(w, policy, nodes),
        Step::Label { proc, file, other, text, expect } => label::label(w, proc, file, other, text, expect),
        Step::FindProgram { candidates, uid, home } => exec::find_program(w, candidates, uid, home),
        Step::ResetSignals => exec::reset_signals(w.ignored),
        Step::Gate { gate } => exec::gate(w, gate),
        Step::Hold => exec::hold(w),
        Step::CloseDescriptors { from, .. } => exec::close_descriptors(w, from),
        Step::Exec { argv, env } => exec::exec(w, argv, env),
        Step::Quit => sys::exit(0),
        Step::LendNetwork { socket, namespace } => ns::lend_network(w, socket, namespace),
    }
}
