//! The plan of a further process in a running container.
//!
//! Trusted is only what was opened outside: the recorded init's pidfd, the recorded filter, the cgroup by its recorded identity.
//!
//! Must not: touch the machine, read the bundle. Tests: golden plans; `tests` package, lifecycle and hostile.

use super::lsm::Labels;
use super::process::{self, Filter, Gate};
use super::script::{Open, Script};
use super::seccomp;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::host::SecurityModules;
use crate::validate::{MemoryPlacement, NamespaceKind, ValidProcess};
use coracle_init::program::{Slot, Step};

/// The container's filter as it was written down.
#[derive(Clone, Debug)]
pub(crate) struct Compiled {
    /// `struct sock_filter`s as bytes.
    pub(crate) program: Vec<u8>,
    /// Flags of seccomp(2).
    pub(crate) flags: u64,
}

/// What an exec needs to know of the container.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    /// Types of namespaces that the container has of its own.
    pub(crate) namespaces: Vec<NamespaceKind>,
    /// Whether id 0 exists in its user namespace.
    pub(crate) root_is_mapped: bool,
    /// setgroups(2) is denied in it.
    pub(crate) groups_denied: bool,
    pub(crate) filter: Option<Compiled>,
    /// How many version 1 hierarchies it is in.
    pub(crate) joins: usize,
    /// It is in a version 2 cgroup.
    pub(crate) into_cgroup: bool,
    /// Where its processes' memory comes from.
    pub(crate) memory: Option<MemoryPlacement>,
    /// Execution domain of its processes.
    pub(crate) personality: Option<u32>,
}

/// What the caller decides.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Choices {
    pub(crate) preserve: u32,
    pub(crate) streams: bool,
    pub(crate) no_new_keyring: bool,
}

/// Everything for one exec.
#[derive(Clone, Debug)]
pub(crate) struct ExecPlan {
    pub(crate) script: Script,
    pub(crate) joins: Vec<Slot>,
    /// Slot of the version 2 file that the process writes itself to, when the clone does not put it there.
    pub(crate) enter: Option<Slot>,
    pub(crate) streams: Option<[Slot; 3]>,
    pub(crate) preserve: u32,
    /// The process waits for the parent before it executes its program.
    pub(crate) held: bool,
    pub(crate) program: String,
}

/// Plans an exec. `capabilities`: what the runtime itself has and can pass on.
///
/// # Errors
/// [`ErrorKind::InvalidSpec`] for strings with NUL; [`ErrorKind::Unsupported`] when the script is full.
pub(crate) fn plan(
    valid: &ValidProcess,
    container: &Container,
    capabilities: u64,
    modules: SecurityModules,
    choices: Choices,
) -> Result<ExecPlan> {
    let mut script = Script::new();
    let own = |kind| container.namespaces.contains(&kind);
    let user_namespace = own(NamespaceKind::User);
    // Whoever is born in the cgroup has no time before it.
    let enter = match valid.affinity_initial.as_ref().filter(|_| container.into_cgroup) {
        Some(_) => Some(script.slot()?),
        None => None,
    };
    script.into_cgroup = container.into_cgroup && enter.is_none();
    let joins = (0..container.joins).map(|_| script.slot()).collect::<Result<Vec<_>>>()?;
    let second = own(NamespaceKind::Pid) || own(NamespaceKind::Time);
    let mut wanted = process::Wanted {
        labels: Labels::of(valid, "", modules, &mut script)?,
        process: valid,
        pointer: "",
        capabilities: super::create::grantable(
            valid.capabilities.unwrap_or_default(),
            capabilities,
            user_namespace,
        ),
        filter: None,
        user_namespace,
        groups_denied: container.groups_denied,
        keep_groups: false,
        cpus: valid.affinity_final.as_ref(),
        memory: container.memory.as_ref(),
        personality: container.personality,
        nice_from_outside: process::nice_from_outside(user_namespace, capabilities),
        answers_from_outside: user_namespace || second,
    };
    if let Some(Compiled { program, flags }) = &container.filter {
        wanted.filter = Some(plan_filter(program, *flags, &wanted, capabilities)?);
    }
    process::plan_answers(&mut script, &wanted);
    let phase = Phase::Namespaces;
    script.step("", phase, Step::NonDumpable);
    if !script.answers.is_empty() {
        script.step("", phase, Step::Born { first: Slot::NONE, count: 0, optional: false });
    }
    if let Some(cpus) = &valid.affinity_initial {
        let mask = script.arena.raw(&cpus.mask())?;
        script.step("/execCPUAffinity/initial", Phase::Process, Step::CpuAffinity { mask });
    }
    for fd in joins.iter().chain(&enter) {
        script.step("", Phase::Cgroup, Step::JoinCgroup { fd: *fd });
        script.step("", Phase::Cgroup, Step::Close { fd: *fd });
    }
    let flags = container.namespaces.iter().fold(0, |flags, kind| flags | kind.clone_flag());
    if flags != 0 {
        let nstype = i32::try_from(flags)
            .map_err(|_| Error::new(ErrorKind::State, "the record names an unknown namespace"))?;
        let fd = script.open("", phase, |slot| Open::InitNamespace { nstype, slot })?;
        script.step("", phase, Step::JoinNamespace { fd, nstype });
        script.step("", phase, Step::Close { fd });
    }
    if user_namespace && container.root_is_mapped {
        script.step("", phase, Step::NamespaceRoot { groups: !container.groups_denied });
        script.step("", phase, Step::NonDumpable);
    }
    if second {
        script.step("", phase, Step::SecondClone { flags: 0, cgroup: Slot::NONE });
        script.step("", phase, Step::NonDumpable);
    }
    super::namespaces::settle(&mut script, choices.no_new_keyring, &wanted.labels)?;
    let streams = plan_streams(&mut script, valid, choices)?;
    if valid.user.uid.get() != 0 || user_namespace {
        let (uid, gid) = (valid.user.uid.get(), valid.user.gid.get());
        script.step("/user", Phase::Process, Step::OwnStdio { uid, gid });
    }
    // Nothing waits for anything: the end of the report channel says that the program was executed.
    process::plan(&mut script, &wanted, Gate::None, &mut |_| Ok(()), choices.preserve)?;
    let program = valid.args.first().cloned().unwrap_or_default();
    Ok(ExecPlan {
        script,
        joins,
        enter,
        streams,
        preserve: choices.preserve,
        held: wanted.waits_for().is_some(),
        program,
    })
}

/// Where the container's filter is loaded for this process, which may have other things to do under it than the container's first had.
fn plan_filter(
    program: &[u8],
    flags: u64,
    wanted: &process::Wanted<'_>,
    capabilities: u64,
) -> Result<Filter> {
    let listens = flags & NEW_LISTENER != 0;
    let waits_for = wanted.waits_for();
    let ahead = seccomp::Ahead {
        no_new_privs: wanted.process.no_new_privileges,
        hooks: false,
        wait: if listens || waits_for.is_some() { seccomp::Wait::Hold } else { seccomp::Wait::None },
        takes: seccomp::takes(capabilities),
    };
    seccomp::again(program, flags, ahead).map_err(|denied| denied.in_exec(waits_for))
}

/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`.
const NEW_LISTENER: u64 = 1 << 3;

fn plan_streams(script: &mut Script, valid: &ValidProcess, choices: Choices) -> Result<Option<[Slot; 3]>> {
    if valid.terminal {
        let out = script.slot()?;
        let (rows, cols) = valid.console_size.unwrap_or((0, 0));
        script.step(
            "/terminal",
            Phase::Terminal,
            Step::Terminal {
                devpts: Slot::NONE,
                rows_cols: (u64::from(rows) << 32) | u64::from(cols),
                owner: super::create::terminal_owner(valid.user.uid.get()),
                bind_console: false,
                out,
            },
        );
        script.step("/terminal", Phase::Terminal, Step::ControllingTerminal { fd: out });
        return Ok(None);
    }
    if !choices.streams {
        return Ok(None);
    }
    let slots = [script.slot()?, script.slot()?, script.slot()?];
    for (fd, target) in slots.into_iter().zip(0..) {
        script.step("", Phase::Process, Step::InstallDescriptor { fd, target });
    }
    Ok(Some(slots))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::show;
    use crate::spec::Process;
    use crate::validate::validate_process;

    /// A container with a pid and a mount namespace in a version 2 cgroup.
    fn container() -> Container {
        Container {
            namespaces: vec![NamespaceKind::Pid, NamespaceKind::Mount],
            root_is_mapped: true,
            groups_denied: false,
            filter: None,
            joins: 0,
            into_cgroup: true,
            memory: None,
            personality: None,
        }
    }

    fn planned(extra: &str, container: &Container) -> String {
        let text =
            format!(r#"{{"user":{{"uid":0,"gid":0}},"cwd":"/","args":["/x"],"env":["HOME=/"]{extra}}}"#);
        let valid = validate_process(&Process::from_slice(text.as_bytes()).unwrap()).unwrap();
        let plan = plan(&valid, container, u64::MAX, SecurityModules::default(), Choices::default()).unwrap();
        let mut out = String::new();
        show::script(&mut out, &plan.script).unwrap();
        out
    }

    /// Numbers of the lines that begin so.
    fn lines(plan: &str, start: &str) -> Vec<usize> {
        plan.lines().enumerate().filter(|(_, line)| line.starts_with(start)).map(|(n, _)| n).collect()
    }

    #[test]
    fn the_first_processors_are_set_before_the_cgroup_is_entered() {
        let plain = planned("", &container());
        assert_eq!(plain.matches("CpuAffinity").count(), 1, "{plain}");
        assert!(plain.contains("into the cgroup") && !plain.contains("JoinCgroup"), "{plain}");
        for (joins, into_cgroup) in [(0, true), (2, false), (2, true)] {
            let around = Container { joins, into_cgroup, ..container() };
            let plan = planned(r#","execCPUAffinity":{"initial":"0-2,7","final":"1"}"#, &around);
            let initial = lines(&plan, "init    CpuAffinity mask=0,1,2,7  # /execCPUAffinity/initial");
            let last = lines(&plan, "init    CpuAffinity mask=1  # /execCPUAffinity/final");
            let enter = lines(&plan, "init    JoinCgroup");
            assert_eq!(enter.len(), joins + usize::from(into_cgroup), "{plan}");
            assert!(!plan.contains("into the cgroup"), "nobody is born there: {plan}");
            assert_eq!((initial.len(), last.len()), (1, 1), "{plan}");
            assert!(enter.iter().all(|n| initial[0] < *n && *n < last[0]), "{plan}");
        }
    }

    #[test]
    fn what_needs_rights_outside_waits_for_the_parent() {
        let extra = r#","scheduler":{"policy":"SCHED_FIFO","priority":9},"ioPriority":{"class":"IOPRIO_CLASS_RT","priority":1}"#;
        let inside = planned(extra, &container());
        assert!(inside.contains("init    Scheduler policy=1 priority=9  # /scheduler"), "{inside}");
        assert!(inside.contains("init    IoPriority value=1:1  # /ioPriority"), "{inside}");
        assert!(!inside.contains("Hold"), "{inside}");
        let mut around = container();
        around.namespaces.push(NamespaceKind::User);
        let outside = planned(extra, &around);
        assert!(outside.contains("at gate scheduler policy=1 priority=9  # /scheduler"), "{outside}");
        assert!(outside.contains("at gate io priority 1:1  # /ioPriority"), "{outside}");
        assert_eq!(lines(&outside, "init    Hold").len(), 1, "{outside}");
        assert!(!planned("", &around).contains("Hold"), "only then");
    }

    #[test]
    fn the_containers_memory_policy_and_domain_are_the_added_processs() {
        let memory = MemoryPlacement::recorded(2, &[(0, 0)]);
        let plan = planned("", &Container { memory: Some(memory), personality: Some(8), ..container() });
        assert!(plan.contains("init    MemoryPolicy policy=2 nodes=0  # /linux/memoryPolicy"), "{plan}");
        assert!(plan.contains("init    Personality domain=8  # /linux/personality"), "{plan}");
    }
}
