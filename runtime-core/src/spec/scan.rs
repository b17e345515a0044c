//! One pass over the bytes of a JSON document that knows where it is.
//!
//! For: what the parser does not check (depth, a property given twice, NUL in a text), and the JSON pointer (RFC 6901)
//! of a byte offset, so that the parse itself has no bookkeeping.
//! Must not: decide whether the text is JSON at all; where it is not, the scan ends quietly and the parser complains.
//! Tests: at the end of the file; `load.rs` compares the pointers with those of another implementation.

use std::borrow::Cow;

/// How deep lists and objects may be nested.
pub const MAX_DEPTH: usize = 64;

/// Up to here, keys of one object are compared as they come; beyond, once at the object's end.
const FEW_KEYS: usize = 24;

/// What is wrong, and the offset of the byte that shows it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub offset: usize,
    pub pointer: String,
    pub message: &'static str,
}

struct Frame {
    object: bool,
    /// Where this object's keys begin in `Scan::keys`.
    first_key: usize,
    /// Index of the current element of a list.
    index: usize,
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Frame>,
    /// Keys of the open objects, outermost first, each with the offset of its first byte.
    keys: Vec<(Cow<'a, [u8]>, usize)>,
    key_next: bool,
}

/// Looks for what no document may have.
pub(super) fn check(bytes: &[u8]) -> Result<(), Fault> {
    let mut scan = Scan::new(bytes);
    scan.run(bytes.len(), true)
}

/// The pointer of the innermost value that the byte at `offset` belongs to.
pub(super) fn locate(bytes: &[u8], offset: usize) -> String {
    let mut scan = Scan::new(bytes);
    // The faults have been looked for before; here only the place counts.
    let _ = scan.run(offset, false);
    let mut pointer = scan.pointer();
    // A bracket belongs to the list or object itself, not to what is inside.
    let inside = match (bytes.get(offset), scan.stack.last()) {
        (Some(b'[' | b']'), Some(frame)) => !frame.object,
        (Some(b'}'), Some(frame)) => frame.object && !scan.key_next && frame.first_key < scan.keys.len(),
        _ => false,
    };
    if inside {
        pointer.truncate(pointer.rfind('/').unwrap_or(0));
    }
    pointer
}

/// Appends one token to a JSON pointer, escaped as RFC 6901 says.
pub fn push_token(pointer: &mut String, token: &str) {
    pointer.push('/');
    for c in token.chars() {
        match c {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            c => pointer.push(c),
        }
    }
}

impl<'a> Scan<'a> {
    fn new(bytes: &'a [u8]) -> Scan<'a> {
        Scan { bytes, at: 0, stack: Vec::with_capacity(16), keys: Vec::with_capacity(64), key_next: false }
    }

    /// Walks over all bytes before `end`, and over the value that begins at it.
    fn run(&mut self, end: usize, check: bool) -> Result<(), Fault> {
        while self.at <= end {
            let Some(&byte) = self.bytes.get(self.at) else { break };
            match byte {
                b'"' => self.string(check)?,
                b'{' | b'[' => self.open(byte == b'{', check)?,
                b'}' | b']' if self.at < end => self.close(check)?,
                b',' if self.at < end => {
                    if let Some(frame) = self.stack.last_mut() {
                        frame.index += 1;
                        self.key_next = frame.object;
                    }
                }
                _ => {}
            }
            self.at += 1;
        }
        Ok(())
    }

    fn open(&mut self, object: bool, check: bool) -> Result<(), Fault> {
        if check && self.stack.len() >= MAX_DEPTH {
            return Err(self.fault(self.at, "nests lists and objects more than 64 deep"));
        }
        self.stack.push(Frame { object, first_key: self.keys.len(), index: 0 });
        self.key_next = object;
        Ok(())
    }

    fn close(&mut self, check: bool) -> Result<(), Fault> {
        let Some(frame) = self.stack.last() else { return Ok(()) };
        let first = frame.first_key;
        let keys = self.keys.get_mut(first..).unwrap_or_default();
        if check && keys.len() > FEW_KEYS {
            keys.sort_unstable();
            let twice = keys.windows(2).find_map(|pair| match pair {
                [(a, _), (b, offset)] if a == b => Some((b.clone(), *offset)),
                _ => None,
            });
            if let Some(twice) = twice {
                let offset = twice.1;
                self.keys.push(twice);
                return Err(self.fault(offset, TWICE));
            }
        }
        self.keys.truncate(first);
        self.stack.pop();
        self.key_next = false;
        Ok(())
    }

    /// Walks over the string that begins here, up to its closing quote.
    fn string(&mut self, check: bool) -> Result<(), Fault> {
        let start = self.at + 1;
        let mut at = start;
        let mut plain = true;
        let mut nul = None;
        loop {
            match self.bytes.get(at) {
                Some(b'"') => break,
                Some(b'\\') => {
                    plain = false;
                    if self.bytes.get(at + 1..at + 6) == Some(b"u0000") {
                        nul = Some(at);
                    }
                    at += 2;
                }
                Some(_) => at += 1,
                None => {
                    self.at = self.bytes.len();
                    return Ok(());
                }
            }
        }
        let is_key = self.key_next && self.stack.last().is_some_and(|frame| frame.object);
        if is_key {
            self.key_next = false;
            let raw = self.bytes.get(start..at).unwrap_or_default();
            self.key(if plain { Cow::Borrowed(raw) } else { unescape(raw) }, start, check)?;
        }
        if let (true, Some(offset)) = (check, nul) {
            return Err(self.fault(offset, "holds a NUL character, which no text can have"));
        }
        self.at = at;
        Ok(())
    }

    fn key(&mut self, key: Cow<'a, [u8]>, offset: usize, check: bool) -> Result<(), Fault> {
        let first = self.stack.last().map_or(0, |frame| frame.first_key);
        let known = self.keys.get(first..).unwrap_or_default();
        let twice = check && known.len() <= FEW_KEYS && known.iter().any(|(other, _)| *other == key);
        self.keys.push((key, offset));
        if twice { Err(self.fault(offset, TWICE)) } else { Ok(()) }
    }

    fn fault(&self, offset: usize, message: &'static str) -> Fault {
        Fault { offset, pointer: self.pointer(), message }
    }

    fn pointer(&self) -> String {
        let mut pointer = String::new();
        for (depth, frame) in self.stack.iter().enumerate() {
            if !frame.object {
                push_token(&mut pointer, &frame.index.to_string());
                continue;
            }
            let next = self.stack.get(depth + 1).map_or(self.keys.len(), |inner| inner.first_key);
            let keys = self.keys.get(frame.first_key..next).unwrap_or_default();
            let innermost = depth + 1 == self.stack.len();
            match keys.last() {
                // After the comma there is no current property yet.
                Some(_) if innermost && self.key_next => {}
                Some((key, _)) => push_token(&mut pointer, &String::from_utf8_lossy(key)),
                None => {}
            }
        }
        pointer
    }
}

const TWICE: &str = "is given twice in the same object";

/// The text of a key that is written with escapes.
fn unescape(raw: &[u8]) -> Cow<'_, [u8]> {
    let mut quoted = Vec::with_capacity(raw.len() + 2);
    quoted.push(b'"');
    quoted.extend_from_slice(raw);
    quoted.push(b'"');
    match serde_json::from_slice::<String>(&quoted) {
        Ok(text) => Cow::Owned(text.into_bytes()),
        Err(_) => Cow::Borrowed(raw),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Option<(String, &'static str)> {
        check(text.as_bytes()).err().map(|f| (f.pointer, f.message))
    }

    #[test]
    fn a_property_given_twice_is_found() {
        for (text, pointer) in [
            (r#"{"a":1,"a":2}"#, "/a"),
            (r#"{"x":[{"a":1},{"b":{"c":1,"d":[{}],"c":2}}]}"#, "/x/1/b/c"),
            (r#"{"a":1,"\u0061":2}"#, "/a"),
            (r#"{"a/b~":1,"a/b~":2}"#, "/a~1b~0"),
            (r#"{"":1,"":2}"#, "/"),
        ] {
            assert_eq!(fault(text), Some((pointer.to_owned(), TWICE)), "{text}");
        }
        for text in [
            r#"{"a":{"a":{"a":1}},"b":[{"a":1},{"a":1}]}"#,
            r#"{"a":"a","b":"b"}"#,
            r#"{"a":["a","a",{"a":"a"}],"A":1}"#,
            r#"{"a":"\"a\":","b":"{\"a\":1,\"a\":2}"}"#,
        ] {
            assert_eq!(fault(text), None, "{text}");
        }
    }

    #[test]
    fn a_property_given_twice_is_found_among_many() {
        let mut text = String::from("{\"m\":{");
        for i in 0..1000 {
            text.push_str(&format!("\"k{i}\":\"k{i}\","));
        }
        let once = format!("{text}\"z\":1}}}}");
        let twice = format!("{text}\"k17\":1}}}}");
        assert_eq!(fault(&once), None);
        assert_eq!(fault(&twice), Some(("/m/k17".to_owned(), TWICE)));
        let few_then_one =
            format!("{{{}\"q0\":1}}", (0..24).map(|i| format!("\"q{i}\":1,")).collect::<String>());
        assert_eq!(fault(&few_then_one), Some(("/q0".to_owned(), TWICE)));
    }

    #[test]
    fn nul_is_found_in_values_and_keys() {
        let nul = "holds a NUL character, which no text can have";
        assert_eq!(fault(r#"{"a":["x","y\u0000"]}"#), Some(("/a/1".to_owned(), nul)));
        assert_eq!(fault(r#"["\u0000"]"#), Some(("/0".to_owned(), nul)));
        assert_eq!(fault(r#"{"a\u0000b":1}"#).map(|f| f.1), Some(nul));
        assert_eq!(fault(r#"{"a":"\\u0000"}"#), None);
        assert_eq!(fault(r#"{"a":"\u00001"}"#).map(|f| f.1), Some(nul));
        assert_eq!(fault(r#"{"a":"\u0001"}"#), None);
    }

    #[test]
    fn depth_is_limited() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert_eq!(fault(&nested(MAX_DEPTH)), None);
        let found = fault(&nested(MAX_DEPTH + 1)).map(|f| f.1);
        assert_eq!(found, Some("nests lists and objects more than 64 deep"));
        assert!(fault(&"[".repeat(1_000_000)).is_some());
    }

    #[test]
    fn text_that_is_no_json_ends_quietly() {
        for text in
            ["", "}", "]]]", ",,,", "\"", "{\"a", "{\"a\\", "{\"a\\u00", "{]", "[}", "{\"a\":]}", "\"\\"]
        {
            assert_eq!(fault(text), None, "{text}");
        }
    }

    #[test]
    fn a_byte_belongs_to_the_innermost_value() {
        let text = r#"{"a": [10, {"b": "x"}, []], "c": tru}"#;
        for (piece, pointer) in [
            ("[10", "/a"),
            ("10", "/a/0"),
            ("{\"b\"", "/a/1"),
            ("\"x\"", "/a/1/b"),
            ("[]", "/a/2"),
            ("tru", "/c"),
            ("u}", "/c"),
            ("}, [", "/a/1"),
            ("], \"c\"", "/a"),
        ] {
            let offset = text.find(piece).expect("piece");
            assert_eq!(locate(text.as_bytes(), offset), pointer, "{piece}");
        }
        assert_eq!(locate(b"{}", 0), "");
        assert_eq!(locate(b"{\"a\":{}}", 6), "/a");
        assert_eq!(locate(b"[1]", 0), "");
    }
}
