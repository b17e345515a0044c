//! Exit codes and outputs of the commands.
use super::{Findings, Listed, compare};
use coracle_tests::*;

cases![exit_codes, errors, state_keys, lists, life_by_hand];

const CODES: &[Listed] = &[Listed {
    peer: "crun",
    name: "exec missing",
    reason: "it leaves a process behind, so it is not tried",
}];

fn exit_codes(t: &T) {
    compare(t, CODES, |t| {
        let mut found = Findings::new();
        for words in [
            &["exit", "0"][..],
            &["exit", "1"],
            &["exit", "77"],
            &["exit", "126"],
            &["exit", "127"],
            &["exit", "255"],
            &["crash"],
        ] {
            let mut bundle = Bundle::new(t, words);
            let done = Container::new(t, &mut bundle).run();
            found.insert(format!("run {words:?}"), json!([done.code(), done.out, done.err]));
        }
        for signal in ["1", "2", "9", "15", "34"] {
            let mut bundle = Bundle::new(t, &["kill-self", signal]);
            bundle.without_namespace("pid");
            found.insert(format!("run signal {signal}"), json!(Container::new(t, &mut bundle).run().code()));
        }
        let mut bundle = Bundle::new(t, &["ready"]);
        let container = Container::new(t, &mut bundle);
        container.ready();
        for words in [
            &["/payload", "exit", "0"][..],
            &["/payload", "exit", "200"],
            &["/payload", "kill-self", "9"],
            &["/payload", "kill-self", "15"],
        ] {
            let done = container.exec(words);
            found.insert(format!("exec {words:?}"), json!([done.code(), done.out, done.err]));
        }
        if t.runtime.kind != Kind::Crun {
            found.insert("exec missing".into(), json!(container.exec(&["/no/such"]).code()));
        }
        container.end();
        for args in [json!(["/no/such"]), json!(["no-such"]), json!(["/etc/passwd"])] {
            let mut bundle = Bundle::new(t, &[]);
            bundle.set("/process/args", args.clone());
            let container = Container::new(t, &mut bundle);
            found.insert(format!("run {args}"), json!(container.run().code()));
            found.insert(format!("create {args}"), json!(container.create_call().done().code()));
        }
        found
    });
}

const ERRORS: &[Listed] = &[
    Listed { peer: "crun", name: "exec missing", reason: "1 in some versions" },
    Listed { peer: "crun", name: "exec stopped", reason: "1 in some versions" },
    Listed { peer: "crun", name: "ps missing", reason: "253" },
    Listed { peer: "crun", name: "resume running", reason: "a running container can be resumed" },
    Listed { peer: "crun", name: "kill nonsense", reason: "unknown names are taken as 0" },
    Listed { peer: "crun", name: "usage", reason: "64 for a wrong flag" },
    Listed { peer: "runc", name: "usage", reason: "help on standard output" },
];

fn errors(t: &T) {
    compare(t, ERRORS, |t| {
        let mut found = Findings::new();
        let mut note = |name: &str, done: &Done| {
            found.insert(name.to_owned(), json!([done.code(), done.out.is_empty(), done.err.is_empty()]));
        };
        let mut bundle = Bundle::new(t, &["ready"]);
        let container = Container::new(t, &mut bundle);
        for command in ["state", "start", "kill", "delete", "pause", "resume", "ps"] {
            note(&format!("{command} missing"), &container.call(command).done());
        }
        note("exec missing", &container.exec(&["/payload"]));
        note("delete --force missing", &container.call("delete").arg("--force").done());
        note("usage", &container.call("state").arg("--no-such-flag").done());
        container.ready();
        note("start running", &container.call("start").done());
        note("delete running", &container.call("delete").done());
        note("create twice", &container.create_call().done());
        note("run twice", &container.run_call().done());
        note("resume running", &container.call("resume").done());
        note("kill nonsense", &container.call("kill").then(["NONSENSE"]).done());
        container.kill("KILL").wait();
        note("kill stopped", &container.call("kill").done());
        note("start stopped", &container.call("start").done());
        note("pause stopped", &container.call("pause").done());
        note("exec stopped", &container.exec(&["/payload", "exit", "0"]));
        note("delete stopped", &container.call("delete").done());
        found
    });
}

const STATE: &[Listed] = &[
    Listed { peer: "crun", name: "created rootfs", reason: "printed as configured" },
    Listed { peer: "crun", name: "running rootfs", reason: "printed as configured" },
    Listed { peer: "crun", name: "stopped rootfs", reason: "printed as configured" },
    Listed { peer: "*", name: "created ociVersion", reason: "each its own" },
    Listed { peer: "*", name: "running ociVersion", reason: "each its own" },
    Listed { peer: "*", name: "stopped ociVersion", reason: "each its own" },
    Listed { peer: "crun", name: "created annotations", reason: "absent" },
    Listed { peer: "crun", name: "created owner", reason: "a name, as in lists" },
    Listed { peer: "crun", name: "created systemd-scope", reason: "a key of its own" },
    Listed { peer: "crun", name: "running annotations", reason: "absent" },
    Listed { peer: "crun", name: "running owner", reason: "a name, as in lists" },
    Listed { peer: "crun", name: "running systemd-scope", reason: "a key of its own" },
    Listed { peer: "crun", name: "stopped annotations", reason: "absent" },
    Listed { peer: "crun", name: "stopped owner", reason: "a name, as in lists" },
    Listed { peer: "crun", name: "stopped systemd-scope", reason: "a key of its own" },
];

fn state_keys(t: &T) {
    compare(t, STATE, |t| {
        let mut found = Findings::new();
        let mut bundle = Bundle::new(t, &["ready"]);
        bundle.set("/annotations", json!({"a": "b"}));
        let container = Container::new(t, &mut bundle);
        let mut note = |step: &str| {
            for (key, value) in container.state().as_object().unwrap() {
                let plain = match key.as_str() {
                    "id" => json!(value == &json!(container.id)),
                    "bundle" => json!(value == &json!(container.bundle.dir)),
                    "rootfs" => json!(value == &json!(container.bundle.rootfs())),
                    "pid" => json!(value.as_i64().map(|pid| pid > 0)),
                    "created" => json!(runtime::is_time(value.as_str().unwrap_or(""))),
                    _ => value.clone(),
                };
                found.insert(format!("{step} {key}"), plain);
            }
        };
        container.create();
        note("created");
        container.start().until("ready");
        note("running");
        container.kill("KILL").wait();
        note("stopped");
        container.delete();
        found
    });
}

const LISTS: &[Listed] = &[
    Listed { peer: "crun", name: "list", reason: "other fields" },
    Listed { peer: "crun", name: "ps", reason: "its own table" },
    Listed { peer: "runc", name: "list ociVersion", reason: "each its own" },
    Listed { peer: "*", name: "list empty", reason: "null or an empty list" },
];

fn lists(t: &T) {
    compare(t, LISTS, |t| {
        let mut found = Findings::new();
        let mut bundle = Bundle::new(t, &["ready"]);
        let container = Container::new(t, &mut bundle);
        found.insert("list empty".into(), container.bare("list").args(["-f", "json"]).ok().json());
        container.ready();
        let list = container.bare("list").args(["--format", "json"]).ok().json();
        let keys: Vec<&String> = list[0].as_object().unwrap().keys().collect();
        let mut keys: Vec<String> = keys.into_iter().cloned().collect();
        keys.sort();
        found.insert("list keys".into(), json!(keys));
        found.insert("list owner".into(), list[0]["owner"].clone());
        let table = container.bare("list").ok().out;
        let heads: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
        found.insert("list heads".into(), json!(heads));
        found.insert(
            "list quiet".into(),
            json!(container.bare("list").arg("-q").ok().out == format!("{}\n", container.id)),
        );
        let pids = container.call("ps").args(["--format", "json"]).ok().json();
        found.insert("pids".into(), json!(pids == json!([container.pid()])));
        let table = container.call("ps").ok().out;
        let heads: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
        found.insert("ps heads".into(), json!(heads));
        container.end();
        found
    });
}

const LIFE: &[Listed] = &[];

fn life_by_hand(t: &T) {
    compare(t, LIFE, |t| {
        let mut found = Findings::new();
        let mut bundle = Bundle::new(t, &["wait-signals", "10", "15"]);
        let container = Container::new(t, &mut bundle);
        let pid_file = t.dir().join("pid");
        container.create_with(container.create_call().arg("--pid-file").arg(&pid_file));
        let text = std::fs::read_to_string(&pid_file).unwrap();
        found.insert("pid file".into(), json!(text == container.pid().to_string()));
        container.start().until("ready");
        container.kill("USR1");
        container.until("signal 10");
        container.call("pause").ok();
        found.insert("paused".into(), json!(container.status()));
        container.call("resume").ok();
        found.insert("resumed".into(), json!(container.status()));
        container.kill("15");
        found.insert("code".into(), json!(container.wait()));
        found.insert("output".into(), json!(container.printed()));
        container.delete();
        found
    });
}
