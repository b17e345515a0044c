//! What a case needs of the machine. A case whose need is not met is skipped, and counted: the number of skips of a
//! suite is compared with the expected one, so that a machine cannot quietly stop testing something.

use crate::cgroup;
use std::fs;
use std::path::Path;

/// A requirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The suite runs as root.
    Root,
    /// Limits of this controller can be set, whatever the version.
    Controller(&'static str),
    /// The hierarchies are those of version 1, with this controller.
    CgroupV1(&'static str),
    /// One hierarchy of version 2.
    CgroupV2,
    /// The runtime itself makes the cgroups: the case has one made, or looks at one, that is nobody's unit.
    FsDriver,
    /// systemd makes them.
    SystemdDriver,
    /// The machine is the suite's own and ends with it (`OWN_MACHINE`): it may be reconfigured.
    OwnMachine,
    /// An empty disk that nobody else uses: [`disk`].
    Disk,
    /// systemd is the machine's first program, and version 2 its only hierarchy.
    Systemd,
    /// This process has the capability (by its bit), which containers are to get.
    Capability(u32, &'static str),
    /// User namespaces can be made.
    UserNamespaces,
    /// A static busybox.
    Busybox,
    /// A file of the machine.
    File(&'static str),
    /// A program in the usual directories.
    Program(&'static str),
    /// At least this kernel.
    Kernel(u32, u32),
    /// More than one processor.
    Processors(usize),
}

/// CAP_SYS_RESOURCE: raising limits, lowering the oom score.
pub const SYS_RESOURCE: Need = Need::Capability(24, "CAP_SYS_RESOURCE");
/// CAP_SYS_TIME.
pub const SYS_TIME: Need = Need::Capability(25, "CAP_SYS_TIME");

impl Need {
    /// `None` when it is met, else the reason.
    pub fn missing(self) -> Option<String> {
        let (met, reason) = match self {
            Self::Root => (rustix::process::geteuid().is_root(), "needs root".to_owned()),
            Self::Controller(name) => (cgroup::has(name), format!("needs the cgroup controller {name}")),
            Self::CgroupV1(name) => (
                cgroup::mode() == cgroup::Mode::Version1 && cgroup::has(name),
                format!("needs the cgroup v1 hierarchy {name}"),
            ),
            Self::FsDriver => {
                (cgroup::driver() == cgroup::Driver::Fs, "needs cgroups that the runtime makes".to_owned())
            }
            Self::SystemdDriver => {
                (cgroup::driver() == cgroup::Driver::Systemd, "needs cgroups that systemd makes".to_owned())
            }
            Self::OwnMachine => (own_machine(), "needs a machine of its own".to_owned()),
            Self::Disk => (disk().is_some(), "needs a disk of its own".to_owned()),
            Self::Systemd => (
                cgroup::mode() == cgroup::Mode::Version2 && Path::new("/run/systemd/system").exists(),
                "needs systemd".to_owned(),
            ),
            Self::CgroupV2 => (cgroup::mode() == cgroup::Mode::Version2, "needs cgroup v2".to_owned()),
            Self::Capability(bit, name) => (own_capability(bit), format!("needs {name}")),
            Self::UserNamespaces => (user_namespaces(), "needs user namespaces".to_owned()),
            Self::Busybox => (busybox().is_some(), "needs a static busybox".to_owned()),
            Self::File(path) => (Path::new(path).exists(), format!("needs {path}")),
            Self::Program(name) => (program(name).is_some(), format!("needs the program {name}")),
            Self::Kernel(major, minor) => {
                (kernel() >= (major, minor), format!("needs Linux {major}.{minor}"))
            }
            Self::Processors(count) => (
                std::thread::available_parallelism().is_ok_and(|have| have.get() >= count),
                format!("needs {count} processors"),
            ),
        };
        (!met).then_some(reason)
    }
}

fn own_machine() -> bool {
    std::env::var_os("OWN_MACHINE").is_some() && rustix::process::geteuid().is_root()
}

/// The numbers of the empty disk of a machine of its own.
pub fn disk() -> Option<(u32, u32)> {
    let text = fs::read_to_string("/sys/block/vdb/dev").ok().filter(|_| own_machine())?;
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn own_capability(bit: u32) -> bool {
    let own = i32::try_from(std::process::id()).ok();
    let word = own.and_then(|pid| crate::host::status_field(pid, "CapBnd"));
    word.and_then(|word| u64::from_str_radix(&word, 16).ok()).is_some_and(|bits| bits & (1 << bit) != 0)
}

fn user_namespaces() -> bool {
    let number = |path: &str| fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    number("/proc/sys/user/max_user_namespaces").is_some_and(|most| most > 0)
        && number("/proc/sys/kernel/unprivileged_userns_clone") != Some(0)
        && number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") != Some(1)
}

/// A busybox that needs no libraries.
pub fn busybox() -> Option<&'static Path> {
    let found = Path::new("/usr/bin/busybox");
    let found = if found.exists() { found } else { Path::new("/bin/busybox") };
    // A dynamic program names its interpreter in its first page.
    let bytes = fs::read(found).ok()?;
    let head = bytes.get(..4096)?;
    let dynamic = head.windows(7).any(|window| window == b"/ld-lin" || window == b"/ld-mus");
    (!dynamic).then_some(found)
}

/// Finds a program in the directories where a system keeps them.
pub fn program(name: &str) -> Option<std::path::PathBuf> {
    let dirs = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    dirs.iter().map(|dir| Path::new(dir).join(name)).find(|path| path.exists())
}

/// The running kernel's version.
pub fn kernel() -> (u32, u32) {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut parts = text.split(|sign: char| !sign.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}
