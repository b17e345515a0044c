//! `unified`: files of version 2 by name. Keys come from engines and so from users: they are checked, not trusted.

use super::{Conversion, Target, not_delegated, refuse};
use crate::cgroup::error::Refusal;
use crate::spec::{Resources, push_token};

/// Files whose effect would reach beyond limits: they move processes, change the tree or stop it.
const FORBIDDEN: [&str; 6] = [
    "cgroup.procs",
    "cgroup.threads",
    "cgroup.subtree_control",
    "cgroup.type",
    "cgroup.kill",
    "cgroup.freeze",
];

/// Files that take one line for each device or resource; each line is a write of its own.
const MANY_LINES: [&str; 9] = [
    "io.max",
    "io.low",
    "io.latency",
    "io.weight",
    "io.bfq.weight",
    "rdma.max",
    "misc.max",
    "dmem.max",
    "net_prio.ifpriomap",
];

pub(super) fn unified(plan: &mut Conversion<'_>, resources: &Resources) -> Result<(), Refusal> {
    for (key, value) in &resources.unified {
        let mut pointer = "/unified".to_owned();
        push_token(&mut pointer, key);
        let controller = controller_of(key).map_err(|reason| refuse(&pointer, reason))?;
        let target = target(plan, controller, &pointer)?;
        for line in lines(key, value).map_err(|reason| refuse(&pointer, reason))? {
            plan.push(&target, key, line, &pointer);
        }
    }
    Ok(())
}

/// The controller that a file belongs to.
fn controller_of(key: &str) -> Result<&str, String> {
    if FORBIDDEN.contains(&key) {
        return Err("is a file that only the runtime may write".to_owned());
    }
    let plain = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    match key.split_once('.') {
        Some((controller, rest))
            if plain && !controller.is_empty() && !rest.is_empty() && !rest.ends_with('.') =>
        {
            Ok(controller)
        }
        _ => Err("is no file name of the form CONTROLLER.PARAMETER".to_owned()),
    }
}

fn target(plan: &Conversion<'_>, controller: &str, pointer: &str) -> Result<Target, Refusal> {
    let Some(v2) = plan.layout.v2() else {
        return Err(refuse(pointer, "needs cgroup version 2, which is not mounted"));
    };
    if v2.writable.is_none() {
        return Err(not_delegated(v2, controller, pointer));
    }
    // `cgroup` is the core, not a controller.
    if controller != "cgroup" && !v2.has(controller) {
        return Err(plan.missing(controller, pointer));
    }
    Ok(Target { key: v2.key(), version: v2.version })
}

fn lines<'a>(key: &str, value: &'a str) -> Result<Vec<&'a str>, String> {
    let text = value.strip_suffix('\n').unwrap_or(value);
    let lines: Vec<&str> = text.split('\n').collect();
    if lines.len() > 1 && !MANY_LINES.contains(&key) {
        return Err("has several lines, and the file takes one".to_owned());
    }
    if lines.iter().any(|line| line.is_empty() || line.chars().any(char::is_control)) {
        return Err("has an empty line or a control character".to_owned());
    }
    Ok(lines)
}
