//! Why a program could not be executed: the kernel says ENOENT, EACCES or ENOEXEC and no more, so its file is looked at.
//!
//! Only after a failure, and only for the hint: what cannot be seen is not guessed. Paths are resolved below the container's root, no more
//! than the beginning of a regular file is read, and what it says is shown with care, for it is the image's.
//!
//! Must not: change the error's kind, text or code, which engines go by. Tests: at the end of this file; `tests` package, broken.

use crate::error::{Error, ErrorKind, escape};
use crate::spec::{Process, nearest};
use rustix::fs::{CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, open, openat2};
use rustix::io::read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// How much of a file is read.
const HEAD: usize = 4096;
/// How many names of a directory are read.
const NAMES: usize = 4096;
/// Where programs usually are, for what is not in PATH.
const USUAL: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Adds what the file of the program tells to a failed execution. `root`: the container's root as the host sees it.
pub(crate) fn program(error: Error, root: &Path, process: Option<&Process>) -> Error {
    if error.kind() != ErrorKind::Exec {
        return error;
    }
    let Some(process) = process.filter(|process| !process.args.is_empty()) else { return error };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(root) = open(root, flags, Mode::empty()) else { return error };
    match hint(&Image(root), error.code(), process) {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// The container's files.
struct Image(OwnedFd);

impl Image {
    fn open(&self, path: &str) -> Option<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        openat2(&self.0, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve).ok()
    }

    fn stat(&self, path: &str) -> Option<Stat> {
        fstat(self.open(path)?).ok()
    }

    fn is_there(&self, path: &str) -> bool {
        self.open(path).is_some()
    }

    /// The beginning of a regular file. By the descriptor that was looked at: it cannot become a device meanwhile.
    fn head(&self, path: &str) -> Option<Vec<u8>> {
        let found = self.open(path)?;
        if FileType::from_raw_mode(fstat(&found).ok()?.st_mode) != FileType::RegularFile {
            return None;
        }
        let again = format!("/proc/thread-self/fd/{}", found.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = open(again, flags, Mode::empty()).ok()?;
        let mut bytes = vec![0; HEAD];
        let count = read(&file, &mut bytes[..]).ok()?;
        bytes.truncate(count);
        Some(bytes)
    }

    fn names(&self, directory: &str) -> Vec<String> {
        let Some(found) = self.open(directory) else { return Vec::new() };
        let again = format!("/proc/thread-self/fd/{}", found.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(directory) = rustix::fs::openat(CWD, again, flags, Mode::empty()) else { return Vec::new() };
        let Ok(entries) = Dir::read_from(&directory) else { return Vec::new() };
        let names = entries
            .take(NAMES)
            .flatten()
            .filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned));
        names.filter(|name| name != "." && name != "..").collect()
    }
}

fn hint(image: &Image, code: &str, process: &Process) -> Option<String> {
    let program = process.args.first()?;
    let path = process.env.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(USUAL);
    if code == "exec-not-found" {
        return missing(image, program, path, &process.cwd);
    }
    let file = candidates(program, path, &process.cwd).find(|file| image.is_there(file))?;
    match code {
        "exec-denied" => denied(image, &file, process),
        "exec-interpreter-missing" => loaded_by(image, &image.head(&file)?),
        "exec-format" => format(&image.head(&file)?),
        _ => None,
    }
}

/// Where the program may be, in order.
fn candidates<'a>(program: &'a str, path: &'a str, cwd: &'a str) -> impl Iterator<Item = String> + 'a {
    let bare = !program.contains('/');
    let named = (!bare)
        .then(|| if program.starts_with('/') { program.to_owned() } else { format!("{cwd}/{program}") });
    let searched =
        path.split(':').filter(move |_| bare).map(move |directory| format!("{directory}/{program}"));
    named.into_iter().chain(searched)
}

fn missing(image: &Image, program: &str, path: &str, cwd: &str) -> Option<String> {
    // A command line in the place of its first word.
    if let Some((first, _)) = program.split_once(' ') {
        if candidates(first, path, cwd).any(|file| image.is_there(&file)) {
            return Some(
                "the whole text was taken for the program's name: each argument is an entry of its own"
                    .to_owned(),
            );
        }
    }
    if let Some((directory, name)) = program.rsplit_once('/') {
        let directory = match directory {
            "" => "/".to_owned(),
            directory if program.starts_with('/') => directory.to_owned(),
            directory => format!("{cwd}/{directory}"),
        };
        if !image.is_there(&directory) {
            return Some(format!("there is no {} in the container", shown(&directory)));
        }
        let names = image.names(&directory);
        if names.iter().any(|known| known == name) {
            return Some("it is a link to what does not exist in the container".to_owned());
        }
        let near = nearest(name, names.iter().map(String::as_str))?;
        return Some(format!(
            "did you mean {}?",
            shown(&format!("{}/{near}", directory.trim_end_matches('/')))
        ));
    }
    if let Some(file) = candidates(program, USUAL, "/").find(|file| image.is_there(file)) {
        return Some(format!("it is {}, and PATH is {}", shown(&file), shown(path)));
    }
    let names: Vec<String> = path.split(':').flat_map(|directory| image.names(directory)).collect();
    nearest(program, names.iter().map(String::as_str)).map(|near| format!("did you mean {}?", shown(near)))
}

fn denied(image: &Image, file: &str, process: &Process) -> Option<String> {
    let mode = |path: &str| {
        image.stat(path).map(|stat| (FileType::from_raw_mode(stat.st_mode), stat.st_mode & 0o7777))
    };
    let (kind, bits) = mode(file)?;
    let user = process.user.as_ref();
    let who = format!(
        "user {}, group {}",
        user.and_then(|user| user.uid).unwrap_or_default().get(),
        user.and_then(|user| user.gid).unwrap_or_default().get()
    );
    if kind != FileType::RegularFile {
        return Some(format!("{} is no file that could be executed", shown(file)));
    }
    if bits & 0o111 == 0 {
        return Some(format!("{} has no execute bit (mode {bits:04o}): chmod +x", shown(file)));
    }
    if bits & 1 == 0 {
        return Some(format!(
            "{} is not for everybody (mode {bits:04o}), and the process is {who}",
            shown(file)
        ));
    }
    let closed = Path::new(file).ancestors().skip(1).filter_map(Path::to_str).find_map(|directory| {
        let (_, bits) = mode(directory)?;
        (bits & 1 == 0).then(|| {
            format!(
                "{} is not open to everybody (mode {bits:04o}), and the process is {who}",
                shown(directory)
            )
        })
    });
    closed.or_else(|| {
        let head = image.head(file)?;
        let interpreter = text(interpreter(&head)?);
        let (_, bits) = mode(&interpreter)?;
        (bits & 0o111 == 0)
            .then(|| format!("its interpreter {} has no execute bit (mode {bits:04o})", shown(&interpreter)))
    })
}

/// The file is there, and what has to load it is not.
fn loaded_by(image: &Image, head: &[u8]) -> Option<String> {
    if let Some(line) = interpreter(head) {
        let name = text(line);
        if line.ends_with(b"\r") {
            return Some(format!(
                "its first line ends with a carriage return, so that {} is looked for: it has the line ends of DOS",
                shown(&name)
            ));
        }
        if !image.is_there(&name) {
            return Some(format!(
                "its first line names {}, which does not exist in the container",
                shown(&name)
            ));
        }
        // The interpreter is there; what loads that may not be.
        return elf_loader(image, &image.head(&name)?)
            .map(|why| format!("its interpreter is {}, and {why}", shown(&name)));
    }
    elf_loader(image, head).map(|why| format!("{why}: it was built for another image or C library"))
}

fn elf_loader(image: &Image, head: &[u8]) -> Option<String> {
    let loader = text(Elf::read(head)?.loader()?);
    (!image.is_there(&loader))
        .then(|| format!("its loader {} does not exist in the container", shown(&loader)))
}

/// The kernel knows no way to execute it.
fn format(head: &[u8]) -> Option<String> {
    if head.is_empty() {
        return Some("it is empty".to_owned());
    }
    if head.starts_with(b"\xef\xbb\xbf#!") {
        return Some("a byte order mark stands before its #! line".to_owned());
    }
    let Some(elf) = Elf::read(head) else {
        let is_text = head.iter().take(512).all(|byte| *byte >= 0x20 || byte.is_ascii_whitespace());
        return is_text.then(|| "it is a text without a #! line, such as #!/bin/sh".to_owned());
    };
    let (own, its) = (std::env::consts::ARCH, elf.machine());
    match its {
        Some(its) if its != own => Some(format!("it is a program for {its}, and this machine is {own}")),
        Some(_) => Some("it is damaged".to_owned()),
        None => Some(format!("it is a program for another kind of machine than this one ({own})")),
    }
}

/// What the kernel executes for a script: the first word behind `#!` (fs/binfmt_script.c).
fn interpreter(head: &[u8]) -> Option<&[u8]> {
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let line = line.get(line.iter().position(|byte| !blank(byte))?..)?;
    line.split(blank).next()
}

/// The header of an ELF file (elf(5)).
struct Elf<'a> {
    bytes: &'a [u8],
    wide: bool,
    little: bool,
}

impl<'a> Elf<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        bytes.starts_with(b"\x7fELF").then_some(())?;
        Some(Self { bytes, wide: *bytes.get(4)? == 2, little: *bytes.get(5)? == 1 })
    }

    /// A number of `size` bytes.
    fn number(&self, at: usize, size: usize) -> Option<usize> {
        let bytes = self.bytes.get(at..at.checked_add(size)?)?;
        let add = |sum: u64, byte: &u8| (sum << 8) | u64::from(*byte);
        let number = if self.little { bytes.iter().rev().fold(0, add) } else { bytes.iter().fold(0, add) };
        usize::try_from(number).ok()
    }

    /// In Rust's word; none for rare ones.
    fn machine(&self) -> Option<&'static str> {
        Some(match (self.number(18, 2)?, self.wide, self.little) {
            (3, ..) => "x86",
            (62, ..) => "x86_64",
            (40, ..) => "arm",
            (183, ..) => "aarch64",
            (243, true, _) => "riscv64",
            (22, ..) => "s390x",
            (21, _, true) => "powerpc64le",
            (21, ..) => "powerpc64",
            (8, ..) => "mips",
            (258, ..) => "loongarch64",
            _ => return None,
        })
    }

    /// `PT_INTERP`.
    fn loader(&self) -> Option<&'a [u8]> {
        let word = if self.wide { 8 } else { 4 };
        let [table, size, count] = if self.wide { [32, 54, 56] } else { [28, 42, 44] };
        let [offset, length] = if self.wide { [8, 32] } else { [4, 16] };
        let (table, size, count) = (self.number(table, word)?, self.number(size, 2)?, self.number(count, 2)?);
        (0..count).find_map(|index| {
            let at = table.checked_add(index.checked_mul(size)?)?;
            (self.number(at, 4)? == 3).then_some(())?;
            let start = self.number(at.checked_add(offset)?, word)?;
            let end = start.checked_add(self.number(at.checked_add(length)?, word)?)?;
            self.bytes.get(start..end)?.split(|byte| *byte == 0).next()
        })
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(..256).unwrap_or(bytes)).into_owned()
}

fn shown(text: &str) -> String {
    escape(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpreters() {
        for (head, expected) in [
            (&b"#!/bin/sh\necho"[..], Some(&b"/bin/sh"[..])),
            (b"#! \t/usr/bin/env python3 -u\n", Some(b"/usr/bin/env")),
            (b"#!/bin/sh\r\n", Some(b"/bin/sh\r")),
            (b"#!/bin/sh -e\r\n", Some(b"/bin/sh")),
            (b"#!/bin/sh", Some(b"/bin/sh")),
            (b"#!\n", None),
            (b"#!", None),
            (b"echo", None),
            (b"", None),
        ] {
            assert_eq!(interpreter(head), expected, "{head:?}");
        }
    }

    /// A file of this class, byte order and machine, with a loader behind one other segment.
    fn elf(wide: bool, little: bool, machine: u16) -> Vec<u8> {
        let mut bytes = vec![0; 512];
        let mut put = |at: usize, size: usize, number: u64| {
            let all = if little { number.to_le_bytes() } else { number.to_be_bytes() };
            let part = if little { &all[..size] } else { &all[8 - size..] };
            bytes[at..at + size].copy_from_slice(part);
        };
        put(18, 2, machine.into());
        let (word, table, size, fields) =
            if wide { (8, 64, 56, [32, 54, 56, 8, 32]) } else { (4, 52, 32, [28, 42, 44, 4, 16]) };
        put(fields[0], word, table);
        put(fields[1], 2, size);
        put(fields[2], 2, 2);
        let second = usize::try_from(table + size).unwrap();
        put(second, 4, 3);
        put(second + fields[3], word, 400);
        put(second + fields[4], word, 8);
        bytes[..6].copy_from_slice(&[
            0x7f,
            b'E',
            b'L',
            b'F',
            if wide { 2 } else { 1 },
            if little { 1 } else { 2 },
        ]);
        bytes[400..408].copy_from_slice(b"/lib/ld\0");
        bytes
    }

    #[test]
    fn headers() {
        for (wide, little, machine, name) in [
            (true, true, 62, Some("x86_64")),
            (true, true, 183, Some("aarch64")),
            (false, true, 3, Some("x86")),
            (false, false, 8, Some("mips")),
            (true, false, 22, Some("s390x")),
            (true, true, 21, Some("powerpc64le")),
            (true, true, 9999, None),
        ] {
            let bytes = elf(wide, little, machine);
            let read = Elf::read(&bytes).unwrap();
            assert_eq!((read.machine(), read.loader()), (name, Some(&b"/lib/ld"[..])), "{machine}");
            // Cut off anywhere, it says nothing and reads nothing beyond.
            for length in 0..bytes.len() {
                if let Some(cut) = Elf::read(&bytes[..length]) {
                    let _ = (cut.machine(), cut.loader());
                }
            }
        }
        let mut wild = elf(true, true, 62);
        wild[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(Elf::read(&wild).unwrap().loader(), None);
    }

    #[test]
    fn formats() {
        let other = if std::env::consts::ARCH == "aarch64" { 62 } else { 183 };
        for (head, says) in [
            (Vec::new(), "it is empty"),
            (b"\xef\xbb\xbf#!/bin/sh\n".to_vec(), "byte order mark"),
            (b"echo hello\n".to_vec(), "without a #! line"),
            (elf(true, true, other), "it is a program for"),
            (elf(true, true, 9999), "another kind of machine"),
        ] {
            let hint = format(&head).unwrap();
            assert!(hint.contains(says), "{hint}");
        }
        assert_eq!(format(&[0, 1, 2, 3]), None);
    }
}
