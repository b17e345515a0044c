//! The working directory.
//!
//! Must not: leave the process in a directory that the kernel does not call absolute. Tests: `tests/creds.rs`.

use rustix::io::Errno;

use crate::path::{self, AtPath, DIR_MODE, Leaf, Links, PATH};
use crate::program::Str;
use crate::report::{At, Fail, Say};
use crate::sys;
use crate::walk::Walk;
use crate::wire::Call;

/// Part 0. Root-squashed file systems answer EACCES here; the user may have rights there all the same.
pub(crate) fn make_working_dir(w: &mut Walk<'_>, path: Str) -> Result<(), Fail> {
    let base = w.root()?;
    match path::create(base, w.program.cstr(path)?, Leaf::Dir(DIR_MODE), Links::Follow) {
        Err(lost) if lost.errno == Errno::ACCESS => Ok(()),
        other => other.map(drop).at(0),
    }
}

/// Part 0 resolves it, 1 `fchdir`, 2 `getcwd`, 3 what that said.
#[inline(never)]
pub(crate) fn working_dir(w: &mut Walk<'_>, path: Str, optional: bool) -> Result<(), Fail> {
    let base = w.root()?;
    let text = path::last(w.program.str(path)?);
    let path = w.program.cstr(path)?;
    let entered = match path::existing(base, path, Links::Follow) {
        Ok(fd) => rustix::process::fchdir(&fd).at(1, Call::Chdir).say(text),
        Err(lost) => Err(lost).at(0),
    };
    match entered {
        // The user may have rights here that root has not (root-squashed file systems), or the other way round.
        Err(fail) if optional && fail.errno == Errno::ACCESS.raw_os_error() => return Ok(()),
        other => other?,
    }
    // From a directory of the host that leaked in, the kernel answers "(unreachable)/..." and success (CVE-2024-21626).
    let mut cwd = [0_u8; PATH];
    sys::getcwd(&mut cwd).at(2, Call::Getcwd).say(text)?;
    if cwd.first() == Some(&b'/') { Ok(()) } else { Err(Fail::new(3, Call::Getcwd, Errno::NOENT).say(&cwd)) }
}
