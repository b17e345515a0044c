//! System call filters, as far as the document alone can be wrong.
//!
//! For: `linux.seccomp`. Must not: know system calls; names that the machine does not have are legal.
//! Tests: `tests`.

use std::path::PathBuf;

use coracle_seccomp::{Action, ActionError, Arch, Flags, Op};

use super::report::{Place, Report, shown};
use crate::spec::{Seccomp, SeccompArg, SeccompRule};

const WAIT_KILLABLE: &str = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV";

/// Who gets the listener of a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeccompListener {
    /// Absolute host path of the socket.
    pub path: PathBuf,
    /// Text that is sent along.
    pub metadata: String,
}

/// What validation made of a filter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeccompParts {
    /// Given exactly when some rule notifies.
    pub listener: Option<SeccompListener>,
}

const MOST_RULES: usize = 65_536;

/// `None` when the document has no filter: engines write an empty one for "off", as runc reads it.
pub(super) fn seccomp(filter: &Seccomp, at: &Place<'_>, report: &mut Report) -> Option<SeccompParts> {
    if filter.default_action.is_empty() && filter.syscalls.is_empty() {
        report.warn(at, "seccomp-empty", "has neither a default action nor rules: no filter is loaded");
        return None;
    }
    let action_at = at.key("defaultAction");
    let default = action(&filter.default_action, filter.default_errno_ret, at, DEFAULT_KEYS, report);
    if default == Some(Action::Notify) {
        let message = "notifies for every call: the listener could not even be handed over";
        report.refuse(&action_at, "seccomp-notify-default", message);
    }
    let architectures_at = at.key("architectures");
    for (index, name) in filter.architectures.iter().enumerate() {
        if Arch::from_name(name).is_none() {
            report.unknown(&architectures_at.index(index), name, Arch::ALL.map(Arch::name).into_iter());
        }
    }
    let flags_at = at.key("flags");
    for (index, name) in filter.flags.iter().flatten().enumerate() {
        report.word(&flags_at.index(index), name, &Flags::NAMES);
    }
    let mut notifies = false;
    let rules_at = at.key("syscalls");
    report.count(&rules_at, filter.syscalls.len(), MOST_RULES);
    for (index, it) in filter.syscalls.iter().enumerate() {
        notifies |= rule(it, &rules_at.index(index), report);
    }
    let mut flags = filter.flags.iter().flatten();
    if let Some(index) = flags.position(|flag| flag == WAIT_KILLABLE).filter(|_| !notifies) {
        let message = "is only for filters with SCMP_ACT_NOTIFY";
        report.refuse(&flags_at.index(index), "seccomp-flag-conflict", message);
    }
    Some(SeccompParts { listener: listener(filter, notifies, at, report) })
}

/// Whether the rule notifies.
fn rule(rule: &SeccompRule, at: &Place<'_>, report: &mut Report) -> bool {
    let names_at = at.key("names");
    if rule.names.is_empty() {
        report.refuse(&names_at, "seccomp-names-empty", "expects at least one system call");
    }
    let notifies = action(&rule.action, rule.errno_ret, at, RULE_KEYS, report) == Some(Action::Notify);
    for (index, name) in rule.names.iter().enumerate() {
        if name.is_empty() {
            report.refuse(&names_at.index(index), "seccomp-name-empty", "expects the name of a system call");
        } else if notifies && name == "write" {
            let message = "notifies for write, which the runtime needs before the listener can answer";
            report.refuse(&names_at.index(index), "seccomp-notify-write", message);
        }
    }
    let args_at = at.key("args");
    for (index, it) in rule.args.iter().enumerate() {
        arg(it, &args_at.index(index), report);
    }
    notifies
}

fn arg(arg: &SeccompArg, at: &Place<'_>, report: &mut Report) {
    if arg.index > 5 {
        report.refuse(&at.key("index"), "value-out-of-range", format!("expects 0 to 5, found {}", arg.index));
    }
    report.word(&at.key("op"), &arg.op, &Op::NAMES);
}

/// The names of an action and its number, for the default and for a rule.
const DEFAULT_KEYS: [&str; 2] = ["defaultAction", "defaultErrnoRet"];
const RULE_KEYS: [&str; 2] = ["action", "errnoRet"];

fn action(
    name: &str,
    number: Option<u32>,
    at: &Place<'_>,
    [name_key, number_key]: [&str; 2],
    report: &mut Report,
) -> Option<Action> {
    match Action::from_name(name, number) {
        Ok(action) => return Some(action),
        Err(ActionError::TakesNoErrno) => {
            let message = "is given for an action that takes no number";
            report.refuse(&at.key(number_key), "seccomp-errno-conflict", message);
        }
        Err(ActionError::TooLarge(most)) => {
            let message = format!("expects at most {most}, found {}", number.unwrap_or_default());
            report.refuse(&at.key(number_key), "value-out-of-range", message);
        }
        // Whatever else the compiler may not like about it.
        Err(_) => report.unknown(&at.key(name_key), name, Action::NAMES.into_iter()),
    }
    None
}

fn listener(
    filter: &Seccomp,
    notifies: bool,
    at: &Place<'_>,
    report: &mut Report,
) -> Option<SeccompListener> {
    let path_at = at.key("listenerPath");
    let path = filter.listener_path.as_deref().filter(|path| !path.is_empty());
    let metadata = filter.listener_metadata.as_deref().unwrap_or_default();
    let Some(path) = path else {
        if !metadata.is_empty() {
            let message = "is given without listenerPath, the socket that would receive it";
            report.refuse(&at.key("listenerMetadata"), "seccomp-metadata", message);
        }
        if notifies {
            let message = "is missing, and a rule notifies: its calls would wait for nobody";
            report.refuse(&path_at, "seccomp-listener-missing", message);
        }
        return None;
    };
    // Whatever it is: config-linux.md, "this value is ignored".
    if !notifies {
        report.warn(
            &path_at,
            "seccomp-listener-unused",
            format!("is not used, no rule notifies: {}", shown(path)),
        );
        return None;
    }
    if !report.absolute(&path_at, path) {
        return None;
    }
    Some(SeccompListener { path: PathBuf::from(path), metadata: metadata.to_owned() })
}
