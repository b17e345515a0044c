//! What the benchmarks share: the two configurations that everything is measured with.
//!
//! Must not: measure. `benches/pure.rs` times the library's pure half, `src/bin/process.rs` whole commands.
#![forbid(unsafe_code)]
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark stops at the first thing that is not there, and prints"
)]

pub mod measure;
pub mod scratch;
pub mod table;

use coracle::spec::Spec;
use serde_json::{Value, json};

/// The configuration that `spec` writes, without a terminal.
pub fn default_config() -> Value {
    let mut config = serde_json::to_value(Spec::default_container()).expect("a configuration is JSON");
    config["process"]["terminal"] = json!(false);
    config
}

/// What Docker sent for `docker run`, as far as it can stand alone: filter, capabilities, mounts, covers, device rules.
pub fn docker_config() -> Value {
    let text = include_str!("../../tests/plans/docker-run/config.json");
    let mut config: Value = serde_json::from_str(text).expect("a golden plan's configuration");
    let mounts = config["mounts"].as_array_mut().expect("mounts");
    mounts.retain(|mount| mount["type"] != "bind");
    // Empty limits: some runtimes want their controllers all the same, and a cgroup2 mount beside version 1 has none.
    let devices = config["linux"]["resources"]["devices"].take();
    config["linux"]["resources"] = json!({ "devices": devices });
    config["root"]["path"] = json!("rootfs");
    config["process"]["noNewPrivileges"] = json!(true);
    config
}

/// The configuration with another program and a cgroup of its own.
pub fn with_program(mut config: Value, program: &str, cgroup: &str) -> Value {
    config["process"]["args"] = json!([program]);
    config["linux"]["cgroupsPath"] = json!(cgroup);
    config
}

/// A machine with cgroup version 2, written down.
pub fn machine() -> coracle::Facts {
    serde_json::from_str(include_str!("../../tests/plans/default-v2/facts.json"))
        .expect("a golden plan's facts")
}
