//! The machine's cgroup hierarchies as the suites need them: where a container's directory is in each, reading and
//! writing its files, and removal of what a broken runtime left.

use crate::host;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// How the machine's cgroups are mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Hierarchies of version 1 below /sys/fs/cgroup (with or without a `unified` one).
    Version1,
    /// One hierarchy of version 2 at /sys/fs/cgroup.
    Version2,
    /// Nothing is mounted.
    Absent,
}

/// A mounted hierarchy.
#[derive(Debug, Clone)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// The controllers, or `name=systemd`; empty for version 2.
    pub controllers: Vec<String>,
}

/// Who makes the containers' cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// The runtime itself.
    Fs,
    /// systemd: that of the machine, or of the user whose suite this is.
    Systemd,
}

/// Who makes them in this run: `CGROUP_DRIVER`, `fs` if it is not set.
///
/// # Panics
/// When it is another word.
pub fn driver() -> Driver {
    match std::env::var("CGROUP_DRIVER").as_deref() {
        Err(_) | Ok("fs") => Driver::Fs,
        Ok("systemd") => Driver::Systemd,
        Ok(other) => panic!("CGROUP_DRIVER={other}: fs or systemd"),
    }
}

/// Below which cgroup this process may make others: the hierarchy's root, or what a manager of the user's was given. `None`
/// for an ordinary user without one.
pub fn delegated() -> Option<String> {
    let user = rustix::process::geteuid();
    if user.is_root() {
        return Some(String::new());
    }
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let manager = format!("/user@{}.service", user.as_raw());
    let end = own.find(&format!("{manager}/"))? + manager.len();
    own.get(..end).map(str::to_owned)
}

/// The slice of this run, where systemd makes the cgroups.
pub fn slice() -> String {
    format!("coracletest_{}.slice", std::process::id())
}

/// The prefix of every cgroup of this run.
pub fn parent() -> String {
    let top = delegated().unwrap_or_default();
    match driver() {
        Driver::Fs => format!("{top}/coracle-test-{}", std::process::id()),
        Driver::Systemd => format!("{top}/{}", slice()),
    }
}

/// What a configuration says for a cgroup of this run, and where that is.
pub fn place(name: &str) -> (String, String) {
    match driver() {
        Driver::Fs => (format!("{}/{name}", parent()), format!("{}/{name}", parent())),
        Driver::Systemd => (format!("{}:test:{name}", slice()), format!("{}/test-{name}.scope", parent())),
    }
}

/// How the machine's cgroups are mounted.
pub fn mode() -> Mode {
    let mounts = host::mounts();
    let top = mounts.iter().rev().find(|mount| mount.target == "/sys/fs/cgroup");
    match top.map(|mount| mount.kind.as_str()) {
        Some("cgroup2") => Mode::Version2,
        Some(_) if !hierarchies().is_empty() => Mode::Version1,
        _ => Mode::Absent,
    }
}

/// The mounted hierarchies.
pub fn hierarchies() -> Vec<Hierarchy> {
    let known = |option: &str| {
        ![
            "rw",
            "ro",
            "relatime",
            "nosuid",
            "nodev",
            "noexec",
            "xattr",
            "release_agent=",
            "clone_children",
            "",
        ]
        .contains(&option)
    };
    let mounts = host::mounts().into_iter().filter(|mount| mount.kind == "cgroup" || mount.kind == "cgroup2");
    mounts
        .map(|mount| {
            let options = mount.options.split_once(' ').map_or("", |(_, options)| options);
            let controllers = if mount.kind == "cgroup" {
                options.split(',').filter(|option| known(option)).map(str::to_owned).collect()
            } else {
                Vec::new()
            };
            Hierarchy { mount: PathBuf::from(mount.target), controllers }
        })
        .collect()
}

/// Whether limits of a controller can be set: it has a hierarchy, or version 2 offers it.
pub fn has(controller: &str) -> bool {
    match mode() {
        Mode::Version1 => {
            hierarchies().iter().any(|one| one.controllers.iter().any(|name| name == controller))
        }
        // The freezer of version 2 is a file, and the devices controller a program, which only root can load.
        Mode::Version2 if controller == "freezer" => true,
        Mode::Version2 if controller == "devices" => rustix::process::geteuid().is_root(),
        Mode::Version2 => {
            let top = delegated().unwrap_or_default();
            fs::read_to_string(format!("/sys/fs/cgroup{top}/cgroup.controllers"))
                .is_ok_and(|text| text.split_whitespace().any(|name| name == controller))
        }
        Mode::Absent => false,
    }
}

/// The directory of a cgroup (a path below the hierarchy's root) in the hierarchy of a controller.
pub fn directory(controller: &str, path: &str) -> Option<PathBuf> {
    let relative = path.trim_start_matches('/');
    match mode() {
        Mode::Version1 => {
            let all = hierarchies();
            let found = all.iter().find(|one| one.controllers.iter().any(|name| name == controller))?;
            Some(found.mount.join(relative))
        }
        Mode::Version2 => Some(Path::new("/sys/fs/cgroup").join(relative)),
        Mode::Absent => None,
    }
}

/// Every directory below the parent of this run, in all hierarchies, deepest last. The parent itself does not count:
/// runtimes differ in whether they remove a parent that they made.
pub fn own_directories() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for one in hierarchies() {
        let top = one.mount.join(parent().trim_start_matches('/'));
        let mut below = BTreeSet::new();
        collect(&top, &mut below);
        below.remove(&top.display().to_string());
        found.extend(below);
    }
    found
}

/// Directories named like a container, anywhere in the first levels of the hierarchies: what a runtime made at a
/// place of its own choice.
pub fn named(id: &str) -> Vec<String> {
    let mut found = BTreeSet::new();
    for one in hierarchies() {
        // A user's are three levels further down.
        search(&one.mount, id, 5, &mut found);
    }
    found.into_iter().collect()
}

/// Whether a name has this id as a whole word in it: not `ct-10` for `ct-1`.
pub fn names(name: &str, id: &str) -> bool {
    name.match_indices(id).any(|(at, _)| {
        let before = name[..at].chars().next_back();
        let after = name[at + id.len()..].chars().next();
        !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
    })
}

fn search(dir: &Path, id: &str, depth: u32, found: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    let dirs = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    for entry in dirs {
        if names(&entry.file_name().to_string_lossy(), id) {
            found.insert(entry.path().display().to_string());
        }
        if depth > 0 {
            search(&entry.path(), id, depth - 1, found);
        }
    }
}

fn collect(dir: &Path, found: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    found.insert(dir.display().to_string());
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), found);
        }
    }
}

/// The processes in a directory and below.
pub fn processes(dir: &Path) -> Vec<i32> {
    let mut dirs = BTreeSet::new();
    collect(dir, &mut dirs);
    let texts = dirs.iter().filter_map(|dir| fs::read_to_string(Path::new(dir).join("cgroup.procs")).ok());
    let text: String = texts.collect();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Ends the slice of this run, which systemd keeps.
pub fn remove_slice() {
    if driver() == Driver::Systemd {
        let _ = systemctl(&["stop", &slice()]);
    }
}

/// Asks the systemd of this run: what it prints.
///
/// # Panics
/// When there is no such program.
pub fn systemctl(words: &[&str]) -> String {
    let mut command = std::process::Command::new("systemctl");
    if !rustix::process::geteuid().is_root() {
        command.arg("--user");
    }
    let done = command.args(words).output().expect("systemctl");
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}

/// Kills the processes below a path of this run and removes its directories, in every hierarchy.
pub fn remove(path: &str) {
    assert!(path.starts_with(&parent()), "only what this run has made is removed");
    for one in hierarchies() {
        let dir = one.mount.join(path.trim_start_matches('/'));
        let _ = fs::write(dir.join("freezer.state"), "THAWED");
        let _ = fs::write(dir.join("cgroup.freeze"), "0");
        for _ in 0..50 {
            let processes = processes(&dir);
            for pid in &processes {
                if let Some(pid) = rustix::process::Pid::from_raw(*pid) {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                    let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::NOHANG);
                }
            }
            if processes.is_empty() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let mut dirs = BTreeSet::new();
        collect(&dir, &mut dirs);
        for dir in dirs.iter().rev() {
            let _ = fs::remove_dir(dir);
        }
    }
}
