//! Where in a container's cgroup a further process goes: below it by name, or beside its first process.
//!
//! Must not: leave the container's cgroup. Tests: `tests/root/places.rs`.

use std::os::fd::OwnedFd;

use rustix::fs::OFlags;

use super::dir::Dir;
use super::error::{CgroupError, Result};
use super::group::{Cgroup, Member, walk};
use super::layout::Version;
use super::path::CgroupPath;

/// A place below a container's cgroup, in the hierarchies of some controllers or, with none named, in all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Below {
    pub(crate) controllers: Vec<String>,
    pub(crate) path: String,
}

impl Cgroup {
    /// The same cgroup with some of its directories replaced by ones below them, which have to be there.
    ///
    /// # Errors
    /// A path that leads out of it, a controller that it does not have or that is named twice, a directory that is not there.
    pub(crate) fn below(&self, places: &[Below]) -> Result<Self> {
        let wrong = |note: String| Err(CgroupError::check("cgroup", note));
        let mut named: Vec<&str> = Vec::new();
        for place in places {
            if place.controllers.is_empty() && places.len() > 1 {
                return wrong(format!("{:?}: of several places each needs its controllers", place.path));
            }
            for controller in &place.controllers {
                if named.contains(&controller.as_str()) {
                    return wrong(format!("the controller {controller} is named twice"));
                }
                if !self.members().any(|member| has(member, controller)) {
                    return wrong(format!(
                        "the container has no directory for the controller {controller:?}"
                    ));
                }
                named.push(controller);
            }
        }
        let mut moved = Vec::new();
        for member in self.members() {
            let mut all = places.iter().filter(|place| {
                place.controllers.is_empty() || place.controllers.iter().any(|one| has(member, one))
            });
            let place = all.next();
            if let Some(other) = all.find(|other| Some(&other.path) != place.map(|place| &place.path)) {
                return wrong(format!(
                    "{:?}: the hierarchy {} has one place for all its controllers",
                    other.path,
                    member.hierarchy()
                ));
            }
            let path = match place.map(|place| CgroupPath::parse(&place.path)).transpose() {
                Ok(path) => path.unwrap_or_default(),
                Err(reason) => return wrong(format!("the place below the container's cgroup {reason}")),
            };
            moved.push(member.below(&path)?);
        }
        Ok(Self::of(moved))
    }

    /// The version 2 directory below this one that `pid` is in. A container that has cgroups of its own keeps its processes in the
    /// leaves, and the kernel lets nobody into the others ("no internal processes").
    ///
    /// # Errors
    /// A directory cannot be read.
    pub(crate) fn directory_of(&self, pid: i32) -> Result<Option<OwnedFd>> {
        self.found(pid, &mut |dir| dir.file(".", OFlags::RDONLY | OFlags::DIRECTORY))
    }

    /// What `open` opens in that directory.
    fn found(&self, pid: i32, open: &mut dyn FnMut(&Dir) -> Result<OwnedFd>) -> Result<Option<OwnedFd>> {
        let Some(member) = self.v2() else { return Ok(None) };
        let number = pid.to_string();
        let mut found = None;
        walk(&member.dir, &mut |dir| {
            // A threaded one has no list of processes.
            if found.is_none()
                && dir.read("cgroup.procs").is_ok_and(|all| all.lines().any(|one| one == number))
            {
                found = Some(open(dir)?);
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// `cgroup.procs` of a version 2 directory, open for writing, for a further process that is not born there: of this one, or of where
    /// `pid` is when this one hands controllers down to cgroups below it.
    ///
    /// # Errors
    /// A file cannot be read or opened.
    pub(crate) fn entry_beside(&self, pid: Option<i32>) -> Result<Option<OwnedFd>> {
        let Some(member) = self.v2() else { return Ok(None) };
        if let Some(pid) = pid {
            let down = member.dir.read("cgroup.subtree_control")?;
            if !down.trim().is_empty() {
                if let Some(below) = self.found(pid, &mut |dir| dir.file("cgroup.procs", OFlags::WRONLY))? {
                    return Ok(Some(below));
                }
            }
        }
        member.dir.file("cgroup.procs", OFlags::WRONLY).map(Some)
    }

    /// Whether processes in it stand still, because it or one above it is frozen.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(crate) fn stands_still(&self) -> Result<bool> {
        if let Some(member) = self.v2() {
            if member.dir.read_key("cgroup.events", "frozen")? == Some(1) {
                return Ok(true);
            }
        }
        self.is_frozen()
    }
}

fn has(member: &Member, controller: &str) -> bool {
    match member.version() {
        Version::V1 => member.hierarchy().has(controller),
        // By the names in /proc/PID/cgroup version 2 is the one without controllers.
        Version::V2 => controller == "unified" || controller.is_empty(),
    }
}
