//! Annotations that are more than words: those that engines set.
use crate::seccomp::number::TIMES;
use crate::seccomp::policy;
use coracle_tests::*;
use std::os::unix::net::UnixListener;
use std::time::Duration;

cases![
    the_callers_groups_stay,
    groups_below_a_user_namespace,
    unknown_names_of_calls,
    receiver_of_the_filter,
    receiver_of_the_pidfd,
    what_nobody_does_is_refused,
    all_others_have_no_effect,
];

const GROUPS: &str = "run.oci.keep_original_groups";

fn crun_alone(t: &T) {
    t.differs("runc", "annotations of crun");
}

fn annotated(t: &T, words: &[&str], name: &str, value: &str) -> Bundle {
    let mut bundle = Bundle::new(t, words);
    bundle.set("/annotations", json!({name: value}));
    bundle
}

fn the_callers_groups_stay(t: &T) {
    crun_alone(t);
    let launch = ["--user", "0:0,2000,2001"];
    for (value, kept) in [("1", true), ("", true), ("true", true), ("0", false)] {
        let mut bundle = annotated(t, &["report"], GROUPS, value);
        bundle.set("/process/user", json!({"uid": 1000, "gid": 1000, "additionalGids": [7]}));
        let container = Container::new(t, &mut bundle);
        let seen = container.run_call().launched(launch).done().expect(0).json();
        let expected = if kept { json!([2000, 2001]) } else { json!([7]) };
        assert_eq!(seen["groups"], expected, "{value:?}");
    }
    // A further process has the groups of who adds it.
    let mut bundle = annotated(t, &["ready"], GROUPS, "1");
    let container = Container::new(t, &mut bundle);
    container.ready();
    let call = container.call("exec").launched(["--user", "0:0,3000"]).then(["/payload", "report"]);
    assert_eq!(call.done().expect(0).json()["groups"], json!([3000]));
    container.end();
}

fn groups_below_a_user_namespace(t: &T) {
    crun_alone(t);
    t.needs(&[Need::UserNamespaces]);
    let mut bundle = annotated(t, &["report"], GROUPS, "1");
    bundle.user_namespace(100_000);
    let container = Container::new(t, &mut bundle);
    let call = container.run_call().launched(["--user", "0:0,2000,100007"]);
    // Who is not mapped is shown as nobody.
    assert_eq!(call.done().expect(0).json()["groups"], json!([65534, 7]));
}

fn unknown_names_of_calls(t: &T) {
    crun_alone(t);
    let filter =
        policy("SCMP_ACT_ALLOW", json!([{"names": ["times", "no_such_call"], "action": "SCMP_ACT_ERRNO"}]));
    for (value, refused) in [("1", true), ("0", false)] {
        let mut bundle = annotated(t, &["exit", "0"], "run.oci.seccomp_fail_unknown_syscall", value);
        bundle.set("/linux/seccomp", filter.clone());
        let container = Container::new(t, &mut bundle);
        let done = container.run_call().done().expect(i32::from(refused));
        if refused && t.ours() {
            assert_eq!(done.error()["pointer"], "/linux/seccomp/syscalls/0/names/1", "{done}");
        }
        container.gone();
    }
}

fn receiver_of_the_filter(t: &T) {
    crun_alone(t);
    t.differs("crun", "crun 1.8 sends another document");
    let filter = policy("SCMP_ACT_ALLOW", json!([{"names": ["times"], "action": "SCMP_ACT_NOTIFY"}]));
    let times = json!(["syscall", TIMES, 0]).to_string();
    for by_annotation in [true, false] {
        let path = t.dir().join(format!("agent-{by_annotation}"));
        let agent = UnixListener::bind(&path).unwrap();
        let mut bundle = Bundle::new(t, &["do", &times]);
        bundle.set("/linux/seccomp", filter.clone());
        if by_annotation {
            bundle.set("/annotations", json!({"run.oci.seccomp.receiver": path}));
        }
        let container = Container::new(t, &mut bundle);
        let call = container.run_call();
        let call = if by_annotation { call } else { call.env("RUN_OCI_SECCOMP_RECEIVER", &path) };
        let running = call.start();
        assert!(runtime::wait_readable(&agent, Duration::from_secs(10)), "nobody connects");
        let (stream, _) = agent.accept().unwrap();
        let (_, fds) = terminal::receive(&stream);
        assert_eq!(fds.len(), 1);
        drop(fds);
        assert_eq!(running.done().expect(0).json()[0]["error"], "ENOSYS");
    }
    // The configuration's own wins, and a relative path is none.
    let mut bundle = annotated(t, &["exit", "0"], "run.oci.seccomp.receiver", "relative");
    bundle.set("/linux/seccomp", filter);
    let container = Container::new(t, &mut bundle);
    let done = container.run_call().done().expect(1);
    assert!(done.error().to_string().contains("run.oci.seccomp.receiver"), "{done}");
}

fn receiver_of_the_pidfd(t: &T) {
    crun_alone(t);
    let path = t.dir().join("receiver");
    let receiver = UnixListener::bind(&path).unwrap();
    let mut bundle = annotated(t, &["ready"], "run.oci.pidfd_receiver", path.to_str().unwrap());
    let container = Container::new(t, &mut bundle);
    let running = container.create_call().start();
    let (stream, _) = receiver.accept().unwrap();
    let (_, fds) = terminal::receive(&stream);
    running.done().expect(0);
    let info =
        std::fs::read_to_string(format!("/proc/self/fdinfo/{}", std::os::fd::AsRawFd::as_raw_fd(&fds[0])));
    let pid = container.pid();
    assert!(info.unwrap().contains(&format!("Pid:\t{pid}\n")));
    container.call("delete").arg("--force").ok();
    drop(receiver);
    // Nobody listens: the caller would not learn of the container, so there is none.
    let done = container.create_call().done().expect(1);
    if t.ours() {
        assert_eq!(done.error()["pointer"], "/annotations/run.oci.pidfd_receiver", "{done}");
    }
    container.call("delete").arg("--force").ok();
    container.gone();
}

fn what_nobody_does_is_refused(t: &T) {
    crun_alone(t);
    t.differs("crun", "does some of it");
    for (name, value) in [
        ("run.oci.handler", "krun"),
        ("run.oci.handler", "wasm"),
        ("run.oci.seccomp.plugins", "/lib/x.so"),
        ("run.oci.seccomp_bpf_data", "AAAA"),
        ("run.oci.delegate-cgroup", "sub"),
        ("run.oci.systemd.force_cgroup_v1", "/sys/fs/cgroup/systemd"),
        ("run.oci.mount_context_type", "nocontext"),
    ] {
        let mut bundle = annotated(t, &["exit", "0"], name, value);
        let container = Container::new(t, &mut bundle);
        let error = container.run_call().done().expect(1).error();
        assert_eq!(error["pointer"], format!("/annotations/{name}"), "{error}");
        container.gone();
    }
}

fn all_others_have_no_effect(t: &T) {
    t.differs("crun", "it opens the files for hooks");
    let file = t.dir().join("output");
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    bundle.set(
        "/annotations",
        json!({
            "run.oci.systemd.subgroup": "", "run.oci.handler": "", "run.oci.hooks.stdout": file,
            "run.oci.hooks.stderr": file, "org.criu.config": "/nowhere", "krun.cpus": "2",
            "io.podman.annotations.autoremove": "FALSE", "module.wasm.image/variant": "compat-smart",
            "run.oci.no_such_thing": "1",
        }),
    );
    let container = Container::new(t, &mut bundle);
    container.run_call().done().expect(0);
    assert!(!file.exists());
    container.gone();
}
