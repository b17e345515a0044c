//! The caller's terminal: raw while a container uses it, and as it was whenever we stop, end or crash.
//!
//! The terminal passes every byte through (the container's own terminal does the line editing and the signals), as crun and
//! Docker have it; runc leaves output processing on here and switches it off inside, which shows the same on a terminal.
//! Must not: copy bytes (that is `relay`). Tests: at the end of the file, with a real pty.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use coracle::spec::Box2D;
use coracle::{Error, ErrorKind, Phase};
use rustix::fs::{Mode, OFlags};
use rustix::termios::{
    OptionalActions, Termios, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr, tcsetwinsize,
};

/// The terminal and the mode to go back to. Dropping it goes back.
#[derive(Debug)]
pub struct Host {
    fd: OwnedFd,
    saved: Termios,
    raw: bool,
}

/// What the panic hook restores: with `panic = "abort"` nothing is dropped.
static AT_PANIC: Mutex<Option<(OwnedFd, Termios)>> = Mutex::new(None);

impl Host {
    /// Finds the caller's terminal: standard input, output or error, whichever is one, else `/dev/tty`.
    ///
    /// # Errors
    /// When the caller has none.
    pub fn find() -> Result<Self, Error> {
        let standard = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
        if let Some(host) = standard.into_iter().find_map(Self::of) {
            return Ok(host);
        }
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        rustix::fs::open("/dev/tty", flags, Mode::empty())
            .ok()
            .and_then(|fd| Self::of(fd.as_fd()))
            .ok_or_else(|| {
                Error::new(ErrorKind::Unsupported, "the program wants a terminal and the caller has none")
                    .at("/process/terminal")
                    .in_phase(Phase::Terminal)
                    .with_code("no-terminal")
                    .with_hint("use --detach with --console-socket, or set terminal to false")
            })
    }

    /// The terminal behind `fd`, when it is one.
    pub fn of(fd: BorrowedFd<'_>) -> Option<Self> {
        let saved = tcgetattr(fd).ok()?;
        let fd = rustix::io::fcntl_dupfd_cloexec(fd, 3).ok()?;
        Some(Self { fd, saved, raw: false })
    }

    /// Lets every byte through. Does nothing in the background: the terminal belongs to another job then.
    ///
    /// # Errors
    /// The kernel's, when the terminal is gone.
    pub fn make_raw(&mut self) -> rustix::io::Result<()> {
        if self.raw || !self.is_ours() {
            return Ok(());
        }
        self.restore_at_panic();
        let mut raw = self.saved.clone();
        raw.make_raw();
        tcsetattr(&self.fd, OptionalActions::Drain, &raw)?;
        self.raw = true;
        Ok(())
    }

    /// Goes back to the mode that it had.
    pub fn restore(&mut self) {
        if self.raw {
            // The terminal may be gone; then there is nothing to restore.
            let _ = tcsetattr(&self.fd, OptionalActions::Drain, &self.saved);
            self.raw = false;
            *AT_PANIC.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// Whether bytes pass as they are.
    pub fn is_raw(&self) -> bool {
        self.raw
    }

    /// Whether we are the terminal's foreground job. One that is not our controlling terminal has no jobs for us.
    pub fn is_ours(&self) -> bool {
        let own = nix::unistd::getpgrp().as_raw();
        tcgetpgrp(&self.fd).map_or(true, |group| group.as_raw_nonzero().get() == own)
    }

    /// Rows and columns, unless the terminal does not know.
    pub fn size(&self) -> Option<Box2D> {
        let size = tcgetwinsize(&self.fd).ok().filter(|size| size.ws_row != 0 && size.ws_col != 0)?;
        let mut dimensions = Box2D::default();
        (dimensions.height, dimensions.width) = (size.ws_row.into(), size.ws_col.into());
        Some(dimensions)
    }

    /// Gives another terminal the size of this one. Does nothing when either has none or is gone.
    pub fn size_to(&self, other: BorrowedFd<'_>) {
        if let Ok(size) = tcgetwinsize(&self.fd) {
            if size.ws_row != 0 && size.ws_col != 0 {
                let _ = tcsetwinsize(other, size);
            }
        }
    }

    fn restore_at_panic(&self) {
        let Ok(fd) = rustix::io::fcntl_dupfd_cloexec(&self.fd, 3) else { return };
        let mut at_panic = AT_PANIC.lock().unwrap_or_else(PoisonError::into_inner);
        *at_panic = Some((fd, self.saved.clone()));
        drop(at_panic);
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let at_panic = AT_PANIC.try_lock();
            if let Some((fd, saved)) = at_panic.as_deref().ok().and_then(Option::as_ref) {
                let _ = tcsetattr(fd, OptionalActions::Now, saved);
            }
            before(info);
        }));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.restore();
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
    use rustix::termios::{LocalModes, OutputModes, Winsize};

    /// A pty: master and slave.
    pub fn pty() -> (OwnedFd, OwnedFd) {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).expect("a pty");
        unlockpt(&master).expect("unlocked");
        let slave = ioctl_tiocgptpeer(&master, flags).expect("the other side");
        (master, slave)
    }

    fn cooked(fd: &OwnedFd) -> bool {
        let mode = tcgetattr(fd).expect("a terminal");
        let local = mode.local_modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        let output = mode.output_modes.contains(OutputModes::OPOST);
        assert_eq!(local, output);
        local
    }

    #[test]
    fn raw_until_restored_or_dropped() {
        let (_master, slave) = pty();
        let mut host = Host::of(slave.as_fd()).expect("a terminal");
        assert!(cooked(&slave));
        host.make_raw().expect("raw");
        assert!(!cooked(&slave) && host.is_raw());
        host.restore();
        assert!(cooked(&slave) && !host.is_raw());
        host.make_raw().expect("raw again");
        assert!(!cooked(&slave));
        drop(host);
        assert!(cooked(&slave));
    }

    /// In a process of its own, for it panics. With `panic = "abort"` nothing is dropped, so nothing is here either.
    #[test]
    fn a_panic_restores_the_terminal() {
        if std::env::var_os("CORACLE_TEST_PANIC").is_some() {
            let mut host = Host::of(rustix::stdio::stdin()).expect("a terminal");
            host.make_raw().expect("raw");
            assert!(!cooked(&rustix::io::dup(rustix::stdio::stdin()).expect("dup")));
            std::mem::forget(host);
            panic!("on purpose");
        }
        let (_master, slave) = pty();
        let run = std::process::Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "tty::tests::a_panic_restores_the_terminal", "--nocapture"])
            .env("CORACLE_TEST_PANIC", "1")
            .stdin(slave.try_clone().expect("dup"))
            .output()
            .expect("runs");
        assert!(String::from_utf8_lossy(&run.stderr).contains("on purpose"), "{run:?}");
        assert!(cooked(&slave));
    }

    #[test]
    fn a_pipe_is_no_terminal() {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        assert!(Host::of(reader.as_fd()).is_none() && Host::of(writer.as_fd()).is_none());
    }

    #[test]
    fn a_size_of_nothing_is_no_size() {
        let (master, slave) = pty();
        let host = Host::of(slave.as_fd()).expect("a terminal");
        assert!(host.size().is_none());
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).expect("sized");
        assert_eq!(host.size().map(|size| (size.height, size.width)), Some((24, 80)));
    }
}
