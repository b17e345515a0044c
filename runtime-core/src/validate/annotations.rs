//! Annotations that are more than words of others: those that engines set, and users of crun know.
//!
//! A closed list. One that would change how far the container is isolated and is not done is refused; all others have no effect.
//!
//! For: `annotations` of config.md. Must not: know the machine. Tests: `tests`; `tests` package, annotations.

use std::collections::BTreeMap;

use super::report::{Place, Report};

/// The caller's supplementary groups stay, whatever the configuration says about them.
pub(crate) const KEEP_GROUPS: &str = "run.oci.keep_original_groups";
/// Which mount option carries the mount label.
const CONTEXT_TYPE: &str = "run.oci.mount_context_type";
/// Names of system calls that nobody knows are errors.
const FAIL_UNKNOWN: &str = "run.oci.seccomp_fail_unknown_syscall";
/// The socket for the listener of a filter, where the configuration names none.
pub(crate) const RECEIVER: &str = "run.oci.seccomp.receiver";
/// A cgroup below the unit, where systemd makes one.
const SUBGROUP: &str = "run.oci.systemd.subgroup";
/// A socket that gets a descriptor of the first process; whoever runs the library's command sends it.
const PIDFD: &str = "run.oci.pidfd_receiver";

/// Those that have an effect, for the features document.
pub(crate) const WITH_EFFECT: [&str; 7] =
    ["org.systemd.property.", KEEP_GROUPS, CONTEXT_TYPE, PIDFD, RECEIVER, FAIL_UNKNOWN, SUBGROUP];

/// Those that ask for what this runtime does not do, and what that is.
const REFUSED: [(&str, &str); 5] = [
    ("run.oci.handler", "asks for another kind of container, which only crun makes"),
    ("run.oci.seccomp.plugins", "asks for code in the runtime that answers system calls"),
    ("run.oci.seccomp_bpf_data", "asks for a filter in the place of the configuration's"),
    ("run.oci.delegate-cgroup", "asks for a cgroup below the one that has the limits"),
    ("run.oci.systemd.force_cgroup_v1", "asks for a version 1 hierarchy in the place of the container's own"),
];

/// The four options that take an SELinux context (mount(8)).
const CONTEXTS: [(&str, &str); 4] = [
    ("context", "context"),
    ("fscontext", "fscontext"),
    ("defcontext", "defcontext"),
    ("rootcontext", "rootcontext"),
];

/// What annotations ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Effects {
    /// The caller's supplementary groups stay.
    pub keep_groups: bool,
    /// The mount option for the mount label.
    pub context: &'static str,
    /// A filter with an unknown name is an error.
    pub fail_unknown: bool,
    /// Name of the cgroup below the unit that systemd makes; never empty.
    pub subgroup: Option<String>,
}

/// A switch is on with any value but this one.
fn is_on(value: Option<&String>) -> bool {
    value.is_some_and(|value| value != "0")
}

/// Whether a container with these annotations keeps its creator's groups, for processes that are added.
pub(crate) fn keeps_groups(annotations: &BTreeMap<String, String>) -> bool {
    is_on(annotations.get(KEEP_GROUPS))
}

pub(super) fn effects(
    annotations: &BTreeMap<String, String>,
    at: &Place<'_>,
    report: &mut Report,
) -> Effects {
    for (name, text) in REFUSED {
        // An empty value is none.
        if annotations.get(name).is_some_and(|value| !value.is_empty()) {
            report.refuse(&at.key(name), "annotation-unsupported", text);
        }
    }
    if let Some(path) = annotations.get(RECEIVER) {
        report.absolute(&at.key(RECEIVER), path);
    }
    let context = annotations.get(CONTEXT_TYPE);
    Effects {
        keep_groups: keeps_groups(annotations),
        context: context
            .and_then(|word| report.word(&at.key(CONTEXT_TYPE), word, &CONTEXTS))
            .unwrap_or("context"),
        fail_unknown: is_on(annotations.get(FAIL_UNKNOWN)),
        subgroup: annotations.get(SUBGROUP).filter(|name| !name.is_empty()).cloned(),
    }
}
