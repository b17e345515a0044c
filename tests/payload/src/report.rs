//! `report`: one JSON document of everything that the process sees of itself.
//!
//! `report [--sysctl NAME]... [--path PATH]... [--env-file PATH]`; a value that cannot be had is `null` or
//! `{"errno": N}`. Nothing is changed by asking.

use crate::sys;
use serde_json::{Map, Value, json};

const LIMITS: [&str; 16] = [
    "CPU",
    "FSIZE",
    "DATA",
    "STACK",
    "CORE",
    "RSS",
    "NPROC",
    "NOFILE",
    "MEMLOCK",
    "AS",
    "LOCKS",
    "SIGPENDING",
    "MSGQUEUE",
    "NICE",
    "RTPRIO",
    "RTTIME",
];

const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

const NAMESPACES: [&str; 10] =
    ["cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "time_for_children", "user", "uts"];

/// A file as text, or `null`.
pub fn text_of(path: &str) -> Option<String> {
    std::fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Prints the document.
pub fn print(args: &[String], words: &[&str]) -> u8 {
    let mut sysctls = Map::new();
    let mut paths = Map::new();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        match (*word, rest.next()) {
            ("--sysctl", Some(name)) => {
                let file = format!("/proc/sys/{}", name.replace('.', "/"));
                let value = text_of(&file).map(|text| text.trim_end().to_owned());
                sysctls.insert((*name).to_owned(), json!(value));
            }
            ("--path", Some(path)) => {
                paths.insert((*path).to_owned(), stat(path));
            }
            _ => return crate::wrong("report takes --sysctl NAME and --path PATH"),
        }
    }
    let mut document = process(args);
    document.extend(identity());
    document.extend(world());
    document.insert("sysctls".into(), sysctls.into());
    document.insert("paths".into(), paths.into());
    crate::say(&Value::Object(document).to_string());
    0
}

fn status_field(status: &str, name: &str) -> Option<String> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.trim().to_owned())
}

/// The names of the bits that are set in a hexadecimal word of /proc/self/status.
fn bit_names(word: Option<String>, name: impl Fn(usize) -> String) -> Value {
    let bits = word.and_then(|word| u64::from_str_radix(&word, 16).ok());
    bits.map_or(Value::Null, |bits| {
        (0..64).filter(|bit| bits & (1 << bit) != 0).map(&name).collect::<Vec<String>>().into()
    })
}

fn capability(bit: usize) -> String {
    CAPABILITIES.get(bit).map_or_else(|| format!("CAP_{bit}"), |name| format!("CAP_{name}"))
}

fn identity() -> Map<String, Value> {
    let status = text_of("/proc/self/status").unwrap_or_default();
    let ([ruid, euid, suid], [rgid, egid, sgid]) = (sys::user_ids(), sys::group_ids());
    let (fsuid, fsgid) = sys::fs_ids();
    let number = |name: &str| status_field(&status, name).and_then(|text| text.parse::<u64>().ok());
    let caps = |name: &str| bit_names(status_field(&status, name), capability);
    let signals = |name: &str| bit_names(status_field(&status, name), |bit| (bit + 1).to_string());
    let keyring = sys::session_keyring();
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    put("uid", json!({"real": ruid, "effective": euid, "saved": suid, "fs": fsuid}));
    put("gid", json!({"real": rgid, "effective": egid, "saved": sgid, "fs": fsgid}));
    put("groups", json!(sys::groups().unwrap_or_default()));
    put("umask", json!(sys::umask()));
    put(
        "caps",
        json!({"effective": caps("CapEff"), "permitted": caps("CapPrm"), "inheritable": caps("CapInh"),
               "bounding": caps("CapBnd"), "ambient": caps("CapAmb")}),
    );
    put("noNewPrivs", json!(sys::prctl(libc::PR_GET_NO_NEW_PRIVS, 0).unwrap_or(-1) == 1));
    put("seccomp", json!({"mode": number("Seccomp"), "filters": number("Seccomp_filters")}));
    put("dumpable", json!(sys::prctl(libc::PR_GET_DUMPABLE, 0).ok()));
    put("securebits", json!(sys::prctl(libc::PR_GET_SECUREBITS, 0).ok()));
    put("deathSignal", json!(sys::death_signal().ok()));
    put("subreaper", json!(status_subreaper()));
    put("keyring", keyring.map_or_else(failed, |(id, text)| json!({"id": id, "description": text})));
    put(
        "signals",
        json!({"blocked": signals("SigBlk"), "ignored": signals("SigIgn"), "caught": signals("SigCgt"),
               "pending": signals("SigPnd"), "shared": signals("ShdPnd")}),
    );
    put("secure", json!(sys::auxiliary(libc::AT_SECURE)));
    fields
}

fn status_subreaper() -> Option<i32> {
    let mut value = 0i32;
    sys::raw(libc::SYS_prctl, [libc::PR_GET_CHILD_SUBREAPER.into(), &raw mut value as i64, 0, 0, 0, 0])
        .ok()?;
    Some(value)
}

fn failed(errno: sys::Errno) -> Value {
    json!({ "errno": errno })
}

fn process(args: &[String]) -> Map<String, Value> {
    let limit = |value: u64| if value == u64::MAX { json!("unlimited") } else { json!(value) };
    let limits: Map<String, Value> = LIMITS
        .iter()
        .zip(0u32..)
        .filter_map(|(name, number)| {
            let (soft, hard) = sys::rlimit(number).ok()?;
            Some((format!("RLIMIT_{name}"), json!({"soft": limit(soft), "hard": limit(hard)})))
        })
        .collect();
    let scheduler = sys::scheduler().map_or_else(failed, |attr| {
        json!({"policy": attr.policy, "flags": attr.flags, "nice": attr.nice, "priority": attr.priority,
               "runtime": attr.runtime, "deadline": attr.deadline, "period": attr.period})
    });
    let priority = sys::raw(libc::SYS_ioprio_get, [1, 0, 0, 0, 0, 0])
        .map_or_else(failed, |value| json!({"class": value >> 13, "level": value & 0x1fff}));
    let get = |number: i64| sys::raw(number, [0; 6]).ok();
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    put("pid", json!(get(libc::SYS_getpid)));
    put("ppid", json!(get(libc::SYS_getppid)));
    put("pgrp", json!(sys::raw(libc::SYS_getpgid, [0; 6]).ok()));
    put("sid", json!(sys::raw(libc::SYS_getsid, [0; 6]).ok()));
    put("cwd", sys::getcwd().map_or_else(failed, |text| json!(text)));
    put("args", json!(args));
    put("env", json!(sys::environment()));
    put("rlimits", limits.into());
    put(
        "oomScoreAdj",
        json!(text_of("/proc/self/oom_score_adj").and_then(|text| text.trim().parse::<i32>().ok())),
    );
    put("scheduler", scheduler);
    put("affinity", sys::affinity().map_or_else(failed, |cpus| json!(cpus)));
    put("ioPriority", priority);
    put("personality", json!(sys::raw(libc::SYS_personality, [0xffff_ffff, 0, 0, 0, 0, 0]).ok()));
    put("tty", crate::tty::seen());
    put("fds", descriptors());
    fields
}

/// Every open descriptor but the one that lists them.
pub fn descriptors() -> Value {
    let Ok(list) = std::fs::read_dir("/proc/self/fd") else {
        // Without a /proc the numbers still can be tried one by one.
        let open = (0..1024).filter(|fd| sys::fd_flags(*fd).is_ok()).map(|fd| json!({"fd": fd}));
        return open.collect::<Vec<Value>>().into();
    };
    let mut numbers: Vec<i32> =
        list.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    let open = numbers.into_iter().filter_map(|fd| {
        let (own, flags) = sys::fd_flags(fd).ok()?;
        let target = std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
        Some(json!({"fd": fd, "target": target.to_string_lossy(), "closeOnExec": own & libc::FD_CLOEXEC != 0,
                    "flags": flags}))
    });
    open.collect::<Vec<Value>>().into()
}

fn world() -> Map<String, Value> {
    let namespaces: Map<String, Value> = NAMESPACES
        .iter()
        .map(|name| {
            let link = std::fs::read_link(format!("/proc/self/ns/{name}")).ok();
            ((*name).to_owned(), json!(link.map(|link| link.to_string_lossy().into_owned())))
        })
        .collect();
    let names = sys::names().unwrap_or_default();
    let lines =
        |path: &str| text_of(path).map(|text| text.lines().map(str::to_owned).collect::<Vec<String>>());
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    put("namespaces", namespaces.into());
    put("mounts", mounts());
    put("cgroup", json!(lines("/proc/self/cgroup")));
    put("uidMap", json!(text_of("/proc/self/uid_map").map(|text| squeeze(&text))));
    put("gidMap", json!(text_of("/proc/self/gid_map").map(|text| squeeze(&text))));
    put("setgroups", json!(text_of("/proc/self/setgroups").map(|text| text.trim().to_owned())));
    put("timeOffsets", json!(text_of("/proc/self/timens_offsets").map(|text| squeeze(&text))));
    put("monotonic", json!(sys::clock(libc::CLOCK_MONOTONIC).map(|time| time.to_string()).ok()));
    put("boottime", json!(sys::clock(libc::CLOCK_BOOTTIME).map(|time| time.to_string()).ok()));
    let [host, domain, release, machine] = names;
    put("hostname", json!(host));
    put("domainname", json!(domain));
    put("kernel", json!({"release": release, "machine": machine}));
    put("interfaces", interfaces());
    put("rootStat", stat("/"));
    fields
}

/// Numbers of a map file: one list per line.
fn squeeze(text: &str) -> Vec<Vec<String>> {
    text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

/// The mounts of the own namespace, as /proc/self/mountinfo has them.
pub fn mounts() -> Value {
    let Some(text) = text_of("/proc/self/mountinfo") else { return Value::Null };
    let list = |word: &str| word.split(',').map(str::to_owned).collect::<Vec<String>>();
    let parsed = text.lines().filter_map(|line| {
        let (front, back) = line.split_once(" - ")?;
        let mut front = front.split(' ');
        let mut back = back.split(' ');
        let (id, parent, device) = (front.next()?, front.next()?, front.next()?);
        let (root, target, options) = (front.next()?, front.next()?, front.next()?);
        let optional: Vec<String> = front.map(str::to_owned).collect();
        let (kind, source, super_options) = (back.next()?, back.next()?, back.next().unwrap_or(""));
        Some(json!({"id": id.parse::<u64>().ok(), "parent": parent.parse::<u64>().ok(), "device": device,
                    "root": root, "target": target, "options": list(options), "optional": optional,
                    "type": kind, "source": source, "superOptions": list(super_options)}))
    });
    parsed.collect::<Vec<Value>>().into()
}

fn interfaces() -> Value {
    let Some(text) = text_of("/proc/net/dev") else { return Value::Null };
    let names = text.lines().skip(2).filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim());
    let seen = names.map(|name| {
        let up = sys::interface_flags(name).map(|flags| i32::from(flags) & libc::IFF_UP != 0);
        ((*name).to_owned(), json!({ "up": up.ok() }))
    });
    seen.collect::<Map<String, Value>>().into()
}

/// Type, mode, owner and device number of a path; a symlink is not followed.
pub fn stat(path: &str) -> Value {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let meta = match std::fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) => return failed(error.raw_os_error().unwrap_or(0)),
    };
    let kind = meta.file_type();
    let name = if kind.is_dir() {
        "directory"
    } else if kind.is_symlink() {
        "symlink"
    } else if kind.is_char_device() {
        "char"
    } else if kind.is_block_device() {
        "block"
    } else if kind.is_fifo() {
        "fifo"
    } else if kind.is_socket() {
        "socket"
    } else {
        "file"
    };
    let link = std::fs::read_link(path).ok().map(|link| link.to_string_lossy().into_owned());
    json!({"type": name, "mode": meta.mode() & 0o7777, "uid": meta.uid(), "gid": meta.gid(),
           "major": libc::major(meta.rdev()), "minor": libc::minor(meta.rdev()), "size": meta.size(),
           "device": meta.dev(), "inode": meta.ino(), "link": link})
}
