//! The features document of features.md and features-linux.md. What we put into it is in `crate::features`.

use std::collections::BTreeMap;

use super::objects::objects;

objects! {
    /// What a runtime recognises, whatever the machine can do (features.md).
    Features {
        must {
            /// Oldest accepted `ociVersion`.
            "ociVersionMin" oci_version_min: String,
            /// Newest accepted `ociVersion`.
            "ociVersionMax" oci_version_max: String,
        }
        option {
            /// What is particular to Linux.
            "linux" linux: LinuxFeatures,
        }
        many {
            /// Names of the hooks.
            "hooks" hooks: Vec<String>,
            /// Mount options, but for those of particular file systems.
            "mountOptions" mount_options: Vec<String>,
            /// Words of the implementation.
            "annotations" annotations: BTreeMap<String, String>,
            /// Annotations with an effect that the writer of a configuration has to be trusted with.
            "potentiallyUnsafeConfigAnnotations" potentially_unsafe_config_annotations: Vec<String>,
        }
    }

    /// What is particular to Linux (features-linux.md).
    LinuxFeatures {
        option {
            /// Control groups.
            "cgroup" cgroup: CgroupFeature,
            /// System call filters.
            "seccomp" seccomp: SeccompFeature,
            /// AppArmor.
            "apparmor" apparmor: Switch,
            /// SELinux.
            "selinux" selinux: Switch,
            /// Cache and memory bandwidth classes.
            "intelRdt" intel_rdt: IntelRdtFeature,
            /// Memory policies.
            "memoryPolicy" memory_policy: MemoryPolicyFeature,
            /// Kinds of mounts beyond the options.
            "mountExtensions" mount_extensions: MountExtensions,
            /// Moving network devices.
            "netDevices" net_devices: Switch,
        }
        many {
            /// Kinds of namespaces.
            "namespaces" namespaces: Vec<String>,
            /// Names of capabilities.
            "capabilities" capabilities: Vec<String>,
        }
    }

    /// Whether something is supported.
    Switch {
        option {
            /// Absent means unknown.
            "enabled" enabled: bool,
        }
    }

    /// Control groups.
    CgroupFeature {
        option {
            /// Version 1.
            "v1" v1: bool,
            /// Version 2.
            "v2" v2: bool,
            /// By the system's systemd.
            "systemd" systemd: bool,
            /// By the user's systemd.
            "systemdUser" systemd_user: bool,
            /// RDMA limits.
            "rdma" rdma: bool,
        }
    }

    /// System call filters.
    SeccompFeature {
        option {
            /// Whether filters are supported.
            "enabled" enabled: bool,
        }
        many {
            /// `SCMP_ACT_` names.
            "actions" actions: Vec<String>,
            /// `SCMP_CMP_` names.
            "operators" operators: Vec<String>,
            /// `SCMP_ARCH_` names.
            "archs" archs: Vec<String>,
            /// Flags that are recognised.
            "knownFlags" known_flags: Vec<String>,
            /// Flags that are passed to the kernel.
            "supportedFlags" supported_flags: Vec<String>,
        }
    }

    /// Cache and memory bandwidth classes.
    IntelRdtFeature {
        option {
            /// Whether they are supported.
            "enabled" enabled: bool,
            /// `schemata`.
            "schemata" schemata: bool,
            /// `enableMonitoring`.
            "monitoring" monitoring: bool,
        }
    }

    /// Memory policies.
    MemoryPolicyFeature {
        many {
            /// `MPOL_` names.
            "modes" modes: Vec<String>,
            /// `MPOL_F_` names.
            "flags" flags: Vec<String>,
        }
    }

    /// Kinds of mounts beyond the options.
    MountExtensions {
        option {
            /// Idmapped mounts.
            "idmap" idmap: Switch,
        }
    }
}
