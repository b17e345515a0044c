//! Steps about the process, its namespaces and its parent: everything before the parent's answer, and the names of the machine.
//!
//! Must not: mount anything. Tests: `tests/walk.rs`.

use rustix::fs::Mode;
use rustix::io::Errno;

use crate::path;
use crate::program::{Slot, Str};
use crate::report::{self, At, Fail, Say, alive_or_exit};
use crate::step::exec::ignored_signals;
use crate::sys::{self, Fd, Forked, Prctl};
use crate::walk::Walk;
use crate::wire::{Call, Kind, Message};

pub(crate) fn non_dumpable(part: u32) -> Result<(), Fail> {
    sys::prctl(Prctl::Dumpable, 0, 0).at(part, Call::Prctl).map(drop)
}

pub(crate) fn set_sid() -> Result<(), Fail> {
    rustix::process::setsid().at(0, Call::Setsid).map(drop)
}

pub(crate) fn session_keyring() -> Result<(), Fail> {
    match sys::new_session_keyring() {
        // A kernel without keyrings has none to share either.
        Err(Errno::NOSYS) => Ok(()),
        other => other.at(0, Call::Keyctl),
    }
}

pub(crate) fn parent_death_signal(w: &Walk<'_>, signal: i32) -> Result<(), Fail> {
    let number = u32::try_from(signal).map_err(|_| Fail::new(0, Call::Prctl, Errno::INVAL))?;
    sys::prctl(Prctl::ParentDeathSignal, number, 0).at(0, Call::Prctl)?;
    if number != 0 {
        // The parent may have died just before; getppid says nothing in a new pid namespace.
        alive_or_exit(w.report);
    }
    Ok(())
}

/// Part 0 sends `Born`, part 1 waits for `Go`; more than one `Go` comes when the descriptors do not fit into one.
pub(crate) fn born(w: &mut Walk<'_>, first: Slot, count: u32, optional: bool) -> Result<(), Fail> {
    let mut slots =
        (0..u16::try_from(count).unwrap_or(u16::MAX)).map(|number| Slot(first.0.wrapping_add(number)));
    let mut next = slots.by_ref().find(|slot| w.slot(*slot).is_err());
    if optional && next.is_none() {
        return Ok(());
    }
    report::send(w.report, &Message::plain(Kind::Born)).at(0, Call::Write)?;
    // While the parent works.
    if w.ignored.is_none() {
        w.ignored = Some(ignored_signals()?);
    }
    loop {
        let (before, channel) = (next, w.report);
        report::expect(channel, Kind::Go, |fd| {
            let Some(slot) = next else { return false };
            let filled = w.fill(slot, fd).is_ok();
            next = slots.by_ref().find(|slot| w.slot(*slot).is_err());
            filled
        })
        .at(1, Call::Recvmsg)?;
        if next.is_none() {
            return Ok(());
        }
        if next == before {
            return Err(Fail::new(1, Call::Recvmsg, Errno::BADMSG));
        }
    }
}

const CLONE_NEWNS: u64 = 0x0002_0000;

pub(crate) fn unshare(w: &mut Walk<'_>, flags: u64) -> Result<(), Fail> {
    sys::unshare(flags).at(0, Call::Unshare)?;
    if flags & CLONE_NEWNS != 0 {
        // A descriptor from before names the old namespace's mount.
        w.set_root(None);
    }
    Ok(())
}

pub(crate) fn join(w: &mut Walk<'_>, fd: Slot, nstype: i32) -> Result<(), Fail> {
    sys::setns(w.slot(fd)?, nstype).at(0, Call::Setns)?;
    let mounts = i32::try_from(CLONE_NEWNS).unwrap_or(0);
    if nstype == 0 || nstype & mounts != 0 {
        w.set_root(None);
    }
    Ok(())
}

/// Part 0 `pipe2`, 1 `clone3`, 2 `sendmsg`. The pipe keeps the order: what the new process sends comes after `Stage`.
pub(crate) fn second_clone(w: &mut Walk<'_>, flags: u64) -> Result<(), Fail> {
    const CLONE_PARENT: u64 = 0x8000;
    let (told, tell) = sys::pipe().at(0, Call::Pipe2)?;
    match sys::clone3(flags | CLONE_PARENT).at(1, Call::Clone3)? {
        Forked::Parent { pid, pidfd } => {
            let mut stage = Message::plain(Kind::Stage);
            for (place, byte) in stage.detail.iter_mut().zip(pid.to_ne_bytes()) {
                *place = byte;
            }
            // On a failure the other side of the pipe ends with this process.
            report::send_fd(w.report, &stage, pidfd.raw()).at(2, Call::Sendmsg)?;
            let status = if rustix::io::write(&tell, &[1]) == Ok(1) { 0 } else { 1 };
            sys::exit(status)
        }
        Forked::Child => {
            drop(tell);
            // While the first process tells of this one.
            w.ignored = Some(ignored_signals()?);
            let mut byte = [0_u8];
            loop {
                match rustix::io::read(&told, &mut byte) {
                    Ok(1) => return Ok(()),
                    Err(Errno::INTR) => {}
                    _ => report::gone(),
                }
            }
        }
    }
}

pub(crate) fn namespace_root(groups: bool, uid: u32, gid: u32) -> Result<(), Fail> {
    // EINVAL: the namespace maps no such id. Its capabilities do not hang on it.
    let or = |set: fn(u32) -> Result<(), Errno>, other: u32| match set(0) {
        Err(Errno::INVAL) => set(other),
        done => done,
    };
    or(sys::setresgid, gid).at(0, Call::Setresgid)?;
    or(sys::setresuid, uid).at(1, Call::Setresuid)?;
    if groups { sys::setgroups(&[]).at(2, Call::Setgroups) } else { Ok(()) }
}

pub(crate) fn join_cgroup(w: &Walk<'_>, fd: Slot) -> Result<(), Fail> {
    write_once(w.slot(fd)?, b"0", 0)
}

/// One write(2); anything but all of it is an error, for these files take a value or leave it.
pub(crate) fn write_once(fd: i32, value: &[u8], part: u32) -> Result<(), Fail> {
    loop {
        match rustix::io::write(sys::borrow(fd), value) {
            Ok(len) if len == value.len() => return Ok(()),
            Ok(_) => return Err(Fail::new(part, Call::Write, Errno::IO)),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Fail::new(part, Call::Write, errno)),
        }
    }
}

/// Part 0 sends `RootReady`, part 1 waits for `HooksDone`.
pub(crate) fn root_ready(w: &Walk<'_>) -> Result<(), Fail> {
    report::send(w.report, &Message::plain(Kind::RootReady)).at(0, Call::Write)?;
    report::expect(w.report, Kind::HooksDone, |_| false).at(1, Call::Recvmsg)
}

pub(crate) fn hostname(w: &Walk<'_>, name: Str) -> Result<(), Fail> {
    let name = w.program.str(name)?;
    rustix::system::sethostname(name).at(0, Call::Sethostname).say(name)
}

pub(crate) fn domainname(w: &Walk<'_>, name: Str) -> Result<(), Fail> {
    let name = w.program.str(name)?;
    rustix::system::setdomainname(name).at(0, Call::Setdomainname).say(name)
}

/// Part 0 `socket`, part 1 the two `ioctl`s.
pub(crate) fn loopback_up() -> Result<(), Fail> {
    const IFF_UP: u16 = 1;
    let socket = sys::unix_socket().at(0, Call::Socket)?;
    sys::interface_flags(socket.raw(), c"lo", IFF_UP).at(1, Call::Ioctl).map(drop)
}

/// The container's procfs, or a detached one. Parts as in `NewFs`.
pub(crate) fn sysctl_proc(w: &mut Walk<'_>, out: Slot) -> Result<(), Fail> {
    // One of our own has to be dissolved again, which takes an RCU grace period.
    let proc = match own_proc(w) {
        Some(proc) => proc,
        None => detached_proc()?,
    };
    w.fill(out, proc)
}

/// A detached procfs of this pid namespace with everything in it.
fn detached_proc() -> Result<Fd, Fail> {
    const NOSUID_NODEV_NOEXEC: u32 = 0x0e;
    let context = sys::fsopen(c"proc").at(0, Call::Fsopen)?;
    rustix::mount::fsconfig_create(&context).at(1, Call::Fsconfig)?;
    sys::fsmount(&context, NOSUID_NODEV_NOEXEC).at(2, Call::Fsmount)
}

/// The root of the procfs that the program attached on `/proc`, known by its device, when it is writable and has its own `sys`.
fn own_proc(w: &mut Walk<'_>) -> Option<Fd> {
    use rustix::fs::{OFlags, ResolveFlags};
    /// `PROC_ROOT_INO` (include/linux/proc_ns.h).
    const ROOT: u64 = 1;
    let device = w.proc?;
    let root = w.root().ok()?;
    let (dir, links) = (OFlags::PATH | OFlags::DIRECTORY, ResolveFlags::NO_SYMLINKS);
    let proc = sys::open(Some(root.raw()), c"proc", dir, Mode::empty(), links).ok()?;
    let status = path::status(proc.raw()).ok()?;
    let it_is = path::device(&status) == device && status.stx_ino == ROOT;
    let below = links | ResolveFlags::NO_XDEV;
    sys::open(Some(proc.raw()), c"sys", dir, Mode::empty(), below).ok()?;
    (it_is && path::is_writable(proc.raw()).ok()?).then_some(proc)
}

/// Part 0 opens `sys`, part 1 the file, part 2 writes.
pub(crate) fn sysctl(w: &mut Walk<'_>, proc: Slot, path: Str, value: Str) -> Result<(), Fail> {
    use rustix::fs::{OFlags, ResolveFlags};
    let name = w.program.str(path)?;
    let path = w.program.cstr(path)?;
    if name.split(|b| *b == b'/').any(|part| matches!(part, b"" | b"." | b"..")) {
        return Err(Fail::new(1, Call::Openat2, Errno::INVAL).say(name));
    }
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_XDEV
        | ResolveFlags::NO_MAGICLINKS;
    let dir = OFlags::PATH | OFlags::DIRECTORY;
    let open = |proc: i32| {
        let sys_dir = sys::open(Some(proc), c"sys", dir, Mode::empty(), resolve).at(0, Call::Openat2)?;
        sys::open(Some(sys_dir.raw()), path, OFlags::WRONLY, Mode::empty(), resolve).at(1, Call::Openat2)
    };
    let file = match open(w.slot(proc)?) {
        // A mount is in the way: not in one of our own.
        Err(fail) if fail.errno == Errno::XDEV.raw_os_error() => {
            let own = detached_proc()?;
            let file = open(own.raw());
            w.fill(proc, own)?;
            file
        }
        opened => opened,
    }
    .say(name)?;
    write_once(file.raw(), w.program.str(value)?, 2).say(name)
}

/// See [`Step::LendNetwork`](crate::program::Step::LendNetwork).
pub(crate) fn lend_network(w: &Walk<'_>, socket: Slot, namespace: Slot) -> Result<(), Fail> {
    use rustix::fs::{OFlags, ResolveFlags};
    let route = sys::route_socket().at(0, Call::Socket)?;
    let path = c"/proc/thread-self/ns/net";
    let file =
        sys::open(None, path, OFlags::RDONLY, Mode::empty(), ResolveFlags::empty()).at(1, Call::Open)?;
    for (slot, fd) in [(socket, route), (namespace, file)] {
        let message = Message { part: slot.0.into(), ..Message::plain(Kind::Tree) };
        report::send_fd(w.report, &message, fd.raw()).at(2, Call::Sendmsg)?;
    }
    Ok(())
}

/// Brings the interface `lo` of the calling thread's network namespace up; for a parent that makes that namespace itself.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN in the namespace's user namespace; ENODEV.
pub fn raise_loopback() -> Result<(), Errno> {
    const IFF_UP: u16 = 1;
    let socket = sys::unix_socket()?;
    sys::interface_flags(socket.raw(), c"lo", IFF_UP).map(drop)
}
