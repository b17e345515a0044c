//! Development commands: `cargo xtask COMMAND`. Not part of what is shipped.
//!
//! A command adds what it needs (a Rust target, a Debian package) and says so. Long jobs that are shell at heart are
//! scripts beside the source. Must not: depend on other crates, so that it starts at once on a bare machine.

mod check;
mod conformance;
mod link;
mod run;
mod scripts;
mod setup;
mod style;
mod suites;
mod tables;

use run::{Outcome, say};
use std::path::Path;
use std::process::ExitCode;

/// A command: its name, its arguments, one line about it, and what does it.
type Command = (&'static str, &'static str, &'static str, fn(&[String]) -> Outcome);

const COMMANDS: &[Command] = &[
    ("demo", "[ARG...]", "build the static program and run `coracle demo`", suites::demo),
    (
        "test",
        "[WORD...]",
        "build everything and pass the tests; words pick cases of the suites",
        suites::test,
    ),
    (
        "conformance",
        "[--vm] [RUNTIME...]",
        "the suite of the specification on coracle and on others, with the table in docs/conformance.md",
        conformance::conformance,
    ),
    ("check", "", "formatting, lints, documentation, rules of style", check::check),
    ("no-panic", "", "prove that no call of the child half can panic", link::no_panic),
    ("aarch64", "", "check and link for aarch64-unknown-linux-musl", link::aarch64),
    ("deny", "", "licences, sources and duplicates of the dependencies", check::deny),
    ("fuzz-smoke", "[SECONDS [TARGET...]]", "every fuzz target for some seconds (10)", scripts::fuzz_smoke),
    (
        "bench",
        "[RUNTIME...]",
        "the pure half by criterion; with other runtimes, whole commands beside them",
        scripts::bench,
    ),
    (
        "vm",
        "[OPTION...] [-- COMMAND]",
        "a machine with cgroup v2 in an emulator: the suites, or a command",
        scripts::vm,
    ),
    (
        "vm-systemd",
        "[OPTION...] [-- COMMAND]",
        "the same with systemd as its first process: the cases that need it, or a command",
        scripts::vm_systemd,
    ),
    ("containerd", "", "containerd and ctr with this runtime", scripts::containerd),
    ("order", "", "write the order of functions in the static program, by what short commands call", order),
    (
        "tables",
        "[DIR RELEASE]",
        "write the table of limits; with kernel sources, the system call tables",
        tables,
    ),
];

fn order(_: &[String]) -> Outcome {
    setup::target(&run::musl())?;
    let target = run::target_dir().join("order");
    let words = ["build", "--release", "--target", &run::musl(), "-p", "coracle-cli", "--target-dir"];
    run::run(run::cargo(words).arg(&target).env("CARGO_PROFILE_RELEASE_STRIP", "none"))?;
    let program = target.join(run::musl()).join("release/coracle");
    let words = ["run", "--quiet", "-p", "coracle-benches", "--bin", "order"];
    let text = run::output(run::cargo(words).arg(&program))?;
    let to = run::root().join("runtime-cli/order.ld");
    std::fs::write(&to, text).map_err(|e| format!("write {}: {e}", to.display()))
}

fn tables(args: &[String]) -> Outcome {
    if args.is_empty() {
        let words =
            ["test", "--quiet", "-p", "coracle", "--lib", "every_property_has_a_row_in_the_documentation"];
        return run::run(run::cargo(words).env("BLESS", "1"));
    }
    let [dir, release] = args else { return Err("tables: a directory and a release, please".to_owned()) };
    let text = tables::generate(Path::new(dir), release)?;
    let to = run::root().join("seccomp-profiles/src/table/data.rs");
    std::fs::write(&to, text).map_err(|e| format!("write {}: {e}", to.display()))
}

fn usage() -> String {
    let mut text = "usage: cargo xtask COMMAND\n".to_owned();
    for (name, arguments, about, _) in COMMANDS {
        text.push_str(&format!("\n  {name} {arguments}\n        {about}"));
    }
    text
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (name, rest) = args.split_first().map_or(("help", &[][..]), |(name, rest)| (name.as_str(), rest));
    if matches!(name, "help" | "--help" | "-h") {
        say(&usage());
        return ExitCode::SUCCESS;
    }
    let outcome = match COMMANDS.iter().find(|command| command.0 == name) {
        Some((_, _, _, command)) => command(rest),
        None => Err(usage()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("xtask {name}: {error}"));
            ExitCode::FAILURE
        }
    }
}
