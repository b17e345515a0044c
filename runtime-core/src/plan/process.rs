//! Who the process becomes: limits, credentials, capabilities, filter, directory, program.
//!
//! The order, and why:
//!
//! 1. Limits, umask and the bounding set need the rights that the next steps take away.
//! 2. The working directory is tried before and after the change of ids: private and root-squashed directories open to one of the two.
//! 3. The program is looked for as the user who will run it, and before the filter, so that the filter need not allow the search.
//! 4. Without no_new_privs a filter can only be loaded with CAP_SYS_ADMIN: before the final capabilities. With it, after them.
//! 5. The scheduling policy is the kernel's to grant by rights in the initial user namespace: below another one the parent sets it, at the gate.
//! 6. Signals get their defaults before the gate: a container that waits can be told to end.
//!
//! Must not: ask the machine, read the environment. Tests: at the end of this file; golden plans; `tests` package, process.

use super::lsm::Labels;
use super::script::{Answer, Script};
use super::seccomp::Handing;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::validate::{CapabilitySets, IndexList, MemoryPlacement, ProcessParts, ResourceLimit};
use coracle_init::program::{Slot, Step, StrList};
use coracle_init::step::sched;

/// A compiled filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    /// `struct sock_filter`s as bytes.
    pub(crate) program: Vec<u8>,
    /// Flags of seccomp(2).
    pub(crate) flags: u64,
    /// Whether it has to be loaded behind the gate, because it forbids what the gate needs.
    pub(crate) behind_gate: bool,
    /// How its listener leaves init; absent without one.
    pub(crate) listener: Option<Handing>,
}

/// Which CPUs a process may use once it is in its cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cpus<'a> {
    /// All that the cpuset allows, whatever the caller was bound to: since Linux 6.2 the kernel remembers that.
    All,
    /// These.
    Only(&'a IndexList),
    /// What the kernel makes of those that were set before it entered the cgroup.
    Kept,
}

/// Everything that decides about the process.
#[derive(Clone, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) process: &'a ProcessParts,
    /// Where `process` stands: `/process`, or empty for the document of an exec.
    pub(crate) pointer: &'static str,
    pub(crate) capabilities: CapabilitySets,
    pub(crate) filter: Option<Filter>,
    /// In a user namespace of its own: limits are raised from outside, by the parent.
    pub(crate) user_namespace: bool,
    /// setgroups(2) is denied here.
    pub(crate) groups_denied: bool,
    /// Keep the groups of the caller (annotation `run.oci.keep_original_groups`).
    pub(crate) keep_groups: bool,
    /// The parent does its part while the child waits: a second clone follows, or a user namespace hides us from it.
    pub(crate) answers_from_outside: bool,
    /// Labels of security modules.
    pub(crate) labels: Labels<'a>,
    /// Which CPUs it may use.
    pub(crate) cpus: Cpus<'a>,
    /// Where its memory comes from (set_mempolicy(2)).
    pub(crate) memory: Option<&'a MemoryPlacement>,
    /// Execution domain (personality(2)).
    pub(crate) personality: Option<u32>,
    /// The runtime has CAP_SYS_NICE, which a container's own user namespace takes from the child.
    pub(crate) nice_from_outside: bool,
    /// The parent puts it into a class of cache and bandwidth before the program may run.
    pub(crate) joins_class: bool,
}

impl Wanted<'_> {
    /// What the parent has to do before the program may run, by its place in the process document; the listener's receiver is the
    /// filter's.
    pub(crate) fn waits_for(&self) -> Option<&'static str> {
        let process = self.process;
        let outside = self.nice_from_outside;
        let reasons = [
            (process.oom_score_adj.is_some() && !self.answers_from_outside, "/oomScoreAdj"),
            (process.scheduler.is_some() && outside, "/scheduler"),
            (process.io_priority.is_some() && outside, "/ioPriority"),
            (self.filter.as_ref().is_some_and(|filter| filter.listener.is_some()), "/linux/seccomp"),
            (self.joins_class, "/linux/intelRdt"),
        ];
        reasons.into_iter().find(|(wanted, _)| *wanted).map(|(_, pointer)| pointer)
    }
}

/// CAP_SYS_NICE.
const NICE: u64 = 1 << 23;

/// Whether scheduling is the parent's: `capabilities` are the runtime's own.
pub(crate) fn nice_from_outside(user_namespace: bool, capabilities: u64) -> bool {
    user_namespace && capabilities & NICE != 0
}

/// What follows once the program may run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Gate {
    /// Wait for `start` at the socket in this slot.
    Socket(Slot),
    /// Wait for the launch.
    Hold,
    /// Nothing to wait for, but for what the parent has to do before the program may run.
    None,
}

/// RLIMIT_NOFILE of every architecture that this is built for.
const NOFILE: u32 = 7;

/// Limits and the ids of other things that need privileges, before the root change's end.
///
/// # Errors
/// When the script is full.
///
/// `files_late`: init opens more than the program may, and the runtime has the right to limit it when it is somebody else.
pub(crate) fn plan_answers(script: &mut Script, wanted: &Wanted<'_>, files_late: bool) {
    for (index, limit) in wanted.process.rlimits.iter().enumerate().filter(|_| wanted.user_namespace) {
        let ResourceLimit { resource, soft, hard, .. } = *limit;
        let pointer = format!("{}/rlimits/{index}", wanted.pointer);
        let what = Answer::Rlimit { resource, soft, hard };
        if files_late && resource == NOFILE {
            script.at_gate(pointer, Phase::Process, what);
        } else {
            script.answer(pointer, Phase::Process, what);
        }
    }
    if let Some(value) = wanted.process.oom_score_adj.map(i32::from) {
        let pointer = format!("{}/oomScoreAdj", wanted.pointer);
        let what = Answer::OomScoreAdj { value };
        if wanted.answers_from_outside {
            script.answer(pointer, Phase::Process, what);
        } else {
            script.aside(pointer, Phase::Process, what);
        }
    }
}

/// How the kernel treats the process among others. Behind the hooks that would inherit it, CPUs before the policy: SCHED_DEADLINE asks
/// for all of them.
fn plan_scheduling(script: &mut Script, wanted: &Wanted<'_>) -> Result<()> {
    let phase = Phase::Process;
    let process = wanted.process;
    let at = |field: &str| format!("{}/{field}", wanted.pointer);
    let cpus = match wanted.cpus {
        Cpus::Only(cpus) => Some((at("execCPUAffinity/final"), cpus.mask())),
        Cpus::All => Some((String::new(), every_cpu())),
        Cpus::Kept => None,
    };
    if let Some((pointer, mask)) = cpus {
        let mask = script.arena.raw(&mask)?;
        script.step(pointer, phase, Step::CpuAffinity { mask });
    }
    if let Some(memory) = wanted.memory {
        let nodes = memory.nodes.as_ref().map(IndexList::mask).unwrap_or_default();
        let nodes = script.arena.raw(&nodes)?;
        script.step("/linux/memoryPolicy", phase, Step::MemoryPolicy { policy: memory.mode, nodes });
    }
    if let Some(policy) = &process.scheduler {
        if wanted.nice_from_outside {
            script.at_gate(at("scheduler"), phase, Answer::Scheduler(*policy));
        } else {
            let attr = script.arena.raw(&sched::encode(&policy.attr()))?;
            script.step(at("scheduler"), phase, Step::Scheduler { attr });
        }
    }
    if let Some(class) = process.io_priority {
        if wanted.nice_from_outside {
            script.at_gate(at("ioPriority"), phase, Answer::IoPriority(class));
        } else {
            script.step(at("ioPriority"), phase, Step::IoPriority { value: class.value() });
        }
    }
    if let Some(domain) = wanted.personality {
        script.step("/linux/personality", phase, Step::Personality { domain });
    }
    Ok(())
}

/// Every processor: more bits than any kernel has of them. It takes those that the cpuset allows.
pub(super) fn every_cpu() -> Vec<u8> {
    vec![0xff; 1024]
}

/// Plans from the limits to the last step before the gate, the gate, and what follows it.
///
/// # Errors
/// [`ErrorKind::InvalidSpec`] when a string contains NUL or `args` is empty.
pub(crate) fn plan(
    script: &mut Script,
    wanted: &Wanted<'_>,
    gate: Gate,
    behind_gate: &mut dyn FnMut(&mut Script) -> Result<()>,
    keep_descriptors: u32,
) -> Result<()> {
    let phase = Phase::Process;
    let process = wanted.process;
    let at = |field: &str| format!("{}/{field}", wanted.pointer);
    let user = &process.user;
    let (uid, gid) = (user.uid.get(), user.gid.get());
    let no_new_privs = process.no_new_privileges;
    let filter = match &wanted.filter {
        Some(filter) => {
            let program = script.arena.raw(&filter.program)?;
            let listener = match filter.listener {
                Some(Handing::Taken) => script.slot()?,
                Some(Handing::Sent) | None => Slot::NONE,
            };
            Some((Step::Seccomp { filter: program, flags: filter.flags, listener }, filter.behind_gate))
        }
        None => None,
    };
    let filter_now = filter.filter(|(_, behind)| !behind).map(|(step, _)| step);
    let filter_late = filter.filter(|(_, behind)| *behind).map(|(step, _)| step);
    let early_filter = filter_now.filter(|_| !no_new_privs);

    wanted.labels.program(script)?;
    for (index, limit) in process.rlimits.iter().enumerate().filter(|_| !wanted.user_namespace) {
        let ResourceLimit { resource, soft, hard, .. } = *limit;
        script.step(at(&format!("rlimits/{index}")), phase, Step::Rlimit { resource, soft, hard });
    }
    plan_scheduling(script, wanted)?;
    // Unset means unchanged in the specification; images are made for 0022, which is what runc and crun give them.
    script.step(at("user/umask"), phase, Step::Umask { mask: user.umask.unwrap_or(0o022) });
    let cwd = script.str(&process.cwd)?;
    if process.cwd != "/" {
        script.step(at("cwd"), phase, Step::WorkingDir { path: cwd, optional: true });
    }
    if no_new_privs {
        script.step(at("noNewPrivileges"), phase, Step::NoNewPrivs);
    }
    let caps = wanted.capabilities;
    script.step(at("capabilities/bounding"), phase, Step::BoundingSet { bounding: caps.bounding });
    let gids: Vec<u8> = user.additional_gids.iter().flat_map(|gid| gid.get().to_ne_bytes()).collect();
    let groups = script.arena.raw(&gids)?;
    let skip_groups = wanted.keep_groups || (wanted.groups_denied && user.additional_gids.is_empty());
    let keep_admin = early_filter.is_some();
    script.step(at("user"), phase, Step::Credentials { uid, gid, groups, skip_groups, keep_admin });
    // The kernel drops it with a change of ids; said here, so that nothing depends on it. From here on nothing blocks, and at the gate the
    // report socket tells of the parent's end.
    script.step("", phase, Step::ParentDeathSignal { signal: 0 });
    script.step(at("cwd"), phase, Step::WorkingDir { path: cwd, optional: false });
    let find = find_program(script, &process.args, &process.env, uid)?;
    script.step(at("args/0"), Phase::Exec, find);
    script.step("", phase, Step::ResetSignals);
    if let Some(step) = early_filter {
        script.step("/linux/seccomp", Phase::Seccomp, step);
    }
    script.step(
        at("capabilities"),
        phase,
        Step::Capabilities {
            effective: caps.effective,
            permitted: caps.permitted,
            inheritable: caps.inheritable,
            ambient: caps.ambient,
            bounding: caps.bounding,
        },
    );
    if let Some(step) = filter_now.filter(|_| no_new_privs) {
        script.step("/linux/seccomp", Phase::Seccomp, step);
    }
    let argv = script.vector(&process.args)?;
    let env = environment(script, &process.env)?;
    match gate {
        Gate::Socket(gate) => script.step("", Phase::Gate, Step::Gate { gate }),
        Gate::Hold => script.step("", Phase::Gate, Step::Hold),
        Gate::None if wanted.waits_for().is_some() => script.step("", Phase::Gate, Step::Hold),
        Gate::None => {}
    }
    behind_gate(script)?;
    if let Some(step) = filter_late {
        script.step("/linux/seccomp", Phase::Seccomp, step);
    }
    let from = keep_descriptors.saturating_add(3);
    script.step("", Phase::Exec, Step::CloseDescriptors { from_keep: 3, from });
    script.step(at("args/0"), Phase::Exec, Step::Exec { argv, env });
    Ok(())
}

/// Where execvp(3) would look, in the container: `args[0]` itself when it has a slash, else below each entry of the container's PATH.
fn find_program(script: &mut Script, args: &[String], env: &[String], uid: u32) -> Result<Step> {
    let program = args.first().filter(|p| !p.is_empty()).ok_or_else(|| {
        Error::new(ErrorKind::InvalidSpec, "no program to execute is given").at("/process/args")
    })?;
    let home = lacks_home(env);
    let candidates = if program.contains('/') {
        script.arena.list([program.as_str()])?
    } else {
        let path = last_value(env, "PATH").unwrap_or(DEFAULT_PATH);
        let places: Vec<String> = path
            .split(':')
            .map(|dir| if dir.is_empty() { program.clone() } else { [dir, program].join("/") })
            .collect();
        script.arena.list(&places)?
    };
    Ok(Step::FindProgram { candidates, uid, home })
}

/// What execvp(3) takes when the container's environment has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Whether HOME is to be found: it is not given, or given without a value.
fn lacks_home(env: &[String]) -> bool {
    last_value(env, "HOME").is_none_or(str::is_empty)
}

/// The environment: the last entry for a name wins and keeps the place of the first, as with runc. An empty HOME makes way for the one
/// that is found.
fn environment(script: &mut Script, env: &[String]) -> Result<StrList> {
    let name = |entry: &str| entry.split_once('=').map_or(entry.len(), |(name, _)| name.len());
    let mut unique: Vec<&str> = Vec::with_capacity(env.len());
    for entry in env {
        let key = entry.get(..name(entry));
        match unique.iter_mut().find(|have| have.get(..name(have)) == key) {
            Some(have) => *have = entry,
            None => unique.push(entry),
        }
    }
    if lacks_home(env) {
        unique.retain(|entry| !entry.starts_with("HOME="));
    }
    script.vector(&unique)
}

fn last_value<'e>(env: &'e [String], name: &str) -> Option<&'e str> {
    env.iter().rev().find_map(|entry| entry.split_once('=').filter(|(key, _)| *key == name).map(|(_, v)| v))
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_init::program::Program;

    fn strings(script: Script, list: StrList) -> Vec<String> {
        let bytes = script.arena.finish([].into_iter(), 0, 0).unwrap();
        let program = Program::new(&bytes).unwrap();
        (0..list.count)
            .map(|i| {
                String::from_utf8(program.str(program.item(list, i).unwrap()).unwrap().to_vec()).unwrap()
            })
            .collect()
    }

    #[test]
    fn the_last_entry_for_a_name_wins() {
        let mut script = Script::new();
        let env = ["A=1", "B=2", "A=3", "AB=4"].map(str::to_owned);
        let list = environment(&mut script, &env).unwrap();
        assert_eq!(strings(script, list), ["A=3", "B=2", "AB=4"]);
    }

    #[test]
    fn the_program_is_looked_for_as_execvp_does() {
        for (args, env, expected) in [
            (vec!["/bin/sh"], vec![], vec!["/bin/sh"]),
            (vec!["./x"], vec!["PATH=/a"], vec!["./x"]),
            (vec!["sh"], vec!["PATH=/a:/b::/c/"], vec!["/a/sh", "/b/sh", "sh", "/c//sh"]),
        ] {
            let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
            let env: Vec<String> = env.into_iter().map(str::to_owned).collect();
            let mut script = Script::new();
            let Step::FindProgram { candidates, .. } = find_program(&mut script, &args, &env, 0).unwrap()
            else {
                panic!()
            };
            assert_eq!(strings(script, candidates), expected);
        }
    }
}
