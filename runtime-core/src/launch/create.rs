//! Makes a container from its plan: directory, cgroup, clone, record, in an order in which a crash at any moment leaves nothing that
//! `delete --force` cannot find.
//!
//! 1. The directory with its lock, and an intent: which cgroup directories will exist.
//! 2. The cgroup, then the clone. While the child works, the record gets the made cgroup and the child's identity. Until the child
//!    waits at the gate it dies with us.
//! 3. The finished record, once the child waits. Then the child is told, and no longer dies with us. For a child without a gate both may
//!    come before it waits: until it has executed its program, its status is that of a container in the making.
//!
//! Hooks after that run without the lock: one that hangs must not keep anybody from deleting the container.
//!
//! Must not: decide what to do. Tests: `tests` package, lifecycle; crash tests kill it between any two steps.

use super::diagnose;
use super::gate::Gate;
use super::hook::run_hook;
use super::listener::Receiver;
use super::network::Making;
use super::notify;
use super::placeholder::Placeholder;
use super::session::{Session, Setting};
use crate::cgroup::{Cgroup, CgroupPath, CgroupRecord, take_back};
use crate::container::Container;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::id::ContainerId;
use crate::plan::create::{Choices, ContainerPlan};
use crate::plan::hooks::state_text;
use crate::plan::script::Answer;
use crate::process::Identity;
use crate::rdt::{self, Rdt, RdtRecord};
use crate::runtime::{ContainerRecord, Created, Runtime};
use crate::spec;
use crate::state::{
    Later, ListenerRecord, Lock, MemoryPolicyRecord, NamespaceRecord, Progress, Record, RecordedHooks,
    Status, Store,
};
use crate::stdio::Stdio;
use crate::sys::proc::namespace_of;
use crate::validate::{HookPoint, Namespace, ValidHook};
use coracle_init::program::Slot;
use rustix::fs::{Mode, OFlags, open};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Creates the container.
///
/// # Errors
/// The step that failed. Nothing of the container is left.
pub(crate) fn create(
    runtime: &Runtime,
    id: &ContainerId,
    plan: Box<ContainerPlan>,
    stdio: Stdio,
    choices: Choices,
    rootless: bool,
    network: Option<Making>,
) -> Result<Created> {
    let store = Store::open(runtime.root(), true)?;
    let mut record = intent(id, &plan, &choices, rootless)?;
    let lock = store.create(id)?;
    let mut cgroup = None;
    let at_once = plan.gate.is_none();
    match launch(runtime, &lock, plan, stdio, network, &mut record, &mut cgroup) {
        Ok((pidfd, io, notify)) => {
            let container = Container::made(runtime, (*lock).clone(), record, cgroup, pidfd);
            drop(lock);
            match if at_once { container.started() } else { Ok(()) } {
                Ok(()) => Ok(Created { container, io, notify }),
                Err(error) => Err(container.discard(error)),
            }
        }
        Err(error) => {
            let error = diagnose::program(error, &record.rootfs, record.process().ok().flatten());
            Err(undo(runtime, &record, lock, cgroup, error))
        }
    }
}

fn launch(
    runtime: &Runtime,
    lock: &Lock,
    mut plan: Box<ContainerPlan>,
    stdio: Stdio,
    network: Option<Making>,
    record: &mut ContainerRecord,
    made: &mut Option<Cgroup>,
) -> Result<(OwnedFd, crate::stdio::Io, Option<OwnedFd>)> {
    let watch = runtime.watch();
    let classes = plan.valid.spec.linux.as_ref().and_then(|linux| linux.intel_rdt.as_ref());
    let class = classes.map(|rdt| Rdt::plan(&rdt::mount_point()?, &plan.id, rdt)).transpose()?;
    record.rdt = class.as_ref().map(|class| class.record.clone());
    let network = match network {
        None => plan.network.map(|_| Making::begin()).transpose()?,
        begun => begun,
    };
    watch.step(Phase::State, "write the intent", || lock.write_record(record))?;
    let mut streams = stdio.open()?;
    if plan.notify {
        notify::make(lock.as_fd())?;
    }
    let listener = if plan.notify && plan.gate.is_none() { notify::listen(lock.as_fd())? } else { None };
    let placeholder = match &plan.cgroup.unit {
        Some(_) => Some(watch.step(Phase::Cgroup, "start the unit", || start_unit(&mut plan, &watch))?),
        None => None,
    };
    let mark = record.cgroup.as_ref().and_then(CgroupRecord::mark);
    let cgroup = watch
        .step(Phase::Cgroup, "make the cgroup", || plan.cgroup.make_unguarded(mark).map_err(Error::from))?;
    let cgroup = made.insert(cgroup);
    // A unit goes away with its last process, and what the kernel counted with it; but not what it counted above.
    let killed_above = plan.cgroup.unit.as_ref().and_then(|_| cgroup.oom_kills_above());

    let mut slots = streams.take(plan.streams);
    slots.extend(each_join(&plan.joins, cgroup.joins()?)?);
    if let Some(slot) = plan.gate {
        slots.push((slot, Gate::bind(lock.as_fd())?));
    }
    if let Some(slot) = plan.hook_output {
        let null = open("/dev/null", OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())
            .map_err(|e| {
                Error::os("open the null device", e).with_path("/dev/null").in_phase(Phase::Hooks)
            })?;
        slots.push((slot, null));
    }
    record.filter_flags = plan.filter.as_ref().map(|filter| filter.flags);
    let setting = Setting {
        cgroup: Some(cgroup),
        beside: None,
        stands_still: false,
        init: None,
        slots,
        preserve: plan.preserve,
        own_process: runtime.own_process(),
        network,
        program: plan.valid.process.args.first().cloned().unwrap_or_default(),
        listener: record.listener.as_ref().map(|it| Receiver::new(it, record, Status::Creating, None)),
    };
    let mut script = std::mem::take(&mut plan.script);
    if let (Some(class), Some(made)) = (class, &mut record.rdt) {
        watch.step(Phase::Cgroup, "make the class of cache and bandwidth", || class.make(made))?;
        script.at_gate("/linux/intelRdt", Phase::Cgroup, Answer::JoinClass { tasks: made.tasks() });
    }
    let mut session = Session::begin(script, setting, &watch)?;
    // The init is in the unit now.
    drop(placeholder);
    let wordings = session.wordings(session.after_gate());
    record.steps = if wordings.is_empty() { None } else { Some(Later::of(&wordings)?) };
    // While the child mounts: loading the device program takes as long as making the rest of the cgroup, and nothing of the container runs
    // before the record is written.
    let guarded = watch
        .step(Phase::Cgroup, "enforce the device rules", || plan.cgroup.guard(cgroup).map_err(Error::from));
    let cgroup = &*cgroup;
    guarded.map_err(|e| name_oom(e, cgroup, killed_above))?;
    // For later execs.
    plan.filter.as_ref().map_or(Ok(()), |filter| lock.write_filter(&filter.program))?;
    record.cgroup = Some(cgroup.record());
    // Should this take long, a container without a cgroup can only be found by its init. With one, the intent is enough to kill it.
    // Runtime-side hooks ask `state` for its pid.
    let asked =
        plan.valid.hooks.iter().any(|h| matches!(h.point, HookPoint::Prestart | HookPoint::CreateRuntime));
    let told = cgroup.is_none() || asked;
    if told && !session.has_second_clone() {
        record.init = Some(session.identity().clone());
        watch.step(Phase::State, "record the init", || lock.write_record(record))?;
    }
    session.beside()?;
    watch
        .step(Phase::Namespaces, "hand the network namespace over", || session.meet())
        .map_err(|e| name_oom(e, cgroup, killed_above))?;
    // What the record will say is written now, while the child mounts, where it is known already.
    let prepared = if session.is_settled() {
        record.init = Some(session.identity().clone());
        name_namespaces(record, &session)?;
        record.progress = Progress::Created;
        Some(watch.step(Phase::State, "prepare the record", || lock.prepare_record(record))?)
    } else {
        None
    };
    session.settle()?;
    // Nothing is left to be done to a child without a gate: it need not wait. Whoever reads the record sees that it has not executed yet.
    let (prepared, ahead) = match prepared {
        Some(prepared) if plan.gate.is_none() && session.may_pass() => {
            watch.step(Phase::State, "write the record", || prepared.publish())?;
            (None, session.let_pass())
        }
        other => (other, false),
    };
    watch
        .step(Phase::Process, "wait for the init", || {
            session.until_waiting(
                &mut |identity| {
                    record.init = Some(identity.clone());
                    if told { lock.write_record(record) } else { Ok(()) }
                },
                &mut |identity, init| runtime_hooks(runtime, &plan, identity, init),
            )
        })
        .map_err(|e| name_oom(e, cgroup, killed_above))?;
    let show = || match prepared {
        Some(prepared) => prepared.publish(),
        None if ahead => Ok(()),
        None => {
            record.init = Some(session.identity().clone());
            name_namespaces(record, &session)?;
            record.progress = Progress::Created;
            lock.write_record(record)
        }
    };
    watch.step(Phase::State, "write the record", show)?;
    streams.deliver(session.take_console())?;
    if plan.gate.is_none() {
        watch
            .step(Phase::Exec, "execute the program", || {
                if ahead { session.until_executed() } else { session.release() }
            })
            .map_err(|e| name_oom(e, cgroup, killed_above))?;
    } else {
        session.keep()?;
    }
    let (_, pidfd) = session.finish()?;
    Ok((pidfd, streams.io, listener))
}

/// Has systemd make the cgroup, around a process that waits.
fn start_unit(plan: &mut ContainerPlan, watch: &crate::observe::Watch<'_>) -> Result<Placeholder> {
    let placeholder = Placeholder::begin(watch)?;
    let Some(unit) = &plan.cgroup.unit else { return Ok(placeholder) };
    let description = format!("coracle container {}", plan.id);
    unit.record.start(&unit.slice, &description, placeholder.pid(), &plan.cgroup.writes, &unit.more)?;
    // Where a manager of a user has its slices, only it knows.
    let path = placeholder.cgroup()?;
    let path = CgroupPath::parse(&path).map_err(|reason| {
        Error::new(ErrorKind::State, format!("the cgroup of the unit {reason}")).with_path(path)
    });
    let path = path.inspect_err(|_| drop(unit.record.stop()))?;
    plan.cgroup.directories.iter_mut().for_each(|one| one.path = path.clone());
    Ok(placeholder)
}

fn intent(
    id: &ContainerId,
    plan: &ContainerPlan,
    choices: &Choices,
    rootless: bool,
) -> Result<ContainerRecord> {
    let mut record: ContainerRecord = Record::new(id, plan.bundle.clone(), plan.rootfs.clone());
    record.oci_version.clone_from(&plan.valid.spec.oci_version);
    record.annotations.clone_from(&plan.valid.spec.annotations);
    record.process = plan.valid.spec.process.as_ref().map(Later::of).transpose()?;
    record.hooks = RecordedHooks {
        start_container: hooks(&plan.valid.hooks, HookPoint::StartContainer),
        poststart: hooks(&plan.valid.hooks, HookPoint::Poststart),
        poststop: hooks(&plan.valid.hooks, HookPoint::Poststop),
    };
    record.namespaces = plan
        .valid
        .namespaces
        .iter()
        .map(|(kind, namespace, _)| NamespaceRecord {
            kind: crate::container::namespace_file(kind).to_owned(),
            ino: 0,
            joined: matches!(namespace, Namespace::Join(_)),
        })
        .collect();
    record.cgroup = Some(CgroupRecord::intent(&plan.cgroup)?);
    record.listener =
        plan.valid.seccomp.as_ref().and_then(|seccomp| seccomp.listener.as_ref()).map(|listener| {
            ListenerRecord { path: listener.path.clone(), metadata: listener.metadata.clone() }
        });
    record.memory_policy = plan.valid.memory_policy.as_ref().map(|policy| MemoryPolicyRecord {
        mode: policy.mode,
        nodes: policy.nodes.as_ref().map(|nodes| nodes.ranges().to_vec()).unwrap_or_default(),
    });
    record.personality = plan.valid.personality;
    let resources = plan.valid.spec.linux.as_ref().and_then(|linux| linux.resources.as_ref());
    record.resources = resources.map(Later::of).transpose()?;
    record.rootless = rootless;
    record.at_once = choices.at_once;
    record.no_pivot = choices.no_pivot;
    record.no_new_keyring = choices.no_new_keyring;
    record.terminal = plan.valid.process.terminal;
    Ok(record)
}

fn hooks(all: &[ValidHook], point: HookPoint) -> Vec<spec::Hook> {
    all.iter()
        .filter(|hook| hook.point == point)
        .map(|hook| spec::Hook {
            path: hook.path.to_string_lossy().into_owned(),
            args: hook.args.clone(),
            env: hook.env.clone(),
            timeout: hook.timeout.and_then(|t| i64::try_from(t.as_secs()).ok()),
        })
        .collect()
}

/// prestart and createRuntime: in the runtime's namespaces, after the root is assembled and before it becomes `/`. They end with `init`,
/// which whoever deletes the container by force kills first.
fn runtime_hooks(
    runtime: &Runtime,
    plan: &ContainerPlan,
    identity: &Identity,
    init: BorrowedFd<'_>,
) -> Result<()> {
    let (head, tail) = state_text(&plan.id, "creating", &plan.bundle, &plan.valid.spec.annotations)?;
    let state = format!("{head}{}{tail}", identity.pid);
    let bundle = plan.bundle.to_string_lossy();
    for point in [HookPoint::Prestart, HookPoint::CreateRuntime] {
        for (index, hook) in hooks(&plan.valid.hooks, point).iter().enumerate() {
            let pointer = format!("/hooks/{}/{index}", point.name());
            runtime.watch().step(Phase::Hooks, &pointer, || {
                run_hook(hook, &pointer, state.as_bytes(), &bundle, || runtime.hook_environment(), Some(init))
            })?;
        }
    }
    Ok(())
}

/// poststart: after the program was executed, before the caller hears of it.
///
/// # Errors
/// The first hook that fails; the rest is not run (runtime.md, "Lifecycle", 9).
pub(crate) fn poststart(runtime: &Runtime, record: &ContainerRecord, identity: &Identity) -> Result<()> {
    let hooks = &record.hooks.poststart;
    if hooks.is_empty() {
        return Ok(());
    }
    let (head, tail) = state_text(&record.id, "running", &record.bundle, &record.annotations)?;
    let state = format!("{head}{}{tail}", identity.pid);
    let bundle = record.bundle.to_string_lossy();
    for (index, hook) in hooks.iter().enumerate() {
        let pointer = format!("/hooks/poststart/{index}");
        run_hook(hook, &pointer, state.as_bytes(), &bundle, || runtime.hook_environment(), None)?;
    }
    Ok(())
}

/// poststop: after the container is gone. Every hook runs; a failure is only told (runtime.md, "Lifecycle", 13).
pub(crate) fn poststop(runtime: &Runtime, record: &ContainerRecord) -> Vec<Error> {
    if record.hooks.poststop.is_empty() {
        return Vec::new();
    }
    let (head, tail) = match state_text(&record.id, "stopped", &record.bundle, &record.annotations) {
        Ok(text) => text,
        Err(error) => return vec![error],
    };
    let state = format!("{head}0{tail}");
    let bundle = record.bundle.to_string_lossy();
    let run = |(index, hook): (usize, &spec::Hook)| {
        let pointer = format!("/hooks/poststop/{index}");
        run_hook(hook, &pointer, state.as_bytes(), &bundle, || runtime.hook_environment(), None).err()
    };
    record.hooks.poststop.iter().enumerate().filter_map(run).collect()
}

/// Takes away in reverse what exists. The first error is the one to tell; what goes wrong here is added to it.
fn undo(
    runtime: &Runtime,
    record: &ContainerRecord,
    lock: Lock,
    cgroup: Option<Cgroup>,
    error: Error,
) -> Error {
    let mut error = error;
    if let Some(cgroup) = cgroup {
        // Processes that a hook left in it die with it; those of others are never in it, for it was empty or ours.
        let killed = cgroup.kill_all();
        if let Err(e) = take_back(cgroup) {
            error = error.with_warning(format!("remove the cgroup: {e}"));
            if let Err(e) = killed {
                error = error.with_warning(format!("kill what is in the cgroup: {e}"));
            }
        }
    }
    if let Some(Err(e)) = record.rdt.as_ref().map(RdtRecord::remove) {
        error = error.with_warning(e.to_string());
    }
    if let Err(e) = lock.remove() {
        error = error.with_warning(e.to_string());
    }
    for failed in poststop(runtime, record) {
        error = error.with_warning(failed.to_string());
    }
    error
}

/// An init that the kernel killed for its memory has a known cause, which engines look for by these words. `killed_above` is what was
/// counted above before, where the cgroup itself may be gone.
fn name_oom(error: Error, cgroup: &Cgroup, killed_above: Option<u64>) -> Error {
    let was_killed = || match cgroup.oom_kills() {
        Ok(Some(kills)) => kills > 0,
        Ok(None) | Err(_) => killed_above.zip(cgroup.oom_kills_above()).is_some_and(|(old, new)| new > old),
    };
    let is_gone = killed_above.is_some() && matches!(error.errno(), Some(libc::ENOENT | libc::ENODEV));
    if (error.code() == "init-died" || is_gone) && was_killed() {
        return Error::new(ErrorKind::Kernel, "container init was OOM-killed (memory limit too low?)")
            .at("/linux/resources/memory/limit")
            .in_phase(Phase::Process)
            .with_code("init-oom-killed");
    }
    error
}

/// Enters the inodes of the child's namespaces.
fn name_namespaces(record: &mut ContainerRecord, session: &Session) -> Result<()> {
    let network = session.network_inode()?;
    for namespace in &mut record.namespaces {
        namespace.ino = match network.filter(|_| namespace.kind == "net") {
            Some(made) => made,
            None => namespace_inode(session, &namespace.kind),
        };
    }
    Ok(())
}

/// Inode of a namespace of our child; 0 when it cannot be read, which is what an unprivileged runtime gets for a non-dumpable child.
fn namespace_inode(session: &Session, file: &str) -> u64 {
    let by_pidfd = namespace_of(session.pidfd(), file).and_then(rustix::fs::fstat);
    let by_path = || rustix::fs::stat(format!("/proc/{}/ns/{file}", session.identity().pid));
    by_pidfd.or_else(|_| by_path()).map_or(0, |stat| stat.st_ino)
}

/// Each file of a version 1 hierarchy in its slot; a missing one would leave the container out of that hierarchy.
///
/// # Errors
/// [`ErrorKind::State`] when there are more or fewer than planned.
pub(crate) fn each_join(slots: &[Slot], files: Vec<OwnedFd>) -> Result<Vec<(Slot, OwnedFd)>> {
    if slots.len() != files.len() {
        return Err(Error::new(
            ErrorKind::State,
            "the container's cgroups are not those that were planned with",
        )
        .in_phase(Phase::Cgroup)
        .with_code("cgroup-changed"));
    }
    Ok(slots.iter().copied().zip(files).collect())
}
