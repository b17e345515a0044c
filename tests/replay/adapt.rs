//! The configurations as this machine can have them: root file systems, sources of mounts, namespaces of containers that are there.
//!
//! Must not: change what the program is given, but for what this machine lacks: a profile that is not loaded, a controller, a hard limit
//! that cannot be raised.

use crate::ordinary::{self, Ordinary};
use coracle_tests::*;
use rustix::process::{Resource, getrlimit};
use std::fs;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

/// Names of busybox that the programs of the recordings take.
const NAMES: [&str; 22] = [
    "cat", "echo", "false", "grep", "head", "hostname", "httpd", "id", "ls", "mkdir", "mount", "ps",
    "readlink", "sh", "sleep", "stty", "touch", "tr", "true", "tty", "wc", "env",
];
/// Sources of engines that are files; the others are directories.
const FILES: [&str; 9] =
    ["hostname", "hosts", "resolv.conf", ".containerenv", "passwd", "group", "catatonit", "docker-init", "f"];
/// What an init that an engine brings along does, as far as a scenario needs it.
const INIT: &str = "#!/bin/sh\n[ \"$1\" != -- ] || { shift; exec \"$@\"; }\ntrap exit TERM INT\nwhile :; do sleep 0.1; done\n";

/// Where a container is to be.
pub struct Place<'a> {
    /// systemd makes its cgroup.
    pub systemd: bool,
    /// Who makes it, if that is not root.
    pub user: Option<&'a Ordinary>,
    pub id: &'a str,
    /// The container whose namespaces it joins.
    pub sandbox: Option<i32>,
}

impl Place<'_> {
    pub fn cgroup(&self) -> String {
        let parent = self.user.map_or_else(cgroup::parent, |user| user.cgroup.clone());
        format!("{parent}/{}", self.id)
    }
}

/// Makes the root file system and changes the document.
pub fn config(t: &T, dir: &Path, spec: &mut Value, place: &Place<'_>) {
    bundle::make_rootfs(&dir.join("rootfs"));
    rootfs(&dir.join("rootfs"));
    spec["root"]["path"] = json!("rootfs");
    process(&mut spec["process"], place.user.is_some());
    namespaces(spec, place.sandbox);
    let unit = spec["linux"]["cgroupsPath"].as_str().unwrap_or("").to_owned();
    spec["linux"]["cgroupsPath"] = match unit.splitn(3, ':').collect::<Vec<_>>().as_slice() {
        [slice, prefix, _] if place.systemd => json!(format!("{slice}:{prefix}:{}", place.id)),
        _ => json!(place.cgroup()),
    };
    resources(&mut spec["linux"]["resources"]);
    let owner = spec["linux"]["uidMappings"][0]["hostID"].as_u64().and_then(|id| u32::try_from(id).ok());
    let owner = match place.user {
        Some(_) => Some(ordinary::ID + owner.unwrap_or(0)),
        None => owner,
    };
    let sources = dir.join("sources");
    fs::create_dir(&sources).unwrap();
    for (number, mount) in spec["mounts"].as_array_mut().unwrap().iter_mut().enumerate() {
        let is_bind = mount["type"] == "bind"
            || mount["options"]
                .as_array()
                .is_some_and(|words| words.iter().any(|word| word == "bind" || word == "rbind"));
        let source = PathBuf::from(mount["source"].as_str().unwrap_or(""));
        if is_bind && ["/var", "/run", "/home", "/tmp", "/usr"].iter().any(|top| source.starts_with(top)) {
            mount["source"] = json!(source_of(&sources.join(number.to_string()), &source));
        }
    }
    if let Some(owner) = owner {
        own(dir, owner);
    }
    // Whoever a user namespace makes root walks to its root file system.
    for above in dir.ancestors().take_while(|above| above.starts_with(t.dir())) {
        fs::set_permissions(above, fs::Permissions::from_mode(0o711)).unwrap();
    }
}

fn rootfs(root: &Path) {
    for dir in ["bin", "sbin", "www", "etc/apk", "usr/bin"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    bundle::copy_program(need::busybox().unwrap(), &root.join("bin/busybox"));
    for name in NAMES {
        symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    fs::write(root.join("etc/resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
    bundle::write_program(&root.join("pause"), INIT);
    // As an image has them, whatever our own mask for new files is.
    for dir in
        ["", "bin", "sbin", "www", "etc", "etc/apk", "usr", "usr/bin", "proc", "sys", "dev", "run", "home"]
    {
        fs::set_permissions(root.join(dir), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// A file or directory in the place of an engine's.
fn source_of(path: &Path, engines: &Path) -> String {
    let name = engines.file_name().unwrap_or_default().to_string_lossy().into_owned();
    match name.as_str() {
        "catatonit" | "docker-init" => bundle::write_program(path, INIT),
        "passwd" => fs::write(path, "root:x:0:0:root:/root:/bin/sh\n").unwrap(),
        name if FILES.contains(&name) => fs::write(path, "127.0.0.1 localhost\n").unwrap(),
        _ => {
            fs::create_dir(path).unwrap();
            fs::write(path.join("f"), "in\n").unwrap();
        }
    }
    path.display().to_string()
}

fn own(path: &Path, id: u32) {
    lchown(path, Some(id), Some(id)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).unwrap() {
            own(&entry.unwrap().path(), id);
        }
    }
}

/// What an engine says of a process and this machine cannot give.
pub fn process(process: &mut Value, ordinary_user: bool) {
    let profile = process["apparmorProfile"].as_str().unwrap_or("unconfined").to_owned();
    let loaded = fs::read_to_string("/sys/kernel/security/apparmor/profiles").unwrap_or_default();
    if !loaded.lines().any(|line| line.split(' ').next() == Some(&profile)) {
        process.as_object_mut().unwrap().remove("apparmorProfile");
    }
    for limit in process["rlimits"].as_array_mut().into_iter().flatten() {
        let most = match limit["type"].as_str() {
            Some("RLIMIT_NOFILE") => getrlimit(Resource::Nofile).maximum,
            Some("RLIMIT_NPROC") => getrlimit(Resource::Nproc).maximum,
            _ => None,
        };
        if ordinary_user || need::SYS_RESOURCE.missing().is_some() {
            for key in ["hard", "soft"] {
                limit[key] = json!(limit[key].as_u64().unwrap().min(most.unwrap_or(u64::MAX)));
            }
        }
    }
}

/// Namespaces of other containers by what these are here; those that an engine pinned to a file are new ones.
fn namespaces(spec: &mut Value, sandbox: Option<i32>) {
    let list = spec["linux"]["namespaces"].as_array_mut().unwrap();
    for namespace in list {
        let Some(path) = namespace["path"].as_str() else { continue };
        let kind = path.rsplit('/').next().unwrap().to_owned();
        match sandbox.filter(|_| path.starts_with("/proc/")) {
            Some(pid) => namespace["path"] = json!(format!("/proc/{pid}/ns/{kind}")),
            None => drop(namespace.as_object_mut().unwrap().remove("path")),
        }
    }
}

/// Limits of controllers that are there.
pub fn resources(resources: &mut Value) {
    let Some(members) = resources.as_object_mut() else { return };
    members.retain(|name, _| match name.as_str() {
        "blockIO" => cgroup::has("blkio") || cgroup::has("io"),
        "memory" | "cpu" | "pids" | "hugetlb" => cgroup::has(name),
        _ => true,
    });
    // Disks of the machine that was recorded.
    for list in
        members.get_mut("blockIO").and_then(Value::as_object_mut).into_iter().flat_map(|io| io.values_mut())
    {
        if let Some(list) = list.as_array_mut() {
            list.retain(|one| {
                Path::new(&format!("/sys/dev/block/{}:{}", one["major"], one["minor"])).exists()
            });
        }
    }
}
