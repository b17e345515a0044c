//! What must hold before anything is done.
//!
//! That the descriptors 0 to 2 are open is std's work: before `main` it opens `/dev/null` where one is closed, so no file that
//! is opened here gets such a number (pinned by `tests/contract.rs`).
//! Must not: cost more than a few system calls. Tests: `tests/contract.rs`.

use coracle::{Error, ErrorKind};
use rustix::process::{getegid, geteuid, getgid, getuid};

/// Refuses to run with more privileges than the caller has: as a set-user-ID or set-group-ID program or with file
/// capabilities every flag would be a way to root.
///
/// # Errors
/// When real and effective ids differ, or an ordinary user's process has permitted capabilities that are not ambient, which
/// only the file can have given.
pub fn refuse_gained_privileges() -> Result<(), Error> {
    let refused = |what: &'static str| {
        Err(Error::new(ErrorKind::Usage, what)
            .with_code("setuid")
            .with_hint("install it without special bits"))
    };
    if getuid() != geteuid() || getgid() != getegid() {
        return refused("run with different real and effective ids");
    }
    if !geteuid().is_root() && file_capabilities() {
        return refused("run with capabilities of its file");
    }
    Ok(())
}

fn file_capabilities() -> bool {
    use rustix::thread::{CapabilitySet, capabilities, capability_is_in_ambient_set};
    let permitted = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.permitted);
    permitted.iter().any(|one| !matches!(capability_is_in_ambient_set(one), Ok(true)))
}
