//! The runtime's own executable, kept out of the containers' reach.
//!
//! A container that runs as the host's root can make its own process execute `/proc/self/exe` (by `args[0]`, a `#!` line, or a program
//! found in PATH) while that is still the runtime, keep the file open and write it later: CVE-2019-5736. So a program that starts
//! containers runs from a place that cannot be written: a read-only mount that belongs to no namespace, or a sealed copy in memory.
//!
//! Must not: be skipped in silence. Tests: `tests` package, hostile.

use crate::error::{Error, ErrorKind, Phase, Result};
pub(crate) use crate::sys::exe::tree;
use crate::sys::exe::{execute, is_safe, make_readonly, take_tree};
use rustix::fs::{
    CWD, MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, fstatfs, memfd_create,
    open, openat, sendfile, statat,
};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

const EXE: &str = "/proc/self/exe";
const ALL_SEALS: SealFlags =
    SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);

/// Makes sure that this program's file cannot be written through `/proc`: returns when that is so, and executes the same program with the
/// same arguments and environment from a safe place when not. What is constant after relocation cannot be written any more, either, where
/// the C library leaves that out (musl). Call it first in `main`, before threads, open files and anything that
/// should not happen twice.
///
/// # Errors
/// [`ErrorKind::Unsupported`] when no way works here; then no container should be started.
pub fn reexec_sealed() -> Result<()> {
    crate::sys::memory::seal_constants();
    // The entry point of the `coracle` program was here (`sys/early.rs`).
    if is_safe() {
        return Ok(());
    }
    let exe = open(EXE, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    if is_readonly(&exe).map_err(failed)? || is_sealed() {
        return Ok(());
    }
    let args: Vec<CString> = std::env::args_os().map(text).collect::<Result<_>>()?;
    let args: Vec<&std::ffi::CStr> = args.iter().map(CString::as_c_str).collect();
    // The tree costs a tenth of the copy; without privileges or before Linux 5.12 there is only the copy.
    let error = match readonly_directory(&exe) {
        Ok((dir, name)) => execute(dir.as_fd(), &name, &args),
        Err(e) => e,
    };
    let copy = sealed_copy().map_err(|e| failed(e).with_source(std::io::Error::from(error)))?;
    Err(failed(execute(copy.as_fd(), c"", &args)))
}

/// Closes the tree that the entry point moved this program to. Unless a child has taken it away, the kernel dissolves it then, which takes as
/// long as an RCU grace period: for a moment in which somebody else is waited for, and before a program of a container runs.
pub(crate) fn let_go() {
    drop(take_tree());
}

fn failed(errno: Errno) -> Error {
    Error::os("protect the runtime's own executable", errno)
        .of_kind(ErrorKind::Unsupported)
        .with_path(EXE)
        .with_code("own-executable")
        .in_phase(Phase::Plan)
}

fn text(arg: OsString) -> Result<CString> {
    CString::new(arg.into_vec())
        .map_err(|_| Error::new(ErrorKind::Usage, "an argument contains a NUL character"))
}

fn is_readonly(exe: &OwnedFd) -> Result<bool, Errno> {
    const ST_RDONLY: u64 = 1;
    // The mount's flag is enough: nobody inside a container can change a mount that is not in its namespace.
    Ok(u64::try_from(fstatfs(exe)?.f_flags).unwrap_or(0) & ST_RDONLY != 0)
}

fn is_sealed() -> bool {
    let Ok(fd) = open(EXE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) else { return false };
    fcntl_get_seals(fd).is_ok_and(|seals| seals.contains(ALL_SEALS))
}

/// A detached read-only clone of the directory that holds our file, and the file's name in it. The directory and not the file: with a
/// clone of the file alone, whoever holds its descriptor can make it writable again.
fn readonly_directory(exe: &OwnedFd) -> Result<(OwnedFd, CString), Errno> {
    let path = rustix::fs::readlink(EXE, Vec::new())?;
    let path = Path::new(std::ffi::OsStr::from_bytes(path.as_bytes())).to_path_buf();
    let (dir, name) = path.parent().zip(path.file_name()).ok_or(Errno::NOENT)?;
    let tree = open_tree(CWD, dir, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    make_readonly(tree.as_fd())?;
    let (ours, there) = (fstat(exe)?, statat(&tree, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?);
    if (ours.st_dev, ours.st_ino) != (there.st_dev, there.st_ino) {
        return Err(Errno::STALE);
    }
    let name = CString::new(name.as_bytes()).map_err(|_| Errno::INVAL)?;
    Ok((tree, name))
}

fn sealed_copy() -> Result<OwnedFd, Errno> {
    let source = openat(CWD, EXE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    const EXEC: MemfdFlags = MemfdFlags::from_bits_retain(0x10);
    // MFD_EXEC is new in 6.3, where it keeps a strict host from guessing.
    let copy = match memfd_create("coracle", flags | EXEC) {
        Err(Errno::INVAL) => memfd_create("coracle", flags)?,
        done => done?,
    };
    let size = usize::try_from(fstat(&source)?.st_size).map_err(|_| Errno::FBIG)?;
    let mut left = size;
    while left > 0 {
        match sendfile(&copy, &source, None, left) {
            Ok(0) => return Err(Errno::IO),
            Ok(n) => left = left.saturating_sub(n),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    fcntl_add_seals(&copy, ALL_SEALS)?;
    Ok(copy)
}
