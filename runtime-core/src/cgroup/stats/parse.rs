//! What the files of both versions have in common. Tests: at the end of the file.

use std::collections::BTreeMap;

use rustix::io::Errno;

use super::{PidsStats, Pressure, Stall};
use crate::cgroup::dir::Dir;
use crate::cgroup::error::{CgroupError, Result};

/// The text of a file; none if there is no such file.
pub(super) fn optional(dir: &Dir, file: &str) -> Result<Option<String>> {
    match dir.read(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.is(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The number in a file, or none for `max`; none outside if there is no such file.
pub(super) fn optional_number(dir: &Dir, file: &str) -> Result<Option<Option<u64>>> {
    let Some(text) = optional(dir, file)? else { return Ok(None) };
    match text.trim() {
        "max" => Ok(Some(None)),
        text => match text.parse() {
            Ok(number) => Ok(Some(Some(number))),
            Err(_) => Err(CgroupError::check(dir.path().join(file), format!("{text:?} is no number"))),
        },
    }
}

/// The number in a file that is there.
pub(super) fn number<T: std::str::FromStr>(dir: &Dir, file: &str) -> Result<T> {
    let text = dir.read(file)?;
    let text = text.trim();
    text.parse().map_err(|_| CgroupError::check(dir.path().join(file), format!("{text:?} is no number")))
}

/// Lines of a word and a number.
pub(super) fn table(text: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

pub(super) fn pids(dir: &Dir) -> Result<Option<PidsStats>> {
    let Some(current) = optional_number(dir, "pids.current")? else { return Ok(None) };
    Ok(Some(PidsStats { current: current.unwrap_or(0), limit: optional_number(dir, "pids.max")?.flatten() }))
}

/// A pressure file; none where the kernel keeps none (before 4.20, or switched off: EOPNOTSUPP).
pub(super) fn pressure(dir: &Dir, file: &str) -> Result<Option<Pressure>> {
    match dir.read(file) {
        Ok(text) => Ok(Some(stalls(&text))),
        Err(error) if error.is(Errno::NOENT) || error.is(Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(error),
    }
}

fn stalls(text: &str) -> Pressure {
    let line = |kind: &str| {
        let values = text.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(' '))?;
        let value = |key: &str| values.split(' ').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        Some(Stall {
            avg10: hundredths(value("avg10")?)?,
            avg60: hundredths(value("avg60")?)?,
            avg300: hundredths(value("avg300")?)?,
            total_us: value("total")?.trim().parse().ok()?,
        })
    };
    Pressure { some: line("some"), full: line("full") }
}

/// `12.34`, which always has two digits behind the point.
fn hundredths(text: &str) -> Option<u32> {
    let (whole, fraction) = text.split_once('.')?;
    let fraction: u32 = if fraction.len() == 2 { fraction.parse().ok()? } else { return None };
    whole.parse::<u32>().ok()?.checked_mul(100)?.checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_read_exactly() {
        let text = "some avg10=0.22 avg60=17.10 avg300=1.11 total=58761459\nfull avg10=0.00 avg60=0.13 avg300=100.00 total=7\n";
        let read = stalls(text);
        assert_eq!(read.some, Some(Stall { avg10: 22, avg60: 1710, avg300: 111, total_us: 58_761_459 }));
        assert_eq!(read.full.map(|full| (full.avg300, full.total_us)), Some((10_000, 7)));
        // The cpu file of older kernels has one line.
        assert_eq!(stalls("some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n").full, None);
        assert_eq!(stalls("some avg10=x"), Pressure::default());
    }

    #[test]
    fn tables_skip_what_is_no_number() {
        assert_eq!(table("a 1\nb x\nc\nd 18446744073709551615\n").len(), 2);
    }
}
