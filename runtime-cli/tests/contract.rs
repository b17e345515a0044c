//! The contract with engines and people that needs no container: exit codes, what is printed where, the log.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A directory that is removed at the end of the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("coracle-contract-{name}-{}", std::process::id()));
        fs::create_dir(&path).expect("a directory");
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("text").to_owned()
    }
}

impl Drop for Scratch {
    #[allow(clippy::disallowed_methods, reason = "the test made it")]
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coracle"));
    command.args(words).stdin(Stdio::null());
    command
}

fn coracle(words: &[&str]) -> Output {
    command(words).output().expect("the program runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

/// A failure: nothing on standard output; the message of the one line on standard error.
fn failure(output: &Output, code: i32) -> String {
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert_eq!(text(&output.stdout), "");
    let (time, rest) = error.strip_prefix("time=\"").and_then(|rest| rest.split_once('"')).expect(error);
    assert_rfc3339(time);
    let message =
        rest.strip_prefix(" level=error msg=\"").and_then(|rest| rest.strip_suffix("\"\n")).expect(error);
    assert!(!message.contains('\n'), "{error}");
    message.replace("\\\"", "\"").replace("\\\\", "\\")
}

fn assert_rfc3339(time: &str) {
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000000000Z");
}

#[test]
fn help_and_version_go_to_standard_output() {
    for words in [&["--help"][..], &["-h"], &[], &["help"], &["spec", "--help"], &["help", "spec"]] {
        let output = coracle(words);
        assert_eq!(output.status.code(), Some(0), "{words:?}");
        assert!(text(&output.stdout).starts_with("coracle "), "{words:?}");
        assert_eq!(text(&output.stderr), "");
    }
    for words in [["--version"], ["-v"]] {
        let output = coracle(&words);
        let out = text(&output.stdout);
        assert!(out.starts_with(&format!("coracle version {}\n", env!("CARGO_PKG_VERSION"))), "{out}");
        assert!(out.ends_with("spec: 1.3.0\n"), "{out}");
    }
}

/// All help texts, one after the other; a changed table shows here as a person will see it. `UPDATE=1` writes the file anew.
#[test]
fn help_texts_are_as_recorded() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/help.txt");
    let help = coracle(&["help"]);
    let mut all = text(&help.stdout).replacen(env!("CARGO_PKG_VERSION"), "VERSION", 1);
    let commands = all.clone();
    let commands =
        commands.lines().skip_while(|line| *line != "commands:").skip(1).take_while(|line| !line.is_empty());
    for name in commands.filter_map(|line| line.split_whitespace().next()) {
        all += &format!("\n==== {name}\n{}", text(&coracle(&["help", name]).stdout));
    }
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &all).expect("written");
    }
    assert!(
        fs::read_to_string(&path).expect("read") == all,
        "help texts differ from {}:\n{all}",
        path.display()
    );
}

#[test]
fn usage_errors_end_with_1_and_one_line() {
    assert_eq!(failure(&coracle(&["bogus"]), 1), "unknown command \"bogus\"; see: coracle help");
    assert_eq!(
        failure(&coracle(&["checkpoint", "--help"]), 1),
        "unknown command \"checkpoint\"; this version does not do that yet"
    );
    assert_eq!(
        failure(&coracle(&["check"]), 1),
        "coracle: \"check\" requires exactly 1 argument(s); see: coracle help check"
    );
    assert_eq!(failure(&coracle(&["--log"]), 1), "flag needs an argument: --log");
    assert_eq!(
        failure(&coracle(&["spec", "--x"]), 1),
        "flag provided but not defined: -x; see: coracle help spec"
    );
    assert_eq!(
        failure(&coracle(&["spec", "--\u{202e}\n\u{1b}[2J"]), 1),
        "flag provided but not defined: -\\u{202e}\\n\\u{1b}[2J; see: coracle help spec"
    );
}

#[test]
fn a_failure_appends_one_json_object_to_the_log() {
    let scratch = Scratch::new("log");
    let log = scratch.path("log.json");
    fs::write(&log, "before\n").expect("written");
    let output = coracle(&["--log", &log, "--log-format", "json", "check", "/nonexistent"]);
    let message = failure(&output, 1);
    let lines = fs::read_to_string(&log).expect("read");
    let line = lines.strip_prefix("before\n").expect("appended");
    assert!(line.ends_with("}\n") && line.matches('\n').count() == 1, "{line}");
    let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(value["level"], "error");
    assert_eq!(value["msg"], message);
    assert_eq!(value["path"], "/nonexistent");
    assert_eq!(value["errno"], "ENOENT");
    assert_rfc3339(value["time"].as_str().expect("text"));
}

#[test]
fn without_a_log_file_the_json_line_is_on_standard_error() {
    let output = coracle(&["--log-format", "json", "check", "/nonexistent"]);
    let value: serde_json::Value = serde_json::from_str(text(&output.stderr)).expect("one object");
    assert_eq!(value["level"], "error");
}

#[test]
fn the_log_in_text_and_an_unusable_log() {
    let scratch = Scratch::new("text");
    let log = scratch.path("log");
    let output = coracle(&["--log", &log, "check", "/nonexistent"]);
    assert_eq!(fs::read(&log).expect("read"), output.stderr);
    assert_eq!(fs::metadata(&log).expect("stat").permissions().mode() & 0o777, 0o644);
    for unusable in [scratch.path("no/log"), scratch.0.to_str().expect("text").to_owned()] {
        let message = failure(&coracle(&["--log", &unusable, "--version"]), 1);
        assert!(message.starts_with("open the log: "), "{message}");
    }
}

#[test]
fn a_message_cannot_break_out_of_its_line() {
    let message = failure(&coracle(&["check", "/no\n{\"level\":\"error\"}\u{1b}[31m"]), 1);
    assert!(message.contains("/no\\n{\"level\":\"error\"}\\u{1b}[31m"), "{message}");
}

#[test]
fn a_reader_that_went_away_is_no_error_and_a_full_disk_is_one() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = command(&["--help"]).stdout(writer).output().expect("runs");
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    let full = fs::File::options().write(true).open("/dev/full").expect("a full device");
    let output = command(&["--help"]).stdout(full).output().expect("runs");
    let message = failure(&output, 1);
    assert!(message.starts_with("write to standard output: "), "{message}");
}

#[test]
fn closed_standard_descriptors_are_not_reused() {
    let scratch = Scratch::new("closed");
    let log = scratch.path("log");
    let line = "exec \"$0\" --log \"$1\" check /nonexistent <&- >&- 2>&-";
    let status = Command::new("/bin/sh").args(["-c", line, env!("CARGO_BIN_EXE_coracle"), &log]).status();
    assert_eq!(status.expect("runs").code(), Some(1));
    // Were the log descriptor 2, the line for standard error would be in it as well.
    assert_eq!(fs::read_to_string(&log).expect("read").matches('\n').count(), 1);
}

#[test]
fn a_set_user_id_program_refuses_to_run() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let scratch = Scratch::new("setuid");
    let program = scratch.path("coracle");
    // Another process copies: a descriptor that is open for writing here would be inherited by what other tests start meanwhile,
    // and the kernel executes no file that somebody can write.
    let copied = Command::new("cp").args([env!("CARGO_BIN_EXE_coracle"), &program]).status().expect("runs");
    assert!(copied.success());
    fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o755)).expect("chmod");
    for (mode, code) in [(0o4755, 1), (0o2755, 1), (0o755, 0)] {
        fs::set_permissions(&program, fs::Permissions::from_mode(mode)).expect("chmod");
        let output = as_nobody(&program, &["--version"]);
        assert_eq!(output.status.code(), Some(code), "{mode:o}: {output:?}");
        assert_eq!(text(&output.stdout).is_empty(), code != 0);
    }
}

/// Runs a program as an ordinary user.
fn as_nobody(program: &str, words: &[&str]) -> Output {
    use std::os::unix::process::CommandExt;
    Command::new(program).args(words).uid(65534).gid(65534).current_dir("/").output().expect("runs")
}

#[test]
fn spec_writes_a_configuration_that_check_accepts_and_overwrites_nothing() {
    let scratch = Scratch::new("spec");
    let bundle = scratch.0.to_str().expect("text");
    for words in [&["spec", "--bundle", bundle][..], &["spec", "--rootless", "-b", bundle]] {
        let output = coracle(words);
        assert_eq!((output.status.code(), text(&output.stdout), text(&output.stderr)), (Some(0), "", ""));
        let config = scratch.path("config.json");
        let before = fs::metadata(&config).expect("written");
        let message = failure(&coracle(words), 1);
        assert!(message.starts_with("File config.json exists. Remove it first"), "{message}");
        assert_eq!(fs::metadata(&config).expect("still there").ino(), before.ino());
        assert_eq!(fs::read_dir(&scratch.0).expect("list").count(), 1);
        let output = coracle(&["check", "--document", bundle]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
        fs::remove_file(config).expect("removed");
    }
}

#[test]
fn check_shows_all_problems_with_their_places() {
    let scratch = Scratch::new("check");
    let bundle = scratch.0.to_str().expect("text");
    let config = scratch.path("config.json");
    fs::write(&config, r#"{"ociVersion": "1.3.0", "process": {"cwd": "/", "capabilites": {}}}"#)
        .expect("written");
    let output = coracle(&["check", bundle]);
    let out = text(&output.stdout);
    assert!(out.contains("warning: ") && out.contains("/process/capabilites: is not a property"), "{out}");
    assert!(out.contains("\n   help: did you mean \"capabilities\"?\n"), "{out}");

    fs::write(&config, "{\"ociVersion\": \"1.3.0\",\n \"process\": {\"cwd\": \"/\", \"args\": \"sh\"}}")
        .expect("written");
    let output = coracle(&["check", bundle]);
    assert_eq!(output.status.code(), Some(1));
    let out = text(&output.stdout);
    assert!(out.starts_with(&format!("error: {config}:2:37: /process/args: invalid type: string")), "{out}");
    let output = coracle(&["check", "--format=json", bundle]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(value[0]["pointer"], "/process/args");
    assert_eq!((&value[0]["line"], &value[0]["column"]), (&2.into(), &37.into()));
}

#[test]
fn check_tells_what_this_machine_cannot_do() {
    let scratch = Scratch::new("machine");
    let bundle = scratch.0.to_str().expect("text");
    // No kernel has this controller.
    let config = r#"{"ociVersion": "1.3.0", "process": {"cwd": "/", "args": ["x"], "user": {"uid": 0, "gid": 0}},
                     "root": {"path": "rootfs"}, "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}],
                     "resources": {"unified": {"nosuch.max": "1"}}}}"#;
    fs::write(scratch.path("config.json"), config).expect("written");
    let document = coracle(&["check", "--document", bundle]);
    let machine = coracle(&["check", bundle]);
    assert_eq!(machine.status.code(), Some(1), "{}", text(&machine.stdout));
    assert!(
        text(&machine.stdout).contains(": /linux/resources/unified/nosuch.max"),
        "{}",
        text(&machine.stdout)
    );
    assert_eq!(document.status.code(), Some(0), "{}", text(&document.stdout));
}

#[test]
fn check_applies_the_rules_of_the_specification() {
    let scratch = Scratch::new("rules");
    let bundle = scratch.0.to_str().expect("text");
    let config = r#"{"ociVersion": "1.3.0", "process": {"cwd": "relative", "args": []}, "root": {"path": "rootfs"},
                     "mounts": [{"destination": "/x", "type": "tmpfs", "options": ["nosuid"]}]}"#;
    fs::write(scratch.path("config.json"), config).expect("written");
    let output = coracle(&["check", "-f", "json", bundle]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(1), ""));
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let pointers: Vec<_> =
        value.as_array().expect("a list").iter().filter_map(|one| one["pointer"].as_str()).collect();
    assert!(pointers.contains(&"/process/cwd") && pointers.contains(&"/process/args"), "{value:#}");
}

#[test]
fn features_are_json_and_nothing_else() {
    let output = coracle(&["features"]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(value["ociVersionMax"], "1.3.0");
    let has =
        |list: &serde_json::Value, word: &str| list.as_array().expect("a list").iter().any(|one| one == word);
    assert!(has(&value["mountOptions"], "rro") && has(&value["linux"]["namespaces"], "user"));
}

#[test]
fn check_of_what_is_no_bundle() {
    let scratch = Scratch::new("nobundle");
    for path in [Path::new("/nonexistent"), &scratch.0, Path::new("/dev/null")] {
        let message = failure(&coracle(&["check", path.to_str().expect("text")]), 1);
        assert!(message.contains(path.to_str().expect("text")), "{message}");
        assert!(
            !message.contains("no such file or directory") && !message.contains("permission denied"),
            "{message}"
        );
    }
}
