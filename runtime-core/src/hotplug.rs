//! Mounts that a running container gets, or loses.
//!
//! Must not: follow a link inside, or touch what the container is isolated by. Tests: `tests` package, hotplug.

use crate::container::{Container, not_running};
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::exec::{same_user_namespace, user_namespace};
use crate::launch::session::{Session, Setting};
use crate::plan::added::{self, Target};
use crate::plan::script::Script;
use crate::spec::Mount;
use crate::state::{Observed, Status};
use crate::validate::{ValidMount, validate_mounts, violations_error};

impl Container {
    /// Mounts further file systems and trees in a container that exists; relative sources start at its bundle. They are gone with it, and
    /// its record does not know them. When one cannot be had, those before it stay.
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`] when it has stopped; [`ErrorKind::InvalidSpec`] and [`ErrorKind::Unsupported`] with pointers into the
    /// list; what the kernel refuses. A destination that is reached through a link is refused.
    pub fn add_mounts(&self, mounts: &[Mount]) -> Result<()> {
        let valid = checked(mounts)?;
        let seen = self.alive()?;
        let (user_namespace, root_is_mapped, groups_denied) = self.user_namespace_facts(&seen)?;
        let script = added::add(
            &valid,
            Target {
                bundle: self.bundle(),
                rootfs: self.rootfs(),
                user_namespace,
                root_is_mapped,
                groups_denied,
                kernel: self.runtime().facts()?.kernel,
            },
        )?;
        self.errand(&seen, script)
    }

    /// Takes away what is mounted at the destinations of these; nothing else of them is looked at. What is still used goes when it is not.
    ///
    /// # Errors
    /// As for [`Container::add_mounts`], and when nothing is mounted there. `/proc`, `/sys`, `/dev` and what is mounted below the first
    /// two are refused.
    pub fn remove_mounts(&self, mounts: &[Mount]) -> Result<()> {
        // Only the place counts, and a bind mount asks for nothing else.
        let bare = |mount: &Mount| Mount {
            destination: mount.destination.clone(),
            source: Some("/".to_owned()),
            options: vec!["bind".to_owned()],
            ..Mount::default()
        };
        let valid = checked(&mounts.iter().map(bare).collect::<Vec<_>>())?;
        let seen = self.alive()?;
        let (user_namespace, ..) = self.user_namespace_facts(&seen)?;
        self.errand(&seen, added::remove(&valid, user_namespace)?)
    }

    fn user_namespace_facts(&self, seen: &Observed) -> Result<(bool, bool, bool)> {
        same_user_namespace(self.record(), Self::init_fd(seen)?)?;
        match &self.record().init {
            Some(init) if self.record().namespaces.iter().any(|n| n.kind == "user") => {
                user_namespace(init.pid).map(|(root, denied)| (true, root, denied))
            }
            _ => Ok((false, true, false)),
        }
    }

    fn alive(&self) -> Result<Observed> {
        let seen = self.observe()?;
        match seen.status {
            Status::Created | Status::Running | Status::Paused => Ok(seen),
            _ => Err(not_running()),
        }
    }

    /// Has a process of its own do it, which is in none of the container's cgroups.
    fn errand(&self, seen: &Observed, script: Script) -> Result<()> {
        self.own_mount_namespace()?;
        let setting = Setting { init: Some(Self::init_fd(seen)?), ..Setting::default() };
        Session::begin(script, setting, &self.runtime().watch())?.until_done()
    }

    /// A program with the rights for it may have gone into a mount namespace of its own, where its `/` is whatever it likes.
    fn own_mount_namespace(&self) -> Result<()> {
        let wrong = |text| {
            Err(Error::new(ErrorKind::WrongState, text)
                .in_phase(Phase::Namespaces)
                .with_code("mount-namespace"))
        };
        let record = self.record();
        let recorded = record.namespaces.iter().find(|namespace| namespace.kind == "mnt");
        let (Some(recorded), Some(init)) = (recorded, &record.init) else {
            return wrong("the container has no mount namespace of its own");
        };
        let path = format!("/proc/{}/ns/mnt", init.pid);
        let now = rustix::fs::stat(&path).map_err(|e| {
            Error::os("look at the container's mount namespace", e)
                .with_path(path)
                .in_phase(Phase::Namespaces)
        })?;
        // An unprivileged creator could not look.
        if recorded.ino != 0 && recorded.ino != now.st_ino {
            return wrong("the container's first process left its mount namespace");
        }
        Ok(())
    }
}

fn checked(mounts: &[Mount]) -> Result<Vec<ValidMount>> {
    validate_mounts(mounts).map_err(|violations| {
        violations_error(violations)
            .unwrap_or_else(|| Error::new(ErrorKind::InvalidSpec, "the mounts are not valid"))
    })
}
