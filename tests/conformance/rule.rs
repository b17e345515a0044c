//! What a case of this suite is: one sentence of the specification, the properties that it speaks of, and how it is proven.
//!
//! A case must not know which runtime it runs. What it may rely on: the commands of the specification (`create`, `start`,
//! `state`, `kill`, `delete`) and `run` and `exec` with the flags that runc gave them; that a refused operation ends with another
//! code than zero; what the process inside sees; what the kernel says outside.
use coracle_tests::*;
use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

/// A chapter of the specification with its cases.
pub struct Area {
    pub name: &'static str,
    pub rules: &'static [&'static [Rule]],
}

/// One sentence and its proof.
pub struct Rule {
    pub name: &'static str,
    /// Document and section, like `config.md#mounts`.
    pub at: &'static str,
    /// What it demands, in few words, with the keyword of the specification.
    pub says: &'static str,
    /// The properties of `config.json` that a configuration of this case has; `*` is any entry of a list or a map.
    pub fields: &'static [&'static str],
    pub needs: &'static [Need],
    pub proof: Proof,
}

/// What a case changes in the default bundle.
pub type Edit = fn(&mut Bundle) -> &mut Bundle;

pub enum Proof {
    /// The edited bundle is refused: by `create`, with nothing run and nothing left.
    Refused(Edit),
    /// The process of the edited bundle reports what it sees, and that holds.
    Sees(Edit, fn(&Value)),
    /// Anything else.
    Holds(fn(&T)),
}

pub const fn refused(
    name: &'static str,
    at: &'static str,
    says: &'static str,
    fields: &'static [&'static str],
    edit: Edit,
) -> Rule {
    Rule { name, at, says, fields, needs: &[], proof: Proof::Refused(edit) }
}

pub const fn sees(
    name: &'static str,
    at: &'static str,
    says: &'static str,
    fields: &'static [&'static str],
    edit: Edit,
    check: fn(&Value),
) -> Rule {
    Rule { name, at, says, fields, needs: &[], proof: Proof::Sees(edit, check) }
}

pub const fn holds(
    name: &'static str,
    at: &'static str,
    says: &'static str,
    fields: &'static [&'static str],
    run: fn(&T),
) -> Rule {
    Rule { name, at, says, fields, needs: &[], proof: Proof::Holds(run) }
}

impl Rule {
    /// The same on machines that have all of these.
    pub const fn needs(mut self, needs: &'static [Need]) -> Self {
        self.needs = needs;
        self
    }
}

/// The cases as the harness wants them, which are found again by their names.
pub fn cases() -> &'static [Case] {
    static CASES: OnceLock<Vec<Case>> = OnceLock::new();
    CASES.get_or_init(|| {
        let named = all().map(|(area, rule)| named(area, rule));
        named.map(|name| Case { name: String::leak(name), run: prove, alone: false }).collect()
    })
}

/// All of them, with their areas.
pub fn all() -> impl Iterator<Item = (&'static Area, &'static Rule)> {
    super::AREAS.iter().flat_map(|area| area.rules.iter().copied().flatten().map(move |rule| (area, rule)))
}

fn named(area: &Area, rule: &Rule) -> String {
    format!("conformance::{}::{}", area.name, rule.name)
}

/// The rule of a running case.
fn rule(t: &T) -> &'static Rule {
    let found = all().find(|(area, rule)| t.name.split_once("::") == Some((area.name, rule.name)));
    found.expect("cases are made of rules").1
}

fn prove(t: &T) {
    let rule = rule(t);
    t.needs(rule.needs);
    match rule.proof {
        Proof::Refused(edit) => {
            let mut bundle = fresh(t, &[]);
            edit(&mut bundle);
            is_refused(t, &mut bundle);
        }
        Proof::Sees(edit, check) => {
            let mut bundle = fresh(t, &["report"]);
            edit(&mut bundle);
            check(&report(t, &mut bundle));
        }
        Proof::Holds(run) => run(t),
    }
    let written = configurations(t);
    for field in rule.fields {
        assert!(
            written.iter().any(|config| has(config, field)),
            "no configuration of this case has {field}, which it claims to look at"
        );
    }
}

/// What is younger than version 1.0: a bundle that has it says so, and an older runtime may refuse it.
const YOUNG: [(&str, &str); 16] = [
    ("/domainname", "1.1.0"),
    ("/mounts/*/uidMappings", "1.1.0"),
    ("/mounts/*/gidMappings", "1.1.0"),
    ("/linux/timeOffsets", "1.1.0"),
    ("/linux/seccomp/listener", "1.1.0"),
    ("/linux/seccomp/defaultErrnoRet", "1.1.0"),
    ("/linux/resources/memory/checkBeforeUpdate", "1.1.0"),
    ("/linux/resources/cpu/idle", "1.1.0"),
    ("/linux/resources/cpu/burst", "1.1.0"),
    ("/process/scheduler", "1.1.0"),
    ("/process/ioPriority", "1.1.0"),
    ("/process/execCPUAffinity", "1.2.0"),
    ("/linux/netDevices", "1.3.0"),
    ("/linux/memoryPolicy", "1.3.0"),
    ("/linux/intelRdt/schemata", "1.3.0"),
    ("/linux/intelRdt/enableMonitoring", "1.3.0"),
];

/// A bundle that says which version of the specification it needs.
pub fn fresh(t: &T, words: &[&str]) -> Bundle {
    let mut bundle = Bundle::new(t, words);
    let young = |field: &str| {
        YOUNG.iter().filter(move |(prefix, _)| field.starts_with(prefix)).map(|(_, version)| *version).max()
    };
    if let Some(version) = rule(t).fields.iter().filter_map(|field| young(field)).max() {
        bundle.set("/ociVersion", json!(version));
    }
    bundle
}

/// Expects that `create` refuses: the program is not run, there is no container, nothing is left.
pub fn is_refused(t: &T, bundle: &mut Bundle) {
    let proof = bundle.inside("/it-was-run");
    if bundle.spec.pointer("/process/args") == Some(&json!(["/payload"])) {
        bundle.command(&["do", r#"["open", "/it-was-run", "create"]"#]);
    }
    let container = Container::new(t, bundle);
    refuses(&container);
    assert!(!proof.exists(), "the program was run");
}

/// Expects that `create` refuses what is written: there is no container, nothing is left.
pub fn refuses(container: &Container<'_>) {
    let done = container.create_call().done();
    assert_ne!(done.code(), 0, "it is taken: {done}");
    assert!(done.code() < 1000, "the runtime crashes: {done}");
    let asked = container.call("state").done();
    assert_ne!(asked.code(), 0, "there is a container: {asked}");
    container.gone();
}

/// The configurations that the case has written, as the last container of each bundle had them.
fn configurations(t: &T) -> Vec<Value> {
    let entries = fs::read_dir(t.dir()).expect("the case's directory").flatten();
    let files = entries.map(|entry| entry.path().join("config.json"));
    files.filter_map(|file| serde_json::from_slice(&fs::read(file).ok()?).ok()).collect()
}

/// Whether a document has a property; `*` is any entry.
fn has(value: &Value, pointer: &str) -> bool {
    let Some(rest) = pointer.strip_prefix('/') else { return true };
    let (name, rest) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    match (value, name) {
        (Value::Array(list), "*") => list.iter().any(|one| has(one, rest)),
        (Value::Object(map), "*") => map.values().any(|one| has(one, rest)),
        (Value::Object(map), name) => map.get(name).is_some_and(|one| has(one, rest)),
        _ => false,
    }
}

/// A directory of the case, outside every bundle.
pub fn outside(t: &T, name: &str) -> PathBuf {
    let dir = t.dir().join(name);
    fs::create_dir_all(&dir).expect("the case's directory");
    dir
}

/// The report of a bundle's process, which looks at these paths, too.
pub fn report_on(t: &T, bundle: &mut Bundle, paths: &[&str]) -> Value {
    look_at(bundle, paths);
    report(t, bundle)
}

/// Makes the process report these paths, too.
pub fn look_at(bundle: &mut Bundle, paths: &[&str]) {
    let mut words = vec!["report"];
    paths.iter().for_each(|path| words.extend(["--path", path]));
    bundle.command(&words);
}

/// Whether an action succeeded.
pub fn works(answer: &Value) -> bool {
    answer.get("ok").is_some()
}
