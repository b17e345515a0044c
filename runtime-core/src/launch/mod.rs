//! The parent half of start-up: the only place that sees both the plan and the child.

pub(crate) mod channel;
pub(crate) mod gate;
