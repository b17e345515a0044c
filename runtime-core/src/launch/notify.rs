//! The container's own socket for sd_notify(3): `notify/notify.sock` in its directory on the host, whose directory is bound to
//! `/run/notify` inside. The caller of the runtime reads what the program says there.
//!
//! Must not: read or forward anything; that is for whoever knows the service manager. Tests: `tests` package, readiness.

use crate::error::{Error, Phase, Result};
use crate::spec::Mount;
use rustix::fs::{AtFlags, Mode, OFlags, chmod, fchmod, mkdirat, openat, unlinkat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The directory's name in the container's.
pub(crate) const DIRECTORY: &str = "notify";
/// Where it is inside, as with runc.
const INSIDE: &str = "/run/notify";
const SOCKET: &str = "notify.sock";
const OPEN: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The mount that shows the directory of the container at `place` on the host.
pub(crate) fn mount(place: &Path) -> Mount {
    let options = ["bind", "nosuid", "noexec", "nodev", "ro"];
    Mount {
        destination: INSIDE.to_owned(),
        source: Some(place.join(DIRECTORY).to_string_lossy().into_owned()),
        options: options.map(str::to_owned).to_vec(),
        ..Mount::default()
    }
}

/// What the program finds in its environment.
pub(crate) fn variable() -> String {
    format!("NOTIFY_SOCKET={INSIDE}/{SOCKET}")
}

/// Makes the directory, which the container's users may look through, in the container's directory `dir`.
///
/// # Errors
/// The kernel's.
pub(crate) fn make(dir: BorrowedFd<'_>) -> Result<()> {
    let make = || {
        let mode = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
        mkdirat(dir, DIRECTORY, mode)?;
        // The umask is not ours to change.
        fchmod(openat(dir, DIRECTORY, OPEN, Mode::empty())?, mode)
    };
    make().map_err(|e| Error::os("make the directory of the notification socket", e).in_phase(Phase::State))
}

/// Binds the socket, to which everybody inside may send. One that a caller left who was killed is replaced. `None` when the container
/// was made without the directory.
///
/// # Errors
/// The kernel's.
pub(crate) fn listen(dir: BorrowedFd<'_>) -> Result<Option<OwnedFd>> {
    match try_listen(dir) {
        Ok(socket) => Ok(Some(socket)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(Error::os("bind the notification socket", e).in_phase(Phase::State)),
    }
}

fn try_listen(dir: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let dir = openat(dir, DIRECTORY, OPEN, Mode::empty())?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    match unlinkat(&dir, SOCKET, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(e) => return Err(e),
    }
    let below = |fd: &OwnedFd, name: &str| format!("/proc/thread-self/fd/{}{name}", fd.as_raw_fd());
    bind(&socket, &SocketAddrUnix::new(below(&dir, &format!("/{SOCKET}")))?)?;
    // By its descriptor: in a container of an ordinary user somebody may exchange the name.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let bound = openat(dir.as_fd(), SOCKET, flags, Mode::empty())?;
    chmod(below(&bound, ""), Mode::RWXU | Mode::RWXG | Mode::RWXO)?;
    Ok(socket)
}
