//! Which namespaces are made or joined, by which call, in which order.
//!
//! The order, and why:
//!
//! 1. The version 1 cgroups are entered first: before Linux 5.16 the kernel asks for the writer's rights, not the opener's.
//! 2. A joined user namespace comes first: what is made after it belongs to it, and its rights are the ones that count then.
//! 3. New namespaces come with the clone itself; below a *joined* user namespace they are unshared after the join, so that
//!    their owner is right.
//! 4. A new user namespace makes the child wait (`Born`): its mappings can only be written from outside.
//! 5. The other joins follow; before a joined user namespace, where the runtime has rights of its own: what is joined need not belong to it.
//! 6. The cgroup namespace is made in the cgroup, since the namespace's root is the cgroup of that moment.
//! 7. A second clone enters a joined pid namespace, a pid namespace made below a joined user namespace, or (before Linux 6.0)
//!    a new time namespace: these take effect for children only.
//!
//! Must not: open anything. Tests: golden plans; `tests` package, namespaces.

use super::lsm::Labels;
use super::script::{Answer, Maps, NetDevice, Open, Planned, Script};
use crate::error::{Phase, Result};
use crate::validate::{Namespace, NamespaceKind, Namespaces};
use coracle_init::program::{Slot, Step};

const NEWTIME: u64 = NamespaceKind::Time.clone_flag();
const NEWCGROUP: u64 = NamespaceKind::Cgroup.clone_flag();

/// In which order joined namespaces are entered, but for the user namespace (first) and pid (needs a second clone); a
/// mount namespace is never joined.
const JOIN_ORDER: [NamespaceKind; 5] = [
    NamespaceKind::Network,
    NamespaceKind::Ipc,
    NamespaceKind::Uts,
    NamespaceKind::Cgroup,
    NamespaceKind::Time,
];

/// What decides about the namespace steps besides the list itself.
#[derive(Clone, Debug)]
pub(crate) struct Surroundings {
    /// The runtime has no privileges of its own.
    pub(crate) rootless: bool,
    /// Running kernel.
    pub(crate) kernel: (u32, u32),
    /// `uid_map` and `gid_map` of a new user namespace.
    pub(crate) maps: Option<Maps>,
    /// Whether setgroups(2) has to be denied before `gid_map` may be written.
    pub(crate) deny_setgroups: bool,
    /// The caller's groups stay.
    pub(crate) keep_groups: bool,
    /// The user and group of the process: who init is where the user namespace has no id 0.
    pub(crate) user: (u32, u32),
    /// Network devices of the host.
    pub(crate) devices: Vec<Planned<NetDevice>>,
    /// Lines of `timens_offsets`.
    pub(crate) time_offsets: Option<String>,
    /// Version 1 cgroup files that init writes itself to: one slot each, filled by the launch.
    pub(crate) cgroup_joins: Vec<Slot>,
    /// The clone puts the child into the version 2 cgroup.
    pub(crate) into_cgroup: bool,
    /// That is all of the container's cgroup.
    pub(crate) v2_alone: bool,
    /// The parent makes the network namespace while the child works; its file comes in this slot.
    pub(crate) network_apart: Option<Slot>,
    /// `--no-new-keyring`.
    pub(crate) keep_keyring: bool,
}

/// Plans everything up to the point where the process stands in all of its namespaces and in its cgroup. `sources` is called where it
/// is in its user and mount namespaces but still the host's user; it gives the slots that the parent may have to fill.
///
/// # Errors
/// When the script is full; those of `sources`.
pub(crate) fn plan(
    script: &mut Script,
    wanted: &Namespaces,
    around: &Surroundings,
    labels: &Labels<'_>,
    sources: &mut dyn FnMut(&mut Script) -> Result<(Slot, u32)>,
) -> Result<()> {
    let phase = Phase::Namespaces;
    let at = |kind: NamespaceKind| pointer(wanted, kind);
    let below_joined_user = wanted.joined(NamespaceKind::User).is_some();
    let new_flags = wanted
        .iter()
        .filter(|(_, namespace, _)| **namespace == Namespace::New)
        .fold(0, |flags, (kind, ..)| flags | kind.clone_flag());
    // The cgroup namespace waits until the process is in its cgroup, the time namespace until its offsets are written.
    let late = if around.v2_alone { NEWTIME } else { NEWTIME | NEWCGROUP };
    script.into_cgroup = around.into_cgroup;
    if !below_joined_user {
        script.clone_flags = new_flags & !late;
        if around.network_apart.is_some() {
            script.clone_flags &= !NamespaceKind::Network.clone_flag();
        }
    }

    if !around.rootless {
        script.step("", phase, Step::NonDumpable);
    }
    for fd in &around.cgroup_joins {
        script.step("/linux/cgroupsPath", Phase::Cgroup, Step::JoinCgroup { fd: *fd });
        script.step("", Phase::Cgroup, Step::Close { fd: *fd });
    }
    let ahead = below_joined_user && !around.rootless;
    if ahead {
        join_others(script, wanted)?;
    }
    if below_joined_user {
        join(script, wanted, NamespaceKind::User)?;
        // The change of credentials set it back to `fs.suid_dumpable`, and the namespace's other processes can see us.
        script.step("", phase, Step::NonDumpable);
        let made_inside = new_flags & !late;
        if made_inside != 0 {
            script.step("/linux/namespaces", phase, Step::Unshare { flags: made_inside });
        }
    }
    if wanted.is_new(NamespaceKind::Time) {
        script.step(at(NamespaceKind::Time), phase, Step::Unshare { flags: NEWTIME });
    }
    if let Some(Maps { uid, gid }) = &around.maps {
        let maps =
            Answer::IdMaps { uid: uid.clone(), gid: gid.clone(), deny_setgroups: around.deny_setgroups };
        script.answer("/linux/uidMappings", phase, maps);
    }
    if let Some(lines) = &around.time_offsets {
        script.answer("/linux/timeOffsets", phase, Answer::TimeOffsets { lines: lines.clone() });
    }
    script.devices.clone_from(&around.devices);
    let (first, count) = sources(script)?;
    let optional = script.answers.is_empty() && script.devices.is_empty();
    if count > 0 || !optional {
        script.step("", phase, Step::Born { first, count, optional });
    }
    if around.rootless {
        // After Go: until then an unprivileged parent has to open our uid_map; nobody else sees us yet.
        script.step("", phase, Step::NonDumpable);
    }
    if wanted.contains(NamespaceKind::User) {
        let (groups, (uid, gid)) = (!around.deny_setgroups && !around.keep_groups, around.user);
        script.step(at(NamespaceKind::User), phase, Step::NamespaceRoot { groups, uid, gid });
        script.step("", phase, Step::NonDumpable);
    }
    if !ahead {
        join_others(script, wanted)?;
    }
    if new_flags & NEWCGROUP != 0 && (script.clone_flags & NEWCGROUP == 0) && late & NEWCGROUP != 0 {
        script.step(at(NamespaceKind::Cgroup), phase, Step::Unshare { flags: NEWCGROUP });
    }
    second_clone(script, wanted, around, below_joined_user)?;
    settle(script, around.keep_keyring, labels)
}

fn join_others(script: &mut Script, wanted: &Namespaces) -> Result<()> {
    JOIN_ORDER.into_iter().try_for_each(|kind| join(script, wanted, kind))
}

/// Waits for the network namespace that the parent made meanwhile, and enters it.
pub(crate) fn meet_network(script: &mut Script, wanted: &Namespaces, slot: Slot) {
    let pointer = pointer(wanted, NamespaceKind::Network);
    // The flag fits: it is 0x4000_0000.
    let nstype = i32::try_from(NamespaceKind::Network.clone_flag()).unwrap_or(0);
    script.step(pointer.clone(), Phase::Namespaces, Step::Born { first: slot, count: 1, optional: false });
    script.step(pointer, Phase::Namespaces, Step::JoinNamespace { fd: slot, nstype });
    script.step("", Phase::Namespaces, Step::Close { fd: slot });
}

/// What a process needs that has its final identity: the parent's death ends it while it is set up, it leads a session, and it has a
/// keyring of its own.
///
/// # Errors
/// When a label contains NUL.
pub(crate) fn settle(script: &mut Script, keep_keyring: bool, labels: &Labels<'_>) -> Result<()> {
    script.step("", Phase::Namespaces, Step::ParentDeathSignal { signal: libc::SIGKILL });
    script.step("", Phase::Process, Step::SetSid);
    if !keep_keyring {
        labels.keys(script, true)?;
        script.step("", Phase::Process, Step::SessionKeyring);
        labels.keys(script, false)?;
    }
    Ok(())
}

fn pointer(wanted: &Namespaces, kind: NamespaceKind) -> String {
    let index = wanted.iter().find(|(found, ..)| *found == kind).map_or(0, |(.., index)| index);
    format!("/linux/namespaces/{index}")
}

fn second_clone(
    script: &mut Script,
    wanted: &Namespaces,
    around: &Surroundings,
    below_joined_user: bool,
) -> Result<()> {
    join(script, wanted, NamespaceKind::Pid)?;
    let pid = wanted.joined(NamespaceKind::Pid).is_some()
        || (below_joined_user && wanted.is_new(NamespaceKind::Pid));
    // Joining one takes effect at once, since Linux 5.8.
    let time = wanted.is_new(NamespaceKind::Time) && around.kernel < (6, 0);
    if pid || time {
        let kind = if pid { NamespaceKind::Pid } else { NamespaceKind::Time };
        let step = Step::SecondClone { flags: 0 };
        script.step(pointer(wanted, kind), Phase::Namespaces, step);
    }
    Ok(())
}

fn join(script: &mut Script, wanted: &Namespaces, kind: NamespaceKind) -> Result<()> {
    let Some(path) = wanted.joined(kind) else { return Ok(()) };
    let pointer = format!("{}/path", pointer(wanted, kind));
    // Every flag fits: the highest is 0x4000_0000.
    let nstype = i32::try_from(kind.clone_flag()).unwrap_or(0);
    let slot = script.open(pointer.clone(), Phase::Namespaces, |slot| Open::Namespace {
        path: path.to_path_buf(),
        nstype,
        slot,
    })?;
    script.step(pointer, Phase::Namespaces, Step::JoinNamespace { fd: slot, nstype });
    script.step("", Phase::Namespaces, Step::Close { fd: slot });
    Ok(())
}
