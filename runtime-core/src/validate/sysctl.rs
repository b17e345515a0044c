//! Kernel parameters.
//!
//! For: `linux.sysctl`: only those that belong to a namespace which the container has for itself, for any other one
//! would change the host.
//! Must not: let a key become a path by any way but its components. Tests: at the end of the file.
//!
//! Sources: network and IPC parameters are per namespace (ip-sysctl.rst, kernel/ipc), `kernel.domainname` by uts,
//! `user.*` by user namespace (kernel/ucount.c).

use std::collections::BTreeMap;

use super::namespaces::{NamespaceKind, Namespaces};
use super::report::{Place, Report, shown};

/// A kernel parameter to set.
///
/// Holding one proves: the components are no way out of `/proc/sys`, and the namespace is not the runtime's own by the
/// document. A joined namespace may still turn out to be the runtime's own when it is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sysctl {
    /// The key as it is written in the document.
    pub key: String,
    /// Components of the path below `/proc/sys`.
    pub components: Vec<String>,
    /// The value, without a line break.
    pub value: String,
    /// The kind of namespace that it belongs to.
    pub namespace: NamespaceKind,
}

const IPC: [&str; 8] = ["msgmax", "msgmnb", "msgmni", "sem", "shm_rmid_forced", "shmall", "shmmax", "shmmni"];

pub(super) fn sysctls(
    table: &BTreeMap<String, String>,
    namespaces: &Namespaces,
    at: &Place<'_>,
    report: &mut Report,
) -> Vec<Sysctl> {
    let mut found: Vec<Sysctl> = Vec::with_capacity(table.len());
    for (key, value) in table {
        let at = at.key(key);
        report.line(&at, value);
        let components = components(key);
        if components.iter().any(|part| matches!(part.as_str(), "" | "." | "..") || part.len() > 255) {
            report.refuse(&at, "sysctl-key", format!("is no name of a kernel parameter: {}", shown(key)));
            continue;
        }
        if !report.line(&at, key) {
            continue;
        }
        if let Some(other) = found.iter().find(|other| other.components == components) {
            report.refuse(&at, "sysctl-twice", format!("is the same parameter as {}", shown(&other.key)));
            continue;
        }
        match owner(&components) {
            Ok(namespace) if namespaces.contains(namespace) => {
                found.push(Sysctl { key: key.clone(), components, value: value.clone(), namespace });
            }
            Ok(namespace) => report.refuse(
                &at,
                "sysctl-of-host",
                format!("belongs to the {} namespace, and the container uses the host's", namespace.name()),
            ),
            Err(message) => report.refuse(&at, "sysctl-not-namespaced", message),
        }
    }
    found
}

/// Dots and slashes both separate; whichever comes first is the separator and the other one a part of a name, so that
/// `net.ipv4.conf.eth0/100.forwarding` and `net/ipv4/conf/eth0.100/forwarding` are the same (sysctl.d(5)).
fn components(key: &str) -> Vec<String> {
    match key.find(['.', '/']).and_then(|at| key.as_bytes().get(at)) {
        Some(b'/') => key.split('/').map(str::to_owned).collect(),
        _ => key.split('.').map(|part| part.replace('/', ".")).collect(),
    }
}

fn owner(components: &[String]) -> Result<NamespaceKind, &'static str> {
    let mut parts = components.iter().map(String::as_str);
    match (parts.next(), parts.next(), parts.next()) {
        (Some("net"), Some(_), _) => Ok(NamespaceKind::Network),
        (Some("user"), Some(_), None) => Ok(NamespaceKind::User),
        (Some("fs"), Some("mqueue"), Some(_)) => Ok(NamespaceKind::Ipc),
        (Some("kernel"), Some(name), None) if IPC.contains(&name) => Ok(NamespaceKind::Ipc),
        (Some("kernel"), Some("domainname"), None) => Ok(NamespaceKind::Uts),
        (Some("kernel"), Some("hostname"), None) => Err("is set by the property hostname"),
        _ => Err("belongs to no namespace: it would change the host"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_components() {
        for (key, path) in [
            ("net.ipv4.ip_forward", "net|ipv4|ip_forward"),
            ("net/ipv4/ip_forward", "net|ipv4|ip_forward"),
            ("net.ipv4.conf.eth0/100.forwarding", "net|ipv4|conf|eth0.100|forwarding"),
            ("net/ipv4/conf/eth0.100/forwarding", "net|ipv4|conf|eth0.100|forwarding"),
            ("kernel", "kernel"),
            ("", ""),
            ("a..b", "a||b"),
            ("kernel/../fs", "kernel|..|fs"),
            ("kernel.//.fs", "kernel|..|fs"),
        ] {
            assert_eq!(components(key).join("|"), path, "{key}");
        }
    }

    #[test]
    fn owners() {
        use NamespaceKind::*;
        for (key, kind) in [
            ("net.ipv4.ip_forward", Some(Network)),
            ("net", None),
            ("fs.mqueue.msg_max", Some(Ipc)),
            ("fs.mqueue", None),
            ("fs.file-max", None),
            ("kernel.shmmax", Some(Ipc)),
            ("kernel.shm_rmid_forced", Some(Ipc)),
            ("kernel.shmmax.x", None),
            ("kernel.domainname", Some(Uts)),
            ("kernel.hostname", None),
            ("kernel.core_pattern", None),
            ("user.max_user_namespaces", Some(User)),
            ("vm.swappiness", None),
            ("", None),
        ] {
            assert_eq!(owner(&components(key)).ok(), kind, "{key}");
        }
    }
}
