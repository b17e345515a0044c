//! `coracle plan`: what create would do.

use std::path::Path;

use coracle::{Bundle, CreatePlan, Error, Stdio};

use super::runtime;
use crate::Globals;
use crate::args::Given;
use crate::out;

/// Prints the plan; nothing is executed.
pub fn run(globals: &Globals, given: &Given<'_>) -> Result<u8, Error> {
    let plan = of(globals, Path::new(given.rest.first().copied().unwrap_or_default()))?;
    out::print(plan.to_string())?;
    Ok(0)
}

/// The plan of a bundle on this machine.
///
/// # Errors
/// The library's.
pub fn of(globals: &Globals, bundle: &Path) -> Result<CreatePlan, Error> {
    let bundle = Bundle::from_dir(bundle)?;
    let terminal = bundle.spec().process.as_ref().and_then(|process| process.terminal).unwrap_or_default();
    let stdio = if terminal { Stdio::Pty } else { Stdio::Inherit };
    runtime(globals)?.create(&"plan".parse()?, bundle).stdio(stdio).plan()
}
