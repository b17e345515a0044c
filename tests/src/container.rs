//! A container of a case: an id, a state directory and a cgroup of its own. It is gone when the value is dropped, also
//! after a panic, and what the runtime itself should have removed is noted as a fault of the case.

use crate::bundle::Bundle;
use crate::harness::T;
use crate::runtime::{Call, Done, Kind, Running, wait_child, wait_until};
use crate::{cgroup, dirs, host};
use rustix::process::{Pid, WaitOptions, WaitStatus, waitpid};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A container.
#[derive(Debug)]
pub struct Container<'a> {
    t: &'a T,
    /// Its bundle.
    pub bundle: &'a Bundle,
    /// Its id, which no other container of the machine has.
    pub id: String,
    /// The runtime's `--root`.
    pub root: PathBuf,
    /// Its cgroup below each hierarchy's root.
    pub cgroup: String,
    pids: Mutex<Vec<i32>>,
    out: Mutex<Option<PathBuf>>,
}

static COUNT: AtomicU64 = AtomicU64::new(0);

impl<'a> Container<'a> {
    /// Writes the bundle's configuration, with a cgroup of the run if it names none, and picks an id. The runtime is
    /// not called yet.
    pub fn new(t: &'a T, bundle: &'a mut Bundle) -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = format!("ct-{}-{number}", std::process::id());
        let (wish, cgroup) = cgroup::place(&id);
        if cgroup::delegated().is_some() && bundle.spec.get("linux").is_some_and(Value::is_object) {
            bundle.set("/linux/cgroupsPath", json!(wish));
        }
        bundle.write();
        Self::as_written(t, bundle, id, cgroup)
    }

    /// A container for a bundle whose `config.json` is there already and stays as it is.
    pub fn as_written(t: &'a T, bundle: &'a Bundle, id: String, cgroup: String) -> Self {
        let root = t.dir().join("state");
        Self { t, bundle, id, root, cgroup, pids: Mutex::default(), out: Mutex::default() }
    }

    /// A call of a command for this container.
    pub fn call(&self, command: &str) -> Call {
        self.bare(command).id(&self.id)
    }
    /// A call without the id.
    pub fn bare(&self, command: &str) -> Call {
        Call::new(&self.t.runtime, self.t.dir(), &self.root, command)
    }
    /// `run` in the foreground, with the bundle.
    pub fn run_call(&self) -> Call {
        self.call("run").arg("--bundle").arg(&self.bundle.dir)
    }
    /// `create`, with the bundle.
    pub fn create_call(&self) -> Call {
        self.call("create").arg("--bundle").arg(&self.bundle.dir)
    }
    /// Runs it in the foreground to its end.
    pub fn run(&self) -> Done {
        self.run_call().done()
    }
    /// Creates it; the container's output is in [`Container::printed`].
    pub fn create(&self) -> &Self {
        self.create_with(self.create_call())
    }
    /// Creates it with a prepared call.
    pub fn create_with(&self, call: Call) -> &Self {
        *self.out.lock().unwrap() = Some(call.out_path());
        call.ok();
        let pid = self.pid();
        assert!(pid > 0, "a created container has a process");
        self
    }
    /// Starts it.
    pub fn start(&self) -> &Self {
        self.call("start").ok();
        self
    }
    /// Creates and starts it.
    pub fn up(&self) -> &Self {
        self.create().start()
    }
    /// Creates and starts it, and waits until the payload has said `ready`.
    pub fn ready(&self) -> &Self {
        self.up();
        self.until("ready");
        self
    }
    /// The state as the runtime prints it.
    pub fn state(&self) -> Value {
        self.call("state").ok().json()
    }
    /// The status in the state.
    pub fn status(&self) -> String {
        self.state()["status"].as_str().expect("a status").to_owned()
    }
    /// The pid in the state; remembered, so that the process is reaped at the end.
    pub fn pid(&self) -> i32 {
        let pid = self.state()["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a pid");
        self.adopt(pid);
        pid
    }
    /// Remembers a process that belongs to the container and comes to us when its parent ends.
    pub fn adopt(&self, pid: i32) {
        let mut pids = self.pids.lock().unwrap();
        if pid > 0 && !pids.contains(&pid) {
            pids.push(pid);
        }
    }
    /// Sends a signal through the runtime.
    pub fn kill(&self, signal: &str) -> &Self {
        self.call("kill").then([signal]).ok();
        self
    }
    /// `exec` in the foreground with these words.
    pub fn exec(&self, words: &[&str]) -> Done {
        self.call("exec").then(words).done()
    }
    /// Starts `exec`, without waiting for its end.
    pub fn exec_running(&self, words: &[&str]) -> Running {
        self.call("exec").then(words).start()
    }
    /// Runs the payload's `do` inside and returns its answers.
    pub fn tries(&self, actions: &[Value]) -> Vec<Value> {
        let words: Vec<String> = actions.iter().map(Value::to_string).collect();
        let done = self.call("exec").then(["/payload", "do"]).then(&words).done().expect(0);
        done.json().as_array().expect("a list of answers").clone()
    }
    /// Deletes it (it must have stopped).
    pub fn delete(&self) -> &Self {
        self.call("delete").ok();
        self
    }
    /// Waits until its process has ended and reaps it: the exit code, or 128 and the signal.
    ///
    /// The other processes that came to us are reaped on the way: the first one of a pid namespace does not end before
    /// all of them are gone.
    pub fn wait(&self) -> i32 {
        let pids = self.pids.lock().unwrap().clone();
        let (first, others) = pids.split_first().expect("create or state was called");
        let first = Pid::from_raw(*first).expect("a pid");
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            for pid in others.iter().filter_map(|pid| Pid::from_raw(*pid)) {
                let _ = waitpid(Some(pid), WaitOptions::NOHANG);
            }
            match waitpid(Some(first), WaitOptions::NOHANG) {
                Ok(Some((_, status))) => return code_of(status),
                Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(2)),
                Ok(None) => panic!("the container's process did not end"),
                Err(error) => panic!("the container's process is no child of ours: {error}"),
            }
        }
    }
    /// Kills it with SIGKILL, reaps it, deletes it.
    pub fn end(&self) {
        self.kill("KILL");
        self.wait();
        self.delete();
    }
    /// What the container has printed since it was created.
    pub fn printed(&self) -> String {
        let out = self.out.lock().unwrap();
        let bytes = out.as_ref().and_then(|path| fs::read(path).ok()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
    /// Waits until it has printed this text.
    pub fn until(&self, text: &str) {
        wait_until(&format!("`{text}` from the container, which printed `{}`", self.printed()), || {
            self.printed().contains(text)
        });
    }
    /// A file of its cgroup.
    pub fn cgroup_file(&self, controller: &str, name: &str) -> String {
        let dir = cgroup::directory(controller, &self.cgroup).expect("the case asked for the controller");
        let path = dir.join(name);
        fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
            .trim()
            .to_owned()
    }
    /// Expects that nothing of it is left: no state, no cgroup, no mount below the case's directory.
    pub fn gone(&self) {
        let left = self.left();
        assert!(left.is_empty(), "left behind: {left:?}");
    }

    fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        if let Ok(entries) = fs::read_dir(&self.root) {
            // A runtime may keep files of its own there (caches), but nothing that carries the id.
            let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
            left.extend(
                names.filter(|name| cgroup::names(name, &self.id)).map(|name| format!("state {name}")),
            );
        }
        left.extend(cgroup::named(&self.id).into_iter().map(|dir| format!("cgroup {dir}")));
        left.extend(dirs::mounts_below(&self.bundle.dir).into_iter().map(|mount| format!("mount {mount}")));
        left
    }

    /// Kills and reaps what came to us and is still there.
    fn end_processes(&self) {
        let own = std::process::id().to_string();
        let pids = self.pids.lock().unwrap().clone();
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            // Ours only: a pid that is no child any more may be anybody's.
            let left = pids.iter().filter(|pid| host::status_field(**pid, "PPid").as_ref() == Some(&own));
            let left: Vec<Pid> = left.filter_map(|pid| Pid::from_raw(*pid)).collect();
            if left.is_empty() || Instant::now() > end {
                return;
            }
            for pid in left {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                let _ = waitpid(Some(pid), WaitOptions::NOHANG);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Runs a bundle whose payload does `report`: the document.
pub fn report(t: &T, bundle: &mut Bundle) -> Value {
    let container = Container::new(t, bundle);
    let done = container.run().expect(0);
    container.gone();
    done.json()
}

/// Runs a bundle whose payload tries actions: the answers.
pub fn answers(t: &T, bundle: &mut Bundle, actions: &[Value]) -> Vec<Value> {
    let words: Vec<String> = actions.iter().map(Value::to_string).collect();
    let mut all = vec!["do"];
    all.extend(words.iter().map(String::as_str));
    bundle.command(&all);
    let container = Container::new(t, bundle);
    let done = container.run().expect(0);
    container.gone();
    done.json().as_array().expect("a list of answers").clone()
}

/// Whether an error says that a file is not there: in runc's words, or by its number.
pub fn is_missing(error: &Value) -> bool {
    let text = error["msg"].as_str().unwrap_or("").to_lowercase();
    text.contains("no such file or directory") || error["errno"] == "ENOENT"
}

/// Whether an answer is this error, by name.
pub fn is_error(answer: &Value, name: &str) -> bool {
    answer["error"] == name
}

/// The last mount at a target in a report or in the answer to `mounts`.
pub fn mount_at<'a>(mounts: &'a Value, target: &str) -> &'a Value {
    let list = mounts.as_array().expect("a list of mounts");
    let found = list.iter().rev().find(|mount| mount["target"] == target);
    found.unwrap_or_else(|| panic!("nothing is mounted at {target}: {list:#?}"))
}

/// Whether a mount has all these options (of the mount or of its file system).
pub fn has_options(mount: &Value, options: &[&str]) -> bool {
    options.iter().all(|option| {
        ["options", "superOptions"]
            .iter()
            .any(|field| mount[field].as_array().is_some_and(|all| all.contains(&json!(option))))
    })
}

/// The exit code as a shell says it.
pub fn code_of(status: WaitStatus) -> i32 {
    status.exit_status().unwrap_or_else(|| 128 + status.terminating_signal().unwrap_or(0))
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if self.root.join(&self.id).exists() || !self.pids.lock().unwrap().is_empty() {
            let mut delete = self.call("delete").arg("--force").start().child;
            let _ = wait_child(&mut delete, Duration::from_secs(20));
        }
        self.end_processes();
        let left = self.left();
        // crun leaves the directories of hierarchies that it does not know by name.
        let excused = self.t.runtime.kind == Kind::Crun && left.iter().all(|what| what.starts_with("cgroup"));
        if !failed && !left.is_empty() && !excused {
            self.t.fault(format!("left behind after delete: {left:?}"));
        }
        if cgroup::delegated().is_some() {
            cgroup::remove(&self.cgroup);
        }
    }
}
