//! The scenarios, each a case.

use crate::scenario::{Scenario, replay};
use coracle_tests::*;

macro_rules! scenarios {
    ($($case:ident $name:literal),+ $(,)?) => {
        cases![$($case,)+ every_scenario_is_a_case];
        const NAMES: &[&str] = &[$($name),+];
        $(fn $case(t: &T) {
            replay(t, &Scenario {
                calls: include_str!(concat!("../data/engines/", $name, ".jsonl")),
                documents: include_str!(concat!("../plans/recorded/", $name, ".jsonl")),
            });
        })+
    };
}

scenarios![
    cri_containerd "cri-containerd",
    ctr_failures "ctr-failures",
    ctr_lifecycle "ctr-lifecycle",
    ctr_options "ctr-options",
    ctr_run "ctr-run",
    ctr_run_tty "ctr-run-tty",
    ctr_systemd "ctr-systemd",
    ctr_userns "ctr-userns",
    docker_build "docker-build",
    docker_devices "docker-devices",
    docker_failures "docker-failures",
    docker_hardened "docker-hardened",
    docker_lifecycle "docker-lifecycle",
    docker_limits "docker-limits",
    docker_namespaces "docker-namespaces",
    docker_privileged "docker-privileged",
    docker_run "docker-run",
    docker_run_tty "docker-run-tty",
    docker_shared "docker-shared",
    docker_sysctl_security "docker-sysctl-security",
    docker_volumes "docker-volumes",
    podman_checkpoint "podman-checkpoint",
    podman_hardened "podman-hardened",
    podman_lifecycle "podman-lifecycle",
    podman_misc "podman-misc",
    podman_pod "podman-pod",
    podman_rootless "podman-rootless",
    podman_run "podman-run",
    podman_run_tty "podman-run-tty",
    podman_runc "podman-runc",
    podman_sdnotify "podman-sdnotify",
    podman_userns "podman-userns",
];

/// A recording that nobody replays proves nothing.
fn every_scenario_is_a_case(t: &T) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("data/engines");
    let Ok(entries) = std::fs::read_dir(folder) else { t.skip("needs the sources") };
    let mut found: Vec<String> = entries
        .filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(".jsonl")?.to_owned()))
        .collect();
    found.sort();
    assert_eq!(found, NAMES);
}
