//! Descriptors that systemd passes on by socket activation (sd_listen_fds(3)): they go on to the container's program.
//!
//! Must not: touch the descriptors. Tests: at the end of the file.

use coracle::Error;

use crate::args::usage;

/// How many descriptors from 3 on are meant for us.
///
/// # Errors
/// `LISTEN_FDS` is no number.
pub fn descriptors() -> Result<u32, Error> {
    let variable = |name| std::env::var(name).ok();
    count(
        variable("LISTEN_FDS").as_deref(),
        variable("LISTEN_PID").as_deref(),
        rustix::process::getpid().as_raw_pid(),
    )
}

fn count(fds: Option<&str>, pid: Option<&str>, own: i32) -> Result<u32, Error> {
    match (fds, pid.and_then(|pid| pid.parse::<i32>().ok())) {
        (Some(fds), Some(pid)) if pid == own && !fds.is_empty() => {
            fds.parse().map_err(|_| usage(format!("LISTEN_FDS is no number: {fds:?}")))
        }
        // They are for another process, or there are none.
        _ => Ok(0),
    }
}

/// Says in the program's environment that there are so many; it is process 1 for itself.
pub fn announce(count: u32) -> Vec<String> {
    if count == 0 {
        return Vec::new();
    }
    let names = std::env::var("LISTEN_FDNAMES").ok().map(|names| format!("LISTEN_FDNAMES={names}"));
    [format!("LISTEN_FDS={count}"), "LISTEN_PID=1".to_owned()].into_iter().chain(names).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_meant_for_this_process() {
        assert_eq!(count(Some("2"), Some("10"), 10).expect("legal"), 2);
        for (fds, pid) in [
            (None, None),
            (Some("2"), None),
            (Some("2"), Some("11")),
            (Some(""), Some("10")),
            (None, Some("10")),
        ] {
            assert_eq!(count(fds, pid, 10).expect("legal"), 0, "{fds:?} {pid:?}");
        }
        assert!(count(Some("x"), Some("10"), 10).is_err());
        assert!(count(Some("-1"), Some("10"), 10).is_err());
    }
}
