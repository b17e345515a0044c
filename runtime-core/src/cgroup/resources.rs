//! From the specification's resources to files and values: the only place that knows the conversion.
//!
//! Pure: the host is a [`Layout`]. What is asked for and has no file on that host is refused with its JSON pointer;
//! nothing is left out. Zero means "not set" where runc's contract says so (memory, shares, quota, period, weights), and is a
//! limit for `pids`. Order: typed properties first, `unified` last over them.
//! Must not: open anything. Device rules are in `devices`.
//! Tests: `resources/tests.rs`.

mod cpu;
mod io;
mod memory;
pub(crate) mod merge;
mod misc;
#[cfg(test)]
mod table;
#[cfg(test)]
mod tests;
mod unified;

use std::fmt;

use serde::{Deserialize, Serialize};

use super::error::Refusal;
use super::layout::{Hierarchy, HierarchyKey, Layout, Version};
use crate::spec::Resources;

pub use cpu::weight_from_shares;

/// JSON pointer of the resources in `config.json`.
pub const RESOURCES: &str = "/linux/resources";

/// One value for one file of the cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Write {
    /// Which hierarchy's directory.
    pub hierarchy: HierarchyKey,
    /// Name of the file.
    pub file: String,
    /// Written in one call.
    pub value: String,
    /// The line of the configuration that asks for it.
    pub pointer: String,
    /// What a missing file means.
    #[serde(default, skip_serializing_if = "Absent::is_error")]
    pub absent: Absent,
    /// Replace the first word of the value by that of the file: `cpu.max` holds quota and period, and setting one
    /// must not change the other.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_first_word: bool,
    /// Refuse the value if this file of the same directory shows more (memory in use).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_below: Option<String>,
    /// Refuse it when the file does not show it afterwards: since 5.16 the kernel takes limits of kernel memory and forgets them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_be_ignored: bool,
}

/// What to do when the file of a [`Write`] is not there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Absent {
    /// The request cannot be met.
    #[default]
    Error,
    /// The value is what the kernel does without the file.
    Skip,
    /// The value is what the kernel does without the file as long as the host has no swap space.
    SkipWithoutSwap,
    /// Another file says the same in its own unit.
    Instead {
        /// Its name.
        file: String,
        /// The converted value.
        value: String,
    },
}

impl Absent {
    fn is_error(&self) -> bool {
        *self == Self::Error
    }
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} = {}", self.hierarchy, self.file, self.value.escape_default())?;
        if self.keep_first_word {
            f.write_str(" (first word kept)")?;
        }
        if let Absent::Instead { file, value } = &self.absent {
            write!(f, " (else {file} = {value})")?;
        }
        write!(f, "  [{}]", self.pointer)
    }
}

/// Converts the resources for a host. Device rules are not part of it.
///
/// # Errors
/// The first property that cannot be enforced on that host: its controller is not mounted or not delegated, version 2
/// has no such limit, or the value is none that the kernel knows.
pub fn plan(resources: &Resources, layout: &Layout) -> Result<Vec<Write>, Refusal> {
    convert(resources, layout, false)
}

/// The same for a container that has limits already: also what is the kernel's default is written.
pub(crate) fn plan_update(resources: &Resources, layout: &Layout) -> Result<Vec<Write>, Refusal> {
    convert(resources, layout, true)
}

fn convert(resources: &Resources, layout: &Layout, defaults: bool) -> Result<Vec<Write>, Refusal> {
    let mut plan = Conversion { layout, writes: Vec::new(), defaults };
    misc::pids(&mut plan, resources)?;
    memory::memory(&mut plan, resources)?;
    io::block_io(&mut plan, resources)?;
    cpu::cpu(&mut plan, resources)?;
    cpu::cpuset(&mut plan, resources)?;
    misc::hugepages(&mut plan, resources)?;
    misc::rdma(&mut plan, resources)?;
    misc::network(&mut plan, resources)?;
    unified::unified(&mut plan, resources)?;
    Ok(plan.writes)
}

/// The list being made.
struct Conversion<'a> {
    layout: &'a Layout,
    writes: Vec<Write>,
    /// Write the kernel's defaults too.
    defaults: bool,
}

impl Conversion<'_> {
    /// The hierarchy that has `controller`, for the property at `pointer` (below [`RESOURCES`]).
    fn controller(&self, controller: &str, pointer: &str) -> Result<Target, Refusal> {
        let Some(hierarchy) = self.layout.controller(controller) else {
            return Err(self.missing(controller, pointer));
        };
        if hierarchy.writable.is_none() {
            return Err(not_delegated(hierarchy, controller, pointer));
        }
        Ok(Target { key: hierarchy.key(), version: hierarchy.version })
    }

    fn missing(&self, controller: &str, pointer: &str) -> Refusal {
        let Some(v2) = self.layout.v2() else {
            return refuse(pointer, format!("the {controller} controller is not mounted on this host"));
        };
        match &v2.writable {
            None => not_delegated(v2, controller, pointer),
            Some(top) if top.is_root() => {
                refuse(pointer, format!("the {controller} controller is not available on this host"))
            }
            Some(top) => {
                refuse(pointer, format!("the {controller} controller is not delegated to {}{top}", v2.mount))
            }
        }
    }

    fn push(&mut self, target: &Target, file: &str, value: impl ToString, pointer: &str) -> &mut Write {
        let at = self.writes.len();
        self.writes.push(Write {
            hierarchy: target.key.clone(),
            file: file.to_owned(),
            value: value.to_string(),
            pointer: format!("{RESOURCES}{pointer}"),
            absent: Absent::Error,
            keep_first_word: false,
            not_below: None,
            may_be_ignored: false,
        });
        // The element was just pushed; `at` is its index.
        #[allow(clippy::indexing_slicing)]
        &mut self.writes[at]
    }
}

/// Where writes for one controller go.
struct Target {
    key: HierarchyKey,
    version: Version,
}

impl Target {
    /// The name of a file that differs between the versions.
    fn file<'a>(&self, v1: &'a str, v2: &'a str) -> &'a str {
        match self.version {
            Version::V1 => v1,
            Version::V2 => v2,
        }
    }

    fn is_v2(&self) -> bool {
        self.version == Version::V2
    }
}

fn refuse(pointer: &str, reason: impl Into<String>) -> Refusal {
    Refusal::new(format!("{RESOURCES}{pointer}"), reason)
}

fn not_delegated(hierarchy: &Hierarchy, controller: &str, pointer: &str) -> Refusal {
    refuse(
        pointer,
        format!(
            "the {controller} controller needs a cgroup below {}{} that this user may write: nothing there is delegated",
            hierarchy.mount, hierarchy.own
        ),
    )
}

/// `-1` is no limit; other negative numbers are mistakes.
fn limit(value: i64, pointer: &str) -> Result<Option<u64>, Refusal> {
    match u64::try_from(value) {
        Ok(value) => Ok(Some(value)),
        Err(_) if value == -1 => Ok(None),
        Err(_) => Err(refuse(pointer, format!("{value} is neither a limit nor -1 (no limit)"))),
    }
}

/// The text of a limit on version 2.
fn or_max(limit: Option<u64>) -> String {
    limit.map_or_else(|| "max".to_owned(), |value| value.to_string())
}

/// Text that goes into a file as one line of words must not be more than that.
fn one_line(value: &str, pointer: &str) -> Result<(), Refusal> {
    if value.is_empty() || value.chars().any(char::is_control) {
        return Err(refuse(pointer, "must be one line of text without control characters"));
    }
    Ok(())
}
