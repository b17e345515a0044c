//! An interpreter for classic BPF programs, for the question "what would this filter answer".
//!
//! It takes every program that `seccomp_check_filter` of the kernel takes and computes what the kernel computes. A
//! program that the kernel would refuse is an error as soon as the call gets to the bad place. Jumps only go forward, so
//! it ends after at most as many steps as there are instructions. Must not: know of policies.
//! Tests: below and `tests/libseccomp.rs`, `tests/seccompiler.rs`.

use std::fmt;

use crate::arch::LITTLE;
use crate::{Action, Call, Insn};

/// What a program answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The returned value.
    pub value: u32,
    /// How many instructions ran.
    pub steps: u32,
}

impl Verdict {
    /// What the kernel does for the value.
    pub const fn action(self) -> Action {
        Action::from_value(self.value)
    }

    /// Whether the kernel makes the call without asking anyone.
    pub const fn permits(self) -> bool {
        self.action().permits()
    }
}

/// A program that the kernel refuses to load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProgramError {
    /// The instruction, counted from 0.
    pub at: usize,
    /// What is wrong with it.
    pub kind: ProgramErrorKind,
}

/// What is wrong with an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProgramErrorKind {
    /// The program ends without a return.
    End,
    /// seccomp does not allow this operation.
    Operation,
    /// A load outside the call, or not at a multiple of four.
    Offset,
    /// A scratch cell above 15.
    Cell,
    /// Division by the constant zero, or a shift by a constant above 31.
    Operand,
}

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.kind {
            ProgramErrorKind::End => "program ends without a return",
            ProgramErrorKind::Operation => "operation is not allowed in a filter",
            ProgramErrorKind::Offset => "load is outside of the call",
            ProgramErrorKind::Cell => "scratch cell does not exist",
            ProgramErrorKind::Operand => "operand is not allowed",
        };
        write!(f, "{what} (instruction {})", self.at)
    }
}

impl std::error::Error for ProgramError {}

/// Size of `struct seccomp_data`.
const CALL_BYTES: u32 = 64;

/// The 32 bits of a call at an offset.
fn word(call: &Call, offset: u32) -> Option<u32> {
    if offset % 4 != 0 || offset >= CALL_BYTES {
        return None;
    }
    // Truncation is the point: one half of a 64-bit value.
    let half = |value: u64| {
        let low = (offset % 8 == 0) == (call.arch & LITTLE != 0);
        if low { value as u32 } else { (value >> 32) as u32 }
    };
    match offset {
        0 => Some(call.nr),
        4 => Some(call.arch),
        8 | 12 => Some(half(call.ip)),
        _ => call.args.get(usize::try_from(offset / 8 - 2).ok()?).copied().map(half),
    }
}

/// The registers and the scratch memory.
struct Machine {
    a: u32,
    x: u32,
    cells: [u32; 16],
}

/// What to do after an instruction.
enum Next {
    Skip(u32),
    Return(u32),
}

/// Runs `program` over `call`.
///
/// # Errors
/// The program is none that the kernel would load; see the module for what is noticed.
pub fn evaluate(program: &[Insn], call: &Call) -> Result<Verdict, ProgramError> {
    let mut machine = Machine { a: 0, x: 0, cells: [0; 16] };
    let mut at = 0_usize;
    let mut steps = 0_u32;
    loop {
        let insn = program.get(at).ok_or(ProgramError { at, kind: ProgramErrorKind::End })?;
        steps = steps.saturating_add(1);
        match machine.step(*insn, call).map_err(|kind| ProgramError { at, kind })? {
            Next::Return(value) => return Ok(Verdict { value, steps }),
            Next::Skip(count) => {
                let count = usize::try_from(count).unwrap_or(usize::MAX);
                at = at.saturating_add(1).saturating_add(count);
            }
        }
    }
}

impl Machine {
    fn step(&mut self, insn: Insn, call: &Call) -> Result<Next, ProgramErrorKind> {
        let Insn { code, k, .. } = insn;
        match code {
            // LD and LDX: a word of the call, the length, a constant, a cell.
            0x20 => self.a = word(call, k).ok_or(ProgramErrorKind::Offset)?,
            0x80 => self.a = CALL_BYTES,
            0x81 => self.x = CALL_BYTES,
            0x00 => self.a = k,
            0x01 => self.x = k,
            0x60 => self.a = *self.cell(k)?,
            0x61 => self.x = *self.cell(k)?,
            // ST, STX, TAX, TXA.
            0x02 => *self.cell(k)? = self.a,
            0x03 => *self.cell(k)? = self.x,
            0x07 => self.x = self.a,
            0x87 => self.a = self.x,
            // RET with a constant or A.
            0x06 => return Ok(Next::Return(k)),
            0x16 => return Ok(Next::Return(self.a)),
            0x05 => return Ok(Next::Skip(k)),
            0x15 | 0x1d | 0x25 | 0x2d | 0x35 | 0x3d | 0x45 | 0x4d => return Ok(self.branch(insn)),
            _ if code & 0x07 == 0x04 => return self.arithmetic(insn),
            _ => return Err(ProgramErrorKind::Operation),
        }
        Ok(Next::Skip(0))
    }

    fn cell(&mut self, k: u32) -> Result<&mut u32, ProgramErrorKind> {
        usize::try_from(k).ok().and_then(|at| self.cells.get_mut(at)).ok_or(ProgramErrorKind::Cell)
    }

    fn branch(&self, insn: Insn) -> Next {
        let operand = if insn.code & 0x08 == 0 { insn.k } else { self.x };
        let holds = match insn.code & 0xf0 {
            0x10 => self.a == operand,
            0x20 => self.a > operand,
            0x30 => self.a >= operand,
            _ => self.a & operand != 0,
        };
        Next::Skip(u32::from(if holds { insn.jt } else { insn.jf }))
    }

    fn arithmetic(&mut self, insn: Insn) -> Result<Next, ProgramErrorKind> {
        let constant = insn.code & 0x08 == 0;
        let operand = if constant { insn.k } else { self.x };
        self.a = match insn.code & 0xfff0 {
            0x00 => self.a.wrapping_add(operand),
            0x10 => self.a.wrapping_sub(operand),
            0x20 => self.a.wrapping_mul(operand),
            0x30 => match self.a.checked_div(operand) {
                Some(quotient) => quotient,
                None if constant => return Err(ProgramErrorKind::Operand),
                // The kernel ends a program that divides by a zero it could not see before.
                None => return Ok(Next::Return(0)),
            },
            0x40 => self.a | operand,
            0x50 => self.a & operand,
            0x60 | 0x70 if constant && operand > 31 => return Err(ProgramErrorKind::Operand),
            // By X only the low five bits count.
            0x60 => self.a.wrapping_shl(operand),
            0x70 => self.a.wrapping_shr(operand),
            0x80 if constant && insn.k == 0 => self.a.wrapping_neg(),
            0xa0 => self.a ^ operand,
            _ => return Err(ProgramErrorKind::Operation),
        };
        Ok(Next::Skip(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Arch;

    fn insn(code: u16, k: u32) -> Insn {
        Insn { code, jt: 0, jf: 0, k }
    }

    #[test]
    fn halves_follow_the_endianness() {
        let args = [0, 0x1111_2222_3333_4444, 0, 0, 0, 0x5555_6666_7777_8888];
        let little = Call::new(Arch::X86_64, 9, args);
        let big = Call::new(Arch::S390x, 9, args);
        assert_eq!(word(&little, 24), Some(0x3333_4444));
        assert_eq!(word(&little, 28), Some(0x1111_2222));
        assert_eq!(word(&big, 24), Some(0x1111_2222));
        assert_eq!(word(&big, 60), Some(0x7777_8888));
        assert_eq!((word(&big, 0), word(&big, 4)), (Some(9), Some(Arch::S390x.audit())));
        assert_eq!((word(&little, 2), word(&little, 64)), (None, None));
    }

    #[test]
    fn bad_programs_are_errors() {
        let call = Call::new(Arch::X86_64, 0, [0; 6]);
        let kind = |program: &[Insn]| evaluate(program, &call).unwrap_err().kind;
        assert_eq!(kind(&[]), ProgramErrorKind::End);
        assert_eq!(kind(&[insn(0x05, u32::MAX)]), ProgramErrorKind::End);
        assert_eq!(kind(&[insn(0x20, 61)]), ProgramErrorKind::Offset);
        assert_eq!(kind(&[insn(0x28, 0)]), ProgramErrorKind::Operation);
        assert_eq!(kind(&[insn(0x60, 16)]), ProgramErrorKind::Cell);
        assert_eq!(kind(&[insn(0x34, 0)]), ProgramErrorKind::Operand);
        assert_eq!(kind(&[insn(0x64, 32)]), ProgramErrorKind::Operand);
    }

    #[test]
    fn arithmetic_is_the_kernels() {
        let call = Call::new(Arch::X86_64, 0, [0; 6]);
        let run = |program: &[Insn]| evaluate(program, &call).unwrap().value;
        let a = |start: u32, code: u16, k: u32| run(&[insn(0x00, start), insn(code, k), insn(0x16, 0)]);
        assert_eq!(a(1, 0x14, 2), u32::MAX);
        assert_eq!(a(3, 0x24, 5), 15);
        assert_eq!(a(17, 0x34, 5), 3);
        assert_eq!(a(0b1100, 0x54, 0b0110), 0b0100);
        assert_eq!(a(1, 0x64, 31), 1 << 31);
        assert_eq!(a(5, 0x84, 0), 5_u32.wrapping_neg());
        assert_eq!(a(6, 0xa4, 3), 5);
        // Store, load to X, divide by X = 0.
        assert_eq!(run(&[insn(0x00, 8), insn(0x3c, 0), insn(0x06, 77)]), 0);
        assert_eq!(run(&[insn(0x00, 8), insn(0x02, 3), insn(0x61, 3), insn(0x87, 0), insn(0x16, 0)]), 8);
        assert_eq!(run(&[insn(0x80, 0), insn(0x16, 0)]), 64);
    }
}
