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
