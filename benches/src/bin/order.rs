//! Which functions the usual commands call, for the linker (`runtime-cli/order.ld`).
//!
//! `order PROGRAM`: an unstripped static `coracle`. Runs a container's life with it, by the default configuration and by Docker's, with a
//! breakpoint at each function, which goes away when it is hit; prints the linker script. What does least comes first, so that what it
//! calls lies together. `create` and `run` call nearly everything, wherever that lies: they have no part in it. `cargo xtask order` builds
//! the program and writes the file.
//!
//! Needs root and x86-64. Everything lies in a temporary directory, and in one in `/run`; both are removed.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::indexing_slicing,
    reason = "a program for the command line that prints a file"
)]

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use coracle_benches::scratch::Scratch;
use nix::sys::ptrace::{self, Event, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// arch_prctl(2), the C library's first call: by then the program has mapped itself again, which takes breakpoints away, and stays where it is.
const FIRST_CALL: i64 = if cfg!(target_arch = "x86_64") { 158 } else { -1 };
const BREAKPOINT: u8 = 0xcc;

/// The functions of an ELF file: address, and every name that it has.
type Functions = BTreeMap<u64, Vec<String>>;

fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    let part = bytes.get(at..at + len).unwrap_or(&[]);
    part.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn place(bytes: &[u8], at: usize) -> usize {
    usize::try_from(number(bytes, at, 8)).unwrap_or(usize::MAX)
}

/// Of a 64-bit little-endian program (elf(5)).
fn functions(elf: &[u8]) -> Result<Functions, String> {
    const SYMTAB: u64 = 2;
    const FUNCTION: u64 = 2;
    let (sections, size) = (place(elf, 0x28), 64);
    let count = usize::try_from(number(elf, 0x3c, 2)).unwrap_or(0);
    let header = |n: usize| sections + n * size;
    let table = (0..count).map(header).find(|at| number(elf, at + 4, 4) == SYMTAB);
    let table = table.ok_or("the program has no names: build it with CARGO_PROFILE_RELEASE_STRIP=none")?;
    let strings = header(usize::try_from(number(elf, table + 40, 4)).unwrap_or(0));
    let text = elf.get(place(elf, strings + 24)..).unwrap_or(&[]);
    let mut names = Functions::new();
    let symbols = place(elf, table + 24)..place(elf, table + 24) + place(elf, table + 32);
    for at in symbols.step_by(24) {
        let name = text.get(usize::try_from(number(elf, at, 4)).unwrap_or(0)..).unwrap_or(&[]);
        let name = name.split(|byte| *byte == 0).next().unwrap_or(&[]);
        let address = number(elf, at + 8, 8);
        if number(elf, at + 4, 1) & 0xf == FUNCTION && number(elf, at + 16, 8) > 0 && address > 0 {
            names.entry(address).or_default().push(String::from_utf8_lossy(name).into_owned());
        }
    }
    Ok(names)
}

/// A command's processes, all stopped at the functions that nobody has called yet.
struct Traced<'f> {
    functions: &'f Functions,
    /// What is added to an address of the file in this process.
    base: u64,
    /// The code from the first function's first byte to the last one's.
    original: Vec<u8>,
    called: BTreeSet<u64>,
}

impl Traced<'_> {
    fn memory(pid: Pid) -> Result<File, String> {
        let path = format!("/proc/{pid}/mem");
        OpenOptions::new().read(true).write(true).open(&path).map_err(|e| format!("open {path}: {e}"))
    }

    fn first(&self) -> u64 {
        self.functions.keys().next().copied().unwrap_or(0)
    }

    fn byte(&self, address: u64) -> u8 {
        let at = usize::try_from(address - self.first()).unwrap_or(usize::MAX);
        self.original.get(at).copied().unwrap_or(BREAKPOINT)
    }

    /// Puts a breakpoint where each function begins that was not called yet.
    fn plant(&mut self, pid: Pid) -> Result<(), String> {
        let memory = Self::memory(pid)?;
        if self.original.is_empty() {
            let (first, last) = (self.first(), self.functions.keys().next_back().copied().unwrap_or(0));
            self.original = vec![0; usize::try_from(last - first + 1).unwrap_or(0)];
            memory
                .read_exact_at(&mut self.original, self.base + first)
                .map_err(|e| format!("read code: {e}"))?;
        }
        for address in self.functions.keys().filter(|address| !self.called.contains(address)) {
            memory.write_at(&[BREAKPOINT], self.base + address).map_err(|e| format!("write code: {e}"))?;
        }
        Ok(())
    }

    /// Takes them all away: whoever is not traced any more would die of one.
    fn lift(&self, pid: Pid) {
        if let Ok(memory) = Self::memory(pid) {
            for address in self.functions.keys() {
                let _ = memory.write_at(&[self.byte(*address)], self.base + address);
            }
        }
    }

    /// Whether the process stands behind a breakpoint; it goes on as if there had been none.
    fn hit(&mut self, pid: Pid) -> Result<bool, String> {
        let address = after_breakpoint(pid)?.wrapping_sub(1).wrapping_sub(self.base);
        if !self.functions.contains_key(&address) {
            return Ok(false);
        }
        self.called.insert(address);
        let memory = Self::memory(pid)?;
        memory
            .write_at(&[self.byte(address)], self.base + address)
            .map_err(|e| format!("write code: {e}"))?;
        go_back(pid)?;
        Ok(true)
    }
}

/// Where a process stands.
#[cfg(target_arch = "x86_64")]
fn after_breakpoint(pid: Pid) -> Result<u64, String> {
    ptrace::getregs(pid).map(|registers| registers.rip).map_err(|e| format!("registers: {e}"))
}

/// The call that a process is stopped in.
#[cfg(target_arch = "x86_64")]
fn called_number(pid: Pid) -> Result<i64, String> {
    let registers = ptrace::getregs(pid).map_err(|e| format!("registers: {e}"))?;
    i64::try_from(registers.orig_rax).map_err(|e| format!("registers: {e}"))
}

/// To where the breakpoint was.
#[cfg(target_arch = "x86_64")]
fn go_back(pid: Pid) -> Result<(), String> {
    let mut registers = ptrace::getregs(pid).map_err(|e| format!("registers: {e}"))?;
    registers.rip = registers.rip.wrapping_sub(1);
    ptrace::setregs(pid, registers).map_err(|e| format!("registers: {e}"))
}

#[cfg(not(target_arch = "x86_64"))]
fn after_breakpoint(_: Pid) -> Result<u64, String> {
    Err("breakpoints are written for x86-64".to_owned())
}

#[cfg(not(target_arch = "x86_64"))]
fn called_number(_: Pid) -> Result<i64, String> {
    Err("breakpoints are written for x86-64".to_owned())
}

#[cfg(not(target_arch = "x86_64"))]
fn go_back(_: Pid) -> Result<(), String> {
    Err("breakpoints are written for x86-64".to_owned())
}

/// Where the program's first page is in this process.
fn base_of(pid: Pid, program: &Path) -> Result<u64, String> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).map_err(|e| format!("maps: {e}"))?;
    let name = program.to_string_lossy();
    let first = maps.lines().find(|line| line.ends_with(&*name));
    let start =
        first.and_then(|line| line.split('-').next()).and_then(|hex| u64::from_str_radix(hex, 16).ok());
    start.ok_or_else(|| format!("{name} is not mapped"))
}

/// Runs one command; the functions that its processes call.
fn calls(program: &Path, functions: &Functions, args: &[&str]) -> Result<BTreeSet<u64>, String> {
    // Stops, until somebody traces it.
    let child = Command::new("sh")
        .args(["-c", "kill -STOP $$; exec \"$0\" \"$@\""])
        .arg(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|e| format!("sh: {e}"))?;
    let main = Pid::from_raw(i32::try_from(child.id()).unwrap_or(0));
    let failed = |what: &str, e: nix::Error| format!("{what}: {e}");
    waitpid(main, Some(WaitPidFlag::WUNTRACED)).map_err(|e| failed("wait", e))?;
    let follow = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK;
    ptrace::seize(main, follow).map_err(|e| failed("trace", e))?;
    nix::sys::signal::kill(main, Signal::SIGCONT).map_err(|e| failed("continue", e))?;
    let mut traced = Traced { functions, base: 0, original: Vec::new(), called: BTreeSet::new() };
    let mut alive: HashSet<Pid> = HashSet::from([main]);
    let mut moved = false;
    loop {
        let status = waitpid(None::<Pid>, Some(WaitPidFlag::__WALL)).map_err(|e| failed("wait", e))?;
        let Some(pid) = status.pid() else { continue };
        match status {
            WaitStatus::Exited(_, code) if pid == main => {
                // Who waits at the gate goes on without us.
                for left in alive.iter().filter(|left| **left != main) {
                    if ptrace::interrupt(*left).is_ok() && waitpid(*left, Some(WaitPidFlag::__WALL)).is_ok() {
                        traced.lift(*left);
                        let _ = ptrace::detach(*left, None);
                    }
                }
                return if code == 0 {
                    Ok(traced.called)
                } else {
                    Err(format!("{args:?}: exit status {code}"))
                };
            }
            WaitStatus::Signaled(_, signal, _) if pid == main => return Err(format!("{args:?}: {signal}")),
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => {
                alive.remove(&pid);
                continue;
            }
            WaitStatus::PtraceEvent(_, _, event) if event == Event::PTRACE_EVENT_EXEC as i32 => {
                if pid == main {
                    // Not of `sh`.
                    if let Ok(base) = base_of(pid, program) {
                        traced.base = base;
                        traced.plant(pid)?;
                    }
                } else {
                    // The container's own program.
                    alive.remove(&pid);
                    let _ = ptrace::detach(pid, None);
                    continue;
                }
            }
            WaitStatus::PtraceSyscall(_) if pid == main && traced.base > 0 => {
                if called_number(pid)? == FIRST_CALL {
                    moved = true;
                    traced.plant(pid)?;
                }
            }
            WaitStatus::Stopped(_, Signal::SIGTRAP) if traced.hit(pid)? => {}
            WaitStatus::Stopped(_, signal) => {
                alive.insert(pid);
                let _ = ptrace::cont(pid, signal);
                continue;
            }
            // A new process, a stop of the whole group, a call that was interrupted.
            _ => {
                alive.insert(pid);
            }
        }
        // Up to that call it stops at each.
        let _ = if pid == main && !moved { ptrace::syscall(pid, None) } else { ptrace::cont(pid, None) };
    }
}

/// As the linker may find it after another compiler: without the hashes of this one's.
fn pattern(name: &str) -> String {
    let name = name.split(".llvm.").next().unwrap_or(name);
    // What the linker folded or the compiler split has a number behind it.
    let name = match name.rsplit_once('.') {
        Some((front, back)) if back.bytes().all(|byte| byte.is_ascii_digit()) => format!("{front}*"),
        _ => name.to_owned(),
    };
    let mut out = String::with_capacity(name.len());
    let mut rest = name.as_str();
    while let Some(at) = rest.find("17h").filter(|_| name.starts_with("_ZN")) {
        let hash = rest.get(at + 3..at + 19).is_some_and(|hash| hash.bytes().all(|b| b.is_ascii_hexdigit()));
        out.push_str(&rest[..at + 3]);
        rest = &rest[at + 3..];
        if hash {
            out.push('*');
            rest = &rest[16..];
        }
    }
    out.push_str(rest);
    if !name.starts_with("_R") {
        return out;
    }
    // `Cs` and the crate's number, up to `_`.
    let mut parts = out.split("Cs");
    let mut short = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find('_').filter(|end| part[..*end].bytes().all(|b| b.is_ascii_alphanumeric()));
        short.push_str("Cs");
        match end {
            Some(end) => {
                short.push('*');
                short.push_str(&part[end..]);
            }
            None => short.push_str(part),
        }
    }
    short
}

/// A container's life; what each of its commands calls, the shortest first.
fn life(
    program: &Path,
    functions: &Functions,
    scratch: &Scratch,
    config: &str,
) -> Result<[BTreeSet<u64>; 5], String> {
    const ID: &str = "order";
    let state = scratch.state().to_string_lossy().into_owned();
    let bundle = scratch.bundle(config, "pause").to_string_lossy().into_owned();
    let plain = |words: &[&str]| {
        let out = Command::new(program).args(["--root", &state]).args(words).stdin(Stdio::null()).output();
        let out = out.map_err(|e| format!("{words:?}: {e}"))?;
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        if out.status.success() { Ok(text) } else { Err(format!("{words:?} ({config}): {}", out.status)) }
    };
    let look = |words: &[&str]| -> Result<BTreeSet<u64>, String> {
        let words: Vec<&str> = ["--root", &state].into_iter().chain(words.iter().copied()).collect();
        let found = calls(program, functions, &words)?;
        eprintln!("{} ({config}): {} functions", words.get(2).unwrap_or(&""), found.len());
        Ok(found)
    };
    let lives = || -> Result<_, String> {
        let (asks, starts) = (look(&["state", ID])?, look(&["start", ID])?);
        let (enters, kills) = (look(&["exec", ID, "/bin/true"])?, look(&["kill", ID, "KILL"])?);
        // It is no child of ours.
        while !plain(&["state", ID])?.contains("stopped") {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Ok([asks, kills, starts, look(&["delete", ID])?, enters])
    };
    let create = ["--root", &state, "create", "--bundle", &bundle, ID];
    let created = Command::new(program).args(create).stdin(Stdio::null()).stdout(Stdio::null()).status();
    if !created.is_ok_and(|status| status.success()) {
        return Err(format!("create ({config}) failed"));
    }
    lives().inspect_err(|_| {
        let _ = plain(&["delete", "--force", ID]);
    })
}

fn script(program: &Path) -> Result<String, String> {
    let elf = std::fs::read(program).map_err(|e| format!("read {}: {e}", program.display()))?;
    let functions = functions(&elf)?;
    let scratch = Scratch::new(None).map_err(|e| format!("make bundles: {e}"))?;
    let [spec, docker] = ["spec", "docker"].map(|config| life(program, &functions, &scratch, config));
    let mut known = HashSet::new();
    let mut out = HEAD.to_owned();
    for (one, other) in spec?.iter().zip(&docker?) {
        for name in one.union(other).filter_map(|address| functions.get(address)).flatten() {
            let name = pattern(name);
            if !known.contains(&name) {
                out.push_str(&format!("\t\t*(.text.{name})\n"));
                known.insert(name);
            }
        }
    }
    out.push_str(TAIL);
    Ok(out)
}

const HEAD: &str = "\
/* Written by `cargo xtask order`: the functions that short commands and exec call, the shortest's first. A name that is not there any
   more does no harm; a function that is missing is a page or two more. */
SECTIONS
{
\t.text.usual : {
\t\t*liblibc-*:*(.text) *libc.a:*(.text)
";
const TAIL: &str = "\t}
}
INSERT BEFORE .text;
";

fn main() -> ExitCode {
    let Some(program) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: order PROGRAM");
        return ExitCode::FAILURE;
    };
    if !cfg!(target_arch = "x86_64") {
        eprintln!("order: breakpoints are written for x86-64");
        return ExitCode::FAILURE;
    }
    let program = program.canonicalize().unwrap_or(program);
    match script(&program) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(text) => {
            eprintln!("order: {text}");
            ExitCode::FAILURE
        }
    }
}
