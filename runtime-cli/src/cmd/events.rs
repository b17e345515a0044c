//! `coracle events`: statistics at an interval and out-of-memory kills as they happen, until the container ends.
//!
//! Must not: poll for what the kernel tells. Tests: at the end of the file; `tests/root/events.rs`.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use coracle::{Container, Error, ErrorKind, Event, Status};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::container;
use crate::Globals;
use crate::args::{Given, flags, usage};
use crate::out::{self, stats};

const INTERVAL: Duration = Duration::from_secs(5);

/// Prints one line of JSON for each event.
pub fn run(globals: &Globals, given: &Given<'_>) -> Result<u8, Error> {
    let interval = match given.text(&flags::INTERVAL) {
        None => INTERVAL,
        Some(text) => duration(text).filter(|interval| !interval.is_zero()).ok_or_else(|| {
            usage(format!("invalid value {text:?} for flag -interval: it is not a time like 5s"))
        })?,
    };
    let container = container(globals, given)?;
    if container.status()? == Status::Stopped {
        let text = format!("container with id {} is not running", container.id());
        return Err(Error::new(ErrorKind::WrongState, text).with_code("not-running"));
    }
    if given.on(&flags::STATS) {
        out::print(line(&container)?)?;
        return Ok(0);
    }
    watch(globals, &container, interval)?;
    Ok(0)
}

fn line(container: &Container) -> Result<String, Error> {
    Ok(stats::event("stats", container.id().as_str(), Some(stats::data(&container.stats()?))))
}

fn watch(globals: &Globals, container: &Container, interval: Duration) -> Result<(), Error> {
    let mut events = container.events()?;
    let mut next = Instant::now().checked_add(interval);
    loop {
        wait(&events, next)?;
        for event in events.read()? {
            match event {
                Event::OutOfMemory { .. } => {
                    if !out::print_to_reader(stats::event("oom", container.id().as_str(), None))? {
                        return Ok(());
                    }
                }
                _ => return Ok(()),
            }
        }
        if next.is_some_and(|next| Instant::now() >= next) {
            next = Instant::now().checked_add(interval);
            // A container that is just ending cannot be measured; its end comes as an event.
            match line(container) {
                Ok(line) => {
                    if !out::print_to_reader(line)? {
                        return Ok(());
                    }
                }
                Err(error) => globals.log.debug(&format!("read the statistics: {error}")),
            }
        }
    }
}

/// Until something happens, the next statistics are due, or the reader of standard output is gone.
fn wait(events: &impl AsFd, next: Option<Instant>) -> Result<(), Error> {
    let left = next.map(|next| next.saturating_duration_since(Instant::now()));
    let timeout = left.and_then(|left| Timespec::try_from(left).ok());
    let stdout = rustix::stdio::stdout();
    let mut set = [PollFd::new(events, PollFlags::IN), PollFd::new(&stdout, PollFlags::empty())];
    match poll(&mut set, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(Error::os("wait for events", errno)),
    }
}

/// A time as Go writes it: `5s`, `1m30s`, `1.5h`, `250ms`.
pub fn duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 8] = [
        ("ns", 1e-9),
        ("us", 1e-6),
        ("µs", 1e-6),
        ("μs", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    let mut total = Duration::ZERO;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let unit_at = rest.find(|sign: char| !sign.is_ascii_digit() && sign != '.')?;
        let (number, after) = rest.split_at(unit_at);
        let end = after.find(|sign: char| sign.is_ascii_digit() || sign == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let (_, seconds) = UNITS.iter().find(|(name, _)| *name == unit)?;
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = after;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_go_writes_them() {
        for (text, expected) in [
            ("5s", Some(5000)),
            ("250ms", Some(250)),
            ("1m30s", Some(90_000)),
            ("1.5h", Some(5_400_000)),
            ("0s", Some(0)),
            ("5", None),
            ("", None),
            ("s", None),
            ("-5s", None),
            ("5x", None),
            ("1..5s", None),
            ("99999999999999999999h", None),
        ] {
            assert_eq!(duration(text), expected.map(Duration::from_millis), "{text:?}");
        }
    }
}
