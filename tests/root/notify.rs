//! Filters with a listener: who gets it, when, with what, and what becomes of the calls.
use crate::seccomp::number::TIMES;
use crate::seccomp::{errno, policy};
use coracle_tests::agent::Agent;
use coracle_tests::*;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

cases![
    handed_over,
    before_the_start,
    by_every_kind_of_process,
    taken_where_it_cannot_be_sent,
    of_an_added_process,
    without_words,
    at_the_end_of_a_long_path,
    nobody_listens,
    the_program_itself,
    while_the_program_is_waited_for,
    what_the_runtime_needs,
    under_the_filter_of_another_process,
];

fn peers(t: &T) {
    t.differs("crun", "crun 1.8 sends another document and keeps the connection open");
    t.differs("runc", "runc 1.1 knows none of the newer cases");
}

fn notify(names: &[&str]) -> Value {
    policy("SCMP_ACT_ALLOW", json!([{"names": names, "action": "SCMP_ACT_NOTIFY"}]))
}

fn notifying(t: &T, agent: &Agent, words: &[&str], names: &[&str]) -> Bundle {
    let mut bundle = Bundle::new(t, words);
    bundle.set("/linux/seccomp", notify(names));
    bundle.set("/linux/seccomp/listenerPath", json!(agent.path));
    bundle.set("/linux/seccomp/listenerMetadata", json!("for the agent"));
    bundle
}

fn times() -> String {
    json!(["syscall", TIMES, 0]).to_string()
}

fn handed_over(t: &T) {
    t.differs("crun", "crun 1.8 sends another document and keeps the connection open");
    let agent = Agent::new(t);
    let mut bundle = notifying(t, &agent, &["do", &times(), &json!(["statfs", "/"]).to_string()], &["times"]);
    bundle.set("/annotations", json!({"org.example.a": "b", "org.example.long": "x".repeat(300_000)}));
    let container = Container::new(t, &mut bundle);
    let running = container.run_call().start();
    let (state, fds) = agent.take();
    assert_eq!(fds.len(), 1, "one descriptor");
    assert_eq!(state["fds"], json!(["seccompFd"]));
    assert_eq!(state["metadata"], "for the agent");
    assert!(state["ociVersion"].as_str().unwrap().starts_with("1."), "{state}");
    let pid = state["pid"].as_i64().unwrap();
    assert!(pid > 1);
    let own = &state["state"];
    assert_eq!((&own["id"], &own["status"]), (&json!(container.id), &json!("creating")));
    assert_eq!(own["pid"], json!(pid), "it is the container's own process");
    assert_eq!(own["bundle"], json!(container.bundle.dir));
    assert_eq!(own["annotations"]["org.example.a"], "b");
    // Nobody else has a copy: closed here, the call has nobody to answer it.
    drop(fds);
    let got = running.done().expect(0).json();
    assert_eq!(errno(&got[0]), Some(38), "{got}");
    assert!(got[1].get("ok").is_some(), "{got}");
    assert!(!runtime::wait_readable(&agent.socket, Duration::from_millis(50)), "once");
}

fn before_the_start(t: &T) {
    peers(t);
    let agent = Agent::new(t);
    let mut bundle = notifying(t, &agent, &["do", &times()], &["times"]);
    let container = Container::new(t, &mut bundle);
    container.create();
    // It is there before `create` ends, and is served while the container waits.
    let (state, fds) = agent.take();
    assert_eq!(state["pid"], json!(container.pid()));
    assert_eq!(fds.len(), 1);
    assert_eq!(container.status(), "created");
    drop(fds);
    container.start();
    container.until("error");
    assert_eq!(errno(&serde_json::from_str::<Value>(container.printed().trim()).unwrap()[0]), Some(38));
}

fn by_every_kind_of_process(t: &T) {
    peers(t);
    for (privileges, user) in [(true, 0), (true, 1000), (false, 0), (false, 1000)] {
        for flags in [
            json!([]),
            json!(["SECCOMP_FILTER_FLAG_TSYNC"]),
            json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]),
        ] {
            let killable = flags[0].as_str().is_some_and(|flag| flag.contains("KILLABLE"));
            if killable && Need::Kernel(5, 19).missing().is_some() {
                continue;
            }
            let agent = Agent::new(t);
            let mut bundle = notifying(t, &agent, &["do", &times()], &["times"]);
            bundle
                .set("/process/noNewPrivileges", json!(privileges))
                .set("/linux/seccomp/flags", flags.clone());
            bundle.set("/process/user", json!({"uid": user, "gid": 0}));
            let container = Container::new(t, &mut bundle);
            let running = container.run_call().start();
            drop(agent.take());
            let got = running.done().expect(0).json();
            assert_eq!(errno(&got[0]), Some(38), "{privileges} {user} {flags}");
            fs::remove_file(&agent.path).unwrap();
        }
    }
}

/// The record is finished, but the program is not executed yet: nobody may enter the container.
fn while_the_program_is_waited_for(t: &T) {
    t.differs("crun", "crun 1.8 sends another document and keeps the connection open");
    t.differs("runc", "it is running for runc");
    let agent = Agent::new(t);
    let mut bundle = notifying(t, &agent, &["exit", "0"], &["execve"]);
    let container = Container::new(t, &mut bundle);
    let running = container.run_call().start();
    let (_, fds) = agent.take();
    // The call that it is asked about.
    assert!(runtime::wait_readable(&fds[0], Duration::from_secs(10)));
    assert_eq!(container.status(), "creating");
    let refused = container.call("exec").then(["/payload", "exit", "0"]).done().expect(255).message();
    assert!(refused.contains("not running"), "{refused}");
    drop(fds);
    running.done().expect(1);
    container.gone();
}

fn taken_where_it_cannot_be_sent(t: &T) {
    peers(t);
    t.needs(&[Need::Capability(19, "CAP_SYS_PTRACE")]);
    let agent = Agent::new(t);
    for privileges in [true, false] {
        let mut bundle = notifying(t, &agent, &["do", &times()], &["times", "sendmsg"]);
        bundle.set("/process/noNewPrivileges", json!(privileges));
        let container = Container::new(t, &mut bundle);
        let running = container.run_call().start();
        let (state, fds) = agent.take();
        assert_eq!((fds.len(), &state["fds"]), (1, &json!(["seccompFd"])));
        drop(fds);
        assert_eq!(errno(&running.done().expect(0).json()[0]), Some(38));
    }
}

fn of_an_added_process(t: &T) {
    peers(t);
    let agent = Agent::new(t);
    let mut bundle = notifying(t, &agent, &["ready"], &["times"]);
    let container = Container::new(t, &mut bundle);
    container.up();
    let (first, held) = agent.take();
    container.until("ready");
    for file in [false, true] {
        let mut call = container.call("exec");
        if file {
            let process = json!({"user": {"uid": 5, "gid": 5}, "args": ["/payload", "do", times()], "cwd": "/",
                                 "oomScoreAdj": 500, "noNewPrivileges": false});
            fs::write(t.dir().join("added.json"), process.to_string()).unwrap();
            call = call.arg("--process").arg(t.dir().join("added.json"));
        } else {
            call = call.then(["/payload", "do", &times()]);
        }
        let running = call.start();
        let (state, fds) = agent.take();
        assert_eq!(fds.len(), 1, "a listener of its own");
        assert_eq!(state["state"]["status"], "running");
        assert_eq!(state["state"]["pid"], first["pid"]);
        assert_eq!(state["state"]["pid"], json!(container.pid()));
        assert_ne!(state["pid"], first["pid"]);
        assert_eq!(state["metadata"], "for the agent");
        drop(fds);
        assert_eq!(errno(&running.done().expect(0).json()[0]), Some(38));
    }
    drop(held);
    // Without its agent nothing more is added.
    agent.end();
    let error = container.exec(&["/payload", "exit", "0"]).error();
    assert_eq!(error["pointer"], "/linux/seccomp/listenerPath", "{error}");
    container.end();
}

fn without_words(t: &T) {
    peers(t);
    let agent = Agent::new(t);
    let mut bundle = notifying(t, &agent, &["exit", "0"], &["times"]);
    bundle.remove("/linux/seccomp/listenerMetadata");
    let container = Container::new(t, &mut bundle);
    let running = container.run_call().start();
    let (state, _fds) = agent.take();
    assert!(state.get("metadata").is_none(), "{state}");
    running.done().expect(0);
}

fn at_the_end_of_a_long_path(t: &T) {
    peers(t);
    let mut agent = Agent::new(t);
    let deep = t.dir().join("d".repeat(100)).join("e".repeat(100));
    fs::create_dir_all(&deep).unwrap();
    fs::rename(&agent.path, deep.join("agent")).unwrap();
    agent.path = deep.join("agent");
    let mut bundle = notifying(t, &agent, &["exit", "0"], &["times"]);
    let container = Container::new(t, &mut bundle);
    let running = container.run_call().start();
    assert_eq!(agent.take().1.len(), 1);
    running.done().expect(0);
}

fn nobody_listens(t: &T) {
    peers(t);
    let agent = Agent::new(t);
    let mut bundle = notifying(t, &agent, &["exit", "0"], &["times"]);
    let check = |name: &str, bundle: &mut Bundle| {
        let container = Container::new(t, bundle);
        for call in [container.create_call(), container.run_call()] {
            let error = call.done().error();
            assert_eq!(error["pointer"], "/linux/seccomp/listenerPath", "{error}");
            assert_eq!(
                (&error["code"], &error["errno"]),
                (&json!("seccomp-listener"), &json!(name)),
                "{error}"
            );
            container.gone();
        }
    };
    agent.end();
    check("ECONNREFUSED", &mut bundle);
    let path = t.dir().join("agent");
    fs::remove_file(&path).unwrap();
    check("ENOENT", &mut bundle);
    let _other = UnixDatagram::bind(&path).unwrap();
    check("EPROTOTYPE", &mut bundle);
}

fn the_program_itself(t: &T) {
    peers(t);
    // The agent may be asked about the program, too: here it is not there for it.
    let agent = Agent::new(t);
    let mut bundle = notifying(t, &agent, &["exit", "0"], &["execve"]);
    let container = Container::new(t, &mut bundle);
    let running = container.run_call().start();
    drop(agent.take());
    let error = running.done().error();
    assert_eq!(error["errno"], "ENOSYS", "{error}");
    container.gone();
}

fn what_the_runtime_needs(t: &T) {
    peers(t);
    let agent = Agent::new(t);
    for (names, privileges, call) in [
        (&["times", "recvmsg"][..], true, "recvmsg"),
        (&["times", "close_range"], true, "close_range"),
        (&["times", "capset"], false, "capset"),
    ] {
        let mut bundle = notifying(t, &agent, &["exit", "0"], names);
        bundle.set("/process/noNewPrivileges", json!(privileges));
        let container = Container::new(t, &mut bundle);
        let error = container.create_call().done().error();
        assert_eq!(
            (&error["code"], &error["pointer"]),
            (&json!("seccomp-locks-init"), &json!("/linux/seccomp/syscalls/0"))
        );
        assert!(error["msg"].as_str().unwrap().contains(&format!("does not allow {call},")), "{error}");
        container.gone();
    }
    assert!(!runtime::wait_readable(&agent.socket, Duration::from_millis(50)), "nothing was begun");
}

/// A container whose own process could live under the filter, in the host's pid namespace: there an added process waits for its parent.
fn filtered<'t>(t: &'t T, bundle: &'t mut Bundle, denied: &[&str]) -> Container<'t> {
    let rules = json!([{"names": denied, "action": "SCMP_ACT_ERRNO", "errnoRet": 99}]);
    bundle
        .set("/linux/seccomp", policy("SCMP_ACT_ALLOW", rules))
        .set("/process/noNewPrivileges", json!(true));
    bundle.without_namespace("pid");
    let container = Container::new(t, bundle);
    container.ready();
    container
}

fn add(t: &T, container: &Container<'_>, extra: Value) -> Done {
    let mut process = json!({"user": {"uid": 0, "gid": 0}, "args": ["/payload", "report"], "cwd": "/"});
    process.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let file = t.dir().join("added.json");
    fs::write(&file, process.to_string()).unwrap();
    container.call("exec").arg("--process").arg(&file).done()
}

/// An added process may have other things to do under the container's filter than its first one had.
fn under_the_filter_of_another_process(t: &T) {
    peers(t);
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = filtered(t, &mut bundle, &["capset", "recvmsg"]);
    let seen = add(t, &container, json!({"noNewPrivileges": true, "oomScoreAdj": 321})).expect(0).json();
    assert_eq!(
        (&seen["seccomp"]["mode"], &seen["oomScoreAdj"]),
        (&json!(2), &json!(321)),
        "loaded behind the wait"
    );
    let error = add(t, &container, json!({"noNewPrivileges": false})).error();
    assert_eq!(
        (&error["code"], &error["pointer"]),
        (&json!("seccomp-locks-init"), &json!("/noNewPrivileges"))
    );
    assert!(error["msg"].as_str().unwrap().contains("capset"), "{error}");
    container.end();
    // What only waiting takes is named with what is waited for.
    let mut bundle = Bundle::new(t, &["ready"]);
    let container = filtered(t, &mut bundle, &["recvmsg"]);
    add(t, &container, json!({"noNewPrivileges": false})).expect(0);
    let error = add(t, &container, json!({"noNewPrivileges": false, "oomScoreAdj": 321})).error();
    assert_eq!((&error["code"], &error["pointer"]), (&json!("seccomp-locks-init"), &json!("/oomScoreAdj")));
    assert!(error["msg"].as_str().unwrap().contains("recvmsg"), "{error}");
    container.end();
}
