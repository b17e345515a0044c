//! The walker on the running kernel: programs built by hand, walked in a cloned child, looked at from both sides.
//! Needs real root: the namespaces here are made without a user namespace, but where one is the subject.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stderr, reason = "tests")]

mod common;

use std::os::fd::AsRawFd;

use common::{Program, root};
use coracle_init::program::{Slot, Step};
use coracle_init::wire::{Call, Kind};

const NEWPID: u64 = 0x2000_0000;
const NEWUTS: u64 = 0x0400_0000;
const NEWNET: u64 = 0x4000_0000;

#[test]
fn runs_a_program_with_its_arguments_and_environment() {
    let mut p = Program::new();
    p.exec(&["/bin/sh", "-c", "echo $0 $A; exit 3", "name"], &["A=b"]);
    assert_eq!(p.output(0), ("name b\n".into(), 3 << 8));
}

#[test]
fn the_program_gets_no_other_descriptor() {
    let leaked = std::fs::File::open("/").unwrap();
    // Even one without close-on-exec, that the caller forgot.
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    let mut p = Program::new();
    p.exec(&["/bin/sh", "-c", "ls /proc/self/fd"], &["PATH=/usr/bin:/bin"]);
    let (text, status) = p.output(0);
    // 3 is the directory that ls itself reads.
    assert_eq!((text.as_str(), status), ("0\n1\n2\n3\n", 0));
    assert!(rustix::io::fcntl_getfd(&leaked).is_ok());
}

#[test]
fn names_and_loopback_of_new_namespaces() {
    if !root() {
        return;
    }
    let mut p = Program::new();
    let name = p.str("coracle-test");
    p.step(Step::Hostname { name }).step(Step::LoopbackUp).step(Step::SetSid).step(Step::SessionKeyring);
    p.exec(
        &[
            "/bin/sh",
            "-c",
            "uname -n; read a </sys/class/net/lo/flags || true; echo $$; cat /proc/net/if_inet6 | grep -c lo",
        ],
        &["PATH=/usr/bin:/bin"],
    );
    let (text, _) = p.output(NEWPID | NEWUTS | NEWNET);
    assert!(text.starts_with("coracle-test\n1\n"), "{text}");
    assert!(text.ends_with("\n1\n"), "lo has its address when it is up: {text}");
}

#[test]
fn failing_steps_name_themselves() {
    let mut p = Program::new();
    p.step(Step::Umask { mask: 0o22 }).step(Step::JoinNamespace { fd: Slot(7), nstype: 0 });
    let m = p.failure(0);
    assert_eq!((m.call, m.errno), (Call::Walk, libc::EBADF));

    let mut p = Program::new();
    p.exec(&["/nonexistent/program"], &[]);
    let m = p.failure(0);
    assert_eq!((m.step, m.part, m.call, m.errno), (0, 0, Call::Stat, libc::ENOENT));
    assert_eq!(&m.detail[..8], b"program\0");

    let mut p = Program::new();
    p.exec(&["/usr"], &[]);
    assert_eq!(p.failure(0).errno, libc::EISDIR);
    let mut p = Program::new();
    p.exec(&["/etc/passwd"], &[]);
    let m = p.failure(0);
    assert_eq!((m.call, m.errno), (Call::Access, libc::EACCES));
    let mut p = Program::new();
    p.step(Step::ResetSignals);
    assert_eq!(p.failure(0).errno, libc::ENODATA, "a program must end in exec");
}

#[test]
fn candidates_are_tried_like_execvp() {
    let mut p = Program::new();
    let candidates = p.list(&["/nonexistent/sh", "/etc/passwd/sh", "/etc/passwd", "/bin/sh"]);
    let argv = p.list(&["sh", "-c", "echo $HOME $0"]);
    let env = p.list(&[]);
    p.step(Step::FindProgram { candidates, uid: 0, home: true }).step(Step::Exec { argv, env });
    assert_eq!(p.output(0).0, "/root sh\n");
}

#[test]
fn go_brings_descriptors() {
    let mut p = Program::new();
    let first = p.slot();
    let second = p.slot();
    let _ = second;
    p.step(Step::Born { first, count: 2, optional: true });
    p.step(Step::ControllingTerminal { fd: first });
    let child = p.start(0);
    child.expect(Kind::Born);
    let file = std::fs::File::open("/dev/null").unwrap();
    child.send(Kind::Go, &[file.as_raw_fd()]);
    child.send(Kind::Go, &[file.as_raw_fd()]);
    let (m, _) = child.receive().unwrap();
    assert_eq!((m.step, m.errno), (1, libc::ENOTTY), "{m:?}");
    child.wait();
}

#[test]
fn a_parent_that_is_gone_ends_the_wait() {
    let mut p = Program::new();
    let first = p.slot();
    p.step(Step::Born { first, count: 0, optional: false });
    let child = p.start(0);
    child.expect(Kind::Born);
    let pid = child.pid;
    drop(child);
    assert_eq!(common::wait(pid), 1 << 8);
}

#[test]
fn second_clone_reports_before_it_goes_on() {
    if !root() {
        return;
    }
    let mut p = Program::new();
    p.step(Step::SecondClone { flags: NEWPID }).step(Step::RootReady);
    p.exec(&["/bin/sh", "-c", "echo $$"], &[]);
    let child = p.start(0);
    let (stage, fds) = child.receive().unwrap();
    assert_eq!((stage.kind, fds.len()), (Kind::Stage, 1));
    let pid = i32::from_ne_bytes(stage.detail[..4].try_into().unwrap());
    assert_eq!(child.wait(), 0, "the first process is done");
    child.expect(Kind::RootReady);
    child.send(Kind::HooksDone, &[]);
    assert!(child.receive().is_none());
    assert_eq!(common::wait(pid), 0, "the second one is our child too");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut std::fs::File::from(child.output), &mut text).unwrap();
    assert_eq!(text, "1\n");
}
