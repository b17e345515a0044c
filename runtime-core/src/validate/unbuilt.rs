//! What the specification allows and this version does not do.
//!
//! For: refusing it at its place instead of leaving it out. One entry of [`ENTRIES`] is one feature; whoever builds the
//! feature takes its entry away, and `features` says so by itself.
//! Must not: hold rules about values; those stay when the feature comes. Tests: `tests`.

use super::Parts;
use super::namespaces::{Namespace, NamespaceKind};
use super::report::{Place, Report, UNBUILT};

/// A feature that is not built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Feature {
    IntelRdt,
    JoinedMountNamespace,
    /// No document asks for it; the caller chooses the driver.
    SystemdCgroups,
    /// No document asks for it.
    Checkpoint,
}

/// The features that are not built, and what is said about each.
const ENTRIES: &[(Feature, &str)] = &[
    (Feature::IntelRdt, "classes of cache and memory bandwidth"),
    (Feature::JoinedMountNamespace, "joining a mount namespace"),
    (Feature::SystemdCgroups, "control groups by systemd"),
    (Feature::Checkpoint, "checkpoints"),
];

/// Whether this version does it.
pub(crate) fn is_built(feature: Feature) -> bool {
    !ENTRIES.iter().any(|(entry, _)| *entry == feature)
}

fn refuse(feature: Feature, asked: bool, at: &Place<'_>, report: &mut Report) {
    let entry = ENTRIES.iter().find(|(entry, _)| *entry == feature);
    if let Some((_, what)) = entry.filter(|_| asked) {
        report.refuse(at, UNBUILT, format!("asks for what this version does not have: {what}"));
    }
}

/// Refuses what a container asks for.
pub(super) fn container(parts: &Parts, at: &Place<'_>, report: &mut Report) {
    let at = at.key("linux");
    let Some(linux) = &parts.spec.linux else { return };
    refuse(Feature::IntelRdt, linux.intel_rdt.is_some(), &at.key("intelRdt"), report);
    let namespaces = at.key("namespaces");
    for (kind, namespace, index) in parts.namespaces.iter() {
        let asked = kind == NamespaceKind::Mount && matches!(namespace, Namespace::Join(_));
        refuse(Feature::JoinedMountNamespace, asked, &namespaces.index(index).key("path"), report);
    }
}
