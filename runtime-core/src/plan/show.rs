//! A script as text: one line a step, with the pointer that asked for it.
//!
//! Golden tests compare this text, `coracle plan` prints it, and errors take their words from the same steps.
//!
//! Must not: leave out a step or a field. Tests: golden plans.

use super::script::{Answer, Open, Planned, Script, Sharing};
use crate::validate::{HookPoint, ValidHook};
use coracle_init::SchedAttr;
use coracle_init::program::{Bytes, HEADER_LEN, Header, Program, Slot, Step, Value};
use coracle_init::step::hook::HookLayout;
use coracle_init::step::sched;
use std::fmt::{self, Write};

/// Writes the whole script.
pub(crate) fn script(out: &mut dyn Write, script: &Script) -> fmt::Result {
    for open in &script.opens {
        line(out, "launch", open, |out| show_open(out, &open.what))?;
    }
    let flags = names(script.clone_flags, CLONE_FLAGS);
    let cgroup = if script.into_cgroup { " into the cgroup" } else { "" };
    let memory = match script.memory {
        Sharing::Copied => "",
        Sharing::Beside => ", sharing the memory of a process of the runtime's own",
        Sharing::Instead => ", sharing the memory of a process of the runtime's own, which waits for it",
    };
    writeln!(
        out,
        "launch  clone {}{cgroup}{memory}",
        if flags.is_empty() { "(no new namespaces)" } else { &flags }
    )?;
    for answer in &script.answers {
        line(out, "answer", answer, |out| show_answer(out, &answer.what))?;
    }
    for device in &script.devices {
        line(out, "answer", device, |out| {
            let joined = device.what.joined.as_ref().map_or(String::new(), |path| format!(" to {path:?}"));
            write!(out, "move device {:?} as {:?}{joined}", device.what.name, device.what.inside)
        })?;
    }
    for answer in &script.beside {
        line(out, "beside", answer, |out| show_answer(out, &answer.what))?;
    }
    for answer in &script.late {
        line(out, "at gate", answer, |out| show_answer(out, &answer.what))?;
    }
    // The header is only filled in when the program is finished; a view of the data needs one.
    let mut bytes = script.arena.bytes().to_vec();
    let total = u32::try_from(bytes.len()).map_err(|_| fmt::Error)?;
    let header =
        Header { total, steps: 0, slots: 0, words: 0, steps_at: u32::try_from(HEADER_LEN).unwrap_or(64) };
    for (place, byte) in bytes.iter_mut().zip(header.encode()) {
        *place = byte;
    }
    let program = Program::new(&bytes).map_err(|_| fmt::Error)?;
    for step in &script.steps {
        line(out, "init", step, |out| show_step(out, &program, &step.what))?;
    }
    Ok(())
}

/// Writes the hooks that run outside, which are no steps of the script.
pub(crate) fn hooks(out: &mut dyn Write, hooks: &[ValidHook]) -> fmt::Result {
    let inside = [HookPoint::CreateContainer, HookPoint::StartContainer];
    for hook in hooks.iter().filter(|hook| !inside.contains(&hook.point)) {
        let point = hook.point.name();
        write!(out, "hook    {point} path={:?} argv={:?}", hook.path, hook.args)?;
        if let Some(env) = &hook.env {
            write!(out, " env={env:?}")?;
        }
        if let Some(timeout) = hook.timeout {
            write!(out, " timeout={}ms", timeout.as_millis())?;
        }
        writeln!(out, "  # /hooks/{point}/{}", hook.index)?;
    }
    Ok(())
}

fn line<T>(
    out: &mut dyn Write,
    half: &str,
    planned: &Planned<T>,
    what: impl FnOnce(&mut String) -> fmt::Result,
) -> fmt::Result {
    let mut text = String::new();
    what(&mut text)?;
    if planned.pointer.is_empty() {
        writeln!(out, "{half:<7} {text}")
    } else {
        writeln!(out, "{half:<7} {text}  # {}", planned.pointer)
    }
}

fn show_open(out: &mut String, open: &Open) -> fmt::Result {
    match open {
        Open::Tree { path, recursive, nofollow, slot } => {
            write!(out, "open tree {:?}", path)?;
            for word in [(*recursive, " recursive"), (*nofollow, " nofollow")].iter().filter(|w| w.0) {
                out.push_str(word.1);
            }
            show_slot(out, *slot)
        }
        Open::Root { path, slot } => {
            write!(out, "open root {path:?}")?;
            show_slot(out, *slot)
        }
        Open::Null { slot } => {
            write!(out, "open null")?;
            show_slot(out, *slot)
        }
        Open::Node { path, block, major, minor, slot } => {
            write!(out, "open node {path:?} {}{major}:{minor}", if *block { 'b' } else { 'c' })?;
            show_slot(out, *slot)
        }
        Open::Namespace { path, nstype, slot } => {
            write!(out, "open namespace {path:?} {}", names(u64::from(nstype.unsigned_abs()), CLONE_FLAGS))?;
            show_slot(out, *slot)
        }
        Open::InitNamespace { nstype, slot } => {
            write!(out, "open init {}", names(u64::from(nstype.unsigned_abs()), CLONE_FLAGS))?;
            show_slot(out, *slot)
        }
        Open::UserNamespace { maps, slot } => {
            write!(out, "open user namespace uid={:?} gid={:?}", maps.uid, maps.gid)?;
            show_slot(out, *slot)
        }
        Open::Proc { slot } => {
            write!(out, "open proc")?;
            show_slot(out, *slot)
        }
        Open::CgroupTree { hierarchy, slot } => {
            write!(out, "open cgroup {hierarchy:?}")?;
            show_slot(out, *slot)
        }
    }
}

fn show_slot(out: &mut String, slot: Slot) -> fmt::Result {
    write!(out, " -> ${}", slot.0)
}

fn show_answer(out: &mut String, answer: &Answer) -> fmt::Result {
    match answer {
        Answer::IdMaps { uid, gid, deny_setgroups } => {
            let deny = if *deny_setgroups { " setgroups=deny" } else { "" };
            write!(out, "map ids uid={uid:?} gid={gid:?}{deny}")
        }
        Answer::IdMapTree { tree, recursive, maps } => {
            write!(out, "idmap tree=${}", tree.0)?;
            if *recursive {
                out.push_str(" recursive");
            }
            maps.as_ref().map_or(Ok(()), |maps| write!(out, " uid={:?} gid={:?}", maps.uid, maps.gid))
        }
        Answer::TimeOffsets { lines } => write!(out, "time offsets {lines:?}"),
        Answer::Rlimit { resource, soft, hard } => {
            write!(out, "rlimit {resource} soft={} hard={}", limit(*soft), limit(*hard))
        }
        Answer::JoinClass { tasks } => write!(out, "join class {tasks:?}"),
        Answer::OomScoreAdj { value } => write!(out, "oom_score_adj {value}"),
        Answer::Scheduler(policy) => {
            write!(out, "scheduler")?;
            show_scheduler(out, &policy.attr())
        }
        Answer::IoPriority(class) => write!(out, "io priority {}:{}", class.class, class.priority),
    }
}

fn show_scheduler(out: &mut String, attr: &SchedAttr) -> fmt::Result {
    write!(out, " policy={}", attr.policy)?;
    let rest = [
        ("flags", attr.flags),
        ("priority", attr.priority.into()),
        ("runtime", attr.runtime),
        ("deadline", attr.deadline),
        ("period", attr.period),
    ];
    if attr.nice != 0 {
        write!(out, " nice={}", attr.nice)?;
    }
    rest.into_iter().filter(|(_, n)| *n != 0).try_for_each(|(name, n)| write!(out, " {name}={n}"))
}

/// Lists of CPUs and nodes, as they are written.
fn show_mask(out: &mut String, name: &str, raw: &[u8]) -> fmt::Result {
    if raw.iter().all(|byte| *byte == 0xff) {
        return write!(out, " {name}=({} bytes)", raw.len());
    }
    let words = raw.chunks_exact(8).map(|w| u64::from_ne_bytes(w.try_into().unwrap_or_default()));
    let set: Vec<String> = words
        .enumerate()
        .flat_map(|(i, word)| {
            (0..64).filter(move |b| word >> b & 1 == 1).map(move |b| (i * 64 + b).to_string())
        })
        .collect();
    write!(out, " {name}={}", set.join(","))
}

fn show_step(out: &mut String, program: &Program<'_>, step: &Step) -> fmt::Result {
    let kind = step.name();
    out.push_str(kind);
    let mut result = Ok(());
    step.fields(&mut |name, value| {
        if result.is_ok() {
            result = show_field(out, program, kind, name, value);
        }
    });
    result
}

fn show_field(out: &mut String, program: &Program<'_>, kind: &str, name: &str, value: Value) -> fmt::Result {
    match value {
        Value::Str(s) if s.is_none() => write!(out, " {name}=-"),
        Value::Str(s) => write!(out, " {name}={:?}", text(program.str(s).unwrap_or_default())),
        Value::List(list) => {
            write!(out, " {name}=[")?;
            for i in 0..list.count {
                let item = program.item(list, i).and_then(|s| program.str(s)).unwrap_or_default();
                write!(out, "{}{:?}", if i == 0 { "" } else { ", " }, text(item))?;
            }
            out.push(']');
            Ok(())
        }
        Value::Bytes(b) if name == "groups" => {
            let raw = program.raw(b).unwrap_or_default();
            let ids: Vec<u32> =
                raw.chunks_exact(4).filter_map(|c| Some(u32::from_ne_bytes(c.try_into().ok()?))).collect();
            write!(out, " {name}={ids:?}")
        }
        Value::Bytes(b) if name == "hook" => show_hook(out, program, b),
        Value::Bytes(b) if name == "attr" => {
            let attr = program.raw(b).ok().and_then(|raw| sched::decode(raw).ok());
            show_scheduler(out, &attr.ok_or(fmt::Error)?)
        }
        Value::Bytes(b) if matches!(name, "mask" | "nodes") => match program.raw(b).unwrap_or_default() {
            [] => Ok(()),
            raw => show_mask(out, name, raw),
        },
        Value::Bytes(b) => write!(out, " {name}=({} bytes)", b.len),
        Value::Slot(slot) if slot == Slot::NONE => Ok(()),
        Value::Slot(slot) => write!(out, " {name}=${}", slot.0),
        Value::Bool(false) => Ok(()),
        Value::Bool(true) => write!(out, " {name}"),
        Value::Signed(n) if kind == "JoinNamespace" => {
            write!(out, " {name}={}", names(u64::from(n.unsigned_abs()), CLONE_FLAGS))
        }
        Value::Signed(n) => write!(out, " {name}={n}"),
        Value::Number(n) => show_number(out, kind, name, n),
    }
}

fn show_hook(out: &mut String, program: &Program<'_>, bytes: Bytes) -> fmt::Result {
    let Ok(hook) = program.raw(bytes).and_then(HookLayout::decode) else { return Err(fmt::Error) };
    let strings = [("path", hook.path), ("cwd", hook.cwd)].map(|(name, s)| (name, Value::Str(s)));
    let lists = [("argv", hook.argv), ("env", hook.env)].map(|(name, list)| (name, Value::List(list)));
    for (name, value) in strings.into_iter().chain(lists) {
        show_field(out, program, "Hook", name, value)?;
    }
    if hook.timeout_ms != 0 {
        write!(out, " timeout={}ms", hook.timeout_ms)?;
    }
    write!(out, " state={:?}", text(program.str(hook.state_head).unwrap_or_default()))?;
    write!(out, "PID{:?}", text(program.str(hook.state_tail).unwrap_or_default()))
}

fn show_number(out: &mut String, kind: &str, name: &str, n: u64) -> fmt::Result {
    let flags = match (kind, name) {
        ("Unshare" | "SecondClone", "flags") => names(n, CLONE_FLAGS),
        ("Attach", "flags") => names(n, ATTACH),
        ("OpenHostTree", "flags") => names(n, OPEN),
        ("OpenHostTree", "mode") => names(n, FILE_TYPES),
        ("OpenHostTree", "dev") if n == 0 => String::new(),
        ("MakeLink", "flags") => names(n, LINK),
        (_, "set" | "clear" | "attrs") => names(n, MOUNT_ATTRS),
        ("Propagation" | "RootPropagation", "flags") | (_, "propagation") => names(n, PROPAGATION),
        ("Capabilities" | "BoundingSet", _) => format!("{n:#x}"),
        ("IoPriority", _) => format!("{}:{}", n >> 13, n & 0x1fff),
        (_, "mode" | "mask") => format!("{n:#o}"),
        ("MakeNode" | "OpenHostTree", "dev") => {
            let dev = n;
            format!("{}:{}", rustix::fs::major(dev), rustix::fs::minor(dev))
        }
        (_, "owner") => format!("{}:{}", n >> 32, n & 0xffff_ffff),
        (_, "rows_cols") => format!("{}x{}", n >> 32, n & 0xffff_ffff),
        (_, "soft" | "hard") => limit(n),
        _ => n.to_string(),
    };
    // A word without bits is shown as nothing, the number 0 as it is.
    if flags.is_empty() || (flags == "0" && matches!(name, "flags" | "set" | "clear" | "propagation")) {
        return Ok(());
    }
    write!(out, " {name}={flags}")
}

fn limit(n: u64) -> String {
    if n == u64::MAX { "unlimited".to_owned() } else { n.to_string() }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const CLONE_FLAGS: &[(u64, &str)] = &[
    (0x1000_0000, "user"),
    (0x2000_0000, "pid"),
    (0x4000_0000, "network"),
    (0x800_0000, "ipc"),
    (0x400_0000, "uts"),
    (0x2_0000, "mount"),
    (0x200_0000, "cgroup"),
    (0x80, "time"),
];
const MOUNT_ATTRS: &[(u64, &str)] = &[
    (0x1, "ro"),
    (0x2, "nosuid"),
    (0x4, "nodev"),
    (0x8, "noexec"),
    (0x70, "atime"),
    (0x10, "noatime"),
    (0x20, "strictatime"),
    (0x80, "nodiratime"),
    (0x10_0000, "idmap"),
    (0x20_0000, "nosymfollow"),
];
const ATTACH: &[(u64, &str)] = &[(1, "nofollow"), (2, "on-proc"), (4, "no-links"), (8, "take-mode")];
const OPEN: &[(u64, &str)] = &[(1, "recursive"), (2, "nofollow"), (4, "ask"), (8, "lend"), (16, "directory")];
const FILE_TYPES: &[(u64, &str)] = &[(0o060_000, "block"), (0o020_000, "char")];
const LINK: &[(u64, &str)] = &[(1, "if-target"), (2, "replace")];
const PROPAGATION: &[(u64, &str)] = &[
    (1 << 17, "unbindable"),
    (1 << 18, "private"),
    (1 << 19, "slave"),
    (1 << 20, "shared"),
    (1 << 14, "rec"),
];

/// Names of the bits that are set; what has no name is shown as a number.
fn names(mut flags: u64, table: &[(u64, &str)]) -> String {
    let mut out = Vec::new();
    for (bit, name) in table {
        if flags & bit == *bit {
            out.push((*name).to_owned());
            flags &= !bit;
        }
    }
    if flags != 0 {
        out.push(format!("{flags:#x}"));
    }
    out.join(",")
}
