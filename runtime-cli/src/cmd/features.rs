//! `coracle features`.

use coracle::features::features;
use coracle::{Error, ErrorKind};

use crate::Globals;
use crate::args::Given;
use crate::out;

/// Prints the features document; it is about this program, not about this machine.
pub fn run(_: &Globals, _: &Given<'_>) -> Result<u8, Error> {
    let text = serde_json::to_string_pretty(&features())
        .map_err(|error| Error::new(ErrorKind::Io, "write the features as JSON").with_source(error))?;
    out::print(text + "\n")?;
    Ok(0)
}
