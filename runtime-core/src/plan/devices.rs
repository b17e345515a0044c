//! Device nodes and the links of `/dev`.
//!
//! A `/dev` that is a new tmpfs is filled while it is detached, so the image's `/dev` is never walked but as one mount target
//! (CVE-2026-41579, CVE-2026-47766). In a user namespace nodes cannot be made: the host's are bound, verified when they are opened.
//!
//! Must not: look at files. Tests: golden plans; `tests` package, filesystem.

use super::mounts;
use super::script::Script;
use crate::error::{Phase, Result};
use crate::validate::DeviceKind;
use coracle_init::program::{LINK_REPLACE, Slot, Step};

pub(crate) const S_IFCHR: u32 = 0o020_000;
pub(crate) const S_IFBLK: u32 = 0o060_000;
const S_IFIFO: u32 = 0o010_000;

/// One node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// Its pointer, or empty for the runtime's own.
    pub(crate) pointer: String,
    /// Absolute inside the container.
    pub(crate) path: String,
    pub(crate) kind: DeviceKind,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    /// Permission bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// What stands where `/dev` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DevMount {
    /// A new tmpfs: nodes and links are made in it.
    Tmpfs,
    /// A bind: the caller brought nodes and links.
    Bind,
    /// The rootfs itself (or another file system): nodes and links are made in it after the mounts.
    Plain,
}

/// Everything that decides about devices.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The specification's default devices and those of `/linux/devices`, without duplicates.
    pub(crate) nodes: Vec<Node>,
    pub(crate) dev: DevMount,
    /// Names directly below `/dev` that later mounts need as directories: made with it, they need not be looked for.
    pub(crate) mount_points: Vec<String>,
    /// procfs is mounted at `/proc`: the links into it have something to point at.
    pub(crate) proc_mounted: bool,
    /// devpts is mounted at `/dev/pts`.
    pub(crate) pts_mounted: bool,
    /// Bind the host's nodes instead of making new ones.
    pub(crate) bind_nodes: bool,
}

impl Wanted {
    /// Whether this node is the host's.
    pub(crate) fn is_bound(&self, node: &Node) -> bool {
        let brought = self.dev == DevMount::Bind;
        self.bind_nodes && node.kind != DeviceKind::Fifo && !brought
    }
}

/// The default devices of config-linux.md.
pub(crate) fn defaults() -> impl Iterator<Item = Node> {
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)]
        .into_iter()
        .map(|(name, major, minor)| Node {
            pointer: String::new(),
            path: format!("/dev/{name}"),
            kind: DeviceKind::Char,
            major,
            minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        })
}

/// Fills a detached `/dev`.
///
/// # Errors
/// When the script is full or a string contains NUL.
pub(crate) fn plan_in_dev(script: &mut Script, wanted: &Wanted, tree: Slot) -> Result<()> {
    if !wanted.bind_nodes {
        for node in &wanted.nodes {
            if let Some(name) = node.path.strip_prefix("/dev/") {
                make_node(script, node, tree, name)?;
            }
        }
    }
    for directory in &wanted.mount_points {
        let name = script.str(directory)?;
        script.step("", Phase::Devices, Step::MakeDir { tree, name, mode: 0o755 });
    }
    links(script, wanted, tree, "")
}

/// Binds the host's nodes into an attached `/dev`.
///
/// # Errors
/// As [`plan_in_dev`].
pub(crate) fn plan_bound_in_dev(script: &mut Script, wanted: &Wanted, trees: &[Option<Slot>]) -> Result<()> {
    let nodes = wanted.nodes.iter().zip(trees);
    for (node, tree) in nodes.filter(|(n, _)| wanted.bind_nodes && n.path.starts_with("/dev/")) {
        bind_node(script, node, *tree)?;
    }
    Ok(())
}

/// Makes what does not lie in a new `/dev`, after all mounts.
///
/// # Errors
/// As [`plan_in_dev`].
pub(crate) fn plan_outside_dev(script: &mut Script, wanted: &Wanted, trees: &[Option<Slot>]) -> Result<()> {
    if wanted.dev == DevMount::Bind {
        return Ok(());
    }
    for (node, tree) in wanted.nodes.iter().zip(trees) {
        if wanted.dev == DevMount::Tmpfs && node.path.starts_with("/dev/") {
            continue;
        }
        if wanted.bind_nodes {
            bind_node(script, node, *tree)?;
        } else {
            make_node(script, node, Slot::NONE, &node.path)?;
        }
    }
    if wanted.dev == DevMount::Plain {
        links(script, wanted, Slot::NONE, "/dev/")?;
    }
    Ok(())
}

fn make_node(script: &mut Script, node: &Node, tree: Slot, path: &str) -> Result<()> {
    let kind = match node.kind {
        DeviceKind::Char => S_IFCHR,
        DeviceKind::Block => S_IFBLK,
        DeviceKind::Fifo => S_IFIFO,
    };
    let path = script.str(path)?;
    let dev = if node.kind == DeviceKind::Fifo { 0 } else { rustix::fs::makedev(node.major, node.minor) };
    let owner = (u64::from(node.uid) << 32) | u64::from(node.gid);
    let step = Step::MakeNode { tree, path, mode: kind | (node.mode & 0o7777), dev, owner };
    script.step(node.pointer.clone(), Phase::Devices, step);
    Ok(())
}

fn bind_node(script: &mut Script, node: &Node, tree: Option<Slot>) -> Result<()> {
    let Some(tree) = tree else { return make_node(script, node, Slot::NONE, &node.path) };
    let pointer = node.pointer.clone();
    detach_from_host(script, &pointer, Phase::Devices, tree);
    let target = script.str(&node.path)?;
    script.step(pointer, Phase::Devices, Step::Attach { tree, target, flags: 0 });
    script.step("", Phase::Devices, Step::Close { fd: tree });
    Ok(())
}

/// A clone of a node is a peer of the host's `/dev`: what the container mounts over it would appear on the host's node.
pub(crate) fn detach_from_host(script: &mut Script, pointer: &str, phase: Phase, tree: Slot) {
    let set = mounts::ATTR_NOSUID | mounts::ATTR_NOEXEC;
    let (clear, propagation, recursive, userns) = (0, mounts::MS_PRIVATE, false, Slot::NONE);
    let step = Step::TreeAttr { tree, set, clear, propagation, recursive, userns };
    script.step(pointer.to_owned(), phase, step);
}

fn links(script: &mut Script, wanted: &Wanted, tree: Slot, prefix: &str) -> Result<()> {
    let proc = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("core", "/proc/kcore"),
    ];
    let mut link = |name: &str, target: &str, flags: u32| -> Result<()> {
        let path = script.arena.concat(&[prefix, name])?;
        let target = script.str(target)?;
        script.step("", Phase::Devices, Step::MakeLink { tree, path, target, flags });
        Ok(())
    };
    for (name, target) in proc.into_iter().filter(|_| wanted.proc_mounted) {
        link(name, target, 0)?;
    }
    if wanted.pts_mounted {
        link("ptmx", "pts/ptmx", LINK_REPLACE)?;
    }
    Ok(())
}
