//! The plan of a process that adds mounts to a running container, or takes some away.
//!
//! What is on the host is opened there: by the parent or, with a user namespace, by the process itself in a copy of the host's mounts that
//! belongs to that namespace, where the kernel locks their flags (see `sources.rs`). The rest is done in the container's mount
//! namespace, below its root. Its paths belong to whoever runs in it: no link is followed there.
//!
//! Must not: look at files. Tests: `tests` package, hotplug.

use super::mounts::{self, MS_PRIVATE};
use super::script::{Open, Script};
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::validate::{NamespaceKind, ValidMount};
use coracle_init::program::{ATTACH_NO_LINKS, OPEN_RECURSIVE, Slot, Step};
use std::path::Path;

/// File systems that show the namespaces, the cgroup or the terminals of whoever makes them.
const OF_THE_MAKER: [&str; 6] = ["proc", "sysfs", "cgroup", "cgroup2", "mqueue", "devpts"];

/// What has to be known of the container.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) bundle: &'a Path,
    pub(crate) rootfs: &'a Path,
    /// It has a user namespace of its own.
    pub(crate) user_namespace: bool,
    /// Id 0 exists there.
    pub(crate) root_is_mapped: bool,
    /// setgroups(2) is denied there.
    pub(crate) groups_denied: bool,
    pub(crate) kernel: (u32, u32),
}

/// Plans to add them all. Every source is open before the first one is attached.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for what cannot be added, with its pointer.
pub(crate) fn add(list: &[ValidMount], target: Target<'_>) -> Result<Script> {
    let mut script = Script::new();
    for mount in list {
        refuse(mount)?;
    }
    script.step("", Phase::Namespaces, Step::NonDumpable);
    let init = join_user_namespace(&mut script, target)?;
    let mut trees = Vec::new();
    for mount in list {
        trees.push(open(&mut script, mount, target)?);
    }
    if target.user_namespace && target.root_is_mapped {
        let groups = !target.groups_denied;
        script.step("", Phase::Namespaces, Step::NamespaceRoot { groups, uid: 0, gid: 0 });
        script.step("", Phase::Namespaces, Step::NonDumpable);
    }
    join(&mut script, init, NamespaceKind::Mount)?;
    for (mount, tree) in list.iter().zip(trees) {
        let tree = match (tree, mount.options.bind) {
            (None, Some(recursive)) => Some(open_inside(&mut script, mount, recursive, target)?),
            (tree, _) => tree,
        };
        match tree {
            Some(tree) => mounts::bind(&mut script, mount, (tree, None), MS_PRIVATE, ATTACH_NO_LINKS)?,
            None => mounts::new(&mut script, mount, target.kernel, ATTACH_NO_LINKS)?,
        }
    }
    finish(script)
}

/// Plans to take away what is mounted at these destinations, lazily.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for what isolates the container.
pub(crate) fn remove(list: &[ValidMount], user_namespace: bool) -> Result<Script> {
    let mut script = Script::new();
    script.step("", Phase::Namespaces, Step::NonDumpable);
    let target = Target {
        bundle: Path::new("/"),
        rootfs: Path::new("/"),
        user_namespace,
        root_is_mapped: false,
        groups_denied: true,
        kernel: (0, 0),
    };
    let init = enter_user_namespace(&mut script, target)?;
    join(&mut script, init, NamespaceKind::Mount)?;
    for mount in list {
        let top = ["/proc", "/sys"].iter().any(|top| {
            mount.destination.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        if top || matches!(mount.destination.as_str(), "/" | "/dev") {
            return Err(unsupported(
                mount,
                "destination",
                "cannot be removed: the container's isolation is made of it",
            ));
        }
        let place = script.str(&mount.destination)?;
        let pointer = format!("/mounts/{}/destination", mount.index);
        script.step(pointer, Phase::Mounts, Step::Unmount { target: place });
    }
    finish(script)
}

fn refuse(mount: &ValidMount) -> Result<()> {
    if mount.options.remount {
        return Err(unsupported(mount, "options", "cannot be changed: only new mounts can be added"));
    }
    if mount.idmap.is_some() {
        return Err(unsupported(mount, "options", "cannot be added with ids mapped"));
    }
    if OF_THE_MAKER.contains(&mount.kind.as_str()) {
        return Err(unsupported(mount, "type", "cannot be added to a running container"));
    }
    if mount.destination == "/" {
        return Err(unsupported(mount, "destination", "is the container's root"));
    }
    Ok(())
}

fn unsupported(mount: &ValidMount, key: &str, text: &'static str) -> Error {
    Error::new(ErrorKind::Unsupported, text)
        .at(format!("/{}/{key}", mount.index))
        .in_phase(Phase::Mounts)
        .with_code("mount-unsupported")
}

fn enter_user_namespace(script: &mut Script, target: Target<'_>) -> Result<Slot> {
    let all = i32::try_from(NamespaceKind::Mount.clone_flag() | NamespaceKind::User.clone_flag());
    let nstype = all.unwrap_or_default();
    let init = script.open("", Phase::Namespaces, |slot| Open::InitNamespace { nstype, slot })?;
    if target.user_namespace {
        join(script, init, NamespaceKind::User)?;
    }
    Ok(init)
}

fn join_user_namespace(script: &mut Script, target: Target<'_>) -> Result<Slot> {
    let init = enter_user_namespace(script, target)?;
    if target.user_namespace {
        let flags = NamespaceKind::Mount.clone_flag();
        script.step("", Phase::Namespaces, Step::Unshare { flags });
    }
    Ok(init)
}

fn join(script: &mut Script, fd: Slot, kind: NamespaceKind) -> Result<()> {
    let nstype = i32::try_from(kind.clone_flag())
        .map_err(|_| Error::new(ErrorKind::State, "join a namespace: its type is unknown"))?;
    script.step("", Phase::Namespaces, Step::JoinNamespace { fd, nstype });
    Ok(())
}

/// A source on the host; none for a new file system, and for one below the container's root, whose links are the container's.
fn open(script: &mut Script, mount: &ValidMount, target: Target<'_>) -> Result<Option<Slot>> {
    let Some(recursive) = mount.options.bind else { return Ok(None) };
    let path = target.bundle.join(&mount.source);
    if mounts::inside_root(target.rootfs, &path).is_some() {
        return Ok(None);
    }
    let pointer = format!("/mounts/{}/source", mount.index);
    if !target.user_namespace {
        let open = |slot| Open::Tree { path, recursive, nofollow: false, slot };
        return script.open(pointer, Phase::Mounts, open).map(Some);
    }
    let out = script.slot()?;
    let path = script.str(&path.to_string_lossy())?;
    let flags = if recursive { OPEN_RECURSIVE } else { 0 };
    script.step(pointer, Phase::Mounts, Step::OpenHostTree { path, flags, mode: 0, dev: 0, out });
    Ok(Some(out))
}

fn open_inside(script: &mut Script, mount: &ValidMount, recursive: bool, target: Target<'_>) -> Result<Slot> {
    let inner = mounts::inside_root(target.rootfs, &target.bundle.join(&mount.source)).unwrap_or_default();
    let (path, out) = (script.str(&inner)?, script.slot()?);
    let step = Step::OpenInnerTree { path, recursive, nofollow: false, out };
    script.step(format!("/mounts/{}/source", mount.index), Phase::Mounts, step);
    Ok(out)
}

/// Pointers start at the list itself.
fn finish(mut script: Script) -> Result<Script> {
    script.step("", Phase::Mounts, Step::Quit);
    script.shorten_pointers("/mounts");
    Ok(script)
}
