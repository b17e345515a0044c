//! Where the containers of this program live, how one is described, and whether anything is left of them.

use coracle::spec::{Process, Spec};
use coracle::{Bundle, Container, ContainerId, Create, Delete, ExitStatus, Runtime, Stdio};
use coracle_tests::{Value, bundle, cgroup, dirs, host, json};
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

static COUNT: AtomicU64 = AtomicU64::new(0);

/// A directory of this program with a root file system for all containers, and a runtime whose state lies beside it.
#[derive(Debug)]
pub struct World {
    /// The directory.
    pub dir: PathBuf,
    /// State of the containers.
    pub state: PathBuf,
    /// The runtime.
    pub runtime: Runtime,
    /// In the environment of each process of a container, and nowhere else.
    pub marker: String,
}

impl World {
    /// Makes a world in a new directory.
    pub fn new(dir: &Path) -> Self {
        bundle::make_rootfs(&dir.join("rootfs"));
        Self::at(dir)
    }

    /// The world of another process.
    pub fn at(dir: &Path) -> Self {
        let state = dir.join("state");
        let runtime = Runtime::builder().root(&state).build().expect("an absolute path");
        let marker = format!("CORACLE_TEST_MARK={}", dir.display());
        Self { dir: dir.to_owned(), state, runtime, marker }
    }

    /// A name that no other container of the machine has.
    pub fn id(&self, what: &str) -> ContainerId {
        let number = COUNT.fetch_add(1, Ordering::SeqCst);
        format!("embed-{}-{what}-{number}", std::process::id()).parse().expect("a name")
    }

    /// A configuration whose process runs the payload with these words.
    pub fn spec(&self, id: &ContainerId, words: &[&str]) -> Value {
        let mut spec = bundle::default_spec();
        let mut args = vec!["/payload"];
        args.extend(words);
        spec["process"]["args"] = json!(args);
        spec["process"]["env"] = json!(["PATH=/bin", self.marker]);
        if rustix::process::geteuid().is_root() {
            spec["linux"]["cgroupsPath"] = json!(format!("{}/{id}", cgroup::parent()));
            return spec;
        }
        let linux = spec["linux"].as_object_mut().expect("an object");
        linux.remove("resources");
        linux["namespaces"].as_array_mut().expect("a list").push(json!({"type": "user"}));
        let own = |id: u32| json!([{"containerID": 0, "hostID": id, "size": 1}]);
        linux.insert("uidMappings".into(), own(rustix::process::geteuid().as_raw()));
        linux.insert("gidMappings".into(), own(rustix::process::getegid().as_raw()));
        // The group 5 of devpts is not mapped.
        for mount in spec["mounts"].as_array_mut().expect("a list") {
            if let Some(options) = mount["options"].as_array_mut() {
                options.retain(|option| option != "gid=5");
            }
        }
        spec
    }

    /// A bundle that is no file.
    pub fn bundle(&self, spec: &Value) -> Bundle {
        let spec = Spec::from_slice(spec.to_string().as_bytes()).expect("a configuration");
        Bundle::from_spec(spec, &self.dir).expect("an absolute path")
    }

    /// A container to be.
    pub fn create(&self, id: &ContainerId, spec: &Value) -> Create {
        self.runtime.create(id, self.bundle(spec))
    }

    /// A container that waits at the gate, with the null device as its streams.
    pub fn created(&self, what: &str, words: &[&str]) -> Container {
        let id = self.id(what);
        let spec = self.spec(&id, words);
        let plan = self.create(&id, &spec).stdio(Stdio::Null).plan().expect("a plan");
        plan.create().unwrap_or_else(|error| panic!("{}", error.report())).container
    }

    /// A container that runs and has said `ready`, and its output.
    pub fn running(&self, what: &str, words: &[&str]) -> (Container, File) {
        let id = self.id(what);
        let spec = self.spec(&id, words);
        let plan = self.create(&id, &spec).stdio(Stdio::Pipes).plan().expect("a plan");
        let mut created = plan.create().unwrap_or_else(|error| panic!("{}", error.report()));
        created.container.start().unwrap_or_else(|error| panic!("{}", error.report()));
        let mut out = File::from(created.io.stdout.take().expect("a pipe"));
        until_ready(&mut out);
        (created.container, out)
    }

    /// Expects that no process, cgroup, mount or file of a container is left.
    pub fn nothing_left(&self) {
        let names: Vec<_> = fs::read_dir(&self.state)
            .map(|dir| dir.flatten().map(|entry| entry.file_name()).collect())
            .unwrap_or_default();
        assert!(names.is_empty(), "state: {names:?}");
        // The one above all of them is the run's: of several containers that are made at once only the first made it.
        let above = format!("/{}", cgroup::parent().trim_start_matches('/'));
        let cgroups: Vec<_> =
            cgroup::own_directories().into_iter().filter(|path| !path.ends_with(&above)).collect();
        assert!(cgroups.is_empty(), "cgroups: {cgroups:?}");
        assert_eq!(dirs::mounts_below(&self.dir), Vec::<String>::new(), "mounts");
        // What was killed a moment ago may still be on its way.
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let left = host::processes_with(&self.marker);
            let children = host::children();
            if left.is_empty() && children.is_empty() {
                return;
            }
            assert!(Instant::now() < end, "processes: {left:?}, children: {children:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The word of a payload that has come to life.
pub fn until_ready(out: &mut File) {
    let mut said = [0; 6];
    out.read_exact(&mut said).expect("the payload says ready");
    assert_eq!(&said, b"ready\n");
}

/// Everything that comes from a pipe or a terminal until its end.
pub fn all_of(fd: Option<OwnedFd>) -> String {
    let mut bytes = Vec::new();
    // A terminal ends with EIO.
    let _ = File::from(fd.expect("an end for the caller")).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A process document for an exec of the payload.
pub fn process(world: &World, words: &[&str]) -> Process {
    let mut args = vec!["/payload"];
    args.extend(words);
    let text =
        json!({"args": args, "cwd": "/", "env": [world.marker], "user": {"uid": 0, "gid": 0}}).to_string();
    Process::from_slice(text.as_bytes()).expect("a process")
}

/// Kills and removes.
pub fn remove(container: Container) {
    let id = container.id().clone();
    let failed = container.delete(Delete::Force).unwrap_or_else(|error| panic!("{id}: {}", error.report()));
    assert!(failed.is_empty(), "{failed:?}");
}

/// The status of a container that ended as it should. `Unknown` is right only where the kernel cannot know.
pub fn expect_status(found: ExitStatus, wanted: ExitStatus) {
    let silent = coracle_tests::need::kernel() < (6, 15) && found == ExitStatus::Unknown;
    assert!(found == wanted || silent, "{found:?} instead of {wanted:?}");
}
