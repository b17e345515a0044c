//! Writes planned values.
//!
//! Must not: convert anything; values come from `resources`. Tests: `cgroup/tests.rs`, and at the end of the file.

use rustix::io::Errno;

use super::dir::Dir;
use super::error::{CgroupError, Result};
use super::group::Cgroup;
use super::layout::HierarchyKey;
use super::resources::{Absent, Write};

/// What a file held before it was written, as it has to be written to be so again.
#[derive(Debug)]
struct Before {
    hierarchy: HierarchyKey,
    file: String,
    value: String,
}

/// What was written over, oldest first.
#[derive(Debug, Default)]
pub(super) struct Journal(Vec<Before>);

impl Journal {
    /// What there was, as writes of it.
    pub(super) fn writes(&self) -> Vec<Write> {
        let write = |one: &Before| Write {
            hierarchy: one.hierarchy.clone(),
            file: one.file.clone(),
            value: one.value.clone(),
            pointer: String::new(),
            absent: Absent::Skip,
            keep_first_word: false,
            not_below: None,
            may_be_ignored: false,
        };
        // The first of each file is the oldest, and of the limits the last one counts.
        self.0.iter().rev().map(write).collect()
    }
}

impl Cgroup {
    /// Writes values in order. What the kernel refuses as invalid or busy while other values are still the old ones
    /// (quota against burst, memory against memory and swap) is written once more after all the others.
    ///
    /// # Errors
    /// The write that failed, with its pointer; earlier ones stay written.
    pub fn set(&self, writes: &[Write]) -> Result<()> {
        self.set_each(writes, &mut None)
    }

    /// The same, and keeps what was there before for [`Cgroup::set_back`].
    pub(super) fn set_noting(&self, writes: &[Write], journal: &mut Journal) -> Result<()> {
        self.set_each(writes, &mut Some(journal))
    }

    fn set_each(&self, writes: &[Write], journal: &mut Option<&mut Journal>) -> Result<()> {
        let mut later = Vec::new();
        for write in writes {
            match self.write(write, journal) {
                Err(error) if error.is(Errno::INVAL) || error.is(Errno::BUSY) => later.push(write),
                result => result?,
            }
        }
        later.into_iter().try_for_each(|write| self.write(write, journal))
    }

    fn write(&self, write: &Write, journal: &mut Option<&mut Journal>) -> Result<()> {
        let dir = &self.member(&write.hierarchy).map_err(|error| error.at(&write.pointer))?.dir;
        let before = match journal {
            Some(_) => before(dir, write).map_err(|error| error.at(&write.pointer))?,
            None => Vec::new(),
        };
        write_one(dir, write).map_err(|error| error.at(&write.pointer))?;
        if let Some(journal) = journal {
            journal.0.extend(before);
        }
        Ok(())
    }

    /// Writes the earlier values again, the last one first.
    ///
    /// # Errors
    /// The first that could not be written; the others are written all the same.
    pub(super) fn set_back(&self, journal: Journal) -> Result<()> {
        let mut left: Vec<Before> = journal.0;
        left.reverse();
        // Twice, as for `set`: what contradicts a value that is not back yet.
        left.retain(|one| self.write_back(one).is_err());
        let mut first = Ok(());
        for one in &left {
            first = first.and(self.write_back(one));
        }
        first
    }

    fn write_back(&self, before: &Before) -> Result<()> {
        self.member(&before.hierarchy)?.dir.write(&before.file, &before.value)
    }
}

/// The values that `write` may replace; none for a file that is not there or cannot be read.
fn before(dir: &Dir, write: &Write) -> Result<Vec<Before>> {
    let mut files = vec![(&write.file, &write.value)];
    if let Absent::Instead { file, value } = &write.absent {
        files.push((file, value));
    }
    let mut all = Vec::new();
    for (file, value) in files {
        match dir.read(file) {
            Ok(text) => all.push(Before {
                hierarchy: write.hierarchy.clone(),
                file: file.clone(),
                value: undo_value(file, value, &text),
            }),
            Err(error) if [Errno::NOENT, Errno::ACCESS, Errno::INVAL].iter().any(|one| error.is(*one)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// What takes back the writing of `value` to a file that showed `text` before.
fn undo_value(file: &str, value: &str, text: &str) -> String {
    let line_of = |key: &str| {
        text.lines().find(|line| line.split_ascii_whitespace().next() == Some(key)).map(str::to_owned)
    };
    match value.split_once(' ') {
        // A line for each device or resource; what has none has the default.
        Some((key, _)) if file != "cpu.max" => line_of(key).unwrap_or_else(|| {
            let none = match file {
                "io.max" => "rbps=max wbps=max riops=max wiops=max",
                "io.weight" | "io.bfq.weight" => "default",
                "io.latency" => "target=0",
                "rdma.max" => "hca_handle=max hca_object=max",
                "misc.max" | "dmem.max" => "max",
                _ => "0",
            };
            format!("{key} {none}")
        }),
        _ if file == "memory.oom_control" => text.split_ascii_whitespace().nth(1).unwrap_or("0").to_owned(),
        _ => match line_of("default") {
            Some(line) => line,
            // An empty list: what is written must have a byte.
            None if text.trim().is_empty() => "\n".to_owned(),
            None => text.trim().to_owned(),
        },
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
        Ok(()) if write.may_be_ignored => return is_kept(dir, &write.file, &value),
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

/// Whether a limit is there after it was written; the kernel may round it down.
fn is_kept(dir: &Dir, file: &str, value: &str) -> Result<()> {
    let text = dir.read(file)?;
    match (text.trim().parse::<u64>(), value.parse::<u64>()) {
        (Ok(now), Ok(limit)) if now <= limit => Ok(()),
        _ => Err(CgroupError::check(
            dir.path().join(file),
            format!("this kernel takes the limit {value} and has no such limit"),
        )),
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

#[cfg(test)]
mod tests {
    use super::{Before, Journal, undo_value};
    use crate::cgroup::systemd::limits;

    #[test]
    fn what_was_there_comes_back_in_the_files_own_words() {
        for (file, value, text, undo) in [
            ("memory.max", "4096", "max\n", "max"),
            ("cpu.max", "50 100", "max 100000\n", "max 100000"),
            ("cpuset.cpus", "0", "\n", "\n"),
            ("cpuset.cpus", "0", "0-3\n", "0-3"),
            ("io.max", "8:0 rbps=5", "8:16 rbps=1\n8:0 rbps=max wbps=7\n", "8:0 rbps=max wbps=7"),
            ("io.max", "8:0 rbps=5", "", "8:0 rbps=max wbps=max riops=max wiops=max"),
            ("io.weight", "50", "default 100\n8:0 5\n", "default 100"),
            ("io.bfq.weight", "8:0 50", "default 100\n", "8:0 default"),
            ("blkio.throttle.read_bps_device", "8:0 50", "", "8:0 0"),
            ("blkio.weight", "50", "500\n", "500"),
            ("memory.oom_control", "1", "oom_kill_disable 0\nunder_oom 0\n", "0"),
            (
                "rdma.max",
                "mlx5_0 hca_handle=3",
                "mlx5_0 hca_handle=max hca_object=2\n",
                "mlx5_0 hca_handle=max hca_object=2",
            ),
            ("net_prio.ifpriomap", "eth0 5", "lo 0\neth0 3\n", "eth0 3"),
        ] {
            assert_eq!(undo_value(file, value, text), undo, "{file}");
        }
    }

    #[test]
    fn systemd_is_told_of_what_was_there_before() {
        let hierarchy: super::HierarchyKey = serde_json::from_str("\"\"").unwrap();
        let noted = [
            ("pids.max", "1749"),
            ("io.max", "8:0 rbps=max wbps=max riops=max wiops=max"),
            ("io.max", "8:0 rbps=5 wbps=max riops=max wiops=max"),
            ("cpuset.cpus", "\n"),
            ("pids.max", "7"),
        ];
        let one = |(file, value): (&str, &str)| Before {
            hierarchy: hierarchy.clone(),
            file: file.to_owned(),
            value: value.to_owned(),
        };
        let told = limits(&Journal(noted.map(one).into()).writes());
        let shown = |name: &str| format!("{:?}", told.iter().find(|(have, _)| have == name).unwrap().1);
        assert_eq!((shown("TasksMax"), shown("AllowedCPUs")), ("Number(1749)".into(), "Bytes([])".into()));
        assert!(shown("IOReadBandwidthMax").ends_with(&format!("(\"/dev/block/8:0\", {})])", u64::MAX)));
    }
}
