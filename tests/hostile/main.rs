//! Attacks on the runtime from inside containers, images and configurations. Each class carries the letter of the list
//! in `docs/threats.md`; a case passes only when the attack was tried and got nothing.
//!
//! Races take `RACES` rounds (60 by default): more is better, and slower.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "test code"
)]
#![forbid(unsafe_code)]

mod descriptors;
mod ids;
mod locks;
mod masks;
mod own_program;
mod places;
mod proc_files;
mod terminals;

use coracle_tests::*;
use std::process::{Child, Command, Stdio};

/// How many rounds a race takes.
fn rounds(default: u32) -> u32 {
    std::env::var("RACES").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A host process that swaps two names until it is dropped: the neighbour who owns a volume.
struct Swapper(Child);

impl Swapper {
    fn start(one: &std::path::Path, other: &std::path::Path) -> Self {
        let mut command = Command::new(harness::payload());
        command.args(["attack", "swap"]).args([one, other]).arg("300").stdout(Stdio::null());
        Self(bundle::spawn(&mut command).unwrap())
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() -> std::process::ExitCode {
    harness::main(&[
        own_program::CASES,
        descriptors::CASES,
        places::CASES,
        proc_files::CASES,
        masks::CASES,
        terminals::CASES,
        ids::CASES,
        locks::CASES,
        own_program::ALONE,
    ])
}
