//! The program that embeds the library: what it does all the time beside containers, and pictures of it.
//!
//! Eight threads allocate and take the locks of the standard streams, one reaps every child that the kernel offers, one counts
//! SIGCHLD. A picture holds everything of this process that a library could change; it is compared after each case, and the part
//! of it that no other thread may see changed is compared all the time.

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::process::{WaitOptions, WaitStatus, wait};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Signals of children that came to this process. The kernel merges those that come together, so this counts at least one of them.
pub static SIGCHLD: AtomicU64 = AtomicU64::new(0);
/// Children that the host's own reaper has taken.
static STOLEN: Mutex<BTreeMap<i32, WaitStatus>> = Mutex::new(BTreeMap::new());
/// Whether the reaper works. Without a reaper children wait for whoever started them.
pub static REAPING: AtomicBool = AtomicBool::new(true);
/// Whether the busy threads keep nothing, so that memory can be measured.
pub static QUIET: AtomicBool = AtomicBool::new(false);
/// What the watching thread saw change.
static CHANGED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Makes this process a host. Called once, before any other thread exists: the signal mask is inherited.
pub fn begin() {
    let mut set = SigSet::empty();
    set.add(Signal::SIGCHLD);
    // A mask that is not the default: it must still be this one afterwards.
    let mut mask = set;
    mask.add(Signal::SIGUSR2);
    mask.thread_block().expect("a mask of the own thread");
    let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC).expect("a signal descriptor");
    spawn("sigchld", move || {
        while let Ok(Some(_)) = fd.read_signal() {
            SIGCHLD.fetch_add(1, Ordering::SeqCst);
        }
    });
    spawn("reaper", reap);
    for number in 0..8 {
        spawn("noise", move || noise(number));
    }
}

/// Starts a thread, and waits until it has its name and its signal mask.
pub fn spawn(name: &str, run: impl FnOnce() + Send + 'static) {
    let (begun, begin) = std::sync::mpsc::channel();
    let run = move || {
        begun.send(()).expect("somebody waits");
        run();
    };
    std::thread::Builder::new().name(name.into()).spawn(run).expect("a thread");
    begin.recv().expect("it begins");
}

/// `waitpid(-1)` for ever, as shells, service managers and shims do.
fn reap() {
    loop {
        if !REAPING.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => {
                STOLEN.lock().unwrap().insert(pid.as_raw_nonzero().get(), status);
            }
            _ => std::thread::sleep(Duration::from_micros(300)),
        }
    }
}

/// How many children the reaper has taken so far.
pub fn stolen() -> usize {
    STOLEN.lock().unwrap().len()
}

fn noise(seed: usize) {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    let mut round = seed;
    loop {
        round = round.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let size = 16 << (round >> 33 & 0xf);
        kept.push(vec![1; size]);
        if kept.len() > 32 {
            let place = round >> 40 & 0x1f;
            kept.swap_remove(place);
        }
        if QUIET.load(Ordering::SeqCst) {
            kept.clear();
        }
        // Nothing is printed, but the locks are taken and held for a while.
        {
            let mut err = std::io::stderr().lock();
            let _ = write!(err, "{}", String::new());
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(b"");
            let text = format!("{round}:{}", kept.len());
            std::hint::black_box(text);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Everything of this process that a library could change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    process: BTreeMap<String, String>,
    threads: BTreeMap<String, BTreeMap<String, String>>,
    descriptors: BTreeSet<String>,
}

/// Fields of /proc/PID/status that are not measurements.
const FIELDS: [&str; 22] = [
    "Name",
    "Umask",
    "Tgid",
    "NSpid",
    "PPid",
    "TracerPid",
    "Uid",
    "Gid",
    "Groups",
    "SigBlk",
    "SigIgn",
    "SigCgt",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
    "Seccomp_filters",
    "Cpus_allowed",
    "Mems_allowed",
];

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| error.to_string())
}

fn link(path: &str) -> String {
    fs::read_link(path).map_or_else(|error| error.to_string(), |path| path.display().to_string())
}

fn status(text: &str) -> BTreeMap<String, String> {
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    let known = fields.filter(|(name, _)| FIELDS.contains(name));
    known.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

/// What belongs to the whole process.
fn process() -> BTreeMap<String, String> {
    let mut seen = BTreeMap::new();
    let mut put = |name: &str, value: String| seen.insert(name.to_owned(), value);
    for name in ["limits", "oom_score_adj", "cgroup", "mountinfo", "loginuid", "sessionid", "coredump_filter"]
    {
        put(name, text(&format!("/proc/self/{name}")));
    }
    for name in ["cwd", "root", "exe"] {
        put(name, link(&format!("/proc/self/{name}")));
    }
    let own = text("/proc/self/status");
    put("umask", status(&own).remove("Umask").unwrap_or(own));
    // Nobody wants to read it in a log.
    let mut sum = std::hash::DefaultHasher::new();
    std::env::vars_os().for_each(|entry| entry.hash(&mut sum));
    put("environment", sum.finish().to_string());
    put("dumpable", format!("{:?}", rustix::process::dumpable_behavior()));
    put("subreaper", format!("{:?}", rustix::process::child_subreaper()));
    // After the name in parentheses: state, parent, group, session (proc_pid_stat(5)).
    let stat = text("/proc/self/stat");
    let ids = |fields: &str| fields.split(' ').skip(1).take(3).collect::<Vec<_>>().join(" ");
    let family = stat.rsplit_once(") ").map(|(_, fields)| ids(fields));
    put("parent, group, session", family.unwrap_or(stat));
    put("nice", format!("{:?}", rustix::process::getpriority_process(None)));
    seen
}

fn threads() -> BTreeMap<String, BTreeMap<String, String>> {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return BTreeMap::new() };
    let tasks = tasks.flatten().map(|task| task.path().display().to_string());
    let all = tasks.filter_map(|task| {
        let mut seen = status(&fs::read_to_string(format!("{task}/status")).ok()?);
        for space in [
            "cgroup",
            "ipc",
            "mnt",
            "net",
            "pid",
            "pid_for_children",
            "time",
            "time_for_children",
            "user",
            "uts",
        ] {
            seen.insert(format!("ns/{space}"), link(&format!("{task}/ns/{space}")));
        }
        Some((task, seen))
    });
    all.collect()
}

/// Open descriptors with what they are, but those that show them. The second list is of those that a program could inherit.
fn descriptors() -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut all, mut inherited) = (BTreeSet::new(), BTreeSet::new());
    let Ok(list) = fs::read_dir("/proc/self/fd") else { return (all, inherited) };
    for entry in list.flatten() {
        let number = entry.file_name().to_string_lossy().into_owned();
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let Ok(info) = fs::read_to_string(format!("/proc/self/fdinfo/{number}")) else { continue };
        if target.starts_with("/proc/") {
            continue;
        }
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or("0").trim();
        let bits = u32::from_str_radix(flags, 8).unwrap_or(0);
        let line = format!("{number} {} {flags}", target.display());
        if bits & 0o2_000_000 == 0 {
            inherited.insert(line.clone());
        }
        all.insert(line);
    }
    (all, inherited)
}

impl Picture {
    /// Takes it.
    pub fn take() -> Self {
        Self { process: process(), threads: threads(), descriptors: descriptors().0 }
    }

    /// Ends the case when something is different now. Threads that came or went meanwhile are the test's own.
    pub fn same_as_now(&self) {
        let now = Self::take();
        assert!(self.process == now.process, "{}", differences(&self.process, &now.process));
        for (thread, before) in &self.threads {
            if let Some(after) = now.threads.get(thread) {
                assert!(before == after, "{thread}: {}", differences(before, after));
            }
        }
        assert_eq!(self.descriptors, now.descriptors, "descriptors");
    }
}

/// What must not change for a moment either.
#[derive(Debug)]
pub struct Steady {
    process: BTreeMap<String, String>,
    threads: BTreeMap<String, BTreeMap<String, String>>,
    inherited: BTreeSet<String>,
}

impl Steady {
    /// Takes it, while nothing goes on.
    pub fn take() -> Self {
        Self { process: process(), threads: quiet(threads()), inherited: descriptors().1 }
    }
}

fn differences(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> String {
    let other = |(name, value): (&String, &String)| match after.get(name) {
        Some(now) if now == value => None,
        now => Some(format!("{name}: {value:?} is now {now:?}")),
    };
    before.iter().filter_map(other).collect::<Vec<_>>().join("\n")
}

/// The threads that call nothing of the library.
fn quiet(all: BTreeMap<String, BTreeMap<String, String>>) -> BTreeMap<String, BTreeMap<String, String>> {
    let names = ["noise", "reaper", "sigchld"];
    all.into_iter()
        .filter(|(_, seen)| seen.get("Name").is_some_and(|name| names.contains(&name.as_str())))
        .collect()
}

/// Compares all the time; stops when `done` is set.
pub fn watch(steady: &Steady, done: &AtomicBool) {
    let Steady { process: first, threads: others, inherited } = steady;
    while !done.load(Ordering::SeqCst) {
        let mut changed = Vec::new();
        let now = process();
        // A case that takes all descriptors leaves none to look with.
        let blind = now.values().any(|value| value.contains("os error 24"));
        if now != *first && !blind {
            changed.push(differences(first, &now));
        }
        for (thread, seen) in quiet(threads()) {
            let blind = seen.values().any(|value| value.contains("os error 24"));
            if !blind && others.get(&thread).is_some_and(|before| *before != seen) {
                changed.push(format!("{thread}: {}", differences(&others[&thread], &seen)));
            }
        }
        let more: Vec<_> = descriptors().1.difference(inherited).cloned().collect();
        if !more.is_empty() {
            changed.push(format!("descriptors that programs would inherit: {more:?}"));
        }
        CHANGED.lock().unwrap().append(&mut changed);
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Ends the case when the watching thread saw something.
pub fn unchanged() {
    let seen = std::mem::take(&mut *CHANGED.lock().unwrap());
    assert!(
        seen.is_empty(),
        "changed while containers were made: {}",
        seen.first().map_or("", String::as_str)
    );
}
