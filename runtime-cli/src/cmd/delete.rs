//! `coracle delete`.

use coracle::{ContainerId, Delete, Error, ErrorKind, Runtime};

use super::{each_matching, id, runtime};
use crate::Globals;
use crate::args::{Given, flags};

/// Removes what is left of a container, or of each whose ID matches.
pub fn run(globals: &Globals, given: &Given<'_>) -> Result<u8, Error> {
    let force = given.on(&flags::FORCE);
    let runtime = runtime(globals)?;
    if given.on(&flags::REGEX) {
        each_matching(&runtime, given, |id| delete(globals, &runtime, id, force))?;
    } else {
        delete(globals, &runtime, &id(given)?, force)?;
    }
    Ok(0)
}

fn delete(globals: &Globals, runtime: &Runtime, id: &ContainerId, force: bool) -> Result<(), Error> {
    let deleted = match runtime.open(id) {
        Ok(container) => container.delete(if force { Delete::Force } else { Delete::Stopped }),
        // Nothing of it can be read: what is left is removed as far as it is known to be ours.
        Err(error) if force && error.kind() == ErrorKind::State => runtime.purge(id).map(|()| Vec::new()),
        Err(error) => Err(error),
    };
    match deleted {
        Ok(failed) => hooks(globals, &failed),
        // Gone before, or meanwhile by another.
        Err(error) if force && error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// A poststop hook that failed stops nothing (runtime.md, "Lifecycle", 13); it is said with `--debug`.
pub fn hooks(globals: &Globals, failed: &[Error]) {
    for error in failed {
        globals.log.debug(&format!("poststop: {error}"));
    }
}
