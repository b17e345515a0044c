//! The suites that run as root.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "test code"
)]
#![forbid(unsafe_code)]

mod annotations;
mod broken;
mod cgroups;
mod contract;
mod devices;
mod events;
mod exec;
mod hooks;
mod hotplug;
mod idmaps;
mod leftovers;
mod lifecycle;
mod limits;
mod lsm;
mod mounts;
mod namespaces;
mod nested;
mod netdevices;
mod notify;
mod options;
mod places;
mod process;
mod programs;
mod readiness;
mod scheduling;
mod seccomp;
mod systemd;
mod terminal;
mod update;

fn main() -> std::process::ExitCode {
    coracle_tests::harness::main(&[
        lifecycle::CASES,
        exec::CASES,
        process::CASES,
        programs::CASES,
        readiness::CASES,
        scheduling::CASES,
        mounts::CASES,
        options::CASES,
        idmaps::CASES,
        hotplug::CASES,
        devices::CASES,
        namespaces::CASES,
        nested::CASES,
        netdevices::CASES,
        cgroups::CASES,
        limits::CASES,
        places::CASES,
        update::CASES,
        systemd::CASES,
        events::CASES,
        seccomp::CASES,
        notify::CASES,
        hooks::CASES,
        lsm::CASES,
        terminal::CASES,
        contract::CASES,
        annotations::CASES,
        broken::CASES,
        leftovers::ALONE,
    ])
}
