//! Names of signals.
//!
//! Must not: send any. Tests: at the end of the file.

use coracle::Error;

use crate::args::usage;

/// First and last real-time signal as programs number them; the kernel's first two belong to the C library.
const REAL_TIME: (i32, i32) = (34, 64);

/// The signals by name, without `SIG`.
const NAMES: [(&str, i32); 34] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("IOT", libc::SIGIOT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("POLL", libc::SIGPOLL),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
];

/// Reads `9`, `KILL`, `SIGKILL`, `sigkill`, `RTMIN+1` or `RTMAX-2`.
///
/// # Errors
/// Anything else, and numbers that are no signal. 0 is one: it only asks whether the process is there.
pub fn number(text: &str) -> Result<i32, Error> {
    let unknown = || usage(format!("unknown signal {text:?}"));
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let number: i32 = text.parse().map_err(|_| unknown())?;
        return if number <= REAL_TIME.1 { Ok(number) } else { Err(unknown()) };
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Ok(*number);
    }
    real_time(name).ok_or_else(unknown)
}

fn real_time(name: &str) -> Option<i32> {
    let (low, high) = REAL_TIME;
    let steps = |text: &str, sign: char| -> Option<i32> {
        if text.is_empty() {
            return Some(0);
        }
        let digits = text.strip_prefix(sign)?;
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        digits.parse().ok().filter(|steps| *steps <= high - low)
    };
    match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => steps(rest, '+').map(|steps| low + steps),
        (_, Some(rest)) => steps(rest, '-').map(|steps| high - steps),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, expected) in [
            ("9", 9),
            ("0", 0),
            ("64", 64),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigkill", 9),
            ("kill", 9),
            ("SigTerm", 15),
            ("TERM", 15),
            ("HUP", 1),
            ("SIGIOT", 6),
            ("CLD", 17),
            ("POLL", 29),
            ("USR2", 12),
            ("RTMIN", 34),
            ("SIGRTMIN+0", 34),
            ("RTMIN+15", 49),
            ("rtmax", 64),
            ("RTMAX-14", 50),
            ("RTMAX-30", 34),
        ] {
            assert_eq!(number(text).ok(), Some(expected), "{text}");
        }
        for text in [
            "",
            "-1",
            "+9",
            " 9",
            "9 ",
            "65",
            "99999999999",
            "FOO",
            "SIG",
            "SIGSIGKILL",
            "KIL",
            "RTMIN-1",
            "RTMAX+1",
            "RTMIN+31",
            "RTMIN+",
            "RTMIN++1",
            "RTMIN+1x",
            "KILL\n",
            "0x9",
        ] {
            assert!(number(text).is_err(), "{text}");
        }
    }
}
