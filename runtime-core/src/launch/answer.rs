//! What the parent does to a child that waits for it: everything that the kernel checks against the initial user namespace.
//!
//! Must not: decide. Tests: containers with user namespaces, time offsets and limits in the `tests` package.

use super::reach::Lent;
use super::refused;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::script::Answer;
use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::io::{Errno, write};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use std::path::PathBuf;

/// Does one thing to the child with this pid, which is ours and cannot be reused while we hold its pidfd unreaped; `lent` are the trees
/// that it sent.
///
/// # Errors
/// The kernel's reason, with the file it was about.
pub(crate) fn answer(what: &Answer, pid: i32, lent: &Lent) -> Result<()> {
    match what {
        Answer::IdMapTree { tree, recursive, maps } => {
            super::idmap::tree(lent, *tree, *recursive, maps.as_ref(), pid)
        }
        Answer::IdMaps { uid, gid, deny_setgroups } => id_maps(pid, uid, gid, *deny_setgroups),
        Answer::JoinClass { tasks } => crate::rdt::join(tasks, pid),
        Answer::TimeOffsets { lines } => write_proc(pid, "timens_offsets", lines),
        Answer::OomScoreAdj { value } => write_proc(pid, "oom_score_adj", &value.to_string()).map_err(|e| {
            if matches!(e.errno(), Some(libc::EACCES | libc::EPERM)) {
                e.with_hint("lowering the value needs CAP_SYS_RESOURCE")
            } else {
                e
            }
        }),
        Answer::Rlimit { resource, soft, hard } => rlimit(pid, *resource, *soft, *hard),
        Answer::Scheduler(policy) => scheduling("Scheduler", "set the scheduling policy", {
            coracle_init::set_scheduler(pid, &policy.attr())
        }),
        Answer::IoPriority(class) => scheduling("IoPriority", "set the priority of disk access", {
            coracle_init::set_io_priority(pid, class.value())
        }),
    }
}

/// The words for a refusal are the same whichever half was refused.
fn scheduling(step: &str, what: &'static str, result: std::result::Result<(), Errno>) -> Result<()> {
    result.map_err(|e| {
        let error = Error::os(what, e).with_code("step-failed");
        match super::explain::scheduling_hint(step, e.raw_os_error()) {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    })
}

fn write_proc(pid: i32, file: &str, text: &str) -> Result<()> {
    let path = PathBuf::from(format!("/proc/{pid}/{file}"));
    let broken = |e: Errno| Error::os(format!("write {file} of the container's init"), e).with_path(&path);
    let fd = open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).map_err(broken)?;
    // These files take one write or none.
    match write(&fd, text.as_bytes()).map_err(broken)? {
        n if n == text.len() => Ok(()),
        _ => Err(broken(Errno::IO)),
    }
}

fn id_maps(pid: i32, uid: &str, gid: &str, deny_setgroups: bool) -> Result<()> {
    if deny_setgroups {
        write_proc(pid, "setgroups", "deny")?;
    }
    map(pid, "uid_map", uid, "newuidmap")?;
    map(pid, "gid_map", gid, "newgidmap")
}

/// Writes a map directly; what an unprivileged caller may not write itself goes through the setuid programs of shadow.
fn map(pid: i32, file: &str, lines: &str, program: &str) -> Result<()> {
    let direct = write_proc(pid, file, lines);
    match direct {
        Err(e) if e.errno() == Some(libc::EPERM) && rustix::process::geteuid().as_raw() != 0 => {
            with_program(pid, lines, program)
        }
        other => other.map_err(|e| {
            if e.errno() == Some(libc::EPERM) {
                let refused = refused::user_namespaces();
                e.with_hint(refused.unwrap_or("the host ids of a mapping must belong to the caller"))
            } else {
                e
            }
        }),
    }
}

/// Where distributions install the programs; never a search path that somebody else sets.
const PLACES: [&str; 2] = ["/usr/bin", "/usr/sbin"];

fn with_program(pid: i32, lines: &str, program: &str) -> Result<()> {
    let missing = || {
        Error::new(ErrorKind::Unsupported, format!("map more than one's own id: {program} is not installed"))
            .with_code("newidmap-missing")
            .with_hint(
                "install the package uidmap (shadow) and give the user ranges in /etc/subuid and /etc/subgid",
            )
    };
    let path = PLACES
        .iter()
        .map(|dir| format!("{dir}/{program}"))
        .find(|p| rustix::fs::statat(CWD, p, rustix::fs::AtFlags::empty()).is_ok());
    let path = path.ok_or_else(missing)?;
    let mut args = vec![path.clone(), pid.to_string()];
    args.extend(lines.split_whitespace().map(str::to_owned));
    super::hook::run_program(&path, &args, &[], "/")
}

fn rlimit(pid: i32, resource: u32, soft: u64, hard: u64) -> Result<()> {
    let resource = RESOURCES
        .iter()
        .find(|(number, _)| *number == resource)
        .map(|(_, r)| *r)
        .ok_or_else(|| Error::new(ErrorKind::InvalidSpec, "the resource limit is not known"))?;
    let value = |n: u64| (n != u64::MAX).then_some(n);
    let limit = Rlimit { current: value(soft), maximum: value(hard) };
    prlimit(Pid::from_raw(pid), resource, limit).map(|_| ()).map_err(|e| {
        let e = Error::os("set a resource limit", e);
        if e.errno() == Some(libc::EPERM) {
            e.with_hint("raising a hard limit needs CAP_SYS_RESOURCE")
        } else {
            e
        }
    })
}

/// The kernel's numbers (asm-generic/resource.h).
const RESOURCES: [(u32, Resource); 16] = [
    (0, Resource::Cpu),
    (1, Resource::Fsize),
    (2, Resource::Data),
    (3, Resource::Stack),
    (4, Resource::Core),
    (5, Resource::Rss),
    (6, Resource::Nproc),
    (7, Resource::Nofile),
    (8, Resource::Memlock),
    (9, Resource::As),
    (10, Resource::Locks),
    (11, Resource::Sigpending),
    (12, Resource::Msgqueue),
    (13, Resource::Nice),
    (14, Resource::Rtprio),
    (15, Resource::Rttime),
];
