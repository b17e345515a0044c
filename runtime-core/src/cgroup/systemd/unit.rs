//! The unit of a container: its name, its place, and what systemd has to know of its limits so that it never writes other ones over ours.
//!
//! The limits come from the writes that the conversion of the resources made, so that files and unit cannot disagree.
//! Must not: talk to systemd. Tests: at the end of the file.

use super::wire::{Property, Value};
use crate::cgroup::error::Refusal;
use crate::cgroup::path::{CGROUPS_PATH, CgroupPath};
use crate::cgroup::resources::Write;

/// Microseconds.
const SECOND: u64 = 1_000_000;
/// What the kernel has when none is set (`cpu.max`).
const PERIOD: u64 = 100_000;
/// systemd keeps CPU time to a hundredth of a percent; what is finer is rounded up, so that a reload never takes any away.
const FINEST: u64 = 100;
/// systemd's word for "no limit".
const INFINITY: u64 = u64::MAX;

/// Where a container's scope is: `slice:prefix:name` of `linux.cgroupsPath`, or the defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scope {
    pub(crate) slice: String,
    pub(crate) name: String,
}

impl Scope {
    /// Reads `linux.cgroupsPath`.
    ///
    /// # Errors
    /// The sentence that says what cannot stand.
    pub(crate) fn read(cgroups_path: Option<&str>, id: &str, user: bool) -> Result<Self, Refusal> {
        let refuse = |reason: &str| Err(Refusal::new(CGROUPS_PATH, reason));
        let default = if user { "user.slice" } else { "system.slice" };
        let (slice, prefix, name) = match cgroups_path.filter(|text| !text.is_empty()) {
            None => (default, "coracle", id),
            Some(text) => {
                let mut parts = text.split(':');
                match (parts.next(), parts.next(), parts.next(), parts.next()) {
                    (Some(slice), Some(prefix), Some(name), None) => {
                        (if slice.is_empty() { default } else { slice }, prefix, name)
                    }
                    _ => return refuse("is not of the form slice:prefix:name, which systemd needs"),
                }
            }
        };
        if name.is_empty() {
            return refuse("names no unit: the part after the second colon is empty");
        }
        if name.ends_with(".slice") {
            return refuse("names a slice as the container's own unit; it has to be a scope");
        }
        let name = if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
        let scope = Self { slice: slice.to_owned(), name };
        for (unit, what) in [(&scope.slice, "slice"), (&scope.name, "scope")] {
            let good = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\@".contains(&byte);
            if unit.len() > 255 || !unit.bytes().all(good) {
                return refuse(&format!("has a part that is no name of a {what}: {unit:?}"));
            }
        }
        match scope.slice_path() {
            Some(_) => Ok(scope),
            None => refuse(
                "names a slice that cannot be: it ends with .slice, and has no empty part between dashes",
            ),
        }
    }

    /// The directory of the slice below that of its manager (systemd.slice(5)): `a-b.slice` lies in `a.slice`.
    fn slice_path(&self) -> Option<CgroupPath> {
        let stem = self.slice.strip_suffix(".slice")?;
        if stem == "-" {
            return Some(CgroupPath::root());
        }
        let (mut path, mut name) = (Vec::new(), String::new());
        for part in stem.split('-') {
            if part.is_empty() {
                return None;
            }
            if !name.is_empty() {
                name.push('-');
            }
            name.push_str(part);
            path.push(format!("{name}.slice"));
        }
        CgroupPath::parse(&path.join("/")).ok()
    }

    /// Where systemd will make the cgroup, below that of the manager.
    pub(crate) fn path(&self) -> CgroupPath {
        let name = CgroupPath::parse(&self.name).unwrap_or_default();
        self.slice_path().unwrap_or_default().join(&name)
    }
}

/// What systemd is told of the limits.
///
/// # Errors
/// A value that it could not keep.
pub(crate) fn limits(writes: &[Write]) -> Vec<Property> {
    let mut all: Vec<Property> = Vec::new();
    let mut set = |name: &str, value: Value| match all.iter_mut().find(|(have, _)| have == name) {
        // The last one counts, as it does for the file; rates are for one device each.
        Some((_, Value::Rates(have))) if matches!(value, Value::Rates(_)) => {
            if let Value::Rates(more) = value {
                have.extend(more);
            }
        }
        Some((_, have)) => *have = value,
        None => all.push((name.to_owned(), value)),
    };
    for write in writes {
        let number = || Value::Number(amount(&write.value));
        match write.file.as_str() {
            "memory.max" => set("MemoryMax", number()),
            "memory.high" => set("MemoryHigh", number()),
            "memory.low" => set("MemoryLow", number()),
            "memory.min" => set("MemoryMin", number()),
            "memory.swap.max" => set("MemorySwapMax", number()),
            // Its own word for this file, which it writes with every reload (253).
            "memory.oom.group" => {
                let policy = if write.value == "1" { "kill" } else { "continue" };
                set("OOMPolicy", Value::Text(policy.to_owned()));
            }
            "pids.max" => set("TasksMax", number()),
            "cpu.weight" => set("CPUWeight", number()),
            // systemd's way to say it (252).
            "cpu.idle" if write.value == "1" => set("CPUWeight", Value::Number(0)),
            "cpu.max" => {
                let mut words = write.value.split_ascii_whitespace();
                let quota = words.next().map_or(INFINITY, amount);
                let period = words.next().map_or(PERIOD, amount).max(1);
                let per_second = match quota {
                    INFINITY => INFINITY,
                    quota => {
                        let exact = quota.saturating_mul(SECOND).div_ceil(period);
                        exact.checked_next_multiple_of(FINEST).unwrap_or(INFINITY)
                    }
                };
                set("CPUQuotaPerSecUSec", Value::Number(per_second));
                set("CPUQuotaPeriodUSec", Value::Number(period));
            }
            "cpuset.cpus" => set("AllowedCPUs", Value::Bytes(mask(&write.value))),
            "cpuset.mems" => set("AllowedMemoryNodes", Value::Bytes(mask(&write.value))),
            "io.weight" => set("IOWeight", number()),
            "io.max" => {
                let Some((device, pairs)) = write.value.split_once(' ') else { continue };
                for (key, rate) in pairs.split(' ').filter_map(|pair| pair.split_once('=')) {
                    let name = match key {
                        "rbps" => "IOReadBandwidthMax",
                        "wbps" => "IOWriteBandwidthMax",
                        "riops" => "IOReadIOPSMax",
                        "wiops" => "IOWriteIOPSMax",
                        _ => continue,
                    };
                    set(name, Value::Rates(vec![(format!("/dev/block/{device}"), amount(rate))]));
                }
            }
            // No property of systemd's: it leaves these files alone.
            _ => {}
        }
    }
    all
}

fn amount(text: &str) -> u64 {
    text.trim().parse().unwrap_or(INFINITY)
}

/// The bits of a list like `0-3,7`, the lowest first.
fn mask(list: &str) -> Vec<u8> {
    let mut bytes: Vec<u8> = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) else { continue };
        for bit in first..=last {
            let (byte, shift) = (usize::from(bit / 8), bit % 8);
            if bytes.len() <= byte {
                bytes.resize(byte + 1, 0);
            }
            if let Some(place) = bytes.get_mut(byte) {
                *place |= 1 << shift;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Layout;
    use crate::cgroup::resources::plan;

    fn scope(path: Option<&str>) -> Result<(String, String), String> {
        let scope = Scope::read(path, "web", false).map_err(|refusal| refusal.reason)?;
        Ok((scope.path().to_string(), scope.name))
    }

    #[test]
    fn names_follow_runc() {
        let good = |path: Option<&str>| scope(path).unwrap();
        let pair = |path: &str, name: &str| (path.to_owned(), name.to_owned());
        assert_eq!(good(None), pair("/system.slice/coracle-web.scope", "coracle-web.scope"));
        assert_eq!(good(Some("")), good(None));
        assert_eq!(
            good(Some("machine.slice:libpod:77")),
            pair("/machine.slice/libpod-77.scope", "libpod-77.scope")
        );
        assert_eq!(
            good(Some("kubepods-burstable-pod1.slice:cri-containerd:ab")),
            pair(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-ab.scope",
                "cri-containerd-ab.scope"
            )
        );
        assert_eq!(good(Some("-.slice::x")), pair("/x.scope", "x.scope"));
        assert_eq!(good(Some(":docker:x")), pair("/system.slice/docker-x.scope", "docker-x.scope"));
        let user = Scope::read(None, "web", true).unwrap();
        assert_eq!(user.path().to_string(), "/user.slice/coracle-web.scope");
        for wrong in [
            "/a/b",
            "a:b",
            "a.slice:b:c:d",
            "a:b:c",
            "a--b.slice:x:y",
            "a.slice:x:",
            "a.slice:x:y.slice",
            "a.slice:x:y/z",
        ] {
            assert!(scope(Some(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_unit_says_what_the_files_say() {
        let layout: Layout = serde_json::from_str(
            r#"{"hierarchies": [{"version": "v2", "mount": "/sys/fs/cgroup", "writable": "",
                "controllers": ["cpu", "cpuset", "memory", "pids", "io", "hugetlb"]}]}"#,
        )
        .unwrap();
        let shown = |json: &str| {
            let writes = plan(&serde_json::from_str(json).unwrap(), &layout).unwrap();
            limits(&writes)
        };
        let number = |name: &str, value| (name.to_owned(), Value::Number(value));
        assert_eq!(
            shown(r#"{"memory": {"limit": 1000, "swap": 3000, "reservation": 7}, "pids": {"limit": -1}}"#),
            [
                number("TasksMax", u64::MAX),
                number("MemoryMax", 1000),
                number("MemorySwapMax", 2000),
                number("MemoryLow", 7)
            ]
        );
        assert_eq!(
            shown(
                r#"{"cpu": {"shares": 1024, "quota": 25000, "period": 50000, "cpus": "0-3,9", "mems": "0"}}"#
            ),
            [
                number("CPUWeight", 100),
                number("CPUQuotaPerSecUSec", 500_000),
                number("CPUQuotaPeriodUSec", 50_000),
                ("AllowedCPUs".to_owned(), Value::Bytes(vec![0b1111, 0b10])),
                ("AllowedMemoryNodes".to_owned(), Value::Bytes(vec![1])),
            ]
        );
        assert_eq!(
            shown(r#"{"cpu": {"quota": -1}}"#),
            [number("CPUQuotaPerSecUSec", u64::MAX), number("CPUQuotaPeriodUSec", 100_000)]
        );
        assert_eq!(
            shown(r#"{"cpu": {"quota": 20000, "period": 60000}}"#),
            [number("CPUQuotaPerSecUSec", 333_400), number("CPUQuotaPeriodUSec", 60_000)]
        );
        assert_eq!(shown(r#"{"cpu": {"idle": 1}}"#), [number("CPUWeight", 0)]);
        assert_eq!(
            shown(
                r#"{"unified": {"memory.high": "5", "memory.oom.group": "1"}, "hugepageLimits": [{"pageSize": "2MB", "limit": 1}]}"#
            ),
            [number("MemoryHigh", 5), ("OOMPolicy".to_owned(), Value::Text("kill".to_owned()))]
        );
        let throttle = r#"{"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 5}, {"major": 8, "minor": 1, "rate": 0}]}}"#;
        let rates = vec![("/dev/block/8:0".to_owned(), 5), ("/dev/block/8:1".to_owned(), u64::MAX)];
        assert_eq!(shown(throttle), [("IOReadBandwidthMax".to_owned(), Value::Rates(rates))]);
    }
}
