//! Which cgroup hierarchies a host has, where they are mounted, where we are in them and what we may write.
//!
//! A [`Layout`] is a value: it can be written down and planned with on another machine. Only [`Layout::probe`] looks
//! at this one. Must not: change anything, or know about resources.
//! Tests: in this file; the native one compares with the machine's own files.

use std::fmt;
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::fs::{Access, AtFlags, CWD, OFlags, accessat, open, stat, statfs};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::error::{CgroupError, Result};
use super::path::CgroupPath;

/// `f_type` of a version 1 hierarchy (linux/magic.h).
pub(crate) const CGROUP_SUPER_MAGIC: u64 = 0x0027_e0eb;
/// `f_type` of the version 2 hierarchy (linux/magic.h).
pub(crate) const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;

const USUAL_ROOT: &str = "/sys/fs/cgroup";
const MOUNTINFO: &str = "/proc/self/mountinfo";
const OWN_CGROUPS: &str = "/proc/self/cgroup";

/// Version of a hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Version {
    /// One hierarchy of its own for some controllers (cgroups(7), "Cgroups version 1").
    V1,
    /// The unified hierarchy.
    V2,
}

/// How a host mounts its hierarchies, in systemd's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Version 2 alone.
    Unified,
    /// Version 1, and version 2 beside it.
    Hybrid,
    /// Version 1 alone.
    Legacy,
    /// None is mounted.
    Absent,
}

/// Name of a hierarchy that outlives a process: the second field of its line in `/proc/PID/cgroup`, empty for version 2.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HierarchyKey(String);

impl HierarchyKey {
    /// Whether the hierarchy is one of version 1 with this controller.
    #[must_use]
    pub fn has(&self, controller: &str) -> bool {
        self.0.split(',').any(|have| have == controller)
    }
}

impl fmt::Display for HierarchyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "v2" } else { &self.0 })
    }
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hierarchy {
    /// Its version.
    pub version: Version,
    /// Where it is mounted, as this process sees it.
    pub mount: String,
    /// Version 1: the controllers that are mounted together here. Version 2: what `writable` (or, where that is none,
    /// the mount point) can hand down.
    #[serde(default)]
    pub controllers: Vec<String>,
    /// Name of a version 1 hierarchy without controllers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The cgroup that this process is in, below the mount point.
    #[serde(default)]
    pub own: CgroupPath,
    /// The topmost directory on the way from the mount point to `own` in which this process may make directories;
    /// none: nothing is delegated to it.
    #[serde(default)]
    pub writable: Option<CgroupPath>,
}

impl Hierarchy {
    /// Its lasting name.
    #[must_use]
    pub fn key(&self) -> HierarchyKey {
        HierarchyKey(match (self.version, &self.name) {
            (Version::V2, _) => String::new(),
            (Version::V1, Some(name)) => format!("name={name}"),
            (Version::V1, None) => self.controllers.join(","),
        })
    }

    /// Whether it has a controller (for version 1: is mounted with it).
    #[must_use]
    pub fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|have| have == controller)
    }

    /// Whether directories may be made at or below `path`.
    #[must_use]
    pub fn may_write(&self, path: &CgroupPath) -> bool {
        self.writable.as_ref().is_some_and(|top| path.is_below_or_at(top))
    }

    /// The magic number that its file system must show.
    pub(crate) fn magic(&self) -> u64 {
        magic(self.version)
    }
}

pub(crate) fn magic(version: Version) -> u64 {
    match version {
        Version::V1 => CGROUP_SUPER_MAGIC,
        Version::V2 => CGROUP2_SUPER_MAGIC,
    }
}

/// The cgroup hierarchies of a host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Layout {
    /// In the order of `/proc/self/cgroup`; version 2, if mounted, last.
    pub hierarchies: Vec<Hierarchy>,
}

impl Layout {
    /// Looks at this machine: `/proc/self/mountinfo`, `/proc/self/cgroup`, each mount point's file system type, the
    /// right to write. Where `/sys/fs/cgroup` is version 2 and its root is the hierarchy's, mountinfo is not read.
    ///
    /// # Errors
    /// A file of procfs cannot be read or understood. A host without cgroups is an empty layout, not an error.
    pub fn probe() -> Result<Self> {
        let own = read(OWN_CGROUPS)?;
        let mut layout = match unified_alone(&own)? {
            Some(layout) => layout,
            None => {
                let mut layout = Self::parse(&read(MOUNTINFO)?, &own)?;
                layout.hierarchies.retain(is_what_it_says);
                layout
            }
        };
        for hierarchy in &mut layout.hierarchies {
            hierarchy.writable = find_writable(hierarchy);
            if hierarchy.version == Version::V2 {
                hierarchy.controllers = read_controllers(hierarchy)?;
            }
        }
        Ok(layout)
    }

    /// How the hierarchies are mounted.
    #[must_use]
    pub fn mode(&self) -> Mode {
        let any = |version| self.hierarchies.iter().any(|one| one.version == version);
        match (any(Version::V1), any(Version::V2)) {
            (false, true) => Mode::Unified,
            (true, true) => Mode::Hybrid,
            (true, false) => Mode::Legacy,
            (false, false) => Mode::Absent,
        }
    }

    /// The hierarchy whose files limit what `controller` controls.
    #[must_use]
    pub fn controller(&self, controller: &str) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|one| one.has(controller))
    }

    /// The version 2 hierarchy.
    #[must_use]
    pub fn v2(&self) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|one| one.version == Version::V2)
    }

    /// Reads the two texts; says nothing about what may be written or what version 2 offers.
    fn parse(mountinfo: &str, own: &str) -> Result<Self> {
        let mounts: Vec<Mount> = mountinfo.lines().filter_map(Mount::parse).collect();
        let mut hierarchies = Vec::new();
        for line in own.lines() {
            let mut fields = line.splitn(3, ':');
            let (Some(_), Some(names), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
                return Err(CgroupError::check(OWN_CGROUPS, format!("cannot read the line {line:?}")));
            };
            let version = if names.is_empty() { Version::V2 } else { Version::V1 };
            let Some(mount) = Mount::choose(&mounts, version, names, path) else { continue };
            hierarchies.push(hierarchy(version, names, mount.point.clone(), mount.below(path))?);
        }
        // The unified hierarchy is the last resort where both have a controller, so it is looked at last.
        hierarchies.sort_by_key(|one: &Hierarchy| one.version == Version::V2);
        Ok(Self { hierarchies })
    }
}

fn hierarchy(version: Version, names: &str, mount: String, own: Option<&str>) -> Result<Hierarchy> {
    let name = names.strip_prefix("name=").map(str::to_owned);
    let controllers = match (version, &name) {
        (Version::V1, None) => names.split(',').map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    // Outside of the mount (a cgroup namespace made after the mount): the mount point is the best that can be named.
    let own = CgroupPath::parse(own.unwrap_or(""))
        .map_err(|reason| CgroupError::check(OWN_CGROUPS, format!("the own cgroup {reason}")))?;
    Ok(Hierarchy { version, mount, controllers, name, own, writable: None })
}

/// A line of mountinfo that shows a cgroup file system (proc_pid_mountinfo(5)).
struct Mount {
    root: String,
    point: String,
    version: Version,
    options: String,
}

impl Mount {
    fn parse(line: &str) -> Option<Self> {
        let (mount, fs) = line.split_once(" - ")?;
        let mut fs = fs.split(' ');
        let version = match fs.next()? {
            "cgroup" => Version::V1,
            "cgroup2" => Version::V2,
            _ => return None,
        };
        let options = fs.nth(1)?.to_owned();
        let mut mount = mount.split(' ');
        let root = unescape(mount.nth(3)?)?;
        Some(Self { root, point: unescape(mount.next()?)?, version, options })
    }

    /// The mount through which `path` of a hierarchy is seen, those below `/sys/fs/cgroup` first.
    fn choose<'a>(mounts: &'a [Self], version: Version, names: &str, path: &str) -> Option<&'a Self> {
        let is_it = |mount: &&Self| {
            mount.version == version
                && (version == Version::V2
                    || names.split(',').all(|name| mount.options.split(',').any(|option| option == name)))
        };
        let rank = |mount: &&Self| (mount.below(path).is_none(), !mount.point.starts_with(USUAL_ROOT));
        mounts.iter().filter(is_it).min_by_key(rank)
    }

    /// `path` of the hierarchy, seen from the mount point.
    fn below<'a>(&self, path: &'a str) -> Option<&'a str> {
        if path.split('/').any(|part| part == "..") {
            return None;
        }
        match self.root.as_str() {
            "/" => Some(path),
            root => path.strip_prefix(root).filter(|rest| rest.is_empty() || rest.starts_with('/')),
        }
    }
}

/// Undoes mountinfo's octal escapes; none if what comes out is not text.
fn unescape(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let octal = (first == b'\\')
            .then(|| after.get(..3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                out.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                out.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8(out).ok()
}

/// The one line that a pure version 2 host needs, if this is one.
fn unified_alone(own: &str) -> Result<Option<Layout>> {
    let is_v2 = statfs(USUAL_ROOT)
        .is_ok_and(|fs| u64::try_from(fs.f_type).is_ok_and(|kind| kind == CGROUP2_SUPER_MAGIC));
    // Inode 1 is the root of the hierarchy; a cgroup namespace or a bind mount shows another (kernfs).
    if !is_v2 || !stat(USUAL_ROOT).is_ok_and(|root| root.st_ino == 1) {
        return Ok(None);
    }
    let Some(path) = own.lines().find_map(|line| line.strip_prefix("0::")) else { return Ok(None) };
    if path.split('/').any(|part| part == "..") {
        return Ok(None);
    }
    let v2 = hierarchy(Version::V2, "", USUAL_ROOT.to_owned(), Some(path))?;
    Ok(Some(Layout { hierarchies: vec![v2] }))
}

/// Mountinfo also lists mounts that others hide: what stands at the mount point now decides.
fn is_what_it_says(hierarchy: &Hierarchy) -> bool {
    statfs(hierarchy.mount.as_str())
        .is_ok_and(|fs| u64::try_from(fs.f_type).is_ok_and(|kind| kind == hierarchy.magic()))
}

fn find_writable(hierarchy: &Hierarchy) -> Option<CgroupPath> {
    let may = |path: &CgroupPath| {
        let full = Path::new(&hierarchy.mount).join(path.as_str());
        accessat(CWD, &full, Access::WRITE_OK, AtFlags::EACCESS).is_ok()
            && accessat(CWD, full.join("cgroup.procs"), Access::WRITE_OK, AtFlags::EACCESS).is_ok()
    };
    // A process can be moved only within a sub-tree whose top is writable, so the chain must have no gap.
    let root = CgroupPath::root();
    if may(&root) {
        return Some(root);
    }
    let mut steps = hierarchy.own.steps_below(&root);
    let mut top = None;
    while let Some(path) = steps.pop() {
        if !may(&path) {
            break;
        }
        top = Some(path);
    }
    top
}

fn read_controllers(hierarchy: &Hierarchy) -> Result<Vec<String>> {
    let top = hierarchy.writable.as_ref().map_or("", CgroupPath::as_str);
    let file = Path::new(&hierarchy.mount).join(top).join("cgroup.controllers");
    Ok(read(&file)?.split_ascii_whitespace().map(str::to_owned).collect())
}

/// A file of the kernel's; without the questions about size and position that std asks first.
fn read(path: impl AsRef<Path>) -> Result<String> {
    let fail = |errno: Option<Errno>| CgroupError {
        call: "read",
        path: path.as_ref().to_path_buf(),
        errno: errno.map(Errno::raw_os_error),
        pointer: None,
        note: errno.is_none().then(|| "it is not text".to_owned()),
    };
    let fd = open(path.as_ref(), OFlags::RDONLY | OFlags::CLOEXEC, rustix::fs::Mode::empty())
        .map_err(|errno| fail(Some(errno)))?;
    let mut bytes = Vec::with_capacity(4096);
    loop {
        match rustix::io::read(&fd, spare_capacity(&mut bytes)) {
            Ok(0) => break,
            Ok(_) => bytes.reserve(1024),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(fail(Some(errno))),
        }
    }
    String::from_utf8(bytes).map_err(|_| fail(None))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID_MOUNTS: &str = "\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:5 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
";
    const HYBRID_OWN: &str = "\
4:memory:/agent/160f
3:cpu,cpuacct:/
2:name=systemd:/system.slice/a:b.service
9:freezer:/
0::/system.slice/a:b.service
";

    #[test]
    fn hybrid_hosts() {
        let layout = Layout::parse(HYBRID_MOUNTS, HYBRID_OWN).unwrap();
        let shown: Vec<_> =
            layout.hierarchies.iter().map(|one| format!("{} {} {}", one.key(), one.mount, one.own)).collect();
        assert_eq!(
            shown,
            [
                "memory /sys/fs/cgroup/memory /agent/160f",
                "cpu,cpuacct /sys/fs/cgroup/cpu,cpuacct /",
                "name=systemd /sys/fs/cgroup/systemd /system.slice/a:b.service",
                "v2 /sys/fs/cgroup/unified /system.slice/a:b.service",
            ]
        );
        assert_eq!(layout.mode(), Mode::Hybrid);
        assert_eq!(layout.controller("cpuacct").unwrap().mount, "/sys/fs/cgroup/cpu,cpuacct");
        assert!(layout.controller("freezer").is_none(), "not mounted");
    }

    #[test]
    fn a_bind_mounted_part_of_the_hierarchy() {
        let mounts = "50 40 0:30 /docker/abc /sys/fs/cgroup ro,nosuid - cgroup2 cgroup rw\n";
        let layout = Layout::parse(mounts, "0::/docker/abc/inner\n").unwrap();
        assert_eq!(layout.hierarchies[0].own.to_string(), "/inner");
        // Not ours to see: neither a path of the same first letters, nor one above a cgroup namespace.
        for own in ["0::/docker/abcd\n", "0::/../x\n", "0::/docker/abc/../../x\n"] {
            assert!(Layout::parse(mounts, own).unwrap().hierarchies[0].own.is_root(), "{own}");
        }
    }

    #[test]
    fn the_mount_that_shows_us_is_chosen() {
        let mounts = "\
1 0 0:30 /other /mnt/other rw - cgroup2 cgroup rw
2 0 0:30 / /mnt/a\\040b\\134 rw - cgroup2 cgroup rw
3 0 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup rw
";
        let mount = |text: &str| Layout::parse(text, "0::/me\n").unwrap().hierarchies[0].mount.clone();
        assert_eq!(mount(mounts), "/sys/fs/cgroup/unified");
        assert_eq!(mount(&mounts[..mounts.find("3 0").unwrap()]), "/mnt/a b\\");
    }

    #[test]
    fn written_down_and_read_again() {
        let mut layout = Layout::parse(HYBRID_MOUNTS, HYBRID_OWN).unwrap();
        layout.hierarchies[3].writable = Some(CgroupPath::root());
        let text = serde_json::to_string(&layout).unwrap();
        assert_eq!(serde_json::from_str::<Layout>(&text).unwrap(), layout);
    }

    #[test]
    fn this_machine() {
        let layout = Layout::probe().unwrap();
        assert_ne!(layout.mode(), Mode::Absent);
        for one in &layout.hierarchies {
            let full = Path::new(&one.mount).join(one.own.as_str()).join("cgroup.procs");
            let pids = std::fs::read_to_string(&full).unwrap();
            let own = std::process::id().to_string();
            assert!(pids.lines().any(|pid| pid == own), "{full:?} does not list {own}");
        }
    }
}
