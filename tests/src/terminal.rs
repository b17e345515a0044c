//! Terminals and descriptors: pseudo-terminals made by the case, sockets that receive descriptors.

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::File;
use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Receives one message with descriptors: its bytes and the descriptors.
pub fn receive(socket: &impl AsFd) -> (Vec<u8>, Vec<OwnedFd>) {
    assert!(crate::runtime::wait_readable(socket, Duration::from_secs(20)), "nothing arrives at the socket");
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = vec![0; 65536];
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let message = recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).expect("a message");
    let length = message.bytes;
    let fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds.collect::<Vec<OwnedFd>>()),
        _ => None,
    });
    let fds = fds.flatten().collect();
    bytes.truncate(length);
    (bytes, fds)
}

/// A socket at which the runtime delivers the master of a container's terminal.
#[derive(Debug)]
pub struct ConsoleSocket {
    /// Where it is.
    pub path: PathBuf,
    listener: UnixListener,
}

impl ConsoleSocket {
    /// Binds it.
    pub fn new(path: PathBuf) -> Self {
        let listener = UnixListener::bind(&path).expect("a new socket");
        Self { path, listener }
    }
    /// The master, and the text that came with it (its path, as runc sends it).
    pub fn master(&self) -> (OwnedFd, String) {
        assert!(crate::runtime::wait_readable(&self.listener, Duration::from_secs(20)), "nobody connects");
        let (stream, _) = self.listener.accept().expect("a connection");
        let (text, mut fds) = receive(&stream);
        assert_eq!(fds.len(), 1, "one descriptor");
        let text = String::from_utf8_lossy(&text).trim_end_matches('\0').to_owned();
        (fds.remove(0), text)
    }
}

/// A pseudo-terminal of the case: the master here, the other side for a child.
#[derive(Debug)]
pub struct Pty {
    /// The master.
    pub master: OwnedFd,
    /// The side that a program gets.
    pub user: OwnedFd,
}

impl Pty {
    /// Makes one of this size.
    pub fn new(rows: u16, columns: u16) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).expect("a pseudo-terminal");
        grantpt(&master).expect("own terminal");
        unlockpt(&master).expect("own terminal");
        let user = ioctl_tiocgptpeer(&master, flags).expect("the other side");
        resize(&master, rows, columns);
        Self { master, user }
    }
    /// A copy of the other side, to give away.
    pub fn user(&self) -> OwnedFd {
        self.user.try_clone().expect("a descriptor")
    }
}

/// Changes the size of a terminal; its foreground processes get SIGWINCH.
pub fn resize(master: &impl AsFd, rows: u16, columns: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(master, size).expect("own terminal");
}

/// Reads a master in a thread until its other side is closed.
#[derive(Debug)]
pub struct Reader {
    seen: Arc<Mutex<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Starts to read.
    pub fn new(master: &impl AsFd) -> Self {
        let mut file = File::from(master.as_fd().try_clone_to_owned().expect("a descriptor"));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&seen);
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 65536];
            // The end of a terminal is EIO.
            while let Ok(length @ 1..) = file.read(&mut buffer) {
                to.lock().unwrap().extend_from_slice(&buffer[..length]);
            }
        });
        Self { seen, thread: Some(thread) }
    }
    /// What has come so far.
    pub fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }
    /// Waits until this text has come.
    pub fn until(&self, text: &str) {
        let end = Instant::now() + Duration::from_secs(20);
        while !self.seen().contains(text) {
            assert!(
                Instant::now() < end,
                "waited in vain for `{text}` on the terminal, which shows `{}`",
                self.seen()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    /// Waits for the end: everything that came.
    pub fn end(mut self) -> Vec<u8> {
        self.thread.take().expect("once").join().expect("the reader");
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}
