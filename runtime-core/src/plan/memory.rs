//! Whose memory a child runs in, until it executes its program or ends.
//!
//! Must not: be asked for a child that waits for another command. Tests: below; of an exec in `exec.rs`.

use super::script::Script;
use crate::spec::Resources;
use crate::validate::{Namespace, NamespaceKind, ValidSpec};
use coracle_init::program::Step;

/// A child that waits for long would keep all of the command's memory, and one that others can trace lets them write it. The kernel kills
/// everybody who shares a memory with the one that went beyond its limit, gives all of them the same `oom_score_adj`, and charges what
/// they use to the cgroup of the first: what is copied into a tmpfs has to be the container's. Limits of cgroups above are not known here.
/// `unit`: systemd makes the cgroup, with properties of its own.
pub(crate) fn may_be_shared(valid: &ValidSpec, script: &Script, unit: bool) -> bool {
    use NamespaceKind::{Network, Pid, Time, User};
    let new = |(kind, namespace, _): (NamespaceKind, &Namespace, _)| {
        matches!(namespace, Namespace::New) || kind == Network
    };
    let resources = valid.spec.linux.as_ref().and_then(|linux| linux.resources.as_ref());
    let copies = script.steps.iter().any(|planned| matches!(planned.what, Step::CopyUp { .. }));
    !unit
        && !copies
        && valid.namespaces.is_new(Pid)
        && !valid.namespaces.contains(User)
        && !valid.namespaces.contains(Time)
        && valid.namespaces.iter().all(new)
        && valid.hooks.is_empty()
        && valid.process.oom_score_adj.is_none()
        && resources.is_none_or(|resources| !limits_memory(resources))
}

/// Whether these limits may be about memory; the keys of version 2 are not looked at.
pub(crate) fn limits_memory(resources: &Resources) -> bool {
    resources.memory.is_some() || !resources.unified.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn shares(change: impl FnOnce(&mut Value)) -> bool {
        shares_with(&Script::new(), false, change)
    }

    fn shares_with(script: &Script, unit: bool, change: impl FnOnce(&mut Value)) -> bool {
        let mut document = json!({
            "ociVersion": "1.3.0",
            "process": {"cwd": "/", "args": ["x"], "user": {"uid": 0, "gid": 0}},
            "root": {"path": "rootfs"},
            "linux": {
                "namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "network", "path": "/run/netns/x"}, {"type": "ipc"}],
                "resources": {"devices": [{"allow": false, "access": "rwm"}], "pids": {"limit": 9}}
            }
        });
        change(&mut document);
        let spec = crate::spec::Spec::from_slice(document.to_string().as_bytes()).unwrap();
        may_be_shared(&crate::validate::validate(spec).unwrap(), script, unit)
    }

    /// What makes a memory of its own necessary, one by one.
    #[test]
    fn a_child_shares_memory_where_nobody_can_use_it() {
        assert!(shares(|_| ()));
        assert!(!shares(|document| document["linux"]["namespaces"][1]["path"] = json!("/proc/1/ns/pid")));
        assert!(!shares(
            |document| document["linux"]["namespaces"][3] = json!({"type": "ipc", "path": "/proc/1/ns/ipc"})
        ));
        for namespaces in [
            json!([{"type": "mount"}]),
            json!([{"type": "mount"}, {"type": "pid"}, {"type": "time"}]),
            json!([{"type": "mount"}, {"type": "pid"}, {"type": "user"}]),
        ] {
            let ids = json!([{"containerID": 0, "hostID": 1000, "size": 10}]);
            let user = namespaces.to_string().contains("user");
            assert!(!shares(|document| {
                document["linux"]["namespaces"] = namespaces;
                if user {
                    document["linux"]["uidMappings"] = ids.clone();
                    document["linux"]["gidMappings"] = ids;
                }
            }));
        }
        assert!(!shares_with(&Script::new(), true, |_| ()), "systemd's properties may be limits");
        let mut script = Script::new();
        let (tree, target) = (script.slot().unwrap(), script.str("/tmp").unwrap());
        script.step("", crate::error::Phase::Mounts, Step::CopyUp { tree, target });
        assert!(!shares_with(&script, false, |_| ()));
        assert!(!shares(|document| document["process"]["oomScoreAdj"] = json!(0)));
        assert!(!shares(|document| document["linux"]["resources"]["memory"] = json!({"limit": 1 << 30})));
        assert!(!shares(|document| document["linux"]["resources"]["unified"] = json!({"memory.max": "1"})));
        assert!(!shares(|document| document["hooks"] = json!({"startContainer": [{"path": "/x"}]})));
    }
}
