//! The container that a runtime dies over, and what may be left of it: nothing.

use coracle_tests::{Bundle, T, Value, bundle, cgroup, dirs, host, json};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use std::ffi::OsString;
use std::fs;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The user of the cases without privileges.
const USER: u32 = 54_321;
static COUNT: AtomicU64 = AtomicU64::new(0);

/// A bundle, a place for the state, and names that nothing else on the machine has.
#[derive(Debug)]
pub struct Subject<'a> {
    t: &'a T,
    bundle: Bundle,
    program: PathBuf,
    /// The state directory.
    pub root: PathBuf,
    /// The container's name.
    pub id: String,
    user: Option<u32>,
}

impl<'a> Subject<'a> {
    /// A container whose payload waits, with hooks of all kinds when asked for.
    pub fn new(t: &'a T, hooks: bool) -> Self {
        let mut bundle = Bundle::new(t, &["sleep"]);
        let marker = marker(t);
        bundle.add("/process/env", json!(marker));
        if hooks {
            for kind in
                ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
            {
                let inside = kind == "startContainer";
                let payload = coracle_tests::harness::payload().display().to_string();
                let path = if inside { "/payload".to_owned() } else { payload };
                let hook = json!({"path": path, "args": ["payload", "sleep", "1"], "env": [marker]});
                bundle.set(&format!("/hooks/{kind}"), json!([hook]));
            }
        }
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = format!("ct-{}-crash-{number}", std::process::id());
        bundle.set("/linux/cgroupsPath", json!(format!("{}/{id}", cgroup::parent())));
        bundle.write();
        let root = t.dir().join("state");
        Self { t, bundle, program: t.runtime.path.clone(), root, id, user: None }
    }

    /// A container whose hook of this kind notes that it runs in the file, and then sleeps for ever.
    pub fn that_hangs(t: &'a T, kind: &str) -> (Self, PathBuf) {
        let mut subject = Self::new(t, false);
        let inside = kind == "startContainer";
        let outside = coracle_tests::harness::payload().display().to_string();
        let path = if inside { "/payload".to_owned() } else { outside };
        let file = if inside { subject.bundle.inside("/tmp/hangs") } else { t.dir().join("hangs") };
        let name = if inside { "/tmp/hangs".to_owned() } else { file.display().to_string() };
        let args = ["payload", "hook", &name, kind, "sleep", "600000"];
        subject
            .bundle
            .set(&format!("/hooks/{kind}"), json!([{"path": path, "args": args, "env": [marker(t)]}]));
        subject.bundle.write();
        (subject, file)
    }

    /// The same for an ordinary user: a user namespace, and no cgroup by which a process could be found again.
    pub fn of_a_user(t: &'a T) -> Self {
        let mut subject = Self::new(t, false);
        subject.user = Some(USER);
        let home = t.dir().join("home");
        fs::create_dir(&home).unwrap();
        std::os::unix::fs::chown(&home, Some(USER), Some(USER)).unwrap();
        subject.root = home.join("state");
        // Where the program lies others may not be let in.
        subject.program = t.dir().join("coracle");
        bundle::copy_program(&t.runtime.path, &subject.program);
        let map = json!([{"containerID": 0, "hostID": USER, "size": 1}]);
        let bundle = &mut subject.bundle;
        bundle.add("/linux/namespaces", json!({"type": "user"}));
        bundle.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
        bundle.remove("/linux/resources").remove("/linux/cgroupsPath");
        for mount in bundle.spec["mounts"].as_array_mut().unwrap() {
            if let Some(options) = mount["options"].as_array_mut() {
                options.retain(|option| option != "gid=5");
            }
        }
        bundle.write();
        subject
    }

    /// A container whose cgroup was there before: it is not the runtime's to remove, and says nothing of whose processes live in it.
    pub fn in_a_cgroup_of_others(t: &'a T) -> Self {
        let mut subject = Self::new(t, false);
        let path = format!("{}/others", cgroup::parent());
        for hierarchy in cgroup::hierarchies() {
            fs::create_dir_all(hierarchy.mount.join(path.trim_start_matches('/'))).unwrap();
        }
        subject.bundle.set("/linux/cgroupsPath", json!(path));
        subject.bundle.write();
        subject
    }

    /// The command line of a command for this container; `more` comes behind the name.
    pub fn line(&self, words: &[&str], more: &[&str]) -> Vec<OsString> {
        let mut line: Vec<OsString> =
            vec![self.program.clone().into(), "--root".into(), self.root.clone().into()];
        line.extend(["--log".into(), self.log().into()]);
        line.extend(words.iter().map(OsString::from));
        if matches!(words, ["create" | "run", ..]) {
            line.extend(["--bundle".into(), self.bundle.dir.clone().into()]);
        }
        line.push(self.id.clone().into());
        line.extend(more.iter().map(OsString::from));
        line
    }

    fn log(&self) -> PathBuf {
        self.root.parent().unwrap().join("log")
    }

    /// A process for a command line, as the subject's user, with nothing to print to.
    pub fn command(&self, line: &[OsString]) -> Command {
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.current_dir(self.t.dir());
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, words: &[&str], more: &[&str]) -> ExitStatus {
        let _ = fs::remove_file(self.log());
        wait_for(bundle::spawn(&mut self.command(&self.line(words, more))).unwrap())
    }

    /// Runs a command that has to work.
    pub fn good(&self, words: &[&str], more: &[&str]) {
        let status = self.run(words, more);
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        assert!(status.success() && log.is_empty(), "{words:?} {more:?}: {status} {log}");
    }

    /// The status that the runtime shows; `None` when there is no such container.
    pub fn status(&self) -> Option<String> {
        let line = self.line(&["state"], &[]);
        let output = self.command(&line).stdout(Stdio::piped()).output().unwrap();
        let state: Value = String::from_utf8_lossy(&output.stdout).trim().parse().ok()?;
        state["status"].as_str().map(str::to_owned)
    }

    /// Deletes what is left by force, and expects that nothing is.
    pub fn removed(&self, when: &str) {
        let status = self.run(&["delete", "--force"], &[]);
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        assert!(status.success(), "{when}: delete --force: {status} {log}");
        self.gone(when);
    }

    /// Expects that no directory, cgroup or process of the container is left.
    pub fn gone(&self, when: &str) {
        let names: Vec<_> = fs::read_dir(&self.root)
            .map(|dir| dir.flatten().map(|entry| entry.file_name()).collect())
            .unwrap_or_default();
        assert!(names.is_empty(), "{when}: state: {names:?}");
        let cgroups = cgroup::named(&self.id);
        assert!(cgroups.is_empty(), "{when}: cgroups: {cgroups:?}");
        let mounts = dirs::mounts_below(&self.bundle.dir);
        assert!(mounts.is_empty(), "{when}: mounts: {mounts:?}");
        // What had to end by itself may take a moment.
        let end = Instant::now() + Duration::from_secs(5);
        loop {
            reap();
            let children = host::children();
            let marked = host::processes_with(&marker(self.t));
            if children.is_empty() && marked.is_empty() {
                return;
            }
            if Instant::now() > end {
                for pid in marked.iter().filter_map(|pid| Pid::from_raw(*pid)) {
                    let _ = kill_process(pid, Signal::KILL);
                }
                panic!("{when}: processes: {children:?} {marked:?}");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// In the environment of everything that runs for a case's containers.
fn marker(t: &T) -> String {
    format!("CORACLE_TEST_MARK={}", t.dir().display())
}

/// Waits for a child, and takes meanwhile what came to us when its parent was killed, as a subreaper has to: the first process of a pid
/// namespace does not end before the last one is reaped. No other case runs.
pub fn wait_for(child: Child) -> ExitStatus {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == Pid::from_child(&child) => {
                return ExitStatus::from_raw(status.as_raw());
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => panic!("waiting for a child: {error}"),
        }
    }
}

/// Takes the children that came to us when their parent was killed.
pub fn reap() {
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
}

/// A number from the environment.
pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
