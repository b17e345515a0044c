//! Files that appear whole or not at all.
//!
//! Must not: follow a link at the last component, leave a temporary file behind. Tests: at the end of the file.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use coracle::Error;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

/// Writes `bytes` to `path`, replacing what is there.
///
/// # Errors
/// The kernel's; nothing is left behind then.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    place(path, bytes, |directory, from, to| rustix::fs::renameat(directory, from, directory, to))
}

/// Writes `bytes` to `path` if there is nothing of that name.
///
/// # Errors
/// `EEXIST` when there is; otherwise as [`replace`].
pub fn create(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    place(path, bytes, |directory, from, to| {
        match rustix::fs::renameat_with(directory, from, directory, to, RenameFlags::NOREPLACE) {
            // The file system cannot do it in one call; a link fails as well when the name is taken.
            Err(Errno::INVAL) => {
                rustix::fs::linkat(directory, from, directory, to, AtFlags::empty())?;
                rustix::fs::unlinkat(directory, from, AtFlags::empty())
            }
            other => other,
        }
    })
}

fn place(
    path: &Path,
    bytes: &[u8],
    name_it: impl Fn(BorrowedFd<'_>, &OsStr, &OsStr) -> rustix::io::Result<()>,
) -> Result<(), Error> {
    let failed = |errno: Errno| Error::os("write the file", errno).with_path(path);
    let name = path.file_name().ok_or_else(|| failed(Errno::ISDIR))?;
    let directory = directory_of(path).map_err(failed)?;
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}", rustix::process::getpid().as_raw_pid()));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mode = Mode::from_raw_mode(0o644);
    let written = rustix::fs::openat(&directory, &temporary, flags, mode).map_err(failed).and_then(|fd| {
        File::from(fd).write_all(bytes).map_err(|error| Error::os("write the file", error).with_path(path))
    });
    let done = written.and_then(|()| name_it(directory.as_fd(), &temporary, name).map_err(failed));
    if done.is_err() {
        let _ = rustix::fs::unlinkat(&directory, &temporary, AtFlags::empty());
    }
    done
}

/// Opens the directory that holds the last component of `path`.
pub fn directory_of(path: &Path) -> rustix::io::Result<OwnedFd> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    rustix::fs::open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    /// A directory of this test's own; a name is enough to tell them apart within one process.
    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("coracle-file-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).expect("a directory");
        path
    }

    fn names(directory: &Path) -> Vec<OsString> {
        std::fs::read_dir(directory).expect("list").map(|entry| entry.expect("entry").file_name()).collect()
    }

    fn remove(directory: &Path) {
        for name in names(directory) {
            std::fs::remove_file(directory.join(name)).expect("remove");
        }
        std::fs::remove_dir(directory).expect("remove");
    }

    #[test]
    fn replacing_leaves_one_whole_file() {
        let directory = directory("replace");
        let path = directory.join("pid");
        replace(&path, b"12345").expect("written");
        replace(&path, b"7").expect("replaced");
        assert_eq!(std::fs::read(&path).expect("read"), b"7");
        assert_eq!(names(&directory), ["pid"]);
        remove(&directory);
    }

    #[test]
    fn replacing_a_link_leaves_its_target_alone() {
        let directory = directory("link");
        std::fs::write(directory.join("target"), "precious").expect("written");
        std::os::unix::fs::symlink("target", directory.join("pid")).expect("link");
        replace(&directory.join("pid"), b"7").expect("replaced");
        assert_eq!(std::fs::read(directory.join("target")).expect("read"), b"precious");
        remove(&directory);
    }

    #[test]
    fn creating_never_overwrites_and_leaves_nothing() {
        let directory = directory("create");
        let path = directory.join("config.json");
        create(&path, b"first").expect("written");
        let error = create(&path, b"second").expect_err("taken");
        assert_eq!(error.errno_name(), Some("EEXIST"));
        assert_eq!(std::fs::read(&path).expect("read"), b"first");
        assert_eq!(names(&directory), ["config.json"]);
        remove(&directory);
    }

    #[test]
    fn what_cannot_be_written_is_named() {
        for path in ["/proc/nope/pid", "/", "/dev/null/pid"] {
            let error = replace(Path::new(path), b"7").expect_err(path);
            assert_eq!(error.path(), Some(Path::new(path)));
        }
    }
}
