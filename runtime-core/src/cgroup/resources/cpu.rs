//! `cpu`: time and placement.

use super::{Absent, Conversion, Target, limit, one_line, or_max, refuse};
use crate::cgroup::error::Refusal;
use crate::spec::{Cpu, Resources};

const SHARES: &str = "/cpu/shares";
const QUOTA: &str = "/cpu/quota";
const PERIOD: &str = "/cpu/period";
const BURST: &str = "/cpu/burst";
const IDLE: &str = "/cpu/idle";

/// Bounds of `cpu.shares` (kernel/sched/sched.h, MIN_SHARES and MAX_SHARES).
const SHARES_RANGE: std::ops::RangeInclusive<u64> = 2..=1 << 18;

/// Weight on version 2 for a share on version 1: 1 for 2, 100 for 1024, 10000 for 262144, quadratic in the logarithm
/// between them (the formula that runc, crun and youki share since 2025). 0 stays 0, "not set".
#[must_use]
pub fn weight_from_shares(shares: u64) -> u64 {
    match shares {
        0 => 0,
        1..=2 => 1,
        262_144.. => 10_000,
        _ => {
            // Exact: shares is below 2^18 here.
            #[allow(clippy::cast_precision_loss)]
            let l = (shares as f64).log2();
            let weight = 10f64.powf((l * l + 125.0 * l) / 612.0 - 7.0 / 34.0).ceil();
            // Between 1 and 10000 by the arms above.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let weight = weight as u64;
            weight.clamp(1, 10_000)
        }
    }
}

pub(super) fn cpu(plan: &mut Conversion<'_>, resources: &Resources) -> Result<(), Refusal> {
    let Some(cpu) = &resources.cpu else { return Ok(()) };
    // The weight before idle: with cpu.idle set the kernel refuses weights.
    if let Some(shares) = cpu.shares.filter(|shares| *shares != 0) {
        let target = plan.controller("cpu", SHARES)?;
        if target.is_v2() {
            plan.push(&target, "cpu.weight", weight_from_shares(shares), SHARES);
        } else if SHARES_RANGE.contains(&shares) {
            plan.push(&target, "cpu.shares", shares, SHARES);
        } else {
            // The kernel would clamp it in silence.
            return Err(refuse(SHARES, format!("{shares} is not between 2 and 262144")));
        }
    }
    bandwidth(plan, cpu)?;
    realtime(plan, cpu)?;
    if let Some(idle) = cpu.idle {
        if !matches!(idle, 0 | 1) {
            return Err(refuse(IDLE, format!("{idle} is neither 0 nor 1")));
        }
        let target = plan.controller("cpu", IDLE)?;
        let write = plan.push(&target, "cpu.idle", idle, IDLE);
        if idle == 0 {
            write.absent = Absent::Skip;
        }
    }
    Ok(())
}

/// Period, quota, burst. What the kernel refuses because another of the three still has its old value is written
/// again after the rest; see `Cgroup::set`.
fn bandwidth(plan: &mut Conversion<'_>, cpu: &Cpu) -> Result<(), Refusal> {
    let period = cpu.period.filter(|period| *period != 0);
    let quota = cpu.quota.filter(|quota| *quota != 0).map(|quota| limit(quota, QUOTA)).transpose()?;
    if let (Some(burst), Some(Some(quota))) = (cpu.burst, quota) {
        if burst > quota {
            return Err(refuse(BURST, format!("{burst} is more than cpu.quota, {quota}")));
        }
    }
    let target = match (quota, period) {
        (Some(_), _) => Some(plan.controller("cpu", QUOTA)?),
        (None, Some(_)) => Some(plan.controller("cpu", PERIOD)?),
        (None, None) => None,
    };
    if let Some(target) = target {
        if target.is_v2() {
            cpu_max(plan, &target, quota, period);
        } else {
            if let Some(period) = period {
                plan.push(&target, "cpu.cfs_period_us", period, PERIOD);
            }
            if let Some(quota) = quota {
                let value = quota.map_or_else(|| "-1".to_owned(), |quota| quota.to_string());
                plan.push(&target, "cpu.cfs_quota_us", value, QUOTA);
            }
        }
    }
    if let Some(burst) = cpu.burst {
        let target = plan.controller("cpu", BURST)?;
        let file = target.file("cpu.cfs_burst_us", "cpu.max.burst");
        let write = plan.push(&target, file, burst, BURST);
        if burst == 0 {
            write.absent = Absent::Skip;
        }
    }
    Ok(())
}

fn cpu_max(plan: &mut Conversion<'_>, target: &Target, quota: Option<Option<u64>>, period: Option<u64>) {
    match (quota, period) {
        // The quota alone leaves the period as it is (Documentation/admin-guide/cgroup-v2.rst, cpu.max).
        (Some(quota), None) => {
            plan.push(target, "cpu.max", or_max(quota), QUOTA);
        }
        (Some(quota), Some(period)) => {
            plan.push(target, "cpu.max", format!("{} {period}", or_max(quota)), QUOTA);
        }
        (None, Some(period)) => {
            plan.push(target, "cpu.max", format!("max {period}"), PERIOD).keep_first_word = true;
        }
        (None, None) => {}
    }
}

fn realtime(plan: &mut Conversion<'_>, cpu: &Cpu) -> Result<(), Refusal> {
    const RUNTIME: &str = "/cpu/realtimeRuntime";
    const RT_PERIOD: &str = "/cpu/realtimePeriod";
    let mut both = Vec::new();
    if let Some(period) = cpu.realtime_period.filter(|period| *period != 0) {
        both.push(("cpu.rt_period_us", period.to_string(), RT_PERIOD));
    }
    if let Some(runtime) = cpu.realtime_runtime.filter(|runtime| *runtime != 0) {
        both.push(("cpu.rt_runtime_us", runtime.to_string(), RUNTIME));
    }
    for (file, value, pointer) in both {
        let target = plan.controller("cpu", pointer)?;
        if target.is_v2() {
            return Err(refuse(pointer, "cgroup version 2 has no realtime limits"));
        }
        plan.push(&target, file, value, pointer);
    }
    Ok(())
}

pub(super) fn cpuset(plan: &mut Conversion<'_>, resources: &Resources) -> Result<(), Refusal> {
    let Some(cpu) = &resources.cpu else { return Ok(()) };
    let lists = [(&cpu.cpus, "cpuset.cpus", "/cpu/cpus"), (&cpu.mems, "cpuset.mems", "/cpu/mems")];
    for (list, file, pointer) in lists {
        let Some(list) = list.as_deref().filter(|list| !list.is_empty()) else { continue };
        one_line(list, pointer)?;
        let target = plan.controller("cpuset", pointer)?;
        plan.push(&target, file, list, pointer);
    }
    Ok(())
}
