//! What an ordinary user cannot have is refused, with the place named; nothing is weaker than it was asked for.
use coracle_tests::*;

cases![
    no_user_namespace,
    limits_without_delegation,
    groups,
    unmapped_users,
    foreign_ids,
    device_rules,
    raised_limits,
    pausing
];

fn refused(t: &T, bundle: &mut Bundle, pointer: &str) {
    let container = Container::new(t, bundle);
    let done = container.run().expect(1);
    let error = done.error();
    if t.ours() {
        let named = error["pointer"].as_str().unwrap_or("");
        assert!(named.starts_with(pointer), "{pointer}: {error}");
        assert_eq!(done.err.trim().lines().count(), 1, "{done}");
    }
    container.gone();
}

fn no_user_namespace(t: &T) {
    t.differs("crun", "one is made without being asked for");
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    bundle.without_namespace("user").remove("/linux/uidMappings").remove("/linux/gidMappings");
    refused(t, &mut bundle, "/linux/namespaces");
}

fn limits_without_delegation(t: &T) {
    t.differs("runc", "limits of an ordinary user may be dropped");
    t.differs("crun", "limits of an ordinary user may be dropped");
    for (key, value) in [
        ("memory", json!({"limit": 64 << 20})),
        ("pids", json!({"limit": 20})),
        ("cpu", json!({"quota": 50_000, "period": 100_000})),
    ] {
        let mut bundle = Bundle::new(t, &["exit", "0"]);
        bundle.set(&format!("/linux/resources/{key}"), value);
        refused(t, &mut bundle, "/linux/resources");
    }
}

fn groups(t: &T) {
    t.differs("crun", "the groups are dropped");
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    bundle.set("/process/user/additionalGids", json!([0]));
    refused(t, &mut bundle, "/process/user");
}

fn unmapped_users(t: &T) {
    for (field, value) in [("uid", 1000), ("gid", 1000)] {
        let mut bundle = Bundle::new(t, &["exit", "0"]);
        bundle.set(&format!("/process/user/{field}"), json!(value));
        refused(t, &mut bundle, "/process/user");
    }
}

fn foreign_ids(t: &T) {
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    bundle.set("/linux/uidMappings", json!([{"containerID": 0, "hostID": 0, "size": 1}]));
    refused(t, &mut bundle, "/linux/uidMappings");
}

fn device_rules(t: &T) {
    // Nobody can make a node here, so the rules that allow the default nodes hold by themselves.
    let mut bundle = Bundle::new(t, &["exit", "4"]);
    bundle.set(
        "/linux/resources/devices",
        json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm"}]),
    );
    Container::new(t, &mut bundle).run().expect(4);
}

fn raised_limits(t: &T) {
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    bundle.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 4_000_000_000u64}]));
    refused(t, &mut bundle, "/process/rlimits/0");
}

fn pausing(t: &T) {
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    // Without a cgroup of its own nothing can be frozen: said clearly, and the container goes on.
    let done = container.call("pause").done();
    if done.code() == 0 {
        assert_eq!(container.status(), "paused");
        container.call("resume").ok();
    } else {
        done.error();
    }
    assert_eq!(container.status(), "running");
    container.end();
}
