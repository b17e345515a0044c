//! Control groups: where a container's processes are counted, limited, frozen and killed.
//!
//! Two halves. Pure: [`Layout`] (a host as a value) and [`CgroupPlan::new`] (what will be made and written, or why
//! not). With side effects: [`CgroupPlan::make`] and [`Cgroup`], which is open directories and never a path that is
//! walked again: every name is opened below a verified mount point, without symlinks, without crossing mounts.
//!
//! A process enters a container's cgroup by being born into [`Cgroup::into_cgroup_fd`] and, where version 1
//! hierarchies exist, by writing itself to each of [`Cgroup::joins`].
//!
//! Must not: move processes by number where a process can be born into its cgroup; touch directories it did not make
//! except to write what was asked for.
//! Tests: beside each file; `tests` has the native ones, which work in sub-cgroups of their own and remove them.

pub mod devices;
mod dir;
mod error;
mod freeze;
mod group;
pub mod layout;
mod make;
pub mod path;
pub(crate) mod place;
mod plan;
mod remove;
pub mod resources;
mod set;
mod stats;
#[doc(hidden)]
pub mod systemd;
#[cfg(test)]
mod tests;
pub(crate) mod update;
pub(crate) mod watch;

pub use error::{CgroupError, Refusal};
pub use freeze::Frozen;
pub use group::{Cgroup, CgroupRecord};
pub use layout::Layout;
pub(crate) use make::take_back;
pub use path::CgroupPath;
pub(crate) use plan::UnitPlan;
pub use plan::{CgroupPlan, DevicesPlan, DirectoryPlan};
pub use resources::Write;
pub use stats::{
    CpuStats, CpusetStats, HugetlbStats, IoEntry, IoStats, MemoryStats, MemoryUse, PidsStats, Pressure,
    Stall, Stats,
};
