//! Lists of CPUs and memory nodes as text (cpuset(7), "List format").
//!
//! For: `execCPUAffinity` and `memoryPolicy.nodes`, which become masks, and the cpuset files, which take the text.
//! Must not: know how many the machine has. Tests: at the end of the file.

/// Beyond this no kernel has CPUs or nodes.
const MOST: u32 = 65_535;

/// A list of CPUs or nodes.
///
/// Holding one proves: at least one range, each with its first not after its last, none beyond 65535.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexList(Vec<(u32, u32)>);

impl IndexList {
    /// First and last of each range, as written.
    pub fn ranges(&self) -> &[(u32, u32)] {
        &self.0
    }

    /// From what was written down. `None` when it is no list.
    pub(crate) fn from_ranges(ranges: &[(u32, u32)]) -> Option<Self> {
        let valid = ranges.iter().all(|(first, last)| first <= last && *last <= MOST);
        (valid && !ranges.is_empty()).then(|| Self(ranges.to_vec()))
    }

    /// As the kernel takes it: one bit each, in whole machine words.
    pub(crate) fn mask(&self) -> Vec<u8> {
        let mut words: Vec<u64> = Vec::new();
        for (first, last) in &self.0 {
            for index in *first..=*last {
                // At most 65535.
                let word = usize::try_from(index / 64).unwrap_or(0);
                if words.len() <= word {
                    words.resize(word.saturating_add(1), 0);
                }
                if let Some(word) = words.get_mut(word) {
                    *word |= 1 << (index % 64);
                }
            }
        }
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }
}

/// Reads `0-3,7`. `None` when the text is anything else.
pub(super) fn index_list(text: &str) -> Option<IndexList> {
    let mut ranges = Vec::new();
    for part in text.trim_matches(' ').split(',') {
        let part = part.trim_matches(' ');
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return None;
        }
        ranges.push((first, last));
    }
    Some(IndexList(ranges))
}

fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| digits && *number <= MOST)
}

/// Whether the kernel's cpuset files could take the text: they know more forms than [`index_list`].
pub(super) fn is_cpuset_text(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || b",-:/ ".contains(&byte) || byte.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_whole_words() {
        let mask = |text: &str| {
            let bytes = index_list(text).unwrap().mask();
            bytes.chunks(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap())).collect::<Vec<_>>()
        };
        assert_eq!(mask("0-2,7"), [0x87]);
        assert_eq!(mask("64,0"), [1, 1]);
        assert_eq!(mask("63-65"), [1 << 63, 3]);
        assert_eq!(mask("65535").len(), 1024);
        assert_eq!(IndexList::from_ranges(&[(2, 1)]), None);
        assert_eq!(IndexList::from_ranges(&[(0, 2), (7, 7)]), index_list("0-2,7"));
    }

    #[test]
    fn lists() {
        for (text, ranges) in [
            ("0", Some(vec![(0, 0)])),
            ("0-3,7", Some(vec![(0, 3), (7, 7)])),
            (" 1, 2-2 ", Some(vec![(1, 1), (2, 2)])),
            ("65535", Some(vec![(65_535, 65_535)])),
            ("", None),
            (",", None),
            ("1,", None),
            ("3-1", None),
            ("-1", None),
            ("+1", None),
            ("1-", None),
            ("0-3:2", None),
            ("0x1", None),
            ("65536", None),
            ("99999999999", None),
            ("a", None),
            ("1\n", None),
        ] {
            assert_eq!(index_list(text).map(|list| list.0), ranges, "{text:?}");
        }
    }
}
