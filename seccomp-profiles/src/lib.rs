//! Seccomp policy in, classic BPF out.
//!
//! A [`Policy`] is what `linux.seccomp` of a container configuration says, borrowed from it. [`compile`] turns it into
//! the program the kernel loads, [`evaluate`] runs such a program over one call, and [`decide`] answers the same
//! question from the policy itself and names the rule, without ever looking at a program.
//!
//! The crate is pure: no system call, no file, no environment, no global, no `unsafe`. It does not load a filter, it
//! never weakens one, and it never invents a rule (libseccomp adds `socketcall` and `ipc` companions; this does not).
//!
//! # What a policy means
//!
//! 1. **Architecture first.** The native architecture is always part of the policy. A call of any other architecture
//!    that is not listed kills the process. Listed architectures that the native kernel cannot run (another family or
//!    the other endianness) are accepted and need no code. On x86-64 a number with bit 30 is an x32 call: when x32 is
//!    not listed it is a call of an unlisted architecture.
//! 2. **The first rule that matches decides**, in the order of the file. A rule matches when one of its names is the
//!    call's and all its arguments compare; when one argument index occurs twice in a rule, each comparison is a rule of
//!    its own (any of them matches), as in runc. Nothing is dropped: a rule whose action is the default action still
//!    shields its calls from the rules behind it.
//! 3. **No rule matches:** the default action, with one exception. When the default action denies (anything but allow,
//!    log and trace), a number *above every number the policy names* on that architecture answers `ENOSYS`, as a kernel
//!    would that is as old as the policy; C libraries fall back on `ENOSYS` and die on `EPERM` (runc #2151). Numbers out
//!    of the common sequence (x32's 512 to 547, ARM's private calls) neither count as the newest nor are covered.
//!    On s390 number 0 answers `ENOSYS` too: it is what an unknown large number is turned into.
//!
//! Arguments are 64 bits wide, on 32-bit architectures (x32 and MIPS n32 included) the low 32 bits of argument and value
//! are compared, as libseccomp does.
//!
//! Where rules with *different actions overlap* the first-match rule differs from libseccomp, which lets an
//! unconditional rule replace every conditional one wherever it stands, and orders overlapping conditions by its own
//! tree. There a deny in front of a broader allow is lost; here it holds. [`lint`] names such places.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod action;
mod arch;
mod bpf;
mod call;
mod compile;
mod decide;
mod eval;
mod lint;
mod policy;
pub mod profile;
mod table;

pub use action::{Action, ActionError};
pub use arch::Arch;
pub use bpf::{Insn, MAX_INSNS};
pub use call::Call;
pub use compile::{CompileError, CompileErrorKind, Filter, Warning, compile};
pub use decide::{Decision, Reason, decide};
pub use eval::{ProgramError, Verdict, evaluate};
pub use lint::{Lint, LintKind, lint};
pub use policy::{Arg, Flags, Op, Policy, Rule};
pub use table::{exists, kernel_release, name_of, names, number_of};
