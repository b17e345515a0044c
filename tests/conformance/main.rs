//! The runtime specification 1.3, sentence by sentence, as real containers: what a runtime for Linux must do, proven on any runtime
//! (`RUNTIME=`) by what the process inside sees or by a refusal that leaves nothing.
//!
//! `--rules` prints the cases with their sentences, for the table in `docs/conformance.md` (`cargo xtask conformance`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "test code"
)]
#![forbid(unsafe_code)]

mod bundles;
mod coverage;
mod mounts;
mod options;
mod process;
mod rule;

use rule::Area;

/// In the order of the specification.
const AREAS: &[Area] = &[
    Area { name: "bundles", rules: bundles::RULES },
    Area { name: "mounts", rules: mounts::RULES },
    Area { name: "options", rules: options::RULES },
    Area { name: "process", rules: process::RULES },
];

fn main() -> std::process::ExitCode {
    if std::env::args().any(|word| word == "--rules") {
        for area in AREAS {
            for rule in area.rules {
                println!("{}::{}\t{}\t{}", area.name, rule.name, rule.at, rule.says);
            }
        }
        return std::process::ExitCode::SUCCESS;
    }
    coracle_tests::harness::main(&[rule::cases(), coverage::CASES])
}
