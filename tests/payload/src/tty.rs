//! Terminals: what the process sees of its own, and streams of known bytes that show a loss.
//!
//! The stream is a counter in text lines of 64 bytes, so that any missing, doubled or reordered byte shows up as a
//! line that is not the expected one.

use crate::{say, sys, wrong};
use serde_json::{Value, json};
use std::io::{Read, Write};

/// What the standard descriptors and the controlling terminal look like.
pub fn seen() -> Value {
    let isatty: Vec<bool> = (0..3).map(|fd| sys::attributes(fd).is_ok()).collect();
    let size = sys::window(0).map(|(rows, columns)| json!({"rows": rows, "columns": columns})).ok();
    let terminal = std::fs::read_link("/proc/self/fd/0").ok();
    let controlling = sys::open("/dev/tty", libc::O_RDWR | libc::O_NOCTTY, false);
    let controlling = controlling.map(|fd| fd.raw() >= 0).unwrap_or(false);
    let stat = crate::report::text_of("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> =
        stat.rsplit_once(')').map_or(vec![], |(_, rest)| rest.split_whitespace().collect());
    let number = |index: usize| fields.get(index).and_then(|text| text.parse::<i64>().ok());
    let modes = sys::attributes(0).ok().map(|modes| {
        json!({"echo": modes.c_lflag & libc::ECHO != 0, "canonical": modes.c_lflag & libc::ICANON != 0,
               "newline": modes.c_oflag & libc::ONLCR != 0})
    });
    json!({"isatty": isatty, "size": size, "name": terminal.map(|name| name.to_string_lossy().into_owned()),
           "controlling": controlling, "device": number(4), "foreground": number(5), "modes": modes})
}

/// One line of the stream: its number, filled to 63 characters, and a newline.
fn line(number: u64) -> [u8; 64] {
    let mut line = [b'.'; 64];
    let digits = number.to_string();
    for (slot, digit) in line.iter_mut().zip(digits.bytes()) {
        *slot = digit;
    }
    if let Some(last) = line.last_mut() {
        *last = b'\n';
    }
    line
}

/// `tty pour BYTES [raw]`, `tty drain BYTES`, `tty echo`, `tty sizes COUNT`, `tty push`.
pub fn run(words: &[&str]) -> u8 {
    match words {
        ["pour", bytes] => bytes.parse().map_or_else(|_| wrong("pour takes a number"), |n| pour(n, false)),
        ["pour", bytes, "raw"] => {
            bytes.parse().map_or_else(|_| wrong("pour takes a number"), |n| pour(n, true))
        }
        ["drain", bytes] => bytes.parse().map_or_else(|_| wrong("drain takes a number"), drain),
        ["echo"] => echo(),
        ["sizes", count] => count.parse().map_or_else(|_| wrong("sizes takes a number"), sizes),
        _ => wrong("tty takes pour, drain, echo or sizes"),
    }
}

/// Writes the stream to standard output.
fn pour(bytes: u64, raw: bool) -> u8 {
    if raw && sys::make_raw(1).is_err() {
        return wrong("standard output is no terminal");
    }
    let mut out = std::io::stdout().lock();
    let mut block = Vec::with_capacity(65536);
    let lines = bytes / 64;
    for number in 0..lines {
        block.extend_from_slice(&line(number));
        if block.len() >= 65536 || number + 1 == lines {
            if out.write_all(&block).is_err() {
                return 3;
            }
            block.clear();
        }
    }
    if out.flush().is_err() { 3 } else { 0 }
}

/// Reads the stream from standard input; says `drained N` or where it went wrong.
fn drain(bytes: u64) -> u8 {
    let _ = sys::make_raw(0);
    say("ready");
    let mut input = std::io::stdin().lock();
    for number in 0..bytes / 64 {
        let mut got = [0u8; 64];
        if input.read_exact(&mut got).is_err() {
            say(&format!("ended at line {number}"));
            return 4;
        }
        if got != line(number) {
            say(&format!("line {number} is {:?}", String::from_utf8_lossy(&got)));
            return 5;
        }
    }
    say(&format!("drained {bytes}"));
    0
}

/// Gives back each line in brackets, until the input ends; then says so.
fn echo() -> u8 {
    say("ready");
    for line in std::io::stdin().lines() {
        match line {
            Ok(line) => say(&format!("[{line}]")),
            Err(_) => return 4,
        }
    }
    say("end of input");
    0
}

/// Prints the window size, then again after each SIGWINCH, `count` times.
fn sizes(count: u32) -> u8 {
    if sys::block(&[libc::SIGWINCH]).is_err() {
        return 3;
    }
    let print = || match sys::window(0) {
        Ok((rows, columns)) => say(&format!("size {rows} {columns}")),
        Err(errno) => say(&format!("errno {errno}")),
    };
    print();
    for _ in 0..count {
        if sys::wait_signal(&[libc::SIGWINCH], 20_000).is_none() {
            say("no SIGWINCH");
            return 6;
        }
        print();
    }
    0
}
