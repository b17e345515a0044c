//! Reading documents.
//!
//! For: bytes to types, with limits, and for each fault its JSON pointer, line, column and the line itself.
//! Must not: judge values beyond what a type can hold, or follow a path that the document names.
//! Order: the parse does no bookkeeping; only when it fails is the pointer of the offending byte looked up.
//! Tests: at the end of the file.

use crate::error::{Error, ErrorKind, Phase};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use serde::de::DeserializeOwned;

use super::scan;
use super::{Mount, Process, Resources, Spec};

/// The largest document that is read, in bytes.
pub const MAX_DOCUMENT: usize = 16 << 20;

/// Characters of the offending line that are kept on each side of the column.
const CONTEXT: usize = 60;

/// Why a document could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadError {
    /// JSON pointer of the offending value; empty when it is the document as a whole.
    pub pointer: String,
    /// Line, from 1; 0 when there is none.
    pub line: usize,
    /// Column in bytes, from 1; 0 when there is none.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// The part of the line around the column, control characters escaped; empty when there is none.
    pub context: String,
    /// The kernel's answer, when the file could not be read at all.
    pub errno: Option<i32>,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.pointer.is_empty() {
            write!(f, "{}: ", self.pointer.escape_debug())?;
        }
        f.write_str(&self.message)?;
        if self.line != 0 {
            write!(f, " (line {}, column {})", self.line, self.column)?;
        }
        Ok(())
    }
}

impl std::error::Error for LoadError {}

impl From<LoadError> for Error {
    fn from(error: LoadError) -> Self {
        let place = match error.line {
            0 => String::new(),
            line => format!(" (line {line}, column {})", error.column),
        };
        let kind = if error.errno.is_some() { ErrorKind::Io } else { ErrorKind::InvalidSpec };
        let mut out = Self::new(kind, format!("{}{place}", error.message))
            .in_phase(Phase::Load)
            .with_code("config-load");
        if !error.pointer.is_empty() {
            out = out.at(error.pointer);
        }
        match error.errno {
            Some(errno) => out.with_errno(errno),
            None => out,
        }
    }
}

impl Spec {
    /// Reads the bytes of a `config.json` (config.md).
    ///
    /// # Errors
    /// Not UTF-8, a byte order mark, not JSON, larger than [`MAX_DOCUMENT`], nested deeper than [`super::MAX_DEPTH`],
    /// a property given twice, a NUL character, or a value that its type cannot hold.
    pub fn from_slice(bytes: &[u8]) -> Result<Spec, LoadError> {
        parse(bytes)
    }
}

impl Process {
    /// Reads the bytes of a process document; errors as for [`Spec::from_slice`].
    pub fn from_slice(bytes: &[u8]) -> Result<Process, LoadError> {
        parse(bytes)
    }
}

impl Mount {
    /// Reads the bytes of a document that is a list of mounts; errors as for [`Spec::from_slice`].
    pub fn list_from_slice(bytes: &[u8]) -> Result<Vec<Mount>, LoadError> {
        parse(bytes)
    }
}

impl Resources {
    /// Reads the bytes of a resources document; errors as for [`Spec::from_slice`].
    pub fn from_slice(bytes: &[u8]) -> Result<Resources, LoadError> {
        parse(bytes)
    }
}

/// Reads `config.json` of the bundle whose directory is open.
///
/// # Errors
/// As for [`Spec::from_slice`], and when there is no regular file of that name that can be read.
pub fn read_config(bundle: BorrowedFd<'_>) -> Result<Spec, LoadError> {
    read_config_at(bundle, Path::new("config.json"))
}

/// The same with another name.
pub(crate) fn read_config_at(bundle: BorrowedFd<'_>, name: &Path) -> Result<Spec, LoadError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let fd = rustix::fs::openat(bundle, name, flags, Mode::empty()).map_err(unreadable)?;
    let file = File::from(fd);
    let stat = rustix::fs::fstat(&file).map_err(unreadable)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(LoadError::whole("is not a regular file"));
    }
    Spec::from_slice(&read_document(&file)?)
}

/// Reads a file to its end, up to [`MAX_DOCUMENT`] bytes. Blocks as long as the file does.
///
/// # Errors
/// The kernel's, and a file that is larger.
pub fn read_document(file: &File) -> Result<Vec<u8>, LoadError> {
    let size = rustix::fs::fstat(file.as_fd()).map(|stat| stat.st_size).unwrap_or(0);
    let expected = usize::try_from(size).unwrap_or(0).min(MAX_DOCUMENT);
    let mut bytes = Vec::with_capacity(expected + 1);
    let limit = u64::try_from(MAX_DOCUMENT).unwrap_or(u64::MAX).saturating_add(1);
    match file.take(limit).read_to_end(&mut bytes) {
        Ok(_) if bytes.len() > MAX_DOCUMENT => Err(LoadError::whole("is larger than 16 MiB")),
        Ok(_) => Ok(bytes),
        Err(error) => Err(unreadable(error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error))),
    }
}

/// The sentences avoid the kernel's own: engines look for those to tell what is wrong with the container's program.
fn unreadable(errno: Errno) -> LoadError {
    let message = match errno {
        Errno::NOENT => "there is no such document".to_owned(),
        Errno::ACCESS | Errno::PERM => "we may not read it".to_owned(),
        Errno::ISDIR => "is a directory".to_owned(),
        other => format!("read gave errno {}", other.raw_os_error()),
    };
    LoadError { errno: Some(errno.raw_os_error()), ..LoadError::whole(&message) }
}

impl LoadError {
    fn whole(message: &str) -> LoadError {
        LoadError {
            pointer: String::new(),
            line: 0,
            column: 0,
            message: message.to_owned(),
            context: String::new(),
            errno: None,
        }
    }

    fn at(bytes: &[u8], offset: usize, pointer: String, message: String) -> LoadError {
        let before = bytes.get(..offset).unwrap_or(bytes);
        let line_start = before.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        let line = before.iter().filter(|&&b| b == b'\n').count() + 1;
        let rest = bytes.get(line_start..).unwrap_or_default();
        let line_length = rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len());
        let column = offset - line_start + 1;
        let from = column.saturating_sub(CONTEXT);
        let to = (column + CONTEXT).min(line_length);
        let context = rest.get(from..to.max(from)).unwrap_or_default();
        let context =
            String::from_utf8_lossy(context).trim().escape_debug().to_string().replace("\\\"", "\"");
        LoadError { pointer, line, column, message, context, errno: None }
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, LoadError> {
    if bytes.len() > MAX_DOCUMENT {
        return Err(LoadError::whole("is larger than 16 MiB"));
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err(LoadError::at(bytes, 0, String::new(), "begins with a byte order mark".to_owned()));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let offset = error.valid_up_to();
        let message = format!("is not UTF-8 at byte offset {offset}");
        LoadError::at(bytes, offset, scan::locate(bytes, offset), message)
    })?;
    scan::check(bytes)
        .map_err(|fault| LoadError::at(bytes, fault.offset, fault.pointer, fault.message.to_owned()))?;
    serde_json::from_str(text).map_err(|error| explain(bytes, &error))
}

/// The parser's line and column name the last byte that it took: of a text or number the last one, of a list or object
/// the one before it.
fn explain(bytes: &[u8], error: &serde_json::Error) -> LoadError {
    let line_start = match error.line() {
        0 | 1 => 0,
        line => {
            bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').nth(line - 2).map_or(0, |(at, _)| at + 1)
        }
    };
    let mut message = error.to_string();
    let bracket = message.starts_with("invalid type: map") || message.starts_with("invalid type: sequence");
    let taken = line_start + error.column();
    let offset = if bracket { taken } else { taken.saturating_sub(1) }.min(bytes.len());
    if let Some(place) = message.rfind(" at line ") {
        message.truncate(place);
    }
    LoadError::at(bytes, offset, scan::locate(bytes, offset), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> LoadError {
        Spec::from_slice(text.as_bytes()).expect_err(text)
    }

    #[test]
    fn a_wrong_type_is_pointed_at() {
        for (text, pointer, says) in [
            (r#"{"ociVersion":1}"#, "/ociVersion", "invalid type: integer `1`, expected a string"),
            (
                r#"{"ociVersion":"1.0.0","process":{"cwd":"/","args":["a",{"b":1}]}}"#,
                "/process/args/1",
                "map",
            ),
            (
                r#"{"ociVersion":"1.0.0","process":{"cwd":"/","args":["a",7]}}"#,
                "/process/args/1",
                "integer `7`",
            ),
            (r#"{"ociVersion":"1.0.0","process":{"cwd":"/","args":"sh"}}"#, "/process/args", "sequence"),
            (
                r#"{"ociVersion":"1.0.0","process":{"cwd":"/","user":{"uid":-1}}}"#,
                "/process/user/uid",
                "an id, 0 to",
            ),
            (
                r#"{"ociVersion":"1.0.0","process":{"cwd":"/","user":{"uid":4294967295, "gid":0}}}"#,
                "/process/user/uid",
                "`4294967295`",
            ),
            (
                r#"{"ociVersion":"1.0.0","process":{"cwd":"/","user":{"additionalGids":[1,4294967296]}}}"#,
                "/process/user/additionalGids/1",
                "`4294967296`",
            ),
            (r#"{"ociVersion":"1.0.0","annotations":{"a/b~c":1}}"#, "/annotations/a~1b~0c", "a string"),
            (
                r#"{"ociVersion":"1.0.0","linux":{"resources":{"blockIO":{"weight":70000}}}}"#,
                "/linux/resources/blockIO/weight",
                "`70000`",
            ),
            (
                r#"{"ociVersion":"1.0.0","linux":{"resources":{"memory":{"limit":9223372036854775808}}}}"#,
                "/linux/resources/memory/limit",
                "9223372036854775808",
            ),
            (
                r#"{"ociVersion":"1.0.0","linux":{"resources":{"memory":{"limit":1e3}}}}"#,
                "/linux/resources/memory/limit",
                "floating point",
            ),
            (r#"{"ociVersion":"1.0.0","process":{"args":["a"]}}"#, "/process", "missing field `cwd`"),
            (
                r#"{"ociVersion":"1.0.0","linux":{"uidMappings":[{"containerID":0,"hostID":null,"size":1}]}}"#,
                "/linux/uidMappings/0/hostID",
                "null",
            ),
            (
                r#"{"ociVersion":"1.0.0","linux":{"uidMappings":[{"containerID":0,"size":1}]}}"#,
                "/linux/uidMappings/0",
                "missing field `hostID`",
            ),
            (r#"{}"#, "", "missing field `ociVersion`"),
            (r#"[]"#, "", "invalid type: sequence, expected an object"),
            (r#"{"ociVersion":"1.0.0","root":["rootfs"]}"#, "/root", "invalid type: sequence"),
            (r#"{"ociVersion":"1.0.0","mounts":[["/a"]]}"#, "/mounts/0", "invalid type: sequence"),
            ("{\"ociVersion\":\"1.0.0\",\"root\":\n[]}", "/root", "invalid type: sequence"),
            ("{\"ociVersion\":\n{}}", "/ociVersion", "invalid type: map"),
            (r#"7"#, "", "integer `7`"),
            (r#"{"ociVersion":"1.0.0","hostname":"a" "x":1}"#, "/hostname", "expected `,` or `}`"),
            (r#"{"ociVersion":"1.0.0"} x"#, "", "trailing characters"),
            (r#"{"ociVersion":"1.0.0","root":{"path":"a"}"#, "/root", "EOF"),
            ("", "", "EOF"),
        ] {
            let error = error(text);
            assert_eq!(error.pointer, pointer, "{text}: {error}");
            assert!(error.message.contains(says), "{text}: {error}");
            assert!(!error.message.contains(" at line "), "{error}");
        }
    }

    #[test]
    fn pointers_agree_with_another_implementation() {
        let document: serde_json::Value = serde_json::from_slice(DOCKER).expect("json");
        let text = serde_json::to_string_pretty(&document).expect("text");
        let mut broken = 0;
        // Put a list of lists where each scalar was; whoever minds has to name the same place.
        for (at, line) in text.lines().enumerate() {
            let Some((start, _)) = line.split_once(": ").filter(|(_, v)| !v.starts_with(['{', '['])) else {
                continue;
            };
            let comma = if line.ends_with(',') { "," } else { "" };
            let lines = text.lines().enumerate();
            let replaced = format!("{start}: [[]]{comma}");
            let changed: Vec<&str> =
                lines.map(|(i, l)| if i == at { replaced.as_str() } else { l }).collect();
            let changed = changed.join("\n");
            let other = serde_path_to_error::deserialize::<_, Spec>(&mut serde_json::Deserializer::from_str(
                &changed,
            ));
            match (Spec::from_slice(changed.as_bytes()), other) {
                (Err(ours), Err(theirs)) => {
                    let tokens = theirs.path().iter().map(|segment| match segment {
                        serde_path_to_error::Segment::Seq { index } => index.to_string(),
                        serde_path_to_error::Segment::Map { key } => key.clone(),
                        other => panic!("{other:?}"),
                    });
                    let mut pointer = String::new();
                    tokens.for_each(|token| scan::push_token(&mut pointer, &token));
                    assert_eq!(ours.pointer, pointer, "{replaced}");
                    assert_eq!(ours.line, at + 1, "{replaced}");
                    broken += 1;
                }
                (ours, theirs) => assert_eq!(ours.is_err(), theirs.is_err(), "{replaced}"),
            }
        }
        assert!(broken > 50, "only {broken} places were tried");
    }

    #[test]
    fn line_column_and_the_line_itself() {
        let error = error("{\n\t\"ociVersion\": \"1.0.0\",\n\t\"process\": {\"cwd\": true}\n}\n");
        assert_eq!((error.line, error.column), (3, 24));
        assert_eq!(error.context, "\"process\": {\"cwd\": true}");
        assert_eq!(
            error.to_string(),
            "/process/cwd: invalid type: boolean `true`, expected a string (line 3, column 24)"
        );
    }

    #[test]
    fn null_means_not_given() {
        let text = r#"{"ociVersion":"1.0.0","process":{"cwd":"/","args":null,"user":{"uid":null,"additionalGids":null},
            "capabilities":null,"oomScoreAdj":null},"mounts":null,"annotations":null,"hooks":{"prestart":null},
            "linux":{"seccomp":null,"namespaces":null,"sysctl":null,"resources":{"unified":null,"memory":{"limit":null}}}}"#;
        let spec = Spec::from_slice(text.as_bytes()).expect("spec");
        let process = spec.process.expect("process");
        assert_eq!((process.args.len(), process.oom_score_adj), (0, None));
        assert_eq!(process.user.expect("user").uid, None);
        assert_eq!(error(r#"{"ociVersion":null}"#).pointer, "/ociVersion");
    }

    #[test]
    fn documents_that_two_readers_would_read_differently_are_refused() {
        let twice = error(r#"{"ociVersion":"1.0.0","annotations":{"a":"1","a":"2"}}"#);
        assert_eq!((twice.pointer.as_str(), twice.column), ("/annotations/a", 47));
        assert_eq!(error(r#"{"ociVersion":"1.0.0","x":{"y":1,"y":2}}"#).pointer, "/x/y");
        assert_eq!(error(r#"{"ociVersion":"1.0.0","hostname":"a\u0000b"}"#).pointer, "/hostname");
        assert!(error("\u{feff}{}").message.contains("byte order mark"));
        let error =
            Spec::from_slice(b"{\"ociVersion\":\"1.0.0\",\"hostname\":\"\xff\"}").expect_err("no UTF-8");
        assert_eq!(error.pointer, "/hostname");
        assert_eq!(error.message, "is not UTF-8 at byte offset 34");
    }

    #[test]
    fn sizes_are_limited() {
        let mut big = b"{\"ociVersion\":\"1.0.0\",\"hostname\":\"".to_vec();
        big.resize(MAX_DOCUMENT - 2, b'a');
        big.extend_from_slice(b"\"}");
        assert!(Spec::from_slice(&big).is_ok());
        big.push(b' ');
        assert_eq!(Spec::from_slice(&big).expect_err("big").message, "is larger than 16 MiB");
        let deep = format!("{{\"ociVersion\":\"1.0.0\",\"x\":{}1{}}}", "[".repeat(63), "]".repeat(63));
        assert!(Spec::from_slice(deep.as_bytes()).is_ok());
        let deep = format!("{{\"ociVersion\":\"1.0.0\",\"x\":{}1{}}}", "[".repeat(64), "]".repeat(64));
        assert!(error(&deep).message.contains("64 deep"));
    }

    #[test]
    fn unknown_properties_are_ignored() {
        let text =
            r#"{"ociVersion":"1.0.0","new":{"thing":[1,2.5,null]},"root":{"path":"r","colour":"red"}}"#;
        assert_eq!(Spec::from_slice(text.as_bytes()).expect("spec").root.expect("root").path, "r");
    }

    const DOCKER: &[u8] = include_bytes!("../../tests/data/docker.config.json");

    #[test]
    fn what_engines_write_survives_a_round_trip() {
        for text in [
            DOCKER,
            include_bytes!("../../tests/data/docker-privileged.config.json"),
            include_bytes!("../../tests/data/podman.config.json"),
            include_bytes!("../../tests/data/podman-rootless.config.json"),
            include_bytes!("../../tests/data/containerd-cri.config.json"),
            include_bytes!("../../tests/data/containerd-userns.config.json"),
        ] {
            let spec = Spec::from_slice(text).expect("spec");
            let again = Spec::from_slice(spec.to_json().as_bytes()).expect("again");
            assert_eq!(spec, again);
            // Nothing may be lost: every property is known to some type.
            assert_eq!(super::super::unknown_keys(text), []);
            let process = serde_json::to_vec(&spec.process).expect("process");
            assert_eq!(Some(Process::from_slice(&process).expect("process")), spec.process);
        }
    }

    /// Whatever is broken where: an answer, and a pointer and a line that are inside the document.
    #[test]
    fn broken_documents_get_an_answer() {
        let text = std::str::from_utf8(DOCKER).expect("text");
        let lines = text.lines().count();
        let check = |bytes: &[u8]| {
            if let Err(error) = Spec::from_slice(bytes) {
                assert!(error.pointer.is_empty() || error.pointer.starts_with('/'), "{error}");
                assert!(error.line <= lines + 1, "{error}");
            }
        };
        for end in (0..DOCKER.len()).step_by(7) {
            check(&DOCKER[..end]);
        }
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        for _ in 0..2000 {
            let mut bytes = DOCKER.to_vec();
            for _ in 0..3 {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                let at = usize::try_from(seed % 9000).expect("index");
                bytes[at] = b"\"{}[],:\\u0\x00\xff -1e9n"[usize::try_from(seed >> 32).expect("index") % 18];
            }
            check(&bytes);
        }
    }

    #[test]
    fn config_is_read_from_an_open_directory() {
        let path = std::env::temp_dir().join(format!("coracle-load-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("directory");
        let directory = File::open(&path).expect("open");
        let missing = read_config(directory.as_fd()).expect_err("missing");
        assert_eq!(missing.errno, Some(2));
        std::fs::write(path.join("config.json"), r#"{"ociVersion":"1.0.2"}"#).expect("write");
        assert_eq!(read_config(directory.as_fd()).expect("spec").oci_version, "1.0.2");
        std::fs::remove_file(path.join("config.json")).expect("remove");
        std::fs::create_dir(path.join("config.json")).expect("directory");
        assert_eq!(read_config(directory.as_fd()).expect_err("directory").message, "is not a regular file");
        std::fs::remove_dir(path.join("config.json")).expect("remove");
        rustix::fs::mknodat(&directory, "config.json", FileType::Fifo, Mode::RUSR, 0).expect("fifo");
        assert_eq!(read_config(directory.as_fd()).expect_err("fifo").message, "is not a regular file");
        std::fs::remove_file(path.join("config.json")).expect("remove");
        std::fs::remove_dir(&path).expect("remove");
    }
}
