//! The program that the test containers run: it prints what a process inside sees, and does on request what a
//! curious, a clumsy or a hostile process does.
//!
//! It is one static file, so that a root file system needs nothing else. It must not hide anything: every answer
//! is what the kernel said, an error is a value of the answer. The tests that use it are its tests.
//!
//! Unsafe code is in `sys.rs` alone.

#![no_main]

mod attack;
mod launch;
mod probe;
mod report;
mod sys;
mod tty;
mod work;

use std::io::Write;

/// One line on standard output; a closed output is not an error of the payload.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// One line on standard error, and the exit code for wrong use (a code that no test expects otherwise).
fn wrong(text: &str) -> u8 {
    let _ = writeln!(std::io::stderr(), "payload: {text}");
    99
}

/// Runs the command that the arguments name: the exit code.
fn start(args: &[String]) -> u8 {
    let words: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
    let Some((command, rest)) = words.split_first() else {
        return wrong("a command is missing");
    };
    match *command {
        "report" => report::print(args, rest),
        "do" => probe::all(rest),
        "launch" => launch::run(rest),
        "attack" => attack::run(rest),
        "tty" => tty::run(rest),
        _ => work::run(command, rest),
    }
}
