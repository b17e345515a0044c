//! The process of `exec`, from flags and what the container's own process has.
//!
//! Must not: look names up: users and groups are numbers here. Tests: at the end of the file.

use std::fs::File;
use std::path::Path;

use coracle::spec::{self, Capabilities, Id, Process};
use coracle::{Error, ErrorKind};
use rustix::fs::{Mode, OFlags};

use crate::args::{Given, flags, usage};

/// The process that the flags describe: `--process FILE` alone, or the container's own with what the flags change.
///
/// # Errors
/// A flag with a bad value, a file that cannot be read, no command.
pub fn process(given: &Given<'_>, recorded: &Process) -> Result<Process, Error> {
    let command = given.rest.get(1..).unwrap_or_default();
    if let Some(path) = given.path(&flags::PROCESS) {
        if !command.is_empty() {
            return Err(usage("--process and a command exclude each other"));
        }
        return read(path);
    }
    if command.is_empty() {
        return Err(usage("process args cannot be empty")
            .with_hint("name a command behind the ID, or give --process"));
    }
    let mut process = recorded.clone();
    process.args = command
        .iter()
        .map(|word| {
            word.to_str().map(str::to_owned).ok_or_else(|| usage(format!("argument {word:?} is not UTF-8")))
        })
        .collect::<Result<_, _>>()?;
    change(&mut process, given)?;
    Ok(process)
}

fn read(path: &Path) -> Result<Process, Error> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
    let fd = rustix::fs::open(path, flags, Mode::empty())
        .map_err(|errno| Error::os("open the process file", errno).with_path(path))?;
    let bytes = spec::read_document(&File::from(fd)).map_err(|error| invalid(error, path))?;
    Process::from_slice(&bytes).map_err(|error| invalid(error, path))
}

pub fn invalid(error: spec::LoadError, path: &Path) -> Error {
    let place = if error.line == 0 {
        String::new()
    } else {
        format!(" (line {}, column {})", error.line, error.column)
    };
    let invalid = Error::new(ErrorKind::InvalidSpec, format!("{}{place}", error.message)).with_path(path);
    if error.pointer.is_empty() { invalid } else { invalid.at(error.pointer) }
}

fn change(process: &mut Process, given: &Given<'_>) -> Result<(), Error> {
    // A terminal is only had for the asking.
    process.terminal = Some(given.on(&flags::TTY));
    if let Some(cwd) = given.text(&flags::CWD).filter(|cwd| !cwd.is_empty()) {
        cwd.clone_into(&mut process.cwd);
    }
    if let Some(profile) = given.text(&flags::APPARMOR).filter(|profile| !profile.is_empty()) {
        process.apparmor_profile = Some(profile.to_owned());
    }
    if let Some(label) = given.text(&flags::PROCESS_LABEL).filter(|label| !label.is_empty()) {
        process.selinux_label = Some(label.to_owned());
    }
    if given.raw(&flags::NO_NEW_PRIVS).is_some() {
        process.no_new_privileges = Some(given.on(&flags::NO_NEW_PRIVS));
    }
    for variable in given.list(&flags::ENV) {
        if variable.split_once('=').is_none_or(|(name, _)| name.is_empty()) {
            return Err(usage(format!("invalid value {variable:?} for flag -env: it is not NAME=VALUE")));
        }
        process.env.push(variable.to_owned());
    }
    add_capabilities(process, given);
    let user = process.user.get_or_insert_default();
    if let Some(text) = given.text(&flags::USER) {
        let (uid, gid) = ids(text)?;
        user.uid = Some(uid);
        user.gid = gid.or(user.gid);
    }
    for text in given.list(&flags::ADDITIONAL_GIDS) {
        let gid = text.parse().map_err(|error| bad("additional-gids", text, &error))?;
        user.additional_gids.push(gid);
    }
    Ok(())
}

/// Into the bounding, the effective and the permitted set. The inheritable and the ambient set are not derived from these: a
/// capability in them would outlive a change of user or raise what a file gives (CVE-2022-29162 and its sisters).
fn add_capabilities(process: &mut Process, given: &Given<'_>) {
    for name in given.list(&flags::CAP) {
        let sets = process.capabilities.get_or_insert_with(Capabilities::default);
        for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
            if !set.iter().any(|known| known == name) {
                set.push(name.to_owned());
            }
        }
    }
}

/// `UID` or `UID:GID`.
fn ids(text: &str) -> Result<(Id, Option<Id>), Error> {
    let (uid, gid) = match text.split_once(':') {
        Some((uid, gid)) => (uid, Some(gid)),
        None => (text, None),
    };
    let read = |part: &str| part.parse().map_err(|error| bad("user", text, &error));
    Ok((read(uid)?, gid.map(read).transpose()?))
}

fn bad(flag: &str, value: &str, error: &dyn std::fmt::Display) -> Error {
    usage(format!("invalid value {value:?} for flag -{flag}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Order, split};
    use std::ffi::OsString;

    /// Texts that an atoi would take for some other user, above all for root (CVE-2016-3697, CVE-2024-40635, CVE-2026-30892).
    const NO_IDS: [&str; 33] = [
        "",
        " ",
        "-1",
        "+1",
        " 1",
        "1 ",
        "1x",
        "x1",
        "x",
        "0x0",
        "0x10",
        "1.0",
        "1e3",
        "-0",
        "+0",
        "4294967295",
        "4294967296",
        "8589934592",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999999",
        "0:",
        ":0",
        ":",
        "0:0:0",
        "1:-1",
        "1:+1",
        "1: 1",
        "1:4294967295",
        "1:4294967296",
        "1,2",
        "root",
        "١",
    ];

    fn changed(words: &[&str], recorded: &Process) -> Result<Process, Error> {
        let words: Vec<OsString> = words.iter().chain(&["c", "sh"]).map(OsString::from).collect();
        let command = crate::args::commands::find("exec").expect("exec");
        process(&split(command.flags, &words, Order::FlagsFirst)?, recorded)
    }

    fn recorded() -> Process {
        let text = r#"{"cwd": "/srv", "terminal": true, "args": ["init"], "env": ["A=1"], "noNewPrivileges": true,
            "user": {"uid": 5, "gid": 6}, "capabilities": {"bounding": ["CAP_KILL"], "inheritable": ["CAP_KILL"]}}"#;
        Process::from_slice(text.as_bytes()).expect("a process")
    }

    #[test]
    fn a_user_is_exactly_this_number_or_an_error() {
        for text in NO_IDS {
            let error = changed(&["--user", text], &recorded()).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::Usage, "{text}");
            let gid = ["--additional-gids", text];
            assert!(changed(&gid, &recorded()).is_err(), "{text}");
        }
        for (text, uid, gid) in [
            ("0", 0, 6),
            ("0:0", 0, 0),
            ("1", 1, 6),
            ("1:2", 1, 2),
            ("01", 1, 6),
            ("2147483648", 2_147_483_648, 6),
            ("4294967294:4294967294", 4_294_967_294, 4_294_967_294),
        ] {
            let user = changed(&["--user", text], &recorded()).expect(text).user.expect("a user");
            assert_eq!((user.uid, user.gid), (Id::new(uid), Id::new(gid)), "{text}");
        }
    }

    #[test]
    fn what_is_not_said_is_as_recorded() {
        let process = changed(&[], &recorded()).expect("legal");
        let mut expected = recorded();
        (expected.args, expected.terminal) = (vec!["sh".to_owned()], Some(false));
        assert_eq!(process, expected);
    }

    #[test]
    fn flags_change_what_they_name() {
        let words = [
            "--cwd",
            "/w",
            "-e",
            "B=2",
            "--env=C=",
            "-t",
            "--no-new-privs=false",
            "--apparmor",
            "p",
            "--process-label",
            "l",
            "-g",
            "7",
            "--additional-gids",
            "8",
        ];
        let process = changed(&words, &recorded()).expect("legal");
        assert_eq!(
            (process.cwd.as_str(), process.terminal, process.no_new_privileges),
            ("/w", Some(true), Some(false))
        );
        assert_eq!(process.env, ["A=1", "B=2", "C="]);
        assert_eq!(
            (process.apparmor_profile.as_deref(), process.selinux_label.as_deref()),
            (Some("p"), Some("l"))
        );
        let groups: Vec<u32> =
            process.user.expect("a user").additional_gids.iter().map(|gid| gid.get()).collect();
        assert_eq!(groups, [7, 8]);
        for wrong in ["novalue", "=x", ""] {
            assert!(changed(&["--env", wrong], &recorded()).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn capabilities_are_added_to_three_sets_only() {
        let sets = changed(&["--cap", "CAP_KILL", "-c", "CAP_CHOWN"], &recorded())
            .expect("legal")
            .capabilities
            .expect("sets");
        assert_eq!(sets.bounding, ["CAP_KILL", "CAP_CHOWN"]);
        assert_eq!(sets.effective, sets.bounding);
        assert_eq!(sets.permitted, sets.bounding);
        assert_eq!((sets.inheritable.len(), sets.ambient.len()), (1, 0));
    }

    #[test]
    fn a_file_is_the_whole_process() {
        let path = std::env::temp_dir().join(format!("coracle-process-{}", std::process::id()));
        let file = path.to_str().expect("text").to_owned();
        let given = |rest: &[&str]| -> Vec<OsString> {
            [&["--process", &file][..], rest].concat().iter().map(OsString::from).collect()
        };
        let command = crate::args::commands::find("exec").expect("exec");
        let read = |rest: &[&str]| {
            process(&split(command.flags, &given(rest), Order::FlagsFirst).expect("legal"), &recorded())
        };
        assert_eq!(read(&["c"]).expect_err("no file").errno_name(), Some("ENOENT"));
        std::fs::write(&path, r#"{"cwd": "/", "args": ["x"]}"#).expect("written");
        let expected = Process::from_slice(br#"{"args": ["x"], "cwd": "/"}"#).expect("a process");
        assert_eq!(read(&["c"]).expect("read"), expected);
        assert_eq!(read(&["c", "sh"]).expect_err("both").kind(), ErrorKind::Usage);
        std::fs::write(&path, r#"{"cwd": "/", "args": "x"}"#).expect("written");
        let error = read(&["c"]).expect_err("wrong");
        assert_eq!((error.kind(), error.pointer()), (ErrorKind::InvalidSpec, Some("/args")));
        std::fs::remove_file(&path).expect("removed");
    }

    #[test]
    fn exec_without_a_command_is_refused() {
        let words = [OsString::from("c")];
        let given = split(&[], &words, Order::FlagsFirst).expect("legal");
        assert_eq!(process(&given, &recorded()).expect_err("nothing").kind(), ErrorKind::Usage);
    }
}
