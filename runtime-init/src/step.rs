//! What each step does, by subject.

pub(crate) mod exec;
pub mod hook;
pub(crate) mod ns;
