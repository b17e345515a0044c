//! System call names and numbers.
//!
//! A name is found by a hash whose slots are filled when the crate is compiled, so that a start-up pays one probe and one
//! comparison per name and nothing is built or relocated. Must not: depend on the machine it runs on.
//! Tests: below, and `tests/tables.rs` (against two independent tables).

mod data;
mod narrow;

use crate::Arch;
use data::{COUNT, NAMES, NO, ROWS};

pub(crate) use narrow::narrow_args;

/// Bit 30 of a number: the call is made through the x32 ABI.
pub(crate) const X32_BIT: u32 = 0x4000_0000;
/// First of ARM's private calls (`__ARM_NR_BASE`); the table keeps them from [`ARM_STORED`] on.
pub(crate) const ARM_PRIVATE: u32 = 0x000f_0000;
const ARM_STORED: u16 = 0xf000;

/// A call of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id(u16);

const SLOTS: usize = 1024;
const _: () = assert!(COUNT * 3 / 2 < SLOTS, "too full: probing gets long, make the table larger");
const EMPTY: u16 = u16::MAX;

/// Start and length of each name in [`NAMES`].
static SPANS: [(u16, u8); COUNT] = spans();
static HASHED: [u16; SLOTS] = hashed();

/// FNV-1a. Names are hashed one by one at start-up, so it is short rather than good.
const fn hash(mut name: &[u8]) -> u32 {
    let mut hash: u32 = 0x811c_9dc5;
    while let [first, rest @ ..] = name {
        hash = (hash ^ *first as u32).wrapping_mul(0x0100_0193);
        name = rest;
    }
    hash ^ (hash >> 15)
}

#[expect(clippy::indexing_slicing, reason = "runs at compile time only, where out of range does not compile")]
const fn spans() -> [(u16, u8); COUNT] {
    let text = NAMES.as_bytes();
    let mut spans = [(0, 0); COUNT];
    let (mut at, mut found) = (0, 0);
    while at < text.len() {
        let start = at;
        while text[at] > b' ' {
            at += 1;
        }
        if at > start {
            assert!(start <= u16::MAX as usize && at - start <= u8::MAX as usize);
            spans[found] = (start as u16, (at - start) as u8);
            found += 1;
        }
        at += 1;
    }
    assert!(found == COUNT);
    spans
}

#[expect(clippy::indexing_slicing, reason = "runs at compile time only, where out of range does not compile")]
const fn hashed() -> [u16; SLOTS] {
    let spans = spans();
    let mut slots = [EMPTY; SLOTS];
    let mut id = 0;
    while id < COUNT {
        let (_, tail) = NAMES.as_bytes().split_at(spans[id].0 as usize);
        let (name, _) = tail.split_at(spans[id].1 as usize);
        let mut slot = hash(name) as usize % SLOTS;
        while slots[slot] != EMPTY {
            slot = (slot + 1) % SLOTS;
        }
        slots[slot] = id as u16;
        id += 1;
    }
    slots
}

/// The name of a call of the table.
fn text(id: Id) -> Option<&'static str> {
    let (start, len) = *SPANS.get(usize::from(id.0))?;
    NAMES.get(usize::from(start)..usize::from(start) + usize::from(len))
}

/// Finds a call by name.
pub(crate) fn find(name: &str) -> Option<Id> {
    // The remainder is below SLOTS, which is far below what usize holds.
    let mut slot = usize::try_from(hash(name.as_bytes())).ok()? % SLOTS;
    loop {
        let id = *HASHED.get(slot)?;
        if id == EMPTY {
            return None;
        }
        if text(Id(id)) == Some(name) {
            return Some(Id(id));
        }
        // A third of the slots is empty (asserted above), so this ends.
        slot = (slot + 1) % SLOTS;
    }
}

/// The number of a call as the kernel shows it to a filter: with bit 30 on x32, with the base on MIPS.
pub(crate) fn number(arch: Arch, id: Id) -> Option<u32> {
    let stored = *ROWS.get(usize::from(id.0))?.get(arch.column())?;
    match arch {
        _ if stored == NO => None,
        Arch::X32 => Some(u32::from(stored) | X32_BIT),
        Arch::Arm if stored >= ARM_STORED => Some(ARM_PRIVATE + u32::from(stored - ARM_STORED)),
        _ => Some(u32::from(stored)),
    }
}

/// The kernel release whose numbers the tables hold.
pub fn kernel_release() -> &'static str {
    data::RELEASE
}

/// Whether any architecture has, or ever had, a call of this name.
pub fn exists(name: &str) -> bool {
    find(name).is_some()
}

/// The number of the call `name` on `arch`, as the kernel shows it to a filter (x32: with bit 30).
///
/// `None` when the architecture does not have it.
pub fn number_of(arch: Arch, name: &str) -> Option<u32> {
    number(arch, find(name)?)
}

/// The name of call `number` on `arch`; the first in the alphabet when there are two. Searches the whole table.
pub fn name_of(arch: Arch, number: u32) -> Option<&'static str> {
    ids().find(|&id| self::number(arch, id) == Some(number)).and_then(text)
}

/// All names that exist on `arch` with their numbers, in the order of the alphabet.
pub fn names(arch: Arch) -> impl Iterator<Item = (&'static str, u32)> {
    ids().filter_map(move |id| Some((text(id)?, number(arch, id)?)))
}

fn ids() -> impl Iterator<Item = Id> {
    (0..COUNT).filter_map(|id| u16::try_from(id).ok()).map(Id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_by_its_hash() {
        let mut last = "";
        for id in ids() {
            let name = text(id).unwrap();
            assert!(last < name, "{last} {name}");
            assert_eq!(find(name), Some(id), "{name}");
            last = name;
        }
        assert_eq!(ids().count(), COUNT);
    }

    #[test]
    fn unknown_names_are_not_found() {
        for name in ["", " ", "rea", "readx", "\n", "read write", "READ", "\u{fc}"] {
            assert_eq!(find(name), None, "{name:?}");
        }
    }

    #[test]
    fn known_numbers() {
        assert_eq!(number_of(Arch::X86_64, "read"), Some(0));
        assert_eq!(number_of(Arch::X86_64, "clone3"), Some(435));
        assert_eq!(number_of(Arch::X32, "execve"), Some(0x4000_0000 + 520));
        assert_eq!(number_of(Arch::X86, "socketcall"), Some(102));
        assert_eq!(number_of(Arch::Aarch64, "openat"), Some(56));
        assert_eq!(number_of(Arch::Aarch64, "open"), None);
        assert_eq!(number_of(Arch::Arm, "set_tls"), Some(0x000f_0005));
        assert_eq!(number_of(Arch::Mipsel64, "read"), Some(5000));
        assert_eq!(number_of(Arch::S390x, "socketcall"), Some(102));
        assert_eq!(name_of(Arch::X86_64, 59), Some("execve"));
        assert_eq!(name_of(Arch::X86_64, 1_000_000), None);
    }
}
