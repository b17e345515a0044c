//! Configurations to start from, for `spec` and for embedders.
//!
//! For: the same content as the ones that runc writes, because people and scripts edit those.
//! Must not: look at the machine; who wants other ids or namespaces says so.
//! Tests: at the end of the file.

use super::{
    Capabilities, DeviceRule, Id, IdMapping, Linux, LinuxNamespace, Mount, OCI_VERSION, Process, Resources,
    Rlimit, Root, Spec, User,
};

const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/proc/scsi",
];

const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

const CAPABILITIES: [&str; 3] = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

/// Destination, type, source, options.
const MOUNTS: [(&str, &str, &str, &[&str]); 7] = [
    ("/proc", "proc", "proc", &[]),
    ("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
    (
        "/dev/pts",
        "devpts",
        "devpts",
        &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    ),
    ("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    ("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
];

fn texts(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn namespace(kind: &str) -> LinuxNamespace {
    LinuxNamespace { kind: kind.to_owned(), path: None }
}

impl Spec {
    /// A container with a shell on a terminal in `rootfs`, for a host with control groups version 2.
    pub fn default_container() -> Spec {
        Spec {
            oci_version: OCI_VERSION.to_owned(),
            process: Some(shell()),
            root: Some(Root { path: "rootfs".to_owned(), readonly: Some(true) }),
            hostname: Some("coracle".to_owned()),
            mounts: MOUNTS.iter().map(mount).collect(),
            linux: Some(Linux {
                resources: Some(Resources {
                    devices: vec![DeviceRule { access: Some("rwm".to_owned()), ..DeviceRule::default() }],
                    ..Resources::default()
                }),
                namespaces: ["pid", "network", "ipc", "uts", "mount", "cgroup"].map(namespace).to_vec(),
                masked_paths: texts(&MASKED),
                readonly_paths: texts(&READONLY),
                ..Linux::default()
            }),
            ..Spec::default()
        }
    }

    /// The same for a user without privileges, who is root inside: a user namespace with these two ids, the host's
    /// network and `/sys`, no limits.
    pub fn rootless(uid: Id, gid: Id) -> Spec {
        let mut spec = Spec::default_container();
        for mount in &mut spec.mounts {
            if mount.destination == "/sys" {
                mount.kind = Some("none".to_owned());
                mount.source = Some("/sys".to_owned());
                mount.options = texts(&["rbind", "nosuid", "noexec", "nodev", "ro"]);
            }
            // Only one id of each kind is mapped, so no other one can own anything.
            mount.options.retain(|option| !option.starts_with("gid=") && !option.starts_with("uid="));
        }
        if let Some(linux) = &mut spec.linux {
            linux.namespaces.retain(|namespace| namespace.kind != "network");
            linux.namespaces.push(namespace("user"));
            linux.uid_mappings = vec![IdMapping { container_id: Id::ROOT, host_id: uid, size: 1 }];
            linux.gid_mappings = vec![IdMapping { container_id: Id::ROOT, host_id: gid, size: 1 }];
            linux.resources = None;
        }
        spec
    }

    /// The document as text, indented with tabs as runc does it, without a line break at the end.
    pub fn to_json(&self) -> String {
        let mut bytes = Vec::with_capacity(4096);
        let tabs = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, tabs);
        // Writing to memory cannot fail, and no type here has a key that is not a text.
        if serde::Serialize::serialize(self, &mut serializer).is_err() {
            return String::new();
        }
        String::from_utf8(bytes).unwrap_or_default()
    }
}

fn shell() -> Process {
    let capabilities = texts(&CAPABILITIES);
    Process {
        terminal: Some(true),
        user: Some(User { uid: Some(Id::ROOT), gid: Some(Id::ROOT), ..User::default() }),
        args: texts(&["sh"]),
        env: texts(&["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"]),
        cwd: "/".to_owned(),
        capabilities: Some(Capabilities {
            bounding: capabilities.clone(),
            effective: capabilities.clone(),
            permitted: capabilities,
            ..Capabilities::default()
        }),
        rlimits: vec![Rlimit { kind: "RLIMIT_NOFILE".to_owned(), hard: 1024, soft: 1024 }],
        no_new_privileges: Some(true),
        ..Process::default()
    }
}

fn mount((destination, kind, source, options): &(&str, &str, &str, &[&str])) -> Mount {
    Mount {
        destination: (*destination).to_owned(),
        kind: Some((*kind).to_owned()),
        source: Some((*source).to_owned()),
        options: texts(options),
        ..Mount::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_what_its_text_says() {
        let spec = Spec::default_container();
        let text = spec.to_json();
        assert!(
            text.starts_with("{\n\t\"ociVersion\": \"1.3.0\",\n\t\"process\": {\n\t\t\"cwd\": \"/\","),
            "{text}"
        );
        assert!(
            text.contains("\t\t\t\t{\n\t\t\t\t\t\"allow\": false,\n\t\t\t\t\t\"access\": \"rwm\"\n"),
            "{text}"
        );
        assert!(!text.contains("null") && !text.contains("[]"), "{text}");
        assert_eq!(Spec::from_slice(text.as_bytes()), Ok(spec));
    }

    #[test]
    fn rootless_maps_the_two_ids_and_needs_no_privilege() {
        let (uid, gid) = (Id::new(1000).expect("id"), Id::new(100).expect("id"));
        let spec = Spec::rootless(uid, gid);
        let linux = spec.linux.as_ref().expect("linux");
        let kinds: Vec<_> = linux.namespaces.iter().map(|n| n.kind.as_str()).collect();
        assert_eq!(kinds, ["pid", "ipc", "uts", "mount", "cgroup", "user"]);
        assert_eq!((linux.uid_mappings[0].host_id, linux.gid_mappings[0].host_id), (uid, gid));
        assert_eq!(linux.resources, None);
        assert!(!spec.mounts.iter().any(|m| m.options.iter().any(|o| o.starts_with("gid="))));
        let sys = spec.mounts.iter().find(|m| m.destination == "/sys").expect("/sys");
        assert_eq!(sys.options[0], "rbind");
    }
}
