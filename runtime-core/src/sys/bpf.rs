//! bpf(2), as far as device programs of cgroups need it. No crate has it without C code or without raising
//! RLIMIT_MEMLOCK, which is the caller's and stays untouched (kernels since 5.11 charge the memory cgroup instead).
//!
//! The kernel has once written past a structure that was shorter than its own (BPF_PROG_QUERY, 6.17 to 7.2), so every
//! attribute lies zeroed in a buffer much larger than any known one.
//! Must not: decide anything. Tests: in this file.
#![allow(unsafe_code, reason = "raw calls; see the module above")]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io::Errno;

const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const PROG_DETACH: libc::c_long = 9;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const PROG_QUERY: libc::c_long = 16;

const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 1 << 1;
const REPLACE: u32 = 1 << 2;

/// The kernel's `union bpf_attr` had 176 bytes in 6.18.
const ATTR_SIZE: usize = 176;
const SLACK: usize = 336;

/// An attribute in a buffer with room behind it.
#[repr(C, align(8))]
struct Attr([u8; ATTR_SIZE + SLACK]);

impl Attr {
    fn new() -> Self {
        Self([0; ATTR_SIZE + SLACK])
    }

    fn put(mut self, offset: usize, bytes: &[u8]) -> Self {
        if let Some(place) = self.0.get_mut(offset..offset + bytes.len()) {
            place.copy_from_slice(bytes);
        }
        self
    }

    fn u32(self, offset: usize, value: u32) -> Self {
        self.put(offset, &value.to_ne_bytes())
    }

    fn fd(self, offset: usize, fd: BorrowedFd<'_>) -> Self {
        self.put(offset, &fd.as_raw_fd().to_ne_bytes())
    }

    /// An address; the caller keeps what it points to alive and of the size that it states beside it.
    fn address<T>(self, offset: usize, place: *const T) -> Self {
        let address = place.expose_provenance() as u64;
        self.put(offset, &address.to_ne_bytes())
    }

    fn get_u32(&self, offset: usize) -> u32 {
        let bytes = self.0.get(offset..offset + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_ne_bytes)
    }

    /// # Safety
    /// Addresses in the attribute must be valid for what `command` does with them.
    unsafe fn call(&mut self, command: libc::c_long) -> Result<libc::c_long, Errno> {
        // SAFETY: the pointer is to a live buffer of more than `ATTR_SIZE` bytes; the addresses in it are the
        // caller's promise.
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, self.0.as_mut_ptr(), ATTR_SIZE) };
        if result < 0 {
            let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
            return Err(Errno::from_raw_os_error(errno));
        }
        Ok(result)
    }
}

fn owned(result: libc::c_long) -> Result<OwnedFd, Errno> {
    let raw = RawFd::try_from(result).map_err(|_| Errno::BADF)?;
    // SAFETY: the kernel just made this descriptor for us, close-on-exec as all of bpf(2)'s, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Loads a device program from `struct bpf_insn`s; does not block beyond the verifier's time.
pub(crate) fn load_device_program(instructions: &[u8]) -> Result<OwnedFd, Errno> {
    let count = u32::try_from(instructions.len() / 8).map_err(|_| Errno::TOOBIG)?;
    let license = c"MIT";
    let mut attr = Attr::new()
        .u32(0, TYPE_CGROUP_DEVICE)
        .u32(4, count)
        .address(8, instructions.as_ptr())
        .address(16, license.as_ptr())
        .put(48, b"coracle_device\0")
        .u32(68, ATTACH_CGROUP_DEVICE);
    // SAFETY: `instructions` has `count` times 8 bytes, `license` ends in NUL; both live through the call, which only
    // reads them.
    owned(unsafe { attr.call(PROG_LOAD) }?)
}

/// Attaches a device program to a cgroup; with `old`, in its place at once (5.6). Others may attach theirs beside it.
pub(crate) fn attach_device_program(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    old: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let flags = if old.is_some() { ALLOW_MULTI | REPLACE } else { ALLOW_MULTI };
    let mut attr = Attr::new().fd(0, cgroup).fd(4, program).u32(8, ATTACH_CGROUP_DEVICE).u32(12, flags);
    if let Some(old) = old {
        attr = attr.fd(16, old);
    }
    // SAFETY: the attribute holds no address.
    unsafe { attr.call(PROG_ATTACH) }.map(drop)
}

/// Takes a device program off a cgroup.
pub(crate) fn detach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut attr = Attr::new().fd(0, cgroup).fd(4, program).u32(8, ATTACH_CGROUP_DEVICE);
    // SAFETY: the attribute holds no address.
    unsafe { attr.call(PROG_DETACH) }.map(drop)
}

/// Ids of the device programs attached to this cgroup (not those of its parents), in their order; at most 64, the
/// kernel's own limit.
pub(crate) fn device_programs(cgroup: BorrowedFd<'_>) -> Result<Vec<u32>, Errno> {
    const MAX: usize = 64;
    let mut ids = [0u32; MAX];
    let count = u32::try_from(MAX).map_err(|_| Errno::TOOBIG)?;
    let mut attr = Attr::new()
        .fd(0, cgroup)
        .u32(4, ATTACH_CGROUP_DEVICE)
        .address(16, ids.as_mut_ptr().cast_const())
        .u32(24, count);
    // SAFETY: the kernel writes at most `count` ids into `ids`, which lives through the call.
    unsafe { attr.call(PROG_QUERY) }?;
    let found = usize::try_from(attr.get_u32(24)).map_err(|_| Errno::TOOBIG)?;
    Ok(ids.get(..found).unwrap_or(&ids).to_vec())
}

/// A program by its id.
pub(crate) fn program_by_id(id: u32) -> Result<OwnedFd, Errno> {
    let mut attr = Attr::new().u32(0, id);
    // SAFETY: the attribute holds no address.
    owned(unsafe { attr.call(PROG_GET_FD_BY_ID) }?)
}

/// The id of a program.
pub(crate) fn program_id(program: BorrowedFd<'_>) -> Result<u32, Errno> {
    // `struct bpf_prog_info`: type, id, ...; asking for its first 8 bytes is asking for no arrays.
    let mut info = [0u32; 64];
    let mut attr = Attr::new().fd(0, program).u32(4, 8).address(8, info.as_mut_ptr().cast_const());
    // SAFETY: the kernel writes at most the stated 8 bytes into `info`, which is longer and lives through the call.
    unsafe { attr.call(OBJ_GET_INFO_BY_FD) }?;
    info.get(1).copied().filter(|id| *id != 0).ok_or(Errno::NOENT)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    /// `r0 = 1; exit`
    const YES: [u8; 16] = [0xb4, 0, 0, 0, 1, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];

    #[test]
    #[cfg(target_endian = "little")]
    fn the_kernel_writes_only_where_it_was_told() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: loading programs needs root");
            return;
        }
        let program = load_device_program(&YES).unwrap();
        let id = program_id(program.as_fd()).unwrap();
        let same = program_by_id(id).unwrap();
        assert_eq!(program_id(same.as_fd()).unwrap(), id);
        // A directory that is no cgroup: the error comes back, and the slack behind the attribute stays as it was.
        let dir = std::fs::File::open("/").unwrap();
        assert_eq!(device_programs(dir.as_fd()).unwrap_err(), Errno::BADF);
    }
}
