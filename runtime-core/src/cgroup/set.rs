//! Writes planned values.
//!
//! Must not: convert anything; values come from `resources`. Tests: `cgroup/tests.rs`.

use rustix::io::Errno;

use super::dir::Dir;
use super::error::{CgroupError, Result};
use super::group::Cgroup;
use super::resources::{Absent, Write};

impl Cgroup {
    /// Writes values in order. What the kernel refuses as invalid or busy while other values are still the old ones
    /// (quota against burst, memory against memory and swap) is written once more after all the others.
    ///
    /// # Errors
    /// The write that failed, with its pointer; earlier ones stay written.
    pub fn set(&self, writes: &[Write]) -> Result<()> {
        let mut later = Vec::new();
        for write in writes {
            match self.write(write) {
                Err(error) if error.is(Errno::INVAL) || error.is(Errno::BUSY) => later.push(write),
                result => result?,
            }
        }
        later.into_iter().try_for_each(|write| self.write(write))
    }

    fn write(&self, write: &Write) -> Result<()> {
        let dir = &self.member(&write.hierarchy).map_err(|error| error.at(&write.pointer))?.dir;
        write_one(dir, write).map_err(|error| error.at(&write.pointer))
    }
}

fn write_one(dir: &Dir, write: &Write) -> Result<()> {
    if let Some(file) = &write.not_below {
        check_usage(dir, file, &write.value)?;
    }
    let value = if write.keep_first_word {
        let now = dir.read(&write.file)?;
        let first = now.split_ascii_whitespace().next().unwrap_or("max");
        let rest = write.value.split_once(' ').map_or("", |(_, rest)| rest);
        format!("{first} {rest}")
    } else {
        write.value.clone()
    };
    let missing = match dir.write(&write.file, &value) {
        Err(error) if error.is(Errno::NOENT) => error,
        result => return result,
    };
    match &write.absent {
        Absent::Skip => Ok(()),
        Absent::SkipWithoutSwap if !has_swap()? => Ok(()),
        Absent::Instead { file, value } => dir.write(file, value),
        Absent::Error | Absent::SkipWithoutSwap => {
            Err(missing.note("this kernel has no such file, so the limit cannot be had"))
        }
    }
}

fn check_usage(dir: &Dir, file: &str, value: &str) -> Result<()> {
    let text = dir.read(file)?;
    let (Ok(usage), Ok(limit)) = (text.trim().parse::<u64>(), value.parse::<u64>()) else {
        return Err(CgroupError::check(
            dir.path().join(file),
            format!("cannot compare {text:?} with the limit {value:?}"),
        ));
    };
    if limit <= usage {
        return Err(CgroupError::check(
            dir.path().join(file),
            format!("{usage} bytes are in use, which is not below the new limit {limit}"),
        ));
    }
    Ok(())
}

/// Whether the host has swap space at all.
fn has_swap() -> Result<bool> {
    const FILE: &str = "/proc/swaps";
    let text = std::fs::read_to_string(FILE).map_err(|error| {
        CgroupError::call("read", FILE, Errno::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO)))
    })?;
    // The first line is a heading.
    Ok(text.lines().count() > 1)
}
