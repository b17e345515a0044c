//! One recorded scenario: call after call, and after each what an engine would look at.
//!
//! The recordings hold no exit codes: a call succeeded, unless it is marked `fails`. What an engine did between two calls (wait for the end
//! of a program) is done here, too.

use crate::adapt::{self, Place};
use crate::answers;
use crate::ordinary::{self, Ordinary};
use coracle_tests::terminal::ConsoleSocket;
use coracle_tests::*;
use rustix::process::{Pid, WaitOptions, waitpid};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A recording.
pub struct Scenario {
    /// One call a line: `argv`, `env`, the names of its documents, `sandbox` (whose namespaces it joins), `fails`, `ps`
    /// (the recorded answer).
    pub calls: &'static str,
    /// One document a line: `file`, `document`.
    pub documents: &'static str,
}

const FILTERS: [(&str, &str); 5] = [
    ("cri-1", include_str!("../plans/recorded/seccomp/cri-1.json")),
    ("docker-1", include_str!("../plans/recorded/seccomp/docker-1.json")),
    ("docker-2", include_str!("../plans/recorded/seccomp/docker-2.json")),
    ("podman-1", include_str!("../plans/recorded/seccomp/podman-1.json")),
    ("podman-2", include_str!("../plans/recorded/seccomp/podman-2.json")),
];

const COMMANDS: [&str; 14] = [
    "create",
    "start",
    "exec",
    "kill",
    "delete",
    "ps",
    "pause",
    "resume",
    "update",
    "features",
    "--version",
    "checkpoint",
    "restore",
    "state",
];

/// Runs all of it.
pub fn replay(t: &T, scenario: &Scenario) {
    t.needs(&[Need::Root, Need::Busybox]);
    let calls: Vec<Value> = scenario.calls.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    if calls.iter().any(|call| words(call).iter().any(|word| word == "restore")) {
        t.skip("needs checkpoints, which are not built");
    }
    if !calls.iter().any(|call| call["env"].to_string().contains("/run/user/")) {
        return replay_as(t, None, &calls, scenario.documents);
    }
    let user = Ordinary::new(t);
    let there = t.with(user.runtime.clone());
    chown(there.dir(), Some(ordinary::ID), Some(ordinary::ID)).unwrap();
    replay_as(&there, Some(&user), &calls, scenario.documents);
}

fn replay_as(t: &T, user: Option<&Ordinary>, calls: &[Value], texts: &str) {
    let mut replay = Replay {
        t,
        user,
        // That of an ordinary user would be asked over the bus of its session.
        systemd: user.is_none() && Need::Systemd.missing().is_none(),
        documents: documents(texts),
        containers: BTreeMap::new(),
        latest: Vec::new(),
        pids: Vec::new(),
        number: 0,
    };
    for call in calls {
        replay.call(call, &words(call));
    }
    for one in replay.containers.values().filter(|one| one.deleted) {
        one.container.gone();
    }
}

fn words(call: &Value) -> Vec<String> {
    serde_json::from_value(call["argv"].clone()).unwrap()
}

fn documents(text: &str) -> BTreeMap<String, Value> {
    let line = |line: &str| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        let mut document = line["document"].take();
        if let Some(filter) = document.pointer_mut("/linux/seccomp").filter(|filter| filter.is_string()) {
            let (_, text) = FILTERS.iter().find(|(name, _)| filter == name).expect("a filter of that name");
            *filter = serde_json::from_str(text).unwrap();
        }
        (line["file"].as_str().unwrap().to_owned(), document)
    };
    text.lines().map(line).collect()
}

/// A container of the scenario.
struct One<'t> {
    container: Container<'t>,
    pid: i32,
    annotations: Value,
    /// The master of its terminal, open as long as an engine has it.
    _terminal: Option<OwnedFd>,
    deleted: bool,
}

struct Replay<'t> {
    t: &'t T,
    /// Who calls, if it is not root.
    user: Option<&'t Ordinary>,
    systemd: bool,
    documents: BTreeMap<String, Value>,
    /// By the recorded id.
    containers: BTreeMap<String, One<'t>>,
    /// Recorded ids in the order of their creation.
    latest: Vec<String>,
    /// Every process that came to us.
    pids: Vec<i32>,
    number: usize,
}

/// A recorded call as it is made here, and what was laid out for it.
#[derive(Default)]
struct Here {
    argv: Vec<String>,
    pid_file: Option<PathBuf>,
    socket: Option<ConsoleSocket>,
    process: Option<PathBuf>,
    input: Option<File>,
}

/// What a call left, besides its exit code.
struct Left {
    code: i32,
    out: String,
    err: String,
    log: Option<String>,
    pid_file: Option<PathBuf>,
    terminal: Option<OwnedFd>,
    line: String,
}

impl Left {
    fn ok(&self) {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}\n{}", self.line, self.out);
        assert_eq!(self.log.as_deref().unwrap_or(""), "", "the log of {}", self.line);
    }

    /// One error: on standard error, and as one object in the log when there is one.
    fn refused(&self) {
        assert!(self.code != 0 && !self.err.trim().is_empty(), "{} should fail: {}", self.line, self.code);
        if let Some(log) = &self.log {
            let errors: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_eq!(errors.len(), 1, "{log}");
            assert!(
                errors[0]["level"] == "error"
                    && errors[0]["msg"].is_string()
                    && errors[0]["time"].is_string()
            );
        }
        assert!(self.pid_file.as_ref().is_none_or(|path| !path.exists()), "a pid file of {}", self.line);
    }

    /// What the pid file says; go-runc takes all of it for the number.
    fn pid(&self) -> i32 {
        let path = self.pid_file.as_ref().expect("every engine asks for it");
        fs::read_to_string(path).unwrap().parse().expect("a number and nothing else")
    }
}

/// The engine was told by a person, when the program had long set up its handlers; a first process without one does not get the signal.
/// A program that never handles it is given three seconds.
fn await_handler(pid: i32, signal: u32) {
    let end = Instant::now() + Duration::from_secs(3);
    let handles = || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        // Gone: nothing to wait for.
        caught.is_none_or(|set| u64::from_str_radix(set.trim(), 16).unwrap() >> (signal - 1) & 1 == 1)
    };
    while signal != 9 && !handles() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl<'t> Replay<'t> {
    fn call(&mut self, call: &Value, words: &[String]) {
        let command =
            words.iter().find(|word| COMMANDS.contains(&word.as_str())).expect("a known command").as_str();
        match command {
            "create" => self.create(call, words),
            "features" => answers::features(&serde_json::from_str(&self.run(call, words, None).out).unwrap()),
            "--version" => answers::version(&self.run(call, words, None).out),
            // Refused by this version; the scenario goes on without the image.
            "checkpoint" => {}
            _ => self.on_container(call, words, command),
        }
    }

    fn create(&mut self, call: &Value, words: &[String]) {
        let recorded = words.last().unwrap().clone();
        let mut spec = self.documents[call["config"].as_str().unwrap()].clone();
        let annotations = spec["annotations"].clone();
        let sandbox = self.sandbox(call["sandbox"].as_str());
        self.number += 1;
        let short: String = recorded.chars().take(12).collect();
        let id =
            format!("{short}-{}-{}", self.t.name.replace("::", "-").replace('_', "-"), std::process::id());
        let id = format!("{id}-{}", self.number);
        let dir = self.t.dir().join(format!("container-{}", self.number));
        fs::create_dir(&dir).unwrap();
        let systemd = self.systemd && words.iter().any(|word| word == "--systemd-cgroup");
        let place = Place { systemd, user: self.user, id: &id, sandbox };
        adapt::config(self.t, &dir, &mut spec, &place);
        // Lives as long as the container that looks at it.
        let bundle: &'t Bundle = Box::leak(Box::new(Bundle { dir, spec }));
        bundle.write();
        let cgroup = place.cgroup();
        let container = Container::as_written(self.t, bundle, id, cgroup);
        self.latest.retain(|earlier| *earlier != recorded);
        self.latest.push(recorded.clone());
        self.containers.remove(&recorded);
        let one = One { container, pid: 0, annotations, _terminal: None, deleted: false };
        self.containers.insert(recorded.clone(), one);
        let left = self.run(call, words, Some(&recorded));
        if call["fails"] == true {
            left.refused();
            self.containers.get_mut(&recorded).unwrap().deleted = true;
            return;
        }
        left.ok();
        let one = self.containers.get_mut(&recorded).unwrap();
        one.pid = left.pid();
        self.pids.push(one.pid);
        one._terminal = left.terminal;
        one.container.adopt(one.pid);
        answers::state(&one.container.state(), &one.container, one.pid, &one.annotations, &["created"]);
    }

    /// The process whose namespaces a container joins: the one of its sandbox, else of the scenario's first.
    fn sandbox(&self, named: Option<&str>) -> Option<i32> {
        let alive =
            |id: &str| self.containers.get(id).filter(|one| one.pid > 0 && !one.deleted).map(|one| one.pid);
        match named {
            Some(id) => alive(id),
            None => self.latest.iter().find_map(|id| alive(id)),
        }
    }

    fn on_container(&mut self, call: &Value, words: &[String], command: &str) {
        let recorded = words.iter().rev().find(|word| self.containers.contains_key(*word)).cloned();
        let recorded = recorded.unwrap_or_else(|| panic!("no container of {words:?}"));
        let forced = words.iter().any(|word| word == "--force");
        let one = &self.containers[&recorded];
        if command == "delete" && !forced {
            runtime::wait_until(&format!("the end of {recorded}"), || {
                self.reap();
                one.container.status() == "stopped"
            });
        }
        let running = !one.deleted && one.container.status() != "stopped";
        if let ("kill", Some(signal)) = (command, words.last().and_then(|word| word.parse().ok())) {
            await_handler(one.pid, signal);
        }
        let left = self.run(call, words, Some(&recorded));
        let one = self.containers.get_mut(&recorded).unwrap();
        match command {
            // The program may have ended by itself, now or before.
            "kill" if left.code != 0 => {
                left.refused();
                assert!(left.err.contains("container not running"), "{}", left.err);
            }
            "kill" => left.ok(),
            _ if call["fails"] == true => left.refused(),
            // A health check meets the end of the program: it may come too late.
            "exec" if left.code != 0 && one.container.status() == "stopped" => left.refused(),
            "exec" => {
                left.ok();
                one.container.adopt(left.pid());
                self.pids.push(left.pid());
                one._terminal = left.terminal.or(one._terminal.take());
            }
            "ps" => {
                left.ok();
                answers::ps(&serde_json::from_str(&left.out).unwrap(), call.get("ps"), one.pid);
            }
            "delete" => {
                left.ok();
                one.deleted = true;
                assert!(!one.container.root.join(&one.container.id).exists(), "{}", left.line);
                return;
            }
            _ => left.ok(),
        }
        let statuses: &[&str] = match command {
            "pause" => &["paused"],
            _ if !running => &["stopped"],
            _ => &["running", "stopped", "paused"],
        };
        answers::state(&one.container.state(), &one.container, one.pid, &one.annotations, statuses);
    }

    /// What every engine does: a first process does not end before all others of its pid namespace are reaped.
    fn reap(&self) {
        for pid in self.pids.iter().filter_map(|pid| Pid::from_raw(*pid)) {
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
        }
    }

    /// Makes a call and waits for its end.
    fn run(&mut self, call: &Value, words: &[String], recorded: Option<&str>) -> Left {
        self.number += 1;
        let file = |name: &str| self.t.dir().join(format!("{}.{name}", self.number));
        let here = self.here(call, words, recorded, &file);
        // What a caller passes on, for whoever asks to keep it.
        let keeps = here.argv.iter().any(|word| word == "--preserve-fds");
        let mut command = Command::new(if keeps { harness::payload() } else { &self.t.runtime.path });
        if keeps {
            command.args(["launch", "--fd", "3=/dev/null", "--"]).arg(&self.t.runtime.path);
        }
        let one = recorded.map(|id| &self.containers[id].container);
        command.args(&here.argv).env_clear().current_dir(one.map_or(self.t.dir(), |one| &one.bundle.dir));
        for entry in call["env"].as_array().into_iter().flatten() {
            let (name, value) = entry.as_str().unwrap().split_once('=').unwrap();
            command.env(name, value);
        }
        let open = |name: &str| Stdio::from(File::create(file(name)).unwrap());
        command
            .stdin(here.input.map_or_else(Stdio::null, Stdio::from))
            .stdout(open("out"))
            .stderr(open("err"));
        let status = self.ended(bundle::spawn(&mut command).unwrap(), &here.argv);
        if let Some(path) = here.process {
            // go-runc removes it at once; whoever reads it later finds nothing.
            fs::remove_file(path).unwrap();
        }
        let read = |name: &str| fs::read_to_string(file(name)).unwrap_or_default();
        Left {
            code: status.code().unwrap_or(1000),
            // The output of `create` and `exec` is the programs'.
            out: if here.pid_file.is_none() { read("out") } else { String::new() },
            err: read("err"),
            log: here.argv.iter().any(|word| word == "--log").then(|| read("log")),
            pid_file: here.pid_file,
            terminal: here.socket.filter(|_| status.success()).map(|socket| socket.master().0),
            line: here.argv.join(" "),
        }
    }

    fn ended(&self, mut child: Child, argv: &[String]) -> ExitStatus {
        let end = Instant::now() + runtime::DEADLINE;
        loop {
            self.reap();
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "{argv:?} does not end");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The recorded words with the places of this machine.
    fn here(
        &self,
        call: &Value,
        words: &[String],
        recorded: Option<&str>,
        file: &dyn Fn(&str) -> PathBuf,
    ) -> Here {
        let one = recorded.map(|id| &self.containers[id].container);
        let text = |path: &Path| path.display().to_string();
        let root = self.t.dir().join("state");
        let mut here = Here::default();
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            let argv = &mut here.argv;
            let mut replaced = |path: PathBuf| {
                rest.next();
                argv.extend([word.clone(), text(&path)]);
                path
            };
            match word.as_str() {
                "--root" => drop(replaced(root.clone())),
                "--log" => drop(replaced(file("log"))),
                "--bundle" => drop(replaced(one.unwrap().bundle.dir.clone())),
                "--pid-file" => here.pid_file = Some(replaced(file("pid"))),
                "--console-socket" => here.socket = Some(ConsoleSocket::new(replaced(file("socket")))),
                "--process" => {
                    let mut document = self.documents[call["process"].as_str().unwrap()].clone();
                    adapt::process(&mut document, self.user.is_some());
                    let path = replaced(file("process"));
                    fs::write(&path, document.to_string()).unwrap();
                    here.process = Some(path);
                }
                "--systemd-cgroup" if !self.systemd => {}
                resources if resources.starts_with("--resources=") => {
                    let mut document = call["resources"].clone();
                    adapt::resources(&mut document);
                    let path = file("resources");
                    fs::write(&path, document.to_string()).unwrap();
                    here.input = resources.ends_with("=-").then(|| File::open(&path).unwrap());
                    let place = if here.input.is_some() { "-".to_owned() } else { text(&path) };
                    here.argv.push(format!("--resources={place}"));
                }
                _ if Some(word.as_str()) == recorded => here.argv.push(one.unwrap().id.clone()),
                _ => here.argv.push(word.clone()),
            }
        }
        if !words.iter().any(|word| word == "--root") {
            here.argv.splice(0..0, ["--root".to_owned(), text(&root)]);
        }
        here
    }
}
