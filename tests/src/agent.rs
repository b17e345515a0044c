//! The agent of a filter that notifies: the socket at which the runtime delivers the listener.

use crate::harness::T;
use crate::{runtime, terminal};
use rustix::net::{Shutdown, shutdown};
use serde_json::Value;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Duration;

/// Who answers notified calls: by closing the listener, so that they do not exist.
#[derive(Debug)]
pub struct Agent {
    /// Where it listens.
    pub path: PathBuf,
    /// Readable when somebody has connected.
    pub socket: UnixListener,
}

impl Agent {
    /// Binds it in the case's directory.
    pub fn new(t: &T) -> Self {
        let path = t.dir().join("agent");
        Self { socket: UnixListener::bind(&path).expect("a new socket"), path }
    }

    /// Whether somebody connects within ten seconds.
    pub fn waits(&self) -> bool {
        runtime::wait_readable(&self.socket, Duration::from_secs(10))
    }

    /// What one connection brings: exactly one state, with its descriptors, and then its end.
    pub fn take(&self) -> (Value, Vec<OwnedFd>) {
        assert!(self.waits(), "nobody connects to the agent");
        let (mut stream, _) = self.socket.accept().expect("a connection");
        let (mut text, fds) = terminal::receive(&stream);
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("own socket");
        stream.read_to_end(&mut text).expect("the connection is closed behind the state");
        (serde_json::from_slice(&text).expect("JSON"), fds)
    }

    /// Listens no more, at once: a process forked meanwhile may hold the socket a moment longer than this one.
    pub fn end(self) {
        shutdown(&self.socket, Shutdown::Both).expect("own socket");
    }
}
