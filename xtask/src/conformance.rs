//! `conformance`: the suite of the specification on several runtimes, and the table of what came out.
//!
//! A runtime in another root file system (`ROOT:PATH`) brings its own libraries; the suite is a static program and runs there
//! with it. Tests: at the end.

use crate::run::{self, Outcome, Scratch, built, say};
use crate::{scripts, suites};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the table goes.
const TABLE: &str = "docs/conformance.md";

/// What looks at control groups, and what the machine may be allowed to do where this one is not: asked in the machine, too.
pub const WITH_VERSION_2: [&str; 7] = [
    "cgroups::",
    "resources::",
    "devices::allowed",
    "devices::in_the_listed_order",
    "identity::raised_limit",
    "scheduling::fifo",
    "scheduling::round_robin",
];

/// A case: its name with its area, the section, the sentence.
#[derive(Debug)]
struct Rule {
    name: String,
    at: String,
    says: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Passed,
    Failed,
    Skipped(String),
}

/// A runtime with what the suite says about it.
#[derive(Debug)]
struct Subject {
    title: String,
    /// Another root file system, if it lies in one.
    root: Option<PathBuf>,
    path: PathBuf,
    verdicts: BTreeMap<String, Verdict>,
    /// Whether it was asked in the machine with version 2, too.
    version_2: bool,
}

/// Runs the suite on coracle, on what is installed, and on the runtimes that are named (`PATH` or `ROOT:PATH`); with `--vm` the
/// cases about control groups in the machine with version 2, too. Writes the table.
///
/// # Errors
/// Something cannot be built or run, or coracle fails a case.
pub fn conformance(args: &[String]) -> Outcome {
    if !run::is_root() {
        return Err("conformance: the suite runs as root".to_owned());
    }
    suites::build()?;
    let scratch = Scratch::new("conformance")?;
    let program = scratch.path().join("conformance");
    for (from, to) in [
        (suites::program("conformance")?, &program),
        (built("coracle-payload"), &scratch.path().join("payload")),
    ] {
        fs::copy(&from, to).map_err(|e| format!("copy {}: {e}", from.display()))?;
    }
    let rules = rules(&run::output(run::program(&program, ["--rules"]).env("PAYLOAD", "/"))?);
    let (options, named): (Vec<&String>, Vec<&String>) = args.iter().partition(|word| word.starts_with("--"));
    let mut subjects = vec![Subject::new(&built("coracle").display().to_string())?];
    let installed = ["/usr/sbin/runc", "/usr/bin/crun"].into_iter().filter(|path| Path::new(path).exists());
    for one in installed.chain(named.iter().map(|word| word.as_str())) {
        subjects.push(Subject::new(one)?);
    }
    for subject in &mut subjects {
        subject.here(scratch.path())?;
        // There is no C library in the machine but what a root brings.
        let has_libraries = subject.root.is_some() || subject.path == built("coracle");
        if has_libraries && options.iter().any(|word| *word == "--vm") {
            subject.in_machine(scratch.path())?;
        }
    }
    let text = table(&rules, &subjects);
    let to = run::root().join(TABLE);
    fs::write(&to, text).map_err(|e| format!("write {}: {e}", to.display()))?;
    let failed = subjects.first().map_or(0, |own| own.count(&rules, None, &Verdict::Failed));
    if failed == 0 { Ok(()) } else { Err(format!("coracle fails {failed} cases")) }
}

impl Subject {
    fn new(word: &str) -> Result<Self, String> {
        let (root, path) = match word.split_once(':') {
            Some((root, path)) => (Some(PathBuf::from(root)), PathBuf::from(path)),
            None => (None, PathBuf::from(word)),
        };
        let mut one = Self { title: String::new(), root, path, verdicts: BTreeMap::new(), version_2: false };
        let said = run::output(one.command(&one.path.clone()).arg("--version"))?;
        // "runc version 1.3.6+ds1", and for others what a distribution added to the version.
        let words: Vec<&str> = said.lines().next().unwrap_or_default().split_whitespace().collect();
        let version = words.last().and_then(|word| word.split('+').next()).unwrap_or_default();
        one.title = format!("{} {version}", words.first().unwrap_or(&"runtime"));
        Ok(one)
    }

    /// A program where the runtime is.
    fn command(&self, program: &Path) -> Command {
        match &self.root {
            None => run::program(program, [""; 0]),
            Some(root) => {
                let mut command = run::program(run::root().join("xtask/in-root"), [root.as_path(), program]);
                command.env("TMPDIR", "/tmp");
                command
            }
        }
    }

    /// The whole suite on this machine.
    fn here(&mut self, dir: &Path) -> Outcome {
        say(&format!("+ conformance of {}", self.title));
        let mut command = self.command(&dir.join("conformance"));
        command.env("RUNTIME", &self.path).env("PAYLOAD", dir.join("payload"));
        let done = command.output().map_err(|e| format!("run the suite: {e}"))?;
        self.note(&String::from_utf8_lossy(&done.stdout))
    }

    /// The cases about control groups in the machine with version 2.
    fn in_machine(&mut self, dir: &Path) -> Outcome {
        self.version_2 = true;
        say(&format!("+ conformance of {} in the machine", self.title));
        let own = dir.join("coracle");
        if self.root.is_none() && fs::copy(&self.path, &own).is_err() {
            return Err(format!("copy {}", self.path.display()));
        }
        let mut words = Vec::new();
        let mut shares = vec![dir.to_path_buf()];
        if let Some(root) = &self.root {
            fs::copy(run::root().join("xtask/in-root"), dir.join("in-root")).map_err(|e| e.to_string())?;
            shares.push(root.clone());
            words.extend([
                dir.join("in-root").display().to_string(),
                root.display().to_string(),
                "/usr/bin/env".to_owned(),
            ]);
        } else {
            words.push("env".to_owned());
        }
        let runtime = if self.root.is_some() { &self.path } else { &own };
        words.push(format!("RUNTIME={}", runtime.display()));
        words.push(format!("PAYLOAD={}", dir.join("payload").display()));
        // A root is shared read-only, and /tmp has no devices.
        words.push(format!("TMPDIR={}", if self.root.is_some() { "/run" } else { "/var/tmp" }));
        words.push(dir.join("conformance").display().to_string());
        words.extend(WITH_VERSION_2.map(str::to_owned));
        self.note(&scripts::in_machine_output(&shares, &words)?)
    }

    /// Reads what the suite prints; a case that fails anywhere fails, one that passes anywhere else passes.
    fn note(&mut self, text: &str) -> Outcome {
        let mut read = 0;
        for line in text.lines() {
            let Some((word, rest)) = line.split_once(": ") else { continue };
            // The name has colons, but none with a space behind it.
            let name = rest.split_once(": ").map_or_else(|| name_of(rest), |(name, _)| name_of(name));
            let verdict = match word {
                "ok" => Verdict::Passed,
                "FAILED" => Verdict::Failed,
                "skipped" => {
                    Verdict::Skipped(rest.split_once(": ").map_or(name, |(_, reason)| reason).to_owned())
                }
                _ => continue,
            };
            read += 1;
            let known = self.verdicts.entry(name.to_owned()).or_insert_with(|| verdict.clone());
            if verdict == Verdict::Failed || matches!(known, Verdict::Skipped(_)) {
                *known = verdict;
            }
        }
        if read == 0 { Err(format!("the suite said nothing about {}: {text}", self.title)) } else { Ok(()) }
    }

    fn verdict(&self, rule: &Rule) -> Verdict {
        let missing = || Verdict::Skipped("the suite did not come to it".to_owned());
        self.verdicts.get(&rule.name).cloned().unwrap_or_else(missing)
    }

    /// How many cases of an area, or of all, have this verdict (skipped ones whatever their reason).
    fn count(&self, rules: &[Rule], area: Option<&str>, verdict: &Verdict) -> usize {
        let same = |found: &Verdict| match (found, verdict) {
            (Verdict::Skipped(_), Verdict::Skipped(_)) => true,
            (found, verdict) => found == verdict,
        };
        let of_area = rules.iter().filter(|rule| area.is_none_or(|area| rule.area() == area));
        of_area.filter(|rule| same(&self.verdict(rule))).count()
    }
}

/// The name of a case, without the time behind it.
fn name_of(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default()
}

impl Rule {
    fn area(&self) -> &str {
        self.name.split("::").next().unwrap_or_default()
    }
}

fn rules(text: &str) -> Vec<Rule> {
    let parts = text.lines().filter_map(|line| {
        let mut parts = line.split('\t').map(str::to_owned);
        Some(Rule { name: parts.next()?, at: parts.next()?, says: parts.next()? })
    });
    parts.collect()
}

const HEAD: &str = "\
# What the specification demands, and who does it

Made by `cargo xtask conformance`; do not edit. Each case of `tests/conformance` stands for a sentence of the runtime specification
1.3 (or for one property in it), and is proven with real containers: by what the process inside sees, by what the kernel says outside, or by
a refusal of `create` after which nothing is left. Nothing in the suite knows which runtime it runs. Where the specification leaves
a choice, every choice passes; a limit that is refused passes, one that is taken and not set does not. A runtime that was made for an older
version fails what is younger.

Each property of `config.json` that the specification has for Linux is named by at least one case; another test of the same suite
fails when one is not.

";

fn table(rules: &[Rule], subjects: &[Subject]) -> String {
    let mut text = HEAD.to_owned();
    let titles: Vec<&str> = subjects.iter().map(|one| one.title.as_str()).collect();
    let _ =
        writeln!(text, "| area | cases | {} |\n|---|---|{}", titles.join(" | "), "---|".repeat(titles.len()));
    let mut areas: Vec<&str> = rules.iter().map(Rule::area).collect();
    areas.dedup();
    for area in areas.into_iter().map(Some).chain([None]) {
        let cases = rules.iter().filter(|rule| area.is_none_or(|area| rule.area() == area)).count();
        let _ = write!(text, "| {} | {cases} |", area.map_or("all".to_owned(), |area| format!("`{area}`")));
        for one in subjects {
            let passed = one.count(rules, area, &Verdict::Passed);
            let skipped = one.count(rules, area, &Verdict::Skipped(String::new()));
            let _ = write!(text, " {passed}");
            if skipped > 0 {
                let _ = write!(text, " ({skipped} skipped)");
            }
            text.push_str(" |");
        }
        text.push('\n');
    }
    let both: Vec<&str> = subjects.iter().filter(|one| one.version_2).map(|one| one.title.as_str()).collect();
    if !both.is_empty() {
        let _ = writeln!(
            text,
            "\nControl groups are of version 1 here; for {}, the cases about them were run with version 2, too. Who fails with one of both \
             fails.",
            both.join(", ")
        );
    }
    text.push_str(
        "\n## Cases that fail\n\n| case | section | what is demanded | fails |\n|---|---|---|---|\n",
    );
    for rule in rules {
        let failing: Vec<&str> = subjects
            .iter()
            .filter(|one| one.verdict(rule) == Verdict::Failed)
            .map(|one| one.title.as_str())
            .collect();
        if !failing.is_empty() {
            let _ =
                writeln!(text, "| `{}` | {} | {} | {} |", rule.name, rule.at, rule.says, failing.join(", "));
        }
    }
    text.push_str("\n## Cases that were skipped\n\n| case | reason | skipped with |\n|---|---|---|\n");
    for rule in rules {
        let mut reasons: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for one in subjects {
            if let Verdict::Skipped(reason) = one.verdict(rule) {
                reasons.entry(reason).or_default().push(&one.title);
            }
        }
        for (reason, who) in reasons {
            let who = if who.len() == subjects.len() { "all".to_owned() } else { who.join(", ") };
            let _ = writeln!(text, "| `{}` | {reason} | {who} |", rule.name);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_suite_prints_is_read() {
        let mut one = Subject {
            title: "x".to_owned(),
            root: None,
            path: PathBuf::new(),
            verdicts: BTreeMap::new(),
            version_2: true,
        };
        one.note("3 cases\nok: a::b (0.01 s)\nFAILED: a::c (0.01 s)\n    text: more\nskipped: a::d: needs: x\n1 passed").unwrap();
        one.note("ok: a::d (1.00 s)\nok: a::c (0.10 s)\nskipped: a::b: no").unwrap();
        let verdict = |name: &str| one.verdicts[name].clone();
        assert_eq!(verdict("a::b"), Verdict::Passed);
        assert_eq!(verdict("a::c"), Verdict::Failed);
        assert_eq!(verdict("a::d"), Verdict::Passed);
        assert!(one.note("nothing").is_err());
        let rules = rules("a::b\tconfig.md#x\tMUST\na::c\tconfig.md#y\tSHOULD\na::e\tz\tMAY\n");
        let text = table(&rules, &[one]);
        assert!(
            text.contains("| `a` | 3 | 1 (1 skipped) |")
                && text.contains("| `a::c` | config.md#y | SHOULD | x |"),
            "{text}"
        );
    }
}
