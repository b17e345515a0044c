//! What only shows with a container, a terminal and a shell: job control, and pid files.
//!
//! The containers' root has the host's programs, bound read-only. Needs root; without it the cases say so and end.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test"
)]

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
use serde_json::json;

const PROGRAM: &str = env!("CARGO_BIN_EXE_coracle");

/// A bundle and a state directory, removed at the end.
struct Bundle {
    directory: PathBuf,
    /// No other container of the machine has it; it also names the control group.
    id: String,
}

impl Bundle {
    /// `None` when the caller is not root.
    fn new(name: &str, terminal: bool, script: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: {name} needs root");
            return None;
        }
        let directory =
            std::env::temp_dir().join(format!("coracle-foreground-{name}-{}", std::process::id()));
        fs::create_dir_all(directory.join("rootfs/proc")).expect("made");
        let mut mounts = vec![json!({"destination": "/proc", "type": "proc", "source": "proc"})];
        for host in ["/bin", "/lib", "/lib64", "/usr"] {
            let inside = directory.join("rootfs").join(&host[1..]);
            match fs::read_link(host) {
                Ok(target) => std::os::unix::fs::symlink(target, inside).expect("linked"),
                Err(_) if Path::new(host).is_dir() => {
                    fs::create_dir(inside).expect("made");
                    mounts.push(json!({"destination": host, "source": host, "options": ["rbind", "ro"]}));
                }
                Err(_) => {}
            }
        }
        mounts.push(json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}));
        mounts.push(json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance"]}));
        fs::create_dir(directory.join("rootfs/dev")).expect("made");
        let config = json!({
            "ociVersion": "1.3.0", "root": {"path": "rootfs"}, "mounts": mounts,
            "process": {"terminal": terminal, "cwd": "/", "args": ["/bin/sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]},
            "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}]}
        });
        fs::write(directory.join("config.json"), config.to_string()).expect("written");
        let id = format!("foreground-{name}-{}", std::process::id());
        Some(Self { directory, id })
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).to_str().expect("text").to_owned()
    }

    /// The program with this bundle's state directory.
    fn coracle(&self, words: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(["--root", &self.path("state")]).args(words).stdin(Stdio::null());
        command
    }

    fn done(&self, words: &[&str]) -> Output {
        // Files and not pipes: a container that is left running keeps its streams.
        let out = |name| File::create(self.path(name)).expect("made");
        let status = self.coracle(words).stdout(out("out")).stderr(out("err")).status().expect("runs");
        let read = |name| fs::read(self.path(name)).expect("read");
        Output { status, stdout: read("out"), stderr: read("err") }
    }
}

impl Drop for Bundle {
    #[allow(clippy::disallowed_methods, reason = "the test made it, and nothing is mounted on it out here")]
    fn drop(&mut self) {
        let _ = self.coracle(&["delete", "--force", &self.id]).output();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// A terminal, what was shown on it, and the other side.
struct Terminal {
    master: File,
    shown: String,
}

impl Terminal {
    fn new() -> (Self, OwnedFd) {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags).expect("a pty");
        unlockpt(&master).expect("unlocked");
        let slave = ioctl_tiocgptpeer(&master, flags).expect("the other side");
        (Self { master: File::from(master), shown: String::new() }, slave)
    }

    /// Reads until `text` was shown.
    fn wait_for(&mut self, text: &str) {
        let end = Instant::now() + Duration::from_secs(30);
        while !self.shown.contains(text) {
            let mut set = [PollFd::new(&self.master, PollFlags::IN)];
            let patience = Timespec { tv_sec: 1, tv_nsec: 0 };
            let ready = poll(&mut set, Some(&patience)).expect("polled") > 0;
            assert!(Instant::now() < end, "{text:?} is not in {:?}", self.shown);
            if !ready {
                continue;
            }
            let mut bytes = [0; 512];
            let count =
                self.master.read(&mut bytes).unwrap_or_else(|error| panic!("{error}: {:?}", self.shown));
            self.shown.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.master).expect("a terminal").local_modes.contains(LocalModes::ICANON)
    }

    fn wait_until_raw(&self) {
        let end = Instant::now() + Duration::from_secs(30);
        while !self.is_raw() {
            assert!(Instant::now() < end, "the terminal is not raw: {:?}", self.shown);
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// A program that is killed when the test ends early.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The one child of a process.
fn child_of(pid: u32) -> Pid {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("children");
        if let Some(pid) = children.split_whitespace().next() {
            return pid.parse().ok().and_then(Pid::from_raw).expect("a pid");
        }
        assert!(Instant::now() < end, "no child");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_stopped_job_gives_the_terminal_back_and_takes_it_again() {
    let Some(bundle) = Bundle::new("job", true, "echo ready; read line; echo got $line; exit 9") else {
        return;
    };
    let (mut terminal, slave) = Terminal::new();
    // A shell with job control, as a user has it.
    let script = format!(
        "'{PROGRAM}' --root '{}' run --bundle '{}' {}; echo status $?; stty -a | grep -q -e -icanon && echo raw || echo cooked; \
         fg >/dev/null; echo ended $?",
        bundle.path("state"),
        bundle.directory.display(),
        bundle.id
    );
    let stream = || Stdio::from(slave.try_clone().expect("dup"));
    let shell = Command::new("setsid")
        .args(["--ctty", "sh", "-m", "-c", &script])
        .stdin(stream())
        .stdout(stream())
        .stderr(stream())
        .spawn()
        .expect("a shell");
    let mut shell = Killed(shell);
    terminal.wait_for("ready");
    terminal.wait_until_raw();
    kill_process(child_of(shell.0.id()), Signal::TSTP).expect("stopped");
    // 128 and the number of SIGTSTP.
    terminal.wait_for("status 148");
    terminal.wait_for("cooked");
    terminal.wait_until_raw();
    std::io::Write::write_all(&mut &terminal.master, b"hello\r").expect("typed");
    terminal.wait_for("got hello");
    terminal.wait_for("ended 9");
    assert!(!terminal.is_raw(), "{:?}", terminal.shown);
    shell.0.wait().expect("ended");
}

#[test]
fn a_pid_file_holds_digits_and_nothing_else() {
    let Some(bundle) = Bundle::new("pid", false, "sleep 100") else { return };
    let (directory, pid_file) = (bundle.path("."), bundle.path("pid"));
    for command in [&["create"][..], &["run", "--detach"]] {
        let words = [command, &["--bundle", &directory, "--pid-file", &pid_file, &bundle.id]].concat();
        let output = bundle.done(&words);
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let text = fs::read_to_string(&pid_file).expect("written");
        let state = bundle.done(&["state", &bundle.id]);
        let state: serde_json::Value = serde_json::from_slice(&state.stdout).expect("JSON");
        assert_eq!(text, state["pid"].to_string());
        assert!(
            fs::read_dir(&bundle.directory)
                .expect("list")
                .all(|entry| !is_temporary(&entry.expect("entry").path()))
        );
        assert!(bundle.done(&["delete", "--force", &bundle.id]).status.success());
    }
}

fn is_temporary(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

/// Engines read it after the command has returned, also when the program has not lived as long.
#[test]
fn a_pid_file_is_there_for_a_program_that_ends_at_once() {
    let Some(bundle) = Bundle::new("quick", false, "exit 0") else { return };
    let (directory, pid_file) = (bundle.path("."), bundle.path("pid"));
    for _ in 0..5 {
        let output = bundle.done(&["run", "--bundle", &directory, "--pid-file", &pid_file, &bundle.id]);
        assert!(output.status.success(), "{output:?}");
        let pid: u32 = fs::read_to_string(&pid_file).expect("written").parse().expect("digits");
        assert!(pid > 1);
        fs::remove_file(&pid_file).expect("removed");
    }
}

#[test]
fn a_container_whose_pid_cannot_be_told_is_removed() {
    let Some(bundle) = Bundle::new("untold", false, "sleep 100") else { return };
    let (directory, pid_file) = (bundle.path("."), bundle.path("nowhere/pid"));
    for command in [&["create"][..], &["run", "--detach"], &["run"]] {
        let words = [command, &["--bundle", &directory, "--pid-file", &pid_file, &bundle.id]].concat();
        let output = bundle.done(&words);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(
            error.contains(&format!("{} {}: ", command[0], bundle.id)) && error.contains("nowhere/pid"),
            "{error}"
        );
        let state = bundle.done(&["state", &bundle.id]);
        assert!(String::from_utf8_lossy(&state.stderr).contains("container does not exist"), "{state:?}");
    }
}
