//! The two commands of a newcomer: `demo` and `test`.

use crate::run::{self, Count, Outcome, Scratch, built, cargo, counted, say};
use crate::setup;
use std::fs;
use std::path::{Path, PathBuf};

/// The release binary and what the suites run inside containers, static.
///
/// # Errors
/// A target is missing, or the code does not compile.
pub fn build() -> Outcome {
    setup::target(&run::musl())?;
    let words =
        ["build", "--release", "--target", &run::musl(), "-p", "coracle-cli", "-p", "coracle-payload"];
    run::run(&mut cargo(words))
}

/// `demo`: a container without an image, a network or a configuration.
///
/// # Errors
/// The build or the demo fails.
pub fn demo(args: &[String]) -> Outcome {
    setup::target(&run::musl())?;
    run::run(&mut cargo(["build", "--release", "--target", &run::musl(), "-p", "coracle-cli"]))?;
    run::run(run::program(built("coracle"), ["demo"]).args(args))
}

/// `test`: everything that needs no emulator and no engine.
///
/// # Errors
/// Something cannot be built, or a test fails.
pub fn test(words: &[String]) -> Outcome {
    if let Err(missing) = setup::packages(&[("busybox", "busybox-static")]) {
        say(&format!("{missing}\nwithout it, the cases that run busybox are skipped"));
    }
    build()?;
    let mut all = Count::default();
    if words.is_empty() {
        // Unit tests, tests of each crate against the running kernel, and the examples in documentation.
        let units = ["test", "--quiet", "--workspace", "--exclude", "coracle-tests", "--no-fail-fast"];
        all.add(counted(&mut cargo(units))?);
        all.add(embed()?);
    }
    for suite in suites()? {
        all.add(run_suite(&suite, words)?);
    }
    // Engines of continuous integration read this line.
    run::print(&format!("test: {all}"));
    if all.failed == 0 { Ok(()) } else { Err(format!("{} failed", all.failed)) }
}

/// The suites that run containers: the test programs of the package `coracle-tests`.
///
/// # Errors
/// The package cannot be read.
pub fn suites() -> Result<Vec<String>, String> {
    let path = run::root().join("tests/Cargo.toml");
    let text = fs::read_to_string(&path).map_err(|e| format!("read {}: {e}", path.display()))?;
    let sections = text.split("[[test]]").skip(1);
    let names = sections.filter_map(|section| section.lines().find_map(|line| line.strip_prefix("name = ")));
    Ok(names.map(|name| name.trim_matches('"').to_owned()).collect())
}

/// The words that pick a suite's cases in the machine of the emulator (none: all of them): what differs with the host's cgroups.
/// `None` for suites that do not run there: races and crashes need real speed, but for the race that is about cgroups.
pub fn in_machine(suite: &str) -> Option<&'static [&'static str]> {
    match suite {
        "root" | "replay" => Some(&[]),
        "conformance" => Some(&crate::conformance::WITH_VERSION_2),
        "hostile" => Some(&["descriptors::directories_of_exec_on_its_way"]),
        _ => None,
    }
}

/// Builds a suite as a static program: its path.
///
/// # Errors
/// It does not compile.
pub fn program(suite: &str) -> Result<PathBuf, String> {
    let words = [
        "test",
        "--no-run",
        "--message-format=json",
        "--target",
        &run::musl(),
        "-p",
        "coracle-tests",
        "--test",
        suite,
    ];
    let messages = run::output(&mut cargo(words))?;
    // One JSON object a line, in no order; the package's programs are built for its tests, too.
    let (kind, name) = ("\"kind\":[\"test\"]", format!("\"name\":\"{suite}\""));
    let suites = messages.lines().filter(|line| line.contains(kind) && line.contains(&name));
    let key = "\"executable\":\"";
    let found = suites.filter_map(|line| line.split_once(key)?.1.split_once('"')).next();
    found.map(|(path, _)| path.into()).ok_or_else(|| format!("cargo names no program of the suite {suite}"))
}

fn run_suite(name: &str, words: &[String]) -> Result<Count, String> {
    let root_only = name != "rootless" && name != "embed";
    if root_only && !run::is_root() {
        say(&format!("skipped: the suite `{name}` runs as root"));
        return Ok(Count { skipped: 1, ..Count::default() });
    }
    let mut command = cargo(["test", "--quiet", "-p", "coracle-tests", "--test", name, "--"]);
    command.args(words).env("RUNTIME", built("coracle")).env("PAYLOAD", built("coracle-payload"));
    counted(&mut command)
}

/// The program of the README that embeds the library, on a bundle whose root holds one static file.
fn embed() -> Result<Count, String> {
    if !run::is_root() {
        say("skipped: the example `embed` runs as root");
        return Ok(Count { skipped: 1, ..Count::default() });
    }
    let scratch = Scratch::new("embed")?;
    bundle(scratch.path())?;
    let id = format!("embed-{}", std::process::id());
    let mut example = cargo(["run", "--quiet", "-p", "coracle", "--example", "embed", "--", &id]);
    say("+ cargo run -p coracle --example embed");
    let said = run::output(example.arg(scratch.path()));
    let right = said.as_ref().is_ok_and(|said| said.contains("from inside") && said.contains("Exited(0)"));
    if !right {
        say(&format!("the example `embed` did not show the output and the end of its container: {said:?}"));
    }
    Ok(Count { passed: u64::from(right), failed: u64::from(!right), skipped: 0 })
}

/// Writes a bundle that prints a line.
fn bundle(dir: &Path) -> Outcome {
    let failed = |e: std::io::Error| format!("write a bundle in {}: {e}", dir.display());
    let rootfs = dir.join("rootfs");
    fs::create_dir(&rootfs).map_err(failed)?;
    fs::copy(built("coracle-payload"), rootfs.join("payload")).map_err(failed)?;
    let config = r#"{
        "ociVersion": "1.2.0",
        "root": {"path": "rootfs"},
        "process": {"cwd": "/", "user": {"uid": 0, "gid": 0}, "args": ["/payload", "print", "from inside"]},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}]}
    }"#;
    fs::write(dir.join("config.json"), config).map_err(failed)
}
