//! What engines rely on beside the containers: flags and their spellings, outputs, logs, errors.
use coracle_tests::*;
use std::fs;

cases![
    words_of_crun,
    version,
    features,
    help,
    spec,
    spec_rootless,
    spec_output_runs,
    usage_errors,
    flag_spellings,
    repeated_flags,
    flags_stop_at_the_id,
    values_of_flags,
    log_is_silent_on_success,
    log_has_one_object,
    log_is_appended,
    log_as_text,
    log_fails,
    errors_without_a_log,
    debug,
    rootless_flag,
    ignored_flags,
    state_directory_of_the_user,
    state_directory_is_private,
    environment_of_a_service,
];

/// A call without a bundle or an id.
fn call(t: &T, command: &str) -> Call {
    Call::new(&t.runtime, t.dir(), &t.dir().join("state"), command)
}

fn version(t: &T) {
    for flag in ["--version", "-v", "-version"] {
        if t.runtime.kind == Kind::Crun && flag != "--version" {
            continue;
        }
        let done = Call::new(&t.runtime, t.dir(), &t.dir().join("state"), "").arg(flag).ok();
        let first = done.out.lines().next().unwrap();
        let words: Vec<&str> = first.split_whitespace().collect();
        assert_eq!(words.get(1), Some(&"version"), "NAME version X: {first}");
        assert!(
            words.get(2).is_some_and(|word| word.starts_with(|sign: char| sign.is_ascii_digit())),
            "{first}"
        );
        assert!(done.out.lines().any(|line| line.starts_with("spec: ")), "{}", done.out);
    }
}

fn features(t: &T) {
    t.differs("crun", "features is younger than crun 1.8");
    let features = call(t, "features").ok().json();
    for key in ["ociVersionMin", "ociVersionMax", "hooks", "mountOptions", "linux"] {
        assert!(features.get(key).is_some(), "{key}: {features}");
    }
    let has = |pointer: &str, word: &str| {
        features.pointer(pointer).and_then(Value::as_array).is_some_and(|list| list.contains(&json!(word)))
    };
    assert!(has("/hooks", "createContainer") && has("/mountOptions", "rbind"), "{features}");
    assert!(has("/linux/namespaces", "user") && has("/linux/capabilities", "CAP_KILL"), "{features}");
    if t.ours() {
        assert!(has("/mountOptions", "rro"), "engines look for it: {features}");
    }
    // What it says is accepted is accepted.
    for key in ["ociVersionMin", "ociVersionMax"] {
        let mut bundle = Bundle::new(t, &["exit", "6"]);
        bundle.set("/ociVersion", features[key].clone());
        Container::new(t, &mut bundle).run().expect(6);
    }
}

fn help(t: &T) {
    for flag in ["--help", "-h"] {
        if t.runtime.kind == Kind::Crun && flag == "-h" {
            continue;
        }
        let done = Call::new(&t.runtime, t.dir(), &t.dir().join("state"), "").arg(flag).ok();
        for command in [
            "create", "start", "state", "kill", "delete", "run", "exec", "list", "ps", "pause", "resume",
            "spec",
        ] {
            assert!(done.out.contains(command), "{command}: {}", done.out);
        }
    }
    for command in ["create", "run", "exec", "kill"] {
        assert!(call(t, command).arg("--help").ok().out.contains(command));
    }
}

fn spec(t: &T) {
    let dir = t.dir().join("new");
    fs::create_dir(&dir).unwrap();
    assert_eq!(call(t, "spec").arg("--bundle").arg(&dir).ok().out, "");
    let text = fs::read_to_string(dir.join("config.json")).unwrap();
    let config: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(config["process"]["args"], json!(["sh"]));
    assert_eq!(config["root"]["path"], "rootfs");
    assert_eq!(config["process"]["terminal"], true);
    if t.runtime.kind != Kind::Crun {
        let done = call(t, "spec").arg("-b").arg(&dir).done();
        assert!(done.message().contains("exist"), "it is not overwritten: {done}");
        assert_eq!(fs::read_to_string(dir.join("config.json")).unwrap(), text);
    }
    let other = t.dir().join("other");
    fs::create_dir(&other).unwrap();
    call(t, "spec").current_dir(&other).ok();
    assert!(other.join("config.json").is_file(), "in the current directory");
}

fn spec_rootless(t: &T) {
    t.differs("crun", "a network namespace is asked for");
    let dir = t.dir().join("new");
    fs::create_dir(&dir).unwrap();
    call(t, "spec").arg("--rootless").arg("--bundle").arg(&dir).ok();
    let config: Value = serde_json::from_str(&fs::read_to_string(dir.join("config.json")).unwrap()).unwrap();
    let namespaces = config["linux"]["namespaces"].to_string();
    assert!(namespaces.contains("\"user\"") && !namespaces.contains("\"network\""), "{namespaces}");
    assert!(
        config["linux"].get("uidMappings").is_some() && config["linux"].get("resources").is_none(),
        "{config}"
    );
}

fn spec_output_runs(t: &T) {
    t.needs(&[Need::Busybox]);
    let mut bundle = Bundle::new(t, &[]);
    bundle.busybox();
    call(t, "spec").arg("--bundle").arg(&bundle.dir).ok();
    let path = bundle.dir.join("config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["sh", "-c", "id -u; hostname; cat /proc/1/comm; exit 5"]);
    bundle.spec = config;
    let container = Container::new(t, &mut bundle);
    let done = container.run().expect(5);
    let lines: Vec<&str> = done.out.lines().collect();
    assert_eq!((lines[0], lines[2]), ("0", "sh"), "{done}");
}

fn usage_errors(t: &T) {
    for (command, words) in [
        ("no-such-command", &[][..]),
        ("run", &["--no-such-flag", "x"]),
        ("state", &[]),
        ("create", &[]),
        ("start", &[]),
        ("delete", &[]),
        ("exec", &[]),
        ("kill", &[]),
        ("run", &["--preserve-fds", "x", "y"]),
        ("state", &["a", "b"]),
        ("list", &["--format", "yaml"]),
    ] {
        if t.runtime.kind == Kind::Crun && (command == "list" || words == ["a", "b"]) {
            continue;
        }
        let done = call(t, command).args(words).done();
        assert_ne!(done.code(), 0, "{done}");
        assert!(!done.err.trim().is_empty() || !done.out.trim().is_empty(), "it says why: {done}");
        if t.ours() {
            assert_eq!(done.code(), 1, "{done}");
            assert_eq!(done.err.trim().lines().count(), 1, "one line: {done}");
        }
    }
}

fn flag_spellings(t: &T) {
    t.differs("crun", "one dash is for short flags");
    let mut bundle = Bundle::new(t, &["exit", "3"]);
    let container = Container::new(t, &mut bundle);
    let dir = container.bundle.dir.display().to_string();
    for words in [
        vec!["--bundle".to_owned(), dir.clone()],
        vec![format!("--bundle={dir}")],
        vec!["-bundle".to_owned(), dir.clone()],
        vec![format!("-bundle={dir}")],
        vec!["-b".to_owned(), dir.clone()],
        vec![format!("-b={dir}")],
        vec![format!("--bundle={dir}"), "-no-subreaper".to_owned()],
        vec![format!("--bundle={dir}"), "--no-subreaper=true".to_owned(), "--no-pivot=false".to_owned()],
    ] {
        container.call("run").args(words).done().expect(3);
    }
}

fn repeated_flags(t: &T) {
    t.differs("crun", "--debug takes no value");
    let mut bundle = Bundle::new(t, &["exit", "3"]);
    let container = Container::new(t, &mut bundle);
    let dir = &container.bundle.dir;
    // The last one counts.
    let call = container.call("run").arg("--bundle").arg("/nowhere").arg("--bundle").arg(dir);
    let call = call.global(&["--debug=false", "--root", "/nowhere", "--root"]);
    let call = call.global(&[container.root.to_str().unwrap()]);
    call.done().expect(3);
}

fn flags_stop_at_the_id(t: &T) {
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.ready();
    // Words after the id are the command's, whatever they look like.
    let done = container.exec(&["/payload", "print", "--tty", "-e", "--env", "--", "--user"]).expect(0);
    assert_eq!(done.out, "--tty -e --env -- --user\n");
    container.end();
}

fn values_of_flags(t: &T) {
    let done = call(t, "run").args(["--bundle"]).done();
    assert_ne!(done.code(), 0);
    let text = format!("{}{}", done.out, done.err);
    assert!(text.contains("flag needs an argument") || text.contains("requires an argument"), "{done}");
}

fn log_is_silent_on_success(t: &T) {
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    // Each call of the library checks it; this one checks that there is no file content for a whole life.
    let log = t.dir().join("the log");
    container.create_with(container.create_call().log(&log));
    container.call("start").log(&log).ok();
    container.call("state").log(&log).ok();
    container.call("exec").log(&log).then(["/payload", "exit", "1"]).done().expect(1);
    container.call("kill").log(&log).then(["KILL"]).ok();
    container.wait();
    container.call("delete").log(&log).ok();
    assert_eq!(fs::read_to_string(&log).unwrap_or_default(), "");
}

fn log_has_one_object(t: &T) {
    t.differs("crun", "names are printed as they are");
    let mut bundle = Bundle::new(t, &[]);
    bundle.set("/process/args", json!(["no \"such\"\nprogram\t\u{1}ü"]));
    let container = Container::new(t, &mut bundle);
    let done = container.create_call().done().expect(1);
    let error = done.error();
    assert_eq!(done.log.lines().count(), 1, "{done}");
    assert!(error["msg"].as_str().unwrap().contains('ü'), "{error}");
    assert_eq!(done.err.trim().lines().count(), 1, "one line on standard error: {done}");
}

fn log_is_appended(t: &T) {
    let log = t.dir().join("log");
    fs::write(&log, "an old line\n").unwrap();
    for count in 1..=2 {
        let done = call(t, "state").log(&log).arg("missing").done();
        assert_ne!(done.code(), 0);
        let text = fs::read_to_string(&log).unwrap();
        assert!(text.starts_with("an old line\n"), "{text}");
        assert_eq!(text.lines().count(), 1 + count, "{text}");
    }
}

fn log_as_text(t: &T) {
    t.differs("crun", "its text has another form");
    let log = t.dir().join("log");
    let done = call(t, "state").no_log().global(&["--log", log.to_str().unwrap()]).arg("missing").done();
    assert_ne!(done.code(), 0);
    let text = fs::read_to_string(&log).unwrap();
    assert!(text.contains("level=error") && text.contains("does not exist"), "{text}");
    assert!(text.starts_with("time=\""), "{text}");
    // json is the only other word.
    let wrong = call(t, "state").no_log().global(&["--log-format", "xml"]).arg("missing").done();
    assert_ne!(wrong.code(), 0);
}

fn log_fails(t: &T) {
    let mut bundle = Bundle::new(t, &["print", "it runs"]);
    let container = Container::new(t, &mut bundle);
    let done = container.run_call().no_log().global(&["--log", "/no/such/dir/log"]).done();
    assert_ne!(done.code(), 0, "{done}");
    assert!(!done.out.contains("it runs"), "{done}");
    assert!(!done.err.is_empty());
}

fn errors_without_a_log(t: &T) {
    let mut bundle = Bundle::new(t, &[]);
    bundle.set("/process/args", json!(["no-such-program"]));
    let container = Container::new(t, &mut bundle);
    let done = container.create_call().no_log().done().expect(1);
    assert_eq!(done.out, "");
    assert!(done.err.contains("no-such-program"), "{done}");
    if t.ours() {
        assert_eq!(done.err.trim().lines().count(), 1, "{done}");
    }
}

fn debug(t: &T) {
    let mut bundle = Bundle::new(t, &["print", "out"]);
    let container = Container::new(t, &mut bundle);
    let done = container.run_call().global(&["--debug"]).done().expect(0);
    assert_eq!(done.out, "out\n", "the container's output stays clean");
    if t.ours() {
        assert!(!done.err.is_empty() || !done.log.is_empty(), "steps and times are shown");
        for line in done.log.lines() {
            let object: Value = serde_json::from_str(line).unwrap();
            assert_ne!(object["level"], "error", "{line}");
        }
    }
}

fn rootless_flag(t: &T) {
    let mut bundle = Bundle::new(t, &["exit", "2"]);
    let container = Container::new(t, &mut bundle);
    for value in ["--rootless=false", "--rootless=auto"] {
        container.run_call().global(&[value]).done().expect(2);
    }
}

fn ignored_flags(t: &T) {
    t.differs("crun", "no such flag");
    let mut bundle = Bundle::new(t, &["exit", "2"]);
    let container = Container::new(t, &mut bundle);
    let done = container.run_call().global(&["--criu", "/usr/sbin/criu"]).done().expect(2);
    assert_eq!(done.out, "");
}

fn state_directory_of_the_user(t: &T) {
    // Real root ignores XDG_RUNTIME_DIR; the default is below /run. Only asked, nothing is made there.
    let dir = t.dir().join("xdg");
    fs::create_dir(&dir).unwrap();
    let mut list = std::process::Command::new(&t.runtime.path);
    list.args(["list", "--quiet"]).env_clear().env("XDG_RUNTIME_DIR", &dir).env("USER", "root");
    let done = list.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    if t.ours() {
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0, "nothing is made in it");
    }
}

fn state_directory_is_private(t: &T) {
    use std::os::unix::fs::MetadataExt;
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    container.create_with(container.create_call().launched(["--umask", "0"]));
    let mut open = vec![container.root.join(&container.id)];
    while let Some(path) = open.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        assert_eq!(meta.uid(), 0, "{}", path.display());
        // runc's fifo is open to all on purpose, below a directory that is not.
        let fifo = path.file_name().is_some_and(|name| name == "exec.fifo");
        assert!(
            fifo || meta.mode() & 0o022 == 0 || meta.is_symlink(),
            "{} is {:o}",
            path.display(),
            meta.mode()
        );
        if meta.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    container.call("delete").arg("--force").ok();
}

fn environment_of_a_service(t: &T) {
    // A caller with a service manager's variables, and with none at all.
    let mut bundle = Bundle::new(t, &["report"]);
    let container = Container::new(t, &mut bundle);
    let call = container
        .run_call()
        .env("_OCI_SYNCPIPE", "3")
        .env("_OCI_STARTPIPE", "4")
        .env("XDG_RUNTIME_DIR", "/nowhere");
    let seen = call.done().expect(0).json();
    let env = seen["env"].to_string();
    assert!(!env.contains("_OCI_") && !env.contains("XDG_") && !env.contains("LISTEN_"), "{env}");
    let mut bare = std::process::Command::new(&t.runtime.path);
    bare.env_clear().arg("--root").arg(&container.root).args(["run", "--bundle"]).arg(&container.bundle.dir);
    let done = bare.arg(&container.id).stdin(std::process::Stdio::null()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn words_of_crun(t: &T) {
    t.differs("runc", "crun's flags");
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = Container::new(t, &mut bundle);
    let log = t.dir().join("crun.log");
    let place = format!("file:{}", log.display());
    let create = container.create_call().no_log().arg("--no-subreaper");
    create.global(&["--log", &place, "--log-level", "error", "--cgroup-manager=cgroupfs"]).ok();
    assert_eq!(fs::read_to_string(&log).unwrap(), "", "opened, and silent");
    if t.ours() {
        let state = container.call("state").no_log();
        let done = state.global(&["--log", &place, "--log-level=debug"]).done().expect(0);
        assert_eq!(done.json()["status"], "created");
        for place in ["journald:web", "syslog:web"] {
            let done = container.call("state").no_log().global(&["--log", place]).done().expect(1);
            assert!(done.err.contains("the log goes to a file"), "{done}");
        }
        container.bare("spec").arg("--bundle").arg(t.dir()).args(["--file", "other.json"]).ok();
        let written: Value = serde_json::from_slice(&fs::read(t.dir().join("other.json")).unwrap()).unwrap();
        assert_eq!(written["root"]["path"], "rootfs");
    }
    container.call("delete").arg("--force").ok();
}
