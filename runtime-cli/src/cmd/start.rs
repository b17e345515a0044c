//! `coracle start`.

use coracle::Error;

use super::container;
use crate::Globals;
use crate::args::Given;
use crate::notify::{self, Listener};

/// Lets the program of a created container begin; where a service manager wants to know, until it is ready.
pub fn run(globals: &Globals, given: &Given<'_>) -> Result<u8, Error> {
    let manager = Listener::connect()?;
    let container = container(globals, given)?;
    let Some(manager) = manager else { return container.start().map(|()| 0) };
    let socket = container.notify_socket()?;
    container.start()?;
    notify::until_ready(&manager, &socket, &container)?;
    Ok(0)
}
