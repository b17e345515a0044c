//! How the kernel treats a process among others: processor, disk, memory nodes, execution domain.

use rustix::io::Errno;

use super::{at, call, fd_arg, id_arg, plain};

/// `struct sched_attr` as far as utilisation clamps (`SCHED_ATTR_SIZE_VER1`, Linux 5.3).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchedAttr {
    /// Bytes of this struct; set by [`set_scheduler`].
    pub size: u32,
    /// `SCHED_*`
    pub policy: u32,
    /// `SCHED_FLAG_*`
    pub flags: u64,
    /// For SCHED_OTHER and SCHED_BATCH.
    pub nice: i32,
    /// For SCHED_FIFO and SCHED_RR.
    pub priority: u32,
    /// For SCHED_DEADLINE, nanoseconds.
    pub runtime: u64,
    /// For SCHED_DEADLINE, nanoseconds.
    pub deadline: u64,
    /// For SCHED_DEADLINE, nanoseconds.
    pub period: u64,
    /// Lowest utilisation.
    pub util_min: u32,
    /// Highest utilisation.
    pub util_max: u32,
}

/// sched_setattr(2) of the process `pid`, 0 for the calling thread.
///
/// # Errors
/// EPERM, EINVAL, EBUSY, EOPNOTSUPP: see the manual page.
pub fn set_scheduler(pid: i32, attr: &SchedAttr) -> Result<(), Errno> {
    let attr = SchedAttr { size: u32::try_from(size_of::<SchedAttr>()).unwrap_or(0), ..*attr };
    // SAFETY: a `struct sched_attr` of the size that its first field says; the kernel writes that size back when it knows fewer
    // fields, into this copy.
    unsafe { call(libc::SYS_sched_setattr, [fd_arg(pid), at(&attr), 0, 0, 0, 0]) }.map(drop)
}

/// ioprio_set(IOPRIO_WHO_PROCESS) of the process `pid`, 0 for the calling thread; `value` is class and level as the kernel joins them.
///
/// # Errors
/// EPERM for a realtime class without CAP_SYS_NICE or CAP_SYS_ADMIN in the initial user namespace.
pub fn set_io_priority(pid: i32, value: u32) -> Result<(), Errno> {
    const IOPRIO_WHO_PROCESS: usize = 1;
    plain(libc::SYS_ioprio_set, [IOPRIO_WHO_PROCESS, fd_arg(pid), id_arg(value), 0, 0, 0]).map(drop)
}

/// personality(2): the domain that was set before.
pub(crate) fn personality(domain: u32) -> Result<usize, Errno> {
    plain(libc::SYS_personality, [id_arg(domain), 0, 0, 0, 0, 0])
}

/// set_mempolicy(2) of this thread; `nodes` holds whole machine words, or nothing.
pub(crate) fn set_memory_policy(mode: u32, nodes: &[u8]) -> Result<(), Errno> {
    let address = if nodes.is_empty() { 0 } else { at(nodes) };
    // The kernel looks at one bit less than it is told.
    let bits = if nodes.is_empty() { 0 } else { nodes.len().saturating_mul(8).saturating_add(1) };
    // SAFETY: the kernel reads the words that hold `bits - 1` bits: the slice, whose length the caller made whole words.
    unsafe { call(libc::SYS_set_mempolicy, [id_arg(mode), address, bits, 0, 0, 0]) }.map(drop)
}
