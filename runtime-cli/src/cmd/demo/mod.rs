//! `coracle demo`: one container from create to delete, without an image, a network or a configuration.
//!
//! The bundle is made in a directory of its own: the root file system holds nothing but a copy of this program, which shows what
//! it sees from inside. Everything goes through the library as for any other container.
//! Must not: leave anything behind, need privileges. Tests: in the `tests` package, as root and as an ordinary user.

mod inside;
mod scratch;
mod tree;

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Instant;

use coracle::spec::{LinuxNamespace, Seccomp, SeccompRule, Spec};
use coracle::{Bundle, ContainerId, CreatePlan, Delete, Error, ErrorKind, Runtime, Status, Stdio};

pub use inside::run as inside;

use crate::Globals;
use crate::args::Given;
use crate::out;
use scratch::Scratch;

/// Where the program lies inside.
const PROGRAM: &str = "coracle";
/// Mount points of the configuration that the root file system has.
const MOUNT_POINTS: [&str; 3] = ["proc", "dev", "sys"];
/// Limits that are asked for where they can be had.
const MEMORY: i64 = 64 << 20;
const PROCESSES: i64 = 32;
/// Calls that no program needs to show what it sees.
const DENIED: [&str; 8] =
    ["bpf", "init_module", "kexec_load", "keyctl", "mount", "perf_event_open", "ptrace", "userfaultfd"];

/// Runs the demo.
pub fn run(globals: &Globals, _: &Given<'_>) -> Result<u8, Error> {
    coracle::reexec_sealed()?;
    let scratch = Scratch::new()?;
    let code = in_bundle(globals, scratch.path())?;
    scratch.remove()?;
    out::print("\nNothing is left of it. Next: coracle help run\n")?;
    Ok(code)
}

fn in_bundle(globals: &Globals, directory: &Path) -> Result<u8, Error> {
    let rootfs = directory.join("rootfs");
    make_root(&rootfs)?;
    let runtime = super::runtime_at(globals, directory.join("state"))?;
    let (plan, limits) = plan(&runtime, directory)?;
    out::print(format!("A container whose root holds one file: a copy of this program.{limits}\n\n"))?;
    let mut clock = Instant::now();
    let container = plan.create()?.container;
    let pid = container.pid()?.map(|pid| pid.to_string()).unwrap_or_default();
    step(&mut clock, "create", &format!("{}; process {pid} waits to be started", container.status()?))?;
    container.start()?;
    let status = container.wait()?;
    let code = super::run::exit_code(status)?;
    step(&mut clock, "start", &format!("the program has ended with exit code {code}; {}", Status::Stopped))?;
    container.delete(Delete::Stopped)?;
    step(&mut clock, "delete", "its processes, mounts, control group and record are gone")?;
    Ok(code)
}

/// A line about one step and the time that it took.
fn step(clock: &mut Instant, name: &str, what: &str) -> Result<(), Error> {
    let milliseconds = clock.elapsed().as_secs_f64() * 1000.0;
    out::print(format!("{name:<7} {milliseconds:>6.2} ms  {what}\n"))?;
    *clock = Instant::now();
    Ok(())
}

/// The root file system: a copy of this program, and directories to mount on.
fn make_root(rootfs: &Path) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::os("make the demo's root", error).with_path(rootfs);
    let mut program = File::open("/proc/self/exe").map_err(failed)?;
    refuse_interpreter(&mut program)?;
    let directory = |path: &Path| fs::DirBuilder::new().mode(0o755).create(path).map_err(failed);
    directory(rootfs)?;
    for name in MOUNT_POINTS {
        directory(&rootfs.join(name))?;
    }
    let mut program = File::open("/proc/self/exe").map_err(failed)?;
    let to = fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(rootfs.join(PROGRAM));
    std::io::copy(&mut program, &mut to.map_err(failed)?).map_err(failed)?;
    Ok(())
}

/// A program that needs a loader and libraries cannot run where there is nothing else.
fn refuse_interpreter(program: &mut File) -> Result<(), Error> {
    let mut head = Vec::new();
    program.take(4096).read_to_end(&mut head).map_err(|error| Error::os("read this program", error))?;
    if has_interpreter(&head) == Some(false) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Unsupported, "this build needs shared libraries and cannot run alone")
        .with_code("demo-dynamic")
        .with_hint("build it for a musl target"))
}

/// Whether a 64-bit ELF file names an interpreter; `None` for anything else.
fn has_interpreter(head: &[u8]) -> Option<bool> {
    const INTERPRETER: u32 = 3;
    let field = |at: usize, length: usize| head.get(at..at.checked_add(length)?);
    let short = |at| Some(usize::from(u16::from_ne_bytes(field(at, 2)?.try_into().ok()?)));
    let table = usize::try_from(u64::from_ne_bytes(field(32, 8)?.try_into().ok()?)).ok()?;
    if !head.starts_with(b"\x7fELF\x02") {
        return None;
    }
    for index in 0..short(56)? {
        let at = index.checked_mul(short(54)?)?.checked_add(table)?;
        if u32::from_ne_bytes(field(at, 4)?.try_into().ok()?) == INTERPRETER {
            return Some(true);
        }
    }
    Some(false)
}

/// With limits, or without where this machine or this user cannot have them; then says so.
fn plan(runtime: &Runtime, directory: &Path) -> Result<(CreatePlan, &'static str), Error> {
    let id: ContainerId = "demo".parse()?;
    let planned = |limits| {
        let bundle = Bundle::from_spec(configuration(limits)?, directory)?;
        runtime.create(&id, bundle).stdio(Stdio::Inherit).plan()
    };
    match planned(true) {
        Ok(plan) => Ok((plan, "")),
        Err(error) if error.pointer().is_some_and(|pointer| pointer.starts_with("/linux/resources")) => Ok((
            planned(false)?,
            "\nMemory and processes are not limited: no such control group is to be had here.",
        )),
        Err(error) => Err(error),
    }
}

fn configuration(limits: bool) -> Result<Spec, Error> {
    let root = rustix::process::geteuid().is_root();
    let mut spec = if root { Spec::default_container() } else { super::spec::for_caller()? };
    spec.hostname = Some("demo".to_owned());
    if let Some(process) = &mut spec.process {
        process.terminal = Some(false);
        process.args = [format!("/{PROGRAM}"), "__demo".to_owned()].into_iter().chain(namespaces()).collect();
    }
    if let Some(linux) = &mut spec.linux {
        if limits {
            let resources = linux.resources.get_or_insert_default();
            resources.memory.get_or_insert_default().limit = Some(MEMORY);
            resources.pids.get_or_insert_default().limit = Some(PROCESSES);
        }
        if !linux.namespaces.iter().any(|namespace| namespace.kind == "network") {
            let mut network = LinuxNamespace::default();
            network.kind = "network".to_owned();
            linux.namespaces.push(network);
        }
        linux.seccomp = Some(filter());
    }
    Ok(spec)
}

/// Everything is allowed but what is denied.
fn filter() -> Seccomp {
    let mut rule = SeccompRule::default();
    rule.names = DENIED.map(str::to_owned).to_vec();
    rule.action = "SCMP_ACT_ERRNO".to_owned();
    let mut filter = Seccomp::default();
    filter.default_action = "SCMP_ACT_ALLOW".to_owned();
    filter.syscalls = vec![rule];
    filter
}

/// The host's namespaces, for the program inside to tell which it shares.
fn namespaces() -> impl Iterator<Item = String> {
    let entries = fs::read_dir("/proc/self/ns").into_iter().flatten().flatten();
    entries.filter_map(|entry| fs::read_link(entry.path()).ok()?.into_os_string().into_string().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_need_a_loader_are_told_from_those_that_do_not() {
        let head = |path: &str| -> Vec<u8> { fs::read(path).expect(path).into_iter().take(4096).collect() };
        assert_eq!(has_interpreter(&head("/bin/sh")), Some(true));
        assert_eq!(has_interpreter(b"#!/bin/sh\n"), None);
        assert_eq!(has_interpreter(b""), None);
        let mut static_program = head("/bin/sh");
        static_program[56..58].copy_from_slice(&0_u16.to_ne_bytes());
        assert_eq!(has_interpreter(&static_program), Some(false));
        static_program.truncate(100);
        static_program[56..58].copy_from_slice(&9_u16.to_ne_bytes());
        assert_eq!(has_interpreter(&static_program), None);
    }
}
