//! The program under test, and one call of it with everything that an engine looks at: exit code, both outputs, the
//! log file. Outputs go to files, never to pipes: a container keeps them open after the runtime has ended.

use crate::cgroup;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long a call may take before it is killed and the case fails.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Which program it is: expectations differ where the contract leaves room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Ours: everything is expected.
    Coracle,
    /// runc.
    Runc,
    /// crun.
    Crun,
    /// Anything else is held to what ours is held to.
    Other,
}

/// The program under test.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// The program.
    pub path: PathBuf,
    /// Which one it is.
    pub kind: Kind,
}

impl Runtime {
    /// A program by its path; its name tells the kind.
    pub fn at(path: &Path) -> Self {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let kind = if name.starts_with("runc") {
            Kind::Runc
        } else if name.starts_with("crun") {
            Kind::Crun
        } else if name.starts_with("coracle") {
            Kind::Coracle
        } else {
            Kind::Other
        };
        Self { path: path.to_owned(), kind }
    }

    /// `RUNTIME` if set, else the workspace's release build for musl, else its debug build.
    ///
    /// # Panics
    /// When there is none: a suite without a program under test proves nothing.
    pub fn locate() -> Self {
        if let Some(path) = std::env::var_os("RUNTIME") {
            let path = PathBuf::from(path);
            assert!(path.is_file(), "RUNTIME={} is no file", path.display());
            return Self::at(&path);
        }
        let target = crate::harness::target_dir();
        let arch = std::env::consts::ARCH;
        let places = [
            format!("{arch}-unknown-linux-musl/release/coracle"),
            format!("{arch}-unknown-linux-musl/debug/coracle"),
            "release/coracle".to_owned(),
            "debug/coracle".to_owned(),
        ];
        let found = places.iter().map(|place| target.join(place)).find(|path| path.is_file());
        let path = found.expect("RUNTIME is not set and there is no coracle in the target directory");
        Self::at(&path)
    }

    /// What it calls itself.
    pub fn version(&self) -> String {
        let output = Command::new(&self.path).arg("--version").output().expect("the runtime can be started");
        String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or("no version").to_owned()
    }
}

/// The result of a call.
#[derive(Debug)]
pub struct Done {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// The log file's contents.
    pub log: String,
    /// The command line, for messages.
    pub line: String,
    /// How long it took.
    pub time: Duration,
}

impl Done {
    /// The exit code; 128 and the signal if a signal ended it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 1000 + self.status.signal().unwrap_or(0))
    }

    /// Expects this exit code.
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code(), code, "exit code of {self}");
        self
    }

    /// Expects success with nothing on standard error and nothing in the log: engines parse both outputs together.
    pub fn ok(self) -> Self {
        let done = self.expect(0);
        assert_eq!(done.err, "", "standard error of {done}");
        assert_eq!(done.log, "", "log of {done}");
        done
    }

    /// Expects an error of the runtime itself: not zero, nothing on standard output, exactly one JSON object in the
    /// log, something on standard error. Returns the object.
    pub fn error(&self) -> Value {
        assert_ne!(self.code(), 0, "exit code of {self}");
        assert!(self.code() < 1000, "{self} died of a signal");
        assert_eq!(self.out, "", "standard output of {self}");
        assert!(!self.err.trim().is_empty(), "standard error of {self}");
        let lines: Vec<&str> = self.log.lines().collect();
        let errors: Vec<Value> = lines
            .iter()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("log of {self}: {error}")))
            .filter(|object: &Value| object["level"] == "error")
            .collect();
        assert_eq!(errors.len(), 1, "error objects in the log of {self}");
        let object = errors[0].clone();
        assert!(object["msg"].as_str().is_some_and(|text| !text.is_empty()), "msg in the log of {self}");
        assert!(is_time(object["time"].as_str().unwrap_or("")), "time in the log of {self}");
        object
    }

    /// The message of [`Done::error`].
    pub fn message(&self) -> String {
        self.error()["msg"].as_str().unwrap_or("").to_owned()
    }

    /// Standard output as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(self.out.trim())
            .unwrap_or_else(|error| panic!("{error} in the output of {self}"))
    }
}

/// RFC 3339, as far as its shape goes.
pub fn is_time(text: &str) -> bool {
    let (Some(date), Some(rest)) = (text.get(..10), text.get(11..)) else { return false };
    let digits = |text: &str, form: &str| {
        text.len() >= form.len()
            && text
                .chars()
                .zip(form.chars())
                .all(|(have, want)| (want == '0' && have.is_ascii_digit()) || have == want)
    };
    let zone = rest.ends_with('Z')
        || rest.get(rest.len().saturating_sub(6)..).is_some_and(|zone| {
            (zone.starts_with('+') || zone.starts_with('-')) && digits(zone.get(1..).unwrap_or(""), "00:00")
        });
    digits(date, "0000-00-00") && text.get(10..11) == Some("T") && digits(rest, "00:00:00") && zone
}

impl std::fmt::Display for Done {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let part = |text: &str| text.chars().take(3000).collect::<String>();
        write!(
            to,
            "`{}`\n  exit: {:?}\n  out: {}\n  err: {}\n  log: {}",
            self.line,
            self.status.code(),
            part(&self.out),
            part(&self.err),
            part(&self.log)
        )
    }
}

/// A call under construction: global flags, command, its flags, the id, what follows the id.
#[derive(Debug)]
pub struct Call {
    program: PathBuf,
    dir: PathBuf,
    before: Vec<OsString>,
    globals: Vec<OsString>,
    words: Vec<OsString>,
    id: Option<OsString>,
    tail: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    input: Option<Stdio>,
    output: Option<Stdio>,
    errors: Option<Stdio>,
    log: Option<PathBuf>,
    deadline: Duration,
    besieged: bool,
    current_dir: Option<PathBuf>,
    out_path: PathBuf,
    err_path: PathBuf,
}

static COUNT: AtomicU64 = AtomicU64::new(0);

impl Call {
    /// A call of a command. `dir` is where the outputs go, `root` the runtime's state directory.
    pub fn new(runtime: &Runtime, dir: &Path, root: &Path, command: &str) -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let file = |name: &str| dir.join(format!("call-{number}.{name}"));
        let words = if command.is_empty() { vec![] } else { vec![command.into()] };
        let mut globals = vec!["--root".into(), root.into()];
        let mut env =
            vec![("PATH".into(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into())];
        if cgroup::driver() == cgroup::Driver::Systemd {
            globals.push("--systemd-cgroup".into());
            // Where a user's own systemd is found.
            let names = ["XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"];
            env.extend(names.iter().filter_map(|name| Some(((*name).into(), std::env::var_os(name)?))));
        }
        Self {
            program: runtime.path.clone(),
            dir: dir.to_owned(),
            before: Vec::new(),
            globals,
            words,
            id: None,
            tail: Vec::new(),
            env,
            input: None,
            output: None,
            errors: None,
            log: Some(file("log")),
            deadline: DEADLINE,
            besieged: false,
            current_dir: None,
            out_path: file("out"),
            err_path: file("err"),
        }
    }

    /// Adds a flag of the command, or an argument before the id.
    pub fn arg(mut self, word: impl AsRef<OsStr>) -> Self {
        self.words.push(word.as_ref().to_owned());
        self
    }
    /// Adds several.
    pub fn args<W: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.words.extend(words.into_iter().map(|word| word.as_ref().to_owned()));
        self
    }
    /// Adds a global flag, before the command.
    pub fn global(mut self, words: &[&str]) -> Self {
        self.globals.extend(words.iter().map(OsString::from));
        self
    }
    /// The container's id.
    pub fn id(mut self, id: &str) -> Self {
        self.id = Some(id.into());
        self
    }
    /// Words after the id.
    pub fn then<W: AsRef<OsStr>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.tail.extend(words.into_iter().map(|word| word.as_ref().to_owned()));
        self
    }
    /// A variable of the environment.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.into(), value.as_ref().to_owned()));
        self
    }
    /// Runs it by `payload launch` with these options: a caller with bad habits.
    pub fn launched<W: AsRef<OsStr>>(mut self, options: impl IntoIterator<Item = W>) -> Self {
        self.before.extend(options.into_iter().map(|word| word.as_ref().to_owned()));
        self
    }
    /// Standard input.
    pub fn input(mut self, input: impl Into<Stdio>) -> Self {
        self.input = Some(input.into());
        self
    }
    /// Standard output, instead of a file of the case.
    pub fn output(mut self, output: impl Into<Stdio>) -> Self {
        self.output = Some(output.into());
        self
    }
    /// Standard error, instead of a file of the case.
    pub fn errors(mut self, errors: impl Into<Stdio>) -> Self {
        self.errors = Some(errors.into());
        self
    }
    /// No `--log`: messages come on standard error alone.
    pub fn no_log(mut self) -> Self {
        self.log = None;
        self
    }
    /// Another log file.
    pub fn log(mut self, path: &Path) -> Self {
        self.log = Some(path.to_owned());
        self
    }
    /// Another time limit.
    pub fn within(mut self, time: Duration) -> Self {
        self.deadline = time;
        self
    }
    /// Somebody in a container tries to write the program.
    pub fn besieged(mut self) -> Self {
        self.besieged = true;
        self
    }
    /// Another current directory.
    pub fn current_dir(mut self, dir: &Path) -> Self {
        self.current_dir = Some(dir.to_owned());
        self
    }
    /// Where standard output goes when nothing else was said.
    pub fn out_path(&self) -> PathBuf {
        self.out_path.clone()
    }

    fn command_line(&self) -> Vec<OsString> {
        let mut line = Vec::new();
        if !self.before.is_empty() {
            line.extend([crate::harness::payload().into(), "launch".into()]);
            line.extend(self.before.iter().cloned());
            line.push("--".into());
        }
        line.push(self.program.clone().into());
        line.extend(self.globals.iter().cloned());
        if let Some(log) = &self.log {
            line.extend(["--log".into(), log.into(), "--log-format".into(), "json".into()]);
        }
        line.extend(self.words.iter().cloned());
        line.extend(self.id.iter().cloned());
        line.extend(self.tail.iter().cloned());
        line
    }

    /// Starts it.
    pub fn start(mut self) -> Running {
        let line = self.command_line();
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]).env_clear().envs(self.env.iter().cloned());
        command.current_dir(self.current_dir.as_ref().unwrap_or(&self.dir));
        let file = |path: &Path| Stdio::from(File::create(path).expect("the case's directory"));
        command.stdin(self.input.take().unwrap_or_else(Stdio::null));
        command.stdout(self.output.take().unwrap_or_else(|| file(&self.out_path)));
        command.stderr(self.errors.take().unwrap_or_else(|| file(&self.err_path)));
        let started = Instant::now();
        let spawn = if self.besieged { crate::bundle::spawn_besieged } else { crate::bundle::spawn };
        let child = spawn(&mut command).unwrap_or_else(|error| panic!("{}: {error}", self.program.display()));
        let words: Vec<String> = line.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        Running { child, call: self, line: words.join(" "), started }
    }

    /// Runs it to its end.
    pub fn done(self) -> Done {
        self.start().done()
    }
    /// Runs it and expects success and silence on standard error.
    pub fn ok(self) -> Done {
        self.done().ok()
    }
    /// Runs it and expects an error of the runtime: the error object of the log.
    pub fn error(self) -> Value {
        self.done().error()
    }
}

/// A call that runs.
#[derive(Debug)]
pub struct Running {
    /// The process.
    pub child: Child,
    call: Call,
    line: String,
    started: Instant,
}

impl Running {
    /// Its pid.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
    /// What it has printed so far.
    pub fn printed(&self) -> String {
        read(&self.call.out_path)
    }
    /// Waits until its output has this text.
    pub fn until(&self, text: &str) {
        wait_until(&format!("`{text}` from `{}`, which printed `{}`", self.line, self.printed()), || {
            self.printed().contains(text)
        });
    }
    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.pid(), signal).expect("the runtime runs");
    }
    /// Waits for its end; kills it when its time is up, and the case fails.
    pub fn done(mut self) -> Done {
        let status = wait_child(&mut self.child, self.call.deadline);
        let time = self.started.elapsed();
        let out = read(&self.call.out_path);
        let err = read(&self.call.err_path);
        let log = self.call.log.as_ref().map(|log| read(log)).unwrap_or_default();
        let Some(status) = status else {
            panic!(
                "`{}` did not end within {:?}\n  out: {out}\n  err: {err}\n  log: {log}",
                self.line, self.call.deadline
            )
        };
        Done { status, out, err, log, line: self.line, time }
    }
}

fn read(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// Waits for a child; kills it and returns `None` when the time is up.
pub fn wait_child(child: &mut Child, time: Duration) -> Option<ExitStatus> {
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).expect("the child is not reaped yet");
    if wait_readable(&pidfd, time) {
        return Some(child.wait().expect("own child"));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

/// Whether a descriptor becomes readable (or ends) within the time.
pub fn wait_readable(fd: &impl std::os::fd::AsFd, time: Duration) -> bool {
    let end = Instant::now() + time;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let wait = rustix::event::Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        match poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&wait)) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("poll: {error}"),
        }
    }
}

/// Waits until a condition holds; ends the case when it does not within 20 seconds.
pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
