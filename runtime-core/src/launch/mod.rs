//! The parent half of start-up: the only place that sees both the plan and the child.

mod answer;
pub(crate) mod channel;
pub(crate) mod create;
pub(crate) mod diagnose;
pub(crate) mod explain;
pub(crate) mod gate;
pub(crate) mod hook;
mod idmap;
pub(crate) mod listener;
mod netdev;
mod netlink;
pub(crate) mod network;
pub(crate) mod notify;
mod open;
mod placeholder;
mod reach;
mod refused;
pub(crate) mod session;
