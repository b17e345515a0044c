//! `coracle spec`: a config.json to start from.

use std::path::Path;

use coracle::spec::{Id, Spec};
use coracle::{Error, ErrorKind};
use rustix::io::Errno;

use crate::Globals;
use crate::args::{Given, flags};
use crate::file;

/// Writes the file unless there is one.
pub fn run(_: &Globals, given: &Given<'_>) -> Result<u8, Error> {
    let rootless = given.on(&flags::SPEC_ROOTLESS);
    let spec = if rootless { for_caller()? } else { Spec::default_container() };
    let name = given.path(&flags::SPEC_FILE).unwrap_or(Path::new("config.json"));
    let path = given.path(&flags::SPEC_BUNDLE).unwrap_or(Path::new(".")).join(name);
    file::create(&path, spec.to_json().as_bytes()).map_err(|error| {
        if error.errno() == Some(Errno::EXIST.raw_os_error()) {
            Error::new(ErrorKind::Usage, format!("File {} exists. Remove it first", name.display()))
                .with_path(&path)
        } else {
            error
        }
    })?;
    Ok(0)
}

/// The configuration of a container for the calling user.
pub fn for_caller() -> Result<Spec, Error> {
    let id = |number: u32| {
        Id::new(number).ok_or_else(|| Error::new(ErrorKind::Unsupported, "the calling user has no usable id"))
    };
    Ok(Spec::rootless(id(rustix::process::geteuid().as_raw())?, id(rustix::process::getegid().as_raw())?))
}
