//! The table in `docs/cgroups.md`: what becomes of each property, made by converting an example of each. `cargo xtask tables` without
//! arguments writes it; this test fails when it is not what the conversion does, when a property has no row, or a named test is gone.

use std::fmt::Write as _;
use std::path::Path;

use super::tests::{legacy, unified};
use super::*;
use crate::cgroup::systemd::limits;
use crate::spec::properties;

/// Property (`*` is every entry of a list), an example, what says that it works: `cgroups::x` are cases of `tests/root/cgroups.rs` and so
/// on, `unit::x` tests beside the conversion.
const ROWS: &[(&str, &str, &[&str])] = &[
    (
        "/memory/limit",
        r#"{"memory": {"limit": 4096}}"#,
        &[
            "cgroups::memory_limit_kills",
            "cgroups::memory_files",
            "limits::memory_too_small_for_init",
            "update::memory_up_and_down",
            "systemd::unit_properties",
        ],
    ),
    (
        "/memory/reservation",
        r#"{"memory": {"reservation": 4096}}"#,
        &["cgroups::memory_files", "systemd::unit_properties"],
    ),
    (
        "/memory/swap",
        r#"{"memory": {"limit": 4096, "swap": 8192}}"#,
        &["cgroups::memory_files", "update::swap_is_a_sum", "systemd::unit_properties"],
    ),
    ("/memory/kernel", r#"{"memory": {"kernel": 4096}}"#, &["unit::memory_and_swap"]),
    (
        "/memory/kernelTCP",
        r#"{"memory": {"kernelTCP": 4096}}"#,
        &["limits::memory_of_version_1", "unit::memory_and_swap"],
    ),
    (
        "/memory/swappiness",
        r#"{"memory": {"swappiness": 10}}"#,
        &["limits::memory_of_version_1", "unit::memory_and_swap"],
    ),
    (
        "/memory/disableOOMKiller",
        r#"{"memory": {"disableOOMKiller": true}}"#,
        &["limits::memory_of_version_1", "unit::memory_and_swap"],
    ),
    (
        "/memory/useHierarchy",
        r#"{"memory": {"useHierarchy": true}}"#,
        &["limits::memory_of_version_1", "unit::memory_and_swap"],
    ),
    (
        "/memory/checkBeforeUpdate",
        r#"{"memory": {"limit": 4096, "checkBeforeUpdate": true}}"#,
        &["update::memory_in_use"],
    ),
    (
        "/cpu/shares",
        r#"{"cpu": {"shares": 1024}}"#,
        &["cgroups::cpu_shares", "update::flags", "systemd::unit_properties"],
    ),
    (
        "/cpu/quota",
        r#"{"cpu": {"quota": 5000}}"#,
        &["cgroups::cpu_quota_slows", "events::throttled", "update::flags", "systemd::unit_properties"],
    ),
    ("/cpu/burst", r#"{"cpu": {"burst": 5000}}"#, &["limits::cpu_burst_and_idle"]),
    (
        "/cpu/period",
        r#"{"cpu": {"period": 50000}}"#,
        &["cgroups::cpu_quota", "update::flags", "systemd::unit_properties"],
    ),
    ("/cpu/realtimeRuntime", r#"{"cpu": {"realtimeRuntime": 5000}}"#, &["unit::cpu_time_and_placement"]),
    ("/cpu/realtimePeriod", r#"{"cpu": {"realtimePeriod": 5000}}"#, &["unit::cpu_time_and_placement"]),
    (
        "/cpu/cpus",
        r#"{"cpu": {"cpus": "0"}}"#,
        &["cgroups::cpuset", "update::flags", "systemd::unit_properties"],
    ),
    ("/cpu/mems", r#"{"cpu": {"mems": "0"}}"#, &["cgroups::cpuset", "systemd::unit_properties"]),
    ("/cpu/idle", r#"{"cpu": {"idle": 1}}"#, &["limits::cpu_burst_and_idle"]),
    (
        "/pids/limit",
        r#"{"pids": {"limit": 5}}"#,
        &["cgroups::pids_limit_refuses", "cgroups::pids_files", "update::bites", "systemd::unit_properties"],
    ),
    ("/blockIO/weight", r#"{"blockIO": {"weight": 100}}"#, &["limits::disk_weight", "unit::block_io"]),
    ("/blockIO/leafWeight", r#"{"blockIO": {"leafWeight": 100}}"#, &["unit::block_io"]),
    (
        "/blockIO/weightDevice/*",
        r#"{"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 100}]}}"#,
        &["limits::disk_weight", "unit::block_io"],
    ),
    (
        "/blockIO/throttleReadBpsDevice/*",
        r#"{"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 9}]}}"#,
        &["limits::disk_rates", "systemd::unit_properties"],
    ),
    (
        "/blockIO/throttleWriteBpsDevice/*",
        r#"{"blockIO": {"throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 9}]}}"#,
        &["limits::disk_rates", "systemd::unit_properties"],
    ),
    (
        "/blockIO/throttleReadIOPSDevice/*",
        r#"{"blockIO": {"throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 9}]}}"#,
        &["limits::disk_rates", "systemd::unit_properties"],
    ),
    (
        "/blockIO/throttleWriteIOPSDevice/*",
        r#"{"blockIO": {"throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 9}]}}"#,
        &["limits::disk_rates", "systemd::unit_properties"],
    ),
    (
        "/network/classID",
        r#"{"network": {"classID": 1}}"#,
        &["unit::hugepages_rdma_and_network", "cgroups::missing_controller"],
    ),
    (
        "/network/priorities/*",
        r#"{"network": {"priorities": [{"name": "eth0", "priority": 1}]}}"#,
        &["unit::hugepages_rdma_and_network"],
    ),
    (
        "/devices/*",
        "{}",
        &["cgroups::device_rules", "cgroups::device_rules_order", "update::devices", "systemd::devices_stay"],
    ),
    (
        "/hugepageLimits/*",
        r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}"#,
        &["limits::huge_pages", "cgroups::missing_controller"],
    ),
    (
        "/rdma/*",
        r#"{"rdma": {"mlx5_0": {"hcaHandles": 1}}}"#,
        &["limits::rdma", "update::refused", "cgroups::missing_controller"],
    ),
    (
        "/unified/*",
        r#"{"unified": {"memory.high": "4096"}}"#,
        &[
            "cgroups::unified",
            "update::unified",
            "systemd::limits_stay",
            "unit::unified_comes_last_with_clean_keys",
        ],
    ),
];

#[test]
fn every_property_has_a_row_in_the_documentation() {
    let rows: Vec<&str> = ROWS.iter().map(|(property, ..)| *property).collect();
    assert_eq!(rows, properties::<Resources>(), "rows and the specification's properties, in its order");
    let text = table();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cgroups.md");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == text, "docs/cgroups.md is not what the conversion does: cargo xtask tables\n{text}");
}

#[test]
fn every_named_test_is_there() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (property, _, tests) in ROWS {
        for test in *tests {
            let (module, name) = test.split_once("::").unwrap();
            let file = match module {
                "unit" => top.join("src/cgroup/resources/tests.rs"),
                module => top.join(format!("../tests/root/{module}.rs")),
            };
            let text = std::fs::read_to_string(&file).unwrap();
            assert!(text.contains(&format!("fn {name}(")), "{property}: {test}");
        }
    }
}

fn table() -> String {
    let mut out = HEAD.to_owned();
    for (property, example, tests) in ROWS {
        let (v2, v1) = match *property {
            "/devices/*" => {
                ("a program on the directory".to_owned(), "`devices.deny`, `devices.allow`".to_owned())
            }
            _ => (files(example, &unified()), files(example, &legacy())),
        };
        let unit = unit_properties(example);
        let tests: Vec<String> = tests.iter().map(|test| format!("`{test}`")).collect();
        writeln!(out, "| `{property}` | {v2} | {v1} | {unit} | {} |", tests.join(", ")).unwrap();
    }
    out + TAIL
}

/// What systemd is told of an example; what it is not told of it leaves alone.
fn unit_properties(example: &str) -> String {
    let resources: Resources = serde_json::from_str(example).unwrap();
    let properties = limits(&plan_update(&resources, &unified()).unwrap_or_default());
    let names: Vec<String> = properties.iter().map(|(name, _)| format!("`{name}`")).collect();
    if names.is_empty() { "—".to_owned() } else { names.join(", ") }
}

/// The files that an example is written to, or why it is refused.
fn files(example: &str, layout: &Layout) -> String {
    let resources: Resources = serde_json::from_str(example).unwrap();
    let writes = match plan_update(&resources, layout) {
        Ok(writes) => writes,
        Err(refusal) => return format!("refused: {}", refusal.reason),
    };
    let mut names: Vec<String> = Vec::new();
    for write in &writes {
        let mut name = format!("`{}`", write.file);
        if let Absent::Instead { file, .. } = &write.absent {
            write!(name, " or `{file}`").unwrap();
        }
        if let Some(file) = &write.not_below {
            write!(name, " after a look at `{file}`").unwrap();
        }
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if names.is_empty() { "always so".to_owned() } else { names.join(", ") }
}

const HEAD: &str = "\
# Where each limit goes

Made by `cargo xtask tables` from the conversion itself; do not edit. A property of `linux.resources` that is not named in a configuration
is not written. What has no file on the machine, because the kernel is older or the controller is missing or not delegated, is refused at
its place: nothing is left out in silence.

`unit::x` are tests of the conversion in `runtime-core/src/cgroup/resources/tests.rs`. The others are cases in `tests/root`, with real
containers: natively; in a machine with version 2 alone (`cargo xtask vm`), which has a disk and huge pages to limit; and in one with
systemd (`cargo xtask vm-systemd`), once with the machine's manager, once with a user's own, once with what that user was given.

| property | version 2 | version 1 | unit property | tests |
|---|---|---|---|---|
";

const TAIL: &str = "
With systemd as the one who makes the cgroup, it is told of the same values as properties of the scope, so that nothing changes when it
reloads its configuration (CPU time is rounded up to a hundredth of a percent then). Device rules are a program of our own beside those of systemd, which does not touch it.

On a hybrid machine each limit goes to the hierarchy that has its controller. `unified` comes last, over the others.

`update` writes what it names and what follows from it, reads what was there before, and writes that back when a later step fails.
";
