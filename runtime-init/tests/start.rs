//! Credentials, capabilities, filter, working directory, hooks and the gate, walked in new processes.
//! Needs real root.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::Instant;

use common::{Program, root};
use coracle_init::program::{Bytes, Slot, Step};
use coracle_init::step::hook::HookLayout;
use coracle_init::wire::{Call, Kind, LEN, Message};

const NEWPID: u64 = 0x2000_0000;
const STATUS: &str =
    "grep -E '^(Uid|Gid|Groups|CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status";

fn shell(p: &mut Program, script: &str) {
    p.exec(&["/bin/sh", "-c", script], &["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]);
}

fn groups(p: &mut Program, ids: &[u32]) -> Bytes {
    let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_ne_bytes()).collect();
    p.raw(&bytes)
}

/// A filter that allows everything but symlinkat (EPERM): `ld nr; jeq symlinkat; ret ERRNO|1; ret ALLOW`.
fn filter(p: &mut Program) -> Bytes {
    let mut bytes = Vec::new();
    let refused = u32::try_from(libc::SYS_symlinkat).unwrap();
    for (code, jt, jf, k) in [
        (0x20_u16, 0_u8, 0_u8, 0_u32),
        (0x15, 0, 1, refused),
        (0x06, 0, 0, 0x0005_0001),
        (0x06, 0, 0, 0x7fff_0000),
    ] {
        bytes.extend(code.to_ne_bytes());
        bytes.extend([jt, jf]);
        bytes.extend(k.to_ne_bytes());
    }
    p.raw(&bytes)
}

#[test]
fn credentials_without_no_new_privs_keep_what_the_filter_needs() {
    if !root() {
        return;
    }
    let mut p = Program::new();
    let ids = groups(&mut p, &[30, 10, 20]);
    let filter = filter(&mut p);
    let caps = (1 << 10) | (1 << 5) | (1 << 63);
    p.step(Step::BoundingSet { bounding: caps | (1 << 7) })
        .step(Step::Credentials { uid: 1000, gid: 1001, groups: ids, skip_groups: false, keep_admin: true })
        .step(Step::Seccomp { filter, flags: 0, listener: Slot::NONE })
        .step(Step::Capabilities {
            effective: caps,
            permitted: caps,
            inheritable: caps,
            ambient: 1 << 10,
            bounding: caps | (1 << 7),
        });
    shell(&mut p, STATUS);
    let (text, status) = p.output(0);
    assert_eq!(status, 0);
    let fields: Vec<String> =
        text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        fields,
        [
            "Uid: 1000 1000 1000 1000",
            "Gid: 1001 1001 1001 1001",
            "Groups: 10 20 30",
            "CapInh: 0000000000000420",
            "CapPrm: 0000000000000400",
            "CapEff: 0000000000000400",
            "CapBnd: 00000000000004a0",
            "CapAmb: 0000000000000400",
            "NoNewPrivs: 0",
            "Seccomp: 2"
        ]
    );
}

#[test]
fn no_new_privs_loads_the_filter_last() {
    if !root() {
        return;
    }
    let mut p = Program::new();
    let ids = groups(&mut p, &[]);
    let filter = filter(&mut p);
    p.step(Step::NoNewPrivs)
        .step(Step::BoundingSet { bounding: 0 })
        .step(Step::Credentials { uid: 7, gid: 8, groups: ids, skip_groups: false, keep_admin: false })
        .step(Step::Capabilities { effective: 0, permitted: 0, inheritable: 0, ambient: 0, bounding: 0 })
        .step(Step::Seccomp { filter, flags: 0, listener: Slot::NONE });
    shell(&mut p, &format!("{STATUS}; ln -s a /proc/b"));
    let (text, _) = p.output(0);
    assert!(text.contains("Groups:\t \nCapInh:\t0000000000000000\n"), "{text}");
    assert!(
        text.contains("CapBnd:\t0000000000000000\n") && text.contains("NoNewPrivs:\t1\nSeccomp:\t2\n"),
        "{text}"
    );
    assert!(text.contains("not permitted"), "the filter is the one that was given: {text}");
}

#[test]
fn what_cannot_be_had_is_an_error() {
    if !root() {
        return;
    }
    let mut p = Program::new();
    let ids = groups(&mut p, &[]);
    p.step(Step::Credentials { uid: u32::MAX, gid: 0, groups: ids, skip_groups: true, keep_admin: false });
    assert_eq!(p.failure(0).call, Call::Setresuid);

    let caps = |effective, ambient, bounding| {
        let mut p = Program::new();
        p.step(Step::BoundingSet { bounding: 1 });
        p.step(Step::Capabilities { effective, permitted: 1, inheritable: 0, ambient, bounding });
        p.failure(0)
    };
    assert_eq!(caps(3, 0, 1).call, Call::Capset, "effective beyond permitted");
    assert_eq!(caps(1, 1, 1).call, Call::Prctl, "ambient beyond inheritable");
    let m = caps(1, 0, 3);
    assert_eq!((m.call, &m.detail[..9]), (Call::Compare, &b"bounding\0"[..]));
    assert_eq!(caps(1, 0, 1).errno, libc::ENODATA, "all steps are done");

    let mut p = Program::new();
    let filter = filter(&mut p);
    let ids = groups(&mut p, &[]);
    p.step(Step::Credentials { uid: 7, gid: 7, groups: ids, skip_groups: true, keep_admin: true })
        .step(Step::Seccomp { filter, flags: 0, listener: Slot::NONE });
    let m = p.failure(0);
    assert_eq!((m.call, m.errno), (Call::Seccomp, libc::EACCES), "without keepcaps there is nothing to keep");
}

#[test]
fn many_groups_are_compared_too() {
    if !root() {
        return;
    }
    let mut p = Program::new();
    let many: Vec<u32> = (1..=3000).rev().collect();
    let ids = groups(&mut p, &many);
    p.step(Step::Credentials { uid: 0, gid: 0, groups: ids, skip_groups: false, keep_admin: false });
    shell(&mut p, "id -G | wc -w");
    assert_eq!(p.output(0).0, "3001\n");
}

#[test]
fn the_listener_goes_by_number_or_by_itself() {
    if !root() {
        return;
    }
    for by_number in [true, false] {
        let mut p = Program::new();
        let filter = filter(&mut p);
        let listener = if by_number { p.slot() } else { Slot::NONE };
        p.step(Step::Seccomp { filter, flags: 8, listener }).step(Step::Hold);
        shell(&mut p, "ls /proc/self/fd | wc -l");
        let child = p.start(0);
        let (m, fds) = child.receive().unwrap();
        assert_eq!((m.kind, fds.is_empty()), (Kind::Listener, by_number));
        if by_number {
            let pidfd = rustix::process::pidfd_getfd(
                &child.pidfd,
                m.errno,
                rustix::process::PidfdGetfdFlags::empty(),
            );
            assert!(pidfd.is_ok());
        }
        child.expect(Kind::Waiting);
        child.send(Kind::Go, &[]);
        child.expect(Kind::Taken);
        assert_eq!(child.finish(), ("4\n".into(), 0));
    }
}

#[test]
fn working_directories() {
    let mut p = Program::new();
    let dir = std::env::temp_dir().join(format!("coracle-init-cwd-{}", std::process::id()));
    let path = p.str(dir.join("a/b").to_str().unwrap());
    p.step(Step::MakeWorkingDir { path });
    p.step(Step::WorkingDir { path, optional: false });
    shell(&mut p, "pwd; stat -c %a .");
    let (text, _) = p.output(0);
    assert_eq!(text, format!("{}\n755\n", dir.join("a/b").display()));
    for name in ["a/b", "a", ""] {
        std::fs::remove_dir(dir.join(name)).unwrap();
    }
    let mut p = Program::new();
    let path = p.str("/no/such/place");
    p.step(Step::WorkingDir { path, optional: true });
    let m = p.failure(0);
    assert_eq!((m.call, m.errno, &m.detail[..6]), (Call::Openat2, libc::ENOENT, &b"place\0"[..]));
    let mut p = Program::new();
    let path = p.str("/proc/self/fd/0");
    p.step(Step::WorkingDir { path, optional: false });
    assert_eq!(p.failure(0).errno, libc::ELOOP, "a magic link is no working directory");
}

#[test]
fn limits_streams_and_kept_descriptors() {
    let mut p = Program::new();
    let dup = |file: File| rustix::io::fcntl_dupfd_cloexec(file, 20).unwrap();
    let dev = p.fd(dup(File::open("/etc/passwd").unwrap()));
    p.step(Step::InstallDescriptor { fd: dev, target: 0 })
        .step(Step::InstallDescriptor { fd: dev, target: 3 });
    p.step(Step::Rlimit { resource: 7, soft: 100, hard: 200 }).step(Step::Umask { mask: 0o27 });
    let argv =
        p.list(&["sh", "-c", "ulimit -Sn; ulimit -Hn; umask; head -1 | cut -d: -f1; ls /proc/self/fd"]);
    let (env, candidates) = (p.list(&["PATH=/usr/bin:/bin"]), p.list(&["/bin/sh"]));
    p.step(Step::FindProgram { candidates, uid: 0, home: false })
        .step(Step::CloseDescriptors { from_keep: 3, from: 4 })
        .step(Step::Exec { argv, env });
    assert_eq!(p.output(0).0, "100\n200\n0027\nroot\n0\n1\n2\n3\n4\n");

    let mut p = Program::new();
    p.step(Step::CloseDescriptors { from_keep: 900, from: 901 });
    let m = p.failure(0);
    assert_eq!((m.call, m.errno), (Call::Fcntl, libc::EBADF), "fewer descriptors than promised");
}

#[test]
fn ignored_and_blocked_signals_are_reset() {
    let mut p = Program::new();
    // std ignores SIGPIPE in this very process.
    shell(&mut p, "grep -E '^Sig(Blk|Ign)' /proc/self/status");
    assert_eq!(p.output(0).0, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

fn gate() -> (UnixDatagram, UnixDatagram) {
    UnixDatagram::pair().unwrap()
}

#[test]
fn the_gate_takes_one_valid_datagram() {
    let mut p = Program::new();
    let (inside, outside) = gate();
    let gate = p.fd(OwnedFd::from(inside));
    p.step(Step::Gate { gate });
    shell(&mut p, "ls /proc/self/fd | wc -l");
    let child = p.start(0);
    child.expect(Kind::Waiting);
    child.send(Kind::Go, &[]);
    assert!(child.receive().is_none(), "the start-up channel is forgotten");
    let (ours, theirs) = UnixStream::pair().unwrap();
    let good = Message::plain(Kind::Start).encode();
    let mut other = good;
    other[0] = 99;
    let fd = theirs.as_raw_fd();
    common::send(&outside, &other, &[fd]);
    common::send(&outside, &good[..LEN - 1], &[fd]);
    common::send(&outside, &[good.as_slice(), &[0]].concat(), &[fd]);
    common::send(&outside, &Message::plain(Kind::Go).encode(), &[fd]);
    common::send(&outside, &good, &[]);
    common::send(&outside, &good, &[fd, fd]);
    // A channel that nobody reads any more.
    let (gone, broken) = UnixStream::pair().unwrap();
    drop(gone);
    common::send(&outside, &good, &[broken.as_raw_fd()]);
    common::short_sleep();
    ours.set_nonblocking(true).unwrap();
    assert!((&ours).read(&mut [0; 1]).is_err(), "none of these is answered");
    ours.set_nonblocking(false).unwrap();
    common::send(&outside, &good, &[fd]);
    drop(theirs);
    let mut answer = Vec::new();
    (&ours).read_to_end(&mut answer).unwrap();
    assert_eq!(Message::decode(&answer).unwrap().kind, Kind::Taken);
    assert!(outside.send(&good).is_err(), "the gate is closed for good");
    let mut text = String::new();
    File::from(child.output.try_clone().unwrap()).read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), child.wait()), ("4\n", 0));
}

#[test]
fn failures_after_the_gate_go_to_who_opened_it() {
    let mut p = Program::new();
    let (inside, outside) = gate();
    let gate = p.fd(OwnedFd::from(inside));
    p.step(Step::Gate { gate });
    p.exec(&["/no/such/program"], &[]);
    let child = p.start(0);
    child.expect(Kind::Waiting);
    child.send(Kind::Go, &[]);
    let (ours, theirs) = UnixStream::pair().unwrap();
    common::send(&outside, &Message::plain(Kind::Start).encode(), &[theirs.as_raw_fd()]);
    drop(theirs);
    let mut answer = Vec::new();
    (&ours).read_to_end(&mut answer).unwrap();
    assert_eq!(answer.len(), 2 * LEN);
    let failed = Message::decode(&answer[LEN..]).unwrap();
    assert_eq!((failed.kind, failed.step, failed.errno), (Kind::Failed, 1, libc::ENOENT));
    child.wait();
}

struct Hooked {
    program: Program,
    output: OwnedFd,
}

fn hooked(script: &str, timeout_ms: u64, head: &str) -> Hooked {
    let mut p = Program::new();
    let (output, input) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let stdout = p.fd(input.try_clone().unwrap());
    let stderr = p.fd(input);
    let layout = HookLayout {
        path: p.str("/bin/sh"),
        argv: p.list(&["hook", "-c", script]),
        env: p.list(&["PATH=/usr/bin:/bin", "H=ook"]),
        cwd: p.str("/usr"),
        state_head: p.str(head),
        state_tail: p.str("}\n"),
        timeout_ms,
        stdout,
        stderr,
    };
    let hook = p.raw(&layout.encode());
    p.step(Step::Hook { hook, index: 0 });
    Hooked { program: p, output }
}

fn read(fd: OwnedFd) -> String {
    let mut text = String::new();
    File::from(fd).read_to_string(&mut text).unwrap();
    text
}

#[test]
fn hooks_get_the_state_and_nothing_else() {
    if !root() {
        return;
    }
    let script = "cat; echo $0 $H; pwd; umask; ls /proc/self/fd | wc -l; grep SigIgn /proc/self/status";
    let mut h = hooked(script, 0, "{\"pid\": ");
    shell(&mut h.program, "echo main");
    assert_eq!(h.program.output(NEWPID), ("main\n".into(), 0));
    let text = read(h.output);
    assert_eq!(text, "{\"pid\": 1}\nhook ook\n/usr\n0022\n4\nSigIgn:\t0000000000000000\n");
}

#[test]
fn a_hook_need_not_read_its_state() {
    let long = "x".repeat(300_000);
    let mut h = hooked("head -c 70000 | wc -c; exec 0<&-; sleep 0.05", 5000, &long);
    shell(&mut h.program, "echo main");
    assert_eq!(h.program.output(0), ("main\n".into(), 0));
    assert_eq!(read(h.output), "70000\n");
}

#[test]
fn failing_hooks_say_how() {
    let mut h = hooked("exit 7", 0, "{");
    h.program.step(Step::ResetSignals);
    let m = h.program.failure(0);
    assert_eq!((m.part, m.call, m.errno, &m.detail[..3]), (6, Call::HookStatus, 7 << 8, &b"sh\0"[..]));
    let h = hooked("kill -9 $$", 0, "{");
    let m = h.program.failure(0);
    assert_eq!((m.call, m.errno), (Call::HookStatus, 9));

    let began = Instant::now();
    // The whole group ends with the hook.
    let h = hooked("sleep 60 & sleep 60; echo late", 200, &"y".repeat(100_000));
    let m = h.program.failure(0);
    assert_eq!((m.call, m.errno), (Call::HookTimeout, 9));
    assert_eq!(read(h.output), "");
    assert!(began.elapsed().as_secs() < 20);

    let mut p = Program::new();
    let out = p.fd(File::open("/dev/null").unwrap());
    let layout = HookLayout {
        path: p.str("/no/such/hook"),
        argv: p.list(&["hook"]),
        env: p.list(&[]),
        cwd: p.str("/"),
        state_head: p.str("{"),
        state_tail: p.str("}"),
        timeout_ms: 0,
        stdout: out,
        stderr: out,
    };
    let hook = p.raw(&layout.encode());
    p.step(Step::Hook { hook, index: 0 });
    let m = p.failure(0);
    assert_eq!((m.part, m.call, m.errno, &m.detail[..5]), (2, Call::Execve, libc::ENOENT, &b"hook\0"[..]));
}

#[test]
fn a_hook_ends_with_the_parent() {
    let h = hooked("sleep 60", 0, "{");
    let child = h.program.start(0);
    common::short_sleep();
    let pid = child.pid;
    drop(child);
    assert_eq!(common::wait(pid), 1 << 8);
    assert_eq!(read(h.output), "", "nobody holds the pipe any more");
}

#[test]
fn sysctls_are_written_whole() {
    if !root() {
        return;
    }
    let mut p = Program::new();
    let proc = p.slot();
    let (path, value) = (p.str("kernel/domainname"), p.str("inside"));
    p.step(Step::SysctlProc { out: proc })
        .step(Step::Sysctl { proc, path, value })
        .step(Step::Close { fd: proc });
    shell(&mut p, "cat /proc/sys/kernel/domainname");
    assert_eq!(p.output(0x0400_0000), ("inside\n".into(), 0));
    for bad in ["kernel/../kernel/domainname", "/kernel/domainname", "kernel//x", "kernel/no_such"] {
        let mut p = Program::new();
        let proc = p.slot();
        let (path, value) = (p.str(bad), p.str("x"));
        p.step(Step::SysctlProc { out: proc }).step(Step::Sysctl { proc, path, value });
        let m = p.failure(0x0400_0000);
        assert_eq!((m.part, m.call), (1, Call::Openat2), "{bad}");
    }
}

#[test]
fn broken_arenas_are_reported() {
    let mut p = Program::new();
    let mut far = p.str("x");
    far.off = u32::MAX;
    p.step(Step::Hostname { name: far });
    let m = p.failure(0);
    assert_eq!((m.call, m.errno), (Call::Walk, libc::EINVAL));
}
