//! What this runtime recognises, as the features document (features.md, features-linux.md).
//!
//! For: `features`, by which engines decide what they may ask for.
//! Must not: look at the machine: the document is about this build alone. Nothing is listed that `validate` refuses;
//! the lists come from its tables.
//! Tests: at the end of the file.

use std::collections::BTreeMap;

use coracle_seccomp::{Action, Arch, Flags, Op};

use crate::spec::{
    CgroupFeature, Features, IntelRdtFeature, LinuxFeatures, MemoryPolicyFeature, MountExtensions,
    OCI_VERSION, SeccompFeature, Switch,
};
use crate::validate::annotations;
use crate::validate::unbuilt::{Feature, is_built};
use crate::validate::{HookPoint, NamespaceKind, known_capabilities, known_options, words};

/// The features document of this build.
pub fn features() -> Features {
    Features {
        oci_version_min: "1.0.0".to_owned(),
        oci_version_max: OCI_VERSION.to_owned(),
        hooks: texts(HookPoint::ALL.map(|(name, _)| name)),
        mount_options: texts(known_options()),
        linux: Some(linux()),
        annotations: BTreeMap::from([
            ("run.coracle.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
            // Engines look for runc's key, whatever the runtime.
            (
                "org.opencontainers.runc.checkpoint.enabled".to_owned(),
                is_built(Feature::Checkpoint).to_string(),
            ),
        ]),
        potentially_unsafe_config_annotations: texts(annotations::WITH_EFFECT),
    }
}

fn linux() -> LinuxFeatures {
    LinuxFeatures {
        namespaces: texts(NamespaceKind::ALL.map(|(name, _)| name)),
        capabilities: known_capabilities(),
        cgroup: Some(CgroupFeature {
            v1: Some(true),
            v2: Some(true),
            systemd: Some(is_built(Feature::SystemdCgroups)),
            systemd_user: Some(is_built(Feature::SystemdCgroups)),
            rdma: Some(true),
        }),
        seccomp: Some(seccomp()),
        apparmor: Some(Switch { enabled: Some(true) }),
        selinux: Some(Switch { enabled: Some(true) }),
        intel_rdt: Some(IntelRdtFeature {
            enabled: Some(true),
            schemata: Some(true),
            monitoring: Some(true),
        }),
        memory_policy: Some(MemoryPolicyFeature {
            modes: texts(words::memory_modes()),
            flags: texts(words::memory_flags()),
        }),
        mount_extensions: Some(MountExtensions { idmap: Some(Switch { enabled: Some(true) }) }),
        net_devices: Some(Switch { enabled: Some(true) }),
    }
}

fn seccomp() -> SeccompFeature {
    let flags = Flags::NAMES.map(|(name, _)| name);
    SeccompFeature {
        enabled: Some(true),
        actions: texts(Action::NAMES),
        operators: texts(Op::NAMES.map(|(name, _)| name)),
        archs: texts(Arch::ALL.map(Arch::name)),
        known_flags: texts(flags),
        supported_flags: texts(flags),
    }
}

fn texts<'a>(words: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    words.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Spec;
    use crate::validate::validate;

    #[test]
    fn both_versions_are_accepted() {
        let features = features();
        for version in [features.oci_version_min, features.oci_version_max] {
            let mut spec = Spec::default_container();
            spec.oci_version = version;
            assert!(validate(spec).is_ok());
        }
    }

    /// The words that containerd, moby, BuildKit and the kubelet look for.
    #[test]
    fn what_engines_look_for_is_there() {
        let features = features();
        let linux = features.linux.expect("linux");
        let has = |list: &[String], word: &str| assert!(list.iter().any(|item| item == word), "{word}");
        has(&features.mount_options, "rro");
        has(&features.hooks, "createContainer");
        has(&linux.namespaces, "user");
        has(&linux.capabilities, "CAP_CHECKPOINT_RESTORE");
        let seccomp = linux.seccomp.expect("seccomp");
        has(&seccomp.actions, "SCMP_ACT_KILL_PROCESS");
        has(&seccomp.archs, "SCMP_ARCH_X86_64");
        assert_eq!(linux.mount_extensions.and_then(|it| it.idmap).and_then(|it| it.enabled), Some(true));
    }

    /// Nothing is promised that is refused: each listed option, action and namespace in a configuration of its own.
    #[test]
    fn what_is_listed_is_accepted() {
        let features = features();
        let linux = features.linux.expect("linux");
        for option in &features.mount_options {
            let mut spec = Spec::default_container();
            let needs_bind = option.contains("idmap");
            let mount = spec.mounts.iter_mut().find(|mount| mount.destination == "/dev/shm").expect("mount");
            mount.options = vec![option.clone()];
            if needs_bind {
                continue;
            }
            assert!(validate(spec).is_ok(), "{option}");
        }
        let seccomp = linux.seccomp.expect("seccomp");
        for action in &seccomp.actions {
            let mut spec = Spec::default_container();
            let rule = format!(
                r#"{{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/l","syscalls":[{{"names":["mount"],"action":"{action}"}}]}}"#
            );
            let filter = serde_json::from_str(&rule).expect("filter");
            spec.linux.as_mut().expect("linux").seccomp = Some(filter);
            assert!(validate(spec).is_ok(), "{action}");
        }
        for namespace in &linux.namespaces {
            let mut spec = Spec::default_container();
            let id = serde_json::from_str(r#"{"containerID":0,"hostID":1,"size":9}"#).expect("mapping");
            let linux = spec.linux.as_mut().expect("linux");
            if namespace == "user" {
                linux.uid_mappings = vec![id];
                linux.gid_mappings.clone_from(&linux.uid_mappings);
            }
            if !linux.namespaces.iter().any(|it| it.kind == *namespace) {
                let entry = format!(r#"{{"type":"{namespace}"}}"#);
                linux.namespaces.push(serde_json::from_str(&entry).expect("namespace"));
            }
            assert!(validate(spec).is_ok(), "{namespace}");
        }
    }

    #[test]
    fn the_document_reads_back_and_leaves_out_what_is_unknown() {
        let text = serde_json::to_string(&features()).expect("text");
        assert!(!text.contains("null"), "{text}");
        assert_eq!(serde_json::from_str::<Features>(&text).expect("features"), features());
    }
}
