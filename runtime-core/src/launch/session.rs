//! One clone and the conversation with the child up to the gate.
//!
//! The order is the start-up protocol of `ARCHITECTURE.md`. Anything unexpected kills the child; the session owns it until it has passed
//! the gate or waits there, and a dropped session leaves no process behind.
//!
//! Must not: decide what to do, write records. Tests: every container of the `tests` package.
//!
//! Longer than a file should be: one conversation is read from its beginning to its end.

use super::channel::{Channel, Event};
use super::explain;
use super::listener::Receiver;
use super::netdev::Moved;
use super::network::Making;
use super::open::open_all;
use super::reach::Lent;
use super::refused;
use crate::cgroup::{Cgroup, CgroupRecord};
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::observe::Watch;
use crate::plan::script::{Answer, Planned, Script, Sharing};
use crate::process::{self, Identity, Line};
use crate::state::StepRecord;
use crate::sys::clone::{clone_sharing_walker, clone_walker};
use coracle_init::Memory;
use coracle_init::program::{Program, Slot};
use coracle_init::wire::{Kind, Message};
use nix::sys::signal::{SigSet, SigmaskHow};
use rustix::io::Errno;
use std::borrow::Cow;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long a child may take for its first word. It only has to close descriptors before it; a frozen cgroup is what makes it silent.
const FIRST_WORD: Duration = Duration::from_secs(20);

/// How long a child may be silent before it is looked whether it can move at all.
const SILENCE: Duration = Duration::from_millis(500);

/// What a script is run with.
#[derive(Debug, Default)]
pub(crate) struct Setting<'a> {
    /// The cgroup that the child enters.
    pub(crate) cgroup: Option<&'a Cgroup>,
    /// That cgroup and a process in it or below, which leads to where the child may go when the cgroup itself takes none.
    pub(crate) beside: Option<(&'a Cgroup, i32)>,
    /// The child may stand still for as long as its cgroup is frozen.
    pub(crate) stands_still: bool,
    /// pidfd of the init whose namespaces an exec joins.
    pub(crate) init: Option<BorrowedFd<'a>>,
    /// Slots that are already open.
    pub(crate) slots: Vec<(Slot, OwnedFd)>,
    /// Descriptors `3..3+preserve` stay open at their numbers.
    pub(crate) preserve: u32,
    /// This process is the runtime's own: its variables, and what was parsed and planned in it, are kept out of the child.
    pub(crate) own_process: bool,
    /// The network namespace in the making, for a child that asks for it.
    pub(crate) network: Option<Making>,
    /// `args[0]`, for messages.
    pub(crate) program: String,
    /// Who gets the listener of the filter.
    pub(crate) listener: Option<Receiver>,
}

/// A child between its clone and its program.
#[derive(Debug)]
pub(crate) struct Session {
    channel: Channel,
    pidfd: OwnedFd,
    identity: Identity,
    /// Who cloned it and has to be reaped.
    first: Option<OwnedFd>,
    /// Opened while the child is on its way to its program, and read when its channel is closed.
    line: Option<Line>,
    console: Option<OwnedFd>,
    network: Option<Making>,
    moved: Option<Moved>,
    /// How often `Born` was answered.
    met: usize,
    listener: Option<Receiver>,
    arena: Cow<'static, [u8]>,
    script: Script,
    program: String,
    /// Where the child is, to look whether it can move; none when it need not.
    place: Option<CgroupRecord>,
    alive: bool,
}

/// Restores this thread's signal mask.
pub(super) struct Mask(SigSet);

impl Mask {
    pub(super) fn block_all() -> Result<Self> {
        SigSet::all()
            .thread_swap_mask(SigmaskHow::SIG_SETMASK)
            .map(Self)
            .map_err(|e| Error::os("block signals", std::io::Error::from(e)))
    }
}

impl Drop for Mask {
    fn drop(&mut self) {
        // Cannot fail: the set came from the kernel.
        let _ = self.0.thread_set_mask();
    }
}

impl Session {
    /// Opens what the script names and clones.
    ///
    /// # Errors
    /// What cannot be opened, or the kernel's refusal of the clone.
    pub(crate) fn begin(script: Script, setting: Setting<'_>, watch: &Watch<'_>) -> Result<Self> {
        let memory = if setting.own_process { script.memory } else { Sharing::Copied };
        // Of the second process, too, when the first runs in this memory.
        if setting.own_process && memory != Sharing::Beside {
            crate::sys::memory::withhold();
        }
        let mut opened = watch
            .step(Phase::Mounts, "open sources", || open_all(&script.opens, setting.cgroup, setting.init))?;
        opened.extend(setting.slots);
        let numbered = script.steps.iter().zip(0_u32..).map(|(planned, n)| (n, &planned.what));
        let numbered: Vec<_> = numbered.collect();
        // A copy, so that it does not lie in what the child does not get.
        let arena = script.arena.finish(numbered.into_iter(), u32::from(script.slots()), script.words)?;
        let mut slots = vec![-1; usize::from(script.slots())];
        for (slot, fd) in &opened {
            if let Some(place) = slots.get_mut(usize::from(slot.0)) {
                *place = fd.as_raw_fd();
            }
        }
        let mut words = vec![0_usize; usize::try_from(script.words).unwrap_or(0)];
        let (channel, theirs) = Channel::pair()?;
        let preserved = 3..3_i32.saturating_add_unsigned(setting.preserve);
        check_preserved(preserved.clone())?;
        let mut kept: Vec<i32> =
            (0..3).chain(preserved).chain(slots.iter().copied().filter(|fd| *fd >= 0)).collect();
        kept.push(theirs.as_raw_fd());
        let spare_tree = script.pivots().then(crate::exe::tree).flatten();
        kept.extend(spare_tree);
        kept.sort_unstable();
        kept.dedup();
        let into = setting.cgroup.filter(|_| script.into_cgroup).and_then(Cgroup::into_cgroup_fd);
        let mask = Mask::block_all()?;
        let report = theirs.as_raw_fd();
        let here = memory == Sharing::Instead;
        let flags = script.clone_flags;
        let clone_into = |clone: &mut Clone<'_>| {
            watch.step(Phase::Namespaces, "clone", || cloned_into(into, setting.beside, flags, clone))
        };
        let (arena, cloned) = if memory == Sharing::Copied {
            let cloned = clone_into(&mut |into| {
                let (slots, words, kept) = (&mut slots[..], &mut words[..], &kept[..]);
                let memory = Memory { slots, words, report, kept, spare_stack: None, spare_tree };
                clone_walker(flags, into, &arena, memory)
            });
            (Cow::Owned(arena), cloned)
        } else {
            let (arena, kept): (&'static [u8], &'static [i32]) = (arena.leak(), kept.leak());
            let cloned = clone_into(&mut |into| {
                let (slots, words) = (slots.clone().leak(), words.clone().leak());
                let memory = Memory { slots, words, report, kept, spare_stack: None, spare_tree };
                clone_sharing_walker(flags, into, arena, memory, here)
            });
            (Cow::Borrowed(arena), cloned)
        };
        drop(mask);
        let (pid, pidfd) = cloned?;
        drop(theirs);
        drop(opened);
        let mut session = Self {
            channel,
            identity: Identity { pid, pidfs_ino: None, start_time: None },
            pidfd,
            first: None,
            console: None,
            line: None,
            network: setting.network,
            moved: None,
            met: 0,
            listener: setting.listener,
            arena,
            script,
            program: setting.program,
            place: setting.cgroup.filter(|_| !setting.stands_still).map(Cgroup::record),
            alive: true,
        };
        session.identity = Identity::of(pid, session.pidfd.as_fd())?;
        Ok(session)
    }

    /// The child as it can be found again.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The child.
    pub(crate) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Whether a second clone will change the identity.
    pub(crate) fn has_second_clone(&self) -> bool {
        use coracle_init::program::Step;
        self.script.steps.iter().any(|s| matches!(s.what, Step::SecondClone { .. }))
    }

    /// Whether the child has its final identity and namespaces already, but for the network namespace in the making.
    pub(crate) fn is_settled(&self) -> bool {
        use coracle_init::program::Step;
        let joins = |what: &Step| matches!(what, Step::JoinNamespace { .. });
        let changes =
            |what: &Step| joins(what) || matches!(what, Step::SecondClone { .. } | Step::Unshare { .. });
        let changing = self.script.steps.iter().filter(|s| changes(&s.what)).count();
        changing == 0
            || (changing == 1 && self.network.is_some() && self.script.steps.iter().any(|s| joins(&s.what)))
    }

    /// Inode of the network namespace in the making.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn network_inode(&self) -> Result<Option<u64>> {
        let Some(network) = &self.network else { return Ok(None) };
        let stat = rustix::fs::fstat(network.file()?)
            .map_err(|e| Error::os("look at the network namespace", e).in_phase(Phase::Namespaces))?;
        Ok(Some(stat.st_ino))
    }

    /// Wordings of the steps from number `from` on.
    pub(crate) fn wordings(&self, from: u32) -> Vec<StepRecord> {
        let Ok(program) = Program::new(&self.arena) else { return Vec::new() };
        (from..program.len()).filter_map(|n| explain::wording(&self.script, &program, n)).collect()
    }

    /// Number of the step after the gate.
    pub(crate) fn after_gate(&self) -> u32 {
        use coracle_init::program::Step;
        let at = self.script.steps.iter().position(|s| matches!(s.what, Step::Gate { .. } | Step::Hold));
        at.and_then(|n| u32::try_from(n).ok()).map_or(0, |n| n.saturating_add(1))
    }

    /// Does what the child does not wait for; before it may pass the gate.
    ///
    /// # Errors
    /// The first thing that cannot be done.
    pub(crate) fn beside(&self) -> Result<()> {
        // A child that pivots takes the tree with it. Else who closes it last waits for a grace period: now, for later the child waits for
        // one itself; where the first process clones a second, that must not be the first, so it is closed here when that has said `Stage`.
        if !self.has_second_clone() {
            crate::exe::let_go();
        }
        self.answer_all(&self.script.beside, &Lent::default())
    }

    /// Listens until the child waits at the gate (or, without one, has executed its program). `settled` hears who the child is after a
    /// second clone; `root_ready` runs the runtime-side hooks with its identity and pidfd.
    ///
    /// # Errors
    /// What the child reports, what a hook reports, or that the child died. The child is gone then.
    pub(crate) fn until_waiting(
        &mut self,
        settled: &mut dyn FnMut(&Identity) -> Result<()>,
        root_ready: &mut dyn FnMut(&Identity, BorrowedFd<'_>) -> Result<()>,
    ) -> Result<()> {
        self.converse(Kind::Waiting, settled, root_ready)
    }

    /// Gives the child the network namespace that was made beside it, should there be one; what is done after that, the child does not
    /// wait for.
    ///
    /// # Errors
    /// As [`Session::until_waiting`].
    pub(crate) fn meet(&mut self) -> Result<()> {
        if self.network.is_none() || self.has_second_clone() {
            return Ok(());
        }
        self.converse(Kind::Born, &mut |_| Ok(()), &mut |_, _| Ok(()))
    }

    fn converse(
        &mut self,
        until: Kind,
        settled: &mut dyn FnMut(&Identity) -> Result<()>,
        root_ready: &mut dyn FnMut(&Identity, BorrowedFd<'_>) -> Result<()>,
    ) -> Result<()> {
        let first = Instant::now().checked_add(FIRST_WORD);
        let mut deadline = if self.script.answers.is_empty() { None } else { first };
        let mut lent = Lent::default();
        loop {
            let event = self.next(deadline)?;
            deadline = None;
            let Event::Message { message, fds } = event else { return self.ended() };
            let Some((message, fds)) = lent.take(message, fds)? else { continue };
            match message.kind {
                Kind::Born => {
                    self.go(&mut lent)?;
                    if until == Kind::Born {
                        return Ok(());
                    }
                }
                Kind::Stage => {
                    self.second(&message, fds)?;
                    settled(&self.identity)?;
                    self.line = self.identity.line();
                    crate::exe::let_go();
                }
                Kind::RootReady => {
                    self.finish_network()?;
                    root_ready(&self.identity, self.pidfd.as_fd())?;
                    self.channel.send(&Message::plain(Kind::HooksDone), &[])?;
                }
                Kind::Listener => {
                    let receiver = self.listener.take().ok_or_else(|| explain::unexpected(&message))?;
                    receiver.deliver(&self.identity, self.pidfd.as_fd(), &message, fds)?;
                }
                Kind::Console => self.console = fds.into_iter().next(),
                Kind::Waiting => {
                    self.answer_all(&self.script.late, &Lent::default())?;
                    return self.finish_network();
                }
                Kind::Failed => return Err(self.explain(&message)),
                _ => return Err(explain::unexpected(&message)),
            }
        }
    }

    /// Tells a child that waits at the gate that it will be found again. Until then our end would be its end.
    ///
    /// # Errors
    /// The child is gone.
    pub(crate) fn keep(&self) -> Result<()> {
        self.channel.send(&Message::plain(Kind::Go), &[])
    }

    /// Whether nothing is left to be done to the child before it executes its program, not even to answer it.
    pub(crate) fn may_pass(&self) -> bool {
        use coracle_init::program::Step;
        let count =
            |what: fn(&Step) -> bool| self.script.steps.iter().filter(|planned| what(&planned.what)).count();
        self.script.late.is_empty()
            && self.listener.is_none()
            && count(|step| matches!(step, Step::Hold)) == 1
            // An answer that is still to come would be taken for this one.
            && count(|step| matches!(step, Step::Born { .. })) == self.met
            && count(|step| matches!(step, Step::RootReady | Step::Terminal { .. })) == 0
    }

    /// Tells a child that has not come to `Hold` yet that it need not wait there. Answers whether it was told; a child that has died says why
    /// to whoever listens next.
    pub(crate) fn let_pass(&self) -> bool {
        self.channel.send(&Message::plain(Kind::Go), &[]).is_ok()
    }

    /// Lets a child that waits at `Hold` go on and listens until it has executed its program.
    ///
    /// # Errors
    /// What the child reports. The child is gone then.
    pub(crate) fn release(&mut self) -> Result<()> {
        self.channel.send(&Message::plain(Kind::Go), &[])?;
        self.until_executed()
    }

    /// Listens until the child has executed its program.
    ///
    /// # Errors
    /// As [`Session::release`].
    pub(crate) fn until_executed(&mut self) -> Result<()> {
        self.line = self.line.take().or_else(|| self.identity.line());
        loop {
            let Event::Message { message, .. } = self.next(None)? else { return self.ended() };
            match message.kind {
                Kind::Taken => {}
                Kind::Failed => return Err(self.explain(&message)),
                _ => return Err(explain::unexpected(&message)),
            }
        }
    }

    /// The terminal's master, when the child made one.
    pub(crate) fn take_console(&mut self) -> Option<OwnedFd> {
        self.console.take()
    }

    /// Gives the child up: it lives on, and its pidfd is the caller's.
    pub(crate) fn finish(mut self) -> Result<(Identity, OwnedFd)> {
        let pidfd = self.pidfd.try_clone().map_err(|e| Error::os("duplicate a process descriptor", e))?;
        self.alive = false;
        if let Some(moved) = self.moved.take() {
            moved.stay();
        }
        Ok((self.identity.clone(), pidfd))
    }

    /// Waits for what is made beside the child: for the time in which the child works.
    ///
    /// # Errors
    /// The network namespace's interface cannot be brought up.
    pub(crate) fn settle(&mut self) -> Result<()> {
        if self.has_second_clone() { Ok(()) } else { self.finish_network() }
    }

    fn finish_network(&mut self) -> Result<()> {
        self.network.take().map_or(Ok(()), Making::finish)
    }

    /// Everything that the child waits for, then `Go`.
    fn go(&mut self, lent: &mut Lent) -> Result<()> {
        lent.reach(&self.script, &self.arena, self.pidfd.as_fd())?;
        self.answer_planned(lent)?;
        self.moved = Moved::all(&self.script.devices, self.pidfd.as_fd())?;
        let network = self.network.as_ref().map(Making::file).transpose()?;
        for mut fds in lent.parcels()? {
            fds.extend(network.iter().map(AsFd::as_fd));
            self.channel.send(&Message::plain(Kind::Go), &fds)?;
        }
        self.met = self.met.saturating_add(1);
        Ok(())
    }

    /// The next event, without a deadline.
    pub(super) fn hear(&mut self) -> Result<Event> {
        self.next(None)
    }

    /// The next event. A child in a frozen cgroup would keep us waiting for as long as that is frozen: after a while of silence it is
    /// looked whether it is, which costs nothing where the child answers at once.
    fn next(&self, deadline: Option<Instant>) -> Result<Event> {
        loop {
            let look = Instant::now().checked_add(SILENCE);
            let first = deadline.into_iter().chain(look).min();
            match self.channel.recv(first, Some(self.pidfd.as_fd())) {
                Err(e) if e.kind() == ErrorKind::Timeout => {
                    if deadline.is_some_and(|end| Instant::now() >= end) {
                        return Err(silent(e));
                    }
                    self.can_move()?;
                }
                event => return event,
            }
        }
    }

    fn can_move(&self) -> Result<()> {
        let group = self.place.as_ref().map_or(Ok(None), CgroupRecord::open)?;
        if group.map_or(Ok(false), |group| group.stands_still())? { Err(frozen()) } else { Ok(()) }
    }

    /// The report channel is closed: the program was executed, or the child died on the way.
    fn ended(&self) -> Result<()> {
        // A process that is killed closes its files before it is a zombie.
        let executed = match &self.line {
            Some(line) => !line.never_executed(),
            None => !self.identity.never_executed(),
        };
        if !executed {
            return Err(Error::new(
                ErrorKind::Kernel,
                "start the container: its init was killed before the program ran",
            )
            .with_code("init-died")
            .in_phase(Phase::Process));
        }
        Ok(())
    }

    fn second(&mut self, message: &Message, fds: Vec<OwnedFd>) -> Result<()> {
        let pidfd = fds.into_iter().next().ok_or_else(|| explain::unexpected(message))?;
        // A short program may have ended by now, and the host's own reaper may have been there: then only the first process still knows
        // the number, in the same pid namespace as ours.
        let [a, b, c, d, ..] = message.detail;
        let told = i32::from_ne_bytes([a, b, c, d]);
        let pid = process::pid_of(pidfd.as_fd())?.unwrap_or(told);
        self.first = Some(std::mem::replace(&mut self.pidfd, pidfd));
        self.identity = Identity::of(pid, self.pidfd.as_fd())?;
        // It has nothing left to do but to end; unless its cgroup was frozen in this moment.
        while !self.reap_first(SILENCE)? {
            self.can_move()?;
        }
        Ok(())
    }

    /// Reaps the first process, so that it leaves no zombie in the host's process, when it ends within that time.
    fn reap_first(&mut self, time: Duration) -> Result<bool> {
        let Some(first) = &self.first else { return Ok(true) };
        let ended = process::wait_exit(first.as_fd(), Instant::now().checked_add(time))?;
        if ended {
            process::exit_status(first.as_fd(), Duration::ZERO)?;
            self.first = None;
        }
        Ok(ended)
    }

    /// Does what the child waits for.
    pub(super) fn answer_planned(&self, lent: &Lent) -> Result<()> {
        self.answer_all(&self.script.answers, lent)
    }

    fn answer_all(&self, answers: &[Planned<Answer>], lent: &Lent) -> Result<()> {
        for planned in answers {
            super::answer::answer(&planned.what, self.identity.pid, lent).map_err(|e| {
                let e = e.in_phase(planned.phase);
                if planned.pointer.is_empty() { e } else { e.at(planned.pointer.clone()) }
            })?;
        }
        Ok(())
    }

    pub(super) fn explain(&self, message: &Message) -> Error {
        let wording =
            Program::new(&self.arena).ok().and_then(|p| explain::wording(&self.script, &p, message.step));
        explain::failure(message, wording.as_ref(), &self.program)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.alive {
            // Ours until it is given up: killed and reaped, so that a failed start leaves nothing.
            let _ = process::send_signal(self.pidfd.as_fd(), libc::SIGKILL);
            let _ = process::wait_exit(self.pidfd.as_fd(), Instant::now().checked_add(FIRST_WORD));
            let _ = process::exit_status(self.pidfd.as_fd(), Duration::ZERO);
        }
        if let Some(first) = &self.first {
            let _ = process::send_signal(first.as_fd(), libc::SIGKILL);
            let _ = self.reap_first(FIRST_WORD);
        }
    }
}

/// Every promised descriptor must be the caller's. One that is not open may be the number of a file of ours by now, a directory of the
/// host among them; ours are all close-on-exec, and what a caller hands over is not.
fn check_preserved(numbers: std::ops::Range<i32>) -> Result<()> {
    const CLOEXEC: u32 = libc::O_CLOEXEC.unsigned_abs();
    for number in numbers {
        let path = format!("/proc/thread-self/fdinfo/{number}");
        let flags = match std::fs::read_to_string(&path) {
            Ok(text) => text
                .lines()
                .find_map(|line| line.strip_prefix("flags:"))
                .and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok())
                .ok_or_else(|| Error::new(ErrorKind::Io, "read a descriptor's flags").with_path(&path))?,
            // Not open: nothing that could have been handed over.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => CLOEXEC,
            Err(e) => return Err(Error::os("look at a preserved descriptor", e).with_path(&path)),
        };
        if flags & CLOEXEC != 0 {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("hand descriptor {number} on: the caller did not pass it"),
            )
            .with_code("descriptor-missing")
            .with_hint("preserved descriptors are counted from 3 on, and are open without close-on-exec")
            .in_phase(Phase::Process));
        }
    }
    Ok(())
}

/// A child in a frozen cgroup does nothing, not even end.
pub(crate) fn frozen() -> Error {
    Error::new(ErrorKind::WrongState, "the cgroup, or one above it, is frozen")
        .with_code("cgroup-frozen")
        .with_hint("resume what it belongs to")
        .in_phase(Phase::Cgroup)
}

fn silent(error: Error) -> Error {
    if error.kind() == ErrorKind::Timeout {
        error.with_hint("the cgroup may be frozen, or threaded").in_phase(Phase::Cgroup)
    } else {
        error
    }
}

/// One try to clone, into a cgroup by its directory.
type Clone<'c> = dyn FnMut(Option<BorrowedFd<'_>>) -> std::result::Result<(i32, OwnedFd), Errno> + 'c;

/// Clones into a cgroup, or to where a process of it is when it has cgroups below it and takes no processes itself.
fn cloned_into(
    into: Option<BorrowedFd<'_>>,
    beside: Option<(&Cgroup, i32)>,
    flags: u64,
    clone: &mut Clone<'_>,
) -> Result<(i32, OwnedFd)> {
    let cloned = match (clone(into), beside) {
        (Err(Errno::BUSY), Some((cgroup, pid))) if into.is_some() => {
            let place = cgroup.directory_of(pid)?;
            clone(place.as_ref().map(AsFd::as_fd).or(into))
        }
        (cloned, _) => cloned,
    };
    cloned.map_err(|errno| clone_failure(errno, flags))
}

fn clone_failure(errno: Errno, flags: u64) -> Error {
    // An added process joins namespaces, it makes none.
    let what = if flags == 0 { "clone the process" } else { "clone the container's init" };
    let error = Error::os(what, errno).with_code("clone").in_phase(Phase::Namespaces);
    let user = flags & 0x1000_0000 != 0;
    match errno {
        Errno::NOSYS => error.with_hint("clone3 is missing: coracle needs Linux 5.10, and no filter that hides it"),
        Errno::PERM | Errno::NOSPC
            if user && refused::user_namespaces().is_some() =>
        {
            error.with_hint(refused::user_namespaces().unwrap_or_default())
        }
        Errno::PERM if user => {
            error.with_hint("user namespaces are forbidden here: see the sysctls kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns and user.max_user_namespaces")
        }
        Errno::PERM => error.with_hint("new namespaces need root, or a new user namespace in the configuration"),
        Errno::BUSY => error.with_hint("the cgroup hands controllers down to cgroups below it, and takes no processes itself"),
        Errno::OPNOTSUPP => error.with_hint("the cgroup is a threaded one, or below one: it takes threads alone"),
        Errno::AGAIN => error.with_hint("a limit of processes leaves no room, such as pids.limit"),
        Errno::NOSPC => error.with_hint("a limit of user.max_*_namespaces is reached, or namespaces are nested too deeply"),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn only_what_a_caller_passed_is_preserved() {
        let ours = File::open("/").unwrap();
        let passed = rustix::io::dup(&ours).unwrap();
        let one = |fd: i32| check_preserved(fd..fd + 1);
        one(passed.as_raw_fd()).unwrap();
        for number in [ours.as_raw_fd(), i32::MAX - 1] {
            let error = one(number).unwrap_err();
            assert_eq!((error.kind(), error.code()), (ErrorKind::Usage, "descriptor-missing"));
        }
    }
}
