//! Where in a document a rule looks, and what it found.
//!
//! For: collecting every violation with its JSON pointer at no cost for a document that has none: a [`Place`] is two
//! words on the stack, and its text is only made when it is needed.
//! Must not: know rules. Tests: at the end of the file.

use std::borrow::Cow;

use crate::error::{Error, ErrorKind, Phase, escape};
use crate::spec::push_token;

/// Characters of a value that are repeated in a message.
const SHOWN: usize = 80;

/// A rule that a document breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// JSON pointer of the value (RFC 6901).
    pub pointer: String,
    /// What is wrong with it: one lower-case sentence.
    pub message: String,
    /// What the writer can do, where that is not plain from the message.
    pub hint: Option<&'static str>,
    /// Stable name of the rule.
    pub code: &'static str,
}

/// Something a document asks for that is legal, and that its writer should know about.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Warning {
    /// JSON pointer of the value (RFC 6901).
    pub pointer: String,
    /// What happens: one lower-case sentence.
    pub message: String,
    /// Stable name of the rule.
    pub code: &'static str,
}

/// Code of the one thing that the specification allows and coracle does not do.
pub(super) const MOUNTS_JOINED: &str = "mount-namespace-joined";

impl From<Violation> for Error {
    fn from(violation: Violation) -> Error {
        let kind =
            if violation.code == MOUNTS_JOINED { ErrorKind::Unsupported } else { ErrorKind::InvalidSpec };
        let error = Error::new(kind, violation.message)
            .at(violation.pointer)
            .with_code(violation.code)
            .in_phase(Phase::Validate);
        match violation.hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

/// One error for all violations: the first, with the others attached. `None` when there are none.
pub fn violations_error(violations: Vec<Violation>) -> Option<Error> {
    let mut errors = violations.into_iter().map(Error::from);
    let first = errors.next()?;
    Some(first.with_more(errors.collect()))
}

/// A place in a document.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    parent: Option<&'a Place<'a>>,
    token: Token<'a>,
}

#[derive(Clone, Copy)]
enum Token<'a> {
    Root,
    Key(&'a str),
    Index(usize),
}

impl<'a> Place<'a> {
    /// The document as a whole.
    pub const ROOT: Place<'static> = Place { parent: None, token: Token::Root };

    /// The property of this name.
    pub fn key(&'a self, key: &'a str) -> Place<'a> {
        Place { parent: Some(self), token: Token::Key(key) }
    }

    /// The element of this index.
    pub fn index(&'a self, index: usize) -> Place<'a> {
        Place { parent: Some(self), token: Token::Index(index) }
    }

    /// The JSON pointer.
    pub fn pointer(&self) -> String {
        let mut pointer = self.parent.map(Place::pointer).unwrap_or_default();
        match self.token {
            Token::Root => {}
            Token::Key(key) => push_token(&mut pointer, key),
            Token::Index(index) => push_token(&mut pointer, &index.to_string()),
        }
        pointer
    }
}

/// What the rules found.
#[derive(Default)]
pub(super) struct Report {
    pub violations: Vec<Violation>,
    pub warnings: Vec<Warning>,
}

impl Report {
    pub fn refuse(&mut self, at: &Place<'_>, code: &'static str, message: impl Into<Cow<'static, str>>) {
        self.add(at, code, message.into(), None);
    }

    pub fn refuse_with(
        &mut self,
        at: &Place<'_>,
        code: &'static str,
        message: impl Into<Cow<'static, str>>,
        hint: &'static str,
    ) {
        self.add(at, code, message.into(), Some(hint));
    }

    // Out of line: it is called from hundreds of places that are never reached for a good document.
    #[cold]
    #[inline(never)]
    fn add(
        &mut self,
        at: &Place<'_>,
        code: &'static str,
        message: Cow<'static, str>,
        hint: Option<&'static str>,
    ) {
        self.violations.push(Violation { pointer: at.pointer(), message: message.into_owned(), hint, code });
    }

    #[cold]
    #[inline(never)]
    pub fn warn(&mut self, at: &Place<'_>, code: &'static str, message: impl Into<String>) {
        self.warnings.push(Warning { pointer: at.pointer(), message: message.into(), code });
    }

    /// The text can be handed to the kernel. Loading refuses NUL too, but not every document was loaded.
    #[inline(never)]
    pub fn text(&mut self, at: &Place<'_>, text: &str) -> bool {
        if text.as_bytes().contains(&0) {
            self.refuse(at, "text-nul", "holds a NUL character, which no text can have");
            return false;
        }
        true
    }

    /// The text is one line.
    #[inline(never)]
    pub fn line(&mut self, at: &Place<'_>, text: &str) -> bool {
        if text.contains('\n') {
            self.refuse(at, "text-lines", "holds a line break where only one line can be written");
            return false;
        }
        self.text(at, text)
    }

    /// The text is a path that the kernel can take.
    #[inline(never)]
    pub fn path(&mut self, at: &Place<'_>, path: &str) -> bool {
        if path.is_empty() {
            self.refuse(at, "path-empty", "expects a path, found an empty text");
            return false;
        }
        if path.len() >= 4096 {
            self.refuse(at, "path-too-long", "is longer than 4095 bytes, the kernel's limit for a path");
            return false;
        }
        if path.split('/').any(|component| component.len() > 255) {
            self.refuse(at, "path-too-long", "has a component longer than 255 bytes, the kernel's limit");
            return false;
        }
        self.text(at, path)
    }

    /// The text is an absolute path that the kernel can take.
    #[inline(never)]
    pub fn absolute(&mut self, at: &Place<'_>, path: &str) -> bool {
        if !path.is_empty() && !path.starts_with('/') {
            self.refuse(at, "path-not-absolute", format!("expects an absolute path, found {}", shown(path)));
            return false;
        }
        self.path(at, path)
    }

    /// There are not more elements than a sane document has.
    #[inline(never)]
    pub fn count(&mut self, at: &Place<'_>, count: usize, most: usize) -> bool {
        if count > most {
            self.refuse(at, "too-many", format!("has {count} elements, more than {most}"));
            return false;
        }
        true
    }

    /// The word is out of a closed list.
    pub fn word<T: Copy>(&mut self, at: &Place<'_>, word: &str, table: &[(&'static str, T)]) -> Option<T> {
        let found = table.iter().find(|(name, _)| *name == word).map(|(_, value)| *value);
        if found.is_none() {
            self.unknown(at, word, table.iter().map(|(name, _)| *name));
        }
        found
    }

    /// The word is none of these.
    #[cold]
    pub fn unknown(
        &mut self,
        at: &Place<'_>,
        word: &str,
        names: impl ExactSizeIterator<Item = &'static str> + Clone,
    ) {
        let message = match crate::spec::nearest(word, names.clone()) {
            Some(near) => format!("does not know {}; did you mean \"{near}\"?", shown(word)),
            None if names.len() <= 12 => {
                let names: Vec<_> = names.collect();
                format!("does not know {}, only {}", shown(word), names.join(", "))
            }
            None => format!("does not know {}", shown(word)),
        };
        self.refuse(at, "value-unknown", message);
    }
}

/// A value as it is repeated in a message: quoted, harmless, not too long.
#[cold]
#[inline(never)]
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("\"{}\"...", escape(text.get(..end).unwrap_or_default())),
        None => format!("\"{}\"", escape(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_become_pointers() {
        let (root, a) = (Place::ROOT, Place::ROOT.key("a"));
        assert_eq!(root.pointer(), "");
        assert_eq!(a.index(3).key("b/c~d").pointer(), "/a/3/b~1c~0d");
        assert_eq!(root.key("").pointer(), "/");
    }

    #[test]
    fn all_violations_become_one_error() {
        assert!(violations_error(Vec::new()).is_none());
        let mut report = Report::default();
        report.refuse_with(&Place::ROOT.key("a"), "rule-one", "is wrong", "change it");
        report.refuse(&Place::ROOT.key("b"), MOUNTS_JOINED, "is not done");
        let error = violations_error(report.violations).expect("error");
        assert_eq!(
            (error.pointer(), error.code(), error.hint()),
            (Some("/a"), "rule-one", Some("change it"))
        );
        assert_eq!(error.kind(), ErrorKind::InvalidSpec);
        assert_eq!(error.more().len(), 1);
        assert_eq!(error.more()[0].kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn values_in_messages_are_harmless_and_short() {
        assert_eq!(shown("a\nb\u{202e}"), "\"a\\nb\\u{202e}\"");
        assert_eq!(shown(&"x".repeat(81)), format!("\"{}\"...", "x".repeat(80)));
    }

    #[test]
    fn texts_and_paths() {
        let long = format!("/{}", "a/".repeat(2100));
        let component = format!("/{}", "a".repeat(256));
        for (path, code) in [
            ("/a/b", None),
            ("/", None),
            ("a", Some("path-not-absolute")),
            ("", Some("path-empty")),
            ("/a\0", Some("text-nul")),
            (long.as_str(), Some("path-too-long")),
            (component.as_str(), Some("path-too-long")),
        ] {
            let mut report = Report::default();
            assert_eq!(report.absolute(&Place::ROOT, path), code.is_none());
            assert_eq!(report.violations.first().map(|v| v.code), code, "{path}");
            assert!(report.violations.len() < 2);
        }
    }
}
