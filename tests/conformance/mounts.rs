//! Mounts: their order, destinations, sources and kinds. Their options are in `options.rs`.
use crate::rule::*;
use coracle_tests::*;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use std::fs;
use std::path::PathBuf;

pub const RULES: &[Rule] = &[
    holds(
        "in_the_listed_order",
        "config.md#mounts",
        "entries MUST be mounted in the listed order",
        &["/mounts/*/destination", "/mounts/*/type", "/mounts/*/source"],
        |t| {
            // The second hides the first; the third lies in the second.
            let mut bundle = fresh(t, &[]);
            bundle.mount("tmpfs", "one", "/a/b", &["mode=755"]).mount("tmpfs", "two", "/a", &["mode=755"]);
            bundle.mount("tmpfs", "three", "/a/c", &["mode=755"]);
            let tries = [json!(["list", "/a"]), json!(["mounts"])];
            let got = answers(t, &mut bundle, &tries);
            assert_eq!(got[0]["ok"], json!(["c"]));
            let all = got[1]["ok"].as_array().unwrap();
            let sources: Vec<&Value> = all
                .iter()
                .filter(|one| one["target"].as_str().unwrap().starts_with("/a"))
                .map(|one| &one["source"])
                .collect();
            assert_eq!(sources.iter().filter(|one| **one == "three").count(), 1, "{all:?}");
            assert_eq!(mount_at(&got[1]["ok"], "/a")["source"], "two");
        },
    ),
    refused(
        "no_destination",
        "config.md#mounts",
        "the destination is REQUIRED",
        &["/mounts/*/type"],
        |bundle| bundle.add("/mounts", json!({"type": "tmpfs", "source": "tmpfs"})),
    ),
    sees(
        "relative_destination",
        "config.md#mounts",
        "a relative destination MUST be taken as relative to the root",
        &["/mounts/*/destination"],
        |bundle| bundle.mount("tmpfs", "tmpfs", "data/here", &[]),
        |seen| assert_eq!(mount_at(&seen["mounts"], "/data/here")["type"], "tmpfs"),
    ),
    holds(
        "destination_that_leads_outside",
        "config.md#mounts",
        "the destination is a path inside the container (MUST be applied)",
        &["/mounts/*/destination"],
        |t| {
            let other = outside(t, "other");
            let mut bundle = fresh(t, &["report"]);
            std::os::unix::fs::symlink(&other, bundle.inside("/link")).unwrap();
            bundle.mount("tmpfs", "tmpfs", "/link/below", &[]);
            let container = Container::new(t, &mut bundle);
            let done = container.run();
            // It may be refused; it must not be made outside.
            assert_eq!(fs::read_dir(&other).unwrap().count(), 0, "something was made outside");
            if done.code() == 0 {
                let inside = format!("{}/below", other.display());
                assert_eq!(mount_at(&done.json()["mounts"], &inside)["type"], "tmpfs");
            }
        },
    ),
    holds(
        "missing_destinations",
        "config.md#mounts",
        "what is to be mounted MUST be there, whatever the image has",
        &["/mounts/*/destination"],
        |t| {
            let file = outside(t, "source").join("file");
            fs::write(&file, "text").unwrap();
            let mut bundle = fresh(t, &[]);
            bundle.mount("tmpfs", "tmpfs", "/new/deep/directory", &[]).bind(&file, "/new/file", &["ro"]);
            let got = answers(
                t,
                &mut bundle,
                &[json!(["stat", "/new/deep/directory"]), json!(["read", "/new/file"])],
            );
            assert_eq!(got[0]["ok"]["type"], "directory");
            assert_eq!(got[1]["ok"]["text"], "text");
        },
    ),
    holds(
        "source_relative_to_the_bundle",
        "config.md#mounts",
        "a relative source of a bind mount is taken from the bundle's directory (MUST be applied)",
        &["/mounts/*/source"],
        |t| {
            let mut bundle = fresh(t, &[]);
            fs::create_dir(bundle.dir.join("data")).unwrap();
            fs::write(bundle.dir.join("data/file"), "text").unwrap();
            bundle.mount("bind", "data", "/data", &["bind"]);
            assert_eq!(answers(t, &mut bundle, &[json!(["read", "/data/file"])])[0]["ok"]["text"], "text");
        },
    ),
    refused(
        "source_that_is_not_there",
        "runtime.md#create",
        "a mount that cannot be made MUST be an error",
        &["/mounts/*/source"],
        |bundle| bundle.mount("bind", "missing", "/data", &["bind"]),
    ),
    refused(
        "file_system_that_is_unknown",
        "runtime.md#create",
        "a mount that cannot be made MUST be an error",
        &["/mounts/*/type"],
        |bundle| bundle.mount("nosuchfs", "none", "/data", &[]),
    ),
    holds(
        "type_of_a_bind_mount",
        "config.md#posix-platform-mounts",
        "with bind or rbind the type is a dummy (MUST be applied by the options)",
        &["/mounts/*/type", "/mounts/*/options/*"],
        |t| {
            let mut bundle = fresh(t, &[]);
            let dir = bundle.dir.join("data");
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("file"), "text").unwrap();
            for (n, kind) in ["none", "bind", "dummy"].iter().enumerate() {
                bundle.mount(
                    kind,
                    dir.to_str().unwrap(),
                    &format!("/data{n}"),
                    &[if n == 1 { "rbind" } else { "bind" }],
                );
            }
            bundle.add("/mounts", json!({"destination": "/data3", "source": dir, "options": ["bind"]}));
            let tries: Vec<Value> = (0..4).map(|n| json!(["read", format!("/data{n}/file")])).collect();
            for answer in answers(t, &mut bundle, &tries) {
                assert_eq!(answer["ok"]["text"], "text");
            }
        },
    ),
    holds(
        "binds_with_what_is_below",
        "config.md#linux-mount-options",
        "bind MUST take one mount, rbind MUST take what is mounted below, too",
        &["/mounts/*/options/*"],
        |t| {
            let nested = Nested::new(t, "nested");
            let mut bundle = fresh(t, &[]);
            bundle.bind(&nested.0, "/one", &[]);
            bundle.mount("bind", nested.0.to_str().unwrap(), "/all", &["rbind"]);
            let got = answers(t, &mut bundle, &[json!(["list", "/one/sub"]), json!(["list", "/all/sub"])]);
            assert_eq!(got[0]["ok"], json!([]));
            assert_eq!(got[1]["ok"], json!(["file"]));
        },
    ),
    holds(
        "nothing_of_the_host",
        "config.md#mounts",
        "the mounts of the container are those that are listed (MUST be applied)",
        &["/mounts/*/destination"],
        |t| {
            let nested = Nested::new(t, "of-the-host");
            let mut bundle = fresh(t, &["report"]);
            let seen = report(t, &mut bundle);
            let text = seen["mounts"].to_string();
            assert!(!text.contains(nested.0.to_str().unwrap()), "{text}");
            for target in ["/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue", "/sys"] {
                mount_at(&seen["mounts"], target);
            }
        },
    ),
    holds(
        "default_file_systems",
        "config-linux.md#default-filesystems",
        "proc, sysfs, devpts and tmpfs for shared memory SHOULD be available",
        &["/mounts/*/type"],
        |t| {
            let mut bundle = fresh(t, &["report"]);
            let seen = report(t, &mut bundle);
            for (target, kind) in
                [("/proc", "proc"), ("/sys", "sysfs"), ("/dev/pts", "devpts"), ("/dev/shm", "tmpfs")]
            {
                assert_eq!(mount_at(&seen["mounts"], target)["type"], kind);
            }
        },
    ),
    holds("no_mounts_at_all", "config.md#mounts", "the list of mounts is OPTIONAL", &[], |t| {
        let mut bundle = fresh(t, &["print", "inside"]);
        for key in ["/mounts", "/linux/maskedPaths", "/linux/readonlyPaths"] {
            bundle.remove(key);
        }
        let done = Container::new(t, &mut bundle).run().expect(0);
        assert_eq!(done.out, "inside\n");
    }),
    holds(
        "data_of_the_file_system",
        "config.md#linux-mount-options",
        "unknown options SHOULD reach the file system, joined by commas",
        &["/mounts/*/options/*"],
        |t| {
            let mut bundle = fresh(t, &["report"]);
            bundle.mount("tmpfs", "tmpfs", "/data", &["size=1m", "nosuid", "mode=1700", "nr_inodes=77"]);
            let seen = report_on(t, &mut bundle, &["/data"]);
            assert!(has_options(
                mount_at(&seen["mounts"], "/data"),
                &["size=1024k", "nr_inodes=77", "nosuid"]
            ));
            assert_eq!(seen["paths"]["/data"]["mode"], 0o1700);
        },
    ),
    refused(
        "data_that_the_file_system_refuses",
        "runtime.md#create",
        "a mount that cannot be made MUST be an error",
        &["/mounts/*/options/*"],
        |bundle| bundle.mount("tmpfs", "tmpfs", "/data", &["frobnicate=1"]),
    ),
    holds(
        "back_to_the_host",
        "config-linux.md#namespaces",
        "in a new mount namespace nothing reaches the host (MUST be a container namespace)",
        &["/linux/namespaces/*/type"],
        |t| {
            let nested = Nested::new(t, "shared");
            mount_change(&nested.0, MountPropagationFlags::SHARED | MountPropagationFlags::REC).unwrap();
            let mut bundle = fresh(t, &["ready"]);
            bundle.bind(&nested.0, "/data", &["rprivate"]).mount("tmpfs", "tmpfs", "/data/sub", &[]);
            let container = Container::new(t, &mut bundle);
            container.create();
            assert!(nested.0.join("sub/file").exists(), "the container's mount hides the host's");
            container.start();
            container.until("ready");
            assert!(nested.0.join("sub/file").exists());
            container.end();
        },
    ),
];

/// A mount of the host that has another one below it.
pub struct Nested(pub PathBuf);

impl Nested {
    pub fn new(t: &T, name: &str) -> Self {
        let dir = outside(t, name);
        mount("top", &dir, "tmpfs", MountFlags::empty(), c"size=1m").unwrap();
        fs::create_dir(dir.join("sub")).unwrap();
        mount("sub", dir.join("sub"), "tmpfs", MountFlags::empty(), c"size=1m").unwrap();
        mount_change(&dir, MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
        fs::write(dir.join("sub/file"), "").unwrap();
        Self(dir)
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}
