//! Instructions of classic BPF as seccomp uses it, and an assembler.
//!
//! The assembler writes a program from its end to its start. Jumps only go forward, so every target is known when a jump
//! is written, and a distance above 255 is noticed at the only place that can answer it (a long jump behind the branch).
//! Must not: know of policies. Tests: below; `tests/equivalence.rs` for programs with long jumps.

/// The kernel's `BPF_MAXINSNS`.
pub const MAX_INSNS: usize = 4096;

/// `BPF_LD | BPF_W | BPF_ABS`: A = 32 bits of the call at offset k.
pub(crate) const LD: u16 = 0x20;
/// `BPF_ALU | BPF_AND | BPF_K`.
pub(crate) const AND: u16 = 0x54;
/// `BPF_JMP | BPF_JA`.
pub(crate) const JA: u16 = 0x05;
/// `BPF_JMP | BPF_JEQ | BPF_K`.
pub(crate) const JEQ: u16 = 0x15;
/// `BPF_JMP | BPF_JGT | BPF_K`.
pub(crate) const JGT: u16 = 0x25;
/// `BPF_JMP | BPF_JGE | BPF_K`.
pub(crate) const JGE: u16 = 0x35;
/// `BPF_JMP | BPF_JSET | BPF_K`.
pub(crate) const JSET: u16 = 0x45;
/// `BPF_RET | BPF_K`.
pub(crate) const RET: u16 = 0x06;

/// Offset of `nr` in `struct seccomp_data`.
pub(crate) const NR: u32 = 0;
/// Offset of `arch`.
pub(crate) const ARCH: u32 = 4;
/// Offset of the first argument.
pub(crate) const ARGS: u32 = 16;

/// One instruction (`struct sock_filter`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Insn {
    /// Operation.
    pub code: u16,
    /// Instructions to skip when the comparison holds.
    pub jt: u8,
    /// Instructions to skip when it does not.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

impl Insn {
    /// The eight bytes of a `struct sock_filter` on this machine.
    pub fn to_bytes(self) -> [u8; 8] {
        let [c0, c1] = self.code.to_ne_bytes();
        let [k0, k1, k2, k3] = self.k.to_ne_bytes();
        [c0, c1, self.jt, self.jf, k0, k1, k2, k3]
    }

    /// The instruction of eight bytes of a `struct sock_filter` of this machine.
    pub fn from_bytes(bytes: [u8; 8]) -> Self {
        let [c0, c1, jt, jf, k0, k1, k2, k3] = bytes;
        Self { code: u16::from_ne_bytes([c0, c1]), jt, jf, k: u32::from_ne_bytes([k0, k1, k2, k3]) }
    }
}

/// An instruction that is already written: how many there were when it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Label(usize);

/// Where to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Return this value, through whichever return is near.
    Ret(u32),
    /// A written instruction.
    At(Label),
}

/// A program that grows towards its start.
#[derive(Debug, Default)]
pub(crate) struct Backward {
    reversed: Vec<Insn>,
    /// The latest return of each value.
    returns: Vec<(u32, Label)>,
}

impl Backward {
    pub(crate) fn with_capacity(insns: usize) -> Self {
        Self { reversed: Vec::with_capacity(insns), returns: Vec::with_capacity(4) }
    }

    pub(crate) fn len(&self) -> usize {
        self.reversed.len()
    }

    /// The program in its order.
    pub(crate) fn finish(mut self) -> Vec<Insn> {
        self.reversed.reverse();
        self.reversed
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.reversed.push(Insn { code, jt, jf, k });
        Label(self.reversed.len())
    }

    /// How many instructions the next one would have to skip to get to `label`.
    fn distance(&self, label: Label) -> usize {
        self.reversed.len().saturating_sub(label.0)
    }

    /// A label for `target` that a branch can reach even with one more instruction in between.
    fn near(&mut self, target: Target) -> Label {
        const REACH: usize = 254;
        match target {
            Target::At(label) if self.distance(label) <= REACH => label,
            Target::At(label) => self.long_jump(label),
            Target::Ret(value) => {
                let known = self.returns.iter().position(|&(known, _)| known == value);
                match known.and_then(|at| self.returns.get(at)).map(|&(_, label)| label) {
                    Some(label) if self.distance(label) <= REACH => label,
                    _ => {
                        let label = self.push(RET, 0, 0, value);
                        match known.and_then(|at| self.returns.get_mut(at)) {
                            Some(entry) => entry.1 = label,
                            None => self.returns.push((value, label)),
                        }
                        label
                    }
                }
            }
        }
    }

    fn long_jump(&mut self, label: Label) -> Label {
        // A program that would not fit into 32 bits of distance is refused for its length long before.
        let skip = u32::try_from(self.distance(label)).unwrap_or(u32::MAX);
        self.push(JA, 0, 0, skip)
    }

    /// Compares A with `k`: goes to `yes` when it holds, else to `no`.
    pub(crate) fn branch(&mut self, code: u16, k: u32, yes: Target, no: Target) -> Target {
        if yes == no {
            return yes;
        }
        let yes = self.near(yes);
        let no = self.near(no);
        // near() left room for the one instruction that the second call may have added.
        let skip = |label| u8::try_from(self.distance(label)).unwrap_or(u8::MAX);
        let (jt, jf) = (skip(yes), skip(no));
        Target::At(self.push(code, jt, jf, k))
    }

    /// An instruction that goes on with `next`.
    fn then(&mut self, code: u16, k: u32, next: Target) -> Target {
        match next {
            Target::At(label) if self.distance(label) == 0 => {}
            Target::At(label) => {
                self.long_jump(label);
            }
            Target::Ret(value) => {
                self.push(RET, 0, 0, value);
            }
        }
        Target::At(self.push(code, 0, 0, k))
    }

    /// Loads 32 bits of the call.
    pub(crate) fn load(&mut self, offset: u32, next: Target) -> Target {
        self.then(LD, offset, next)
    }

    /// Masks A.
    pub(crate) fn and(&mut self, mask: u32, next: Target) -> Target {
        self.then(AND, mask, next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_back() {
        let insn = Insn { code: JSET, jt: 3, jf: 250, k: 0x1234_5678 };
        assert_eq!(Insn::from_bytes(insn.to_bytes()), insn);
    }

    #[test]
    fn near_targets_need_no_long_jump() {
        let mut code = Backward::default();
        let eq = code.branch(JEQ, 7, Target::Ret(1), Target::Ret(2));
        code.load(NR, eq);
        let text = code.finish();
        assert_eq!(
            text,
            [
                Insn { code: LD, jt: 0, jf: 0, k: 0 },
                Insn { code: JEQ, jt: 1, jf: 0, k: 7 },
                Insn { code: RET, jt: 0, jf: 0, k: 2 },
                Insn { code: RET, jt: 0, jf: 0, k: 1 },
            ]
        );
    }

    /// Every distance around the limit, on either side of a branch.
    #[test]
    fn far_targets_are_reached() {
        for padding in 240..270 {
            for swap in [false, true] {
                let mut code = Backward::default();
                let a = Target::At(code.push(RET, 0, 0, 100));
                let b = Target::At(code.push(RET, 0, 0, 200));
                for _ in 0..padding {
                    code.push(RET, 0, 0, 300);
                }
                let (yes, no) = if swap { (b, a) } else { (a, b) };
                let top = code.branch(JEQ, 5, yes, no);
                code.load(NR, top);
                let text = code.finish();
                for nr in [5, 6] {
                    let call = crate::Call { arch: 0, nr, args: [0; 6], ip: 0 };
                    let expect = if (nr == 5) != swap { 100 } else { 200 };
                    assert_eq!(crate::evaluate(&text, &call).unwrap().value, expect, "{padding} {swap} {nr}");
                }
            }
        }
    }
}
