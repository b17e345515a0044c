//! Writes the sentence for a failure that came as numbers.
//!
//! The child reports a step, a call and an error number; the plan knows what the step was for. Texts live here and nowhere in the child.
//!
//! Must not: decide what is a failure. Tests: at the end of this file; error snapshots in the `tests` package.

use super::refused;
use crate::error::{Error, ErrorKind};
use crate::plan::script::{Planned, Script};
use crate::state::StepRecord;
use coracle_init::program::{OPEN_DIRECTORY, Program, Step, Str};
use coracle_init::wire::{Call, Message};
use rustix::io::Errno;

/// The wording of one step of a script.
pub(crate) fn wording(script: &Script, arena: &Program<'_>, number: u32) -> Option<StepRecord> {
    let planned = script.steps.get(usize::try_from(number).ok()?)?;
    let (sentence, subject) = sentence(planned, arena);
    let row = StepRecord::new(number, &planned.pointer, planned.phase, sentence);
    Some(row.about(planned.what.name(), subject))
}

fn sentence(planned: &Planned<Step>, arena: &Program<'_>) -> (String, String) {
    let text = |s: Str| String::from_utf8_lossy(arena.str(s).unwrap_or_default()).into_owned();
    let plain = |s: &str| (s.to_owned(), String::new());
    match planned.what {
        Step::NewFs { fstype, .. } => (format!("make the {} file system", text(fstype)), String::new()),
        Step::OpenInnerTree { path, .. } => {
            let path = text(path);
            (format!("open the mount source {path}"), path)
        }
        Step::OpenHostTree { path, flags, mode, .. } => {
            let what = match mode {
                0 if flags & OPEN_DIRECTORY != 0 => "open the root filesystem",
                0 => "open the bind source",
                _ => "open the host's device node",
            };
            (what.to_owned(), text(path))
        }
        Step::Attach { target, .. } | Step::CopyUp { target, .. } => {
            let target = text(target);
            (format!("mount on {target}"), target)
        }
        Step::Remount { target, .. } | Step::Reconfigure { target, .. } => {
            let target = text(target);
            (format!("change the mount on {target}"), target)
        }
        Step::Unmount { target } => (format!("remove the mount on {}", text(target)), text(target)),
        Step::TreeAttr { .. } => plain("set the attributes of a mount"),
        Step::AttachRoot { path, .. } => {
            (format!("put the root filesystem on {}", text(path)), String::new())
        }
        Step::MakeNode { path, .. } => (format!("make the device node {}", text(path)), text(path)),
        Step::MakeLink { path, .. } => (format!("make the link {}", text(path)), text(path)),
        Step::MakeDir { name, .. } => (format!("make the directory {}", text(name)), text(name)),
        Step::MaskPath { path, .. } => (format!("mask {}", text(path)), text(path)),
        Step::ReadonlyPath { path } => (format!("make {} read-only", text(path)), text(path)),
        Step::Sysctl { path, value, .. } => {
            (format!("set the sysctl {} to {}", text(path).replace('/', "."), text(value)), text(path))
        }
        Step::Hostname { name } => (format!("set the host name {}", text(name)), String::new()),
        Step::Domainname { name } => (format!("set the domain name {}", text(name)), String::new()),
        Step::MakeWorkingDir { path } => (format!("make the working directory {}", text(path)), text(path)),
        Step::WorkingDir { path, .. } => {
            (format!("change to the working directory {}", text(path)), text(path))
        }
        Step::Credentials { uid, gid, .. } => (format!("become user {uid}, group {gid}"), String::new()),
        Step::Rlimit { resource, soft, hard } => {
            (format!("set resource limit {resource} to {soft}:{hard}"), String::new())
        }
        Step::FindProgram { candidates, .. } => {
            let first = arena.item(candidates, 0).map(text).unwrap_or_default();
            (format!("find the program {first}"), first)
        }
        Step::JoinNamespace { .. } => plain("join a namespace"),
        Step::Unshare { .. } => plain("make new namespaces"),
        Step::SecondClone { .. } => plain("make the process of the joined namespaces"),
        Step::NamespaceRoot { .. } => plain("become root of the user namespace"),
        Step::JoinCgroup { .. } => plain("enter the cgroup"),
        Step::Propagation { .. } | Step::RootPropagation { .. } => plain("set mount propagation"),
        Step::RootReadonly => plain("make the root filesystem read-only"),
        Step::PivotRoot | Step::MoveRoot => plain("change the root"),
        Step::LoopbackUp => plain("bring the loopback interface up"),
        Step::SysctlProc { .. } => plain("open a procfs for sysctls"),
        Step::Terminal { .. } => plain("make the terminal"),
        Step::ControllingTerminal { .. } => plain("make the terminal the controlling one"),
        Step::InstallDescriptor { .. } => plain("put a standard stream in place"),
        Step::OwnStdio { .. } => plain("change the owner of a standard stream"),
        Step::Umask { .. } => plain("set the umask"),
        Step::NoNewPrivs => plain("set no_new_privs"),
        Step::BoundingSet { .. } => plain("reduce the capability bounding set"),
        Step::Capabilities { .. } => plain("set the capabilities"),
        Step::Seccomp { .. } => plain("load the seccomp filter"),
        Step::CpuAffinity { .. } => plain("set the CPU affinity"),
        Step::Scheduler { .. } => plain("set the scheduling policy"),
        Step::IoPriority { .. } => plain("set the priority of disk access"),
        Step::Label { text: label, .. } => {
            let label = text(label);
            match label.strip_prefix("exec ") {
                Some(profile) => (format!("take on the AppArmor profile {profile}"), profile.to_owned()),
                None => (format!("take on the SELinux label {}", label.trim()), String::new()),
            }
        }
        Step::Personality { .. } => plain("set the execution domain"),
        Step::MemoryPolicy { .. } => plain("set the memory policy"),
        Step::SessionKeyring => plain("make a session keyring"),
        Step::SetSid => plain("make a session"),
        Step::Hook { index, .. } => (format!("run hook {index}"), String::new()),
        Step::Exec { argv, .. } => {
            let program = arena.item(argv, 0).map(text).unwrap_or_default();
            (format!("execute {program}"), program)
        }
        Step::NonDumpable
        | Step::ParentDeathSignal { .. }
        | Step::Born { .. }
        | Step::RootReady
        | Step::Close { .. }
        | Step::ResetSignals
        | Step::Gate { .. }
        | Step::Hold
        | Step::Quit
        | Step::LendNetwork { .. }
        | Step::CloseDescriptors { .. } => plain("prepare the process"),
    }
}

/// The error for a `Failed` message. `program` is `args[0]` as configured.
pub(crate) fn failure(message: &Message, wording: Option<&StepRecord>, program: &str) -> Error {
    let Some(wording) = wording else {
        return Error::new(
            ErrorKind::Kernel,
            format!("start the container: step {} failed in {}", message.step, call_name(message.call)),
        )
        .with_errno(message.errno);
    };
    let error = match wording.name.as_str() {
        "FindProgram" | "Exec" => exec_failure(message, program),
        "Hook" => hook_failure(message, wording),
        // The one thing that the detail of such a failure can be.
        "TreeAttr" if kind(message).is_some() => {
            super::idmap::refused(Errno::from_raw_os_error(message.errno), kind(message).unwrap_or(0))
        }
        _ => step_failure(message, wording),
    };
    let error = match wording.phase() {
        Some(phase) => error.in_phase(phase),
        None => error,
    };
    if wording.pointer.is_empty() || error.pointer().is_some() {
        error
    } else {
        error.at(wording.pointer.clone())
    }
}

/// The type of a file system whose ids cannot be mapped.
fn kind(message: &Message) -> Option<u64> {
    let end = message.detail.iter().position(|b| *b == 0)?;
    std::str::from_utf8(message.detail.get(..end)?).ok()?.parse().ok()
}

/// Engines choose the exit codes 127 and 126 by these words, so they are the contract's and not the kernel's.
fn exec_failure(message: &Message, program: &str) -> Error {
    let bare = !program.contains('/');
    let (text, code, hint) = match message.errno {
        libc::ENOENT if message.call != Call::Execve && bare => {
            (format!("exec: \"{program}\": executable file not found in $PATH"), "exec-not-found", None)
        }
        libc::ENOENT if message.call != Call::Execve => (
            format!("exec: \"{program}\": stat {program}: no such file or directory"),
            "exec-not-found",
            None,
        ),
        libc::ENOENT => (
            format!("exec {program}: no such file or directory"),
            "exec-interpreter-missing",
            Some(
                "the file exists, so its interpreter (the line after #!, or the ELF loader) is missing in the image",
            ),
        ),
        libc::ENOTDIR => {
            (format!("exec: \"{program}\": stat {program}: not a directory"), "exec-not-found", None)
        }
        libc::EISDIR => (format!("exec: \"{program}\": is a directory"), "exec-directory", None),
        libc::EACCES if message.call == Call::Fstatfs => (
            format!("exec: \"{program}\": permission denied"),
            "exec-noexec",
            Some("it lies on a file system that is mounted with noexec"),
        ),
        libc::EACCES | libc::EPERM => (
            format!("exec: \"{program}\": permission denied"),
            "exec-denied",
            Some("the file must be executable for the container's user, on a file system without noexec"),
        ),
        libc::ENOEXEC => (
            format!("exec {program}: exec format error"),
            "exec-format",
            Some("a script needs a #! line; a program must be made for this machine"),
        ),
        _ => {
            return Error::new(ErrorKind::Exec, format!("exec {program}"))
                .with_errno(message.errno)
                .with_code("exec");
        }
    };
    let error = Error::new(ErrorKind::Exec, text).with_known_errno(message.errno).with_code(code);
    match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

fn hook_failure(message: &Message, wording: &StepRecord) -> Error {
    let what = &wording.wording;
    match message.call {
        Call::HookStatus => {
            let status = message.errno;
            let how = if status & 0x7f == 0 {
                format!("exited with status {}", (status >> 8) & 0xff)
            } else {
                format!("was killed by signal {}", status & 0x7f)
            };
            Error::new(ErrorKind::Hook, format!("{what}: it {how}")).with_code("hook-failed")
        }
        Call::HookTimeout => {
            Error::new(ErrorKind::Hook, format!("{what}: it did not end in time")).with_code("hook-timeout")
        }
        _ => step_failure(message, wording).of_kind(ErrorKind::Hook),
    }
}

fn step_failure(message: &Message, wording: &StepRecord) -> Error {
    let mut text = format!("{}: {}", wording.wording, call_name(message.call));
    let end = message.detail.iter().position(|b| *b == 0).unwrap_or(message.detail.len());
    let detail = String::from_utf8_lossy(message.detail.get(..end).unwrap_or_default());
    if !detail.is_empty() {
        text.push_str(&format!(" [{detail}]"));
    }
    let mut error = Error::new(ErrorKind::Kernel, text).with_code(code(message, wording));
    if message.errno != 0 {
        error = error.with_errno(message.errno);
    }
    if !wording.subject.is_empty() {
        error = error.with_path(&wording.subject);
    }
    // What is asked of this machine comes first.
    let found = match (wording.name.as_str(), wording.wording.as_str(), message.errno) {
        ("NewFs", "make the proc file system", libc::EPERM) => refused::covered("/proc"),
        ("NewFs", "make the sysfs file system", libc::EPERM) => refused::covered("/sys"),
        _ => None,
    };
    match (found, hint(message, wording)) {
        (Some(found), _) => error.with_hint(found),
        (None, Some(hint)) => error.with_hint(hint),
        (None, None) => error,
    }
}

/// The code of a failure for want of room for a second process.
pub(crate) const NO_ROOM: &str = "no-room";

/// The codes of what init opens on the host are those of `open.rs`.
fn code(message: &Message, wording: &StepRecord) -> &'static str {
    match (wording.name.as_str(), wording.wording.as_str(), message.errno) {
        ("OpenHostTree", "open the root filesystem", _) => "rootfs",
        ("OpenHostTree", "open the bind source", libc::ENOENT | libc::ENOTDIR) => "mount-source-missing",
        ("OpenHostTree", "open the bind source", _) => "mount-source",
        ("OpenHostTree", ..) => "host-device",
        ("SecondClone", _, libc::EAGAIN) => NO_ROOM,
        _ => "step-failed",
    }
}

/// What usually is behind a failure, where one answer fits.
fn hint(message: &Message, wording: &StepRecord) -> Option<&'static str> {
    match (wording.name.as_str(), message.call, message.errno) {
        ("OpenHostTree", Call::Compare, _) => {
            Some("what the host has there is not the device that was asked for")
        }
        ("OpenHostTree", _, libc::ENOENT) if wording.wording == "open the root filesystem" => {
            Some("root.path is relative to the bundle directory")
        }
        ("OpenHostTree", _, libc::ENOENT | libc::ENOTDIR) => {
            Some("create it on the host or remove the mount")
        }
        ("OpenHostTree", Call::OpenTree, libc::EINVAL) => {
            Some("with a user namespace a source that has mounts below it can only be bound with rbind")
        }
        ("OpenHostTree", _, libc::EACCES) => Some("the caller may not reach it"),
        ("Attach", Call::Compare, libc::EXDEV) => {
            Some("on /proc only a procfs can be mounted, below it only over files that lxcfs provides")
        }
        ("Attach", Call::Compare, _) => Some("something replaced the mount's target while it was mounted"),
        ("Attach", _, libc::ELOOP) => Some(
            "a link of procfs or sysfs stands in the way, or in a running container any link: name the place itself",
        ),
        ("Attach", Call::Mkdirat | Call::Mknodat, libc::EROFS) => {
            Some("the mount's target does not exist and its parent is read-only")
        }
        ("Unmount", Call::Compare, _) => Some("nothing is mounted there"),
        ("Unmount", Call::Umount2, libc::EINVAL) => {
            Some("it came with the container's user namespace, which may not remove it")
        }
        ("Unmount", _, libc::ELOOP) => {
            Some("links are not followed in a running container: name the place itself")
        }
        ("Attach", _, libc::ENOTDIR) => {
            Some("a directory cannot be mounted on a file, nor a file on a directory")
        }
        ("NewFs", _, libc::EPERM) => Some(
            "this file system cannot be made in this user namespace; a masked /proc or /sys outside may be the cause",
        ),
        ("NewFs", _, libc::ENODEV) => Some("the kernel does not know this file system"),
        ("NewFs", _, libc::EINVAL) => Some("the file system does not know an option"),
        ("SessionKeyring", _, libc::EDQUOT) => {
            Some("the key quota is used up; --no-new-keyring does without")
        }
        ("Seccomp", _, libc::EACCES) => Some("without noNewPrivileges the filter needs CAP_SYS_ADMIN"),
        ("JoinCgroup", _, libc::EBUSY) => {
            Some("the cgroup hands controllers down to cgroups below it, and takes no processes itself")
        }
        ("JoinCgroup", _, libc::EOPNOTSUPP) => {
            Some("the cgroup is a threaded one, or below one: it takes threads alone")
        }
        ("SecondClone", _, libc::EAGAIN) => Some("a limit of processes leaves no room, such as pids.limit"),
        ("Hook", Call::Clone3, libc::EAGAIN) => Some(
            "a limit of processes leaves no room, or the policy is SCHED_DEADLINE, under which nothing is forked without SCHED_FLAG_RESET_ON_FORK",
        ),
        ("Label", Call::Openat2, libc::EXDEV) => {
            Some("something is mounted over the file in the host's procfs")
        }
        ("Label", Call::Write, libc::ENOENT) => Some("the profile is not loaded; apparmor_parser does that"),
        ("Label", Call::Write, libc::EACCES | libc::EPERM) => {
            Some("the runtime's own label does not allow the change, or no_new_privs is set for it")
        }
        ("Label", Call::Write, libc::EINVAL) => Some("the loaded policy does not know the label"),
        ("Seccomp", Call::Seccomp, libc::EBUSY) => Some(
            "the runtime itself runs under a filter with a listener, and the kernel has one for each process",
        ),
        ("Seccomp", Call::Seccomp, libc::EINVAL) => {
            Some("the kernel does not know a flag of the filter; WAIT_KILLABLE_RECV came with Linux 5.19")
        }
        ("WorkingDir", Call::Getcwd | Call::Compare, _) => {
            Some("the directory lies outside the container's root")
        }
        (name @ ("Scheduler" | "IoPriority" | "CpuAffinity" | "MemoryPolicy"), _, errno) => {
            scheduling_hint(name, errno)
        }
        ("Rlimit", _, libc::EPERM) => Some("raising a hard limit needs CAP_SYS_RESOURCE"),
        _ => None,
    }
}

/// What usually is behind a refusal of sched_setattr(2), ioprio_set(2), sched_setaffinity(2), set_mempolicy(2).
pub(crate) fn scheduling_hint(step: &str, errno: i32) -> Option<&'static str> {
    Some(match (step, errno) {
        ("Scheduler", libc::EPERM) => {
            "it needs CAP_SYS_NICE in the initial user namespace; a realtime policy also needs a cgroup with realtime time (cpu.rt_runtime_us of version 1), SCHED_DEADLINE all CPUs of its root domain"
        }
        ("Scheduler", libc::EBUSY) => "the CPUs have not that much time left for SCHED_DEADLINE",
        ("Scheduler", libc::EINVAL) => {
            "the kernel does not know the policy (SCHED_ISO was never built) or a flag, or the times are not runtime <= deadline <= period"
        }
        ("Scheduler", libc::EOPNOTSUPP) => "the kernel was built without utilisation clamps",
        ("IoPriority", libc::EPERM) => "IOPRIO_CLASS_RT needs CAP_SYS_NICE in the initial user namespace",
        ("CpuAffinity", libc::EINVAL) => {
            "none of these CPUs is there and allowed: before the container's cgroup is entered the runtime's own cpuset counts, after it the container's"
        }
        ("MemoryPolicy", libc::EINVAL) => {
            "a node is not there or the container's cpuset does not allow it, or the kernel does not know the mode or takes no such flag with it"
        }
        ("MemoryPolicy", libc::ENOSYS) => "the kernel was built without NUMA",
        _ => return None,
    })
}

/// The error for a message that has no place where it came.
pub(crate) fn unexpected(message: &Message) -> Error {
    Error::new(ErrorKind::Io, format!("receive from the container's init: unexpected {:?}", message.kind))
        .with_code("wire-order")
}

fn call_name(call: Call) -> String {
    match call {
        Call::MountSetattr => "mount_setattr".to_owned(),
        Call::OpenTree => "open_tree".to_owned(),
        Call::MoveMount => "move_mount".to_owned(),
        Call::PivotRoot => "pivot_root".to_owned(),
        Call::CloseRange => "close_range".to_owned(),
        Call::SchedSetaffinity => "sched_setaffinity".to_owned(),
        Call::SchedSetattr => "sched_setattr".to_owned(),
        Call::IoprioSet => "ioprio_set".to_owned(),
        Call::SetMempolicy => "set_mempolicy".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    }
}
