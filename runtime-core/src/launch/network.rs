//! Makes a network namespace in a thread of its own, so that the rest of the work need not wait for it.
//!
//! It is the most expensive namespace by far: several times all others together. Only for a process that belongs to the runtime; the
//! library starts no threads in its caller's.
//!
//! Must not: be used with a user namespace, which would have to own the network namespace. Tests: every `run` of the `tests` package.

use super::session::Mask;
use crate::error::{Error, Phase, Result};
use crate::spec::Spec;
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

/// Stack of the thread; it calls four system calls.
const STACK: usize = 32 * 1024;

/// A network namespace in the making.
#[derive(Debug)]
pub(crate) struct Making {
    made: Arc<Made>,
    thread: JoinHandle<Result<(), Errno>>,
}

/// What the thread has made. A channel would do the same with several times the code, and it is wanted in every start.
#[derive(Debug, Default)]
struct Made {
    file: OnceLock<Result<OwnedFd, Errno>>,
    lock: Mutex<()>,
    told: Condvar,
}

impl Made {
    fn give(&self, file: Result<OwnedFd, Errno>) -> Result<(), Errno> {
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let file = self.file.get_or_init(|| file);
        drop(lock);
        self.told.notify_one();
        file.as_ref().map(|_| ()).map_err(|e| *e)
    }

    fn wait(&self) -> Result<BorrowedFd<'_>, Errno> {
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.told.wait_while(lock, |()| self.file.get().is_none()));
        self.file.get().map_or(Err(Errno::CHILD), |file| file.as_ref().map(AsFd::as_fd).map_err(|e| *e))
    }
}

impl Making {
    /// Begins.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn begin() -> Result<Self> {
        let made = Arc::<Made>::default();
        let give = Arc::clone(&made);
        // The thread inherits the mask: a signal that came to it would be taken from whoever waits for it.
        let _mask = Mask::block_all()?;
        let thread = std::thread::Builder::new()
            .stack_size(STACK)
            .spawn(move || make(&give))
            .map_err(|e| failed(e.raw_os_error().map_or(Errno::AGAIN, Errno::from_raw_os_error)))?;
        Ok(Self { made, thread })
    }

    /// Begins when a configuration, as it is written, will need it. What is wrong with the configuration comes out later; then nobody takes
    /// the namespace, and it ends with the process.
    ///
    /// # Errors
    /// As [`Making::begin`].
    pub(crate) fn begin_for(spec: &Spec) -> Result<Option<Self>> {
        let namespaces = spec.linux.as_ref().map_or(&[][..], |linux| &linux.namespaces);
        let with_user = namespaces.iter().any(|namespace| namespace.kind == "user");
        let new = namespaces.iter().any(|namespace| {
            namespace.kind == "network" && namespace.path.as_deref().is_none_or(str::is_empty)
        });
        // Devices of the host are moved before the child goes on: there is nothing to overlap with.
        let devices = spec.linux.as_ref().is_some_and(|linux| !linux.net_devices.is_empty());
        if new && !with_user && !devices { Self::begin().map(Some) } else { Ok(None) }
    }

    /// Waits for the namespace's file, for the child to enter it.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(crate) fn file(&self) -> Result<BorrowedFd<'_>> {
        self.made.wait().map_err(failed)
    }

    /// Waits until its loopback interface is up too.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(crate) fn finish(self) -> Result<()> {
        self.thread.join().unwrap_or(Err(Errno::CHILD)).map_err(failed)
    }
}

fn failed(errno: Errno) -> Error {
    Error::os("make the network namespace", errno)
        .at("/linux/namespaces")
        .in_phase(Phase::Namespaces)
        .with_code("network-namespace")
}

/// Answers for a thread that ends without an answer, which is a panic: nobody shall wait for ever.
struct Answer<'m>(&'m Made);

impl Drop for Answer<'_> {
    fn drop(&mut self) {
        // The first answer counts.
        let _ = self.0.give(Err(Errno::CHILD));
    }
}

fn make(made: &Made) -> Result<(), Errno> {
    let _answer = Answer(made);
    // The namespace is this thread's alone, and the thread ends.
    let file = unshare(CloneFlags::CLONE_NEWNET)
        .map_err(|e| Errno::from_io_error(&e.into()).unwrap_or(Errno::PERM))
        .and_then(|()| open("/proc/thread-self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()));
    // Nobody takes it when the container failed meanwhile.
    made.give(file)?;
    coracle_init::raise_loopback()
}
