//! The last steps: what program, the gate, closing, `execve`.
//!
//! What comes after the filter step uses write, recvmsg, close_range (else close), madvise, execve and exit_group only (`ResetSignals` and
//! `FindProgram` more: they stand before it). Must not: open anything in the container but candidates and `/etc/passwd`.
//! Tests: `tests/walk.rs`, and the passwd parser at the end of this file.

use core::ffi::CStr;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, StatVfsMountFlags};
use rustix::io::Errno;

use crate::buf::{Buf, number};
use crate::path;
use crate::program::{Slot, StrList};
use crate::report::{self, At, Fail, Say};
use crate::sys::{self, Fd};
use crate::walk::Walk;
use crate::wire::{Call, Kind, LEN, Message};

/// Part 0 `stat`, part 1 `faccessat2`, part 2 `open` and part 3 `read` of `/etc/passwd`, part 4 `statfs` of what may not be executed.
#[inline(never)]
pub(crate) fn find_program(w: &mut Walk<'_>, candidates: StrList, uid: u32, home: bool) -> Result<(), Fail> {
    let mut denied = None;
    let mut outcome = Fail::new(0, Call::Stat, Errno::NOENT);
    let mut index = 0_u32;
    w.found = None;
    while index < candidates.count {
        let item = w.program.item(candidates, index)?;
        let text = w.program.str(item)?;
        match executable(w.program.cstr(item)?) {
            Ok(()) => {
                w.found = Some(item);
                break;
            }
            // As execvp: a later candidate may still be the one, and if none is, EACCES is the better answer.
            Err(fail) if fail.errno == Errno::ACCESS.raw_os_error() || fail.errno == IS_DIRECTORY => {
                denied = denied.or(Some(fail.say(path::last(text))));
            }
            Err(fail) if is_missing(fail.errno) => outcome = fail.say(path::last(text)),
            Err(fail) => return Err(fail.say(path::last(text))),
        }
        index = index.wrapping_add(1);
    }
    if w.found.is_none() {
        return Err(denied.unwrap_or(outcome));
    }
    if home {
        w.home.truncate(0);
        let full = |_| Fail::new(3, Call::Read, Errno::NAMETOOLONG);
        w.home.push(b"HOME=").map_err(full)?;
        home_of(uid, &mut w.home)?;
    }
    Ok(())
}

const IS_DIRECTORY: i32 = Errno::ISDIR.raw_os_error();

fn is_missing(errno: i32) -> bool {
    errno == Errno::NOENT.raw_os_error() || errno == Errno::NOTDIR.raw_os_error()
}

fn executable(path: &CStr) -> Result<(), Fail> {
    let st = rustix::fs::statat(rustix::fs::CWD, path, AtFlags::empty()).at(0, Call::Stat)?;
    match FileType::from_raw_mode(st.st_mode) {
        FileType::RegularFile => match sys::may_execute(path) {
            // Nobody may, whatever the file's own permissions are: the caller is told apart from them.
            Err(Errno::ACCESS) if on_noexec(path) => Err(Fail::new(4, Call::Fstatfs, Errno::ACCESS)),
            other => other.at(1, Call::Access),
        },
        FileType::Directory => Err(Fail::raw(0, Call::Stat, IS_DIRECTORY)),
        _ => Err(Fail::new(0, Call::Stat, Errno::ACCESS)),
    }
}

fn on_noexec(path: &CStr) -> bool {
    rustix::fs::statvfs(path).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::NOEXEC))
}

/// Bytes of `/etc/passwd` that are read; the image could make it endless.
const PASSWD_LIMIT: usize = 1 << 20;

/// Appends the home directory of `uid`; `/` when there is no file or no line for it.
fn home_of(uid: u32, out: &mut Buf<1024>) -> Result<(), Fail> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut search = Passwd::new(uid);
    // A fifo or device in its place is the same as no file: nothing may be read from it, so it is looked at before. So is one that this
    // user may not read. Links are followed, for there are images that keep it elsewhere; magic links are not.
    let open = |flags| sys::open(None, c"/etc/passwd", flags, Mode::empty(), ResolveFlags::NO_MAGICLINKS);
    let regular = |file: &Fd| path::kind(file.raw()) == Ok(FileType::RegularFile);
    if open(OFlags::PATH).is_ok_and(|file| regular(&file)) {
        if let Some(file) = open(flags).ok().filter(regular) {
            let mut chunk = [0_u8; 1024];
            let mut total = 0_usize;
            while !search.done && total < PASSWD_LIMIT {
                let len = match rustix::io::read(sys::borrow(file.raw()), &mut chunk[..]) {
                    Ok(len) => len,
                    Err(Errno::INTR) => continue,
                    Err(errno) => return Err(Fail::new(3, Call::Read, errno)),
                };
                total = total.saturating_add(len);
                if len == 0 {
                    search.feed(b'\n');
                    break;
                }
                for byte in chunk.iter().take(len) {
                    search.feed(*byte);
                }
            }
        }
    }
    let home = search.home();
    out.push(if home.is_empty() { b"/" } else { home })
        .map_err(|_| Fail::new(3, Call::Read, Errno::NAMETOOLONG))
}

/// Looks for one uid in the bytes of a passwd file, one byte at a time: `name:password:uid:gid:comment:home:shell`.
struct Passwd {
    uid: u32,
    field: u32,
    id: Buf<16>,
    home: Buf<1000>,
    /// A field of this line was longer than its room, so the line cannot be the one.
    odd: bool,
    done: bool,
}

impl Passwd {
    fn new(uid: u32) -> Self {
        Self { uid, field: 0, id: Buf::new(), home: Buf::new(), odd: false, done: false }
    }

    fn feed(&mut self, byte: u8) {
        if self.done {
            return;
        }
        match (byte, self.field) {
            (b'\n', field) => {
                if !self.odd && field >= 5 && number(self.id.bytes()) == Some(self.uid) {
                    self.done = true;
                    return;
                }
                self.id.truncate(0);
                self.home.truncate(0);
                self.field = 0;
                self.odd = false;
            }
            (b':', field) => self.field = field.saturating_add(1),
            (byte, 2) => self.odd |= self.id.push(&[byte]).is_err(),
            (byte, 5) => self.odd |= self.home.push(&[byte]).is_err(),
            _ => {}
        }
    }

    fn home(&self) -> &[u8] {
        if self.done { self.home.bytes() } else { b"" }
    }
}

/// Which signals are ignored; nothing changes that but [`reset_signals`] and the walker's own SIGPIPE, which is at its beginning.
pub(crate) fn ignored_signals() -> Result<u64, Fail> {
    let mut ignored = 0;
    for signal in 1..=64_u32 {
        // SIGKILL and SIGSTOP have no action to read.
        if !matches!(signal, 9 | 19) && sys::is_ignored(signal).at(signal, Call::Signal)? {
            ignored |= bit_of(signal);
        }
    }
    Ok(ignored)
}

fn bit_of(signal: u32) -> u64 {
    1_u64.checked_shl(signal.wrapping_sub(1)).unwrap_or(0)
}

/// Part is the signal's number; 65 is the mask. `ignored`: what [`ignored_signals`] found.
pub(crate) fn reset_signals(ignored: Option<u64>) -> Result<(), Fail> {
    let ignored = ignored.map_or_else(ignored_signals, Ok)?;
    for signal in 1..=64_u32 {
        if ignored & bit_of(signal) != 0 {
            // Ignoring again throws away what is pending, which else would strike when the mask is emptied.
            sys::set_ignored(signal, true).at(signal, Call::Signal)?;
            sys::set_ignored(signal, false).at(signal, Call::Signal)?;
        }
    }
    sys::unblock_all().at(65, Call::Signal)
}

/// Part 0 sends `Waiting`, part 1 waits for `Go`, then receives on the gate.
pub(crate) fn gate(w: &mut Walk<'_>, gate: Slot) -> Result<(), Fail> {
    let socket = w.slot(gate)?;
    report::send(w.report, &Message::plain(Kind::Waiting)).at(0, Call::Write)?;
    // The parent answers when it has written down what finds this process again. Killed before, it takes this process with it.
    report::expect(w.report, Kind::Go, |_| false).at(1, Call::Recvmsg)?;
    sys::close(w.report);
    w.report = -1;
    if let Some(lowest) = w.spare_stack {
        sys::forget_stack(lowest);
    }
    loop {
        let mut bytes = [0_u8; LEN];
        let mut fds = [-1_i32; 2];
        let got = match sys::receive(socket, &mut bytes, &mut fds) {
            Ok(got) => got,
            Err(Errno::INTR) => continue,
            // Nobody could hear of this failure: the only channel is the gate.
            Err(_) => report::gone(),
        };
        let [channel, other] = fds.map(Fd::own);
        drop(other);
        let message = Message::decode(bytes.get(..got.bytes).unwrap_or(&[]));
        let valid = !got.cut && got.fds == 1 && message.is_ok_and(|m| m.kind == Kind::Start);
        // A start that died meanwhile hears nothing; another one may come.
        if valid && report::send(channel.raw(), &Message::plain(Kind::Taken)).is_ok() {
            w.report = channel.into_raw();
            return w.empty(gate);
        }
    }
}

/// Part 0 sends `Waiting`, part 1 waits for `Go`, part 2 sends `Taken`.
pub(crate) fn hold(w: &Walk<'_>) -> Result<(), Fail> {
    report::send(w.report, &Message::plain(Kind::Waiting)).at(0, Call::Write)?;
    report::expect(w.report, Kind::Go, |_| false).at(1, Call::Recvmsg)?;
    report::send(w.report, &Message::plain(Kind::Taken)).at(2, Call::Write)
}

/// Takes close-on-exec off the descriptors that the program is to inherit: before the filter is loaded, else in
/// `CloseDescriptors`. One that is not open is EBADF: fewer are there than were promised.
pub(crate) fn inherit_now(w: &mut Walk<'_>) -> Result<(), Fail> {
    if let Some((from_keep, from)) = w.inherit.take() {
        for fd in from_keep..from {
            let number = i32::try_from(fd).map_err(|_| Fail::new(0, Call::Fcntl, Errno::BADF))?;
            if number != w.report {
                let none = rustix::io::FdFlags::empty();
                rustix::io::fcntl_setfd(sys::borrow(number), none).at(0, Call::Fcntl)?;
            }
        }
    }
    Ok(())
}

/// Part 0 is [`inherit_now`], part 1 the range below the report socket, part 2 the one above it.
pub(crate) fn close_descriptors(w: &mut Walk<'_>, from: u32) -> Result<(), Fail> {
    inherit_now(w)?;
    match close_ranges(w.report, from) {
        // Refused by a filter that knows only close(2), as the plan saw: then what the walker holds is closed one by one. It is all
        // there is, for everything else is closed by its owner, and all of it is close-on-exec besides.
        Err(refused) if refused.call == Call::CloseRange && refused.errno != Errno::INVAL.raw_os_error() => {
            w.close_held(from);
            Ok(())
        }
        done => done,
    }
}

fn close_ranges(report: i32, from: u32) -> Result<(), Fail> {
    match u32::try_from(report) {
        Ok(report) if report >= from => {
            if report > from {
                sys::close_range(from, report.wrapping_sub(1)).at(1, Call::CloseRange)?;
            }
            let next = report.checked_add(1).ok_or(Fail::new(2, Call::CloseRange, Errno::INVAL))?;
            sys::close_range(next, u32::MAX).at(2, Call::CloseRange)
        }
        _ => sys::close_range(from, u32::MAX).at(1, Call::CloseRange),
    }
}

/// Lays the vectors out and executes. Part 0.
pub(crate) fn exec(w: &mut Walk<'_>, argv: StrList, env: StrList) -> Result<(), Fail> {
    let found = w.found.ok_or(Fail::new(0, Call::Walk, Errno::NOENT))?;
    let path = w.program.cstr(found)?;
    let home = (!w.home.bytes().is_empty()).then(|| sys::address(w.home.cstr()));
    let program = w.program;
    let (argv, env) = vectors(&program, w.words, argv, env, home)?;
    let errno = sys::execve(path, argv, env);
    Err(Fail::new(0, Call::Execve, errno)).say(path::last(path.to_bytes()))
}

/// Both vectors with their ending zeros, one after the other in `words`.
pub(crate) fn vectors<'w>(
    program: &crate::program::Program<'_>,
    words: &'w mut [usize],
    argv: StrList,
    env: StrList,
    extra: Option<usize>,
) -> Result<(&'w [usize], &'w [usize]), Fail> {
    let short = Fail::new(0, Call::Walk, Errno::NOMEM);
    let mut places = words.iter_mut();
    let mut put = |word: usize| places.next().map(|place| *place = word).ok_or(short);
    let mut argv_len = 0_usize;
    let mut env_len = 0_usize;
    for (list, extra, len) in [(argv, None, &mut argv_len), (env, extra, &mut env_len)] {
        let mut index = 0_u32;
        while index < list.count {
            put(sys::address(program.cstr(program.item(list, index)?)?))?;
            *len = len.wrapping_add(1);
            index = index.wrapping_add(1);
        }
        if let Some(word) = extra {
            put(word)?;
            *len = len.wrapping_add(1);
        }
        put(0)?;
        *len = len.wrapping_add(1);
    }
    let words: &[usize] = words;
    let (argv, rest) = words.split_at_checked(argv_len).ok_or(short)?;
    Ok((argv, rest.get(..env_len).ok_or(short)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(text: &[u8], uid: u32) -> std::string::String {
        let mut search = Passwd::new(uid);
        for byte in text.iter().chain(b"\n") {
            search.feed(*byte);
        }
        std::string::String::from_utf8_lossy(search.home()).into_owned()
    }

    #[test]
    fn passwd_lines_are_found_by_number_alone() {
        let text = b"root:x:0:0:root:/root:/bin/sh\nbroken\n1000:x:7:7::/seven:\nu:x:1000:1000:a b:/home/u:/bin/sh\nv:x:01000:1::/v:/";
        assert_eq!(home(text, 0), "/root");
        assert_eq!(home(text, 7), "/seven");
        assert_eq!(home(text, 1000), "/home/u", "names that look like numbers are no numbers");
        assert_eq!(home(text, 5), "");
        assert_eq!(home(b"a:x:1:1:c:/short", 1), "/short", "the last line may lack its end and its shell");
        assert_eq!(home(b"a:x:1:1:c", 1), "");
        assert_eq!(home(b"a:x:-1:1:c:/x:/y", u32::MAX), "");
        let long = [&b"a:x:1:1:c:/"[..], &[b'h'; 2000], b":/sh\nb:x:1:1::/b:/sh"].concat();
        assert_eq!(home(&long, 1), "/b");
    }
}
