//! Labels of security modules: AppArmor's profile, SELinux's labels of process, keyring and mounts.
//!
//! A label that is asked for on a machine without its module is refused: without it the program would run with more than was asked
//! for. The files that take labels are reached through the host's procfs, opened by the parent before anything of the container is
//! there, and never through a mount on top of one of them (CVE-2025-52881).
//!
//! The order: the keyring's label around the making of the keyring; the process's label after the root change and behind all hooks but
//! startContainer, for what is executed after it is the labelled program.
//!
//! Must not: ask the machine. Tests: at the end of this file; golden plans; `tests` package, lsm.

use super::script::{Open, Script};
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::host::SecurityModules;
use crate::validate::ProcessParts;
use coracle_init::program::{Slot, Step, Str};

/// The labels of one process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Labels<'a> {
    apparmor: Option<&'a str>,
    selinux: Option<&'a str>,
    /// Where the process document stands.
    pointer: &'static str,
    /// The host's procfs.
    proc: Option<Slot>,
}

/// Whether a process asks for a label, so that the machine has to be asked for the module.
pub(crate) fn asks(process: &ProcessParts) -> bool {
    profile(process).is_some() || process.selinux_label.is_some()
}

/// No profile at all is what "unconfined" means.
fn profile(process: &ProcessParts) -> Option<&str> {
    process.apparmor_profile.as_deref().filter(|profile| *profile != "unconfined")
}

/// The error for a label whose module is not enabled.
fn missing(module: &str, pointer: String) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!("a label is asked for, and {module} is not enabled on this machine"),
    )
    .at(pointer)
    .in_phase(Phase::Plan)
    .with_code("lsm-missing")
    .with_hint("without the label the program would be less confined than asked for")
}

/// A mount label that can be had.
///
/// # Errors
/// [`ErrorKind::Unsupported`] without SELinux.
pub(crate) fn mount_label(label: Option<&str>, modules: SecurityModules) -> Result<Option<&str>> {
    match label {
        Some(_) if !modules.selinux => Err(missing("SELinux", "/linux/mountLabel".to_owned())),
        label => Ok(label),
    }
}

/// `option`, the mount label with its key, for the file systems that take one: those of the kernel have labels of their own, and what
/// chose its context by an option keeps it.
pub(crate) fn mount_option(option: Option<&str>, fstype: &str, data: &[String]) -> Option<String> {
    const UNLABELLED: [&str; 4] = ["proc", "sysfs", "cgroup", "cgroup2"];
    let option = option.filter(|_| !UNLABELLED.contains(&fstype))?;
    let chosen = data.iter().any(|word| word.split('=').next().is_some_and(|key| key.ends_with("context")));
    // A value of fsconfig(2) is one string: nothing in it has to be quoted.
    (!chosen).then(|| option.to_owned())
}

impl<'a> Labels<'a> {
    /// What the process asks for, when the machine can give it.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] with the pointer of a label whose module is not enabled.
    pub(crate) fn of(
        process: &'a ProcessParts,
        pointer: &'static str,
        modules: SecurityModules,
        script: &mut Script,
    ) -> Result<Self> {
        let (apparmor, selinux) = (profile(process), process.selinux_label.as_deref());
        if apparmor.is_some() && !modules.apparmor {
            return Err(missing("AppArmor", format!("{pointer}/apparmorProfile")));
        }
        if selinux.is_some() && !modules.selinux {
            return Err(missing("SELinux", format!("{pointer}/selinuxLabel")));
        }
        let mut labels = Self { apparmor, selinux, pointer, proc: None };
        if asks(process) {
            let pointer =
                format!("{pointer}/{}", if apparmor.is_some() { "apparmorProfile" } else { "selinuxLabel" });
            labels.proc = Some(script.open(pointer, Phase::Process, |slot| Open::Proc { slot })?);
        }
        Ok(labels)
    }

    /// Labels keys that are made from now on, or does so no more.
    ///
    /// # Errors
    /// When a label contains NUL.
    pub(crate) fn keys(&self, script: &mut Script, on: bool) -> Result<()> {
        let (Some(proc), Some(label)) = (self.proc, self.selinux) else { return Ok(()) };
        let file = script.str("thread-self/attr/keycreate")?;
        // A line without a label takes it away.
        let text = script.str(if on { label } else { "\n" })?;
        let step = Step::Label { proc, file, other: Str::NONE, text, expect: Str::NONE };
        script.step(format!("{}/selinuxLabel", self.pointer), Phase::Process, step);
        Ok(())
    }

    /// Labels the program that is executed next.
    ///
    /// # Errors
    /// When a label contains NUL.
    pub(crate) fn program(&self, script: &mut Script) -> Result<()> {
        let Some(proc) = self.proc else { return Ok(()) };
        if let Some(profile) = self.apparmor {
            let file = script.str("thread-self/attr/apparmor/exec")?;
            // Before Linux 5.8; where both modules are there, the file is the first one's.
            let other = script.str("thread-self/attr/exec")?;
            let text = script.str(&format!("exec {profile}"))?;
            // The kernel writes the name of a stack or of another namespace in its own way.
            let plain = !profile.starts_with(':') && !profile.contains("//");
            let expect = if plain { script.str(profile)? } else { Str::NONE };
            let step = Step::Label { proc, file, other, text, expect };
            script.step(format!("{}/apparmorProfile", self.pointer), Phase::Process, step);
        }
        if let Some(label) = self.selinux {
            let file = script.str("thread-self/attr/exec")?;
            let text = script.str(label)?;
            let step = Step::Label { proc, file, other: Str::NONE, text, expect: Str::NONE };
            script.step(format!("{}/selinuxLabel", self.pointer), Phase::Process, step);
        }
        script.step("", Phase::Process, Step::Close { fd: proc });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_file_systems_that_take_a_context_get_one() {
        let label = "system_u:object_r:container_file_t:s0:c1,c2";
        let option = |fstype: &str, data: &[&str]| {
            let data: Vec<String> = data.iter().map(|word| (*word).to_owned()).collect();
            mount_option(Some(&format!("context={label}")), fstype, &data)
        };
        for fstype in ["tmpfs", "devpts", "mqueue", "ext4"] {
            assert_eq!(
                option(fstype, &["mode=755"]).as_deref(),
                Some(&*format!("context={label}")),
                "{fstype}"
            );
        }
        for fstype in ["proc", "sysfs", "cgroup", "cgroup2"] {
            assert_eq!(option(fstype, &[]), None, "{fstype}");
        }
        for chosen in ["context=x", "rootcontext=x", "defcontext=x", "fscontext=x"] {
            assert_eq!(option("tmpfs", &[chosen]), None, "{chosen}");
        }
        assert_eq!(mount_option(None, "tmpfs", &[]), None);
    }

    #[test]
    fn a_label_without_its_module_is_refused_at_its_place() {
        let found = SecurityModules { selinux: true, ..SecurityModules::default() };
        assert_eq!(mount_label(Some("a"), found).unwrap(), Some("a"));
        let error = mount_label(Some("a"), SecurityModules::default()).unwrap_err();
        assert_eq!((error.pointer(), error.code()), (Some("/linux/mountLabel"), "lsm-missing"));
        assert_eq!(mount_label(None, SecurityModules::default()).unwrap(), None);
    }
}
