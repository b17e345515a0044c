//! libseccomp as an oracle, loaded when the test runs; a machine without it skips. `LD_LIBRARY_PATH` chooses another one.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic fails the test")]
#![allow(clippy::print_stdout, reason = "a skipped test says so")]

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::io::{Read, Seek};
use std::os::fd::AsRawFd;

use coracle_seccomp::{Action, Arch, Arg, Insn, Op, Policy};

/// `struct scmp_arg_cmp`.
#[repr(C)]
#[derive(Clone, Copy)]
struct ArgCmp {
    arg: c_uint,
    op: c_int,
    a: u64,
    b: u64,
}

#[repr(C)]
struct Version {
    major: c_uint,
    minor: c_uint,
    micro: c_uint,
}

/// The functions of libseccomp that the tests call.
pub struct Scmp {
    init: unsafe extern "C" fn(u32) -> *mut c_void,
    release: unsafe extern "C" fn(*mut c_void),
    arch_add: unsafe extern "C" fn(*mut c_void, u32) -> c_int,
    arch_remove: unsafe extern "C" fn(*mut c_void, u32) -> c_int,
    rule_add: unsafe extern "C" fn(*mut c_void, u32, c_int, c_uint, *const ArgCmp) -> c_int,
    attr_set: unsafe extern "C" fn(*mut c_void, c_int, u32) -> c_int,
    export: unsafe extern "C" fn(*mut c_void, c_int) -> c_int,
    resolve: unsafe extern "C" fn(*const c_char) -> c_int,
    resolve_arch: unsafe extern "C" fn(u32, *const c_char) -> c_int,
    version: unsafe extern "C" fn() -> *const Version,
}

/// What libseccomp makes of a policy.
pub struct Exported {
    pub insns: Vec<Insn>,
    /// Names it does not know.
    pub unknown: Vec<String>,
}

/// `__NR_SCMP_ERROR`.
const UNKNOWN: c_int = -1;
/// `SCMP_FLTATR_CTL_OPTIMIZE`.
const OPTIMIZE: c_int = 8;

impl Scmp {
    /// Loads the library; `None`, said aloud, when it is not there.
    pub fn load() -> Option<Self> {
        // SAFETY: the name is a C string; the library has no initialiser with preconditions.
        let library = unsafe { libc::dlopen(c"libseccomp.so.2".as_ptr(), libc::RTLD_NOW) };
        if library.is_null() {
            println!("skipped: libseccomp.so.2 is not installed");
            return None;
        }
        let symbol = |name: &CStr| {
            // SAFETY: `library` is an open library that is never closed, `name` a C string.
            let found = unsafe { libc::dlsym(library, name.as_ptr()) };
            assert!(!found.is_null(), "{name:?}");
            found
        };
        // SAFETY: each type is that of the function in seccomp.h of libseccomp 2.5; dlsym returned its address.
        #[expect(clippy::multiple_unsafe_ops_per_block, reason = "one reason holds for all")]
        #[expect(clippy::missing_transmute_annotations, reason = "the fields have the types")]
        let scmp = unsafe {
            Self {
                init: std::mem::transmute(symbol(c"seccomp_init")),
                release: std::mem::transmute(symbol(c"seccomp_release")),
                arch_add: std::mem::transmute(symbol(c"seccomp_arch_add")),
                arch_remove: std::mem::transmute(symbol(c"seccomp_arch_remove")),
                rule_add: std::mem::transmute(symbol(c"seccomp_rule_add_array")),
                attr_set: std::mem::transmute(symbol(c"seccomp_attr_set")),
                export: std::mem::transmute(symbol(c"seccomp_export_bpf")),
                resolve: std::mem::transmute(symbol(c"seccomp_syscall_resolve_name")),
                resolve_arch: std::mem::transmute(symbol(c"seccomp_syscall_resolve_name_arch")),
                version: std::mem::transmute(symbol(c"seccomp_version")),
            }
        };
        Some(scmp)
    }

    /// Major, minor, micro.
    pub fn version(&self) -> (u32, u32, u32) {
        // SAFETY: the function has no preconditions.
        let version = unsafe { (self.version)() };
        // SAFETY: it returned the address of a static.
        let version = unsafe { &*version };
        (version.major, version.minor, version.micro)
    }

    /// The number of a name on an architecture; negative for a name that it does not have.
    pub fn number(&self, arch: Arch, name: &str) -> i32 {
        let name = CString::new(name).unwrap();
        // SAFETY: the function reads a C string.
        unsafe { (self.resolve_arch)(token(arch), name.as_ptr()) }
    }

    /// Does with `policy` what runc does, but for the ENOSYS stub: rules with the default action are dropped, an index
    /// that occurs twice makes a rule per argument. `Err` is libseccomp's refusal of a rule.
    pub fn export(&self, policy: &Policy<'_>, native: Arch, tree: bool) -> Result<Exported, i32> {
        // SAFETY: any action value may be passed; the result is checked.
        let context = Context(self, unsafe { (self.init)(value(policy.default)) });
        assert!(!context.1.is_null());
        let check = |result: c_int| if result == 0 { Ok(()) } else { Err(result) };
        let mut arches = vec![native];
        arches.extend(&policy.architectures);
        // First, because one context has one endianness.
        if !arches.contains(&Arch::native()) {
            // SAFETY: the context is alive.
            check(unsafe { (self.arch_remove)(context.1, token(Arch::native())) })?;
        }
        for (at, &arch) in arches.iter().enumerate() {
            if arch != Arch::native() && !arches[..at].contains(&arch) {
                // SAFETY: the context is alive.
                check(unsafe { (self.arch_add)(context.1, token(arch)) })?;
            }
        }
        if tree {
            // SAFETY: the context is alive.
            check(unsafe { (self.attr_set)(context.1, OPTIMIZE, 2) })?;
        }
        let mut unknown = Vec::new();
        for rule in policy.rules.iter().filter(|rule| rule.action != policy.default) {
            for name in &rule.names {
                let text = CString::new(*name).unwrap();
                // SAFETY: the function reads a C string.
                let number = unsafe { (self.resolve)(text.as_ptr()) };
                if number == UNKNOWN {
                    unknown.push((*name).to_owned());
                    continue;
                }
                for args in groups(&rule.args) {
                    let count = c_uint::try_from(args.len()).unwrap();
                    // SAFETY: the context is alive, `args` has `count` elements.
                    check(unsafe {
                        (self.rule_add)(context.1, value(rule.action), number, count, args.as_ptr())
                    })?;
                }
            }
        }
        Ok(Exported { insns: context.program(native), unknown })
    }
}

/// A filter context, released when dropped.
struct Context<'a>(&'a Scmp, *mut c_void);

impl Context<'_> {
    fn program(&self, native: Arch) -> Vec<Insn> {
        let path = std::env::temp_dir().join(format!("coracle-scmp-{}-{:p}", std::process::id(), self.1));
        let mut file = std::fs::File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        // SAFETY: the context is alive, the descriptor open.
        assert_eq!(unsafe { (self.0.export)(self.1, file.as_raw_fd()) }, 0);
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        let insns = bytes.chunks_exact(8).map(|insn| Insn::from_bytes(insn.try_into().unwrap()));
        // Written in the byte order of the architectures in the filter.
        let foreign = native.is_little_endian() != Arch::native().is_little_endian();
        let turn = |insn: Insn| Insn { code: insn.code.swap_bytes(), k: insn.k.swap_bytes(), ..insn };
        insns.map(|insn| if foreign { turn(insn) } else { insn }).collect()
    }
}

impl Drop for Context<'_> {
    fn drop(&mut self) {
        // SAFETY: the context was made by init and is released once.
        unsafe { (self.0.release)(self.1) }
    }
}

fn groups(args: &[Arg]) -> Vec<Vec<ArgCmp>> {
    let cmp = |arg: &Arg| ArgCmp { arg: arg.index, op: operator(arg.op), a: arg.value, b: arg.value_two };
    let twice = args.iter().any(|arg| args.iter().filter(|other| other.index == arg.index).count() > 1);
    if twice { args.iter().map(|arg| vec![cmp(arg)]).collect() } else { vec![args.iter().map(cmp).collect()] }
}

/// `enum scmp_compare`.
fn operator(op: Op) -> c_int {
    c_int::try_from(Op::NAMES.iter().position(|&(_, known)| known == op).unwrap() + 1).unwrap()
}

/// `SCMP_ACT_*` are the kernel's values.
fn value(action: Action) -> u32 {
    action.value()
}

/// `SCMP_ARCH_*`: the audit value, but for x32.
fn token(arch: Arch) -> u32 {
    if arch == Arch::X32 { 62 | 0x4000_0000 } else { arch.audit() }
}
