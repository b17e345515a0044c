//! `coracle run`.

use std::os::fd::{AsFd, BorrowedFd};

use coracle::{Container, Delete, Error, ErrorKind, ExitStatus, Scope, Stdio};
use rustix::process::getpid;

use super::launch::{Launch, announce};
use crate::Globals;
use crate::args::{Given, flags};
use crate::foreground::{self, Signals};
use crate::notify::{self, Listener};
use crate::out::log::Log;
use crate::relay::Relay;
use crate::tty::Host;

/// The program does not wait at the gate.
const AT_ONCE: bool = true;

/// Creates and starts a container, and stays with it unless told otherwise.
pub fn run(globals: &Globals, given: &Given<'_>) -> Result<u8, Error> {
    let mut launch = Launch::new(globals, given)?;
    let manager = Listener::connect()?;
    if given.on(&flags::DETACH) {
        let stdio = launch.detached_stdio()?;
        let created = launch.plan(stdio, AT_ONCE)?.create()?;
        let container = announce(given, created.container)?;
        if let (Some(manager), Some(socket)) = (manager, created.notify) {
            notify::until_ready(&manager, &socket, &container)?;
        }
        return Ok(0);
    }
    launch.refuse_console_socket()?;
    let host = if launch.terminal() { Some(Host::find()?) } else { None };
    if let Some(host) = &host {
        launch.size(host)?;
    }
    let plan = launch.plan(if host.is_some() { Stdio::Pty } else { Stdio::Inherit }, AT_ONCE)?;
    // From here on no signal is lost and no end missed: both wait for their descriptors.
    let mut signals = Signals::block()?;
    if !given.on(&flags::NO_SUBREAPER) {
        foreground::adopt_orphans();
    }
    let created = plan.create()?;
    let container = announce(given, created.container)?;
    if let (Some(manager), Some(socket)) = (manager, created.notify) {
        let log = globals.log.clone();
        signals.with(socket, move |socket| ready(&log, &manager, socket))?;
    }
    let relay = match (host, created.io.pty) {
        (Some(host), Some(master)) => {
            Some(Relay::new(host, master, rustix::stdio::stdin(), rustix::stdio::stdout())?)
        }
        _ => None,
    };
    let status = stay(globals, &container, relay, &signals)?;
    drop(signals);
    if !given.on(&flags::KEEP) {
        // The program's exit code is what the caller waits for; what could not be removed is said beside it.
        match container.delete(Delete::Stopped) {
            Ok(failed) => super::delete::hooks(globals, &failed),
            Err(error) => globals.log.failure("delete: ", &error),
        }
    }
    exit_code(status)
}

/// We are the process to watch: when we end, so has the container, and it is removed.
fn ready(log: &Log, manager: &Listener, socket: BorrowedFd<'_>) {
    if notify::says_ready(socket) {
        if let Err(error) = manager.ready(getpid().as_raw_pid()) {
            log.debug(&format!("notify: {error}"));
        }
    }
}

fn stay(
    globals: &Globals,
    container: &Container,
    relay: Option<Relay<'_>>,
    signals: &Signals,
) -> Result<ExitStatus, Error> {
    if let Some(pidfd) = container.pidfd()? {
        let mut forward = |signal: i32| {
            let other = |signal| container.signal(signal, Scope::Init);
            if let Err(error) = foreground::forward(pidfd.as_fd(), signal, other) {
                globals.log.debug(&format!("forward signal {signal}: {error}"));
            }
        };
        match relay {
            Some(mut relay) => relay.run(pidfd.as_fd(), signals, &mut forward)?,
            None => foreground::stay(pidfd.as_fd(), signals, &mut forward)?,
        }
    }
    container.wait()
}

/// The exit code as a shell would have it.
pub fn exit_code(status: ExitStatus) -> Result<u8, Error> {
    let code = status.code().and_then(|code| u8::try_from(code & 0xff).ok());
    code.ok_or_else(|| Error::new(ErrorKind::Kernel, "learn how the program ended"))
}
