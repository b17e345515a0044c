//! `memory`.
//!
//! The specification's `swap` is memory and swap together, as version 1 counts; version 2 counts swap alone.

use super::{Absent, Conversion, Target, limit, or_max, refuse};
use crate::cgroup::error::Refusal;
use crate::spec::{Memory, Resources};

const LIMIT: &str = "/memory/limit";
const SWAP: &str = "/memory/swap";

pub(super) fn memory(plan: &mut Conversion<'_>, resources: &Resources) -> Result<(), Refusal> {
    let Some(memory) = &resources.memory else { return Ok(()) };
    let limit = memory.limit.filter(|limit| *limit != 0);
    let swap = memory.swap.filter(|swap| *swap != 0);
    check_swap(limit, swap)?;
    if let Some(bytes) = limit {
        let target = plan.controller("memory", LIMIT)?;
        write_limit(plan, &target, memory, bytes)?;
        // Unlimited memory with swap not named means both: memory.limit of -1 would else leave the old sum in force.
        if bytes == -1 && swap.is_none() {
            let file = target.file("memory.memsw.limit_in_bytes", "memory.swap.max");
            let none = if target.is_v2() { "max" } else { "-1" };
            plan.push(&target, file, none, LIMIT).absent = Absent::Skip;
        }
    }
    if let Some(sum) = swap {
        let target = plan.controller("memory", SWAP)?;
        write_swap(plan, &target, memory, limit, sum)?;
    }
    if let Some(bytes) = memory.reservation.filter(|bytes| *bytes != 0) {
        reservation(plan, bytes)?;
    }
    kernel(plan, memory)?;
    switches(plan, memory)
}

fn check_swap(memory: Option<i64>, swap: Option<i64>) -> Result<(), Refusal> {
    let Some(sum) = swap.and_then(|swap| limit(swap, SWAP).transpose()).transpose()? else { return Ok(()) };
    match memory.map(|bytes| limit(bytes, LIMIT)).transpose()? {
        None => Err(refuse(SWAP, "is memory and swap together and needs memory.limit")),
        Some(Some(bytes)) if sum < bytes => Err(refuse(
            SWAP,
            format!("{sum} is memory and swap together and is less than memory.limit, {bytes}"),
        )),
        Some(_) => Ok(()),
    }
}

fn write_limit(
    plan: &mut Conversion<'_>,
    target: &Target,
    memory: &Memory,
    bytes: i64,
) -> Result<(), Refusal> {
    let value = limit(bytes, LIMIT)?;
    let check = memory.check_before_update == Some(true) && value.is_some();
    let write = if target.is_v2() {
        plan.push(target, "memory.max", or_max(value), LIMIT)
    } else {
        plan.push(target, "memory.limit_in_bytes", bytes, LIMIT)
    };
    if check {
        write.not_below = Some(usage(target).to_owned());
    }
    Ok(())
}

fn usage(target: &Target) -> &'static str {
    target.file("memory.usage_in_bytes", "memory.current")
}

fn write_swap(
    plan: &mut Conversion<'_>,
    target: &Target,
    memory: &Memory,
    memory_limit: Option<i64>,
    sum: i64,
) -> Result<(), Refusal> {
    let total = limit(sum, SWAP)?;
    if !target.is_v2() {
        let write = plan.push(target, "memory.memsw.limit_in_bytes", sum, SWAP);
        if total.is_none() {
            write.absent = Absent::Skip;
        } else if memory.check_before_update == Some(true) {
            write.not_below = Some("memory.memsw.usage_in_bytes".to_owned());
        }
        return Ok(());
    }
    // With unlimited memory there is nothing to take off: the sum is taken as swap alone, as runc does.
    let bytes = memory_limit.map(|bytes| limit(bytes, LIMIT)).transpose()?.flatten().unwrap_or(0);
    let swap = total.map(|total| total.saturating_sub(bytes));
    let write = plan.push(target, "memory.swap.max", or_max(swap), SWAP);
    write.absent = match swap {
        None => Absent::Skip,
        Some(0) => Absent::SkipWithoutSwap,
        Some(_) => Absent::Error,
    };
    Ok(())
}

fn reservation(plan: &mut Conversion<'_>, bytes: i64) -> Result<(), Refusal> {
    const POINTER: &str = "/memory/reservation";
    let target = plan.controller("memory", POINTER)?;
    let value = limit(bytes, POINTER)?;
    if target.is_v2() {
        plan.push(&target, "memory.low", or_max(value), POINTER);
    } else {
        plan.push(&target, "memory.soft_limit_in_bytes", bytes, POINTER);
    }
    Ok(())
}

/// Kernel memory: version 1 only, and there only where the kernel still limits it apart.
fn kernel(plan: &mut Conversion<'_>, memory: &Memory) -> Result<(), Refusal> {
    let limits = [
        (memory.kernel, "memory.kmem.limit_in_bytes", "/memory/kernel"),
        (memory.kernel_tcp, "memory.kmem.tcp.limit_in_bytes", "/memory/kernelTCP"),
    ];
    for (value, file, pointer) in limits {
        let Some(bytes) = value.filter(|bytes| !matches!(bytes, 0 | -1)) else { continue };
        limit(bytes, pointer)?;
        let target = plan.controller("memory", pointer)?;
        if target.is_v2() {
            return Err(refuse(pointer, "cgroup version 2 has no limit for kernel memory alone"));
        }
        plan.push(&target, file, bytes, pointer).may_be_ignored = true;
    }
    Ok(())
}

fn switches(plan: &mut Conversion<'_>, memory: &Memory) -> Result<(), Refusal> {
    const SWAPPINESS: &str = "/memory/swappiness";
    const OOM: &str = "/memory/disableOOMKiller";
    const TREE: &str = "/memory/useHierarchy";
    // Engines write -1 into the unsigned field for "not set".
    if let Some(value) = memory.swappiness.filter(|value| *value != u64::MAX) {
        if value > 100 {
            return Err(refuse(SWAPPINESS, format!("{value} is not between 0 and 100")));
        }
        let target = plan.controller("memory", SWAPPINESS)?;
        if target.is_v2() {
            return Err(refuse(SWAPPINESS, "cgroup version 2 has no swappiness"));
        }
        plan.push(&target, "memory.swappiness", value, SWAPPINESS);
    }
    if memory.disable_oom_killer == Some(true) {
        let target = plan.controller("memory", OOM)?;
        if target.is_v2() {
            return Err(refuse(OOM, "cgroup version 2 cannot switch the OOM killer off"));
        }
        plan.push(&target, "memory.oom_control", 1, OOM);
    } else if memory.disable_oom_killer == Some(false) && plan.defaults {
        let target = plan.controller("memory", OOM)?;
        if !target.is_v2() {
            plan.push(&target, "memory.oom_control", 0, OOM);
        }
    }
    if let Some(tree) = memory.use_hierarchy {
        let target = plan.controller("memory", TREE)?;
        match (target.is_v2(), tree) {
            (true, true) => {}
            (true, false) => return Err(refuse(TREE, "cgroup version 2 always counts children")),
            (false, _) => {
                plan.push(&target, "memory.use_hierarchy", u8::from(tree), TREE);
            }
        }
    }
    Ok(())
}
