//! `blockIO`.

use super::{Absent, Conversion, Target, refuse};
use crate::cgroup::error::Refusal;
use crate::spec::{BlockIo, Resources, ThrottleDevice};

/// Range of the specification's weight.
const WEIGHTS: std::ops::RangeInclusive<u16> = 10..=1000;

pub(super) fn block_io(plan: &mut Conversion<'_>, resources: &Resources) -> Result<(), Refusal> {
    let Some(io) = &resources.block_io else { return Ok(()) };
    weights(plan, io)?;
    throttles(plan, io)
}

fn controller(plan: &Conversion<'_>, pointer: &str) -> Result<Target, Refusal> {
    if plan.layout.controller("blkio").is_some() {
        return plan.controller("blkio", pointer);
    }
    plan.controller("io", pointer)
}

fn weights(plan: &mut Conversion<'_>, io: &BlockIo) -> Result<(), Refusal> {
    if let Some(weight) = set_weight(io.weight, "/blockIO/weight")? {
        write_weight(plan, None, weight, "/blockIO/weight")?;
    }
    if let Some(weight) = set_weight(io.leaf_weight, "/blockIO/leafWeight")? {
        write_leaf_weight(plan, None, weight, "/blockIO/leafWeight")?;
    }
    for (index, device) in io.weight_device.iter().enumerate() {
        let pointer = format!("/blockIO/weightDevice/{index}");
        let node = node(device.major, device.minor, &pointer)?;
        let at = format!("{pointer}/weight");
        if let Some(weight) = set_weight(device.weight, &at)? {
            write_weight(plan, Some(&node), weight, &at)?;
        }
        let at = format!("{pointer}/leafWeight");
        if let Some(weight) = set_weight(device.leaf_weight, &at)? {
            write_leaf_weight(plan, Some(&node), weight, &at)?;
        }
    }
    Ok(())
}

fn set_weight(weight: Option<u16>, pointer: &str) -> Result<Option<u16>, Refusal> {
    match weight.filter(|weight| *weight != 0) {
        Some(weight) if !WEIGHTS.contains(&weight) => {
            Err(refuse(pointer, format!("{weight} is not between 10 and 1000")))
        }
        weight => Ok(weight),
    }
}

/// Weights work through an io scheduler's own file: BFQ's where it is there. On version 2 the other is `io.weight`,
/// 1 to 10000, to which 10 to 1000 is mapped linearly; on version 1 the other is CFQ's, same unit.
fn write_weight(
    plan: &mut Conversion<'_>,
    node: Option<&str>,
    weight: u16,
    pointer: &str,
) -> Result<(), Refusal> {
    let target = controller(plan, pointer)?;
    let for_node = |weight: u64| node.map_or_else(|| weight.to_string(), |node| format!("{node} {weight}"));
    let as_is = for_node(u64::from(weight));
    let (file, value, other, other_value) = if target.is_v2() {
        let converted = 1 + (u64::from(weight) - 10) * 9999 / 990;
        ("io.bfq.weight", as_is, "io.weight", for_node(converted))
    } else if node.is_some() {
        ("blkio.weight_device", as_is.clone(), "blkio.bfq.weight_device", as_is)
    } else {
        ("blkio.weight", as_is.clone(), "blkio.bfq.weight", as_is)
    };
    let absent = Absent::Instead { file: other.to_owned(), value: other_value };
    plan.push(&target, file, value, pointer).absent = absent;
    Ok(())
}

fn write_leaf_weight(
    plan: &mut Conversion<'_>,
    node: Option<&str>,
    weight: u16,
    pointer: &str,
) -> Result<(), Refusal> {
    let target = controller(plan, pointer)?;
    if target.is_v2() {
        return Err(refuse(pointer, "cgroup version 2 has no weight against child groups"));
    }
    match node {
        Some(node) => plan.push(&target, "blkio.leaf_weight_device", format!("{node} {weight}"), pointer),
        None => plan.push(&target, "blkio.leaf_weight", weight, pointer),
    };
    Ok(())
}

fn throttles(plan: &mut Conversion<'_>, io: &BlockIo) -> Result<(), Refusal> {
    let lists: [(&[ThrottleDevice], &str, &str, &str); 4] = [
        (&io.throttle_read_bps_device, "throttleReadBpsDevice", "blkio.throttle.read_bps_device", "rbps"),
        (&io.throttle_write_bps_device, "throttleWriteBpsDevice", "blkio.throttle.write_bps_device", "wbps"),
        (&io.throttle_read_iops_device, "throttleReadIOPSDevice", "blkio.throttle.read_iops_device", "riops"),
        (
            &io.throttle_write_iops_device,
            "throttleWriteIOPSDevice",
            "blkio.throttle.write_iops_device",
            "wiops",
        ),
    ];
    for (devices, property, v1_file, v2_key) in lists {
        for (index, device) in devices.iter().enumerate() {
            let pointer = format!("/blockIO/{property}/{index}");
            let node = node(device.major, device.minor, &pointer)?;
            let target = controller(plan, &pointer)?;
            if target.is_v2() {
                // A rate of 0 takes the limit away on version 1; version 2 spells that "max".
                let rate = if device.rate == 0 { "max".to_owned() } else { device.rate.to_string() };
                plan.push(&target, "io.max", format!("{node} {v2_key}={rate}"), &pointer);
            } else {
                plan.push(&target, v1_file, format!("{node} {}", device.rate), &pointer);
            }
        }
    }
    Ok(())
}

fn node(major: i64, minor: i64, pointer: &str) -> Result<String, Refusal> {
    for (name, number) in [("major", major), ("minor", minor)] {
        if u32::try_from(number).is_err() {
            return Err(refuse(&format!("{pointer}/{name}"), format!("{number} is no device number")));
        }
    }
    Ok(format!("{major}:{minor}"))
}
