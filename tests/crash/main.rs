//! The runtime is killed with SIGKILL at every system call and at random moments, and its state directory is full, read-only or
//! broken. Afterwards `delete --force` works and nothing of the container is left.
//!
//! `cargo test -p coracle-tests --test crash [-- WORD...]`, with `RUNTIME` as for the other suites. `CRASH_SEED` repeats a run,
//! `CRASH_STEP` takes every n-th system call (1: all of them), `CRASH_ROUNDS` says how many random moments.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "test code"
)]
#![forbid(unsafe_code)]

mod disk;
mod moments;
mod records;
mod steps;
mod subject;

fn main() -> std::process::ExitCode {
    coracle_tests::harness::main(&[disk::CASES, records::CASES, steps::ALONE, moments::ALONE])
}
