//! What a runtime says about itself: a structure that it need not have, but that must be true.
use crate::rule::*;
use coracle_tests::*;

pub const RULES: &[Rule] = &[
    holds(
        "structure",
        "features.md#features-structure",
        "a runtime MAY describe itself; then versions are REQUIRED, and only what is defined is there",
        &[],
        |t| {
            let seen = features(t);
            for key in ["ociVersionMin", "ociVersionMax"] {
                assert!(seen[key].as_str().is_some_and(|version| version.starts_with("1.")), "{key}: {seen}");
            }
            let known = [
                "ociVersionMin",
                "ociVersionMax",
                "hooks",
                "mountOptions",
                "linux",
                "annotations",
                "potentiallyUnsafeConfigAnnotations",
            ];
            for (key, value) in seen.as_object().unwrap() {
                assert!(known.contains(&key.as_str()), "{key} is not defined");
                if ["hooks", "mountOptions", "potentiallyUnsafeConfigAnnotations"].contains(&key.as_str())
                    && !value.is_null()
                {
                    assert!(value.as_array().is_some_and(|all| all.iter().all(Value::is_string)), "{key}");
                }
            }
        },
    ),
    holds(
        "versions",
        "features.md#specification-version",
        "the least and the greatest version of the features MUST be accepted",
        &["/ociVersion"],
        |t| {
            let seen = features(t);
            for key in ["ociVersionMin", "ociVersionMax"] {
                let mut bundle = fresh(t, &["exit", "0"]);
                bundle.set("/ociVersion", seen[key].clone());
                Container::new(t, &mut bundle).run().expect(0);
            }
        },
    ),
    holds(
        "mount_options",
        "features.md#mount-options",
        "every mount option of the features MUST be known",
        &["/mounts/*/options/*"],
        |t| {
            let seen = features(t);
            let mut bundle = fresh(t, &["exit", "0"]);
            // These need something to work on.
            let others = ["bind", "rbind", "remount", "idmap", "ridmap"];
            let all = seen["mountOptions"].as_array().cloned().unwrap_or_default();
            for (n, option) in
                all.iter().map(|one| one.as_str().unwrap()).filter(|one| !others.contains(one)).enumerate()
            {
                // What only a newer kernel knows, and what is a file system's, is not asked of this machine.
                if !["acl", "noacl", "mand", "nomand"].contains(&option) {
                    bundle.mount("tmpfs", "tmpfs", &format!("/tmp/{n}"), &[option]);
                }
            }
            Container::new(t, &mut bundle).run().expect(0);
        },
    ),
    holds(
        "hooks",
        "features.md#hooks",
        "every kind of hook of the features MUST be supported",
        &["/hooks"],
        |t| {
            let seen = features(t);
            let out = outside(t, "seen");
            let mut bundle = fresh(t, &["exit", "0"]);
            bundle.bind(&out, "/seen", &["rw"]);
            let kinds: Vec<String> = seen["hooks"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|one| one.as_str().unwrap().to_owned())
                .collect();
            for kind in &kinds {
                let inside = kind == "startContainer";
                let program = if inside { "/payload" } else { harness::payload().to_str().unwrap() };
                let file =
                    if inside { format!("/seen/{kind}") } else { out.join(kind).display().to_string() };
                bundle.add(
                    &format!("/hooks/{kind}"),
                    json!({"path": program, "args": ["payload", "hook", file, kind]}),
                );
            }
            Container::new(t, &mut bundle).run().expect(0);
            for kind in &kinds {
                assert!(out.join(kind).exists(), "{kind} was not called");
            }
        },
    ),
];
/// The features structure; without one there is nothing to look at.
fn features(t: &T) -> Value {
    let mut bundle = fresh(t, &[]);
    let container = Container::new(t, &mut bundle);
    let done = container.bare("features").done();
    if done.code() != 0 {
        t.skip("the runtime does not describe itself, which it need not");
    }
    done.json()
}
