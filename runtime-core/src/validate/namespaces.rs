//! Namespaces, what is written into new ones, and who may be mapped.
//!
//! For: `linux.namespaces`, `uidMappings`, `gidMappings`, `timeOffsets`, `hostname`, `domainname`.
//! Must not: look at the namespaces of the machine; whether a path leads to one is found out when it is opened.
//! Tests: `tests`.

use std::path::{Path, PathBuf};

use super::report::{MOUNTS_JOINED, Place, Report, shown};
use crate::spec::{Id, IdMapping, Linux, LinuxNamespace, Spec, TimeOffset};

/// Kinds of namespaces (namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NamespaceKind {
    /// Control group root.
    Cgroup,
    /// System V and POSIX message queues.
    Ipc,
    /// Mounts.
    Mount,
    /// Network.
    Network,
    /// Process ids.
    Pid,
    /// Clock offsets.
    Time,
    /// User and group ids.
    User,
    /// Host and domain name.
    Uts,
}

impl NamespaceKind {
    /// All kinds, by the specification's names, sorted.
    pub const ALL: [(&'static str, NamespaceKind); 8] = [
        ("cgroup", NamespaceKind::Cgroup),
        ("ipc", NamespaceKind::Ipc),
        ("mount", NamespaceKind::Mount),
        ("network", NamespaceKind::Network),
        ("pid", NamespaceKind::Pid),
        ("time", NamespaceKind::Time),
        ("user", NamespaceKind::User),
        ("uts", NamespaceKind::Uts),
    ];

    /// The specification's name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    /// The flag of clone3(2) and the type for setns(2), `CLONE_NEW*` (linux/sched.h).
    pub const fn clone_flag(self) -> u64 {
        match self {
            NamespaceKind::Time => 0x80,
            NamespaceKind::Mount => 0x2_0000,
            NamespaceKind::Cgroup => 0x200_0000,
            NamespaceKind::Uts => 0x400_0000,
            NamespaceKind::Ipc => 0x800_0000,
            NamespaceKind::User => 0x1000_0000,
            NamespaceKind::Pid => 0x2000_0000,
            NamespaceKind::Network => 0x4000_0000,
        }
    }
}

/// What a container does about one kind of namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Namespace {
    /// Makes a new one.
    New,
    /// Joins the one at this host path.
    Join(PathBuf),
}

/// The namespaces of a container: each kind at most once, in the order of the document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Namespaces(Vec<(NamespaceKind, Namespace, usize)>);

impl Namespaces {
    /// What is done about this kind; `None` keeps the runtime's own.
    pub fn get(&self, kind: NamespaceKind) -> Option<&Namespace> {
        self.0.iter().find(|(other, ..)| *other == kind).map(|(_, namespace, _)| namespace)
    }

    /// Whether a new one of this kind is made.
    pub fn is_new(&self, kind: NamespaceKind) -> bool {
        self.get(kind) == Some(&Namespace::New)
    }

    /// Whether the container does not use the runtime's own one of this kind.
    pub fn contains(&self, kind: NamespaceKind) -> bool {
        self.get(kind).is_some()
    }

    /// The path of the one of this kind that is joined.
    pub fn joined(&self, kind: NamespaceKind) -> Option<&Path> {
        match self.get(kind) {
            Some(Namespace::Join(path)) => Some(path),
            _ => None,
        }
    }

    /// All, each with its index in `linux.namespaces`.
    pub fn iter(&self) -> impl Iterator<Item = (NamespaceKind, &Namespace, usize)> {
        self.0.iter().map(|(kind, namespace, index)| (*kind, namespace, *index))
    }
}

/// Lines that the kernel takes in one id map (user_namespaces(7), since Linux 4.15).
const MOST_MAPPINGS: usize = 340;

/// What the kernel keeps of a host or domain name (uname(2), `__NEW_UTS_LEN`).
const LONGEST_NAME: usize = 64;

pub(super) fn namespaces(list: &[LinuxNamespace], at: &Place<'_>, report: &mut Report) -> Namespaces {
    let mut found = Namespaces::default();
    for (index, entry) in list.iter().enumerate() {
        let at = at.index(index);
        let Some(kind) = report.word(&at.key("type"), &entry.kind, &NamespaceKind::ALL) else { continue };
        if found.contains(kind) {
            report.refuse(
                &at,
                "namespace-twice",
                format!("lists the {} namespace a second time", kind.name()),
            );
            continue;
        }
        // runc takes an empty path for an absent one, and engines rely on that.
        let namespace = match entry.path.as_deref() {
            None | Some("") => Namespace::New,
            Some(path) => {
                report.absolute(&at.key("path"), path);
                Namespace::Join(PathBuf::from(path))
            }
        };
        if kind == NamespaceKind::Mount && namespace != Namespace::New {
            report.refuse_with(
                &at.key("path"),
                MOUNTS_JOINED,
                "joins a mount namespace: this container's root and mounts would be made among those of others",
                "leave the path out; exec starts a process in a container's own mount namespace",
            );
        }
        found.0.push((kind, namespace, index));
    }
    if !found.contains(NamespaceKind::Mount) {
        report.refuse_with(
            at,
            "mount-namespace-missing",
            "lists no mount namespace: the container's mounts would be made in the caller's",
            "add {\"type\": \"mount\"}",
        );
    }
    found
}

/// Whether the maps are good enough to look ids up in them.
pub(super) fn user_namespace(
    linux: &Linux,
    namespaces: &Namespaces,
    at: &Place<'_>,
    report: &mut Report,
) -> bool {
    let before = report.violations.len();
    let (uids, gids) = (at.key("uidMappings"), at.key("gidMappings"));
    id_map(&linux.uid_mappings, &uids, report);
    id_map(&linux.gid_mappings, &gids, report);
    let given = [(&linux.uid_mappings, &uids), (&linux.gid_mappings, &gids)];
    for (mappings, at) in given {
        match namespaces.get(NamespaceKind::User) {
            None if !mappings.is_empty() => report.refuse_with(
                at,
                "mapping-without-namespace",
                "maps ids, but there is no user namespace",
                "add {\"type\": \"user\"} to /linux/namespaces",
            ),
            Some(Namespace::New) if mappings.is_empty() => {
                report.refuse(
                    at,
                    "mapping-missing",
                    "expects at least one mapping for the new user namespace",
                );
            }
            Some(Namespace::Join(_)) if !mappings.is_empty() => report.warn(
                at,
                "mapping-of-joined",
                "maps ids of a user namespace that is joined: they have to be the ones it has",
            ),
            _ => {}
        }
    }
    report.violations.len() == before
}

pub(super) fn id_map(mappings: &[IdMapping], at: &Place<'_>, report: &mut Report) {
    if !report.count(at, mappings.len(), MOST_MAPPINGS) {
        return;
    }
    let mut whole = true;
    for (index, mapping) in mappings.iter().enumerate() {
        let place = at.index(index);
        if mapping.size == 0 {
            report.refuse(&place.key("size"), "mapping-empty", "maps no ids");
            whole = false;
        }
        for (name, id) in [("containerID", mapping.container_id), ("hostID", mapping.host_id)] {
            // Id 4294967295 is no id, so the range has to end before it.
            if id.get().checked_add(mapping.size).is_none() {
                report.refuse(&place.key(name), "mapping-too-large", "maps ids beyond 4294967294");
                whole = false;
            }
        }
    }
    if !whole {
        return;
    }
    for (name, first) in [
        ("containerID", (|m| m.container_id.get()) as fn(&IdMapping) -> u32),
        ("hostID", |m: &IdMapping| m.host_id.get()),
    ] {
        let mut ranges: Vec<_> = mappings.iter().enumerate().map(|(i, m)| (first(m), m.size, i)).collect();
        ranges.sort_unstable();
        for pair in ranges.windows(2) {
            if let [(a, size, _), (b, _, index)] = pair {
                if a.saturating_add(*size) > *b {
                    let place = at.index(*index);
                    report.refuse(
                        &place.key(name),
                        "mapping-overlap",
                        "maps ids that another line maps already",
                    );
                }
            }
        }
    }
}

/// Whether an id inside has one outside.
pub(super) fn is_mapped(mappings: &[IdMapping], id: Id) -> bool {
    mappings.iter().any(|m| id.get().checked_sub(m.container_id.get()).is_some_and(|offset| offset < m.size))
}

/// A clock that can be offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// `CLOCK_MONOTONIC`
    Monotonic,
    /// `CLOCK_BOOTTIME`
    Boottime,
}

impl Clock {
    /// By the specification's (and the kernel's) names.
    pub const ALL: [(&'static str, Clock); 2] =
        [("boottime", Clock::Boottime), ("monotonic", Clock::Monotonic)];
}

/// The offset of one clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClockOffset {
    /// Which.
    pub clock: Clock,
    /// Seconds.
    pub secs: i64,
    /// Nanoseconds, below one second.
    pub nanosecs: u32,
}

pub(super) fn time_offsets(
    linux: &Linux,
    namespaces: &Namespaces,
    at: &Place<'_>,
    report: &mut Report,
) -> Vec<ClockOffset> {
    let at = at.key("timeOffsets");
    if linux.time_offsets.is_empty() {
        return Vec::new();
    }
    if !namespaces.is_new(NamespaceKind::Time) {
        report.refuse_with(
            &at,
            "time-namespace-missing",
            "sets clocks, which only a new time namespace can have",
            "add {\"type\": \"time\"} without a path to /linux/namespaces",
        );
    }
    let mut offsets = Vec::new();
    for (name, offset) in &linux.time_offsets {
        let at = at.key(name);
        let TimeOffset { secs, nanosecs, .. } = offset;
        let nanosecs = nanosecs.unwrap_or(0);
        if nanosecs >= 1_000_000_000 {
            report.refuse(
                &at.key("nanosecs"),
                "value-out-of-range",
                "expects less than one second, 1000000000",
            );
        }
        if let Some(clock) = report.word(&at, name, &Clock::ALL) {
            offsets.push(ClockOffset { clock, secs: secs.unwrap_or(0), nanosecs });
        }
    }
    offsets
}

pub(super) fn names(spec: &Spec, namespaces: &Namespaces, at: &Place<'_>, report: &mut Report) {
    for (key, name) in [("hostname", &spec.hostname), ("domainname", &spec.domainname)] {
        let at = at.key(key);
        let Some(name) = name.as_deref().filter(|name| !name.is_empty()) else { continue };
        if !namespaces.contains(NamespaceKind::Uts) {
            report.refuse_with(
                &at,
                "uts-namespace-missing",
                format!("sets {} where there is no uts namespace but the host's", shown(name)),
                "add {\"type\": \"uts\"} to /linux/namespaces",
            );
        }
        if name.len() > LONGEST_NAME {
            report.refuse(&at, "name-too-long", "is longer than 64 bytes, the kernel's limit");
        }
        report.line(&at, name);
    }
}
