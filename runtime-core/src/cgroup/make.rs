//! Carries a [`CgroupPlan`] out: directories, controllers, values, device rules. What it made is undone if a later
//! step fails.
//!
//! Must not: decide what is wanted. Tests: `cgroup/tests.rs`.

use std::os::fd::AsFd;

use rustix::io::Errno;

use super::devices::{DeviceProgram, V1_ALLOW, canonical_list};
use super::dir::Dir;
use super::error::{CgroupError, Result};
use super::group::{Cgroup, Made, Member};
use super::layout::{HierarchyKey, Version};
use super::path::CgroupPath;
use super::plan::{CgroupPlan, DevicesPlan, DirectoryPlan};
use super::remove::deadline;
use super::resources::RESOURCES;
use crate::sys::bpf;

/// How often a directory above may vanish (removed by the last container in it) while ours is made below it.
const TRIES: usize = 8;

/// Controllers that work in a threaded cgroup (cgroup-v2.rst, "Threads").
const THREADED: [&str; 4] = ["cpu", "cpuset", "perf_event", "pids"];

impl CgroupPlan {
    /// Makes the directories, writes the values, enforces the device rules. When it returns the container's first
    /// process can be born into it. On failure everything that was made is removed again.
    ///
    /// # Errors
    /// The call that failed, with the pointer of the line that asked for it. A directory that exists is an error if it
    /// has processes, is frozen, or was not named by the configuration.
    pub fn make(&self) -> Result<Cgroup> {
        let mut group = self.make_unguarded(None)?;
        match self.guard(&mut group) {
            Ok(()) => Ok(group),
            Err(error) => Err(undo(group, error)),
        }
    }

    /// The same without a device program, which takes long to load: for a caller who does [`CgroupPlan::guard`] before anything of the
    /// container runs in it. The lists of version 1 are written here, for they forbid everything, the nodes that init makes too, until the
    /// last line is written. `mark` is the word by which a directory of a known name is found to be ours until its record is written.
    ///
    /// # Errors
    /// As [`CgroupPlan::make`].
    pub(crate) fn make_unguarded(&self, mark: Option<&str>) -> Result<Cgroup> {
        let mut group = Cgroup::default();
        match self.make_into(&mut group, mark) {
            Ok(()) => Ok(group),
            Err(error) => Err(undo(group, error)),
        }
    }

    /// Enforces the device rules on the processes that are in it and will be.
    ///
    /// # Errors
    /// The call that failed.
    pub(crate) fn guard(&self, group: &mut Cgroup) -> Result<()> {
        match &self.devices {
            DevicesPlan::Program { program, .. } => group.attach(program),
            DevicesPlan::Unrestricted | DevicesPlan::NodesBoundIn | DevicesPlan::Lines { .. } => Ok(()),
        }
    }

    fn make_into(&self, group: &mut Cgroup, mark: Option<&str>) -> Result<()> {
        group.unit = self.unit.as_ref().map(|unit| unit.record.clone());
        for one in &self.directories {
            let mut made = Vec::new();
            let result = match &self.unit {
                // Made by systemd, and no more ours to remove than to make.
                Some(_) => Dir::mount(&one.mount, one.version)
                    .and_then(|mount| mount.below(&one.path))
                    .map(|dir| (dir, false)),
                None => make_directory(one, mark.filter(|_| one.explicit), &mut made),
            };
            match result {
                Ok((dir, ours)) => {
                    let member = Member::new(one, dir, ours, made)?;
                    let dir = &group.add(member).dir;
                    prepare(one, dir)?;
                }
                Err(error) => {
                    Member::undo_made(one, &made);
                    return Err(error);
                }
            }
        }
        group.set(&self.writes)?;
        if let Some(owner) = self.owner {
            group.hand_over(owner)?;
        }
        match &self.devices {
            DevicesPlan::Lines { hierarchy, lines } => write_lines(group, hierarchy, lines),
            DevicesPlan::Unrestricted | DevicesPlan::NodesBoundIn | DevicesPlan::Program { .. } => Ok(()),
        }
    }
}

/// Removes what was made. The first error is the one to tell; what cannot be removed is empty and harmless.
fn undo(group: Cgroup, error: CgroupError) -> CgroupError {
    drop(take_back(group));
    error
}

/// Removes what was made. By the descriptors that are there, as far as that goes: they may be the last that this process can have, and
/// looking directories up takes some. What is busy is waited for once, not in each hierarchy. Tests: `tests/embed`, descriptors_run_out.
///
/// # Errors
/// As [`Cgroup::remove`].
pub(crate) fn take_back(group: Cgroup) -> Result<()> {
    let deadline = deadline();
    group.members().for_each(|member| member.remove_held(deadline));
    let made = group.record();
    drop(group);
    made.remove()
}

/// Makes the directory and those above it that are missing; `made` lists the latter from the top. The answer says
/// whether the directory itself is ours.
fn make_directory(plan: &DirectoryPlan, mark: Option<&str>, made: &mut Vec<Made>) -> Result<(Dir, bool)> {
    let mount = Dir::mount(&plan.mount, plan.version)?;
    let mut tries = 0;
    loop {
        tries += 1;
        match try_make(&mount, plan, mark, made) {
            Err(error) if error.is_gone() && tries < TRIES => made.clear(),
            result => return result,
        }
    }
}

fn try_make(
    mount: &Dir,
    plan: &DirectoryPlan,
    mark: Option<&str>,
    made: &mut Vec<Made>,
) -> Result<(Dir, bool)> {
    let above = plan.path.parent().unwrap_or_default();
    let parent = match mount.below(&above) {
        Ok(parent) => parent,
        Err(error) if error.is(Errno::NOENT) => make_above(mount, plan, &above, made)?,
        Err(error) => return Err(error),
    };
    let name = plan.path.name();
    match parent.make(name) {
        Ok(()) => {
            match parent.sub(name).and_then(|dir| mark.map_or(Ok(()), |mark| dir.mark(mark)).map(|()| dir)) {
                Ok(dir) => Ok((dir, true)),
                Err(error) => {
                    drop(parent.remove(name));
                    Err(error)
                }
            }
        }
        Err(error) if error.is(Errno::EXIST) => {
            let dir = parent.sub(name)?;
            check_unused(plan, &dir)?;
            Ok((dir, false))
        }
        Err(error) => Err(error),
    }
}

fn make_above(mount: &Dir, plan: &DirectoryPlan, above: &CgroupPath, made: &mut Vec<Made>) -> Result<Dir> {
    let mut here = mount.below(&plan.top)?;
    for step in above.steps_below(&plan.top) {
        let name = step.name();
        let is_new = match here.make(name) {
            Ok(()) => true,
            Err(error) if error.is(Errno::EXIST) => false,
            Err(error) => return Err(error),
        };
        here = here.sub(name)?;
        if is_new {
            made.push(Made { inode: Some(here.identity()?.inode), path: step });
        }
    }
    Ok(here)
}

/// A directory that is already there may be used only if the configuration names it and nothing lives in it.
fn check_unused(plan: &DirectoryPlan, dir: &Dir) -> Result<()> {
    let refuse = |note: &str| Err(CgroupError::check(dir.path(), note).at(super::path::CGROUPS_PATH));
    if !plan.explicit {
        return refuse("the cgroup exists already, left by another container of this name");
    }
    if super::group::is_frozen(dir, plan.version, &plan.hierarchy)? {
        return refuse("the cgroup exists already and is frozen");
    }
    if super::group::is_populated(dir, plan.version)? {
        return refuse("the cgroup exists already and has processes");
    }
    Ok(())
}

/// What a new directory needs before values can be written to it.
fn prepare(plan: &DirectoryPlan, dir: &Dir) -> Result<()> {
    match plan.version {
        Version::V1 => {
            // Its processes could not even be killed. On version 2 they can, and whether one stands still is looked at when it does.
            if plan.hierarchy.has("freezer") && super::group::is_frozen(dir, plan.version, &plan.hierarchy)? {
                let note = "a cgroup above it is frozen, and nothing in it would run";
                return Err(CgroupError::check(dir.path(), note).at(super::path::CGROUPS_PATH));
            }
            if plan.required.iter().any(|one| one == "cpuset") { fill_cpuset(plan, dir) } else { Ok(()) }
        }
        Version::V2 => {
            leave_invalid(plan, dir)?;
            enable(plan, dir)
        }
    }
}

/// A directory below a threaded one is "domain invalid" and takes no process until it is threaded itself.
fn leave_invalid(plan: &DirectoryPlan, dir: &Dir) -> Result<()> {
    // Directories just below the root are always domains.
    if plan.path.parent().is_none_or(|above| above.is_root()) {
        return Ok(());
    }
    let kind = dir.read("cgroup.type")?;
    if kind.trim() != "domain invalid" {
        return Ok(());
    }
    match plan.required.iter().find(|one| !THREADED.contains(&one.as_str())) {
        None => dir.write("cgroup.type", "threaded"),
        Some(controller) => Err(CgroupError::check(
            dir.path(),
            format!("the cgroup above is threaded, and the {controller} controller does not work in threads"),
        )),
    }
}

/// Hands controllers down from the top to the directory. Those that only count are not worth an error.
pub(super) fn enable(plan: &DirectoryPlan, dir: &Dir) -> Result<()> {
    if plan.required.is_empty() && plan.wanted.is_empty() {
        return Ok(());
    }
    let missing = |names: &mut dyn Iterator<Item = &String>| -> Result<Vec<String>> {
        let have = dir.read("cgroup.controllers")?;
        Ok(names.filter(|name| !have.split_ascii_whitespace().any(|one| one == *name)).cloned().collect())
    };
    let wanted = missing(&mut plan.required.iter().chain(&plan.wanted))?;
    if wanted.is_empty() {
        return Ok(());
    }
    let mount = Dir::mount(&plan.mount, plan.version)?;
    let above = plan.path.parent().unwrap_or_default();
    let mut steps = above.steps_below(&plan.top);
    steps.insert(0, plan.top.clone());
    let mut failed = None;
    for step in steps {
        let parent = mount.below(&step)?;
        for name in &wanted {
            if let Err(error) = parent.write("cgroup.subtree_control", &format!("+{name}")) {
                if plan.required.contains(name) {
                    failed.get_or_insert(error);
                }
            }
        }
    }
    let missing = missing(&mut plan.required.iter())?;
    match (missing.first(), failed) {
        (None, _) => Ok(()),
        (Some(name), None) => {
            Err(CgroupError::check(dir.path(), format!("the {name} controller is not handed down to it")))
        }
        (Some(name), Some(error)) => {
            let why = if error.is(Errno::BUSY) {
                format!("the {name} controller cannot be handed down from a cgroup that has processes itself")
            } else {
                format!("the {name} controller cannot be handed down")
            };
            Err(error.note(why))
        }
    }
}

/// On version 1 a new cpuset is empty and takes no process (ENOSPC): it gets what the one above has, which may have
/// to be filled first.
fn fill_cpuset(plan: &DirectoryPlan, dir: &Dir) -> Result<()> {
    const FILES: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];
    for file in FILES {
        if !dir.read(file)?.trim().is_empty() {
            continue;
        }
        let mount = Dir::mount(&plan.mount, plan.version)?;
        let mut values = mount.below(&CgroupPath::root())?.read(file)?;
        for step in plan.path.steps_below(&CgroupPath::root()) {
            let here = mount.below(&step)?;
            let own = here.read(file)?;
            if own.trim().is_empty() {
                here.write(file, values.trim())?;
            } else {
                values = own;
            }
        }
    }
    Ok(())
}

pub(super) fn write_lines(
    group: &Cgroup,
    hierarchy: &HierarchyKey,
    lines: &[(String, String)],
) -> Result<()> {
    let pointer = format!("{RESOURCES}/devices");
    let dir = &group.member(hierarchy)?.dir;
    let mut open: Option<(&str, std::os::fd::OwnedFd)> = None;
    for (file, line) in lines {
        let fd = match open.take() {
            Some((name, fd)) if name == file => fd,
            _ => dir.file(file, rustix::fs::OFlags::WRONLY).map_err(|error| error.at(&pointer))?,
        };
        dir.write_open(file, &fd, line).map_err(|error| error.at(&pointer))?;
        open = Some((file, fd));
    }
    verify_lines(dir, lines).map_err(|error| error.at(&pointer))
}

/// An allow list reads back as it is; in the other mode the kernel shows only the mode.
pub(super) fn verify_lines(dir: &Dir, lines: &[(String, String)]) -> Result<()> {
    let list = dir.read("devices.list")?;
    let found = canonical_list(list.lines());
    let wanted = match lines.split_first() {
        Some(((file, _), _)) if file == V1_ALLOW => vec!["a *:* rwm".to_owned()],
        Some((_, rest)) => canonical_list(rest.iter().map(|(_, line)| line.as_str())),
        None => Vec::new(),
    };
    if found != wanted {
        return Err(CgroupError::check(
            dir.path().join("devices.list"),
            format!("the device rules read back differ: {found:?} instead of {wanted:?}"),
        ));
    }
    Ok(())
}

impl Cgroup {
    /// Gives the version 2 directory to `owner`, with the files that the kernel says one needs to make cgroups below it
    /// (cgroup-v2.rst, "Model of Delegation"). Limits stay with who made it.
    fn hand_over(&self, owner: u32) -> Result<()> {
        const LIST: &str = "/sys/kernel/cgroup/delegate";
        const USUAL: &str = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n";
        let Some(member) = self.v2() else { return Ok(()) };
        let own = rustix::process::geteuid().as_raw();
        if owner == own {
            return Ok(());
        }
        let list = match std::fs::read_to_string(LIST) {
            // Since 4.15; what it said then is what the specification says without it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => USUAL.to_owned(),
            list => list.map_err(|error| {
                let errno = error.raw_os_error().unwrap_or(libc::EIO);
                CgroupError::call("read", LIST, Errno::from_raw_os_error(errno))
            })?,
        };
        member.dir.give(".", owner)?;
        for file in list.lines() {
            match member.dir.give(file, owner) {
                Err(error) if error.is(Errno::NOENT) => {}
                given => given?,
            }
        }
        Ok(())
    }

    /// Takes the device program off that this library put on the version 2 directory.
    pub(super) fn detach(&mut self) -> Result<()> {
        let Some((id, member)) = self.device_program.zip(self.v2()) else { return Ok(()) };
        let pointer = format!("{RESOURCES}/devices");
        let fail = |call, errno| CgroupError::call(call, member.dir.path(), errno).at(&pointer);
        let program = bpf::program_by_id(id).map_err(|errno| fail("bpf BPF_PROG_GET_FD_BY_ID", errno))?;
        bpf::detach_device_program(member.dir.as_fd(), program.as_fd())
            .map_err(|errno| fail("bpf BPF_PROG_DETACH", errno))?;
        self.device_program = None;
        Ok(())
    }

    /// Puts a device program on the version 2 directory, beside none or in the place of the one that this library put
    /// there before, and reads back that it is in force.
    pub(crate) fn attach(&mut self, program: &DeviceProgram) -> Result<()> {
        let pointer = format!("{RESOURCES}/devices");
        let old = self.device_program;
        let member = self
            .v2()
            .ok_or_else(|| CgroupError::check("cgroup2", "no version 2 directory for device rules"))?;
        let path = member.dir.path();
        let fail = |call, errno| CgroupError::call(call, path, errno).at(&pointer);
        let fd = bpf::load_device_program(&program.to_bytes())
            .map_err(|errno| fail("bpf BPF_PROG_LOAD", errno))?;
        let id = bpf::program_id(fd.as_fd()).map_err(|errno| fail("bpf BPF_OBJ_GET_INFO_BY_FD", errno))?;
        let old = old
            .map(bpf::program_by_id)
            .transpose()
            .map_err(|errno| fail("bpf BPF_PROG_GET_FD_BY_ID", errno))?;
        bpf::attach_device_program(member.dir.as_fd(), fd.as_fd(), old.as_ref().map(AsFd::as_fd))
            .map_err(|errno| fail("bpf BPF_PROG_ATTACH", errno))?;
        let programs =
            bpf::device_programs(member.dir.as_fd()).map_err(|errno| fail("bpf BPF_PROG_QUERY", errno))?;
        if !programs.contains(&id) {
            return Err(CgroupError::check(path, "the device program is not in force after it was attached")
                .at(&pointer));
        }
        self.device_program = Some(id);
        Ok(())
    }
}
