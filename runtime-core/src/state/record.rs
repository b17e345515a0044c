//! The record of one container: what later commands need, for its configuration is never read again.
//!
//! Types of its own, versioned: a container made by an older program is started, killed and deleted by a newer one. Within a
//! version fields are only added, with a default; unknown ones are ignored. Anything else is a new version.
//!
//! Must not: be believed. Process, namespaces and cgroup are compared with the kernel before anything is done to them. Tests: at the
//! end of this file, with a record of each version in `tests/data`.

use super::later::Later;
use crate::cgroup::CgroupRecord;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::process::Identity;
use crate::rdt::RdtRecord;
use crate::spec::{Hook, Process, Resources};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// The version that is written.
pub(crate) const VERSION: u32 = 1;
/// The largest record that is read, in bytes.
pub(crate) const MAX_LEN: u64 = 4 << 20;

/// How far `create` came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Progress {
    /// Written before the first side effect: what may exist, should its writer be killed.
    #[default]
    Intent,
    /// `create` is done; init waits at the gate, runs or is dead.
    Created,
}

/// Everything that is kept about one container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    version: u32,
    /// The boot that the process numbers and inodes belong to; absent where the directory itself does not outlive it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) boot: Option<String>,
    /// The container's identifier.
    pub(crate) id: String,
    /// Version of the program that wrote it.
    pub(crate) creator: String,
    /// How far `create` came.
    pub(crate) progress: Progress,
    /// `ociVersion` of the configuration.
    pub(crate) oci_version: String,
    /// Absolute path of the bundle.
    pub(crate) bundle: PathBuf,
    /// Absolute path of the root file system.
    pub(crate) rootfs: PathBuf,
    /// When it was created: RFC 3339 with nanoseconds, see [`timestamp`].
    pub(crate) created: String,
    /// Effective user id of its creator.
    pub(crate) owner: u32,
    /// Annotations of the configuration.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
    /// The init process; absent in an intent, and when the machine was booted since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) init: Option<Identity>,
    /// The namespaces of init that it does not share with its creator.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) namespaces: Vec<NamespaceRecord>,
    /// Its cgroup: in an intent the one that will be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cgroup: Option<CgroupRecord>,
    /// Its limits, as they were asked for last; absent without any, and where an older program made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resources: Option<Later<Resources>>,
    /// Defaults for exec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) process: Option<Later<Process>>,
    /// Hooks that run after create.
    #[serde(default, skip_serializing_if = "RecordedHooks::is_empty")]
    pub(crate) hooks: RecordedHooks,
    /// Words for the failures of what init does after the gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) steps: Option<Later<Vec<StepRecord>>>,
    /// Flags of seccomp(2) for the compiled filter beside the record; absent without a filter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) filter_flags: Option<u64>,
    /// Who gets the listeners of the filter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) listener: Option<ListenerRecord>,
    /// Where the memory of its processes comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) memory_policy: Option<MemoryPolicyRecord>,
    /// Its class of cache and memory bandwidth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rdt: Option<RdtRecord>,
    /// Execution domain of its processes (personality(2)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) personality: Option<u32>,
    /// Whether it was made without the privileges of the initial user namespace.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) rootless: bool,
    /// Whether it was made without a gate, to execute its program at once.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) at_once: bool,
    /// Whether the root was changed without pivot_root(2).
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) no_pivot: bool,
    /// Whether init kept its creator's session keyring.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) no_new_keyring: bool,
    /// Whether init has a terminal.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) terminal: bool,
}

/// One namespace of init.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NamespaceRecord {
    /// Its kind in the kernel's word, the file's name below `/proc/PID/ns`: `mnt`, `net`, `pid`, `user`, ...
    pub(crate) kind: String,
    /// Its inode; 0 in an intent.
    pub(crate) ino: u64,
    /// Whether it is somebody else's that was joined.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) joined: bool,
}

/// Who gets the listeners of a filter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ListenerRecord {
    /// Absolute host path of the socket.
    pub(crate) path: PathBuf,
    /// Text that is sent along.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) metadata: String,
}

/// Arguments of set_mempolicy(2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemoryPolicyRecord {
    /// Mode and mode flags.
    pub(crate) mode: u32,
    /// First and last of each range of nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) nodes: Vec<(u32, u32)>,
}

/// Hooks that run after create.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RecordedHooks {
    /// By init, before the program.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) start_container: Vec<Hook>,
    /// By `start`, after the program was executed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) poststart: Vec<Hook>,
    /// By `delete`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) poststop: Vec<Hook>,
}

impl RecordedHooks {
    fn is_empty(&self) -> bool {
        self.start_container.is_empty() && self.poststart.is_empty() && self.poststop.is_empty()
    }
}

/// What to say when a step after the gate fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StepRecord {
    /// Number of the step, as init reports it.
    pub(crate) step: u32,
    /// JSON pointer into the configuration; empty when the runtime itself asked for the step.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) pointer: String,
    /// The word of its [`Phase`].
    phase: String,
    /// What was tried, as an error's message says it.
    pub(crate) wording: String,
    /// The step's own name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) name: String,
    /// The path or program that it is about.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) subject: String,
}

impl StepRecord {
    /// A row of the table.
    pub(crate) fn new(step: u32, pointer: &str, phase: Phase, wording: impl Into<String>) -> Self {
        let phase = phase.as_str().to_owned();
        let (name, subject) = (String::new(), String::new());
        Self { step, pointer: pointer.to_owned(), phase, wording: wording.into(), name, subject }
    }

    /// The same row with the step's name and what it is about.
    pub(crate) fn about(mut self, name: &str, subject: String) -> Self {
        name.clone_into(&mut self.name);
        self.subject = subject;
        self
    }

    /// The phase; `None` when a newer version wrote one that this one has not.
    pub(crate) fn phase(&self) -> Option<Phase> {
        Phase::ALL.iter().copied().find(|phase| phase.as_str() == self.phase)
    }
}

impl Record {
    /// An intent with nothing in it but the names; the other fields are set by the caller.
    pub(crate) fn new(id: &crate::ContainerId, bundle: PathBuf, rootfs: PathBuf) -> Self {
        Self {
            version: VERSION,
            boot: None,
            id: id.as_str().to_owned(),
            creator: env!("CARGO_PKG_VERSION").to_owned(),
            progress: Progress::Intent,
            oci_version: String::new(),
            bundle,
            rootfs,
            created: timestamp(SystemTime::now()),
            owner: rustix::process::geteuid().as_raw(),
            annotations: BTreeMap::new(),
            init: None,
            namespaces: Vec::new(),
            cgroup: None,
            resources: None,
            process: None,
            hooks: RecordedHooks::default(),
            steps: None,
            filter_flags: None,
            listener: None,
            memory_policy: None,
            rdt: None,
            personality: None,
            rootless: false,
            at_once: false,
            no_pivot: false,
            no_new_keyring: false,
            terminal: false,
        }
    }

    /// The words for a step that init reports.
    ///
    /// # Errors
    /// As for the other parts.
    pub(crate) fn step(&self, number: u32) -> Result<Option<&StepRecord>> {
        let steps = self.steps.as_ref().map_or(Ok(&[][..]), |steps| steps.get("steps").map(Vec::as_slice))?;
        Ok(steps.iter().find(|row| row.step == number))
    }

    /// The process of the configuration.
    ///
    /// # Errors
    /// [`ErrorKind::State`], quarantined: it is none.
    pub(crate) fn process(&self) -> Result<Option<&Process>> {
        self.process.as_ref().map(|process| process.get("process")).transpose()
    }

    /// Its limits.
    ///
    /// # Errors
    /// [`ErrorKind::State`], quarantined: they are none.
    pub(crate) fn resources(&self) -> Result<Option<&Resources>> {
        self.resources.as_ref().map(|resources| resources.get("resources")).transpose()
    }

    /// To bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] when a path is not UTF-8; [`ErrorKind::State`] when the record is larger than one that is read.
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        let bytes = serde_json::to_vec(self).map_err(unwritable)?;
        if u64::try_from(bytes.len()).is_ok_and(|len| len <= MAX_LEN) {
            return Ok(bytes);
        }
        Err(Error::new(ErrorKind::State, "write the container's record: it is larger than 4 MiB")
            .with_code("record-too-large")
            .in_phase(Phase::State))
    }

    /// From bytes.
    ///
    /// # Errors
    /// [`ErrorKind::State`], quarantined: another version, not JSON, a field of another type or a wrong name. What is in the parts that are
    /// parsed later is told later.
    pub(super) fn decode(bytes: &[u8], id: &crate::ContainerId) -> Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let wrong = match serde_json::from_slice::<Self>(bytes) {
            Ok(record) if record.version != VERSION => version_error(record.version),
            Ok(record) if record.id != id.as_str() => quarantined("it names another container"),
            Ok(record) => return Ok(record),
            Err(e) => match serde_json::from_slice::<Version>(bytes) {
                Ok(Version { version }) if version != VERSION => version_error(version),
                Ok(_) | Err(_) => quarantined("it is no record").with_source(e),
            },
        };
        Err(wrong)
    }
}

fn version_error(version: u32) -> Error {
    quarantined(&format!("it has version {version}, this program reads {VERSION}"))
        .with_hint("use the version of coracle that created the container")
}

/// What JSON cannot hold.
pub(super) fn unwritable(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::Usage, "write the container's record").with_source(error).in_phase(Phase::State)
}

/// A record that nothing may be done with but to remove it by force.
pub(super) fn quarantined(why: &str) -> Error {
    Error::new(ErrorKind::State, format!("container is quarantined: read its record: {why}"))
        .with_code("record-quarantined")
        .in_phase(Phase::State)
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// RFC 3339 in UTC with nanoseconds: `2025-03-01T12:00:00.123456789Z`. Times before 1970 are shown as its first moment.
pub(crate) fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:09}Z", since.subsec_nanos())
}

/// Year, month and day of a number of days since 1970-01-01 in the Gregorian calendar.
fn date(days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    // 400 years are always 146,097 days.
    let (mut year, mut left) = (1970 + days / 146_097 * 400, days % 146_097);
    while left >= 365 + u64::from(leap(year)) {
        left -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    (year, month, left + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const V1: &[u8] = include_bytes!("../../tests/data/record-v1.json");

    fn id() -> crate::ContainerId {
        "web".parse().unwrap()
    }

    #[test]
    fn a_record_of_the_first_version_is_read_for_ever() {
        let record = Record::decode(V1, &id()).unwrap();
        assert_eq!(record.progress, Progress::Created);
        assert_eq!(record.bundle, PathBuf::from("/bundles/web"));
        assert_eq!(record.created, "2025-03-01T12:00:00.000000007Z");
        let init = record.init.as_ref().unwrap();
        assert_eq!(
            (init.pid, init.pidfs_ino, init.start_time),
            (4242, Some(1_099_511_627_776), Some(8_123_456))
        );
        assert_eq!(
            record.namespaces[1],
            NamespaceRecord { kind: "net".into(), ino: 4_026_531_840, joined: true }
        );
        let cgroup = serde_json::to_string(&record.cgroup).unwrap();
        for part in [
            "\"path\":\"pods/web\"",
            "\"inode\":71",
            "\"inode\":70",
            "\"deviceProgram\":12",
            "\"ours\":false",
        ] {
            assert!(cgroup.contains(part), "{part} in {cgroup}");
        }
        assert_eq!(record.process().unwrap().unwrap().args, ["sh", "-c", "exit 0"]);
        assert_eq!(record.hooks.poststop[0].timeout, Some(10));
        let row = record.step(31).unwrap().unwrap();
        assert_eq!(
            (row.pointer.as_str(), row.phase(), row.wording.as_str()),
            ("/process/args/0", Some(Phase::Exec), "execute the program sh")
        );
        assert_eq!(record.filter_flags, Some(2));
        assert!(record.terminal && record.rootless && !record.no_pivot && !record.no_new_keyring);
        assert_eq!(record.annotations["org.example.a"], "b");
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let record = Record::decode(V1, &id()).unwrap();
        let again = Record::decode(&record.encode().unwrap(), &id()).unwrap();
        assert_eq!(again, record);
        let small = Record::new(&id(), "/b".into(), "/b/rootfs".into());
        let bytes = small.encode().unwrap();
        assert!(!bytes.contains(&b'\n') && bytes.len() < 250, "{}", String::from_utf8_lossy(&bytes));
        assert_eq!(Record::decode(&bytes, &id()).unwrap(), small);
    }

    #[test]
    fn wrong_records_are_quarantined() {
        let text = String::from_utf8(V1.to_vec()).unwrap();
        let cases = [
            (String::new(), "it is no record"),
            (text[..200].to_owned(), "it is no record"),
            (text.replace("\"pid\": 4242", "\"pid\": \"4242\""), "it is no record"),
            (text.replace("\"owner\": 1000", "\"owner\": -1"), "it is no record"),
            (text.replace("\"id\": \"web\"", "\"id\": \"db\""), "another container"),
            (text.replace("\"version\": 1", "\"version\": 2"), "version 2"),
            ("{\"version\": 7, \"all\": [\"else\"]}".to_owned(), "version 7"),
        ];
        for (text, why) in cases {
            let error = Record::decode(text.as_bytes(), &id()).unwrap_err();
            assert_eq!((error.kind(), error.code()), (ErrorKind::State, "record-quarantined"), "{text}");
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn a_wrong_part_is_told_when_it_is_asked_for() {
        let text = String::from_utf8(V1.to_vec()).unwrap();
        let wrong = text.replace("\"args\": [\"sh\"", "\"args\": [1, \"sh\"");
        assert_ne!(wrong, text);
        let record = Record::decode(wrong.as_bytes(), &id()).unwrap();
        let error = record.process().unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::State, "record-quarantined"));
        assert!(error.to_string().contains("its process is none"), "{error}");
        assert!(record.step(31).unwrap().is_some(), "the others can be used");
    }

    #[test]
    fn paths_that_json_cannot_hold_are_refused() {
        use std::os::unix::ffi::OsStringExt;
        let odd = PathBuf::from(std::ffi::OsString::from_vec(b"/b\xff".to_vec()));
        let record = Record::new(&id(), odd, "/b/rootfs".into());
        assert_eq!(record.encode().unwrap_err().kind(), ErrorKind::Usage);
    }

    #[test]
    fn every_phase_has_its_word() {
        for phase in Phase::ALL {
            assert_eq!(StepRecord::new(0, "", *phase, "x").phase(), Some(*phase));
        }
    }

    #[test]
    fn timestamps_follow_the_calendar() {
        let shown = |s: u64, ns: u32| timestamp(UNIX_EPOCH + Duration::new(s, ns));
        assert_eq!(shown(0, 0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(shown(951_782_400, 1), "2000-02-29T00:00:00.000000001Z");
        assert_eq!(shown(951_868_799, 999_999_999), "2000-02-29T23:59:59.999999999Z");
        assert_eq!(shown(1_735_689_599, 5), "2024-12-31T23:59:59.000000005Z");
        assert_eq!(shown(4_107_542_400, 0), "2100-03-01T00:00:00.000000000Z");
        assert_eq!(shown(13_569_465_600, 0), "2400-01-01T00:00:00.000000000Z");
        assert_eq!(timestamp(UNIX_EPOCH - Duration::from_secs(1)), "1970-01-01T00:00:00.000000000Z");
    }
}
