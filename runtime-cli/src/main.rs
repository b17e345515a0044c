//! The `coracle` command: runc's command line on the `coracle` library.
//!
//! Reads flags, calls the library, prints. Everything about containers is the library's; what is here is the contract with
//! people and engines: words, exit codes, logs, the pid file, terminals.
//! Must not: use `unsafe`, start threads, read the environment anywhere but in this directory.
//! Tests: beside the code, and in `tests/` with the built binary.
#![forbid(unsafe_code)]

mod activation;
mod args;
mod cmd;
mod file;
mod foreground;
mod guard;
mod notify;
mod out;
mod relay;
mod root;
mod signals;
mod socket;
mod tty;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use args::commands::{self, Command};
use args::{Given, Order, flags, help, usage};
use coracle::error::escape;
use coracle::{Error, ErrorKind};
use out::log::Log;

/// A command parses one file, plans, clones once and ends: memory is never worth giving back piece by piece.
#[global_allocator]
static HEAP: coracle::ShortLived = coracle::ShortLived::new();

/// What the flags before the command say.
#[derive(Debug, Default)]
pub struct Globals {
    /// Where failures and debug lines go.
    pub log: Log,
    /// `--root`.
    pub root: Option<PathBuf>,
    /// `--systemd-cgroup` or `--cgroup-manager systemd`.
    pub systemd_cgroup: bool,
    /// `--cgroup-manager disabled`.
    pub no_cgroup: bool,
}

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let mut globals = Globals::default();
    ExitCode::from(match program(&words, &mut globals) {
        Ok(code) => code,
        Err(failure) => {
            globals.log.failure(&failure.prefix, &failure.error);
            failure.code
        }
    })
}

/// Why the program ends without success.
struct Failure {
    error: Error,
    prefix: String,
    code: u8,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, prefix: String::new(), code: 1 }
    }
}

fn program(words: &[OsString], globals: &mut Globals) -> Result<u8, Failure> {
    guard::refuse_gained_privileges()?;
    let given = args::split(flags::GLOBAL, words, Order::FlagsFirst)?;
    if given.help {
        out::print(help::program())?;
        return Ok(0);
    }
    *globals = globals_of(&given)?;
    if given.on(&flags::VERSION) {
        out::print(version())?;
        return Ok(0);
    }
    // What is left is the command and its words.
    let after = words.len().saturating_sub(given.rest.len());
    let Some((name, words)) = words.get(after..).and_then(<[OsString]>::split_first) else {
        out::print(help::program())?;
        return Ok(0);
    };
    let command = commands::find(&name.to_string_lossy())?;
    let given = args::split(command.flags, words, command.order)
        .map_err(|error| if error.hint().is_some() { error } else { error.with_hint(see(command)) })?;
    if given.help {
        out::print(help::short(command))?;
        return Ok(0);
    }
    command.check_count(given.rest.len())?;
    (command.run)(globals, &given).map_err(|error| failure(command, &given, error))
}

fn see(command: &Command) -> String {
    format!("see: coracle help {}", command.name)
}

/// `create web: ...`, and `exec` fails with 255 when its program did not run.
fn failure(command: &Command, given: &Given<'_>, error: Error) -> Failure {
    let id = given.rest.first().map(|id| escape(&id.to_string_lossy()).into_owned()).unwrap_or_default();
    let prefixed = command.prefix && error.kind() != ErrorKind::Usage;
    let prefix = if prefixed { format!("{} {id}: ", command.name) } else { String::new() };
    Failure { error, prefix, code: command.failure }
}

fn globals_of(given: &Given<'_>) -> Result<Globals, Error> {
    let json = given.text(&flags::LOG_FORMAT) == Some("json");
    let debug = given.on(&flags::DEBUG) || given.text(&flags::LOG_LEVEL) == Some("debug");
    let log = Log::open(given.path(&flags::LOG).map(log_file).transpose()?, json, debug)?;
    let manager = given.text(&flags::CGROUP_MANAGER);
    let systemd_cgroup = given.on(&flags::SYSTEMD_CGROUP) || manager == Some("systemd");
    if given.on(&flags::SYSTEMD_CGROUP) && manager.is_some_and(|manager| manager != "systemd") {
        return Err(usage("--systemd-cgroup contradicts --cgroup-manager"));
    }
    Ok(Globals {
        log,
        root: given.path(&flags::ROOT).map(PathBuf::from),
        systemd_cgroup,
        no_cgroup: manager == Some("disabled"),
    })
}

/// crun knows three places for the log, by the beginning of its name; here there is one.
fn log_file(path: &Path) -> Result<&Path, Error> {
    let bytes = path.as_os_str().as_bytes();
    match bytes.strip_prefix(b"file:") {
        Some(rest) => Ok(Path::new(OsStr::from_bytes(rest))),
        None if bytes.starts_with(b"journald:") || bytes.starts_with(b"syslog:") => {
            Err(usage(format!("the log goes to a file, not to {}", path.display())))
        }
        None => Ok(path),
    }
}

/// The lines that engines take apart: name and version first, then `key: value`.
fn version() -> String {
    let commit =
        option_env!("CORACLE_COMMIT").map(|commit| format!("commit: {commit}\n")).unwrap_or_default();
    format!("coracle version {}\n{commit}spec: {}\n", env!("CARGO_PKG_VERSION"), coracle::spec::OCI_VERSION)
}
