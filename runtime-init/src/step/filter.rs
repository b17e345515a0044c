//! The seccomp filter.
//!
//! After it only the calls named in `step/exec.rs` and the final capset happen. Must not: change the program it is given.
//! Tests: `tests/creds.rs`.

use rustix::io::Errno;

use crate::program::{Bytes, Slot};
use crate::report::{self, At, Fail};
use crate::step::exec;
use crate::sys::{self, Fd};
use crate::walk::Walk;
use crate::wire::{Call, Kind, Message};

const NEW_LISTENER: u64 = 8;

/// Part 0 loads; part 1 tells of the listener: with a slot its number, by write(2), for a parent that takes it by pidfd_getfd;
/// without one the descriptor itself, by sendmsg(2), and it is closed here.
pub(crate) fn seccomp(w: &mut Walk<'_>, filter: Bytes, flags: u64, listener: Slot) -> Result<(), Fail> {
    // fcntl may be among what the filter refuses.
    exec::inherit_now(w)?;
    let answer = sys::seccomp(flags, w.program.raw(filter)?).at(0, Call::Seccomp)?;
    if flags & NEW_LISTENER == 0 {
        return Ok(());
    }
    let number = i32::try_from(answer).map_err(|_| Fail::new(0, Call::Seccomp, Errno::BADF))?;
    let fd = Fd::own(number);
    let mut message = Message::plain(Kind::Listener);
    message.errno = number;
    if listener == Slot::NONE {
        return report::send_fd(w.report, &message, fd.raw()).at(1, Call::Sendmsg);
    }
    w.fill(listener, fd)?;
    report::send(w.report, &message).at(1, Call::Write)
}
