//! The process: its program, directory, environment, terminal; what happens when it is not there.
use crate::rule::*;
use coracle_tests::*;
use std::fs;

pub const RULES: &[Rule] = &[
    holds("no_process", "runtime.md#start", "without a process start MUST be an error", &[], |t| {
        let mut bundle = fresh(t, &[]);
        bundle.remove("/process");
        let container = Container::new(t, &mut bundle);
        // A runtime may see it sooner.
        if container.create_call().done().code() == 0 {
            container.pid();
            assert_ne!(container.call("start").done().code(), 0, "it starts nothing");
        } else {
            container.gone();
        }
    }),
    sees(
        "arguments",
        "config.md#process",
        "args is the program's argv (MUST be run as specified)",
        &["/process/args"],
        |bundle| {
            bundle.set("/process/args", json!(["/payload", "report", "--sysctl", "no such", "--sysctl", ""]))
        },
        |seen| assert_eq!(seen["args"], json!(["/payload", "report", "--sysctl", "no such", "--sysctl", ""])),
    ),
    refused(
        "no_arguments",
        "config.md#process",
        "at least one entry of args is REQUIRED",
        &["/process/args"],
        |bundle| bundle.set("/process/args", json!([])),
    ),
    refused(
        "absent_arguments",
        "config.md#process",
        "at least one entry of args is REQUIRED",
        &[],
        |bundle| bundle.remove("/process/args"),
    ),
    sees(
        "program_found_on_the_path",
        "config.md#process",
        "the first entry is found as execvp does, by PATH of the process (MUST be run as specified)",
        &["/process/args", "/process/env"],
        |bundle| {
            fs::create_dir_all(bundle.inside("/opt/bin")).unwrap();
            fs::rename(bundle.inside("/payload"), bundle.inside("/opt/bin/tool")).unwrap();
            bundle.set("/process/env", json!(["PATH=/nowhere:/opt/bin"]));
            bundle.set("/process/args", json!(["tool", "report"]))
        },
        |seen| assert_eq!(seen["args"][0], "tool"),
    ),
    sees(
        "program_relative_to_the_directory",
        "config.md#process",
        "a name with a slash is taken from the working directory, as execvp does (MUST be run as specified)",
        &["/process/args", "/process/cwd"],
        |bundle| {
            fs::create_dir_all(bundle.inside("/opt/bin")).unwrap();
            fs::rename(bundle.inside("/payload"), bundle.inside("/opt/bin/tool")).unwrap();
            bundle.set("/process/cwd", json!("/opt")).set("/process/args", json!(["bin/tool", "report"]))
        },
        |seen| assert_eq!(seen["args"][0], "bin/tool"),
    ),
    holds(
        "program_that_is_not_there",
        "runtime.md#start",
        "a program that cannot be run MUST be an error",
        &["/process/args"],
        |t| {
            let mut bundle = fresh(t, &[]);
            bundle.set("/process/args", json!(["/missing"]));
            let container = Container::new(t, &mut bundle);
            // By create or by start; the container that was created can be deleted.
            if container.create_call().done().code() == 0 {
                container.pid();
                assert_ne!(container.call("start").done().code(), 0, "start succeeds");
                container.call("delete").arg("--force").done().expect(0);
            }
        },
    ),
    sees(
        "environment",
        "config.md#process",
        "the environment is what env lists (MUST be applied)",
        &["/process/env"],
        |bundle| {
            bundle.set(
                "/process/env",
                json!(["PATH=/bin", "A=1", "HOME=/x", "EMPTY=", "TEXT=with = and \u{e9}"]),
            )
        },
        |seen| {
            let mut env: Vec<&str> =
                seen["env"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
            env.sort_unstable();
            assert_eq!(env, ["A=1", "EMPTY=", "HOME=/x", "PATH=/bin", "TEXT=with = and \u{e9}"]);
        },
    ),
    sees(
        "working_directory",
        "config.md#process",
        "cwd is the program's working directory (MUST be applied)",
        &["/process/cwd"],
        |bundle| bundle.set("/process/cwd", json!("/etc")),
        |seen| assert_eq!(seen["cwd"], "/etc"),
    ),
    refused(
        "relative_working_directory",
        "config.md#process",
        "cwd MUST be an absolute path",
        &["/process/cwd"],
        |bundle| bundle.set("/process/cwd", json!("etc")),
    ),
    refused("no_working_directory", "config.md#process", "cwd is REQUIRED", &[], |bundle| {
        bundle.remove("/process/cwd")
    }),
    refused(
        "working_directory_that_is_a_file",
        "runtime.md#create",
        "what cannot be applied MUST be an error",
        &["/process/cwd"],
        |bundle| bundle.set("/process/cwd", json!("/etc/passwd")),
    ),
    holds(
        "terminal",
        "config.md#process",
        "with terminal the standard streams are a pseudoterminal (MUST be applied)",
        &["/process/terminal", "/process/consoleSize/height", "/process/consoleSize/width"],
        |t| {
            let socket = terminal::ConsoleSocket::new(t.dir().join("console"));
            let mut bundle = fresh(t, &["report"]);
            bundle.set("/process/terminal", json!(true));
            bundle.set("/process/consoleSize", json!({"height": 25, "width": 80}));
            let container = Container::new(t, &mut bundle);
            let call = container.create_call().arg("--console-socket").arg(&socket.path);
            container.create_with(call);
            let (master, _) = socket.master();
            let size = rustix::termios::tcgetwinsize(&master).unwrap();
            let reader = terminal::Reader::new(&master);
            container.start();
            container.wait();
            let text = String::from_utf8(reader.end()).unwrap();
            let seen: Value = serde_json::from_str(text.trim()).unwrap();
            for fd in seen["fds"].as_array().unwrap().iter().take(3) {
                let target = fd["target"].as_str().unwrap();
                assert!(target == "/dev/console" || target.starts_with("/dev/pts/"), "{fd}");
            }
            // The size can be set as late as the start, by a signal to nobody else: the master shows it.
            let size = if size.ws_row == 0 { rustix::termios::tcgetwinsize(&master).unwrap() } else { size };
            assert_eq!((size.ws_row, size.ws_col), (25, 80));
        },
    ),
    sees(
        "size_without_a_terminal",
        "config.md#process",
        "consoleSize MUST be ignored without a terminal",
        &["/process/consoleSize/height", "/process/consoleSize/width"],
        |bundle| bundle.set("/process/consoleSize", json!({"height": 25, "width": 80})),
        |seen| assert!(!seen["fds"].to_string().contains("/dev/pts/"), "{}", seen["fds"]),
    ),
    holds(
        "no_other_descriptors",
        "runtime-linux.md#file-descriptors",
        "only the standard streams are open, unless more are asked for (SHOULD: by default)",
        &[],
        |t| {
            let mut bundle = fresh(t, &["report"]);
            let container = Container::new(t, &mut bundle);
            let seen = container.run().expect(0).json();
            let open: Vec<i64> =
                seen["fds"].as_array().unwrap().iter().map(|fd| fd["fd"].as_i64().unwrap()).collect();
            assert_eq!(open, [0, 1, 2], "{}", seen["fds"]);
        },
    ),
    holds(
        "oom_score",
        "config.md#linux-process",
        "oom_score_adj MUST be set to the given value",
        &["/process/oomScoreAdj"],
        |t| {
            for value in [0, 100, 1000] {
                let mut bundle = fresh(t, &["report"]);
                bundle.set("/process/oomScoreAdj", json!(value));
                assert_eq!(report(t, &mut bundle)["oomScoreAdj"], value);
            }
        },
    ),
    holds(
        "oom_score_that_is_not_asked_for",
        "config.md#linux-process",
        "without oomScoreAdj the value MUST NOT be changed",
        &[],
        |t| {
            let own = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
            let mut bundle = fresh(t, &["report"]);
            assert_eq!(report(t, &mut bundle)["oomScoreAdj"].to_string(), own.trim());
        },
    ),
    refused(
        "oom_score_out_of_range",
        "config.md#valid-values",
        "an invalid value MUST be an error",
        &["/process/oomScoreAdj"],
        |bundle| bundle.set("/process/oomScoreAdj", json!(1001)),
    ),
    sees(
        "no_new_privileges",
        "config.md#linux-process",
        "noNewPrivileges keeps the process from gaining privileges (MUST be applied)",
        &["/process/noNewPrivileges"],
        |bundle| bundle.set("/process/noNewPrivileges", json!(true)),
        |seen| assert_eq!(seen["noNewPrivs"], true),
    ),
    sees(
        "new_privileges",
        "config.md#linux-process",
        "without noNewPrivileges nothing of that kind is done (MUST be applied)",
        &["/process/noNewPrivileges"],
        |bundle| bundle.set("/process/noNewPrivileges", json!(false)),
        |seen| assert_eq!(seen["noNewPrivs"], false),
    ),
    refused(
        "apparmor_where_there_is_none",
        "runtime.md#create",
        "a profile that cannot be applied MUST be an error",
        &["/process/apparmorProfile"],
        |bundle| bundle.set("/process/apparmorProfile", json!("no-such-profile-anywhere")),
    ),
    holds(
        "selinux_where_there_is_none",
        "runtime.md#create",
        "a label that cannot be applied MUST be an error",
        &["/process/selinuxLabel"],
        |t| {
            if std::path::Path::new("/sys/fs/selinux/enforce").exists() {
                t.skip("SELinux is enabled");
            }
            let mut bundle = fresh(t, &[]);
            bundle.set("/process/selinuxLabel", json!("system_u:system_r:svirt_lxc_net_t:s0:c124,c675"));
            is_refused(t, &mut bundle);
        },
    ),
];
