//! Labels of security modules, by the files of the own thread in a procfs that the parent opened.
//!
//! Must not: follow a mount inside that procfs, or be content with a file of another file system. Tests: `tests` package, lsm (where a
//! module is enabled).

use core::ffi::CStr;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::program::{Slot, Str};
use crate::report::{At, Fail};
use crate::step::ns;
use crate::sys::{self, Fd};
use crate::walk::Walk;
use crate::wire::Call;

/// A label cannot be longer than what the kernel takes in one write.
const PAGE: usize = 4096;

/// Part 0 opens, 1 looks at the file system, 2 writes, 3 reads back, 4 compares.
pub(crate) fn label(
    w: &Walk<'_>,
    proc: Slot,
    file: Str,
    other: Str,
    text: Str,
    expect: Str,
) -> Result<(), Fail> {
    const PROC_SUPER_MAGIC: u32 = 0x9fa0;
    let proc = w.slot(proc)?;
    let opened = match open(proc, w.program.cstr(file)?) {
        Err(Errno::NOENT) if !other.is_none() => open(proc, w.program.cstr(other)?),
        opened => opened,
    };
    let fd = opened.at(0, Call::Openat2)?;
    let kind = rustix::fs::fstatfs(&fd).at(1, Call::Fstatfs)?.f_type;
    if u32::try_from(kind) != Ok(PROC_SUPER_MAGIC) {
        return Err(Fail::new(1, Call::Compare, Errno::XDEV));
    }
    let text = w.program.str(text)?;
    ns::write_once(fd.raw(), text, 2)?;
    if text == b"\n" {
        return Ok(());
    }
    let mut room = [0_u8; PAGE];
    let len = rustix::io::pread(&fd, &mut room[..], 0).at(3, Call::Read)?;
    let have = room.get(..len).unwrap_or(&[]).trim_ascii_end();
    let have = have.strip_suffix(b"\0").unwrap_or(have);
    let same = if expect.is_none() {
        !have.is_empty()
    } else {
        // "name (mode)"
        let rest = have.strip_prefix(w.program.str(expect)?);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b" ("))
    };
    if same { Ok(()) } else { Err(Fail::new(4, Call::Compare, Errno::PERM).say(have)) }
}

fn open(proc: i32, path: &CStr) -> Result<Fd, Errno> {
    // `thread-self` is a link with a path as its text; none that leads to an object is followed.
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
    sys::open(Some(proc), path, OFlags::RDWR, Mode::empty(), resolve)
}
