//! `coracle state`, and the document that `list --format json` shares with it.

use coracle::{Container, Error};

use super::container;
use crate::Globals;
use crate::args::Given;
use crate::out::{self, state::Document};

/// Prints the state as JSON, indented as runc does it.
pub fn run(globals: &Globals, given: &Given<'_>) -> Result<u8, Error> {
    let text = with_document(&container(globals, given)?, "", |document| document.indented())?;
    // A line break at the end, for terminals; readers of JSON do not mind.
    out::print(text + "\n")?;
    Ok(0)
}

/// Shows the document of a container.
///
/// # Errors
/// The kernel cannot be asked about it.
pub fn with_document<T>(
    container: &Container,
    owner: &str,
    show: impl FnOnce(&Document<'_>) -> T,
) -> Result<T, Error> {
    let state = container.state()?;
    let rootfs = container.rootfs().to_string_lossy();
    Ok(show(&Document {
        oci_version: &state.oci_version,
        id: &state.id,
        pid: state.pid.unwrap_or_default(),
        status: &state.status,
        bundle: &state.bundle,
        rootfs: &rootfs,
        created: container.created(),
        annotations: &state.annotations,
        owner,
    }))
}
