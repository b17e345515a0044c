//! Device nodes, and who may use which device.
//!
//! For: `linux.devices` and `linux.resources.devices`.
//! Must not: look for the devices on the machine. Tests: `tests`.

use super::mounts::clean;
use super::report::{Place, Report, shown};
use super::{MOST_ENTRIES, MOST_RULES};
use crate::spec::{Device, DeviceRule, Id};

/// What the kernel's dev_t can hold (linux/kdev_t.h, MINORBITS).
const MAJOR_MAX: i64 = 4095;
const MINOR_MAX: i64 = 1_048_575;

/// Kinds of device nodes (mknod(2)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// `S_IFCHR`
    Char,
    /// `S_IFBLK`
    Block,
    /// `S_IFIFO`
    Fifo,
}

const KINDS: [(&str, DeviceKind); 4] =
    [("b", DeviceKind::Block), ("c", DeviceKind::Char), ("p", DeviceKind::Fifo), ("u", DeviceKind::Char)];

/// A device node to make.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ValidDevice {
    /// Index in the document.
    pub index: usize,
    /// Absolute path in the container, without `.`, `..` and empty components.
    pub path: String,
    /// What it is.
    pub kind: DeviceKind,
    /// Major number, at most 4095; 0 for a fifo.
    pub major: u32,
    /// Minor number, at most 1048575; 0 for a fifo.
    pub minor: u32,
    /// Permission bits; absent means that the document has none.
    pub mode: Option<u32>,
    /// Owner inside.
    pub uid: Option<Id>,
    /// Group inside.
    pub gid: Option<Id>,
}

pub(super) fn devices(list: &[Device], at: &Place<'_>, report: &mut Report) -> Vec<ValidDevice> {
    if !report.count(at, list.len(), MOST_ENTRIES) {
        return Vec::new();
    }
    let all = list.iter().enumerate().filter_map(|(index, it)| device(it, index, &at.index(index), report));
    let found: Vec<ValidDevice> = all.collect();
    // A privileged container has hundreds: sorted by path, equal ones are neighbours.
    let mut by_path: Vec<&ValidDevice> = found.iter().collect();
    by_path.sort_by(|a, b| a.path.cmp(&b.path));
    for pair in by_path.windows(2) {
        if let [first, second] = pair {
            let differs = (first.kind, first.major, first.minor) != (second.kind, second.major, second.minor);
            if first.path == second.path && differs {
                let message = format!("puts another device where /linux/devices/{} is", first.index);
                report.refuse(&at.index(second.index).key("path"), "device-twice", message);
            }
        }
    }
    found
}

fn device(device: &Device, index: usize, at: &Place<'_>, report: &mut Report) -> Option<ValidDevice> {
    report.absolute(&at.key("path"), &device.path);
    let path = clean(&device.path);
    if path == "/" {
        report.refuse(&at.key("path"), "device-path", "expects a path below /");
    }
    let mode = device.file_mode.map(|mode| {
        // The type bits repeat `type`; runc drops them too.
        if mode & !0o177_777 != 0 {
            let message = format!("expects permission bits, at most 65535 (octal 177777), found {mode}");
            report.refuse(&at.key("fileMode"), "value-out-of-range", message);
        }
        mode & 0o7777
    });
    let kind = report.word(&at.key("type"), &device.kind, &KINDS)?;
    let mut number = |key, number: Option<i64>, most| match number {
        _ if kind == DeviceKind::Fifo => Some(0),
        Some(number) if (0..=most).contains(&number) => u32::try_from(number).ok(),
        Some(number) => {
            report.refuse(&at.key(key), "value-out-of-range", format!("expects 0 to {most}, found {number}"));
            None
        }
        None => {
            report.refuse(
                &at.key(key),
                "device-number-missing",
                "expects a number, which every device but a fifo has",
            );
            None
        }
    };
    let (major, minor) = (number("major", device.major, MAJOR_MAX), number("minor", device.minor, MINOR_MAX));
    let (major, minor) = (major?, minor?);
    Some(ValidDevice { index, path, kind, major, minor, mode, uid: device.uid, gid: device.gid })
}

/// What a device rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleKind {
    /// Every device.
    All,
    /// Character devices.
    Char,
    /// Block devices.
    Block,
}

/// Whether devices can be used; the last rule that fits counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ValidDeviceRule {
    /// Allowed or denied.
    pub allow: bool,
    /// Which devices.
    pub kind: RuleKind,
    /// Major number; absent is any.
    pub major: Option<u32>,
    /// Minor number; absent is any.
    pub minor: Option<u32>,
    /// Opening for reading.
    pub read: bool,
    /// Opening for writing.
    pub write: bool,
    /// mknod(2).
    pub mknod: bool,
}

const RULE_KINDS: [(&str, RuleKind); 4] =
    [("", RuleKind::All), ("a", RuleKind::All), ("b", RuleKind::Block), ("c", RuleKind::Char)];

pub(super) fn device_rules(list: &[DeviceRule], at: &Place<'_>, report: &mut Report) -> Vec<ValidDeviceRule> {
    if !report.count(at, list.len(), MOST_RULES) {
        return Vec::new();
    }
    list.iter().enumerate().filter_map(|(index, rule)| device_rule(rule, &at.index(index), report)).collect()
}

fn device_rule(rule: &DeviceRule, at: &Place<'_>, report: &mut Report) -> Option<ValidDeviceRule> {
    let kind = report.word(&at.key("type"), rule.kind.as_deref().unwrap_or_default(), &RULE_KINDS);
    let mut number = |key, number: Option<i64>, most| match number {
        // Absent and -1 both mean any (config-linux.md, and what engines write).
        None | Some(-1) => Some(None),
        Some(number) if (0..=most).contains(&number) => u32::try_from(number).ok().map(Some),
        Some(number) => {
            report.refuse(
                &at.key(key),
                "value-out-of-range",
                format!("expects -1 to {most}, found {number}"),
            );
            None
        }
    };
    let (major, minor) = (number("major", rule.major, MAJOR_MAX), number("minor", rule.minor, MINOR_MAX));
    let access = rule.access.as_deref().unwrap_or_default();
    let of = |letter| access.matches(letter).count();
    let counts = [of('r'), of('w'), of('m')];
    let only_these = counts.iter().sum::<usize>() == access.chars().count();
    if access.is_empty() || !only_these || counts.iter().any(|count| *count > 1) {
        let message = format!("expects some of r, w and m, each at most once, found {}", shown(access));
        report.refuse(&at.key("access"), "device-access", message);
        return None;
    }
    let [read, write, mknod] = counts.map(|count| count == 1);
    Some(ValidDeviceRule { allow: rule.allow, kind: kind?, major: major?, minor: minor?, read, write, mknod })
}
