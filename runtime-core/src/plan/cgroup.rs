//! Which cgroup a container gets, who makes it, and who owns it.
//!
//! Must not: convert limits or rules; `cgroup` does. Tests: golden plans; `cgroup/plan.rs`, `cgroup/systemd/unit.rs`.

use super::create::Choices;
use super::devices;
use crate::cgroup::devices::{Kind as CgroupDeviceKind, Node as CgroupNode};
use crate::cgroup::systemd::{Scope, UnitRecord, annotation};
use crate::cgroup::{CgroupPlan, DevicesPlan, Refusal, UnitPlan};
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::host::Facts;
use crate::spec::Resources;
use crate::validate::{DeviceKind, NamespaceKind, ValidSpec};
use std::path::Path;

/// Plans it.
///
/// # Errors
/// What this host cannot do, with its pointer.
pub(super) fn plan(
    id: &str,
    valid: &ValidSpec,
    facts: &Facts,
    devices: &devices::Wanted,
    choices: &Choices,
) -> Result<CgroupPlan> {
    if choices.no_cgroup {
        return Ok(CgroupPlan {
            directories: Vec::new(),
            writes: Vec::new(),
            devices: DevicesPlan::Unrestricted,
            owner: None,
            unit: None,
        });
    }
    let none = Resources::default();
    let resources = valid.spec.linux.as_ref().and_then(|l| l.resources.as_ref()).unwrap_or(&none);
    let nodes: Vec<CgroupNode> = devices
        .nodes
        .iter()
        .filter_map(|node| {
            let kind = match node.kind {
                DeviceKind::Char => CgroupDeviceKind::Char,
                DeviceKind::Block => CgroupDeviceKind::Block,
                DeviceKind::Fifo => return None,
            };
            Some(CgroupNode { kind, major: node.major, minor: node.minor })
        })
        .collect();
    let rootless = facts.rootless() || !facts.initial_user_namespace;
    let refused = |refusal: Refusal| {
        Error::new(ErrorKind::Unsupported, refusal.reason)
            .at(refusal.pointer)
            .in_phase(Phase::Cgroup)
            .with_code("cgroup-refused")
    };
    let unit =
        choices.systemd.as_ref().map(|bus| plan_unit(id, valid, facts, bus)).transpose().map_err(refused)?;
    let place = unit.as_ref().map(|(_, place)| place.as_str()).or(valid.cgroups_path.as_deref());
    let mut plan = CgroupPlan::new(&facts.cgroup, place, id, resources, &nodes, rootless).map_err(refused)?;
    plan.unit = unit.map(|(unit, _)| unit);
    plan.owner = cgroup_owner(valid, facts);
    Ok(plan)
}

/// The unit, and where its directory will be as far as that is known before.
fn plan_unit(id: &str, valid: &ValidSpec, facts: &Facts, bus: &Path) -> Result<(UnitPlan, String), Refusal> {
    let at = crate::cgroup::path::CGROUPS_PATH;
    let v2 = facts.cgroup.v2().filter(|_| facts.cgroup.mode() == crate::cgroup::layout::Mode::Unified);
    let v2 = v2.ok_or_else(|| {
        Refusal::new(at, "systemd is asked for cgroups only where version 2 is the machine's only one")
    })?;
    let user = facts.rootless();
    let scope = Scope::read(valid.cgroups_path.as_deref(), id, user)?;
    let top = v2.writable.clone().filter(|_| user).unwrap_or_default();
    let place = top.join(&scope.path()).to_string();
    let record = UnitRecord { name: scope.name, bus: bus.to_owned() };
    if valid.effects.subgroup.is_some() {
        let pointer = "/annotations/run.oci.systemd.subgroup";
        return Err(Refusal::new(
            pointer,
            "asks for a cgroup below the unit: processes are in the unit itself",
        ));
    }
    let more = annotation::properties(&valid.spec.annotations)?;
    Ok((UnitPlan { record, slice: scope.slice, more }, place))
}

/// Who may make cgroups below the container's (config-linux.md, "Cgroup ownership"): its own user, when it has a cgroup namespace and a
/// writable view of it. Nobody new where that is root of the host.
fn cgroup_owner(valid: &ValidSpec, facts: &Facts) -> Option<u32> {
    // Without privileges nothing can be given away; version 1 is not made for it.
    if facts.rootless() || facts.cgroup.mode() != crate::cgroup::layout::Mode::Unified {
        return None;
    }
    let writable = |mount: &crate::validate::ValidMount| {
        mount.destination == "/sys/fs/cgroup"
            && matches!(mount.kind.as_str(), "cgroup" | "cgroup2")
            && mount.options.attributes.set & crate::validate::attr::RDONLY == 0
    };
    if !valid.namespaces.is_new(NamespaceKind::Cgroup) || !valid.mounts.iter().any(writable) {
        return None;
    }
    let uid = valid.process.user.uid.get();
    let host = match valid.namespaces.contains(NamespaceKind::User) {
        false => Some(uid),
        // Not known for a namespace that is joined.
        true if !valid.namespaces.is_new(NamespaceKind::User) => None,
        true => valid.spec.linux.iter().flat_map(|linux| &linux.uid_mappings).find_map(|map| {
            let offset = uid.checked_sub(map.container_id.get()).filter(|offset| *offset < map.size)?;
            map.host_id.get().checked_add(offset)
        }),
    };
    host.filter(|host| *host != 0)
}
