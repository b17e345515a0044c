//! B3, B6: a `/proc` or `/sys` that is not what it seems, and writes that somebody redirects.
use super::{Swapper, rounds};
use coracle_tests::*;
use std::fs;
use std::os::unix::fs::symlink;

cases![
    linked,
    covered,
    covered_below,
    allowed_below,
    swapped_while_mounting,
    sysctl_redirected,
    opens_of_init
];

fn linked(t: &T) {
    for name in ["proc", "sys"] {
        for target in ["/tmp", "../tmp", "/proc-of-mine"] {
            let mut bundle = Bundle::new(t, &["exit", "0"]);
            fs::create_dir(bundle.inside("/proc-of-mine")).unwrap();
            fs::remove_dir(bundle.rootfs().join(name)).unwrap();
            symlink(target, bundle.rootfs().join(name)).unwrap();
            let container = Container::new(t, &mut bundle);
            container.run().expect(1).error();
            container.gone();
        }
    }
}

fn covered(t: &T) {
    t.differs("crun", "anything may cover /proc");
    let fake = t.dir().join("fake");
    fs::create_dir_all(fake.join("self/attr")).unwrap();
    for (kind, source, options) in
        [("tmpfs", "tmpfs".to_owned(), json!([])), ("bind", fake.display().to_string(), json!(["bind"]))]
    {
        let mut bundle = Bundle::new(t, &["exit", "0"]);
        bundle.add(
            "/mounts",
            json!({"destination": "/proc", "type": kind, "source": source, "options": options}),
        );
        let container = Container::new(t, &mut bundle);
        container.run().expect(1).error();
        container.gone();
    }
}

fn covered_below(t: &T) {
    t.differs("runc", "not every file below /proc is protected");
    t.differs("crun", "anything may cover files of /proc");
    let file = t.dir().join("fake");
    fs::write(&file, "fake").unwrap();
    for place in
        ["/proc/self", "/proc/self/attr", "/proc/sys", "/proc/1", "/proc/sysrq-trigger", "/proc/self/fd"]
    {
        for link in [false, true] {
            let mut bundle = Bundle::new(t, &["exit", "0"]);
            let place = if link {
                symlink("/proc", bundle.inside("/way")).unwrap();
                place.replace("/proc", "/way")
            } else {
                place.to_owned()
            };
            bundle.mount("tmpfs", "tmpfs", &place, &["size=1m"]);
            let container = Container::new(t, &mut bundle);
            container.run().expect(1).error();
            container.gone();
        }
    }
}

fn allowed_below(t: &T) {
    // What lxcfs and engines put there.
    let file = t.dir().join("uptime");
    fs::write(&file, "1.00 2.00\n").unwrap();
    for place in ["/proc/uptime", "/proc/meminfo", "/proc/cpuinfo", "/proc/stat", "/proc/loadavg"] {
        let mut bundle = Bundle::new(t, &["do", &json!(["read", place]).to_string()]);
        bundle.bind(&file, place, &["ro"]);
        let container = Container::new(t, &mut bundle);
        assert!(container.run().expect(0).out.contains("1.00 2.00"), "{place}");
    }
}

fn swapped_while_mounting(t: &T) {
    // The mount point of /proc itself is swapped with a link to a directory of the attacker.
    let mut bundle = Bundle::new(t, &["do", r#"["mounts"]"#, r#"["statfs", "/proc"]"#]);
    fs::create_dir(bundle.inside("/mine")).unwrap();
    symlink("/mine", bundle.inside("/link")).unwrap();
    let (one, other) = (bundle.inside("/proc"), bundle.inside("/link"));
    let container = Container::new(t, &mut bundle);
    let swapper = Swapper::start(&one, &other);
    let mut errors = 0;
    for _ in 0..rounds(60) {
        let done = container.run();
        if done.code() != 0 {
            errors += 1;
            continue;
        }
        // Without a /proc there is no list of mounts; with one it is the kernel's.
        let got = done.json();
        if let Some(mounts) = got[0]["ok"].as_array() {
            // Its name may have been moved afterwards; what was mounted is a procfs with its root.
            let whole = mounts.iter().any(|mount| mount["type"] == "proc" && mount["root"] == "/");
            assert!(whole, "{got}");
        }
    }
    drop(swapper);
    println!("{}: {errors} errors", t.name);
}

fn sysctl_redirected(t: &T) {
    t.differs("crun", "mounts follow the volume's owner");
    // The value must land in the file that its name says, although the volume's owner moves directories about.
    let volume = t.dir().join("volume");
    fs::create_dir_all(volume.join("dir")).unwrap();
    symlink("/proc/sys/kernel", volume.join("link")).unwrap();
    let swapper = Swapper::start(&volume.join("dir"), &volume.join("link"));
    let before = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    for _ in 0..rounds(40) {
        let mut bundle = Bundle::new(t, &["report", "--sysctl", "kernel.shmmni"]);
        bundle.bind(&volume, "/volume", &["rw"]).mount("tmpfs", "racer", "/volume/dir", &["size=1m"]);
        bundle.set("/linux/sysctl", json!({"kernel.shmmni": "91"}));
        let container = Container::new(t, &mut bundle);
        let done = container.run();
        if done.code() == 0 {
            assert_eq!(done.json()["sysctls"]["kernel.shmmni"], "91", "{done}");
        }
    }
    drop(swapper);
    assert_eq!(fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), before);
}

fn opens_of_init(t: &T) {
    t.differs("runc", "init opens files of the container's /proc by name");
    t.differs("crun", "init opens files of the container's /proc by name");
    t.needs(&[Need::Program("strace")]);
    let trace = t.dir().join("trace");
    let mut bundle = Bundle::new(t, &["exit", "0"]);
    bundle.set("/linux/sysctl", json!({"net.ipv4.ip_forward": "1"})).set("/process/oomScoreAdj", json!(100));
    let container = Container::new(t, &mut bundle);
    let calls = "trace=open,openat,openat2,mkdir,mkdirat,mknod,mknodat,symlink,symlinkat,mount,execve";
    let mut strace = std::process::Command::new("strace");
    strace.args(["-f", "-qq", "-s", "300", "-e", calls, "-o"]).arg(&trace).arg(&t.runtime.path);
    strace
        .arg("--root")
        .arg(&container.root)
        .args(["run", "--bundle"])
        .arg(&container.bundle.dir)
        .arg(&container.id);
    strace.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    // Other cases copy programs meanwhile.
    let done =
        bundle::spawn(strace.stderr(std::process::Stdio::piped())).unwrap().wait_with_output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let text = fs::read_to_string(&trace).unwrap();
    // Init is the process that executes the payload; what it did by an absolute path of /proc or /sys is a fault.
    let executed =
        text.lines().find(|line| line.contains("execve(\"/payload\"")).expect("the payload was executed");
    let init = executed.split(' ').next().unwrap();
    let of_init = text.lines().filter(|line| line.starts_with(&format!("{init} ")));
    let before_exec: Vec<&str> = of_init.take_while(|line| !line.contains("execve(\"/payload\"")).collect();
    // Allowed: to look a mount target up below the root's descriptor, and to write the text of a link.
    let looked_up = |line: &str| line.contains("O_PATH") && line.contains("RESOLVE_IN_ROOT");
    let named = |line: &str| line.contains("\"/proc") || line.contains("\"/sys");
    let absolute: Vec<&&str> = before_exec
        .iter()
        .filter(|line| named(line) && !looked_up(line) && !line.contains("symlinkat("))
        .collect();
    assert!(absolute.is_empty(), "{absolute:#?}");
}
