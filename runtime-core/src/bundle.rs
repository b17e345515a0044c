//! A bundle: a configuration and where its relative paths start.
//!
//! Must not: validate. Tests: in `runtime.rs` and the `tests` package.

use crate::error::{Error, ErrorKind, Phase, Result};
use crate::spec::{self, Spec};
use rustix::fs::{Mode, OFlags, open};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// A configuration together with the directory that its relative paths start from.
#[derive(Clone, Debug)]
pub struct Bundle {
    directory: PathBuf,
    spec: Box<Spec>,
}

impl Bundle {
    /// Reads `config.json` of a bundle directory. A relative path starts at the current directory, which is only read.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when there is no such directory or file; [`ErrorKind::InvalidSpec`] with pointer, line and column when the
    /// file is no configuration.
    pub fn from_dir(path: impl AsRef<Path>) -> Result<Self> {
        Self::from_dir_and_file(path, "config.json")
    }

    /// As [`Bundle::from_dir`] with another file as the configuration; its relative path starts at the bundle directory.
    ///
    /// # Errors
    /// As [`Bundle::from_dir`].
    pub fn from_dir_and_file(path: impl AsRef<Path>, config: impl AsRef<Path>) -> Result<Self> {
        let config = config.as_ref();
        let directory = std::path::absolute(path.as_ref())
            .map_err(|e| Error::os("find the bundle", e).with_path(path.as_ref()).in_phase(Phase::Load))?;
        let fd = open(&directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| {
                Error::os("open the bundle directory", e)
                    .with_path(&directory)
                    .in_phase(Phase::Load)
                    .with_code("bundle")
            })?;
        let spec = spec::read_config_at(fd.as_fd(), config)
            .map_err(|e| Error::from(e).with_path(directory.join(config)))?;
        Ok(Self { directory, spec: Box::new(spec) })
    }

    /// A bundle from memory. `directory` is where relative paths of the configuration start, and what `state` shows as the bundle; no
    /// file is read from it.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when `directory` is not absolute.
    pub fn from_spec(spec: Spec, directory: impl Into<PathBuf>) -> Result<Self> {
        let directory = directory.into();
        if !directory.is_absolute() {
            return Err(Error::new(ErrorKind::Usage, "the directory of a bundle must be absolute")
                .with_path(directory));
        }
        Ok(Self { directory, spec: Box::new(spec) })
    }

    /// The bundle directory, absolute.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The configuration.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    pub(crate) fn into_parts(self) -> (PathBuf, Box<Spec>) {
        (self.directory, self.spec)
    }
}
