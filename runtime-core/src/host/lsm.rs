//! Which security modules that label processes are enabled.
//!
//! Must not: be asked when no label is asked for. Tests: at the end of this file; `tests` package, lsm.

use crate::error::{Error, Phase, Result};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// Security modules that are enabled on the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct SecurityModules {
    /// AppArmor, with profiles that can be taken on.
    pub apparmor: bool,
    /// SELinux.
    pub selinux: bool,
}

/// `Y` or `N`; absent without the module.
const APPARMOR: &str = "/sys/module/apparmor/parameters/enabled";
/// Where selinuxfs is by agreement (libselinux).
const SELINUX: &str = "/sys/fs/selinux";
/// `SELINUX_MAGIC` (linux/magic.h).
const SELINUX_MAGIC: u32 = 0xf97c_ff8c;

impl SecurityModules {
    /// Asks this machine.
    ///
    /// # Errors
    /// When the files are there and cannot be read.
    pub fn probe() -> Result<Self> {
        let broken = |path: &str, e: std::io::Error| {
            Error::os("ask for security modules", e).with_path(path).in_phase(Phase::Plan)
        };
        let apparmor = match std::fs::read(APPARMOR) {
            Ok(text) => text.first() == Some(&b'Y'),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => false,
            Err(e) => return Err(broken(APPARMOR, e)),
        };
        let selinux = match rustix::fs::statfs(SELINUX) {
            // The kernel's type is signed here and there, the magic a number of 32 bits everywhere.
            Ok(stat) => i128::from(stat.f_type) & 0xffff_ffff == i128::from(SELINUX_MAGIC) && has_policy()?,
            Err(Errno::NOENT) => false,
            Err(e) => return Err(broken(SELINUX, e.into())),
        };
        Ok(Self { apparmor, selinux })
    }
}

/// Without a loaded policy every process is `kernel`, and every label is taken and means nothing.
fn has_policy() -> Result<bool> {
    const OWN: &str = "/proc/thread-self/attr/current";
    let label = std::fs::read(OWN)
        .map_err(|e| Error::os("read the runtime's own label", e).with_path(OWN).in_phase(Phase::Plan))?;
    Ok(label.strip_suffix(b"\0").unwrap_or(&label) != b"kernel")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_says_what_the_kernel_says() {
        let found = SecurityModules::probe().unwrap();
        // The kernel's own list, where securityfs is mounted.
        let Ok(list) = std::fs::read_to_string("/sys/kernel/security/lsm") else { return };
        let has = |name: &str| list.trim().split(',').any(|word| word == name);
        assert_eq!(found.apparmor, has("apparmor"), "{list}");
        assert!(!found.selinux || has("selinux"), "{list}");
    }
}
