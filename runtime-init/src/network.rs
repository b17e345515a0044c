//! A network namespace that a task makes beside its process's other work.
//!
//! The task shares everything with the process but has no thread-local storage of its own: it makes system calls, by itself, and touches
//! nothing but what it was given. Must not: return. Tests: every `run` of the `tests` package.

use core::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::thread::futex;

use crate::step::raise_loopback;
use crate::sys::{self, Fd};

/// What is being made, in memory that the task and its process share.
#[derive(Debug)]
pub struct Network {
    /// The namespace's file, a descriptor without an owner.
    file: Word,
    /// Its loopback interface is up: 0.
    up: Word,
}

impl Default for Network {
    fn default() -> Self {
        Self::new()
    }
}

impl Network {
    /// Nothing is made yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { file: Word(AtomicU32::new(PENDING)), up: Word(AtomicU32::new(PENDING)) }
    }

    /// Makes the namespace and ends the task that calls this: unshare(2), and up with `lo`.
    pub fn make(&self) -> ! {
        const CLONE_NEWNET: u64 = 0x4000_0000;
        let path = c"/proc/thread-self/ns/net";
        let open = || sys::open(None, path, OFlags::RDONLY, Mode::empty(), ResolveFlags::empty());
        // The namespace is this task's alone, and the task ends.
        let file = sys::unshare(CLONE_NEWNET).and_then(|()| open()).map(Fd::into_raw);
        self.file.tell(file);
        self.up.tell(file.and_then(|_| raise_loopback()).map(|()| 0));
        sys::exit_task()
    }

    /// The number of the namespace's file; whoever asks first owns it. Blocks until it is there.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn file(&self) -> Result<i32, Errno> {
        self.file.wait()
    }

    /// Blocks until the loopback interface is up too.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn up(&self) -> Result<(), Errno> {
        self.up.wait().map(drop)
    }
}

/// A number or an error number that comes later.
#[derive(Debug)]
struct Word(AtomicU32);

const PENDING: u32 = u32::MAX;
/// In front of an error number.
const FAILED: u32 = 0x8000_0000;

impl Word {
    fn tell(&self, answer: Result<i32, Errno>) {
        let word = match answer {
            Ok(number) => number.unsigned_abs(),
            Err(errno) => FAILED | errno.raw_os_error().unsigned_abs(),
        };
        self.0.store(word, Ordering::Release);
        let _ = futex::wake(&self.0, futex::Flags::PRIVATE, 1);
    }

    fn wait(&self) -> Result<i32, Errno> {
        loop {
            let word = self.0.load(Ordering::Acquire);
            match i32::try_from(word) {
                Ok(number) => return Ok(number),
                Err(_) if word != PENDING => {
                    let errno = i32::try_from(word & !FAILED).unwrap_or(libc::EINVAL);
                    return Err(Errno::from_raw_os_error(errno.clamp(1, 4095)));
                }
                // Not pending any more, or a signal: looked at again.
                Err(_) => drop(futex::wait(&self.0, futex::Flags::PRIVATE, PENDING, None)),
            }
        }
    }
}
