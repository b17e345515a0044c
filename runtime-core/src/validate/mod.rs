//! From a document to what holding it proves.
//!
//! For: every rule of the specification and of the contract that the document alone can break, each violation with its
//! JSON pointer, all at once. What a rule has to take apart anyway is kept in its typed form.
//! Must not: look at the machine (no file, no environment, no system call), fill in defaults, or decide an order.
//! Order: the rules are independent; the sequence below is that of the document, so that messages come in its order.
//! Tests: `tests` (a table: document, pointer, code), and beside the parts that are pure functions.

pub(crate) mod annotations;
mod capabilities;
mod devices;
mod hooks;
mod idmap_words;
mod linux;
mod lists;
mod mount_options;
mod mounts;
mod namespaces;
mod process;
mod report;
mod resources;
mod scheduling;
mod seccomp;
mod sysctl;
#[cfg(test)]
mod tests;
pub(crate) mod unbuilt;
mod version;

use std::ops::Deref;

pub use capabilities::{CapabilitySets, capability_bit, known_capabilities};
pub use devices::{DeviceKind, RuleKind, ValidDevice, ValidDeviceRule};
pub use hooks::{HookPoint, ValidHook};
pub use linux::MemoryPlacement;
pub use lists::IndexList;
pub use mount_options::{Bits, MountOptions, Propagation, PropagationKind, attr, known_options, superblock};
pub use mounts::{IdMap, ValidMount};
pub use namespaces::{Clock, ClockOffset, Namespace, NamespaceKind, Namespaces};
pub use process::{ProcessParts, ResourceLimit, ValidUser};
pub use report::{Violation, Warning, violations_error};
pub use scheduling::{IoClass, SchedulingPolicy};
pub use seccomp::{SeccompListener, SeccompParts};
pub use sysctl::Sysctl;

use crate::error::{Error, ErrorKind};
use crate::spec::{IntelRdt, Linux, Mount, Process, Resources, Spec};
use report::{Place, Report, shown};

/// The closed lists of words that no public type has, for the features document.
pub(crate) mod words {
    use super::linux;

    /// `MPOL_*`
    pub fn memory_modes() -> impl Iterator<Item = &'static str> {
        linux::MODES.iter().map(|(name, _)| *name)
    }

    /// `MPOL_F_*`
    pub fn memory_flags() -> impl Iterator<Item = &'static str> {
        linux::MODE_FLAGS.iter().map(|(name, _)| *name)
    }
}

/// Devices, hooks of one kind, limits: more than any document has.
const MOST_ENTRIES: usize = 4096;
/// Device rules.
const MOST_RULES: usize = 65_536;
/// Paths of one list.
const MOST_PATHS: usize = 100_000;

/// What validation made of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Parts {
    /// The document itself.
    pub spec: Spec,
    /// The program to run.
    pub process: ProcessParts,
    /// Path of the root file system, absolute or relative to the bundle, never empty.
    pub root: String,
    /// Whether the root is read-only inside.
    pub readonly: bool,
    /// Mounts, in order.
    pub mounts: Vec<ValidMount>,
    /// Hooks: by point in the order of the life cycle, at each point in the order of the document.
    pub hooks: Vec<ValidHook>,
    /// Host name; never empty.
    pub hostname: Option<String>,
    /// NIS domain name; never empty.
    pub domainname: Option<String>,
    /// Namespaces; there is always a mount namespace.
    pub namespaces: Namespaces,
    /// Clocks of a new time namespace.
    pub time_offsets: Vec<ClockOffset>,
    /// Kernel parameters.
    pub sysctl: Vec<Sysctl>,
    /// Device nodes to make, beside the default ones.
    pub devices: Vec<ValidDevice>,
    /// Who may use which device, in order.
    pub device_rules: Vec<ValidDeviceRule>,
    /// Where the cgroup is: a path without `..`, or systemd's `slice:prefix:name`; never empty.
    pub cgroups_path: Option<String>,
    /// Propagation of the root.
    pub rootfs_propagation: Option<Propagation>,
    /// There is a filter in the document, and this belongs to it.
    pub seccomp: Option<SeccompParts>,
    /// SELinux label of mounts.
    pub mount_label: Option<String>,
    /// Arguments for set_mempolicy(2).
    pub memory_policy: Option<MemoryPlacement>,
    /// Argument for personality(2).
    pub personality: Option<u32>,
    /// What annotations ask for.
    pub effects: annotations::Effects,
    /// What the writer of the document should know.
    pub warnings: Vec<Warning>,
}

/// A configuration that breaks no rule.
///
/// Holding one proves that [`validate`] found nothing: every word is known, every number in its range, every path has
/// the form it needs, what belongs together is there together, and nothing is asked for that this version would leave
/// out. It proves nothing about the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidSpec(Parts);

impl Deref for ValidSpec {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl ValidSpec {
    /// Adds variables that do not come from the configuration.
    pub(crate) fn add_environment(&mut self, more: Vec<String>) -> Result<(), Error> {
        if let Some(entry) =
            more.iter().find(|entry| entry.starts_with('=') || !entry.contains('=') || entry.contains('\0'))
        {
            return Err(Error::new(
                ErrorKind::Usage,
                format!("{} is no variable (NAME=value)", shown(entry)),
            ));
        }
        self.0.process.env.extend(more);
        Ok(())
    }
}

/// A process document that breaks no rule; as [`ValidSpec`], for exec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidProcess {
    parts: ProcessParts,
    warnings: Vec<Warning>,
}

impl ValidProcess {
    /// What the writer of the document should know.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

impl Deref for ValidProcess {
    type Target = ProcessParts;

    fn deref(&self) -> &ProcessParts {
        &self.parts
    }
}

/// Checks a configuration for `create`.
///
/// # Errors
/// All violations, in the order of the document's parts.
pub fn validate(spec: Spec) -> Result<ValidSpec, Vec<Violation>> {
    let mut report = Report::default();
    let parts = container(spec, &Place::ROOT, &mut report);
    if report.violations.is_empty() {
        Ok(ValidSpec(Parts { warnings: report.warnings, ..parts }))
    } else {
        Err(report.violations)
    }
}

fn container(mut spec: Spec, at: &Place<'_>, report: &mut Report) -> Parts {
    seccomp_receiver(&mut spec);
    let absent = Linux::default();
    let linux = spec.linux.as_ref().unwrap_or(&absent);
    let linux_at = at.key("linux");
    version::oci_version(&spec.oci_version, &at.key("ociVersion"), report);
    let process = program(&spec, at, report);
    let namespaces = namespaces::namespaces(&linux.namespaces, &linux_at.key("namespaces"), report);
    let (root, readonly) = root(&spec, at, report);
    let mounts = mounts::mounts(&spec.mounts, (&namespaces, linux), &at.key("mounts"), report);
    namespaces::names(&spec, &namespaces, at, report);
    let hooks = part(&spec.hooks, &at.key("hooks"), report, hooks::hooks);
    texts_of_annotations(&spec, at, report);
    if namespaces::user_namespace(linux, &namespaces, &linux_at, report) {
        mapped_ids(&process, linux, &namespaces, at, report);
    }
    linux::covered_paths(linux, &linux_at, report);
    linux::net_devices(linux, &namespaces, &linux_at, report);
    part(&linux.intel_rdt, &linux_at.key("intelRdt"), report, linux::intel_rdt);
    let filled = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
    Parts {
        process,
        root,
        readonly,
        mounts,
        hooks: hooks.unwrap_or_default(),
        hostname: filled(&spec.hostname),
        domainname: filled(&spec.domainname),
        time_offsets: namespaces::time_offsets(linux, &namespaces, &linux_at, report),
        sysctl: sysctl::sysctls(&linux.sysctl, &namespaces, &linux_at.key("sysctl"), report),
        devices: devices::devices(&linux.devices, &linux_at.key("devices"), report),
        device_rules: part(&linux.resources, &linux_at.key("resources"), report, resources::resources)
            .unwrap_or_default(),
        cgroups_path: linux::cgroups_path(linux, &linux_at, report),
        rootfs_propagation: linux::rootfs_propagation(linux, &linux_at, report),
        seccomp: part(&linux.seccomp, &linux_at.key("seccomp"), report, seccomp::seccomp).flatten(),
        mount_label: process::label("mountLabel", linux.mount_label.as_deref(), &linux_at, report),
        memory_policy: part(
            &linux.memory_policy,
            &linux_at.key("memoryPolicy"),
            report,
            linux::memory_policy,
        )
        .flatten(),
        personality: part(&linux.personality, &linux_at.key("personality"), report, linux::personality)
            .flatten(),
        namespaces,
        effects: annotations::effects(&spec.annotations, &at.key("annotations"), report),
        warnings: Vec::new(),
        spec,
    }
}

/// The socket that an annotation names, where the filter names none.
fn seccomp_receiver(spec: &mut Spec) {
    let Some(path) = spec.annotations.get(annotations::RECEIVER).filter(|path| path.starts_with('/')) else {
        return;
    };
    if let Some(filter) = spec.linux.as_mut().and_then(|linux| linux.seccomp.as_mut()) {
        filter.listener_path.get_or_insert_with(|| path.clone());
    }
}

/// Applies a rule to a part of the document that may be absent.
fn part<T, R>(
    document: &Option<T>,
    at: &Place<'_>,
    report: &mut Report,
    rule: fn(&T, &Place<'_>, &mut Report) -> R,
) -> Option<R> {
    document.as_ref().map(|document| rule(document, at, report))
}

fn program(spec: &Spec, at: &Place<'_>, report: &mut Report) -> ProcessParts {
    let at = at.key("process");
    match &spec.process {
        Some(document) => process::process(document, process::Use::Create, &at, report),
        None => {
            report.refuse(&at, "process-missing", "is missing: there is no program to run");
            // What the rules say about a process that is not there is of no use to anybody.
            process::process(&Process::default(), process::Use::Create, &at, &mut Report::default())
        }
    }
}

/// Checks a process document for `exec`. Pointers start at the document, not at `/process`.
///
/// # Errors
/// All violations. Other than for `create`, the ids to run as have to be given.
pub fn validate_process(process: &Process) -> Result<ValidProcess, Vec<Violation>> {
    let mut report = Report::default();
    let parts = process::process(process, process::Use::Exec, &Place::ROOT, &mut report);
    if report.violations.is_empty() {
        Ok(ValidProcess { parts, warnings: report.warnings })
    } else {
        Err(report.violations)
    }
}

/// Checks a resources document for `update`; pointers start at the document. Returns its device rules.
///
/// # Errors
/// All violations.
pub fn validate_resources(resources: &Resources) -> Result<Vec<ValidDeviceRule>, Vec<Violation>> {
    let mut report = Report::default();
    let rules = resources::resources(resources, &Place::ROOT, &mut report);
    if report.violations.is_empty() { Ok(rules) } else { Err(report.violations) }
}

/// Checks new values of a class of cache and bandwidth; pointers start at the document.
///
/// # Errors
/// All violations.
pub fn validate_classes(class: &IntelRdt) -> Result<(), Vec<Violation>> {
    let mut report = Report::default();
    linux::intel_rdt(class, &Place::ROOT, &mut report);
    if report.violations.is_empty() { Ok(()) } else { Err(report.violations) }
}

/// Checks a list of mounts for a running container; pointers start at the list.
///
/// # Errors
/// All violations.
pub fn validate_mounts(list: &[Mount]) -> Result<Vec<ValidMount>, Vec<Violation>> {
    let mut report = Report::default();
    let mounts = mounts::mounts(list, (&Namespaces::default(), &Linux::default()), &Place::ROOT, &mut report);
    if report.violations.is_empty() { Ok(mounts) } else { Err(report.violations) }
}

fn root(spec: &Spec, at: &Place<'_>, report: &mut Report) -> (String, bool) {
    let at = at.key("root");
    match &spec.root {
        Some(root) => {
            report.path(&at.key("path"), &root.path);
            (root.path.clone(), root.readonly == Some(true))
        }
        None => {
            report.refuse(&at, "root-missing", "is missing: there is no root file system");
            (String::new(), false)
        }
    }
}

fn texts_of_annotations(spec: &Spec, at: &Place<'_>, report: &mut Report) {
    let at = at.key("annotations");
    for (key, value) in &spec.annotations {
        let at = at.key(key);
        if key.is_empty() {
            report.refuse(&at, "annotation-key-empty", "has an empty key");
        }
        report.text(&at, key);
        report.text(&at, value);
    }
}

/// An id that is not mapped cannot be taken on (user_namespaces(7)). The maps of a joined namespace are not known here.
fn mapped_ids(
    process: &ProcessParts,
    linux: &Linux,
    namespaces: &Namespaces,
    at: &Place<'_>,
    report: &mut Report,
) {
    let (uids, gids) = (&linux.uid_mappings, &linux.gid_mappings);
    if !namespaces.is_new(NamespaceKind::User) {
        return;
    }
    let process_at = at.key("process");
    let at = process_at.key("user");
    let groups = at.key("additionalGids");
    let user = &process.user;
    let single = [(at.key("uid"), uids, user.uid), (at.key("gid"), gids, user.gid)];
    let more = user.additional_gids.iter().enumerate().map(|(index, gid)| (groups.index(index), gids, *gid));
    for (at, mappings, id) in single.into_iter().chain(more) {
        if !namespaces::is_mapped(mappings, id) {
            report.refuse(&at, "id-not-mapped", format!("is {id}, which the user namespace does not map"));
        }
    }
}
