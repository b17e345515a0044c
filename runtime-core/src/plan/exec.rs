//! The plan of a further process in a running container.
//!
//! Trusted is only what was opened outside: the recorded init's pidfd, the recorded filter, the cgroup by its recorded identity.
//!
//! Must not: touch the machine, read the bundle. Tests: golden plans; `tests` package, lifecycle and hostile.

use super::process::{self, Filter, Gate};
use super::script::{Open, Script};
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::validate::{NamespaceKind, ValidProcess};
use coracle_init::program::{Slot, Step};

/// What an exec needs to know of the container.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    /// Types of namespaces that the container has of its own.
    pub(crate) namespaces: Vec<NamespaceKind>,
    /// Whether id 0 exists in its user namespace.
    pub(crate) root_is_mapped: bool,
    /// setgroups(2) is denied in it.
    pub(crate) groups_denied: bool,
    pub(crate) filter: Option<Filter>,
    /// How many version 1 hierarchies it is in.
    pub(crate) joins: usize,
    /// It is in a version 2 cgroup.
    pub(crate) into_cgroup: bool,
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
    pub(crate) streams: Option<[Slot; 3]>,
    pub(crate) preserve: u32,
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
    choices: Choices,
) -> Result<ExecPlan> {
    let mut script = Script::new();
    let own = |kind| container.namespaces.contains(&kind);
    let user_namespace = own(NamespaceKind::User);
    script.into_cgroup = container.into_cgroup;
    let joins = (0..container.joins).map(|_| script.slot()).collect::<Result<Vec<_>>>()?;
    let second = own(NamespaceKind::Pid) || own(NamespaceKind::Time);
    let wanted = process::Wanted {
        process: valid,
        pointer: "",
        capabilities: super::create::grantable(
            valid.capabilities.unwrap_or_default(),
            capabilities,
            user_namespace,
        ),
        filter: container.filter.clone(),
        user_namespace,
        groups_denied: container.groups_denied,
        keep_groups: false,
        reset_affinity: true,
        answers_from_outside: user_namespace || second,
    };
    process::plan_answers(&mut script, &wanted);
    let phase = Phase::Namespaces;
    script.step("", phase, Step::NonDumpable);
    if !script.answers.is_empty() {
        script.step("", phase, Step::Born { first: Slot::NONE, count: 0 });
    }
    for fd in &joins {
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
    super::namespaces::settle(&mut script, choices.no_new_keyring);
    let streams = plan_streams(&mut script, valid, choices)?;
    if valid.user.uid.get() != 0 || user_namespace {
        let (uid, gid) = (valid.user.uid.get(), valid.user.gid.get());
        script.step("/user", Phase::Process, Step::OwnStdio { uid, gid });
    }
    // Nothing waits for anything: the end of the report channel says that the program was executed.
    let gate = if script.beside.is_empty() { Gate::None } else { Gate::Hold };
    process::plan(&mut script, &wanted, gate, &mut |_| Ok(()), choices.preserve)?;
    let program = valid.args.first().cloned().unwrap_or_default();
    Ok(ExecPlan { script, joins, streams, preserve: choices.preserve, program })
}

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
