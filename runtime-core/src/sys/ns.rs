//! `ioctl_ns(2)`: of which type a namespace file is.
//!
//! Must not: open anything. Tests: at the end of this file.

#![allow(unsafe_code, reason = "raw calls; see the module above")]

use rustix::io::Errno;
use rustix::ioctl::Opcode;
use std::os::fd::BorrowedFd;

/// `NS_GET_NSTYPE` = `_IO(0xb7, 0x3)` (Linux 4.11).
const NS_GET_NSTYPE: Opcode = 0xb703;

/// The `CLONE_NEW*` flag of the namespace behind `fd`.
///
/// # Errors
/// ENOTTY when the descriptor is no namespace.
pub(crate) fn nstype(fd: BorrowedFd<'_>) -> Result<i32, Errno> {
    struct Type;
    // SAFETY: NS_GET_NSTYPE takes no argument and changes nothing; the answer is the return value.
    unsafe impl rustix::ioctl::Ioctl for Type {
        type Output = i32;
        const IS_MUTATING: bool = false;
        fn opcode(&self) -> Opcode {
            NS_GET_NSTYPE
        }
        fn as_ptr(&mut self) -> *mut std::ffi::c_void {
            std::ptr::null_mut()
        }
        unsafe fn output_from_ptr(
            out: rustix::ioctl::IoctlOutput,
            _: *mut std::ffi::c_void,
        ) -> rustix::io::Result<i32> {
            Ok(out)
        }
    }
    // SAFETY: as above; the descriptor is borrowed and therefore open.
    unsafe { rustix::ioctl::ioctl(fd, Type) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_namespace_file_tells_its_type_and_another_file_none() {
        let ns = std::fs::File::open("/proc/self/ns/uts").unwrap();
        assert_eq!(nstype(ns.as_fd()), Ok(libc::CLONE_NEWUTS));
        let other = std::fs::File::open("/proc/self/status").unwrap();
        assert_eq!(nstype(other.as_fd()), Err(Errno::NOTTY));
    }
}
