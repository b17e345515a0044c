//! From the configuration's filter to the program that init loads, and whether init itself can live under it.
//!
//! The compiled program is put before the evaluator with every call that init makes after it has been loaded. A filter that forbids one
//! of these is loaded behind the gate where that changes nothing for the container (no_new_privs, no listener), and refused with its
//! pointer else. An exec asks again with its own document: it may do without no_new_privs, or have to wait for the parent.
//!
//! A filter with a listener is loaded before the gate in any case, since only then the receiver is there before the program runs. The
//! listener leaves init by sendmsg(2) where the filter allows that, else the parent takes it out.
//!
//! Must not: change a rule. Tests: golden plans; `seccomp-profiles` proves the compiler; `tests` package, seccomp and notify.

use super::process::Filter;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::spec;
use coracle_seccomp::{
    Action, Arch, Arg, Call, Flags, Insn, Op, Policy, Reason, Rule, Warning, compile, decide, evaluate,
};

const POINTER: &str = "/linux/seccomp";

/// What init still has to do when the filter is loaded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ahead {
    /// PR_SET_NO_NEW_PRIVS is set: the filter is loaded last of all.
    pub(crate) no_new_privs: bool,
    /// startContainer hooks are run.
    pub(crate) hooks: bool,
    /// How it waits for the parent.
    pub(crate) wait: Wait,
    /// The runtime may take descriptors out of its child (CAP_SYS_PTRACE).
    pub(crate) takes: bool,
}

/// How init waits between the filter and the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Not at all.
    None,
    /// For the launch.
    Hold,
    /// At the gate.
    Gate,
}

/// What a call is for that a filter denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Reporting a failure, closing descriptors, executing the program.
    Always,
    /// The final capabilities, behind a filter that is loaded without no_new_privs.
    Capabilities,
    /// Waiting for the parent.
    Wait,
    /// startContainer hooks.
    Hooks,
    /// Giving the listener away.
    Listener,
}

/// A call that init needs and the filter denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Denied {
    pub(crate) call: &'static str,
    pub(crate) work: Work,
    listens: bool,
}

/// How a listener leaves init.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handing {
    /// By sendmsg(2).
    Sent,
    /// By the parent's pidfd_getfd(2).
    Taken,
}

/// Bit of CAP_SYS_PTRACE.
const PTRACE: u64 = 1 << 19;

/// Whether a runtime with these capabilities may take descriptors out of its non-dumpable child.
pub(crate) fn takes(capabilities: u64) -> bool {
    capabilities & PTRACE != 0
}

/// Compiles the filter of a configuration. With `fail_unknown` every name in it has to be known.
///
/// # Errors
/// [`ErrorKind::InvalidSpec`] for what validation cannot see (a filter too large for the kernel); [`ErrorKind::Unsupported`] when
/// init could not do its work under the filter.
pub(crate) fn plan(seccomp: &spec::Seccomp, ahead: Ahead, fail_unknown: bool) -> Result<Filter> {
    let policy = policy(seccomp)?;
    let compiled = compile(&policy, Arch::native()).map_err(|e| {
        Error::new(ErrorKind::InvalidSpec, "compile the seccomp filter")
            .at(e.pointer())
            .in_phase(Phase::Seccomp)
            .with_code("seccomp-compile")
            .with_source(e)
    })?;
    if let Some(Warning::UnknownName { rule, name }) = compiled
        .warnings
        .iter()
        .find(|warning| fail_unknown && matches!(warning, Warning::UnknownName { .. }))
    {
        return Err(Error::new(ErrorKind::InvalidSpec, "no system call has this name")
            .at(format!("{POINTER}/syscalls/{rule}/names/{name}"))
            .in_phase(Phase::Seccomp)
            .with_code("seccomp-name-unknown"));
    }
    place(&compiled.insns, compiled.flags.bits().into(), ahead).map_err(|denied| denied.in_create(&policy))
}

/// Decides where a filter that was compiled earlier is loaded for an exec.
///
/// # Errors
/// The first call that init needs and the filter denies.
pub(crate) fn again(program: &[u8], flags: u64, ahead: Ahead) -> Result<Filter, Denied> {
    let bytes = program.chunks_exact(8).filter_map(|insn| insn.try_into().ok());
    let insns: Vec<Insn> = bytes.map(Insn::from_bytes).collect();
    place(&insns, flags, ahead)
}

fn place(insns: &[Insn], flags: u64, ahead: Ahead) -> Result<Filter, Denied> {
    let listens = flags & u64::from(Flags::NEW_LISTENER.bits()) != 0;
    // A program of the record that the kernel would not take allows nothing.
    let action = |name: &str| {
        let call = Call::named(Arch::native(), name, [0; 6])?;
        Some(evaluate(insns, &call).map_or(Action::KillProcess, |verdict| verdict.action()))
    };
    let allowed = |name: &str| {
        action(name).is_none_or(|action| {
            match name {
                // Whoever wants to be asked about the program is there by then.
                "execve" if listens && action == Action::Notify => true,
                // It gives memory back, and does without where it cannot.
                "madvise" if matches!(action, Action::Errno(_)) => true,
                _ => action.permits(),
            }
        })
    };
    // Lists that were written before Linux 5.9 do not know it: init then closes one by one.
    let closes = || {
        let old = matches!(action("close_range"), Some(Action::Errno(_))) && allowed("close");
        (!old && !allowed("close_range")).then_some(Denied {
            call: "close_range",
            work: Work::Always,
            listens,
        })
    };
    let first = |work: Work, names: &[&'static str]| {
        let call = names.iter().copied().find(|name| !allowed(name))?;
        Some(Denied { call, work, listens })
    };
    let capabilities = || first(Work::Capabilities, &BEFORE_CAPABILITIES).filter(|_| !ahead.no_new_privs);
    if let Some(denied) = first(Work::Always, &ALWAYS).or_else(closes).or_else(capabilities) {
        return Err(denied);
    }
    let waits = || match ahead.wait {
        Wait::None => None,
        Wait::Hold => first(Work::Wait, &FOR_HOLD),
        Wait::Gate => first(Work::Wait, &FOR_GATE),
    };
    let later = first(Work::Hooks, &FOR_HOOKS).filter(|_| ahead.hooks).or_else(waits);
    if let Some(denied) = later.filter(|_| !ahead.no_new_privs || listens) {
        return Err(denied);
    }
    let handing = match first(Work::Listener, &["sendmsg"]).filter(|_| listens) {
        None => Handing::Sent,
        Some(_) if ahead.takes => Handing::Taken,
        Some(denied) => return Err(denied),
    };
    Ok(Filter {
        program: insns.iter().flat_map(|insn| insn.to_bytes()).collect(),
        flags,
        behind_gate: later.is_some(),
        listener: listens.then_some(handing),
    })
}

/// What init calls between the filter and the program, wherever the filter is loaded; and close_range, else close.
const ALWAYS: [&str; 3] = ["execve", "exit_group", "write"];
/// What follows a filter that is loaded before the final capabilities.
const BEFORE_CAPABILITIES: [&str; 3] = ["capset", "capget", "prctl"];
/// What waiting for the launch takes.
const FOR_HOLD: [&str; 2] = ["recvmsg", "write"];
/// What waiting at the gate takes.
const FOR_GATE: [&str; 3] = ["recvmsg", "write", "madvise"];
/// What running a hook takes.
const FOR_HOOKS: [&str; 16] = [
    "pipe2",
    "clone",
    "ppoll",
    "read",
    "wait4",
    "kill",
    "fcntl",
    "clock_gettime",
    "getpid",
    "dup3",
    "rt_sigaction",
    "rt_sigprocmask",
    "setsid",
    "umask",
    "chdir",
    "close_range",
];

impl Denied {
    fn error(self, whose: &str) -> Error {
        let Self { call, work, listens } = self;
        let (what, code) = match work {
            Work::Always | Work::Capabilities | Work::Wait => {
                ("which the runtime itself needs after it is loaded", "seccomp-locks-init")
            }
            Work::Hooks => ("which running startContainer hooks takes", "seccomp-locks-hooks"),
            Work::Listener => ("by which its listener leaves the container", "seccomp-locks-listener"),
        };
        let hint = match work {
            Work::Always => "allow the call: the program could not be executed",
            Work::Listener => "allow the call, or give the runtime CAP_SYS_PTRACE",
            _ if listens => "allow the call: a filter with a listener cannot be loaded later",
            Work::Hooks => {
                "allow the call, or set noNewPrivileges so that the filter can be loaded behind the hooks"
            }
            Work::Capabilities | Work::Wait => {
                "allow the call, or set noNewPrivileges so that the filter can be loaded last"
            }
        };
        Error::new(ErrorKind::Unsupported, format!("{whose} does not allow {call}, {what}"))
            .in_phase(Phase::Seccomp)
            .with_code(code)
            .with_hint(hint)
    }

    /// The error of a create: at the rule that denies.
    fn in_create(self, policy: &Policy<'_>) -> Error {
        let call = Call::named(Arch::native(), self.call, [0; 6]);
        let pointer = match call.map(|call| decide(policy, Arch::native(), &call).reason) {
            Some(Reason::Rule(index)) => format!("{POINTER}/syscalls/{index}"),
            Some(Reason::Default) => format!("{POINTER}/defaultAction"),
            _ => POINTER.to_owned(),
        };
        self.error("the filter").at(pointer)
    }

    /// The error of an exec: at what the process asks for beyond what the container's own did. `waits_for` is what it has to wait for.
    pub(crate) fn in_exec(self, waits_for: Option<&'static str>) -> Error {
        let pointer = match self.work {
            Work::Capabilities => "/noNewPrivileges",
            Work::Wait => waits_for.unwrap_or(POINTER),
            Work::Always | Work::Hooks | Work::Listener => POINTER,
        };
        self.error("the container's filter").at(pointer)
    }
}

/// The compiler's form of a filter. The words have been checked by validation.
///
/// # Errors
/// [`ErrorKind::InvalidSpec`] for a word that nobody knows.
pub(crate) fn policy(seccomp: &spec::Seccomp) -> Result<Policy<'_>> {
    let unknown = |pointer: String| {
        Error::new(ErrorKind::InvalidSpec, "the value is not known").at(pointer).in_phase(Phase::Seccomp)
    };
    let default = Action::from_name(&seccomp.default_action, seccomp.default_errno_ret)
        .map_err(|_| unknown(format!("{POINTER}/defaultAction")))?;
    let architectures = seccomp
        .architectures
        .iter()
        .enumerate()
        .map(|(i, name)| Arch::from_name(name).ok_or_else(|| unknown(format!("{POINTER}/architectures/{i}"))))
        .collect::<Result<_>>()?;
    let mut flags = match &seccomp.flags {
        // Absent is not empty: runc then keeps the kernel from mitigating speculation.
        None => Flags::SPEC_ALLOW,
        Some(_) => Flags::default(),
    };
    for (i, name) in seccomp.flags.iter().flatten().enumerate() {
        flags = flags | Flags::from_name(name).ok_or_else(|| unknown(format!("{POINTER}/flags/{i}")))?;
    }
    let rules = seccomp
        .syscalls
        .iter()
        .enumerate()
        .map(|(i, rule)| {
            let action = Action::from_name(&rule.action, rule.errno_ret)
                .map_err(|_| unknown(format!("{POINTER}/syscalls/{i}/action")))?;
            let args = rule
                .args
                .iter()
                .enumerate()
                .map(|(j, arg)| {
                    let op = Op::from_name(&arg.op)
                        .ok_or_else(|| unknown(format!("{POINTER}/syscalls/{i}/args/{j}/op")))?;
                    Ok(Arg { index: arg.index, op, value: arg.value, value_two: arg.value_two.unwrap_or(0) })
                })
                .collect::<Result<_>>()?;
            Ok(Rule { names: rule.names.iter().map(String::as_str).collect(), action, args })
        })
        .collect::<Result<_>>()?;
    Ok(Policy { default, architectures, flags, rules })
}
