//! Device rules: what the configuration lists, in its order, then the runtime's own list, over "nothing is allowed".
//!
//! The rules are reduced to a short equivalent list (no rule that a later one hides, none that changes nothing) from
//! which both forms are made: lines for version 1 and a program for version 2. Meaning, bit by bit of the access
//! asked for: the last rule that matches decides; what no rule matches is denied; all bits must be allowed.
//! Must not: open anything. Loading is in `make`.
//! Tests: `devices/tests.rs`, against an interpreter of the rules and one of the program.

mod program;
#[cfg(test)]
mod tests;
mod v1;

use std::fmt;

use serde::{Deserialize, Serialize};

use super::error::Refusal;
use super::resources::RESOURCES;
use crate::spec::DeviceRule;

pub use program::DeviceProgram;
pub(crate) use v1::{V1_ALLOW, canonical_list};

/// Bits of an access, with the kernel's values (linux/bpf.h, BPF_DEVCG_ACC_*).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Access(u8);

impl Access {
    /// mknod(2).
    pub const MKNOD: Self = Self(1);
    /// open for reading.
    pub const READ: Self = Self(2);
    /// open for writing.
    pub const WRITE: Self = Self(4);
    /// All three.
    pub const ALL: Self = Self(7);

    /// Both together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    const fn both(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The bits as the kernel numbers them.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    fn each(self) -> impl Iterator<Item = Self> {
        [Self::MKNOD, Self::READ, Self::WRITE].into_iter().filter(move |bit| !self.both(*bit).is_empty())
    }

    fn parse(text: &str) -> Option<Self> {
        text.chars().try_fold(Self(0), |sum, letter| {
            let bit = match letter {
                'r' => Self::READ,
                'w' => Self::WRITE,
                'm' => Self::MKNOD,
                _ => return None,
            };
            Some(sum.with(bit))
        })
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bit, letter) in [(Self::READ, "r"), (Self::WRITE, "w"), (Self::MKNOD, "m")] {
            if !self.both(bit).is_empty() {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

/// Kind of a device node, with the kernel's values (linux/bpf.h, BPF_DEVCG_DEV_*).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Block device.
    Block = 1,
    /// Character device.
    Char = 2,
}

/// A device node, as a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// Block or character.
    pub kind: Kind,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// Which nodes a rule speaks of; `None` is any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Match {
    kind: Option<Kind>,
    major: Option<u32>,
    minor: Option<u32>,
}

impl Match {
    const ANY: Self = Self { kind: None, major: None, minor: None };

    fn covers(&self, other: &Self) -> bool {
        fn wider<T: PartialEq>(wide: Option<T>, narrow: Option<T>) -> bool {
            wide.is_none() || wide == narrow
        }
        wider(self.kind, other.kind) && wider(self.major, other.major) && wider(self.minor, other.minor)
    }

    /// The nodes that both speak of.
    fn overlap(&self, other: &Self) -> Option<Self> {
        fn meet<T: PartialEq + Copy>(one: Option<T>, other: Option<T>) -> Option<Option<T>> {
            match (one, other) {
                (Some(a), Some(b)) if a != b => None,
                (Some(a), _) => Some(Some(a)),
                (None, b) => Some(b),
            }
        }
        Some(Self {
            kind: meet(self.kind, other.kind)?,
            major: meet(self.major, other.major)?,
            minor: meet(self.minor, other.minor)?,
        })
    }

    fn contains(&self, node: Node) -> bool {
        self.covers(&Self { kind: Some(node.kind), major: Some(node.major), minor: Some(node.minor) })
    }
}

/// One rule, read and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    allow: bool,
    matches: Match,
    access: Access,
    /// Position in the configuration; none for the runtime's own rules.
    index: Option<usize>,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.matches.kind {
            None => "a",
            Some(Kind::Block) => "b",
            Some(Kind::Char) => "c",
        };
        let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
        let (major, minor) = (number(self.matches.major), number(self.matches.minor));
        let verb = if self.allow { "allow" } else { "deny" };
        write!(f, "{verb} {kind} {major}:{minor} {}", self.access)
    }
}

/// What runc adds after the configuration's rules (runc 1.5, specconv.AllowedDevices): making any node, and using
/// null, zero, full, random, urandom, tty, the pseudo terminals, ptmx and tun.
const OWN_RULES: [(Kind, Option<u32>, Option<u32>, Access); 11] = [
    (Kind::Char, None, None, Access::MKNOD),
    (Kind::Block, None, None, Access::MKNOD),
    (Kind::Char, Some(1), Some(3), Access::ALL),
    (Kind::Char, Some(1), Some(8), Access::ALL),
    (Kind::Char, Some(1), Some(7), Access::ALL),
    (Kind::Char, Some(5), Some(0), Access::ALL),
    (Kind::Char, Some(1), Some(5), Access::ALL),
    (Kind::Char, Some(1), Some(9), Access::ALL),
    (Kind::Char, Some(136), None, Access::ALL),
    (Kind::Char, Some(5), Some(2), Access::ALL),
    (Kind::Char, Some(10), Some(200), Access::ALL),
];

/// Most rules that are read; the reduction compares each with all others.
const MAX_RULES: usize = 4096;

/// All device rules of a container, reduced.
///
/// Holding one proves: no rule is hidden by a later one or changes nothing; numbers and letters are the kernel's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRules {
    rules: Vec<Rule>,
}

impl DeviceRules {
    /// Reads `linux.resources.devices` and adds the runtime's own rules after them.
    ///
    /// # Errors
    /// The rule that is none: its type is not `a`, `b` or `c`, its access is empty or has other letters than `rwm`, a
    /// number is negative (but -1, any) or too large. Or there are more than 4096.
    pub fn new(listed: &[DeviceRule]) -> Result<Self, Refusal> {
        if listed.len() > MAX_RULES {
            let reason = format!("{} rules are more than {MAX_RULES}", listed.len());
            return Err(Refusal::new(format!("{RESOURCES}/devices"), reason));
        }
        let mut all = Self { rules: Vec::with_capacity(listed.len() + OWN_RULES.len()) };
        for (index, rule) in listed.iter().enumerate() {
            all.add(read(index, rule)?);
        }
        for (kind, major, minor, access) in OWN_RULES {
            let matches = Match { kind: Some(kind), major, minor };
            all.add(Rule { allow: true, matches, access, index: None });
        }
        Ok(all)
    }

    /// Whether `access` to `node` is allowed.
    #[must_use]
    pub fn allows(&self, node: Node, access: Access) -> bool {
        access.each().all(|bit| {
            let last = self.rules.iter().rev().find(|rule| rule.matches.contains(node) && has(rule, bit));
            last.is_some_and(|rule| rule.allow)
        })
    }

    /// Whether nothing is denied.
    #[must_use]
    pub fn allow_all(&self) -> bool {
        matches!(self.rules.as_slice(), [one] if one.allow && one.matches == Match::ANY && one.access == Access::ALL)
    }

    /// How many rules are left after the reduction.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether everything is denied.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Adds a rule over the others and keeps the list reduced. Each of the steps leaves the answers unchanged.
    fn add(&mut self, mut rule: Rule) {
        // Nobody sees an older rule where the new one covers it.
        for older in self.rules.iter_mut().filter(|older| rule.matches.covers(&older.matches)) {
            older.access = older.access.without(rule.access);
        }
        self.rules.retain(|older| !older.access.is_empty());
        // Bits for which the answer is already this one need no rule.
        for bit in rule.access.each() {
            if self.is_answer_everywhere(&rule, bit) {
                rule.access = rule.access.without(bit);
            }
        }
        if rule.access.is_empty() {
            return;
        }
        if self.merge(&rule) {
            // The wider rule may cover others now.
            for rule in std::mem::take(&mut self.rules) {
                self.add(rule);
            }
            return;
        }
        self.rules.push(rule);
    }

    /// Lets an older rule say the same too, where no other answer stands between the two.
    fn merge(&mut self, rule: &Rule) -> bool {
        for older in self.rules.iter_mut().rev() {
            if older.allow != rule.allow {
                if older.matches.overlap(&rule.matches).is_some() {
                    return false;
                }
                continue;
            }
            if older.matches == rule.matches {
                older.access = older.access.with(rule.access);
                return true;
            }
            if older.access == rule.access {
                if let Some(both) = both_kinds(&older.matches, &rule.matches) {
                    older.matches = both;
                    return true;
                }
            }
        }
        false
    }

    /// Whether, for every node that `rule` speaks of, `bit` already has its answer.
    fn is_answer_everywhere(&self, rule: &Rule, bit: Access) -> bool {
        for older in self.rules.iter().rev().filter(|older| has(older, bit)) {
            if older.allow != rule.allow && older.matches.overlap(&rule.matches).is_some() {
                return false;
            }
            if older.allow == rule.allow && older.matches.covers(&rule.matches) {
                return true;
            }
        }
        // Below all rules everything is denied.
        !rule.allow
    }
}

impl fmt::Display for DeviceRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("deny all")?;
        self.rules.iter().try_for_each(|rule| write!(f, ", {rule}"))
    }
}

fn has(rule: &Rule, bit: Access) -> bool {
    !rule.access.both(bit).is_empty()
}

/// `c M:m` and `b M:m` are together `a M:m`.
fn both_kinds(one: &Match, other: &Match) -> Option<Match> {
    let kinds = matches!((one.kind, other.kind), (Some(a), Some(b)) if a != b);
    (kinds && one.major == other.major && one.minor == other.minor).then_some(Match { kind: None, ..*one })
}

/// The pointer of one rule.
fn pointer(index: usize) -> String {
    format!("{RESOURCES}/devices/{index}")
}

fn read(index: usize, rule: &DeviceRule) -> Result<Rule, Refusal> {
    let refuse = |field: &str, reason: String| Refusal::new(format!("{}/{field}", pointer(index)), reason);
    let kind = match rule.kind.as_deref() {
        None | Some("" | "a") => None,
        Some("b") => Some(Kind::Block),
        Some("c" | "u") => Some(Kind::Char),
        Some(other) => return Err(refuse("type", format!("{other:?} is not a, b or c"))),
    };
    let number = |value: Option<i64>, field: &str| match value {
        None | Some(-1) => Ok(None),
        Some(value) => {
            u32::try_from(value).map(Some).map_err(|_| refuse(field, format!("{value} is no device number")))
        }
    };
    let text = rule.access.as_deref().unwrap_or_default();
    let access = Access::parse(text).filter(|access| !access.is_empty());
    let access = access.ok_or_else(|| refuse("access", format!("{text:?} is not made of r, w and m")))?;
    let matches = Match { kind, major: number(rule.major, "major")?, minor: number(rule.minor, "minor")? };
    Ok(Rule { allow: rule.allow, matches, access, index: Some(index) })
}
