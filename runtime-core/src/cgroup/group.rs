//! A container's cgroup: one open directory for each hierarchy, and what is done with them.
//!
//! Must not: walk a path again (identity is checked whenever a directory is opened from a record), remove what is not
//! ours. Tests: `cgroup/tests.rs`.
//!
//! Longer than a file should be: a directory, its record and what is done with both.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::dir::{Dir, Identity};
use super::error::{CgroupError, Result};
use super::layout::{HierarchyKey, Version};
use super::path::CgroupPath;
use super::plan::{CgroupPlan, DirectoryPlan};
use super::remove::{is_busy, remove_made, remove_tree, until_idle, wait_until_idle};
use super::systemd::UnitRecord;

/// A directory above a container's that did not exist before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Made {
    pub(crate) path: CgroupPath,
    /// None in an intent: it did not exist when that was written.
    pub(crate) inode: Option<u64>,
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
    /// None in an intent: whatever has the name now did not exist when that was written.
    identity: Option<Identity>,
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
    /// In an intent: the word on the directories that were made, where the configuration named them. Somebody else may make one of that
    /// name in our place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mark: Option<String>,
    /// The unit that systemd made its directory for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unit: Option<UnitRecord>,
}

impl CgroupRecord {
    /// Whether systemd made it, which may have given it limits of its own.
    pub(crate) fn is_of_a_unit(&self) -> bool {
        self.unit.is_some()
    }
}

/// A container's cgroup, as open directories. None of them: the container has no cgroup of its own.
///
/// Dropping it closes the directories and changes nothing.
#[derive(Debug, Default)]
pub struct Cgroup {
    members: Vec<Member>,
    pub(super) device_program: Option<u32>,
    pub(super) unit: Option<UnitRecord>,
}

impl MemberRecord {
    fn new(plan: &DirectoryPlan, identity: Option<Identity>, ours: bool, made: Vec<Made>) -> Self {
        Self {
            hierarchy: plan.hierarchy.clone(),
            version: plan.version,
            mount: plan.mount.clone(),
            path: plan.path.clone(),
            identity,
            ours,
            made,
        }
    }

    /// Removes the directory if it is ours and still the one meant, and those above that were made for it.
    fn remove(&self, mark: Option<&str>) -> Result<()> {
        let mount = Dir::mount(&self.mount, self.version)?;
        let result = if self.ours { self.remove_below(&mount, mark) } else { Ok(()) };
        remove_made(&mount, &self.made);
        result
    }

    /// The directory above it, when it is there and still the recorded one.
    fn find_above(&self, mount: &Dir) -> Result<Option<Dir>> {
        let above = match mount.below(&self.path.parent().unwrap_or_default()) {
            Err(error) if error.is_gone() => return Ok(None),
            result => result?,
        };
        let found = above.identity_of(self.path.name())?;
        let other = self.identity.is_some_and(|identity| found != Some(identity));
        Ok(if found.is_none() || other { None } else { Some(above) })
    }

    fn remove_below(&self, mount: &Dir, mark: Option<&str>) -> Result<()> {
        let Some(above) = self.find_above(mount)? else { return Ok(()) };
        let name = self.path.name();
        match above.sub(name) {
            Err(error) if error.is_gone() => Ok(()),
            Ok(dir) if self.identity.is_none() && !self.is_known(&dir, mark) => match above.remove(name) {
                // Ours and killed between two calls, or somebody else's: empty it is of no use to anybody, and else it is not ours.
                Err(error) if is_busy(&error) => Ok(()),
                removed => gone_is((), removed),
            },
            result => remove_tree(&above, name, &result?),
        }
    }

    fn remove_idle(&self) -> Result<bool> {
        if !self.ours {
            // It stays, so nothing says whether somebody is left in it.
            return Ok(false);
        }
        let mount = Dir::mount(&self.mount, self.version)?;
        if let Some(above) = self.find_above(&mount)? {
            match above.remove(self.path.name()) {
                Err(error) if is_busy(&error) => return Ok(false),
                result => gone_is((), result)?,
            }
        }
        remove_made(&mount, &self.made);
        Ok(true)
    }

    /// Whether what has the name is what was meant: by its inode, or in an intent by the word that was left on it.
    fn is_known(&self, dir: &Dir, mark: Option<&str>) -> bool {
        match (self.identity, mark) {
            (Some(identity), _) => dir.identity().is_ok_and(|found| found == identity),
            (None, Some(mark)) => dir.is_marked(mark),
            // The runtime's own naming.
            (None, None) => true,
        }
    }

    /// What is about to be made, as far as it does not exist yet.
    fn intent(plan: &DirectoryPlan) -> Result<Self> {
        let mount = Dir::mount(&plan.mount, plan.version)?;
        let missing = |path: &CgroupPath| Ok(mount.identity_of(path.as_str())?.is_none());
        let mut made = Vec::new();
        for path in plan.path.parent().unwrap_or_default().steps_below(&plan.top) {
            if missing(&path)? {
                made.push(Made { path, inode: None });
            }
        }
        Ok(Self::new(plan, None, missing(&plan.path)?, made))
    }
}

impl Member {
    /// Removes the directory if it is ours, by its own descriptor; whoever removes it by its name afterwards tells what did not work.
    pub(super) fn remove_held(&self, deadline: Instant) {
        if self.is_ours() {
            let name = self.record.path.name();
            drop(until_idle(deadline, || self.dir.remove_itself(name)));
        }
    }

    pub(super) fn new(plan: &DirectoryPlan, dir: Dir, ours: bool, made: Vec<Made>) -> Result<Self> {
        let record = MemberRecord::new(plan, Some(dir.identity()?), ours, made);
        Ok(Self { record, dir })
    }

    /// Removes directories above that were made for nothing.
    pub(super) fn undo_made(plan: &DirectoryPlan, made: &[Made]) {
        if let Ok(mount) = Dir::mount(&plan.mount, plan.version) {
            remove_made(&mount, made);
        }
    }

    /// Whether we made it and nobody will use it after the container.
    pub(super) fn is_ours(&self) -> bool {
        self.record.ours
    }

    pub(super) fn version(&self) -> Version {
        self.record.version
    }

    pub(super) fn hierarchy(&self) -> &HierarchyKey {
        &self.record.hierarchy
    }

    /// A directory below this one; that it is there and what it is called is all that is known of it.
    pub(super) fn below(&self, path: &CgroupPath) -> Result<Self> {
        let dir = self.dir.below(path)?;
        let record = MemberRecord {
            path: self.record.path.join(path),
            identity: Some(dir.identity()?),
            ours: false,
            made: Vec::new(),
            ..self.record.clone()
        };
        Ok(Self { record, dir })
    }

    /// The directory above this one.
    pub(super) fn above(&self) -> Result<Dir> {
        let mount = Dir::mount(&self.record.mount, self.record.version)?;
        mount.below(&self.record.path.parent().unwrap_or_default())
    }

    /// The same directory as a plan that asks for `required` controllers.
    pub(super) fn asking_for(&self, top: CgroupPath, required: Vec<String>) -> DirectoryPlan {
        DirectoryPlan {
            hierarchy: self.record.hierarchy.clone(),
            version: self.record.version,
            mount: self.record.mount.clone(),
            path: self.record.path.clone(),
            top,
            explicit: true,
            required,
            wanted: Vec::new(),
        }
    }

    /// Opens the recorded directory; none if it is gone or another has its name.
    fn open(record: &MemberRecord, mark: Option<&str>) -> Result<Option<Self>> {
        let dir = match Dir::mount(&record.mount, record.version).and_then(|mount| mount.below(&record.path))
        {
            Ok(dir) => dir,
            Err(error) if error.is_gone() => return Ok(None),
            Err(error) => return Err(error),
        };
        if !record.ours && record.identity.is_none() {
            return Ok(None);
        }
        let is_it = record.is_known(&dir, mark);
        Ok(is_it.then(|| Self { record: record.clone(), dir }))
    }
}

impl Cgroup {
    /// Every hierarchy's directory, for other tools: (hierarchy, path on the host).
    pub fn directories(&self) -> impl Iterator<Item = (String, PathBuf)> + '_ {
        self.members
            .iter()
            .map(|member| (member.record.hierarchy.to_string(), member.dir.path().to_path_buf()))
    }

    /// The container's directory in the hierarchy with this key, to clone it as a mount.
    pub(crate) fn directory_fd(&self, hierarchy: &str) -> Option<BorrowedFd<'_>> {
        let member = self.members.iter().find(|member| member.hierarchy().to_string() == hierarchy);
        member.map(|member| member.dir.as_fd())
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
            mark: None,
            unit: self.unit.clone(),
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
    /// Waits up to two seconds for processes that are just ending, in one that stays too; kills nothing.
    ///
    /// # Errors
    /// The first directory that could not be removed (EBUSY: it has processes); the others are removed all the same.
    pub fn remove(&self) -> Result<()> {
        // It stays, so no removal waits for those in it. Who is in it then has come from elsewhere.
        let staying = self.counting().filter(|member| !member.is_ours());
        let ended = staying
            .map_or(Ok(()), |member| wait_until_idle(|| is_populated(&member.dir, member.record.version)));
        remove_all(self.members.iter().map(|member| &member.record), None).and(ended)
    }

    /// As [`Cgroup::remove`] when nobody is in it and nothing below; else nothing is done and the answer is `false`. On hosts with version 1
    /// hierarchies always.
    ///
    /// # Errors
    /// The kernel's refusal for another reason.
    pub(crate) fn remove_idle(&self) -> Result<bool> {
        match self.members.as_slice() {
            [one] if one.record.version == Version::V2 && self.unit.is_none() => one.record.remove_idle(),
            _ => Ok(false),
        }
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

    pub(super) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.iter()
    }

    pub(super) fn of(members: Vec<Member>) -> Self {
        Self { members, device_program: None, unit: None }
    }

    pub(super) fn has(&self, hierarchy: &HierarchyKey) -> bool {
        self.members.iter().any(|member| member.record.hierarchy == *hierarchy)
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
    /// What to write down before [`CgroupPlan::make`], so that a process that is killed in the middle of it leaves
    /// nothing that cannot be found: directories that do not exist yet. Replaced by [`Cgroup::record`] afterwards.
    ///
    /// # Errors
    /// A mount point cannot be opened or a directory cannot be looked at.
    pub fn intent(plan: &CgroupPlan) -> Result<Self> {
        let members = match &plan.unit {
            // systemd's to make and to remove.
            Some(_) => Vec::new(),
            None => plan.directories.iter().map(MemberRecord::intent).collect::<Result<_>>()?,
        };
        let unit = plan.unit.as_ref().map(|unit| unit.record.clone());
        let mark = plan.directories.iter().any(|one| one.explicit && unit.is_none()).then(new_mark);
        Ok(Self { members, device_program: None, mark, unit })
    }

    /// Whether something of it may be there that cannot be opened: what an intent speaks of, or a unit whose directory is gone.
    pub(crate) fn is_more_than_directories(&self) -> bool {
        self.mark.is_some() || self.unit.is_some()
    }

    /// The word for [`CgroupPlan::make`].
    pub(crate) fn mark(&self) -> Option<&str> {
        self.mark.as_deref()
    }

    /// [`Cgroup::remove`] without opening it before; also takes away directories above of which the one below was
    /// never made.
    ///
    /// # Errors
    /// As [`Cgroup::remove`].
    pub fn remove(&self) -> Result<()> {
        let removed = remove_all(self.members.iter(), self.mark.as_deref());
        self.unit.as_ref().map_or(Ok(()), UnitRecord::stop).and(removed)
    }

    /// Opens the recorded directories. Those that are gone, or whose name now belongs to another directory, are left
    /// out; none if all are. A container that has no cgroup of its own answers with an empty one.
    ///
    /// # Errors
    /// A mount point or directory that is there cannot be opened.
    pub fn open(&self) -> Result<Option<Cgroup>> {
        let mut members = Vec::with_capacity(self.members.len());
        for record in &self.members {
            members.extend(Member::open(record, self.mark.as_deref())?);
        }
        if members.is_empty() && !self.members.is_empty() {
            return Ok(None);
        }
        Ok(Some(Cgroup { members, device_program: self.device_program, unit: self.unit.clone() }))
    }
}

/// A word that nobody else leaves: no two calls of one thread see the same moment.
fn new_mark() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{}.{}", rustix::thread::gettid().as_raw_nonzero(), now.as_nanos())
}

/// Removes all, in reverse order; the first error is told after the others had their turn.
fn remove_all<'a>(
    records: impl DoubleEndedIterator<Item = &'a MemberRecord>,
    mark: Option<&str>,
) -> Result<()> {
    let mut first = Ok(());
    for record in records.rev() {
        let removed = record.remove(mark);
        first = first.and(removed);
    }
    first
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

pub(super) fn gone_is<T>(instead: T, result: Result<T>) -> Result<T> {
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
