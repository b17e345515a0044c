//! What will be made and written for a container, decided without touching anything.
//!
//! Must not: open files. `make` carries it out.
//! Tests: in this file.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::devices::{Access, DeviceProgram, DeviceRules, Node};
use super::error::Refusal;
use super::layout::{Hierarchy, HierarchyKey, Layout, Version};
use super::path::{CGROUPS_PATH, CgroupPath, Wish};
use super::resources::{self, RESOURCES, Write};
use super::systemd::{Property, UnitRecord};
use crate::spec::Resources;

/// Everything that will happen to cgroups when a container is created, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CgroupPlan {
    /// Directories that are made, one for each hierarchy. None: nothing was asked for and nothing is delegated.
    pub directories: Vec<DirectoryPlan>,
    /// Files that are written, in order.
    pub writes: Vec<Write>,
    /// How device rules are enforced.
    pub devices: DevicesPlan,
    /// The user of the host who may make cgroups below it: the container's own, when it sees its cgroup and may write there
    /// (config-linux.md, "Cgroup ownership"). None: nobody but who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<u32>,
    /// The unit that systemd makes the directory for; none: the directory is made by us.
    #[serde(skip)]
    pub(crate) unit: Option<UnitPlan>,
}

/// A unit to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnitPlan {
    pub(crate) record: UnitRecord,
    pub(crate) slice: String,
    /// What annotations ask for.
    pub(crate) more: Vec<Property>,
}

/// One directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DirectoryPlan {
    /// The hierarchy's lasting name.
    pub hierarchy: HierarchyKey,
    /// Its version.
    pub version: Version,
    /// Its mount point.
    pub mount: String,
    /// The directory, below the mount point.
    pub path: CgroupPath,
    /// Where controllers can be enabled from, down to the directory.
    pub top: CgroupPath,
    /// The configuration named the place, so that an empty directory that is already there may be used.
    pub explicit: bool,
    /// Controllers that the writes need (version 2), or that need care (version 1: `cpuset`).
    #[serde(default)]
    pub required: Vec<String>,
    /// Controllers that are enabled too if that works, for what they count (version 2).
    #[serde(default)]
    pub wanted: Vec<String>,
}

/// How device rules are enforced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum DevicesPlan {
    /// The rules allow everything, or there is nothing to enforce.
    Unrestricted,
    /// Rootless: no device node can be made or opened but those bound in, and the rules allow all of these.
    NodesBoundIn,
    /// Lines for the files of version 1.
    Lines {
        /// The hierarchy of the devices controller.
        hierarchy: HierarchyKey,
        /// File and line, in order.
        lines: Vec<(String, String)>,
    },
    /// A program on the version 2 directory.
    Program {
        /// What the rules come down to, as text.
        rules: String,
        /// The program.
        program: DeviceProgram,
    },
}

impl CgroupPlan {
    /// Plans a container's cgroups.
    ///
    /// `cgroups_path` is `linux.cgroupsPath`; `nodes` are the device nodes that will be bound in from the host, looked at
    /// only when `rootless`; `rootless` says that this process has no privileges over devices and cgroups beyond what
    /// was delegated to it (not root, or root of a user namespace).
    ///
    /// # Errors
    /// What is asked for and cannot be had on that host, with its pointer.
    pub fn new(
        layout: &Layout,
        cgroups_path: Option<&str>,
        id: &str,
        resources: &Resources,
        nodes: &[Node],
        rootless: bool,
    ) -> Result<Self, Refusal> {
        let wish = Wish::read(cgroups_path, id)?;
        let writes = resources::plan(resources, layout)?;
        let directories = directories(layout, &wish, &writes)?;
        let rules = DeviceRules::new(&resources.devices)?;
        let devices = if rootless {
            devices_rootless(resources, &rules, nodes)?
        } else {
            let planned = |key: &HierarchyKey| directories.iter().any(|one| one.hierarchy == *key);
            devices(layout, &planned, &rules)?
        };
        Ok(Self { directories, writes, devices, owner: None, unit: None })
    }
}

fn directories(layout: &Layout, wish: &Wish, writes: &[Write]) -> Result<Vec<DirectoryPlan>, Refusal> {
    let all: Vec<DirectoryPlan> =
        layout.hierarchies.iter().filter_map(|one| directory(one, wish, writes)).collect();
    let has = |key: &HierarchyKey| all.iter().any(|one| one.hierarchy == *key);
    if let Some(write) = writes.iter().find(|write| !has(&write.hierarchy)) {
        return Err(Refusal::new(&write.pointer, not_delegated(layout, wish, &write.hierarchy)));
    }
    if all.is_empty() && wish.is_explicit() {
        let first = layout.hierarchies.first().map(Hierarchy::key);
        let reason = first.map_or_else(
            || "no cgroup hierarchy is mounted on this host".to_owned(),
            |key| not_delegated(layout, wish, &key),
        );
        return Err(Refusal::new(CGROUPS_PATH, reason));
    }
    Ok(all)
}

fn not_delegated(layout: &Layout, wish: &Wish, key: &HierarchyKey) -> String {
    let Some(hierarchy) = layout.hierarchies.iter().find(|one| one.key() == *key) else {
        return format!("the {key} hierarchy is not mounted");
    };
    let place = wish.place(hierarchy);
    let mount = &hierarchy.mount;
    match &hierarchy.writable {
        None => {
            format!("needs the cgroup {mount}{place}, and nothing below {mount} is delegated to this user")
        }
        Some(top) => {
            format!("needs the cgroup {mount}{place}, and only {mount}{top} is delegated to this user")
        }
    }
}

fn directory(hierarchy: &Hierarchy, wish: &Wish, writes: &[Write]) -> Option<DirectoryPlan> {
    // Named hierarchies group processes for one manager; only systemd's is every process's.
    if hierarchy.name.as_deref().is_some_and(|name| name != "systemd") {
        return None;
    }
    let path = wish.place(hierarchy);
    let top = hierarchy.writable.clone()?;
    if !path.parent()?.is_below_or_at(&top) {
        return None;
    }
    let key = hierarchy.key();
    let mut required: Vec<String> = Vec::new();
    for write in writes.iter().filter(|write| write.hierarchy == key) {
        let controller = write.file.split('.').next().unwrap_or_default();
        if controller != "cgroup" && !required.iter().any(|have| have == controller) {
            required.push(controller.to_owned());
        }
    }
    let wanted = match hierarchy.version {
        Version::V2 => hierarchy.controllers.iter().filter(|one| !required.contains(one)).cloned().collect(),
        Version::V1 => {
            required = hierarchy.controllers.iter().filter(|one| *one == "cpuset").cloned().collect();
            Vec::new()
        }
    };
    Some(DirectoryPlan {
        hierarchy: key,
        version: hierarchy.version,
        mount: hierarchy.mount.clone(),
        path,
        top,
        explicit: wish.is_explicit(),
        required,
        wanted,
    })
}

/// How `rules` are enforced in a container that has a directory in the hierarchies that `planned` says.
pub(super) fn devices(
    layout: &Layout,
    planned: &dyn Fn(&HierarchyKey) -> bool,
    rules: &DeviceRules,
) -> Result<DevicesPlan, Refusal> {
    if rules.allow_all() {
        return Ok(DevicesPlan::Unrestricted);
    }
    // A version 1 hierarchy takes the controller away from version 2 only as files; programs work beside it, but
    // what other tools look at are the files.
    if let Some(key) = layout.controller("devices").map(Hierarchy::key).filter(|key| planned(key)) {
        let lines = rules.v1_lines()?.into_iter().map(|(file, line)| (file.to_owned(), line)).collect();
        return Ok(DevicesPlan::Lines { hierarchy: key, lines });
    }
    if layout.v2().map(Hierarchy::key).is_some_and(|key| planned(&key)) {
        return Ok(match rules.program()? {
            Some(program) => DevicesPlan::Program { rules: rules.to_string(), program },
            None => DevicesPlan::Unrestricted,
        });
    }
    let reason =
        "device rules need cgroup version 2 or the devices controller of version 1, and neither can be used";
    Err(Refusal::new(format!("{RESOURCES}/devices"), reason))
}

/// Without privileges neither a program nor the devices controller can be had, and none is needed: such a process can
/// make no device node and opens no other than those bound in (user namespaces mount everything else nodev).
fn devices_rootless(
    resources: &Resources,
    rules: &DeviceRules,
    nodes: &[Node],
) -> Result<DevicesPlan, Refusal> {
    if resources.devices.is_empty() {
        return Ok(DevicesPlan::Unrestricted);
    }
    let open = Access::READ.with(Access::WRITE);
    match nodes.iter().find(|node| !rules.allows(**node, open)) {
        None => Ok(DevicesPlan::NodesBoundIn),
        Some(node) => Err(Refusal::new(
            format!("{RESOURCES}/devices"),
            format!(
                "the rules deny the device {:?} {}:{}, which is bound in, and without privileges they cannot be enforced",
                node.kind, node.major, node.minor
            ),
        )),
    }
}

impl fmt::Display for CgroupPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for one in &self.directories {
            write!(f, "make {} {}{}", one.hierarchy, one.mount, one.path)?;
            let required = one.required.iter().map(|name| format!(" +{name}"));
            let wanted = one.wanted.iter().map(|name| format!(" ?{name}"));
            writeln!(f, "{}", required.chain(wanted).collect::<String>())?;
        }
        for write in &self.writes {
            writeln!(f, "write {write}")?;
        }
        if let Some(unit) = &self.unit {
            writeln!(f, "unit {} in {}", unit.record.name, unit.slice)?;
        }
        if let Some(owner) = self.owner {
            writeln!(f, "owner {owner}")?;
        }
        match &self.devices {
            DevicesPlan::Unrestricted => writeln!(f, "devices: unrestricted"),
            DevicesPlan::NodesBoundIn => writeln!(f, "devices: only those bound in, all allowed"),
            DevicesPlan::Lines { hierarchy, lines } => {
                lines.iter().try_for_each(|(file, line)| writeln!(f, "write {hierarchy}: {file} = {line}"))
            }
            DevicesPlan::Program { rules, program } => {
                writeln!(f, "devices: {rules} (program of {} instructions)", program.len())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::devices::Kind;
    use super::*;

    fn layout(json: &str) -> Layout {
        serde_json::from_str(json).unwrap()
    }

    /// A host with version 2 alone, seen by root in a service.
    fn unified() -> Layout {
        layout(
            r#"{"hierarchies": [{"version": "v2", "mount": "/sys/fs/cgroup", "own": "system.slice/a.service",
                "controllers": ["cpu", "memory", "pids"], "writable": ""}]}"#,
        )
    }

    /// A user's session under systemd: memory and pids are delegated below its service.
    fn session() -> Layout {
        layout(
            r#"{"hierarchies": [{"version": "v2", "mount": "/sys/fs/cgroup", "controllers": ["memory", "pids"],
                "own": "user.slice/user@7.service/app.slice/t.scope", "writable": "user.slice/user@7.service"}]}"#,
        )
    }

    /// A user whom nothing is delegated to.
    fn bare() -> Layout {
        layout(
            r#"{"hierarchies": [
                {"version": "v1", "mount": "/sys/fs/cgroup/memory", "controllers": ["memory"], "own": "user"},
                {"version": "v2", "mount": "/sys/fs/cgroup/unified", "own": "user.slice/session-1.scope"}]}"#,
        )
    }

    fn resources(json: &str) -> Resources {
        serde_json::from_str(json).unwrap()
    }

    fn plan(layout: &Layout, path: Option<&str>, json: &str, rootless: bool) -> Result<CgroupPlan, Refusal> {
        CgroupPlan::new(layout, path, "web", &resources(json), &[], rootless)
    }

    #[test]
    fn a_readable_plan_that_can_be_written_down() {
        let json = r#"{"memory": {"limit": 4096}, "unified": {"cgroup.max.depth": "1"}}"#;
        let plan = plan(&unified(), Some("/kubepods/pod1/web"), json, false).unwrap();
        let shown = plan.to_string();
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(
            lines[..3],
            [
                "make v2 /sys/fs/cgroup/kubepods/pod1/web +memory ?cpu ?pids",
                "write v2: memory.max = 4096  [/linux/resources/memory/limit]",
                "write v2: cgroup.max.depth = 1  [/linux/resources/unified/cgroup.max.depth]",
            ]
        );
        assert!(lines[3].starts_with("devices: deny all, allow a *:* m, allow c 1:3 rw"), "{}", lines[3]);
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<CgroupPlan>(&text).unwrap(), plan);
    }

    #[test]
    fn rootless_takes_what_is_delegated_and_refuses_the_rest_by_name() {
        let inside = plan(&session(), None, r#"{"memory": {"limit": 4096}}"#, true).unwrap();
        assert_eq!(
            inside.directories[0].path.to_string(),
            "/user.slice/user@7.service/app.slice/coracle-web"
        );
        assert_eq!(inside.directories[0].top.to_string(), "/user.slice/user@7.service");
        assert_eq!(inside.devices, DevicesPlan::Unrestricted);

        let outside = plan(&session(), Some("/web"), "{}", true).unwrap_err();
        assert_eq!(outside.pointer, CGROUPS_PATH);
        assert!(
            outside.reason.contains("only /sys/fs/cgroup/user.slice/user@7.service is delegated"),
            "{outside}"
        );
        let limited = plan(&session(), Some("/web"), r#"{"pids": {"limit": 3}}"#, true).unwrap_err();
        assert_eq!(limited.pointer, "/linux/resources/pids/limit");
    }

    #[test]
    fn without_delegation_no_cgroup_and_no_limits() {
        let none = plan(&bare(), None, "{}", true).unwrap();
        assert!(none.directories.is_empty() && none.writes.is_empty());
        assert_eq!(plan(&bare(), Some("/web"), "{}", true).unwrap_err().pointer, CGROUPS_PATH);
        let limited = plan(&bare(), None, r#"{"memory": {"limit": 3}}"#, true).unwrap_err();
        assert_eq!(limited.pointer, "/linux/resources/memory/limit");
        assert_eq!(plan(&Layout::default(), None, "{}", true).unwrap().directories, []);
    }

    #[test]
    fn device_rules_without_any_place_for_them_are_refused() {
        // Root on a host without cgroups: what engines rely on cannot be enforced.
        let refusal = plan(&Layout::default(), None, "{}", false).unwrap_err();
        assert_eq!(refusal.pointer, "/linux/resources/devices");
        let all = r#"{"devices": [{"allow": true, "access": "rwm"}]}"#;
        assert_eq!(plan(&Layout::default(), None, all, false).unwrap().devices, DevicesPlan::Unrestricted);
    }

    #[test]
    fn rootless_device_rules_are_met_by_the_nodes_bound_in() {
        let deny = resources(r#"{"devices": [{"allow": false, "access": "rwm"}]}"#);
        let null = Node { kind: Kind::Char, major: 1, minor: 3 };
        let fuse = Node { kind: Kind::Char, major: 10, minor: 229 };
        let plan = |resources, nodes: &[Node]| CgroupPlan::new(&bare(), None, "web", resources, nodes, true);
        assert_eq!(plan(&deny, &[null]).unwrap().devices, DevicesPlan::NodesBoundIn);
        let refusal = plan(&deny, &[null, fuse]).unwrap_err();
        assert_eq!(refusal.pointer, "/linux/resources/devices");
        assert!(refusal.reason.contains("10:229"), "{refusal}");
        // Rules that nobody asked for do not stand in the way of a device that was asked for.
        assert_eq!(plan(&Resources::default(), &[fuse]).unwrap().devices, DevicesPlan::Unrestricted);
    }

    #[test]
    fn version_1_devices_are_lines_for_the_hierarchy_that_has_them() {
        let hybrid = layout(
            r#"{"hierarchies": [
                {"version": "v1", "mount": "/sys/fs/cgroup/devices", "controllers": ["devices"], "writable": ""},
                {"version": "v1", "mount": "/sys/fs/cgroup/x", "name": "elogind", "writable": ""},
                {"version": "v1", "mount": "/sys/fs/cgroup/systemd", "name": "systemd", "writable": ""},
                {"version": "v2", "mount": "/sys/fs/cgroup/unified", "writable": ""}]}"#,
        );
        let plan = plan(&hybrid, Some("/default/web"), "{}", false).unwrap();
        let made: Vec<String> =
            plan.directories.iter().map(|one| format!("{}{}", one.mount, one.path)).collect();
        assert_eq!(
            made,
            [
                "/sys/fs/cgroup/devices/default/web",
                "/sys/fs/cgroup/systemd/default/web",
                "/sys/fs/cgroup/unified/default/web"
            ]
        );
        let DevicesPlan::Lines { hierarchy, lines } = plan.devices else { panic!("{:?}", plan.devices) };
        assert_eq!(hierarchy.to_string(), "devices");
        assert_eq!(lines[0], ("devices.deny".to_owned(), "a".to_owned()));
    }
}
