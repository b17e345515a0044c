//! Where the process is in the hierarchies of control groups, whose the directories are; classes of caches.
use crate::rule::*;
use coracle_tests::*;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const PATH: &str = "config-linux.md#cgroups-path";
const OWNERS: &str = "config-linux.md#cgroup-ownership";
const CACHES: &str = "config-linux.md#intelrdt";

/// The paths of a process in the hierarchies that have controllers.
fn places(pid: i32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let version1 = cgroup::mode() == cgroup::Mode::Version1;
    let lines =
        text.lines().filter(|line| !(version1 && (line.starts_with("0::") || line.contains("name="))));
    lines.map(|line| line.splitn(3, ':').nth(2).unwrap().to_owned()).collect()
}

/// The owner of the control group of a container with these options of its mount.
fn owner(t: &T, options: &[&str], namespace: bool) -> (u32, u32) {
    t.needs(&[Need::CgroupV2, Need::UserNamespaces]);
    let mut bundle = fresh(t, &["ready"]);
    bundle.user_namespace(100_000).mount("cgroup", "cgroup", "/sys/fs/cgroup", options);
    if namespace {
        bundle.add("/linux/namespaces", json!({"type": "cgroup"}));
    }
    let container = Container::new(t, &mut bundle);
    container.ready();
    let dir = Path::new("/sys/fs/cgroup").join(container.cgroup.trim_start_matches('/'));
    let (own, limit) =
        (fs::metadata(&dir).unwrap().uid(), fs::metadata(dir.join("pids.max")).map_or(0, |meta| meta.uid()));
    container.end();
    (own, limit)
}

/// Without the file system of classes it must be refused; with one, this machine cannot say.
macro_rules! class {
    ($name:literal, $says:literal, $fields:expr, $value:tt) => {
        holds($name, CACHES, $says, $fields, |t| {
            if host::mounts().iter().any(|mount| mount.kind == "resctrl") {
                t.skip("a resctrl file system is mounted");
            }
            let mut bundle = fresh(t, &[]);
            bundle.set("/linux/intelRdt", json!($value));
            is_refused(t, &mut bundle);
        })
    };
}

pub const RULES: &[Rule] = &[
    holds(
        "absolute_path",
        PATH,
        "an absolute path MUST be taken as relative to the mount point",
        &["/linux/cgroupsPath"],
        |t| {
            let mut bundle = fresh(t, &["ready"]);
            let container = Container::new(t, &mut bundle);
            container.create();
            let places = places(container.pid());
            assert!(
                !places.is_empty() && places.iter().all(|place| *place == container.cgroup),
                "{places:?}"
            );
            container.start().until("ready");
            container.end();
            container.gone();
        },
    )
    .needs(&[Need::Controller("pids")]),
    holds(
        "made_when_missing",
        PATH,
        "directories that are not there are made (MUST be applied)",
        &["/linux/cgroupsPath"],
        |t| {
            let mut bundle = fresh(t, &["ready"]);
            let container = Container::new(t, &mut bundle);
            let mut spec = container.bundle.spec.clone();
            let deep = format!("{}/deep/below/{}", container.cgroup, container.id);
            spec["linux"]["cgroupsPath"] = json!(deep);
            container.bundle.write_text(&spec.to_string());
            container.ready();
            let places = places(container.pid());
            assert!(places.iter().all(|place| *place == deep), "{places:?}");
            container.end();
            // The directories on the way are nobody's; the next container may be in them.
            for dir in cgroup::named("below").into_iter().filter(|dir| dir.contains(&container.id)) {
                let _ = fs::remove_dir(&dir);
                let _ = Path::new(&dir).ancestors().skip(1).take(2).try_for_each(fs::remove_dir);
            }
        },
    )
    .needs(&[Need::Controller("pids")]),
    holds(
        "relative_path",
        PATH,
        "the same relative path MUST be the same place every time",
        &["/linux/cgroupsPath"],
        |t| {
            let name = format!("relative-{}", std::process::id());
            let mut seen = Vec::new();
            for _ in 0..2 {
                let mut bundle = fresh(t, &["ready"]);
                let container = Container::new(t, &mut bundle);
                let mut spec = container.bundle.spec.clone();
                spec["linux"]["cgroupsPath"] = json!(name);
                container.bundle.write_text(&spec.to_string());
                container.ready();
                seen.push(places(container.pid()));
                container.end();
            }
            assert_eq!(cgroup::named(&name), Vec::<String>::new(), "left behind");
            assert!(seen[0] == seen[1] && seen[0].iter().all(|place| place.ends_with(&name)), "{seen:?}");
        },
    )
    .needs(&[Need::Controller("pids")]),
    holds(
        "every_process",
        PATH,
        "a further process of the container is in the same place (MUST be applied)",
        &["/linux/cgroupsPath"],
        |t| {
            let mut bundle = fresh(t, &["ready"]);
            let container = Container::new(t, &mut bundle);
            container.ready();
            let first = fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
            let seen = container.exec(&["/payload", "report"]).expect(0).json();
            let lines: Vec<&str> = first.lines().collect();
            assert_eq!(seen["cgroup"], json!(lines));
            container.end();
        },
    )
    .needs(&[Need::Controller("pids")]),
    holds(
        "view_of_an_own_namespace",
        "config-linux.md#namespaces",
        "with a cgroup namespace the process is at its root (MUST be applied)",
        &["/linux/namespaces/*/type"],
        |t| {
            let mut bundle = fresh(t, &["report"]);
            bundle.add("/linux/namespaces", json!({"type": "cgroup"}));
            let seen = report(t, &mut bundle);
            let lines = seen["cgroup"].as_array().unwrap().iter().map(|line| line.as_str().unwrap());
            let places: Vec<&str> = lines
                .filter(|line| {
                    line.contains(":pids:")
                        || (cgroup::mode() == cgroup::Mode::Version2 && line.starts_with("0::"))
                })
                .collect();
            assert!(places.iter().all(|line| line.ends_with(":/")), "{places:?}");
        },
    )
    .needs(&[Need::Controller("pids")]),
    holds(
        "mounted",
        "config.md#mounts",
        "the hierarchies can be mounted (MUST be applied)",
        &["/mounts/*/type"],
        |t| {
            let mut bundle = fresh(t, &[]);
            bundle.add("/linux/namespaces", json!({"type": "cgroup"}));
            bundle.mount("cgroup", "cgroup", "/sys/fs/cgroup", &["nosuid", "noexec", "nodev", "ro"]);
            let file = if cgroup::mode() == cgroup::Mode::Version2 {
                "/sys/fs/cgroup/cgroup.procs"
            } else {
                "/sys/fs/cgroup/pids/cgroup.procs"
            };
            let got = answers(t, &mut bundle, &[json!(["read", file]), json!(["write", file, "1"])]);
            assert_eq!(got[0]["ok"]["text"], "1\n", "{}", got[0]);
            assert!(is_error(&got[1], "EROFS"), "{}", got[1]);
        },
    )
    .needs(&[Need::Controller("pids")]),
    holds(
        "owner_of_a_writable_one",
        OWNERS,
        "with a writable mount and an own namespace the owner SHOULD be the user of the process",
        &["/mounts/*/source", "/linux/cgroupsPath"],
        |t| assert_eq!(owner(t, &["rw"], true), (100_000, 0)),
    ),
    holds(
        "owner_of_a_read_only_one",
        OWNERS,
        "with a read-only mount the owner SHOULD NOT be changed",
        &["/mounts/*/options/*"],
        |t| assert_eq!(owner(t, &["ro"], true), (0, 0)),
    ),
    holds(
        "owner_without_a_namespace",
        OWNERS,
        "without an own cgroup namespace the owner SHOULD NOT be changed",
        &["/mounts/*/source"],
        |t| assert_eq!(owner(t, &["rw"], false), (0, 0)),
    ),
    class!("class", "without a resctrl file system it MUST be an error", &["/linux/intelRdt/closID"], {"closID": "frobnicate"}),
    class!("root_class", "without a resctrl file system it MUST be an error", &["/linux/intelRdt/closID"], {"closID": "/"}),
    class!("class_of_caches", "without a resctrl file system it MUST be an error", &["/linux/intelRdt/l3CacheSchema"], {"l3CacheSchema": "L3:0=f"}),
    class!("class_of_bandwidth", "without a resctrl file system it MUST be an error", &["/linux/intelRdt/memBwSchema"], {"memBwSchema": "MB:0=20"}),
    class!("class_of_lines", "without a resctrl file system it MUST be an error", &["/linux/intelRdt/schemata/*"], {"schemata": ["L3:0=f", "MB:0=20"]}),
    class!("class_with_monitoring", "without a resctrl file system it MUST be an error", &["/linux/intelRdt/enableMonitoring"], {"enableMonitoring": true}),
    class!("class_with_a_wrong_line", "memBwSchema MUST start with `MB:` and have one line", &["/linux/intelRdt/memBwSchema"], {"memBwSchema": "L3:0=20\nMB:0=20"}),
    holds("no_class", CACHES, "without intelRdt no resctrl file system MUST be touched", &[], |t| {
        let mut bundle = fresh(t, &["exit", "0"]);
        let before = fs::read_dir("/sys/fs/resctrl").map(|all| all.count()).ok();
        Container::new(t, &mut bundle).run().expect(0);
        assert_eq!(fs::read_dir("/sys/fs/resctrl").map(|all| all.count()).ok(), before);
    }),
];
