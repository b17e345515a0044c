//! What a cgroup has used, as numbers with units.
//!
//! Must not: format anything. Tests: `cgroup/tests.rs`, `tests/root/events.rs`; parsers beside their code.

mod parse;
mod v1;
mod v2;

use std::collections::BTreeMap;

use super::dir::key_of;
use super::error::Result;
use super::group::Cgroup;
use parse::optional;

/// Usage of a container. A part is absent where its controller is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Processor time.
    pub cpu: Option<CpuStats>,
    /// Where it runs; version 1 alone has these files in every cgroup.
    pub cpuset: Option<CpusetStats>,
    /// Memory.
    pub memory: Option<MemoryStats>,
    /// Processes.
    pub pids: Option<PidsStats>,
    /// Block devices.
    pub io: Option<IoStats>,
    /// Huge pages, by page size as the files' names have it (`2MB`).
    pub hugetlb: BTreeMap<String, HugetlbStats>,
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
    /// All of it, by processor (version 1).
    pub percpu_ns: Vec<u64>,
    /// In user mode, by processor (version 1).
    pub percpu_user_ns: Vec<u64>,
    /// In the kernel, by processor (version 1).
    pub percpu_system_ns: Vec<u64>,
    /// Periods that have passed, with a quota.
    pub periods: u64,
    /// Periods in which the quota was used up.
    pub throttled_periods: u64,
    /// Time spent waiting for the next period.
    pub throttled_ns: u64,
    /// Time spent waiting (version 2).
    pub pressure: Option<Pressure>,
}

/// Placement and its switches (cpusets, version 1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CpusetStats {
    /// Numbers of the processors.
    pub cpus: Vec<u16>,
    /// Numbers of the memory nodes.
    pub mems: Vec<u16>,
    /// `cpuset.cpu_exclusive`.
    pub cpu_exclusive: u64,
    /// `cpuset.mem_hardwall`.
    pub mem_hardwall: u64,
    /// `cpuset.mem_exclusive`.
    pub mem_exclusive: u64,
    /// `cpuset.memory_migrate`.
    pub memory_migrate: u64,
    /// `cpuset.memory_spread_page`.
    pub memory_spread_page: u64,
    /// `cpuset.memory_spread_slab`.
    pub memory_spread_slab: u64,
    /// `cpuset.memory_pressure`.
    pub memory_pressure: u64,
    /// `cpuset.sched_load_balance`.
    pub sched_load_balance: u64,
    /// `cpuset.sched_relax_domain_level`.
    pub sched_relax_domain_level: i64,
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
    /// How often the limit was met (version 1).
    pub failures: u64,
    /// Page cache.
    pub cache: u64,
    /// Swap in use (version 1: memory and swap together).
    pub swap_usage: Option<u64>,
    /// The same with its limits.
    pub swap: Option<MemoryUse>,
    /// Kernel memory (version 1).
    pub kernel: Option<MemoryUse>,
    /// Kernel memory for TCP buffers (version 1).
    pub kernel_tcp: Option<MemoryUse>,
    /// Processes killed because the limit was reached.
    pub oom_kills: u64,
    /// All of `memory.stat`.
    pub raw: BTreeMap<String, u64>,
    /// Time spent waiting (version 2).
    pub pressure: Option<Pressure>,
    /// Whether the numbers are those of version 2.
    pub is_v2: bool,
}

/// One kind of memory, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryUse {
    /// In use now.
    pub usage: u64,
    /// Hard limit; none is none.
    pub limit: Option<u64>,
    /// The most that was in use.
    pub peak: Option<u64>,
    /// How often the limit was met (version 1).
    pub failures: u64,
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

/// Block devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IoStats {
    /// Bytes.
    pub bytes: Vec<IoEntry>,
    /// Operations.
    pub operations: Vec<IoEntry>,
    /// Operations that wait (version 1 with a scheduler that tells).
    pub queued: Vec<IoEntry>,
    /// Nanoseconds between dispatch and completion (the same).
    pub service_time: Vec<IoEntry>,
    /// Nanoseconds in the queue (the same).
    pub wait_time: Vec<IoEntry>,
    /// Operations that were merged (the same).
    pub merged: Vec<IoEntry>,
    /// Milliseconds of the disk's time (the same).
    pub time: Vec<IoEntry>,
    /// Sectors (the same).
    pub sectors: Vec<IoEntry>,
    /// Time spent waiting (version 2).
    pub pressure: Option<Pressure>,
}

/// One number about one device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IoEntry {
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
    /// `Read`, `Write`, ..., or empty for all together.
    pub operation: String,
    /// The number.
    pub value: u64,
}

/// Huge pages of one size, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HugetlbStats {
    /// In use, or reserved where the kernel tells (5.7).
    pub usage: u64,
    /// The most that was (version 1).
    pub peak: u64,
    /// How often the limit was met.
    pub failures: u64,
}

/// Pressure stall information (Documentation/accounting/psi.rst).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pressure {
    /// At least one task waited.
    pub some: Option<Stall>,
    /// All tasks that had something to do waited.
    pub full: Option<Stall>,
}

/// How much time was lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stall {
    /// In the last ten seconds, in hundredths of a percent.
    pub avg10: u32,
    /// In the last minute, in hundredths of a percent.
    pub avg60: u32,
    /// In the last five minutes, in hundredths of a percent.
    pub avg300: u32,
    /// Since the beginning, in microseconds.
    pub total_us: u64,
}

impl Cgroup {
    /// Reads what has been used so far.
    ///
    /// # Errors
    /// A file that is there cannot be read or understood.
    pub fn stats(&self) -> Result<Stats> {
        let v2 = self.v2().map(|member| &member.dir);
        let v1 = |controller: &str| self.v1(controller).map(|member| &member.dir);
        Ok(Stats {
            cpu: match (v1("cpuacct"), v2) {
                (Some(dir), _) => Some(v1::cpu(dir, v1("cpu"))?),
                (None, Some(dir)) => v2::cpu(dir)?,
                (None, None) => None,
            },
            cpuset: v1("cpuset").map(v1::cpuset).transpose()?,
            memory: match (v1("memory"), v2) {
                (Some(dir), _) => Some(v1::memory(dir)?),
                (None, Some(dir)) => v2::memory(dir)?,
                (None, None) => None,
            },
            // The same files in both versions.
            pids: v1("pids").or(v2).map_or(Ok(None), parse::pids)?,
            io: match (v1("blkio"), v2) {
                (Some(dir), _) => Some(v1::io(dir)?),
                (None, Some(dir)) => v2::io(dir)?,
                (None, None) => None,
            },
            hugetlb: match (v1("hugetlb"), v2) {
                (Some(dir), _) => v1::hugetlb(dir)?,
                (None, Some(dir)) => v2::hugetlb(dir)?,
                (None, None) => BTreeMap::new(),
            },
        })
    }

    /// How many processes of it the kernel has killed for want of memory; none where memory is not controlled.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn oom_kills(&self) -> Result<Option<u64>> {
        if let Some(member) = self.v1("memory") {
            return v1::oom_kills(&member.dir).map(Some);
        }
        let Some(member) = self.v2() else { return Ok(None) };
        Ok(optional(&member.dir, "memory.events")?.map(|text| key_of(&text, "oom_kill").unwrap_or(0)))
    }

    /// The same of the cgroup above it, which counts those below with its own: for a directory that somebody else removes as soon as
    /// nobody is in it. None where it cannot be known.
    pub(crate) fn oom_kills_above(&self) -> Option<u64> {
        let text = self.v2()?.above().ok()?.read("memory.events").ok()?;
        key_of(&text, "oom_kill")
    }
}
