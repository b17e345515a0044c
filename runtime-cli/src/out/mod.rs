//! Standard output: silent about a reader that went away, loud about everything else.
//!
//! Must not: write to standard error (that is `log`), buffer. Tests: `tests/contract.rs`.

pub mod log;
pub mod state;
pub mod stats;
pub mod table;
pub mod time;

use coracle::Error;
use rustix::io::Errno;

/// Writes all of `bytes` to standard output. A closed pipe is the reader's decision and no error.
///
/// # Errors
/// Any other failure to write, a full disk for instance.
pub fn print(bytes: impl AsRef<[u8]>) -> Result<(), Error> {
    print_to_reader(bytes).map(drop)
}

/// The same, for a command that prints for as long as somebody reads: `false` when the pipe is closed.
///
/// # Errors
/// As [`print()`].
pub fn print_to_reader(bytes: impl AsRef<[u8]>) -> Result<bool, Error> {
    let mut rest = bytes.as_ref();
    while !rest.is_empty() {
        match rustix::io::write(rustix::stdio::stdout(), rest) {
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::PIPE) => return Ok(false),
            Err(error) => return Err(Error::os("write to standard output", error)),
        }
    }
    Ok(true)
}
