//! The suite of an ordinary user: no privilege on the machine, a user namespace with one id.
//!
//! Started by root it becomes an ordinary user first, with copies of the programs that this user can reach.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "test code"
)]
#![forbid(unsafe_code)]

mod life;
mod limits;
mod sight;

fn main() -> std::process::ExitCode {
    coracle_tests::harness::main_as_user(&[life::CASES, sight::CASES, limits::CASES])
}
