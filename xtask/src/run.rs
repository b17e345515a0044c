//! Running programs: what is run is shown, what fails is named, what tests print is counted.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// The result of a command of this program.
pub type Outcome = Result<(), String>;

/// One line on standard error, where it does not mix with what a command prints.
pub fn say(line: &str) {
    // Nothing can be done when standard error is gone.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// One line on standard output.
pub fn print(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// The workspace's directory.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// The directory of build results.
pub fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// The static build's target for this machine.
pub fn musl() -> String {
    format!("{}-unknown-linux-musl", std::env::consts::ARCH)
}

/// A program of the release build.
pub fn built(name: &str) -> PathBuf {
    target_dir().join(musl()).join("release").join(name)
}

/// Cargo, in the workspace's directory.
pub fn cargo<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> Command {
    let mut command = program(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), words);
    // Set by the cargo that runs this program for this package, they would make build scripts run again.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// A program, in the workspace's directory.
pub fn program<S: AsRef<OsStr>>(name: impl AsRef<OsStr>, words: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(name);
    command.args(words).current_dir(root());
    command
}

/// The command line, as a person would type it.
fn line(command: &Command) -> String {
    let name = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = command.get_args().map(OsStr::to_string_lossy);
    let words: Vec<_> = std::iter::once(name.to_string_lossy()).chain(words).collect();
    words.join(" ")
}

/// Shows and runs a command to its end.
pub fn run(command: &mut Command) -> Outcome {
    say(&format!("+ {}", line(command)));
    let status = command.status().map_err(|e| format!("run {}: {e}", line(command)))?;
    if status.success() { Ok(()) } else { Err(format!("`{}` ended with {status}", line(command))) }
}

/// The standard output of a command that succeeds.
pub fn output(command: &mut Command) -> Result<String, String> {
    let done =
        command.stderr(Stdio::inherit()).output().map_err(|e| format!("run {}: {e}", line(command)))?;
    if !done.status.success() {
        return Err(format!("`{}` ended with {}", line(command), done.status));
    }
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Whether a program can be found.
pub fn has(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|dir| dir.join(name).is_file())
}

/// Whether this process is root.
pub fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    ids.split_whitespace().nth(1) == Some("0")
}

/// A new directory, removed with its contents when the value is dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes it.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(name: &str) -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("coracle-{name}-{}", std::process::id()));
        std::fs::DirBuilder::new()
            .mode(0o755)
            .create(&path)
            .map_err(|e| format!("make {}: {e}", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    #[allow(clippy::disallowed_methods, reason = "made by this process, and nothing is mounted in it")]
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// How many tests there were.
#[derive(Debug, Default, Clone, Copy)]
pub struct Count {
    /// That passed.
    pub passed: u64,
    /// That failed.
    pub failed: u64,
    /// That could not run here.
    pub skipped: u64,
}

impl Count {
    /// Adds what a closing line of a test program says; other lines say nothing.
    fn read(&mut self, line: &str) {
        let words =
            line.strip_prefix("test result: ").map_or(line, |rest| rest.split_once(". ").map_or("", |r| r.1));
        let mut found = [None; 3];
        for part in words.split([',', ';']) {
            let mut pair = part.split_whitespace();
            let (Some(Ok(number)), Some(word)) = (pair.next().map(str::parse::<u64>), pair.next()) else {
                continue;
            };
            match word {
                "passed" => found[0] = Some(number),
                "failed" => found[1] = Some(number),
                "skipped" | "ignored" => found[2] = Some(number),
                _ => {}
            }
        }
        if let [Some(passed), Some(failed), skipped] = found {
            self.passed += passed;
            self.failed += failed;
            self.skipped += skipped.unwrap_or(0);
        }
    }
    /// Adds another count.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Runs a test command: its output is shown as it comes and counted. A command that fails without a failed test counts
/// as one.
///
/// # Errors
/// It cannot be started.
pub fn counted(command: &mut Command) -> Result<Count, String> {
    say(&format!("+ {}", line(command)));
    let started = Instant::now();
    let failed = |e: std::io::Error| format!("run {}: {e}", line(command));
    let mut child = Command::new(command.get_program());
    child.args(command.get_args()).stdout(Stdio::piped()).current_dir(root());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => child.env(name, value),
            None => child.env_remove(name),
        };
    }
    let mut child = child.spawn().map_err(failed)?;
    let mut count = Count::default();
    if let Some(stdout) = child.stdout.take() {
        let mut out = std::io::stdout();
        for text in BufReader::new(stdout).split(b'\n') {
            let text = text.map_err(failed)?;
            let text = String::from_utf8_lossy(&text);
            let _ = writeln!(out, "{text}");
            count.read(&text);
        }
    }
    let status = child.wait().map_err(failed)?;
    if !status.success() && count.failed == 0 {
        say(&format!("`{}` ended with {status}", line(command)));
        count.failed = 1;
    }
    say(&format!("= {count} in {} s: {}", started.elapsed().as_secs(), line(command)));
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::Count;

    #[test]
    fn closing_lines_are_counted_and_nothing_else() {
        let mut count = Count::default();
        count.read(
            "test result: ok. 12 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        );
        count.read("7 passed, 0 failed, 3 skipped, 1 differ; target/coracle");
        count.read("the 5 passed away");
        count.read("3 passed, and the rest not");
        assert_eq!(count.to_string(), "19 passed, 1 failed, 5 skipped");
    }
}
