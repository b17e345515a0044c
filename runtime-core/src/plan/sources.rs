//! What a container gets of the host: root, bind sources, control groups, device nodes. All of it is open before the first mount.
//!
//! Without a user namespace the parent opens it before the clone. With one, init does: in its copy of the mount namespace the kernel has
//! locked the flags of the host's mounts (mount_namespaces(7)), and what is cloned there keeps the locks. A tree that the parent cloned
//! would have none, and root of the container could take `ro`, `nosuid`, `nodev` and `noexec` off again. Init is still the host's user
//! then; what that user may not reach it asks the parent for, which has it cloned in the same namespace (`launch/reach.rs`).
//!
//! Must not: look at files. Tests: golden plans; `tests` package, `hostile/locks.rs`.

use super::devices::{self, S_IFBLK, S_IFCHR};
use super::mounts::Surroundings;
use super::script::{Answer, Maps, Open, Script};
use crate::cgroup::layout::{Hierarchy, Version};
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::validate::{DeviceKind, ValidMount};
use coracle_init::program::{OPEN_ASK, OPEN_DIRECTORY, OPEN_LEND, OPEN_NOFOLLOW, OPEN_RECURSIVE, Slot, Step};
use std::path::{Component, Path, PathBuf};

/// Where a mount's tree comes from, once everything on the host is open.
#[derive(Debug)]
pub(crate) enum Opened {
    /// A host tree in this slot.
    Host(Slot),
    /// Version 1 hierarchies to bind, by directory name.
    CgroupTrees(Vec<(String, Slot)>),
    /// Made when its turn comes.
    Later,
}

/// Everything of the host.
#[derive(Debug)]
pub(crate) struct Sources {
    pub(crate) root: Slot,
    /// One for each mount.
    pub(crate) mounts: Vec<Opened>,
    /// One for each device node; none where it is made.
    pub(crate) nodes: Vec<Option<Slot>>,
    /// The null device, when paths are masked.
    pub(crate) null: Option<Slot>,
    /// The slots that may come with `Go`.
    pub(crate) asked: (Slot, u32),
    /// User namespaces for mappings, which init applies itself; none with a user namespace, where it may not.
    pub(crate) maps: Vec<(Maps, Slot)>,
}

/// One thing on the host.
enum Source<'s> {
    Root,
    Bind { path: PathBuf, recursive: bool, lend: bool },
    Cgroup { hierarchy: &'s Hierarchy },
    Node { path: &'s str, kind: u32, major: u32, minor: u32 },
}

const NULL: Source<'static> = Source::Node { path: "/dev/null", kind: S_IFCHR, major: 1, minor: 3 };

/// Plans to open everything.
///
/// # Errors
/// [`ErrorKind::Unsupported`] when there is no such thing here; [`ErrorKind::InvalidSpec`] for NUL in strings.
pub(crate) fn plan(
    script: &mut Script,
    mounts: &[ValidMount],
    around: &Surroundings<'_>,
    masks: bool,
) -> Result<Sources> {
    let first = Slot(script.slots());
    let null = masks.then(|| open(script, around, "/linux/maskedPaths", Phase::Rootfs, NULL)).transpose()?;
    let root = open(script, around, "/root/path", Phase::Rootfs, Source::Root)?;
    let opened = mounts.iter().map(|mount| of_mount(script, mount, around)).collect::<Result<_>>()?;
    let nodes =
        around.devices.nodes.iter().map(|node| of_node(script, node, around)).collect::<Result<_>>()?;
    let count = if around.inside && !around.rootless { script.slots().saturating_sub(first.0) } else { 0 };
    let mut maps: Vec<(Maps, Slot)> = Vec::new();
    for mount in mounts.iter().filter(|_| !around.inside) {
        let Some((uids, gids)) = mount.idmap.as_ref().and_then(|map| map.own.as_ref()) else { continue };
        let wanted = Maps::new(uids, gids);
        if !maps.iter().any(|(known, _)| *known == wanted) {
            let (pointer, copy) = (format!("/mounts/{}/uidMappings", mount.index), wanted.clone());
            let slot =
                script.open(pointer, Phase::Mounts, |slot| Open::UserNamespace { maps: copy, slot })?;
            maps.push((wanted, slot));
        }
    }
    Ok(Sources { root, mounts: opened, nodes, null, asked: (first, count.into()), maps })
}

impl Sources {
    /// The user namespace with a mount's own mappings.
    pub(crate) fn user_namespace(&self, mount: &ValidMount) -> Option<Slot> {
        let (uids, gids) = mount.idmap.as_ref()?.own.as_ref()?;
        let wanted = Maps::new(uids, gids);
        self.maps.iter().find(|(maps, _)| *maps == wanted).map(|(_, slot)| *slot)
    }
}

fn open(
    script: &mut Script,
    around: &Surroundings<'_>,
    pointer: &str,
    phase: Phase,
    source: Source<'_>,
) -> Result<Slot> {
    let pointer = pointer.to_owned();
    if !around.inside {
        return script.open(pointer, phase, |slot| match source {
            Source::Root => Open::Root { path: around.rootfs.to_path_buf(), slot },
            Source::Bind { path, recursive, .. } => Open::Tree { path, recursive, nofollow: false, slot },
            Source::Cgroup { hierarchy } => Open::CgroupTree { hierarchy: hierarchy.key().to_string(), slot },
            Source::Node { path: "/dev/null", kind: S_IFCHR, major: 1, minor: 3 } => Open::Null { slot },
            Source::Node { path, kind, major, minor } => {
                let (path, block) = (PathBuf::from(path), kind == S_IFBLK);
                Open::Node { path, block, major, minor, slot }
            }
        });
    }
    let (path, mut flags) = match &source {
        Source::Root => (around.rootfs.to_string_lossy().into_owned(), OPEN_RECURSIVE | OPEN_DIRECTORY),
        Source::Bind { path, recursive, lend } => {
            let flag = |on: &bool, flag: u32| if *on { flag } else { 0 };
            let flags = flag(recursive, OPEN_RECURSIVE) | flag(lend, OPEN_LEND);
            (path.to_string_lossy().into_owned(), flags)
        }
        Source::Cgroup { hierarchy } => (own_directory(around, hierarchy)?, OPEN_RECURSIVE),
        Source::Node { path, .. } => ((*path).to_owned(), OPEN_NOFOLLOW),
    };
    let (mode, dev) = match source {
        Source::Node { kind, major, minor, .. } => (kind, rustix::fs::makedev(major, minor)),
        _ => (0, 0),
    };
    if !around.rootless {
        flags |= OPEN_ASK;
    }
    let out = script.slot()?;
    let path = script.str(&path)?;
    script.step(pointer, phase, Step::OpenHostTree { path, flags, mode, dev, out });
    Ok(out)
}

/// The container's directory in a hierarchy of version 1. An ordinary user has none and shows the whole.
fn own_directory(around: &Surroundings<'_>, hierarchy: &Hierarchy) -> Result<String> {
    if around.rootless {
        return Ok(hierarchy.mount.clone());
    }
    let key = hierarchy.key();
    let directory = around.cgroup.directories.iter().find(|d| d.hierarchy == key).ok_or_else(|| {
        let text = format!("the container has no cgroup in hierarchy {key}");
        Error::new(ErrorKind::Unsupported, text).in_phase(Phase::Cgroup)
    })?;
    Ok(format!("{}/{}", directory.mount, directory.path.as_str()))
}

fn of_mount(script: &mut Script, mount: &ValidMount, around: &Surroundings<'_>) -> Result<Opened> {
    if let Some(recursive) = mount.options.bind.filter(|_| !mount.options.remount) {
        let path = around.bundle.join(&mount.source);
        let below = inside_root(around.rootfs, &path).is_some();
        if let Some(reason) = unmappable(mount, around, below) {
            return Err(Error::new(ErrorKind::Unsupported, reason)
                .at(format!("/mounts/{}", mount.index))
                .in_phase(Phase::Mounts)
                .with_code("idmap-unsupported"));
        }
        if below {
            return Ok(Opened::Later);
        }
        let pointer = format!("/mounts/{}/source", mount.index);
        // The file system is the host's, so the mapping is the parent's to set.
        let mapped = mount.idmap.as_ref().filter(|_| around.inside);
        let source = Source::Bind { path, recursive, lend: mapped.is_some() };
        let tree = open(script, around, &pointer, Phase::Mounts, source)?;
        if let Some(map) = mapped {
            let maps = map.own.as_ref().map(|(uids, gids)| Maps::new(uids, gids));
            let answer = Answer::IdMapTree { tree, recursive: map.recursive, maps };
            script.answer(format!("/mounts/{}", mount.index), Phase::Mounts, answer);
        }
        return Ok(Opened::Host(tree));
    }
    if mount.kind == "cgroup" && !around.cgroup_namespace {
        return of_cgroup(script, mount, around);
    }
    Ok(Opened::Later)
}

/// Why the ids of a mount cannot be mapped here.
fn unmappable(mount: &ValidMount, around: &Surroundings<'_>, below: bool) -> Option<&'static str> {
    mount.idmap.as_ref()?;
    if around.rootless {
        Some("map ids of a mount: only who administers the machine may do that")
    } else if around.kernel < (5, 12) {
        Some("map ids of a mount: the kernel cannot do that before Linux 5.12")
    } else if below && around.inside {
        Some("map ids of a mount: with a user namespace its source cannot lie in the root filesystem")
    } else {
        None
    }
}

fn of_cgroup(script: &mut Script, mount: &ValidMount, around: &Surroundings<'_>) -> Result<Opened> {
    let pointer = format!("/mounts/{}", mount.index);
    let legacy = legacy_hierarchies(around);
    if !legacy.is_empty() {
        let trees = legacy.iter().map(|hierarchy| {
            let slot = open(script, around, &pointer, Phase::Cgroup, Source::Cgroup { hierarchy })?;
            Ok((directory_name(hierarchy), slot))
        });
        return trees.collect::<Result<_>>().map(Opened::CgroupTrees);
    }
    // Without a cgroup namespace `/proc/self/cgroup` shows the host's path, so the whole tree has to be there. A clone of the host's mount
    // instead of a new one: mounting cgroup2 from the initial cgroup namespace waits for an RCU grace period.
    let hierarchy =
        around.cgroups.hierarchies.iter().find(|h| h.version == Version::V2).ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, "mount cgroups: this host has no cgroup hierarchy")
                .at(pointer.clone())
                .in_phase(Phase::Cgroup)
                .with_code("cgroup-absent")
        })?;
    let path = PathBuf::from(&hierarchy.mount);
    // What is mounted below cannot be left out in a user namespace: that would show what it hides.
    let source = Source::Bind { path, recursive: around.inside, lend: false };
    open(script, around, &pointer, Phase::Cgroup, source).map(Opened::Host)
}

fn of_node(script: &mut Script, node: &devices::Node, around: &Surroundings<'_>) -> Result<Option<Slot>> {
    let kind = match node.kind {
        DeviceKind::Char => S_IFCHR,
        DeviceKind::Block => S_IFBLK,
        DeviceKind::Fifo => return Ok(None),
    };
    if !around.devices.is_bound(node) {
        return Ok(None);
    }
    let (path, major, minor) = (node.path.as_str(), node.major, node.minor);
    let source = Source::Node { path, kind, major, minor };
    open(script, around, &node.pointer, Phase::Devices, source).map(Some)
}

/// The hierarchies of version 1.
pub(crate) fn legacy_hierarchies<'a>(around: &Surroundings<'a>) -> Vec<&'a Hierarchy> {
    around.cgroups.hierarchies.iter().filter(|h| h.version == Version::V1).collect()
}

/// How a hierarchy's directory is called where all are mounted.
pub(crate) fn directory_name(hierarchy: &Hierarchy) -> String {
    Path::new(&hierarchy.mount)
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// The part of a source that lies below the rootfs by its text. One that leaves it again by `..` is a path of the host.
pub(crate) fn inside_root(rootfs: &Path, source: &Path) -> Option<String> {
    let rest = source.strip_prefix(rootfs).ok()?;
    if rest.components().any(|part| part == Component::ParentDir) {
        return None;
    }
    Some(format!("/{}", rest.to_string_lossy()))
}
