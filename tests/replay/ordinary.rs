//! What Podman makes for an ordinary user before it calls a runtime: a user namespace with a range of ids, a mount namespace, and a cgroup
//! that this user may write, in which Podman is.

use coracle_tests::*;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

/// The host's id of the namespace's root.
pub const ID: u32 = 100_000;
/// An id of the user's own and a range of subordinate ones.
const COUNT: u32 = 65_537;

/// The namespaces, as long as it lives.
pub struct Ordinary {
    holder: Child,
    /// Calls the runtime there.
    pub runtime: Runtime,
    /// The user's cgroup.
    pub cgroup: String,
}

impl Ordinary {
    pub fn new(t: &T) -> Self {
        t.needs(&[Need::Program("unshare"), Need::Program("nsenter"), Need::UserNamespaces]);
        let holder =
            bundle::spawn(Command::new("unshare").args(["--user", "--mount", "sleep", "1000"])).unwrap();
        let there = |name: &str| format!("/proc/{}/{name}", holder.id());
        let own = fs::read_link("/proc/self/ns/mnt").unwrap();
        runtime::wait_until("the namespaces", || {
            fs::read_link(there("ns/mnt")).is_ok_and(|link| link != own)
        });
        for map in ["uid_map", "gid_map"] {
            fs::write(there(map), format!("0 {ID} {COUNT}\n")).unwrap();
        }
        let cgroup = format!("{}/user-{}", cgroup::parent(), holder.id());
        let moves: String = places(&cgroup)
            .iter()
            .map(|place| format!("echo $$ >{}/cgroup.procs\n", place.display()))
            .collect();
        // Where the program lies a user may not be let in.
        let name = t.runtime.path.file_name().unwrap().to_string_lossy().into_owned();
        let program = t.dir().join(format!("{name}-program"));
        bundle::copy_program(&t.runtime.path, &program);
        let script = t.dir().join(&name);
        let enter = need::program("nsenter").unwrap();
        bundle::write_program(
            &script,
            format!(
                "#!/bin/sh\n{moves}exec {} --user --mount --target {} -- {} \"$@\"\n",
                enter.display(),
                holder.id(),
                program.display()
            ),
        );
        Self { holder, runtime: Runtime::at(&script), cgroup }
    }
}

impl Drop for Ordinary {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
        cgroup::remove(&self.cgroup);
    }
}

/// Makes the cgroup and gives it away; where in each hierarchy the user's processes are.
fn places(cgroup: &str) -> Vec<PathBuf> {
    let needed = ["pids", "memory", "freezer", "name=systemd"];
    let all = cgroup::hierarchies();
    let of_use = |one: &&cgroup::Hierarchy| {
        one.controllers.is_empty() || one.controllers.iter().any(|name| needed.contains(&name.as_str()))
    };
    let place = |one: &cgroup::Hierarchy| {
        let dir = one.mount.join(cgroup.trim_start_matches('/'));
        fs::create_dir_all(&dir).unwrap();
        give(&dir);
        if !one.controllers.is_empty() {
            return dir;
        }
        // A cgroup of version 2 with controllers for those below it has no processes itself.
        let mut above: Vec<&Path> =
            dir.ancestors().skip(1).take_while(|above| above.starts_with(&one.mount)).collect();
        above.reverse();
        if cgroup::mode() == cgroup::Mode::Version2 {
            above
                .iter()
                .for_each(|above| fs::write(above.join("cgroup.subtree_control"), "+pids +memory").unwrap());
        }
        let session = dir.join("session");
        fs::create_dir(&session).unwrap();
        give(&session);
        session
    };
    all.iter().filter(of_use).map(place).collect()
}

fn give(dir: &Path) {
    for name in ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control", "tasks"] {
        let path = dir.join(name);
        if path.exists() {
            chown(path, Some(ID), Some(ID)).unwrap();
        }
    }
}
