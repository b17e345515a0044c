//! Temporary directories and their removal. Nothing here follows a symlink or leaves the mount it started on: a mount
//! that a broken runtime left behind must not cost the machine its files.

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, StatxFlags, openat, statx, unlinkat};
use rustix::mount::{UnmountFlags, unmount};
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The directory of this run of the suites, made on first use: `TMPDIR/coracle-test-PID`.
pub fn run_dir() -> PathBuf {
    let dir = std::env::temp_dir().join(format!("coracle-test-{}", std::process::id()));
    if fs::create_dir(&dir).is_ok() {
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("own directory");
    }
    dir
}

/// Removes the directory of this run.
pub fn remove_run_dir() {
    let dir = run_dir();
    remove(&dir);
}

/// A new directory for a case, removed with all its contents when the value is dropped.
#[derive(Debug)]
pub struct CaseDir(PathBuf);

impl CaseDir {
    /// Makes it; the name of the case becomes a part of the path.
    pub fn new(case: &str) -> Self {
        let dir = run_dir().join(case.replace("::", "."));
        fs::create_dir(&dir).expect("a new directory");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("own directory");
        Self(dir)
    }
    /// The path.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for CaseDir {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// The mount points at or below a directory, deepest first.
pub fn mounts_below(dir: &Path) -> Vec<String> {
    let mounts = crate::host::mounts();
    let below = mounts.iter().rev().filter(|mount| Path::new(&mount.target).starts_with(dir));
    below.map(|mount| mount.target.clone()).collect()
}

/// Unmounts what is mounted below, then removes the tree.
pub fn remove(dir: &Path) {
    for target in mounts_below(dir) {
        let _ = unmount(&target, UnmountFlags::DETACH);
    }
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name().and_then(|name| name.to_str())) else {
        return;
    };
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(parent) = openat(rustix::fs::CWD, parent, flags, Mode::empty()) else { return };
    let mount = mount_id(parent.as_fd());
    remove_entry(parent.as_fd(), name, mount);
}

fn mount_id(fd: BorrowedFd<'_>) -> Option<u64> {
    statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok().map(|answer| answer.stx_mnt_id)
}

fn open_dir(parent: BorrowedFd<'_>, name: &str) -> Option<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty()).ok()
}

fn remove_entry(parent: BorrowedFd<'_>, name: &str, mount: Option<u64>) {
    if unlinkat(parent, name, AtFlags::empty()).is_ok() {
        return;
    }
    let Some(dir) = open_dir(parent, name) else { return };
    if mount_id(dir.as_fd()) != mount {
        return;
    }
    let names: Vec<String> = Dir::read_from(dir.as_fd())
        .map(|entries| {
            entries.filter_map(|entry| Some(entry.ok()?.file_name().to_str().ok()?.to_owned())).collect()
        })
        .unwrap_or_default();
    for name in names.iter().filter(|name| *name != "." && *name != "..") {
        remove_entry(dir.as_fd(), name, mount);
    }
    drop(dir);
    let _ = unlinkat(parent, name, AtFlags::REMOVEDIR);
}

/// Every path below a directory, sorted, with type and contents of files: to compare a tree before and after.
pub fn tree(dir: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    walk(dir, dir, &mut lines);
    lines.sort();
    lines
}

fn walk(top: &Path, dir: &Path, lines: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(meta) = path.symlink_metadata() else { continue };
        let name = path.strip_prefix(top).unwrap_or(&path).display().to_string();
        let kind = FileType::from_raw_mode(meta.permissions().mode());
        let what = match kind {
            FileType::RegularFile => format!("{:?}", fs::read(&path).unwrap_or_default()),
            FileType::Symlink => format!("{:?}", fs::read_link(&path)),
            other => format!("{other:?}"),
        };
        lines.push(format!("{name} {:o} {what}", meta.permissions().mode()));
        if meta.is_dir() {
            walk(top, &path, lines);
        }
    }
}
