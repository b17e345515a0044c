//! Policy in, program out.
//!
//! Per number table: the rules of each number in the order of the file, ranges of numbers that answer alike (`block`), a binary
//! tree over the ranges (`tree`), and code for the numbers whose answer depends on arguments (`cond`). What a policy
//! means stands in the crate's documentation; `decide` says the same in a second, naive way.
//! Must not: touch the machine, drop or invent a rule. Tests: `tests/equivalence.rs` (against `decide`),
//! `tests/libseccomp.rs`, `tests/seccompiler.rs`.

mod block;
mod cond;
mod tree;

use std::fmt;

use crate::bpf::{self, Backward, Target};
use crate::table::{self, Id};
use crate::{Action, Arch, Flags, Insn, MAX_INSNS, Policy};
use block::Block;
use cond::Conditions;

/// A program and how to load it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Filter {
    /// At most [`MAX_INSNS`] instructions.
    pub insns: Vec<Insn>,
    /// For seccomp(2): the policy's, with `NEW_LISTENER` when an action is NOTIFY (and then `TSYNC_ESRCH` beside `TSYNC`,
    /// which the kernel demands).
    pub flags: Flags,
    /// Whether loading it returns a listener.
    pub notify: bool,
    /// What the policy says to no effect.
    pub warnings: Vec<Warning>,
}

impl Filter {
    /// The program as the kernel takes it, eight bytes per instruction, in this machine's byte order.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.insns.iter().flat_map(|insn| insn.to_bytes()).collect()
    }
}

/// Something in a policy that has no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// No architecture has a call of this name: a misspelling, or newer than [`kernel_release`](crate::kernel_release).
    UnknownName {
        /// Which rule, from 0.
        rule: usize,
        /// Which of its names, from 0.
        name: usize,
    },
}

/// Why a policy cannot be compiled, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompileError {
    /// Which rule, from 0.
    pub rule: Option<usize>,
    /// Which of its arguments, from 0.
    pub arg: Option<usize>,
    /// What is wrong.
    pub kind: CompileErrorKind,
}

/// What is wrong with a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CompileErrorKind {
    /// A rule without names.
    NoNames,
    /// An argument index above 5.
    ArgIndex(u32),
    /// An errno above 4095.
    Errno(u16),
    /// `WAIT_KILLABLE_RECV` without any NOTIFY, which the kernel refuses.
    FlagNeedsNotify,
    /// More than [`MAX_INSNS`] instructions.
    TooLong,
}

impl CompileError {
    fn at(rule: usize, arg: Option<usize>, kind: CompileErrorKind) -> Self {
        Self { rule: Some(rule), arg, kind }
    }

    /// The JSON pointer in a configuration.
    pub fn pointer(&self) -> String {
        match (self.rule, self.arg, &self.kind) {
            (Some(rule), Some(arg), _) => format!("/linux/seccomp/syscalls/{rule}/args/{arg}"),
            (Some(rule), None, _) => format!("/linux/seccomp/syscalls/{rule}"),
            (None, _, CompileErrorKind::FlagNeedsNotify) => "/linux/seccomp/flags".to_owned(),
            (None, _, CompileErrorKind::Errno(_)) => "/linux/seccomp/defaultErrnoRet".to_owned(),
            (None, ..) => "/linux/seccomp".to_owned(),
        }
    }
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            CompileErrorKind::NoNames => f.write_str("seccomp rule names no system call"),
            CompileErrorKind::ArgIndex(index) => write!(f, "argument index {index} is above 5"),
            CompileErrorKind::Errno(errno) => write!(f, "errno {errno} is above 4095"),
            CompileErrorKind::FlagNeedsNotify => {
                f.write_str("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs a rule with SCMP_ACT_NOTIFY")
            }
            CompileErrorKind::TooLong => write!(f, "seccomp filter needs more than {MAX_INSNS} instructions"),
        }
    }
}

impl std::error::Error for CompileError {}

/// What a call of an architecture that is not listed gets.
pub(crate) const UNLISTED: Action = Action::KillProcess;

/// Compiles `policy` for a kernel of architecture `native`.
///
/// # Errors
/// The policy is not a valid one, or too long; see [`CompileErrorKind`].
pub fn compile(policy: &Policy<'_>, native: Arch) -> Result<Filter, CompileError> {
    let notify = check(policy)?;
    let mut flags = policy.flags;
    if notify {
        flags = flags | Flags::NEW_LISTENER;
        if flags.contains(Flags::TSYNC) {
            flags = flags | Flags::TSYNC_ESRCH;
        }
    } else if flags.contains(Flags::WAIT_KILLABLE_RECV) {
        return Err(CompileError { rule: None, arg: None, kind: CompileErrorKind::FlagNeedsNotify });
    }
    let (named, warnings) = resolve(policy);
    let insns = program(policy, native, &named)?;
    Ok(Filter { insns, flags, notify, warnings })
}

/// Checks what does not depend on the architecture; whether any action is NOTIFY.
fn check(policy: &Policy<'_>) -> Result<bool, CompileError> {
    let errno = |action| match action {
        Action::Errno(errno) if errno > 4095 => Some(CompileErrorKind::Errno(errno)),
        _ => None,
    };
    if let Some(kind) = errno(policy.default) {
        return Err(CompileError { rule: None, arg: None, kind });
    }
    let mut notify = policy.default == Action::Notify;
    for (at, rule) in policy.rules.iter().enumerate() {
        if rule.names.is_empty() {
            return Err(CompileError::at(at, None, CompileErrorKind::NoNames));
        }
        if let Some(kind) = errno(rule.action) {
            return Err(CompileError::at(at, None, kind));
        }
        if let Some((nth, arg)) = rule.args.iter().enumerate().find(|(_, arg)| arg.index > 5) {
            return Err(CompileError::at(at, Some(nth), CompileErrorKind::ArgIndex(arg.index)));
        }
        notify |= rule.action == Action::Notify;
    }
    Ok(notify)
}

/// A name of a rule, found in the table.
#[derive(Clone, Copy)]
struct Named {
    id: Id,
    rule: usize,
}

fn resolve(policy: &Policy<'_>) -> (Vec<Named>, Vec<Warning>) {
    let mut named = Vec::with_capacity(policy.rules.iter().map(|rule| rule.names.len()).sum());
    let mut warnings = Vec::new();
    for (rule, names) in policy.rules.iter().map(|rule| &rule.names).enumerate() {
        for (at, name) in names.iter().enumerate() {
            match table::find(name) {
                Some(id) => named.push(Named { id, rule }),
                None => warnings.push(Warning::UnknownName { rule, name: at }),
            }
        }
    }
    (named, warnings)
}

/// The number tables a policy covers, native first.
pub(crate) fn covered(policy: &Policy<'_>, native: Arch) -> Vec<Arch> {
    let mut arches = vec![native];
    for &arch in &policy.architectures {
        if arch.runs_on(native) && !arches.contains(&arch) {
            arches.push(arch);
        }
    }
    arches
}

const TOO_LONG: CompileError = CompileError { rule: None, arg: None, kind: CompileErrorKind::TooLong };

fn program(policy: &Policy<'_>, native: Arch, named: &[Named]) -> Result<Vec<Insn>, CompileError> {
    let arches = covered(policy, native);
    let conditions = Conditions::of(policy, &arches);
    // Most policies come to less than one instruction per name.
    let mut code = Backward::with_capacity(64 + named.len());
    let mut audits: Vec<u32> = Vec::with_capacity(arches.len());
    for arch in &arches {
        if !audits.contains(&arch.audit()) {
            audits.push(arch.audit());
        }
    }
    let mut next = Target::Ret(UNLISTED.value());
    let mut blocks = Vec::with_capacity(audits.len());
    // Written from the end: the native block comes last and is next to the dispatch.
    for &audit in audits.iter().rev() {
        let mut block = Block::new(policy, &conditions);
        block.fill(arches.iter().copied().filter(|arch| arch.audit() == audit), named);
        blocks.push((audit, block.write(&mut code)?));
    }
    for (audit, block) in blocks {
        next = code.branch(bpf::JEQ, audit, block, next);
    }
    code.load(bpf::ARCH, next);
    if code.len() > MAX_INSNS { Err(TOO_LONG) } else { Ok(code.finish()) }
}
