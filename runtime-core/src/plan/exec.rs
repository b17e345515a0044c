//! The plan of a further process in a running container.
//!
//! Trusted is only what was opened outside: the recorded init's pidfd, the recorded filter, the cgroup by its recorded identity.
//!
//! The cgroup: the first process is born there, and a second one inherits it, so that the one that the container sees has no directory of the
//! host's cgroups open. Both count for a moment. Where pids.limit leaves room for one alone, the second enters by itself; before the cgroup
//! namespace is joined, for from inside of that the cgroup that it comes from does not exist. Below a user namespace it has no right to.
//! So it is where the cgroup may be frozen, too: then the second alone waits for the end of that.
//!
//! Must not: touch the machine, read the bundle. Tests: golden plans; `tests` package, lifecycle and hostile.

use super::lsm::Labels;
use super::process::{self, Cpus, Filter, Gate};
use super::script::{Answer, Open, Script, Sharing};
use super::seccomp;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::host::SecurityModules;
use crate::validate::{MemoryPlacement, NamespaceKind, ValidProcess};
use coracle_init::program::{Slot, Step};
use std::path::PathBuf;

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
    /// Its processes keep the groups of who makes them.
    pub(crate) keep_groups: bool,
    pub(crate) filter: Option<Compiled>,
    /// How many version 1 hierarchies it is in.
    pub(crate) joins: usize,
    /// It is in a version 2 cgroup.
    pub(crate) into_cgroup: bool,
    /// There may be a limit for the memory of all that is in the cgroup.
    pub(crate) memory_limited: bool,
    /// Where its processes' memory comes from.
    pub(crate) memory: Option<MemoryPlacement>,
    /// Execution domain of its processes.
    pub(crate) personality: Option<u32>,
    /// Files that its processes are written to for their class of cache and bandwidth.
    pub(crate) class: Vec<PathBuf>,
}

/// What the caller decides.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Choices {
    pub(crate) preserve: u32,
    pub(crate) streams: bool,
    pub(crate) no_new_keyring: bool,
    pub(crate) room: Room,
    /// The calling process is the runtime's own.
    pub(crate) own_process: bool,
}

impl Container {
    /// Whether a second process could enter the cgroup from outside.
    pub(crate) fn can_enter_late(&self) -> bool {
        self.namespaces.contains(&NamespaceKind::Pid) && !self.namespaces.contains(&NamespaceKind::User)
    }
}

/// For how many processes the cgroup's limit leaves room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Room {
    /// Two, as is supposed first.
    #[default]
    Two,
    /// One.
    One,
}

/// How a process gets into a version 2 cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// There is none.
    None,
    /// It is born there.
    Born,
    /// It writes itself to the file in this slot.
    Written(Slot),
}

/// Everything for one exec.
#[derive(Clone, Debug)]
pub(crate) struct ExecPlan {
    pub(crate) script: Script,
    pub(crate) joins: Vec<Slot>,
    /// How it gets into the version 2 cgroup.
    pub(crate) entry: Entry,
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
    let second = own(NamespaceKind::Pid);
    let late = container.can_enter_late() && choices.room == Room::One;
    let entry = match (container.into_cgroup, late || valid.affinity_initial.is_some()) {
        (false, _) => Entry::None,
        // Whoever is born in the cgroup has no time before it.
        (true, true) => Entry::Written(script.slot()?),
        (true, false) => Entry::Born,
    };
    script.into_cgroup = entry == Entry::Born;
    let joins = (0..container.joins).map(|_| script.slot()).collect::<Result<Vec<_>>>()?;
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
        keep_groups: container.keep_groups,
        cpus: match (&valid.affinity_initial, &valid.affinity_final) {
            (_, Some(last)) => Cpus::Only(last),
            (Some(_), None) => Cpus::Kept,
            (None, None) => Cpus::All,
        },
        memory: container.memory.as_ref(),
        personality: container.personality,
        nice_from_outside: process::nice_from_outside(user_namespace, capabilities),
        joins_class: !container.class.is_empty(),
        answers_from_outside: user_namespace || second,
    };
    if let Some(Compiled { program, flags }) = &container.filter {
        wanted.filter = Some(plan_filter(program, *flags, &wanted, capabilities)?);
    }
    process::plan_answers(&mut script, &wanted, false);
    if wanted.joins_class {
        script.at_gate(
            "/linux/intelRdt",
            Phase::Cgroup,
            Answer::JoinClass { tasks: container.class.clone() },
        );
    }
    let phase = Phase::Namespaces;
    script.step("", phase, Step::NonDumpable);
    if !script.answers.is_empty() {
        script.step("", phase, Step::Born { first: Slot::NONE, count: 0, optional: false });
    }
    if let Some(cpus) = &valid.affinity_initial {
        let mask = script.arena.raw(&cpus.mask())?;
        script.step("/execCPUAffinity/initial", Phase::Process, Step::CpuAffinity { mask });
    }
    let written = match entry {
        Entry::Written(slot) => Some(slot),
        _ => None,
    };
    if !late {
        enter_cgroups(&mut script, joins.iter().chain(&written));
    }
    let flags = container.namespaces.iter().fold(0, |flags, kind| flags | kind.clone_flag());
    let nstype = |flags: u64| {
        i32::try_from(flags)
            .map_err(|_| Error::new(ErrorKind::State, "the record names an unknown namespace"))
    };
    let apart = if late { flags & NamespaceKind::Cgroup.clone_flag() } else { 0 };
    let init = match nstype(flags)? {
        0 => None,
        nstype => Some(script.open("", phase, |slot| Open::InitNamespace { nstype, slot })?),
    };
    let now = nstype(flags & !apart)?;
    if let Some(fd) = init.filter(|_| now != 0) {
        script.step("", phase, Step::JoinNamespace { fd, nstype: now });
    }
    if user_namespace && container.root_is_mapped {
        script.step(
            "",
            phase,
            Step::NamespaceRoot {
                groups: !container.groups_denied && !container.keep_groups,
                uid: 0,
                gid: 0,
            },
        );
        script.step("", phase, Step::NonDumpable);
    }
    let later = init.zip(Some(nstype(apart)?).filter(|nstype| *nstype != 0));
    if let Some(fd) = init.filter(|_| later.is_none()) {
        script.step("", phase, Step::Close { fd });
    }
    if second {
        // Below a user namespace the container may trace what is in it, seen or not. To join a time namespace memory must be the process's
        // alone (kernel/time/namespace.c); who waits for an answer is not the one to be waited for; and when a cgroup is short of
        // memory, the kernel ends all who share the memory of one in it.
        let in_cgroup = !late && container.memory_limited;
        let lent = !user_namespace && !own(NamespaceKind::Time) && script.answers.is_empty() && !in_cgroup;
        if choices.own_process && lent {
            script.memory = Sharing::Instead;
            if valid.affinity_initial.is_none() {
                // It is on the processor of who waits for it; the second shall go to another.
                let mask = script.arena.raw(&process::every_cpu())?;
                script.step("", Phase::Process, Step::CpuAffinity { mask });
            }
        }
        script.step("", phase, Step::SecondClone { flags: 0 });
        script.step("", phase, Step::NonDumpable);
    }
    if late {
        enter_cgroups(&mut script, joins.iter().chain(&written));
    }
    if let Some((fd, nstype)) = later {
        script.step("", phase, Step::JoinNamespace { fd, nstype });
        script.step("", phase, Step::Close { fd });
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
        entry,
        streams,
        preserve: choices.preserve,
        held: wanted.waits_for().is_some(),
        program,
    })
}

fn enter_cgroups<'s>(script: &mut Script, files: impl IntoIterator<Item = &'s Slot>) {
    for fd in files {
        script.step("", Phase::Cgroup, Step::JoinCgroup { fd: *fd });
        script.step("", Phase::Cgroup, Step::Close { fd: *fd });
    }
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
            keep_groups: false,
            filter: None,
            joins: 0,
            into_cgroup: true,
            memory_limited: false,
            memory: None,
            personality: None,
            class: Vec::new(),
        }
    }

    fn planned(extra: &str, container: &Container) -> String {
        planned_for(Room::Two, extra, container)
    }

    fn planned_for(room: Room, extra: &str, container: &Container) -> String {
        let text =
            format!(r#"{{"user":{{"uid":0,"gid":0}},"cwd":"/","args":["/x"],"env":["HOME=/"]{extra}}}"#);
        let valid = validate_process(&Process::from_slice(text.as_bytes()).unwrap()).unwrap();
        let choices = Choices { room, own_process: true, ..Choices::default() };
        let plan = plan(&valid, container, u64::MAX, SecurityModules::default(), choices).unwrap();
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
        let affinity = r#","execCPUAffinity":{"initial":"0-2,7","final":"1"}"#;
        for (joins, into_cgroup) in [(0, true), (2, false), (2, true)] {
            for namespaces in
                [vec![], vec![NamespaceKind::Pid], vec![NamespaceKind::Pid, NamespaceKind::User]]
            {
                let around = Container { joins, into_cgroup, namespaces, ..container() };
                let plan = planned(affinity, &around);
                let initial = lines(&plan, "init    CpuAffinity mask=0,1,2,7  # /execCPUAffinity/initial");
                let last = lines(&plan, "init    CpuAffinity mask=1  # /execCPUAffinity/final");
                let enter = lines(&plan, "init    JoinCgroup");
                assert_eq!(enter.len(), joins + usize::from(into_cgroup), "{plan}");
                assert!(!plan.contains("into the cgroup"), "nobody is born there: {plan}");
                assert_eq!((initial.len(), last.len()), (1, 1), "{plan}");
                assert!(enter.iter().all(|n| initial[0] < *n && *n < last[0]), "{plan}");
            }
        }
    }

    #[test]
    fn without_last_processors_the_kernel_decides() {
        let count = |extra: &str| planned(extra, &container()).matches("CpuAffinity").count();
        assert_eq!(
            count(r#","execCPUAffinity":{"initial":"0"}"#),
            1,
            "config.md: SHOULD NOT change it afterwards"
        );
        // Without first ones the first process lets the second go to every processor.
        assert_eq!(count(r#","execCPUAffinity":{"final":"0"}"#), 2);
        assert_eq!(
            count(r#","execCPUAffinity":{"initial":"","final":""}"#),
            2,
            "the caller's is not the container's"
        );
    }

    /// What lends the first process the command's memory, and gives the second its processors back.
    #[test]
    fn memory_is_lent_to_who_is_not_seen() {
        use NamespaceKind::{Mount, Pid, Time, User};
        let lent = |extra: &str, namespaces: Vec<NamespaceKind>| {
            let plan = planned(extra, &Container { namespaces, ..container() });
            plan.contains("which waits for it").then(|| lines(&plan, "init    CpuAffinity").len())
        };
        assert_eq!(lent("", vec![Mount, Pid]), Some(2));
        assert_eq!(lent(r#","execCPUAffinity":{"initial":"0"}"#, vec![Mount, Pid]), Some(1));
        assert_eq!(lent("", vec![Mount]), None, "its own program comes into the container");
        assert_eq!(lent("", vec![User, Mount, Pid]), None);
        assert_eq!(lent("", vec![Mount, Pid, Time]), None);
        assert_eq!(lent(r#","oomScoreAdj":-5"#, vec![Mount, Pid]), None, "it waits for an answer");
        let limited = Container { memory_limited: true, ..container() };
        assert!(
            !planned("", &limited).contains("which waits for it"),
            "it could be ended for the container's use"
        );
        assert!(
            planned_for(Room::One, "", &limited).contains("which waits for it"),
            "outside of the cgroup it is not"
        );
    }

    /// Whether these lines are all there, in this order.
    fn in_order(plan: &str, wanted: &[&str]) -> bool {
        let found: Vec<usize> = wanted.iter().flat_map(|start| lines(plan, start)).collect();
        found.len() == wanted.len() && found.is_sorted()
    }

    #[test]
    fn who_is_seen_was_born_in_the_cgroup_and_has_nothing_open() {
        use NamespaceKind::{Cgroup, Mount, Pid, User};
        let alone = planned("", &Container { namespaces: vec![Mount, Cgroup], ..container() });
        assert!(alone.contains("into the cgroup") && !alone.contains("SecondClone"), "{alone}");
        assert!(alone.contains("JoinNamespace fd=$0 nstype=mount,cgroup"), "{alone}");
        let order = [
            "init    JoinCgroup fd=$0",
            "init    Close fd=$0",
            "init    JoinNamespace fd=$1 nstype=",
            "init    Close fd=$1",
            "init    SecondClone",
        ];
        for namespaces in [vec![Mount, Pid, Cgroup], vec![User, Pid, Cgroup]] {
            let plan = planned("", &Container { namespaces, joins: 1, ..container() });
            assert!(plan.contains("into the cgroup") && in_order(&plan, &order), "{plan}");
        }
    }

    #[test]
    fn where_there_is_room_for_one_the_second_enters_from_outside_the_cgroup_namespace() {
        use NamespaceKind::{Cgroup, Mount, Pid, User};
        let around = Container { namespaces: vec![Mount, Pid, Cgroup], joins: 1, ..container() };
        let plan = planned_for(Room::One, "", &around);
        let order = [
            "init    JoinNamespace fd=$2 nstype=pid,mount",
            "init    SecondClone",
            "init    JoinCgroup fd=$1",
            "init    JoinCgroup fd=$0",
            "init    JoinNamespace fd=$2 nstype=cgroup",
            "init    Close fd=$2",
        ];
        assert!(!plan.contains("into the cgroup") && in_order(&plan, &order), "{plan}");
        for namespaces in [vec![Mount, Cgroup], vec![User, Pid, Cgroup]] {
            let around = Container { namespaces, ..around.clone() };
            assert_eq!(planned_for(Room::One, "", &around), planned("", &around), "nothing else can be done");
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
    fn an_added_process_joins_the_containers_class() {
        let class = vec![PathBuf::from("/sys/fs/resctrl/gold/tasks")];
        let plan = planned("", &Container { class, ..container() });
        assert!(
            plan.contains(r#"at gate join class ["/sys/fs/resctrl/gold/tasks"]  # /linux/intelRdt"#),
            "{plan}"
        );
        assert_eq!(lines(&plan, "init    Hold").len(), 1, "{plan}");
    }

    #[test]
    fn the_containers_memory_policy_and_domain_are_the_added_processs() {
        let memory = MemoryPlacement::recorded(2, &[(0, 0)]);
        let plan = planned("", &Container { memory: Some(memory), personality: Some(8), ..container() });
        assert!(plan.contains("init    MemoryPolicy policy=2 nodes=0  # /linux/memoryPolicy"), "{plan}");
        assert!(plan.contains("init    Personality domain=8  # /linux/personality"), "{plan}");
    }
}
