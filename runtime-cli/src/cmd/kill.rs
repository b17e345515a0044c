//! `coracle kill`.

use coracle::{Container, Error, ErrorKind, Scope};

use super::{container, each_matching, runtime};
use crate::Globals;
use crate::args::{Given, flags};
use crate::signals;

/// Sends a signal to the first process, or to all.
pub fn run(globals: &Globals, given: &Given<'_>) -> Result<u8, Error> {
    let name = if given.rest.len() > 1 { given.argument(1, "the signal")? } else { "TERM" };
    let signal = signals::number(name)?;
    let all = given.on(&flags::KILL_ALL);
    let send = |container: &Container, lenient: bool| {
        match container.signal(signal, if all { Scope::All } else { Scope::Init }) {
            // Engines send it after the end, to be sure.
            Err(error) if lenient && error.kind() == ErrorKind::WrongState => Ok(()),
            other => other,
        }
    };
    if given.on(&flags::REGEX) {
        let runtime = runtime(globals)?;
        each_matching(&runtime, given, |id| send(&runtime.open(id)?, true))?;
    } else {
        send(&container(globals, given)?, all)?;
    }
    Ok(0)
}
