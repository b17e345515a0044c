//! Runs every target over its seeds and then over mutations of them, on stable.
//!
//! `smoke --corpus` writes the seeds to `corpus/TARGET` for `cargo fuzz` instead.
//! `smoke [SECONDS] [TARGET...]`: so long for each target (10), the named ones or all. The mutations are pseudo-random from a fixed
//! start, so that a run can be repeated; the number of them depends on the time. What breaks a promise is written to
//! `artifacts/TARGET/smoke` for `cargo fuzz run TARGET artifacts/TARGET/smoke`, and the run fails.
#![forbid(unsafe_code)]

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use coracle_fuzz::{TARGETS, Target, seeds};

/// xorshift64*: enough to choose bytes with.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { usize::try_from(self.next()).unwrap_or(0) % end }
    }
}

/// Words that formats care about.
const WORDS: [&[u8]; 24] = [
    b"\"",
    b"{}",
    b"[]",
    b"null",
    b"true",
    b"-1",
    b"0",
    b"4294967295",
    b"18446744073709551615",
    b"1e999",
    b"\\u0000",
    b"\\ud800",
    b"/..",
    b"../",
    b"\0",
    b"\n",
    b"rbind",
    b"ro",
    b"rshared",
    b"\xff\xfe",
    b"SCMP_ACT_ALLOW",
    b"linux",
    b"process",
    b"/proc/self/fd",
];

fn mutate(random: &mut Random, seeds: &[Vec<u8>], longest: usize) -> Vec<u8> {
    let mut data = seeds[random.below(seeds.len())].clone();
    for _ in 0..=random.below(6) {
        let at = random.below(data.len() + 1);
        let end = (at + random.below(24)).min(data.len());
        match random.below(7) {
            0 => {
                if let Some(byte) = data.get_mut(at) {
                    *byte = u8::try_from(random.below(256)).unwrap_or(0);
                }
            }
            1 => drop(data.drain(at..end)),
            2 => drop(data.splice(at..end, WORDS[random.below(WORDS.len())].iter().copied())),
            3 => drop(data.splice(at..at, WORDS[random.below(WORDS.len())].iter().copied())),
            4 => {
                // A piece of another seed.
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len() + 1);
                let to = (from + random.below(200)).min(other.len());
                drop(data.splice(at..end, other[from..to].iter().copied()));
            }
            5 => {
                let piece = data[at..end].to_vec();
                let to = random.below(data.len() + 1);
                drop(data.splice(to..to, piece));
            }
            _ => {
                if let Some(byte) = data.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
    }
    data.truncate(longest);
    data
}

/// The seeds of a target, and some bytes out of nothing for those that take choices from them.
fn starts(name: &str) -> Vec<Vec<u8>> {
    let mut random = Random(0x1234_5678_9abc_def1);
    let noise = |n| (0..n * 48).map(|_| u8::try_from(random.below(256)).unwrap_or(0)).collect();
    seeds(name).into_iter().chain((1..8).map(noise)).collect()
}

/// Writes the seeds to where `cargo fuzz` looks for its corpus.
fn write_corpus() -> std::io::Result<()> {
    for (name, _) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        std::fs::create_dir_all(&folder)?;
        for (index, seed) in starts(name).iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{index:03}")), seed)?;
        }
    }
    Ok(())
}

/// Runs one input; `false` when a promise was broken.
fn holds(name: &str, target: Target, data: &[u8]) -> bool {
    if std::panic::catch_unwind(|| target(data)).is_ok() {
        return true;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("artifacts").join(name);
    let file = folder.join("smoke");
    match std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&file, data)) {
        Ok(()) => eprintln!("{name}: FAILED, the input is {}", file.display()),
        Err(e) => eprintln!("{name}: FAILED, and the input cannot be written: {e}"),
    }
    false
}

fn run(name: &str, target: Target, time: Duration) -> bool {
    let seeds = starts(name);
    let began = Instant::now();
    if let Some(bad) = seeds.iter().find(|seed| !holds(name, target, seed)) {
        eprintln!("{name}: a seed of {} bytes", bad.len());
        return false;
    }
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut count = 0_u64;
    while began.elapsed() < time {
        if !holds(name, target, &mutate(&mut random, &seeds, 1 << 16)) {
            return false;
        }
        count += 1;
    }
    println!("{name}: {} seeds, {count} mutations", seeds.len());
    true
}

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    if args == ["--corpus"] {
        return match write_corpus() {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                eprintln!("the corpus cannot be written: {e}");
                ExitCode::FAILURE
            }
        };
    }
    let seconds = args.first().and_then(|first| first.parse().ok());
    if seconds.is_some() {
        args.remove(0);
    }
    if let Some(unknown) = args.iter().find(|name| TARGETS.iter().all(|(known, _)| known != name)) {
        eprintln!("no target is called {unknown}");
        return ExitCode::from(2);
    }
    let time = Duration::from_secs(seconds.unwrap_or(10));
    let chosen = TARGETS.iter().filter(|(name, _)| args.is_empty() || args.iter().any(|arg| arg == name));
    let mut good = true;
    for (name, target) in chosen {
        good &= run(name, *target, time);
    }
    let leftover = std::env::temp_dir().join(format!("coracle-fuzz-{}", std::process::id()));
    for name in ["fuzz/record", "fuzz", ""] {
        let path = leftover.join(name);
        let _ = if name == "fuzz/record" { std::fs::remove_file(path) } else { std::fs::remove_dir(path) };
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
