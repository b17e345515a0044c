//! The relay with real ptys, pipes and programs.

use super::*;
use crate::tty::tests::pty;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::termios::{
    LocalModes, OptionalActions, Winsize, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize,
};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::thread::JoinHandleExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A program whose standard streams are the slave of a pty that passes bytes as they are, and the master.
fn program(script: &str) -> (Child, OwnedFd) {
    let (master, slave) = pty();
    let mut mode = tcgetattr(&slave).expect("a terminal");
    mode.make_raw();
    tcsetattr(&slave, OptionalActions::Now, &mode).expect("raw");
    let stream = || Stdio::from(slave.try_clone().expect("dup"));
    let child = Command::new("/bin/sh")
        .args(["-c", script])
        .stdin(stream())
        .stdout(stream())
        .stderr(stream())
        .spawn()
        .expect("a shell");
    (child, master)
}

fn pidfd(child: &Child) -> OwnedFd {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a pid");
    pidfd_open(pid, PidfdFlags::empty()).expect("a pidfd")
}

/// Runs a relay for `script` in a thread: input, output and the caller's terminal are given.
fn relay(
    script: &str,
    host: OwnedFd,
    input: OwnedFd,
    output: OwnedFd,
) -> thread::JoinHandle<(Vec<i32>, Option<i32>)> {
    let (mut child, master) = program(script);
    thread::spawn(move || {
        let signals = Signals::block().expect("blocked");
        let host = Host::of(host.as_fd()).expect("a terminal");
        let mut relay = Relay::new(host, master, input.as_fd(), output.as_fd()).expect("a relay");
        let mut seen = Vec::new();
        relay.run(pidfd(&child).as_fd(), &signals, &mut |signal| seen.push(signal)).expect("copied");
        drop(relay);
        (seen, child.wait().expect("reaped").code())
    })
}

fn pipe() -> (OwnedFd, OwnedFd) {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("a pipe")
}

fn read_all(fd: OwnedFd) -> Vec<u8> {
    let mut bytes = Vec::new();
    File::from(fd).read_to_end(&mut bytes).expect("read");
    bytes
}

#[test]
fn both_ways_through_terminals() {
    let (user, slave) = pty();
    let end = || slave.try_clone().expect("dup");
    let relay = relay("read line; echo \"<$line>\"; exit 7", end(), end(), end());
    let soon = Instant::now() + Duration::from_secs(20);
    while tcgetattr(&slave).expect("a terminal").local_modes.contains(LocalModes::ECHO) {
        assert!(Instant::now() < soon, "the terminal is not raw");
        thread::sleep(Duration::from_millis(1));
    }
    let mut user = File::from(user);
    user.write_all(b"\x03hello\n").expect("typed");
    let mut shown = [0; 9];
    user.read_exact(&mut shown).expect("shown");
    // Neither echoed nor taken for an interrupt on the way, and no carriage return added.
    assert_eq!(shown, *b"<\x03hello>\n");
    assert_eq!(relay.join().expect("no panic"), (vec![], Some(7)));
}

#[test]
fn nothing_is_lost_at_the_end_whatever_the_reader_does() {
    // More than all buffers on the way hold, by a reader that begins after the program has written what it can.
    for pause in [0, 200] {
        let (_user, host) = pty();
        let (input, _keep) = pipe();
        let (reader, output) = pipe();
        let relay = relay(
            "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; exit 3",
            host,
            input,
            output,
        );
        thread::sleep(Duration::from_millis(pause));
        let bytes = read_all(reader);
        let expected: String = (0..20000).map(|i| format!("line {i}\n")).collect();
        assert!(bytes == expected.as_bytes(), "{} of {} bytes", bytes.len(), expected.len());
        assert_eq!(relay.join().expect("no panic").1, Some(3));
    }
}

#[test]
fn the_end_of_input_is_not_the_end() {
    let (_user, host) = pty();
    let (input, typing) = pipe();
    let (reader, output) = pipe();
    let relay = relay("read line; echo got $line; sleep 0.2; echo more", host, input, output);
    File::from(typing).write_all(b"it\n").expect("typed");
    assert_eq!(read_all(reader), b"got it\nmore\n");
    assert_eq!(relay.join().expect("no panic").1, Some(0));
}

#[test]
fn a_closed_output_hangs_the_terminal_up() {
    let (_user, host) = pty();
    let (input, _keep) = pipe();
    let (reader, output) = pipe();
    let begin = Instant::now();
    let relay = relay("while echo more; do :; done 2>/dev/null; exit 9", host, input, output);
    let mut some = [0; 100];
    File::from(reader).read_exact(&mut some).expect("read");
    assert_eq!(relay.join().expect("no panic").1, Some(9));
    assert!(begin.elapsed() < Duration::from_secs(20));
}

#[test]
fn output_that_nobody_reads_yet_stops_neither_input_nor_the_end() {
    let (_user, host) = pty();
    let (input, typing) = pipe();
    let (reader, output) = pipe();
    // A full pipe.
    let fill = vec![b'.'; 1 << 20];
    fcntl_setfl(&output, OFlags::NONBLOCK).expect("non-blocking");
    let filled = write(&output, &fill).expect("filled");
    let flag = std::env::temp_dir().join(format!("coracle-relay-{}", std::process::id()));
    let script = format!("echo out; read line; echo $line > {}; exit 4", flag.display());
    let relay = relay(&script, host, input, output);
    File::from(typing).write_all(b"typed\n").expect("typed");
    let end = Instant::now() + Duration::from_secs(20);
    while std::fs::read(&flag).unwrap_or_default() != b"typed\n" {
        assert!(Instant::now() < end, "the input did not arrive");
        thread::sleep(Duration::from_millis(5));
    }
    std::fs::remove_file(&flag).expect("removed");
    let bytes = read_all(reader);
    assert_eq!(bytes.get(filled..), Some(&b"out\n"[..]));
    assert_eq!(relay.join().expect("no panic").1, Some(4));
}

#[test]
fn a_terminal_closed_inside_may_be_opened_again() {
    let (_user, host) = pty();
    let (input, _keep) = pipe();
    let (reader, output) = pipe();
    let script = "echo one; t=$(readlink /proc/self/fd/0); exec <&- >/dev/null 2>&1; sleep 0.3; echo two >$t";
    let relay = relay(script, host, input, output);
    assert_eq!(read_all(reader), b"one\ntwo\n");
    relay.join().expect("no panic");
}

#[test]
fn the_size_follows_and_other_signals_are_passed_on() {
    let (user, host) = pty();
    let size = |rows, columns| Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&user, size(20, 70)).expect("sized");
    let (input, _keep) = pipe();
    let (reader, output) = pipe();
    let (mut child, master) = program("cat");
    let watched = master.try_clone().expect("dup");
    let pidfd_of_child = pidfd(&child);
    let relay = thread::spawn(move || {
        let signals = Signals::block().expect("blocked");
        let host = Host::of(host.as_fd()).expect("a terminal");
        let mut relay = Relay::new(host, master, input.as_fd(), output.as_fd()).expect("a relay");
        let mut seen = Vec::new();
        relay.run(pidfd_of_child.as_fd(), &signals, &mut |signal| seen.push(signal)).expect("copied");
        seen
    });
    let wait = |expected: (u16, u16)| {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let size = tcgetwinsize(&watched).expect("a size");
            if (size.ws_row, size.ws_col) == expected {
                break;
            }
            assert!(Instant::now() < end, "the size is still {size:?}");
            thread::sleep(Duration::from_millis(5));
        }
    };
    wait((20, 70));
    let thread = relay.as_pthread_t();
    let send = |signal| nix::sys::pthread::pthread_kill(thread, signal).expect("sent");
    tcsetwinsize(&user, size(50, 132)).expect("sized");
    send(nix::sys::signal::Signal::SIGWINCH);
    wait((50, 132));
    for signal in ["SIGINT", "SIGTERM", "SIGHUP", "SIGPIPE", "SIGURG", "SIGUSR1"] {
        send(signal.parse().expect("a signal"));
    }
    thread::sleep(Duration::from_millis(100));
    child.kill().expect("killed");
    child.wait().expect("reaped");
    let mut seen = relay.join().expect("no panic");
    seen.sort_unstable();
    assert_eq!(seen, [libc::SIGHUP, libc::SIGINT, libc::SIGUSR1, libc::SIGTERM]);
    drop(reader);
}

#[test]
fn the_terminal_is_as_it_was_afterwards() {
    let (_user, host) = pty();
    let before = tcgetattr(&host).expect("a terminal");
    let (input, _keep) = pipe();
    let (reader, output) = pipe();
    let handle = relay("sleep 0.1; kill -9 $$", host.try_clone().expect("dup"), input, output);
    assert_eq!(handle.join().expect("no panic").1, None);
    let after = tcgetattr(&host).expect("a terminal");
    assert_eq!((before.local_modes, before.output_modes), (after.local_modes, after.output_modes));
    drop(reader);
}
