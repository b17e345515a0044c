//! The harness: runs the cases of a suite in parallel, catches their panics, counts what was skipped.
//!
//! Words on the command line pick the cases whose name contains one of them. `--jobs N`, `--list`, `--exact`,
//! `--skip WORD`, `--skips N` (or `EXPECTED_SKIPS`): fail unless exactly N cases were skipped.

use crate::dirs::{self, CaseDir};
use crate::need::Need;
use crate::runtime::{Kind, Runtime};
use std::any::Any;
use std::cell::RefCell;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// A case: a name, a function, and whether it must run while no other case does.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// `module::function`.
    pub name: &'static str,
    /// What it does.
    pub run: fn(&T),
    /// It compares the whole machine before and after, so nothing else may run.
    pub alone: bool,
}

/// Lists the cases of a module: the names of its functions.
#[macro_export]
macro_rules! cases {
    ($($name:ident),+ $(,)?) => {
        /// The cases of this module.
        pub const CASES: &[$crate::Case] =
            &[$($crate::Case { name: concat!(module_path!(), "::", stringify!($name)), run: $name, alone: false }),+];
    };
}

/// Lists cases that run while no other does.
#[macro_export]
macro_rules! cases_alone {
    ($($name:ident),+ $(,)?) => {
        /// The cases of this module that run alone.
        pub const ALONE: &[$crate::Case] =
            &[$($crate::Case { name: concat!(module_path!(), "::", stringify!($name)), run: $name, alone: true }),+];
    };
}

/// What a running case has: a directory, the runtime, and ways to end early.
#[derive(Debug)]
pub struct T {
    /// The case's name.
    pub name: &'static str,
    /// The program under test.
    pub runtime: Runtime,
    dir: CaseDir,
    faults: Mutex<Vec<String>>,
    differs: Mutex<Option<String>>,
}

#[derive(Debug)]
struct Skip(String);

/// No case takes longer; every wait of the library has a shorter limit of its own.
const LONGEST: Duration = Duration::from_secs(400);

impl T {
    /// The case's directory; removed at its end.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }
    /// Skips the case unless the machine has all of these.
    pub fn needs(&self, needs: &[Need]) {
        if let Some(reason) = needs.iter().find_map(|need| need.missing()) {
            self.skip(&reason);
        }
    }
    /// Skips the case. The reason is printed, and the skip is counted.
    pub fn skip(&self, reason: &str) -> ! {
        // Not a panic: nothing is printed for it.
        resume_unwind(Box::new(Skip(reason.to_owned())))
    }
    /// Says that a runtime behaves differently here by design (`runc`, `crun`): for it the rest of the case may fail.
    pub fn differs(&self, runtime: &str, reason: &str) {
        let kind = match runtime {
            "runc" => Kind::Runc,
            "crun" => Kind::Crun,
            other => panic!("no runtime {other}"),
        };
        if self.runtime.kind == kind {
            *self.differs.lock().unwrap() = Some(reason.to_owned());
        }
    }
    /// The same case with another runtime, in a directory of its own.
    pub fn with(&self, runtime: Runtime) -> Self {
        let name =
            runtime.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Self {
            name: self.name,
            dir: CaseDir::new(&format!("{}.{name}", self.name)),
            runtime,
            faults: Mutex::default(),
            differs: Mutex::default(),
        }
    }
    /// Whether the runtime is held to everything (ours), or is one of the known others.
    pub fn ours(&self) -> bool {
        matches!(self.runtime.kind, Kind::Coracle | Kind::Other)
    }
    /// Notes something that makes the case fail at its end.
    pub fn fault(&self, text: String) {
        self.faults.lock().unwrap().push(text);
    }
}

/// The directory of build results.
pub fn target_dir() -> PathBuf {
    let own = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    own.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"))
}

/// The payload: `PAYLOAD` if set, else built by cargo for the static target, once.
pub fn payload() -> &'static Path {
    static PAYLOAD: OnceLock<PathBuf> = OnceLock::new();
    PAYLOAD.get_or_init(|| {
        if let Some(path) = std::env::var_os("PAYLOAD") {
            return path.into();
        }
        let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--release", "--package", "coracle-payload", "--target", &target]);
        build.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
        let status = build.status().expect("cargo builds the payload, or PAYLOAD names it");
        assert!(status.success(), "the payload was not built");
        target_dir().join(target).join("release/coracle-payload")
    })
}

#[derive(Debug)]
struct Options {
    words: Vec<String>,
    skip: Vec<String>,
    jobs: usize,
    list: bool,
    exact: bool,
    expected_skips: Option<usize>,
}

impl Options {
    fn read() -> Self {
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        let expected = std::env::var("EXPECTED_SKIPS").ok().and_then(|text| text.parse().ok());
        let mut options = Self {
            words: Vec::new(),
            skip: Vec::new(),
            jobs: processors * 2,
            list: false,
            exact: false,
            expected_skips: expected,
        };
        let mut rest = std::env::args().skip(1);
        while let Some(word) = rest.next() {
            let mut number = || rest.next().and_then(|text| text.parse().ok()).expect("a number");
            match word.as_str() {
                "--list" => options.list = true,
                "--exact" => options.exact = true,
                "--jobs" | "--test-threads" => options.jobs = number(),
                "--skips" => options.expected_skips = Some(number()),
                "--skip" => options.skip.extend(rest.next()),
                // Flags of cargo's own harness that mean nothing here.
                word if word.starts_with("--") => {}
                _ => options.words.push(word),
            }
        }
        options
    }
    fn wants(&self, name: &str) -> bool {
        let fits = |word: &String| if self.exact { name == word } else { name.contains(word.as_str()) };
        (self.words.is_empty() || self.words.iter().any(fits)) && !self.skip.iter().any(fits)
    }
}

enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
    Differs(String, bool),
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs a suite: the exit code of the program.
pub fn main(groups: &[&[Case]]) -> ExitCode {
    main_with(groups, &[])
}

/// Runs a suite that starts other runtimes too.
pub fn main_with(groups: &[&[Case]], others: &[Runtime]) -> ExitCode {
    let options = Options::read();
    let cases: Vec<Case> =
        groups.iter().copied().flatten().filter(|case| options.wants(short(case.name))).copied().collect();
    if options.list {
        for case in &cases {
            println!("{}: test", short(case.name));
        }
        return ExitCode::SUCCESS;
    }
    if let Err(error) = enter_private_mounts() {
        eprintln!("a mount namespace of our own: {error}");
        return ExitCode::FAILURE;
    }
    let runtime = Runtime::locate();
    if let Some(crun) = others.iter().chain([&runtime]).find(|one| one.kind == Kind::Crun) {
        make_place_for_crun(crun);
    }
    println!("{} cases with {} ({})", cases.len(), runtime.path.display(), runtime.version());
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).expect("a flag of the own process");
    std::panic::set_hook(Box::new(|info| {
        let thread = std::thread::current();
        if thread.name() == Some("case") {
            PANIC.set(Some(info.to_string()));
        } else {
            eprintln!("{info}");
        }
    }));
    let tally = Tally::default();
    let (alone, parallel): (Vec<Case>, Vec<Case>) = cases.iter().partition(|case| case.alone);
    run_all(&parallel, &runtime, options.jobs.max(1), &tally);
    if !alone.is_empty() {
        // Strangers that a case has left on purpose end by themselves.
        let end = Instant::now() + Duration::from_secs(30);
        while !crate::host::children().is_empty() && Instant::now() < end {
            crate::host::reap();
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    run_all(&alone, &runtime, 1, &tally);
    if crate::cgroup::delegated().is_some() {
        crate::cgroup::remove(&crate::cgroup::parent());
        crate::cgroup::remove_slice();
    }
    dirs::remove_run_dir();
    tally.close(&runtime, options.expected_skips)
}

/// Runs a suite as an ordinary user: as it is, or, started by root, as a user that nobody else is.
pub fn main_as_user(groups: &[&[Case]]) -> ExitCode {
    if !rustix::process::geteuid().is_root() {
        return main(groups);
    }
    if let Err(error) = enter_private_mounts() {
        eprintln!("a mount namespace of our own: {error}");
        return ExitCode::FAILURE;
    }
    make_place_for_crun(&Runtime::locate());
    let dir = dirs::run_dir();
    let status = as_user(&dir).status();
    dirs::remove_run_dir();
    match status.map(|status| status.code()) {
        Ok(Some(0)) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// This program again, as an ordinary user, with copies of all programs in a directory that the user can reach.
fn as_user(dir: &Path) -> Command {
    use std::os::unix::fs::{PermissionsExt, chown};
    const USER: u32 = 65_432;
    let runtime = Runtime::locate();
    let copy = |from: &Path| {
        let to = dir.join(from.file_name().expect("a file"));
        std::fs::copy(from, &to).expect("own directory");
        std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o755)).expect("own file");
        to
    };
    let own = copy(&std::env::current_exe().expect("own program"));
    let (payload, runtime) = (copy(payload()), copy(&runtime.path));
    let home = dir.join("home");
    for path in [&home, &home.join("run")] {
        std::fs::create_dir(path).expect("own directory");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("own directory");
        chown(path, Some(USER), Some(USER)).expect("root gives away");
    }
    std::fs::set_permissions(home.join("run"), std::fs::Permissions::from_mode(0o700))
        .expect("own directory");
    let mut command = Command::new(&payload);
    command.args(["launch", "--user", &format!("{USER}:{USER}"), "--umask", "022", "--"]);
    command.arg(own).args(std::env::args_os().skip(1)).current_dir(&home);
    command.env("PAYLOAD", &payload).env("RUNTIME", &runtime).env("HOME", &home).env("TMPDIR", &home);
    command.env("XDG_RUNTIME_DIR", home.join("run")).env("USER", "ordinary");
    command
}

/// The name without the crate's.
fn short(name: &str) -> &str {
    name.split_once("::").map_or(name, |(_, rest)| rest)
}

/// As root: starts this program again in a mount namespace from which nothing reaches the machine's.
pub fn enter_private_mounts() -> std::io::Result<()> {
    const MARK: &str = "CORACLE_TESTS_PRIVATE";
    if !rustix::process::geteuid().is_root() || std::env::var_os(MARK).is_some() {
        return Ok(());
    }
    let mut again = Command::new(payload());
    again.args(["launch", "--private", "--"]).arg(std::env::current_exe()?).args(std::env::args_os().skip(1));
    Err(again.env(MARK, "1").env("PAYLOAD", payload()).exec())
}

/// What crun needs, and what must be kept from it. It refuses machines whose version 2 hierarchy has controllers beside
/// those of version 1; in our own mount namespace that hierarchy can be taken away. And it gives the machine's
/// `/dev/null` to the users of a user namespace when that is a standard descriptor: here it gets one of ours.
fn make_place_for_crun(runtime: &Runtime) {
    use rustix::fs::{CWD, FileType, makedev, mknodat};
    if runtime.kind != Kind::Crun || !rustix::process::geteuid().is_root() {
        return;
    }
    let unified = "/sys/fs/cgroup/unified";
    if Path::new(unified).is_dir() {
        let _ = rustix::mount::unmount(unified, rustix::mount::UnmountFlags::DETACH);
    }
    let null = dirs::run_dir().join("null");
    mknodat(CWD, &null, FileType::CharacterDevice, 0o666.into(), makedev(1, 3)).expect("a node of our own");
    rustix::fs::chmod(&null, 0o666.into()).expect("own node");
    rustix::mount::mount_bind(&null, "/dev/null").expect("own mount namespace");
}

#[derive(Debug, Default)]
struct Tally {
    passed: AtomicUsize,
    skipped: AtomicUsize,
    differ: AtomicUsize,
    failed: Mutex<Vec<&'static str>>,
}

impl Tally {
    fn note(&self, name: &'static str, outcome: Outcome, time: Duration) {
        let seconds = time.as_secs_f32();
        match outcome {
            Outcome::Passed => {
                self.passed.fetch_add(1, Ordering::Relaxed);
                println!("ok: {name} ({seconds:.2} s)");
            }
            Outcome::Skipped(reason) => {
                self.skipped.fetch_add(1, Ordering::Relaxed);
                println!("skipped: {name}: {reason}");
            }
            Outcome::Differs(reason, failed) => {
                self.differ.fetch_add(1, Ordering::Relaxed);
                println!("differs: {name}: {reason} ({})", if failed { "fails" } else { "passes here" });
            }
            Outcome::Failed(text) => {
                self.failed.lock().unwrap().push(name);
                println!("FAILED: {name} ({seconds:.2} s)\n    {}", text.replace('\n', "\n    "));
            }
        }
    }

    fn close(&self, runtime: &Runtime, expected_skips: Option<usize>) -> ExitCode {
        let skipped = self.skipped.load(Ordering::Relaxed);
        let failed = self.failed.lock().unwrap();
        println!(
            "{} passed, {} failed, {skipped} skipped, {} differ; {}",
            self.passed.load(Ordering::Relaxed),
            failed.len(),
            self.differ.load(Ordering::Relaxed),
            runtime.path.display()
        );
        for name in failed.iter() {
            println!("failed: {name}");
        }
        let skips_fit = expected_skips.is_none_or(|expected| expected == skipped);
        if !skips_fit {
            println!("expected {} skipped cases, not {skipped}", expected_skips.unwrap_or(0));
        }
        if failed.is_empty() && skips_fit { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

fn run_all(cases: &[Case], runtime: &Runtime, jobs: usize, tally: &Tally) {
    let next = AtomicUsize::new(0);
    let running: Arc<Mutex<Vec<(&'static str, Instant)>>> = Arc::default();
    watch(Arc::clone(&running));
    std::thread::scope(|scope| {
        for _ in 0..jobs.min(cases.len()) {
            let worker = std::thread::Builder::new().name("case".into());
            let work = || {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let started = Instant::now();
                    running.lock().unwrap().push((short(case.name), started));
                    let outcome = run_one(case, runtime);
                    running.lock().unwrap().retain(|(name, _)| *name != short(case.name));
                    tally.note(short(case.name), outcome, started.elapsed());
                }
            };
            worker.spawn_scoped(scope, work).expect("a thread");
        }
    });
}

/// Ends the whole run when a case hangs: a thread cannot be ended, and a suite that hangs says nothing.
fn watch(running: Arc<Mutex<Vec<(&'static str, Instant)>>>) {
    let watching = move || {
        loop {
            std::thread::sleep(Duration::from_secs(1));
            let stuck =
                running.lock().unwrap().iter().find(|(_, started)| started.elapsed() > LONGEST).copied();
            if let Some((name, _)) = stuck {
                println!("FAILED: {name} hangs; the run ends here");
                #[allow(
                    clippy::disallowed_methods,
                    clippy::exit,
                    reason = "no other way to end a thread that hangs"
                )]
                std::process::exit(1);
            }
        }
    };
    std::thread::Builder::new().name("watch".into()).spawn(watching).expect("a thread");
}

fn run_one(case: &Case, runtime: &Runtime) -> Outcome {
    let name = short(case.name);
    let t = T {
        name,
        runtime: runtime.clone(),
        dir: CaseDir::new(name),
        faults: Mutex::default(),
        differs: Mutex::default(),
    };
    let result = catch_unwind(AssertUnwindSafe(|| (case.run)(&t)));
    let faults = t.faults.lock().unwrap().join("\n");
    let differs = t.differs.lock().unwrap().take();
    match (result, differs) {
        (Err(payload), differs) => match (payload.downcast::<Skip>(), differs) {
            (Ok(skip), _) => Outcome::Skipped(skip.0),
            (Err(_), Some(reason)) => Outcome::Differs(reason, true),
            (Err(payload), None) => Outcome::Failed(format!("{}\n{faults}", panic_text(&*payload))),
        },
        (Ok(()), Some(reason)) => Outcome::Differs(reason, !faults.is_empty()),
        (Ok(()), None) if faults.is_empty() => Outcome::Passed,
        (Ok(()), None) => Outcome::Failed(faults),
    }
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = PANIC.take() {
        return text;
    }
    let text = payload.downcast_ref::<String>().cloned();
    text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
