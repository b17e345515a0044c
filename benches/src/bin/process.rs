//! Whole commands of several runtimes, interleaved on the same bundles.
//!
//! `process [--rounds N] [--low] [--payload FILE] [--only spec|docker] [NAME=]PATH...`: for each bundle and round every runtime in
//! another order: `run`, then `create`, `state`, `start`, `exec`, `kill`, `delete` of one container. Prints a table of medians (with
//! `--low`: 10th percentiles, for a machine that is busy with other things) with the share of crun, or of the first runtime. With
//! `--payload`, the static test program, each runtime first runs it in the measured configuration, and what it sees has to be the
//! same everywhere: equal work.
//!
//! Needs root and a cgroup2 mount at `/sys/fs/cgroup`. Everything lies in a temporary directory, and in one in `/run`; both are removed.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    reason = "a program for the command line that prints a table"
)]

use std::path::PathBuf;
use std::process::ExitCode;

use coracle_benches::measure::{Runtime, peak_of, private_memory, reap};
use coracle_benches::scratch::{Scratch, WAITING};
use coracle_benches::table::Samples;
use serde_json::{Value, json};

/// xorshift64*: an order for each round.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).unwrap_or(0) % end
    }

    fn order<'r>(&mut self, runtimes: &'r [Runtime]) -> Vec<&'r Runtime> {
        let mut out: Vec<&Runtime> = runtimes.iter().collect();
        for at in (1..out.len()).rev() {
            out.swap(at, self.below(at + 1));
        }
        out
    }
}

struct Options {
    rounds: usize,
    part: f64,
    payload: Option<PathBuf>,
    configs: Vec<&'static str>,
    runtimes: Vec<String>,
}

fn options(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut out = Options {
        rounds: 60,
        part: 0.5,
        payload: None,
        configs: vec!["spec", "docker"],
        runtimes: Vec::new(),
    };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--rounds" => out.rounds = value()?.parse().map_err(|_| "--rounds needs a number")?,
            "--low" => out.part = 0.1,
            "--payload" => out.payload = Some(value()?.into()),
            "--only" => {
                let only = value()?;
                out.configs.retain(|config| *config == only);
            }
            _ => out.runtimes.push(arg),
        }
    }
    if out.runtimes.is_empty() || out.configs.is_empty() {
        return Err(
            "usage: process [--rounds N] [--low] [--payload FILE] [--only spec|docker] [NAME=]PATH..."
                .to_owned(),
        );
    }
    Ok(out)
}

/// One container's life, command by command.
fn life(rt: &Runtime, config: &str, bundle: &str, add: &mut dyn FnMut(String, f64)) -> Result<(), String> {
    let id = "bench";
    let mut step = |name: &str, args: &[&str]| -> Result<(), String> {
        let took = rt.time(args)?;
        add(format!("{name} ({config}), µs"), took);
        Ok(())
    };
    step("create", &["create", "--bundle", bundle, id])?;
    step("state", &["state", id])?;
    step("start", &["start", id])?;
    step("exec", &["exec", id, "/bin/true"])?;
    step("kill", &["kill", id, "KILL"])?;
    reap()?;
    step("delete", &["delete", id])
}

fn run(rt: &Runtime, bundle: &str) -> Result<f64, String> {
    let took = rt.time(&["run", "--bundle", bundle, "bench"])?;
    reap()?;
    Ok(took)
}

/// Memory: private to each of several waiting containers, and at most while commands run.
fn memory(rt: &Runtime, scratch: &Scratch, config: &str, samples: &mut Samples) -> Result<(), String> {
    for name in WAITING {
        let bundle = scratch.bundle(config, name);
        rt.time(&["create", "--bundle", &bundle.to_string_lossy(), name])?;
    }
    for name in WAITING {
        let state: Value = serde_json::from_str(&rt.output(&["state", name])?).map_err(|e| e.to_string())?;
        let kib =
            state["pid"].as_i64().and_then(private_memory).ok_or("a waiting container has no memory")?;
        samples.add(&format!("waiting container, private ({config}), KiB"), &rt.name, kib);
    }
    for name in WAITING {
        rt.time(&["delete", "--force", name])?;
    }
    reap()?;
    for _ in 0..5 {
        let bundle = scratch.bundle(config, "true");
        let peak = rt.peak(&["run", "--bundle", &bundle.to_string_lossy(), "bench"])?;
        samples.add(&format!("run, peak resident ({config}), KiB"), &rt.name, peak);
        reap()?;
    }
    Ok(())
}

/// What the payload sees that is the filter's, the credentials', the limits' and the mounts' work. Covers of masked paths differ in
/// kind, not in being there.
fn work(report: &Value) -> Result<Value, String> {
    let mut out = json!({});
    for key in [
        "caps",
        "noNewPrivs",
        "seccomp",
        "rlimits",
        "hostname",
        "uid",
        "gid",
        "groups",
        "interfaces",
        "umask",
    ] {
        let value = report.get(key).ok_or_else(|| format!("the payload does not report {key}"))?;
        out[key] = value.clone();
    }
    let mounts = report["mounts"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut seen: Vec<String> = mounts
        .iter()
        .map(|mount| {
            let kernel = ["proc", "sysfs", "cgroup2"].contains(&text(&mount["type"]).as_str());
            let options = mount["options"].as_array().filter(|_| kernel).cloned().unwrap_or_default();
            let read_only = options.iter().any(|option| option == "ro");
            format!("{}{}", text(&mount["target"]), if read_only { " ro" } else { "" })
        })
        .collect();
    seen.sort();
    out["mounts"] = json!(seen);
    Ok(out)
}

fn equal_work(runtimes: &[Runtime], scratch: &Scratch, config: &str) -> Result<(), String> {
    let bundle = scratch.bundle(config, "payload");
    let mut first: Option<(String, Value)> = None;
    for rt in runtimes {
        let text = rt.output(&["run", "--bundle", &bundle.to_string_lossy(), "bench"])?;
        reap()?;
        let report =
            serde_json::from_str(&text).map_err(|e| format!("{}: no report: {e}: {text}", rt.name))?;
        let seen = work(&report)?;
        match &first {
            None => first = Some((rt.name.clone(), seen)),
            Some((name, other)) if *other != seen => {
                return Err(format!("unequal work ({config}): {name} {other}\n{} {seen}", rt.name));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn measure(options: &Options) -> Result<String, String> {
    let scratch = Scratch::new(options.payload.as_deref()).map_err(|e| e.to_string())?;
    let runtimes: Vec<Runtime> = options
        .runtimes
        .iter()
        .map(|text| Runtime::parse(text, &scratch.state()))
        .collect::<Result<_, _>>()?;
    let mut samples = Samples::default();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for config in &options.configs {
        let (quick, long) = (scratch.bundle(config, "true"), scratch.bundle(config, "pause"));
        let (quick, long) = (quick.to_string_lossy(), long.to_string_lossy());
        if options.payload.is_some() {
            equal_work(&runtimes, &scratch, config)?;
        }
        // Two rounds that do not count.
        for round in 0..options.rounds + 2 {
            for rt in random.order(&runtimes) {
                let mut add = |row: String, value: f64| {
                    if round >= 2 {
                        samples.add(&row, &rt.name, value);
                    }
                };
                for _ in 0..3 {
                    add(format!("run ({config}), µs"), run(rt, &quick)?);
                }
                life(rt, config, &long, &mut add)?;
            }
        }
        for rt in &runtimes {
            memory(rt, &scratch, config, &mut samples)?;
        }
    }
    // At the end: a file that was read back lies in the page cache in other pieces than one that was just written.
    for config in &options.configs {
        let bundle = scratch.bundle(config, "true");
        for _ in 0..5 {
            for rt in random.order(&runtimes) {
                rt.forget_files();
                let row = format!("first run, files cold ({config}), µs");
                samples.add(&row, &rt.name, run(rt, &bundle.to_string_lossy())?);
            }
        }
    }
    for rt in &runtimes {
        let size = std::fs::metadata(&rt.path).map_err(|e| e.to_string())?.len();
        samples.add("program, KiB", &rt.name, size as f64 / 1024.0);
    }
    let names: Vec<String> = runtimes.iter().map(|rt| rt.name.clone()).collect();
    let baseline = names.iter().find(|name| *name == "crun").unwrap_or(&names[0]);
    Ok(samples.table(&names, baseline, options.part))
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|first| first == "peak") {
        return match peak_of(&args[1..]) {
            Ok(kib) => {
                println!("{kib}");
                ExitCode::SUCCESS
            }
            Err(e) => {
                eprintln!("{e}");
                ExitCode::FAILURE
            }
        };
    }
    if let Err(e) = rustix::process::set_child_subreaper(rustix::process::Pid::from_raw(1)) {
        eprintln!("cannot wait for containers: {e}");
        return ExitCode::FAILURE;
    }
    match options(args.into_iter()).and_then(|options| measure(&options)) {
        Ok(table) => {
            print!("{table}");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("{e}");
            ExitCode::FAILURE
        }
    }
}
