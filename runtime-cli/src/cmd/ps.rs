//! `coracle ps`.

use std::process::{Command, Stdio};

use coracle::{Error, ErrorKind};

use super::container;
use crate::Globals;
use crate::args::{Given, flags};
use crate::out;

/// Prints the processes: pids in JSON, or the lines of ps(1) that are about them.
pub fn run(globals: &Globals, given: &Given<'_>) -> Result<u8, Error> {
    let pids = container(globals, given)?.processes()?;
    if given.text(&flags::PS_FORMAT) == Some("json") {
        let pids: Vec<String> = pids.iter().map(i32::to_string).collect();
        out::print(format!("[{}]\n", pids.join(",")))?;
        return Ok(0);
    }
    let options = given.rest.get(1..).filter(|options| !options.is_empty());
    let output = Command::new("ps")
        .args(options.unwrap_or(&[std::ffi::OsStr::new("-ef")]))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Error::os("run ps", error).with_hint("install procps, or use --format json"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Error::new(ErrorKind::Usage, format!("ps: {}", words.trim_end())));
    }
    out::print(select(&output.stdout, &pids)?)?;
    Ok(0)
}

/// The heading and the lines whose PID column has one of `pids`. The bytes are those of ps, which escapes what it shows.
fn select(output: &[u8], pids: &[i32]) -> Result<Vec<u8>, Error> {
    let mut lines = output.split_inclusive(|byte| *byte == b'\n');
    let heading = lines.next().unwrap_or_default();
    let column = words(heading).position(|word| word == b"PID").ok_or_else(|| {
        Error::new(ErrorKind::Usage, "couldn't find PID field in ps output")
            .with_hint("add pid to the columns")
    })?;
    let mut selected = heading.to_vec();
    for line in lines {
        let pid = words(line).nth(column).and_then(|word| std::str::from_utf8(word).ok()?.parse().ok());
        if pid.is_some_and(|pid: i32| pids.contains(&pid)) {
            selected.extend_from_slice(line);
        }
    }
    Ok(selected)
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_chosen_by_their_pid_column() {
        let output =
            b"UID   PID  PPID CMD\nroot   10     1 ten\nroot   11    10 eleven 10\nroot  110     1 \xff\n";
        let shown = |pids: &[i32]| select(output, pids).expect("a PID column");
        assert_eq!(shown(&[10]), b"UID   PID  PPID CMD\nroot   10     1 ten\n");
        assert_eq!(
            shown(&[11, 110]),
            b"UID   PID  PPID CMD\nroot   11    10 eleven 10\nroot  110     1 \xff\n"
        );
        assert_eq!(shown(&[]), b"UID   PID  PPID CMD\n");
    }

    #[test]
    fn without_the_column_it_is_an_error() {
        assert!(select(b"UID CMD\nroot x\n", &[1]).is_err());
        assert!(select(b"", &[1]).is_err());
    }
}
