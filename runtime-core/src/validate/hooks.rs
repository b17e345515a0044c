//! Hooks, and environments, which processes have too.
//!
//! For: `hooks` of config.md. Must not: look whether a program exists; it may be made until it is needed.
//! Tests: `tests`.

use std::path::PathBuf;
use std::time::Duration;

use super::MOST_ENTRIES;
use super::report::{Place, Report, shown};
use crate::spec::{Hook, Hooks};

/// Points of the life cycle, by the specification's names and in the order in which they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HookPoint {
    /// Deprecated; before createRuntime.
    Prestart,
    /// In the runtime's namespaces, before the root is changed.
    CreateRuntime,
    /// In the container's namespaces, before the root is changed.
    CreateContainer,
    /// In the container, before the program.
    StartContainer,
    /// In the runtime's namespaces, after the program was started.
    Poststart,
    /// In the runtime's namespaces, after the container was deleted.
    Poststop,
}

impl HookPoint {
    /// All points by name.
    pub const ALL: [(&'static str, HookPoint); 6] = [
        ("prestart", HookPoint::Prestart),
        ("createRuntime", HookPoint::CreateRuntime),
        ("createContainer", HookPoint::CreateContainer),
        ("startContainer", HookPoint::StartContainer),
        ("poststart", HookPoint::Poststart),
        ("poststop", HookPoint::Poststop),
    ];

    /// The specification's name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, point)| *point == self).map_or("", |(name, _)| name)
    }
}

/// A hook.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ValidHook {
    /// When.
    pub point: HookPoint,
    /// Which of those at that point, from 0.
    pub index: usize,
    /// Absolute path of the program.
    pub path: PathBuf,
    /// Arguments, the program's name first; never empty: without arguments it is the path.
    pub args: Vec<String>,
    /// Environment; absent is not empty.
    pub env: Option<Vec<String>>,
    /// More than zero; absent means no limit.
    pub timeout: Option<Duration>,
}

pub(super) fn hooks(hooks: &Hooks, at: &Place<'_>, report: &mut Report) -> Vec<ValidHook> {
    let mut found = Vec::new();
    for (name, point) in HookPoint::ALL {
        let list = match point {
            HookPoint::Prestart => &hooks.prestart,
            HookPoint::CreateRuntime => &hooks.create_runtime,
            HookPoint::CreateContainer => &hooks.create_container,
            HookPoint::StartContainer => &hooks.start_container,
            HookPoint::Poststart => &hooks.poststart,
            HookPoint::Poststop => &hooks.poststop,
        };
        let at = at.key(name);
        report.count(&at, list.len(), MOST_ENTRIES);
        found.extend(
            list.iter().enumerate().map(|(index, it)| hook(it, point, index, &at.index(index), report)),
        );
    }
    found
}

fn hook(hook: &Hook, point: HookPoint, index: usize, at: &Place<'_>, report: &mut Report) -> ValidHook {
    report.absolute(&at.key("path"), &hook.path);
    let args_at = at.key("args");
    for (index, arg) in hook.args.iter().enumerate() {
        report.text(&args_at.index(index), arg);
    }
    if let Some(env) = &hook.env {
        environment(env, &at.key("env"), report);
    }
    let timeout = hook.timeout.and_then(|seconds| match u64::try_from(seconds) {
        Ok(seconds @ 1..) => Some(Duration::from_secs(seconds)),
        _ => {
            let message = format!("expects more than 0 seconds, found {seconds}");
            report.refuse(&at.key("timeout"), "value-out-of-range", message);
            None
        }
    });
    let args = if hook.args.is_empty() { vec![hook.path.clone()] } else { hook.args.clone() };
    ValidHook { point, index, path: PathBuf::from(&hook.path), args, env: hook.env.clone(), timeout }
}

pub(super) fn environment(env: &[String], at: &Place<'_>, report: &mut Report) {
    for (index, entry) in env.iter().enumerate() {
        let at = at.index(index);
        match entry.find('=') {
            Some(0) => {
                report.refuse(&at, "env-no-name", format!("expects a name before =, found {}", shown(entry)))
            }
            None => report.refuse(&at, "env-no-value", format!("expects NAME=value, found {}", shown(entry))),
            Some(_) => {}
        }
        report.text(&at, entry);
    }
}
