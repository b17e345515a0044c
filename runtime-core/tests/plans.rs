//! Golden plans: what a configuration becomes on a machine that is written down, as text.
//!
//! `tests/plans/NAME` holds `config.json`, `facts.json` (the machine), maybe `choices.json` (what the caller decides), and the result:
//! `plan.txt`, or `error.txt` where the configuration is refused. `BLESS=1 cargo test -p coracle --test plans` writes the results anew;
//! the difference is for people to read. `tests/plans/recorded` holds what engines sent to a runtime; see the README there.
//!
//! Pure: needs no privileges and looks at nothing of the machine it runs on.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first thing that is not there"
)]

use std::fs;
use std::path::{Path, PathBuf};

use coracle::spec::{Process, Spec};
use coracle::{Bundle, Cgroups, Error, Facts, Runtime, Stdio};
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/plans")
}

/// Directories of cases, sorted by name.
fn cases() -> Vec<(String, PathBuf)> {
    let mut cases: Vec<_> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("config.json").exists())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), path))
        .collect();
    cases.sort();
    cases
}

fn facts(path: &Path) -> Facts {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// What the caller decides, in the words of the library's methods.
#[derive(Default)]
struct Choices {
    no_pivot: bool,
    at_once: bool,
    no_new_keyring: bool,
    pipes: bool,
    own_process: bool,
    systemd: bool,
    notify: bool,
    preserve: u32,
}

impl Choices {
    fn read(path: &Path) -> Self {
        let Ok(bytes) = fs::read(path) else { return Self::default() };
        let Value::Object(words) = serde_json::from_slice(&bytes).unwrap() else {
            panic!("{}: not an object", path.display())
        };
        let mut choices = Self::default();
        for (word, value) in words {
            match word.as_str() {
                "no_pivot" => choices.no_pivot = value.as_bool().unwrap(),
                "at_once" => choices.at_once = value.as_bool().unwrap(),
                "no_new_keyring" => choices.no_new_keyring = value.as_bool().unwrap(),
                "own_process" => choices.own_process = value.as_bool().unwrap(),
                "systemd" => choices.systemd = value.as_bool().unwrap(),
                "notify_socket" => choices.notify = value.as_bool().unwrap(),
                "pipes" => choices.pipes = value.as_bool().unwrap(),
                "preserve_fds" => choices.preserve = value.as_u64().unwrap().try_into().unwrap(),
                other => panic!("{}: unknown choice {other}", path.display()),
            }
        }
        choices
    }
}

fn plan(name: &str, config: &[u8], facts: Facts, choices: &Choices) -> Result<String, Error> {
    let spec = Spec::from_slice(config)?;
    let stdio = match (spec.process.as_ref().and_then(|p| p.terminal), choices.pipes) {
        (Some(true), _) => Stdio::Pty,
        (_, true) => Stdio::Pipes,
        _ => Stdio::Inherit,
    };
    let cgroups = if choices.systemd { Cgroups::Systemd } else { Cgroups::Auto };
    let builder = Runtime::builder().root("/run/coracle").facts(facts).own_process(choices.own_process);
    let runtime = builder.cgroups(cgroups).build()?;
    let bundle = Bundle::from_spec(spec, Path::new("/bundles").join(name))?;
    let create = runtime
        .create(&name.parse()?, bundle)
        .stdio(stdio)
        .preserve_fds(choices.preserve)
        .no_pivot(choices.no_pivot)
        .at_once(choices.at_once)
        .notify_socket(choices.notify)
        .no_new_keyring(choices.no_new_keyring);
    let plan = create.plan()?;
    let warnings: String = plan.warnings().map(|warning| format!("warning {warning}\n")).collect();
    Ok(format!("{plan}{warnings}"))
}

/// Every refusal with its place, and what a program can rely on.
fn refusal(error: &Error) -> String {
    let one =
        |e: &Error| format!("{:?} {}\n{}\n", e.kind(), e.code(), e.report().lines().next().unwrap_or(""));
    let mut out = String::new();
    for e in std::iter::once(error).chain(error.more()) {
        out.push_str(&format!("{}\n{}", e.pointer().unwrap_or("-"), one(e)));
    }
    if let Some(hint) = error.hint() {
        out.push_str(&format!("help: {hint}\n"));
    }
    out
}

/// The first line that differs, with the one before it.
fn first_difference(old: &str, new: &str) -> String {
    let mut before = "";
    for (number, (a, b)) in old.lines().zip(new.lines()).enumerate() {
        if a != b {
            return format!("line {}:\n    {before}\n  - {a}\n  + {b}", number + 1);
        }
        before = a;
    }
    format!("{} lines became {}", old.lines().count(), new.lines().count())
}

#[test]
fn every_case_gives_its_golden_result() {
    let bless = std::env::var_os("BLESS").is_some();
    let cases = cases();
    assert!(cases.len() >= 30, "only {} cases found in {}", cases.len(), folder().display());
    let mut wrong = Vec::new();
    for (name, path) in &cases {
        let config = fs::read(path.join("config.json")).unwrap();
        let choices = Choices::read(&path.join("choices.json"));
        let (result, file, other) = match plan(name, &config, facts(&path.join("facts.json")), &choices) {
            Ok(plan) => (plan, "plan.txt", "error.txt"),
            Err(error) => (refusal(&error), "error.txt", "plan.txt"),
        };
        if bless {
            fs::write(path.join(file), &result).unwrap();
            let _ = fs::remove_file(path.join(other));
            continue;
        }
        match fs::read_to_string(path.join(file)) {
            Ok(golden) if golden == result => {}
            Ok(golden) => wrong.push(format!("{name}/{file}: {}", first_difference(&golden, &result))),
            Err(_) => {
                wrong.push(format!("{name}: there is no {file}, and that is the result now:\n{result}"))
            }
        }
        if path.join(other).exists() {
            wrong.push(format!("{name}: {other} stands beside the result {file}"));
        }
    }
    assert!(wrong.is_empty(), "{}\n\nBLESS=1 writes the results anew", wrong.join("\n"));
}

/// A plan is a function of what it is given: nothing random, nothing of this machine.
#[test]
fn a_plan_is_the_same_every_time() {
    for (name, path) in cases() {
        let config = fs::read(path.join("config.json")).unwrap();
        let choices = Choices::read(&path.join("choices.json"));
        let once = || plan(&name, &config, facts(&path.join("facts.json")), &choices).map_err(|e| e.report());
        assert_eq!(once(), once(), "{name}");
    }
}

/// Where a slot stands in a line: `-> $3`, `tree=$3`, `null=$3`.
fn slot<'l>(line: &'l str, before: &str) -> Option<&'l str> {
    let rest = line.split_once(before)?.1;
    Some(rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or(rest))
}

/// A clone of a shared mount is its peer: what the container mounts there appears on the host. Only where the configuration says
/// "shared" may one be attached as it is.
#[test]
fn trees_of_the_host_are_cut_off_before_they_are_attached() {
    let mut cut = 0;
    for (name, path) in cases() {
        let Ok(plan) = fs::read_to_string(path.join("plan.txt")) else { continue };
        if fs::read_to_string(path.join("config.json")).unwrap().contains("shared\"") {
            continue;
        }
        let mut peers: Vec<&str> = Vec::new();
        for line in plan.lines() {
            let opened = (line.starts_with("launch") && !line.contains("open namespace"))
                .then(|| slot(line, "-> $"))
                .flatten()
                .or_else(|| line.contains("OpenHostTree").then(|| slot(line, "out=$")).flatten());
            peers.extend(opened);
            if line.contains("TreeAttr") && line.contains("propagation=") {
                peers.retain(|peer| Some(*peer) != slot(line, "tree=$"));
                cut += 1;
            }
            if line.contains("init    Attach") || line.contains("MaskPath") {
                let used = [slot(line, "tree=$"), slot(line, "null=$")];
                assert!(
                    !peers.iter().any(|peer| used.contains(&Some(*peer))),
                    "{name}: a peer of the host's mount is attached: {line}"
                );
            }
        }
    }
    assert!(cut > 100, "{cut}");
}

/// Documents that engines sent, one a line, with the filter put back in.
fn recorded() -> Vec<(String, Value)> {
    let folder = folder().join("recorded");
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "jsonl"))
        .collect();
    files.sort();
    let mut out = Vec::new();
    for file in files {
        let scenario = file.file_stem().unwrap().to_str().unwrap().to_owned();
        for line in fs::read_to_string(&file).unwrap().lines() {
            let Value::Object(mut line) = serde_json::from_str(line).unwrap() else { panic!("{scenario}") };
            let name = format!("{scenario}/{}", line["file"].as_str().unwrap());
            let mut document = line.remove("document").unwrap();
            if let Some(filter) = document.pointer_mut("/linux/seccomp").filter(|filter| filter.is_string()) {
                let path = folder.join("seccomp").join(format!("{}.json", filter.as_str().unwrap()));
                *filter = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
            }
            out.push((name, document));
        }
    }
    out
}

#[test]
fn recorded_configurations_plan() {
    // A machine with AppArmor, as theirs was.
    let root = folder().join("labels/facts.json");
    let mut planned = 0;
    let mut wrong = Vec::new();
    for (name, document) in recorded().into_iter().filter(|(name, _)| name.contains("config")) {
        let text = serde_json::to_vec(&document).unwrap();
        match plan("web", &text, facts(&root), &Choices::default()) {
            Ok(_) => planned += 1,
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(planned >= 60, "{planned}");
}

#[test]
fn recorded_documents_of_exec_are_valid() {
    let mut seen = 0;
    for (name, document) in recorded().into_iter().filter(|(name, _)| name.contains("process")) {
        let process = Process::from_slice(&serde_json::to_vec(&document).unwrap()).unwrap();
        if let Err(violations) = coracle::validate::validate_process(&process) {
            panic!("{name}: {violations:?}");
        }
        seen += 1;
    }
    assert!(seen > 25, "{seen}");
}
