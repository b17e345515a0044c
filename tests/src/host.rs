//! What the machine looks like from outside the container: mounts, processes, descriptors, and a picture of all of
//! them to compare before and after.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A line of mountinfo.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mount {
    /// The mount point, unescaped.
    pub target: String,
    /// The file system's type.
    pub kind: String,
    /// The source column.
    pub source: String,
    /// Options of the mount, then of the file system.
    pub options: String,
}

/// The mounts of this process, in the order of the kernel.
pub fn mounts() -> Vec<Mount> {
    mounts_of(&fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted"))
}

/// Parses a mountinfo file.
pub fn mounts_of(text: &str) -> Vec<Mount> {
    let parsed = text.lines().filter_map(|line| {
        let (front, back) = line.split_once(" - ")?;
        let front: Vec<&str> = front.split(' ').collect();
        let back: Vec<&str> = back.split(' ').collect();
        Some(Mount {
            target: unescape(front.get(4)?),
            kind: (*back.first()?).to_owned(),
            source: (*back.get(1)?).to_owned(),
            options: format!("{} {}", front.get(5)?, back.get(2).unwrap_or(&"")),
        })
    });
    parsed.collect()
}

fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// A field of /proc/PID/status.
pub fn status_field(pid: i32, name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

/// Whether a process exists and is no zombie.
pub fn alive(pid: i32) -> bool {
    status_field(pid, "State").is_some_and(|state| !state.starts_with('Z') && !state.starts_with('X'))
}

/// Processes whose environment has this entry, this one excepted.
pub fn processes_with(entry: &str) -> Vec<i32> {
    let Ok(list) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = list.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let has = |pid: &i32| {
        let bytes = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        bytes.split(|byte| *byte == 0).any(|found| found == entry.as_bytes())
    };
    pids.filter(|pid| i64::from(*pid) != i64::from(std::process::id())).filter(has).collect()
}

/// The children of this process that nobody has waited for yet, as `PID NAME STATE`.
pub fn children() -> BTreeSet<String> {
    let own = std::process::id().to_string();
    let Ok(list) = fs::read_dir("/proc") else { return BTreeSet::new() };
    let pids = list.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let children = pids.filter(|pid| status_field(*pid, "PPid").as_ref() == Some(&own));
    children
        .map(|pid| {
            let field = |name: &str| status_field(pid, name).unwrap_or_default();
            format!("{pid} {} {}", field("Name"), field("State"))
        })
        .collect()
}

/// Reaps every child that has ended, whoever it was: for cases that run alone.
pub fn reap() {
    for child in children() {
        let pid =
            child.split(' ').next().and_then(|pid| pid.parse().ok()).and_then(rustix::process::Pid::from_raw);
        let _ = rustix::process::waitpid(pid, rustix::process::WaitOptions::NOHANG);
    }
}

/// Everything that a container could leave behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// The mounts of this process's namespace.
    pub mounts: Vec<Mount>,
    /// Directories of all cgroup hierarchies that carry the prefix of this run.
    pub cgroups: BTreeSet<String>,
    /// Unreaped children: orphans come to this process, which is their subreaper.
    pub children: BTreeSet<String>,
    /// Descriptors of this process with what they are.
    pub descriptors: BTreeSet<String>,
    /// Paths below the given directories.
    pub files: BTreeSet<String>,
}

impl Picture {
    /// Takes it; `dirs` are the directories whose contents count.
    pub fn take(dirs: &[&Path]) -> Self {
        let mut files = BTreeSet::new();
        for dir in dirs {
            files.extend(crate::dirs::tree(dir).into_iter().map(|line| format!("{}: {line}", dir.display())));
        }
        let descriptors = fs::read_dir("/proc/self/fd").expect("/proc is mounted");
        let descriptors = descriptors.filter_map(|entry| {
            let path = entry.ok()?.path();
            let target = fs::read_link(&path).ok()?.display().to_string();
            // The descriptor that lists the directory is different each time.
            (!target.starts_with("/proc/")).then(|| format!("{} {target}", path.display()))
        });
        Self {
            mounts: mounts(),
            cgroups: crate::cgroup::own_directories(),
            children: children(),
            descriptors: descriptors.collect(),
            files,
        }
    }

    /// Ends the case when something is different now.
    pub fn same_as_now(&self, dirs: &[&Path]) {
        let now = Self::take(dirs);
        assert_eq!(self.mounts, now.mounts, "mounts");
        assert_eq!(self.cgroups, now.cgroups, "cgroups");
        assert_eq!(self.children, now.children, "processes");
        assert_eq!(self.descriptors, now.descriptors, "descriptors");
        assert_eq!(self.files, now.files, "files");
    }
}
