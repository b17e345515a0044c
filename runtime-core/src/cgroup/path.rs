//! Where a container's cgroup is, as text that can do no harm.
//!
//! Must not: touch the file system. A path is only ever opened component by component below a verified mount.
//! Tests: in this file.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::error::Refusal;
use super::layout::{Hierarchy, Version};

/// Longest name of one directory (NAME_MAX).
const MAX_COMPONENT: usize = 255;
/// Longest path, well below PATH_MAX together with any mount point.
const MAX_PATH: usize = 3072;

/// JSON pointer of the property that this module reads.
pub const CGROUPS_PATH: &str = "/linux/cgroupsPath";

/// A cgroup's place below the mount point of its hierarchy; the empty one is the mount point itself.
///
/// Holding one proves: no component is empty, `.`, `..` or longer than 255 bytes, none has a NUL or a newline, none
/// starts with `cgroup.` (the kernel keeps that prefix for its files).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CgroupPath(String);

impl CgroupPath {
    /// The mount point itself.
    #[must_use]
    pub fn root() -> Self {
        Self(String::new())
    }

    /// Reads `a/b` or `/a/b`; both mean the same place.
    ///
    /// # Errors
    /// The sentence that says which component cannot stand.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix('/').unwrap_or(text);
        if text.is_empty() {
            return Ok(Self::root());
        }
        if text.len() > MAX_PATH {
            return Err(format!("is longer than {MAX_PATH} bytes"));
        }
        for part in text.split('/') {
            check_component(part)?;
        }
        Ok(Self(text.to_owned()))
    }

    /// The path without a leading slash; empty for the mount point.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the mount point itself.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The names from the mount point down.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').filter(|part| !part.is_empty())
    }

    /// The directory above; the mount point has none.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        Some(Self(self.0.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned()))
    }

    /// The last name; empty for the mount point.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.rsplit_once('/').map_or(self.as_str(), |(_, name)| name)
    }

    /// `other` below this one.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        match (self.is_root(), other.is_root()) {
            (true, _) => other.clone(),
            (_, true) => self.clone(),
            _ => Self(format!("{}/{}", self.0, other.0)),
        }
    }

    /// Whether this one is `above` or below it.
    #[must_use]
    pub fn is_below_or_at(&self, above: &Self) -> bool {
        above.is_root()
            || self.0 == above.0
            || self.0.strip_prefix(above.as_str()).is_some_and(|rest| rest.starts_with('/'))
    }

    /// The directories from just below `top` down to and including this one.
    pub(crate) fn steps_below(&self, top: &Self) -> Vec<Self> {
        let mut steps = Vec::new();
        let mut here = Some(self.clone());
        while let Some(path) = here.filter(|path| path != top && !path.is_root()) {
            here = path.parent();
            steps.push(path);
        }
        steps.reverse();
        steps
    }
}

fn check_component(part: &str) -> Result<(), String> {
    let wrong = match part {
        "" => "has an empty component",
        "." | ".." => "has a component \".\" or \"..\"",
        _ if part.contains('\0') => "has a NUL byte",
        _ if part.contains('\n') => "has a newline",
        _ if part.len() > MAX_COMPONENT => "has a component longer than 255 bytes",
        _ if part.starts_with("cgroup.") => {
            "has a component that starts with \"cgroup.\", which the kernel keeps for itself"
        }
        _ => return Ok(()),
    };
    Err(wrong.to_owned())
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.0)
    }
}

impl TryFrom<String> for CgroupPath {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<CgroupPath> for String {
    fn from(path: CgroupPath) -> Self {
        path.0
    }
}

/// What the configuration says about the place, before a hierarchy is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wish {
    /// `/a/b`: below the mount point of each hierarchy.
    Absolute(CgroupPath),
    /// `a/b`: below a place that the runtime chooses, see [`base`].
    Relative(CgroupPath),
    /// Nothing: one directory of the runtime's own naming below [`base`].
    Default(CgroupPath),
}

impl Wish {
    /// Reads `linux.cgroupsPath`. Without one the directory is `coracle-ID`: a single level, so that no directory is
    /// shared by containers that would have to agree on who removes it.
    ///
    /// `.`, `..` and empty components are refused, where runc cleans them away.
    pub(crate) fn read(cgroups_path: Option<&str>, id: &str) -> Result<Self, Refusal> {
        let refuse = |reason: String| Refusal::new(CGROUPS_PATH, reason);
        let Some(text) = cgroups_path.filter(|text| !text.is_empty()) else {
            let path = CgroupPath::parse(&format!("coracle-{id}"));
            let path = path.and_then(|path| match path.components().count() {
                1 => Ok(path),
                _ => Err("the id does not make one directory name".to_owned()),
            });
            return path.map(Self::Default).map_err(refuse);
        };
        let path = CgroupPath::parse(text).map_err(refuse)?;
        if path.is_root() {
            return Err(refuse(
                "names the root of the hierarchy, which cannot be a container's cgroup".to_owned(),
            ));
        }
        Ok(if text.starts_with('/') { Self::Absolute(path) } else { Self::Relative(path) })
    }

    /// Whether the configuration named a place.
    pub(crate) fn is_explicit(&self) -> bool {
        !matches!(self, Self::Default(_))
    }

    /// The place in one hierarchy.
    pub(crate) fn place(&self, hierarchy: &Hierarchy) -> CgroupPath {
        match self {
            Self::Absolute(path) => path.clone(),
            Self::Relative(path) | Self::Default(path) => base(hierarchy).join(path),
        }
    }
}

/// Where relative places start: the runtime's own cgroup on version 1 and, on version 2, the directory above it,
/// as the runtime's own one has processes and so cannot hand controllers to children ("no internal processes"). This
/// is runc's choice for its cgroupfs driver. Where the directory above is not ours to write, the runtime's own.
pub(crate) fn base(hierarchy: &Hierarchy) -> CgroupPath {
    let own = hierarchy.own.clone();
    if hierarchy.version == Version::V1 {
        return own;
    }
    match own.parent() {
        Some(parent) if hierarchy.may_write(&parent) => parent,
        _ => own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> CgroupPath {
        CgroupPath::parse(text).unwrap()
    }

    fn v2(own: &str, writable: Option<&str>) -> Hierarchy {
        Hierarchy {
            version: Version::V2,
            mount: "/sys/fs/cgroup".into(),
            controllers: vec![],
            name: None,
            own: path(own),
            writable: writable.map(path),
        }
    }

    #[test]
    fn components_that_could_leave_the_place_are_refused() {
        for text in ["..", "/..", "a/../b", "a/./b", "a//b", "/a/", "//", "a\0b", "a\nb", "x/cgroup.procs"] {
            assert!(CgroupPath::parse(text).is_err(), "{text:?}");
        }
        assert!(CgroupPath::parse(&"x".repeat(256)).is_err());
        assert!(CgroupPath::parse(&"x/".repeat(2000)).is_err());
        assert_eq!(path("/kubepods/pod1").as_str(), "kubepods/pod1");
        assert!(path("/").is_root());
    }

    #[test]
    fn serde_keeps_the_proof() {
        assert!(serde_json::from_str::<CgroupPath>("\"a/../b\"").is_err());
        let kept: CgroupPath = serde_json::from_str("\"a/b\"").unwrap();
        assert_eq!(serde_json::to_string(&kept).unwrap(), "\"a/b\"");
    }

    #[test]
    fn steps_go_down_from_the_top() {
        let steps: Vec<String> =
            path("a/b/c").steps_below(&path("a")).iter().map(ToString::to_string).collect();
        assert_eq!(steps, ["/a/b", "/a/b/c"]);
        assert_eq!(path("a/b").steps_below(&CgroupPath::root()).len(), 2);
        assert!(path("ab").is_below_or_at(&CgroupPath::root()));
        assert!(!path("ab").is_below_or_at(&path("a")));
    }

    #[test]
    fn places_follow_runc() {
        let absolute = Wish::read(Some("/default/x1"), "x1").unwrap();
        let relative = Wish::read(Some("machine.slice:libpod:77"), "x1").unwrap();
        let default = Wish::read(None, "x1").unwrap();
        let service = v2("system.slice/agent.service", Some(""));
        assert_eq!(absolute.place(&service).to_string(), "/default/x1");
        assert_eq!(relative.place(&service).to_string(), "/system.slice/machine.slice:libpod:77");
        assert_eq!(default.place(&service).to_string(), "/system.slice/coracle-x1");

        let mut v1 = v2("process/abc", Some(""));
        v1.version = Version::V1;
        assert_eq!(absolute.place(&v1).to_string(), "/default/x1");
        assert_eq!(default.place(&v1).to_string(), "/process/abc/coracle-x1");

        // Only the own cgroup is delegated: its parent is not ours to write.
        let user = v2("user.slice/app.scope", Some("user.slice/app.scope"));
        assert_eq!(default.place(&user).to_string(), "/user.slice/app.scope/coracle-x1");
        assert_eq!(Wish::read(Some("/"), "x").unwrap_err().pointer, CGROUPS_PATH);
        assert!(Wish::read(None, "a/b").is_err());
    }
}
