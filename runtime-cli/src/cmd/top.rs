//! `coracle top`: what containers use, as a table that is drawn again at an interval; on a pipe as plain lines.
//!
//! Must not: need a terminal, hold one in another mode, or fail because one container went away. Tests: at the end of the file;
//! `tests/root/events.rs`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use coracle::cgroup::{IoEntry, Stats};
use coracle::{ContainerId, Error, Status};

use super::events::duration;
use super::runtime;
use crate::Globals;
use crate::args::{Given, flags, usage};
use crate::out::{self, table::table};

const INTERVAL: Duration = Duration::from_secs(1);
/// To the first column of the first line, and away with everything from there on.
const CLEAR: &str = "\x1b[H\x1b[J";
const HEADING: [&str; 8] = ["ID", "CPU", "MEMORY", "LIMIT", "PIDS", "READ/S", "WRITTEN/S", "PRESSURE"];

/// Draws until it is interrupted, or as often as it was told.
pub fn run(globals: &Globals, given: &Given<'_>) -> Result<u8, Error> {
    let interval = match given.text(&flags::TOP_INTERVAL) {
        None => INTERVAL,
        Some(text) => duration(text).filter(|interval| !interval.is_zero()).ok_or_else(|| {
            usage(format!("invalid value {text:?} for flag -interval: it is not a time like 1s"))
        })?,
    };
    let names = (0..given.rest.len())
        .map(|index| given.argument(index, "the container's ID")?.parse())
        .collect::<Result<Vec<ContainerId>, Error>>()?;
    let terminal = rustix::termios::isatty(rustix::stdio::stdout());
    // Who reads a pipe wants an answer; who looks at a terminal leaves with ^C.
    let rounds = given.number(&flags::COUNT).unwrap_or(if terminal { u32::MAX } else { 1 });
    let mut before = Sample::take(globals, &names)?;
    for _ in 0..rounds {
        std::thread::sleep(interval);
        let now = Sample::take(globals, &names)?;
        let text = table(&rows(&before, &now));
        let text = if terminal { CLEAR.to_owned() + &fitted(&text) } else { text };
        if !out::print_to_reader(text)? {
            break;
        }
        before = now;
    }
    Ok(0)
}

/// What all of them had used at one moment.
struct Sample {
    at: Instant,
    stats: BTreeMap<String, Stats>,
}

impl Sample {
    /// Containers that have stopped, or that cannot be measured, are left out.
    ///
    /// # Errors
    /// A container that was named is not there; the state directory cannot be read.
    fn take(globals: &Globals, names: &[ContainerId]) -> Result<Self, Error> {
        let runtime = runtime(globals)?;
        let found = if names.is_empty() {
            runtime.list()?
        } else {
            names
                .iter()
                .map(|id| runtime.open(id).map(|one| (id.clone(), Ok(one))))
                .collect::<Result<_, _>>()?
        };
        let at = Instant::now();
        let stats = found.into_iter().filter_map(|(id, container)| {
            let container = container.ok()?;
            let lives = matches!(container.status(), Ok(Status::Running | Status::Paused | Status::Created));
            match container.stats() {
                Ok(stats) if lives => Some((id.as_str().to_owned(), stats)),
                Ok(_) => None,
                Err(error) => {
                    globals.log.debug(&format!("{id}: {error}"));
                    None
                }
            }
        });
        Ok(Self { at, stats: stats.collect() })
    }
}

/// The heading, and a line for each container that is in both samples, the busiest first.
fn rows(before: &Sample, now: &Sample) -> Vec<[String; 8]> {
    let elapsed = now.at.saturating_duration_since(before.at);
    let mut lines: Vec<(u64, [String; 8])> = now
        .stats
        .iter()
        .filter_map(|(id, stats)| Some(row(id, before.stats.get(id)?, stats, elapsed)))
        .collect();
    lines.sort_by_key(|(busy, _)| std::cmp::Reverse(*busy));
    let mut rows = vec![HEADING.map(str::to_owned)];
    rows.extend(lines.into_iter().map(|(_, row)| row));
    rows
}

/// The processor time, and the line.
fn row(id: &str, before: &Stats, now: &Stats, elapsed: Duration) -> (u64, [String; 8]) {
    let nothing = || "-".to_owned();
    let used = |stats: &Stats| stats.cpu.as_ref().map(|cpu| cpu.usage_ns);
    let busy = used(now).zip(used(before)).map(|(now, before)| now.saturating_sub(before));
    let nanoseconds = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX).max(1);
    let cpu = busy.map(|busy| {
        let tenths = u128::from(busy).saturating_mul(1000) / u128::from(nanoseconds);
        format!("{}.{}%", tenths / 10, tenths % 10)
    });
    let memory = now.memory.as_ref();
    let limit = memory.map(|memory| memory.limit.map_or_else(|| "none".to_owned(), bytes));
    let pids = now.pids.as_ref().map(|pids| match pids.limit {
        Some(limit) => format!("{}/{limit}", pids.current),
        None => pids.current.to_string(),
    });
    let rate = |operation: &str| {
        let (now, before) = (moved(now, operation)?, moved(before, operation)?);
        let a_second = u128::from(now.saturating_sub(before)) * 1_000_000_000 / u128::from(nanoseconds);
        Some(bytes(u64::try_from(a_second).unwrap_or(u64::MAX)))
    };
    let line = [
        id.to_owned(),
        cpu.unwrap_or_else(nothing),
        memory.map_or_else(nothing, |memory| bytes(memory.usage)),
        limit.unwrap_or_else(nothing),
        pids.unwrap_or_else(nothing),
        rate("Read").unwrap_or_else(nothing),
        rate("Write").unwrap_or_else(nothing),
        pressure(now).unwrap_or_else(nothing),
    ];
    (busy.unwrap_or_default(), line)
}

/// Bytes that went one way so far, on all devices.
fn moved(stats: &Stats, operation: &str) -> Option<u64> {
    let all = stats.io.as_ref()?.bytes.iter().filter(|entry: &&IoEntry| entry.operation == operation);
    Some(all.map(|entry| entry.value).sum())
}

/// How much of the last ten seconds something waited for processors, memory and disks.
fn pressure(stats: &Stats) -> Option<String> {
    let cpu = stats.cpu.as_ref().and_then(|cpu| cpu.pressure.as_ref());
    let memory = stats.memory.as_ref().and_then(|memory| memory.pressure.as_ref());
    let io = stats.io.as_ref().and_then(|io| io.pressure.as_ref());
    let parts = [("cpu", cpu), ("mem", memory), ("io", io)];
    let shown: Vec<String> = parts
        .into_iter()
        .filter_map(|(name, pressure)| Some((name, pressure?.some.as_ref()?)))
        .map(|(name, some)| format!("{name} {}%", some.avg10.div_ceil(100)))
        .collect();
    (!shown.is_empty()).then(|| shown.join(" "))
}

/// With at most four digits and the unit, rounded down.
fn bytes(number: u64) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut unit = UNITS.iter();
    let (mut whole, mut tenth, mut name) = (number, 0, "B");
    unit.next();
    while whole >= 1024 {
        tenth = (whole % 1024) * 10 / 1024;
        whole /= 1024;
        name = unit.next().copied().unwrap_or("EiB");
    }
    if name == "B" { format!("{whole} B") } else { format!("{whole}.{tenth} {name}") }
}

/// Lines no wider and no more than the terminal has, so that the screen does not roll.
fn fitted(text: &str) -> String {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stdout()).ok().filter(|size| size.ws_col > 0);
    let Some(size) = size else { return text.to_owned() };
    let (columns, lines) = (usize::from(size.ws_col), usize::from(size.ws_row).saturating_sub(1));
    text.lines().take(lines).fold(String::new(), |mut all, line| {
        all.extend(line.chars().take(columns));
        all.push('\n');
        all
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle::cgroup::{CpuStats, IoStats, MemoryStats, PidsStats, Pressure, Stall};

    #[test]
    fn bytes_for_people() {
        for (number, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_572_864, "1.5 MiB"),
            (1024 * 1024 - 1, "1023.9 KiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(bytes(number), expected);
        }
    }

    fn stats(usage_ns: u64, read: u64) -> Stats {
        let mut stats = Stats::default();
        let mut cpu = CpuStats::default();
        cpu.usage_ns = usage_ns;
        let mut some = Stall::default();
        some.avg10 = 1234;
        let mut waits = Pressure::default();
        waits.some = Some(some);
        cpu.pressure = Some(waits);
        let mut memory = MemoryStats::default();
        (memory.usage, memory.limit) = (1 << 20, Some(64 << 20));
        let mut pids = PidsStats::default();
        (pids.current, pids.limit) = (3, Some(10));
        let mut io = IoStats::default();
        for value in [read, 1] {
            let mut entry = IoEntry::default();
            (entry.operation, entry.value) = ("Read".to_owned(), value);
            io.bytes.push(entry);
        }
        (stats.cpu, stats.memory, stats.pids, stats.io) = (Some(cpu), Some(memory), Some(pids), Some(io));
        stats
    }

    #[test]
    fn rates_are_differences_over_time() {
        let two = Duration::from_secs(2);
        let (busy, line) = row("web", &stats(0, 0), &stats(3_000_000_000, 4096), two);
        assert_eq!(busy, 3_000_000_000);
        let expected = ["web", "150.0%", "1.0 MiB", "64.0 MiB", "3/10", "2.0 KiB", "0 B", "cpu 13%"];
        assert_eq!(line, expected.map(str::to_owned));
        let (_, line) = row("web", &Stats::default(), &Stats::default(), two);
        assert_eq!(line[1..], ["-"; 7].map(str::to_owned));
        // A cgroup that was made anew counts from zero.
        assert_eq!(row("web", &stats(5, 5), &stats(0, 0), two).1[1], "0.0%");
    }

    #[test]
    fn the_busiest_comes_first() {
        let at = Instant::now();
        let sample = |at, a, b| Sample {
            at,
            stats: [("a".to_owned(), stats(a, 0)), ("b".to_owned(), stats(b, 0))].into(),
        };
        let rows = rows(&sample(at, 0, 0), &sample(at + Duration::from_secs(1), 5_000_000, 9_000_000));
        assert_eq!(rows.iter().map(|row| row[0].as_str()).collect::<Vec<_>>(), ["ID", "b", "a"]);
    }
}
