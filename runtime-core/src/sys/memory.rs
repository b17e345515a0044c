//! Which of our memory the waiting child does not need.
//!
//! Must not: guess. Tests: the memory row of the process bench; `tests` package, lifecycle.

/// Address ranges that hold nothing but what this process parsed and planned with. Empty unless the program's allocator tells: the
/// library cannot know who else keeps something in the heap.
pub(crate) fn ranges() -> Vec<(usize, usize)> {
    Vec::new()
}
