//! Where failures and debug lines go.
//!
//! The contract with engines: silence on success; on failure exactly one line is appended to `--log`, whole and in one write, for
//! some read the file as one JSON object and others take the last one; the same is said on standard error. The keys `level`,
//! `msg` and `time` are theirs, the rest is ours and ignored by them.
//! Must not: truncate or seek the file. Tests: at the end of the file, `tests/contract.rs`.

use std::borrow::Cow;
use std::fs::File;
use std::io::{IsTerminal, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use coracle::Error;
use coracle::error::escape;
use rustix::fs::{FileType, Mode, OFlags};

use super::time::rfc3339;

/// The longest line, in bytes.
const LIMIT: usize = 32 << 10;

/// The file, the format and the level.
#[derive(Debug, Clone, Default)]
pub struct Log {
    file: Option<Arc<File>>,
    json: bool,
    debug: bool,
}

impl Log {
    /// Opens the log; without `path` all goes to standard error.
    ///
    /// # Errors
    /// When the file cannot be opened for appending, or is a directory, a block device or a socket.
    pub fn open(path: Option<&Path>, json: bool, debug: bool) -> Result<Self, Error> {
        let file = match path {
            Some(path) => Some(Arc::new(File::from(append(path)?))),
            None => None,
        };
        Ok(Self { file, json, debug })
    }

    /// Whether debug lines are wanted.
    pub fn is_debug(&self) -> bool {
        self.debug
    }

    /// Reports the failure that ends the program.
    pub fn failure(&self, prefix: &str, error: &Error) {
        let message = format!("{prefix}{error}");
        let now = rfc3339(SystemTime::now());
        let stderr = std::io::stderr();
        if let Some(file) = &self.file {
            let line = if self.json {
                json("error", &message, &now, Some(error))
            } else {
                text("error", &message, &now)
            };
            if let Err(error) = (&**file).write_all(line.as_bytes()) {
                let lost = format!("write the log: {error}");
                let _ = (&stderr).write_all(text("error", &lost, &now).as_bytes());
            }
        }
        let line = if self.json && self.file.is_none() {
            json("error", &message, &now, Some(error))
        } else if stderr.is_terminal() {
            let report = error.report();
            format!("error: {prefix}{}\n", report.strip_prefix("error: ").unwrap_or(&report))
        } else {
            text("error", &message, &now)
        };
        // There is nowhere left to say that this failed.
        let _ = (&stderr).write_all(line.as_bytes());
    }

    /// A line for `--debug`; nothing without it.
    pub fn debug(&self, message: &str) {
        if !self.debug {
            return;
        }
        let now = rfc3339(SystemTime::now());
        let line = if self.json { json("debug", message, &now, None) } else { text("debug", message, &now) };
        let _ = match &self.file {
            Some(file) => (&**file).write_all(line.as_bytes()),
            None => std::io::stderr().write_all(line.as_bytes()),
        };
    }

    /// A step of the library with the time it took, for `--debug`.
    pub fn step(&self, phase: &str, what: &str, duration: Duration, failed: Option<&Error>) {
        let us = duration.as_nanos() / 1000;
        match failed {
            None => self.debug(&format!("{phase}: {what} ({us} us)")),
            Some(why) => self.debug(&format!("{phase}: {what} ({us} us): {why}")),
        }
    }
}

fn append(path: &Path) -> Result<OwnedFd, Error> {
    let wrong = |message: &'static str| Error::new(coracle::ErrorKind::Io, message).with_path(path);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOCTTY;
    let fd = rustix::fs::open(path, flags, Mode::from_raw_mode(0o644))
        .map_err(|errno| Error::os("open the log", errno).with_path(path))?;
    let stat = rustix::fs::fstat(&fd).map_err(|errno| Error::os("look at the log", errno).with_path(path))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile | FileType::Fifo | FileType::CharacterDevice => Ok(fd),
        _ => Err(wrong("the log is neither a file nor a pipe")),
    }
}

/// One line as logrus writes it when standard error is no terminal.
fn text(level: &str, message: &str, time: &str) -> String {
    let message = cut(message);
    let mut out = String::with_capacity(message.len() + 64);
    out.push_str("time=\"");
    out.push_str(time);
    out.push_str("\" level=");
    out.push_str(level);
    out.push_str(" msg=\"");
    for c in message.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push_str("\"\n");
    out
}

fn json(level: &str, message: &str, time: &str, error: Option<&Error>) -> String {
    let message = quoted(&cut(message));
    let head = format!("{{\"level\":\"{level}\",\"msg\":{message},\"time\":\"{time}\"");
    // The error serialises as an object of its own, whose members continue ours.
    let more = error.and_then(|error| serde_json::to_string(error).ok()).unwrap_or_default();
    let more = more.strip_prefix('{').filter(|rest| rest.len() > 1).unwrap_or("}");
    let comma = if more == "}" { "" } else { "," };
    if head.len() + comma.len() + more.len() < LIMIT {
        format!("{head}{comma}{more}\n")
    } else {
        format!("{head}}}\n")
    }
}

fn quoted(text: &str) -> String {
    // A text always serialises.
    serde_json::to_string(text).unwrap_or_default()
}

/// The message without control characters, and short enough to leave room for the rest of the line whatever quoting adds.
fn cut(message: &str) -> Cow<'_, str> {
    let limit = LIMIT / 4;
    let message = escape(message);
    if message.len() <= limit {
        return message;
    }
    let end = (0..=limit).rev().find(|&at| message.is_char_boundary(at)).unwrap_or_default();
    Cow::Owned(format!("{}...", message.get(..end).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle::{ErrorKind, Phase};

    const NOW: &str = "2026-11-21T00:10:24.123456789Z";

    fn sample() -> Error {
        Error::new(ErrorKind::Io, "open the \"bind\" source")
            .at("/mounts/7/source")
            .with_path("/srv/data")
            .in_phase(Phase::Mounts)
            .with_code("mount-source-missing")
            .with_warning("ignored")
    }

    #[test]
    fn a_json_line_is_one_object_with_the_keys_of_the_contract_first() {
        let line = json("error", "create web: bad\nnews", NOW, Some(&sample()));
        assert!(
            line.starts_with(
                r#"{"level":"error","msg":"create web: bad\\nnews","time":"2026-11-21T00:10:24.123456789Z","pointer":"#
            ),
            "{line}"
        );
        assert_eq!(line.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(value["pointer"], "/mounts/7/source");
        assert_eq!(value["path"], "/srv/data");
        assert_eq!(value["phase"], "mounts");
        assert_eq!(value["code"], "mount-source-missing");
        assert_eq!(value["warnings"][0], "ignored");
    }

    #[test]
    fn an_error_with_nothing_to_add_is_still_json() {
        let bare = Error::new(ErrorKind::NotFound, "container does not exist");
        for line in [json("error", "x", NOW, Some(&bare)), json("debug", "x", NOW, None)] {
            let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            assert_eq!(value.as_object().map(serde_json::Map::len), Some(3), "{line}");
        }
    }

    #[test]
    fn a_text_line_is_quoted_as_logrus_does() {
        assert_eq!(
            text("error", "exec: \"x\": not\there \u{202e}\u{1b}[0m \\", NOW),
            "time=\"2026-11-21T00:10:24.123456789Z\" level=error msg=\"exec: \\\"x\\\": not\\\\there \\\\u{202e}\\\\u{1b}[0m \\\\\"\n"
        );
    }

    #[test]
    fn lines_have_a_limit() {
        let long = "\u{1}€".repeat(LIMIT);
        for line in [text("error", &long, NOW), json("error", &long, NOW, Some(&sample()))] {
            assert!(line.len() < LIMIT, "{}", line.len());
            assert!(line.ends_with("\n"));
        }
        let many = sample().with_more((0..2000).map(|_| sample()).collect());
        let line = json("error", &many.to_string(), NOW, Some(&many));
        assert!(line.len() < LIMIT);
        serde_json::from_str::<serde_json::Value>(&line).expect("JSON");
    }
}
