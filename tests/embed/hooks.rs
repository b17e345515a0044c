//! Hooks through the library.

use crate::Case;

/// The cases.
pub const CASES: &[Case] = &[];
