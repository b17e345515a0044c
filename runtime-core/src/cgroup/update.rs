//! Changes the limits of a container that exists: all of what an update asks for, or nothing.
//!
//! What is written over is read before. When a later step fails, everything is written back in reverse.
//! Must not: touch what the update does not name (values that follow from what it names are part of it).
//! Tests: `cgroup/tests.rs`; `tests/root/update.rs` with real containers.

use super::devices::{DeviceRules, V1_ALLOW, canonical_list};
use super::error::{CgroupError, Refusal, Result};
use super::group::Cgroup;
use super::layout::{HierarchyKey, Layout};
use super::make::{enable, verify_lines, write_lines};
use super::plan::{self, DevicesPlan};
use super::resources::merge::{changed, names_devices};
use super::resources::{RESOURCES, Write, plan_update};
use super::set::Journal;
use crate::spec::Resources;

/// An update, converted for the host and for what the container has.
#[derive(Debug)]
pub(crate) struct Update {
    layout: Layout,
    writes: Vec<Write>,
    /// New and old, when they differ.
    devices: Option<(DevicesPlan, DevicesPlan)>,
    /// All limits afterwards, for the unit that systemd has.
    unit: Option<Vec<Write>>,
    /// What the container has afterwards.
    pub(crate) resources: Resources,
}

/// What to do to have the old values again.
#[derive(Debug, Default)]
pub(crate) struct Undo {
    journal: Journal,
    /// Old and new.
    devices: Option<(DevicesPlan, DevicesPlan)>,
    /// systemd was told of the new ones.
    told: bool,
}

impl Update {
    /// Plans an update of a container with `cgroup` that has the limits `had`.
    ///
    /// # Errors
    /// What the host cannot do, with the pointer of `config.json`'s own property.
    pub(crate) fn plan(
        mut layout: Layout,
        cgroup: &Cgroup,
        had: &Resources,
        change: &Resources,
        rootless: bool,
    ) -> Result<Self, Refusal> {
        layout.hierarchies.retain(|one| cgroup.has(&one.key()));
        let all = changed(had, change, &layout)?;
        let devices = if names_devices(change) {
            devices(&layout, cgroup, had, &all.resources, rootless)?
        } else {
            None
        };
        let unit = cgroup.unit.as_ref().map(|_| plan_update(&all.resources, &layout)).transpose()?;
        Ok(Self { layout, writes: all.writes, devices, unit, resources: all.resources })
    }
}

fn devices(
    layout: &Layout,
    cgroup: &Cgroup,
    had: &Resources,
    wanted: &Resources,
    rootless: bool,
) -> Result<Option<(DevicesPlan, DevicesPlan)>, Refusal> {
    let (old, new) = (DeviceRules::new(&had.devices)?, DeviceRules::new(&wanted.devices)?);
    if old == new {
        return Ok(None);
    }
    if rootless {
        return Err(Refusal::new(
            format!("{RESOURCES}/devices"),
            "device rules cannot be changed without privileges: the nodes bound in are what there is",
        ));
    }
    let planned = |key: &HierarchyKey| cgroup.has(key);
    Ok(Some((plan::devices(layout, &planned, &new)?, plan::devices(layout, &planned, &old)?)))
}

impl Cgroup {
    /// Carries an update out. Processes see the old value of each file or the new one; device rules are replaced last and at once.
    ///
    /// # Errors
    /// The call that failed, with its pointer; the values before are back then, but for those that the note names.
    pub(crate) fn update(&mut self, update: &Update) -> Result<Undo> {
        let mut undo = Undo::default();
        match self.try_update(update, &mut undo) {
            Ok(()) => Ok(undo),
            Err(error) => Err(match self.undo(undo) {
                Ok(()) => error,
                Err(second) => {
                    error.note(format!("and an earlier value could not be written back: {second}"))
                }
            }),
        }
    }

    fn try_update(&mut self, update: &Update, undo: &mut Undo) -> Result<()> {
        self.enable_for(update)?;
        self.set_noting(&update.writes, &mut undo.journal)?;
        // After the files, for only they show what was there before. systemd writes what it is told; the last word is ours.
        if let (Some(unit), Some(limits)) = (&self.unit, &update.unit) {
            unit.set(limits)?;
            undo.told = true;
            self.set(&update.writes)?;
        }
        if let Some((new, old)) = &update.devices {
            // Lines are written one after the other: what was written before a failure is taken back too.
            undo.devices = Some((old.clone(), new.clone()));
            self.change_devices(new, old)?;
        }
        Ok(())
    }

    /// Writes the values of before.
    ///
    /// # Errors
    /// The first that cannot be written; the others are.
    pub(crate) fn undo(&mut self, undo: Undo) -> Result<()> {
        let devices = undo.devices.map_or(Ok(()), |(old, new)| self.change_devices(&old, &new));
        let unit = self.unit.as_ref().filter(|_| undo.told);
        let unit = unit.map_or(Ok(()), |unit| unit.set(&undo.journal.writes()));
        self.set_back(undo.journal).and(devices).and(unit)
    }

    /// A controller that nobody needed until now.
    fn enable_for(&self, update: &Update) -> Result<()> {
        let Some(member) = self.v2() else { return Ok(()) };
        let mut required: Vec<String> = Vec::new();
        for write in update.writes.iter().filter(|write| write.hierarchy == *member.hierarchy()) {
            let name = write.file.split('.').next().unwrap_or_default();
            if name != "cgroup" && !required.iter().any(|have| have == name) {
                required.push(name.to_owned());
            }
        }
        let top = update.layout.v2().and_then(|v2| v2.writable.clone());
        match (required.first(), top) {
            (Some(_), Some(top)) => enable(&member.asking_for(top, required), &member.dir),
            _ => Ok(()),
        }
    }

    fn change_devices(&mut self, new: &DevicesPlan, old: &DevicesPlan) -> Result<()> {
        match (new, old) {
            (DevicesPlan::Program { program, .. }, _) => self.attach(program),
            (DevicesPlan::Lines { hierarchy, lines }, _) => self.switch_lines(hierarchy, lines),
            (DevicesPlan::Unrestricted | DevicesPlan::NodesBoundIn, DevicesPlan::Lines { hierarchy, .. }) => {
                self.switch_lines(&hierarchy.clone(), &[(V1_ALLOW.to_owned(), "a".to_owned())])
            }
            (DevicesPlan::Unrestricted | DevicesPlan::NodesBoundIn, _) => self.detach(),
        }
    }

    /// From one allow list to another without a moment in which something that both allow is denied: first what is new, then away with
    /// what is not in it. From and to "everything but" the kernel has no such way.
    fn switch_lines(&self, hierarchy: &HierarchyKey, lines: &[(String, String)]) -> Result<()> {
        const ALL: &str = "a *:* rwm";
        let pointer = format!("{RESOURCES}/devices");
        let dir = &self.member(hierarchy)?.dir;
        let at = |error: CgroupError| error.at(&pointer);
        let list = dir.read("devices.list").map_err(at)?;
        let now = canonical_list(list.lines());
        let is_list = lines.first().is_some_and(|(file, _)| file != V1_ALLOW) && now != [ALL];
        if !is_list {
            return write_lines(self, hierarchy, lines);
        }
        let wanted: Vec<&str> = lines.iter().skip(1).map(|(_, line)| line.as_str()).collect();
        for line in wanted.iter().filter(|line| !now.iter().any(|have| have == *line)) {
            dir.write(V1_ALLOW, line).map_err(at)?;
        }
        for line in &now {
            let Some((nodes, access)) = line.rsplit_once(' ') else { continue };
            let kept =
                wanted.iter().find_map(|wanted| wanted.rsplit_once(' ').filter(|(same, _)| *same == nodes));
            let kept = kept.map_or("", |(_, access)| access);
            let gone: String = access.chars().filter(|letter| !kept.contains(*letter)).collect();
            if !gone.is_empty() {
                dir.write("devices.deny", &format!("{nodes} {gone}")).map_err(at)?;
            }
        }
        verify_lines(dir, lines).map_err(at)
    }
}
