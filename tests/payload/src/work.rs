//! The small commands: end in a given way, wait for something, use up something.

use crate::{say, sys, wrong};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

/// Runs one command; an unknown one is wrong use.
pub fn run(command: &str, words: &[&str]) -> u8 {
    let number = |index: usize| words.get(index).and_then(|word| word.parse::<i64>().ok());
    match (command, number(0)) {
        ("exit", Some(code)) => u8::try_from(code).unwrap_or(98),
        ("kill-self", Some(signal)) => kill_self(i32::try_from(signal).unwrap_or(0)),
        ("crash", None) => {
            sys::crash();
            97
        }
        ("sleep", None) => sys::pause(),
        ("sleep", Some(milliseconds)) => {
            std::thread::sleep(Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0)));
            0
        }
        ("ready", None) => {
            say("ready");
            sys::pause()
        }
        ("wait-term", None) => wait_for_signals(&[libc::SIGTERM]),
        ("wait-signals", Some(_)) => {
            let signals: Vec<i32> = words.iter().filter_map(|word| word.parse().ok()).collect();
            wait_for_signals(&signals)
        }
        ("fork-bomb", Some(count)) => fork_bomb(count),
        ("eat-memory", Some(mebibytes)) => eat_memory(mebibytes),
        ("spin", Some(milliseconds)) => spin(u64::try_from(milliseconds).unwrap_or(0)),
        ("echo-fd", Some(fd)) => echo_fd(i32::try_from(fd).unwrap_or(-1)),
        ("count", None) => count(),
        ("print", None) => {
            say(&words.join(" "));
            0
        }
        ("print-both", None) => {
            say(words.first().unwrap_or(&""));
            let _ = writeln!(std::io::stderr(), "{}", words.get(1).unwrap_or(&""));
            0
        }
        ("orphan", None) => orphan(),
        ("hook", None) => hook(words),
        ("exec", None) => wrong(&format!(
            "exec: errno {}",
            words.split_first().map_or(0, |(path, _)| sys::exec(path, words))
        )),
        _ => wrong(&format!("no command `{command} {}`", words.join(" "))),
    }
}

fn kill_self(signal: i32) -> u8 {
    let _ = sys::set_ignored(signal, false);
    let pid = i32::try_from(std::process::id()).unwrap_or(0);
    let _ = sys::kill(pid, signal);
    // The first process of a pid namespace does not get signals without a handler from inside.
    say("still alive");
    96
}

/// Says `ready`, then prints each of the signals that arrives; ends with 0 after SIGTERM.
fn wait_for_signals(signals: &[i32]) -> u8 {
    if sys::block(signals).is_err() {
        return 95;
    }
    say("ready");
    loop {
        if let Some(signal) = sys::wait_signal(signals, 60_000) {
            say(&format!("signal {signal}"));
            if signal == libc::SIGTERM {
                return 0;
            }
        }
    }
}

/// Makes children that wait, until one is refused; says how many there were and why it ended.
fn fork_bomb(count: i64) -> u8 {
    let mut children = Vec::new();
    let mut refused = 0;
    for _ in 0..count {
        match sys::fork() {
            Ok(0) => sys::pause(),
            Ok(pid) => children.push(pid),
            Err(errno) => {
                refused = errno;
                break;
            }
        }
    }
    for pid in &children {
        let _ = sys::kill(*pid, libc::SIGKILL);
        let _ = sys::wait_for(*pid, 0);
    }
    say(&serde_json::json!({"forks": children.len(), "errno": refused}).to_string());
    0
}

/// Takes memory one MiB after the other and says how far it came.
fn eat_memory(mebibytes: i64) -> u8 {
    for eaten in 0..mebibytes {
        if let Err(errno) = sys::eat(1 << 20) {
            say(&format!("refused after {eaten} MiB: errno {errno}"));
            return 1;
        }
    }
    say(&format!("ate {mebibytes} MiB"));
    0
}

/// Computes for some wall time; says how much processor time it got.
fn spin(milliseconds: u64) -> u8 {
    let start = Instant::now();
    let before = sys::clock(libc::CLOCK_PROCESS_CPUTIME_ID).unwrap_or(0);
    let mut value = 1u64;
    while start.elapsed() < Duration::from_millis(milliseconds) {
        for _ in 0..10_000 {
            value = std::hint::black_box(value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
    let used = sys::clock(libc::CLOCK_PROCESS_CPUTIME_ID).unwrap_or(0) - before;
    let wall = start.elapsed().as_nanos();
    say(&serde_json::json!({"processor": used.to_string(), "wall": wall.to_string()}).to_string());
    0
}

/// Prints what can be read from a descriptor.
fn echo_fd(fd: i32) -> u8 {
    let mut buffer = vec![0u8; 4096];
    match sys::raw(libc::SYS_read, [fd.into(), buffer.as_mut_ptr() as i64, 4096, 0, 0, 0]) {
        Ok(length) => {
            buffer.truncate(usize::try_from(length).unwrap_or(0));
            say(&String::from_utf8_lossy(&buffer));
            0
        }
        Err(errno) => {
            say(&format!("errno {errno}"));
            1
        }
    }
}

/// Counts standard input, with a sum that depends on the order of the bytes.
fn count() -> u8 {
    let mut input = std::io::stdin().lock();
    let mut buffer = vec![0u8; 65536];
    let (mut bytes, mut sum) = (0u64, 0xcbf2_9ce4_8422_2325u64);
    loop {
        match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => {
                bytes += length as u64;
                for byte in buffer.iter().take(length) {
                    sum = (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
                }
            }
            Err(error) => {
                say(&format!("error after {bytes}: {error}"));
                return 1;
            }
        }
    }
    say(&format!("{bytes} {sum:016x}"));
    0
}

/// Leaves a child that waits, and ends: the child must not outlive the container.
fn orphan() -> u8 {
    match sys::fork() {
        Ok(0) => {
            let _ = sys::set_session();
            sys::pause()
        }
        Ok(pid) => {
            say(&pid.to_string());
            0
        }
        Err(_) => 94,
    }
}

/// `hook FILE NAME [exit N | sleep MS | stubborn]`: what a hook sees, as one JSON line appended to a file.
fn hook(words: &[&str]) -> u8 {
    let [file, name, rest @ ..] = words else { return wrong("hook takes FILE and NAME") };
    let mut input = String::new();
    let _ = std::io::stdin().lock().read_to_string(&mut input);
    let state: serde_json::Value = serde_json::from_str(&input).unwrap_or(serde_json::Value::Null);
    let namespace = |kind: &str| {
        std::fs::read_link(format!("/proc/self/ns/{kind}"))
            .ok()
            .map(|link| link.to_string_lossy().into_owned())
    };
    let line = serde_json::json!({
        "hook": name, "state": state, "env": sys::environment(), "cwd": sys::getcwd().unwrap_or_default(),
        "mnt": namespace("mnt"), "pidns": namespace("pid"), "net": namespace("net"),
        "uid": sys::user_ids(), "fds": crate::report::descriptors(), "words": rest,
        "time": sys::clock(libc::CLOCK_MONOTONIC).unwrap_or(0).to_string(),
    });
    let appended = std::fs::OpenOptions::new().create(true).append(true).open(file);
    if let Ok(mut out) = appended {
        let _ = out.write_all(format!("{line}\n").as_bytes());
    }
    match rest {
        ["exit", code] => code.parse().unwrap_or(93),
        ["say", text, "exit", code] => {
            let _ = writeln!(std::io::stderr(), "{text}");
            code.parse().unwrap_or(93)
        }
        ["sleep", milliseconds] => {
            std::thread::sleep(Duration::from_millis(milliseconds.parse().unwrap_or(0)));
            0
        }
        ["stubborn"] => {
            // Does not die of SIGTERM, and a grandchild holds the output open: nobody may wait for its end.
            let _ = sys::set_ignored(libc::SIGTERM, true);
            if sys::fork() == Ok(0) {
                let _ = sys::set_session();
                std::thread::sleep(Duration::from_secs(12));
                return 0;
            }
            std::thread::sleep(Duration::from_secs(12));
            0
        }
        _ => 0,
    }
}
