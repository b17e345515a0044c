//! Scheduling of processor time and disk access.
//!
//! For: `process.scheduler` and `process.ioPriority`.
//! Must not: ask the kernel. Tests: `tests`.

use super::report::{Place, Report};
use crate::spec::{IoPriority, Scheduler};

/// `SCHED_*` (linux/sched.h). SCHED_ISO is reserved there and not implemented; the specification lists it.
pub(super) const POLICIES: [(&str, u32); 7] = [
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", 1),
    ("SCHED_RR", 2),
    ("SCHED_BATCH", 3),
    ("SCHED_ISO", 4),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", 6),
];

/// `SCHED_FLAG_*` (linux/sched.h).
pub(super) const FLAGS: [(&str, u64); 7] = [
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];

/// `IOPRIO_CLASS_*` (linux/ioprio.h).
pub(super) const IO_CLASSES: [(&str, u16); 3] =
    [("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3), ("IOPRIO_CLASS_RT", 1)];

/// Arguments for sched_setattr(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchedulingPolicy {
    /// `SCHED_*`
    pub policy: u32,
    /// `SCHED_FLAG_*`, joined.
    pub flags: u64,
    /// -20 to 19.
    pub nice: i32,
    /// 1 to 99 with SCHED_FIFO and SCHED_RR, else 0.
    pub priority: u32,
    /// Nanoseconds, with SCHED_DEADLINE.
    pub runtime: u64,
    /// Nanoseconds, with SCHED_DEADLINE.
    pub deadline: u64,
    /// Nanoseconds, with SCHED_DEADLINE.
    pub period: u64,
}

/// Arguments for ioprio_set(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct IoClass {
    /// `IOPRIO_CLASS_*`
    pub class: u16,
    /// 0 to 7.
    pub priority: u16,
}

impl SchedulingPolicy {
    /// As the kernel takes it.
    pub(crate) fn attr(&self) -> coracle_init::SchedAttr {
        let Self { policy, flags, nice, priority, runtime, deadline, period } = *self;
        coracle_init::SchedAttr {
            policy,
            flags,
            nice,
            priority,
            runtime,
            deadline,
            period,
            // The specification has no words for the utilisation clamps.
            ..coracle_init::SchedAttr::default()
        }
    }
}

impl IoClass {
    /// As the kernel takes it: the class above thirteen bits of level.
    pub(crate) fn value(self) -> u32 {
        (u32::from(self.class) << 13) | u32::from(self.priority)
    }
}

const OTHER: u32 = 0;
const FIFO: u32 = 1;
const RR: u32 = 2;
const BATCH: u32 = 3;
const DEADLINE: u32 = 6;

pub(super) fn scheduler(wanted: &Scheduler, at: &Place<'_>, report: &mut Report) -> Option<SchedulingPolicy> {
    let policy = report.word(&at.key("policy"), &wanted.policy, &POLICIES);
    let mut flags = 0;
    for (index, flag) in wanted.flags.iter().enumerate() {
        flags |= report.word(&at.key("flags").index(index), flag, &FLAGS).unwrap_or(0);
    }
    let policy = policy?;
    let (nice, priority) = (wanted.nice.unwrap_or(0), wanted.priority.unwrap_or(0));
    if matches!(policy, OTHER | BATCH) && !(-20..=19).contains(&nice) {
        report.refuse(&at.key("nice"), "value-out-of-range", format!("expects -20 to 19, found {nice}"));
    }
    if matches!(policy, FIFO | RR) {
        if !(1..=99).contains(&priority) {
            let message = format!("expects 1 to 99 for a realtime policy, found {priority}");
            report.refuse(&at.key("priority"), "value-out-of-range", message);
        }
    } else if priority != 0 {
        report.refuse(&at.key("priority"), "scheduler-conflict", "is only for SCHED_FIFO and SCHED_RR");
    }
    let times = [("runtime", wanted.runtime), ("deadline", wanted.deadline), ("period", wanted.period)];
    for (key, time) in times {
        if policy != DEADLINE && time.unwrap_or(0) != 0 {
            report.refuse(&at.key(key), "scheduler-conflict", "is only for SCHED_DEADLINE");
        }
    }
    let [runtime, deadline, period] = times.map(|(_, time)| time.unwrap_or(0));
    let priority = u32::try_from(priority).ok()?;
    Some(SchedulingPolicy { policy, flags, nice, priority, runtime, deadline, period })
}

pub(super) fn io_priority(wanted: &IoPriority, at: &Place<'_>, report: &mut Report) -> Option<IoClass> {
    let class = report.word(&at.key("class"), &wanted.class, &IO_CLASSES);
    let given = wanted.priority.unwrap_or_default();
    let priority = u16::try_from(given).ok().filter(|priority| *priority <= 7);
    if priority.is_none() {
        let message = format!("expects 0 to 7, found {given}");
        report.refuse(&at.key("priority"), "value-out-of-range", message);
    }
    Some(IoClass { class: class?, priority: priority? })
}
