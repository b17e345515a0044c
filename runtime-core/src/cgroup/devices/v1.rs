//! Device rules as lines for `devices.allow` and `devices.deny` of version 1.
//!
//! The kernel keeps either "deny all but a list" or "allow all but a list" (security/device_cgroup.c), so a rule list
//! with three layers cannot be said; it is refused with the pointer of the rule that makes the third, as runc does.

use super::{Access, DeviceRules, Kind, Match, Rule, pointer};
use crate::cgroup::error::Refusal;

pub(crate) const V1_ALLOW: &str = "devices.allow";
const V1_DENY: &str = "devices.deny";

impl DeviceRules {
    /// The lines that make a directory's rules these, whatever they were before, in order: (file, line).
    ///
    /// # Errors
    /// A rule makes an exception from an exception, which version 1 cannot express.
    pub fn v1_lines(&self) -> Result<Vec<(&'static str, String)>, Refusal> {
        let (base, rest, file) = match self.rules.split_first() {
            Some((first, rest))
                if first.allow && first.matches == Match::ANY && first.access == Access::ALL =>
            {
                (V1_ALLOW, rest, V1_DENY)
            }
            _ => (V1_DENY, self.rules.as_slice(), V1_ALLOW),
        };
        let allow = file == V1_ALLOW;
        if let Some(odd) = rest.iter().find(|rule| rule.allow != allow) {
            return Err(third_layer(odd, rest));
        }
        let mut lines = vec![(base, "a".to_owned())];
        lines.extend(entries(rest, allow).into_iter().map(|line| (file, line)));
        Ok(lines)
    }
}

fn third_layer(odd: &Rule, rules: &[Rule]) -> Refusal {
    let index = odd.index.or_else(|| rules.iter().rev().find_map(|rule| rule.index));
    let at = index.map_or_else(|| format!("{}/devices", super::RESOURCES), pointer);
    Refusal::new(
        at,
        format!("cgroup version 1 cannot express \"{odd}\" as an exception from the other rules"),
    )
}

/// One line for each kind, number pair and access. The kernel looks for one entry that covers all of an access
/// (allow list), so entries get the reading and writing bits that wider ones give to the same nodes, and nodes that
/// two entries share get one of their own. Deny entries work bit by bit already.
fn entries(rules: &[Rule], allow: bool) -> Vec<String> {
    let mut all: Vec<(Match, Access)> = Vec::new();
    for rule in rules {
        let kinds = match rule.matches.kind {
            None => vec![Kind::Block, Kind::Char],
            Some(kind) => vec![kind],
        };
        for kind in kinds {
            include(&mut all, Match { kind: Some(kind), ..rule.matches }, rule.access);
        }
    }
    if allow {
        complete(&mut all);
    }
    all.into_iter().map(|(matches, access)| line(allow, matches, access)).collect()
}

fn include(all: &mut Vec<(Match, Access)>, matches: Match, access: Access) {
    match all.iter_mut().find(|entry| entry.0 == matches) {
        Some(entry) => entry.1 = entry.1.with(access),
        None => all.push((matches, access)),
    }
}

fn line(allow: bool, matches: Match, access: Access) -> String {
    let rule = Rule { allow, matches, access, index: None }.to_string();
    rule.split_once(' ').map_or_else(String::new, |(_, line)| line.to_owned())
}

/// Adds what pairs of entries allow only together. Making nodes is never asked for together with opening.
fn complete(all: &mut Vec<(Match, Access)>) {
    const OPEN: Access = Access::READ.with(Access::WRITE);
    let mut at = 0;
    while let Some(&(matches, access)) = all.get(at) {
        for other in 0..at {
            let Some(&(other_matches, other_access)) = all.get(other) else { break };
            let sum = access.with(other_access).both(OPEN);
            if sum != OPEN || access.both(OPEN) == OPEN || other_access.both(OPEN) == OPEN {
                continue;
            }
            let Some(shared) = matches.overlap(&other_matches) else { continue };
            include(all, shared, sum);
        }
        at += 1;
    }
}

/// The lines of `devices.list` in one order, to compare what was asked for with what the kernel has.
pub(crate) fn canonical_list<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut all: Vec<String> = lines.filter(|line| !line.is_empty()).map(str::to_owned).collect();
    all.sort();
    all.dedup();
    all
}
