//! The documents of the runtime specification 1.3 as Rust types, and how they are read.
//!
//! For: `config.json`, the process document of `exec`, the resources document of `update`, the state and the
//! features documents, one type for each object, one field for each property. Names are the specification's in
//! snake case; values that come from a list of words stay text, so that `validate` can point at one it does not know.
//! Must not: fill in defaults, judge values (beyond what a number can hold), or look at the machine.
//! Tests: beside `load.rs`, `scan.rs`, `id.rs`, `keys.rs`, `example.rs`; `runtime-core/tests/data` holds documents
//! that engines really wrote.

mod example;
mod features;
mod id;
mod keys;
mod linux;
mod load;
mod objects;
mod process;
mod resources;
mod scan;
mod seccomp;
mod state;

use std::collections::BTreeMap;

use objects::objects;

pub use features::{
    CgroupFeature, Features, IntelRdtFeature, LinuxFeatures, MemoryPolicyFeature, MountExtensions,
    SeccompFeature, Switch,
};
pub use id::{Id, InvalidId};
pub(crate) use keys::nearest;
#[cfg(test)]
pub(crate) use keys::properties;
pub use keys::{UnknownKey, known_keys, unknown_keys};
pub use linux::{
    Device, IdMapping, IntelRdt, Linux, LinuxNamespace, MemoryPolicy, NetDevice, Personality, TimeOffset,
};
pub(crate) use load::read_config_at;
pub use load::{LoadError, MAX_DOCUMENT, read_config, read_document};
pub use process::{Box2D, Capabilities, ExecCpuAffinity, IoPriority, Process, Rlimit, Scheduler, User};
pub use resources::{
    BlockIo, Cpu, DeviceRule, HugepageLimit, InterfacePriority, Memory, Network, Pids, Rdma, Resources,
    ThrottleDevice, WeightDevice,
};
pub use scan::{MAX_DEPTH, push_token};
pub use seccomp::{Seccomp, SeccompArg, SeccompRule};
pub use state::{ContainerProcessState, State};

/// The newest version of the specification that these types follow.
pub const OCI_VERSION: &str = "1.3.0";

objects! {
    /// `config.json` (config.md). The platform objects `solaris`, `windows`, `vm`, `zos` and `freebsd` belong to
    /// other platforms and are ignored.
    Spec {
        must {
            /// The version of the specification that the bundle was written for.
            "ociVersion" oci_version: String,
        }
        option {
            /// The program to run. Needed by the time of `create`.
            "process" process: Process,
            /// The root file system.
            "root" root: Root,
            /// Host name inside the container.
            "hostname" hostname: String,
            /// NIS domain name inside the container.
            "domainname" domainname: String,
            /// Programs to run at points of the life cycle.
            "hooks" hooks: Hooks,
            /// What is particular to Linux.
            "linux" linux: Linux,
        }
        many {
            /// Further mounts, made in this order.
            "mounts" mounts: Vec<Mount>,
            /// Words of others, kept for `state` and the hooks.
            "annotations" annotations: BTreeMap<String, String>,
        }
    }

    /// The root file system (config.md, "Root").
    Root {
        must {
            /// Directory, absolute or relative to the bundle.
            "path" path: String,
        }
        option {
            /// Whether the root is read-only inside.
            "readonly" readonly: bool,
        }
    }

    /// One mount (config.md, "Mounts").
    Mount {
        must {
            /// Where it appears, in the container.
            "destination" destination: String,
        }
        option {
            /// File system type; a dummy when the options make it a bind mount.
            "type" kind: String,
            /// Device, or host path of a bind mount (relative to the bundle).
            "source" source: String,
        }
        many {
            /// Options in the words of mount(8).
            "options" options: Vec<String>,
            /// Mapping of user ids for an idmapped mount.
            "uidMappings" uid_mappings: Vec<IdMapping>,
            /// Mapping of group ids for an idmapped mount.
            "gidMappings" gid_mappings: Vec<IdMapping>,
        }
    }

    /// Programs to run at points of the life cycle (config.md, "POSIX-platform Hooks").
    Hooks {
        many {
            /// Deprecated; after the namespaces are made, in the runtime's namespaces.
            "prestart" prestart: Vec<Hook>,
            /// During create, in the runtime's namespaces.
            "createRuntime" create_runtime: Vec<Hook>,
            /// During create, in the container's namespaces, before the root is changed.
            "createContainer" create_container: Vec<Hook>,
            /// During start, in the container.
            "startContainer" start_container: Vec<Hook>,
            /// After the program was started, in the runtime's namespaces.
            "poststart" poststart: Vec<Hook>,
            /// After the container was deleted, in the runtime's namespaces.
            "poststop" poststop: Vec<Hook>,
        }
    }

    /// One hook.
    Hook {
        must {
            /// Absolute path of the program.
            "path" path: String,
        }
        option {
            /// Seconds until the hook is killed.
            "timeout" timeout: i64,
            /// Environment, as for a process. Absent is not the same as empty.
            "env" env: Vec<String>,
        }
        many {
            /// Arguments, the program's name first.
            "args" args: Vec<String>,
        }
    }
}
