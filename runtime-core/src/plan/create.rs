//! The plan of a container: every other file of this directory, in the order of time.
//!
//! Must not: touch the machine. Tests: golden plans (`tests/plans`).
//!
//! Longer than a file should be: the order of the steps is the point, and is read from top to bottom.

use super::hooks::{self, StateText};
use super::lsm::{self, Labels};
use super::namespaces;
use super::process::{self, Filter, Gate};
use super::script::{Maps, NetDevice, Planned, Script, Sharing};
use super::{cgroup as cgroups, devices, memory, mounts, seccomp, sources};
use crate::cgroup::CgroupPlan;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::host::{Facts, SecurityModules};
use crate::validate::{Clock, HookPoint, NamespaceKind, ValidSpec};
use coracle_init::program::{Slot, Step};
use std::path::{Path, PathBuf};

/// What the caller decides besides the configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choices {
    pub(crate) no_pivot: bool,
    pub(crate) no_new_keyring: bool,
    /// Descriptors `3..3+n` are handed on.
    pub(crate) preserve: u32,
    /// Start at once: no gate that another process could open.
    pub(crate) at_once: bool,
    /// Standard streams come in three slots instead of being inherited.
    pub(crate) streams: bool,
    /// No cgroup at all.
    pub(crate) no_cgroup: bool,
    /// Socket of the bus whose systemd makes the cgroup.
    pub(crate) systemd: Option<PathBuf>,
    /// The container gets a directory for a socket of sd_notify(3).
    pub(crate) notify: bool,
    /// The process is the runtime's own: the network namespace may be made in a thread of it.
    pub(crate) own_process: bool,
}

/// Everything to create one container.
#[derive(Clone, Debug)]
pub(crate) struct ContainerPlan {
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) rootfs: PathBuf,
    pub(crate) script: Script,
    pub(crate) cgroup: CgroupPlan,
    /// Slots for the version 1 files that init writes itself to.
    pub(crate) joins: Vec<Slot>,
    /// Slot of the gate's socket; none: started at once.
    pub(crate) gate: Option<Slot>,
    /// Slots for standard streams.
    pub(crate) streams: Option<[Slot; 3]>,
    /// Slot for the output of hooks inside.
    pub(crate) hook_output: Option<Slot>,
    /// Slot of a network namespace that the parent makes while the child works.
    pub(crate) network: Option<Slot>,
    /// Kept for later execs.
    pub(crate) filter: Option<Filter>,
    pub(crate) preserve: u32,
    /// Whether a directory for a socket of sd_notify(3) has to be there before the clone.
    pub(crate) notify: bool,
    pub(crate) valid: ValidSpec,
}

/// Plans a container.
///
/// # Errors
/// What is asked for and cannot be had on the machine of `facts`, with its pointer.
pub(crate) fn plan(
    id: &str,
    bundle: &Path,
    valid: ValidSpec,
    facts: &Facts,
    choices: &Choices,
) -> Result<ContainerPlan> {
    let rootfs = bundle.join(&valid.root);
    let user_namespace = valid.namespaces.contains(NamespaceKind::User);
    if facts.rootless() && !user_namespace {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "an ordinary user can only make containers with a user namespace",
        )
        .at("/linux/namespaces")
        .in_phase(Phase::Plan)
        .with_code("rootless-needs-user-namespace")
        .with_hint("make the bundle with `spec --rootless`, or run as root"));
    }
    if facts.rootless() && valid.spec.linux.as_ref().is_some_and(|l| !l.net_devices.is_empty()) {
        let text = "move network devices: only who administers the machine may do that";
        return Err(Error::new(ErrorKind::Unsupported, text)
            .at("/linux/netDevices")
            .in_phase(Phase::Plan)
            .with_code("network-device"));
    }
    let wanted_devices = plan_devices(&valid, facts, user_namespace);
    let cgroup = cgroups::plan(id, &valid, facts, &wanted_devices, choices)?;
    let filter = match (&valid.seccomp, valid.spec.linux.as_ref().and_then(|l| l.seccomp.as_ref())) {
        (Some(_), Some(filter)) => {
            let ahead = seccomp::Ahead {
                no_new_privs: valid.process.no_new_privileges,
                hooks: valid.hooks.iter().any(|h| h.point == HookPoint::StartContainer),
                wait: seccomp::Wait::Gate,
                takes: seccomp::takes(facts.capabilities),
            };
            Some(seccomp::plan(filter, ahead, valid.effects.fail_unknown)?)
        }
        _ => None,
    };

    let mut script = Script::new();
    let joins =
        (0..cgroup.directories.iter().filter(|d| d.version == crate::cgroup::layout::Version::V1).count())
            .map(|_| script.slot())
            .collect::<Result<Vec<_>>>()?;
    let mut around = namespace_surroundings(&valid, facts, &cgroup, joins.clone(), choices);
    let mount_label = valid.mount_label.as_deref();
    let modules = match lsm::asks(&valid.process) || mount_label.is_some() {
        true => facts.security_modules()?,
        false => SecurityModules::default(),
    };
    let labels = Labels::of(&valid.process, "/process", modules, &mut script)?;
    let mount_label = lsm::mount_label(mount_label, modules)?;
    let mount_label = mount_label.map(|label| format!("{}={label}", valid.effects.context));
    let mount_label = mount_label.as_deref();
    let wanted = process::Wanted {
        labels,
        process: &valid.process,
        pointer: "/process",
        capabilities: grantable(
            valid.process.capabilities.unwrap_or_default(),
            facts.capabilities,
            user_namespace,
        ),
        filter: filter.clone(),
        user_namespace,
        groups_denied: around.deny_setgroups,
        keep_groups: valid.effects.keep_groups,
        // execCPUAffinity is for further processes.
        cpus: process::Cpus::All,
        memory: valid.memory_policy.as_ref(),
        personality: valid.personality,
        nice_from_outside: process::nice_from_outside(user_namespace, facts.capabilities),
        joins_class: valid.spec.linux.as_ref().is_some_and(|l| l.intel_rdt.is_some()),
        answers_from_outside: user_namespace
            || valid.namespaces.joined(NamespaceKind::Pid).is_some()
            || !around.devices.is_empty()
            || valid.namespaces.contains(NamespaceKind::Time),
    };
    process::plan_answers(&mut script, &wanted, !facts.rootless());
    let points = HookPoints::of(&valid);
    // A second wait for the parent would need a second kind of answer; whoever waits already has a user namespace or a second clone.
    if choices.own_process && !wanted.answers_from_outside && valid.namespaces.is_new(NamespaceKind::Network)
    {
        around.network_apart = Some(script.slot()?);
    }
    let mut network = around.network_apart;
    let mount_around = mounts::Surroundings {
        bundle,
        rootfs: &rootfs,
        readonly: valid.readonly,
        propagation: valid.rootfs_propagation,
        inside: user_namespace,
        rootless: facts.rootless(),
        cgroup_namespace: valid.namespaces.contains(NamespaceKind::Cgroup),
        classic_root: points.runtime_side || points.create_container || choices.no_pivot,
        kernel: facts.kernel,
        label: mount_label,
        cgroups: &facts.cgroup,
        cgroup: &cgroup,
        devices: &wanted_devices,
    };
    let masks = valid.spec.linux.as_ref().is_some_and(|l| !l.masked_paths.is_empty());
    let mut sources = None;
    namespaces::plan(&mut script, &valid.namespaces, &around, &wanted.labels, &mut |script| {
        let opened = sources::plan(script, &valid.mounts, &mount_around, masks)?;
        Ok(sources.insert(opened).asked)
    })?;
    let Some(mut sources) = sources else {
        return Err(Error::new(ErrorKind::Unsupported, "plan the mounts: nothing was opened"));
    };

    let hook_output =
        if points.create_container || points.start_container { Some(script.slot()?) } else { None };
    let covers = sources.null.map(|null| make_covers(&mut script, null, mount_label)).transpose()?;
    let mut enter = |script: &mut Script| {
        if let Some(slot) = network.take() {
            namespaces::meet_network(script, &valid.namespaces, slot);
        }
    };
    let mounted = mounts::plan(&mut script, &valid.mounts, &mut sources, &mount_around, &mut enter)?;
    let terminal = plan_terminal(&mut script, &valid, &mounted)?;
    if let Some(fd) = mounted.devpts {
        script.step("", Phase::Terminal, Step::Close { fd });
    }
    // Hooks, and everything after them, see the container's network.
    enter(&mut script);
    if points.runtime_side {
        script.step("/hooks", Phase::Hooks, Step::RootReady);
    }
    let state = StateText { id, bundle, valid: &valid };
    hooks::plan_inside(
        &mut script,
        &state,
        HookPoint::CreateContainer,
        hook_output,
        &rootfs.to_string_lossy(),
    )?;
    // While the root can be written, and behind the mounts: images do not hold what their configuration names.
    if valid.process.cwd != "/" {
        let path = script.str(&valid.process.cwd)?;
        script.step("/process/cwd", Phase::Rootfs, Step::MakeWorkingDir { path });
    }
    mounts::plan_readonly(&mut script, &valid.mounts, &mount_around)?;
    let change = if choices.no_pivot { Step::MoveRoot } else { Step::PivotRoot };
    script.step("", Phase::Rootfs, change);
    plan_inside(&mut script, &valid, &covers, around.network_apart.is_some())?;
    // Behind the read-only paths: nothing can be cloned from an unbindable root.
    if let Some(propagation) = valid.rootfs_propagation {
        let flags = mounts::propagation_flag(propagation.kind);
        let recursive = propagation.recursive;
        script.step("/linux/rootfsPropagation", Phase::Rootfs, Step::RootPropagation { flags, recursive });
    }
    let streams = plan_streams(&mut script, terminal, choices)?;
    if valid.process.user.uid.get() != 0 || user_namespace {
        let (uid, gid) = (valid.process.user.uid.get(), valid.process.user.gid.get());
        script.step("/process/user", Phase::Process, Step::OwnStdio { uid, gid });
    }
    let gate = if choices.at_once { None } else { Some(script.slot()?) };
    let kind = gate.map_or(Gate::Hold, Gate::Socket);
    process::plan(
        &mut script,
        &wanted,
        kind,
        &mut |script| hooks::plan_inside(script, &state, HookPoint::StartContainer, hook_output, "/"),
        choices.preserve,
    )?;
    if choices.at_once && memory::may_be_shared(&valid, &script, cgroup.unit.is_some()) {
        script.memory = Sharing::Beside;
    }
    Ok(ContainerPlan {
        id: id.to_owned(),
        bundle: bundle.to_path_buf(),
        rootfs,
        script,
        cgroup,
        joins,
        gate,
        streams,
        hook_output,
        network: around.network_apart,
        filter,
        preserve: choices.preserve,
        notify: choices.notify,
        valid,
    })
}

struct HookPoints {
    runtime_side: bool,
    create_container: bool,
    start_container: bool,
}

impl HookPoints {
    fn of(valid: &ValidSpec) -> Self {
        let any = |points: &[HookPoint]| valid.hooks.iter().any(|h| points.contains(&h.point));
        Self {
            runtime_side: any(&[HookPoint::Prestart, HookPoint::CreateRuntime]),
            create_container: any(&[HookPoint::CreateContainer]),
            start_container: any(&[HookPoint::StartContainer]),
        }
    }
}

/// Granting less than asked is what the specification wants for capabilities that cannot be granted.
pub(crate) fn grantable(
    sets: crate::validate::CapabilitySets,
    capabilities: u64,
    user_namespace: bool,
) -> crate::validate::CapabilitySets {
    let have = if user_namespace { u64::MAX } else { capabilities };
    let mut sets = sets;
    for set in [
        &mut sets.bounding,
        &mut sets.effective,
        &mut sets.inheritable,
        &mut sets.permitted,
        &mut sets.ambient,
    ] {
        *set &= have;
    }
    sets
}

fn plan_devices(valid: &ValidSpec, facts: &Facts, user_namespace: bool) -> devices::Wanted {
    let mut nodes: Vec<devices::Node> = valid
        .devices
        .iter()
        .map(|device| devices::Node {
            pointer: format!("/linux/devices/{}", device.index),
            path: device.path.clone(),
            kind: device.kind,
            major: device.major,
            minor: device.minor,
            mode: device.mode.unwrap_or(0o666),
            uid: device.uid.unwrap_or_default().get(),
            gid: device.gid.unwrap_or_default().get(),
        })
        .collect();
    let defaults: Vec<_> =
        devices::defaults().filter(|default| !nodes.iter().any(|node| node.path == default.path)).collect();
    nodes.splice(0..0, defaults);
    let at = |path: &str| valid.mounts.iter().find(|m| m.destination == path);
    let dev = match at("/dev") {
        Some(mount) if mount.options.is_bind() => devices::DevMount::Bind,
        Some(mount) if mount.kind == "tmpfs" && !mount.options.remount => devices::DevMount::Tmpfs,
        _ => devices::DevMount::Plain,
    };
    let mut mount_points: Vec<String> = Vec::new();
    let below = valid.mounts.iter().filter(|m| !m.options.is_bind() && !m.options.remount);
    for name in below.filter_map(|m| m.destination.strip_prefix("/dev/")).filter(|name| !name.contains('/')) {
        if !mount_points.iter().any(|known| known == name) && !nodes.iter().any(|n| n.path.ends_with(name)) {
            mount_points.push(name.to_owned());
        }
    }
    devices::Wanted {
        nodes,
        dev,
        mount_points,
        proc_mounted: at("/proc").is_some(),
        pts_mounted: at("/dev/pts").is_some(),
        bind_nodes: user_namespace || !facts.initial_user_namespace,
    }
}

fn namespace_surroundings(
    valid: &ValidSpec,
    facts: &Facts,
    cgroup: &CgroupPlan,
    joins: Vec<Slot>,
    choices: &Choices,
) -> namespaces::Surroundings {
    let linux = valid.spec.linux.as_ref();
    let new_user = valid.namespaces.is_new(NamespaceKind::User);
    let (uids, gids) = linux.map_or((&[][..], &[][..]), |l| (&l.uid_mappings[..], &l.gid_mappings[..]));
    // The kernel lets an unprivileged process write only its own id, and gid_map only once setgroups is denied; longer maps go through
    // newgidmap, which is privileged.
    let deny_setgroups =
        new_user && facts.rootless() && gids.iter().map(|m| u64::from(m.size)).sum::<u64>() == 1;
    let has_v2 = cgroup.directories.iter().any(|d| d.version == crate::cgroup::layout::Version::V2);
    namespaces::Surroundings {
        rootless: facts.rootless(),
        kernel: facts.kernel,
        maps: new_user.then(|| Maps::new(uids, gids)),
        deny_setgroups,
        keep_groups: valid.effects.keep_groups,
        user: (valid.process.user.uid.get(), valid.process.user.gid.get()),
        devices: net_devices(valid),
        time_offsets: (!valid.time_offsets.is_empty()).then(|| {
            let line = |o: &crate::validate::ClockOffset| {
                let clock = match o.clock {
                    Clock::Monotonic => "monotonic",
                    Clock::Boottime => "boottime",
                };
                format!("{clock} {} {}\n", o.secs, o.nanosecs)
            };
            valid.time_offsets.iter().map(line).collect()
        }),
        network_apart: None,
        into_cgroup: has_v2,
        v2_alone: has_v2 && joins.is_empty(),
        cgroup_joins: joins,
        keep_keyring: choices.no_new_keyring,
    }
}

fn net_devices(valid: &ValidSpec) -> Vec<Planned<NetDevice>> {
    let Some(linux) = &valid.spec.linux else { return Vec::new() };
    let joined = valid.namespaces.joined(NamespaceKind::Network).map(Path::to_path_buf);
    let plan = |(name, device): (&String, &crate::spec::NetDevice)| {
        let mut pointer = String::from("/linux/netDevices");
        crate::spec::push_token(&mut pointer, name);
        let inside = device.name.clone().filter(|new| !new.is_empty()).unwrap_or_else(|| name.clone());
        let what = NetDevice { name: name.clone(), inside, joined: joined.clone() };
        Planned { pointer: pointer.into(), phase: Phase::Namespaces, what }
    };
    linux.net_devices.iter().map(plan).collect()
}

/// What masks are made of: clones of the host's null device and of one empty directory.
struct Covers {
    null: Slot,
    empty: Slot,
}

fn make_covers(script: &mut Script, null: Slot, label: Option<&str>) -> Result<Covers> {
    let pointer = "/linux/maskedPaths";
    devices::detach_from_host(script, pointer, Phase::Rootfs, null);
    let empty = script.slot()?;
    let fstype = script.str("tmpfs")?;
    // An Ubuntu 20.04 kernel refuses a tmpfs of one inode.
    let context = lsm::mount_option(label, "tmpfs", &[]);
    let options = script.arena.list(["nr_inodes=2", "mode=755"].into_iter().chain(context.as_deref()))?;
    script.step(
        pointer,
        Phase::Rootfs,
        Step::NewFs { fstype, source: fstype, options, attrs: mounts::ATTRS_EMPTY, out: empty },
    );
    Ok(Covers { null, empty })
}

fn plan_terminal(script: &mut Script, valid: &ValidSpec, mounted: &mounts::Mounted) -> Result<Option<Slot>> {
    if !valid.process.terminal {
        return Ok(None);
    }
    let devpts = mounted.devpts.ok_or_else(|| {
        Error::new(ErrorKind::InvalidSpec, "a terminal needs a devpts mounted on /dev/pts")
            .at("/process/terminal")
            .in_phase(Phase::Terminal)
            .with_code("terminal-without-devpts")
    })?;
    let out = script.slot()?;
    let (rows, cols) = valid.process.console_size.unwrap_or((0, 0));
    script.step(
        "/process/terminal",
        Phase::Terminal,
        Step::Terminal {
            devpts,
            rows_cols: (u64::from(rows) << 32) | u64::from(cols),
            owner: terminal_owner(valid.process.user.uid.get()),
            bind_console: true,
            out,
        },
    );
    Ok(Some(out))
}

/// The user owns the terminal; the group stays what devpts gives it (`gid=5`).
pub(crate) fn terminal_owner(uid: u32) -> u64 {
    (u64::from(uid) << 32) | u64::from(u32::MAX)
}

fn plan_streams(script: &mut Script, terminal: Option<Slot>, choices: &Choices) -> Result<Option<[Slot; 3]>> {
    if let Some(fd) = terminal {
        script.step("/process/terminal", Phase::Terminal, Step::ControllingTerminal { fd });
        script.step("", Phase::Terminal, Step::Close { fd });
        return Ok(None);
    }
    if !choices.streams {
        return Ok(None);
    }
    let slots = [script.slot()?, script.slot()?, script.slot()?];
    for (fd, target) in slots.into_iter().zip(0..) {
        script.step("", Phase::Process, Step::InstallDescriptor { fd, target });
    }
    Ok(Some(slots))
}

/// What is done from inside the new root: names, network, sysctls, covered paths.
fn plan_inside(
    script: &mut Script,
    valid: &ValidSpec,
    covers: &Option<Covers>,
    loopback_is_up: bool,
) -> Result<()> {
    if let Some(name) = &valid.hostname {
        let name = script.str(name)?;
        script.step("/hostname", Phase::Namespaces, Step::Hostname { name });
    }
    if let Some(name) = &valid.domainname {
        let name = script.str(name)?;
        script.step("/domainname", Phase::Namespaces, Step::Domainname { name });
    }
    if valid.namespaces.is_new(NamespaceKind::Network) && !loopback_is_up {
        script.step("/linux/namespaces", Phase::Namespaces, Step::LoopbackUp);
    }
    if !valid.sysctl.is_empty() {
        let proc = script.slot()?;
        script.step("/linux/sysctl", Phase::Process, Step::SysctlProc { out: proc });
        for sysctl in &valid.sysctl {
            let path = script.str(&sysctl.components.join("/"))?;
            let value = script.str(&sysctl.value)?;
            let mut pointer = String::from("/linux/sysctl");
            crate::spec::push_token(&mut pointer, &sysctl.key);
            script.step(pointer, Phase::Process, Step::Sysctl { proc, path, value });
        }
        script.step("", Phase::Process, Step::Close { fd: proc });
    }
    let Some(linux) = valid.spec.linux.as_ref() else { return Ok(()) };
    for (i, path) in linux.readonly_paths.iter().enumerate() {
        let path = script.str(path)?;
        script.step(format!("/linux/readonlyPaths/{i}"), Phase::Rootfs, Step::ReadonlyPath { path });
    }
    if let Some(Covers { null, empty }) = *covers {
        for (i, path) in linux.masked_paths.iter().enumerate() {
            if linux.masked_paths.iter().take(i).any(|earlier| earlier == path) {
                continue;
            }
            let path = script.str(path)?;
            let step = Step::MaskPath { path, null, empty };
            script.step(format!("/linux/maskedPaths/{i}"), Phase::Rootfs, step);
        }
        script.step("", Phase::Rootfs, Step::Close { fd: null });
        script.step("", Phase::Rootfs, Step::Close { fd: empty });
    }
    Ok(())
}
