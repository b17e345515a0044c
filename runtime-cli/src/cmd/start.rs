//! `coracle start`.

use coracle::Error;

use super::container;
use crate::Globals;
use crate::args::Given;

/// Lets the program of a created container begin.
pub fn run(globals: &Globals, given: &Given<'_>) -> Result<u8, Error> {
    container(globals, given)?.start()?;
    Ok(0)
}
