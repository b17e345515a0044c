//! Why this machine refuses: which switch forbids user namespaces, what hides a part of `/proc`.
//!
//! Only after a failure, and only for the hint. Must not: change anything. Tests: at the end of this file; `tests` package, nested.

/// Files below `/proc/sys`, the value with which each forbids user namespaces, and what to say.
const SWITCHES: [(&str, &str, &str); 3] = [
    (
        "user/max_user_namespaces",
        "0",
        "the sysctl user.max_user_namespaces is 0: no user namespace can be made here",
    ),
    (
        "kernel/unprivileged_userns_clone",
        "0",
        "the sysctl kernel.unprivileged_userns_clone is 0: only root can make user namespaces",
    ),
    (
        "kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "the sysctl kernel.apparmor_restrict_unprivileged_userns is 1: without an AppArmor profile that allows `userns`, a user namespace gives no rights",
    ),
];

/// What forbids user namespaces to this process, as far as a sysctl does.
pub(crate) fn user_namespaces() -> Option<&'static str> {
    forbidden(|file| std::fs::read_to_string(format!("/proc/sys/{file}")).ok())
}

fn forbidden(read: impl Fn(&str) -> Option<String>) -> Option<&'static str> {
    SWITCHES
        .iter()
        .find(|(file, value, _)| read(file).is_some_and(|text| text.trim() == *value))
        .map(|(.., says)| *says)
}

/// What is mounted over parts of `/proc` (or `/sys`), which keeps the kernel from giving a full one to a user namespace
/// (mount_namespaces(7), "Restrictions on mount namespaces"): a container in a container has it.
pub(crate) fn covered(top: &str) -> Option<String> {
    covers(&std::fs::read_to_string("/proc/thread-self/mountinfo").ok()?, top)
}

fn covers(mounts: &str, top: &str) -> Option<String> {
    let below = |line: &&str| line.strip_prefix(top).is_some_and(|rest| rest.starts_with('/'));
    let mut found = mounts.lines().filter_map(|line| line.split(' ').nth(4)).filter(below);
    let first = found.next()?;
    let more = match found.count() {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    Some(format!(
        "{first}{more} is covered here, and only what is seen whole is given to a user namespace: run the outer container without masked and read-only paths, or bind its {top} instead"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_switch_that_is_off_is_named() {
        let with = |files: &'static [(&'static str, &'static str)]| {
            forbidden(move |file| {
                files.iter().find(|(name, _)| *name == file).map(|(_, text)| (*text).to_owned())
            })
        };
        assert_eq!(with(&[]), None);
        assert_eq!(
            with(&[("user/max_user_namespaces", "31231\n"), ("kernel/unprivileged_userns_clone", "1\n")]),
            None
        );
        for (files, says) in [
            (&[("user/max_user_namespaces", "0\n")][..], "user.max_user_namespaces"),
            (&[("kernel/unprivileged_userns_clone", "0\n")], "unprivileged_userns_clone"),
            (&[("kernel/apparmor_restrict_unprivileged_userns", "1\n")], "AppArmor"),
        ] {
            assert!(with(files).unwrap().contains(says));
        }
    }

    #[test]
    fn what_covers_a_part_is_named() {
        let mounts = "24 30 0:22 / /proc rw - proc proc rw\n25 24 0:5 /null /proc/kcore rw - devtmpfs udev rw\n\
                      26 24 0:22 /sys /proc/sys ro - proc proc rw\n27 30 0:9 / /process rw - tmpfs tmpfs rw\n";
        assert!(covers(mounts, "/proc").unwrap().starts_with("/proc/kcore and 1 more is covered"));
        assert_eq!(covers(mounts, "/sys"), None);
        assert_eq!(covers("", "/proc"), None);
    }
}
