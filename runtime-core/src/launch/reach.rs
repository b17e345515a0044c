//! Trees that init lends or asks for.
//!
//! A source that init may not reach is cloned by a process that has the parent's credentials but init's mount namespace: there, and only
//! there, a clone keeps the flags that the kernel locked for the container's user namespace.
//!
//! Must not: clone in the parent's own mount namespace. Tests: `tests` package, `hostile/locks.rs`.

use super::channel::{Event, MAX_FDS};
use super::explain;
use super::session::{Session, Setting};
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::observe::Watch;
use crate::plan::script::{Open, Script};
use crate::process::{self, ExitStatus};
use coracle_init::program::{OPEN_ASK, OPEN_LEND, Program, Slot, Step};
use coracle_init::wire::{Kind, Message};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// How long the reaper of a stolen exit status may take.
const REAPED: Duration = Duration::from_millis(100);
const NEWNS: i32 = libc::CLONE_NEWNS;

/// What init said about trees before `Born`.
#[derive(Debug, Default)]
pub(crate) struct Lent {
    /// Trees by their slot.
    trees: Vec<(Slot, OwnedFd)>,
    /// Slots that init could not fill, in its order, which is ascending.
    unreached: Vec<Slot>,
}

impl Lent {
    /// Takes a message about a tree; gives any other back.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] for a message without a slot or a tree.
    pub(crate) fn take(
        &mut self,
        message: Message,
        fds: Vec<OwnedFd>,
    ) -> Result<Option<(Message, Vec<OwnedFd>)>> {
        let slot = || u16::try_from(message.part).map(Slot).map_err(|_| broken());
        match message.kind {
            Kind::Unreached => self.unreached.push(slot()?),
            Kind::Tree => self.trees.push((slot()?, fds.into_iter().next().ok_or_else(broken)?)),
            _ => return Ok(Some((message, fds))),
        }
        Ok(None)
    }

    /// Clones what init could not reach. Blocks as long as the file systems of the sources do.
    ///
    /// # Errors
    /// What cannot be opened, with its pointer.
    pub(crate) fn reach(&mut self, script: &Script, arena: &[u8], init: BorrowedFd<'_>) -> Result<()> {
        if self.unreached.is_empty() {
            return Ok(());
        }
        let program = Program::new(arena).map_err(|_| broken())?;
        let mut errand = Script::new();
        let fd = errand.open("", Phase::Mounts, |slot| Open::InitNamespace { nstype: NEWNS, slot })?;
        errand.step("", Phase::Mounts, Step::JoinNamespace { fd, nstype: NEWNS });
        let mut order = Vec::new();
        for planned in &script.steps {
            let Step::OpenHostTree { path, flags, mode, dev, out } = planned.what else { continue };
            if !self.unreached.contains(&out) {
                continue;
            }
            let path = errand.arena.str(program.str(path).map_err(|_| broken())?)?;
            let (flags, mine) = ((flags | OPEN_LEND) & !OPEN_ASK, errand.slot()?);
            let step = Step::OpenHostTree { path, flags, mode, dev, out: mine };
            errand.step(planned.pointer.clone(), planned.phase, step);
            order.push((mine, out));
        }
        errand.step("", Phase::Mounts, Step::Quit);
        let trees = Session::begin(errand, Setting { init: Some(init), ..Setting::default() }, &Watch(None))?
            .lent()?;
        for (mine, tree) in trees {
            let asked = order.iter().find(|(slot, _)| *slot == mine).ok_or_else(broken)?.1;
            self.trees.push((asked, tree));
        }
        Ok(())
    }

    /// The tree of a slot, whoever opened it.
    pub(crate) fn tree(&self, slot: Slot) -> Option<BorrowedFd<'_>> {
        self.trees.iter().find(|(found, _)| *found == slot).map(|(_, tree)| tree.as_fd())
    }

    /// What init waits for: the trees that it asked for, each message's worth apart. Nothing is one empty message.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when one is missing.
    pub(crate) fn parcels(&self) -> Result<Vec<Vec<BorrowedFd<'_>>>> {
        let trees: Vec<_> =
            self.unreached.iter().map(|slot| self.tree(*slot).ok_or_else(broken)).collect::<Result<_>>()?;
        if trees.is_empty() {
            return Ok(vec![Vec::new()]);
        }
        Ok(trees.chunks(MAX_FDS).map(<[_]>::to_vec).collect())
    }
}

fn broken() -> Error {
    Error::new(ErrorKind::Io, "receive a mount tree from the container's init").with_code("wire-order")
}

impl Session {
    /// Listens until a child that was made for its steps alone has done them all.
    ///
    /// # Errors
    /// What the child reports, or that it was killed.
    pub(crate) fn until_done(mut self) -> Result<()> {
        match self.hear()? {
            Event::Message { message, .. } if message.kind == Kind::Failed => Err(self.explain(&message)),
            Event::Message { message, .. } => Err(explain::unexpected(&message)),
            Event::HangUp | Event::Exited => {
                process::wait_exit(self.pidfd(), None)?;
                match process::exit_status(self.pidfd(), REAPED)? {
                    Some(ExitStatus::Exited(0)) => Ok(()),
                    _ => Err(Error::new(
                        ErrorKind::Kernel,
                        "work in the container's namespaces: the process was killed",
                    )
                    .with_code("errand-died")),
                }
            }
        }
    }

    /// Listens until a child that only opens things has ended; gives them.
    ///
    /// # Errors
    /// What the child reports.
    pub(super) fn lent(mut self) -> Result<Vec<(Slot, OwnedFd)>> {
        let mut lent = Lent::default();
        loop {
            let event = self.hear()?;
            let Event::Message { message, fds } = event else { return Ok(lent.trees) };
            match lent.take(message, fds)? {
                None => {}
                Some((message, _)) if message.kind == Kind::Failed => return Err(self.explain(&message)),
                Some((message, _)) => return Err(explain::unexpected(&message)),
            }
        }
    }
}
