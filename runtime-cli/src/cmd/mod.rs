//! One file per command. Each reads its flags, calls the library, prints.

pub mod check;
pub mod features;
pub mod help;
pub mod spec;
