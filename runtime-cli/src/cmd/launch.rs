//! What `create` and `run` have in common: the bundle, the flags, and what is written once the container is there.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use coracle::{Bundle, Container, CreatePlan, Delete, Error, Runtime, Stdio};

use super::{id, runtime};
use crate::args::{Given, flags, usage};
use crate::tty::Host;
use crate::{Globals, activation, file, notify, socket};

/// A container to be.
pub struct Launch<'a> {
    runtime: Runtime,
    bundle: Bundle,
    given: &'a Given<'a>,
    preserve_fds: u32,
    environment: Vec<String>,
    notify: bool,
}

impl<'a> Launch<'a> {
    /// Reads the bundle.
    ///
    /// # Errors
    /// The flags contradict each other; the bundle cannot be read.
    pub fn new(globals: &Globals, given: &'a Given<'a>) -> Result<Self, Error> {
        // Before anything that should not happen twice: this may execute the program again.
        coracle::reexec_sealed()?;
        let bundle = Bundle::from_dir_and_file(
            given.path(&flags::BUNDLE).unwrap_or(Path::new(".")),
            given.path(&flags::CONFIG).unwrap_or(Path::new("config.json")),
        )?;
        let passed = activation::descriptors()?;
        let preserve_fds = given.number(&flags::PRESERVE_FDS).unwrap_or_default().saturating_add(passed);
        let (environment, notify) = (activation::announce(passed), notify::wanted()?);
        Ok(Self { runtime: runtime(globals)?, bundle, given, preserve_fds, environment, notify })
    }

    /// Gives the program's terminal a size, unless the configuration does.
    ///
    /// # Errors
    /// None that a bundle which was read could give.
    pub fn size(&mut self, host: &Host) -> Result<(), Error> {
        let mut spec = self.bundle.spec().clone();
        if let (Some(process), Some(size)) = (&mut spec.process, host.size()) {
            process.console_size.get_or_insert(size);
        }
        self.bundle = Bundle::from_spec(spec, self.bundle.directory())?;
        Ok(())
    }

    /// Whether the program gets a terminal.
    pub fn terminal(&self) -> bool {
        self.bundle.spec().process.as_ref().and_then(|process| process.terminal).unwrap_or_default()
    }

    /// Standard streams of a program that nobody stays with.
    ///
    /// # Errors
    /// A terminal without a socket to send it to, or the other way round; a socket that does not take connections.
    pub fn detached_stdio(&self) -> Result<Stdio, Error> {
        detached_stdio(self.given, self.terminal())
    }

    /// Nobody would use the socket.
    ///
    /// # Errors
    /// It was given.
    pub fn refuse_console_socket(&self) -> Result<(), Error> {
        refuse_console_socket(self.given)
    }

    /// Decides everything; `at_once` starts the program without waiting for `start`.
    ///
    /// # Errors
    /// The library's: what is wrong with the bundle, what cannot be had on this machine.
    pub fn plan(self, stdio: Stdio, at_once: bool) -> Result<CreatePlan, Error> {
        self.runtime
            .create(&id(self.given)?, self.bundle)
            .ahead()?
            .stdio(stdio)
            .preserve_fds(self.preserve_fds)
            .environment(self.environment)
            .notify_socket(self.notify)
            .seccomp_receiver(std::env::var("RUN_OCI_SECCOMP_RECEIVER").ok().filter(|path| !path.is_empty()))
            .at_once(at_once)
            .no_pivot(self.given.on(&flags::NO_PIVOT))
            .no_new_keyring(self.given.on(&flags::NO_NEW_KEYRING))
            .plan()
    }
}

/// Tells the caller the process: by pid file and pidfd socket. A container that the caller could not learn about is removed.
///
/// # Errors
/// The file cannot be written, the socket does not take the descriptor.
pub fn announce(given: &Given<'_>, container: Container) -> Result<Container, Error> {
    let wanted = given.raw(&flags::PIDFD_SOCKET).is_some();
    let pidfd = if wanted { container.pidfd() } else { Ok(None) };
    let told = pidfd
        .and_then(|pidfd| tell(given, container.init_pid(), pidfd.as_ref().map(AsFd::as_fd), b"standard"))
        .and_then(|()| tell_receiver(&container));
    let Err(error) = told else { return Ok(container) };
    Err(match container.delete(Delete::Force) {
        Ok(_) => error,
        Err(removal) => error.with_warning(format!("and the container is still there: {removal}")),
    })
}

/// crun's way to ask for a pidfd: by an annotation, for a socket that gets it with a blank.
fn tell_receiver(container: &Container) -> Result<(), Error> {
    let Some(path) = container.annotations().get("run.oci.pidfd_receiver") else { return Ok(()) };
    let at = |error: Error| error.at("/annotations/run.oci.pidfd_receiver");
    let Some(pidfd) = container.pidfd()? else { return Ok(()) };
    let socket = socket::connect_to(Path::new(path)).map_err(at)?;
    socket::send_descriptor(socket.as_fd(), b" ", pidfd.as_fd()).map_err(at)
}

/// Standard streams of a program that nobody stays with; with runc's words.
pub fn detached_stdio(given: &Given<'_>, terminal: bool) -> Result<Stdio, Error> {
    match given.path(&flags::CONSOLE_SOCKET) {
        Some(path) if terminal => Ok(Stdio::ConsoleSocket(socket::connect_to(path)?)),
        Some(_) => Err(usage("cannot use console socket if the runtime will not detach or allocate tty")),
        None if terminal => {
            Err(usage("cannot allocate tty if the runtime will detach without setting console socket"))
        }
        None => Ok(Stdio::Inherit),
    }
}

/// Nobody would use the socket in the foreground.
pub fn refuse_console_socket(given: &Given<'_>) -> Result<(), Error> {
    match given.raw(&flags::CONSOLE_SOCKET) {
        Some(_) => Err(usage("cannot use console socket if the runtime will not detach or allocate tty")),
        None => Ok(()),
    }
}

/// Writes the pid file and sends the pidfd, as far as they were asked for.
pub fn tell(
    given: &Given<'_>,
    pid: Option<i32>,
    pidfd: Option<std::os::fd::BorrowedFd<'_>>,
    word: &[u8],
) -> Result<(), Error> {
    if let (Some(path), Some(pid)) = (given.path(&flags::PID_FILE), pid) {
        // Without a line break: readers take the whole file for the number.
        file::replace(path, pid.to_string().as_bytes())?;
    }
    if let (Some(path), Some(pidfd)) = (given.path(&flags::PIDFD_SOCKET), pidfd) {
        let socket: OwnedFd = socket::connect_to(path)?;
        socket::send_descriptor(socket.as_fd(), word, pidfd)?;
    }
    Ok(())
}
