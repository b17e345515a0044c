//! What a container's resources are after an update, and which files that changes.
//!
//! An update says what is to be different; what it does not name stays. Zero means "not named" where it means "not set" in a
//! configuration. Lists are sets here: an entry replaces the one about the same device, page size or interface.
//! Must not: convert values (the conversion of the whole does), look at files. Tests: at the end of the file.

use super::{RESOURCES, Write, plan_update};
use crate::cgroup::error::Refusal;
use crate::cgroup::layout::Layout;
use crate::spec::{BlockIo, Cpu, DeviceRule, Memory, Network, Resources};

/// The writes of an update, in order, and the resources that the container has afterwards.
#[derive(Debug)]
pub(crate) struct Changed {
    pub(crate) writes: Vec<Write>,
    pub(crate) resources: Resources,
}

/// Converts an update for a container that has `had`. Values are converted together with what the container has already: version 2
/// counts swap alone, so a new memory limit changes the swap limit too.
///
/// # Errors
/// As [`super::plan`]; the pointer may name a property that the update leaves alone but that the new values contradict.
pub(crate) fn changed(had: &Resources, change: &Resources, layout: &Layout) -> Result<Changed, Refusal> {
    let resources = merged(had, change);
    // What was had may have been written on another machine's word; then all of it is new.
    let before = plan_update(had, layout).unwrap_or_default();
    let named = serde_json::to_value(change).unwrap_or_default();
    let is_named = |write: &Write| {
        write.pointer.strip_prefix(RESOURCES).is_some_and(|pointer| named.pointer(pointer).is_some())
    };
    let is_new = |write: &Write| {
        !before.iter().any(|old| {
            (&old.hierarchy, &old.file, &old.value) == (&write.hierarchy, &write.file, &write.value)
        })
    };
    let mut writes = plan_update(&resources, layout)?;
    writes.retain(|write| is_named(write) || is_new(write));
    Ok(Changed { writes, resources })
}

/// Whether an update speaks of devices. A lone "deny everything" is what Podman sends with every update, whatever the container's
/// rules are; it means "as it is".
pub(crate) fn names_devices(change: &Resources) -> bool {
    let is_default = |rule: &DeviceRule| {
        let any = |text: &Option<String>| matches!(text.as_deref(), None | Some("" | "a"));
        let all = |number: Option<i64>| matches!(number, None | Some(-1));
        !rule.allow && any(&rule.kind) && all(rule.major) && all(rule.minor)
    };
    match change.devices.as_slice() {
        [] => false,
        [one] => !is_default(one),
        _ => true,
    }
}

fn merged(had: &Resources, change: &Resources) -> Resources {
    let mut all = had.clone();
    if let Some(change) = &change.memory {
        memory(all.memory.get_or_insert_default(), change);
    }
    if let Some(change) = &change.cpu {
        cpu(all.cpu.get_or_insert_default(), change);
    }
    if let Some(change) = &change.pids {
        pick(&mut all.pids.get_or_insert_default().limit, change.limit.as_ref(), |_| true);
    }
    if let Some(change) = &change.block_io {
        block_io(all.block_io.get_or_insert_default(), change);
    }
    if let Some(change) = &change.network {
        let to: &mut Network = all.network.get_or_insert_default();
        pick(&mut to.class_id, change.class_id.as_ref(), |class| *class != 0);
        list(&mut to.priorities, &change.priorities, |one| one.name.clone());
    }
    list(&mut all.hugepage_limits, &change.hugepage_limits, |one| one.page_size.clone());
    for (device, limits) in &change.rdma {
        let to = all.rdma.entry(device.clone()).or_default();
        pick(&mut to.hca_handles, limits.hca_handles.as_ref(), |_| true);
        pick(&mut to.hca_objects, limits.hca_objects.as_ref(), |_| true);
    }
    all.unified.extend(change.unified.iter().map(|(file, value)| (file.clone(), value.clone())));
    if names_devices(change) {
        all.devices.clone_from(&change.devices);
    }
    all
}

fn pick<T: Clone>(to: &mut Option<T>, from: Option<&T>, is_set: impl Fn(&T) -> bool) {
    if let Some(value) = from.filter(|value| is_set(value)) {
        *to = Some(value.clone());
    }
}

/// Those of the change first and in their order, so that places in the result are places in the update's document.
fn list<T: Clone, K: PartialEq>(to: &mut Vec<T>, change: &[T], key: impl Fn(&T) -> K) {
    let kept = to.iter().filter(|old| !change.iter().any(|new| key(new) == key(old)));
    *to = change.iter().chain(kept).cloned().collect();
}

fn memory(to: &mut Memory, change: &Memory) {
    let not_zero = |value: &i64| *value != 0;
    let swap_is_named = change.swap.is_some_and(|swap| swap != 0);
    if change.limit == Some(-1) && !swap_is_named {
        // No limit, with swap not named, means both (as in a configuration).
        to.swap = None;
    }
    pick(&mut to.limit, change.limit.as_ref(), not_zero);
    pick(&mut to.reservation, change.reservation.as_ref(), not_zero);
    pick(&mut to.swap, change.swap.as_ref(), not_zero);
    pick(&mut to.kernel, change.kernel.as_ref(), not_zero);
    pick(&mut to.kernel_tcp, change.kernel_tcp.as_ref(), not_zero);
    pick(&mut to.swappiness, change.swappiness.as_ref(), |value| *value != u64::MAX);
    pick(&mut to.disable_oom_killer, change.disable_oom_killer.as_ref(), |_| true);
    pick(&mut to.use_hierarchy, change.use_hierarchy.as_ref(), |_| true);
    pick(&mut to.check_before_update, change.check_before_update.as_ref(), |_| true);
}

fn cpu(to: &mut Cpu, change: &Cpu) {
    pick(&mut to.shares, change.shares.as_ref(), |value| *value != 0);
    pick(&mut to.quota, change.quota.as_ref(), |value| *value != 0);
    pick(&mut to.period, change.period.as_ref(), |value| *value != 0);
    pick(&mut to.burst, change.burst.as_ref(), |_| true);
    pick(&mut to.realtime_runtime, change.realtime_runtime.as_ref(), |value| *value != 0);
    pick(&mut to.realtime_period, change.realtime_period.as_ref(), |value| *value != 0);
    pick(&mut to.cpus, change.cpus.as_ref(), |list| !list.is_empty());
    pick(&mut to.mems, change.mems.as_ref(), |list| !list.is_empty());
    pick(&mut to.idle, change.idle.as_ref(), |_| true);
}

fn block_io(to: &mut BlockIo, change: &BlockIo) {
    pick(&mut to.weight, change.weight.as_ref(), |weight| *weight != 0);
    pick(&mut to.leaf_weight, change.leaf_weight.as_ref(), |weight| *weight != 0);
    list(&mut to.weight_device, &change.weight_device, |one| (one.major, one.minor));
    for (to, change) in [
        (&mut to.throttle_read_bps_device, &change.throttle_read_bps_device),
        (&mut to.throttle_write_bps_device, &change.throttle_write_bps_device),
        (&mut to.throttle_read_iops_device, &change.throttle_read_iops_device),
        (&mut to.throttle_write_iops_device, &change.throttle_write_iops_device),
    ] {
        list(to, change, |one| (one.major, one.minor));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(json: &str) -> Resources {
        serde_json::from_str(json).unwrap()
    }

    fn unified() -> Layout {
        serde_json::from_str(
            r#"{"hierarchies": [{"version": "v2", "mount": "/sys/fs/cgroup", "writable": "",
                "controllers": ["cpu", "memory", "pids", "io", "hugetlb"]}]}"#,
        )
        .unwrap()
    }

    fn lines(had: &str, change: &str) -> Vec<String> {
        let changed = changed(&resources(had), &resources(change), &unified()).unwrap();
        changed.writes.iter().map(|write| format!("{} {}", write.file, write.value)).collect()
    }

    #[test]
    fn only_what_is_named_or_follows_from_it_is_written() {
        let had = r#"{"memory": {"limit": 1000, "swap": 3000}, "cpu": {"quota": 5000, "period": 10000}, "pids": {"limit": 5}}"#;
        assert_eq!(lines(had, "{}"), [""; 0]);
        assert_eq!(lines(had, r#"{"pids": {"limit": 5}}"#), ["pids.max 5"], "named, though it is the same");
        assert_eq!(
            lines(had, r#"{"memory": {"limit": 2000}}"#),
            ["memory.max 2000", "memory.swap.max 1000"],
            "the sum stays"
        );
        assert_eq!(lines(had, r#"{"memory": {"swap": 1500}}"#), ["memory.swap.max 500"]);
        assert_eq!(lines(had, r#"{"memory": {"limit": -1}}"#), ["memory.max max", "memory.swap.max max"]);
        assert_eq!(lines(had, r#"{"cpu": {"period": 20000}}"#), ["cpu.max 5000 20000"]);
        assert_eq!(lines(had, r#"{"cpu": {"quota": -1, "period": 0}}"#), ["cpu.max max 10000"]);
        assert_eq!(lines("{}", r#"{"cpu": {"period": 20000}}"#), ["cpu.max max 20000"]);
        let contradicts =
            changed(&resources(had), &resources(r#"{"memory": {"limit": 9000}}"#), &unified()).unwrap_err();
        assert_eq!(contradicts.pointer, "/linux/resources/memory/swap");
    }

    #[test]
    fn entries_replace_those_about_the_same_thing() {
        let had = r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 1}, {"pageSize": "1GB", "limit": 2}],
            "blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 5}, {"major": 8, "minor": 1, "rate": 6}]},
            "unified": {"memory.high": "5", "memory.low": "1"}}"#;
        let change = r#"{"hugepageLimits": [{"pageSize": "1GB", "limit": 3}],
            "blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 1, "rate": 7}]},
            "unified": {"memory.high": "9"}}"#;
        assert_eq!(
            lines(had, change),
            ["io.max 8:1 rbps=7", "hugetlb.1GB.rsvd.max 3", "hugetlb.1GB.max 3", "memory.high 9"]
        );
        let all = changed(&resources(had), &resources(change), &unified()).unwrap().resources;
        assert_eq!(all.hugepage_limits.len(), 2);
        assert_eq!(all.unified["memory.low"], "1");
    }

    #[test]
    fn a_lone_deny_all_says_nothing_about_devices() {
        let had = resources(
            r#"{"devices": [{"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"}]}"#,
        );
        let podman = resources(r#"{"devices": [{"allow": false, "access": "rwm"}], "pids": {"limit": 3}}"#);
        assert!(!names_devices(&podman));
        assert_eq!(merged(&had, &podman).devices, had.devices);
        let one = resources(
            r#"{"devices": [{"allow": false, "type": "c", "major": 10, "minor": 229, "access": "rw"}]}"#,
        );
        assert!(names_devices(&one));
        assert_eq!(merged(&had, &one).devices, one.devices);
    }
}
