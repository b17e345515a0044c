//! Makes a network namespace in a thread of its own, so that the rest of the work need not wait for it.
//!
//! It is the most expensive namespace by far: several times all others together. Only for a process that belongs to the runtime; the
//! library starts no threads in its caller's.
//!
//! Must not: be used with a user namespace, which would have to own the network namespace. Tests: every `run` of the `tests` package.

use super::session::Mask;
use crate::error::{Error, Phase, Result};
use crate::spec::Spec;
use crate::sys::clone::{NetworkTask, start_network};
use rustix::io::Errno;
use std::os::fd::BorrowedFd;

/// A network namespace in the making.
#[derive(Debug)]
pub(crate) struct Making(NetworkTask);

impl Making {
    /// Begins.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn begin() -> Result<Self> {
        // The thread inherits the mask: a signal that came to it would be taken from whoever waits for it.
        let _mask = Mask::block_all()?;
        start_network().map(Self).map_err(failed)
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
        self.0.file().map_err(failed)
    }

    /// Waits until its loopback interface is up too.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(crate) fn finish(self) -> Result<()> {
        self.0.up().map_err(failed)
    }
}

fn failed(errno: Errno) -> Error {
    Error::os("make the network namespace", errno)
        .at("/linux/namespaces")
        .in_phase(Phase::Namespaces)
        .with_code("network-namespace")
}
