//! Architectures: names, audit values, and which of them one kernel can run.
//!
//! Facts from the runtime specification 1.3 (names) and `include/uapi/linux/audit.h` (values).
//! Must not: hold system call numbers (see `table`). Tests: below and `tests/libseccomp.rs`.

/// `__AUDIT_ARCH_64BIT`.
const BITS_64: u32 = 0x8000_0000;
/// `__AUDIT_ARCH_LE`.
pub(crate) const LITTLE: u32 = 0x4000_0000;
/// `__AUDIT_ARCH_CONVENTION_MIPS64_N32`.
const N32: u32 = 0x2000_0000;

/// An architecture of the runtime specification 1.3 (`SCMP_ARCH_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the variants are the names of the specification without their prefix")]
pub enum Arch {
    X86,
    X86_64,
    X32,
    Arm,
    Aarch64,
    Mips,
    Mips64,
    Mips64n32,
    Mipsel,
    Mipsel64,
    Mipsel64n32,
    Ppc,
    Ppc64,
    Ppc64le,
    S390,
    S390x,
    Parisc,
    Parisc64,
    Riscv64,
    Loongarch64,
    M68k,
    Sh,
    Sheb,
}

/// Architectures whose programs one kernel may run; endianness decides the rest.
#[derive(PartialEq, Eq)]
enum Family {
    X86,
    Arm,
    Mips,
    Power,
    S390,
    Parisc,
    Riscv,
    Loongarch,
    M68k,
    Sh,
}

impl Arch {
    /// All architectures, in the order of the specification.
    pub const ALL: [Self; 23] = [
        Self::X86,
        Self::X86_64,
        Self::X32,
        Self::Arm,
        Self::Aarch64,
        Self::Mips,
        Self::Mips64,
        Self::Mips64n32,
        Self::Mipsel,
        Self::Mipsel64,
        Self::Mipsel64n32,
        Self::Ppc,
        Self::Ppc64,
        Self::Ppc64le,
        Self::S390,
        Self::S390x,
        Self::Parisc,
        Self::Parisc64,
        Self::Riscv64,
        Self::Loongarch64,
        Self::M68k,
        Self::Sh,
        Self::Sheb,
    ];

    /// The architecture this code was compiled for.
    pub const fn native() -> Self {
        NATIVE
    }

    /// The architecture of a name like `SCMP_ARCH_X86_64`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|arch| arch.name() == name)
    }

    /// The name in the specification.
    pub const fn name(self) -> &'static str {
        match self {
            Self::X86 => "SCMP_ARCH_X86",
            Self::X86_64 => "SCMP_ARCH_X86_64",
            Self::X32 => "SCMP_ARCH_X32",
            Self::Arm => "SCMP_ARCH_ARM",
            Self::Aarch64 => "SCMP_ARCH_AARCH64",
            Self::Mips => "SCMP_ARCH_MIPS",
            Self::Mips64 => "SCMP_ARCH_MIPS64",
            Self::Mips64n32 => "SCMP_ARCH_MIPS64N32",
            Self::Mipsel => "SCMP_ARCH_MIPSEL",
            Self::Mipsel64 => "SCMP_ARCH_MIPSEL64",
            Self::Mipsel64n32 => "SCMP_ARCH_MIPSEL64N32",
            Self::Ppc => "SCMP_ARCH_PPC",
            Self::Ppc64 => "SCMP_ARCH_PPC64",
            Self::Ppc64le => "SCMP_ARCH_PPC64LE",
            Self::S390 => "SCMP_ARCH_S390",
            Self::S390x => "SCMP_ARCH_S390X",
            Self::Parisc => "SCMP_ARCH_PARISC",
            Self::Parisc64 => "SCMP_ARCH_PARISC64",
            Self::Riscv64 => "SCMP_ARCH_RISCV64",
            Self::Loongarch64 => "SCMP_ARCH_LOONGARCH64",
            Self::M68k => "SCMP_ARCH_M68K",
            Self::Sh => "SCMP_ARCH_SH",
            Self::Sheb => "SCMP_ARCH_SHEB",
        }
    }

    /// The kernel's `AUDIT_ARCH_*` value, which a filter sees. x32 has that of x86-64.
    pub const fn audit(self) -> u32 {
        match self {
            Self::X86 => 3 | LITTLE,
            Self::X86_64 | Self::X32 => 62 | BITS_64 | LITTLE,
            Self::Arm => 40 | LITTLE,
            Self::Aarch64 => 183 | BITS_64 | LITTLE,
            Self::Mips => 8,
            Self::Mips64 => 8 | BITS_64,
            Self::Mips64n32 => 8 | BITS_64 | N32,
            Self::Mipsel => 8 | LITTLE,
            Self::Mipsel64 => 8 | BITS_64 | LITTLE,
            Self::Mipsel64n32 => 8 | BITS_64 | LITTLE | N32,
            Self::Ppc => 20,
            Self::Ppc64 => 21 | BITS_64,
            Self::Ppc64le => 21 | BITS_64 | LITTLE,
            Self::S390 => 22,
            Self::S390x => 22 | BITS_64,
            Self::Parisc => 15,
            Self::Parisc64 => 15 | BITS_64,
            Self::Riscv64 => 243 | BITS_64 | LITTLE,
            Self::Loongarch64 => 258 | BITS_64 | LITTLE,
            Self::M68k => 4,
            Self::Sh => 42 | LITTLE,
            Self::Sheb => 42,
        }
    }

    /// Whether the low byte comes first.
    pub const fn is_little_endian(self) -> bool {
        self.audit() & LITTLE != 0
    }

    /// Whether arguments are compared with all 64 bits. Not so on x32 and MIPS n32, whose registers are wide but whose
    /// programs are not (libseccomp treats them alike).
    pub const fn compares_64_bits(self) -> bool {
        !matches!(self, Self::X32) && self.audit() & BITS_64 != 0 && self.audit() & N32 == 0
    }

    /// Whether a kernel of architecture `native` may be asked to run programs of this one.
    pub fn runs_on(self, native: Self) -> bool {
        self.is_little_endian() == native.is_little_endian() && self.family() == native.family()
    }

    const fn family(self) -> Family {
        match self {
            Self::X86 | Self::X86_64 | Self::X32 => Family::X86,
            Self::Arm | Self::Aarch64 => Family::Arm,
            Self::Mips | Self::Mips64 | Self::Mips64n32 => Family::Mips,
            Self::Mipsel | Self::Mipsel64 | Self::Mipsel64n32 => Family::Mips,
            Self::Ppc | Self::Ppc64 | Self::Ppc64le => Family::Power,
            Self::S390 | Self::S390x => Family::S390,
            Self::Parisc | Self::Parisc64 => Family::Parisc,
            Self::Riscv64 => Family::Riscv,
            Self::Loongarch64 => Family::Loongarch,
            Self::M68k => Family::M68k,
            Self::Sh | Self::Sheb => Family::Sh,
        }
    }

    /// The column of the number table.
    pub(crate) const fn column(self) -> usize {
        match self {
            Self::X86 => 0,
            Self::X86_64 => 1,
            Self::X32 => 2,
            Self::Arm => 3,
            Self::Aarch64 => 4,
            Self::Mips | Self::Mipsel => 5,
            Self::Mips64 | Self::Mipsel64 => 6,
            Self::Mips64n32 | Self::Mipsel64n32 => 7,
            Self::Ppc => 8,
            Self::Ppc64 | Self::Ppc64le => 9,
            Self::S390 => 10,
            Self::S390x => 11,
            Self::Parisc => 12,
            Self::Parisc64 => 13,
            Self::Riscv64 => 14,
            Self::Loongarch64 => 15,
            Self::M68k => 16,
            Self::Sh | Self::Sheb => 17,
        }
    }
}

const NATIVE: Arch = match () {
    () if cfg!(all(target_arch = "x86_64", target_pointer_width = "32")) => Arch::X32,
    () if cfg!(target_arch = "x86_64") => Arch::X86_64,
    () if cfg!(target_arch = "x86") => Arch::X86,
    () if cfg!(target_arch = "aarch64") => Arch::Aarch64,
    () if cfg!(target_arch = "arm") => Arch::Arm,
    () if cfg!(target_arch = "riscv64") => Arch::Riscv64,
    () if cfg!(target_arch = "loongarch64") => Arch::Loongarch64,
    () if cfg!(target_arch = "s390x") => Arch::S390x,
    () if cfg!(all(target_arch = "powerpc64", target_endian = "little")) => Arch::Ppc64le,
    () if cfg!(target_arch = "powerpc64") => Arch::Ppc64,
    () if cfg!(target_arch = "powerpc") => Arch::Ppc,
    () if cfg!(all(target_arch = "mips64", target_endian = "little")) => Arch::Mipsel64,
    () if cfg!(target_arch = "mips64") => Arch::Mips64,
    () if cfg!(all(target_arch = "mips", target_endian = "little")) => Arch::Mipsel,
    () if cfg!(target_arch = "mips") => Arch::Mips,
    () if cfg!(target_arch = "m68k") => Arch::M68k,
    () => panic!("the runtime specification has no name for this architecture"),
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_read_back() {
        for arch in Arch::ALL {
            assert_eq!(Arch::from_name(arch.name()), Some(arch));
        }
        assert_eq!(Arch::from_name("SCMP_ARCH_NATIVE"), None);
        assert_eq!(Arch::from_name("x86_64"), None);
    }

    #[test]
    fn only_x32_shares_an_audit_value() {
        for (at, a) in Arch::ALL.into_iter().enumerate() {
            for b in Arch::ALL.into_iter().skip(at + 1) {
                let x32 = (a, b) == (Arch::X86_64, Arch::X32);
                assert_eq!(a.audit() == b.audit(), x32, "{a:?} {b:?}");
            }
        }
        // AUDIT_ARCH_X86_64, AUDIT_ARCH_AARCH64, AUDIT_ARCH_MIPSEL64N32 of linux/audit.h.
        assert_eq!(Arch::X86_64.audit(), 0xc000_003e);
        assert_eq!(Arch::Aarch64.audit(), 0xc000_00b7);
        assert_eq!(Arch::Mipsel64n32.audit(), 0xe000_0008);
    }

    #[test]
    fn foreign_endianness_does_not_run() {
        assert!(Arch::X32.runs_on(Arch::X86_64));
        assert!(Arch::Arm.runs_on(Arch::Aarch64));
        assert!(!Arch::Ppc64.runs_on(Arch::Ppc64le));
        assert!(!Arch::Aarch64.runs_on(Arch::X86_64));
        assert!(!Arch::Mips.runs_on(Arch::Mipsel64));
    }

    #[test]
    fn width_of_arguments() {
        for arch in [Arch::X32, Arch::X86, Arch::Mips64n32, Arch::S390, Arch::Arm] {
            assert!(!arch.compares_64_bits(), "{arch:?}");
        }
        for arch in [Arch::X86_64, Arch::Aarch64, Arch::Mipsel64, Arch::S390x] {
            assert!(arch.compares_64_bits(), "{arch:?}");
        }
    }
}
