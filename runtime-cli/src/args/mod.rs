//! Reads the command line by the table in `flags` and `commands`, with the grammar that engines rely on.
//!
//! The grammar is that of Go's `flag` package as runc uses it: `-flag`, `--flag`, `-flag=value`, `--flag value` and
//! `--flag=value` mean the same for every name, long or short; the word after a flag that takes a value is its value whatever it
//! looks like; flags may repeat and the last one wins, unless it is a list; switches accept `=true|false`; `--` ends the flags.
//! For most commands flags may also follow the arguments; `exec` and `ps` stop at the first argument, for what follows belongs
//! to another program.
//! Must not: act on a flag, read a file or the environment. Tests: `args/tests.rs`, `tests/argv.rs` (what engines sent).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use coracle::{Error, ErrorKind};

pub mod commands;
pub mod flags;
pub mod help;
#[cfg(test)]
mod tests;

/// One flag of the table.
#[derive(Debug)]
pub struct Flag {
    /// The long name, without dashes.
    pub long: &'static str,
    /// The letter, or `'\0'` when there is none.
    pub short: char,
    /// What follows it.
    pub takes: Takes,
    /// Accepted, but not shown.
    pub hidden: bool,
    /// One line for `--help`.
    pub help: &'static str,
}

/// What follows a flag.
#[derive(Debug, Clone, Copy)]
pub enum Takes {
    /// Nothing; on or off.
    Switch,
    /// A path, which need not be text. The word is for the help.
    Path(&'static str),
    /// Text in UTF-8.
    Text(&'static str),
    /// Text, and each occurrence counts.
    List(&'static str),
    /// A whole number.
    Number(&'static str),
    /// One of these words.
    Word(&'static [&'static str]),
    /// One of these words, or nothing, which means the first one.
    MaybeWord(&'static [&'static str]),
}

/// Where flags may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Before the first argument only.
    FlagsFirst,
    /// Anywhere.
    Mixed,
}

/// The flags and arguments of one level of the command line.
#[derive(Debug, Default)]
pub struct Given<'a> {
    flags: Vec<(&'static Flag, &'a OsStr)>,
    /// The arguments that are no flags, in order.
    pub rest: Vec<&'a OsStr>,
    /// `--help` or `-h` was among the flags; nothing after it was read.
    pub help: bool,
}

impl<'a> Given<'a> {
    /// Whether a switch is on.
    pub fn on(&self, flag: &'static Flag) -> bool {
        self.raw(flag).is_some_and(|value| value == "true")
    }

    /// The value of a flag as it was typed.
    pub fn raw(&self, flag: &'static Flag) -> Option<&'a OsStr> {
        self.flags.iter().rev().find(|(given, _)| std::ptr::eq(*given, flag)).map(|(_, value)| *value)
    }

    /// The value of a path flag.
    pub fn path(&self, flag: &'static Flag) -> Option<&'a Path> {
        self.raw(flag).map(Path::new)
    }

    /// The value of a text or word flag: the reader refused what is not UTF-8.
    pub fn text(&self, flag: &'static Flag) -> Option<&'a str> {
        self.raw(flag).and_then(OsStr::to_str)
    }

    /// The value of a number flag: the reader refused what is no number.
    pub fn number(&self, flag: &'static Flag) -> Option<u32> {
        self.text(flag).and_then(|text| text.parse().ok())
    }

    /// All values of a list flag, in order.
    pub fn list(&self, flag: &'static Flag) -> impl Iterator<Item = &'a str> {
        self.flags.iter().filter(move |(given, _)| std::ptr::eq(*given, flag)).filter_map(|(_, v)| v.to_str())
    }

    /// An argument as text.
    ///
    /// # Errors
    /// When there are fewer arguments, or it is not UTF-8.
    pub fn argument(&self, index: usize, name: &str) -> Result<&'a str, Error> {
        let word = self.rest.get(index).ok_or_else(|| usage(format!("{name} is missing")))?;
        word.to_str().ok_or_else(|| usage(format!("{name} {word:?} is not UTF-8")))
    }
}

/// An error about the command line.
pub fn usage(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Usage, message).with_code("usage")
}

/// Splits words into flags of `known` and arguments.
///
/// # Errors
/// An unknown flag, a flag without its value, a value of the wrong kind.
pub fn split<'a>(known: &[&'static Flag], words: &'a [OsString], order: Order) -> Result<Given<'a>, Error> {
    let mut given = Given::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let bytes = word.as_bytes();
        if bytes == b"--" {
            break;
        }
        if bytes.len() < 2 || !bytes.starts_with(b"-") {
            given.rest.push(word);
            if order == Order::FlagsFirst {
                break;
            }
            continue;
        }
        let (name, value) = name_and_value(word)?;
        let Some(flag) = known.iter().copied().find(|flag| flag.is_named(name)) else {
            if name == "help" || name == "h" {
                given.help = true;
                return Ok(given);
            }
            return Err(unknown(name, known));
        };
        let value = flag.value(word, value, &mut words)?;
        given.flags.push((flag, value));
    }
    given.rest.extend(words.map(OsString::as_os_str));
    Ok(given)
}

/// `--name=value` taken apart.
fn name_and_value(word: &OsStr) -> Result<(&str, Option<&OsStr>), Error> {
    let bytes = word.as_bytes();
    let body = bytes.strip_prefix(b"--").or_else(|| bytes.strip_prefix(b"-")).unwrap_or(bytes);
    let (name, value) = match body.iter().position(|&byte| byte == b'=') {
        Some(at) => {
            let (name, value) = body.split_at(at);
            (name, value.get(1..).map(OsStr::from_bytes))
        }
        None => (body, None),
    };
    match std::str::from_utf8(name) {
        Ok(name) if !name.is_empty() && !name.starts_with('-') => Ok((name, value)),
        _ => Err(usage(format!("bad flag syntax: {}", shown(word)))),
    }
}

fn shown(word: &OsStr) -> String {
    coracle::error::escape(&word.to_string_lossy()).into_owned()
}

fn unknown(name: &str, known: &[&'static Flag]) -> Error {
    let error = usage(format!("flag provided but not defined: -{name}"));
    if flags::GLOBAL.iter().any(|flag| flag.is_named(name)) {
        return error.with_hint(format!("--{name} goes before the command"));
    }
    let names = known.iter().filter(|flag| !flag.hidden).map(|flag| flag.long);
    match nearest(name, names) {
        Some(near) => error.with_hint(format!("did you mean --{near}?")),
        None => error,
    }
}

impl Flag {
    fn is_named(&self, name: &str) -> bool {
        self.long == name || (self.short != '\0' && name.len() == 1 && name.starts_with(self.short))
    }

    /// Finds and checks the value: the part behind `=`, or the next word.
    fn value<'a>(
        &self,
        word: &'a OsStr,
        inline: Option<&'a OsStr>,
        rest: &mut std::slice::Iter<'a, OsString>,
    ) -> Result<&'a OsStr, Error> {
        match self.takes {
            Takes::Switch => return self.switch(inline),
            Takes::MaybeWord(choices) if inline.is_none() => {
                let next = rest.as_slice().first().and_then(|next| next.to_str());
                let Some(choice) = next.and_then(|next| choices.iter().find(|choice| **choice == next))
                else {
                    return Ok(OsStr::new(choices.first().copied().unwrap_or_default()));
                };
                rest.next();
                return Ok(OsStr::new(*choice));
            }
            _ => {}
        }
        let Some(value) = inline.or_else(|| rest.next().map(OsString::as_os_str)) else {
            return Err(usage(format!("flag needs an argument: {}", shown(word))));
        };
        self.check(value)?;
        Ok(value)
    }

    /// `true` and `false` in the spellings that Go's strconv knows.
    fn switch(&self, inline: Option<&OsStr>) -> Result<&'static OsStr, Error> {
        match inline.map(OsStr::as_bytes) {
            None | Some(b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True") => Ok(OsStr::new("true")),
            Some(b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False") => Ok(OsStr::new("false")),
            Some(other) => {
                let other = String::from_utf8_lossy(other).into_owned();
                Err(usage(format!("invalid boolean value {other:?} for -{}: parse error", self.long)))
            }
        }
    }

    fn check(&self, value: &OsStr) -> Result<(), Error> {
        let wrong = |why: &str| {
            let value = value.to_string_lossy();
            Err(usage(format!("invalid value {value:?} for flag -{}: {why}", self.long)))
        };
        let Some(text) = value.to_str() else {
            return if matches!(self.takes, Takes::Path(_)) { Ok(()) } else { wrong("it is not UTF-8") };
        };
        match self.takes {
            Takes::Number(_) if text.starts_with('+') || text.parse::<u32>().is_err() => {
                wrong("it is not a whole number")
            }
            Takes::Word(choices) | Takes::MaybeWord(choices) if !choices.contains(&text) => {
                wrong(&format!("use {}", choices.join(" or ")))
            }
            _ => Ok(()),
        }
    }
}

/// The candidate that was probably meant: at most a third of the letters differ.
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = word.len().div_ceil(3);
    candidates
        .map(|candidate| (distance(word.as_bytes(), candidate.as_bytes()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        // Of two that are as near, the one that was begun.
        .min_by_key(|(distance, candidate)| (*distance, !candidate.starts_with(word)))
        .map(|(_, candidate)| candidate)
}

/// How many letters must be inserted, removed or replaced.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut before = i + 1;
        for (cell, right) in row.iter_mut().skip(1).zip(b) {
            let replaced = diagonal + usize::from(left != right);
            diagonal = *cell;
            *cell = replaced.min(diagonal + 1).min(before + 1);
            before = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}
