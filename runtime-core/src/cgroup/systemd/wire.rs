//! D-Bus messages as bytes: those that we send, and of those that come as much as we need (dbus-specification, "Message Protocol").
//!
//! What comes is from another process: every length is checked, nothing is believed. Must not: talk to anybody.
//! Tests: at the end of the file; fuzz target `dbus`.

/// The largest message that is read; systemd's answers to us have a few hundred bytes.
pub const MAX: usize = 1 << 20;

/// A value of a property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    Flag(bool),
    Number(u64),
    Small(u32),
    Signed(i32),
    Long(i64),
    Bytes(Vec<u8>),
    Numbers(Vec<u32>),
    Texts(Vec<String>),
    /// Pairs of a path and a rate.
    Rates(Vec<(String, u64)>),
}

impl Value {
    fn signature(&self) -> &'static str {
        match self {
            Self::Text(_) => "s",
            Self::Flag(_) => "b",
            Self::Number(_) => "t",
            Self::Small(_) => "u",
            Self::Signed(_) => "i",
            Self::Long(_) => "x",
            Self::Bytes(_) => "ay",
            Self::Numbers(_) => "au",
            Self::Texts(_) => "as",
            Self::Rates(_) => "a(st)",
        }
    }
}

/// A property of a unit.
pub(crate) type Property = (String, Value);

/// An argument of a call.
#[derive(Debug, Clone)]
pub(crate) enum Argument<'a> {
    Text(&'a str),
    Flag(bool),
    Signed(i32),
    Properties(&'a [Property]),
    /// An empty `a(sa(sv))`: no further units.
    NoUnits,
}

impl Argument<'_> {
    fn signature(&self) -> &'static str {
        match self {
            Self::Text(_) => "s",
            Self::Flag(_) => "b",
            Self::Signed(_) => "i",
            Self::Properties(_) => "a(sv)",
            Self::NoUnits => "a(sa(sv))",
        }
    }
}

/// A method call.
#[derive(Debug, Clone)]
pub(crate) struct Call<'a> {
    pub(crate) destination: &'a str,
    pub(crate) path: &'a str,
    pub(crate) interface: &'a str,
    pub(crate) member: &'a str,
    pub(crate) arguments: &'a [Argument<'a>],
}

/// Bytes in the making; alignment counts from the first one.
#[derive(Debug, Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn align(&mut self, to: usize) {
        let length = self.0.len().next_multiple_of(to);
        self.0.resize(length, 0);
    }

    fn u32(&mut self, value: u32) {
        self.align(4);
        self.0.extend(value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.align(8);
        self.0.extend(value.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.u32(length(text.len()));
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    /// At most 255 bytes, as all of ours are.
    fn signature(&mut self, text: &str) {
        self.0.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        self.0.extend(text.as_bytes());
        self.0.push(0);
    }

    /// A list: its length in bytes, the padding of its first element, the elements.
    fn list<T>(&mut self, align: usize, all: &[T], one: impl Fn(&mut Self, &T)) {
        self.u32(0);
        let at = self.0.len();
        self.align(align);
        let start = self.0.len();
        for element in all {
            self.align(align);
            one(self, element);
        }
        let bytes = length(self.0.len() - start).to_le_bytes();
        if let Some(place) = self.0.get_mut(at - 4..at) {
            place.copy_from_slice(&bytes);
        }
    }

    fn value(&mut self, value: &Value) {
        self.signature(value.signature());
        match value {
            Value::Text(text) => self.text(text),
            Value::Flag(flag) => self.u32(u32::from(*flag)),
            Value::Number(number) => self.u64(*number),
            Value::Small(number) => self.u32(*number),
            Value::Signed(number) => self.u32(u32::from_ne_bytes(number.to_ne_bytes())),
            Value::Long(number) => self.u64(u64::from_ne_bytes(number.to_ne_bytes())),
            Value::Bytes(bytes) => self.list(1, bytes, |out, byte| out.0.push(*byte)),
            Value::Numbers(all) => self.list(4, all, |out, number| out.u32(*number)),
            Value::Texts(all) => self.list(4, all, |out, text| out.text(text)),
            Value::Rates(all) => self.list(8, all, |out, (path, rate)| {
                out.text(path);
                out.u64(*rate);
            }),
        }
    }

    fn argument(&mut self, argument: &Argument<'_>) {
        match argument {
            Argument::Text(text) => self.text(text),
            Argument::Flag(flag) => self.u32(u32::from(*flag)),
            Argument::Signed(number) => self.u32(u32::from_ne_bytes(number.to_ne_bytes())),
            Argument::Properties(all) => self.list(8, all, |out, (name, value)| {
                out.text(name);
                out.value(value);
            }),
            Argument::NoUnits => self.list::<()>(8, &[], |_, ()| {}),
        }
    }

    fn field(&mut self, code: u8, signature: &str, text: &str) {
        self.align(8);
        self.0.push(code);
        self.signature(signature);
        match signature {
            "g" => self.signature(text),
            _ => self.text(text),
        }
    }
}

/// Nothing that we send comes near the limit of a message.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

impl Call<'_> {
    /// The message.
    pub(crate) fn encode(&self, serial: u32) -> Vec<u8> {
        let mut body = Writer::default();
        self.arguments.iter().for_each(|argument| body.argument(argument));
        let signature: String = self.arguments.iter().map(Argument::signature).collect();
        let mut out = Writer::default();
        // Little endian, a method call, no flags, version 1.
        out.0.extend([b'l', 1, 0, 1]);
        out.u32(length(body.0.len()));
        out.u32(serial);
        let mut fields = vec![
            (1, "o", self.path),
            (2, "s", self.interface),
            (3, "s", self.member),
            (6, "s", self.destination),
        ];
        if !signature.is_empty() {
            fields.push((8, "g", &signature));
        }
        out.list(8, &fields, |out, (code, signature, text)| out.field(*code, signature, text));
        out.align(8);
        out.0.extend(body.0);
        out.0
    }
}

/// What kind of message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Reply,
    Error,
    Signal,
    /// A call, or what a newer version has.
    Other,
}

/// A message that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    pub kind: Kind,
    /// To which of our calls it is the answer.
    pub reply_to: Option<u32>,
    pub member: String,
    /// Name of the error.
    pub error: String,
    /// The texts, paths and numbers that the body begins with, as text.
    pub arguments: Vec<String>,
}

/// Bytes that came, and how they are to be read.
#[derive(Debug, Clone, Copy)]
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big: bool,
}

impl<'a> Reader<'a> {
    fn align(&mut self, to: usize) -> Option<()> {
        self.at = self.at.checked_next_multiple_of(to)?;
        (self.at <= self.bytes.len()).then_some(())
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u32(&mut self) -> Option<u32> {
        self.align(4)?;
        let bytes = self.take(4)?.try_into().ok()?;
        Some(if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn u64(&mut self) -> Option<u64> {
        self.align(8)?;
        let bytes = self.take(8)?.try_into().ok()?;
        Some(if self.big { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) })
    }

    fn ended(&mut self, count: usize) -> Option<&'a str> {
        let text = std::str::from_utf8(self.take(count)?).ok()?;
        (self.u8()? == 0 && !text.contains('\0')).then_some(text)
    }

    fn text(&mut self) -> Option<&'a str> {
        let count = usize::try_from(self.u32()?).ok()?;
        self.ended(count)
    }

    fn signature(&mut self) -> Option<&'a str> {
        let count = usize::from(self.u8()?);
        self.ended(count)
    }

    /// A value of a basic type, as text.
    fn basic(&mut self, kind: char) -> Option<String> {
        Some(match kind {
            's' | 'o' => self.text()?.to_owned(),
            'g' => self.signature()?.to_owned(),
            'y' => self.u8()?.to_string(),
            'u' | 'b' | 'h' => self.u32()?.to_string(),
            'i' => i32::from_ne_bytes(self.u32()?.to_ne_bytes()).to_string(),
            't' => self.u64()?.to_string(),
            'x' => i64::from_ne_bytes(self.u64()?.to_ne_bytes()).to_string(),
            _ => return None,
        })
    }
}

/// The first bytes of a message, from which its length is known.
pub(crate) const FIRST: usize = 16;

/// How long the message is that begins with these bytes; `None` when it is none, or larger than [`MAX`].
pub fn total_length(first: &[u8]) -> Option<usize> {
    let mut reader = begin(first)?;
    let body = usize::try_from(reader.u32()?).ok()?;
    reader.u32()?;
    let fields = usize::try_from(reader.u32()?).ok()?;
    let header = FIRST.checked_add(fields)?.checked_next_multiple_of(8)?;
    header.checked_add(body).filter(|total| *total <= MAX)
}

fn begin(bytes: &[u8]) -> Option<Reader<'_>> {
    let big = match bytes.first()? {
        b'l' => false,
        b'B' => true,
        _ => return None,
    };
    (*bytes.get(3)? == 1).then_some(Reader { bytes, at: 4, big })
}

/// Reads a whole message; `None` when it is none.
pub fn decode(bytes: &[u8]) -> Option<Incoming> {
    if total_length(bytes)? != bytes.len() {
        return None;
    }
    let kind = match bytes.get(1)? {
        2 => Kind::Reply,
        3 => Kind::Error,
        4 => Kind::Signal,
        _ => Kind::Other,
    };
    let mut incoming =
        Incoming { kind, reply_to: None, member: String::new(), error: String::new(), arguments: Vec::new() };
    let mut reader = begin(bytes)?;
    reader.at = 12;
    let fields = usize::try_from(reader.u32()?).ok()?;
    let end = reader.at.checked_add(fields)?;
    let mut signature = "";
    while reader.at < end {
        reader.align(8)?;
        let code = reader.u8()?;
        let kind = reader.signature()?;
        let mut letters = kind.chars();
        let (Some(letter), None) = (letters.next(), letters.next()) else { return None };
        match (code, letter) {
            (5, 'u') => incoming.reply_to = Some(reader.u32()?),
            (3, 's') => reader.text()?.clone_into(&mut incoming.member),
            (4, 's') => reader.text()?.clone_into(&mut incoming.error),
            (8, 'g') => signature = reader.signature()?,
            (_, letter) => drop(reader.basic(letter)?),
        }
    }
    if reader.at != end {
        return None;
    }
    reader.align(8)?;
    for letter in signature.chars() {
        // What we ask for begins with basic types; what follows them is not for us.
        if !"soguybithx".contains(letter) {
            break;
        }
        incoming.arguments.push(reader.basic(letter)?);
    }
    Some(incoming)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(arguments: &[Argument<'_>]) -> Vec<u8> {
        Call { destination: "a.b", path: "/c", interface: "d.e", member: "F", arguments }.encode(7)
    }

    #[test]
    fn a_call_as_the_specification_lays_it_out() {
        let bytes = call(&[Argument::Text("hi"), Argument::Flag(true)]);
        let body = bytes.len() - 12;
        assert_eq!(bytes[..4], [b'l', 1, 0, 1]);
        assert_eq!(bytes[4..12], [12, 0, 0, 0, 7, 0, 0, 0]);
        assert_eq!(bytes[16..26], [1, 1, b'o', 0, 2, 0, 0, 0, b'/', b'c']);
        assert_eq!(bytes[body..], [2, 0, 0, 0, b'h', b'i', 0, 0, 1, 0, 0, 0]);
        assert_eq!(total_length(&bytes[..FIRST]), Some(bytes.len()));
        // What we write can be read, as far as basic types go.
        let read = decode(&bytes).unwrap();
        assert_eq!((read.kind, read.member.as_str()), (Kind::Other, "F"));
        assert_eq!(read.arguments, ["hi", "1"]);
    }

    #[test]
    fn properties_are_aligned_lists_of_variants() {
        let properties = [
            ("A".to_owned(), Value::Flag(true)),
            ("B".to_owned(), Value::Number(5)),
            ("C".to_owned(), Value::Numbers(vec![9])),
        ];
        let mut out = Writer::default();
        out.argument(&Argument::Properties(&properties));
        let expected: Vec<u8> = [
            &[60, 0, 0, 0, 0, 0, 0, 0][..],
            &[1, 0, 0, 0, b'A', 0, 1, b'b', 0, 0, 0, 0, 1, 0, 0, 0],
            &[1, 0, 0, 0, b'B', 0, 1, b't', 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0],
            &[1, 0, 0, 0, b'C', 0, 2, b'a', b'u', 0, 0, 0, 4, 0, 0, 0, 9, 0, 0, 0],
        ]
        .concat();
        assert_eq!(out.0, expected);
        let mut none = Writer::default();
        none.argument(&Argument::NoUnits);
        assert_eq!(none.0, [0; 8]);
    }

    /// A signal as systemd sends it: fields in another order, further ones among them, big endian.
    #[test]
    fn a_signal_is_read_in_either_order_of_bytes() {
        let mut out = vec![b'B', 4, 1, 1, 0, 0, 0, 11, 0, 0, 0, 3];
        let mut fields: Vec<u8> = Vec::new();
        for (code, kind, text) in [(3u8, b's', "JobRemoved"), (8, b'g', "us"), (7, b's', ":1.5")] {
            fields.resize(fields.len().next_multiple_of(8), 0);
            fields.extend([code, 1, kind, 0]);
            match kind {
                b'g' => fields.push(2),
                _ => fields.extend(u32::try_from(text.len()).unwrap().to_be_bytes()),
            }
            fields.extend(text.as_bytes());
            fields.push(0);
        }
        out.extend(u32::try_from(fields.len()).unwrap().to_be_bytes());
        out.extend(fields);
        out.resize(out.len().next_multiple_of(8), 0);
        out.extend([0, 0, 1, 0, 0, 0, 0, 2, b'o', b'k', 0]);
        let read = decode(&out).unwrap();
        assert_eq!((read.kind, read.member.as_str()), (Kind::Signal, "JobRemoved"));
        assert_eq!(read.arguments, ["256", "ok"]);
        for cut in 0..out.len() {
            assert_eq!(decode(&out[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn lengths_that_are_too_large_are_no_message() {
        let mut first = [0u8; FIRST];
        first[..4].copy_from_slice(&[b'l', 2, 0, 1]);
        first[4..8].fill(0xff);
        assert_eq!(total_length(&first), None);
        first[4..8].fill(0);
        first[12..16].fill(0xff);
        assert_eq!(total_length(&first), None);
        first[12..16].fill(0);
        assert_eq!(total_length(&first), Some(FIRST));
        first[3] = 2;
        assert_eq!(total_length(&first), None);
    }
}
