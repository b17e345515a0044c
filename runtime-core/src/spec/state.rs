//! The state document of runtime.md, which hooks and `state` get, and what a seccomp listener gets.

use std::collections::BTreeMap;

use super::objects::objects;

objects! {
    /// State of a container (runtime.md, "State").
    State {
        must {
            /// Version of the specification that the document follows.
            "ociVersion" oci_version: String,
            /// Id of the container.
            "id" id: String,
            /// `creating`, `created`, `running`, `stopped`, or a further word of the runtime.
            "status" status: String,
            /// Absolute path of the bundle.
            "bundle" bundle: String,
        }
        option {
            /// Process id of the container's process, as the reader sees it.
            "pid" pid: i32,
        }
        many {
            /// Annotations of the configuration.
            "annotations" annotations: BTreeMap<String, String>,
        }
    }

    /// What is sent along with a seccomp listener (config-linux.md, "The Container Process State").
    ContainerProcessState {
        must {
            /// Version of the specification that the document follows.
            "ociVersion" oci_version: String,
            /// Names of the descriptors sent along, in order.
            "fds" fds: Vec<String>,
            /// Process id, as the runtime sees it.
            "pid" pid: i32,
            /// State of the container.
            "state" state: State,
        }
        option {
            /// Text of `listenerMetadata`.
            "metadata" metadata: String,
        }
    }
}
