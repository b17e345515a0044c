//! `coracle update`: new limits from flags or from a document.
//!
//! Must not: know what a limit does. Tests: at the end of the file; `tests/root/update.rs`.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

use coracle::Error;
use coracle::spec::{self, BlockIo, Cpu, IntelRdt, Memory, Pids, Resources};
use rustix::fs::{Mode, OFlags};

use super::container;
use super::process::invalid;
use crate::Globals;
use crate::args::{Flag, Given, flags, usage};

/// The flags that describe a limit; with `--resources` there are none.
const LIMITS: [&Flag; 16] = [
    &flags::BLKIO_WEIGHT,
    &flags::CPU_PERIOD,
    &flags::CPU_QUOTA,
    &flags::CPU_BURST,
    &flags::CPU_SHARE,
    &flags::CPU_RT_PERIOD,
    &flags::CPU_RT_RUNTIME,
    &flags::CPUSET_CPUS,
    &flags::CPUSET_MEMS,
    &flags::CPU_IDLE,
    &flags::MEMORY,
    &flags::MEMORY_RESERVATION,
    &flags::MEMORY_SWAP,
    &flags::PIDS_LIMIT,
    &flags::L3_CACHE_SCHEMA,
    &flags::MEM_BW_SCHEMA,
];

/// Changes the limits.
pub fn run(globals: &Globals, given: &Given<'_>) -> Result<u8, Error> {
    let container = container(globals, given)?;
    let change = match given.path(&flags::RESOURCES) {
        Some(path) => {
            if let Some(flag) = LIMITS.iter().find(|flag| is_set(given, flag)) {
                return Err(usage(format!("--resources and --{} exclude each other", flag.long)));
            }
            read(path)?
        }
        None => from_flags(given)?,
    };
    container.update_with_class(&change, class(given).as_ref())?;
    Ok(0)
}

/// New values of the class of cache and memory bandwidth.
fn class(given: &Given<'_>) -> Option<IntelRdt> {
    let text = |flag| given.text(flag).filter(|text| !text.is_empty()).map(str::to_owned);
    let mut class = IntelRdt::default();
    class.l3_cache_schema = text(&flags::L3_CACHE_SCHEMA);
    class.mem_bw_schema = text(&flags::MEM_BW_SCHEMA);
    (class != IntelRdt::default()).then_some(class)
}

/// As runc: an empty value is none.
fn is_set(given: &Given<'_>, flag: &'static Flag) -> bool {
    given.text(flag).is_some_and(|text| !text.is_empty())
}

fn read(path: &Path) -> Result<Resources, Error> {
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        let most = u64::try_from(spec::MAX_DOCUMENT).unwrap_or(u64::MAX).saturating_add(1);
        // One byte more than may be there: what is longer is refused by the parser's own limit.
        std::io::stdin()
            .lock()
            .take(most)
            .read_to_end(&mut bytes)
            .map_err(|error| Error::os("read the resources from standard input", error))?;
        bytes
    } else {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| Error::os("open the resources file", errno).with_path(path))?;
        spec::read_document(&File::from(fd)).map_err(|error| invalid(error, path))?
    };
    Resources::from_slice(&bytes).map_err(|error| invalid(error, path))
}

fn from_flags(given: &Given<'_>) -> Result<Resources, Error> {
    let mut change = Resources::default();
    let mut memory = Memory::default();
    memory.limit = size(given, &flags::MEMORY)?;
    memory.reservation = size(given, &flags::MEMORY_RESERVATION)?;
    memory.swap = size(given, &flags::MEMORY_SWAP)?;
    change.memory = Some(memory).filter(|memory| *memory != Memory::default());
    let mut cpu = Cpu::default();
    cpu.shares = number(given, &flags::CPU_SHARE)?;
    cpu.quota = number(given, &flags::CPU_QUOTA)?;
    cpu.period = number(given, &flags::CPU_PERIOD)?;
    cpu.burst = number(given, &flags::CPU_BURST)?;
    cpu.idle = number(given, &flags::CPU_IDLE)?;
    cpu.realtime_runtime = number(given, &flags::CPU_RT_RUNTIME)?;
    cpu.realtime_period = number(given, &flags::CPU_RT_PERIOD)?;
    cpu.cpus = given.text(&flags::CPUSET_CPUS).filter(|list| !list.is_empty()).map(str::to_owned);
    cpu.mems = given.text(&flags::CPUSET_MEMS).filter(|list| !list.is_empty()).map(str::to_owned);
    change.cpu = Some(cpu).filter(|cpu| *cpu != Cpu::default());
    if let Some(limit) = number(given, &flags::PIDS_LIMIT)? {
        let pids: &mut Pids = change.pids.get_or_insert_default();
        pids.limit = Some(limit);
    }
    if let Some(weight) = number(given, &flags::BLKIO_WEIGHT)? {
        let block_io: &mut BlockIo = change.block_io.get_or_insert_default();
        block_io.weight = Some(weight);
    }
    Ok(change)
}

fn number<T: FromStr>(given: &Given<'_>, flag: &'static Flag) -> Result<Option<T>, Error> {
    let Some(text) = given.text(flag).filter(|text| !text.is_empty()) else { return Ok(None) };
    // A sign before a number that has none is no number here, where Rust would take it.
    let plain = !text.starts_with('+');
    text.parse()
        .ok()
        .filter(|_| plain)
        .map(Some)
        .ok_or_else(|| bad(flag, text, "it is not a number in range"))
}

/// Bytes: a number with or without a fraction and a unit (powers of 1024), or -1.
fn size(given: &Given<'_>, flag: &'static Flag) -> Result<Option<i64>, Error> {
    let Some(text) = given.text(flag).filter(|text| !text.is_empty()) else { return Ok(None) };
    bytes(text).map(Some).ok_or_else(|| bad(flag, text, "it is not a size like 512m, or -1"))
}

fn bytes(text: &str) -> Option<i64> {
    if text == "-1" {
        return Some(-1);
    }
    let letters = text.trim_start_matches(|sign: char| sign.is_ascii_digit() || sign == '.');
    let digits = text.strip_suffix(letters)?;
    let unit = letters.trim_start().to_ascii_lowercase();
    let shift =
        match unit.strip_suffix('b').map_or(unit.as_str(), |unit| unit.strip_suffix('i').unwrap_or(unit)) {
            "" if unit != "ib" => 0,
            "k" | "ki" => 10,
            "m" | "mi" => 20,
            "g" | "gi" => 30,
            "t" | "ti" => 40,
            "p" | "pi" => 50,
            _ => return None,
        };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number =
        |part: &str| !part.is_empty() && part.len() <= 18 && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !(is_number(fraction) || digits == whole) {
        return None;
    }
    let scale = |part: &str| part.parse::<i128>().ok()?.checked_mul(1 << shift);
    let tenths = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let below = if fraction.is_empty() { 0 } else { scale(fraction)? / tenths };
    i64::try_from(scale(whole)?.checked_add(below)?).ok()
}

fn bad(flag: &Flag, text: &str, why: &str) -> Error {
    usage(format!("invalid value {text:?} for flag -{}: {why}", flag.long))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Order, split};
    use coracle::ErrorKind;
    use std::ffi::OsString;

    #[test]
    fn sizes_as_people_write_them() {
        for (text, expected) in [
            ("0", Some(0)),
            ("1024", Some(1024)),
            ("512m", Some(512 << 20)),
            ("512M", Some(512 << 20)),
            ("1g", Some(1 << 30)),
            ("1.5g", Some(3 << 29)),
            ("2kb", Some(2048)),
            ("2KiB", Some(2048)),
            ("2 k", Some(2048)),
            ("7b", Some(7)),
            ("-1", Some(-1)),
            ("-2", None),
            ("", None),
            ("m", None),
            (".5m", None),
            ("1.m", None),
            ("1.2.3m", None),
            ("1x", None),
            ("1mm", None),
            ("1ib", None),
            ("9999999999p", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(bytes(text), expected, "{text:?}");
        }
    }

    fn change(words: &[&str]) -> Result<serde_json::Value, Error> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let command = crate::args::commands::find("update").expect("in the table");
        let given = split(command.flags, &words, Order::Mixed)?;
        from_flags(&given).map(|change| serde_json::to_value(change).expect("a document"))
    }

    #[test]
    fn every_flag_sets_one_property() {
        let all = change(&[
            "--memory=64m",
            "--memory-reservation",
            "32m",
            "--memory-swap",
            "-1",
            "--cpu-share",
            "512",
            "--cpu-quota",
            "-1",
            "--cpu-period",
            "100000",
            "--cpu-burst",
            "5",
            "--cpu-idle",
            "1",
            "--cpu-rt-period",
            "1000000",
            "--cpu-rt-runtime",
            "950000",
            "--cpuset-cpus",
            "0-1",
            "--cpuset-mems",
            "0",
            "--pids-limit",
            "0",
            "--blkio-weight",
            "100",
            "--kernel-memory",
            "5m",
            "--kernel-memory-tcp",
            "5m",
            "web",
        ]);
        let expected = serde_json::json!({
            "memory": {"limit": 67_108_864, "reservation": 33_554_432, "swap": -1},
            "cpu": {"shares": 512, "quota": -1, "period": 100_000, "burst": 5, "idle": 1, "realtimePeriod": 1_000_000,
                    "realtimeRuntime": 950_000, "cpus": "0-1", "mems": "0"},
            "pids": {"limit": 0}, "blockIO": {"weight": 100}
        });
        assert_eq!(all.expect("good flags"), expected);
        assert_eq!(change(&["--memory=", "web"]).expect("empty is none"), serde_json::json!({}));
        for wrong in
            ["--memory=x", "--cpu-share=-1", "--pids-limit=+5", "--blkio-weight=70000", "--cpu-quota=1.5"]
        {
            assert_eq!(change(&[wrong, "web"]).expect_err(wrong).kind(), ErrorKind::Usage);
        }
        let given = |words: &[&str]| -> Option<IntelRdt> {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            let command = crate::args::commands::find("update").expect("update");
            class(&split(command.flags, &words, crate::args::Order::Mixed).expect("legal"))
        };
        assert_eq!(given(&["--memory=1m", "--l3-cache-schema=", "web"]), None);
        let both =
            given(&["--mem-bw-schema=MB:0=20", "--l3-cache-schema", "L3:0=f", "web"]).expect("a class");
        assert_eq!(
            (both.mem_bw_schema.as_deref(), both.l3_cache_schema.as_deref()),
            (Some("MB:0=20"), Some("L3:0=f"))
        );
    }
}
