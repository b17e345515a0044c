//! Capability names to bit sets.
//!
//! For: the five sets as numbers. A name that is not known grants nothing and is only a warning, as the specification
//! wants it (config.md, "capabilities"): newer engines run on older runtimes.
//! Must not: add a capability to a set because it is in another one. Tests: at the end of the file.

use super::report::{Place, Report, shown};
use crate::spec::Capabilities;

/// The five sets of a process, bit N for capability number N (capabilities(7)).
///
/// Holding one proves that the kernel can have such a combination: what is effective is permitted, what is ambient is
/// permitted and inheritable.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CapabilitySets {
    /// What execve(2) can ever give.
    pub bounding: u64,
    /// What counts at once.
    pub effective: u64,
    /// What files with inheritable bits can give.
    pub inheritable: u64,
    /// What can be made effective.
    pub permitted: u64,
    /// What an unprivileged program keeps.
    pub ambient: u64,
}

/// The bit of a capability by its name, `CAP_` and capital letters.
pub fn capability_bit(name: &str) -> Option<u64> {
    name.parse::<caps::Capability>().ok().map(|capability| capability.bitmask())
}

/// The names of all capabilities that are known, by number.
pub fn known_capabilities() -> Vec<String> {
    let mut all: Vec<_> = caps::all().into_iter().collect();
    all.sort_by_key(|capability| capability.index());
    all.into_iter().map(|capability| capability.to_string()).collect()
}

pub(super) fn capabilities(sets: &Capabilities, at: &Place<'_>, report: &mut Report) -> CapabilitySets {
    let mut set = |key, names: &[String]| {
        let at = at.key(key);
        let mut bits = 0;
        for (index, name) in names.iter().enumerate() {
            match capability_bit(name) {
                Some(bit) => bits |= bit,
                None => report.warn(
                    &at.index(index),
                    "capability-unknown",
                    format!("is not granted: {} is not known", shown(name)),
                ),
            }
        }
        bits
    };
    let sets = CapabilitySets {
        bounding: set("bounding", &sets.bounding),
        effective: set("effective", &sets.effective),
        inheritable: set("inheritable", &sets.inheritable),
        permitted: set("permitted", &sets.permitted),
        ambient: set("ambient", &sets.ambient),
    };
    let first = |bits: u64| {
        let lowest = bits & bits.wrapping_neg();
        known_capabilities().into_iter().find(|name| capability_bit(name) == Some(lowest)).unwrap_or_default()
    };
    let over = sets.effective & !sets.permitted;
    if over != 0 {
        let message = format!("{} can only be effective when it is permitted", first(over));
        report.refuse(&at.key("effective"), "capability-not-permitted", message);
    }
    // The kernel only raises what is permitted and inheritable. What cannot be granted is left out (config.md, "Linux Process"), and
    // documents that runc writes ask for such bits.
    let over = sets.ambient & !(sets.permitted & sets.inheritable);
    if over != 0 {
        let message = format!("{} is not ambient, since it is not permitted and inheritable", first(over));
        report.warn(&at.key("ambient"), "capability-not-ambient", message);
    }
    CapabilitySets { ambient: sets.ambient & !over, ..sets }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_kernels_numbers() {
        assert_eq!(capability_bit("CAP_CHOWN"), Some(1));
        assert_eq!(capability_bit("CAP_SYS_ADMIN"), Some(1 << 21));
        assert_eq!(capability_bit("CAP_CHECKPOINT_RESTORE"), Some(1 << 40));
        for name in ["", "CHOWN", "cap_chown", "CAP_CHOWN ", "CAP_NEW_THING"] {
            assert_eq!(capability_bit(name), None, "{name}");
        }
        let all = known_capabilities();
        assert_eq!(
            (all.len(), all[0].as_str(), all[40].as_str()),
            (41, "CAP_CHOWN", "CAP_CHECKPOINT_RESTORE")
        );
    }
}
