//! From the configuration's filter to the program that init loads, and whether init itself can live under it.
//!
//! The compiled program is put before the evaluator with every call that init makes after it has been loaded. A filter that forbids one
//! of these is loaded behind the gate where that changes nothing for the container (no_new_privs), and refused with its pointer else.
//!
//! Must not: change a rule. Tests: at the end of this file; `seccomp-profiles` proves the compiler; `tests` package, seccomp.

use super::process::Filter;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::spec;
use coracle_seccomp::{Action, Arch, Arg, Call, Flags, Op, Policy, Rule, compile, evaluate};

const POINTER: &str = "/linux/seccomp";

/// Compiles the filter. `container_hooks`: init runs hooks behind the filter.
///
/// # Errors
/// [`ErrorKind::InvalidSpec`] for what validation cannot see (a filter too large for the kernel); [`ErrorKind::Unsupported`] when
/// init could not do its work under the filter.
pub(crate) fn plan(seccomp: &spec::Seccomp, no_new_privs: bool, container_hooks: bool) -> Result<Filter> {
    let native = Arch::native();
    let policy = policy(seccomp)?;
    let flags = policy.flags;
    let compiled = compile(&policy, native).map_err(|e| {
        Error::new(ErrorKind::InvalidSpec, "compile the seccomp filter")
            .at(e.pointer())
            .in_phase(Phase::Seccomp)
            .with_code("seccomp-compile")
            .with_source(e)
    })?;
    let allowed = |name: &str| {
        Call::named(native, name, [0; 6]).is_none_or(|call| {
            evaluate(&compiled.insns, &call).is_ok_and(|verdict| verdict.action() == Action::Allow)
        })
    };
    let mut needed: Vec<&str> = ALWAYS.to_vec();
    if !no_new_privs {
        needed.extend(BEFORE_CAPABILITIES);
    }
    if container_hooks {
        needed.extend(FOR_HOOKS);
    }
    if let Some(denied) = needed.iter().copied().find(|name| !allowed(name)) {
        return Err(cannot_live(denied));
    }
    let gate_denied = FOR_GATE.iter().copied().find(|name| !allowed(name));
    if let Some(denied) = gate_denied.filter(|_| !no_new_privs) {
        return Err(cannot_live(denied));
    }
    let program = compiled.insns.iter().flat_map(|insn| insn.to_bytes()).collect();
    Ok(Filter { program, flags: u64::from(flags.bits()), behind_gate: gate_denied.is_some() })
}

/// What init calls between the filter and the program, wherever the filter is loaded.
const ALWAYS: [&str; 4] = ["close_range", "execve", "exit_group", "write"];
/// What follows a filter that is loaded before the final capabilities.
const BEFORE_CAPABILITIES: [&str; 3] = ["capset", "capget", "prctl"];
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

fn cannot_live(name: &str) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!("the filter does not allow {name}, which the runtime itself needs after it is loaded"),
    )
    .at(POINTER)
    .in_phase(Phase::Seccomp)
    .with_code("seccomp-locks-init")
    .with_hint("allow the call, or set noNewPrivileges so that the filter can be loaded last")
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
