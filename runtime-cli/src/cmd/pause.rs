//! `coracle pause` and `coracle resume`.

use coracle::Error;

use super::container;
use crate::Globals;
use crate::args::Given;

/// Freezes all processes.
pub fn pause(globals: &Globals, given: &Given<'_>) -> Result<u8, Error> {
    container(globals, given)?.pause()?;
    Ok(0)
}

/// Lets them go on.
pub fn resume(globals: &Globals, given: &Given<'_>) -> Result<u8, Error> {
    container(globals, given)?.resume()?;
    Ok(0)
}
