//! What a process of an ordinary user's container sees.
use coracle_tests::*;
use std::fs;

cases![
    identity,
    namespaces,
    devices,
    mounts,
    binds,
    masks,
    filter,
    environment,
    network_is_its_own,
    host_network
];

fn identity(t: &T) {
    let mut bundle = Bundle::new(t, &["report"]);
    let seen = report(t, &mut bundle);
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    assert_eq!(seen["uid"], json!({"real": 0, "effective": 0, "saved": 0, "fs": 0}));
    assert_eq!(seen["gid"], json!({"real": 0, "effective": 0, "saved": 0, "fs": 0}));
    assert_eq!(seen["uidMap"], json!([["0", uid.to_string(), "1"]]));
    assert_eq!(seen["gidMap"], json!([["0", gid.to_string(), "1"]]));
    assert_eq!(seen["setgroups"], "deny");
    assert_eq!(seen["noNewPrivs"], true);
    assert_eq!(seen["dumpable"], 1);
    assert_eq!(seen["caps"]["effective"].as_array().unwrap().len(), bundle::CAPABILITIES.len());
}

fn namespaces(t: &T) {
    let mut bundle = Bundle::new(t, &["report"]);
    let seen = report(t, &mut bundle);
    for kind in ["user", "mnt", "pid", "net", "ipc", "uts"] {
        let own = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_ne!(seen["namespaces"][kind], json!(own), "{kind}");
    }
    assert_eq!(seen["hostname"], "inside");
    assert_eq!(seen["pid"], 1);
}

fn devices(t: &T) {
    let mut bundle = Bundle::new(t, &[]);
    let got = answers(
        t,
        &mut bundle,
        &[
            json!(["write", "/dev/null", "x"]),
            json!(["read-some", "/dev/zero"]),
            json!(["read-some", "/dev/urandom"]),
            json!(["stat", "/dev/null"]),
            json!(["readlink", "/dev/ptmx"]),
            json!(["open", "/dev/ptmx", "rw"]),
            json!(["mknod", "/tmp/node", "c", 1, 3]),
        ],
    );
    assert!(got[0].get("ok").is_some() && got[1]["ok"] == 64 && got[2]["ok"] == 64, "{got:?}");
    assert_eq!((got[3]["ok"]["major"].as_i64(), got[3]["ok"]["minor"].as_i64()), (Some(1), Some(3)));
    assert!(got[5].get("ok").is_some(), "{}", got[5]);
    assert!(is_error(&got[6], "EPERM"), "nobody makes nodes in a user namespace");
}

fn mounts(t: &T) {
    let mut bundle = Bundle::new(t, &["report"]);
    bundle.mount("tmpfs", "tmpfs", "/data", &["size=1m", "mode=711", "nosuid", "noexec"]);
    let seen = report(t, &mut bundle);
    for (target, kind) in
        [("/proc", "proc"), ("/dev", "tmpfs"), ("/dev/pts", "devpts"), ("/sys", "sysfs"), ("/data", "tmpfs")]
    {
        assert_eq!(mount_at(&seen["mounts"], target)["type"], kind, "{target}");
    }
    assert!(has_options(mount_at(&seen["mounts"], "/data"), &["nosuid", "noexec"]));
    assert!(has_options(mount_at(&seen["mounts"], "/sys"), &["ro"]));
}

fn binds(t: &T) {
    let source = t.dir().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "mine").unwrap();
    let mut bundle = Bundle::new(t, &[]);
    bundle.bind(&source, "/rw", &["rw"]).bind(&source, "/ro", &["ro"]);
    bundle.set("/root/readonly", json!(true));
    let got = answers(
        t,
        &mut bundle,
        &[
            json!(["write", "/rw/file", "changed"]),
            json!(["open", "/ro/file", "rw"]),
            json!(["mkdir", "/new"]),
            json!(["stat", "/rw/file"]),
            json!(["mount", "none", "/ro", "none", 0x1020]),
        ],
    );
    assert!(got[0].get("ok").is_some(), "{}", got[0]);
    assert!(is_error(&got[1], "EROFS") && is_error(&got[2], "EROFS"), "{got:?}");
    assert_eq!(got[3]["ok"]["uid"], 0);
    assert!(is_error(&got[4], "EPERM"), "{}", got[4]);
    assert_eq!(fs::read_to_string(source.join("file")).unwrap(), "changed");
}

fn masks(t: &T) {
    let mut bundle = Bundle::new(t, &[]);
    fs::write(bundle.inside("/etc/secret"), "secret").unwrap();
    bundle.add("/linux/maskedPaths", json!("/etc/secret"));
    let got = answers(
        t,
        &mut bundle,
        &[
            json!(["read", "/etc/secret"]),
            json!(["open", "/proc/sys/kernel/hostname", "w"]),
            json!(["read", "/proc/keys"]),
        ],
    );
    assert_eq!(got[0]["ok"]["length"], 0, "{got:?}");
    assert!(got[1].get("errno").is_some(), "{}", got[1]);
    assert_eq!(got[2]["ok"]["length"], 0);
}

fn filter(t: &T) {
    let mut bundle = Bundle::new(t, &["report"]);
    let architecture = if cfg!(target_arch = "aarch64") { "SCMP_ARCH_AARCH64" } else { "SCMP_ARCH_X86_64" };
    bundle.set(
        "/linux/seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": [architecture],
               "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99}]}),
    );
    assert_eq!(report(t, &mut bundle)["seccomp"]["mode"], 2);
    let got = answers(t, &mut bundle, &[json!(["mkdir", "/tmp/x"])]);
    assert_eq!(got[0]["errno"], 99);
}

fn environment(t: &T) {
    let mut bundle = Bundle::new(t, &["report"]);
    let wanted = ["PATH=/bin", "HOME=/x", "A=b"];
    bundle.set("/process/env", json!(wanted));
    let container = Container::new(t, &mut bundle);
    let call = container
        .run_call()
        .env("CANARY", "leaks")
        .launched(["--leak", "/", "--ignore", "13", "--umask", "077"]);
    let seen = call.done().expect(0).json();
    assert_eq!(seen["env"], json!(wanted));
    assert_eq!(seen["umask"], 0o022);
    assert_eq!(seen["fds"].as_array().unwrap().len(), 3, "{}", seen["fds"]);
    assert!(!seen["signals"]["ignored"].as_array().unwrap().contains(&json!("13")), "{}", seen["signals"]);
}

fn network_is_its_own(t: &T) {
    let mut bundle = Bundle::new(t, &["report"]);
    let seen = report(t, &mut bundle);
    assert_eq!(seen["interfaces"]["lo"], json!({"up": true}));
}

fn host_network(t: &T) {
    let mut bundle = Bundle::new(t, &["report"]);
    bundle.without_namespace("network");
    // A new sysfs needs a network namespace of its own.
    bundle.spec["mounts"].as_array_mut().unwrap().retain(|mount| mount["type"] != "sysfs");
    let seen = report(t, &mut bundle);
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(seen["namespaces"]["net"], json!(own));
}
