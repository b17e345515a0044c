//! A container's cgroup: one open directory for each hierarchy, and what is done with them.
//!
//! Must not: walk a path again (identity is checked whenever a directory is opened from a record), remove what is not
//! ours. Tests: `cgroup/tests.rs`.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::dir::{Dir, Identity};
use super::error::{CgroupError, Result};
use super::layout::{HierarchyKey, Version};
use super::path::CgroupPath;
use super::plan::DirectoryPlan;

/// How long a directory may stay busy after its processes have gone.
const BUSY: Duration = Duration::from_secs(2);

/// A directory above a container's that did not exist before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Made {
    pub(crate) path: CgroupPath,
    pub(crate) inode: u64,
}

/// The directory in one hierarchy.
#[derive(Debug)]
pub(crate) struct Member {
    record: MemberRecord,
    pub(super) dir: Dir,
}

/// What is kept of a [`Member`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct MemberRecord {
    hierarchy: HierarchyKey,
    version: Version,
    mount: String,
    path: CgroupPath,
    device: u64,
    inode: u64,
    /// We made it and may remove it.
    ours: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    made: Vec<Made>,
}

/// What later processes need to find a container's cgroup again; part of the container's record, which is versioned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CgroupRecord {
    members: Vec<MemberRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device_program: Option<u32>,
}

/// A container's cgroup, as open directories. None of them: the container has no cgroup of its own.
///
/// Dropping it closes the directories and changes nothing.
#[derive(Debug, Default)]
pub struct Cgroup {
    members: Vec<Member>,
    pub(super) device_program: Option<u32>,
}

impl Member {
    pub(super) fn new(plan: &DirectoryPlan, dir: Dir, ours: bool, made: Vec<Made>) -> Result<Self> {
        let Identity { device, inode } = dir.identity()?;
        let record = MemberRecord {
            hierarchy: plan.hierarchy.clone(),
            version: plan.version,
            mount: plan.mount.clone(),
            path: plan.path.clone(),
            device,
            inode,
            ours,
            made,
        };
        Ok(Self { record, dir })
    }

    /// Removes directories above that were made for nothing.
    pub(super) fn undo_made(plan: &DirectoryPlan, made: &[Made]) {
        if let Ok(mount) = Dir::mount(&plan.mount, plan.version) {
            remove_made(&mount, made);
        }
    }

    pub(super) fn version(&self) -> Version {
        self.record.version
    }

    pub(super) fn hierarchy(&self) -> &HierarchyKey {
        &self.record.hierarchy
    }

    /// Opens the recorded directory; none if it is gone or another has its name.
    fn open(record: &MemberRecord) -> Result<Option<Self>> {
        let dir = match Dir::mount(&record.mount, record.version).and_then(|mount| mount.below(&record.path))
        {
            Ok(dir) => dir,
            Err(error) if error.is_gone() => return Ok(None),
            Err(error) => return Err(error),
        };
        let is_it = dir.identity()? == Identity { device: record.device, inode: record.inode };
        Ok(is_it.then(|| Self { record: record.clone(), dir }))
    }

    fn remove(&self) -> Result<()> {
        if !self.record.ours {
            return Ok(());
        }
        let mount = Dir::mount(&self.record.mount, self.record.version)?;
        let above = match mount.below(&self.record.path.parent().unwrap_or_default()) {
            Ok(above) => above,
            Err(error) if error.is_gone() => return Ok(()),
            Err(error) => return Err(error),
        };
        let name = self.record.path.name();
        let expected = Identity { device: self.record.device, inode: self.record.inode };
        if above.identity_of(name)? == Some(expected) {
            remove_tree(&above, name, &self.dir, Instant::now() + BUSY)?;
        }
        remove_made(&mount, &self.record.made);
        Ok(())
    }
}

impl Cgroup {
    /// Every hierarchy's directory, for other tools: (hierarchy, path on the host).
    pub fn directories(&self) -> impl Iterator<Item = (String, PathBuf)> + '_ {
        self.members
            .iter()
            .map(|member| (member.record.hierarchy.to_string(), member.dir.path().to_path_buf()))
    }

    /// Whether the container has no cgroup of its own.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.members.is_empty()
    }

    /// What to keep to find it again.
    #[must_use]
    pub fn record(&self) -> CgroupRecord {
        CgroupRecord {
            members: self.members.iter().map(|member| member.record.clone()).collect(),
            device_program: self.device_program,
        }
    }

    /// The version 2 directory for CLONE_INTO_CGROUP: a process made with it is born there.
    #[must_use]
    pub fn into_cgroup_fd(&self) -> Option<BorrowedFd<'_>> {
        self.v2().map(|member| member.dir.as_fd())
    }

    /// Whether [`Cgroup::into_cgroup_fd`] is all that a process needs to be in the container's cgroup.
    #[must_use]
    pub fn is_v2_alone(&self) -> bool {
        matches!(self.members.as_slice(), [one] if one.record.version == Version::V2)
    }

    /// The `tasks` file of each version 1 hierarchy, open for writing: a process enters by writing `0` to each while it
    /// has one thread (then the kernel takes no lock that waits for an RCU grace period, as it does for
    /// `cgroup.procs`). They must not reach the container.
    ///
    /// # Errors
    /// A file cannot be opened.
    pub fn joins(&self) -> Result<Vec<OwnedFd>> {
        let v1 = self.members.iter().filter(|member| member.record.version == Version::V1);
        v1.map(|member| member.dir.file("tasks", OFlags::WRONLY)).collect()
    }

    /// Pids of all processes in it and below, as this process's pid namespace numbers them (0: not visible in it).
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn procs(&self) -> Result<Vec<i32>> {
        let mut pids = Vec::new();
        if let Some(member) = self.counting() {
            walk(&member.dir, &mut |dir| read_pids(dir, &mut pids))?;
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Whether a process lives in it or below.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn is_populated(&self) -> Result<bool> {
        self.counting().map_or(Ok(false), |member| is_populated(&member.dir, member.record.version))
    }

    /// Removes the directories that are ours, children first, and those above that were made for it and are empty.
    /// Waits up to two seconds for processes that are just ending; kills nothing.
    ///
    /// # Errors
    /// The first directory that could not be removed (EBUSY: it has processes); the others are removed all the same.
    pub fn remove(&self) -> Result<()> {
        let mut first = Ok(());
        for member in self.members.iter().rev() {
            first = first.and(member.remove());
        }
        first
    }

    pub(super) fn add(&mut self, member: Member) -> &Member {
        let at = self.members.len();
        self.members.push(member);
        // The element was just pushed; `at` is its index.
        #[allow(clippy::indexing_slicing)]
        &self.members[at]
    }

    pub(super) fn member(&self, hierarchy: &HierarchyKey) -> Result<&Member> {
        self.members.iter().find(|member| member.record.hierarchy == *hierarchy).ok_or_else(|| {
            CgroupError::check(
                Path::new("cgroup"),
                format!("the container has no directory in the {hierarchy} hierarchy"),
            )
        })
    }

    pub(super) fn v2(&self) -> Option<&Member> {
        self.members.iter().find(|member| member.record.version == Version::V2)
    }

    /// The version 1 directory that has `controller`.
    pub(super) fn v1(&self, controller: &str) -> Option<&Member> {
        self.members
            .iter()
            .find(|member| member.record.version == Version::V1 && member.record.hierarchy.has(controller))
    }

    /// The directory whose list of processes is looked at: version 2 if there is one, else the freezer's, else any.
    pub(super) fn counting(&self) -> Option<&Member> {
        self.v2().or_else(|| self.v1("freezer")).or(self.members.first())
    }
}

impl CgroupRecord {
    /// Opens the recorded directories. Those that are gone, or whose name now belongs to another directory, are left
    /// out; none if all are. A container that has no cgroup of its own answers with an empty one.
    ///
    /// # Errors
    /// A mount point or directory that is there cannot be opened.
    pub fn open(&self) -> Result<Option<Cgroup>> {
        let mut members = Vec::with_capacity(self.members.len());
        for record in &self.members {
            members.extend(Member::open(record)?);
        }
        if members.is_empty() && !self.members.is_empty() {
            return Ok(None);
        }
        Ok(Some(Cgroup { members, device_program: self.device_program }))
    }
}

/// Whether `dir` or anything below has processes.
pub(super) fn is_populated(dir: &Dir, version: Version) -> Result<bool> {
    if version == Version::V2 {
        return Ok(dir.read_key("cgroup.events", "populated")? != Some(0));
    }
    let mut pids = Vec::new();
    walk(dir, &mut |dir| read_pids(dir, &mut pids))?;
    Ok(!pids.is_empty())
}

/// Whether `dir` is frozen or about to be.
pub(super) fn is_frozen(dir: &Dir, version: Version, hierarchy: &HierarchyKey) -> Result<bool> {
    match version {
        Version::V2 => Ok(dir.read("cgroup.freeze")?.trim() == "1"),
        Version::V1 if hierarchy.has("freezer") => Ok(dir.read("freezer.state")?.trim() != "THAWED"),
        Version::V1 => Ok(false),
    }
}

/// Visits a directory and all below it, parents first, with one of them open at a time: a container may make many. A
/// directory that goes away meanwhile is skipped.
pub(super) fn walk(top: &Dir, visit: &mut dyn FnMut(&Dir) -> Result<()>) -> Result<()> {
    visit(top)?;
    let mut queue: VecDeque<String> = top.children()?.into();
    while let Some(path) = queue.pop_front() {
        let dir = match top.sub(&path) {
            Err(error) if error.is_gone() => continue,
            result => result?,
        };
        gone_is((), visit(&dir))?;
        for name in gone_is(Vec::new(), dir.children())? {
            queue.push_back(format!("{path}/{name}"));
        }
    }
    Ok(())
}

fn gone_is<T>(instead: T, result: Result<T>) -> Result<T> {
    match result {
        Err(error) if error.is_gone() => Ok(instead),
        result => result,
    }
}

fn read_pids(dir: &Dir, pids: &mut Vec<i32>) -> Result<()> {
    let text = match dir.read("cgroup.procs") {
        // A threaded cgroup lists its processes at the top of its domain only.
        Err(error) if error.is(Errno::OPNOTSUPP) => dir.read("cgroup.threads")?,
        result => result?,
    };
    pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    Ok(())
}

/// Removes `name` in `above` and everything in it; waits for what is busy until `deadline`.
fn remove_tree(above: &Dir, name: &str, dir: &Dir, deadline: Instant) -> Result<()> {
    match above.remove(name) {
        Err(error) if is_busy(&error) => {}
        result => return gone_is((), result),
    }
    // The container may have made any number of directories at any depth: two of them are open at a time, and the way
    // down to a leaf is walked again for each.
    while let Some(first) = gone_is(Vec::new(), dir.children())?.pop() {
        let mut parent = dir.sub(".")?;
        let mut leaf = first;
        loop {
            let child = match parent.sub(&leaf) {
                Err(error) if error.is_gone() => break,
                result => result?,
            };
            let Some(next) = gone_is(Vec::new(), child.children())?.pop() else { break };
            parent = child;
            leaf = next;
        }
        remove_leaf(&parent, &leaf, deadline)?;
    }
    remove_leaf(above, name, deadline)
}

fn remove_leaf(above: &Dir, name: &str, deadline: Instant) -> Result<()> {
    let mut pause = Duration::from_micros(50);
    loop {
        match above.remove(name) {
            Err(error) if is_busy(&error) && Instant::now() < deadline => {}
            result => return gone_is((), result),
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// It has children, or processes that may be just ending.
fn is_busy(error: &CgroupError) -> bool {
    error.is(Errno::BUSY) || error.is(Errno::NOTEMPTY)
}

/// Removes, from the bottom, directories that were made above a container's, as long as they are ours and empty.
fn remove_made(mount: &Dir, made: &[Made]) {
    for one in made.iter().rev() {
        let above = one.path.parent().unwrap_or_default();
        let Ok(above) = mount.below(&above) else { return };
        let is_ours = above.identity_of(one.path.name());
        if !is_ours.is_ok_and(|found| found.is_some_and(|found| found.inode == one.inode)) {
            return;
        }
        // Another container may live in it by now; then it stays.
        if above.remove(one.path.name()).is_err() {
            return;
        }
    }
}
