//! `linux` of config-linux.md, but for resources and seccomp.

use std::collections::BTreeMap;

use super::objects::objects;
use super::{Id, Resources, Seccomp};

objects! {
    /// What is particular to Linux (config-linux.md).
    Linux {
        option {
            /// Limits of the cgroup.
            "resources" resources: Resources,
            /// Where the cgroup is.
            "cgroupsPath" cgroups_path: String,
            /// System call filter.
            "seccomp" seccomp: Seccomp,
            /// Propagation of the root mount.
            "rootfsPropagation" rootfs_propagation: String,
            /// SELinux label of the mounts.
            "mountLabel" mount_label: String,
            /// Cache and memory bandwidth classes.
            "intelRdt" intel_rdt: IntelRdt,
            /// set_mempolicy(2).
            "memoryPolicy" memory_policy: MemoryPolicy,
            /// personality(2).
            "personality" personality: Personality,
        }
        many {
            /// User ids of the new user namespace.
            "uidMappings" uid_mappings: Vec<IdMapping>,
            /// Group ids of the new user namespace.
            "gidMappings" gid_mappings: Vec<IdMapping>,
            /// Kernel parameters, by name.
            "sysctl" sysctl: BTreeMap<String, String>,
            /// Namespaces that are new or joined; the others are the runtime's own.
            "namespaces" namespaces: Vec<LinuxNamespace>,
            /// Device nodes to make.
            "devices" devices: Vec<Device>,
            /// Network devices to move in, by the name they have outside.
            "netDevices" net_devices: BTreeMap<String, NetDevice>,
            /// Paths that must not be readable.
            "maskedPaths" masked_paths: Vec<String>,
            /// Paths that must not be writable.
            "readonlyPaths" readonly_paths: Vec<String>,
            /// Offsets of the clocks in a new time namespace, by clock.
            "timeOffsets" time_offsets: BTreeMap<String, TimeOffset>,
        }
    }

    /// A namespace to make or to join.
    LinuxNamespace {
        must {
            /// `pid`, `network`, `mount`, `ipc`, `uts`, `user`, `cgroup` or `time`.
            "type" kind: String,
        }
        option {
            /// Host path of the one to join; absent or empty makes a new one.
            "path" path: String,
        }
    }

    /// One line of an id map.
    IdMapping {
        must {
            /// First id inside.
            "containerID" container_id: Id,
            /// First id outside.
            "hostID" host_id: Id,
            /// How many.
            "size" size: u32,
        }
    }

    /// A device node to make.
    Device {
        must {
            /// Where, in the container.
            "path" path: String,
            /// `c`, `u`, `b` or `p`.
            "type" kind: String,
        }
        option {
            /// Major number; not for `p`.
            "major" major: i64,
            /// Minor number; not for `p`.
            "minor" minor: i64,
            /// Permission bits, and Go's or the kernel's type bits.
            "fileMode" file_mode: u32,
            /// Owner inside the container.
            "uid" uid: Id,
            /// Group inside the container.
            "gid" gid: Id,
        }
    }

    /// A network device to move in.
    NetDevice {
        option {
            /// Name inside; absent keeps the name.
            "name" name: String,
        }
    }

    /// Offset of one clock.
    TimeOffset {
        option {
            /// Seconds.
            "secs" secs: i64,
            /// Nanoseconds, below one second.
            "nanosecs" nanosecs: u32,
        }
    }

    /// Cache and memory bandwidth classes (resctrl).
    IntelRdt {
        option {
            /// Name of the class.
            "closID" clos_id: String,
            /// `L3:` lines.
            "l3CacheSchema" l3_cache_schema: String,
            /// `MB:` lines.
            "memBwSchema" mem_bw_schema: String,
            /// Whether the container gets a monitoring group.
            "enableMonitoring" enable_monitoring: bool,
        }
        many {
            /// Lines for the `schemata` file, written last.
            "schemata" schemata: Vec<String>,
        }
    }

    /// set_mempolicy(2).
    MemoryPolicy {
        must {
            /// `MPOL_` name.
            "mode" mode: String,
        }
        option {
            /// List of nodes like `0-3,7`.
            "nodes" nodes: String,
        }
        many {
            /// `MPOL_F_` names.
            "flags" flags: Vec<String>,
        }
    }

    /// personality(2).
    Personality {
        must {
            /// `LINUX` or `LINUX32`.
            "domain" domain: String,
        }
        many {
            /// None are defined.
            "flags" flags: Vec<String>,
        }
    }
}
