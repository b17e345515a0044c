//! The program to run: for create, and for exec's process document.
//!
//! For: `process` of config.md.
//! Must not: fill in what the document does not say; the plan does, visibly. Tests: `tests`.

use super::capabilities::{CapabilitySets, capabilities};
use super::lists::{IndexList, index_list};
use super::report::{Place, Report, shown};
use super::{hooks, scheduling};
use crate::spec::{Box2D, ExecCpuAffinity, Id, Process, Rlimit, User};

/// Resource limits by the kernel's numbers (asm-generic/resource.h, the same on every architecture we build for).
pub(super) const RLIMITS: [(&str, u32); 16] = [
    ("RLIMIT_CPU", 0),
    ("RLIMIT_FSIZE", 1),
    ("RLIMIT_DATA", 2),
    ("RLIMIT_STACK", 3),
    ("RLIMIT_CORE", 4),
    ("RLIMIT_RSS", 5),
    ("RLIMIT_NPROC", 6),
    ("RLIMIT_NOFILE", 7),
    ("RLIMIT_MEMLOCK", 8),
    ("RLIMIT_AS", 9),
    ("RLIMIT_LOCKS", 10),
    ("RLIMIT_SIGPENDING", 11),
    ("RLIMIT_MSGQUEUE", 12),
    ("RLIMIT_NICE", 13),
    ("RLIMIT_RTPRIO", 14),
    ("RLIMIT_RTTIME", 15),
];

/// A resource limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResourceLimit {
    /// The kernel's number of the resource, `RLIMIT_*`.
    pub resource: u32,
    /// What is enforced.
    pub soft: u64,
    /// Ceiling of the soft limit, not below it.
    pub hard: u64,
}

/// Whom a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ValidUser {
    /// User id inside.
    pub uid: Id,
    /// Group id inside.
    pub gid: Id,
    /// File mode creation mask, at most 0777.
    pub umask: Option<u32>,
    /// Exactly these supplementary groups.
    pub additional_gids: Vec<Id>,
}

/// What validation made of a process document.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessParts {
    /// Whether it gets a terminal.
    pub terminal: bool,
    /// Rows and columns of the terminal; only with a terminal.
    pub console_size: Option<(u16, u16)>,
    /// Whom it runs as.
    pub user: ValidUser,
    /// The program and its arguments, at least one.
    pub args: Vec<String>,
    /// `NAME=value`, no name empty; a name may appear twice.
    pub env: Vec<String>,
    /// Absolute.
    pub cwd: String,
    /// Absent when the document says nothing about capabilities.
    pub capabilities: Option<CapabilitySets>,
    /// Each resource at most once.
    pub rlimits: Vec<ResourceLimit>,
    /// prctl(2) PR_SET_NO_NEW_PRIVS.
    pub no_new_privileges: bool,
    /// -1000 to 1000; absent leaves it as it is.
    pub oom_score_adj: Option<i16>,
    /// AppArmor profile.
    pub apparmor_profile: Option<String>,
    /// SELinux label.
    pub selinux_label: Option<String>,
    /// Scheduling policy.
    pub scheduler: Option<scheduling::SchedulingPolicy>,
    /// Priority of disk access.
    pub io_priority: Option<scheduling::IoClass>,
    /// CPUs before an exec'd process enters the cgroup.
    pub affinity_initial: Option<IndexList>,
    /// CPUs after it did.
    pub affinity_final: Option<IndexList>,
}

/// For what a process document is checked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// The container's own process.
    Create,
    /// A further process.
    Exec,
}

pub(super) fn process(document: &Process, purpose: Use, at: &Place<'_>, report: &mut Report) -> ProcessParts {
    if document.args.is_empty() {
        report.refuse(&at.key("args"), "args-empty", "expects the program to run, found no arguments");
    }
    texts("args", &document.args, at, report);
    hooks::environment(&document.env, &at.key("env"), report);
    report.absolute(&at.key("cwd"), &document.cwd);
    let terminal = document.terminal == Some(true);
    let affinity = document.exec_cpu_affinity.as_ref();
    ProcessParts {
        terminal,
        // A size without a terminal means nothing, not even when it is wrong (config.md, "consoleSize").
        console_size: document
            .console_size
            .as_ref()
            .filter(|_| terminal)
            .and_then(|size| console_size(size, &at.key("consoleSize"), report)),
        user: user(document.user.as_ref(), purpose, &at.key("user"), report),
        args: document.args.clone(),
        env: document.env.clone(),
        cwd: document.cwd.clone(),
        capabilities: document
            .capabilities
            .as_ref()
            .map(|sets| capabilities(sets, &at.key("capabilities"), report)),
        rlimits: rlimits(&document.rlimits, &at.key("rlimits"), report),
        no_new_privileges: document.no_new_privileges == Some(true),
        oom_score_adj: document.oom_score_adj.and_then(|value| oom_score_adj(value, at, report)),
        apparmor_profile: label("apparmorProfile", document.apparmor_profile.as_deref(), at, report),
        selinux_label: label("selinuxLabel", document.selinux_label.as_deref(), at, report),
        scheduler: document
            .scheduler
            .as_ref()
            .and_then(|scheduler| scheduling::scheduler(scheduler, &at.key("scheduler"), report)),
        io_priority: document
            .io_priority
            .as_ref()
            .and_then(|priority| scheduling::io_priority(priority, &at.key("ioPriority"), report)),
        affinity_initial: affinity.and_then(|a| cpus("initial", a, at, report)),
        affinity_final: affinity.and_then(|a| cpus("final", a, at, report)),
    }
}

fn texts(key: &str, list: &[String], at: &Place<'_>, report: &mut Report) {
    let at = at.key(key);
    for (index, text) in list.iter().enumerate() {
        report.text(&at.index(index), text);
    }
}

fn user(user: Option<&User>, purpose: Use, at: &Place<'_>, report: &mut Report) -> ValidUser {
    let nobody = User::default();
    let user = user.unwrap_or(&nobody);
    let mut id = |key, id: Option<Id>| match (id, purpose) {
        (Some(id), _) => id,
        (None, Use::Create) => {
            // The schema does not require it, and every runtime takes 0; whoever left it out should know.
            report.warn(&at.key(key), "id-missing", "is not given: 0 is taken");
            Id::ROOT
        }
        (None, Use::Exec) => {
            // Running as root what was meant to run as somebody else has been a vulnerability more than once.
            report.refuse(&at.key(key), "id-missing", "expects the id to run as, 0 to 4294967294");
            Id::ROOT
        }
    };
    let (uid, gid) = (id("uid", user.uid), id("gid", user.gid));
    if let Some(umask) = user.umask.filter(|umask| *umask > 0o777) {
        report.refuse(
            &at.key("umask"),
            "value-out-of-range",
            format!("expects 0 to 511 (octal 777), found {umask}"),
        );
    }
    report.count(&at.key("additionalGids"), user.additional_gids.len(), 65_536);
    ValidUser { uid, gid, umask: user.umask, additional_gids: user.additional_gids.clone() }
}

fn console_size(size: &Box2D, at: &Place<'_>, report: &mut Report) -> Option<(u16, u16)> {
    let mut side = |key, value: u32| match u16::try_from(value) {
        Ok(value) => Some(value),
        Err(_) => {
            report.refuse(
                &at.key(key),
                "value-out-of-range",
                format!("expects at most 65535, found {value}"),
            );
            None
        }
    };
    let (rows, columns) = (side("height", size.height), side("width", size.width));
    rows.zip(columns)
}

fn rlimits(list: &[Rlimit], at: &Place<'_>, report: &mut Report) -> Vec<ResourceLimit> {
    let mut found: Vec<ResourceLimit> = Vec::with_capacity(list.len());
    for (index, limit) in list.iter().enumerate() {
        let at = at.index(index);
        let Some(resource) = report.word(&at.key("type"), &limit.kind, &RLIMITS) else { continue };
        if found.iter().any(|other| other.resource == resource) {
            report.refuse(&at, "rlimit-twice", format!("sets {} a second time", limit.kind));
            continue;
        }
        if limit.soft > limit.hard {
            let message = format!("expects at most the hard limit, {}, found {}", limit.hard, limit.soft);
            report.refuse(&at.key("soft"), "rlimit-order", message);
        }
        found.push(ResourceLimit { resource, soft: limit.soft, hard: limit.hard });
    }
    found
}

fn oom_score_adj(value: i64, at: &Place<'_>, report: &mut Report) -> Option<i16> {
    let valid = i16::try_from(value).ok().filter(|value| (-1000..=1000).contains(value));
    if valid.is_none() {
        let message = format!("expects -1000 to 1000, found {value}");
        report.refuse(&at.key("oomScoreAdj"), "value-out-of-range", message);
    }
    valid
}

/// An empty label is an absent one: engines written in Go cannot tell them apart.
pub(super) fn label(key: &str, label: Option<&str>, at: &Place<'_>, report: &mut Report) -> Option<String> {
    let label = label.filter(|label| !label.is_empty())?;
    report.line(&at.key(key), label).then(|| label.to_owned())
}

fn cpus(key: &str, affinity: &ExecCpuAffinity, at: &Place<'_>, report: &mut Report) -> Option<IndexList> {
    let text = if key == "initial" { &affinity.initial } else { &affinity.last };
    let text = text.as_deref().filter(|text| !text.is_empty())?;
    let at = at.key("execCPUAffinity");
    let list = index_list(text);
    if list.is_none() {
        let message = format!("expects a list of CPUs like 0-3,7, found {}", shown(text));
        report.refuse(&at.key(key), "cpu-list", message);
    }
    list
}
