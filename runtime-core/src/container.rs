//! A container that exists.
//!
//! A handle is a record and a directory; what is true of the container is asked of the kernel at each call. Dropping one neither kills
//! nor reaps.
//!
//! Must not: trust the record where something is signalled, frozen, killed or removed. Tests: `tests` package, lifecycle;
//! `tests/embed`.

mod delete;
mod start;

pub use delete::Delete;

use crate::cgroup::{Cgroup, Stats};
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::exec::Exec;
use crate::id::ContainerId;
use crate::launch::notify;
use crate::process::{self, ExitStatus};
use crate::runtime::{ContainerRecord, Runtime};
use crate::spec;
use crate::state::{ContainerDir, Lock, Observed, Status, missing, observe};
use crate::validate::NamespaceKind;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long another command may hold a container's lock before ours gives up.
const BUSY: Duration = Duration::from_secs(30);
/// How long a killed container may take to end: uninterruptible sleep is what keeps it.
const DYING: Duration = Duration::from_secs(10);
/// How long the reaper of a stolen exit status may take.
const REAPER: Duration = Duration::from_millis(100);

/// A container: created, running, paused or stopped.
#[derive(Debug)]
pub struct Container {
    runtime: Runtime,
    dir: ContainerDir,
    record: ContainerRecord,
    cgroup: OnceLock<Option<Cgroup>>,
    init: Option<OwnedFd>,
}

/// To whom a signal goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scope {
    /// The container's first process.
    #[default]
    Init,
    /// Every process of the container.
    All,
}

impl Container {
    /// The handle of a container that this process just made.
    pub(crate) fn made(
        runtime: &Runtime,
        dir: ContainerDir,
        record: ContainerRecord,
        cgroup: Option<Cgroup>,
        init: OwnedFd,
    ) -> Self {
        let cell = OnceLock::new();
        // A new cell: nothing can have been set before.
        let _ = cell.set(cgroup);
        Self { runtime: runtime.clone(), dir, record, cgroup: cell, init: Some(init) }
    }

    /// Opens an existing one. Without a record it is at its very beginning or its very end while somebody works on it, and does not
    /// exist; when nobody does, its creator was killed.
    pub(crate) fn open(runtime: &Runtime, dir: ContainerDir) -> Result<Self> {
        if let Some(record) = dir.read_record()? {
            return Ok(Self::from_record(runtime, dir, record));
        }
        if dir.is_locked()? {
            return Err(missing());
        }
        // Whoever worked on it may have finished between the two looks.
        Self::read(runtime, dir)
    }

    /// What the directory says now.
    pub(crate) fn read(runtime: &Runtime, dir: ContainerDir) -> Result<Self> {
        let Some(record) = dir.read_record()? else {
            if dir.is_removed()? {
                return Err(missing());
            }
            return Err(Error::new(
                ErrorKind::State,
                "container has no record: its creation was never finished",
            )
            .with_path(dir.path())
            .with_code("record-missing")
            .with_hint("delete it by force")
            .in_phase(Phase::State));
        };
        Ok(Self::from_record(runtime, dir, record))
    }

    fn from_record(runtime: &Runtime, dir: ContainerDir, record: ContainerRecord) -> Self {
        Self { runtime: runtime.clone(), dir, record, cgroup: OnceLock::new(), init: None }
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> &ContainerId {
        self.dir.id()
    }

    /// Absolute path of its bundle.
    #[must_use]
    pub fn bundle(&self) -> &Path {
        &self.record.bundle
    }

    /// Absolute path of its root filesystem on the host.
    #[must_use]
    pub fn rootfs(&self) -> &Path {
        &self.record.rootfs
    }

    /// When it was created: RFC 3339 with nanoseconds, in UTC.
    #[must_use]
    pub fn created(&self) -> &str {
        &self.record.created
    }

    /// User id of its creator.
    #[must_use]
    pub fn owner(&self) -> u32 {
        self.record.owner
    }

    /// Annotations of its configuration.
    #[must_use]
    pub fn annotations(&self) -> &BTreeMap<String, String> {
        &self.record.annotations
    }

    /// The process of its configuration: the defaults of an exec.
    ///
    /// # Errors
    /// [`ErrorKind::State`] when what was written down of it is none.
    pub fn process(&self) -> Result<Option<&spec::Process>> {
        self.record.process()
    }

    /// Where it is in its life, asked of the kernel.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn status(&self) -> Result<Status> {
        self.observe().map(|seen| seen.status)
    }

    /// The pid of its first process as this process's pid namespace has it; `None` when it has stopped.
    ///
    /// # Errors
    /// As [`Container::status`].
    pub fn pid(&self) -> Result<Option<i32>> {
        let seen = self.observe()?;
        let alive = seen.init.is_some() && seen.status != Status::Stopped;
        Ok(self.record.init.as_ref().filter(|_| alive).map(|init| init.pid))
    }

    /// The pid that its first process has, or had before it ended: the number may be another process's by now. For those who were
    /// promised a pid, as in a pid file, also of a program that ends at once.
    #[must_use]
    pub fn init_pid(&self) -> Option<i32> {
        self.record.init.as_ref().map(|init| init.pid)
    }

    /// The state document (runtime.md, "State").
    ///
    /// # Errors
    /// As [`Container::status`].
    pub fn state(&self) -> Result<spec::State> {
        let seen = self.observe()?;
        let mut state = spec::State::default();
        spec::OCI_VERSION.clone_into(&mut state.oci_version);
        self.id().as_str().clone_into(&mut state.id);
        seen.status.as_str().clone_into(&mut state.status);
        state.bundle = self.record.bundle.to_string_lossy().into_owned();
        let alive = seen.status != Status::Stopped;
        state.pid = Some(self.record.init.as_ref().filter(|_| alive).map_or(0, |init| init.pid));
        state.annotations.clone_from(&self.record.annotations);
        Ok(state)
    }

    /// A descriptor that becomes readable when the first process ends. Opened anew; `None` when it has ended and is reaped.
    ///
    /// # Errors
    /// When the process cannot be opened.
    pub fn pidfd(&self) -> Result<Option<OwnedFd>> {
        match &self.init {
            Some(fd) => fd.try_clone().map(Some).map_err(|e| Error::os("duplicate a process descriptor", e)),
            None => self.record.init.as_ref().map_or(Ok(None), process::Identity::open),
        }
    }

    /// Binds what receives the notifications (sd_notify(3)) of a container that waits to be started; reading from it does not block.
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`] when it was made without [`crate::Create::notify_socket`]; the kernel's.
    pub fn notify_socket(&self) -> Result<OwnedFd> {
        let _lock = self.lock()?;
        notify::listen(self.dir.as_fd())?.ok_or_else(|| {
            Error::new(ErrorKind::WrongState, "the container was created without a notification socket")
                .with_code("notify-socket")
                .with_hint("NOTIFY_SOCKET has to be set for create, too")
        })
    }

    /// A further process in the container.
    pub fn exec(&self, process: spec::Process) -> Exec<'_> {
        Exec::new(self, process)
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`] when it is not running; [`ErrorKind::Kernel`] for a signal that does not exist.
    pub fn signal(&self, signal: i32, scope: Scope) -> Result<()> {
        let seen = self.observe()?;
        let own_pids = self.record.namespaces.iter().any(|n| n.kind == "pid" && !n.joined);
        if scope == Scope::All {
            return self.signal_all(signal, &seen);
        }
        let Some(init) = seen.init.filter(|_| seen.status != Status::Stopped) else {
            // Whom the first one left behind can still be ended.
            return match self.cgroup()? {
                Some(cgroup) if signal == libc::SIGKILL && !own_pids && !cgroup.procs()?.is_empty() => {
                    cgroup.kill_all().map_err(Error::from)
                }
                _ => Err(not_running()),
            };
        };
        // Without a pid namespace of its own the kernel does not end the others with init.
        if signal == libc::SIGKILL && !own_pids {
            return self.signal_all(signal, &Observed { status: seen.status, init: Some(init), gate: None });
        }
        if !process::send_signal(init.as_fd(), signal)? {
            return Err(not_running());
        }
        if signal == libc::SIGKILL && seen.status == Status::Paused {
            // A frozen version 1 cgroup keeps even the killed.
            self.thaw()?;
        }
        Ok(())
    }

    fn signal_all(&self, signal: i32, seen: &Observed) -> Result<()> {
        let Some(cgroup) = self.cgroup()? else {
            return match &seen.init {
                Some(init) => process::send_signal(init.as_fd(), signal).map(|_| ()),
                None => Ok(()),
            };
        };
        if signal == libc::SIGKILL {
            return cgroup.kill_all().map_err(Error::from);
        }
        for pid in cgroup.procs()?.into_iter().filter(|pid| *pid > 0) {
            let Some(pidfd) = process::open_pid(pid)? else { continue };
            // Looked at again after opening: the number may have found another owner.
            if cgroup.procs()?.contains(&pid) {
                process::send_signal(pidfd.as_fd(), signal)?;
            }
        }
        Ok(())
    }

    /// Freezes every process.
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`] unless it is created or running; when there is no freezer or it does not finish in time.
    pub fn pause(&self) -> Result<()> {
        let _lock = self.lock()?;
        match self.observe()?.status {
            Status::Running | Status::Created => {}
            _ => return Err(not_running()),
        }
        let cgroup = self.cgroup()?.ok_or_else(no_cgroup)?;
        cgroup.freeze()?.keep();
        Ok(())
    }

    /// Lets a paused container run on.
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`] unless it is paused.
    pub fn resume(&self) -> Result<()> {
        let _lock = self.lock()?;
        if self.observe()?.status != Status::Paused {
            return Err(Error::new(ErrorKind::WrongState, "container not paused").with_code("not-paused"));
        }
        self.thaw()
    }

    /// Pids of all its processes, as this process's pid namespace has them.
    ///
    /// # Errors
    /// When the cgroup cannot be read.
    pub fn processes(&self) -> Result<Vec<i32>> {
        match self.cgroup()? {
            Some(cgroup) => Ok(cgroup.procs()?.into_iter().filter(|pid| *pid > 0).collect()),
            None => Ok(self.pid()?.into_iter().collect()),
        }
    }

    /// What its cgroup counts.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] when it has no cgroup; when a file cannot be read.
    pub fn stats(&self) -> Result<Stats> {
        self.cgroup()?.ok_or_else(no_cgroup)?.stats().map_err(Error::from)
    }

    /// Blocks until the first process ends.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn wait(&self) -> Result<ExitStatus> {
        let Some(pidfd) = self.pidfd()? else { return Ok(ExitStatus::Unknown) };
        process::wait_exit(pidfd.as_fd(), None)?;
        Ok(process::exit_status(pidfd.as_fd(), REAPER)?.unwrap_or(ExitStatus::Unknown))
    }

    /// How the first process ended; `None` while it lives.
    ///
    /// # Errors
    /// As [`Container::wait`].
    pub fn try_wait(&self) -> Result<Option<ExitStatus>> {
        let Some(pidfd) = self.pidfd()? else { return Ok(Some(ExitStatus::Unknown)) };
        if !process::has_exited(pidfd.as_fd())? {
            return Ok(None);
        }
        Ok(Some(process::exit_status(pidfd.as_fd(), REAPER)?.unwrap_or(ExitStatus::Unknown)))
    }

    /// Reaps an init that has ended, when it is a child of this process. One that never executed a program has no exit signal, and the
    /// host's own reaper does not find it.
    fn reap(&self) {
        if let Ok(Some(pidfd)) = self.pidfd() {
            // Nothing is lost when it cannot be reaped now: it is found as ended all the same.
            let _ = process::exit_status(pidfd.as_fd(), Duration::ZERO);
        }
    }

    fn thaw(&self) -> Result<()> {
        self.cgroup()?.map_or(Ok(()), |cgroup| cgroup.thaw().map_err(Error::from))
    }

    /// Its cgroup, when it is still the recorded one.
    pub(crate) fn cgroup(&self) -> Result<Option<&Cgroup>> {
        if let Some(known) = self.cgroup.get() {
            return Ok(known.as_ref().filter(|c| !c.is_none()));
        }
        let opened = match &self.record.cgroup {
            Some(record) => record.open()?,
            None => None,
        };
        Ok(self.cgroup.get_or_init(|| opened).as_ref().filter(|c| !c.is_none()))
    }

    pub(crate) fn observe(&self) -> Result<Observed> {
        observe(&self.dir, Some(&self.record), |_| self.is_frozen())
    }

    fn is_frozen(&self) -> Result<bool> {
        self.cgroup()?.map_or(Ok(false), |cgroup| cgroup.is_frozen().map_err(Error::from))
    }

    pub(crate) fn record(&self) -> &ContainerRecord {
        &self.record
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    pub(crate) fn dir(&self) -> &ContainerDir {
        &self.dir
    }

    pub(crate) fn lock(&self) -> Result<Lock> {
        lock(&self.dir)
    }

    fn gone(&self) -> Error {
        Error::new(ErrorKind::State, "the record names no process").with_path(self.dir.path())
    }

    /// The host's view of the first process, for what is still to be done in this process.
    pub(crate) fn init_fd(seen: &Observed) -> Result<BorrowedFd<'_>> {
        seen.init.as_ref().map(AsFd::as_fd).ok_or_else(not_running)
    }
}

fn lock(dir: &ContainerDir) -> Result<Lock> {
    dir.lock(Instant::now().checked_add(BUSY).unwrap_or_else(Instant::now))
}

pub(crate) fn not_running() -> Error {
    Error::new(ErrorKind::WrongState, "container not running").with_code("not-running")
}

pub(crate) fn no_cgroup() -> Error {
    Error::new(ErrorKind::Unsupported, "the container has no cgroup of its own")
        .in_phase(Phase::Cgroup)
        .with_code("cgroup-none")
}

/// The file of a namespace below `/proc/PID/ns`.
pub(crate) fn namespace_file(kind: NamespaceKind) -> &'static str {
    match kind {
        NamespaceKind::Mount => "mnt",
        NamespaceKind::Network => "net",
        other => other.name(),
    }
}

/// The kind of namespace that a file of `/proc/PID/ns` belongs to.
pub(crate) fn namespace_kind(file: &str) -> Option<NamespaceKind> {
    NamespaceKind::ALL.into_iter().map(|(_, kind)| kind).find(|kind| namespace_file(*kind) == file)
}
