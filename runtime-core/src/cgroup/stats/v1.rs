//! Statistics of version 1 (Documentation/admin-guide/cgroup-v1). Tests: at the end of the file for what is parsed;
//! `cgroup/tests.rs`.

use std::collections::BTreeMap;

use super::parse::{number, optional, optional_number, table};
use super::{CpuStats, CpusetStats, HugetlbStats, IoEntry, IoStats, MemoryStats, MemoryUse};
use crate::cgroup::dir::{Dir, key_of};
use crate::cgroup::error::Result;

/// Version 1 shows "no limit" as the largest multiple of the page size; pages have at most 64 KiB.
const UNLIMITED: u64 = u64::MAX / 2 - 0xffff;
/// `cpuacct.stat` counts in USER_HZ, which is 100 on every architecture but alpha.
const NS_PER_TICK: u64 = 10_000_000;

pub(super) fn cpu(dir: &Dir, cpu: Option<&Dir>) -> Result<CpuStats> {
    let ticks = dir.read("cpuacct.stat")?;
    let ns = |key| key_of(&ticks, key).unwrap_or(0).saturating_mul(NS_PER_TICK);
    let mut stats = CpuStats {
        usage_ns: number(dir, "cpuacct.usage")?,
        user_ns: ns("user"),
        system_ns: ns("system"),
        ..CpuStats::default()
    };
    let each = optional(dir, "cpuacct.usage_percpu")?.unwrap_or_default();
    stats.percpu_ns = each.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
    // Since 4.8.
    let table = optional(dir, "cpuacct.usage_all")?.unwrap_or_default();
    (stats.percpu_user_ns, stats.percpu_system_ns) = percpu(&table);
    if let Some(text) = cpu.map_or(Ok(None), |dir| optional(dir, "cpu.stat"))? {
        stats.periods = key_of(&text, "nr_periods").unwrap_or(0);
        stats.throttled_periods = key_of(&text, "nr_throttled").unwrap_or(0);
        stats.throttled_ns = key_of(&text, "throttled_time").unwrap_or(0);
    }
    Ok(stats)
}

/// Lines of processor, user and system, below a heading.
fn percpu(text: &str) -> (Vec<u64>, Vec<u64>) {
    let line = |line: &str| -> Option<(u64, u64)> {
        let mut words = line.split_ascii_whitespace().skip(1);
        Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    };
    text.lines().skip(1).filter_map(line).unzip()
}

pub(super) fn cpuset(dir: &Dir) -> Result<CpusetStats> {
    Ok(CpusetStats {
        cpus: list(&dir.read("cpuset.cpus")?),
        mems: list(&dir.read("cpuset.mems")?),
        cpu_exclusive: number(dir, "cpuset.cpu_exclusive")?,
        mem_hardwall: number(dir, "cpuset.mem_hardwall")?,
        mem_exclusive: number(dir, "cpuset.mem_exclusive")?,
        memory_migrate: number(dir, "cpuset.memory_migrate")?,
        memory_spread_page: number(dir, "cpuset.memory_spread_page")?,
        memory_spread_slab: number(dir, "cpuset.memory_spread_slab")?,
        memory_pressure: number(dir, "cpuset.memory_pressure")?,
        sched_load_balance: number(dir, "cpuset.sched_load_balance")?,
        sched_relax_domain_level: number(dir, "cpuset.sched_relax_domain_level")?,
    })
}

/// The numbers of `0-3,7`.
fn list(text: &str) -> Vec<u16> {
    let range = |part: &str| -> Option<std::ops::RangeInclusive<u16>> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

pub(super) fn memory(dir: &Dir) -> Result<MemoryStats> {
    let raw = table(&dir.read("memory.stat")?);
    let all = part(dir, "memory")?.unwrap_or_default();
    let swap = part(dir, "memory.memsw")?;
    Ok(MemoryStats {
        usage: all.usage,
        limit: all.limit,
        peak: all.peak,
        failures: all.failures,
        cache: raw.get("cache").copied().unwrap_or(0),
        swap_usage: swap.as_ref().map(|swap| swap.usage),
        swap,
        kernel: part(dir, "memory.kmem")?,
        kernel_tcp: part(dir, "memory.kmem.tcp")?,
        oom_kills: oom_kills(dir)?,
        raw,
        ..MemoryStats::default()
    })
}

fn part(dir: &Dir, prefix: &str) -> Result<Option<MemoryUse>> {
    let file = |name: &str| optional_number(dir, &format!("{prefix}.{name}"));
    let Some(usage) = file("usage_in_bytes")? else { return Ok(None) };
    Ok(Some(MemoryUse {
        usage: usage.unwrap_or(0),
        limit: file("limit_in_bytes")?.flatten().filter(|limit| *limit < UNLIMITED),
        peak: file("max_usage_in_bytes")?.flatten(),
        failures: file("failcnt")?.flatten().unwrap_or(0),
    }))
}

/// In memory.oom_control since 4.13.
pub(super) fn oom_kills(dir: &Dir) -> Result<u64> {
    Ok(dir.read_key("memory.oom_control", "oom_kill")?.unwrap_or(0))
}

pub(super) fn io(dir: &Dir) -> Result<IoStats> {
    // The scheduler's own numbers before those of throttling, which count every request but know no times.
    for prefix in ["blkio.bfq.", "blkio.", "blkio.throttle."] {
        let read = |name: &str| -> Result<Vec<IoEntry>> {
            Ok(entries(&optional(dir, &format!("{prefix}{name}_recursive"))?.unwrap_or_default()))
        };
        let stats = IoStats {
            bytes: read("io_service_bytes")?,
            operations: read("io_serviced")?,
            queued: read("io_queued")?,
            service_time: read("io_service_time")?,
            wait_time: read("io_wait_time")?,
            merged: read("io_merged")?,
            time: read("time")?,
            sectors: read("sectors")?,
            pressure: None,
        };
        if !stats.operations.is_empty() {
            return Ok(stats);
        }
    }
    Ok(IoStats::default())
}

/// `MAJOR:MINOR [OPERATION] VALUE`; the last line is the sum of all.
fn entries(text: &str) -> Vec<IoEntry> {
    let line = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (major, minor) = words.next()?.split_once(':')?;
        let (first, second) = (words.next()?, words.next());
        let (operation, value) = second.map_or(("", first), |value| (first, value));
        Some(IoEntry {
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            operation: operation.to_owned(),
            value: value.parse().ok()?,
        })
    };
    text.lines().filter_map(line).collect()
}

pub(super) fn hugetlb(dir: &Dir) -> Result<BTreeMap<String, HugetlbStats>> {
    let mut all = BTreeMap::new();
    for name in dir.files()? {
        let size = name.strip_prefix("hugetlb.").and_then(|rest| rest.strip_suffix(".usage_in_bytes"));
        let Some(size) = size.filter(|size| !size.contains('.')) else { continue };
        let reserved = optional_number(dir, &format!("hugetlb.{size}.rsvd.usage_in_bytes"))?.is_some();
        let prefix = if reserved { format!("hugetlb.{size}.rsvd") } else { format!("hugetlb.{size}") };
        let stats = HugetlbStats {
            usage: number(dir, &format!("{prefix}.usage_in_bytes"))?,
            peak: number(dir, &format!("{prefix}.max_usage_in_bytes"))?,
            failures: number(dir, &format!("{prefix}.failcnt"))?,
        };
        all.insert(size.to_owned(), stats);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_numbers() {
        assert_eq!(list("0-3,7\n"), [0, 1, 2, 3, 7]);
        assert_eq!(list("\n"), [0u16; 0]);
        assert_eq!(list("5-3,x,2"), [2]);
    }

    #[test]
    fn lines_about_devices() {
        let found = entries("8:0 Read 4096\n8:0 Total 4096\n254:0 17\nTotal 4096\n");
        let shown: Vec<String> =
            found.iter().map(|e| format!("{}:{} {:?} {}", e.major, e.minor, e.operation, e.value)).collect();
        assert_eq!(shown, ["8:0 \"Read\" 4096", "8:0 \"Total\" 4096", "254:0 \"\" 17"]);
    }

    #[test]
    fn times_of_each_processor() {
        assert_eq!(percpu("cpu user system\n0 5 6\n1 7 8\n"), (vec![5, 7], vec![6, 8]));
        assert_eq!(percpu(""), (vec![], vec![]));
    }
}
