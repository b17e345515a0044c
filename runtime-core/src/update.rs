//! New limits for a container that exists.
//!
//! Must not: read the configuration again (what the container has is in its record). Tests: `tests/root/update.rs`; `cgroup/tests.rs`.

use crate::cgroup::resources::RESOURCES;
use crate::cgroup::update::Update;
use crate::cgroup::{CgroupError, Layout, Refusal};
use crate::container::{Container, no_cgroup, not_running};
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::spec::{IntelRdt, Resources};
use crate::state::{Later, Status};
use crate::validate::{Violation, validate_classes, validate_resources, violations_error};

impl Container {
    /// Changes the limits that `change` names, device rules among them; the others stay as they are. All or nothing: when one cannot be
    /// had, the values before are written back. What the container has afterwards is recorded.
    ///
    /// Values are those of the specification: `memory.swap` counts memory too, so that a new memory limit alone leaves the sum as it was;
    /// zero means "not named". A list of devices replaces the one before, but for a lone "deny all", which says nothing.
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`] when it has stopped; [`ErrorKind::InvalidSpec`] and [`ErrorKind::Unsupported`] with pointers into the
    /// document; what the kernel refuses.
    pub fn update(&self, change: &Resources) -> Result<()> {
        self.update_with_class(change, None)
    }

    /// The same, and new values (`l3CacheSchema`, `memBwSchema`, `schemata`) of the container's own class of cache and memory bandwidth.
    ///
    /// # Errors
    /// As [`Container::update`]; [`ErrorKind::WrongState`] when the container has no class of its own.
    pub fn update_with_class(&self, change: &Resources, class: Option<&IntelRdt>) -> Result<()> {
        let Some(class) = class else { return self.update_limits(change) };
        validate_classes(class).map_err(violations)?;
        let Some(record) = &self.record().rdt else {
            let text = "updating a non-existent Intel RDT configuration is not supported";
            return Err(Error::new(ErrorKind::WrongState, text)
                .with_code("clos-none")
                .with_hint("the configuration has no linux.intelRdt"));
        };
        if self.status()? == Status::Stopped {
            return Err(not_running());
        }
        let before = record.update(class)?;
        if *change == Resources::default() {
            return Ok(());
        }
        self.update_limits(change).map_err(|error| match record.restore(&before) {
            Ok(()) => error,
            Err(second) => error.with_warning(second.to_string()),
        })
    }

    fn update_limits(&self, change: &Resources) -> Result<()> {
        validate_resources(change).map_err(violations)?;
        let lock = self.lock()?;
        let fresh = Self::read(self.runtime(), self.dir().clone())?;
        if fresh.observe()?.status == Status::Stopped {
            return Err(not_running());
        }
        let mut record = fresh.record().clone();
        let had = record.resources()?.cloned().unwrap_or_default();
        let cgroup = record.cgroup.as_ref().map_or(Ok(None), crate::cgroup::CgroupRecord::open)?;
        let mut cgroup = cgroup.filter(|group| !group.is_none()).ok_or_else(no_cgroup)?;
        let update =
            Update::plan(Layout::probe()?, &cgroup, &had, change, record.rootless).map_err(refused)?;
        record.resources = Some(Later::of(&update.resources)?);
        let undo = cgroup.update(&update).map_err(failed)?;
        record.cgroup = Some(cgroup.record());
        lock.write_record(&mut record).map_err(|error| match cgroup.undo(undo) {
            Ok(()) => error,
            Err(second) => error.with_warning(format!("write an earlier value back: {second}")),
        })
    }
}

fn violations(all: Vec<Violation>) -> Error {
    violations_error(all).unwrap_or_else(|| Error::new(ErrorKind::InvalidSpec, "the resources are not valid"))
}

/// Pointers of an update start at its own document.
fn local(pointer: &str) -> String {
    pointer.strip_prefix(RESOURCES).unwrap_or(pointer).to_owned()
}

fn refused(refusal: Refusal) -> Error {
    Error::new(ErrorKind::Unsupported, refusal.reason)
        .at(local(&refusal.pointer))
        .in_phase(Phase::Cgroup)
        .with_code("cgroup-refused")
}

fn failed(error: CgroupError) -> Error {
    let pointer = error.pointer.as_deref().map(local);
    let error = Error::from(error);
    match pointer {
        Some(pointer) => error.at(pointer),
        None => error,
    }
}
