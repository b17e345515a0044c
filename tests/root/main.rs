//! The suites that run as root.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "test code"
)]
#![forbid(unsafe_code)]

mod exec;
mod lifecycle;
mod process;

fn main() -> std::process::ExitCode {
    coracle_tests::harness::main(&[lifecycle::CASES, exec::CASES, process::CASES])
}
