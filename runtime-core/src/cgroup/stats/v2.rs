//! Statistics of version 2 (cgroup-v2.rst). Tests: at the end of the file for what is parsed; `cgroup/tests.rs`.

use std::collections::BTreeMap;

use super::parse::{number, optional, optional_number, pressure, table};
use super::{CpuStats, HugetlbStats, IoEntry, IoStats, MemoryStats, MemoryUse};
use crate::cgroup::dir::{Dir, key_of};
use crate::cgroup::error::Result;

pub(super) fn cpu(dir: &Dir) -> Result<Option<CpuStats>> {
    let Some(text) = optional(dir, "cpu.stat")? else { return Ok(None) };
    let ns = |key| key_of(&text, key).unwrap_or(0).saturating_mul(1000);
    Ok(Some(CpuStats {
        usage_ns: ns("usage_usec"),
        user_ns: ns("user_usec"),
        system_ns: ns("system_usec"),
        periods: key_of(&text, "nr_periods").unwrap_or(0),
        throttled_periods: key_of(&text, "nr_throttled").unwrap_or(0),
        throttled_ns: ns("throttled_usec"),
        pressure: pressure(dir, "cpu.pressure")?,
        ..CpuStats::default()
    }))
}

pub(super) fn memory(dir: &Dir) -> Result<Option<MemoryStats>> {
    let Some(usage) = optional_number(dir, "memory.current")? else { return Ok(None) };
    let raw = table(&dir.read("memory.stat")?);
    let swap = match optional_number(dir, "memory.swap.current")? {
        Some(usage) => Some(MemoryUse {
            usage: usage.unwrap_or(0),
            limit: optional_number(dir, "memory.swap.max")?.flatten(),
            peak: optional_number(dir, "memory.swap.peak")?.flatten(),
            failures: 0,
        }),
        None => None,
    };
    Ok(Some(MemoryStats {
        usage: usage.unwrap_or(0),
        limit: optional_number(dir, "memory.max")?.flatten(),
        peak: optional_number(dir, "memory.peak")?.flatten(),
        cache: raw.get("file").copied().unwrap_or(0),
        swap_usage: swap.as_ref().map(|swap| swap.usage),
        swap,
        oom_kills: optional(dir, "memory.events")?.map_or(0, |text| key_of(&text, "oom_kill").unwrap_or(0)),
        raw,
        pressure: pressure(dir, "memory.pressure")?,
        is_v2: true,
        ..MemoryStats::default()
    }))
}

pub(super) fn io(dir: &Dir) -> Result<Option<IoStats>> {
    let Some(text) = optional(dir, "io.stat")? else { return Ok(None) };
    let mut stats = parse_io(&text);
    stats.pressure = pressure(dir, "io.pressure")?;
    Ok(Some(stats))
}

/// `MAJOR:MINOR key=value ...`; a device without numbers stands before the next one on the same line.
fn parse_io(text: &str) -> IoStats {
    let mut stats = IoStats::default();
    for line in text.lines() {
        let mut device = None;
        for word in line.split_ascii_whitespace() {
            let Some((key, value)) = word.split_once('=') else {
                let numbers = word.split_once(':');
                device = numbers.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
                continue;
            };
            let (Some((major, minor)), Ok(value)) = (device, value.parse()) else { continue };
            let (list, operation) = match key {
                "rbytes" => (&mut stats.bytes, "Read"),
                "wbytes" => (&mut stats.bytes, "Write"),
                "rios" => (&mut stats.operations, "Read"),
                "wios" => (&mut stats.operations, "Write"),
                _ => continue,
            };
            list.push(IoEntry { major, minor, operation: operation.to_owned(), value });
        }
    }
    stats
}

pub(super) fn hugetlb(dir: &Dir) -> Result<BTreeMap<String, HugetlbStats>> {
    let mut all = BTreeMap::new();
    for name in dir.files()? {
        let size = name.strip_prefix("hugetlb.").and_then(|rest| rest.strip_suffix(".current"));
        let Some(size) = size.filter(|size| !size.contains('.')) else { continue };
        let reserved = optional_number(dir, &format!("hugetlb.{size}.rsvd.current"))?.flatten();
        let usage = match reserved {
            Some(reserved) => reserved,
            None => number(dir, &name)?,
        };
        let events = optional(dir, &format!("hugetlb.{size}.events"))?.unwrap_or_default();
        let failures = key_of(&events, "max").unwrap_or(0);
        all.insert(size.to_owned(), HugetlbStats { usage, peak: 0, failures });
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_lines() {
        let text = "7:0 8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=5 dios=6\n254:16 rbytes=x wios=3\n";
        let stats = parse_io(text);
        let shown = |list: &[IoEntry]| {
            list.iter()
                .map(|e| format!("{}:{} {} {}", e.major, e.minor, e.operation, e.value))
                .collect::<Vec<_>>()
        };
        assert_eq!(shown(&stats.bytes), ["8:0 Read 10", "8:0 Write 20"]);
        assert_eq!(shown(&stats.operations), ["8:0 Read 1", "8:0 Write 2", "254:16 Write 3"]);
    }
}
