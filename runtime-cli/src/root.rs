//! Where containers are recorded when `--root` is not given.
//!
//! Must not: be asked when `--root` is given. Tests: at the end of the file.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use coracle::Error;
use rustix::fs::Mode;

/// `/run/coracle`, or `coracle` in `$XDG_RUNTIME_DIR` for those who are not real root.
///
/// # Errors
/// When the directory below `$XDG_RUNTIME_DIR` cannot be made.
pub fn default() -> Result<PathBuf, Error> {
    let runtime_dir = std::env::var_os("XDG_RUNTIME_DIR").filter(|directory| !directory.is_empty());
    let Some(runtime_dir) = runtime_dir.filter(|_| honours_xdg()) else {
        return Ok(PathBuf::from("/run/coracle"));
    };
    sticky(&runtime_dir)
}

/// Real root has `/run`; root of a user namespace only when it calls itself root, as in a nested container.
fn honours_xdg() -> bool {
    if !rustix::process::geteuid().is_root() {
        return true;
    }
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    !maps_everything(&map) && std::env::var_os("USER").is_none_or(|user| user != "root")
}

/// Whether a `uid_map` is that of the initial user namespace.
fn maps_everything(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Makes the directory so that cleaners of `$XDG_RUNTIME_DIR` leave it alone: those skip what has the sticky bit.
fn sticky(runtime_dir: &OsStr) -> Result<PathBuf, Error> {
    let path = Path::new(runtime_dir).join("coracle");
    let failed = |errno: rustix::io::Errno| Error::os("make the root directory", errno).with_path(&path);
    match rustix::fs::mkdir(&path, Mode::from_raw_mode(0o700)) {
        // mkdir takes no sticky bit from some file systems.
        Ok(()) => rustix::fs::chmod(&path, Mode::from_raw_mode(0o1700)).map_err(failed)?,
        Err(rustix::io::Errno::EXIST) => {}
        Err(errno) => return Err(failed(errno)),
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn only_the_first_user_namespace_maps_everything() {
        assert!(maps_everything("         0          0 4294967295\n"));
        assert!(!maps_everything("         0       1000          1\n"));
        assert!(!maps_everything("0 0 65536\n"));
        assert!(!maps_everything(""));
    }

    #[test]
    fn the_directory_is_private_and_sticky() {
        let parent = std::env::temp_dir().join(format!("coracle-root-{}", std::process::id()));
        std::fs::create_dir(&parent).expect("made");
        let path = sticky(parent.as_os_str()).expect("made");
        assert_eq!(path, parent.join("coracle"));
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o7777, 0o1700);
        assert_eq!(sticky(parent.as_os_str()).expect("there already"), path);
        std::fs::remove_dir(path).expect("removed");
        std::fs::remove_dir(parent).expect("removed");
    }
}
