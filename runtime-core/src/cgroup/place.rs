//! Where in a container's cgroup a further process goes: below it by name, or beside its first process.
//!
//! Must not: leave the container's cgroup. Tests: `tests/root/exec_cgroup.rs`.

use std::os::fd::OwnedFd;

use rustix::fs::OFlags;

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
        let Some(member) = self.v2() else { return Ok(None) };
        let number = pid.to_string();
        let mut found = None;
        walk(&member.dir, &mut |dir| {
            // A threaded one has no list of processes.
            if found.is_none()
                && dir.read("cgroup.procs").is_ok_and(|all| all.lines().any(|one| one == number))
            {
                found = Some(dir.file(".", OFlags::RDONLY | OFlags::DIRECTORY)?);
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// The version 2 directory for a further process that is cloned into it: this one, or where `pid` is when this one hands controllers
    /// down to cgroups below it.
    ///
    /// # Errors
    /// A directory cannot be read.
    pub(crate) fn directory_beside(&self, pid: Option<i32>) -> Result<Option<OwnedFd>> {
        /// Links of a directory without directories.
        const ALONE: u128 = 2;
        let Some((member, fd)) = self.v2().zip(self.into_cgroup_fd()) else { return Ok(None) };
        // One cheap look for what almost none has; controllers are handed down where processes are below alone.
        let links = rustix::fs::fstat(fd).map_or(ALONE, |stat| u128::from(stat.st_nlink));
        if let Some(pid) = pid.filter(|_| links != ALONE) {
            let down = member.dir.read("cgroup.subtree_control")?;
            let found = if down.trim().is_empty() { None } else { self.directory_of(pid)? };
            if found.is_some() {
                return Ok(found);
            }
        }
        let copy = rustix::io::fcntl_dupfd_cloexec(fd, 0);
        copy.map(Some).map_err(|e| CgroupError::call("duplicate", member.dir.path(), e))
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
