//! The runtime in a container: what the outer one keeps from the inner one is said with its cause.
use coracle_tests::*;

cases![a_whole_proc, a_masked_proc, no_user_namespaces];

fn ours_alone(t: &T) {
    t.differs("runc", "no hints");
    t.differs("crun", "no hints");
    t.needs(&[Need::UserNamespaces]);
}

/// A container with the runtime at `/runtime` and the bundle of another one, with a user namespace, at `/inner`.
fn outer(t: &T) -> Bundle {
    let mut inner = Bundle::new(t, &["exit", "7"]);
    inner.add("/linux/namespaces", json!({"type": "user"}));
    for map in ["/linux/uidMappings", "/linux/gidMappings"] {
        inner.set(map, json!([{"containerID": 0, "hostID": 0, "size": 1}]));
    }
    inner.remove("/linux/resources");
    for mount in inner.spec["mounts"].as_array_mut().unwrap() {
        if let Some(options) = mount["options"].as_array_mut() {
            options.retain(|option| option != "gid=5");
        }
    }
    inner.write();
    let mut bundle = Bundle::new(t, &["ready"]);
    bundle.bind(&inner.dir, "/inner", &["rbind"]);
    bundle.bind(&t.runtime.path, "/runtime", &["ro"]);
    bundle.mount("tmpfs", "tmpfs", "/tmp", &[]);
    bundle.set("/root/readonly", json!(false));
    bundle
}

/// The inner container's exit code, and what was said.
fn runs(container: &Container<'_>) -> Done {
    let words = [
        "/runtime",
        "--root",
        "/tmp/state",
        "--cgroup-manager",
        "disabled",
        "run",
        "--bundle",
        "/inner",
        "i",
    ];
    container.exec(&words)
}

fn unmasked(bundle: &mut Bundle) {
    bundle.set("/linux/maskedPaths", json!([])).set("/linux/readonlyPaths", json!([]));
}

fn a_whole_proc(t: &T) {
    ours_alone(t);
    let mut bundle = outer(t);
    unmasked(&mut bundle);
    let container = Container::new(t, &mut bundle);
    container.ready();
    runs(&container).expect(7);
    container.end();
}

fn a_masked_proc(t: &T) {
    ours_alone(t);
    let mut bundle = outer(t);
    let container = Container::new(t, &mut bundle);
    container.ready();
    let done = runs(&container).expect(1);
    assert!(done.err.contains("make the proc file system"), "{done}");
    assert!(done.err.contains("is covered here") && done.err.contains("/proc/"), "{done}");
    container.end();
}

fn no_user_namespaces(t: &T) {
    ours_alone(t);
    let mut bundle = outer(t);
    unmasked(&mut bundle);
    // The limit of a user namespace of its own, which is the machine's for all others.
    bundle.user_namespace(100_000);
    let set = json!(["CAP_SYS_RESOURCE"]);
    bundle.set("/process/capabilities", json!({"bounding": set, "effective": set, "permitted": set}));
    let container = Container::new(t, &mut bundle);
    container.ready();
    let got = container.tries(&[json!(["write", "/proc/sys/user/max_user_namespaces", "0"])]);
    assert!(got[0].get("ok").is_some(), "{got:?}");
    let done = runs(&container).expect(1);
    assert!(done.err.contains("user.max_user_namespaces is 0"), "{done}");
    container.end();
}
