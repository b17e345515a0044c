//! The grammar, word by word, and every command line that an engine was seen to send.

use super::commands::{COMMANDS, Command};
use super::*;

/// Command lines that Docker, containerd, Podman and a CRI sent, one of each shape.
const RECORDED: &str = include_str!("../../tests/data/argv.jsonl");

/// Command lines that the sources of go-runc, conmon, Podman, CRI-O, conmon-rs, Buildah and BuildKit can send, and crun's own.
const SOURCES: &str = include_str!("../../tests/data/engines.jsonl");

fn words(line: &[&str]) -> Vec<OsString> {
    line.iter().map(OsString::from).collect()
}

/// Reads a whole command line as `main` does.
fn read<'a>(words: &'a [OsString]) -> Result<(&'static Command, Given<'a>, Given<'a>), Error> {
    let global = split(flags::GLOBAL, words, Order::FlagsFirst)?;
    let (name, rest) = words[words.len() - global.rest.len()..].split_first().expect("a command");
    let command = commands::find(name.to_str().expect("text"))?;
    let given = split(command.flags, rest, command.order)?;
    if !given.help {
        command.check_count(given.rest.len())?;
    }
    Ok((command, global, given))
}

fn rest(given: &Given<'_>) -> Vec<String> {
    given.rest.iter().map(|word| word.to_string_lossy().into_owned()).collect()
}

#[test]
fn every_recorded_command_line_is_accepted() {
    let absent = ["checkpoint", "restore"];
    let mut accepted = 0;
    for line in RECORDED.lines() {
        let line: Vec<String> = serde_json::from_str(line).expect("a list of words");
        if line.iter().any(|word| absent.contains(&word.as_str())) || line == ["--version"] {
            continue;
        }
        let line: Vec<OsString> = line.into_iter().map(OsString::from).collect();
        let (_, global, given) = read(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        assert!(
            given
                .rest
                .first()
                .is_none_or(|id| *id == line.last().expect("words").as_os_str()
                    || line.iter().any(|word| word == "kill")),
            "{line:?}"
        );
        let logged = line.iter().any(|word| word == "--log");
        assert_eq!(global.path(&flags::LOG).is_some(), logged, "{line:?}");
        accepted += 1;
    }
    assert!(accepted >= 50, "{accepted}");
}

/// One line for a command line: the command with its flags, what is left, and the flags before it.
fn meaning(line: &[OsString]) -> String {
    let (command, global, given) = read(line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
    let shown = |known: &[&'static Flag], given: &Given<'_>| -> String {
        let one = |flag: &&'static Flag| -> Vec<String> {
            match flag.takes {
                Takes::Switch => given
                    .raw(flag)
                    .map(|_| format!(" --{}={}", flag.long, given.on(flag)))
                    .into_iter()
                    .collect(),
                Takes::List(_) => given.list(flag).map(|value| format!(" --{}={value}", flag.long)).collect(),
                _ => given
                    .raw(flag)
                    .map(|value| format!(" --{}={}", flag.long, value.display()))
                    .into_iter()
                    .collect(),
            }
        };
        known.iter().flat_map(one).collect()
    };
    let (own, before) = (shown(command.flags, &given), shown(flags::GLOBAL, &global));
    format!("{}{own} | {} |{before}\n", command.name, rest(&given).join(" "))
}

/// What each command line means, beside the file with what it says. `UPDATE=1` writes the meanings anew.
#[test]
fn every_command_line_of_an_engine_means_what_is_recorded() {
    let absent = ["checkpoint", "restore", "--version"];
    let lines = RECORDED.lines().chain(SOURCES.lines()).filter_map(|line| {
        let line: Vec<String> = serde_json::from_str(line).expect("a list of words");
        let known = !line.iter().any(|word| absent.contains(&word.as_str()));
        known.then(|| line.into_iter().map(OsString::from).collect::<Vec<_>>())
    });
    let all: String = lines.map(|line| meaning(&line)).collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/meanings.txt");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &all).expect("written");
    }
    let expected = std::fs::read_to_string(&path).expect("read");
    for (got, wanted) in all.lines().zip(expected.lines()) {
        assert_eq!(got, wanted);
    }
    assert_eq!(all.lines().count(), expected.lines().count());
}

/// What libraries of engines can send beyond what was recorded.
#[test]
fn command_lines_from_the_sources_of_engines_are_accepted() {
    for line in [
        &[
            "--root",
            "/r",
            "--debug",
            "--log",
            "/l",
            "--log-format",
            "json",
            "--rootless=true",
            "list",
            "--format=json",
        ][..],
        &[
            "--rootless",
            "true",
            "create",
            "--bundle",
            "/b",
            "--no-pivot",
            "--no-new-keyring",
            "--preserve-fds",
            "2",
            "c",
        ],
        &["--rootless", "state", "c"],
        &["--root=/r", "--systemd-cgroup", "--systemd-cgroup", "create", "--bundle=/b", "--pid-file=/p", "c"],
        &["--cgroup-manager", "disabled", "create", "--bundle", "/b", "c"],
        &["--criu", "/usr/sbin/criu", "start", "c"],
        &["run", "--bundle", "/b", "--no-pivot", "--keep", "c"],
        &["run", "-no-subreaper", "-d", "-b", "/b", "c"],
        &["exec", "-d", "--console-socket=/s", "--tty", "--pid-file=/p", "c", "sh", "-c", "exit 3"],
        &["exec", "--process", "/f", "--pidfd-socket", "/s", "--detach", "c"],
        &["ps", "--format", "table", "c", "-ef", "--forest"],
        &["kill", "--all", "c", "9"],
        &["kill", "c"],
        &["kill", "c", "SIGTERM", "--all"],
        &["delete", "c", "--force"],
        &["spec", "--rootless", "-b", "."],
        &["create", "--help"],
    ] {
        read(&words(line)).unwrap_or_else(|error| panic!("{line:?}: {error}"));
    }
}

#[test]
fn a_value_may_stand_behind_one_or_two_dashes_a_blank_or_an_equals_sign() {
    for line in [
        &["-bundle", "/b", "c"][..],
        &["--bundle", "/b", "c"],
        &["-bundle=/b", "c"],
        &["--bundle=/b", "c"],
        &["-b", "/b", "c"],
        &["-b=/b", "c"],
        &["--b", "/b", "c"],
        &["--bundle", "/first", "--bundle", "/b", "c"],
        &["c", "--bundle", "/b"],
        &["--bundle", "/b", "--", "c"],
    ] {
        let line = words(line);
        let given = split(&[&flags::BUNDLE], &line, Order::Mixed).expect("legal");
        assert_eq!(given.path(&flags::BUNDLE), Some(Path::new("/b")), "{line:?}");
        assert_eq!(rest(&given), ["c"], "{line:?}");
    }
}

#[test]
fn the_word_after_a_flag_is_its_value_whatever_it_is() {
    for value in ["--force", "-x", "--", "", "a=b", "-"] {
        let line = words(&["--bundle", value, "c"]);
        let given = split(&[&flags::BUNDLE], &line, Order::Mixed).expect("legal");
        assert_eq!(given.path(&flags::BUNDLE), Some(Path::new(value)));
        assert_eq!(rest(&given), ["c"]);
    }
    let line = words(&["--bundle=", "c"]);
    let given = split(&[&flags::BUNDLE], &line, Order::Mixed).expect("legal");
    assert_eq!(given.path(&flags::BUNDLE), Some(Path::new("")));
    let line = words(&["--env=A=B=C", "-e", "D=", "--env", "A=E"]);
    let given = split(&[&flags::ENV], &line, Order::Mixed).expect("legal");
    assert_eq!(given.list(&flags::ENV).collect::<Vec<_>>(), ["A=B=C", "D=", "A=E"]);
}

#[test]
fn paths_need_not_be_text_and_texts_must() {
    let bytes = OsStr::from_bytes(b"/b\xff");
    let line = [OsString::from("--bundle"), bytes.to_owned()];
    let given = split(&[&flags::BUNDLE], &line, Order::Mixed).expect("legal");
    assert_eq!(given.raw(&flags::BUNDLE), Some(bytes));
    let line = [OsString::from("--cwd"), bytes.to_owned()];
    let error = split(&[&flags::CWD], &line, Order::Mixed).expect_err("not text");
    assert!(error.to_string().contains("for flag -cwd: it is not UTF-8"), "{error}");
}

#[test]
fn switches_take_go_s_booleans_behind_an_equals_sign_only() {
    for (word, on) in [
        ("--force", true),
        ("-f", true),
        ("--force=true", true),
        ("--force=1", true),
        ("--force=T", true),
        ("-f=false", false),
        ("--force=0", false),
        ("-force=False", false),
    ] {
        let line = words(&[word, "true"]);
        let given = split(&[&flags::FORCE], &line, Order::Mixed).expect("legal");
        assert_eq!(given.on(&flags::FORCE), on, "{word}");
        assert_eq!(rest(&given), ["true"]);
    }
    let line = words(&["--force", "--force=false"]);
    assert!(!split(&[&flags::FORCE], &line, Order::Mixed).expect("legal").on(&flags::FORCE));
    for word in ["--force=maybe", "--force=", "--force=yes", "--force=2"] {
        let error = split(&[&flags::FORCE], &words(&[word]), Order::Mixed).expect_err(word).to_string();
        assert!(error.starts_with("invalid boolean value \"") && error.contains("for -force"), "{error}");
    }
}

#[test]
fn a_bare_rootless_means_true_and_does_not_eat_the_command() {
    for (line, value, left) in [
        (&["--rootless", "list"][..], "true", &["list"][..]),
        (&["--rootless=auto", "list"], "auto", &["list"]),
        (&["--rootless", "false", "list"], "false", &["list"]),
        (&["--rootless"], "true", &[]),
    ] {
        let line = words(line);
        let given = split(flags::GLOBAL, &line, Order::FlagsFirst).expect("legal");
        assert_eq!(given.text(&flags::ROOTLESS), Some(value), "{line:?}");
        assert_eq!(rest(&given), left);
    }
    assert!(split(flags::GLOBAL, &words(&["--rootless=no"]), Order::FlagsFirst).is_err());
}

#[test]
fn what_follows_the_id_of_exec_and_ps_belongs_to_another_program() {
    for (name, line) in [
        ("exec", &["c", "sh", "-c", "exit", "--help"][..]),
        ("exec", &["c", "--", "ls", "-l"]),
        ("ps", &["c", "-ef", "--forest"]),
    ] {
        let Ok(command) = commands::find(name) else { panic!("{name} is missing") };
        let line = words(line);
        let given = split(command.flags, &line, command.order).expect("legal");
        assert!(!given.help);
        assert_eq!(rest(&given), line.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>());
    }
}

#[test]
fn two_dashes_end_the_flags_and_one_dash_is_an_argument() {
    let line = words(&["--force", "--", "--force=x", "-a"]);
    let given = split(&[&flags::FORCE], &line, Order::Mixed).expect("legal");
    assert!(given.on(&flags::FORCE));
    assert_eq!(rest(&given), ["--force=x", "-a"]);
    let line = words(&["-", "--force"]);
    let given = split(&[&flags::FORCE], &line, Order::Mixed).expect("legal");
    assert_eq!((given.on(&flags::FORCE), rest(&given)), (true, vec!["-".to_owned()]));
}

#[test]
fn wrong_command_lines_say_so_in_runc_s_words() {
    for (line, message) in [
        (&["list", "--foo"][..], "flag provided but not defined: -foo"),
        (&["list", "--formt", "json"], "flag provided but not defined: -formt; did you mean --format?"),
        (&["list", "--root", "/r"], "flag provided but not defined: -root; --root goes before the command"),
        (&["--foo", "list"], "flag provided but not defined: -foo"),
        (&["list", "--format"], "flag needs an argument: --format"),
        (&["list", "-f"], "flag needs an argument: -f"),
        (&["--log"], "flag needs an argument: --log"),
        (&["list", "--=x"], "bad flag syntax: --=x"),
        (&["list", "---format"], "bad flag syntax: ---format"),
        (&["list", "--format", "xml"], "invalid value \"xml\" for flag -format: use table or json"),
        (
            &["create", "--preserve-fds", "x", "c"],
            "invalid value \"x\" for flag -preserve-fds: it is not a whole number",
        ),
        (
            &["create", "--preserve-fds=-1", "c"],
            "invalid value \"-1\" for flag -preserve-fds: it is not a whole number",
        ),
        (
            &["create", "--preserve-fds", "+1", "c"],
            "invalid value \"+1\" for flag -preserve-fds: it is not a whole number",
        ),
        (&["start"], "coracle: \"start\" requires exactly 1 argument(s); see: coracle help start"),
        (&["start", "a", "b"], "coracle: \"start\" requires exactly 1 argument(s); see: coracle help start"),
        (&["exec"], "coracle: \"exec\" requires a minimum of 1 argument(s); see: coracle help exec"),
        (
            &["kill", "a", "9", "b"],
            "coracle: \"kill\" requires a maximum of 2 argument(s); see: coracle help kill",
        ),
        (&["checkpoint", "c"], "unknown command \"checkpoint\"; this version does not do that yet"),
        (
            &["restore", "--lsm-mount-context"],
            "unknown command \"restore\"; this version does not do that yet",
        ),
        (&["stat", "c"], "unknown command \"stat\"; did you mean state?"),
    ] {
        let line = words(line);
        let error = split(flags::GLOBAL, &line, Order::FlagsFirst)
            .and_then(|_| read(&line).map(|_| ()))
            .expect_err("wrong");
        assert_eq!(error.to_string(), message, "{line:?}");
        assert_eq!(error.kind(), ErrorKind::Usage);
    }
}

#[test]
fn help_is_found_among_the_flags_but_not_among_the_arguments() {
    for line in [&["-h"][..], &["--help"], &["-help"], &["--force", "--help"], &["c", "-h"]] {
        assert!(split(&[&flags::FORCE], &words(line), Order::Mixed).expect("legal").help, "{line:?}");
    }
    assert!(!split(&[&flags::FORCE], &words(&["c", "-h"]), Order::FlagsFirst).expect("legal").help);
    assert!(!split(&[&flags::FORCE], &words(&["--", "-h"]), Order::Mixed).expect("legal").help);
}

#[test]
fn the_table_is_sound() {
    let all = COMMANDS.iter().map(|command| (command.name, command.flags)).chain([("global", flags::GLOBAL)]);
    for (name, flags) in all {
        let mut seen = Vec::new();
        for flag in flags {
            assert!(!seen.contains(&flag.long.to_owned()), "{name}: --{} twice", flag.long);
            seen.push(flag.long.to_owned());
            if flag.short != '\0' {
                let letter = flag.short.to_string();
                assert!(letter != "h" && !seen.contains(&letter), "{name}: -{letter} twice");
                seen.push(letter);
            }
            assert!(!flag.help.is_empty() && !flag.help.ends_with('.'), "{}", flag.long);
        }
    }
    for (at, command) in COMMANDS.iter().enumerate() {
        assert!(
            COMMANDS.iter().skip(at + 1).all(|other| other.name != command.name),
            "{} twice",
            command.name
        );
        assert_eq!(
            command.arguments.is_empty(),
            matches!(command.count, commands::Count::Exactly(0)),
            "{}",
            command.name
        );
        for (line, _) in command.examples {
            let line: Vec<OsString> = line.split(' ').skip(1).map(OsString::from).collect();
            read(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        }
    }
}

#[test]
fn help_texts_fit_a_terminal_and_name_every_flag() {
    for command in COMMANDS {
        let text = help::long(command);
        for flag in command.flags {
            assert_eq!(
                text.contains(&format!("--{}", flag.long)),
                !flag.hidden,
                "{}: --{}",
                command.name,
                flag.long
            );
        }
        for line in text.lines() {
            assert!(line.len() <= 110 && line.trim_end() == line, "{line:?}");
        }
        assert!(text.starts_with(&help::short(command)));
    }
    let text = help::program();
    for command in COMMANDS {
        assert_eq!(text.contains(&format!("\n  {} ", command.name)), !command.hidden, "{}", command.name);
    }
}

#[test]
fn the_nearest_name_is_near() {
    let names = ["create", "start", "state", "kill"];
    assert_eq!(nearest("crate", names.into_iter()), Some("create"));
    assert_eq!(nearest("sttae", names.into_iter()), Some("state"));
    assert_eq!(nearest("banana", names.into_iter()), None);
    assert_eq!(nearest("", names.into_iter()), None);
}
