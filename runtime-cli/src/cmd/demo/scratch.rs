//! A directory for the demo, removed with all that is in it.
//!
//! Must not: follow a link or enter a mount while removing. Tests: at the end of the file.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use coracle::Error;
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::path::Arg;

/// The directory. Dropping it removes it too, silently.
#[derive(Debug)]
pub struct Scratch(Option<PathBuf>);

impl Scratch {
    /// Makes a directory in `$TMPDIR` or `/tmp` that only the caller can enter.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new() -> Result<Self, Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().subsec_nanos();
        let name = format!("coracle-demo-{}-{now}", rustix::process::getpid());
        let path = std::env::temp_dir().join(name);
        rustix::fs::mkdir(&path, Mode::RWXU)
            .map_err(|errno| Error::os("make a directory for the demo", errno).with_path(&path))?;
        Ok(Self(Some(path)))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.as_deref().unwrap_or(Path::new("/"))
    }

    /// Removes it.
    ///
    /// # Errors
    /// What could not be removed.
    pub fn remove(mut self) -> Result<(), Error> {
        self.0.take().map_or(Ok(()), |path| {
            remove(&path).map_err(|errno| Error::os("remove the demo's directory", errno).with_path(path))
        })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            let _ = remove(&path);
        }
    }
}

/// Removes a directory with all that is in it.
fn remove(path: &Path) -> rustix::io::Result<()> {
    // Where the caller keeps its temporary files may be on other mounts; what is in there may not.
    empty(&open(CWD, path, ResolveFlags::empty())?)?;
    rustix::fs::rmdir(path)
}

/// Opens a directory, unless the last component is a link.
fn open(parent: BorrowedFd<'_>, name: impl Arg, resolve: ResolveFlags) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat2(parent, name, flags, Mode::empty(), resolve)
}

fn empty(directory: &OwnedFd) -> rustix::io::Result<()> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => {
                empty(&open(directory.as_fd(), name, ResolveFlags::NO_XDEV)?)?;
                rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR)?;
            }
            other => other?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn all_in_it_goes_and_nothing_outside() {
        let outside = Scratch::new().expect("made");
        fs::write(outside.path().join("precious"), "x").expect("written");
        let scratch = Scratch::new().expect("made");
        let path = scratch.path().to_owned();
        fs::create_dir_all(path.join("a/b/c")).expect("made");
        fs::write(path.join("a/b/file"), "x").expect("written");
        std::os::unix::fs::symlink(outside.path(), path.join("a/link")).expect("linked");
        scratch.remove().expect("removed");
        assert!(!path.exists());
        assert!(outside.path().join("precious").exists());
        let path = outside.path().to_owned();
        drop(outside);
        assert!(!path.exists());
    }
}
