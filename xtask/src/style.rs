//! Rules of style that no lint of the compiler knows. Each finding names file and line.
//!
//! It reads the files that git tracks, as text: it knows lines and words, no syntax. Tests: at the end.

use crate::run::{self, Outcome, say};
use std::fs;

/// What is shipped.
const SHIPPED: [&str; 4] =
    ["runtime-init/src/", "runtime-core/src/", "runtime-cli/src/", "seccomp-profiles/src/"];

/// Where unsafe code may be. The last four are not shipped: a program for tests, one that is linked and never started,
/// and tests that have to make descriptors and system calls of their own.
const UNSAFE: [&str; 7] = [
    "runtime-init/src/sys.rs",
    "runtime-init/src/sys/",
    "runtime-core/src/sys/",
    "tests/payload/src/sys.rs",
    "runtime-init/link/",
    "runtime-init/tests/",
    "seccomp-profiles/tests/",
];

/// Files that may be longer, each with its reason.
const LONG: &[(&str, &str)] = &[("seccomp-profiles/src/table/data.rs", "generated, one row per system call")];

/// How many lines of code a file may have, without comments and blank lines; one of tests may have more, for a case is read
/// alone.
fn most(path: &str) -> usize {
    let test = path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs");
    if test { 600 } else { 500 }
}

fn length(text: &str) -> usize {
    text.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with("//")).count()
}

/// Endings of type names that say nothing.
const ENDINGS: [&str; 7] = ["Manager", "Helper", "Util", "Utils", "Impl", "Data", "Wrapper"];

/// Finds every violation.
///
/// # Errors
/// There are some; they have been printed.
pub fn check() -> Outcome {
    let tracked = run::output(&mut run::program("git", ["ls-files"]))?;
    let mut findings = Vec::new();
    for path in tracked.lines() {
        let Ok(text) = fs::read_to_string(run::root().join(path)) else { continue };
        if path.ends_with(".rs") {
            findings.extend(source(path, &text));
        }
    }
    let cases: Vec<(&str, String)> = tracked
        .lines()
        .filter(|path| path.starts_with("tests/") && !path.starts_with("tests/src/") && path.ends_with(".rs"))
        .filter_map(|path| Some((stem(path), fs::read_to_string(run::root().join(path)).ok()?)))
        .collect();
    for path in tracked.lines().filter(|path| path.starts_with("docs/") && path.ends_with(".md")) {
        let text = fs::read_to_string(run::root().join(path)).unwrap_or_default();
        findings.extend(
            missing_cases(&text, &cases)
                .map(|(line, name)| format!("{path}:{line}: there is no test {name}")),
        );
    }
    let layout = fs::read_to_string(run::root().join(LAYOUT)).unwrap_or_default();
    findings.extend(
        missing_modules(&layout, &tracked)
            .map(|(line, module)| format!("{LAYOUT}:{line}: there is no module {module}")),
    );
    for (path, reason) in LONG {
        if fs::read_to_string(run::root().join(path)).is_ok_and(|text| length(&text) <= most(path)) {
            findings.push(format!("{path}: not that long: remove its exception ({reason})"));
        }
    }
    findings.iter().for_each(|finding| say(finding));
    if findings.is_empty() {
        Ok(())
    } else {
        Err(format!("{} violations of the rules of style", findings.len()))
    }
}

/// The linker takes a pattern that matches nothing for right.
const LAYOUT: &str = "runtime-cli/layout.ld";

/// What the patterns of the linker script call `coracle..module..Type` where no file is that module.
fn missing_modules<'a>(text: &'a str, tracked: &'a str) -> impl Iterator<Item = (usize, String)> + 'a {
    let names = text.lines().enumerate().flat_map(|(at, line)| {
        line.split("$LT$coracle..").skip(1).map(move |rest| (at + 1, rest.split('*').next().unwrap_or(rest)))
    });
    let modules = names.map(|(line, name)| {
        let is_module = |part: &&str| !part.starts_with(char::is_uppercase);
        (line, name.split("..").take_while(is_module).collect::<Vec<_>>().join("/"))
    });
    modules.filter(|(_, module)| {
        let forms = ["runtime-core", "runtime-cli"]
            .map(|package| [format!("{package}/src/{module}.rs"), format!("{package}/src/{module}/mod.rs")]);
        !tracked.lines().any(|path| forms.iter().flatten().any(|form| form == path))
    })
}

/// The name of a file without its directory and ending.
fn stem(path: &str) -> &str {
    path.rsplit('/').next().and_then(|name| name.split('.').next()).unwrap_or(path)
}

/// What the last column of a table calls `module::case` where the module is one of `cases` and no function of it has that name.
fn missing_cases<'a>(
    text: &'a str,
    cases: &'a [(&str, String)],
) -> impl Iterator<Item = (usize, &'a str)> + 'a {
    let rows = text.lines().enumerate().filter_map(|(at, line)| {
        let (_, last) = line.strip_prefix('|')?.trim_end().strip_suffix('|')?.rsplit_once('|')?;
        Some((at + 1, last))
    });
    let names = rows.flat_map(|(at, cell)| cell.split('`').skip(1).step_by(2).map(move |name| (at, name)));
    names.filter(|(_, name)| {
        let Some((module, case)) = name.rsplit_once("::") else { return false };
        let module = module.rsplit("::").next().unwrap_or(module);
        // A function, or a row of a table of cases.
        let forms = [format!("fn {case}("), format!("\"{case}\"")];
        let mut files = cases.iter().filter(|(stem, _)| *stem == module).peekable();
        files.peek().is_some() && !files.any(|(_, text)| forms.iter().any(|form| text.contains(form)))
    })
}

fn source(path: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let mut find = |line: usize, what: String| findings.push(format!("{path}:{line}: {what}"));
    let shipped = SHIPPED.iter().any(|dir| path.starts_with(dir));
    let (length, most) = (length(text), most(path));
    if length > most && !LONG.iter().any(|(long, _)| *long == path) {
        find(1, format!("{length} lines of code; {most} are the most, or a reason in xtask/src/style.rs"));
    }
    if shipped && !text.starts_with("//!") && !text.starts_with("#!") {
        find(1, "the file does not begin with what it is for".to_owned());
    }
    for (index, line) in text.lines().enumerate() {
        let (number, code) = (index + 1, line.trim_start());
        if code.starts_with("//") {
            if words(code).any(|word| matches!(word, "TODO" | "FIXME" | "XXX" | "HACK"))
                && !path.starts_with("xtask/")
            {
                find(number, "unfinished work in a comment".to_owned());
            }
            continue;
        }
        if words(&without_texts(code)).any(|word| word == "unsafe")
            && !UNSAFE.iter().any(|place| path.starts_with(place))
        {
            find(number, "unsafe code outside the places for it".to_owned());
        }
        if code.starts_with("#[ignore") && !code.starts_with("#[ignore = \"") {
            find(number, "an ignored test without a reason".to_owned());
        }
        if shipped {
            findings_in_shipped(code, |what| find(number, what));
        }
    }
    findings
}

fn findings_in_shipped(code: &str, mut find: impl FnMut(String)) {
    if code.contains("\"failed to") {
        find("an error text that begins with `failed to`: name what was done, verb first".to_owned());
    }
    if code.contains("todo!(") || code.contains("unimplemented!(") {
        find("unfinished code".to_owned());
    }
    let mut rest = words(code).skip_while(|word| !matches!(*word, "struct" | "enum" | "trait"));
    let name = rest.nth(1).unwrap_or("");
    if let Some(ending) = ENDINGS.iter().find(|ending| name.ends_with(*ending)) {
        find(format!("the type name {name}: `{ending}` says nothing"));
    }
}

/// A line without what stands between quotation marks, and without a comment at its end.
fn without_texts(line: &str) -> String {
    let outside: Vec<&str> = line.split('"').step_by(2).collect();
    let outside = outside.join(" ");
    outside.split_once("//").map_or(outside.as_str(), |(code, _)| code).to_owned()
}

/// The identifiers of a line.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|sign: char| !sign.is_alphanumeric() && sign != '_').filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{missing_cases, missing_modules, source};

    fn found(path: &str, text: &str) -> usize {
        source(path, text).len()
    }

    #[test]
    fn tables_name_cases_that_are_there() {
        let cases =
            [("update", "fn flags(t: &T) {}".to_owned()), ("update", "fn gone_not(t: &T) {}".to_owned())];
        let text = "`update::prose`\n| a | b |\n|---|---|\n| `update::cell` | `update::flags`, `root::update::gone` |\n\
                    | x | `update::gone_not`, `elsewhere::any`, `plain` |";
        let found: Vec<_> = missing_cases(text, &cases).collect();
        assert_eq!(found, [(4, "root::update::gone")]);
    }

    #[test]
    fn each_rule_finds_its_violation() {
        let good = "//! What it is for.\nstruct Mount;\n// not unsafe at all\n";
        assert_eq!(found("runtime-core/src/mount.rs", good), 0);
        let bad = [
            "struct Mount;",
            "//! A.\nunsafe { call() }",
            "//! A.\n#[ignore]",
            "//! A.\npub struct MountManager;",
            "//! A.\nlet text = \"failed to mount\";",
            "//! A.\ntodo!()",
            "//! A.\n// TODO later",
        ];
        for text in bad {
            assert_eq!(found("runtime-core/src/mount.rs", text), 1, "{text}");
        }
        assert_eq!(found("runtime-core/src/sys/call.rs", bad[1]), 0);
        assert_eq!(found("runtime-core/src/mount.rs", &format!("//! A.\n{}", "f();\n".repeat(501))), 1);
        assert_eq!(
            found("runtime-core/src/mount.rs", &format!("//! A.\nlet text = {:?}; // unsafe", "unsafe")),
            0
        );
    }

    #[test]
    fn patterns_of_the_linker_name_modules_that_are_there() {
        let text = "/* a */\n*(.text._ZN??_$LT$coracle..cmd..ps* .text._ZN??_$LT$coracle..gone*)\n\
            *(.text._ZN??_$LT$coracle..runtime..Plan*)\n";
        let tracked = "runtime-cli/src/cmd/ps.rs\nruntime-core/src/runtime.rs\nruntime-core/src/gone.txt";
        let found: Vec<_> = missing_modules(text, tracked).collect();
        assert_eq!(found, [(2, "gone".to_owned())]);
    }
}
