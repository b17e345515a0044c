//! Mounts.
//!
//! For: `mounts` of config.md, each with typed options.
//! Must not: resolve a path; the destination stays text, taken apart inside the container's root when it is used.
//! Tests: `tests`; the words for options in `mount_options.rs`.

use super::idmap_words::{self, Maps};
use super::mount_options::{MountOptions, known_options, superblock};
use super::namespaces::{NamespaceKind, Namespaces, id_map};
use super::report::{Place, Report, shown};
use crate::spec::{IdMapping, Linux, Mount, nearest};

/// How many mounts a container can have: the kernel's own limit (sysctl fs.mount-max).
pub(super) const MOST_MOUNTS: usize = 100_000;

/// A mount.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ValidMount {
    /// Index in the document.
    pub index: usize,
    /// Absolute path in the container, without `.`, `..` and empty components.
    pub destination: String,
    /// File system type; empty for a bind mount, whose type means nothing.
    pub kind: String,
    /// Device, or host path of a bind mount (relative to the bundle); can be empty where there is none.
    pub source: String,
    /// Options.
    pub options: MountOptions,
    /// How ids of the source's files are shown.
    pub idmap: Option<IdMap>,
}

/// The mapping of ids of a bind mount.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IdMap {
    /// The mounts below the source are mapped, too.
    pub recursive: bool,
    /// User and group ids, from those of the file system to those of the mount; none: the container's user namespace.
    pub own: Option<(Vec<IdMapping>, Vec<IdMapping>)>,
}

/// What lxcfs and its like may put over single files of procfs; the same list as runc's.
const BELOW_PROC: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

pub(super) fn mounts(
    list: &[Mount],
    around: (&Namespaces, &Linux),
    at: &Place<'_>,
    report: &mut Report,
) -> Vec<ValidMount> {
    if !report.count(at, list.len(), MOST_MOUNTS) {
        return Vec::new();
    }
    list.iter().enumerate().map(|(index, it)| mount(it, index, around, &at.index(index), report)).collect()
}

fn mount(
    mount: &Mount,
    index: usize,
    around: (&Namespaces, &Linux),
    at: &Place<'_>,
    report: &mut Report,
) -> ValidMount {
    let destination_at = at.key("destination");
    if report.path(&destination_at, &mount.destination) && !mount.destination.starts_with('/') {
        report.warn(
            &destination_at,
            "destination-relative",
            "is relative, which is deprecated: taken from /",
        );
    }
    let destination = clean(&mount.destination);
    let options_at = at.key("options");
    for (index, word) in mount.options.iter().enumerate() {
        report.text(&options_at.index(index), word);
    }
    let options = MountOptions::parse(&mount.options);
    let kind = if options.is_bind() { "" } else { mount.kind.as_deref().unwrap_or_default() };
    let source = mount.source.as_deref().unwrap_or_default();
    if !source.is_empty() {
        report.path(&at.key("source"), source);
    }
    what(mount, kind, source, &options, at, report);
    over_proc(&destination, kind, &options, &destination_at, report);
    let idmap = id_mapped(mount, &options, around, at, report);
    ValidMount { index, destination, kind: kind.to_owned(), source: source.to_owned(), options, idmap }
}

/// Whether it can be told what is to be mounted.
fn what(
    mount: &Mount,
    kind: &str,
    source: &str,
    options: &MountOptions,
    at: &Place<'_>,
    report: &mut Report,
) {
    report.line(&at.key("type"), kind);
    if options.is_bind() {
        if source.is_empty() && !options.remount {
            report.refuse(&at.key("source"), "bind-source-missing", "expects the path to bind");
        }
        // The kernel ignores such words on a bind mount without an error (mount(2), "MS_BIND").
        for (index, word) in mount.options.iter().enumerate() {
            if options.data.contains(word) {
                let place = at.key("options");
                let message = match nearest(word, known_options()) {
                    Some(near) => format!("does not know {}; did you mean \"{near}\"?", shown(word)),
                    None => format!(
                        "is an option for a file system, which a bind mount does not take: {}",
                        shown(word)
                    ),
                };
                report.refuse(&place.index(index), "bind-data", message);
            }
        }
        if options.tmpcopyup {
            report.refuse(&at.key("options"), "tmpcopyup-type", "has tmpcopyup, which only a tmpfs can do");
        }
        for (index, word) in mount.options.iter().enumerate() {
            let of_the_file_system = MountOptions::parse(std::slice::from_ref(word)).superblock;
            if (of_the_file_system.set | of_the_file_system.clear) & !superblock::RDONLY != 0 {
                report.warn(
                    &at.key("options").index(index),
                    "bind-superblock",
                    format!(
                        "says {}, which belongs to the file system: a bind mount does not change it",
                        shown(word)
                    ),
                );
            }
        }
        return;
    }
    match kind {
        "bind" | "none" | "" if !options.remount => report.refuse_with(
            &at.key("type"),
            "mount-type-missing",
            format!("expects a file system type, found {}", shown(kind)),
            "for a bind mount add \"bind\" or \"rbind\" to the options: they alone decide",
        ),
        "tmpfs" | "" => {}
        _ if options.tmpcopyup => {
            report.refuse(&at.key("options"), "tmpcopyup-type", "has tmpcopyup, which only a tmpfs can do");
        }
        _ => {}
    }
}

/// A container's `/proc` is what everything inside believes, and what we write labels through.
fn over_proc(destination: &str, kind: &str, options: &MountOptions, at: &Place<'_>, report: &mut Report) {
    if destination == "/proc" {
        // A bind mount there has to be of a procfs, which is seen when its source is open.
        if !options.is_bind() && !options.remount && kind != "proc" {
            report.refuse(at, "proc-type", format!("expects type \"proc\" on /proc, found {}", shown(kind)));
        }
    } else if destination.starts_with("/proc/") && !BELOW_PROC.contains(&destination) {
        report.refuse_with(
            at,
            "proc-below",
            format!("mounts over a part of /proc: {}", shown(destination)),
            "only the files that lxcfs provides can be mounted there",
        );
    }
}

fn id_mapped(
    mount: &Mount,
    options: &MountOptions,
    around: (&Namespaces, &Linux),
    at: &Place<'_>,
    report: &mut Report,
) -> Option<IdMap> {
    let (namespaces, linux) = around;
    let worded = worded(mount, options, linux, at, report);
    let (uids, gids) = worded.as_ref().map_or((&mount.uid_mappings, &mount.gid_mappings), |(u, g)| (u, g));
    id_map(uids, &at.key("uidMappings"), report);
    id_map(gids, &at.key("gidMappings"), report);
    let given = !uids.is_empty() || !gids.is_empty();
    if !given && options.idmap.is_none() {
        return None;
    }
    let place = if options.idmap.is_some() { at.key("options") } else { at.key("uidMappings") };
    if options.remount {
        report.refuse(&place, "idmap-remount", "maps ids of a mount that is there already");
    } else if !options.is_bind() {
        report.refuse(&place, "idmap-type", "maps ids, which only a bind mount can do");
    }
    match (uids.is_empty(), gids.is_empty()) {
        (true, true) if !namespaces.contains(NamespaceKind::User) => report.refuse(
            &place,
            "idmap-without-mappings",
            "maps ids, but there are neither mappings nor a user namespace to take them from",
        ),
        (true, false) => one_sided("uidMappings", "gidMappings", at, report),
        (false, true) => one_sided("gidMappings", "uidMappings", at, report),
        _ => {}
    }
    let own = given.then(|| (uids.clone(), gids.clone()));
    Some(IdMap { recursive: options.idmap == Some(true), own })
}

/// Mappings in the option itself.
fn worded(
    mount: &Mount,
    options: &MountOptions,
    linux: &Linux,
    at: &Place<'_>,
    report: &mut Report,
) -> Option<Maps> {
    let text = options.idmap_words.as_deref()?;
    if !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty() {
        let message = "maps ids, which uidMappings and gidMappings do, too";
        report.refuse(&at.key("options"), "idmap-twice", message);
        return None;
    }
    match idmap_words::read(text, (&linux.uid_mappings, &linux.gid_mappings)) {
        Ok(maps) => Some(maps),
        Err(reason) => {
            report.refuse(&at.key("options"), "idmap-words", format!("{reason}: {}", shown(text)));
            None
        }
    }
}

fn one_sided(missing: &'static str, given: &str, at: &Place<'_>, report: &mut Report) {
    report.refuse(&at.key(missing), "idmap-one-sided", format!("is missing where {given} is given"));
}

/// The path from `/`, each `..` taken as text. runc does the same before it looks at the path.
pub(super) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let mut clean = String::with_capacity(path.len() + 1);
    for part in parts {
        clean.push('/');
        clean.push_str(part);
    }
    if clean.is_empty() {
        clean.push('/');
    }
    clean
}
