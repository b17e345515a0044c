//! What engines called, once more: the calls that Docker, containerd, its CRI plugin and Podman made for a scenario, in their order and
//! with their flags, and the configurations that they wrote. Only places of the host are others: bundles, sources of mounts, sockets.
//!
//! The calls are `tests/data/engines`, the documents `tests/plans/recorded` (which the golden plans read, too). Must not: change a flag,
//! but `--systemd-cgroup` where no systemd is: there the same scenario runs with the control groups' files.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "test code"
)]
#![forbid(unsafe_code)]

mod adapt;
mod answers;
mod engines;
mod ordinary;
mod scenario;

fn main() -> std::process::ExitCode {
    coracle_tests::harness::main(&[engines::CASES])
}
