//! Documents: whatever is read is either refused with a place, or keeps its promises down to the plan's text.

use std::path::PathBuf;
use std::sync::OnceLock;

use coracle::spec::{Process, Resources, Spec};
use coracle::validate::{MountOptions, attr, validate, validate_process};
use coracle::{Bundle, Facts, Runtime, Stdio};
use serde_json::Value;

/// Loads the bytes as each kind of document.
pub fn spec_load(data: &[u8]) {
    match Spec::from_slice(data) {
        Ok(spec) => {
            // What was read can be written, and is then read as the same.
            let text = serde_json::to_vec(&spec).expect("a document that was read can be written");
            let again = Spec::from_slice(&text).unwrap_or_else(|e| panic!("not read again: {e}"));
            assert_eq!(spec, again);
        }
        Err(error) => {
            place_is_sound(&error.pointer, data);
            let lines = data.iter().filter(|byte| **byte == b'\n').count() + 1;
            assert!(error.line <= lines, "line {} of {lines}", error.line);
            one_line(&error.to_string());
        }
    }
    if let Some(violations) = Process::from_slice(data).ok().and_then(|p| validate_process(&p).err()) {
        assert!(!violations.is_empty());
    }
    let _ = Resources::from_slice(data);
}

/// Parts of a pointer that lead into the document lead to something (the last may be what is missing).
fn place_is_sound(pointer: &str, data: &[u8]) {
    assert!(pointer.is_empty() || pointer.starts_with('/'), "{pointer:?} is no pointer");
    let Ok(document) = serde_json::from_slice::<Value>(data) else { return };
    let parent = pointer.rsplit_once('/').map_or("", |(parent, _)| parent);
    assert!(document.pointer(parent).is_some(), "{pointer:?} leads nowhere");
}

fn one_line(text: &str) {
    assert!(!text.contains(['\n', '\r', '\u{1b}', '\0']), "{text:?} is more than a line of text");
}

/// Sorts mount options; the words stand between newlines.
pub fn mount_options(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let words: Vec<String> = text.split('\n').map(str::to_owned).collect();
    let options = MountOptions::parse(&words);
    for bits in [options.attributes, options.recursive, options.superblock] {
        assert_eq!(bits.set & bits.clear & !attr::ATIME, 0, "both set and cleared: {words:?}");
    }
    // Words for the file system keep their order, and no known word is among them.
    let mut rest = words.iter();
    for word in &options.data {
        assert!(rest.any(|have| have == word), "{word:?} is out of order in {words:?}");
        assert!(coracle::validate::known_options().all(|known| known != word), "{word:?} is known");
    }
    // Sorting what is left over changes nothing, and a word more never takes a restriction away that it does not name.
    assert_eq!(MountOptions::parse(&options.data).data, options.data);
    let mut more = words.clone();
    more.push("nosuid".to_owned());
    assert_eq!(MountOptions::parse(&more).attributes.set & attr::NOSUID, attr::NOSUID);
}

/// The machines that configurations are planned for.
fn machines() -> &'static [Facts] {
    static MACHINES: OnceLock<Vec<Facts>> = OnceLock::new();
    MACHINES.get_or_init(|| {
        let texts = [
            include_str!("../../tests/plans/default-v2/facts.json"),
            include_str!("../../tests/plans/default-hybrid/facts.json"),
            include_str!("../../tests/plans/rootless/facts.json"),
            include_str!("../../tests/plans/time-offsets-old-kernel/facts.json"),
            include_str!("../../tests/plans/default-in-user-namespace/facts.json"),
        ];
        texts.iter().map(|text| serde_json::from_str(text).expect("facts of the golden plans")).collect()
    })
}

/// A configuration through validation and the planner to the text, on several machines and with several choices.
pub fn plan(data: &[u8]) {
    let Ok(spec) = Spec::from_slice(data) else { return };
    match validate(spec.clone()) {
        Ok(_) => {}
        Err(violations) => {
            assert!(!violations.is_empty());
            for violation in violations {
                assert!(violation.pointer.is_empty() || violation.pointer.starts_with('/'), "{violation:?}");
                one_line(&violation.message);
            }
            return;
        }
    }
    let terminal = spec.process.as_ref().and_then(|process| process.terminal) == Some(true);
    for (at, facts) in machines().iter().enumerate() {
        let odd = at % 2 == 1;
        let runtime = Runtime::builder().root("/run/coracle").facts(facts.clone()).own_process(odd).build();
        let bundle = Bundle::from_spec(spec.clone(), "/bundles/fuzz").expect("the path is absolute");
        let create = runtime
            .expect("the path is absolute")
            .create(&"fuzz".parse().expect("a good name"), bundle)
            .stdio(if terminal { Stdio::Pty } else { Stdio::Inherit })
            .at_once(odd)
            .no_pivot(at == 2);
        match create.plan() {
            Ok(plan) => the_plan_holds(&spec, &plan.to_string()),
            Err(error) => {
                one_line(&error.to_string());
                assert!(!error.report().is_empty());
            }
        }
    }
}

/// What every plan promises, whatever was asked for.
fn the_plan_holds(spec: &Spec, text: &str) {
    let steps: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("init    ")).collect();
    let at = |name: &str| steps.iter().position(|step| step.split(' ').next() == Some(name));
    let last = |name: &str| steps.iter().rposition(|step| step.split(' ').next() == Some(name));
    assert_eq!(last("Exec"), Some(steps.len() - 1), "the program comes last");
    assert_eq!(at("CloseDescriptors"), Some(steps.len() - 2), "descriptors are closed right before it");
    assert!(at("NonDumpable").is_some() && at("Credentials").is_some() && at("Capabilities").is_some());
    assert!(at("BoundingSet") < at("Credentials") && at("Credentials") < last("Capabilities"));
    let root = at("PivotRoot").or(at("MoveRoot")).expect("the root is changed");
    assert!(last("Attach").is_none_or(|attach| attach < root), "every mount comes before the root change");
    assert!(at("MaskPath").is_none_or(|mask| mask > root), "covers come after the root change");
    let linux = spec.linux.as_ref();
    let masks = steps.iter().filter(|step| step.starts_with("MaskPath")).count();
    let masked: std::collections::BTreeSet<_> =
        linux.into_iter().flat_map(|linux| &linux.masked_paths).collect();
    assert_eq!(masks, masked.len(), "each masked path has its step, once");
    let filters = steps.iter().filter(|step| step.starts_with("Seccomp")).count();
    assert_eq!(filters, usize::from(linux.is_some_and(|linux| linux.seccomp.is_some())));
    let wants_nnp = spec.process.as_ref().is_some_and(|p| p.no_new_privileges == Some(true));
    assert_eq!(at("NoNewPrivs").is_some(), wants_nnp);
}

/// A state directory whose one container has these bytes as its record. Reading it changes nothing and kills nobody.
pub fn record(data: &[u8]) {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    let root = ROOT.get_or_init(|| {
        use std::os::unix::fs::DirBuilderExt;
        let root = std::env::temp_dir().join(format!("coracle-fuzz-{}", std::process::id()));
        let container = root.join("fuzz");
        std::fs::DirBuilder::new().mode(0o700).recursive(true).create(container).expect("a directory");
        root
    });
    std::fs::write(root.join("fuzz/record"), data).expect("the record is written");
    let runtime = Runtime::builder().root(root).build().expect("the path is absolute");
    match runtime.open(&"fuzz".parse().expect("a good name")) {
        Ok(container) => {
            assert_eq!(container.id().as_str(), "fuzz", "a record speaks of its own container");
            let _ = container.status();
            let _ = container.state();
        }
        Err(error) => one_line(&error.to_string()),
    }
    assert!(runtime.list().expect("the directory can be read").len() <= 1);
}
