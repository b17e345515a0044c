//! The change of the root directory, in its two forms.
//!
//! Must not: leave a way back to the host's tree (`PivotRoot`), or a full procfs or sysfs beside the new root (`MoveRoot`).
//! Tests: `tests/mounts.rs`, and the parser at the end of this file.

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags, mount, mount_change, move_mount, unmount,
};
use rustix::process::{chdir, chroot, fchdir, pivot_root};

use crate::buf::{Buf, number};
use crate::path;
use crate::report::{At, Fail, Say};
use crate::sys::{self, Fd};
use crate::walk::Walk;
use crate::wire::Call;

/// Part 0 opens the old root, 1 `fchdir`, 2 `pivot_root`, 3 `fchdir` to the old root, 4 its propagation, 5 `umount2`, 6 `chdir`.
#[inline(never)]
pub(crate) fn pivot(w: &mut Walk<'_>) -> Result<(), Fail> {
    let root = w.root()?;
    let old = sys::open_top().at(0, Call::Open)?;
    fchdir(sys::borrow(root.raw())).at(1, Call::Chdir)?;
    pivot_root(c".", c".").at(2, Call::PivotRoot)?;
    // Both are at "." now, the old one on top; its descriptor names the right one of them.
    fchdir(&old).at(3, Call::Chdir)?;
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change(c".", slave).at(4, Call::Mount)?;
    if let Some(tree) = w.spare_tree.take() {
        bury(tree, &old);
    }
    unmount(c".", UnmountFlags::DETACH).at(5, Call::Umount2)?;
    drop(old);
    chdir(c"/").at(6, Call::Chdir)
}

/// Attaches `tree` somewhere below `old`, which goes away as a whole, and closes it. Not on `old` itself: the topmost mount of a place is what
/// is detached there. Where this does not work, the tree is dissolved when the last descriptor of it is closed.
fn bury(tree: i32, old: &Fd) {
    let tree = Fd::own(tree);
    let (flags, resolve) =
        (OFlags::PATH | OFlags::DIRECTORY, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS);
    if let Ok(place) = sys::open(Some(old.raw()), c"proc", flags, Mode::empty(), resolve) {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        let _ = move_mount(sys::borrow(tree.raw()), c"", &place, c"", flags);
    }
}

/// Part 0 reads the mounts, 1 detaches or covers, 2 `fchdir`, 3 `move_mount`, 4 `chroot`, 5 `chdir`.
#[inline(never)]
pub(crate) fn move_onto_top(w: &mut Walk<'_>) -> Result<(), Fail> {
    let root = w.root()?;
    uncover_host(root.raw())?;
    fchdir(sys::borrow(root.raw())).at(2, Call::Chdir)?;
    let top = sys::open_top().at(3, Call::Open)?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(sys::borrow(root.raw()), c"", &top, c"", flags).at(3, Call::MoveMount)?;
    drop(top);
    chroot(c".").at(4, Call::Chroot)?;
    chdir(c"/").at(5, Call::Chdir)
}

/// Every full procfs and sysfs outside the new root would let a nested user namespace mount its own, without masks.
fn uncover_host(root: i32) -> Result<(), Fail> {
    /// More mounts than the kernel allows in a namespace by default.
    const PASSES: u32 = 200_000;
    let root = u32::try_from(path::mount_id(root).at(0, Call::Stat)?);
    let root = root.map_err(|_| Fail::new(0, Call::Stat, Errno::OVERFLOW))?;
    // One descriptor for all reads: the first thing to go may be the host's /proc.
    let (read, resolve) = (OFlags::RDONLY, ResolveFlags::empty());
    let table = sys::open(None, c"/proc/self/mountinfo", read, Mode::empty(), resolve).at(0, Call::Open)?;
    let mut own = Buf::<{ path::PATH }>::new();
    read_mounts(&table, |mount| {
        if mount.id != root {
            return false;
        }
        own.push(mount.point.bytes()).is_ok()
    })?;
    if own.bytes().is_empty() {
        return Err(Fail::new(0, Call::Read, Errno::NOENT));
    }
    let mut last = 0;
    let mut covered = 0_u32;
    for _ in 0..PASSES {
        let mut skip = covered;
        let mut found = None;
        read_mounts(&table, |mount| {
            let full = mount.whole && matches!(mount.kind.bytes(), b"proc" | b"sysfs");
            if !full || is_below(mount.point.bytes(), own.bytes()) {
                return false;
            }
            if skip > 0 {
                skip = skip.wrapping_sub(1);
                return false;
            }
            let mut point = Buf::<{ path::PATH }>::new();
            found = point.push(mount.point.bytes()).is_ok().then_some((mount.id, point));
            true
        })?;
        let Some((id, point)) = found else { return Ok(()) };
        // One that is still there after its detaching lies below another mount, or is locked: it is covered and passed over.
        let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
        let again = id == last;
        let _ = mount_change(point.cstr(), slave);
        if again || unmount(point.cstr(), UnmountFlags::DETACH).is_err() {
            let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            mount(c"tmpfs", point.cstr(), c"tmpfs", flags, c"nr_inodes=2")
                .at(1, Call::Mount)
                .say(point.bytes())?;
            covered = covered.wrapping_add(1);
        }
        last = id;
    }
    Err(Fail::new(1, Call::Umount2, Errno::TOOBIG))
}

fn is_below(path: &[u8], top: &[u8]) -> bool {
    match path.strip_prefix(top) {
        Some(rest) => rest.is_empty() || rest.first() == Some(&b'/') || top == b"/",
        None => false,
    }
}

/// One line of mountinfo, as far as it matters here.
struct Mount {
    id: u32,
    /// The mount shows its file system from its root on.
    whole: bool,
    point: Buf<{ path::PATH }>,
    kind: Buf<16>,
}

/// Reads the table of mounts from its start until `found` answers true.
fn read_mounts(table: &Fd, mut found: impl FnMut(&Mount) -> bool) -> Result<(), Fail> {
    rustix::fs::seek(table, rustix::fs::SeekFrom::Start(0)).at(0, Call::Read)?;
    let mut lines = Lines::new();
    let mut chunk = [0_u8; 1024];
    loop {
        let len = match rustix::io::read(table, &mut chunk[..]) {
            Ok(0) => return Ok(()),
            Ok(len) => len,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(Fail::new(0, Call::Read, errno)),
        };
        for byte in chunk.iter().take(len) {
            if lines.feed(*byte).map_err(|errno| Fail::new(0, Call::Read, errno))? {
                if found(&lines.mount) {
                    return Ok(());
                }
                lines = Lines::new();
            }
        }
    }
}

/// Takes mountinfo apart, one byte at a time: `id parent dev root point options [tags...] - type source super-options`.
struct Lines {
    mount: Mount,
    field: u32,
    digits: Buf<16>,
    root: Buf<8>,
    tag: Buf<4>,
    /// Number of the field that holds the type, once the lone dash was seen.
    kind_at: Option<u32>,
    /// Octal digits of an escaped byte that are still to come, and its value so far.
    escape: (u32, u8),
}

impl Lines {
    fn new() -> Self {
        let mount = Mount { id: 0, whole: false, point: Buf::new(), kind: Buf::new() };
        Self {
            mount,
            field: 0,
            digits: Buf::new(),
            root: Buf::new(),
            tag: Buf::new(),
            kind_at: None,
            escape: (0, 0),
        }
    }

    /// Answers true at the end of a line.
    fn feed(&mut self, byte: u8) -> Result<bool, Errno> {
        match byte {
            b'\n' => {
                self.mount.id = number(self.digits.bytes()).ok_or(Errno::INVAL)?;
                self.mount.whole = self.root.bytes() == b"/";
                return Ok(true);
            }
            b' ' => {
                if self.field >= 6 && self.kind_at.is_none() && self.tag.bytes() == b"-" {
                    self.kind_at = Some(self.field.wrapping_add(1));
                }
                self.tag.truncate(0);
                self.field = self.field.saturating_add(1);
            }
            _ => self.text(byte)?,
        }
        Ok(false)
    }

    fn text(&mut self, byte: u8) -> Result<(), Errno> {
        let long = |_| Errno::NAMETOOLONG;
        match self.field {
            0 => self.digits.push(&[byte]).map_err(long),
            // Only whether these are exactly one byte matters; what does not fit is something else.
            3 => {
                let _ = self.root.push(&[byte]);
                Ok(())
            }
            4 => {
                let byte = match (byte, self.escape) {
                    (b'\\', (0, _)) => {
                        self.escape = (3, 0);
                        return Ok(());
                    }
                    (digit, (left @ 1..=3, value)) => {
                        let digit = digit.wrapping_sub(b'0') & 7;
                        self.escape = (left.wrapping_sub(1), value.wrapping_shl(3) | digit);
                        if left > 1 {
                            return Ok(());
                        }
                        self.escape.1
                    }
                    (byte, _) => byte,
                };
                self.mount.point.push(&[byte]).map_err(long)
            }
            field if self.kind_at == Some(field) => {
                let _ = self.mount.kind.push(&[byte]);
                Ok(())
            }
            _ if self.kind_at.is_none() => {
                let _ = self.tag.push(&[byte]);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_is_taken_apart() {
        let text = b"36 35 98:0 / /a\\040b\\134 rw,noatime master:1 shared:7 - proc proc rw\n\
            7 1 0:1 /sub /sys ro - sysfs sysfs rw\n";
        let mut seen = std::vec::Vec::new();
        let mut lines = Lines::new();
        for byte in text {
            if lines.feed(*byte).unwrap() {
                let m = &lines.mount;
                seen.push((m.id, m.whole, m.point.bytes().to_vec(), m.kind.bytes().to_vec()));
                lines = Lines::new();
            }
        }
        assert_eq!(
            seen,
            [
                (36, true, b"/a b\\".to_vec(), b"proc".to_vec()),
                (7, false, b"/sys".to_vec(), b"sysfs".to_vec())
            ]
        );
        assert!(is_below(b"/a/b", b"/a") && is_below(b"/a", b"/a") && is_below(b"/x", b"/"));
        assert!(!is_below(b"/ab", b"/a"));
    }
}
