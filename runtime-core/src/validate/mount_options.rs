//! Mount options: words to bits.
//!
//! For: one closed table of every word that is not for a file system; the features document is made from it.
//! Must not: let a word it does not know become a flag; such words go to the file system, in their order.
//! Tests: at the end of the file, one for every word.
//!
//! Access times are a field of three values in mount_setattr(2) but several bits in mount(2). What counts is mount(2)'s
//! reading (namespace.c, path_mount): `strictatime` beats `noatime`, anything else is `relatime`.

/// Per-mount attributes of mount_setattr(2), `MOUNT_ATTR_*` (linux/mount.h).
pub mod attr {
    /// `MOUNT_ATTR_RDONLY`
    pub const RDONLY: u64 = 0x1;
    /// `MOUNT_ATTR_NOSUID`
    pub const NOSUID: u64 = 0x2;
    /// `MOUNT_ATTR_NODEV`
    pub const NODEV: u64 = 0x4;
    /// `MOUNT_ATTR_NOEXEC`
    pub const NOEXEC: u64 = 0x8;
    /// `MOUNT_ATTR__ATIME`, the field of the three values below
    pub const ATIME: u64 = 0x70;
    /// `MOUNT_ATTR_RELATIME`
    pub const RELATIME: u64 = 0x0;
    /// `MOUNT_ATTR_NOATIME`
    pub const NOATIME: u64 = 0x10;
    /// `MOUNT_ATTR_STRICTATIME`
    pub const STRICTATIME: u64 = 0x20;
    /// `MOUNT_ATTR_NODIRATIME`
    pub const NODIRATIME: u64 = 0x80;
    /// `MOUNT_ATTR_NOSYMFOLLOW`, since Linux 5.14 in mount_setattr(2)
    pub const NOSYMFOLLOW: u64 = 0x20_0000;
}

/// Flags of mount(2) that belong to the file system and not to one mount, `MS_*` (linux/mount.h).
pub mod superblock {
    /// `MS_RDONLY`
    pub const RDONLY: u64 = 0x1;
    /// `MS_SYNCHRONOUS`
    pub const SYNCHRONOUS: u64 = 0x10;
    /// `MS_MANDLOCK`
    pub const MANDLOCK: u64 = 0x40;
    /// `MS_DIRSYNC`
    pub const DIRSYNC: u64 = 0x80;
    /// `MS_SILENT`
    pub const SILENT: u64 = 0x8000;
    /// `MS_I_VERSION`
    pub const I_VERSION: u64 = 0x80_0000;
    /// `MS_LAZYTIME`
    pub const LAZYTIME: u64 = 0x200_0000;
}

/// Bits to set and bits to clear; no bit is in both, but for the access time field, which is cleared to be set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bits {
    /// To be set.
    pub set: u64,
    /// To be cleared.
    pub clear: u64,
}

impl Bits {
    /// Whether nothing is to be changed.
    pub const fn is_empty(self) -> bool {
        self.set == 0 && self.clear == 0
    }

    fn put(&mut self, bits: u64, on: bool) {
        if on {
            self.set |= bits;
            self.clear &= !bits;
        } else {
            self.clear |= bits;
            self.set &= !bits;
        }
    }
}

/// How mount events travel (mount_namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PropagationKind {
    /// `MS_PRIVATE`
    Private,
    /// `MS_SLAVE`
    Slave,
    /// `MS_SHARED`
    Shared,
    /// `MS_UNBINDABLE`
    Unbindable,
}

/// A change of propagation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Propagation {
    /// What it becomes.
    pub kind: PropagationKind,
    /// Whether the mounts below change too.
    pub recursive: bool,
}

/// Options of one mount.
///
/// Holding one proves that each word was either known and is in one of the typed fields, or is in `data`, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MountOptions {
    /// Attributes of this mount ([`attr`]).
    pub attributes: Bits,
    /// Attributes of this mount and all below it ([`attr`]).
    pub recursive: Bits,
    /// Flags of the file system ([`superblock`]). Read-only is here as well as in `attributes`.
    pub superblock: Bits,
    /// Changes of propagation, each a step of its own, in order.
    pub propagation: Vec<Propagation>,
    /// `bind` (false) or `rbind` (true).
    pub bind: Option<bool>,
    /// Change what is mounted there already.
    pub remount: bool,
    /// Fill the new file system with what it hides.
    pub tmpcopyup: bool,
    /// `idmap` (false) or `ridmap` (true).
    pub idmap: Option<bool>,
    /// What stands behind `idmap=` or `ridmap=`; never empty.
    pub idmap_words: Option<String>,
    /// Words for the file system, in order.
    pub data: Vec<String>,
}

impl MountOptions {
    /// Whether it is a bind mount, recursive or not; the type is then a dummy.
    pub const fn is_bind(&self) -> bool {
        self.bind.is_some()
    }

    /// Sorts the words. Empty words, which some engines write, mean nothing.
    pub fn parse(words: &[String]) -> MountOptions {
        let mut options = MountOptions::default();
        let (mut atime, mut recursive_atime) = (AccessTime::default(), AccessTime::default());
        for word in words {
            match TABLE.binary_search_by(|(name, _)| name.cmp(&word.as_str())) {
                Ok(at) => {
                    if let Some((_, meaning)) = TABLE.get(at) {
                        options.apply(*meaning, &mut atime, &mut recursive_atime);
                    }
                }
                Err(_) if word.is_empty() => {}
                Err(_) => options.other(word),
            }
        }
        atime.finish(&mut options.attributes);
        recursive_atime.finish(&mut options.recursive);
        options
    }

    fn other(&mut self, word: &str) {
        match word.split_once('=') {
            Some((name @ ("idmap" | "ridmap"), maps)) => {
                self.idmap = Some(name == "ridmap");
                self.idmap_words = Some(maps.to_owned()).filter(|maps| !maps.is_empty());
            }
            _ => self.data.push(word.to_owned()),
        }
    }

    fn apply(&mut self, meaning: Meaning, atime: &mut AccessTime, recursive_atime: &mut AccessTime) {
        match meaning {
            Meaning::Nothing => {}
            Meaning::Attribute(bits, on) => self.attributes.put(bits, on),
            Meaning::ReadOnly(on) => {
                self.attributes.put(attr::RDONLY, on);
                self.superblock.put(superblock::RDONLY, on);
            }
            Meaning::AccessTime(mode, on) => atime.put(mode, on),
            Meaning::Recursive(bits, on) => self.recursive.put(bits, on),
            Meaning::RecursiveAccessTime(mode, on) => recursive_atime.put(mode, on),
            Meaning::Superblock(bits, on) => self.superblock.put(bits, on),
            Meaning::Propagation(kind, recursive) => self.propagation.push(Propagation { kind, recursive }),
            Meaning::Bind(recursive) => self.bind = Some(recursive || self.bind == Some(true)),
            Meaning::Remount => self.remount = true,
            Meaning::TmpCopyUp => self.tmpcopyup = true,
            Meaning::IdMap(recursive) => self.idmap = Some(recursive),
        }
    }
}

/// The words for access times seen so far.
#[derive(Default)]
struct AccessTime {
    seen: bool,
    no: bool,
    strict: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AccessMode {
    Relative,
    No,
    Strict,
}

impl AccessTime {
    fn put(&mut self, mode: AccessMode, on: bool) {
        self.seen = true;
        match mode {
            // The kernel's default: asking for it or against it changes nothing but that the field is written.
            AccessMode::Relative => {}
            AccessMode::No => self.no = on,
            AccessMode::Strict => self.strict = on,
        }
    }

    fn finish(self, bits: &mut Bits) {
        if !self.seen {
            return;
        }
        // mount_setattr(2) wants the whole field cleared whenever a value is set.
        bits.clear |= attr::ATIME;
        bits.set |= match (self.strict, self.no) {
            (true, _) => attr::STRICTATIME,
            (false, true) => attr::NOATIME,
            (false, false) => attr::RELATIME,
        };
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Nothing,
    Attribute(u64, bool),
    ReadOnly(bool),
    AccessTime(AccessMode, bool),
    Recursive(u64, bool),
    RecursiveAccessTime(AccessMode, bool),
    Superblock(u64, bool),
    Propagation(PropagationKind, bool),
    Bind(bool),
    Remount,
    TmpCopyUp,
    IdMap(bool),
}

/// Every word that is not for a file system.
pub fn known_options() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(name, _)| *name)
}

/// The meaning of a word for propagation, which is also what `rootfsPropagation` takes.
pub(super) fn propagation(word: &str) -> Option<Propagation> {
    TABLE.iter().find_map(|(name, meaning)| match meaning {
        Meaning::Propagation(kind, recursive) if *name == word => {
            Some(Propagation { kind: *kind, recursive: *recursive })
        }
        _ => None,
    })
}

use AccessMode::{No, Relative, Strict};
use Meaning::{Attribute, Bind, IdMap, Nothing, ReadOnly, Recursive, Remount, TmpCopyUp};
use PropagationKind::{Private, Shared, Slave, Unbindable};

/// Sorted by name.
static TABLE: [(&str, Meaning); 62] = [
    ("async", Meaning::Superblock(superblock::SYNCHRONOUS, false)),
    ("atime", Meaning::AccessTime(No, false)),
    ("bind", Bind(false)),
    ("defaults", Nothing),
    ("dev", Attribute(attr::NODEV, false)),
    ("diratime", Attribute(attr::NODIRATIME, false)),
    ("dirsync", Meaning::Superblock(superblock::DIRSYNC, true)),
    ("exec", Attribute(attr::NOEXEC, false)),
    ("idmap", IdMap(false)),
    ("iversion", Meaning::Superblock(superblock::I_VERSION, true)),
    ("lazytime", Meaning::Superblock(superblock::LAZYTIME, true)),
    ("loud", Meaning::Superblock(superblock::SILENT, false)),
    ("mand", Meaning::Superblock(superblock::MANDLOCK, true)),
    ("noatime", Meaning::AccessTime(No, true)),
    ("nodev", Attribute(attr::NODEV, true)),
    ("nodiratime", Attribute(attr::NODIRATIME, true)),
    ("noexec", Attribute(attr::NOEXEC, true)),
    ("noiversion", Meaning::Superblock(superblock::I_VERSION, false)),
    ("nolazytime", Meaning::Superblock(superblock::LAZYTIME, false)),
    ("nomand", Meaning::Superblock(superblock::MANDLOCK, false)),
    ("norelatime", Meaning::AccessTime(Relative, false)),
    ("nostrictatime", Meaning::AccessTime(Strict, false)),
    ("nosuid", Attribute(attr::NOSUID, true)),
    ("nosymfollow", Attribute(attr::NOSYMFOLLOW, true)),
    ("private", Meaning::Propagation(Private, false)),
    ("ratime", Meaning::RecursiveAccessTime(No, false)),
    ("rbind", Bind(true)),
    ("rdev", Recursive(attr::NODEV, false)),
    ("rdiratime", Recursive(attr::NODIRATIME, false)),
    ("relatime", Meaning::AccessTime(Relative, true)),
    ("remount", Remount),
    ("rexec", Recursive(attr::NOEXEC, false)),
    ("ridmap", IdMap(true)),
    ("rnoatime", Meaning::RecursiveAccessTime(No, true)),
    ("rnodev", Recursive(attr::NODEV, true)),
    ("rnodiratime", Recursive(attr::NODIRATIME, true)),
    ("rnoexec", Recursive(attr::NOEXEC, true)),
    ("rnorelatime", Meaning::RecursiveAccessTime(Relative, false)),
    ("rnostrictatime", Meaning::RecursiveAccessTime(Strict, false)),
    ("rnosuid", Recursive(attr::NOSUID, true)),
    ("rnosymfollow", Recursive(attr::NOSYMFOLLOW, true)),
    ("ro", ReadOnly(true)),
    ("rprivate", Meaning::Propagation(Private, true)),
    ("rrelatime", Meaning::RecursiveAccessTime(Relative, true)),
    ("rro", Recursive(attr::RDONLY, true)),
    ("rrw", Recursive(attr::RDONLY, false)),
    ("rshared", Meaning::Propagation(Shared, true)),
    ("rslave", Meaning::Propagation(Slave, true)),
    ("rstrictatime", Meaning::RecursiveAccessTime(Strict, true)),
    ("rsuid", Recursive(attr::NOSUID, false)),
    ("rsymfollow", Recursive(attr::NOSYMFOLLOW, false)),
    ("runbindable", Meaning::Propagation(Unbindable, true)),
    ("rw", ReadOnly(false)),
    ("shared", Meaning::Propagation(Shared, false)),
    ("silent", Meaning::Superblock(superblock::SILENT, true)),
    ("slave", Meaning::Propagation(Slave, false)),
    ("strictatime", Meaning::AccessTime(Strict, true)),
    ("suid", Attribute(attr::NOSUID, false)),
    ("symfollow", Attribute(attr::NOSYMFOLLOW, false)),
    ("sync", Meaning::Superblock(superblock::SYNCHRONOUS, true)),
    ("tmpcopyup", TmpCopyUp),
    ("unbindable", Meaning::Propagation(Unbindable, false)),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> MountOptions {
        let words: Vec<String> = words.split(',').map(str::to_owned).collect();
        MountOptions::parse(&words)
    }

    fn set(set: u64) -> Bits {
        Bits { set, clear: 0 }
    }

    fn clear(clear: u64) -> Bits {
        Bits { set: 0, clear }
    }

    #[test]
    fn the_table_is_sorted_and_holds_each_word_once() {
        assert!(TABLE.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    /// Each word alone, against constants of libc rather than our own.
    #[test]
    fn every_word() {
        let atime = |value| Bits { set: value, clear: libc::MOUNT_ATTR__ATIME };
        let plain = [
            ("dev", clear(libc::MOUNT_ATTR_NODEV)),
            ("nodev", set(libc::MOUNT_ATTR_NODEV)),
            ("exec", clear(libc::MOUNT_ATTR_NOEXEC)),
            ("noexec", set(libc::MOUNT_ATTR_NOEXEC)),
            ("suid", clear(libc::MOUNT_ATTR_NOSUID)),
            ("nosuid", set(libc::MOUNT_ATTR_NOSUID)),
            ("diratime", clear(libc::MOUNT_ATTR_NODIRATIME)),
            ("nodiratime", set(libc::MOUNT_ATTR_NODIRATIME)),
            ("symfollow", clear(libc::MOUNT_ATTR_NOSYMFOLLOW)),
            ("nosymfollow", set(libc::MOUNT_ATTR_NOSYMFOLLOW)),
            ("atime", atime(libc::MOUNT_ATTR_RELATIME)),
            ("noatime", atime(libc::MOUNT_ATTR_NOATIME)),
            ("relatime", atime(libc::MOUNT_ATTR_RELATIME)),
            ("norelatime", atime(libc::MOUNT_ATTR_RELATIME)),
            ("strictatime", atime(libc::MOUNT_ATTR_STRICTATIME)),
            ("nostrictatime", atime(libc::MOUNT_ATTR_RELATIME)),
        ];
        let mut seen = Vec::new();
        for (word, bits) in plain {
            assert_eq!(parse(word), MountOptions { attributes: bits, ..MountOptions::default() }, "{word}");
            let recursive = format!("r{word}");
            let expected = MountOptions { recursive: bits, ..MountOptions::default() };
            assert_eq!(parse(&recursive), expected, "{recursive}");
            seen.extend([word.to_owned(), recursive]);
        }
        for (word, bits) in [("rro", set(libc::MOUNT_ATTR_RDONLY)), ("rrw", clear(libc::MOUNT_ATTR_RDONLY))] {
            assert_eq!(parse(word), MountOptions { recursive: bits, ..MountOptions::default() }, "{word}");
            seen.push(word.to_owned());
        }
        for (word, bits) in [
            ("sync", set(libc::MS_SYNCHRONOUS)),
            ("async", clear(libc::MS_SYNCHRONOUS)),
            ("dirsync", set(libc::MS_DIRSYNC)),
            ("mand", set(libc::MS_MANDLOCK)),
            ("nomand", clear(libc::MS_MANDLOCK)),
            ("silent", set(libc::MS_SILENT)),
            ("loud", clear(libc::MS_SILENT)),
            ("iversion", set(libc::MS_I_VERSION)),
            ("noiversion", clear(libc::MS_I_VERSION)),
            ("lazytime", set(1 << 25)),
            ("nolazytime", clear(1 << 25)),
        ] {
            assert_eq!(parse(word), MountOptions { superblock: bits, ..MountOptions::default() }, "{word}");
            seen.push(word.to_owned());
        }
        for (word, bits) in [("ro", set(1)), ("rw", clear(1))] {
            let expected = MountOptions { attributes: bits, superblock: bits, ..MountOptions::default() };
            assert_eq!(parse(word), expected, "{word}");
            seen.push(word.to_owned());
        }
        for (word, kind) in [
            ("private", PropagationKind::Private),
            ("slave", PropagationKind::Slave),
            ("shared", PropagationKind::Shared),
            ("unbindable", PropagationKind::Unbindable),
        ] {
            for (word, recursive) in [(word.to_owned(), false), (format!("r{word}"), true)] {
                let propagation = vec![Propagation { kind, recursive }];
                assert_eq!(parse(&word), MountOptions { propagation, ..MountOptions::default() }, "{word}");
                seen.push(word);
            }
        }
        for (word, expected) in [
            ("defaults", MountOptions::default()),
            ("bind", MountOptions { bind: Some(false), ..MountOptions::default() }),
            ("rbind", MountOptions { bind: Some(true), ..MountOptions::default() }),
            ("remount", MountOptions { remount: true, ..MountOptions::default() }),
            ("tmpcopyup", MountOptions { tmpcopyup: true, ..MountOptions::default() }),
            ("idmap", MountOptions { idmap: Some(false), ..MountOptions::default() }),
            ("ridmap", MountOptions { idmap: Some(true), ..MountOptions::default() }),
        ] {
            assert_eq!(parse(word), expected, "{word}");
            seen.push(word.to_owned());
        }
        seen.sort();
        assert_eq!(seen, known_options().collect::<Vec<_>>());
    }

    #[test]
    fn the_last_word_counts() {
        assert_eq!(parse("ro,rw").attributes, clear(attr::RDONLY));
        assert_eq!(parse("rw,ro").superblock, set(superblock::RDONLY));
        assert_eq!(parse("nosuid,suid,nosuid").attributes, set(attr::NOSUID));
        let atime = |words| parse(words).attributes.set;
        assert_eq!(atime("noatime,atime"), attr::RELATIME);
        assert_eq!(atime("noatime,relatime"), attr::NOATIME);
        assert_eq!(atime("noatime,strictatime"), attr::STRICTATIME);
        assert_eq!(atime("strictatime,nostrictatime,noatime"), attr::NOATIME);
        assert_eq!(parse("rbind,bind").bind, Some(true));
    }

    #[test]
    fn words_for_the_file_system_keep_their_order() {
        let options = parse("nosuid,mode=755,size=65536k,,noexec,gid=5,X-new,context=\"a:b\"");
        assert_eq!(options.data, ["mode=755", "size=65536k", "gid=5", "X-new", "context=\"a:b\""]);
        assert_eq!(options.attributes, set(attr::NOSUID | attr::NOEXEC));
        assert_eq!(parse("RO,bind ,rbind=1").data, ["RO", "bind ", "rbind=1"]);
    }
}
