//! Directories, locks, records and statuses against the real kernel, each in a directory of its own.

use super::store::{FILES, RECORD, RECORD_NEW};
use super::{ContainerDir, NamespaceRecord, Progress, Record, Status, Store, observe, observe_locked};
use crate::cgroup::CgroupRecord;
use crate::error::{Error, ErrorKind, Result};
use crate::id::ContainerId;
use crate::launch::gate::Gate;
use crate::process::tests::{alone_as, identity, sleeper};
use crate::process::wait_exit;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A directory that is removed with all that the test left in it.
struct Temp(PathBuf);

impl Temp {
    /// On a memory file system, as `/run` is.
    fn new(name: &str) -> Self {
        Self::below("/dev/shm", name)
    }

    fn below(parent: &str, name: &str) -> Self {
        let path = Path::new(parent).join(format!("coracle-state-{name}-{}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        Self(path)
    }

    fn store(&self) -> Store {
        Store::open(&self.0, true).unwrap()
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        fn clear(dir: &Path) {
            for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    clear(&entry.path());
                    let _ = fs::remove_dir(entry.path());
                } else {
                    let _ = fs::remove_file(entry.path());
                }
            }
        }
        clear(&self.0);
        let _ = fs::remove_dir(&self.0);
    }
}

fn id(text: &str) -> ContainerId {
    text.parse().unwrap()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn record(name: &str) -> Record {
    Record::new(&id(name), "/bundle".into(), "/bundle/rootfs".into())
}

fn entries(path: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn looking_makes_nothing_and_creating_makes_it_private() {
    let temp = Temp::new("root");
    let root = temp.0.join("a/b");
    let store = Store::open(&root, false).unwrap();
    assert_eq!(store.list().unwrap(), []);
    assert_eq!(store.find(&id("web")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(store.create(&id("web")).unwrap_err().kind(), ErrorKind::Usage);
    assert!(!temp.0.join("a").exists(), "a command that looks creates nothing");

    let store = Store::open(&root, true).unwrap();
    let lock = store.create(&id("web")).unwrap();
    for path in [temp.0.join("a"), root.clone(), root.join("web")] {
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o700, "{}", path.display());
    }
    lock.write_record(&mut record("web")).unwrap();
    lock.write_filter(&[0; 16]).unwrap();
    for name in ["record", "filter"] {
        assert_eq!(fs::metadata(root.join("web").join(name)).unwrap().mode() & 0o7777, 0o600, "{name}");
    }
    lock.remove().unwrap();
    assert_eq!(entries(&root), [""; 0]);
}

#[test]
fn unsafe_roots_are_refused() {
    let temp = Temp::new("unsafe");
    let open = |path: &Path| Store::open(path, true);
    let mode = |mode| fs::set_permissions(&temp.0, fs::Permissions::from_mode(mode)).unwrap();
    for writable in [0o770, 0o707, 0o777] {
        mode(writable);
        assert_eq!(open(&temp.0).unwrap_err().code(), "root-unsafe", "{writable:o}");
    }
    mode(0o1777);
    open(&temp.0).unwrap();
    mode(0o755);
    open(&temp.0).unwrap();

    let link = temp.0.join("link");
    fs::create_dir(temp.0.join("real")).unwrap();
    symlink("real", &link).unwrap();
    assert!(open(&link).is_err(), "a link is not followed");
    assert!(open(Path::new(&format!("{}/", link.display()))).is_err(), "not with a slash behind it either");
    fs::write(temp.0.join("file"), "").unwrap();
    assert_eq!(open(&temp.0.join("file")).unwrap_err().errno(), Some(libc::ENOTDIR));
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(temp.0.join("real"), Some(12_345), None).unwrap();
        assert_eq!(open(&temp.0.join("real")).unwrap_err().code(), "root-unsafe");
        let store = temp.store();
        assert_eq!(store.find(&id("real")).unwrap_err().code(), "container-foreign");
    }
    let store = temp.store();
    for not_ours in ["link", "file"] {
        assert_eq!(store.find(&id(not_ours)).unwrap_err().code(), "container-foreign", "{not_ours}");
    }
}

#[test]
fn lists_what_can_be_a_container_and_nothing_else() {
    let temp = Temp::new("list");
    let store = temp.store();
    for name in ["b", "a", "c.1"] {
        drop(store.create(&id(name)).unwrap());
    }
    fs::create_dir(temp.0.join(".cache")).unwrap();
    fs::create_dir(temp.0.join("not an id")).unwrap();
    fs::write(temp.0.join("file"), "").unwrap();
    symlink("a", temp.0.join("link")).unwrap();
    assert_eq!(store.list().unwrap(), [id("a"), id("b"), id("c.1")]);
}

#[test]
fn of_two_creators_one_wins() {
    let temp = Temp::new("race");
    for round in 0..200 {
        let name = id(&format!("c{round}"));
        let (barrier, winners) = (Barrier::new(2), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let store = temp.store();
                    barrier.wait();
                    match store.create(&name) {
                        Ok(lock) => {
                            winners.fetch_add(1, Ordering::SeqCst);
                            lock.write_record(&mut record(name.as_str())).unwrap();
                        }
                        Err(e) => {
                            assert_eq!(e.kind(), ErrorKind::AlreadyExists);
                            assert!(e.to_string().starts_with("container with given ID already exists"));
                        }
                    }
                });
            }
        });
        assert_eq!(winners.load(Ordering::SeqCst), 1, "round {round}");
    }
    assert_eq!(temp.store().list().unwrap().len(), 200);
}

#[test]
fn the_lock_excludes_threads_and_ends_with_its_guard() {
    let temp = Temp::new("lock");
    let store = temp.store();
    let lock = store.create(&id("web")).unwrap();
    let dir = store.find(&id("web")).unwrap();
    assert!(dir.is_locked().unwrap() && lock.is_locked().unwrap());
    let begun = Instant::now();
    let error = lock.lock(begun + Duration::from_millis(40)).unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Timeout, "container-busy"),
        "not through one handle either"
    );
    assert!(begun.elapsed() >= Duration::from_millis(40));
    let waiter = std::thread::spawn(move || dir.lock(soon()).map(drop));
    std::thread::sleep(Duration::from_millis(20));
    drop(lock);
    waiter.join().unwrap().unwrap();

    // Counting under the lock: without exclusion increments get lost.
    let dir = store.find(&id("web")).unwrap();
    let file = temp.0.join("web").join(RECORD);
    fs::write(&file, "0").unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..25 {
                    let _lock = dir.lock(soon()).unwrap();
                    let count: u32 = fs::read_to_string(&file).unwrap().parse().unwrap();
                    std::thread::sleep(Duration::from_micros(50));
                    fs::write(&file, (count + 1).to_string()).unwrap();
                }
            });
        }
    });
    assert_eq!(fs::read_to_string(&file).unwrap(), "100");
}

/// The other process of the next test: takes the lock, begins to write, says so, and is killed.
#[test]
fn holds_a_lock_until_killed() {
    let Some(root) = std::env::var_os("CORACLE_TEST_LOCK") else { return };
    let store = Store::open(Path::new(&root), false).unwrap();
    let _lock = store.find(&id("web")).unwrap().lock(soon()).unwrap();
    fs::write(Path::new(&root).join("web").join(RECORD_NEW), "{\"vers").unwrap();
    println!("\nlocked");
    std::io::stdout().flush().unwrap();
    std::thread::sleep(Duration::from_secs(1000));
}

#[test]
fn a_killed_holder_leaves_neither_lock_nor_half_a_record() {
    let temp = Temp::new("killed");
    let store = temp.store();
    let lock = store.create(&id("web")).unwrap();
    let mut first = record("web");
    lock.write_record(&mut first).unwrap();
    drop(lock);
    let mut holder = alone_as("state::tests::holds_a_lock_until_killed")
        .env("CORACLE_TEST_LOCK", &temp.0)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = holder.stdout.take().unwrap();
    let mut text = Vec::new();
    while !text.ends_with(b"\nlocked\n") {
        let mut byte = [0_u8];
        out.read_exact(&mut byte).unwrap();
        text.extend(byte);
    }
    let dir = store.find(&id("web")).unwrap();
    assert!(dir.is_locked().unwrap());
    holder.kill().unwrap();
    holder.wait().unwrap();
    let lock = dir.lock(soon()).unwrap();
    assert_eq!(entries(&temp.0.join("web")), [RECORD, RECORD_NEW]);
    assert_eq!(dir.read_record().unwrap(), Some(first), "the record from before");
    let mut second = record("web");
    second.terminal = true;
    lock.write_record(&mut second).unwrap();
    assert_eq!(dir.read_record().unwrap(), Some(second));
    assert_eq!(entries(&temp.0.join("web")), [RECORD]);
    lock.remove().unwrap();
}

#[test]
fn readers_never_see_half_a_record() {
    let temp = Temp::new("atomic");
    let lock = temp.store().create(&id("web")).unwrap();
    let mut small = record("web");
    lock.write_record(&mut small).unwrap();
    let mut large = small.clone();
    large.annotations.insert("a".into(), "x".repeat(300_000));
    let done = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..100 {
                lock.write_record(&mut large).unwrap();
                lock.write_record(&mut small.clone()).unwrap();
            }
            done.store(1, Ordering::SeqCst);
        });
        let dir = temp.store().find(&id("web")).unwrap();
        while done.load(Ordering::SeqCst) == 0 {
            let read: Record = dir.read_record().unwrap().unwrap();
            assert!([0, 300_000].contains(&read.annotations.get("a").map_or(0, String::len)));
        }
    });
}

#[test]
fn a_directory_made_anew_is_not_the_one_that_was_opened() {
    let temp = Temp::new("anew");
    let store = temp.store();
    drop(store.create(&id("web")).unwrap());
    let old = store.find(&id("web")).unwrap();
    old.lock(soon()).unwrap().remove().unwrap();
    assert_eq!(old.lock(soon()).unwrap_err().kind(), ErrorKind::NotFound);
    let lock = store.create(&id("web")).unwrap();
    assert_eq!(old.lock(soon()).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(old.read_record().unwrap(), None);
    lock.remove().unwrap();
}

#[test]
fn removal_takes_our_files_and_names_the_others() {
    let temp = Temp::new("remove");
    let store = temp.store();
    let lock = store.create(&id("web")).unwrap();
    let path = temp.0.join("web");
    for name in FILES {
        fs::write(path.join(name), "").unwrap();
    }
    fs::create_dir(path.join("theirs")).unwrap();
    fs::write(path.join("theirs/precious"), "").unwrap();
    let error = lock.remove().unwrap_err();
    assert_eq!((error.kind(), error.code()), (ErrorKind::State, "foreign-entries"));
    assert!(error.to_string().contains("theirs"), "{error}");
    assert_eq!(entries(&path), ["theirs"]);
    assert!(path.join("theirs/precious").exists());
    fs::remove_file(path.join("theirs/precious")).unwrap();
    fs::remove_dir(path.join("theirs")).unwrap();
    store.find(&id("web")).unwrap().lock(soon()).unwrap().remove().unwrap();
    assert!(!path.exists());
}

#[test]
fn links_fifos_and_giants_are_no_records() {
    let temp = Temp::new("hostile");
    let lock = temp.store().create(&id("web")).unwrap();
    let file = temp.0.join("web").join(RECORD);
    let refused = |what: &str| {
        let error = lock.read_record().unwrap_err();
        assert_eq!(error.code(), "record-quarantined", "{what}: {error}");
        assert_eq!(error.path(), Some(&*file), "{what}");
        fs::remove_file(&file).unwrap();
    };
    assert_eq!(lock.read_record().unwrap(), None);
    fs::write(temp.0.join("elsewhere"), serde_json::to_vec(&record("web")).unwrap()).unwrap();
    symlink("../elsewhere", &file).unwrap();
    refused("link");
    assert!(Command::new("mkfifo").arg(&file).status().unwrap().success());
    refused("fifo");
    fs::File::create(&file).unwrap().set_len((4 << 20) + 1).unwrap();
    refused("giant");
    fs::write(&file, "").unwrap();
    refused("empty");
    let filter = temp.0.join("web/filter");
    assert_eq!(lock.read_filter().unwrap(), None);
    for (bytes, good) in [(&[][..], false), (&[0; 12], false), (&[7; 24], true)] {
        fs::write(&filter, bytes).unwrap();
        assert_eq!(lock.read_filter().ok(), good.then(|| Some(bytes.to_vec())));
    }
}

#[test]
fn another_boot_takes_the_process_away() {
    // On a disk, as a root directory outside /run may be: it survives a boot, process numbers and inodes do not.
    let disk = std::env::current_exe().unwrap();
    let temp = Temp::below(disk.parent().unwrap().to_str().unwrap(), "boot");
    let lock = temp.store().create(&id("web")).unwrap();
    let mut child = sleeper();
    let mut written = record("web");
    written.init = Some(identity(&child));
    written.progress = Progress::Created;
    written.cgroup = Some(CgroupRecord::default());
    lock.write_record(&mut written).unwrap();
    assert_eq!(lock.read_record().unwrap(), Some(written.clone()));
    assert_eq!(status(&lock, false).unwrap(), Status::Running);
    let file = temp.0.join("web").join(RECORD);
    let text = fs::read_to_string(&file).unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let in_memory = rustix::fs::statfs(&temp.0).unwrap().f_type == 0x0102_1994;
    assert_eq!(text.contains(boot.trim()), !in_memory);
    let other = text
        .replacen("{", "{\"boot\":\"another\",", 1)
        .replace(&format!("\"boot\":\"{}\",", boot.trim()), "");
    fs::write(&file, other).unwrap();
    let read: Record = lock.read_record().unwrap().unwrap();
    assert_eq!((read.init, read.cgroup), (None, None), "what has these numbers and names is somebody else's");
    assert_eq!(status(&lock, false).unwrap(), Status::Stopped);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The status, with a cgroup that is frozen or not.
fn status(dir: &ContainerDir, frozen: bool) -> Result<Status> {
    let record = dir.read_record()?;
    Ok(observe(dir, record.as_ref(), |_| Ok(frozen))?.status)
}

#[test]
fn the_status_follows_the_kernel() {
    let temp = Temp::new("status");
    let store = temp.store();
    let lock = store.create(&id("web")).unwrap();
    let dir = store.find(&id("web")).unwrap();
    assert_eq!(status(&dir, false).unwrap(), Status::Creating, "no record yet");
    let mut intent = record("web");
    intent.cgroup = Some(CgroupRecord::default());
    lock.write_record(&mut intent).unwrap();
    assert_eq!(status(&dir, true).unwrap(), Status::Creating, "the plan's cgroup is not asked");
    drop(lock);
    assert_eq!(status(&dir, false).unwrap(), Status::Stopped, "its creator was killed");

    let lock = dir.lock(soon()).unwrap();
    let mut half = sleeper();
    intent.init = Some(identity(&half));
    lock.write_record(&mut intent).unwrap();
    let mine = || observe_locked(&lock, Some(&intent), |_| panic!("the plan's cgroup is not asked")).unwrap();
    assert_eq!(mine().status, Status::Creating, "its creator was killed, what it made lives");
    assert!(mine().init.is_some(), "and can be killed: a hook that hangs in create");
    half.kill().unwrap();
    half.wait().unwrap();
    assert_eq!(mine().status, Status::Stopped, "the lock is ours, not a creator's");
    drop(lock);

    let mut child = sleeper();
    let gate = Gate::bind(dir.as_fd()).unwrap();
    let lock = dir.lock(soon()).unwrap();
    let namespace = NamespaceRecord { kind: "pid".into(), ino: 1, joined: false };
    let mut created = intent;
    created.progress = Progress::Created;
    created.init = Some(identity(&child));
    created.namespaces.push(namespace);
    lock.write_record(&mut created).unwrap();
    assert_eq!(status(&dir, false).unwrap(), Status::Created, "held or not, a finished record counts");
    drop(lock);
    assert_eq!(status(&dir, false).unwrap(), Status::Created);
    assert_eq!(status(&dir, true).unwrap(), Status::Paused);
    drop(gate);
    let end = soon();
    // A process that another test forks holds a copy until it executes.
    while status(&dir, false).unwrap() == Status::Created && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(status(&dir, false).unwrap(), Status::Running);
    assert_eq!(status(&dir, true).unwrap(), Status::Paused);

    let missing = || Error::os("open a cgroup file", rustix::io::Errno::NOENT);
    assert!(observe(&dir, Some(&created), |_| Err(missing())).is_err(), "its init lives");
    let seen = observe(&dir, Some(&created), |_| {
        child.kill().unwrap();
        let init = created.init.as_ref().unwrap().open().unwrap().unwrap();
        assert!(wait_exit(init.as_fd(), Some(end)).unwrap());
        Err(missing())
    });
    assert_eq!(seen.unwrap().status, Status::Stopped, "it ended meanwhile, and its cgroup went with it");
    let seen = observe(&dir, Some(&created), |_| Ok(false)).unwrap();
    let init = seen.init.unwrap();
    assert!(wait_exit(init.as_fd(), Some(end)).unwrap());
    let seen = observe(&dir, Some(&created), |_| panic!("a dead container's cgroup is not asked")).unwrap();
    assert_eq!(seen.status, Status::Stopped, "not reaped and yet stopped");
    assert!(seen.init.is_some(), "to be reaped");
    child.wait().unwrap();
    let seen = observe(&dir, Some(&created), |_| panic!("nor now")).unwrap();
    assert_eq!((seen.status, seen.init.is_none()), (Status::Stopped, true));
}
