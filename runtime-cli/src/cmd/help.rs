//! `coracle help`.

use coracle::Error;

use crate::Globals;
use crate::args::{Given, commands, help};
use crate::out;

/// Prints the help of the program or of one command.
pub fn run(_: &Globals, given: &Given<'_>) -> Result<u8, Error> {
    let text = match given.rest.first() {
        Some(name) => help::long(commands::find(&name.to_string_lossy())?),
        None => help::program(),
    };
    out::print(text)?;
    Ok(0)
}
