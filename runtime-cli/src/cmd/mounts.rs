//! `coracle mounts`: what a running container gets, or loses, besides what its configuration says.
//!
//! Tests: `tests` package, hotplug.

use std::fs::File;
use std::path::Path;

use coracle::Error;
use coracle::spec::{self, Mount};
use rustix::fs::{Mode, OFlags};

use super::process::invalid;
use super::runtime;
use crate::Globals;
use crate::args::{Given, usage};

/// `add` or `remove`, the container, the file.
pub fn run(globals: &Globals, given: &Given<'_>) -> Result<u8, Error> {
    let action = given.argument(0, "add or remove")?;
    let container = || runtime(globals)?.open(&given.argument(1, "the container's ID")?.parse()?);
    let list = || read(Path::new(given.argument(2, "the file")?));
    match action {
        "add" => container()?.add_mounts(&list()?)?,
        "remove" => container()?.remove_mounts(&list()?)?,
        other => return Err(usage(format!("unknown word {other:?}: use add or remove"))),
    }
    Ok(0)
}

fn read(path: &Path) -> Result<Vec<Mount>, Error> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
    let fd = rustix::fs::open(path, flags, Mode::empty())
        .map_err(|errno| Error::os("open the list of mounts", errno).with_path(path))?;
    let bytes = spec::read_document(&File::from(fd)).map_err(|error| invalid(error, path))?;
    Mount::list_from_slice(&bytes).map_err(|error| invalid(error, path))
}
