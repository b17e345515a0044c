//! Limits of the cgroup, as far as a document alone can be wrong.
//!
//! For: `linux.resources`, and `update`'s document.
//! Must not: convert values or know what version of control groups the machine has; `cgroup` does. What is checked here
//! would go wrong on every machine, or write something else than was meant.
//! Tests: `tests`.

use super::lists::is_cpuset_text;
use super::report::{Place, Report, shown};
use super::{MOST_ENTRIES, devices};
use crate::spec::{BlockIo, Cpu, HugepageLimit, Memory, Network, Rdma, Resources};

pub(super) fn resources(
    resources: &Resources,
    at: &Place<'_>,
    report: &mut Report,
) -> Vec<devices::ValidDeviceRule> {
    if let Some(it) = &resources.memory {
        memory(it, &at.key("memory"), report);
    }
    if let Some(it) = &resources.cpu {
        cpu(it, &at.key("cpu"), report);
    }
    if let Some(it) = &resources.block_io {
        block_io(it, &at.key("blockIO"), report);
    }
    if let Some(it) = &resources.network {
        network(it, &at.key("network"), report);
    }
    huge_pages(&resources.hugepage_limits, &at.key("hugepageLimits"), report);
    let rdma_at = at.key("rdma");
    for (device, limits) in &resources.rdma {
        rdma(device, limits, &rdma_at.key(device), report);
    }
    let unified_at = at.key("unified");
    for (file, value) in &resources.unified {
        unified(file, value, &unified_at.key(file), report);
    }
    devices::device_rules(&resources.devices, &at.key("devices"), report)
}

fn memory(memory: &Memory, at: &Place<'_>, report: &mut Report) {
    for (key, bytes) in [
        ("limit", memory.limit),
        ("reservation", memory.reservation),
        ("swap", memory.swap),
        ("kernel", memory.kernel),
        ("kernelTCP", memory.kernel_tcp),
    ] {
        if let Some(bytes) = bytes.filter(|bytes| *bytes < -1) {
            let message = format!("expects bytes, or -1 for no limit, found {bytes}");
            report.refuse(&at.key(key), "value-out-of-range", message);
        }
    }
    if let Some(value) = memory.swappiness.filter(|value| *value > 100) {
        report.refuse(
            &at.key("swappiness"),
            "value-out-of-range",
            format!("expects 0 to 100, found {value}"),
        );
    }
}

fn cpu(cpu: &Cpu, at: &Place<'_>, report: &mut Report) {
    for (key, list) in [("cpus", &cpu.cpus), ("mems", &cpu.mems)] {
        if let Some(list) = list.as_deref().filter(|list| !is_cpuset_text(list)) {
            let message = format!("expects a list like 0-3,7, found {}", shown(list));
            report.refuse(&at.key(key), "cpu-list", message);
        }
    }
    if let Some(idle) = cpu.idle.filter(|idle| !matches!(idle, 0 | 1)) {
        report.refuse(&at.key("idle"), "value-out-of-range", format!("expects 0 or 1, found {idle}"));
    }
    if let (Some(burst), Some(quota)) = (cpu.burst, cpu.quota.and_then(|quota| u64::try_from(quota).ok())) {
        if quota > 0 && burst > quota {
            let message = format!("expects at most the quota, {quota}, found {burst}");
            report.refuse(&at.key("burst"), "value-out-of-range", message);
        }
    }
}

fn block_io(block_io: &BlockIo, at: &Place<'_>, report: &mut Report) {
    let weight = |key, value: Option<u16>, at: &Place<'_>, report: &mut Report| {
        // 0 is what engines write for "not set".
        if let Some(value) = value.filter(|value| *value != 0 && !(10..=1000).contains(value)) {
            report.refuse(&at.key(key), "value-out-of-range", format!("expects 10 to 1000, found {value}"));
        }
    };
    weight("weight", block_io.weight, at, report);
    weight("leafWeight", block_io.leaf_weight, at, report);
    let devices = at.key("weightDevice");
    for (index, device) in block_io.weight_device.iter().enumerate() {
        let at = devices.index(index);
        number(device.major, "major", &at, report);
        number(device.minor, "minor", &at, report);
        weight("weight", device.weight, &at, report);
        weight("leafWeight", device.leaf_weight, &at, report);
        if device.weight.is_none() && device.leaf_weight.is_none() {
            report.refuse(&at, "weight-empty", "expects weight, leafWeight or both");
        }
    }
    for (key, list) in [
        ("throttleReadBpsDevice", &block_io.throttle_read_bps_device),
        ("throttleWriteBpsDevice", &block_io.throttle_write_bps_device),
        ("throttleReadIOPSDevice", &block_io.throttle_read_iops_device),
        ("throttleWriteIOPSDevice", &block_io.throttle_write_iops_device),
    ] {
        let devices = at.key(key);
        for (index, device) in list.iter().enumerate() {
            let at = devices.index(index);
            number(device.major, "major", &at, report);
            number(device.minor, "minor", &at, report);
        }
    }
}

fn number(value: i64, key: &str, at: &Place<'_>, report: &mut Report) {
    if u32::try_from(value).is_err() {
        report.refuse(&at.key(key), "value-out-of-range", format!("expects a device number, found {value}"));
    }
}

fn network(network: &Network, at: &Place<'_>, report: &mut Report) {
    let at = at.key("priorities");
    for (index, priority) in network.priorities.iter().enumerate() {
        let at = at.index(index);
        if !is_word(&priority.name) {
            let message = format!("expects the name of an interface, found {}", shown(&priority.name));
            report.refuse(&at.key("name"), "interface-name", message);
        }
    }
}

/// Not empty, and nothing that separates words in a line for the kernel.
fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/')
}

fn huge_pages(limits: &[HugepageLimit], at: &Place<'_>, report: &mut Report) {
    report.count(at, limits.len(), MOST_ENTRIES);
    for (index, limit) in limits.iter().enumerate() {
        let at = at.index(index);
        let number = ["KB", "MB", "GB"].iter().find_map(|unit| limit.page_size.strip_suffix(unit));
        let good = number.is_some_and(|number| {
            !number.starts_with('0') && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        });
        if !good {
            let message = format!("expects a size like 2MB or 1GB, found {}", shown(&limit.page_size));
            report.refuse(&at.key("pageSize"), "page-size", message);
        } else if limits.iter().take(index).any(|other| other.page_size == limit.page_size) {
            report.refuse(
                &at.key("pageSize"),
                "page-size-twice",
                format!("limits {} twice", limit.page_size),
            );
        }
    }
}

fn rdma(device: &str, limits: &Rdma, at: &Place<'_>, report: &mut Report) {
    if !is_word(device) {
        report.refuse(at, "rdma-device", format!("expects the name of a device, found {}", shown(device)));
    }
    if limits.hca_handles.is_none() && limits.hca_objects.is_none() {
        report.refuse(at, "rdma-empty", "expects hcaHandles, hcaObjects or both");
    }
}

/// Files that move, stop or restructure what the runtime itself manages.
const OWN_FILES: [&str; 6] = [
    "cgroup.freeze",
    "cgroup.kill",
    "cgroup.procs",
    "cgroup.subtree_control",
    "cgroup.threads",
    "cgroup.type",
];

fn unified(file: &str, value: &str, at: &Place<'_>, report: &mut Report) {
    let plain = file.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    let inner_dot =
        file.split_once('.').is_some_and(|(before, after)| !before.is_empty() && !after.is_empty());
    if !plain || !inner_dot || file.contains("..") {
        let message = format!("expects the name of a file like memory.high, found {}", shown(file));
        report.refuse(at, "unified-file", message);
    } else if OWN_FILES.contains(&file) {
        report.refuse(at, "unified-own-file", format!("names {file}, which the runtime itself writes"));
    }
    // One write for each line: these files have a line for each device.
    let several = ["io.", "rdma.", "misc.", "dmem."].iter().any(|prefix| file.starts_with(prefix));
    if several {
        report.text(at, value);
    } else {
        report.line(at, value.strip_suffix('\n').unwrap_or(value));
    }
}
