//! A bundle in the directory of a case: a root file system with the payload (and busybox), and a configuration that
//! is changed by JSON pointers.

use crate::harness::T;
use serde_json::{Map, Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::RwLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// A bundle. Its files are removed with the case's directory.
#[derive(Debug)]
pub struct Bundle {
    /// The bundle's directory.
    pub dir: PathBuf,
    /// The configuration, written by [`Bundle::write`].
    pub spec: Value,
}

static COUNT: AtomicU64 = AtomicU64::new(0);

/// Held for reading while a program is written, and for writing while a child is made: between fork and exec a child has copies of all
/// descriptors, and a program that somebody has open for writing cannot be executed.
static WRITING: RwLock<()> = RwLock::new(());

/// Starts a child while no program is being written.
pub fn spawn(command: &mut Command) -> std::io::Result<Child> {
    let _alone = WRITING.write();
    command.spawn()
}

/// As [`spawn`], for a program that somebody in a container tries to write, in vain: the kernel counts him before it refuses.
pub fn spawn_besieged(command: &mut Command) -> std::io::Result<Child> {
    for _ in 0..50 {
        match spawn(command) {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            done => return done,
        }
    }
    spawn(command)
}

/// Copies a program.
pub fn copy_program(from: &Path, to: &Path) {
    let _held = WRITING.read();
    fs::copy(from, to).expect("a copy");
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).expect("own file");
}

/// Writes a program.
pub fn write_program(to: &Path, content: impl AsRef<[u8]>) {
    let _held = WRITING.read();
    fs::write(to, content).expect("own directory");
    fs::set_permissions(to, fs::Permissions::from_mode(0o755)).expect("own file");
}

/// The capabilities that engines give by default.
pub const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SYS_CHROOT",
    "CAP_MKNOD",
    "CAP_AUDIT_WRITE",
    "CAP_SETFCAP",
];

/// The default configuration: what engines send, cut to what every case needs.
pub fn default_spec() -> Value {
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/payload", "report"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs"},
        "hostname": "inside",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}],
            "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}

impl Bundle {
    /// A bundle whose process runs the payload with these words.
    pub fn new(t: &T, words: &[&str]) -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = t.dir().join(format!("bundle-{number}"));
        fs::create_dir(&dir).expect("a new directory");
        let mut bundle = Self { dir, spec: default_spec() };
        make_rootfs(&bundle.rootfs());
        bundle.command(words);
        if !rustix::process::geteuid().is_root() {
            bundle.rootless();
        }
        bundle
    }

    /// What an ordinary user can have: an own user namespace with one mapping, no limits, no foreign groups.
    fn rootless(&mut self) {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        self.add("/linux/namespaces", json!({"type": "user"}));
        self.set("/linux/uidMappings", json!([{"containerID": 0, "hostID": uid, "size": 1}]));
        self.set("/linux/gidMappings", json!([{"containerID": 0, "hostID": gid, "size": 1}]));
        self.remove("/linux/resources");
        // The group 5 of devpts is not mapped.
        for mount in self.spec["mounts"].as_array_mut().expect("a list") {
            if let Some(options) = mount["options"].as_array_mut() {
                options.retain(|option| option != "gid=5");
            }
        }
    }

    /// The root file system.
    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }
    /// A path below the root file system.
    pub fn inside(&self, path: &str) -> PathBuf {
        self.rootfs().join(path.trim_start_matches('/'))
    }

    /// Runs the payload with these words.
    pub fn command(&mut self, words: &[&str]) -> &mut Self {
        let mut args = vec!["/payload"];
        args.extend(words);
        self.set("/process/args", json!(args))
    }

    /// Sets a value; missing objects on the way are made.
    ///
    /// # Panics
    /// When the pointer goes through something that is neither an object nor an existing list element.
    pub fn set(&mut self, pointer: &str, value: Value) -> &mut Self {
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
        let parent = self.make(parent);
        if let Value::Array(list) = parent {
            let index: usize = name.parse().expect("an index");
            list[index] = value;
        } else {
            let object = parent.as_object_mut().expect("an object");
            object.insert(name.replace("~1", "/").replace("~0", "~"), value);
        }
        self
    }

    /// Removes a value.
    pub fn remove(&mut self, pointer: &str) -> &mut Self {
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
        match self.spec.pointer_mut(parent) {
            Some(Value::Object(object)) => {
                object.remove(name);
            }
            Some(Value::Array(list)) => {
                list.remove(name.parse().expect("an index"));
            }
            _ => {}
        }
        self
    }

    /// Appends to a list, which is made if it is missing.
    pub fn add(&mut self, pointer: &str, value: Value) -> &mut Self {
        if self.spec.pointer(pointer).is_none() {
            self.set(pointer, json!([]));
        }
        let list = self.spec.pointer_mut(pointer).and_then(Value::as_array_mut).expect("a list");
        list.push(value);
        self
    }

    fn make(&mut self, pointer: &str) -> &mut Value {
        let mut place = &mut self.spec;
        for name in pointer.split('/').skip(1) {
            place = match place {
                Value::Array(list) => &mut list[name.parse::<usize>().expect("an index")],
                Value::Object(object) => object.entry(name).or_insert_with(|| Value::Object(Map::new())),
                other => panic!("{pointer}: {other} is no object"),
            };
        }
        place
    }

    /// Adds a mount.
    pub fn mount(&mut self, kind: &str, source: &str, destination: &str, options: &[&str]) -> &mut Self {
        self.add(
            "/mounts",
            json!({"destination": destination, "type": kind, "source": source, "options": options}),
        )
    }
    /// Adds a bind mount of a host directory or file.
    pub fn bind(&mut self, source: &Path, destination: &str, options: &[&str]) -> &mut Self {
        let mut all = vec!["bind"];
        all.extend(options);
        self.mount("bind", &source.display().to_string(), destination, &all)
    }
    /// Takes a namespace out of the list.
    pub fn without_namespace(&mut self, kind: &str) -> &mut Self {
        let list = self.spec.pointer_mut("/linux/namespaces").and_then(Value::as_array_mut).expect("a list");
        list.retain(|namespace| namespace["type"] != kind);
        self
    }
    /// Adds an own user namespace that maps the first ids to those from `host` on.
    pub fn user_namespace(&mut self, host: u32) -> &mut Self {
        self.add("/linux/namespaces", json!({"type": "user"}));
        let mapping = json!([{"containerID": 0, "hostID": host, "size": 65536}]);
        self.set("/linux/uidMappings", mapping.clone()).set("/linux/gidMappings", mapping);
        // The mapped root must be able to walk to its root file system, and to make mount points there.
        own(&self.rootfs(), host);
        self
    }
    /// Puts busybox with some names into the root file system.
    pub fn busybox(&mut self) -> &mut Self {
        let from = crate::need::busybox().expect("the case asked for it");
        let bin = self.inside("/bin");
        fs::create_dir_all(&bin).expect("own directory");
        copy_program(from, &bin.join("busybox"));
        for name in ["sh", "cat", "ls", "id", "sleep", "echo", "true", "false", "stty"] {
            let _ = symlink("busybox", bin.join(name));
        }
        self
    }

    /// Writes `config.json`.
    pub fn write(&self) {
        self.write_text(&serde_json::to_string_pretty(&self.spec).expect("JSON"));
    }
    /// Writes something else as `config.json`.
    pub fn write_text(&self, text: &str) {
        fs::write(self.dir.join("config.json"), text).expect("own directory");
    }
}

fn own(path: &Path, id: u32) {
    std::os::unix::fs::lchown(path, Some(id), Some(id)).expect("only root uses mapped ids");
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).expect("own directory").flatten() {
            own(&entry.path(), id);
        }
    }
}

/// A root file system: empty mount points, passwd and group, the payload.
pub fn make_rootfs(root: &Path) {
    for dir in ["", "proc", "sys", "dev", "tmp", "etc", "root", "run", "home"] {
        fs::create_dir(root.join(dir)).expect("a new directory");
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).expect("own directory");
    let passwd = "root:x:0:0:root:/root:/bin/sh\nsailor:x:1000:1000::/home/sailor:/bin/sh\n";
    fs::write(root.join("etc/passwd"), passwd).expect("own directory");
    fs::write(root.join("etc/group"), "root:x:0:\nsailor:x:1000:\ncrew:x:2000:sailor\n")
        .expect("own directory");
    copy_program(crate::harness::payload(), &root.join("payload"));
}
