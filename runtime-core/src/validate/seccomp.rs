//! System call filters, as far as the document alone can be wrong.
//!
//! For: `linux.seccomp`. Must not: know system calls; names that the machine does not have are legal.
//! Tests: `tests`.

use std::path::PathBuf;

use super::report::{Place, Report, shown};
use crate::spec::{Seccomp, SeccompArg, SeccompRule};

/// What an action needs to know about `errnoRet`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ActionData {
    /// Takes none.
    None,
    /// An errno, at most 4095 (the kernel's MAX_ERRNO).
    Errno,
    /// 16 bits for the tracer.
    Trace,
    /// None, and the call waits for a listener.
    Notify,
}

pub(super) const ACTIONS: [(&str, ActionData); 9] = [
    ("SCMP_ACT_ALLOW", ActionData::None),
    ("SCMP_ACT_ERRNO", ActionData::Errno),
    ("SCMP_ACT_KILL", ActionData::None),
    ("SCMP_ACT_KILL_PROCESS", ActionData::None),
    ("SCMP_ACT_KILL_THREAD", ActionData::None),
    ("SCMP_ACT_LOG", ActionData::None),
    ("SCMP_ACT_NOTIFY", ActionData::Notify),
    ("SCMP_ACT_TRACE", ActionData::Trace),
    ("SCMP_ACT_TRAP", ActionData::None),
];

pub(super) const OPERATORS: [(&str, ()); 7] = [
    ("SCMP_CMP_EQ", ()),
    ("SCMP_CMP_GE", ()),
    ("SCMP_CMP_GT", ()),
    ("SCMP_CMP_LE", ()),
    ("SCMP_CMP_LT", ()),
    ("SCMP_CMP_MASKED_EQ", ()),
    ("SCMP_CMP_NE", ()),
];

pub(super) const ARCHITECTURES: [(&str, ()); 23] = [
    ("SCMP_ARCH_AARCH64", ()),
    ("SCMP_ARCH_ARM", ()),
    ("SCMP_ARCH_LOONGARCH64", ()),
    ("SCMP_ARCH_M68K", ()),
    ("SCMP_ARCH_MIPS", ()),
    ("SCMP_ARCH_MIPS64", ()),
    ("SCMP_ARCH_MIPS64N32", ()),
    ("SCMP_ARCH_MIPSEL", ()),
    ("SCMP_ARCH_MIPSEL64", ()),
    ("SCMP_ARCH_MIPSEL64N32", ()),
    ("SCMP_ARCH_PARISC", ()),
    ("SCMP_ARCH_PARISC64", ()),
    ("SCMP_ARCH_PPC", ()),
    ("SCMP_ARCH_PPC64", ()),
    ("SCMP_ARCH_PPC64LE", ()),
    ("SCMP_ARCH_RISCV64", ()),
    ("SCMP_ARCH_S390", ()),
    ("SCMP_ARCH_S390X", ()),
    ("SCMP_ARCH_SH", ()),
    ("SCMP_ARCH_SHEB", ()),
    ("SCMP_ARCH_X32", ()),
    ("SCMP_ARCH_X86", ()),
    ("SCMP_ARCH_X86_64", ()),
];

const WAIT_KILLABLE: &str = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV";

/// TSYNC is not in the specification's list, but runc takes it; with one thread it changes nothing.
pub(super) const FLAGS: [(&str, ()); 4] = [
    ("SECCOMP_FILTER_FLAG_LOG", ()),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", ()),
    ("SECCOMP_FILTER_FLAG_TSYNC", ()),
    (WAIT_KILLABLE, ()),
];

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
    let default = report.word(&action_at, &filter.default_action, &ACTIONS);
    if default == Some(ActionData::Notify) {
        let message = "notifies for every call: the listener could not even be handed over";
        report.refuse(&action_at, "seccomp-notify-default", message);
    }
    errno_ret(default, filter.default_errno_ret, &at.key("defaultErrnoRet"), report);
    for (key, words, table) in [
        ("architectures", filter.architectures.as_slice(), &ARCHITECTURES[..]),
        ("flags", filter.flags.as_deref().unwrap_or_default(), &FLAGS[..]),
    ] {
        let at = at.key(key);
        for (index, word) in words.iter().enumerate() {
            report.word(&at.index(index), word, table);
        }
    }
    let mut notifies = false;
    let rules_at = at.key("syscalls");
    report.count(&rules_at, filter.syscalls.len(), MOST_RULES);
    for (index, it) in filter.syscalls.iter().enumerate() {
        notifies |= rule(it, &rules_at.index(index), report);
    }
    let flags_at = at.key("flags");
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
    let action = report.word(&at.key("action"), &rule.action, &ACTIONS);
    let notifies = action == Some(ActionData::Notify);
    for (index, name) in rule.names.iter().enumerate() {
        if name.is_empty() {
            report.refuse(&names_at.index(index), "seccomp-name-empty", "expects the name of a system call");
        } else if notifies && name == "write" {
            let message = "notifies for write, which the runtime needs before the listener can answer";
            report.refuse(&names_at.index(index), "seccomp-notify-write", message);
        }
    }
    errno_ret(action, rule.errno_ret, &at.key("errnoRet"), report);
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
    report.word(&at.key("op"), &arg.op, &OPERATORS);
}

fn errno_ret(action: Option<ActionData>, value: Option<u32>, at: &Place<'_>, report: &mut Report) {
    let (Some(action), Some(value)) = (action, value) else { return };
    let most = match action {
        ActionData::Errno => 4095,
        ActionData::Trace => 65_535,
        ActionData::None | ActionData::Notify => {
            report.refuse(at, "seccomp-errno-conflict", "is given for an action that takes no number");
            return;
        }
    };
    if value > most {
        report.refuse(at, "value-out-of-range", format!("expects at most {most}, found {value}"));
    }
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
    if !report.absolute(&path_at, path) {
        return None;
    }
    if !notifies {
        report.warn(
            &path_at,
            "seccomp-listener-unused",
            format!("is not used, no rule notifies: {}", shown(path)),
        );
        return None;
    }
    Some(SeccompListener { path: PathBuf::from(path), metadata: metadata.to_owned() })
}
