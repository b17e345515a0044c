//! Classes of cache and memory bandwidth, and monitoring groups: `linux.intelRdt` on a resctrl file system (Documentation/filesystems/resctrl.rst).
//!
//! A class is a directory with a `schemata` and a `tasks` file. What this container made is remembered by its inode, and nothing else is
//! ever removed: a class that was there before belongs to the administrator.
//!
//! Must not: touch a resctrl file system that no configuration asked for. Tests: at the end of this file, in a tree of plain files, for
//! the hardware is rare; where none is mounted, `tests` package, `root/limits.rs`.

use crate::error::{Error, ErrorKind, Phase, Result};
use crate::spec::IntelRdt;
use rustix::fs::{Mode, OFlags, mkdir, open, rmdir, stat};
use rustix::io::{Errno, write};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const POINTER: &str = "/linux/intelRdt";

/// What is kept about a container's class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RdtRecord {
    /// Mount point of the resctrl file system.
    root: PathBuf,
    /// The class's directory below it; empty: the class that everything is in from the start.
    class: String,
    /// The class's directory is this container's: its inode, 0 until it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    made: Option<u64>,
    /// The monitoring group's name, and its directory's inode, 0 until it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    monitor: Option<(String, u64)>,
}

/// What is to be made, after everything that can be refused was looked at.
#[derive(Debug)]
pub(crate) struct Rdt {
    pub(crate) record: RdtRecord,
    /// Texts for the class's `schemata`, in order.
    writes: Vec<String>,
}

/// Where resctrl is mounted in the mount namespace of this process.
///
/// # Errors
/// [`ErrorKind::Unsupported`] where it is not: the specification wants an error then.
pub(crate) fn mount_point() -> Result<PathBuf> {
    let path = "/proc/thread-self/mountinfo";
    let text = std::fs::read_to_string(path)
        .map_err(|e| Error::os("look for a resctrl file system", e).with_path(path))?;
    // Field 5 is the mount point; the type stands behind the dash (proc_pid_mountinfo(5)).
    let found = text.lines().find_map(|line| {
        let (front, back) = line.split_once(" - ")?;
        back.starts_with("resctrl ").then(|| front.split(' ').nth(4)).flatten()
    });
    found.map(PathBuf::from).ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, "give the container a class of cache and bandwidth: no resctrl file system is mounted")
            .at(POINTER)
            .in_phase(Phase::Cgroup)
            .with_code("resctrl-missing")
            .with_hint("mount -t resctrl resctrl /sys/fs/resctrl, where the processor has RDT (or its like) and the kernel was built for it")
    })
}

impl Rdt {
    /// Looks at what is there below `root`, and decides. Changes nothing.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSpec`] when a class has to exist and does not, or has other values than asked for.
    pub(crate) fn plan(root: &Path, id: &str, wanted: &IntelRdt) -> Result<Self> {
        let class = match wanted.clos_id.as_deref() {
            None => id,
            Some("/") => "",
            Some(name) => name,
        };
        let writes = writes(wanted);
        let record =
            RdtRecord { root: root.to_path_buf(), class: class.to_owned(), made: None, monitor: None };
        let mut rdt = Self { record, writes };
        let schemata = rdt.record.directory().join("schemata");
        match std::fs::read_to_string(&schemata) {
            Ok(text) => {
                rdt.compare(&text)?;
                rdt.writes.clear();
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !class.is_empty() => {
                if wanted.clos_id.is_some() && rdt.writes.is_empty() {
                    return Err(refused(
                        format!("there is no class {class}, and no values to make it with"),
                        "closID",
                    )
                    .with_code("clos-missing"));
                }
                rdt.record.made = Some(0);
            }
            Err(e) => return Err(about(Error::os("read the values of a class", e)).with_path(&schemata)),
        }
        if wanted.enable_monitoring == Some(true) {
            rdt.record.monitor = Some((id.to_owned(), 0));
        }
        Ok(rdt)
    }

    /// A class that exists must have the values that are asked for.
    fn compare(&self, text: &str) -> Result<()> {
        let has = values(text);
        for ((resource, domain), value) in self.writes.iter().flat_map(|text| values(text)) {
            let found = has.get(&(resource.clone(), domain.clone()));
            if found != Some(&value) {
                let found = found.map_or("nothing", String::as_str);
                let text =
                    format!("the class exists with {resource}:{domain}={found}, and {value} is asked for");
                return Err(refused(text, "closID").with_code("clos-mismatch"));
            }
        }
        Ok(())
    }

    /// Makes what is missing, and fills the record in. What was made is in the record even when this fails.
    ///
    /// # Errors
    /// The kernel's refusal, with what it says of the last command.
    pub(crate) fn make(&self, record: &mut RdtRecord) -> Result<()> {
        let directory = record.directory();
        if record.made.is_some() {
            record.made = None;
            record.made = Some(new_directory(&directory)?);
        }
        for text in &self.writes {
            let path = directory.join("schemata");
            put(&path, text).map_err(|e| {
                let error = about(Error::os("set the values of a class", e)).with_path(&path);
                with_status(&record.root, error)
            })?;
        }
        if let Some((name, _)) = record.monitor.take() {
            let inode = new_directory(&directory.join("mon_groups").join(&name))?;
            record.monitor = Some((name, inode));
        }
        Ok(())
    }
}

impl RdtRecord {
    fn directory(&self) -> PathBuf {
        if self.class.is_empty() { self.root.clone() } else { self.root.join(&self.class) }
    }

    fn monitor_directory(&self) -> Option<PathBuf> {
        self.monitor.as_ref().map(|(name, _)| self.directory().join("mon_groups").join(name))
    }

    /// The files that a process of the container is written to, in order.
    pub(crate) fn tasks(&self) -> Vec<PathBuf> {
        std::iter::once(self.directory())
            .chain(self.monitor_directory())
            .map(|dir| dir.join("tasks"))
            .collect()
    }

    /// Writes new values of the class; what `change` does not name stays. The result is what was there before.
    ///
    /// # Errors
    /// [`ErrorKind::WrongState`] for a class that others own; the kernel's refusal, after which the values before are written back.
    pub(crate) fn update(&self, change: &IntelRdt) -> Result<String> {
        if self.made.is_none() {
            let text = "change the class of cache and bandwidth: it was there before the container";
            return Err(Error::new(ErrorKind::WrongState, text).with_code("clos-foreign"));
        }
        let path = self.directory().join("schemata");
        let before = std::fs::read_to_string(&path)
            .map_err(|e| Error::os("read the values of a class", e).with_path(&path))?;
        for text in writes(change) {
            if let Err(e) = put(&path, &text) {
                let error =
                    with_status(&self.root, Error::os("set the values of a class", e).with_path(&path));
                return Err(match self.restore(&before) {
                    Ok(()) => error,
                    Err(second) => error.with_warning(second.to_string()),
                });
            }
        }
        Ok(before)
    }

    /// Writes values back that [`RdtRecord::update`] found.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn restore(&self, before: &str) -> Result<()> {
        let lines: String = before.lines().map(|line| format!("{}\n", line.trim_start())).collect();
        let path = self.directory().join("schemata");
        put(&path, &lines).map_err(|e| Error::os("write the values of a class back", e).with_path(path))
    }

    /// Removes what this container made, and nothing else.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub(crate) fn remove(&self) -> Result<()> {
        if let (Some(path), Some((_, inode))) = (self.monitor_directory(), &self.monitor) {
            remove_own(&path, *inode)?;
        }
        match self.made {
            Some(inode) => remove_own(&self.directory(), inode),
            None => Ok(()),
        }
    }
}

/// Writes a process into each file.
///
/// # Errors
/// The kernel's refusal; ENOENT when somebody removed the class.
pub(crate) fn join(tasks: &[PathBuf], pid: i32) -> Result<()> {
    for path in tasks {
        put(path, &pid.to_string()).map_err(|e| {
            about(Error::os("put a process into its class of cache and bandwidth", e))
                .with_path(path)
                .with_code("resctrl")
        })?;
    }
    Ok(())
}

/// What resctrl says of the last command.
fn with_status(root: &Path, error: Error) -> Error {
    let error = error.with_code("schemata");
    match std::fs::read_to_string(root.join("info/last_cmd_status")) {
        Ok(status) if !status.trim().is_empty() && status.trim() != "ok" => {
            error.with_warning(format!("resctrl: {}", status.trim()))
        }
        _ => error,
    }
}

fn about(error: Error) -> Error {
    error.at(POINTER).in_phase(Phase::Cgroup)
}

fn refused(text: String, key: &str) -> Error {
    about(Error::new(ErrorKind::InvalidSpec, text)).at(format!("{POINTER}/{key}"))
}

/// What is written: both schemas at once, without the bandwidth lines of the first, and `schemata` last.
fn writes(wanted: &IntelRdt) -> Vec<String> {
    let cache = wanted.l3_cache_schema.iter().flat_map(|text| text.split('\n'));
    let cache = cache.filter(|line| !line.is_empty() && !line.starts_with("MB:"));
    let bandwidth = wanted.mem_bw_schema.iter().map(String::as_str).filter(|line| !line.is_empty());
    let text = |lines: Vec<&str>| (!lines.is_empty()).then(|| format!("{}\n", lines.join("\n")));
    let last = text(wanted.schemata.iter().map(String::as_str).collect());
    text(cache.chain(bandwidth).collect()).into_iter().chain(last).collect()
}

/// One line for a plan: the class, what is written if it has to be made, the monitoring group.
pub(crate) fn shown(id: &str, wanted: &IntelRdt) -> String {
    let class = wanted.clos_id.as_deref().unwrap_or(id);
    let monitor = if wanted.enable_monitoring == Some(true) { " monitored" } else { "" };
    format!("{class:?} {:?}{monitor}  # {POINTER}", writes(wanted))
}

/// Each value by its resource and domain: masks without leading zeros, bandwidths as numbers.
fn values(text: &str) -> BTreeMap<(String, String), String> {
    let mut all = BTreeMap::new();
    for line in text.lines() {
        let Some((resource, domains)) = line.split_once(':') else { continue };
        for domain in domains.split(';') {
            let Some((domain, value)) = domain.split_once('=') else { continue };
            let value = value.trim().trim_start_matches('0').to_ascii_lowercase();
            let value = if value.is_empty() { "0".to_owned() } else { value };
            all.insert((resource.trim().to_owned(), domain.trim().to_owned()), value);
        }
    }
    all
}

fn new_directory(path: &Path) -> Result<u64> {
    let failed = |e: Errno| {
        let error =
            about(Error::os("make a class or a monitoring group", e)).with_path(path).with_code("resctrl");
        match e {
            Errno::NOSPC => error.with_hint(
                "the processor has no class or monitor left: see num_closids, num_rmids below info",
            ),
            Errno::EXIST => error.with_hint("somebody else has made it"),
            _ => error,
        }
    };
    mkdir(path, Mode::from_raw_mode(0o755)).map_err(failed)?;
    Ok(stat(path).map_err(failed)?.st_ino)
}

/// Removes a directory when it is still the one that was made. Of one whose making was interrupted only an empty one is ours.
fn remove_own(path: &Path, inode: u64) -> Result<()> {
    let failed = |e: Errno| about(Error::os("remove a class or a monitoring group", e)).with_path(path);
    let found = match stat(path) {
        Err(Errno::NOENT) => return Ok(()),
        other => other.map_err(failed)?,
    };
    let idle = || std::fs::read_to_string(path.join("tasks")).is_ok_and(|tasks| tasks.trim().is_empty());
    if found.st_ino != inode && !(inode == 0 && idle()) {
        return Ok(());
    }
    match rmdir(path) {
        Err(Errno::NOENT) => Ok(()),
        other => other.map_err(failed),
    }
}

/// One write; the files are there as soon as their directory is.
fn put(path: &Path, text: &str) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    let file = open(path, flags, Mode::from_raw_mode(0o644))?;
    match write(&file, text.as_bytes())? {
        len if len == text.len() => Ok(()),
        _ => Err(Errno::IO),
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test removes its own directory")]
mod tests {
    use super::*;
    use std::fs;

    /// A tree like a mounted resctrl with one class, `gold`.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Self {
            let root = std::env::temp_dir().join(format!("coracle-rdt-{name}-{}", std::process::id()));
            fs::create_dir_all(root.join("gold/mon_groups")).unwrap();
            fs::create_dir_all(root.join("mon_groups")).unwrap();
            fs::create_dir_all(root.join("info")).unwrap();
            fs::write(root.join("schemata"), "    MB:0=100;1=100\n    L3:0=fffff;1=fffff\n").unwrap();
            fs::write(root.join("gold/schemata"), "    MB:0= 20;1= 70\n    L3:0=007f0;1=0001f\n").unwrap();
            Self(root)
        }

        fn plan(&self, wanted: serde_json::Value) -> Result<Rdt> {
            Rdt::plan(&self.0, "c1", &serde_json::from_value(wanted).unwrap())
        }

        fn made(&self, wanted: serde_json::Value) -> RdtRecord {
            let rdt = self.plan(wanted).unwrap();
            let mut record = rdt.record.clone();
            rdt.make(&mut record).unwrap();
            record
        }

        fn read(&self, path: &str) -> Option<String> {
            fs::read_to_string(self.0.join(path)).ok()
        }

        /// What the kernel does with the files of a directory that is removed.
        fn empty(&self, path: &str) {
            for entry in fs::read_dir(self.0.join(path)).unwrap().flatten() {
                let _ = fs::remove_file(entry.path()).or_else(|_| fs::remove_dir_all(entry.path()));
            }
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn code(result: Result<Rdt>) -> (String, Option<String>) {
        let error = result.unwrap_err();
        (error.code().to_owned(), error.pointer().map(str::to_owned))
    }

    #[test]
    fn a_class_of_its_own_goes_with_the_container() {
        let tree = Tree::new("own");
        let record = tree.made(serde_json::json!({
            "l3CacheSchema": "L3:0=7f0\nMB:0=1", "memBwSchema": "MB:0=20", "schemata": ["L2:0=f", "L2:1=f"]
        }));
        // Each text is one write; a plain file shows the last one over the start of the first.
        assert_eq!(tree.read("c1/schemata").unwrap(), "L2:0=f\nL2:1=f\n20\n");
        join(&record.tasks(), 4711).unwrap();
        assert_eq!(tree.read("c1/tasks").unwrap(), "4711");
        assert_eq!(tree.read("tasks"), None);
        tree.empty("c1");
        record.remove().unwrap();
        assert!(!tree.0.join("c1").exists());
        record.remove().unwrap();
    }

    #[test]
    fn what_is_written_and_in_which_order() {
        let of = |wanted: serde_json::Value| writes(&serde_json::from_value(wanted).unwrap());
        assert_eq!(
            of(
                serde_json::json!({"l3CacheSchema": "L3:0=f\nMB:0=1\nL3CODE:1=f", "memBwSchema": "MB:0=20", "schemata": ["L2:0=f"]})
            ),
            ["L3:0=f\nL3CODE:1=f\nMB:0=20\n", "L2:0=f\n"]
        );
        assert_eq!(of(serde_json::json!({"memBwSchema": "MB:0=20"})), ["MB:0=20\n"]);
        assert_eq!(of(serde_json::json!({"closID": "a", "l3CacheSchema": ""})), [""; 0]);
    }

    #[test]
    fn a_class_that_exists_is_compared_and_stays() {
        let tree = Tree::new("gold");
        let before = tree.read("gold/schemata");
        for wanted in [
            serde_json::json!({"closID": "gold"}),
            serde_json::json!({"closID": "gold", "l3CacheSchema": "L3:0=7F0;1=1f", "memBwSchema": "MB:1=70"}),
            serde_json::json!({"closID": "gold", "schemata": ["MB:0=20"]}),
        ] {
            let record = tree.made(wanted);
            join(&record.tasks(), 1).unwrap();
            record.remove().unwrap();
        }
        assert_eq!(tree.read("gold/schemata"), before, "never written");
        let other = tree.plan(serde_json::json!({"closID": "gold", "memBwSchema": "MB:0=30"}));
        assert_eq!(code(other), ("clos-mismatch".to_owned(), Some("/linux/intelRdt/closID".to_owned())));
        let absent = tree.plan(serde_json::json!({"closID": "gold", "schemata": ["L2:0=f"]}));
        assert_eq!(code(absent).0, "clos-mismatch");
        let missing = tree.plan(serde_json::json!({"closID": "silver"}));
        assert_eq!(code(missing), ("clos-missing".to_owned(), Some("/linux/intelRdt/closID".to_owned())));
        assert!(tree.plan(serde_json::json!({"closID": "silver", "schemata": ["L3:0=f"]})).is_ok());
        // "info" is a directory, but no class.
        let none = tree.plan(serde_json::json!({"closID": "info", "schemata": ["L3:0=f"]})).unwrap();
        assert!(none.make(&mut none.record.clone()).is_err());
    }

    #[test]
    fn the_class_of_everything_is_never_removed() {
        let tree = Tree::new("root");
        let record = tree.made(serde_json::json!({"closID": "/", "enableMonitoring": true}));
        assert_eq!(record.tasks(), [tree.0.join("tasks"), tree.0.join("mon_groups/c1/tasks")]);
        join(&record.tasks(), 9).unwrap();
        tree.empty("mon_groups/c1");
        record.remove().unwrap();
        assert!(!tree.0.join("mon_groups/c1").exists() && tree.0.join("schemata").exists());
    }

    #[test]
    fn values_change_and_go_back() {
        let tree = Tree::new("update");
        let record = tree.made(serde_json::json!({"l3CacheSchema": "L3:0=7f0"}));
        assert_eq!(tree.read("c1/schemata").unwrap(), "L3:0=7f0\n");
        let change = |text: serde_json::Value| record.update(&serde_json::from_value(text).unwrap());
        let before =
            change(serde_json::json!({"l3CacheSchema": "L3:0=00f\nMB:0=1", "memBwSchema": "MB:0=30"}))
                .unwrap();
        // A plain file keeps what is longer than the text; a schemata file takes each line for itself.
        assert_eq!(before, "L3:0=7f0\n");
        assert_eq!(tree.read("c1/schemata").unwrap(), "L3:0=00f\nMB:0=30\n");
        record.restore("    L3:0=7f0\n    MB:0=20\n").unwrap();
        assert_eq!(tree.read("c1/schemata").unwrap(), "L3:0=7f0\nMB:0=20\n");
        // Others' classes are not changed.
        let gold = tree.made(serde_json::json!({"closID": "gold"}));
        let error =
            gold.update(&serde_json::from_value(serde_json::json!({"memBwSchema": "MB:0=1"})).unwrap());
        assert_eq!(error.unwrap_err().code(), "clos-foreign");
    }

    #[test]
    fn what_somebody_else_made_stays() {
        let tree = Tree::new("foreign");
        fs::create_dir(tree.0.join("gold/mon_groups/c1")).unwrap();
        let rdt = tree.plan(serde_json::json!({"closID": "gold", "enableMonitoring": true})).unwrap();
        let mut record = rdt.record.clone();
        assert!(rdt.make(&mut record).is_err(), "a monitoring group of this name is there");
        record.remove().unwrap();
        assert!(tree.0.join("gold/mon_groups/c1").exists());
        // A directory that was exchanged since, and one of an interrupted making that is in use.
        let record = tree.made(serde_json::json!({}));
        tree.empty("c1");
        fs::rename(tree.0.join("c1"), tree.0.join("old")).unwrap();
        fs::create_dir(tree.0.join("c1")).unwrap();
        record.remove().unwrap();
        fs::write(tree.0.join("c1/tasks"), "12\n").unwrap();
        RdtRecord { made: Some(0), ..record.clone() }.remove().unwrap();
        assert!(tree.0.join("c1").exists());
    }
}
