//! What an engine reads of an answer: its shape, not its words.

use coracle_tests::*;

/// `state`: the keys of the specification and of runc, the status, and that it is the container that was made.
pub fn state(state: &Value, container: &Container<'_>, pid: i32, annotations: &Value, statuses: &[&str]) {
    assert!(is_version(&state["ociVersion"]), "{state}");
    assert_eq!(state["id"], json!(container.id));
    assert_eq!(state["bundle"], json!(container.bundle.dir), "{state}");
    let status = state["status"].as_str().unwrap();
    assert!(statuses.contains(&status), "expected one of {statuses:?}: {state}");
    let expected = if status == "stopped" { json!(0) } else { json!(pid) };
    assert_eq!(state["pid"], expected, "{state}");
    assert!(runtime::is_time(state["created"].as_str().unwrap()), "{state}");
    for (name, value) in annotations.as_object().into_iter().flatten() {
        assert_eq!(state["annotations"].get(name), Some(value), "{state}");
    }
}

/// `features`: what containerd and Docker decide by.
pub fn features(features: &Value) {
    assert!(is_version(&features["ociVersionMin"]) && is_version(&features["ociVersionMax"]), "{features}");
    for list in ["hooks", "mountOptions"] {
        assert!(features[list].as_array().is_some_and(|list| !list.is_empty()), "{list}: {features}");
    }
    assert!(features["linux"]["namespaces"].as_array().unwrap().contains(&json!("user")), "{features}");
    assert_eq!(features["linux"]["mountExtensions"]["idmap"]["enabled"], true, "{features}");
    assert!(
        features["linux"]["seccomp"]["enabled"].is_boolean()
            && features["linux"]["cgroup"]["v2"].is_boolean()
    );
}

/// `--version`: a name, the word, a number; Docker and Podman take the lines apart.
pub fn version(text: &str) {
    let first = text.lines().next().unwrap_or("");
    let words: Vec<&str> = first.split(' ').collect();
    assert!(matches!(words.as_slice(), [_, "version", number] if number.contains('.')), "{text}");
    assert!(text.lines().any(|line| line.starts_with("spec: ")), "{text}");
}

/// `ps --format json`: a list of numbers, as the recorded one; the container's process is among them.
pub fn ps(listed: &Value, recorded: Option<&Value>, pid: i32) {
    let numbers =
        |list: &Value| list.as_array().is_some_and(|list| !list.is_empty() && list.iter().all(Value::is_u64));
    assert!(recorded.is_none_or(numbers) && numbers(listed), "{listed} where {recorded:?} was recorded");
    assert!(listed.as_array().unwrap().contains(&json!(pid)), "{pid} in {listed}");
}

fn is_version(value: &Value) -> bool {
    value.as_str().is_some_and(|text| {
        text.split('.').count() == 3 && text.starts_with(|sign: char| sign.is_ascii_digit())
    })
}
