//! `coracle kill`.

use coracle::{Error, ErrorKind, Scope};

use super::container;
use crate::Globals;
use crate::args::{Given, flags};
use crate::signals;

/// Sends a signal to the first process, or to all.
pub fn run(globals: &Globals, given: &Given<'_>) -> Result<u8, Error> {
    let name = if given.rest.len() > 1 { given.argument(1, "the signal")? } else { "TERM" };
    let signal = signals::number(name)?;
    let all = given.on(&flags::KILL_ALL);
    match container(globals, given)?.signal(signal, if all { Scope::All } else { Scope::Init }) {
        // Engines send it after the end, to be sure.
        Err(error) if all && error.kind() == ErrorKind::WrongState => Ok(0),
        other => other.map(|()| 0),
    }
}
