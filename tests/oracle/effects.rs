//! What the process sees, with the same configuration.
use super::{Findings, Listed, compare};
use coracle_tests::*;

cases![
    default_configuration,
    ordinary_user,
    user_namespace,
    read_only_root,
    few_namespaces,
    exec,
    exec_as_user,
    filtered,
    devices
];

const OF_THE_MOMENT: &[Listed] = &[
    Listed { peer: "*", name: "pid", reason: "the host's numbers" },
    Listed { peer: "*", name: "ppid", reason: "the host's numbers" },
];

/// What crun does not take over from the container for a further process.
const EXEC: &[Listed] = &[
    Listed { peer: "crun", name: "group leader", reason: "it stays in the caller's session" },
    Listed { peer: "crun", name: "session leader", reason: "it stays in the caller's session" },
    Listed { peer: "crun", name: "limit", reason: "the caller's" },
    Listed { peer: "crun", name: "noNewPrivs", reason: "not set" },
];

/// Differences of the process's sight that are meant to be.
const SIGHT: &[Listed] = &[
    Listed { peer: "*", name: "signals", reason: "ignored ones that they do not know stay ignored" },
    Listed { peer: "crun", name: "path /dev/null", reason: "it is given to the user" },
    Listed { peer: "crun", name: "env", reason: "additions of its own" },
    Listed { peer: "*", name: "mount / propagation", reason: "of the root's parent" },
    Listed { peer: "*", name: "mount /proc/acpi options", reason: "our masks carry more flags" },
    Listed { peer: "*", name: "mount /sys/firmware", reason: "our masks carry more flags" },
    Listed {
        peer: "*",
        name: "mount /proc/keys",
        reason: "our masks come from the host's null, with more flags",
    },
    Listed {
        peer: "*",
        name: "mount /proc/timer_list",
        reason: "our masks come from the host's null, with more flags",
    },
    Listed { peer: "*", name: "path /dev/core", reason: "others make it only where /proc/kcore exists" },
];

/// A report as names and values that do not differ from run to run.
fn sight(seen: &Value) -> Findings {
    let mut found = Findings::new();
    for key in [
        "uid",
        "gid",
        "groups",
        "umask",
        "caps",
        "noNewPrivs",
        "seccomp",
        "dumpable",
        "securebits",
        "deathSignal",
        "subreaper",
        "signals",
        "secure",
        "pid",
        "ppid",
        "cwd",
        "args",
        "oomScoreAdj",
        "scheduler",
        "ioPriority",
        "personality",
        "hostname",
        "domainname",
        "uidMap",
        "gidMap",
        "setgroups",
        "interfaces",
        "affinity",
    ] {
        found.insert(key.to_owned(), seen[key].clone());
    }
    let mut env: Vec<&str> = seen["env"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    env.sort_unstable();
    found.insert("env".into(), json!(env));
    for (name, limit) in seen["rlimits"].as_object().unwrap() {
        found.insert(format!("limit {name}"), limit.clone());
    }
    found.insert("session leader".into(), json!(seen["sid"] == seen["pid"]));
    found.insert("group leader".into(), json!(seen["pgrp"] == seen["pid"]));
    found.insert("terminal".into(), seen["tty"]["isatty"].clone());
    let fds: Vec<&Value> = seen["fds"].as_array().unwrap().iter().map(|fd| &fd["fd"]).collect();
    found.insert("descriptors".into(), json!(fds));
    for (kind, link) in seen["namespaces"].as_object().unwrap() {
        let own =
            std::fs::read_link(format!("/proc/self/ns/{kind}")).map(|link| json!(link)).unwrap_or_default();
        found.insert(format!("namespace {kind} is the caller's"), json!(*link == own));
    }
    for (path, stat) in seen["paths"].as_object().unwrap() {
        let mut stat = stat.clone();
        if let Some(stat) = stat.as_object_mut() {
            for key in ["inode", "device", "size"] {
                stat.remove(key);
            }
        }
        found.insert(format!("path {path}"), stat);
    }
    mounts(seen, &mut found);
    found
}

fn mounts(seen: &Value, found: &mut Findings) {
    let list = seen["mounts"].as_array().unwrap();
    for mount in list {
        let target = mount["target"].as_str().unwrap();
        let mut options: Vec<&str> =
            mount["options"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        options.sort_unstable();
        // The last one at a place is the one that counts.
        found.insert(format!("mount {target} type"), mount["type"].clone());
        found.insert(format!("mount {target} options"), json!(options));
        let kinds: Vec<&str> = mount["optional"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|kind| kind.as_str()?.split(':').next())
            .collect();
        found.insert(format!("mount {target} propagation"), json!(kinds));
    }
}

const PATHS: [&str; 16] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
    "/dev/ptmx",
    "/dev/pts/ptmx",
    "/dev/fd",
    "/dev/stdin",
    "/dev/stdout",
    "/dev/stderr",
    "/dev/core",
    "/dev/console",
    "/dev/shm",
    "/",
];

fn words() -> Vec<&'static str> {
    let mut words = vec!["report"];
    for path in PATHS {
        words.extend(["--path", path]);
    }
    words
}

fn seen(t: &T, list: &[Listed], change: impl Fn(&mut Bundle)) {
    let all: Vec<Listed> = SIGHT.iter().chain(list).copied().collect();
    compare(t, &all, |t| {
        let mut bundle = Bundle::new(t, &words());
        change(&mut bundle);
        let container = Container::new(t, &mut bundle);
        let done = container.run();
        if done.code() != 0 {
            return Findings::from([("refused".to_owned(), json!(done.code()))]);
        }
        sight(&done.json())
    });
}

fn default_configuration(t: &T) {
    seen(t, &[], |_| {});
}

fn ordinary_user(t: &T) {
    seen(t, &[], |bundle| {
        bundle.set("/process/user", json!({"uid": 1000, "gid": 1001, "additionalGids": [5, 6]}));
        bundle.set("/process/cwd", json!("/tmp")).set("/process/oomScoreAdj", json!(50));
    });
}

fn user_namespace(t: &T) {
    t.needs(&[Need::UserNamespaces]);
    let list = ["full", "null", "random", "tty", "urandom", "zero"];
    let names: Vec<String> = list.iter().map(|name| format!("mount /dev/{name} options")).collect();
    let list: Vec<Listed> = names
        .iter()
        .map(|name| Listed {
            peer: "runc",
            name: name.clone().leak(),
            reason: "our bound nodes carry more flags",
        })
        .collect();
    seen(t, &list, |bundle| {
        bundle.user_namespace(600_000);
    });
}

fn read_only_root(t: &T) {
    seen(t, &[], |bundle| {
        bundle.set("/root/readonly", json!(true)).set("/process/noNewPrivileges", json!(false));
        bundle.mount("tmpfs", "tmpfs", "/run", &["nosuid", "nodev", "mode=755", "size=1m"]);
    });
}

fn few_namespaces(t: &T) {
    seen(t, OF_THE_MOMENT, |bundle| {
        for kind in ["network", "ipc", "uts", "pid"] {
            bundle.without_namespace(kind);
        }
        bundle.remove("/hostname");
        bundle.spec["mounts"]
            .as_array_mut()
            .unwrap()
            .retain(|mount| mount["type"] != "sysfs" && mount["type"] != "mqueue");
        // The pid and the host's interfaces are of the moment.
        bundle.set("/process/args", json!(["/payload", "report"]));
    });
}

fn exec_sight(t: &T, options: &[&str], list: &[Listed]) {
    let all: Vec<Listed> = SIGHT.iter().chain(list).copied().collect();
    compare(t, &all, |t| {
        let mut bundle = Bundle::new(t, &["ready"]);
        let container = Container::new(t, &mut bundle);
        container.ready();
        let done = container.call("exec").args(options).then(["/payload"]).then(words()).done().expect(0);
        container.end();
        let mut found = sight(&done.json());
        // The second process of its namespace, or the third: helpers of the runtime come and go.
        for name in ["pid", "ppid"] {
            found.remove(name);
        }
        for kind in ["cgroup", "ipc", "mnt", "net", "pid", "uts"] {
            found.remove(&format!("namespace {kind} is the caller's"));
        }
        found
    });
}

fn exec(t: &T) {
    exec_sight(t, &[], EXEC);
}

fn exec_as_user(t: &T) {
    exec_sight(t, &["--user", "1000:1000", "--env", "A=b", "--cwd", "/tmp"], EXEC);
}

fn filtered(t: &T) {
    let architecture = if cfg!(target_arch = "aarch64") { "SCMP_ARCH_AARCH64" } else { "SCMP_ARCH_X86_64" };
    seen(t, &[], move |bundle| {
        bundle.set(
            "/linux/seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": [architecture],
                   "syscalls": [{"names": ["reboot"], "action": "SCMP_ACT_ERRNO"}]}),
        );
    });
}

fn devices(t: &T) {
    seen(t, &[], |bundle| {
        bundle.set(
            "/linux/devices",
            json!([{"path": "/dev/console", "type": "c", "major": 5, "minor": 1, "fileMode": 0o600, "uid": 1, "gid": 2},
                   {"path": "/dev/core", "type": "p", "fileMode": 0o640}]),
        );
    });
}
