//! What a cgroup has used, as numbers with units.
//!
//! Must not: format anything. Tests: `cgroup/tests.rs`.

use super::dir::{Dir, key_of};
use super::error::{CgroupError, Result};
use super::group::Cgroup;

/// Usage of a container. A part is absent where its controller is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Processor time.
    pub cpu: Option<CpuStats>,
    /// Memory.
    pub memory: Option<MemoryStats>,
    /// Processes.
    pub pids: Option<PidsStats>,
}

/// Processor time, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CpuStats {
    /// All of it.
    pub usage_ns: u64,
    /// In user mode.
    pub user_ns: u64,
    /// In the kernel.
    pub system_ns: u64,
    /// Periods that have passed, with a quota.
    pub periods: u64,
    /// Periods in which the quota was used up.
    pub throttled_periods: u64,
    /// Time spent waiting for the next period.
    pub throttled_ns: u64,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryStats {
    /// In use now, page cache included.
    pub usage: u64,
    /// Hard limit; none is none.
    pub limit: Option<u64>,
    /// The most that was in use; the kernel tells since 5.19 on version 2.
    pub peak: Option<u64>,
    /// Swap in use (version 1: memory and swap together).
    pub swap_usage: Option<u64>,
    /// Processes killed because the limit was reached.
    pub oom_kills: u64,
}

/// Processes and threads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PidsStats {
    /// How many there are.
    pub current: u64,
    /// How many there may be; none is none.
    pub limit: Option<u64>,
}

/// Version 1 shows "no limit" as the largest multiple of the page size; pages have at most 64 KiB.
const V1_UNLIMITED: u64 = u64::MAX / 2 - 0xffff;
/// `cpuacct.stat` counts in USER_HZ, which is 100 on every architecture but alpha.
const NS_PER_TICK: u64 = 10_000_000;

impl Cgroup {
    /// Reads what has been used so far.
    ///
    /// # Errors
    /// A file that is there cannot be read or understood.
    pub fn stats(&self) -> Result<Stats> {
        Ok(Stats { cpu: self.cpu()?, memory: self.memory()?, pids: self.pids()? })
    }

    /// How many processes of it the kernel has killed for want of memory; none where memory is not controlled.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn oom_kills(&self) -> Result<Option<u64>> {
        if let Some(member) = self.v1("memory") {
            // In memory.oom_control since 4.13.
            return Ok(Some(member.dir.read_key("memory.oom_control", "oom_kill")?.unwrap_or(0)));
        }
        let Some(member) = self.v2() else { return Ok(None) };
        Ok(optional(&member.dir, "memory.events")?.map(|text| key_of(&text, "oom_kill").unwrap_or(0)))
    }

    fn cpu(&self) -> Result<Option<CpuStats>> {
        if let Some(member) = self.v1("cpuacct") {
            return Ok(Some(self.cpu_v1(&member.dir)?));
        }
        let Some(member) = self.v2() else { return Ok(None) };
        let Some(text) = optional(&member.dir, "cpu.stat")? else { return Ok(None) };
        let ns = |key| key_of(&text, key).unwrap_or(0).saturating_mul(1000);
        Ok(Some(CpuStats {
            usage_ns: ns("usage_usec"),
            user_ns: ns("user_usec"),
            system_ns: ns("system_usec"),
            periods: key_of(&text, "nr_periods").unwrap_or(0),
            throttled_periods: key_of(&text, "nr_throttled").unwrap_or(0),
            throttled_ns: ns("throttled_usec"),
        }))
    }

    fn cpu_v1(&self, dir: &Dir) -> Result<CpuStats> {
        let ticks = dir.read("cpuacct.stat")?;
        let ns = |key| key_of(&ticks, key).unwrap_or(0).saturating_mul(NS_PER_TICK);
        let mut stats = CpuStats {
            usage_ns: number(dir, "cpuacct.usage")?,
            user_ns: ns("user"),
            system_ns: ns("system"),
            ..CpuStats::default()
        };
        if let Some(member) = self.v1("cpu") {
            if let Some(text) = optional(&member.dir, "cpu.stat")? {
                stats.periods = key_of(&text, "nr_periods").unwrap_or(0);
                stats.throttled_periods = key_of(&text, "nr_throttled").unwrap_or(0);
                stats.throttled_ns = key_of(&text, "throttled_time").unwrap_or(0);
            }
        }
        Ok(stats)
    }

    fn memory(&self) -> Result<Option<MemoryStats>> {
        let oom_kills = self.oom_kills()?.unwrap_or(0);
        if let Some(member) = self.v1("memory") {
            let dir = &member.dir;
            let limit = number(dir, "memory.limit_in_bytes")?;
            return Ok(Some(MemoryStats {
                usage: number(dir, "memory.usage_in_bytes")?,
                limit: Some(limit).filter(|limit| *limit < V1_UNLIMITED),
                peak: Some(number(dir, "memory.max_usage_in_bytes")?),
                swap_usage: optional_number(dir, "memory.memsw.usage_in_bytes")?.flatten(),
                oom_kills,
            }));
        }
        let Some(member) = self.v2() else { return Ok(None) };
        let Some(usage) = optional_number(&member.dir, "memory.current")? else { return Ok(None) };
        Ok(Some(MemoryStats {
            usage: usage.unwrap_or(0),
            limit: optional_number(&member.dir, "memory.max")?.flatten(),
            peak: optional_number(&member.dir, "memory.peak")?.flatten(),
            swap_usage: optional_number(&member.dir, "memory.swap.current")?.flatten(),
            oom_kills,
        }))
    }

    fn pids(&self) -> Result<Option<PidsStats>> {
        let Some(member) = self.v1("pids").or_else(|| self.v2()) else { return Ok(None) };
        let Some(current) = optional_number(&member.dir, "pids.current")? else { return Ok(None) };
        Ok(Some(PidsStats {
            current: current.unwrap_or(0),
            limit: optional_number(&member.dir, "pids.max")?.flatten(),
        }))
    }
}

/// The text of a file; none if there is no such file.
fn optional(dir: &Dir, file: &str) -> Result<Option<String>> {
    match dir.read(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.is(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The number in a file, or none for `max`; none outside if there is no such file.
fn optional_number(dir: &Dir, file: &str) -> Result<Option<Option<u64>>> {
    let Some(text) = optional(dir, file)? else { return Ok(None) };
    match text.trim() {
        "max" => Ok(Some(None)),
        text => match text.parse() {
            Ok(number) => Ok(Some(Some(number))),
            Err(_) => Err(CgroupError::check(dir.path().join(file), format!("{text:?} is no number"))),
        },
    }
}

fn number(dir: &Dir, file: &str) -> Result<u64> {
    let text = dir.read(file)?;
    let text = text.trim();
    text.parse().map_err(|_| CgroupError::check(dir.path().join(file), format!("{text:?} is no number")))
}
