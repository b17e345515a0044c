//! `coracle exec`.

use coracle::{Error, Exec, ExecProcess, ExitStatus, Stdio};

use super::container;
use super::launch::{detached_stdio, refuse_console_socket, tell};
use super::process::process;
use super::run::exit_code;
use crate::Globals;
use crate::args::{Given, flags, usage};
use crate::foreground::{self, Signals};
use crate::relay::Relay;
use crate::tty::Host;

/// Runs a further program in a container, and stays with it unless told otherwise.
pub fn run(globals: &Globals, given: &Given<'_>) -> Result<u8, Error> {
    // Before anything that should not happen twice: this may execute the program again.
    coracle::reexec_sealed()?;
    let container = container(globals, given)?;
    let recorded = container.process()?.cloned().unwrap_or_default();
    let mut process = process(given, &recorded)?;
    let terminal = process.terminal.unwrap_or_default();
    let detach = given.on(&flags::DETACH);
    let (stdio, host) = match (detach, terminal) {
        (true, _) => (detached_stdio(given, terminal)?, None),
        (false, true) if given.raw(&flags::CONSOLE_SOCKET).is_some() => (detached_stdio(given, true)?, None),
        (false, true) => {
            let host = Host::find()?;
            process.console_size = process.console_size.or(host.size());
            (Stdio::Pty, Some(host))
        }
        (false, false) => {
            refuse_console_socket(given)?;
            (Stdio::Inherit, None)
        }
    };
    let exec = container
        .exec(process)
        .stdio(stdio)
        .preserve_fds(given.number(&flags::PRESERVE_FDS).unwrap_or_default())
        .ignore_paused(given.on(&flags::IGNORE_PAUSED));
    let exec = given.list(&flags::CGROUP).try_fold(exec, |exec, text| place(exec, text))?;
    if detach {
        return announce(given, exec.spawn()?).map(|_| 0);
    }
    let signals = Signals::block()?;
    if !given.on(&flags::NO_SUBREAPER_EXEC) {
        foreground::adopt_orphans();
    }
    let mut child = announce(given, exec.spawn()?)?;
    let relay = match (host, child.io().pty.take()) {
        (Some(host), Some(master)) => {
            Some(Relay::new(host, master, rustix::stdio::stdin(), rustix::stdio::stdout())?)
        }
        _ => None,
    };
    exit_code(stay(globals, &child, relay, &signals)?)
}

/// `[CTRL,...:]PATH`.
fn place<'c>(exec: Exec<'c>, text: &str) -> Result<Exec<'c>, Error> {
    let Some((controllers, path)) = text.split_once(':') else {
        return Ok(exec.cgroup([""; 0], text));
    };
    if controllers.split(',').any(str::is_empty) {
        return Err(usage(format!("invalid value {text:?} for flag -cgroup: a controller's name is empty")));
    }
    Ok(exec.cgroup(controllers.split(','), path))
}

/// A program that the caller could not learn about is killed.
fn announce(given: &Given<'_>, child: ExecProcess) -> Result<ExecProcess, Error> {
    match tell(given, Some(child.pid()), Some(child.pidfd()), b"setns") {
        Ok(()) => Ok(child),
        Err(error) => {
            // It may have ended already.
            let _ = child.signal(libc::SIGKILL);
            let _ = child.wait();
            Err(error)
        }
    }
}

fn stay(
    globals: &Globals,
    child: &ExecProcess,
    relay: Option<Relay<'_>>,
    signals: &Signals,
) -> Result<ExitStatus, Error> {
    let mut forward = |signal: i32| {
        let other = |signal| child.signal(signal).map(|_| ());
        if let Err(error) = foreground::forward(child.pidfd(), signal, other) {
            globals.log.debug(&format!("forward signal {signal}: {error}"));
        }
    };
    match relay {
        Some(mut relay) => relay.run(child.pidfd(), signals, &mut forward)?,
        None => foreground::stay(child.pidfd(), signals, &mut forward)?,
    }
    child.wait()
}
