//! The root filesystem and the mounts, in the order in which they are listed.
//!
//! Every tree is made or cloned detached, gets all of its attributes there, and is attached by descriptor last: nothing is ever
//! visible with weaker flags than asked for. Sources on the host are open before the first mount is made (`sources.rs`); a source below
//! the root is resolved inside the root when its turn comes, so it sees the mounts before it and can never lead out.
//!
//! Must not: look at files. Tests: at the end of this file; golden plans; `tests` package, filesystem and hostile.

use super::script::Script;
pub(crate) use super::sources::inside_root;
use super::sources::{Opened, Sources, directory_name, legacy_hierarchies};
use super::{devices, lsm};
use crate::cgroup::{CgroupPlan, Layout};
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::validate::{MountOptions, Propagation, PropagationKind, ValidMount, superblock};
use coracle_init::program::{ATTACH_NO_LINKS, ATTACH_ON_PROC, ATTACH_TAKE_MODE, Slot, Step, StrList};
use std::path::Path;

/// `MOUNT_ATTR_RDONLY` of mount_setattr(2).
pub(crate) const ATTR_RDONLY: u64 = 0x1;
pub(crate) const ATTR_NOSUID: u64 = 0x2;
const ATTR_NODEV: u64 = 0x4;
pub(crate) const ATTR_NOEXEC: u64 = 0x8;
/// Attributes of the empty directory that masks are made of.
pub(crate) const ATTRS_EMPTY: u64 = ATTR_RDONLY | ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC;
/// `MS_*` propagation flags of mount(2), which mount_setattr(2) takes too.
const MS_UNBINDABLE: u64 = 1 << 17;
pub(crate) const MS_PRIVATE: u64 = 1 << 18;
pub(crate) const MS_SLAVE: u64 = 1 << 19;
pub(crate) const MS_SHARED: u64 = 1 << 20;

/// What decides about the mounts besides the list itself.
#[derive(Debug)]
pub(crate) struct Surroundings<'a> {
    /// Absolute path of the bundle: relative bind sources start there.
    pub(crate) bundle: &'a Path,
    /// Absolute path of the root filesystem on the host.
    pub(crate) rootfs: &'a Path,
    /// `root.readonly`.
    pub(crate) readonly: bool,
    /// `rootfsPropagation`; none: unset.
    pub(crate) propagation: Option<Propagation>,
    /// Init opens what comes from the host: there is a user namespace.
    pub(crate) inside: bool,
    /// The parent cannot help with that.
    pub(crate) rootless: bool,
    /// A cgroup namespace of its own.
    pub(crate) cgroup_namespace: bool,
    /// Whether hooks look at the rootfs by its host path, or the change of the root moves it from there.
    pub(crate) classic_root: bool,
    pub(crate) kernel: (u32, u32),
    /// SELinux label of what is mounted (`linux.mountLabel`), as an option: `context=LABEL`.
    pub(crate) label: Option<&'a str>,
    pub(crate) cgroups: &'a Layout,
    /// The container's own control groups.
    pub(crate) cgroup: &'a CgroupPlan,
    pub(crate) devices: &'a devices::Wanted,
}

/// What later parts of the plan need to know of the mounts.
#[derive(Debug, Default)]
pub(crate) struct Mounted {
    /// The devpts instance at `/dev/pts`.
    pub(crate) devpts: Option<Slot>,
}

/// File systems that have nothing to do with the network namespace they are made in; sysfs has.
const WITHOUT_NETWORK: [&str; 6] = ["proc", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2"];

/// Plans the root and all mounts, and the devices with them.
///
/// # Errors
/// [`ErrorKind::Unsupported`] when a mount cannot be had here; [`ErrorKind::InvalidSpec`] for NUL in strings.
///
/// `network` is called before the first mount that belongs to the network namespace.
pub(crate) fn plan(
    script: &mut Script,
    mounts: &[ValidMount],
    sources: &mut Sources,
    around: &Surroundings<'_>,
    network: &mut dyn FnMut(&mut Script),
) -> Result<Mounted> {
    let base = base_propagation(around);
    script.step(
        "/linux/rootfsPropagation",
        Phase::Rootfs,
        Step::Propagation { flags: if base == MS_SHARED { MS_SLAVE } else { base }, recursive: true },
    );
    let root = sources.root;
    let opened = std::mem::take(&mut sources.mounts);

    // pivot_root(2) refuses a shared root; submounts of a shared root stay the peers that they are.
    let (propagation, recursive) = if base == MS_SHARED { (MS_PRIVATE, false) } else { (base, true) };
    tree_attr(script, "/root/path", Phase::Rootfs, root, Attr { propagation, recursive, ..Attr::default() });
    let place = if around.classic_root { &*around.rootfs.to_string_lossy() } else { "/" };
    let path = script.str(place)?;
    script.step("/root/path", Phase::Rootfs, Step::AttachRoot { tree: root, path });

    let mut mounted = Mounted::default();
    for (mount, source) in mounts.iter().zip(opened) {
        if !WITHOUT_NETWORK.contains(&mount.kind.as_str()) && !mount.options.is_bind() {
            network(script);
        }
        plan_one(script, mount, source, (around, sources), base, &mut mounted)?;
    }
    devices::plan_outside_dev(script, around.devices, &sources.nodes)?;
    Ok(mounted)
}

/// Read-only root and `/dev`, after the last mount point was made.
///
/// # Errors
/// As [`plan`].
pub(crate) fn plan_readonly(
    script: &mut Script,
    mounts: &[ValidMount],
    around: &Surroundings<'_>,
) -> Result<()> {
    for mount in mounts.iter().filter(|m| m.destination == "/dev" && m.kind == "tmpfs" && !m.options.remount)
    {
        if alone(&mount.options) & ATTR_RDONLY != 0 {
            let target = script.str(&mount.destination)?;
            let (set, clear, propagation, recursive) = (ATTR_RDONLY, 0, 0, false);
            let step = Step::Remount { target, set, clear, propagation, recursive };
            script.step(format!("/mounts/{}/options", mount.index), Phase::Mounts, step);
        }
    }
    if around.readonly {
        script.step("/root/readonly", Phase::Rootfs, Step::RootReadonly);
    }
    Ok(())
}

/// Without a word, mounts of the host come in but none go out, which is what runc and crun do. An unbindable root is private until
/// everything that has to be cloned from it was.
fn base_propagation(around: &Surroundings<'_>) -> u64 {
    match around.propagation.map_or(MS_SLAVE, |wanted| propagation_flag(wanted.kind)) {
        MS_UNBINDABLE => MS_PRIVATE,
        other => other,
    }
}

/// `MS_*` of a kind of propagation.
pub(crate) fn propagation_flag(kind: PropagationKind) -> u64 {
    match kind {
        PropagationKind::Private => MS_PRIVATE,
        PropagationKind::Slave => MS_SLAVE,
        PropagationKind::Shared => MS_SHARED,
        PropagationKind::Unbindable => MS_UNBINDABLE,
    }
}

#[derive(Default)]
struct Attr {
    set: u64,
    clear: u64,
    propagation: u64,
    recursive: bool,
}

fn tree_attr(script: &mut Script, pointer: &str, phase: Phase, tree: Slot, attr: Attr) {
    let Attr { set, clear, propagation, recursive } = attr;
    if set | clear | propagation != 0 {
        let step = Step::TreeAttr { tree, set, clear, propagation, recursive, userns: Slot::NONE };
        script.step(pointer.to_owned(), phase, step);
    }
}

fn plan_one(
    script: &mut Script,
    mount: &ValidMount,
    opened: Opened,
    (around, sources): (&Surroundings<'_>, &Sources),
    base: u64,
    mounted: &mut Mounted,
) -> Result<()> {
    let flags = &mount.options;
    if flags.remount {
        return plan_remount(script, mount);
    }
    let pointer = format!("/mounts/{}", mount.index);
    match opened {
        Opened::Host(tree) => bind(script, mount, (tree, sources.user_namespace(mount)), base, 0),
        Opened::CgroupTrees(trees) => plan_legacy_cgroups(script, mount, Some(trees), around),
        Opened::Later if flags.bind.is_some() => {
            let inner = inside_root(around.rootfs, &around.bundle.join(&mount.source)).unwrap_or_default();
            let path = script.str(&inner)?;
            let out = script.slot()?;
            let step =
                Step::OpenInnerTree { path, recursive: flags.bind == Some(true), nofollow: false, out };
            script.step(format!("{pointer}/source"), Phase::Mounts, step);
            bind(script, mount, (out, sources.user_namespace(mount)), base, 0)
        }
        Opened::Later if mount.kind == "cgroup" && !legacy_hierarchies(around).is_empty() => {
            plan_legacy_cgroups(script, mount, None, around)
        }
        Opened::Later => {
            let fstype = if mount.kind == "cgroup" { "cgroup2" } else { mount.kind.as_str() };
            let data = flags.data.as_slice();
            let context = lsm::mount_option(around.label, fstype, data);
            let version = counted(mount, fstype, around.kernel)?;
            let words = options(script, flags, data.iter().chain(&context).chain(&version), false)?;
            let is_dev = mount.destination == "/dev" && mount.kind == "tmpfs";
            // What is filled or takes its mode from what it covers is made read-only after it was attached, `/dev` after all mounts.
            let set = alone(flags);
            let late = if mount.kind == "tmpfs" { set & ATTR_RDONLY } else { 0 };
            let attrs = set & !late;
            let tree = new_fs(script, &pointer, fstype, &mount.source, words, attrs)?;
            if mount.kind == "devpts" {
                mounted.devpts = Some(tree);
            }
            if is_dev {
                devices::plan_in_dev(script, around.devices, tree)?;
            }
            if flags.tmpcopyup {
                let target = script.str(&mount.destination)?;
                script.step(pointer.clone(), Phase::Mounts, Step::CopyUp { tree, target });
            }
            propagate(script, mount, tree);
            attach(script, mount, tree, 0)?;
            if is_dev {
                devices::plan_bound_in_dev(script, around.devices, &sources.nodes)?;
            } else {
                tree_attr(script, &pointer, Phase::Mounts, tree, Attr { set: late, ..Attr::default() });
            }
            if mount.kind != "devpts" {
                script.step("", Phase::Mounts, Step::Close { fd: tree });
            }
            Ok(())
        }
    }
}

/// Options for fsconfig(2). Read-only is not among them: super blocks of sysfs, cgroup and others are shared, so it is the mount's.
/// `silent` and `loud` have no name there: they only concern the kernel's log. For `iversion` see [`counted`].
fn options<'d>(
    script: &mut Script,
    flags: &MountOptions,
    data: impl IntoIterator<Item = &'d String>,
    change: bool,
) -> Result<StrList> {
    const SWITCHES: [(u64, &str, &str); 4] = [
        (superblock::SYNCHRONOUS, "sync", "async"),
        (superblock::DIRSYNC, "dirsync", ""),
        (superblock::LAZYTIME, "lazytime", "nolazytime"),
        (superblock::MANDLOCK, "mand", "nomand"),
    ];
    let mut words = Vec::new();
    for (bit, on, off) in SWITCHES {
        if flags.superblock.set & bit != 0 {
            words.push(on);
        } else if change && flags.superblock.clear & bit != 0 && !off.is_empty() {
            words.push(off);
        }
    }
    words.extend(data.into_iter().map(String::as_str));
    script.arena.list(words)
}

fn new_fs(
    script: &mut Script,
    pointer: &str,
    fstype: &str,
    source: &str,
    options: StrList,
    attrs: u64,
) -> Result<Slot> {
    let out = script.slot()?;
    let name = script.str(fstype)?;
    let source = script.str(if source.is_empty() { fstype } else { source })?;
    script.step(pointer.to_owned(), Phase::Mounts, Step::NewFs { fstype: name, source, options, attrs, out });
    Ok(out)
}

/// Attributes of a tree from elsewhere, which is mapped by the user namespace beside it, and its place.
pub(crate) fn bind(
    script: &mut Script,
    mount: &ValidMount,
    (tree, userns): (Slot, Option<Slot>),
    base: u64,
    links: u32,
) -> Result<()> {
    let flags = &mount.options;
    if let (Some(userns), Some(map)) = (userns, &mount.idmap) {
        let (set, clear, propagation, recursive) = (0, 0, 0, map.recursive);
        let step = Step::TreeAttr { tree, set, clear, propagation, recursive, userns };
        script.step(format!("/mounts/{}", mount.index), Phase::Mounts, step);
    }
    let pointer = format!("/mounts/{}/options", mount.index);
    let recursive = flags.bind == Some(true);
    // The clone is a peer of the host's mount until it gets the container's propagation; one call where the words allow it.
    let (first, rest) = match flags.propagation.split_first() {
        Some((first, rest)) if first.recursive || !recursive => (propagation_flag(first.kind), rest),
        _ => (if base == MS_SHARED { 0 } else { base }, flags.propagation.as_slice()),
    };
    let whole =
        Attr { set: flags.recursive.set, clear: flags.recursive.clear, propagation: first, recursive };
    let own = Attr { set: flags.attributes.set, clear: flags.attributes.clear, ..Attr::default() };
    if recursive {
        tree_attr(script, &pointer, Phase::Mounts, tree, whole);
        tree_attr(script, &pointer, Phase::Mounts, tree, own);
    } else {
        let set = whole.set | own.set;
        let attr = Attr { set, clear: whole.clear | own.clear, propagation: first, recursive };
        tree_attr(script, &pointer, Phase::Mounts, tree, attr);
    }
    for word in rest {
        let attr =
            Attr { propagation: propagation_flag(word.kind), recursive: word.recursive, ..Attr::default() };
        tree_attr(script, &pointer, Phase::Mounts, tree, attr);
    }
    attach(script, mount, tree, links)?;
    script.step("", Phase::Mounts, Step::Close { fd: tree });
    Ok(())
}

/// A new file system in a running container; `links`: flags of [`Step::Attach`].
///
/// # Errors
/// [`ErrorKind::Unsupported`] when it cannot be had here.
pub(crate) fn new(script: &mut Script, mount: &ValidMount, kernel: (u32, u32), links: u32) -> Result<()> {
    let (flags, pointer) = (&mount.options, format!("/mounts/{}", mount.index));
    let version = counted(mount, &mount.kind, kernel)?;
    let words = options(script, flags, flags.data.iter().chain(&version), false)?;
    let set = alone(flags);
    let late = if mount.kind == "tmpfs" { set & ATTR_RDONLY } else { 0 };
    let tree = new_fs(script, &pointer, &mount.kind, &mount.source, words, set & !late)?;
    if flags.tmpcopyup {
        let target = script.str(&mount.destination)?;
        script.step(pointer.clone(), Phase::Mounts, Step::CopyUp { tree, target });
    }
    propagate(script, mount, tree);
    attach(script, mount, tree, links)?;
    tree_attr(script, &pointer, Phase::Mounts, tree, Attr { set: late, ..Attr::default() });
    script.step("", Phase::Mounts, Step::Close { fd: tree });
    Ok(())
}

fn propagate(script: &mut Script, mount: &ValidMount, tree: Slot) {
    let pointer = format!("/mounts/{}/options", mount.index);
    for word in &mount.options.propagation {
        let attr =
            Attr { propagation: propagation_flag(word.kind), recursive: word.recursive, ..Attr::default() };
        tree_attr(script, &pointer, Phase::Mounts, tree, attr);
    }
}

/// Attributes of a mount that has none below it: there the recursive words say what the others do, which win.
fn alone(flags: &MountOptions) -> u64 {
    (flags.recursive.set & !flags.attributes.clear) | flags.attributes.set
}

/// `iversion`: since Linux 6.1 every file system that can count changes does; before, btrfs and xfs did, ext4 had a word of its own.
fn counted(mount: &ValidMount, fstype: &str, kernel: (u32, u32)) -> Result<Option<String>> {
    if mount.options.superblock.set & superblock::I_VERSION == 0 || kernel >= (6, 1) {
        return Ok(None);
    }
    match fstype {
        "btrfs" | "xfs" => Ok(None),
        "ext4" => Ok(Some("i_version".to_owned())),
        _ => Err(Error::new(
            ErrorKind::Unsupported,
            "count the changes of files: not before Linux 6.1 on this file system",
        )
        .at(format!("/mounts/{}/options", mount.index))
        .in_phase(Phase::Mounts)
        .with_code("iversion")),
    }
}

fn attach(script: &mut Script, mount: &ValidMount, tree: Slot, links: u32) -> Result<()> {
    let target = script.str(&mount.destination)?;
    let mut flags = links;
    if matches!(mount.destination.as_str(), "/proc" | "/sys") {
        flags |= ATTACH_NO_LINKS;
    }
    if mount.destination == "/proc" || mount.destination.starts_with("/proc/") {
        flags |= ATTACH_ON_PROC;
    }
    let has_mode = || mount.options.data.iter().any(|word| word.starts_with("mode="));
    if mount.kind == "tmpfs" && !mount.options.is_bind() && !has_mode() {
        flags |= ATTACH_TAKE_MODE;
    }
    let pointer = format!("/mounts/{}/destination", mount.index);
    script.step(pointer, Phase::Mounts, Step::Attach { tree, target, flags });
    Ok(())
}

fn plan_remount(script: &mut Script, mount: &ValidMount) -> Result<()> {
    let flags = &mount.options;
    let pointer = format!("/mounts/{}", mount.index);
    let target = script.str(&mount.destination)?;
    let switches = (flags.superblock.set | flags.superblock.clear) & !superblock::RDONLY;
    if flags.bind.is_none() && (!flags.data.is_empty() || switches != 0) {
        let options = options(script, flags, &flags.data, true)?;
        script.step(pointer.clone(), Phase::Mounts, Step::Reconfigure { target, options });
    }
    for (bits, recursive) in [(flags.recursive, true), (flags.attributes, false)] {
        if !bits.is_empty() {
            let step = Step::Remount { target, set: bits.set, clear: bits.clear, propagation: 0, recursive };
            script.step(pointer.clone(), Phase::Mounts, step);
        }
    }
    for word in &flags.propagation {
        let propagation = propagation_flag(word.kind);
        let step = Step::Remount { target, set: 0, clear: 0, propagation, recursive: word.recursive };
        script.step(pointer.clone(), Phase::Mounts, step);
    }
    Ok(())
}

/// Version 1: a tmpfs with one directory for each hierarchy, and a link for each controller of a co-mounted one.
fn plan_legacy_cgroups(
    script: &mut Script,
    mount: &ValidMount,
    trees: Option<Vec<(String, Slot)>>,
    around: &Surroundings<'_>,
) -> Result<()> {
    let pointer = format!("/mounts/{}", mount.index);
    let flags = &mount.options;
    let readonly = flags.attributes.set & ATTR_RDONLY;
    let context = lsm::mount_option(around.label, "tmpfs", &[]);
    let options = script.arena.list(["mode=755"].into_iter().chain(context.as_deref()))?;
    let base = new_fs(script, &pointer, "tmpfs", "tmpfs", options, flags.attributes.set & !ATTR_RDONLY)?;
    let hierarchies = legacy_hierarchies(around);
    for hierarchy in &hierarchies {
        let directory = directory_name(hierarchy);
        let name = script.str(&directory)?;
        script.step(pointer.clone(), Phase::Cgroup, Step::MakeDir { tree: base, name, mode: 0o755 });
        for controller in hierarchy.controllers.iter().filter(|c| **c != directory) {
            let path = script.str(controller)?;
            script.step(
                pointer.clone(),
                Phase::Cgroup,
                Step::MakeLink { tree: base, path, target: name, flags: 0 },
            );
        }
    }
    attach(script, mount, base, 0)?;
    let attrs = ATTR_NOSUID | ATTR_NODEV | ATTR_NOEXEC | flags.attributes.set;
    for (position, hierarchy) in hierarchies.iter().enumerate() {
        let (directory, tree) = match trees.as_ref().and_then(|trees| trees.get(position)) {
            Some((directory, tree)) => {
                let attr = Attr { set: attrs, propagation: MS_PRIVATE, ..Attr::default() };
                tree_attr(script, &pointer, Phase::Cgroup, *tree, attr);
                (directory.clone(), *tree)
            }
            None => {
                let options = match &hierarchy.name {
                    Some(name) => script.arena.list(["none", &format!("name={name}")])?,
                    None => script.arena.list(&hierarchy.controllers)?,
                };
                (directory_name(hierarchy), new_fs(script, &pointer, "cgroup", "cgroup", options, attrs)?)
            }
        };
        let target = script.arena.concat(&[&mount.destination, "/", &directory])?;
        script.step(pointer.clone(), Phase::Cgroup, Step::Attach { tree, target, flags: 0 });
        script.step("", Phase::Cgroup, Step::Close { fd: tree });
    }
    script.step("", Phase::Cgroup, Step::Close { fd: base });
    if readonly != 0 {
        let target = script.str(&mount.destination)?;
        let step = Step::Remount { target, set: readonly, clear: 0, propagation: 0, recursive: false };
        script.step(pointer, Phase::Cgroup, step);
    }
    Ok(())
}
