//! `coracle create`.

use coracle::Error;

use super::launch::{Launch, announce};
use crate::Globals;
use crate::args::Given;

/// Prepares the container; its program waits for `start`.
pub fn run(globals: &Globals, given: &Given<'_>) -> Result<u8, Error> {
    let launch = Launch::new(globals, given)?;
    let stdio = launch.detached_stdio()?;
    announce(given, launch.plan(stdio, false)?.create()?.container)?;
    Ok(0)
}
