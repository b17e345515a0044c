//! Unix sockets that engines give: the console and the pidfd socket.
//!
//! Must not: use names outside the file system, which every process of the network namespace could take.
//! Tests: at the end of the file.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use coracle::{Error, Phase};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, connect, sendmsg, socket_with,
};

use crate::file::directory_of;

/// What a socket address has room for, with the zero at its end.
const LONGEST: usize = 108;

/// Connects to a listening stream socket; its path may be longer than an address holds.
///
/// # Errors
/// The kernel's; EINVAL for an empty path.
pub fn connect_to(path: &Path) -> Result<OwnedFd, Error> {
    try_connect(path, SocketType::STREAM).map_err(|errno| {
        Error::os("connect to the socket", errno)
            .with_path(path)
            .in_phase(Phase::Terminal)
            .with_code("socket")
    })
}

/// The same with another type of socket, and the bare error.
///
/// # Errors
/// As [`connect_to`].
pub fn try_connect(path: &Path, kind: SocketType) -> rustix::io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
    // An empty name would be autobind's, one that begins with a zero byte an abstract one.
    if path.as_os_str().as_bytes().first().is_none_or(|first| *first == 0) {
        return Err(Errno::INVAL);
    }
    if path.as_os_str().len() < LONGEST {
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        return Ok(socket);
    }
    let name = path.file_name().ok_or(Errno::INVAL)?;
    let directory = directory_of(path)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd())).join(name);
    connect(&socket, &SocketAddrUnix::new(&short)?)?;
    Ok(socket)
}

/// Sends one descriptor along with some bytes.
///
/// # Errors
/// The kernel's.
pub fn send_descriptor(socket: BorrowedFd<'_>, bytes: &[u8], fd: BorrowedFd<'_>) -> Result<(), Error> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    let fits = control.push(SendAncillaryMessage::ScmRights(&fds));
    debug_assert!(fits, "the space is for one descriptor");
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
        .map(|_| ())
        .map_err(|errno| Error::os("send a descriptor", errno).with_code("socket"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::FileTypeExt;
    use std::os::unix::net::UnixListener;

    #[test]
    fn short_and_long_names() {
        let top = std::env::temp_dir().join(format!("coracle-socket-{}", std::process::id()));
        let deep = top.join("d".repeat(90)).join("e".repeat(90));
        fs::create_dir_all(&deep).expect("made");
        for directory in [&top, &deep] {
            let here = directory.join("s");
            // Binding has the same limit, so it is done where the name is short.
            let listener = {
                let fd = directory_of(&here).expect("open");
                UnixListener::bind(format!("/proc/self/fd/{}/s", fd.as_raw_fd())).expect("bound")
            };
            assert!(fs::metadata(&here).expect("there").file_type().is_socket());
            let near = connect_to(&here).expect("connected");
            let (far, _) = listener.accept().expect("accepted");
            send_descriptor(std::os::fd::AsFd::as_fd(&near), b"standard", rustix::stdio::stdin())
                .expect("sent");
            assert_eq!(received(&far), ("standard".to_owned(), 1));
            fs::remove_file(&here).expect("removed");
            assert_eq!(connect_to(&here).expect_err("gone").errno_name(), Some("ENOENT"));
        }
        fs::remove_dir(&deep).expect("removed");
        fs::remove_dir(deep.parent().expect("a parent")).expect("removed");
        fs::remove_dir(&top).expect("removed");
    }

    fn received(socket: &std::os::unix::net::UnixStream) -> (String, usize) {
        use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [0; 64];
        let count = recvmsg(
            socket,
            &mut [std::io::IoSliceMut::new(&mut bytes)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )
        .expect("received")
        .bytes;
        let fds = control
            .drain()
            .map(|message| match message {
                RecvAncillaryMessage::ScmRights(fds) => fds.count(),
                _ => 0,
            })
            .sum();
        (String::from_utf8_lossy(&bytes[..count]).into_owned(), fds)
    }

    #[test]
    fn no_names_outside_the_file_system() {
        use std::ffi::OsStr;
        for path in [OsStr::from_bytes(b""), OsStr::from_bytes(b"\0abstract")] {
            assert_eq!(connect_to(Path::new(path)).expect_err("refused").errno_name(), Some("EINVAL"));
        }
    }
}
