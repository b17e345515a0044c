//! The program inside the demo's container: shows what the kernel says about itself.
//!
//! Everything comes from `/proc` and system calls of this process, nothing from the configuration: what is shown is what is in
//! force. Must not: fail because one answer is missing; it shows a question mark then.
//! Tests: at the end of the file for the reading; the whole by `coracle demo` in the `tests` package.

use std::collections::BTreeSet;
use std::fs;

use coracle::Error;

use super::tree::Tree;
use crate::Globals;
use crate::args::Given;
use crate::out;

/// Capabilities by number, without `CAP_` (capability.h of Linux 6.12).
const CAPABILITIES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// Prints the tree.
pub fn run(_: &Globals, given: &Given<'_>) -> Result<u8, Error> {
    // The host's namespaces, so that what differs can be told from what is shared.
    let host: BTreeSet<&str> = given.rest.iter().filter_map(|word| word.to_str()).collect();
    let seen = Seen::read();
    out::print(seen.tree(&host).to_string())?;
    Ok(0)
}

/// The kernel's words about this process.
#[derive(Debug, Default)]
struct Seen {
    status: String,
    namespaces: Vec<(String, String)>,
    uid_map: String,
    gid_map: String,
    mountinfo: String,
    cgroup: String,
    limits: String,
    hostname: String,
    processes: usize,
    cgroup_files: Vec<(&'static str, String)>,
}

impl Seen {
    fn read() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let entries = |path: &str| fs::read_dir(path).into_iter().flatten().flatten();
        let mut namespaces: Vec<(String, String)> = entries("/proc/self/ns")
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok()?;
                let link = fs::read_link(entry.path()).ok()?.into_os_string().into_string().ok()?;
                Some((name, link))
            })
            .filter(|(name, _)| !name.ends_with("_for_children"))
            .collect();
        namespaces.sort();
        let is_pid = |name: &std::ffi::OsStr| name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
        Self {
            status: text("/proc/self/status"),
            namespaces,
            uid_map: text("/proc/self/uid_map"),
            gid_map: text("/proc/self/gid_map"),
            mountinfo: text("/proc/self/mountinfo"),
            cgroup: text("/proc/self/cgroup"),
            limits: text("/proc/self/limits"),
            hostname: text("/proc/sys/kernel/hostname").trim_end().to_owned(),
            processes: entries("/proc").filter(|entry| is_pid(&entry.file_name())).count(),
            cgroup_files: cgroup_files(),
        }
    }

    /// A line of `/proc/self/status` without its name.
    fn status(&self, name: &str) -> &str {
        let line = self.status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map_or("?", str::trim)
    }

    fn tree(&self, host: &BTreeSet<&str>) -> Tree {
        let mut tree = Tree::new("inside");
        tree.add("isolation", self.isolation(host));
        tree.add("privileges", self.privileges());
        tree.add("mounts", self.mounts());
        tree.add("limits", self.limits());
        tree
    }

    fn isolation(&self, host: &BTreeSet<&str>) -> Vec<(String, String)> {
        let names = |own: bool| -> Vec<&str> {
            let mine = self.namespaces.iter().filter(|(_, link)| host.contains(link.as_str()) != own);
            mine.map(|(name, _)| name.as_str()).collect()
        };
        let list = |names: Vec<&str>| if names.is_empty() { "none".to_owned() } else { names.join(" ") };
        vec![
            ("namespaces".into(), format!("own: {}; the host's: {}", list(names(true)), list(names(false)))),
            ("processes".into(), format!("pid {} of {} visible", std::process::id(), self.processes)),
            ("hostname".into(), self.hostname.clone()),
            ("uid map".into(), id_map(&self.uid_map)),
            ("gid map".into(), id_map(&self.gid_map)),
        ]
    }

    fn privileges(&self) -> Vec<(String, String)> {
        let ids = |name: &str| self.status(name).split_whitespace().next().unwrap_or("?").to_owned();
        let groups = self.status("Groups");
        let more = if groups.is_empty() { String::new() } else { format!(", further groups {groups}") };
        let set = |name: &str| capabilities(self.status(name));
        let seccomp = match self.status("Seccomp") {
            "0" => "no filter".to_owned(),
            "2" => format!("filter in force (filters: {})", self.status("Seccomp_filters")),
            other => format!("mode {other}"),
        };
        let privileges = if self.status("NoNewPrivs") == "1" { "never" } else { "by set-user-ID files" };
        vec![
            ("user".into(), format!("uid {}, gid {}{more}", ids("Uid"), ids("Gid"))),
            ("capabilities".into(), set("CapEff")),
            ("at most".into(), set("CapBnd")),
            ("ambient".into(), set("CapAmb")),
            ("new ones".into(), privileges.into()),
            ("seccomp".into(), seccomp),
        ]
    }

    /// The mounts, what covers single files and directories in lists of their own.
    fn mounts(&self) -> Vec<(String, String)> {
        let mut rows: Vec<(String, String)> = Vec::new();
        let mut lists = [
            ("devices", Vec::new()),
            ("hidden", Vec::new()),
            ("read-only", Vec::new()),
            ("cgroups", Vec::new()),
        ];
        for (point, kind, flags) in self.mountinfo.lines().filter_map(mount) {
            let [devices, hidden, read_only, cgroups] = &mut lists;
            let list = match (point.split('/').nth(1), kind) {
                (Some("dev"), "devtmpfs") => devices,
                (_, "cgroup" | "cgroup2") if point != "/sys/fs/cgroup" => cgroups,
                (Some("proc"), "proc") if point != "/proc" => read_only,
                (Some("proc" | "sys"), "tmpfs" | "devtmpfs") if point != "/sys/fs/cgroup" => hidden,
                _ => {
                    // Of two at one place the last is seen.
                    rows.retain(|(known, _)| known != point);
                    rows.push((point.to_owned(), format!("{kind:<8} {flags}").trim_end().to_owned()));
                    continue;
                }
            };
            let name = if list.0 == "cgroups" || list.0 == "devices" { last(point) } else { point };
            if !list.1.contains(&name) {
                list.1.push(name);
            }
        }
        let lists = lists.into_iter().filter(|(_, names)| !names.is_empty());
        rows.extend(lists.map(|(title, names)| (title.to_owned(), names.join(" "))));
        rows
    }

    fn limits(&self) -> Vec<(String, String)> {
        let mut paths: Vec<&str> =
            self.cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2)).collect();
        paths.dedup();
        let mut rows = vec![("control group".to_owned(), paths.join(" "))];
        rows.extend(self.cgroup_files.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        if self.cgroup_files.is_empty() {
            rows.push(("memory".to_owned(), "no limit".to_owned()));
        }
        for (name, word) in [("Max open files", "open files"), ("Max processes", "user's processes")] {
            if let Some(line) = self.limits.lines().find_map(|line| line.strip_prefix(name)) {
                let mut values = line.split_whitespace();
                let soft = values.next().unwrap_or("?");
                rows.push((
                    word.to_owned(),
                    format!("{soft}, can be raised to {}", values.next().unwrap_or("?")),
                ));
            }
        }
        rows
    }
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Limits of the own cgroup, which is the root of what is mounted, where there are some.
fn cgroup_files() -> Vec<(&'static str, String)> {
    let files = [
        ("memory", "memory.max"),
        ("memory", "memory/memory.limit_in_bytes"),
        ("processes", "pids.max"),
        ("processes", "pids/pids.max"),
        ("cpu", "cpu.max"),
    ];
    let read = |file: &str| fs::read_to_string(format!("/sys/fs/cgroup/{file}")).ok();
    files.iter().filter_map(|(name, file)| Some((*name, limit(name, read(file)?.trim_end())?))).collect()
}

/// A limit in words; `None` when it is none.
fn limit(name: &str, text: &str) -> Option<String> {
    // Version 1 says "no limit" by a number of pages that no machine has.
    const NONE: u64 = 1 << 60;
    match (name, text.parse::<u64>()) {
        ("memory", Ok(bytes)) if bytes < NONE => Some(format!("{} MiB", bytes >> 20)),
        ("memory", _) => None,
        _ if text.starts_with("max") => None,
        _ => Some(format!("at most {text}")),
    }
}

/// `0 is 1000 outside`, or ranges.
fn id_map(text: &str) -> String {
    let rows: Vec<String> = text
        .lines()
        .filter_map(|line| {
            let mut numbers = line.split_whitespace();
            let (inside, outside, count) = (numbers.next()?, numbers.next()?, numbers.next()?);
            Some(match count {
                "1" => format!("{inside} is {outside} outside"),
                "4294967295" if inside == outside => "the host's".to_owned(),
                _ => format!("{count} ids from {inside} on are {outside} and up outside"),
            })
        })
        .collect();
    if rows.is_empty() { "?".to_owned() } else { rows.join(", ") }
}

/// The names in a set that the kernel prints as a number in base 16.
fn capabilities(hexadecimal: &str) -> String {
    let Ok(bits) = u64::from_str_radix(hexadecimal, 16) else { return "?".to_owned() };
    let names: Vec<&str> = CAPABILITIES
        .iter()
        .enumerate()
        .filter(|(bit, _)| bits >> bit & 1 == 1)
        .map(|(_, name)| *name)
        .collect();
    match (names.len(), bits.count_ones()) {
        (0, 0) => "none".to_owned(),
        (known, all) if usize::try_from(all) == Ok(known) && known < 20 => names.join(" "),
        (_, all) => format!("{all} of them"),
    }
}

/// Mount point, file system and flags of a line of mountinfo.
fn mount(line: &str) -> Option<(&str, &str, String)> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ');
    let point = left.nth(4)?;
    let flags = left.next()?;
    let kind = right.split(' ').next()?;
    let flags: Vec<&str> = flags.split(',').filter(|flag| !matches!(*flag, "rw" | "relatime")).collect();
    Some((point, kind, flags.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_in_words() {
        assert_eq!(capabilities("0000000020000420"), "kill net_bind_service audit_write");
        assert_eq!(capabilities("0000000000000000"), "none");
        assert_eq!(capabilities("000001ffffffffff"), "41 of them");
        assert_eq!(capabilities("x"), "?");
        assert_eq!(id_map("         0       1000          1\n"), "0 is 1000 outside");
        assert_eq!(id_map("         0          0 4294967295\n"), "the host's");
        assert_eq!(
            id_map("0 100000 65536\n65536 1000 1\n"),
            "65536 ids from 0 on are 100000 and up outside, 65536 is 1000 outside"
        );
        assert_eq!(
            mount("36 35 98:0 /mnt1 /mnt2 rw,nosuid,relatime master:1 - ext3 /dev/root rw,errors=continue"),
            Some(("/mnt2", "ext3", "nosuid".to_owned()))
        );
        assert_eq!(mount("nonsense"), None);
    }

    #[test]
    fn limits_in_words() {
        assert_eq!(limit("memory", "67108864").as_deref(), Some("64 MiB"));
        assert_eq!(limit("memory", "9223372036854771712"), None);
        assert_eq!(limit("memory", "max"), None);
        assert_eq!(limit("processes", "32").as_deref(), Some("at most 32"));
        assert_eq!(limit("cpu", "max 100000"), None);
    }

    #[test]
    fn mounts_over_single_files_are_listed_together() {
        let line =
            |point: &str, kind: &str, flags: &str| format!("1 2 0:1 / {point} {flags} - {kind} none rw\n");
        let seen = Seen {
            mountinfo: [
                line("/", "ext4", "ro,relatime"),
                line("/sys/fs/cgroup", "tmpfs", "rw"),
                line("/sys/fs/cgroup", "tmpfs", "ro"),
                line("/sys/fs/cgroup/pids", "cgroup", "ro"),
                line("/proc", "proc", "rw"),
                line("/proc/sys", "proc", "ro"),
                line("/proc/keys", "devtmpfs", "rw"),
                line("/sys/firmware", "tmpfs", "ro"),
                line("/dev/null", "devtmpfs", "rw"),
            ]
            .concat(),
            ..Seen::default()
        };
        let rows = seen.mounts();
        let rows: Vec<(&str, &str)> =
            rows.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let expected = [
            ("/", "ext4     ro"),
            ("/sys/fs/cgroup", "tmpfs    ro"),
            ("/proc", "proc"),
            ("devices", "null"),
            ("hidden", "/proc/keys /sys/firmware"),
            ("read-only", "/proc/sys"),
            ("cgroups", "pids"),
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn it_shows_this_very_process() {
        let seen = Seen::read();
        assert!(seen.namespaces.iter().any(|(name, link)| name == "mnt" && link.starts_with("mnt:[")));
        let uid = rustix::process::getuid().as_raw();
        let host: BTreeSet<&str> = seen.namespaces.iter().map(|(_, link)| link.as_str()).collect();
        let tree = seen.tree(&host).to_string();
        assert!(tree.contains(&format!("uid {uid}, ")), "{tree}");
        assert!(tree.contains("own: none; the host's: cgroup ipc mnt net pid"), "{tree}");
    }
}
