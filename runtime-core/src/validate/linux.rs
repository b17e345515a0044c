//! The small parts of `linux`.
//!
//! For: propagation of the root, masked and read-only paths, the cgroup's path, resctrl, memory policy, personality,
//! network devices. Must not: look at the machine. Tests: `tests`.

use super::MOST_PATHS;
use super::lists::{IndexList, index_list};
use super::mount_options::{Propagation, propagation};
use super::namespaces::{NamespaceKind, Namespaces};
use super::report::{Place, Report, shown};
use crate::spec::{IntelRdt, Linux, MemoryPolicy, Personality};

pub(super) fn rootfs_propagation(linux: &Linux, at: &Place<'_>, report: &mut Report) -> Option<Propagation> {
    let word = linux.rootfs_propagation.as_deref().filter(|word| !word.is_empty())?;
    let found = propagation(word);
    if found.is_none() {
        let message = format!(
            "expects shared, slave, private or unbindable, or one of them with an r before it, found {}",
            shown(word)
        );
        report.refuse(&at.key("rootfsPropagation"), "value-unknown", message);
    }
    found
}

pub(super) fn covered_paths(linux: &Linux, at: &Place<'_>, report: &mut Report) {
    for (key, paths) in [("maskedPaths", &linux.masked_paths), ("readonlyPaths", &linux.readonly_paths)] {
        let at = at.key(key);
        if report.count(&at, paths.len(), MOST_PATHS) {
            for (index, path) in paths.iter().enumerate() {
                report.absolute(&at.index(index), path);
            }
        }
    }
}

/// The text as it is: whether it is a path or systemd's slice:prefix:name is for the driver to say.
pub(super) fn cgroups_path(linux: &Linux, at: &Place<'_>, report: &mut Report) -> Option<String> {
    let path = linux.cgroups_path.as_deref().filter(|path| !path.is_empty())?;
    let at = at.key("cgroupsPath");
    if !report.path(&at, path) || !report.line(&at, path) {
        return None;
    }
    if path.split(['/', ':']).any(|part| part == "..") {
        report.refuse(&at, "cgroup-path", format!("has a component \"..\": {}", shown(path)));
        return None;
    }
    Some(path.to_owned())
}

pub(super) fn net_devices(linux: &Linux, namespaces: &Namespaces, at: &Place<'_>, report: &mut Report) {
    let at = at.key("netDevices");
    if linux.net_devices.is_empty() {
        return;
    }
    if !namespaces.contains(NamespaceKind::Network) {
        report.refuse_with(
            &at,
            "network-namespace-missing",
            "moves network devices, but there is no network namespace but the host's",
            "add {\"type\": \"network\"} to /linux/namespaces",
        );
    }
    for (outside, device) in &linux.net_devices {
        let at = at.key(outside);
        if !is_interface(outside) {
            report.refuse(&at, "interface-name", format!("is no name of an interface: {}", shown(outside)));
        }
        let Some(inside) = device.name.as_deref().filter(|name| !name.is_empty()) else { continue };
        // The kernel fills in the number of a template like eth%d, once.
        let plain = inside.replacen("%d", "0", 1);
        if !is_interface(&plain) || plain.contains('%') {
            report.refuse(
                &at.key("name"),
                "interface-name",
                format!("is no name of an interface: {}", shown(inside)),
            );
        }
    }
}

/// As the kernel checks it (net/core/dev.c, dev_valid_name).
fn is_interface(name: &str) -> bool {
    !matches!(name, "" | "." | "..")
        && name.len() < 16
        && !name
            .bytes()
            .any(|byte| byte == 0 || b"/:".contains(&byte) || byte.is_ascii_whitespace() || byte == 0x0b)
}

pub(super) fn intel_rdt(rdt: &IntelRdt, at: &Place<'_>, report: &mut Report) {
    if let Some(id) = rdt.clos_id.as_deref() {
        // "/" alone is the class that everything is in from the start.
        let bad = matches!(id, "" | "." | "..") || id.len() > 255 || (id != "/" && id.contains('/'));
        if bad {
            report.refuse(&at.key("closID"), "clos-id", format!("is no name of a class: {}", shown(id)));
        }
        report.line(&at.key("closID"), id);
    }
    for (key, schema, prefix) in
        [("l3CacheSchema", &rdt.l3_cache_schema, "L3"), ("memBwSchema", &rdt.mem_bw_schema, "MB:")]
    {
        let Some(schema) = schema.as_deref().filter(|schema| !schema.is_empty()) else { continue };
        let at = at.key(key);
        if key == "memBwSchema" {
            report.line(&at, schema);
        } else {
            report.text(&at, schema);
        }
        // What is wanted of the first is a SHOULD, and lines of bandwidth in it are left out when it is written.
        let fits =
            |line: &str| line.starts_with(prefix) || (key == "l3CacheSchema" && line.starts_with("MB:"));
        if !schema.split('\n').all(fits) {
            report.refuse(
                &at,
                "schema-prefix",
                format!("expects lines that start with {prefix}, found {}", shown(schema)),
            );
        }
    }
    let at = at.key("schemata");
    for (index, line) in rdt.schemata.iter().enumerate() {
        report.line(&at.index(index), line);
    }
}

pub(super) const MODES: [(&str, u32); 7] = [
    ("MPOL_BIND", 2),
    ("MPOL_DEFAULT", 0),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_LOCAL", 4),
    ("MPOL_PREFERRED", 1),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];

pub(super) const MODE_FLAGS: [(&str, u32); 3] = [
    ("MPOL_F_NUMA_BALANCING", 1 << 13),
    ("MPOL_F_RELATIVE_NODES", 1 << 14),
    ("MPOL_F_STATIC_NODES", 1 << 15),
];

/// The kernel takes one of them or none.
const RELATIVE_AND_STATIC: u32 = (1 << 14) | (1 << 15);

/// Arguments for set_mempolicy(2).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryPlacement {
    /// `MPOL_*` and `MPOL_F_*`, joined (linux/mempolicy.h).
    pub mode: u32,
    /// Memory nodes.
    pub nodes: Option<IndexList>,
}

impl MemoryPlacement {
    /// From what was written down when the container was made.
    pub(crate) fn recorded(mode: u32, nodes: &[(u32, u32)]) -> Self {
        Self { mode, nodes: IndexList::from_ranges(nodes) }
    }
}

pub(super) fn memory_policy(
    policy: &MemoryPolicy,
    at: &Place<'_>,
    report: &mut Report,
) -> Option<MemoryPlacement> {
    let mode = report.word(&at.key("mode"), &policy.mode, &MODES);
    let mut flags = 0;
    for (index, flag) in policy.flags.iter().enumerate() {
        flags |= report.word(&at.key("flags").index(index), flag, &MODE_FLAGS).unwrap_or(0);
    }
    if flags & RELATIVE_AND_STATIC == RELATIVE_AND_STATIC {
        let message = "has MPOL_F_RELATIVE_NODES and MPOL_F_STATIC_NODES, which exclude each other";
        report.refuse(&at.key("flags"), "memory-flags", message);
    }
    let nodes_at = at.key("nodes");
    let text = policy.nodes.as_deref().filter(|text| !text.is_empty());
    let nodes = text.and_then(|text| {
        let list = index_list(text);
        if list.is_none() {
            let message = format!("expects a list of nodes like 0-3,7, found {}", shown(text));
            report.refuse(&nodes_at, "cpu-list", message);
        }
        list
    });
    match policy.mode.as_str() {
        "MPOL_DEFAULT" | "MPOL_LOCAL" if text.is_some() => {
            report.refuse(
                &nodes_at,
                "memory-nodes",
                format!("names nodes, which {} does not take", policy.mode),
            );
        }
        "MPOL_BIND" | "MPOL_INTERLEAVE" | "MPOL_PREFERRED_MANY" | "MPOL_WEIGHTED_INTERLEAVE"
            if text.is_none() =>
        {
            report.refuse(
                &nodes_at,
                "memory-nodes",
                format!("expects at least one node for {}", policy.mode),
            );
        }
        _ => {}
    }
    Some(MemoryPlacement { mode: mode? | flags, nodes })
}

/// `PER_*` (linux/personality.h).
pub(super) const DOMAINS: [(&str, u32); 2] = [("LINUX", 0), ("LINUX32", 8)];

pub(super) fn personality(personality: &Personality, at: &Place<'_>, report: &mut Report) -> Option<u32> {
    let flags = at.key("flags");
    for (index, flag) in personality.flags.iter().enumerate() {
        let message = format!("does not know {}: the specification has no flags", shown(flag));
        report.refuse(&flags.index(index), "value-unknown", message);
    }
    report.word(&at.key("domain"), &personality.domain, &DOMAINS)
}
