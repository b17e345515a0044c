//! `pids`, `hugepageLimits`, `rdma`, `network`.

use super::{Absent, Conversion, limit, or_max, refuse};
use crate::cgroup::error::Refusal;
use crate::cgroup::layout::Version;
use crate::spec::{Resources, push_token};

pub(super) fn pids(plan: &mut Conversion<'_>, resources: &Resources) -> Result<(), Refusal> {
    const POINTER: &str = "/pids/limit";
    let Some(value) = resources.pids.as_ref().and_then(|pids| pids.limit) else { return Ok(()) };
    // 0 is a limit: init and nothing beside it. As a number for the kernel that is 1, for init has to be born into
    // the cgroup (and systemd's TasksMax cannot be 0).
    let value = limit(value, POINTER)?.map(|tasks| tasks.max(1));
    let target = plan.controller("pids", POINTER)?;
    plan.push(&target, "pids.max", or_max(value), POINTER);
    Ok(())
}

/// Reservations first: they are what makes mmap fail early; a kernel without them (before 5.7) limits faults alone,
/// which the specification allows.
pub(super) fn hugepages(plan: &mut Conversion<'_>, resources: &Resources) -> Result<(), Refusal> {
    for (index, entry) in resources.hugepage_limits.iter().enumerate() {
        let pointer = format!("/hugepageLimits/{index}");
        let size = &entry.page_size;
        if !is_page_size(size) {
            let at = format!("{pointer}/pageSize");
            return Err(refuse(&at, format!("{size:?} is no page size like 2MB or 1GB")));
        }
        let target = plan.controller("hugetlb", &pointer)?;
        let end = target.file("limit_in_bytes", "max");
        plan.push(&target, &format!("hugetlb.{size}.rsvd.{end}"), entry.limit, &pointer).absent =
            Absent::Skip;
        plan.push(&target, &format!("hugetlb.{size}.{end}"), entry.limit, &pointer);
    }
    Ok(())
}

fn is_page_size(size: &str) -> bool {
    let digits = ["KB", "MB", "GB"].iter().find_map(|unit| size.strip_suffix(unit));
    digits.is_some_and(|digits| {
        !digits.is_empty()
            && digits.len() <= 6
            && !digits.starts_with('0')
            && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

pub(super) fn rdma(plan: &mut Conversion<'_>, resources: &Resources) -> Result<(), Refusal> {
    for (device, limits) in &resources.rdma {
        let mut pointer = "/rdma".to_owned();
        push_token(&mut pointer, device);
        if device.is_empty() || device.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(refuse(&pointer, "is no device name"));
        }
        let mut value = device.clone();
        for (key, number) in [("hca_handle", limits.hca_handles), ("hca_object", limits.hca_objects)] {
            if let Some(number) = number {
                value.push_str(&format!(" {key}={number}"));
            }
        }
        if value == *device {
            return Err(refuse(&pointer, "sets neither hcaHandles nor hcaObjects"));
        }
        let target = plan.controller("rdma", &pointer)?;
        plan.push(&target, "rdma.max", value, &pointer);
    }
    Ok(())
}

/// Version 1 only; version 2 hosts do this with eBPF or netfilter, from outside.
pub(super) fn network(plan: &mut Conversion<'_>, resources: &Resources) -> Result<(), Refusal> {
    const CLASS: &str = "/network/classID";
    let Some(network) = &resources.network else { return Ok(()) };
    if let Some(class) = network.class_id.filter(|class| *class != 0) {
        let target = v1_only(plan, "net_cls", CLASS)?;
        plan.push(&target, "net_cls.classid", class, CLASS);
    }
    for (index, priority) in network.priorities.iter().enumerate() {
        let pointer = format!("/network/priorities/{index}");
        let name = &priority.name;
        if name.is_empty() || name.chars().any(|c| c.is_control() || c.is_whitespace() || c == '/') {
            return Err(refuse(&format!("{pointer}/name"), format!("{name:?} is no interface name")));
        }
        let target = v1_only(plan, "net_prio", &pointer)?;
        plan.push(&target, "net_prio.ifpriomap", format!("{name} {}", priority.priority), &pointer);
    }
    Ok(())
}

fn v1_only(plan: &Conversion<'_>, controller: &str, pointer: &str) -> Result<super::Target, Refusal> {
    let is_there =
        plan.layout.hierarchies.iter().any(|one| one.version == Version::V1 && one.has(controller));
    if is_there {
        return plan.controller(controller, pointer);
    }
    Err(refuse(
        pointer,
        format!("needs the {controller} controller of cgroup version 1, which is not mounted"),
    ))
}
