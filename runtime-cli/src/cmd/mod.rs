//! One file per command. Each reads its flags, calls the library, prints.

pub mod check;
pub mod create;
pub mod delete;
pub mod demo;
pub mod events;
pub mod exec;
pub mod features;
pub mod help;
pub mod kill;
pub mod launch;
pub mod list;
pub mod mounts;
pub mod pause;
pub mod plan;
pub mod process;
pub mod ps;
pub mod run;
pub mod spec;
pub mod start;
pub mod state;
pub mod top;
pub mod update;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use coracle::{Cgroups, Container, ContainerId, Error, ErrorKind, Observer, Runtime, StepEvent};

use crate::Globals;
use crate::args::Given;
use crate::out::log::Log;
use crate::root;

/// The runtime that the flags before the command describe.
pub fn runtime(globals: &Globals) -> Result<Runtime, Error> {
    let root = match &globals.root {
        Some(root) => std::path::absolute(root)
            .map_err(|error| Error::os("find the root directory", error).with_path(root))?,
        None => root::default()?,
    };
    runtime_at(globals, root)
}

/// The same with another state directory.
pub fn runtime_at(globals: &Globals, root: PathBuf) -> Result<Runtime, Error> {
    let cgroups = match (globals.no_cgroup, globals.systemd_cgroup) {
        (true, _) => Cgroups::Disabled,
        (false, true) => Cgroups::Systemd,
        (false, false) => Cgroups::Auto,
    };
    let mut builder =
        Runtime::builder().root(root).cgroups(cgroups).own_process(true).hook_environment_from(environment);
    if globals.systemd_cgroup && !rustix::process::geteuid().is_root() {
        if let Some(bus) = user_bus() {
            builder = builder.bus(bus);
        }
    }
    if globals.log.is_debug() {
        builder = builder.observer(Arc::new(Steps(globals.log.clone())));
    }
    builder.build()
}

/// The socket of the calling user's own bus, where the environment says.
fn user_bus() -> Option<PathBuf> {
    let address = std::env::var("DBUS_SESSION_BUS_ADDRESS").unwrap_or_default();
    // A list of places, each with its options; only sockets in the file system have a path.
    let path = address.split(';').find_map(|one| one.strip_prefix("unix:path=")?.split(',').next());
    path.map(PathBuf::from)
        .or_else(|| std::env::var_os("XDG_RUNTIME_DIR").map(|directory| PathBuf::from(directory).join("bus")))
}

/// The caller's environment, for hooks that have none of their own, without what is about this process and its descriptors.
fn environment() -> Vec<String> {
    let text = |(name, value): (OsString, OsString)| {
        let mut entry = name.into_string().ok()?;
        if entry == "NOTIFY_SOCKET" || ["LISTEN_", "_OCI_"].iter().any(|prefix| entry.starts_with(prefix)) {
            return None;
        }
        entry.push('=');
        entry.push_str(value.to_str()?);
        Some(entry)
    };
    std::env::vars_os().filter_map(text).collect()
}

/// The identifier that is the first argument.
pub fn id(given: &Given<'_>) -> Result<ContainerId, Error> {
    given.argument(0, "the container's ID")?.parse()
}

/// The container that the first argument names.
pub fn container(globals: &Globals, given: &Given<'_>) -> Result<Container, Error> {
    runtime(globals)?.open(&id(given)?)
}

/// Does something with each container in whose ID the first argument, a regular expression, is found. One that fails keeps none of the
/// others from its turn; one that is deleted meanwhile is left out.
///
/// # Errors
/// No regular expression; all that failed, each with its container's name.
pub fn each_matching(
    runtime: &Runtime,
    given: &Given<'_>,
    act: impl Fn(&ContainerId) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut failed = Vec::new();
    for id in runtime.matching(given.argument(0, "a regular expression")?)? {
        match act(&id) {
            Err(error) if error.kind() != ErrorKind::NotFound => failed.push((id, error)),
            _ => {}
        }
    }
    let Some((_, first)) = failed.first() else { return Ok(()) };
    let (kind, code) = (first.kind(), first.code());
    let all: Vec<String> = failed.iter().map(|(id, error)| format!("{id}: {error}")).collect();
    Err(Error::new(kind, all.join("; ")).with_code(code))
}

/// `--debug`: each step with the time it took.
struct Steps(Log);

impl Observer for Steps {
    fn step(&self, event: &StepEvent<'_>) {
        self.0.step(event.phase.as_str(), event.what, event.duration, event.error);
    }
}
