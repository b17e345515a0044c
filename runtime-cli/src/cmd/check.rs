//! `coracle check`: everything that is wrong with a bundle, at once.

use std::fmt::Write;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use coracle::error::escape;
use coracle::spec::{self, LoadError, Spec};
use coracle::validate::{Violation, Warning, validate};
use coracle::{Error, ErrorKind};
use rustix::fs::{FileType, Mode, OFlags};
use serde_json::json;

use crate::Globals;
use crate::args::{Given, flags};
use crate::out;

/// One thing that was found.
#[derive(Debug, Default, PartialEq, Eq)]
struct Finding {
    /// Not accepted by `create`; else it has no effect or an unexpected one.
    error: bool,
    pointer: String,
    message: String,
    /// Line and column, from 1.
    place: Option<(usize, usize)>,
    context: String,
    hint: Option<String>,
    code: String,
}

/// Prints the findings; 1 when one of them is an error.
pub fn run(globals: &Globals, given: &Given<'_>) -> Result<u8, Error> {
    let bundle = Path::new(given.rest.first().copied().unwrap_or_default());
    let config = read(bundle)?;
    let mut findings = findings(&config);
    if !given.on(&flags::CHECK_DOCUMENT) && !findings.iter().any(|finding| finding.error) {
        findings.extend(on_this_machine(globals, bundle)?);
    }
    let json = given.text(&flags::CHECK_FORMAT) == Some("json");
    out::print(if json { as_json(&findings) } else { as_text(&bundle.join("config.json"), &findings) })?;
    Ok(u8::from(findings.iter().any(|finding| finding.error)))
}

fn read(bundle: &Path) -> Result<Vec<u8>, Error> {
    let path = bundle.join("config.json");
    let failed = |errno: rustix::io::Errno| Error::os("open the configuration", errno).with_path(&path);
    let directory =
        rustix::fs::open(bundle, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| Error::os("open the bundle", errno).with_path(bundle))?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let fd = rustix::fs::openat(directory.as_fd(), "config.json", flags, Mode::empty()).map_err(failed)?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&fd).map_err(failed)?.st_mode);
    if kind != FileType::RegularFile {
        return Err(
            Error::new(ErrorKind::InvalidSpec, "the configuration is not a regular file").with_path(path)
        );
    }
    spec::read_document(&File::from(fd))
        .map_err(|error| Error::new(ErrorKind::InvalidSpec, error.message).with_path(&path))
}

fn findings(config: &[u8]) -> Vec<Finding> {
    let mut found: Vec<Finding> = match Spec::from_slice(config) {
        Ok(spec) => match validate(spec) {
            Ok(valid) => valid.warnings.iter().cloned().map(Finding::from).collect(),
            Err(violations) => violations.into_iter().map(Finding::from).collect(),
        },
        Err(error) => vec![unreadable(error)],
    };
    found.extend(spec::unknown_keys(config).into_iter().map(|key| Finding {
        message: "is not a property of the specification and has no effect".to_owned(),
        hint: key.did_you_mean.map(|near| format!("did you mean {near:?}?")),
        code: "unknown-property".to_owned(),
        pointer: key.pointer,
        ..Finding::default()
    }));
    found
}

/// What this machine and this user cannot do.
fn on_this_machine(globals: &Globals, bundle: &Path) -> Result<Vec<Finding>, Error> {
    let Err(error) = super::plan::of(globals, bundle) else { return Ok(Vec::new()) };
    let finding = |error: &Error| Finding {
        error: true,
        pointer: error.pointer().unwrap_or_default().to_owned(),
        message: sentence(error),
        hint: error.hint().map(str::to_owned),
        code: error.code().to_owned(),
        ..Finding::default()
    };
    Ok(std::iter::once(&error).chain(error.more()).map(finding).collect())
}

/// The message without pointer and hint, which have places of their own.
fn sentence(error: &Error) -> String {
    let report = error.report();
    let line = report.lines().next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    match error.path() {
        Some(path) => format!("{line} ({})", path.display()),
        None => line.to_owned(),
    }
}

impl From<Violation> for Finding {
    fn from(violation: Violation) -> Self {
        Self {
            error: true,
            pointer: violation.pointer,
            message: violation.message,
            hint: violation.hint.map(str::to_owned),
            code: violation.code.to_owned(),
            ..Self::default()
        }
    }
}

impl From<Warning> for Finding {
    fn from(warning: Warning) -> Self {
        Self {
            pointer: warning.pointer,
            message: warning.message,
            code: warning.code.to_owned(),
            ..Self::default()
        }
    }
}

fn unreadable(error: LoadError) -> Finding {
    Finding {
        error: true,
        place: (error.line != 0).then_some((error.line, error.column)),
        pointer: error.pointer,
        message: error.message,
        context: error.context,
        code: "unreadable".to_owned(),
        ..Finding::default()
    }
}

fn as_text(path: &Path, findings: &[Finding]) -> String {
    let path = path.to_string_lossy();
    let path = escape(&path);
    let mut out = String::new();
    for finding in findings {
        let level = if finding.error { "error" } else { "warning" };
        let _ = write!(out, "{level}: {path}");
        if let Some((line, column)) = finding.place {
            let _ = write!(out, ":{line}:{column}");
        }
        if !finding.pointer.is_empty() {
            let _ = write!(out, ": {}", escape(&finding.pointer));
        }
        let _ = writeln!(out, ": {}", escape(&finding.message));
        if !finding.context.is_empty() {
            let _ = writeln!(out, "   | {}", finding.context);
        }
        if let Some(hint) = &finding.hint {
            let _ = writeln!(out, "   help: {}", escape(hint));
        }
    }
    let errors = findings.iter().filter(|finding| finding.error).count();
    let _ = match (errors, findings.len() - errors) {
        (0, 0) => writeln!(out, "{path}: nothing wrong"),
        (errors, warnings) => writeln!(out, "{path}: errors: {errors}, warnings: {warnings}"),
    };
    out
}

fn as_json(findings: &[Finding]) -> String {
    let list: Vec<_> = findings
        .iter()
        .map(|finding| {
            json!({
                "level": if finding.error { "error" } else { "warning" },
                "pointer": finding.pointer,
                "msg": finding.message,
                "line": finding.place.map(|place| place.0),
                "column": finding.place.map(|place| place.1),
                "code": finding.code,
                "hint": finding.hint,
            })
        })
        .collect();
    format!("{}\n", serde_json::Value::from(list))
}
