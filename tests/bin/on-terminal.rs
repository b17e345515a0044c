//! `on-terminal TYPED COMMAND...` runs a command on a terminal of its own, types one line there once the command has
//! written something, prints everything that it wrote, and ends with its exit code.
//!
//! For scripts that show what a client of an engine does on a terminal: script(1) drops what is still in the terminal ten
//! milliseconds after the command's end. What takes longer than a minute is killed, and said to be.

#![allow(clippy::expect_used, clippy::print_stdout, clippy::print_stderr, reason = "test code")]
#![forbid(unsafe_code)]

use coracle_tests::terminal::{Pty, Reader};
use rustix::process::{Pid, Signal, kill_process_group};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let typed = words.next().expect("a line to type");
    let Pty { master, user } = Pty::new(24, 80);
    let fd = || user.try_clone().expect("a descriptor");
    // The terminal becomes the controlling one of the session, whose first process the command is.
    let mut child = Command::new("setsid")
        .arg("--ctty")
        .args(words)
        .stdin(fd())
        .stdout(fd())
        .stderr(fd())
        .spawn()
        .expect("setsid of util-linux");
    drop(user);
    let screen = Reader::new(&master);
    let end = Instant::now() + Duration::from_secs(60);
    let mut killed = false;
    let mut to_type = Some([typed.as_encoded_bytes(), b"\n"].concat());
    let status = loop {
        if let Some(status) = child.try_wait().expect("own child") {
            break status;
        }
        if let Some(line) = to_type.take_if(|_| !screen.seen().is_empty()) {
            rustix::io::write(&master, &line).expect("own terminal");
        }
        if Instant::now() > end && !killed {
            killed = true;
            eprintln!(
                "on-terminal: it goes on for a minute; the line was {}typed",
                if to_type.is_some() { "not " } else { "" }
            );
            // Its session has this group alone; nothing to kill means that it ends just now.
            let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    // Nobody has the other side now: what was written comes, then the end. After a kill somebody may have it still.
    let seen = if killed { screen.seen() } else { String::from_utf8_lossy(&screen.end()).into_owned() };
    print!("{seen}");
    ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(255))
}
