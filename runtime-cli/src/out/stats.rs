//! The events document: runc's keys, its units, and what it leaves out (types/events.go of runc 1.3).
//!
//! For: `events`. containerd and node tools read it.
//! Must not: read anything. Tests: at the end of the file; `tests/root/events.rs` beside runc itself.

use coracle::cgroup::{
    CpuStats, CpusetStats, IoEntry, IoStats, MemoryStats, MemoryUse, PidsStats, Pressure, Stall, Stats,
};
use serde_json::{Map, Value, json};

/// What version 1 shows where there is no limit.
const UNLIMITED_V1: u64 = 0x7fff_ffff_ffff_f000;

/// One line: `{"type": ..., "id": ..., "data": ...}`.
pub fn event(kind: &str, id: &str, data: Option<Value>) -> String {
    // In runc's order, which people see and scripts match; a map of the JSON library would sort its keys.
    let data = data.map_or_else(String::new, |data| format!(r#","data":{data}"#));
    format!(r#"{{"type":{},"id":{}{data}}}"#, json!(kind), json!(id)) + "\n"
}

/// The data of a `stats` event.
pub fn data(stats: &Stats) -> Value {
    let huge = stats.hugetlb.iter().map(|(size, one)| {
        let members = [("usage", one.usage), ("max", one.peak)];
        let mut page = set(members);
        page.insert("failcnt".to_owned(), one.failures.into());
        (size.clone(), Value::Object(page))
    });
    json!({
        "cpu": cpu(&stats.cpu.clone().unwrap_or_default()),
        "cpuset": cpuset(&stats.cpuset.clone().unwrap_or_default()),
        "memory": memory(&stats.memory.clone().unwrap_or_default()),
        "pids": pids(stats.pids.as_ref()),
        "blkio": io(&stats.io.clone().unwrap_or_default()),
        "hugetlb": huge.collect::<Map<_, _>>(),
        // Filled by nobody but with Intel RDT, and by libraries that know the network; runc prints them all the same.
        "intel_rdt": {},
        "network_interfaces": null,
    })
}

/// The members that are not zero.
fn set<'a>(members: impl IntoIterator<Item = (&'a str, u64)>) -> Map<String, Value> {
    let some = members.into_iter().filter(|(_, value)| *value != 0);
    some.map(|(key, value)| (key.to_owned(), value.into())).collect()
}

fn cpu(stats: &CpuStats) -> Value {
    let mut usage = set([("total", stats.usage_ns)]);
    for (key, list) in [
        ("percpu", &stats.percpu_ns),
        ("percpu_kernel", &stats.percpu_system_ns),
        ("percpu_user", &stats.percpu_user_ns),
    ] {
        if !list.is_empty() {
            usage.insert(key.to_owned(), json!(list));
        }
    }
    usage.insert("kernel".to_owned(), stats.system_ns.into());
    usage.insert("user".to_owned(), stats.user_ns.into());
    let throttling = set([
        ("periods", stats.periods),
        ("throttledPeriods", stats.throttled_periods),
        ("throttledTime", stats.throttled_ns),
    ]);
    with_pressure(json!({"usage": usage, "throttling": throttling}), stats.pressure.as_ref())
}

fn cpuset(stats: &CpusetStats) -> Value {
    let mut value = json!({
        "cpu_exclusive": stats.cpu_exclusive,
        "mem_hardwall": stats.mem_hardwall,
        "mem_exclusive": stats.mem_exclusive,
        "memory_migrate": stats.memory_migrate,
        "memory_spread_page": stats.memory_spread_page,
        "memory_spread_slab": stats.memory_spread_slab,
        "memory_pressure": stats.memory_pressure,
        "sched_load_balance": stats.sched_load_balance,
        "sched_relax_domain_level": stats.sched_relax_domain_level,
    });
    if let Some(members) = value.as_object_mut() {
        for (key, list) in [("cpus", &stats.cpus), ("mems", &stats.mems)] {
            if !list.is_empty() {
                members.insert(key.to_owned(), json!(list));
            }
        }
    }
    value
}

fn memory(stats: &MemoryStats) -> Value {
    let unlimited = if stats.is_v2 { u64::MAX } else { UNLIMITED_V1 };
    let entry = |part: &MemoryUse| {
        let mut entry = set([("usage", part.usage), ("max", part.peak.unwrap_or_default())]);
        entry.insert("limit".to_owned(), part.limit.unwrap_or(unlimited).into());
        entry.insert("failcnt".to_owned(), part.failures.into());
        Value::Object(entry)
    };
    // What no file tells of is all zeros, its limit too.
    let absent = || json!({"limit": 0, "failcnt": 0});
    let mut all = MemoryUse::default();
    all.usage = stats.usage;
    all.limit = stats.limit;
    all.peak = stats.peak;
    all.failures = stats.failures;
    let mut value = Value::Object(set([("cache", stats.cache)]));
    if let Some(members) = value.as_object_mut() {
        let is_counted = stats.is_v2 || !stats.raw.is_empty();
        members.insert("usage".to_owned(), if is_counted { entry(&all) } else { absent() });
        let swap = stats.swap.as_ref().map(|swap| entry(&with_memory(swap, stats)));
        members.insert("swap".to_owned(), swap.unwrap_or_else(absent));
        members.insert("kernel".to_owned(), stats.kernel.as_ref().map_or_else(absent, entry));
        members.insert("kernelTCP".to_owned(), stats.kernel_tcp.as_ref().map_or_else(absent, entry));
        if !stats.raw.is_empty() {
            members.insert("raw".to_owned(), json!(stats.raw));
        }
    }
    with_pressure(value, stats.pressure.as_ref())
}

/// Version 1 counts memory and swap together, and so does this document.
fn with_memory(swap: &MemoryUse, memory: &MemoryStats) -> MemoryUse {
    let mut both = swap.clone();
    if memory.is_v2 {
        both.usage = swap.usage.saturating_add(memory.usage);
        both.limit = swap.limit.zip(memory.limit).map(|(swap, memory)| swap.saturating_add(memory));
        // Two peaks need not have been at the same time.
        both.peak = None;
    }
    both
}

fn pids(stats: Option<&PidsStats>) -> Value {
    let (current, limit) = stats.map_or((0, 0), |pids| (pids.current, pids.limit.unwrap_or(0)));
    Value::Object(set([("current", current), ("limit", limit)]))
}

fn io(stats: &IoStats) -> Value {
    let mut members = Map::new();
    for (key, list) in [
        ("ioServiceBytesRecursive", &stats.bytes),
        ("ioServicedRecursive", &stats.operations),
        // Without the d, as containerd expects it.
        ("ioQueueRecursive", &stats.queued),
        ("ioServiceTimeRecursive", &stats.service_time),
        ("ioWaitTimeRecursive", &stats.wait_time),
        ("ioMergedRecursive", &stats.merged),
        ("ioTimeRecursive", &stats.time),
        ("sectorsRecursive", &stats.sectors),
    ] {
        if !list.is_empty() {
            members.insert(key.to_owned(), list.iter().map(io_entry).collect());
        }
    }
    with_pressure(Value::Object(members), stats.pressure.as_ref())
}

fn io_entry(entry: &IoEntry) -> Value {
    let mut members = set([("major", entry.major), ("minor", entry.minor), ("value", entry.value)]);
    if !entry.operation.is_empty() {
        members.insert("op".to_owned(), entry.operation.as_str().into());
    }
    Value::Object(members)
}

fn with_pressure(mut value: Value, pressure: Option<&Pressure>) -> Value {
    let Some(pressure) = pressure else { return value };
    let percent = |hundredths: u32| f64::from(hundredths) / 100.0;
    let stall = |stall: &Stall| {
        json!({
            "avg10": percent(stall.avg10),
            "avg60": percent(stall.avg60),
            "avg300": percent(stall.avg300),
            "total": stall.total_us,
        })
    };
    let lines = [("some", &pressure.some), ("full", &pressure.full)];
    let lines = lines.into_iter().filter_map(|(key, line)| Some((key.to_owned(), stall(line.as_ref()?))));
    if let Some(members) = value.as_object_mut() {
        members.insert("psi".to_owned(), lines.collect::<Map<_, _>>().into());
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_printed_as_runc_prints_nothing() {
        let zero = json!({"limit": 0, "failcnt": 0});
        assert_eq!(
            data(&Stats::default()),
            json!({
                "cpu": {"usage": {"kernel": 0, "user": 0}, "throttling": {}},
                "cpuset": {"cpu_exclusive": 0, "mem_hardwall": 0, "mem_exclusive": 0, "memory_migrate": 0,
                    "memory_spread_page": 0, "memory_spread_slab": 0, "memory_pressure": 0, "sched_load_balance": 0,
                    "sched_relax_domain_level": 0},
                "memory": {"usage": zero, "swap": zero, "kernel": zero, "kernelTCP": zero},
                "pids": {}, "blkio": {}, "hugetlb": {}, "intel_rdt": {}, "network_interfaces": null
            })
        );
    }

    #[test]
    fn version_2_counts_swap_apart_and_the_document_does_not() {
        let mut memory = MemoryStats::default();
        (memory.usage, memory.limit, memory.peak, memory.is_v2) = (100, Some(1000), Some(200), true);
        let mut swap = MemoryUse::default();
        (swap.usage, swap.limit, swap.peak) = (5, Some(50), Some(9));
        memory.swap = Some(swap);
        let mut pressure = Pressure::default();
        let mut some = Stall::default();
        (some.avg10, some.avg60, some.total_us) = (1234, 10_000, 7);
        pressure.some = Some(some);
        memory.pressure = Some(pressure);
        let found = super::memory(&memory);
        assert_eq!(found["usage"], json!({"limit": 1000, "usage": 100, "max": 200, "failcnt": 0}));
        assert_eq!(found["swap"], json!({"limit": 1050, "usage": 105, "failcnt": 0}));
        assert_eq!(
            found["psi"],
            json!({"some": {"avg10": 12.34, "avg60": 100.0, "avg300": 0.0, "total": 7}})
        );
        memory.limit = None;
        let found = super::memory(&memory);
        assert_eq!((&found["usage"]["limit"], &found["swap"]["limit"]), (&json!(u64::MAX), &json!(u64::MAX)));
    }

    #[test]
    fn an_event_is_one_line() {
        assert_eq!(event("oom", "web", None), "{\"type\":\"oom\",\"id\":\"web\"}\n");
        assert_eq!(
            event("stats", "web", Some(json!({}))),
            "{\"type\":\"stats\",\"id\":\"web\",\"data\":{}}\n"
        );
    }
}
