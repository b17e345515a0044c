//! Long jobs that are shell at heart: the scripts lie beside this program.

use crate::run::{self, Count, Outcome, Scratch, built, cargo};
use crate::{setup, suites};
use std::path::{Path, PathBuf};

/// How long the suites may take in the machine, in seconds.
const VM_TIME: &str = "1000";

/// Smaller numbers for cases that repeat or move much: the emulator is some twenty times slower.
const VM_NUMBERS: [&str; 7] = [
    "OWN_MACHINE=1",
    "TMPDIR=/var/tmp",
    "STREAM_MIB=4",
    "SEQUENTIAL=10",
    "LIVES=2",
    "PARALLEL=16",
    "MANY=20",
];

/// What differs with who makes the cgroups.
const VM_SYSTEMD: [&str; 8] = [
    "cgroups::",
    "limits::",
    "update::",
    "events::",
    "places::",
    "systemd::",
    "devices::cgroup",
    "engines::",
];

/// What the machine is built with.
const VM_TOOLS: [(&str, &str); 8] = [
    ("busybox", "busybox-static"),
    ("mke2fs", "e2fsprogs"),
    ("cpio", "cpio"),
    ("depmod", "kmod"),
    ("xz", "xz-utils"),
    ("zstd", "zstd"),
    ("debootstrap", "debootstrap"),
    ("/usr/share/keyrings/debian-archive-keyring.gpg", "debian-archive-keyring"),
];

/// `vm`: runs a command in the machine; without arguments, or with words alone, the suites: static programs, because there is
/// no C library inside.
///
/// # Errors
/// The machine cannot be built or started, or what ran in it failed.
pub fn vm(args: &[String]) -> Outcome {
    let dir = machine(&[])?;
    if args.iter().any(|word| word == "--") {
        return run::run(&mut run::program(dir.join("run"), args));
    }
    in_machine("vm", &dir, &[], args)
}

/// `vm-systemd`: the same in a machine whose first process is systemd, which makes the cgroups; then again as an ordinary user, with the
/// systemd of that user, and with cgroups that the runtime makes in what that user was given. Without arguments the cases that differ with it.
///
/// # Errors
/// As [`vm`].
pub fn vm_systemd(args: &[String]) -> Outcome {
    let dir = machine(&["systemd"])?;
    if args.iter().any(|word| word == "--") {
        return run::run(run::program(dir.join("run"), ["--systemd"]).args(args));
    }
    let all = VM_SYSTEMD.map(str::to_owned);
    in_machine("vm-systemd", &dir, &["--systemd"], if args.is_empty() { &all } else { args })
}

/// Builds the machine; where its scripts are.
fn machine(flavour: &[&str]) -> Result<PathBuf, String> {
    setup::packages(&VM_TOOLS)?;
    let dir = run::root().join("xtask/vm");
    run::run(&mut run::program(dir.join("build"), flavour))?;
    Ok(dir)
}

/// What a command in the machine prints, which may fail; the directories are shared.
///
/// # Errors
/// As [`vm`].
pub fn in_machine_output(shares: &[PathBuf], words: &[String]) -> Result<String, String> {
    let mut command = run::program(machine(&[])?.join("run"), ["--timeout", VM_TIME]);
    for dir in shares {
        command.arg("--share").arg(dir);
    }
    let done = command.arg("--").args(words).output().map_err(|e| format!("run the machine: {e}"))?;
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

fn in_machine(name: &str, dir: &Path, flavour: &[&str], cases: &[String]) -> Outcome {
    suites::build()?;
    let scratch = Scratch::new("vm")?;
    let mut all = Count::default();
    for suite in &suites::suites()? {
        // Who makes the cgroups is no matter of the specification, nor of a race.
        let Some(own) = suites::in_machine(suite)
            .filter(|_| flavour.is_empty() || !matches!(suite.as_str(), "conformance" | "hostile"))
        else {
            continue;
        };
        let own: Vec<String> = own.iter().map(|word| (*word).to_owned()).collect();
        let program = scratch.path().join(suite);
        for (from, to) in [
            (suites::program(suite)?, program.clone()),
            (built("coracle"), scratch.path().join("coracle")),
            (built("coracle-payload"), scratch.path().join("payload")),
        ] {
            std::fs::copy(&from, &to).map_err(|e| format!("copy {}: {e}", from.display()))?;
        }
        let mut command = run::program(dir.join("run"), flavour);
        command.args(["--timeout", VM_TIME, "--share"]);
        command.arg(scratch.path()).arg("--");
        // The engines that were recorded run as root.
        if !flavour.is_empty() && suite == "root" {
            let drivers = scratch.path().join("drivers");
            std::fs::copy(dir.join("drivers"), &drivers)
                .map_err(|e| format!("copy {}: {e}", drivers.display()))?;
            command.arg(drivers);
        }
        command.arg("env").args(VM_NUMBERS);
        for (name, file) in [("RUNTIME", "coracle"), ("PAYLOAD", "payload")] {
            command.arg(format!("{name}={}", scratch.path().join(file).display()));
        }
        let cases = if cases.is_empty() { &own } else { cases };
        all.add(run::counted(command.arg(program).args(cases))?);
    }
    run::print(&format!("{name}: {all}"));
    if all.failed == 0 { Ok(()) } else { Err(format!("{} failed", all.failed)) }
}

/// `containerd`: a private containerd runs containers with this runtime.
///
/// # Errors
/// A package is missing, or something is not as it should be.
pub fn containerd(_: &[String]) -> Outcome {
    setup::packages(&[("containerd", "containerd"), ("busybox", "busybox-static")])?;
    suites::build()?;
    run::run(&mut cargo(["build", "-p", "coracle-tests", "--bin", "on-terminal"]))?;
    let words = [built("coracle"), run::target_dir().join("debug/on-terminal")];
    run::run(&mut run::program(run::root().join("xtask/containerd"), words))
}

/// `bench`: criterion's benches; with the paths of other runtimes, whole commands of all of them, interleaved.
///
/// # Errors
/// A bench fails.
pub fn bench(args: &[String]) -> Outcome {
    if args.is_empty() {
        return run::run(&mut cargo(["bench", "-p", "coracle-benches"]));
    }
    suites::build()?;
    let mut process =
        cargo(["run", "--quiet", "--release", "-p", "coracle-benches", "--bin", "process", "--"]);
    process.arg("--payload").arg(built("coracle-payload")).args(args);
    run::run(process.arg(built("coracle")))
}

/// `fuzz-smoke`: every target on its seeds and on mutations of them, for some seconds each. It needs no nightly.
///
/// # Errors
/// A promise is broken; the input is written down.
pub fn fuzz_smoke(args: &[String]) -> Outcome {
    let words = [
        "run",
        "--quiet",
        "--locked",
        "--release",
        "--manifest-path",
        "fuzz/Cargo.toml",
        "--bin",
        "smoke",
        "--",
    ];
    let seconds = if args.is_empty() { &["10".to_owned()] } else { args };
    run::run(cargo(words).args(seconds))
}
