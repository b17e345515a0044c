//! Makes a network namespace in a thread of its own, so that the rest of the work need not wait for it.
//!
//! It is the most expensive namespace by far: several times all others together. Only for a process that belongs to the runtime; the
//! library starts no threads in its caller's.
//!
//! Must not: be used with a user namespace, which would have to own the network namespace. Tests: every `run` of the `tests` package.

use crate::error::{Error, Phase, Result};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::thread::JoinHandle;

/// Stack of the thread; it calls four system calls.
const STACK: usize = 32 * 1024;

/// A network namespace in the making.
#[derive(Debug)]
pub(crate) struct Making(JoinHandle<Result<OwnedFd, Errno>>);

impl Making {
    /// Begins.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn begin() -> Result<Self> {
        std::thread::Builder::new()
            .stack_size(STACK)
            .spawn(make)
            .map(Self)
            .map_err(|e| failed(e.raw_os_error().map_or(Errno::AGAIN, Errno::from_raw_os_error)))
    }

    /// Waits for it: the namespace's file, its loopback interface up.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(crate) fn finish(self) -> Result<OwnedFd> {
        self.0.join().unwrap_or(Err(Errno::CHILD)).map_err(failed)
    }
}

fn failed(errno: Errno) -> Error {
    Error::os("make the network namespace", errno)
        .at("/linux/namespaces")
        .in_phase(Phase::Namespaces)
        .with_code("network-namespace")
}

fn make() -> Result<OwnedFd, Errno> {
    // The namespace is this thread's alone, and the thread ends.
    unshare(CloneFlags::CLONE_NEWNET).map_err(|e| Errno::from_io_error(&e.into()).unwrap_or(Errno::PERM))?;
    coracle_init::raise_loopback()?;
    open("/proc/thread-self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}
