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
mod cgroups;
mod coverage;
mod devices;
mod features;
mod hooks;
mod identity;
mod idmaps;
mod mounts;
mod namespaces;
mod network;
mod operations;
mod options;
mod paths;
mod process;
mod resources;
mod rule;
mod scheduling;
mod seccomp;

use rule::Area;

/// In the order of the specification.
const AREAS: &[Area] = &[
    Area { name: "operations", rules: &[operations::RULES] },
    Area { name: "bundles", rules: &[bundles::RULES] },
    Area { name: "mounts", rules: &[mounts::RULES] },
    Area { name: "options", rules: &[options::RULES] },
    Area { name: "idmaps", rules: &[idmaps::RULES] },
    Area { name: "process", rules: &[process::RULES] },
    Area { name: "identity", rules: &[identity::RULES] },
    Area { name: "scheduling", rules: &[scheduling::RULES] },
    Area { name: "hooks", rules: &hooks::RULES },
    Area { name: "namespaces", rules: &[namespaces::RULES] },
    Area { name: "devices", rules: &[devices::RULES] },
    Area { name: "network", rules: &[network::RULES] },
    Area { name: "cgroups", rules: &[cgroups::RULES] },
    Area { name: "resources", rules: &[resources::RULES] },
    Area { name: "seccomp", rules: &[seccomp::RULES] },
    Area { name: "paths", rules: &[paths::RULES] },
    Area { name: "features", rules: &[features::RULES] },
];

fn main() -> std::process::ExitCode {
    if std::env::args().any(|word| word == "--rules") {
        for (area, rule) in rule::all() {
            println!("{}::{}\t{}\t{}", area.name, rule.name, rule.at, rule.says);
        }
        return std::process::ExitCode::SUCCESS;
    }
    coracle_tests::harness::main(&[rule::cases(), coverage::CASES])
}
