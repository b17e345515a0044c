//! The growing half of a program: strings, lists and bytes that steps refer to by offset.
//!
//! A plan writes its steps' data here while it decides, so nothing is copied again when it is run. Offsets count from the start of
//! the finished program; the header's room is reserved at the front.
//!
//! Must not: know what a step does. Tests: at the end of this file, and through `coracle_init::program` in every plan.

use crate::error::{Error, ErrorKind, Result};
use coracle_init::program::{Bytes, HEADER_LEN, Header, STEP_LEN, Step, Str, StrList};

/// Data of a program that is being written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arena {
    bytes: Vec<u8>,
}

impl Arena {
    /// An empty arena with room for the header.
    pub(crate) fn new() -> Self {
        let mut bytes = Vec::with_capacity(16 * 1024);
        bytes.resize(HEADER_LEN, 0);
        Self { bytes }
    }

    /// Adds a string.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSpec`] when it contains NUL or the arena would pass 4 GiB.
    pub(crate) fn str(&mut self, text: &[u8]) -> Result<Str> {
        if text.contains(&0) {
            return Err(Error::new(ErrorKind::InvalidSpec, "a string contains a NUL character")
                .with_code("string-nul"));
        }
        let off = self.offset()?;
        self.bytes.extend_from_slice(text);
        self.bytes.push(0);
        Ok(Str { off, len: number(text.len())? })
    }

    /// Adds a string made of parts.
    ///
    /// # Errors
    /// As [`Arena::str`].
    pub(crate) fn concat(&mut self, parts: &[&str]) -> Result<Str> {
        let joined = parts.concat();
        self.str(joined.as_bytes())
    }

    /// Adds a list of strings.
    ///
    /// # Errors
    /// As [`Arena::str`].
    pub(crate) fn list<T: AsRef<[u8]>>(&mut self, items: impl IntoIterator<Item = T>) -> Result<StrList> {
        let entries: Vec<Str> =
            items.into_iter().map(|item| self.str(item.as_ref())).collect::<Result<_>>()?;
        self.align(4);
        let off = self.offset()?;
        for entry in &entries {
            self.bytes.extend_from_slice(&entry.off.to_ne_bytes());
            self.bytes.extend_from_slice(&entry.len.to_ne_bytes());
        }
        Ok(StrList { off, count: number(entries.len())? })
    }

    /// Adds raw bytes on an 8-byte boundary.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSpec`] when the arena would pass 4 GiB.
    pub(crate) fn raw(&mut self, data: &[u8]) -> Result<Bytes> {
        self.align(8);
        let off = self.offset()?;
        self.bytes.extend_from_slice(data);
        Ok(Bytes { off, len: number(data.len())? })
    }

    /// What has been written, header room included.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The finished program: header, what has been written, steps. One allocation, so that nothing else is left behind by making it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidSpec`] when it would pass 4 GiB.
    pub(crate) fn finish<'s>(
        &self,
        steps: impl ExactSizeIterator<Item = (u32, &'s Step)>,
        slots: u32,
        words: u32,
    ) -> Result<Vec<u8>> {
        let steps_at = self.bytes.len().next_multiple_of(8);
        let total = steps.len().saturating_mul(STEP_LEN).saturating_add(steps_at);
        let header = Header {
            total: number(total)?,
            steps: number(steps.len())?,
            slots,
            words,
            steps_at: number(steps_at)?,
        };
        let mut bytes = Vec::with_capacity(total);
        bytes.extend_from_slice(&header.encode());
        bytes.extend_from_slice(self.bytes.get(HEADER_LEN..).unwrap_or_default());
        bytes.resize(steps_at, 0);
        for (plan_step, step) in steps {
            let (op, fields) = step.encode();
            bytes.extend_from_slice(&op.to_ne_bytes());
            bytes.extend_from_slice(&plan_step.to_ne_bytes());
            for field in fields {
                bytes.extend_from_slice(&field.to_ne_bytes());
            }
        }
        Ok(bytes)
    }

    fn align(&mut self, to: usize) {
        let padded = self.bytes.len().next_multiple_of(to);
        self.bytes.resize(padded, 0);
    }

    fn offset(&self) -> Result<u32> {
        number(self.bytes.len())
    }
}

fn number(n: usize) -> Result<u32> {
    u32::try_from(n)
        .map_err(|_| Error::new(ErrorKind::InvalidSpec, "the configuration needs a program above 4 GiB"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_init::program::Program;

    #[test]
    fn what_was_written_is_what_the_walker_reads() {
        let mut arena = Arena::new();
        let name = arena.str(b"web").unwrap();
        let list = arena.list(["a=1", ""]).unwrap();
        let raw = arena.raw(&[1, 2, 3]).unwrap();
        let steps = [Step::Hostname { name }, Step::SetSid];
        let bytes = arena.finish([(4, &steps[0]), (5, &steps[1])].into_iter(), 2, 3).unwrap();
        let program = Program::new(&bytes).unwrap();
        assert_eq!(program.step(0), Ok((4, steps[0])));
        assert_eq!(program.step(1), Ok((5, steps[1])));
        assert_eq!(program.cstr(name).unwrap(), c"web");
        assert_eq!(program.str(program.item(list, 0).unwrap()), Ok(&b"a=1"[..]));
        assert_eq!(program.cstr(program.item(list, 1).unwrap()).unwrap(), c"");
        assert_eq!(program.raw(raw), Ok(&[1_u8, 2, 3][..]));
        assert_eq!(raw.off % 8, 0);
    }

    #[test]
    fn a_nul_inside_is_refused() {
        assert!(Arena::new().str(b"a\0b").is_err());
    }
}
