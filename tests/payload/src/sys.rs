//! The system calls of the payload. This is the only file of the payload with unsafe code: each function is one
//! call with its arguments made safe. Errors are errno numbers.

use libc::{c_char, c_int, c_long, c_uint, c_ulong, c_void};
use std::ffi::{CStr, CString};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// An errno number.
pub type Errno = i32;
/// The answer of a call.
pub type Answer<T> = Result<T, Errno>;

/// The errno of the last call of this thread.
pub fn errno() -> Errno {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn check(value: c_int) -> Answer<c_int> {
    if value < 0 { Err(errno()) } else { Ok(value) }
}

/// A path or name as the kernel wants it; a NUL inside is EINVAL, as no call can take it.
pub fn c_text(text: &str) -> Answer<CString> {
    CString::new(text).map_err(|_| libc::EINVAL)
}

/// Any call with number arguments. Returns the raw value, or the errno.
pub fn raw(number: i64, args: [i64; 6]) -> Answer<i64> {
    let [a, b, c, d, e, f] = args;
    // SAFETY: the callers pass numbers, or pointers to buffers that outlive the call; a wrong pointer is answered
    // with EFAULT by the kernel, which reads and writes nothing of ours then.
    let value = unsafe { libc::syscall(number as c_long, a, b, c, d, e, f) };
    if value == -1 { Err(errno()) } else { Ok(value) }
}

/// The current directory as the kernel says it: `(unreachable)/...` stays visible, unlike with the C library.
pub fn getcwd() -> Answer<String> {
    let mut buffer = vec![0u8; 8192];
    let length = raw(libc::SYS_getcwd, [buffer.as_mut_ptr() as i64, buffer.len() as i64, 0, 0, 0, 0])?;
    buffer.truncate(usize::try_from(length).unwrap_or(0).saturating_sub(1));
    Ok(String::from_utf8_lossy(&buffer).into_owned())
}

/// The user ids: real, effective, saved.
pub fn user_ids() -> [u32; 3] {
    let (mut real, mut effective, mut saved) = (0, 0, 0);
    // SAFETY: three pointers to live integers.
    unsafe { libc::getresuid(&mut real, &mut effective, &mut saved) };
    [real, effective, saved]
}

/// The group ids: real, effective, saved.
pub fn group_ids() -> [u32; 3] {
    let (mut real, mut effective, mut saved) = (0, 0, 0);
    // SAFETY: three pointers to live integers.
    unsafe { libc::getresgid(&mut real, &mut effective, &mut saved) };
    [real, effective, saved]
}

/// The file-system user and group id (an impossible id asks without a change).
pub fn fs_ids() -> (u32, u32) {
    let user = raw(libc::SYS_setfsuid, [-1, 0, 0, 0, 0, 0]).unwrap_or(-1);
    let group = raw(libc::SYS_setfsgid, [-1, 0, 0, 0, 0, 0]).unwrap_or(-1);
    (user as u32, group as u32)
}

/// The supplementary groups, in the kernel's order.
pub fn groups() -> Answer<Vec<u32>> {
    let mut list = vec![0u32; 65536];
    // SAFETY: the pointer and the length belong to one vector.
    let count = check(unsafe { libc::getgroups(list.len() as c_int, list.as_mut_ptr()) })?;
    list.truncate(usize::try_from(count).unwrap_or(0));
    Ok(list)
}

/// Sets the supplementary groups, the group ids and the user ids, in this order.
pub fn become_user(uid: u32, gid: u32, groups: &[u32]) -> Answer<()> {
    // SAFETY: the pointer and the length belong to one slice.
    check(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) })?;
    raw(libc::SYS_setresgid, [gid.into(), gid.into(), gid.into(), 0, 0, 0])?;
    raw(libc::SYS_setresuid, [uid.into(), uid.into(), uid.into(), 0, 0, 0]).map(|_| ())
}

/// The umask (set and put back: there is no call that only asks).
pub fn umask() -> u32 {
    // SAFETY: no memory is touched.
    let mask = unsafe { libc::umask(0o077) };
    // SAFETY: no memory is touched.
    unsafe { libc::umask(mask) };
    mask
}

/// Sets the umask.
pub fn set_umask(mask: u32) {
    // SAFETY: no memory is touched.
    unsafe { libc::umask(mask) };
}

/// prctl with number arguments.
pub fn prctl(option: c_int, argument: i64) -> Answer<i64> {
    raw(libc::SYS_prctl, [option.into(), argument, 0, 0, 0, 0])
}

/// The signal that PR_GET_PDEATHSIG names.
pub fn death_signal() -> Answer<c_int> {
    let mut signal: c_int = 0;
    raw(libc::SYS_prctl, [libc::PR_GET_PDEATHSIG.into(), &raw mut signal as i64, 0, 0, 0, 0])?;
    Ok(signal)
}

/// Soft and hard value of a limit.
pub fn rlimit(resource: u32) -> Answer<(u64, u64)> {
    let mut limit = [0u64; 2];
    raw(libc::SYS_prlimit64, [0, resource.into(), 0, limit.as_mut_ptr() as i64, 0, 0])?;
    Ok((limit[0], limit[1]))
}

/// Sets a limit of the own process.
pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> Answer<()> {
    let limit = [soft, hard];
    raw(libc::SYS_prlimit64, [0, resource.into(), limit.as_ptr() as i64, 0, 0, 0]).map(|_| ())
}

/// The kernel's `struct sched_attr`, first version.
#[repr(C)]
#[derive(Debug, Default)]
pub struct SchedAttr {
    pub size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// The scheduling attributes of the own thread.
pub fn scheduler() -> Answer<SchedAttr> {
    let mut attr = SchedAttr::default();
    let size = size_of::<SchedAttr>() as i64;
    raw(libc::SYS_sched_getattr, [0, &raw mut attr as i64, size, 0, 0, 0])?;
    Ok(attr)
}

/// The processors that the own thread may use.
pub fn affinity() -> Answer<Vec<u32>> {
    let mut mask = [0u8; 1024];
    let bytes = raw(libc::SYS_sched_getaffinity, [0, 1024, mask.as_mut_ptr() as i64, 0, 0, 0])?;
    let used = mask.iter().take(usize::try_from(bytes).unwrap_or(0));
    let numbered = used.enumerate().flat_map(|(index, byte)| {
        (0..8u32).filter(move |bit| byte & (1 << bit) != 0).map(move |bit| index as u32 * 8 + bit)
    });
    Ok(numbered.collect())
}

/// Restricts the own thread to one processor.
pub fn set_affinity(cpu: u32) -> Answer<()> {
    let mut mask = [0u8; 128];
    let index = usize::try_from(cpu / 8).map_err(|_| libc::EINVAL)?;
    *mask.get_mut(index).ok_or(libc::EINVAL)? |= 1 << (cpu % 8);
    raw(libc::SYS_sched_setaffinity, [0, 128, mask.as_ptr() as i64, 0, 0, 0]).map(|_| ())
}

/// Window size of a terminal: rows, columns.
pub fn window(fd: RawFd) -> Answer<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize, which the pointer names.
    check(unsafe { libc::ioctl(fd, libc::TIOCGWINSZ as _, &mut size) })?;
    Ok((size.ws_row, size.ws_col))
}

/// An ioctl with a number argument.
pub fn ioctl(fd: RawFd, request: u64, argument: c_ulong) -> Answer<c_int> {
    // SAFETY: the callers use requests whose argument is a number or none.
    check(unsafe { libc::ioctl(fd, request as _, argument) })
}

/// TIOCSTI: pushes one byte into the terminal's input.
pub fn push_input(fd: RawFd, byte: u8) -> Answer<c_int> {
    // SAFETY: TIOCSTI reads one byte, which the pointer names.
    check(unsafe { libc::ioctl(fd, libc::TIOCSTI as _, &byte) })
}

/// The attributes of a terminal.
pub fn attributes(fd: RawFd) -> Answer<libc::termios> {
    // SAFETY: termios holds integers only, for which zero is a value.
    let mut attributes: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer names a live termios.
    check(unsafe { libc::tcgetattr(fd, &mut attributes) })?;
    Ok(attributes)
}

/// Makes a terminal pass every byte unchanged.
pub fn make_raw(fd: RawFd) -> Answer<()> {
    let mut attributes = attributes(fd)?;
    // SAFETY: the pointer names a live termios.
    unsafe { libc::cfmakeraw(&mut attributes) };
    // SAFETY: the pointer names a live termios.
    check(unsafe { libc::tcsetattr(fd, libc::TCSANOW, &attributes) }).map(|_| ())
}

/// A flag word of a network interface.
pub fn interface_flags(name: &str) -> Answer<u16> {
    // SAFETY: ifreq is integers and bytes, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(name.bytes().take(15)) {
        *slot = byte as c_char;
    }
    let socket = open_socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    // SAFETY: SIOCGIFFLAGS reads the name and writes the flags of one live ifreq.
    let answer = check(unsafe { libc::ioctl(socket.raw(), libc::SIOCGIFFLAGS as _, &mut request) });
    answer?;
    // SAFETY: after SIOCGIFFLAGS the union holds the flags.
    Ok(unsafe { request.ifr_ifru.ifru_flags } as u16)
}

/// A descriptor that closes itself.
#[derive(Debug)]
pub struct Fd(OwnedFd);

impl Fd {
    fn take(fd: c_int) -> Answer<Self> {
        check(fd)?;
        // SAFETY: the call that made this number has just succeeded and nothing else knows it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }
    /// The number.
    pub fn raw(&self) -> RawFd {
        std::os::fd::AsRawFd::as_raw_fd(&self.0)
    }
    /// Gives the descriptor away as one of the standard library.
    pub fn owned(self) -> OwnedFd {
        self.0
    }
}

/// socket(2).
pub fn open_socket(domain: c_int, kind: c_int, protocol: c_int) -> Answer<Fd> {
    // SAFETY: no memory is touched.
    Fd::take(unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) })
}

/// open(2) with mode 0600 for new files; the descriptor is closed on exec unless `keep`.
pub fn open(path: &str, flags: c_int, keep: bool) -> Answer<Fd> {
    let path = c_text(path)?;
    let flags = if keep { flags } else { flags | libc::O_CLOEXEC };
    // SAFETY: the path is a live C string.
    Fd::take(unsafe { libc::open(path.as_ptr(), flags, 0o600 as c_uint) })
}

/// Duplicates a descriptor to the lowest number from `least` on, not closed on exec.
pub fn duplicate(fd: RawFd, least: RawFd) -> Answer<Fd> {
    // SAFETY: no memory is touched.
    Fd::take(unsafe { libc::fcntl(fd, libc::F_DUPFD, least) })
}

/// fcntl(F_GETFD) and fcntl(F_GETFL).
pub fn fd_flags(fd: RawFd) -> Answer<(c_int, c_int)> {
    // SAFETY: no memory is touched.
    let own = check(unsafe { libc::fcntl(fd, libc::F_GETFD) })?;
    // SAFETY: no memory is touched.
    let open = check(unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
    Ok((own, open))
}

/// stat of a descriptor.
pub fn fstat(fd: RawFd) -> Answer<libc::stat> {
    // SAFETY: stat holds integers only, for which zero is a value.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer names a live stat.
    check(unsafe { libc::fstat(fd, &mut stat) })?;
    Ok(stat)
}

/// mknod(2).
pub fn mknod(path: &str, mode: u32, major: u32, minor: u32) -> Answer<()> {
    let path = c_text(path)?;
    // SAFETY: the path is a live C string.
    check(unsafe { libc::mknod(path.as_ptr(), mode, libc::makedev(major, minor)) }).map(|_| ())
}

/// mount(2) without data.
pub fn mount(source: &str, target: &str, kind: &str, flags: u64) -> Answer<()> {
    let (source, target, kind) = (c_text(source)?, c_text(target)?, c_text(kind)?);
    let nothing = std::ptr::null::<c_void>();
    // SAFETY: three live C strings and no data.
    check(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags as c_ulong, nothing) })
        .map(|_| ())
}

/// umount2(2).
pub fn unmount(target: &str, flags: c_int) -> Answer<()> {
    let target = c_text(target)?;
    // SAFETY: the path is a live C string.
    check(unsafe { libc::umount2(target.as_ptr(), flags) }).map(|_| ())
}

/// chroot(2).
pub fn chroot(path: &str) -> Answer<()> {
    let path = c_text(path)?;
    // SAFETY: the path is a live C string.
    check(unsafe { libc::chroot(path.as_ptr()) }).map(|_| ())
}

/// renameat2(RENAME_EXCHANGE): swaps two names.
pub fn exchange(one: &str, other: &str) -> Answer<()> {
    let (one, other) = (c_text(one)?, c_text(other)?);
    let here = i64::from(libc::AT_FDCWD);
    raw(libc::SYS_renameat2, [here, one.as_ptr() as i64, here, other.as_ptr() as i64, 2, 0]).map(|_| ())
}

/// fork(2); the payload has one thread, so the child may do anything.
pub fn fork() -> Answer<libc::pid_t> {
    // SAFETY: the process has one thread.
    check(unsafe { libc::fork() })
}

/// Ends the process at once.
pub fn end(code: c_int) -> ! {
    // SAFETY: _exit does not return.
    unsafe { libc::_exit(code) }
}

/// waitpid(2): the pid and the raw status.
pub fn wait_for(pid: libc::pid_t, flags: c_int) -> Answer<(libc::pid_t, c_int)> {
    let mut status = 0;
    // SAFETY: the pointer names a live integer.
    let pid = check(unsafe { libc::waitpid(pid, &mut status, flags) })?;
    Ok((pid, status))
}

/// kill(2).
pub fn kill(pid: libc::pid_t, signal: c_int) -> Answer<()> {
    // SAFETY: no memory is touched.
    check(unsafe { libc::kill(pid, signal) }).map(|_| ())
}

/// Ignores a signal, or gives it its default action. The raw call, as the C library keeps some numbers for itself.
pub fn set_ignored(signal: c_int, ignored: bool) -> Answer<()> {
    // The kernel's struct: handler (1 ignores), flags, restorer, mask.
    let action = [u64::from(ignored), 0, 0, 0];
    raw(libc::SYS_rt_sigaction, [signal.into(), action.as_ptr() as i64, 0, 8, 0, 0]).map(|_| ())
}

/// Sets a variable of the own environment.
pub fn set_environment(name: &str, value: &str) -> Answer<()> {
    let (name, value) = (c_text(name)?, c_text(value)?);
    // SAFETY: one thread, two live C strings.
    check(unsafe { libc::setenv(name.as_ptr(), value.as_ptr(), 1) }).map(|_| ())
}

fn signal_set(signals: &[c_int]) -> libc::sigset_t {
    // SAFETY: sigset_t is integers, and sigemptyset sets it whole.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer names a live set.
    unsafe { libc::sigemptyset(&mut set) };
    for signal in signals {
        // SAFETY: the pointer names a live set; a wrong number is answered with EINVAL.
        unsafe { libc::sigaddset(&mut set, *signal) };
    }
    set
}

/// Blocks signals in the own thread. The raw call, for the same reason.
pub fn block(signals: &[c_int]) -> Answer<()> {
    let set = signals.iter().fold(0u64, |set, signal| set | 1 << (signal - 1));
    raw(libc::SYS_rt_sigprocmask, [libc::SIG_BLOCK.into(), &raw const set as i64, 0, 8, 0, 0]).map(|_| ())
}

/// Waits for one of the signals, which must be blocked; `None` when the time is up.
pub fn wait_signal(signals: &[c_int], milliseconds: i64) -> Option<c_int> {
    let set = signal_set(signals);
    let time = libc::timespec { tv_sec: milliseconds / 1000, tv_nsec: (milliseconds % 1000) * 1_000_000 };
    // SAFETY: a live set, no place for details, a live time.
    let signal = unsafe { libc::sigtimedwait(&set, std::ptr::null_mut(), &time) };
    (signal > 0).then_some(signal)
}

/// Waits until a signal ends the process.
pub fn pause() -> ! {
    loop {
        // SAFETY: no memory is touched.
        unsafe { libc::pause() };
    }
}

/// The time of a clock in nanoseconds.
pub fn clock(id: c_int) -> Answer<i128> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer names a live timespec.
    check(unsafe { libc::clock_gettime(id as _, &mut time) })?;
    Ok(i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec))
}

/// Maps anonymous memory and writes to each page of it; the memory stays.
pub fn eat(bytes: usize) -> Answer<()> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(errno());
    }
    let start = start.cast::<u8>();
    for offset in (0..bytes).step_by(4096) {
        // SAFETY: the offset lies inside the mapping.
        let page = unsafe { start.add(offset) };
        // SAFETY: an address inside the mapping, which is writable.
        unsafe { page.write_volatile(1) };
    }
    Ok(())
}

/// Reads address zero: the kernel sends a SIGSEGV that even the first process of a pid namespace dies of.
pub fn crash() {
    let nowhere = std::hint::black_box(0usize) as *const u8;
    // SAFETY: none. The fault is the purpose; nothing runs after it.
    let _ = unsafe { nowhere.read_volatile() };
}

/// setsid(2).
pub fn set_session() -> Answer<()> {
    // SAFETY: no memory is touched.
    check(unsafe { libc::setsid() }).map(|_| ())
}

/// unshare(2).
pub fn unshare(flags: c_int) -> Answer<()> {
    // SAFETY: the process has one thread; no memory is touched.
    check(unsafe { libc::unshare(flags) }).map(|_| ())
}

/// setns(2) by a descriptor.
pub fn set_namespace(fd: RawFd) -> Answer<()> {
    // SAFETY: the process has one thread; no memory is touched.
    check(unsafe { libc::setns(fd, 0) }).map(|_| ())
}

/// The system's names.
pub fn names() -> Answer<[String; 4]> {
    // SAFETY: utsname is bytes, for which zero is a value.
    let mut names: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer names a live utsname.
    check(unsafe { libc::uname(&mut names) })?;
    let text = |field: &[c_char]| {
        // SAFETY: uname ends each field with NUL.
        unsafe { CStr::from_ptr(field.as_ptr()) }.to_string_lossy().into_owned()
    };
    Ok([text(&names.nodename), text(&names.domainname), text(&names.release), text(&names.machine)])
}

/// The value of an auxiliary vector entry.
pub fn auxiliary(kind: c_ulong) -> c_ulong {
    // SAFETY: no memory is touched.
    unsafe { libc::getauxval(kind) }
}

/// statfs(2): the magic number and the mount flags.
pub fn statfs(path: &str) -> Answer<(i64, i64)> {
    let path = c_text(path)?;
    // SAFETY: statfs is integers, for which zero is a value.
    let mut answer: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: a live C string and a live statfs.
    check(unsafe { libc::statfs(path.as_ptr(), &mut answer) })?;
    // SAFETY: as above. The C library of the static target alone shows the flags of statfs.
    let mut more: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: a live C string and a live statvfs.
    check(unsafe { libc::statvfs(path.as_ptr(), &mut more) })?;
    Ok((answer.f_type as i64, more.f_flag as i64))
}

/// The description of a key, and its number.
pub fn session_keyring() -> Answer<(i64, String)> {
    let id = raw(libc::SYS_keyctl, [0, -3, 0, 0, 0, 0])?;
    let mut text = vec![0u8; 256];
    let length = raw(libc::SYS_keyctl, [6, -3, text.as_mut_ptr() as i64, text.len() as i64, 0, 0])?;
    text.truncate(usize::try_from(length).unwrap_or(0).saturating_sub(1));
    Ok((id, String::from_utf8_lossy(&text).into_owned()))
}

/// Adds a key to the session keyring: its number.
pub fn add_key(name: &str, text: &str) -> Answer<i64> {
    let (kind, name) = (c_text("user")?, c_text(name)?);
    let (kind, name) = (kind.as_ptr() as i64, name.as_ptr() as i64);
    raw(libc::SYS_add_key, [kind, name, text.as_ptr() as i64, text.len() as i64, -3, 0])
}

/// Searches a key by its name, in all keyrings that this process has.
pub fn find_key(name: &str) -> Answer<i64> {
    let (kind, name) = (c_text("user")?, c_text(name)?);
    raw(libc::SYS_request_key, [kind.as_ptr() as i64, name.as_ptr() as i64, 0, 0, 0, 0])
}

/// Joins a new session keyring with a name.
pub fn new_keyring(name: &str) -> Answer<i64> {
    let name = c_text(name)?;
    raw(libc::SYS_keyctl, [1, name.as_ptr() as i64, 0, 0, 0, 0])
}

/// execve(2) with the own environment, by path as written; returns only when it failed.
pub fn exec(path: &str, args: &[&str]) -> Errno {
    let (Ok(path), Ok(args)) =
        (c_text(path), args.iter().map(|arg| c_text(arg)).collect::<Answer<Vec<CString>>>())
    else {
        return libc::EINVAL;
    };
    let mut pointers: Vec<*const c_char> = args.iter().map(|arg| arg.as_ptr()).collect();
    pointers.push(std::ptr::null());
    // SAFETY: live C strings, and a list of them that ends with a null pointer.
    unsafe { libc::execv(path.as_ptr(), pointers.as_ptr()) };
    errno()
}

/// execvp(3): as `exec`, searched in PATH.
pub fn exec_search(args: &[&str]) -> Errno {
    let Ok(args) = args.iter().map(|arg| c_text(arg)).collect::<Answer<Vec<CString>>>() else {
        return libc::EINVAL;
    };
    let Some(first) = args.first() else { return libc::ENOENT };
    let mut pointers: Vec<*const c_char> = args.iter().map(|arg| arg.as_ptr()).collect();
    pointers.push(std::ptr::null());
    // SAFETY: live C strings, and a list of them that ends with a null pointer.
    unsafe { libc::execvp(first.as_ptr(), pointers.as_ptr()) };
    errno()
}

/// The entry. The C library calls it, not Rust's start-up code, which would ignore SIGPIPE, install handlers and open
/// closed standard descriptors: a program that reports such things must not touch them first.
#[unsafe(no_mangle)]
pub extern "C" fn main(count: c_int, words: *const *const c_char) -> c_int {
    let args: Vec<String> = (0..usize::try_from(count).unwrap_or(0))
        .map(|index| {
            // SAFETY: the C library hands over `count` pointers.
            let slot = unsafe { words.add(index) };
            // SAFETY: a pointer of the list, which lives as long as the process.
            let word = unsafe { *slot };
            // SAFETY: each of them is a C string that lives as long as the process.
            unsafe { CStr::from_ptr(word) }.to_string_lossy().into_owned()
        })
        .collect();
    crate::start(&args).into()
}

unsafe extern "C" {
    static environ: *const *const c_char;
}

/// The environment, entry by entry as it stands: also doubled ones and ones without `=`.
pub fn environment() -> Vec<String> {
    let mut entries = Vec::new();
    // SAFETY: one thread, and nothing here changes the environment.
    let list = unsafe { environ };
    if list.is_null() {
        return entries;
    }
    loop {
        // SAFETY: the list ends with a null pointer, at which this loop ends.
        let slot = unsafe { list.add(entries.len()) };
        // SAFETY: an entry of the list, or the null pointer at its end.
        let entry = unsafe { *slot };
        if entry.is_null() {
            return entries;
        }
        // SAFETY: not null, so a C string.
        entries.push(unsafe { CStr::from_ptr(entry) }.to_string_lossy().into_owned());
    }
}
