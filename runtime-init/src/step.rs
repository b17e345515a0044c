//! What each step does, by subject.

pub(crate) mod attr;
pub(crate) mod copy;
pub(crate) mod cred;
pub(crate) mod dev;
pub(crate) mod exec;
pub(crate) mod file;
pub(crate) mod filter;
pub mod hook;
pub(crate) mod label;
pub(crate) mod limits;
pub(crate) mod mask;
pub(crate) mod mount;
pub(crate) mod ns;

pub(crate) mod root;
pub mod sched;
pub(crate) mod terminal;

pub use attr::map_tree_ids;
pub use ns::raise_loopback;
