//! What callers can ask for and this version does not do.
//!
//! For: the features document. One entry of [`ENTRIES`] is one feature; whoever builds the feature takes its entry away. Nothing that a
//! configuration asks for is among them.
//! Must not: hold rules about values. Tests: `features.rs`.

/// A feature that is not built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Feature {
    /// No document asks for it; the caller chooses the driver.
    SystemdCgroups,
    /// No document asks for it.
    Checkpoint,
}

/// The features that are not built.
const ENTRIES: &[Feature] = &[Feature::Checkpoint];

/// Whether this version does it.
pub(crate) fn is_built(feature: Feature) -> bool {
    !ENTRIES.contains(&feature)
}
