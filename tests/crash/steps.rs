//! The runtime dies at each of its system calls in turn: it is traced, and killed before the call is made. At every second one it
//! is held for a while before, so that what it has started has come as far as it can.

use crate::subject::{Subject, number, reap};
use coracle_tests::{T, bundle, cases_alone, cgroup, need};
use nix::errno::Errno;
use nix::sys::ptrace::{self, Event, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs;
use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

cases_alone![
    create,
    create_with_hooks,
    create_without_cgroups,
    create_in_a_cgroup_of_others,
    run,
    start,
    exec,
    delete,
];

/// How long forty kills may take before some are left out.
const LONG: Duration = Duration::from_secs(6);

/// How a traced command ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// Killed before this call was made.
    Killed(u64),
    /// It made fewer calls.
    Itself,
}

/// Starts a command and kills it before the system call with this number, counted from the first that changes something.
fn kill_at(subject: &Subject<'_>, words: &[&str], more: &[&str], at: u64, hold: bool) -> End {
    let line = subject.line(words, more);
    let mut shell = vec!["/bin/sh".into(), "-c".into(), "read go; exec \"$@\"".into(), "sh".into()];
    shell.extend(line);
    // It waits for a line until it is traced.
    let mut child = bundle::spawn(subject.command(&shell).stdin(Stdio::piped())).unwrap();
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_EXITKILL | Options::PTRACE_O_TRACEEXEC;
    ptrace::seize(pid, options).expect("tracing is allowed");
    ptrace::interrupt(pid).unwrap();
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let end = trace(pid, at, hold);
    // Reaped by the tracer already.
    drop(child);
    end
}

fn trace(pid: Pid, at: u64, hold: bool) -> End {
    let (mut executed, mut entry, mut begun, mut calls) = (false, true, false, 0);
    loop {
        match waitpid(pid, Some(WaitPidFlag::__WALL)) {
            Ok(WaitStatus::PtraceSyscall(_)) if executed => {
                if entry {
                    begun |= changes(pid);
                    if begun {
                        calls += 1;
                    }
                    if begun && calls > at {
                        if hold {
                            std::thread::sleep(Duration::from_millis(10));
                        }
                        kill(pid, Signal::SIGKILL).unwrap();
                        while !matches!(waitpid(pid, Some(WaitPidFlag::__WALL)), Ok(WaitStatus::Signaled(..)))
                        {
                        }
                        return End::Killed(at);
                    }
                }
                entry = !entry;
                go(pid, None);
            }
            Ok(WaitStatus::PtraceEvent(_, _, event)) => {
                if event == Event::PTRACE_EVENT_EXEC as i32 {
                    // What follows is the end of execve(2) itself.
                    (executed, entry) = (true, false);
                }
                go(pid, None);
            }
            Ok(WaitStatus::Stopped(_, signal)) => go(pid, Some(signal)),
            Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) => return End::Itself,
            Ok(_) => go(pid, None),
            Err(Errno::EINTR) => {}
            Err(error) => panic!("waiting for a traced process: {error}"),
        }
    }
}

fn go(pid: Pid, signal: Option<Signal>) {
    match ptrace::syscall(pid, signal) {
        // It is ending.
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => panic!("tracing: {error}"),
    }
}

/// Whether the call that the process is about to make can be the first that others see: what only looks comes before it.
fn changes(pid: Pid) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    let number = text.split(' ').next().and_then(|word| word.parse::<i64>().ok()).unwrap_or(-1);
    let calls = [
        libc::SYS_mkdirat,
        libc::SYS_flock,
        libc::SYS_connect,
        libc::SYS_clone3,
        libc::SYS_unlinkat,
        libc::SYS_renameat,
        libc::SYS_pidfd_send_signal,
    ];
    calls.contains(&number)
}

use nix::libc;

/// Kills a command at each call. `before` makes what it needs, `after` looks at what is left.
fn sweep(
    t: &T,
    words: &[&str],
    more: &[&str],
    step: u64,
    before: &dyn Fn(),
    after: &dyn Fn(&str),
    subject: &Subject<'_>,
) {
    t.needs(&[need::Need::Root]);
    let mut step = number("CRASH_STEP", step);
    let begun = Instant::now();
    let mut at = number("CRASH_SEED", u64::from(std::process::id())) % step;
    let mut kills = 0;
    loop {
        before();
        match kill_at(subject, words, more, at, kills % 2 == 1) {
            End::Itself => break,
            End::Killed(call) => {
                kills += 1;
                after(&format!("{words:?} killed at call {call}"));
            }
        }
        // A slow machine looks at fewer places.
        if begun.elapsed() > LONG * u32::try_from(kills / 40 + 1).unwrap() {
            step += 2;
        }
        at += step;
        assert!(at < 20_000, "it never ends by itself");
    }
    subject.removed("the end");
    println!("   {}: killed {kills} times", t.name);
    assert!(kills > 5, "too few calls: nothing was tested");
}

fn sweep_create(t: &T, subject: &Subject<'_>, words: &[&str], step: u64) {
    sweep(t, words, &[], step, &|| {}, &|when| subject.removed(when), subject);
    // Its name is free.
    subject.good(&["create"], &[]);
    subject.removed("a second life");
}

fn create(t: &T) {
    sweep_create(t, &Subject::new(t, false), &["create"], 3);
}

fn create_with_hooks(t: &T) {
    sweep_create(t, &Subject::new(t, true), &["create"], 5);
}

/// An init that nobody has written down yet can be found by nothing but its own end.
fn create_without_cgroups(t: &T) {
    t.needs(&[need::Need::Root, need::Need::UserNamespaces]);
    sweep_create(t, &Subject::of_a_user(t), &["create"], 3);
}

/// Nor can one whose cgroup is not the runtime's own.
fn create_in_a_cgroup_of_others(t: &T) {
    t.needs(&[need::Need::Root]);
    sweep_create(t, &Subject::in_a_cgroup_of_others(t), &["create"], 3);
    cgroup::remove(&format!("{}/others", cgroup::parent()));
}

fn run(t: &T) {
    sweep_create(t, &Subject::new(t, true), &["run", "--detach"], 5);
}

fn start(t: &T) {
    let subject = Subject::new(t, true);
    let after = |when: &str| {
        match subject.status().as_deref() {
            // Not begun: somebody else can start it.
            Some("created") => subject.good(&["start"], &[]),
            // Its startContainer hook, or its program.
            Some("running" | "stopped") => {}
            other => panic!("{when}: {other:?}"),
        }
        subject.removed(when);
    };
    sweep(t, &["start"], &[], 2, &|| subject.good(&["create"], &[]), &after, &subject);
}

/// What is killed is one process; the container is as before.
fn exec(t: &T) {
    let subject = Subject::new(t, false);
    subject.good(&["run", "--detach"], &[]);
    let after = |when: &str| {
        reap();
        assert_eq!(subject.status().as_deref(), Some("running"), "{when}");
    };
    sweep(t, &["exec"], &["/payload", "exit", "0"], 2, &|| {}, &after, &subject);
    subject.good(&["run", "--detach"], &[]);
    subject.good(&["exec"], &["/payload", "exit", "0"]);
    subject.removed("the end");
}

fn delete(t: &T) {
    let subject = Subject::new(t, true);
    let before = || subject.good(&["create"], &[]);
    sweep(t, &["delete", "--force"], &[], 2, &before, &|when| subject.removed(when), &subject);
}
