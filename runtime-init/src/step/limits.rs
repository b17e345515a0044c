//! Limits of the process: resources, umask, processors.
//!
//! Must not: raise what only the parent may raise. Tests: `tests/creds.rs`.

use rustix::fs::Mode;

use crate::program::Bytes;
use crate::report::{At, Fail};
use crate::sys;
use crate::walk::Walk;
use crate::wire::Call;

pub(crate) fn rlimit(resource: u32, soft: u64, hard: u64) -> Result<(), Fail> {
    sys::set_limit(resource, soft, hard).at(0, Call::Setrlimit)
}

pub(crate) fn umask(mask: u32) -> Result<(), Fail> {
    rustix::process::umask(Mode::from_raw_mode(mask));
    Ok(())
}

pub(crate) fn affinity(w: &Walk<'_>, mask: Bytes) -> Result<(), Fail> {
    sys::set_affinity(w.program.raw(mask)?).at(0, Call::SchedSetaffinity)
}
