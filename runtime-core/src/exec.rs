//! A further process in a running container.
//!
//! Must not: read the bundle, or anything inside the container. Tests: `tests` package, lifecycle and hostile; `tests/embed`.

use crate::cgroup::place::Below;
use crate::cgroup::{Cgroup, CgroupRecord};
use crate::container::{Container, namespace_kind, no_cgroup, not_running};
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::launch::create::each_join;
use crate::launch::listener::Receiver;
use crate::launch::session::{Session, Setting};
use crate::launch::{diagnose, explain};
use crate::plan::exec::{self, Choices, Entry, Room};
use crate::plan::lsm;
use crate::plan::memory::limits_memory;
use crate::process::{self, ExitStatus, own_proc};
use crate::rdt::RdtRecord;
use crate::runtime::ContainerRecord;
use crate::spec;
use crate::state::{Observed, Status};
use crate::stdio::{Io, Stdio, Streams};
use crate::sys::proc::namespace_of;
use crate::validate::annotations::keeps_groups;
use crate::validate::{MemoryPlacement, NamespaceKind, ValidProcess, validate_process, violations_error};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

/// A further process that is to be started.
#[derive(Debug)]
#[must_use]
pub struct Exec<'c> {
    container: &'c Container,
    process: spec::Process,
    stdio: Stdio,
    choices: Choices,
    ignore_paused: bool,
    places: Vec<Below>,
}

/// The cgroup that it goes into.
struct Place<'c> {
    cgroup: Option<&'c Cgroup>,
    /// It was named, below the container's.
    named: bool,
}

/// A further process that was started. Dropping it neither kills nor reaps.
#[derive(Debug)]
pub struct ExecProcess {
    pidfd: OwnedFd,
    pid: i32,
    io: Io,
}

impl<'c> Exec<'c> {
    pub(crate) fn new(container: &'c Container, process: spec::Process) -> Self {
        Self {
            container,
            process,
            stdio: Stdio::Inherit,
            choices: Choices::default(),
            ignore_paused: false,
            places: Vec::new(),
        }
    }

    /// Where the standard streams come from. Default: the caller's.
    pub fn stdio(mut self, stdio: Stdio) -> Self {
        self.stdio = stdio;
        self
    }

    /// Hands the caller's descriptors `3..3+count` on. Each must be open without close-on-exec by then, or the
    /// start is refused: it could be a file of the library.
    pub fn preserve_fds(mut self, count: u32) -> Self {
        self.choices.preserve = count;
        self
    }

    /// Starts it in a paused container, where it waits until that is resumed.
    pub fn ignore_paused(mut self, ignore: bool) -> Self {
        self.ignore_paused = ignore;
        self
    }

    /// Puts it into a cgroup below the container's, which has to be there: in the hierarchies of these controllers, or in all of them
    /// when none is named. May be called once for each controller of version 1.
    pub fn cgroup<C: Into<String>>(
        mut self,
        controllers: impl IntoIterator<Item = C>,
        path: impl Into<String>,
    ) -> Self {
        let controllers = controllers.into_iter().map(Into::into).collect();
        self.places.push(Below { controllers, path: path.into() });
        self
    }

    /// Starts it. Blocks until the program was executed.
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`] when the container is not running; [`ErrorKind::InvalidSpec`] with pointers into the process document;
    /// [`ErrorKind::Exec`] when the program cannot be executed; what the kernel refuses.
    pub fn spawn(mut self) -> Result<ExecProcess> {
        let container = self.container;
        let valid = validate_process(&self.process).map_err(|violations| {
            violations_error(violations)
                .unwrap_or_else(|| Error::new(ErrorKind::InvalidSpec, "the process document is not valid"))
        })?;
        self.stdio.check(valid.terminal)?;
        self.choices.streams = self.stdio.is_three();
        self.choices.no_new_keyring = container.record().no_new_keyring;
        self.choices.own_process = container.runtime().own_process();
        if self.ignore_paused {
            // A first process that stands still would do so before it has closed what it inherits.
            self.choices.room = Room::One;
        }
        let seen = container.observe()?;
        match seen.status {
            Status::Running | Status::Created => {}
            Status::Paused if self.ignore_paused => {}
            Status::Paused => {
                return Err(Error::new(
                    ErrorKind::WrongState,
                    "cannot exec in a paused container (use --ignore-paused to override)",
                )
                .with_code("paused"));
            }
            Status::Stopped => {
                return Err(Error::new(ErrorKind::WrongState, "cannot exec in a stopped container")
                    .with_code("stopped"));
            }
            Status::Creating => return Err(not_running()),
        }
        let own = container.cgroup()?;
        let below = self.below(own)?;
        let place = Place { cgroup: below.as_ref().or(own), named: below.is_some() };
        let mut streams = std::mem::take(&mut self.stdio).open()?;
        let mut session = match self.enter(&valid, &seen, &place, &streams) {
            Err(error) if error.code() == explain::NO_ROOM && self.room_for_one_helps() => {
                self.choices.room = Room::One;
                self.enter(&valid, &seen, &place, &streams)?
            }
            entered => entered?,
        };
        streams.deliver(session.take_console())?;
        let (identity, pidfd) = session.finish()?;
        Ok(ExecProcess { pidfd, pid: identity.pid, io: streams.io })
    }

    /// Blocks until the program was executed.
    fn enter(
        &self,
        valid: &ValidProcess,
        seen: &Observed,
        place: &Place<'_>,
        streams: &Streams,
    ) -> Result<Session> {
        let container = self.container;
        let watch = container.runtime().watch();
        let init = Container::init_fd(seen)?;
        let capabilities = container.runtime().capabilities()?;
        let cgroup = place.cgroup;
        let joins = cgroup.map_or(Ok(Vec::new()), |c| c.joins())?;
        let into_cgroup = cgroup.is_some_and(|c| c.into_cgroup_fd().is_some());
        let target = self.target(init, into_cgroup, joins.len())?;
        let modules = container.runtime().security_modules(lsm::asks(valid))?;
        let plan = watch
            .step(Phase::Plan, "plan", || exec::plan(valid, &target, capabilities, modules, self.choices))?;
        let mut slots = streams.lend(plan.streams)?;
        slots.extend(each_join(&plan.joins, joins)?);
        let first = container.record().init.as_ref().map(|init| init.pid);
        // Where the container's own processes are, unless a place was named.
        let beside = first.filter(|_| !place.named);
        if let (Entry::Written(slot), Some(cgroup)) = (plan.entry, cgroup) {
            slots.extend(cgroup.entry_beside(beside)?.map(|file| (slot, file)));
        }
        let setting = Setting {
            cgroup,
            beside: cgroup.zip(beside),
            stands_still: self.ignore_paused,
            init: Some(init),
            slots,
            preserve: plan.preserve,
            own_process: container.runtime().own_process(),
            network: None,
            program: plan.program,
            listener: container
                .record()
                .listener
                .as_ref()
                .map(|listener| Receiver::new(listener, container.record(), seen.status, first)),
        };
        let mut session = Session::begin(plan.script, setting, &watch)?;
        session.beside()?;
        watch
            .step(Phase::Exec, "wait for the program", || {
                session.until_waiting(&mut |_| Ok(()), &mut |_, _| Ok(()))?;
                if plan.held { session.release() } else { Ok(()) }
            })
            .map_err(|error| {
                // With what is mounted there; a file that is not to be seen is not explained.
                let root = PathBuf::from(format!("/proc/{}/root", first.unwrap_or_default()));
                diagnose::program(error, &root, Some(&self.process))
            })?;
        Ok(session)
    }

    /// Whether there is another way in, by which one process alone counts in the cgroup.
    fn room_for_one_helps(&self) -> bool {
        let own = |kind: &str| self.container.record().namespaces.iter().any(|n| n.kind == kind);
        self.choices.room == Room::Two && own("pid") && !own("user")
    }

    fn below(&self, own: Option<&Cgroup>) -> Result<Option<Cgroup>> {
        if self.places.is_empty() {
            return Ok(None);
        }
        let below = own.ok_or_else(no_cgroup)?.below(&self.places)?;
        if !self.ignore_paused && below.stands_still()? {
            return Err(crate::launch::session::frozen());
        }
        Ok(Some(below))
    }

    /// What the record says of the container that the process goes into.
    fn target(&self, init: BorrowedFd<'_>, into_cgroup: bool, joins: usize) -> Result<exec::Container> {
        let record = self.container.record();
        let namespaces = record
            .namespaces
            .iter()
            .map(|n| {
                namespace_kind(&n.kind).ok_or_else(|| {
                    Error::new(ErrorKind::State, format!("the record names an unknown namespace {}", n.kind))
                })
            })
            .collect::<Result<Vec<NamespaceKind>>>()?;
        same_user_namespace(record, init)?;
        let (root_is_mapped, groups_denied) = match &record.init {
            Some(init) if namespaces.contains(&NamespaceKind::User) => user_namespace(init.pid)?,
            _ => (true, false),
        };
        let filter = match record.filter_flags {
            Some(flags) => {
                let program = self.container.dir().read_filter()?.ok_or_else(|| {
                    Error::new(ErrorKind::State, "the container's compiled seccomp filter is missing")
                        .with_path(self.container.dir().path())
                        .in_phase(Phase::Seccomp)
                })?;
                Some(exec::Compiled { program, flags })
            }
            None => None,
        };
        let limits = record.resources()?.is_some_and(limits_memory);
        let memory_limited = limits || record.cgroup.as_ref().is_some_and(CgroupRecord::is_of_a_unit);
        let memory =
            record.memory_policy.as_ref().map(|policy| MemoryPlacement::recorded(policy.mode, &policy.nodes));
        Ok(exec::Container {
            namespaces,
            root_is_mapped,
            groups_denied,
            keep_groups: keeps_groups(&record.annotations),
            filter,
            joins,
            into_cgroup,
            memory_limited,
            memory,
            personality: record.personality,
            class: record.rdt.as_ref().map(RdtRecord::tasks).unwrap_or_default(),
        })
    }
}

/// Whether id 0 is mapped in the user namespace of `pid`, and whether setgroups(2) is denied there. The number belongs to the container's
/// init, whose pidfd the caller holds and joins by: should it find another owner, the join fails.
pub(crate) fn user_namespace(pid: i32) -> Result<(bool, bool)> {
    let read = |file: &str| {
        let path = format!("/proc/{pid}/{file}");
        std::fs::read_to_string(&path).map_err(|e| {
            Error::os("look at the container's user namespace", e).with_path(path).in_phase(Phase::Namespaces)
        })
    };
    let maps_root = |map: String| map.lines().any(|line| line.split_whitespace().next() == Some("0"));
    let root_is_mapped = maps_root(read("uid_map")?) && maps_root(read("gid_map")?);
    Ok((root_is_mapped, read("setgroups")?.trim() == "deny"))
}

/// The initial user namespace's inode on every machine (linux/nsfs.h, since 6.17; the kernel's own before, always the same).
const USER_NS_INIT_INO: u64 = 0xEFFF_FFFD;

/// A program in the container may have gone into a user namespace of its own, and setns(2) would follow it there: refused.
pub(crate) fn same_user_namespace(record: &ContainerRecord, pidfd: BorrowedFd<'_>) -> Result<()> {
    let Some(init) = &record.init else { return Ok(()) };
    let own = record.namespaces.iter().find(|n| n.kind == "user").map(|n| n.ino);
    let fail = |e: Errno| Error::os("look at the container's user namespace", e).in_phase(Phase::Namespaces);
    let look =
        |path: String| rustix::fs::stat(&path).map(|stat| stat.st_ino).map_err(|e| fail(e).with_path(path));
    // An unprivileged creator could not look.
    if own == Some(0) {
        return Ok(());
    }
    let found = match namespace_of(pidfd, "user") {
        Ok(file) => rustix::fs::fstat(file).map_err(fail)?.st_ino,
        // Before Linux 6.11; what else keeps it from us keeps us from this.
        Err(_) => look(format!("/proc/{}/ns/user", init.pid))?,
    };
    let same = match own {
        Some(recorded) => found == recorded,
        // Nobody comes back to the initial one, and our own need not be looked at.
        None => found == USER_NS_INIT_INO || found == look(format!("{}/ns/user", own_proc()))?,
    };
    if same {
        return Ok(());
    }
    Err(Error::new(ErrorKind::WrongState, "the container's first process left its user namespace")
        .in_phase(Phase::Namespaces)
        .with_code("user-namespace-changed"))
}

impl ExecProcess {
    /// Its pid as this process's pid namespace has it.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Readable when it has ended.
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// The caller's ends of its streams.
    pub fn io(&mut self) -> &mut Io {
        &mut self.io
    }

    /// Sends it a signal; `false` when it has ended.
    ///
    /// # Errors
    /// [`ErrorKind::Kernel`] for a signal that does not exist.
    pub fn signal(&self, signal: i32) -> Result<bool> {
        process::send_signal(self.pidfd.as_fd(), signal)
    }

    /// Blocks until it ends.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn wait(&self) -> Result<ExitStatus> {
        process::wait_exit(self.pidfd.as_fd(), None)?;
        Ok(process::exit_status(self.pidfd.as_fd(), Duration::from_millis(100))?
            .unwrap_or(ExitStatus::Unknown))
    }
}
