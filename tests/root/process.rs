//! What the process sees of itself, compared with the configuration.
use coracle_tests::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;

cases![
    ids_and_groups,
    ids_default_to_root,
    umask,
    five_capability_sets,
    no_capabilities,
    unknown_capability,
    capabilities_of_an_ordinary_user,
    ambient_capabilities,
    no_new_privileges,
    limits,
    few_files_below_a_user_namespace,
    limits_raised,
    oom_score,
    oom_score_lowered,
    arguments,
    environment,
    home,
    current_directory,
    current_directory_is_made,
    home_behind_a_link,
    current_directory_of_an_ordinary_user,
    signals_are_default,
    no_descriptor_leaks,
    preserved_descriptors,
    listen_descriptors,
    session_keyring,
    kept_session_keyring,
    nothing_is_inherited,
    missing_commands,
    executable_is_searched,
    closed_standard_descriptors,
    standard_descriptors_belong_to_the_user,
    null_stays_the_machines,
];

fn names(value: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = value.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    names.sort_unstable();
    names
}

fn ids_and_groups(t: &T) {
    let mut bundle = Bundle::new(t, &["report"]);
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1001, "additionalGids": [3, 5, 2_000_000]}));
    let seen = report(t, &mut bundle);
    assert_eq!(seen["uid"], json!({"real": 1000, "effective": 1000, "saved": 1000, "fs": 1000}));
    assert_eq!(seen["gid"], json!({"real": 1001, "effective": 1001, "saved": 1001, "fs": 1001}));
    assert_eq!(seen["groups"], json!([3, 5, 2_000_000]));
}

fn ids_default_to_root(t: &T) {
    // The caller has groups; the container has only its own.
    let mut bundle = Bundle::new(t, &["report"]);
    let container = Container::new(t, &mut bundle);
    let seen = container.run_call().launched(["--user", "0:0,7,8,9"]).done().expect(0).json();
    assert_eq!(seen["groups"], json!([]), "the caller's groups are cleared");
    assert_eq!(seen["uid"], json!({"real": 0, "effective": 0, "saved": 0, "fs": 0}));
}

fn umask(t: &T) {
    let mut bundle = Bundle::new(t, &["report"]);
    let container = Container::new(t, &mut bundle);
    let seen = container.run_call().launched(["--umask", "077"]).done().expect(0).json();
    assert_eq!(seen["umask"], 0o022, "whatever the caller's is");
    drop(container);
    let mut bundle = Bundle::new(t, &["report"]);
    bundle.set("/process/user/umask", json!(0o137));
    assert_eq!(report(t, &mut bundle)["umask"], 0o137);
}

fn five_capability_sets(t: &T) {
    let mut bundle = Bundle::new(t, &["report"]);
    bundle.set(
        "/process/capabilities",
        json!({"bounding": ["CAP_KILL", "CAP_CHOWN", "CAP_NET_RAW", "CAP_FOWNER"],
               "permitted": ["CAP_KILL", "CAP_CHOWN", "CAP_NET_RAW"],
               "effective": ["CAP_KILL", "CAP_CHOWN"],
               "inheritable": ["CAP_KILL", "CAP_NET_RAW"],
               "ambient": ["CAP_KILL"]}),
    );
    // After execve a process of root has what the bounding set allows; ask with another uid to see the sets.
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let seen = report(t, &mut bundle);
    assert_eq!(names(&seen["caps"]["bounding"]), ["CAP_CHOWN", "CAP_FOWNER", "CAP_KILL", "CAP_NET_RAW"]);
    assert_eq!(names(&seen["caps"]["inheritable"]), ["CAP_KILL", "CAP_NET_RAW"]);
    assert_eq!(names(&seen["caps"]["ambient"]), ["CAP_KILL"]);
    assert_eq!(names(&seen["caps"]["permitted"]), ["CAP_KILL"]);
    assert_eq!(names(&seen["caps"]["effective"]), ["CAP_KILL"]);
}

fn no_capabilities(t: &T) {
    let mut bundle = Bundle::new(t, &["report"]);
    bundle.set("/process/capabilities", json!({}));
    let seen = report(t, &mut bundle);
    for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
        assert_eq!(seen["caps"][set], json!([]), "{set}");
    }
}

fn unknown_capability(t: &T) {
    let mut bundle = Bundle::new(t, &["report"]);
    let some = json!(["CAP_KILL", "CAP_OF_THE_FUTURE"]);
    bundle.set("/process/capabilities", json!({"bounding": some, "effective": some, "permitted": some}));
    let container = Container::new(t, &mut bundle);
    let done = container.run().expect(0);
    assert_eq!(names(&done.json()["caps"]["effective"]), ["CAP_KILL"], "granting less than asked is allowed");
}

fn capabilities_of_an_ordinary_user(t: &T) {
    let mut bundle = Bundle::new(t, &["report"]);
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let seen = report(t, &mut bundle);
    assert_eq!(seen["caps"]["effective"], json!([]));
    assert_eq!(seen["caps"]["permitted"], json!([]));
    assert_eq!(names(&seen["caps"]["bounding"]).len(), bundle::CAPABILITIES.len());
}

fn ambient_capabilities(t: &T) {
    let mut bundle = Bundle::new(t, &["report"]);
    let all = json!(["CAP_NET_BIND_SERVICE"]);
    bundle.set(
        "/process/capabilities",
        json!({"bounding": all, "effective": all, "permitted": all, "inheritable": all, "ambient": all}),
    );
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let seen = report(t, &mut bundle);
    for set in ["bounding", "effective", "permitted", "inheritable", "ambient"] {
        assert_eq!(seen["caps"][set], all, "{set}");
    }
}

fn no_new_privileges(t: &T) {
    for wanted in [true, false] {
        let mut bundle = Bundle::new(t, &["report"]);
        bundle.set("/process/noNewPrivileges", json!(wanted));
        assert_eq!(report(t, &mut bundle)["noNewPrivs"], json!(wanted));
    }
    let mut bundle = Bundle::new(t, &["report"]);
    bundle.remove("/process/noNewPrivileges");
    assert_eq!(report(t, &mut bundle)["noNewPrivs"], false);
}

fn limits(t: &T) {
    let mut bundle = Bundle::new(t, &["report"]);
    bundle.set(
        "/process/rlimits",
        json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}, {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
               {"type": "RLIMIT_NPROC", "soft": 500, "hard": 600}, {"type": "RLIMIT_STACK", "soft": 1_048_576, "hard": 2_097_152},
               {"type": "RLIMIT_RTTIME", "soft": 5, "hard": 6}]),
    );
    let seen = report(t, &mut bundle);
    assert_eq!(seen["rlimits"]["RLIMIT_NOFILE"], json!({"soft": 100, "hard": 200}));
    assert_eq!(seen["rlimits"]["RLIMIT_CORE"], json!({"soft": 0, "hard": 0}));
    assert_eq!(seen["rlimits"]["RLIMIT_NPROC"], json!({"soft": 500, "hard": 600}));
    assert_eq!(seen["rlimits"]["RLIMIT_STACK"], json!({"soft": 1_048_576, "hard": 2_097_152}));
    assert_eq!(seen["rlimits"]["RLIMIT_RTTIME"], json!({"soft": 5, "hard": 6}));
}

/// The runtime needs more files for the mounts than the program may have.
fn few_files_below_a_user_namespace(t: &T) {
    t.needs(&[Need::UserNamespaces]);
    let mut bundle = Bundle::new(t, &["report"]);
    bundle.user_namespace(100_000);
    bundle.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 7, "hard": 8}]));
    for user in [0, 1000] {
        bundle.set("/process/user", json!({"uid": user, "gid": user}));
        assert_eq!(
            report(t, &mut bundle)["rlimits"]["RLIMIT_NOFILE"],
            json!({"soft": 7, "hard": 8}),
            "{user}"
        );
    }
}

fn limits_raised(t: &T) {
    t.needs(&[need::SYS_RESOURCE]);
    let mut bundle = Bundle::new(t, &["report"]);
    bundle.set("/process/rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 3000, "hard": 4000}]));
    let container = Container::new(t, &mut bundle);
    let call = container.run_call().launched(["--limit", "7=1000:1000"]);
    assert_eq!(call.done().expect(0).json()["rlimits"]["RLIMIT_NOFILE"], json!({"soft": 3000, "hard": 4000}));
}

fn oom_score(t: &T) {
    let mut bundle = Bundle::new(t, &["report"]);
    bundle.set("/process/oomScoreAdj", json!(321));
    assert_eq!(report(t, &mut bundle)["oomScoreAdj"], 321);
    // Absent: the caller's stays.
    let mut bundle = Bundle::new(t, &["report"]);
    let container = Container::new(t, &mut bundle);
    let seen = container.run_call().launched(["--oom", "77"]).done().expect(0).json();
    assert_eq!(seen["oomScoreAdj"], 77);
}

fn oom_score_lowered(t: &T) {
    t.needs(&[need::SYS_RESOURCE]);
    let mut bundle = Bundle::new(t, &["report"]);
    bundle.set("/process/oomScoreAdj", json!(-500));
    assert_eq!(report(t, &mut bundle)["oomScoreAdj"], -500);
}

fn arguments(t: &T) {
    let words = ["report", "--path", "", "--path", " a  b ", "--path", "ü\n\t\"'\\$HOME", "--path", "--"];
    let mut bundle = Bundle::new(t, &words);
    let seen = report(t, &mut bundle);
    let mut expected = vec!["/payload"];
    expected.extend(words);
    assert_eq!(seen["args"], json!(expected));
}

fn environment(t: &T) {
    let mut bundle = Bundle::new(t, &["report"]);
    let wanted = ["PATH=/bin", "EMPTY=", "HOME=/somewhere", "MULTI=a=b=c", "TEXT=ü \n x"];
    bundle.set("/process/env", json!(wanted));
    let container = Container::new(t, &mut bundle);
    let seen = container.run_call().env("CANARY", "leaks").done().expect(0).json();
    assert_eq!(seen["env"], json!(wanted), "exactly what is configured, in this order");
}

fn home(t: &T) {
    t.differs("crun", "unknown users get no HOME");
    for (user, expected) in [(0, "HOME=/root"), (1000, "HOME=/home/sailor"), (4321, "HOME=/")] {
        let mut bundle = Bundle::new(t, &["report"]);
        bundle.set("/process/user", json!({"uid": user, "gid": 0}));
        let seen = report(t, &mut bundle);
        let homes: Vec<&str> =
            names(&seen["env"]).into_iter().filter(|entry| entry.starts_with("HOME=")).collect();
        assert_eq!(homes, [expected], "user {user}");
    }
    // One without a value is none, and the last of several counts.
    for (given, expected) in [
        (&["HOME="][..], "HOME=/root"),
        (&["HOME=/a", "HOME="], "HOME=/root"),
        (&["HOME=", "HOME=/b"], "HOME=/b"),
    ] {
        let mut bundle = Bundle::new(t, &["report"]);
        bundle.set("/process/env", json!(given));
        assert_eq!(report(t, &mut bundle)["env"], json!([expected]), "{given:?}");
    }
}

fn current_directory(t: &T) {
    let mut bundle = Bundle::new(t, &["report"]);
    bundle.set("/process/cwd", json!("/etc/../tmp/./"));
    assert_eq!(report(t, &mut bundle)["cwd"], "/tmp");
    // A symlink inside stays inside.
    let mut bundle = Bundle::new(t, &["report"]);
    std::os::unix::fs::symlink("/etc", bundle.inside("/link")).unwrap();
    bundle.set("/process/cwd", json!("/link"));
    assert_eq!(report(t, &mut bundle)["cwd"], "/etc");
}

fn current_directory_is_made(t: &T) {
    let mut bundle = Bundle::new(t, &["report", "--path", "/new/deep/dir"]);
    bundle.set("/process/cwd", json!("/new/deep/dir"));
    let seen = report(t, &mut bundle);
    assert_eq!(seen["cwd"], "/new/deep/dir");
    assert_eq!(seen["paths"]["/new/deep/dir"]["mode"], 0o755);
    assert_eq!(seen["paths"]["/new/deep/dir"]["uid"], 0);
    // A root that the program cannot write to is no obstacle, nor is a mount that stands on the way.
    let mut bundle = Bundle::new(t, &["report"]);
    bundle.set("/root/readonly", json!(true)).mount("tmpfs", "tmpfs", "/tmp", &[]);
    for dir in ["/new/dir", "/tmp/dir"] {
        bundle.set("/process/cwd", json!(dir));
        assert_eq!(report(t, &mut bundle)["cwd"], dir);
    }
}

/// Where an image keeps it elsewhere, `/etc/passwd` is a link; what a link must not do is to lead to a descriptor of the runtime.
fn home_behind_a_link(t: &T) {
    let home = |target: &str| {
        let mut bundle = Bundle::new(t, &["report"]);
        let passwd = bundle.inside("/etc/passwd");
        let _ = fs::remove_file(&passwd);
        fs::create_dir_all(bundle.inside("/store")).unwrap();
        fs::write(bundle.inside("/store/users"), "sailor:x:1000:1000::/home/sea:/bin/sh\n").unwrap();
        std::os::unix::fs::symlink(target, passwd).unwrap();
        bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
        let seen = report(t, &mut bundle);
        names(&seen["env"]).into_iter().find_map(|entry| entry.strip_prefix("HOME=").map(str::to_owned))
    };
    for target in ["/store/users", "../store/users"] {
        assert_eq!(home(target).as_deref(), Some("/home/sea"), "{target}");
    }
    t.differs("crun", "unknown users get no HOME");
    for target in ["/nowhere", "/proc/self/fd/0", "/dev/zero"] {
        assert_eq!(home(target).as_deref(), Some("/"), "{target}");
    }
}

fn current_directory_of_an_ordinary_user(t: &T) {
    // Only the user may enter: the runtime tries before and after the change of the user.
    let mut bundle = Bundle::new(t, &["report"]);
    let dir = bundle.inside("/home/sailor");
    fs::create_dir(&dir).unwrap();
    std::os::unix::fs::chown(&dir, Some(1000), Some(1000)).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
    bundle.set("/process/cwd", json!("/home/sailor")).set("/process/user", json!({"uid": 1000, "gid": 1000}));
    assert_eq!(report(t, &mut bundle)["cwd"], "/home/sailor");
}

fn signals_are_default(t: &T) {
    t.differs("runc", "signals that Go does not use stay ignored");
    t.differs("crun", "hangs when SIGCHLD is ignored");
    let mut bundle = Bundle::new(t, &["report"]);
    let container = Container::new(t, &mut bundle);
    let habits = [
        "--ignore", "13", "--ignore", "17", "--ignore", "1", "--ignore", "34", "--block", "10", "--block",
        "15",
    ];
    let seen = container.run_call().launched(habits).done().expect(0).json();
    let none = json!([]);
    assert_eq!(seen["signals"]["ignored"], none, "ignored");
    assert_eq!(seen["signals"]["blocked"], none, "blocked");
    assert_eq!(seen["signals"]["caught"], none, "caught");
    assert_eq!(seen["signals"]["pending"], none, "pending");
    assert_eq!(seen["signals"]["shared"], none, "shared pending");
    assert_eq!(seen["deathSignal"], 0);
    assert_eq!(seen["subreaper"], 0);
}

fn no_descriptor_leaks(t: &T) {
    let mut bundle = Bundle::new(t, &["report"]);
    let container = Container::new(t, &mut bundle);
    let leaks = ["--leak", "/", "--leak", "/etc/passwd", "--fd", "50=/", "--fd", "900=/etc"];
    let seen = container.run_call().launched(leaks).done().expect(0).json();
    let numbers: Vec<i64> =
        seen["fds"].as_array().unwrap().iter().filter_map(|fd| fd["fd"].as_i64()).collect();
    assert_eq!(numbers, [0, 1, 2], "{}", seen["fds"]);
}

fn preserved_descriptors(t: &T) {
    let (one, two) = (t.dir().join("one"), t.dir().join("two"));
    fs::write(&one, "contents of three").unwrap();
    fs::write(&two, "contents of four").unwrap();
    let leaks = [format!("3={}", one.display()), format!("4={}", two.display()), "6=/etc".to_owned()];
    let options = ["--fd", &leaks[0], "--fd", &leaks[1], "--fd", &leaks[2]];
    let mut bundle = Bundle::new(t, &["report"]);
    let container = Container::new(t, &mut bundle);
    let seen = container.run_call().args(["--preserve-fds", "2"]).launched(options).done().expect(0).json();
    let numbers: Vec<i64> =
        seen["fds"].as_array().unwrap().iter().filter_map(|fd| fd["fd"].as_i64()).collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4], "{}", seen["fds"]);
    drop(container);
    let mut bundle = Bundle::new(t, &["echo-fd", "4"]);
    let container = Container::new(t, &mut bundle);
    let done = container.run_call().args(["--preserve-fds", "2"]).launched(options).done().expect(0);
    assert_eq!(done.out, "contents of four\n");
    drop(container);
    // One more than were passed: the runtime's own file that has the next number stays its own.
    let mut bundle = Bundle::new(t, &["report"]);
    let container = Container::new(t, &mut bundle);
    let done = container.run_call().args(["--preserve-fds", "3"]).launched(&options[..4]).done();
    assert!(!done.status.success() && done.err.contains("did not pass it"), "{}{}", done.out, done.err);
}

fn listen_descriptors(t: &T) {
    t.differs("crun", "LISTEN_FDS is not set");
    let file = t.dir().join("socket");
    fs::write(&file, "the listening one").unwrap();
    let leak = format!("3={}", file.display());
    let mut bundle = Bundle::new(t, &["report"]);
    let container = Container::new(t, &mut bundle);
    let call =
        container.run_call().env("LISTEN_FDS", "1").launched(["--fd", &leak, "--env-pid", "LISTEN_PID"]);
    let seen = call.done().expect(0).json();
    let env = names(&seen["env"]);
    assert!(env.contains(&"LISTEN_FDS=1"), "{env:?}");
    assert!(env.contains(&"LISTEN_PID=1"), "{env:?}");
    let numbers: Vec<i64> =
        seen["fds"].as_array().unwrap().iter().filter_map(|fd| fd["fd"].as_i64()).collect();
    assert_eq!(numbers, [0, 1, 2, 3]);
}

fn session_keyring(t: &T) {
    let mut bundle = Bundle::new(t, &["do", r#"["find-key", "canary"]"#]);
    let container = Container::new(t, &mut bundle);
    let done =
        container.run_call().launched(["--keyring", "callers", "--key", "canary=secret"]).done().expect(0);
    assert!(done.json()[0].get("errno").is_some(), "the caller's key is out of reach: {done}");
}

fn kept_session_keyring(t: &T) {
    let mut bundle = Bundle::new(t, &["do", r#"["find-key", "canary"]"#]);
    let container = Container::new(t, &mut bundle);
    let call = container.run_call().arg("--no-new-keyring");
    let done = call.launched(["--keyring", "callers", "--key", "canary=secret"]).done().expect(0);
    assert!(done.json()[0].get("ok").is_some(), "the caller's key is found: {done}");
}

fn nothing_is_inherited(t: &T) {
    let mut bundle = Bundle::new(t, &["report"]);
    let seen = report(t, &mut bundle);
    assert_eq!(seen["dumpable"], 1, "after execve");
    assert_eq!(seen["securebits"], 0);
    assert_eq!(seen["secure"], 0);
    assert_eq!(seen["pid"], 1);
    assert_eq!(seen["ppid"], 0);
    assert_eq!(seen["personality"], 0);
    assert_eq!(seen["seccomp"]["mode"], 0, "none is configured");
}

fn missing_commands(t: &T) {
    t.differs("crun", "texts of its own");
    for (args, text) in [
        (json!(["no-such-program"]), "executable file not found in $path"),
        (json!(["/no/such/program"]), "no such file or directory"),
        (json!(["/etc/passwd"]), "permission denied"),
        (json!(["/etc"]), "directory"),
    ] {
        let mut bundle = Bundle::new(t, &[]);
        bundle.set("/process/args", args);
        let container = Container::new(t, &mut bundle);
        for call in [container.run_call(), container.create_call()] {
            let done = call.done().expect(1);
            let message = done.message().to_lowercase();
            let older = text == "directory" && message.contains("permission denied");
            assert!(message.contains(text) || older, "{done}");
            container.gone();
        }
    }
}

fn executable_is_searched(t: &T) {
    let mut bundle = Bundle::new(t, &[]);
    fs::create_dir_all(bundle.inside("/one/prog")).unwrap();
    fs::create_dir(bundle.inside("/two")).unwrap();
    fs::write(bundle.inside("/two/prog"), "not executable").unwrap();
    fs::create_dir(bundle.inside("/three")).unwrap();
    bundle::copy_program(&bundle.inside("/payload"), &bundle.inside("/three/prog"));
    bundle.set("/process/env", json!(["PATH=/nowhere:/one:/two:/three"]));
    bundle.set("/process/args", json!(["prog", "report"]));
    let seen = report(t, &mut bundle);
    assert_eq!(seen["args"], json!(["prog", "report"]), "the first word stays as it is written");
}

fn closed_standard_descriptors(t: &T) {
    t.differs("crun", "number 0 becomes the log file");
    // A caller without standard input must not make the runtime use number 0 for something of its own.
    let mut bundle = Bundle::new(t, &["report"]);
    let container = Container::new(t, &mut bundle);
    let done = container.run_call().launched(["--close", "0"]).done().expect(0);
    let fds = done.json()["fds"].as_array().unwrap().clone();
    for fd in fds {
        let target = fd["target"].as_str().unwrap().to_owned();
        let number = fd["fd"].as_i64().unwrap();
        assert!(number <= 2, "{number} {target}");
        assert!(number != 0 || target == "/dev/null" || target.starts_with("pipe:"), "{number} {target}");
    }
}

fn standard_descriptors_belong_to_the_user(t: &T) {
    t.differs("runc", "runc 1.1 leaves a file to its owner");
    use std::os::unix::fs::MetadataExt;
    let output = t.dir().join("output");
    let mut bundle = Bundle::new(t, &["do", r#"["open", "/dev/stdout", "w"]"#]);
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let container = Container::new(t, &mut bundle);
    let file = fs::OpenOptions::new().create_new(true).append(true).open(&output).unwrap();
    fs::set_permissions(&output, fs::Permissions::from_mode(0o600)).unwrap();
    container.run_call().output(file).done().expect(0);
    assert_eq!(fs::metadata(&output).unwrap().uid(), 1000, "as with runc, the user can open it again");
    let got = fs::read_to_string(&output).unwrap();
    assert!(got.contains("[{\"ok\":null}]"), "{got}");
}

fn null_stays_the_machines(t: &T) {
    use std::os::unix::fs::MetadataExt;
    t.differs("crun", "/dev/null is given to the user");
    let before = fs::metadata("/dev/null").unwrap();
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    bundle.set("/process/user", json!({"uid": 1000, "gid": 1000}));
    let container = Container::new(t, &mut bundle);
    let null = || fs::File::options().read(true).write(true).open("/dev/null").unwrap();
    container.run_call().input(null()).output(null()).errors(null()).done().expect(0);
    let after = fs::metadata("/dev/null").unwrap();
    assert_eq!((after.uid(), after.gid(), after.mode()), (before.uid(), before.gid(), before.mode()));
}
