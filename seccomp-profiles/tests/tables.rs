//! The number tables against those of the crate `syscalls`, which come from other sources. (Against libseccomp's: in
//! `libseccomp.rs`.)

use coracle_seccomp::{Arch, exists, name_of, names, number_of};

macro_rules! compare {
    ($($module:ident $arch:ident)*) => {
        [$((
            Arch::$arch,
            syscalls::$module::Sysno::iter().map(|call| (call.name(), call.id())).collect::<Vec<_>>(),
        )),*]
    };
}

/// Names that the other table spells differently or that are no calls of the kernel.
const OTHER_NAMES: [(&str, &str); 3] =
    [("arm_sync_file_range", "sync_file_range2"), ("umount", "umount2"), ("fstatat", "newfstatat")];

/// The numbers of calls with 64-bit time, which 32-bit architectures alone have; the other table gives them to all that
/// use the generic list.
const TIME_64: std::ops::RangeInclusive<u32> = 403..=423;

#[test]
fn all_numbers_of_the_other_table() {
    let tables = compare!(
        x86 X86 x86_64 X86_64 arm Arm aarch64 Aarch64 mips Mips mips64 Mips64 powerpc Ppc powerpc64 Ppc64
        riscv64 Riscv64 s390x S390x loongarch64 Loongarch64
    );
    for (arch, table) in tables {
        assert!(table.len() > 300, "{arch:?}");
        let mut missing = Vec::new();
        for (name, id) in table {
            let name = name.trim_start_matches("r#");
            let id = u32::try_from(id).unwrap();
            match number_of(arch, name) {
                Some(number) => assert_eq!(number, id, "{arch:?} {name}"),
                None if arch.compares_64_bits() && TIME_64.contains(&id) => {}
                None if OTHER_NAMES.contains(&(name, name_of(arch, id).unwrap_or_default())) => {}
                // The generic list has them, loongarch64 never did.
                None if arch == Arch::Loongarch64
                    && ["renameat", "getrlimit", "setrlimit"].contains(&name) => {}
                // Numbers that MIPS left out.
                None if name.starts_with("unused") || name.starts_with("reserved") => {}
                None => missing.push(name),
            }
        }
        assert!(missing.is_empty(), "{arch:?} {missing:?}");
    }
}

#[test]
fn every_architecture_has_a_table_with_the_newest_calls() {
    for arch in Arch::ALL {
        assert!(names(arch).count() > 300, "{arch:?}");
        for name in ["read", "execve", "clone", "mseal", "close_range"] {
            assert!(number_of(arch, name).is_some(), "{arch:?} {name}");
        }
    }
    assert!(exists("listns") && exists("bdflush") && !exists("frobnicate"));
}

/// From 424 on a call has one number everywhere (plus the base of the architecture).
#[test]
fn new_calls_have_one_number() {
    for (name, expect) in names(Arch::X86_64).filter(|&(_, number)| number >= 424) {
        for arch in Arch::ALL {
            let base = match arch {
                Arch::X32 => 0x4000_0000,
                Arch::Mips | Arch::Mipsel => 4000,
                Arch::Mips64 | Arch::Mipsel64 => 5000,
                Arch::Mips64n32 | Arch::Mipsel64n32 => 6000,
                _ => 0,
            };
            if let Some(number) = number_of(arch, name) {
                assert_eq!(number - base, expect, "{arch:?} {name}");
            }
        }
    }
}
