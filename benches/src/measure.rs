//! One command of one runtime, and what can be seen of it.
//!
//! Must not: compare or print results.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{WaitOptions, wait};

/// A runtime: `NAME=PATH`, or a path or name that is looked for.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// What it is called in the table.
    pub name: String,
    /// Its program.
    pub path: PathBuf,
    /// Its state directory.
    pub root: PathBuf,
}

impl Runtime {
    /// Reads `NAME=PATH`; the state directory lies below `scratch`.
    ///
    /// # Errors
    /// When there is no such program.
    pub fn parse(text: &str, scratch: &Path) -> Result<Self, String> {
        let (name, path) = match text.split_once('=') {
            Some((name, path)) => (name.to_owned(), PathBuf::from(path)),
            None => {
                let path = PathBuf::from(text);
                (path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(), path)
            }
        };
        let found = if path.components().count() > 1 {
            path.exists().then_some(path)
        } else {
            let places = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
            places.iter().map(|place| Path::new(place).join(&path)).find(|path| path.exists())
        };
        let path = found.ok_or_else(|| format!("there is no program {text}"))?;
        Ok(Self { root: scratch.join(format!("state-{name}")), name, path })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.arg("--root").arg(&self.root).args(args);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/root");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Runs a command to its end; microseconds from before its start to its end.
    ///
    /// # Errors
    /// When it does not end with 0: what it said when run once more.
    pub fn time(&self, args: &[&str]) -> Result<f64, String> {
        let mut command = self.command(args);
        let began = Instant::now();
        let status = command.spawn().and_then(|mut child| child.wait()).map_err(|e| e.to_string())?;
        let took = began.elapsed();
        if status.success() {
            return Ok(took.as_secs_f64() * 1e6);
        }
        let again = self.command(args).stderr(Stdio::piped()).output().map_err(|e| e.to_string())?;
        Err(format!("{} {}: {status}; {}", self.name, args.join(" "), String::from_utf8_lossy(&again.stderr)))
    }

    /// What the command writes.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn output(&self, args: &[&str]) -> Result<String, String> {
        let out = self.command(args).stdout(Stdio::piped()).output().map_err(|e| e.to_string())?;
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// Peak resident memory in KiB of a command and the processes that it waited for. Another process of ours (`peak`) runs it, since a
    /// child's peak starts with its parent's.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn peak(&self, args: &[&str]) -> Result<f64, String> {
        let me = std::env::current_exe().map_err(|e| e.to_string())?;
        let mut command = Command::new(me);
        command.arg("peak").arg(&self.path).arg("--root").arg(&self.root).args(args).stdin(Stdio::null());
        let out = command.stderr(Stdio::null()).output().map_err(|e| e.to_string())?;
        let text = String::from_utf8_lossy(&out.stdout);
        text.trim().parse().map_err(|_| format!("{} {}: no peak: {text}", self.name, args.join(" ")))
    }

    /// Drops the program and the libraries that it needs from the page cache, as far as nobody else maps them: the next call reads them
    /// from the disk.
    pub fn forget_files(&self) {
        let listed = Command::new("ldd").arg(&self.path).stderr(Stdio::null()).output();
        let text = listed.map(|out| String::from_utf8_lossy(&out.stdout).into_owned()).unwrap_or_default();
        let libraries = text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from);
        for file in libraries.chain([self.path.clone()]) {
            if let Ok(file) = std::fs::File::open(file) {
                let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
            }
        }
    }
}

/// The part of `peak` that runs in its own process: the command's peak in KiB.
///
/// # Errors
/// When it cannot be run or does not end with 0.
pub fn peak_of(args: &[String]) -> Result<i64, String> {
    let (program, args) = args.split_first().ok_or("peak needs a command")?;
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let status = command.status().map_err(|e| e.to_string())?;
    if !status.success() {
        return Err(format!("{program}: {status}"));
    }
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN);
    Ok(usage.map_err(|e| e.to_string())?.max_rss())
}

/// Private memory of a process in KiB.
pub fn private_memory(pid: i64) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let of = |key: &str| -> Option<f64> {
        let line = text.lines().find(|line| line.starts_with(key))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    Some(of("Private_Clean:")? + of("Private_Dirty:")?)
}

/// Waits for orphaned container processes, whose subreaper we are, until none is left.
///
/// # Errors
/// When one lives on for ten seconds.
pub fn reap() -> Result<(), String> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        match wait(WaitOptions::NOHANG) {
            Err(_) => return Ok(()),
            Ok(Some(_)) => {}
            Ok(None) if Instant::now() > end => return Err("a container outlives its end".to_owned()),
            Ok(None) => std::thread::sleep(Duration::from_micros(200)),
        }
    }
}
